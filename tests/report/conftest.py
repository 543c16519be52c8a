"""A real browser, with every request and console error collected."""

import shutil

import pytest

from nasseg.report import write_report
from tests.report.fake import fake_record

FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
FLAGS += ["--disable-component-update", "--disable-sync", "--enable-unsafe-swiftshader"]


@pytest.fixture(scope="session")
def browser():
    path = shutil.which("chromium") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("no chromium on this machine: reports are not tested in a browser")
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with sync_api.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def record():
    return fake_record(150)


@pytest.fixture(scope="session")
def written(record, tmp_path_factory):
    """Return the report of that study: a browser draws a file that it has drawn before in a third of the time."""
    return write_report(record, tmp_path_factory.mktemp("report") / "report.html")


@pytest.fixture(scope="session")
def idle():
    """Pages between two tests: one that has shown a report draws the next in a third of the time."""
    return []


@pytest.fixture
def visit(browser, idle):
    """Opens a report; at the end nothing may have failed, and nothing been asked for but the file and `beside`."""
    visited = []

    def visit(path, width=1280, hash="", beside=()):
        page = idle.pop() if idle else browser.new_page()
        page.set_viewport_size({"width": width, "height": 900})
        problems, requests = [], []
        hearers = {
            "console": lambda message: problems.append(message.text) if message.type == "error" else None,
            "pageerror": lambda error: problems.append(str(error)),
            "dialog": lambda dialog: (problems.append(dialog.message), dialog.dismiss()),
            "request": lambda request: requests.append(request.url),
        }
        for event, hearer in hearers.items():
            page.on(event, hearer)
        visited.append((page, hearers, {path, *beside}, problems, requests))
        page.goto(path.as_uri() + hash)
        page.wait_for_selector("body[data-drawn=yes]")
        return page

    yield visit
    for page, hearers, *_ in visited:
        for event, hearer in hearers.items():
            page.remove_listener(event, hearer)
        page.emulate_media(media="null")
        page.mouse.move(0, 0)
        page.goto("about:blank")
        idle.append(page)
    for *_, paths, problems, requests in visited:
        assert problems == []
        asked = {url.partition("#")[0] for url in requests if not url.startswith("blob:")}  # what a page made itself
        assert asked == {path.as_uri() for path in paths}

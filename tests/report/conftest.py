"""A real browser, with every request and console error collected."""

import shutil

import pytest

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


@pytest.fixture
def visit(browser):
    """Opens a report; at the end nothing may have failed, and nothing been asked for but the file and `beside`."""
    visited = []

    def visit(path, width=1280, hash="", beside=()):
        page = browser.new_page(viewport={"width": width, "height": 900})
        problems, requests = [], []
        page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("dialog", lambda dialog: (problems.append(dialog.message), dialog.dismiss()))
        page.on("request", lambda request: requests.append(request.url))
        page.goto(path.as_uri() + hash)
        page.wait_for_selector("body[data-drawn=yes]")
        visited.append((page, {path, *beside}, problems, requests))
        return page

    yield visit
    for page, paths, problems, requests in visited:
        page.close()
        assert problems == []
        assert {url.partition("#")[0] for url in requests} == {path.as_uri() for path in paths}

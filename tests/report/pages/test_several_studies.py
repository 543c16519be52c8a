"""Pages of several studies, folders of pages, and what a page says of compute."""

import gzip
import json
import re
from base64 import b64decode
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

from nasseg import words
from nasseg.analyse.compute_spent import compute_of
from nasseg.analyse.front import hypervolume, reference_box
from nasseg.analyse.rungs import rungs_frame
from nasseg.analyse.trials import directions, objective_values, on_front, outcome
from nasseg.errors import UserError
from nasseg.records import Objective
from nasseg.report import write_index, write_report
from nasseg.report.pages.several_studies import Several, render_several
from nasseg.report.pages.study_page import render
from nasseg.report.parts.network_panel import trial_detail
from tests.report.fake import fake_record, hostile_record

HOSTILE = "</script><script>alert(1)</script>'\"<img src=x onerror=alert(1)>&<!--"


def on_gpu(record):
    """The same networks timed elsewhere."""
    trials = []
    for trial in record.trials:
        if trial.measurement and (latency := trial.measurement.latency):
            p = replace(latency.protocol, device="cuda", precision="fp16")
            here = replace(latency.environment, gpu="NVIDIA H100")
            latency = replace(latency, p50_ms=latency.p50_ms / 20, protocol=p, environment=here)
            values = {**trial.values, "latency_ms": latency.p50_ms} if trial.values else {}
            trial = replace(trial, measurement=replace(trial.measurement, latency=latency), values=values)
        trials.append(trial)
    return replace(record, name="street-scenes/gpu-front", question="And on a GPU?", trials=tuple(trials))


@pytest.fixture(scope="module")
def records():
    return [fake_record(90), on_gpu(fake_record(70, seed=4))]


@pytest.fixture(scope="module")
def page(records):
    return render_several(records)


def unpacked(page, name):
    return gzip.decompress(b64decode(re.search(rf'id="{name}">([^<]*)<', page)[1])).decode()


def plain(page):
    return " ".join(re.sub("<[^>]*>", " ", page).split())


def test_each_study_has_its_own_front_and_its_own_trade_off(records, page):
    data = json.loads(unpacked(page, "payload"))
    keys, figure = data["rows"]["keys"], data["front"]
    assert keys == [f"{x}{t.number}" for x, r in zip("AB", records, strict=True) for t in r.trials]
    full = {
        keys[r]
        for t in figure["data"]
        if t["meta"] == "trials" and t["marker"]["opacity"] == 1
        for r in t["customdata"]
    }
    fronts = {}
    for letter, record in zip("AB", records, strict=True):
        fronts[letter] = [t for t, on in zip(record.trials, on_front(record), strict=True) if on]
    assert full == {f"{letter}{trial.number}" for letter, trials in fronts.items() for trial in trials}
    for trace in figure["data"]:
        if trace["meta"] in ("trials", "steps"):
            letter = "AB"[int(trace["legendgroup"])]
            assert {keys[row][0] for row in trace["customdata"]} == {letter}
            for row in trace["customdata"]:
                y = data["rows"]["figures"]["miou"]["values"][row]
                trial = records["AB".index(letter)].trials[int(keys[row][1:])]
                assert trial.values["miou"] == y
    colours = {
        t["legendgroup"]: (t["marker"]["color"], t["marker"]["symbol"]) for t in figure["data"] if t["meta"] == "trials"
    }
    assert len(set(colours.values())) == 2


def test_hypervolumes_are_of_one_box(records, page):
    values = [objective_values(r)[[outcome(t) == "finished" for t in r.trials]] for r in records]
    sides = directions(records[0])
    box = reference_box(np.concatenate(values), sides)
    expected = [hypervolume(part, box.reference, sides) / box.volume for part in values]
    figure = json.loads(unpacked(page, "payload"))["hypervolume"]["trial"]
    assert [t["y"][-1] for t in figure["data"] if t["meta"] == "line"] == pytest.approx(expected)
    for share in expected:
        assert f"<strong>{share:.3f}</strong>" in page


@pytest.mark.slow
def test_what_does_not_compare_is_said_in_words(records, page):
    said = plain(page)
    assert "Latency was measured under protocols that differ in device, precision and GPU" in said
    assert "Protocols differ: latency cannot be compared directly." in said
    assert "Accuracy: the same protocol in all." in said
    assert "of these, on the front of all" not in said.lower()
    longer = records[0]
    trials = []
    for trial in longer.trials:
        accuracy = trial.measurement.accuracy if trial.measurement else None
        if accuracy:
            accuracy = replace(accuracy, protocol=replace(accuracy.protocol, steps=9000, recipe_hash="other"))
            trial = replace(trial, measurement=replace(trial.measurement, accuracy=accuracy))
        trials.append(trial)
    said = plain(render_several([longer, replace(longer, trials=tuple(trials))]))
    assert "Accuracy was measured under protocols that differ in recipe hash and steps: mIoU cannot be compared" in said
    same = plain(render_several([longer, fake_record(60, seed=8)]))
    assert "cannot be compared" not in same
    reduced = (Objective(name="macs", unit="", direction="minimize"),)
    reduced += (Objective(name="miou_reduced", unit="%", direction="maximize"),)
    said = plain(
        render_several([replace(r, objectives=reduced) for r in (longer, replace(longer, trials=tuple(trials)))])
    )
    assert "Protocols differ: mIoU cannot be compared directly." in said
    assert "On their joint front are" in same
    assert "Of these, on the front of all" in same


def test_the_panel_names_the_study_and_the_commands_its_trial(records, page):
    details = json.loads(unpacked(page, "details"))
    row = len(records[0].trials) + 3
    trial = records[1].trials[3]
    assert (details[row]["key"], details[row]["title"].split()[0]) == ("B3", "#B3")
    assert any(f"'street-scenes/gpu-front#{trial.number}'" in command for _, command in details[row]["commands"])
    assert 'id="trial-A' in page
    assert 'id="trial-B' in page


@pytest.mark.slow
def test_one_study_in_a_list_gives_its_own_page_and_none_or_strangers_are_errors(records, tmp_path):
    assert write_report(records[:1], tmp_path / "one.html").read_text() == render(records[0])
    with pytest.raises(UserError, match="share no objective"):
        render_several([replace(records[0], objectives=records[0].objectives[i : i + 1]) for i in (0, 1)])
    with pytest.raises(UserError, match="1 to 26 studies"):
        write_report([], tmp_path / "none.html")


def test_studies_without_trials_and_with_one_shared_objective_have_a_page(records):
    empty = replace(records[0], trials=())
    assert "No network has finished yet in any of these studies" in render_several([empty, empty])
    assert "2 studies compared" in render_several([empty, records[1]])
    single = replace(records[1], objectives=records[1].objectives[:1])
    assert Several([records[0], single]).view.x == "number"
    assert "Fronts use the objectives that all studies share: mIoU." in render_several([records[0], single])


def test_published_networks_that_differ_say_whose_they_are(records):
    point = records[0].published[0]
    other = replace(
        records[1], published=(replace(point, figures={**point.figures, "latency_ms": 3.0}), records[1].published[1])
    )
    names = [point.name for point in Several([records[0], other]).merged.published]
    assert {f"{point.name} (A)", f"{point.name} (B)", records[1].published[1].name} <= set(names)


def test_hostile_text_never_becomes_markup_on_a_page_of_several():
    page = render_several([hostile_record(HOSTILE), hostile_record(HOSTILE)])
    found, handlers = [], []

    class Elements(HTMLParser):
        def handle_starttag(self, tag, attrs):
            found.append(tag)
            handlers.extend(name for name, _ in attrs if name.startswith("on"))

    Elements().feed(page)
    assert found.count("script") == 6
    assert "img" not in found
    assert handlers == []
    data = json.loads(unpacked(page, "payload"))
    texts = [
        *data["hypervolume"].values(),
        data["front"],
        [{**axis, "title": ""} for axis in data["axes"].values()],  # the script escapes titles
        data["hover"],
    ]
    assert set(re.findall(r"<[^>]*>", json.dumps(texts))) <= {"<b>", "</b>", "<br>", "<extra>", "</extra>"}


@pytest.mark.slow
def test_a_folder_of_reports_shares_one_library_and_has_an_index(records, tmp_path):
    first = write_report(records[0], tmp_path / "a b.html", shared=True)
    late = replace(records[1], created="2026-04-01T10:00:00", question="What <b>if</b>?")
    write_report(late, tmp_path / "late.html", shared=True)
    (tmp_path / "other.html").write_text("<title>no report of ours</title>")
    index = write_index(tmp_path).read_text()
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "a b.html",
        "index.html",
        "late.html",
        "other.html",
        "plotly.min.js",
    ]
    assert first.stat().st_size < 1e6
    assert re.findall(r'href="(\./[^"]*)"', index) == ["./late.html", "./a%20b.html"]
    said = plain(index)
    assert "other" not in said
    assert "What &lt;b&gt;if&lt;/b&gt;? 2026-04-01" in said
    front = sum(on_front(records[0]).tolist())
    assert f"2026-03-02 {front}" in said
    assert "http:" not in index.replace("http://www.w3.org/2000/svg", "")


def test_an_index_links_tables_and_folders_beside_the_reports(tmp_path):
    for folder, name, body in (
        ("scenes", "README.md", "# What scenes <reward>\n\n<!-- mark -->\n**more** <b>\n"),
        ("tables", "index.html", "<title>Tables</title>"),
        ("empty", "notes.txt", "no page"),
    ):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / name).write_text(body)
    (tmp_path / "scenes" / "a picture.png").write_bytes(b"")
    (tmp_path / "scenes" / "rewards.csv").write_text("")
    (tmp_path / "all.html").write_text(
        '<meta name="nasseg-tables" content="48 tables"><title>Printed &amp; ours</title>'
    )
    (tmp_path / "other.html").write_text("<title>Not ours</title>")
    index = write_index(tmp_path).read_text()
    links = ["./all.html", *["./scenes/README.html"] * 2, "./scenes/rewards.csv", "./tables/index.html"]
    assert re.findall(r'href="(\./[^"]*)"', index) == links
    assert 'src="./scenes/a%20picture.png"' in index
    assert "What scenes &lt;reward&gt;" in index
    page = (tmp_path / "scenes" / "README.html").read_text()
    assert "mark" not in page
    assert page.count("What scenes &lt;reward&gt;") == 3  # title, heading, section
    assert "<strong>more</strong> &lt;b&gt;" in page
    assert "Printed &amp; ours" in index
    assert "48 tables" in index


def test_an_index_of_nothing(tmp_path):
    assert "There is no report here yet." in write_index(tmp_path).read_text()
    blocked = tmp_path / "file"
    blocked.write_text("x")
    with pytest.raises(UserError, match="cannot write"):
        write_index(blocked)


def test_the_page_says_what_was_spent_saved_and_stopped(records):
    record, page = records[0], plain(render(records[0]))
    found = compute_of(record)
    saved = {"limits": found.by_limits, "duplicates": found.by_duplicates, "halving": found.by_halving}
    assert sum(seconds > 0 for seconds in saved.values()) >= 2
    for name, seconds in saved.items():
        assert (f"Saved by {name}, about {words.duration(seconds)}" in page) == (seconds > 0)
    assert f"Trained {words.duration(found.trained)}" in page
    assert f"Cost {found.money:,.2f} at 0.34 per hour" in page
    for row in rungs_frame(record).itertuples():
        assert f"{row.steps:,} {row.reached:,}" in page


def test_a_promotion_shows_its_rungs_and_what_it_goes_on_from(records):
    trials = {trial.number: trial for trial in records[0].trials}
    last = next(trial for trial in trials.values() if "continues" in trial.extra)
    before = trials[last.extra["continues"]]
    detail = trial_detail(records[0], last, True, None, trials)
    assert detail["rungs"] == [
        [t.measurement.accuracy.protocol.steps, round(t.measurement.accuracy.miou, 2)] for t in (before, last)
    ]
    assert ["continues", f"#{before.number}"] in detail["facts"]
    assert trial_detail(records[0], before, False, None, trials)["rungs"] == []
    looped = {**trials, before.number: replace(before, extra={"continues": last.number})}
    assert len(trial_detail(records[0], last, True, None, looped)["rungs"]) == 2


def test_schedules_of_every_family_are_drawn(records):
    trial = records[0].trials[0]

    def schedules(**arch):
        return trial_detail(records[0], replace(trial, arch={"family": "x", **arch}), False)["schedules"]

    assert schedules(dilations="(1,1)+2*(1,4)") == [["dilations", "(1,1)+2*(1,4)", [[1, [1, 1]], [2, [1, 4]]]]]
    assert [name for name, *_ in schedules(block1_dilations="3*(2)", block2_dilations="2*(4)")] == [
        "block1_dilations",
        "block2_dilations",
    ]
    assert schedules(encoder_settings={"dilations": "(2)"})[0][0] == "encoder_settings.dilations"
    assert schedules(note="(not one)", depth=3) == []

"""Networks over a limit and doubtful latencies, marked wherever they are shown."""

import json
import re
from dataclasses import replace
from html import unescape

import pytest

from nasseg.analyse.trials import front_frame, outcome, trials_frame
from nasseg.records import PublishedPoint
from nasseg.report.numbers.content import content_of
from nasseg.report.numbers.front_view import view_of
from nasseg.report.pages.study_page import render
from nasseg.report.parts.answer import answer
from nasseg.report.parts.tables import doubts_note
from tests.report.fake import fake_record, without_parameters
from tests.report.unpacked import unpacked


@pytest.fixture(scope="module")
def record():
    return without_parameters(fake_record(120, seed=2))


def plain(page):
    return unescape(re.sub("<[^>]*>", "", page))


def test_a_network_over_a_limit_is_marked_and_answers_nothing(record):
    """Published networks run whatever the limits are; a front, a best tile and an answer are of those within them."""
    best = max((t for t in record.trials if outcome(t) == "finished"), key=lambda t: t.values["miou"])
    cost = replace(best.measurement.cost, macs=9_000_000_000)
    giant = replace(
        best,
        number=len(record.trials),
        measurement=replace(best.measurement, cost=cost, arch_id="giant"),
        values={"miou": 99.0, "latency_ms": 1.0, "macs": 9e9},
        extra={"published": "Giant"},
    )
    point = PublishedPoint(name="Giant", citation="", family="regseg", figures=giant.values)
    longer = replace(record, trials=(*record.trials, giant), published=(*record.published, point))
    page, before = render(longer), render(record)
    assert front_frame(longer)["number"].tolist() == front_frame(record)["number"].tolist()
    said = re.search(r'<div id="answer".*?</div>', page, re.DOTALL)[0]
    assert "99 %" not in said.partition("Published")[0]
    assert re.search('<div class="tiles">.*?</section>', page, re.DOTALL)[0].count("99 %") == 0
    detail = json.loads(unpacked(page, "details"))[giant.number]
    assert (detail["state"], detail["reason"]) == ("over a limit", "multiply-adds 9 G, over the limit of 7 G")
    data = json.loads(unpacked(page, "payload"))
    assert data["rows"]["over"][str(giant.number)] == detail["reason"]
    assert "over the limit of 7 G" in data["hover"][giant.number]
    traces = data["front"]["data"]
    (hollow,) = [t for t in traces if t["meta"] == "trials" and t["marker"]["symbol"].endswith("-open")]
    assert hollow["customdata"] == [giant.number]
    assert all(giant.number not in t["customdata"] for t in traces if t["meta"] == "steps")
    old = json.loads(unpacked(before, "payload"))
    assert data["hypervolume"]["trial"]["data"][0]["y"][-1] == old["hypervolume"]["trial"]["data"][0]["y"][-1]
    # Where no published network is within the limits, the one that is not is named with its limit.
    alone = replace(longer, published=(point,))
    assert "Published Giant: 99 %, but multiply-adds 9 G, over the limit of 7 G." in plain(render(alone))


def test_a_disturbed_latency_is_marked_wherever_it_is_shown(record):
    number = int(front_frame(record)["number"][0])

    def disturbed(flag):
        def of(trial):
            m = trial.measurement
            if m is None or m.latency is None:
                return trial
            latency = replace(m.latency, disturbed=flag and trial.number == number)
            return replace(trial, measurement=replace(m, latency=latency))

        return replace(record, trials=tuple(map(of, record.trials)))

    marked, quiet = disturbed(True), disturbed(False)
    page = render(marked)
    assert "timed beside other work" not in render(quiet)
    row = re.search(rf'<tr id="trial-{number}">.*?</tr>', page, re.DOTALL)[0]
    assert 'title="Timed beside other work: the latency is doubtful"' in row
    assert "1 of the front&#x27;s latencies was timed beside other work" in page
    finished = replace(marked, name=f"{marked.name}@finish", command="nasseg finish it")
    for known, command in ((marked, f"nasseg search {marked.name} --remeasure"), (finished, "nasseg finish it")):
        assert f"Time the front again on a quiet machine: {command}." in doubts_note(known, view_of(known))
    data = json.loads(unpacked(page, "payload"))
    assert list(data["rows"]["disturbed"]) == [str(number)]
    assert "timed beside other work" in data["hover"][number]
    assert trials_frame(marked).set_index("number")["disturbed"][number]
    said = answer(content_of(marked), "macs", marked.trials[number].values["macs"])
    assert f"#{number}" in said
    assert "Timed beside other work: the latency is doubtful." in said

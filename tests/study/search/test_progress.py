"""The line of a running search says what `nasseg status` says."""

import re
from itertools import pairwise

import pytest

from nasseg.analyse.compute_spent import compute_of
from nasseg.analyse.trials import front_share
from nasseg.errors import UserError
from nasseg.records import digest
from nasseg.study.search import run_study
from nasseg.study.search.progress import ProgressWatch, Tally
from nasseg.study.store import storage
from nasseg.study.store.read_study import record_of
from nasseg.study.store.storage import open_storage
from tests.study.fakes import FakeEngine, make_driver, make_study


def test_what_was_spent_and_saved_is_that_of_the_stored_study(tmp_path):
    study = make_study(max_macs=str(1_000 + 0xC00000), halving="{rungs: [2, 5], factor: 3}")
    engine = FakeEngine(arch_id=lambda settings: digest(settings)[:1])  # sixteen networks
    tally, seen = Tally(["miou", "macs"], study.limits), []
    driver = make_driver(str(tmp_path / "s.log"), study, engine, trials=9, learners=[tally.learn])
    watch = ProgressWatch(driver, tally, {})
    seen.append(watch.look())
    driver.run(lambda: seen.append(watch.look()))
    driver.record.set_attributes(
        {
            **dict.fromkeys(["question", "command", "created", "study_file", "space_file"], ""),
            "published": [],
            "environment": {},
            "limits": study.limits,
            "objectives": [[f.name, f.unit, f.direction] for f in study.objectives],
        }
    )
    live, record = watch.look(), record_of(driver.record)
    stored, front = compute_of(record), front_share(record)
    assert (live.front, live.hypervolume) == (front.members, pytest.approx(front.share))
    fell = [now for before, now in pairwise(seen) if now.hypervolume < before.hypervolume]
    assert all(now.box_moved and "its box moved" in now.line() for now in fell)
    parts = ["trained", "by_limits", "by_duplicates", "by_halving"]
    assert [getattr(live.compute, part) for part in parts] == pytest.approx([getattr(stored, part) for part in parts])
    assert all(getattr(live.compute, part) > 0 for part in parts)
    for words in ("trained for ", "by limits", "by duplicates", "by halving"):
        assert words in live.line()
    assert any(rung for moment in seen for _, rung, _, _ in moment.running)
    assert all((moment.seconds_left is None) == (moment.done in (0, 9)) for moment in seen)
    assert {0, 5, 9} < {moment.done for moment in seen}


@pytest.mark.slow
def test_a_large_record_is_said_to_be_read_before_it_is(tmp_path, monkeypatch):
    said, url = [], f"sqlite:///{tmp_path}/s.db"
    open_storage(url, create=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(storage, "LARGE", 1)

    def read(*_):
        assert re.fullmatch(r"reading the record, \d+ MB", said[-1])
        raise UserError("it was said")

    monkeypatch.setattr(run_study, "_open", read)
    with pytest.raises(UserError, match="it was said"):
        run_study.run_study(make_study(), storage=url, tell=said.append)


def test_a_network_whose_promotion_was_interrupted_is_still_counted(tmp_path):
    study = make_study(halving="{rungs: [2], factor: 2}")
    url = str(tmp_path / "s.log")
    driver = make_driver(
        url, study, FakeEngine(workers=1, hang=lambda job: job.kind == "train" and not job.until), trials=2
    )
    driver.ended_trials.sync()
    while not any(job.kind == "train" and not job.until for job in driver.engine.jobs):
        driver.fill()
        for result in driver.engine.wait(0):
            driver.outcomes.handle(result)
    assert driver.stop("the search was stopped") == 1
    tally = Tally(["miou", "macs"], {})
    ProgressWatch(make_driver(url, study, trials=2, learners=[tally.learn]), tally, {})
    assert tally.done == 2

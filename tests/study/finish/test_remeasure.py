"""`nasseg search --remeasure`: which networks, in which order, what is kept of it, and what it says."""

import shutil
from contextlib import contextmanager
from dataclasses import asdict, replace
from itertools import cycle
from pathlib import Path
from types import SimpleNamespace

import pytest
from optuna.trial import TrialState

from nasseg.analyse.remeasured import agreement, remeasured_frame, sessions
from nasseg.analyse.trials import objective_values
from nasseg.errors import UserError
from nasseg.families import arch_of
from nasseg.files import parse_yaml
from nasseg.measure.latency.in_turns import Row
from nasseg.network.address import resolve
from nasseg.report import write_report
from nasseg.study.finish import remeasure as module
from nasseg.study.finish.members import front_members
from nasseg.study.finish.remeasure import remeasure
from nasseg.study.store.read_study import open_record, read_study
from nasseg.study.study_file import study_from
from tests.command_line import nasseg
from tests.study import fakes

STUDY = """
question: Is it as fast as it was?
expected: no time
space: quickstart
data: {name: scenes, size: [64, 128]}
objectives: [miou, latency_ms]
limits: {latency_ms: {max: 50}}
recipe: {steps: 10}
published: [regseg]
trials: 4
"""
QUICK = replace(fakes.LATENCY, warmup=0, min_replicates=1, min_seconds=0.0)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The file of a study of four networks with their true ids and made-up figures, and a published one."""
    folder = tmp_path_factory.mktemp("searched")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fakes, "LATENCY", QUICK)
        study = study_from(parse_yaml(STUDY, Path("fake.yaml")), "fake")
        macs = cycle([10_000_000, 20_000_000, 30_000_000, 40_000_000])
        known = {}

        def macs_of(settings):  # the published one comes first, and is over the limit on latency
            return known.setdefault(str(settings), 60_000_000 if len(known) == 0 else next(macs))

        engine = fakes.FakeEngine(workers=1, macs=macs_of, arch_id=lambda settings: arch_of(settings).id)
        driver = fakes.make_driver(str(folder / "study.log"), study, engine, trials=4)
        driver.record.set_attributes(
            {
                "study_file": study.text,
                "space_file": study.space.source,
                "question": study.file.question,
                "objectives": [[f.name, f.unit, f.direction] for f in study.objectives],
                "limits": study.limits,
                "command": "",
                "environment": {},
                "created": "",
                "published": [
                    {
                        "name": "regseg",
                        "citation": "",
                        "family": "regseg",
                        "params": {},
                        "figures": {"macs": 1.0, "latency_ms": 77.0},
                    }
                ],
            }
        )
        driver.run()
    return folder / "study.log"


@pytest.fixture
def storage(made, tmp_path, monkeypatch):
    monkeypatch.setenv("NASSEG_LOCKS", str(tmp_path / "locks"))
    return shutil.copy(made, tmp_path / "study.log").as_posix()


def session(factors=(1.0,), disturbed=()):
    """In place of `compare_latency`: the search's latencies times a factor a round; `disturbed`: rounds that were."""

    def compare(archs, protocol, *, base, repeat, exclusive, reference_ms, tell):
        rows = {}
        for number in range(repeat):
            for label in archs:
                with exclusive():
                    ms = compare.ms[label] * factors[number % len(factors)]
                    one = replace(compare.latency, p50_ms=ms, protocol=protocol, disturbed=number in disturbed)
                    rows.setdefault(label, []).append(one)
        compare.asked = (list(archs), protocol, repeat)
        return [Row(label, tuple(found), (1.0,) * repeat) for label, found in rows.items()]

    return compare


@pytest.fixture
def fake(storage, monkeypatch):
    """The search, and a session made up from its figures by `session(...)`."""
    searched = read_study("fake", storage)
    ids = {str(t.arch): t.measurement.arch_id for t in searched.trials if t.measurement}
    latencies = {t.measurement.arch_id: t.measurement.latency for t in searched.trials if t.measurement}

    def use(ms=None, **options):
        compare = session(**options)
        compare.ms = {arch_id: latency.p50_ms for arch_id, latency in latencies.items()} | (ms or {})
        compare.latency = next(iter(latencies.values()))
        monkeypatch.setattr(module, "compare_latency", compare)
        monkeypatch.setattr(module, "arch_of", lambda settings: SimpleNamespace(id=ids[str(settings)]))
        return compare

    return searched, use


@pytest.mark.slow
def test_the_front_and_the_published_are_timed_in_turns_and_both_figures_kept(storage, monkeypatch):
    searched = read_study("fake", storage)
    before = open_record("fake", storage).trials()
    order, counted = [], []

    class Lock:
        def __init__(self, name):
            order.append(name)

        @contextmanager
        def measuring(self):
            yield

        def close(self):
            order.append("closed")

    attempt = module.compare_latency.__globals__["attempt"]
    monkeypatch.setattr(
        "nasseg.measure.latency.in_turns.attempt", lambda build, p, *_: (order.append(id(build)), attempt(build, p))[1]
    )
    monkeypatch.setattr(module, "DeviceLock", Lock)
    done = remeasure("fake", rounds=2, storage=storage, on_progress=lambda *progress: counted.append(progress))
    networks = len(done.frame)
    assert networks == 5
    assert order[0] == "cpu"
    assert order[-1] == "closed"
    assert order[1:6] == order[6:11]  # A B A B
    assert len(set(order[1:6])) == 5
    assert counted == [(number, 10) for number in range(1, 11)]
    assert open_record("fake", storage).trials() == before

    record = read_study("fake@remeasure", storage)
    assert record == done.record
    old = {trial.measurement.arch_id: trial for trial in searched.trials if trial.measurement}
    for trial in record.trials:
        member, measurement = old[trial.measurement.arch_id], trial.measurement
        assert trial.state == "COMPLETE"
        assert trial.extra["of_trial"] == member.number
        assert trial.extra["searched_latency_ms"] == member.measurement.latency.p50_ms
        assert trial.extra["eval_key"] == member.extra["eval_key"]
        assert measurement.latency.protocol == member.measurement.latency.protocol
        assert measurement.latency.environment.cpu
        assert measurement.latency.p50_ms in trial.extra["rounds_ms"]
        assert len(trial.extra["rounds_ms"]) == 2
        assert (measurement.accuracy, measurement.cost) == (member.measurement.accuracy, member.measurement.cost)
        assert trial.values == {"miou": measurement.accuracy.miou, "latency_ms": measurement.latency.p50_ms}
    assert record.published[0].figures["latency_ms"] not in (60.0, 77.0)  # a figure of this session
    assert resolve("fake@remeasure#0", storage=storage).arch.id == record.trials[0].measurement.arch_id


def test_old_and_new_stand_side_by_side(fake, storage):
    searched, use = fake
    use(factors=(1.0, 1.2, 1.1))
    done = remeasure("fake", rounds=3, storage=storage)
    frame = done.frame
    old = {t.number: t.measurement.latency.p50_ms for t in searched.trials if t.measurement}
    assert frame["old_ms"].tolist() == [old[number] for number in frame["number"]]
    assert frame["ratio"].tolist() == pytest.approx([1.1] * 5)
    assert frame["new_ms"].tolist() == pytest.approx([1.1 * ms for ms in frame["old_ms"]])
    assert frame["low_ms"].tolist() == pytest.approx(frame["old_ms"].tolist())
    assert frame["high_ms"].tolist() == pytest.approx((1.2 * frame["old_ms"]).tolist())
    assert frame["spread"].tolist() == pytest.approx([100 * 0.2 / 1.1] * 5)
    assert frame["rounds"].tolist() == [3] * 5
    assert frame["published"].tolist().count("regseg") == 1
    found = agreement(frame)
    assert found.kendall_tau == pytest.approx(1.0)
    assert found.ratio == pytest.approx(1.1)
    assert done.lines()[0] == "5 networks: new to old 1.100 (from 1.100 to 1.100), Kendall tau 1.00"


@pytest.mark.slow
def test_a_report_can_be_written_of_it(fake, storage, tmp_path):
    fake[1](factors=(1.0, 1.2))
    done = remeasure("fake", rounds=2, storage=storage)
    assert write_report(done.record, tmp_path / "report.html").stat().st_size > 1_000_000


def test_who_leaves_the_front_and_who_breaks_a_limit_is_said(fake, storage):
    searched, use = fake
    front = sorted(front_members(searched), key=lambda trial: trial.measurement.latency.p50_ms)
    slowed, over = front[0], front[-1]
    use(ms={slowed.measurement.arch_id: front[1].measurement.latency.p50_ms + 1, over.measurement.arch_id: 51.0})
    done = remeasure("fake", rounds=1, storage=storage)
    frame = done.frame.set_index("number")
    assert not frame.loc[slowed.number, "on_front"]
    assert frame.loc[slowed.number, "was_on_front"]
    assert not frame.loc[over.number, "on_front"]
    assert frame.loc[over.number, "over_limit"] == "latency_ms is over the limit of 50"
    assert done.lines()[1] == f"no longer on the front: trial {slowed.number}, trial {over.number}"
    assert agreement(done.frame).kendall_tau < 1


def test_a_published_network_is_measured_wherever_it_stands(fake, storage):
    """It is over the limit on latency, which the search does not ask of it: no member of the front."""
    searched, use = fake
    use()
    frame = remeasure("fake", rounds=1, storage=storage).frame
    row = frame[frame["published"] == "regseg"].iloc[0]
    assert row["old_ms"] == 60.0
    assert not row["was_on_front"]
    assert not row["on_front"]
    assert row["number"] not in {trial.number for trial in front_members(searched)}


def test_sessions_add_up_and_the_latest_is_shown(fake, storage):
    _, use = fake
    use(factors=(2.0,))
    first = remeasure("fake", rounds=1, storage=storage)
    use(factors=(1.0,))
    second = remeasure("fake", rounds=1, storage=storage)
    assert (first.session, second.session) == (1, 2)
    assert sessions(second.record) == [1, 2]
    assert second.frame["ratio"].tolist() == pytest.approx([1.0] * 5)
    assert remeasured_frame(second.record, 1)["ratio"].tolist() == pytest.approx([2.0] * 5)
    assert len(second.record.trials) == 10
    assert objective_values(second.record).shape == (10, 2)


def test_the_median_is_of_the_rounds_that_nothing_disturbed(fake, storage):
    _, use = fake
    compare = use(factors=(1.0, 3.0, 4.0, 1.2, 1.1), disturbed=(1, 2))
    done = remeasure("fake", rounds=5, storage=storage)
    assert done.frame["ratio"].tolist() == pytest.approx([1.1] * 5)
    assert done.frame["disturbed"].tolist() == [2] * 5
    assert "other work was running in 10 of 25 measurements" in done.lines()[-1]
    loud = Row("", tuple(replace(compare.latency, p50_ms=ms, disturbed=True) for ms in (3.0, 1.0, 2.0, 4.0)), ())
    assert loud.latency.p50_ms == 2.0


def test_another_machine_is_named(fake, storage):
    _, use = fake
    compare = use()
    compare.latency = replace(
        compare.latency, environment=replace(compare.latency.environment, cpu="another processor", torch="9.9")
    )
    notes = remeasure("fake", rounds=1, storage=storage).notes
    assert "this session on another processor" in notes[0]


def test_nothing_is_kept_of_a_session_that_is_stopped(fake, storage):
    _, use = fake
    use()

    def stop(done, _of):
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        remeasure("fake", rounds=1, storage=storage, on_progress=stop)
    with pytest.raises(UserError, match="study in this storage"):
        open_record("fake@remeasure", storage)


def test_a_network_whose_code_was_changed_is_refused(fake, storage, monkeypatch):
    fake[1]()
    monkeypatch.setattr(module, "arch_of", lambda settings: arch_of({**settings, "width": 0.3}))
    with pytest.raises(UserError, match=r"trial \d+ builds another network now \(\w+\) than in the search \(\w+\)"):
        remeasure("fake", storage=storage)


@pytest.mark.parametrize(
    ("study", "options", "message"),
    [
        ("fake", {"rounds": 0}, "at least one round is needed, got 0"),
        ("fake@remeasure", {}, "fake@remeasure is not a search: measure fake again"),
        ("fakes", {}, "did you mean 'fake'"),
    ],
)
def test_what_cannot_be_measured_again_is_refused(fake, storage, study, options, message):
    fake[1]()
    remeasure("fake", rounds=1, storage=storage)
    with pytest.raises(UserError, match=message):
        remeasure(study, storage=storage, **options)


def test_a_device_that_is_not_here_is_refused_before_anything_is_written(fake, storage, monkeypatch):
    searched, _ = fake
    protocol = replace(searched.trials[0].measurement.latency.protocol, device="cuda:99")
    latency = replace(searched.trials[0].measurement.latency, protocol=protocol)
    monkeypatch.setattr(module, "_latency", lambda trial: latency)
    with pytest.raises(UserError, match="device cuda:99 is not available"):
        remeasure("fake", storage=storage)
    assert all(trial.state != TrialState.RUNNING for trial in open_record("fake", storage).trials())
    assert asdict(protocol)["device"] == "cuda:99"


def test_a_command_that_is_forged_into_a_record_does_not_run(storage, tmp_path, monkeypatch):
    monkeypatch.setenv("NASSEG_CACHE", str(tmp_path / "cache"))
    text = Path(storage).read_text()
    eager, empty = r"\"backend\":\"eager\"", r"\"command\":\"\""
    assert eager in text
    forged = text.replace(eager, eager.replace("eager", "command"))
    Path(storage).write_text(forged.replace(empty, f"{empty[:-2]}touch {tmp_path}/ran {{onnx}}{empty[-2:]}"))
    with pytest.raises(UserError, match=r"the command 'touch .*/ran \{onnx\}' is not run: a record names it"):
        remeasure("fake", storage=storage)
    assert not (tmp_path / "ran").exists()


def test_the_command_needs_no_study_file(fake, storage, tmp_path):
    """A search names its record in the next command, wherever its file lies."""
    _searched, use = fake
    use()
    said = nasseg("search", "fake", "--remeasure", "--storage", storage, cwd=tmp_path).stdout
    assert "no longer on the front: none" in said

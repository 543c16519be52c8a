"""The driver and the record: cheapest first, no network trained twice, nothing lost, identity kept."""

import json
from concurrent.futures import ThreadPoolExecutor
from wsgiref.util import setup_testing_defaults

import optuna
import optuna_dashboard
import pytest
from optuna.trial import TrialState

from nasseg.errors import UserError
from nasseg.records import Measurement
from nasseg.redaction import redact
from nasseg.study.propose import proposer as proposers
from nasseg.study.propose import samplers
from nasseg.study.store import lease
from nasseg.study.store.record import Record
from nasseg.study.store.storage import open_storage
from nasseg.version import __version__
from tests.slow import slow
from tests.study.fakes import FakeEngine, make_driver, make_study

COMPLETE, PRUNED, FAIL, RUNNING = TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL, TrialState.RUNNING


@pytest.fixture(params=["journal", slow("sqlite")])
def url(request, tmp_path):
    return f"sqlite:///{tmp_path}/s.db" if request.param == "sqlite" else str(tmp_path / "s.log")


def states(driver):
    return [trial.state for trial in driver.record.trials()]


def test_a_study_gets_its_trials_with_three_parts_and_their_protocols(url):
    driver = make_driver(url)
    assert driver.run() == "all 6 trials are done"
    trials = driver.record.trials()
    assert [trial.state for trial in trials] == [COMPLETE] * 6
    for trial in trials:
        attributes = trial.user_attrs
        measurement = Measurement.from_json(attributes["measurement"])
        assert measurement.cost.protocol.input_size == (64, 128)
        assert measurement.latency.protocol.device == "cpu"
        assert measurement.accuracy.protocol.data_fingerprint == "f"
        assert trial.values == [measurement.accuracy.miou, measurement.cost.macs]
        assert attributes["macs"] == measurement.cost.macs
        assert attributes["latency_ms"] == measurement.latency.p50_ms
        assert attributes["miou"] == measurement.accuracy.miou
        assert attributes["arch_id"] == measurement.arch_id
        assert attributes["rung"] == 0
        assert attributes["eval_key"]
        assert attributes["code"].startswith(__version__)
        assert json.loads(attributes["arch"])["family"] in ("bisenetv2", "regseg")
    assert len({trial.user_attrs["eval_key"] for trial in trials}) == 6


def test_what_is_over_a_limit_is_recorded_and_never_trained(url):
    half = 1_000 + 0x800000
    engine = FakeEngine()
    driver = make_driver(url, make_study(max_macs=str(float(half))), engine)
    driver.run()
    trials = driver.record.trials()
    rejected = [trial for trial in trials if trial.state == PRUNED]
    assert rejected
    assert all("is over the limit of" in trial.user_attrs["reason"] for trial in rejected)
    assert all(max(trial.constraints.values()) > 0 for trial in rejected)
    assert all(max(trial.constraints.values()) <= 0 for trial in trials if trial.state == COMPLETE)
    trained = {json.dumps(job.settings) for job in engine.trained()}
    assert not trained & {trial.user_attrs["arch"] for trial in rejected}
    assert [trial.state for trial in trials].count(COMPLETE) == len(trained) == 6


def test_latency_limits_come_before_training(url):
    engine = FakeEngine(macs=lambda settings: 90_000_000 if settings["family"] == "regseg" else 1_000_000)
    driver = make_driver(url, engine=engine)
    driver.run()
    assert {job.settings["family"] for job in engine.trained()} == {"bisenetv2"}
    reasons = [trial.user_attrs["reason"] for trial in driver.record.trials() if trial.state == PRUNED]
    assert reasons
    assert all(reason.startswith("latency_ms is over the limit of 50") for reason in reasons)


@pytest.mark.parametrize("over", ["macs", "latency_ms"])
def test_limits_that_nothing_passes_end_the_search(url, monkeypatch, over):
    monkeypatch.setattr("nasseg.study.driver.next_jobs.MAX_REJECTIONS", 30)
    study = make_study(max_macs="1.0") if over == "macs" else make_study()
    driver = make_driver(url, study, FakeEngine(macs=lambda settings: 10**9))
    assert "all over a limit" in driver.run()
    assert set(states(driver)) == {PRUNED}


def test_the_same_network_is_trained_once(url):
    """All settings of a family build one network here: two are trained, every other trial is answered."""
    engine = FakeEngine(arch_id=lambda settings: settings["family"])
    driver = make_driver(url, engine=engine, trials=2)
    driver.run()
    assert len(engine.trained()) == 2
    complete = [trial for trial in driver.record.trials() if trial.state == COMPLETE]
    copies = [trial for trial in complete if "reused_from" in trial.user_attrs]
    for trial in copies:
        source = driver.record.trials()[trial.user_attrs["reused_from"]]
        assert trial.values == source.values
        assert trial.user_attrs["eval_key"] == source.user_attrs["eval_key"]
        assert "reused_from" not in source.user_attrs
    assert len(complete) - len(copies) == 2


def test_called_again_a_study_goes_on(url):
    first = make_driver(url, trials=3)
    first.run()
    before = [(trial.number, trial.values) for trial in first.record.trials()]
    engine = FakeEngine()
    second = make_driver(url, engine=engine, trials=5)
    second.run()
    after = [(trial.number, trial.values) for trial in second.record.trials()]
    assert after[: len(before)] == before
    assert len(engine.trained()) == 2
    assert len({trial.user_attrs["arch"] for trial in second.record.trials()}) == 5


def test_another_identity_is_refused_and_run_settings_are_not(url):
    make_driver(url, trials=1).run()
    make_driver(url, make_study(workers=2, sampler="random"), trials=2).run()
    make_driver(url, make_study(max_macs="2.0e+12"), trials=3).run()
    with pytest.raises(UserError, match="begun with other settings") as error:
        make_driver(url, make_study(space="regseg"))
    assert "space: it has 'quickstart" in str(error.value)
    with pytest.raises(UserError) as error:
        make_driver(url, make_study(recipe={"steps": 7}))
    told = str(error.value)
    assert "recipe.steps: it has " in told
    assert ", now 7" in told
    assert "learning_rate" not in told


def test_a_foreign_study_of_that_name_is_refused(url, monkeypatch):
    monkeypatch.setattr("nasseg.study.store.record.IDENTITY_ATTEMPTS", 1)
    storage = optuna.storages.get_storage(open_storage(url, create=True))
    optuna.create_study(study_name="fake", storage=storage, directions=["maximize", "minimize"])
    with pytest.raises(UserError, match="not nasseg's"):
        make_driver(url)


@pytest.mark.parametrize("kind", ["cost", "latency", "train"])
def test_a_failing_trial_keeps_its_reason_and_the_search_goes_on(url, kind):
    failures = []

    def spoil(job):
        if job.kind == kind and not failures:
            failures.append(job)
            return "RuntimeError: the network is on fire"
        return None

    driver = make_driver(url, engine=FakeEngine(spoil=spoil))
    driver.run()
    failed = [trial for trial in driver.record.trials() if trial.state == FAIL]
    assert [trial.user_attrs["reason"] for trial in failed] == ["RuntimeError: the network is on fire"]
    assert states(driver).count(COMPLETE) == 5
    assert RUNNING not in states(driver)


@pytest.mark.parametrize("sentence", ["worker died: says a user's code", "interrupted: says a user's code"])
def test_what_an_error_says_decides_nothing(url, sentence):
    """Faults are values: an error of a network's own fails it once and counts, whatever its words."""
    spoilt = []

    def spoil(job):
        if job.kind == "train" and not spoilt:
            spoilt.append(job)
            return sentence
        return None

    driver = make_driver(url, engine=FakeEngine(workers=1, spoil=spoil))
    driver.run()
    failed = [trial for trial in driver.record.trials() if trial.state == FAIL]
    assert [trial.user_attrs["reason"] for trial in failed] == [sentence]
    assert [trial.user_attrs["fault"] for trial in failed] == ["network"]
    assert states(driver).count(COMPLETE) == 5


def test_an_objective_that_is_no_number_fails_its_trial(url):
    class NaN(FakeEngine):
        def measure(self, job):
            measurement = super().measure(job)
            if job.kind == "train" and len(self.trained()) == 1:
                object.__setattr__(measurement.accuracy, "miou", float("nan"))
            return measurement

    driver = make_driver(url, engine=NaN(workers=1))
    driver.run()
    failed = [trial for trial in driver.record.trials() if trial.state == FAIL]
    assert [trial.user_attrs["reason"] for trial in failed] == ["objective miou is not a number"]


class Killed(BaseException):
    """What SIGKILL looks like from inside: nothing after it runs."""


def test_trials_of_a_killed_search_are_taken_up(url, monkeypatch):
    def spoil(job):
        if job.kind == "train":
            raise Killed

    dead = make_driver(url, engine=FakeEngine(spoil=spoil))
    with pytest.raises(Killed):
        dead.run()
    assert RUNNING in states(dead)
    monkeypatch.setattr(lease, "LEASE_SECONDS", 0.0)
    monkeypatch.setattr(lease, "_start_ticks", lambda pid: None)  # the owner is gone
    monkeypatch.setattr("nasseg.study.driver.housekeeping.HOUSEKEEPING_SECONDS", 0.0)
    living = make_driver(url)
    living.run()
    trials = living.record.trials()
    assert RUNNING not in [trial.state for trial in trials]
    assert [trial.state for trial in trials].count(COMPLETE) == 6
    retried = [trial for trial in trials if "retry_of" in trial.user_attrs]
    assert retried
    assert all(trials[trial.user_attrs["retry_of"]].user_attrs["reason"].startswith("interrupted") for trial in retried)


def test_trials_of_a_living_search_are_left_alone(url):
    """The second driver sees the first one's running trial: it waits for it instead of failing it."""
    first = make_driver(url, trials=1)
    first.ended_trials.sync()
    first.fill()
    while not first.record.trials(RUNNING):
        for result in first.engine.wait(0):
            first.outcomes.handle(result)
    second = make_driver(url, trials=2)
    second.housekeeping._kept = -1e9
    second.housekeeping.turn()
    assert states(second) == [RUNNING]


def test_a_result_after_the_lease_was_lost_is_not_counted(url):
    first = make_driver(url, trials=1)
    first.fill()
    while not first.record.trials(RUNNING):
        for result in first.engine.wait(0):
            first.outcomes.handle(result)
    other = make_driver(url)
    (running,) = other.record.trials(RUNNING)
    assert other.record.requeue(running, "its process is gone")
    assert not first.record.complete(running, [1.0, 2.0], {"miou": 1.0})
    assert not first.record.renew(running)
    assert COMPLETE not in states(first)


def test_stopping_requeues_what_runs(url):
    driver = make_driver(url)
    driver.fill()
    while not driver.record.trials(RUNNING):
        for result in driver.engine.wait(0):
            driver.outcomes.handle(result)
    assert driver.stop("the search was stopped") == 1
    assert RUNNING not in states(driver)
    again = make_driver(url)
    again.run()
    assert states(again).count(COMPLETE) == 6


SAMPLERS = [
    "tpe",
    "nsga2",
    *[slow(name) for name in ("gp", "QMCSampler", "NSGAIIISampler")],
]


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_any_sampler_of_optuna_drives_a_search(tmp_path, sampler):
    study = make_study(space="regseg", max_macs=str(float(0xC00000)))
    driver = make_driver(f"sqlite:///{tmp_path}/s.db", study, trials=12, sampler=sampler)
    driver.run()
    assert states(driver).count(COMPLETE) == 12  # the Gaussian process learns from the tenth on


def test_rejections_cannot_swamp_the_sampler(tmp_path):
    """However many candidates are over a limit, the sampler sees the front, the latest finished and few rejected."""
    driver = make_driver(f"sqlite:///{tmp_path}/s.db", trials=4)
    driver.run()
    proposer = driver.proposer
    template = driver.record.trials()[0]
    rejected = optuna.trial.create_trial(
        state=PRUNED, params=template.params, distributions=template.distributions, constraints={"macs max": 1.0}
    )
    for _ in range(3 * proposers.REBUILD_ABOVE):
        proposer.learn(rejected)
    on_its_way = proposer.propose()
    proposer.learn(rejected)
    view = proposer._view.trials
    assert [trial.state for trial in view].count(PRUNED) == proposers.MAX_REJECTED + 1
    assert [trial.state for trial in view].count(COMPLETE) == 4
    for _ in range(proposers.REBUILD_ABOVE):
        proposer.learn(rejected)
    assert proposer.propose() is not None  # in another view
    running = [trial for trial in proposer._view.trials if trial.state == TrialState.RUNNING]
    assert running[0].params == on_its_way.sampled
    proposer.drop(on_its_way.token)
    assert [trial.state for trial in proposer._view.trials].count(TrialState.RUNNING) == 1


def generation(proposer):
    """Of the network that is proposed next."""
    proposal = proposer.propose()
    number = proposer._asked[proposal.token]
    proposer.drop(proposal.token)
    return proposer._view.trials[number].system_attrs["NSGAIISampler:generation"]


@pytest.mark.slow
def test_nsga2_goes_on_where_an_earlier_search_was(tmp_path):
    """Generations are counted by what finished, whoever searched; a long search has no more of them than its view."""
    url, options = f"sqlite:///{tmp_path}/s.db", {"population_size": 4}
    study = make_study(space="regseg")
    driver = make_driver(url, study, trials=11)
    driver.run()
    resumed = proposers.Proposer(study.space, study.objectives, samplers.make_sampler("nsga2", options, 1), 1)
    for trial in driver.record.trials():
        resumed.learn(trial)
    assert generation(resumed) == 2
    finished = [trial for trial in driver.record.trials() if trial.state == COMPLETE]
    for place in range(3 * proposers.REBUILD_ABOVE):
        resumed.learn(finished[place % len(finished)])
        if place % 50 == 0:
            resumed.drop(resumed.propose().token)
    assert samplers.MAX_FINISHED // 4 <= generation(resumed) <= proposers.REBUILD_ABOVE // 4
    with pytest.raises(UserError, match="population_size is at most 400"):
        samplers.make_sampler("nsga2", {"population_size": 401}, 0)


@pytest.mark.parametrize("sampler", ["nsga2", "NSGAIIISampler"])
def test_a_genetic_sampler_is_refused_where_it_would_cross_next_to_nothing(url, sampler):
    with pytest.raises(UserError, match=r"11 of 13 are under `when` \(such as .*choose tpe"):
        make_driver(url, sampler=sampler)
    assert make_driver(url, make_study(space="dabnet", name="other"), sampler=sampler)  # 2 of 17


def test_the_dashboard_opens_the_study(url):
    make_driver(url).run()
    app = optuna_dashboard.wsgi(optuna.storages.get_storage(open_storage(url, create=False)))
    environ = {"PATH_INFO": "/api/studies"}
    setup_testing_defaults(environ)
    statuses = []
    body = b"".join(app(environ, lambda status, headers, *_: statuses.append(status)))
    assert statuses == ["200 OK"]
    assert b'"fake"' in body
    study = optuna.load_study(study_name="fake", storage=optuna.storages.get_storage(open_storage(url, create=False)))
    assert study.metric_names == ["miou", "macs"]


def test_optuna_reads_the_study(url):
    driver = make_driver(url)
    driver.run()
    study = optuna.load_study(study_name="fake", storage=optuna.storages.get_storage(open_storage(url, create=False)))
    assert len(study.trials) == 6
    assert study.best_trials


def test_passwords_are_never_shown():
    assert redact("postgresql://me:secret@host/db") == "postgresql://me:***@host/db"
    with pytest.raises(UserError) as error:
        open_storage("postgresql://me:secret@localhost:1/db", create=True)
    assert "secret" not in str(error.value)


def test_many_may_open_a_new_storage_at_once(tmp_path):
    url = f"sqlite:///{tmp_path}/new.db"
    with ThreadPoolExecutor(8) as pool:
        storages = list(pool.map(lambda _: open_storage(url, create=True), range(8)))
    assert [storage.get_all_studies() for storage in storages] == [[]] * 8


def test_missing_studies_say_what_to_do(tmp_path):
    with pytest.raises(UserError, match="run `nasseg search` first"):
        open_storage(f"sqlite:///{tmp_path}/none.db", create=False)
    make_driver(f"sqlite:///{tmp_path}/s.db", trials=1).run()
    with pytest.raises(UserError, match="did you mean 'fake'"):
        Record.load(open_storage(f"sqlite:///{tmp_path}/s.db", create=False), "fak")

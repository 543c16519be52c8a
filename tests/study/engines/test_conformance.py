"""Every engine passes the same tests: the local one, Ray's, and the one on a virtual clock."""

from dataclasses import replace
from importlib.util import find_spec

import pytest

from nasseg.study.engines.engine import Setup
from nasseg.study.engines.jobs import Job, Workshop
from nasseg.study.engines.local_engine import open_local
from nasseg.study.engines.open_ray import open_ray
from nasseg.study.engines.virtual_engine import Answer, VirtualEngine
from tests.study.engines import conformance
from tests.study.engines.conformance import Case
from tests.study.fakes import make_context, make_study


def open_virtual(setup):
    """Jobs are done in this process when they are submitted; they take a second of the virtual clock."""
    workshop = Workshop(setup.context)
    return VirtualEngine(2, lambda job: Answer(workshop.run(job), 1.0))


NO_RAY = pytest.mark.skipif(find_spec("ray") is None, reason="no Ray: pip install nasseg[ray]")
LOCAL = pytest.param(lambda setup: open_local(setup).engine, id="local")
RAY = pytest.param(lambda setup: open_ray(setup).engine, id="ray", marks=[pytest.mark.slow, NO_RAY])
VIRTUAL = pytest.param(open_virtual, id="virtual")


def make_setup(folder):
    study = make_study(data="{name: scenes, size: [32, 64], train: 4, val: 2}", recipe="{steps: 2, batch_size: 2}")
    context = make_context(study)
    accuracy = replace(context.accuracy, data_fingerprint=study.file.data.load().fingerprint)
    context = replace(context, weights=folder / "runs", accuracy=accuracy)
    return Setup(context=context, storage=f"sqlite:///{folder}/s.db", workers=2, local_workers=2)


@pytest.fixture
def setup(tmp_path, monkeypatch):
    monkeypatch.setenv("NASSEG_LOCKS", str(tmp_path / "locks"))
    return make_setup(tmp_path)


@pytest.mark.parametrize("rule", conformance.ANY_ENGINE, ids=lambda rule: rule.__name__)
@pytest.mark.parametrize("opened", [LOCAL, VIRTUAL])
def test_every_engine(opened, rule, setup):
    rule(Case(opened, setup))


class LeftOpen:
    """An engine that several tests share, because it takes a while to open."""

    def __init__(self, engine):
        self.engine = engine

    def __getattr__(self, name):
        return getattr(self.engine, name)

    def close(self):
        pass


@pytest.fixture(scope="class")
def ray_engine(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ray")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NASSEG_LOCKS", str(folder / "locks"))
        engine = open_ray(make_setup(folder)).engine
        yield LeftOpen(engine)
        engine.close()


@pytest.mark.slow
@NO_RAY
class TestRay:
    @pytest.mark.parametrize("rule", conformance.ANY_ENGINE, ids=lambda rule: rule.__name__)
    def test_every_engine(self, ray_engine, rule):
        rule(Case(lambda _setup: ray_engine, None))


@pytest.mark.parametrize("rule", conformance.WITH_WORKERS, ids=lambda rule: rule.__name__)
@pytest.mark.parametrize("opened", [LOCAL, RAY])
def test_engines_with_workers(opened, rule, setup):
    rule(Case(opened, setup))


@pytest.mark.parametrize("rule", conformance.HERE, ids=lambda rule: rule.__name__)
@pytest.mark.parametrize("opened", [LOCAL, VIRTUAL])
def test_engines_of_this_machine(opened, rule, setup):
    rule(Case(opened, setup))


def test_virtual_results_come_in_the_order_of_their_ends(setup):
    workshop = Workshop(setup.context)
    engine = VirtualEngine(2, lambda job: Answer(workshop.run(job), 3.0 if job.candidate == 1 else 1.0))
    for number in (1, 2):
        engine.submit(Job(number, "cost", conformance.NETWORK))
    assert [one.candidate for one in [*engine.wait(0), *engine.wait(0)]] == [2, 1]

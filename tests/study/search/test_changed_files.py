"""Data, weights, code and checkpoints that change in mid-search: they are compared where they are used."""

import pytest
import torch

from nasseg.errors import Fault, MisfitError, UserError
from nasseg.files import parse_yaml
from nasseg.study.engines import local_engine
from nasseg.study.engines.jobs import Job, Workshop
from nasseg.study.search import run_study as search
from nasseg.study.study_file import study_from
from nasseg.train.weights import Loaded, weights_hash
from tests.data.test_dataset import write_camvid
from tests.study.fakes import InlineEngine
from tests.study.search.test_faults import SCENES, TINY, states, tiny


@pytest.fixture
def replaced(monkeypatch):
    """After its first training the worker is gone and another takes its place, once something has been changed."""

    def use(change):
        class Replacing(InlineEngine):
            def __init__(self, context, workers, *told):
                super().__init__(context, workers, *told)
                self.context = context

            def wait(self, timeout):
                if len(self.trained()) == 1:
                    change()
                    self.workshop = Workshop(self.context)
                return super().wait(timeout)

        monkeypatch.setattr(local_engine, "LocalEngine", Replacing)

    return use


@pytest.mark.slow
def test_labels_that_change_in_mid_search_are_not_trained_on_by_the_next_worker(inline, tmp_path, replaced):
    root = write_camvid(tmp_path / "data", size=(32, 64))
    label, other = root / "trainannot" / "f1.png", root / "trainannot" / "f0.png"
    replaced(lambda: label.write_bytes(other.read_bytes()))
    before = label.read_bytes()
    ended = search.run_study(tiny(tmp_path, f"{{name: {root}}}"))
    assert f"{label} has changed" in ended.fault
    assert states(ended.record)["COMPLETE"] == 1
    label.write_bytes(before)
    replaced(lambda: None)
    ended = search.run_study(tiny(tmp_path, f"{{name: {root}}}"))
    assert not ended.fault
    assert states(ended.record)["COMPLETE"] == 3


@pytest.mark.slow
def test_starting_weights_that_change_in_mid_search_stop_it(inline, tmp_path, monkeypatch, replaced):
    path = tmp_path / "start.pt"
    torch.save({"x": torch.zeros(1)}, path)
    text = TINY.replace("batch_size: 2", f"batch_size: 2, init: {path}").format(data=SCENES, macs="1.0e+9")
    hashed = lambda _model, path, _map: Loaded(("x",), {}, (), weights_hash(path))  # noqa: E731
    monkeypatch.setattr("nasseg.train.session.load_weights", hashed)
    replaced(lambda: torch.save({"x": torch.ones(1)}, path))
    ended = search.run_study(study_from(parse_yaml(text, tmp_path / "tiny.yaml"), "tiny"))
    assert f"{path} is not the file that this was begun with" in ended.fault
    assert states(ended.record)["COMPLETE"] == 1


@pytest.mark.slow
def test_an_own_figure_that_changes_in_mid_search_stops_it(inline, tmp_path, replaced):
    path = tmp_path / "mine.py"
    path.write_text("def one(model, measurement):\n    return 1\n")
    text = TINY.format(data=SCENES, macs="1.0e+9") + (
        "figures: {mine: {function: mine.py:one, direction: minimize, phase: cost}}\n"
    )
    text = text.replace("objectives: [miou, macs]", "objectives: [miou, mine]")
    replaced(lambda: path.write_text("def one(model, measurement):\n    return 2\n"))
    ended = search.run_study(study_from(parse_yaml(text, tmp_path / "tiny.yaml"), "tiny"))
    assert f"{path} was changed: its hash was" in ended.fault
    assert states(ended.record)["COMPLETE"] == 1


@pytest.mark.slow
def test_a_family_of_ones_own_that_changes_in_mid_search_stops_it(inline, tmp_path, replaced):
    path, mine = tmp_path / "mine.py", "from nasseg.families.regseg import RegSegArch as Mine\n"
    path.write_text(mine)
    widths = "{range: [0.25, 1.0], step: 0.25}"
    (tmp_path / "mine.yaml").write_text(f"about: mine\nparameters:\n  family: mine.py:Mine\n  width: {widths}\n")
    text = TINY.replace("space: quickstart", "space: mine.yaml").format(data=SCENES, macs="1.0e+9")
    replaced(lambda: path.write_text(f"{mine}# changed\n"))
    ended = search.run_study(study_from(parse_yaml(text, tmp_path / "tiny.yaml"), "tiny"))
    assert f"{path} was changed: its hash was" in ended.fault
    assert states(ended.record)["COMPLETE"] == 1


def test_a_network_that_a_record_forges_into_a_job_runs_no_code(inline, tmp_path):
    evil = tmp_path / "evil.py"
    evil.write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()\n")
    context, _ = search.prepare(tiny(tmp_path), None, 0)
    done = Workshop(context).run(Job(0, "cost", {"family": f"{evil}:X"}))
    assert done.fault is Fault.SURROUNDINGS
    assert "the study's identity does not name it" in done.reason
    assert not (tmp_path / "ran").exists()


@pytest.mark.slow
def test_a_checkpoint_that_was_cut_is_set_aside_and_its_network_is_trained_anew(inline, tmp_path, monkeypatch):
    """It is cut while the search stands still."""
    text = (
        TINY.replace("steps: 2", "steps: 4").format(data=SCENES, macs="1.0e+9") + "halving: {rungs: [2], factor: 1}\n"
    )
    study, said = study_from(parse_yaml(text, tmp_path / "tiny.yaml"), "tiny"), []

    class Cutting(InlineEngine):
        cut = False

        def wait(self, timeout):
            job = self.jobs[0]
            if job.kind == "train" and job.until is None and not self.cut:
                Cutting.cut = True
                path = tmp_path / "runs/tiny" / job.key / "checkpoint.pt"
                path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
            return super().wait(timeout)

    monkeypatch.setattr(local_engine, "LocalEngine", Cutting)
    ended = search.run_study(study, tell=said.append)
    assert Cutting.cut
    assert not ended.fault
    assert states(ended.record) == {"COMPLETE": 3, "PRUNED": 3}
    assert len([line for line in said if "is a damaged checkpoint" in line]) == 1
    assert len(list(tmp_path.glob("runs/tiny/*/checkpoint.pt.damaged"))) == 1


@pytest.mark.parametrize(
    ("raised", "fault"),
    [(UserError("a file is gone"), Fault.SURROUNDINGS), (MisfitError("it has no such feature"), Fault.NETWORK)],
)
def test_an_error_of_ours_in_a_job_is_the_networks_where_it_says_so(inline, tmp_path, monkeypatch, raised, fault):
    def train(*_arguments, **_options):
        raise raised

    monkeypatch.setattr("nasseg.train.session.train", train)
    context, _ = search.prepare(tiny(tmp_path), None, 0)
    workshop = Workshop(context)
    cost = workshop.run(Job(0, "cost", {"family": "regseg", "width": 0.25}))
    done = workshop.run(Job(0, "train", {"family": "regseg", "width": 0.25}, cost.measurement, "key"))
    assert (done.fault, done.reason) == (fault, str(raised))
    refused = workshop.run(Job(0, "cost", {"family": "regseg", "width": -1}))
    assert refused.fault is Fault.NETWORK

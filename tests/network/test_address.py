"""One address for whatever was trained: a run's folder or file, a study's trial, a table's row."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import optuna
import pytest
import torch

from nasseg.data import scenes
from nasseg.errors import UserError
from nasseg.network.address import resolve
from nasseg.network.export import export_address
from nasseg.network.train import train_address
from nasseg.network.weighted import find_weighted
from nasseg.study.store.candidate import Candidate, Proposal
from nasseg.study.store.record import Record
from nasseg.study.store.storage import open_storage
from nasseg.study.store.trained import find_trained, init_file
from nasseg.train.weights import save_weights
from tests.study.leaving import STORAGE, TINY, WEIGHTS, colourful, costed, make_study, measured

ROWS = {
    "row": optuna.distributions.CategoricalDistribution(["base", "lambda = 1/8"]),
    "seed": optuna.distributions.IntDistribution(0, 9),
}


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NASSEG_LOCKS", str(tmp_path / "locks"))
    return tmp_path


@pytest.fixture
def run(here):
    """The folder of a run of `nasseg train` that is done."""
    options = {"data_options": {"size": [32, 64], "train": 4, "val": 2}, "overrides": TINY}
    done = train_address("regseg", data="scenes", recipe={"steps": 2, "batch_size": 2}, **options)
    return done.runs[0].folder


def same(found, file):
    """Return whether a network has the weights of a file."""
    kept = torch.load(file, weights_only=True)
    return all(torch.equal(tensor, kept[name]) for name, tensor in found.state_dict().items())


@pytest.mark.slow
def test_a_run_is_its_folder_or_a_file_in_it(run):
    result = json.loads((run / "result.json").read_text())
    for address, name in ((run, "best.pt"), (run / "best.pt", "best.pt"), (run / "last.pt", "last.pt")):
        found = find_weighted(str(address))
        assert same(found.build(len(scenes.CLASSES))[0], run / name)
        assert found.sha256 == result["weights"][name]
        assert found.classes == scenes.CLASSES
        expected = result["best"] if name == "best.pt" else result["measurement"]["accuracy"]
        assert found.resolved.measurement.accuracy.miou == expected["miou"]
    card = export_address(str(run), run / "out.pt").card
    assert card.weights == result["weights"]["best.pt"]
    assert card.input.size == (32, 64)
    assert init_file(str(run)) == run / "best.pt"
    with pytest.raises(UserError, match=r"but no other\.pt"):
        resolve(str(run / "other.pt"))
    (run / "best.pt").write_bytes(b"something else")
    with pytest.raises(UserError, match=r"is not what .* was evaluated with"):
        find_weighted(str(run))


def test_a_run_that_is_not_done_is_said_to_be_none(here):
    (here / "runs").mkdir()
    (here / "runs" / "checkpoint.pt").touch()
    for address in ("runs", "runs/checkpoint.pt"):
        with pytest.raises(UserError, match=r"is no finished run.*--resume.*--init"):
            resolve(address)


def test_a_run_begins_with_what_another_trained(run):
    options = {"data_options": {"size": [32, 64], "train": 4, "val": 2}, "overrides": TINY}
    done = train_address("regseg", data="scenes", recipe={"steps": 1, "batch_size": 2}, init=str(run), **options)
    assert done.results[0].init[0].endswith(" tensors matched, 0 skipped")
    assert done.results[0].identity["starting weights"] == find_trained(str(run)).sha256
    with pytest.raises(UserError, match="there is no such file"):
        train_address("regseg", data="scenes", recipe={"steps": 1}, init="nowhere.pt", **options)


def test_a_trial_whose_accuracy_is_another_s_has_its_weights(here):
    run_one, sha = make_study(here)
    other = run_one({"measurement": measured().to_json(), "accuracy_from": "tiny#0"})
    assert find_trained(f"tiny#{other.number}", STORAGE).sha256 == sha
    lost = run_one({"measurement": measured().to_json(), "accuracy_from": "gone#0"})
    with pytest.raises(UserError, match=r"weights were not kept: they are those of gone#0"):
        find_trained(f"tiny#{lost.number}", STORAGE).weights()


def a_table(here):
    """The study of a table with two rows and two seeds, of which one was taken from another table's study."""
    sha = save_weights(colourful(len(scenes.CLASSES)), here / "runs/tables/key-tested/best.pt")
    best = replace(measured().accuracy, miou=50.0)
    kept = {"measurement": measured().to_json(), "weights_sha256": "", "best_sha256": sha, "held_out": "{}"}
    kept |= {"best": json.dumps(asdict(best))}
    settings = {"family": "regseg", **resolve("regseg", TINY).arch.params()}

    def add(study, row, seed, attributes):
        record = Record.create(open_storage(STORAGE, create=True), study, {"miou": "maximize"}, {})
        record.set_attributes({"table": study.partition("@")[0], "created": "2026"})
        proposal = Proposal({}, {"row": row, "seed": seed}, ROWS)
        trial = record.claim(Candidate(proposal, settings, costed(), seed=seed), "key", {}, {})
        assert record.complete(trial, [47.11], attributes)

    add("paper/table-1@scenes-12", "base", 1, {**kept, "best_sha256": "other"})
    add("paper/table-1@scenes-12", "base", 0, kept)
    add("paper/table-2@scenes-34", "lambda = 1/8", 0, {**kept, "taken_from": "paper/table-1@scenes-12#1"})
    return sha


def test_a_table_s_row_is_addressed_by_its_name_or_its_trial(here):
    sha = a_table(here)
    for address in ("paper/table-1#base", "paper/table-1@scenes-12#1", "paper/table-2#lambda = 1/8"):
        found = find_weighted(address, storage=STORAGE)
        assert (found.sha256, found.resolved.measurement.accuracy.miou) == (sha, 50.0)
        assert same(found.build(len(scenes.CLASSES))[0], "runs/tables/key-tested/best.pt")
    assert export_address("paper/table-1#base", Path("row.pt"), storage=STORAGE).card.weights == sha
    with pytest.raises(UserError, match=r"no trained row 'bas' .*trained are base"):
        find_trained("paper/table-1#bas", STORAGE)


@pytest.mark.slow
def test_a_file_of_weights_is_exported_with_the_network_that_it_fills(here):
    make_study(here)
    card = export_address("regseg", here / "a.pt", overrides=TINY, num_classes=10, init=WEIGHTS).card
    assert card.weights == find_trained("tiny#0", STORAGE).sha256
    assert card.figures.accuracy is None
    with pytest.raises(UserError, match="does not fill this network"):
        export_address("regseg", here / "b.pt", overrides=TINY, init=WEIGHTS)
    with pytest.raises(UserError, match="needs a file of weights"):
        find_weighted("regseg", init_map=here / "map.yaml")

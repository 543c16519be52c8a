"""Which weights a study keeps, and where: in a folder, or behind a URL that several machines reach."""

from dataclasses import replace

import pytest
import torch
from optuna.distributions import FloatDistribution
from optuna.trial import TrialState, create_trial

from nasseg.errors import Fault, UserError
from nasseg.study.context import make_context
from nasseg.study.engines.jobs import Job, Workshop
from nasseg.study.predictions import read_examples
from nasseg.study.store.weight_store import Keeper, WeightStore, is_url, weights_place
from tests.study.fakes import make_study

COMPLETE, PRUNED, FAIL = TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL


def trial(key, values=None, state=COMPLETE, **attributes):
    found = create_trial(
        state=state,
        values=values,
        params={"x": 0.5},
        distributions={"x": FloatDistribution(0, 1)},
        user_attrs={"eval_key": key, **attributes},
    )
    return found


def kept(tmp_path, keep, trials):
    for one in trials:
        folder = tmp_path / one.user_attrs["eval_key"]
        folder.mkdir(exist_ok=True)
        (folder / "last.pt").touch()
        (folder / "checkpoint.pt").touch()
        (folder / "predictions.zip").touch()
    keeper = Keeper(WeightStore(tmp_path), keep, ["maximize", "minimize"])
    for one in trials:
        keeper.learn(one)
    found = {path.parent.name for path in tmp_path.glob("*/last.pt")}
    assert {path.parent.name for path in tmp_path.glob("*/predictions.zip")} == found  # they share their life
    return found


TINY = "{name: scenes, size: [32, 64], train: 4, val: 2}"
TRIALS = [
    trial("a", [50.0, 10.0]),
    trial("beaten", [40.0, 10.0]),
    trial("b", [60.0, 20.0]),
    trial("c", [50.0, 5.0]),  # beats a
    trial("paper", [1.0, 99.0], published="regseg"),
    trial("copy", [50.0, 5.0], reused_from=3),
]


@pytest.mark.parametrize(
    ("keep", "names"),
    [
        ("front", {"b", "c", "paper", "copy"}),
        ("all", {"a", "beaten", "b", "c", "paper", "copy"}),
        ("none", {"paper", "copy"}),
    ],
)
def test_the_front_is_kept(tmp_path, keep, names):
    assert kept(tmp_path, keep, TRIALS) == names


def test_checkpoints_stay_where_training_may_go_on(tmp_path):
    kept(
        tmp_path,
        "front",
        [
            trial("stopped", state=PRUNED, stopped_at_rung=True, rung=0),
            trial("interrupted", state=FAIL, reason="interrupted: its process is gone", fault="interrupted"),
            trial("diverged", state=FAIL, reason="diverged: the loss is nan"),
        ],
    )
    assert {path.parent.name for path in tmp_path.glob("*/checkpoint.pt")} == {"stopped", "interrupted"}


def test_over_a_limit_after_training_leaves_none(tmp_path):
    assert kept(tmp_path, "front", [trial("x", state=PRUNED, reason="miou is under the limit of 50")]) == set()


@pytest.mark.slow
@pytest.mark.parametrize("url", [False, True])
def test_training_goes_on_on_another_machine(tmp_path, monkeypatch, url):
    """Two machines see only the URL of each other: the second goes on from the first one's checkpoint."""
    study = make_study(recipe="{steps: 4, batch_size: 2}", halving="{rungs: [2]}", data=TINY)
    runs = f"file://{tmp_path}/shared" if url else str(tmp_path / "shared")
    place = weights_place(runs, "s")
    assert is_url(place) == url
    context = replace(make_context(study, study.file.data), weights=place)
    settings, steps = {"family": "dabnet", "width": 0.125}, []

    def machine(name):
        monkeypatch.setenv("NASSEG_CACHE", str(tmp_path / name))
        return Workshop(context, lambda _c, step, _l: steps.append(step))

    first = machine("one")
    known = first.run(Job(0, "cost", settings)).measurement
    assert first.run(Job(0, "train", settings, known, "k", 0, 2)).fault is None
    assert (tmp_path / "shared/s/k/checkpoint.pt").exists()
    result = machine("two").run(Job(0, "train", settings, known, "k", 0))
    assert result.fault is None
    assert steps == [1, 2, 3, 4]
    assert {path.name for path in (tmp_path / "shared/s/k").iterdir()} == {"last.pt", "predictions.zip"}
    examples = read_examples(WeightStore(place).read("k", "predictions.zip"))
    assert [example.number for example in examples] == [0, 1]  # of the two images of the split
    assert WeightStore(place).read("other", "predictions.zip") is None
    monkeypatch.setenv("NASSEG_CACHE", str(tmp_path / "three"))
    weights = torch.load(WeightStore(place).folder("k") / "last.pt", weights_only=True)
    assert all(tensor.isfinite().all() for tensor in weights.values())


def test_a_url_that_cannot_be_opened_is_refused():
    with pytest.raises(UserError, match="cannot open nosuch://bucket"):
        WeightStore("nosuch://bucket").check()


def test_a_place_that_cannot_be_read_stops_the_search_and_blames_no_network(monkeypatch, tmp_path):
    def refuse(*_):
        raise PermissionError("no such rights")

    study = make_study(recipe="{steps: 4, batch_size: 2}", data=TINY)
    monkeypatch.setattr(WeightStore, "folder", refuse)
    workshop = Workshop(replace(make_context(study, study.file.data), weights="memory://bucket/s"))
    settings = {"family": "dabnet", "width": 0.125}
    known = workshop.run(Job(0, "cost", settings)).measurement
    result = workshop.run(Job(0, "train", settings, known, "k", 0))
    assert result.fault is Fault.SURROUNDINGS
    assert result.reason == "cannot use memory://bucket/s: no such rights; the last checkpoint is kept"


def test_what_cannot_be_removed_is_named(monkeypatch, tmp_path):
    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(WeightStore, "remove", refuse)
    with pytest.raises(UserError, match=f"from {tmp_path}: Permission denied"):
        kept(tmp_path, "front", TRIALS)

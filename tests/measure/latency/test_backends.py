"""How networks are run where they are timed, and networks timed in turns."""

import pytest
import torch
from torch import nn

from nasseg.errors import UserError
from nasseg.families import FAMILIES, build_model, make_arch
from nasseg.measure.latency import in_turns
from nasseg.measure.latency.attempts import Attempt, measure_latency
from nasseg.measure.latency.backends import BACKENDS, example, fold_batch_norm, numerics, prepare, runner
from nasseg.measure.latency.in_turns import compare_latency, latency_by_part
from nasseg.measure.latency.presets import latency_preset, latency_presets
from nasseg.network.time_in_turns import time_addresses
from nasseg.records import LatencyProtocol
from nasseg.study.study_file import LatencyFile
from tests.families.cheap import SHALLOW
from tests.slow import slow

QUICK = {
    "device": "cpu",
    "input_size": (32, 64),
    "num_classes": 3,
    "warmup": 1,
    "min_replicates": 3,
    "min_seconds": 0.0,
}


@pytest.mark.parametrize("family", [family for family in FAMILIES if family != "composed"])
def test_folding_changes_the_modules_and_not_the_output(family):
    torch.manual_seed(0)
    model = build_model(make_arch(family, **({} if family == "backbone" else {"width": 0.25})), 3)
    for module in model.modules():  # statistics as after training
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.5, 0.5)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
    image = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        before = model(image)
        count = sum(isinstance(module, nn.BatchNorm2d) for module in model.modules())
        folded = fold_batch_norm(model)
        assert sum(isinstance(module, nn.BatchNorm2d) for module in model.modules()) == count - folded
        assert folded > 0
        torch.testing.assert_close(model(image), before, rtol=1e-3, atol=1e-3)


def test_upsampling_outside_leaves_the_logits_at_their_stride():
    arch = make_arch("regseg", width=0.25)
    inside, outside = (prepare(arch, LatencyProtocol(**QUICK, upsampling=where)) for where in ("inside", "outside"))
    image = example(LatencyProtocol(**QUICK))
    with torch.inference_mode():
        assert inside(image).shape == (1, 3, 32, 64)
        assert outside(image).shape == (1, 3, 8, 16)


@pytest.mark.parametrize("backend", ["eager", *(slow(name) for name in ("onnxruntime", "compile"))])
def test_each_backend_is_timed(backend):
    if backend == "onnxruntime":
        pytest.importorskip("onnxruntime")
    protocol = LatencyProtocol(**QUICK, backend=backend)
    found = measure_latency(make_arch("regseg", width=0.25, **SHALLOW["regseg"]), protocol)
    assert found.n == 3
    assert found.p50_ms > 0
    assert found.protocol.backend == backend


def test_numerics_are_as_asked_and_then_as_before():
    before = torch.get_num_threads(), torch.backends.cudnn.benchmark, torch.backends.cudnn.allow_tf32
    with numerics(LatencyProtocol(**QUICK, threads=2, tf32=True, cudnn_benchmark=not before[1])):
        assert torch.get_num_threads() == 2
        assert torch.backends.cudnn.benchmark is not before[1]
        assert torch.backends.cudnn.allow_tf32
        assert torch.backends.cuda.matmul.allow_tf32
    assert (torch.get_num_threads(), torch.backends.cudnn.benchmark, torch.backends.cudnn.allow_tf32) == before


def test_networks_take_turns_and_ratios_are_of_one_round(monkeypatch):
    order = []
    drift = iter([1.0, 1.0, 3.0, 3.0])  # the machine gets three times slower between the rounds

    def attempt(run, *_):
        order.append(run)
        slow = next(drift)
        return Attempt(torch.full((9,), slow * {"a": 1e-3, "b": 2e-3}[run]).numpy(), 1.0, None)

    monkeypatch.setattr(in_turns, "builder", lambda arch, _protocol: arch)
    monkeypatch.setattr(in_turns, "attempt", attempt)
    _, b = compare_latency({"a": "a", "b": "b"}, LatencyProtocol(**QUICK), base="a", repeat=2)
    assert order == ["a", "b", "a", "b"]
    assert b.ratios == pytest.approx((2.0, 2.0))
    assert b.ratio == pytest.approx(2.0)
    assert b.range_ms == pytest.approx((2.0, 6.0))


def test_parts_add_up_to_about_the_whole():
    arch, protocol = make_arch("bisenetv2", width=0.5), LatencyProtocol(**{**QUICK, "input_size": (128, 256)})
    parts = latency_by_part(arch, protocol, rounds=5)
    assert list(parts) == ["encoder", "context", "decoder", "head", "upsampling"]
    assert max(parts, key=parts.get) == "encoder"
    assert all(ms > 0 for ms in parts.values())


def test_addresses_are_timed_against_a_base_under_a_papers_protocol():
    found = time_addresses(
        ["dabnet"],
        against="regseg",
        repeat=1,
        preset="dabnet",
        input_size=(32, 64),
        settings={"warmup": 0, "min_replicates": 2},
    )
    assert found.base == "regseg"
    assert [row.label for row in found.rows] == ["regseg", "dabnet"]
    assert found.rows[0].ratios == (1.0,)
    assert any("GTX 1080 Ti" in note for note in found.notes)
    with pytest.raises(UserError, match="did you mean 'regseg'"):
        time_addresses(["regseg"], preset="regsg")


def test_presets_are_protocols_that_say_how_they_differ():
    assert set(latency_presets()) == {"bisenetv2", "stdc", "eseg", "regseg", "dabnet"}
    for preset in latency_presets().values():
        protocol = LatencyProtocol(device="cuda", num_classes=19, **preset.settings)
        assert protocol.batch == 1
        assert preset.differs
        assert preset.citation
    file = LatencyFile.model_validate({"protocol": "regseg", "device": "cuda"})
    assert (file.precision, file.warmup, file.device) == ("fp16", 10, "cuda")
    assert latency_preset("regseg").settings["min_replicates"] == file.min_replicates


@pytest.mark.parametrize("backend", [name for name in BACKENDS if name != "command"])
def test_each_backend_may_stand_in_a_study(backend):
    assert LatencyFile.model_validate({"backend": backend}).protocol((32, 64), 3).backend == backend


def test_what_runs_is_the_protocols_network():
    run = runner(make_arch("regseg", width=0.25), LatencyProtocol(**QUICK, batch=2))
    with torch.inference_mode():
        assert run().shape == (2, 3, 32, 64)

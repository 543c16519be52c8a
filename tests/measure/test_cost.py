"""Counting rules on networks small enough to count by hand, and against fvcore; memory against what torch holds."""

import importlib
import sys
import weakref
from dataclasses import asdict
from itertools import accumulate

import pytest
import torch
from fvcore.nn import FlopCountAnalysis
from torch import Tensor, nn
from torch._C._profiler import _EventType
from torch.fx import Interpreter
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn import functional as F
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from nasseg.families import FAMILIES, build_model, make_arch, variants
from nasseg.families.graph.recorder import record
from nasseg.measure.cost import (
    bisenetv2_flops,
    cost_of,
    eager_memory_bytes,
    field_of_view,
    fvcore_flops,
    macs,
    measure_cost,
    operators,
    peak_activation_bytes,
)
from nasseg.records import CostProtocol, Measurement
from tests.slow import slow


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, stride=2, padding=1)  # 4 x 8 x 8 outputs of 27
        self.norm = nn.BatchNorm2d(4)
        self.group = nn.Conv2d(4, 8, 3, padding=2, dilation=2, groups=2, bias=False)  # 8 x 8 x 8 outputs of 18
        self.up = nn.ConvTranspose2d(8, 2, 2, stride=2, bias=False)  # 8 x 8 x 8 inputs of 2 x 4

    def forward(self, x):
        x = F.relu(self.norm(self.conv(x)))
        x = self.group(x) * torch.sigmoid(F.adaptive_avg_pool2d(x, 1)[:, :1])
        x = F.interpolate(self.up(x), size=(32, 32), mode="bilinear")
        return F.max_pool2d(x, 2)


def graph():
    return record(Small().to("meta").eval(), (16, 16))


def test_multiply_adds():
    assert sum(map(macs, graph().reachable())) == 4 * 64 * 27 + 8 * 64 * 18 + 8 * 64 * 8


def test_fvcore_rule():
    expected = 4 * 64 * 27 + 8 * 64 * 18 + 8 * 64 * 8 + 2 * 4 * 64 + 4 * 64 + 4 * 2 * 32 * 32
    assert sum(map(fvcore_flops, graph().reachable())) == expected
    real = FlopCountAnalysis(Small().eval(), torch.zeros(1, 3, 16, 16)).unsupported_ops_warnings(False)
    assert expected == int(real.total())


def test_bisenetv2_rule():
    """Bias counts, BN 2, ReLU and sigmoid 1, pooling 1 an input element; sums, products and upsampling nothing."""
    expected = 4 * 64 * (27 + 1) + 8 * 64 * 18 + 8 * 64 * 8 + 2 * 4 * 64 + 4 * 64 + 1 + 4 * 64 + 2 * 32 * 32
    assert sum(map(bisenetv2_flops, graph().reachable())) == expected


def test_uncounted_operators_are_listed():
    cost = cost_of(
        record(build_model(make_arch("regseg", width=0.25)).to("meta"), (64, 64)),
        CostProtocol(input_size=(64, 64), num_classes=19),
    )
    assert {"relu", "add", "cat"} <= set(cost.uncounted)
    assert "conv" not in cost.uncounted


@pytest.mark.parametrize("family", ["bisenetv2", "regseg"])
def test_parts_add_up_to_the_whole(family):
    arch = make_arch(family)
    cost = measure_cost(arch, (128, 256))
    rows = operators(arch.graph(19, (128, 256)))
    for figure in ("params", "macs", "activations"):
        assert sum(getattr(stage, figure) for stage in cost.stages) == getattr(cost, figure)
        assert sum(getattr(row, figure) for row in rows) == getattr(cost, figure)
    assert sum(stage.operators for stage in cost.stages) == len(rows)
    assert sum(row.fvcore_flops for row in rows) == cost.fvcore_flops
    assert max(row.live_bytes for row in rows) == cost.peak_activation_bytes
    assert cost.params == sum(p.numel() for p in arch.build_meta(19).parameters())


def test_operators_are_listed_in_the_order_of_the_run():
    rows = operators(graph())
    kinds = ["conv", "batch_norm", "relu", "conv", "adaptive_avg_pool2d", "getitem", "sigmoid", "mul"]
    assert [row.kind for row in rows] == [*kinds, "conv_transpose", "interpolate", "max_pool2d"]
    first, upsampled = rows[0], rows[-2]
    assert (first.stride, first.output_shape, first.params, first.macs, first.activations) == (
        2,
        (1, 4, 8, 8),
        4 * 27 + 4,
        4 * 64 * 27,
        4 * 64,
    )
    assert (upsampled.params, upsampled.macs, upsampled.fvcore_flops) == (0, 0, 4 * 2 * 32 * 32)


def test_cost_at_the_ids_size_finds_the_id_without_another_recording(monkeypatch):
    arch, other = make_arch("bisenetv2", width=0.5), make_arch("bisenetv2", width=0.5)
    measure_cost(arch, (1024, 2048), 19)
    monkeypatch.setattr("nasseg.families.arch.record", None)
    found = arch.id
    monkeypatch.undo()
    measure_cost(other, (1024, 2048), 7)
    assert found == other.id


def test_cost_without_peak_memory_can_be_read():
    """Studies from before it was measured."""
    measurement = Measurement(arch_id="a", cost=measure_cost(make_arch("bisenetv2", width=0.25), (64, 64)))
    text = measurement.to_json()
    assert Measurement.from_json(text) == measurement
    peak = f'"peak_activation_bytes":{measurement.cost.peak_activation_bytes},'
    assert peak in text
    old = Measurement.from_json(text.replace(peak, ""))
    assert asdict(old.cost) == {**asdict(measurement.cost), "peak_activation_bytes": None}


class Branches(nn.Module):
    """In place, views, a sum with what came long before, and weights that are looked at: float32 elements live."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 1, stride=2), nn.Conv2d(4, 8, 1)
        self.scale = nn.Parameter(torch.ones(8))

    def forward(self, x):
        x = F.relu(self.first(x), inplace=True)  # 768 of the image and 256; 256
        a, b = self.second(x).chunk(2, dim=1)  # 256 + 512; views
        y = torch.cat([a * b, x.detach()], dim=1)  # 256 + 512 + 256; 256 (x) + 256 + 512
        y *= self.scale.view(8, 1, 1)  # a view of a weight; in place: 512
        F.relu(y)  # what the logits do not need
        y[:, :2] += 1.0  # of a part: 512
        return F.interpolate(y, size=(16, 16))  # 512 + 2048


def test_activations_live_until_they_are_last_read():
    rows = operators(record(Branches().to("meta"), (16, 16)))
    by_hand = [
        ("conv", 1024),
        ("relu", 256),
        ("conv", 768),
        ("chunk", 768),
        ("mul", 1024),
        ("cat", 1024),
        ("view", 512),
        ("mul", 512),
        ("getitem", 512),
        ("add", 512),
        ("setitem", 512),
        ("interpolate", 2560),
    ]
    assert [(row.kind, row.live_bytes / 4) for row in rows] == by_hand


class LiveStorages(TorchDispatchMode):
    """Bytes of the storages that calls made and that still exist."""

    def __init__(self, weights):
        super().__init__()
        self.known, self.live, self.peak = {tensor.untyped_storage()._cdata for tensor in weights}, 0, 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            storage = tensor.untyped_storage() if isinstance(tensor, Tensor) else None
            if storage is not None and storage._cdata not in self.known:
                self.known.add(storage._cdata)
                self.live += storage.nbytes()
                weakref.finalize(storage, self.freed, storage._cdata, storage.nbytes())
        self.peak = max(self.peak, self.live)
        return result

    def freed(self, storage, nbytes):
        self.known.remove(storage)
        self.live -= nbytes


def torchs_peak(model, size):
    """What torch holds at most when the network runs, each result deleted after its last use, the image too."""
    pixel = torch.zeros(1, 3, 1, 1)
    with torch.no_grad():
        traced = make_fx(lambda pixel: model(pixel.expand(1, 3, *size).clone()))(pixel)
        for node in reversed(list(traced.graph.nodes)):
            if node.name.startswith("getitem") and not node.users:  # the indices of max pooling, else kept for good
                traced.graph.erase_node(node)
        traced.recompile()
        with LiveStorages([*model.parameters(), *model.buffers(), pixel]) as storages:
            Interpreter(traced).run(pixel)
    return storages.peak


each_family = pytest.mark.parametrize(
    "family", [family if family == "bisenetv2" else slow(family) for family in FAMILIES]
)


@pytest.mark.slow
@each_family
def test_peak_memory_is_what_torch_holds(family):
    arch = make_arch(family)
    assert peak_activation_bytes(arch.graph(5, (64, 96))) == torchs_peak(arch.build(5).eval(), (64, 96))


def held_by_torch(model, size):
    """The most bytes that torch's own profiler sees allocated at once, without the scratch memory of convolutions."""
    changes = []  # (time, address, bytes, the convolution)

    def walk(event, convolution):
        if event.tag == _EventType.Allocation:
            changes.append((event.start_time_ns, event.extra_fields.ptr, event.extra_fields.alloc_size, convolution))
        if event.name in ("aten::conv2d", "aten::conv_transpose2d"):
            convolution = event.id
        for child in event.children:
            walk(child, convolution)

    with torch.inference_mode():
        model(torch.zeros(1, 3, *size))  # what the first call alone allocates
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
            model(torch.zeros(1, 3, *size))
    for root in profiled.profiler.kineto_results.experimental_event_tree():
        walk(root, None)
    changes.sort(key=lambda change: change[0])
    born, scratch = {}, set()
    for number, (_, address, size, convolution) in enumerate(changes):
        if size > 0:
            born[address] = number, convolution
        elif address in born:
            first, within = born.pop(address)
            if within is not None and within == convolution:
                scratch |= {first, number}
    return max(accumulate(size for number, (_, _, size, _) in enumerate(changes) if number not in scratch))


@each_family
def test_eager_memory_is_what_torchs_profiler_sees(family):
    arch, size = make_arch(family), (64, 128)
    cost = measure_cost(arch, size, 5)
    assert cost.eager_memory_bytes == pytest.approx(held_by_torch(arch.build(5).eval(), size), rel=0.01)
    assert cost.eager_memory_bytes >= cost.peak_activation_bytes


@pytest.mark.parametrize(("name", "share"), [("dabnet", 0.8), slow("stdc1", 0.8)])
def test_maps_that_nothing_reads_are_let_go_while_the_encoder_runs(name, share):
    model = make_arch(name).build(5).eval()
    held = held_by_torch(model, (64, 128))
    model.decoder.reads = None  # as if the decoder read all of them
    assert held <= share * held_by_torch(model, (64, 128))


@pytest.mark.slow
def test_eager_memory_is_never_below_what_the_graph_needs():
    for name in variants():
        graph = make_arch(name).graph(19, (256, 512))
        assert eager_memory_bytes(graph) >= peak_activation_bytes(graph), name


class Hoarder(nn.Module):
    """Maps are kept in variables when they have been read, or are read by nothing; max pooling comes last."""

    def forward(self, x):
        kept = F.relu(x)
        unread = [x + 1.0]
        y = F.avg_pool2d(kept, 4)
        unread.append(y)
        return F.max_pool2d(F.interpolate(y, size=(16, 16)), 2)


def test_eager_memory_by_hand():
    graph = record(Hoarder(), (16, 16))
    image = kept = unread = upsampled = 3 * 16 * 16
    pooled, result = 3 * 4 * 4, 3 * 8 * 8
    indices = 2 * result  # int64
    assert eager_memory_bytes(graph) == 4 * (image + kept + unread + pooled + upsampled + result + indices)
    assert peak_activation_bytes(graph) == 4 * (image + kept)


def test_memory_that_is_freed_and_taken_again_is_new_memory():
    class Repeats(nn.Module):
        def forward(self, x):
            for _ in range(50):
                x = F.relu(x + 1.0) * 2.0
            return x

    graph = record(Repeats(), (8, 8))
    assert [operator.inputs for operator in graph.operators] == [((index - 1, 0),) for index in range(150)]
    assert [operator.memory for operator in graph.operators] == [((index, 0),) for index in range(150)]
    assert eager_memory_bytes(graph) == 4 * 4 * 3 * 8 * 8  # the image, x, x + 1 and relu


def test_eager_memory_does_not_depend_on_what_is_loaded(tmp_path, monkeypatch):
    """A module that is loaded on the way keeps its frame, and so those of its callers: torch._dynamo does."""
    (tmp_path / "keeps_its_frame.py").write_text("import sys\nframe = sys._getframe()\n")
    monkeypatch.syspath_prepend(tmp_path)

    class Imports(nn.Module):
        def forward(self, x):
            return F.interpolate(self.first(x), size=(32, 32))

        def first(self, x):
            y = F.relu(x)
            importlib.import_module("keeps_its_frame")
            return F.max_pool2d(y, 2)

    try:
        assert eager_memory_bytes(record(Imports(), (16, 16))) == 4 * 3 * (16 * 16 + 8 * 8 + 32 * 32)
    finally:
        sys.modules.pop("keeps_its_frame")


def test_cost_does_not_touch_the_models_numbers():
    before = torch.random.get_rng_state()
    measure_cost(make_arch("regseg"), (64, 64))
    assert torch.equal(before, torch.random.get_rng_state())


def test_field_of_view_by_equations_1_and_2():
    class Encoder(nn.Module):
        def __init__(self):
            super().__init__()
            self.near = nn.Conv2d(3, 4, 3, stride=2, padding=1)  # k = 3, s = 2
            self.far = nn.Conv2d(4, 4, 3, padding=4, dilation=4)  # k = 3 + 8 x 2
            self.pool = nn.MaxPool2d(2)  # k = 19 + 1 x 2, s = 4

        def forward(self, x):
            x = self.near(x)
            return {"out": self.pool(x + self.far(x))}

    class Whole(nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder = Encoder()

        def forward(self, x):
            return self.encoder(x)["out"]

    assert field_of_view(record(Whole().to("meta"), (64, 64))) == 21

"""Stand-ins for a GPU: tensors on cuda:0 without numbers, and a record of what is asked of torch.cuda, in order."""

from contextlib import ExitStack, contextmanager
from types import SimpleNamespace

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_leaves

from nasseg.train.views.network_input import constant

_COPIES = ("_to_copy", "copy_")


class FakeGPU(TorchDispatchMode):
    """What is on cuda:0 has shapes only, what is on the CPU is computed. waits: what a CPU would wait for a GPU at.

    A look at numbers on the GPU (`item`, `nonzero`, a mask as an index) raises, for there are none. computes: whether
    the CPU's tensors have numbers; else they have shapes only as well, which is faster.
    """

    def __init__(self, computes):
        super().__init__()
        self.computes, self.waits = computes, []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        asked = kwargs.get("device")
        to_gpu = asked is not None and torch.device(asked).type == "cuda"
        if not to_gpu and not any(one.device.type == "cuda" for one in tensors):
            if not self.computes:
                return func(*args, **kwargs)
            with _disable_current_modes():
                return func(*args, **kwargs)
        self._note(func.overloadpacket.__name__, tensors, kwargs, to_gpu)
        return func(*args, **kwargs)

    def _note(self, name, tensors, kwargs, to_gpu):
        here = [one for one in tensors if one.device.type == "cpu"]
        if name == "_to_copy":
            from_cpu = here and to_gpu
            if from_cpu and not (getattr(here[0], "is_pinned_here", False) and kwargs.get("non_blocking")):
                self.waits.append(f"an upload from memory that is not pinned: {list(here[0].shape)}")
            if not here and not to_gpu and kwargs.get("device") is not None:
                self.waits.append("a download")
        elif name == "copy_" and here:
            self.waits.append("a copy between devices")
        elif any(one.dim() for one in here) or (here and name == "where"):
            self.waits.append(f"{name} with a tensor on the CPU")


@contextmanager
def fake_gpu(monkeypatch, free_bytes=1 << 40, computes=True):
    """Let cuda:0 be had, and yield the FakeGPU that notes where a CPU would wait for it."""

    def pinned(tensor):
        copy = tensor.clone()
        copy.is_pinned_here = True
        return copy

    def empty(*size, pin_memory=False, **settings):
        return pinned(real_empty(*size, **settings)) if pin_memory else real_empty(*size, **settings)

    def index_select(*given, out=None):
        found = real_index_select(*given)
        return found if out is None else pinned(found)

    real_empty, real_index_select = torch.empty, torch.index_select
    monkeypatch.setattr(torch, "empty", empty)
    monkeypatch.setattr(torch, "index_select", index_select)
    monkeypatch.setattr(torch.Tensor, "pin_memory", pinned)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _device: (free_bytes, 1 << 40))
    constant.cache_clear()
    gpu = FakeGPU(computes)
    try:
        with FakeTensorMode(allow_non_fake_inputs=True), gpu:
            yield gpu
    finally:
        constant.cache_clear()  # what it holds is of this GPU


class CudaRecord:
    """Stands in for the parts of torch.cuda that enqueue nothing: notes of streams, events, devices and graphs."""

    def __init__(self, monkeypatch, device="cuda:0"):
        self.notes, self.depth = [], [torch.device(device)]
        self.main = _Stream(self, "main", device)
        self.streams = 0
        for name in ("Stream", "Event", "CUDAGraph"):
            monkeypatch.setattr(torch.cuda, name, getattr(self, f"_{name.lower()}"))
        for name in ("stream", "device", "graph"):
            monkeypatch.setattr(torch.cuda, name, getattr(self, f"_enter_{name}"))
        monkeypatch.setattr(torch.cuda, "current_stream", lambda device=None: self._main_of(device))

    def note(self, *what):
        self.notes.append(" ".join(map(str, what)))

    def _main_of(self, device):
        self.main.device = torch.device(device or self.depth[-1])
        return self.main

    def _stream(self, device=None):
        self.streams += 1
        self.note("new stream on", device)
        return _Stream(self, f"stream {self.streams}", device)

    def _event(self, **_settings):
        return SimpleNamespace(
            record=lambda stream=None: self.note("record on", stream), synchronize=lambda: self.note("wait for event")
        )

    def _cudagraph(self):
        return SimpleNamespace(replay=lambda: self.note("replay"))

    @contextmanager
    def _entered(self, what):
        self.note("enter", what)
        yield
        self.note("leave", what)

    def _enter_stream(self, stream):
        return self._entered(stream)

    def _enter_graph(self, _graph, stream=None, **_settings):
        return self._entered(f"graph on {stream}")

    @contextmanager
    def _enter_device(self, device):
        with ExitStack() as stack:
            self.depth.append(torch.device(device))
            stack.callback(self.depth.pop)
            stack.enter_context(self._entered(f"device {device}"))
            yield


class _Stream:
    cuda_stream = 77

    def __init__(self, record, name, device):
        self.record, self.name, self.device = record, name, torch.device(device)

    def __str__(self):
        return self.name

    def wait_stream(self, other):
        self.record.note(self, "waits for", other)

    def synchronize(self):
        self.record.note("wait for", self)

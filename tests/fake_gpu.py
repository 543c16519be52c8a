"""Stand-ins for a GPU: the meta device, with notes of what waits, and a record of what is asked of torch.cuda."""

from contextlib import ExitStack, contextmanager
from types import SimpleNamespace

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

GPU = "meta"  # shapes without numbers; tensors that say cuda:0 cannot be differentiated where torch has no CUDA


class Waits(TorchDispatchMode):
    """Notes what a CPU would wait for a GPU at, or what would make use of a tensor that is not there.

    A look at numbers (`item`, `nonzero`, a mask as an index) raises, for the stand-in has none.
    """

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        here = [one for one in tensors if one.device.type == "cpu"]
        asked = kwargs.get("device")
        if here and asked is not None and torch.device(asked).type == GPU:
            if not (getattr(here[0], "is_pinned_here", False) and kwargs.get("non_blocking")):
                self.found.append(f"an upload from memory that is not pinned: {list(here[0].shape)}")
        elif 0 < len(here) < len(tensors) and (
            # A single number is an argument of a kernel, but `where` copies it.
            any(one.dim() for one in here) or func.overloadpacket.__name__ in ("where", "copy_")
        ):
            self.found.append(f"{func} with a tensor on the CPU")
        return func(*args, **kwargs)


@contextmanager
def waits(monkeypatch):
    """Note what would be waited for, in a list that is yielded; memory on the CPU can be pinned."""

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
    with Waits() as mode:
        yield mode.found


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

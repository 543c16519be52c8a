"""torch.compile on one network after another: each is compiled as a whole, or refused."""

from functools import partial

import pytest
import torch
from torch import nn

from nasseg.errors import MisfitError, UserError
from nasseg.families import make_arch
from nasseg.measure.latency.runtimes.compiled import compiled
from tests.families.cheap import SHALLOW


@pytest.fixture
def graphs(monkeypatch):
    """What torch.compile hands to its compiler; here they are then run as they are, for compiling takes minutes."""
    found = []

    def compiler(graph, _inputs):
        found.append(graph)
        return graph.forward

    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=compiler))
    return found


@pytest.mark.slow
def test_ten_networks_compile_ten_times(graphs):
    image = torch.randn(1, 3, 8, 8)
    runs = [compiled(nn.Conv2d(3, width, 3), image) for width in range(1, 11)]
    assert len(graphs) == 10
    with torch.inference_mode():
        assert [run().shape[1] for run in (*runs, *runs)] == [*range(1, 11), *range(1, 11)]
    assert len(graphs) == 10


@pytest.mark.slow
def test_a_family_compiles_as_a_whole_and_computes_the_same(graphs):
    model, image = make_arch("regseg", width=0.25, **SHALLOW["regseg"]).build(3).eval(), torch.randn(1, 3, 32, 64)
    run = compiled(model, image)
    with torch.inference_mode():
        torch.testing.assert_close(run(), model(image))
    assert len(graphs) == 1


class Reads(nn.Module):
    """A network that looks at its numbers."""

    def forward(self, image):
        return image if image.sum().item() > 0 else -image


def test_a_machine_without_a_compiler_is_said_to_be_one(monkeypatch):
    from torch._inductor.exc import InvalidCxxCompiler

    def compiler(_graph, _inputs):
        raise InvalidCxxCompiler

    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=compiler))
    with pytest.raises(UserError, match="finds no compiler here: No working") as error:
        compiled(nn.Identity(), torch.randn(1, 3, 8, 8))
    assert not isinstance(error.value, MisfitError)


def test_what_cannot_be_compiled_as_a_whole_is_said(graphs):
    with pytest.raises(MisfitError, match="cannot compile the network as a whole: "):
        compiled(Reads(), torch.randn(1, 3, 8, 8))

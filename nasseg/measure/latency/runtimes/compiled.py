"""torch.compile: each network is compiled as a whole, or refused by name. None is silently run in eager mode."""

from types import FunctionType

import torch
from torch import Tensor, nn

from nasseg.errors import MisfitError, UserError
from nasseg.measure.latency.runtimes.own_stream import Run


def compiled(model: nn.Module, image: Tensor) -> Run:
    """Compile a network for one size, now, and return a call of it.

    Raises:
        MisfitError: it cannot be compiled as a whole.
        UserError: there is no compiler here.
    """
    from torch._dynamo.exc import TorchDynamoException, Unsupported  # slow to import
    from torch._dynamo.exc import UserError as NotTraceable
    from torch._inductor.exc import GPUTooOldForTriton, InvalidCxxCompiler, TritonMissing

    no_compiler = (GPUTooOldForTriton, InvalidCxxCompiler, TritonMissing)

    def forward(image: Tensor) -> Tensor:
        logits: Tensor = model(image)
        return logits

    # torch counts compilations by a function's code, and runs the ninth in eager mode: so each network gets its own
    # code.
    own = FunctionType(forward.__code__.replace(), forward.__globals__, closure=forward.__closure__)
    call = torch.compile(own, dynamic=False, fullgraph=True)
    try:
        with torch.inference_mode():
            call(image)
    except TorchDynamoException as error:
        inner = getattr(error, "inner_exception", error)
        if isinstance(inner, Unsupported | NotTraceable):
            raise MisfitError(f"torch.compile cannot compile the network as a whole: {_first_line(error)}") from error
        if isinstance(inner, no_compiler):
            raise UserError(f"backend compile finds no compiler here: {_first_line(inner)}; use eager") from error
        raise
    return lambda: call(image)


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)

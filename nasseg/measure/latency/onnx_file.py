"""A model as a file that runs without nasseg and PyTorch: ONNX, for one fixed image size, with the weights inside.

The file's input is called `image`, [batch, 3, H, W]; its output is the model's. Sizes are constants in it, because
compilers for small devices want that, and nasseg measures every figure at a fixed size. The batch size may stay open.

Packages: onnx and onnxscript write such a file, onnxruntime runs it; the extra `onnx` installs them.
"""

import importlib
import logging
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram

from nasseg.errors import MisfitError, UserError
from nasseg.records import Size

INPUT, BATCH = "image", "batch"
_TO_WRITE, _TO_RUN = ("onnx", "onnxscript"), ("onnxruntime",)
Provider = str | tuple[str, dict[str, Any]]


def require_onnx() -> None:
    """Check that the packages that write and run ONNX files are installed.

    Raises:
        UserError: one is missing.
    """
    _require(*_TO_WRITE, *_TO_RUN)


def _require(*packages: str) -> Any:
    """Import these packages, and return the last of them."""
    module = None
    for package in packages:
        try:
            module = importlib.import_module(package)
        except ImportError:
            raise UserError(f"ONNX needs {package}, which is not installed: pip install 'nasseg[onnx]'") from None
    return module


def trace(
    model: nn.Module, input_size: Size, *, batch: int | None = 1, dtype: torch.dtype | None = None
) -> ExportedProgram:
    """Return the program of a model in eval mode for images [batch, 3, *input_size], in its precision, on its device.

    batch: None for any size. The program names no file or line of the machine that traced it.

    Raises:
        UserError: torch cannot trace the model.
    """
    weight = next(model.parameters())
    open_batch = None if batch else ({0: torch.export.Dim(BATCH)},)
    image = torch.zeros(batch or 2, 3, *input_size, dtype=dtype or weight.dtype, device=weight.device)
    with _telling("traced"), torch.no_grad():
        program = torch.export.export(model, (image,), dynamic_shapes=open_batch)
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)
    return program


def save_onnx(program: ExportedProgram, path: Path, *, output: str = "logits", opset: int | None = None) -> None:
    """Write a traced program as ONNX; its output is called `output`.

    Raises:
        UserError: a package is missing, or ONNX cannot express the program.
        OSError: it cannot be written.
    """
    _require(*_TO_WRITE)
    with _telling("written as ONNX"):
        torch.onnx.export(
            program,
            (),
            path,
            dynamo=True,
            external_data=False,
            verbose=False,
            input_names=[INPUT],
            output_names=[output],
            opset_version=opset,
            dynamic_shapes=({0: BATCH},) if program.range_constraints else None,
        )


def write_onnx(model: nn.Module, path: Path, input_size: Size, *, batch: int = 1) -> None:
    """Write a model in eval mode as ONNX for images [batch, 3, *input_size]; see `trace` and `save_onnx`."""
    _require(*_TO_WRITE)
    save_onnx(trace(model, input_size, batch=batch), path)


def onnx_content(model: nn.Module, input_size: Size, *, batch: int = 1) -> bytes:
    """Return what `write_onnx` writes."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        write_onnx(model, path, input_size, batch=batch)
        return path.read_bytes()


def run_options(**entries: str) -> Any:
    """Return ONNX Runtime's run options with these configuration entries."""
    options = _require(*_TO_RUN).RunOptions()
    for name, value in entries.items():
        options.add_run_config_entry(name, value)
    return options


def open_onnx(
    source: Path | bytes, *, threads: int = 0, providers: Sequence[Provider] = ("CPUExecutionProvider",)
) -> Any:
    """Return the `InferenceSession` of an ONNX file, or of its content. 0 threads means one per core.

    providers: names, or names with options.

    Raises:
        UserError: onnxruntime is missing, or cannot use the file.
    """
    onnxruntime = _require(*_TO_RUN)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = threads, 3
    content = source if isinstance(source, bytes) else str(source)
    try:
        return onnxruntime.InferenceSession(content, options, providers=list(providers))
    except Exception as error:  # its errors have no common type
        name = "the file" if isinstance(source, bytes) else source
        raise MisfitError(f"ONNX Runtime cannot use {name}: {_first_line(error)}") from None


def run_onnx(session: Any, images: Tensor) -> Tensor:
    """Return the file's one output for images [batch, 3, H, W] on the CPU.

    Raises:
        UserError: the images do not have the file's size.
    """
    try:
        (found,) = session.run(None, {session.get_inputs()[0].name: images.numpy()})
    except Exception as error:
        raise MisfitError(f"ONNX Runtime cannot run the file on {list(images.shape)}: {_first_line(error)}") from None
    result: Tensor = torch.from_numpy(found)
    return result


@contextmanager
def _telling(what: str) -> Iterator[None]:
    """Report any error of torch's exporters (they have no common type) as a UserError, and silence their notes."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except (UserError, OSError, MemoryError):
        raise
    except Exception as error:
        raise MisfitError(f"the network cannot be {what}: {_first_line(error)}") from error
    finally:
        logger.setLevel(level)


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)

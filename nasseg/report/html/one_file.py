"""The parts of a self-contained page: a template, packed blocks, and a policy that blocks the browser's requests."""

import base64
import gzip
import hashlib
import io
import json
from collections.abc import Iterable
from functools import cache
from itertools import islice
from pathlib import Path
from string import Template
from typing import Any

from plotly.offline import get_plotlyjs
from pydantic_core import PydanticSerializationError, to_json

from nasseg.report.html.markup import text

_WEB = Path(__file__).parents[1] / "web"  # templates, styles and scripts


def resource(name: str) -> str:
    """Read a file of report/web."""
    return (_WEB / name).read_text(encoding="utf-8")


def scripts_in(folder: str) -> list[str]:
    """Return the names of the scripts in a folder of report/web."""
    return [f"{folder}/{path.name}" for path in sorted((_WEB / folder).glob("*.js"))]


def fill(template: str, **parts: str) -> str:
    """Fill a template of this package. Parts that are not `Html` are escaped."""
    return Template(resource(template)).substitute({key: text(part) for key, part in parts.items()})


def packed(content: str) -> str:
    """Compress text to a block that a script unpacks. Base64 cannot end the script element."""
    return base64.b64encode(gzip.compress(content.encode(), 6, mtime=0)).decode()


def packed_list(items: Iterable[Any]) -> str:
    """Return a block with a list as JSON, made a few items at a time: all of them may take a hundred megabytes."""
    block, left, between = io.BytesIO(), iter(items), "["
    with gzip.GzipFile(fileobj=block, mode="wb", compresslevel=6, mtime=0) as file:
        while some := list(islice(left, 100)):
            file.write(f"{between}{_json(some)[1:-1]}".encode())
            between = ","
        file.write(b"[]" if between == "[" else b"]")
    return base64.b64encode(block.getvalue()).decode()


def packed_json(value: Any) -> str:
    return packed(_json(value))


_ENCODER = json.JSONEncoder(allow_nan=False, separators=(",", ":"), check_circular=False)


def _json(value: Any) -> str:
    """Return plain data as JSON. pydantic's writer is three times as fast as the standard library's.

    Raises:
        ValueError: a number is not finite.
    """
    try:
        text = to_json(value, inf_nan_mode="constants").decode()
    except PydanticSerializationError:  # such as a name that is no Unicode
        return _ENCODER.encode(value)
    # A word, or a number that JSON does not have: the standard library tells them apart.
    return _ENCODER.encode(value) if "NaN" in text or "Infinity" in text else text


@cache
def library() -> tuple[str, str]:
    """Return plotly.js as a packed block, and the text to hash for the policy."""
    code = get_plotlyjs()
    return packed(code), code


def policy(*scripts: str | None) -> str:
    """Return a content security policy: no requests, and only these scripts. None: one in a file beside the page."""

    def source(script: str | None) -> str:
        if script is None:
            return "'self' file:"
        return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"

    allowed = " ".join(map(source, scripts))
    style, image = "style-src 'unsafe-inline'", "img-src data: blob:"
    return f"default-src 'none'; script-src {allowed}; {style}; {image}; base-uri 'none'; form-action 'none'"

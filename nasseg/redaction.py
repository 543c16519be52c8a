"""Make foreign text safe to show: no passwords of URLs, no escape sequences, no spreadsheet formulas.

Every outlet (messages, records, reports, the terminal, CSV) calls `redact`, `shown` or `cell`. A password is what
SQLAlchemy or fsspec reads as one in a URL given to this process (`keep_secret`), and whatever looks like one.
"""

import re
from collections.abc import Iterable
from contextlib import suppress
from functools import partial
from json import dumps
from shlex import join
from urllib.parse import parse_qsl, quote, quote_plus, unquote, unquote_plus

HIDDEN = "***"
_SHORTEST = 3  # shortest text that is hidden wherever it occurs: a shorter one would hide parts of many words
_NAMES = r"(?<![\w-])[\w-]*(?:password|passwd|pwd|passphrase|secret|token|api_?key|access_?key)[\w-]*"
_NAME = re.compile(_NAMES, re.IGNORECASE)
_PAIR = re.compile(rf"({_NAMES}[\"']?\s*[=:]\s*)('[^']*'|\"[^\"]*\"|[^\s&#'\",;}}]+)", re.IGNORECASE)
_URL = re.compile(r"((?<![\w+.-])[A-Za-z][\w+.-]*://[^:/?#\s]*):\S*@")
_CONTROL = re.compile(  # and characters that reverse the direction of writing
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)
_FORMULA = re.compile(r"^[=+\-@\t\r]")
_secrets: dict[str, re.Pattern[str]] = {}


def keep_secret(url: str) -> None:
    """Remember the passwords of a URL as secrets of this process, in each way of writing them.

    Parts of them, too: another parser may take part of a password with @ or / for a host or a port, and print it.
    """
    ways = (unquote, unquote_plus, quote, quote_plus, partial(quote, safe=""), repr, dumps)
    for secret in _in_url(url):
        read = {secret, unquote(secret), unquote_plus(secret)}
        forms = read | {way(form).strip("'\"") for form in read for way in ways}
        parts = {part for whole in forms for part in re.split(r"[@/:?#&\s]", whole)}
        for form in forms | parts:
            if len(form) >= _SHORTEST and form != HIDDEN:
                # A password that also begins a word does not hide part of the word: postgres, postgresql.
                start, end = (r"(?<![^\W_])" * form[0].isalnum(), r"(?![^\W_])" * form[-1].isalnum())
                _secrets[form] = re.compile(start + re.escape(form) + end)


def _in_url(url: str) -> set[str]:
    _, there, rest = url.partition("://")
    if not there:
        return set()
    found = {rest.rpartition("@")[0].partition(":")[2], *_values(rest.partition("?")[2])}
    with suppress(Exception):  # not a database URL
        from sqlalchemy.engine import make_url  # slow to import

        parsed = make_url(url)
        found |= {str(parsed.password or ""), *(str(v) for k, v in parsed.query.items() if _NAME.fullmatch(k))}
    with suppress(Exception):  # not a file system URL
        from fsspec.utils import infer_storage_options

        found |= {str(value) for key, value in infer_storage_options(url).items() if _NAME.fullmatch(key)}
    return found - {""}


def _values(query: str) -> Iterable[str]:
    raw = (part.partition("=") for part in query.partition("#")[0].split("&"))
    yield from (value for name, _, value in raw if _NAME.fullmatch(name))
    yield from (value for name, value in parse_qsl(query) if _NAME.fullmatch(name))


def redact(text: str) -> str:
    """Return the text with *** in place of passwords."""
    for secret in sorted(_secrets, key=len, reverse=True):
        text = _secrets[secret].sub(HIDDEN, text)
    text = _URL.sub(rf"\1:{HIDDEN}@", text)
    return _PAIR.sub(rf"\1{HIDDEN}", text)


def redact_all(value: object) -> object:
    """Return plain data with every text in it redacted."""
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, dict):
        return {key: redact_all(item) for key, item in value.items()}
    return [redact_all(item) for item in value] if isinstance(value, list | tuple) else value


def command_line(words: Iterable[str]) -> str:
    """Return a command without passwords. From now on, those of its URLs are hidden everywhere."""
    listed = list(words)
    for word in listed:
        keep_secret(word.partition("=")[2] if word.startswith("--") and "=" in word else word)
    return join([redact(word) for word in listed])


def shown(text: object) -> str:
    """Return foreign text for a terminal: without passwords, and with escape sequences spelled out."""
    return _CONTROL.sub(lambda match: match[0].encode("unicode_escape", "surrogatepass").decode(), redact(str(text)))


def cell(value: object) -> object:
    """Return a value for a CSV cell: text that a spreadsheet would run gets an apostrophe in front."""
    if not isinstance(value, str):
        return value
    return f"'{shown(value)}" if _FORMULA.match(value) else shown(value)

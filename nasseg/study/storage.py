"""Opening Optuna storages, and keeping their passwords out of everything that is printed or stored."""

import json
import re
import time
from pathlib import Path
from typing import Any

import optuna
from optuna.exceptions import OptunaError
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.storages.journal._file import get_lock_file
from sqlalchemy.exc import ArgumentError, IntegrityError, OperationalError, ProgrammingError, SQLAlchemyError

from nasseg.errors import UserError

SQLITE_TIMEOUT_S = 60
TABLE_ATTEMPTS = 25
optuna.logging.set_verbosity(optuna.logging.ERROR)  # its notes on every study and trial are not a user's
_POSTGRESQL = re.compile("^postgres(ql)?://")  # what this means without a driver differs between SQLAlchemy's versions
_JOURNAL_SUFFIXES = (".log", ".journal")


def default_url(study: str) -> str:
    """Where a study is kept unless the user says otherwise: an SQLite file of its own under ./runs."""
    return f"sqlite:///{runs_folder(study) / 'study.db'}"


def runs_folder(study: str) -> Path:
    """The folder of a study's files; siblings, `<name>@<purpose>`, live in their study's."""
    return Path("runs") / study.partition("@")[0]


def redact(text: str) -> str:
    """The text with passwords of URLs in it replaced by ***."""
    text = re.sub(r"([?&](?:ssl)?password=)[^&#\s'\"]*", r"\1***", text)
    return re.sub(r"(\w+://[^:/?#@\s]*):[^@/\s]*@", r"\1:***@", text)


def is_there(url: str) -> bool:
    """Whether there is a storage behind a URL; a server counts as one."""
    path = _local_path(url)
    return path is None or path.exists()


def is_local(url: str) -> bool:
    """Whether a storage is a file, which only processes of one machine may share."""
    return _local_path(url) is not None


def open_storage(url: str, *, create: bool) -> BaseStorage:
    """The storage behind any Optuna URL, or behind the path of a journal (.log, .journal).

    Raises:
        UserError: it cannot be opened; or `create` is False and there is none yet.
    """
    path = _local_path(url)
    if path is not None:
        if create:
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise UserError(
                    f"cannot make the folder of {path}: {error}; use --storage to keep the study elsewhere"
                ) from None
        elif not path.exists():
            raise UserError(f"no study is stored in {path} yet; run `nasseg search` first, or name another --storage")
    try:
        if path is not None and not url.startswith("sqlite:"):
            opened: BaseStorage = JournalStorage(_Journal(path))
        else:
            options = {"connect_args": {"timeout": SQLITE_TIMEOUT_S}} if path else {"pool_pre_ping": True}
            opened = _open_database(_POSTGRESQL.sub("postgresql+psycopg://", url), options)
        opened.get_all_studies()  # what is no storage of Optuna's shows when it is read
        return opened
    except (OptunaError, SQLAlchemyError, ArgumentError, ImportError, OSError, ValueError, LookupError) as error:
        reason = redact(str(error.__cause__ or error).splitlines()[0])
        hint = "check the URL, the server or the permissions"
        if isinstance(error, ImportError):
            postgres = "pip install 'nasseg[postgresql]'"
            hint = f"install the driver: {postgres if 'psycopg' in reason else 'see the documentation of SQLAlchemy'}"
        raise UserError(f"cannot open storage {redact(url)}: {reason}; {hint}") from None


class _Journal(JournalFileBackend):
    """A journal without torn lines: what a full disk or a kill cut off was never said, and must not spoil what follows.

    Raises:
        ValueError: the file is something else.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(str(path.resolve()))  # a relative path with a folder hangs on a stale lock
        with path.open("rb") as file:
            first = file.readline()
        if first.endswith(b"\n") and "op_code" not in json.loads(first):
            raise ValueError("it is no journal of Optuna's")
        self._drop_torn_line()

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        try:
            super().append_logs(logs)
        except OSError:
            self._drop_torn_line()
            raise

    def _drop_torn_line(self) -> None:
        with get_lock_file(self._lock), open(self._file_path, "rb+") as file:
            content = file.read()
            if not content.endswith(b"\n"):
                file.truncate(content.rfind(b"\n") + 1)


def _open_database(url: str, options: dict[str, Any]) -> RDBStorage:
    """A database, whose tables another process may be making at this moment: then they are there a little later."""
    for _ in range(TABLE_ATTEMPTS - 1):
        try:
            return RDBStorage(url, engine_kwargs=options)
        except (IntegrityError, OperationalError, ProgrammingError) as error:
            if not isinstance(error, IntegrityError) and "already exists" not in str(error):
                raise
            time.sleep(0.2)
    return RDBStorage(url, engine_kwargs=options)


def _local_path(url: str) -> Path | None:
    """The file behind an SQLite URL or a journal; None for a server."""
    if url.startswith("sqlite:///"):
        return Path(url.removeprefix("sqlite:///"))
    if "://" not in url:
        if not url.endswith(_JOURNAL_SUFFIXES):
            raise UserError(
                f"a storage is a URL (sqlite:///study.db) or a journal file (*.log, *.journal), got {redact(url)!r}"
            )
        return Path(url)
    return None

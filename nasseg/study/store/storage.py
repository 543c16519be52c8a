"""Open Optuna storages: SQLite files, journals and servers. Optuna is imported only when a storage is opened."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nasseg.errors import UserError
from nasseg.files import below
from nasseg.processes.sqlite_lock import PatientConnection
from nasseg.redaction import keep_secret

if TYPE_CHECKING:
    from optuna.storages import BaseStorage, RDBStorage

# A URL without a driver means different drivers in different versions of SQLAlchemy.
_POSTGRESQL = re.compile("^postgres(ql)?://")
LARGE = 20_000_000  # bytes, about 5,000 trials
_JOURNAL_SUFFIXES = (".log", ".journal")


@contextmanager
def quiet_optuna() -> Iterator[None]:
    """Silence Optuna's notes, which are not for users; restore its log level afterwards."""
    import optuna

    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)


RUNS = Path("runs")


def default_url(study: str) -> str:
    """Return the default storage of a study: its own SQLite file under ./runs."""
    return f"sqlite:///{runs_folder(study) / 'study.db'}"


def runs_folder(study: str) -> Path:
    """Return the folder of a study's files; siblings, `<name>@<purpose>`, share their study's.

    Raises:
        UserError: the name leads elsewhere.
    """
    return below(RUNS, study.partition("@")[0])


TABLE_RUNS = RUNS / "tables"  # trainings of tables' rows, which tables share


@contextmanager
def storage_faults(url: str = "") -> Iterator[None]:
    """Report a storage's errors as user errors. url: of the storage, if known.

    Raises:
        UserError: the storage failed.
    """
    from optuna.exceptions import StorageInternalError
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except BrokenPipeError:  # from the reader of our output
        raise
    except (StorageInternalError, SQLAlchemyError, OSError) as error:
        which = f"storage {url}" if url else "the storage"
        raise UserError(
            f"{which} failed: {_reason(error)}; nothing stored is lost: fix it and run the same command again"
        ) from None


def _reason(error: BaseException) -> str:
    return (str(error.__cause__ or error) or type(error).__name__).splitlines()[0]


def is_there(url: str) -> bool:
    """Return whether there is a storage behind a URL. A server always counts."""
    path = _local_path(url)
    return path is None or path.exists()


def is_local(url: str) -> bool:
    """Return whether a storage is a file, which only processes of one machine may share."""
    return _local_path(url) is not None


def journal_path(url: str) -> Path | None:
    """Return the journal behind a URL; None for another storage."""
    return None if url.startswith("sqlite:") else _local_path(url)


def sqlite_path(url: str) -> Path | None:
    """Return the SQLite file behind a URL; None for another storage."""
    return _local_path(url) if url.startswith("sqlite:") else None


def large(url: str) -> int:
    """Return the bytes of a storage that takes seconds to read; 0 for a smaller one, and for a server."""
    path = _local_path(url)
    size = path.stat().st_size if path and path.is_file() else 0
    return size if size > LARGE else 0


def open_storage(url: str, *, create: bool) -> "BaseStorage":
    """Open the storage behind an Optuna URL or the path of a journal (.log, .journal).

    Raises:
        UserError: it cannot be opened, or it does not exist and `create` is False.
    """
    from optuna.exceptions import OptunaError
    from sqlalchemy.exc import ArgumentError, SQLAlchemyError

    from nasseg.study.store.database import open_database, open_journal

    keep_secret(url)
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
        if path is not None and journal_path(url):
            opened: BaseStorage = open_journal(path)
        elif path is not None:
            opened = open_database(url, {"connect_args": {"factory": PatientConnection}})
        else:
            opened = _open_server(_POSTGRESQL.sub("postgresql+psycopg://", url))
        opened.get_all_studies()  # fails unless it is one of Optuna's storages
        return opened
    except (OptunaError, SQLAlchemyError, ArgumentError, ImportError, OSError, ValueError, LookupError) as error:
        reason = _reason(error)
        hint = "check the URL, the server or the permissions"
        if isinstance(error, ImportError):
            postgres = "pip install 'nasseg[postgresql]'"
            hint = f"install the driver: {postgres if 'psycopg' in reason else 'see the documentation of SQLAlchemy'}"
        raise UserError(f"cannot open storage {url}: {reason}; {hint}") from None


def _open_server(url: str) -> "RDBStorage":
    """Open a database on a server. A process that waits for another's lock in PostgreSQL says so."""
    from nasseg.processes.postgres_lock import client_name, tell_waits
    from nasseg.study.store.database import open_database

    options: dict[str, Any] = {"pool_pre_ping": True}
    if not url.startswith("postgresql+psycopg"):
        return open_database(url, options)
    opened = open_database(url, {**options, "connect_args": {"fallback_application_name": client_name()}})
    tell_waits(opened.engine)
    return opened


def disconnect(storage: "BaseStorage") -> None:
    """Close a storage's connections to its server, which allows about a hundred. The storage stays usable."""
    behind = getattr(storage, "_backend", storage)  # Optuna wraps databases in a cache
    if engine := getattr(behind, "engine", None):
        engine.dispose()


def _local_path(url: str) -> Path | None:
    """Return the file behind an SQLite URL or a journal's path; None for a server.

    Raises:
        UserError: it is neither a URL nor the path of a journal.
    """
    if url.startswith("sqlite:///"):
        return Path(url.removeprefix("sqlite:///"))
    if "://" not in url:
        if not url.endswith(_JOURNAL_SUFFIXES):
            raise UserError(
                f"a storage is a URL (sqlite:///study.db) or a journal file (*.log, *.journal), got {url!r}"
            )
        return Path(url)
    return None

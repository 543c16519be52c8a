"""Connections to SQLite files that report, after five seconds, whose lock they wait for."""

import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nasseg.processes.file_lock import to_stderr, user_of

TIMEOUT_SECONDS = 60.0  # then the wait ends with SQLite's error
TRY_SECONDS = 5.0


class PatientConnection(sqlite3.Connection):
    """A connection that waits for locks in attempts of some seconds, and reports the holder after the first."""

    def __init__(self, database: str | Path, **options: Any) -> None:
        super().__init__(database, timeout=TRY_SECONDS, **options)
        self._path = Path(database)

    def cursor(self, factory: Any = None) -> Any:
        return super().cursor(factory or _PatientCursor)

    def execute(self, *given: Any) -> Any:
        return self.cursor().execute(*given)

    def commit(self) -> None:
        self.patiently(super().commit)

    def patiently(self, call: Callable[..., Any], *given: Any) -> Any:
        """Call a function that may wait for a lock until it gets the lock.

        Raises:
            sqlite3.OperationalError: the database is locked for too long, or has another fault.
        """
        begun, told = time.monotonic(), False
        while True:
            tried = time.monotonic()
            try:
                return call(*given)
            except sqlite3.OperationalError as error:
                now, code = time.monotonic(), getattr(error, "sqlite_errorcode", 0)
                # SQLite gives up at once if waiting would never end: two processes that wait for each other.
                if code & 0xFF != sqlite3.SQLITE_BUSY or now - tried < TRY_SECONDS / 2:
                    raise
                if now - begun > TIMEOUT_SECONDS:
                    raise sqlite3.OperationalError(f"{error}: {user_of(self._path)}") from None
            if not told:
                to_stderr(f"waiting for the database {self._path}: {user_of(self._path)}")
                told = True


class _PatientCursor(sqlite3.Cursor):
    connection: PatientConnection

    def execute(self, *given: Any) -> "_PatientCursor":
        return self.connection.patiently(super().execute, *given)

    def executemany(self, *given: Any) -> "_PatientCursor":
        return self.connection.patiently(super().executemany, *given)

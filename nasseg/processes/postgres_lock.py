"""Report, after five seconds, who holds the lock that a statement to a PostgreSQL server waits for.

A process that is paused in a transaction keeps its rows locked, and all that write them wait as long.
"""

import os
import re
import socket
import time
from threading import Lock, Thread
from typing import Any

from sqlalchemy import Engine, ExceptionContext, NullPool, create_engine, event, text
from sqlalchemy.exc import SQLAlchemyError

from nasseg.processes import file_lock
from nasseg.processes.file_lock import clock, held_by, to_stderr

LOOK_SECONDS = 1.0
CONNECT_SECONDS = 5
_HOLDERS = text(
    "SELECT pid, application_name, client_addr::text, "
    "extract(epoch FROM clock_timestamp() - xact_start)::float AS seconds "
    "FROM pg_stat_activity WHERE pid = ANY(pg_blocking_pids(:waiting)) "
    "ORDER BY cardinality(pg_blocking_pids(pid)), xact_start LIMIT 1"  # the holder before others who wait for it
)


def client_name() -> str:
    """Return what the server calls this process, so that others can say who it is."""
    return f"nasseg {os.getpid()}@{socket.gethostname()}"


def tell_waits(engine: Engine) -> None:
    """Let an engine's statements say whom they wait for, after 5 s and each minute."""
    _Watch(engine)


class _Watch:
    """Watch the running statements, in a thread that lives while there are any."""

    def __init__(self, engine: Engine) -> None:
        self._url = engine.url
        # By connection: the server's process, and when to tell of it, by time.monotonic().
        self._running: dict[int, tuple[int, list[float]]] = {}
        self._lock, self._watched = Lock(), False
        event.listen(engine, "before_cursor_execute", self._begin)
        event.listen(engine, "after_cursor_execute", self._end)
        event.listen(engine, "handle_error", self._failed)

    def _begin(self, _connection: Any, cursor: Any, *_more: Any) -> None:
        with self._lock:
            due = [time.monotonic() + file_lock.FIRST_SECONDS]
            self._running[id(cursor.connection)] = cursor.connection.info.backend_pid, due
            if not self._watched:
                self._watched = True
                Thread(target=self._look, daemon=True).start()

    def _end(self, _connection: Any, cursor: Any, *_more: Any) -> None:
        self._running.pop(id(cursor.connection), None)

    def _failed(self, context: ExceptionContext) -> None:
        if context.execution_context is not None and context.execution_context.cursor is not None:
            self._end(None, context.execution_context.cursor)

    def _look(self) -> None:
        while True:
            time.sleep(LOOK_SECONDS)
            with self._lock:
                if not self._running:
                    self._watched = False
                    return
                running = list(self._running.values())
            for waiting, due in running:
                if time.monotonic() >= due[0] and (why := self._why(waiting)):
                    to_stderr(f"waiting for the database {self._url.database} on {self._url.host}: {why}")
                    due[0] = time.monotonic() + file_lock.AGAIN_SECONDS

    def _why(self, waiting: int) -> str:
        """Return who holds the lock that a process of the server waits for; empty if it waits for nobody."""
        options = {"connect_timeout": CONNECT_SECONDS, "fallback_application_name": client_name()}
        try:
            with create_engine(self._url, poolclass=NullPool, connect_args=options).connect() as connection:
                found = connection.execute(_HOLDERS, {"waiting": waiting}).first()
        except SQLAlchemyError as error:
            said = str(error.__cause__ or error).strip() or type(error).__name__
            return f"it does not answer: {said.splitlines()[0]}"
        if found is None:
            return ""
        since = time.time() - (found.seconds or 0.0)
        ours = re.fullmatch(r"nasseg (\d+)@(.*)", found.application_name or "")
        if ours and ours[2] == socket.gethostname():
            return held_by(int(ours[1]), since)
        who = f"process {ours[1]} on {ours[2]}" if ours else found.application_name or "a program"
        where = "" if ours else f" at {found.client_addr or 'the server'}"
        return f"{who}{where} has held it since {clock(since)} (the server's process {found.pid})"

"""Reports without an account anywhere: they go to a small SQLite file on the device."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

from ota_agent.errors import DeviceError, DiskFault, DiskFull
from ota_agent.model.report import Directives

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ota_agent.model.report import Report

MAX_EVENTS = 10_000
_BUSY_S = 10.0
_DAMAGED = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})

_SCHEMA = """
CREATE TABLE IF NOT EXISTS heartbeat(
  only INTEGER PRIMARY KEY CHECK (only = 1), device_id TEXT NOT NULL, epoch TEXT NOT NULL,
  body TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS events(
  number INTEGER PRIMARY KEY AUTOINCREMENT, epoch TEXT NOT NULL, sequence INTEGER NOT NULL,
  kind TEXT NOT NULL, at TEXT NOT NULL, body TEXT NOT NULL, UNIQUE(epoch, sequence));
"""


class LocalSink:
    """Implements `ports.StatusSink`: the last heartbeat, and the newest events, each once."""

    def __init__(
        self, file: Path, *, move_aside: Callable[[Path, Path], None], max_events: int = MAX_EVENTS
    ) -> None:
        """Nothing is touched yet; `file` is made when the first report comes.

        `move_aside` gives a damaged one another name, whatever had that before.
        """
        self._file = file
        self._move_aside = move_aside
        self._max_events = max_events

    def sync(self, report: Report) -> Directives:
        """Store a report; safe to repeat. A damaged file is set aside and begun anew.

        Raises:
            DeviceError: the file cannot be written.

        """
        try:
            return self._sync(report)
        except (sqlite3.Error, OSError) as error:
            if _code(error) not in _DAMAGED:
                raise _failure(self._file, error) from error
        for suffix in ("", "-journal"):
            damaged = self._file.with_name(self._file.name + suffix)
            if damaged.exists():
                aside = self._file.with_name(f"{self._file.name}.damaged{suffix}")
                self._move_aside(damaged, aside)
        try:
            return self._sync(report)
        except (sqlite3.Error, OSError) as error:
            raise _failure(self._file, error) from error

    def _sync(self, report: Report) -> Directives:
        # Opened for each report: minutes lie between two, and the agent keeps nothing open.
        with closing(sqlite3.connect(self._file, timeout=_BUSY_S)) as database:
            database.executescript(_SCHEMA)
            with database:
                return self._store(database, report)

    def _store(self, database: sqlite3.Connection, report: Report) -> Directives:
        database.execute(
            "INSERT OR REPLACE INTO heartbeat VALUES (1, ?, ?, ?)",
            (report.device_id, report.epoch, json.dumps(dict(report.heartbeat))),
        )
        database.executemany(
            "INSERT OR IGNORE INTO events(epoch, sequence, kind, at, body) VALUES (?, ?, ?, ?, ?)",
            [
                (report.epoch, e.sequence, e.kind, e.at.isoformat(), json.dumps(dict(e.body)))
                for e in report.events
            ],
        )
        database.execute(
            "DELETE FROM events WHERE number <= (SELECT max(number) FROM events) - ?",
            (self._max_events,),
        )
        highest = max((event.sequence for event in report.events), default=0)
        (stored,) = database.execute(
            "SELECT coalesce(max(sequence), 0) FROM events WHERE epoch = ?", (report.epoch,)
        ).fetchone()
        return Directives(max(highest, stored))


def _code(error: Exception) -> int:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def _failure(file: Path, error: Exception) -> DeviceError:
    message = f"The report cannot be stored in {file}: {error}."
    if _code(error) == sqlite3.SQLITE_FULL:
        return DiskFull(message)
    return DiskFault(message)

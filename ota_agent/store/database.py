"""state.db: one SQLite file that holds the journal, the history and all small records.

A transaction that returned is durable: WAL with synchronous=FULL keeps every commit over a power
cut (NORMAL loses the last ones). The live link stays the truth about what runs; a lost database
loses history, never the device.
"""

from __future__ import annotations

import json
import os
import sqlite3
import threading
import uuid
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ota_agent.errors import DatabaseBusy, DatabaseDamaged, DatabaseNewer, DiskFault, DiskFull
from ota_agent.store import atomic

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SCHEMA_VERSION = 1

_SCHEMA = """
CREATE TABLE IF NOT EXISTS state(key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS deployments(
  number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT UNIQUE, kind TEXT NOT NULL,
  commit_id TEXT NOT NULL, ref TEXT NOT NULL, tag_object TEXT, version TEXT, tree TEXT,
  release TEXT, from_release TEXT, from_previous TEXT,
  phase TEXT NOT NULL, last_phase TEXT NOT NULL,
  started_at TEXT NOT NULL, entered_at TEXT NOT NULL, finished_at TEXT,
  crashes INTEGER NOT NULL DEFAULT 0, clean_stop INTEGER NOT NULL DEFAULT 0,
  error TEXT, bytes_fetched INTEGER NOT NULL DEFAULT 0, notes TEXT NOT NULL DEFAULT '{}',
  open INTEGER);
CREATE UNIQUE INDEX IF NOT EXISTS one_in_flight ON deployments(open) WHERE open = 1;
CREATE TABLE IF NOT EXISTS releases(
  id TEXT PRIMARY KEY, commit_id TEXT NOT NULL, tree TEXT NOT NULL, version TEXT,
  manifest TEXT NOT NULL, files INTEGER NOT NULL, size_bytes INTEGER NOT NULL,
  staged_at TEXT NOT NULL, live_at TEXT, succeeded_at TEXT);
CREATE TABLE IF NOT EXISTS quarantine(
  tree TEXT PRIMARY KEY, release TEXT NOT NULL, commits TEXT NOT NULL, code TEXT NOT NULL,
  message TEXT NOT NULL, at TEXT NOT NULL, attempts INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS attempts(
  tree TEXT PRIMARY KEY, crashes INTEGER NOT NULL, not_before TEXT);
CREATE TABLE IF NOT EXISTS failures(
  commit_id TEXT PRIMARY KEY, count INTEGER NOT NULL, not_before TEXT,
  wasted_bytes INTEGER NOT NULL, code TEXT NOT NULL, free_bytes INTEGER);
CREATE TABLE IF NOT EXISTS marks(
  project TEXT NOT NULL, channel TEXT NOT NULL, commit_id TEXT NOT NULL, version TEXT,
  PRIMARY KEY(project, channel));
CREATE TABLE IF NOT EXISTS facts(commit_id TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS outbox(
  sequence INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT NOT NULL, at TEXT NOT NULL,
  body TEXT NOT NULL, terminal INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS mailbox(
  id INTEGER PRIMARY KEY AUTOINCREMENT, ask TEXT NOT NULL, args TEXT NOT NULL,
  asked_by TEXT NOT NULL, asked_at TEXT NOT NULL, taken INTEGER NOT NULL DEFAULT 0,
  outcome TEXT);
CREATE TABLE IF NOT EXISTS inodes(
  ino INTEGER PRIMARY KEY, object TEXT NOT NULL, size_bytes INTEGER NOT NULL,
  mtime_ns INTEGER NOT NULL, ctime_ns INTEGER NOT NULL);
"""

BUSY_TIMEOUT_S = 10.0

_DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
_PRIMARY_CODE_MASK = 0xFF  # an extended result code keeps the primary one in its low byte


class Database:
    """One connection for all threads of the agent, used under one lock."""

    def __init__(
        self,
        file: Path,
        connection: sqlite3.Connection,
        *,
        was_lost: bool = False,
        may_write: bool = True,
    ) -> None:
        """Use `Database.open` or `Database.read`."""
        self.file = file
        self.was_lost = was_lost
        self.may_write = may_write
        self._connection = connection
        self._lock = threading.RLock()

    @classmethod
    def open(cls, file: Path, *, may_set_aside: bool = False) -> Database:
        """Open or create the database.

        With `may_set_aside`, for the one who holds the agent's lock, a damaged one is set aside as
        `state.db.damaged`, and `was_lost` says so.

        Raises:
            DatabaseNewer: it was written by a newer agent; it is left untouched.
            DiskFull, DiskFault: the disk refused, or the database is damaged.

        """
        was_lost = False
        with _disk_errors(file):
            try:
                connection = _connect(file)
            except sqlite3.DatabaseError as error:
                # Of a full, read-only or busy one nothing is lost: that passes.
                if _code(error) not in _DAMAGED or not may_set_aside:
                    raise
                for suffix in ("", "-wal", "-shm"):
                    damaged = file.with_name(file.name + suffix)
                    if damaged.exists():
                        atomic.rename(
                            damaged, file.with_name(f"{file.name}.damaged{suffix}"), replace=True
                        )
                connection = _connect(file)
                was_lost = True
        return cls(file, connection, was_lost=was_lost)

    @classmethod
    def read(cls, file: Path) -> Database:
        """Open the database that is there for reading alone, beside an agent or without one.

        On a read-only file system the last transactions before a power cut may be missing.

        Raises:
            DatabaseNewer: it was written by a newer agent.
            DiskFault: it cannot be read, or is damaged.

        """
        with _disk_errors(file):
            try:
                connection = _connect_to_read(file, "mode=ro")
            except sqlite3.OperationalError:
                # The write-ahead log wants files beside it, which cannot be made there.
                if not _is_on_read_only(file):
                    raise
                connection = _connect_to_read(file, "mode=ro&immutable=1")
        return cls(file, connection, may_write=False)

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Everything inside happens or nothing, and is durable when this returns."""
        with self._lock, _disk_errors(self.file):
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                # SQLite itself rolls back on some errors (disk full): a second one would mask them.
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    def rows(self, sql: str, *parameters: object) -> list[sqlite3.Row]:
        """Read; sees the last finished transaction."""
        with self._lock, _disk_errors(self.file):
            return self._connection.execute(sql, parameters).fetchall()

    def get(self, key: str, default: Any = None) -> Any:  # noqa: ANN401 - JSON values
        """Read one small JSON value."""
        rows = self.rows("SELECT value FROM state WHERE key = ?", key)
        return json.loads(rows[0]["value"]) if rows else default

    def put(self, key: str, value: object) -> None:
        """Write one small JSON value; None removes it."""
        with self.transaction() as transaction:
            if value is None:
                transaction.execute("DELETE FROM state WHERE key = ?", (key,))
            else:
                transaction.execute(
                    "INSERT OR REPLACE INTO state VALUES(?, ?)", (key, json.dumps(value))
                )

    @property
    def changes(self) -> int:
        """How many rows this process has written: the same number, the same picture."""
        return self._connection.total_changes

    @property
    def epoch(self) -> str:
        """UUID of this database's life."""
        return str(self.get("epoch"))

    def close(self) -> None:
        """Close; the write-ahead log is folded in."""
        with self._lock:
            self._connection.close()


def _connect(file: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(
        file,
        timeout=BUSY_TIMEOUT_S,
        isolation_level=None,
        check_same_thread=False,
        cached_statements=256,
    )
    try:
        connection.row_factory = sqlite3.Row
        version = _checked_version(file, connection)
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA journal_size_limit=4194304")
        if version == 0:
            # Another process may be at it too: whoever comes second finds it done.
            connection.executescript(
                f"BEGIN IMMEDIATE;{_SCHEMA}"
                f"INSERT OR IGNORE INTO state VALUES('epoch', '\"{uuid.uuid4()}\"');"
                f"PRAGMA user_version={SCHEMA_VERSION};COMMIT;"
            )
    except BaseException:
        connection.close()
        raise
    return connection


def _connect_to_read(file: Path, how: str) -> sqlite3.Connection:
    connection = sqlite3.connect(
        f"{file.as_uri()}?{how}", timeout=BUSY_TIMEOUT_S, isolation_level=None, uri=True
    )
    try:
        if _checked_version(file, connection) == 0:
            # A first start was cut short before there was anything to read.
            connection.close()
            connection = sqlite3.connect(":memory:", isolation_level=None)
            connection.executescript(_SCHEMA)
        connection.row_factory = sqlite3.Row
    except BaseException:
        connection.close()
        raise
    return connection


def _is_on_read_only(file: Path) -> bool:
    try:
        return bool(os.statvfs(file).f_flag & os.ST_RDONLY)
    except OSError:
        return False


def _checked_version(file: Path, connection: sqlite3.Connection) -> int:
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    if version > SCHEMA_VERSION:
        raise DatabaseNewer(
            f"{file} was written by a newer ota-agent (schema {version},"
            f" this one knows {SCHEMA_VERSION})"
        )
    if connection.execute("PRAGMA quick_check(1)").fetchone()[0] != "ok":
        malformed = sqlite3.DatabaseError("malformed")
        malformed.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
        raise malformed
    return version


def is_full(error: sqlite3.Error) -> bool:
    """Tell whether SQLite failed for want of space, be it for the files beside the database."""
    extended = getattr(error, "sqlite_errorcode", 0)
    return _code(error) == sqlite3.SQLITE_FULL or extended == sqlite3.SQLITE_IOERR_SHMSIZE


def _code(error: sqlite3.Error) -> int:
    return getattr(error, "sqlite_errorcode", 0) & _PRIMARY_CODE_MASK


@contextmanager
def _disk_errors(file: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        if is_full(error):
            message = f"no space left for {file}"
            raise DiskFull(message) from error
        message = f"the database {file} cannot be used: {error}"
        if _code(error) in _DAMAGED:
            raise DatabaseDamaged(message) from error
        if _code(error) in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
            raise DatabaseBusy(message) from error
        raise DiskFault(message) from error

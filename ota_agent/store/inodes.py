"""One record for each file of a sealed tree: which object an inode held when the agent last looked.

Trees share inodes, so a file edited in place changes in every release that has it. The record tells
that without reading: size, mtime and ctime as they were read back after the agent's own change. Any
write, chmod or chown moves the ctime, which no program can set; so do the agent's own links and
unlinks, which therefore go through here. A mismatch is only a suspicion, to be settled by reading.

(An edit of the same size within one tick of the kernel's clock, 4 ms before Linux 6.13, after the
agent's own change cannot be seen this way.)
"""

from __future__ import annotations

import os
import stat
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from ota_agent.errors import DeviceError
from ota_agent.store import blobs
from ota_agent.store.layout import ST_MODES

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterator

    from ota_agent.model.tree import Entry
    from ota_agent.store.database import Database


# ino, object, size_bytes, mtime_ns, ctime_ns: a row of the table. Plain, as there is one a file.
Record: TypeAlias = tuple[int, str, int, int, int]


class Match(NamedTuple):
    """A file that is what it should be.

    Attributes:
        found: how it looked when it was.
        is_known: its record said so; else it was read, and may not be durable yet.

    """

    found: os.stat_result
    is_known: bool


class Inodes:
    """The records in memory; `save` writes what changed as one transaction."""

    def __init__(self, database: Database) -> None:
        """Read the records."""
        self._database = database
        rows = database.rows("SELECT ino, object, size_bytes, mtime_ns, ctime_ns FROM inodes")
        self._records: dict[int, Record] = {row["ino"]: tuple(row) for row in rows}
        self._changed: set[int] = set()
        self._user = os.geteuid()

    def object_of(self, found: os.stat_result) -> str | None:
        """Give what the file is known to hold; None when it has to be read to know."""
        record = self._records.get(found.st_ino)
        if record is None or record != _record_of(found, record[1]):
            return None
        return record[1]

    def note(self, found: os.stat_result, oid: str) -> None:
        """Record that the file, as it looks now, holds the object."""
        self._records[found.st_ino] = _record_of(found, oid)
        self._changed.add(found.st_ino)

    def forget(self, ino: int) -> None:
        """Drop the record of an inode that is gone."""
        if self._records.pop(ino, None) is not None:
            self._changed.add(ino)

    def forget_others(self, existing: Container[int]) -> None:
        """Drop the records of all inodes but these."""
        for ino in [ino for ino in self._records if ino not in existing]:
            self.forget(ino)

    def link(self, source: str, found: os.stat_result, link: str) -> os.stat_result | None:
        """Give a file one more name; None when it changed since it looked like `found`.

        Linking moves the ctime: what is returned is for the caller to `note`. Raises OSError where
        the file cannot be linked.
        """
        os.link(source, link, follow_symlinks=False)
        linked = os.lstat(link)
        if _content_of(linked) != _content_of(found):
            os.unlink(link)
            return None
        return linked

    def unlink(self, path: str) -> None:
        """Remove a file or link. Unlinking moves the ctime for its other names: so the record."""
        before = os.lstat(path)
        if before.st_nlink == 1 or not stat.S_ISREG(before.st_mode):
            os.unlink(path)
            self.forget(before.st_ino)
            return
        # Holds the inode, whose other names are not known here.
        descriptor = os.open(path, os.O_PATH | os.O_NOFOLLOW)
        try:
            oid = self.object_of(os.fstat(descriptor))
            os.unlink(path)
            after = os.fstat(descriptor)
        finally:
            os.close(descriptor)
        if oid is not None and _content_of(after) == _content_of(before):
            self.note(after, oid)

    def is_untouched(self, found: os.stat_result, entry: Entry) -> bool:
        """Tell from its record alone that a file is what the entry says; False: maybe not."""
        return (
            self._records.get(found.st_ino) == _record_of(found, entry.oid)
            and found.st_size == entry.size_bytes
            and found.st_mode == ST_MODES[entry.mode]
            and found.st_uid == self._user
        )

    def match(
        self, path: str, found: os.stat_result, entry: Entry, advance: Callable[[int], None]
    ) -> Match | None:
        """Tell whether a file is what the entry says, content and permissions; None when not.

        The file is read when its record does not tell. It is for the caller to `note` it then, once
        its content is durable.
        """
        if self.is_untouched(found, entry):
            return Match(found, is_known=True)
        if (
            found.st_mode != ST_MODES[entry.mode]
            or found.st_size != entry.size_bytes
            or found.st_uid != self._user
            or self.object_of(found) is not None  # it is known to hold another one
        ):
            return None
        oid, after = blobs.oid_on_disk(path, entry.oid, advance)
        if oid != entry.oid or _identity_of(after) != _identity_of(found):
            return None
        return Match(after, is_known=False)

    def save(self) -> None:
        """Write what changed; durable when this returns. Who may only read has noted in vain."""
        if not self._changed or not self._database.may_write:
            return
        kept = [self._records[ino] for ino in self._changed if ino in self._records]
        gone = [(ino,) for ino in self._changed if ino not in self._records]
        with self._database.transaction() as transaction:
            transaction.executemany("DELETE FROM inodes WHERE ino = ?", gone)
            transaction.executemany("REPLACE INTO inodes VALUES(?, ?, ?, ?, ?)", kept)
        self._changed.clear()


@contextmanager
def opened(database: Database) -> Iterator[Inodes]:
    """Give the records, and save them at the end of the block, however it ends."""
    inodes = Inodes(database)
    try:
        yield inodes
    except BaseException:
        # What the agent's own links did to shared inodes stays known: else the next start would
        # read every file of the live tree. The first failure is the one to tell.
        with suppress(DeviceError):
            inodes.save()
        raise
    inodes.save()


def _record_of(found: os.stat_result, oid: str) -> Record:
    return found.st_ino, oid, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _content_of(found: os.stat_result) -> tuple[int, int, int]:
    return found.st_ino, found.st_size, found.st_mtime_ns


def _identity_of(found: os.stat_result) -> tuple[int, int, int]:
    return found.st_ino, found.st_mode, found.st_uid

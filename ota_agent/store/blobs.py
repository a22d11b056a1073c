"""Git's hash of a file's content, taken while it is read or written."""

from __future__ import annotations

import hashlib
import os
import stat
from typing import IO, TYPE_CHECKING

from ota_agent.errors import StoreDamaged

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ota_agent.model.tree import Entry

CHUNK_BYTES = 256 * 1024

_SHA256_DIGITS = 64


class BlobHash:
    """The hash of one content of known size, in the object format that an id shows."""

    def __init__(self, oid: str, size_bytes: int) -> None:
        """`oid` is any id of the repository: 40 digits are SHA-1, 64 are SHA-256."""
        # SHA-1 names objects, as git has it; who may publish is decided by signatures.
        self._hash = (
            hashlib.sha256() if len(oid) == _SHA256_DIGITS else hashlib.sha1(usedforsecurity=False)
        )
        self._hash.update(b"blob %d\0" % size_bytes)

    def update(self, data: bytes) -> None:
        """Take the next part of the content."""
        self._hash.update(data)

    def oid(self) -> str:
        """Give the id of what was taken so far."""
        return self._hash.hexdigest()


def oid_of(data: bytes, like: str) -> str:
    """Give the id of a whole content, in the object format of `like`."""
    blob = BlobHash(like, len(data))
    blob.update(data)
    return blob.oid()


def copy(
    stream: IO[bytes],
    entry: Entry,
    write: Callable[[bytes], object],
    advance: Callable[[int], None],
) -> None:
    """Hand the content of `entry` to `write` in parts, and each part's length to `advance`.

    Raises StoreDamaged, after the last part, when it is not what the entry says.
    """
    blob = BlobHash(entry.oid, entry.size_bytes)
    size = 0
    while part := stream.read(CHUNK_BYTES):
        size += len(part)
        blob.update(part)
        write(part)
        advance(len(part))
    if size != entry.size_bytes or blob.oid() != entry.oid:
        raise StoreDamaged(f"The object store gave wrong content for {entry.path}.")


def read_whole(stream: IO[bytes], entry: Entry) -> bytes:
    """Read the content of a small entry; raises StoreDamaged when it is not what it should be."""
    parts: list[bytes] = []
    copy(stream, entry, parts.append, lambda _: None)
    return b"".join(parts)


def write_new(
    file: Path, stream: IO[bytes], entry: Entry, mode: int, advance: Callable[[int], None]
) -> os.stat_result:
    """Write the content of an entry where nothing is yet; not durable, see `atomic.sync_tree`.

    Raises StoreDamaged when the content is not what the entry says.
    """
    with file.open("xb") as output:
        copy(stream, entry, output.write, advance)
        output.flush()
        os.fchmod(output.fileno(), stat.S_IMODE(mode))
        return os.fstat(output.fileno())


def target_of(link: str, entry: Entry) -> str | None:
    """Give where a symbolic link points, if it is there and is what the entry says."""
    try:
        target = os.readlink(link)
    except OSError:  # nothing there, or no link
        return None
    return target if oid_of(os.fsencode(target), entry.oid) == entry.oid else None


def oid_on_disk(path: str, like: str, advance: Callable[[int], None]) -> tuple[str, os.stat_result]:
    """Read a regular file and give its id with the metadata that belong to exactly this content.

    The id is empty when the file changed while it was read. The metadata are those after reading.
    """
    # What is now a named pipe, and was a file a moment ago, must not hold the agent up.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        before = os.fstat(descriptor)
        blob = BlobHash(like, before.st_size)
        while part := os.read(descriptor, CHUNK_BYTES):
            blob.update(part)
            advance(len(part))
        after = os.fstat(descriptor)
    finally:
        os.close(descriptor)
    if (before.st_size, before.st_ctime_ns) != (after.st_size, after.st_ctime_ns):
        return "", after
    return blob.oid(), after

"""Keeps what somebody edited in a release's tree, as a patch that `git apply` understands."""

from __future__ import annotations

import difflib
import os
import stat
from pathlib import Path
from typing import IO, TYPE_CHECKING

from ota_agent.model.tree import MODE_EXECUTABLE, MODE_FILE
from ota_agent.store import atomic, blobs
from ota_agent.store.layout import is_symlink

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ota_agent.model.tree import Entry
    from ota_agent.ports import ObjectStore, Progress
    from ota_agent.store.layout import Layout
    from ota_agent.store.scan import Drift

PATCH_MAX_BYTES = 1024 * 1024
# Comparing takes time that grows with the square of the length, at worst.
COMPARED_MAX_BYTES = 256 * 1024


def local_changes(
    tree: Path, drift: Drift, layout: Layout, objects: ObjectStore, progress: Progress
) -> bytes:
    """Describe changed and missing files as a patch from the release to what is on disk.

    Text is told line by line, what is binary or large by its hash and size; the rest, what was
    added too, is only named. At most `PATCH_MAX_BYTES`, and then it says that it is cut; empty
    without drift.
    """
    parts: list[bytes] = []
    size = 0
    for part in _parts(tree, drift, layout, objects, progress):
        if size + len(part) > PATCH_MAX_BYTES:
            parts.append(b"# This is not all: the changes are larger than is kept.\n")
            break
        parts.append(part)
        size += len(part)
    return b"".join(parts)


def _parts(
    tree: Path, drift: Drift, layout: Layout, objects: ObjectStore, progress: Progress
) -> Iterator[bytes]:
    for path in drift.added:
        yield b"# added: %b\n" % os.fsencode(path)
    for path in drift.damage:
        if path not in layout.entries:
            yield b"# changed: %b\n" % os.fsencode(path)
    edited = [layout.entries[path] for path in drift.damage if path in layout.entries]
    if not edited:
        return
    contents = objects.contents((entry.oid for entry in edited), progress)
    for entry, (_, stream) in zip(edited, contents, strict=True):
        progress.advance()
        with atomic.disk_errors(tree):
            yield _change(f"{tree}/{entry.path}", entry, stream)


def _change(file: str, entry: Entry, stream: IO[bytes]) -> bytes:
    """Describe how one file on disk differs from its entry."""
    name = os.fsencode(entry.path)
    try:
        found = os.lstat(file)
        if stat.S_ISLNK(found.st_mode):
            return b"# now a link: %b -> %b\n" % (name, os.fsencode(os.readlink(file)))
        if is_symlink(entry) or not stat.S_ISREG(found.st_mode):
            return b"# now of another kind: %b\n" % name
        return _edit(file, entry, stream)
    except (FileNotFoundError, NotADirectoryError):
        return b"# missing: %b\n" % name
    except PermissionError:
        return b"# not readable: %b\n" % name


def _edit(file: str, entry: Entry, stream: IO[bytes]) -> bytes:
    """Describe how a regular file was edited."""
    name = os.fsencode(entry.path)
    oid, found = blobs.oid_on_disk(file, entry.oid, lambda _: None)
    is_executable = bool(found.st_mode & stat.S_IXUSR)
    head = body = b""
    if is_executable != (entry.mode == MODE_EXECUTABLE):
        mode = MODE_EXECUTABLE if is_executable else MODE_FILE
        head = b"old mode %o\nnew mode %o\n" % (entry.mode, mode)
    if oid != entry.oid:
        is_small = max(found.st_size, entry.size_bytes) <= COMPARED_MAX_BYTES
        difference = _difference(file, entry, stream) if is_small else None
        if difference is None:
            now = oid.encode()
            return b"# changed, no text: %b, now %b, %d bytes\n" % (name, now, found.st_size)
        body = difference
    if not head and not body:
        return b"# permissions: %b, now %o\n" % (name, stat.S_IMODE(found.st_mode))
    return b"diff --git a/%b b/%b\n" % (name, name) + head + body


def _difference(file: str, entry: Entry, stream: IO[bytes]) -> bytes | None:
    """Compare line by line; None for what is not text."""
    name = os.fsencode(entry.path)
    old = blobs.read_whole(stream, entry)
    new = Path(file).read_bytes()
    if b"\0" in old or b"\0" in new:
        return None
    lines = difflib.diff_bytes(
        difflib.unified_diff,
        old.splitlines(keepends=True),
        new.splitlines(keepends=True),
        b"a/" + name,
        b"b/" + name,
    )
    return b"".join(
        line if line.endswith(b"\n") else line + b"\n\\ No newline at end of file\n"
        for line in lines
    )

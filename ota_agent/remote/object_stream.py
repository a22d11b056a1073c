"""Contents out of one `git cat-file --batch`: in order, checked for size, large ones in pieces."""

from __future__ import annotations

import io
from collections import deque
from contextlib import suppress
from functools import partial
from itertools import islice
from typing import IO, TYPE_CHECKING

from typing_extensions import override

from ota_agent.errors import DeviceError, StoreDamaged
from ota_agent.remote.git_failures import failure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import NoReturn

    from ota_agent.ports import Progress
    from ota_agent.remote.child import Child

# How many are asked for ahead. Their names fit into the pipe (64 KiB) whatever git does: were it
# full, git would wait for its reader and the reader for git.
_AHEAD = 256
# Smaller ones are read at once: most files are small, and a stream costs more than they do.
_SMALL_BYTES = 1024 * 1024
_PIECE_BYTES = 65536


class ObjectStream:
    """One conversation with git."""

    def __init__(self, child: Child, progress: Progress) -> None:
        self._child = child
        self._progress = progress
        self._done_bytes = 0

    def read(self, oids: Iterable[str]) -> Iterator[tuple[str, IO[bytes]]]:
        """Give each object's content, in the order asked.

        Raises:
            StoreDamaged: one is missing, damaged or no file's content.

        """
        waiting = iter(oids)
        asked: deque[str] = deque()
        while self._ask(waiting, asked):
            oid = asked.popleft()
            size = self._size_of(oid)
            if size <= _SMALL_BYTES:
                yield oid, io.BytesIO(self._exactly(size, oid))
            else:
                piecewise = _Piecewise(self._child.stdout, size, partial(self._fail, oid))
                yield oid, io.BufferedReader(piecewise, _PIECE_BYTES)
                # The reader may have stopped early, and the next header follows the last byte.
                while piecewise.read(_PIECE_BYTES):
                    pass
            self._exactly(1, oid)
            self._done_bytes += size
            self._progress.advance(self._done_bytes)
        with suppress(BrokenPipeError):
            self._child.stdin.close()

    def _ask(self, waiting: Iterator[str], asked: deque[str]) -> bool:
        """Ask ahead; tell whether any answer is due."""
        if len(asked) <= _AHEAD // 2:
            more = list(islice(waiting, _AHEAD - len(asked)))
            asked.extend(more)
            # A git that has died is met, with its last words, where its answer is read.
            with suppress(BrokenPipeError):
                self._child.stdin.write("".join(f"{oid}\n" for oid in more).encode())
                self._child.stdin.flush()
        return bool(asked)

    def _size_of(self, oid: str) -> int:
        header = self._child.stdout.readline().split()
        if not header:
            self._fail(oid)
        if header[0].decode() != oid or header[1] != b"blob":
            raise StoreDamaged(f"Object {oid} is not in the object store, or is no file.")
        return int(header[2])

    def _exactly(self, size: int, oid: str) -> bytes:
        data = self._child.stdout.read(size)
        if len(data) < size:
            self._fail(oid)
        return data

    def _fail(self, oid: str) -> NoReturn:
        """Raise for a git that ended before its answer did."""
        # It may have been ended on purpose.
        self._progress.check()
        words = self._child.stderr.read().decode("utf-8", "replace")
        error = failure(words, 128)
        if isinstance(error, DeviceError):
            raise error
        raise StoreDamaged(f"Object {oid} cannot be read: {error.message}")


class _Piecewise(io.RawIOBase):
    """So many bytes of a pipe, as a file of their own."""

    def __init__(self, pipe: IO[bytes], size: int, fail: Callable[[], NoReturn]) -> None:
        super().__init__()
        self._pipe = pipe
        self._left = size
        self._fail = fail

    @override
    def readable(self) -> bool:
        return True

    @override
    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]  # typeshed's WriteableBuffer has no name at run time
        data = self._pipe.read(min(len(buffer), self._left))
        if self._left and not data:
            self._fail()  # else the reader would take a cut content for a whole one
        self._left -= len(data)
        buffer[: len(data)] = data
        return len(data)

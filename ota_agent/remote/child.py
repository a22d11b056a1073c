"""One git that runs: watched while it works, ended with everything that it started."""

from __future__ import annotations

import os
import selectors
import signal
import threading
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, cast

from ota_agent.errors import DeadlineExceeded, SourceUnreachable

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterator

    from git.cmd import Git as GitCommand

    from ota_agent.ports import Progress

_TICK_S = 0.5
# From SIGTERM, on which git removes its locks, to SIGKILL.
_GRACE_S = 2.0
_CHUNK_BYTES = 65536
_PROC = Path("/proc")
_PGRP_FIELD = 2  # of /proc/PID/stat, counted behind the program's name


@dataclass(frozen=True, slots=True)
class Bounds:
    """How long nothing may move, and how long it may take; None: for ever."""

    stall_s: float | None = None
    timeout_s: float | None = None


class Child:
    """A process that leads a session of its own; GitPython has started it."""

    def __init__(self, started: GitCommand.AutoInterrupt) -> None:
        # GitPython terminates a process whose wrapper is lost.
        self._wrapper = started
        self._process = cast("subprocess.Popen[bytes]", started.proc)
        self._lock = threading.Lock()
        self._is_buried = False

    @property
    def stdin(self) -> IO[bytes]:
        """What the process reads."""
        return cast("IO[bytes]", self._process.stdin)

    @property
    def stdout(self) -> IO[bytes]:
        """What the process writes."""
        return cast("IO[bytes]", self._process.stdout)

    @property
    def stderr(self) -> IO[bytes]:
        """What the process complains."""
        return cast("IO[bytes]", self._process.stderr)

    def end(self) -> None:
        """Ask the whole group to end; from any thread, returns at once."""
        self._signal(signal.SIGTERM)

    @contextmanager
    def watched(self, progress: Progress) -> Iterator[None]:
        """Have `progress` end the process; nothing of it is left behind this block."""
        try:
            with progress.ended_by(self.end):
                yield
        except BaseException:
            self.end()
            raise
        finally:
            self.bury()

    def pump(
        self,
        progress: Progress,
        *,
        said: Callable[[bytes], None],
        moved: Callable[[], None],
        bounds: Bounds,
    ) -> bytes:
        """Read the process until it ends; give its stdout.

        `said` is given its stderr as it comes. `moved` is called whenever something came, or moved
        inside its group where no message tells, and never otherwise.

        Raises:
            SourceUnreachable: nothing moved for longer than it may.
            DeadlineExceeded: it took longer than it may.

        """
        output = bytearray()
        began = last = time.monotonic()
        work: int | None = None
        with selectors.DefaultSelector() as selector:
            selector.register(self.stdout, selectors.EVENT_READ, output.extend)
            selector.register(self.stderr, selectors.EVENT_READ, said)
            while selector.get_map():
                ready = selector.select(_TICK_S)
                for key, _ in ready:
                    data = os.read(key.fd, _CHUNK_BYTES)
                    if data:
                        key.data(data)
                    else:
                        selector.unregister(key.fileobj)
                progress.check()
                before = work
                # On quiet ticks only: bytes in the middle of a packet show in no message.
                work = None if ready else self._work_done()
                if ready or before not in {None, work}:
                    last = time.monotonic()
                    moved()
                elif self._has_ended():
                    break  # what it left behind holds the pipes
                _enforce(bounds, time.monotonic() - began, time.monotonic() - last)
        return bytes(output)

    def bury(self) -> int:
        """End what is left of the group and give the exit code, -N for signal N."""
        if not self._ends_within(_GRACE_S):
            self.end()
            self._ends_within(_GRACE_S)
        self._signal(signal.SIGKILL)
        with self._lock:
            self._is_buried = True
            exit_code = self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
            # What was not read any more need not be written either.
            with suppress(BrokenPipeError):
                if stream is not None:
                    stream.close()
        return exit_code

    def _signal(self, number: int) -> None:
        # Once it is buried its number may be another's.
        with self._lock, suppress(ProcessLookupError):
            if not self._is_buried:
                os.killpg(self._process.pid, number)

    def _ends_within(self, seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        pause = 0.0005
        while not self._has_ended():
            if time.monotonic() > deadline:
                return False
            time.sleep(pause)
            pause = min(pause * 2, 0.02)
        return True

    def _has_ended(self) -> bool:
        """Tell whether the leader has ended, and leave it unburied: its number stays its own."""
        if self._is_buried:
            return True
        how = os.WEXITED | os.WNOHANG | os.WNOWAIT
        return os.waitid(os.P_PID, self._process.pid, how) is not None

    def _work_done(self) -> int:
        """Sum what the group has read and written so far, from the network and the disk."""
        total = 0
        for entry in _PROC.iterdir():
            if not entry.name.isdigit():
                continue
            # Gone meanwhile, or another user's.
            with suppress(OSError):
                fields = (entry / "stat").read_bytes().rpartition(b")")[2].split()
                if int(fields[_PGRP_FIELD]) == self._process.pid:
                    lines = (entry / "io").read_bytes().splitlines()
                    total += sum(int(line.split()[1]) for line in lines[:2])
        return total


def _enforce(bounds: Bounds, elapsed_s: float, quiet_s: float) -> None:
    if bounds.stall_s is not None and quiet_s > bounds.stall_s:
        raise SourceUnreachable(f"Nothing came from the source for {bounds.stall_s:.0f} s.")
    if bounds.timeout_s is not None and elapsed_s > bounds.timeout_s:
        raise DeadlineExceeded(f"git took longer than {bounds.timeout_s:.0f} s.")

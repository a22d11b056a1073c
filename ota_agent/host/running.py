"""One command that runs: its reaper, and the three pipes between that and the agent."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

from ota_agent.errors import TransientError
from ota_agent.host.command_output import CommandOutput
from ota_agent.host.command_refusals import refusal
from ota_agent.log import get_logger

if TYPE_CHECKING:
    import pwd
    from collections.abc import Callable, Mapping, Sequence

# From SIGTERM to SIGKILL; the agent itself is given 20 s to end.
GRACE_S = 5.0

_REAPER = Path(__file__).with_name("reaper.py")
# Alone: nothing that lies in the tree, the home or the environment is imported.
_OPTIONS = ("-I", "-S", "-X", "utf8")
# The reaper's grace, what it gives the kernel to end the killed, and its own end.
_END_S = GRACE_S + 7.0
_POLL_S = 0.1
_CHUNK_BYTES = 65_536
_PIPE_BYTES = 1 << 20

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be run.

    Attributes:
        words: the program's arguments; the first is the name by which it was asked for.
        environment: the whole one.
        user: whom to become; None: the command runs as the agent does.
        inherit_fds: descriptors that are held open until the command and all below it have ended;
            by themselves, and where they are another user's by their reaper.

    """

    program: Path
    words: Sequence[str]
    directory: Path
    environment: Mapping[str, str]
    user: pwd.struct_passwd | None
    inherit_fds: Sequence[int]

    def arguments(self) -> tuple[str, ...]:
        """Give the part of the reaper's arguments that describes the command."""
        who = "-"
        if self.user is not None:
            groups = os.getgrouplist(self.user.pw_name, self.user.pw_gid)
            who = ",".join(map(str, (self.user.pw_uid, self.user.pw_gid, *groups)))
        return (who, str(self.directory), str(self.program), *self.words)


class Running:
    """A command from its start to the end of all that it started.

    Leaving it as a context ends the command, if it has not ended, and waits for that.
    """

    def __init__(self, order: Order) -> None:
        """Start it.

        Raises:
            AgentError: what `refusal` makes of it.

        """
        self._name = order.words[0]
        self._lock = threading.Lock()
        self._is_cut = False
        self._verdict = b""
        self._output = CommandOutput(self._name)
        try:
            with ExitStack() as given, ExitStack() as kept:
                lifeline_end, self._lifeline = _pipe(given, kept, given_end=0)
                verdict_end, self._verdict_fd = _pipe(given, kept, given_end=1)
                output_end, self._output_fd = _pipe(given, kept, given_end=1)
                if order.user is not None:
                    # Else a command that opens /dev/stderr by name is refused its own output.
                    with suppress(PermissionError):
                        os.fchown(output_end, order.user.pw_uid, order.user.pw_gid)
                ends = (str(lifeline_end), str(verdict_end))
                self._reaper = subprocess.Popen(
                    [sys.executable, *_OPTIONS, _REAPER, *ends, str(GRACE_S), *order.arguments()],
                    stdin=subprocess.DEVNULL,
                    stdout=output_end,
                    stderr=output_end,
                    cwd="/",
                    env=order.environment,
                    pass_fds=(lifeline_end, verdict_end, *order.inherit_fds),
                    start_new_session=True,
                )
                kept.pop_all()
        except OSError as error:
            raise refusal(self._name, "start", error.errno) from error
        # A process that got away may hold the pipe open: reading must not wait for its end.
        os.set_blocking(self._output_fd, False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end_and_wait()
        os.close(self._verdict_fd)
        os.close(self._output_fd)

    def end(self) -> None:
        """Ask for the end of the command and all below it; from any thread, as often as wanted."""
        with self._lock:
            if not self._is_cut:
                os.close(self._lifeline)
                self._is_cut = True

    def end_and_wait(self) -> None:
        """Have it ended, whatever it does; what the kernel does not let go is given up."""
        self.end()
        if not self.follow(time.monotonic() + _END_S):
            log.error("command cannot be ended", command=self._name)
            self._reaper.kill()
            self._bury()

    def follow(self, until: float, check: Callable[[], None] = lambda: None) -> bool:
        """Take in the output until all has ended (True), or the monotonic time is over.

        `check` is called about ten times a second; what it raises is raised.
        """
        if self._reaper.returncode is not None:
            return True
        poll = select.poll()
        poll.register(self._verdict_fd, select.POLLIN)
        poll.register(self._output_fd, select.POLLIN)
        while (left := until - time.monotonic()) > 0:
            check()
            for descriptor, _ in poll.poll(min(left, _POLL_S) * 1000):
                if descriptor == self._output_fd:
                    if self._read_output() == 0:
                        poll.unregister(self._output_fd)
                elif said := os.read(self._verdict_fd, _CHUNK_BYTES):
                    self._verdict += said
                else:
                    self._bury()
                    return True
        return False

    def ending(self) -> tuple[int, str]:
        """Give the exit code (128 + N for signal N) and the last 4 KiB, once all has ended.

        Raises:
            AgentError: it never began; what `refusal` makes of it.
            TransientError: nobody knows how it ended.

        """
        said = self._said()
        if "failed" in said:
            step, number = said["failed"]
            raise refusal(self._name, step, int(number))
        if "left" in said:
            count = int(said["left"][0])
            log.warning("command left processes behind", command=self._name, count=count)
        if "survived" in said:
            log.error("command cannot be ended", command=self._name)
        if "ended" not in said:
            raise TransientError(f"the process that watched over {self._name} was killed")
        return int(said["ended"][0]), self._output.end()

    def _said(self) -> dict[str, list[str]]:
        lines = [line.split() for line in self._verdict.decode().splitlines()]
        return {line[0]: line[1:] for line in lines}

    def _bury(self) -> None:
        self._reaper.wait()
        said = self._said()
        if "pid" in said and "ended" not in said:
            # The reaper itself was killed: what it watched over is no child of anybody now.
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(int(said["pid"][0]), signal.SIGKILL)
        # What is still in the pipe was written before the end, unless somebody got away.
        left = _PIPE_BYTES
        while left > 0 and (size := self._read_output()):
            left -= size

    def _read_output(self) -> int | None:
        """Give how many bytes came; 0 at the end, None when there are none now."""
        try:
            chunk = os.read(self._output_fd, _CHUNK_BYTES)
        except BlockingIOError:
            return None
        self._output.add(chunk)
        return len(chunk)


def _pipe(given: ExitStack, kept: ExitStack, *, given_end: int) -> tuple[int, int]:
    """Make a pipe; give the end for the reaper (0: it reads, 1: it writes), then ours."""
    ends = os.pipe()
    given.callback(os.close, ends[given_end])
    kept.callback(os.close, ends[1 - given_end])
    return ends[given_end], ends[1 - given_end]

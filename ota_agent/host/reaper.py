"""A process between the agent and one publisher's command, so that nothing of it stays behind.

    reaper.py LIFELINE VERDICT GRACE_S USER DIRECTORY PROGRAM WORD...

It is the subreaper of what the command starts: a daemon that left the command's session becomes a
child of this process, and of no other, so it is found and ended. LIFELINE is a descriptor whose end
asks for the end of everything; an agent that dies closes it too, so no command outlives its agent
by more than the grace. VERDICT takes lines: `pid N`, `failed STEP ERRNO`, `left N` (processes the
command left behind), `survived` (they could not be ended) and last `ended EXIT_CODE`.

It runs alone, `python -I -S`: no module of the agent, none that is slow to import.
"""

# ruff: noqa: PTH123, PTH208, SIM105 - pathlib and contextlib would double the time to start

from __future__ import annotations

import os
import select
import signal
import sys
import time

# What the command started may end by itself, as `tee` behind a pipe does, before it is told to.
LINGER_S = 0.5
# The kernel ends a killed process when it leaves its system call, which a dead disk may prevent.
KILL_S = 5.0

_PR_SET_CHILD_SUBREAPER = 36
_CANNOT_START = 127
_STDERR = 2


class Verdict:
    """Tells the agent what happened; an agent that is gone is told nothing."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def say(self, line: str) -> None:
        """Write one line; short enough for the pipe to take it whole."""
        try:
            os.write(self._descriptor, f"{line}\n".encode())
        except OSError:
            pass  # nobody listens: what matters is that the command ends


class Children:
    """The command and all that came from it."""

    def __init__(self, command: int, wake: int) -> None:
        self._command = command
        self._wake = wake
        self.exit_code: int | None = None
        self.all_gone = False

    def wait(self, seconds: float, lifeline: int | None = None) -> None:
        """Sleep until a child ends, the lifeline ends or the time is over, and bury the dead."""
        watched = [self._wake] if lifeline is None else [self._wake, lifeline]
        select.select(watched, [], [], max(seconds, 0))
        try:
            os.read(self._wake, 4096)
        except BlockingIOError:
            pass
        self._bury()

    def _bury(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                self.all_gone = True
                return
            if pid == 0:
                return
            if pid == self._command:
                code = os.waitstatus_to_exitcode(status)
                self.exit_code = code if code >= 0 else 128 - code

    def signal_all(self, number: int) -> int:
        """Send a signal to each descendant; give how many there are."""
        pids = descendants(os.getpid())
        for pid in pids:
            try:
                os.kill(pid, number)
            except OSError:
                pass  # gone meanwhile, or a set-id program that is not ours to end
        return len(pids)

    def wait_all(self, seconds: float, number: int | None, lifeline: int | None = None) -> None:
        """Wait until all are gone, at most so long, sending `number` to whoever is there."""
        until = time.monotonic() + seconds
        while not self.all_gone and (left := until - time.monotonic()) > 0:
            if number is not None:
                self.signal_all(number)
            # A child that is forked while the list is made is met in the next round.
            self.wait(left if number is None else min(left, 0.05), lifeline)
            if lifeline is not None and is_cut(lifeline):
                return


def is_cut(lifeline: int) -> bool:
    """Tell whether the agent wants the end, or has ended itself."""
    return bool(select.select([lifeline], [], [], 0)[0])


def descendants(ancestor: int) -> list[int]:
    """List the processes below one, nearest first."""
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            with open(f"/proc/{name}/stat", "rb") as file:
                # The second field is the program's name, which may hold anything, brackets too.
                parent = int(file.read().rpartition(b")")[2].split()[1])
        except OSError:
            continue  # ended meanwhile
        children.setdefault(parent, []).append(int(name))
    found = [ancestor]
    for pid in found:
        found += children.get(pid, [])
    return found[1:]


def become_subreaper() -> None:
    """Become the parent of every orphan below this process."""
    import ctypes

    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def hold_back_descriptors() -> None:
    """Hand nothing down but the standard three.

    A lock belongs to its opening, not to a process: a command of another user, who cannot open the
    file, could let the agent's lock go. This process holds it until the last of them has ended, and
    that user cannot kill it. A command of the agent's own user can, and is handed the lock.
    """
    for name in os.listdir("/proc/self/fd"):
        if int(name) > _STDERR:
            try:
                os.set_inheritable(int(name), False)  # noqa: FBT003 - takes it by position only
            except OSError:
                pass  # what the list itself was read from


def start(user: str, directory: str, program: str, words: list[str], verdict: Verdict) -> int:
    """Start the command in a session of its own; what fails there is said on `verdict`."""
    pid = os.fork()
    if pid:
        return pid
    step = "session"
    try:
        os.setsid()
        # By the child, before the command is there: it may kill its parent with its first breath.
        verdict.say(f"pid {os.getpid()}")
        for ignored in (signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(ignored, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, [])
        os.umask(0o022)
        step = "user"
        if user != "-":
            hold_back_descriptors()
            uid, gid, *groups = map(int, user.split(","))
            os.setgroups(groups)
            os.setresgid(gid, gid, gid)
            os.setresuid(uid, uid, uid)
        # As the user: a directory that he cannot enter is to fail here, not inside the command.
        step = "directory"
        os.chdir(directory)
        step = "program"
        os.execv(program, words)  # noqa: S606 - a shell would read the words anew
    except OSError as error:
        verdict.say(f"failed {step} {error.errno}")
    finally:
        os._exit(_CANNOT_START)


def main(arguments: list[str]) -> None:
    """Run one command to its end and leave nothing of it."""
    lifeline, verdict_fd = int(arguments[0]), int(arguments[1])
    grace_s, user, directory, program = float(arguments[2]), *arguments[3:6]
    # The command is to hold neither: it would keep its own lifeline up, or speak in our name.
    for own in (lifeline, verdict_fd):
        os.set_inheritable(own, False)  # noqa: FBT003 - takes it by position only
    verdict = Verdict(verdict_fd)
    # Whoever ends the agent's whole group lets the agent decide when its commands end.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    wake, waker = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    become_subreaper()

    pid = start(user, directory, program, arguments[6:], verdict)
    children = Children(pid, wake)
    while children.exit_code is None and not is_cut(lifeline):
        children.wait(3600, lifeline)
    if children.exit_code is not None:
        children.wait_all(LINGER_S, None, lifeline)
        if not children.all_gone:
            verdict.say(f"left {len(descendants(os.getpid()))}")
    if not children.all_gone:
        children.signal_all(signal.SIGTERM)
        children.wait_all(grace_s, None)
        children.wait_all(KILL_S, signal.SIGKILL)
    if not children.all_gone:
        verdict.say("survived")
    verdict.say(
        f"ended {128 + signal.SIGKILL if children.exit_code is None else children.exit_code}"
    )


if __name__ == "__main__":
    main(sys.argv[1:])

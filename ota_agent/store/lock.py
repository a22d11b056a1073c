"""The two locks of a `work_dir`: one agent, and no children of an earlier one.

Both are `flock`s. Such a lock belongs to the open file, not to the process: it lives until the last
descriptor of that opening is closed, in whatever process. Hence the two kinds. The agent's own lock
is closed in every child, so that it ends with the agent. The children's lock is handed to every
child, so that it ends with the last of them.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from ota_agent import __version__
from ota_agent.errors import Locked
from ota_agent.model.moment import to_text, to_time
from ota_agent.store import atomic

if TYPE_CHECKING:
    from ota_agent.ports import Progress
    from ota_agent.store.paths import Paths

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
PROC = Path("/proc")

# Whoever looks for an owner holds the lock for a moment, which must not look like a second agent.
LOOKS = 10
LOOK_S = 0.02
STEP_S = 0.1


@dataclass(frozen=True, slots=True)
class Owner:
    """The agent that holds a `work_dir`; what it has not written (yet) is None or empty."""

    pid: int | None = None
    started_at: datetime | None = None
    boot_id: str = ""
    device_id: str = ""
    version: str = ""


class AgentLock:
    """Held by the one agent of a `work_dir` for as long as its process lives."""

    def __init__(self, paths: Paths) -> None:
        """Lock `private/lock`, whose directory is there."""
        self._paths = paths
        self._descriptor: int | None = None

    def acquire(self, device_id: str) -> Owner:
        """Take the lock and write down who has it; Locked names another agent that has it."""
        path = self._paths.lock_file
        with atomic.disk_errors(path):
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                self._take_soon(descriptor)
                owner = Owner(
                    pid=os.getpid(),
                    started_at=datetime.now(UTC),
                    boot_id=_boot_id(),
                    device_id=device_id,
                    version=__version__,
                )
                _write_owner(descriptor, owner)
            except BaseException:
                os.close(descriptor)
                raise
        self._descriptor = descriptor
        return owner

    def release(self) -> None:
        """Let another agent in; the end of the process does it as well."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def owner(self) -> Owner | None:
        """Tell who holds the lock, from any process.

        None where nobody does, whatever a dead agent has left in the file, and where the caller
        may not look.
        """
        try:
            descriptor = os.open(self._paths.lock_file, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return None
        try:
            return None if _take(descriptor, fcntl.LOCK_SH) else _read_owner(descriptor)
        finally:
            os.close(descriptor)

    def _take_soon(self, descriptor: int) -> None:
        for _ in range(LOOKS):
            if _take(descriptor, fcntl.LOCK_EX):
                return
            time.sleep(LOOK_S)
        owner = _read_owner(descriptor)
        named = f" (pid {owner.pid}, device {owner.device_id})" if owner.pid is not None else ""
        raise Locked(f"Another agent{named} works on {self._paths.work_dir}.")


class ChildrenLock:
    """Held by the agent and, through the descriptor that it hands them, by all its children.

    They share one opening of the file, and with it one exclusive lock: it outlives the agent while
    any child lives, and a child that ends does not end it. There is nothing to convert, so there is
    no moment in which nobody holds it.
    """

    def __init__(self, paths: Paths) -> None:
        """Lock `private/children.lock`, whose directory is there."""
        self._path = paths.children_lock_file
        with atomic.disk_errors(self._path):
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
            self._descriptor = os.open(self._path, flags, 0o600)

    @property
    def fd(self) -> int:
        """The descriptor for `pass_fds` of every child; it is not inherited otherwise."""
        return self._descriptor

    def wait_free(self, timeout_s: float, progress: Progress) -> None:
        """Wait until no child of an earlier agent lives, and hold the lock from then on.

        Raises:
            Locked: some still live after `timeout_s` seconds; their process ids are named.

        """
        with atomic.disk_errors(self._path):
            waited_s = 0.0
            while not _take(self._descriptor, fcntl.LOCK_EX):
                if waited_s >= timeout_s:
                    raise self._locked()
                progress.wait(STEP_S)
                waited_s += STEP_S

    def holders(self) -> list[int]:
        """Give the process ids, other than this one, that have the file open, as far as shown."""
        return sorted(
            int(process.name)
            for process in PROC.iterdir()
            if process.name.isdigit()
            and int(process.name) != os.getpid()
            and _has_open(process, self._path)
        )

    def release(self) -> None:
        """Let go, as far as this process goes; its end does it as well."""
        os.close(self._descriptor)

    def _locked(self) -> Locked:
        pids = self.holders()
        named = f" (pid {', '.join(map(str, pids))})" if pids else ""
        return Locked(
            f"Children of an earlier agent{named} still work on {self._path.parent.parent}.",
            hint="End these processes; the agent does not work beside them.",
        )


def _take(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _write_owner(descriptor: int, owner: Owner) -> None:
    at = to_text(owner.started_at) if owner.started_at else None
    text = json.dumps({**asdict(owner), "started_at": at}).encode()
    # In this order a file that is there needs no space: a start on a full disk must get this far.
    os.pwrite(descriptor, text, 0)
    os.ftruncate(descriptor, len(text))


def _read_owner(descriptor: int) -> Owner:
    """Read what the holder wrote; an empty owner where it has not yet."""
    try:
        found = json.loads(os.pread(descriptor, os.fstat(descriptor).st_size, 0))
        return Owner(
            pid=found["pid"],
            started_at=to_time(found["started_at"]),
            boot_id=found["boot_id"],
            device_id=found["device_id"],
            version=found["version"],
        )
    except (ValueError, KeyError, TypeError):
        return Owner()


def _boot_id() -> str:
    try:
        return BOOT_ID.read_text().strip()
    except OSError:
        return ""


def _has_open(process: Path, path: Path) -> bool:
    """Tell whether a process has this file open; one that may not be looked at has not."""
    wanted = path.stat()
    try:
        opened = list((process / "fd").iterdir())
    except OSError:
        return False
    for descriptor in opened:
        with suppress(OSError):  # closed meanwhile
            if os.path.samestat(wanted, descriptor.stat()):
                return True
    return False

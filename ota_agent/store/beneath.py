"""Paths below `persist/`, which applications write to: no link that one planted is followed.

An application owns what is below its persistent path, and the agent may be root. A path that is
resolved anew by each call could be turned elsewhere by a link in its middle, so the way down is
opened part by part, and the last directory is held open while the caller works in it.
"""

from __future__ import annotations

import errno
import os
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from ota_agent.errors import WorkDirUnusable
from ota_agent.store import atomic

if TYPE_CHECKING:
    from collections.abc import Iterator

DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
DIR_MODE = 0o755
UNNAMED = f"{atomic.TEMP_PREFIX}directory"


@contextmanager
def held(root: Path, relative: str, *, create: bool = False) -> Iterator[Path]:
    """Give a path for `root`/`relative` that stays the same place while the block runs.

    Its last part is not looked at: it may be absent, or a link. With `create` the directories
    above it are made where they are missing (0755, the agent's own, durable).

    Raises:
        FileNotFoundError: a directory above it is missing.
        WorkDirUnusable: a part above it is a link or no directory.

    """
    *above, name = relative.split("/")
    with ExitStack() as stack:
        with atomic.disk_errors(root / relative):
            top = directory = _open(stack, root, None)
            for part in above:
                try:
                    directory = _step(stack, directory, part, root / relative)
                except FileNotFoundError:
                    if not create:
                        raise
                    directory = _make(stack, top, directory, part)
        yield Path(f"/proc/self/fd/{directory}") / name


def is_there(root: Path, relative: str) -> bool:
    """Tell whether anything, a dangling link too, has this name below `root`."""
    try:
        with held(root, relative) as path:
            return os.path.lexists(path)
    except FileNotFoundError:
        return False


def _step(stack: ExitStack, directory: int, part: str, whole: Path) -> int:
    try:
        return _open(stack, part, directory)
    except OSError as error:
        if error.errno not in {errno.ENOTDIR, errno.ELOOP}:
            raise
        raise WorkDirUnusable(
            f"{whole} cannot be used: {part!r} on the way to it is no directory.",
            hint=f"Make {part!r} a directory of its own, or remove it.",
        ) from error


def _make(stack: ExitStack, top: int, directory: int, part: str) -> int:
    """Make a directory that has its mode, whatever the umask, from the moment it has its name.

    It is made at the top: there the next start removes what a crash left, and nowhere below.
    """
    with suppress(FileExistsError):  # left by a crash, and as good as new
        os.mkdir(UNNAMED, 0o700, dir_fd=top)
    try:
        made = _open(stack, UNNAMED, top)
        os.fchmod(made, DIR_MODE)
        os.fsync(made)
        atomic.rename(
            Path(f"/proc/self/fd/{top}") / UNNAMED, Path(f"/proc/self/fd/{directory}") / part
        )
    except BaseException:
        with suppress(OSError):  # the first failure is the one to tell
            os.rmdir(UNNAMED, dir_fd=top)
        raise
    return made


def _open(stack: ExitStack, path: Path | str, directory: int | None) -> int:
    descriptor = os.open(path, DIRECTORY, dir_fd=directory)
    stack.callback(os.close, descriptor)
    return descriptor

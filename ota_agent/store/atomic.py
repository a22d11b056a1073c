"""The one door to the disk: write beside, fsync, rename, fsync the directory.

Nothing else in the program renames a file or makes a symbolic link. What these functions have
returned from survives a power cut; what they were interrupted in left the old content or the new,
and perhaps litter beside it whose name begins with `TEMP_PREFIX`.

The failures of the disk are told as in `durable`, whose functions are to be had here too.
"""

from __future__ import annotations

import errno
import os
import secrets
import stat
from contextlib import contextmanager, suppress
from typing import IO, TYPE_CHECKING

from ota_agent.store.durable import (
    disk_errors,
    opened,
    sync_dir,
    sync_file,
    sync_filesystem,
    sync_tree,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

__all__ = [
    "TEMP_PREFIX",
    "disk_errors",
    "make_dir",
    "make_symlink",
    "remove_file",
    "remove_litter",
    "remove_tree",
    "rename",
    "replace_symlink",
    "sync_dir",
    "sync_file",
    "sync_filesystem",
    "sync_tree",
    "write_file",
    "writing",
]

TEMP_PREFIX = ".ota-tmp-"


# --- files --------------------------------------------------------------------------------------


@contextmanager
def writing(path: Path, *, mode: int = 0o644, durable: bool = True) -> Iterator[IO[bytes]]:
    """Give a stream whose content takes the place of `path` when the block ends well.

    Args:
        path: replaced as a whole; a symbolic link there is replaced, not followed.
        mode: its permissions, whatever the umask.
        durable: False where a power cut may lose the content; a crash of the agent never does.

    """
    temp = _beside(path)
    with disk_errors(path):
        descriptor = os.open(temp, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as stream:
                yield stream
                stream.flush()
                os.fchmod(descriptor, mode)
                if durable:
                    os.fsync(descriptor)
            os.replace(temp, path)
        except BaseException:
            with suppress(OSError):  # the first failure is the one to tell
                os.unlink(temp)
            raise
        if durable:
            sync_dir(path.parent)


def write_file(path: Path, data: bytes, *, mode: int = 0o644, durable: bool = True) -> None:
    """Put `data` in the place of `path`, see `writing`."""
    with writing(path, mode=mode, durable=durable) as stream:
        stream.write(data)


def remove_file(path: Path) -> None:
    """Remove a file or link for good; one that is not there is fine."""
    with disk_errors(path):
        try:
            os.unlink(path)
        except FileNotFoundError:
            return
        sync_dir(path.parent)


# --- links, names -------------------------------------------------------------------------------


def make_symlink(link: Path, target: str) -> None:
    """Make a symbolic link where nothing is yet; durable once its directory is synced."""
    with disk_errors(link):
        os.symlink(target, link)


def replace_symlink(link: Path, target: str) -> None:
    """Point `link` to `target`: a reader sees the old link or the new one, never none."""
    temp = _beside(link)
    with disk_errors(link):
        os.symlink(target, temp)
        try:
            os.replace(temp, link)
        except BaseException:
            with suppress(OSError):
                os.unlink(temp)
            raise
        sync_dir(link.parent)


def rename(source: Path, target: Path, *, replace: bool = False, durable: bool = True) -> None:
    """Move a file or a whole directory within the file system.

    Without `replace` an existing target raises FileExistsError. With it, a file, a link or an empty
    directory gives way. A sealed directory (0555) moves too, and stays sealed.
    """
    with disk_errors(target):
        if not replace and os.path.lexists(target):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target))
        try:
            os.replace(source, target)
        except PermissionError:
            if not _is_dir(source):
                raise
            _rename_sealed(source, target)
        if durable:
            for directory in dict.fromkeys((target.parent, source.parent)):
                sync_dir(directory)


def _rename_sealed(source: Path, target: Path) -> None:
    """Move a directory that its owner may not write: the kernel has to change its `..`."""
    mode = stat.S_IMODE(os.lstat(source).st_mode)
    with opened(source, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW) as directory:
        os.fchmod(directory, mode | stat.S_IWUSR)
        try:
            os.replace(source, target)
        finally:
            os.fchmod(directory, mode)
        os.fsync(directory)


# --- directories --------------------------------------------------------------------------------


def make_dir(path: Path, mode: int = 0o755) -> None:
    """Make a directory with exactly this mode; one that is there already only gets the mode.

    Raises FileExistsError where something else, a link to a directory too, has the name.
    """
    with disk_errors(path):
        try:
            os.mkdir(path, 0o700)
        except FileExistsError:
            if not _is_dir(path):
                raise
            if stat.S_IMODE(os.lstat(path).st_mode) == mode:
                return
        os.chmod(path, mode)
        sync_dir(path)
        sync_dir(path.parent)


def remove_tree(
    path: Path, *, unlink: Callable[[str], None] = os.unlink, durable: bool = True
) -> None:
    """Remove a directory with all that is in it, sealed directories too; links are not followed.

    What is no directory is removed as well, and what is not there is fine. `unlink` is called with
    the path of every file and link in place of `os.unlink`.
    """
    directories: list[str] = []
    waiting = [os.fspath(path)]
    with disk_errors(path):
        if not os.path.lexists(path):
            return
        if not _is_dir(path):
            unlink(waiting.pop())
        while waiting:
            directory = waiting.pop()
            directories.append(directory)
            if os.lstat(directory).st_mode & stat.S_IRWXU != stat.S_IRWXU:
                os.chmod(directory, stat.S_IRWXU)  # else its owner, when not root, cannot empty it
            with os.scandir(directory) as listing:
                found = list(listing)
            for item in found:
                if item.is_dir(follow_symlinks=False):
                    waiting.append(item.path)
                else:
                    unlink(item.path)
        for directory in reversed(directories):
            os.rmdir(directory)
        if durable:
            sync_dir(path.parent)


def remove_litter(directory: Path) -> int:
    """Remove what interrupted writes left in this directory (not below it); give the count."""
    with disk_errors(directory):
        litter = [name for name in os.listdir(directory) if name.startswith(TEMP_PREFIX)]
    for name in litter:
        remove_tree(directory / name)
    return len(litter)


def _is_dir(path: Path) -> bool:
    return stat.S_ISDIR(os.lstat(path).st_mode)


def _beside(path: Path) -> Path:
    return path.parent / f"{TEMP_PREFIX}{secrets.token_hex(8)}"

"""Makes `work_dir` ready, or says in one sentence why it cannot serve."""

from __future__ import annotations

import fcntl
import os
import secrets
import sqlite3
import stat
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING

from ota_agent.errors import DeviceError, DiskFull, WorkDirUnusable
from ota_agent.store import atomic, staging
from ota_agent.store.database import is_full
from ota_agent.store.paths import PERSIST

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ota_agent.store.paths import Paths

PUBLIC_MODE = 0o755
PRIVATE_MODE = 0o700

# Modes that a sealed tree needs, and that a file system without permissions does not keep.
_SEALED_MODES = (0o444, 0o555)

# What may be there before the first agent: a file system's own, and data that are brought along.
_BEFORE_US = frozenset({"lost+found", PERSIST})


def is_made(paths: Paths) -> bool:
    """Tell whether an agent has made its layout there; what cannot be looked at counts as made."""
    marks = (paths.staging_dir, paths.lock_file, paths.database_file, paths.trust_file)
    try:
        inside = [path.name for path in paths.private_dir.iterdir()]
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
    return not {mark.name for mark in marks}.isdisjoint(inside)


def prepare(paths: Paths) -> None:
    """Make the layout, with its modes whatever the umask, and try what the file system can.

    Disturbs no agent that is at work there: the lock is taken afterwards. What crashes left is
    removed by `clear_litter`.

    Raises:
        WorkDirUnusable: it cannot serve; the message says why.
        DiskFull: there is no space to try it.

    """
    try:
        _require_own_directory(paths)
        _make_layout(paths)
        _require_links(paths)
        if not paths.database_file.exists():
            # It served before: a start on a full disk must not fail for want of room for trials.
            _try_file_system(paths)
    except (DiskFull, WorkDirUnusable):
        raise
    except (OSError, DeviceError) as error:
        raise WorkDirUnusable(f"work_dir {paths.work_dir} cannot be used: {error}") from error


def clear_litter(paths: Paths) -> None:
    """Remove what crashes left; only while no agent and no child of one is at work.

    Half-built trees go (one becomes the spare, see `staging.empty`), half-made backups and
    throw-away repositories too.
    """
    for directory in (paths.work_dir, paths.releases_dir, paths.persist_dir, paths.private_dir):
        atomic.remove_litter(directory)
    staging.empty(paths)
    with atomic.disk_errors(paths.private_dir):
        left = list(paths.scratch_dir.iterdir())
        # What is being made or dropped there has a name that begins with a dot.
        left += [*paths.backups_dir.glob(".*"), *paths.backups_dir.glob("*/.*")]
    for path in left:
        atomic.remove_tree(path)


# --- layout -------------------------------------------------------------------------------------


def _require_own_directory(paths: Paths) -> None:
    """Make `work_dir`, or see that it is the agent's to use, before anything in it is changed."""
    path = paths.work_dir
    if not path.is_dir():
        _make_work_dir(path)
    _require_owner(path)
    if os.statvfs(path).f_flag & os.ST_RDONLY:
        raise WorkDirUnusable(f"work_dir {path} is on a read-only file system.")
    _require_directory_or_nothing(paths.private_dir)
    if not is_made(paths):
        _require_empty(paths)


def _make_work_dir(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
        path.chmod(PUBLIC_MODE)
    except FileExistsError as error:
        link, file = "a link that leads to no directory", "a file, not a directory"
        what = link if path.is_symlink() else file
        raise WorkDirUnusable(f"work_dir {path} is {what}.") from error
    except OSError as error:
        raise WorkDirUnusable(f"work_dir {path} cannot be created: {error.strerror}.") from error


def _require_empty(paths: Paths) -> None:
    """Refuse what is somebody else's: the agent removes what it does not know in its layout."""
    found = {path.name for path in paths.work_dir.iterdir()} - _BEFORE_US
    private = paths.private_dir
    if private.is_dir() and not any(private.iterdir()):
        found.discard(private.name)  # a crash came right after it was made
    if found:
        some = ", ".join(sorted(found)[:3])
        raise WorkDirUnusable(
            f"work_dir {paths.work_dir} holds what no agent made: {some}.",
            hint="Give work_dir a directory of its own, empty or not there yet.",
        )


def _require_directory_or_nothing(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        _require_owner(path)
    elif os.path.lexists(path):
        kind = "a link" if path.is_symlink() else "a file"
        raise WorkDirUnusable(f"{path} is {kind}, where a directory should be.")


def _require_owner(path: Path) -> None:
    owner, user = path.stat().st_uid, os.geteuid()
    if owner != user:
        raise WorkDirUnusable(
            f"{path} belongs to user {owner}, the agent runs as user {user}.",
            hint="Run the agent as the owner of work_dir, or give it a work_dir of its own.",
        )


def _make_layout(paths: Paths) -> None:
    """Make what is missing; what is there keeps its mode where others may have a say in it."""
    modes = {
        # These two first: they tell that the rest is an agent's.
        paths.private_dir: PRIVATE_MODE,
        paths.staging_dir: PRIVATE_MODE,
        paths.scratch_dir: PRIVATE_MODE,
        paths.backups_dir: PRIVATE_MODE,
        paths.releases_dir: PUBLIC_MODE,
        paths.persist_dir: None,
        paths.locks_dir: None,
    }
    for path, mode in modes.items():
        if mode is None and path.is_dir() and not path.is_symlink():
            continue
        _require_directory_or_nothing(path)
        atomic.make_dir(path, PUBLIC_MODE if mode is None else mode)


def _require_links(paths: Paths) -> None:
    for link in (paths.live_link, paths.previous_link):
        if os.path.lexists(link) and not link.is_symlink():
            raise WorkDirUnusable(f"{link} is in the way: a link to a release belongs there.")


# --- what the file system can -------------------------------------------------------------------


def _try_file_system(paths: Paths) -> None:
    """Try each thing that the agent rests on, and name all that are missing."""
    place = paths.scratch_dir / f"{atomic.TEMP_PREFIX}{secrets.token_hex(8)}"
    atomic.make_dir(place, PRIVATE_MODE)
    try:
        missing = [name for name, works in _ABILITIES.items() if not _can(works, place)]
        missing += [
            f"one file system for {paths.private_dir} and {other}"
            for other in (paths.releases_dir, paths.persist_dir, paths.backups_dir)
            if not _can(partial(_moves_to, other), place)
        ]
    finally:
        atomic.remove_tree(place)
    if missing:
        raise WorkDirUnusable(
            f"The file system of work_dir {paths.work_dir} lacks: {', '.join(missing)}."
        )


def _can(works: Callable[[Path], bool], place: Path) -> bool:
    try:
        with atomic.disk_errors(place):
            return works(place)
    except DiskFull:
        raise
    except (OSError, DeviceError, sqlite3.Error):
        return False


def _keeps_modes(place: Path) -> bool:
    file = place / "mode"
    for mode in _SEALED_MODES:
        atomic.write_file(file, b"", mode=mode)
        if stat.S_IMODE(file.stat().st_mode) != mode:
            return False
    return True


def _replaces_links(place: Path) -> bool:
    link = place / "link"
    for target in ("one", "two"):
        atomic.replace_symlink(link, target)
    return link.readlink().name == "two"


def _links_files(place: Path) -> bool:
    file, other = place / "file", place / "other"
    atomic.write_file(file, b"")
    other.hardlink_to(file)
    return file.stat().st_ino == other.stat().st_ino


def _locks(place: Path) -> bool:
    file = place / "lock"
    with file.open("wb") as first, file.open("rb") as second:
        fcntl.flock(first, fcntl.LOCK_EX | fcntl.LOCK_NB)
        try:
            fcntl.flock(second, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _has_wal(place: Path) -> bool:
    with closing(sqlite3.connect(place / "wal.db")) as database:
        try:
            mode: str = database.execute("PRAGMA journal_mode=WAL").fetchone()[0]
            database.execute("CREATE TABLE tried(it)")
        except sqlite3.OperationalError as error:
            if is_full(error):
                raise DiskFull(f"There is no space left for {place}.") from error
            raise
    return mode == "wal"


def _moves_to(directory: Path, place: Path) -> bool:
    """Move a directory there and back: the device number hides a bind mount, which cannot."""
    tree = place / "tree"
    tree.mkdir(exist_ok=True)
    there = directory / place.name
    atomic.rename(tree, there)
    atomic.rename(there, tree)
    return True


_ABILITIES: dict[str, Callable[[Path], bool]] = {
    "permissions": _keeps_modes,
    "symbolic links": _replaces_links,
    "hard links": _links_files,
    "locks (flock)": _locks,
    "SQLite's write-ahead log": _has_wal,
}

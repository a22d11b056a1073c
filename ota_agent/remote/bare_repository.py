"""A bare repository as files: made, rid of crash litter, judged, made durable."""

from __future__ import annotations

import os
import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ota_agent.errors import DiskFault, DiskFull, StoreDamaged, TransientError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ota_agent.ports import Progress
    from ota_agent.remote.git import Git

# What a git that was killed leaves behind. While no git works there, none of it is of use: a lock
# would stop every later git, half a pack would keep a full disk full.
_LITTER = (
    "*.lock",
    "gc.pid",
    "objects/info/*.lock",
    "objects/pack/*.keep",
    "objects/pack/.tmp-*",
    "objects/pack/tmp_*",
    "objects/[0-9a-f][0-9a-f]/tmp_obj_*",
    "refs/**/*.lock",
)
_LITTER_DIRECTORIES = ("objects/tmp_objdir-*",)
# A pack is written before its index, and deleted after it.
_PACK_PARTS = (".pack", ".rev", ".bitmap", ".mtimes", ".promisor")


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn the disk's failures inside the block into errors that name the repository."""
    try:
        yield
    except OSError as error:
        kind = DiskFull if error.errno in {28, 122} else DiskFault
        raise kind(f"The disk failed under {path}: {error.strerror or error}.") from error


def create(git: Git, path: Path, *, object_format: str = "sha1") -> None:
    """Make an empty bare repository; on a half made one it goes on."""
    git.run("init", "--quiet", "--bare", f"--object-format={object_format}", str(path))


def sweep(path: Path) -> None:
    """Remove what a killed git left behind; only while no git works there."""
    with disk_errors(path):
        for pattern in _LITTER:
            for file in path.glob(pattern):
                file.unlink(missing_ok=True)
        for pattern in _LITTER_DIRECTORIES:
            for directory in path.glob(pattern):
                shutil.rmtree(directory)
        packs = path / "objects/pack"
        indexed = {file.stem for file in packs.glob("*.idx")}
        for file in packs.glob("pack-*"):
            if file.suffix in _PACK_PARTS and file.stem not in indexed:
                file.unlink()


def is_whole(git: Git, path: Path) -> bool:
    """Tell whether git can open it and finds every commit that a ref names.

    Contents are not read: a damaged one shows when it is asked for.
    """
    with disk_errors(path):
        # Empty ones are what a power cut makes of files that were never synced.
        if any(not _has_content(path / name) for name in ("HEAD", "config")):
            return False
    try:
        refs = git.run("for-each-ref", "--format=%(objectname)%(tree)", git_dir=path)
        commits = git.run("rev-list", "--all", "--count", git_dir=path)
    except (StoreDamaged, TransientError):
        return False
    # A broken ref is only warned of.
    return not refs.stderr.strip() and not commits.stderr.strip()


def is_sound(git: Git, path: Path, progress: Progress) -> bool:
    """Tell whether all that refs lead to is there and is what its name says; reads everything."""
    checked = git.run(
        "fsck",
        "--no-dangling",
        "--no-progress",
        git_dir=path,
        progress=progress,
        allowed=range(256),
    )
    return checked.exit_code == 0


def packs(path: Path) -> list[Path]:
    """List the packs."""
    with disk_errors(path):
        return sorted((path / "objects/pack").glob("*.pack"))


def make_objects_durable(path: Path) -> None:
    """Have what was fetched survive a power cut: git syncs packs, neither names nor `shallow`."""
    _sync(path / "objects/pack", path / "objects", path / "shallow", path)


def make_refs_durable(path: Path, namespace: str) -> None:
    """Have the refs below `refs/<namespace>` survive a power cut."""
    _sync(path / "refs" / namespace, path / "refs")


def size_bytes(path: Path) -> int:
    """Sum the sizes of its files."""
    with disk_errors(path):
        return sum(file.lstat().st_size for file in path.rglob("*") if not file.is_dir())


def _sync(*paths: Path) -> None:
    for path in paths:
        with disk_errors(path):
            try:
                descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError:
                continue  # `shallow` of a store that holds a whole history
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)


def _has_content(file: Path) -> bool:
    return file.is_file() and file.stat().st_size > 0

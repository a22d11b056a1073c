"""Persistent paths: they belong to the device, and a release seeds each of them once."""

from __future__ import annotations

import os
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from ota_agent.errors import AgentError
from ota_agent.model.tree import MODE_EXECUTABLE, MODE_SYMLINK
from ota_agent.store import atomic, blobs
from ota_agent.store.beneath import held, is_there

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ota_agent.model.tree import Entry
    from ota_agent.ports import ObjectStore, Progress
    from ota_agent.store.paths import Paths

FILE_MODE = 0o644
EXECUTABLE_MODE = 0o755
DIRECTORY_MODE = 0o755

SEEDS = "persist-seeds"


def ensure(  # noqa: PLR0913, PLR0917 - a function with a store, not a class for one call
    paths: Paths,
    specs: Sequence[str],
    entries: Sequence[Entry],
    objects: ObjectStore,
    owner: tuple[int, int] | None,
    progress: Progress,
) -> list[str]:
    """Make each persistent path that is not there; give those that were made.

    A new path is what the release holds there, writable, or an empty directory. It is built aside
    and appears as a whole, durable; what is there already, whatever it is, is not touched. So it
    may run again after a crash. Directories above a path are the agent's own.

    Args:
        specs: the persistent paths of the manifest.
        entries: the whole listing of the release.
        owner: who gets what is made, where the agent is root; None for the agent itself.

    """
    missing = [path for path in specs if not is_there(paths.persist_dir, path)]
    if not missing:
        return []
    building = paths.scratch_dir / SEEDS
    made = []
    with ExitStack() as undo:
        undo.callback(_remove_quietly, building)
        atomic.remove_tree(building)
        atomic.make_dir(building, 0o700)
        # Numbers in place of the paths: one directory for each, whatever its path is.
        seeds = {path: building / str(number) for number, path in enumerate(missing)}
        for path, seed in seeds.items():
            _build(path, seed, _below(path, entries), objects, progress)
            if owner is not None and os.geteuid() == 0:
                _give_away(seed, owner)
        atomic.sync_filesystem(building)
        for path, seed in seeds.items():
            # An application may have made it meanwhile: then it is the device's already.
            with (
                held(paths.persist_dir, path, create=True) as target,
                suppress(FileExistsError),
            ):
                atomic.rename(seed, target)
                made.append(path)
    return made


def _below(path: str, entries: Iterable[Entry]) -> list[Entry]:
    inside = f"{path}/"
    return [entry for entry in entries if entry.path == path or entry.path.startswith(inside)]


def _build(
    path: str, seed: Path, entries: list[Entry], objects: ObjectStore, progress: Progress
) -> None:
    """Write what the release holds at and below `path` to `seed`; nothing: an empty directory."""
    if not entries:
        atomic.make_dir(seed, DIRECTORY_MODE)
    contents = objects.contents([entry.oid for entry in entries], progress)
    for entry, (_, stream) in zip(entries, contents, strict=True):
        progress.advance()
        target = Path(f"{seed}{entry.path.removeprefix(path)}")
        with atomic.disk_errors(target):
            for directory in reversed(target.relative_to(seed.parent).parents[:-1]):
                _make_directory(seed.parent / directory)
            if entry.mode == MODE_SYMLINK:
                text = blobs.read_whole(stream, entry)
                atomic.make_symlink(target, os.fsdecode(text))
                continue
            with target.open("xb") as writing:
                blobs.copy(stream, entry, writing.write, lambda _: progress.advance())
                executable = entry.mode == MODE_EXECUTABLE
                os.fchmod(writing.fileno(), EXECUTABLE_MODE if executable else FILE_MODE)


def _make_directory(path: Path) -> None:
    with suppress(FileExistsError):
        path.mkdir()
        path.chmod(DIRECTORY_MODE)  # mkdir's goes through the umask


def _give_away(path: Path, owner: tuple[int, int]) -> None:
    with atomic.disk_errors(path):
        os.chown(path, *owner, follow_symlinks=False)
        for directory, directories, files in os.walk(path):
            for name in (*directories, *files):
                os.chown(os.path.join(directory, name), *owner, follow_symlinks=False)  # noqa: PTH118 - os.walk gives text


def _remove_quietly(path: Path) -> None:
    with suppress(AgentError):  # the failure that led here is the one to tell
        atomic.remove_tree(path)

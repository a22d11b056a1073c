"""The object store: a bare repository, `refs/ota/<release>` for what is kept."""

from __future__ import annotations

import re
import shutil
from typing import IO, TYPE_CHECKING, Final

from ota_agent.errors import DeadlineExceeded, DeviceError, StoreDamaged
from ota_agent.model.tree import MODE_SUBMODULE, Entry
from ota_agent.remote import bare_repository
from ota_agent.remote.object_stream import ObjectStream

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from ota_agent.ports import Progress
    from ota_agent.remote.git import Git

NAMESPACE: Final = "ota"
# The offer that was fetched last: kept from pruning until a release holds it.
FETCHED_REF: Final = "refs/fetched/offer"
MAX_PACKS = 20

_OBJECT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_RELEASE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")
# Of the packs' size: repacking writes them all once more beside the old ones.
_SPACE_FACTOR = 1.5


class GitObjects:
    """Implements `ports.ObjectStore`. Only one thread may change it; any may read."""

    def __init__(
        self,
        git: Git,
        path: Path,
        *,
        move_aside: Callable[[Path, Path], None],
        max_packs: int = MAX_PACKS,
    ) -> None:
        """Nothing is touched yet.

        `path` is the repository, an absolute path. `move_aside` renames a directory, durably.
        More than `max_packs` packs are made one by `tidy`.
        """
        self.path = path
        self._git = git
        self._move_aside = move_aside
        self._max_packs = max_packs

    def prepare(self) -> None:
        """Make it usable at start: create it, remove crash litter. A damaged one is set aside.

        Raises:
            GitUnusable: there is no git, or it is too old.

        """
        self._git.check_version()
        if not self.path.exists():
            bare_repository.create(self._git, self.path)
            return
        bare_repository.sweep(self.path)
        if not bare_repository.is_whole(self._git, self.path):
            self.set_aside()

    def set_aside(self) -> None:
        """Move a damaged store to `<name>.damaged`, in place of an older one; begin anew."""
        damaged = self.path.with_name(f"{self.path.name}.damaged")
        with bare_repository.disk_errors(damaged):
            if damaged.exists():
                shutil.rmtree(damaged)
        if self.path.exists():
            self._move_aside(self.path, damaged)
        bare_repository.create(self._git, self.path)

    def is_damaged(self, progress: Progress) -> bool:
        """Read everything that is held, and tell whether something is missing or garbled.

        One that cannot be read through within the deadline of the phase counts as damaged.
        """
        try:
            return not bare_repository.is_sound(self._git, self.path, progress)
        except DeadlineExceeded:
            return True

    def sweep(self) -> None:
        """Remove what a failed fetch left behind."""
        bare_repository.sweep(self.path)

    def has(self, commit: str) -> bool:
        """Tell whether the commit is there with its tree."""
        found = self._git.run(
            *("rev-parse", "--quiet", "--verify", _tree_of(commit)),
            git_dir=self.path,
            allowed=(0, 1, 128),
        )
        return found.exit_code == 0

    def tree_of(self, commit: str) -> str:
        """Give the commit's tree hash; StoreDamaged when the commit is not there."""
        return self._git.run("rev-parse", "--verify", _tree_of(commit), git_dir=self.path).text

    def listing(self, tree: str, progress: Progress) -> list[Entry]:
        """List every file of a tree in git's order; StoreDamaged when one is missing."""
        arguments = ("ls-tree", "-r", "-l", "-z", "--full-tree", _checked(tree))
        listed = self._git.run(*arguments, git_dir=self.path, progress=progress)
        return [_entry(row) for row in listed.stdout.split(b"\0")[:-1]]

    def contents(self, oids: Iterable[str], progress: Progress) -> Iterator[tuple[str, IO[bytes]]]:
        """Give each object's content as a stream, in the order asked.

        A stream is to be read before the next is taken.
        """
        arguments = ("cat-file", "--batch")
        with self._git.conversation(*arguments, git_dir=self.path, progress=progress) as child:
            yield from ObjectStream(child, progress).read(map(_checked, oids))

    def keep(self, release: str, commit: str) -> None:
        """Hold what a release needs: `refs/ota/<release>`, durable when this returns."""
        # The ref last: a power cut between the two leaves objects without a ref, not a broken ref.
        bare_repository.make_objects_durable(self.path)
        self._git.run("update-ref", _ref(release), _checked(commit), git_dir=self.path)
        bare_repository.make_refs_durable(self.path, NAMESPACE)

    def drop(self, release: str) -> None:
        """Let go what only this release needed; the next `tidy` frees it."""
        self._git.run("update-ref", "-d", _ref(release), git_dir=self.path)

    def held(self) -> dict[str, str]:
        """Give the commit of every release that is held."""
        listed = self._git.run(
            "for-each-ref",
            "--format=%(objectname) %(refname)",
            f"refs/{NAMESPACE}/",
            git_dir=self.path,
        )
        rows = (row.split(" ", 1) for row in listed.text.splitlines())
        return {ref.removeprefix(f"refs/{NAMESPACE}/"): commit for commit, ref in rows}

    def tidy(self, progress: Progress) -> None:
        """Make many packs one, without what no ref leads to; bounded in memory and on the disk.

        Left for later where the disk could not hold the packs twice.
        """
        packs = bare_repository.packs(self.path)
        if len(packs) <= self._max_packs:
            return
        with bare_repository.disk_errors(self.path):
            needed = _SPACE_FACTOR * sum(pack.stat().st_size for pack in packs)
            if shutil.disk_usage(self.path).free < needed:
                return
        repack = ("repack", "-a", "-d", "-q", "--threads=1", "--window-memory=16m")
        try:
            self._git.run(*repack, git_dir=self.path, progress=progress)
            self._git.run("prune", "--expire=now", git_dir=self.path, progress=progress)
        finally:
            self.sweep()

    def size_bytes(self) -> int:
        """Give how much of the disk it takes."""
        return bare_repository.size_bytes(self.path)


def _entry(row: bytes) -> Entry:
    fields, _, path = row.partition(b"\t")
    mode_digits, _, oid, size = fields.split()
    mode = int(mode_digits, 8)
    name = path.decode("utf-8", "surrogateescape")
    if mode == MODE_SUBMODULE:
        return Entry(name, mode, oid.decode(), 0)
    if not size.isdigit():
        raise StoreDamaged(f"The content of {name!r} is not in the object store.")
    return Entry(name, mode, oid.decode(), int(size))


def _checked(oid: str) -> str:
    """Refuse what git could take for an option or an expression."""
    if _OBJECT.fullmatch(oid) is None:
        raise StoreDamaged(f"{oid!r} names no object.")
    return oid


def _tree_of(commit: str) -> str:
    # Else a tree, or a tag of one, would pass for a commit.
    return f"{_checked(commit)}^{{commit}}^{{tree}}"


def _ref(release: str) -> str:
    if _RELEASE.fullmatch(release) is None:
        raise DeviceError(f"{release!r} names no release.")
    return f"refs/{NAMESPACE}/{release}"

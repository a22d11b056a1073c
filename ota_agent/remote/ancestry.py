"""How a branch's head stands to the high-water mark, decided from commits alone.

A shallow store cannot tell. So the commits of both are fetched into a throw-away repository, at a
depth that grows until one leads to the other, the history ends, or a bound is reached. With filters
that is some hundred bytes a commit. A server without them sends the contents too: then the
throw-away repository borrows what the object store holds, so that only differences come, and the
bound is lower.
"""

from __future__ import annotations

import shutil
import tempfile
from collections import OrderedDict
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ota_agent.errors import SourceChanged
from ota_agent.model.release import Ancestry
from ota_agent.remote import bare_repository

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ota_agent.ports import Progress
    from ota_agent.remote.access import Access
    from ota_agent.remote.git import Git

_MAX_REMEMBERED = 32
_HEAD_REF: Final = "refs/walk/head"
_MARK_REF: Final = "refs/walk/mark"
# Old history may hold what today's fsck refuses; nothing of it is ever staged.
_FETCH: Final = (
    *("-c", "fetch.fsckObjects=false", "-c", "transfer.fsckObjects=false"),
    *("fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--no-auto-maintenance"),
)


@dataclass(frozen=True, slots=True)
class Steps:
    """How deep the walk looks: `first` commits, `factor` times as many, at most `bound`."""

    first: int
    factor: int
    bound: int

    def depths(self) -> Iterator[int]:
        """Give the depths in turn, the bound last."""
        depth = self.first
        while depth < self.bound:
            yield depth
            depth *= self.factor
        yield self.bound


@dataclass(frozen=True, slots=True)
class Depths:
    """The steps for a server that can leave contents out, and for one that cannot."""

    with_filters: Steps = Steps(64, 16, 16_384)
    without_filters: Steps = Steps(4, 4, 256)


class AncestryWalk:
    """Decides for one source; remembers its answers as long as the process lives."""

    def __init__(
        self,
        git: Git,
        access: Access,
        *,
        store: Path,
        scratch: Path,
        depths: Depths | None = None,
    ) -> None:
        """`store` is the object store's repository, `scratch` a directory for throw-away ones."""
        self._git = git
        self._access = access
        self._store = store
        self._scratch = scratch
        self._depths = depths or Depths()
        self._known: OrderedDict[tuple[str, str], Ancestry] = OrderedDict()

    def ancestry(self, head: str, mark: str, progress: Progress, *, has_filters: bool) -> Ancestry:
        """Tell how `head` stands to `mark`; asks the source only for what it does not know yet.

        Raises:
            SourceChanged: the head is no longer there.

        """
        if head == mark:
            return Ancestry.SAME
        if (head, mark) not in self._known:
            answer = self._walk(head, mark, progress, has_filters=has_filters)
            self._known[head, mark] = answer
            while len(self._known) > _MAX_REMEMBERED:
                self._known.popitem(last=False)
        return self._known[head, mark]

    def _walk(self, head: str, mark: str, progress: Progress, *, has_filters: bool) -> Ancestry:
        steps = self._depths.with_filters if has_filters else self._depths.without_filters
        wants = {_HEAD_REF: head, _MARK_REF: mark}
        with self._throw_away(borrows=not has_filters) as repository:
            for depth in steps.depths():
                if self._fetch(repository, wants, depth, progress, has_filters=has_filters):
                    return Ancestry.DIVERGED
                if answer := self._answer(repository, wants, head, mark):
                    return answer
        return Ancestry.UNKNOWN

    def _fetch(
        self,
        repository: Path,
        wants: dict[str, str],
        depth: int,
        progress: Progress,
        *,
        has_filters: bool,
    ) -> bool:
        """Bring the commits; tell whether the mark is gone from the source for good.

        A server of the first protocol gives out its tips only: then the mark is not asked for any
        more, and is looked for in the head's history alone.
        """
        options = [f"--depth={depth}", *(["--filter=tree:0"] if has_filters else [])]
        while True:
            refspecs = [f"+{commit}:{ref}" for ref, commit in wants.items()]
            try:
                self._git.run(
                    *(*_FETCH, *options, self._access.url, *refspecs),
                    git_dir=repository,
                    access=self._access,
                    progress=progress,
                )
            except SourceChanged as error:
                mark = wants.pop(_MARK_REF, None)
                if mark is None or mark not in error.message:
                    raise
                if "not our ref" in error.message:
                    return True
                continue
            return False

    def _answer(
        self, repository: Path, wants: dict[str, str], head: str, mark: str
    ) -> Ancestry | None:
        """Look at the commits that are there; None when they do not tell yet."""
        if self._leads_to(repository, head, mark):
            return Ancestry.DESCENDANT
        if self._leads_to(repository, mark, head):
            return Ancestry.ANCESTOR
        return None if self._is_cut(repository, wants) else Ancestry.DIVERGED

    def _leads_to(self, repository: Path, younger: str, older: str) -> bool:
        arguments = ("merge-base", "--is-ancestor", older, younger)
        # 128: one of the two is not there.
        return self._git.run(*arguments, git_dir=repository, allowed=(0, 1, 128)).exit_code == 0

    def _is_cut(self, repository: Path, wants: dict[str, str]) -> bool:
        """Tell whether the history of what was fetched goes on behind what is there."""
        file = repository / "shallow"
        if not file.exists():
            return False
        boundary = set(file.read_text(encoding="ascii").split())
        walked = self._git.run("rev-list", *wants, git_dir=repository).text.split()
        return not boundary.isdisjoint(walked)

    @contextmanager
    def _throw_away(self, *, borrows: bool) -> Iterator[Path]:
        with bare_repository.disk_errors(self._scratch):
            self._scratch.mkdir(mode=0o700, parents=True, exist_ok=True)
            repository = Path(tempfile.mkdtemp(prefix="walk-", dir=self._scratch))
        try:
            bare_repository.create(self._git, repository)
            if borrows:
                with bare_repository.disk_errors(repository):
                    _borrow(repository, self._store)
            yield repository
        finally:
            shutil.rmtree(repository, ignore_errors=True)


def _borrow(repository: Path, store: Path) -> None:
    """Have the objects of `store` count as held, its tips as what the server can build upon."""
    (repository / "objects/info").mkdir(exist_ok=True)
    (repository / "objects/info/alternates").write_text(f"{store / 'objects'}\n")
    # Its tips have no parents there: unless that is said, git looks for them.
    shallow = store / "shallow"
    if shallow.exists():
        shutil.copyfile(shallow, repository / "shallow")

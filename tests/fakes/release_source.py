"""A project in memory that offers what a test publishes."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from fakes.object_store import FakeObjectStore
from ota_agent.errors import SourceChanged, VersionMismatch
from ota_agent.model.channel import Branch, Channel, Tags
from ota_agent.model.release import Ancestry, Offer
from ota_agent.model.version import parse_version

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from fakes.object_store import Content
    from ota_agent.ports import Progress

DEFAULT_BRANCH = "main"


class FakeReleaseSource:
    """Branches and tags over its own commits; a fetch copies a commit into the device's store.

    `polls` and `fetches` count what was asked, failed or not.
    """

    def __init__(self, store: FakeObjectStore, project: str = "git.example.com/fw") -> None:
        self.store = store
        self.upstream = FakeObjectStore()
        self.polls = 0
        self.fetches = 0
        self._project = project
        self._parents: dict[str, str | None] = {}
        self._refs: dict[str, Offer] = {}
        self._errors: list[BaseException] = []
        self._fetch_errors: list[BaseException] = []
        self._misnamed: set[str] = set()
        self._unknown: set[str] = set()

    # --- what a test tells it ---------------------------------------------------------------

    def publish(
        self, files: Mapping[str, Content], *, branch: str = DEFAULT_BRANCH, rewrite: bool = False
    ) -> Offer:
        """Commit these files to a branch: on top of its tip, or (rewrite) in place of it."""
        ref = f"refs/heads/{branch}"
        tip = self._refs.get(ref)
        commit = self.upstream.publish(files)
        above = None if tip is None else tip.commit
        self._parents[commit] = self._parents[above] if rewrite and above else above
        self._refs[ref] = Offer(commit, ref)
        return self._refs[ref]

    def publish_tag(
        self, name: str, files: Mapping[str, Content], *, annotated: bool = False
    ) -> Offer:
        """Commit these files and tag them; an older tag of this name is moved."""
        commit = self.upstream.publish(files)
        self._parents[commit] = None
        ref = f"refs/tags/{name}"
        tag_object = commit[::-1] if annotated else None
        self._refs[ref] = Offer(commit, ref, parse_version(name), tag_object)
        return self._refs[ref]

    def rewind(self, commit: str, *, branch: str = DEFAULT_BRANCH) -> None:
        """Push a branch back to an older commit."""
        self._refs[f"refs/heads/{branch}"] = Offer(commit, f"refs/heads/{branch}")

    def withdraw(self, ref: str) -> None:
        """Delete a branch or a tag."""
        del self._refs[ref]

    def misname(self, ref: str) -> None:
        """Have the annotated tag object say another name than its ref."""
        self._misnamed.add(ref)

    def hide_ancestry(self, commit: str) -> None:
        """Have the walk from this commit end at its bound."""
        self._unknown.add(commit)

    def fail(self, error: BaseException, times: int = 1) -> None:
        """Have the next polls and fetches fail so; a stall is its `DeadlineExceeded`."""
        self._errors += [error] * times

    def fail_fetch(self, error: BaseException, times: int = 1) -> None:
        """Have the next fetches fail so, while polls go well."""
        self._fetch_errors += [error] * times

    # --- the port ---------------------------------------------------------------------------

    @property
    def project(self) -> str:
        return self._project

    @property
    def address(self) -> str | None:
        return f"https://{self._project}.git"

    def poll(self, channel: Channel, mark: str | None, progress: Progress) -> Sequence[Offer]:
        self.polls += 1
        progress.check()
        _raise_next(self._errors)
        match channel:
            case Branch(name=name):
                offer = self._refs.get(f"refs/heads/{name or DEFAULT_BRANCH}")
                if offer is None:
                    return []
                return [replace(offer, ancestry=self._ancestry(offer.commit, mark))]
            case Tags(range=versions):
                return [
                    offer
                    for offer in self._refs.values()
                    if offer.version is not None and versions.allows(offer.version)
                ]
            case _:
                return [Offer(channel.sha, "")]

    def fetch(self, offer: Offer, progress: Progress) -> int:
        self.fetches += 1
        progress.check()
        _raise_next(self._fetch_errors)
        _raise_next(self._errors)
        if offer.ref:
            present = self._refs.get(offer.ref)
            if present is None or (present.commit, present.tag_object) != (
                offer.commit,
                offer.tag_object,
            ):
                raise SourceChanged(f"{offer.name} is no longer what was offered.")
            if offer.ref in self._misnamed:
                raise VersionMismatch(f"The tag object of {offer.name} names another tag.")
        if offer.commit not in self.upstream.commits:
            raise SourceChanged(f"The source has no commit {offer.commit}.")
        received = self.store.receive(self.upstream, offer.commit)
        progress.advance(received, received)
        return received

    def _ancestry(self, commit: str, mark: str | None) -> Ancestry | None:
        if mark is None:
            return None
        if commit == mark:
            return Ancestry.SAME
        if commit in self._unknown:
            return Ancestry.UNKNOWN
        if mark in self._line(commit):
            return Ancestry.DESCENDANT
        return Ancestry.ANCESTOR if commit in self._line(mark) else Ancestry.DIVERGED

    def _line(self, commit: str) -> list[str]:
        line = []
        above: str | None = commit
        while above is not None:
            line.append(above)
            above = self._parents.get(above)
        return line


def _raise_next(errors: list[BaseException]) -> None:
    if errors:
        raise errors.pop(0)

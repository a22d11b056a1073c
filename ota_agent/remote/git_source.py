"""Releases from any git remote: one `ls-remote` a poll, one shallow fetch a release."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from ota_agent.errors import (
    NoCommit,
    SourceChanged,
    SourceNotFound,
    SourceUnreachable,
    TransientError,
    VersionMismatch,
)
from ota_agent.model.channel import Branch, Channel, Tags
from ota_agent.model.release import Offer
from ota_agent.model.version import parse_version
from ota_agent.remote.git_objects import FETCHED_REF

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ota_agent.model.channel import Range
    from ota_agent.ports import Progress
    from ota_agent.remote.access import Access
    from ota_agent.remote.ancestry import AncestryWalk
    from ota_agent.remote.connection import Breaker, Connection
    from ota_agent.remote.git import Finished, Git
    from ota_agent.remote.git_objects import GitObjects

_TAGS = "refs/tags/"
_PEELED = "^{}"


class GitSource:
    """Implements `ports.ReleaseSource` for https, ssh, a path, and plain http on loopback."""

    def __init__(
        self,
        access: Access,
        *,
        git: Git,
        objects: GitObjects,
        walk: AncestryWalk,
        connection: Connection,
    ) -> None:
        self._access = access
        self._git = git
        self._objects = objects
        self._walk = walk
        self.connection = connection

    @property
    def project(self) -> str:
        """The project's stable identity, without credentials: high-water marks belong to it."""
        return self._access.project

    @property
    def address(self) -> str | None:
        """URL for the connectivity gate; None where the source needs no network."""
        return self._access.address

    @property
    def breaker(self) -> Breaker:
        """What stops attempts after a refused token; `reset()` allows one now."""
        return self.connection.breaker

    def poll(self, channel: Channel, mark: str | None, progress: Progress) -> Sequence[Offer]:
        """List what the channel offers now: one `ls-remote`, none for a single commit.

        A branch that moved is looked at further (`ancestry`), once for each new head.
        """
        match channel:
            case Branch(name=name):
                work = partial(self._poll_branch, name, mark, progress)
            case Tags(range=versions):
                work = partial(self._poll_tags, versions, progress)
            case _:
                return [Offer(channel.sha, "")]
        return self.connection.call(work, progress)

    def fetch(self, offer: Offer, progress: Progress) -> int:
        """Bring the offer's commit and whole tree into the object store; give the bytes received.

        Only what no kept release has is sent. The ref is fetched, not the bare commit: so what was
        withdrawn or moved since the poll is met here, in the same request. A commit that no ref
        names and that is there is not asked for.

        Raises:
            SourceChanged: the ref no longer names what was offered.
            SourceNotFound: the server has no such bare commit, or does not give it out.
            NoCommit: what is offered is a file or a directory.
            VersionMismatch: an annotated tag's inner name is not its ref's.

        """
        if not offer.ref and self._objects.has(offer.commit) and self._is_whole(offer.commit):
            return 0
        return self.connection.call(partial(self._fetch, offer, progress), progress)

    # --- poll -------------------------------------------------------------------------------

    def _poll_branch(self, name: str | None, mark: str | None, progress: Progress) -> list[Offer]:
        asked = "HEAD" if name is None else f"refs/heads/{name}"
        listed = self._list(["--symref", "--", self._access.url, asked], progress)
        refs = dict(_rows(listed.text))
        # A pattern of ls-remote matches the end of any ref: only the very one counts.
        commit = refs.get(asked)
        if commit is None:
            return []
        ref = _symbolic(listed.text) or asked
        ancestry = None
        if mark is not None:
            ancestry = self._walk.ancestry(commit, mark, progress, has_filters=listed.has_filters)
        return [Offer(commit, ref, ancestry=ancestry)]

    def _poll_tags(self, versions: Range, progress: Progress) -> list[Offer]:
        listed = self._list(["--tags", "--", self._access.url], progress)
        refs = dict(_rows(listed.text))
        offers = []
        for ref, oid in refs.items():
            version = parse_version(ref.removeprefix(_TAGS))
            if version is None or not versions.allows(version):
                continue
            commit = refs.get(ref + _PEELED)
            offers.append(Offer(commit or oid, ref, version, oid if commit else None))
        return offers

    def _list(self, arguments: Sequence[str], progress: Progress) -> Finished:
        listed = self._git.run("ls-remote", *arguments, access=self._access, progress=progress)
        if not listed.is_smart:
            # Git takes the login page of a captive portal for an empty repository.
            raise SourceUnreachable("What answered is no git server; it may be a login page.")
        return listed

    # --- fetch ------------------------------------------------------------------------------

    def _fetch(self, offer: Offer, progress: Progress) -> int:
        refspec = f"+{offer.ref or offer.commit}:{FETCHED_REF}"
        options = ("--progress", "--depth=1", "--no-tags", "--no-write-fetch-head")
        try:
            received = self._git.run(
                *("fetch", *options, "--no-auto-maintenance", "--", self._access.url, refspec),
                git_dir=self._objects.path,
                access=self._access,
                progress=progress,
            ).received_bytes
        except BaseException as error:
            # Half a pack would keep a full disk full.
            self._objects.sweep()
            if isinstance(error, SourceChanged) and not offer.ref:
                raise SourceNotFound(
                    f"The source has no commit {offer.commit}, or does not give it out.",
                    hint="Check the commit in source.channel; an old server gives out tips only.",
                ) from error
            raise
        self._verify(offer)
        return received

    def _verify(self, offer: Offer) -> None:
        """Compare what came with what was offered; that all of it came git has checked itself."""
        found = self._git.run(
            *("rev-parse", "--verify", FETCHED_REF), git_dir=self._objects.path
        ).text
        if found != (offer.tag_object or offer.commit):
            raise SourceChanged(f"{offer.name} names something else than it did when it was seen.")
        if offer.tag_object is not None:
            self._verify_tag(offer)
        kind = self._git.run("cat-file", "-t", offer.commit, git_dir=self._objects.path).text
        if kind != "commit":
            raise NoCommit(f"{offer.name} leads to no commit, but to a {kind}.")

    def _verify_tag(self, offer: Offer) -> None:
        """Hold the tag object against its ref: renaming an old signed tag must not republish it."""
        content = self._git.run("cat-file", "tag", FETCHED_REF, git_dir=self._objects.path).text
        header = content.split("\n\n", 1)[0].splitlines()
        inner = next((line[len("tag ") :] for line in header if line.startswith("tag ")), "")
        name = offer.ref.removeprefix(_TAGS)
        if inner != name:
            raise VersionMismatch(f"The tag {name} is an object that calls itself {inner!r}.")
        peeled = self._git.run(
            *("rev-parse", "--verify", f"{FETCHED_REF}{_PEELED}"), git_dir=self._objects.path
        ).text
        if peeled != offer.commit:
            raise SourceChanged(f"{name} does not lead to the commit that was offered.")

    def _is_whole(self, commit: str) -> bool:
        """Tell whether the commit's tree and every content is there."""
        arguments = ("rev-list", "--objects", "--quiet", "--no-walk", commit)
        try:
            self._git.run(*arguments, git_dir=self._objects.path)
        except TransientError:
            return False
        return True


def _rows(text: str) -> list[tuple[str, str]]:
    """Read `<id> TAB <ref>` lines into (ref, id); symbolic refs have lines of their own."""
    rows = [line.split("\t", 1) for line in text.splitlines() if not line.startswith("ref: ")]
    return [(ref, oid) for oid, ref in rows]


def _symbolic(text: str) -> str | None:
    """Give the branch that HEAD stands for."""
    for line in text.splitlines():
        if line.startswith("ref: refs/heads/") and line.endswith("\tHEAD"):
            return line.removeprefix("ref: ").removesuffix("\tHEAD")
    return None

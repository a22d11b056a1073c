"""What every source of releases promises; run on the fake and on the real one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

import pytest

from fakes.progress import FakeProgress
from ota_agent.errors import SourceChanged, Stopped, VersionMismatch
from ota_agent.model.channel import Branch, Commit, parse_channel
from ota_agent.model.release import Ancestry

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fakes.object_store import Content
    from ota_agent.ports import ObjectStore, ReleaseSource

MAIN = Branch("main")
TAGS = parse_channel("tag:*")


class SourceInTest(ABC):
    """A source, the store that it fetches into, and its publisher."""

    source: ReleaseSource
    store: ObjectStore

    @abstractmethod
    def publish(
        self, files: Mapping[str, Content], *, branch: str = "main", rewrite: bool = False
    ) -> str:
        """Commit to a branch, on top of its tip or in place of it; give the commit."""

    @abstractmethod
    def publish_tag(
        self, name: str, files: Mapping[str, Content], *, annotated: bool = False
    ) -> str:
        """Commit and tag; give the commit."""

    @abstractmethod
    def rewind(self, commit: str) -> None:
        """Push the main branch back to an older commit."""

    @abstractmethod
    def withdraw(self, ref: str) -> None:
        """Delete a ref."""

    @abstractmethod
    def misname(self, ref: str) -> None:
        """Have the tag's object say another name."""


class ReleaseSourceContract:
    def test_empty_project_offers_nothing(self, subject: SourceInTest) -> None:
        for channel in (MAIN, Branch(), TAGS):
            assert list(subject.source.poll(channel, None, FakeProgress())) == []

    def test_branch_offers_its_tip(self, subject: SourceInTest) -> None:
        subject.publish({"a": b"1"})
        tip = subject.publish({"a": b"2"})
        for channel in (MAIN, Branch()):
            (offer,) = subject.source.poll(channel, None, FakeProgress())
            assert (offer.commit, offer.ref) == (tip, "refs/heads/main")
            assert offer.ancestry is None
            assert offer.version is None

    def test_branch_that_is_not_there_offers_nothing(self, subject: SourceInTest) -> None:
        subject.publish({"a": b"1"}, branch="x/main")
        assert list(subject.source.poll(MAIN, None, FakeProgress())) == []

    def test_tags_offer_the_versions_in_the_range(self, subject: SourceInTest) -> None:
        for name in ("v1.0.0", "1.1.0", "v2.0.0-rc.1", "2.0.0", "latest", "1.2"):
            subject.publish_tag(name, {"a": name.encode()})
        everything = subject.source.poll(TAGS, None, FakeProgress())
        assert {offer.name for offer in everything} == {"v1.0.0", "1.1.0", "2.0.0"}
        narrow = subject.source.poll(parse_channel("tag:>=1.1,<2"), None, FakeProgress())
        (offer,) = narrow
        assert (offer.ref, str(offer.version)) == ("refs/tags/1.1.0", "1.1.0")

    def test_annotated_tag_offers_its_commit_and_its_object(self, subject: SourceInTest) -> None:
        light = subject.publish_tag("v1.0.0", {"a": b"1"})
        heavy = subject.publish_tag("v2.0.0", {"a": b"2"}, annotated=True)
        offers = {o.name: o for o in subject.source.poll(TAGS, None, FakeProgress())}
        assert offers["v1.0.0"].commit == light
        assert offers["v1.0.0"].tag_object is None
        assert offers["v2.0.0"].commit == heavy
        assert offers["v2.0.0"].tag_object not in {None, heavy}
        for offer in offers.values():
            subject.source.fetch(offer, FakeProgress())
            assert subject.store.tree_of(offer.commit)

    def test_commit_is_offered_as_it_is_named(self, subject: SourceInTest) -> None:
        commit = subject.publish({"a": b"1"})
        subject.publish({"a": b"2"})
        (offer,) = subject.source.poll(Commit(commit), None, FakeProgress())
        assert (offer.commit, offer.ref) == (commit, "")
        subject.source.fetch(offer, FakeProgress())
        assert subject.store.tree_of(commit)

    def test_fetch_brings_the_whole_tree(self, subject: SourceInTest) -> None:
        subject.publish({"a": b"one", "d/b": b"two"})
        (offer,) = subject.source.poll(MAIN, None, FakeProgress())
        progress = FakeProgress()
        assert subject.source.fetch(offer, progress) > 0
        assert progress.advances
        entries = subject.store.listing(subject.store.tree_of(offer.commit), FakeProgress())
        contents = subject.store.contents([e.oid for e in entries], FakeProgress())
        assert [stream.read() for _, stream in contents] == [b"one", b"two"]

    def test_fetching_again_is_fine(self, subject: SourceInTest) -> None:
        subject.publish({"a": b"one"})
        (offer,) = subject.source.poll(MAIN, None, FakeProgress())
        subject.source.fetch(offer, FakeProgress())
        assert subject.source.fetch(offer, FakeProgress()) == 0

    def test_branch_that_moved_on_is_no_longer_what_was_offered(
        self, subject: SourceInTest
    ) -> None:
        subject.publish({"a": b"1"})
        (offer,) = subject.source.poll(MAIN, None, FakeProgress())
        subject.publish({"a": b"2"})
        with pytest.raises(SourceChanged):
            subject.source.fetch(offer, FakeProgress())

    def test_withdrawn_branch_is_no_longer_what_was_offered(self, subject: SourceInTest) -> None:
        subject.publish({"a": b"1"})
        (offer,) = subject.source.poll(MAIN, None, FakeProgress())
        subject.withdraw("refs/heads/main")
        with pytest.raises(SourceChanged):
            subject.source.fetch(offer, FakeProgress())

    @pytest.mark.parametrize("annotated", [False, True])
    def test_moved_or_withdrawn_tag_is_no_longer_what_was_offered(
        self, subject: SourceInTest, annotated: bool
    ) -> None:
        subject.publish_tag("v1.0.0", {"a": b"1"}, annotated=annotated)
        (offer,) = subject.source.poll(TAGS, None, FakeProgress())
        subject.publish_tag("v1.0.0", {"a": b"2"}, annotated=annotated)
        with pytest.raises(SourceChanged):
            subject.source.fetch(offer, FakeProgress())
        subject.withdraw("refs/tags/v1.0.0")
        with pytest.raises(SourceChanged):
            subject.source.fetch(offer, FakeProgress())

    def test_tag_object_of_another_name_is_refused(self, subject: SourceInTest) -> None:
        subject.publish_tag("v1.0.0", {"a": b"1"}, annotated=True)
        subject.misname("refs/tags/v1.0.0")
        (offer,) = subject.source.poll(TAGS, None, FakeProgress())
        with pytest.raises(VersionMismatch):
            subject.source.fetch(offer, FakeProgress())

    def test_ancestry_is_told_from_the_mark(self, subject: SourceInTest) -> None:
        old = subject.publish({"a": b"1"})
        mark = subject.publish({"a": b"2"})
        assert self.ancestry(subject, mark) is Ancestry.SAME
        subject.publish({"a": b"3"})
        assert self.ancestry(subject, mark) is Ancestry.DESCENDANT
        subject.rewind(old)
        assert self.ancestry(subject, mark) is Ancestry.ANCESTOR
        subject.publish({"a": b"4"})
        assert self.ancestry(subject, mark) is Ancestry.DIVERGED

    def test_rewritten_tip_has_diverged(self, subject: SourceInTest) -> None:
        subject.publish({"a": b"1"})
        mark = subject.publish({"a": b"2"})
        subject.publish({"a": b"3"}, rewrite=True)
        assert self.ancestry(subject, mark) is Ancestry.DIVERGED

    def test_work_ends_when_it_is_told_to(self, subject: SourceInTest) -> None:
        subject.publish({"a": b"1"})
        (offer,) = subject.source.poll(MAIN, None, FakeProgress())
        progress = FakeProgress()
        progress.end(Stopped())
        with pytest.raises(Stopped):
            subject.source.poll(MAIN, None, progress)
        with pytest.raises(Stopped):
            subject.source.fetch(offer, progress)

    def test_project_names_no_credentials(self, subject: SourceInTest) -> None:
        assert "@" not in subject.source.project

    def ancestry(self, subject: SourceInTest, mark: str) -> Ancestry | None:
        (offer,) = subject.source.poll(MAIN, mark, FakeProgress())
        return offer.ancestry

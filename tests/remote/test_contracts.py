"""The contracts of the object store and the source, on the fakes and on git."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest
from typing_extensions import override

from fakes.object_store import FakeObjectStore
from fakes.progress import FakeProgress
from fakes.release_source import FakeReleaseSource
from ota_agent.remote.access import access
from ota_agent.remote.git_objects import FETCHED_REF, GitObjects
from remote.contract_object_store import ObjectStoreContract, StoreInTest
from remote.contract_release_source import ReleaseSourceContract, SourceInTest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fakes.object_store import Content
    from ota_agent.remote.git import Git
    from remote.conftest import Devices, Follower
    from servers.git_http import GitHttpServer
    from servers.publisher import Publisher


class FakeStoreInTest(StoreInTest):
    def __init__(self) -> None:
        self.fake = FakeObjectStore()
        self.store = self.fake

    @override
    def put(self, files: Mapping[str, Content]) -> str:
        return self.fake.publish(files)

    @override
    def damage(self) -> None:
        self.fake.trees.clear()


class GitStoreInTest(StoreInTest):
    def __init__(self, git: Git, objects: GitObjects, publisher: Publisher) -> None:
        self.git = git
        self.objects = objects
        self.publisher = publisher
        self.store = objects

    @override
    def put(self, files: Mapping[str, Content]) -> str:
        commit = self.publisher.publish(files)
        self.git.run(
            *("fetch", "--quiet", "--depth=1", self.publisher.url),
            f"+refs/heads/main:{FETCHED_REF}",
            git_dir=self.objects.path,
            access=access(self.publisher.url),
            progress=FakeProgress(),
        )
        return commit

    @override
    def damage(self) -> None:
        shutil.rmtree(self.objects.path / "objects")


class FakeSourceInTest(SourceInTest):
    def __init__(self) -> None:
        self.objects = FakeObjectStore()
        self.fake = FakeReleaseSource(self.objects)
        self.source = self.fake
        self.store = self.objects

    @override
    def publish(
        self, files: Mapping[str, Content], *, branch: str = "main", rewrite: bool = False
    ) -> str:
        return self.fake.publish(files, branch=branch, rewrite=rewrite).commit

    @override
    def publish_tag(
        self, name: str, files: Mapping[str, Content], *, annotated: bool = False
    ) -> str:
        return self.fake.publish_tag(name, files, annotated=annotated).commit

    @override
    def rewind(self, commit: str) -> None:
        self.fake.rewind(commit)

    @override
    def withdraw(self, ref: str) -> None:
        self.fake.withdraw(ref)

    @override
    def misname(self, ref: str) -> None:
        self.fake.misname(ref)


class GitSourceInTest(SourceInTest):
    def __init__(self, follower: Follower, objects: GitObjects, publisher: Publisher) -> None:
        self.source = follower.source
        self.store = objects
        self.publisher = publisher

    @override
    def publish(
        self, files: Mapping[str, Content], *, branch: str = "main", rewrite: bool = False
    ) -> str:
        parent = f"refs/heads/{branch}^" if rewrite else ""
        return self.publisher.publish(files, branch=branch, parent=parent)

    @override
    def publish_tag(
        self, name: str, files: Mapping[str, Content], *, annotated: bool = False
    ) -> str:
        commit = self.publisher.publish(files, branch="releases")
        self.publisher.tag(name, commit, annotated=annotated)
        return commit

    @override
    def rewind(self, commit: str) -> None:
        self.publisher.reset("main", commit)

    @override
    def withdraw(self, ref: str) -> None:
        self.publisher.delete(ref)

    @override
    def misname(self, ref: str) -> None:
        self.publisher.tag(ref.removeprefix("refs/tags/"), f"{ref}^{{}}", inner="v0.9.0")


class TestFakeObjectStore(ObjectStoreContract):
    @pytest.fixture
    def subject(self) -> StoreInTest:
        return FakeStoreInTest()


@pytest.mark.process
class TestGitObjects(ObjectStoreContract):
    @pytest.fixture
    def subject(self, git: Git, objects: GitObjects, publisher: Publisher) -> StoreInTest:
        return GitStoreInTest(git, objects, publisher)


class TestFakeReleaseSource(ReleaseSourceContract):
    @pytest.fixture
    def subject(self) -> SourceInTest:
        return FakeSourceInTest()


@pytest.mark.process
class TestGitSourceOnAPath(ReleaseSourceContract):
    @pytest.fixture
    def subject(self, devices: Devices, objects: GitObjects, publisher: Publisher) -> SourceInTest:
        return GitSourceInTest(devices.following(publisher.url), objects, publisher)


@pytest.mark.process
@pytest.mark.network
class TestGitSourceOverHttp(ReleaseSourceContract):
    @pytest.fixture
    def subject(
        self, devices: Devices, objects: GitObjects, publisher: Publisher, server: GitHttpServer
    ) -> SourceInTest:
        return GitSourceInTest(devices.following(server.url()), objects, publisher)


@pytest.mark.process
@pytest.mark.network
class TestGitSourceOverHttpWithoutFilters(ReleaseSourceContract):
    @pytest.fixture
    def subject(
        self, devices: Devices, objects: GitObjects, publisher: Publisher, server: GitHttpServer
    ) -> SourceInTest:
        server.has_filters = False
        return GitSourceInTest(devices.following(server.url()), objects, publisher)


@pytest.mark.process
@pytest.mark.network
class TestGitSourceOverTheFirstProtocol(ReleaseSourceContract):
    @pytest.fixture
    def subject(
        self, devices: Devices, objects: GitObjects, publisher: Publisher, server: GitHttpServer
    ) -> SourceInTest:
        server.speaks_v2 = False
        return GitSourceInTest(devices.following(server.url()), objects, publisher)

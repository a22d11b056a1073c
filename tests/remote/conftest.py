"""A git of its own, an object store, a publisher and his server for each test."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from fakes.clock import FakeClock
from fakes.progress import FakeProgress
from ota_agent.remote.access import Access, Credentials, access
from ota_agent.remote.ancestry import AncestryWalk, Depths
from ota_agent.remote.connection import Connection, Retries
from ota_agent.remote.git import Git
from ota_agent.remote.git_objects import GitObjects
from ota_agent.remote.git_source import GitSource
from ota_agent.store import atomic
from servers.git_http import GitHttpServer
from servers.publisher import Publisher

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ota_agent.model.release import Offer


def unpack(git: Git, objects: GitObjects) -> None:
    """Turn the packs of a store into loose objects, each a file that can be lost by itself."""
    directory = objects.path / "objects/pack"
    packs = [pack.read_bytes() for pack in directory.glob("*.pack")]
    shutil.rmtree(directory)
    for pack in packs:
        arguments = ("unpack-objects", "-q")
        with git.conversation(*arguments, git_dir=objects.path, progress=FakeProgress()) as child:
            child.stdin.write(pack)
            child.stdin.close()
            child.stdout.read()


class Follower:
    """A device's side: a source on its object store, and what it was told on the way."""

    def __init__(
        self,
        git: Git,
        objects: GitObjects,
        scratch: Path,
        reached: Access,
        *,
        depths: Depths | None = None,
        retries: Retries | None = None,
    ) -> None:
        self.clock = FakeClock()
        self.progress = FakeProgress(self.clock)
        self.connection = Connection(self.clock, retries=retries)
        self.walk = AncestryWalk(git, reached, store=objects.path, scratch=scratch, depths=depths)
        self.source = GitSource(
            reached, git=git, objects=objects, walk=self.walk, connection=self.connection
        )

    def fetch(self, offer: Offer) -> int:
        return self.source.fetch(offer, self.progress)


@pytest.fixture
def git(tmp_path: Path) -> Git:
    return Git(tmp_path / "git", stall_s=20)


@pytest.fixture
def objects(git: Git, tmp_path: Path) -> GitObjects:
    store = GitObjects(git, tmp_path / "repo.git", move_aside=atomic.rename)
    store.prepare()
    return store


@pytest.fixture
def publisher(tmp_path: Path) -> Publisher:
    return Publisher(tmp_path / "served")


@pytest.fixture
def server(publisher: Publisher) -> Iterator[GitHttpServer]:
    with GitHttpServer(publisher.path.parent) as running:
        yield running


@pytest.fixture
def guarded(publisher: Publisher) -> Iterator[GitHttpServer]:
    """Serve to the holder of a token only."""
    with GitHttpServer(publisher.path.parent, tokens={"t0ken-of-device": None}) as running:
        yield running


@pytest.fixture
def progress() -> FakeProgress:
    return FakeProgress()


class Devices:
    """Makes devices that follow an address."""

    def __init__(self, objects: GitObjects, directory: Path) -> None:
        self._objects = objects
        self._directory = directory

    def following(
        self,
        url: str,
        *,
        token: str | None = None,
        depths: Depths | None = None,
        retries: Retries | None = None,
        stall_s: float = 20,
    ) -> Follower:
        credentials = None if token is None else Credentials("oauth2", token)
        reached = access(url, credentials=credentials)
        return self.reaching(reached, depths=depths, retries=retries, stall_s=stall_s)

    def reaching(
        self,
        reached: Access,
        *,
        depths: Depths | None = None,
        retries: Retries | None = None,
        stall_s: float = 20,
    ) -> Follower:
        git = Git(self._directory / "git", stall_s=stall_s)
        scratch = self._directory / "scratch"
        return Follower(git, self._objects, scratch, reached, depths=depths, retries=retries)


@pytest.fixture
def devices(objects: GitObjects, tmp_path: Path) -> Devices:
    return Devices(objects, tmp_path)

"""What a killed git, a power cut and a bad disk leave of the object store."""

from __future__ import annotations

import os
import shutil
import time
from functools import partial
from typing import TYPE_CHECKING

import pytest

from fakes.progress import FakeProgress
from ota_agent.errors import (
    DeadlineExceeded,
    DeviceError,
    DiskFault,
    GitUnusable,
    Stopped,
    StoreDamaged,
)
from ota_agent.remote.access import access
from ota_agent.remote.git import Git
from ota_agent.remote.git_objects import FETCHED_REF, GitObjects
from ota_agent.store import atomic
from remote.conftest import unpack

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from fakes.object_store import Content
    from servers.publisher import Publisher

pytestmark = pytest.mark.process

RELEASE = "1.0.0-abcdef-123456789abc"


class Filled:
    """An object store, and how it is filled without a source."""

    def __init__(self, git: Git, objects: GitObjects, publisher: Publisher) -> None:
        self.git = git
        self.objects = objects
        self.publisher = publisher
        self.path = objects.path
        self.packs = objects.path / "objects/pack"

    def put(self, files: Mapping[str, Content]) -> str:
        commit = self.publisher.publish(files)
        reached = access(self.publisher.url)
        self.git.run(
            *("fetch", "-q", "--depth=1", "--no-tags", reached.url),
            f"+refs/heads/main:{FETCHED_REF}",
            git_dir=self.path,
            access=reached,
        )
        return commit

    def read(self, commit: str) -> dict[str, bytes]:
        entries = self.objects.listing(self.objects.tree_of(commit), FakeProgress())
        contents = self.objects.contents([entry.oid for entry in entries], FakeProgress())
        return {
            entry.path: stream.read() for entry, (_, stream) in zip(entries, contents, strict=True)
        }

    def spoil(self, pattern: str, change: Callable[[bytes], bytes]) -> None:
        for file in self.path.glob(pattern):
            content = file.read_bytes()
            file.chmod(0o644)
            file.write_bytes(change(content))


@pytest.fixture
def filled(git: Git, objects: GitObjects, publisher: Publisher) -> Filled:
    return Filled(git, objects, publisher)


LITTER = [
    "HEAD.lock",
    "config.lock",
    "packed-refs.lock",
    "shallow.lock",
    "gc.pid",
    "refs/ota/x.lock",
    "objects/info/commit-graph.lock",
    "objects/pack/tmp_pack_Ab12",
    "objects/pack/tmp_idx_Ab12",
    "objects/pack/.tmp-77-pack-11.pack",
    "objects/pack/pack-11.keep",
    "objects/pack/pack-22.pack",
    "objects/pack/pack-22.rev",
    "objects/ab/tmp_obj_Ab12",
    "objects/tmp_objdir-incoming-Ab12/pack/half",
]


def test_litter_of_a_killed_git_is_removed(filled: Filled) -> None:
    commit = filled.put({"a": b"1"})
    filled.objects.keep(RELEASE, commit)
    for name in LITTER:
        (filled.path / name).parent.mkdir(parents=True, exist_ok=True)
        (filled.path / name).write_bytes(b"half")
    filled.objects.prepare()
    assert [name for name in LITTER if (filled.path / name).exists()] == []
    assert filled.read(commit) == {"a": b"1"}
    assert not filled.path.with_name("repo.git.damaged").exists()
    later = filled.put({"a": b"2"})
    filled.objects.keep("2", later)
    assert filled.read(later) == {"a": b"2"}


def empty(_content: bytes) -> bytes:
    return b""


def garbage(content: bytes) -> bytes:
    return b"\0\1[[" + b"\0" * len(content)


DAMAGE: dict[str, Callable[[Filled], object]] = {
    "no HEAD": lambda store: (store.path / "HEAD").unlink(),
    "empty HEAD": lambda store: store.spoil("HEAD", empty),
    "garbled HEAD": lambda store: store.spoil("HEAD", garbage),
    "no config": lambda store: (store.path / "config").unlink(),
    "empty config": lambda store: store.spoil("config", empty),
    "garbled config": lambda store: store.spoil("config", garbage),
    "garbled refs": lambda store: (store.path / "packed-refs").write_bytes(b"garbage\n"),
    "garbled shallow": lambda store: store.spoil("shallow", garbage),
    "no shallow": lambda store: (store.path / "shallow").unlink(),
    "garbled ref": lambda store: store.spoil("refs/ota/*", garbage),
    "empty ref": lambda store: store.spoil("refs/ota/*", empty),
    "no objects": lambda store: shutil.rmtree(store.path / "objects"),
    "empty index": lambda store: store.spoil("objects/pack/*.idx", empty),
    "empty pack": lambda store: store.spoil("objects/pack/*.pack", empty),
    "garbled pack": lambda store: store.spoil("objects/pack/*.pack", garbage),
    "no packs": lambda store: shutil.rmtree(store.packs),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_damaged_store_is_set_aside_and_filled_again(
    filled: Filled, damage: Callable[[Filled], object]
) -> None:
    filled.publisher.publish({"a": b"0"})
    filled.objects.keep(RELEASE, filled.put({"a": b"1"}))
    (filled.path.with_name("repo.git.damaged") / "older").mkdir(parents=True)
    damage(filled)
    filled.objects.prepare()
    assert filled.path.with_name("repo.git.damaged").is_dir()
    assert not filled.path.with_name("repo.git.damaged").joinpath("older").exists()
    commit = filled.put({"a": b"2"})
    filled.objects.keep(RELEASE, commit)
    assert filled.read(commit) == {"a": b"2"}


def test_store_that_vanished_is_begun_anew(filled: Filled) -> None:
    filled.put({"a": b"1"})
    shutil.rmtree(filled.path)
    filled.objects.set_aside()
    assert filled.read(filled.put({"a": b"1"})) == {"a": b"1"}


def test_store_that_is_whole_stays(filled: Filled) -> None:
    filled.objects.keep(RELEASE, filled.put({"a": b"1"}))
    filled.objects.prepare()
    assert not filled.path.with_name("repo.git.damaged").exists()


def test_lost_content_shows_when_it_is_listed(filled: Filled) -> None:
    commit = filled.put({"a": b"1"})
    unpack(filled.git, filled.objects)
    tree = filled.objects.tree_of(commit)
    (oid,) = [entry.oid for entry in filled.objects.listing(tree, FakeProgress())]
    (filled.path / "objects" / oid[:2] / oid[2:]).unlink()
    with pytest.raises(StoreDamaged, match="'a'"):
        filled.objects.listing(tree, FakeProgress())


def test_garbled_content_shows_when_it_is_read(filled: Filled) -> None:
    big = os.urandom(3_000_000)
    commit = filled.put({"a": b"first", "b": big, "c": b"last"})
    entries = filled.objects.listing(filled.objects.tree_of(commit), FakeProgress())
    middle = 1_500_000
    filled.spoil(
        "objects/pack/*.pack", lambda pack: pack[:middle] + bytes(999) + pack[middle + 999 :]
    )
    contents = filled.objects.contents([e.oid for e in entries], FakeProgress())
    with pytest.raises(StoreDamaged, match=entries[1].oid):
        [stream.read() for _, stream in contents]
    assert filled.objects.is_damaged(FakeProgress())


def test_store_that_cannot_be_read_through_in_time_counts_as_damaged(objects: GitObjects) -> None:
    progress = FakeProgress()
    progress.end(DeadlineExceeded("verify made no progress for 300 s"))
    assert objects.is_damaged(progress)


def broken_store(objects: GitObjects, tmp_path: Path, text: str) -> GitObjects:
    """Give the store under a git that fails so."""
    broken = tmp_path / "broken-git"
    broken.write_text(f"#!/bin/sh\n{text}\n")
    broken.chmod(0o755)
    git = Git(tmp_path / "git", executable=str(broken))
    return GitObjects(git, objects.path, move_aside=atomic.rename)


def test_disk_that_fails_under_the_contents_is_the_operators(
    tmp_path: Path, objects: GitObjects
) -> None:
    text = "echo 'fatal: read error: Input/output error' >&2; exit 128"
    with pytest.raises(DiskFault):
        list(broken_store(objects, tmp_path, text).contents(["1" * 40], FakeProgress()))


@pytest.mark.parametrize("size", [100, 5_000_000])
def test_content_that_ends_early_is_damage(tmp_path: Path, objects: GitObjects, size: int) -> None:
    store = broken_store(objects, tmp_path, f"read oid; echo $oid blob {size}; echo half")
    with pytest.raises(StoreDamaged):
        [stream.read() for _, stream in store.contents(["1" * 40], FakeProgress())]


def test_large_content_comes_in_pieces_and_may_be_left_early(filled: Filled) -> None:
    big = os.urandom(2_500_000)
    commit = filled.put({"a": big, "b": b"after"})
    oids = [e.oid for e in filled.objects.listing(filled.objects.tree_of(commit), FakeProgress())]
    contents = filled.objects.contents(oids, FakeProgress())
    _, stream = next(contents)
    assert stream.read(10) == big[:10]
    assert next(contents)[1].read() == b"after"
    for _, whole in filled.objects.contents(oids[:1], FakeProgress()):
        assert b"".join(iter(partial(whole.read, 100_000), b"")) == big


def test_more_contents_than_a_pipe_holds_come_in_order(filled: Filled) -> None:
    files: dict[str, Content] = {f"{n:05}": b"%d" % n for n in range(3000)}
    assert filled.read(filled.put(files)) == files


def test_directory_is_no_content(filled: Filled) -> None:
    commit = filled.put({"d/a": b"1"})
    with pytest.raises(StoreDamaged):
        list(filled.objects.contents([filled.objects.tree_of(commit)], FakeProgress()))


def test_reading_ends_when_it_is_told_to(filled: Filled) -> None:
    commit = filled.put({f"{n}": b"%d" % n for n in range(500)})
    oids = [e.oid for e in filled.objects.listing(filled.objects.tree_of(commit), FakeProgress())]
    progress = FakeProgress()
    contents = filled.objects.contents(oids, progress)
    next(contents)
    progress.end(Stopped())
    with pytest.raises(Stopped):
        list(contents)


@pytest.mark.parametrize("name", ["--help", "HEAD", "main", "refs/heads/main", "1" * 39])
def test_only_whole_hashes_reach_git(objects: GitObjects, name: str) -> None:
    with pytest.raises(StoreDamaged):
        objects.tree_of(name)


@pytest.mark.parametrize("release", ["", "-d", "a/b", "../x"])
def test_only_names_of_releases_reach_git(objects: GitObjects, release: str) -> None:
    with pytest.raises(DeviceError):
        objects.drop(release)


def test_listing_ten_thousand_files_takes_a_moment(filled: Filled) -> None:
    commit = filled.put({f"{n % 100}/{n}": b"%d" % n for n in range(10_000)})
    tree = filled.objects.tree_of(commit)
    best = min(timed(lambda: filled.objects.listing(tree, FakeProgress())) for _ in range(5))
    assert best < 0.1


def timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def test_many_packs_become_one_and_what_nobody_keeps_goes(
    git: Git, publisher: Publisher, tmp_path: Path
) -> None:
    objects = GitObjects(git, tmp_path / "few.git", move_aside=atomic.rename, max_packs=3)
    objects.prepare()
    filled = Filled(git, objects, publisher)
    commits = [filled.put({"a": os.urandom(9000)}) for _ in range(5)]
    objects.keep("old", commits[1])
    objects.keep("gone", commits[2])
    objects.drop("gone")
    assert len(list(filled.packs.glob("*.pack"))) == 5
    before = objects.size_bytes()
    objects.tidy(FakeProgress())
    assert len(list(filled.packs.glob("*.pack"))) == 1
    assert objects.size_bytes() < before - 20_000
    assert filled.read(commits[1])
    assert filled.read(commits[4])  # fetched last, on its way to become a release
    assert not objects.has(commits[2])
    assert commits[2] not in (filled.path / "shallow").read_text()
    objects.prepare()
    assert filled.read(filled.put({"a": b"later"}))


def test_few_packs_are_left_alone(filled: Filled) -> None:
    commits = [filled.put({"a": b"%d" % n}) for n in range(3)]
    filled.objects.tidy(FakeProgress())
    assert all(filled.objects.has(commit) for commit in commits)


def test_disk_without_room_for_two_is_not_tidied(
    git: Git, publisher: Publisher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    objects = GitObjects(git, tmp_path / "few.git", move_aside=atomic.rename, max_packs=1)
    objects.prepare()
    filled = Filled(git, objects, publisher)
    for n in range(3):
        filled.put({"a": b"%d" % n})
    monkeypatch.setattr("ota_agent.remote.git_objects._SPACE_FACTOR", 1e15)
    objects.tidy(FakeProgress())
    assert len(list(filled.packs.glob("*.pack"))) == 3


def test_tidying_that_is_ended_loses_nothing(
    git: Git, publisher: Publisher, tmp_path: Path
) -> None:
    objects = GitObjects(git, tmp_path / "few.git", move_aside=atomic.rename, max_packs=1)
    objects.prepare()
    filled = Filled(git, objects, publisher)
    commits = [filled.put({"a": os.urandom(500_000)}) for _ in range(3)]
    for number, commit in enumerate(commits):
        objects.keep(f"{number}", commit)
    progress = FakeProgress()
    progress.end(Stopped())
    with pytest.raises(Stopped):
        objects.tidy(progress)
    assert not list(filled.packs.glob(".tmp-*"))
    assert all(filled.read(commit) for commit in commits)


def test_store_cannot_be_prepared_without_git(tmp_path: Path) -> None:
    git = Git(tmp_path / "git", executable="no-such-git")
    with pytest.raises(GitUnusable):
        GitObjects(git, tmp_path / "repo.git", move_aside=atomic.rename).prepare()


def test_file_in_the_stores_place_is_a_fault_of_the_disk(git: Git, tmp_path: Path) -> None:
    path = tmp_path / "repo.git"
    GitObjects(git, path, move_aside=atomic.rename).prepare()
    shutil.rmtree(path / "objects/pack")
    (path / "objects/pack").write_bytes(b"no directory")
    (tmp_path / "repo.git.damaged").write_bytes(b"no directory either")
    with pytest.raises(DiskFault):
        GitObjects(git, path, move_aside=atomic.rename).set_aside()

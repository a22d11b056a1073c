"""What every object store promises; run on the fake and on the real one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

import pytest

from fakes.object_store import Executable, Link, Submodule
from fakes.progress import FakeProgress
from ota_agent.errors import Stopped, StoreDamaged
from ota_agent.model.tree import MODE_EXECUTABLE, MODE_FILE, MODE_SUBMODULE, MODE_SYMLINK

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fakes.object_store import Content
    from ota_agent.ports import ObjectStore

NOWHERE = "1" * 40


class StoreInTest(ABC):
    """A store, and how its content comes about."""

    store: ObjectStore

    @abstractmethod
    def put(self, files: Mapping[str, Content]) -> str:
        """Have the store hold a commit of these files."""

    @abstractmethod
    def damage(self) -> None:
        """Have the store lose what it holds."""


class ObjectStoreContract:
    def test_listing_is_complete_and_in_gits_order(self, subject: StoreInTest) -> None:
        files: dict[str, Content] = {
            "a.txt": b"before the directory",
            "a/b/c": b"deep",
            "bin/run": Executable(b"#!/bin/sh\n"),
            "empty": b"",
            "link": Link("a/b/c"),
            "other": Submodule(),
            "umlaut \u00fc": b"name",
            "broken \udcff name": b"no UTF-8",
        }
        tree = subject.store.tree_of(subject.put(files))
        entries = subject.store.listing(tree, FakeProgress())
        paths = [entry.path for entry in entries]
        assert paths == sorted(files, key=lambda path: path.encode("utf-8", "surrogateescape"))
        modes = {entry.path: entry.mode for entry in entries}
        assert modes["a.txt"] == MODE_FILE
        assert modes["bin/run"] == MODE_EXECUTABLE
        assert modes["link"] == MODE_SYMLINK
        assert modes["other"] == MODE_SUBMODULE
        sizes = {entry.path: entry.size_bytes for entry in entries}
        assert (sizes["a/b/c"], sizes["empty"], sizes["link"], sizes["other"]) == (4, 0, 5, 0)

    def test_same_content_has_the_same_tree_and_another_commit(self, subject: StoreInTest) -> None:
        one = subject.put({"a": b"1"})
        two = subject.put({"a": b"2"})
        again = subject.put({"a": b"1"})
        assert subject.store.tree_of(one) == subject.store.tree_of(again)
        assert subject.store.tree_of(one) != subject.store.tree_of(two)
        assert one != again

    def test_contents_come_in_the_order_asked_and_repeat(self, subject: StoreInTest) -> None:
        tree = subject.store.tree_of(subject.put({"a": b"first", "b": Link("second"), "c": b""}))
        first, second, empty = [e.oid for e in subject.store.listing(tree, FakeProgress())]
        wanted = [second, first, empty, second]
        found = [
            (oid, stream.read()) for oid, stream in subject.store.contents(wanted, FakeProgress())
        ]
        assert found == [
            (second, b"second"),
            (first, b"first"),
            (empty, b""),
            (second, b"second"),
        ]

    def test_contents_of_nothing_are_nothing(self, subject: StoreInTest) -> None:
        assert list(subject.store.contents([], FakeProgress())) == []

    def test_contents_can_be_left_early(self, subject: StoreInTest) -> None:
        tree = subject.store.tree_of(subject.put({"a": b"1", "b": b"2", "c": b"3"}))
        oids = [entry.oid for entry in subject.store.listing(tree, FakeProgress())]
        for oid, _ in subject.store.contents(oids, FakeProgress()):
            assert oid == oids[0]
            break
        assert len(list(subject.store.contents(oids, FakeProgress()))) == 3

    def test_missing_object_is_damage(self, subject: StoreInTest) -> None:
        store = subject.store
        with pytest.raises(StoreDamaged):
            store.tree_of(NOWHERE)
        with pytest.raises(StoreDamaged):
            store.listing(NOWHERE, FakeProgress())
        with pytest.raises(StoreDamaged):
            list(store.contents([NOWHERE], FakeProgress()))

    def test_kept_release_survives_tidying(self, subject: StoreInTest) -> None:
        commit = subject.put({"a": b"1"})
        tree = subject.store.tree_of(commit)
        subject.store.keep("1.0.0-abcdef-123456789abc", commit)
        subject.store.tidy(FakeProgress())
        assert subject.store.tree_of(commit) == tree
        assert len(subject.store.listing(tree, FakeProgress())) == 1

    def test_keeping_twice_and_dropping_twice_are_fine(self, subject: StoreInTest) -> None:
        commit = subject.put({"a": b"1"})
        subject.store.keep("1.0.0-abcdef-123456789abc", commit)
        subject.store.keep("1.0.0-abcdef-123456789abc", commit)
        subject.store.drop("1.0.0-abcdef-123456789abc")
        subject.store.drop("1.0.0-abcdef-123456789abc")

    def test_what_is_not_there_cannot_be_kept(self, subject: StoreInTest) -> None:
        with pytest.raises(StoreDamaged):
            subject.store.keep("1.0.0-abcdef-123456789abc", NOWHERE)

    def test_store_that_is_set_aside_begins_empty(self, subject: StoreInTest) -> None:
        commit = subject.put({"a": b"1"})
        subject.damage()
        subject.store.set_aside()
        with pytest.raises(StoreDamaged):
            subject.store.tree_of(commit)
        again = subject.put({"a": b"1"})
        assert subject.store.tree_of(again)

    def test_damage_is_told_from_health(self, subject: StoreInTest) -> None:
        assert not subject.store.is_damaged(FakeProgress())
        subject.put({"a": b"1", "d/b": b"2"})
        assert not subject.store.is_damaged(FakeProgress())
        subject.damage()
        assert subject.store.is_damaged(FakeProgress())

    def test_preparing_twice_loses_nothing(self, subject: StoreInTest) -> None:
        commit = subject.put({"a": b"1"})
        subject.store.keep("1.0.0-abcdef-123456789abc", commit)
        subject.store.prepare()
        subject.store.prepare()
        assert subject.store.tree_of(commit)

    def test_work_ends_when_it_is_told_to(self, subject: StoreInTest) -> None:
        tree = subject.store.tree_of(subject.put({"a": b"1"}))
        progress = FakeProgress()
        oids = [entry.oid for entry in subject.store.listing(tree, progress)]
        progress.end(Stopped())
        with pytest.raises(Stopped):
            subject.store.listing(tree, progress)
        with pytest.raises(Stopped):
            list(subject.store.contents(oids, progress))

    def test_what_is_held_is_told(self, subject: StoreInTest) -> None:
        one, two = subject.put({"a": b"1"}), subject.put({"a": b"2"})
        assert subject.store.held() == {}
        subject.store.keep("1-abcdef-123456789abc", one)
        subject.store.keep("2-abcdef-123456789abc", two)
        subject.store.drop("1-abcdef-123456789abc")
        assert subject.store.held() == {"2-abcdef-123456789abc": two}

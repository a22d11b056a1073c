from __future__ import annotations

import stat

import pytest

from ota_agent.errors import ManifestInvalid, TreeHostile
from ota_agent.model.tree import MODE_EXECUTABLE, MODE_FILE, MODE_SYMLINK, Entry
from ota_agent.store import layout
from ota_agent.store.layout import TOP, Layout


def entries(*paths: str) -> list[Entry]:
    return [Entry(path, MODE_FILE, "0" * 40, 0) for path in paths]


def test_directories_are_listed_before_what_is_in_them() -> None:
    laid_out = Layout.of(entries("a/b/c", "a-b/d", "top"), ())
    assert laid_out.directories == ("a", "a-b", "a/b")
    assert set(laid_out.entries) == {"a/b/c", "a-b/d", "top"}
    assert laid_out.links == {}


def test_persistent_path_becomes_a_link_that_leads_out_from_any_depth() -> None:
    laid_out = Layout.of(entries("app", "data/seed", "datum", "x"), ["data", "x", "a/b/"])
    assert set(laid_out.entries) == {"app", "datum"}
    assert laid_out.links == {
        "a/b": "../../../persist/a/b",
        "data": "../../persist/data",
        "x": "../../persist/x",
    }
    assert laid_out.directories == ("a",)


def test_persistent_path_under_another_is_reached_through_that() -> None:
    laid_out = Layout.of(entries(), ["data/logs", "data", "data-2"])
    assert set(laid_out.links) == {"data", "data-2"}


def test_persistent_path_through_a_file_is_refused() -> None:
    with pytest.raises(ManifestInvalid, match="leads through a, which is a file"):
        Layout.of(entries("a"), ["a/b"])


def test_path_that_is_a_file_and_a_directory_is_refused() -> None:
    with pytest.raises(TreeHostile, match="has a both"):
        Layout.of(entries("a", "a/b"), ())


def test_parents_and_kinds_are_told() -> None:
    assert layout.parent_of("a/b/c") == "a/b"
    assert layout.parent_of("a") == TOP
    assert layout.parents_of("a/b/c") == ["a", "a/b"]
    assert layout.is_symlink(Entry("link", MODE_SYMLINK, "0" * 40, 1))
    assert not layout.is_symlink(Entry("file", MODE_EXECUTABLE, "0" * 40, 1))
    assert layout.is_sealed(stat.S_IFDIR | 0o555)
    assert not layout.is_sealed(stat.S_IFDIR | 0o755)
    assert not layout.is_sealed(stat.S_IFREG | 0o555)

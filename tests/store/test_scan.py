from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from plain_user import as_plain_user
from shelf import Shelf, tree_at

from fakes.object_store import Executable, Link
from ota_agent.errors import ReleaseMissing
from ota_agent.store import atomic, inodes
from ota_agent.store.scan import Drift

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from fakes.object_store import Content

FILES: dict[str, Content] = {
    "app/main.py": b"print()\n",
    "app/run": Executable(b"#!/bin/sh\n"),
    "app/deep/er/file": b"deep",
    "config.json": b"{}",
    "latest": Link("app/main.py"),
    "data/seed": b"seed",
}
PERSIST = ["data", "var/log"]


@pytest.fixture
def shelf(tmp_path: Path) -> Iterator[Shelf]:
    shelf = Shelf(tmp_path / "device")
    yield shelf
    shelf.database.close()


@pytest.fixture
def release(shelf: Shelf) -> str:
    return shelf.put(FILES, PERSIST)


@pytest.fixture
def tree(shelf: Shelf, release: str) -> Path:
    """A sealed tree, opened so that the test can change it as root would."""
    return shelf.dir(release)


def unsealed(directory: Path) -> Path:
    """Open a directory for a change; it is told as changed until it is sealed again."""
    directory.chmod(0o755)
    return directory


def test_untouched_tree_has_no_drift(shelf: Shelf, release: str) -> None:
    assert shelf.scan(release) == Drift()
    assert shelf.scan(release).paths == ()


def test_scan_changes_nothing(shelf: Shelf, release: str, tree: Path) -> None:
    (unsealed(tree) / "config.json").unlink()
    before = tree_at(tree)
    shelf.scan(release)
    assert tree_at(tree) == before


def test_untouched_files_are_not_read(
    shelf: Shelf, release: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ota_agent.store.blobs.oid_on_disk", None)
    assert shelf.scan(release) == Drift()


def test_every_kind_of_change_is_named(shelf: Shelf, release: str, tree: Path) -> None:
    unsealed(tree)
    (tree / "config.json").chmod(0o644)
    (tree / "config.json").write_bytes(b"[]")
    (tree / "config.json").chmod(0o444)
    (tree / "latest").unlink()
    (tree / "latest").symlink_to("app/run")
    (tree / "data").unlink()
    (tree / "data").symlink_to("../../persist/other")
    (tree / "app/run").chmod(0o755)
    (unsealed(tree / "app/deep/er") / "file").unlink()
    (tree / "app/deep/er/file").mkdir()
    (tree / "app/deep/er").chmod(0o555)
    tree.chmod(0o555)
    assert shelf.scan(release) == Drift(
        changed=("app/deep/er/file", "app/run", "config.json", "data", "latest")
    )


def test_link_in_place_of_a_file_and_a_pipe_in_place_of_a_link_are_changes(
    shelf: Shelf, release: str, tree: Path
) -> None:
    unsealed(tree)
    (tree / "config.json").unlink()
    (tree / "config.json").symlink_to("app/main.py")
    for name in ("latest", "data"):
        (tree / name).unlink()
        os.mkfifo(tree / name)
    tree.chmod(0o555)
    assert shelf.scan(release) == Drift(changed=("config.json", "data", "latest"))


def test_missing_and_added_files_are_named(shelf: Shelf, release: str, tree: Path) -> None:
    unsealed(tree)
    (tree / "config.json").unlink()
    (tree / "data").unlink()
    (tree / "note.txt").touch()
    (tree / "cache/below").mkdir(parents=True)
    (tree / "cache/below/file").touch()
    (tree / "links").mkdir()
    (tree / "links/link").symlink_to("/", target_is_directory=True)
    (tree / "empty/below").mkdir(parents=True)
    tree.chmod(0o555)
    drift = shelf.scan(release)
    assert drift == Drift(missing=("config.json", "data"), added=("cache/", "links/", "note.txt"))
    assert drift.damage == ("config.json", "data")
    assert drift.paths == ("cache/", "config.json", "data", "links/", "note.txt")


def test_open_directories_are_changes(shelf: Shelf, release: str, tree: Path) -> None:
    unsealed(tree)
    unsealed(tree / "app/deep")
    assert shelf.scan(release) == Drift(changed=(".", "app/deep"))


@pytest.mark.parametrize("replacement", ["file", "link"])
def test_directory_that_became_something_else_takes_its_files_with_it(
    shelf: Shelf, release: str, tree: Path, replacement: str
) -> None:
    elsewhere = tree.parent / "elsewhere"
    unsealed(tree)
    unsealed(tree / "app").rename(elsewhere)
    if replacement == "file":
        (tree / "app").touch()
    else:
        (tree / "app").symlink_to("../elsewhere")
    tree.chmod(0o555)
    assert shelf.scan(release) == Drift(
        changed=("app",), missing=("app/deep/er/file", "app/main.py", "app/run")
    )


@pytest.mark.parametrize(
    ("ignore", "added"),
    [
        ((), ("__pycache__/", "app/__pycache__/", "var/log2/")),
        (("__pycache__",), ("var/log2/",)),
        (("__pycache__", "*.log"), ()),
        (("app/*", "var/*"), ("__pycache__/",)),
        (("*",), ()),
    ],
)
def test_what_is_ignored_is_no_drift(
    shelf: Shelf, release: str, tree: Path, ignore: tuple[str, ...], added: tuple[str, ...]
) -> None:
    for directory in (".", "app", "var"):
        unsealed(tree / directory)
    for directory in ("__pycache__", "app/__pycache__"):
        (tree / directory).mkdir()
        (tree / directory / "module.pyc").touch()
    (tree / "var/log2").mkdir()
    (tree / "var/log2/today.log").touch()
    for directory in (".", "app", "var"):
        (tree / directory).chmod(0o555)
    assert shelf.scan(release, ignore) == Drift(added=added)


def test_ignored_change_of_a_file_of_the_release_is_no_drift(
    shelf: Shelf, release: str, tree: Path
) -> None:
    (tree / "config.json").chmod(0o600)
    assert shelf.scan(release, ["*.json"]) == Drift()


def test_file_that_was_written_anew_with_the_same_content_is_read_once(
    shelf: Shelf, release: str, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.utime(tree / "config.json")
    assert shelf.scan(release) == Drift()
    monkeypatch.setattr("ota_agent.store.blobs.oid_on_disk", None)
    assert shelf.scan(release) == Drift()


def test_file_of_another_owner_is_a_change(shelf: Shelf, release: str, tree: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "geteuid", lambda: os.getuid() + 1)
        drift = shelf.scan(release)
    assert drift.changed == ("app/deep/er/file", "app/main.py", "app/run", "config.json")


def test_litter_of_an_interrupted_repair_is_damage_of_its_directory(
    shelf: Shelf, release: str, tree: Path
) -> None:
    (unsealed(tree / "app") / f"{atomic.TEMP_PREFIX}1").touch()
    (tree / "app").chmod(0o555)
    assert shelf.scan(release) == Drift(changed=("app",))


def test_files_that_go_while_they_are_looked_at_are_missing(
    shelf: Shelf, release: str, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unsealed(tree)
    os.utime(tree / "config.json")
    unsealed(tree / "app/deep/er")

    def remove(*_: object) -> None:
        for path in ("config.json", "app/deep/er/file"):
            (tree / path).unlink(missing_ok=True)
        if (tree / "app/deep/er").exists():
            (tree / "app/deep/er").rmdir()
        raise FileNotFoundError

    monkeypatch.setattr("ota_agent.store.blobs.oid_on_disk", remove)
    drift = shelf.scan(release)
    assert drift.missing == ("app/deep/er/file", "config.json")


def test_directory_that_goes_while_the_tree_is_walked_is_missing(
    shelf: Shelf, release: str, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def remove(*_: object) -> None:
        tree.chmod(0o755)
        atomic.remove_tree(tree / "app")

    monkeypatch.setattr(shelf.progress, "advance", remove)
    assert shelf.scan(release) == Drift(missing=("app/deep/er/file", "app/main.py", "app/run"))


def test_directory_that_its_owner_closed_is_damage() -> None:
    with as_plain_user() as place:
        shelf = Shelf(place / "device")
        release = shelf.put(FILES)
        (shelf.dir(release) / "app").chmod(0o000)
        drift = shelf.scan(release)
        assert drift.changed == ("app",)
        assert set(drift.missing) == {"app/deep/er/file", "app/main.py", "app/run"}
        shelf.mend(release, drift.damage)
        assert shelf.scan(release) == Drift()
        shelf.database.close()


def test_release_that_is_not_kept_is_not_scanned(shelf: Shelf) -> None:
    with pytest.raises(ReleaseMissing, match=r"1\.0-never"):
        shelf.store.scan("1.0-never", [], [], [], shelf.progress)


def test_lost_records_only_cost_time(shelf: Shelf, release: str) -> None:
    with inodes.opened(shelf.database) as records:
        records.forget_others(())
    assert shelf.scan(release) == Drift()

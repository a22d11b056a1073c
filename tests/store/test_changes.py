from __future__ import annotations

import stat
import subprocess
from typing import TYPE_CHECKING

import pytest
from plain_user import as_plain_user
from shelf import Shelf

from fakes.object_store import Executable, Link
from ota_agent.store import blobs, changes

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from fakes.object_store import Content

FILES: dict[str, Content] = {
    "app/main.py": b"one\ntwo\nthree\n",
    "app/run": Executable(b"#!/bin/sh\n"),
    "binary": b"\0\1\2",
    "no newline": b"end",
    "latest": Link("app/main.py"),
}


@pytest.fixture
def shelf(tmp_path: Path) -> Iterator[Shelf]:
    shelf = Shelf(tmp_path / "device")
    yield shelf
    shelf.database.close()


@pytest.fixture
def release(shelf: Shelf) -> str:
    return shelf.put(FILES, ["data"])


@pytest.fixture
def tree(shelf: Shelf, release: str) -> Path:
    return shelf.dir(release)


def oid_of(content: bytes) -> bytes:
    return blobs.oid_of(content, "0" * 40).encode()


def edit(file: Path, content: bytes) -> None:
    mode = file.stat().st_mode
    file.chmod(0o644)
    file.write_bytes(content)
    file.chmod(mode)


def test_untouched_tree_has_no_changes(shelf: Shelf, release: str) -> None:
    assert shelf.local_changes(release) == b""


def test_edited_text_is_told_line_by_line(shelf: Shelf, release: str, tree: Path) -> None:
    edit(tree / "app/main.py", b"one\n2\nthree\n")
    assert shelf.local_changes(release) == (
        b"diff --git a/app/main.py b/app/main.py\n"
        b"--- a/app/main.py\n"
        b"+++ b/app/main.py\n"
        b"@@ -1,3 +1,3 @@\n"
        b" one\n"
        b"-two\n"
        b"+2\n"
        b" three\n"
    )


@pytest.mark.process
def test_patch_applies_to_the_release_and_gives_what_was_on_the_device(
    shelf: Shelf, release: str, tree: Path, tmp_path: Path
) -> None:
    edit(tree / "app/main.py", b"one\n2\nthree")
    edit(tree / "no newline", b"the end")
    (tree / "app/run").chmod(0o444)
    edit(tree / "binary", b"\0\1\3")
    checkout = tmp_path / "checkout"
    (checkout / "app").mkdir(parents=True)
    for path, content in FILES.items():
        if isinstance(content, bytes):
            (checkout / path).write_bytes(content)
    (checkout / "app/run").write_bytes(b"#!/bin/sh\n")
    (checkout / "app/run").chmod(0o755)
    patch = shelf.local_changes(release)
    subprocess.run(["git", "apply", "-v", "-"], input=patch, cwd=checkout, check=True)
    assert (checkout / "app/main.py").read_bytes() == b"one\n2\nthree"
    assert (checkout / "no newline").read_bytes() == b"the end"
    assert not (checkout / "app/run").stat().st_mode & stat.S_IXUSR


def test_what_cannot_be_told_line_by_line_is_named(
    shelf: Shelf, release: str, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(changes, "COMPARED_MAX_BYTES", 100)
    for directory in (tree, tree / "app"):
        directory.chmod(0o755)
    edit(tree / "binary", b"\0\1\3")
    edit(tree / "no newline", b"x" * 101)
    (tree / "app/main.py").unlink()
    (tree / "app/main.py").symlink_to("run")
    (tree / "app/run").chmod(0o755)
    (tree / "latest").unlink()
    (tree / "latest").write_bytes(b"app/main.py")
    (tree / "data").unlink()
    (tree / "added").touch()
    assert shelf.local_changes(release).splitlines() == [
        b"# added: added",
        b"# changed: .",
        b"# changed: app",
        b"# changed: data",
        b"# now a link: app/main.py -> run",
        b"# permissions: app/run, now 755",
        b"# changed, no text: binary, now %b, 3 bytes" % oid_of(b"\0\1\3"),
        b"# now of another kind: latest",
        b"# changed, no text: no newline, now %b, 101 bytes" % oid_of(b"x" * 101),
    ]


def test_missing_file_is_named(shelf: Shelf, release: str, tree: Path) -> None:
    (tree / "app").chmod(0o755)
    (tree / "app/main.py").unlink()
    (tree / "app").chmod(0o555)
    assert shelf.local_changes(release) == b"# missing: app/main.py\n"


def test_unreadable_file_does_not_stop_the_rest() -> None:
    with as_plain_user() as place:
        shelf = Shelf(place / "device")
        release = shelf.put(FILES)
        (shelf.dir(release) / "app/main.py").chmod(0o000)
        edit(shelf.dir(release) / "no newline", b"the end")
        lines = shelf.local_changes(release).splitlines()
        assert lines[0] == b"# not readable: app/main.py"
        assert lines[-2:] == [b"+the end", b"\\ No newline at end of file"]
        shelf.database.close()


def test_patch_is_cut_where_it_becomes_too_large(
    shelf: Shelf, release: str, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(changes, "PATCH_MAX_BYTES", 20)
    tree.chmod(0o755)
    edit(tree / "app/main.py", b"one\n2\nthree\n")
    assert shelf.local_changes(release).splitlines() == [
        b"# changed: .",
        b"# This is not all: the changes are larger than is kept.",
    ]

from __future__ import annotations

import hashlib
import io
import os
from typing import TYPE_CHECKING

import pytest

from ota_agent.errors import StoreDamaged
from ota_agent.model.tree import MODE_FILE, MODE_SYMLINK, Entry
from ota_agent.store import blobs

if TYPE_CHECKING:
    from pathlib import Path

# As `git hash-object` has them.
HELLO = "ce013625030ba8dba906f756967f9e9ca394464a"
EMPTY = "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"


def nothing(_: int) -> None:
    pass


def test_ids_are_gits() -> None:
    assert blobs.oid_of(b"hello\n", EMPTY) == HELLO
    assert blobs.oid_of(b"", EMPTY) == EMPTY


def test_long_ids_are_sha256() -> None:
    expected = hashlib.sha256(b"blob 6\0hello\n").hexdigest()
    assert blobs.oid_of(b"hello\n", "0" * 64) == expected


def test_content_is_copied_in_parts_and_told() -> None:
    content = os.urandom(blobs.CHUNK_BYTES + 7)
    entry = Entry("file", MODE_FILE, blobs.oid_of(content, EMPTY), len(content))
    out, told = io.BytesIO(), list[int]()
    blobs.copy(io.BytesIO(content), entry, out.write, told.append)
    assert out.getvalue() == content
    assert told == [blobs.CHUNK_BYTES, 7]


@pytest.mark.parametrize("content", [b"hello", b"hello\n\n", b"jello\n", b""])
def test_content_that_is_not_what_the_entry_says_is_damage(content: bytes) -> None:
    entry = Entry("file", MODE_FILE, HELLO, 6)
    with pytest.raises(StoreDamaged, match="file"):
        blobs.read_whole(io.BytesIO(content), entry)
    assert blobs.read_whole(io.BytesIO(b"hello\n"), entry) == b"hello\n"


def test_new_file_has_its_mode_and_is_never_written_over(tmp_path: Path) -> None:
    entry = Entry("file", MODE_FILE, HELLO, 6)
    file = tmp_path / "file"
    found = blobs.write_new(file, io.BytesIO(b"hello\n"), entry, 0o100444, nothing)
    assert found == file.stat()
    assert found.st_mode == 0o100444
    with pytest.raises(FileExistsError):
        blobs.write_new(file, io.BytesIO(b"hello\n"), entry, 0o100444, nothing)


def test_target_of_a_link_is_given_only_when_it_is_the_entrys(tmp_path: Path) -> None:
    entry = Entry("link", MODE_SYMLINK, blobs.oid_of(b"there", EMPTY), 5)
    link = tmp_path / "link"
    assert blobs.target_of(str(link), entry) is None
    link.symlink_to("there")
    assert blobs.target_of(str(link), entry) == "there"
    link.unlink()
    link.symlink_to("elsewhere")
    assert blobs.target_of(str(link), entry) is None


def test_file_on_disk_is_told_with_its_metadata(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"hello\n")
    assert blobs.oid_on_disk(str(file), EMPTY, nothing) == (HELLO, file.stat())


def test_file_that_changes_while_it_is_read_has_no_id(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"hello\n")
    oid, found = blobs.oid_on_disk(str(file), EMPTY, lambda _: file.chmod(0o600))
    assert (oid, found) == ("", file.stat())

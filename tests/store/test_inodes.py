from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from ota_agent.errors import DiskFull
from ota_agent.model.tree import MODE_FILE, Entry
from ota_agent.store import blobs, inodes
from ota_agent.store.database import Database
from ota_agent.store.inodes import Inodes

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HELLO = blobs.oid_of(b"hello\n", "0" * 40)
ENTRY = Entry("file", MODE_FILE, HELLO, 6)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = Database.open(tmp_path / "state.db")
    yield database
    database.close()


@pytest.fixture
def records(database: Database) -> Inodes:
    return Inodes(database)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "file"
    file.write_bytes(b"hello\n")
    file.chmod(0o444)
    return file


def nothing(_: int) -> None:
    pass


def edit(file: Path, content: bytes) -> None:
    """Change a file in place, and its time back, as a sly program would."""
    before = file.stat()
    file.chmod(0o644)
    file.write_bytes(content)
    file.chmod(0o444)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_record_tells_an_untouched_file_without_reading(records: Inodes, file: Path) -> None:
    assert records.object_of(file.stat()) is None
    records.note(file.stat(), HELLO)
    assert records.object_of(file.stat()) == HELLO
    assert records.is_untouched(file.stat(), ENTRY)


def test_edit_of_the_same_size_and_time_is_noticed(records: Inodes, file: Path) -> None:
    records.note(file.stat(), HELLO)
    edit(file, b"jello\n")
    assert records.object_of(file.stat()) is None
    assert records.match(str(file), file.stat(), ENTRY, nothing) is None


def test_suspicion_is_settled_by_reading(records: Inodes, file: Path) -> None:
    records.note(file.stat(), HELLO)
    os.utime(file)
    match = records.match(str(file), file.stat(), ENTRY, nothing)
    assert match is not None
    assert (match.found, match.is_known) == (file.stat(), False)


def test_known_file_is_not_read(records: Inodes, file: Path) -> None:
    records.note(file.stat(), HELLO)
    match = records.match("/not/read", file.stat(), ENTRY, nothing)
    assert match is not None
    assert match.is_known


def test_file_known_to_hold_something_else_is_not_read(records: Inodes, file: Path) -> None:
    records.note(file.stat(), "1" * 40)
    assert records.match("/not/read", file.stat(), ENTRY, nothing) is None


@pytest.mark.parametrize(
    "entry", [Entry("file", 0o100755, HELLO, 6), Entry("f", MODE_FILE, HELLO, 7)]
)
def test_other_permissions_or_size_are_no_match(records: Inodes, file: Path, entry: Entry) -> None:
    records.note(file.stat(), HELLO)
    assert records.match(str(file), file.stat(), entry, nothing) is None


def test_file_replaced_after_it_was_looked_at_is_no_match(records: Inodes, file: Path) -> None:
    before = file.stat()
    other = file.with_name("other")
    other.write_bytes(b"hello\n")
    other.chmod(0o444)
    other.rename(file)
    assert records.match(str(file), before, ENTRY, nothing) is None


def test_link_gives_what_to_note(records: Inodes, file: Path) -> None:
    linked = records.link(str(file), file.stat(), f"{file}2")
    assert linked == file.stat()
    assert linked.st_nlink == 2


def test_file_edited_before_it_is_linked_is_not_linked(records: Inodes, file: Path) -> None:
    before = file.stat()
    edit(file, b"longer than before\n")
    assert records.link(str(file), before, f"{file}2") is None
    assert not file.with_name("file2").exists()


def test_other_names_of_an_unlinked_file_stay_known(records: Inodes, file: Path) -> None:
    other = file.with_name("other")
    other.hardlink_to(file)
    records.note(file.stat(), HELLO)
    records.unlink(str(other))
    assert records.object_of(file.stat()) == HELLO


def test_suspicious_file_is_not_known_because_a_name_of_it_goes(
    records: Inodes, file: Path
) -> None:
    other = file.with_name("other")
    other.hardlink_to(file)
    records.note(file.stat(), HELLO)
    edit(file, b"jello\n")
    records.unlink(str(other))
    assert records.object_of(file.stat()) is None


def test_file_edited_while_a_name_of_it_goes_is_not_known(
    records: Inodes, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = file.with_name("other")
    other.hardlink_to(file)
    records.note(file.stat(), HELLO)
    unlink = os.unlink

    def edit_and_unlink(path: str) -> None:
        file.chmod(0o644)
        file.write_bytes(b"hello there\n")
        unlink(path)

    monkeypatch.setattr(os, "unlink", edit_and_unlink)
    records.unlink(str(other))
    assert records.object_of(file.stat()) is None


def test_records_are_saved_and_gone_ones_forgotten(
    database: Database, records: Inodes, file: Path
) -> None:
    other = file.with_name("other")
    other.write_bytes(b"other")
    (file.with_name("link")).symlink_to("other")
    for path in (file, other):
        records.note(path.stat(), HELLO)
    records.save()
    records.save()
    again = Inodes(database)
    assert again.object_of(file.stat()) == HELLO
    again.unlink(str(other))
    again.unlink(str(file.with_name("link")))
    again.save()
    assert [row["ino"] for row in database.rows("SELECT ino FROM inodes")] == [file.stat().st_ino]
    with inodes.opened(database) as records_:
        records_.forget_others({})
    assert database.rows("SELECT ino FROM inodes") == []


def test_records_are_saved_when_the_work_fails(database: Database, file: Path) -> None:
    with pytest.raises(DiskFull):
        note_and_fail(database, file)
    assert Inodes(database).object_of(file.stat()) == HELLO


def test_failure_to_save_does_not_hide_the_first_failure(
    database: Database, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Database, "transaction", failing)
    with pytest.raises(DiskFull, match="the first"):
        note_and_fail(database, file)


def note_and_fail(database: Database, file: Path) -> None:
    with inodes.opened(database) as records:
        records.note(file.stat(), HELLO)
        raise DiskFull("the first")


def failing(_: Database) -> None:
    raise DiskFull("the second")

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from ota_agent.errors import BackupUnusable
from ota_agent.store import backup_record
from ota_agent.store.backup_record import Backup, Kept

if TYPE_CHECKING:
    from pathlib import Path

BACKUP = Backup(
    deployment="3-abcdef",
    sequence=7,
    at=datetime(2030, 1, 2, 3, 4, 5, 6000, tzinfo=UTC),
    why="before 1.1.0 goes live",
    release="1.0.0",
    previous=None,
    data={"data": Kept.COPIED, "new": Kept.ABSENT},
    skipped=("data/pipe",),
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "backup.json"


def test_what_was_written_is_read(path: Path) -> None:
    path.write_bytes(backup_record.pack(BACKUP))
    assert backup_record.read(path) == BACKUP


def test_missing_record_is_told_in_one_sentence(path: Path) -> None:
    with pytest.raises(BackupUnusable, match=r"^There is no backup at .*\.$"):
        backup_record.read(path)


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b"null", b"\xff", b"{}", b'"text"'])
def test_damaged_record_is_told_in_one_sentence(path: Path, damage: bytes) -> None:
    path.write_bytes(damage)
    with pytest.raises(BackupUnusable, match=r"^The backup at .* is damaged: backup\.json\.$"):
        backup_record.read(path)


@pytest.mark.parametrize(
    ("key", "value"),
    [("at", "noon"), ("data", {"data": "maybe"}), ("data", []), ("sequence", None), ("skipped", 1)],
)
def test_wrong_value_is_damage(path: Path, key: str, value: object) -> None:
    path.write_text(json.dumps({**json.loads(backup_record.pack(BACKUP)), key: value}))
    with pytest.raises(BackupUnusable):
        backup_record.read(path)

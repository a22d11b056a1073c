from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from cutting import Cut, count_effects, cut_after
from shelf import names_in

from ota_agent.store.database import Database

if TYPE_CHECKING:
    from pathlib import Path


def work(place: Path, database: Database) -> None:
    (place / "directory").mkdir()
    (place / "file").write_bytes(b"content")
    (place / "file").read_bytes()
    database.put("key", "value")
    (place / "file").rename(place / "moved")


def test_effects_are_counted_and_reading_is_none(tmp_path: Path) -> None:
    database = Database.open(tmp_path / "state.db")
    with count_effects() as cutter:
        work(tmp_path, database)
    assert [effect.split()[0] for effect in cutter.effects] == [
        "os.mkdir",
        "open",
        "commit",
        "os.rename",
    ]
    assert len(cutter) == 4
    assert not cutter.was_cut
    database.close()


@pytest.mark.parametrize("effects", range(5))
def test_nothing_happens_after_the_cut(tmp_path: Path, effects: int) -> None:
    database = Database.open(tmp_path / "state.db")
    with cut_after(effects) as cutter:
        work(tmp_path, database)
    assert cutter.was_cut == (effects < 4)
    done = [
        (tmp_path / "directory").exists(),
        (tmp_path / "file").exists() or (tmp_path / "moved").exists(),
        database.get("key") == "value",
        (tmp_path / "moved").exists(),
    ]
    assert done == [number < effects for number in range(4)]
    database.close()


def test_cleaning_up_is_cut_too(tmp_path: Path) -> None:
    with cut_after(0):
        try:
            (tmp_path / "one").mkdir()
        finally:
            with pytest.raises(Cut):
                (tmp_path / "two").symlink_to("target")
    assert names_in(tmp_path) == []

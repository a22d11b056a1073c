from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from ota_agent.store import mounts

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(mounts, "MOUNTINFO", tmp_path / "mountinfo")
    return tmp_path / "mountinfo"


def tell(told: Path, *points: str) -> None:
    told.write_bytes(
        b"".join(
            b"36 35 98:0 / %s rw,noatime master:1 - ext4 /dev/root rw\n" % os.fsencode(point)
            for point in points
        )
    )


def test_mount_points_below_a_directory_are_listed(told: Path, tmp_path: Path) -> None:
    tell(told, "/", f"{tmp_path}", f"{tmp_path}/b/c", f"{tmp_path}/a", f"{tmp_path}er")
    assert mounts.below(tmp_path) == [tmp_path / "a", tmp_path / "b/c"]


def test_escaped_names_are_read(told: Path, tmp_path: Path) -> None:
    tell(told, f"{tmp_path}/with\\040space\\134")
    assert mounts.below(tmp_path) == [tmp_path / "with space\\"]


def test_directory_reached_through_a_link_is_known_by_its_real_path(
    told: Path, tmp_path: Path
) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    tell(told, f"{tmp_path}/real/data")
    assert mounts.below(tmp_path / "link") == [tmp_path / "link/data"]


def test_host_that_does_not_tell_its_mounts_has_none(told: Path, tmp_path: Path) -> None:
    assert mounts.below(tmp_path) == []


def test_this_host_tells_its_mounts(tmp_path: Path) -> None:
    assert mounts.below(tmp_path) == []

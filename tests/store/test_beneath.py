from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING
from unittest import mock

import pytest
from cutting import cut_after

from ota_agent.errors import DiskFault, DiskFull, WorkDirUnusable
from ota_agent.store import atomic
from ota_agent.store.beneath import held, is_there

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "persist").mkdir()
    return tmp_path / "persist"


def test_path_leads_to_the_place_it_names(root: Path) -> None:
    (root / "a/b").mkdir(parents=True)
    (root / "a/b/file").write_text("content")
    with held(root, "a/b/file") as path:
        assert path.read_text() == "content"


def test_directories_above_are_made_with_their_mode(root: Path) -> None:
    with held(root, "a/b/new", create=True) as path:
        path.touch()
    assert (root / "a/b/new").exists()
    assert [(root / part).stat().st_mode & 0o7777 for part in ("a", "a/b")] == [0o755, 0o755]


def test_directories_above_are_not_made_unasked(root: Path) -> None:
    with pytest.raises(FileNotFoundError), held(root, "a/new"):
        pass
    assert list(root.iterdir()) == []


@pytest.mark.parametrize("create", [True, False])
def test_link_on_the_way_is_not_followed(root: Path, tmp_path: Path, create: bool) -> None:
    (tmp_path / "outside").mkdir()
    (root / "a").symlink_to("../outside")
    with pytest.raises(WorkDirUnusable, match="'a'") as caught, held(root, "a/b", create=create):
        pass
    assert "'a'" in caught.value.hint
    assert list((tmp_path / "outside").iterdir()) == []


def test_file_on_the_way_is_told(root: Path) -> None:
    (root / "a").touch()
    with pytest.raises(WorkDirUnusable, match="no directory"), held(root, "a/b"):
        pass


def test_link_that_is_planted_while_a_path_is_held_does_not_bend_it(
    root: Path, tmp_path: Path
) -> None:
    (tmp_path / "outside").mkdir()
    (root / "a").mkdir()
    with held(root, "a/b") as path:
        (root / "a").rename(root / "moved")
        (root / "a").symlink_to("../outside")
        atomic.write_file(path, b"content")
    assert (root / "moved/b").read_bytes() == b"content"
    assert list((tmp_path / "outside").iterdir()) == []


def test_name_that_the_file_system_refuses_is_a_fault_of_the_device(root: Path) -> None:
    with pytest.raises(DiskFault), held(root, "a" * 300 + "/b"):
        pass


def test_dangling_link_is_there(root: Path) -> None:
    (root / "link").symlink_to("nowhere")
    assert is_there(root, "link")
    assert not is_there(root, "other")
    assert not is_there(root, "other/below")


def test_power_cut_leaves_no_directory_with_a_wrong_mode(tmp_path: Path) -> None:
    for cuts in count():
        root = tmp_path / str(cuts)
        root.mkdir()
        with cut_after(cuts) as cut, held(root, "a/b/c", create=True):
            pass
        named = [path for path in root.rglob("*") if not path.name.startswith(".")]
        assert {path.stat().st_mode & 0o7777 for path in named} <= {0o755}
        # Further down nobody would look for it.
        assert all(path.parent == root for path in root.rglob(".*"))
        with held(root, "a/b/c", create=True) as path:
            path.touch()
        assert sorted(path.name for path in root.rglob("*")) == ["a", "b", "c"]
        if not cut.was_cut:
            break


def test_full_disk_leaves_no_litter_on_the_way(root: Path) -> None:
    (root / "var").mkdir()
    with (
        mock.patch.object(atomic, "rename", side_effect=DiskFull("no space left")),
        pytest.raises(DiskFull),
        held(root, "var/lib/app", create=True),
    ):
        pass
    assert sorted(path.name for path in root.rglob("*")) == ["var"]

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ota_agent.store.links import Links
from ota_agent.store.paths import Paths

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    (tmp_path / "releases" / "1.0-aaaaaa-bbbbbbbbbbbb").mkdir(parents=True)
    (tmp_path / "releases" / "linked").symlink_to("1.0-aaaaaa-bbbbbbbbbbbb")
    (tmp_path / "releases" / "file").touch()
    (tmp_path / "elsewhere").mkdir()
    return Paths(tmp_path)


def test_links_tell_what_is_live_and_what_was_before(paths: Paths) -> None:
    paths.live_link.symlink_to("releases/1.0-aaaaaa-bbbbbbbbbbbb")

    assert Links(paths).live() == "1.0-aaaaaa-bbbbbbbbbbbb"
    assert Links(paths).previous() is None

    paths.previous_link.symlink_to("releases/1.0-aaaaaa-bbbbbbbbbbbb")

    assert Links(paths).previous() == "1.0-aaaaaa-bbbbbbbbbbbb"


@pytest.mark.parametrize(
    "target",
    [
        "releases/gone",
        "releases/file",
        "releases/linked",
        "releases/..",
        "releases/",
        "releases",
        "elsewhere",
        "/tmp",
    ],
)
def test_link_that_leads_to_no_sealed_tree_names_no_release(paths: Paths, target: str) -> None:
    paths.live_link.symlink_to(target)

    assert Links(paths).live() is None


def test_directory_in_the_place_of_the_link_names_no_release(paths: Paths) -> None:
    paths.live_link.mkdir()

    assert Links(paths).live() is None

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ota_agent.model.links import MAX_LINKS, LinkWalk

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


def faults(targets: dict[str, str], persist: Sequence[str] = ()) -> dict[str, str]:
    walk = LinkWalk({path: target.encode() for path, target in targets.items()}, persist)
    return {path: fault for path in targets if (fault := walk.fault(path)) is not None}


@pytest.mark.parametrize(
    "targets",
    [
        {"a/link": "../b"},
        {"a/b/link": "../../c"},
        {"a": "b", "b": "c", "c": "d/e"},
        {"a/up": "..", "b/link": "../a/up/c"},
        {"link": "a/../b/./c//d/"},
        {"link": "missing/../b"},
    ],
)
def test_a_link_that_stays_inside_has_no_fault(targets: dict[str, str]) -> None:
    assert faults(targets) == {}


@pytest.mark.parametrize(
    ("targets", "link"),
    [
        ({"link": ".."}, "link"),
        ({"a/link": "../../x"}, "a/link"),
        ({"link": "a/../../x"}, "link"),
        # Through another link: by its text alone it would stay inside.
        ({"a/b/root": "../..", "link": "a/b/root/../x"}, "link"),
        ({"deep": "a", "link": "deep/../../x"}, "link"),
        ({"a/b/up": "..", "a/b/c/link": "../up/../../x"}, "a/b/c/link"),
    ],
)
def test_a_link_that_climbs_out_is_found_however_it_goes(
    targets: dict[str, str], link: str
) -> None:
    assert faults(targets)[link].startswith("climbs out of the release")


def test_a_link_through_an_absolute_one_leads_out_too() -> None:
    assert set(faults({"etc": "/etc", "link": "etc/passwd"})) == {"etc", "link"}


def test_a_nul_character_is_no_target() -> None:
    assert faults({"link": "a\0b"}) == {"link": "has a NUL character in its target"}


def test_links_in_a_circle_are_refused() -> None:
    found = faults({"a": "b", "b": "a", "self": "self"})
    assert set(found) == {"a", "b", "self"}
    assert all("in a circle" in fault for fault in found.values())


@pytest.mark.parametrize("backwards", [False, True])
def test_as_many_links_as_the_system_follows_are_taken_in_any_order(backwards: bool) -> None:
    chain = [(f"l{number:02}", f"l{number + 1:02}") for number in range(MAX_LINKS + 1)]
    assert faults(dict(chain[1:][:: -1 if backwards else 1])) == {}
    assert set(faults(dict(chain[:: -1 if backwards else 1]))) == {"l00"}


def test_a_persistent_path_leads_out_of_the_release_and_back_is_not_its_parent() -> None:
    found = faults(
        {
            "in": "data/db",
            "beside": "data/sub/../db",
            "out": "data/../x",
            "data/up": "..",
            "config": "elsewhere",
        },
        ["data", "config"],
    )
    assert set(found) == {"out", "data/up", "config"}
    assert found["out"] == "climbs out of the persistent 'data': 'data/../x'"
    assert found["config"] == "is a persistent path, and has to be a file or a directory"


NAMES = st.sampled_from(["a", "b", "c"])
TARGETS = st.lists(NAMES | st.sampled_from(["..", "."]), min_size=1, max_size=5).map("/".join)
LINKS = st.dictionaries(
    st.lists(NAMES, min_size=1, max_size=3).map("/".join), TARGETS, min_size=1, max_size=4
)


@given(LINKS)
def test_what_has_no_fault_the_system_too_finds_inside(
    tmp_path_factory: pytest.TempPathFactory, targets: dict[str, str]
) -> None:
    root = tmp_path_factory.mktemp("device") / "release"
    root.mkdir()
    made = {path: target for path, target in targets.items() if make_link(root, path, target)}
    found = faults(made)
    for path in made:
        if path not in found:
            assert (root / path).resolve().is_relative_to(root)


def make_link(root: Path, path: str, target: str) -> bool:
    """Make a link in real directories only, as git lists them."""
    here = root
    for part in path.split("/")[:-1]:
        here = here / part
        if here.is_symlink():
            return False
        here.mkdir(exist_ok=True)
    link = root / path
    if os.path.lexists(link):
        return False
    link.symlink_to(target)
    return True

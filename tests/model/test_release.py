from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ota_agent.model.release import LABEL_MAX_BYTES, Offer, is_release_id, release_id

COMMIT = "0123456789abcdef" * 2 + "01234567"
TREE = "7" * 40


@pytest.mark.parametrize(
    ("ref", "name"),
    [
        ("refs/tags/v1.4.0", "v1.4.0"),
        ("refs/heads/feature/x", "feature/x"),
        ("", "0123456789ab"),
    ],
)
def test_an_offer_is_called_by_its_tag_or_branch_else_by_its_commit(ref: str, name: str) -> None:
    assert Offer(COMMIT, ref).name == name


@pytest.mark.parametrize(
    ("version", "ref", "label"),
    [
        ("1.4.0", "refs/tags/v1.4.0", "1.4.0"),
        ("1.4.0+b/1", "refs/tags/x", "1.4.0+b-1"),
        (None, "refs/heads/feature/x", "feature-x"),
        (None, "refs/heads/übung", "bung"),
        (None, "", "commit"),
        (None, "refs/heads/..", "release"),
        (None, "refs/heads/" + "x" * 200, "x" * LABEL_MAX_BYTES),
    ],
)
def test_a_release_is_named_for_its_version_or_branch(
    version: str | None, ref: str, label: str
) -> None:
    name = release_id(version=version, ref=ref, commit=COMMIT, tree=TREE)
    assert re.fullmatch(rf"{re.escape(label)}-[0-9a-f]{{6}}-0123456789ab", name)


def test_other_content_under_the_same_commit_has_another_name() -> None:
    one, other = (
        release_id(version="1.4.0", ref="", commit=COMMIT, tree=tree) for tree in (TREE, "8" * 40)
    )
    assert one != other


@given(st.none() | st.text(min_size=1), st.text())
def test_a_release_id_is_a_plain_directory_name(version: str | None, branch: str) -> None:
    name = release_id(version=version, ref=f"refs/heads/{branch}", commit=COMMIT, tree=TREE)
    assert re.fullmatch(r"[A-Za-z0-9_+][A-Za-z0-9._+-]*-[0-9a-f]{6}-0123456789ab", name)
    assert len(name) <= LABEL_MAX_BYTES + 20
    assert is_release_id(name)


@pytest.mark.parametrize(
    "name", ["20260101", ".1.0-abcdef-0123456789ab", "1.0-abcdef-0123456789ab\n", "1.0-abcdef-0123"]
)
def test_a_directory_of_another_kind_is_no_release(name: str) -> None:
    assert not is_release_id(name)

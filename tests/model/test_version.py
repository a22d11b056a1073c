from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from semver import Version

import ota_agent
from ota_agent.model.version import MAX_LENGTH, parse_partial, parse_version


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1.4.0", Version(1, 4, 0)),
        ("v1.4.0", Version(1, 4, 0)),
        ("1.4.0-rc.1+b7", Version(1, 4, 0, "rc.1", "b7")),
        ("1.4", None),
        ("1", None),
        ("", None),
        ("v", None),
        ("vv1.4.0", None),
        ("V1.4.0", None),
        ("01.4.0", None),
        ("1.4.0\n", None),
        ("1.4.٣", None),
        ("nightly", None),
        ("1.4.0-" + "a" * MAX_LENGTH, None),
    ],
)
def test_a_tag_is_a_version_when_semver_says_so(text: str, expected: Version | None) -> None:
    assert parse_version(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0.3", Version(0, 3, 0)),
        ("v2", Version(2, 0, 0)),
        ("1.2.3-rc.1", Version(1, 2, 3, "rc.1")),
        ("1.", None),
        ("1.2.3.4", None),
        ("99999999999", None),
        ("", None),
    ],
)
def test_a_least_version_may_leave_numbers_out(text: str, expected: Version | None) -> None:
    assert parse_partial(text) == expected


def test_the_agent_has_a_version_that_min_agent_can_be_compared_with() -> None:
    assert parse_version(ota_agent.__version__) is not None


@given(st.text() | st.from_regex(r"v?[0-9]+(\.[0-9]+){0,3}(-[a-z0-9.-]*)?(\+.*)?"))
def test_any_text_is_a_version_or_none(text: str) -> None:
    for parse in (parse_version, parse_partial):
        version = parse(text)
        assert version is None or parse(str(version)) == version

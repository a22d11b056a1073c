from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from semver import Version

from ota_agent.model.channel import MAX_LENGTH, Branch, Commit, Range, Tags, parse_channel

SHA = "0123456789abcdef0123456789abcdef01234567"


@pytest.mark.parametrize(
    ("text", "expected", "canonical"),
    [
        (None, Branch(None), "branch:HEAD"),
        ("branch:HEAD", Branch(None), "branch:HEAD"),
        ("branch:main", Branch("main"), "branch:main"),
        ("branch:feature/übung-1", Branch("feature/übung-1"), "branch:feature/übung-1"),
        (f"commit:{SHA}", Commit(SHA), f"commit:{SHA}"),
        (f"commit:{SHA.upper()}", Commit(SHA), f"commit:{SHA}"),
        (f"commit:{'a' * 64}", Commit("a" * 64), f"commit:{'a' * 64}"),
        ("tag:*", Tags(Range()), "tag:*"),
        ("tag: * ", Tags(Range()), "tag:*"),
    ],
)
def test_a_channel_has_one_canonical_text(
    text: str | None, expected: Branch | Tags | Commit, canonical: str
) -> None:
    channel = parse_channel(text)
    assert channel == expected
    assert str(channel) == canonical
    assert parse_channel(canonical) == channel


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("tag:>=1.4,<2", "tag:>=1.4,<2"),
        ("tag:<2, >= v1.4,>=1.4", "tag:>=1.4,<2"),
        ("tag:1.4", "tag:=1.4"),
        ("tag:v1.4.0", "tag:=1.4.0"),
        ("tag:>1,!=1.5.0,<=3", "tag:>1,!=1.5.0,<=3"),
        ("tag:>=1.4.0-rc.1", "tag:>=1.4.0-rc.1"),
    ],
)
def test_a_range_has_one_text_however_it_is_written(text: str, canonical: str) -> None:
    assert str(parse_channel(text)) == canonical
    assert str(parse_channel(canonical)) == canonical


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no known form"),
        ("main", "no known form"),
        ("branch", "no known form"),
        ("tags:*", "allowed are branch:NAME"),
        ("release:*", "GitLab Releases are not available yet"),
        ("commit:main", "all 40 (or 64) hex digits"),
        (f"commit:{SHA[:12]}", "all 40 (or 64) hex digits"),
        ("tag:", "no bound of a range"),
        ("tag:*,<2", "'*' is no bound"),
        ("tag:^1.4", "'^1.4' is no bound"),
        ("tag:==1", "'==1' is no bound"),
        ("tag:>=1.4,", "'' is no bound"),
        ("tag:>=1.4.0.1", "no bound"),
        ("tag:>=vv1", "no bound"),
        ("tag:=1.4.0+b1", "no bound"),
        ("branch:", "no branch that git allows"),
        ("branch:@", "no branch"),
        ("branch:-f", "no branch"),
        ("branch:/main", "no branch"),
        ("branch:main/", "no branch"),
        ("branch:main.", "no branch"),
        ("branch:.main", "no branch"),
        ("branch:a//b", "no branch"),
        ("branch:a..b", "no branch"),
        ("branch:a@{1}", "no branch"),
        ("branch:a b", "no branch"),
        ("branch:a\nb", "no branch"),
        ("branch:a\udcffb", "no branch"),
        ("branch:x.lock", "no branch"),
        ("branch:x.lock/y", "no branch"),
        ("branch:refs/heads/main", "short name"),
        ("branch:" + "a" * MAX_LENGTH, "longer than"),
    ],
)
def test_a_wrong_channel_is_refused_with_what_is_allowed(text: str, says: str) -> None:
    with pytest.raises(ValueError, match="channel") as refusal:
        parse_channel(text)
    assert says in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("spec", "version", "allowed"),
    [
        ("*", "0.0.1", True),
        ("*", "1.0.0-rc.1", False),
        (">=1.4,<2", "1.3.9", False),
        (">=1.4,<2", "1.4.0", True),
        (">=1.4,<2", "1.99.0", True),
        (">=1.4,<2", "2.0.0", False),
        (">=1.4,<2", "2.0.0-alpha", False),
        (">=1.4,<2", "1.5.0-rc.1", False),
        (">1.4", "1.4.7", False),
        (">1.4", "1.5.0", True),
        (">1.4.0", "1.4.1", True),
        ("<=1.4", "1.4.7", True),
        ("<=1.4.0", "1.4.1", False),
        ("<1.4.0", "1.3.9", True),
        ("1.4", "1.4.7", True),
        ("1", "1.9.9", True),
        ("=1.4.0", "1.4.1", False),
        ("=1.4.0", "1.4.0+b2", True),
        ("!=1.5.0", "1.5.0", False),
        ("!=1.5", "1.5.3", False),
        ("!=1.5", "1.6.0", True),
        ("!=1.5.0-rc.1", "1.5.0-rc.2", False),
        (">=1.4.0-rc.1", "1.4.0-beta", False),
        (">=1.4.0-rc.1", "1.4.0-rc.2", True),
        (">=1.4.0-rc.1", "1.4.0", True),
        (">=1.4.0-rc.1", "1.5.0-rc.1", False),
        (">=1.4.0-rc.1", "1.5.0", True),
        (">=1.4.0-rc.1,<1.4.0", "1.4.0-rc.7", True),
        (">=1.4.0-rc.1,<1.4.0", "1.4.0", False),
    ],
)
def test_a_range_allows_what_every_bound_allows_and_pre_releases_by_name_only(
    spec: str, version: str, allowed: bool
) -> None:
    channel = parse_channel(f"tag:{spec}")
    assert isinstance(channel, Tags)
    assert channel.range.allows(Version.parse(version)) is allowed


FORMS = st.sampled_from(["branch:", "tag:", "tag:>=", "commit:", "release:", ""])


@given(FORMS, st.text() | st.from_regex(r"[<>=!]*v?[0-9.]+(-[a-z.0-9]+)?(,[<>=!]*[0-9.]+)*"))
def test_any_text_is_a_channel_or_a_value_error(form: str, rest: str) -> None:
    try:
        channel = parse_channel(form + rest)
    except ValueError:
        return
    assert parse_channel(str(channel)) == channel
    assert str(parse_channel(str(channel))) == str(channel)

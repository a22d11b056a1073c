from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from ota_agent.model.trust import Entry, Mark, Trust, Unproven, stricter

NOW = datetime(2030, 1, 2, tzinfo=UTC)


def entry(*commits: str, attempts: int = 0, code: str = "release.rejected") -> Entry:
    return Entry("1.0.0-aaaaaa-cccccccccccc", code, "It failed.", commits, NOW, attempts)


def mark(version: str | None, commit: str = "c") -> Mark:
    return Mark(commit, version)


def combined(a: Mark, b: Mark) -> Mark:
    key = ("p", "tag:*")
    return stricter(Trust(marks={key: a}), Trust(marks={key: b})).marks[key]


def test_refusals_of_both_are_kept() -> None:
    a, b = Trust(quarantine={"t1": entry("c1")}), Trust(quarantine={"t2": entry("c2")})
    assert stricter(a, b).quarantine == {"t1": entry("c1"), "t2": entry("c2")}


def test_content_that_both_refuse_keeps_every_commit_and_the_most_attempts() -> None:
    a = Trust(quarantine={"t": entry("c2", attempts=1, code="release.probe_failed")})
    b = Trust(quarantine={"t": entry("c1", "c2", attempts=3)})
    both = entry("c1", "c2", attempts=3, code="release.probe_failed")
    assert stricter(a, b).quarantine == {"t": both}


def test_higher_version_is_the_mark_whoever_remembers_it() -> None:
    assert combined(mark("1.9.0"), mark("1.10.0")) == mark("1.10.0")
    assert combined(mark("1.10.0"), mark("1.9.0")) == mark("1.10.0")


def test_mark_of_a_branch_is_the_newer_memory_s() -> None:
    assert combined(mark(None, "new"), mark(None, "old")) == mark(None, "new")
    assert combined(mark(None, "new"), mark("1.0.0", "old")) == mark(None, "new")


def test_mark_that_only_the_older_memory_has_is_kept() -> None:
    old = Trust(marks={("p", "branch:main"): mark(None)})
    assert stricter(Trust(), old).marks == old.marks


def test_version_that_does_not_read_as_one_gives_way_to_the_newer_memory() -> None:
    assert combined(mark("1.0.0"), mark("latest")) == mark("1.0.0")
    assert combined(mark("latest"), mark("1.0.0")) == mark("latest")


def test_release_is_unproven_if_either_says_so() -> None:
    unproven = Unproven("r", "t", "1-abcdef", "c")
    assert stricter(Trust(), Trust(unproven=unproven)).unproven == unproven
    assert stricter(Trust(unproven=unproven), Trust()).unproven == unproven
    assert stricter(Trust(), Trust()).unproven is None


def test_epoch_and_pin_are_the_newer_memory_s_where_it_has_them() -> None:
    old = Trust(epoch="old", project_pin="1")
    assert stricter(Trust(epoch="new", project_pin="2"), old).epoch == "new"
    assert stricter(Trust(epoch="new", project_pin="2"), old).project_pin == "2"
    assert stricter(Trust(), old) == old


entries = st.builds(
    entry, st.sampled_from("xyz"), attempts=st.integers(0, 3), code=st.sampled_from("ab")
)
marks = st.builds(mark, st.sampled_from([None, "1.0.0", "1.1.0-rc.1", "1.1.0", "no version"]))
trusts = st.builds(
    Trust,
    epoch=st.sampled_from(["", "e1", "e2"]),
    quarantine=st.dictionaries(st.sampled_from("tuv"), entries),
    marks=st.dictionaries(st.sampled_from([("p", "a"), ("p", "b")]), marks),
    project_pin=st.sampled_from([None, "1", "2"]),
    unproven=st.sampled_from([None, Unproven("r", "t", "1-abcdef", "c")]),
)


@given(trusts, trusts)
def test_nothing_that_either_refuses_is_forgotten(a: Trust, b: Trust) -> None:
    both = stricter(a, b)
    for one in (a, b):
        assert both.quarantine.keys() >= one.quarantine.keys()
        assert both.marks.keys() >= one.marks.keys()
        assert both.unproven or not one.unproven
        for tree, refused in one.quarantine.items():
            assert set(both.quarantine[tree].commits) >= set(refused.commits)
            assert both.quarantine[tree].attempts >= refused.attempts
    assert stricter(both, a) == both
    assert stricter(both, b) == both


def test_age_of_a_refusal_is_the_newer_memory_s() -> None:
    later = Entry("r", "c", "m", (), NOW + timedelta(days=1), 0)
    both = stricter(Trust(quarantine={"t": later}), Trust(quarantine={"t": entry()}))
    assert both.quarantine["t"].at == later.at

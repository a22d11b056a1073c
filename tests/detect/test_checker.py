from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from semver import Version

from ota_agent.detect.checker import Installed, Policy, VersionChecker
from ota_agent.model.channel import parse_channel
from ota_agent.model.deployment import Kind
from ota_agent.model.release import Ancestry, Offer, Release
from ota_agent.model.trust import Mark
from ota_agent.model.verdict import Candidate, Facts, NoCandidate, Reason

NOW = datetime(2024, 5, 1, 12, tzinfo=UTC)
LATER = NOW + timedelta(minutes=10)


def sha(name: str) -> str:
    """Give a commit that is recognised in a failing test."""
    return name.encode().hex().ljust(40, "0")


def name_of(offer: Offer) -> str:
    return bytes.fromhex(offer.commit).rstrip(b"\0").decode()


def tag(version: str, commit: str | None = None) -> Offer:
    return Offer(sha(commit or version), f"refs/tags/v{version}", Version.parse(version))


def branch(commit: str, ancestry: Ancestry | None = None) -> Offer:
    return Offer(sha(commit), "refs/heads/main", ancestry=ancestry)


def live(commit: str | None, version: str | None = None) -> Installed:
    """Give a device with a live release whose tree is named after its commit."""
    if commit is None:
        return Installed()
    release = Release(
        id=commit,
        commit=sha(commit),
        tree=sha(f"tree of {commit}"),
        version=version,
        manifest="",
        files=1,
        size_bytes=1,
        staged_at=NOW,
    )
    return Installed(release, frozenset({sha(commit)}))


def on(version: str) -> Installed:
    return live(version, version)


def mark(version: str) -> Mark:
    return Mark(sha(version), version)


def policy(channel: str = "tag:*", **changes: Any) -> Policy:  # noqa: ANN401 - any of its fields
    start = Policy(channel=parse_channel(channel), agent_version=Version(0, 3, 0), now=NOW)
    return replace(start, **changes)


def facts(commit: str, **changes: Any) -> dict[str, Facts]:  # noqa: ANN401 - any of its fields
    return {sha(commit): Facts(sha(f"tree of {commit}"), **changes)}


def verdict(installed: Installed, offers: list[Offer], rules: Policy) -> str:
    """Give a verdict as it is easily compared: `update 1.5.0`, or `release.downgrade 1.3.0`."""
    answer = VersionChecker().check(installed, offers, rules)
    match answer:
        case Candidate(offer, kind):
            return f"{kind} {name_of(offer)}"
        case NoCandidate(reason=reason, message=message, hint=hint, offer=declined):
            assert message
            assert hint.endswith(".")
            if declined is None:
                return reason
            assert declined.name in message
            return f"{reason} {name_of(declined)}"


TAGS = [tag("1.3.0"), tag("1.4.0"), tag("1.5.0")]
NO_COMMANDS = facts("1.5.0", has_commands=True)


@pytest.mark.parametrize(
    ("what", "installed", "offers", "rules", "expected"),
    [
        ("the first one is the highest", live(None), TAGS, policy(), "first 1.5.0"),
        ("a newer one is an update", on("1.4.0"), TAGS, policy(), "update 1.5.0"),
        ("the highest is live", on("1.5.0"), TAGS, policy(), "release.up_to_date 1.5.0"),
        ("nothing is offered", on("1.4.0"), [], policy(), "channel.empty"),
        ("a range keeps it lower", live(None), TAGS, policy("tag:<1.5"), "first 1.4.0"),
        ("nothing is in the range", live(None), TAGS, policy("tag:>=2"), "channel.empty"),
        (
            "a pre-release is no candidate by itself",
            on("1.5.0"),
            [*TAGS, tag("2.0.0-rc.1")],
            policy(),
            "release.up_to_date 1.5.0",
        ),
        (
            "a pre-release is one when it is asked for",
            on("1.5.0"),
            [*TAGS, tag("2.0.0-rc.1")],
            policy("tag:>=2.0.0-rc.1"),
            "update 2.0.0-rc.1",
        ),
        (
            "an offer without a version is passed over",
            live(None),
            [Offer(sha("x"), "refs/tags/nightly")],
            policy(),
            "channel.empty",
        ),
        (
            "lower than live is a downgrade",
            on("1.6.0"),
            TAGS,
            policy(),
            "release.downgrade 1.5.0",
        ),
        (
            "lower than what was good is a downgrade, whatever is live",
            on("1.3.0"),
            TAGS,
            policy(mark=mark("1.6.0")),
            "release.downgrade 1.5.0",
        ),
        (
            "a downgrade that the operator asked for is taken",
            on("1.6.0"),
            TAGS,
            policy(mark=mark("1.6.0"), accept_downgrade=True),
            "update 1.5.0",
        ),
        (
            "a downgrade that is allowed does not leave what is offered still",
            on("1.5.0"),
            TAGS,
            policy(accept_downgrade=True),
            "release.up_to_date 1.5.0",
        ),
        (
            "a downgrade that is allowed does not go below live for a refused one",
            on("1.4.0"),
            TAGS,
            policy(quarantined_commits={sha("1.5.0"): "x"}, accept_downgrade=True),
            "release.quarantined 1.5.0",
        ),
        (
            "a tag made anew is refused",
            on("1.5.0"),
            [tag("1.5.0", "other")],
            policy(),
            "release.rewritten other",
        ),
        (
            "a tag made anew is refused when the device went back from it",
            on("1.4.0"),
            [tag("1.5.0", "other"), tag("1.4.0")],
            policy(mark=mark("1.5.0")),
            "release.rewritten other",
        ),
        (
            "a tag made anew is taken by an operator who asks for it",
            on("1.5.0"),
            [tag("1.5.0", "other")],
            policy(accept_downgrade=True),
            "update other",
        ),
        (
            "the live one under a second tag is no rewrite",
            on("1.5.0"),
            [tag("1.5.0"), tag("1.5.0", "other")],
            policy(),
            "release.up_to_date 1.5.0",
        ),
        (
            "the good one under a second tag is no rewrite",
            on("1.4.0"),
            [tag("1.5.0", "zz"), tag("1.5.0")],
            policy(mark=mark("1.5.0")),
            "update 1.5.0",
        ),
        (
            "build metadata makes nothing newer",
            live("a", "1.5.0+1"),
            [tag("1.5.0+2", "b")],
            policy(),
            "release.rewritten b",
        ),
        (
            "a new tag on the live commit is nothing new",
            on("1.4.0"),
            [tag("1.6.0", "1.4.0"), tag("1.5.0")],
            policy(),
            "release.up_to_date 1.4.0",
        ),
        (
            "a device that followed a branch takes the highest tag",
            live("tip"),
            TAGS,
            policy(),
            "update 1.5.0",
        ),
        (
            "a live release with a word for a version holds nothing up",
            live("tip", "nightly"),
            TAGS,
            policy(),
            "update 1.5.0",
        ),
        (
            "what the device went back from, and may have again, is deployed again",
            Installed(on("1.4.0").live, frozenset({sha("1.5.0")})),
            TAGS,
            policy(mark=mark("1.5.0")),
            "redeploy 1.5.0",
        ),
        (
            "the same content under a new version is a redeployment",
            on("1.4.0"),
            TAGS,
            policy(facts={sha("1.5.0"): Facts(sha("tree of 1.4.0"))}),
            "redeploy 1.5.0",
        ),
        (
            "other content that is known already is an update",
            on("1.4.0"),
            TAGS,
            policy(facts=facts("1.5.0")),
            "update 1.5.0",
        ),
        (
            "the next lower one is taken when the highest is in quarantine",
            on("1.3.0"),
            TAGS,
            policy(quarantined_commits={sha("1.5.0"): "release.probe_failed"}),
            "update 1.4.0",
        ),
        (
            "a quarantine by content holds under another commit",
            on("1.3.0"),
            TAGS,
            policy(quarantined_trees={sha("tree of 1.5.0"): "x"}, facts=facts("1.5.0")),
            "update 1.4.0",
        ),
        (
            "the reason is that of the highest one",
            on("1.4.0"),
            TAGS,
            policy(quarantined_commits={sha("1.5.0"): "release.probe_failed"}),
            "release.quarantined 1.5.0",
        ),
        (
            "the reason is that of the highest one of several",
            on("1.3.0"),
            TAGS,
            policy(quarantined_commits={sha("1.4.0"): "x"}, not_before={sha("1.5.0"): LATER}),
            "release.backing_off 1.5.0",
        ),
        (
            "one that failed lately waits while the next lower one is taken",
            on("1.3.0"),
            TAGS,
            policy(not_before={sha("1.5.0"): LATER}),
            "update 1.4.0",
        ),
        (
            "one that has waited is taken",
            on("1.3.0"),
            TAGS,
            policy(not_before={sha("1.5.0"): NOW}),
            "update 1.5.0",
        ),
        (
            "commands that are not allowed",
            on("1.4.0"),
            TAGS,
            policy(facts=NO_COMMANDS, commands_missing=["commands.user"]),
            "release.commands_not_allowed 1.5.0",
        ),
        (
            "commands that are allowed",
            on("1.4.0"),
            TAGS,
            policy(facts=NO_COMMANDS),
            "update 1.5.0",
        ),
        (
            "a mass deletion",
            on("1.4.0"),
            TAGS,
            policy(facts=facts("1.5.0", deleted_files=30)),
            "release.too_many_deletions 1.5.0",
        ),
        (
            "a mass deletion that is meant",
            on("1.4.0"),
            TAGS,
            policy(
                facts=facts("1.5.0", deleted_files=30), accept_deletions=frozenset({sha("1.5.0")})
            ),
            "update 1.5.0",
        ),
        (
            "a mass deletion of what is live still",
            on("1.4.0"),
            TAGS,
            policy(facts=facts("1.5.0", deleted_files=30, deleted_from=sha("tree of 1.4.0"))),
            "release.too_many_deletions 1.5.0",
        ),
        (
            "a mass deletion of what is live no longer",
            on("1.4.0"),
            TAGS,
            policy(facts=facts("1.5.0", deleted_files=30, deleted_from=sha("tree of 1.3.0"))),
            "update 1.5.0",
        ),
        (
            "nothing is live that could be deleted",
            live(None),
            TAGS,
            policy(facts=facts("1.5.0", deleted_files=30, deleted_from=sha("tree of 1.3.0"))),
            "first 1.5.0",
        ),
    ],
)
def test_of_the_tags_the_highest_that_nothing_speaks_against_is_taken(
    what: str, installed: Installed, offers: list[Offer], rules: Policy, expected: str
) -> None:
    assert verdict(installed, offers, rules) == expected, what


BRANCH = {"channel": "branch:main"}
GOOD = Mark(sha("good"), None)


@pytest.mark.parametrize(
    ("what", "installed", "offer", "rules", "expected"),
    [
        ("without a mark", live("old"), branch("new"), policy(**BRANCH), "update new"),
        ("the first", live(None), branch("new"), policy(**BRANCH), "first new"),
        (
            "the default branch",
            live(None),
            branch("new"),
            policy("branch:HEAD"),
            "first new",
        ),
        (
            "the tip is live",
            live("good"),
            branch("good", Ancestry.SAME),
            policy(**BRANCH, mark=GOOD),
            "release.up_to_date good",
        ),
        (
            "the tip is live, older than what was good",
            live("old"),
            branch("old", Ancestry.ANCESTOR),
            policy(**BRANCH, mark=GOOD),
            "release.up_to_date old",
        ),
        (
            "back to what was good once",
            live("old"),
            branch("good", Ancestry.SAME),
            policy(**BRANCH, mark=GOOD),
            "update good",
        ),
        (
            "back to what was good once, and the source said nothing of ancestry",
            Installed(live("old").live, frozenset({GOOD.commit})),
            branch("good"),
            policy(**BRANCH, mark=GOOD),
            "redeploy good",
        ),
        (
            "the same commit by the source's word",
            live("old"),
            branch("new", Ancestry.SAME),
            policy(**BRANCH, mark=GOOD),
            "update new",
        ),
        (
            "what the operator went back from",
            live("old"),
            branch("good", Ancestry.SAME),
            policy(**BRANCH, mark=GOOD, quarantined_commits={sha("good"): "operator.rolled_back"}),
            "release.quarantined good",
        ),
        (
            "one that goes on",
            live("good"),
            branch("new", Ancestry.DESCENDANT),
            policy(**BRANCH, mark=GOOD),
            "update new",
        ),
        (
            "one that goes on and is not for this device",
            live("good"),
            branch("new", Ancestry.DESCENDANT),
            policy(**BRANCH, mark=GOOD, facts=facts("new", compatible=("x86",))),
            "release.incompatible new",
        ),
        (
            "an older one",
            live("good"),
            branch("old", Ancestry.ANCESTOR),
            policy(**BRANCH, mark=GOOD),
            "release.downgrade old",
        ),
        (
            "a rewritten one",
            live("good"),
            branch("new", Ancestry.DIVERGED),
            policy(**BRANCH, mark=GOOD),
            "release.rewritten new",
        ),
        (
            "one whose ancestry is out of sight",
            live("good"),
            branch("new", Ancestry.UNKNOWN),
            policy(**BRANCH, mark=GOOD),
            "release.ancestry_unknown new",
        ),
        (
            "one whose ancestry nobody told",
            live("good"),
            branch("new"),
            policy(**BRANCH, mark=GOOD),
            "release.ancestry_unknown new",
        ),
        (
            "a rewritten one that the operator asked for",
            live("good"),
            branch("new", Ancestry.DIVERGED),
            policy(**BRANCH, mark=GOOD, accept_downgrade=True),
            "update new",
        ),
        (
            "one commit, older than what was good",
            live("good"),
            Offer(sha("old"), "", ancestry=Ancestry.ANCESTOR),
            policy(f"commit:{sha('old')}", mark=GOOD),
            "update old",
        ),
        (
            "one commit that is live",
            live("old"),
            Offer(sha("old"), ""),
            policy(f"commit:{sha('old')}"),
            "release.up_to_date old",
        ),
        (
            "one commit in quarantine",
            live("good"),
            Offer(sha("old"), ""),
            policy(f"commit:{sha('old')}", quarantined_commits={sha("old"): "x"}),
            "release.quarantined old",
        ),
    ],
)
def test_a_branch_goes_on_from_what_was_good_and_a_commit_is_taken_at_its_word(
    what: str, installed: Installed, offer: Offer, rules: Policy, expected: str
) -> None:
    assert verdict(installed, [offer], rules) == expected, what


@pytest.mark.parametrize(
    ("channel", "says"),
    [
        ("branch:main", "channel branch:main is empty: the remote has no branch main"),
        ("branch:HEAD", "channel branch:HEAD is empty: the remote has no default branch"),
        ("tag:*", "channel tag:* is empty: the remote has no tag that is a version"),
        ("tag:>=2", "the remote has no tag that is a version in the range >=2"),
        (f"commit:{sha('x')}", f"the remote does not have commit {sha('x')}"),
    ],
)
def test_a_channel_that_offers_nothing_is_named(channel: str, says: str) -> None:
    answer = VersionChecker().check(live(None), [], policy(channel))
    assert isinstance(answer, NoCandidate)
    assert answer.reason is Reason.CHANNEL_EMPTY
    assert says in answer.message


def declined(installed: Installed, offer: Offer, rules: Policy) -> NoCandidate:
    answer = VersionChecker().check(installed, [offer], rules)
    assert isinstance(answer, NoCandidate)
    return answer


def test_a_rewritten_branch_comes_with_the_line_that_takes_it_all_the_same() -> None:
    new = branch("new", Ancestry.DIVERGED)
    answer = declined(live("good"), new, policy(**BRANCH, mark=GOOD))
    assert f"does not follow commit {GOOD.commit[:12]}" in answer.message
    (channel,) = re.findall(r'source\.channel to "([^"]*)"', answer.hint)
    assert (
        verdict(live("good"), [Offer(new.commit, "")], policy(channel, mark=GOOD)) == "update new"
    )


def test_one_that_failed_lately_says_until_when_it_waits() -> None:
    answer = declined(on("1.4.0"), tag("1.5.0"), policy(not_before={sha("1.5.0"): LATER}))
    assert answer.until == LATER
    assert "2024-05-01T12:10:00Z" in answer.message


def test_a_tag_made_anew_names_both_commits() -> None:
    answer = declined(on("1.5.0"), tag("1.5.0", "other"), policy())
    assert sha("other")[:12] in answer.message
    assert sha("1.5.0")[:12] in answer.message


@pytest.mark.parametrize(
    ("known", "changes", "reason"),
    [
        ({}, {}, None),
        ({"min_agent": "0.3.0"}, {}, None),
        ({"min_agent": "0.3.1"}, {}, Reason.AGENT_TOO_OLD),
        ({"min_agent": "0.3.1"}, {"agent_version": Version(0, 3, 1, "rc.1")}, None),
        ({"min_agent": "no version"}, {}, None),
        ({"compatible": ("rpi4-*", "x86")}, {"labels": ("rpi4-b",)}, None),
        ({"compatible": ("rpi4-*", "x86")}, {"labels": ("lab", "x86")}, None),
        ({"compatible": ("rpi4-*", "x86")}, {"labels": ("X86",)}, Reason.INCOMPATIBLE),
        ({"compatible": ("x86",)}, {}, Reason.INCOMPATIBLE),
        ({"has_commands": True}, {"commands_missing": ["x"]}, Reason.COMMANDS_NOT_ALLOWED),
        ({"has_commands": True}, {}, None),
        ({"deleted_files": 20}, {}, Reason.TOO_MANY_DELETIONS),
        ({"deleted_files": 20}, {"accept_deletions": frozenset({sha("1.5.0")})}, None),
        ({}, {"quarantined_trees": {sha("tree"): "x"}}, Reason.QUARANTINED),
    ],
)
def test_the_content_is_judged_by_the_same_rules_once_it_is_read(
    known: dict[str, Any], changes: dict[str, Any], reason: Reason | None
) -> None:
    answer = VersionChecker().judge(tag("1.5.0"), Facts(sha("tree"), **known), policy(**changes))
    assert (answer and answer.reason) == reason


@pytest.mark.parametrize(
    ("missing", "hint"),
    [
        (["commands.user"], "If it may, set commands.user in the configuration."),
        (["a.b", "c.d"], "If it may, set a.b and c.d in the configuration."),
    ],
)
def test_the_settings_that_commands_wait_for_are_named(missing: list[str], hint: str) -> None:
    rules = policy(commands_missing=missing)
    answer = VersionChecker().judge(tag("1.5.0"), Facts("t", has_commands=True), rules)
    assert answer is not None
    assert answer.hint == hint


def test_a_device_without_labels_is_told_what_the_release_is_for() -> None:
    answer = VersionChecker().judge(
        tag("1.5.0"), Facts("t", compatible=("rpi4-*", "x86")), policy()
    )
    assert answer is not None
    assert answer.message == (
        "v1.5.0 is for devices labelled rpi4-* or x86, and this one has no labels"
    )


VERSIONS = st.builds(
    "{}.{}.{}{}".format,
    st.integers(0, 2),
    st.integers(0, 2),
    st.integers(0, 1),
    st.sampled_from(["", "-rc.1", "-rc.2", "+b"]),
)
COMMITS = st.sampled_from(["a", "b", "c", "d", "e"])
OFFERS = st.lists(st.builds(tag, VERSIONS, COMMITS), max_size=6)
FACTS = st.builds(
    Facts,
    tree=COMMITS.map(lambda name: sha(f"tree of {name}")),
    min_agent=st.sampled_from([None, "0.3.0", "9.0.0"]),
    compatible=st.sampled_from([(), ("x86",), ("arm",)]),
    has_commands=st.booleans(),
    deleted_files=st.sampled_from([None, 20]),
)
POLICIES = st.builds(
    policy,
    st.sampled_from(["tag:*", "tag:>=1", "tag:>=1.0.0-rc.1,<2"]),
    mark=st.none() | st.builds(Mark, COMMITS.map(sha), VERSIONS),
    labels=st.just(("x86",)),
    quarantined_trees=st.dictionaries(COMMITS.map(lambda c: sha(f"tree of {c}")), st.just("x")),
    quarantined_commits=st.dictionaries(COMMITS.map(sha), st.just("x"), max_size=2),
    facts=st.dictionaries(COMMITS.map(sha), FACTS),
    not_before=st.dictionaries(COMMITS.map(sha), st.just(LATER), max_size=2),
    commands_missing=st.sampled_from([(), ("commands.user",)]),
)
DEVICES = st.builds(live, st.none() | COMMITS, st.none() | VERSIONS)


@given(DEVICES, OFFERS, POLICIES)
def test_what_is_chosen_is_newer_than_live_and_not_refused(
    installed: Installed, offers: list[Offer], rules: Policy
) -> None:
    answer = VersionChecker().check(installed, offers, rules)
    if isinstance(answer, NoCandidate):
        return
    chosen = answer.offer
    assert chosen.version is not None
    assert chosen.commit not in rules.quarantined_commits
    assert chosen.commit not in rules.not_before
    known = rules.facts.get(chosen.commit)
    assert known is None or VersionChecker().judge(chosen, known, rules) is None
    assert (answer.kind is Kind.FIRST) == (installed.live is None)
    if installed.live is not None:
        assert chosen.commit != installed.live.commit
        if installed.live.version is not None:
            assert chosen.version > Version.parse(installed.live.version)
    if rules.mark is not None and rules.mark.version is not None:
        assert chosen.version >= Version.parse(rules.mark.version)


@given(DEVICES, OFFERS.flatmap(lambda o: st.tuples(st.just(o), st.permutations(o))), POLICIES)
def test_the_order_of_the_offers_does_not_matter(
    installed: Installed, orders: tuple[list[Offer], list[Offer]], rules: Policy
) -> None:
    one, other = (VersionChecker().check(installed, offers, rules) for offers in orders)
    assert one == other


@given(DEVICES, OFFERS, POLICIES)
def test_a_verdict_is_about_something_on_offer(
    installed: Installed, offers: list[Offer], rules: Policy
) -> None:
    answer = VersionChecker().check(installed, offers, rules)
    assert (answer.offer is None) == (
        isinstance(answer, NoCandidate) and answer.reason is Reason.CHANNEL_EMPTY
    )
    assert answer.offer is None or answer.offer in offers

"""VersionChecker: which of the releases on offer this device would deploy, or why none of them.

Pure: what is installed, what is offered and what is allowed go in, a verdict comes out. It is asked
twice about a release: before anything is fetched, with what is remembered of the commit, and by
VERIFY, once its content was read.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, assert_never

from ota_agent.detect import refusals
from ota_agent.model.channel import Branch, Commit, Tags
from ota_agent.model.deployment import Kind
from ota_agent.model.release import Ancestry
from ota_agent.model.verdict import Candidate, Reason
from ota_agent.model.version import parse_partial, parse_version

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from semver import Version

    from ota_agent.model.channel import Channel
    from ota_agent.model.release import Offer, Release
    from ota_agent.model.trust import Mark
    from ota_agent.model.verdict import Facts, NoCandidate, Verdict


@dataclass(frozen=True, slots=True)
class Installed:
    """What the device has.

    Attributes:
        live: the release in use, None before the first deployment.
        succeeded: commits whose deployment succeeded here, at any time.

    """

    live: Release | None = None
    succeeded: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What the device may take now.

    Attributes:
        mark: high-water mark of this project and channel.
        agent_version: of this agent; one of its own pre-releases counts as the release.
        quarantined_trees, quarantined_commits: code of the refusal by tree hash, by commit.
        facts: what is remembered, by commit.
        not_before: by commit, when one that failed lately may be tried again.
        now: wall-clock time, aware.
        commands_missing: settings without which the commands of such releases are not run.
        accept_deletions: commits whose mass deletion the operator has acknowledged.
        accept_downgrade: the operator asked for what is offered now, older or rewritten.

    """

    channel: Channel
    agent_version: Version
    now: datetime
    mark: Mark | None = None
    labels: Sequence[str] = ()
    quarantined_trees: Mapping[str, str] = field(default_factory=dict)
    quarantined_commits: Mapping[str, str] = field(default_factory=dict)
    facts: Mapping[str, Facts] = field(default_factory=dict)
    not_before: Mapping[str, datetime] = field(default_factory=dict)
    commands_missing: Sequence[str] = ()
    accept_deletions: frozenset[str] = frozenset()
    accept_downgrade: bool = False


class VersionChecker:
    """The rules; it keeps nothing between two questions."""

    def check(self, installed: Installed, offered: Sequence[Offer], policy: Policy) -> Verdict:
        """Choose among what a source offers; the order of the offers does not matter.

        Of tags the highest version that nothing speaks against is taken, if it is newer than what
        is live. When there is none, the verdict is about the highest one on offer.
        """
        round_ = _Round(installed, policy)
        match policy.channel:
            case Tags(allowed):
                versions = [
                    (offer.version, offer)
                    for offer in offered
                    if offer.version is not None and allowed.allows(offer.version)
                ]
                return round_.among_tags(versions) if versions else refusals.empty(policy.channel)
            case Branch() | Commit():
                return round_.of_one(offered[0]) if offered else refusals.empty(policy.channel)
            case _ as never:
                assert_never(never)

    def judge(self, offer: Offer, facts: Facts, policy: Policy) -> NoCandidate | None:
        """Say what speaks against an offer once its content is known; None when nothing does."""
        return _judge(offer, facts, policy)


@dataclass(frozen=True, slots=True)
class _Round:
    """One question to the checker."""

    installed: Installed
    policy: Policy

    def among_tags(self, versions: list[tuple[Version, Offer]]) -> Verdict:
        """Take the highest version that nothing speaks against."""
        live, mark = self.installed.live, self.policy.mark

        def rank(item: tuple[Version, Offer]) -> tuple[Version, bool, bool, str, str, str]:
            # Of two tags with one version, the one that the device knows comes first.
            version, offer = item
            is_live = live is not None and offer.commit == live.commit
            is_mark = mark is not None and offer.commit == mark.commit
            return version, is_live, is_mark, str(version), offer.ref, offer.commit

        declined: list[NoCandidate] = []
        for version, offer in sorted(versions, key=rank, reverse=True):
            refusal = self._live(offer) or self._backwards(version, offer) or self._declined(offer)
            if refusal is None:
                return self._candidate(offer)
            declined.append(refusal)
            if refusal.reason is Reason.UP_TO_DATE:
                break  # the rest is older than live, whatever the operator accepts
        return declined[0]

    def of_one(self, offer: Offer) -> Verdict:
        """Judge the only offer of a branch, or of a commit that the operator named."""
        refusal = self._live(offer)
        if refusal is None and isinstance(self.policy.channel, Branch):
            refusal = self._astray(offer)
        return refusal or self._declined(offer) or self._candidate(offer)

    def _live(self, offer: Offer) -> NoCandidate | None:
        live = self.installed.live
        if live is None or live.commit != offer.commit:
            return None
        return refusals.up_to_date(offer)

    def _backwards(self, version: Version, offer: Offer) -> NoCandidate | None:
        """Refuse a version below what the device has or had, and a tag that was made anew."""
        if self.policy.accept_downgrade:
            return None
        for known, what in ((self.installed.live, "live"), (self.policy.mark, "known as good")):
            have = parse_version(known.version) if known is not None and known.version else None
            if known is None or have is None or have < version:
                continue
            if version < have:
                return refusals.downgrade(offer, f"{have}, which is {what} on this device")
            if offer.commit != known.commit:
                return refusals.tag_made_anew(offer, known.commit, what)
        return None

    def _astray(self, offer: Offer) -> NoCandidate | None:
        """Refuse a branch that does not go on from what was good on this device."""
        mark = self.policy.mark
        if mark is None or mark.commit == offer.commit or self.policy.accept_downgrade:
            return None
        good = f"commit {mark.commit[:12]}, the last good one on this device"
        match offer.ancestry:
            case Ancestry.SAME | Ancestry.DESCENDANT:
                return None
            case Ancestry.ANCESTOR:
                return refusals.downgrade(offer, good)
            case Ancestry.DIVERGED:
                return refusals.branch_rewritten(offer, good)
            case Ancestry.UNKNOWN | None:
                return refusals.ancestry_unknown(offer, good)
            case _ as never:
                assert_never(never)

    def _declined(self, offer: Offer) -> NoCandidate | None:
        """Refuse what this device has learned about a commit before."""
        policy = self.policy
        code = policy.quarantined_commits.get(offer.commit)
        if code is not None:
            return refusals.quarantined(offer, code)
        facts = self._facts(offer)
        refusal = None if facts is None else _judge(offer, facts, policy)
        until = policy.not_before.get(offer.commit)
        if refusal is None and until is not None and policy.now < until:
            return refusals.backing_off(offer, until)
        return refusal

    def _facts(self, offer: Offer) -> Facts | None:
        facts = self.policy.facts.get(offer.commit)
        live = self.installed.live
        if facts is None or facts.deleted_from in {None, live and live.tree}:
            return facts
        return replace(facts, deleted_files=None)  # counted against what is live no longer

    def _candidate(self, offer: Offer) -> Candidate:
        live = self.installed.live
        if live is None:
            return Candidate(offer, Kind.FIRST)
        facts = self.policy.facts.get(offer.commit)
        is_known = offer.commit in self.installed.succeeded or (
            facts is not None and facts.tree == live.tree
        )
        return Candidate(offer, Kind.REDEPLOY if is_known else Kind.UPDATE)


def _judge(offer: Offer, facts: Facts, policy: Policy) -> NoCandidate | None:
    code = policy.quarantined_trees.get(facts.tree)
    if code is not None:
        return refusals.quarantined(offer, code)
    needed = None if facts.min_agent is None else parse_partial(facts.min_agent)
    # A pre-release of the agent knows what its release will know.
    if needed is not None and policy.agent_version.finalize_version() < needed:
        return refusals.agent_too_old(offer, needed, policy.agent_version)
    if facts.compatible and not _is_compatible(facts.compatible, policy.labels):
        return refusals.incompatible(offer, facts.compatible, policy.labels)
    if facts.has_commands and policy.commands_missing:
        return refusals.commands_not_allowed(offer, policy.commands_missing)
    if facts.deleted_files is not None and offer.commit not in policy.accept_deletions:
        return refusals.too_many_deletions(offer, facts.deleted_files)
    return None


def _is_compatible(globs: Sequence[str], labels: Sequence[str]) -> bool:
    return any(fnmatchcase(label, glob) for glob in globs for label in labels)

"""What the checker says when it declines: one sentence that names the release, one that helps."""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_never

from ota_agent.model.channel import Branch, Commit, Tags
from ota_agent.model.verdict import NoCandidate, Reason

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from semver import Version

    from ota_agent.model.channel import Channel
    from ota_agent.model.release import Offer


def up_to_date(offer: Offer) -> NoCandidate:
    """Say that the device has what is offered."""
    return NoCandidate(Reason.UP_TO_DATE, f"{offer.name} is live", "Nothing to do.", offer)


def empty(channel: Channel) -> NoCandidate:
    """Say that nothing is offered at all."""
    return NoCandidate(
        Reason.CHANNEL_EMPTY,
        f"channel {channel} is empty: the remote {_lack(channel)}",
        "Publish a release there, or correct source.channel.",
    )


def _lack(channel: Channel) -> str:
    match channel:
        case Tags(allowed) if allowed.bounds:
            return f"has no tag that is a version in the range {allowed}"
        case Tags():
            return "has no tag that is a version, pre-releases aside"
        case Branch(None):
            return "has no default branch"
        case Branch(name):
            return f"has no branch {name}"
        case Commit(sha):
            return f"does not have commit {sha}"
        case _ as never:
            assert_never(never)


def quarantined(offer: Offer, code: str) -> NoCandidate:
    """Say that its content was rejected on this device, for `code`."""
    return NoCandidate(
        Reason.QUARANTINED,
        f"{offer.name} is in quarantine on this device ({code})",
        f"Publish a corrected release, or lift it with `ota-agent retry {offer.name}`.",
        offer,
    )


def downgrade(offer: Offer, known: str) -> NoCandidate:
    """Say that it is older than `known` (end of a sentence): what the device has or had."""
    return NoCandidate(
        Reason.DOWNGRADE,
        f"{offer.name} is older than {known}",
        "Publish a newer release, or go back by hand with `ota-agent rollback`.",
        offer,
    )


def tag_made_anew(offer: Offer, commit: str, what: str) -> NoCandidate:
    """Say that the version which the device knows as `commit` names another commit now."""
    return NoCandidate(
        Reason.REWRITTEN,
        f"tag {offer.name} was made anew: it names commit {offer.commit[:12]}, and commit"
        f" {commit[:12]} is {what} on this device under the same version",
        "Publish the change under a new version.",
        offer,
    )


def branch_rewritten(offer: Offer, known: str) -> NoCandidate:
    """Say that it does not go on from `known` (end of a sentence): what was good here."""
    return NoCandidate(
        Reason.REWRITTEN,
        f"{offer.name} was rewritten: commit {offer.commit[:12]} does not follow {known}",
        f"Push again on top of that, or {_pin(offer)} to take it all the same.",
        offer,
    )


def ancestry_unknown(offer: Offer, known: str) -> NoCandidate:
    """Say that nobody can tell how it stands to `known` (end of a sentence)."""
    return NoCandidate(
        Reason.ANCESTRY_UNKNOWN,
        f"{offer.name}: it cannot be told whether commit {offer.commit[:12]} follows {known}",
        f"If it does, {_pin(offer)}.",
        offer,
    )


def _pin(offer: Offer) -> str:
    return f'set source.channel to "commit:{offer.commit}"'


def agent_too_old(offer: Offer, needed: Version, own: Version) -> NoCandidate:
    """Say that its manifest asks for a newer agent."""
    return NoCandidate(
        Reason.AGENT_TOO_OLD,
        f"{offer.name} needs agent {needed}, this one is {own}",
        f"Install ota-agent {needed} or newer on this device.",
        offer,
    )


def incompatible(offer: Offer, globs: Sequence[str], labels: Sequence[str]) -> NoCandidate:
    """Say that its manifest names other devices."""
    own = f"is labelled {', '.join(labels)}" if labels else "has no labels"
    return NoCandidate(
        Reason.INCOMPATIBLE,
        f"{offer.name} is for devices labelled {' or '.join(globs)}, and this one {own}",
        "Put the right label into `labels` of the configuration, or publish for this device too.",
        offer,
    )


def commands_not_allowed(offer: Offer, missing: Sequence[str]) -> NoCandidate:
    """Say that it brings hooks or command probes, which wait for the settings that are missing."""
    return NoCandidate(
        Reason.COMMANDS_NOT_ALLOWED,
        f"{offer.name} brings commands, which this device does not run",
        f"If it may, set {' and '.join(missing)} in the configuration.",
        offer,
    )


def too_many_deletions(offer: Offer, files: int) -> NoCandidate:
    """Say that it takes away more than half of what is live."""
    return NoCandidate(
        Reason.TOO_MANY_DELETIONS,
        f"{offer.name} takes away {files} files, more than half of those that are live",
        "If that is meant, run `ota-agent update --accept-deletions`.",
        offer,
    )


def backing_off(offer: Offer, until: datetime) -> NoCandidate:
    """Say that it failed lately and has to wait."""
    at = until.isoformat(timespec="seconds").replace("+00:00", "Z")
    return NoCandidate(
        Reason.BACKING_OFF,
        f"{offer.name} failed lately and is tried again after {at}",
        "Nothing to do: it is tried again by itself; `ota-agent update` tries it now.",
        offer,
        until,
    )

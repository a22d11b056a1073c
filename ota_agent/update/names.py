"""Finds the release that a person means by an id, a version, a tag or the first digits of one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ota_agent.model.command import Exit, Outcome
from ota_agent.store import records

if TYPE_CHECKING:
    from ota_agent.model.release import Release
    from ota_agent.update.device import Device

MIN_DIGITS = 4
MIN_ID = 6


def find_kept(device: Device, name: str | None) -> str | Outcome:
    """Find the kept release to go back to; None means the previous one.

    Gives an outcome instead where there is none, more than one, or one that may not be had.
    """
    releases, live = device.disk.releases, device.disk.releases.live()
    if name is None:
        name = releases.previous()
        if name is None:
            return Outcome(Exit.REFUSED, "there is no previous release to go back to")
    known = records.releases(device.disk.database)
    kept = [known[release] for release in releases.kept() if release in known]
    found = [release for release in kept if is_meant(release, name)]
    exact = [release for release in found if name in {release.id, release.version}]
    found = exact or found
    if len(found) != 1:
        there = ", ".join(release.id for release in kept) or "none"
        how = "no kept release" if not found else f"{len(found)} kept releases"
        return Outcome(Exit.REFUSED, f"{name} names {how}; kept are: {there}")
    target = found[0]
    if target.id == live:
        return Outcome(Exit.NOTHING, f"{target.id} is live already")
    entry = records.quarantine(device.disk.database).get(target.tree)
    if entry is not None:
        text = (
            f"{target.id} is in quarantine ({entry.code}); `ota-agent retry {target.id}` lifts it"
        )
        return Outcome(Exit.REFUSED, text, {"code": entry.code})
    return target.id


def find_refused(device: Device, name: str) -> dict[str, str] | Outcome:
    """Find what speaks against the releases meant: tree (or commit, before it was read) to name.

    Gives an outcome instead where there is nothing, or where the digits begin several commits.
    """
    database = device.disk.database
    commits = device.disk.journal.commits_of(name)
    found, begun = {}, set()
    for tree, entry in records.quarantine(database).items():
        digits = {known for known in (tree, *entry.commits) if _begins(known, name)}
        is_named = name == entry.release or not commits.isdisjoint(entry.commits)
        if digits or is_named or entry.release.rsplit("-", 2)[0] == name.removeprefix("v"):
            found[tree] = entry.release
            begun |= digits
    for commit in records.failures(database):
        if _begins(commit, name) or commit in commits:
            found[commit] = commit[:12]
            begun |= {commit} if _begins(commit, name) else set()
    if len(begun) > 1:
        text = f"{name} begins several commits: {', '.join(sorted(begun))}"
        return Outcome(Exit.REFUSED, text)
    if not found:
        return Outcome(Exit.REFUSED, f"{name} is not in quarantine and nothing holds it back")
    return found


def is_meant(release: Release, name: str) -> bool:
    """Tell whether a name that a person gave is this release's."""
    version = name.removeprefix("v")
    return (
        name == release.id
        or version == release.version
        or _begins(release.commit, name)
        or (len(name) >= MIN_ID and release.id.startswith(name))
    )


def _begins(digits: str, name: str) -> bool:
    return len(name) >= MIN_DIGITS and digits.startswith(name)

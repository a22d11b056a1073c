"""VERIFY: what the fetched content is, and whether this device may run it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ota_agent.errors import Quarantined, ReleaseRefused, StoreDamaged, VersionMismatch
from ota_agent.model import syntax
from ota_agent.model import tree as rules
from ota_agent.model.manifest import (
    FILE_NAME,
    MAX_BYTES,
    Manifest,
    min_agent_of,
    parse_manifest,
)
from ota_agent.model.release import release_id
from ota_agent.model.verdict import Facts, Reason
from ota_agent.store import records

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ota_agent.model.tree import Entry
    from ota_agent.update.device import Job


@dataclass(frozen=True, slots=True)
class Content:
    """What a commit holds."""

    tree: str
    entries: Sequence[Entry]
    manifest_text: str
    manifest: Manifest


def read_content(job: Job) -> Content:
    """Read the listing and the manifest of the deployment's commit.

    Raises:
        StoreDamaged: something of it is not in the object store.
        ManifestInvalid: `ota.toml` cannot be used.

    """
    objects = job.device.disk.objects
    tree = objects.tree_of(job.deployment.commit)
    # The driver blames by tree: it has to know it even when the manifest is what is wrong.
    job.deployment = replace(job.deployment, tree=tree)
    entries = objects.listing(tree, job.progress)
    raw = b""
    for entry in entries:
        if entry.path == FILE_NAME and entry.mode != rules.MODE_SYMLINK:
            raw = _read(job, [entry], MAX_BYTES)[entry.path]
    needed = min_agent_of(raw)
    if needed is not None:
        # Before the rest is parsed: a release for a newer agent may use keys unknown to this one,
        # and must not be quarantined for them.
        _require_allowed(job, Facts(tree, min_agent=str(needed)))
    return Content(tree, entries, raw.decode(errors="replace"), parse_manifest(raw))


def inspect(job: Job) -> Content:
    """Read the content and refuse what may not go live; pure rules decide, see `model.tree`.

    Raises:
        ReleaseRejected: the publisher's mistake, by its own code.
        ReleaseRefused: this device does not take it; remembered, so that it is not fetched again.

    """
    content = read_content(job)
    manifest, entries = content.manifest, content.entries
    _require_allowed(job, _facts(job, content))
    links = [entry for entry in entries if entry.mode == rules.MODE_SYMLINK]
    rules.check_tree(
        entries,
        _read(job, links, rules.DEFAULT_LIMITS.symlink_target_bytes),
        [spec.path for spec in manifest.persist],
    )
    _require_one_version(job, manifest)
    rules.check_commands(manifest, entries)
    declared = [
        entry
        for entry in entries
        if entry.mode != rules.MODE_SYMLINK and syntax.has_syntax(manifest, entry.path)
    ]
    syntax.check_syntax(manifest, _read(job, declared, syntax.SYNTAX_MAX_BYTES))
    return content


def name_of(job: Job, content: Content) -> tuple[str, str | None]:
    """Give the release's id and version."""
    deployment = job.deployment
    version = deployment.version
    if version is None:
        version = content.manifest.version
    identity = release_id(
        version=version, ref=deployment.ref, commit=deployment.commit, tree=content.tree
    )
    return identity, version


def _facts(job: Job, content: Content) -> Facts:
    manifest = content.manifest
    live = job.device.disk.releases.live()
    known = job.device.release(live)
    deleted = None
    if live is not None:
        old = _paths_of(job, live)
        deleted = rules.deletes_too_much(old, [entry.path for entry in content.entries])
    return Facts(
        tree=content.tree,
        version=manifest.version,
        min_agent=manifest.min_agent,
        compatible=manifest.compatible,
        has_commands=manifest.has_commands,
        deleted_files=deleted,
        deleted_from=None if known is None else known.tree,
    )


def _paths_of(job: Job, release: str) -> list[str]:
    """List what a release on this disk holds; its tree tells where the object store cannot."""
    entries = job.device.entries(release, job.progress)
    if entries:
        return [entry.path for entry in entries]
    persistent = {spec.path for spec in job.known_manifest(release).persist}
    found = job.device.disk.releases.paths_in(release)
    return [path for path in found if path not in persistent]


def _require_allowed(job: Job, facts: Facts) -> None:
    with job.device.disk.database.transaction() as transaction:
        # Remembered before it refuses: the next poll declines the commit without fetching it.
        records.set_facts(transaction, job.deployment.commit, facts.to_json())
    refusal = job.device.rules.judge(job.deployment, facts)
    if refusal is None:
        return
    if refusal.reason is Reason.QUARANTINED:
        raise Quarantined(refusal.message)
    raise ReleaseRefused(refusal.reason, refusal.message, refusal.hint)


def _require_one_version(job: Job, manifest: Manifest) -> None:
    tagged = job.offer.version
    if tagged is not None and manifest.version is not None and str(tagged) != manifest.version:
        message = (
            f"the tag {job.offer.name} says version {tagged}, its ota.toml says {manifest.version}"
        )
        raise VersionMismatch(message)


def _read(job: Job, entries: Sequence[Entry], max_bytes: int) -> dict[str, bytes]:
    """Read small files whole, by path; one that is larger is cut after `max_bytes` and one."""
    by_oid: dict[str, bytes] = {}
    wanted = list(dict.fromkeys(entry.oid for entry in entries))
    for oid, stream in job.device.disk.objects.contents(wanted, job.progress):
        by_oid[oid] = stream.read(max_bytes + 1)
    missing = [entry.path for entry in entries if entry.oid not in by_oid]
    if missing:
        message = f"the content of {missing[0]} is not in the object store"
        raise StoreDamaged(message)
    return {entry.path: by_oid[entry.oid] for entry in entries}

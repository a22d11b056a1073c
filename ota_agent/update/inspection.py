"""VERIFY: what the fetched content is, and whether this device may run it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ota_agent.errors import Quarantined, ReleaseRefused, StoreDamaged, VersionMismatch
from ota_agent.model import tree as rules
from ota_agent.model.manifest import FILE_NAME, MAX_BYTES, Manifest, parse_manifest
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
    text = ""
    for entry in entries:
        if entry.path == FILE_NAME and entry.mode != rules.MODE_SYMLINK:
            text = _read(job, [entry], MAX_BYTES)[entry.path].decode("utf-8", "replace")
    return Content(tree, entries, text, parse_manifest(text))


def inspect(job: Job) -> Content:
    """Read the content and refuse what may not go live; pure rules decide, see `model.tree`.

    Raises:
        ReleaseRejected: the publisher's mistake, by its own code.
        ReleaseRefused: this device does not take it; remembered, so that it is not fetched again.

    """
    deployment = job.deployment
    content = read_content(job)
    manifest, entries = content.manifest, content.entries
    facts = _facts(job, content)
    with job.device.disk.database.transaction() as transaction:
        records.set_facts(transaction, deployment.commit, facts.to_json())
    _require_allowed(job, facts)
    links = [entry for entry in entries if entry.mode == rules.MODE_SYMLINK]
    rules.check_tree(
        entries,
        _read(job, links, rules.Limits().symlink_target_bytes),
        [spec.path for spec in manifest.persist],
        rules.Limits(),
    )
    _require_one_version(job, manifest)
    rules.check_commands(manifest, entries)
    declared = [entry for entry in entries if rules.has_syntax(manifest, entry.path)]
    rules.check_syntax(manifest, _read(job, declared, rules.SYNTAX_MAX_BYTES))
    return content


def name_of(job: Job, content: Content) -> tuple[str, str | None]:
    """Give the release's id and version."""
    deployment = job.deployment
    version = deployment.version
    if version is None and content.manifest.version is not None:
        version = str(content.manifest.version)
    identity = release_id(
        version=version, ref=deployment.ref, commit=deployment.commit, tree=content.tree
    )
    return identity, version


def _facts(job: Job, content: Content) -> Facts:
    live = job.device.disk.releases.live()
    deleted = None
    if live is not None:
        old = [entry.path for entry in job.device.entries(live, job.progress)]
        deleted = rules.deletes_too_much(old, [entry.path for entry in content.entries])
    return Facts.of(content.tree, content.manifest, deleted_files=deleted)


def _require_allowed(job: Job, facts: Facts) -> None:
    refusal = job.device.rules.judge(job.deployment, facts)
    if refusal is None:
        return
    if refusal.reason is Reason.QUARANTINED:
        raise Quarantined(refusal.message)
    raise ReleaseRefused(refusal.reason, refusal.message, refusal.hint)


def _require_one_version(job: Job, manifest: Manifest) -> None:
    tagged = job.offer.version
    if tagged is not None and manifest.version is not None and tagged != manifest.version:
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

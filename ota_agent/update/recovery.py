"""What a start does about a lost database: the links and trust.json still know what matters."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from ota_agent import log
from ota_agent.errors import AgentError
from ota_agent.model.deployment import BACKUP, Deployment, Kind, Phase
from ota_agent.model.manifest import FILE_NAME, MAX_BYTES
from ota_agent.model.release import Release
from ota_agent.model.version import parse_version
from ota_agent.store import records
from ota_agent.update.retention import sweep
from ota_agent.worker import Unwatched

if TYPE_CHECKING:
    from ota_agent.model.trust import Trust, Unproven
    from ota_agent.store.memory import Memory
    from ota_agent.update.device import Device

_log = log.get_logger(__name__)

LAST_GOOD = "last_good"
NO_TREE = "0" * 40  # no content has this hash


def recover(device: Device, memory: Memory) -> None:
    """Agree on what is refused, and let go what a power cut kept from being let go.

    After a lost database, or one that does not know what is live, rebuild what the disk still
    tells, with the object store or without it. The live release is taken for good
    unless trust.json says that it had not proved itself: then it is a deployment that went down in
    CONFIRM, or on its way back when it is refused already.
    """
    reading = memory.reconcile()
    if reading.lost:
        _log.error("trust.json is damaged in both copies: quarantine may have been forgotten")
    live = device.disk.releases.live()
    is_known = live is None or device.release(live) is not None
    if is_known and reading.trust.epoch in {"", device.disk.database.epoch}:
        _catch_up(device, memory)
    else:
        _rebuild(device, memory, reading.trust)
    if device.disk.journal.in_flight() is None:
        sweep(device)


def _catch_up(device: Device, memory: Memory) -> None:
    in_flight = device.disk.journal.in_flight()
    may_be_live = in_flight is not None and not in_flight.phase.leaves_live_alone
    try:
        memory.catch_up(is_unproven=may_be_live)
    except AgentError as error:
        # The database knows it all; a full disk must not keep the agent from starting.
        _log.warning("trust.json not updated", error=error.message)


def _rebuild(device: Device, memory: Memory, known: Trust) -> None:
    database = device.disk.database
    _log.error("the database was lost; releases, quarantine and marks are known from the disk")
    held = device.disk.objects.held()
    for release in device.disk.releases.kept():
        if release in held:
            _remember_release(device, release, held[release])
        if device.release(release) is None:
            _remember_tree(device, release, known)
    live = device.release(device.disk.releases.live())
    now = device.clock.now()
    if known.epoch != database.epoch:
        with database.transaction() as transaction:
            records.add_event(transaction, "device.database_lost", now, {"epoch": known.epoch})
    if live is None or known.unproven is None or known.unproven.release != live.id:
        if live is not None:
            with database.transaction() as transaction:
                records.save_release(transaction, replace(live, live_at=now, succeeded_at=now))
                records.put_state(transaction, LAST_GOOD, live.id)
        _catch_up(device, memory)
        return
    begun = device.disk.journal.in_flight()  # None, unless a crash came before the last line
    if begun is None:
        is_refused = live.tree in known.quarantine
        begun = device.disk.journal.begin(
            _unfinished(
                device, live, known.unproven, Phase.RESTORE if is_refused else Phase.CONFIRM
            )
        )
    memory.remember_unproven(begun)


def _unfinished(device: Device, live: Release, unproven: Unproven, phase: Phase) -> Deployment:
    """Make the deployment that the lost database had in flight, as far as the disk tells."""
    now = device.clock.now()
    before, before_that = device.disk.releases.previous(), None
    try:
        backup = device.disk.backups.read(unproven.deployment)
        before, before_that = backup.release, backup.previous
    except AgentError as error:
        _log.warning("no backup for the way back", error=error.message)
    return Deployment(
        id="",
        kind=Kind.UPDATE if before else Kind.FIRST,
        commit=live.commit,
        ref="",
        phase=phase,
        started_at=now,
        entered_at=now,
        version=live.version,
        tree=live.tree,
        release=live.id,
        from_release=before,
        from_previous=before_that,
        notes={BACKUP: unproven.deployment},
    )


def _remember_release(device: Device, release: str, commit: str) -> None:
    objects, nobody = device.disk.objects, Unwatched()
    try:
        tree = objects.tree_of(commit)
        entries = objects.listing(tree, nobody)
        manifest = ""
        for entry in entries:
            if entry.path == FILE_NAME:
                for _, stream in objects.contents([entry.oid], nobody):
                    manifest = stream.read(MAX_BYTES).decode(errors="replace")
    except AgentError as error:
        _log.warning("release not recognised", release=release, error=error.message)
        return
    found = Release(
        id=release,
        commit=commit,
        tree=tree,
        version=_version_in(release),
        manifest=manifest,
        files=len(entries),
        size_bytes=sum(entry.size_bytes for entry in entries),
        staged_at=device.clock.now(),
    )
    _save(device, found)


def _remember_tree(device: Device, release: str, known: Trust) -> None:
    """Know a release by its tree and by trust.json, where the object store was lost as well."""
    unproven = known.unproven
    if unproven is not None and unproven.release == release:
        commit, tree = unproven.commit, unproven.tree
    else:
        # The hash of the content comes back with the objects, see `drift.look`.
        commit, tree = _commit_of(release, known), NO_TREE
    if not commit:
        _log.warning("release not recognised", release=release)
        return
    place, manifest = device.disk.paths.release_dir(release), ""
    files = [path for path in place.rglob("*") if path.is_symlink() or not path.is_dir()]
    if place / FILE_NAME in files and not (place / FILE_NAME).is_symlink():
        manifest = (place / FILE_NAME).read_bytes()[:MAX_BYTES].decode(errors="replace")
    found = Release(
        id=release,
        commit=commit,
        tree=tree,
        version=_version_in(release),
        manifest=manifest,
        files=len(files),
        size_bytes=sum(path.lstat().st_size for path in files),
        staged_at=device.clock.now(),
    )
    _save(device, found)


def _commit_of(release: str, known: Trust) -> str:
    """Find the whole commit whose first digits a release's id ends with; empty when unknown."""
    digits = release.rpartition("-")[2]
    commits = (mark.commit for mark in known.marks.values())
    return next((commit for commit in commits if commit.startswith(digits)), "")


def _save(device: Device, found: Release) -> None:
    with device.disk.database.transaction() as transaction:
        records.save_release(transaction, found)


def _version_in(release: str) -> str | None:
    """Read the version in a release's id; None where its label is none."""
    label = release.rsplit("-", 2)[0]
    return label if parse_version(label) else None

"""What a start does about a lost database: the links and trust.json still know what matters."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from ota_agent import log
from ota_agent.errors import AgentError
from ota_agent.model.deployment import Deployment, Kind, Phase
from ota_agent.model.manifest import FILE_NAME, MAX_BYTES
from ota_agent.model.release import Release
from ota_agent.store import records
from ota_agent.worker import Unwatched

if TYPE_CHECKING:
    from ota_agent.store.memory import Memory
    from ota_agent.update.device import Device

_log = log.get_logger(__name__)

LAST_GOOD = "last_good"


def recover(device: Device, memory: Memory) -> None:
    """Agree on what is refused; after a lost database, rebuild what the disk still tells.

    The live release is taken for good unless trust.json says that it had not proved itself: then
    it is a deployment that went down in CONFIRM.
    """
    database = device.disk.database
    reading = memory.reconcile()
    if reading.lost:
        _log.error("trust.json is damaged in both copies: quarantine may have been forgotten")
    known = reading.trust
    if known.epoch in {"", database.epoch}:
        return
    _log.error("the database was lost; releases, quarantine and marks are known from the disk")
    for release, commit in device.disk.objects.held().items():
        if device.disk.releases.is_sealed(release):
            _remember_release(device, release, commit)
    live = device.release(device.disk.releases.live())
    now = device.clock.now()
    with database.transaction() as transaction:
        records.add_event(transaction, "device.database_lost", now, {"epoch": known.epoch})
    if live is None:
        memory.remember()
        return
    if known.unproven is None or known.unproven.release != live.id:
        with database.transaction() as transaction:
            records.save_release(transaction, replace(live, live_at=now, succeeded_at=now))
            records.put_state(transaction, LAST_GOOD, live.id)
        memory.remember()
        return
    previous = device.disk.releases.previous()
    deployment = device.disk.journal.begin(
        Deployment(
            id="",
            kind=Kind.UPDATE if previous else Kind.FIRST,
            commit=live.commit,
            ref="",
            phase=Phase.CONFIRM,
            started_at=now,
            entered_at=now,
            version=live.version,
            tree=live.tree,
            release=live.id,
            from_release=previous,
        )
    )
    memory.remember_unproven(deployment)


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
        version=None,
        manifest=manifest,
        files=len(entries),
        size_bytes=sum(entry.size_bytes for entry in entries),
        staged_at=device.clock.now(),
    )
    with device.disk.database.transaction() as transaction:
        records.save_release(transaction, found)

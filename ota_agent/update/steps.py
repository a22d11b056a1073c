"""The steps of a deployment, one a phase; each may run twice, and says why that is safe.

A step gives the deployment back with what later phases have to know; the driver writes it to the
journal together with the next phase. What has to be on disk before an effect is written by
`Job.note`. A step that has to wait raises `NotYet`.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

from ota_agent import log
from ota_agent.errors import (
    AgentError,
    BackupUnusable,
    DiskFull,
    NotYet,
    StoreDamaged,
    Superseded,
)
from ota_agent.model.release import Release
from ota_agent.store import persist, records, space
from ota_agent.update import gates, hooks, inspection, probation
from ota_agent.update.drift import KeptTree
from ota_agent.update.retention import make_room

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ota_agent.model.deployment import Deployment
    from ota_agent.model.tree import Entry
    from ota_agent.update.device import Job

_log = log.get_logger(__name__)

LINK_RETRY = timedelta(minutes=1)
LINK_PATIENCE = timedelta(minutes=10)


def fetch(job: Job) -> Deployment:
    """Bring the commit into the object store; what is there already is not fetched again."""
    received = job.device.source.fetch(job.offer, job.progress)
    return replace(job.deployment, bytes_fetched=job.deployment.bytes_fetched + received)


def verify(job: Job) -> Deployment:
    """Read what was fetched and refuse what may not go live; reads only."""
    content = inspection.inspect(job)
    release, version = inspection.name_of(job, content)
    return replace(job.deployment, tree=content.tree, release=release, version=version)


def stage(job: Job) -> Deployment:
    """Write the release's tree beside the others, durable and sealed; a half one is begun anew."""
    device, deployment = job.device, job.deployment
    content = inspection.read_content(job)
    persistent = [spec.path for spec in content.manifest.persist]
    _require_space(job, content.entries)
    staged = device.disk.releases.stage(
        deployment.id, job.target, deployment.commit, content.entries, persistent, job.progress
    )
    known = device.release(job.target)
    release = Release(
        id=job.target,
        commit=deployment.commit,
        tree=content.tree,
        version=deployment.version,
        manifest=content.manifest_text,
        files=staged.files,
        size_bytes=staged.size_bytes,
        staged_at=device.clock.now(),
        live_at=None if known is None else known.live_at,
        succeeded_at=None if known is None else known.succeeded_at,
    )
    with device.disk.database.transaction() as transaction:
        records.save_release(transaction, release)
    return job.deployment


def hold(job: Job) -> Deployment:
    """Wait until the release may go live; asks everything again each time."""
    job.progress.check()
    _require_sealed(job)
    reason = job.device.rules.reconsider(job.deployment)
    if reason is not None:
        raise Superseded(reason)
    hooks.ask(job)
    return job.deployment


def backup(job: Job) -> Deployment:
    """Take all that RESTORE needs, anew each time: nothing is restored before ACTIVATE."""
    device, deployment = job.device, job.deployment
    backups = device.disk.backups
    _require_sealed(job)
    job.note(**probation.baseline(job))
    new, old = job.manifest(job.target), job.known_manifest(deployment.from_release)
    data = sorted({spec.path for spec in (*new.persist, *old.persist) if spec.backup})
    # One from before a crash may lack what applications wrote since.
    backups.discard(deployment.id)
    backups.take(
        deployment.id,
        deployment.from_release,
        deployment.from_previous,
        data,
        _local_changes(job),
        f"before {job.target} goes live",
        job.progress,
    )
    # After the patch was taken: the target may be what is live. Before it goes live: files that it
    # shares may have been edited in place since it was staged.
    _mend(job, job.target)
    if deployment.notes.get("with_data"):
        source = backups.newest_with_data_of(job.target)
        if source is None:
            message = f"no backup holds data of {job.target}"
            raise BackupUnusable(message, hint="Roll back without --with-data.")
        backups.incoming(deployment.id, source.deployment, job.progress)
    return job.deployment


def activate(job: Job) -> Deployment:
    """Bring in data and links, then tell the release: each is the same the second time."""
    device, deployment = job.device, job.deployment
    _require_sealed(job)
    if device.disk.releases.live() != job.target:
        _mend(job, job.target)  # once more: the agent may have been stopped since BACKUP
    if deployment.notes.get("with_data"):
        device.disk.backups.put_incoming(deployment.id)
    # Not before the backup is in the journal: one taken anew would hold them as the device's own.
    persist.ensure(
        device.disk.paths,
        [spec.path for spec in job.manifest(job.target).persist],
        device.entries(job.target, job.progress),
        device.disk.objects,
        device.data_owner,
        job.progress,
    )
    if deployment.from_release != job.target:
        device.disk.releases.set_previous(deployment.from_release)
    device.disk.releases.make_live(job.target)
    hooks.run(job, "post_activate", job.target)
    return job.deployment


def confirm(job: Job) -> Deployment:
    """Watch the live release until its probation is over; begins anew after an interruption."""
    probation.prove(job)
    return job.deployment


def commit(job: Job) -> Deployment:
    """Declare it good: the verdict itself is the driver's transaction; this only makes sure."""
    if job.device.disk.releases.live() != job.target:
        message = f"live does not name {job.target} any more"
        now = job.device.clock.now()
        if now - job.deployment.entered_at < LINK_PATIENCE:
            raise NotYet(f"{message}: look at who moved the link", now + LINK_RETRY)
        raise BackupUnusable(message, hint="Leave the links in work_dir to the agent.")
    return job.deployment


def discard(job: Job) -> Deployment:
    """Give the abandoned tree back as the spare; a kept release stays."""
    job.device.disk.backups.discard(job.deployment.id)
    _give_back(job)
    return job.deployment


def restore(job: Job) -> Deployment:
    """Put back what was live: data first, then the link, each move once however often this runs."""
    device, deployment = job.device, job.deployment
    releases = device.disk.releases
    before = deployment.from_release
    if before is not None and not releases.is_sealed(before):
        message = f"the release {before}, which was live before, is not on the disk any more"
        raise BackupUnusable(message)
    if releases.live() == deployment.release and deployment.release is not None:
        hooks.undo(job)
    if before is not None and releases.live() != before:
        _mend_if_possible(job, before)
    device.disk.backups.restore_data(deployment.backup)
    releases.make_live(before)
    previous = deployment.from_previous
    if previous is not None and not releases.is_sealed(previous):
        _log.warning("the release before is not on the disk any more", release=previous)
        previous = None
    releases.set_previous(previous)
    _give_back(job)
    return job.deployment


def _require_sealed(job: Job) -> None:
    if not job.device.disk.releases.is_sealed(job.target):
        message = f"the staged release {job.target} is not on the disk any more"
        raise StoreDamaged(message)


def _require_space(job: Job, entries: Sequence[Entry]) -> None:
    device = job.device
    live = device.disk.releases.live()
    on_disk = (
        set()
        if live is None
        else {(entry.path, entry.oid) for entry in device.entries(live, job.progress)}
    )
    need = gates.need_of(entries, on_disk)
    old = job.known_manifest(live).persist
    need += gates.Need(*device.disk.backups.data_size([spec.path for spec in old if spec.backup]))
    reserve = gates.Need(device.config.disk.reserve_bytes, device.config.disk.reserve_inodes)
    while True:
        try:
            gates.require_space(need, space.free(device.disk.paths.work_dir), reserve)
        except DiskFull:
            if not make_room(device):
                raise
        else:
            return


def _mend(job: Job, release: str) -> None:
    """Bring a release on this disk to its content: a shared file may have been edited in place."""
    kept = KeptTree.of(job.device, release, job.progress)
    if kept is None:
        return
    drift = kept.scan(())
    if drift.damage:
        _log.warning("mending a release", release=release, files=list(drift.damage[:20]))
        kept.mend(drift)


def _mend_if_possible(job: Job, release: str) -> None:
    """Mend what is to be live again; the way back must not depend on the object store."""
    try:
        job.device.disk.ballast.relieve(lambda: _mend(job, release))
    except AgentError as error:
        _log.warning(
            "release not mended, restoring it as it is",
            release=release, code=error.code, error=error.message,
        )  # fmt: skip


def _local_changes(job: Job) -> bytes:
    """Give what was edited in the live tree by hand, so that an update does not lose it."""
    kept = KeptTree.of(job.device, job.deployment.from_release, job.progress)
    if kept is None:
        return b""
    return kept.local_changes(kept.scan(job.device.config.drift.ignore))


def _give_back(job: Job) -> None:
    releases, backups = job.device.disk.releases, job.device.disk.backups
    release = job.deployment.release
    kept = {releases.live(), releases.previous()} | backups.named_releases()
    known = job.device.release(release)
    succeeded = known is not None and known.succeeded_at is not None
    releases.discard(job.deployment.id, None if release in kept or succeeded else release)

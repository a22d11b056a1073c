"""What is let go after a success: old backups, then the releases that nothing names any more."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ota_agent import log
from ota_agent.errors import AgentError
from ota_agent.model.deployment import Phase
from ota_agent.store import bounds

if TYPE_CHECKING:
    from ota_agent.ports import Progress
    from ota_agent.update.device import Device

_log = log.get_logger(__name__)


def prune(device: Device, progress: Progress) -> None:
    """Drop what a success makes superfluous; a failure is told and never fails an update."""
    try:
        device.disk.backups.drop_displaced(*_names(device))
        _let_go(device)
        device.disk.objects.tidy(progress)
    except AgentError as error:
        _log.warning("pruning failed, it is tried again later", error=error.message)


def sweep(device: Device) -> None:
    """Finish what a power cut left of an earlier pruning, and bound what failures leave.

    What the last RESTORE displaced stays until the next success. Nothing may be in flight.
    """
    try:
        newest = device.disk.journal.history(1)
        if newest and newest[0][0].phase is Phase.SUCCEEDED:
            device.disk.backups.drop_displaced(*_names(device))
        _let_go(device)
    except AgentError as error:
        _log.warning("pruning failed, it is tried again later", error=error.message)


def make_room(device: Device) -> bool:
    """Under pressure for space give something up: the spare, then the oldest backup.

    Tells whether there was anything to give; what the way back of the live release needs stays.
    """
    backups, releases = device.disk.backups, device.disk.releases
    if releases.has_spare:
        releases.drop_spare()
        return True
    kept = backups.list()
    if len(kept) <= 1:
        return False
    _log.warning("disk is short, the oldest backup goes", deployment=kept[-1].deployment)
    backups.prune(len(kept) - 1, device.config.backups.keep_data, ())
    _retire_unnamed(device)
    return True


def _retire_unnamed(device: Device) -> None:
    releases = device.disk.releases
    named = {releases.live(), releases.previous()} | device.disk.backups.named_releases()
    for release in releases.kept():
        if release not in named:
            releases.retire(release)


def _let_go(device: Device) -> None:
    """Drop what is beyond `backups.keep`, and what of releases nothing names then."""
    keep, objects = device.config.backups, device.disk.objects
    device.disk.backups.prune(keep.keep, keep.keep_data, ())
    _retire_unnamed(device)
    # A tree goes before its ref: the crash between the two must not keep the objects for ever.
    for release in objects.held().keys() - set(device.disk.releases.kept()):
        objects.drop(release)
    bounds.trim(device.disk.database, device.disk.releases.kept())


def _names(device: Device) -> list[str]:
    return [backup.deployment for backup in device.disk.backups.list()]

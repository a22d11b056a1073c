"""What is let go after a success: old backups, then the releases that nothing names any more."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ota_agent import log
from ota_agent.errors import AgentError

if TYPE_CHECKING:
    from ota_agent.ports import Progress
    from ota_agent.update.device import Device

_log = log.get_logger(__name__)


def prune(device: Device, progress: Progress) -> None:
    """Drop what is beyond `backups.keep`; a failure is told and never fails an update."""
    backups, keep = device.disk.backups, device.config.backups
    try:
        backups.drop_displaced(*(backup.deployment for backup in backups.list()))
        backups.prune(keep.keep, keep.keep_data, ())
        _retire_unnamed(device)
        device.disk.objects.tidy(progress)
    except AgentError as error:
        _log.warning("pruning failed, it is tried after the next success", error=error.message)


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

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
    backups, releases, keep = device.disk.backups, device.disk.releases, device.config.backups
    try:
        for backup in backups.list():
            backups.drop_displaced(backup.deployment)
        backups.prune(keep.keep, keep.keep_data, set())
        named = {releases.live(), releases.previous()} | backups.named_releases()
        for release in releases.kept():
            if release not in named:
                releases.retire(release)
        device.disk.objects.tidy(progress)
    except AgentError as error:
        _log.warning("pruning failed, it is tried after the next success", error=error.message)


def make_room(device: Device) -> bool:
    """Under pressure for space give up the oldest backup, down to what `previous` needs."""
    backups, releases = device.disk.backups, device.disk.releases
    kept = backups.list()
    if len(kept) < 2:  # noqa: PLR2004 - the newest backup is the way back of the live release
        return False
    backups.prune(len(kept) - 1, device.config.backups.keep_data, set())
    named = {releases.live(), releases.previous()} | backups.named_releases()
    for release in releases.kept():
        if release not in named:
            releases.retire(release)
    return True

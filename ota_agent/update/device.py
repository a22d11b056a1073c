"""What the steps of a deployment see of the device, wired once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ota_agent import log
from ota_agent.errors import ManifestInvalid, StoreDamaged
from ota_agent.model.manifest import Manifest, parse_manifest
from ota_agent.model.release import Offer
from ota_agent.model.version import parse_version
from ota_agent.store import records

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ota_agent.config import Config
    from ota_agent.model.deployment import Deployment
    from ota_agent.model.release import Release
    from ota_agent.model.tree import Entry
    from ota_agent.model.verdict import Facts, NoCandidate
    from ota_agent.ports import Clock, Host, ObjectStore, Progress, ReleaseSource
    from ota_agent.store.backups import BackupStore
    from ota_agent.store.ballast import Ballast
    from ota_agent.store.database import Database
    from ota_agent.store.journal import Journal
    from ota_agent.store.paths import Paths
    from ota_agent.store.releases import ReleaseStore

_log = log.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Disk:
    """Everything below the work_dir."""

    paths: Paths
    database: Database
    journal: Journal
    objects: ObjectStore
    releases: ReleaseStore
    backups: BackupStore
    ballast: Ballast


@dataclass(frozen=True, slots=True)
class Rules:
    """The decisions that are asked of the checker while a deployment is under way.

    Attributes:
        judge: may this device run what was found in the offer? None: yes.
        reconsider: is the deployment still wanted? None: yes, else one sentence why not.

    """

    judge: Callable[[Deployment, Facts], NoCandidate | None]
    reconsider: Callable[[Deployment], str | None]


@dataclass(frozen=True, slots=True)
class Device:
    """The device: its disk, its surroundings, its rules."""

    device_id: str
    config: Config
    disk: Disk
    source: ReleaseSource
    host: Host
    clock: Clock
    rules: Rules
    clock_is_set: Callable[[], bool]
    data_owner: tuple[int, int] | None  # uid and gid of new persistent data, None: the agent's own

    @property
    def channel(self) -> str:
        """What the device follows, as text: high-water marks belong to it."""
        return str(self.config.source.channel)

    def release(self, release: str | None) -> Release | None:
        """Give what is known of a release on this disk."""
        return None if release is None else records.releases(self.disk.database).get(release)

    def entries(self, release: str, progress: Progress) -> list[Entry]:
        """List the content of a release on this disk; empty when nobody can tell any more.

        A live release must not depend on the object store: an update has to get past a damaged one.
        """
        known = self.release(release)
        if known is None:
            return []
        try:
            return self.disk.objects.listing(known.tree, progress)
        except StoreDamaged as error:
            _log.warning("content of a release not known", release=release, error=error.message)
            return []


@dataclass(slots=True)
class Job:
    """One run of one step: the deployment so far, the device, and the line to the loop."""

    deployment: Deployment
    device: Device
    progress: Progress

    def note(self, **notes: object) -> None:
        """Put something into the journal now, before the effect that it is about."""
        self.deployment = self.device.disk.journal.note(self.deployment, **notes)

    @property
    def target(self) -> str:
        """The release that this deployment makes live; known from VERIFY on."""
        assert self.deployment.release is not None  # noqa: S101 - VERIFY has set it
        return self.deployment.release

    @property
    def tree_dir(self) -> Path:
        """The sealed tree of the target."""
        return self.device.disk.paths.release_dir(self.target)

    def manifest(self, release: str | None) -> Manifest:
        """Give the manifest of a release on this disk; an empty one where there is none.

        Raises:
            ManifestInvalid: it is not for this agent.

        """
        known = self.device.release(release)
        return parse_manifest("" if known is None else known.manifest)

    def known_manifest(self, release: str | None) -> Manifest:
        """Give the manifest of a release that is not to blame for what this agent cannot read.

        After a downgrade of the agent the live release's manifest may have keys unknown to it.
        """
        try:
            return self.manifest(release)
        except ManifestInvalid as error:
            _log.warning("manifest not understood", release=release, error=error.message)
            return Manifest()

    def environment(self, release: str) -> dict[str, str]:
        """Give the variables that hooks and command probes of a release see."""
        known = self.device.release(release)
        paths = self.device.disk.paths
        return {
            "OTA_DEVICE_ID": self.device.device_id,
            "OTA_DEPLOYMENT": self.deployment.id,
            "OTA_KIND": self.deployment.kind,
            "OTA_RELEASE": release,
            "OTA_VERSION": (known and known.version) or "",
            "OTA_COMMIT": known.commit if known else "",
            "OTA_FROM_RELEASE": self.deployment.from_release or "",
            "OTA_RELEASE_DIR": str(paths.release_dir(release)),
            "OTA_PERSIST_DIR": str(paths.persist_dir),
        }

    @property
    def offer(self) -> Offer:
        """The offer that this deployment took up."""
        deployment = self.deployment
        return Offer(
            commit=deployment.commit,
            ref=deployment.ref,
            version=parse_version(deployment.version) if deployment.version else None,
            tag_object=deployment.tag_object,
        )

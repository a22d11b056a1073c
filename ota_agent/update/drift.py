"""Drift: whether the live tree still holds what its release holds, and bringing it back."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ota_agent import log
from ota_agent.errors import AgentError, ManifestInvalid, Stopped
from ota_agent.model.manifest import parse_manifest
from ota_agent.model.moment import to_text
from ota_agent.model.release import Offer
from ota_agent.store import atomic, records
from ota_agent.worker import Worker

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ota_agent.model.tree import Entry
    from ota_agent.ports import Progress
    from ota_agent.store.scan import Drift
    from ota_agent.update.device import Device

_log = log.get_logger(__name__)

STATE = "drift"
PREVIOUS_STATE = "drift_of_previous"
INTERVAL_S = 300.0
DEADLINE_S = 300.0
LONGEST_PAUSE_S = 86400.0
MAX_DOUBLINGS = 16  # more than lead to the longest pause
KEPT_PATCHES = 5


@dataclass(frozen=True, slots=True)
class KeptTree:
    """A release on this disk, beside what it should hold."""

    device: Device
    release: str
    entries: list[Entry]
    persistent: list[str]
    progress: Progress

    @classmethod
    def of(cls, device: Device, release: str | None, progress: Progress) -> KeptTree | None:
        """Find a release; None where there is none, or where nobody knows what it should hold."""
        known = device.release(release)
        if known is None:
            return None
        try:
            persistent = [spec.path for spec in parse_manifest(known.manifest).persist]
        except ManifestInvalid as error:
            # Written by a newer agent: what is persistent is not known, so nothing is compared.
            _log.warning("manifest not understood", release=release, error=error.message)
            return None
        entries = device.entries(known.id, progress)
        if not entries:
            return None
        return cls(device, known.id, entries, persistent, progress)

    def scan(self, ignore: Sequence[str]) -> Drift:
        """Compare the two."""
        return self.device.disk.releases.scan(
            self.release, self.entries, self.persistent, ignore, self.progress
        )

    def mend(self, drift: Drift) -> None:
        """Write anew what changed or is missing."""
        self.device.disk.releases.mend(
            self.release, drift.damage, self.entries, self.persistent, self.progress
        )

    def local_changes(self, drift: Drift) -> bytes:
        """Describe what was edited by hand."""
        return self.device.disk.releases.local_changes(
            self.release, drift, self.entries, self.persistent, self.progress
        )


def look(device: Device, progress: Progress) -> None:
    """Scan the live tree; in mode `repair`, write what changed or is missing anew.

    The local edits are kept in `private/drift.patch` before they are undone, those of earlier
    repairs beside it. What a program added is reported and never removed.
    What is found in the previous tree, to which the way back may lead, is in the log alone.
    """
    live, config = device.disk.releases.live(), device.config.drift
    if config.mode == "ignore":
        device.disk.database.put(STATE, None)
        return
    kept = KeptTree.of(device, live, progress)
    if kept is None:
        _recall(device, live, progress)
        return
    drift = kept.scan(config.ignore)
    repaired: tuple[str, ...] = ()
    if drift.damage and config.mode == "repair":
        patch = kept.local_changes(drift)
        _keep_aside(device, patch)
        kept.mend(drift)
        repaired = drift.damage
    differing = tuple(path for path in drift.paths if path not in set(repaired))
    _remember(device, differing, repaired)
    _look_at_previous(device, progress)


def _look_at_previous(device: Device, progress: Progress) -> None:
    previous, config = device.disk.releases.previous(), device.config.drift
    # Content that went with a lost object store is not fetched again for it.
    is_held = previous in device.disk.objects.held()
    kept = KeptTree.of(device, previous, progress) if is_held else None
    if kept is None:
        return
    drift = kept.scan(config.ignore)
    damage = list(drift.damage)
    if damage and config.mode == "repair":
        kept.mend(drift)
        _log.warning("previous tree repaired", release=previous, files=damage[:20])
        damage = []
    if damage != device.disk.database.get(PREVIOUS_STATE, []):
        device.disk.database.put(PREVIOUS_STATE, damage or None)
        if damage:
            _log.warning(
                "previous tree differs from its release", release=previous, files=damage[:20]
            )


def _keep_aside(device: Device, patch: bytes) -> None:
    """Keep local edits in `drift.patch`; earlier ones are `drift.patch.1` and so on, the oldest go.

    The same ones, found again because the repair did not come to its end, are kept once.
    """
    newest = device.disk.paths.private_dir / "drift.patch"
    files = [newest, *(newest.with_name(f"{newest.name}.{n}") for n in range(1, KEPT_PATCHES))]
    with atomic.disk_errors(newest):
        if newest.exists() and newest.read_bytes() == patch:
            return
        for older, newer in zip(files[:0:-1], files[-2::-1], strict=True):
            if newer.exists():
                atomic.rename(newer, older, replace=True)
    atomic.write_file(newest, patch, mode=0o600)


def _recall(device: Device, live: str | None, progress: Progress) -> None:
    """Fetch the content of the live release again when the object store was begun anew."""
    known = device.release(live)
    if known is None:
        return
    device.source.fetch(Offer(known.commit, ""), progress)
    device.disk.objects.keep(known.id, known.commit)
    tree = device.disk.objects.tree_of(known.commit)
    if tree != known.tree:  # the database was lost as well, and rebuilt without the content
        with device.disk.database.transaction() as transaction:
            records.save_release(transaction, replace(known, tree=tree))
    _log.info("content of the live release fetched again", release=known.id)


def _remember(device: Device, differing: tuple[str, ...], repaired: tuple[str, ...]) -> None:
    database, now = device.disk.database, device.clock.now()
    before = database.get(STATE, {}).get("files", [])
    with database.transaction() as transaction:
        records.put_state(
            transaction, STATE, {"files": list(differing), "checked_at": to_text(now)}
        )
        if repaired:
            records.add_event(transaction, "drift.repaired", now, {"files": list(repaired[:100])})
        if list(differing) != before:
            records.add_event(transaction, "drift", now, {"files": list(differing[:100])})
    if repaired:
        _log.warning("drift repaired", files=list(repaired[:20]))
    elif differing and list(differing) != before:
        _log.warning("live tree differs from its release", files=list(differing[:20]))


class DriftWatch:
    """Looks after the live tree on a timer, while nothing is in flight."""

    def __init__(self, device: Device, wake: Callable[[], None]) -> None:
        """Watch the live tree of `device`; the first time at once."""
        self._device = device
        self._wake = wake
        self._failures = 0
        self.worker: Worker | None = None
        self.due_at = device.clock.monotonic()

    def hurry(self) -> None:
        """Look as soon as possible."""
        self.due_at = self._device.clock.monotonic()

    def begin_if_due(self) -> None:
        """Begin a look when its time has come."""
        if self.worker is None and self._device.clock.monotonic() >= self.due_at:
            self.worker = Worker(
                "scan",
                lambda work: look(self._device, work),
                self._wake,
                self._device.clock,
                deadline_s=DEADLINE_S,
            )
            self.worker.start()

    def watch(self) -> None:
        """Look after the look."""
        worker = self.worker
        if worker is None:
            return
        worker.watch()
        if not worker.is_done:
            return
        self.worker = None
        interval_s = min(INTERVAL_S, self._device.config.poll_interval_s)
        self.due_at = self._device.clock.monotonic() + interval_s
        try:
            worker.result()
        except AgentError as error:
            # A look may have to fetch the whole release again: a source that never gives it must
            # not be asked so at every look.
            doubled = 1 << min(self._failures, MAX_DOUBLINGS)
            self.due_at += min(interval_s * doubled, LONGEST_PAUSE_S) - interval_s
            self._failures += 1
            _log.warning("live tree not scanned", code=error.code, error=error.message)
        except Stopped:
            return
        else:
            self._failures = 0

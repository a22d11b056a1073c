"""Keeps trust.json and the database agreed on what the device refuses."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from ota_agent.model.trust import Entry, Trust, Unproven, stricter
from ota_agent.store import records

if TYPE_CHECKING:
    from ota_agent.model.deployment import Deployment
    from ota_agent.store.database import Database
    from ota_agent.store.trust import TrustFile, TrustReading


class Memory:
    """What the device must not forget: the database's records, mirrored where they outlive it."""

    def __init__(self, database: Database, file: TrustFile) -> None:
        """Mirror `database` into `file`."""
        self._database = database
        self._file = file

    def reconcile(self) -> TrustReading:
        """At start: let the stricter of the two hold, in both; gives what the file knew.

        A refusal that is only in the file was written for a transaction that did not happen, or
        outlived a lift that was cut short: refusing once too often costs one `retry`.
        """
        known = self._file.read()
        ours = self._trust()
        both = stricter(ours, known.trust)
        if (both.quarantine, both.marks) == (ours.quarantine, ours.marks):
            return known  # a start must not need the disk to take a write
        with self._database.transaction() as transaction:
            for tree, entry in both.quarantine.items():
                records.add_quarantine(transaction, tree, entry)
            for key, mark in both.marks.items():
                project, _, channel = key.partition(" ")
                records.set_mark(transaction, project, channel, mark)
        return known

    def remember(self) -> None:
        """Write what the database holds now: the live release has proved itself, or is gone."""
        self._file.write(self._trust())

    def remember_lift(self) -> None:
        """Write what the database holds, after a transaction that lifted a refusal."""
        self._file.write(replace(self._trust(), unproven=self._file.read().trust.unproven))

    def catch_up(self, *, is_unproven: bool) -> None:
        """At start: write what a power cut kept from being written, if there is anything.

        `is_unproven`: a deployment is in flight whose release may be live.
        """
        known = self._file.read().trust
        now = replace(self._trust(), unproven=known.unproven if is_unproven else None)
        if now != known:
            self._file.write(now)

    def remember_refusal(self, tree: str, entry: Entry) -> None:
        """Write a refusal before the transaction that makes it."""
        trust = self._trust()
        # A live release that is refused is not proven by that: a lost database must know both.
        unproven = self._file.read().trust.unproven
        refused = {**trust.quarantine, tree: entry}
        self._file.write(replace(trust, quarantine=refused, unproven=unproven))

    def remember_unproven(self, deployment: Deployment) -> None:
        """Write that what goes live next has not proved itself."""
        unproven = Unproven(deployment.release or "", deployment.tree or "", deployment.backup)
        self._file.write(replace(self._trust(), unproven=unproven))

    def _trust(self) -> Trust:
        return Trust(
            epoch=self._database.epoch,
            quarantine=records.quarantine(self._database),
            marks={
                f"{project} {channel}": mark
                for (project, channel), mark in records.marks(self._database).items()
            },
        )

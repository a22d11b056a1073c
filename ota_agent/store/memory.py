"""Keeps trust.json and the database agreed on what the device refuses."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import TYPE_CHECKING

from ota_agent.model.trust import Entry, Trust, Unproven, stricter
from ota_agent.store import records

if TYPE_CHECKING:
    from collections.abc import Collection

    from ota_agent.model.deployment import Deployment
    from ota_agent.store.database import Database
    from ota_agent.store.trust import TrustFile, TrustReading


class Memory:
    """What the device must not forget: the database's records, mirrored where they outlive it."""

    def __init__(self, database: Database, file: TrustFile) -> None:
        """Mirror `database` into `file`."""
        self._database = database
        self._file = file
        # The loop lifts a refusal while a worker adds one: each must see what the other wrote.
        self._lock = threading.Lock()

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
            for (project, channel), mark in both.marks.items():
                records.set_mark(transaction, project, channel, mark)
        return known

    def remember(self) -> None:
        """Write what the database holds now: the live release has proved itself, or is gone."""
        with self._lock:
            self._file.write(self._trust())

    def remember_lift(self, lifted: Collection[str]) -> None:
        """Write what the database holds, after a transaction that lifted these refusals.

        A refusal that is written here, and whose transaction is still to come, stays.
        """
        with self._lock:
            known, ours = self._file.read().trust, self._trust()
            others = {tree: e for tree, e in known.quarantine.items() if tree not in lifted}
            refused = {**others, **ours.quarantine}
            self._file.write(replace(ours, quarantine=refused, unproven=known.unproven))

    def catch_up(self, *, is_unproven: bool) -> None:
        """At start: write what a power cut kept from being written, if there is anything.

        `is_unproven`: a deployment is in flight whose release may be live.
        """
        with self._lock:
            known = self._file.read().trust
            now = replace(self._trust(), unproven=known.unproven if is_unproven else None)
            if now != known:
                self._file.write(now)

    def remember_refusal(self, tree: str, entry: Entry) -> None:
        """Write a refusal before the transaction that makes it."""
        with self._lock:
            trust = self._trust()
            # A live release that is refused is not proven by that: a lost database must know both.
            unproven = self._file.read().trust.unproven
            refused = {**trust.quarantine, tree: entry}
            self._file.write(replace(trust, quarantine=refused, unproven=unproven))

    def remember_unproven(self, deployment: Deployment) -> None:
        """Write that what goes live next has not proved itself."""
        unproven = Unproven(
            release=deployment.release or "",
            tree=deployment.tree or "",
            deployment=deployment.backup,
            commit=deployment.commit,
        )
        with self._lock:
            self._file.write(replace(self._trust(), unproven=unproven))

    def _trust(self) -> Trust:
        return Trust(
            epoch=self._database.epoch,
            quarantine=records.quarantine(self._database),
            marks=records.marks(self._database),
        )

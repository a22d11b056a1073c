"""The outbox: events that the operator's side has not accepted yet, in order."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ota_agent.model.moment import maybe_time, to_time
from ota_agent.model.report import Event

if TYPE_CHECKING:
    from datetime import datetime

    from ota_agent.store.database import Database

EVENTS_A_SYNC = 50


@dataclass(frozen=True, slots=True)
class Depth:
    """How much waits, and since when."""

    rows: int
    bytes: int
    oldest_at: datetime | None


class Outbox:
    """Read side of the outbox; events are added by `records.add_event` inside transactions."""

    def __init__(self, database: Database) -> None:
        """Read the outbox of `database`."""
        self._database = database

    def next_events(self) -> list[Event]:
        """Give the oldest events, as many as one sync carries."""
        return [
            Event(row["sequence"], row["kind"], to_time(row["at"]), json.loads(row["body"]))
            for row in self._database.rows(
                "SELECT * FROM outbox ORDER BY sequence LIMIT ?", EVENTS_A_SYNC
            )
        ]

    def accepted(self, through: int) -> None:
        """Forget the events up to this sequence number: they are stored elsewhere for good."""
        with self._database.transaction() as transaction:
            transaction.execute("DELETE FROM outbox WHERE sequence <= ?", (through,))

    def depth(self) -> Depth:
        """Tell how much waits."""
        row = self._database.rows(
            "SELECT count(*) AS n, coalesce(sum(length(body)), 0) AS size, min(at) AS oldest"
            " FROM outbox"
        )[0]
        return Depth(row["n"], row["size"], maybe_time(row["oldest"]))

"""The mailbox: how the command line asks the agent's loop, and where it finds the outcome."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from ota_agent.model.command import Ask, Command, Exit, Outcome
from ota_agent.model.moment import to_text

if TYPE_CHECKING:
    import sqlite3

    from ota_agent.store.database import Database

KEPT_OUTCOMES = 100


class Mailbox:
    """Commands in the order they came; each is taken once and answered once."""

    def __init__(self, database: Database) -> None:
        """Keep the mailbox in `database`."""
        self._database = database

    def put(self, command: Command) -> int:
        """Leave a command for the loop; gives the number to ask `outcome` for."""
        with self._database.transaction() as transaction:
            number = transaction.execute(
                "INSERT INTO mailbox(ask, args, asked_by, asked_at) VALUES(?, ?, ?, ?)",
                (
                    command.ask,
                    json.dumps(dict(command.args)),
                    command.asked_by,
                    to_text(datetime.now(UTC)),
                ),
            ).lastrowid
        return number or 0

    def take(self) -> list[tuple[int, Command]]:
        """Take what has come since the last time; each command is given once."""
        if not self._database.rows("SELECT 1 FROM mailbox WHERE taken = 0 LIMIT 1"):
            return []  # no write transaction for an empty mailbox: this is asked every second
        with self._database.transaction() as transaction:
            rows = transaction.execute(
                "UPDATE mailbox SET taken = 1 WHERE taken = 0 RETURNING id, ask, args, asked_by"
            ).fetchall()
            unknown = [row for row in rows if row["ask"] not in set(Ask)]
            for row in unknown:  # of a newer command line: it must not cost the others their answer
                text = f"the running agent does not know the command {row['ask']!r}"
                _answer(transaction, row["id"], Outcome(Exit.FAILED, text))
        return [
            (row["id"], Command(Ask(row["ask"]), json.loads(row["args"]), row["asked_by"]))
            for row in sorted(rows, key=lambda row: row["id"])
            if row not in unknown
        ]

    def answer(self, number: int, outcome: Outcome) -> None:
        """Leave the outcome for whoever asked."""
        with self._database.transaction() as transaction:
            _answer(transaction, number, outcome)
            transaction.execute("DELETE FROM mailbox WHERE id <= ?", (number - KEPT_OUTCOMES,))

    def is_taken(self, number: int) -> bool:
        """Tell whether the loop has taken a command up."""
        return not self._database.rows("SELECT 1 FROM mailbox WHERE id = ? AND taken = 0", number)

    def withdraw(self, number: int) -> bool:
        """Take back a command that nobody has taken; tells whether it was not too late."""
        with self._database.transaction() as transaction:
            gone = transaction.execute("DELETE FROM mailbox WHERE id = ? AND taken = 0", (number,))
        return gone.rowcount == 1

    def outcome(self, number: int) -> Outcome | None:
        """Give the outcome of a command, None while there is none."""
        rows = self._database.rows("SELECT outcome FROM mailbox WHERE id = ?", number)
        if not rows or rows[0]["outcome"] is None:
            return None
        fields = json.loads(rows[0]["outcome"])
        return Outcome(Exit(fields["exit"]), fields["text"], fields["data"])

    def clear(self, but: int | None = None) -> None:
        """Answer what an earlier agent left: its askers are gone or have to ask again.

        `but` is left open: what was asked there goes on.
        """
        gone = Outcome(Exit.FAILED, "the agent was restarted before this was done; ask again")
        for row in self._database.rows(
            "SELECT id FROM mailbox WHERE taken = 1 AND outcome IS NULL AND id IS NOT ?", but
        ):
            self.answer(row["id"], gone)


def _answer(transaction: sqlite3.Connection, number: int, outcome: Outcome) -> None:
    text = json.dumps({"exit": outcome.exit, "text": outcome.text, "data": dict(outcome.data)})
    transaction.execute("UPDATE mailbox SET outcome = ? WHERE id = ?", (text, number))

"""Keeps the tables of state.db from growing without end: the oldest rows that nobody needs go."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection

    from ota_agent.store.database import Database

MAX_ROWS = 1_000

# Each write of a row gives it a new rowid: the lowest ones were not seen for the longest time.
_BY_AGE = ("facts", "failures", "attempts")


def trim(database: Database, kept: Collection[str], *, max_rows: int = MAX_ROWS) -> None:
    """Hold so many deployments, and so many commits of which something is remembered.

    A release stays while its tree is on the disk (`kept`), while the history or another release's
    way back names it, and while it is among the newest that succeeded.
    """
    with database.transaction() as transaction:
        transaction.execute(
            "DELETE FROM deployments WHERE open IS NULL"
            " AND number <= (SELECT max(number) FROM deployments) - ?",
            (max_rows,),
        )
        for table in _BY_AGE:
            transaction.execute(
                f"DELETE FROM {table} WHERE rowid NOT IN"  # noqa: S608 - one of three names above
                f" (SELECT rowid FROM {table} ORDER BY rowid DESC LIMIT ?)",
                (max_rows,),
            )
        transaction.execute(
            "DELETE FROM releases WHERE id NOT IN (SELECT value FROM json_each(?))"
            " AND id NOT IN (SELECT release FROM deployments WHERE release IS NOT NULL)"
            " AND id NOT IN (SELECT from_release FROM deployments WHERE from_release IS NOT NULL)"
            " AND id NOT IN (SELECT id FROM releases WHERE succeeded_at IS NOT NULL"
            "  ORDER BY succeeded_at DESC LIMIT ?)",
            (json.dumps(list(kept)), max_rows),
        )

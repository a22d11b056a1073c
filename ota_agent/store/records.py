"""The small records around a deployment: each function is one statement of somebody's transaction.

An ending, what it changes here, and its event are one transaction, so that a power cut can never
leave a verdict without its consequences.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ota_agent.model.moment import maybe_text, maybe_time, to_text, to_time
from ota_agent.model.release import Release
from ota_agent.model.trust import Entry, Mark

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Mapping
    from datetime import datetime

    from ota_agent.store.database import Database

OUTBOX_MAX_ROWS = 5_000
OUTBOX_MAX_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Failures:
    """How often a commit failed without being to blame, and when it may be tried again."""

    count: int
    not_before: datetime | None
    wasted_bytes: int
    code: str
    free_bytes: int | None


def put_state(transaction: sqlite3.Connection, key: str, value: object) -> None:
    """Write one small JSON value inside a transaction; `Database.get` reads it."""
    transaction.execute("INSERT OR REPLACE INTO state VALUES(?, ?)", (key, json.dumps(value)))


# --- quarantine -----------------------------------------------------------------------------------


def add_quarantine(transaction: sqlite3.Connection, tree: str, entry: Entry) -> None:
    """Refuse this content from now on; a known one gains the commits and keeps its first reason."""
    row = transaction.execute("SELECT commits FROM quarantine WHERE tree = ?", (tree,)).fetchone()
    known = json.loads(row["commits"]) if row else []
    transaction.execute(
        "INSERT INTO quarantine VALUES(?, ?, ?, ?, ?, ?, ?)"
        " ON CONFLICT(tree) DO UPDATE SET commits = excluded.commits,"
        " attempts = max(attempts, excluded.attempts)",
        (
            tree,
            entry.release,
            json.dumps(sorted({*known, *entry.commits})),
            entry.code,
            entry.message,
            to_text(entry.at),
            entry.attempts,
        ),
    )


def lift_quarantine(transaction: sqlite3.Connection, tree: str) -> None:
    """Let the device try this content again, with a clean slate."""
    transaction.execute("DELETE FROM quarantine WHERE tree = ?", (tree,))
    transaction.execute("DELETE FROM attempts WHERE tree = ?", (tree,))


def quarantine(database: Database) -> dict[str, Entry]:
    """Give what is refused by tree, oldest first."""
    return {
        row["tree"]: Entry(
            release=row["release"],
            code=row["code"],
            message=row["message"],
            commits=tuple(json.loads(row["commits"])),
            at=to_time(row["at"]),
            attempts=row["attempts"],
        )
        for row in database.rows("SELECT * FROM quarantine ORDER BY at, tree")
    }


# --- attempts and failures ------------------------------------------------------------------------


def set_attempts(
    transaction: sqlite3.Connection, tree: str, crashes: int, not_before: datetime | None
) -> None:
    """Remember how many activations of this content ended in a crash."""
    transaction.execute(
        "INSERT OR REPLACE INTO attempts VALUES(?, ?, ?)",
        (tree, crashes, maybe_text(not_before)),
    )


def attempts(database: Database, tree: str) -> int:
    """Count the activations of this content that ended in a crash."""
    rows = database.rows("SELECT crashes FROM attempts WHERE tree = ?", tree)
    return int(rows[0]["crashes"]) if rows else 0


def set_failures(transaction: sqlite3.Connection, commit: str, failures: Failures) -> None:
    """Remember how often this commit failed without being to blame."""
    transaction.execute(
        "INSERT OR REPLACE INTO failures VALUES(?, ?, ?, ?, ?, ?)",
        (
            commit,
            failures.count,
            maybe_text(failures.not_before),
            failures.wasted_bytes,
            failures.code,
            failures.free_bytes,
        ),
    )


def failures(database: Database) -> dict[str, Failures]:
    """Give the failures by commit."""
    return {
        row["commit_id"]: Failures(
            count=row["count"],
            not_before=maybe_time(row["not_before"]),
            wasted_bytes=row["wasted_bytes"],
            code=row["code"],
            free_bytes=row["free_bytes"],
        )
        for row in database.rows("SELECT * FROM failures")
    }


def crash_backoffs(database: Database) -> dict[str, datetime]:
    """Give, by tree, when content that took the device down may be tried again."""
    return {
        row["tree"]: to_time(row["not_before"])
        for row in database.rows("SELECT * FROM attempts WHERE not_before IS NOT NULL")
    }


def forgive(transaction: sqlite3.Connection, *, commit: str, tree: str | None) -> None:
    """Forget what speaks against a release short of a quarantine."""
    transaction.execute("DELETE FROM failures WHERE commit_id = ?", (commit,))
    transaction.execute("DELETE FROM attempts WHERE tree = ?", (tree,))


# --- marks and facts ------------------------------------------------------------------------------


def set_mark(transaction: sqlite3.Connection, project: str, channel: str, mark: Mark) -> None:
    """Raise (or, for the operator, lower) the high-water mark."""
    transaction.execute(
        "INSERT OR REPLACE INTO marks VALUES(?, ?, ?, ?)",
        (project, channel, mark.commit, mark.version),
    )


def marks(database: Database) -> dict[tuple[str, str], Mark]:
    """Give the high-water marks by project and channel."""
    return {
        (row["project"], row["channel"]): Mark(row["commit_id"], row["version"])
        for row in database.rows("SELECT * FROM marks")
    }


def set_facts(transaction: sqlite3.Connection, commit: str, facts: Mapping[str, Any]) -> None:
    """Remember what was read in a commit, so that it is not fetched again to be refused again."""
    transaction.execute(
        "INSERT OR REPLACE INTO facts VALUES(?, ?)", (commit, json.dumps(dict(facts)))
    )


def facts(database: Database) -> dict[str, dict[str, Any]]:
    """Give what was read, by commit."""
    return {
        row["commit_id"]: json.loads(row["value"]) for row in database.rows("SELECT * FROM facts")
    }


# --- releases -------------------------------------------------------------------------------------


def save_release(transaction: sqlite3.Connection, release: Release) -> None:
    """Remember a staged release."""
    transaction.execute(
        "INSERT OR REPLACE INTO releases VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            release.id,
            release.commit,
            release.tree,
            release.version,
            release.manifest,
            release.files,
            release.size_bytes,
            to_text(release.staged_at),
            maybe_text(release.live_at),
            maybe_text(release.succeeded_at),
        ),
    )


def releases(database: Database) -> dict[str, Release]:
    """Give every release that was staged on this device, by id."""
    return {
        row["id"]: Release(
            id=row["id"],
            commit=row["commit_id"],
            tree=row["tree"],
            version=row["version"],
            manifest=row["manifest"],
            files=row["files"],
            size_bytes=row["size_bytes"],
            staged_at=to_time(row["staged_at"]),
            live_at=maybe_time(row["live_at"]),
            succeeded_at=maybe_time(row["succeeded_at"]),
        )
        for row in database.rows("SELECT * FROM releases ORDER BY staged_at")
    }


# --- events ---------------------------------------------------------------------------------------


def add_event(
    transaction: sqlite3.Connection,
    kind: str,
    at: datetime,
    body: Mapping[str, Any],
    *,
    is_terminal: bool = False,
) -> None:
    """Put an event into the outbox; when it is full, the oldest that is no ending goes first."""
    transaction.execute(
        "INSERT INTO outbox(kind, at, body, terminal) VALUES(?, ?, ?, ?)",
        (kind, to_text(at), json.dumps(dict(body)), is_terminal),
    )
    rows, size = transaction.execute(
        "SELECT count(*), coalesce(sum(length(body)), 0) FROM outbox"
    ).fetchone()
    if rows > OUTBOX_MAX_ROWS or size > OUTBOX_MAX_BYTES:
        transaction.execute(
            "DELETE FROM outbox WHERE sequence IN"
            " (SELECT sequence FROM outbox ORDER BY terminal, sequence LIMIT ?)",
            (max(1, rows // 10),),
        )

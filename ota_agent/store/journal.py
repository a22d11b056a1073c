"""The journal: the deployment in flight, on disk before each phase begins, and the history."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from ota_agent.model.deployment import Deployment, Failure, Kind, Phase
from ota_agent.model.moment import maybe_time, to_text, to_time
from ota_agent.store import records

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Mapping

    from ota_agent.ports import Clock
    from ota_agent.store.database import Database


class Journal:
    """Writes each change of a deployment as one durable transaction."""

    def __init__(self, database: Database, clock: Clock) -> None:
        """Keep the journal in `database`; times come from `clock`."""
        self._database = database
        self._clock = clock

    def in_flight(self) -> Deployment | None:
        """Give the deployment that has not come to its end; a stuck one has not."""
        rows = self._database.rows("SELECT * FROM deployments WHERE open = 1")
        return _deployment(rows[0]) if rows else None

    def begin(self, deployment: Deployment) -> Deployment:
        """Open a deployment; its id is given here: `<number>-<6 hex of the epoch>`."""
        epoch = self._database.epoch
        with self._database.transaction() as transaction:
            number = transaction.execute(
                "INSERT INTO deployments(kind, commit_id, ref, phase, last_phase, started_at,"
                " entered_at, open) VALUES('', '', '', '', '', '', '', 1)"
            ).lastrowid
            deployment = replace(deployment, id=f"{number}-{epoch[:6]}")
            transaction.execute(
                "UPDATE deployments SET id = ? WHERE number = ?", (deployment.id, number)
            )
            _write(transaction, deployment, is_open=True)
            _report(transaction, deployment)
        return deployment

    def enter(
        self, deployment: Deployment, phase: Phase, *also: Callable[[sqlite3.Connection], None]
    ) -> Deployment:
        """Move to a phase (or an ending); `also` is done in the same transaction."""
        now = self._clock.now()
        entered = replace(
            deployment,
            phase=phase,
            entered_at=now,
            crashes=0,
            clean_stop=False,
            finished_at=now if phase.is_ending else None,
        )
        with self._database.transaction() as transaction:
            _write(transaction, entered, is_open=not phase.is_ending or phase is Phase.STUCK)
            for change in also:
                change(transaction)
            _report(transaction, entered)
        return entered

    def update(
        self, deployment: Deployment, *also: Callable[[sqlite3.Connection], None]
    ) -> Deployment:
        """Write a deployment that stays in its phase: notes, crashes, a clean stop."""
        with self._database.transaction() as transaction:
            _write(transaction, deployment, is_open=True)
            for change in also:
                change(transaction)
        return deployment

    def stopped(self) -> None:
        """Write a clean stop into the phase that is on disk: a worker that hangs may write it yet.

        A stuck deployment has nothing at work that a stop could cut short.
        """
        with self._database.transaction() as transaction:
            transaction.execute(
                "UPDATE deployments SET clean_stop = 1 WHERE open = 1 AND phase <> ?",
                (Phase.STUCK,),
            )

    def note(self, deployment: Deployment, **notes: object) -> Deployment:
        """Leave something for later steps; JSON values."""
        return self.update(replace(deployment, notes={**deployment.notes, **notes}))

    def history(self, limit: int | None = None) -> list[tuple[Deployment, Phase]]:
        """List deployments, newest first, each with the last phase that was no ending."""
        rows = self._database.rows(
            "SELECT * FROM deployments ORDER BY number DESC LIMIT ?", -1 if limit is None else limit
        )
        return [(_deployment(row), Phase(row["last_phase"])) for row in rows]

    def commits_of(self, name: str) -> set[str]:
        """Give the commits that were taken up under this tag, branch or version."""
        rows = self._database.rows(
            "SELECT DISTINCT commit_id FROM deployments WHERE ref IN (?, ?) OR version = ?",
            f"refs/tags/{name}",
            f"refs/heads/{name}",
            name.removeprefix("v"),
        )
        return {row["commit_id"] for row in rows}

    def last_phase(self, deployment: Deployment) -> Phase:
        """Give the last phase of a deployment that was no ending."""
        rows = self._database.rows("SELECT last_phase FROM deployments WHERE id = ?", deployment.id)
        return Phase(rows[0]["last_phase"])


def _write(transaction: sqlite3.Connection, deployment: Deployment, *, is_open: bool) -> None:
    error = deployment.error
    transaction.execute(
        "UPDATE deployments SET kind = ?, commit_id = ?, ref = ?, tag_object = ?, version = ?,"
        " tree = ?, release = ?, from_release = ?, from_previous = ?, phase = ?,"
        " last_phase = CASE WHEN ? THEN last_phase ELSE ? END, started_at = ?, entered_at = ?,"
        " finished_at = ?, crashes = ?, clean_stop = ?, error = ?, bytes_fetched = ?, notes = ?,"
        " open = ? WHERE id = ?",
        (
            deployment.kind,
            deployment.commit,
            deployment.ref,
            deployment.tag_object,
            deployment.version,
            deployment.tree,
            deployment.release,
            deployment.from_release,
            deployment.from_previous,
            deployment.phase,
            deployment.phase.is_ending,
            deployment.phase,
            to_text(deployment.started_at),
            to_text(deployment.entered_at),
            deployment.finished_at and to_text(deployment.finished_at),
            deployment.crashes,
            deployment.clean_stop,
            error and json.dumps({**asdict(error), "at": to_text(error.at)}),
            deployment.bytes_fetched,
            json.dumps(dict(deployment.notes)),
            1 if is_open else None,
            deployment.id,
        ),
    )


def _report(transaction: sqlite3.Connection, deployment: Deployment) -> None:
    body: Mapping[str, Any] = {
        "deployment": deployment.id,
        "kind": deployment.kind,
        "phase": deployment.phase,
        "release": deployment.release,
        "commit": deployment.commit,
        "error": deployment.error and deployment.error.code,
    }
    records.add_event(
        transaction,
        "deployment",
        deployment.entered_at,
        body,
        is_terminal=deployment.phase.is_ending,
    )


def _deployment(row: sqlite3.Row) -> Deployment:
    error = None
    if row["error"]:
        fields = json.loads(row["error"])
        error = Failure(**{**fields, "at": to_time(fields["at"])})
    return Deployment(
        id=row["id"],
        kind=Kind(row["kind"]),
        commit=row["commit_id"],
        ref=row["ref"],
        phase=Phase(row["phase"]),
        started_at=to_time(row["started_at"]),
        entered_at=to_time(row["entered_at"]),
        version=row["version"],
        tag_object=row["tag_object"],
        tree=row["tree"],
        release=row["release"],
        from_release=row["from_release"],
        from_previous=row["from_previous"],
        crashes=row["crashes"],
        clean_stop=bool(row["clean_stop"]),
        error=error,
        bytes_fetched=row["bytes_fetched"],
        finished_at=maybe_time(row["finished_at"]),
        notes=json.loads(row["notes"]),
    )

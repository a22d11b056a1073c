"""The device's whole state as one JSON object: of `status --json`, status.json and heartbeats.

docs/json.md describes its keys; they are stable.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ota_agent.model import history
from ota_agent.model.deployment import Phase
from ota_agent.model.moment import maybe_text, to_text
from ota_agent.store import records
from ota_agent.store.outbox import Outbox

if TYPE_CHECKING:
    from ota_agent.model.deployment import Deployment
    from ota_agent.status import Connection, Doing
    from ota_agent.store.database import Database
    from ota_agent.store.journal import Journal
    from ota_agent.store.lock import Owner

WAITING = "waiting"
DRIFT = "drift"
LAST_ERROR = "last_error"
LAST_GOOD = "last_good"


def snapshot(  # noqa: PLR0913 - each is a source of the picture
    *,
    device_id: str | None,
    live: str | None,
    previous: str | None,
    database: Database,
    journal: Journal,
    drift_mode: str,
    doing: Doing | None,
    owner: Owner | None,
) -> dict[str, Any]:
    """Give the device's whole state as JSON values; `doing` and `owner` are the running agent's."""
    in_flight = journal.in_flight()
    last_error = database.get(LAST_ERROR)
    waiting = database.get(WAITING)
    if doing is not None:
        waiting = doing.waiting and {
            "reason": doing.waiting.reason,
            "since": to_text(doing.waiting.since),
            "until": maybe_text(doing.waiting.until),
            "owner": doing.waiting.owner,
        }
    is_stuck = in_flight is not None and in_flight.phase is Phase.STUCK
    status = "ONLINE"
    if owner is None:
        status = "OFFLINE"
    elif in_flight is not None and waiting is None and not is_stuck:
        status = "UPDATING"
    elif is_stuck or last_error is not None:
        status = "ERROR"
    depth = Outbox(database).depth()
    return {
        "device_id": device_id,
        "status": status,
        "phase": in_flight.phase.value if in_flight is not None else None,
        "waiting": waiting,
        "live": _release(database, live),
        "previous": _release(database, previous),
        "last_good": _release(database, database.get(LAST_GOOD)),
        "target": None if in_flight is None else _target(in_flight),
        "deployment": None if in_flight is None else history.as_json(in_flight, in_flight.phase),
        "drift": {"mode": drift_mode, "files": [], "checked_at": None, **database.get(DRIFT, {})},
        "quarantine": [
            {
                "tree": tree,
                "release": entry.release,
                "code": entry.code,
                "at": to_text(entry.at),
                "attempts": entry.attempts,
            }
            for tree, entry in records.quarantine(database).items()
        ],
        "last_error": last_error
        and {key: last_error[key] for key in ("code", "message", "hint", "at")},
        "outbox": {
            "rows": depth.rows,
            "bytes": depth.bytes,
            "oldest_at": maybe_text(depth.oldest_at),
        },
        "connections": {
            "source": None if doing is None else _connection(doing.source),
            "supabase": None,
        },
        "agent": None
        if owner is None
        else {
            "version": owner.version,
            "pid": owner.pid,
            "started_at": maybe_text(owner.started_at),
            "boot_id": owner.boot_id,
        },
    }


def nothing(drift_mode: str) -> dict[str, Any]:
    """Give the picture of a work_dir in which no agent has run yet."""
    nulls = ("device_id", "phase", "waiting", "live", "previous", "last_good", "target")
    return {
        **dict.fromkeys(nulls),
        "status": "OFFLINE",
        "deployment": None,
        "drift": {"mode": drift_mode, "files": [], "checked_at": None},
        "quarantine": [],
        "last_error": None,
        "outbox": {"rows": 0, "bytes": 0, "oldest_at": None},
        "connections": {"source": None, "supabase": None},
        "agent": None,
    }


def unknown(release: str) -> dict[str, Any]:
    """Give what is told of a release of which there is no record."""
    return {"release": release, "commit": None, "version": None, "since": None}


def _release(database: Database, release: str | None) -> dict[str, Any] | None:
    if release is None:
        return None
    known = records.releases(database).get(release)
    if known is None:
        # Its record was lost with the database: the id still ends in the commit's first digits.
        return unknown(release)
    return {
        "release": release,
        "commit": known.commit,
        "version": known.version,
        "since": maybe_text(known.live_at or known.staged_at),
    }


def _target(deployment: Deployment) -> dict[str, Any]:
    return {
        "release": deployment.release,
        "commit": deployment.commit,
        "version": deployment.version,
        "since": to_text(deployment.started_at),
    }


def _connection(connection: Connection) -> dict[str, Any]:
    return {
        "state": connection.state,
        "since": maybe_text(connection.since),
        "breaker": connection.breaker,
        "last_error": connection.last_error,
    }

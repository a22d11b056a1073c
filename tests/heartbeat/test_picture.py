from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from fakes.clock import BEGIN, FakeClock
from ota_agent.errors import SourceUnreachable
from ota_agent.heartbeat import picture
from ota_agent.model.deployment import Deployment, Failure, Kind, Phase
from ota_agent.model.release import Release
from ota_agent.model.trust import Entry
from ota_agent.status import Connection, Doing, StatusBoard, Waiting
from ota_agent.store import records
from ota_agent.store.database import Database
from ota_agent.store.journal import Journal
from ota_agent.store.lock import Owner

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

OLD = Release(
    id="1.0.0-aaaaaa-bbbbbbbbbbbb",
    commit="b" * 40,
    tree="t",
    version="1.0.0",
    manifest="",
    files=3,
    size_bytes=70,
    staged_at=BEGIN,
    live_at=BEGIN + timedelta(seconds=1),
)
NEW = Deployment(
    id="",
    kind=Kind.UPDATE,
    commit="c" * 40,
    ref="refs/tags/v1.1.0",
    phase=Phase.FETCH,
    started_at=BEGIN,
    entered_at=BEGIN,
    version="1.1.0",
    from_release=OLD.id,
)
OWNER = Owner(pid=4242, started_at=BEGIN, boot_id="boot", device_id="door-7", version="0.1.0")
AT = "2026-03-01T12:00:00.000Z"

# As scripts have it from `status --json`: every key, and what is below it where it is an object.
SHAPE: dict[str, Any] = {
    "device_id": None,
    "status": None,
    "phase": None,
    "waiting": {"reason", "since", "until", "owner"},
    "live": {"release", "commit", "version", "since"},
    "previous": {"release", "commit", "version", "since"},
    "last_good": {"release", "commit", "version", "since"},
    "target": {"release", "commit", "version", "since"},
    "deployment": {
        *("deployment", "kind", "release", "commit", "from", "phase", "ending", "error"),
        *("started_at", "finished_at", "duration_s", "bytes_fetched"),
    },
    "drift": {"mode", "files", "checked_at"},
    "quarantine": None,
    "last_error": {"code", "message", "hint", "at"},
    "outbox": {"rows", "bytes", "oldest_at"},
    "connections": {"source", "supabase"},
    "agent": {"version", "pid", "started_at", "boot_id"},
}
NULLABLE = {
    *("device_id", "phase", "waiting", "live", "previous", "last_good", "target", "deployment"),
    *("last_error", "agent"),
}


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = Database.open(tmp_path / "state.db")
    yield opened
    opened.close()


@pytest.fixture
def journal(database: Database) -> Journal:
    return Journal(database, FakeClock())


class Camera:
    """Takes pictures of one device; what is not said is as on a device without an agent."""

    def __init__(self, database: Database, journal: Journal) -> None:
        self._database = database
        self._journal = journal

    def take(
        self,
        *,
        live: str | None = None,
        previous: str | None = None,
        doing: Doing | None = None,
        owner: Owner | None = None,
    ) -> dict[str, Any]:
        shown = picture.snapshot(
            device_id="door-7",
            live=live,
            previous=previous,
            database=self._database,
            journal=self._journal,
            drift_mode="report",
            doing=doing,
            owner=owner,
        )
        assert_shape(shown)
        return shown


@pytest.fixture
def camera(database: Database, journal: Journal) -> Camera:
    return Camera(database, journal)


def assert_shape(shown: dict[str, Any]) -> None:
    """Hold a picture against the shape that scripts rely on."""
    assert shown.keys() == SHAPE.keys()
    for key, below in SHAPE.items():
        if shown[key] is None:
            assert key in NULLABLE
        elif below is not None:
            assert set(shown[key]) == below
    for connection in shown["connections"].values():
        assert connection is None or set(connection) == {"state", "since", "breaker", "last_error"}
    for entry in shown["quarantine"]:
        assert set(entry) == {"tree", "release", "code", "at", "attempts"}
    assert json.loads(json.dumps(shown)) == shown


# --- the whole of it ------------------------------------------------------------------------------


def test_device_that_never_ran_has_every_key() -> None:
    shown = picture.nothing("repair")

    assert_shape(shown)
    assert shown == {
        "device_id": None,
        "status": "OFFLINE",
        "phase": None,
        "waiting": None,
        "live": None,
        "previous": None,
        "last_good": None,
        "target": None,
        "deployment": None,
        "drift": {"mode": "repair", "files": [], "checked_at": None},
        "quarantine": [],
        "last_error": None,
        "outbox": {"rows": 0, "bytes": 0, "oldest_at": None},
        "connections": {"source": None, "supabase": None},
        "agent": None,
    }


def test_new_device_is_like_one_that_never_ran_but_for_its_name(camera: Camera) -> None:
    assert camera.take() == {**picture.nothing("report"), "device_id": "door-7"}


def test_device_in_the_middle_of_an_update_shows_all_of_it(
    camera: Camera, database: Database, journal: Journal
) -> None:
    failure = Failure("release.probe_failed", "the probe is red", "Correct it.", BEGIN)
    begun = journal.begin(replace(NEW, error=failure))
    entry = Entry("0.9.0-a-b", "release.empty", "no file", ("d" * 40,), BEGIN, 2)
    with database.transaction() as transaction:
        records.save_release(transaction, OLD)
        records.put_state(transaction, picture.LAST_GOOD, OLD.id)
        records.put_state(transaction, picture.DRIFT, {"files": ["a"], "checked_at": AT})
        records.put_state(
            transaction,
            picture.LAST_ERROR,
            {"code": "x", "message": "m", "hint": "h", "at": AT, "origin": "source"},
        )
        records.add_quarantine(transaction, "e" * 40, entry)
    doing = Doing(source=Connection("online", BEGIN, "closed", None), done_bytes=7)

    shown = camera.take(live=OLD.id, previous="0.8.0-x-y", doing=doing, owner=OWNER)

    old = {
        "release": OLD.id,
        "commit": OLD.commit,
        "version": "1.0.0",
        "since": "2026-03-01T12:00:01.000Z",
    }
    assert shown == {
        "device_id": "door-7",
        "status": "UPDATING",
        "phase": "fetch",
        "waiting": None,
        "live": old,
        # Its record was lost; the id still ends in the commit's first digits.
        "previous": {"release": "0.8.0-x-y", "commit": None, "version": None, "since": None},
        "last_good": old,
        "target": {"release": None, "commit": NEW.commit, "version": "1.1.0", "since": AT},
        "deployment": {
            "deployment": begun.id,
            "kind": "update",
            "release": None,
            "commit": NEW.commit,
            "from": OLD.id,
            "phase": "fetch",
            "ending": None,
            "error": {
                "code": "release.probe_failed",
                "message": "the probe is red",
                "hint": "Correct it.",
                "at": AT,
            },
            "started_at": AT,
            "finished_at": None,
            "duration_s": None,
            "bytes_fetched": 0,
        },
        "drift": {"mode": "report", "files": ["a"], "checked_at": AT},
        "quarantine": [
            {
                "tree": "e" * 40,
                "release": "0.9.0-a-b",
                "code": "release.empty",
                "at": AT,
                "attempts": 2,
            }
        ],
        "last_error": {"code": "x", "message": "m", "hint": "h", "at": AT},
        "outbox": {"rows": 1, "bytes": shown["outbox"]["bytes"], "oldest_at": AT},
        "connections": {
            "source": {"state": "online", "since": AT, "breaker": "closed", "last_error": None},
            "supabase": None,
        },
        "agent": {"version": "0.1.0", "pid": 4242, "started_at": AT, "boot_id": "boot"},
    }
    assert shown["outbox"]["bytes"] > 0


def test_release_that_was_staged_and_never_live_is_there_since_it_was_staged(
    camera: Camera, database: Database
) -> None:
    with database.transaction() as transaction:
        records.save_release(transaction, replace(OLD, live_at=None))

    assert camera.take(live=OLD.id)["live"]["since"] == AT


def test_agent_that_has_not_written_who_it_is_yet_is_there_all_the_same(camera: Camera) -> None:
    assert camera.take(owner=Owner())["agent"] == {
        "version": "",
        "pid": None,
        "started_at": None,
        "boot_id": "",
    }


# --- waiting --------------------------------------------------------------------------------------


def test_what_the_agent_waits_for_now_is_shown(camera: Camera, database: Database) -> None:
    database.put(picture.WAITING, {"reason": "an earlier one"})
    until = BEGIN + timedelta(minutes=1)
    doing = Doing(waiting=Waiting("the hook says: not yet", BEGIN, until, "1.1.0"))

    assert camera.take(doing=doing, owner=OWNER)["waiting"] == {
        "reason": "the hook says: not yet",
        "since": AT,
        "until": "2026-03-01T12:01:00.000Z",
        "owner": "1.1.0",
    }
    assert camera.take(doing=Doing(), owner=OWNER)["waiting"] is None


def test_what_was_waited_for_is_shown_without_an_agent_too(
    camera: Camera, database: Database
) -> None:
    waiting = {"reason": "the hook says: not yet", "since": AT, "until": None, "owner": None}
    database.put(picture.WAITING, waiting)

    assert camera.take()["waiting"] == waiting


# --- the status in one word -----------------------------------------------------------------------


def hold(journal: Journal, phase: Phase) -> None:
    journal.enter(journal.begin(NEW), phase)


WAITS = Doing(waiting=Waiting("a window", BEGIN))


@pytest.mark.parametrize(
    ("phase", "doing", "error", "status"),
    [
        (None, Doing(), False, "ONLINE"),
        (None, WAITS, False, "ONLINE"),
        (None, Doing(), True, "ERROR"),
        (Phase.FETCH, Doing(), False, "UPDATING"),
        (Phase.RESTORE, Doing(), True, "UPDATING"),
        (Phase.HOLD, WAITS, False, "ONLINE"),
        (Phase.HOLD, WAITS, True, "ERROR"),
        (Phase.STUCK, Doing(), False, "ERROR"),
        (Phase.STUCK, WAITS, False, "ERROR"),
    ],
)
def test_status_is_one_word(
    camera: Camera,
    journal: Journal,
    database: Database,
    *,
    phase: Phase | None,
    doing: Doing,
    error: bool,
    status: str,
) -> None:
    if phase is not None:
        hold(journal, phase)
    if error:
        shown = {"code": "c", "message": "m", "hint": "h", "at": AT}
        database.put(picture.LAST_ERROR, shown)

    assert camera.take(doing=doing, owner=OWNER)["status"] == status
    assert camera.take(doing=doing)["status"] == "OFFLINE"


# --- the board ------------------------------------------------------------------------------------


def test_board_keeps_since_when_while_the_reason_is_the_same() -> None:
    board, later = StatusBoard(), BEGIN + timedelta(minutes=5)
    board.wait_for("a lock", BEGIN, owner="app")
    board.wait_for("a lock", later, until=later)
    assert board.doing.waiting == Waiting("a lock", BEGIN, later, None)

    board.wait_for("a window", later)
    assert board.doing.waiting == Waiting("a window", later)

    board.go_on()
    assert board.doing.waiting is None


def test_board_tells_since_when_the_source_is_as_it_is() -> None:
    board = StatusBoard()
    moments = [BEGIN + timedelta(minutes=minute) for minute in range(3)]
    error = str(SourceUnreachable("down"))
    board.source_is("online", moments[0])
    board.source_is("online", moments[1])
    assert board.doing.source == Connection("online", moments[0])

    board.source_is("refused", moments[2], breaker="open", error=error)
    assert board.doing.source == Connection("refused", moments[2], "open", error)


def test_board_tells_how_far_a_transfer_is() -> None:
    board = StatusBoard()
    board.moved(10, 100)

    assert (board.doing.done_bytes, board.doing.total_bytes) == (10, 100)

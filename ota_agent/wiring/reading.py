"""Reads a device's state beside its agent, or without one; imports no client of anything."""

from __future__ import annotations

import json
import os
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ota_agent.errors import DiskFault, WorkDirUnusable
from ota_agent.heartbeat import picture
from ota_agent.host import facts
from ota_agent.host.clock import SystemClock
from ota_agent.model import history
from ota_agent.model.moment import to_text
from ota_agent.store.database import Database
from ota_agent.store.journal import Journal
from ota_agent.store.links import Links
from ota_agent.store.lock import AgentLock
from ota_agent.store.paths import Paths

if TYPE_CHECKING:
    from ota_agent.config import Config, Outline
    from ota_agent.status import StatusBoard
    from ota_agent.store.lock import Owner

DEVICE_ID = "device_id"


def running_agent(config: Config) -> int | None:
    """Give the pid of the agent that has the work_dir; None where none runs."""
    owner = owner_of(config)
    return None if owner is None else owner.pid


def owner_of(config: Config | Outline) -> Owner | None:
    """Give the agent that has the work_dir; None where none runs."""
    return AgentLock(Paths(config.work_dir)).owner()


def require_own(config: Config) -> None:
    """Refuse to do another user's agent's work: it would be done beside it, or spoil its files.

    Raises:
        WorkDirUnusable: the work_dir belongs to another user.

    """
    try:
        owner = config.work_dir.stat().st_uid
    except OSError:
        return  # what is wrong with it is said by whoever wants to work there
    if owner != os.geteuid():
        name = facts.user_name(owner)
        raise WorkDirUnusable(
            f"{config.work_dir} belongs to the agent of user {name}",
            hint="Ask with sudo." if owner == 0 else f"Ask as that user: `sudo -u {name} ...`.",
        )


def read_status(config: Config | Outline) -> dict[str, Any]:
    """Give the object of `status --json`, with and without an agent."""
    paths, owner = Paths(config.work_dir), owner_of(config)
    may_read = _may_read(paths)
    shown = _status_file(paths)
    if shown is not None and (owner is not None or not may_read):
        runs = owner is not None or _is_alive(shown.get("agent"))
        return shown if runs else {**shown, "status": "OFFLINE", "agent": None}
    if not may_read:
        return picture.nothing(config.drift.mode)
    try:
        with closing(Database.read(paths.database_file)) as database:
            return take_picture(config, database, None, None)
    except DiskFault as error:
        if shown is None:
            raise
        return _without_database(config, shown, owner, error)


def read_history(config: Config | Outline, limit: int | None) -> list[dict[str, Any]]:
    """Give the deployments of `history --json`, newest first."""
    paths = Paths(config.work_dir)
    if not has_database(paths):
        return []
    with closing(Database.read(paths.database_file)) as database:
        journal = Journal(database, SystemClock())
        return [history.as_json(*found) for found in journal.history(limit)]


def has_database(paths: Paths) -> bool:
    """Tell whether an agent has run there.

    Raises WorkDirUnusable where this user may not look.
    """
    if _may_read(paths):
        return True
    try:
        paths.database_file.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except PermissionError:
        pass  # as below
    raise WorkDirUnusable(
        f"what is in {paths.private_dir} may not be read by this user",
        hint="Ask as the agent's own user, or with sudo.",
    )


def take_picture(
    config: Config | Outline, database: Database, board: StatusBoard | None, owner: Owner | None
) -> dict[str, Any]:
    """Give the whole state of a device; `board` and `owner` are the running agent's."""
    links = Links(Paths(config.work_dir))
    return picture.snapshot(
        device_id=database.get(DEVICE_ID),
        live=links.live(),
        previous=links.previous(),
        database=database,
        journal=Journal(database, SystemClock()),
        drift_mode=config.drift.mode,
        doing=None if board is None else board.doing,
        owner=owner,
    )


def device_shown(paths: Paths) -> str | None:
    """Give the device of status.json, which may outlive the database."""
    device_id = (_status_file(paths) or {}).get(DEVICE_ID)
    return device_id if isinstance(device_id, str) else None


def _without_database(
    config: Config | Outline, shown: dict[str, Any], owner: Owner | None, error: DiskFault
) -> dict[str, Any]:
    """Give what the links and status.json tell, and that the database tells nothing."""
    links = Links(Paths(config.work_dir))
    at = to_text(SystemClock().now())
    return {
        **picture.nothing(config.drift.mode),
        **shown,
        "status": "OFFLINE" if owner is None else "ERROR",
        "live": _as_linked(links.live(), shown.get("live")),
        "previous": _as_linked(links.previous(), shown.get("previous")),
        "last_error": {"code": error.code, "message": error.message, "hint": error.hint, "at": at},
        "agent": None,
    }


def _as_linked(release: str | None, shown: object) -> object:
    match shown:
        case {"release": str(name)} if name == release:
            return shown
        case _:
            return None if release is None else picture.unknown(release)


def _may_read(paths: Paths) -> bool:
    return os.access(paths.database_file, os.R_OK, effective_ids=True)


def _is_alive(agent: object) -> bool:
    """Tell whether the agent of status.json lives, to a user who may not ask its lock."""
    match agent:
        case {"pid": int(pid), "boot_id": str(boot_id)}:
            return boot_id == facts.boot_id() and Path(f"/proc/{pid}").exists()
        case _:
            return False


def _status_file(paths: Paths) -> dict[str, Any] | None:
    try:
        shown = json.loads(paths.status_file.read_bytes())
    except (OSError, ValueError):
        return None
    return shown if isinstance(shown, dict) else None

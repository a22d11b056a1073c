from __future__ import annotations

import json
import os
from pathlib import Path
from types import SimpleNamespace

import pytest
from plain_user import as_plain_user

from ota_agent.config import Config, Drift, Source
from ota_agent.errors import DatabaseDamaged, WorkDirUnusable
from ota_agent.heartbeat import picture
from ota_agent.host import facts
from ota_agent.store.database import Database
from ota_agent.store.lock import AgentLock
from ota_agent.store.paths import Paths
from ota_agent.wiring import read_history, read_status, require_own, running_agent
from ota_agent.wiring import reading as module


def made(work_dir: Path, device: str = "door-7") -> Config:
    """Make what a device leaves on its disk."""
    config = Config(
        work_dir=work_dir, source=Source(type="git", url="https://git.example.com/fw.git")
    )
    Paths(work_dir).private_dir.mkdir(parents=True)
    database = Database.open(Paths(work_dir).database_file)
    database.put(module.DEVICE_ID, device)
    database.close()
    return config


def show(config: Config, shown: object) -> None:
    Paths(config.work_dir).status_file.write_text(json.dumps(shown))


def test_device_that_never_ran_is_offline(tmp_path: Path) -> None:
    config = Config(
        work_dir=tmp_path / "absent",
        source=Source(type="git", url="https://git.example.com/fw.git"),
        drift=Drift(mode="repair"),
    )

    assert read_status(config) == picture.nothing("repair")
    assert read_history(config, None) == []
    assert running_agent(config) is None


def test_device_without_an_agent_is_read_from_its_disk(tmp_path: Path) -> None:
    config = made(tmp_path)
    show(config, {"device_id": "of a former life", "status": "ONLINE"})

    status = read_status(config)

    assert (status["device_id"], status["status"], status["agent"]) == ("door-7", "OFFLINE", None)


def test_agent_that_runs_has_the_word(tmp_path: Path) -> None:
    config = made(tmp_path)
    lock = AgentLock(Paths(config.work_dir))
    owner = lock.acquire("door-7")
    shown = {"device_id": "door-7", "status": "UPDATING"}
    show(config, shown)

    assert read_status(config) == shown
    assert running_agent(config) == owner.pid
    lock.release()
    assert running_agent(config) is None


@pytest.mark.parametrize("broken", ["", "{", "[1]", "7"])
def test_agent_that_shows_nothing_yet_is_read_from_its_disk(tmp_path: Path, broken: str) -> None:
    config = made(tmp_path)
    lock = AgentLock(Paths(config.work_dir))
    lock.acquire("door-7")
    Paths(config.work_dir).status_file.write_text(broken)

    assert read_status(config)["device_id"] == "door-7"
    lock.release()


def test_user_who_may_not_look_inside_sees_what_the_agent_shows() -> None:
    with as_plain_user() as place:
        config = made(place / "device")
        Paths(config.work_dir).private_dir.chmod(0)
        assert read_status(config) == picture.nothing("report")

        agent = {"pid": 1, "boot_id": facts.boot_id()}
        show(config, {"status": "ONLINE", "agent": agent})
        assert read_status(config) == {"status": "ONLINE", "agent": agent}

        for gone in ({"pid": 1, "boot_id": "of yesterday"}, {"pid": 2**22 + 1}, None, "?"):
            show(config, {"status": "ONLINE", "agent": gone})
            assert read_status(config) == {"status": "OFFLINE", "agent": None}

        with pytest.raises(WorkDirUnusable):
            read_history(config, None)


def test_history_is_as_long_as_is_asked_for(tmp_path: Path) -> None:
    config = made(tmp_path)

    assert read_history(config, None) == []
    assert read_history(config, 5) == []


def test_damaged_database_leaves_what_the_links_and_the_agents_page_tell(tmp_path: Path) -> None:
    config = made(tmp_path)
    paths = Paths(config.work_dir)
    first, second = "1.0.0-abcdef-0123456789ab", "1.1.0-abcdef-0123456789ab"
    for release in (first, second):
        paths.release_dir(release).mkdir(parents=True)
    paths.live_link.symlink_to(f"releases/{second}")
    paths.previous_link.symlink_to(f"releases/{first}")
    known = {"release": second, "commit": "1" * 40, "version": "1.1.0", "since": None}
    show(config, {"device_id": "door-7", "status": "ONLINE", "live": known, "previous": known})
    paths.database_file.write_bytes(b"no database at all" * 100)

    status = read_status(config)

    assert (status["device_id"], status["status"]) == ("door-7", "OFFLINE")
    assert status["live"] == known
    assert status["previous"] == picture.unknown(first)
    assert status["last_error"]["code"] == "device.database_damaged"
    with pytest.raises(DatabaseDamaged):
        read_history(config, None)
    assert paths.database_file.exists()


def test_damaged_database_is_told_where_nothing_else_is_known(tmp_path: Path) -> None:
    config = made(tmp_path)
    Paths(config.work_dir).database_file.write_bytes(b"no database at all" * 100)

    with pytest.raises(DatabaseDamaged):
        read_status(config)
    show(config, {"device_id": "door-7"})
    assert read_status(config)["live"] is None


def test_database_that_may_only_be_read_is_enough() -> None:
    with as_plain_user() as place:
        config = made(place / "device")
        Paths(config.work_dir).database_file.chmod(0o400)

        assert read_status(config)["device_id"] == "door-7"
        assert read_history(config, None) == []


@pytest.mark.parametrize(
    ("owner", "hint"), [(0, "Ask with sudo."), (4_000_000, "`sudo -u 4000000 ...`")]
)
def test_work_of_another_users_agent_is_not_done_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, owner: int, hint: str
) -> None:
    source = Source(type="git", url="https://git.example.com/fw.git")
    config = Config(work_dir=tmp_path / "device", source=source)
    require_own(config)  # nothing is there yet
    config.work_dir.mkdir()
    require_own(config)
    found = config.work_dir.stat()
    monkeypatch.setattr(Path, "stat", lambda _: SimpleNamespace(st_uid=owner, real=found))
    monkeypatch.setattr(os, "geteuid", lambda: 1234)

    with pytest.raises(WorkDirUnusable, match="belongs to the agent of user") as caught:
        require_own(config)

    assert hint in caught.value.hint

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import pytest
from plain_user import as_plain_user

from ota_agent import config
from ota_agent.errors import WorkDirUnusable
from ota_agent.host import facts
from ota_agent.model.command import Exit
from ota_agent.store.database import Database
from ota_agent.store.paths import Paths
from ota_agent.wiring.asking import verify_live
from ota_agent.wiring.reading import read_history, read_status

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ota_agent.config import Config


def configured(work_dir: Path) -> Config:
    text = {"work_dir": str(work_dir), "source": {"type": "git", "url": "/srv/fw.git"}}
    return config.load(json.dumps(text), environ={}).config


def verify(device: Config) -> object:
    return verify_live(device, print)


def history(device: Config) -> object:
    return read_history(device, None)


@pytest.mark.parametrize("look", [verify, history])
def test_user_who_may_not_look_is_told_so(look: Callable[[Config], object]) -> None:
    with as_plain_user() as place:
        (place / "private").mkdir(mode=0)
        with pytest.raises(WorkDirUnusable, match="may not be read by this user"):
            look(configured(place))


@pytest.mark.parametrize(
    ("agent", "status"),
    [
        ({"pid": os.getpid(), "boot_id": facts.boot_id()}, "ONLINE"),
        ({"pid": 2**22, "boot_id": facts.boot_id()}, "OFFLINE"),
        ({"pid": os.getpid(), "boot_id": "of another boot"}, "OFFLINE"),
        (None, "OFFLINE"),
    ],
)
def test_user_who_may_not_look_still_sees_the_status(
    agent: dict[str, object] | None, status: str
) -> None:
    with as_plain_user() as place:
        (place / "private").mkdir(mode=0)
        text = json.dumps({"device_id": "kiosk-7", "status": "ONLINE", "agent": agent})
        (place / "status.json").write_text(text)
        shown = read_status(configured(place))
    assert (shown["device_id"], shown["status"]) == ("kiosk-7", status)


def test_live_release_whose_content_is_not_known_cannot_be_compared(tmp_path: Path) -> None:
    device = configured(tmp_path)
    (tmp_path / "private").mkdir()
    Database.open(Paths(tmp_path).database_file).close()
    (tmp_path / "releases/1.0.0-abcdef-0123456789ab").mkdir(parents=True)
    (tmp_path / "live").symlink_to("releases/1.0.0-abcdef-0123456789ab")
    outcome = verify_live(device, print)
    assert outcome.exit is Exit.FAILED
    assert "1.0.0-abcdef-0123456789ab cannot be compared" in outcome.text


@pytest.mark.parametrize("missing", ["work_dir", "private", "database"])
def test_nothing_was_deployed_where_no_agent_has_run(tmp_path: Path, missing: str) -> None:
    work_dir = tmp_path / "device"
    if missing != "work_dir":
        work_dir.mkdir()
    if missing == "database":
        (work_dir / "private").mkdir()
    device = configured(work_dir)
    assert read_history(device, None) == []
    assert verify_live(device, print).exit is Exit.DONE
    assert read_status(device)["status"] == "OFFLINE"

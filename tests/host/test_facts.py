from __future__ import annotations

import os
import uuid
from typing import TYPE_CHECKING

import pytest

import ota_agent
from ota_agent.errors import ConfigError, DeviceError
from ota_agent.host import facts

if TYPE_CHECKING:
    import pwd
    from pathlib import Path


def test_boot_id_is_the_same_for_the_whole_boot() -> None:
    assert str(uuid.UUID(facts.boot_id())) == facts.boot_id()


def test_device_without_proc_is_named_as_such(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(facts, "_BOOT_ID", tmp_path / "boot_id")
    with pytest.raises(DeviceError, match="boot_id: No such file") as raised:
        facts.boot_id()
    assert raised.value.hint == "Mount /proc."


def test_agent_knows_its_version() -> None:
    assert facts.agent_version() == ota_agent.__version__


def test_no_name_is_no_other_user() -> None:
    assert facts.commands_user(None) is None


def test_own_user_may_be_named_in_words(myself: pwd.struct_passwd) -> None:
    assert facts.commands_user(myself.pw_name) == myself


@pytest.mark.root
def test_root_may_name_anybody() -> None:
    user = facts.commands_user("nobody")
    assert user is not None
    assert user.pw_name == "nobody"


@pytest.mark.parametrize("name", ["no-such-user", "", "a\0b"])
def test_user_who_does_not_exist_is_a_mistake_of_the_configuration(name: str) -> None:
    with pytest.raises(ConfigError, match=r"commands\.user: there is no user"):
        facts.commands_user(name)


def test_plain_user_cannot_name_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 4_000_000)
    assert not facts.is_root()
    with pytest.raises(ConfigError, match="only an agent that is root"):
        facts.commands_user("nobody")


def test_user_is_named_and_one_without_a_name_is_a_number() -> None:
    assert facts.user_name(0) == "root"
    assert facts.user_name(4_000_000) == "4000000"

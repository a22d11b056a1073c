from __future__ import annotations

import os
import re
import signal
from typing import TYPE_CHECKING

import pytest
from pydantic import SecretStr
from trees import contents

from ota_agent import log, wiring
from ota_agent.config import Commands, Config, Credentials, Source, Trust
from ota_agent.errors import (
    ConfigError,
    DatabaseNewer,
    GitUnusable,
    Locked,
    WorkDirForeign,
    WorkDirUnusable,
)
from ota_agent.host import facts
from ota_agent.model.command import Exit
from ota_agent.store.database import Database
from ota_agent.store.lock import AgentLock
from ota_agent.store.paths import Paths
from ota_agent.wiring import build_agent, check_now, read_history
from ota_agent.wiring import building as module

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ota_agent.model.command import Outcome
    from servers.publisher import Publisher

pytestmark = pytest.mark.process

FILES = {"app.py": b"print(1)\n", "ota.toml": b'version = "1.0.0"\n'}


def test_release_in_a_real_repository_goes_live(
    config: Config, publisher: Publisher, run_once: Callable[[], Outcome]
) -> None:
    commit = publisher.publish(FILES)

    done, again = run_once(), run_once()

    assert done.exit is Exit.DONE
    assert again.exit is Exit.NOTHING
    assert contents(config.work_dir / "live") == FILES
    ((deployment),) = read_history(config, None)
    assert (deployment["commit"], deployment["ending"]) == (commit, "succeeded")
    assert deployment["bytes_fetched"] > 0


def test_update_and_a_release_that_is_refused(
    config: Config, publisher: Publisher, run_once: Callable[[], Outcome]
) -> None:
    publisher.publish(FILES)
    run_once()
    publisher.change({"app.py": b"print(2)\n"})
    assert run_once().exit is Exit.DONE
    publisher.change({"ota.toml": b"nonsense = 1\n"})

    refused = run_once()

    assert (refused.exit, refused.data["code"]) == (Exit.FAILED, "release.manifest_invalid")
    assert contents(config.work_dir / "live")["app.py"] == b"print(2)\n"
    assert [one["ending"] for one in read_history(config, None)] == [
        "abandoned",
        "succeeded",
        "succeeded",
    ]


def test_check_tells_what_would_be_deployed_and_deploys_nothing(
    config: Config, publisher: Publisher, run_once: Callable[[], Outcome]
) -> None:
    publisher.publish(FILES)
    run_once()
    assert check_now(config).data["reason"] == "release.up_to_date"
    commit = publisher.change({"app.py": b"print(2)\n"})

    outcome = check_now(config)

    assert outcome.exit is Exit.DONE
    assert outcome.data["candidate"]["commit"] == commit
    assert contents(config.work_dir / "live") == FILES


def test_check_of_a_source_that_is_not_there_fails(
    config: Config, publisher: Publisher, run_once: Callable[[], Outcome]
) -> None:
    publisher.publish(FILES)
    run_once()
    publisher.path.rename(publisher.path.with_name("gone"))

    outcome = check_now(config)

    assert outcome.exit is Exit.FAILED
    assert str(outcome.data["code"]).startswith("source.")


# --- what may not be ------------------------------------------------------------------------------


def test_second_agent_is_refused_and_the_first_is_named(config: Config) -> None:
    agent = build_agent(config, "door-7", once=True)
    try:
        with pytest.raises(Locked) as refused:
            build_agent(config, "door-7", once=True)
        assert f"pid {os.getpid()}" in refused.value.message
    finally:
        agent.close()

    build_agent(config, "door-7", once=True).close()


def test_command_that_wakes_an_agent_which_still_starts_does_not_end_it(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_the_lock: list[object] = []

    def acquire(*_: object) -> None:
        at_the_lock.append(signal.getsignal(signal.SIGUSR1))
        raise Locked("enough")

    signal.signal(signal.SIGUSR1, signal.SIG_DFL)
    monkeypatch.setattr(AgentLock, "acquire", acquire)
    with pytest.raises(Locked):
        build_agent(config, "door-7", once=True)

    # Whoever sees the lock finds this process, and sends it the signal.
    assert at_the_lock != [signal.SIG_DFL]


def test_work_dir_of_another_device_is_refused_and_let_go(config: Config) -> None:
    build_agent(config, "door-7", once=True).close()

    with pytest.raises(WorkDirForeign, match="belongs to device door-7, not to door-8"):
        build_agent(config, "door-8", once=True)

    build_agent(config, "door-7", once=True).close()


def test_device_is_known_by_its_work_dir_once_it_ran(config: Config) -> None:
    with pytest.raises(ConfigError, match="no device has run in"):
        build_agent(config, None, once=True)

    build_agent(config, "door-7", once=True).close()
    build_agent(config, None, once=True).close()

    assert wiring.read_status(config)["device_id"] == "door-7"


def test_mistyped_work_dir_is_not_made_by_a_command(config: Config) -> None:
    with pytest.raises(ConfigError, match="no device has run in"):
        check_now(config)

    assert not config.work_dir.exists()
    config.work_dir.mkdir()
    (config.work_dir / "theirs").touch()
    with pytest.raises(ConfigError, match="no device has run in"):
        build_agent(config, None, once=True)
    assert [path.name for path in config.work_dir.iterdir()] == ["theirs"]


def test_device_is_known_by_what_it_showed_when_its_database_is_lost(
    config: Config, run_once: Callable[[], Outcome]
) -> None:
    run_once()
    file = Paths(config.work_dir).database_file

    file.unlink()
    with pytest.raises(WorkDirForeign, match="belongs to device door-7, not to door-8"):
        build_agent(config, "door-8", once=True)
    file.write_bytes(b"no database at all" * 100)
    build_agent(config, None, once=True).close()

    assert wiring.read_status(config)["device_id"] == "door-7"


def test_work_dir_that_is_a_file_is_refused_and_left_alone(config: Config) -> None:
    config.work_dir.write_text("mine")

    with pytest.raises(WorkDirUnusable):
        build_agent(config, "door-7", once=True)

    assert config.work_dir.read_text() == "mine"


def test_state_of_a_newer_agent_is_refused_and_left_alone(config: Config) -> None:
    build_agent(config, "door-7", once=True).close()
    file = Paths(config.work_dir).database_file
    database = Database.open(file)
    database.rows("PRAGMA user_version=99")
    database.close()

    with pytest.raises(DatabaseNewer):
        build_agent(config, "door-7", once=True)

    assert not file.with_name("state.db.damaged").exists()


def test_device_without_git_is_told_so(
    config: Config, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(GitUnusable):
        build_agent(config, "door-7", once=True)

    assert wiring.running_agent(config) is None


def test_user_of_commands_has_to_exist(config: Config) -> None:
    unknown = config.model_copy(update={"commands": Commands(user="no-such-user-here")})

    with pytest.raises(ConfigError, match="no-such-user-here"):
        build_agent(unknown, "door-7", once=True)


# --- parts ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("is_root", "user", "accepts", "missing"),
    [
        (False, None, False, ()),
        (True, None, False, ("commands.user", "trust.accept_unsigned_commands")),
        (True, None, True, ("commands.user",)),
        (True, "nobody", False, ("trust.accept_unsigned_commands",)),
        (True, "nobody", True, ()),
    ],
)
def test_root_runs_the_commands_of_releases_after_two_yeses_only(
    config: Config,
    monkeypatch: pytest.MonkeyPatch,
    *,
    is_root: bool,
    user: str | None,
    accepts: bool,
    missing: tuple[str, ...],
) -> None:
    monkeypatch.setattr(facts, "is_root", lambda: is_root)
    changed = config.model_copy(
        update={
            "commands": Commands(user=user),
            "trust": Trust(accept_unsigned_commands=accepts),
        }
    )

    assert module._commands_missing(changed) == missing


@pytest.fixture
def open_log() -> None:
    """Have the log written for this test."""
    log.configure("json", "info")


@pytest.mark.usefixtures("open_log")
def test_token_reaches_the_source_and_never_the_log(
    config: Config, capsys: pytest.CaptureFixture[str]
) -> None:
    given = config.model_copy(
        update={
            "source": Source(type="git", url="https://git.example.com/fw.git"),
            "credentials": Credentials(username="oauth2", token=SecretStr("glpat-very-secret")),
        }
    )
    build_agent(given, "door-7", once=True).close()

    log.get_logger("test").error("it said glpat-very-secret")

    said = capsys.readouterr().err
    assert "glpat-very-secret" not in said
    assert re.search(r"it said \*+", said)


def test_what_is_not_there_is_no_function_of_wiring() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = wiring.nonsense
    assert set(wiring.__all__) == set(wiring._HOMES)

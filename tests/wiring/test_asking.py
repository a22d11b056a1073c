from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import closing, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from trees import contents

from ota_agent import wiring
from ota_agent.errors import GitUnusable
from ota_agent.host.clock import SystemClock
from ota_agent.model.command import Ask, Command, Exit, Outcome
from ota_agent.model.deployment import Kind, Phase
from ota_agent.store.database import Database
from ota_agent.store.journal import Journal
from ota_agent.store.lock import Owner
from ota_agent.store.mailbox import Mailbox
from ota_agent.store.paths import Paths
from ota_agent.wiring import ask_agent, asking, build_agent, read_status, running_agent, verify_live

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from ota_agent.config import Config
    from servers.publisher import Publisher

pytestmark = pytest.mark.process

PATIENCE_S = 60.0
FILES = {"app.py": b"print(1)\n", "etc/app.conf": b"port = 80\n"}


@contextmanager
def daemon(config: Config, tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run the agent as a process of its own."""
    settings = {
        "work_dir": str(config.work_dir),
        "source": {"type": "git", "url": config.source.url},
        "disk": {"reserve_bytes": 0, "reserve_inodes": 0},
    }
    log = (tmp_path / "log").open("wb")
    command = [sys.executable, "-m", "ota_agent", "run", "--device-id", "door-7"]
    with log, subprocess.Popen([*command, "--config", json.dumps(settings)], stderr=log) as process:
        try:
            until(lambda: running_agent(config) is not None)
            until(lambda: read_status(config)["status"] != "OFFLINE")
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(PATIENCE_S)


def until(is_so: Callable[[], object]) -> None:
    """Wait for another process: there is nothing else to wait on than what it writes."""
    last = time.monotonic() + PATIENCE_S
    while not is_so():
        assert time.monotonic() < last
        time.sleep(0.02)


# --- the running agent ----------------------------------------------------------------------------


def test_running_agent_carries_out_what_it_is_asked(
    config: Config, publisher: Publisher, tmp_path: Path
) -> None:
    publisher.publish(FILES)
    with daemon(config, tmp_path) as process:
        until(lambda: read_status(config)["last_good"])
        until(lambda: read_status(config)["deployment"] is None)
        assert contents(config.work_dir / "live") == FILES
        assert running_agent(config) == process.pid
        commit = publisher.change({"app.py": b"print(2)\n"})

        updated = ask_agent(config, Command(Ask.UPDATE, asked_by="operator"), pytest.fail)
        assert updated.exit is Exit.DONE
        assert updated.data["deployment"]["commit"] == commit

        back = ask_agent(config, Command(Ask.ROLLBACK, asked_by="operator"), pytest.fail)
        assert back.exit is Exit.DONE
        assert contents(config.work_dir / "live") == FILES

        refused = ask_agent(config, Command(Ask.RETRY, {"release": "9.9.9"}), pytest.fail)
        assert refused.exit is Exit.REFUSED

    assert process.returncode == 0
    assert read_status(config)["status"] == "OFFLINE"


def test_agent_that_ends_meanwhile_is_told(config: Config, tmp_path: Path) -> None:
    with daemon(config, tmp_path) as process:
        process.send_signal(signal.SIGSTOP)
        os.kill(process.pid, signal.SIGKILL)
        process.wait(PATIENCE_S)

        outcome = ask_agent(config, Command(Ask.CHECK), pytest.fail)

    assert outcome.exit is Exit.NO_AGENT


def test_agent_of_another_user_is_woken_by_the_file(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "kill", refuse)
    agent = build_agent(config, "door-7", once=True)
    paths = Paths(config.work_dir)
    asking._wake(config, paths)

    assert paths.wake_file.exists()
    agent.close()


def test_answer_that_came_last_of_all_counts(
    config: Config, run_once: Callable[[], Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    run_once()

    def answer_and_end(_: Config) -> None:
        database = Database.open(Paths(config.work_dir).database_file)
        mailbox = Mailbox(database)
        ((number, _command),) = mailbox.take()
        mailbox.answer(number, Outcome(Exit.DONE, "done at last"))
        database.close()

    monkeypatch.setattr(asking, "owner_of", answer_and_end)

    assert ask_agent(config, Command(Ask.CHECK), pytest.fail).text == "done at last"


@pytest.mark.parametrize("ends", [True, False])
def test_rollback_whose_agent_ended_is_told_by_its_deployment(
    config: Config,
    publisher: Publisher,
    run_once: Callable[[], Outcome],
    monkeypatch: pytest.MonkeyPatch,
    *,
    ends: bool,
) -> None:
    publisher.publish(FILES)
    run_once()

    def begin_and_end(_: Config) -> None:
        with closing(Database.open(Paths(config.work_dir).database_file)) as database:
            ((number, _command),) = Mailbox(database).take()
            journal = Journal(database, SystemClock())
            done = journal.history(1)[0][0]
            begun = journal.begin(
                replace(done, kind=Kind.ROLLBACK, phase=Phase.BACKUP, notes={"command": number})
            )
            if ends:
                journal.enter(begun, Phase.SUCCEEDED)

    monkeypatch.setattr(asking, "owner_of", begin_and_end)
    told = ask_agent(config, Command(Ask.ROLLBACK), pytest.fail)

    if ends:
        assert told.exit is Exit.DONE
    else:
        assert told.exit is Exit.NO_AGENT
        assert f"was begun as {told.data['deployment']['deployment']}" in told.text


def test_command_that_nobody_took_is_not_done_later(
    config: Config, run_once: Callable[[], Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    run_once()
    monkeypatch.setattr(asking, "owner_of", lambda _: None)

    told = ask_agent(config, Command(Ask.ROLLBACK), pytest.fail)

    assert (told.exit, "nothing was done" in told.text) == (Exit.NO_AGENT, True)
    with closing(Database.open(Paths(config.work_dir).database_file)) as database:
        assert Mailbox(database).take() == []


class Silent:
    """An agent that has the lock and does nothing."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, takes: bool) -> None:
        self.pid, self._takes = os.getpid(), takes
        monkeypatch.setattr(asking, "SILENT_S", 0.05)
        monkeypatch.setattr(asking, "GIVEN_UP_S", 0.3)
        monkeypatch.setattr(asking, "_is_halted", lambda _: True)
        monkeypatch.setattr(asking, "owner_of", self._owner)

    def _owner(self, config: Config) -> Owner:
        if self._takes:
            with closing(Database.open(Paths(config.work_dir).database_file)) as database:
                Mailbox(database).take()
        return Owner(pid=self.pid)


@pytest.mark.parametrize(
    ("takes", "what"), [(False, "nothing was done"), (True, "goes on when it does")]
)
def test_agent_that_does_not_answer_is_given_up(
    config: Config,
    run_once: Callable[[], Outcome],
    monkeypatch: pytest.MonkeyPatch,
    *,
    takes: bool,
    what: str,
) -> None:
    run_once()
    agent, warned = Silent(monkeypatch, takes=takes), list[str]()

    outcome = ask_agent(config, Command(Ask.CHECK), warned.append)

    assert outcome.exit is Exit.NO_AGENT
    assert f"pid {agent.pid}" in outcome.text
    assert what in outcome.text
    assert "has not answered" in warned[0]


@pytest.mark.parametrize(
    ("takes", "what"), [(False, "nothing was done"), (True, "the agent goes on with it")]
)
def test_asker_that_is_interrupted_is_told_what_becomes_of_it(
    config: Config,
    run_once: Callable[[], Outcome],
    monkeypatch: pytest.MonkeyPatch,
    *,
    takes: bool,
    what: str,
) -> None:
    def interrupt(_: str) -> None:
        raise KeyboardInterrupt

    run_once()
    Silent(monkeypatch, takes=takes)

    with pytest.raises(KeyboardInterrupt, match=what):
        ask_agent(config, Command(Ask.CHECK), interrupt)


def test_process_that_is_halted_is_told_from_one_that_works() -> None:
    assert not asking._is_halted(os.getpid())
    assert not asking._is_halted(None)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        process.send_signal(signal.SIGSTOP)
        until(lambda: asking._is_halted(process.pid))
        process.kill()


# --- the live tree --------------------------------------------------------------------------------


def verify(config: Config) -> tuple[Outcome, list[str]]:
    said: list[str] = []
    return verify_live(config, said.append), said


def test_device_without_a_release_has_nothing_to_compare(
    config: Config, run_once: Callable[[], Outcome]
) -> None:
    assert "nothing is live" in verify(config)[0].text
    run_once()

    outcome, said = verify(config)

    assert outcome.exit is Exit.DONE
    assert "nothing is live" in outcome.text
    assert said == []


def test_live_tree_that_is_whole_is_told_so(
    config: Config, publisher: Publisher, run_once: Callable[[], Outcome]
) -> None:
    publisher.publish(FILES)
    run_once()

    outcome, said = verify(config)

    assert outcome.exit is Exit.DONE
    assert outcome.text.endswith("is whole: 2 files")
    assert said == []


def test_live_tree_that_differs_is_told_file_by_file_and_left_alone(
    config: Config, publisher: Publisher, run_once: Callable[[], Outcome]
) -> None:
    publisher.publish(FILES)
    run_once()
    live = config.work_dir / "live"
    for directory in (live, live / "etc"):
        directory.chmod(0o755)
    (live / "app.py").chmod(0o644)
    (live / "app.py").write_bytes(b"edited\n")
    (live / "etc/app.conf").unlink()
    (live / "new.log").write_bytes(b"")
    for directory in (live / "etc", live):
        directory.chmod(0o555)

    outcome, said = verify(config)

    assert outcome.exit is Exit.FAILED
    assert said == ["changed: app.py", "missing: etc/app.conf", "added: new.log"]
    assert outcome.data["changed"] == ["app.py"]
    assert (live / "app.py").read_bytes() == b"edited\n"


def test_live_tree_of_unknown_content_cannot_be_compared(
    config: Config, publisher: Publisher, run_once: Callable[[], Outcome]
) -> None:
    publisher.publish(FILES)
    run_once()
    database = Database.open(Paths(config.work_dir).database_file)
    with database.transaction() as transaction:
        transaction.execute("DELETE FROM releases")
    database.close()

    outcome, _ = verify(config)

    assert outcome.exit is Exit.FAILED
    assert "cannot be compared" in outcome.text
    assert wiring.running_agent(config) is None


def test_verify_writes_nothing_not_even_what_it_learnt(
    config: Config, publisher: Publisher, run_once: Callable[[], Outcome]
) -> None:
    publisher.publish(FILES)
    run_once()
    file = Paths(config.work_dir).database_file
    with closing(Database.open(file)) as database, database.transaction() as transaction:
        transaction.execute("DELETE FROM inodes")
    before = file.read_bytes()

    outcome, _ = verify(config)

    assert outcome.exit is Exit.DONE
    assert file.read_bytes() == before


def test_verify_takes_no_other_programs_word_for_git_s(
    config: Config,
    publisher: Publisher,
    run_once: Callable[[], Outcome],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    publisher.publish(FILES)
    run_once()
    other = tmp_path / "bin/git"
    other.parent.mkdir()
    other.write_text("#!/bin/sh\necho hi\n")
    other.chmod(0o755)
    monkeypatch.setenv("PATH", f"{other.parent}:{os.environ['PATH']}")

    with pytest.raises(GitUnusable, match="tells no version"):
        verify(config)

"""Asks the running agent, and looks at what it keeps live."""

from __future__ import annotations

import os
import signal
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ota_agent.host.clock import SystemClock
from ota_agent.model.command import Ask, Exit, Outcome
from ota_agent.model.manifest import parse_manifest
from ota_agent.remote.git import Git
from ota_agent.remote.git_objects import GitObjects
from ota_agent.store import atomic, records
from ota_agent.store.database import Database
from ota_agent.store.journal import Journal
from ota_agent.store.mailbox import Mailbox
from ota_agent.store.paths import Paths
from ota_agent.store.releases import ReleaseStore
from ota_agent.update import answers
from ota_agent.wiring.reading import has_database, owner_of, running_agent
from ota_agent.worker import Unwatched

if TYPE_CHECKING:
    from collections.abc import Callable

    from ota_agent.config import Config
    from ota_agent.model.command import Command


SILENT_S = 10.0
GIVEN_UP_S = 60.0
LATEST = 20  # deployments among which the one that was asked for is looked for


def ask_agent(config: Config, command: Command, warn: Callable[[str], None]) -> Outcome:
    """Put a command into the running agent's mailbox, wake it, and wait for the outcome.

    `warn` is told while the agent gives no sign of life; after a minute of that it is given up.
    """
    paths = Paths(config.work_dir)
    with closing(Database.open(paths.database_file)) as database:
        mailbox = Mailbox(database)
        number = mailbox.put(command)
        try:
            _wake(config, paths)
            return _wait(config, database, command, number, warn)
        except KeyboardInterrupt:
            if mailbox.withdraw(number):
                raise KeyboardInterrupt(": nothing was done") from None
            raise KeyboardInterrupt(": the agent goes on with it, see its status") from None


def _wait(
    config: Config,
    database: Database,
    command: Command,
    number: int,
    warn: Callable[[str], None],
) -> Outcome:
    mailbox, pause_s = Mailbox(database), 0.01
    alive_at = warned_at = time.monotonic()
    while (outcome := mailbox.outcome(number)) is None:
        owner, now = owner_of(config), time.monotonic()
        if owner is None:
            # It may have answered last of all.
            return mailbox.outcome(number) or _unanswered(database, command, number)
        if mailbox.is_taken(number) and not _is_halted(owner.pid):
            alive_at = warned_at = now
        elif now - alive_at > GIVEN_UP_S:
            return _silent(mailbox, number, owner.pid)
        elif now - warned_at > SILENT_S:
            warn(f"the agent (pid {owner.pid}) has not answered for {now - alive_at:.0f} s")
            warned_at = now
        # The answer is a row that another process writes: there is nothing to wait on.
        time.sleep(pause_s)
        pause_s = min(pause_s * 1.5, 0.2)
    return outcome


def _is_halted(pid: int | None) -> bool:
    """Tell whether a signal or a debugger has halted the process."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return False
    return fields[0] in {b"T", b"t"}


def _silent(mailbox: Mailbox, number: int, pid: int | None) -> Outcome:
    is_undone = mailbox.withdraw(number)
    what = "nothing was done" if is_undone else "what was asked goes on when it does"
    data = {"hint": "Look at its log, or restart it."}
    return Outcome(Exit.NO_AGENT, f"the agent (pid {pid}) does not answer; {what}", data)


def _unanswered(database: Database, command: Command, number: int) -> Outcome:
    """Tell what became of a command whose agent has ended, so that none is done unannounced."""
    if Mailbox(database).withdraw(number):
        text = "the agent ended before it took this up, and nothing was done; ask again"
        return Outcome(Exit.NO_AGENT, text)
    for deployment, last_phase in Journal(database, SystemClock()).history(LATEST):
        is_asked = command.ask is Ask.ROLLBACK and deployment.notes.get("command") == number
        goes_on = command.ask is Ask.UPDATE and deployment.ending is None
        if is_asked and deployment.ending is not None:
            return answers.of_deployment(deployment, last_phase)
        if is_asked or goes_on:
            return answers.left(deployment)
    return Outcome(Exit.NO_AGENT, "the agent ended before this was done; ask again")


def verify_live(config: Config, report: Callable[[str], None]) -> Outcome:
    """Read the live tree whole and compare it with its release; changes nothing."""
    paths = Paths(config.work_dir)
    data: dict[str, Any] = {"release": None, "changed": [], "missing": [], "added": []}
    nothing = Outcome(Exit.DONE, f"nothing is live in {paths.work_dir} yet", data)
    if not has_database(paths):
        return nothing
    with closing(Database.read(paths.database_file)) as database:
        git = Git(paths.private_dir / "git")
        git.check_version()  # what is no git may list nothing, and so find nothing missing
        objects = GitObjects(git, paths.repo_dir, move_aside=atomic.rename)
        releases = ReleaseStore(paths, objects, database)
        live = releases.live()
        if live is None:
            return nothing
        known = records.releases(database).get(live)
        if known is None:
            text = f"{live} cannot be compared: what it holds is not known any more"
            return Outcome(Exit.FAILED, text, data | {"release": live})
        persist = [spec.path for spec in parse_manifest(known.manifest).persist]
        entries = objects.listing(known.tree, Unwatched())
        drift = releases.scan(live, entries, persist, config.drift.ignore, Unwatched())
    data = {
        "release": live,
        "changed": list(drift.changed),
        "missing": list(drift.missing),
        "added": list(drift.added),
    }
    for what in ("changed", "missing", "added"):
        for path in data[what]:
            report(f"{what}: {path}")
    if drift.damage:
        return Outcome(Exit.FAILED, f"{live} differs from its release", data)
    return Outcome(Exit.DONE, f"{live} is whole: {known.files} files", data)


def _wake(config: Config, paths: Paths) -> None:
    pid = running_agent(config)
    try:
        if pid is not None:
            os.kill(pid, signal.SIGUSR1)
    except (PermissionError, ProcessLookupError):
        paths.wake_file.touch()  # another user's agent looks at this every second

"""Runs what a publisher brings: bounded in time and output, without the agent's secrets.

Covered: children left in the background, daemons that made a session of their own, programs that
ignore SIGTERM, an agent that dies meanwhile. Not covered: work that the command hands to a process
which is not below it (systemd-run, at, a container engine), a set-id program when the agent is not
root, and a process that hangs in the kernel; the agent does not wait for such a one.
"""

from __future__ import annotations

import os
import pwd
import shutil
import stat
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ota_agent.errors import CommandsUnusable, HookNotExecutable
from ota_agent.host.command_refusals import refusal
from ota_agent.host.running import Order, Running
from ota_agent.log import get_logger

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ota_agent.ports import Progress

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
TIME_LIMIT_EXIT_CODE = 124

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class CommandResult:
    """How a command ended, see `ports.CommandResult`."""

    exit_code: int
    output: str


def run_command(  # noqa: PLR0913 - the port's five, and as whom and with what
    argv: Sequence[str],
    cwd: Path,
    timeout_s: float,
    environment: Mapping[str, str],
    progress: Progress,
    *,
    user: pwd.struct_passwd | None = None,
    inherit_fds: Sequence[int] = (),
) -> CommandResult:
    """Run a command in the release tree `cwd` and leave none of its processes.

    `argv[0]` is a file of the tree (`bin/migrate`), an absolute path, or found on `PATH`. Of
    `environment`, `OTA_*` reaches the command, except `OTA_AGENT_*`. Without `user` it runs as the
    agent does, unless that is root. After `timeout_s`, and when `progress` ends the work, it gets
    SIGTERM, and SIGKILL 5 s later; then the exit code is 124, or what `progress` raises is raised.

    Raises:
        HookNotExecutable: there is no such program, or nothing that this device can execute.
        CommandsUnusable: no command can run here: no user, no way into the tree, a noexec mount.
        TransientError: there was no process to be had, or nobody knows how it ended.

    """
    _require_user(user)
    program = find_program(argv, cwd)
    order = Order(
        program=program,
        words=argv,
        directory=cwd.absolute(),
        environment=command_environment(environment, user),
        # As itself, an agent needs no right to change users: in some containers root has none.
        user=None if user is None or user.pw_uid == os.geteuid() else user,
        inherit_fds=inherit_fds,
    )
    began = time.monotonic()
    with Running(order) as running:
        with progress.ended_by(running.end):
            is_late = not running.follow(began + timeout_s, progress.check)
        running.end_and_wait()
        progress.check()
        exit_code, output = running.ending()
    if is_late:
        exit_code = TIME_LIMIT_EXIT_CODE
    seconds = round(time.monotonic() - began, 3)
    log.debug("command ended", argv=list(argv), exit_code=exit_code, seconds=seconds)
    return CommandResult(exit_code, output)


def find_program(argv: Sequence[str], cwd: Path) -> Path:
    """Find what `argv[0]` names: a file of the tree first, then, for a bare name, on the PATH.

    Raises:
        HookNotExecutable, CommandsUnusable: as `run_command`.

    """
    if not argv or not argv[0]:
        raise HookNotExecutable("a command names no program", hint="Name it in ota.toml.")
    name = argv[0]
    if any("\0" in word for word in argv):
        raise HookNotExecutable(f"{name!r}: a word of the command holds a NUL character")
    own = cwd.absolute() / name
    if "/" not in name and not _is_executable(own) and (found := shutil.which(name, path=PATH)):
        return Path(found)
    try:
        mode = own.stat().st_mode
    except OSError as error:
        raise refusal(name, "lookup", error.errno) from error
    if not stat.S_ISREG(mode) or not os.access(own, os.X_OK):
        raise HookNotExecutable(f"{name} is not an executable file")
    return own


def command_environment(
    given: Mapping[str, str], user: pwd.struct_passwd | None = None
) -> dict[str, str]:
    """Make a command's whole environment; nothing of the agent's own gets in.

    What is given passes when it begins with `OTA_` but not with `OTA_AGENT_`, the agent's settings.
    """
    if user is None:
        with suppress(KeyError):  # a user without an entry, as containers have them
            user = pwd.getpwuid(os.geteuid())
    name = user.pw_name if user else str(os.geteuid())
    passed = {
        key: value
        for key, value in given.items()
        if key.startswith("OTA_") and not key.startswith("OTA_AGENT_")
    }
    return {
        "PATH": PATH,
        "LANG": "C.UTF-8",
        "HOME": user.pw_dir if user else "/",
        "USER": name,
        "LOGNAME": name,
    } | passed


def _require_user(user: pwd.struct_passwd | None) -> None:
    if os.geteuid() == 0:
        if user is None:
            raise CommandsUnusable(
                "the agent is root, and no user is named to run a publisher's commands",
                hint='Set commands.user in the configuration; "root" is allowed, in words.',
            )
    elif user is not None and user.pw_uid != os.geteuid():
        raise CommandsUnusable(
            f"only root can run commands as {user.pw_name}",
            hint="Run the agent as root, or leave commands.user out.",
        )


def _is_executable(path: Path) -> bool:
    try:
        return stat.S_ISREG(path.stat().st_mode) and os.access(path, os.X_OK)
    except OSError:
        return False

"""The demo's device: its directory, the agent in a process of its own, and what asks it."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ota_agent.cli.demo.agent_log import AgentLog
from ota_agent.cli.demo.telling import Unexpected

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from ota_agent.cli.demo.telling import Teller

_PROGRAM = (sys.executable, "-m", "ota_agent")

DEVICE_ID = "demo"
DEADLINE_S = 60.0
STOP_S = 30.0
LOOK_S = 0.005

# What of the user's own environment would steer the agent, or hand it a secret.
_FOREIGN = ("CREDENTIALS_DIRECTORY", "GITLAB_", "GIT_", "NOTIFY_SOCKET", "OTA_AGENT_", "WATCHDOG_")


class Device:
    """A `work_dir` and a configuration below `root`; at most one agent runs there."""

    def __init__(self, root: Path, source: Path, teller: Teller) -> None:
        """Follow the versions that are tagged in the repository `source`."""
        self.work_dir = root / "device"
        self.log = AgentLog(root / "agent.log")
        self._root = root
        self._source = source
        self._teller = teller
        self._agent: subprocess.Popen[bytes] | None = None

    # --- the agent -------------------------------------------------------------------------------

    def prepare(self) -> None:
        """Write the configuration."""
        text = json.dumps(_configuration(self.work_dir, self._source), indent=2)
        (self._root / "config.json").write_text(f"{text}\n", encoding="utf-8")

    def start(self) -> None:
        """Start the agent; what it says goes into the log."""
        arguments = ["run", "--device-id", DEVICE_ID, "--config", "config.json"]
        self._teller.typed(" ".join(["ota-agent", *arguments, "&"]))
        with self.log.path.open("ab") as log:
            self._agent = subprocess.Popen(
                [*_PROGRAM, *arguments],
                cwd=self._root,
                env=_environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # Ctrl-C is for the demo, which then ends the agent.
                start_new_session=True,
            )

    def kill(self) -> None:
        """Kill the agent with SIGKILL: like a power cut, it cannot do anything about it."""
        agent, self._agent = self._agent, None
        if agent is not None:
            agent.kill()
            agent.wait()
            self._teller.typed(f"kill -KILL {agent.pid}")

    def stop(self) -> int:
        """Ask the agent to end; gives its exit code, -9 when it had to be killed."""
        agent, self._agent = self._agent, None
        if agent is None:
            return 0
        agent.terminate()
        try:
            return agent.wait(STOP_S)
        except subprocess.TimeoutExpired:
            agent.kill()
            return agent.wait()

    # --- what asks it ----------------------------------------------------------------------------

    def show(self, *arguments: str, exit_code: int = 0) -> None:
        """Run a command before the reader's eyes, and tell what it and the agent say meanwhile."""
        command = " ".join(["ota-agent", *arguments])
        self._teller.typed(command)
        until = time.monotonic() + DEADLINE_S
        with self._asking(*arguments, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as asking:
            output = asking.stdout
            assert output is not None  # noqa: S101 - a pipe was asked for
            line = None
            while line != "":
                is_ready, _, _ = select.select([output], [], [], LOOK_S)
                self.tell_phases()
                line = output.readline() if is_ready else None
                self._teller.output(line or "")
                if time.monotonic() >= until:
                    raise _too_slow(command)
        if asking.returncode != exit_code:
            raise Unexpected(command, f"exit code {exit_code}", f"exit code {asking.returncode}")

    def show_page(self, name: str) -> None:
        """Have a command print for itself, with the colours that the terminal can show."""
        self._teller.typed(f"ota-agent {name}")
        with self._asking(name) as printing:
            printing.wait(DEADLINE_S)
        if printing.returncode:
            raise Unexpected(f"ota-agent {name}", "exit code 0", f"exit code {printing.returncode}")

    def read(self, name: str) -> Any:  # noqa: ANN401 - JSON as it comes
        """Give what `status` or `history` prints with --json."""
        with self._asking(name, "--json", stdout=subprocess.PIPE, stderr=subprocess.PIPE) as asking:
            output, errors = asking.communicate(timeout=DEADLINE_S)
        if asking.returncode:
            raise Unexpected(f"ota-agent {name} --json", "exit code 0", errors)
        return json.loads(output)

    def glance(self) -> dict[str, Any] | None:
        """Give the object of `status --json` from the file that the running agent keeps.

        None where this agent has not written it yet; an earlier one may have left one.
        """
        try:
            shown: dict[str, Any] = json.loads((self.work_dir / "status.json").read_bytes())
        except FileNotFoundError:
            return None
        is_own = self._agent is not None and shown["agent"]["pid"] == self._agent.pid
        return shown if is_own else None

    def live(self) -> str | None:
        """Give the release that the live link names."""
        return read_link(self.work_dir / "live")

    def wait(self, what: str, is_so: Callable[[], bool]) -> float:
        """Wait until something is so, telling the agent's phases; gives when it was, monotonic."""
        until = time.monotonic() + DEADLINE_S
        while not is_so():
            if self._agent is not None and (code := self._agent.poll()) is not None:
                found = f"it ended with exit code {_name(code)}"
                raise Unexpected("the agent's process", "it runs until it is stopped", found)
            if time.monotonic() >= until:
                found = f"not so within {DEADLINE_S:g} s; live is {self.live() or 'nothing'}"
                raise Unexpected("the device", what, found)
            self.tell_phases()
            time.sleep(LOOK_S)
        now = time.monotonic()
        self.tell_phases()
        return now

    def tell_phases(self) -> None:
        """Tell the phases that the agent has begun since the last time."""
        for phase, is_first in self.log.new_phases():
            self._teller.phase(phase, is_first=is_first)

    @contextmanager
    def _asking(
        self, *arguments: str, stdout: int | None = None, stderr: int | None = None
    ) -> Iterator[subprocess.Popen[str]]:
        """Run a command of the installed program; it ends with the block, one way or the other."""
        with subprocess.Popen(
            [*_PROGRAM, *arguments, "--config", "config.json"],
            cwd=self._root,
            env=_environment(),
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            text=True,
            errors="replace",
        ) as process:
            try:
                yield process
            except subprocess.TimeoutExpired as error:
                process.kill()
                raise _too_slow(" ".join(["ota-agent", *arguments])) from error
            except BaseException:
                process.kill()  # else the block would wait for it, Ctrl-C or not
                raise


def read_link(link: Path) -> str | None:
    """Give the name of the release that a link of the device leads to."""
    try:
        return link.readlink().name
    except FileNotFoundError:
        return None


def runs_as_root() -> bool:
    """Tell whether the agent is going to be root."""
    return os.geteuid() == 0


def _configuration(work_dir: Path, source: Path) -> dict[str, Any]:
    configuration: dict[str, Any] = {
        "work_dir": str(work_dir),
        "source": {"type": "git", "url": str(source), "channel": "tag:*"},
        "poll_interval_s": 1,
        "drift": {"mode": "repair"},
    }
    if runs_as_root():
        # Root runs nothing of a publisher's unless it is told to, twice.
        configuration["commands"] = {"user": "root"}
        configuration["trust"] = {"accept_unsigned_commands": True}
    return configuration


def _environment() -> dict[str, str]:
    return {key: value for key, value in os.environ.items() if not key.startswith(_FOREIGN)}


def _too_slow(command: str) -> Unexpected:
    return Unexpected(command, f"an end within {DEADLINE_S:g} s", "it still runs")


def _name(code: int) -> str:
    return str(code) if code >= 0 else signal.Signals(-code).name

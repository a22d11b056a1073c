"""`ota_agent.wiring` with a device that is a few values, for the tests of the command line."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ota_agent.errors import AgentError, Locked
from ota_agent.model.command import Command, Exit, Outcome

if TYPE_CHECKING:
    from collections.abc import Callable

    from ota_agent.config import Config

DONE = Outcome(Exit.DONE, "done", {"did": "it"})


@dataclass
class FakeAgent:
    """The agent as wiring builds it: it does what it is told to answer."""

    device: FakeWiring
    closed: bool = False

    def run(self) -> int:
        return int(self._answer().exit)

    def run_once(self) -> Outcome:
        return self._answer()

    def execute(self, command: Command) -> Outcome:
        self.device.executed.append(command)
        return self._answer()

    def close(self) -> None:
        self.closed = True

    def _answer(self) -> Outcome:
        if isinstance(self.device.answer, BaseException):
            raise self.device.answer
        return self.device.answer


@dataclass
class FakeWiring:
    """The functions of `ota_agent.wiring`.

    Attributes:
        pid: of the agent that runs, None where none does.
        answer: how any command goes; an exception is raised instead.
        stranger: what speaks against doing the work here, as this user.
        starts_late: an agent takes the lock just after the command looked for one.

    """

    pid: int | None = None
    answer: Outcome | BaseException = DONE
    starts_late: bool = False
    stranger: AgentError | None = None
    status: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    built: list[tuple[Config, str | None, bool]] = field(default_factory=list)
    agents: list[FakeAgent] = field(default_factory=list)
    executed: list[Command] = field(default_factory=list)
    asked: list[Command] = field(default_factory=list)

    def build_agent(self, config: Config, device_id: str | None, *, once: bool) -> FakeAgent:
        if self.starts_late:
            self.starts_late, self.pid = False, 4242
        if self.pid is not None:
            raise Locked(f"another agent (pid {self.pid}) works on {config.work_dir}")
        self.built.append((config, device_id, once))
        self.agents.append(FakeAgent(self))
        return self.agents[-1]

    def running_agent(self, config: Config) -> int | None:
        return self.pid

    def require_own(self, config: Config) -> None:
        if self.stranger is not None:
            raise self.stranger

    def ask_agent(self, config: Config, command: Command, warn: Callable[[str], None]) -> Outcome:
        self.asked.append(command)
        return FakeAgent(self)._answer()

    def read_status(self, config: Config) -> dict[str, Any]:
        if isinstance(self.answer, AgentError):
            raise self.answer
        return self.status

    def read_history(self, config: Config, limit: int) -> list[dict[str, Any]]:
        return self.history[:limit]

    def verify_live(self, config: Config, report: Callable[[str], None]) -> Outcome:
        report("app/main.py differs")
        return FakeAgent(self)._answer()

    def check_now(self, config: Config) -> Outcome:
        return FakeAgent(self)._answer()

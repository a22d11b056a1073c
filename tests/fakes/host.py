"""A device in memory: its commands, probes and addresses answer as they were told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias, TypeVar

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from ota_agent.model.manifest import ProbeSpec
    from ota_agent.ports import Progress

Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class FakeCommandResult:
    """A CommandResult: quietly well, unless told otherwise."""

    exit_code: int = 0
    output: str = ""


@dataclass(frozen=True, slots=True)
class Ran:
    """One command, as the host was asked to run it."""

    argv: tuple[str, ...]
    cwd: Path
    timeout_s: float
    environment: Mapping[str, str] = field(default_factory=dict)


# A result, its exit code alone, an error to raise, or what runs in the command's place: it may
# change the tree, the data or the clock, and gives its exit code (None: 0).
CommandAnswer: TypeAlias = FakeCommandResult | int | BaseException | Callable[[Ran], int | None]
# None is green, a sentence is red; or an error to raise.
ProbeAnswer: TypeAlias = str | BaseException | None
ReachAnswer: TypeAlias = bool | BaseException


class FakeHost:
    """Every command ends well, every probe is green and every address answers, unless told.

    Answers are given in turn, and the last one for ever. `ran`, `probed` and `asked` hold what was
    wanted of the host, in order. A probe's name is its target, or its command's words.
    """

    def __init__(self) -> None:
        self.ran: list[Ran] = []
        self.probed: list[str] = []
        self.asked: list[str] = []
        self._commands: dict[tuple[str, ...], list[CommandAnswer]] = {}
        self._probes: dict[str, list[ProbeAnswer]] = {}
        self._addresses: dict[str, list[ReachAnswer]] = {}

    # --- what a test tells it ---------------------------------------------------------------

    def command_answers(self, argv: Sequence[str], *answers: CommandAnswer) -> None:
        """Have the command with exactly these words answer so."""
        self._commands[tuple(argv)] = list(answers)

    def probe_answers(self, name: str, *answers: ProbeAnswer) -> None:
        """Have the probe of this target (or with these words) answer so."""
        self._probes[name] = list(answers)

    def address_answers(self, url: str, *answers: ReachAnswer) -> None:
        """Have this address answer so, or not at all (False)."""
        self._addresses[url] = list(answers)

    # --- the port ---------------------------------------------------------------------------

    def run_command(
        self,
        argv: Sequence[str],
        cwd: Path,
        timeout_s: float,
        environment: Mapping[str, str],
        progress: Progress,
    ) -> FakeCommandResult:
        progress.check()
        ran = Ran(tuple(argv), cwd, timeout_s, dict(environment))
        self.ran.append(ran)
        answer = _next(self._commands.get(ran.argv), FakeCommandResult())
        if isinstance(answer, BaseException):
            raise answer
        if isinstance(answer, FakeCommandResult):
            return answer
        return FakeCommandResult(answer if isinstance(answer, int) else answer(ran) or 0)

    def probe(
        self, spec: ProbeSpec, tree: Path, environment: Mapping[str, str], progress: Progress
    ) -> str | None:
        progress.check()
        name = spec.target or " ".join(spec.argv)
        self.probed.append(name)
        answer = _next(self._probes.get(name), None)
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def is_reachable(self, url: str, progress: Progress) -> bool:
        progress.check()
        self.asked.append(url)
        answer = _next(self._addresses.get(url), default=True)
        if isinstance(answer, BaseException):
            raise answer
        return answer


def _next(answers: list[Answer] | None, default: Answer) -> Answer:
    if not answers:
        return default
    return answers.pop(0) if len(answers) > 1 else answers[0]

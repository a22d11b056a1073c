"""The edges of the agent as protocols: what the flow needs of the world, and nothing more.

Implementations raise only `errors.AgentError` (and what a `Progress` makes them raise); they
translate the exceptions of their libraries once.
"""

from __future__ import annotations

from typing import IO, TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager
    from datetime import datetime
    from pathlib import Path

    from ota_agent.model.channel import Channel
    from ota_agent.model.manifest import ProbeSpec
    from ota_agent.model.release import Offer
    from ota_agent.model.report import Directives, Report
    from ota_agent.model.tree import Entry


class Clock(Protocol):
    """The two times: the wall clock may jump, the monotonic one is for durations."""

    def now(self) -> datetime:
        """Give the wall-clock time, UTC, aware."""
        ...

    def monotonic(self) -> float:
        """Give seconds that only grow."""
        ...


class Progress(Protocol):
    """What long work tells the loop, and how the loop ends it.

    Long work runs in a worker thread. Each method may raise what has to end the work: `Stopped`,
    `Superseded` or `DeadlineExceeded`; the work cleans up and lets it through.
    """

    def advance(self, done_bytes: int = 0, total_bytes: int | None = None) -> None:
        """Say that something moved: the deadline of the phase starts anew."""
        ...

    def check(self) -> None:
        """Raise if the work has to end; no progress is claimed."""
        ...

    def wait(self, seconds: float) -> None:
        """Sleep, woken and raising at once when the work has to end; no progress is claimed."""
        ...

    def ended_by(self, end: Callable[[], None]) -> AbstractContextManager[None]:
        """Have `end` called (from another thread) when the work has to end: kill a child."""
        ...


class ReleaseSource(Protocol):
    """Where releases come from: one project at one address."""

    @property
    def project(self) -> str:
        """The project's stable identity, without credentials: high-water marks belong to it."""
        ...

    @property
    def address(self) -> str | None:
        """URL for the connectivity gate; None where the source needs no network."""
        ...

    def poll(self, channel: Channel, mark: str | None, progress: Progress) -> Sequence[Offer]:
        """List what the channel offers now; one cheap request when nothing changed.

        A branch or commit channel gives at most one offer, a tag channel every tag that is a
        version in the range. `mark` is the channel's high-water commit: a branch's offer carries
        its ancestry to it.
        """
        ...

    def fetch(self, offer: Offer, progress: Progress) -> int:
        """Bring the offer's commit and whole tree into the object store; give the bytes received.

        Raises:
            SourceChanged: the ref no longer names what was offered.
            NoCommit: what is offered is a file or a directory.
            VersionMismatch: an annotated tag's inner name is not its ref's.

        """
        ...


class ObjectStore(Protocol):
    """The bare repository that holds what releases are made of."""

    def prepare(self) -> None:
        """Make it usable at start: create it, remove crash litter. A damaged one is set aside."""
        ...

    def is_damaged(self, progress: Progress) -> bool:
        """Tell whether anything that it should hold is missing or garbled; reads everything."""
        ...

    def set_aside(self) -> None:
        """Move a damaged store out of the way and begin an empty one."""
        ...

    def tree_of(self, commit: str) -> str:
        """Give the commit's tree hash; StoreDamaged when the commit is not there."""
        ...

    def listing(self, tree: str, progress: Progress) -> list[Entry]:
        """List every file of a tree, sorted by path; StoreDamaged when one is missing."""
        ...

    def contents(self, oids: Iterable[str], progress: Progress) -> Iterator[tuple[str, IO[bytes]]]:
        """Give each object's content as a stream, in the order asked.

        A stream is to be read before the next is taken.
        """
        ...

    def keep(self, release: str, commit: str) -> None:
        """Hold what a release needs: `refs/ota/<release>`, durable when this returns."""
        ...

    def drop(self, release: str) -> None:
        """Let go what only this release needed."""
        ...

    def held(self) -> Mapping[str, str]:
        """Give the commit of every release that is held."""
        ...

    def tidy(self, progress: Progress) -> None:
        """Repack when there are many packs; bounded in memory, for idle times."""
        ...


class CommandResult(Protocol):
    """How a publisher's command ended."""

    @property
    def exit_code(self) -> int:
        """Its exit status; 128 + N for signal N; 124 for the time limit."""
        ...

    @property
    def output(self) -> str:
        """The last 4 KiB of what it wrote, stdout and stderr together."""
        ...


class Host(Protocol):
    """The device around the work_dir."""

    def run_command(
        self,
        argv: Sequence[str],
        cwd: Path,
        timeout_s: float,
        environment: Mapping[str, str],
        progress: Progress,
    ) -> CommandResult:
        """Run a publisher's command as `commands.user`, cleaned environment, no children left."""
        ...

    def probe(
        self, spec: ProbeSpec, tree: Path, environment: Mapping[str, str], progress: Progress
    ) -> str | None:
        """Look once: None when green, else one sentence that says what is red."""
        ...

    def is_reachable(self, url: str, progress: Progress) -> bool:
        """Tell whether any HTTP answer (or TCP connection, for ssh) comes from there."""
        ...


class StatusSink(Protocol):
    """Where heartbeats and events go: Supabase, or the local default."""

    def sync(self, report: Report) -> Directives:
        """Hand over a report; returns once it is accepted, and is safe to repeat."""
        ...

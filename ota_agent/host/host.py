"""The device that the agent runs on, behind the port."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ota_agent.host import commands, probes, reach

if TYPE_CHECKING:
    import pwd
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from ota_agent.host.commands import CommandResult
    from ota_agent.model.manifest import ProbeSpec
    from ota_agent.ports import Progress


class LocalHost:
    """`ports.Host` with real processes, sockets and files.

    Commands run as `user` (see `facts.commands_user`) and hold `inherit_fds` open as long as one of
    their processes lives: the lock by which a new agent waits for an old one's children.
    """

    def __init__(
        self, user: pwd.struct_passwd | None = None, inherit_fds: Sequence[int] = ()
    ) -> None:
        self._user = user
        self._inherit_fds = tuple(inherit_fds)

    def run_command(
        self,
        argv: Sequence[str],
        cwd: Path,
        timeout_s: float,
        environment: Mapping[str, str],
        progress: Progress,
    ) -> CommandResult:
        """Run a publisher's command, see `commands.run_command`."""
        return commands.run_command(
            argv,
            cwd,
            timeout_s,
            environment,
            progress,
            user=self._user,
            inherit_fds=self._inherit_fds,
        )

    def probe(
        self, spec: ProbeSpec, tree: Path, environment: Mapping[str, str], progress: Progress
    ) -> str | None:
        """Look once at the release's health, see `probes.probe`."""

        def run(argv: Sequence[str], timeout_s: float) -> CommandResult:
            return self.run_command(argv, tree, timeout_s, environment, progress)

        return probes.probe(spec, tree, progress, run)

    def is_reachable(self, url: str, progress: Progress) -> bool:
        """Tell whether the host of an address answers, see `reach.is_reachable`."""
        return reach.is_reachable(url, progress)

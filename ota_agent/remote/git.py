"""The only way git is run: with its own environment, watched, and ended with all it started.

GitPython starts the process and nothing more: its objects are not made for a daemon. It hands the
agent's whole environment down, so what git may not see is taken away (`git_environment.cleaned`).
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ota_agent.errors import DeadlineExceeded, DiskFault, GitUnusable
from ota_agent.remote import git_environment
from ota_agent.remote.access import REFUSED
from ota_agent.remote.child import Bounds, Child
from ota_agent.remote.git_failures import failure, scrub
from ota_agent.remote.git_output import GitOutput
from ota_agent.worker import Unwatched

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from git.cmd import Git as GitCommand

    from ota_agent.ports import Progress
    from ota_agent.remote.access import Access

OLDEST = (2, 39)
STALL_S = 120.0
# What git does on this disk alone, without anybody to end it.
LOCAL_TIMEOUT_S = 300.0
VERSION_TIMEOUT_S = 15.0

_TRACES = {"GIT_TRACE_PACKET": "1", "GIT_TRACE_CURL": "1", "GIT_TRACE_CURL_NO_DATA": "1"}
# curl's own bound speaks first: it sees more, and says more.
_STALL_MARGIN_S = 5.0
_NOT_RUN = 127
_SAID_BYTES = 100
_EXECUTABLE = "GIT_PYTHON_GIT_EXECUTABLE"


@dataclass(frozen=True, slots=True)
class Finished:
    """How one git ended well."""

    stdout: bytes
    stderr: str
    exit_code: int
    received_bytes: int
    is_smart: bool
    has_filters: bool

    @property
    def text(self) -> str:
        """Its stdout as text, without the last line's end."""
        return self.stdout.decode("utf-8", "surrogateescape").rstrip("\n")


class Git:
    """Runs git; safe to use from several threads."""

    def __init__(
        self,
        private: Path,
        *,
        executable: str = "git",
        inherit_fds: tuple[int, ...] = (),
        stall_s: float = STALL_S,
    ) -> None:
        """Nothing is run yet.

        `private` is a directory of git's own, made when needed. `inherit_fds` are held open by
        every child. `stall_s` is how long nothing may come from a source.
        """
        self._private = private
        self._executable = executable
        self._inherit_fds = inherit_fds
        self._stall_s = stall_s

    def check_version(self) -> str:
        """Give git's version, `2.39.5`.

        Raises:
            GitUnusable: there is none, or one older than 2.39.

        """
        path, output, nobody = self._path(), GitOutput(), Unwatched()
        child = self._start(("version",), None, None)
        bounds = Bounds(timeout_s=VERSION_TIMEOUT_S)
        try:
            with child.watched(nobody):
                said = child.pump(nobody, said=output.feed, moved=lambda: None, bounds=bounds)
        except DeadlineExceeded as error:
            raise GitUnusable(f"{path} does not answer: {error}") from error
        exit_code = child.bury()
        found = re.search(rb"\d+(?:\.\d+)+", said)
        if exit_code != 0 or not found:
            told = scrub(f"{said[:_SAID_BYTES].decode(errors='replace')}\n{output.text}").split()
            message = f"{path} tells no version (exit code {exit_code})"
            raise GitUnusable(": ".join([message, " ".join(told)] if told else [message]))
        version = found[0].decode()
        if tuple(int(part) for part in version.split(".")[:2]) < OLDEST:
            raise GitUnusable(f"{path} is git {version}; 2.39 is the oldest that is safe to use.")
        return version

    def run(
        self,
        *arguments: str,
        git_dir: Path | None = None,
        access: Access | None = None,
        progress: Progress | None = None,
        allowed: Sequence[int] = (0,),
    ) -> Finished:
        """Run git to its end; `allowed` are the exit codes that are answers.

        With `access` it may speak to that address, and `progress` is told whenever bytes come;
        without, it works on this disk only.

        Raises:
            AgentError: what `git_failures` makes of stderr; what `progress` raises passes.

        """
        watcher = progress or Unwatched()
        output = GitOutput()
        stall_s = None if access is None else self._stall_s + _STALL_MARGIN_S
        timeout_s = LOCAL_TIMEOUT_S if progress is None else None
        child = self._start(arguments, git_dir, access)
        with child.watched(watcher):
            stdout = child.pump(
                watcher,
                said=output.feed,
                moved=lambda: watcher.advance(output.received_bytes),
                bounds=Bounds(stall_s, timeout_s),
            )
        exit_code = child.bury()
        watcher.check()
        if exit_code not in allowed:
            if exit_code == _NOT_RUN:
                raise GitUnusable(f"{self._executable} cannot be run: {output.text.strip()}")
            secrets = () if access is None else access.secrets
            raise failure(
                output.text,
                exit_code,
                secrets=secrets,
                retry_after_s=output.retry_after_s,
                refusal=REFUSED if access is None else access.refusal,
            )
        return Finished(
            stdout,
            output.text,
            exit_code,
            output.received_bytes,
            output.is_smart,
            output.has_filters,
        )

    @contextmanager
    def conversation(self, *arguments: str, git_dir: Path, progress: Progress) -> Iterator[Child]:
        """Run a git that is spoken to over its pipes; it is ended when the block is left.

        What it says on stderr goes to a pipe that holds 64 KiB.
        """
        child = self._start(arguments, git_dir, None, stdin=subprocess.PIPE)
        with child.watched(progress):
            yield child

    def _start(
        self,
        arguments: Sequence[str],
        git_dir: Path | None,
        access: Access | None,
        stdin: int | None = None,
    ) -> Child:
        home, inherited = self._directories(access)
        variables = git_environment.environment(
            home, git_dir=git_dir, access=access, inherited=inherited, stall_s=self._stall_s
        )
        if access is not None:
            variables |= _TRACES
        where = [] if git_dir is None else [f"--git-dir={git_dir}"]
        command = git_environment.cleaned(
            [self._path(), *where, *arguments], variables, list(os.environ)
        )
        git_command = _gitpython()
        from git.exc import GitCommandNotFound

        try:
            started = git_command(str(home)).execute(
                command,
                stdin,
                as_process=True,
                env=variables,
                shell=False,
                start_new_session=True,
                pass_fds=self._inherit_fds,
            )
        except OSError as error:
            raise GitUnusable(f"{self._executable} cannot be run: {error}") from error
        except GitCommandNotFound as error:
            # Its own text names every variable that is taken away.
            raise GitUnusable(f"{self._executable} cannot be run: {error.__cause__}") from error
        return Child(started)

    def _path(self) -> str:
        path = shutil.which(self._executable)
        if path is None:
            raise GitUnusable(f"There is no {self._executable} on the PATH.")
        return path

    def _directories(self, access: Access | None) -> tuple[Path, Path | None]:
        home = self._private / "home"
        inherited = None
        try:
            home.mkdir(mode=0o700, parents=True, exist_ok=True)
            if access is not None and access.inherited_config:
                inherited = self._private / "inherited.gitconfig"
                # Not written anew while a git of another thread may be reading it.
                if not inherited.exists() or inherited.read_text() != access.inherited_config:
                    inherited.write_text(access.inherited_config)
        except OSError as error:
            raise DiskFault(f"git's own directory {self._private} fails: {error}") from error
        return home, inherited


def _gitpython() -> type[GitCommand]:
    """Import GitPython without what it does then: run whatever git there is, and wait for it."""
    if "git" not in sys.modules:
        os.environ |= {"GIT_PYTHON_REFRESH": "quiet", _EXECUTABLE: os.devnull}
    try:
        from git.cmd import Git as GitCommand
    finally:
        os.environ.pop(_EXECUTABLE, None)
    return GitCommand

"""A release tree with commands in it, whoever runs the tests."""

from __future__ import annotations

import os
import pwd
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import pytest

from fakes.progress import FakeProgress
from ota_agent.host.commands import CommandResult, run_command

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from ota_agent.ports import Progress


@pytest.fixture
def tree() -> Iterator[Path]:
    # Not below tmp_path: another user cannot go through that.
    made = Path(tempfile.mkdtemp(prefix="tree-"))
    made.chmod(0o777)
    yield made
    shutil.rmtree(made)


@pytest.fixture
def progress() -> FakeProgress:
    return FakeProgress()


@pytest.fixture
def myself() -> pwd.struct_passwd:
    return pwd.getpwuid(os.geteuid())


class Run(Protocol):
    """Runs a command in the tree, as the one who runs the tests."""

    def __call__(
        self,
        *argv: str,
        timeout_s: float = 30,
        environment: Mapping[str, str] | None = None,
        progress: Progress | None = None,
        inherit_fds: Sequence[int] = (),
    ) -> CommandResult: ...


@pytest.fixture
def run(tree: Path, myself: pwd.struct_passwd) -> Run:
    def run_it(
        *argv: str,
        timeout_s: float = 30,
        environment: Mapping[str, str] | None = None,
        progress: Progress | None = None,
        inherit_fds: Sequence[int] = (),
    ) -> CommandResult:
        return run_command(
            argv,
            tree,
            timeout_s,
            environment or {},
            progress or FakeProgress(),
            user=myself,
            inherit_fds=inherit_fds,
        )

    return run_it


class Write(Protocol):
    """Writes a file into the tree, executable unless told otherwise."""

    def __call__(self, name: str, text: str, mode: int = 0o755) -> Path: ...


@pytest.fixture
def write(tree: Path) -> Write:
    def write_it(name: str, text: str, mode: int = 0o755) -> Path:
        path = tree / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        path.chmod(mode)
        return path

    return write_it

"""A release tree with commands in it, and a server that answers as it is told."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import tempfile
import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fakes.progress import FakeProgress
from ota_agent.host.commands import CommandResult, run_command

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence


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


@pytest.fixture
def run(tree: Path, myself: pwd.struct_passwd) -> Callable[..., CommandResult]:
    """Run a command in the tree, as the one who runs the tests."""

    def run_it(
        *argv: str,
        timeout_s: float = 30,
        environment: dict[str, str] | None = None,
        progress: FakeProgress | None = None,
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


@pytest.fixture
def write(tree: Path) -> Callable[..., Path]:
    """Write a file into the tree, executable unless told otherwise."""

    def write_it(name: str, text: str, mode: int = 0o755) -> Path:
        path = tree / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        path.chmod(mode)
        return path

    return write_it


class Server:
    """Takes each connection in turn and has `answer` do with it what it likes."""

    def __init__(self, answer: Callable[[socket.socket], None]) -> None:
        self._answer = answer
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        # An error is the end: the client went away, or the test is over.
        with suppress(OSError):
            while True:
                connection, _ = self._listening.accept()
                with connection, suppress(OSError):
                    connection.settimeout(20)
                    self._answer(connection)

    def close(self) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listening.close()


@pytest.fixture
def serve() -> Iterator[Callable[[Callable[[socket.socket], None]], int]]:
    """Start a server on loopback and give its port."""
    servers: list[Server] = []

    def start(answer: Callable[[socket.socket], None]) -> int:
        servers.append(Server(answer))
        return servers[-1].port

    yield start
    for server in servers:
        server.close()


@pytest.fixture
def closed_port() -> int:
    """Give a port of loopback where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port: int = listening.getsockname()[1]
    return port

"""The guards of the tests hold."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest


def test_process_is_refused_without_the_marker() -> None:
    with pytest.raises(pytest.fail.Exception, match="marked `process`"):
        subprocess.run([sys.executable, "--version"], check=True)


def test_fork_is_refused_without_the_marker() -> None:
    with pytest.raises(pytest.fail.Exception, match="marked `process`"):
        os.fork()


@pytest.mark.process
def test_process_is_allowed_with_the_marker() -> None:
    subprocess.run([sys.executable, "-c", "pass"], check=True)


def test_socket_is_refused_without_the_marker() -> None:
    with pytest.raises((RuntimeError, UserWarning), match=r"tried to use socket"):
        socket.socket(socket.AF_INET)


def test_unix_socket_needs_no_marker() -> None:
    one, other = socket.socketpair()
    with one, other:
        one.sendall(b"hello")
        assert other.recv(5) == b"hello"


@pytest.mark.network
def test_loopback_is_allowed_with_the_marker() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname()),
    ):
        pass


@pytest.mark.network
def test_other_hosts_are_refused_even_with_the_marker() -> None:
    with pytest.raises((RuntimeError, UserWarning), match=r"192\.0\.2\.1"):
        socket.create_connection(("192.0.2.1", 80), timeout=1)


def test_home_is_empty_and_the_environment_bare() -> None:
    assert list(Path.home().iterdir()) == []
    assert not [name for name in os.environ if name.startswith(("GITLAB_", "OTA_AGENT_", "GIT_"))]

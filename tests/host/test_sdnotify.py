from __future__ import annotations

import os
import socket
import sys
import time
from typing import TYPE_CHECKING

import pytest

from ota_agent import log
from ota_agent.host.sdnotify import Notifier

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """Give the socket that systemd would listen on."""
    pytest.importorskip("systemd.daemon")
    path = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(path))
        listening.settimeout(10)
        monkeypatch.setenv("NOTIFY_SOCKET", str(path))
        yield listening


def test_systemd_hears_how_the_agent_is_doing(systemd: socket.socket) -> None:
    notifier = Notifier()
    notifier.ready()
    notifier.status("updating to 1.4.0:\nfetching")
    notifier.keepalive()
    notifier.extend(2.5)
    notifier.stopping()
    assert [systemd.recv(1000) for _ in range(5)] == [
        b"READY=1",
        b"STATUS=updating to 1.4.0: fetching",
        b"WATCHDOG=1",
        b"EXTEND_TIMEOUT_USEC=2500000",
        b"STOPPING=1",
    ]


def test_reload_says_when_it_began(systemd: socket.socket) -> None:
    before_us = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    Notifier().reloading()
    first, second = systemd.recv(1000).decode().split("\n")
    assert first == "RELOADING=1"
    name, at_us = second.split("=")
    assert name == "MONOTONIC_USEC"
    assert before_us <= int(at_us) <= time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000


@pytest.mark.parametrize(
    ("variables", "interval_s"),
    [
        ({"WATCHDOG_USEC": "30000000"}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({}, None),
    ],
)
@pytest.mark.usefixtures("systemd")
def test_watchdog_is_known_when_it_is_meant_for_the_agent(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], interval_s: float | None
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert Notifier().watchdog_interval_s == interval_s


@pytest.mark.parametrize("address", ["/no/such/socket", "nonsense", "@nobody", "/" + "x" * 500])
def test_socket_that_leads_nowhere_does_not_take_the_agent_down(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], address: str
) -> None:
    pytest.importorskip("systemd.daemon")
    log.configure("json")
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    notifier = Notifier()
    notifier.ready()
    notifier.keepalive()
    assert capsys.readouterr().err.count("systemd cannot be told") == 1


def test_without_systemd_nobody_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    notifier = Notifier()
    notifier.ready()
    notifier.stopping()
    assert notifier.watchdog_interval_s is None
    assert capsys.readouterr().err == ""


def test_agent_runs_without_systemd_s_module(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    log.configure("json")
    monkeypatch.setenv("NOTIFY_SOCKET", "/run/systemd/notify")
    monkeypatch.setenv("WATCHDOG_USEC", "30000000")
    monkeypatch.setitem(sys.modules, "systemd", None)
    notifier = Notifier()
    notifier.ready()
    assert notifier.watchdog_interval_s is None
    assert "its module is not installed" in capsys.readouterr().err

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from fakes.host import FakeHost
from fakes.progress import FakeProgress
from ota_agent.errors import HookNotExecutable, Stopped
from ota_agent.host.host import LocalHost
from ota_agent.model.manifest import ProbeKind, ProbeSpec

if TYPE_CHECKING:
    import pwd
    import socket
    from collections.abc import Callable
    from pathlib import Path

    from ota_agent.ports import Host

pytestmark = [pytest.mark.process, pytest.mark.network]

FAILING = ("sh", "-c", "echo why; exit 3")
MISSING = ("bin/nothing",)
URL = "http://127.0.0.1:{port}/"


@pytest.fixture(params=["the device", "its fake"])
def host(request: pytest.FixtureRequest, myself: pwd.struct_passwd, closed_port: int) -> Host:
    """Give each implementation of the port, both in the same situation."""
    if request.param == "the device":
        return LocalHost(myself)
    fake = FakeHost()
    fake.command_answers(FAILING, lambda _: 3)
    fake.command_answers(MISSING, HookNotExecutable("bin/nothing does not exist"))
    fake.probe_answers("ready", "ready does not exist")
    fake.probe_answers(" ".join(FAILING), "it failed: exit 3: why")
    fake.address_answers(URL.format(port=closed_port), False)
    return fake


def test_command_gives_its_exit_code(host: Host, tree: Path) -> None:
    assert host.run_command(["true"], tree, 30, {}, FakeProgress()).exit_code == 0
    assert host.run_command(FAILING, tree, 30, {}, FakeProgress()).exit_code == 3


def test_command_that_is_missing_is_an_error(host: Host, tree: Path) -> None:
    with pytest.raises(HookNotExecutable, match="bin/nothing does not exist"):
        host.run_command(MISSING, tree, 30, {}, FakeProgress())


def test_probe_is_green_or_says_what_is_red(host: Host, tree: Path) -> None:
    green = ProbeSpec(ProbeKind.COMMAND, argv=("true",))
    assert host.probe(green, tree, {}, FakeProgress()) is None
    for red in (
        ProbeSpec(ProbeKind.COMMAND, argv=FAILING),
        ProbeSpec(ProbeKind.FILE, target="ready"),
    ):
        assert host.probe(red, tree, {}, FakeProgress())


def test_address_is_reached_or_not(
    host: Host, serve: Callable[[Callable[[socket.socket], None]], int], closed_port: int
) -> None:
    port = serve(lambda connection: connection.sendall(b"HTTP/1.0 401 No\r\n\r\n"))
    assert host.is_reachable(URL.format(port=port), FakeProgress())
    assert not host.is_reachable(URL.format(port=closed_port), FakeProgress())


def test_work_that_has_to_end_ends(host: Host, tree: Path) -> None:
    progress = FakeProgress()
    progress.end(Stopped())
    with pytest.raises(Stopped):
        host.run_command(["true"], tree, 30, {}, progress)
    with pytest.raises(Stopped):
        host.probe(ProbeSpec(ProbeKind.COMMAND, argv=("true",)), tree, {}, progress)
    with pytest.raises(Stopped):
        host.is_reachable("http://127.0.0.1/", progress)


def test_commands_of_the_device_hold_what_they_are_to_hold(
    myself: pwd.struct_passwd, tree: Path
) -> None:
    reading, writing = os.pipe()
    host = LocalHost(myself, inherit_fds=[writing])
    script = f"echo $OTA_RELEASE > /dev/fd/{writing}"
    spec = ProbeSpec(ProbeKind.COMMAND, argv=("sh", "-c", script))
    try:
        assert host.probe(spec, tree, {"OTA_RELEASE": "1.4.0"}, FakeProgress()) is None
        assert os.read(reading, 100) == b"1.4.0\n"
    finally:
        os.close(reading)
        os.close(writing)


def test_fake_gives_its_answers_in_turn_and_the_last_for_ever(tree: Path) -> None:
    host = FakeHost()
    host.probe_answers("ready", "not yet", None)
    spec = ProbeSpec(ProbeKind.FILE, target="ready")
    seen = [host.probe(spec, tree, {}, FakeProgress()) for _ in range(3)]
    assert seen == ["not yet", None, None]
    assert host.probed == ["ready"] * 3

from __future__ import annotations

import errno
import socket
import threading
import time
from typing import TYPE_CHECKING

import pytest

from fakes.host import FakeCommandResult
from fakes.progress import FakeProgress
from ota_agent.errors import HookNotExecutable, Stopped
from ota_agent.host import dial
from ota_agent.host.probes import probe
from ota_agent.model.manifest import ProbeKind, ProbeSpec

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from ota_agent.ports import CommandResult

    Serve = Callable[[Callable[[socket.socket], None]], int]

pytestmark = pytest.mark.network

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def run_nothing(argv: Sequence[str], timeout_s: float) -> CommandResult:
    raise AssertionError(argv)


def look(spec: ProbeSpec, tree: Path, progress: FakeProgress | None = None) -> str | None:
    return probe(spec, tree, progress or FakeProgress(), run_nothing)


def http(url: str, timeout_s: float = 10) -> ProbeSpec:
    return ProbeSpec(ProbeKind.HTTP, target=url, timeout_s=timeout_s)


def saying(*parts: bytes) -> Callable[[socket.socket], None]:
    """Answer each request with these parts."""

    def answer(connection: socket.socket) -> None:
        connection.recv(65_536)
        for part in parts:
            connection.sendall(part)
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(65_536):
            pass

    return answer


def dripping(head: bytes) -> Callable[[socket.socket], None]:
    """Answer a byte at a time, each sooner than any timeout of a socket, for ever."""

    def answer(connection: socket.socket) -> None:
        connection.sendall(head)
        gone = threading.Event()
        while not gone.wait(0.02):
            connection.sendall(b"x")

    return answer


# --- http ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "answer",
    [
        OK,
        b"HTTP/1.0 200 OK\r\n\r\nto the end of the connection",
        b"HTTP/1.1 204 No Content\r\n\r\n",
        b"HTTP/1.1 299 Odd\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n" + OK,
    ],
)
def test_answer_of_the_two_hundreds_is_green(serve: Serve, tree: Path, answer: bytes) -> None:
    port = serve(saying(answer))
    assert look(http(f"http://127.0.0.1:{port}/healthz"), tree) is None


@pytest.mark.parametrize("status", [301, 304, 404, 500, 503])
def test_any_other_answer_is_red_and_no_redirect_is_followed(
    serve: Serve, tree: Path, status: int
) -> None:
    good = serve(saying(OK))
    head = f"HTTP/1.1 {status} Said\r\nLocation: http://127.0.0.1:{good}/\r\n"
    port = serve(saying(f"{head}Content-Length: 0\r\n\r\n".encode()))
    url = f"http://127.0.0.1:{port}/healthz"
    assert look(http(url), tree) == f"{url} answered {status}"


def test_request_names_path_query_and_host_and_the_agent(serve: Serve, tree: Path) -> None:
    asked: list[bytes] = []

    def answer(connection: socket.socket) -> None:
        asked.append(connection.recv(65_536))
        connection.sendall(OK)

    port = serve(answer)
    assert look(http(f"http://127.0.0.1:{port}/a/b?c=d#e"), tree) is None
    line, *headers = asked[0].decode().split("\r\n")
    assert line == "GET /a/b?c=d HTTP/1.1"
    assert f"Host: 127.0.0.1:{port}" in headers
    assert [header for header in headers if header.startswith("User-Agent: ota-agent/")]


def test_proxy_of_the_environment_is_not_asked(
    serve: Serve, tree: Path, closed_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{closed_port}")
    port = serve(saying(OK))
    assert look(http(f"http://127.0.0.1:{port}"), tree) is None


def test_body_without_end_is_green_after_what_one_wants_to_read(serve: Serve, tree: Path) -> None:
    def answer(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            connection.sendall(b"x" * 65_536)

    port = serve(answer)
    assert look(http(f"http://127.0.0.1:{port}/"), tree) is None


@pytest.mark.parametrize(
    "head",
    [
        pytest.param(b"", id="before the status"),
        pytest.param(b"HTTP/1.1 200 OK\r\nX-Slow: ", id="in the headers"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 60000\r\n\r\n", id="in the body"),
    ],
)
def test_server_that_drips_is_red_when_the_time_is_over(
    serve: Serve, tree: Path, head: bytes
) -> None:
    url = f"http://127.0.0.1:{serve(dripping(head))}/"
    began = time.monotonic()
    assert look(http(url, timeout_s=0.3), tree) == f"{url} gave no answer within 0.3 s"
    assert time.monotonic() - began < 5


def test_server_that_hangs_before_its_headers_is_red_when_the_time_is_over(
    serve: Serve, tree: Path
) -> None:
    url = f"http://127.0.0.1:{serve(_wait_for_end)}/"
    assert look(http(url, timeout_s=0.3), tree) == f"{url} gave no answer within 0.3 s"


def _wait_for_end(connection: socket.socket) -> None:
    while connection.recv(65_536):
        pass


def test_server_that_refuses_is_red(tree: Path, closed_port: int) -> None:
    url = f"http://127.0.0.1:{closed_port}/"
    assert look(http(url), tree) == f"{url}: connection refused"


@pytest.mark.parametrize(
    ("answer", "seen"),
    [
        (b"", "connection closed before the answer was complete"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "the answer is no HTTP"),
        (b"\x00\xff" * 200, "the answer is no HTTP"),
        (b"HTTP/1.1 abc OK\r\n\r\n", "the answer is no HTTP"),
        (b"HTTP/1.1 200 OK\r\n" + b"X: " + b"y" * 100_000, "the answer is no HTTP"),
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf",
            "connection closed before the answer was complete",
        ),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nhalf",
            "connection closed before the answer was complete",
        ),
    ],
)
def test_garbage_is_red(serve: Serve, tree: Path, answer: bytes, seen: str) -> None:
    url = f"http://127.0.0.1:{serve(saying(answer))}/"
    assert look(http(url), tree) == f"{url}: {seen}"


@pytest.mark.parametrize("url", ["http:///healthz", "http://127.0.0.1:99999/", "http://[::1/"])
def test_address_that_is_none_is_red(tree: Path, url: str) -> None:
    assert look(http(url), tree) == f"{url}: the address cannot be used"


def test_name_that_nobody_knows_is_red(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    url = "http://nowhere.invalid/"
    assert look(http(url), tree) == f"{url}: its name is not known"


def test_network_that_is_down_is_red(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.ENETUNREACH, "Network is unreachable")

    monkeypatch.setattr(socket, "create_connection", fail)
    url = "http://192.0.2.1/"
    assert look(http(url), tree) == f"{url}: network is unreachable"


def test_lookup_that_hangs_is_red_when_the_time_is_over(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = threading.Event()
    left = threading.Event()

    def hang(*_: object, **__: object) -> None:
        release.wait(20)
        left.set()
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    url = "http://nowhere.invalid/"
    assert look(http(url, timeout_s=0.2), tree) == f"{url} gave no answer within 0.2 s"
    release.set()
    assert left.wait(20)


def test_connection_that_comes_too_late_is_closed(serve: Serve) -> None:
    port = serve(_wait_for_end)
    line = dial.Line(5)
    line.cut()
    with pytest.raises(TimeoutError):
        line.connect("127.0.0.1", port)


def test_look_ends_at_once_when_the_work_has_to_end(serve: Serve, tree: Path) -> None:
    url = f"http://127.0.0.1:{serve(_wait_for_end)}/"
    progress = FakeProgress()
    progress.end_after(2, Stopped())
    began = time.monotonic()
    with pytest.raises(Stopped):
        look(http(url, timeout_s=60), tree, progress)
    assert time.monotonic() - began < 10


# --- tcp ----------------------------------------------------------------------------------------


def test_port_that_takes_connections_is_green(serve: Serve, tree: Path) -> None:
    port = serve(_wait_for_end)
    for address in (f"127.0.0.1:{port}", f"localhost:{port}"):
        assert look(ProbeSpec(ProbeKind.TCP, target=address), tree) is None


def test_port_that_takes_none_is_red(tree: Path, closed_port: int) -> None:
    address = f"127.0.0.1:{closed_port}"
    seen = look(ProbeSpec(ProbeKind.TCP, target=address), tree)
    assert seen == f"{address}: connection refused"


def test_port_of_an_ipv6_address_is_looked_at(tree: Path) -> None:
    try:
        listening = socket.create_server(("::1", 0), family=socket.AF_INET6)
    except OSError:
        pytest.skip("there is no IPv6 here")
    with listening:
        address = f"[::1]:{listening.getsockname()[1]}"
        assert look(ProbeSpec(ProbeKind.TCP, target=address), tree) is None


# --- file ---------------------------------------------------------------------------------------


def test_file_of_the_release_is_green_once_it_is_there(tree: Path) -> None:
    spec = ProbeSpec(ProbeKind.FILE, target="run/ready")
    assert look(spec, tree) == "run/ready does not exist"
    (tree / "run").mkdir()
    (tree / "run/ready").touch()
    assert look(spec, tree) is None


def test_file_may_be_anywhere_on_the_device(tree: Path, tmp_path: Path) -> None:
    path = tmp_path / "ready"
    spec = ProbeSpec(ProbeKind.FILE, target=str(path))
    assert look(spec, tree) == f"{path} does not exist"
    path.mkdir()
    assert look(spec, tree) is None


def test_link_to_nowhere_is_no_file(tree: Path) -> None:
    (tree / "ready").symlink_to("nowhere")
    assert look(ProbeSpec(ProbeKind.FILE, target="ready"), tree) == "ready does not exist"


def test_file_that_cannot_be_seen_is_red(tree: Path) -> None:
    (tree / "file").touch()
    seen = look(ProbeSpec(ProbeKind.FILE, target="file/ready"), tree)
    assert seen == "file/ready cannot be seen: Not a directory"
    seen = look(ProbeSpec(ProbeKind.FILE, target="a\0b"), tree)
    assert seen == "a\0b cannot be seen: embedded null byte"


# --- command ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("result", "seen"),
    [
        (FakeCommandResult(0, "all is well"), None),
        (FakeCommandResult(3, ""), "bin/selftest --all: exit 3"),
        (FakeCommandResult(3, "first\n last \n"), "bin/selftest --all: exit 3: last"),
        (FakeCommandResult(1, "x" * 900), f"bin/selftest --all: exit 1: {'x' * 200}"),
        (FakeCommandResult(124, "slow"), "bin/selftest --all: did not end within 2.5 s"),
    ],
)
def test_command_is_green_when_it_exits_with_zero(
    tree: Path, result: FakeCommandResult, seen: str | None
) -> None:
    ran: list[tuple[tuple[str, ...], float]] = []

    def run(argv: Sequence[str], timeout_s: float) -> FakeCommandResult:
        ran.append((tuple(argv), timeout_s))
        return result

    spec = ProbeSpec(ProbeKind.COMMAND, argv=("bin/selftest", "--all"), timeout_s=2.5)
    assert probe(spec, tree, FakeProgress(), run) == seen
    assert ran == [(("bin/selftest", "--all"), 2.5)]


def test_command_that_cannot_be_run_is_not_red_but_an_error(tree: Path) -> None:
    def run(argv: Sequence[str], timeout_s: float) -> FakeCommandResult:
        raise HookNotExecutable("bin/selftest is not an executable file")

    with pytest.raises(HookNotExecutable):
        probe(ProbeSpec(ProbeKind.COMMAND, argv=("bin/selftest",)), tree, FakeProgress(), run)

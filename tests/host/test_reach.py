from __future__ import annotations

import ipaddress
import socket
import ssl
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from fakes.progress import FakeProgress
from ota_agent.errors import Stopped
from ota_agent.host.probes import probe
from ota_agent.host.reach import is_reachable
from ota_agent.model.manifest import ProbeKind, ProbeSpec

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from ota_agent.ports import CommandResult

    Answer = Callable[[socket.socket], None]
    Serve = Callable[[Answer], int]

pytestmark = pytest.mark.network


def saying(data: bytes) -> Answer:
    def answer(connection: socket.socket) -> None:
        connection.recv(65_536)
        connection.sendall(data)

    return answer


def greeting(*parts: bytes) -> Answer:
    """Say something before the client does, and wait for its end."""

    def answer(connection: socket.socket) -> None:
        for part in parts:
            connection.sendall(part)
        while connection.recv(65_536):
            pass

    return answer


def reaches(url: str, timeout_s: float = 10) -> bool:
    return is_reachable(url, FakeProgress(), timeout_s)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a file with a key and a certificate for 127.0.0.1 that signed itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]),
            critical=False,
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "server.pem"
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + signed.public_bytes(serialization.Encoding.PEM)
    )
    return path


def over_tls(certificate: Path, answer: Answer) -> Answer:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)

    def answer_it(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as safe:
            answer(safe)

    return answer_it


@pytest.mark.parametrize("status", [200, 301, 401, 404, 405, 429, 500, 503])
def test_any_http_answer_is_a_sign_of_life(serve: Serve, status: int) -> None:
    port = serve(saying(f"HTTP/1.1 {status} Said\r\nContent-Length: 0\r\n\r\n".encode()))
    assert reaches(f"http://127.0.0.1:{port}/fw.git")


@pytest.mark.parametrize("data", [b"", b"SSH-2.0-OpenSSH\r\n"])
def test_what_is_no_http_is_no_answer(serve: Serve, data: bytes) -> None:
    assert not reaches(f"http://127.0.0.1:{serve(saying(data))}/")


def test_nobody_who_listens_is_no_answer(closed_port: int) -> None:
    assert not reaches(f"http://127.0.0.1:{closed_port}/")
    assert not reaches(f"ssh://git@127.0.0.1:{closed_port}/fw.git")


def test_silence_is_no_answer_when_the_time_is_over(serve: Serve) -> None:
    port = serve(greeting())
    began = time.monotonic()
    assert not reaches(f"http://127.0.0.1:{port}/", timeout_s=0.2)
    assert not reaches(f"https://127.0.0.1:{port}/", timeout_s=0.2)
    assert not reaches(f"ssh://127.0.0.1:{port}/", timeout_s=0.2)
    assert time.monotonic() - began < 10


def test_trusted_server_s_answer_over_tls_counts(
    serve: Serve, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    answer = saying(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n")
    assert reaches(f"https://127.0.0.1:{serve(over_tls(certificate, answer))}/fw.git")


def test_server_that_is_not_trusted_does_not_count(serve: Serve, certificate: Path) -> None:
    port = serve(over_tls(certificate, saying(b"HTTP/1.1 200 OK\r\n\r\n")))
    assert not reaches(f"https://127.0.0.1:{port}/")


@pytest.mark.parametrize(
    ("is_tls", "seen"),
    [
        (True, "its certificate is not trusted: self-signed certificate"),
        (False, "no TLS connection could be made"),
    ],
)
def test_probe_says_what_is_wrong_with_tls(
    serve: Serve, certificate: Path, tmp_path: Path, seen: str, *, is_tls: bool
) -> None:
    answer = saying(b"HTTP/1.1 200 OK\r\n\r\n")
    port = serve(over_tls(certificate, answer) if is_tls else answer)
    spec = ProbeSpec(ProbeKind.HTTP, target=f"https://127.0.0.1:{port}/")

    def run(argv: Sequence[str], timeout_s: float) -> CommandResult:
        raise AssertionError(argv)

    assert probe(spec, tmp_path, FakeProgress(), run) == f"{spec.target}: {seen}"


@pytest.mark.parametrize(
    "parts",
    [
        (b"SSH-2.0-OpenSSH_9.2p1\r\n",),
        (b"Welcome.\r\n", b"SS", b"H-2.0-x\r\n"),
    ],
)
def test_banner_of_an_ssh_server_counts(serve: Serve, parts: tuple[bytes, ...]) -> None:
    port = serve(greeting(*parts))
    assert reaches(f"ssh://git@127.0.0.1:{port}/fw.git")


@pytest.mark.parametrize("said", [b"220 mail.example.com ESMTP\r\n", b"x" * 20_000, b""])
def test_server_that_is_not_ssh_s_does_not_count(serve: Serve, said: bytes) -> None:
    port = serve(lambda connection: connection.sendall(said))
    assert not reaches(f"ssh://git@127.0.0.1:{port}/fw.git")


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("git@127.0.0.1:group/fw.git", "127.0.0.1"),
        ("gitlab.example.com:fw.git", "gitlab.example.com"),
        ("git@[::1]:fw.git", "::1"),
        ("ssh://git@gitlab.example.com/fw.git", "gitlab.example.com"),
    ],
)
def test_ssh_is_looked_for_at_its_own_port(
    url: str, host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, int]] = []

    def connect(address: tuple[str, int], timeout: float) -> socket.socket:
        asked.append(address)
        raise ConnectionRefusedError

    monkeypatch.setattr(socket, "create_connection", connect)
    assert not reaches(url)
    assert asked == [(host, 22)]


@pytest.mark.parametrize(
    "url",
    ["/srv/fw.git", "file:///srv/fw.git", "./a:b", "", "http://", "http://[::1", "ssh://h:99999/x"],
)
def test_address_without_a_host_is_not_reached(url: str) -> None:
    assert not reaches(url)


def test_look_ends_when_the_work_has_to_end(serve: Serve) -> None:
    progress = FakeProgress()
    progress.end_after(1, Stopped())
    with pytest.raises(Stopped):
        is_reachable(f"http://127.0.0.1:{serve(greeting())}/", progress)

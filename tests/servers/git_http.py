"""Git's smart HTTP on loopback: `git http-backend` behind a server that can misbehave.

Tokens are checked as GitLab checks them: none or a wrong one is 401 with a challenge, one without
the right to a project that it may see 403, and a project that is not there 404.
"""

from __future__ import annotations

import base64
import http.server
import os
import socket
import struct
import subprocess
import tempfile
import threading
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Self

from typing_extensions import override

if TYPE_CHECKING:
    import ssl
    from collections.abc import Mapping
    from pathlib import Path
    from types import TracebackType

_CHUNK = 65536


@dataclass
class Fault:
    """What goes wrong with requests, the next `times` of them (None: all).

    Attributes:
        method: only requests of this method: `POST` carries refs and packs.
        skip: so many matching requests are left alone first.
        status, headers, body: answer so instead of asking git.
        is_silent: answer nothing until the server is closed or `GitHttpServer.go_on` is set.
        is_reset: cut the connection with RST.
        cut_after: close the connection after so many bytes of the answer's body.
        pause_after: as `is_silent`, after so many bytes of the answer's body.
        drip: send the answer's body in pieces of so many bytes, each after so many seconds.

    """

    method: str = ""
    times: int | None = None
    skip: int = 0
    status: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    is_silent: bool = False
    is_reset: bool = False
    cut_after: int | None = None
    pause_after: int | None = None
    drip: tuple[int, float] | None = None

    def strikes(self, method: str) -> bool:
        """Tell whether this request is one of those that go wrong; counts it."""
        if self.method and method != self.method:
            return False
        if self.skip:
            self.skip -= 1
            return False
        if self.times is not None:
            self.times -= 1
            return self.times >= 0
        return True


@dataclass(frozen=True)
class Request:
    """What a client asked: `path` with its query, `headers` in lower case."""

    method: str
    path: str
    headers: Mapping[str, str]


class GitHttpServer:
    """Serves every repository below `root`, `http://127.0.0.1:PORT/NAME.git`.

    Args:
        tokens: each token's repositories, None for all of them; None: no token is asked for.
        has_filters: partial fetches are allowed, as on GitLab.
        gives_any_commit: whatever is in a repository may be asked for, as on GitLab; without it
            the first protocol gives out tips only (the second one always gives any).
        speaks_v2: the protocol that lists its abilities; an old server has only the first one.

    `requests` holds what was asked, `sent_bytes` counts what git answered. `fault` is what goes
    wrong; `is_paused` is set when it has silenced the server, `go_on` lets it speak again.

    """

    def __init__(
        self,
        root: Path,
        *,
        tokens: Mapping[str, set[str] | None] | None = None,
        has_filters: bool = True,
        gives_any_commit: bool = True,
        speaks_v2: bool = True,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.root = root
        self.tokens = tokens
        self.has_filters = has_filters
        self.gives_any_commit = gives_any_commit
        self.speaks_v2 = speaks_v2
        self.fault: Fault | None = None
        self.requests: list[Request] = []
        self.sent_bytes = 0
        self.is_paused = threading.Event()
        self.go_on = threading.Event()
        self._httpd = _Server(("127.0.0.1", 0), _Handler)
        self._httpd.git = self
        if tls is not None:
            self._httpd.socket = tls.wrap_socket(self._httpd.socket, server_side=True)
        self.scheme = "https" if tls else "http"
        self.netloc = f"127.0.0.1:{self._httpd.server_port}"
        self._thread = threading.Thread(target=self._httpd.serve_forever, args=(0.01,), daemon=True)

    def url(self, name: str = "app.git") -> str:
        """Give a repository's address."""
        return f"{self.scheme}://{self.netloc}/{name}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.go_on.set()
        self._httpd.shutdown()
        self._thread.join()
        self._httpd.server_close()


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    git: GitHttpServer

    @override
    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: clients that are killed or cut off are what these tests are about."""


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else each answer waits 40 ms for a delayed ACK
    server: _Server  # type: ignore[mutable-override]  # socketserver types it as its base

    def do_GET(self) -> None:
        git = self.server.git
        body = self._read_body()
        headers = {name.lower(): value for name, value in self.headers.items()}
        git.requests.append(Request(self.command, self.path, headers))
        fault = git.fault if git.fault and git.fault.strikes(self.command) else Fault()
        if fault.is_silent:
            self._pause()
        elif fault.is_reset:
            self._reset()
        elif fault.status:
            self._answer(fault.status, fault.headers, fault.body)
        elif not self._refuses():
            self._serve(body, fault)

    do_POST = do_GET  # noqa: N815 - the name that http.server calls

    def _refuses(self) -> bool:
        """Answer what needs no git: tokens, and projects that are not there."""
        git = self.server.git
        name = self.path.split("/")[1].partition("?")[0]
        if git.tokens is not None:
            token = _password(self.headers.get("Authorization", ""))
            if token not in git.tokens:
                challenge = {"WWW-Authenticate": 'Basic realm="GitLab"'}
                self._answer(401, challenge, b"HTTP Basic: Access denied.")
                return True
            allowed = git.tokens[token]
            if allowed is not None and name not in allowed:
                self._answer(403, {}, b"You are not allowed to download code from this project.")
                return True
        if not (git.root / name).is_dir():
            self._answer(404, {}, b"The project you were looking for could not be found.")
            return True
        return False

    def _serve(self, body: bytes, fault: Fault) -> None:
        path, _, query = self.path.partition("?")
        git = self.server.git
        environment = {
            "PATH": os.environ["PATH"],
            "GIT_PROJECT_ROOT": str(git.root),
            "GIT_HTTP_EXPORT_ALL": "1",
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "REQUEST_METHOD": self.command,
            "REMOTE_ADDR": "127.0.0.1",
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "CONTENT_LENGTH": str(len(body)),
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
            "GIT_PROTOCOL": self.headers.get("Git-Protocol", "") if git.speaks_v2 else "",
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_COUNT": "3",
            "GIT_CONFIG_KEY_0": "uploadpack.allowFilter",
            "GIT_CONFIG_VALUE_0": str(git.has_filters).lower(),
            "GIT_CONFIG_KEY_1": "safe.directory",
            "GIT_CONFIG_VALUE_1": "*",
            "GIT_CONFIG_KEY_2": "uploadpack.allowAnySHA1InWant",
            "GIT_CONFIG_VALUE_2": str(git.gives_any_commit).lower(),
        }
        with tempfile.TemporaryFile() as stdin:  # a pipe could fill up both ways
            stdin.write(body)
            stdin.seek(0)
            with subprocess.Popen(
                ["git", "http-backend"],
                env=environment,
                stdin=stdin,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            ) as backend:
                assert backend.stdout is not None
                try:
                    self._relay(backend.stdout, fault)
                finally:
                    backend.kill()

    def _relay(self, answer: IO[bytes], fault: Fault) -> None:
        status, headers = 200, []
        while line := answer.readline().decode().strip():
            name, _, value = line.partition(": ")
            if name == "Status":
                status = int(value.split()[0])
            else:
                headers.append((name, value))
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        stop = fault.cut_after if fault.cut_after is not None else fault.pause_after
        piece, pause_s = fault.drip or (_CHUNK, 0.0)
        while data := answer.read(piece if stop is None else min(piece, stop)):
            if pause_s:
                self.server.git.go_on.wait(pause_s)
            self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
            self.server.git.sent_bytes += len(data)
            if stop is not None:
                stop -= len(data)
                if stop <= 0 and fault.cut_after is not None:
                    self.close_connection = True
                    return
                if stop <= 0:
                    self._pause()
                    stop = None
        self.wfile.write(b"0\r\n\r\n")

    def _answer(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": "text/plain", **headers}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _pause(self) -> None:
        self.wfile.flush()
        self.server.git.is_paused.set()
        self.server.git.go_on.wait()

    def _reset(self) -> None:
        linger = struct.pack("ii", 1, 0)  # close() then sends RST, no FIN
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.close_connection = True

    def _read_body(self) -> bytes:
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            return self.rfile.read(int(self.headers.get("Content-Length", "0")))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        return body

    @override
    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: `GitHttpServer.requests` has it."""


def _password(authorization: str) -> str:
    kind, _, value = authorization.partition(" ")
    if kind.lower() != "basic":
        return ""
    return base64.b64decode(value).decode().partition(":")[2]

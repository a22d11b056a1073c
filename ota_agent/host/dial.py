"""Looks at another host within one time limit for all of it.

A socket's own timeout starts anew with each byte, and a name lookup has none at all: so the look is
taken in a thread of its own, and its connection is cut when the time is over.
"""

from __future__ import annotations

import http.client
import queue
import socket
import ssl
import threading
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlsplit

from ota_agent.host.facts import agent_version

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ota_agent.ports import Progress

_POLL_S = 0.1

Seen = TypeVar("Seen")
# Everything that an address, a network or a stranger's answer can make go wrong.
DIAL_ERRORS = (OSError, http.client.HTTPException, ValueError)
# The first that fits; some of these are kinds of others.
_REASONS: tuple[tuple[type[Exception], str], ...] = (
    (TimeoutError, "no answer in time"),
    (ConnectionRefusedError, "connection refused"),
    (ConnectionError, "connection closed before the answer was complete"),
    (http.client.IncompleteRead, "connection closed before the answer was complete"),
    (ssl.SSLError, "no TLS connection could be made"),
    (socket.gaierror, "its name is not known"),
    (http.client.HTTPException, "the answer is no HTTP"),
    (ValueError, "the address cannot be used"),
)


class Line:
    """One connection, which may be cut from another thread."""

    def __init__(self, timeout_s: float) -> None:
        """`timeout_s` is for each single operation; `dial` bounds them together."""
        self.timeout_s = timeout_s
        self._lock = threading.Lock()
        self._handle: socket.socket | None = None
        self._is_cut = False

    def connect(self, host: str, port: int) -> socket.socket:
        """Connect by TCP; the caller closes the socket."""
        if not host:  # the resolver would take it for this device
            raise ValueError("the address names no host")
        connection = socket.create_connection((host, port), self.timeout_s)
        with self._lock:
            if not self._is_cut:
                # A descriptor of our own: TLS takes the socket's one away from it.
                self._handle = connection.dup()
                return connection
        connection.close()
        raise TimeoutError

    @contextmanager
    def request(self, method: str, url: str) -> Iterator[http.client.HTTPResponse]:
        """Send one HTTP request, straight and without credentials; redirects are not followed."""
        parts = urlsplit(url)
        host = parts.hostname or ""
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        if parts.scheme == "https":
            context = ssl.create_default_context()
            asker: http.client.HTTPConnection = http.client.HTTPSConnection(
                host, parts.port, context=context
            )
            plain = self.connect(host, asker.port)
            # The handshake comes with wrap_socket, and closes the plain socket when it fails.
            asker.sock = context.wrap_socket(plain, server_hostname=host)
        else:
            asker = http.client.HTTPConnection(host, parts.port)
            asker.sock = self.connect(host, asker.port)
        try:
            asker.request(
                method,
                path,
                headers={"User-Agent": f"ota-agent/{agent_version()}", "Connection": "close"},
            )
            with asker.getresponse() as answer:
                yield answer
        finally:
            asker.close()

    def cut(self) -> None:
        """End the connection, made or not; whoever waits for it wakes with an error."""
        with self._lock:
            self._is_cut = True
            if self._handle is not None:
                with suppress(OSError):
                    self._handle.shutdown(socket.SHUT_RDWR)
                self._handle.close()
                self._handle = None


def dial(look: Callable[[Line], Seen], timeout_s: float, progress: Progress) -> Seen:
    """Give what `look` saw on its line.

    Raises:
        TimeoutError: it did not see it in time.
        OSError, http.client.HTTPException, ValueError: what happened to `look`.

    """
    line = Line(timeout_s)
    answers: queue.SimpleQueue[tuple[Seen] | Exception] = queue.SimpleQueue()

    def take_a_look() -> None:
        try:
            answers.put((look(line),))
        except DIAL_ERRORS as error:
            answers.put(error)

    deadline = time.monotonic() + timeout_s
    # A daemon: a lookup that hangs in the resolver must not keep the agent from ending.
    threading.Thread(target=take_a_look, name="dial", daemon=True).start()
    try:
        with progress.ended_by(line.cut):
            while True:
                progress.check()
                left = deadline - time.monotonic()
                if left <= 0:
                    raise TimeoutError
                with suppress(queue.Empty):
                    answer = answers.get(timeout=min(left, _POLL_S))
                    break
    finally:
        line.cut()
    if isinstance(answer, Exception):
        raise answer
    return answer[0]


def reason(error: Exception) -> str:
    """Say in a few words what went wrong with a connection."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted: {error.verify_message}"
    for kind, words in _REASONS:
        if isinstance(error, kind):
            return words
    return str(getattr(error, "strerror", None) or error).lower()

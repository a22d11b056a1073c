"""Whether the device still reaches a host that it needs for the next update."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from ota_agent.host.dial import DIAL_ERRORS, dial

if TYPE_CHECKING:
    from collections.abc import Callable

    from ota_agent.host.dial import Line
    from ota_agent.ports import Progress

TIMEOUT_S = 10.0

_SSH_PORT = 22
_BANNER = b"SSH-"
# RFC 4253 lets a server say something before its banner; nobody needs more than this.
_MAX_BANNER_BYTES = 8192
# git's short form, user@host:path; a path before the colon would be a local file.
_SCP_FORM = re.compile(r"(?:[^@/:]+@)?(?P<host>\[[^]]+\]|[^@/:]+):(?!//)")


def is_reachable(url: str, progress: Progress, timeout_s: float = TIMEOUT_S) -> bool:
    """Tell whether the host of an https, http or ssh address answers within `timeout_s`.

    Any HTTP status counts, a refusal, a redirect and a fault of the server as well. A certificate
    that the device does not trust does not count: with it the device could not be updated again.
    For ssh (`user@host:path` too) the server's banner has to come. Other addresses are no hosts.
    """
    try:
        look = _look_at(url)
        return look is not None and dial(look, timeout_s, progress)
    except DIAL_ERRORS:
        return False


def _look_at(url: str) -> Callable[[Line], bool] | None:
    parts = urlsplit(url)
    if parts.scheme in {"http", "https"}:
        return lambda line: _answers_http(line, url)
    if parts.scheme in {"ssh", "git+ssh", "ssh+git"}:
        host, port = parts.hostname or "", parts.port or _SSH_PORT
        return lambda line: _answers_ssh(line, host, port)
    if short := _SCP_FORM.match(url):
        host = short["host"].strip("[]")
        return lambda line: _answers_ssh(line, host, _SSH_PORT)
    return None


def _answers_http(line: Line, url: str) -> bool:
    with line.request("HEAD", url):
        return True


def _answers_ssh(line: Line, host: str, port: int) -> bool:
    said = b""
    with line.connect(host, port) as connection:
        while len(said) < _MAX_BANNER_BYTES and (chunk := connection.recv(1024)):
            said += chunk
            if _BANNER in said:
                return True
    return False

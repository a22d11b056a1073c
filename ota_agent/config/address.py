"""What an address of a repository may look like, and which host it names.

A message here never repeats an address: it may hold a password.
"""

from __future__ import annotations

import re
from urllib.parse import SplitResult, urlsplit

FORMS = "https://HOST/PATH, ssh://USER@HOST/PATH, USER@HOST:PATH, file:///PATH or /PATH"

# A host that begins with `-` would be read as an option by ssh.
_HOST = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9.])?|\[[0-9A-Fa-f:.]+\])\Z")
_SCP = re.compile(
    r"(?P<user>[A-Za-z0-9_][A-Za-z0-9._-]*)@(?P<host>[^@:/\s]+|\[[^\]]+\]):(?P<path>.+)"
)
_LOOPBACK = re.compile(r"127(?:\.(?:25[0-5]|2[0-4]\d|1?\d?\d)){3}")
_DEFAULT_PORTS = {"https": 443, "http": 80}


def check_repository(url: str) -> str:
    """Give the address back if the agent may fetch from it; ValueError says what is wrong."""
    if not url or any(c.isspace() or not c.isprintable() for c in url):
        raise ValueError("the address is empty or holds a blank or a control character")
    if url.startswith("/"):
        return url
    scheme, separator, _ = url.partition("://")
    if not separator:
        return _check_scp(url)
    parts = _split(url)
    if scheme == "file":
        if parts.netloc not in {"", "localhost"}:
            raise ValueError(
                "file:// names a path on this device: file:///PATH, with three slashes"
            )
        return url
    if scheme not in {"https", "http", "ssh"}:
        raise ValueError(f"the scheme {scheme}:// is not supported; allowed: {FORMS}")
    _refuse_credentials(parts)
    _check_host(parts)
    if scheme == "http" and not _is_loopback(parts.hostname or ""):
        raise ValueError(
            "the address uses plain http, which anybody on the way can change; use https://"
        )
    if not parts.path.strip("/"):
        raise ValueError("the address names a host but no repository; add the project's path")
    return url


def check_endpoint(url: str) -> str:
    """Give back the address of a web service: https, or http on loopback; ValueError if not."""
    parts = _split(url)
    if parts.scheme not in {"https", "http"} or not parts.hostname:
        raise ValueError("this is not an address such as https://PROJECT.supabase.co")
    _refuse_credentials(parts)
    _check_host(parts)
    if parts.scheme == "http" and not _is_loopback(parts.hostname):
        raise ValueError(
            "the address uses plain http, which anybody on the way can read; use https://"
        )
    return url


def check_host(text: str) -> str:
    """Give back `host` or `host:port` as `host_of` would name it; ValueError if it is neither."""
    host = None if "/" in text or "@" in text else host_of(f"https://{text}/")
    if host is None:
        raise ValueError("this is not a host such as git.example.com or git.example.com:8443")
    return host


def host_of(url: str) -> str | None:
    """Name the host that may be given a token, `host` or `host:port`; None if it gets none.

    Lower case and without the scheme's own port, so that two spellings compare equal. Only web
    addresses are given a token: ssh has its keys, a path needs none.
    """
    try:
        parts = _split(url)
        _check_host(parts)
    except ValueError:
        return None
    if parts.scheme not in _DEFAULT_PORTS:
        return None
    name = (parts.hostname or "").rstrip(".")
    host = f"[{name}]" if ":" in name else name
    port = parts.port
    return host if port in {None, _DEFAULT_PORTS[parts.scheme]} else f"{host}:{port}"


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError as error:
        # The library's own text repeats a part of the address.
        raise ValueError("this is not an address: its host or its port cannot be read") from error
    return parts


def _check_scp(url: str) -> str:
    match = _SCP.fullmatch(url)
    if match is None:
        # `user:password@host:path` comes here too.
        raise ValueError(f"this is not an address of a repository; allowed: {FORMS}")
    if not _HOST.match(match["host"]) or match["path"].startswith("-"):
        raise ValueError("the host or the path cannot be; allowed: USER@HOST:PATH")
    return url


def _refuse_credentials(parts: SplitResult) -> None:
    if parts.password is not None or ("@" in parts.netloc and parts.scheme != "ssh"):
        raise ValueError(
            "the address holds a user or a password, which would end up in logs; take out what is"
            " before the @ and give the token in GITLAB_TOKEN_FILE or GITLAB_TOKEN",
        )
    if parts.query or parts.fragment:
        raise ValueError(
            "the address holds a ? or a #, behind which tokens end up in logs; give the address"
            " alone, and the token in GITLAB_TOKEN_FILE or GITLAB_TOKEN",
        )


def _check_host(parts: SplitResult) -> None:
    host = parts.netloc.rpartition("@")[2]
    host = host if host.endswith("]") else re.sub(r":\d*\Z", "", host)
    if not _HOST.match(host):
        raise ValueError(
            "the address has no usable host; a name outside ASCII is written as xn--..."
        )
    if (parts.username or "").startswith("-"):
        raise ValueError(
            "the address has a user that begins with -, which ssh would read as an option"
        )


def _is_loopback(host: str) -> bool:
    return host in {"localhost", "::1"} or _LOOPBACK.fullmatch(host) is not None

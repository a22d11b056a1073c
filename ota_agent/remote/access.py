"""How git reaches one address: the protocol that it may speak, its credentials, its identity.

The token leaves the agent in one way only: as the `Authorization` header that git's configuration
names for the token's own host, given in the environment of the one git that talks to it. So it is
in no argument list, no file and no address, and a redirect cannot carry it elsewhere.
"""

from __future__ import annotations

import base64
import os
import shlex
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote, urlsplit

from ota_agent.config.address import check_repository, host_of
from ota_agent.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_DEFAULT_PORTS = {"https": 443, "http": 80, "ssh": 22}
_SSH_ALIVE_S = 15
_GIVE_ONE = "Give the device a token (GITLAB_TOKEN_FILE) and restart the agent."


@dataclass(frozen=True, slots=True)
class Credentials:
    """What the source knows the device by; the token shows in no representation."""

    username: str
    token: str = field(repr=False)

    def header(self) -> str:
        """Give the header that git sends: Basic, for GitLab takes nothing else from git."""
        pair = f"{self.username}:{self.token}".encode()
        return f"Authorization: Basic {base64.b64encode(pair).decode()}"


@dataclass(frozen=True, slots=True)
class SshFiles:
    """The device's own key and the host keys that it trusts; None leaves it to ssh."""

    key: Path | None = None
    known_hosts: Path | None = None

    def command(self) -> str:
        """Give the command line that git hands to a shell; it asks nobody and waits for nobody."""
        options = {
            "BatchMode": "yes",
            "ConnectTimeout": "30",
            "ServerAliveInterval": str(_SSH_ALIVE_S),
            "ServerAliveCountMax": "8",
            # A master connection would outlive its git, with the agent's descriptors in hand.
            "ControlMaster": "no",
            "ControlPath": "none",
        }
        if self.key is not None:
            options |= {"IdentitiesOnly": "yes", "IdentityFile": _quoted(self.key)}
        if self.known_hosts is not None:
            options |= {
                "StrictHostKeyChecking": "yes",
                "UserKnownHostsFile": _quoted(self.known_hosts),
                "GlobalKnownHostsFile": "none",
            }
        words = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
        return shlex.join(["ssh", *words])


@dataclass(frozen=True, slots=True)
class Refusal:
    """What it means that the source lets this device not in; `hint` None: the error's own."""

    sentence: str
    hint: str | None = None


REFUSED = Refusal("The source refused the credentials of this device")


@dataclass(frozen=True, slots=True)
class Access:
    """One address and what git needs to reach it.

    Attributes:
        url: as git is given it; it holds no credentials.
        protocol: `https`, `http`, `ssh` or `file`; git may speak this one alone.
        project: the project's stable identity, `host/path`: whether it is reached by https or
            ssh, with `.git` or without, it is the same project.
        address: URL for the connectivity gate, None for a path on this device.
        config: git's settings for this address.
        environment: variables for this address.
        inherited_config: text of the configuration that git's own server on this device reads.
        secrets: texts that may appear in no message.
        refusal: what is said when the source lets this device not in.

    """

    url: str
    protocol: str
    project: str
    address: str | None
    config: Mapping[str, str] = field(default_factory=dict, repr=False)
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    inherited_config: str = ""
    secrets: tuple[str, ...] = field(default=(), repr=False)
    refusal: Refusal = REFUSED


def access(
    url: str,
    *,
    credentials: Credentials | None = None,
    token_host: str | None = None,
    ssh: SshFiles | None = None,
) -> Access:
    """Work out how an address is reached.

    The credentials go to `token_host` (`host` or `host:port`, None: the address's own) and are
    left out for any other.

    Raises:
        ConfigError: the address holds credentials, or is none that the agent may use.

    """
    try:
        check_repository(url)
    except ValueError as error:
        raise ConfigError(f"source.url: {error}.") from error
    if url.startswith("/"):
        return _local(url)
    if "://" not in url:
        return _over_ssh(url, f"ssh://{url.replace(':', '/', 1)}", ssh or SshFiles())
    match urlsplit(url).scheme:
        case "file":
            return _local(unquote(urlsplit(url).path))
        case "ssh":
            return _over_ssh(url, url, ssh or SshFiles())
        case _:
            return _over_web(url, credentials, token_host)


def _local(path: str) -> Access:
    # Git's server refuses a repository of another user, and clears what the environment says: the
    # operator named this very path, and the file is the one thing that still speaks to it.
    spellings = {path, os.path.realpath(path)}
    allowed = sorted(name + suffix for name in spellings for suffix in ("", ".git", "/.git"))
    lines = [f'\tdirectory = "{_escaped(name)}"\n' for name in allowed]
    inherited = f"[safe]\n{''.join(lines)}[uploadpack]\n\tallowFilter = true\n"
    # As an address: a filter is not remembered for a bare path.
    url = f"file://{quote(path)}"
    return Access(url, "file", f"file://{_bare(path)}", None, inherited_config=inherited)


def _over_ssh(url: str, uniform: str, files: SshFiles) -> Access:
    host = _host(uniform, "ssh")
    project = f"{host}{_bare(urlsplit(uniform).path)}"
    environment = {"GIT_SSH_COMMAND": files.command(), "GIT_SSH_VARIANT": "ssh"}
    return Access(url, "ssh", project, f"ssh://{host}", environment=environment)


def _over_web(url: str, credentials: Credentials | None, token_host: str | None) -> Access:
    parts = urlsplit(url)
    host = _host(url, parts.scheme)
    project = f"{host}{_bare(parts.path)}"
    own = host_of(url)
    if credentials is None:
        none = Refusal("The source wants a token, and this device has none", _GIVE_ONE)
        return Access(url, parts.scheme, project, url, refusal=none)
    if own != (token_host or own):
        other = Refusal(
            f"The source {own} wants a token, and that of this device is for {token_host} alone",
            "Correct source.token_host, or source.url.",
        )
        return Access(url, parts.scheme, project, url, refusal=other)
    header = credentials.header()
    return Access(
        url,
        parts.scheme,
        project,
        url,
        config={f"http.{parts.scheme}://{host}/.extraHeader": header},
        secrets=(header.rpartition(" ")[2], credentials.token),
    )


def _host(url: str, scheme: str) -> str:
    """Give `host` or, where the port is not the scheme's own, `host:port`."""
    parts = urlsplit(url)
    name = (parts.hostname or "").rstrip(".")
    host = f"[{name}]" if ":" in name else name
    return host if parts.port in {None, _DEFAULT_PORTS[scheme]} else f"{host}:{parts.port}"


def _bare(path: str) -> str:
    return "/" + path.strip("/").removesuffix(".git").rstrip("/")


def _quoted(path: Path) -> str:
    """Quote a path for ssh, which splits at blanks and expands `%`."""
    return f'"{_escaped(str(path))}"'.replace("%", "%%")


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')

"""The token for the source: from the environment, a file, or systemd's credentials."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import SecretStr

from ota_agent.config.values import Credentials
from ota_agent.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

# GitLab ignores the name beside an access token, and wants one; a deploy token has its own.
DEFAULT_USERNAME = "oauth2"
MAX_BYTES = 64 * 1024
_HINT = "Give the token alone; where it is a file, mode 0600 and owned by the agent's user."


@dataclass(frozen=True, slots=True)
class Found:
    """What there is: the credentials, where they are from, and what is worth a warning."""

    credentials: Credentials | None
    origins: Mapping[str, str]
    warnings: tuple[str, ...]


def find(environ: Mapping[str, str]) -> Found:
    """Read the credentials; a variable goes before a file, a file before systemd's.

    Raises:
        ConfigError: a file that is named cannot be read, is empty or holds no single word.

    """
    warnings: list[str] = []
    token, token_from = _find_token(environ, warnings)
    username, username_from = _find_username(environ)
    if token is None:
        if username is not None:
            warnings.append(f"{username_from} names a user, and no token is given: it is not used")
        return Found(None, {}, tuple(warnings))
    origins = {
        "credentials.username": username_from or "default",
        "credentials.token": token_from,
    }
    found = Credentials.model_construct(
        username=username or DEFAULT_USERNAME, token=SecretStr(token)
    )
    return Found(found, origins, tuple(warnings))


def _find_token(environ: Mapping[str, str], warnings: list[str]) -> tuple[str | None, str]:
    named = environ.get("GITLAB_TOKEN_FILE")
    if text := environ.get("GITLAB_TOKEN"):
        if named:
            warnings.append("GITLAB_TOKEN and GITLAB_TOKEN_FILE are both set: the file is not used")
        return _one_word(text, "GITLAB_TOKEN"), "GITLAB_TOKEN"
    if named:
        origin = f"GITLAB_TOKEN_FILE {named}"
        return _read(Path(named), origin, warnings), origin
    if file := _systemd(environ, "gitlab-token"):
        origin = "systemd credential gitlab-token"
        return _read(file, origin, warnings), origin
    return None, ""


def _find_username(environ: Mapping[str, str]) -> tuple[str | None, str]:
    if text := environ.get("GITLAB_USERNAME"):
        return _one_word(text, "GITLAB_USERNAME"), "GITLAB_USERNAME"
    if file := _systemd(environ, "gitlab-username"):
        origin = "systemd credential gitlab-username"
        return _read(file, origin, []), origin
    return None, ""


def _systemd(environ: Mapping[str, str], name: str) -> Path | None:
    directory = environ.get("CREDENTIALS_DIRECTORY")
    file = Path(directory, name) if directory else None
    return file if file is not None and file.exists() else None


def _read(file: Path, origin: str, warnings: list[str]) -> str:
    try:
        with file.open("rb") as stream:
            mode = os.fstat(stream.fileno()).st_mode
            content = stream.read(MAX_BYTES)
    except OSError as error:
        raise ConfigError(f"{origin}: cannot be read: {error.strerror}", hint=_HINT) from error
    if stat.S_ISREG(mode) and mode & stat.S_IROTH:
        warnings.append(f"{origin}: every user of this device can read it; chmod 0600 {file}")
    try:
        return _one_word(content.decode("ascii"), origin)
    except UnicodeDecodeError:
        raise ConfigError(f"{origin}: holds no token, but other bytes", hint=_HINT) from None


def _one_word(text: str, origin: str) -> str:
    """Strip the line's end that editors add; a blank or a control inside would forge a header."""
    word = text.strip()
    if not word:
        raise ConfigError(f"{origin}: is empty", hint=_HINT)
    if any(not "!" <= c <= "~" for c in word):
        raise ConfigError(f"{origin}: holds a blank, a line break or another odd byte", hint=_HINT)
    return word

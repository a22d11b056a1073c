"""What git's last words mean: its exit code is 128 for nearly everything, only stderr tells.

The table is read from the top, the first pattern found decides. Lines that begin with `remote:`
are the server's own text and decide nothing: else a server could have the device report a full
disk. What a server says in `fatal: remote error:` is read as the server's only.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, TypeAlias

from ota_agent.errors import (
    AgentError,
    DiskFault,
    DiskFull,
    GitUnusable,
    SourceBusy,
    SourceChanged,
    SourceNotFound,
    SourceRedirected,
    SourceUnreachable,
    SourceUntrusted,
    StoreDamaged,
    TokenRefused,
    TransientError,
    TreeHostile,
)
from ota_agent.remote.access import REFUSED, Refusal

if TYPE_CHECKING:
    from collections.abc import Sequence

Kind: TypeAlias = type[AgentError]

MAX_MESSAGE = 400

_REMOTE_ERROR = re.compile(r"remote error: ")
# Names decide nothing: a project may be called "certificate".
_QUOTED_PATH = re.compile(r"'[^'\n]*/[^'\n]*'")
_URL_CREDENTIALS = re.compile(r"(?<=://)[^/@\s]*(?=@)")
_CREDENTIAL_HEADER = re.compile(r"(?i)((?:authorization|private-token)\W+(?:\w+ )?)\S+")

# What the other side says of itself.
_FROM_SERVER: Final[Sequence[tuple[str, Kind]]] = (
    (r"due to load|too many|try again|rate limit|overload|temporarily", SourceBusy),
    (r"not our ref|unadvertised object|no such remote ref", SourceChanged),
    (r"denied|not allowed|forbidden|unauthori[sz]ed", TokenRefused),
    (r"not found|no such project|does not exist|could not be found", SourceNotFound),
)

_FROM_GIT: Final[Sequence[tuple[str, Kind]]] = (
    # The disk first: a full one makes git complain about everything that follows from it.
    (r"No space left on device|Disk quota exceeded|out of disk ?space|ENOSPC", DiskFull),
    (r"Read-only file system|Input/output error|File too large", DiskFault),
    # Who is asked for.
    (r"could not read (?:Username|Password)|Authentication failed", TokenRefused),
    (r"returned error: (?:401|403|407)\b|Permission denied \(", TokenRefused),
    (r"returned error: 30\d\b", SourceRedirected),
    (r"returned error: (?:404|410)\b|^fatal: repository '.*' not found", SourceNotFound),
    (r"does not appear to be a git repository", SourceNotFound),
    (r"returned error: (?:429|503)\b", SourceBusy),
    # Whether it is he.
    (r"certificate|CAfile|Host key verification failed|host key", SourceUntrusted),
    (r"REMOTE HOST IDENTIFICATION HAS CHANGED|detected dubious ownership", SourceUntrusted),
    # What he has.
    (r"couldn't find remote ref|does not allow request for unadvertised", SourceChanged),
    (r"mismatched algorithms", SourceNotFound),
    # What of his is no release: a tree that git itself takes for an attack.
    (r"fsck error in packed object", TreeHostile),
    # What is missing here, not in what he sent: it builds upon what this store should hold.
    (r"did not receive expected object|unresolved delta", StoreDamaged),
    # How far the way went.
    (r"Could not resolve|Failed to connect|Connection (?:refused|reset)", SourceUnreachable),
    (r"unable to access|RPC failed|early EOF|hung up|unexpected disconnect", SourceUnreachable),
    (r"protocol error|bad line length|bad pack header", SourceUnreachable),
    (r"expected (?:flush|'packfile')", SourceUnreachable),
    (r"info/refs not valid|dumb http|invalid index-pack output", SourceUnreachable),
    (r"Network is unreachable|No route to host|timed out|handshake", SourceUnreachable),
    # What is on this disk.
    (r"not a git repository|bad (?:config|shallow|object|revision|tree)", StoreDamaged),
    (r"missing (?:object|blob|tree|commit)|is corrupt|too small|far too short", StoreDamaged),
    (r"unexpected line in|ignoring broken ref|did not send all necessary", StoreDamaged),
    (r"unknown object type|inflate|Not a valid object name|not a (?:tree|commit)", StoreDamaged),
    (r"nonexistent object|Needed a single revision|does not match index", StoreDamaged),
    (r"Could not read from remote repository", SourceUnreachable),
    (r"unable to (?:create|write|open|mmap)|cannot (?:lock ref|mkdir|open)", DiskFault),
    (r"env: .*No such file|cannot exec|is not a git command", GitUnusable),
)  # fmt: skip

_SENTENCES: Final[dict[Kind, str]] = {
    SourceNotFound: "The source has no such repository, or does not show it to this device",
    SourceBusy: "The source asks to come back later",
    SourceRedirected: "The source answers with a redirect",
    SourceUntrusted: "The source did not prove who it is",
    SourceChanged: "The source no longer has what was offered",
    SourceUnreachable: "The source gave no usable answer",
    TreeHostile: "The release holds what git itself refuses",
    DiskFull: "There is no space left for what git writes",
    DiskFault: "The disk failed under git",
    StoreDamaged: "The object store is damaged",
    GitUnusable: "Git cannot be run",
    TransientError: "Git failed",
}


def failure(
    stderr: str,
    exit_code: int,
    *,
    secrets: Sequence[str] = (),
    retry_after_s: float | None = None,
    refusal: Refusal = REFUSED,
) -> AgentError:
    """Give the error that git's stderr and exit code stand for, free of secrets.

    `refusal` says what it means that the source lets nobody in.
    """
    lines = [line for line in stderr.splitlines() if line and not line.startswith("remote:")]
    kind = _kind("\n".join(lines))
    said = scrub(_last_words(lines), secrets) or f"exit code {exit_code}"
    if kind is TokenRefused:
        return TokenRefused(f"{refusal.sentence}: {said}", hint=refusal.hint)
    message = f"{_SENTENCES[kind]}: {said}"
    if kind is SourceBusy:
        return SourceBusy(message, retry_after_s=retry_after_s)
    return kind(message)


def scrub(text: str, secrets: Sequence[str] = ()) -> str:
    """Take the secrets, and whatever looks like one, out of a text."""
    for secret in filter(None, secrets):
        text = text.replace(secret, "***")
    text = _URL_CREDENTIALS.sub("***", text)
    return _CREDENTIAL_HEADER.sub(r"\1***", text)


def _kind(text: str) -> Kind:
    text = _QUOTED_PATH.sub("''", text)
    remote_error = _REMOTE_ERROR.search(text)
    if remote_error is not None:
        return _match(_FROM_SERVER, text[remote_error.end() :]) or SourceUnreachable
    return _match(_FROM_GIT, text) or TransientError


def _match(table: Sequence[tuple[str, Kind]], text: str) -> Kind | None:
    for pattern, kind in table:
        if re.search(pattern, text, re.IGNORECASE | re.MULTILINE):
            return kind
    return None


def _last_words(lines: Sequence[str]) -> str:
    """Give the lines that tell most: the fatal ones, else the last."""
    telling = [line for line in lines if line.startswith(("fatal:", "error:", "ssh:"))]
    words = "; ".join(" ".join(line.split()) for line in telling[:3] or lines[-1:])
    printable = "".join(c if c.isprintable() else "?" for c in words)
    return printable[:MAX_MESSAGE]

"""One JSON text: read, and parsed strictly, with the line on which every key stands."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from ota_agent.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

KeyPath: TypeAlias = "tuple[str | int, ...]"

PREFIX = "OTA_AGENT_"
FILE_VARIABLE = "OTA_AGENT_CONFIG"
DEFAULT_FILE = Path("/etc/ota-agent/config.json")
MAX_BYTES = 1024 * 1024
INLINE = "the inline configuration"
STDIN = "the configuration on standard input"

EXCERPT_BEFORE = 40
EXCERPT_AFTER = 30

_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\],:\n]|[^\s{}\[\],:"]+')
# What stands behind such a key is not shown, however broken the text around it is.
_SECRET = re.compile(
    r"(?P<key>(?:token|key|password|passwd|secret)(?!_host|_file)[\"']?\s*[:=]?\s*)"
    r"(?:\"(?:[^\"\\\n]|\\.)*\"?)?[^,}\n]*",
    re.IGNORECASE,
)
_USERINFO = re.compile(r"(?P<key>://)[^/\s\"]*(?=@)")


@dataclass(frozen=True, slots=True)
class Document:
    """A parsed text: its values, and the line (from 1) of every key and list element."""

    values: Mapping[str, Any]
    lines: Mapping[KeyPath, int]


def read(source: str | None, environ: Mapping[str, str]) -> tuple[str, str]:
    """Give a configuration's name for messages, and its text.

    `source` is a path, JSON itself (it begins with `{`) or `-` for standard input; None leaves it
    to the environment, else to DEFAULT_FILE.

    Raises:
        ConfigError: it cannot be read, is no UTF-8, or is longer than any configuration.

    """
    # Empty is not absent: `--config "$(cat FILE)"` without the file must not load another one.
    giver = "--config" if source is not None else FILE_VARIABLE
    if source is None:
        source = environ.get(FILE_VARIABLE)
    if source is None:
        return str(DEFAULT_FILE), _decode(_bytes_of(DEFAULT_FILE), str(DEFAULT_FILE))
    if source.lstrip("\ufeff \t\r\n").startswith("{"):
        return INLINE, source.lstrip("\ufeff")
    if source == "-":
        return STDIN, _decode(sys.stdin.buffer.read(MAX_BYTES + 1), STDIN)
    if not source.strip():
        raise ConfigError(
            f"the configuration is empty: {giver} got no text",
            hint='Where it is given as "$(cat FILE)", check that FILE is there.',
        )
    name = printable(source)
    return name, _decode(_bytes_of(Path(source)), name)


def _bytes_of(file: Path) -> bytes:
    try:
        with file.open("rb") as stream:
            return stream.read(MAX_BYTES + 1)
    except OSError as error:
        raise ConfigError(
            f"cannot read the configuration {printable(str(file))}: {error.strerror}",
            hint=f"--config names it, else {FILE_VARIABLE}, else it is {DEFAULT_FILE}.",
        ) from error


def _decode(content: bytes, name: str) -> str:
    if len(content) > MAX_BYTES:
        raise ConfigError(f"{name} is longer than {MAX_BYTES} bytes: no configuration is")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{name} is not UTF-8: line {line} has other bytes") from None


def parse(text: str, name: str) -> Document:
    """Parse a configuration named `name` in messages.

    Raises:
        ConfigError: broken JSON with line, column and excerpt; a key twice; no object at the top.

    """
    duplicates: list[str] = []

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        keys = [key for key, _ in items]
        duplicates.extend(sorted({key for key in keys if keys.count(key) > 1}))
        return dict(items)

    try:
        values = json.loads(text, object_pairs_hook=pairs, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        raise ConfigError(_describe(error, name), hint=_remedy(error)) from error
    except (ValueError, RecursionError) as error:
        message = f"{name} is not usable JSON: a number or a nesting is beyond all bounds"
        raise ConfigError(message) from error
    if not isinstance(values, dict):
        raise ConfigError(f'{name} has to be one JSON object: {{"source": {{...}}, ...}}')
    if duplicates:
        raise ConfigError(
            f"{name} gives {printable(', '.join(duplicates))} twice, and only one can count",
            hint="Take one of them out.",
        )
    return Document(values, _lines(text))


def dotted(path: Sequence[str | int]) -> str:
    """Write a path as people do: `source.url`, `labels[2]`."""
    return "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in path).removeprefix(".")


def printable(text: str) -> str:
    """Escape what a terminal would obey or could not show."""
    return "".join(
        c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text
    )


def _refuse_constant(constant: str) -> float:
    raise ValueError(constant)


def _describe(error: json.JSONDecodeError, name: str) -> str:
    problem = error.msg[:1].lower() + error.msg[1:]
    place = f"line {error.lineno}, column {error.colno}"
    excerpt = _excerpt(error)
    return f"{name} is not JSON, {place}: {problem}" + (f"\n  {excerpt}" if excerpt else "")


def _excerpt(error: json.JSONDecodeError) -> str:
    """Give what stands around the error, secrets masked."""
    # The whole text is masked: a key may stand on another line than its value.
    text = _SECRET.sub(_stars, _USERINFO.sub(_stars, error.doc))
    line = text.split("\n")[error.lineno - 1]
    return printable(
        line[max(0, error.colno - EXCERPT_BEFORE) : error.colno + EXCERPT_AFTER].strip()
    )


def _stars(match: re.Match[str]) -> str:
    """Mask what follows the match's key; the length stays, so that columns still count."""
    return match["key"] + "*" * (len(match[0]) - len(match["key"]))


def _remedy(error: json.JSONDecodeError) -> str:
    before = error.doc[: error.pos].rstrip()
    rest = error.doc[error.pos :].lstrip()
    if rest[:1] in {"}", "]"} and before.endswith(","):
        return "Take out the comma before the closing bracket."
    if rest.startswith(("//", "/*", "#")):
        return "JSON knows no comments; take them out."
    if rest.startswith("'"):
        return 'JSON wants double quotes: "..."'
    return "Correct the text there; a comma, a quote or a bracket may be missing just before."


def _lines(text: str) -> dict[KeyPath, int]:
    """Find the line of every key and list element of a text that is known to be JSON."""
    lines: dict[KeyPath, int] = {}
    path: list[str | int] = []
    line = 1
    expects_key = False
    for match in _TOKEN.finditer(text):
        token = match[0]
        if token[0] not in "]},:\n" and path and isinstance(path[-1], int):
            lines[tuple(path)] = line
        match token[0]:
            case "\n":
                line += 1
            case "{":
                path.append("")
                expects_key = True
            case "[":
                path.append(0)
            case "}" | "]":
                path.pop()
                expects_key = False
            case "," if isinstance(path[-1], int):
                path[-1] += 1
            case ",":
                expects_key = True
            case '"' if expects_key:
                path[-1] = json.loads(token)
                lines[tuple(path)] = line
                expects_key = False
            case _:
                pass
    return lines

"""Files that must parse before a release may go live: the manifest's `[syntax]`."""

from __future__ import annotations

import fnmatch
import json
import re
import tomllib
from functools import lru_cache
from typing import TYPE_CHECKING

from ota_agent.errors import SyntaxRejected

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from yaml._yaml import Mark as CMark
    from yaml.error import Mark

    from ota_agent.model.manifest import Manifest

SYNTAX_MAX_BYTES = 16 * 1024 * 1024
MAX_NESTING = 1_000

_ANY_DEPTH = "**"
_LINE = re.compile(r" \(at (?:line (\d+), column \d+|end of document)\)$")


class _Fault(Exception):
    """What does not parse, and in which line where that is known."""

    def __init__(self, message: str, line: int | None = None) -> None:
        super().__init__(message)
        self.line = line


def matches_glob(path: str, pattern: str) -> bool:
    """Tell whether a path of a release matches a glob.

    `*`, `?` and `[...]` match within one part of the path, a leading dot too; `**` as a whole part
    matches any number of directories, as the last one everything below.
    """
    parts = path.split("/")
    steps = _steps(pattern)
    # All places in the pattern that the path so far may have led to: no backtracking, whatever
    # the pattern.
    places = _reach({0}, steps)
    for part in parts:
        moved = set()
        for place in places:
            if place == len(steps):
                continue
            step = steps[place]
            if step is None:
                moved.add(place)
            elif step.match(part):
                moved.add(place + 1)
        places = _reach(moved, steps)
    return len(steps) in places


@lru_cache(maxsize=256)
def _steps(pattern: str) -> tuple[re.Pattern[str] | None, ...]:
    """Compile each part of a glob; None for `**`."""
    parts = pattern.split("/")
    if parts[-1] == _ANY_DEPTH:
        parts.append("*")  # everything below, not the directory itself
    return tuple(
        None if part == _ANY_DEPTH else re.compile(fnmatch.translate(part)) for part in parts
    )


def _reach(places: set[int], steps: tuple[re.Pattern[str] | None, ...]) -> set[int]:
    """Add the places behind each `**`, which may match nothing."""
    reached = set()
    for place in places:
        reached.add(place)
        here = place
        while here < len(steps) and steps[here] is None:
            here += 1
            reached.add(here)
    return reached


def has_syntax(manifest: Manifest, path: str) -> bool:
    """Tell whether the manifest wants a file to parse."""
    return next(_parsers(manifest, path), None) is not None


def check_syntax(manifest: Manifest, contents: Mapping[str, bytes]) -> None:
    """Require that each file parses as the manifest declares it.

    `contents` holds files by path; those that the manifest does not declare are passed over. Read
    at most `SYNTAX_MAX_BYTES` and one of each.

    Raises:
        SyntaxRejected: names the first file that does not parse, the line where that is known, and
            what is wrong.

    """
    for path, content in contents.items():
        for name, parse in _parsers(manifest, path):
            try:
                parse(_decode(content))
            except UnicodeDecodeError as error:
                raise _rejected(path, name, _Fault("is no UTF-8 text")) from error
            except RecursionError as error:
                raise _rejected(path, name, _Fault("is nested too deeply")) from error
            except _Fault as fault:
                raise _rejected(path, name, fault) from fault


def _decode(content: bytes) -> str:
    if len(content) > SYNTAX_MAX_BYTES:
        limit = SYNTAX_MAX_BYTES // 1024**2
        raise _Fault(f"is larger than {limit} MiB, too large to check")
    return content.decode()


def _rejected(path: str, name: str, fault: _Fault) -> SyntaxRejected:
    line = "" if fault.line is None else f"line {fault.line}: "
    return SyntaxRejected(f"{path}: {line}{fault} ({name})")


def _parsers(manifest: Manifest, path: str) -> Iterator[tuple[str, Callable[[str], None]]]:
    globs = manifest.syntax
    for name, patterns, parse in (
        ("JSON", globs.json, _parse_json),
        ("TOML", globs.toml, _parse_toml),
        ("YAML", globs.yaml, _parse_yaml),
    ):
        if any(matches_glob(path, pattern) for pattern in patterns):
            yield name, parse


def _parse_json(text: str) -> None:
    try:
        # Numbers stay text: one of 5,000 digits is good JSON, and no int that Python makes.
        json.loads(text, parse_int=str, parse_float=str, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        raise _Fault(error.msg, error.lineno) from error


def _refuse_constant(name: str) -> None:
    raise _Fault(f"{name} is no JSON")


def _parse_toml(text: str) -> None:
    try:
        tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        place = _LINE.search(str(error))
        line = int(place[1]) if place and place[1] else None
        raise _Fault(_LINE.sub("", str(error)), line) from error
    except ValueError as error:
        raise _Fault("holds a number of too many digits") from error


def _parse_yaml(text: str) -> None:
    """Read the events of each document: aliases are looked up, never followed.

    Composing the nodes would recurse in C, where deep nesting ends the process.
    """
    # Only here: few releases declare YAML, and its import is slow.
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    anchors: set[str | None] = set()
    depth = 0
    try:
        for event in yaml.parse(text, Loader=loader):
            match event:
                case yaml.DocumentStartEvent():
                    anchors.clear()
                case yaml.AliasEvent() if event.anchor not in anchors:
                    raise _Fault(f"unknown alias {event.anchor!r}", _line(event.start_mark))
                case yaml.CollectionEndEvent():
                    depth -= 1
                case yaml.NodeEvent():
                    anchors.add(event.anchor)
                    depth += isinstance(event, yaml.CollectionStartEvent)
                case _:
                    pass
            if depth > MAX_NESTING:
                raise _Fault("is nested too deeply", _line(event.start_mark))
    except yaml.MarkedYAMLError as error:
        raise _Fault(error.problem or "is no YAML", _line(error.problem_mark)) from error
    except yaml.YAMLError as error:  # a character that YAML does not allow
        raise _Fault(str(error).splitlines()[0]) from error


def _line(mark: Mark | CMark | None) -> int | None:
    return None if mark is None else mark.line + 1

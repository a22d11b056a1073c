"""What is wrong with a configuration, in sentences that name the place and what is allowed."""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from typing_extensions import override

from ota_agent.config.document import dotted, printable
from ota_agent.config.values import Settings
from ota_agent.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pydantic_core import ErrorDetails

SHOWN_VALUE = 60
_NUMBERS = {"integer": "a whole number", "number": "a number"}
_WORDS = {"boolean": "true or false", "array": "a list of texts", "null": "null"}
_CREDENTIAL_WORDS = ("token", "password", "passwd", "secret", "username", "credential")


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong: with which key, where it stands, and why."""

    key: str
    place: str | None
    message: str

    @override
    def __str__(self) -> str:
        return printable(f"{self.key}{f' ({self.place})' if self.place else ''}: {self.message}")


@dataclass(frozen=True, slots=True)
class Key:
    """What a key takes, read from the JSON Schema.

    Attributes:
        kinds: JSON types, `null` among them where it may be null.
        allowed: the same for people, with bounds or choices.

    """

    kinds: frozenset[str]
    allowed: str
    is_secret: bool


def refuse(name: str, problems: Sequence[Problem]) -> ConfigError:
    """Make the one error that tells all problems of the configuration `name`."""
    count = "1 error" if len(problems) == 1 else f"{len(problems)} errors"
    lines = "".join(f"\n  {problem}" for problem in problems)
    return ConfigError(f"{name} has {count}:{lines}")


def explain(errors: Iterable[ErrorDetails], places: Mapping[str, str]) -> list[Problem]:
    """Turn pydantic's findings into sentences; `places` says where a key was set."""
    return [_problem(error, places) for error in errors]


def schema() -> dict[str, Any]:
    """Give the JSON Schema of config.json."""
    dialect = "https://json-schema.org/draft/2020-12/schema"
    return {"$schema": dialect, **Settings.model_json_schema(), "title": "ota-agent configuration"}


@functools.cache
def known_keys() -> Mapping[str, Key]:
    """List every dotted key, sections too."""
    whole = schema()
    keys: dict[str, Key] = {}

    def walk(section: Mapping[str, Any], prefix: str) -> None:
        for name, field in section["properties"].items():
            options = [_resolve(o, whole) for o in field.get("anyOf", [field])]
            keys[prefix + name] = _key(options)
            for option in options:
                if option.get("type") == "object":
                    walk(option, f"{prefix}{name}.")

    walk(whole, "")
    return keys


def suggestion(given: str, known: Iterable[str]) -> str:
    """Say what may have been meant; empty when nothing is near."""
    import difflib

    names = list(known)
    near = difflib.get_close_matches(given, names, n=1, cutoff=0.75)
    if not near:
        # `url` at the top may be meant for `source.url`.
        leaf = given.rpartition(".")[2]
        near = [n for n in names if n.rpartition(".")[2] == leaf]
    return f"; did you mean {near[0]}?" if near else ""


def _problem(error: ErrorDetails, places: Mapping[str, str]) -> Problem:
    key = dotted(error["loc"])
    place = places.get(key)
    match error["type"]:
        case "extra_forbidden":
            message = f"unknown key{_remedy_for_unknown(key)}"
        case "missing":
            message = f"is missing; it takes {_allowed(key)}"
        case "value_error":
            message = str(error["ctx"]["error"])
        case _:
            message = f"{_shown(key, error['input'])} is not allowed; it takes {_allowed(key)}"
    return Problem(key or "the configuration", place, message)


def _remedy_for_unknown(key: str) -> str:
    near = suggestion(key, known_keys())
    if not near and any(word in key.lower() for word in _CREDENTIAL_WORDS):
        return "; credentials come from GITLAB_USERNAME and GITLAB_TOKEN or GITLAB_TOKEN_FILE"
    return near or f"; known here: {', '.join(_siblings(key))}"


def _siblings(key: str) -> list[str]:
    section = key.rpartition(".")[0]
    return [k.rpartition(".")[2] for k in known_keys() if k.rpartition(".")[0] == section]


def _allowed(key: str) -> str:
    known = known_keys()
    if key in known:
        return known[key].allowed
    # `labels[2]`: what an element takes is text, in every list there is.
    return "a text"


def _shown(key: str, value: object) -> str:
    known = known_keys().get(key)
    if known is not None and (known.is_secret or "object" in known.kinds):
        return "what is there"
    text = json.dumps(value, ensure_ascii=False, default=repr)
    return text if len(text) <= SHOWN_VALUE else f"{text[:SHOWN_VALUE]}..."


def _resolve(option: Mapping[str, Any], whole: Mapping[str, Any]) -> Mapping[str, Any]:
    reference = option.get("$ref")
    return whole["$defs"][reference.rpartition("/")[2]] if reference else option


def _key(options: Sequence[Mapping[str, Any]]) -> Key:
    return Key(
        kinds=frozenset(o["type"] for o in options),
        allowed=" or ".join(_phrase(o) for o in options),
        is_secret=any(o.get("writeOnly", False) for o in options),
    )


def _phrase(option: Mapping[str, Any]) -> str:
    choices = option.get("enum") or ([option["const"]] if "const" in option else [])
    if choices:
        return ("one of " if len(choices) > 1 else "") + ", ".join(f'"{c}"' for c in choices)
    kind = str(option["type"])
    if kind in _NUMBERS:
        return f"{_NUMBERS[kind]} {_bounds(option)}"
    if kind == "object":
        return f"an object with the keys {', '.join(option['properties'])}"
    return _WORDS.get(kind) or str(option.get("description", "a text"))


def _bounds(option: Mapping[str, Any]) -> str:
    low = option.get("minimum", option.get("exclusiveMinimum"))
    first = f"from {low}" if "minimum" in option else f"above {low}"
    return f"{first} to {option['maximum']}"

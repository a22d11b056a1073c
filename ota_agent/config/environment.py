"""The keys that the environment and the command line set, as texts that become JSON values."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ota_agent.config.document import FILE_VARIABLE, PREFIX
from ota_agent.config.explain import Problem, known_keys, suggestion

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


@dataclass(frozen=True, slots=True)
class Setting:
    """One key set from outside the file; `place` is the variable or option that sets it."""

    key: str
    value: Any
    place: str


def variable_of(key: str) -> str:
    """Name the variable that sets a key: OTA_AGENT_SOURCE__URL for source.url."""
    return PREFIX + key.upper().replace(".", "__")


def from_environment(environ: Mapping[str, str]) -> Iterator[Setting | Problem]:
    """Read every OTA_AGENT_ variable; an empty one counts as not set."""
    given = {v: t for v, t in environ.items() if v.startswith(PREFIX) and v != FILE_VARIABLE and t}
    # Without one, the keys need not be known: that costs more than all the rest of a short command.
    keys = {variable_of(key): key for key in known_keys()} if given else {}
    for variable, text in sorted(given.items()):
        if variable in keys:
            yield _setting(keys[variable], text, variable)
        else:
            yield Problem(variable, None, f"unknown variable{suggestion(variable, keys)}")


def from_command_line(overrides: Mapping[str, str]) -> Iterator[Setting | Problem]:
    """Read what `--set KEY=VALUE` gives, key by key."""
    for key, text in overrides.items():
        place = f"--set {key}"
        known = known_keys().get(key)
        if known is None:
            yield Problem(place, None, f"unknown key{suggestion(key, known_keys())}")
        elif known.is_secret:
            # Every user of the device can read the arguments of every process.
            yield Problem(
                place, None, f"a secret shows in the list of processes; use {variable_of(key)}"
            )
        else:
            yield _setting(key, text, place)


def _setting(key: str, text: str, place: str) -> Setting | Problem:
    """Turn a text into a value of the kind that the key takes; its bounds are checked later."""
    kinds = known_keys()[key].kinds
    if "object" in kinds:
        return Problem(place, None, f"{key} is a section; set its keys, one by one")
    if not kinds & {"integer", "number", "boolean", "array"}:
        return Setting(key, text, place)
    if "array" in kinds and not text.lstrip().startswith("["):
        return Setting(key, [part.strip() for part in text.split(",")], place)
    try:
        return Setting(key, json.loads(text), place)
    except ValueError:
        # Not repeated as it is: the check of its kind says what is allowed.
        return Setting(key, text, place)

"""The little of a configuration that `status` and `history` need, without the cost of all of it.

pydantic takes longer to import than those commands may run. So the values are held against the
JSON Schema here, which schema.json keeps; where they do not fit, or come from more than one file,
`load` decides, and says what is wrong. Only what a schema cannot tell goes unnoticed, such as a
channel that cannot be: every command that acts refuses that.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ota_agent.config import document

if TYPE_CHECKING:
    from collections.abc import Mapping

    Form = Mapping[str, Any]

# What `config schema` prints; a test compares them.
SCHEMA_FILE = Path(__file__).with_name("schema.json")

# JSON Schema's names for what the parser gives; `true` is no number there.
_KINDS: Mapping[type, tuple[str, ...]] = {
    dict: ("object",),
    list: ("array",),
    str: ("string",),
    bool: ("boolean",),
    int: ("integer", "number"),
    float: ("number",),
    type(None): ("null",),
}


@dataclass(frozen=True, slots=True)
class DriftOutline:
    """As `Config.drift`, of which it is a part."""

    mode: str


@dataclass(frozen=True, slots=True)
class Outline:
    """Where the device is, and what it does about drift; read it as a `Config`."""

    work_dir: Path
    drift: DriftOutline


def glance(
    source: str | None, environ: Mapping[str, str], overrides: Mapping[str, str] | None = None
) -> Outline:
    """Look at the configuration that `load` would load.

    Raises:
        ConfigError: as `load` does.

    """
    # Standard input can be read once.
    if not overrides and source != "-" and not _sets_keys(environ):
        name, text = document.read(source, environ)
        outline = _outline(document.parse(text, name).values)
        if outline is not None:
            return outline
    from ota_agent.config.loading import load

    config = load(source, environ, overrides).config
    return Outline(config.work_dir, DriftOutline(config.drift.mode))


def _sets_keys(environ: Mapping[str, str]) -> bool:
    return any(
        text and variable.startswith(document.PREFIX) and variable != document.FILE_VARIABLE
        for variable, text in environ.items()
    )


def _outline(values: Mapping[str, Any]) -> Outline | None:
    """Read the outline from values that fit; None where `load` has to look."""
    schema = json.loads(SCHEMA_FILE.read_bytes())
    if not _fits(values, schema, schema):
        return None
    work_dir = Path(values.get("work_dir", schema["properties"]["work_dir"]["default"]))
    if not work_dir.is_absolute() or ".." in work_dir.parts or work_dir == Path("/"):
        return None
    mode = schema["$defs"]["Drift"]["properties"]["mode"]["default"]
    return Outline(work_dir, DriftOutline(values.get("drift", {}).get("mode", mode)))


def _fits(value: object, form: Form, schema: Form) -> bool:
    """Tell whether a value fits the part of JSON Schema that the configuration uses."""
    if "$ref" in form:
        form = schema["$defs"][form["$ref"].rpartition("/")[2]]
    if "anyOf" in form:
        return any(_fits(value, option, schema) for option in form["anyOf"])
    choices = form.get("enum", [form.get("const", value)])
    return (
        value in choices
        and form["type"] in _KINDS[type(value)]
        and _fits_inside(value, form, schema)
    )


def _fits_inside(value: object, form: Form, schema: Form) -> bool:
    match value:
        case dict():
            return _fits_object(value, form, schema)
        case list():
            return all(_fits(part, form["items"], schema) for part in value)
        case str():
            return value.isprintable()
        case int() | float() if not isinstance(value, bool):
            return _fits_bounds(value, form)
        case _:
            return True


def _fits_object(value: Mapping[str, object], form: Form, schema: Form) -> bool:
    known = form["properties"]
    return set(form.get("required", [])) <= set(value) <= set(known) and all(
        _fits(part, known[key], schema) for key, part in value.items()
    )


def _fits_bounds(value: float, form: Form) -> bool:
    least, above = form.get("minimum", -math.inf), form.get("exclusiveMinimum", -math.inf)
    return bool(least <= value <= form["maximum"] and value > above)

"""The configuration: `load` turns a file and the environment into a `Config`, or a `ConfigError`.

values        what there is to configure, and what is allowed
address       what an address of a repository may look like
document      one JSON text: read, parsed, with the line of every key
environment   the keys that the environment sets
credentials   the token for the source, which never comes from a file of settings
explain       what is wrong, in sentences
loading       the order in which all that is put together
outline       the little that `status` needs, without the cost of all the rest

What stands here is imported with its first use: pydantic alone takes half of what `status` may.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ota_agent.config.address import host_of
    from ota_agent.config.explain import schema
    from ota_agent.config.loading import Loaded, load
    from ota_agent.config.outline import Outline, glance
    from ota_agent.config.values import (
        Backups,
        Commands,
        Config,
        Credentials,
        Disk,
        Drift,
        Log,
        Source,
        Supabase,
        Trust,
        check_device_id,
    )

__all__ = [
    "Backups",
    "Commands",
    "Config",
    "Credentials",
    "Disk",
    "Drift",
    "Loaded",
    "Log",
    "Outline",
    "Source",
    "Supabase",
    "Trust",
    "check_device_id",
    "glance",
    "host_of",
    "load",
    "schema",
]

_ELSEWHERE = {
    "Loaded": "loading",
    "Outline": "outline",
    "glance": "outline",
    "host_of": "address",
    "load": "loading",
    "schema": "explain",
}


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = importlib.import_module(f"{__name__}.{_ELSEWHERE.get(name, 'values')}")
    value: object = getattr(module, name)
    return value

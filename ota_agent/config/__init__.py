"""The configuration: `load` turns a file and the environment into a `Config`, or a `ConfigError`.

values        what there is to configure, and what is allowed
address       what an address of a repository may look like
document      one JSON text: parsed, with the line of every key
environment   the keys that the environment sets
credentials   the token for the source, which never comes from a file of settings
explain       what is wrong, in sentences
loading       the order in which all that is put together
"""

from ota_agent.config.address import host_of
from ota_agent.config.explain import schema
from ota_agent.config.loading import DEFAULT_FILE, Loaded, load
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
    "DEFAULT_FILE",
    "Backups",
    "Commands",
    "Config",
    "Credentials",
    "Disk",
    "Drift",
    "Loaded",
    "Log",
    "Source",
    "Supabase",
    "Trust",
    "check_device_id",
    "host_of",
    "load",
    "schema",
]

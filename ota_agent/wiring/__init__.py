"""Puts the program together from a configuration; what a command does not need is not imported.

building   the agent: takes the work_dir, names every concrete edge
reading    status and history
asking     commands to the running agent, and `verify`
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ota_agent.wiring.asking import ask_agent, verify_live
    from ota_agent.wiring.building import build_agent, check_now
    from ota_agent.wiring.reading import (
        read_history,
        read_status,
        require_own,
        running_agent,
    )

__all__ = [
    "ask_agent",
    "build_agent",
    "check_now",
    "read_history",
    "read_status",
    "require_own",
    "running_agent",
    "verify_live",
]

_HOMES = {
    "ask_agent": "asking",
    "build_agent": "building",
    "check_now": "building",
    "read_history": "reading",
    "read_status": "reading",
    "require_own": "reading",
    "running_agent": "reading",
    "verify_live": "asking",
}


def __getattr__(name: str) -> Any:  # noqa: ANN401 - the functions above, each with its own type
    """Import a function when it is first asked for: `status` has no time for git."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)

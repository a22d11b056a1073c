"""What the agent has to know of the device and of itself."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

import ota_agent
from ota_agent.errors import ConfigError, DeviceError

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def agent_version() -> str:
    """Give the agent's own version."""
    return ota_agent.__version__


def boot_id() -> str:
    """Give the UUID that the kernel made for this boot.

    Raises:
        DeviceError: there is no /proc, which the agent needs for its commands too.

    """
    try:
        return _BOOT_ID.read_text(encoding="ascii").strip()
    except OSError as error:
        raise DeviceError(f"{error.filename}: {error.strerror}", hint="Mount /proc.") from error


def user_name(number: int) -> str:
    """Give the name of a user, or the number where it has none."""
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)


def is_root() -> bool:
    """Tell whether the agent may become another user."""
    return os.geteuid() == 0


def commands_user(name: str | None) -> pwd.struct_passwd | None:
    """Find the user of `commands.user`; None stays None: the agent's own, unless that is root.

    Raises:
        ConfigError: there is no such user, or the agent cannot become that one.

    """
    if name is None:
        return None
    try:
        user = pwd.getpwnam(name)
    except (KeyError, ValueError) as error:  # ValueError: a NUL in the name
        raise ConfigError(
            f"commands.user: there is no user {name!r} on this device",
            hint=f"Create {name!r}, or name a user that exists.",
        ) from error
    if not is_root() and user.pw_uid != os.geteuid():
        raise ConfigError(
            f"commands.user: only an agent that is root can run commands as {name!r}",
            hint="Run the agent as root, or leave commands.user out.",
        )
    return user

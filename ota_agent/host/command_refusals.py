"""Why a command did not begin, sorted by who has to act."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from ota_agent.errors import CommandsUnusable, HookNotExecutable, TransientError

if TYPE_CHECKING:
    from ota_agent.errors import AgentError

# It may be possible again as soon as something else ends.
_PASSING = frozenset({errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.ETXTBSY})
# What the release says or holds cannot be executed, on any device like this one.
_WRONG = {
    errno.ENOEXEC: (
        "is no program for this device",
        "Begin a script with a line such as #!/bin/sh, or build the program for this machine.",
    ),
    errno.E2BIG: ("has too many or too long arguments", "Shorten the command in ota.toml."),
    errno.ENOENT: (
        "does not exist",
        "Publish a release that holds the file, or correct ota.toml.",
    ),
}
_WRONG |= dict.fromkeys(
    (errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.EISDIR, errno.EINVAL),
    ("is no path of an executable file", "Correct the command in ota.toml."),
)
_NO_INTERPRETER = (
    "names an interpreter that this device does not have",
    "Correct the first line of the script, or install what it names.",
)


def refusal(name: str, step: str, number: int | None) -> AgentError:
    """Translate the errno of a step: `lookup`, `start`, `session`, `user`, `directory`, `program`.

    `name` is the command's first word.
    """
    reason = os.strerror(number or 0)
    if number in _PASSING:
        return TransientError(f"{name} cannot be started now: {reason}")
    if number in _WRONG and (step in {"lookup", "program"} or number == errno.E2BIG):
        # A file that was there a moment ago: what is missing is what its first line names.
        is_script = step == "program" and number == errno.ENOENT
        what, hint = _NO_INTERPRETER if is_script else _WRONG[number]
        return HookNotExecutable(f"{name} {what}", hint=hint)
    if step == "user":
        return CommandsUnusable(
            f"the agent cannot become the user that commands run as: {reason}",
            hint="Run the agent as root, or leave commands.user out.",
        )
    if step == "directory":
        return CommandsUnusable(f"commands cannot enter the tree of the release: {reason}")
    return CommandsUnusable(f"{name} cannot be started on this device: {reason}")

"""The command line: commands only, every effect is somewhere below.

group     the list of commands, imported as they are named; what a failure looks like
options   --config, --set and --json
answer    how an outcome is printed, and becomes an exit code
run, ask, verify, status, history, settings    the commands
status_page, history_table, phrases            what people read
demo      a made-up device with a real agent
"""

from __future__ import annotations

import errno
import os
import sys
from contextlib import suppress

from ota_agent.cli.group import ota_agent

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO})


def main() -> None:
    """Run the command line and exit."""
    # Any package installed beside the agent could hook into the check of its configuration, and
    # looking for such costs a tenth of what `status` may take.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    try:
        ota_agent.main(prog_name="ota-agent")
    except OSError as error:
        # What fails on a disk names its file, and is translated where it happens.
        if error.errno not in _FULL or error.filename is not None:
            raise
        # What is left in the buffer would fail again at the very end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        with suppress(OSError):
            sys.stderr.write(f"error: stdout takes nothing more: {error.strerror}\n")
        sys.exit(1)


__all__ = ["main", "ota_agent"]

"""The command line: commands only, every effect is somewhere below.

group     the list of commands, imported as they are named; what a failure looks like
options   --config, --set and --json
answer    how an outcome is printed, and becomes an exit code
run, ask, verify, status, history, settings    the commands
status_page, history_table, phrases            what people read
demo      a made-up device with a real agent
"""

from __future__ import annotations

import os

from ota_agent.cli.group import ota_agent


def main() -> None:
    """Run the command line and exit."""
    # Any package installed beside the agent could hook into the check of its configuration, and
    # looking for such costs a tenth of what `status` may take.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    ota_agent.main(prog_name="ota-agent")


__all__ = ["main", "ota_agent"]

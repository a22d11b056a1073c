"""`demo`: the story in a directory of its own, and how it ends."""

from __future__ import annotations

import errno
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click

from ota_agent.cli.demo.story import Story
from ota_agent.cli.demo.telling import INDENT, Teller, Unexpected
from ota_agent.cli.group import Interrupted

if TYPE_CHECKING:
    from types import FrameType

LOG_LINES = 12


@click.command()
def demo() -> None:
    """Show on a made-up device what the agent does.

    It takes about half a minute, and no account, no network and no root. A publisher's repository
    and a device are made in a temporary directory, which is kept.
    """
    # Whoever ends the demo must not leave an agent behind.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _end)
    root = _make_root()
    teller = Teller()
    story = Story(root, teller)
    began = time.monotonic()
    teller.line("The real agent, on a device that is made up for it. All of it is in")
    teller.line(str(root))
    try:
        story.tell()
        _show(story, teller)
    except Unexpected as error:
        _fail(story, teller, error)
    except OSError as error:
        if error.errno == errno.EPIPE:
            raise  # the reader of the story has gone
        _fail(story, teller, Unexpected("the demo's own files", "files to read and write", error))
    except KeyboardInterrupt as error:
        teller.line()
        raise Interrupted(f"; {root} is kept") from error
    finally:
        story.device.stop()
    teller.line()
    seconds = time.monotonic() - began
    teller.line(click.style(f"All six acts went as they should, in {seconds:.0f} s.", fg="green"))
    _explain(root, teller)


def _make_root() -> Path:
    try:
        # Resolved: on some systems the temporary directory is behind a link.
        return Path(tempfile.mkdtemp(prefix="ota-agent-demo-")).resolve()
    except OSError as error:
        raise click.ClickException(
            f"there is no place for the demo: {error}\nhint: TMPDIR names one."
        ) from error


def _show(story: Story, teller: Teller) -> None:
    """Show the device's own pages, while its agent still runs."""
    teller.begin_act("The device in its own words")
    story.device.show_page("status")
    teller.line()
    story.device.show_page("history")
    code = story.device.stop()
    if code:
        raise Unexpected("the agent ends when it is asked to", "exit code 0", f"exit code {code}")


def _explain(root: Path, teller: Teller) -> None:
    teller.line("The agent was stopped, its directory is kept. To look around:")
    teller.line()
    if shutil.which("ota-agent") is None:
        teller.line(f"{INDENT}{_way_to_program()}")
    teller.line(f"{INDENT}cd {root}")
    teller.line(f"{INDENT}export OTA_AGENT_CONFIG=$PWD/config.json")
    for command, meaning in (
        ("ls -l device device/releases", "what the disk of a device looks like"),
        ("git -C publisher log -p", "what was published"),
        ("less agent.log", "what the agent said"),
        ("ota-agent run --device-id demo", "start it again; stop it with Ctrl-C"),
        ("ota-agent --help", "what else there is"),
    ):
        teller.line(f"{INDENT}{command:<34}# {meaning}")
    teller.line()
    teller.line("To remove it; what is in releases/ is sealed against writing:")
    teller.line()
    teller.line(f"{INDENT}chmod -R u+w {root}")
    teller.line(f"{INDENT}rm -r {root}")


def _way_to_program() -> str:
    program = Path(sys.executable).with_name("ota-agent")
    if program.exists():
        return f"PATH={program.parent}:$PATH"
    return f"alias ota-agent='{sys.executable} -m ota_agent'"


def _fail(story: Story, teller: Teller, error: Unexpected) -> NoReturn:
    """Tell what was not as it should be, and exit."""
    story.device.stop()
    teller.line()
    teller.line(click.style(f'FAILED in "{teller.act}"', fg="red", bold=True))
    teller.say(f"looked at: {error.what}")
    teller.say(f"expected:  {error.expected}")
    teller.say(f"found:     {error.found}")
    teller.line()
    log = story.device.log
    if log.path.exists():
        teller.line("The agent's last words:")
        for line in log.last_lines(LOG_LINES):
            teller.output(line)
        teller.line("Its whole log, and all the rest beside it:")
        teller.line(f"{INDENT}{log.path}")
    else:
        teller.line("The agent had not been started, so there is no log. What there is:")
        teller.line(f"{INDENT}{log.path.parent}")
    sys.exit(1)


def _end(number: int, _: FrameType | None) -> None:
    sys.exit(128 + number)

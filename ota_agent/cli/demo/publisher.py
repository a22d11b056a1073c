"""The publisher: a git repository, and a small application that grows from release to release."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

from ota_agent.cli.demo.telling import Unexpected

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

GREETING = "app/greeting.txt"

# Short, for a demo: a second of probation, five looks a second.
_MANIFEST = """\
# What the release says of itself; docs/manifest.md tells all of it.
[probation]
seconds = 1

[[probe]]
command = ["sh", "bin/self-test.sh"]
interval_s = 0.2
required = 3
"""

_HOOK = """
[hooks]
post_activate = ["sh", "bin/restart.sh"]
"""

_SELF_TEST = """\
# The agent runs this to learn whether the release works: exit code 0 says yes.
if ! grep -Eqx 'port=[0-9]+' app/settings.conf; then
    echo "app/settings.conf: port is no number"
    exit 1
fi
"""

_RESTART = """\
# Stands for the restart of a service that takes its time.
sleep 2
"""


def release(version: str, *, port: str = "8080", is_slow: bool = False) -> dict[str, str]:
    """Give the files of a release: path to content."""
    files = {
        "README.txt": "The application of the demo.\n",
        GREETING: f"Hello from {version}\n",
        "app/settings.conf": f"port={port}\n",
        "bin/self-test.sh": _SELF_TEST,
        "ota.toml": _MANIFEST,
    }
    if is_slow:
        files |= {"bin/restart.sh": _RESTART, "ota.toml": _MANIFEST + _HOOK}
    return files


class Publisher:
    """An ordinary repository with a work tree, that nothing of the user's git reaches."""

    def __init__(self, directory: Path) -> None:
        """Publish from `directory`, which is not there yet."""
        self.directory = directory

    def create(self) -> None:
        """Make the repository."""
        self.directory.mkdir()
        self._git("init", "--quiet", "--template=", "--initial-branch=main")

    def publish(self, version: str, files: Mapping[str, str]) -> None:
        """Commit exactly these files and tag the commit with the version."""
        for path, content in files.items():
            file = self.directory / path
            file.parent.mkdir(exist_ok=True)
            file.write_text(content, encoding="utf-8")
        self._git("add", "--all")
        self._git("commit", "--quiet", f"--message=Release {version}")
        self._git("tag", f"v{version}")

    def _git(self, *arguments: str) -> None:
        try:
            done = subprocess.run(
                ["git", *arguments],  # noqa: S607 - the git that the user has
                cwd=self.directory,
                env=_environment(self.directory.parent),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                check=False,
            )
        except OSError as error:
            raise Unexpected("the publisher's git", "git on the PATH", error.strerror) from error
        if done.returncode:
            found = done.stderr.strip() or f"exit code {done.returncode}"
            raise Unexpected("the publisher's git", f"git {arguments[0]} works", found)


def _environment(home: Path) -> dict[str, str]:
    who = {"NAME": "Publisher", "EMAIL": "publisher@example.com"}
    people = {f"GIT_{p}_{key}": who[key] for p in ("AUTHOR", "COMMITTER") for key in who}
    return {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": str(home),
        "LC_ALL": "C",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_NOSYSTEM": "1",
        **people,
    }

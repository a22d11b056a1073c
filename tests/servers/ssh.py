"""A real sshd on loopback, for this user and for one key only."""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from types import TracebackType

SSHD = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")

_CONFIG = """\
ListenAddress 127.0.0.1
HostKey "{directory}/host_key"
AuthorizedKeysFile "{directory}/device_key.pub"
PidFile none
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
StrictModes no
PermitRootLogin prohibit-password
LogLevel ERROR
AcceptEnv GIT_PROTOCOL
"""


class SshServer:
    """Lets the holder of `key` run git here; `known_hosts` has its host key."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(mode=0o700, parents=True)
        self.key = directory / "device_key"
        self.other_key = directory / "other_key"
        self.known_hosts = directory / "known hosts"
        for name in ("host_key", self.key.name, self.other_key.name):
            generate = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(directory / name)]
            subprocess.run(generate, check=True)
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port: int = free.getsockname()[1]
        host_key = (directory / "host_key.pub").read_text()
        self.known_hosts.write_text(f"[127.0.0.1]:{self.port} {host_key}")
        self._config = directory / "sshd_config"
        self._config.write_text(_CONFIG.format(directory=directory))
        self._process: subprocess.Popen[bytes] | None = None

    def url(self, path: Path) -> str:
        """Give the address of a repository of this user."""
        return f"ssh://{getpass.getuser()}@127.0.0.1:{self.port}{path}"

    def __enter__(self) -> Self:
        assert SSHD is not None
        if os.geteuid() == 0:
            # sshd asks for it when it is root, and only then.
            Path("/run/sshd").mkdir(mode=0o755, parents=True, exist_ok=True)
        arguments = [SSHD, "-D", "-e", "-f", str(self._config), "-p", str(self.port)]
        self._process = subprocess.Popen(
            arguments, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        pause = threading.Event()
        for _ in range(500):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return self
            if self._process.poll() is not None:
                break
            pause.wait(0.02)
        self._process.kill()
        _, words = self._process.communicate()
        raise AssertionError(f"sshd did not start: {words.decode()}")

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._process is not None
        self._process.terminate()
        self._process.communicate()

"""What a publisher's command wrote: the end of it for people, its first lines for the log."""

from __future__ import annotations

from ota_agent.log import get_logger

KEPT_BYTES = 4096
# A command that floods must not flood the device's journal.
LOGGED_LINES = 1000

log = get_logger(__name__)


class CommandOutput:
    """Takes any amount and any bytes, and holds 8 KiB of it."""

    def __init__(self, command: str) -> None:
        """`command` names it in the log."""
        self._command = command
        self._kept = b""
        self._line = b""
        self._logged = 0

    def add(self, chunk: bytes) -> None:
        """Take what came next; whole lines go to the log at debug, each cut at 4 KiB."""
        self._kept = (self._kept + chunk)[-KEPT_BYTES:]
        if self._logged >= LOGGED_LINES:
            return
        *lines, rest = chunk.split(b"\n", LOGGED_LINES)
        for line in lines:
            self._log(self._line + line)
            self._line = b""
        self._line = (self._line + rest)[:KEPT_BYTES]

    def end(self) -> str:
        """Give the last 4 KiB as text that is safe to show."""
        if self._line:
            self._log(self._line)
            self._line = b""
        return _text(self._kept).strip("\n")

    def _log(self, line: bytes) -> None:
        self._logged += 1
        if self._logged < LOGGED_LINES:
            log.debug("command output", command=self._command, line=_text(line[:KEPT_BYTES]))
        elif self._logged == LOGGED_LINES:
            log.debug("command output goes on unlogged", command=self._command)


def _text(data: bytes) -> str:
    # A publisher's escape sequences would move the cursor and rename the window of an operator.
    text = data.decode(errors="replace").replace("\r\n", "\n").replace("\r", "\n")
    return "".join(c if c.isprintable() or c in "\n\t" else "\ufffd" for c in text)

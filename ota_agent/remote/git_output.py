"""What git says while it works: progress, traces, and what is left for the error."""

from __future__ import annotations

import re
from typing import Final

_TRACE = re.compile(rb"\d\d:\d\d:\d\d\.\d{6} \S+ +(.*)")
_PACKET = re.compile(rb"packet: +\S+[<>] (.*)")
_RETRY_AFTER = re.compile(rb"(?i)<= Recv header: retry-after: *(\d{1,9})\s*$")
_RECEIVING = re.compile(rb"Receiving objects:.*?, ([\d.]+) (bytes|KiB|MiB|GiB)")
_UNITS: Final = {b"bytes": 1, b"KiB": 1024, b"MiB": 1024**2, b"GiB": 1024**3}
# Progress is rewritten in place, thousands of times: none of it explains a failure.
_NOISE = re.compile(
    rb"(?:remote: )?(?:Enumerating|Counting|Compressing|Receiving|Resolving|Checking|Unpacking)\b"
)
_MAX_KEPT_BYTES = 64 * 1024


class GitOutput:
    """Reads stderr as it comes.

    Attributes:
        received_bytes: what came of the pack so far, to git's own two decimals.
        retry_after_s: what the server asked for, where it did.
        is_smart: git's own protocol was spoken; a captive portal's page is not.
        has_filters: the server offers partial fetches.

    """

    def __init__(self) -> None:
        self.received_bytes = 0
        self.retry_after_s: float | None = None
        self.is_smart = False
        self.has_filters = False
        self._rest = b""
        self._kept: list[bytes] = []
        self._kept_bytes = 0

    @property
    def text(self) -> str:
        """What git said, without traces and progress."""
        return b"\n".join([*self._kept, self._rest]).decode("utf-8", "replace")

    def feed(self, data: bytes) -> None:
        """Take the next piece of stderr."""
        *lines, self._rest = (self._rest + data).replace(b"\r", b"\n").split(b"\n")
        for line in lines:
            self._take(line)

    def _take(self, line: bytes) -> None:
        if received := _RECEIVING.match(line):
            self.received_bytes = round(float(received[1]) * _UNITS[received[2]])
        elif trace := _TRACE.match(line):
            self._take_trace(trace[1])
        elif not _NOISE.match(line) and self._kept_bytes < _MAX_KEPT_BYTES:
            self._kept.append(line)
            self._kept_bytes += len(line)

    def _take_trace(self, line: bytes) -> None:
        # Never kept: a trace of headers could hold more than was asked for.
        if packet := _PACKET.match(line):
            self.is_smart = True
            words = packet[1].split()
            if words and words[0].startswith(b"fetch="):
                self.has_filters |= b"filter" in words
        elif asked := _RETRY_AFTER.search(line):
            self.retry_after_s = float(asked[1])

"""What the agent says to the log: constant event texts with keys, always on stderr.

    log = get_logger(__name__)
    log.info("release staged", release=release, bytes=size)

Formats: `journal` gives journald native fields (`journalctl OTA_RELEASE=1.4.0-…`), or plain lines
with its priority prefixes where it cannot; `json` one object a line; `console` is for people.
Secrets are masked in all of them. structlog and the standard library's logging are imported with
`configure`, so that a command which logs nothing does not pay for them.
"""

from ota_agent.log.logger import Format, Level, Logger, configure, get_logger
from ota_agent.log.masking import MASK, mask, register_secret

__all__ = [
    "MASK",
    "Format",
    "Level",
    "Logger",
    "configure",
    "get_logger",
    "mask",
    "register_secret",
]

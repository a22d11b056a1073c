"""Tells systemd how the agent is doing; where there is no systemd, it tells nobody."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from ota_agent.log import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable

log = get_logger(__name__)


class Notifier:
    """The service's side of `Type=notify`; never raises, whatever NOTIFY_SOCKET leads to."""

    def __init__(self) -> None:
        """Look for systemd: NOTIFY_SOCKET in the environment, and systemd's own module."""
        self._notify = _notify_function() if os.environ.get("NOTIFY_SOCKET") else None
        self._has_failed = False

    @property
    def watchdog_interval_s(self) -> float | None:
        """Seconds of silence after which systemd kills the agent; None: it does not watch.

        `keepalive` is due at half of it.
        """
        if self._notify is None:
            return None
        # Set for another process: a shell around the agent, say, is watched instead of it.
        if os.environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
            return None
        interval_us = os.environ.get("WATCHDOG_USEC", "")
        return int(interval_us) / 1e6 if interval_us.isdecimal() and int(interval_us) else None

    def ready(self) -> None:
        """Say that the agent is up; also after `reloading`."""
        self._tell("READY=1")

    def status(self, sentence: str) -> None:
        """Show what the agent does now in `systemctl status`."""
        # A line break would begin another assignment.
        self._tell(f"STATUS={' '.join(sentence.split())}")

    def keepalive(self) -> None:
        """Say that the loop moves."""
        self._tell("WATCHDOG=1")

    def reloading(self) -> None:
        """Say that the configuration is read again; `ready` ends it."""
        now_us = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self._tell("RELOADING=1", f"MONOTONIC_USEC={now_us}")

    def stopping(self) -> None:
        """Say that the agent ends."""
        self._tell("STOPPING=1")

    def extend(self, seconds: float) -> None:
        """Ask for so much more time, from now on, to start, reload or stop."""
        self._tell(f"EXTEND_TIMEOUT_USEC={int(seconds * 1e6)}")

    def _tell(self, *assignments: str) -> None:
        if self._notify is None:
            return
        try:
            self._notify("\n".join(assignments))
        except OSError as error:
            # Each keepalive would say it again.
            if not self._has_failed:
                self._has_failed = True
                log.warning("systemd cannot be told", reason=str(error))


def _notify_function() -> Callable[[str], object] | None:
    try:
        from systemd import daemon
    except ImportError:
        log.warning("systemd is not told anything: its module is not installed")
        return None
    notify: Callable[[str], object] = daemon.notify
    return notify

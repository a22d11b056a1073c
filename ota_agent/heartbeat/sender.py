"""Heartbeat: sends the picture and the outbox to the operator's side."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from ota_agent import log
from ota_agent.errors import AgentError
from ota_agent.model.report import Report
from ota_agent.store.outbox import Outbox

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ota_agent.ports import StatusSink
    from ota_agent.store.database import Database

_log = log.get_logger(__name__)


class Heartbeat:
    """Reports on a thread of its own, so that a slow answer never holds up the device."""

    def __init__(
        self,
        sink: StatusSink,
        database: Database,
        picture: Callable[[], Mapping[str, Any]],
        interval_s: float,
    ) -> None:
        """Send `picture()` and the outbox to `sink` every `interval_s` seconds."""
        self._sink = sink
        self._database = database
        self._outbox = Outbox(database)
        self._picture = picture
        self._interval_s = interval_s
        self._changed = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="ota-heartbeat", daemon=True)

    def start(self) -> None:
        """Begin to report."""
        self._thread.start()

    def hurry(self) -> None:
        """Report now: something happened that an operator waits for."""
        self._changed.set()

    def stop(self, timeout_s: float) -> None:
        """Report once more and end, in bounded time."""
        self._stopping.set()
        self._changed.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def sync(self) -> float:
        """Report once; gives the seconds until the next time."""
        picture = self._picture()
        events = self._outbox.next_events()
        directives = self._sink.sync(
            Report(str(picture["device_id"]), self._database.epoch, picture, events)
        )
        if directives.accepted_through:
            self._outbox.accepted(directives.accepted_through)
        is_behind = bool(events) and self._outbox.depth().rows > 0 and directives.accepted_through
        return 0.0 if is_behind else directives.next_sync_s or self._interval_s

    def _run(self) -> None:
        while True:
            is_last = self._stopping.is_set()
            try:
                pause_s = self.sync()
            except AgentError as error:
                _log.warning("report not accepted", code=error.code, error=error.message)
                pause_s = self._interval_s
            if is_last:
                return
            self._changed.wait(pause_s)
            self._changed.clear()

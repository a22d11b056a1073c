"""Where reports go in a test: they are kept, and may be refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ota_agent.model.report import Directives

if TYPE_CHECKING:
    from ota_agent.model.report import Event, Report


class FakeStatusSink:
    """Keeps every event once, by epoch and sequence, and the last heartbeat."""

    def __init__(self) -> None:
        self.heartbeats: list[dict[str, object]] = []
        self.events: dict[tuple[str, int], Event] = {}
        self.next_sync_s: float | None = None
        self._errors: list[BaseException] = []

    def fail(self, error: BaseException, times: int = 1) -> None:
        """Have the next reports fail so."""
        self._errors += [error] * times

    def sync(self, report: Report) -> Directives:
        if self._errors:
            raise self._errors.pop(0)
        self.heartbeats.append(dict(report.heartbeat))
        for event in report.events:
            self.events.setdefault((report.epoch, event.sequence), event)
        stored = [sequence for epoch, sequence in self.events if epoch == report.epoch]
        return Directives(max(stored, default=0), self.next_sync_s)

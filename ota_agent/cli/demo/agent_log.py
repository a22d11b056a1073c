"""The agent's log, read while it is being written: one JSON object a line."""

from __future__ import annotations

import json
from datetime import datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class AgentLog:
    """What every agent of the demo has written into one file."""

    def __init__(self, path: Path) -> None:
        """Read `path` from its beginning."""
        self.path = path
        self._offset = 0
        self._entered: dict[str, dict[str, datetime]] = {}

    def new_phases(self) -> Iterator[tuple[str, bool]]:
        """Give the phases that began since the last time; True: the first of its deployment."""
        for line in self._new_lines():
            entry = _parse(line)
            if entry is not None and entry.get("event") == "phase begins":
                phases = self._entered.setdefault(entry["deployment"], {})
                yield entry["phase"], not phases
                phases[entry["phase"]] = datetime.fromisoformat(entry["timestamp"])

    def seconds_in(self, deployment: str, phase: str, next_phase: str) -> float:
        """Tell how long a phase took, up to the one after it."""
        entered = self._entered[deployment]
        return (entered[next_phase] - entered[phase]).total_seconds()

    def last_lines(self, count: int) -> list[str]:
        """Give the newest lines, shorter than they are in the file."""
        text = self.path.read_text(encoding="utf-8", errors="replace")
        return [_shown(line) for line in text.splitlines()[-count:]]

    def _new_lines(self) -> Iterator[bytes]:
        with self.path.open("rb") as file:
            file.seek(self._offset)
            for line in file:
                if line.endswith(b"\n"):  # else it is being written
                    self._offset += len(line)
                    yield line


def _parse(line: str | bytes) -> dict[str, Any] | None:
    try:
        entry = json.loads(line)
    except ValueError:
        return None  # what was said before there was a log
    return entry if isinstance(entry, dict) else None


def _shown(line: str) -> str:
    entry = _parse(line)
    if entry is None:
        return line
    time = str(entry.get("timestamp", ""))[11:23]
    keys = {
        key: value
        for key, value in entry.items()
        if key not in {"timestamp", "level", "logger", "event", "deployment"}
    }
    rest = "".join(f" {key}={value}" for key, value in keys.items() if value is not None)
    return f"{time} {entry.get('level', '')}: {entry.get('event', '')}{rest}"

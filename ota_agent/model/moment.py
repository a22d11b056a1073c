"""Times as text: RFC 3339, UTC, milliseconds."""

from __future__ import annotations

from datetime import UTC, datetime


def to_text(moment: datetime) -> str:
    """Write a time: `2026-01-31T23:59:59.000Z`."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def maybe_text(moment: datetime | None) -> str | None:
    """Write a time, where there is one."""
    return None if moment is None else to_text(moment)


def to_time(text: str) -> datetime:
    """Read what `to_text` wrote."""
    return datetime.fromisoformat(text)


def maybe_time(text: str | None) -> datetime | None:
    """Read what `to_text` wrote, where something was written."""
    return None if text is None else to_time(text)

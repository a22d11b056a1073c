"""Times, durations and sizes as people read them."""

from __future__ import annotations

from datetime import datetime

_UNITS = (("d", 86400), ("h", 3600), ("min", 60), ("s", 1))
_SIZES = ("B", "KiB", "MiB", "GiB", "TiB")
_KIB = 1024
_TEN = 10


def moment(text: str) -> datetime:
    """Read a time of the JSON shapes, RFC 3339."""
    return datetime.fromisoformat(text)


def clock(text: str) -> str:
    """Write a time to the minute, UTC: `2026-03-01 14:05`."""
    return f"{moment(text):%Y-%m-%d %H:%M}"


def ago(text: str, now: datetime) -> str:
    """Write how long ago a time is; a clock that was set back makes it later."""
    seconds = (now - moment(text)).total_seconds()
    if abs(seconds) < 1:
        return "just now"
    return f"{span(seconds)} ago" if seconds >= 0 else f"in {span(-seconds)}"


def span(seconds: float) -> str:
    """Write a duration with one unit, two from an hour up to ten days: `40 ms`, `12 s`, `3 h`."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    name, size = next(unit for unit in _UNITS if seconds >= unit[1])
    return (
        f"{seconds / size:.1f} {name}" if seconds < _TEN * size else f"{seconds / size:.0f} {name}"
    )


def size(count: float) -> str:
    """Write a number of bytes: `312 B`, `4.2 MiB`."""
    power = 0
    while count >= _KIB and power < len(_SIZES) - 1:
        count /= _KIB
        power += 1
    digits = 1 if power and count < _TEN else 0
    return f"{count:.{digits}f} {_SIZES[power]}"


def middle(text: str, width: int) -> str:
    """Shorten in the middle: both ends of a release's id tell something."""
    if len(text) <= width:
        return text
    tail = (width - 2) * 2 // 3
    return f"{text[: width - 2 - tail]}..{text[-tail:]}"

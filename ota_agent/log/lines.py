"""From an event to a line on stderr or an entry of the journal."""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog
from typing_extensions import override

from ota_agent.log.logger import get_logger
from ota_agent.log.masking import plain

if TYPE_CHECKING:
    from collections.abc import Mapping, MutableMapping, Sequence

    from structlog.typing import Processor

    from ota_agent.log.logger import Format, Level

_PRIORITIES = {"debug": 7, "info": 6, "warning": 4, "error": 3}
_IDENTIFIER = "ota-agent"
_JOURNALD = Path("/run/systemd/journal/socket")
_STDERR = 2

# A line is written whole, whichever thread it comes from.
_lock = threading.Lock()


def default_format() -> Format:
    """Choose by where stderr leads: journald, a terminal, or anything else."""
    try:
        status = os.fstat(_STDERR)
    except OSError:  # closed
        return "json"
    if os.environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}":
        return "journal"
    return "console" if os.isatty(_STDERR) else "json"


def set_up(log_format: Format, threshold: int) -> None:
    """Have structlog, and what libraries say from warnings on, written in this format."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            _make_plain,
            *_renderers(log_format),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=_Sink,
        cache_logger_on_first_use=False,
    )
    root = logging.getLogger()
    for handler in [known for known in root.handlers if isinstance(known, _FromLibrary)]:
        root.removeHandler(handler)
    root.addHandler(_FromLibrary(logging.WARNING))


def _make_plain(_: object, __: str, event: MutableMapping[str, Any]) -> dict[str, Any]:
    first = {name: event.pop(name, None) for name in ("timestamp", "level", "logger", "event")}
    return plain({**first, **event})


def _make_visible(_: object, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Show escape sequences instead of having the terminal carry them out."""
    for key, value in event.items():
        if isinstance(value, str) and not value.isprintable():
            event[key] = "".join(
                c if c.isprintable() or c in "\n\t" else ascii(c)[1:-1] for c in value
            )
    return event


def _renderers(log_format: Format) -> list[Processor]:
    if log_format == "json":
        return [structlog.processors.JSONRenderer()]
    if log_format == "journal":
        return [_make_visible, _journal_entry]
    renderer = structlog.dev.ConsoleRenderer(
        colors=os.isatty(_STDERR) and not os.environ.get("NO_COLOR"),
        sort_keys=False,
        exception_formatter=structlog.dev.plain_traceback,
    )
    return [_make_visible, renderer]


def _journal_entry(
    _: object, __: str, event: Mapping[str, Any]
) -> tuple[tuple[str], dict[str, list[bytes]]]:
    """Give a line with its priority, and the same as journald's fields."""
    priority = _PRIORITIES[event["level"]]
    keys = {
        key: value
        for key, value in event.items()
        if key not in {"timestamp", "level", "event", "exception"}
    }
    message = " ".join([event["event"], *(f"{key}={_word(value)}" for key, value in keys.items())])
    if "exception" in event:
        message = f"{message}\n{event['exception']}"
    fields = {
        "MESSAGE": message,
        "PRIORITY": priority,
        "SYSLOG_IDENTIFIER": _IDENTIFIER,
        "OTA_EVENT": event["event"],
        **{_field(key): value for key, value in keys.items()},
    }
    lines = "\n".join(f"<{priority}>{line}" for line in message.splitlines())
    return (lines,), {"fields": [_encode(name, value) for name, value in fields.items()]}


def _word(value: object) -> str:
    if isinstance(value, str) and value.isprintable() and value and " " not in value:
        return value
    return json.dumps(value)


def _field(key: str) -> str:
    name = "".join(c if c.isascii() and c.isalnum() else "_" for c in key.upper())
    return f"OTA_{name}"[:64]  # journald drops a whole entry for a longer name


def _encode(name: str, value: object) -> bytes:
    text = value if isinstance(value, str) else json.dumps(value)
    return f"{name}={text}".encode(errors="backslashreplace")


class _Sink:
    """Where rendered lines go: journald for an entry with fields, else stderr."""

    def __init__(self, *_: object) -> None:
        self._send = _journald()

    def write(self, line: str, fields: Sequence[bytes] | None = None) -> None:
        try:
            if fields is not None and self._send is not None:
                self._send(*fields)
                return
        except OSError:
            pass  # journald is being restarted: stderr leads to it as well
        try:
            with _lock:
                # Looked up each time: whoever replaces it wants what is said from then on.
                sys.stderr.write(f"{line}\n")
                sys.stderr.flush()
        except (OSError, ValueError):
            pass  # no reader, a full disk, closed: a log that is lost must not stop the agent

    debug = info = warning = error = write


def _journald() -> Any:  # noqa: ANN401 - systemd's module has no types
    if not _JOURNALD.exists():
        return None
    try:
        from systemd import journal
    except ImportError:
        return None
    return journal.sendv


class _FromLibrary(logging.Handler):
    """Takes what libraries say through the standard library's logging, from warnings on."""

    @override
    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = record.getMessage()
        except (TypeError, ValueError):
            text = str(record.msg)
        level: Level = "error" if record.levelno >= logging.ERROR else "warning"
        keys = {"exc_info": record.exc_info} if record.exc_info else {}
        get_logger(record.name).write(level, text, keys)

"""What the agent says to the log: constant event texts with keys, always on stderr.

    log = get_logger(__name__)
    log.info("release staged", release=release, bytes=size)

Formats: `journal` gives journald native fields (`journalctl OTA_RELEASE=1.4.0-…`), or plain lines
with its priority prefixes where it cannot; `json` one object a line; `console` is for people.
Secrets are masked in all of them. structlog is imported with the first line that is written, so
that a command which logs nothing does not pay for it.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from typing_extensions import override

if TYPE_CHECKING:
    from collections.abc import Mapping, MutableMapping, Sequence

Format: TypeAlias = Literal["journal", "console", "json"]
Level: TypeAlias = Literal["debug", "info", "warning", "error"]

LEVELS: Mapping[Level, int] = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}
MASK = "***"

_PRIORITIES = {"debug": 7, "info": 6, "warning": 4, "error": 3}
_IDENTIFIER = "ota-agent"
_JOURNALD = Path("/run/systemd/journal/socket")
_SECRET_KEYS = frozenset({"authorization", "key", "password", "secret", "token"})
# A shorter one is no secret, and masking it would garble everything else.
_LEAST_SECRET = 4


class _State:
    """The set-up of this process."""

    threshold: int = logging.WARNING
    is_configured: bool = False
    secrets: tuple[str, ...] = ()
    lock = threading.Lock()


class Logger:
    """Writes events under a name, with the keys that it was bound to."""

    __slots__ = ("_keys", "_name")

    def __init__(self, name: str, keys: Mapping[str, object]) -> None:
        """`keys` go with each event; see `get_logger`."""
        self._name = name
        self._keys = keys

    def bind(self, **keys: object) -> Logger:
        """Give a logger that adds these keys to each event."""
        return Logger(self._name, {**self._keys, **keys})

    def debug(self, event: str, /, **keys: object) -> None:
        """Say what only somebody who looks for a mistake wants to know."""
        self.write("debug", event, keys)

    def info(self, event: str, /, **keys: object) -> None:
        """Say what happened."""
        self.write("info", event, keys)

    def warning(self, event: str, /, **keys: object) -> None:
        """Say what is not as it should be, and stopped nothing."""
        self.write("warning", event, keys)

    def error(self, event: str, /, **keys: object) -> None:
        """Say what failed."""
        self.write("error", event, keys)

    def exception(self, event: str, /, **keys: object) -> None:
        """Say what failed, with the traceback of the exception that is being handled."""
        self.write("error", event, {**keys, "exc_info": True})

    def write(self, level: Level, event: str, keys: Mapping[str, object]) -> None:
        """Say an event of any level; before `configure` only warnings and errors are shown."""
        if LEVELS[level] < _State.threshold:
            return
        if not _State.is_configured:
            configure()
        import structlog

        # `logger` and `event` belong to the line itself, whatever keys are given.
        values = {**self._keys, **keys, "logger": self._name}
        values.pop("event", None)
        getattr(structlog.get_logger(), level)(event, **values)


def get_logger(name: str) -> Logger:
    """Give the logger of a module, which passes its `__name__`."""
    return Logger(name.removeprefix("ota_agent."), {})


def register_secret(value: str) -> None:
    """Have a secret masked wherever it turns up from now on, as it is or as part of a URL."""
    from urllib.parse import quote, quote_plus

    if len(value) >= _LEAST_SECRET:
        with _State.lock:
            known = {*_State.secrets, value, quote(value, safe=""), quote_plus(value)}
            # A secret that holds another one goes first, or its rest would stay.
            _State.secrets = tuple(sorted(known, key=len, reverse=True))


def mask(text: str) -> str:
    """Give the text without any registered secret."""
    for secret in _State.secrets:
        text = text.replace(secret, MASK)
    return text


def configure(log_format: Format | None = None, level: Level = "warning") -> None:
    """Set up the log of this process; again, whenever the configuration has changed.

    Without a format: `journal` where stderr goes to journald, `console` on a terminal, else `json`.
    """
    import structlog

    chosen = log_format or _default_format()
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            _make_plain,
            _renderer(chosen),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        logger_factory=_Sink,
        cache_logger_on_first_use=False,
    )
    root = logging.getLogger()
    for handler in [known for known in root.handlers if isinstance(known, _FromLibrary)]:
        root.removeHandler(handler)
    root.addHandler(_FromLibrary(logging.WARNING))
    _State.threshold = LEVELS[level]
    _State.is_configured = True


def _default_format() -> Format:
    try:
        status = os.fstat(2)
    except OSError:  # closed
        return "json"
    if os.environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}":
        return "journal"
    return "console" if os.isatty(2) else "json"


# --- from event to line -------------------------------------------------------------------------


def _make_plain(_: object, __: str, event: MutableMapping[str, Any]) -> dict[str, Any]:
    """Leave nothing but masked text and numbers: what is rendered later has no secret in it."""
    first = {name: event.pop(name, None) for name in ("timestamp", "level", "logger", "event")}
    return {key: _plain(key, value) for key, value in {**first, **event}.items()}


def _plain(key: str, value: object) -> object:
    if value is None or isinstance(value, bool):
        return value
    if key.lower().replace("-", "_").rpartition("_")[2] in _SECRET_KEYS:
        return MASK
    match value:
        case int() | float():
            return value
        case dict():
            return {mask(str(name)): _plain(str(name), inner) for name, inner in value.items()}
        case list() | tuple() | set() | frozenset():
            return [_plain("", inner) for inner in value]
        case _:
            return mask(str(value))


def _renderer(log_format: Format) -> Any:  # noqa: ANN401 - structlog's own type for it
    import structlog

    if log_format == "json":
        return structlog.processors.JSONRenderer()
    if log_format == "journal":
        return _journal_entry
    return structlog.dev.ConsoleRenderer(
        colors=os.isatty(2) and not os.environ.get("NO_COLOR"),
        sort_keys=False,
        exception_formatter=structlog.dev.plain_traceback,
    )


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
    text = value if isinstance(value, str) else json.dumps(value)
    return text if text.isprintable() and text and " " not in text else json.dumps(text)


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
            with _State.lock:
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

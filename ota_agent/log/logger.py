"""The loggers that the agent's modules hold; cheap until they say something."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping

Format: TypeAlias = Literal["journal", "console", "json"]
Level: TypeAlias = Literal["debug", "info", "warning", "error"]

# The standard library's numbers, without its import.
LEVELS: Mapping[Level, int] = {"debug": 10, "info": 20, "warning": 30, "error": 40}


class _State:
    """The set-up of this process."""

    threshold = LEVELS["warning"]
    is_configured = False


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


def configure(log_format: Format | None = None, level: Level = "warning") -> None:
    """Set up the log of this process; again, whenever the configuration has changed.

    Without a format: `journal` where stderr goes to journald, `console` on a terminal, else `json`.
    """
    from ota_agent.log import lines

    lines.set_up(log_format or lines.default_format(), LEVELS[level])
    _State.threshold = LEVELS[level]
    _State.is_configured = True

"""Wake: what ends the loop's sleep, from any thread and from the handler of a signal."""

from __future__ import annotations

import signal
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import FrameType


class Wake:
    """The loop sleeps here until something happens.

    A handler runs in the midst of whatever its thread does. With a lock that this thread holds
    already (that of a `threading.Event` which it is clearing, say) it would wait for itself for
    ever; `SimpleQueue.put` may be called there.
    """

    def __init__(self) -> None:
        """Nobody has called, and nobody asked the agent to end."""
        self.is_stopping = False
        self._calls: SimpleQueue[None] = SimpleQueue()

    def listen(self) -> None:
        """Take the signals: SIGUSR1 only wakes, the others ask the agent to end."""
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1):
            if signal.getsignal(number) is not signal.SIG_IGN:  # as under nohup
                signal.signal(number, self.on_signal)

    def call(self) -> None:
        """End the sleep, or the next one where nobody sleeps."""
        self._calls.put(None)

    def wait(self, timeout_s: float) -> None:
        """Sleep until somebody calls or called; what was called meanwhile is heard at once."""
        with suppress(Empty):
            self._calls.get(timeout=timeout_s)
        for _ in range(self._calls.qsize()):
            self._calls.get_nowait()

    def on_signal(self, number: int, _: FrameType | None) -> None:
        """Handle a signal."""
        self.is_stopping = self.is_stopping or number != signal.SIGUSR1
        self.call()


def outlive_early_calls() -> None:
    """Have a SIGUSR1 do nothing as long as there is no loop to wake: it would end the process.

    No SIG_IGN: children would inherit that.
    """
    signal.signal(signal.SIGUSR1, _do_nothing)


def _do_nothing(_: int, __: FrameType | None) -> None:
    """Whoever called has left a row in the mailbox, which the loop reads first of all."""

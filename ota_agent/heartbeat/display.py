"""Display: what the device shows of itself, kept up to date by the loop."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from ota_agent import log
from ota_agent.errors import AgentError, DeviceError, Superseded, TokenRefused, TransientError
from ota_agent.heartbeat import picture
from ota_agent.model import history
from ota_agent.model.deployment import STUCK, Failure, Phase
from ota_agent.model.moment import maybe_text, to_text
from ota_agent.store import atomic

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from ota_agent.model.deployment import Deployment
    from ota_agent.model.verdict import NoCandidate
    from ota_agent.ports import Clock
    from ota_agent.status import Doing, StatusBoard
    from ota_agent.store.database import Database
    from ota_agent.store.paths import Paths

_log = log.get_logger(__name__)


class Display:
    """status.json, and the small records that `status` shows without a running agent."""

    def __init__(
        self,
        paths: Paths,
        database: Database,
        board: StatusBoard,
        clock: Clock,
        take: Callable[[], dict[str, Any]],
    ) -> None:
        """Show what `take` gives (see `picture.snapshot`)."""
        self._paths = paths
        self._database = database
        self._board = board
        self._clock = clock
        self._take = take
        self._refreshed: tuple[int, Doing] | None = None
        self._told = ""
        self._is_leaving = False

    def picture(self) -> dict[str, Any]:
        """Give the device's whole state as it is to be shown now."""
        shown = self._take()
        return {**shown, "status": "OFFLINE", "agent": None} if self._is_leaving else shown

    def leave(self) -> None:
        """Show from now on that no agent runs any more."""
        self._is_leaving = True
        self._refreshed = None
        self.refresh()

    def refresh(self) -> None:
        """Bring status.json up to date; a full disk must not stop the loop."""
        now = (self._database.changes, self._board.doing)
        if now == self._refreshed:
            return  # asked at every turn of the loop: an idle device must cost nothing
        text = json.dumps(self.picture(), indent=2) + "\n"
        try:
            # It is made anew at each start, so it need not outlive a power cut.
            atomic.write_file(self._paths.status_file, text.encode(), durable=False)
        except DeviceError as error:
            _log.warning("status.json not written", code=error.code, error=error.message)
            return
        self._refreshed = now

    def waits(
        self,
        reason: str,
        until: datetime | None = None,
        owner: str | None = None,
        *,
        is_odd: bool = False,
    ) -> None:
        """Show what is waited for; the same reason keeps its `since`.

        What `is_odd` goes to the log as a warning, and so to whoever waits for a command.
        """
        before, now = self._board.doing.waiting, self._clock.now()
        self._board.wait_for(reason, now, until, owner)
        if before is not None and before.reason == reason:
            return
        say = _log.warning if is_odd else _log.info
        say("waiting", reason=reason, until=maybe_text(until), owner=owner)
        self._database.put(
            picture.WAITING,
            {
                "reason": reason,
                "since": to_text(now),
                "until": maybe_text(until),
                "owner": owner,
            },
        )

    def goes_on(self) -> None:
        """Show that nothing is waited for."""
        if self._board.doing.waiting is not None or self._database.get(picture.WAITING):
            self._board.go_on()
            self._database.put(picture.WAITING, None)

    def nothing_new(self, verdict: NoCandidate) -> None:
        """Say why there is nothing to deploy: once, not at every poll."""
        if verdict.message != self._told:
            _log.info("nothing to deploy", reason=verdict.reason, message=verdict.message)
        self._told = verdict.message

    def source_answered(self) -> None:
        """Show that the source is there; what it failed with before is over."""
        self._board.source_is("online", self._clock.now())
        error = self._database.get(picture.LAST_ERROR)
        if error is not None and error.get("origin") == "source":
            self._database.put(picture.LAST_ERROR, None)

    def source_failed(self, error: AgentError) -> None:
        """Show how the source failed; being offline for a while is no error of the device."""
        is_refused = isinstance(error, TokenRefused)
        self._board.source_is(
            "refused" if is_refused else "offline",
            self._clock.now(),
            breaker="open" if is_refused else "closed",
            error=f"{error.code}: {error.message}",
        )
        _log.warning("source not polled", code=error.code, error=error.message, hint=error.hint)
        if not isinstance(error, TransientError):
            self._remember(
                Failure(error.code, error.message, error.hint, self._clock.now()), "source"
            )

    def deployment_ended(self, ended: Deployment) -> None:
        """Show what went wrong until something goes right."""
        if ended.phase is Phase.STUCK:
            # The error is the release's; what somebody has to look at is what bars the way back.
            cause = ended.notes[STUCK]
            self.waits(f"the way back failed and is tried again: {cause['message']}")
        if ended.phase is Phase.SUCCEEDED:
            self._database.put(picture.LAST_ERROR, None)
        elif ended.error is not None and ended.error.code != Superseded.code:
            self._remember(ended.error, "deployment")

    def _remember(self, failure: Failure, origin: str) -> None:
        self._database.put(
            picture.LAST_ERROR, {**history.failure_as_json(failure), "origin": origin}
        )

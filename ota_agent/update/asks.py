"""Asks: commands under way, from whoever asked to the outcome that answers them.

A check is answered by the next poll. An update is answered by the last deployment of its run: one
that an earlier life left counts, a release that is refused or rejected lets the next one be tried.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ota_agent import log
from ota_agent.errors import AgentError, ReleaseRefused, ReleaseRejected
from ota_agent.model.command import Ask, Command, Exit, Outcome
from ota_agent.model.deployment import Kind, Phase
from ota_agent.update import answers
from ota_agent.update.names import find_kept, find_refused, is_meant

if TYPE_CHECKING:
    from ota_agent.errors import NotYet
    from ota_agent.model.deployment import Deployment
    from ota_agent.model.verdict import Candidate, NoCandidate
    from ota_agent.store.mailbox import Mailbox
    from ota_agent.update.device import Device
    from ota_agent.update.manager import OTAManager

_log = log.get_logger(__name__)

_MANNERS = ("allow_again", "with_data")


@dataclass(slots=True, eq=False)
class Pending:
    """One command, its number in the mailbox (if it came that way), and how it went so far."""

    command: Command
    number: int | None
    is_new: bool = True
    last: tuple[Deployment, Phase] | None = None
    outcome: Outcome | None = None


class Asks:
    """The commands that have no outcome yet."""

    def __init__(self, device: Device, manager: OTAManager, mailbox: Mailbox) -> None:
        """Answer into `mailbox`."""
        self._device = device
        self._manager = manager
        self._mailbox = mailbox
        self._pending: list[Pending] = []
        self._left: Deployment | None = None

    def resume(self, left: Deployment | None) -> None:
        """Answer what an earlier agent took up; `left` is the deployment that is not over yet.

        Who asked for it waits on for its end.
        """
        self._left = left if left is not None and left.kind is Kind.ROLLBACK else None
        number = None if self._left is None else self._left.notes.get("command")
        self._mailbox.clear(but=number)
        if self._left is not None and number is not None:
            self._await_left(self.add(Command(Ask.ROLLBACK), number), self._left)

    def add(self, command: Command, number: int | None = None) -> Pending:
        """Take a command up."""
        pending = Pending(command, number)
        self._pending.append(pending)
        return pending

    def new(self) -> list[Pending]:
        """Give what was taken up since the last time."""
        found = [pending for pending in self._pending if pending.is_new]
        for pending in found:
            pending.is_new = False
        return found

    @property
    def are_open(self) -> bool:
        """Whether anybody still waits: what was taken up is not left to the next start."""
        return bool(self._pending)

    @property
    def wants_poll(self) -> bool:
        """Whether somebody waits for a poll: then no backoff binds it."""
        return any(p.command.ask in {Ask.CHECK, Ask.UPDATE} for p in self._pending)

    @property
    def wants_check(self) -> bool:
        """Whether somebody asks what there is, whatever is under way."""
        return bool(self._of(Ask.CHECK))

    @property
    def accepts_deletions(self) -> bool:
        """Whether somebody acknowledged the mass deletion of what is offered."""
        return any(p.command.args.get("accept_deletions") for p in self._of(Ask.UPDATE))

    def notes_for_update(self) -> dict[str, Any]:
        """Give what a deployment that answers an update has to know of who asked."""
        updates = self._of(Ask.UPDATE)
        notes: dict[str, Any] = {"asked_by": updates[0].command.asked_by} if updates else {}
        if self.accepts_deletions:
            notes["accept_deletions"] = True
        return notes

    # --- what happens, and whom it answers -------------------------------------------------------

    def candidate(self, candidate: Candidate) -> None:
        """Answer who asked whether there is something to deploy."""
        for pending in self._of(Ask.CHECK):
            self._answer(pending, answers.candidate(candidate))

    def nothing(self, verdict: NoCandidate, *, is_idle: bool) -> None:
        """Answer who waits where there is nothing to deploy.

        Unless `is_idle`, an update is answered by the deployment under way.
        """
        outcome = answers.nothing(verdict)
        for pending in self._of(Ask.CHECK, *([Ask.UPDATE] if is_idle else [])):
            last = pending.last
            # What was only refused is nothing to do, the first time as at every later one.
            if last is not None and not was_refused(last[0]):
                self._answer(pending, answers.of_deployment(*last))
            else:
                self._answer(pending, outcome)

    def poll_failed(self, error: AgentError) -> None:
        """Answer whom a failing source leaves without one."""
        for pending in self._of(Ask.CHECK, Ask.UPDATE):
            self._answer(pending, answers.failed(error))

    def deployment_failed(self, error: AgentError) -> None:
        """Answer who waits for a deployment that can neither go on nor end now."""
        for pending in self._of(Ask.UPDATE, Ask.ROLLBACK):
            self._answer(pending, answers.failed(error))

    def turn_failed(self, error: AgentError, *, is_flying: bool) -> None:
        """Answer whom a failed turn of the loop leaves waiting; `is_flying`: a worker deploys."""
        if not is_flying:
            self.deployment_failed(error)
        self.poll_failed(error)

    def held(self, deployment: Deployment | None, reason: NotYet) -> None:
        """Answer who waits for a deployment that has to wait itself."""
        for pending in self._of(Ask.UPDATE):
            self._answer(pending, answers.held(deployment, reason))

    def ended(self, deployment: Deployment, last_phase: Phase, *, is_own: bool) -> None:
        """Answer who waits for this deployment; `is_own`: this process began it."""
        if deployment.kind is Kind.ROLLBACK:
            for pending in self._of(Ask.ROLLBACK):
                if pending.command.args.get("deployment") == deployment.id:
                    self._answer(pending, answers.of_deployment(deployment, last_phase))
        if self._left is not None and self._left.id == deployment.id:
            self._left = None
        goes_on = not is_own or may_try_another(deployment)
        for pending in self._of(Ask.UPDATE):
            pending.last = deployment, last_phase
            if not goes_on or deployment.phase is Phase.STUCK:
                self._answer(pending, answers.of_deployment(deployment, last_phase))
        if deployment.phase is Phase.STUCK:
            self.refuse_rollbacks()

    # --- commands that name a release ------------------------------------------------------------

    def retry(self, pending: Pending) -> None:
        """Lift what speaks against a release."""
        name = str(pending.command.args.get("release", ""))
        found = find_refused(self._device, name)
        if isinstance(found, Outcome):
            self._answer(pending, found)
            return
        self._manager.forgive(found)
        text = f"{', '.join(sorted(set(found.values())))} may be tried again"
        self._answer(pending, Outcome(Exit.DONE, text, {"lifted": sorted(found)}))

    def asks_again(self, pending: Pending) -> bool:
        """Tell whether this asks for the rollback that an earlier life left: its end answers it.

        To do it as another one would go back to where the first came from.
        """
        left, args = self._left, pending.command.args
        if left is None or any(bool(args.get(k)) != left.notes.get(k) for k in _MANNERS):
            return False
        name, known = args.get("release"), self._device.release(left.release)
        if name is not None and not (known and is_meant(known, name)):
            return False
        self._await_left(pending, left)
        return True

    def _await_left(self, pending: Pending, left: Deployment) -> None:
        args = {**pending.command.args, "deployment": left.id}
        pending.command = Command(Ask.ROLLBACK, args, pending.command.asked_by)
        pending.is_new = False

    def begin_rollback(self) -> Deployment | None:
        """Open the deployment of the next rollback that may be done; refuse those that may not."""
        for pending in self._of(Ask.ROLLBACK):
            if "deployment" in pending.command.args:
                continue
            args = pending.command.args
            found = find_kept(self._device, args.get("release"))
            if isinstance(found, Outcome):
                self._answer(pending, found)
                continue
            deployment = self._manager.begin_rollback(
                found,
                {
                    "asked_by": pending.command.asked_by,
                    # Its number, by which whoever asked finds it when the agent ends meanwhile.
                    "command": pending.number,
                    **{manner: bool(args.get(manner)) for manner in _MANNERS},
                },
            )
            pending.command = Command(
                Ask.ROLLBACK, {**args, "deployment": deployment.id}, pending.command.asked_by
            )
            return deployment
        return None

    def refuse_rollbacks(self) -> None:
        """Answer every rollback while the way back of another deployment has failed."""
        for pending in self._of(Ask.ROLLBACK):
            text = "the device is stuck: nothing new goes live before the way back succeeds"
            self._answer(pending, Outcome(Exit.FAILED, text))

    def _of(self, *asks: Ask) -> list[Pending]:
        return [p for p in self._pending if p.command.ask in asks and not p.is_new]

    def _answer(self, pending: Pending, outcome: Outcome) -> None:
        pending.outcome = outcome
        self._pending.remove(pending)
        if pending.number is None:
            return
        try:
            self._mailbox.answer(pending.number, outcome)
        except AgentError as error:
            # Whoever asked finds out when the agent ends; the loop must not stop for it.
            _log.warning("answer not written", code=error.code, error=error.message)


def was_refused(deployment: Deployment) -> bool:
    """Tell whether this device only did not take the release; the release may be good."""
    return deployment.notes.get("blames") == ReleaseRefused.__name__


def may_try_another(deployment: Deployment) -> bool:
    """Tell whether the end of this deployment lets another release be tried at once."""
    if deployment.phase is Phase.SUCCEEDED or deployment.error is None:
        return False
    return deployment.notes.get("blames") in {ReleaseRejected.__name__, ReleaseRefused.__name__}

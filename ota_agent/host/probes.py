"""One look at the release's health, as its manifest describes it."""

from __future__ import annotations

import http.client
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from ota_agent.host.commands import TIME_LIMIT_EXIT_CODE
from ota_agent.host.dial import DIAL_ERRORS, dial, reason
from ota_agent.model.manifest import ProbeKind

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from ota_agent.host.dial import Line
    from ota_agent.model.manifest import ProbeSpec
    from ota_agent.ports import CommandResult, Progress

_MAX_BODY_BYTES = 64 * 1024
_MAX_SHOWN = 200


def probe(
    spec: ProbeSpec,
    tree: Path,
    progress: Progress,
    run: Callable[[Sequence[str], float], CommandResult],
) -> str | None:
    """Look once: None when green, else one sentence that says what was seen.

    HTTP is green with a 2xx whose body ends, or passes 64 KiB, within `timeout_s`; redirects are
    not followed, proxies not asked. A file is relative to `tree`. `run` runs a command with its
    time limit in seconds; exit code 0 is green.

    Raises:
        AgentError: the command could not be run at all.

    """
    match spec.kind:
        case ProbeKind.HTTP:
            return _look(spec, progress, lambda line: _http(line, spec.target))
        case ProbeKind.TCP:
            return _look(spec, progress, lambda line: _tcp(line, spec.target))
        case ProbeKind.FILE:
            return _file(spec.target, tree)
        case ProbeKind.COMMAND:
            return _command(spec, run(spec.argv, spec.timeout_s))


def _look(spec: ProbeSpec, progress: Progress, look: Callable[[Line], str | None]) -> str | None:
    try:
        return dial(look, spec.timeout_s, progress)
    except TimeoutError:
        return f"{spec.target} gave no answer within {spec.timeout_s:g} s"
    except DIAL_ERRORS as error:
        return f"{spec.target}: {reason(error)}"


def _http(line: Line, url: str) -> str | None:
    with line.request("GET", url) as answer:
        if answer.status // 100 != 2:  # noqa: PLR2004 - the class of the good answers
            return f"{url} answered {answer.status}"
        left = _MAX_BODY_BYTES
        while left > 0 and (chunk := answer.read1(left)):
            left -= len(chunk)
        # http.client takes the end of the connection for the end of the answer.
        if left > 0 and answer.length:
            raise http.client.RemoteDisconnected("in the middle of the body")
        return None


def _tcp(line: Line, address: str) -> str | None:
    parts = urlsplit(f"//{address}")
    line.connect(parts.hostname or "", parts.port or 0).close()
    return None


def _file(path: str, tree: Path) -> str | None:
    try:
        (tree / path).stat()
    except FileNotFoundError:
        return f"{path} does not exist"
    except (OSError, ValueError) as error:
        return f"{path} cannot be seen: {getattr(error, 'strerror', None) or error}"
    return None


def _command(spec: ProbeSpec, result: CommandResult) -> str | None:
    if result.exit_code == 0:
        return None
    name = " ".join(spec.argv)
    if result.exit_code == TIME_LIMIT_EXIT_CODE:
        return f"{name}: did not end within {spec.timeout_s:g} s"
    last = result.output.rstrip().rpartition("\n")[2].strip()
    said = f": {last[:_MAX_SHOWN]}" if last else ""
    return f"{name}: exit {result.exit_code}{said}"

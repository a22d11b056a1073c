"""The update flow as docs/design.md shows it, made from `ota_agent.update.flow`: `make docs`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from ota_agent.model.deployment import Phase
from ota_agent.update.flow import DEADLINE_S, FLOW

if TYPE_CHECKING:
    from collections.abc import Iterator

DESIGN = Path(__file__).parent.parent / "docs/design.md"

BEGIN = "<!-- made from update/flow.py by `make docs` -->\n"
END = "<!-- end of what was made -->\n"


def diagram() -> str:
    """Draw the table: a state for each phase, an edge for each column."""
    edges: dict[tuple[Phase, Phase], list[str]] = {}
    for phase, row in FLOW.items():
        columns = (("ok", row.ok), ("failed", row.failed), ("crashed", row.crashed))
        for column, then in columns:
            edges.setdefault((phase, then), []).append(column)
    lines = ["stateDiagram-v2", f"    [*] --> {next(iter(FLOW)).name}"]
    for (phase, then), how in edges.items():
        lines.append(f"    {phase.name} --> {then.name}: {', '.join(how)}")
    for phase in filter(lambda phase: phase.is_ending, Phase):
        # A stuck deployment stays open: OTAManager.resume tries the way back again.
        way_on = f"{Phase.RESTORE.name}: tried again" if phase is Phase.STUCK else "[*]"
        lines.append(f"    {phase.name} --> {way_on}")
    return "\n".join(("```mermaid", *lines, "```", ""))


def table() -> str:
    """List where each phase leads, and how long it may go without progress."""
    return "".join(_rows())


def _rows() -> Iterator[str]:
    yield "| phase | ok | failed | crashed | silent for |\n"
    yield "|---|---|---|---|---|\n"
    for phase, row in FLOW.items():
        then = " | ".join(to.name for to in (row.ok, row.failed, row.crashed))
        yield f"| {phase.name} | {then} | {DEADLINE_S[phase]:g} s |\n"


def made() -> str:
    """Give what stands between the two marks."""
    return f"{BEGIN}\n{diagram()}\n{table()}\n{END}"


def written(text: str) -> str:
    """Give the part of a document that was made; empty where there is none."""
    found = re.search(f"{re.escape(BEGIN)}.*?{re.escape(END)}", text, flags=re.DOTALL)
    return found[0] if found else ""


def main() -> None:
    """Put what the code says today into docs/design.md."""
    text = DESIGN.read_text(encoding="utf-8")
    DESIGN.write_text(text.replace(written(text), made()), encoding="utf-8")


if __name__ == "__main__":
    main()

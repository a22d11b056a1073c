"""`trust.json`: two checksummed copies of what must outlive a lost database.

The copies are written one after the other, each atomically, so that a power cut or a bad sector
costs one of them at most; the newest whole copy counts.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from ota_agent.errors import DiskFault, DiskFull
from ota_agent.model.moment import to_text, to_time
from ota_agent.model.trust import Entry, Mark, Trust, Unproven
from ota_agent.store import atomic

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

DAMAGED_SUFFIX = ".damaged"


@dataclass(frozen=True, slots=True)
class TrustReading:
    """What was found.

    Attributes:
        lost: there is a copy, and none is whole: say so. It stays true until the next `write`,
            which keeps the damaged files beside the new ones.
        absent: there is no copy at all: a new device, or one whose files were removed.

    """

    trust: Trust
    lost: bool = False
    absent: bool = False


@dataclass(frozen=True, slots=True)
class _Copy:
    generation: int
    trust: Trust


class TrustFile:
    """Reads and writes the two copies at `path` and `path`.2."""

    def __init__(self, path: Path) -> None:
        """Keep the trust at `path`, whose directory is there."""
        self._path = path
        self._copies = (path, path.with_name(f"{path.name}.2"))

    def read(self) -> TrustReading:
        """Take the newest whole copy, and repair the other from it."""
        found = [_read(path) for path in self._copies]
        newest = _newest(found)
        if newest is None:
            is_lost = any(os.path.lexists(path) for path in self._copies)
            return TrustReading(Trust(), lost=is_lost, absent=not is_lost)
        for path, copy in zip(self._copies, found, strict=True):
            if copy != newest:
                # A full or read-only disk must not stop a start: one whole copy is enough.
                with suppress(DiskFull, DiskFault):
                    atomic.write_file(path, _pack(newest), mode=0o600)
        return TrustReading(newest.trust)

    def write(self, trust: Trust) -> None:
        """Put `trust` in the place of what was there; durable, in both copies, on return."""
        found = [_read(path) for path in self._copies]
        newest = _newest(found)
        packed = _pack(_Copy(newest.generation + 1 if newest else 1, trust))
        for path in self._copies:
            # Nothing was whole: what is there may still help a person.
            if newest is None and os.path.lexists(path):
                atomic.rename(path, path.with_name(path.name + DAMAGED_SUFFIX), replace=True)
            atomic.write_file(path, packed, mode=0o600)


def _newest(copies: list[_Copy | None]) -> _Copy | None:
    whole = [copy for copy in copies if copy is not None]
    return max(whole, key=lambda copy: copy.generation, default=None)


def _read(path: Path) -> _Copy | None:
    """Give the copy if it is there and whole."""
    with atomic.disk_errors(path):
        try:
            raw = path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            return None  # a bad sector: that is what the other copy is for
    try:
        return _unpack(json.loads(raw))
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def _pack(copy: _Copy) -> bytes:
    trust = copy.trust
    body = {
        "epoch": trust.epoch,
        "quarantine": {
            tree: {**asdict(entry), "at": to_text(entry.at)}
            for tree, entry in trust.quarantine.items()
        },
        "marks": [
            {"project": project, "channel": channel, **asdict(mark)}
            for (project, channel), mark in trust.marks.items()
        ],
        "project_pin": trust.project_pin,
        "unproven": None if trust.unproven is None else asdict(trust.unproven),
    }
    whole = {
        "sha256": _checksum(copy.generation, body),
        "generation": copy.generation,
        "body": body,
    }
    return json.dumps(whole, indent=1).encode()


def _unpack(whole: Mapping[str, Any]) -> _Copy:
    """Read what `_pack` wrote; keys that a newer agent added are left alone."""
    body = whole["body"]
    if whole["sha256"] != _checksum(whole["generation"], body):
        raise ValueError("the checksum does not match")
    unproven = body["unproven"]
    return _Copy(
        generation=whole["generation"],
        trust=Trust(
            epoch=body["epoch"],
            quarantine={tree: _entry(entry) for tree, entry in body["quarantine"].items()},
            marks={
                (mark["project"], mark["channel"]): Mark(mark["commit"], mark["version"])
                for mark in body["marks"]
            },
            project_pin=body["project_pin"],
            unproven=None
            if unproven is None
            else Unproven(
                release=unproven["release"],
                tree=unproven["tree"],
                deployment=unproven["deployment"],
                commit=unproven["commit"],
            ),
        ),
    )


def _entry(entry: Mapping[str, Any]) -> Entry:
    return Entry(
        release=entry["release"],
        code=entry["code"],
        message=entry["message"],
        commits=tuple(entry["commits"]),
        at=to_time(entry["at"]),
        attempts=entry["attempts"],
    )


def _checksum(generation: int, body: object) -> str:
    canonical = json.dumps([generation, body], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()

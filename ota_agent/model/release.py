"""What a source offers, and what a device keeps of it."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

    from semver import Version

LABEL_MAX_BYTES = 64

_RELEASE_ID = re.compile(r"[A-Za-z0-9_+][A-Za-z0-9._+-]*-[0-9a-f]{6}-[0-9a-f]{12}")


class Ancestry(StrEnum):
    """How an offered commit stands to the high-water mark of its channel."""

    SAME = "same"
    DESCENDANT = "descendant"
    ANCESTOR = "ancestor"
    DIVERGED = "diverged"
    UNKNOWN = "unknown"  # the bound of the walk was reached without an answer


@dataclass(frozen=True, slots=True)
class Offer:
    """One release as a source names it, before any of its content is fetched.

    Attributes:
        commit: 40 (or 64) hex digits of the commit itself, never of a tag object.
        ref: full ref that names it (`refs/tags/v1.4.0`), empty for a bare commit.
        tag_object: id of the annotated tag object, where there is one.
        version: parsed from the tag's name, None on other channels.
        ancestry: how it stands to the high-water mark; None where nothing was asked.

    """

    commit: str
    ref: str
    version: Version | None = None
    tag_object: str | None = None
    ancestry: Ancestry | None = None

    @property
    def name(self) -> str:
        """Short name for people: the tag or branch, else the commit's first 12 digits."""
        return self.ref.split("/", 2)[-1] if self.ref else self.commit[:12]


@dataclass(frozen=True, slots=True)
class Release:
    """A release on this device's disk.

    Attributes:
        id: directory name under `releases/`, see `release_id`.
        tree: git's hash of the content, by which it is quarantined.
        version: as text, None when neither tag nor manifest names one.
        manifest: text of its `ota.toml`, empty when it has none.

    """

    id: str
    commit: str
    tree: str
    version: str | None
    manifest: str
    files: int
    size_bytes: int
    staged_at: datetime
    live_at: datetime | None = None
    succeeded_at: datetime | None = None


def release_id(*, version: str | None, ref: str, commit: str, tree: str) -> str:
    """Name a release: `<label>-<6 hex of what is staged>-<commit, 12 hex>`.

    The label is the version, else the branch or tag, `/` turned into `-`, at most 64 bytes.
    """
    raw = version or (ref.split("/", 2)[-1] if ref else "commit")
    safe = "".join(c if c.isascii() and (c.isalnum() or c in "._+-") else "-" for c in raw)
    label = safe.lstrip(".-")[:LABEL_MAX_BYTES] or "release"
    content = hashlib.sha256(tree.encode()).hexdigest()[:6]
    return f"{label}-{content}-{commit[:12]}"


def is_release_id(name: str) -> bool:
    """Tell whether `release_id` can have given this name."""
    return _RELEASE_ID.fullmatch(name) is not None

"""Versions as SemVer 2.0 orders them."""

from __future__ import annotations

import re

from semver import Version

# A tag's name may be anything that a publisher can push: bound it before it meets a parser.
MAX_LENGTH = 255

_PARTIAL = re.compile(r"(0|[1-9][0-9]{0,9})(?:\.(0|[1-9][0-9]{0,9}))?")


def parse_version(text: str) -> Version | None:
    """Read a whole version, with or without a leading `v`; None when it is none.

    A partial version (`1.4`) is no version: a tag of that name orders nothing.
    """
    if len(text) > MAX_LENGTH:
        return None
    try:
        return Version.parse(text.removeprefix("v"))
    except ValueError:
        return None


def parse_partial(text: str) -> Version | None:
    """Read a version of one, two or three numbers, the missing ones 0; None when it is none.

    For the least version of something, as in `min_agent = "0.3"`.
    """
    partial = _PARTIAL.fullmatch(text.removeprefix("v"))
    if partial is None:
        return parse_version(text)
    return Version(int(partial[1]), int(partial[2] or 0))

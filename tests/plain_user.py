"""Runs a part of a test as a user who is not root, whoever runs the tests."""

from __future__ import annotations

import os
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ota_agent.store import atomic

if TYPE_CHECKING:
    from collections.abc import Iterator

NOBODY = 65534


@contextmanager
def as_plain_user() -> Iterator[Path]:
    """Give a directory of a user's own, and be that user until the end of the block."""
    place = Path(tempfile.mkdtemp())  # pytest's own directories are closed to other users
    is_root = os.geteuid() == 0
    if is_root:
        os.chown(place, NOBODY, NOBODY)
        os.setegid(NOBODY)
        os.seteuid(NOBODY)
    try:
        yield place
    finally:
        if is_root:
            os.seteuid(0)
            os.setegid(0)
        atomic.remove_tree(place, durable=False)  # sealed and closed directories are in it

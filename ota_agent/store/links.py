"""The two links of a device, read without touching anything."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from ota_agent.store.paths import RELEASES

if TYPE_CHECKING:
    from pathlib import Path

    from ota_agent.store.paths import Paths


class Links:
    """What `live` and `previous` say."""

    def __init__(self, paths: Paths) -> None:
        """Read the links of `paths`."""
        self._paths = paths

    def live(self) -> str | None:
        """Give the release in use; None when the link is absent, dangling or leads elsewhere."""
        return self._release_at(self._paths.live_link)

    def previous(self) -> str | None:
        """Give the release before the live one; None as for `live`."""
        return self._release_at(self._paths.previous_link)

    def _release_at(self, link: Path) -> str | None:
        try:
            directory, _, name = os.fspath(link.readlink()).rpartition("/")
            tree = self._paths.release_dir(name)
        except (OSError, ValueError):  # no link, or a name that no release has
            return None
        return name if directory == RELEASES and tree.is_dir() and not tree.is_symlink() else None

from __future__ import annotations

import errno
import fcntl
import os
from typing import TYPE_CHECKING

import pytest
from device import Machine

from ota_agent.store import reflink

if TYPE_CHECKING:
    from pathlib import Path

SEALED = 0o100444


@pytest.fixture
def sharing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand in for a file system that shares blocks: its answer to FICLONE is a copy."""

    def ioctl(new: int, request: int, old: int) -> int:
        assert request == reflink.FICLONE
        os.write(new, os.pread(old, 1 << 20, 0))
        return 0

    monkeypatch.setattr(fcntl, "ioctl", ioctl)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    file = tmp_path / "app.py"
    file.write_bytes(b"print(1)\n")
    return file


@pytest.mark.usefixtures("sharing")
def test_copy_has_the_content_the_mode_and_an_inode_of_its_own(source: Path) -> None:
    target = source.with_name("copy.py")

    copied = reflink.clone(str(source), source.stat(), str(target), SEALED)

    assert copied is not None
    assert (target.read_bytes(), target.stat().st_mode) == (b"print(1)\n", SEALED)
    assert copied.st_ino == target.stat().st_ino != source.stat().st_ino


@pytest.mark.usefixtures("sharing")
def test_source_that_changed_meanwhile_is_not_copied(source: Path) -> None:
    found = source.stat()
    source.write_bytes(b"print('edited')\n")
    target = source.with_name("copy.py")

    assert reflink.clone(str(source), found, str(target), SEALED) is None
    assert not target.exists()


def test_file_system_that_cannot_leaves_nothing(
    source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> int:
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))

    monkeypatch.setattr(fcntl, "ioctl", refuse)
    target = source.with_name("copy.py")

    assert reflink.clone(str(source), source.stat(), str(target), SEALED) is None
    assert not target.exists()


def test_disk_that_fails_is_told_and_leaves_nothing(
    source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(fcntl, "ioctl", fail)
    target = source.with_name("copy.py")

    with pytest.raises(OSError, match="No space left"):
        reflink.clone(str(source), source.stat(), str(target), SEALED)
    assert not target.exists()


@pytest.mark.usefixtures("sharing")
def test_edit_reaches_no_other_release_where_blocks_can_be_shared(tmp_path: Path) -> None:
    machine = Machine(tmp_path / "device")
    machine.start()
    machine.publish({"same.py": b"same\n", "app.py": b"1\n"})
    machine.update()
    machine.publish({"same.py": b"same\n", "app.py": b"2\n"})
    machine.update()
    live, previous = (
        link.resolve() / "same.py"
        for link in (machine.paths.live_link, machine.paths.previous_link)
    )

    live.chmod(0o644)
    live.write_bytes(b"edited\n")

    assert previous.read_bytes() == b"same\n"
    assert live.stat().st_ino != previous.stat().st_ino
    machine.power_off()

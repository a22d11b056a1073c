from __future__ import annotations

import errno
import json
from dataclasses import replace
from datetime import UTC, datetime
from itertools import count
from pathlib import Path

import pytest
from cutting import cut_after

from ota_agent.errors import DiskFault
from ota_agent.model.trust import Entry, Mark, Trust, Unproven
from ota_agent.store.trust import TrustFile

AT = datetime(2030, 1, 2, 3, 4, 5, 678000, tzinfo=UTC)
FIRST = Trust(epoch="6b3f")
SECOND = Trust(
    epoch="6b3f",
    quarantine={
        "tree": Entry("r", "release.probe_failed", "rot: \udcff", ("c1", "c2"), AT, 2),
    },
    marks={
        ("a project", "tag:>=1 <2"): Mark("c1", "1.0.0"),
        ("a project", "branch:main"): Mark("c2", None),
    },
    project_pin="42",
    unproven=Unproven("r", "tree", "7-6b3f00", "c"),
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "trust.json"


@pytest.fixture
def second(path: Path) -> Path:
    return path.with_name("trust.json.2")


def test_what_was_written_is_read(path: Path) -> None:
    for trust in (FIRST, SECOND, FIRST):
        TrustFile(path).write(trust)
        found = TrustFile(path).read()
        assert (found.trust, found.lost, found.absent) == (trust, False, False)


def test_new_device_trusts_nothing_yet(path: Path) -> None:
    found = TrustFile(path).read()
    assert (found.trust, found.lost, found.absent) == (Trust(), False, True)


def test_both_copies_are_whole_and_private(path: Path, second: Path) -> None:
    TrustFile(path).write(SECOND)
    assert path.read_bytes() == second.read_bytes()
    assert [one.stat().st_mode & 0o777 for one in (path, second)] == [0o600, 0o600]


@pytest.mark.parametrize("name", ["trust.json", "trust.json.2"])
@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b"null", b'{"body": {}}', b"\xff\xfe"])
def test_damaged_copy_is_repaired_from_the_other(path: Path, name: str, damage: bytes) -> None:
    TrustFile(path).write(SECOND)
    whole = path.read_bytes()
    path.with_name(name).write_bytes(damage)
    found = TrustFile(path).read()
    assert (found.trust, found.lost) == (SECOND, False)
    assert path.with_name(name).read_bytes() == whole


def test_removed_copy_is_repaired_from_the_other(path: Path, second: Path) -> None:
    TrustFile(path).write(SECOND)
    path.unlink()
    assert TrustFile(path).read().trust == SECOND
    assert path.read_bytes() == second.read_bytes()


def test_changed_value_does_not_pass_the_checksum(path: Path, second: Path) -> None:
    TrustFile(path).write(SECOND)
    for one in (path, second):
        one.write_bytes(one.read_bytes().replace(b'"attempts": 2', b'"attempts": 0'))
    assert TrustFile(path).read().lost


def test_newer_copy_counts(path: Path, second: Path) -> None:
    TrustFile(path).write(FIRST)
    old = path.read_bytes()
    TrustFile(path).write(SECOND)
    for one, other in ((path, second), (second, path)):
        other.write_bytes(one.read_bytes())
        one.write_bytes(old)
        assert TrustFile(path).read().trust == SECOND


def test_key_of_a_newer_agent_is_no_damage(path: Path, second: Path) -> None:
    TrustFile(path).write(FIRST)
    for one in (path, second):
        whole = json.loads(one.read_text())
        one.write_text(json.dumps({**whole, "format": 2}))
    assert TrustFile(path).read().trust == FIRST


def test_loss_of_both_is_told_until_something_is_written(path: Path, second: Path) -> None:
    TrustFile(path).write(SECOND)
    path.write_bytes(b"garbage 1")
    second.write_bytes(b"garbage 2")
    for _ in range(2):
        found = TrustFile(path).read()
        assert (found.trust, found.lost, found.absent) == (Trust(), True, False)
    TrustFile(path).write(FIRST)
    assert TrustFile(path).read().trust == FIRST
    kept = [path.with_name(f"{one.name}.damaged").read_bytes() for one in (path, second)]
    assert kept == [b"garbage 1", b"garbage 2"]


def test_loss_is_told_when_one_is_damaged_and_the_other_gone(path: Path) -> None:
    path.write_bytes(b"garbage")
    assert TrustFile(path).read().lost


def fail_reading(monkeypatch: pytest.MonkeyPatch, bad: Path, code: int) -> None:
    read_bytes = Path.read_bytes

    def read(self: Path) -> bytes:
        if self == bad:
            raise OSError(code, "reading failed", str(self))
        return read_bytes(self)

    monkeypatch.setattr(Path, "read_bytes", read)


def test_bad_sector_costs_one_copy(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    TrustFile(path).write(SECOND)
    fail_reading(monkeypatch, path, errno.EIO)
    assert TrustFile(path).read().trust == SECOND


def test_copy_that_may_not_be_read_is_a_fault_of_the_device(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    TrustFile(path).write(SECOND)
    fail_reading(monkeypatch, path, errno.EACCES)
    with pytest.raises(DiskFault, match=r"trust\.json"):
        TrustFile(path).read()


def test_repair_that_fails_does_not_stop_the_reader(
    path: Path, second: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    TrustFile(path).write(SECOND)
    second.unlink()

    def full(*_args: object, **_options: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(second))

    monkeypatch.setattr("os.fsync", full)
    assert TrustFile(path).read().trust == SECOND


def test_power_cut_while_writing_leaves_the_old_or_the_new(tmp_path: Path) -> None:
    states = set()
    for cuts in count():
        path = tmp_path / str(cuts) / "trust.json"
        path.parent.mkdir()
        TrustFile(path).write(FIRST)
        with cut_after(cuts) as cut:
            TrustFile(path).write(SECOND)
        found = TrustFile(path).read()
        assert found.trust in (FIRST, SECOND)
        assert not found.lost
        states.add(found.trust.epoch + str(found.trust.project_pin))
        TrustFile(path).write(replace(SECOND, epoch="next"))
        assert TrustFile(path).read().trust.epoch == "next"
        if not cut.was_cut:
            break
    assert states == {"6b3fNone", "6b3f42"}


def test_power_cut_while_starting_anew_after_a_loss_loses_no_damaged_file(tmp_path: Path) -> None:
    for cuts in count():
        path = tmp_path / str(cuts) / "trust.json"
        second = path.with_name("trust.json.2")
        path.parent.mkdir()
        path.write_bytes(b"garbage 1")
        second.write_bytes(b"garbage 2")
        with cut_after(cuts) as cut:
            TrustFile(path).write(FIRST)
        found = TrustFile(path).read()
        assert found.lost or found.trust == FIRST
        kept = {one.read_bytes() for one in path.parent.iterdir()}
        assert b"garbage 1" in kept
        assert b"garbage 2" in kept or found.trust == FIRST
        if not cut.was_cut:
            break

from __future__ import annotations

import json
import shutil
import threading
from typing import TYPE_CHECKING
from unittest import mock

import pytest
from device import Drive, Machine

from ota_agent.config import Drift as DriftConfig
from ota_agent.errors import DiskFault, SourceUnreachable, Stopped
from ota_agent.store.outbox import Outbox
from ota_agent.store.releases import ReleaseStore
from ota_agent.update import drift
from ota_agent.update.drift import (
    DEADLINE_S,
    INTERVAL_S,
    LONGEST_PAUSE_S,
    DriftWatch,
    KeptTree,
    look,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

PATIENCE_S = 20.0
AT = "2026-03-01T12:00:00.000Z"
MANIFEST = b'[[persist]]\npath = "data"\n'
FILES = {"ota.toml": MANIFEST, "app.py": b"print(1)\n", "etc/app.conf": b"port = 80\n"}


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Machine]]:
    machines: list[Machine] = []

    def make(mode: str = "report", *, ignore: tuple[str, ...] = ("__pycache__",)) -> Machine:
        config = {"drift": DriftConfig(mode=mode, ignore=ignore)}  # type: ignore[arg-type]  # one of them
        machine = Machine(tmp_path / "device", config)
        machine.start()
        machine.publish(FILES)
        machine.update()
        machines.append(machine)
        return machine

    yield make
    for machine in machines:
        machine.power_off()


def live(machine: Machine) -> Path:
    assert machine.live is not None
    return machine.paths.release_dir(machine.live)


def edit(machine: Machine, path: str, content: bytes) -> None:
    file = live(machine) / path
    file.chmod(0o644)
    file.write_bytes(content)
    file.chmod(0o444)


def add(machine: Machine, path: str) -> None:
    file = live(machine) / path
    file.parent.chmod(0o755)
    file.write_bytes(b"added")
    file.parent.chmod(0o555)


def remove(machine: Machine, path: str) -> None:
    file = live(machine) / path
    file.parent.chmod(0o755)
    file.unlink()
    file.parent.chmod(0o555)


def scan(machine: Machine) -> None:
    look(machine.device, Drive(machine.clock))


def found(machine: Machine) -> object:
    return machine.disk.database.get(drift.STATE)


def events(machine: Machine) -> list[tuple[str, object]]:
    return [
        (event.kind, event.body["files"])
        for event in Outbox(machine.disk.database).next_events()
        if event.kind.startswith("drift")
    ]


# --- one look -------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["report", "repair"])
def test_tree_that_is_as_it_should_be_is_no_drift(start: Callable[..., Machine], mode: str) -> None:
    machine = start(mode)
    machine.data("data/state").write_bytes(b"what applications write is theirs")
    scan(machine)

    assert found(machine) == {"files": [], "checked_at": AT}
    assert events(machine) == []


def test_drift_is_reported_once_and_again_when_it_changes(start: Callable[..., Machine]) -> None:
    machine = start()
    edit(machine, "app.py", b"hacked\n")
    remove(machine, "etc/app.conf")
    add(machine, "new.log")
    for _ in range(2):
        scan(machine)

    everything = ["app.py", "etc/app.conf", "new.log"]
    assert found(machine) == {"files": everything, "checked_at": AT}
    assert events(machine) == [("drift", everything)]
    assert (live(machine) / "app.py").read_bytes() == b"hacked\n"

    edit(machine, "app.py", FILES["app.py"])
    scan(machine)
    assert events(machine)[1:] == [("drift", ["etc/app.conf", "new.log"])]


def test_repair_brings_back_what_changed_or_is_missing_and_leaves_what_was_added(
    start: Callable[..., Machine],
) -> None:
    machine = start("repair")
    edit(machine, "app.py", b"hacked\n")
    remove(machine, "etc/app.conf")
    add(machine, "new.log")
    scan(machine)

    assert (live(machine) / "app.py").read_bytes() == FILES["app.py"]
    assert (live(machine) / "etc/app.conf").read_bytes() == FILES["etc/app.conf"]
    assert (live(machine) / "new.log").read_bytes() == b"added"
    assert found(machine) == {"files": ["new.log"], "checked_at": AT}
    assert events(machine) == [
        ("drift.repaired", ["app.py", "etc/app.conf"]),
        ("drift", ["new.log"]),
    ]


def test_local_edit_is_kept_aside_before_it_is_undone(start: Callable[..., Machine]) -> None:
    machine = start("repair")
    edit(machine, "app.py", b"print('tuned by hand')\n")
    scan(machine)

    patch = machine.paths.private_dir / "drift.patch"
    assert b"+print('tuned by hand')" in patch.read_bytes()
    assert patch.stat().st_mode & 0o777 == 0o600


def test_second_repair_keeps_what_the_first_one_undid(start: Callable[..., Machine]) -> None:
    machine = start("repair")
    for number in range(7):
        edit(machine, "app.py", b"edit %d\n" % number)
        scan(machine)

    newest = machine.paths.private_dir / "drift.patch"
    kept = sorted(machine.paths.private_dir.glob("drift.patch*"))
    assert kept == [newest, *(newest.with_name(f"drift.patch.{n}") for n in (1, 2, 3, 4))]
    for number, file in zip((6, 5, 4, 3, 2), kept, strict=True):
        assert b"+edit %d" % number in file.read_bytes()


def test_repair_that_fails_again_and_again_keeps_the_edit_once(
    start: Callable[..., Machine],
) -> None:
    machine = start("repair")
    edit(machine, "app.py", b"tuned\n")
    failing = mock.patch.object(ReleaseStore, "mend", side_effect=DiskFault("the disk failed"))
    for _ in range(2):
        with failing, pytest.raises(DiskFault):
            scan(machine)

    kept = [file.name for file in machine.paths.private_dir.glob("drift.patch*")]
    assert kept == ["drift.patch"]


def test_permissions_are_repaired_and_named_in_what_is_kept_aside(
    start: Callable[..., Machine],
) -> None:
    machine = start("repair")
    (live(machine) / "etc").chmod(0o755)
    scan(machine)

    assert (live(machine) / "etc").stat().st_mode & 0o777 == 0o555
    patch = machine.paths.private_dir / "drift.patch"
    assert patch.read_bytes() == b"# changed: etc\n"


def test_ignored_paths_are_no_drift(start: Callable[..., Machine]) -> None:
    machine = start(ignore=("*.log",))
    add(machine, "new.log")
    scan(machine)

    assert found(machine) == {"files": [], "checked_at": AT}


def test_mode_ignore_looks_at_nothing_and_forgets_what_was_found(
    start: Callable[..., Machine],
) -> None:
    machine = start("ignore")
    machine.disk.database.put(drift.STATE, {"files": ["app.py"], "checked_at": AT})
    edit(machine, "app.py", b"hacked\n")
    scan(machine)

    assert found(machine) is None


def test_device_without_a_release_has_no_drift(tmp_path: Path) -> None:
    machine = Machine(tmp_path / "device")
    machine.start()
    scan(machine)

    assert found(machine) is None
    assert KeptTree.of(machine.device, None, Drive(machine.clock)) is None
    machine.power_off()


def test_many_differing_files_are_reported_in_part(start: Callable[..., Machine]) -> None:
    machine = start()
    for number in range(120):
        add(machine, f"{number:03}.log")
    scan(machine)

    ((kind, files),) = events(machine)
    assert (kind, len(files)) == ("drift", 100)  # type: ignore[arg-type]  # a list
    shown = found(machine)
    assert isinstance(shown, dict)
    assert len(shown["files"]) == 120


# --- the previous tree ----------------------------------------------------------------------------


def go_on(machine: Machine) -> Path:
    """Make the live release the previous one, with an edit in a file of its own."""
    machine.publish({**FILES, "app.py": b"print(2)\n"})
    machine.update()
    previous = machine.disk.releases.previous()
    assert previous is not None
    tree = machine.paths.release_dir(previous)
    (tree / "app.py").chmod(0o644)
    (tree / "app.py").write_bytes(b"hacked\n")
    return tree


def said(capsys: pytest.CaptureFixture[str]) -> list[str]:
    lines = map(json.loads, capsys.readouterr().err.splitlines())
    return [line["event"] for line in lines if line["event"].startswith("previous tree")]


def test_previous_tree_is_repaired_in_the_background_without_an_event(
    start: Callable[..., Machine], capsys: pytest.CaptureFixture[str]
) -> None:
    machine = start("repair")
    tree = go_on(machine)
    scan(machine)
    scan(machine)

    assert (tree / "app.py").read_bytes() == FILES["app.py"]
    assert found(machine) == {"files": [], "checked_at": AT}
    assert events(machine) == []
    assert not (machine.paths.private_dir / "drift.patch").exists()
    assert said(capsys) == ["previous tree repaired"]


def test_previous_tree_that_differs_is_told_once_where_nothing_is_repaired(
    start: Callable[..., Machine], capsys: pytest.CaptureFixture[str]
) -> None:
    machine = start()
    tree = go_on(machine)
    scan(machine)
    scan(machine)

    assert (tree / "app.py").read_bytes() == b"hacked\n"
    assert found(machine) == {"files": [], "checked_at": AT}
    assert events(machine) == []
    assert said(capsys) == ["previous tree differs from its release"]

    (tree / "app.py").write_bytes(FILES["app.py"])
    (tree / "app.py").chmod(0o444)
    scan(machine)
    assert machine.disk.database.get(drift.PREVIOUS_STATE) is None
    assert said(capsys) == []


def test_previous_tree_whose_content_nobody_knows_is_left_alone(
    start: Callable[..., Machine], capsys: pytest.CaptureFixture[str]
) -> None:
    machine = start("repair")
    tree = go_on(machine)
    machine.objects.set_aside()
    for _ in range(3):
        scan(machine)  # the first fetches what is live

    assert (tree / "app.py").read_bytes() == b"hacked\n"
    assert said(capsys) == []


# --- an object store that was lost ----------------------------------------------------------------


def test_content_of_the_live_release_is_fetched_again_when_the_store_was_begun_anew(
    start: Callable[..., Machine],
) -> None:
    machine = start("repair")
    edit(machine, "app.py", b"hacked\n")
    machine.objects.set_aside()
    scan(machine)
    assert found(machine) is None  # nobody could tell

    scan(machine)

    assert (live(machine) / "app.py").read_bytes() == FILES["app.py"]
    assert set(machine.objects.held()) == {machine.live}


def test_source_that_is_down_leaves_it_to_the_next_look(start: Callable[..., Machine]) -> None:
    machine = start()
    machine.objects.set_aside()
    machine.source.fail(SourceUnreachable("no route"))

    with pytest.raises(SourceUnreachable):
        scan(machine)
    scan(machine)
    scan(machine)

    assert found(machine) == {"files": [], "checked_at": AT}


# --- on a timer -----------------------------------------------------------------------------------


def run(watch: DriftWatch) -> None:
    watch.begin_if_due()
    worker = watch.worker
    assert worker is not None
    assert worker.join(PATIENCE_S)
    watch.watch()
    assert watch.worker is None


def test_first_look_is_at_once_and_the_next_after_its_interval(
    start: Callable[..., Machine],
) -> None:
    machine = start()
    watch = DriftWatch(machine.device, lambda: None)
    edit(machine, "app.py", b"hacked\n")
    run(watch)
    assert found(machine) == {"files": ["app.py"], "checked_at": AT}
    assert watch.due_at == machine.clock.monotonic() + INTERVAL_S

    watch.begin_if_due()
    assert watch.worker is None


def test_next_look_begins_when_its_time_has_come(start: Callable[..., Machine]) -> None:
    machine = start()
    watch = DriftWatch(machine.device, lambda: None)
    run(watch)
    edit(machine, "app.py", b"hacked\n")
    machine.clock.advance(INTERVAL_S)
    run(watch)

    assert machine.disk.database.get(drift.STATE)["files"] == ["app.py"]


def test_device_that_polls_often_looks_as_often(tmp_path: Path) -> None:
    machine = Machine(tmp_path / "device", {"poll_interval_s": 5.0})
    machine.start()
    watch = DriftWatch(machine.device, lambda: None)
    run(watch)

    assert watch.due_at == machine.clock.monotonic() + 5.0
    machine.power_off()


def test_look_can_be_hurried(start: Callable[..., Machine]) -> None:
    machine = start()
    watch = DriftWatch(machine.device, lambda: None)
    watch.watch()
    run(watch)
    machine.clock.advance(1)
    watch.hurry()

    run(watch)


def test_look_that_fails_is_tried_again_later(start: Callable[..., Machine]) -> None:
    machine = start()
    machine.objects.set_aside()
    machine.source.fail(SourceUnreachable("no route"))
    watch = DriftWatch(machine.device, lambda: None)
    run(watch)

    assert watch.due_at == machine.clock.monotonic() + INTERVAL_S


def test_source_that_never_gives_the_live_release_is_asked_ever_more_rarely(
    start: Callable[..., Machine],
) -> None:
    machine = start()
    machine.objects.set_aside()
    machine.source.fail_fetch(SourceUnreachable("no route"), times=12)
    watch = DriftWatch(machine.device, lambda: None)
    pauses = []
    for _ in range(13):
        run(watch)
        pauses.append(watch.due_at - machine.clock.monotonic())
        watch.hurry()

    doubled = [min(INTERVAL_S * 2**times, LONGEST_PAUSE_S) for times in range(12)]
    assert pauses == pytest.approx([*doubled, INTERVAL_S])
    assert LONGEST_PAUSE_S in doubled


@pytest.mark.parametrize("how", ["stopped", "overdue"])
def test_look_that_hangs_is_ended(
    start: Callable[..., Machine], monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    machine = start()
    waits = threading.Event()

    def hang(_: object, progress: Drive) -> None:
        waits.set()
        progress.wait(3600)

    monkeypatch.setattr(drift, "look", hang)
    watch = DriftWatch(machine.device, lambda: None)
    watch.begin_if_due()
    worker = watch.worker
    assert worker is not None
    assert waits.wait(PATIENCE_S)
    watch.watch()
    assert watch.worker is worker  # one at a time

    if how == "stopped":
        worker.end(Stopped("the agent was asked to end"))
    else:
        machine.clock.advance(DEADLINE_S + 1)
        watch.watch()
    assert worker.join(PATIENCE_S)
    watch.watch()

    assert watch.worker is None


def test_live_release_that_is_gone_is_no_bug(start: Callable[..., Machine]) -> None:
    machine = start()
    tree = live(machine)
    for path in (tree, *tree.rglob("*")):
        if path.is_dir():
            path.chmod(0o755)
    shutil.rmtree(tree)
    run(DriftWatch(machine.device, lambda: None))

    assert found(machine) is None

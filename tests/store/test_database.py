from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from plain_user import as_plain_user

from ota_agent.errors import DatabaseBusy, DatabaseDamaged, DatabaseNewer, DiskFault, DiskFull
from ota_agent.store import database as module
from ota_agent.store.database import SCHEMA_VERSION, Database

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "state.db"


@pytest.fixture
def database(file: Path) -> Iterator[Database]:
    with closing(Database.open(file)) as opened:
        yield opened


def fill(database: Database, keys: int = 400) -> None:
    """Write so much that the file has many pages."""
    with database.transaction() as transaction:
        transaction.executemany(
            "INSERT INTO state VALUES(?, ?)", [(f"key {n}", f'"{"x" * 500}"') for n in range(keys)]
        )


# --- values ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [0, "", "text", [1, 2], {"a": None}, False, 1.5])
def test_value_is_there_after_the_next_start(file: Path, value: object) -> None:
    with closing(Database.open(file)) as database:
        database.put("key", "an older one")
        database.put("key", value)

    with closing(Database.open(file)) as database:
        assert database.get("key", "default") == value
        assert not database.was_lost


def test_value_that_is_put_to_none_is_gone(database: Database) -> None:
    database.put("key", 1)
    database.put("key", None)

    assert database.get("key") is None
    assert database.get("key", "default") == "default"


def test_epoch_is_one_databases_own_and_stays(tmp_path: Path) -> None:
    with closing(Database.open(tmp_path / "a.db")) as one:
        epoch = one.epoch
    with (
        closing(Database.open(tmp_path / "a.db")) as again,
        closing(Database.open(tmp_path / "b.db")) as other,
    ):
        assert again.epoch == epoch
        assert other.epoch != epoch


# --- transactions ---------------------------------------------------------------------------------


def test_commit_survives_a_power_cut(database: Database) -> None:
    # FULL (2) in WAL mode is what makes each commit durable; NORMAL loses the last ones.
    assert database.rows("PRAGMA synchronous")[0][0] == 2
    assert database.rows("PRAGMA journal_mode")[0][0] == "wal"


@pytest.mark.parametrize("failure", [ValueError, KeyboardInterrupt])
def test_transaction_that_is_cut_short_changes_nothing(
    database: Database, failure: type[BaseException]
) -> None:
    def fail(transaction: sqlite3.Connection) -> None:
        transaction.execute("INSERT INTO state VALUES('a', '1')")
        raise failure

    with pytest.raises(failure), database.transaction() as transaction:
        fail(transaction)

    assert database.get("a") is None
    database.put("a", 2)
    assert database.get("a") == 2


def test_transaction_inside_a_transaction_is_refused_and_neither_happens(
    database: Database,
) -> None:
    with pytest.raises(DiskFault), database.transaction():
        database.put("inner", 1)

    assert database.get("inner") is None
    database.put("after", 1)
    assert database.get("after") == 1


def test_other_connection_sees_a_transaction_when_it_is_over(
    database: Database, file: Path
) -> None:
    with closing(Database.open(file)) as other:
        with database.transaction() as transaction:
            transaction.execute("INSERT INTO state VALUES('a', '1')")
            assert other.get("a") is None
        assert other.get("a") == 1


def test_threads_share_the_connection_without_losing_a_count(database: Database) -> None:
    database.put("count", 0)

    def count() -> None:
        for _ in range(20):
            with database.transaction() as transaction:
                transaction.execute("UPDATE state SET value = value + 1 WHERE key = 'count'")

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert database.get("count") == 80


WRITER = """
import sys
from pathlib import Path
from ota_agent.store.database import Database
database = Database.open(Path(sys.argv[1]))
print("begin", flush=True)
for number in range(50):
    database.put(f"theirs {number}", number)
database.close()
"""


@pytest.mark.process
def test_process_that_writes_at_the_same_time_loses_nothing(database: Database, file: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(file)], stdout=subprocess.PIPE, text=True
    ) as writer:
        assert writer.stdout is not None
        writer.stdout.readline()
        for number in range(50):
            database.put(f"ours {number}", number)
        writer.communicate(timeout=60)

    assert writer.returncode == 0
    rows = database.rows("SELECT key FROM state WHERE key LIKE 'theirs %' OR key LIKE 'ours %'")
    assert len(rows) == 100


def test_two_agents_that_create_the_database_at_once_share_it(file: Path) -> None:
    at_once = threading.Barrier(4)
    epochs = []

    def create() -> None:
        at_once.wait()
        with closing(Database.open(file)) as database:
            epochs.append((database.epoch, database.was_lost))

    threads = [threading.Thread(target=create) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(epochs) == 4
    assert len(set(epochs)) == 1
    assert [path.name for path in file.parent.iterdir()] == ["state.db"]


# --- a database that cannot be used ---------------------------------------------------------------


def test_file_that_is_no_database_is_set_aside(file: Path) -> None:
    file.write_bytes(b"no database at all" * 100)

    with closing(Database.open(file, may_set_aside=True)) as database:
        assert database.was_lost
        database.put("a", 1)

    damaged = file.with_name("state.db.damaged")
    assert damaged.read_bytes() == b"no database at all" * 100
    with closing(Database.open(file)) as database:
        assert not database.was_lost
        assert database.get("a") == 1


@pytest.mark.parametrize("junk", [b"\0", b"\xff"])
def test_database_with_a_bad_sector_is_set_aside(file: Path, junk: bytes) -> None:
    with closing(Database.open(file)) as database:
        fill(database)
        epoch = database.epoch
    whole = file.read_bytes()
    middle = len(whole) // 8192 * 4096
    file.write_bytes(whole[:middle] + junk * 8192 + whole[middle + 8192 :])

    with closing(Database.open(file, may_set_aside=True)) as database:
        assert database.was_lost
        assert database.epoch != epoch
        assert database.get("key 1") is None

    assert file.with_name("state.db.damaged").exists()


def test_second_damage_replaces_what_the_first_one_left(file: Path) -> None:
    for content in (b"first" * 300, b"second" * 300):
        file.write_bytes(content)
        Database.open(file, may_set_aside=True).close()

    assert file.with_name("state.db.damaged").read_bytes() == b"second" * 300
    with closing(Database.open(file)) as database:
        assert not database.was_lost


def test_reader_of_a_damaged_database_leaves_it_to_the_agent_that_runs(file: Path) -> None:
    file.write_bytes(b"no database at all" * 100)

    with pytest.raises(DiskFault, match="not a database"):
        Database.open(file)

    assert file.read_bytes() == b"no database at all" * 100
    assert [path.name for path in file.parent.iterdir()] == ["state.db"]


@pytest.mark.parametrize("journal_mode", ["wal", "delete"])
def test_database_of_a_newer_agent_is_left_as_it_is(file: Path, journal_mode: str) -> None:
    with closing(Database.open(file)) as database:
        database.put("a", 1)
    with closing(sqlite3.connect(file)) as newer:
        newer.execute(f"PRAGMA journal_mode={journal_mode}")
        newer.execute(f"PRAGMA user_version={SCHEMA_VERSION + 1}")
    before = file.read_bytes()

    with pytest.raises(DatabaseNewer, match=f"schema {SCHEMA_VERSION + 1}"):
        Database.open(file)

    assert file.read_bytes() == before
    assert not file.with_name("state.db.damaged").exists()


def test_database_that_somebody_holds_is_busy_and_not_damaged(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BUSY_TIMEOUT_S", 0.01)
    with closing(Database.open(file)) as database:
        database.put("a", 1)
    with closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("PRAGMA locking_mode=EXCLUSIVE")
        other.execute("BEGIN EXCLUSIVE")
        other.execute("UPDATE state SET value = '2' WHERE key = 'a'")
        with pytest.raises(DatabaseBusy, match="locked"):
            Database.open(file)
        other.execute("COMMIT")

    with closing(Database.open(file)) as database:
        assert not database.was_lost
        assert database.get("a") == 2


def test_directory_that_is_not_there_is_a_fault_of_the_disk(tmp_path: Path) -> None:
    with pytest.raises(DiskFault, match="absent"):
        Database.open(tmp_path / "absent" / "state.db")


def test_database_that_may_not_be_written_is_a_fault_and_is_not_set_aside() -> None:
    with as_plain_user() as place:
        file = place / "state.db"
        with closing(Database.open(file)) as database:
            database.put("a", 1)
        file.chmod(0o400)
        place.chmod(0o500)

        with pytest.raises(DiskFault), closing(Database.open(file)) as database:
            database.put("a", 2)

        assert [path.name for path in place.iterdir() if "damaged" in path.name] == []


def test_full_disk_is_told_as_such_and_undoes_the_transaction(database: Database) -> None:
    database.put("a", 1)
    pages = database.rows("PRAGMA page_count")[0][0]
    database.rows(f"PRAGMA max_page_count={pages}")

    with pytest.raises(DiskFull, match="no space left"):
        fill(database)

    assert database.get("key 1") is None
    assert database.get("a") == 1
    database.rows("PRAGMA max_page_count=100000")
    database.put("a", 2)
    assert database.get("a") == 2


def test_full_disk_that_has_no_room_for_the_files_beside_the_database_is_told_as_such(
    database: Database,
) -> None:
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorcode = sqlite3.SQLITE_IOERR_SHMSIZE

    with pytest.raises(DiskFull), database.transaction():
        raise error


def test_full_disk_while_the_database_is_made_is_no_damage(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_SCHEMA", f"PRAGMA max_page_count=2;{module._SCHEMA}")

    with pytest.raises(DiskFull):
        Database.open(file)

    assert not file.with_name("state.db.damaged").exists()


def test_disk_that_became_read_only_is_a_fault(database: Database) -> None:
    database.put("a", 1)
    database.rows("PRAGMA query_only=1")

    with pytest.raises(DiskFault, match="cannot be used"):
        database.put("a", 2)

    assert database.get("a") == 1


# --- reading beside an agent, or without one ------------------------------------------------------


def test_reader_sees_what_an_agent_has_written_and_may_not_write(
    database: Database, file: Path
) -> None:
    database.put("a", 1)

    with closing(Database.read(file)) as reader:
        assert reader.get("a") == 1
        database.put("a", 2)
        assert reader.get("a") == 2
        with pytest.raises(DiskFault, match="readonly"):
            reader.put("a", 3)

    assert database.get("a") == 2


@pytest.mark.parametrize("name", ["state.db", "a name? with #100%.db"])
def test_reader_needs_no_agent(tmp_path: Path, name: str) -> None:
    with closing(Database.open(tmp_path / name)) as database:
        database.put("a", 1)

    with closing(Database.read(tmp_path / name)) as reader:
        assert reader.get("a") == 1


def test_reader_makes_no_database(file: Path) -> None:
    with pytest.raises(DiskFault, match="unable to open"):
        Database.read(file)

    assert not file.exists()


def test_reader_of_a_database_that_was_only_begun_sees_nothing(file: Path) -> None:
    file.touch()

    with closing(Database.read(file)) as reader:
        assert reader.get("a") is None

    assert file.read_bytes() == b""


def test_reader_leaves_a_damaged_database_where_it_is(file: Path) -> None:
    file.write_bytes(b"no database at all" * 100)

    with pytest.raises(DatabaseDamaged) as failed:
        Database.read(file)

    assert "Restart the agent" in failed.value.hint
    assert [path.name for path in file.parent.iterdir()] == ["state.db"]


def test_reader_on_a_read_only_file_system_sees_what_is_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class ReadOnly:
        f_flag = os.ST_RDONLY

    with as_plain_user() as place:
        file = place / "state.db"
        with closing(Database.open(file)) as database:
            database.put("a", 1)
        place.chmod(0o500)
        with pytest.raises(DiskFault):
            Database.read(file)
        monkeypatch.setattr(os, "statvfs", lambda _: ReadOnly())

        with closing(Database.read(file)) as reader:
            assert reader.get("a") == 1

        assert [path.name for path in place.iterdir()] == ["state.db"]
        place.chmod(0o700)

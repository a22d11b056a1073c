from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ota_agent.errors import DiskFull
from ota_agent.model.tree import MODE_FILE, Entry
from ota_agent.store.space import Space
from ota_agent.update.gates import BLOCK_BYTES, Need, need_of, require_space

MIB = 1024 * 1024
NOTHING = Need(0, 0)


def entry(path: str, size_bytes: int, oid: str = "a") -> Entry:
    return Entry(path, MODE_FILE, oid, size_bytes)


@pytest.mark.parametrize(
    ("entries", "on_disk", "blocks", "inodes"),
    [
        ([], set(), 0, 0),
        ([entry("a", 0)], set(), 0, 1),
        ([entry("a", 1)], set(), 1, 1),
        ([entry("a", BLOCK_BYTES)], set(), 1, 1),
        ([entry("a", BLOCK_BYTES + 1)], set(), 2, 1),
        # Every directory is new, however many files it holds.
        ([entry("d/a", 1), entry("d/e/b", 1), entry("d/e/c", 1)], set(), 5, 5),
        # What is live with the same content is linked and takes nothing.
        ([entry("d/a", 9 * BLOCK_BYTES)], {("d/a", "a")}, 1, 1),
        ([entry("d/a", 1)], {("d/a", "other")}, 2, 2),
        ([entry("d/a", 1)], {("elsewhere", "a")}, 2, 2),
    ],
)
def test_what_staging_writes_is_counted_in_whole_blocks(
    entries: list[Entry], on_disk: set[tuple[str, str]], blocks: int, inodes: int
) -> None:
    assert need_of(entries, on_disk) == Need(blocks * BLOCK_BYTES, inodes)


def test_needs_add_up() -> None:
    assert Need(1, 2) + Need(10, 20) == Need(11, 22)


@pytest.mark.parametrize(
    ("free", "missing"),
    [
        (Space(15 * MIB, 150), None),
        (Space(15 * MIB, None), None),
        (Space(15 * MIB - 1, 150), "0.0 MiB short"),
        (Space(14 * MIB, 150), "1.0 MiB short"),
        (Space(14 * MIB, None), "1.0 MiB short"),
        (Space(15 * MIB, 149), "1 short"),
        (Space(15 * MIB, 0), "150 short"),
    ],
)
def test_release_has_to_fit_beside_the_reserve(free: Space, missing: str | None) -> None:
    need, reserve = Need(10 * MIB, 100), Need(5 * MIB, 50)
    if missing is None:
        require_space(need, free, reserve)
        return

    with pytest.raises(DiskFull) as refused:
        require_space(need, free, reserve)

    assert refused.value.message.endswith(missing)
    assert "stay in reserve" in refused.value.message


def test_refusal_names_what_is_needed_what_is_kept_and_what_there_is() -> None:
    with pytest.raises(DiskFull) as refused:
        require_space(Need(10 * MIB, 1), Space(3 * MIB, 10), Need(MIB, 1))

    assert refused.value.message == (
        "the release needs 10.0 MiB and 1.0 MiB stay in reserve,"
        " but only 3.0 MiB are free: 8.0 MiB short"
    )


@given(st.integers(0, 100), st.integers(0, 100), st.integers(0, 100))
def test_nothing_begins_that_would_touch_the_reserve(need: int, free: int, reserve: int) -> None:
    for wanted, there, kept in (
        (Need(need, 0), Space(free, 100), Need(reserve, 0)),
        (Need(0, need), Space(100, free), Need(0, reserve)),
    ):
        try:
            require_space(wanted, there, kept)
        except DiskFull:
            assert free - need < reserve
        else:
            assert free - need >= reserve

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ota_agent.model.verdict import Facts, Reason

TREE = "7" * 40


TEXTS = st.text()
FACTS = st.builds(
    Facts,
    tree=TEXTS,
    version=st.none() | TEXTS,
    min_agent=st.none() | TEXTS,
    compatible=st.lists(TEXTS).map(tuple),
    has_commands=st.booleans(),
    deleted_files=st.none() | st.integers(),
    deleted_from=st.none() | TEXTS,
)


@given(FACTS)
def test_facts_come_back_from_json_as_they_were(facts: Facts) -> None:
    assert Facts.from_json(json.loads(json.dumps(facts.to_json()))) == facts


GOOD = Facts(TREE, compatible=("x86",)).to_json()


@pytest.mark.parametrize(
    "value",
    [
        None,
        "facts",
        {},
        {**GOOD, "tree": 7},
        {**GOOD, "compatible": "x86"},
        {**GOOD, "compatible": [1]},
        {**GOOD, "has_commands": None},
        {key: value for key, value in GOOD.items() if key != "min_agent"},
    ],
)
def test_facts_of_another_shape_are_forgotten(value: object) -> None:
    assert Facts.from_json(value) is None


def test_what_a_later_agent_added_to_the_facts_is_passed_over() -> None:
    assert Facts.from_json({**GOOD, "signed_by": "x"}) == Facts(TREE, compatible=("x86",))


def test_a_reason_reads_as_its_code() -> None:
    assert f"{Reason.AGENT_TOO_OLD}" == "release.agent_too_old"

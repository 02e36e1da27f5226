"""Status is read back as it was written, small enough to be stored, and its faults are told by field."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.core.status import (
    Condition,
    CriterionStatus,
    DecisionRecord,
    Hold,
    Intent,
    OverrideRecord,
    Run,
    State,
    Status,
    TargetStatus,
    UnreadableStatusError,
    read_status,
    write_status,
)
from tests.core.builders import NOW, bad, course, ramp, target, thin

INSTANTS = st.integers(0, 4_000_000_000_000).map(lambda milliseconds: milliseconds / 1000)
WEIGHTS = st.integers(0, 1000)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)


@settings(max_examples=12, deadline=None)
@given(
    state=st.sampled_from(State),
    texts=st.lists(TEXTS, min_size=4, max_size=4),
    instants=st.lists(st.one_of(st.none(), INSTANTS), min_size=3, max_size=3),
    at=INSTANTS,
    weights=st.dictionaries(TEXTS, WEIGHTS, max_size=3),
    number=st.integers(0, 2**53),
)
def test_what_is_written_is_read_back_exactly(
    state: State, texts: list[str], instants: list[float | None], at: float, weights: dict[str, int], number: int
) -> None:
    one, two, three, four = texts
    status = Status(
        observed_generation=number,
        state=state,
        reason=one,
        message=two,
        epoch=number,
        sequence=number,
        run=Run(number=number, revision=three, started_at=at, stands_on={"phases": [{"name": four}], "x": [1.5, None]}),
        phase=one,
        phase_started_at=instants[0],
        step=number,
        ended_at=instants[1],
        targets=tuple(TargetStatus(name=name, weight=set_, in_force_at=instants[2]) for name, set_ in weights.items()),
        intent=Intent(id=one, kind="raise", phase=two, step=number, weights=weights, epoch=number, at=at),
        hold=Hold(reason=one, message=two, since=at),
        criteria=(
            CriterionStatus(
                target=one,
                criterion=two,
                verdict=three,
                value=four,
                limit=one,
                requests=two,
                bad=three,
                sentence=four,
                as_of=instants[0],
            ),
        ),
        folds={one: two},
        overrides=(OverrideRecord(verb=one, value=two, run=number, outcome="expired", message=three, at=at),),
        decisions=(
            DecisionRecord(
                id=one, at=at, signal=two, state=three, phase=four, step=number, weights=weights, message=one
            ),
        ),
        conditions=(
            Condition(
                type=one,
                status="Unknown",
                reason=two,
                message=three,
                last_transition_time=at,
                observed_generation=number,
            ),
        ),
    )
    stored = json.dumps(write_status(status))
    assert read_status(json.loads(stored)) == status
    assert json.dumps(write_status(read_status(json.loads(stored)))) == stored


def test_every_status_of_a_whole_launch_is_read_back_exactly() -> None:
    launched = course(phases=[ramp(gate={"criteria": [{"metric": "errors", "below": "1%"}]})], targets=[target("east")])
    for traffic in (launched.traffic, thin, bad):
        launched.traffic = traffic
        for _ in range(14):
            launched.tick(10.123)
            assert read_status(json.loads(json.dumps(write_status(launched.status)))) == launched.status
    assert launched.status.state is State.ROLLED_BACK


def test_an_empty_document_is_a_launch_that_nobody_has_looked_at() -> None:
    assert read_status({}) == Status()
    assert read_status(write_status(Status())) == Status()


def test_it_is_written_in_the_words_of_people() -> None:
    written = write_status(
        Status(
            state=State.HELD,
            targets=(TargetStatus(name="main", weight=5, in_force_at=NOW),),
            intent=Intent(id="1-2", kind="raise", phase="ramp", step=1, weights={"main": 1000}, epoch=3, at=NOW),
        )
    )
    assert written["targets"] == [
        {"name": "main", "weight": "0.5%", "inForceAt": "2023-11-14T22:13:20.000Z", "withdrawn": ""}
    ]
    assert written["intent"]["weights"] == {"main": "100%"}
    assert "hold" not in written
    assert "folds" not in written


@pytest.mark.parametrize(
    ("document", "field"),
    [
        ({"state": "Confused"}, "status.state"),
        ({"endedAt": 5}, "status.endedAt"),
        ({"endedAt": "yesterday"}, "status.endedAt"),
        ({"targets": [{"name": "a"}, {"name": "b", "weight": "x%"}]}, "status.targets.1.weight"),
        ({"targets": [{"name": "b", "weight": "inf%"}]}, "status.targets.0.weight"),
        ({"targets": [{"name": "b", "weight": "101%"}]}, "status.targets.0.weight"),
        ({"targets": [{"name": "b", "weight": "-1%"}]}, "status.targets.0.weight"),
        ({"targets": [{"name": "b", "weight": None}]}, "status.targets.0.weight"),
        ({"targets": {}}, "status.targets"),
        ({"intent": {"id": "1-1", "kind": "sideways"}}, "status.intent"),
        ({"run": {"number": 1}}, "status.run.revision"),
        ({"colour": "blue"}, "status.colour"),
        ({"folds": {"main|errors": 7}}, "status.folds"),
    ],
    ids=str,
)
def test_a_fault_is_told_by_its_field_with_what_to_do(document: dict[str, Any], field: str) -> None:
    with pytest.raises(UnreadableStatusError) as caught:
        read_status(document)
    assert str(caught.value).startswith(field)
    assert "remove the status of the launch to start it again from the beginning" in str(caught.value)


def size(targets: int, criteria: int) -> int:
    """Bytes of the status of a launch in mid-step, after some decisions and overrides."""
    limits = [f"{limit}%" for limit in (2, 3, 4, 5)]
    launched = course(
        targets=[target(f"region-{number:02}") for number in range(targets)],
        phases=[ramp(guardrails=[{"metric": "errors", "below": limit} for limit in limits[:criteria]])],
    )
    launched.until_weight(50, f"region-{targets - 1:02}", ticks=3 * targets + 10)
    for number in range(6):
        launched.annotations["hold"] = f"a reason of some length, number {number}"
        launched.tick()
    return len(json.dumps(write_status(launched.status)))


def test_a_usual_status_fits_8_kib() -> None:
    assert size(1, 2) < 8 * 1024


def test_a_status_of_eight_regions_fits_32_kib() -> None:
    assert size(8, 2) < 32 * 1024

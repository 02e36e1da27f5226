"""What people are told of a decision by Events: one sentence each, with the decision's id, that an API server takes."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from controller.core.decide import Decision
from controller.core.events import (
    LARGEST_CHECKPOINT,
    LONGEST_NOTE,
    Event,
    checkpoint_criteria,
    event_of_rollback,
    events_of,
    in_lines,
)
from controller.core.signals import Signal
from controller.core.status import State
from controller.core.world import LaunchKey
from tests.core.builders import NOW, Course, bad, course, invalid, ramp

SHOP = LaunchKey("prod", "shop")


def told(decision: Decision) -> list[tuple[str, str, bool, str]]:
    return [(event.reason, event.action, event.warning, event.note) for event in events_of(SHOP, decision)]


def only(decision: Decision) -> Event:
    (event,) = events_of(SHOP, decision)
    return event


def checked() -> Decision:
    """The decision in which the third checkpoint was taken; nobody was there at the first two."""
    phase = ramp(
        steps=[{"weight": 5, "for": "1h"}],
        guardrails=[{"metric": "errors", "below": limit} for limit in ("20%", "1%")],
        gate={"after": "2h", "criteria": [{"metric": "errors", "below": "0.5%"}]},
        checkpoints=["30s", "1m", "2m"],
    )
    launched = course(phases=[phase])
    launched.traffic = lambda subject, at: (1000.0, 9.0)
    launched.until_weight(50)
    launched.now = NOW + 150
    decision = launched.tick()
    assert decision.checkpoint is not None
    return decision


def test_a_decision_is_one_event_with_its_signal_its_sentence_and_its_id() -> None:
    launched = course()
    decision = launched.run(2)[-1]
    event = only(decision)
    assert (event.key, event.at, event.decision) == (SHOP, NOW + 20, decision.id)
    assert told(decision) == [("PhaseBegins", "Raise", False, f"phase ramp begins with 5% (decision {decision.id})")]
    assert event.annotations == {"decision": decision.id}


def rolling(launched: Course) -> Decision:
    launched.until_weight(50)
    launched.traffic = bad
    return launched.until(State.ROLLED_BACK)


def held(launched: Course) -> Decision:
    launched.until_weight(50)
    launched.problem = "Prometheus did not answer within 5s"
    return launched.until(State.HELD)


def without_a_plan(launched: Course) -> Decision:
    launched.plan = invalid()
    return launched.until(State.INVALID)


@pytest.mark.parametrize("story", [rolling, held, without_a_plan])
def test_what_stops_a_launch_is_a_warning(story: Any) -> None:
    assert only(story(course())).warning


def test_a_new_revision_that_takes_the_old_ones_traffic_is_no_warning() -> None:
    launched = course()
    launched.until_weight(50)
    launched.plan, launched.generation = course(revision="v3").plan, 2
    decision = launched.tick()
    assert decision.signal is Signal.REVISION_CHANGED
    assert not only(decision).warning


def test_an_override_is_an_event_of_its_own_before_what_follows_from_it() -> None:
    launched = course()
    launched.until_weight(50)
    launched.annotations = {"hold": '{"reason": "lunch", "by": "ann"}', "approve": "ramp/gate"}
    refused, accepted, decision = sorted(told(launched.tick()), key=lambda event: event[0], reverse=True)
    identity = launched.history[-1].id
    assert refused[:3] == ("OverrideRefused", "Approve", True)
    assert accepted[:3] == ("OverrideAccepted", "Hold", False)
    assert accepted[3].startswith("hold by ann accepted: ")
    assert decision[:2] == ("HoldAsked", "Wait")
    assert all(note.endswith(f" (decision {identity})") for *_, note in (refused, accepted, decision))
    launched.annotations = {}
    assert [reason for reason, *_ in told(launched.tick())] == ["StepNotDone"], "the removal of one is no news"


def test_a_checkpoint_is_an_event_with_the_worst_first_and_its_whole_record_beside() -> None:
    decision = checked()
    _, event = events_of(SHOP, decision)
    assert decision.checkpoint is not None
    assert (event.reason, event.action, event.warning) == ("CheckpointTaken", "TakeCheckpoint", True)
    head, _, said = event.note.partition(": errors")
    assert head == "checkpoint 2m of phase ramp: 1 passed, 1 undecided, 1 failed; 30s and 1m before it missed"
    assert said.startswith(" below 0.5% (main): proven worse than 0.5%: ")
    assert said.index("below 0.5%") < said.index("below 1%") < said.index("below 20%")
    assert event.note.endswith(f" (decision {decision.id})")
    record = json.loads(event.annotations["checkpoint"])
    criteria = record.pop("criteria")
    assert record == {
        "phase": "ramp",
        "after": "2m",
        "takenAt": "2023-11-14T22:16:00.000Z",
        "passed": 1,
        "undecided": 1,
        "failed": 1,
    }
    assert [(one["criterion"], one["verdict"], one["limit"]) for one in criteria] == [
        ("errors below 0.5%", "fail", "0.5%"),
        ("errors below 1%", "undecided", "1%"),
        ("errors below 20%", "pass", "20%"),
    ]
    assert set(criteria[0]) == {
        *("target", "criterion", "verdict", "value", "limit", "requests", "bad", "sentence", "asOf")
    }
    assert criteria[0]["value"] == "0.9%"


@pytest.mark.parametrize("letter", ["x", "é", "😀", "\x00", "\ud83d", '"'])
def test_a_note_of_any_letters_fits_and_keeps_the_id(letter: str) -> None:
    decision = replace(course().tick(), reason=letter * 1024)
    note = only(decision).note
    assert len(note.encode()) <= LONGEST_NOTE
    assert note.endswith(f"… (decision {decision.id})") or letter in 'x\x00\ud83d"'
    assert note.endswith(f"(decision {decision.id})")


def test_the_name_is_a_dns_name_that_is_the_same_again_and_another_one_for_another_event() -> None:
    decision = checked()
    names = [event.name for event in events_of(SHOP, decision)]
    assert names == [event.name for event in events_of(SHOP, decision)]
    later = events_of(SHOP, replace(decision, at=decision.at + 0.001))
    other = events_of(LaunchKey("prod", "pay"), decision)
    assert len({*names, *(event.name for event in (*later, *other))}) == 6
    long = events_of(LaunchKey("prod", "a" * 199 + "." + "b" * 40), decision)[0]
    assert long.name.startswith("a" * 199 + ".")
    assert len(long.name) == 199 + 17


def test_the_end_of_a_rollback_is_told_with_what_caused_it() -> None:
    launched = course()
    rolling(launched)
    event = event_of_rollback(SHOP, launched.status, NOW)
    last = launched.status.decisions[-1]
    assert (event.reason, event.warning, event.decision) == ("RolledBack", True, last.id)
    assert event.note.startswith("every canary is at 0%: errors below 2% (main): proven worse than 2%: ")
    assert event.note.endswith(f"(decision {last.id})")


def test_a_large_checkpoint_is_cut_to_what_an_api_server_takes_and_says_so() -> None:
    decision = checked()
    taken = decision.checkpoint
    assert taken is not None
    wide = tuple(
        replace(item, verdict=replace(item.verdict, target=f"region-{number:03}-{'x' * 50}"))
        for number in range(200)
        for item in taken.judged
    )
    *_, event = events_of(SHOP, replace(decision, checkpoint=replace(taken, judged=wide)))
    assert len(event.annotations["checkpoint"]) <= LARGEST_CHECKPOINT
    record = json.loads(event.annotations["checkpoint"])
    assert record["criteriaLeftOut"] == len(wide) - len(record["criteria"]) > 0
    assert record["criteria"][0]["verdict"] == "fail"


def test_the_criteria_of_a_checkpoint_are_split_into_lines_and_none_is_lost() -> None:
    taken = checked().checkpoint
    assert taken is not None
    criteria = checkpoint_criteria(taken) * 30
    lines = list(in_lines(criteria, 4096))
    assert sum(map(len, lines)) == 90
    assert len(lines) > 5
    assert all(len(json.dumps(line)) < 4096 + 1024 for line in lines)
    assert list(in_lines((), 4096)) == [[]]

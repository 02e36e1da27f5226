"""The ledger: what a decision was made from is kept to the last bit, and decided again it is the same decision."""

from __future__ import annotations

import base64
import hashlib
import json
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from math import inf, nan
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.core.decide import Decision, decide
from controller.core.exact import Codec, UnreadableError
from controller.core.ledger import LARGEST_OBSERVATION, LONGEST_LINE, Redecided, read_records, record, redecide
from controller.core.observation import Observation
from controller.core.series import Reading, Row, Series, Subject
from controller.core.status import State
from tests.core.builders import NOW, Course, Traffic, bad, course, good, invalid, ramp, silent, target, thin

TRAFFIC = [good, bad, silent, thin]
CODEC = Codec(Observation, Decision)


def same(one: object, other: object) -> bool:
    """Equal to the last bit; repr tells -0.0 from 0.0, 1 from 1.0, and nan from nothing."""
    return repr(one) == repr(other)


def through_json(value: object) -> Any:
    return CODEC.decode(json.loads(json.dumps(CODEC.encode(value), allow_nan=False)))


def gated() -> Course:
    """A launch with a gate, two targets and annotations."""
    gate = {"criteria": [{"metric": "errors", "below": "1%"}]}
    second = ramp("second", steps=[{"weight": 100, "for": "30s"}])
    return course(phases=[ramp(gate=gate), second], targets=[target("east"), target("west")])


def recorded(launched: Course, ticks: int, seconds: float = 10.0) -> list[str]:
    """The ledger of so many ticks."""
    lines = []
    for _ in range(ticks):
        launched.now = round(launched.now + seconds, 3)
        seen = launched.observe()
        decision = decide(seen)
        lines += record(seen, decision)
        launched.history.append(decision)
        launched._carry_out(decision)
    return lines


def raising() -> tuple[Observation, Decision]:
    """An observation upon which a raise is decided."""
    launched = course()
    for _ in range(30):
        launched.now += 10.0
        seen = launched.observe()
        decision = decide(seen)
        if decision.raises and decision.status.phase and launched.status.step:
            return seen, decision
        launched._carry_out(decision)
    raise AssertionError("nothing was raised")


NUMBERS = st.floats(allow_nan=True, allow_infinity=True)
TEXTS = st.text(max_size=8)  # halves of surrogate pairs included: a folder of manifests may hold them


@settings(max_examples=25, deadline=None)
@given(
    ticks=st.integers(0, 14),
    traffic=st.sampled_from(TRAFFIC),
    numbers=st.lists(NUMBERS, min_size=4, max_size=4),
    texts=st.dictionaries(TEXTS, TEXTS, max_size=3),
    broken=st.booleans(),
    rows=st.lists(st.builds(Row, NUMBERS, NUMBERS, NUMBERS), max_size=3),
)
def test_an_observation_is_read_back_to_the_last_bit(
    ticks: int,
    traffic: Traffic,
    numbers: list[float],
    texts: dict[str, str],
    broken: bool,
    rows: list[Row],
) -> None:
    launched = gated()
    launched.traffic = traffic
    launched.run(ticks, 10.123)
    if broken:
        launched.plan = invalid()
    now, awake, age, watched = numbers
    seen = replace(
        launched.observe(), annotations=texts, now=now, awake=awake, intent_age=age, watched=watched, claimed_by="é\n"
    )
    subject = Subject(Series("ratio", "odd", edge=numbers[0]), "", "@", "", "")
    seen = replace(seen, readings={**seen.readings, subject: Reading(1, 2, tuple(rows), tuple(rows[:1]))})
    again = through_json(seen)
    assert same(again, seen)
    assert type(again.status) is type(seen.status)
    assert again.status == seen.status
    assert again.running == seen.running


def test_instants_finer_than_a_millisecond_and_infinities_are_kept_where_status_would_round_them() -> None:
    launched = course()
    launched.until_weight(50)
    (item,) = launched.status.targets
    status = launched.status.model_copy(
        update={"phase_started_at": NOW + 1e-7, "targets": (item.model_copy(update={"in_force_at": inf}),)}
    )
    seen = replace(launched.observe(), status=status, awake=nan, watched=-inf)
    assert same(through_json(seen), seen)


@dataclass(frozen=True)
class Later:
    """A later version's observation: fields of simple types that the codec was never told of."""

    seen: Observation
    state: State
    pairs: tuple[tuple[str, float | None], ...] = ()
    table: dict[int, list[str]] | None = None


def test_new_fields_of_simple_types_need_no_change_of_the_codec() -> None:
    codec = Codec(Later)
    later = Later(course().observe(), State.HELD, (("a", None), ("b", -0.0)), {1: ["x"], 2: []})
    assert same(codec.decode(json.loads(json.dumps(codec.encode(later)))), later)


def test_a_type_that_no_annotation_leads_to_is_refused_by_name_when_it_is_recorded() -> None:
    with pytest.raises(TypeError, match="complex is no type that can be recorded"):
        CODEC.encode({"x": 1j})


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({"@": "os.system"}, "'os.system' is no type that is known here"),
        ({"@": ["list"]}, "cannot be read"),
        ({"@": "series.Row", "at": 1.0, "n": 1.0}, "series.Row.x is missing; another version recorded it"),
        ({"@": "status.Hold", "reason": "", "since": 1.0}, "status.Hold.message is missing"),
        ({"@": "series.Row", "at": 1.0, "n": 1.0, "x": 1.0, "y": 1}, "series.Row.y is no field that is known here"),
        ({"@": "series.Row", "each": ["at", "n", "x"], "of": [[1.0]]}, "'series.Row' cannot be read"),
        ({"@": "status.State", "of": "Confused"}, "'status.State' cannot be read"),
        ({"@": "map", "of": [[["list"], 1], [{"@": "list", "of": []}, 1]]}, "'map' cannot be read"),
        ({"@": "float", "of": {}}, "'float' cannot be read"),
    ],
    ids=str,
)
def test_data_that_was_not_recorded_here_is_refused_with_its_place(data: Any, said: str) -> None:
    with pytest.raises(UnreadableError) as caught:
        CODEC.decode(data)
    assert said in str(caught.value)


def test_a_field_that_an_older_version_did_not_record_takes_its_default() -> None:
    seen = replace(course().observe(), route_settle=99.0)
    data = CODEC.encode(seen)
    del data["route_settle"]
    assert same(CODEC.decode(data), replace(seen, route_settle=10.0))


# Records


def test_the_first_line_tells_people_what_was_decided() -> None:
    seen, decision = raising()
    first, *others = map(json.loads, record(seen, decision))
    assert first.pop("verdicts") == [
        f"errors below 2% (main): passes: 0 errors in {decision.verdicts[0].verdict.n:,.0f} requests (0%)"
    ]
    assert len(first.pop("digest")) == 32
    assert first == {
        "kind": "decision",
        "launch": "prod/shop",
        "id": decision.id,
        "at": "2023-11-14T22:14:20.000Z",
        "signal": "StepDone",
        "action": decision.action.value,
        "state": "Progressing",
        "phase": "ramp",
        "step": 1,
        "weights": {"main": "30%"},
        "message": decision.message,
        "parts": len(others),
    }
    assert [(line["kind"], line["id"], line["part"], line["of"]) for line in others] == [
        ("observation", decision.id, number, len(others)) for number in range(1, len(others) + 1)
    ]


def test_the_first_line_tells_what_a_checkpoint_found() -> None:
    launched = course(phases=[ramp(checkpoints=["1m"], gate={"after": "1h", "approval": {"role": "lead"}})])
    while not (taken := [json.loads(line) for line in recorded(launched, 1) if '"checkpoint"' in line]):
        assert launched.now < NOW + 600
    assert taken[0]["checkpoint"] == {"phase": "ramp", "after": "1m", "passed": 0, "undecided": 1, "failed": 0}


def fleet(targets: int, criteria: int = 6) -> Course:
    """A launch of many targets with long names, in the middle of its first step."""
    limits = [{"metric": "errors", "below": f"{limit}%"} for limit in range(2, 2 + criteria)]
    names = [f"region-{number:02}-" + "x" * 40 for number in range(targets)]
    return course(targets=[target(name) for name in names], phases=[ramp(guardrails=limits)])


def test_no_line_of_64_targets_is_longer_than_16_kib_and_it_is_decided_again_the_same() -> None:
    launched = fleet(64)
    recorded_lines = recorded(launched, 3)
    launched.status = launched.status.model_copy(
        update={"targets": tuple(item.model_copy(update={"weight": 50}) for item in launched.status.targets)}
    )
    launched.live = {item.name: 50 for item in launched.status.targets}
    launched.annotations = {"rollback": "it is " + "😀" * 2000}
    launched.now += 3600.0
    seen = launched.observe()
    decision = decide(seen)
    assert len(decision.weights) == 64
    lines = record(seen, decision)
    assert all(len(line.encode()) < LONGEST_LINE - 1 for line in (*recorded_lines, *lines))
    first = json.loads(lines[0])
    assert first["weightsLeftOut"] + len(first["weights"]) == 64
    assert all(one.same for one in redecide([*recorded_lines, *lines]))


def test_a_message_of_any_letters_is_cut_to_fit_the_line() -> None:
    seen, decision = raising()
    for letter in ("x", "é", "😀", "\x00", '"'):
        (first, *_) = record(seen, replace(decision, reason=letter * 20_000))
        assert len(first.encode()) < LONGEST_LINE
        assert json.loads(first)["message"].startswith(letter * 300)


def test_an_observation_that_is_too_large_is_said_to_be_missing() -> None:
    seen, decision = raising()
    (line,) = record(replace(seen, annotations={"hold": "x" * LARGEST_OBSERVATION}), decision)
    (one,) = redecide([line])
    assert not one.same
    assert "recorded without its observation: the observation has 8," in one.problem


# Deciding again


def from_the_start(traffic: Traffic) -> list[str]:
    launched = gated()
    launched.traffic = traffic
    return recorded(launched, 20)


def in_the_middle(traffic: Traffic) -> list[str]:
    launched = gated()
    lines = recorded(launched, 6)
    launched.traffic = traffic
    return [*lines, *recorded(launched, 16, 7.77)]


def people_and_a_plan_with_faults(traffic: Traffic) -> list[str]:
    launched = gated()
    lines = recorded(launched, 5)
    launched.traffic = traffic
    for verb, said in [("hold", "wait"), ("hold", '{"reason": "wa'), ("retry", "go"), ("rollback", "no"), ("x", "")]:
        launched.annotations = {verb: said}
        lines += recorded(launched, 3)
    launched.plan = invalid()
    return [*lines, *recorded(launched, 3)]


@pytest.mark.parametrize("traffic", TRAFFIC)
@pytest.mark.parametrize("story", [from_the_start, in_the_middle, people_and_a_plan_with_faults])
def test_every_decision_of_a_launch_is_decided_again_the_same(
    story: Callable[[Traffic], list[str]], traffic: Traffic
) -> None:
    again = list(redecide(story(traffic)))
    assert len(again) >= 20
    assert [one for one in again if not one.same] == []


# Faults


def unpacked(lines: list[str]) -> Any:
    data = base64.b64decode("".join(json.loads(line)["data"] for line in lines[1:]))
    return json.loads(zlib.decompress(data))


def packed(whole: bytes, lines: list[str]) -> list[str]:
    """The record with other data in its one part, and the digest of it."""
    digest = hashlib.sha256(whole).hexdigest()[:32]
    first, part = json.loads(lines[0]), json.loads(lines[1])
    first |= {"digest": digest, "parts": 1}
    part |= {"digest": digest, "of": 1, "data": base64.b64encode(zlib.compress(whole)).decode()}
    return [json.dumps(first, separators=(",", ":")), json.dumps(part)]


def changed(change: Callable[[dict[str, Any]], None]) -> Redecided:
    """What is said of a record that somebody changed, digest and all."""
    lines = record(*raising())
    whole = unpacked(lines)
    change(whole)
    (one,) = redecide(packed(json.dumps(whole).encode(), lines))
    return one


def test_a_record_that_nobody_changed_is_the_same_however_it_is_packed() -> None:
    assert changed(lambda whole: None) == Redecided("prod/shop", raising()[1].id, same=True)


def test_another_recorded_weight_is_told_with_both_values() -> None:
    one = changed(lambda whole: whole["decision"]["weights"].update(main=301))
    assert not one.same
    assert one.differences == ("weights.main: recorded 301, decided now 300",)


def test_each_other_field_is_told_by_its_path() -> None:
    one = changed(lambda whole: whole["decision"]["status"]["intent"].update(step=7, at=NOW))
    assert one.differences[0] == "status.intent.step: recorded 7, decided now 2"
    assert one.differences[1].startswith("status.intent.at: recorded 1700000000.0, decided now 17000")
    one = changed(lambda whole: whole["decision"].update(reason="because"))
    assert one.differences == (f'reason: recorded "because", decided now "{raising()[1].reason}"',)
    one = changed(lambda whole: whole["decision"].update(signal={"@": "signals.Signal", "of": "Breach"}))
    assert one.differences == ('signal: recorded "Breach", decided now "StepDone"',)


def test_another_observed_number_is_told_by_what_follows_from_it() -> None:
    one = changed(lambda whole: whole["seen"]["status"]["targets"][0].update(weight=51))
    assert any(difference.startswith("signal: recorded") for difference in one.differences)


def test_an_observation_upon_which_deciding_fails_is_a_difference() -> None:
    one = changed(lambda whole: whole["seen"].update(now="noon"))
    assert one.differences[0].startswith("deciding fails now: TypeError")


def test_each_changed_byte_of_a_number_in_the_lines_is_reported() -> None:
    lines = record(*raising())
    first = lines[0]
    for place, letter in enumerate(first):
        if letter.isdigit():
            other = first[:place] + str((int(letter) + 1) % 10) + first[place + 1 :]
            found = list(redecide([other, *lines[1:]]))
            assert not any(one.same for one in found), other
    part = json.loads(lines[1])
    for place in range(0, len(part["data"]), 97):
        letter = "A" if part["data"][place] != "A" else "B"
        data = part["data"][:place] + letter + part["data"][place + 1 :]
        (one,) = redecide([first, json.dumps(part | {"data": data}), *lines[2:]])
        assert not one.same


def test_a_changed_readable_line_names_the_field() -> None:
    lines = record(*raising())
    (one,) = redecide([lines[0].replace('"main":"30%"', '"main":"31%"'), *lines[1:]])
    assert one.differences == ('the readable line was changed: weights.main: recorded "30%", the line says "31%"',)


def test_other_lines_may_stand_between_and_before() -> None:
    lines = record(*raising())
    noise = ["", "\n", "{", '{"kind":', '{"kind": "other"}', "null", '"kind"', '{"kind":"decision"', "{" * 9000]
    mixed = [text for line in lines for text in (f"2023-11-14T22:15:10Z stdout F {line}\n", *noise)]
    assert [one.same for one in redecide([*noise, *mixed])] == [True]


def test_parts_may_come_in_any_order_and_twice() -> None:
    lines = record(*raising())
    assert [one.same for one in redecide([*reversed(lines[1:]), *lines[1:], lines[0]])] == [True]


def test_a_record_whose_parts_are_missing_is_told_and_the_others_are_decided() -> None:
    lines = recorded(fleet(64), 4)
    heads = [place for place, line in enumerate(lines) if '"decision"' in line]
    place = next(head + 1 for head, after in pairwise(heads) if after - head > 2)
    del lines[place]
    again = list(redecide(lines))
    assert sum(one.same for one in again) == len(heads) - 1
    (one,) = [one for one in again if one.problem]
    assert "parts are missing" in one.problem
    assert not one.torn


@pytest.mark.parametrize("cut", [1, 2])
def test_a_last_record_that_is_cut_is_told_as_such(cut: int) -> None:
    lines = recorded(course(), 2)
    begins = max(place for place, line in enumerate(lines) if '"decision"' in line)
    kept, last = lines[:begins], lines[begins:][:cut]
    again = list(redecide([*kept, *last[:-1], last[-1][:100]]))
    assert [one.same for one in again] == [True, False]
    assert again[-1].torn
    assert again[-1].problem in ("the last line is cut short", "1 of its 1 parts are missing")


def test_parts_without_their_first_line_are_told() -> None:
    (one,) = redecide(record(*raising())[1:])
    assert one.problem == "its first line is missing"


@pytest.mark.parametrize(
    ("whole", "said"),
    [
        (b"no JSON", "its data cannot be read"),
        (b"[]", "its data cannot be read"),
        (b"[" * 200_000, "its data cannot be read"),
        (b'{"format":2}', "it has format 2; this version reads 1"),
        (b'{"format":1,"seen":1,"decision":2}', "it holds no observation, or no decision"),
        (b'{"format":1,"seen":{"@":"no.Such"},"decision":2}', "'no.Such' is no type that is known here"),
        (b" " * (LARGEST_OBSERVATION + 1), "it unpacks to more than 8,388,608 bytes"),
        (b"\xff", "its data cannot be read"),
        (b'{"format":' + b"9" * 5000 + b"}", "its data cannot be read"),
    ],
    ids=lambda value: str(value[:40]),
)
def test_data_that_cannot_be_read_is_told(whole: bytes, said: str) -> None:
    (one,) = redecide(packed(whole, record(*raising())))
    assert said in one.problem
    assert not one.torn


def test_a_bomb_is_unpacked_no_further_than_an_observation_may_be_long() -> None:
    lines = record(*raising())
    first, part = json.loads(lines[0]), json.loads(lines[1])
    bomb = zlib.compressobj(9)
    data = b"".join(bomb.compress(b" " * (1 << 20)) for _ in range(64)) + bomb.flush()
    text = base64.b64encode(data).decode()
    parts = [text[start : start + 14_000] for start in range(0, len(text), 14_000)]
    hostile = [json.dumps(first | {"parts": len(parts)})]
    hostile += [
        json.dumps(part | {"of": len(parts), "part": number, "data": piece}) for number, piece in enumerate(parts, 1)
    ]
    (one,) = redecide(hostile)
    assert "it unpacks to more than" in one.problem


def test_records_that_never_end_are_given_up_in_order() -> None:
    lines = record(*raising())
    part = json.loads(lines[1]) | {"of": 800, "data": "A" * 14_000}

    def endless() -> Iterator[str]:
        for number in range(200):
            yield json.dumps(part | {"id": f"1-{number}"})
        for number in range(1, 801):
            for identity in ("2-1", "2-2", "2-3", "2-4"):
                yield json.dumps(part | {"id": identity, "part": number, "digest": "x" * (number % 3)})
        yield from lines

    found = list(read_records(endless()))
    assert sum(one.problem == "its first line is missing" for one in found) == len(found) - 1
    assert [one.id for one in found[:100]] == [f"1-{number}" for number in range(100)]
    assert any(one.seen is not None for one in found)


@pytest.mark.parametrize("parts", [0, -1, 10**9, True, "2", None, 1.0])
def test_a_number_of_parts_that_cannot_be_is_told(parts: Any) -> None:
    first = json.loads(record(*raising())[0])
    (one,) = redecide([json.dumps(first | {"parts": parts})])
    assert one.problem.startswith("it claims to have")

"""Whether an override fits where the launch stands, in words, and what it changes when it does."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import pytest

from controller.core.decide import Decision
from controller.core.override_rules import MOST_DONE
from controller.core.signals import Signal
from controller.core.status import Grant, OverrideRecord, State
from controller.core.units import format_instant, parse_instant
from tests.core.builders import NOW, Course, bad, course, good, invalid, plan, ramp, thin

ROLLOUT = NOW + 7200
GATE = {"criteria": [{"metric": "errors", "below": "1%"}], "approval": {"role": "vp"}}
PHASES = [
    ramp(
        steps=[{"weight": 5, "for": "30s", "approval": {"role": "lead"}}, {"weight": 30, "for": "30s"}],
        deliverables=["notes"],
        gate=GATE,
    ),
    ramp(
        "rollout",
        start={"at": format_instant(ROLLOUT)},
        preflight={"opens": "1h", "checklist": ["on-call", "dashboards"], "approval": {"role": "vp"}},
        steps=[{"weight": 100}],
    ),
    {"name": "rest", "deliverables": ["report"]},
]


def until(launched: Course, signal: Signal, ticks: int = 200) -> Course:
    """Ticks until that is the signal."""
    for _ in range(ticks):
        if launched.tick().signal is signal:
            return launched
    raise AssertionError(f"no {signal} in {ticks} ticks, but {launched.status.reason}: {launched.status.message}")


def says(launched: Course, verb: str, text: str) -> OverrideRecord:
    """What is recorded when that is said now, without anything being carried out."""
    before = dict(launched.annotations)
    launched.annotations[verb] = text
    decision = launched.decide()
    launched.annotations = before
    return next(record for record in decision.news if record.verb == verb and record.present)


def told(launched: Course, verb: str, text: str) -> Decision:
    """A tick in which it is said, and accepted; it is taken away after."""
    launched.annotations[verb] = text
    decision = launched.tick()
    del launched.annotations[verb]
    record = next(record for record in decision.news if record.verb == verb and record.present)
    assert (record.outcome, record.message) == ("accepted", text)
    return decision


# The places where a launch can stand.


def nothing() -> Course:
    return course(phases=PHASES)


def faulty() -> Course:
    launched = in_step()
    launched.plan = invalid()
    launched.tick()
    return launched


def later() -> Course:
    """The run has started, and its first phase begins in an hour."""
    first = {**PHASES[0], "start": {"at": format_instant(NOW + 3600)}}
    launched = course(phases=[first, *PHASES[1:]])
    launched.run(2)
    return launched


def on_its_way() -> Course:
    launched = nothing()
    launched.accepted = False
    launched.run(2)
    return launched


def in_step() -> Course:
    launched = nothing()
    launched.until_weight(50)
    return launched


def step_measured() -> Course:
    return until(in_step(), Signal.STEP_APPROVAL)


def last_step() -> Course:
    launched = step_measured()
    told(launched, "approve", "ramp/1")
    launched.until_weight(300)
    return launched


def deliverables_wanted() -> Course:
    return until(last_step(), Signal.DELIVERABLES_MISSING)


def gate_measured() -> Course:
    launched = deliverables_wanted()
    told(launched, "done", "ramp/notes")
    return until(launched, Signal.GATE_APPROVAL)


def passed() -> Course:
    """The ramp is passed, and the preflight of the roll-out is not open yet."""
    launched = gate_measured()
    told(launched, "approve", "ramp/gate")
    return until(launched, Signal.SCHEDULED)


def preflight() -> Course:
    launched = passed()
    launched.now = ROLLOUT - 3600
    return until(launched, Signal.PREFLIGHT_OPEN)


def without_steps() -> Course:
    launched = preflight()
    told(launched, "done", "rollout/on-call, dashboards")
    told(launched, "approve", "rollout/preflight")
    launched.now = ROLLOUT
    return until(launched, Signal.DELIVERABLES_MISSING)


def undecided() -> Course:
    launched = in_step()
    launched.traffic = thin
    return until(launched, Signal.STEP_UNDECIDED)


def breached() -> Course:
    guardrails = [{"metric": "errors", "below": "2%", "onBreach": "hold"}]
    launched = course(phases=[{**PHASES[0], "guardrails": guardrails}, *PHASES[1:]])
    launched.until_weight(50)
    launched.traffic = bad
    return until(launched, Signal.HELD_BREACH)


def rolling_back() -> Course:
    launched = in_step()
    launched.carried_out = False
    launched.traffic = bad
    launched.until(State.ROLLING_BACK)
    return launched


def rolled_back() -> Course:
    launched = in_step()
    launched.traffic = bad
    launched.until(State.ROLLED_BACK)
    return launched


def succeeded() -> Course:
    launched = without_steps()
    told(launched, "done", "rest/report")
    launched.until(State.SUCCEEDED)
    return launched


Place = Callable[[], Course]


@cache
def at(place: Place) -> Course:
    """A launch at that place, only to be asked."""
    return place()


WHEN = "2023-11-20T00:00:00Z"

ADVANCE = ("ramp", "ramp/1", "ramp/2", "ramp/last", "rollout", "rest")
TRIED: dict[str, tuple[str, ...]] = {
    "hold": ("x",),
    "rollback": ("x",),
    "retry": ("x",),
    "approve": ("ramp/1", "ramp/gate", "rollout/preflight"),
    "done": ("ramp/notes", "rollout/on-call"),
    "advance": ADVANCE,
    "reschedule": (f"ramp={WHEN}", f"rollout={WHEN}", f"rest={WHEN}"),
}
# What is accepted where; everything else that is tried is refused. Whoever is in time may always tick off and hold.
ALWAYS = {"hold x", "done ramp/notes", "done rollout/on-call"}
TO_COME = {f"reschedule rollout={WHEN}", f"reschedule rest={WHEN}"}
RUNS = ALWAYS | TO_COME | {"rollback x"}
FITS: dict[Place, set[str]] = {
    nothing: ALWAYS | TO_COME | {f"reschedule ramp={WHEN}"},
    faulty: {"hold x", "rollback x"},
    later: RUNS | {"advance ramp", f"reschedule ramp={WHEN}"},
    on_its_way: RUNS,
    in_step: RUNS | {"advance ramp", "advance ramp/1", "advance ramp/last"},
    step_measured: RUNS | {"advance ramp", "advance ramp/1", "advance ramp/last", "approve ramp/1"},
    last_step: RUNS | {"advance ramp", "advance ramp/2"},
    deliverables_wanted: RUNS | {"advance ramp", "advance ramp/2"},
    gate_measured: RUNS | {"advance ramp", "advance ramp/2", "approve ramp/gate"},
    passed: RUNS | {"advance rollout"},
    preflight: RUNS | {"advance rollout", "approve rollout/preflight"},
    without_steps: ALWAYS | {"rollback x", "advance rest"},
    undecided: RUNS | {"retry x", "advance ramp", "advance ramp/1", "advance ramp/last"},
    rolling_back: RUNS,
    rolled_back: ALWAYS | TO_COME | {"retry x"},
    succeeded: ALWAYS | {"rollback x"},
}


@pytest.mark.parametrize("place", FITS, ids=lambda place: place.__name__)
def test_what_fits_where(place: Place) -> None:
    launched = at(place)
    said = {f"{verb} {text}": says(launched, verb, text) for verb, texts in TRIED.items() for text in texts}
    assert {words for words, record in said.items() if record.outcome == "accepted"} == FITS[place]
    for words, record in said.items():
        assert record.outcome in ("accepted", "refused")
        assert record.message, words
        assert record.outcome == "refused" or record.message == words.partition(" ")[2]


REFUSALS: list[tuple[Place, str, str, str]] = [
    (nothing, "rollback", "x", "no run has started; use hold to keep it from starting"),
    (nothing, "retry", "x", "nothing is held that retry could judge again"),
    (nothing, "advance", "ramp", "no run has started"),
    (in_step, "retry", "x", "nothing is held that retry could judge again"),
    (rolling_back, "retry", "x", "it is still rolling back; wait until the canary is at 0%"),
    (rolled_back, "rollback", "x", "it is rolled back already"),
    (succeeded, "retry", "x", "the run has succeeded; give a new revision to run again"),
    *(
        (faulty, verb, text, "the plan has faults; correct it first")
        for verb, text in (
            ("approve", "ramp/gate"),
            ("done", "ramp/notes"),
            ("advance", "ramp"),
            ("reschedule", f"rollout={WHEN}"),
        )
    ),
    # approve
    (
        in_step,
        "approve",
        "ramp/gate",
        "ramp/gate is not asked for yet: an approval is for the evidence as it stands",
    ),
    (
        step_measured,
        "approve",
        "ramp/gate",
        "ramp/gate is not asked for yet: an approval is for the evidence as it stands; asked for now: ramp/1",
    ),
    (passed, "approve", "ramp/gate", "ramp/gate is approved already"),
    (gate_measured, "approve", "ramp", "write ramp/gate, ramp/preflight or ramp/2"),
    (gate_measured, "approve", "sprint/gate", "there is no phase sprint; write one of ramp, rollout, rest"),
    (
        gate_measured,
        "approve",
        "ramp/2",
        "the plan asks for no approval ramp/2; of phase ramp it asks for ramp/1, ramp/gate",
    ),
    (gate_measured, "approve", "rest/gate", "the plan asks for no approval rest/gate; of phase rest it asks for none"),
    # done
    (in_step, "done", "notes", "notes names no phase; write ramp/dashboards-reviewed, ramp/on-call-confirmed"),
    (in_step, "done", "sprint/notes", "there is no phase sprint; write one of ramp, rollout, rest"),
    (in_step, "done", "ramp/on-call", "phase ramp has no item on-call; it has notes"),
    (
        in_step,
        "done",
        "rollout/on-call, notes",
        "phase rollout has no item notes; it has on-call, dashboards",
    ),
    (in_step, "done", ", ,", "it names no item; write ramp/dashboards-reviewed, ramp/on-call-confirmed"),
    # advance
    (in_step, "advance", "sprint", "there is no phase sprint; write one of ramp, rollout, rest"),
    (in_step, "advance", "ramp/2", "the launch is at phase ramp, step 1"),
    (in_step, "advance", "ramp/3", "3 is no step of phase ramp; write 1 to 2, or last"),
    (in_step, "advance", "ramp/0", "0 is no step of phase ramp; write 1 to 2, or last"),
    (in_step, "advance", "ramp/first", "first is no step of phase ramp; write 1 to 2, or last"),
    (in_step, "advance", "ramp/", "nothing is no step of phase ramp; write 1 to 2, or last"),
    (in_step, "advance", "rollout", "the launch is at phase ramp, step 1"),
    (last_step, "advance", "ramp/last", "the launch is at phase ramp, step 2, its last step"),
    (passed, "advance", "ramp", "the launch is at the start of phase rollout"),
    (preflight, "advance", "rest", "the launch is at the start of phase rollout"),
    (without_steps, "advance", "rollout", "the launch is at phase rest"),
    (on_its_way, "advance", "ramp", "a weight is on its way; wait until it is in force"),
    (rolled_back, "advance", "ramp", "the launch is RolledBack"),
    (succeeded, "advance", "rest", "the launch is Succeeded"),
    # reschedule
    (in_step, "reschedule", "rollout", "it names no time; write ramp=2025-11-01T14:00:00Z"),
    (in_step, "reschedule", f"sprint={WHEN}", "there is no phase sprint; write one of ramp, rollout, rest"),
    (in_step, "reschedule", f"ramp={WHEN}", "phase ramp has begun; a phase that has not can be moved"),
    (on_its_way, "reschedule", f"ramp={WHEN}", "phase ramp has begun; a phase that has not can be moved"),
    (passed, "reschedule", f"ramp={WHEN}", "phase ramp has begun; a phase that has not can be moved"),
]


@pytest.mark.parametrize(
    ("place", "verb", "text", "words"), REFUSALS, ids=[f"{p.__name__}-{v}-{t}" for p, v, t, _ in REFUSALS]
)
def test_a_refusal_says_why_and_what_to_write(place: Place, verb: str, text: str, words: str) -> None:
    record = says(at(place), verb, text)
    assert (record.outcome, record.message) == ("refused", words)


def test_a_time_that_is_none_is_refused_with_what_is_wrong_with_it() -> None:
    launched = in_step()
    for text in ("rollout=tomorrow", "rollout=2025-11-01T14:00:00", "rollout="):
        record = says(launched, "reschedule", text)
        assert record.outcome == "refused"
        assert "write an instant" in record.message or "offset" in record.message


def test_a_retry_is_refused_while_a_rollback_is_still_asked_for() -> None:
    launched = in_step()
    launched.annotations["rollback"] = "no"
    launched.until(State.ROLLED_BACK)
    assert says(launched, "retry", "x").message == "the rollback annotation is still there; remove it first"
    del launched.annotations["rollback"]
    assert says(launched, "retry", "x").outcome == "accepted"


def test_a_retry_accepts_an_edit_of_the_running_phase() -> None:
    launched = in_step()
    launched.plan = plan(phases=[{**PHASES[0], "checkpoints": ["1h"]}, *PHASES[1:]])
    assert launched.tick().signal is Signal.PLAN_CHANGED
    assert says(launched, "retry", "x").outcome == "accepted"


def test_items_are_ticked_off_once_in_any_order_and_stay() -> None:
    launched = later()
    told(launched, "done", "rollout/dashboards on-call,\nramp/notes")
    told(launched, "done", "ramp/notes")
    assert launched.status.done == ("rollout/dashboards", "rollout/on-call", "ramp/notes")
    launched.annotations["rollback"] = "no"
    launched.until(State.ROLLED_BACK)
    assert launched.status.done == ("rollout/dashboards", "rollout/on-call", "ramp/notes")


def test_no_item_is_ticked_off_where_one_of_them_is_wrong() -> None:
    launched = in_step()
    launched.annotations["done"] = "ramp/notes, ramp/note"
    launched.tick()
    assert launched.status.done == ()


def test_what_is_ticked_off_stays_within_what_status_holds() -> None:
    items = [f"{'x' * 58}-{number:02}" for number in range(50)]
    phases = [ramp(deliverables=items), *({"name": f"p{number}", "deliverables": items} for number in range(2))]
    launched = course(phases=phases)
    launched.run(2)
    for number, name in enumerate(("ramp", "p0", "p1")):
        first = says(launched, "done", ", ".join(f"{name}/{item}" for item in items))
        assert (first.outcome == "accepted") is (number < 2), first.message
        if first.outcome == "refused":
            assert first.message == f"more than {MOST_DONE:,} characters of items are ticked off; use shorter names"
            continue
        launched.annotations["done"] = ", ".join(f"{name}/{item}" for item in items)
        launched.tick()
        del launched.annotations["done"]
        launched.tick()


@pytest.mark.parametrize(
    ("place", "text", "granted"),
    [
        (later, "ramp", ("ramp", "start", 0)),
        (in_step, "ramp", ("ramp", "step", 1)),
        (in_step, "ramp/1", ("ramp", "step", 1)),
        (in_step, "ramp/last", ("ramp", "last", 0)),
        (last_step, "ramp/2", ("ramp", "gate", 0)),
        (gate_measured, "ramp", ("ramp", "gate", 0)),
        (preflight, "rollout", ("rollout", "start", 0)),
        (without_steps, "rest", ("rest", "gate", 0)),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_advance_grants_the_place_where_the_launch_stands(
    place: Place, text: str, granted: tuple[str, str, int]
) -> None:
    launched = place()
    # A hold keeps what is granted from being used at once, so that it can be seen.
    launched.annotations |= {"hold": "look", "advance": f'{{"value": "{text}", "by": "jo"}}'}
    launched.tick()
    grant = launched.status.grant
    assert grant == Grant.model_validate(
        {"phase": granted[0], "place": granted[1], "step": granted[2], "by": "jo", "at": launched.now}
    )


def test_advance_ends_the_hold_of_a_wait_and_none_of_a_breach() -> None:
    launched = undecided()
    assert launched.status.hold is not None
    launched.annotations["advance"] = "ramp/1"
    assert launched.tick().signal is Signal.STEP_DONE
    assert launched.status.hold is None
    broken = breached()
    before = broken.status.hold
    broken.annotations["advance"] = "ramp/1"
    assert broken.tick().signal is Signal.HELD_BREACH
    assert broken.status.hold == before
    assert broken.live == {"main": 50}


def test_an_approval_says_who_gave_it_and_whether_all_had_passed() -> None:
    launched = gate_measured()
    launched.annotations["hold"] = "look"
    launched.annotations["approve"] = '{"value": "ramp/gate", "by": "vp@example.com", "reason": "go"}'
    launched.tick()
    (record,) = (each for each in launched.status.approvals if each.of == "ramp/gate")
    assert (record.by, record.at, record.proven) == ("vp@example.com", launched.now, True)


def test_an_approval_of_a_preflight_says_whether_the_guardrails_had_passed() -> None:
    for traffic, proven in ((good, True), (thin, False)):
        launched = until(course(phases=[ramp(), PHASES[1]]), Signal.SCHEDULED)
        # The weight was taken away and put back: its evidence begins anew, and thin traffic proves nothing.
        launched.live["main"] = 0
        launched.tick()
        launched.live["main"] = 300
        launched.traffic = traffic
        launched.now = ROLLOUT - 3600
        launched.run(12)
        told(launched, "approve", "rollout/preflight")
        (record,) = (each for each in launched.status.approvals if each.of == "rollout/preflight")
        assert record.proven is proven


def test_a_preflight_may_be_approved_from_its_opening_on() -> None:
    launched = passed()
    launched.now = ROLLOUT - 3600 - 1
    assert says(launched, "approve", "rollout/preflight").outcome == "refused"
    launched.now = ROLLOUT - 3600
    assert says(launched, "approve", "rollout/preflight").outcome == "accepted"


def test_a_phase_is_moved_with_who_and_why_and_those_after_it_too() -> None:
    launched = later()
    launched.annotations["reschedule"] = (
        f'{{"value": "ramp = {format_instant(NOW + 5 * 3600)}", "by": "jo", "reason": "rain"}}'
    )
    launched.tick()
    moves = {move.phase: move for move in launched.status.moves}
    assert [(move.start, move.by) for move in moves.values()] == [
        (NOW + 5 * 3600, 4 * 3600), (None, 4 * 3600), (None, 4 * 3600),
    ]  # fmt: skip
    assert moves["ramp"].why == "moved by jo to Nov 15 03:13: rain"
    assert "begins Nov 15 03:13 (moved by jo to Nov 15 03:13: rain)" in launched.status.message


def test_a_phase_without_a_date_can_be_given_one() -> None:
    launched = preflight()
    told(launched, "reschedule", f"rest={WHEN}")
    (move,) = launched.status.moves
    assert (move.phase, move.start, move.by) == ("rest", parse_instant(WHEN), 0.0)

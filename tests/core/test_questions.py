"""What is asked of Prometheus is what the next decision needs, and nothing else."""

from __future__ import annotations

from dataclasses import replace

from controller.core.questions import criteria_of, fold_key, questions, reading_of
from controller.core.series import Reading
from controller.core.status import State
from controller.core.units import format_instant
from tests.core.builders import NOW, Course, course, plan, ramp, target, thin


def asked(launched: Course) -> set[tuple[str, str, str, int]]:
    """Target, track, metric, and how many seconds back the question reaches."""
    wanted = {one: after for one, after in questions(launched.observe()).items() if not one.past}
    return {(one.target, one.track, one.series.metric, int(launched.now) - after) for one, after in wanted.items()}


def test_nothing_is_asked_before_a_run() -> None:
    assert asked(course()) == set()


def test_the_first_raise_asks_for_the_stable_track() -> None:
    launched = course()
    launched.tick()
    assert asked(launched) == {("main", "stable", "errors", 30)}


def test_a_weight_on_its_way_asks_for_both_tracks_since_the_intent() -> None:
    launched = course()
    launched.accepted = False
    launched.run(2)
    launched.now += 60
    assert asked(launched) == {("main", "stable", "errors", 60), ("main", "canary", "errors", 60)}


def test_a_weight_in_force_asks_for_what_was_not_folded_yet() -> None:
    launched = course()
    launched.until_weight(50)
    launched.run(5)
    launched.now += 10
    assert asked(launched) == {("main", "canary", "errors", 20), ("main", "stable", "errors", 20)}
    launched.now += 600
    assert asked(launched) == {("main", "canary", "errors", 620), ("main", "stable", "errors", 620)}


def test_stable_is_asked_beside_a_guardrail_only_where_its_breach_rolls_back() -> None:
    threshold = {"metric": "errors", "below": "2%", "certainty": "threshold"}
    for guardrail in ({"metric": "errors", "below": "2%", "onBreach": "hold"}, threshold):
        launched = course(phases=[ramp(guardrails=[guardrail])])
        launched.until_weight(50)
        launched.tick()
        assert {where[1] for where in asked(launched)} == {"canary"}


def test_the_past_of_every_stable_track_is_asked_once_before_a_phase_begins() -> None:
    both = [target("east"), target("west")]
    launched = course(targets=both, phases=[ramp(targets=["east"]), ramp("both", steps=[{"weight": 30}])])
    launched.tick()
    past = {one: after for one, after in questions(launched.observe()).items() if one.past}
    assert {(one.target, one.track, one.series.metric) for one in past} == {
        ("east", "stable", "errors"),
        ("west", "stable", "errors"),
    }
    assert {launched.now - after for after in past.values()} == {86_400}
    launched.run(1)
    assert not any(one.past for one in questions(launched.observe()))
    assert launched.status.bursts is not None


def test_criteria_of_one_series_ask_once_and_a_gate_shares_its_guardrail() -> None:
    guardrails = [{"metric": "errors", "below": "2%"}, {"metric": "errors", "below": "3%"}]
    launched = course(phases=[ramp(guardrails=guardrails, gate={"criteria": [{"metric": "errors", "below": "2%"}]})])
    launched.until_weight(50)
    launched.tick()
    assert len(questions(launched.observe())) == 2  # the canary and, beside it, stable
    phase = plan(phases=[ramp(guardrails=guardrails, gate={"criteria": [{"metric": "errors", "below": "2%"}]})]).phases[
        0
    ]
    assert [one.key for one in criteria_of(phase)] == ["errors below 2%", "errors below 3%"]
    assert fold_key("main", criteria_of(phase)[0]) == "main|errors below 2%"


def test_the_run_is_asked_about_and_not_the_plan_as_it_is_now() -> None:
    launched = course()
    launched.until_weight(50)
    launched.plan = plan(revision="v3", targets=[{**target(), "service": "other"}])
    (subject,) = (one for one in questions(launched.observe()) if one.track == "canary")
    assert (subject.service, subject.revision, subject.namespace) == ("main", "v2", "prod")


def until_passed(launched: Course, phase: str) -> None:
    """Ticks until that phase is recorded as passed."""
    while not any(each.name == phase and each.passed_at for each in launched.status.phases):
        launched.tick()


def test_the_wait_for_the_next_phase_asks_for_the_targets_that_it_adds() -> None:
    both = [target("east"), target("west")]
    launched = course(targets=both, phases=[ramp(targets=["east"]), ramp("both", steps=[{"weight": 30}])])
    launched.until_weight(300, "east")
    assert {where[0] for where in asked(launched)} == {"east"}
    until_passed(launched, "ramp")
    assert ("west", "stable", "errors", 30) in asked(launched)
    assert ("east", "canary") in {where[:2] for where in asked(launched)}


def test_a_phase_that_begins_much_later_is_not_asked_about_before_it_is_near() -> None:
    both = [target("east"), target("west")]
    late = {"start": {"at": format_instant(NOW + 7200)}}
    for written, near in ((late, 300), ({**late, "preflight": {"opens": "1h"}}, 3600)):
        launched = course(
            targets=both, phases=[ramp(targets=["east"]), ramp("both", steps=[{"weight": 30}], **written)]
        )
        until_passed(launched, "ramp")
        launched.now = NOW + 7200 - near - 1
        assert {where[0] for where in asked(launched)} == {"east"}
        launched.now += 1
        assert {where[0] for where in asked(launched)} == {"east", "west"}


def test_a_launch_that_is_over_asks_nothing_once_its_watch_is_over() -> None:
    launched = course(watchAfter="5m")
    launched.until(State.SUCCEEDED)
    launched.now += 300
    assert asked(launched)
    launched.now += 1
    assert asked(launched) == set()
    rolled = course()
    rolled.until_weight(50)
    rolled.annotations["rollback"] = "no"
    rolled.tick()
    assert rolled.status.state is State.ROLLED_BACK
    assert asked(rolled) == set()


def test_a_bare_value_is_asked_of_the_canary_alone() -> None:
    metrics = [{"name": "revenue", "value": {"query": "vector(1)", "unit": "number"}}]
    launched = course(metrics=metrics, phases=[ramp(guardrails=[{"metric": "revenue", "above": "0.5"}])])
    launched.tick()
    assert {where[:3] for where in asked(launched)} == {("main", "canary", "revenue")}


def test_the_reading_of_the_stable_track_is_never_taken_for_the_canarys() -> None:
    launched = course()
    launched.traffic = thin
    launched.tick()
    launched.now += 10
    seen = launched.observe()
    (subject,) = (one for one in seen.readings if not one.past)
    assert reading_of(seen, "main", subject.series) is None
    reading = Reading(int(NOW), int(NOW))
    seen = replace(seen, readings={**seen.readings, replace(subject, track="canary"): reading})
    assert reading_of(seen, "main", subject.series) is reading
    assert reading_of(seen, "other", subject.series) is None

"""Evidence that is missing, late, too little, or seen by a clock that jumps: nothing is ever raised on it."""

from __future__ import annotations

import pytest

from controller.core.status import State
from controller.reconcile import Reconciler
from tests.virtual.play import TICK, at_30, check, play, rising, silent, turn_bad
from tests.virtual.world import World, shop

PROBLEMS = (
    "Prometheus did not answer within 5s",
    "Prometheus answered 503: starting up",
    "Prometheus answered 422: query too long",
    "the answer is not JSON but HTML",
    "the answer holds NaN",
    "2 series where one is expected",
    "the answer comes with a warning: partial response",
)


@pytest.mark.parametrize("problem", PROBLEMS)
def test_a_problem_of_the_evidence_holds_says_which_and_recovers_by_itself(problem: str) -> None:
    world, process = at_30()
    world.run(process, 30)
    world.problem_of_evidence = problem
    world.run(process, 900)
    assert world.weight() == 300
    assert world.state == "Held"
    assert problem in world.status.message
    silent(world, process)
    world.problem_of_evidence = ""
    play(world, process=process)
    assert rising(world) == [50, 300, 1000]
    check(world)


@pytest.mark.parametrize("seconds", [30.0, 600.0])
@pytest.mark.parametrize("after", [0.0, 40.0, 90.0])
def test_silence_is_neither_good_nor_bad(seconds: float, after: float) -> None:
    world, process = at_30()
    world.run(process, after)
    begin = world.clock.at
    world.service("shop").silent.append((begin, begin + seconds))
    world.run(process, seconds)
    assert world.weight() == 300
    if seconds > 100:
        assert world.state == "Held"
    play(world, process=process)
    assert rising(world) == [50, 300, 1000]
    check(world)


def test_silence_whose_outcome_is_rollback_takes_the_canary_to_0() -> None:
    world, process = _with_no_data_rollback()
    begin = world.clock.at
    world.service("shop").silent.append((begin, begin + 6000))
    world.run(process, 200)
    assert world.state == "RolledBack"
    assert world.weight() == 0


def _with_no_data_rollback() -> tuple[World, Reconciler]:
    phase = {
        "name": "ramp",
        "steps": [{"weight": 5, "for": "2m"}, {"weight": 30, "for": "20m"}, {"weight": 100}],
        "guardrails": [{"metric": "errors", "below": "2%", "onNoData": "rollback"}],
    }
    return at_30(phases=[phase])


@pytest.mark.parametrize("asked", [True, False])
def test_a_restart_long_after_the_last_checkpoint_is_no_silence(*, asked: bool) -> None:
    world, process = _with_no_data_rollback()
    world.run(process, 600)
    process = world.reconciler()
    world.clock.at += TICK
    world.turn(process, asked=asked)
    assert world.weight() == 300
    assert world.state == "Progressing"
    play(world, process=process)
    assert world.state == "Succeeded"
    check(world)


def test_a_restart_into_an_outage_of_prometheus_waits_as_long_as_any_before_it_calls_it_silence() -> None:
    world, _ = _with_no_data_rollback()
    world.problem_of_evidence = "Prometheus did not answer within 5s"
    world.clock.at += 600
    process = world.reconciler()
    world.run(process, 40)
    assert world.weight() == 300
    world.run(process, 120)
    assert world.weight() == 0
    check(world)


def test_a_canary_without_traffic_is_never_raised() -> None:
    world = shop()
    process = world.reconciler()
    world.run(process, 600, until=lambda: world.weight() == 50)
    world.service("shop").idle.append((world.clock.at - 60, world.clock.at + 1e6))
    world.run(process, 3600)
    assert rising(world) == [50]
    assert world.state == "Held"
    silent(world, process)
    check(world)


def test_a_canary_that_gets_too_little_traffic_to_say_anything_holds_after_three_times_the_step() -> None:
    world = shop()
    world.service("shop").per_second = 0.2
    process = world.reconciler()
    world.run(process, 3600)
    assert rising(world) == [50]
    assert world.state == "Held"
    assert "undecided" in world.status.message
    world.service("shop").per_second = 100
    world.annotate(retry="there is traffic now")
    play(world, process=process)
    assert world.state == "Succeeded"
    check(world)


def test_harm_in_the_tail_is_acted_on_before_it_has_settled() -> None:
    world, process = at_30()
    world.run(process, 60)
    turned = turn_bad(world, 0.9)
    world.run(process, 120, tick=1.0, until=lambda: world.weight() == 0)
    assert world.weights_seen[-1][0] - turned <= 16, "within one interval and the rules' offset"
    check(world)


def test_nothing_passes_on_the_tail_alone() -> None:
    world, process = at_30()
    reference = next(at for at, _, weight in world.weights_seen if weight == 300)
    play(world, process=process, tick=1.0)
    at_100 = next(at for at, _, weight in world.weights_seen if weight == 1000)
    assert at_100 - reference >= 120 + 10
    check(world)


def test_evidence_that_fails_while_a_raise_is_on_its_way_counts() -> None:
    world, process = at_30()
    world.run(process, 600, until=lambda: world.status.intent is not None)
    world.problem_of_evidence = "Prometheus did not answer within 5s"
    turn_bad(world)
    world.run(process, 120)
    world.problem_of_evidence = ""
    world.run(process, 30)
    assert world.weight() == 0
    assert world.state == "RolledBack"
    check(world)


@pytest.mark.parametrize("step", [3600.0, -3600.0, 86400.0, -86400.0])
@pytest.mark.parametrize("back", [True, False], ids=["and back", "for good"])
def test_a_wall_clock_that_jumps_shortens_no_dwell(step: float, *, back: bool) -> None:
    for begin in range(0, 300, 20):
        world = shop()
        process = world.reconciler()
        world.run(process, begin)
        world.clock.step = step
        world.run(process, 40)
        if begin % 40:
            process = world.reconciler()
        world.run(process, 40)
        if back:
            world.clock.step = 0.0
            if begin % 60:
                process = world.reconciler()
            play(world, 3 * 3600, process)
            assert world.state == "Succeeded", begin
        else:
            play(world, 600, process)
        at = {weight: when for when, _, weight in world.weights_seen}
        assert rising(world) == [50, 300, 1000][: len(at)]
        assert at.get(300, 1e18) - at.get(50, 0) >= 120, begin
        assert at.get(1000, 1e18) - at.get(300, 0) >= 120, begin


def test_a_canary_without_endpoints_is_not_given_its_first_traffic() -> None:
    for endpoints in (0, None):
        world = shop()
        world.endpoints["shop-canary"] = endpoints
        process = world.reconciler()
        world.run(process, 300)
        assert rising(world) == []
        assert "the canary has no" in world.status.message
        silent(world, process)
        world.endpoints["shop-canary"] = 2
        play(world, process=process)
        assert world.state == "Succeeded"


def test_no_retreat_onto_a_stable_backend_that_is_known_to_be_empty() -> None:
    world, process = at_30()
    world.endpoints["shop-stable"] = 0
    turn_bad(world)
    world.run(process, 120)
    assert world.weight() == 300
    assert world.state == "RollingBack"
    assert "the stable backend of main has no ready endpoint" in world.status.message
    silent(world, process)
    world.endpoints["shop-stable"] = 1
    world.run(process, 20)
    assert world.weight() == 0
    assert world.state == "RolledBack"
    check(world)


def test_unknown_endpoints_of_stable_do_not_keep_a_bad_canary_alive() -> None:
    world, process = at_30()
    world.endpoints["shop-stable"] = None
    turn_bad(world)
    world.run(process, 60)
    assert world.weight() == 0
    check(world)


def test_guardrails_stay_in_force_after_success_for_as_long_as_the_plan_says() -> None:
    world = shop(watchAfter="10m")
    process = play(world)
    world.run(process, 300)
    turn_bad(world)
    world.run(process, 60)
    assert world.status.state is State.ROLLED_BACK
    assert world.weight() == 0
    check(world)

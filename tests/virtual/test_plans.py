"""Plans that change while they run, and plans of several phases and targets."""

from __future__ import annotations

from typing import Any

import pytest

from tests.virtual.play import at_30, check, play, rising, silent, turn_bad
from tests.virtual.world import World, launch_document, route_document, shop

ERRORS = {"metric": "errors", "below": "2%"}


def _phase(name: str, *weights: int, **more: Any) -> dict[str, Any]:
    return {
        "name": name,
        "steps": [{"weight": weight, "for": "2m"} for weight in weights],
        "guardrails": [ERRORS],
    } | more


def test_a_new_revision_in_mid_ramp_takes_the_canary_to_0_and_starts_again_with_new_evidence() -> None:
    world, process = at_30()
    world.edit_spec(lambda spec: spec.update(revision="v3"))
    play(world, process=process)
    world.run(process, 7200, until=lambda: world.state == "Succeeded")
    assert rising(world) == [50, 300, 0, 50, 300, 1000]
    assert world.status.run is not None
    assert (world.status.run.number, world.status.run.revision) == (2, "v3")
    check(world)


def test_a_new_revision_while_the_first_raise_is_on_its_way_starts_from_0() -> None:
    world = shop()
    process = world.reconciler()
    world.run(process, 600, until=lambda: world.weight() == 50)
    world.edit_spec(lambda spec: spec.update(revision="v3"))
    process = world.reconciler()
    world.run(process, 7200, until=lambda: world.state == "Succeeded")
    assert rising(world) == [50, 0, 50, 300, 1000]
    check(world)


def test_an_edited_running_phase_holds_until_retry_and_its_guardrails_protect_meanwhile() -> None:
    world, process = at_30()
    world.edit_spec(lambda spec: spec["phases"][0]["steps"].__setitem__(2, {"weight": 50}))
    world.run(process, 600)
    assert world.state == "Held"
    assert "was edited; annotate retry to accept" in world.status.message
    silent(world, process)
    world.annotate(retry="as discussed")
    play(world, process=process)
    assert rising(world) == [50, 300, 500]
    assert world.state == "Succeeded"
    check(world)


def test_an_edit_that_is_taken_back_goes_on() -> None:
    world, process = at_30()
    world.edit_spec(lambda spec: spec["phases"][0]["steps"].__setitem__(2, {"weight": 50}))
    world.run(process, 60)
    world.edit_spec(lambda spec: spec["phases"][0]["steps"].__setitem__(2, {"weight": 100}))
    play(world, process=process)
    assert rising(world) == [50, 300, 1000]
    check(world)


def test_a_renamed_running_phase_is_accepted_by_retry_but_raised_only_on_evidence() -> None:
    world, process = at_30()

    def rename(spec: dict[str, Any]) -> None:
        spec["phases"] = [_phase("other", 50, 100)]

    world.edit_spec(rename)
    world.run(process, 60)
    world.annotate(retry="as discussed")
    world.turn(process, asked=False)
    begun = world.clock.at
    play(world, process=process)
    assert rising(world) == [50, 300, 500, 1000]
    assert next(at for at, _, weight in world.weights_seen if weight == 500) - begun > 20
    assert world.state == "Succeeded"


def test_an_edited_later_phase_changes_nothing_that_runs() -> None:
    world = shop(phases=[_phase("one", 5, 30), _phase("two", 60, 100)])
    process = world.reconciler()
    world.run(process, 3600, until=lambda: world.weight() == 300)
    world.edit_spec(lambda spec: spec["phases"].__setitem__(1, _phase("two", 70, 100)))
    play(world, process=process)
    assert rising(world) == [50, 300, 700, 1000]
    check(world)


def test_two_phases_with_a_gate_between_them_pass_one_after_the_other() -> None:
    gate = {"criteria": [{"metric": "errors", "below": "1%"}]}
    world = shop(phases=[_phase("one", 5, 30, gate=gate), _phase("two", 30, 60, 100)])
    play(world)
    assert rising(world) == [50, 300, 600, 1000]
    assert world.state == "Succeeded"
    check(world)


def test_a_failed_gate_holds_and_retry_judges_it_again() -> None:
    gate = {"criteria": [{"metric": "errors", "below": "0.2%"}], "onFail": "hold"}
    world = shop(phases=[_phase("one", 5, 30, gate=gate), _phase("two", 100)])
    process = world.reconciler()
    world.service("shop").canary_errors.append((0.0, 0.006))
    world.run(process, 1800)
    assert world.state == "Held"
    assert "gate of phase one" in world.status.message
    silent(world, process)
    world.service("shop").canary_errors.append((world.clock.at, 0.0))
    world.run(process, 60)
    world.annotate(retry="fixed it in place")
    play(world, process=process)
    assert rising(world) == [50, 300, 1000]
    check(world)


@pytest.mark.parametrize("turns_bad", [False, True])
def test_an_invalid_plan_in_mid_ramp_moves_nothing_but_a_bad_canary(*, turns_bad: bool) -> None:
    world, process = at_30()
    world.edit_spec(lambda spec: spec["phases"][0]["steps"][0].update(weight="much"))
    world.run(process, 600)
    assert world.state == "Held"
    assert "spec.phases[0].steps[0].weight" in world.status.message
    silent(world, process)
    if turns_bad:
        turn_bad(world)
        world.run(process, 60)
        assert world.weight() == 0
        assert world.state == "RolledBack"
    else:
        world.edit_spec(lambda spec: spec["phases"][0]["steps"][0].update(weight=5))
        play(world, process=process)
        assert rising(world) == [50, 300, 1000]
    check(world)


def test_an_invalid_plan_survives_a_restart_and_still_protects() -> None:
    world, _ = at_30()
    world.edit_spec(lambda spec: spec.update(phases=[]))
    process = world.reconciler()
    world.run(process, 60)
    turn_bad(world)
    process = world.reconciler()
    world.run(process, 60)
    assert world.weight() == 0
    assert world.state == "RolledBack"
    check(world)


def _two_targets(**spec: Any) -> World:
    targets = [
        {
            "name": name,
            "route": {"name": name},
            "stable": {"name": f"{name}-stable"},
            "canary": {"name": f"{name}-canary"},
        }
        for name in ("east", "west")
    ]
    document = launch_document(**{"targets": targets, **spec})
    return World(document, [route_document(name, f"{name}-stable", f"{name}-canary") for name in ("east", "west")])


def test_several_targets_are_raised_one_after_the_other_and_the_dwell_counts_from_the_last() -> None:
    world = _two_targets()
    play(world)
    assert rising(world, "east") == rising(world, "west") == [50, 300, 1000]
    order = [(name, weight) for _, name, weight in world.weights_seen]
    assert order == [(name, weight) for weight in (50, 300, 1000) for name in ("east", "west")]
    at = {(name, weight): when for when, name, weight in world.weights_seen}
    assert at["east", 300] - at["west", 50] >= 120
    check(world)


def test_one_bad_target_takes_all_to_0() -> None:
    world = _two_targets()
    process = world.reconciler()
    world.run(process, 3600, until=lambda: world.weight("west") == 300)
    turn_bad(world, route="west")
    world.run(process, 60)
    assert world.weight("east") == world.weight("west") == 0
    assert world.state == "RolledBack"
    check(world)


def test_a_second_target_is_not_raised_once_its_own_evidence_is_doubtful() -> None:
    world = _two_targets()
    process = world.reconciler()
    world.run(process, 3600, until=lambda: world.weight("east") == 300)
    world.service("west").canary_errors.append((world.clock.at - 30, 0.5))
    world.service("west").canary_errors.append((world.clock.at - 26, 0.0))
    world.run(process, 3600, until=lambda: world.weight("west") == 300)
    check(world)


def test_a_phase_of_another_target_gives_it_its_first_traffic_only_when_it_is_ready() -> None:
    world = _two_targets(
        phases=[_phase("first", 5, 30, targets=["east"]), _phase("second", 30, 60, targets=["east", "west"])]
    )
    world.endpoints["west-canary"] = 0
    process = world.reconciler()
    world.run(process, 1800)
    assert rising(world, "west") == []
    world.endpoints["west-canary"] = 1
    play(world, process=process)
    assert rising(world, "west") == [300, 600]
    check(world)


def test_targets_that_never_get_traffic_from_a_phase_are_left_alone() -> None:
    world = _two_targets(phases=[_phase("only", 5, 30, targets=["west"])])
    play(world)
    assert rising(world, "east") == []
    assert rising(world, "west") == [50, 300]
    check(world)


def test_a_crash_between_two_targets_raises_neither_twice() -> None:
    world = _two_targets()
    process = world.reconciler()
    while world.state != "Succeeded" and world.clock.at < world.history[0].at + 7200:
        world.clock.at += 5
        world.turn(process)
        if int(world.clock.at) % 3 == 0:
            process = world.reconciler()
    assert rising(world, "east") == rising(world, "west") == [50, 300, 1000]
    check(world)


def test_a_value_of_the_plans_own_is_judged_for_its_duration() -> None:
    metric = {"name": "uplift", "value": {"query": "uplift", "unit": "percent"}}
    guardrail = {"metric": "uplift", "above": "5%", "certainty": "threshold", "for": "1m", "onBreach": "hold"}
    world = shop(metrics=[metric], phases=[_phase("ramp", 5, 30, 100, guardrails=[ERRORS, guardrail])])
    world.service("shop").values.append((0.0, 6.0))
    process = world.reconciler()
    world.run(process, 3600, until=lambda: world.weight() == 300)
    world.service("shop").values.append((world.clock.at, 4.0))
    world.run(process, 300)
    assert world.state == "Held"
    assert world.weight() == 300
    check(world)


def _gateway(world: World, *, accepts: bool) -> None:
    """What a gateway writes into the status of the route, as of the route's newest generation."""
    route = world.documents["HTTPRoute", "shop"]
    said = {"status": "True" if accepts else "False", "observedGeneration": route["metadata"]["generation"]}
    conditions = [{"type": kind, **said} for kind in ("Accepted", "ResolvedRefs")]
    wanted = [{"parentRef": {"name": "gateway"}, "controllerName": "example.com/gateway", "conditions": conditions}]
    if (route.get("status") or {}).get("parents") != wanted:
        route["status"] = {"parents": wanted}
        world._touch(route)


def test_the_dwell_starts_when_the_gateway_has_accepted_the_weight() -> None:
    world = shop()
    process = world.reconciler()
    _gateway(world, accepts=True)
    accepted: dict[int, float] = {}
    while world.state != "Succeeded" and world.clock.at < world.history[0].at + 3600:
        world.clock.at += 5
        world.turn(process)
        raised = [at for at, _, _ in world.weights_seen]
        if raised and world.clock.at - raised[-1] >= 25 and world.weight() not in accepted:
            _gateway(world, accepts=True)
            accepted[world.weight()] = world.clock.at
    at = {weight: when for when, _, weight in world.weights_seen}
    assert rising(world) == [50, 300, 1000]
    assert at[300] - accepted[50] >= 120
    assert at[1000] - accepted[300] >= 120
    check(world)


def test_a_weight_that_a_gateway_refuses_does_not_start_the_dwell_before_its_time_is_over() -> None:
    world = shop()
    process = world.reconciler()
    world.run(process, 60, until=lambda: world.weight() == 50)
    written = world.clock.at
    _gateway(world, accepts=False)
    world.run(process, 55)
    in_force_at = world.status.targets[0].in_force_at
    assert in_force_at is None
    world.run(process, 600, until=lambda: world.status.intent is None)
    in_force_at = world.status.targets[0].in_force_at
    assert in_force_at is not None
    assert in_force_at - written >= 60
    check(world)

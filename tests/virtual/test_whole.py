"""A launch with everything that waits for people and dates, in the write protocol: phases, waves, approvals, the return.

Every write of it is harmed in every way; the outcome must be the same.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from controller.core.signals import Signal
from controller.core.units import format_instant
from controller.errors import RefusedError
from controller.reconcile import Reconciler
from tests.virtual.play import TICK, check, rising, silent
from tests.virtual.test_crashes import HARMS, _harm
from tests.virtual.world import KEY, START, Crash, World, launch_document, route_document

MINUTE = 60.0
ERRORS = {"metric": "errors", "below": "2%"}


def at(minutes: float) -> str:
    """An instant as plans write it, so many minutes after the world begins."""
    return format_instant(START + minutes * MINUTE)


def whole(**changes: Any) -> World:
    """Two regions; planning with a gate, a ramp with a preflight, a rollout in which the second region joins."""
    spec: dict[str, Any] = {
        "targets": [
            {
                "name": name,
                "route": {"name": f"shop-{name}"},
                "stable": {"name": f"shop-{name}-stable"},
                "canary": {"name": f"shop-{name}-canary"},
            }
            for name in ("us", "eu")
        ],
        "phases": [
            {"name": "planning", "end": at(5), "deliverables": ["hired"], "gate": {"approval": {"role": "cto"}}},
            {
                "name": "ramp",
                "start": {"at": at(20)},
                "targets": ["us"],
                "preflight": {"opens": "5m", "checklist": ["dashboards"], "approval": {"role": "vp"}},
                "steps": [{"weight": 5, "for": "2m", "approval": {"role": "lead"}}, {"weight": 10, "for": "2m"}],
                "guardrails": [ERRORS],
                "checkpoints": ["3m", "30m"],
                "gate": {"after": "15m", "criteria": [ERRORS], "approval": {"role": "vp"}},
            },
            {
                "name": "rollout",
                "steps": [{"weight": 50, "for": "2m"}, {"weight": 100, "for": "2m"}],
                "guardrails": [ERRORS | {"scope": "target"}],
            },
        ],
        "onSuccess": "return",
        "onDelete": "reset",
    }
    routes = [route_document(f"shop-{name}", f"shop-{name}-stable", f"shop-{name}-canary") for name in ("us", "eu")]
    return World(launch_document(**(spec | changes)), routes)


def people(world: World) -> None:
    """Whoever is asked for says yes: an approval when it is wanted, an item when it is missing."""
    message = world.status.message
    if "annotate approve=" in message:
        world.annotate(approve=message.split("annotate approve=")[1].split(")")[0])
    if "hired (annotate done)" in message:
        world.annotate(done="planning/hired")
    if "dashboards (annotate done)" in message:
        world.annotate(done="ramp/dashboards")
    if "its pods run" in message or "traffic goes back to stable when" in message:
        for name in ("us", "eu"):
            world.pods[f"shop-{name}-stable"] = {"v2": 3}


def go(
    world: World,
    hours: float = 6,
    process: Reconciler | None = None,
    until: Callable[[], bool] = lambda: False,
    asked: Callable[[World], None] = people,
) -> Reconciler:
    """Ticks with people at hand, until it is over."""
    process = process or world.reconciler()
    end = world.clock.at + hours * 3600
    while world.clock.at < end and world.state not in ("Succeeded", "RolledBack") and not until():
        world.clock.at += TICK
        try:
            world.turn(process)
        except Crash:
            process = world.reconciler()
        asked(world)
    return process


def _reference() -> World:
    world = whole()
    go(world)
    return world


GOOD = _reference()
US, EU = [50, 100, 500, 1000, 0], [500, 1000, 0]


def test_a_launch_with_people_dates_and_waves_runs_to_its_end_and_gives_the_traffic_back() -> None:
    assert GOOD.state == "Succeeded", GOOD.status.message
    assert (rising(GOOD, "shop-us"), rising(GOOD, "shop-eu")) == (US, EU)
    assert [phase.name for phase in GOOD.status.phases] == ["planning", "ramp", "rollout"]
    begun = {phase.name: phase.started_at for phase in GOOD.status.phases}
    assert begun["ramp"] - START >= 20 * MINUTE
    assert len([score for score in GOOD.status.checkpoints if score.phase == "ramp"]) == 1
    check(GOOD)


@pytest.mark.parametrize("harm", HARMS)
@pytest.mark.parametrize("number", range(len(GOOD.writes)))
def test_it_ends_the_same_whichever_write_is_harmed(number: int, harm: str) -> None:
    world = whole()
    _harm(world, number, harm)
    go(world)
    assert world.state == "Succeeded", world.status.message
    assert (rising(world, "shop-us"), rising(world, "shop-eu")) == (US, EU)
    assert [phase.name for phase in world.status.phases] == ["planning", "ramp", "rollout"]
    check(world)


def _waits_for(world: World, place: str) -> bool:
    return f"approve={place}" in world.status.message


def _revise(world: World, revision: str) -> None:
    world.edit_spec(lambda spec: spec.update(revision=revision))


def test_nothing_is_written_while_it_waits_for_people() -> None:
    for place in ("planning/gate", "ramp/preflight", "ramp/1", "ramp/gate"):
        world = whole()

        def but_one(world: World, place: str = place) -> None:
            if f"approve={place}" not in world.status.message:
                people(world)

        process = go(world, until=partial(_waits_for, world, place), asked=but_one)
        world.run(process, 1200, TICK)  # past its dates, so that nothing but the person is missing
        assert f"approve={place}" in world.status.message, place
        silent(world, process)
        people(world)
        go(world, process=process)
        assert world.state == "Succeeded", place
        check(world)


def test_one_bad_region_is_taken_to_0_alone_and_is_not_raised_again_by_another_process() -> None:
    world = whole(onSuccess="keep")
    process = go(world, until=lambda: world.weight("shop-eu") == 500 and world.status.intent is None)
    world.service("shop-eu").canary_errors.append((world.clock.at, 0.3))
    go(world, process=process, until=lambda: world.weight("shop-eu") == 0)
    world.service("shop-eu").canary_errors.append((world.clock.at, 0.0))
    go(world, process=world.reconciler())
    assert world.state == "Succeeded", world.status.message
    assert (rising(world, "shop-us"), rising(world, "shop-eu")) == ([50, 100, 500, 1000], [500, 0])
    check(world)


@pytest.mark.parametrize("harm", HARMS)
@pytest.mark.parametrize("number", range(4))
def test_a_region_is_taken_out_whichever_write_of_it_is_harmed(number: int, harm: str) -> None:
    world = whole(onSuccess="keep")
    process = go(world, until=lambda: world.weight("shop-eu") == 500 and world.status.intent is None)
    world.service("shop-eu").canary_errors.append((world.clock.at, 0.3))
    _harm(world, len(world.writes) + number, harm)
    go(world, process=process)
    assert world.state == "Succeeded", world.status.message
    assert rising(world, "shop-eu")[:2] == [500, 0]
    assert [target.weight for target in world.status.targets] == [1000, 0]
    check(world)


def test_deletion_waits_until_the_canary_is_at_0_where_the_plan_says_reset() -> None:
    world = whole()
    process = go(world, until=lambda: world.weight("shop-us") == 100)
    assert world.launch_document["metadata"]["finalizers"] == ["autoadvance.dev/reset"]
    world.delete("Launch", KEY.name)
    world.run(process, 60)
    assert world.weight("shop-us") == 0
    assert world.launch(KEY) is None


@pytest.mark.parametrize("harm", HARMS)
@pytest.mark.parametrize("number", range(4))
def test_deletion_ends_the_same_whichever_write_of_it_is_harmed(number: int, harm: str) -> None:
    world = whole()
    process = go(world, until=lambda: world.weight("shop-us") == 100)
    world.delete("Launch", KEY.name)
    _harm(world, len(world.writes) + number, harm)
    end = world.clock.at + 300
    while world.clock.at < end and world.launch(KEY) is not None:
        world.clock.at += TICK
        try:
            world.turn(process)
        except Crash:
            process = world.reconciler()
    assert world.launch(KEY) is None
    assert world.weight("shop-us") == 0


def test_deletion_leaves_the_traffic_where_the_plan_says_leave() -> None:
    world = whole(onDelete="leave")
    process = go(world, until=lambda: world.weight("shop-us") == 100)
    assert "finalizers" not in world.launch_document["metadata"]
    world.delete("Launch", KEY.name)
    world.run(process, 60)
    assert world.weight("shop-us") == 100


def test_a_launch_that_is_deleted_before_it_has_begun_goes_at_once() -> None:
    world = whole()
    process = world.reconciler()
    world.run(process, 60)
    world.delete("Launch", KEY.name)
    world.run(process, 60)
    assert world.launch(KEY) is None
    assert rising(world, "shop-us") == []


def test_a_process_that_was_down_over_a_start_begins_the_phase_late_and_once() -> None:
    world = whole()
    go(world, until=lambda: "ready and begins" in world.status.message)
    world.clock.at = START + 90 * MINUTE
    go(world)
    assert rising(world, "shop-us") == US
    ramp = next(phase for phase in world.status.phases if phase.name == "ramp")
    assert START + 90 * MINUTE <= ramp.started_at <= START + 91 * MINUTE
    check(world)


def test_no_phase_begins_in_a_freeze_and_a_retreat_needs_no_window() -> None:
    freezes = [{"name": "holiday", "from": at(15), "to": at(60)}, {"name": "sale", "from": at(61), "to": at(600)}]
    world = whole(freezes=freezes)
    process = go(world, until=lambda: world.weight("shop-us") == 50)
    assert 60 * MINUTE <= world.clock.at - START <= 61 * MINUTE
    go(world, process=process, hours=0.2)
    assert "sale" in world.status.message
    world.service("shop-us").canary_errors.append((world.clock.at, 0.3))
    go(world, process=process, hours=0.2)
    assert world.weight("shop-us") == 0
    assert world.state == "RolledBack"
    check(world)


def test_the_wall_clock_that_is_set_does_not_begin_a_phase_twice() -> None:
    world = whole()
    process = go(world, until=lambda: world.weight("shop-us") == 50)
    world.clock.step = -3600
    world.run(process, 60)
    world.clock.step = 0
    go(world, process=process)
    assert rising(world, "shop-us") == US
    check(world)


def test_a_preflight_proves_by_a_dry_run_that_the_raise_may_be_written_and_says_where_it_may_not() -> None:
    world = whole()

    def refuse(document: dict[str, Any]) -> None:
        raise RefusedError("policy no-canary denies it")

    world.admit = refuse
    process = go(world, hours=0.5)
    message = world.status.message
    assert "a dry run of the raise was refused: " in message
    assert "policy no-canary denies it" in message
    assert world.status.state == "Held"
    world.admit = lambda document: None
    go(world, process=process)
    assert world.state == "Succeeded"
    check(world)


def test_three_releases_of_one_service_by_return() -> None:
    world = whole()
    process = go(world)
    for revision in ("v3", "v4"):
        world.pods.clear()
        _revise(world, revision)
        world.run(process, 10)

        def upgraded(world: World, revision: str = revision) -> None:
            people(world)
            if "traffic goes back to stable when" in world.status.message:
                for name in ("us", "eu"):
                    world.pods[f"shop-{name}-stable"] = {revision: 3}

        go(world, process=process, asked=upgraded)
        assert world.state == "Succeeded", world.status.message
        assert world.status.run is not None
        assert world.status.run.revision == revision
    assert rising(world, "shop-us") == US * 3
    check(world)


def test_three_releases_of_one_service_by_swapping_the_two_services() -> None:
    world = whole(onSuccess="keep")
    process = go(world)
    for revision in ("v3", "v4"):
        _revise(world, revision)
        world.run(process, 30)
        assert world.status.reason == Signal.NOT_SWAPPED.value

        def swap(spec: dict[str, Any]) -> None:
            for each in spec["targets"]:
                each["stable"], each["canary"] = each["canary"], each["stable"]

        world.edit_spec(swap)
        world.run(process, 30)
        assert world.state != "Succeeded"
        process = go(world, process=process)
        assert world.state == "Succeeded", world.status.message
        assert [target.weight for target in world.status.targets] == [1000, 1000]
    assert world.status.run is not None
    assert (world.status.run.number, world.status.run.revision) == (3, "v4")
    check(world)

"""Writes that arrive late, two processes at once, rivals that write all the time, and views that are old."""

from __future__ import annotations

import pytest

from tests.virtual.play import OVER, TICK, at_30, check, play, rising, silent, turn_bad
from tests.virtual.world import Crash, World, shop


def _with_trouble_at_30(world: World, *, turns_bad: bool) -> None:
    service = world.service("shop")
    if turns_bad and world.weight() == 300 and len(service.canary_errors) == 1:
        service.canary_errors.append((world.clock.at + 30, 0.2))


def _play_held(number: int, *, turns_bad: bool, dies: bool, late: float) -> tuple[World, list[str]]:
    """The launch with the write of that number kept by the network for ``late`` seconds."""
    world = shop()
    struck: list[float] = []
    outcomes: list[str] = []

    def holds(now: int, kind: str) -> bool:
        if now != number or struck or kind != "route":
            return False
        struck.append(world.clock.at)
        return True

    world.holds = holds
    process = world.reconciler()
    end = world.clock.at + 4 * 3600
    while world.clock.at < end and (world.state not in OVER or world.in_flight):
        world.clock.at += TICK
        if world.in_flight and world.clock.at >= struck[0] + late:
            outcomes += world.arrive()
        _with_trouble_at_30(world, turns_bad=turns_bad)
        fresh = bool(world.in_flight)
        world.turn(process)
        if dies and world.in_flight and not fresh:
            process = world.reconciler()
    for _ in range(10):
        world.clock.at += TICK
        world.turn(process)
    return world, outcomes


def _route_writes(*, turns_bad: bool) -> list[int]:
    world = shop()
    process = world.reconciler()
    while world.state not in OVER:
        world.clock.at += TICK
        _with_trouble_at_30(world, turns_bad=turns_bad)
        world.turn(process)
    return [number for number, (_, kind, _) in enumerate(world.writes) if kind == "route"]


@pytest.mark.parametrize("dies", [False, True], ids=["goes on", "is started again"])
@pytest.mark.parametrize("turns_bad", [False, True], ids=["good", "bad"])
@pytest.mark.parametrize("late", [12.0, 100.0])
def test_a_raise_that_arrives_late_is_refused_by_the_fence_and_the_outcome_is_the_same(
    *, late: float, turns_bad: bool, dies: bool
) -> None:
    numbers = _route_writes(turns_bad=turns_bad)
    assert len(numbers) == 3
    for number in numbers:
        world, outcomes = _play_held(number, turns_bad=turns_bad, dies=dies, late=late)
        lowers = turns_bad and number == numbers[-1]
        assert outcomes == (["stored"] if lowers else ["refused"]), number
        assert rising(world) == ([50, 300, 0] if turns_bad else [50, 300, 1000])
        assert world.state == ("RolledBack" if turns_bad else "Succeeded")
        check(world)


def test_a_raise_that_arrives_late_is_refused_where_the_rollback_is_withheld() -> None:
    world, process = at_30()
    world.holds = lambda number, kind: kind == "route"
    world.run(process, 600, until=lambda: bool(world.in_flight))
    world.holds = lambda number, kind: False
    world.endpoints["shop-stable"] = 0
    world.annotate(rollback="it smells")
    world.clock.at += 1
    world.turn(process, asked=False)
    assert world.state == "RollingBack"
    assert "no ready endpoint" in world.status.message
    assert world.arrive() == ["refused"]
    assert world.weight() == 300
    world.endpoints["shop-stable"] = 2
    world.run(process, 30)
    assert world.weight() == 0
    assert world.state == "RolledBack"
    check(world)


def test_a_raise_that_is_on_its_way_is_refused_after_a_new_revision_has_started_a_new_run() -> None:
    world = shop()
    process = world.reconciler()
    world.holds = lambda number, kind: kind == "route"
    world.run(process, 600, until=lambda: bool(world.in_flight))
    world.holds = lambda number, kind: False
    world.edit_spec(lambda spec: spec.update(revision="v3"))
    world.turn(world.reconciler(), asked=False)
    world.clock.at += 1
    world.turn(process, asked=False)
    assert world.arrive() == ["refused"]
    assert world.weight() == 0
    world.run(world.reconciler(), 7200, until=lambda: world.state == "Succeeded")
    assert rising(world) == [50, 300, 1000]
    check(world)


@pytest.mark.parametrize("turns_bad", [False, True])
def test_two_processes_at_once_make_no_step_twice(*, turns_bad: bool) -> None:
    world = shop()
    old, new = world.reconciler(), world.reconciler()
    while world.clock.at < world.history[0].at + 7200 and world.state not in OVER:
        world.clock.at += TICK
        _with_trouble_at_30(world, turns_bad=turns_bad)
        world.turn(old)
        world.turn(new)
    assert rising(world) == ([50, 300, 0] if turns_bad else [50, 300, 1000])
    check(world)


@pytest.mark.parametrize("number", range(14))
def test_a_successor_that_starts_while_a_write_of_the_old_process_is_on_its_way_fences_it(number: int) -> None:
    world = shop()
    struck: list[int] = []

    def holds(now: int, kind: str) -> bool:
        if now == number and not struck:
            struck.append(now)
            return True
        return False

    world.holds = holds
    old = world.reconciler()
    world.run(old, 3600, until=lambda: bool(world.in_flight) or world.state in OVER)
    epoch = world.status.epoch
    new = world.reconciler()
    world.run(new, 30)
    world.arrive()
    world.run(old, 10)
    world.run(new, 7200, until=lambda: world.state in OVER)
    world.run(old, 30)
    assert rising(world) == [50, 300, 1000]
    assert world.status.epoch >= epoch
    check(world)


def test_the_old_process_writes_nothing_once_its_successor_has_written() -> None:
    world, old = at_30()
    new = world.reconciler()
    world.run(new, 600, until=lambda: bool(world.status.intent))
    written = len(world.writes)
    for _ in range(10):
        world.clock.at += TICK
        world.turn(old)
    assert len(world.writes) == written
    assert any("another controller" in message for _, message in world.failures)


def test_a_rival_that_writes_the_launch_before_every_write_costs_a_bounded_number_of_tries() -> None:
    world = shop()
    storm = [True]

    def rival(number: int, kind: str) -> None:
        if storm[0] and kind == "status":
            world.touch_launch()

    world.before_write = rival
    process = world.reconciler()
    for _ in range(50):
        world.clock.at += TICK
        reads, refused = world.reads, world.refused
        world.turn(process)
        assert world.reads - reads <= 12
        assert world.refused - refused <= 4
    assert rising(world) == []
    storm[0] = False
    play(world, process=process)
    assert rising(world) == [50, 300, 1000]
    check(world)


def test_a_rival_that_writes_the_launch_all_the_time_does_not_keep_a_bad_canary_alive() -> None:
    world, process = at_30()
    storm = [True]

    def rival(number: int, kind: str) -> None:
        if storm[0] and kind == "status":
            world.touch_launch()

    world.before_write = rival
    turned = turn_bad(world)
    world.run(process, 60)
    assert world.weight() == 0
    assert world.weights_seen[-1][0] - turned <= 30
    storm[0] = False
    world.run(process, 30)
    assert world.state == "RolledBack"
    check(world)
    silent(world, process)


def test_a_rival_that_writes_the_route_all_the_time_cannot_stop_the_retreat() -> None:
    world, process = at_30()

    def rival(number: int, kind: str) -> None:
        if kind == "route":
            world.edit_route("shop", lambda route: route["metadata"].setdefault("labels", {}).update(beat=str(number)))

    world.before_write = rival
    turn_bad(world)
    world.run(process, 60)
    assert world.weight() == 0
    assert world.state == "RolledBack"
    check(world)


@pytest.mark.parametrize("frozen_for", [20.0, 60.0, 300.0])
def test_a_view_that_is_old_never_makes_a_wrong_raise_and_ends_the_same(frozen_for: float) -> None:
    for start in range(0, 600, 45):
        world = shop()
        view = world.view()
        process = world.reconciler(cluster=view)
        end = world.clock.at + 7200
        begin = world.clock.at + start
        while world.clock.at < end and world.state not in OVER:
            world.clock.at += TICK
            view.frozen = begin <= world.clock.at < begin + frozen_for
            world.turn(process)
        assert rising(world) == [50, 300, 1000], start
        check(world)


def test_a_successor_with_an_old_view_makes_no_step_twice() -> None:
    for versions in range(1, 12):
        world = shop()
        view = world.view()
        old, new = world.reconciler(), world.reconciler(cluster=view)
        writes = 0
        while world.state not in OVER and world.clock.at < world.history[0].at + 7200:
            world.clock.at += TICK
            view.frozen = versions <= len(world.writes) < versions + 4
            if len(world.writes) < versions + 4:
                world.turn(old)
            if len(world.writes) >= versions:
                world.turn(new)
            writes = len(world.writes)
        assert rising(world) == [50, 300, 1000], (versions, writes)
        check(world)


def test_a_bad_canary_is_lowered_although_the_view_is_old() -> None:
    world, _ = at_30()
    view = world.view()
    process = world.reconciler(cluster=view)
    world.turn(process)
    view.frozen = True
    world.touch_launch()
    world.edit_route("shop", lambda route: route["metadata"].setdefault("labels", {}).update(team="shop"))
    turn_bad(world)
    world.run(process, 60)
    assert world.weight() == 0
    view.frozen = False
    world.run(process, 30)
    assert world.state == "RolledBack"
    check(world)


def test_a_view_from_before_the_hold_does_not_raise() -> None:
    world, _ = at_30()
    view = world.view()
    process = world.reconciler(cluster=view)
    world.turn(process)
    view.frozen = True
    world.annotate(hold="wait for me")
    world.run(process, 600)
    assert world.weight() == 300
    assert world.state == "Held"
    check(world)


@pytest.mark.parametrize("down_for", [10.0, 120.0, 900.0])
def test_a_canary_that_turns_bad_while_the_api_is_down_is_at_0_on_the_first_tick_after(down_for: float) -> None:
    for begin in range(5, 180, 25):
        world, process = at_30()
        world.run(process, begin)
        if world.weight() != 300:
            continue
        world.down = True
        turn_bad(world)
        world.run(process, max(down_for, 60))
        world.down = False
        world.clock.at += TICK
        world.turn(process)
        assert world.weight() == 0, begin
        world.run(process, 60)
        assert world.state == "RolledBack"
        check(world)
        silent(world, process)


def test_the_api_going_down_at_every_write_changes_nothing_but_the_time() -> None:
    for number in range(11):
        world = shop()
        down_at: list[float] = []

        def strike(now: int, kind: str, at: int = number, world: World = world, since: list[float] = down_at) -> None:
            if now == at and not since:
                since.append(world.clock.at)
                world.down = True

        world.before_write = strike
        process = world.reconciler()
        while world.state not in OVER and world.clock.at < world.history[0].at + 7200:
            world.clock.at += TICK
            if down_at and world.clock.at >= down_at[0] + 200:
                world.down = False
            world.turn(process)
        assert rising(world) == [50, 300, 1000], number
        check(world)


def test_a_raise_that_failed_again_and_again_does_not_put_off_the_retreat() -> None:
    for good in range(130, 400, 15):
        world, process = at_30()
        world.down = True
        world.run(process, good)
        turn_bad(world)
        world.run(process, 25)
        world.down = False
        world.clock.at += TICK
        world.turn(process)
        assert world.weight() == 0, good
        world.run(process, 30)
        assert world.state == "RolledBack"
        check(world)


@pytest.mark.parametrize("every", [4, 5, 6, 7])
def test_a_process_that_dies_again_and_again_still_ends_the_launch(every: int) -> None:
    # A new process fences in two writes, stores its intent and patches: who dies sooner each time gets nowhere.
    world = shop()
    struck: set[int] = set()

    def die(number: int, kind: str) -> None:
        if number % every == 0 and number not in struck:
            struck.add(number)
            raise Crash

    world.after_write = die
    play(world, 4 * 3600)
    assert rising(world) == [50, 300, 1000]
    check(world)

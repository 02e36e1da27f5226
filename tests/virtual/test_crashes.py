"""Every write of a launch, with the process dying before it, after it, and with its answer lost."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future

import pytest

from controller.ports import T
from tests.invariants import violations
from tests.virtual.world import KEY, Crash, World, answer_lost, shop

TICK = 5.0


def _play(world: World, *, turns_bad: bool) -> None:
    """Run to the end; a process that dies is started again."""
    process = world.reconciler()
    end = world.clock.at + 4 * 3600
    while world.clock.at < end and world.state not in ("Succeeded", "RolledBack"):
        world.clock.at += TICK
        if turns_bad and world.weight() == 300 and len(world.service("shop").canary_errors) == 1:
            world.service("shop").canary_errors.append((world.clock.at + 30, 0.2))
        try:
            world.turn(process)
        except Crash:
            process = world.reconciler()


def _reference(*, turns_bad: bool) -> World:
    world = shop()
    _play(world, turns_bad=turns_bad)
    return world


GOOD, BAD = _reference(turns_bad=False), _reference(turns_bad=True)


def _harm(world: World, number: int, harm: str) -> None:
    armed = [True]

    def strike(then: Callable[[], None]) -> Callable[[int, str], None]:
        def at(now: int, kind: str) -> None:
            if armed[0] and now == number:
                armed[0] = False
                then()

        return at

    def die() -> None:
        raise Crash

    if harm == "crash before":
        world.before_write = strike(die)
    elif harm == "crash after":
        world.after_write = strike(die)
    elif harm == "answer lost":
        world.after_write = strike(answer_lost)
    elif harm == "lost before":
        world.before_write = strike(answer_lost)


HARMS = ("crash before", "crash after", "answer lost", "lost before")


@pytest.mark.parametrize("harm", HARMS)
@pytest.mark.parametrize("number", range(len(GOOD.writes)))
def test_a_good_launch_ends_the_same_with_no_step_twice_and_none_skipped(number: int, harm: str) -> None:
    world = shop()
    _harm(world, number, harm)
    _play(world, turns_bad=False)
    assert [weight for _, _, weight in world.weights_seen] == [50, 300, 1000]
    assert world.state == "Succeeded"
    assert violations(world.history, KEY.namespace, KEY.name) == []


@pytest.mark.parametrize("harm", HARMS)
@pytest.mark.parametrize("number", range(len(BAD.writes)))
def test_a_bad_launch_ends_the_same_and_never_rises_after_its_retreat(number: int, harm: str) -> None:
    world = shop()
    _harm(world, number, harm)
    _play(world, turns_bad=True)
    assert [weight for _, _, weight in world.weights_seen] == [50, 300, 0]
    assert world.state == "RolledBack"
    assert violations(world.history, KEY.namespace, KEY.name) == []


def test_a_raise_costs_three_writes_and_two_reads_and_a_retreat_three_writes() -> None:
    raises = len(GOOD.raises)
    stood = {at for at, _ in GOOD.decisions} | {at for at, kind, _ in GOOD.writes if kind == "route"}
    told = [write for write in GOOD.writes if write[0] not in stood]
    # The first write starts the run, the last one records success; the first raise is a dry run besides.
    assert len(GOOD.writes) - len(told) == 3 * raises + 2
    # A step that waits for something else than before says so, once.
    assert len(told) <= raises
    assert GOOD.reads == 2 * raises
    retreat = [write for write in BAD.writes if write[0] >= BAD.weights_seen[-1][0]]
    assert len(retreat) <= 3


def test_the_dwell_of_a_step_is_never_shortened_by_a_crash() -> None:
    for number in range(len(GOOD.writes)):
        world = shop()
        _harm(world, number, "crash after")
        _play(world, turns_bad=False)
        at = [when for when, _, _ in world.weights_seen]
        assert at[1] - at[0] >= 120, number
        assert at[2] - at[1] >= 120, number


class _DiesBesideThePatch:
    """The process ends when the patch of a retreat is out and its intent is not stored yet."""

    def beside(self, work: Callable[[], T]) -> Future[T]:
        return Future()

    def later(self, work: Callable[[], None]) -> None:
        """Never comes to it."""


def test_a_retreat_whose_intent_was_never_stored_is_made_again_by_the_next_process() -> None:
    world = shop()
    process = world.reconciler(background=_DiesBesideThePatch())
    world.run(process, 3600, until=lambda: world.weight() == 300)
    world.service("shop").canary_errors.append((world.clock.at + 30, 0.2))
    world.run(process, 600, until=lambda: world.weight() == 0)
    assert world.status.intent is None
    world.run(world.reconciler(), 600)
    assert [weight for _, _, weight in world.weights_seen] == [50, 300, 0]
    assert world.state == "RolledBack"


def test_a_retreat_whose_intent_was_never_stored_raises_nothing_when_the_next_process_is_blind() -> None:
    world = shop()
    process = world.reconciler(background=_DiesBesideThePatch())
    world.run(process, 3600, until=lambda: world.weight() == 300)
    world.service("shop").canary_errors.append((world.clock.at + 30, 0.2))
    world.run(process, 600, until=lambda: world.weight() == 0)
    world.problem_of_evidence = "Prometheus did not answer"
    world.run(world.reconciler(), 900)
    assert world.weight() == 0
    assert world.state == "Held"

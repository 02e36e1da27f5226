"""What the tests in virtual time do with a world: play it to its end, and look at what was seen."""

from __future__ import annotations

from typing import Any

from controller.reconcile import Reconciler
from tests.invariants import violations
from tests.virtual.world import KEY, Crash, World, shop

TICK = 5.0
OVER = ("Succeeded", "RolledBack")


def at_30(**spec: Any) -> tuple[World, Reconciler]:
    """The usual launch at its second step, in force, and the process that brought it there."""
    world = shop(**spec)
    process = world.reconciler()
    world.run(process, 3600, until=lambda: world.weight() == 300 and world.status.intent is None)
    assert world.weight() == 300
    return world, process


def turn_bad(world: World, share: float = 0.2, route: str = "shop") -> float:
    """From now on so many of the canary's requests fail; returns now."""
    world.service(route).canary_errors.append((world.clock.at, share))
    return world.clock.at


def play(world: World, seconds: float = 7200, process: Reconciler | None = None, tick: float = TICK) -> Reconciler:
    """Ticks until the launch is over, or for so many seconds; a process that dies is started again."""
    process = process or world.reconciler()
    end = world.clock.at + seconds
    while world.clock.at < end and world.state not in OVER:
        world.clock.at += tick
        try:
            world.turn(process)
        except Crash:
            process = world.reconciler()
    return process


def rising(world: World, route: str = "shop") -> list[int]:
    """The weights that the route was seen to have, in order."""
    return [weight for _, name, weight in world.weights_seen if name == route]


def check(world: World, *names: str) -> None:
    """No invariant was violated."""
    for name in names or (KEY.name,):
        assert violations(world.history, KEY.namespace, name) == []


def silent(world: World, process: Reconciler, ticks: int = 20, tick: float = TICK) -> None:
    """After a minute in which all may settle nothing is written any more, however often the loop turns."""
    world.run(process, 60, tick)
    writes = len(world.writes)
    for _ in range(ticks):
        world.clock.at += tick
        world.turn(process)
    assert world.writes[writes:] == []

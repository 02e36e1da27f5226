"""The write protocol with one of its parts taken out: each time a scenario or an invariant must notice.

A mutant is the real thing with a method replaced, or with a view of the cluster that leaves something out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest

from controller.core.evidence import Fold
from controller.core.observation import Observation
from controller.core.status import Status
from controller.core.world import Launch, LaunchKey, Route, RouteKey, RoutePatch
from controller.errors import AdapterError, RefusedError
from controller.observe import Observer
from controller.reconcile import Reconciler
from tests.invariants import violations
from tests.virtual.play import TICK, rising
from tests.virtual.world import KEY, View, World, shop


class Mutant:
    """How a process and its view of the cluster are made; the unchanged one is the real thing."""

    kind: type[Reconciler] = Reconciler
    observer: type[Observer] = Observer
    view: type[View] = View

    def start(self, world: World) -> Reconciler:
        return world.reconciler(cluster=self.view(world), kind=self.kind, observer=self.observer)


Scenario = Callable[[Mutant], list[str]]


def _late_raise_after_a_hold(mutant: Mutant) -> list[str]:
    """A raise is on its way; somebody holds, which is stored; then the raise arrives."""
    world = shop()
    process = mutant.start(world)
    world.run(process, 60, until=lambda: world.weight() == 50)
    world.run(process, 60)
    world.holds = lambda _number, kind: kind == "route"
    world.run(process, 600, until=lambda: bool(world.in_flight) or world.state == "Succeeded")
    world.holds = lambda _number, _kind: False
    world.annotate(hold="wait")
    world.run(process, 60)
    faults = [] if world.state == "Held" else [f"the state is {world.state}"]
    faults += [f"the late raise was {outcome}" for outcome in world.arrive() if outcome != "refused"]
    return faults + violations(world.history, KEY.namespace, KEY.name)


def _hold_between_decision_and_write(mutant: Mutant) -> list[str]:
    world = shop()
    process = mutant.start(world)
    world.run(process, 60, until=lambda: world.weight() == 50)
    world.run(process, 100)  # what the step waits for is told by then
    done: list[int] = []

    def annotate(number: int, _kind: str) -> None:
        if not done:
            done.append(number)
            world.annotate(hold="wait")

    world.before_write = annotate
    world.run(process, 300)
    return violations(world.history, KEY.namespace, KEY.name)


def _plain_run(mutant: Mutant) -> list[str]:
    world = shop()
    process = mutant.start(world)
    world.run(process, 1200, until=lambda: world.state == "Succeeded")
    faults = [] if rising(world) == [50, 300, 1000] else [f"it rose {rising(world)}"]
    return faults + violations(world.history, KEY.namespace, KEY.name)


def _successor(mutant: Mutant) -> list[str]:
    """A new process has written; the old one must write no more."""
    world = shop()
    old, new = mutant.start(world), mutant.start(world)
    world.run(old, 60, until=lambda: world.weight() == 50)
    world.run(new, 140, until=lambda: world.status.epoch > 1 or bool(world.status.intent))
    written = len(world.writes)
    for _ in range(30):
        world.clock.at += TICK
        world.turn(old)
    return [f"the old process made {len(world.writes) - written} writes"] if len(world.writes) > written else []


def _no_traffic_after_a_raise(mutant: Mutant) -> list[str]:
    world = shop()
    process = mutant.start(world)
    world.run(process, 600, until=lambda: world.weight() == 300)
    world.service("shop").idle.append((world.clock.at, world.clock.at + 1e6))
    world.run(process, 900)
    return [] if rising(world) == [50, 300] else [f"it rose {rising(world)} without a request"]


def _rollback_that_cannot_be_stored(mutant: Mutant) -> list[str]:
    world = shop()
    process = mutant.start(world)
    world.run(process, 60, until=lambda: world.weight() == 50)

    def fail(_number: int, kind: str) -> None:
        if kind == "status":
            raise RefusedError("etcd is full")

    world.before_write = fail
    world.annotate(rollback="no")
    world.run(process, 30)
    return [] if world.weight() == 0 else ["the canary was left where it was"]


def _rollback_that_is_withheld(mutant: Mutant) -> list[str]:
    world = shop()
    process = mutant.start(world)
    world.run(process, 60, until=lambda: world.weight() == 50)
    world.run(process, 20)
    world.holds = lambda _number, kind: kind == "route"
    world.run(process, 600, until=lambda: bool(world.in_flight))
    world.holds = lambda _number, _kind: False
    world.endpoints["shop-stable"] = 0
    world.annotate(rollback="no")
    world.run(process, 5)
    return [f"the late raise was {outcome}" for outcome in world.arrive() if outcome != "refused"]


def _backends_change_places(mutant: Mutant) -> list[str]:
    world = shop()
    view = mutant.view(world)
    process = world.reconciler(cluster=view, kind=mutant.kind)
    world.run(process, 60, until=lambda: world.weight() == 50)
    world.run(process, 20)
    view.frozen = True
    world.backends(("shop-canary", 5), ("shop-stable", 95))
    world.annotate(rollback="no")
    view.read_launch(KEY)
    world.run(process, 10)
    return [] if rising(world) == [50, 0] else [f"the canary's weights were {rising(world)}"]


class _NoFence(Mutant):
    class kind(Reconciler):  # noqa: N801
        def _move_on(self, key: RouteKey, epoch: str) -> None:
            """Left out."""


class _RaiseWithoutVersion(Mutant):
    class view(View):  # noqa: N801
        def patch_route(self, patch: RoutePatch, dry_run: bool = False) -> Route:
            return super().patch_route(replace(patch, resource_version=None), dry_run)


class _OldEpoch(Mutant):
    class observer(Observer):  # noqa: N801
        def observe(self, launch: Launch, now: float, *rest: Any) -> Observation:
            return replace(super().observe(launch, now, *rest), epoch=1)


class _NoIntent(Mutant):
    class view(View):  # noqa: N801
        def write_status(self, launch: Launch, status: Mapping[str, Any]) -> Launch:
            return launch if "intent" in status else super().write_status(launch, status)


class _NothingReadAgain(Mutant):
    class view(View):  # noqa: N801
        """Neither a fresh read nor compare-and-swap: the decision is carried out as it was made."""

        def launches(self) -> list[Launch]:
            self._known = super().launches()
            return self._known

        def launch(self, key: LaunchKey) -> Launch | None:
            return next((launch for launch in self._known if launch.key == key), None)

        def read_launch(self, key: LaunchKey) -> Launch:
            return self.launch(key) or super().read_launch(key)

        def write_status(self, launch: Launch, status: Mapping[str, Any]) -> Launch:
            return self._blind(launch, status)

        def _blind(self, launch: Launch, status: Mapping[str, Any]) -> Launch:
            world = self.world
            world.before_write(len(world.writes), "status")
            newest = world.launch(launch.key)
            assert newest is not None
            struck, world.before_write = world.before_write, lambda _number, _kind: None
            try:
                return super().write_status(newest, status)
            finally:
                world.before_write = struck


class _PassEvidenceKept(Mutant):
    class observer(Observer):  # noqa: N801
        def _folds(self, status: Status, memory: Any) -> Mapping[str, Fold]:
            folds = super()._folds(status, memory)
            return {
                key: replace(fold, since=fold.began, pass_anchored=fold.anchored, pass_n=fold.n, pass_x=fold.x)
                for key, fold in folds.items()
            }


class _RetreatThatWaits(Mutant):
    class kind(Reconciler):  # noqa: N801
        def _retreat(self, launch: Launch, seen: Any, decision: Any, memory: Any) -> None:
            try:
                launch = self._cluster.write_status(launch, {})
            except AdapterError:
                return
            super()._retreat(launch, seen, decision, memory)


class _WithheldWithoutFence(Mutant):
    class kind(Reconciler):  # noqa: N801
        def _withhold(self, *_: Any) -> None:
            """Left out."""


class _ByPlaceOnly(Mutant):
    class view(View):  # noqa: N801
        """Weights are written by place, whatever stands there."""

        def patch_route(self, patch: RoutePatch, dry_run: bool = False) -> Route:
            backends = self.world.documents["HTTPRoute", patch.key.name]["spec"]["rules"][0]["backendRefs"]
            named = tuple(replace(edit, name=backends[edit.backend]["name"]) for edit in patch.edits)
            return super().patch_route(replace(patch, edits=named), dry_run)


MUTANTS: tuple[tuple[type[Mutant], Scenario], ...] = (
    (_NoFence, _late_raise_after_a_hold),
    (_RaiseWithoutVersion, _late_raise_after_a_hold),
    (_OldEpoch, _successor),
    (_NoIntent, _plain_run),
    (_NothingReadAgain, _hold_between_decision_and_write),
    (_PassEvidenceKept, _no_traffic_after_a_raise),
    (_RetreatThatWaits, _rollback_that_cannot_be_stored),
    (_WithheldWithoutFence, _rollback_that_is_withheld),
    (_ByPlaceOnly, _backends_change_places),
)


@pytest.mark.parametrize("scenario", {scenario: None for _, scenario in MUTANTS}, ids=lambda found: found.__name__)
def test_the_real_protocol_passes_the_scenario(scenario: Scenario) -> None:
    assert scenario(Mutant()) == []


@pytest.mark.parametrize(("mutant", "scenario"), MUTANTS, ids=[mutant.__name__ for mutant, _ in MUTANTS])
def test_a_protocol_without_one_of_its_parts_is_noticed(mutant: type[Mutant], scenario: Scenario) -> None:
    assert scenario(mutant()) != []

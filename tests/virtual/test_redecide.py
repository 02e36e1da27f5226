"""Every decision that a launch in virtual time hands to the ledger is decided again the same, whatever happens to it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import pytest

from controller.core.decide import Decision, decide
from controller.core.ledger import record, redecide
from controller.core.observation import Observation
from controller.core.status import State
from controller.core.units import format_instant
from controller.reconcile import Reconciler
from tests.core.builders import NOW, Course, bad, course, good, ramp, target, thin
from tests.virtual.play import at_30, play, turn_bad
from tests.virtual.world import World, shop


def whole(**changes: Any) -> Course:
    """Planning with a gate, a ramp with a preflight, approvals and checkpoints, a rollout to a second region."""
    errors = {"metric": "errors", "below": "2%"}
    first = {"name": "planning", "deliverables": ["hired"], "end": at(120), "gate": {"approval": {"role": "cto"}}}
    second = ramp(
        start={"at": at(600)},
        targets=["east"],
        preflight={"opens": "5m", "checklist": ["dashboards"], "approval": {"role": "vp"}},
        steps=[{"weight": 5, "for": "1m", "approval": {"role": "lead"}}, {"weight": 10, "for": "1m"}],
        checkpoints=["1m", "3m", "30m"],
        gate={"after": "10m", "criteria": [errors], "onFail": {"extend": "5m", "times": 2, "then": "hold"}},
    )
    third = ramp(
        "rollout", steps=[{"weight": 50}, {"weight": 100, "for": "1m"}], guardrails=[errors | {"scope": "target"}]
    )
    spec = {
        "targets": [target("east"), target("west")],
        "phases": [first, second, third],
        "windows": [{"days": ["Tue", "Wed"], "from": "00:00", "to": "24:00"}],
        "freezes": [{"name": "sale", "from": at(700), "to": at(820)}],
        "onSuccess": "return",
    }
    return course(**(spec | changes))


def at(seconds: float) -> str:
    """An instant as plans write it, so many seconds after the beginning."""
    return format_instant(NOW + seconds)


def ask_people(launched: Course) -> None:
    """Whoever is asked for says yes; what stands in the way of the return goes."""
    said = launched.history[-1].message
    wanted = re.search(r"annotate approve=([a-z0-9/]+)", said)
    launched.annotations = {"approve": wanted[1]} if wanted else {}
    if "(annotate done)" in said:
        launched.annotations["done"] = "planning/hired, ramp/dashboards" if "dashboards" in said else "planning/hired"
    if "its pods run" in said:
        launched.versions = {"v2": 3}


def nothing_new(launched: Course) -> None:
    """All goes well."""


def bad_for_a_while(launched: Course) -> None:
    """The canary fails between the ramp's checkpoints and its gate."""
    launched.traffic = thin if NOW + 1000 < launched.now < NOW + 1500 else good


def bad_in_the_west(launched: Course) -> None:
    """One region goes bad in the rollout, and is taken out alone."""
    if launched.status.phase == "rollout":
        launched.traffic = lambda subject, now: bad(subject, now) if subject.target == "west" else good(subject, now)


def in_another_order(launched: Course) -> None:
    """Dates are moved, steps are passed by hand, and things are said that do not fit."""
    minute = round(launched.now - NOW) // 60
    said = {
        3: ("reschedule", f"ramp={at(900)}"),
        4: ("approve", "ramp/gate"),
        5: ("advance", "ramp"),
        9: ("done", "x/y"),
    }
    if minute in said:
        verb, value = said[minute]
        launched.annotations[verb] = value


@pytest.mark.parametrize("news", [nothing_new, bad_for_a_while, bad_in_the_west, in_another_order])
def test_every_decision_of_a_launch_with_people_and_dates_is_decided_again_the_same(
    news: Callable[[Course], None],
) -> None:
    launched = whole()
    lines: list[str] = []
    for _ in range(400):
        launched.now += 10.0
        seen = launched.observe()
        decision = decide(seen)
        if decision.decisive or decision.changed:
            lines += record(seen, decision)
        launched.history.append(decision)
        launched._carry_out(decision)
        ask_people(launched)
        news(launched)
        if launched.status.state is State.SUCCEEDED and not any(launched.live.values()):
            break
    assert launched.status.state is State.SUCCEEDED, launched.status.message
    checkpoints = [line["checkpoint"] for line in map(json.loads, lines) if "checkpoint" in line]
    assert {each["phase"] for each in checkpoints} == {"ramp"}
    again = list(redecide(lines))
    assert len(again) >= 25
    assert [one for one in again if not one.same] == []


def ledger_of(world: World) -> list[str]:
    """What the processes of a world hand to the ledger from now on: the decisions with what they were made from."""
    lines: list[str] = []

    def keep(seen: Observation, decision: Decision) -> None:
        lines.extend(record(seen, decision))

    world.told = keep
    return lines


def world_of(name: str) -> tuple[World, Reconciler, list[str]]:
    """A world in virtual time to which something happens."""
    world = shop()
    ledger = ledger_of(world)
    process = world.reconciler()
    world.run(process, 3600, until=lambda: world.weight() == 300 and world.status.intent is None)
    match name:
        case "bad":
            turn_bad(world)
        case "an outage":
            world.problem_of_evidence = "Prometheus did not answer within 5s"
            world.run(process, 300)
            world.problem_of_evidence = ""
        case "a hold":
            world.annotate(hold="a look at the dashboards")
            world.run(process, 300)
            world.annotate(hold=None)
        case "another hand":
            world.backends(("shop-stable", 60), ("shop-canary", 40))
            world.run(process, 120)
            world.backends(("shop-stable", 70), ("shop-canary", 30))
        case "an edit":
            world.edit_spec(lambda spec: spec.update(revision="v3"))
        case "a broken plan":
            world.edit_spec(lambda spec: spec.update(phases=[]))
            world.run(process, 60)
        case _:
            assert name == "good"
    return world, process, ledger


@pytest.mark.parametrize("name", ["good", "bad", "an outage", "a hold", "another hand", "an edit", "a broken plan"])
def test_the_decisions_of_a_process_in_virtual_time_are_decided_again_the_same(name: str) -> None:
    world, process, ledger = world_of(name)
    play(world, 900, process=process)
    again = list(redecide(ledger))
    assert len(again) == len(world.decisions) >= 5
    assert [one for one in again if not one.same] == []


def test_what_a_new_process_reads_back_from_status_is_decided_again_the_same() -> None:
    world, _ = at_30()
    ledger = ledger_of(world)
    play(world, 900, process=world.reconciler())
    again = list(redecide(ledger))
    assert len(again) >= 2
    assert [one for one in again if not one.same] == []

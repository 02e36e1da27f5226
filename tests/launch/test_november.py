"""The plan of four months in deploy/examples, with its days turned into seconds, on everything real."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from controller.adapters.yaml_documents import read_documents
from controller.core.units import format_instant, parse_duration, parse_instant
from rules.generate import render
from tests.invariants import violations, writes_after
from tests.launch.stage import Daemon, Stage, stage
from tests.realparts.kube import KubeApiserver

PLAN = Path(__file__).parents[2] / "deploy" / "examples" / "november-launch.yaml"
NAME = "learner"
DAY_S = 1.0
"""What a day becomes."""
SHORTEST = {"for": 8, "opens": 4, "extend": 30, "reschedule": 30, "watchAfter": 5}
"""Evidence and people take the time that they take, however short the days are (seconds)."""
QUICK = {"recorded_interval": "1s", "recorded_offset": "1s", "recorded_settle": "2s"}
PATIENCE_S = 600
GAUGES = {
    "business_revenue_uplift_percent": 6.4,
    "business_revenue_uplift_percent_standard_error": 0.1,
    "business_roi_percent": 9.0,
    "business_roi_percent_standard_error": 0.2,
    "business_learners_served": 5.2e6,
}
INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")


def compressed(document: dict[str, Any], begin: float) -> dict[str, Any]:
    """The plan with its first date at ``begin`` (epoch seconds) and every day as long as ``DAY_S``."""
    first = min(parse_instant(text) for text in _instants(document["spec"]))

    def shrunk(name: str, value: Any) -> Any:
        if isinstance(value, dict):
            return {key: shrunk(key, each) for key, each in value.items()}
        if name == "checkpoints":
            return [_spread(number, each) for number, each in enumerate(value)]
        if isinstance(value, list):
            return [shrunk(name, each) for each in value]
        if isinstance(value, str) and INSTANT.fullmatch(value):
            return format_instant(begin + (parse_instant(value) - first) / 86400 * DAY_S)
        if name in SHORTEST or name == "after":
            seconds = parse_duration(str(value)) / 86400 * DAY_S
            return f"{max(round(seconds), SHORTEST.get(name, 1))}s"
        if name in ("interval", "settle"):
            return "1s"
        return value

    spec = {key: shrunk(key, value) for key, value in document["spec"].items()}
    return {**document, "metadata": {"name": NAME}, "spec": spec}


def _spread(number: int, checkpoint: Any) -> Any:
    """Checkpoints that would fall together, a second apart."""
    offset = f"{number + 1}s"
    return {**checkpoint, "at": offset} if isinstance(checkpoint, dict) else offset


def _instants(value: Any) -> Iterable[str]:
    if isinstance(value, dict):
        for each in value.values():
            yield from _instants(each)
    elif isinstance(value, list):
        for each in value:
            yield from _instants(each)
    elif isinstance(value, str) and INSTANT.fullmatch(value):
        yield value


def november(begin: float) -> dict[str, Any]:
    """The compressed plan, as it is applied."""
    (document,) = read_documents(PLAN.read_text(encoding="utf-8"))
    return compressed(document.value, begin)


class People:
    """Whoever reads the message gives what it asks for, and looks again a while later."""

    def __init__(self, on: Stage) -> None:
        self._on = on
        self._next: dict[str, float] = {}

    def look(self) -> None:
        """Give what is asked for now."""
        message = str(self._on.status(NAME).get("message", ""))
        if asked := re.search(r"annotate approve=([\w./-]+)", message):
            self._say("approve", asked[1])
        phase = re.search(r"(?:preflight of phase|gate of phase|phase) ([\w.-]+)", message)
        items = re.search(r"(?:checklist|not done yet): ([\w., -]+) \(annotate done\)", message)
        if phase and items:
            self._say("done", ", ".join(f"{phase[1]}/{item.strip()}" for item in items[1].split(",")))

    def _say(self, verb: str, value: str) -> None:
        now = time.monotonic()
        if now >= self._next.get(value, 0.0):
            self._next[value] = now + 5
            self._on.annotate(NAME, **{verb: json.dumps({"value": value, "by": "ada", "id": f"{now:.0f}"})})


def play(on: Stage, daemon: Daemon, *, until: Callable[[dict[str, Any]], bool], kills: Iterable[float] = ()) -> None:
    """People are at hand until it is over; the daemon is killed at these seconds and started again."""
    begin = time.monotonic()
    left, people = sorted(kills), People(on)
    while not until(on.status(NAME)):
        passed = time.monotonic() - begin
        assert passed < PATIENCE_S, f"{on.status(NAME).get('state')}: {on.status(NAME).get('message')}\n{daemon.tail()}"
        if left and passed > left[0]:
            left.pop(0)
            daemon.kill9()
            daemon.start()
        people.look()
        time.sleep(0.5)


@pytest.fixture
def on_stage(kube: KubeApiserver, tmp_path: Path) -> Iterable[Stage]:
    """Eight regions with traffic, and the recording rules for plain HTTP, evaluated each second."""
    rules = [tmp_path / name for name in ("http.yaml", "restarts.yaml")]
    for path in rules:
        path.write_text(render(1.0, 1.0)[path.name], encoding="utf-8")
    with stage(kube, tmp_path, rule_files=rules) as on:
        on.traffic.gauges.update(GAUGES)
        plan = november(0.0)
        for target in plan["spec"]["targets"]:
            on.traffic.shop(target["route"]["name"]).per_second = 200_000.0
        on.serve(*(target["route"]["name"] for target in plan["spec"]["targets"]))
        yield on


def test_the_november_plan_runs_to_its_end_with_people_and_two_kills_and_keeps_every_invariant(on_stage: Stage) -> None:
    on = on_stage
    plan = november(time.time() + 5)
    on.kube.apply([plan], namespace=on.namespace)
    daemon = on.daemon(**QUICK)
    daemon.wait_ready()
    play(on, daemon, until=lambda status: status.get("state") in ("Succeeded", "RolledBack"), kills=(30.0, 75.0))
    status = on.status(NAME)
    assert status["state"] == "Succeeded", status["message"]
    assert [phase["name"] for phase in status["phases"]] == [phase["name"] for phase in plan["spec"]["phases"]]
    routes = [target["route"]["name"] for target in plan["spec"]["targets"]]
    assert on.observer.weights(routes[0]) == [0, 10, 100, 1000]
    for route in routes[1:]:
        assert on.observer.weights(route) == [0, 100, 1000], route
    assert {score["phase"] for score in status["checkpoints"]} <= {"ramp", "rollout"}
    time.sleep(5)  # the watch after success goes by
    assert violations(on.observer.versions(), on.namespace, NAME) == []
    settled = time.time()
    time.sleep(10)
    assert writes_after(on.observer.versions(), settled) == []


def test_a_region_that_turns_bad_in_the_rollout_takes_every_region_to_0(on_stage: Stage) -> None:
    on = on_stage
    on.kube.apply([november(time.time() + 5)], namespace=on.namespace)
    daemon = on.daemon(**QUICK)
    daemon.wait_ready()
    play(on, daemon, until=lambda _: on.observer.weights("learner-eu-west")[-1] > 0)
    on.traffic.shop("learner-eu-west").canary_errors = 0.05
    on.observer.wait_for_state(NAME, "RolledBack", seconds=60)
    for region in ("us-east", "us-west", "eu-west"):
        assert on.observer.weights(f"learner-{region}")[-1] == 0
    assert violations(on.observer.versions(), on.namespace, NAME) == []

"""Any valid plan in any scenario, whatever people say: the invariants hold, and it ends or says what it waits for.

What the simulation writes is recorded as an observer of the cluster would, and the same checkers read it. The cases are
drawn from fixed seeds, so that every run draws the same; they come in batches, so that they can run beside each other.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings

from controller.core.plan import parse
from controller.core.status import State
from controller.core.units import FULL_WEIGHT
from controller.simulation.run import Outcomes, simulate
from controller.simulation.scenario import read_scenario
from tests.invariants import EPOCH, Version, violations
from tests.virtual.chance import HOUR, plans, scenarios

CASES = int(os.environ.get("CASES") or (10_000 if os.environ.get("CI") else 1_000))
BATCHES = 20
QUIET = HOUR
MOST_DECISIONS = 400
"""A launch that decides more often than that within days goes to and fro."""


class Chronicle:
    """The history of a Launch and its routes, as somebody sees it who watches the cluster."""

    def __init__(self, document: Mapping[str, Any], at: float) -> None:
        self.history: list[Version] = []
        for target in document["spec"]["targets"]:
            self.weight(at, target["name"], 0, "")

    def launch(
        self, at: float, document: Mapping[str, Any], annotations: Mapping[str, str], status: Mapping[str, Any]
    ) -> None:
        said = {f"autoadvance.dev/{verb}": value for verb, value in annotations.items()}
        metadata = {**document["metadata"], "uid": "launch", "annotations": said}
        self.history.append(Version(at, "Launch", "prod", "shop", {**document, "metadata": metadata, "status": status}))

    def weight(self, at: float, target: str, weight: int, cause: str) -> None:
        backends = [
            {"name": f"{target}-stable", "weight": FULL_WEIGHT - weight},
            {"name": f"{target}-canary", "weight": weight},
        ]
        route = {
            "metadata": {"name": target, "namespace": "prod", "annotations": {EPOCH: cause} if cause else {}},
            "spec": {"rules": [{"backendRefs": backends}]},
        }
        self.history.append(Version(at, "HTTPRoute", "prod", target, route))


def told(document: Mapping[str, Any], scenario: Mapping[str, Any]) -> tuple[Outcomes, Chronicle]:
    """What becomes of it, and its history."""
    plan = parse(document)
    chronicle = Chronicle(document, 0.0)
    found = simulate(document, plan, read_scenario(scenario, plan), quiet=QUIET, share=2, witness=chronicle)
    return found, chronicle


def check(document: Mapping[str, Any], scenario: Mapping[str, Any]) -> None:
    """Everything that must hold of one case."""
    found, chronicle = told(document, scenario)
    wrong = violations(chronicle.history, "prod", "shop")
    assert not wrong, wrong[:3]
    assert found.outcome in {state.value for state in State}
    over = found.outcome in ("Succeeded", "RolledBack")
    assert over or found.ended.startswith("waiting for "), (found.outcome, found.ended)
    assert len(found.ended) > len("waiting for ")
    assert len(found.decisions) < MOST_DECISIONS, found.decisions[-6:]
    last = {version.name: version.document for version in chronicle.history}
    recorded = {each["name"]: each.get("weight", "0%") for each in (last["shop"] or {})["status"].get("targets", ())}
    for name, weight in recorded.items():
        document = last[name] or {}
        assert f"{document['spec']['rules'][0]['backendRefs'][1]['weight'] / 10:g}%" == weight


@pytest.mark.parametrize("batch", range(BATCHES))
def test_the_invariants_hold_and_it_ends_or_says_what_it_waits_for(batch: int) -> None:
    @seed(batch)
    @settings(
        max_examples=-(-CASES // BATCHES),
        deadline=None,
        database=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    @given(plans(), scenarios())
    def all_of(document: dict[str, Any], scenario: dict[str, Any]) -> None:
        check(document, scenario)

    all_of()


@settings(max_examples=25, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
@given(plans(), scenarios())
def test_the_same_seed_gives_the_same_output(document: dict[str, Any], scenario: dict[str, Any]) -> None:
    assert told(document, scenario)[0].document() == told(document, scenario)[0].document()

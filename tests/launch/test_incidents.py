"""A gate that wants no critical incidents, with alerts that a real Prometheus raises from real rules."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import pytest

from tests.invariants import violations
from tests.launch.stage import launch_document, stage
from tests.realparts.kube import KubeApiserver

STEPS = [{"weight": 20, "for": "3s"}, {"weight": 30, "for": "3s"}]
RULE = {
    "alert": "StableErrors",
    "expr": 'sum by (service) (rate(http_requests_total{track="stable",code="500"}[5s])) > 0',
    "labels": {"severity": "critical", "team": "learning"},
}


def _phase(name: str) -> dict[str, Any]:
    incidents = {"incidents": "critical", "atMost": 0, "matchers": ["team=learning", f'service="{name}"']}
    return {
        "name": "ramp",
        "steps": STEPS,
        "guardrails": [{"metric": "failures", "below": "5%"}],
        "gate": {"after": "15s", "criteria": [incidents], "onFail": "rollback"},
    }


@pytest.mark.parametrize("version", ["2", "3"])
def test_a_short_incident_ends_the_launch_that_it_concerns_and_no_other(
    kube: KubeApiserver, tmp_path: Path, version: Literal["2", "3"]
) -> None:
    rules = tmp_path / "rules.json"
    rules.write_text(json.dumps({"groups": [{"name": "shop", "rules": [RULE]}]}))
    names = ("calm", "troubled")
    with stage(kube, tmp_path, version=version, rule_files=[rules]) as on:
        on.serve(*names)
        kube.apply([launch_document(name, phases=[_phase(name)]) for name in names], namespace=on.namespace)
        on.daemon().wait_ready()
        on.observer.wait_for_weight("troubled", 300, seconds=90)
        on.traffic.shop("troubled").stable_errors = 0.2
        on.prometheus.wait_for('ALERTS{alertstate="firing",service="troubled"} == 1')
        on.traffic.shop("troubled").stable_errors = 0.0

        on.observer.wait_for_state("troubled", "RolledBack", seconds=90)
        assert "1 critical incident where" in on.status("troubled")["message"]
        assert "none is allowed: seen to begin at" in on.status("troubled")["message"]
        on.observer.wait_for_state("calm", "Succeeded", seconds=120)
        assert on.observer.weights("troubled") == [0, 200, 300, 0]
        assert on.observer.weights("calm") == [0, 200, 300]
        (counted,) = [one for one in on.status("calm")["criteria"] if not one["target"]]
        assert (counted["verdict"], counted["value"]) == ("pass", "0")
        for name in names:
            assert violations(on.observer.versions(), on.namespace, name) == []

"""``--config`` of the commands that read plans: a pipeline sees what the controller would."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from tests.commands.grounds import call
from tests.core.builders import document, ramp, target

TEXT = """\
prometheus: {eu: {url: "http://127.0.0.1:9", bearerTokenFile: /etc/not/here}}
metrics: [{name: paying, ratio: {bad: payments_failed_total, total: payments_total}}]
guardrails: [{metric: paying, below: 3%}]
limits: {queryLength: 30}
"""
OWN = {"name": "own", "ratio": {"bad": 'failed_total{a="a long condition"}', "total": "all_total"}}


@pytest.fixture
def config(tmp_path: Path) -> str:
    path = tmp_path / "config.yaml"
    path.write_text(TEXT)
    return f"--config={path}"


def plan(folder: Path, prometheus: str = "eu", **spec: object) -> Path:
    path = folder / "launch.yaml"
    path.write_text(yaml.safe_dump(document(targets=[{**target(), "prometheus": prometheus}], **spec)))
    return path


def test_validate_says_what_the_operator_gives_a_plan(tmp_path: Path, config: str) -> None:
    said = call("validate", plan(tmp_path), config)
    assert said.exit_code == 0, said.output
    assert "guarded by default by paying below 3%" in said.output
    assert "is not known here" not in said.output
    assert "is not known here" in call("validate", plan(tmp_path)).output
    assert "guarded by default" not in call("validate", plan(tmp_path, defaultGuardrails=False), config).output


def test_validate_finds_what_the_operator_does_not_allow_at_its_place(tmp_path: Path, config: str) -> None:
    path = plan(tmp_path, "us", metrics=[OWN])
    said = call("validate", path, config, "-o", "json")
    assert said.exit_code == 1
    (launch,) = json.loads(said.stdout)["launches"]
    assert {fault["path"]: fault["message"].partition("; ")[0] for fault in launch["faults"]} == {
        "spec.targets[0].prometheus": "the operator's configuration has no Prometheus 'us'",
        "spec.metrics[0].ratio.bad": "has 34 characters, and limits.queryLength of the operator's configuration is 30",
    }


@pytest.mark.parametrize("command", ["validate", "check", "simulate", "backtest"])
def test_a_configuration_with_faults_ends_the_command_with_every_fault(tmp_path: Path, command: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("limits: {launches: none}\nconfine: 5\n")
    options = {"simulate": [f"--scenario={path}"], "backtest": ["--from=1d"]}.get(command, [])
    said = call(command, plan(tmp_path), f"--config={path}", *options)
    assert said.exit_code == 2
    assert said.stderr.splitlines() == [
        f"auto-advance {command}: --config {path}: limits.launches: is 'none'; write a whole number",
        f"auto-advance {command}: --config {path}: confine: is 5; write true or false",
    ]


def test_a_plan_is_simulated_with_what_the_operator_gives_it(tmp_path: Path, config: str) -> None:
    scenario = tmp_path / "scenario.yaml"
    scenario.write_text("requests: 1000/s\nmetrics: {paying: 0.5%}\n")
    rails = [{"metric": "paying", "below": "2%"}]
    without = call("simulate", plan(tmp_path, phases=[ramp(guardrails=rails)]), f"--scenario={scenario}")
    assert (without.exit_code, "there is no metric paying" in without.stderr) == (2, True)
    said = call("simulate", plan(tmp_path, phases=[ramp(guardrails=rails)]), f"--scenario={scenario}", config)
    assert (said.exit_code, "Succeeded" in said.output) == (0, True), said.output
    other = call("simulate", plan(tmp_path, "us"), f"--scenario={scenario}", config)
    assert (other.exit_code, "has no Prometheus 'us'" in other.stderr) == (2, True)

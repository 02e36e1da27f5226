"""`validate` with and without traffic: what gates and steps can decide, what they need, and what is a fault then."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner, Result

from controller.__main__ import app
from tests.core.builders import document, target
from tests.realparts.parts import ROOT

NOVEMBER = ROOT / "deploy" / "examples" / "november-launch.yaml"


def call(*arguments: object, text: str = "") -> Result:
    return CliRunner().invoke(app, ["validate", *map(str, arguments)], input=text)


def gated(**spec: Any) -> str:
    """A launch of one step and a gate after four hours."""
    gate = {"after": "4h", "criteria": [{"metric": "errors", "below": "0.5%"}]}
    phases = [{"name": "ramp", "steps": [{"weight": 10}], "gate": gate}]
    return yaml.safe_dump(document(**{"phases": phases, **spec}), sort_keys=False)


def test_a_plan_alone_says_what_traffic_each_step_and_gate_needs() -> None:
    shown = call("-", text=gated())
    assert (shown.exit_code, shown.stderr) == (0, "")
    assert shown.stdout.splitlines()[1:] == [
        "-: launch shop: the traffic that its steps and gates need, with 0.5 times the bad requests that each limit allows:",
        "  step 1 of phase ramp: decides with 95% within 4h30m at 10% from 11 requests/s on (errors below 0.5%)",
        "  gate of phase ramp: decides with 95% within 4h at 10% from 12 requests/s on (errors below 0.5%)",
    ]


def test_with_traffic_each_criterion_says_how_surely_and_how_soon() -> None:
    shown = call("-", "--requests", "100/s", text=gated())
    assert (shown.exit_code, shown.stderr) == (0, "")
    assert shown.stdout.splitlines()[-1] == (
        "  gate of phase ramp: errors below 0.5%: decides with more than 99.9% within 4h at 100 requests/s and 10% "
        "(median 12m, 95% by 26m); catches 0.67% or worse"
    )


def test_a_gate_that_cannot_pass_with_that_traffic_is_a_fault_at_its_place() -> None:
    text = gated()
    shown = call("-", "--requests", "0.5/s", text=text)
    line = text.splitlines().index("      - metric: errors") + 1
    assert shown.exit_code == 1
    assert "good" not in shown.stdout
    (fault,) = [each for each in shown.stderr.splitlines() if "gate.criteria" in each]
    assert fault.startswith(f"-:{line}:9: spec.phases[0].gate.criteria[0]: errors below 0.5%: cannot pass within 4h: ")
    assert fault.endswith("give it 3d23h, 12 requests/s or a wider limit")


def test_what_no_traffic_would_mend_is_a_warning_while_nobody_said_how_much_there_is() -> None:
    short = [
        {"name": "ramp", "steps": [{"weight": 5, "for": "5s"}], "guardrails": [{"metric": "errors", "below": "1%"}]}
    ]
    text = yaml.safe_dump(document(phases=short), sort_keys=False)
    shown = call("-", text=text)
    assert shown.exit_code == 0
    assert (
        "warning: spec.phases[0].steps[0]: cannot pass within 15s: the first counts of errors below 1%" in shown.stderr
    )
    assert call("-", "--requests", "1000000/s", text=text).exit_code == 1


def test_json_holds_the_numbers() -> None:
    said = json.loads(call("-", "-o", "json", "--requests", "90/m", "--as-good-as", "0.158", text=gated()).stdout)
    (launch,) = said["launches"]
    gate = launch["decisions"][-1]
    assert launch["requestsPerSecond"] == {"main": 1.5}
    assert (gate["gate"], gate["criterion"], gate["canaryRequests"]) == (True, "errors below 0.5%", 2155)
    assert 0.49 < gate["decides"] < 0.5
    assert gate["decides"] + gate["undecided"] == pytest.approx(1.0)
    assert gate["needsWeight"] > 10
    (launch,) = json.loads(call("-", "-o", "json", text=gated()).stdout)["launches"]
    assert [need["gate"] for need in launch["needs"]] == [False, True]


def test_targets_may_have_traffic_of_their_own() -> None:
    text = gated(targets=[target("eu"), target("us")])
    shown = call("-", "--requests", "100/s", "--requests", "eu=20/s", text=text)
    assert "at 20 requests/s and 10% of eu, the thinnest" in shown.stdout
    for arguments, words in [
        (("--requests", "eu=20/s"), "says nothing of target us of launch shop; write one without a name besides"),
        (("--requests", "20/s", "--requests", "asia=1/s"), "no target has that name; write one of eu, us"),
        (("--requests", "20/s", "--requests", "30/s"), "is said twice for all targets; write it once"),
        (("--requests", "=20/s"), "names no target before the ="),
        (("--requests", "many"), "'many' is no rate; write requests per second, minute or hour, such as 100/s"),
        (("--bursts", "0.5"), "is not within 1 and 1000; write 1 where each bad request comes by itself"),
        (("--as-good-as", "1"), "is not within 0 and 0.95; write 0.5 for a service"),
    ]:
        refused = call("-", *arguments, text=text)
        assert (refused.exit_code, words in refused.stderr) == (2, True), refused.stderr


def test_bursts_make_it_slower_and_are_told() -> None:
    usual = call("-", "--requests", "100/s", "--bursts", "1", text=gated()).stdout.splitlines()[-1]
    bursts = call("-", "--requests", "100/s", "--bursts", "5", text=gated()).stdout.splitlines()[-1]
    assert "(median 12m, 95% by 26m)" in usual
    assert "bad ones come in bursts, each counts as 0.2" in bursts
    assert "(median 56m, 95% by 2h6m)" in bursts
    needed = call("-", "--bursts", "5", text=gated()).stdout
    assert "from 12 requests/s on" not in needed


def test_a_prometheus_that_does_not_answer_is_said_in_one_line() -> None:
    shown = call("-", "--measure", "--prometheus", "http://127.0.0.1:9", text=gated())
    assert shown.exit_code == 3
    (line,) = shown.stderr.splitlines()
    assert line.startswith("auto-advance validate: --measure: Prometheus at 127.0.0.1:9 ")
    assert call("-", "--measure", "--prometheus", "nowhere", text=gated()).exit_code == 2


def november(requests: str) -> dict[str, list[str]]:
    """The lines about each gate of the November launch with so many requests in each region."""
    shown = call(NOVEMBER, "--requests", requests)
    said: dict[str, list[str]] = {}
    for line in shown.stdout.splitlines():
        if line.startswith("  gate of phase "):
            gate, _, words = line.removeprefix("  gate of phase ").partition(": ")
            said.setdefault(gate, []).append(words)
    return said


def test_every_gate_of_the_november_launch_says_what_it_can_prove() -> None:
    said = november("250/s")
    assert list(said) == ["canary", "ramp", "rollout", "stabilisation", "sprint-3", "phase-4-sprint-2"]
    for gate, lines in said.items():
        assert [line for line in lines if "uptime" in line], gate
        assert not [line for line in lines if "decides with only" in line], gate
    assert said["rollout"][0].startswith(
        "errors below 0.1%: decides with more than 99.9% within 23h45m at 250 requests/s"
    )
    assert said["stabilisation"] == [
        "errors below 1% and latency p99 below 500ms: decides with more than 99.9% within 11d7h at 250 requests/s and "
        "100% of each target (median 55s, 95% by 1m5s); catches 1.3% or worse",
        "holds at most 0: is counted by the launch itself, and certain",
        "uptime above 99.99%: 1m38s of 11d7h may be down, judged at the end of the phase",
    ]
    uptime = "uptime above 99.999%: 24.1s of 27d23h may be down, judged at the end of the phase"
    assert uptime in said["phase-4-sprint-2"]


def test_a_budget_of_less_than_one_interval_says_what_would_bear_one() -> None:
    (uptime,) = [line for line in november("250/s")["ramp"] if "uptime" in line]
    assert uptime == (
        "uptime above 99.95%: 7.2s of 4h may be down, judged at the end of the phase; that is no interval of 10s at "
        "all, not even one that nobody saw: 5h34m would bear one, or a limit of 99.93%"
    )


def test_a_gate_that_cannot_decide_with_little_traffic_says_what_would_let_it() -> None:
    said = november("2/s")
    assert said["ramp"][0] == (
        "errors below 0.5%: decides with only 7% within 4h at 2 requests/s and 10%, with 15% by the end of its "
        "extensions; for 95% give it 23h40m, 60% of the traffic, 12 requests/s or a wider limit; catches 1.6% or worse"
    )
    # The steps of 10 % cannot pass at all within their time.
    assert call(NOVEMBER, "--requests", "2/s").exit_code == 1
    assert call(NOVEMBER, "--requests", "250/s").exit_code == 0


def test_a_file_with_faults_says_nothing_of_its_traffic(tmp_path: Path) -> None:
    path = tmp_path / "plan.yaml"
    path.write_text(gated(revision=7))
    shown = call(path, "--requests", "10/s")
    assert (shown.exit_code, shown.stdout) == (1, "")

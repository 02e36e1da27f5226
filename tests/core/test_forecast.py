"""What a plan's steps and gates can decide with given traffic, and what would make them decide."""

from __future__ import annotations

from math import ceil
from typing import Any

import pytest
import yaml

from controller.core.forecast import (
    SURE,
    Forecast,
    Need,
    Traffic,
    forecasts,
    needs,
    parse_rate,
    places,
    rows_within,
    seconds_until,
    told,
)
from controller.core.plan import Plan, parse
from controller.core.units import write_duration
from tests.core.builders import ERRORS, plan, target
from tests.realparts.parts import ROOT

NOVEMBER = parse(yaml.safe_load((ROOT / "deploy" / "examples" / "november-launch.yaml").read_text(encoding="utf-8")))


def everywhere(of: Plan, rate: float) -> Traffic:
    return Traffic({one.name: rate for one in of.targets})


def gated(seconds: float = 14_400.0, below: str = "0.5%", weight: float = 10, **changes: Any) -> Plan:
    """A phase of one step and a gate so many seconds after its start."""
    gate = {"after": write_duration(seconds), "criteria": [{"metric": "errors", "below": below}]}
    phase = {"name": "ramp", "steps": [{"weight": f"{weight:g}%"}], "gate": {**gate, **changes}}
    return plan(phases=[phase])


def gate_of(made: tuple[Forecast, ...]) -> Forecast:
    (found,) = [each for each in made if not each.place.step]
    return found


def of(made: tuple[Forecast, ...], where: str, key: str) -> Forecast:
    (found,) = [each for each in made if (each.place.name, each.criterion.key) == (where, key)]
    return found


def need_of(made: tuple[Need, ...], where: str) -> Need:
    (found,) = [each for each in made if each.place.name == where]
    return found


def test_a_gate_says_in_one_line_what_it_can_decide() -> None:
    made = gate_of(forecasts(gated(), everywhere(gated(), 100.0)))
    assert made.sentence == (
        "gate of phase ramp: errors below 0.5%: decides with more than 99.9% within 4h at 100 requests/s and 10% "
        "(median 12m, 95% by 26m); catches 0.67% or worse"
    )
    assert made.fault is None


def test_a_gate_that_may_stay_open_says_what_would_make_it_decide() -> None:
    made = gate_of(forecasts(gated(3600.0), everywhere(gated(), 25.0)))
    assert made.sentence == (
        "gate of phase ramp: errors below 0.5%: decides with only 61% within 1h at 25 requests/s and 10%; "
        "for 95% give it 1h55m, 20% of the traffic, 48 requests/s or a wider limit; catches 0.99% or worse"
    )
    assert made.fault is None


def test_each_advice_makes_it_decide() -> None:
    made = gate_of(forecasts(gated(3600.0), everywhere(gated(), 25.0)))
    assert made.decides is not None
    assert made.decides < SURE
    assert made.needs_seconds is not None
    assert made.needs_weight is not None
    assert made.needs_rate is not None
    longer = gated(ceil(made.needs_seconds))
    heavier = gated(3600.0, weight=made.needs_weight / 10)
    for better, rate in ((longer, 25.0), (heavier, 25.0), (gated(3600.0), made.needs_rate)):
        decides = gate_of(forecasts(better, everywhere(better, rate))).decides
        assert decides is not None
        assert SURE - 1e-9 <= decides < 0.98


def test_the_traffic_that_is_said_to_be_needed_is_enough_and_half_of_it_is_not() -> None:
    for need in [each for each in needs(NOVEMBER) if each.rate is not None][1::3]:
        assert need.rate is not None
        made = [
            each
            for each in forecasts(NOVEMBER, everywhere(NOVEMBER, need.rate * 1.0001))
            if each.place.name == need.place.name and each.decides is not None
        ]
        # With less traffic the steps before a gate take longer, and leave it less time than they would at best.
        tolerance = 0.03 if need.place.begun else 1e-9
        assert min(each.decides or 0.0 for each in made) >= SURE - tolerance, need.sentence
        half = forecasts(NOVEMBER, everywhere(NOVEMBER, need.rate / 2))
        assert of(half, need.place.name, need.criterion).decides < SURE, need.sentence  # type: ignore[operator]


def test_more_traffic_never_makes_a_step_decide_less() -> None:
    before: list[float] = []
    for rate in (0.5, 10.0, 200.0):
        chances = [each.decides for each in forecasts(NOVEMBER, everywhere(NOVEMBER, rate)) if each.decides is not None]
        assert all(now >= then - 0.01 for then, now in zip(before, chances, strict=bool(before)))
        before = chances


def test_a_gate_that_needs_more_requests_than_can_come_is_a_fault() -> None:
    made = gate_of(forecasts(gated(), everywhere(gated(), 0.5)))
    assert made.fault is not None
    assert made.fault.path == "spec.phases[0].gate.criteria[0]"
    assert made.fault.message == (
        "errors below 0.5%: cannot pass within 4h: even without a bad one it takes 1,112 requests of the canary, "
        "and at 0.5 requests/s and 10% there are 718; give it 3d23h, 12 requests/s or a wider limit"
    )
    assert made.decides == 0


def test_a_gate_that_would_pass_only_once_extended_is_none() -> None:
    extended = gated(onUndecided={"extend": "4h", "times": 2, "then": "hold"})
    made = gate_of(forecasts(extended, everywhere(extended, 0.5)))
    assert made.fault is None
    assert made.decides == 0
    assert made.decides_extended is not None
    assert 0.02 < made.decides_extended < 0.05
    assert "by the end of its extensions" in made.sentence


def test_a_gate_that_cannot_fail_is_a_fault() -> None:
    # Of so few requests even three bad ones are no proof; a pass is out of reach too, and is told first.
    coarse = gated(60.0, below="97%")
    made = gate_of(forecasts(coarse, everywhere(coarse, 2.0)))
    assert made.problem.startswith("cannot fail within 1m: 6 requests prove nothing even if all of them are bad; ")


def test_a_step_that_cannot_be_proven_within_its_patience_is_a_fault_at_the_step() -> None:
    thin = plan()
    (first, second) = forecasts(thin, everywhere(thin, 1.0))
    assert first.fault is not None
    assert (first.fault.path, second.fault and second.fault.path) == (
        "spec.phases[0].steps[0]",
        "spec.phases[0].steps[1]",
    )
    assert first.fault.message.startswith("errors below 2%: cannot pass within 1m30s: ")


def test_a_phase_whose_targets_have_no_traffic_cannot_pass_its_gate() -> None:
    idle = plan(
        phases=[
            {"name": "wait", "gate": {"after": "1h", "criteria": [{"metric": "errors", "below": "1%"}]}},
            {"name": "ramp", "steps": [{"weight": 5}], "guardrails": [{"metric": "errors", "below": "2%"}]},
        ]
    )
    (made,) = [each for each in forecasts(idle, everywhere(idle, 1e6)) if each.problem]
    assert made.problem == (
        "cannot pass: no step has given main any canary traffic by then; add a step to this phase or to one before it"
    )
    assert need_of(needs(idle), "gate of phase wait").fault is not None


def test_a_bare_value_that_cannot_hold_long_enough_is_a_fault() -> None:
    phase = {
        "name": "ramp",
        "steps": [{"weight": 5}],
        "gate": {"after": "10m", "criteria": [{"metric": "roi", "above": "8%", "for": "20m"}]},
    }
    metrics = [{"name": "roi", "value": {"query": "roi", "unit": "percent"}}]
    short = plan(phases=[phase], metrics=metrics)
    made = gate_of(forecasts(short, everywhere(short, 10.0)))
    assert made.problem.startswith("cannot pass within 10m: it must hold for 20m, which takes 20m")


def test_a_plain_threshold_says_how_often_it_breaks_by_chance() -> None:
    phase = {
        "name": "ramp",
        "steps": [{"weight": 10, "for": "40m"}],
        "guardrails": [{"metric": "errors", "below": "0.5%", "certainty": "threshold"}],
    }
    plain = plan(phases=[phase])
    (made,) = forecasts(plain, everywhere(plain, 5.0), 0.158)
    assert "breaks by chance with 94% or more, though the service is good; write certainty: 99%" in made.sentence
    assert made.decides is None


def test_every_target_must_pass_so_the_thinnest_is_named_and_the_chances_are_multiplied() -> None:
    phase = {
        "name": "ramp",
        "steps": [{"weight": 10}],
        "gate": {"after": "1h", "criteria": [{"metric": "errors", "below": "0.5%"}]},
    }
    both = plan(targets=[target("eu"), target("us")], phases=[phase])
    uneven = gate_of(forecasts(both, Traffic({"eu": 25.0, "us": 30.0})))
    alike = gate_of(forecasts(both, everywhere(both, 25.0)))
    alone = [gate_of(forecasts(gated(3600.0), everywhere(gated(), rate))).decides or 0.0 for rate in (25.0, 30.0)]
    assert uneven.decides == pytest.approx(alone[0] * alone[1])
    assert alike.decides == pytest.approx(alone[0] ** 2)
    assert "at 25 requests/s and 10% of eu, the thinnest" in uneven.sentence
    assert "at 25 requests/s and 10% of each target" in alike.sentence
    assert alike.most is not None
    assert uneven.most is not None
    assert uneven.most <= alike.most


def test_what_the_quietest_hours_bring_is_told_where_it_is_not_enough() -> None:
    usual = gated()
    made = gate_of(forecasts(usual, Traffic({"main": 100.0}, {"main": 3.0})))
    assert made.decides_when_quiet is not None
    assert made.decides_when_quiet < 0.5
    assert f"in the quietest hours (3 requests/s) with {int(made.decides_when_quiet * 100)}%" in made.sentence
    assert "quietest" not in gate_of(forecasts(usual, Traffic({"main": 100.0}, {"main": 90.0}))).sentence


def test_criteria_of_which_the_same_is_said_share_a_line() -> None:
    made = forecasts(NOVEMBER, everywhere(NOVEMBER, 100.0))
    lines = told(made)
    assert len(lines) < len(made)
    assert lines[0].startswith("step 1 of phase canary: errors below 1% and latency p99 below 500ms: decides with ")
    assert all(
        any(line.endswith(each.sentence.partition(f"{each.criterion.key}: ")[2]) for line in lines) for each in made
    )


def test_a_better_service_decides_sooner() -> None:
    usual = gated(3600.0)
    chances = [
        gate_of(forecasts(usual, everywhere(usual, 25.0), ratio)).decides or 0.0 for ratio in (0.0, 0.3, 0.5, 0.85)
    ]
    assert chances == sorted(chances, reverse=True)
    assert chances[0] == 1.0


def test_the_numbers_for_scripts_are_those_of_the_sentence() -> None:
    said = gate_of(forecasts(gated(3600.0), everywhere(gated(), 25.0))).document()
    assert said["gate"] is True
    assert (said["phase"], said["criterion"], said["step"]) == ("ramp", "errors below 0.5%", None)
    assert (said["seconds"], said["requestsPerSecond"], said["weights"]) == (3600.0, 25.0, {"main": 10.0})
    assert 0.61 <= said["decides"] < 0.62
    assert said["decides"] + said["undecided"] == pytest.approx(1.0)
    assert 0 < said["falseFailAtMost"] < 0.005


# When things are judged.


def test_the_november_launch_is_judged_where_and_when_its_plan_says() -> None:
    found = {place.name: place for place in places(NOVEMBER)}
    hour = 3600.0
    gate = found["gate of phase ramp"]
    assert (gate.latest, gate.once, gate.extension, gate.weight_text) == (4 * hour, True, 2 * hour, "10%")
    # The two regions that join are proven in a step of its own first.
    gate = found["gate of phase rollout"]
    assert (gate.latest, gate.weight_text) == (24 * hour - 900, "100%")
    assert found["step 1 of phase rollout"].latest == 3 * 900
    # What joined before goes on with the weight that it had.
    assert dict(found["step 1 of phase phase-4-sprint-1"].weights) == {
        "us-east": 1000,
        "us-west": 1000,
        "eu-west": 1000,
        "ap-south": 100,
        "ap-northeast": 100,
    }
    # A phase without a start begins when the one before it is over.
    gate = found["gate of phase sprint-3"]
    assert (gate.latest, gate.weight_text) == (15 * 24 * hour, "100%")
    # A gate that only people pass has nothing to decide.
    assert "gate of phase phase-4-planning" not in found


def test_the_november_launch_says_of_every_gate_what_it_can_prove() -> None:
    made = forecasts(NOVEMBER, everywhere(NOVEMBER, 0.01))
    gates = {place.name for place in places(NOVEMBER) if not place.step}
    assert {each.place.name for each in made if not each.place.step} == gates
    # A month at so little traffic does not do, and it says what would.
    last = of(made, "gate of phase phase-4-sprint-2", "errors below 0.05%")
    assert last.decides is not None
    assert last.decides < SURE
    assert "give it " in last.sentence


def test_rows_count_once_they_have_settled_and_have_one_before_them() -> None:
    # lag 5 s, settle 10 s, one row as the anchor
    assert [rows_within(ERRORS, seconds) for seconds in (0, 24, 34, 35, 44, 45, 3635)] == [0, 0, 0, 1, 1, 2, 361]
    assert all(rows_within(ERRORS, seconds_until(ERRORS, row)) == row for row in (1, 2, 60, 8640))


@pytest.mark.parametrize(("text", "rate"), [("100/s", 100.0), ("90/m", 1.5), ("1800/h", 0.5), ("0.25/s", 0.25)])
def test_a_rate_is_read_as_in_a_scenario(text: str, rate: float) -> None:
    assert parse_rate(text) == rate


@pytest.mark.parametrize("text", ["100", "0/s", "-1/s", "x/s", "5/d", "", "nan/s", "inf/s"])
def test_what_is_no_rate_is_refused_with_what_to_write(text: str) -> None:
    with pytest.raises(ValueError, match=r"write requests per second, minute or hour, such as 100/s"):
        parse_rate(text)

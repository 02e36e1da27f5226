"""What the operator gives plans and allows them: shared metrics, default guardrails, limits, names of Prometheuses."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from controller.core.explain import explain
from controller.core.plan import InvalidPlanError, Plan, parse, standing, stood_on
from controller.core.questions import questions
from controller.core.signals import Signal
from controller.core.spec import Guardrail, Metric
from controller.core.status import State
from controller.core.terms import FREE, Limits, Stop, Terms, look_backs, terms_of
from tests.core.builders import Course, bad, course, document, ramp, target

PAYING = Metric.model_validate({"name": "paying", "ratio": {"bad": "payments_failed_total", "total": "payments_total"}})
SLOW = Guardrail.model_validate({"metric": "latency", "quantile": 0.99, "below": "1s", "onBreach": "hold"})
PAID = Guardrail.model_validate({"metric": "paying", "below": "3%"})
TERMS = Terms((PAYING,), (SLOW, PAID), frozenset({"default", "eu"}))
OWN = {"name": "paying", "ratio": {"bad": "own_failed_total", "total": "own_total"}}
UPLIFT = {"name": "uplift", "value": {"query": "sum(revenue)", "unit": "percent"}}
RAISED = {"metric": "uplift", "above": "5.8%", "certainty": "threshold"}


def read(terms: Terms = TERMS, **spec: Any) -> Plan:
    return parse(document(**spec), terms=terms)


def faults(terms: Terms, **spec: Any) -> list[str]:
    with pytest.raises(InvalidPlanError) as invalid:
        read(terms, **spec)
    return [str(fault) for fault in invalid.value.faults]


def guards(plan: Plan, phase: int = 0) -> list[tuple[str, bool]]:
    """The guardrails of a phase, and which of them the operator has added."""
    return [(each.criterion.key, each.added) for each in plan.phases[phase].guardrails]


def test_a_shared_metric_is_used_by_its_name() -> None:
    plan = read(Terms((PAYING,)), phases=[ramp(guardrails=[{"metric": "paying", "below": "2%"}])])
    (guardrail,) = plan.phases[0].guardrails
    assert guardrail.criterion.series.total == "payments_total"
    (fault,) = faults(FREE, phases=[ramp(guardrails=[{"metric": "paying", "below": "2%"}])])
    assert "there is no metric paying" in fault


def test_an_unknown_metric_is_told_with_the_shared_ones() -> None:
    (fault,) = faults(TERMS, phases=[ramp(guardrails=[{"metric": "pay", "below": "2%"}])])
    assert fault.endswith(
        "there is no metric pay; write errors, latency, availability, uptime, restarts or paying, or declare it under metrics"
    )


def test_a_metric_of_the_plan_hides_the_shared_one_and_its_default_guardrail_and_is_warned_of() -> None:
    plan = read(metrics=[OWN], phases=[ramp(guardrails=[{"metric": "paying", "below": "2%"}])])
    assert guards(plan) == [("paying below 2%", False), ("latency p99 below 1s", True)]
    assert plan.phases[0].guardrails[0].criterion.series.total == "own_total"
    assert any("hides the operator's shared metric paying" in str(warning) for warning in plan.warnings)


def test_default_guardrails_are_added_to_phases_with_steps_alone() -> None:
    plan = read(phases=[ramp(), {"name": "rest", "deliverables": ["notes"]}])
    assert guards(plan) == [
        ("errors below 2%", False),
        ("latency p99 below 1s", True),
        ("paying below 3%", True),
    ]
    assert guards(plan, 1) == []


def test_a_phase_that_names_the_metric_itself_is_left_to_its_own_word() -> None:
    own = {"metric": "latency", "quantile": 0.5, "below": "200ms", "enforce": False}
    plan = read(phases=[ramp(guardrails=[{"metric": "errors", "below": "2%"}, own])])
    assert [key for key, added in guards(plan) if added] == ["paying below 3%"]


def test_a_plan_may_do_without_default_guardrails() -> None:
    assert guards(read(defaultGuardrails=False)) == [("errors below 2%", False)]


def test_what_the_operator_gives_is_no_edit_of_the_plan_and_doing_without_it_is_one() -> None:
    with_it, without = read(), read(FREE)
    assert with_it.phases[0].digest == without.phases[0].digest
    assert with_it.phases[0].given != without.phases[0].given == ""
    assert read(defaultGuardrails=False).phases[0].digest != with_it.phases[0].digest


def test_what_a_run_stands_on_holds_what_was_given_and_is_read_back_as_it_was() -> None:
    plan = read(
        Terms((PAYING,), (PAID, SLOW)),
        phases=[
            ramp(guardrails=[{"metric": "latency", "quantile": 0.9, "below": "1s"}]),
            ramp("next", steps=[{"weight": 50, "for": "30s"}]),
        ],
    )
    for phase in plan.phases:
        stands_on = standing(plan, phase.name)
        (restored,) = stood_on("prod", "shop", stands_on).phases
        assert replace(restored, horizon=phase.horizon) == phase
    assert terms_of({}) == FREE
    with pytest.raises(InvalidPlanError):
        terms_of({"operator": {"metrics": ["nonsense"]}})


def begun(terms: Terms) -> Course:
    """A launch whose first step is in force."""
    launched = course()
    launched.plan = read(terms)
    launched.until_weight(50)
    return launched


def test_a_running_phase_goes_on_as_it_began_when_the_operator_changes_what_is_given() -> None:
    launched = begun(Terms((PAYING,), (PAID,)))
    folds = set(launched.folds)
    assert any("paying below 3%" in key for key in folds)
    launched.plan = read(Terms((PAYING,), (Guardrail.model_validate({"metric": "paying", "below": "1%"}),)))
    decision = launched.tick()
    assert decision.signal is not Signal.PLAN_CHANGED
    assert set(decision.folds) == folds, "no evidence is voided"


def test_explain_says_which_guardrails_are_the_operators() -> None:
    launched = begun(Terms((PAYING,), (PAID,)))
    told = explain(launched.plan, launched.status, launched.now, launch="prod/shop")
    assert {finding.criterion: finding.added for finding in told.criteria} == {
        "errors below 2%": False,
        "paying below 3%": True,
    }


def test_explain_says_what_ends_a_stop_of_the_fleet() -> None:
    launched = course()
    launched.until_weight(50)
    launched.stop = Stop("incident 7", "ann")
    launched.tick()
    told = explain(launched.plan, launched.status, launched.now, launch="prod/shop")
    assert "the stop of all launches is lifted; all raises are stopped by ann: incident 7" in [
        wait.what for wait in told.waits
    ]
    assert any("auto-advance stop --all --lift" in change.when for change in told.changes)


def test_retry_takes_what_the_operator_gives_now() -> None:
    launched = begun(FREE)
    launched.plan = read(Terms((PAYING,), (PAID,)))
    launched.annotations["retry"] = "take the new guardrail"
    launched.tick()
    assert any("paying below 3%" in key for key in launched.folds)


def test_a_phase_that_has_not_begun_stands_on_what_is_given_now() -> None:
    launched = course(phases=[ramp(start={"at": "2030-01-01T00:00:00Z"})])
    launched.plan = parse(document(phases=[ramp(start={"at": "2030-01-01T00:00:00Z"})]), terms=FREE)
    launched.run(2)
    assert launched.status.run is not None
    assert "operator" not in launched.status.run.stands_on
    launched.plan = parse(
        document(phases=[ramp(start={"at": "2030-01-01T00:00:00Z"})]), terms=Terms((PAYING,), (PAID,))
    )
    launched.run(2)
    assert launched.status.run.stands_on["operator"]["metrics"][0]["name"] == "paying"


@pytest.mark.parametrize(
    ("terms", "spec", "told"),
    [
        (
            TERMS,
            {"targets": [{**target(), "prometheus": "us"}]},
            "spec.targets[0].prometheus: the operator's configuration has no Prometheus 'us'; it has default or eu: write "
            "that, or ask who operates auto-advance to change prometheus in it",
        ),
        (
            Terms(backends=frozenset({"eu", "us"})),
            {},
            "spec.targets[0].prometheus: names no Prometheus and the operator's configuration has no default one; it has eu "
            "or us: write that, or ask who operates auto-advance to change prometheus in it",
        ),
        (
            Terms(limits=Limits(criteria=1)),
            {"phases": [ramp(), ramp("next", steps=[{"weight": 50}])]},
            "spec.phases: guardrails and gates have 2 criteria in all, and limits.criteria of the operator's configuration "
            "is 1; write fewer, or ask who operates auto-advance to change it",
        ),
        (
            Terms(limits=Limits(query_length=10)),
            {"metrics": [OWN]},
            "spec.metrics[0].ratio.bad: has 16 characters, and limits.queryLength of the operator's configuration is 10; "
            "write a shorter one, or ask who operates auto-advance to change it",
        ),
        (
            Terms(limits=Limits(range=3600.0)),
            {"metrics": [{"name": "uplift", "value": {"query": 'sum(rate(a{b="[9d]"}[2h])) # [8d]'}}]},
            "spec.metrics[0].value.query: 2h looks back too far: limits.range of the operator's configuration is 1h; write "
            "that or less, or ask who operates auto-advance to change it",
        ),
        (
            Terms((PAYING,), raw=False),
            {"metrics": [UPLIFT]},
            "spec.metrics[0].value: is PromQL of the plan's own, which rawPromQL of the operator's configuration allows to "
            "no plan; write ratio or latency, use a shared metric (paying), or ask who operates auto-advance to change it",
        ),
        (
            Terms(raw=frozenset({"ops", "pay"})),
            {"metrics": [UPLIFT]},
            "spec.metrics[0].value: is PromQL of the plan's own, which rawPromQL of the operator's configuration allows to "
            "plans in ops or pay alone; write ratio or latency, or ask who operates auto-advance to change it",
        ),
    ],
    ids=["backend", "default", "criteria", "length", "range", "raw", "raw in some namespaces"],
)
def test_what_is_not_allowed_is_told_with_its_field_the_limit_and_who_can_change_it(
    terms: Terms, spec: dict[str, Any], told: str
) -> None:
    assert told in faults(terms, **spec)


def test_what_is_allowed_is_no_fault() -> None:
    gate = {"criteria": [RAISED]}
    limits = Limits(criteria=2, query_length=40, range=60.0)
    plan = read(
        Terms(raw=frozenset({"prod"}), limits=limits, backends=frozenset({"eu"})),
        metrics=[UPLIFT],
        targets=[{**target(), "prometheus": "eu"}],
        phases=[ramp(gate=gate)],
    )
    assert plan.targets[0].prometheus == "eu"


def test_a_name_that_nobody_can_check_is_warned_of() -> None:
    plan = read(FREE, targets=[{**target(), "prometheus": "eu"}])
    assert "is not known here" in str(plan.warnings[0])
    assert not read(FREE, targets=[{**target(), "prometheus": "default"}]).warnings
    assert read(FREE, targets=[{**target(), "prometheus": "default"}]).targets[0].prometheus == ""


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("up", []),
        ('rate(a{b="[1d]"}[5m])', [("5m", 300.0)]),
        ("max_over_time(rate(a[5m])[1d:1h] offset 1w)", [("5m", 300.0), ("1d", 86400.0), ("1w", 604800.0)]),
        ("a offset -3m", [("-3m", 180.0)]),
        ("rate(a[1h30m])", [("1h30m", 5400.0)]),
        ("rate(a[300])", [("300", 300.0)]),
        ("rate(a[1h+1h])", [("1h+1h", None)]),
        ("a # rate(b[9d])\n+ `[8d]` + '[7d]'", []),
    ],
)
def test_how_far_a_query_looks_back(query: str, found: list[tuple[str, float | None]]) -> None:
    assert list(look_backs(query)) == found


def test_each_question_goes_to_the_prometheus_of_its_target_and_those_of_the_launch_to_the_one_that_all_share() -> None:
    gate = {"criteria": [{"incidents": "critical", "atMost": 0}]}
    for names, whole in ((("eu", "us"), ""), (("eu", "eu"), "eu")):
        targets = [
            {**target(name), "prometheus": prometheus} for name, prometheus in zip(("a", "b"), names, strict=True)
        ]
        launched = course(targets=targets, phases=[ramp(gate=gate)])
        launched.until(State.PROGRESSING)
        launched.tick()
        asked = {(subject.target, subject.backend) for subject in questions(launched.observe())}
        assert asked >= {("a", names[0]), ("b", names[1])}
        assert {backend for name, backend in asked if not name} <= {whole}


def test_a_stop_of_the_fleet_keeps_a_launch_from_raising_and_from_nothing_else() -> None:
    launched = course()
    launched.until_weight(50)
    launched.stop = Stop("incident 7", "ann")
    decisions = launched.run(20)
    assert {(each.signal, each.status.state) for each in decisions} == {(Signal.FLEET_STOPPED, State.HELD)}
    assert decisions[-1].message == "all raises are stopped by ann: incident 7"
    assert not launched.status.alarms, "who stops all knows it; nobody is called once for each launch"
    launched.traffic = bad
    launched.until(State.ROLLED_BACK)
    assert launched.live == {"main": 0}


def test_a_stop_of_the_fleet_lapses_and_the_launch_goes_on_with_its_evidence() -> None:
    launched = course()
    launched.until_weight(50)
    launched.stop = Stop("incident 7", until=launched.now + 100)
    launched.run(9)
    assert launched.live == {"main": 50}
    launched.run(2)
    assert launched.live == {"main": 300}, "what was seen meanwhile counts"


def test_no_run_begins_while_all_are_stopped() -> None:
    launched = course()
    launched.stop = Stop("incident 7")
    launched.run(3)
    assert (launched.status.run, launched.status.state) == (None, State.HELD)


def test_a_stop_of_the_fleet_is_no_hold_that_a_gate_counts() -> None:
    launched = course()
    launched.until_weight(50)
    before = [each.holds for each in launched.status.phases]
    launched.stop = Stop("incident 7")
    assert launched.tick().signal is Signal.FLEET_STOPPED
    assert [each.holds for each in launched.status.phases] == before

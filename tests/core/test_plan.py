"""A plan is read as a whole: all faults at once, everything resolved, and never another error than ours."""

import dataclasses
import json
import math
from collections.abc import Mapping
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.core.checks import NOT_YET
from controller.core.plan import Checkpoint, InvalidPlanError, Outcome, Phase, Plan, Preflight, parse, standing
from controller.core.series import RecordedForm, Series
from tests.core.documents.cases import CASES, REMOVED, base, edited

SMALLEST = Path(__file__).parents[2] / "deploy" / "examples" / "smallest.yaml"


def smallest(**edits: Any) -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load(SMALLEST.read_text())
    return edited(document, {f"spec.{path.replace('__', '.')}": value for path, value in edits.items()})


def faults(document: Any) -> list[str]:
    """Each as `path: message`; none for a good plan."""
    try:
        parse(document)
    except InvalidPlanError as error:
        return list(map(str, error.faults))
    return []


def paths(document: Any) -> list[str]:
    return [fault.partition(": ")[0] for fault in faults(document)]


_ADVICE = ("write", "remove", "name ", "choose", "did you mean", "give", "quotes", "add")
_JARGON = ("validation", "pydantic", "union", "Input", "Value error", "<", "str_")


def test_a_plan_is_good_or_its_fault_is_told_where_it_is_and_the_manifest_is_left_as_it_was() -> None:
    wrong = {}
    for case in CASES:
        document = case.document()
        found = faults(document)
        assert document == case.document(), case.name
        places = [fault.partition(": ")[0] for fault in found]
        as_it_should = not found if case.verdict == "good" else case.at in places
        plain = all(
            any(word in fault for word in _ADVICE) and not any(word in fault for word in _JARGON) for fault in found
        )
        if not (as_it_should and plain):
            wrong[case.name] = found
    assert wrong == {}


def test_there_are_more_than_a_hundred_cases_of_different_names() -> None:
    assert len({case.name for case in CASES}) == len(CASES) > 100


def test_the_smallest_useful_plan_has_everything_else_by_default() -> None:
    plan = parse(smallest())
    assert (plan.namespace, plan.name, plan.revision, plan.watch_after) == ("default", "shop", "v2", 3600.0)
    (target,) = plan.targets
    assert (target.service, target.route_kind, target.rule) == ("shop", "HTTPRoute", "")
    (phase,) = plan.phases
    assert [(step.weight, step.lasts) for step in phase.steps] == [(50, 600.0), (250, 600.0), (1000, 0.0)]
    assert phase.targets == ("main",)
    assert phase.restarts
    assert phase.gate is None
    assert [guardrail.on_breach for guardrail in phase.guardrails] == ["rollback", "rollback"]
    assert plan.warnings == ()


def test_every_fault_of_a_plan_is_told_at_once() -> None:
    document = edited(
        base(),
        {
            "kind": "Rollout",
            "spec.revision": REMOVED,
            "spec.targets.0.name": REMOVED,
            "spec.targets.1.route.name": "Learner",
            "spec.metrics.0.ratio.bad": "rate(x[5m])",
            "spec.phases.0.steps.0.weight": "a lot",
            "spec.phases.0.steps.1.duration": "5m",
            "spec.phases.0.guardrails.0.below": 1,
            "spec.phases.0.guardrails.1.quantile": REMOVED,
            "spec.phases.0.gate.onFail": "panic",
            "spec.phases.0.deliverables": ["notes", "notes"],
            "spec.phases.1.steps.1.weight": 5,
            "spec.phases.1.guardrails.0.metric": "latencies",
            "spec.onDelete": "remove",
        },
    )
    assert sorted(paths(document)) == sorted(
        [
            "kind",
            "spec.revision",
            "spec.targets[0].name",
            "spec.targets[1].route.name",
            "spec.metrics[0].ratio.bad",
            "spec.phases[0].steps[0].weight",
            "spec.phases[0].steps[1].duration",
            "spec.phases[0].guardrails[0].below",
            "spec.phases[0].guardrails[1].quantile",
            "spec.phases[0].gate.onFail",
            "spec.phases[0].deliverables[1]",
            "spec.phases[1].steps[1].weight",
            "spec.phases[1].guardrails[0].metric",
            "spec.onDelete",
        ]
    )


@pytest.mark.parametrize(
    ("edits", "only"),
    [
        ({"spec.targets": REMOVED}, "spec.targets"),
        ({"spec.targets.0.name": REMOVED}, "spec.targets[0].name"),
        ({"spec.targets.1.route.kind": "X"}, "spec.targets[1].route.kind"),
        ({"spec.metrics.2.value.unit": "euros"}, "spec.metrics[2].value.unit"),
        ({"spec.metrics.0.ratio": {}}, None),
        ({"spec.phases.0.targets.0": 7}, "spec.phases[0].targets[0]"),
        ({"spec.phases.1.guardrails.1.certainty": "treshold"}, "spec.phases[1].guardrails[1].certainty"),
        ({"spec.phases.1.guardrails": "errors"}, "spec.phases[1].guardrails"),
        ({"spec.phases.0.guardrails.0.minimum": 5}, "spec.phases[0].guardrails[0].minimum"),
        ({"spec.phases.0": "ramp"}, "spec.phases[0]"),
    ],
)
def test_what_does_not_parse_brings_no_faults_elsewhere(edits: dict[str, Any], only: str | None) -> None:
    found = paths(edited(base(), edits))
    assert found == [only] if only else all(path.startswith("spec.metrics[0].ratio.") for path in found)


def test_two_elements_that_do_not_parse_leave_the_others_in_their_places() -> None:
    document = base()
    document["spec"]["phases"][0]["steps"] = [
        {"weight": "x"}, {"weight": 50}, {"weight": "y", "for": 3}, {"weight": 40}, {"weight": 60}, {"weight": 5},
    ]  # fmt: skip
    del document["spec"]["phases"][1]
    assert paths(document) == [
        "spec.phases[0].steps[0].weight",
        "spec.phases[0].steps[2].weight",
        "spec.phases[0].steps[2].for",
        "spec.phases[0].steps[3].weight",
        "spec.phases[0].steps[5].weight",
    ]


@pytest.mark.parametrize(
    ("field", "near"),
    [("guardrail", "guardrails"), ("on_revision", "onRevision"), ("Steps", "steps"), ("delivrables", "deliverables")],
)
def test_an_unknown_field_is_answered_with_the_nearest_known_one(field: str, near: str) -> None:
    assert faults(smallest(**{f"phases__0__{field}": []})) == [
        f"spec.phases[0].{field}: is not a field here; did you mean {near}?"
    ]


@pytest.mark.parametrize(
    "document",
    [
        None, 3, "Launch", [], {}, {"spec": None}, {"metadata": {"name": math.nan}, "spec": {"phases": [[]]}},
        {1: 2}, {"spec": {(): 1}}, {"spec": {"targets": [{"name": 5, "route": 1.5}], "phases": {"a": {}}}},
        {"spec": object()}, {"spec": {"revision": b"x", "phases": {1, 2}}},
        {"apiVersion": datetime(2025, 1, 1, tzinfo=UTC), "kind": date(2025, 1, 1), "metadata": "shop"},
        {"spec": {"revision": "\ud800", "targets": [{"name": "\ud800" * 99}]}},
    ],
)  # fmt: skip
def test_whatever_is_no_launch_has_faults_and_raises_nothing_else(document: Any) -> None:
    assert faults(document)


def test_ten_thousand_steps_are_one_fault() -> None:
    document = smallest(phases__0__steps=[{"weight": 1}] * 10_000)
    assert faults(document) == ["spec.phases[0].steps: has 10,000 entries; write 100 at most"]


def test_ten_thousand_bad_steps_are_told_within_bounds() -> None:
    found = faults(smallest(phases__0__steps=[{"weight": "x"}] * 10_000))
    assert "spec.phases[0].steps: has 10,000 entries; write 100 at most" in found
    assert len(found) <= 250


def test_a_manifest_that_holds_itself_is_refused() -> None:
    document = smallest()
    document["spec"]["phases"][0]["gate"] = document
    assert "nested deeper than 32 levels" in faults(document)[0]


def test_a_manifest_that_grows_by_aliases_is_refused() -> None:
    grown: list[Any] = ["x"]
    for _ in range(12):
        grown = [grown, grown, grown]
    assert "more than 100,000 values" in faults(smallest(windows=grown))[0]


def test_a_mapping_of_another_kind_is_read() -> None:
    class Document(Mapping[str, Any]):
        def __init__(self, inner: dict[str, Any]) -> None:
            self.inner = inner

        def __getitem__(self, key: str) -> Any:
            return self.inner[key]

        def __iter__(self) -> Any:
            return iter(self.inner)

        def __len__(self) -> int:
            return len(self.inner)

    assert parse(Document(smallest())) == parse(smallest())


_SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
    | st.sampled_from(["10%", "5m", "errors", "latency", "ramp", "main", "us-east", "threshold", "hold", "99%", "paying"])
)  # fmt: skip
_VALUES = st.recursive(
    _SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["name", "metric", "below", "weight", "for", "route", "steps", "ratio", "extend", "at", "x"]
            )
            | st.integers(),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


def _places(value: Any, place: tuple[str, ...] = ()) -> list[str]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    found = [".".join(place)] if place else []
    for key, part in inner:
        found += _places(part, (*place, str(key)))
    return found


_PLACES = _places(base())


@settings(max_examples=12, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(_PLACES), _VALUES | st.just(REMOVED)), min_size=1, max_size=4))
def test_any_values_in_any_places_give_a_plan_or_faults(edits: list[tuple[str, Any]]) -> None:
    document = base()
    for place, value in edits:
        try:
            edited(document, {place: value})
        except (KeyError, IndexError, TypeError, ValueError, AttributeError):
            continue  # an earlier edit took that place away
    assert all(fault and ": " in fault for fault in faults(document))


@settings(max_examples=12, deadline=None)
@given(_VALUES)
def test_any_spec_gives_a_plan_or_faults(spec: Any) -> None:
    document = {**base(), "spec": spec}
    assert faults(document)


# --- resolution


def plan_with(**edits: Any) -> Plan:
    return parse(edited(base(), {f"spec.{path.replace('__', '.')}": value for path, value in edits.items()}))


def test_built_in_metrics_are_recorded_ones() -> None:
    first, second, *_ = plan_with().phases[0].guardrails
    recorded = {"kind": "recorded", "interval": 10, "settle": 10.0, "lag": 5.0}
    assert first.criterion.series == Series(**recorded, metric="errors")  # type: ignore[arg-type]
    assert (first.criterion.limit, first.criterion.certainty, first.criterion.key) == (0.01, 0.99, "errors below 1%")
    assert second.criterion.series == Series(**recorded, metric="latency", edge=0.5)  # type: ignore[arg-type]
    assert (second.criterion.limit, second.criterion.key) == (0.01, "latency p99 below 500ms")
    assert (second.criterion.min_bad, second.criterion.min_requests) == (3, 0)


def test_availability_is_the_share_that_did_not_fail() -> None:
    criterion = plan_with().phases[1].guardrails[0].criterion
    assert criterion.series.metric == "errors"
    assert (criterion.limit, criterion.side, criterion.limit_text) == (0.001, "below", "99.9%")
    assert criterion.key == "availability above 99.9%"


def test_own_metrics_keep_their_selectors_and_their_interval() -> None:
    criteria = [guardrail.criterion for guardrail in plan_with().phases[0].guardrails]
    assert criteria[2].series == Series(
        "ratio", "paying", 'payments_total{outcome="failed", service="{{service}}"}', "payments_total", 0.0, 10, 10.0
    )
    assert criteria[3].series == Series(
        "latency", "checkout", "checkout_seconds_bucket", "checkout_seconds_count", 2.0, 5, 15.0
    )
    assert (criteria[3].limit, criteria[3].certainty) == (0.05, 0.95)
    assert criteria[3].key == "checkout p95 below 2s (certainty 95%)"


def test_a_bare_value_is_judged_for_its_time_in_its_own_unit() -> None:
    gate = plan_with().phases[0].gate
    assert gate is not None
    value = gate.criteria[1]
    assert value.series == Series("value", "uplift", "", 'sum(revenue{track="{{track}}"}) / 100', 0.0, 60, 10.0)
    assert (value.limit, value.side, value.certainty, value.window, value.min_requests) == (5.8, "above", None, 600, 3)
    assert value.key == "uplift above 5.8% for 10m"


def test_a_threshold_needs_one_bad_event_and_one_request() -> None:
    criterion = plan_with().phases[1].guardrails[1].criterion
    assert (criterion.certainty, criterion.window, criterion.min_bad, criterion.min_requests) == (None, 120.0, 1, 1)
    assert criterion.key == "errors below 2% (threshold over 2m)"


def test_the_minimum_of_a_criterion_is_its_own() -> None:
    gate = plan_with().phases[0].gate
    assert gate is not None
    assert (gate.criteria[0].min_requests, gate.criteria[0].min_bad) == (1000, 5)
    assert gate.criteria[0].key == "errors below 0.5% (certainty 99.9%)"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"below": "1%"}, {"below": "1.0000001%"}),
        ({"certainty": "99%"}, {"certainty": "99.9%"}),
        ({"certainty": "99%"}, {"certainty": "threshold"}),
        ({"certainty": "threshold"}, {"certainty": "threshold", "for": "2m"}),
        (
            {"metric": "latency", "quantile": 0.99, "below": "1s"},
            {"metric": "latency", "quantile": 0.999, "below": "1s"},
        ),
        (
            {"metric": "latency", "quantile": 0.99, "below": "1s"},
            {"metric": "latency", "quantile": 0.99, "below": "1001ms"},
        ),
        ({"metric": "errors"}, {"metric": "paying"}),
    ],
)
def test_a_key_differs_where_the_fold_does(one: dict[str, Any], other: dict[str, Any]) -> None:
    written = [{"metric": "errors", "below": "1%"} | part for part in (one, other)]
    keys = [guardrail.criterion.key for guardrail in plan_with(phases__0__guardrails=written).phases[0].guardrails]
    assert len(set(keys)) == 2


@pytest.mark.parametrize(("one", "other"), [("1%", "1.00%"), ("0.5%", "0.50%"), ("10%", "10.0%")])
def test_two_spellings_of_a_limit_are_one_key(one: str, other: str) -> None:
    keys = [
        plan_with(phases__0__guardrails__0__below=limit).phases[0].guardrails[0].criterion.key for limit in (one, other)
    ]
    assert keys[0] == keys[1]


def test_the_operator_says_how_recorded_metrics_are_written() -> None:
    form = RecordedForm(interval=1, settle=2.0, lag=0.5)
    guardrails = parse(base(), form).phases[0].guardrails
    assert [
        (guardrail.criterion.series.interval, guardrail.criterion.series.settle, guardrail.criterion.series.lag)
        for guardrail in guardrails
    ] == [(1, 2.0, 0.5), (1, 2.0, 0.5), (10, 10.0, 0.0), (5, 15.0, 0.0)]


def test_the_horizon_is_the_gates_time_or_that_of_the_steps() -> None:
    assert plan_with().phases[0].horizon == 4 * 3600
    assert plan_with(phases__0__gate__after=REMOVED).phases[0].horizon == 600 + 5400 + 2 * 15
    assert parse(smallest(phases__0__steps=[{"weight": 1}])).phases[0].horizon is None


def test_a_phase_continues_with_a_new_revision_where_it_says_so() -> None:
    assert [phase.restarts for phase in plan_with(phases__0__onRevision="continue").phases] == [False, True]


def test_a_phase_moves_all_targets_in_their_order_by_default() -> None:
    assert plan_with().phases[1].targets == ("us-east", "eu-west")


START = "2025-11-01T14:00:00Z"
BEGIN = 1_762_005_600.0


def calendar(**phase: Any) -> Phase:
    """The first phase of the base with these fields, without its own gate unless one is given."""
    edits = {f"spec.phases.0.{name}": value for name, value in {"gate": REMOVED, **phase}.items()}
    return parse(edited(base(), edits)).phases[0]


def test_start_end_and_gate_are_instants_whatever_their_offset() -> None:
    phase = calendar(start={"at": "2025-11-01T19:30:00+05:30"}, end="2025-11-01T18:00:00Z")
    assert (phase.start, phase.end) == (BEGIN, BEGIN + 4 * 3600)
    assert phase.gate is not None
    assert (phase.gate.at, phase.gate.after, phase.gate.criteria) == (phase.end, None, ())


def test_an_end_is_when_a_gate_without_a_time_is_judged() -> None:
    judged = {"criteria": [{"metric": "errors", "below": "1%"}]}
    for gate, at, after in (
        (judged, BEGIN + 3600, None),
        (judged | {"at": "2025-11-01T14:30:00Z"}, BEGIN + 1800, None),
        (judged | {"after": "20m"}, None, 1200.0),
    ):
        phase = calendar(start={"at": START}, end="2025-11-01T15:00:00Z", gate=gate)
        assert phase.gate is not None
        assert (phase.gate.at, phase.gate.after) == (at, after)


def test_deliverables_alone_are_a_gate() -> None:
    phase = calendar(deliverables=["runbook"])
    assert phase.deliverables == ("runbook",)
    assert phase.gate is not None
    assert (phase.gate.at, phase.gate.after, phase.gate.on_fail) == (None, None, Outcome("hold"))
    assert calendar().gate is None


def test_the_horizon_of_a_phase_with_dates_is_from_its_start_to_its_end() -> None:
    assert calendar(start={"at": START}, end="2025-11-03T14:00:00Z").horizon == 2 * 86400
    both = calendar(
        start={"at": START},
        end="2025-11-01T15:00:00Z",
        gate={"at": "2025-11-01T16:00:00Z", "criteria": [{"metric": "errors", "below": "1%"}]},
    )
    assert both.horizon == 2 * 3600
    assert calendar(end="2025-11-03T14:00:00Z").horizon == 600 + 5400 + 2 * 15


def test_an_outcome_is_a_word_or_a_number_of_chances() -> None:
    gate = {
        "criteria": [{"metric": "errors", "below": "1%"}],
        "onFail": {"extend": "24h", "times": 2, "then": "rollback"},
        "onUndecided": {"reschedule": "1h"},
        "onNoData": "escalate",
    }
    found = calendar(gate=gate).gate
    assert found is not None
    assert found.on_fail == Outcome("extend", 86400.0, 2, "rollback")
    assert found.on_undecided == Outcome("reschedule", 3600.0, 1, "hold")
    assert found.on_no_data == Outcome("escalate")
    assert [found.on_fail.after(used) for used in range(4)] == ["extend", "extend", "rollback", "rollback"]
    assert [found.on_undecided.after(used) for used in range(2)] == ["reschedule", "hold"]
    assert {found.on_no_data.after(used) for used in range(3)} == {"escalate"}


def test_a_preflight_has_its_defaults() -> None:
    assert calendar(preflight={}).preflight == Preflight(0.0, (), "", Outcome("hold"))
    full = {
        "opens": "72h",
        "checklist": ["a", "b"],
        "approval": {"role": "vp"},
        "onNotReady": {"reschedule": "24h", "times": 2},
    }
    assert calendar(preflight=full).preflight == Preflight(
        3 * 86400.0, ("a", "b"), "vp", Outcome("reschedule", 86400.0, 2)
    )


def test_checkpoints_are_taken_in_the_order_of_their_time() -> None:
    phase = calendar(checkpoints=["2h", {"at": "15m", "onFail": "hold"}, {"at": "90m"}])
    assert phase.checkpoints == (Checkpoint(900.0, True), Checkpoint(5400.0, False), Checkpoint(7200.0, False))


def test_approvals_are_roles() -> None:
    phase = calendar(
        steps=[{"weight": 1, "approval": {"role": "lead"}}, {"weight": 2}], gate={"approval": {"role": "vp"}}
    )
    assert phase.gate is not None
    assert ([step.approval for step in phase.steps], phase.gate.approval) == (["lead", ""], "vp")


def test_the_scope_of_a_guardrail_is_the_launch_unless_said() -> None:
    phase = calendar(
        guardrails=[
            {"metric": "errors", "below": "1%", "scope": "target"},
            {"metric": "errors", "below": "2%", "scope": "launch"},
            {"metric": "errors", "below": "3%"},
        ]
    )
    assert [guardrail.alone for guardrail in phase.guardrails] == [True, False, False]


@pytest.mark.parametrize(
    ("monitoring", "looks"),
    [
        (None, [(0, 0.0), (10**7, 0.0)]),
        ("close", [(0, 60.0), (10**7, 60.0)]),
        ("standard", [(0, 300.0)]),
        ([], [(0, 0.0)]),
        (
            [{"mode": "intensive", "for": "36h"}, {"mode": "close", "for": "12h"}, {"mode": "standard"}],
            [(0, 0.0), (129599, 0.0), (129600, 60.0), (172799, 60.0), (172800, 300.0), (10**7, 300.0)],
        ),
        (
            [{"mode": "intensive", "until": "2025-11-02T14:00:00Z"}, {"mode": "close", "for": "1h"}],
            [(0, 0.0), (86399, 0.0), (86400, 60.0), (89999, 60.0), (90000, 60.0), (10**7, 60.0)],
        ),
        # An instant that is over before the phase begins leaves no span.
        (
            [{"mode": "intensive", "until": "2025-11-01T13:00:00Z"}, {"mode": "standard"}],
            [(0, 300.0)],
        ),
    ],
)
def test_monitoring_says_how_often_a_gate_is_judged(monitoring: Any, looks: list[tuple[int, float]]) -> None:
    phase = calendar(start={"at": START}, **({} if monitoring is None else {"monitoring": monitoring}))
    assert [(after, phase.cadence(BEGIN, BEGIN + after)) for after, _ in looks] == looks


def test_a_span_until_an_instant_moves_with_its_phase() -> None:
    phase = calendar(
        start={"at": START}, monitoring=[{"mode": "intensive", "until": "2025-11-02T14:00:00Z"}, {"mode": "close"}]
    )
    day, late = 86400.0, BEGIN + 86400.0
    assert phase.cadence(late, late) == 60.0
    assert (phase.cadence(late, late, day), phase.cadence(late, late + day, day)) == (0.0, 60.0)


def test_what_belongs_to_the_whole_launch_has_its_defaults() -> None:
    plain = plan_with()
    assert (plain.on_success, plain.on_delete, plain.spec.version_label) == (
        "keep",
        "leave",
        "app.kubernetes.io/version",
    )
    other = plan_with(onSuccess="return", onDelete="reset", versionLabel="build")
    assert (other.on_success, other.on_delete, other.spec.version_label) == ("return", "reset", "build")


def test_a_workload_belongs_to_its_target() -> None:
    target = plan_with(targets__0__canary__workload={"name": "learner"}).target("us-east")
    assert (target.workload_kind, target.workload) == ("Deployment", "learner")
    assert plan_with().target("us-east").workload == ""


def test_a_phase_with_steps_starts_again_with_a_new_revision_and_one_without_goes_on() -> None:
    assert calendar().restarts
    assert not calendar(steps=[], deliverables=["notes"], onRevision=REMOVED).restarts
    assert calendar(steps=[], deliverables=["notes"], onRevision="restart").restarts


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("start", {"at": START}),
        ("end", "2025-11-01T18:00:00Z"),
        ("preflight", {"opens": "1h"}),
        ("steps.1.approval", {"role": "lead"}),
        ("deliverables", ["runbook"]),
        ("checkpoints", ["1h"]),
        ("monitoring", "close"),
        ("guardrails.0.scope", "target"),
        ("gate.approval", {"role": "vp"}),
        ("gate.onNoData", {"extend": "1h"}),
    ],
)
def test_every_part_of_a_phase_is_in_its_digest(path: str, value: Any) -> None:
    changed = parse(edited(base(), {f"spec.phases.0.{path}": value}))
    found = [phase.digest for phase in changed.phases]
    assert [one != other for one, other in zip(digests(), found, strict=True)] == [True, False]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("a phase with nothing to do", "has nothing to do; give it steps, an end, deliverables or a gate"),
        ("a hold of one target alone", "a hold is of the whole launch; write scope: launch, or onBreach: rollback"),
        ("one deliverable twice", "runbook is named twice in phase ramp; remove one, or give it another name"),
        ("two checkpoints at one time", "is the same instant as one before it; remove one"),
        ("a span of monitoring that has two ends", "has for and until; remove one of them"),
        (
            "a span of monitoring behind one without an end",
            "has no end, so what follows it would never come; write for: 36h, or until",
        ),
        (
            "a wave back to a target that was raised further",
            "5% is below the 10% of step 2 of phase ramp; write 10% or more (a launch lowers traffic only to retreat)",
        ),
        (
            "a phase that begins before the gate of the one before",
            "is 2025-11-01T17:00:00Z, before the gate of phase ramp at 2025-11-01T18:00:00Z: phases cannot overlap; "
            "write 2025-11-01T18:00:00Z or later",
        ),
    ],
)
def test_a_fault_of_the_calendar_says_what_to_write(name: str, message: str) -> None:
    (case,) = (case for case in CASES if case.name == name)
    assert faults(case.document()) == [f"{case.at}: {message}"]


# --- what a run stands on


def test_what_a_run_stands_on_is_read_back_as_it_was() -> None:
    for case in CASES:
        if case.verdict == "bad":
            continue
        document = case.document()
        plan = parse(document)
        for phase in plan.phases:
            spec = standing(plan, phase.name)
            again = parse({**document, "spec": json.loads(json.dumps(spec))})
            assert again.phases == (phase,), case.name
            assert again.targets == plan.targets
            assert (again.revision, again.watch_after) == (plan.revision, plan.watch_after)
            assert standing(again, phase.name) == spec


def test_what_a_run_stands_on_is_small() -> None:
    plan = parse(smallest())
    assert len(json.dumps(standing(plan, "ramp"))) < 400
    assert "metrics" not in standing(plan_with(), "rollout")


def test_a_phase_that_does_not_exist_has_nothing_to_stand_on() -> None:
    with pytest.raises(KeyError):
        standing(parse(smallest()), "rampe")


def digests(**edits: Any) -> list[str]:
    return [phase.digest for phase in plan_with(**edits).phases]


@pytest.mark.parametrize(
    ("edits", "changed"),
    [
        ({}, [False, False]),
        ({"revision": "2025.12.0"}, [False, False]),
        ({"watchAfter": "2h"}, [False, False]),
        ({"phases__0__steps__1__for": "90m"}, [False, False]),
        ({"phases__0__onRevision": "continue"}, [True, False]),
        ({"phases__0__steps__1__for": "91m"}, [True, False]),
        ({"phases__1__guardrails__0__above": "99.8%"}, [False, True]),
        ({"phases__1__name": "all"}, [False, True]),
        ({"targets__1__service": "other"}, [True, True]),
        ({"metrics__0__ratio__total": "all_payments_total"}, [True, False]),
        ({"metrics__2__interval": "30s"}, [True, False]),
    ],
)
def test_a_digest_changes_with_what_the_phase_means(edits: dict[str, Any], changed: list[bool]) -> None:
    assert [one != other for one, other in zip(digests(), digests(**edits), strict=True)] == changed
    assert all(len(digest) == 16 for digest in digests())


def test_an_unused_metric_does_not_change_a_digest() -> None:
    assert digests(**{"metrics__+": {"name": "spare", "value": {"query": "up"}}}) == digests()


# --- warnings


def test_what_is_weaker_than_it_looks_is_warned_about() -> None:
    found = {
        warning.path: warning.message
        for warning in plan_with(**{"metrics__+": {"name": "spare", "value": {"query": "up"}}}).warnings
    }
    assert set(found) == {
        "spec.phases[0].gate.criteria[1]",
        "spec.phases[1].guardrails[1].certainty",
        "spec.metrics[3]",
    }
    assert "94-99 %" in found["spec.phases[1].guardrails[1].certainty"]
    assert "weaker than counts" in found["spec.phases[0].gate.criteria[1]"]
    assert "spare" in found["spec.metrics[3]"]


def test_a_plan_is_a_value() -> None:
    assert plan_with() == plan_with()
    with pytest.raises(dataclasses.FrozenInstanceError):
        plan_with().name = "other"  # type: ignore[misc]


def test_every_part_that_is_not_supported_yet_has_a_case() -> None:
    told = [
        fault
        for case in CASES
        if case.name.endswith("not yet")
        for fault in faults(case.document())
        if "not supported yet" in fault
    ]
    for later in NOT_YET:
        if "comparedTo" in later.path or "Below" in later.path or "atMost" in later.path:
            continue  # one of the two places each, and differenceBelow, stand for all
        assert any(later.advice in fault for fault in told), later.path

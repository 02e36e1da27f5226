"""Good and bad plans: one base document, and one change of it per case.

The controller and the API server are asked about the same ones, and agree, but where ``reason`` says why a schema
cannot know what the controller knows.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

REMOVED = object()
"""As a value: the field is taken out."""

Edits = dict[str, Any]

_OWN = "what an own metric needs depends on its kind, which stands elsewhere in the plan"
_SUM = "the schema sees text, not the length that it means"
_OF = "no rule of the schema compares the days, times and names of windows and freezes"
_KIND = (
    "the schema knows what errors, latency and availability need; for the rest it would cost more than its rules may"
)
_LATER = "it is in the schema, only this release does not run it"
_ACROSS = "it compares all criteria or phases with one another, which costs more than the schema's rules may"
_MIXED = "a schema that allows a word or a mapping cannot say what is in the mapping"
_WITHIN = "no rule of the schema compares the items, offsets and spans of a phase with one another"


@dataclass(frozen=True)
class Case:
    """One document: the base with these edits. ``at`` is the place of the fault that the controller tells."""

    name: str
    verdict: Literal["good", "bad"]
    edits: Edits
    at: str = ""
    reason: str = ""

    def document(self) -> dict[str, Any]:
        """The manifest."""
        return edited(base(), self.edits)


_WINDOW = {"days": ["Mon", "Tue", "Wed", "Thu"], "from": "09:00", "to": "18:00"}
_NIGHT = {"days": ["Fri"], "from": "22:00", "to": "06:00"}
_SUNDAY = {"days": ["Sun"], "from": "00:00", "to": "24:00"}
_FREEZE = {"name": "black-friday", "from": "2025-11-27T00:00:00Z", "to": "2025-12-01T00:00:00Z"}
_BASE: dict[str, Any] = yaml.safe_load((Path(__file__).parent / "base.yaml").read_text())


def base() -> dict[str, Any]:
    """A fresh copy of the base document."""
    return copy.deepcopy(_BASE)


def edited(document: dict[str, Any], edits: Edits) -> dict[str, Any]:
    """The document with values set at places such as ``spec.phases.0.name``; ``+`` at the end appends."""
    for path, value in edits.items():
        *holders, last = path.split(".")
        here: Any = document
        for part in holders:
            here = here[int(part)] if isinstance(here, list) else here.setdefault(part, {})
        if last == "+":
            here.append(copy.deepcopy(value))
        elif value is REMOVED:
            del here[int(last) if isinstance(here, list) else last]
        else:
            here[int(last) if isinstance(here, list) else last] = copy.deepcopy(value)
    return document


def _good(name: str, **edits: Any) -> Case:
    return Case(name, "good", _short(edits))


def _bad(name: str, at: str, edits: Edits, reason: str = "") -> Case:
    return Case(name, "bad", _short(edits), at, reason)


_SHORT = {
    "target": "spec.targets.0",
    "metric": "spec.metrics.0",
    "phase": "spec.phases.0",
    "step": "spec.phases.0.steps.1",
    "rail": "spec.phases.0.guardrails.0",
    "latency": "spec.phases.0.guardrails.1",
    "gate": "spec.phases.0.gate",
}


def _short(edits: Edits) -> Edits:
    found = {}
    for path, value in edits.items():
        first, _, rest = path.replace("__", ".").partition(".")
        start = _SHORT.get(first, first if first in ("apiVersion", "kind", "metadata", "spec") else f"spec.{first}")
        found[f"{start}.{rest}" if rest else start] = value
    return found


def _criterion(**fields: Any) -> dict[str, Any]:
    return {name.rstrip("_"): value for name, value in fields.items()}


_T = "spec.targets[0]"
_M = "spec.metrics[0]"
_P = "spec.phases[0]"
_JUDGED = {"criteria": [{"metric": "errors", "below": "1%"}]}
_S = "spec.phases[0].steps[1]"
_G = "spec.phases[0].guardrails[0]"
_L = "spec.phases[0].guardrails[1]"
_ERRORS = {"metric": "errors", "below": "1%"}
_CALM = {"incidents": "critical", "atMost": 0}
_RESTARTS = {"metric": "restarts", "atMost": 2}
_COMPARED = {"metric": "errors", "comparedTo": "stable"}
_SLOW = {"metric": "latency", "below": "500ms", "comparedTo": "stable"}

CASES: tuple[Case, ...] = (
    _good("the base"),
    _good("a revision with all sorts of signs", revision="release/2025.11+build.7 (hotfix)"),
    _good("another time zone", timeZone="Europe/Berlin"),
    _good("one target", targets=[base()["spec"]["targets"][0]], phase__targets=["us-east"]),
    _good("a service of its own name", target__service="learner_us"),
    _good("an empty rule, which is every rule", target__route={"name": "learner", "rule": ""}),
    _good("a name with dots", target__name="us-east.1", phase__targets=["us-east.1"]),
    _good("a whole number as weight", step__weight=5),
    _good("a weight as text without the sign", step__weight="5"),
    _good("a weight of a tenth", step__weight="2.5%"),
    _good("a weight of exactly 100 as text", step__weight="100.0%", phase__steps__1__for="2d", phases__1=REMOVED),
    _good("the same weight twice", step__weight="0.5%"),
    _good("a step without a time", step__for=REMOVED),
    _good("compound durations", step__for="1d2h30m"),
    _good("a fraction of an hour", step__for="1.5h"),
    _good("a hundred steps", phase__steps=[{"weight": f"{n // 10}.{n % 10}%"} for n in range(1, 101)]),
    _good("no gate", phase__gate=REMOVED),
    _good("a gate without a time", gate__after=REMOVED),
    _good("a gate that judges alone", phase__guardrails=[]),
    _good(
        "a guardrail that only shows, beside a gate",
        phase__guardrails=[_criterion(metric="errors", below="1%", enforce=False)],
    ),
    _good("the same criterion in guardrail and gate", gate__criteria=[_criterion(metric="errors", below="1%")]),
    _good("two limits on one metric", **{"phase.guardrails.+": _criterion(metric="errors", below="5%")}),
    _good("a fraction of a percent", rail__below="0.05%"),
    _good("the lowest certainty", rail__certainty="80%"),
    _good("the highest certainty", rail__certainty="99.99%"),
    _good("a threshold", rail__certainty="threshold"),
    _good("a threshold with its time", rail__certainty="threshold", rail__for="10m"),
    _good("a minimum of requests alone", rail__minimum={"requests": 100}),
    _good("a median", latency__quantile=0.5),
    _good("an edge under a millisecond", latency__below="0.5ms"),
    _good("hold on a breach, retreat without data", rail__onBreach="hold", rail__onNoData="rollback"),
    _good("continue with a new revision", phase__onRevision="continue"),
    _good("an interval of a minute", metric__interval="1m", metric__settle="30s"),
    _good("a selector of a label alone", metric__ratio__total='{__name__="payments_total"}'),
    _good("a selector with every kind of matcher", metric__ratio__total="""p:x{a=~"b|c", d!="e",f!~'g', h=`i`,}"""),
    _good("a selector with an escaped quote", metric__ratio__total=r'p{a="b\"c}"}'),
    _good(
        "a selector with all placeholders",
        metric__ratio__total='p{a="{{namespace}}{{target}}{{service}}{{ track }}{{revision}}"}',
    ),
    _good("a metric that nothing uses", **{"metrics.+": {"name": "spare", "value": {"query": "up"}}}),
    _good("a number as a limit", metrics__2__value={"query": "x"}, gate__criteria__1__above=12),
    _good("a number as text as a limit", metrics__2__value={"query": "x"}, gate__criteria__1__above="-12.5"),
    _good("a negative percentage of a bare value", gate__criteria__1__above="-1%"),
    _good(
        "seconds of a bare value", metrics__2__value={"query": "x", "unit": "seconds"}, gate__criteria__1__above="90s"
    ),
    _good("a bare value without certainty", gate__criteria__1__certainty=REMOVED),
    _good("contacts", contacts=[{"role": "on-call"}, {"role": "lead", "after": "10m"}, {"role": "vp", "after": "10m"}]),
    _good(
        "the limit alone where the error is known",
        metrics__2__value={"query": "x", "standardError": "y", "unit": "percent"},
    ),
    _good(
        "a value proven at looks",
        metrics__2__value={"query": "x", "standardError": 'y{track="{{track}}"}', "unit": "percent"},
        gate__criteria__1={"metric": "uplift", "above": "5.8%", "certainty": "95%"},
    ),
    _good("empty lists", contacts=[], phase__checkpoints=[], phase__deliverables=[]),
    _good("no windows and no freezes", windows=[], freezes=[]),
    _good("windows by day, over midnight and of a whole day", windows=[_WINDOW, _NIGHT, _SUNDAY]),
    _good("windows in another time zone", windows=[_WINDOW], timeZone="Asia/Kolkata"),
    _good("freezes that overlap", freezes=[_FREEZE, {**_FREEZE, "name": "winter", "to": "2026-01-07T00:00:00+01:00"}]),
    _good("one word of monitoring", phase__monitoring="standard"),
    _good(
        "spans of monitoring",
        phase__monitoring=[
            {"mode": "intensive", "for": "36h"},
            {"mode": "close", "until": "2025-11-08T00:00:00Z"},
            {"mode": "standard"},
        ],
    ),
    _good("a return after success", onSuccess="return"),
    _good("a return with a label of its own", onSuccess="return", versionLabel="example.com/build"),
    _good("a reset at deletion", onDelete="reset"),
    _good("a workload", target__canary__workload={"name": "learner"}),
    _good("a start", phase__start={"at": "2025-11-01T14:00:00Z"}),
    _good("a start by another clock", phase__start={"at": "2025-11-01T14:00:00+05:30"}),
    _good("an end", phase__end="2025-11-01T18:00:00Z"),
    _good("a gate at an instant", gate__at="2025-11-01T18:00:00Z", gate__after=REMOVED),
    _good(
        "a phase that begins as the gate of the one before is judged",
        phase__start={"at": "2025-11-01T14:00:00Z"},
        gate={"at": "2025-11-01T18:00:00Z"} | _JUDGED,
        phases__1__start={"at": "2025-11-01T18:00:00Z"},
    ),
    _good("a preflight of nothing but its checks", phase__preflight={}),
    _good(
        "a preflight",
        phase__preflight={
            "opens": "1h",
            "checklist": ["a", "b"],
            "approval": {"role": "vp"},
            "onNotReady": {"reschedule": "24h", "times": 2},
        },
    ),
    _good("one item in two phases", phase__deliverables=["notes"], phases__1__deliverables=["notes"]),
    _good("a step's approval", step__approval={"role": "eng-lead"}),
    _good("deliverables", phase__deliverables=["runbook", "dashboards"]),
    _good("a gate's approval alone", gate={"approval": {"role": "vp"}}),
    _good("a gate of deliverables alone", gate={"after": "1h"}, phase__deliverables=["runbook"]),
    _good("checkpoints in any order", phase__checkpoints=["2h", {"at": "15m", "onFail": "hold"}, {"at": "90m"}]),
    _good("a phase of deliverables without steps", phases__1={"name": "sprint", "deliverables": ["notes"]}),
    _good("a phase of an end without steps", phases__1={"name": "rest", "end": "2025-11-30T00:00:00Z"}),
    _good("a phase of a gate without steps", phases__1={"name": "go", "gate": {"approval": {"role": "vp"}}}),
    _good("an extension", gate__onUndecided={"extend": "1h", "times": 2, "then": "rollback"}),
    _good("a rescheduling", gate__onFail={"reschedule": "24h"}),
    _good("an escalation", gate__onNoData="escalate"),
    _good("incidents", **{"gate.criteria.+": {**_CALM, "matchers": ['team="x"']}}),
    _good("the scope of a target", rail__scope="target"),
    _good("a second wave of another target", phases__1__targets=["eu-west"], phases__1__steps__0__weight=1),
    _good("a phase with a target that it does not have to raise", phases__1__steps__0__weight=5),
    _good(
        "a target left out for a phase",
        phases__1__targets=["eu-west"],
        **{"phases.+": {"name": "all", "steps": [{"weight": 100}], "guardrails": [_ERRORS]}},
    ),
    _good("fields without a value", target__service=None, gate__after=None),
    _good("an empty minimum", rail__minimum={}),
    _good("a metric named as its kind", metric__name="ratio", phase__guardrails__2__metric="ratio"),
    # --- of the whole
    _bad("another apiVersion", "apiVersion", {"apiVersion": "autoadvance.dev/v2"}),
    _bad("another kind", "kind", {"kind": "Launcher"}),
    _bad("no name", "metadata.name", {"metadata.name": REMOVED}),
    _bad("a name in capitals", "metadata.name", {"metadata.name": "Learner"}),
    _bad("a name with two dots", "metadata.name", {"metadata.name": "a..b"}),
    _bad("no spec", "spec", {"spec": REMOVED}),
    _bad("a list as spec", "spec", {"spec": []}),
    _bad("an unknown field of the spec", "spec.revisoin", {"revisoin": "v2"}),
    _bad("no revision", "spec.revision", {"revision": REMOVED}),
    _bad("an empty revision", "spec.revision", {"revision": ""}),
    _bad("a number as revision", "spec.revision", {"revision": 2025.1}),
    _bad("a revision of two lines", "spec.revision", {"revision": "v2\nv3"}),
    _bad("a revision that is too long", "spec.revision", {"revision": "v" * 254}),
    _bad("a negative watchAfter", "spec.watchAfter", {"watchAfter": "-1h"}),
    _bad("a watchAfter of nothing", "spec.watchAfter", {"watchAfter": "0s"}),
    _bad("a watchAfter of years", "spec.watchAfter", {"watchAfter": "900d"}, _SUM),
    _bad("an unknown onSuccess", "spec.onSuccess", {"onSuccess": "stay"}),
    _bad("an unknown onDelete", "spec.onDelete", {"onDelete": "remove"}),
    _bad("a time zone with a blank", "spec.timeZone", {"timeZone": "Europe/ Berlin"}),
    _bad(
        "a time zone that is none",
        "spec.timeZone",
        {"timeZone": "Mars/Olympus"},
        "the schema has no list of time zones",
    ),
    # --- windows and freezes
    _bad("a window without days", "spec.windows[0].days", {"windows": [{"from": "09:00", "to": "18:00"}]}),
    _bad("a window of a day that is none", "spec.windows[0].days[0]", {"windows": [{**_WINDOW, "days": ["Monday"]}]}),
    _bad("a window of one day twice", "spec.windows[0].days[1]", {"windows": [{**_WINDOW, "days": ["Mon"] * 2}]}, _OF),
    _bad("a window from 24:00", "spec.windows[0].from", {"windows": [{**_WINDOW, "from": "24:00"}]}),
    _bad("a window to 9:00", "spec.windows[0].to", {"windows": [{**_WINDOW, "to": "9:00"}]}),
    _bad("a window from and to the same time", "spec.windows[0]", {"windows": [{**_WINDOW, "to": "09:00"}]}, _OF),
    _bad(
        "a freeze without a name", "spec.freezes[0].name", {"freezes": [{"from": _FREEZE["from"], "to": _FREEZE["to"]}]}
    ),
    _bad("two freezes of one name", "spec.freezes[1].name", {"freezes": [_FREEZE] * 2}, _OF),
    _bad(
        "a freeze that ends before it begins",
        "spec.freezes[0].to",
        {"freezes": [{**_FREEZE, "to": "2025-11-26T00:00:00Z"}]},
        _OF,
    ),
    _bad(
        "a freeze that ends as it begins",
        "spec.freezes[0].to",
        {"freezes": [{**_FREEZE, "to": "2025-11-27T01:00:00+01:00"}]},
        _OF,
    ),
    # --- targets
    _bad("no targets", "spec.targets", {"targets": REMOVED}),
    _bad("an empty list of targets", "spec.targets", {"targets": []}),
    _bad(
        "65 targets",
        "spec.targets",
        {
            "targets": [
                {"name": f"t{n}", "route": {"name": f"r{n}"}, "stable": {"name": "s"}, "canary": {"name": "c"}}
                for n in range(65)
            ],
            "phase.targets": ["t1"],
        },
    ),
    _bad("targets as a mapping", "spec.targets", {"targets": {"name": "x"}}),
    _bad("a target as text", f"{_T}", {"target": "us-east"}),
    _bad("a target without a name", f"{_T}.name", {"target.name": REMOVED}),
    _bad("a target's name in capitals", f"{_T}.name", {"target.name": "US"}),
    _bad("a target's name that ends in a hyphen", f"{_T}.name", {"target.name": "us-"}),
    _bad("two targets of one name", "spec.targets[1].name", {"targets.1.name": "us-east"}),
    _bad("a target without a route", f"{_T}.route", {"target.route": REMOVED}),
    _bad("a target without stable", f"{_T}.stable", {"target.stable": REMOVED}),
    _bad("a target without canary", f"{_T}.canary", {"target.canary": REMOVED}),
    _bad("a route without a name", f"{_T}.route.name", {"target.route": {"kind": "HTTPRoute"}}),
    _bad("a route of another kind", f"{_T}.route.kind", {"target.route.kind": "TCPRoute"}),
    _bad(
        "a route of another version",
        f"{_T}.route.apiVersion",
        {"target.route.apiVersion": "gateway.networking.k8s.io/v1beta1"},
    ),
    _bad("a route in another namespace", f"{_T}.route.namespace", {"target.route.namespace": "other"}),
    _bad("a Service with a slash", f"{_T}.stable.name", {"target.stable.name": "prod/learner"}),
    _bad("stable and canary are one", f"{_T}.canary.name", {"target.canary.name": "learner-stable"}),
    _bad("two targets on one route", "spec.targets[1].route", {"targets.1.route": {"name": "learner"}}),
    _bad(
        "two targets on one rule",
        "spec.targets[1].route",
        {"targets.1.route": {"name": "learner", "rule": "a"}, "target.route.rule": "a"},
    ),
    _bad("a rule beside every rule", "spec.targets[1].route", {"targets.1.route": {"name": "learner", "rule": "a"}}),
    _bad("a port of a Service", f"{_T}.canary.port", {"target.canary.port": 80}),
    # --- metrics
    _bad("a metric without a name", f"{_M}.name", {"metric.name": REMOVED}),
    _bad("a metric of no kind", _M, {"metric.ratio": REMOVED}),
    _bad("a metric of two kinds", _M, {"metric.value": {"query": "up"}}),
    _bad("a metric named as a built-in one", f"{_M}.name", {"metric.name": "errors"}),
    _bad("two metrics of one name", "spec.metrics[1].name", {"metrics.1.name": "paying"}),
    _bad("a ratio without total", f"{_M}.ratio.total", {"metric.ratio.total": REMOVED}),
    _bad("a ratio of an empty selector", f"{_M}.ratio.bad", {"metric.ratio.bad": ""}),
    _bad("a function as selector", f"{_M}.ratio.bad", {"metric.ratio.bad": "rate(payments_total[5m])"}),
    _bad("a range as selector", f"{_M}.ratio.bad", {"metric.ratio.bad": "payments_total[5m]"}),
    _bad("an offset in a selector", f"{_M}.ratio.bad", {"metric.ratio.bad": "payments_total offset 5m"}),
    _bad("an open brace in a selector", f"{_M}.ratio.bad", {"metric.ratio.bad": 'payments_total{a="b"'}),
    _bad("an unquoted matcher", f"{_M}.ratio.bad", {"metric.ratio.bad": "payments_total{a=b}"}),
    _bad("two selectors in one", f"{_M}.ratio.bad", {"metric.ratio.bad": "a or b"}),
    _bad("an unknown placeholder", f"{_M}.ratio.bad", {"metric.ratio.bad": 'p{a="{{cluster}}"}'}),
    _bad("an unknown placeholder in a query", "spec.metrics[2].value.query", {"metrics.2.value.query": "x{{env}}"}),
    _bad("an empty standard error", "spec.metrics[2].value.standardError", {"metrics.2.value.standardError": ""}),
    _bad(
        "an unknown placeholder in a standard error",
        "spec.metrics[2].value.standardError",
        {"metrics.2.value.standardError": "x{{env}}"},
    ),
    _bad("an interval of half a second", f"{_M}.interval", {"metric.interval": "500ms"}),
    _bad("an interval of an hour", f"{_M}.interval", {"metric.interval": "1h"}),
    _bad("an interval as a number", f"{_M}.interval", {"metric.interval": 10}),
    _bad("a unit that is none", "spec.metrics[2].value.unit", {"metrics.2.value.unit": "euros"}),
    _bad("an unknown field of a metric", f"{_M}.query", {"metric.query": "up"}),
    # --- phases and steps
    _bad("no phases", "spec.phases", {"phases": REMOVED}),
    _bad("an empty list of phases", "spec.phases", {"phases": []}),
    _bad("a phase without a name", f"{_P}.name", {"phase.name": REMOVED}),
    _bad("two phases of one name", "spec.phases[1].name", {"phases.1.name": "ramp"}),
    _bad("a phase of an unknown target", f"{_P}.targets[0]", {"phase.targets": ["us-west"]}),
    _bad("a phase of a target twice", f"{_P}.targets[1]", {"phase.targets": ["us-east", "us-east"]}),
    _bad("a phase of no targets", f"{_P}.targets", {"phase.targets": []}),
    _bad("an unknown onRevision", f"{_P}.onRevision", {"phase.onRevision": "stop"}),
    _bad("steps that nothing judges", _P, {"phase.guardrails": [], "phase.gate": REMOVED}),
    _bad("steps that only incidents judge", _P, {"phase.guardrails": [], "phase.gate": {"criteria": [_CALM]}}),
    _bad(
        "steps that only a silent guardrail judges",
        _P,
        {"phase.guardrails": [_criterion(metric="errors", below="1%", enforce=False)], "phase.gate": REMOVED},
    ),
    _bad("101 steps", f"{_P}.steps", {"phase.steps": [{"weight": 1}] * 101}),
    _bad("a step without a weight", f"{_S}.weight", {"step.weight": REMOVED}),
    _bad("a weight of 0", f"{_S}.weight", {"step.weight": 0}),
    _bad("a weight of 101", f"{_S}.weight", {"step.weight": 101}),
    _bad("a weight of 100.1%", f"{_S}.weight", {"step.weight": "100.1%"}),
    _bad("a weight of a hundredth", f"{_S}.weight", {"step.weight": "0.55%"}),
    _bad("a weight of a bare fraction", f"{_S}.weight", {"step.weight": 0.5}),
    _bad("a weight in words", f"{_S}.weight", {"step.weight": "ten"}),
    _bad("a weight that is true", f"{_S}.weight", {"step.weight": True}),
    _bad("a negative weight", f"{_S}.weight", {"step.weight": -5}),
    _bad("a weight that falls", f"{_S}.weight", {"step.weight": "0.4%"}),
    _bad("a step after 100", "spec.phases[1].steps[2]", {"phases.1.steps.+": {"weight": 100}}),
    _bad("a time without a unit", f"{_S}.for", {"step.for": "10"}),
    _bad("a time as a number", f"{_S}.for", {"step.for": 600}),
    _bad("a time of nothing", f"{_S}.for", {"step.for": "0m"}),
    _bad("a time with a blank", f"{_S}.for", {"step.for": "1h 30m"}),
    _bad("a time as ISO 8601", f"{_S}.for", {"step.for": "PT10M"}),
    _bad("a time in digits of another script", f"{_S}.for", {"step.for": "\u0661m"}),
    _bad("a pause instead of a time", f"{_S}.pause", {"step.pause": "10m"}),
    # --- criteria
    _bad("a guardrail without a metric", f"{_G}.metric", {"rail.metric": REMOVED}),
    _bad(
        "an unknown metric",
        f"{_G}.metric",
        {"rail.metric": "error-rate"},
        "it would have to look the name up for every criterion, which costs more than the schema's rules may",
    ),
    _bad("errors without a limit", f"{_G}.below", {"rail.below": REMOVED}),
    _bad("errors below a number", f"{_G}.below", {"rail.below": 1}),
    _bad("errors below a bare fraction", f"{_G}.below", {"rail.below": 0.01}),
    _bad("errors below a duration", f"{_G}.below", {"rail.below": "1s"}),
    _bad("errors below 0%", f"{_G}.below", {"rail.below": "0%"}),
    _bad("errors below 100%", f"{_G}.below", {"rail.below": "100%"}),
    _bad("errors below a negative share", f"{_G}.below", {"rail.below": "-1%"}),
    _bad("errors above", f"{_G}.above", {"rail.above": "1%"}),
    _bad("errors with a quantile", f"{_G}.quantile", {"rail.quantile": 0.99}),
    _bad("a limit that is a list", f"{_G}.below", {"rail.below": ["1%"]}),
    _bad("a limit that is true", f"{_G}.below", {"rail.below": True}),
    _bad("latency without a quantile", f"{_L}.quantile", {"latency.quantile": REMOVED}),
    _bad("latency without a limit", f"{_L}.below", {"latency.below": REMOVED}),
    _bad("latency below a percentage", f"{_L}.below", {"latency.below": "1%"}),
    _bad("latency below a number", f"{_L}.below", {"latency.below": 500}),
    _bad("a quantile of 99", f"{_L}.quantile", {"latency.quantile": 99}),
    _bad("a quantile of 1", f"{_L}.quantile", {"latency.quantile": 1}),
    _bad("a quantile of 0", f"{_L}.quantile", {"latency.quantile": 0}),
    _bad("a quantile as text", f"{_L}.quantile", {"latency.quantile": "p99"}),
    _bad(
        "availability below",
        "spec.phases[1].guardrails[0].above",
        {"phases.1.guardrails.0": _criterion(metric="availability", below="1%")},
    ),
    _bad("availability above a number", "spec.phases[1].guardrails[0].above", {"phases.1.guardrails.0.above": 99}),
    _bad("availability above 100%", "spec.phases[1].guardrails[0].above", {"phases.1.guardrails.0.above": "100%"}),
    _bad(
        "an own ratio above",
        f"{_P}.guardrails[2].above",
        {"phase.guardrails.2": _criterion(metric="paying", above="2%")},
        _OWN,
    ),
    _bad(
        "an own latency without a quantile",
        f"{_P}.guardrails[3].quantile",
        {"phase.guardrails.3.quantile": REMOVED},
        _OWN,
    ),
    _bad("a bare value without a limit", f"{_P}.gate.criteria[1]", {"gate.criteria.1.above": REMOVED}, _OWN),
    _bad("a bare value with two limits", f"{_P}.gate.criteria[1]", {"gate.criteria.1.below": "9%"}, _OWN),
    _bad("a bare value in another unit", f"{_P}.gate.criteria[1].above", {"gate.criteria.1.above": "6s"}, _OWN),
    _bad(
        "a bare value with a certainty", f"{_P}.gate.criteria[1].certainty", {"gate.criteria.1.certainty": "99%"}, _OWN
    ),
    _bad(
        "a value at looks with a time",
        f"{_P}.gate.criteria[1].for",
        {"metrics.2.value.standardError": "y", "gate.criteria.1.certainty": "99%"},
        _OWN,
    ),
    _bad(
        "a guardrail at looks",
        _G,
        {"metrics.2.value.standardError": "y", "rail": {"metric": "uplift", "above": "5%"}},
        _OWN,
    ),
    _bad(
        "a bare value with bad events",
        f"{_P}.gate.criteria[1].minimum.bad",
        {"gate.criteria.1.minimum": {"bad": 3}},
        _OWN,
    ),
    _bad("a certainty of 79%", f"{_G}.certainty", {"rail.certainty": "79%"}),
    _bad("a certainty of 100%", f"{_G}.certainty", {"rail.certainty": "100%"}),
    _bad("a certainty as a share", f"{_G}.certainty", {"rail.certainty": 0.99}),
    _bad("a certainty in words", f"{_G}.certainty", {"rail.certainty": "high"}),
    _bad("a time without a threshold", f"{_G}.for", {"rail.for": "10m"}),
    _bad("a time shorter than the interval", f"{_P}.gate.criteria[1].for", {"gate.criteria.1.for": "30s"}, _OWN),
    _bad("a minimum of half a request", f"{_G}.minimum.requests", {"rail.minimum": {"requests": 0.5}}),
    _bad("a minimum of no bad event", f"{_G}.minimum.bad", {"rail.minimum": {"bad": 0}}),
    _bad("a negative minimum", f"{_G}.minimum.requests", {"rail.minimum": {"requests": -1}}),
    _bad("an unknown onBreach", f"{_G}.onBreach", {"rail.onBreach": "panic"}),
    _bad("enforce as text", f"{_G}.enforce", {"rail.enforce": "no"}),
    _bad("an unknown field of a guardrail", f"{_G}.threshold", {"rail.threshold": "1%"}),
    _bad(
        "the same guardrail twice",
        f"{_P}.guardrails[4]",
        {"phase.guardrails.+": _criterion(metric="errors", below="1.0%")},
        _ACROSS,
    ),
    _bad("a gate's criterion of nothing", f"{_P}.gate.criteria[0].metric", {"gate.criteria.0.metric": REMOVED}),
    _bad("at and after", f"{_P}.gate", {"gate.at": "2025-11-01T18:00:00Z"}),
    _bad("a gate that cannot fail", f"{_P}.gate", {"gate.criteria": []}, _ACROSS),
    _bad(
        "a phase that begins before the gate of the one before",
        "spec.phases[1].start.at",
        {"gate": {"at": "2025-11-01T18:00:00Z"} | _JUDGED, "phases.1.start": {"at": "2025-11-01T17:00:00Z"}},
        _ACROSS,
    ),
    _bad(
        "a phase that begins before the one before does",
        "spec.phases[1].start.at",
        {"phase.start": {"at": "2025-11-01T18:00:00Z"}, "phases.1.start": {"at": "2025-11-01T17:00:00Z"}},
        _ACROSS,
    ),
    _bad(
        "a gate before its phase begins",
        f"{_P}.gate.at",
        {"phase.start": {"at": "2025-11-01T18:00:00Z"}, "gate": {"at": "2025-11-01T18:00:00Z"} | _JUDGED},
        _ACROSS,
    ),
    _bad(
        "an end before the end of the phase before",
        "spec.phases[1].end",
        {"phase.end": "2025-11-01T18:00:00Z", "phases.1.end": "2025-11-01T17:00:00Z"},
        _ACROSS,
    ),
    _bad("an unknown onFail", f"{_P}.gate.onFail", {"gate.onFail": "retry"}),
    _bad("an onFail that is a number", f"{_P}.gate.onFail", {"gate.onFail": 3}),
    _bad("an onFail that is true", f"{_P}.gate.onFail", {"gate.onFail": True}),
    _bad("an onFail of an unknown mapping", f"{_P}.gate.onFail", {"gate.onFail": {"wait": "1h"}}),
    _bad("an onPass that is none", f"{_P}.gate.onPass", {"gate.onPass": "hold"}),
    # --- calendar, people and outcomes
    _bad("a start without an offset from UTC", f"{_P}.start.at", {"phase.start": {"at": "2025-11-01T14:00:00"}}),
    _bad("a start as bare text", f"{_P}.start", {"phase.start": "2025-11-01T14:00:00Z"}),
    _bad("an end that is a date", f"{_P}.end", {"phase.end": "2025-11-01"}),
    _bad("a phase with nothing to do", "spec.phases[1]", {"phases.1": {"name": "rest"}}, _WITHIN),
    _bad(
        "a phase that only watches and never ends",
        "spec.phases[1]",
        {"phases.1": {"name": "rest", "guardrails": [_criterion(metric="errors", below="1%")]}},
        _WITHIN,
    ),
    _bad(
        "a gate of which nothing is asked in a phase without steps",
        "spec.phases[1].gate",
        {"phases.1": {"name": "rest", "gate": {"after": "1h"}}},
        _ACROSS,
    ),
    _bad("one deliverable twice", f"{_P}.deliverables[1]", {"phase.deliverables": ["runbook", "runbook"]}, _WITHIN),
    _bad("a deliverable in words", f"{_P}.deliverables[0]", {"phase.deliverables": ["the runbook"]}),
    _bad(
        "one item of a checklist twice",
        f"{_P}.preflight.checklist[1]",
        {"phase.preflight": {"opens": "1h", "checklist": ["on-call", "on-call"]}},
        _WITHIN,
    ),
    _bad(
        "an item of the checklist named as a deliverable",
        f"{_P}.preflight.checklist[0]",
        {"phase.preflight": {"opens": "1h", "checklist": ["runbook"]}, "phase.deliverables": ["runbook"]},
        _WITHIN,
    ),
    _bad("a preflight that opens at once", f"{_P}.preflight.opens", {"phase.preflight": {"opens": "0s"}}),
    _bad(
        "a rollback before anything began",
        f"{_P}.preflight.onNotReady",
        {"phase.preflight": {"opens": "1h", "onNotReady": "rollback"}},
    ),
    _bad(
        "an extension of what is not ready",
        f"{_P}.preflight.onNotReady.extend",
        {"phase.preflight": {"opens": "1h", "onNotReady": {"extend": "1h"}}},
    ),
    _bad("a step's approval as bare text", f"{_S}.approval", {"step.approval": "eng-lead"}),
    _bad("an approval of nobody", f"{_P}.gate.approval.role", {"gate.approval": {}}),
    _bad("two checkpoints at one time", f"{_P}.checkpoints[1]", {"phase.checkpoints": ["60m", {"at": "1h"}]}, _WITHIN),
    _bad("a checkpoint at the start", f"{_P}.checkpoints[0]", {"phase.checkpoints": ["0s"]}, _MIXED),
    _bad(
        "a checkpoint that rolls back",
        f"{_P}.checkpoints[0].onFail",
        {"phase.checkpoints": [{"at": "1h", "onFail": "rollback"}]},
        _MIXED,
    ),
    _bad("monitoring in another word", f"{_P}.monitoring", {"phase.monitoring": "relaxed"}),
    _bad(
        "a span of another mode",
        f"{_P}.monitoring[0].mode",
        {"phase.monitoring": [{"mode": "loose", "for": "1h"}]},
        _MIXED,
    ),
    _bad(
        "a span of monitoring that has two ends",
        f"{_P}.monitoring[0]",
        {"phase.monitoring": [{"mode": "close", "for": "1h", "until": "2025-11-02T00:00:00Z"}]},
        _WITHIN,
    ),
    _bad(
        "a span of monitoring behind one without an end",
        f"{_P}.monitoring[0]",
        {"phase.monitoring": [{"mode": "close"}, {"mode": "standard"}]},
        _WITHIN,
    ),
    _bad(
        "a hold of one target alone",
        f"{_G}.scope",
        {"rail.scope": "target", "rail.onBreach": "hold"},
        _WITHIN,
    ),
    _bad("the scope of a region", f"{_G}.scope", {"rail.scope": "region"}),
    _bad("an extension of no times", f"{_P}.gate.onFail.times", {"gate.onFail": {"extend": "1h", "times": 0}}, _MIXED),
    _bad("an extension of nothing", f"{_P}.gate.onFail.extend", {"gate.onFail": {"extend": "0s"}}, _MIXED),
    _bad(
        "an extension that ends in an extension",
        f"{_P}.gate.onFail.then",
        {"gate.onFail": {"extend": "1h", "then": "extend"}},
        _MIXED,
    ),
    _bad("incidents beside a metric", f"{_P}.gate.criteria[2]", {"gate.criteria.+": {**_CALM, "metric": "errors"}}),
    _bad(
        "a first step below the weight of every target of its phase",
        "spec.phases[1].steps[0].weight",
        {"phases.1.targets": ["us-east"], "phases.1.steps.0.weight": 5},
        _ACROSS,
    ),
    _bad(
        "a wave back to a target that was raised further",
        "spec.phases[2].steps[0].weight",
        {
            "phases.1.targets": ["eu-west"],
            "phases.+": {"name": "back", "targets": ["us-east"], "steps": [{"weight": 5}], "guardrails": [_ERRORS]},
        },
        _ACROSS,
    ),
    # --- what is counted, and what is compared
    _good("uptime", gate__criteria=[{"metric": "uptime", "above": "99.95%"}]),
    _good("uptime as a guardrail", **{"phase.guardrails.+": {"metric": "uptime", "above": "99.95%"}}),
    _good("restarts", **{"phase.guardrails.+": {"metric": "restarts", "atMost": 2}}),
    _good("no restarts at a gate", gate__criteria=[{"metric": "restarts", "atMost": 0}]),
    _good("a ratio", **{"phase.guardrails.+": {**_COMPARED, "ratioBelow": 2}}),
    _good("a difference", **{"phase.guardrails.+": {**_COMPARED, "differenceBelow": "0.5%"}}),
    _good("a ratio of slow ones", **{"phase.guardrails.+": {**_SLOW, "ratioBelow": 1.5}}),
    _bad("restarts without a count", f"{_G}.atMost", {"rail": {"metric": "restarts"}}, _KIND),
    _bad("restarts below a share", f"{_G}.below", {"rail": {"metric": "restarts", "atMost": 2, "below": "1%"}}, _KIND),
    _bad("restarts that are sure", f"{_G}.certainty", {"rail": {**_RESTARTS, "certainty": "95%"}}, _KIND),
    _bad("restarts beside stable", f"{_G}.comparedTo", {"rail": {**_RESTARTS, "comparedTo": "stable"}}, _KIND),
    _bad("a count of errors", f"{_G}.atMost", {"rail": {**_ERRORS, "atMost": 2}}, _KIND),
    _bad("uptime without a limit", f"{_G}.above", {"rail": {"metric": "uptime"}}, _KIND),
    _bad("uptime of everything", f"{_G}.above", {"rail": {"metric": "uptime", "above": "100%"}}, _KIND),
    _bad("uptime below", f"{_G}.below", {"rail": {"metric": "uptime", "above": "99%", "below": "1%"}}, _KIND),
    _bad(
        "uptime of a phase without a length",
        "spec.phases[1].guardrails[1].metric",
        {"phases.1.steps": [{"weight": 60}], "phases.1.guardrails": [_ERRORS, {"metric": "uptime", "above": "99%"}]},
        _KIND,
    ),
    _bad("a comparison without a limit", f"{_G}.comparedTo", {"rail": _COMPARED}, _KIND),
    _bad(
        "a comparison with two limits",
        f"{_G}.comparedTo",
        {"rail": {**_COMPARED, "ratioBelow": 2, "differenceBelow": "1%"}},
        _KIND,
    ),
    _bad("a ratio to nothing", f"{_G}.ratioBelow", {"rail": {**_ERRORS, "ratioBelow": 2}}, _KIND),
    _bad("a comparison and a limit", f"{_G}.below", {"rail": {**_COMPARED, "below": "1%", "ratioBelow": 2}}, _KIND),
    _bad(
        "a comparison by threshold",
        f"{_G}.certainty",
        {"rail": {**_COMPARED, "ratioBelow": 2, "certainty": "threshold"}},
        _KIND,
    ),
    _bad(
        "a comparison of availability",
        f"{_G}.metric",
        {"rail": {"metric": "availability", "comparedTo": "stable", "ratioBelow": 2, "above": "99%"}},
        _KIND,
    ),
    _bad(
        "a ratio of slow ones without an edge",
        f"{_G}.below",
        {"rail": {"metric": "latency", "comparedTo": "stable", "ratioBelow": 2}},
        _KIND,
    ),
    _bad(
        "steps that only restarts prove",
        _P,
        {"phase.guardrails": [_RESTARTS], "gate.criteria": [{"metric": "uptime", "above": "99%"}]},
    ),
    _bad(
        "a comparison alone at 100%",
        "spec.phases[1].guardrails",
        {"phases.1.steps": [{"weight": 100}], "phases.1.guardrails": [{**_COMPARED, "ratioBelow": 2}]},
        _KIND,
    ),
    # --- contacts
    *(
        _bad(name, f"spec.contacts{at}", {"contacts": contacts}, _WITHIN)
        for name, at, contacts in (
            ("a first contact that waits", "[0].after", [{"role": "on-call", "after": "10m"}]),
            ("a contact twice", "[1].role", [{"role": "on-call"}, {"role": "on-call", "after": "10m"}]),
            (
                "a contact before the one above it",
                "[2].after",
                [{"role": "a"}, {"role": "b", "after": "10m"}, {"role": "c", "after": "5m"}],
            ),
        )
    ),
    # --- not yet
    *(
        _bad(f"{name}, not yet", at, {path: value}, _LATER)
        for name, path, value, at in (("a cluster", "target.cluster", "east", f"{_T}.cluster"),)
    ),
)

"""What must hold across the fields of a plan, and what this release does not run yet."""

from __future__ import annotations

import re
import zoneinfo
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from controller.core import spec as written
from controller.core.criteria import CriterionError, resolve
from controller.core.faults import Fault, Place, listed, path_text, shown
from controller.core.series import HOLDS, RecordedForm
from controller.core.spec import BUILT_IN_METRICS, PLACEHOLDER_PATTERN, PLACEHOLDERS, LaunchSpec
from controller.core.structure import Manifest
from controller.core.terms import DEFAULT_BACKEND, FREE, Terms, look_backs
from controller.core.units import FULL_WEIGHT, format_duration, format_instant, format_weight


def _given(value: Any) -> bool:
    return value not in ("", [], {})


class _Later(NamedTuple):
    """A part of the schema that no engine runs yet; ``when`` says which of its values are meant."""

    path: str
    advice: str
    when: Callable[[Any], bool] = _given


NOT_YET: tuple[_Later, ...] = (_Later("targets[].cluster", "remove it; the controller's own cluster is meant"),)
"""What is refused for now. To support a part, delete its line."""


def cross_faults(manifest: Manifest, recorded: RecordedForm, terms: Terms = FREE) -> tuple[Fault, ...]:
    """Every fault across fields of what parses, in the order of the plan's fields."""
    if manifest.spec is None:
        return ()
    found = [*_not_yet(manifest.raw), *_Checks(manifest, manifest.spec, recorded, terms).all()]
    placed = [(manifest.original(place), message) for place, message in found]
    return tuple(
        dict.fromkeys(
            Fault(path_text(place), message) for place, message in placed if not manifest.concerns_trouble(place)
        )
    )


def warnings(spec: LaunchSpec, terms: Terms = FREE) -> tuple[Fault, ...]:
    """What is allowed and weaker than it looks."""
    kinds = terms.shared(spec) | {metric.name: metric for metric in spec.metrics}
    found = [
        Fault(
            path_text(("spec", "targets", index, "prometheus")),
            f"whether the operator has a Prometheus {target.prometheus} is not known here; validate --config FILE, with "
            "the operator's configuration, says it",
        )
        for index, target in enumerate(spec.targets)
        if terms.backends is None and target.prometheus not in ("", DEFAULT_BACKEND)
    ]
    used = set()
    for place, criterion in _criteria(spec):
        used.add(criterion.metric)
        metric = kinds.get(criterion.metric or "")
        if metric is not None and metric.value is not None:
            if not metric.value.standard_error:
                found.append(Fault(path_text(("spec", *place)), _BY_LIMIT_ALONE))
            elif criterion.certainty == "threshold":
                found.append(Fault(path_text(("spec", *place, "certainty")), _THOUGH_SURE))
        elif criterion.certainty == "threshold":
            found.append(
                Fault(
                    path_text(("spec", *place, "certainty")),
                    "threshold only looks at the last moments: a 1-minute window breaks in 94-99 % of healthy "
                    "two-hour steps; write certainty: 99%",
                )
            )
    found += [
        Fault(path_text(("spec", "metrics", index)), f"no guardrail and no gate uses {metric.name}; remove it")
        for index, metric in enumerate(spec.metrics)
        if metric.name not in used
    ]
    shared = {metric.name for metric in terms.metrics}
    found += [
        Fault(
            path_text(("spec", "metrics", index, "name")),
            f"hides the operator's shared metric {metric.name}, and what guards it by default; choose another name, or "
            "remove it to use the shared one",
        )
        for index, metric in enumerate(spec.metrics)
        if metric.name in shared
    ]
    return tuple(found)


_BY_LIMIT_ALONE = (
    "is judged by its limit alone, which is weaker than counts: nothing says how sure that is; give "
    "value.standardError to have it proven at a gate, or declare the metric as a ratio where two counters exist"
)
_THOUGH_SURE = (
    "threshold judges by the limit alone, though the standard error is known: nothing says how sure that is; "
    "remove it to have it proven, at a gate"
)

_Found = tuple[Place, str]


def _criteria(spec: LaunchSpec) -> Iterator[tuple[Place, written.Criterion]]:
    for index, phase in enumerate(spec.phases):
        for number, guardrail in enumerate(phase.guardrails):
            yield ("phases", index, "guardrails", number), guardrail
        for number, criterion in enumerate(phase.gate.criteria if phase.gate else ()):
            yield ("phases", index, "gate", "criteria", number), criterion


def _not_yet(raw: dict[str, Any]) -> Iterator[_Found]:
    for later in NOT_YET:
        parts = later.path.replace("[]", ".[]").split(".")
        for place, value in _matching(raw, parts, ()):
            if later.when(value):
                what = f"{value} is " if later.when is not _given and isinstance(value, str) else ""
                yield place, f"{what}not supported yet; {later.advice}"


def _matching(value: Any, parts: list[str], place: Place) -> Iterator[tuple[Place, Any]]:
    if not parts:
        yield place, value
    elif parts[0] == "[]":
        for index, inner in enumerate(value if isinstance(value, list) else ()):
            yield from _matching(inner, parts[1:], (*place, index))
    elif isinstance(value, dict) and parts[0] in value:
        yield from _matching(value[parts[0]], parts[1:], (*place, parts[0]))


_COUNTED = ("uptime", "restarts", "holds")


class _Checks:
    def __init__(self, manifest: Manifest, spec: LaunchSpec, recorded: RecordedForm, terms: Terms) -> None:
        self.manifest = manifest
        self.spec = spec
        self.recorded = recorded
        self.terms = terms
        self.shared = terms.shared(spec)
        self.kinds = self.shared | {metric.name: metric for metric in spec.metrics}
        names = [metric.name for metric in spec.metrics]
        self.doubtful = {
            metric.name
            for index, metric in enumerate(spec.metrics)
            if _kinds(metric) != 1 or names.count(metric.name) > 1 or self._troubled("metrics", index)
        }
        """Metrics with a fault of their own: what a criterion makes of them is not worth telling yet."""

    def _troubled(self, *place: str | int) -> bool:
        return self.manifest.concerns_trouble(self.manifest.original(place))

    def all(self) -> Iterator[_Found]:
        spec = self.spec
        yield from self._zone()
        yield from _windows(spec.windows)
        yield from _freezes(spec.freezes)
        yield from _contacts(spec.contacts)
        yield from _unique(("targets",), [target.name for target in spec.targets], "target")
        yield from self._targets()
        yield from _unique(("metrics",), [metric.name for metric in spec.metrics], "metric")
        for index, metric in enumerate(spec.metrics):
            yield from metric_faults(("metrics", index), metric)
        yield from _unique(("phases",), [phase.name for phase in spec.phases], "phase")
        for index, phase in enumerate(spec.phases):
            yield from self._phase(("phases", index), phase)
        yield from _in_order(spec.phases)
        yield from _gates_that_cannot_fail(spec.phases)
        yield from self._rising()
        for index, phase in enumerate(spec.phases):
            yield from self._criteria(("phases", index), phase)
        yield from self._terms()

    def _terms(self) -> Iterator[_Found]:
        """What the operator of this controller gives and allows."""
        terms, spec, ask = self.terms, self.spec, "or ask who operates auto-advance to change"
        if terms.backends is not None:
            for index, target in enumerate(spec.targets):
                if (target.prometheus or DEFAULT_BACKEND) not in terms.backends:
                    known = listed(sorted(terms.backends)) if terms.backends else "no Prometheus at all"
                    has = "names no Prometheus and the operator's configuration has no default one"
                    if target.prometheus:
                        has = f"the operator's configuration has no Prometheus {shown(target.prometheus)}"
                    yield ("targets", index, "prometheus"), f"{has}; it has {known}: write that, {ask} prometheus in it"
        most = terms.limits.criteria
        count = sum(1 for _ in _criteria(spec))
        if most is not None and count > most:
            yield (
                ("phases",),
                f"guardrails and gates have {count:,} criteria in all, and limits.criteria of the operator's "
                f"configuration is {most:,}; write fewer, {ask} it",
            )
        for index, metric in enumerate(spec.metrics):
            place: Place = ("metrics", index)
            if metric.value is not None and not self._raw_allowed():
                instead = f", use a shared metric ({', '.join(sorted(self.shared)[:10])})" if self.shared else ""
                where = "no plan" if isinstance(terms.raw, bool) else f"plans in {listed(sorted(terms.raw))} alone"
                yield (
                    (*place, "value"),
                    f"is PromQL of the plan's own, which rawPromQL of the operator's configuration allows to {where}; "
                    f"write ratio or latency{instead}, {ask} it",
                )
            for (*inside, field), text in queries_of(metric):
                yield from self._query((*place, *inside, field), text, ask)

    def _raw_allowed(self) -> bool:
        raw = self.terms.raw
        return raw if isinstance(raw, bool) else self.manifest.namespace in raw

    def _query(self, place: Place, text: str, ask: str) -> Iterator[_Found]:
        longest, span = self.terms.limits.query_length, self.terms.limits.range
        if longest is not None and len(text) > longest:
            yield (
                place,
                f"has {len(text):,} characters, and limits.queryLength of the operator's configuration is {longest:,}; "
                f"write a shorter one, {ask} it",
            )
        for words, seconds in look_backs(text) if span is not None else ():
            if seconds is None or seconds > (span or 0.0):
                much = "is no duration that can be read" if seconds is None else "looks back too far"
                yield (
                    place,
                    f"{words} {much}: limits.range of the operator's configuration is {format_duration(span or 0.0)}; "
                    f"write that or less, {ask} it",
                )

    def _zone(self) -> Iterator[_Found]:
        zone = self.spec.time_zone
        if zone == "UTC":
            return
        try:
            zoneinfo.ZoneInfo(zone)
        except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
            yield (
                ("timeZone",),
                f"{shown(zone)} is not a known time zone; write an IANA name such as UTC or Europe/Berlin",
            )

    def _targets(self) -> Iterator[_Found]:
        taken: dict[tuple[str, str, str], list[tuple[str, str]]] = defaultdict(list)
        for index, target in enumerate(self.spec.targets):
            if target.stable.name == target.canary.name:
                yield (
                    ("targets", index, "canary", "name"),
                    f"{target.canary.name} is the stable Service too; name the Service of the new revision",
                )
            if self._troubled("targets", index, "route"):
                continue
            route = taken[target.cluster, target.route.kind, target.route.name]
            for other, rule in route:
                if rule == target.route.rule or not rule or not target.route.rule:
                    yield (
                        ("targets", index, "route"),
                        f"moves the same rule of {target.route.kind} {target.route.name} as target {other}; "
                        "name another route, or another rule in each",
                    )
                    break
            route.append((target.name, target.route.rule))

    def _phase(self, place: Place, phase: written.Phase) -> Iterator[_Found]:
        known = self.manifest.known["targets"]
        seen: set[str] = set()
        for number, name in enumerate(phase.targets or ()):
            if known is not None and name not in known:
                yield (
                    (*place, "targets", number),
                    f"there is no target {name}; write {listed(sorted(known)[:10])}"
                    if known
                    else f"there is no target {name}",
                )
            if name in seen:
                yield (*place, "targets", number), f"{name} is named twice; remove one"
            seen.add(name)
        # That nothing was counted proves no traffic good, and incidents are of no target besides.
        # A value is proven when the plan says, which need not be while a step lasts.
        judged = any(guardrail.enforce and guardrail.metric not in _COUNTED for guardrail in phase.guardrails)
        measured = phase.gate is not None and any(
            criterion.incidents is None
            and criterion.guardrails is None
            and criterion.metric not in _COUNTED
            and not self._looked_at(criterion)
            for criterion in phase.gate.criteria
        )
        if phase.steps and not (judged or measured):
            yield (
                place,
                "has steps but nothing that proves them good; "
                "add guardrails, for example guardrails: [{metric: errors, below: 1%}]",
            )
        gate = phase.gate
        if gate is not None and gate.at is not None and gate.after is not None:
            yield (*place, "gate"), "has at and after; remove one of them"
        reaches = any(step.weight == FULL_WEIGHT for step in phase.steps)
        absolute = any(
            guardrail.enforce and guardrail.compared_to is None and guardrail.metric not in _COUNTED
            for guardrail in phase.guardrails
        )
        if reaches and judged and not absolute:
            yield (
                (*place, "guardrails"),
                "compare with stable only, which has no traffic left at 100%; "
                "add one with a limit of its own, for example {metric: errors, below: 1%}",
            )
        troubled = any(self._troubled(*place, part) for part in ("steps", "gate", "end", "deliverables"))
        if not (phase.steps or gate or phase.end or phase.deliverables or troubled):
            yield place, "has nothing to do; give it steps, an end, deliverables or a gate"
        yield from _people(place, phase)
        yield from _times(place, phase)

    def _rising(self) -> Iterator[_Found]:
        """Weights never fall: within a phase, and from one phase to the next of the targets that it names."""
        reached: dict[str, tuple[int, str]] = {}
        for index, phase in enumerate(self.spec.phases):
            if self._troubled("phases", index, "targets"):
                continue
            names = phase.targets or (*(target.name for target in self.spec.targets), *reached)
            before, where = min((reached.get(name, (0, "")) for name in names), default=(0, ""))
            for number, step in enumerate(phase.steps):
                place = ("phases", index, "steps", number)
                if step.weight < before:
                    yield (
                        (*place, "weight"),
                        f"{format_weight(step.weight)} is below the {format_weight(before)} of {where}; write "
                        f"{format_weight(before)} or more (a launch lowers traffic only to retreat)",
                    )
                elif before == FULL_WEIGHT and number:
                    yield place, "comes after 100%, where nothing is left to raise; remove it"
                if step.weight >= before:
                    before, where = step.weight, f"step {number + 1} of phase {phase.name}"
            if phase.steps:
                for name in names:
                    reached[name] = max(reached.get(name, (0, "")), (before, where), key=lambda each: each[0])

    def _criteria(self, place: Place, phase: written.Phase) -> Iterator[_Found]:
        seen: dict[str, int] = {}
        for number, guardrail in enumerate(phase.guardrails):
            here = (*place, "guardrails", number)
            if guardrail.metric is None:
                yield (*here, "metric"), "is missing; write metric: errors, for example"
                continue
            if guardrail.metric == HOLDS:
                yield (*here, "metric"), "holds are counted at a gate; write it under the gate's criteria"
                continue
            key, found = self._criterion(here, guardrail)
            yield from found
            yield from self._placed(here, phase, guardrail)
            if self._looked_at(guardrail):
                yield (
                    here,
                    f"is judged at every tick, and {guardrail.metric} is proven at few planned looks only; write it "
                    "under the gate's criteria, or certainty: threshold here",
                )
            if key in seen:
                yield here, f"says the same as guardrails[{seen[key]}] ({key}); remove one of them"
            elif key:
                seen[key] = number
        seen.clear()
        for number, criterion in enumerate(phase.gate.criteria if phase.gate else ()):
            here = (*place, "gate", "criteria", number)
            if criterion.guardrails is not None:
                yield from _of_guardrails(here, phase, criterion)
                continue
            if criterion.incidents is not None and criterion.metric is not None:
                yield here, "is of a metric and of incidents; write two criteria"
                continue
            if criterion.matchers and criterion.incidents is None:
                yield (*here, "matchers"), "say which incidents count, and this criterion is of none; remove them"
            if criterion.silenced and criterion.incidents is None:
                yield (*here, "silenced"), "says how incidents count, and this criterion is of none; remove it"
            if criterion.incidents is not None:
                key, found = self._incidents(here, criterion)
            elif criterion.metric is None:
                yield (*here, "metric"), "is missing; write metric: errors, for example"
                continue
            else:
                key, found = self._criterion(here, criterion)
                yield from self._placed(here, phase, criterion)
            yield from found
            if key in seen:
                yield here, f"says the same as criteria[{seen[key]}] ({key}); remove one of them"
            elif key:
                seen[key] = number

    def _looked_at(self, criterion: written.Criterion) -> bool:
        """Whether it is of a value with a standard error, which is judged at few planned looks."""
        metric = self.kinds.get(criterion.metric or "")
        sure = metric is not None and metric.value is not None and bool(metric.value.standard_error)
        return sure and criterion.certainty != "threshold"

    def _placed(self, place: Place, phase: written.Phase, criterion: written.Criterion) -> Iterator[_Found]:
        """What a criterion needs of the phase in which it stands."""
        if criterion.metric == "uptime" and not _has_length(phase) and not self._troubled(*place[:2]):
            yield (
                (*place, "metric"),
                f"uptime is a budget over the planned length of phase {phase.name}, which has none; "
                "write after: 24h in its gate, for example, or for: 30m in its steps",
            )

    def _incidents(self, place: Place, criterion: written.GateCriterion) -> tuple[str, list[_Found]]:
        try:
            key = resolve(criterion, self.kinds, self.recorded).key
        except CriterionError as error:
            return "", [
                ((*place, *(int(part) if part.isdigit() else part for part in field.split("."))), message)
                for field, message in error.problems
            ]
        return "" if self._troubled(*place) else key, []

    def _criterion(self, place: Place, criterion: written.Criterion) -> tuple[str, list[_Found]]:
        name = criterion.metric or ""
        if name not in BUILT_IN_METRICS and name not in self.kinds:
            known = self.manifest.known["metrics"]
            if known is None or name in known:
                return "", []
            usual = (each for each in BUILT_IN_METRICS if each != HOLDS or "guardrails" not in place)
            names = dict.fromkeys((*usual, *sorted({*known, *self.shared})[:10]))
            return "", [
                ((*place, "metric"), f"there is no metric {name}; write {listed(names)}, or declare it under metrics")
            ]
        if name in self.doubtful:
            return "", []
        try:
            key = resolve(criterion, self.kinds, self.recorded).key
        except CriterionError as error:
            unsure = {"for", "certainty"} if self._troubled(*place, "certainty") else set()
            return "", [
                ((*place, *(field.split(".") if field else ())), message)
                for field, message in error.problems
                if field not in unsure
            ]
        return "" if self._troubled(*place) else key, []


def _of_guardrails(place: Place, phase: written.Phase, criterion: written.GateCriterion) -> Iterator[_Found]:
    others = criterion.model_dump(by_alias=True, exclude_defaults=True).keys() - {"guardrails"}
    for name in sorted(others):
        yield (*place, name), "says nothing beside guardrails: pass; write a criterion of its own for it, and remove it"
    if not any(guardrail.enforce for guardrail in phase.guardrails):
        yield (
            (*place, "guardrails"),
            f"asks for the guardrails of phase {phase.name}, which has none that is enforced; add guardrails, for "
            "example guardrails: [{metric: errors, below: 1%}], or remove it",
        )
    numbers = [number for number, each in enumerate(phase.gate.criteria) if each.guardrails] if phase.gate else []
    if numbers and numbers[0] != place[-1]:
        yield place, f"says the same as criteria[{numbers[0]}]; remove one of them"


def _has_length(phase: written.Phase) -> bool:
    """Whether the plan says how long the phase is meant to last."""
    ends = [instant for instant in (phase.end, phase.gate.at if phase.gate else None) if instant is not None]
    timed = phase.start is not None and bool(ends) and max(ends) > phase.start.at
    after = phase.gate is not None and phase.gate.after is not None
    return timed or after or any(step.for_ is not None for step in phase.steps)


def _unique(place: Place, names: list[str], what: str) -> Iterator[_Found]:
    first: dict[str, int] = {}
    for index, name in enumerate(names):
        if name in first:
            yield (*place, index, "name"), f"{name} is the name of {what} {first[name] + 1} already; choose another"
        first.setdefault(name, index)


def _windows(windows: tuple[written.Window, ...]) -> Iterator[_Found]:
    for index, window in enumerate(windows):
        for number, day in enumerate(window.days):
            if day in window.days[:number]:
                yield ("windows", index, "days", number), f"{day} is named twice; remove one"
        if window.from_ == window.to:
            yield (
                ("windows", index),
                f"from and to are both {window.to}, which could be the whole day or nothing; "
                'write from: "00:00", to: "24:00" for the whole day',
            )


def _freezes(freezes: tuple[written.Freeze, ...]) -> Iterator[_Found]:
    yield from _unique(("freezes",), [freeze.name for freeze in freezes], "freeze")
    for index, freeze in enumerate(freezes):
        if freeze.to <= freeze.from_:
            yield (
                ("freezes", index, "to"),
                f"is not after from, so {freeze.name} freezes nothing; write an instant after "
                f"{format_instant(freeze.from_)}",
            )


def _contacts(contacts: tuple[written.Contact, ...]) -> Iterator[_Found]:
    """Who is told, in order: each once, the first at once, and none before the one above it."""
    if contacts and contacts[0].after is not None:
        yield ("contacts", 0, "after"), f"is of {contacts[0].role}, who comes first and is told at once; remove it"
    latest, where = 0.0, ""
    seen: set[str] = set()
    for index, contact in enumerate(contacts):
        if contact.role in seen:
            yield ("contacts", index, "role"), f"{contact.role} is named twice; remove one"
        seen.add(contact.role)
        after = contact.after or 0.0
        if after < latest:
            yield (
                ("contacts", index, "after"),
                f"is {format_duration(after) if after else 'nothing'}, before the {format_duration(latest)} of {where}: "
                "roles are told in the order in which they stand, and after counts from the beginning of what is told; "
                f"write {format_duration(latest)} or more",
            )
        else:
            latest, where = after, contact.role


def _in_order(phases: tuple[written.Phase, ...]) -> Iterator[_Found]:
    """Phases run one after the other: none is planned to begin, end or be judged before the one before it is over."""
    over, where = float("-inf"), ""
    for index, phase in enumerate(phases):
        start = phase.start.at if phase.start else None
        if start is not None and start < over:
            yield (
                ("phases", index, "start", "at"),
                f"is {_moment(start)}, before {where} at {_moment(over)}: phases cannot overlap; "
                f"write {_moment(over)} or later",
            )
        elif start is not None:
            over, where = start, f"the start of phase {phase.name}"
        before, after = over, where
        for place, instant, words in (
            (("end",), phase.end, "the end of"),
            (("gate", "at"), phase.gate.at if phase.gate else None, "the gate of"),
        ):
            if instant is None:
                continue
            if instant <= before:
                yield (
                    ("phases", index, *place),
                    f"is {_moment(instant)}, not after {after} at {_moment(before)}; write a later instant",
                )
            elif instant > over:
                over, where = instant, f"{words} phase {phase.name}"


def _moment(instant: float) -> str:
    """An instant as it is written by hand: without a fraction that says nothing."""
    return format_instant(instant).replace(".000Z", "Z")


def _people(place: Place, phase: written.Phase) -> Iterator[_Found]:
    """What people tick off has a name of its own: a checklist item and a deliverable of one name could not be told apart."""
    seen: set[str] = set()
    items = [((*place, "deliverables", number), item) for number, item in enumerate(phase.deliverables)]
    for number, item in enumerate(phase.preflight.checklist if phase.preflight else ()):
        items.append(((*place, "preflight", "checklist", number), item))
    for where, item in items:
        if item in seen:
            yield where, f"{item} is named twice in phase {phase.name}; remove one, or give it another name"
        seen.add(item)


def _times(place: Place, phase: written.Phase) -> Iterator[_Found]:
    for number, guardrail in enumerate(phase.guardrails):
        if guardrail.scope == "target" and guardrail.on_breach == "hold":
            yield (
                (*place, "guardrails", number, "scope"),
                "a hold is of the whole launch; write scope: launch, or onBreach: rollback",
            )
    offsets = [each.at if isinstance(each, written.CheckpointAt) else each for each in phase.checkpoints]
    for number, offset in enumerate(offsets):
        if offset in offsets[:number]:
            yield (*place, "checkpoints", number), "is the same instant as one before it; remove one"
    if isinstance(phase.monitoring, str):
        return
    for number, period in enumerate(phase.monitoring):
        here = (*place, "monitoring", number)
        if period.for_ is not None and period.until is not None:
            yield here, "has for and until; remove one of them"
        elif period.for_ is None and period.until is None and number < len(phase.monitoring) - 1:
            yield here, "has no end, so what follows it would never come; write for: 36h, or until"


def _gates_that_cannot_fail(phases: tuple[written.Phase, ...]) -> Iterator[_Found]:
    for index, phase in enumerate(phases):
        gate = phase.gate
        if gate is not None and not gate.criteria and not phase.deliverables and gate.approval is None:
            yield (
                ("phases", index, "gate"),
                "cannot fail, since nothing is asked of it; add criteria: [{metric: errors, below: 1%}], for example, "
                "or an approval, or deliverables of the phase"
                + ("; or remove it, and the steps are left when their guardrails pass" if phase.steps else ""),
            )


def _kinds(metric: written.Metric) -> int:
    return sum(kind is not None for kind in (metric.ratio, metric.latency, metric.value))


def queries_of(metric: written.Metric) -> Iterator[tuple[Place, str]]:
    """Everything that a metric asks, each with its place in it."""
    for kind in ("ratio", "latency", "value"):
        source = getattr(metric, kind)
        for attribute in ("bad", "total", "bucket", "count", "query", "standard_error"):
            if text := getattr(source, attribute, ""):
                yield (kind, "standardError" if attribute == "standard_error" else attribute), text


def metric_faults(place: Place, metric: written.Metric) -> Iterator[tuple[Place, str]]:
    """What is wrong with a metric by itself."""
    if metric.name in BUILT_IN_METRICS:
        yield (*place, "name"), f"{metric.name} is the name of a built-in metric; choose another"
    if _kinds(metric) == 0:
        yield place, "has no source; write one of ratio, latency and value"
    elif _kinds(metric) > 1:
        yield place, "has several sources; write one of ratio, latency and value"
    for inside, text in queries_of(metric):
        if not re.fullmatch(PLACEHOLDER_PATTERN, text):
            known = listed(f"{{{{{name}}}}}" for name in PLACEHOLDERS)
            yield (*place, *inside), f"has double braces around an unknown placeholder; write {known}"

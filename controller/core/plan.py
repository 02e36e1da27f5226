"""The plan of a launch, checked as a whole and resolved: criteria tied to their series, defaults filled in.

:func:`parse` reports every fault at once, each with its path, what is wrong and what to write.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from controller.core import spec as spec_forms
from controller.core.checks import cross_faults, warnings
from controller.core.criteria import resolve
from controller.core.evidence import Criterion
from controller.core.faults import Fault, InvalidPlanError
from controller.core.series import RecordedForm
from controller.core.spec import API_VERSION, KIND, LaunchSpec
from controller.core.structure import read_manifest
from controller.core.terms import DEFAULT_BACKEND, FREE, OPERATOR, Terms, as_written, digest_of, given, terms_of

__all__ = [
    "Checkpoint",
    "Consequence",
    "Contact",
    "Fault",
    "Gate",
    "Guardrail",
    "InvalidPlanError",
    "Outcome",
    "Period",
    "Phase",
    "Plan",
    "Preflight",
    "Step",
    "Target",
    "parse",
    "standing",
    "stood_on",
]

_RECORDED = RecordedForm()

Consequence = Literal["hold", "rollback"]
Ending = Literal["hold", "rollback", "escalate", "extend", "reschedule"]
Mode = Literal["intensive", "close", "standard"]
CADENCE: Mapping[str, float] = {"intensive": 0.0, "close": 60.0, "standard": 300.0}
"""How many seconds a gate waits before it is judged again, by monitoring mode; 0: each tick."""


@dataclass(frozen=True, slots=True)
class Target:
    """One traffic split that the launch may move. ``prometheus`` is empty where the operator's default one is meant."""

    name: str
    service: str
    route_kind: str
    route: str
    rule: str
    stable: str
    canary: str
    workload_kind: str = ""
    workload: str = ""
    prometheus: str = ""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What follows when something does not pass. ``by`` is seconds, of extend and reschedule; after ``times``, ``then``."""

    kind: Ending
    by: float = 0.0
    times: int = 0
    then: Consequence | Literal["escalate"] = "hold"

    def after(self, used: int) -> Ending:
        """What follows when it was extended or rescheduled so often already."""
        return self.kind if self.kind not in ("extend", "reschedule") or used < self.times else self.then


@dataclass(frozen=True, slots=True)
class Guardrail:
    """A criterion that is judged at every tick. ``enforce`` false: judged and shown, without consequence.

    ``alone``: a rollback is of the target that broke it, not of the whole launch. ``added``: it is one of the operator's
    defaults, which the plan does not name.
    """

    criterion: Criterion
    on_breach: Consequence
    on_no_data: Consequence
    enforce: bool
    alone: bool = False
    added: bool = False


@dataclass(frozen=True, slots=True)
class Step:
    """``weight`` in thousandths, ``lasts`` in seconds (0: no longer than its proof takes), ``approval`` a role."""

    weight: int
    lasts: float
    approval: str = ""


@dataclass(frozen=True, slots=True)
class Preflight:
    """Go or no-go before a phase: it opens ``opens`` seconds before the start. ``approval`` is a role, or empty."""

    opens: float
    checklist: tuple[str, ...]
    approval: str
    on_not_ready: Outcome


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A scored record, ``at`` seconds from the start of the phase. ``holds``: a failed one holds the launch."""

    at: float
    holds: bool


@dataclass(frozen=True, slots=True)
class Period:
    """How closely a span is watched: ``lasts`` seconds, or ``until`` an instant, or to the end."""

    mode: Mode
    lasts: float | None = None
    until: float | None = None


@dataclass(frozen=True, slots=True)
class Gate:
    """The end of a phase. It is judged ``at`` an instant (epoch seconds), or ``after`` seconds from the phase's start,
    or (both None) when the last step's time is over. ``approval`` is a role, or empty. ``written`` is the place of each
    criterion in the plan's list: `guardrails: pass` stands for several.
    """

    at: float | None
    after: float | None
    criteria: tuple[Criterion, ...]
    written: tuple[int, ...]
    approval: str
    on_fail: Outcome
    on_undecided: Outcome
    on_no_data: Outcome


@dataclass(frozen=True, slots=True)
class Phase:
    """``horizon`` is the planned length in seconds that the detector spreads its error over; None: without an end.

    ``start`` and ``end`` are epoch seconds. ``gate`` is there when anything is wanted at the end, deliverables
    included. ``digest`` changes with every edit of the phase's text, of the targets or of a metric that it uses;
    ``given`` with what the operator gives it besides, which is no edit of the plan.
    ``looks`` are the checkpoints before the gate, in seconds from the start, at which values with a standard error are
    judged; they are so once more at the gate.
    """

    name: str
    targets: tuple[str, ...]
    start: float | None
    end: float | None
    preflight: Preflight | None
    steps: tuple[Step, ...]
    deliverables: tuple[str, ...]
    checkpoints: tuple[Checkpoint, ...]
    monitoring: tuple[Period, ...]
    guardrails: tuple[Guardrail, ...]
    gate: Gate | None
    horizon: float | None
    restarts: bool
    digest: str
    looks: tuple[float, ...] = ()
    given: str = ""

    @property
    def gate_after(self) -> float | None:
        """Seconds from the start of the phase to its gate's instant, as planned; None: the plan does not say."""
        return None if self.gate is None else _gate_after(self.gate, self.start)

    def cadence(self, began: float, now: float, moved: float = 0.0) -> float:
        """Seconds between two judgements of the gate at ``now``; ``moved`` seconds are added to each ``until``."""
        end = began
        for period in self.monitoring:
            if period.until is not None:
                end = max(end, period.until + moved)
            else:
                end = end + period.lasts if period.lasts is not None else float("inf")
            if now < end:
                return CADENCE[period.mode]
        return CADENCE[self.monitoring[-1].mode] if self.monitoring else 0.0


@dataclass(frozen=True, slots=True)
class Contact:
    """Who is told: a role, ``after`` seconds from the beginning of what is told, unless somebody has answered by then."""

    role: str
    after: float = 0.0


@dataclass(frozen=True, slots=True)
class Plan:
    """A plan without faults. ``contacts`` are in the order in which they are told.

    ``given`` is what it takes from the operator's configuration: metrics and default guardrails, as they are written.
    """

    namespace: str
    name: str
    revision: str
    targets: tuple[Target, ...]
    phases: tuple[Phase, ...]
    watch_after: float
    on_success: Literal["keep", "return"]
    on_delete: Literal["leave", "reset"]
    spec: LaunchSpec
    warnings: tuple[Fault, ...] = ()
    contacts: tuple[Contact, ...] = ()
    given: Mapping[str, Any] = field(default_factory=dict)

    @property
    def prometheus(self) -> str:
        """The Prometheus that is asked of the launch as a whole: that of its targets if they share one, else the default."""
        named = {target.prometheus for target in self.targets}
        return named.pop() if len(named) == 1 else ""

    def target(self, name: str) -> Target:
        """The target of that name; KeyError where there is none."""
        for target in self.targets:
            if target.name == name:
                return target
        raise KeyError(name)

    def phase_index(self, name: str) -> int:
        """The place of the phase of that name; -1 where there is none."""
        return next((index for index, phase in enumerate(self.phases) if phase.name == name), -1)


def parse(document: Mapping[str, Any], recorded: RecordedForm = _RECORDED, terms: Terms = FREE) -> Plan:
    """The plan of a Launch manifest.

    ``recorded`` is how the operator's rules write the built-in metrics, ``terms`` what else the operator says of plans.

    Raises:
        InvalidPlanError: with every fault of the manifest.
    """
    manifest = read_manifest(document)
    faults = (*manifest.faults, *cross_faults(manifest, recorded, terms))
    if faults or manifest.spec is None:
        raise InvalidPlanError(faults)
    spec = manifest.spec
    return Plan(
        namespace=manifest.namespace,
        name=manifest.name,
        revision=spec.revision,
        targets=tuple(
            Target(
                name=target.name,
                service=target.service or target.route.name,
                route_kind=target.route.kind,
                route=target.route.name,
                rule=target.route.rule,
                stable=target.stable.name,
                canary=target.canary.name,
                workload_kind=target.canary.workload.kind if target.canary.workload else "",
                workload=target.canary.workload.name if target.canary.workload else "",
                prometheus="" if target.prometheus == DEFAULT_BACKEND else target.prometheus,
            )
            for target in spec.targets
        ),
        phases=tuple(_phase(phase, spec, recorded, terms) for phase in spec.phases),
        watch_after=spec.watch_after,
        on_success=spec.on_success,
        on_delete=spec.on_delete,
        spec=spec,
        warnings=warnings(spec, terms),
        contacts=tuple(Contact(contact.role, contact.after or 0.0) for contact in spec.contacts),
        given=given(terms, spec, *spec.phases),
    )


def standing(plan: Plan, phase: str) -> dict[str, Any]:
    """The spec reduced to what a run in that phase stands on: targets, the phase, the metrics that it uses, contacts.

    What the operator has given the plan stands beside it, so that a change of that voids nothing.
    ``stood_on`` reads it again, so a run can go on (or retreat) when the plan has become unreadable meanwhile.

    Raises:
        KeyError: the plan has no phase of that name.
    """
    for written in plan.spec.phases:
        if written.name == phase:
            reduced = {"revision": plan.revision, **_basis(written, plan.spec)}
            whole = as_written(plan.spec)
            reduced |= {name: whole[name] for name in ("watchAfter", "contacts") if name in whole}
            return reduced | ({OPERATOR: dict(plan.given)} if plan.given else {})
    raise KeyError(phase)


def stood_on(namespace: str, name: str, stands_on: Mapping[str, Any], recorded: RecordedForm = _RECORDED) -> Plan:
    """The plan of the one phase that ``standing`` gave.

    Raises:
        InvalidPlanError: it cannot be read.
    """
    spec = {key: value for key, value in stands_on.items() if key != OPERATOR}
    metadata = {"name": name, "namespace": namespace}
    document = {"apiVersion": API_VERSION, "kind": KIND, "metadata": metadata, "spec": spec}
    return parse(document, recorded, terms_of(stands_on))


def _phase(written: spec_forms.Phase, spec: LaunchSpec, recorded: RecordedForm, terms: Terms) -> Phase:
    metrics = terms.shared(spec) | {metric.name: metric for metric in spec.metrics}
    added = terms.added(written, spec)
    guardrails = tuple(
        Guardrail(
            criterion=resolve(guardrail, metrics, recorded),
            on_breach=guardrail.on_breach,
            on_no_data=guardrail.on_no_data,
            enforce=guardrail.enforce,
            alone=guardrail.scope == "target",
            added=number >= len(written.guardrails),
        )
        for number, guardrail in enumerate((*written.guardrails, *added))
    )
    gate = _gate(written, guardrails, metrics, recorded)
    guardrails, gate = _sharing(guardrails, gate, len(spec.targets), len(written.targets or spec.targets))
    checkpoints = tuple(
        sorted((_checkpoint(checkpoint) for checkpoint in written.checkpoints), key=lambda each: each.at)
    )
    looks = _looks(written, gate, checkpoints)
    basis = json.dumps(_basis(written, spec), sort_keys=True, separators=(",", ":"))
    return Phase(
        name=written.name,
        targets=written.targets or tuple(target.name for target in spec.targets),
        start=written.start.at if written.start else None,
        end=written.end,
        preflight=_preflight(written.preflight) if written.preflight else None,
        steps=tuple(Step(step.weight, step.for_ or 0.0, _role(step.approval)) for step in written.steps),
        deliverables=written.deliverables,
        checkpoints=checkpoints,
        monitoring=_monitoring(written.monitoring),
        guardrails=guardrails,
        gate=_looking(gate, len(looks)),
        horizon=_horizon(written, guardrails, gate, recorded),
        restarts=written.on_revision == "restart" if written.on_revision else bool(written.steps),
        digest=hashlib.sha256(basis.encode()).hexdigest()[:16],
        looks=looks,
        given=digest_of(given(terms, spec, written)),
    )


def _looks(written: spec_forms.Phase, gate: Gate | None, checkpoints: Iterable[Checkpoint]) -> tuple[float, ...]:
    """The checkpoints before the gate; all of them where nobody knows when that is."""
    offset = None if gate is None else _gate_after(gate, written.start.at if written.start else None)
    return tuple(each.at for each in checkpoints if offset is None or each.at < offset)


def _gate_after(gate: Gate, start: float | None) -> float | None:
    return gate.after if gate.at is None or start is None else gate.at - start


def _looking(gate: Gate | None, checkpoints: int) -> Gate | None:
    """The same, with the number of looks over which values with a standard error split their error.

    It is known before the phase begins: the checkpoints, the gate, and the gate again each time that it may be put off.
    """
    if gate is None:
        return None
    again = sum(
        outcome.times
        for outcome in (gate.on_fail, gate.on_undecided, gate.on_no_data)
        if outcome.kind in ("extend", "reschedule")
    )
    looks = checkpoints + 1 + again
    criteria = (replace(each, looks=looks) if each.looks else each for each in gate.criteria)
    return replace(gate, criteria=tuple(criteria))


def _sharing(
    guardrails: tuple[Guardrail, ...], gate: Gate | None, all_targets: int, its_targets: int
) -> tuple[tuple[Guardrail, ...], Gate | None]:
    """The same with the number of tests that share the error of a false alarm: any of them may end the phase.

    Guardrails watch every target that has traffic, a gate those of its phase. What is counted, judged by a plain rule
    or without consequence takes no part.
    """
    watched = {each.criterion.key for each in guardrails if each.enforce and not each.criterion.plain}
    gated = {each.key for each in gate.criteria if each.looks or not each.plain} - watched if gate else set()
    tests = max(1, len(watched) * all_targets + len(gated) * its_targets)

    def sharing(criterion: Criterion) -> Criterion:
        return criterion if criterion.plain and not criterion.looks else replace(criterion, tests=tests)

    shared = tuple(replace(each, criterion=sharing(each.criterion)) for each in guardrails)
    return shared, None if gate is None else replace(gate, criteria=tuple(map(sharing, gate.criteria)))


def _horizon(
    written: spec_forms.Phase, guardrails: tuple[Guardrail, ...], gate: Gate | None, recorded: RecordedForm
) -> float | None:
    start = written.start.at if written.start else None
    ends = [instant for instant in (written.end, gate.at if gate else None) if instant is not None]
    if start is not None and ends and max(ends) > start:
        return max(ends) - start
    if gate is not None and gate.after is not None:
        return gate.after
    if all(step.for_ is None for step in written.steps):
        return None
    criteria = [*(guardrail.criterion for guardrail in guardrails), *(gate.criteria if gate else ())]
    settle = max((criterion.series.settle for criterion in criteria), default=recorded.settle)
    return sum((step.for_ or 0.0) + settle for step in written.steps)


def _basis(phase: spec_forms.Phase, spec: LaunchSpec) -> dict[str, Any]:
    """What a run in that phase stands on, in one spelling: defaults left out, durations as short as they go."""
    criteria = (*phase.guardrails, *(phase.gate.criteria if phase.gate else ()))
    used = {criterion.metric for criterion in criteria}
    metrics = [as_written(metric) for metric in spec.metrics if metric.name in used]
    return {
        "targets": [as_written(target) for target in spec.targets],
        "phases": [as_written(phase)],
        **({"metrics": metrics} if metrics else {}),
        **({} if spec.default_guardrails else {"defaultGuardrails": False}),
    }


def _gate(
    written: spec_forms.Phase,
    guardrails: tuple[Guardrail, ...],
    metrics: Mapping[str, spec_forms.Metric],
    recorded: RecordedForm,
) -> Gate | None:
    if written.gate is None and written.end is None and not written.deliverables:
        return None
    gate = written.gate or spec_forms.Gate()
    unique: dict[str, tuple[Criterion, int]] = {}
    for number, criterion in enumerate(gate.criteria):
        meant = [resolve(criterion, metrics, recorded)] if criterion.guardrails is None else _enforced(guardrails)
        for each in meant:
            unique.setdefault(each.key, (each, number))
    return Gate(
        at=gate.at if gate.at is not None or gate.after is not None else written.end,
        after=gate.after,
        criteria=tuple(criterion for criterion, _ in unique.values()),
        written=tuple(number for _, number in unique.values()),
        approval=_role(gate.approval),
        on_fail=_outcome(gate.on_fail),
        on_undecided=_outcome(gate.on_undecided),
        on_no_data=_outcome(gate.on_no_data),
    )


def _enforced(guardrails: Iterable[Guardrail]) -> list[Criterion]:
    """What `guardrails: pass` asks of a gate."""
    return [guardrail.criterion for guardrail in guardrails if guardrail.enforce]


def _preflight(written: spec_forms.Preflight) -> Preflight:
    return Preflight(
        opens=written.opens or 0.0,
        checklist=written.checklist,
        approval=_role(written.approval),
        on_not_ready=_outcome(written.on_not_ready),
    )


def _checkpoint(written: spec_forms.Checkpoint) -> Checkpoint:
    if isinstance(written, spec_forms.CheckpointAt):
        return Checkpoint(written.at, written.on_fail == "hold")
    return Checkpoint(written, holds=False)


def _monitoring(written: spec_forms.Monitoring) -> tuple[Period, ...]:
    if isinstance(written, str):
        return (Period(written),)
    return tuple(Period(period.mode, period.for_, period.until) for period in written)


def _role(approval: spec_forms.Approval | None) -> str:
    return approval.role if approval else ""


def _outcome(written: spec_forms.Outcome | spec_forms.NotReady) -> Outcome:
    if isinstance(written, spec_forms.Extend):
        return Outcome("extend", written.extend, written.times, written.then)
    if isinstance(written, spec_forms.Reschedule):
        return Outcome("reschedule", written.reschedule, written.times, written.then)
    return Outcome(written)

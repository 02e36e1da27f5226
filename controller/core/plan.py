"""The plan of a launch, checked as a whole and resolved: criteria tied to their series, defaults filled in.

:func:`parse` reports every fault at once, each with its path, what is wrong and what to write.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from controller.core import spec as spec_forms
from controller.core.checks import cross_faults, warnings
from controller.core.criteria import resolve
from controller.core.evidence import Criterion
from controller.core.faults import Fault, InvalidPlanError
from controller.core.series import RecordedForm
from controller.core.spec import LaunchSpec
from controller.core.structure import read_manifest

__all__ = [
    "Consequence",
    "Fault",
    "Gate",
    "Guardrail",
    "InvalidPlanError",
    "Phase",
    "Plan",
    "Step",
    "Target",
    "parse",
    "standing",
]

_RECORDED = RecordedForm()

Consequence = Literal["hold", "rollback"]


@dataclass(frozen=True, slots=True)
class Target:
    """One traffic split that the launch may move."""

    name: str
    service: str
    route_kind: str
    route: str
    rule: str
    stable: str
    canary: str


@dataclass(frozen=True, slots=True)
class Guardrail:
    """A criterion that is judged at every tick. ``enforce`` false: judged and shown, without consequence."""

    criterion: Criterion
    on_breach: Consequence
    on_no_data: Consequence
    enforce: bool


@dataclass(frozen=True, slots=True)
class Step:
    """``weight`` in thousandths, ``lasts`` in seconds (0: no longer than its proof takes)."""

    weight: int
    lasts: float


@dataclass(frozen=True, slots=True)
class Gate:
    """The end of a phase. ``after`` is seconds from the start of the phase; None: when the last step's time is over."""

    after: float | None
    criteria: tuple[Criterion, ...]
    on_fail: Consequence
    on_undecided: Consequence
    on_no_data: Consequence


@dataclass(frozen=True, slots=True)
class Phase:
    """``horizon`` is the planned length in seconds that the detector spreads its error over; None: without an end.

    ``digest`` changes with every edit of the phase's text, of the targets or of a metric that it uses.
    """

    name: str
    targets: tuple[str, ...]
    steps: tuple[Step, ...]
    guardrails: tuple[Guardrail, ...]
    gate: Gate | None
    horizon: float | None
    restarts: bool
    digest: str


@dataclass(frozen=True, slots=True)
class Plan:
    """A plan without faults."""

    namespace: str
    name: str
    revision: str
    targets: tuple[Target, ...]
    phases: tuple[Phase, ...]
    watch_after: float
    spec: LaunchSpec
    warnings: tuple[Fault, ...] = ()

    def target(self, name: str) -> Target:
        """The target of that name; KeyError where there is none."""
        for target in self.targets:
            if target.name == name:
                return target
        raise KeyError(name)

    def phase_index(self, name: str) -> int:
        """The place of the phase of that name; -1 where there is none."""
        return next((index for index, phase in enumerate(self.phases) if phase.name == name), -1)


def parse(document: Mapping[str, Any], recorded: RecordedForm = _RECORDED) -> Plan:
    """The plan of a Launch manifest.

    ``recorded`` is how the operator's rules write the built-in metrics.

    Raises:
        InvalidPlanError: with every fault of the manifest.
    """
    manifest = read_manifest(document)
    faults = (*manifest.faults, *cross_faults(manifest, recorded))
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
            )
            for target in spec.targets
        ),
        phases=tuple(_phase(phase, spec, recorded) for phase in spec.phases),
        watch_after=spec.watch_after,
        spec=spec,
        warnings=warnings(spec),
    )


def standing(plan: Plan, phase: str) -> dict[str, Any]:
    """The spec reduced to what a run in that phase stands on: all targets, the phase and the metrics that it uses.

    ``parse`` reads it again, so a run can go on (or retreat) when the plan has become unreadable meanwhile.

    Raises:
        KeyError: the plan has no phase of that name.
    """
    for written in plan.spec.phases:
        if written.name == phase:
            reduced = {"revision": plan.revision, **_basis(written, plan.spec)}
            after = _as_written(plan.spec).get("watchAfter")
            return reduced if after is None else reduced | {"watchAfter": after}
    raise KeyError(phase)


def _phase(written: spec_forms.Phase, spec: LaunchSpec, recorded: RecordedForm) -> Phase:
    metrics = {metric.name: metric for metric in spec.metrics}
    guardrails = tuple(
        Guardrail(
            criterion=resolve(guardrail, metrics, recorded),
            on_breach=guardrail.on_breach,
            on_no_data=guardrail.on_no_data,
            enforce=guardrail.enforce,
        )
        for guardrail in written.guardrails
    )
    gate = None
    if written.gate is not None:
        gate = Gate(
            after=written.gate.after,
            criteria=tuple(resolve(criterion, metrics, recorded) for criterion in written.gate.criteria),
            on_fail=_consequence(written.gate.on_fail),
            on_undecided=_consequence(written.gate.on_undecided),
            on_no_data=_consequence(written.gate.on_no_data),
        )
    basis = json.dumps(_basis(written, spec), sort_keys=True, separators=(",", ":"))
    return Phase(
        name=written.name,
        targets=written.targets or tuple(target.name for target in spec.targets),
        steps=tuple(Step(step.weight, step.for_ or 0.0) for step in written.steps),
        guardrails=guardrails,
        gate=gate,
        horizon=_horizon(written, guardrails, gate, recorded),
        restarts=written.on_revision == "restart" if written.on_revision else bool(written.steps),
        digest=hashlib.sha256(basis.encode()).hexdigest()[:16],
    )


def _horizon(
    written: spec_forms.Phase, guardrails: tuple[Guardrail, ...], gate: Gate | None, recorded: RecordedForm
) -> float | None:
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
    metrics = [_as_written(metric) for metric in spec.metrics if metric.name in used]
    return {
        "targets": [_as_written(target) for target in spec.targets],
        "phases": [_as_written(phase)],
        **({"metrics": metrics} if metrics else {}),
    }


def _as_written(model: spec_forms.Model) -> dict[str, Any]:
    return model.model_dump(mode="json", by_alias=True, exclude_defaults=True)


def _consequence(outcome: spec_forms.Outcome) -> Consequence:
    if outcome in ("hold", "rollback"):
        return "rollback" if outcome == "rollback" else "hold"
    raise ValueError(f"{outcome} is refused by the checks")

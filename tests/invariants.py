"""What must hold under every fault, as checkers over the history that an independent observer saw.

A history is every version of every Launch and route in the order in which the cluster stored them. The controller's
writes to a route are told from a person's by the epoch annotation, which nobody else writes. Each checker returns the
violations in words; an empty list is what a test wants.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from controller.core.calendar import opening
from controller.core.overrides import read_override
from controller.core.plan import InvalidPlanError, Phase, Plan, parse
from controller.core.schedule import start_of
from controller.core.series import RecordedForm
from controller.core.status import read_status
from controller.core.units import parse_instant

EPOCH = "autoadvance.dev/epoch"
FULL = 1000
ROUTES = ("HTTPRoute", "GRPCRoute")
FRESH_SECONDS = 60.0
"""How old the newest row of a verdict may be when a raise is decided on it."""
CLOCK_TOLERANCE = 1.0
"""Seconds between the observer's clock and the one that wrote the instants of a status."""

Document = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Version:
    """One stored version of an object; ``at`` is the observer's clock (epoch seconds), None means deleted."""

    at: float
    kind: str
    namespace: str
    name: str
    document: Document | None


History = Sequence[Version]


class Move(NamedTuple):
    """One change of a target's share on a route, with the launch as it was stored last before it.

    ``ours``: the controller made it. ``cause`` is the id of the decision that the epoch annotation names.
    """

    at: float
    before: int | None
    after: int | None
    ours: bool
    cause: str
    epoch: int
    launch: Document
    target: str
    place: int


# Reading a history


def _status(document: Document) -> Document:
    status: Document = document.get("status") or {}
    return status


def _weight(text: str | int) -> int:
    return round(float(str(text).removesuffix("%")) * 10)


def _standing(document: Document, spec: Document | None = None) -> Plan | None:
    """The plan that the run stands on, or with ``spec`` that one."""
    reduced = spec or (_status(document).get("run") or {}).get("standsOn")
    if not reduced:
        return None
    whole = {name: document[name] for name in ("apiVersion", "kind", "metadata")}
    try:
        return parse({**whole, "spec": reduced}, RecordedForm())
    except InvalidPlanError:
        return None


def _targets(document: Document) -> list[Document]:
    standing = (_status(document).get("run") or {}).get("standsOn") or {}
    return list(standing.get("targets") or document["spec"].get("targets") or ())


def _pairs(route: Document, target: Document) -> Iterator[tuple[Document, Document, list[Document]]]:
    """The stable and the canary backend of each rule that holds both, with all backends of that rule."""
    for rule in route["spec"].get("rules") or ():
        backends = list(rule.get("backendRefs") or ())
        named = {backend["name"]: backend for backend in backends}
        stable, canary = named.get(target["stable"]["name"]), named.get(target["canary"]["name"])
        if stable is not None and canary is not None:
            yield stable, canary, backends


def share(route: Document | None, target: Document) -> int | None:
    """The canary's share in thousandths; None where no rule holds the pair. The largest, where rules disagree."""
    shares = []
    for stable, canary, _ in _pairs(route, target) if route else ():
        total = stable.get("weight", 1) + canary.get("weight", 1)
        shares.append(round(FULL * canary.get("weight", 1) / total) if total else 0)
    return max(shares, default=None)


def _epoch_annotation(route: Document | None) -> str:
    return str(((route or {}).get("metadata", {}).get("annotations") or {}).get(EPOCH) or "")


def moves(history: History, namespace: str, name: str) -> list[Move]:
    """Every change of a share that this launch's targets saw, in order."""
    found = []
    launch: Document | None = None
    routes: dict[tuple[str, str], Document | None] = {}
    for place, version in enumerate(history):
        if version.namespace != namespace:
            continue
        if version.kind == "Launch":
            launch = version.document if version.name == name else launch
            continue
        key = version.kind, version.name
        before = routes.get(key)
        routes[key] = version.document
        if launch is None or before is None:
            continue
        annotation = _epoch_annotation(version.document)
        ours = annotation != _epoch_annotation(before) and bool(annotation)
        epoch, _, cause = annotation.partition("-")
        for target in _targets(launch):
            if (target["route"].get("kind", "HTTPRoute"), target["route"]["name"]) != key:
                continue
            old, new = share(before, target), share(version.document, target)
            if old != new:
                number = int(epoch) if ours else 0
                found.append(Move(version.at, old, new, ours, cause, number, launch, target["name"], place))
    return found


def raises(history: History, namespace: str, name: str) -> list[Move]:
    """The controller's own changes that gave the canary more."""
    return [move for move in moves(history, namespace, name) if move.ours and (move.after or 0) > (move.before or 0)]


def _launches(history: History, namespace: str, name: str) -> list[tuple[float, Document]]:
    return [
        (version.at, version.document)
        for version in history
        if (version.kind, version.namespace, version.name) == ("Launch", namespace, name) and version.document
    ]


def _intent(document: Document) -> Document:
    intent: Document = _status(document).get("intent") or {}
    return intent


def _recorded(history: History, namespace: str, name: str, uid: str, identity: str) -> tuple[float, Document] | None:
    """The version of the launch in which the intent of that id appeared."""
    for at, document in _launches(history, namespace, name):
        if document["metadata"]["uid"] == uid and _intent(document).get("id") == identity:
            return at, document
    return None


# S1 and S2


def unproven_raises(history: History, namespace: str, name: str) -> list[str]:
    """S1, S2: every raise cites an intent stored before it, whose criteria all passed on evidence after the last change.

    The first raise of a target from 0 has no evidence of the canary: of it only the recorded intent is asked.
    """
    wrong = []
    changed: dict[str, float] = {}
    for move in moves(history, namespace, name):
        told = f"at {move.at:.0f}: {move.target} {move.before} -> {move.after} ({move.cause})"
        if move.ours and (move.after or 0) > (move.before or 0):
            wrong += [f"{told}: {fault}" for fault in _unproven(history, move, namespace, name, changed)]
        changed[move.target] = move.at
    return wrong


def _unproven(history: History, move: Move, namespace: str, name: str, changed: Mapping[str, float]) -> Iterator[str]:
    intent = _intent(move.launch)
    if intent.get("id") != move.cause or intent.get("kind") != "raise":
        yield f"the launch's open intent is {intent.get('id')!r} ({intent.get('kind')})"
        return
    if _weight(intent["weights"].get(move.target, "0%")) != move.after or int(intent["epoch"]) != move.epoch:
        yield f"the intent says {intent['weights']} in epoch {intent['epoch']}, the route epoch {move.epoch}"
    recorded = _recorded(history[: move.place], namespace, name, move.launch["metadata"]["uid"], move.cause)
    if recorded is None:
        yield "no stored version holds its intent"
        return
    at, document = recorded
    if not any(entry["id"] == move.cause for entry in _status(document).get("decisions", ())):
        yield "its decision is not among those recorded"
    if not move.before:
        return
    plan = _standing(document)
    if plan is None:
        yield "what the run stands on cannot be read"
        return
    status = _status(document)
    shown = {(entry["target"], entry["criterion"]): entry for entry in status.get("criteria", ())}
    advanced = _advanced(history[: move.place], move, namespace, name)
    within = intent["phase"] == status.get("phase") and intent["step"] != status.get("step", 0)
    out = {entry["name"] for entry in status.get("targets", ()) if entry.get("withdrawn")}
    for target in plan.phases[0].targets if within else (move.target,):
        for key in _wanted(plan.phases[0]) if target not in out else ():
            entry = shown.get((target, key)) or shown.get(("", key))
            if advanced and entry is not None and entry["verdict"] == "undecided":
                continue  # a person let it pass
            if entry is None or entry["verdict"] != "pass":
                yield f"{key} of {target} is {entry and entry['verdict']!r}"
                continue
            as_of = parse_instant(entry["asOf"])
            if at - as_of > FRESH_SECONDS:
                yield f"{key} of {target} is {at - as_of:.0f} s old"
            if as_of + CLOCK_TOLERANCE < changed.get(target, 0.0):
                yield f"{key} of {target} is as of before the last change of its weight"


def _wanted(phase: Phase) -> set[str]:
    """The criteria that must have passed before traffic is raised: the guardrails, else the gate's."""
    guardrails = {guardrail.criterion.key for guardrail in phase.guardrails if guardrail.enforce}
    gate = {criterion.key for criterion in phase.gate.criteria} if phase.gate else set()
    return guardrails or gate


def _advanced(history: History, move: Move, namespace: str, name: str) -> bool:
    """Whether a person let the wait before this raise pass by hand, since the raise before it."""
    uid = move.launch["metadata"]["uid"]
    before = [each.at for each in raises(history, namespace, name) if each.launch["metadata"]["uid"] == uid]
    return any(at > max(before, default=0.0) for at in _accepted(move.launch, "advance"))


def _accepted(document: Document, verb: str) -> list[float]:
    """When overrides of this verb were accepted."""
    return [
        parse_instant(entry["at"])
        for entry in _status(document).get("overrides", ())
        if (entry["verb"], entry["outcome"]) == (verb, "accepted")
    ]


def unproven_passes(history: History, namespace: str, name: str) -> list[str]:
    """S1: a phase is recorded as passed on criteria of its gate that all passed and what people had to say, or by hand."""
    wrong = []
    before: Document = {}
    for at, document in _launches(history, namespace, name):
        status, last = _status(document), before
        before = status
        passed = (status.get("gate") or {}).get("passedAt")
        if not passed or (last.get("gate") or {}).get("passedAt") or _accepted(document, "advance"):
            continue
        plan = _standing(document)
        gate = plan.phases[0].gate if plan else None
        if plan is None or gate is None:
            continue
        told = f"at {at:.0f}: phase {plan.phases[0].name} passed"
        shown = {(entry["target"], entry["criterion"]): entry["verdict"] for entry in status.get("criteria", ())}
        for criterion in gate.criteria:
            verdicts = {verdict for (_, key), verdict in shown.items() if key == criterion.key}
            if verdicts != {"pass"}:
                wrong.append(f"{told}: {criterion.key} is {verdicts or 'not there'}")
        done = set(status.get("done", ()))
        missing = [item for item in plan.phases[0].deliverables if f"{plan.phases[0].name}/{item}" not in done]
        if missing:
            wrong.append(f"{told} without {missing}")
        of = f"{plan.phases[0].name}/gate"
        if gate.approval and of not in {entry["of"] for entry in last.get("approvals", ())} | {
            entry["of"] for entry in status.get("approvals", ())
        }:
            wrong.append(f"{told} without the approval of {gate.approval}")
    return wrong


def untimely_raises(history: History, namespace: str, name: str) -> list[str]:
    """No raise was decided while a window was closed or a freeze held, nor a phase begun before its time or its go."""
    wrong = []
    for move in raises(history, namespace, name):
        recorded = _recorded(history[: move.place], namespace, name, move.launch["metadata"]["uid"], move.cause)
        if recorded is None:
            continue  # told as S1
        _, document = recorded
        intent, status = _intent(document), _status(document)
        plan = _standing(document, document["spec"])
        if plan is None or plan.phase_index(intent["phase"]) < 0:
            continue
        told = f"at {move.at:.0f}: {move.target} {move.before} -> {move.after}"
        decided = parse_instant(intent["at"])
        now = opening(plan.spec.windows, plan.spec.freezes, plan.spec.time_zone, decided)
        if not now.open:
            wrong.append(f"{told}: {now.why}")
        phase = plan.phases[plan.phase_index(intent["phase"])]
        if intent["phase"] == status.get("phase") or _accepted(document, "advance"):
            continue
        start = start_of(phase, read_status(status))
        if start is not None and decided < start - CLOCK_TOLERANCE:
            wrong.append(f"{told}: {start - decided:.0f} s before phase {phase.name} begins")
        if phase.preflight is None:
            continue
        missing = [item for item in phase.preflight.checklist if f"{phase.name}/{item}" not in status.get("done", ())]
        if missing:
            wrong.append(f"{told}: {missing} are not ticked off")
    return wrong


# S3


def steps_out_of_order(history: History, namespace: str, name: str) -> list[str]:
    """S3: at most one planned step at a time, each after its planned dwell; down at any time."""
    wrong = []
    stands: tuple[str, tuple[str, int], float] | None = None
    lasts = 0.0
    for move in raises(history, namespace, name):
        intent, run = _intent(move.launch), _status(move.launch).get("run") or {}
        told = f"at {move.at:.0f}: {move.target} {move.before} -> {move.after}"
        if not intent:
            continue  # told as S1
        plan = _standing(move.launch)
        current = _standing(move.launch, move.launch["spec"]) or plan
        if plan is None or current is None:
            continue
        place = intent["phase"], int(intent["step"])
        source = plan if plan.phase_index(place[0]) == 0 else current
        phase = source.phases[max(source.phase_index(place[0]), 0)]
        step = phase.steps[place[1] - 1]
        if move.after != step.weight:
            wrong.append(f"{told}: step {place} has weight {step.weight}")
        identity = f"{move.launch['metadata']['uid']}/{run.get('number')}"
        if stands is None or stands[0] != identity:
            if place[1] != 1:
                wrong.append(f"{told}: a run begins with step {place}")
        elif place != stands[1]:
            same = place[0] == stands[1][0]
            # A step that the target's weight had reached already is gone through without a write.
            between = phase.steps[stands[1][1] if same else 0 : place[1] - 1]
            if (same and place[1] < stands[1][1]) or any(step.weight > (move.before or 0) for step in between):
                wrong.append(f"{told}: {stands[1]} is followed by {place}")
            wanted = lasts + sum(step.lasts for step in between)
            if move.at - stands[2] < wanted and not any(at > stands[2] for at in _accepted(move.launch, "advance")):
                wrong.append(
                    f"{told}: {move.at - stands[2]:.0f} s after {stands[1]}, of which {wanted:.0f} s are planned"
                )
        stands, lasts = (identity, place, move.at), step.lasts
    return wrong


# S4


def inexact_writes(history: History) -> list[str]:
    """S4: only the pair's weights and our one annotation change; weights stand there; the pair's sum is kept or 1000."""
    wrong: list[str] = []
    routes: dict[tuple[str, str, str], Document | None] = {}
    targets: dict[tuple[str, str], list[Document]] = {}
    for version in history:
        if version.kind == "Launch":
            if version.document:
                targets[version.namespace, version.name] = _targets(version.document)
            continue
        key = version.kind, version.namespace, version.name
        before, after = routes.get(key), version.document
        routes[key] = after
        if before is None or after is None or _epoch_annotation(after) in ("", _epoch_annotation(before)):
            continue
        told = f"at {version.at:.0f}: {version.kind} {version.name}"
        ours = [
            target
            for (namespace, _), listed in targets.items()
            for target in listed
            if namespace == version.namespace and target["route"]["name"] == version.name
        ]
        if _others(before, ours) != _others(after, ours):
            wrong.append(f"{told}: something else than the pair's weights was changed")
        for target in ours:
            wrong += [f"{told}: {fault}" for fault in _bad_sums(before, after, target)]
    return wrong


def _others(route: Document, ours: Iterable[Document]) -> Document:
    """The route without what is ours to write and without what the server writes."""
    rest = copy.deepcopy(dict(route))
    metadata = rest["metadata"]
    for served in ("resourceVersion", "generation", "managedFields"):
        metadata.pop(served, None)
    annotations = {key: value for key, value in (metadata.pop("annotations", None) or {}).items() if key != EPOCH}
    for target in ours:
        for stable, canary, _ in _pairs(rest, target):
            for backend in (stable, canary):
                assert isinstance(backend, dict)
                backend.pop("weight", None)
    return {"rest": {name: value for name, value in rest.items() if name != "status"}, "annotations": annotations}


def _bad_sums(before: Document, after: Document, target: Document) -> Iterator[str]:
    for old, new in zip(_pairs(before, target), _pairs(after, target), strict=False):
        was = [backend.get("weight", 1) for backend in old[:2]]
        if not all("weight" in backend for backend in new[:2]):
            yield f"a weight was left out: {new[:2]}"
            continue
        now = [int(backend["weight"]) for backend in new[:2]]
        if was == now:
            continue
        if any(weight < 0 for weight in now):
            yield f"a weight is negative: {now}"
        alone = len(new[2]) == 2
        if sum(now) != sum(was) and not (alone and sum(now) == FULL):
            yield f"the sum {sum(was)} became {sum(now)}"
        if FULL * now[1] % (sum(now) or 1):
            yield f"the share of {now} is no multiple of 0.1%"


# S5


def epochs_going_back(history: History, namespace: str, name: str) -> list[str]:
    """S5: the epoch in the status never falls, and no route is written for an epoch that was over by then."""
    wrong, epoch, uid = [], 0, ""
    for version in history:
        document = version.document
        if document is None or version.namespace != namespace:
            continue
        if version.kind == "Launch" and version.name == name:
            now = int(_status(document).get("epoch", 0))
            if document["metadata"]["uid"] == uid and now < epoch:
                wrong.append(f"at {version.at:.0f}: the status' epoch fell from {epoch} to {now}")
            epoch, uid = now, document["metadata"]["uid"]
    for move in raises(history, namespace, name):
        newest = int(_status(move.launch).get("epoch", 0))
        if move.epoch < newest:
            wrong.append(f"at {move.at:.0f}: raised for epoch {move.epoch} when {newest} was stored")
    return wrong


# S6


def raises_after_an_end(history: History, namespace: str, name: str) -> list[str]:
    """S6: after a stored rollback or hold nothing is raised until a person took it back."""
    wrong = []
    for move in raises(history, namespace, name):
        told = f"at {move.at:.0f}: {move.target} {move.before} -> {move.after}"
        seen = [entry for entry in history[: move.place] if (entry.kind, entry.name) == ("Launch", name)]
        recorded = None
        ended: Document | None = None
        for version in seen:
            document = version.document
            if document is None:
                ended = None
                continue
            status = _status(document)
            if _intent(document).get("id") == move.cause and recorded is None:
                recorded = document
            over = status.get("state") in ("RolledBack", "RollingBack") or status.get("hold")
            if over:
                ended = document
            elif ended is not None and _taken_back(ended, document):
                ended = None
        if ended is not None:
            wrong.append(f"{told}: after {_status(ended)['state']} was stored")
        annotations = ((recorded or move.launch)["metadata"].get("annotations") or {}).keys()
        void = _void(_status(recorded or move.launch))
        said = [verb for verb in ("hold", "rollback") if f"autoadvance.dev/{verb}" in annotations and verb not in void]
        wrong += [f"{told}: its intent was stored although {verb} was annotated" for verb in said]
    return wrong


def _void(status: Document) -> set[str]:
    """Verbs whose annotation was heard, and means nothing: it was refused, or its time is over."""
    there = {entry["verb"]: entry["outcome"] for entry in status.get("overrides", ()) if entry.get("present", True)}
    return {verb for verb, outcome in there.items() if outcome != "accepted"}


def _taken_back(ended: Document, now: Document) -> bool:
    """Whether a person asked for more since: a retry, or another revision."""
    run = _status(ended).get("run") or {}
    if run.get("revision") != now["spec"].get("revision"):
        return True
    if ended["metadata"]["uid"] != now["metadata"]["uid"]:
        return True
    asked = {
        (entry["verb"], entry["at"])
        for entry in _status(now).get("overrides", ())
        if entry["verb"] in ("retry", "advance") and entry["outcome"] == "accepted"
    }
    known = {(entry["verb"], entry["at"]) for entry in _status(ended).get("overrides", ())}
    return bool(asked - known)


# S7


def overrides_twice(history: History, namespace: str, name: str) -> list[str]:
    """S7: an override that stays annotated acts once in a run."""
    wrong = []
    acted: dict[tuple[str, str, int], float] = {}
    uid = ""
    for at, document in _launches(history, namespace, name):
        if document["metadata"]["uid"] != uid:
            acted, uid = {}, document["metadata"]["uid"]
        annotations = document["metadata"].get("annotations") or {}
        said = {key.removeprefix("autoadvance.dev/"): value for key, value in annotations.items()}
        there = {verb: read_override(verb, value).digest for verb, value in said.items()}
        # Another value in between, and the same one may be given again.
        acted = {identity: when for identity, when in acted.items() if there.get(identity[0]) == identity[1]}
        for entry in _status(document).get("overrides", ()):
            identity, when = (entry["verb"], entry["value"], entry["run"]), parse_instant(entry["at"])
            if entry["outcome"] != "accepted" or entry["verb"] not in there or not entry.get("present", True):
                continue
            if acted.setdefault(identity, when) != when:
                wrong.append(f"at {at:.0f}: {entry['verb']} acted at {acted[identity]:.0f} and again at {when:.0f}")
                acted[identity] = when
    return wrong


# S8


def writes_after(history: History, at: float) -> list[str]:
    """S8: what was still written after ``at`` (epoch seconds), by which all had settled."""
    return [f"at {entry.at:.0f}: {entry.kind} {entry.name} was written" for entry in history if entry.at > at]


ALL: tuple[Callable[[History, str, str], list[str]], ...] = (
    unproven_raises,
    unproven_passes,
    untimely_raises,
    overrides_twice,
    steps_out_of_order,
    lambda history, _namespace, _name: inexact_writes(history),
    epochs_going_back,
    raises_after_an_end,
)


def violations(history: History, namespace: str, name: str) -> list[str]:
    """Everything that the history of this launch and its routes holds against S1 to S6."""
    return [fault for checker in ALL for fault in checker(history, namespace, name)]

"""Where a launch is, why it is there, what would change that, and what would happen next if all stays as it is.

All of it is read from the plan, the status and the time; what only the cluster knows is told as of the last decision.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from controller.core.alarms import over_at
from controller.core.alerts import levels
from controller.core.calendar import opening
from controller.core.evidence import Outcome as Verdict
from controller.core.facts import patience
from controller.core.override_rules import approvals_of
from controller.core.overrides import read_override
from controller.core.plan import InvalidPlanError, Outcome, Phase, Plan, stood_on
from controller.core.questions import coming_phase
from controller.core.schedule import coming_since, gate_due, not_ready_at, preflight_opens, start_of
from controller.core.signals import Signal
from controller.core.status import UNDER_WAY, CriterionStatus, State, Status
from controller.core.timeline import Instant, PhaseRow, Timeline, Weight, settle_of, timeline
from controller.core.units import format_date, format_duration, format_weight

MOST_NEXT = 10
"""Things to come that are told at most."""
WaitKind = Literal["people", "window", "time", "evidence", "cluster", "plan"]
_NEXT_CHECKPOINTS = 2
_FEW = 3
_PREFLIGHT = (Signal.PREFLIGHT_OPEN.value, Signal.PREFLIGHT_LATE.value)
_BY_HAND = (Signal.ESCALATED.value, Signal.GATE_FAILED.value, Signal.GATE_UNDECIDED.value, Signal.STEP_UNDECIDED.value)


@dataclass(frozen=True, slots=True)
class Say:
    """What a person can say to the launch: a verb and what it is about; ``annotation`` is the same without this program."""

    verb: str
    about: str = ""

    @property
    def annotation(self) -> str:
        """The annotation that says it, without the prefix; ``resume`` is the absence of one."""
        return "hold-" if self.verb == "resume" else f"{self.verb}={self.about or 'REASON'}"

    def words(self, program: str, launch: str) -> str:
        """The command; ``launch`` is its name and the flags that lead to it."""
        return " ".join(filter(None, (program, self.verb, launch, self.about)))


@dataclass(frozen=True, slots=True)
class Share:
    """One target: its weight, since when it is in force, and why it was taken out of the run, if it was."""

    target: str
    weight: Weight
    since: Instant | None
    withdrawn: str


@dataclass(frozen=True, slots=True)
class Finding:
    """One criterion as it was last judged. ``added``: it is a default of the operator, which the plan does not name."""

    target: str
    criterion: str
    verdict: str
    value: str
    limit: str
    sentence: str
    as_of: Instant | None
    added: bool = False


@dataclass(frozen=True, slots=True)
class Wait:
    """What is waited for: of whom, until when it is wanted or comes by itself, and what says that it is there.

    ``asked`` is false for what may be done already and is wanted only later.
    """

    kind: WaitKind
    what: str
    who: str = ""
    until: Instant | None = None
    asked: bool = True
    say: Say | None = None


@dataclass(frozen=True, slots=True)
class Change:
    """What would change where it stands: a thing that somebody says, or an event, and what follows from it."""

    when: str
    then: str
    say: Say | None = None


@dataclass(frozen=True, slots=True)
class Coming:
    """What comes next; ``at`` None: no time is known. ``earliest``: not before that, and only if all passes."""

    at: Instant | None
    what: str
    earliest: bool = False


@dataclass(frozen=True, slots=True)
class Moved:
    """A phase whose date is not that of the plan. ``expected``: nothing was moved yet, but the date cannot be met."""

    phase: str
    planned: Instant | None
    start: Instant | None
    why: str
    expected: bool = False


@dataclass(frozen=True, slots=True)
class Explanation:
    """Everything that ``explain`` says. ``since`` is when it came into its state, as far as the last decisions tell."""

    launch: str
    revision: str
    now: Instant
    state: str
    reason: str
    where: str
    why: str
    since: Instant | None
    phase: str
    step: int
    targets: tuple[Share, ...]
    criteria: tuple[Finding, ...]
    waits: tuple[Wait, ...]
    changes: tuple[Change, ...]
    comes: tuple[Coming, ...]
    moves: tuple[Moved, ...]


@dataclass(frozen=True, slots=True)
class _Here:
    """What the explanation is made of. ``plan`` is what the run goes by: of a plan with faults, what the run stands on."""

    launch: str
    plan: Plan | None
    faults: InvalidPlanError | None
    status: Status
    now: float
    annotations: Mapping[str, str]
    phase: Phase | None
    coming: Phase | None
    line: Timeline | None

    @property
    def running(self) -> Phase | None:
        """The phase that has begun and is not passed."""
        return self.phase if self.coming is None and self.status.phase_started_at is not None else None

    @property
    def under_way(self) -> bool:
        return self.status.state in UNDER_WAY and self.status.run is not None

    @property
    def last_step(self) -> bool:
        return self.phase is not None and self.status.step >= len(self.phase.steps)

    def row(self, name: str) -> PhaseRow | None:
        rows = self.line.phases if self.line is not None else ()
        return next((row for row in rows if row.name == name), None)

    def weights(self) -> str:
        """What the canary has: one share where all targets have the same, else those with some by their names."""
        named: dict[int, list[str]] = {}
        for target in self.status.targets:
            named.setdefault(target.weight, []).append(target.name)
        if len(named) <= 1:
            return format_weight(next(iter(named), 0))
        others = f" (0% in {', '.join(named[0]) if len(named[0]) <= _FEW else 'the others'})" if 0 in named else ""
        shares = (f"{format_weight(weight)} in {', '.join(names)}" for weight, names in named.items() if weight)
        return ", ".join(shares) + others


def explain(
    plan: Plan | InvalidPlanError,
    status: Status,
    now: float,
    *,
    launch: str,
    annotations: Mapping[str, str] | None = None,
) -> Explanation:
    """Everything about where a launch (``namespace/name``) stands at ``now`` (epoch seconds)."""
    here = _look(plan, status, now, launch, annotations or {})
    revision = plan.revision if isinstance(plan, Plan) else status.run.revision if status.run else ""
    added = added_guardrails(status, launch) if status.criteria else frozenset()
    return Explanation(
        launch=launch,
        revision=revision,
        now=now,
        state=status.state.value,
        reason=status.reason,
        where=_where(here),
        why=_why(here),
        since=_since(status),
        phase=status.phase,
        step=status.step,
        targets=tuple(
            Share(target.name, target.weight, target.in_force_at, target.withdrawn) for target in status.targets
        ),
        criteria=tuple(
            Finding(
                item.target,
                item.criterion,
                item.verdict,
                item.value,
                item.limit,
                item.sentence,
                item.as_of,
                item.criterion in added,
            )
            for item in status.criteria
        ),
        waits=tuple(_waits(here)),
        changes=tuple(dict.fromkeys((*_changes(here), *_acknowledged(here)))),
        comes=_comes(here),
        moves=tuple(_moves(here)),
    )


def added_guardrails(status: Status, launch: str) -> frozenset[str]:
    """The criteria of the running phase that the operator has added by default."""
    running = running_plan(status, launch)
    guardrails = running.phases[0].guardrails if running is not None else ()
    return frozenset(each.criterion.key for each in guardrails if each.added)


def running_plan(status: Status, launch: str) -> Plan | None:
    """What the run stands on, as a plan of its running phase; None: there is no run, or it cannot be read."""
    if status.run is None:
        return None
    namespace, _, name = launch.rpartition("/")
    try:
        return stood_on(namespace or "default", name, status.run.stands_on)
    except InvalidPlanError:
        return None


def _look(
    plan: Plan | InvalidPlanError, status: Status, now: float, launch: str, annotations: Mapping[str, str]
) -> _Here:
    faults = plan if isinstance(plan, InvalidPlanError) else None
    running = running_plan(status, launch)
    known = plan if isinstance(plan, Plan) else running
    phase = running.phases[0] if running is not None else None
    if known is not None and phase is None:
        index = known.phase_index(status.phase)
        phase = known.phases[index] if index >= 0 else None
    return _Here(
        launch=launch,
        plan=known,
        faults=faults,
        status=status,
        now=now,
        annotations=annotations,
        phase=phase,
        coming=coming_phase(known, status, phase) if status.state in UNDER_WAY else None,
        line=None if known is None else timeline(known, status, now),
    )


# Where it is, and why.


def moment(instant: float, now: float) -> str:
    """An instant for people, in UTC, with how far away it is: ``Nov 2 16:00 UTC (in 3h)``."""
    here, there = datetime.fromtimestamp(now, UTC), datetime.fromtimestamp(instant, UTC)
    year = "" if there.year == here.year else f" {there.year}"
    return f"{format_date(instant)}{year} UTC ({_apart(instant, now)})"


def _apart(instant: float, now: float) -> str:
    apart = round(instant - now)
    if apart == 0:
        return "now"
    return f"in {format_duration(apart)}" if apart > 0 else f"{format_duration(-apart)} ago"


def _where(here: _Here) -> str:
    status, now = here.status, here.now
    if status.run is None:
        return f"{status.state.value}: no run has begun"
    said = [f"{status.state.value}: run {status.run.number} of revision {status.run.revision or 'unknown'}"]
    if status.state is State.ROLLED_BACK:
        said.append(f"ended in phase {status.phase} with the canary at 0%")
    elif status.state is State.SUCCEEDED:
        said.append(f"all phases passed, the canary has {here.weights()}")
    elif here.coming is not None:
        passed = status.phase_started_at is not None
        said.append(f"{f'phase {status.phase} has passed, ' if passed else ''}phase {here.coming.name} is next")
        said.append(f"the canary has {here.weights()}")
    else:
        count = len(here.plan.phases) if here.plan is not None and here.faults is None else 0
        index = here.plan.phase_index(status.phase) if here.plan is not None else -1
        said.append(f"phase {status.phase}" + (f" ({index + 1} of {count})" if count > 1 and index >= 0 else ""))
        if here.phase is not None and here.phase.steps:
            steps = len(here.phase.steps)
            said.append(f"step {status.step} of {steps}" if status.step else f"before the first of {steps} steps")
        said.append(f"the canary has {here.weights()}")
        if status.phase_started_at is not None:
            said.append(f"begun {moment(status.phase_started_at, now)}")
    if status.ended_at is not None and status.state in (State.ROLLED_BACK, State.SUCCEEDED):
        said.append(f"since {moment(status.ended_at, now)}")
    return ", ".join(said)


def _why(here: _Here) -> str:
    status = here.status
    if status.message:
        return status.message
    if here.faults is not None and here.faults.faults:
        return f"the plan has faults: {here.faults.faults[0]}"
    if status.hold is not None:
        return status.hold.message
    if status.state is State.PENDING:
        return "no controller has decided anything about it yet"
    return f"it is {status.state.value}: {status.reason}" if status.reason else f"it is {status.state.value}"


def _since(status: Status) -> float | None:
    if status.state in (State.ROLLED_BACK, State.SUCCEEDED):
        return status.ended_at
    if status.hold is not None:
        return status.hold.since
    since = None
    for record in reversed(status.decisions):
        if record.state != status.state.value:
            break
        since = record.at
    return since


# What is waited for.


def _waits(here: _Here) -> Iterator[Wait]:
    status = here.status
    if here.faults is not None:
        yield Wait("plan", f"a plan without faults: {'; '.join(str(fault) for fault in here.faults.faults[:3])}")
    if here.plan is None or status.state in (State.SUCCEEDED, State.ROLLED_BACK):
        return
    if status.run is None and here.faults is None:
        yield Wait("cluster", "a controller that looks at it")
    if status.intent is not None:
        weights = ", ".join(f"{name} {format_weight(weight)}" for name, weight in status.intent.weights.items())
        yield Wait("cluster", f"the route, until its weight is in force: {weights}")
    if not here.under_way:
        return
    yield from _of_holds(here)
    if here.coming is not None:
        yield from _of_coming(here, here.coming)
    if here.running is not None:
        yield from _of_running(here, here.running)
    yield from _of_window(here)
    yield from _of_evidence(here)


def _of_holds(here: _Here) -> Iterator[Wait]:
    status = here.status
    if status.reason == Signal.FLEET_STOPPED.value:
        yield Wait("people", f"the stop of all launches is lifted; {status.message}", "operator")
    if "hold" in here.annotations:
        said = read_override("hold", here.annotations["hold"])
        if not said.fault and (said.until is None or said.until > here.now):
            yield Wait("people", f"the hold is taken away{said.words}", said.by, said.until, say=Say("resume"))
    elif status.reason == Signal.HOLD_ASKED.value:
        yield Wait("people", status.message or "the hold is taken away", say=Say("resume"))
    if status.hold is not None:
        yield Wait("people", f"somebody lets it go on: {status.hold.message}", say=Say("retry"))
    elif status.reason == Signal.PLAN_CHANGED.value:
        yield Wait("people", "somebody accepts the edit, or takes it back", say=Say("retry"))


def _of_coming(here: _Here, coming: Phase) -> Iterator[Wait]:
    status, start = here.status, start_of(coming, here.status)
    if start is not None and start > here.now:
        yield Wait("time", f"the start of phase {coming.name}", until=start)
    if coming.preflight is None:
        return
    opens = preflight_opens(coming, status, coming_since(status))
    asked = here.now >= opens
    items = [
        f"{coming.name}/{item}" for item in coming.preflight.checklist if f"{coming.name}/{item}" not in status.done
    ]
    if items:
        names = ", ".join(item.partition("/")[2] for item in items)
        yield Wait("people", f"checklist of {coming.name}: {names}", "", start, asked, Say("done", " ".join(items)))
    of = f"{coming.name}/preflight"
    if coming.preflight.approval and not _approved(status, of):
        yield Wait(
            "people", f"go or no-go of {coming.name}", coming.preflight.approval, start, asked, Say("approve", of)
        )
    if status.reason in _PREFLIGHT and not items and (not coming.preflight.approval or _approved(status, of)):
        yield Wait("cluster", status.message)


def _of_running(here: _Here, phase: Phase) -> Iterator[Wait]:
    status = here.status
    due = _due(here, phase)
    left = [f"{phase.name}/{item}" for item in phase.deliverables if f"{phase.name}/{item}" not in status.done]
    if left:
        names = ", ".join(item.partition("/")[2] for item in left)
        asked = due is None or due <= here.now
        yield Wait("people", f"deliverables of {phase.name}: {names}", "", due, asked, Say("done", " ".join(left)))
    known = approvals_of(phase)
    if 0 < status.step <= len(phase.steps):
        of = f"{phase.name}/{status.step}"
        if of in known and not _approved(status, of):
            asked = status.reason == Signal.STEP_APPROVAL.value
            role = phase.steps[status.step - 1].approval
            yield Wait(
                "people", f"approval to leave step {status.step} of {phase.name}", role, None, asked, Say("approve", of)
            )
    of = f"{phase.name}/gate"
    if phase.gate is not None and of in known and not _approved(status, of):
        asked = status.reason == Signal.GATE_APPROVAL.value
        until = None if asked else due
        yield Wait(
            "people", f"approval of the gate of {phase.name}", phase.gate.approval, until, asked, Say("approve", of)
        )
    step_ends = _step_ends(here, phase)
    if step_ends is not None and step_ends > here.now and not here.last_step:
        yield Wait("time", f"step {status.step} of {phase.name} lasts", until=step_ends)
    if due is not None and due > here.now and here.last_step:
        yield Wait("time", f"the gate of {phase.name} is due", until=due)


def _of_window(here: _Here) -> Iterator[Wait]:
    if here.plan is None:
        return
    spec = here.plan.spec
    found = opening(spec.windows, spec.freezes, spec.time_zone, here.now)
    if not found.open:
        asked = here.status.reason == Signal.WINDOW_CLOSED.value
        yield Wait("window", f"traffic may be raised again ({found.why})", until=found.changes_at, asked=asked)


def _of_evidence(here: _Here) -> Iterator[Wait]:
    for item in here.status.criteria:
        if item.verdict != Verdict.PASS.value:
            yield Wait("evidence", f"{_place_of(item)} passes; it {_STANDS.get(item.verdict, item.verdict)} now")
    if here.status.reason in (Signal.ROUTE_UNUSABLE.value, Signal.NOT_READY.value, Signal.DRIFT.value):
        yield Wait("cluster", here.status.message)


def _approved(status: Status, of: str) -> bool:
    return any(approval.of == of for approval in status.approvals)


def _due(here: _Here, phase: Phase) -> float | None:
    """When the running phase's gate is judged: at its time, or when its last step is over at the earliest."""
    if phase.gate is None:
        return None
    due = gate_due(phase, here.status)
    row = here.row(phase.name)
    return due if due is not None or row is None else row.passes


def _step_ends(here: _Here, phase: Phase) -> float | None:
    status = here.status
    if status.intent is not None or not 0 < status.step <= len(phase.steps):
        return None
    step = phase.steps[status.step - 1]
    since = [
        target.in_force_at
        for target in status.targets
        if target.name in phase.targets and not target.withdrawn and target.in_force_at is not None
    ]
    return max(since) + step.lasts + settle_of(phase) if since else None


# What would change it.


def _retry(then: str) -> Change:
    return Change("somebody says retry", then, Say("retry"))


def _by_itself(what: str) -> tuple[Change, ...]:
    return (Change(what, "it goes on by itself"),)


_NEW_REVISION = Change("the plan gets a new revision", "a new run starts with it")
_ENDS_AT_ZERO = (Change("every route gives the canary 0%", "the run is over; nothing stops that"),)
_NOT_SWAPPED = (
    Change(
        "the plan names the two Services of each target the other way round",
        "a new run starts, with the traffic's Service as stable",
    ),
)
_PLAN_EDITED = (
    _retry("the edit is accepted, and the phase is judged anew"),
    Change("the edit is taken back", "it goes on as before"),
)
_BLIND = (Change("Prometheus answers with data again", "it goes on by itself; without proof nothing is raised"),)


def _advance(here: _Here, then: str = "that is passed by hand, once") -> Iterator[Change]:
    """What ``advance`` would pass now."""
    if here.coming is not None:
        yield Change(
            "somebody advances it",
            f"phase {here.coming.name} begins without waiting, if its window is open",
            Say("advance", here.coming.name),
        )
    elif here.running is not None and here.status.step < len(here.running.steps) and here.status.step:
        about = f"{here.running.name}/{here.status.step}"
        yield Change("somebody advances it", "the step is left without more proof, once", Say("advance", about))
    elif here.running is not None and here.last_step:
        yield Change(
            "somebody advances it", f"the gate of {here.running.name}: {then}", Say("advance", here.running.name)
        )


def _after_the_end(here: _Here) -> Iterator[Change]:
    yield _NEW_REVISION
    if here.status.state is State.ROLLED_BACK:
        yield _retry("a new run of the same revision starts from the beginning")


def _plan_faults(here: _Here) -> Iterator[Change]:
    faults = here.faults.faults if here.faults is not None else ()
    for fault in faults[:5]:
        yield Change(f"the plan is corrected: {fault}", "it goes on by the plan")
    if not faults:
        yield Change("the plan is looked at again, now without faults", "it goes on by the plan")


def _drifted(here: _Here) -> Iterator[Change]:
    yield Change(
        f"the route's weights are set back to what the launch left: {here.weights()}", "its evidence starts anew"
    )


def _held_for_good(here: _Here) -> Iterator[Change]:
    yield _retry("it is judged again, on evidence from then on")
    if here.status.hold is not None and here.status.hold.reason in _BY_HAND:
        yield from _advance(here)


def _fleet_stopped(_here: _Here) -> Iterator[Change]:
    yield Change(
        "the operator lifts the stop of all launches (auto-advance stop --all --lift), or it lapses",
        "it goes on, as far as the evidence allows",
    )


def _hold_taken_away(here: _Here) -> Iterator[Change]:
    yield Change("the hold is taken away", "it goes on, as far as the evidence allows", Say("resume"))
    if "hold" in here.annotations:
        until = read_override("hold", here.annotations["hold"]).until
        if until is not None and until > here.now:
            yield Change(f"the hold lapses {moment(until, here.now)}", "it goes on, as far as the evidence allows")


def _scheduled(here: _Here) -> Iterator[Change]:
    coming = here.coming
    if coming is None:
        return
    start = start_of(coming, here.status)
    if start is not None and start > here.now:
        yield Change(f"its time comes: {moment(start, here.now)}", f"phase {coming.name} begins, if all is ready")
    yield from _preflight(here)
    yield Change(
        "somebody moves it", "it begins then, and what follows moves along", Say("reschedule", f"{coming.name}=TIME")
    )


def _preflight(here: _Here) -> Iterator[Change]:
    coming = here.coming
    if coming is None:
        return
    if coming.preflight is not None:
        for wait in _of_coming(here, coming):
            if wait.say is not None and wait.asked:
                whom = wait.who or "somebody"
                verb = "agrees" if wait.say.verb == "approve" else "ticks them off"
                yield Change(f"{whom} {verb}: {wait.what}", f"phase {coming.name} is one thing readier", wait.say)
        if here.status.reason in _PREFLIGHT and "target " in here.status.message:
            yield Change(f"what the controller found is put right: {here.status.message}", "it goes on by itself")
    yield from _advance(here)


def _window(here: _Here) -> Iterator[Change]:
    for wait in _of_window(here):
        when = "" if wait.until is None else f" {moment(wait.until, here.now)}"
        yield Change(f"a window opens{when}", "the raise that waits is made")
    yield Change("the windows or freezes of the plan are edited", "they count at once")


def _undecided(here: _Here) -> Iterator[Change]:
    yield Change("more requests come in, and the criteria pass", "then retry lets it go on")
    yield from _held_for_good(here)


def _step_open(here: _Here) -> Iterator[Change]:
    phase = here.running
    if phase is not None:
        what = "the step is over and every guardrail passes"
        yield Change(what, "the next step begins" if not here.last_step else "the gate is judged")
    yield from _advance(here)


def _approval(here: _Here) -> Iterator[Change]:
    if here.running is not None:
        for wait in _of_running(here, here.running):
            if wait.say is not None and wait.say.verb == "approve" and wait.asked:
                yield Change(f"{wait.who} agrees: {wait.what}", "it goes on, on the evidence as it stands", wait.say)
    yield Change("the evidence turns worse first", "the approval is asked for again when it has passed anew")
    yield from _advance(here)


def _gate_open(here: _Here) -> Iterator[Change]:
    phase = here.running
    if phase is not None:
        for wait in _of_running(here, phase):
            if wait.say is not None and wait.say.verb == "done":
                yield Change(f"somebody ticks off {wait.what}", "the gate may pass, if the rest does", wait.say)
        due = _due(here, phase)
        when = "" if due is None or due <= here.now else f" {moment(due, here.now)}"
        yield Change(f"the gate of {phase.name} is judged{when} and passes", "the phase has passed")
    yield from _advance(here)


def _deliverables(here: _Here) -> Iterator[Change]:
    yield from _gate_open(here)


def _not_returned(here: _Here) -> Iterator[Change]:
    revision = here.plan.revision if here.plan is not None else "the new revision"
    yield Change(f"every ready pod behind the stable Services runs {revision}", "the traffic goes back to stable")


def _withdrawn(here: _Here) -> Iterator[Change]:
    names = ", ".join(target.name for target in here.status.targets if target.withdrawn)
    yield Change(f"the canary of {names or 'the target'} is at 0%", "the others go on; it stays out of this run")


CHANGES: Mapping[Signal, tuple[Change, ...] | Callable[[_Here], Iterator[Change]]] = {
    Signal.ROLLBACK_ASKED: _ENDS_AT_ZERO,
    Signal.DELETED: _ENDS_AT_ZERO,
    Signal.BREACH: _ENDS_AT_ZERO,
    Signal.LOWERING: _ENDS_AT_ZERO,
    Signal.WITHDRAWN: _withdrawn,
    Signal.RETURNING: _by_itself("every route gives stable all traffic"),
    Signal.PLAN_INVALID: _plan_faults,
    Signal.REVISION_CHANGED: _by_itself("every route gives the canary 0%"),
    Signal.REVISION_CONTINUES: _by_itself("the evidence of the new revision is there"),
    Signal.NEW_REVISION: _by_itself("the new run is looked at"),
    Signal.NOT_SWAPPED: _NOT_SWAPPED,
    Signal.RUN_OVER: _after_the_end,
    Signal.PLAN_CHANGED: _PLAN_EDITED,
    Signal.ROUTE_CLAIMED: _by_itself("the older launch is over, or is deleted"),
    Signal.ROUTE_UNUSABLE: _by_itself("the route is as the plan says"),
    Signal.DRIFT: _drifted,
    Signal.FLEET_STOPPED: _fleet_stopped,
    Signal.HOLD_ASKED: _hold_taken_away,
    Signal.HELD_BREACH: _held_for_good,
    Signal.CHECKPOINT_FAILED: _held_for_good,
    Signal.BLIND: _BLIND,
    Signal.STARTING: _by_itself("the first phase is looked at"),
    Signal.WINDOW_CLOSED: _window,
    Signal.SCHEDULED: _scheduled,
    Signal.PREFLIGHT_MOVED: _scheduled,
    Signal.PREFLIGHT_LATE: _scheduled,
    Signal.PREFLIGHT_OPEN: _scheduled,
    Signal.NOT_READY: _by_itself("what is not ready is"),
    Signal.NOT_IN_FORCE: _by_itself("the gateway has taken the weight over"),
    Signal.NEXT_TARGET: _by_itself("the weight of that target is in force"),
    Signal.STEP_UNDECIDED: _undecided,
    Signal.STEP_NOT_DONE: _step_open,
    Signal.STEP_APPROVAL: _approval,
    Signal.STEP_DONE: _by_itself("the next step's weight is in force"),
    Signal.GATE_MOVED: _gate_open,
    Signal.ESCALATED: _held_for_good,
    Signal.GATE_FAILED: _held_for_good,
    Signal.GATE_UNDECIDED: _undecided,
    Signal.DELIVERABLES_MISSING: _deliverables,
    Signal.GATE_OPEN: _gate_open,
    Signal.GATE_APPROVAL: _approval,
    Signal.PHASE_PASSED: _by_itself("the next phase is looked at"),
    Signal.PHASE_BEGINS: _by_itself("its first weight is in force"),
    Signal.PHASE_ENTERED: _by_itself("the phase is looked at"),
    Signal.NOT_RETURNED: _not_returned,
    Signal.RETURN: _by_itself("every route gives stable all traffic"),
    Signal.LAUNCH_PASSED: _after_the_end,
}
"""What would change where a launch stands, by the reason that it stands there for."""


def _changes(here: _Here) -> Iterator[Change]:
    status = here.status
    if status.state is State.ROLLED_BACK:
        yield from _after_the_end(here)
        return
    if status.state is State.SUCCEEDED:
        if status.reason == Signal.NOT_SWAPPED.value:
            yield from _NOT_SWAPPED
        yield from _after_the_end(here)
        yield from _harm(here)
        return
    if status.state is State.ROLLING_BACK:
        told = CHANGES[_signal(status) or Signal.LOWERING]
        yield from told if isinstance(told, tuple) else _ENDS_AT_ZERO
        return
    signal = _signal(status)
    if signal is not None:
        told = CHANGES[signal]
        yield from told if isinstance(told, tuple) else told(here)
    else:
        yield Change(
            "a controller looks at it", "its first run starts" if here.faults is None else "it says the faults"
        )
    if here.faults is not None and status.reason != Signal.PLAN_INVALID.value:
        yield from _plan_faults(here)
    if not here.under_way:
        if status.run is None and "hold" not in here.annotations:
            yield Change("somebody says hold", "it does not start while that is there", Say("hold"))
        return
    if status.hold is not None and status.reason != status.hold.reason:
        yield from _held_for_good(here)
    yield from _harm(here)
    if "hold" not in here.annotations and status.hold is None:
        yield Change("somebody says hold", "nothing is raised while that is there", Say("hold"))
    yield Change("somebody says rollback", "the canary goes to 0% everywhere; final for this run", Say("rollback"))
    yield Change("the plan gets a new revision", _of_new_revision(here))


def _acknowledged(here: _Here) -> Iterator[Change]:
    """Who hears of it next, where nobody has answered yet."""
    contacts = here.plan.contacts if here.plan is not None else ()
    coming = [
        (alarm.since + level.after, level.role)
        for alarm in here.status.alarms
        if alarm.acknowledged_at is None and here.now < over_at(alarm, here.status)
        for level in levels(alarm, contacts)
        if alarm.since + level.after > here.now
    ]
    if coming:
        at, role = min(coming)
        then = f"nobody else is told of what is firing; else {role} is, {format_date(at)}"
        yield Change("somebody says ack", then, Say("ack"))


def _signal(status: Status) -> Signal | None:
    return Signal(status.reason) if status.reason in list(Signal) else None


def _of_new_revision(here: _Here) -> str:
    if here.running is not None and not here.running.restarts:
        return f"phase {here.running.name} goes on with it, on new evidence"
    if any(target.weight for target in here.status.targets):
        return "the canary goes to 0% first, then a new run starts"
    return "a new run starts with it"


def _harm(here: _Here) -> Iterator[Change]:
    phase, status = here.phase, here.status
    if phase is None or not any(target.weight for target in status.targets):
        return
    if status.state is State.SUCCEEDED and not _watched(here):
        return
    for guardrail in phase.guardrails:
        if not guardrail.enforce:
            continue
        then = "it is held there"
        if guardrail.on_breach == "rollback":
            then = "the canary goes to 0% " + ("in that target" if guardrail.alone else "everywhere")
        yield Change(f"it is proven that {guardrail.criterion.key} does not hold", f"{then}, at once")


def _watched(here: _Here) -> bool:
    ended = here.status.ended_at
    return here.plan is not None and ended is not None and here.now - ended <= here.plan.watch_after


# What comes next.


def _comes(here: _Here) -> tuple[Coming, ...]:
    """What would happen if all stays as it is: first what stands still, then what has a time, in order."""
    still = tuple(_standing(here))
    timed = sorted(_timed(here), key=lambda coming: coming.at or 0.0)
    return (*still, *timed)[:MOST_NEXT]


def _standing(here: _Here) -> Iterator[Coming]:
    status = here.status
    if status.state is State.ROLLED_BACK:
        yield Coming(None, "nothing: the run is over and the canary stays at 0%")
    elif status.state is State.SUCCEEDED:
        yield Coming(None, f"nothing is raised any more: the canary keeps {here.weights()}")
    elif status.state is State.INVALID or (here.faults is not None and status.run is None):
        yield Coming(None, "nothing, until the plan has no faults")
    elif status.state is State.ROLLING_BACK:
        change = status.reason in (Signal.REVISION_CHANGED.value, Signal.NEW_REVISION.value)
        yield Coming(
            None, "the canary goes to 0% everywhere; then " + ("a new run starts" if change else "the run is over")
        )
    elif status.run is None:
        yield Coming(None, "a controller looks at it and starts its first run")
    elif status.state is State.HELD:
        yield Coming(None, f"nothing is raised: the canary stays at {here.weights()}, and guardrails still lower it")
    elif status.reason in (Signal.STEP_APPROVAL.value, Signal.GATE_APPROVAL.value):
        yield Coming(None, f"it waits as long as it takes; the canary stays at {here.weights()}")
    elif status.reason == Signal.NOT_RETURNED.value:
        yield Coming(None, f"it waits for the stable pods; the canary keeps {here.weights()}")
    elif status.intent is not None:
        weights = ", ".join(f"{name} {format_weight(weight)}" for name, weight in status.intent.weights.items())
        verb = "raised to" if status.intent.kind == "raise" else "lowered to"
        yield Coming(None, f"the canary is {verb} {weights}; when that is in force, the evidence starts")


def _timed(here: _Here) -> Iterator[Coming]:
    status, now = here.status, here.now
    if status.state is State.SUCCEEDED and here.plan is not None and status.ended_at is not None:
        if _watched(here):
            yield Coming(status.ended_at + here.plan.watch_after, "the guardrails of the last phase end")
        return
    if here.line is None or not here.under_way:
        return
    if here.running is not None:
        yield from _of_the_step(here, here.running)
        yield from _of_the_gate(here, here.running)
    waits = status.state is State.HELD or any(wait.kind == "people" and wait.asked for wait in _waits(here))
    for row in here.line.phases:
        due = [each for each in row.checkpoints if row.begun and each.state == "to come" and (each.at or 0.0) >= now]
        for checkpoint in due[:_NEXT_CHECKPOINTS]:
            yield Coming(checkpoint.at, f"checkpoint {format_duration(checkpoint.after)} of {row.name}")
        once = ", once it goes on" if waits else ""
        if row.passes is not None and not row.passed and row.begun:
            yield Coming(max(row.passes, now), f"phase {row.name} has passed{once}", earliest=True)
        if row.passes is not None and row.number == len(here.line.phases) and here.faults is None:
            yield Coming(max(row.passes, now), f"{_success(here)}{once}", earliest=True)
        if row.begun or row.start is None:
            continue
        if row.preflight_opens is not None and row.preflight_opens > now:
            yield Coming(row.preflight_opens, f"go or no-go of {row.name} is asked for")
        after = f" with {format_weight(row.steps[0].weight)}" if row.steps else ""
        yield Coming(row.start, f"phase {row.name} begins{after}{once}", earliest=True)
        if here.coming is not None and row.name == here.coming.name:
            yield from _not_ready(here, here.coming)
    for closed in here.line.closed:
        if closed.start > now:
            yield Coming(closed.start, f"no raises from then on: {closed.why}")
            break


def _success(here: _Here) -> str:
    if here.plan is not None and here.plan.on_success == "return":
        return "the launch succeeds: the traffic goes back to stable, when its pods run the new revision"
    return "the launch succeeds"


def _not_ready(here: _Here, coming: Phase) -> Iterator[Coming]:
    if coming.preflight is None or not any(wait.kind == "people" for wait in _of_coming(here, coming)):
        return
    late = not_ready_at(coming, here.status, coming_since(here.status))
    move = next((move for move in here.status.moves if move.phase == coming.name), None)
    if late > here.now:
        then = outcome_words(coming.preflight.on_not_ready, move.times if move is not None else 0)
        yield Coming(late, f"not ready by then, phase {coming.name} does what onNotReady says: {then}")


def _of_the_step(here: _Here, phase: Phase) -> Iterator[Coming]:
    status, ends = here.status, _step_ends(here, phase)
    if ends is None or status.state is State.HELD:
        return
    step = phase.steps[status.step - 1]
    if not here.last_step:
        weight = format_weight(phase.steps[status.step].weight)
        earliest = max(ends, here.now)
        yield Coming(earliest, f"step {status.step + 1} of {len(phase.steps)} at {weight}", earliest=True)
    if any(item.verdict == Verdict.UNDECIDED.value for item in status.criteria):
        held = ends - step.lasts - settle_of(phase) + patience(step.lasts)
        if held > here.now and not here.last_step:
            yield Coming(held, "still undecided by then, it is held until somebody says retry")


def _of_the_gate(here: _Here, phase: Phase) -> Iterator[Coming]:
    gate, status = phase.gate, here.status
    if gate is None:
        return
    due = _due(here, phase)
    at = None if due is None else max(due, here.now)
    held = status.hold is not None
    if due is None or due > here.now:
        yield Coming(at, f"gate of {phase.name} is judged", earliest=held or gate_due(phase, status) is None)
    if held:
        return
    used = status.gate.used if status.gate is not None else {}
    named = {criterion.key for criterion in gate.criteria}
    said = [item for item in status.criteria if item.criterion in named]
    missing = [item for item in phase.deliverables if f"{phase.name}/{item}" not in status.done]
    for which, outcome, item in _gate_as_it_stands(said, gate.on_fail, gate.on_undecided, gate.on_no_data):
        then = outcome_words(outcome, used.get(which, 0))
        yield Coming(at, f"as it stands, the gate of {phase.name} would not pass ({_short(item)}): {then}")
        return
    if missing:
        then = outcome_words(gate.on_fail, used.get("fail", 0))
        yield Coming(at, f"without {', '.join(missing)}, the gate of {phase.name} would not pass: {then}")


def _gate_as_it_stands(
    said: list[CriterionStatus], fail: Outcome, undecided: Outcome, no_data: Outcome
) -> Iterator[tuple[str, Outcome, CriterionStatus]]:
    for verdict, which, outcome in (
        (Verdict.FAIL.value, "fail", fail),
        (Verdict.NO_DATA.value, "noData", no_data),
        (Verdict.UNDECIDED.value, "undecided", undecided),
    ):
        for item in said:
            if item.verdict == verdict:
                yield which, outcome, item


def _short(item: CriterionStatus) -> str:
    return f"{_place_of(item)}: {item.verdict}"


_STANDS = {
    Verdict.FAIL.value: "fails",
    Verdict.NO_DATA.value: "has no data",
    Verdict.UNDECIDED.value: "is undecided",
}


def _place_of(item: CriterionStatus) -> str:
    return f"{item.criterion} in {item.target}" if item.target else item.criterion


def outcome_words(outcome: Outcome, used: int) -> str:
    """What follows when something does not pass and was extended or rescheduled ``used`` times already."""
    kind = outcome.after(used)
    if kind in ("extend", "reschedule"):
        verb = "is extended" if kind == "extend" else "is rescheduled"
        return f"it {verb} by {format_duration(outcome.by)} ({used + 1} of {outcome.times}), then {outcome.then}"
    words = {
        "hold": "it is held until somebody acts",
        "rollback": "the canary goes to 0% everywhere",
        "escalate": "people are called, and it is held",
    }
    return words[kind]


# What moved.


def _moves(here: _Here) -> Iterator[Moved]:
    rows = here.line.phases if here.line is not None else ()
    decided = {move.phase: move for move in here.status.moves}
    for row in rows:
        phase = here.plan.phases[row.number - 1] if here.plan is not None else None
        promised = phase.start if phase is not None else None
        move = decided.get(row.name)
        if move is not None and (move.by or move.start is not None):
            yield Moved(row.name, promised, row.start, move.why or "moved")
        elif row.late and row.start is not None:
            late = format_duration(row.late)
            if row.begun:
                yield Moved(row.name, promised, row.start, f"{row.name} began {late} late")
            else:
                why = f"{row.name} begins {late} late at the earliest, if what is before it passes now"
                yield Moved(row.name, promised, row.start, why, expected=True)

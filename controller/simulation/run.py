"""A launch in virtual time: the same questions, the same decisions, on readings that a scenario makes.

Time jumps. Whatever is known to happen (a row of the scenario, a person's deed, an instant of the plan) is hit to the
second; after a change it is looked at every ten seconds, then ever less often, and the rows in between are summed up.
Where such a jump ends in a decision, it is taken back and halved until the tick is found at which it is made: so a
decision stands at its tick, and only the evidence of long quiet stretches is coarser than in the daemon.
"""

from __future__ import annotations

import copy
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from math import ceil, inf
from typing import Any, Literal, NamedTuple, Protocol

from controller.core.alarms import over_at
from controller.core.alerts import Alert, Identity, alerts_of, levels
from controller.core.calendar import DAYS, opening
from controller.core.decide import Decision, decide
from controller.core.evidence import NOT_ASKED, Criterion, Fold
from controller.core.facts import PATIENCE_FACTOR, PATIENCE_WITHOUT_FOR, Judged
from controller.core.observation import IntentFate, Observation, TargetView
from controller.core.overrides import VERBS, read_override
from controller.core.plan import Contact, InvalidPlanError, Phase, Plan, parse, stood_on
from controller.core.questions import (
    coming_phase,
    criteria_of,
    fold_key,
    preflight_of,
    questions,
    waits_to_return,
    watched,
)
from controller.core.report import retreated, with_evidence
from controller.core.schedule import coming_since, instants, looks_of, not_ready_at, shift_of
from controller.core.series import Reading, RecordedForm, Series, Subject
from controller.core.status import UNDER_WAY, OverrideRecord, State, Status, read_status, write_status
from controller.core.terms import FREE, Terms
from controller.core.units import format_count, format_instant
from controller.core.words import measured, sentence
from controller.core.world import LaunchKey
from controller.simulation.scenario import Deed, Scenario
from controller.simulation.traffic import Traffic

TICK = 10
"""Seconds between two looks of the daemon."""
FOLLOW_UP = 1.0
"""Seconds after which the daemon looks again at what it has just written: the cluster tells it at once."""
SHARE_OF_QUIET = 4
"""A jump is at most this part of the time for which nothing has changed."""
LONGEST_JUMP = 3600
QUIET_SECONDS = 2 * 86400.0
"""After the last thing that is known to happen, a launch that decides nothing for so long waits for ever."""
AHEAD_SECONDS = 600.0
"""So long before its first instant a launch with dates is created."""
LONGEST = 2 * 366 * 86400.0
DAY = 86400.0
WITHOUT_DATES = 1_735_689_600.0
"""2025-01-01T00:00:00Z: where a plan and a scenario that name no instant begin."""
ROUTE_SETTLE = 10.0


@dataclass(frozen=True, slots=True)
class Made:
    """One decision that changed something, and where the launch stood after it. ``weights`` are thousandths."""

    at: float
    state: str
    phase: str
    step: int
    signal: str
    reason: str
    weights: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Told:
    """Somebody begins to be told something, or it is over. ``role`` is empty and ``level`` 0 where the plan names nobody."""

    at: float
    alert: str
    role: str
    level: int
    event: Literal["fires", "resolves"]
    target: str = ""
    summary: str = ""


@dataclass(frozen=True, slots=True)
class Looked:
    """One look, decisive or not, for the picture: the verdicts by target and criterion."""

    at: float
    verdicts: Mapping[str, str]


@dataclass(slots=True)
class Outcomes:
    """What a simulation gave. ``coarsest`` is the longest span, in seconds, whose rows were summed up."""

    outcome: str = ""
    ended: str = ""
    ended_at: float = 0.0
    began_at: float = 0.0
    decisions: list[Made] = field(default_factory=list)
    checkpoints: list[dict[str, Any]] = field(default_factory=list)
    gates: list[dict[str, Any]] = field(default_factory=list)
    alerts: list[Told] = field(default_factory=list)
    weights: list[tuple[float, str, int]] = field(default_factory=list)
    looks: list[Looked] = field(default_factory=list)
    coarsest: int = 0
    ticks: int = 0

    def document(self) -> dict[str, Any]:
        """The same as JSON-ready data."""
        return {
            "outcome": self.outcome,
            "ended": self.ended,
            "decisions": [
                {
                    "time": moment(made.at),
                    "state": made.state,
                    "phase": made.phase,
                    "step": made.step,
                    "signal": made.signal,
                    "reason": made.reason,
                    "weights": {name: percent(weight) for name, weight in made.weights.items()},
                }
                for made in self.decisions
            ],
            "checkpoints": self.checkpoints,
            "gates": self.gates,
            "alerts": [
                {
                    "time": moment(told.at),
                    "alert": told.alert,
                    **({"target": told.target} if told.target else {}),
                    "role": told.role,
                    "level": told.level,
                    "event": told.event,
                }
                for told in self.alerts
            ],
        }


class Witness(Protocol):
    """Who is told of every write as it is stored, in order."""

    def launch(
        self, at: float, document: Mapping[str, Any], annotations: Mapping[str, str], status: Mapping[str, Any]
    ) -> None:
        """The Launch as it is from ``at`` (epoch seconds) on: its manifest, its annotations without prefix, its status."""

    def weight(self, at: float, target: str, weight: int, cause: str) -> None:
        """A route's canary has ``weight`` thousandths from ``at`` on; ``cause`` is the epoch and the decision's id."""


def _told(at: float, alert: Alert, event: Literal["fires", "resolves"]) -> Told:
    return Told(at, alert.name, alert.role, alert.level, event, alert.target, alert.summary)


def moment(at: float) -> str:
    """An instant without a fraction that says nothing: ``2025-11-01T14:00:00Z``."""
    return format_instant(at).replace(".000Z", "Z")


def percent(weight: int) -> float | int:
    """Thousandths as percent, whole where they are whole."""
    return weight // 10 if weight % 10 == 0 else weight / 10


def simulate(
    document: Mapping[str, Any],
    plan: Plan,
    scenario: Scenario,
    *,
    until: float = LONGEST,
    progress: Callable[[float, float], None] | None = None,
    recorded: RecordedForm | None = None,
    terms: Terms = FREE,
    quiet: float = QUIET_SECONDS,
    share: float = SHARE_OF_QUIET,
    witness: Witness | None = None,
) -> Outcomes:
    """Run the plan of this Launch manifest in the scenario's world to its end, or for ``until`` seconds.

    ``progress`` is told where it is and where it will end at the latest as far as is known (both epoch seconds).
    ``terms`` are what the plan was read with. ``quiet`` is for how many seconds nothing must happen before a launch
    counts as waiting for ever. A jump is at most one ``share``-th of the time for which nothing has changed: less is
    faster, and coarser.
    """
    simulation = _Simulation(document, plan, scenario, until, recorded or RecordedForm(), terms, quiet, share, witness)
    return simulation.run(progress or _nobody)


def _nobody(_now: float, _end: float) -> None:
    """Nobody wants to know how far it is."""


def first_start(plan: Plan, scenario: Scenario) -> float:
    """When the launch starts first, in epoch seconds: what the scenario's offsets count from."""
    start = plan.phases[0].start
    if start is not None:
        return start
    if scenario.begins is not None:
        return scenario.begins
    said = [moment.seconds for moment in scenario.moments() if moment.fixed]
    planned = [instant - DAY for instant in instants(plan, Status())]
    return min(said or planned or [WITHOUT_DATES])


def begin_of(plan: Plan, scenario: Scenario) -> float:
    """When the Launch is created: before its first preflight, and before the first thing that somebody does."""
    if scenario.begins is not None:
        return scenario.begins
    first = plan.phases[0]
    start = first_start(plan, scenario)
    known = [start if first.preflight is None else start - first.preflight.opens]
    if first.start is not None:
        known = [known[0] - AHEAD_SECONDS]
    return min([*known, *(deed.at.at(start) for deed in scenario.people)])


class _Simulation:
    def __init__(
        self,
        document: Mapping[str, Any],
        plan: Plan,
        scenario: Scenario,
        until: float,
        recorded: RecordedForm,
        terms: Terms,
        quiet: float,
        share: float,
        witness: Witness | None,
    ) -> None:
        self.document = copy.deepcopy(dict(document))
        self.plan: Plan | InvalidPlanError = plan
        self.scenario = scenario
        self.recorded = recorded
        self.terms = terms
        self.witness = witness
        self.quiet, self.share = quiet, share
        self.start = first_start(plan, scenario)
        self.now = self.begin = begin_of(plan, scenario)
        self.limit = min(self.begin + until, inf if scenario.ends is None else scenario.ends)
        self.windows = _windows(plan)
        self.intervals = {criterion.series.interval for phase in plan.phases for criterion in criteria_of(phase)}
        self.traffic = Traffic(scenario, self.start, self.begin, self.windows)
        self.status, self.written = Status(), dict[str, Any]()
        self.generation = 1
        self.running: Plan | None = None
        self.running_of: Mapping[str, Any] | None = None
        self.progress: tuple[object, ...] = ()
        self.progressed_at = self.begin
        self.folds: Mapping[str, Fold] = {}
        self.annotations: dict[str, str] = {}
        self.weights = {target.name: 0 for target in plan.targets}
        self.message = ""
        self.deeds = sorted(scenario.people, key=lambda deed: deed.at.at(self.start))
        self.moments = sorted({moment.at(self.start) for moment in scenario.moments()} | {self.begin})
        self.down = _joined(self._outages("controller"))
        self.unalerted = self._outages("alertmanager")
        self.longest = float(LONGEST_JUMP)
        self.found = Outcomes(began_at=self.begin)
        # What the process knows that decides.
        self.process_since = self.begin
        self.epoch: int | None = None
        self.fate: IntentFate = "none"
        self.intent_since = self.raised_at = 0.0
        self.in_force_of: tuple[object, ...] = ()
        self.in_force_since: float | None = None
        self.gate_judged_at: float | None = None
        # Who is told of what.
        self.contacts: tuple[Contact, ...] = ()
        self.firing: dict[Identity, Alert] = {}
        # What the calendar says of where the launch stands: to hit it, and to know what is waited for.
        self.calendar: tuple[float, ...] = ()
        self.awaited: tuple[float, ...] = ()

    def _outages(self, what: str) -> list[tuple[float, float]]:
        spans = (
            (outage.begins.at(self.start), outage.lasts) for outage in self.scenario.outages if outage.what == what
        )
        return [(begin, begin + lasts) for begin, lasts in spans]

    # Time

    def run(self, progress: Callable[[float, float], None]) -> Outcomes:
        """Jump from look to look until nothing can change any more."""
        changed = self.begin
        self._commit(self.begin, self._look(self.begin, coarse=False, tail=True))
        suspect: float | None = None
        foreseen = False
        jump = float(TICK)
        while not self._over():
            if self.now >= self.limit:
                self._end(f"stopped at {moment(self.now)}, waiting for {self._waiting()}")
                break
            progress(self.now, max(self.moments[-1], *self.calendar[-1:], self.now))
            jump = min(jump, max(TICK, (self.now - changed) / self.share), self.longest)
            if suspect is not None:
                # What was known to happen then is most often why.
                jump = max(TICK, suspect - self.now - TICK if foreseen else (suspect - self.now) / 2)
            then, known = self._next(jump)
            coarse = then - self.now > TICK and not known.back
            decision = self._look(then, coarse=coarse, tail=not coarse or known.due, asked=not known.told)
            if decision.decisive and coarse:
                suspect, foreseen = then, known.due
                continue
            if coarse:
                self.found.coarsest = max(self.found.coarsest, round(then - self.now))
            before = self.now
            self._commit(then, decision)
            if suspect is not None and (decision.decisive or then >= suspect):
                suspect = None
            happened = bisect_right(self.moments, then) > bisect_right(self.moments, before)
            if decision.decisive or happened:
                changed, jump = then, float(TICK)
            elif suspect is None:
                jump *= 2
        return self.found

    def _next(self, jump: float) -> tuple[float, _Reached]:
        """The next look, after ``jump`` seconds or sooner; a controller that is down looks when it is back."""
        told = self.now + FOLLOW_UP if self.raised_at == self.now else inf
        due = min(self._instants(), default=inf)
        # On the grid of the rows, so that the newest row is as new as it can be.
        tick = max((self.now + jump) // TICK, self.now // TICK + 1) * TICK
        then = min(told, due, tick, self.limit)
        for begin, end in self.down:
            if begin <= then < end:
                last = ceil(begin / TICK - 1) * float(TICK)
                back = last <= self.now
                return (end, _Reached(back=True)) if back else (last, _Reached())
        return then, _Reached(due=then == due, told=then == told and then < min(due, tick))

    def _instants(self) -> Iterator[float]:
        """Instants after now at which something is known to happen."""
        for known in (self.moments, self.calendar):
            place = bisect_right(known, self.now)
            yield from known[place : place + 1]
        plan, status = self.plan, self.status
        if isinstance(plan, Plan) and (plan.spec.windows or plan.spec.freezes):
            changes = opening(plan.spec.windows, plan.spec.freezes, plan.spec.time_zone, self.now).changes_at
            yield from () if changes is None else _later(self.now, changes)
        phase = self.running.phases[0] if self.running else None
        since = [target.in_force_at for target in status.targets if target.in_force_at is not None]
        if phase is not None and since and status.step:
            lasts = phase.steps[status.step - 1].lasts
            yield from _later(self.now, ceil((max(since) + lasts) / TICK) * float(TICK))

    def _plan_calendar(self) -> None:
        """What the calendar says from now on; asked again whenever the status or the plan is another one."""
        plan, status = self.plan, self.status
        lapses = [
            said.until
            for verb, text in self.annotations.items()
            if verb in VERBS and (said := read_override(verb, text)).until is not None
        ]
        if not isinstance(plan, Plan):
            self.calendar, self.awaited = tuple(sorted(lapses)), ()
            return
        known = {*lapses, *instants(plan, status)}
        if status.ended_at is not None:
            known.add(status.ended_at + plan.watch_after + FOLLOW_UP)
        phase = self.running.phases[0] if self.running else None
        looked_at = status.state in (*UNDER_WAY, State.SUCCEEDED) and status.phase_started_at is not None
        windows = _thresholds(phase) if phase is not None and looked_at else ()
        self.longest = min([LONGEST_JUMP, *(max(TICK, window / 2) for window in windows)])
        waiting = coming_phase(plan, status, phase) or phase or plan.phases[0]
        since = coming_since(status)
        if waiting.preflight is not None:
            known.add(not_ready_at(waiting, status, since))
        self.calendar = tuple(sorted(known))
        self.awaited = tuple(sorted({*lapses, *self._waits_for(plan, waiting)}))

    def _waits_for(self, plan: Plan, phase: Phase) -> Iterator[float]:
        """The instants of the calendar that can still change something where the launch stands."""
        status = self.status
        if status.hold is not None or status.state not in (*UNDER_WAY, State.PENDING):
            return
        freezes = {edge for freeze in plan.spec.freezes for edge in (freeze.from_, freeze.to)}
        yield from set(instants(replace(plan, phases=(phase,)), status)) - freezes
        yield from (freeze.to for freeze in plan.spec.freezes if freeze.from_ <= self.now)

    def _over(self) -> bool:
        status = self.status
        ahead = self.now < self.moments[-1]
        if not ahead and status.state is State.ROLLED_BACK:
            self._end(self.message or "rolled back")
            return True
        if not ahead and status.state is State.SUCCEEDED and status.ended_at is not None:
            if self.now > status.ended_at + (self.plan.watch_after if isinstance(self.plan, Plan) else 0.0):
                self._end(self.message or "all phases passed")
                return True
            return False
        # That a window opens and closes is no progress.
        last = max([self.progressed_at, self.moments[-1], *self.awaited[-1:]])
        if self.now - last < max(self.quiet, self._longest_wait()) + self._period():
            return False
        self._end(f"waiting for {self._waiting()}")
        return True

    def _period(self) -> float:
        """After so many seconds each window has been open once."""
        windows = self.plan.spec.windows if isinstance(self.plan, Plan) else ()
        if not windows:
            return 0.0
        return DAY if all(len(window.days) == len(DAYS) for window in windows) else len(DAYS) * DAY

    def _longest_wait(self) -> float:
        """After so many seconds without a decision the patience of every rung is over."""
        phase = self.running.phases[0] if self.running else None
        if phase is None:
            return 0.0
        lasts = max([PATIENCE_WITHOUT_FOR / PATIENCE_FACTOR, *(step.lasts for step in phase.steps)])
        windows = [criterion.window for criterion in criteria_of(phase) if criterion.plain]
        return (PATIENCE_FACTOR + 1) * max([lasts, *windows])

    def _waiting(self) -> str:
        return self.message or self.status.next or self.status.state.value

    def _end(self, ended: str) -> None:
        self.found.outcome = self.status.state.value
        self.found.ended = ended
        self.found.ended_at = self.now

    # One look

    def _look(self, at: float, *, coarse: bool, tail: bool, asked: bool = True) -> Decision:
        """What would be decided at ``at``; nothing is changed by asking. Without ``asked`` Prometheus is left alone."""
        self.found.ticks += 1
        plan, generation, annotations = self._as_of(at)
        status, fresh = self.status, self._since(at) != self.process_since
        fate: IntentFate = self.fate
        if fresh and status.intent is not None and status.intent.kind == "raise":
            fate = "fenced"
        targets = self.running.targets if self.running else plan.targets if isinstance(plan, Plan) else ()
        seen = Observation(
            now=at,
            namespace=self.document["metadata"].get("namespace") or "default",
            name=self.document["metadata"]["name"],
            generation=generation,
            plan=plan,
            running=self.running,
            status=status,
            annotations=annotations,
            targets=tuple(self._view(target.name, at, plan) for target in targets),
            epoch=status.epoch + 1 if fresh or self.epoch is None else self.epoch,
            folds=self.folds,
            awake=None if fresh or self.in_force_since is None else at - self.in_force_since,
            intent_age=at - self.intent_since if fate == "written" else 0.0,
            intent_fate=fate,
            route_settle=ROUTE_SETTLE,
            watched=at - self._since(at),
            alerting=self._alerting(plan, at),
            gate_judged_at=None if fresh else self.gate_judged_at,
        )
        return decide(self._asked(seen, coarse=coarse, tail=tail) if asked else seen)

    def _since(self, at: float) -> float:
        """Since when the process that looks at ``at`` has been there."""
        return max([self.begin, *(end for _, end in self.down if end <= at)])

    def _alerting(self, plan: Plan | InvalidPlanError, at: float) -> str:
        down = any(begin <= at < end for begin, end in self.unalerted)
        return "Alertmanager does not answer" if down and preflight_of(plan, self.status, at) is not None else ""

    def _as_of(self, at: float) -> tuple[Plan | InvalidPlanError, int, dict[str, str]]:
        """The plan and its annotations after all that people do up to ``at``."""
        plan, generation, annotations, document = self.plan, self.generation, dict(self.annotations), self.document
        for deed in self._deeds(at):
            annotations = _annotated(annotations, deed)
            if deed.edit:
                document = {**document, "spec": _merged(document["spec"], deed.edit)}
                generation += 1
                try:
                    plan = parse(document, self.recorded, self.terms)
                except InvalidPlanError as invalid:
                    plan = invalid
        return plan, generation, annotations

    def _deeds(self, at: float) -> Iterator[Deed]:
        for deed in self.deeds:
            if deed.at.at(self.start) > at:
                return
            yield deed

    def _view(self, name: str, at: float, plan: Plan | InvalidPlanError) -> TargetView:
        self.traffic.join(name, self.begin)
        weight, versions = self.weights.get(name, 0), None
        stable = self.traffic.ready(name, "stable", at)
        if isinstance(plan, Plan) and waits_to_return(plan, self.status):
            versions = {self.traffic.version(name, at, plan.revision): stable} if stable else {}
        return TargetView(
            name=name,
            weight=weight,
            takes_traffic=weight > 0,
            accepted=True,
            canary_ready=self.traffic.ready(name, "canary", at),
            stable_ready=stable,
            template=self.traffic.template(name, at),
            versions=versions,
        )

    def _asked(self, seen: Observation, *, coarse: bool, tail: bool) -> Observation:
        """The observation with its readings; where rows are summed up, the folds are told how many instants they are."""
        cuts: list[int] | None = None
        if coarse:
            # A fold's own rows only; and the first row of pass evidence is its anchor, never part of a longer one.
            edges = {fold.last for fold in seen.folds.values()}
            oldest = min(edges, default=0)
            for since in {fold.since for fold in seen.folds.values()}:
                edges.update((since, *(since - interval for interval in self.intervals)))
            edges.update(self._looks())
            cuts = sorted(edge for edge in edges if edge > oldest)
        readings: dict[Subject, Reading] = {}
        spans: dict[tuple[str, Series], dict[float, int]] = {}
        for subject, after in questions(seen).items():
            readings[subject], made = self.traffic.reading(subject, after, seen.now, cuts, tail=tail)
            if coarse and subject.track != "stable" and any(count > 1 for count in made.values()):
                spans[subject.target, subject.series] = made
        folds = self._told(seen, spans) if spans else seen.folds
        return replace(seen, readings=readings, folds=folds)

    def _looks(self) -> Iterator[int]:
        """The instants whose rows are kept by themselves: those at which values with a standard error are looked at."""
        phase = self.running.phases[0] if self.running else None
        if phase is None:
            return
        looks = looks_of(phase, self.status)
        planned = (*looks.checkpoints, *(() if looks.gate is None else (looks.gate,)))
        for interval in {criterion.series.interval for criterion in criteria_of(phase) if criterion.looks}:
            yield from (ceil(at / interval) * interval for at in planned)

    def _told(self, seen: Observation, spans: Mapping[tuple[str, Series], Mapping[float, int]]) -> dict[str, Fold]:
        """A row counts as one instant to the fold; those that it stands for besides are added here."""
        folds = dict(seen.folds)
        for criterion, name in watched(self.running.phases[0], self.status) if self.running else ():
            key = fold_key(name, criterion)
            made, fold = spans.get((name, criterion.series)), folds.get(key)
            if made is None or fold is None:
                continue
            besides = sum(count - 1 for end, count in made.items() if end > fold.last)
            counted = besides if fold.since and fold.pass_anchored else 0
            folds[key] = replace(fold, instants=fold.instants + besides, pass_instants=fold.pass_instants + counted)
        return folds

    # What follows from it

    def _commit(self, at: float, decision: Decision) -> None:
        self._escalate(at)
        self._do(at)
        if self._since(at) != self.process_since:
            # Another process: it has not seen the weight come into force, and has fenced what it found open.
            self.process_since, self.epoch = self._since(at), None
            self.in_force_of, self.in_force_since = (), None
            self.fate = "fenced" if self.status.intent is not None else "none"
        self.now, self.folds, self.message = at, decision.folds, decision.message
        judged_gate = decision.gate_judged_at == at
        self.gate_judged_at = self._judged(at) if judged_gate else decision.gate_judged_at
        self._note(at, decision)
        if decision.lowers:
            self._retreat(at, decision)
        elif decision.raises:
            self._store(at, with_evidence(decision))
            for name, weight in decision.weights.items():
                self._set(name, weight, at, decision)
            self.fate, self.intent_since, self.raised_at = "written", at, at
        elif decision.decisive or decision.alarmed or decision.changed:
            self._store(at, with_evidence(decision))
        if self.status.intent is None:
            self.fate = "none"
        place = (self.status.phase, self.status.step, *(target.in_force_at for target in self.status.targets))
        if place != self.in_force_of:
            self.in_force_since = at if self.in_force_of else None
            self.in_force_of = place
        if decision.decisive:
            self._record(at, decision, judged_gate=judged_gate)
        self.contacts = decision.contacts
        self._alert(at)

    def _judged(self, at: float) -> float:
        """When the gate was judged last if it was now; in a jump that is the last of the ticks at which it was its turn."""
        before, began = self.gate_judged_at, self.status.phase_started_at
        if before is None or began is None or before < began or self.running is None:
            return at
        phase = self.running.phases[0]
        cadence = phase.cadence(began, at, shift_of(self.status, phase.name))
        return before + (at - before) // cadence * cadence if cadence else at

    def _do(self, at: float) -> None:
        """What people did becomes what is."""
        done = list(self._deeds(at))
        if not done:
            return
        self.plan, self.generation, self.annotations = self._as_of(at)
        for deed in done:
            if deed.edit:
                self.document = {**self.document, "spec": _merged(self.document["spec"], deed.edit)}
        self.deeds = self.deeds[len(done) :]
        if isinstance(self.plan, Plan):
            for target in self.plan.targets:
                self.weights.setdefault(target.name, 0)
                self.traffic.join(target.name, self.begin)
        self._plan_calendar()
        self._tell(at)

    def _store(self, at: float, status: Status) -> None:
        """As it is written and read back, so that nothing but what status can hold decides the next look."""
        self.written = write_status(status)
        self.status = read_status(self.written)
        self.epoch = self.status.epoch
        stands_on = self.status.run.stands_on if self.status.run else None
        if stands_on != self.running_of:
            self.running_of = stands_on
            self.running = self._standing(stands_on)
        progress = tuple(getattr(self.status, name) for name in _PROGRESS)
        if progress != self.progress:
            self.progress, self.progressed_at = progress, at
        self._plan_calendar()
        self._tell(at)

    def _tell(self, at: float) -> None:
        if self.witness is not None:
            self.witness.launch(at, self.document, self.annotations, self.written)

    def _standing(self, stands_on: Mapping[str, Any] | None) -> Plan | None:
        if stands_on is None:
            return None
        metadata = self.document["metadata"]
        try:
            return stood_on(metadata.get("namespace") or "default", metadata["name"], stands_on, self.recorded)
        except InvalidPlanError:
            return None

    def _set(self, name: str, weight: int, at: float, decision: Decision) -> None:
        self.weights[name] = weight
        self.traffic.turn(name, at, weight, self.recorded.lag)
        self.found.weights.append((at, name, weight))
        if self.witness is not None:
            self.witness.weight(at, name, weight, f"{decision.status.epoch}-{decision.id}")

    def _retreat(self, at: float, decision: Decision) -> None:
        if decision.decisive:
            self._store(at, with_evidence(decision))
        for name, weight in decision.weights.items():
            if self.weights[name] != weight:
                self._set(name, weight, at, decision)
        if not decision.withheld and decision.status.intent is not None:
            self._store(at, retreated(self.status, at))

    # What is told

    def _escalate(self, at: float) -> None:
        """What changes between two looks: nobody has answered and others are told, or it is news no longer."""
        alarms = self.status.alarms
        due = {alarm.since + level.after for alarm in alarms for level in levels(alarm, self.contacts)}
        due |= {over_at(alarm, self.status) for alarm in alarms}
        for instant in sorted(instant for instant in due if self.now < instant < at):
            # A controller that is down tells nobody; it does when it is back.
            if not any(begin <= instant < end for begin, end in self.down):
                self._alert(instant)

    def _alert(self, at: float) -> None:
        metadata = self.document["metadata"]
        key = LaunchKey(metadata.get("namespace") or "default", metadata["name"])
        firing = {alert.identity: alert for alert in alerts_of(key, self.status, at, self.contacts)}
        before, self.firing = self.firing, firing
        self.found.alerts += [_told(at, alert, "resolves") for name, alert in before.items() if name not in firing]
        self.found.alerts += [_told(at, alert, "fires") for name, alert in firing.items() if name not in before]

    def _note(self, at: float, decision: Decision) -> None:
        if any(item.verdict.problem == NOT_ASKED for item in decision.verdicts):
            return  # nothing is known of these that was not before
        verdicts = {
            fold_key(item.verdict.target, item.verdict.criterion): item.verdict.outcome.value
            for item in decision.verdicts
        }
        if not self.found.looks or self.found.looks[-1].verdicts != verdicts:
            self.found.looks.append(Looked(at, verdicts))

    def _record(self, at: float, decision: Decision, *, judged_gate: bool) -> None:
        status = decision.status
        raised = status.intent if status.intent is not None and status.intent.kind == "raise" else None
        made = Made(
            at=at,
            state=self.status.state.value,
            phase=raised.phase if raised else status.phase,
            step=raised.step if raised else status.step,
            signal=decision.signal.value,
            reason=decision.message + _unheard(decision.news),
            weights=dict(self.weights),
        )
        self.found.decisions.append(made)
        if judged_gate:
            self.found.gates.append(
                {
                    "time": moment(at),
                    "phase": status.phase,
                    "signal": decision.signal.value,
                    "reason": decision.message,
                    "criteria": _scored(item for item in decision.verdicts if item.gate),
                }
            )
        if decision.checkpoint is not None:
            score = decision.checkpoint.score
            self.found.checkpoints.append(
                {
                    "time": moment(at),
                    "phase": score.phase,
                    "after": score.after,
                    "passed": score.passed,
                    "undecided": score.undecided,
                    "failed": score.failed,
                    "criteria": _scored(decision.checkpoint.judged),
                }
            )


class _Reached(NamedTuple):
    """What a look is for: an instant that was ``due``, a write that was ``told`` about, a controller that is ``back``."""

    due: bool = False
    told: bool = False
    back: bool = False


def _unheard(news: Iterable[OverrideRecord]) -> str:
    """What somebody said and nothing came of, with why."""
    void = (record for record in news if record.present and record.outcome != "accepted")
    return "".join(f" ({record.verb} {record.outcome}: {record.message})" for record in void)


def _scored(judged: Iterable[Judged]) -> list[dict[str, str]]:
    """Each criterion once, with what it was judged on."""
    scored: dict[tuple[str, str], dict[str, str]] = {}
    for item in judged:
        verdict = item.verdict
        scored[verdict.target, verdict.criterion.key] = {
            "target": verdict.target,
            "criterion": verdict.criterion.key,
            "verdict": verdict.outcome.value,
            "value": measured(verdict),
            "limit": verdict.criterion.limit_text,
            "requests": format_count(verdict.n),
            "bad": format_count(verdict.x),
            "sentence": sentence(verdict),
        }
    return list(scored.values())


_PROGRESS = (
    *("run", "phase", "phase_started_at", "step", "targets", "intent", "hold", "gate", "grant"),
    *("moves", "approvals", "done", "checkpoints_taken", "ended_at"),
)


def _joined(spans: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
    """The spans in order, those that touch as one."""
    joined: list[tuple[float, float]] = []
    for begin, end in sorted(spans):
        if joined and begin <= joined[-1][1]:
            joined[-1] = joined[-1][0], max(joined[-1][1], end)
        else:
            joined.append((begin, end))
    return joined


def _later(now: float, *instants: float) -> Iterator[float]:
    yield from (instant for instant in instants if instant > now)


def _windows(plan: Plan) -> dict[Series, float]:
    """Over how many seconds each series is looked at by a plain rule."""
    found: dict[Series, float] = {}
    for criterion in _plain(plan):
        found[criterion.series] = max(found.get(criterion.series, 0.0), criterion.window)
    return found


def _thresholds(phase: Phase) -> Iterator[float]:
    """The windows of plain rules over counts, which chance alone may break: no look may jump over one."""
    for criterion in criteria_of(phase):
        if criterion.plain and not criterion.exact and criterion.series.kind != "value":
            yield criterion.window // TICK * TICK


def _plain(plan: Plan) -> Iterator[Criterion]:
    for phase in plan.phases:
        yield from (criterion for criterion in criteria_of(phase) if criterion.plain and not criterion.exact)


def _annotated(annotations: Mapping[str, str], deed: Deed) -> dict[str, str]:
    changed: dict[str, str | None] = {**annotations, **deed.annotations}
    return {verb: value for verb, value in changed.items() if value is not None}


def _merged(old: Any, new: Any) -> Any:
    """``new`` over ``old``: mappings by field, lists of named things by name; null removes."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        merged = {**old, **{key: _merged(old.get(key), value) for key, value in new.items()}}
        return {key: value for key, value in merged.items() if value is not None}
    if isinstance(old, list) and isinstance(new, list | tuple) and all(map(_named, (*old, *new))):
        changes = {item["name"]: item for item in new}
        kept = [_merged(item, changes.pop(item["name"], {})) for item in old]
        return [*kept, *(item for item in new if item["name"] in changes)]
    return new


def _named(item: Any) -> bool:
    return isinstance(item, Mapping) and "name" in item

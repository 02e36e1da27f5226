"""What the rungs of the ladder look at, and what can be said from it at once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import inf

from controller.core.calendar import Opening
from controller.core.evidence import NO_DATA_INTERVALS, NO_DATA_SECONDS, Criterion, Outcome, Verdict
from controller.core.incidents import UNCOUNTED
from controller.core.observation import Observation, TargetView
from controller.core.overrides import Heard
from controller.core.plan import Ending, Phase, Plan
from controller.core.schedule import gate_due
from controller.core.status import UNDER_WAY, CheckpointScore, Grant, State, Status

PATIENCE_FACTOR = 3
"""A step that stays undecided waits this many times its ``for`` before ``onUndecided`` applies."""
PATIENCE_WITHOUT_FOR = 1800.0
"""The same for a step without ``for``, in seconds."""


@dataclass(frozen=True, slots=True)
class Judged:
    """A verdict with what the plan says follows from it. ``gate`` is true for a criterion of the gate.

    ``alone``: a rollback is of this target only.
    """

    verdict: Verdict
    on_fail: Ending
    on_no_data: Ending
    enforce: bool = True
    gate: bool = False
    alone: bool = False


@dataclass(frozen=True, slots=True)
class TakenCheckpoint:
    """A checkpoint that is due: its score, what it was made of, and whether its plan says hold when one failed."""

    score: CheckpointScore
    judged: tuple[Judged, ...]
    holds: bool


@dataclass(frozen=True, slots=True)
class Facts:
    """What the rungs look at: the observation, the status after its bookkeeping, the running phase, the verdicts.

    ``coming`` is the phase that is waited for: the running phase is passed, or none has begun. ``dwelt`` is for how
    many seconds the step's weights have been in force; None: not yet. ``in_phase`` is for how many seconds the phase
    has gone on. ``opening`` says whether traffic may be raised at all now. ``cadence`` is how many seconds lie between
    two judgements of the gate. ``asked``: Prometheus was asked in this round, or nothing had to be. ``voided`` says
    which approvals were taken back in this tick, and why.
    """

    seen: Observation
    status: Status
    plan: Plan | None
    phase: Phase | None
    judged: tuple[Judged, ...]
    heard: Heard
    weights: Mapping[str, int]
    dwelt: float | None
    in_phase: float
    coming: Phase | None = None
    following: Phase | None = None
    opening: Opening = field(default_factory=lambda: Opening(open=True, why="", changes_at=None))
    cadence: float = 0.0
    checkpoint: TakenCheckpoint | None = None
    asked: bool = True
    voided: str = ""

    @property
    def watching(self) -> bool:
        """Whether the guardrails have a consequence now."""
        status = self.status
        plan = self.plan or self.seen.running
        if status.state is State.SUCCEEDED and status.ended_at is not None and plan is not None:
            return self.seen.now - status.ended_at <= plan.watch_after
        return status.state in UNDER_WAY

    @property
    def under_way(self) -> bool:
        """Whether there is a run that may go on."""
        return self.status.state in UNDER_WAY

    @property
    def raising(self) -> bool:
        """Whether a raise is on its way."""
        return self.status.intent is not None and self.status.intent.kind == "raise"

    @property
    def passed(self) -> bool:
        """Whether the running phase is recorded as passed."""
        return self.status.gate is not None and self.status.gate.passed_at is not None

    @property
    def steps_over(self) -> bool:
        """Whether the phase has begun and its last step is in force everywhere."""
        phase = self.phase
        if phase is None or self.status.phase_started_at is None or self.raising:
            return False
        return not phase.steps or (self.status.step == len(phase.steps) and self.dwelt is not None)

    @property
    def gate_due(self) -> bool:
        """Whether the steps are over and the gate's time has come."""
        phase = self.phase
        if phase is None or phase.gate is None or not self.steps_over or self.passed:
            return False
        due = gate_due(phase, self.status)
        if due is not None:
            return self.seen.now >= due
        return not phase.steps or (self.dwelt or 0.0) >= phase.steps[-1].lasts

    @property
    def gate_judged(self) -> bool:
        """Whether the gate is judged in this very tick: it is due, and its monitoring mode looks now."""
        last = self.seen.gate_judged_at
        return self.gate_due and (last is None or not 0 <= self.seen.now - last < self.cadence)

    @property
    def gate_waits(self) -> bool:
        """Whether a row that is still to settle says more at the gate: then it was not judged yet, however seldom it is."""
        said = (judged.verdict for judged in self.judged if judged.gate)
        return any(
            verdict.outcome is Outcome.UNDECIDED
            and (
                verdict.criterion.budget
                or verdict.open == UNCOUNTED
                or (verdict.looked is not None and verdict.looked.waits)
            )
            for verdict in said
        )

    def granted(self, place: str) -> Grant | None:
        """What somebody let pass by hand at this place, if it is here."""
        grant = self.status.grant
        if grant is None:
            return None
        if place == "start":
            return grant if grant.place == "start" and self.coming and self.coming.name == grant.phase else None
        if self.phase is None or grant.phase != self.phase.name or self.coming is not None:
            return None
        if place == "gate":
            return grant if grant.place == "gate" else None
        if grant.place == "last":
            return grant if self.status.step < len(self.phase.steps) else None
        return grant if grant.place == "step" and grant.step == self.status.step else None

    def approved(self, of: str) -> bool:
        """Whether the approval of that name is in force."""
        return any(approval.of == of for approval in self.status.approvals)

    def withdrawn(self, target: str) -> bool:
        """Whether the target was taken out of this run."""
        return any(item.name == target and item.withdrawn for item in self.status.targets)

    def moving(self, phase: Phase) -> tuple[TargetView, ...]:
        """The views of the targets that the phase moves, those that were taken out aside."""
        return tuple(
            view
            for name in phase.targets
            for view in self.seen.targets
            if view.name == name and not self.withdrawn(name)
        )

    def views(self) -> tuple[TargetView, ...]:
        """The views of the targets that matter now: those that the phase moves and every one with canary traffic."""
        names = {view.name for view in self.seen.targets}
        if self.phase is not None:
            names = set(self.phase.targets) if self.phase.steps else set()
        names.update(name for name, weight in self.weights.items() if weight)
        return tuple(view for view in self.seen.targets if view.name in names)


def too_long_without_data(verdict: Verdict, watched: float = inf) -> bool:
    """Whether the silence is an outcome of its own by now; ``watched`` is for how many seconds somebody listened."""
    series = verdict.criterion.series
    patience = max(NO_DATA_SECONDS, NO_DATA_INTERVALS * series.interval)
    return verdict.outcome is Outcome.NO_DATA and min(verdict.silent, watched) > series.settle + patience


def consequence(facts: Facts, judged: Judged) -> Ending | None:
    """What a fail, or a silence that is too long, leads to; None: nothing (yet)."""
    if not judged.enforce or (judged.gate and (not facts.gate_due or facts.granted("gate"))):
        return None
    if judged.verdict.outcome is Outcome.FAIL:
        return judged.on_fail if facts.gate_judged or not judged.gate else None
    # Unknown time is unspent for a guardrail, however much it is; a gate cannot pass with it any more.
    lost = judged.gate and judged.verdict.lost and judged.verdict.criterion.budget
    if lost or too_long_without_data(judged.verdict, facts.seen.watched):
        # A pause is no judgement: it is there until there are data, also between two judgements of the gate.
        pauses = judged.on_no_data == "hold"
        return judged.on_no_data if facts.gate_judged or pauses or not judged.gate else None
    return None


def _at_its_own_time(criterion: Criterion) -> bool:
    return criterion.budget or criterion.looks > 0


def proof(facts: Facts) -> tuple[Judged, ...]:
    """The verdicts that must pass before a step is left: the enforced guardrails, else the gate's criteria.

    Not a budget of time, which passes at the end of its phase alone, nor a value that is looked at when the plan says.
    """
    said = tuple(judged for judged in facts.judged if judged.enforce and not _at_its_own_time(judged.verdict.criterion))
    return tuple(judged for judged in said if not judged.gate) or tuple(judged for judged in said if judged.gate)


def gate_unproven(facts: Facts) -> Judged | None:
    """The first criterion of the gate that does not pass."""
    for judged in facts.judged:
        verdict = judged.verdict
        if judged.gate and (verdict.outcome is not Outcome.PASS or not verdict.passes_phase):
            return judged
    return None


def gate_unjudged(facts: Facts) -> bool:
    """Whether the gate has criteria and nothing says anything of one of them."""
    gate = facts.phase.gate if facts.phase else None
    if gate is None:
        return False
    said = {judged.verdict.criterion.key for judged in facts.judged if judged.gate}
    return any(criterion.key not in said for criterion in gate.criteria)


def undecided_by(verdict: Verdict) -> bool:
    """Whether a gate is open because of it. That incidents or uptime were not counted yet ends by itself in a minute.

    So does the wait for the gate's own look; that an alert is silenced does not.
    """
    counted = (verdict.criterion.launch_wide or verdict.criterion.budget) and not verdict.silenced
    waits = verdict.looked is not None and verdict.looked.waits
    undecided = verdict.outcome is Outcome.UNDECIDED and not counted and not waits
    return undecided or (verdict.outcome is Outcome.PASS and not verdict.passes_phase)


def patience(lasts: float) -> float:
    """How many seconds after its weight came into force an undecided step has waited too long."""
    return PATIENCE_FACTOR * lasts if lasts else PATIENCE_WITHOUT_FOR


def waited_too_long(facts: Facts, undecided: Iterable[Judged]) -> Judged | None:
    """The first of these that has had the time and the rows to be decided; of a gate with a time, since that time."""
    phase = facts.phase
    if phase is None or facts.status.phase_started_at is None:
        return None
    due = gate_due(phase, facts.status)
    if not phase.steps:
        lasts, waited = 0.0, facts.in_phase if due is None else facts.seen.now - due
    elif facts.dwelt is None or facts.status.step == 0:
        return None
    else:
        lasts, waited = phase.steps[facts.status.step - 1].lasts, facts.dwelt
        if due is not None and facts.status.step == len(phase.steps):
            waited = min(waited, facts.seen.now - due + lasts)
    enough = patience(lasts)
    return next((judged for judged in undecided if min(waited, judged.verdict.waited) >= enough), None)


def had_time(facts: Facts, verdict: Verdict) -> bool:
    """Whether the gate's evidence was there when its time came, or has had its patience: after a retry it begins anew."""
    if verdict.criterion.looks:
        return True
    phase, series = facts.phase, verdict.criterion.series
    lasts = 0.0
    if phase is not None and 0 < facts.status.step <= len(phase.steps):
        lasts = phase.steps[facts.status.step - 1].lasts
    due = None if phase is None else gate_due(phase, facts.status)
    since = lasts if due is None else facts.seen.now - due
    enough = patience(lasts)
    # The first row is its anchor, and of an instant that was over before.
    return verdict.waited >= (
        enough if due is None and not lasts else min(enough, since - series.lag - series.interval)
    )


def missing_deliverables(facts: Facts) -> tuple[str, ...]:
    """The deliverables of the running phase that nobody has ticked off."""
    phase = facts.phase
    if phase is None:
        return ()
    return tuple(item for item in phase.deliverables if f"{phase.name}/{item}" not in facts.status.done)

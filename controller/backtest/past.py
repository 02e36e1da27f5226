"""What a plan's criteria would have said at every tick of the past: the same fold, the same verdicts, other rows.

``quiet``: a phase begins at the first instant and anew whenever its planned length is over or a criterion failed; so it
is seen how often this plan would have stopped a service of which nothing was wrong. ``release``: the weights are what
the split of the requests says, and a phase begins and is raised as they were.

Time is cut into pieces. A piece's rows are asked, folded and forgotten, so memory does not grow with the span; and what
is known at the end of a piece can be stored and gone on with.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, astuple, dataclass, field
from math import floor, isfinite
from statistics import median
from typing import Any, Literal

from controller.backtest.shares import Shares
from controller.core.bursts import burstiness
from controller.core.comparisons import told_apart
from controller.core.evidence import Criterion, Fold, Outcome, Verdict, grid
from controller.core.fold_text import decode, encode
from controller.core.looks import NO_LOOKS, Looks
from controller.core.plan import Phase, Plan
from controller.core.questions import BURSTS_OVER, companion, criteria_of, judged_on
from controller.core.series import Hour, Reading, Row, Subject, Track, beside, hours_of, launch_wide
from controller.core.units import FULL_WEIGHT, format_count, format_duration, format_instant, format_weight
from controller.core.verdicts import advance, begin, in_force, judge, weighed
from controller.core.words import sentence

Ask = Callable[[Mapping[Subject, int], float], Mapping[Subject, Reading]]
"""The stored rows of each subject after its instant and up to the other (epoch seconds), all of them settled."""

FORMAT = 1
POINTS = 2400
"""Instants of one piece, for few subjects."""
POINTS_TIMES_SUBJECTS = 60_000
FEWEST_POINTS = 240
COLUMNS = 720
"""Of the picture, from left to right; each keeps what was last known in it."""
KEPT_CHANGES = 200
KEPT_FAILS = 1000
KEPT_TIMES = 10_000
TRIES = 3
_HOUR = 3600
WORST_FIRST = ("fail", "no data", "undecided", "pass")
_DIGITS = 4
_LARGEST = 9.0


class PastUnreadableError(Exception):
    """Prometheus did not give what was stored; the message says what it said."""


class OtherBacktestError(Exception):
    """What was stored is of another plan, span or version; the message says so."""


@dataclass(frozen=True, slots=True)
class Span:
    """What is looked at: from ``begin`` to ``end`` (epoch seconds), every ``tick`` seconds.

    ``release``: the canary, by the weights that it had. Else ``track``, as if it were one; ``every`` is after how many
    seconds the phase begins anew, None: when its planned length is over.
    """

    begin: float
    end: float
    tick: float
    release: bool = False
    track: Track = "stable"
    every: float | None = None

    def ticks(self, after: float, until: float) -> list[float]:
        """The instants of the looks after one and up to another."""
        first = floor((after - self.begin) / self.tick + 1e-9) + 1
        last = floor((min(until, self.end) - self.begin) / self.tick + 1e-9)
        return [round(self.begin + number * self.tick, 3) for number in range(first, last + 1)]

    def column(self, at: float) -> int:
        """Where an instant stands in the picture."""
        return min(COLUMNS - 1, int((at - self.begin) / (self.end - self.begin) * COLUMNS))


@dataclass(frozen=True, slots=True)
class Item:
    """One criterion of one phase on one target (empty: the launch), with what follows from a fail in the plan.

    ``stable`` is there where the stable track is looked at beside the canary: to compare, or to tell us from the world,
    which ``apart`` does. ``varies`` is the stable track whose burstiness the evidence is divided by.
    """

    phase: Phase
    criterion: Criterion
    target: str
    subject: Subject
    stable: Subject | None
    apart: Criterion | None
    varies: Subject | None
    kind: Literal["guardrail", "gate"]
    ending: str

    @property
    def key(self) -> str:
        """Its name; the same for the same plan."""
        return f"{self.phase.name}|{self.target}|{self.criterion.key}"


@dataclass(frozen=True, slots=True)
class Change:
    """A verdict that was another one before. ``weight`` is in thousandths; None: of no target, or no release.

    ``world``: it is a fail, and stable is as bad.
    """

    at: float
    verdict: str
    sentence: str
    requests: float
    bad: float
    weight: int | None = None
    world: bool = False


@dataclass(frozen=True, slots=True)
class Point:
    """What was last known in one column: the worst verdict in it, and how far the evidence had come.

    ``fail`` and ``passing`` are parts of the way, 1 decides; None where a plain rule judges. ``value`` is what was
    measured: the bad share, or the bare value.
    """

    verdict: str
    fail: float | None
    passing: float | None
    value: float | None


@dataclass(slots=True)
class Line:
    """What was found of one item so far.

    ``apart`` is the fold that tells us from the world. ``begun`` counts how often its evidence began, ``failed`` and
    ``passed`` in how many of these it did; ``to_pass`` are the seconds that it took. ``looks`` counts the verdicts at
    each tick.
    """

    item: Item
    fold: Fold | None = None
    apart: Fold | None = None
    since: float = 0.0
    outcome: str = ""
    has_failed: bool = False
    has_passed: bool = False
    begun: int = 0
    failed: int = 0
    passed: int = 0
    to_pass: list[float] = field(default_factory=list)
    looks: dict[str, int] = field(default_factory=dict)
    changes: list[Change] = field(default_factory=list)
    left_out: int = 0
    sentence: str = ""
    points: dict[int, Point] = field(default_factory=dict)

    def start(self, at: float, bursts: float) -> None:
        """Evidence begins at ``at``, with the weight in force; it is divided by ``bursts``."""
        criterion, apart, horizon = self.item.criterion, self.item.apart, self.item.phase.horizon
        self.fold = in_force(criterion, begin(criterion, at, horizon, bursts), at)
        self.apart = None if apart is None else begin(apart, at, horizon, bursts)
        self.since, self.outcome = at, ""
        self.has_failed = self.has_passed = False
        self.begun += 1

    def stop(self) -> None:
        """There is nothing to judge any more."""
        self.fold = self.apart = None
        self.outcome = ""

    def saved(self) -> dict[str, Any]:
        """As JSON-ready data."""
        data = {name: getattr(self, name) for name in _SAVED}
        return data | {
            "fold": None if self.fold is None else encode(self.fold),
            "apart": None if self.apart is None else encode(self.apart),
            "changes": [asdict(change) for change in self.changes],
            "points": [[column, p.verdict, p.fail, p.passing, p.value] for column, p in self.points.items()],
        }

    def restore(self, data: Mapping[str, Any]) -> None:
        """Go on where another one was."""
        for name in _SAVED:
            setattr(self, name, data[name])
        self.fold = None if data["fold"] is None else decode(data["fold"])
        self.apart = None if data["apart"] is None else decode(data["apart"])
        self.changes = [Change(**change) for change in data["changes"]]
        self.points = {column: Point(*rest) for column, *rest in data["points"]}


_SAVED = (
    *("since", "outcome", "has_failed", "has_passed", "begun", "failed", "passed"),
    *("to_pass", "looks", "left_out", "sentence"),
)


@dataclass(slots=True)
class _Traffic:
    """The split of one target's requests. ``columns`` hold the requests of both tracks per column of the picture."""

    canary: Subject
    stable: Subject
    shares: Shares
    walked: int
    weights: list[tuple[float, int]] = field(default_factory=list)
    columns: dict[int, list[float]] = field(default_factory=dict)


class Backtest:
    """One plan over one span. ``run`` goes on from ``position``, where everything up to it was judged.

    Raises ValueError where nothing of the plan can be looked at so; the message says why.
    """

    def __init__(self, plan: Plan, span: Span, phases: Sequence[str] = ()) -> None:
        self.plan, self.span = plan, span
        self.phases = tuple(phase for phase in plan.phases if not phases or phase.name in phases)
        self.position = span.begin
        self.lines = [Line(item) for item in self._items()]
        self.traffic: dict[str, _Traffic] = {}
        varies = dict.fromkeys(line.item.varies for line in self.lines if line.item.varies is not None)
        self.hours: dict[Subject, list[tuple[int, Hour]]] = {subject: [] for subject in varies}
        if not self.lines:
            what = "but beside the canary, which a quiet time has not; add --release" if self.left_out() else "there"
            raise ValueError(f"the plan judges nothing by a metric {what}")
        if span.release:
            self._find_traffic()

    def _items(self) -> Iterator[Item]:
        for phase in self.phases:
            guardrails = {guardrail.criterion.key: guardrail for guardrail in phase.guardrails}
            for criterion in criteria_of(phase):
                if criterion.versus and not self.span.release:
                    continue  # there is nothing to compare with
                guardrail = guardrails.get(criterion.key)
                ending = "" if phase.gate is None else str(phase.gate.on_fail.kind)
                if guardrail is not None:
                    ending = str(guardrail.on_breach) if guardrail.enforce else "nothing"
                kind: Literal["guardrail", "gate"] = "gate" if guardrail is None else "guardrail"
                for target in judged_on(criterion, phase.targets):
                    canary = self._subject(criterion, target)
                    beside_it = None if guardrail is None or not self.span.release else companion(guardrail)
                    track = (
                        None if criterion.plain or criterion.launch_wide else self._subject(criterion, target, "stable")
                    )
                    stable = track if criterion.versus or beside_it is not None else None
                    yield Item(phase, criterion, target, canary, stable, beside_it, track, kind, ending)

    def _subject(self, criterion: Criterion, target: str, track: Track | None = None) -> Subject:
        plan = self.plan
        if criterion.launch_wide:
            return launch_wide(criterion.series, plan.namespace, plan.prometheus)
        track = track or ("canary" if self.span.release else self.span.track)
        split = plan.target(target)
        return Subject(
            criterion.series, plan.namespace, target, split.service, plan.revision, track, backend=split.prometheus
        )

    def _find_traffic(self) -> None:
        for line in self.lines:
            target, criterion = line.item.target, line.item.criterion
            if not target or target in self.traffic or not criterion.series.of_requests:
                continue
            weights = [step.weight for phase in self.phases if target in phase.targets for step in phase.steps]
            if weights:
                walked = grid(self.span.begin - criterion.series.settle, criterion.series.interval)
                pair: tuple[Track, Track] = ("canary", "stable")
                canary, stable = (self._subject(criterion, target, track) for track in pair)
                self.traffic[target] = _Traffic(canary, stable, Shares(weights), walked)
        without = sorted({line.item.target for line in self.lines} - {"", *self.traffic})
        if without:
            raise ValueError(
                f"target {without[0]} has no criterion that counts requests in a phase with steps, and so no share of "
                "the traffic; leave out --release"
            )

    # Asking

    def _wanted(self, start: float) -> dict[Subject, int]:
        """What is asked for a piece: from just before what is not folded yet."""
        subjects = dict.fromkeys(line.item.subject for line in self.lines)
        subjects.update(dict.fromkeys(line.item.stable for line in self.lines if line.item.stable is not None))
        subjects.update(dict.fromkeys(one for split in self.traffic.values() for one in (split.canary, split.stable)))
        subjects.update(dict.fromkeys(self.hours))
        since = start - self.span.tick
        return {
            subject: grid(since - subject.series.settle, subject.series.interval) - subject.series.interval
            for subject in subjects
        }

    def piece(self) -> float:
        """The most seconds that are asked for at once."""
        subjects = self._wanted(self.span.begin)
        points = max(FEWEST_POINTS, min(POINTS, POINTS_TIMES_SUBJECTS // len(subjects)))
        finest = min(subject.series.interval for subject in subjects)
        return max(float(points * finest), self.span.tick)

    def _cut(self, start: float, end: float) -> float:
        """Where the piece that begins at ``start`` ends: at a whole hour, for the burstiness is measured by the hour."""
        until = start + self.piece()
        whole = until // _HOUR * _HOUR
        return min(end, whole if whole > start else until)

    def run(self, ask: Ask) -> Iterator[float]:
        """Judge piece by piece, and say after each up to where (epoch seconds). The next piece is asked for meanwhile.

        Raises:
            PastUnreadableError: what is stored cannot be had; what was judged before stays, and can be gone on with.
        """
        end = self.span.end
        if self.position == self.span.begin and not any(line.begun for line in self.lines):
            self._begin(ask)
        with ThreadPoolExecutor(1, thread_name_prefix="past") as pool:

            def asked(start: float) -> Future[dict[Subject, list[Row]]]:
                return pool.submit(_read, ask, self._wanted(start), self._cut(start, end))

            coming = asked(self.position) if self.position < end else None
            while coming is not None:
                until = self._cut(self.position, end)
                rows = coming.result()
                coming = asked(until) if until < end else None
                self._judge(rows, until)
                self.position = until
                yield until

    def _begin(self, ask: Ask) -> None:
        """How the stable track varied in the day before; then the first phase of a quiet time begins."""
        start = self.span.begin - BURSTS_OVER
        while self.hours and start < self.span.begin:
            until = self._cut(start, self.span.begin)
            wanted = {subject: grid(start, subject.series.interval) for subject in self.hours}
            self._vary(_read(ask, wanted, until), start)
            start = until
        if not self.span.release:
            for line in self.lines:
                line.start(self.span.begin, self._bursts(line.item, self.span.begin))

    def _vary(self, rows: Mapping[Subject, Sequence[Row]], after: float) -> None:
        """Keep what the rows after an instant say of how the stable tracks vary, a day of it."""
        oldest = int(after - BURSTS_OVER) // _HOUR
        for subject, known in self.hours.items():
            known[:] = [(number, hour) for number, hour in known if number >= oldest]
            by_hour: dict[int, list[Row]] = {}
            for row in rows[subject]:
                if row.at > after:
                    by_hour.setdefault(int(row.at - 1) // _HOUR, []).append(row)
            for number, some in by_hour.items():
                known += [(number, hour) for hour in hours_of(some, subject.series.interval)]

    def _bursts(self, item: Item, at: float) -> float:
        """What evidence that begins at ``at`` is divided by."""
        if item.varies is None:
            return 1.0
        first = int(at - BURSTS_OVER) // _HOUR
        known = self.hours[item.varies]
        found = burstiness(hour for number, hour in known if first <= number and (number + 1) * _HOUR <= at)
        return max(1.0, float(f"{found:.2f}"))

    # Judging

    def _judge(self, rows: Mapping[Subject, Sequence[Row]], until: float) -> None:
        self._vary(rows, self.position)
        ticks = self.span.ticks(self.position, until)
        happened = self._happened(rows, ticks)
        for line in self.lines:
            item = line.item
            own, pairs = rows[item.subject], list[Row]()
            if item.stable is not None:
                pairs = _beside(own, rows[item.stable])
            self._walk(line, pairs if item.criterion.versus else own, pairs, ticks, happened)

    def _walk(
        self,
        line: Line,
        rows: Sequence[Row],
        pairs: Sequence[Row],
        ticks: Sequence[float],
        happened: Mapping[float, Mapping[str, int]],
    ) -> None:
        item, span = line.item, self.span
        criterion, series = item.criterion, item.criterion.series
        settle, interval = series.settle, series.interval
        lasts = span.every if span.every is not None else item.phase.horizon
        if lasts is not None and criterion.budget:
            # It is judged when the last instant of the phase is settled.
            lasts += series.lag + settle + interval
        planned = lasts
        if lasts is not None and criterion.looks:
            # The row of the gate's look has to settle as well.
            lasts += settle + interval
        apart = _Window(pairs)
        window = _Window(rows)
        columns = [span.column(at) for at in ticks]
        for number, at in enumerate(ticks):
            if at in happened:
                self._follow(line, at, happened[at])
            if line.fold is None:
                continue
            through = grid(at - settle, interval)
            settled, tail = window.move(through, at)
            looks = _looks_of(item.phase, line.since, planned) if criterion.looks else NO_LOOKS
            fold = line.fold = advance(criterion, line.fold, settled, through, looks)
            reading = Reading(through, through, (), tail)
            alone = bool(self.traffic) and self._weight(item.target, at) == FULL_WEIGHT
            verdict = judge(criterion, item.target, fold, reading, at, alone=alone, looks=looks)
            if line.apart is not None and item.apart is not None:
                settled, tail = apart.move(through, at)
                line.apart = advance(item.apart, line.apart, settled, through)
                if verdict.outcome is Outcome.FAIL and not alone:
                    verdict = told_apart(verdict, line.apart, Reading(through, through, (), tail))
            changed = self._look(line, verdict, at)
            if changed or number + 1 == len(ticks) or columns[number + 1] != columns[number]:
                self._draw(line, verdict, columns[number])
            if not span.release:
                over = lasts is not None and at >= line.since + lasts
                if (over or verdict.outcome is Outcome.FAIL) and at + span.tick <= span.end:
                    line.start(at, self._bursts(item, at))

    def _look(self, line: Line, verdict: Verdict, at: float) -> bool:
        outcome = verdict.outcome.value
        line.looks[outcome] = line.looks.get(outcome, 0) + 1
        if outcome == line.outcome:
            return False
        begins, line.outcome = not line.outcome, outcome
        if outcome == "fail" and not line.has_failed:
            line.has_failed = True
            line.failed += 1
        if outcome == "pass" and not line.has_passed:
            line.has_passed = True
            line.passed += 1
            if len(line.to_pass) < KEPT_TIMES:
                line.to_pass.append(round(at - line.since, 3))
        if begins and (outcome == "undecided" or (line.changes and outcome == "no data" == line.changes[-1].verdict)):
            return True  # so begins all evidence, and data that were missing before go on to be
        weight = self._weight(line.item.target, at)
        change = Change(at, outcome, sentence(verdict), verdict.n, verdict.x, weight, verdict.world)
        fails = outcome == "fail"
        if sum((kept.verdict == "fail") is fails for kept in line.changes) < (KEPT_FAILS if fails else KEPT_CHANGES):
            line.changes.append(change)
        else:
            line.left_out += 1
        return True

    def _draw(self, line: Line, verdict: Verdict, column: int) -> None:
        assert line.fold is not None
        line.sentence = sentence(verdict)
        known = line.points.get(column)
        worst = verdict.outcome.value
        if known is not None:
            worst = min(worst, known.verdict, key=WORST_FIRST.index)
        fail, passing = parts(line.item.criterion, line.fold)
        if known is not None and known.fail is not None and fail is not None:
            fail = max(fail, known.fail)
        line.points[column] = Point(worst, fail, passing, measured_value(verdict))

    # A release

    def _weight(self, target: str, at: float) -> int | None:
        split = self.traffic.get(target)
        known = () if split is None else split.weights
        return next((weight for since, weight in reversed(known) if since <= at), None)

    def _happened(self, rows: Mapping[Subject, Sequence[Row]], ticks: Sequence[float]) -> dict[float, dict[str, int]]:
        """The weights that came into force, by the tick at which the split shows them."""
        happened: dict[float, dict[str, int]] = {}
        for target, split in self.traffic.items():
            series = split.canary.series
            canary = {int(row.at): row.n for row in rows[split.canary]}
            stable = {int(row.at): row.n for row in rows[split.stable]}
            for at in ticks:
                through = grid(at - series.settle, series.interval)
                changed = False
                for instant in range(split.walked + series.interval, through + 1, series.interval):
                    one, other = canary.get(instant, 0.0), stable.get(instant, 0.0)
                    changed |= split.shares.look(one, other)
                    counts = split.columns.setdefault(self.span.column(max(instant, self.span.begin)), [0.0, 0.0])
                    counts[0] += one
                    counts[1] += other
                split.walked = max(split.walked, through)
                if changed:
                    split.weights.append((at, split.shares.weight))
                    happened.setdefault(at, {})[target] = split.shares.weight
        return happened

    def _follow(self, line: Line, at: float, weights: Mapping[str, int]) -> None:
        """A line begins with the first weight of its phase and ends with the first of another one, or with none."""
        targets = [line.item.target] if line.item.target else list(self.traffic)
        if not any(target in weights for target in targets):
            return
        here = {phase for target in targets if (phase := self._phase_at(target, at)) is not None}
        if line.item.phase.name not in here:
            line.stop()
        elif line.fold is None:
            line.start(at, self._bursts(line.item, at))
        else:
            # Whatever the new weight is, what passed before it says nothing of it.
            alone = self._weight(line.item.target, at) == FULL_WEIGHT
            line.fold = in_force(line.item.criterion, line.fold, at, alone=alone)
            line.outcome = ""

    def _phase_at(self, target: str, at: float) -> str | None:
        """The phase whose step the target's weight is: from the one that it was in, the first that has it."""
        place = -1
        own = [phase for phase in self.phases if target in phase.targets]
        for since, weight in self.traffic[target].weights:
            if since > at:
                break
            if weight == 0:
                place = -1
                continue
            has = [any(step.weight == weight for step in phase.steps) for phase in own]
            later = [number for number, there in enumerate(has) if there and number >= place]
            place = later[0] if later else has.index(True)
        return own[place].name if place >= 0 else None

    # Stored and told

    def identity(self) -> str:
        """What a stored backtest must be of to be gone on with."""
        known = [[line.item.key, line.item.phase.digest, repr(line.item.subject)] for line in self.lines]
        text = json.dumps([FORMAT, self.plan.namespace, self.plan.name, asdict(self.span), known])
        return hashlib.sha256(text.encode()).hexdigest()[:32]

    def saved(self) -> dict[str, Any]:
        """All that is known at ``position``, as JSON-ready data."""
        return {
            "kind": "backtest",
            "identity": self.identity(),
            "position": self.position,
            "lines": {line.item.key: line.saved() for line in self.lines},
            "hours": [[[number, *astuple(hour)] for number, hour in known] for known in self.hours.values()],
            "traffic": {
                target: {
                    "shares": split.shares.saved(),
                    "walked": split.walked,
                    "weights": split.weights,
                    "columns": list(split.columns.items()),
                }
                for target, split in self.traffic.items()
            },
        }

    def restore(self, saved: Any) -> None:
        """Go on where another one was stored.

        Raises:
            OtherBacktestError: it is of another plan or span, or no backtest at all.
        """
        if not isinstance(saved, dict) or saved.get("kind") != "backtest":
            raise OtherBacktestError("it is no stored backtest; name another file")
        if saved.get("identity") != self.identity():
            raise OtherBacktestError("it is of another plan, span or version; name another file, or remove it")
        try:
            for line in self.lines:
                line.restore(saved["lines"][line.item.key])
            for target, split in self.traffic.items():
                data = saved["traffic"][target]
                split.shares.restore(data["shares"])
                split.walked = data["walked"]
                split.weights = [(at, weight) for at, weight in data["weights"]]
                split.columns = {column: list(counts) for column, counts in data["columns"]}
            for known, hours in zip(self.hours.values(), saved["hours"], strict=True):
                known[:] = [(number, Hour(*rest)) for number, *rest in hours]
            self.position = float(saved["position"])
        except (KeyError, TypeError, ValueError) as error:
            raise OtherBacktestError(f"it is damaged ({error}); remove it") from error

    def left_out(self) -> tuple[str, ...]:
        """The criteria that compare with stable, which a quiet time says nothing of."""
        if self.span.release:
            return ()
        found = (criterion for phase in self.phases for criterion in criteria_of(phase) if criterion.versus)
        return tuple(dict.fromkeys(criterion.key for criterion in found))

    def failed(self) -> bool:
        """Whether a criterion failed anywhere; those without a consequence as well."""
        return any(line.failed for line in self.lines)

    def stops(self) -> tuple[float, Item, str] | None:
        """The first fail of a guardrail with a consequence, of what, and which one: where stable is as bad, a hold.

        A gate stops nothing before its time, which a past release did not have.
        """
        fails = [
            (change.at, number, line.item, "hold" if change.world else line.item.ending)
            for number, line in enumerate(self.lines)
            if line.item.kind == "guardrail" and line.item.ending != "nothing"
            for change in line.changes
            if change.verdict == "fail"
        ]
        if not fails:
            return None
        at, _, item, ending = min(fails, key=lambda each: each[:2])
        return at, item, ending

    def weights(self) -> Iterator[tuple[float, str, int]]:
        """Every weight that the split showed, in order: since when (epoch seconds), of which target, thousandths."""
        found = ((at, target, weight) for target, split in self.traffic.items() for at, weight in split.weights)
        yield from sorted(found, key=lambda each: each[0])

    def shares(self) -> dict[str, list[tuple[float, float]]]:
        """The canary's part of the requests by target: the middle of a column (epoch seconds), and the share."""
        wide = (self.span.end - self.span.begin) / COLUMNS
        return {
            target: [
                (self.span.begin + (column + 0.5) * wide, canary / (canary + stable))
                for column, (canary, stable) in sorted(split.columns.items())
                if canary + stable > 0
            ]
            for target, split in self.traffic.items()
        }

    def document(self) -> dict[str, Any]:
        """What was found, for scripts."""
        span = self.span
        return {
            "namespace": self.plan.namespace,
            "name": self.plan.name,
            "from": format_instant(span.begin),
            "to": format_instant(self.position),
            "tickSeconds": span.tick,
            "mode": "release" if span.release else "quiet",
            "track": "canary" if span.release else span.track,
            "failed": self.failed(),
            "criteria": [_told(line, span.tick) for line in self.lines],
            "notJudged": list(self.left_out()),
            "weights": [
                {"at": format_instant(at), "target": target, "weight": format_weight(weight)}
                for at, target, weight in self.weights()
            ],
        }


class _Window:
    """Rows in order: those that settle from tick to tick, and those that are there besides."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self._rows = rows
        self._settled = self._there = 0

    def move(self, through: float, until: float) -> tuple[Sequence[Row], tuple[Row, ...]]:
        """Those up to ``through`` that were not given before, and those after it and up to ``until``."""
        rows, first = self._rows, self._settled
        while self._settled < len(rows) and rows[self._settled].at <= through:
            self._settled += 1
        self._there = max(self._there, self._settled)
        while self._there < len(rows) and rows[self._there].at <= until:
            self._there += 1
        return rows[first : self._settled], tuple(rows[self._settled : self._there])


def _beside(canary: Sequence[Row], stable: Sequence[Row]) -> list[Row]:
    """Pairs of the instants that both tracks have."""
    through = int(max(canary[-1].at, stable[-1].at)) if canary and stable else 0
    found = beside(Reading(0, through, tuple(canary)), Reading(0, through, tuple(stable)))
    assert found is not None
    return list(found.settled)


def parts(criterion: Criterion, fold: Fold) -> tuple[float | None, float | None]:
    """How far the evidence of a fail and of a pass has come; 1 decides. None for both where a plain rule judges."""
    found = weighed(criterion, fold)
    if found is None:
        return None, None
    return _part(found.fail / found.fail_at), _part(found.passing / found.pass_at)


def _part(part: float) -> float:
    return round(min(max(part, -_LARGEST), _LARGEST), _DIGITS)


def measured_value(verdict: Verdict) -> float | None:
    """The value of a verdict, for a picture."""
    return verdict.value if verdict.value is not None and isfinite(verdict.value) else None


def _looks_of(phase: Phase, began: float, lasts: float | None) -> Looks:
    """The looks at a phase that began then (epoch seconds) and is taken to last so many seconds, if that is known."""
    known = [after for after in (phase.gate_after, lasts) if after is not None]
    gate = began + min(known) if known else None
    return Looks(tuple(began + offset for offset in phase.looks), gate)


def _read(ask: Ask, wanted: Mapping[Subject, int], until: float) -> dict[Subject, list[Row]]:
    """All rows of a piece, asked again where an answer did not reach its end."""
    rows: dict[Subject, list[Row]] = {subject: [] for subject in wanted}
    left, tries = dict(wanted), 0
    while left:
        came, problem = False, ""
        for subject, reading in ask(left, until).items():
            rows[subject] += reading.settled
            if reading.through >= grid(until, subject.series.interval):
                del left[subject]
                came = True
            elif reading.through > left[subject]:
                left[subject] = reading.through
                came = True
            problem = problem or reading.problem
        tries = 0 if came else tries + 1
        if tries >= TRIES:
            raise PastUnreadableError(problem or "Prometheus gives no answer")
    return rows


def _told(line: Line, tick: float) -> dict[str, Any]:
    item = line.item
    return {
        "phase": item.phase.name,
        "target": item.target,
        "criterion": item.criterion.key,
        "kind": item.kind,
        "onFail": item.ending,
        "begun": line.begun,
        "failed": line.failed,
        "passed": line.passed,
        "secondsToPass": {"median": median(line.to_pass), "longest": max(line.to_pass)} if line.to_pass else None,
        "seconds": {word: line.looks[word] * tick for word in WORST_FIRST if word in line.looks},
        "verdict": line.outcome or None,
        "sentence": line.sentence,
        "changes": [_changed(change) for change in line.changes],
        "changesLeftOut": line.left_out,
    }


def _changed(change: Change) -> dict[str, Any]:
    weight = {} if change.weight is None else {"weight": format_weight(change.weight)}
    return {
        "at": format_instant(change.at),
        "verdict": change.verdict,
        "requests": change.requests,
        "bad": change.bad,
        **weight,
        **({"stableIsAsBad": True} if change.world else {}),
        "sentence": change.sentence,
    }


def no_data(line: Line) -> float:
    """The part of the looks at which there were no data; 0 where nothing was looked at."""
    looks = sum(line.looks.values())
    return line.looks.get("no data", 0) / looks if looks else 0.0


def in_words(line: Line, *, release: bool) -> str:
    """One line of a table: what came of it."""
    if not line.begun:
        return "no canary traffic"
    if release:
        if line.failed:
            first = next(change for change in line.changes if change.verdict == "fail")
            return f"fails at {format_instant(first.at)[11:19]}"
        return "passes" if line.passed else "stays undecided"
    often = f"{format_count(line.failed)} of {format_count(line.begun)}"
    return f"{often} false alarms" if line.failed else "no false alarm"


def to_pass_in_words(line: Line) -> str:
    """How long a pass took; ``-`` where there was none."""
    return format_duration(median(line.to_pass)) if line.to_pass else "-"

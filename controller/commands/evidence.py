"""``explain --evidence``: how far the proof of each criterion has come, from a launch's status or from a ledger."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from controller.backtest.past import measured_value, parts
from controller.backtest.picture import Bar, Lane, Picture, Piece, draw, draw_bars, part_in_words
from controller.commands.ledger import lines_of, opened_file
from controller.core.evidence import Criterion, Fold, Outcome
from controller.core.fold_text import decode
from controller.core.ledger import Found, read_records
from controller.core.plan import InvalidPlanError, Plan, stood_on
from controller.core.questions import criteria_of, fold_key, judged_on
from controller.core.report import scored
from controller.core.status import CriterionStatus, Status
from controller.core.units import format_instant

if TYPE_CHECKING:
    from rich.text import Text

_WIDEST = 60
_COLOURS = {"pass": "green", "fail": "red", "undecided": "yellow", "no data": "magenta"}


class NoEvidenceError(LookupError):
    """There is no evidence to show; the message says why."""


# From a status


def bars_of_status(status: Status, namespace: str, launch: str) -> list[Bar]:
    """Where the evidence stands as of the last write of the status.

    Raises:
        NoEvidenceError: nothing is being judged, or what is cannot be read.
    """
    if status.run is None:
        raise NoEvidenceError("no run has begun, and so nothing is judged yet")
    try:
        running = stood_on(namespace, launch, status.run.stands_on)
    except InvalidPlanError as error:
        raise NoEvidenceError(f"what the run stands on cannot be read: {error}") from error
    shown = {(item.target, item.criterion): item for item in status.criteria}
    bars = []
    for criterion, target in _judged(running):
        text, item = status.folds.get(fold_key(target, criterion)), shown.get((target, criterion.key))
        if text is None:
            continue
        try:
            fold = decode(text)
        except ValueError as error:
            raise NoEvidenceError(f"the evidence of {criterion.key} cannot be read: {error}") from error
        bars.append(bar(criterion, target, fold, item))
    if not bars:
        raise NoEvidenceError("no evidence is being gathered: no weight is in force, or the run is over")
    return bars


def _judged(plan: Plan) -> Iterator[tuple[Criterion, str]]:
    """Every criterion of the plan with everything that it may be judged on, once."""
    seen: set[str] = set()
    for phase in plan.phases:
        for criterion in criteria_of(phase):
            for target in judged_on(criterion, (target.name for target in plan.targets)):
                if (key := fold_key(target, criterion)) not in seen:
                    seen.add(key)
                    yield criterion, target


def bar(criterion: Criterion, target: str, fold: Fold, item: CriterionStatus | None) -> Bar:
    """Where the evidence of a fold stands; ``item`` is its verdict as it was last written, None: there was none yet."""
    fail, passing = parts(criterion, fold)
    known = item or CriterionStatus(target=target, criterion=criterion.key, verdict=Outcome.UNDECIDED.value)
    said = known.sentence.removeprefix(f"{criterion.key} ({target}): ")
    return Bar(
        criterion.key,
        target,
        known.verdict,
        fail,
        passing,
        known.value,
        known.limit or criterion.limit_text,
        said or "not judged yet",
        known.requests,
        known.bad,
    )


# From a ledger


def picture_of_ledger(path: str, launch: str) -> tuple[Picture, list[Bar]]:
    """The course of the evidence from decision to decision, and where it stood at the last one.

    ``launch`` is NAMESPACE/NAME or NAME; empty where the ledger is of one launch only.

    Raises:
        NoEvidenceError: no decision of it rests on evidence, or several launches are meant.
        OSError: the file cannot be read.
    """
    with opened_file(path) as file:
        return _course(read_records(lines_of(file)), path, launch)


class _Course:
    """One launch of a ledger, as far as it was read. Folds are not kept, only how far they had come."""

    def __init__(self) -> None:
        self.looks: dict[tuple[str, str], list[tuple[float, str, float | None, float | None, float | None]]] = {}
        self.criteria: dict[tuple[str, str], Criterion] = {}
        self.marks: dict[tuple[str, str], list[tuple[float, str]]] = {}
        self.where: dict[tuple[str, str], str] = {}
        self.instants: list[float] = []
        self.weights: list[tuple[float, str, int]] = []
        self.bars: list[Bar] = []

    def take(self, found: Found) -> None:
        decision = found.decision
        if decision is None:
            return
        self.instants.append(decision.at)
        standing = {target: weight for _, target, weight in self.weights}
        for target in decision.status.targets:
            if standing.get(target.name, 0) != target.weight:
                self.weights.append((decision.at, target.name, target.weight))
        bars: list[Bar] = []
        for judged in decision.verdicts:
            verdict = judged.verdict
            criterion, key = verdict.criterion, (verdict.target, verdict.criterion.key)
            fold = decision.folds.get(fold_key(verdict.target, criterion))
            if fold is None or key in {(known.target, known.criterion) for known in bars}:
                continue
            item = scored(verdict)
            fail, passing = parts(criterion, fold)
            self.criteria[key] = criterion
            self.where[key] = f"{verdict.target or 'the launch'}, phase {decision.status.phase}"
            looks = self.looks.setdefault(key, [])
            if verdict.outcome is Outcome.FAIL and (not looks or looks[-1][1] != Outcome.FAIL.value):
                self.marks.setdefault(key, []).append((decision.at, item.sentence))
            looks.append((decision.at, verdict.outcome.value, fail, passing, measured_value(verdict)))
            bars.append(bar(criterion, verdict.target, fold, item))
        self.bars = bars or self.bars

    def picture(self, name: str) -> Picture:
        end = self.instants[-1]
        following = dict(zip(self.instants, [*self.instants[1:], end], strict=True))
        lanes = []
        for key, looks in self.looks.items():
            criterion = self.criteria[key]
            pieces = [Piece(at, following[at], verdict, *rest) for at, verdict, *rest in looks]
            marks = self.marks.get(key, [])
            said = next((each.sentence for each in self.bars if (each.target, each.criterion) == key), "")
            limit = criterion.limit if criterion.plain else None
            lanes.append(Lane(criterion.key, self.where[key], pieces, limit, marks, said))
        title = f"{name}: the evidence at its decisions"
        span = f"{format_instant(self.instants[0])[:16]}Z to {format_instant(end)[:16]}Z"
        return Picture(title, f"{span}, {len(self.instants)} decisions", self.instants[0], end, lanes, {}, self.weights)


def _course(records: Iterable[Found], path: str, launch: str) -> tuple[Picture, list[Bar]]:
    courses: dict[str, _Course] = {}
    for found in records:
        if not launch or launch in (found.launch, found.launch.partition("/")[2]):
            courses.setdefault(found.launch, _Course()).take(found)
    known = {name: course for name, course in courses.items() if course.looks}
    if not known:
        of = f" of {launch}" if launch else ""
        raise NoEvidenceError(f"{path} holds no decision{of} that was made on evidence")
    if len(known) > 1:
        raise NoEvidenceError(f"{path} holds several launches; name one of {', '.join(sorted(known))}")
    ((name, course),) = known.items()
    return course.picture(name), course.bars


# Shown


def as_svg(title: str, subtitle: str, bars: Iterable[Bar]) -> str:
    """The bars as a picture."""
    return draw_bars(title, subtitle, bars)


def course_as_svg(picture: Picture) -> str:
    """The course as a picture."""
    return draw(picture)


def as_data(title: str, bars: Iterable[Bar]) -> dict[str, Any]:
    """The bars for scripts; the proofs are parts of the way, at 1 they decide."""
    return {"launch": title, "evidence": [_written(each) for each in bars]}


def _written(bar: Bar) -> Mapping[str, Any]:
    return {
        "criterion": bar.criterion,
        "target": bar.target,
        "verdict": bar.verdict,
        "proofOfGood": bar.passing,
        "proofOfBad": bar.fail,
        "value": bar.value,
        "limit": bar.limit,
        "requests": bar.requests,
        "bad": bar.bad,
        "sentence": bar.sentence,
    }


def as_json(title: str, bars: Iterable[Bar]) -> str:
    """The same as JSON text."""
    return json.dumps(as_data(title, bars), indent=2, ensure_ascii=False)


def lines(title: str, subtitle: str, bars: Iterable[Bar], width: int) -> Iterator[Text]:
    """The bars on a terminal that is ``width`` columns wide: good above, bad below, and the sentence."""
    from rich.text import Text

    from controller.commands.program import printable

    yield Text(printable(title), "bold")
    yield Text(printable(subtitle), "dim")
    length = max(10, min(_WIDEST, width - 24))
    for bar in bars:
        yield Text()
        head = Text(printable(f"{bar.criterion} ({bar.target or 'the launch'}): "))
        yield head.append(bar.verdict, _COLOURS.get(bar.verdict, ""))
        if bar.fail is not None and bar.passing is not None:
            for part, word, colour in ((bar.passing, "good", "green"), (bar.fail, "bad", "red")):
                full = int(length * min(max(part, 0.0), 1.0))
                line = Text("  ").append("█" * full, colour).append("░" * (length - full), "dim")
                yield line.append("▏").append(f" {part_in_words(part, word)}", colour if part >= 1 else "")
        elif bar.value:
            yield Text(printable(f"  {bar.value}, limit {bar.limit}; a plain rule, which weighs nothing"))
        for line_of_words in Text(printable(bar.sentence)).wrap(_plain_console(), max(20, width - 2)):
            yield Text("  ").append(line_of_words)


def _plain_console() -> Any:
    from controller.commands.program import console

    return console()

"""``python -m tests.bench.decisions``: how often verdicts are wrong and how soon they come, beside what others do.

Canaries of some true bad shares get traffic of some rates; all rules see the same rows of ten seconds. What is run is the
project's own tests, written once more for many canaries at a time; a sample of the runs is judged by the real fold too,
and every verdict must come at the same row. Seeded: the same table each time. Two to four minutes on two cores.

Where bad requests come in bursts (clumps of a geometric size, five on average), the evidence is divided as the burstiness
of a day of the stable track at 0.158 times the limit asks for, measured as the dispersion of its minutes. The bounds are
then multiplied by what that dispersion is in truth.

How soon good canaries pass without bursts is not simulated but computed exactly.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from math import ceil, inf, isfinite, log, log1p
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from scipy.stats import binom

from controller.core.evidence import Outcome, Verdict
from controller.core.power import Bars, pass_times
from controller.core.series import Reading, Row
from controller.core.units import format_duration
from controller.core.verdicts import advance, begin, in_force, judge
from tests.core.builders import INTERVAL, NOW, criterion
from tests.core.many import Counts, Many, geometric_clumps, steady
from tests.realparts.parts import ROOT

RATES = (0.5, 5.0, 50.0)
LIMITS = (0.001, 0.005, 0.01)
GOOD = (0.158, 0.4, 0.7)
BAD = (2.0, 4.0, 10.0)
AT_LIMIT = 1.0
"""True bad shares as multiples of the limit: 0.079 %, 0.2 %, 0.35 %, 0.5 %, 1 %, 2 % and 5 % against 0.5 %."""
ALPHA = 0.01
BAR = -log(1 - 0.99)
DAY = 8640
STEP = 720
"""The rows of a day, for which a phase is planned, and of a step of two hours, which other rules judge."""
AFTER_GOOD = 720
TRUE_PHI = 9.0
"""The dispersion of clumps of geometric sizes, five on average."""
PER_MINUTE = 60 // INTERVAL
POWER = 0.95
SAMPLE = 2
"""Runs of each course that the real fold judges too."""
WRONG_GOAL, WALD_GOAL, LORDEN_GOAL, FIXED_GOAL = 0.01, 1.7, 1.5, 1.5


@dataclass(frozen=True, slots=True)
class Cell:
    """Canary requests per second, the limit, and whether bad requests come in bursts."""

    rate: float
    limit: float
    burst: bool

    @property
    def n(self) -> int:
        """Requests a row."""
        return round(self.rate * INTERVAL)


@dataclass(slots=True)
class Result:
    """One true share in one cell. Shares of runs, and seconds; ``after`` is harm that begins after two good hours.

    ``bound`` is the mean that no rule can beat, or for good canaries the fixed test's time; ``ratio`` is what was
    measured over it: the mean for bad ones, the 95 % time for good ones.
    """

    cell: Cell
    multiple: float
    after: bool
    runs: int
    phi: float
    failed: float
    passed: float
    median: float
    most: float
    bound: float
    ratio: float
    others: dict[str, tuple[float, float]] = field(default_factory=dict)

    @property
    def wrong(self) -> float:
        """The share of wrong verdicts: of a canary at the limit or worse a pass, of one at the limit or better a fail."""
        if self.multiple == AT_LIMIT:
            return max(self.failed, self.passed)
        return self.failed if self.multiple < AT_LIMIT else self.passed


# What comes.


def bad_events(rng: np.random.Generator, cell: Cell, share: float, rows: int, runs: int) -> Counts:
    """Bad events, shape (rows, runs)."""
    if not cell.burst:
        return steady(rng, cell.n, share, rows, runs)
    return geometric_clumps(rng, cell.n, share, rows, runs, TRUE_PHI)


def burstiness(rng: np.random.Generator, cell: Cell) -> float:
    """The dispersion of the minutes of a day of the stable track, which gets nine times the canary's traffic."""
    stable = Cell(9 * cell.rate, cell.limit, cell.burst)
    minutes = bad_events(rng, stable, GOOD[0] * cell.limit, DAY, 1).reshape(-1, PER_MINUTE).sum(axis=1)
    return max(1.0, float(minutes.var() / minutes.mean())) if minutes.any() else 1.0


def course(rng: np.random.Generator, cell: Cell, shares: Sequence[tuple[float, int]], runs: int) -> Iterator[Counts]:
    """Bad events in pieces of at most two hours, shape (rows, runs); each share for so many rows."""
    for share, rows in shares:
        for begun in range(0, rows, STEP):
            yield bad_events(rng, cell, share, min(STEP, rows - begun), runs)


# Our own tests, by the real fold.


def as_the_fold_has_it(limit: float, n: float, events: Counts, phi: float) -> tuple[int, int]:
    """The first rows of a fail and of a pass of one canary, by the project's own fold."""
    wanted = criterion(limit=limit)
    fold = in_force(wanted, begin(wanted, NOW - 5, float(DAY * INTERVAL), phi), NOW - 5)
    fold = advance(wanted, fold, (Row(NOW, 0.0, 0.0),), int(NOW))
    failed = passed = 0
    for row, x in enumerate(events, start=1):
        at = int(NOW) + row * INTERVAL
        fold = advance(wanted, fold, (Row(at, n, float(x)),), at)
        verdict = judge(wanted, "main", fold, Reading(at, at), at)
        failed = failed or row * (verdict.outcome is Outcome.FAIL)
        if verdict.outcome is Outcome.PASS or (verdict.outcome is Outcome.FAIL and _would_pass(verdict)):
            passed = passed or row
    return failed, passed


def _would_pass(verdict: Verdict) -> bool:
    """Whether the counts pass, though they have failed as well."""
    return verdict.passes_phase


# What others do. Each looks at a step of two hours; who is not failed within it goes on.


def _windows(events: Counts, rows: int) -> Counts:
    """Bad events of the last ``rows`` rows, for each row from the first full window on."""
    sums = np.cumsum(np.vstack([np.zeros((1, events.shape[1]), dtype=np.int64), events]), axis=0)
    found: Counts = sums[rows:] - sums[:-rows]
    return found


def _threshold(minutes: int) -> Callable[[Counts, float], Counts]:
    def rule(events: Counts, most: float) -> Counts:
        rows = minutes * PER_MINUTE
        over = _windows(events, rows) >= max(most * rows, 1.0)
        return np.where(over.any(axis=0), over.argmax(axis=0) + rows, 0)

    return rule


def _checks(events: Counts, most: float) -> NDArray[np.bool_]:
    """Whether each minute by itself is over the limit."""
    minutes = events.reshape(-1, PER_MINUTE, events.shape[1]).sum(axis=1)
    return np.asarray(minutes >= max(most * PER_MINUTE, 1.0))


def _in_a_row(count: int) -> Callable[[Counts, float], Counts]:
    def rule(events: Counts, most: float) -> Counts:
        over = _windows(_checks(events, most).astype(np.int64), count) == count
        return np.where(over.any(axis=0), (over.argmax(axis=0) + count) * PER_MINUTE, 0)

    return rule


def _counter(failures: int) -> Callable[[Counts, float], Counts]:
    """A check each minute; so many failed ones in all, and it is over."""

    def rule(events: Counts, most: float) -> Counts:
        over = np.cumsum(_checks(events, most), axis=0) >= failures
        return np.where(over.any(axis=0), (over.argmax(axis=0) + 1) * PER_MINUTE, 0)

    return rule


OTHERS: dict[str, Callable[[Counts, float], Counts]] = {
    "1m": _threshold(1),
    "5m": _threshold(5),
    "3 in a row": _in_a_row(3),
    "5 failed checks (Flagger)": _counter(5),
    "failureLimit 3 (Argo)": _counter(4),
}


# What is possible.


def divergence(p: float, q: float) -> float:
    """The nats that one request tells p from q, if p is true."""
    return p * log(p / q) + (1 - p) * (log1p(-p) - log1p(-q))


def wald(share: float, limit: float) -> float:
    """Requests until harm that is there from the start is proven, as a mean: no rule needs fewer."""
    return log(1 / ALPHA) / divergence(share, limit)


def lorden(share: float, limit: float, requests: float) -> float:
    """The same for harm that begins at an unknown request of so many, to first order."""
    mean = wald(share, limit)
    for _ in range(100):
        mean = log(requests / (mean * ALPHA)) / divergence(share, limit)
    return mean


def fixed_size(share: float, limit: float) -> int:
    """The requests of the test with one look that passes that share with 95 %, and the limit with 1 %."""
    bearable = 0
    while True:
        low, high = 0, ceil(1 / limit)
        while binom.cdf(bearable, high, limit) > ALPHA:
            low, high = high, 2 * high
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if binom.cdf(bearable, middle, limit) <= ALPHA else (middle, high)
        if binom.cdf(bearable, high, share) >= POWER:
            return high
        bearable += 1


# One cell.


def measure(cell: Cell, runs: int) -> list[Result]:
    """All true shares in one cell. Raises AssertionError where the real fold says something else."""
    rng = np.random.default_rng([7, int(cell.rate * 10), round(cell.limit * 1e5), int(cell.burst)])
    phi = burstiness(rng, cell) if cell.burst else 1.0
    found = [_one(rng, cell, multiple, runs, phi) for multiple in (*GOOD, AT_LIMIT, *BAD)]
    return found + [_one(rng, cell, multiple, runs, phi, after=True) for multiple in BAD]


def _one(
    rng: np.random.Generator, cell: Cell, multiple: float, runs: int, phi: float, *, after: bool = False
) -> Result:
    share, limit, n = multiple * cell.limit, cell.limit, cell.n
    clump = TRUE_PHI if cell.burst else 1.0
    if multiple < AT_LIMIT:
        bound, until = clump * fixed_size(share, limit), "passed"
        rows = min(4 * DAY, max(STEP, ceil(5 * max(1.0, phi / clump) * bound / n)))
    elif multiple == AT_LIMIT:
        bound, until, rows, runs = inf, "", DAY, 3 * runs
    else:
        bound = clump * (lorden(share, limit, n * DAY / clump) if after else wald(share, limit))
        until, rows = "failed", min(4 * DAY, max(STEP, ceil(20 * max(1.0, phi / clump) * bound / n)))
    before = AFTER_GOOD if after else 0
    first: list[Counts] = []

    def pieces() -> Iterator[Counts]:
        for piece in course(rng, cell, [(GOOD[0] * limit, before), (share, rows)], runs):
            if len(first) < 2:
                first.append(piece)
            yield piece

    judges = Many(limit, n, runs, horizon=DAY, bursts=phi).watch(pieces(), until)
    for run in range(SAMPLE):
        events = np.concatenate(first)[: judges.row, run]
        real = as_the_fold_has_it(limit, float(n), events, phi)
        ours = tuple(int(at) if at <= len(events) else 0 for at in (judges.failed[run], judges.passed[run]))
        assert real == ours, (cell, multiple, after, run, real, ours)
    early = (judges.failed != 0) & (judges.failed <= before) if after else np.zeros(runs, dtype=bool)
    if multiple < AT_LIMIT and not cell.burst:
        known = pass_times(Bars(limit, BAR, BAR), share, float(n), 1, 4 * DAY, enough=0.96)
        exact = [known.until(chance) for chance in (0.5, POWER)]
    else:
        exact = []
    decisive = judges.passed if multiple <= AT_LIMIT else judges.failed
    times = np.where(decisive > before, (decisive - before) * float(INTERVAL), inf)[~early]
    failed = judges.failed != 0 if multiple <= AT_LIMIT else early
    # A pass counts where it comes before the fail; after good hours it was true when it came.
    wrongly = (judges.passed != 0) & ((judges.failed == 0) | (judges.passed < judges.failed))
    passed = judges.passed != 0 if multiple <= AT_LIMIT else wrongly & (not after)
    most = float(np.quantile(times, POWER, method="higher"))
    half = float(np.quantile(times, 0.5, method="higher"))
    if exact:
        half, most = (inf if row is None else float(row * INTERVAL) for row in exact)
    seconds = bound / cell.rate
    mean = float(times.mean()) if np.isfinite(times).all() else inf
    ratio = inf if multiple == AT_LIMIT else (most if multiple < AT_LIMIT else mean) / seconds
    step = first[1] if after else first[0]
    result = Result(
        cell,
        multiple,
        after,
        runs,
        phi,
        float(failed.mean()),
        float(passed.mean()),
        half,
        most,
        seconds,
        ratio,
    )
    if len(step) == STEP:
        for name, rule in OTHERS.items():
            at = rule(step, limit * n)
            hit = at[at > 0]
            failing = float((at > 0).mean())
            wrong = failing if multiple <= AT_LIMIT else 1 - failing
            result.others[name] = (wrong, float(np.median(hit)) * INTERVAL if len(hit) else inf)
    return result


# The table.


def _percent(share: float) -> str:
    return f"{share:.1%}" if share else "0"


def _time(seconds: float) -> str:
    return format_duration(seconds) if isfinite(seconds) else "-"


def table(results: Sequence[Result]) -> Table:
    """Everything, one row per true share."""
    shown = Table(
        "requests/s",
        "limit",
        "bursts",
        "true",
        "wrong",
        "median",
        "95%",
        "bound",
        "over it",
        *OTHERS,
        padding=(0, 1, 0, 0),
    )
    for one in results:
        others = [
            f"{_percent(one.others[name][0])} {_time(one.others[name][1])}" if name in one.others else "-"
            for name in OTHERS
        ]
        true = f"{one.multiple * one.cell.limit:.3%}".replace("0%", "%") + (" after 2h" if one.after else "")
        both = f"{_percent(one.failed)} / {_percent(one.passed)}"
        shown.add_row(
            f"{one.cell.rate:g}",
            f"{one.cell.limit:.1%}",
            f"phi {one.phi:.1f}" if one.cell.burst else "",
            true,
            both if one.multiple == AT_LIMIT else _percent(one.wrong),
            _time(one.median),
            _time(one.most),
            _time(one.bound),
            f"{one.ratio:.2f}" if isfinite(one.ratio) else "-",
            *others,
        )
    return shown


def goals(results: Sequence[Result]) -> list[tuple[str, list[Result], list[Result]]]:
    """Each goal in words, where it is reached, and where not."""
    found = []
    kinds: list[tuple[str, Callable[[Result], bool], Callable[[Result], bool]]] = [
        (
            f"wrong verdicts at most {WRONG_GOAL:.0%} (as far as so many runs can tell)",
            lambda one: True,
            lambda one: one.wrong * one.runs <= float(binom.isf(0.001, one.runs, WRONG_GOAL)),
        ),
        (
            f"harm from the start: mean at most {WALD_GOAL} times Wald's bound",
            lambda one: one.multiple > AT_LIMIT and not one.after,
            lambda one: one.ratio <= WALD_GOAL,
        ),
        (
            f"harm after good hours: mean at most {LORDEN_GOAL} times Lorden's bound",
            lambda one: one.after,
            lambda one: one.ratio <= LORDEN_GOAL,
        ),
        (
            f"gates: 95% decide within {FIXED_GOAL} times the fixed test's size",
            lambda one: one.multiple < AT_LIMIT,
            lambda one: one.ratio <= FIXED_GOAL,
        ),
    ]
    for words, concerns, reached in kinds:
        concerned = [one for one in results if concerns(one)]
        missed = [one for one in concerned if not reached(one)]
        found.append((words, [one for one in concerned if reached(one)], missed))
    return found


def _where(one: Result) -> str:
    cell = f"{one.cell.rate:g} requests/s, limit {one.cell.limit:.1%}{', bursts' if one.cell.burst else ''}"
    over = f", {one.ratio:.2f} times the bound" if isfinite(one.ratio) else ""
    return f"{cell}, {one.multiple:g} times it{' after 2h' if one.after else ''}: wrong {_percent(one.wrong)}{over}"


def why(missed: Result, goal: str) -> str:
    """Why a goal is not reached, as far as the numbers say it."""
    if goal.startswith("wrong"):
        if missed.cell.burst and missed.phi < 0.7 * TRUE_PHI:
            return f"a day of thin stable traffic shows a burstiness of {missed.phi:.1f} instead of {TRUE_PHI:g}"
        return "unexplained"
    limit = {"harm from the start": WALD_GOAL, "harm after good hours": LORDEN_GOAL}.get(
        goal.partition(":")[0], FIXED_GOAL
    )
    if not isfinite(missed.ratio):
        return "some took more than the four days that were looked at"
    if missed.bound and missed.ratio - INTERVAL / missed.bound <= limit:
        return "a row takes 10s, and so long nobody sees it"
    if missed.cell.burst and missed.phi > 1.1 * TRUE_PHI:
        return f"the burstiness was measured as {missed.phi:.1f}, and all takes longer by that"
    if missed.cell.burst and missed.multiple > AT_LIMIT:
        return "the price of clumps of unknown sizes: what bets on bad ones is divided by more than the burstiness"
    if missed.multiple < AT_LIMIT:
        return "the price of looking at any time; and no alternative lies nearer to it than 0.75 times the limit"
    return "the price of not knowing how bad it is, of keeping half of the error for later harm, and of whole rows"


def main() -> int:
    """Measure all cells, print the table and the goals, and write both under build/."""
    parser = argparse.ArgumentParser(prog="make bench-decisions")
    parser.add_argument("--runs", type=int, default=300, help="canaries of each true share (default 300)")
    parser.add_argument("--rate", type=float, action="append", help="only this rate of canary requests per second")
    chosen = parser.parse_args()
    cells = [Cell(rate, limit, burst) for burst in (False, True) for limit in LIMITS for rate in chosen.rate or RATES]
    begun = time.monotonic()
    with ProcessPoolExecutor(2) as pool:
        results = [each for found in pool.map(measure, cells, [chosen.runs] * len(cells)) for each in found]
    Console(width=200).print(table(results))
    for words, reached, missed in goals(results):
        print(f"{words}: reached in {len(reached)} of {len(reached) + len(missed)}")
        reasons: dict[str, list[Result]] = {}
        for one in missed:
            reasons.setdefault(why(one, words), []).append(one)
        for reason, those in reasons.items():
            worst = max(those, key=lambda one: one.wrong if words.startswith("wrong") else one.ratio)
            print(f"  not in {len(those)}: {reason}; worst: {_where(worst)}")
    print(f"{sum(each.runs for each in results):,} canaries in {time.monotonic() - begun:.0f}s")
    file = ROOT / "build" / "decisions.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps([_document(each) for each in results], indent=1))
    return 0


def _document(result: Result) -> dict[str, Any]:
    said = asdict(result) | {"wrong": result.wrong}
    return {name: None if isinstance(value, float) and not isfinite(value) else value for name, value in said.items()}


if __name__ == "__main__":
    sys.exit(main())

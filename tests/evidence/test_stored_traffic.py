"""A day of traffic at the limit and a hundred jumps over it, stored in a real Prometheus and folded out of it.

The rows are written with promtool's block writer, most as the recorded form has them, some as raw counters whose errors
are born with the first of them. They come back through the controller's own gatherer and fold, and are judged at
every row. What is asked of the delays are the tables of the experiments that the design stands on.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from math import ceil, inf

import numpy as np
import pytest
from scipy.stats import betabinom, binom

from controller.adapters.prometheus import Prometheus, PrometheusSettings
from controller.backtest import past
from controller.core.evidence import Criterion, Outcome
from controller.core.series import Reading, Row, Series, Subject
from controller.core.verdicts import advance, begin, in_force, judge
from controller.gather import Gatherer
from tests.backtest.grounds import DAY, STEP, T0, Count, write_blocks
from tests.core.builders import ERRORS, criterion
from tests.realparts.prometheus import Prometheus as RealPrometheus
from tests.realparts.prometheus import config

pytestmark = [pytest.mark.real, pytest.mark.xdist_group("stored")]  # what is stored serves all tests, in one worker

HOUR, MINUTE = 3600, 60
LIMIT, BAD, GOOD = 0.005, 0.02, 0.00079
ALPHA = 0.01
DOUBT = 0.001
"""So seldom does each bound here break by chance."""
EDGES, JUMPS = 40, 100
RATIO = Series("ratio", "failures", bad='bad_total{service="{{service}}"}', total='all_total{service="{{service}}"}')
CRITERION = criterion(limit=LIMIT)
HASTY = replace(CRITERION, certainty=1 - ALPHA ** (1 / 4))
"""What a wrong constant would make of it: a bar of a quarter of log(1/alpha)."""


@dataclass(frozen=True)
class Cell:
    """Services that are alike: requests/s, how many seconds good, and after how many the rows end.

    ``simulated`` and ``folded`` are the median and the 95 % of the delays in minutes: of 2,000 simulated runs with
    rows of 10 s, and of 150 that were scraped and folded in steps of 15 s.
    """

    name: str
    rate: float
    good: int
    lasts: int
    services: int = JUMPS
    series: Series = ERRORS
    simulated: tuple[float, float] = (0.0, 0.0)
    folded: tuple[float, float] = (0.0, 0.0)

    def names(self) -> list[str]:
        return [f"{self.name}-{number}" for number in range(self.services)]

    def shares(self) -> Iterator[float]:
        """Of each row, the true share of bad requests."""
        for second in range(STEP, self.lasts + 1, STEP):
            yield GOOD if second <= self.good else BAD


class Edge(Cell):
    """Services that are at the limit, no better and no worse."""

    def shares(self) -> Iterator[float]:
        yield from [LIMIT] * (self.lasts // STEP)


EDGE = [Edge("edge-thin", 0.5, 0, DAY, EDGES), Edge("edge", 5, 0, DAY, EDGES)]
LATER = 2 * HOUR
JUMP = [
    Cell("jump-thin", 0.5, 0, 2 * HOUR, series=RATIO, simulated=(16.2, 41.2), folded=(16.0, 37.5)),
    Cell("jump", 5, 0, 20 * MINUTE, simulated=(1.7, 4.3), folded=(2.8, 5.8)),
    Cell("later-thin", 0.5, LATER, LATER + 3 * HOUR, simulated=(29.3, 60.2), folded=(28.8, 62.2)),
    Cell("later", 5, LATER, LATER + 20 * MINUTE, series=RATIO, simulated=(3.7, 7.0), folded=(4.0, 7.5)),
]
CELLS = [*EDGE, *JUMP]
Truth = Mapping[str, Mapping[int, Count]]
"""Requests and errors of each service by instant."""


def drawn(cell: Cell, seed: int) -> dict[str, dict[int, Count]]:
    """Requests come by chance, and each is bad by itself; the row at the beginning says that there were none before."""
    rng = np.random.default_rng(seed)
    shares = np.fromiter(cell.shares(), float)
    found: dict[str, dict[int, Count]] = {}
    for name in cell.names():
        bad = rng.poisson(cell.rate * STEP * shares)
        fine = rng.poisson(cell.rate * STEP * (1 - shares))
        pairs = zip((bad + fine).tolist(), bad.tolist(), strict=True)
        found[name] = {T0: (0, 0)} | {T0 + STEP * at: pair for at, pair in enumerate(pairs, 1)}
    return found


def recorded(truth: Truth) -> Iterator[str]:
    """The rows as the recording rules would have written them."""
    for place, name in enumerate(("requests", "request_errors")):
        for service, rows in truth.items():
            labels = f'namespace="shop",service="{service}",track="canary"'
            for at, count in rows.items():
                yield f"namespace_service_track:{name}:delta10s{{{labels}}} {count[place]} {at}\n"


def raw(truth: Truth) -> Iterator[str]:
    """Counters of a pod that was scraped two seconds before each instant; that of the errors is born with the first."""
    lines: dict[str, list[str]] = {"bad_total": [], "all_total": [], "up": [], "process_start_time_seconds": []}
    for service, rows in truth.items():
        labels = f'namespace="shop",service="{service}",job="{service}",instance="a:80",track="canary"'
        n, x = 70_000, 0
        # Without a scrape before it, the first row would only be the anchor.
        for at in (T0 - STEP, *rows):
            more = rows.get(at, (0, 0))
            n, x = n + more[0], x + more[1]
            for name, value in zip(lines, (x, n, 1, T0 - 90_000), strict=True):
                if name != "bad_total" or x:
                    lines[name].append(f"{name}{{{labels}}} {value} {at - 2}\n")
    for some in lines.values():
        yield from some


@pytest.fixture(scope="module")
def truth() -> Truth:
    return {name: rows for seed, cell in enumerate(CELLS) for name, rows in drawn(cell, seed).items()}


@pytest.fixture(scope="module")
def read(truth: Truth, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Sequence[Row]]:
    """All rows of every service, as the gatherer has them from a Prometheus."""
    folder = tmp_path_factory.mktemp("stored")
    counters = {name for cell in CELLS if cell.series is RATIO for name in cell.names()}
    counted = {name: rows for name, rows in truth.items() if name in counters}
    ready = {name: rows for name, rows in truth.items() if name not in counters}
    write_blocks(folder, truth, DAY, lambda *_: recorded(ready), lambda *_: raw(counted))
    keep = ("--storage.tsdb.retention.time=20y",)  # what is stored lies in the past
    found: dict[str, list[Row]] = {}
    with (
        RealPrometheus(folder, config=config(), arguments=keep) as server,
        closing(Prometheus(PrometheusSettings(url=server.url, timeout=60.0, read_timeout=60.0))) as prometheus,
        closing(Gatherer(prometheus)) as gatherer,
    ):
        for cell in CELLS:
            names = cell.names()
            for some in (names[at : at + 25] for at in range(0, len(names), 25)):
                found |= rows_of(gatherer, cell, some)
    return found


def rows_of(gatherer: Gatherer, cell: Cell, names: Sequence[str]) -> dict[str, list[Row]]:
    """As a backtest reads them: what one answer leaves out is asked for by the next."""
    subjects = {name: Subject(cell.series, "shop", "main", name, "v2") for name in names}
    wanted = dict.fromkeys(subjects.values(), T0 - STEP)
    found = past._read(lambda some, until: gatherer.past(some, until, 300.0), wanted, T0 + cell.lasts)
    return {name: found[subject] for name, subject in subjects.items()}


@dataclass(frozen=True)
class Told:
    """When a service was first proven bad, and good, and the same in haste: seconds after T0, infinite for never."""

    bad: float
    good: float
    hasty_bad: float
    hasty_good: float


def told(rows: Sequence[Row], hasty_each: int) -> Told:
    """What the rows say, looked at after each (in haste after so many), until they say that it is bad."""
    at_first = begin(CRITERION, T0 - 5, DAY)
    fold = in_force(CRITERION, at_first, T0 - 5)
    first: dict[tuple[Criterion, Outcome], float] = {}
    for number, row in enumerate(rows):
        at = int(row.at)
        fold = advance(CRITERION, fold, (row,), at)
        for each in (CRITERION, HASTY) if number % hasty_each == 0 else (CRITERION,):
            first.setdefault((each, judge(each, "main", fold, Reading(at, at), row.at).outcome), row.at - T0)
        if (CRITERION, Outcome.FAIL) in first:
            break
    order = ((each, outcome) for each in (CRITERION, HASTY) for outcome in (Outcome.FAIL, Outcome.PASS))
    return Told(*(first.get(key, inf) for key in order))


@pytest.fixture(scope="module")
def edges(read: Mapping[str, Sequence[Row]]) -> Mapping[str, Sequence[Told]]:
    return {cell.name: [told(read[name], MINUTE // STEP) for name in cell.names()] for cell in EDGE}


def allowed(runs: int) -> int:
    """More than this is not what 1 % gives."""
    return int(binom.isf(DOUBT, runs, ALPHA))


@pytest.mark.parametrize("cell", CELLS, ids=[cell.name for cell in CELLS])
def test_what_is_read_is_what_was_written_row_by_row(
    cell: Cell, truth: Truth, read: Mapping[str, Sequence[Row]]
) -> None:
    for name in cell.names():
        rows = {int(row.at): (row.n, row.x) for row in read[name] if row.at > T0}
        assert rows == {at: count for at, count in truth[name].items() if at > T0}


@pytest.mark.parametrize("cell", CELLS, ids=[cell.name for cell in CELLS])
def test_the_fold_counts_every_request_and_every_error(
    cell: Cell, truth: Truth, read: Mapping[str, Sequence[Row]]
) -> None:
    for name in cell.names():
        fold = in_force(CRITERION, begin(CRITERION, T0 - 5, DAY), T0 - 5)
        fold = advance(CRITERION, fold, read[name], T0 + cell.lasts)
        written = truth[name].values()
        assert (fold.n, fold.x) == (sum(n for n, _ in written), sum(x for _, x in written))
        assert (fold.pass_n, fold.pass_x, fold.instants) == (fold.n, fold.x, cell.lasts // STEP)


def test_a_day_at_the_limit_is_hardly_ever_judged_either_way(edges: Mapping[str, Sequence[Told]]) -> None:
    every = [one for some in edges.values() for one in some]
    # Errors of 12 % either way would be noticed with a certainty of 90 %; tests/core looks closer, at more runs.
    assert binom.sf(allowed(len(every)), len(every), 0.12) > 0.9
    for some in (*edges.values(), every):
        assert sum(one.bad < inf for one in some) <= allowed(len(some))
        assert sum(one.good < inf for one in some) <= allowed(len(some))


def test_a_quarter_of_the_bar_is_noticed_at_the_limit(edges: Mapping[str, Sequence[Told]]) -> None:
    every = [one for some in edges.values() for one in some]
    assert sum(one.hasty_bad < inf for one in every) > allowed(len(every))
    assert sum(one.hasty_good < inf for one in every) > allowed(len(every))


@pytest.fixture(scope="module")
def jumps(read: Mapping[str, Sequence[Row]]) -> Mapping[str, Sequence[Told]]:
    return {cell.name: [told(read[name], 1) for name in cell.names()] for cell in JUMP}


def delays(cell: Cell, bad: Sequence[float]) -> list[float]:
    """Minutes from the jump to the proof, of those that were not judged before."""
    return [(at - cell.good) / MINUTE for at in bad if at > cell.good]


def too_late(found: Sequence[float], value: float, quantile: float, runs: int, spare: float) -> bool:
    """Whether too few lie below what was that quantile of so many others, for both to be of one distribution.

    How many of a sample lie below the k-th of another is beta-binomial, whatever the distribution is; so the error of
    the table is allowed for as well as that of the hundred. ``spare`` is minutes.
    """
    below, k = sum(delay <= value + spare for delay in found), ceil(quantile * runs)
    return bool(betabinom.cdf(below, len(found), k, runs + 1 - k) < DOUBT)


def too_soon(found: Sequence[float], value: float, quantile: float, runs: int, spare: float) -> bool:
    """Whether too many do."""
    below, k = sum(delay <= value - spare for delay in found), ceil(quantile * runs)
    return bool(betabinom.sf(below - 1, len(found), k, runs + 1 - k) < DOUBT)


TABLES = [
    # The table is of the same rows; its starts weigh 1/2 over the day where they now weigh 9/20, and one row is the
    # coarseness of both.
    pytest.param("simulated", 2000, 0.25, 0.25, id="simulated"),
    # Its rows were of 15 s, and at its beginning stood no row: a jump at once lost about a minute to the anchor.
    pytest.param("folded", 150, 0.5, 1.25, id="folded"),
]


@pytest.mark.parametrize(("table", "runs", "later", "sooner"), TABLES)
@pytest.mark.parametrize("cell", JUMP, ids=[cell.name for cell in JUMP])
def test_a_hundred_jumps_are_told_as_soon_as_in_the_tables(
    cell: Cell, table: str, runs: int, later: float, sooner: float, jumps: Mapping[str, Sequence[Told]]
) -> None:
    found = delays(cell, [one.bad for one in jumps[cell.name]])
    assert JUMPS - len(found) <= allowed(JUMPS), "they were proven bad while they were good"
    for value, quantile in zip(getattr(cell, table), (0.5, 0.95), strict=True):
        assert not too_late(found, value, quantile, runs, later)
        assert not too_soon(found, value, quantile, runs, sooner)


@pytest.mark.parametrize("cell", JUMP, ids=[cell.name for cell in JUMP])
def test_a_quarter_of_the_bar_is_noticed_by_the_delays(cell: Cell, jumps: Mapping[str, Sequence[Told]]) -> None:
    hasty = delays(cell, [one.hasty_bad for one in jumps[cell.name]])
    early = JUMPS - len(hasty) > allowed(JUMPS)
    assert early or too_soon(hasty, cell.simulated[0], 0.5, 2000, 0.25)

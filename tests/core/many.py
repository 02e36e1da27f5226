"""The tests of counts, run for many canaries at a time: the same constants and functions, the sums in numpy."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from math import exp
from types import ModuleType
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from controller.core import likelihoods
from controller.core.comparisons import gains_of, rates_of_pair
from controller.core.evidence import Criterion, bar, fail_bar
from controller.core.likelihoods import CAP, IMPOSSIBLE, start_weight
from controller.core.series import Pair
from tests.core.builders import criterion

Counts: TypeAlias = NDArray[np.int64]
"""Bad events, shape (rows, runs); or the row at which each run got a verdict, from 1, and 0 for never."""
Numbers: TypeAlias = NDArray[np.float64]


def steady(rng: np.random.Generator, n: int, share: float, rows: int, runs: int) -> Counts:
    """Bad events among ``n`` requests a row, each bad by itself."""
    return rng.binomial(n, share, (rows, runs))


def fixed_clumps(rng: np.random.Generator, n: int, share: float, rows: int, runs: int, phi: float) -> Counts:
    """The same share in clumps that are all of the size ``phi``; what does not fit into a row goes on in the next."""
    return _spilt(round(phi) * rng.poisson(n * share / phi, (rows, runs)), n)


def geometric_clumps(rng: np.random.Generator, n: int, share: float, rows: int, runs: int, phi: float) -> Counts:
    """The same with clumps of geometric sizes, whose variance is ``phi`` times that of chance; their mean is half of it."""
    mean = (phi + 1) / 2
    sizes = rng.poisson(n * share / mean, (rows, runs))
    some = np.nonzero(sizes)
    # The sum of k geometric sizes is k and a negative binomial number.
    sizes[some] += rng.negative_binomial(sizes[some], 1 / mean)
    return _spilt(sizes, n)


def _spilt(events: Counts, n: int) -> Counts:
    if (events > n).any():
        left = np.zeros(events.shape[1], dtype=np.int64)
        for row in events:
            left += row
            row[:] = np.minimum(left, n)
            left -= row
    return events


class Many:
    """The detector and the pass test of many canaries with ``n`` requests a row each, row by row.

    ``failed`` and ``passed`` are the rows of the first verdict of each kind. ``weights`` is how much of the error is spent
    on harm that begins at a row (0 is the first), by default as in a phase of ``horizon`` rows. A fail wants ``min_bad``
    bad events and the log ``fail_at`` of the detector.
    """

    def __init__(
        self,
        limit: float,
        n: int,
        runs: int,
        *,
        horizon: int = 8640,
        bursts: float = 1.0,
        min_bad: int = 3,
        fail_at: float | None = None,
        weights: Callable[[int], float] | None = None,
        code: ModuleType = likelihoods,
    ) -> None:
        self.limit, self.n, self.bursts, self.min_bad, self.code = limit, n, bursts, min_bad, code
        self.weights = weights or (lambda row: float(code.start_weight(row, horizon)))
        self.bar = code.evidence_needed(criterion(limit=limit).certainty)
        self.fail_at = exp(self.bar if fail_at is None else fail_at)
        x = np.arange(n + 1)
        rates = code.divided_rates(limit, bursts)
        logs = np.array([(x * bad + (n - x) * good) / divisor for bad, good, divisor in rates])
        self.ratios: Numbers = np.exp(np.minimum(logs, 690.0))
        self.detector: Numbers = np.zeros((len(rates), runs))
        self.total = np.zeros(runs, dtype=np.int64)
        self.row = 0
        self.bearable = -1
        self.failed: Counts = np.zeros(runs, dtype=np.int64)
        self.passed: Counts = np.zeros(runs, dtype=np.int64)

    def see(self, x: Counts) -> None:
        """One row more of every run."""
        self.detector += self.weights(self.row) / len(self.detector)
        with np.errstate(over="ignore"):
            self.detector *= self.ratios[:, x]
        np.minimum(self.detector, self.code.CAP, out=self.detector)
        self.row += 1
        self.total += x
        hit = (self.detector.sum(axis=0) >= self.fail_at) & (self.total >= self.min_bad) & (self.failed == 0)
        self.failed[hit] = self.row
        # What passes with so many bad ones passes with fewer.
        while self._passes(self.bearable + 1):
            self.bearable += 1
        self.passed[(self.total <= self.bearable) & (self.passed == 0)] = self.row

    def _passes(self, x: int) -> bool:
        n = self.n * self.row
        if x >= self.limit * n:
            return False
        found: float = self.code.log_evidence_in_bursts(n, x, self.limit, self.bursts)
        return bool(found >= self.bar)

    def watch(self, pieces: Iterable[Counts], until: str = "") -> Many:
        """All rows of the pieces, or until all runs have ``failed`` or ``passed``."""
        for piece in pieces:
            for x in piece:
                self.see(x)
            if until and getattr(self, until).all():
                break
        return self


class ManyPairs:
    """A comparison of many canaries with their stable tracks: ``n`` and ``stable_n`` requests a row. Else as :class:`Many`."""

    def __init__(
        self,
        wanted: Criterion,
        n: int,
        stable_n: int,
        runs: int,
        *,
        horizon: int = 8640,
        bursts: float = 1.0,
        weights: Callable[[int], float] | None = None,
    ) -> None:
        self.weights = weights or (lambda row: start_weight(row, horizon))
        self.min_bad, self.bar, self.fail_at = wanted.min_bad, bar(wanted), exp(fail_bar(wanted))
        worse, better = rates_of_pair(wanted, Pair(0.0, float(n), 0.0, float(stable_n), 0.0))

        def weighed(x: float, stable_x: float) -> tuple[list[float], list[float]]:
            row = Pair(0.0, float(n), x, float(stable_n), stable_x)
            return tuple(list(gains_of(rates, row, bursts)) for rates in (worse, better))  # type: ignore[return-value]

        # They are linear in both counts.
        nothing, mine, others = (np.array(weighed(*one)[0]) for one in ((0.0, 0.0), (1.0, 0.0), (0.0, 1.0)))
        self.worse = (nothing, mine - nothing, others - nothing)
        nothing, mine, others = (np.array(weighed(*one)[1]) for one in ((0.0, 0.0), (1.0, 0.0), (0.0, 1.0)))
        self.better = (nothing, mine - nothing, others - nothing)
        self.detector: Numbers = np.zeros((len(worse), runs))
        self.evidence: Numbers = np.zeros((len(better), runs))
        self.total = np.zeros(runs, dtype=np.int64)
        self.row = 0
        self.failed: Counts = np.zeros(runs, dtype=np.int64)
        self.passed: Counts = np.zeros(runs, dtype=np.int64)

    def see(self, x: Counts, stable_x: Counts) -> None:
        """One row more of every run."""
        self.detector += self.weights(self.row) / len(self.detector)
        with np.errstate(over="ignore"):
            self.detector *= np.exp(np.minimum(self._gains(self.worse, x, stable_x), 690.0))
        np.minimum(self.detector, CAP, out=self.detector)
        self.row += 1
        self.total += x
        hit = (self.detector.sum(axis=0) >= self.fail_at) & (self.total >= self.min_bad) & (self.failed == 0)
        self.failed[hit] = self.row
        if len(self.evidence):
            self.evidence += self._gains(self.better, x, stable_x)
            np.maximum(self.evidence, IMPOSSIBLE, out=self.evidence)
            mixed = np.exp(np.minimum(self.evidence, 690.0)).mean(axis=0)
            self.passed[(mixed >= exp(self.bar)) & (self.passed == 0)] = self.row

    @staticmethod
    def _gains(rates: tuple[Numbers, Numbers, Numbers], x: Counts, stable_x: Counts) -> Numbers:
        nothing, mine, others = rates
        found: Numbers = np.outer(mine, x) + np.outer(others, stable_x) + nothing[:, None]
        return found

    def watch(self, mine: Iterable[Counts], others: Iterable[Counts]) -> ManyPairs:
        """All rows of the pieces."""
        for piece, beside in zip(mine, others, strict=True):
            for x, stable_x in zip(piece, beside, strict=True):
                self.see(x, stable_x)
        return self

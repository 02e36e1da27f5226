"""What a criterion can decide, told before there is any traffic: how often, how soon, and what it will catch.

The pass test looks at two numbers only, n requests with x bad ones among them, and can be met anew only where one more
bad request becomes bearable. So the chance to pass by a look is found exactly, by dynamic programming over the binomial
from one such border to the next. Past :data:`EXACT_BAD` bad requests borders are taken together; the chance is then a
lower bound, and the time is late by at most the part of it that :data:`COARSE` names.

The fail side is bounded from both sides: from below by the one start of harm that is certainly part of its mixture, from
above by Ville's inequality for the power of the mixture at which it still is no gain to bet on.

Requests are taken to come evenly, each bad with the same chance whatever the others are. Where bad ones come in clumps,
as many requests as :attr:`Bars.unit` are taken for one, which is bad or not: what is computed is then an approximation.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from math import ceil, exp, floor, inf, lgamma, log, log1p, pi, sqrt

from controller.core.evidence import Criterion, bar, fail_bar
from controller.core.likelihoods import (
    START_WEIGHT,
    WORSE,
    clumped,
    divided_rates,
    log_evidence_of_pass,
    pass_divisor,
)

EXACT_BAD = 200
"""Up to so many bad requests every border is looked at."""
COARSE = 25
"""Past that, the borders of one part in so many of all bad requests so far are taken as one."""
MOST_BAD = 2000
"""So many bad requests at the limit are not followed from look to look any more."""
MOST_REQUESTS = 1e10
"""More than these are taken for never."""
_NEGLIGIBLE = 1e-13
_SURE = 1e-9
"""A chance that is left and not followed any further."""


@dataclass(frozen=True, slots=True)
class Bars:
    """The two tests of a criterion as numbers.

    ``limit`` is the share of bad requests that must not be reached. ``to_pass`` and ``to_fail`` are logs of what the
    evidence must reach. A pass wants ``min_requests`` requests, a fail ``min_bad`` bad ones.

    Where bad requests come in ``bursts``, all numbers of requests and of bad ones, these two, those that are asked with
    these bars and those that are answered, are numbers of units: of as many requests as one is.
    """

    limit: float
    to_pass: float
    to_fail: float
    min_requests: int = 0
    min_bad: int = 3
    bursts: float = 1.0

    @property
    def unit(self) -> float:
        """How many requests count as one; 1 where each is bad by itself."""
        return pass_divisor(self.limit, self.bursts)


@dataclass(frozen=True, slots=True)
class Times:
    """When canaries pass: the rows at which some do, in order, with the part of all that has passed by then.

    The first row is number 1. ``exact`` is false where borders were taken together.
    """

    rows: tuple[int, ...]
    passed: tuple[float, ...]
    exact: bool = True

    def by(self, row: int) -> float:
        """The chance to have passed by this row."""
        index = bisect_right(self.rows, row)
        return self.passed[index - 1] if index else 0.0

    def until(self, chance: float) -> int | None:
        """The row by which that part has passed; None: it is not reached within the rows that were looked at."""
        return next((row for row, passed in zip(self.rows, self.passed, strict=True) if passed >= chance), None)


def bars_of(criterion: Criterion, bursts: float = 1.0) -> Bars:
    """The tests of a criterion of counts with a certainty, where bad requests come in ``bursts`` (1: they do not)."""
    bursts = max(1.0, bursts)
    unit = pass_divisor(criterion.limit, bursts)
    return Bars(
        criterion.limit,
        bar(criterion),
        fail_bar(criterion),
        ceil(criterion.min_requests / unit),
        ceil(criterion.min_bad / unit),
        bursts,
    )


# The binomial. The formula of Loader (2000): exact to the last digits where a difference of logs of factorials loses them.


def _log_factorial_rest(n: int) -> float:
    """How far Stirling's formula is below the log of n!."""
    if n < 16:
        return lgamma(n + 1) - (n + 0.5) * log(n) + n - 0.5 * log(2 * pi) if n else 0.0
    square = float(n) * n
    return (1 / 12 - (1 / 360 - (1 / 1260 - 1 / 1680 / square) / square) / square) / n


def _deviance(x: float, mean: float) -> float:
    """How far x is from its mean: x log(x/mean) + mean - x."""
    if abs(x - mean) < 0.1 * (x + mean):
        v = (x - mean) / (x + mean)
        total, power, j = (x - mean) * v, 2 * x * v, 1
        while True:
            power *= v * v
            more = total + power / (2 * j + 1)
            if more == total:
                return total
            total, j = more, j + 1
    return x * log(x / mean) + mean - x


def binomial(x: int, n: int, share: float) -> float:
    """The chance of exactly x bad ones among n, each bad with the chance ``share``."""
    if not 0 <= x <= n:
        return 0.0
    if share <= 0 or share >= 1:
        return 1.0 if x == (0 if share <= 0 else n) else 0.0
    if x == 0:
        return exp(n * log1p(-share))
    if x == n:
        return exp(n * log(share))
    rest = _log_factorial_rest(n) - _log_factorial_rest(x) - _log_factorial_rest(n - x)
    away = _deviance(x, n * share) + _deviance(n - x, n * (1 - share))
    return exp(rest - away) * sqrt(n / (2 * pi * x * (n - x)))


def at_most(x: int, n: int, share: float) -> float:
    """The chance of x bad ones or fewer among n."""
    if x < 0:
        return 0.0
    if x >= n:
        return 1.0
    if x < n * share:
        return min(1.0, _falling(x, n, share))
    return max(0.0, 1.0 - _rising(x + 1, n, share))


def at_least(x: int, n: int, share: float) -> float:
    """The chance of x bad ones or more among n."""
    if x <= 0:
        return 1.0
    if x > n:
        return 0.0
    if x > n * share:
        return min(1.0, _rising(x, n, share))
    return max(0.0, 1.0 - _falling(x - 1, n, share))


def _falling(x: int, n: int, share: float) -> float:
    """The sum from x down to 0, for x below the mean."""
    term = total = binomial(x, n, share)
    odds = (1 - share) / share
    while x > 0 and term > total * 1e-17:
        term *= x / (n - x + 1) * odds
        total += term
        x -= 1
    return total


def _rising(x: int, n: int, share: float) -> float:
    """The sum from x up to n, for x above the mean."""
    term = total = binomial(x, n, share)
    odds = share / (1 - share) if share < 1 else inf
    while x < n and term > total * 1e-17:
        term *= (n - x) / (x + 1) * odds
        total += term
        x += 1
    return total


def _spread(n: int, share: float) -> tuple[int, list[float]]:
    """The chances of all numbers of bad ones that come up at all: the lowest number, and a chance each."""
    if n == 0 or share <= 0:
        return 0, [1.0]
    if share >= 1:
        return n, [1.0]
    middle = min(n, floor((n + 1) * share))
    peak = binomial(middle, n, share)
    odds = share / (1 - share)
    below: list[float] = []
    term, x = peak, middle
    while x > 0:
        term *= x / ((n - x + 1) * odds)
        x -= 1
        if term < _NEGLIGIBLE:
            break
        below.append(term)
    above = [peak]
    term, x = peak, middle
    while x < n:
        term *= (n - x) / (x + 1) * odds
        x += 1
        if term < _NEGLIGIBLE:
            break
        above.append(term)
    return middle - len(below), below[::-1] + above


# The pass side.


class _Borders:
    """The fewest requests that pass with 0, 1, 2, ... bad ones among them; those that were asked for are kept."""

    def __init__(self, limit: float, needed: float, least: int) -> None:
        self._limit, self._needed = limit, needed
        self._least = max(1, least)
        self._found: dict[int, int] = {}

    def of(self, x: int) -> int:
        """The border of x."""
        if x not in self._found:
            self._found[x] = self._border(x)
        return max(self._found[x], self._least)

    def most_bad(self, n: int) -> int:
        """The most bad requests with which n pass; -1: n never pass."""
        # A share at the limit is no evidence that it is below.
        low, high = -1, ceil(n * self._limit) if n >= self._least else 0
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self._passes(n, middle) else (low, middle)
        return low

    def _passes(self, n: int, x: int) -> bool:
        return log_evidence_of_pass(float(n), float(x), self._limit) >= self._needed

    def _border(self, x: int) -> int:
        low, step = floor(x / self._limit), ceil(1 / self._limit)
        while not self._passes(low + step, x):
            low += step
            step *= 2
        high = low + step
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if self._passes(middle, x) else (middle, high)
        return high


@lru_cache(maxsize=256)
def _borders(limit: float, needed: float, least: int) -> _Borders:
    return _Borders(limit, needed, least)


def _borders_of(bars: Bars) -> _Borders:
    return _borders(bars.limit, bars.to_pass, bars.min_requests)


def soonest_pass(bars: Bars, x: int = 0) -> int:
    """The fewest requests that pass with x bad ones among them."""
    return _borders_of(bars).of(x)


def most_bad(bars: Bars, n: int) -> int:
    """The most bad requests with which n requests pass; -1: they cannot pass at all."""
    return _borders_of(bars).most_bad(n)


def passes_at(bars: Bars, n: int, share: float) -> float:
    """The chance that n requests pass, looked at once, if a ``share`` of them is bad. Exact."""
    return at_most(most_bad(bars, n), n, share)


def pass_times(bars: Bars, share: float, per_row: float, first: int, last: int, enough: float = 1.0) -> Times:
    """When a canary passes that is looked at after each row from ``first`` to ``last``, with ``per_row`` requests a row.

    It ends early once the part ``enough`` has passed.
    """
    borders = _borders_of(bars)
    rows: list[int] = []
    passed: list[float] = []
    total, exact = 0.0, True
    for row, chance, alike in _first_passes(borders, share, per_row, first, last):
        total += chance
        exact = exact and alike
        rows.append(row)
        passed.append(min(1.0, total))
        if total >= min(enough, 1 - _SURE):
            break
    return Times(tuple(rows), tuple(passed), exact)


def passes_within(bars: Bars, share: float, per_row: float, first: int, last: int) -> float:
    """The chance to pass at some row from ``first`` to ``last``; a lower bound where there are very many bad requests."""
    if last < max(1, first) or per_row <= 0:
        return 0.0
    first = max(1, first)
    ends = (passes_at(bars, _requests_by(row, per_row), share) for row in (first, last))
    through = min(last, floor(MOST_BAD / bars.limit / per_row))
    if through < first:
        return max(ends)
    return max(*ends, pass_times(bars, share, per_row, first, through).by(last))


def _first_passes(
    borders: _Borders, share: float, per_row: float, first: int, last: int
) -> Iterator[tuple[int, float, bool]]:
    """The looks at which some pass who had not before, with the chance of that; and whether no border was left out."""
    if per_row <= 0:
        return
    n, lowest, alive = 0, 0, [1.0]
    row, bearable = max(1, first), -1
    coarse = False
    while row <= last:
        now = _requests_by(row, per_row)
        bearable = max(bearable, borders.most_bad(now))
        if bearable >= 0:
            start, more = _spread(now - n, share)
            alive = _sum_of(alive, more)
            lowest += start
            n = now
            gone = bearable + 1 - lowest
            if gone > 0:
                yield row, sum(alive[:gone]), not coarse
                alive = alive[gone:]
                lowest = bearable + 1
            alive, lowest = _trimmed(alive, lowest)
            if not alive:
                return
        # Below the lowest number that is left there is nobody who could pass.
        step = bearable + 1
        if step > EXACT_BAD:
            step, coarse = step + step // COARSE, True
        row = max(row + 1, _row_of(borders.of(max(step, lowest)), per_row))


def _requests_by(row: int, per_row: float) -> int:
    return floor(row * per_row + 1e-9)


def _row_of(n: int, per_row: float) -> int:
    """The first row by which so many requests have come."""
    row = max(1, ceil(n / per_row - 1e-9))
    while _requests_by(row, per_row) < n:
        row += 1
    return row


def _trimmed(alive: list[float], lowest: int) -> tuple[list[float], int]:
    """Without the chances at both ends that no sum would notice."""
    while alive and alive[-1] < _NEGLIGIBLE:
        alive.pop()
    lost = next((index for index, chance in enumerate(alive) if chance >= _NEGLIGIBLE), len(alive))
    return alive[lost:], lowest + lost


def _sum_of(alive: list[float], more: list[float]) -> list[float]:
    """The chances of the sum of two numbers."""
    if len(more) == 1:
        return [chance * more[0] for chance in alive]
    if len(alive) < len(more):
        alive, more = more, alive
    total = [0.0] * (len(alive) + len(more) - 1)
    for index, weight in enumerate(more):
        for place, chance in enumerate(alive, start=index):
            total[place] += weight * chance
    return total


def requests_to_pass(bars: Bars, share: float, chance: float) -> float:
    """From how many requests on one look passes with at least that chance; inf: no number does."""
    if not share < bars.limit or chance >= 1:
        return inf
    borders = _borders_of(bars)

    def enough(x: int) -> bool:
        # The worst place of those at which x are bearable: just before one more is.
        return at_most(x, borders.of(x + 1) - 1, share) >= chance

    high = 1
    while not enough(high):
        high *= 2
        if borders.of(high) > MOST_REQUESTS:
            return inf
    low = high // 2 if high > 1 else -1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    # Within the stretch of one border the chance falls, and in the stretch before it does not hold to its end.
    before = borders.of(high)
    if high and at_most(high - 1, before - 1, share) >= chance:
        return float(borders.of(high - 1))
    return float(before)


# The fail side.


def log_evidence_of_fail(n: float, x: float, limit: float, start_weight: float, bursts: float = 1.0) -> float:
    """The log of the part of the detector's mixture that has seen all n requests, x of them bad, since it began.

    ``start_weight`` is that beginning's part of the mixture; what the detector says is never less. With ``bursts``, both
    numbers are of units, as :class:`Bars` has them.
    """
    unit = pass_divisor(limit, bursts)
    terms = [(x * bad + (n - x) * good) * (unit / divisor) for bad, good, divisor in divided_rates(limit, bursts)]
    top = max(terms)
    return log(start_weight / len(WORSE)) + top + log(sum(exp(term - top) for term in terms))


def fewest_bad(bars: Bars, n: int, start_weight: float = START_WEIGHT) -> int:
    """With how many bad requests among n the detector has certainly failed; n + 1: with none of these numbers."""
    low, high = min(bars.min_bad, n + 1) - 1, n + 1
    while high - low > 1:
        middle = (low + high) // 2
        found = log_evidence_of_fail(float(n), float(middle), bars.limit, start_weight, bars.bursts)
        fails = found >= bars.to_fail
        low, high = (low, middle) if fails else (middle, high)
    return high


def caught(bars: Bars, n: int, share: float, start_weight: float = START_WEIGHT) -> float:
    """The chance, at least, that n requests are proven worse than the limit if a ``share`` of them is bad."""
    return at_least(fewest_bad(bars, n, start_weight), n, share)


def smallest_caught(bars: Bars, n: int, chance: float = 0.95, start_weight: float = START_WEIGHT) -> float | None:
    """The smallest bad share that n requests prove to be over the limit with at least that chance; None: none is."""
    needed = fewest_bad(bars, n, start_weight)
    if needed > n:
        return None
    low, high = bars.limit, 1.0
    for _ in range(40):
        middle = sqrt(low * high)
        low, high = (low, middle) if at_least(needed, n, middle) >= chance else (middle, high)
    return high


def requests_to_catch(bars: Bars, share: float, chance: float = 0.95, start_weight: float = START_WEIGHT) -> float:
    """From about how many requests on that bad share is proven with at least that chance; inf: it is not."""
    if share <= bars.limit:
        return inf
    return _first(lambda n: caught(bars, n, share, start_weight) >= chance)


def _first(holds: Callable[[int], bool]) -> float:
    """The first number for which it holds, if it goes on holding from there on; inf: none up to MOST_REQUESTS."""
    high = 1
    while not holds(high):
        high *= 2
        if high > MOST_REQUESTS:
            return inf
    low = high // 2
    while high - low > max(1, high // 4096):
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    return float(high)


def fail_times(
    bars: Bars,
    share: float,
    per_row: float,
    last: int,
    start_weight: float = START_WEIGHT,
    enough: float = 1.0,
    finer: int = 16,
) -> Times:
    """When a canary with that bad share is certainly proven bad that is looked at after each row up to ``last``.

    While as many bad requests are needed, who has had them at one look has them at the next: so only the looks before
    one more is needed count, and ``finer`` ones between them for the times. It ends early as :func:`pass_times` does.
    """
    rows: list[int] = []
    failed: list[float] = []
    total, exact = 0.0, True
    n, lowest, alive, row = 0, 0, [1.0], 0
    while alive and row < last and total < min(enough, 1 - _SURE):
        row += 1
        needed = fewest_bad(bars, _requests_by(row, per_row), start_weight)
        end = _last_row_with(bars, needed, per_row, row, last, start_weight)
        exact = exact and needed <= EXACT_BAD
        if needed > EXACT_BAD:
            # Looks far apart miss those who fail in between and recover: too few fail, and too late.
            end = max(end, min(last, row + row // COARSE))
            looks = [end]
        else:
            looks = [*range(row, end, max(1, (end - row) // finer)), end]
        for look in looks:
            now = _requests_by(look, per_row)
            needed = fewest_bad(bars, now, start_weight)
            start, more = _spread(now - n, share)
            alive, lowest, n = _sum_of(alive, more), lowest + start, now
            kept = max(0, needed - lowest)
            if kept < len(alive):
                total += sum(alive[kept:])
                alive = alive[:kept]
                rows.append(look)
                failed.append(min(1.0, total))
            alive, lowest = _trimmed(alive, lowest)
        row = end
    return Times(tuple(rows), tuple(failed), exact)


def _last_row_with(bars: Bars, needed: int, per_row: float, row: int, last: int, start_weight: float) -> int:
    """The last row up to ``last`` at which no more bad requests are needed than at ``row``."""

    def same(candidate: int) -> bool:
        n = _requests_by(candidate, per_row)
        # As long as nothing fails, each request more makes one more needed.
        return n >= needed and fewest_bad(bars, n, start_weight) <= needed

    low, step = row, 1
    while low + step <= last and same(low + step):
        low += step
        step *= 2
    high = min(last + 1, low + step)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if same(middle) else (low, middle)
    return low


def false_fail_at_most(bars: Bars, share: float) -> float:
    """A bound on the chance that a canary with that bad share is ever proven bad, however often one looks.

    A mixture of likelihood ratios to the power of s is a supermartingale as long as the expectation of each ratio's is
    at most 1; below the limit that holds for an s above 1, the larger the better the canary is. By Ville's inequality
    the chance is at most exp(-s * bar); taken for the mixture as a whole, or for each alternative by itself with the
    parts of the bar that make the sum smallest.
    """
    if share >= bars.limit:
        return exp(-bars.to_fail) if share == bars.limit else 1.0
    if share <= 0:
        return 0.0
    powers = [
        _power(share, (bad - good) / divisor, -good / divisor, bars.bursts)
        for bad, good, divisor in divided_rates(bars.limit, bars.bursts)
    ]
    whole = exp(-min(powers) * bars.to_fail)
    return min(whole, _shared(powers, bars.to_fail))


def _power(share: float, gain: float, cost: float, bursts: float) -> float:
    """The largest power of a ratio whose expectation is at most 1: ``gain`` for a bad request, ``cost`` for each one."""

    def fair(s: float) -> bool:
        return log1p(share * clumped(s * gain, bursts)) <= s * cost

    low, high = 1.0, 2.0
    while fair(high) and high < 256:
        low, high = high, 2 * high
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if fair(middle) else (low, middle)
    return low


def _shared(powers: list[float], needed: float) -> float:
    """The smallest sum of (1/(c e^needed))^s over parts c that make their number together."""

    def parts(multiplier: float) -> list[float]:
        return [exp((log(s) - s * needed - multiplier) / (s + 1)) for s in powers]

    low, high = -50.0 * needed - 50.0 * max(powers), 50.0 * needed
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if sum(parts(middle)) > len(powers) else (low, middle)
    return sum(exp(-s * (needed + log(c))) for s, c in zip(powers, parts(high), strict=True))


def plain_false_alarms(limit: float, least_bad: int, per_window: float, windows: float, share: float) -> float:
    """The chance, at least, that a plain threshold over one window breaks in so many windows side by side."""
    n = floor(per_window)
    if n < 1 or windows < 1:
        return 0.0
    one = at_least(max(least_bad, 1, ceil(limit * n - 1e-9)), n, share)
    return -_expm1_log1p(one, floor(windows)) if one < 1 else 1.0


def _expm1_log1p(chance: float, times: int) -> float:
    return exp(times * log1p(-chance)) - 1.0

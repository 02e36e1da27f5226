"""How many more requests would decide what is undecided, or would have proven it worse."""

from __future__ import annotations

from collections.abc import Callable
from math import ceil, inf

from controller.core.comparisons import gains_of, rates_of_pair
from controller.core.evidence import Verdict, bar, fail_bar, passes_by_counts
from controller.core.likelihoods import IMPOSSIBLE, divided_rates, mixed
from controller.core.series import Pair


def requests_to_settle(verdict: Verdict, share: float = 0.0) -> float:
    """How many more requests with that share of bad ones would make an undecided verdict a pass; inf: none would.

    Stable goes on as it has since the raise: its share of the traffic, and its share of bad requests.
    """
    criterion, n, x = verdict.criterion, verdict.n, verdict.x
    if not criterion.versus:
        return _fewest(lambda more: passes_by_counts(criterion, n + more, x + share * more, verdict.bursts))
    if not n or not verdict.stable_n or not verdict.terms:
        return inf
    each = Pair(0.0, 1.0, share, verdict.stable_n / n, (verdict.stable_x or 0.0) / n)
    _, better = rates_of_pair(criterion, each)
    gains = tuple(gains_of(better, each, verdict.bursts))

    def passes(more: float) -> bool:
        terms = tuple(max(term + more * gain, IMPOSSIBLE) for term, gain in zip(verdict.terms, gains, strict=True))
        return n + more >= criterion.min_requests and mixed(terms) >= bar(criterion)

    return _fewest(passes)


def requests_to_fail(verdict: Verdict, share: float) -> float:
    """How many requests with that share of bad ones prove it worse, were there no others before; inf: none do."""
    criterion, n = verdict.criterion, verdict.n
    if criterion.versus:
        if not n or not verdict.stable_n:
            return inf
        each = Pair(0.0, 1.0, share, verdict.stable_n / n, (verdict.stable_x or 0.0) / n)
        gain = max(gains_of(rates_of_pair(criterion, each)[0], each, verdict.bursts))
    else:
        rates = divided_rates(criterion.limit, verdict.bursts)
        gain = max((share * log_bad + (1 - share) * log_good) / divisor for log_bad, log_good, divisor in rates)
    return fail_bar(criterion) / gain if gain > 0 else inf


def _fewest(enough: Callable[[float], bool]) -> float:
    """The fewest that are enough, to a thousandth: 0 or more, inf where a million millions are not."""
    if enough(0.0):
        return 0.0
    more = 64.0
    while not enough(more):
        more *= 2
        if more > 1e12:
            return inf
    low, high = 0.0, more
    while high - low > max(1.0, high / 1000):
        middle = (low + high) / 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return ceil(high)

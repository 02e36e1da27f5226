"""The formulas of the evidence: what a bad or a good event is worth to each alternative, and what that adds up to.

All of it is numbers and pure. Both sides are mixtures of likelihood ratios over better or worse shares; the fail side's
is one over the instant at which the harm began as well. By Ville's inequality the chance that such a mixture ever reaches
1/alpha while none of its alternatives holds is at most alpha, however often one looks (Howard, Ramdas, McAuliffe, Sekhon
2021; the weighted starts follow Shin, Ramdas, Rinaldo 2022).
"""

from __future__ import annotations

from functools import lru_cache
from math import ceil, exp, expm1, inf, log, log1p

WORSE = (1.5, 2.0, 3.0, 5.0, 10.0, 20.0, 50.0)
"""The alternatives of the fail side, as multiples of the limit."""
BETTER = (0.75, 0.5, 0.25, 0.1, 0.0)
"""The alternatives of the pass side, as multiples of the limit."""
IMPOSSIBLE = -1e12
"""The log of what cannot be, as a finite number: status holds no infinities."""
LARGEST_SHARE = 0.95
START_WEIGHT = 0.5
PLANNED_WEIGHT = 9 / 20
EXTENSION_WEIGHT = 1 / 20
SLOW_SERIES_SUM = 2.109742801236892
"""The sum of 1/(j ln^2 j) over j >= 2, so that weights that fall like it sum to one."""
CAP = 1e300
"""Beyond every limit that is ever compared with, and far from overflow."""


@lru_cache(maxsize=4096)
def worse_rates(limit: float) -> tuple[tuple[float, float], ...]:
    """Per alternative the logs of the ratios of a bad and a good event; none has a share that leaves no good ones."""
    shares = [min(multiple * limit, max(LARGEST_SHARE, (1 + limit) / 2)) for multiple in WORSE]
    return tuple((log(share / limit), log1p(-share) - log1p(-limit)) for share in shares)


@lru_cache(maxsize=4096)
def better_rates(limit: float) -> tuple[tuple[tuple[float, float], ...], float]:
    """Per alternative the logs of the ratios of a bad and a good event; and that of a good one if none were bad."""
    base = log1p(-limit)
    return tuple((log(multiple), log1p(-multiple * limit) - base) for multiple in BETTER if multiple), -base


def log_evidence_of_pass(n: float, x: float, limit: float) -> float:
    """The log of the mixture of likelihood ratios that the bad share is below ``limit``, given x bad among n."""
    rates, none_bad = better_rates(limit)
    good = n - x
    terms = [x * log_bad + good * log_good for log_bad, log_good in rates]
    if not x:
        terms.append(n * none_bad)
    top = max(terms)
    total = 0.0
    for term in terms:
        total += exp(term - top)
    return top + log(total / len(BETTER))


def log_evidence_in_bursts(n: float, x: float, limit: float, bursts: float) -> float:
    """The same where bad events come in bursts; ``bursts`` is 1 where they do not."""
    # Each alternative's log is a sum over events: fewer events are the same as less weight for each.
    divisor = pass_divisor(limit, bursts)
    return log_evidence_of_pass(n / divisor, x / divisor, limit)


def evidence_needed(certainty: float) -> float:
    """The log of what evidence must reach for that certainty (0.99 for an error of 1 %): 1/alpha."""
    return -log(1 - certainty)


def mixed(terms: tuple[float, ...]) -> float:
    """The log of the mixture of alternatives whose logs these are; one at least."""
    top = max(terms)
    return top + log(sum(exp(term - top) for term in terms) / len(terms))


def reaches(detector: tuple[float, ...], needed: float) -> bool:
    """Whether the mixtures of the fail side together reach e^needed."""
    total = sum(detector)
    return total > 0 and log(total) >= needed


def weight_of_harm(limit: float, n: float, x: float) -> float:
    """What these counts weigh for the mildest alternative: above 0 wherever they do for any other one."""
    log_bad, log_good = worse_rates(limit)[0]
    return x * log_bad + (n - x) * log_good


def bet(
    detector: list[float], weight: float, n: float, x: float, rates: tuple[tuple[float, float, float], ...]
) -> None:
    """Let the counts of one row weigh in each mixture; ``weight`` is of the harm that begins with this row."""
    good = n - x
    for k, (log_bad, log_good, divisor) in enumerate(rates):
        ratio = exp(min((x * log_bad + good * log_good) / divisor, 690.0))
        detector[k] = min((detector[k] + weight) * ratio, CAP)


def start_weight(instant: int, horizon: int) -> float:
    """How much of the error is spent on harm that begins at this instant (0 is the first); all of them sum to 1.

    ``horizon`` is the planned number of instants (0: without an end).
    """
    if instant == 0:
        return START_WEIGHT
    if instant <= horizon:
        return PLANNED_WEIGHT / horizon
    rest = EXTENSION_WEIGHT if horizon else 1 - START_WEIGHT
    j = instant - horizon + 1
    return rest / (SLOW_SERIES_SUM * j * log(j) ** 2)


# Bursts. Bad events that come in clumps of any sizes s have the variance of chance times phi = E[s^2]/E[s]; phi is all
# that is measured. What an interval multiplies the evidence by, t for each bad event, then expects at most 1 if
# E[t^s - 1]/E[s] is not more than what the other events cost. (t^s - 1)/s is convex in s, so
# - for t < 1, clumps that are all of the size phi are the worst: to divide by hardly more than phi is enough, whatever
#   the sizes;
# - for t > 1 they are the best, and rare large ones are worse than that without an end. The bet is on geometric sizes,
#   as failures that go on with the same chance after each one have them.
# So what bets on bad events has a divisor of its own for each alternative; the pass side of counts has one for all.

_GAIN_STEPS = 16
_HALVINGS = 40


def fail_divisors(limit: float, bursts: float) -> tuple[float, ...]:
    """What each alternative of the fail side is divided by where bad events come in bursts; 1 each where they do not.

    ``limit`` is the share of bad events, ``bursts`` their burstiness. None is below ``bursts``, and the larger the
    alternative, the larger its divisor.
    """
    return tuple(_divisor(bad - good, -good, bursts, limit) for bad, good in worse_rates(limit))


@lru_cache(maxsize=16384)
def pass_divisor(limit: float, bursts: float) -> float:
    """What the counts of the pass side are divided by where bad events come in bursts; 1 where they do not.

    ``limit`` is the share of bad events, ``bursts`` their burstiness. It is at most bursts / (1 - limit): a chance of two
    outcomes scatters less than clumps that come whenever they like.
    """
    rates, none_bad = better_rates(limit)
    every = (*rates, (IMPOSSIBLE, none_bad))
    return max(_divisor(bad - good, -good, bursts, limit) for bad, good in every)


@lru_cache(maxsize=16384)
def divided_rates(limit: float, bursts: float) -> tuple[tuple[float, float, float], ...]:
    """Of :func:`worse_rates`, each with its divisor."""
    return tuple(
        (*rates, divisor) for rates, divisor in zip(worse_rates(limit), fail_divisors(limit, bursts), strict=True)
    )


def divisor_of_a_bet(gain: float, bursts: float) -> float:
    """Of a comparison: what is divided by where a bad event of the one track multiplies by e^gain.

    The bad events of the other track, or the interval itself, pay u = e^gain - 1 for that, in proportion; divided by c
    they still pay u/c, as (1 - v)^(bursts/c) <= 1 - v * bursts/c. The gain changes with the split of the traffic; so
    that few are computed it is rounded up.
    """
    return 1.0 if bursts <= 1 else _divisor_of_steps(max(1, ceil(gain * _GAIN_STEPS)), bursts)


@lru_cache(maxsize=16384)
def _divisor_of_steps(steps: int, bursts: float) -> float:
    gain = steps / _GAIN_STEPS
    return _divisor(gain, expm1(gain), bursts)


def _divisor(gain: float, cost: float, bursts: float, share: float = 0.0) -> float:
    """The smallest divisor c with which a bet on bad events, or against them, is fair with clumps of that burstiness.

    With g for :func:`clumped` gain/c, and ``share`` bad ones in a request: log(1 + share * g) <= cost/c. Without a share,
    ``cost`` is for each bad event that is expected: g <= cost/c.
    """
    if bursts <= 1:
        return 1.0

    def holds(divisor: float) -> bool:
        growth = clumped(gain / divisor, bursts)
        return (log1p(share * growth) if share else growth) <= cost / divisor

    low, high = bursts, 2 * bursts
    while not holds(high):
        low, high = high, 2 * high
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high


def clumped(gain: float, bursts: float) -> float:
    """By how much clumps of bad events let the evidence grow, for each of them: E[e^(gain s) - 1]/E[s]; inf: without end.

    ``gain`` is the log of what one bad event multiplies by. The sizes s have the burstiness ``bursts``: all alike where the
    gain is below 0, else geometric.
    """
    if gain < 0:
        return expm1(gain * bursts) / bursts
    over = expm1(min(gain, 700.0))
    left = 1 - (bursts - 1) / 2 * over
    return over / left if left > 0 else inf

"""Which of the plan's weights was in force, told from how the requests were split: nobody wrote it down.

A filter over the plan's weights: from row to row a weight mostly stays, and each row is so likely under each of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import exp, inf, log, log1p

from controller.core.units import FULL_WEIGHT

STRAY = 0.0005
"""The canary's share of requests at weight 0, and stable's at all of it: probes, and clients that keep a connection."""
MOST_REQUESTS = 200.0
"""No row says more than so many requests: gateways split evenly, but never exactly as they are told."""
CHANGES = 0.001
"""How likely a weight is another one in the next row."""
SURE = 0.99
ROWS = 2
"""So many rows must agree: the one in which a weight changes is a mixture of both."""


class Shares:
    """The weight of one target's canary. ``look`` takes the rows in order."""

    def __init__(self, weights: Iterable[int]) -> None:
        self._weights = tuple(sorted({0, *weights}))
        self._logs = [0.0 if weight == 0 else -inf for weight in self._weights]
        self._new, self._agree = 0, 0
        self.weight = 0

    def look(self, canary: float, stable: float) -> bool:
        """Take a row's requests; whether the weight is another one now."""
        total = canary + stable
        if total <= 0:
            return False
        scale = min(1.0, MOST_REQUESTS / total)
        stays, comes = log1p(-CHANGES), log(CHANGES / max(1, len(self._weights) - 1))
        whole = _sum(self._logs)
        before = [_either(each + stays, whole + comes) for each in self._logs]
        likely = [
            prior + scale * _log_likelihood(canary, stable, weight / FULL_WEIGHT)
            for prior, weight in zip(before, self._weights, strict=True)
        ]
        whole = _sum(likely)
        self._logs = [each - whole for each in likely]
        best = max(range(len(self._logs)), key=self._logs.__getitem__)
        found = self._weights[best] if self._logs[best] >= log(SURE) else self.weight
        self._agree = self._agree + 1 if found == self._new else 1
        self._new = found
        if found == self.weight or self._agree < ROWS:
            return False
        self.weight = found
        return True

    def saved(self) -> list[float]:
        """What :meth:`restore` takes."""
        return [float(self.weight), float(self._new), float(self._agree), *(max(each, -1e300) for each in self._logs)]

    def restore(self, saved: Sequence[float]) -> None:
        """Go on where another one was.

        Raises:
            ValueError: it is not what :meth:`saved` gave for these weights.
        """
        if len(saved) != 3 + len(self._weights):
            raise ValueError("it is of other weights")
        weight, new, agree, *logs = saved
        self.weight, self._new, self._agree = int(weight), int(new), int(agree)
        self._logs = [-inf if each <= -1e300 else each for each in logs]


def _log_likelihood(canary: float, stable: float, share: float) -> float:
    share = min(max(share, STRAY), 1 - STRAY)
    return canary * log(share) + stable * log1p(-share)


def _either(first: float, second: float) -> float:
    return _sum((first, second))


def _sum(logs: Sequence[float]) -> float:
    top = max(logs)
    return top + log(sum(exp(each - top) for each in logs))

"""Values that know their standard error: judged at few planned looks, which share the chance of being wrong.

With K looks planned, each may err with alpha/K. Whatever the looks have to do with each other, the chance that any one
of them errs is then at most alpha (Bonferroni), so that nothing needs to be known of how the value comes about.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import inf
from statistics import NormalDist
from typing import Literal

from controller.core.series import Row

MISSED_INTERVALS = 4
"""A checkpoint's look is over without a row after so many intervals; the gate's own waits for its row."""
_NORMAL = NormalDist()


@dataclass(frozen=True, slots=True)
class Looks:
    """When a value is looked at in the running phase, as the calendar stands (epoch seconds).

    ``gate`` is when the gate is judged; None: there is none, or its time is not known yet.
    """

    checkpoints: tuple[float, ...] = ()
    gate: float | None = None

    def next_after(self, now: float) -> float | None:
        """The first one after ``now``; None: none is known."""
        gate = () if self.gate is None else (self.gate,)
        return min((at for at in (*self.checkpoints, *gate) if at > now), default=None)

    def taken_at(self, at: float, newest: float, interval: int) -> bool:
        """Whether the row at ``at`` is a look; ``newest`` is the row of the newest look before it (-inf: none)."""
        if self.gate is not None and newest < self.gate <= at:
            return True
        return any(newest < planned <= at <= planned + MISSED_INTERVALS * interval for planned in self.checkpoints)


NO_LOOKS = Looks()


@dataclass(frozen=True, slots=True)
class Looked:
    """What a verdict at looks stands on.

    ``at`` is the look that decided, else the newest one (epoch seconds; 0: none yet), ``error`` its standard error.
    ``taken`` of ``planned`` looks are over. ``needs`` is by how many standard errors the value must be beyond the limit to
    pass, and ``needs_to_fail`` to fail. ``next`` is the next look that is known. ``waits``: the gate's time has come, and
    its look has no settled row yet; ``over``: that look was the last one that is planned so far.
    """

    at: float
    error: float
    taken: int
    planned: int
    needs: float
    needs_to_fail: float
    next: float | None
    waits: bool
    over: bool


@lru_cache(maxsize=4096)
def standard_errors(chance: float) -> float:
    """By how many standard errors an estimate is beyond the truth with that chance (below 1/2), on one given side."""
    return -_NORMAL.inv_cdf(chance)


def add_looks(window: Sequence[Row], rows: Iterable[Row], looks: Looks, most: int, interval: int) -> tuple[Row, ...]:
    """The rows of the looks, with those of ``rows`` that are looks; never more than ``most``."""
    kept = list(window)
    for row in rows:
        if len(kept) < most and looks.taken_at(row.at, kept[-1].at if kept else -inf, interval):
            kept.append(row)
    return tuple(kept)


def waits_for_gate(window: Sequence[Row], looks: Looks, most: int, now: float) -> bool:
    """Whether the gate's time has come and its look is still to be had."""
    due = looks.gate is not None and looks.gate <= now
    return due and len(window) < most and (not window or window[-1].at < (looks.gate or 0.0))


def beyond(row: Row, limit: float, side: Literal["below", "above"]) -> float:
    """By how many standard errors the value of a row lies beyond the limit, on its good side."""
    distance = row.x - limit if side == "above" else limit - row.x
    return distance / row.n


def decided(
    window: Sequence[Row], limit: float, side: Literal["below", "above"], since: int, needs: float, needs_to_fail: float
) -> tuple[Literal["pass", "fail", ""], Row | None]:
    """What the newest look that decided says, and that look; else nothing, and the newest look.

    What was seen before ``since`` (epoch seconds; 0: it has not begun) passes nothing: that was with other weights.
    """
    for row in reversed(window):
        distance = beyond(row, limit, side)
        if distance <= -needs_to_fail:
            return "fail", row
        if since and row.at >= since and distance >= needs:
            return "pass", row
    return "", window[-1] if window else None

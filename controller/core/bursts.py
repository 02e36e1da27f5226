"""How much more than by chance bad events vary, from the past of the stable track."""

from __future__ import annotations

from collections.abc import Iterable

from controller.core.series import Hour

_FEWEST_BAD = 10.0
_FEWEST_ROWS = 30
_HOURS_TO_SPARE = 6


def burstiness(hours: Iterable[Hour]) -> float:
    """How much more the bad events vary from row to row, or from minute to minute, than chance would make them; 1 or more.

    The variance over its mean, each hour around its own share, so that a slow change of either the traffic or the share
    is none. The worst hour is left out where there are enough: an outage is no burstiness. What chance alone explains
    counts as 1.
    """
    by_length: dict[int, list[Hour]] = {}
    for hour in hours:
        by_length.setdefault(hour.seconds, []).append(hour)
    return max((_dispersion(alike) for alike in by_length.values()), default=1.0)


def _dispersion(hours: Iterable[Hour]) -> float:
    found: list[tuple[float, float, float]] = []
    for hour in hours:
        share = hour.x / hour.n
        if hour.rows < _FEWEST_ROWS or not 0 < share < 1:
            continue
        spread = (hour.xx - 2 * share * hour.nx + share * share * hour.nn) * hour.rows / (hour.rows - 1)
        found.append((spread, hour.x * (1 - share), hour.nn * (share * (1 - share)) ** 2))
    if len(found) >= _HOURS_TO_SPARE:
        found.remove(max(found))
    spread, expected, squares = (sum(part) for part in zip(*found, strict=True)) if found else (0.0, 0.0, 0.0)
    if expected < _FEWEST_BAD:
        return 1.0
    ratio = spread / expected
    # Twice the standard error of the ratio, were there nothing but chance.
    by_chance = 2 * (expected + 2 * squares) ** 0.5 / expected
    return ratio if ratio > 1 + by_chance else 1.0

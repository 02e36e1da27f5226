"""How many requests a plan's targets get, asked of Prometheus' past."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import isfinite
from typing import NamedTuple, Protocol

from controller.adapters.prometheus import Answer
from controller.adapters.promql import Confinement, Matcher, Selector, one_of, question
from controller.core.normal_form import duration
from controller.core.plan import Plan, Target
from controller.core.series import Series, Subject, Track
from controller.errors import UnusableError

DAY = 86400.0
STEP = 300.0
"""Seconds over which one rate is taken: bursts within are not the traffic that a gate waits for."""
_TRACKS: tuple[Track, ...] = ("canary", "stable")
_QUIET = 0.05


class Rates(NamedTuple):
    """Requests per second of one target, both tracks: the median of a day, and what 5 % of it lie below."""

    median: float
    quiet: float


class RangeSource(Protocol):
    """What is needed of Prometheus; see :class:`controller.adapters.prometheus.Prometheus`."""

    def query_range(self, expression: str, start: float, end: float, step: float, deadline: float) -> Answer:
        """The values at start, start + step, ... up to end (epoch seconds); ``deadline`` is an instant of monotonic."""


def measure_rates(prometheus: RangeSource, plan: Plan, now: float, deadline: float) -> dict[str, Rates]:
    """The requests per second of every target of the plan over the day before ``now`` (epoch seconds).

    The recorded counts are asked first, in one query; for targets that have none, the plan's own counters.

    Raises:
        AdapterError: Prometheus gives no answer, or knows of no requests of a target; the message names it.
    """
    end = now // STEP * STEP
    found = _recorded(prometheus, plan, end, deadline)
    for target in plan.targets:
        if target.name not in found:
            found[target.name] = _own(prometheus, plan, target, end, deadline)
    return found


def _recorded(prometheus: RangeSource, plan: Plan, end: float, deadline: float) -> dict[str, Rates]:
    names = {target.service for target in plan.targets}
    rows = Selector(
        "namespace_service_track:requests:delta10s",
        (Matcher("namespace", "=", plan.namespace), one_of("service", names), one_of("track", _TRACKS)),
    )
    # One millisecond less: a range that is closed at both ends would hold one row too many.
    window = duration(STEP - 0.001)
    expression = f"sum by (service) (sum_over_time({rows}[{window}])) / {STEP:g}"
    answer = prometheus.query_range(expression, end - DAY + STEP, end, STEP, deadline)
    by_service = {series.labels.get("service", ""): series.values for series in answer.series}
    return {
        target.name: rates
        for target in plan.targets
        if (rates := _rates(by_service.get(target.service, {}))) is not None
    }


def _own(prometheus: RangeSource, plan: Plan, target: Target, end: float, deadline: float) -> Rates:
    for series in _series(plan):
        parts = [
            question(
                Subject(series, plan.namespace, target.name, target.service, plan.revision, track), Confinement()
            ).parts[1]
            for track in _TRACKS
        ]
        # Of a ready expression nobody knows whether it counts; and one without {{track}} would count both twice.
        counters = dict.fromkeys(str(part) for part in parts if isinstance(part, Selector))
        if not counters:
            continue
        window = duration(STEP)
        each = " or ".join(
            f'label_replace(sum(rate({counter}[{window}])), "__part", "{number}", "", "")'
            for number, counter in enumerate(counters)
        )
        answer = prometheus.query_range(f"sum({each})", end - DAY + STEP, end, STEP, deadline)
        rates = _rates(answer.series[0].values) if answer.series else None
        if rates is not None:
            return rates
    raise UnusableError(
        f"target {target.name}: Prometheus knows of no requests of service {target.service} in namespace "
        f"{plan.namespace} in the last day; write --requests {target.name}=100/s instead"
    )


def _series(plan: Plan) -> Iterator[Series]:
    """Every series of counters of the plan's own metrics, once."""
    seen: set[tuple[str, str]] = set()
    for phase in plan.phases:
        criteria = [guardrail.criterion for guardrail in phase.guardrails]
        criteria += phase.gate.criteria if phase.gate else ()
        for criterion in criteria:
            series = criterion.series
            if series.kind in ("ratio", "latency") and (series.kind, series.total) not in seen:
                seen.add((series.kind, series.total))
                yield series


def _rates(values: Mapping[int, float]) -> Rates | None:
    usable = sorted(value for value in values.values() if isfinite(value) and value >= 0)
    if not usable or usable[-1] <= 0:
        return None
    return Rates(_quantile(usable, 0.5), _quantile(usable, _QUIET))


def _quantile(ordered: Sequence[float], part: float) -> float:
    place = part * (len(ordered) - 1)
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (place - below) * (ordered[above] - ordered[below])

"""The traffic of a plan as Prometheus has it: how much there is, and whether its bad requests come in bursts."""

from __future__ import annotations

import time
from dataclasses import replace

from controller.adapters.measured import Rates, measure_rates
from controller.adapters.prometheus import Prometheus
from controller.adapters.reached import backend_of, backends, confinement
from controller.core.bursts import burstiness
from controller.core.configuration import NOTHING, Configuration
from controller.core.evidence import grid
from controller.core.plan import Plan
from controller.core.questions import BURSTS_OVER, criteria_of
from controller.core.series import Reading, Series, Subject
from controller.errors import UnansweredError
from controller.gather import Gatherer
from controller.settings import Settings


def measured(
    settings: Settings, plan: Plan, now: float, patience: float, configuration: Configuration = NOTHING
) -> tuple[dict[str, Rates], dict[tuple[str, Series], float]]:
    """The rates of each target, and by target and series how much more than by chance stable's bad requests vary.

    Both are of the day before ``now`` (epoch seconds). ``patience`` is seconds for each of the two.

    Raises:
        AdapterError: Prometheus gives no answer, or knows of no requests of a target.
    """
    known, pasts = backends(settings, configuration), _pasts(plan, now)
    rates: dict[str, Rates] = {}
    readings: dict[Subject, Reading] = {}
    for name in dict.fromkeys(target.prometheus for target in plan.targets):
        source = Prometheus(replace(backend_of(known, name), timeout=patience, read_timeout=patience))
        gatherer = Gatherer(source, confinement=confinement(settings, configuration))
        its_own = tuple(target for target in plan.targets if target.prometheus == name)
        try:
            rates |= measure_rates(source, replace(plan, targets=its_own), now, time.monotonic() + patience)
            wanted = {subject: after for subject, after in pasts.items() if subject.backend == name}
            readings |= gatherer.gather(wanted, now, patience)
        finally:
            gatherer.close()
            source.close()
    for subject, reading in readings.items():
        if reading.problem:
            raise UnansweredError(f"target {subject.target}: {reading.problem}")
    return rates, {(subject.target, subject.series): burstiness(reading.hours) for subject, reading in readings.items()}


def _pasts(plan: Plan, now: float) -> dict[Subject, int]:
    """The stable track's past of every series whose evidence bursts weaken, as the controller asks before a phase."""
    return {
        Subject(
            criterion.series,
            plan.namespace,
            target,
            plan.target(target).service,
            plan.revision,
            "stable",
            past=True,
            backend=plan.target(target).prometheus,
        ): grid(now - BURSTS_OVER, criterion.series.interval)
        for phase in plan.phases
        for criterion in criteria_of(phase)
        if not criterion.plain
        for target in phase.targets
    }

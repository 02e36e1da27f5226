"""Asks Prometheus whether any of its alerting rules could raise what a plan counts."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Protocol

from controller.adapters.prometheus import QueryUnusableError
from controller.adapters.promql import Matcher, Selector
from controller.core.incident_rules import AlertRule, read_rules, to_look_up, unmet
from controller.core.matchers import Condition
from controller.errors import UnusableError

VALUES_SECONDS = 86_400.0
"""How far back it is looked for a series that meets a condition."""


class Rules(Protocol):
    """What is needed of Prometheus; see :class:`controller.adapters.prometheus.Prometheus`."""

    def alerting_rules(self, deadline: float) -> list[Any]:
        """The groups of alerting rules."""

    def label_values(self, label: str, selector: str, since: float, deadline: float) -> tuple[str, ...]:
        """The values of a label in the series of a selector since an instant (epoch seconds)."""


def loaded_rules(prometheus: Rules, deadline: float, clock: Callable[[], float] = time.time) -> tuple[AlertRule, ...]:
    """The alerting rules as they are now; ``deadline`` is an instant of monotonic. Raises AdapterError."""
    try:
        return read_rules(prometheus.alerting_rules(deadline), clock())
    except ValueError as error:
        raise UnusableError(f"Prometheus sent {error}") from error


def unmet_by(
    prometheus: Rules,
    rules: tuple[AlertRule, ...],
    conditions: tuple[Condition, ...],
    deadline: float,
    clock: Callable[[], float] = time.time,
) -> str:
    """Why no alert of these rules can meet the conditions; empty: one can. Raises AdapterError."""
    found: dict[Condition, bool] = {}
    for condition in to_look_up(conditions, rules):
        selector = str(Selector("", (Matcher(*condition),)))
        try:
            found[condition] = bool(
                prometheus.label_values(condition.label, selector, clock() - VALUES_SECONDS, deadline)
            )
        except QueryUnusableError:
            found[condition] = True  # too many of them are some
    return unmet(conditions, rules, found)


def rules_unmet(prometheus: Rules, conditions: tuple[Condition, ...], deadline: float) -> str:
    """Why no alerting rule can raise an alert that meets the conditions; empty: one can. Raises AdapterError."""
    return unmet_by(prometheus, loaded_rules(prometheus, deadline), conditions, deadline)

"""Whether any alerting rule of Prometheus could ever raise the incidents that a criterion counts.

That nothing was counted says something only where something could have been: a misspelt condition is met by no alert.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from controller.core.faults import listed
from controller.core.matchers import Condition, meets
from controller.core.normal_form import GROUP_LATE_S
from controller.core.units import format_duration, parse_instant

_MAKES_LABELS = re.compile(r"\b(?:label_replace|label_join|count_values|absent|absent_over_time|info)\s*\(")
"""What gives the result of an expression labels, or values of them, that no series has."""
_SHOWN = 5


@dataclass(frozen=True, slots=True)
class AlertRule:
    """One alerting rule as Prometheus has loaded it; ``problem`` is why its alerts are not known; empty: they are."""

    name: str
    group: str
    labels: Mapping[str, str]
    expression: str
    problem: str = ""

    def can_have(self, condition: Condition, found: Mapping[Condition, bool]) -> bool:
        """Whether an alert of this rule could meet the condition; in doubt it could.

        ``found`` says of a condition whether any series meets it; one that is not there may be met.
        """
        if condition.label == "alertname":
            return meets(condition, self.name)
        written = self.labels.get(condition.label)
        if written is not None:
            return "{{" in written or meets(condition, written)
        # The label is what the expression's series have it, or missing.
        if meets(condition, "") or found.get(condition, True):
            return True
        return bool(_MAKES_LABELS.search(self.expression)) and condition.label in self.expression


def to_look_up(conditions: Iterable[Condition], rules: Sequence[AlertRule]) -> tuple[Condition, ...]:
    """The conditions that nothing but the series in Prometheus can answer."""
    nothing: dict[Condition, bool] = {}
    return tuple(
        condition
        for condition in conditions
        if condition.label != "alertname"
        and not meets(condition, "")
        and any(rule.can_have(condition, nothing) and condition.label not in rule.labels for rule in rules)
    )


def unmet(conditions: Sequence[Condition], rules: Sequence[AlertRule], found: Mapping[Condition, bool]) -> str:
    """Why no alert of these rules can meet all conditions, or why it is not known whether one does; empty: it is."""
    could = [rule for rule in rules if all(rule.can_have(condition, found) for condition in conditions)]
    if could:
        problem = next((rule for rule in could if rule.problem), None)
        return f'rule "{problem.name}" of group "{problem.group}" {problem.problem}' if problem else ""
    if not rules:
        return (
            "Prometheus has no alerting rule; load those that raise the incidents, or name the Prometheus that has them"
        )
    for condition in conditions:
        if not any(rule.can_have(condition, found) for rule in rules):
            known = sorted(
                {text for rule in rules if "{{" not in (text := rule.labels.get(condition.label, ""))} - {""}
            )
            if condition.label == "alertname":
                known = sorted({rule.name for rule in rules})
            shown = [f'"{value}"' for value in known[:_SHOWN]] + (["others"] if len(known) > _SHOWN else [])
            instead = f"; they have {listed(shown)}" if known else ""
            return f"no alerting rule of Prometheus can have {condition}{instead}"
    return f"no alerting rule of Prometheus can have {listed(map(str, conditions), 'and')} at once"


def read_rules(groups: Iterable[Mapping[str, Any]], now: float) -> tuple[AlertRule, ...]:
    """The alerting rules of groups as the API of Prometheus writes them, at ``now`` (epoch seconds).

    Raises:
        ValueError: they are none.
    """
    try:
        return tuple(
            AlertRule(
                name=str(rule["name"]),
                group=str(group["name"]),
                labels={str(name): str(value) for name, value in (rule.get("labels") or {}).items()},
                expression=str(rule.get("query", "")),
                problem=_problem(rule, float(group.get("interval") or 0), now),
            )
            for group in groups
            for rule in group.get("rules") or ()
            if rule.get("type", "alerting") == "alerting"
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"no rules: {error!r}") from error


def _problem(rule: Mapping[str, Any], interval: float, now: float) -> str:
    if rule.get("health") == "err":
        words = " ".join(str(rule.get("lastError", "")).split())[:200]
        return f"fails: {words}" if words else "fails"
    text = str(rule.get("lastEvaluation", ""))
    evaluated = 0.0
    if text and not text.startswith("0001-"):
        try:
            evaluated = parse_instant(text)
        except ValueError:
            evaluated = 0.0
    if rule.get("health") == "unknown" or not evaluated:
        return "was not evaluated yet"
    late = now - evaluated
    if late > 2 * interval + GROUP_LATE_S:
        return f"was last evaluated {format_duration(late)} ago"
    return ""

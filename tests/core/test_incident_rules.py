"""A condition that no alert could ever meet is found out from the rules; where there is doubt, one could."""

from __future__ import annotations

from typing import Any

import pytest

from controller.core.incident_rules import AlertRule, read_rules, to_look_up, unmet
from controller.core.matchers import Condition, meets, read_matcher
from controller.core.units import format_instant

NOW = 1_700_000_000.0


def rule(name: str = "Down", expression: str = "up == 0", problem: str = "", **labels: str) -> AlertRule:
    return AlertRule(name, "shop", {"severity": "critical", **labels}, expression, problem)


def asked(*matchers: str) -> tuple[Condition, ...]:
    return (Condition("severity", "=", "critical"), *map(read_matcher, matchers))


@pytest.mark.parametrize(
    ("matcher", "value", "met"),
    [
        ("a=b", "b", True),
        ("a=b", "c", False),
        ("a!=b", "", True),
        ("a!=b", "b", False),
        ('a=~"b|c"', "c", True),
        ('a=~"b|c"', "cc", False),
        ('a=~".*"', "", True),
        ('a!~"b.*"', "bc", False),
        (r'a=~"\\pL+"', "x", True),
    ],
)
def test_a_label_meets_a_condition_as_in_prometheus(matcher: str, value: str, met: bool) -> None:
    assert meets(read_matcher(matcher), value) is met


@pytest.mark.parametrize(
    ("rules", "matchers", "found", "why"),
    [
        ([rule(team="learning")], ["team=learning"], {}, ""),
        (
            [rule(team="learning")],
            ["team=lerning"],
            {},
            'no alerting rule of Prometheus can have team="lerning"; they have',
        ),
        ([rule(team="{{ $labels.owner }}")], ["team=lerning"], {}, ""),
        ([rule()], ["team=lerning"], {"team": False}, 'can have team="lerning"'),
        ([rule()], ["team=learning"], {"team": True}, ""),
        ([rule()], ["team=learning"], {}, ""),
        ([rule()], ["team!=payments"], {"team": False}, ""),
        ([rule(expression='absent(up{team="learning"})')], ["team=learning"], {"team": False}, ""),
        ([rule(expression='label_replace(up, "team", "x", "", "")')], ["team=x"], {"team": False}, ""),
        ([rule(expression='label_replace(up, "zone", "x", "", "")')], ["team=x"], {"team": False}, "can have team"),
        ([rule()], ["alertname=Down"], {}, ""),
        ([rule()], ["alertname=Up"], {}, 'can have alertname="Up"; they have "Down"'),
        ([rule(severity="page")], [], {}, 'can have severity="critical"; they have "page"'),
        ([], [], {}, "Prometheus has no alerting rule; load those"),
        (
            [rule(team="a", severity="page"), rule(team="b")],
            ["team=a"],
            {},
            'no alerting rule of Prometheus can have severity="critical" and team="a" at once',
        ),
        ([rule(problem="fails: boom")], [], {}, 'rule "Down" of group "shop" fails: boom'),
        ([rule(), rule("Other", problem="fails", severity="page")], [], {}, ""),
        ([rule(), rule("Other", problem="was not evaluated yet")], [], {}, 'rule "Other" of group "shop" was not'),
    ],
)
def test_what_can_never_be_met_is_named_and_nothing_else(
    rules: list[AlertRule], matchers: list[str], found: dict[str, bool], why: str
) -> None:
    conditions = asked(*matchers)
    known = {condition: found[condition.label] for condition in conditions if condition.label in found}
    said = unmet(conditions, rules, known)
    assert why in said if why else said == ""


def test_only_what_the_rules_leave_open_is_looked_up() -> None:
    rules = [rule(team="learning"), rule("Other", severity="page")]
    conditions = asked("team=payments", "zone!=eu", 'service=~"shop|pay"', "alertname=Down")
    # A rule without a label of its own may have it from its series, whatever the others write.
    assert [each.label for each in to_look_up(conditions, rules)] == ["team", "service"]
    assert to_look_up(asked("team=payments"), [rule(team="learning")]) == ()


def _group(**fields: Any) -> dict[str, Any]:
    one = {
        "name": "Down",
        "query": "up == 0",
        "labels": {"severity": "critical"},
        "health": "ok",
        "lastEvaluation": format_instant(NOW - 30),
        "type": "alerting",
        **fields,
    }
    return {"name": "shop", "file": "rules.yml", "interval": 60, "rules": [one]}


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({}, ""),
        ({"lastEvaluation": "2023-11-14T22:12:50.123456789Z"}, ""),
        ({"health": "err", "lastError": "many\nmatches"}, "fails: many matches"),
        ({"health": "unknown"}, "was not evaluated yet"),
        ({"lastEvaluation": "0001-01-01T00:00:00Z"}, "was not evaluated yet"),
        ({"lastEvaluation": "soon"}, "was not evaluated yet"),
        ({"lastEvaluation": format_instant(NOW - 181)}, "was last evaluated 3m1s ago"),
        ({"labels": None}, ""),
    ],
)
def test_a_rule_is_read_with_what_keeps_its_alerts_from_being_known(fields: dict[str, Any], problem: str) -> None:
    (found,) = read_rules([_group(**fields)], NOW)
    assert (found.name, found.group, found.problem) == ("Down", "shop", problem)


def test_recording_rules_are_none_and_no_rules_are_refused() -> None:
    assert read_rules([_group(type="recording")], NOW) == ()
    strange: list[dict[str, Any]] = [
        {"rules": [{}]},
        {"name": "a", "rules": [1]},
        {"name": "a", "rules": [{"name": "b", "labels": [1]}]},
    ]
    for wrong in strange:
        with pytest.raises(ValueError, match="no rules"):
            read_rules([wrong], NOW)

"""For each alert what makes it fire and what does not, and what people then read; written for promtool.

Samples stand a minute apart in promtool's notation (``0+60x3`` is 0 60 120 180, ``_`` no sample, ``stale`` a target that
went away), and time begins at 0, so a gauge that holds an instant is read as seconds since the beginning of the case.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rules.alerts import RULES, Rule

LONG = "x60"
SHOP = {"namespace": "prod", "launch": "shop"}
MAIN = {**SHOP, "target": "main"}


@dataclass(frozen=True)
class Case:
    """``minute`` is when it is looked at. ``fires``: the labels, beyond those of the rule, of each alert that then does.

    ``value`` is how the value is shown in the annotations.
    """

    alert: str
    fact: str
    series: Mapping[str, str]
    minute: int
    fires: Sequence[Mapping[str, str]] = ()
    value: str = ""


def launch(metric: str, values: str, **labels: str) -> dict[str, str]:
    """One series of the launch prod/shop, as it comes from a pod."""
    written = {**SHOP, "instance": "10.0.0.1:8080", **labels}
    inside = ",".join(f'{name}="{value}"' for name, value in written.items())
    return {f"autoadvance_{metric}{{{inside}}}": values}


def state(name: str, values: str = f"1{LONG}") -> dict[str, str]:
    """The launch is in that state, and in no other."""
    others = ("Progressing", "Held", "RollingBack", "RolledBack", "Judging", "Succeeded", "AwaitingApproval")
    series: dict[str, str] = {}
    for other in others:
        series |= launch("launch_state", values if other == name else f"0{LONG}", state=other)
    return series


def since(seconds: int = 0) -> dict[str, str]:
    """Since when the launch is in its state."""
    return launch("launch_state_since_timestamp_seconds", f"{seconds}{LONG}")


def reason(name: str) -> dict[str, str]:
    """Why the launch is where it is."""
    return launch("launch_reason", f"1{LONG}", reason=name)


def weights(desired: str, observed: str = "") -> dict[str, str]:
    """The shares of target main; an empty one is absent."""
    both = {"desired": desired, "observed": observed}
    return {
        name: values
        for which, share in both.items()
        if share
        for name, values in launch(f"launch_{which}_weight_ratio", f"{share}{LONG}", target="main").items()
    }


def last_sample(criterion: str, values: str) -> dict[str, str]:
    """The newest instant that a criterion of main rests on."""
    return launch("criterion_last_sample_timestamp_seconds", values, target="main", criterion=criterion)


EVALUATION = "autoadvance_last_evaluation_timestamp_seconds"
TICK = "autoadvance_tick_interval_seconds"
MANAGERS = "autoadvance_alertmanagers"
ALERT_FAILURES = "autoadvance_alert_failures_total"
EACH_MINUTE, NEVER = "0+1x60", "0x60"
A_MINUTE_APART = "0+60x60"

CASES = (
    Case("Watchdog", "always", {}, 0, [{}]),
    # The controller
    Case("AutoAdvanceControllerDown", "it is not scraped any more", {EVALUATION: "0+60x2 stale"}, 6, [{}]),
    Case("AutoAdvanceControllerDown", "it never was", {}, 3, [{}]),
    Case("AutoAdvanceControllerDown", "it is scraped", {EVALUATION: A_MINUTE_APART}, 6),
    Case("AutoAdvanceControllerDown", "it is restarted", {EVALUATION: "0+60x2 stale 240+60x9"}, 5),
    Case("AutoAdvanceNotReconciling", "no tick ends", {EVALUATION: "0x20", TICK: "10x20"}, 5, [{}], "5m 0s"),
    Case("AutoAdvanceNotReconciling", "ticks end", {EVALUATION: A_MINUTE_APART, TICK: "10x20"}, 5),
    Case("AutoAdvanceNotReconciling", "ticks are long by setting", {EVALUATION: "0x20", TICK: "300x20"}, 14),
    Case("AutoAdvanceNotReconciling", "one of two finishes them",
         {f'{EVALUATION}{{instance="a"}}': "0x20", f'{EVALUATION}{{instance="b"}}': A_MINUTE_APART, TICK: "10x20"}, 5),
    Case("AutoAdvanceNoLeader", "two that only follow",
         {'autoadvance_leader{instance="a"}': "0x20", 'autoadvance_leader{instance="b"}': "0x20"}, 3, [{}]),
    Case("AutoAdvanceNoLeader", "one leads",
         {'autoadvance_leader{instance="a"}': "1x20", 'autoadvance_leader{instance="b"}': "0x20"}, 3),
    Case("AutoAdvanceTwoLeaders", "both lead",
         {'autoadvance_leader{instance="a"}': "1x20", 'autoadvance_leader{instance="b"}': "1x20"}, 3, [{}], "2"),
    Case("AutoAdvanceTwoLeaders", "the lead is handed over",
         {'autoadvance_leader{instance="a"}': "1x3 0x20", 'autoadvance_leader{instance="b"}': "0x2 1x20"}, 5),
    Case("AutoAdvancePrometheusUnreachable", "no query is answered",
         {'autoadvance_queries_total{outcome="unanswered"}': EACH_MINUTE,
          'autoadvance_queries_total{outcome="answered"}': "9x60", **state("Progressing")}, 8, [{}]),
    Case("AutoAdvancePrometheusUnreachable", "some are answered",
         {'autoadvance_queries_total{outcome="unanswered"}': EACH_MINUTE,
          'autoadvance_queries_total{outcome="answered"}': EACH_MINUTE, **state("Progressing")}, 8),
    Case("AutoAdvancePrometheusUnreachable", "no launch runs",
         {'autoadvance_queries_total{outcome="unanswered"}': EACH_MINUTE,
          'autoadvance_queries_total{outcome="answered"}': "9x60", **state("Succeeded")}, 8),
    Case("AutoAdvanceQueriesFailing", "a query is refused each time",
         {'autoadvance_queries_total{outcome="refused"}': EACH_MINUTE}, 25, [{"outcome": "refused"}], "10"),
    Case("AutoAdvanceQueriesFailing", "one query was refused",
         {'autoadvance_queries_total{outcome="refused"}': "0x2 1x40"}, 12),
    Case("AutoAdvanceQueriesFailing", "all are answered",
         {'autoadvance_queries_total{outcome="answered"}': EACH_MINUTE}, 25),
    Case("AutoAdvanceTicksMissed", "each tenth one or so", {"autoadvance_ticks_missed_total": EACH_MINUTE}, 20, [{}], "10"),
    Case("AutoAdvanceTicksMissed", "a rare one", {"autoadvance_ticks_missed_total": "0+0.2x40"}, 20),
    Case("AutoAdvanceTickSlow", "9 s of 10 s",
         {"autoadvance_tick_duration_seconds_sum": "0+54x40", "autoadvance_tick_duration_seconds_count": "0+6x40",
          TICK: "10x40"}, 25, [{}], "9s"),
    Case("AutoAdvanceTickSlow", "5 s of 10 s",
         {"autoadvance_tick_duration_seconds_sum": "0+30x40", "autoadvance_tick_duration_seconds_count": "0+6x40",
          TICK: "10x40"}, 25),
    Case("AutoAdvanceWritesRefused", "the right to patch routes is missing",
         {'autoadvance_writes_total{of="route",outcome="refused"}': EACH_MINUTE}, 12, [{"of": "route"}], "5"),
    Case("AutoAdvanceWritesRefused", "one was refused",
         {'autoadvance_writes_total{of="route",outcome="refused"}': "0x2 1x40"}, 8),
    Case("AutoAdvanceWritesRefused", "all are done",
         {'autoadvance_writes_total{of="route",outcome="done"}': EACH_MINUTE}, 12),
    Case("AutoAdvanceStatusNotWritten", "none is",
         {'autoadvance_writes_total{of="status",outcome="unanswered"}': EACH_MINUTE,
          'autoadvance_writes_total{of="status",outcome="done"}': "7x60"}, 10, [{}], "5"),
    Case("AutoAdvanceStatusNotWritten", "others are",
         {'autoadvance_writes_total{of="status",outcome="unanswered"}': EACH_MINUTE,
          'autoadvance_writes_total{of="status",outcome="done"}': EACH_MINUTE}, 10),
    Case("AutoAdvanceWriteConflicts", "ten a minute",
         {'autoadvance_writes_total{of="status",outcome="conflict"}': "0+10x40"}, 20, [{"of": "status"}], "100"),
    Case("AutoAdvanceWriteConflicts", "two a minute",
         {'autoadvance_writes_total{of="status",outcome="conflict"}': "0+2x40"}, 20),
    Case("AutoAdvanceClusterViewOld", "nothing comes any more", {"autoadvance_cluster_in_sync": "1x2 0x20"}, 6, [{}]),
    Case("AutoAdvanceClusterViewOld", "it is in sync", {"autoadvance_cluster_in_sync": "0 1x20"}, 6),
    Case("AutoAdvanceAlertDeliveryFailing", "each try", {ALERT_FAILURES: EACH_MINUTE}, 12, [{}], "5"),
    Case("AutoAdvanceAlertDeliveryFailing", "one try", {ALERT_FAILURES: "0x2 1x40"}, 8),
    Case("AutoAdvanceNoAlertmanager", "none is told", {MANAGERS: NEVER, **state("Progressing")}, 16, [{}]),
    Case("AutoAdvanceNoAlertmanager", "two are told", {MANAGERS: "2x40", **state("Progressing")}, 16),
    Case("AutoAdvanceNoAlertmanager", "no launch runs", {MANAGERS: NEVER, **state("Succeeded")}, 16),
    Case("AutoAdvanceEventsLost", "some", {"autoadvance_events_dropped_total": EACH_MINUTE}, 20, [{}], "15"),
    Case("AutoAdvanceEventsLost", "long ago", {"autoadvance_events_dropped_total": "0 3x40"}, 20),
    Case("AutoAdvanceDecisionsNotRecorded", "some",
         {"autoadvance_decision_records_dropped_total": EACH_MINUTE}, 20, [{}], "15"),
    Case("AutoAdvanceDecisionsNotRecorded", "long ago", {"autoadvance_decision_records_dropped_total": "0 3x40"}, 20),
    Case("AutoAdvanceConfigurationBroken", "on one of two replicas",
         {'autoadvance_config_last_reload_successful{pod="a"}': "1x30",
          'autoadvance_config_last_reload_successful{pod="b"}': "1 0x30"}, 10, [{}]),
    Case("AutoAdvanceConfigurationBroken", "and mended", {"autoadvance_config_last_reload_successful": "0x3 1x30"}, 10),
    Case("AutoAdvanceFleetStopped", "for a day", {"autoadvance_fleet_stopped": "1x1500"}, 1450, [{}]),
    Case("AutoAdvanceFleetStopped", "for an hour", {"autoadvance_fleet_stopped": "1x60 0x1500"}, 1450),
    Case("AutoAdvanceRestarting", "four times", {"autoadvance_start_time_seconds": "0+120x4 480x20"}, 10, [{}], "4"),
    Case("AutoAdvanceRestarting", "once", {"autoadvance_start_time_seconds": "0 60x20"}, 10),
    Case("AutoAdvanceInternalError", "at each tick",
         {'autoadvance_failures_total{doing="deciding"}': EACH_MINUTE}, 15, [{"doing": "deciding"}], "10"),
    Case("AutoAdvanceInternalError", "what fails outside is not it",
         {'autoadvance_failures_total{doing="writing"}': EACH_MINUTE}, 15),
    # Launches
    Case("AutoAdvanceRollbackFailing", "traffic is left",
         {**state("RollingBack"), **weights("0", "0.3")}, 3, [SHOP], "30%"),
    Case("AutoAdvanceRollbackFailing", "all of it was taken", {**state("RollingBack"), **weights("0", "0")}, 3),
    Case("AutoAdvanceRollbackFailing", "nothing is rolled back", {**state("Progressing"), **weights("0.3", "0.3")}, 3),
    Case("AutoAdvanceRollbackFailing", "it takes a minute",
         {**state("RollingBack"), **launch("launch_observed_weight_ratio", "0.3 0x20", target="main")}, 3),
    Case("AutoAdvanceRollbackUnfinished", "for 10 minutes", state("RollingBack"), 10, [SHOP]),
    Case("AutoAdvanceRollbackUnfinished", "for 9 minutes", state("RollingBack"), 9),
    Case("AutoAdvanceLaunchRolledBackUntold", "no Alertmanager is told",
         {MANAGERS: NEVER, **state("RolledBack"), **since(600)}, 15, [SHOP], "5m 0s"),
    Case("AutoAdvanceLaunchRolledBackUntold", "the one that is told takes nothing",
         {MANAGERS: "1x40", ALERT_FAILURES: EACH_MINUTE, **state("RolledBack"), **since(600)}, 15, [SHOP], "5m 0s"),
    Case("AutoAdvanceLaunchRolledBackUntold", "the controller tells it itself",
         {MANAGERS: "1x40", ALERT_FAILURES: NEVER, **state("RolledBack"), **since(600)}, 15),
    Case("AutoAdvanceLaunchRolledBackUntold", "it is old news",
         {MANAGERS: NEVER, **state("RolledBack"), **since(600)}, 25),
    Case("AutoAdvanceLaunchHeldUntold", "no Alertmanager is told", {MANAGERS: NEVER, **state("Held")}, 3, [SHOP]),
    Case("AutoAdvanceLaunchHeldUntold", "the controller tells it itself", {MANAGERS: "1x40", **state("Held")}, 3),
    Case("AutoAdvanceLaunchNotEvaluated", "others are",
         {**state("Progressing"), **launch("launch_last_evaluation_timestamp_seconds", NEVER),
          EVALUATION: A_MINUTE_APART, TICK: "10x40"}, 5, [SHOP], "5m 0s"),
    Case("AutoAdvanceLaunchNotEvaluated", "none is, which another alert says",
         {**state("Progressing"), **launch("launch_last_evaluation_timestamp_seconds", NEVER),
          EVALUATION: NEVER, TICK: "10x40"}, 5),
    Case("AutoAdvanceLaunchNotEvaluated", "it is over",
         {**state("Succeeded"), **launch("launch_last_evaluation_timestamp_seconds", NEVER),
          EVALUATION: A_MINUTE_APART, TICK: "10x40"}, 5),
    Case("AutoAdvanceLaunchStuck", "50 minutes in a step of 10",
         {**state("Progressing"), **launch("launch_step_started_timestamp_seconds", NEVER),
          **launch("launch_step_planned_duration_seconds", f"600{LONG}")}, 50, [SHOP], "50m 0s"),
    Case("AutoAdvanceLaunchStuck", "40 minutes in a step of 10",
         {**state("Progressing"), **launch("launch_step_started_timestamp_seconds", NEVER),
          **launch("launch_step_planned_duration_seconds", f"600{LONG}")}, 40),
    Case("AutoAdvanceLaunchStuck", "the steps are over, the gate is not",
         {**state("Judging"), **launch("launch_step_started_timestamp_seconds", NEVER),
          **launch("launch_step_planned_duration_seconds", f"600{LONG}")}, 50),
    Case("AutoAdvanceUndecidedTooLong", "for 30 minutes", {**state("Held"), **reason("StepUndecided")}, 30, [SHOP]),
    Case("AutoAdvanceUndecidedTooLong", "a person holds it", {**state("Held"), **reason("HoldAsked")}, 40),
    Case("AutoAdvanceUndecidedTooLong", "for 20 minutes", {**state("Held"), **reason("GateUndecided")}, 20),
    Case("AutoAdvanceApprovalPending", "for an hour",
         {**since(), **reason("GateApprovalWanted")}, 60, [SHOP], "1h 0m 0s"),
    Case("AutoAdvanceApprovalPending", "for 20 minutes", {**since(), **reason("GateApprovalWanted")}, 20),
    Case("AutoAdvanceApprovalPending", "a preflight that has time", {**since(), **reason("PreflightOpen")}, 60),
    Case("AutoAdvanceApprovalPending", "for 5 hours, which another alert says",
         {**since(-14_400), **reason("GateApprovalWanted")}, 1),
    Case("AutoAdvanceApprovalOverdue", "for 5 hours",
         {**since(-17_940), **reason("DeliverablesMissing")}, 1, [SHOP], "5h 0m 0s"),
    Case("AutoAdvanceApprovalOverdue", "for an hour", {**since(), **reason("DeliverablesMissing")}, 60),
    Case("AutoAdvancePausedTooLong", "for 25 hours", {**since(-89_940), **state("Held")}, 1, [SHOP], "1d 1h 0m 0s"),
    Case("AutoAdvancePausedTooLong", "for 23 hours", {**since(-82_740), **state("Held")}, 1),
    Case("AutoAdvancePausedTooLong", "it moves", {**since(-89_940), **state("Progressing")}, 1),
    Case("AutoAdvanceWeightNotObserved", "25 % off", {**state("Progressing"), **weights("0.3", "0.05")}, 6, [MAIN], "25%"),
    Case("AutoAdvanceWeightNotObserved", "as it was set", {**state("Progressing"), **weights("0.3", "0.3")}, 6),
    Case("AutoAdvanceWeightNotObserved", "it is held, which another alert says",
         {**state("Held"), **weights("0.3", "0.05")}, 6),
    Case("AutoAdvanceRouteUnreadable", "the weight is absent", {**state("Held"), **weights("0.3")}, 6, [MAIN]),
    Case("AutoAdvanceRouteUnreadable", "the weight is 0", {**state("Held"), **weights("0.3", "0")}, 6),
    Case("AutoAdvanceRouteUnreadable", "the launch is over", {**state("Succeeded"), **weights("0.3")}, 6),
    Case("AutoAdvanceWeightContested", "each minute", launch("launch_drifts_total", EACH_MINUTE), 12, [SHOP], "10"),
    Case("AutoAdvanceWeightContested", "once", launch("launch_drifts_total", "0 1x40"), 5),
    Case("AutoAdvanceEvidenceStale", "all criteria are old",
         {**state("Progressing"), **last_sample("errors below 1%", NEVER), **last_sample("latency", NEVER)},
         10, [MAIN], "10m 0s"),
    Case("AutoAdvanceEvidenceStale", "one of them is measured rarely",
         {**state("Progressing"), **last_sample("errors below 1%", A_MINUTE_APART), **last_sample("roi", NEVER)}, 10),
    Case("AutoAdvanceEvidenceStale", "the launch is over",
         {**state("Succeeded"), **last_sample("errors below 1%", NEVER)}, 10),
    Case("AutoAdvanceCriterionWithoutData", "of a target",
         {**state("Progressing"),
          **launch("criterion_verdict", f"1{LONG}", target="main", criterion="roi above 8", verdict="no data")},
         15, [{**MAIN, "criterion": "roi above 8"}]),
    Case("AutoAdvanceCriterionWithoutData", "of the whole launch",
         {**state("Judging"),
          **launch("criterion_verdict", f"1{LONG}", criterion="critical incidents at most 0", verdict="no data")},
         15, [{**SHOP, "criterion": "critical incidents at most 0"}]),
    Case("AutoAdvanceCriterionWithoutData", "it has data and is undecided",
         {**state("Progressing"),
          **launch("criterion_verdict", NEVER, target="main", criterion="roi above 8", verdict="no data"),
          **launch("criterion_verdict", f"1{LONG}", target="main", criterion="roi above 8", verdict="undecided")}, 15),
)  # fmt: skip


def promtool_tests(rule_file: str, cases: Sequence[Case] = CASES, rules: Sequence[Rule] = RULES) -> dict[str, Any]:
    """The document that `promtool test rules` reads."""
    by_name = {rule.name: rule for rule in rules}
    return {
        "rule_files": [rule_file],
        "evaluation_interval": "1m",
        "tests": [
            {
                "name": f"{case.alert}: {case.fact}",
                "interval": "1m",
                "input_series": [{"series": name, "values": values} for name, values in case.series.items()],
                "alert_rule_test": [
                    {
                        "eval_time": f"{case.minute}m",
                        "alertname": case.alert,
                        "exp_alerts": [_expected(by_name[case.alert], labels, case.value) for labels in case.fires],
                    }
                ],
            }
            for case in cases
        ],
    }


def _expected(rule: Rule, labels: Mapping[str, str], value: str) -> dict[str, Any]:
    texts = {name: shown(text, labels, value) for name, text in rule.annotations().items()}
    return {"exp_labels": {**labels, **rule.labels}, "exp_annotations": texts}


def shown(template: str, labels: Mapping[str, str], value: str) -> str:
    """What people read: the few forms of a template that the rules use."""
    text = re.sub(
        r"\{\{ if \$labels\.(\w+) }}(.*?)\{\{ end }}", lambda found: found[2] if labels.get(found[1]) else "", template
    )
    text = re.sub(r"\{\{ \$labels\.(\w+) }}", lambda found: labels[found[1]], text)
    return re.sub(r"\{\{ \$value[^}]*}}", value, text)

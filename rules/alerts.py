"""Writes the alerting rules over the controller's own metrics: one table, one file.

Run from the root of the project: ``python -m rules.alerts`` rewrites the file that stands here,
``python -m rules.alerts --runbooks https://git.example/auto-advance/docs/runbooks --dashboards https://grafana.example --out quick``
writes one elsewhere whose links lead to your own copies of the pages and dashboards.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

RUNBOOKS = "docs/runbooks"
"""Where the pages stand; by default in this repository."""
DASHBOARDS = ""
"""Where Grafana is; by default links are relative to it."""
FLEET, LAUNCH = "auto-advance-fleet", "auto-advance-launch"
"""The uids of the dashboards."""

Severity = Literal["critical", "warning", "info"]


@dataclass(frozen=True)
class Rule:
    """One alerting rule. ``lasts`` is for how long the expression must hold, as PromQL writes it."""

    name: str
    expr: str
    lasts: str
    severity: Severity
    role: str
    summary: str
    description: str
    component: Literal["auto-advance", "launch"] = "auto-advance"

    @property
    def labels(self) -> dict[str, str]:
        """The labels that every alert of the rule has."""
        return {"severity": self.severity, "component": self.component, "role": self.role}

    def annotations(self, runbooks: str = RUNBOOKS, dashboards: str = DASHBOARDS) -> dict[str, str]:
        """The annotations, as templates."""
        board = f"{dashboards.rstrip('/')}/d/{FLEET}"
        if self.component == "launch":
            board = (
                f"{dashboards.rstrip('/')}/d/{LAUNCH}"
                "?var-namespace={{ $labels.namespace }}&var-launch={{ $labels.launch }}"
            )
        return {
            "summary": self.summary,
            "description": self.description,
            "runbook_url": f"{runbooks.rstrip('/')}/{self.name}.md",
            "dashboard_url": board,
        }


OPS, ENG, PRODUCT = "ops-lead", "eng-lead", "product-lead"
UNDER_WAY = "Progressing|Judging|Held|Scheduled|AwaitingApproval"
OF_LAUNCH, OF_TARGET = "namespace, launch", "namespace, launch, target"
STALLED = "clamp_min(3 * max(autoadvance_tick_interval_seconds), 60)"
"""After so many seconds a tick is not late but missing."""
SOME_RUN = f'count(autoadvance_launch_state{{state=~"{UNDER_WAY}|RollingBack"}} == 1) > 0'
UNTOLD = "(\n  max(autoadvance_alertmanagers) == 0\n  or sum(increase(autoadvance_alert_failures_total[10m])) > 0\n)"
"""That what the controller sends itself may not arrive: only then these rules say it too, so that people hear it once."""

NOT_ANSWERED = 'autoadvance_queries_total{outcome!="answered"}'
ANSWERED = 'autoadvance_queries_total{outcome="answered"}'
UNFIT = 'autoadvance_queries_total{outcome=~"refused|unusable"}'
REFUSED = 'autoadvance_writes_total{outcome="refused"}'
STATUS_NOT_WRITTEN = 'autoadvance_writes_total{of="status",outcome=~"refused|unanswered|unusable"}'
STATUS_WRITTEN = 'autoadvance_writes_total{of="status",outcome="done"}'
CONFLICTS = 'autoadvance_writes_total{outcome="conflict"}'
UNFORESEEN = 'autoadvance_failures_total{doing=~"deciding|looking"}'
UNDECIDED = 'autoadvance_launch_reason{reason=~"StepUndecided|GateUndecided"}'
NO_DATA = 'autoadvance_criterion_verdict{verdict="no data"}'


def newest(metric: str, by: str = OF_LAUNCH) -> str:
    """One value per launch (or target): without the labels of a scrape, and one where two replicas say the same."""
    return f"max by ({by}) ({metric})"


def in_state(*states: str) -> str:
    """The launches that are in one of these states."""
    matcher = "|".join(states)
    selector = f'autoadvance_launch_state{{state=~"{matcher}"}}'
    return f"{newest(selector)} == 1"


def grown(counter: str, span: str, by: str = "") -> str:
    """What a counter gained in a span."""
    return f"sum{f' by ({by}) ' if by else ''}(increase({counter}[{span}]))"


def _daemon() -> Iterator[Rule]:
    yield Rule(
        "Watchdog",
        "vector(1)",
        "0s",
        "info",
        OPS,
        "This alert always fires",
        "It proves that Prometheus evaluates its rules and that alerts arrive. It is a fault when it is missing.",
    )
    yield Rule(
        "AutoAdvanceControllerDown",
        "absent(autoadvance_last_evaluation_timestamp_seconds)",
        "2m",
        "critical",
        OPS,
        "No auto-advance controller is scraped",
        "Prometheus sees no controller: it does not run, or is not scraped. Weights stay as they are and nobody watches "
        "the canaries.",
    )
    yield Rule(
        "AutoAdvanceNotReconciling",
        f"time() - max(autoadvance_last_evaluation_timestamp_seconds)\n> {STALLED}",
        "1m",
        "critical",
        OPS,
        "The auto-advance controller finishes no tick",
        "The last tick was finished {{ $value | humanizeDuration }} ago. Nothing is judged, so a bad canary is not taken "
        "back.",
    )
    yield Rule(
        "AutoAdvanceNoLeader",
        "sum(autoadvance_leader) == 0",
        "2m",
        "critical",
        OPS,
        "No auto-advance controller decides",
        "Controllers run, and none of them is the one that decides and writes.",
    )
    yield Rule(
        "AutoAdvanceTwoLeaders",
        "sum(autoadvance_leader) > 1",
        "2m",
        "critical",
        OPS,
        "{{ $value }} auto-advance controllers decide at the same time",
        "{{ $value }} processes decide and write. The raises of the older one are refused; stop all but one.",
    )
    yield Rule(
        "AutoAdvancePrometheusUnreachable",
        f"{grown(NOT_ANSWERED, '3m')} > 0\nunless {grown(ANSWERED, '3m')} > 0\nand on () {SOME_RUN}",
        "1m",
        "critical",
        OPS,
        "auto-advance gets no answer from Prometheus",
        "For 3 minutes no query was answered while launches run. Nothing is raised; a bad canary is not noticed.",
    )
    yield Rule(
        "AutoAdvanceQueriesFailing",
        f"{grown(UNFIT, '10m', 'outcome')} > 0",
        "10m",
        "warning",
        OPS,
        "Prometheus' answers to auto-advance are {{ $labels.outcome }}",
        "About {{ $value | humanize }} queries in 10 minutes were {{ $labels.outcome }}. The criteria behind them have no "
        "data.",
    )
    yield Rule(
        "AutoAdvanceTicksMissed",
        f"{grown('autoadvance_ticks_missed_total', '10m')} > 3",
        "5m",
        "warning",
        OPS,
        "auto-advance misses ticks",
        "About {{ $value | humanize }} ticks in 10 minutes found the one before still asking Prometheus. Verdicts come late.",
    )
    yield Rule(
        "AutoAdvanceTickSlow",
        "sum(rate(autoadvance_tick_duration_seconds_sum[10m]))\n"
        "/ sum(rate(autoadvance_tick_duration_seconds_count[10m]))\n"
        "> 0.8 * max(autoadvance_tick_interval_seconds)",
        "10m",
        "warning",
        OPS,
        "A tick of auto-advance takes nearly as long as the tick lasts",
        "A tick takes {{ $value | humanizeDuration }} on average.",
    )
    yield Rule(
        "AutoAdvanceWritesRefused",
        f"{grown(REFUSED, '5m', 'of')} > 0",
        "5m",
        "warning",
        OPS,
        "The API server refuses what auto-advance writes ({{ $labels.of }})",
        "About {{ $value | humanize }} writes in 5 minutes were refused: a right is missing, or admission says no.",
    )
    yield Rule(
        "AutoAdvanceStatusNotWritten",
        f"{grown(STATUS_NOT_WRITTEN, '5m')} > 0\nunless {grown(STATUS_WRITTEN, '5m')} > 0",
        "2m",
        "critical",
        OPS,
        "auto-advance cannot write the status of launches",
        "About {{ $value | humanize }} writes of a status failed in 5 minutes and none succeeded. Nothing is raised; "
        "retreats still happen.",
    )
    yield Rule(
        "AutoAdvanceWriteConflicts",
        f"{grown(CONFLICTS, '10m', 'of')} > 60",
        "5m",
        "warning",
        OPS,
        "Somebody else keeps writing what auto-advance writes ({{ $labels.of }})",
        "About {{ $value | humanize }} writes in 10 minutes found the object changed in between.",
    )
    yield Rule(
        "AutoAdvanceClusterViewOld",
        "max(autoadvance_cluster_in_sync) == 0",
        "2m",
        "critical",
        OPS,
        "auto-advance does not see the cluster",
        "Its view of launches, routes or endpoints is old. Holds and rollbacks that people ask for are not seen.",
    )
    yield Rule(
        "AutoAdvanceAlertDeliveryFailing",
        f"{grown('autoadvance_alert_failures_total', '5m')} > 0",
        "5m",
        "warning",
        OPS,
        "Alerts of auto-advance do not arrive",
        "About {{ $value | humanize }} sends in 5 minutes were not taken by an Alertmanager. They are tried again.",
    )
    yield Rule(
        "AutoAdvanceNoAlertmanager",
        f"max(autoadvance_alertmanagers) == 0\nand on () {SOME_RUN}",
        "15m",
        "info",
        OPS,
        "auto-advance tells no Alertmanager",
        "Launches run, and the controller was started without --alertmanager: rollbacks and holds reach nobody at once.",
    )
    yield Rule(
        "AutoAdvanceEventsLost",
        f"{grown('autoadvance_events_dropped_total', '15m')} > 0",
        "0s",
        "info",
        OPS,
        "Events of auto-advance are lost",
        "About {{ $value | humanize }} Events in 15 minutes were given up. Decisions are not affected.",
    )
    yield Rule(
        "AutoAdvanceDecisionsNotRecorded",
        f"{grown('autoadvance_decision_records_dropped_total', '15m')} > 0",
        "0s",
        "warning",
        OPS,
        "Decisions of auto-advance are missing in the decision log",
        "About {{ $value | humanize }} decisions in 15 minutes did not come into the file of --decision-log.",
    )
    yield Rule(
        "AutoAdvanceConfigurationBroken",
        "min(autoadvance_config_last_reload_successful) == 0",
        "5m",
        "warning",
        OPS,
        "An edit of auto-advance's configuration has faults",
        "The last good configuration stays in force; what the edit says does not hold. A broken stop.yaml stops all raises.",
    )
    yield Rule(
        "AutoAdvanceFleetStopped",
        "max(autoadvance_fleet_stopped) == 1",
        "24h",
        "warning",
        OPS,
        "All launches have been stopped for a day",
        "The operator's stop of all raises has stood for a day. Lift it if its reason is gone.",
    )
    yield Rule(
        "AutoAdvanceRestarting",
        "sum(changes(autoadvance_start_time_seconds[30m])) > 3",
        "0s",
        "warning",
        OPS,
        "The auto-advance controller restarts again and again",
        "It was started anew {{ $value }} times in 30 minutes.",
    )
    yield Rule(
        "AutoAdvanceInternalError",
        f"{grown(UNFORESEEN, '10m', 'doing')} > 0",
        "1m",
        "critical",
        OPS,
        "auto-advance fails at {{ $labels.doing }}",
        "About {{ $value | humanize }} times in 10 minutes. The launch that it is about is not judged.",
    )


def _launches() -> Iterator[Rule]:
    yield _of_launch(
        "AutoAdvanceRollbackFailing",
        f"{newest('autoadvance_launch_observed_weight_ratio')} > 0\nand {in_state('RollingBack')}",
        "2m",
        "critical",
        OPS,
        "is being rolled back and its canary still has traffic",
        "The canary still has {{ $value | humanizePercentage }} of the traffic. It is tried again each second.",
    )
    yield _of_launch(
        "AutoAdvanceRollbackUnfinished",
        in_state("RollingBack"),
        "10m",
        "critical",
        OPS,
        "is being rolled back and does not come to an end",
        "It has been RollingBack for 10 minutes: the route cannot be read or written, the status cannot be written, or "
        "stable has no ready endpoint.",
    )
    yield _of_launch(
        "AutoAdvanceLaunchRolledBackUntold",
        f"time() - {newest('autoadvance_launch_state_since_timestamp_seconds')} < 900\n"
        f"and {in_state('RolledBack')}\nand on () {UNTOLD}",
        "0s",
        "critical",
        ENG,
        "was rolled back",
        "It was rolled back {{ $value | humanizeDuration }} ago, and the controller's own alert may not have arrived.",
    )
    yield _of_launch(
        "AutoAdvanceLaunchHeldUntold",
        f"{in_state('Held')}\nand on () {UNTOLD}",
        "2m",
        "warning",
        ENG,
        "is held",
        "Nothing is raised until the reason ends, and the controller's own alert may not have arrived.",
    )
    yield _of_launch(
        "AutoAdvanceLaunchNotEvaluated",
        f"time() - {newest('autoadvance_launch_last_evaluation_timestamp_seconds')}\n"
        f"> on () group_left () {STALLED}\n"
        f"and {in_state(UNDER_WAY, 'RollingBack')}\n"
        f"unless on () time() - max(autoadvance_last_evaluation_timestamp_seconds) > {STALLED}",
        "2m",
        "critical",
        OPS,
        "is not judged",
        "It was last decided upon {{ $value | humanizeDuration }} ago, while other launches are.",
    )
    yield _of_launch(
        "AutoAdvanceLaunchStuck",
        f"time() - {newest('autoadvance_launch_step_started_timestamp_seconds')}\n"
        f"> 2 * {newest('autoadvance_launch_step_planned_duration_seconds')} + 1200\n"
        f"and {in_state('Progressing')}",
        "5m",
        "warning",
        ENG,
        "stays at its step",
        "Its step has lasted {{ $value | humanizeDuration }}, more than twice as long as planned.",
    )
    yield _of_launch(
        "AutoAdvanceUndecidedTooLong",
        f"{newest(UNDECIDED)} == 1\nand {in_state('Held')}",
        "30m",
        "warning",
        ENG,
        "is held because nothing is proven",
        "For 30 minutes it has been held by evidence that neither passes nor fails.",
    )
    asked = f"time() - {newest('autoadvance_launch_state_since_timestamp_seconds')}"
    people = newest('autoadvance_launch_reason{reason=~"StepApprovalWanted|GateApprovalWanted|DeliverablesMissing"}')
    yield _of_launch(
        "AutoAdvanceApprovalPending",
        f"{asked} > 1800 < 14400\nand {people} == 1",
        "0s",
        "info",
        PRODUCT,
        "waits for people",
        "It has waited for an approval or a deliverable for {{ $value | humanizeDuration }}.",
    )
    yield _of_launch(
        "AutoAdvanceApprovalOverdue",
        f"{asked} >= 14400\nand {people} == 1",
        "0s",
        "warning",
        PRODUCT,
        "still waits for people",
        "It has waited for an approval or a deliverable for {{ $value | humanizeDuration }}.",
    )
    yield _of_launch(
        "AutoAdvancePausedTooLong",
        f"{asked} > 86400\nand {in_state('Held')}",
        "0s",
        "warning",
        ENG,
        "has been held for more than a day",
        "It has been held for {{ $value | humanizeDuration }}; the canary keeps its traffic meanwhile.",
    )
    desired, observed = (
        newest(f"autoadvance_launch_{which}_weight_ratio", OF_TARGET) for which in ("desired", "observed")
    )
    moving = f"and on (namespace, launch) {in_state('Progressing', 'Judging', 'Scheduled', 'AwaitingApproval')}"
    yield _of_launch(
        "AutoAdvanceWeightNotObserved",
        f"abs(\n  {desired}\n  - {observed}\n) > 0.0005\n{moving}",
        "5m",
        "warning",
        OPS,
        "has a weight that the route does not show ({{ $labels.target }})",
        "The route of target {{ $labels.target }} is {{ $value | humanizePercentage }} off what was set.",
    )
    yield _of_launch(
        "AutoAdvanceRouteUnreadable",
        f"{desired}\nunless {observed}\nand on (namespace, launch) {in_state(UNDER_WAY, 'RollingBack')}",
        "5m",
        "warning",
        OPS,
        "has a route that cannot be read ({{ $labels.target }})",
        "The route of target {{ $labels.target }} is missing, or does not hold both backends in one rule.",
    )
    yield _of_launch(
        "AutoAdvanceWeightContested",
        f"{grown('autoadvance_launch_drifts_total', '10m', OF_LAUNCH)} >= 3",
        "0s",
        "warning",
        OPS,
        "has weights that somebody else keeps changing",
        "About {{ $value | humanize }} times in 10 minutes the route got a weight that the launch did not set.",
    )
    yield _of_launch(
        "AutoAdvanceEvidenceStale",
        f"time() - {newest('autoadvance_criterion_last_sample_timestamp_seconds', OF_TARGET)} > 300\n"
        f"and on (namespace, launch) {in_state('Progressing', 'Judging')}",
        "2m",
        "warning",
        OPS,
        "gets no new data ({{ $labels.target }})",
        "The newest sample of any criterion of target {{ $labels.target }} is {{ $value | humanizeDuration }} old.",
    )
    yield _of_launch(
        "AutoAdvanceCriterionWithoutData",
        f"{newest(NO_DATA, 'namespace, launch, target, criterion')} == 1\n"
        f"and on (namespace, launch) {in_state('Progressing', 'Judging', 'Held')}",
        "15m",
        "warning",
        ENG,
        "has a criterion without data",
        "{{ $labels.criterion }}{{ if $labels.target }} of target {{ $labels.target }}{{ end }} has had no data for 15 minutes.",
    )


def _of_launch(
    name: str, expr: str, lasts: str, severity: Severity, role: str, what: str, description: str
) -> Rule:  # short, so that the table reads as one
    summary = f"Launch {{{{ $labels.namespace }}}}/{{{{ $labels.launch }}}} {what}"
    return Rule(name, expr, lasts, severity, role, summary, description, "launch")


RULES = (*_daemon(), *_launches())
GROUPS = {
    "auto-advance-controller": tuple(rule for rule in RULES if rule.component == "auto-advance"),
    "auto-advance-launches": tuple(rule for rule in RULES if rule.component == "launch"),
}


def render(runbooks: str = RUNBOOKS, dashboards: str = DASHBOARDS) -> str:
    """The text of the rule file, with links below these two."""
    lines = [
        "# Alerts over the controller's own metrics (docs/metrics.md), scraped with honor_labels.",
        "# Written by `python -m rules.alerts`: change the table there, not this file.",
        "groups:",
    ]
    for group, rules in GROUPS.items():
        lines += [f"  - name: {group}", "    rules:"]
        for rule in rules:
            lines += [f"      - alert: {rule.name}", "        expr: |"]
            lines += [f"          {line}" for line in rule.expr.splitlines()]
            lines += [f"        for: {rule.lasts}"] if rule.lasts != "0s" else []
            lines += ["        labels:", *(f"          {name}: {value}" for name, value in rule.labels.items())]
            texts = rule.annotations(runbooks, dashboards)
            # JSON quotes as YAML does
            lines += [
                "        annotations:",
                *(f"          {name}: {json.dumps(text)}" for name, text in texts.items()),
            ]
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the file; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m rules.alerts", description="Write the alerting rules.")
    parser.add_argument(
        "--runbooks", default=RUNBOOKS, help=f"URL of the pages (default {RUNBOOKS}, in this repository)"
    )
    parser.add_argument("--dashboards", default=DASHBOARDS, help="URL of Grafana (default: links relative to it)")
    parser.add_argument(
        "--out", type=Path, default=Path(__file__).parent, help="folder to write to (default: this one)"
    )
    chosen = parser.parse_args(arguments)
    chosen.out.mkdir(parents=True, exist_ok=True)
    path = chosen.out / "alerts.yaml"
    path.write_text(render(chosen.runbooks, chosen.dashboards), encoding="utf-8")
    print(f"wrote {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

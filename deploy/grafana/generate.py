"""Writes the dashboards of this folder: one short table of panels each, over the controller's own metrics.

Run from the root of the project: ``python deploy/grafana/generate.py`` rewrites them, ``--check`` says whether they are
up to date.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

HERE = Path(__file__).parent
FLEET, LAUNCH = "auto-advance-fleet", "auto-advance-launch"
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
WIDTH = 24
"""Columns of Grafana's grid."""

Kind = Literal["timeseries", "stat", "table", "state-timeline"]
Unit = Literal["short", "percentunit", "s", "none"]
Json = dict[str, Any]


@dataclass(frozen=True)
class Query:
    """One query; ``legend`` is how its series are named. ``limit``: it is a line that others are held against."""

    expr: str
    legend: str = ""
    limit: bool = False


@dataclass(frozen=True)
class Panel:
    """One panel. ``repeat`` is the variable for each of whose values it is drawn; ``mapping`` gives values a name."""

    title: str
    about: str
    kind: Kind
    queries: Sequence[Query]
    unit: Unit = "short"
    width: int = 12
    height: int = 8
    repeat: str = ""
    mapping: Sequence[tuple[int, str, str]] = ()


@dataclass(frozen=True)
class Row:
    """A heading, and what stands below it."""

    title: str
    panels: Sequence[Panel]


VERDICTS = ((0, "no data", "purple"), (1, "fail", "red"), (2, "undecided", "yellow"), (3, "pass", "green"))
YES = ((0, "no", "red"), (1, "yes", "green"))


def quantiles(histogram: str, by: str = "") -> tuple[Query, Query]:
    """The median and what one in a hundred exceeds."""
    labels, legend = (f"le, {by}", f" {{{{{by}}}}}") if by else ("le", "")
    rates = f"sum by ({labels}) (rate({histogram}_bucket[$__rate_interval]))"
    return (
        Query(f"histogram_quantile(0.5, {rates})", f"median{legend}"),
        Query(f"histogram_quantile(0.99, {rates})", f"99 %{legend}"),
    )


def gained(counter: str, *by: str, legend: str = "") -> Query:
    """What a counter gained from point to point."""
    names = f" by ({', '.join(by)}) " if by else ""
    shown = legend or " ".join(f"{{{{{label}}}}}" for label in by)
    return Query(f"sum{names}(increase({counter}[$__rate_interval]))", shown)


IN_FLEET = '{namespace=~"$namespace"}'
OF_LAUNCH = "by (namespace, launch)"

FLEET_ROWS = (
    Row(
        "Launches",
        (
            Panel(
                "Launches",
                "Where each launch stands, why, with what weight, and for how long. A name leads to its dashboard.",
                "table",
                (
                    Query(f"max by (namespace, launch, state) (autoadvance_launch_state{IN_FLEET}) == 1"),
                    Query(f"max by (namespace, launch, reason) (autoadvance_launch_reason{IN_FLEET})"),
                    Query(f"max by (namespace, launch, phase) (autoadvance_launch_step{IN_FLEET})"),
                    Query(f"max {OF_LAUNCH} (autoadvance_launch_observed_weight_ratio{IN_FLEET})"),
                    Query(f"time() - max {OF_LAUNCH} (autoadvance_launch_state_since_timestamp_seconds{IN_FLEET})"),
                ),
                width=24,
                height=10,
            ),
            Panel(
                "Launches by state",
                "How many launches are in each state.",
                "timeseries",
                (
                    Query(
                        f"sum by (state) (max by (namespace, launch, state) (autoadvance_launch_state{IN_FLEET}))",
                        "{{state}}",
                    ),
                ),
            ),
            Panel(
                "Criteria by verdict",
                "How many criteria of all launches have each verdict.",
                "timeseries",
                (
                    Query(
                        "sum by (verdict) (max by (namespace, launch, target, criterion, verdict) "
                        f"(autoadvance_criterion_verdict{IN_FLEET}))",
                        "{{verdict}}",
                    ),
                ),
            ),
            Panel(
                "Decisions",
                "What was done to launches.",
                "timeseries",
                (gained(f"autoadvance_launch_decisions_total{IN_FLEET}", "action"),),
            ),
            Panel(
                "Signals",
                "Why.",
                "timeseries",
                (gained("autoadvance_decisions_total", "signal"),),
            ),
            Panel(
                "Overrides",
                "What people said, and whether it was accepted.",
                "timeseries",
                (gained("autoadvance_overrides_total", "verb", "outcome"),),
            ),
            Panel(
                "Weights that others changed",
                "Times that a route got a weight that its launch did not set.",
                "timeseries",
                (
                    gained(
                        f"autoadvance_launch_drifts_total{IN_FLEET}",
                        "namespace",
                        "launch",
                        legend="{{namespace}}/{{launch}}",
                    ),
                ),
            ),
        ),
    ),
    Row(
        "Controller",
        (
            Panel(
                "Leads",
                "How many processes decide; it must be one.",
                "stat",
                (Query("sum(autoadvance_leader)"),),
                unit="none",
                width=4,
                height=4,
            ),
            Panel(
                "Sees the cluster",
                "Whether lists and watches are up to date.",
                "stat",
                (Query("max(autoadvance_cluster_in_sync)"),),
                unit="none",
                width=4,
                height=4,
                mapping=YES,
            ),
            Panel(
                "Alertmanagers",
                "How many are told.",
                "stat",
                (Query("max(autoadvance_alertmanagers)"),),
                unit="none",
                width=4,
                height=4,
            ),
            Panel(
                "Version",
                "Which versions run.",
                "stat",
                (Query("sum by (version) (autoadvance_build_info)", "{{version}}"),),
                unit="none",
                width=6,
                height=4,
            ),
            Panel(
                "Runs for",
                "Since the youngest process began.",
                "stat",
                (Query("time() - max(autoadvance_start_time_seconds)"),),
                unit="s",
                width=6,
                height=4,
            ),
            Panel(
                "Configuration in force",
                "Whether the operator's file is in force as it stands; else the last good one is.",
                "stat",
                (Query("min(autoadvance_config_last_reload_successful)"),),
                unit="none",
                width=8,
                height=4,
                mapping=YES,
            ),
            Panel(
                "Read",
                "How long ago the configuration in force was read.",
                "stat",
                (Query("time() - min(autoadvance_config_last_reload_success_timestamp_seconds)"),),
                unit="s",
                width=8,
                height=4,
            ),
            Panel(
                "All launches stopped",
                "Whether the operator has stopped all raises.",
                "stat",
                (Query("max(autoadvance_fleet_stopped)"),),
                unit="none",
                width=8,
                height=4,
                mapping=((0, "no", "green"), (1, "yes", "orange")),
            ),
            Panel(
                "Age of the last tick",
                "It must stay below three ticks (and a minute).",
                "timeseries",
                (
                    Query("time() - max(autoadvance_last_evaluation_timestamp_seconds)", "age"),
                    Query("clamp_min(3 * max(autoadvance_tick_interval_seconds), 60)", "too old", limit=True),
                ),
                unit="s",
            ),
            Panel(
                "Duration of a tick",
                "From its start to its last decision, beside the time there is.",
                "timeseries",
                (
                    *quantiles("autoadvance_tick_duration_seconds"),
                    Query("max(autoadvance_tick_interval_seconds)", "tick", limit=True),
                ),
                unit="s",
            ),
            Panel(
                "Ticks missed",
                "Ticks that found the one before still at work.",
                "timeseries",
                (gained("autoadvance_ticks_missed_total", legend="missed"),),
            ),
            Panel(
                "Failures",
                "What did not work and was tried again.",
                "timeseries",
                (gained("autoadvance_failures_total", "doing"),),
            ),
        ),
    ),
    Row(
        "Prometheus",
        (
            Panel(
                "Queries",
                "By how they ended.",
                "timeseries",
                (gained("autoadvance_queries_total", "outcome"),),
            ),
            Panel(
                "Duration of queries",
                "Of one query, and of all questions of a tick.",
                "timeseries",
                (
                    *quantiles("autoadvance_query_duration_seconds"),
                    Query(
                        "histogram_quantile(0.99, sum by (le) "
                        "(rate(autoadvance_gather_duration_seconds_bucket[$__rate_interval])))",
                        "99 % of all of a tick",
                    ),
                ),
                unit="s",
            ),
        ),
    ),
    Row(
        "API server",
        (
            Panel(
                "Writes",
                "Of weights, trials, statuses and finalizers, by how they ended.",
                "timeseries",
                (gained("autoadvance_writes_total", "of", "outcome"),),
            ),
            Panel(
                "Duration of writes",
                "Of one write.",
                "timeseries",
                quantiles("autoadvance_write_duration_seconds", "of"),
                unit="s",
            ),
        ),
    ),
    Row(
        "Telling",
        (
            Panel(
                "What did not arrive",
                "Alerts are tried again; Events and records of decisions are lost.",
                "timeseries",
                (
                    gained("autoadvance_alert_failures_total", legend="alerts"),
                    gained("autoadvance_events_dropped_total", legend="Events"),
                    gained("autoadvance_decision_records_dropped_total", legend="records of decisions"),
                ),
                width=12,
            ),
            Panel(
                "Alerts that arrived",
                "Alerts that an Alertmanager took, resends counted. None while one fires: nobody is told.",
                "timeseries",
                (gained("autoadvance_alerts_sent_total", legend="alerts"),),
                width=12,
            ),
        ),
    ),
)

ONE = 'namespace="$namespace",launch="$launch"'
TARGETS = f'{ONE},target=~"$target"'
# what is of the whole launch names no target
CRITERIA = f'{ONE},target=~"$target|"'
BY_CRITERION = "by (target, criterion)"
_BEGUN = f"max(autoadvance_launch_step_started_timestamp_seconds{{{ONE}}})"


def of_verdict(verdict: str) -> str:
    """1 for the criteria that have that verdict, 0 for the others."""
    return f'max {BY_CRITERION} (autoadvance_criterion_verdict{{{CRITERIA},verdict="{verdict}"}})'


LAUNCH_ROWS = (
    Row(
        "Where it stands",
        (
            Panel(
                "State",
                "The state in which it is.",
                "stat",
                (Query(f"max by (state) (autoadvance_launch_state{{{ONE}}}) == 1", "{{state}}"),),
                unit="none",
                width=5,
                height=4,
            ),
            Panel(
                "Reason",
                "Why it is there; `auto-advance explain` says it in a sentence.",
                "stat",
                (Query(f"max by (reason) (autoadvance_launch_reason{{{ONE}}})", "{{reason}}"),),
                unit="none",
                width=5,
                height=4,
            ),
            Panel(
                "In this state for",
                "As far back as its status remembers.",
                "stat",
                (Query(f"time() - max(autoadvance_launch_state_since_timestamp_seconds{{{ONE}}})"),),
                unit="s",
                width=4,
                height=4,
            ),
            Panel(
                "Step",
                "Of the running phase, counted from 1.",
                "stat",
                (Query(f"max by (phase) (autoadvance_launch_step{{{ONE}}})", "{{phase}}"),),
                unit="none",
                width=5,
                height=4,
            ),
            Panel(
                "Last decided upon",
                "How long ago it was judged.",
                "stat",
                (Query(f"time() - max(autoadvance_launch_last_evaluation_timestamp_seconds{{{ONE}}})"),),
                unit="s",
                width=5,
                height=4,
            ),
            Panel(
                "States",
                "One line per state; it is in the one that is 1.",
                "state-timeline",
                (Query(f"max by (state) (autoadvance_launch_state{{{ONE}}})", "{{state}}"),),
                unit="none",
                mapping=((0, "", "transparent"), (1, "here", "blue")),
            ),
            Panel(
                "Time in the step",
                "Since its weights are in force, beside what is planned.",
                "timeseries",
                (
                    Query(f"time() - {_BEGUN}", "so far"),
                    Query(
                        f"max(autoadvance_launch_step_planned_duration_seconds{{{ONE}}})",
                        "planned at least",
                        limit=True,
                    ),
                ),
                unit="s",
            ),
        ),
    ),
    Row(
        "Weight",
        (
            Panel(
                "Weight of the canary",
                "What the route says; dashed what the launch has set.",
                "timeseries",
                (
                    Query(f"max by (target) (autoadvance_launch_observed_weight_ratio{{{TARGETS}}})", "{{target}}"),
                    Query(
                        f"max by (target) (autoadvance_launch_desired_weight_ratio{{{TARGETS}}})",
                        "{{target}}, as set",
                        limit=True,
                    ),
                ),
                unit="percentunit",
                width=16,
            ),
            Panel(
                "Decisions",
                "What was done, and weights that others changed.",
                "timeseries",
                (
                    gained(f"autoadvance_launch_decisions_total{{{ONE}}}", "action"),
                    gained(f"autoadvance_launch_drifts_total{{{ONE}}}", legend="changed by others"),
                ),
                width=8,
            ),
        ),
    ),
    Row(
        "Evidence",
        (
            Panel(
                "Verdicts",
                "Of each criterion.",
                "state-timeline",
                (
                    Query(
                        f"{of_verdict('pass')} * 3 + {of_verdict('undecided')} * 2 + {of_verdict('fail')}",
                        "{{criterion}} {{target}}",
                    ),
                ),
                unit="none",
                width=16,
                mapping=VERDICTS,
            ),
            Panel(
                "Age of the newest sample",
                "What the verdict rests on ends so long ago.",
                "timeseries",
                (
                    Query(
                        f"time() - max {BY_CRITERION} "
                        f"(autoadvance_criterion_last_sample_timestamp_seconds{{{CRITERIA}}})",
                        "{{criterion}} {{target}}",
                    ),
                ),
                unit="s",
                width=8,
            ),
            Panel(
                "$criterion",
                "What was measured (a share of bad requests, or the bare value), beside the limit. A verdict is more "
                "than a value above the line: it takes a proof.",
                "timeseries",
                (
                    Query(
                        f'max by (target) (autoadvance_criterion_value{{{CRITERIA},criterion=~"$criterion"}})',
                        "{{target}}",
                    ),
                    Query(
                        f'max(autoadvance_criterion_limit{{{CRITERIA},criterion=~"$criterion"}})', "limit", limit=True
                    ),
                ),
                width=8,
                repeat="criterion",
            ),
            Panel(
                "Requests that the verdicts rest on",
                "Or samples, of a bare value.",
                "timeseries",
                (
                    Query(
                        f"max {BY_CRITERION} (autoadvance_criterion_requests{{{CRITERIA}}})",
                        "{{criterion}} {{target}}",
                    ),
                ),
            ),
            Panel(
                "Bad ones among them",
                "Failed or too slow.",
                "timeseries",
                (
                    Query(
                        f"max {BY_CRITERION} (autoadvance_criterion_bad_requests{{{CRITERIA}}})",
                        "{{criterion}} {{target}}",
                    ),
                ),
            ),
        ),
    ),
)


@dataclass(frozen=True)
class Variable:
    """One variable of a dashboard: the values of a label."""

    name: str
    query: str
    many: bool


@dataclass(frozen=True)
class Mark:
    """Annotations: each series marks the instants at which it is there. ``at``: its value is the instant."""

    name: str
    expr: str
    title: str
    colour: str
    at: bool = False


def _decisions(selector: str) -> str:
    return f"sum by (namespace, launch, action) (changes(autoadvance_launch_decisions_total{{{selector}}}[$__rate_interval])) > 0"


@dataclass(frozen=True)
class Dashboard:
    """One dashboard and the file that it is written to."""

    file: str
    uid: str
    title: str
    about: str
    variables: Sequence[Variable]
    marks: Sequence[Mark]
    rows: Sequence[Row]


ACTED = 'action=~"start|raise|retreat|withdraw|return|hold|succeed"'
DASHBOARDS = (
    Dashboard(
        "fleet.json",
        FLEET,
        "auto-advance: all launches",
        "Every launch, and how the controller does.",
        (Variable("namespace", "label_values(autoadvance_launch_state, namespace)", many=True),),
        (
            Mark(
                "Decisions",
                _decisions(f'namespace=~"$namespace",{ACTED}'),
                "{{namespace}}/{{launch}}: {{action}}",
                "blue",
            ),
            Mark(
                "Controller starts", "autoadvance_start_time_seconds * 1000", "the controller starts", "orange", at=True
            ),
        ),
        FLEET_ROWS,
    ),
    Dashboard(
        "launch.json",
        LAUNCH,
        "auto-advance: one launch",
        "One launch: where it stands, its weights, its evidence beside the limits.",
        (
            Variable("namespace", "label_values(autoadvance_launch_state, namespace)", many=False),
            Variable("launch", 'label_values(autoadvance_launch_state{namespace="$namespace"}, launch)', many=False),
            Variable("target", f"label_values(autoadvance_launch_desired_weight_ratio{{{ONE}}}, target)", many=True),
            Variable("criterion", f"label_values(autoadvance_criterion_limit{{{ONE}}}, criterion)", many=True),
        ),
        (Mark("Decisions", _decisions(f"{ONE},{ACTED}"), "{{action}}", "blue"),),
        LAUNCH_ROWS,
    ),
)


def document(board: Dashboard) -> Json:
    """The dashboard as Grafana loads it."""
    return {
        "uid": board.uid,
        "title": board.title,
        "description": board.about,
        "tags": ["auto-advance"],
        "schemaVersion": 39,
        "version": 1,
        "editable": True,
        "timezone": "utc",
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "graphTooltip": 1,
        "links": [
            {
                "type": "dashboards",
                "tags": ["auto-advance"],
                "title": "auto-advance",
                "asDropdown": True,
                "keepTime": True,
            }
        ],
        "templating": {"list": [_datasource(), *map(_variable, board.variables)]},
        "annotations": {"list": list(map(_annotation, board.marks))},
        "panels": list(_laid_out(board.rows)),
    }


def _datasource() -> Json:
    return {"name": "datasource", "label": "Prometheus", "type": "datasource", "query": "prometheus", "current": {}}


def _variable(variable: Variable) -> Json:
    return {
        "name": variable.name,
        "label": variable.name,
        "type": "query",
        "datasource": DATASOURCE,
        "query": {"query": variable.query, "refId": variable.name},
        "definition": variable.query,
        "refresh": 2,
        "sort": 1,
        "multi": variable.many,
        "includeAll": variable.many,
        "current": {"text": ["All"], "value": ["$__all"]} if variable.many else {},
    }


def _annotation(mark: Mark) -> Json:
    return {
        "name": mark.name,
        "datasource": DATASOURCE,
        "enable": True,
        "expr": mark.expr,
        "titleFormat": mark.title,
        "iconColor": mark.colour,
        "step": "15s",
        "useValueForTime": mark.at,
    }


def _laid_out(rows: Sequence[Row]) -> Iterator[Json]:
    """The panels from the left to the right and from the top to the bottom; each row begins a new line."""
    number, top = 0, 0
    for row in rows:
        number += 1
        yield {
            "id": number,
            "type": "row",
            "title": row.title,
            "collapsed": False,
            "gridPos": {"x": 0, "y": top, "w": WIDTH, "h": 1},
            "panels": [],
        }
        top += 1
        left = highest = 0
        for panel in row.panels:
            if left + panel.width > WIDTH or panel.repeat:
                left, top, highest = 0, top + highest, 0
            number += 1
            yield _panel(panel, number, left, top)
            left, highest = left + panel.width, max(highest, panel.height)
            if panel.repeat:
                left = WIDTH
        top += highest


def _panel(panel: Panel, number: int, left: int, top: int) -> Json:
    instant = panel.kind in ("stat", "table")
    made: Json = {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.about,
        "datasource": DATASOURCE,
        "gridPos": {"x": left, "y": top, "w": panel.width, "h": panel.height},
        "targets": [
            {
                "refId": chr(ord("A") + index),
                "datasource": DATASOURCE,
                "expr": query.expr,
                "legendFormat": query.legend or "__auto",
                "instant": instant,
                "range": not instant,
                **({"format": "table"} if panel.kind == "table" else {}),
            }
            for index, query in enumerate(panel.queries)
        ],
        "fieldConfig": {"defaults": _defaults(panel), "overrides": _overrides(panel)},
        "options": _options(panel),
    }
    if panel.repeat:
        made |= {"repeat": panel.repeat, "repeatDirection": "h", "maxPerRow": 3}
    if panel.kind == "table":
        made["transformations"] = _columns()
    return made


def _defaults(panel: Panel) -> Json:
    defaults: Json = {"unit": panel.unit}
    if panel.kind == "timeseries":
        defaults |= {"min": 0, "custom": {"fillOpacity": 5, "showPoints": "never", "spanNulls": False}}
    if panel.mapping:
        options = {str(value): {"text": text, "color": colour} for value, text, colour in panel.mapping}
        defaults["mappings"] = [{"type": "value", "options": options}]
    return defaults


def _overrides(panel: Panel) -> list[Json]:
    """What is a limit is a dashed line, red where it is one for all."""
    if panel.kind == "table":
        return [
            {"matcher": {"id": "byName", "options": "weight"}, "properties": [{"id": "unit", "value": "percentunit"}]},
            {"matcher": {"id": "byName", "options": "for"}, "properties": [{"id": "unit", "value": "s"}]},
            {
                "matcher": {"id": "byName", "options": "launch"},
                "properties": [{"id": "links", "value": [{"title": "its dashboard", "url": _LINK}]}],
            },
        ]
    overrides = []
    for index, query in enumerate(panel.queries):
        if not query.limit:
            continue
        dashes = {"fill": "dash", "dash": [8, 6]}
        properties: list[Json] = [
            {"id": "custom.lineStyle", "value": dashes},
            {"id": "custom.fillOpacity", "value": 0},
        ]
        if "{{" not in query.legend:
            properties.append({"id": "color", "value": {"mode": "fixed", "fixedColor": "red"}})
        matcher = {"id": "byFrameRefID", "options": chr(ord("A") + index)}
        overrides.append({"matcher": matcher, "properties": properties})
    return overrides


_LINK = (
    f"/d/{LAUNCH}?var-datasource=${{datasource}}"
    "&var-namespace=${__data.fields.namespace}&var-launch=${__data.fields.launch}"
)


def _columns() -> list[Json]:
    """One line per launch out of the answers of all queries."""
    renamed = {"Value #D": "weight", "Value #E": "for", "Value #C": "step"}
    order = ["namespace", "launch", "state", "reason", "phase", "Value #C", "Value #D", "Value #E"]
    organised = {
        "excludeByName": {"Time": True, "Value #A": True, "Value #B": True},
        "indexByName": {name: index for index, name in enumerate(order)},
        "renameByName": renamed,
    }
    return [{"id": "merge", "options": {}}, {"id": "organize", "options": organised}]


def _options(panel: Panel) -> Json:
    if panel.kind == "timeseries":
        return {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi", "sort": "desc"}}
    if panel.kind == "stat":
        named = any("{{" in query.legend for query in panel.queries)
        mode = {"textMode": "name" if named and panel.title != "Step" else "value_and_name" if named else "auto"}
        return {"reduceOptions": {"calcs": ["lastNotNull"]}, "colorMode": "value", "graphMode": "none", **mode}
    if panel.kind == "state-timeline":
        return {"showValue": "never", "mergeValues": True, "legend": {"displayMode": "list", "placement": "bottom"}}
    return {"showHeader": True}


def render() -> dict[str, str]:
    """The text of every file by its name."""
    return {board.file: json.dumps(document(board), indent=2) + "\n" for board in DASHBOARDS}


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the dashboards, or with ``--check`` say which one differs; returns the exit code."""
    parser = argparse.ArgumentParser(description="Write the dashboards of this folder.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit code 1 where a file differs")
    chosen = parser.parse_args(arguments)
    different = 0
    for name, text in render().items():
        path = HERE / name
        if chosen.check:
            if not path.is_file() or path.read_text(encoding="utf-8") != text:
                sys.stderr.write(f"deploy/grafana/{name} is out of date; run: python deploy/grafana/generate.py\n")
                different = 1
            continue
        path.write_text(text, encoding="utf-8")
    return different


if __name__ == "__main__":
    sys.exit(main())

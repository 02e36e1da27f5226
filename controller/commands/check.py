"""``check``: every metric of a plan asked once, what is wrong with it, and what to write instead."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from controller.commands.asking import Config, configuration_of, past_instant, plan_of, settings_of, terms_of
from controller.commands.program import EXIT_FAILED, EXIT_OK, EXIT_USAGE, Format, console, fail, printable, say

if TYPE_CHECKING:
    from controller.adapters.metric_facts import Wanted
    from controller.adapters.prometheus import PrometheusSettings
    from controller.core.check import Facts, Finding, Measured
    from controller.core.configuration import Configuration
    from controller.core.plan import Plan
    from controller.settings import Settings

HELP = "Ask Prometheus once for every metric of a plan, and say which ones mislead and what to write instead."
EPILOG = (
    "Exit codes: 0 every metric can be trusted (some may be weak); 1 a metric would stop or mislead the launch; "
    "2 it cannot be asked. How Prometheus is reached and its rules are written is read from the same environment "
    "variables as by run (AUTO_ADVANCE_PROMETHEUS_...), and so are recorded-interval and unconfined-queries."
)

_SPAN_S = 900.0
"""How far back (seconds) the counts a minute are taken from."""
_SPAN_INTERVALS = 6
_GATHER_S = 60.0
_ANSWER_S = 20.0
_MOST_BYTES = 16 * 1024 * 1024
_COLOURS = {"stops": "red", "weak": "yellow", "good": "green"}
_COLUMNS = ("target", "metric", "series", "a minute", "bad a minute", "newest", "each", "says")


@dataclass(frozen=True, slots=True)
class Checked:
    """What was found about a plan. ``at`` is epoch seconds."""

    plan: Plan
    at: float
    measured: tuple[Measured, ...]
    findings: tuple[Finding, ...]
    unanswered: tuple[str, ...]

    @property
    def result(self) -> str:
        """In one word."""
        if any(finding.severity == "stops" for finding in self.findings):
            return "stops"
        if self.unanswered:
            return "unanswered"
        return "weak" if self.findings else "good"


def check(
    plan: Annotated[Path, typer.Argument(help="The manifest of the Launch; - reads it.", show_default=False)],
    prometheus: Annotated[
        str,
        typer.Option("--prometheus", help="Base URL of Prometheus; default: the controller's.", show_default=False),
    ] = "",
    at: Annotated[
        str, typer.Option("--at", help="As it was at this instant: 2025-11-01T14:00:00Z.", show_default="now")
    ] = "",
    config: Config = "",
    output: Annotated[Format, typer.Option("-o", "--output", help="text or json.")] = Format.TEXT,
) -> None:
    """Ask Prometheus once for every metric of a plan, and say which ones mislead and what to write instead."""
    if output is Format.YAML:
        fail("check", "-o yaml: is not a form of its answer; write -o json or -o text", EXIT_USAGE)
    settings = settings_of("check", prometheus)
    instant = past_instant("check", "--at", at)
    configuration = configuration_of("check", config, settings)
    read = plan_of("check", plan, settings, terms_of(config, settings, configuration))
    checked = examine(read, settings, instant, configuration)
    if output is Format.JSON:
        typer.echo(json.dumps(_document(checked), indent=2, ensure_ascii=False))
    else:
        _tell(checked)
    codes = {"stops": EXIT_FAILED, "unanswered": EXIT_USAGE}
    raise typer.Exit(codes.get(checked.result, EXIT_OK))


def examine(plan: Plan, settings: Settings, at: float, configuration: Configuration | None = None) -> Checked:
    """Ask about every metric of the plan, by the controller's own queries and some of its own; ``at`` is epoch seconds."""
    from controller.adapters.metric_facts import MetricFacts
    from controller.adapters.prometheus import Prometheus
    from controller.adapters.reached import backend_of, backends, confinement
    from controller.core.check import findings, measured
    from controller.core.configuration import NOTHING
    from controller.errors import AdapterError

    said = configuration or NOTHING
    known, wanted = backends(settings, said), _wanted(plan)
    facts: list[Facts] = []
    for name in dict.fromkeys(one.canary.backend for one in wanted) or ("",):
        try:
            reached = backend_of(known, name)
            patient = replace(reached, timeout=_ANSWER_S, read_timeout=_ANSWER_S, max_bytes=_MOST_BYTES)
            prometheus = Prometheus(patient)
            asking = MetricFacts(prometheus, at, confinement=confinement(settings, said))
            try:
                asking.reach()
                facts += _facts([one for one in wanted if one.canary.backend == name], reached, asking)
            finally:
                asking.close()
                prometheus.close()
        except AdapterError as error:
            fail("check", f"--prometheus: {f'{name}: ' if name else ''}{error}", EXIT_USAGE)
    return Checked(
        plan=plan,
        at=at,
        measured=tuple(map(measured, facts)),
        findings=findings(facts),
        unanswered=tuple(dict.fromkeys(problem for each in facts for problem in each.unanswered)),
    )


def _facts(wanted: list[Wanted], reached: PrometheusSettings, asking: Any) -> list[Facts]:
    from controller.adapters.prometheus import Prometheus
    from controller.core.evidence import grid
    from controller.gather import Gatherer

    spans = {one.canary: max(_SPAN_S, _SPAN_INTERVALS * one.canary.series.interval) for one in wanted}
    spans.update({one.stable: spans[one.canary] for one in wanted if one.stable is not None})
    after = {subject: grid(asking.at - span, subject.series.interval) for subject, span in spans.items()}
    prometheus = Prometheus(reached)
    gatherer = Gatherer(prometheus, confinement=asking.confinement)
    try:
        readings = gatherer.gather(after, asking.at, _GATHER_S)
    finally:
        gatherer.close()
        prometheus.close()
    asked = [(one, readings[one.canary], readings[one.stable] if one.stable else None) for one in wanted]
    with _progress(len(asked)) as progress:
        found: list[Facts] = asking.of(asked, progress)
    return found


def _wanted(plan: Plan) -> list[Wanted]:
    """Each metric on each target on which it is judged, and for the whole launch, in the order of the plan."""
    from controller.adapters.metric_facts import wanted_of
    from controller.core.evidence import Criterion
    from controller.core.questions import criteria_of, judged_on
    from controller.core.series import Subject, launch_wide

    subjects: list[tuple[Subject, Subject | None, Criterion]] = []
    for phase in plan.phases:
        for criterion in criteria_of(phase):
            for target in judged_on(criterion, phase.targets):
                series = criterion.series
                if criterion.launch_wide:
                    subjects.append((launch_wide(series, plan.namespace, plan.prometheus), None, criterion))
                    continue
                split = plan.target(target)
                canary = Subject(series, plan.namespace, target, split.service, plan.revision, backend=split.prometheus)
                # As the controller does: a bare value, restarts and uptime are of the canary alone.
                stable = replace(canary, track="stable") if series.of_requests else None
                subjects.append((canary, stable, criterion))
    order = {target.name: place for place, target in enumerate(plan.targets)}
    return sorted(wanted_of(subjects), key=lambda one: order.get(one.canary.target, -1))


@contextmanager
def _progress(total: int) -> Iterator[Callable[[], None] | None]:
    """A bar on standard error, where that is a terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("asking", total=total)
        yield lambda: bar.advance(task)


# --- what is printed


def _tell(checked: Checked) -> None:
    rows = [_row(one, _says(one, checked.findings)) for one in checked.measured]
    if not rows:
        say("the plan judges nothing by a metric: there is nothing to ask")
    elif sys.stdout.isatty():
        _print_table(rows, checked)
    else:
        lines = [_COLUMNS, *rows]
        widths = [max(len(line[column]) for line in lines) for column in range(len(_COLUMNS))]
        for line in lines:
            say("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
    for finding in checked.findings:
        if sys.stdout.isatty():
            from rich.text import Text

            text = Text(printable(f"{finding.severity:5} {finding}"))
            text.stylize(_COLOURS[finding.severity], 0, 5)
            console().print(text)
        else:
            say(f"{finding.severity:5} {finding}")
    if rows:
        say(_summary(checked))


def _summary(checked: Checked) -> str:
    stops = sum(finding.severity == "stops" for finding in checked.findings)
    weak = len(checked.findings) - stops
    if checked.result == "good":
        return f"launch {checked.plan.name}: good"
    parts = [f"{stops} of its findings stop it" if stops > 1 else "one finding stops it"] if stops else []
    parts += [f"{weak} weak" if weak > 1 else "one weak"] if weak else []
    if checked.unanswered:
        parts.append("not everything was answered")
    return f"launch {checked.plan.name}: {', '.join(parts)}"


def _says(one: Measured, findings: Sequence[Finding]) -> str:
    """The worst of a line's findings, and how many more there are."""
    own = [finding for finding in findings if finding.metric == one.metric and one.target in finding.targets]
    if not own:
        return "good"
    more = f" and {len(own) - 1} more" if len(own) > 1 else ""
    return f"{own[0].severity}: {own[0].kind}{more}"


def _row(one: Measured, says: str) -> tuple[str, ...]:
    """One line of the table; of two numbers the first is the canary's, the second stable's."""
    from controller.core.units import format_count, format_duration, format_number

    def pair(numbers: tuple[float | None, float | None] | None) -> str:
        if numbers is None or numbers == (None, None):
            return "-"
        shown = ["-" if number is None else format_count(_sensible(number)) for number in numbers]
        return shown[0] if numbers[1] is None and one.value is not None else " / ".join(shown)

    return (
        one.target or "(launch)",
        one.metric,
        pair(one.series) if one.series is None or one.series[1] is not None else str(one.series[0]),
        f"= {format_number(one.value)}" if one.value is not None else pair(one.per_minute),
        "-" if one.value is not None else pair(one.bad_per_minute),
        "-" if one.age is None else f"{format_duration(one.age)} ago",
        "-" if one.interval is None else format_duration(round(one.interval, 1)),
        says,
    )


def _value(one: Measured) -> str:
    if one.value is None:
        return ""
    return f"= {one.value:.4g}" if one.error is None else f"= {one.value:.4g} +- {one.error:.2g}"


def _sensible(number: float) -> float:
    """Counts a minute without digits that nobody reads."""
    return round(number) if number >= 10 else round(number, 1)


def _print_table(rows: Sequence[tuple[str, ...]], checked: Checked) -> None:
    from rich.table import Table
    from rich.text import Text

    from controller.core.units import format_instant

    title = f"{checked.plan.namespace}/{checked.plan.name} at {format_instant(checked.at)[:19]}Z (canary / stable)"
    table = Table(title=title, title_justify="left")
    for column in _COLUMNS:
        table.add_column(column)
    for row in rows:
        table.add_row(
            *(Text(printable(cell)) for cell in row[:-1]), Text(row[-1], style=_COLOURS[row[-1].partition(":")[0]])
        )
    console().print(table)


def _document(checked: Checked) -> dict[str, Any]:
    """The answer for scripts."""
    from controller.core.units import format_instant

    def both(pair: tuple[float | None, float | None] | None) -> dict[str, float | None]:
        return {"canary": pair[0] if pair else None, "stable": pair[1] if pair else None}

    return {
        "result": checked.result,
        "namespace": checked.plan.namespace,
        "name": checked.plan.name,
        "at": format_instant(checked.at),
        "metrics": [
            {
                "target": one.target,
                "metric": one.metric,
                "says": _says(one, checked.findings),
                "series": both(one.series),
                "perMinute": both(one.per_minute),
                "badPerMinute": both(one.bad_per_minute),
                "value": one.value,
                "standardError": one.error,
                "ageSeconds": one.age,
                "intervalSeconds": one.interval,
                "edges": list(one.edges),
            }
            for one in checked.measured
        ],
        "findings": [asdict(finding) for finding in checked.findings],
        "unanswered": list(checked.unanswered),
    }

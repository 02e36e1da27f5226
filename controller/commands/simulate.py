"""``simulate``: what a plan would do in the world of a scenario, in virtual time."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from controller.commands.asking import Config
from controller.commands.program import EXIT_FAILED, EXIT_OK, EXIT_USAGE, console, fail, name

if TYPE_CHECKING:
    from controller.core.plan import Plan
    from controller.core.terms import Terms
    from controller.simulation.run import Outcomes
    from controller.simulation.scenario import Scenario

HELP = "Run a plan against a scenario in virtual time, and print what would be decided."
EPILOG = (
    "Exit codes: 0 the launch succeeded; 1 it rolled back, was held or waits for something; "
    "2 the plan or the scenario has faults or cannot be read. The same plan, scenario and seed print the same, "
    "byte for byte."
)
_COLOURS = {"Succeeded": "green", "RolledBack": "red", "RollingBack": "red", "Held": "yellow", "Invalid": "red"}


class Output(StrEnum):
    """How the result is printed."""

    TABLE = "table"
    JSON = "json"
    SVG = "svg"


def simulate_command(
    plan: Annotated[Path, typer.Argument(help="The manifest of the Launch.", show_default=False)],
    scenario: Annotated[
        Path, typer.Option("--scenario", "-s", help="What the world does: a YAML file.", show_default=False)
    ],
    output: Annotated[Output, typer.Option("-o", "--output", help="table, json or svg.")] = Output.TABLE,
    until: Annotated[
        str,
        typer.Option("--until", help="Stop at this instant, or so long after the beginning.", show_default="2 years"),
    ] = "",
    seed: Annotated[int | None, typer.Option("--seed", help="Instead of the scenario's own.", min=0)] = None,
    config: Config = "",
) -> None:
    """Run a plan against a scenario in virtual time, and print what would be decided."""
    from dataclasses import replace

    from controller.simulation.run import LONGEST, begin_of, simulate

    terms = _terms(config)
    document, read = _plan(plan, terms)
    world = _scenario(scenario, read)
    if seed is not None:
        world = replace(world, seed=seed)
    lasts = _seconds(until, begin_of(read, world)) if until else LONGEST
    with _progress() as progress:
        found = simulate(document, read, world, until=lasts, progress=progress, terms=terms)
    title = f"{read.namespace}/{read.name}"
    if output is Output.JSON:
        sys.stdout.write(json.dumps(found.document(), indent=2, ensure_ascii=False) + "\n")
    elif output is Output.SVG:
        from controller.simulation.draw import draw

        sys.stdout.write(draw(found, title))
    else:
        _print(found, title)
    raise typer.Exit(EXIT_OK if found.outcome == "Succeeded" else EXIT_FAILED)


def _documents(path: Path) -> list[Any]:
    from controller.adapters.yaml_documents import YamlError, read_documents

    try:
        text = sys.stdin.read() if str(path) == "-" else path.read_text(encoding="utf-8")
        return [document.value for document in read_documents(text)]
    except (OSError, UnicodeDecodeError) as error:
        fail("simulate", f"{path}: {error}", EXIT_USAGE)
    except YamlError as error:
        fail("simulate", f"{path}:{error.line}:{error.column}: {error.message}", EXIT_USAGE)


def _terms(config: str) -> Terms:
    """What the controller reads plans with; Prometheuses that only its flags name are as good as any."""
    from dataclasses import replace

    from controller.commands.asking import configuration_of
    from controller.core.terms import DEFAULT_BACKEND, FREE

    if not config:
        return FREE
    configuration = configuration_of("simulate", config)
    terms = configuration.terms(frozenset(configuration.backends))
    return terms if configuration.backends else replace(terms, backends=frozenset({DEFAULT_BACKEND}))


def _plan(path: Path, terms: Terms) -> tuple[dict[str, Any], Plan]:
    from controller.core.plan import InvalidPlanError, parse
    from controller.core.spec import KIND

    launches = [value for value in _documents(path) if isinstance(value, dict) and value.get("kind") == KIND]
    if len(launches) != 1:
        fail("simulate", f"{path}: holds {len(launches) or 'no'} Launches; give a file with one", EXIT_USAGE)
    try:
        return launches[0], parse(launches[0], terms=terms)
    except InvalidPlanError as invalid:
        _tell(path, invalid.faults)


def _scenario(path: Path, plan: Plan) -> Scenario:
    from controller.simulation.scenario import InvalidScenarioError, read_scenario

    documents = _documents(path)
    if len(documents) != 1:
        fail("simulate", f"{path}: holds {len(documents)} documents; give a file with one scenario", EXIT_USAGE)
    try:
        return read_scenario(documents[0], plan)
    except InvalidScenarioError as invalid:
        _tell(path, invalid.faults)


def _tell(path: Path, faults: tuple[Any, ...]) -> NoReturn:
    for fault in faults:
        typer.echo(f"{name()} simulate: {path}: {fault}", err=True)
    raise typer.Exit(EXIT_USAGE)


def _seconds(until: str, begin: float) -> float:
    from controller.core.units import parse_duration, parse_instant

    try:
        return parse_duration(until)
    except ValueError:
        pass
    try:
        lasts = parse_instant(until) - begin
    except ValueError:
        fail(
            "simulate",
            f"--until {until}: write a duration such as 60d, or an instant: 2026-03-01T00:00:00Z",
            EXIT_USAGE,
        )
    if lasts <= 0:
        fail("simulate", f"--until {until}: is before the launch begins; write a later instant", EXIT_USAGE)
    return lasts


@contextmanager
def _progress() -> Iterator[Callable[[float, float], None] | None]:
    """A bar on standard error, where that is a terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    from controller.core.units import format_instant

    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("simulating")
        first: list[float] = []

        def advance(now: float, end: float) -> None:
            first[:] = first or [now]
            bar.update(
                task, description=format_instant(now)[:16], completed=now - first[0], total=max(end - first[0], 1.0)
            )

        yield advance


def _print(found: Outcomes, title: str) -> None:
    from controller.core.units import format_duration, format_instant

    rows = [
        (
            format_instant(made.at)[:19].replace("T", " "),
            made.state,
            made.phase,
            str(made.step),
            made.signal,
            _weights(made.weights),
            made.reason,
        )
        for made in found.decisions
    ]
    if sys.stdout.isatty():
        _print_table(rows, title)
    else:
        _print_lines(rows)
    _print_told(found)
    typer.echo(f"{found.outcome} at {format_instant(found.ended_at)[:19]}Z: {found.ended}")
    if found.coarsest > 0:
        longest = format_duration(float(found.coarsest))
        typer.echo(
            f"In quiet stretches the counts of up to {longest} were folded as one; decisions stand at their own tick."
        )


def _print_lines(rows: Sequence[tuple[str, ...]]) -> None:
    """Columns that line up; the last one is as long as it is."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row[:-1], widths[:-1], strict=True))
        typer.echo("  ".join((*cells, row[-1])).rstrip())


def _print_told(found: Outcomes) -> None:
    """Who is told what, and when."""
    from controller.core.units import format_instant

    rows = [
        (
            format_instant(told.at)[:19].replace("T", " "),
            told.event,
            told.alert,
            f"{told.role} ({told.level})" if told.role else "-",
            told.summary,
        )
        for told in found.alerts
    ]
    if not rows:
        return
    typer.echo("\nWho is told (level):" if any(told.role for told in found.alerts) else "\nAlerts:")
    if not sys.stdout.isatty():
        _print_lines(rows)
    else:
        from rich.table import Table
        from rich.text import Text

        table = Table()
        for column in ("time (UTC)", "", "alert", "who (level)"):
            table.add_column(column, no_wrap=True)
        table.add_column("what", ratio=1)
        for row in rows:
            table.add_row(row[0], Text(row[1], style="green" if row[1] == "resolves" else "red"), *row[2:])
        console().print(table)
    typer.echo("")


def _print_table(rows: Sequence[tuple[str, ...]], title: str) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(title=f"{title} in virtual time", title_justify="left")
    for column in ("time (UTC)", "state", "phase", "step", "signal", "weights"):
        table.add_column(column, no_wrap=column == "time (UTC)")
    table.add_column("reason", ratio=1)
    for row in rows:
        table.add_row(row[0], Text(row[1], style=_COLOURS.get(row[1], "")), *row[2:])
    console().print(table)


def _weights(weights: Mapping[str, int]) -> str:
    """``10%`` where all have it, else ``us-east 10%, us-west 5%``, leaving out those at 0."""
    from controller.core.units import format_weight

    if len(set(weights.values())) <= 1:
        return format_weight(next(iter(weights.values()), 0))
    shares: dict[int, list[str]] = {}
    for target, weight in weights.items():
        shares.setdefault(weight, []).append(target)
    return ", ".join(f"{' '.join(targets)} {format_weight(weight)}" for weight, targets in shares.items() if weight)

"""``backtest``: what a plan's criteria would have said in the past of a real Prometheus."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from controller.commands.asking import Config, configuration_of, past_instant, plan_of, settings_of, terms_of
from controller.commands.program import EXIT_FAILED, EXIT_OK, EXIT_USAGE, console, fail, printable, say

if TYPE_CHECKING:
    from controller.backtest.past import Ask, Backtest, Line, Span
    from controller.backtest.picture import Picture
    from controller.core.configuration import Configuration
    from controller.core.plan import Plan
    from controller.core.series import Reading, Subject
    from controller.settings import Settings

HELP = "Hold a plan's criteria against the past of Prometheus: a release that was, or a time in which nothing happened."
EPILOG = (
    "Exit codes: 0 nothing failed; 1 a criterion failed, which in a quiet time is a false alarm; 2 what was typed cannot "
    "be used, or Prometheus gave no answer (with --resume the same command goes on from there). How Prometheus is reached "
    "is read from the same environment variables as by run (AUTO_ADVANCE_PROMETHEUS_...)."
)
_GATHER_S = 300.0
_ANSWER_S = 60.0
_LISTED = 20
_COLOURS = {"fail": "red", "pass": "green", "no data": "magenta", "undecided": "yellow"}


class Output(StrEnum):
    """How the result is printed."""

    TABLE = "table"
    JSON = "json"
    SVG = "svg"


class Whose(StrEnum):
    """Whose requests are judged in a quiet time."""

    STABLE = "stable"
    CANARY = "canary"


def backtest(
    plan: Annotated[Path, typer.Argument(help="The manifest of the Launch; - reads it.", show_default=False)],
    *,
    begin: Annotated[
        str,
        typer.Option("--from", help="Its beginning: 2025-10-01T00:00:00Z, or 30d before its end.", show_default=False),
    ],
    end: Annotated[str, typer.Option("--to", help="Its end: 2025-11-01T00:00:00Z.", show_default="now")] = "",
    release: Annotated[
        bool, typer.Option("--release", help="A canary was released then: its weights are what its traffic says.")
    ] = False,
    track: Annotated[
        Whose, typer.Option("--track", help="Without --release: whose requests are judged as if a canary's.")
    ] = Whose.STABLE,
    phase: Annotated[
        list[str] | None, typer.Option("--phase", help="Of this phase only; may be repeated.", show_default="all")
    ] = None,
    every: Annotated[
        str,
        typer.Option(
            "--every", help="Without --release: begin the phase anew so often: 24h.", show_default="its planned length"
        ),
    ] = "",
    tick: Annotated[
        str, typer.Option("--tick", help="How often it is looked at.", show_default="that of the controller")
    ] = "",
    resume: Annotated[
        Path | None,
        typer.Option(
            "--resume", help="Keep the place in this file, and go on from it if it is there.", show_default=False
        ),
    ] = None,
    prometheus: Annotated[
        str,
        typer.Option("--prometheus", help="Base URL of Prometheus; default: the controller's.", show_default=False),
    ] = "",
    config: Config = "",
    output: Annotated[Output, typer.Option("-o", "--output", help="table, json or svg.")] = Output.TABLE,
) -> None:
    """Hold a plan's criteria against the past of Prometheus: a release that was, or a time in which nothing happened."""
    settings = settings_of("backtest", prometheus)
    configuration = configuration_of("backtest", config, settings)
    read = plan_of("backtest", plan, settings, terms_of(config, settings, configuration))
    span = _span(settings, begin, end, tick, every, track, release=release)
    tested = _prepared(read, span, tuple(phase or ()))
    _restore(tested, resume)
    _run(tested, settings, configuration, resume)
    if output is Output.JSON:
        sys.stdout.write(json.dumps(tested.document(), indent=2, ensure_ascii=False) + "\n")
    elif output is Output.SVG:
        from controller.backtest.picture import draw

        sys.stdout.write(draw(picture(tested)))
    else:
        tell(tested)
    raise typer.Exit(EXIT_FAILED if tested.failed() else EXIT_OK)


def _span(settings: Settings, begin: str, end: str, tick: str, every: str, track: Whose, *, release: bool) -> Span:
    from controller.backtest.past import Span
    from controller.core.units import parse_duration

    until = past_instant("backtest", "--to", end)
    if not end:
        # What is newer may still change.
        until = float(int(until - settings.recorded_settle) // 60 * 60)
    if release and (every or track is not Whose.STABLE):
        given = "--every" if every else "--track"
        fail("backtest", f"{given}: belongs to a quiet time; leave it out, or leave out --release", EXIT_USAGE)
    try:
        since = until - parse_duration(begin)
    except ValueError:
        since = past_instant("backtest", "--from", begin)
    seconds = _duration("--tick", tick) if tick else settings.tick
    if since + seconds > until:
        fail("backtest", "--from: is no tick before --to; write an earlier instant, such as --from 30d", EXIT_USAGE)
    again = _duration("--every", every) if every else None
    return Span(since, until, seconds, release, "stable" if release else track.value, again)


def _duration(option: str, text: str) -> float:
    from controller.core.units import parse_duration

    try:
        seconds = parse_duration(text)
    except ValueError as error:
        fail("backtest", f"{option}: {error}", EXIT_USAGE)
    if seconds < 1:
        fail("backtest", f"{option} {text}: is too short; write 1s or more", EXIT_USAGE)
    return seconds


def _prepared(plan: Plan, span: Span, phases: Sequence[str]) -> Backtest:
    from controller.backtest.past import Backtest

    for each in phases:
        if plan.phase_index(each) < 0:
            known = ", ".join(phase.name for phase in plan.phases)
            fail("backtest", f"--phase {each}: the plan has no such phase; write one of {known}", EXIT_USAGE)
    try:
        return Backtest(plan, span, phases)
    except ValueError as error:
        fail("backtest", error, EXIT_USAGE)


# --- asking, and the place that is kept


def _run(tested: Backtest, settings: Settings, configuration: Configuration, resume: Path | None) -> None:
    from controller.backtest.past import PastUnreadableError
    from controller.core.units import format_instant

    begun = tested.position
    try:
        with _asking(settings, configuration) as ask, _progress(tested) as progress:
            for _ in tested.run(ask):
                if resume is not None:
                    _keep(tested, resume)
                progress()
    except (PastUnreadableError, KeyboardInterrupt) as error:
        why = str(error) or "interrupted"
        if resume is None:
            on = "with --resume FILE it would keep its place"
        elif tested.position > begun or resume.exists():
            on = "the same command goes on from there"
        else:
            on = "nothing was judged yet"
        fail("backtest", f"stopped at {format_instant(tested.position)}: {why}; {on}", EXIT_USAGE)


@contextmanager
def _asking(settings: Settings, configuration: Configuration) -> Iterator[Ask]:
    """The controller's own way of asking, with more patience; each Prometheus that somebody wants, one after the other."""
    from dataclasses import replace

    from controller.adapters.prometheus import Prometheus
    from controller.adapters.reached import backend_of, backends, confinement
    from controller.core.series import Reading
    from controller.errors import RefusedError
    from controller.gather import Gatherer

    known, confined = backends(settings, configuration), confinement(settings, configuration)
    asked: dict[str, tuple[Prometheus, Gatherer]] = {}

    def ask(wanted: Mapping[Subject, int], until: float) -> Mapping[Subject, Reading]:
        parts: dict[str, dict[Subject, int]] = {}
        for subject, after in wanted.items():
            parts.setdefault(subject.backend, {})[subject] = after
        readings: dict[Subject, Reading] = {}
        for name, part in parts.items():
            try:
                reached = backend_of(known, name)
            except RefusedError as error:
                readings |= {subject: Reading(after, after, problem=str(error)) for subject, after in part.items()}
                continue
            if name not in asked:
                patience = max(_ANSWER_S, reached.timeout)
                prometheus = Prometheus(replace(reached, timeout=patience, read_timeout=patience))
                asked[name] = prometheus, Gatherer(prometheus, confinement=confined)
            readings |= asked[name][1].past(part, until, _GATHER_S)
        return readings

    try:
        yield ask
    finally:
        for prometheus, gatherer in asked.values():
            gatherer.close()
            prometheus.close()


def _restore(tested: Backtest, resume: Path | None) -> None:
    from controller.backtest.past import OtherBacktestError

    if resume is None or not resume.exists():
        return
    try:
        tested.restore(json.loads(resume.read_text(encoding="utf-8")))
    except OSError as error:
        fail("backtest", f"--resume {resume}: it cannot be read: {error.strerror}; name another file", EXIT_USAGE)
    except (ValueError, RecursionError):
        fail("backtest", f"--resume {resume}: it is no stored backtest; name another file", EXIT_USAGE)
    except OtherBacktestError as error:
        fail("backtest", f"--resume {resume}: {error}", EXIT_USAGE)


def _keep(tested: Backtest, resume: Path) -> None:
    unfinished = resume.with_name(f"{resume.name}.unfinished")
    try:
        unfinished.write_text(json.dumps(tested.saved(), separators=(",", ":")), encoding="utf-8")
        unfinished.replace(resume)
    except OSError as error:
        fail("backtest", f"--resume {resume}: it cannot be written: {error.strerror}; name another file", EXIT_USAGE)


@contextmanager
def _progress(tested: Backtest) -> Iterator[Callable[[], None]]:
    """A bar on standard error, where that is a terminal."""
    if not sys.stderr.isatty():
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    from controller.core.units import format_instant

    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        total = tested.span.end - tested.span.begin
        task = bar.add_task("asking", total=total, completed=round(tested.position - tested.span.begin))

        def advance() -> None:
            at = tested.position
            bar.update(task, description=format_instant(at)[:16], completed=at - tested.span.begin)

        yield advance


# --- what is printed

_QUIET = ("phase", "target", "criterion", "phases", "failed", "passed", "to pass", "no data", "says")
_RELEASE = ("phase", "target", "criterion", "passed", "to pass", "no data", "says")


def tell(tested: Backtest) -> None:
    """The table, then what happened when, then the outcome."""
    from controller.core.units import format_duration, format_instant

    span = tested.span
    rows = [_row(line, release=span.release) for line in tested.lines]
    head = _RELEASE if span.release else _QUIET
    whose = "a release" if span.release else f"{span.track} as if it were the canary"
    title = (
        f"{tested.plan.namespace}/{tested.plan.name}, {whose}, {format_instant(span.begin)[:19]}Z to "
        f"{format_instant(span.end)[:19]}Z, looked at each {format_duration(span.tick)}"
    )
    if sys.stdout.isatty():
        _print_table(head, rows, title)
    else:
        say(title)
        lines = [head, *rows]
        widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
        for line in lines:
            say("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
    _tell_changes(tested)
    for key in tested.left_out():
        say(f"{key}: compares the canary with stable, and so says nothing of a quiet time")
    say(summary(tested))


def _row(line: Line, *, release: bool) -> tuple[str, ...]:
    from controller.backtest.past import in_words, no_data, to_pass_in_words
    from controller.core.units import format_count, format_share

    item = line.item
    often = (format_count(line.begun), format_count(line.failed))
    missing = no_data(line)
    return (
        item.phase.name,
        item.target or "(launch)",
        item.criterion.key,
        *(() if release else often),
        format_count(line.passed),
        to_pass_in_words(line),
        format_share(missing) if missing else "-",
        in_words(line, release=release),
    )


def _tell_changes(tested: Backtest) -> None:
    """A release verdict by verdict, with the weights in between; of a quiet time the false alarms."""
    from controller.core.units import format_instant, format_weight

    release = tested.span.release
    told: list[tuple[float, str, str]] = [
        (at, "weight", f"{target} {format_weight(weight)}") for at, target, weight in tested.weights()
    ]
    for line in tested.lines:
        for change in line.changes:
            if release or change.verdict == "fail":
                said = change.sentence
                if len(tested.phases) > 1:
                    said = f"{line.item.phase.name}: {said}"
                told.append((change.at, change.verdict, said))
    told.sort(key=lambda each: each[0])
    most = len(told) if release and len(told) <= 5 * _LISTED else _LISTED
    for at, word, said in told[:most]:
        text = printable(f"{format_instant(at)[:19].replace('T', ' ')}  {word:9}  {said}")
        if sys.stdout.isatty():
            from rich.text import Text

            console().print(Text(text, _COLOURS.get(word, "")), soft_wrap=True)
        else:
            say(text)
    if len(told) > most:
        say(f"and {len(told) - most} more; -o json has them")


def summary(tested: Backtest) -> str:
    """The outcome in one sentence."""
    from controller.core.units import format_count, format_instant, format_weight

    name = f"{tested.plan.namespace}/{tested.plan.name}"
    if tested.span.release:
        weights = list(tested.weights())
        if not weights:
            return f"{name}: no canary traffic was seen; look at another span, or at a quiet one without --release"
        stop = tested.stops()
        if stop is None:
            gates = [line.item.criterion.key for line in tested.lines if line.item.kind == "gate" and line.failed]
            also = f"; of its gate failed: {', '.join(dict.fromkeys(gates))}" if gates else ""
            return f"{name}: no guardrail of the plan would have stopped this release{also}"
        at, item, ending = stop
        weight = next(
            (weight for since, target, weight in reversed(weights) if target == item.target and since <= at), 0
        )
        where = f" at {format_weight(weight)}" if item.target else ""
        does = {"rollback": "rolled it back", "hold": "held it"}.get(ending, f"said {ending}")
        return f"{name}: the plan would have {does} at {format_instant(at)[:19]}Z{where}: {item.criterion.key}"
    alarms = sum(line.failed for line in tested.lines)
    begun = format_count(sum(line.begun for line in tested.lines))
    word = "false alarm" if alarms <= 1 else "false alarms"
    return f"{name}: {format_count(alarms) if alarms else 'no'} {word} in {begun} runs of its criteria"


def _print_table(head: Sequence[str], rows: Sequence[tuple[str, ...]], title: str) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title, title_justify="left")
    for column in head:
        table.add_column(column)
    for row in rows:
        says = row[-1]
        style = (
            "red" if "fail" in says or says.endswith("alarms") else "green" if "pass" in says or says[0] == "n" else ""
        )
        table.add_row(*(Text(printable(cell)) for cell in row[:-1]), Text(says, style=style))
    console().print(table)


def picture(tested: Backtest) -> Picture:
    """The course of the evidence, for a post-mortem."""
    from controller.backtest.past import COLUMNS
    from controller.backtest.picture import Lane, Picture, Piece
    from controller.core.units import format_instant

    span = tested.span
    wide = (span.end - span.begin) / COLUMNS
    lanes = []
    for line in tested.lines:
        item = line.item
        if not line.points:
            continue
        pieces = [
            Piece(span.begin + column * wide, span.begin + (column + 1) * wide, p.verdict, p.fail, p.passing, p.value)
            for column, p in sorted(line.points.items())
        ]
        marks = [(change.at, change.sentence) for change in line.changes if change.verdict == "fail"]
        where = f"{item.target or 'the launch'}, phase {item.phase.name}"
        said = marks[0][1] if marks else line.sentence
        said = said.removeprefix(f"{item.criterion.key} ({item.target}): ")
        limit = item.criterion.limit if item.criterion.plain else None
        lanes.append(Lane(item.criterion.key, where, pieces, limit, marks, said))
    whose = "release" if span.release else f"{span.track} as if it were the canary"
    title = f"{tested.plan.namespace}/{tested.plan.name}: {whose}"
    subtitle = f"{format_instant(span.begin)[:16]}Z to {format_instant(span.end)[:16]}Z. {summary(tested)}"
    return Picture(title, subtitle, span.begin, span.end, lanes, tested.shares(), list(tested.weights()))

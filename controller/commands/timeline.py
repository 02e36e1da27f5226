"""``timeline``: the whole plan with where it stands, on a terminal, as data, or as a picture."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from controller.commands.clusters import Context, Folder, Kubeconfig, Namespace, Where, found, opened
from controller.commands.program import EXIT_FAILED, EXIT_USAGE, console, fail, name, printable, say

if TYPE_CHECKING:
    from rich.text import Text

    from controller.commands.timeline_picture import Clock, Scale
    from controller.core.faults import InvalidPlanError
    from controller.core.plan import Plan
    from controller.core.status import Status
    from controller.core.timeline import PhaseRow, Timeline

EPILOG = (
    "Exit codes: 0 shown; 1 the plan has faults, or the status cannot be read; 2 what was typed or named cannot be "
    "used; 3 the cluster gave no answer, said no, or has no such launch."
)
_WIDEST = 160
_NAMES = 18
_GATE = 12
_MARKS = {
    "past": ("✓", "green"),
    "now": ("▶", "cyan"),
    "to come": (" ", ""),
    "stopped": ("✗", "red"),
    "not reached": (" ", "dim"),
}
_CELLS = {
    "past": ("█", "green"),
    "now": ("█", "cyan"),
    "to come": ("░", "blue"),
    "stopped": ("█", "red"),
    "not reached": ("·", "dim"),
}
_GATES = {
    "passed": ("◆", "green"),
    "failed": ("✗", "red"),
    "undecided": ("?", "yellow"),
    "waiting": ("◈", "magenta"),
    "judged": ("◈", "cyan"),
    "to come": ("◇", ""),
    "not reached": ("◇", "dim"),
}
_DOTS = {
    "passed": ("●", "green"),
    "failed": ("✗", "red"),
    "undecided": ("?", "yellow"),
    "missed": ("-", "yellow"),
    "taken": ("●", "dim"),
    "to come": ("○", ""),
    "not taken": ("-", "dim"),
}


class Output(StrEnum):
    """How a timeline is printed."""

    TEXT = "text"
    JSON = "json"
    SVG = "svg"


def timeline(
    launch: Annotated[
        str, typer.Argument(metavar="[LAUNCH]", help="NAME or NAMESPACE/NAME of the launch.", show_default=False)
    ] = "",
    file: Annotated[
        str,
        typer.Option(
            "-f", "--file", help="A plan that nobody runs yet, from a file; - reads standard input.", show_default=False
        ),
    ] = "",
    output: Annotated[Output, typer.Option("-o", "--output", help="text, json or svg.")] = Output.TEXT,
    namespace: Namespace = "",
    kubeconfig: Kubeconfig = "",
    context: Context = "",
    folder: Folder = "",
) -> None:
    """Show the whole plan and where it stands: phases, steps, checkpoints and gates, as planned and as they are."""
    from controller.core.timeline import timeline as timed

    if file:
        line = timed(*_from_file(file, launch), None)
    elif launch:
        line = timed(*_from_cluster(launch, Where(namespace, kubeconfig, context, folder)), time.time())
    else:
        fail("timeline", "LAUNCH: is missing; name the launch, or a file with -f", EXIT_USAGE)
    if output is Output.JSON:
        from controller.core.timeline import document

        typer.echo(json.dumps(document(line), indent=2, ensure_ascii=False))
    elif output is Output.SVG:
        from controller.commands.timeline_picture import draw

        typer.echo(draw(line), nl=False)
    else:
        shown = console()
        for text in lines(line, min(shown.width, _WIDEST)):
            shown.print(text, soft_wrap=True)


def _from_cluster(launch: str, where: Where) -> tuple[Plan, Status]:
    from controller.core.plan import InvalidPlanError
    from controller.core.status import UnreadableStatusError

    with opened("timeline", where) as desk:
        read = found(desk, launch, where.namespace)
    if isinstance(read.plan, InvalidPlanError):
        _faults(str(read.key), read.plan)
    if isinstance(read.status, UnreadableStatusError):
        fail("timeline", f"launch {read.key}: its status cannot be read: {read.status}", EXIT_FAILED)
    return read.plan, read.status


def _from_file(file: str, launch: str) -> tuple[Plan, Status]:
    from controller.adapters.yaml_documents import YamlError, read_documents
    from controller.core.plan import InvalidPlanError, parse
    from controller.core.spec import KIND
    from controller.core.status import Status

    try:
        text = sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8")
        values = [document.value for document in read_documents(text)]
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        fail("timeline", f"{file}: {reason}; name a file with a Launch", EXIT_USAGE)
    except YamlError as error:
        fail("timeline", f"{file}:{error.line}:{error.column}: {error.message}", EXIT_USAGE)
    launches = [value for value in values if isinstance(value, dict) and value.get("kind") == KIND]
    names = [_name(value) for value in launches]
    if launch:
        launches = [
            value for value, known in zip(launches, names, strict=True) if launch in (known, known.partition("/")[2])
        ]
    if len(launches) != 1:
        has = ", ".join(names) or "no Launch"
        fail("timeline", f"{file}: it has {has}; name one of its Launches as LAUNCH", EXIT_USAGE)
    try:
        return parse(launches[0]), Status()
    except InvalidPlanError as invalid:
        _faults(file, invalid)


def _name(value: dict[str, object]) -> str:
    metadata = value.get("metadata")
    metadata = metadata if isinstance(metadata, dict) else {}
    return f"{metadata.get('namespace') or 'default'}/{metadata.get('name')}"


def _faults(where: str, invalid: InvalidPlanError) -> NoReturn:
    for fault in invalid.faults:
        say(f"{name()} timeline: {where}: {fault}", err=True)
    raise typer.Exit(EXIT_FAILED)


def lines(line: Timeline, width: int) -> Iterator[Text]:
    """The timeline for people: bars, dates, and the parts of the phase where it stands. ``width`` is columns."""
    from rich.text import Text

    from controller.commands.timeline_picture import Clock, Scale

    clock, scale = Clock(line), Scale(line)
    yield Text(_clean(f"{line.launch}, revision {line.revision}", width), "bold")
    state = Text().append(line.state or "not started", "bold")
    yield state.append(_clean(f"  {line.message}", width - len(state))) if line.message else state
    times = "times from the beginning" if line.relative else f"times in {line.zone}"
    if clock.years:
        times += f", {clock.years}"
    if line.zone != "UTC" and any((line.message, *(row.why for row in line.phases))):
        times += " (UTC in reasons)"
    if line.now is not None:
        times += f", now {clock.full(line.now)}"
    yield from _indented(times + ("" if scale.even else "; bars are not to scale"), width, indent=0)
    yield Text()
    yield from _bars(line, scale, clock, width)
    yield Text()
    yield from _dates(line, clock, width)
    for row in line.phases:
        if row.here or (line.now is None and (row.steps or row.checkpoints)):
            yield from _parts(row, clock, width)
    yield from _closed(line, clock, width)
    yield Text()
    legend = "█ was  ░ to come, at the earliest  ─ watched on  · planned  ◆ passed  ◇ to come"
    yield Text(_clean(legend, width), "dim")


def _bars(line: Timeline, scale: Scale, clock: Clock, width: int) -> Iterator[Text]:
    from rich.text import Text

    room = max(20, width - _NAMES - 4)

    def cell(instant: float) -> int:
        return min(room - 1, int(scale.at(instant) * room))

    begins, ends = clock.full(line.begins), clock.full(line.ends)
    gap = room - len(begins) - len(ends)
    yield Text(" " * (_NAMES + 3) + begins + (" " * gap + ends if gap > 0 else ""), "dim")
    now = None if line.now is None else cell(line.now)
    for row in line.phases:
        mark, style = _MARKS[row.tense]
        label = Text().append(f"{'▷' if row.here and mark == ' ' else mark} ", style or "bold")
        label.append(f"{_short(row.name, _NAMES):<{_NAMES}} ", "bold" if row.here else style)
        label.append_text(_bar(row, cell, room, now))
        label.rstrip()
        yield label


def _bar(row: PhaseRow, cell: Callable[[float], int], room: int, now: int | None) -> Text:
    from rich.text import Text

    cells: list[tuple[str, str]] = [(" ", "")] * room
    if now is not None:
        cells[now] = ("│", "red")

    def fill(begin: float, end: float, what: tuple[str, str]) -> None:
        first, last = cell(begin), cell(end)
        for place in range(first, max(first + 1, last)):
            cells[place] = what

    fill(row.planned_start, row.planned_end, ("·", "dim"))
    if row.start is not None:
        passes = row.passes if row.passes is not None else row.ends if row.ends is not None else row.start
        if row.ends is not None and row.ends > passes:
            fill(passes, row.ends, ("─", _CELLS[row.tense][1]))
        fill(row.start, passes, _CELLS[row.tense])
        if row.tense == "now" and now is not None:
            for place in range(max(now, cell(row.start) + 1), max(cell(passes), now)):
                cells[place] = ("░", "cyan")
    if now is not None and cells[now][0] in " ·─":
        cells[now] = ("│", "red")
    if row.gate is not None:
        at = row.gate.planned if row.gate.at is None else row.gate.at
        cells[max(0, min(room - 1, cell(at)))] = _GATES[row.gate.state]
    text = Text()
    for letter, style in cells:
        text.append(letter, style)
    return text


def _dates(line: Timeline, clock: Clock, width: int) -> Iterator[Text]:
    from rich.text import Text

    from controller.commands.timeline_picture import note

    titles = ("PLANNED", "BEGINS", "PASSES")
    columns, wide = _columns(line, clock.full, titles)
    if _NAMES + 3 + sum(size + 1 for size in wide) + _GATE > width:  # of a launch of years the day is enough
        columns, wide = _columns(line, lambda instant: clock.date(instant) or clock.time(instant), titles)
    head = f"  {'PHASE':<{_NAMES}} " + " ".join(f"{title:<{size}}" for title, size in zip(titles, wide, strict=True))
    yield Text(f"{head} GATE", "bold")
    for row, cells in zip(line.phases, columns, strict=True):
        mark, style = _MARKS[row.tense]
        text = Text().append(f"{'▷' if row.here and mark == ' ' else mark} ", style)
        text.append(f"{_short(row.name, _NAMES):<{_NAMES}} ", "bold" if row.here else "")
        for number, (value, size) in enumerate(zip(cells, wide, strict=True)):
            moved = number == 1 and row.late
            text.append(f"{value:<{size}} ", "yellow" if moved else "")
        text.append(_gate(row, width - len(text)), _GATES[row.gate.state][1] if row.gate else "dim")
        yield text
        if said := note(row, line):
            yield from _indented(said, width, "yellow")


def _columns(
    line: Timeline, written: Callable[[float], str], titles: tuple[str, ...]
) -> tuple[list[tuple[str, ...]], list[int]]:
    """The dates of every phase, and how wide each column is."""
    columns: list[tuple[str, ...]] = [
        (
            written(row.planned_start),
            _expected(written, row.start, fact=row.begun),
            _expected(written, row.passes, fact=row.passed),
        )
        for row in line.phases
    ]
    return columns, [max(len(title), *(len(cells[index]) for cells in columns)) for index, title in enumerate(titles)]


def _expected(written: Callable[[float], str], instant: float | None, *, fact: bool) -> str:
    if instant is None:
        return "-"
    return written(instant) if fact else f"~{written(instant)}"


def _gate(row: PhaseRow, room: int) -> str:
    """Where the gate stands, and as much of what it still wants as has room."""
    gate = row.gate
    if gate is None:
        return "-"
    said: list[str] = [gate.state]
    if gate.put_off:
        said.append(f"put off {sum(gate.put_off.values())}x")
    if gate.state != "passed":
        said += [f"{len(gate.missing)} to do"] if gate.missing else []
        said += [gate.approval] if gate.approval else []
    while len(said) > 1 and len(", ".join(said)) > room:
        said.pop()
    return _clean(", ".join(said), room)


def _parts(row: PhaseRow, clock: Clock, width: int) -> Iterator[Text]:
    """Steps, checkpoints and gate of one phase."""
    from rich.text import Text

    from controller.core.schedule import LATE
    from controller.core.units import format_duration, format_weight

    yield Text()
    yield Text(_clean(row.name, width), "bold")
    if row.steps:
        yield from _indented(", ".join(row.targets), width, indent=2)
    for step in row.steps:
        mark, style = _MARKS[step.tense]
        lasts = f" for {format_duration(step.lasts)}" if step.lasts else ""
        at = "" if step.at is None else f"  {_expected(clock.full, step.at, fact=step.tense in ('past', 'now'))}"
        approval = f"  approval of {step.approval}" if step.approval else ""
        yield Text(
            _clean(f"  {mark} step {step.number}: {format_weight(step.weight)}{lasts}{at}{approval}", width), style
        )
    for checkpoint in row.checkpoints:
        mark, style = _DOTS[checkpoint.state]
        at = (
            ""
            if checkpoint.at is None
            else f"  {_expected(clock.full, checkpoint.at, fact=checkpoint.state != 'to come')}"
        )
        counts = ((checkpoint.passed, "passed"), (checkpoint.undecided, "undecided"), (checkpoint.failed, "failed"))
        score = ", ".join(f"{count} {word}" for count, word in counts if count) or checkpoint.state
        holds = "  holds on fail" if checkpoint.holds else ""
        yield Text(_clean(f"  {mark} checkpoint {format_duration(checkpoint.after)}{at}  {score}{holds}", width), style)
    if row.gate is not None:
        mark, style = _GATES[row.gate.state]
        at = "" if row.gate.at is None else f"  {_expected(clock.full, row.gate.at, fact=row.gate.state == 'passed')}"
        late = row.gate.at is not None and abs(row.gate.at - row.gate.planned) > LATE
        planned = f"  planned {clock.full(row.gate.planned)}" if late else ""
        yield Text(_clean(f"  {mark} gate{at}  {_gate(row, width)}{planned}", width), style)
        if row.gate.criteria:
            yield from _indented(", ".join(row.gate.criteria), width)
        if row.gate.missing:
            yield from _indented(f"not done yet: {', '.join(row.gate.missing)}", width)


def _closed(line: Timeline, clock: Clock, width: int) -> Iterator[Text]:
    from rich.text import Text

    ahead = [closed for closed in line.closed if line.now is None or closed.end > line.now]
    if not ahead or line.state in ("RolledBack", "Succeeded"):
        return
    yield Text()
    yield Text("No raises", "bold")
    for closed in ahead[:3]:
        yield from _indented(f"{clock.full(closed.start)} to {clock.full(closed.end)}: {closed.why}", width)
    if len(ahead) > 3:
        yield from _indented(f"and {len(ahead) - 3 + line.more_closed} more stretches", width)


def _indented(text: str, width: int, style: str = "dim", *, indent: int = 4) -> Iterator[Text]:
    import textwrap

    from rich.text import Text

    for part in textwrap.wrap(printable(" ".join(text.split())), max(20, width - indent)):
        yield Text(f"{' ' * indent}{part}", style)


def _short(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


def _clean(text: str, most: int) -> str:
    return _short(printable(text.replace("\n", " ")), max(1, most))

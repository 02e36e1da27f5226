"""``status``: where a launch stands on one screen, or all of them in one table."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from controller.commands.clusters import Context, Desk, Folder, Kubeconfig, Namespace, Where, found, opened
from controller.commands.program import EXIT_CLUSTER, EXIT_FAILED, Format, console, fail, name, printable, say
from controller.errors import AdapterError, NotFoundError

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

    from controller.core.status import CheckpointScore, Status
    from controller.core.world import Launch

HELP = "Show where a launch stands, why, and what is wanted of whom; without LAUNCH, all of them."
EPILOG = (
    "Exit codes: 0 shown; 1 its status is not one that this version can read; 2 what was typed cannot be used; "
    "3 the cluster gave no answer, said no, or has no such launch."
)
WATCH_S = 1.0
_BAR = 20
_SHOWN_ROWS = 16
_SHOWN_DECISIONS = 5
_SHOWN_OVERRIDES = 4
_SHOWN_CHECKPOINTS = 3
_EARLY = {"done": "may be done already"}

_STYLES = {
    "Succeeded": "green",
    "Progressing": "cyan",
    "Judging": "cyan",
    "Scheduled": "blue",
    "Pending": "blue",
    "AwaitingApproval": "magenta",
    "Held": "yellow",
    "RollingBack": "red",
    "RolledBack": "red",
    "Invalid": "red",
    "pass": "green",
    "fail": "red",
    "undecided": "yellow",
    "no data": "magenta",
    "accepted": "green",
    "refused": "red",
    "expired": "yellow",
}


def status(
    launch: Annotated[
        str, typer.Argument(metavar="[LAUNCH]", help="NAME or NAMESPACE/NAME; default: all.", show_default=False)
    ] = "",
    namespace: Namespace = "",
    everywhere: Annotated[bool, typer.Option("-A", "--all-namespaces", help="Launches of all namespaces.")] = False,  # noqa: FBT002 - a flag
    watch: Annotated[bool, typer.Option("-w", "--watch", help="Go on showing what changes; Ctrl-C ends.")] = False,  # noqa: FBT002 - a flag
    output: Annotated[Format, typer.Option("-o", "--output", help="text, json or yaml.")] = Format.TEXT,
    kubeconfig: Kubeconfig = "",
    context: Context = "",
    folder: Folder = "",
) -> None:
    """Show where a launch stands, why, and what is wanted of whom; without LAUNCH, all of them."""
    where = Where(namespace, kubeconfig, context, folder)
    with opened("status", where) as desk, contextlib.suppress(KeyboardInterrupt):
        look = _look(desk, launch, where, everywhere=everywhere)
        if watch:
            _watch(look, where, output, one=bool(launch))
        else:
            launches = look()
            _show(launches, where, output, one=bool(launch))
            if launch and _unreadable(launches[0]):
                raise typer.Exit(EXIT_FAILED)


def _look(desk: Desk, launch: str, where: Where, *, everywhere: bool) -> Callable[[], list[Launch]]:
    """What reads afresh what is shown."""
    if not launch:
        namespace = "" if everywhere else where.namespace or desk.namespace
        return lambda: desk.launches(namespace)
    first = found(desk, launch, where.namespace)
    return lambda: [desk.launch(first.key)]


def _show(launches: list[Launch], where: Where, output: Format, *, one: bool) -> None:
    if output is Format.TEXT:
        if not launches:
            say("no launches found", err=True)
            return
        console().print(screen(launches[0], where, time.time()) if one else table(launches, time.time()))
        return
    typer.echo(_written(launches, output, one=one), nl=output is Format.JSON)


def _written(launches: list[Launch], output: Format, *, one: bool, indent: int | None = 2) -> str:
    from controller.adapters.yaml_places import as_yaml

    value: dict[str, Any] = document(launches[0]) if one else {"launches": [document(launch) for launch in launches]}
    return as_yaml(value) if output is Format.YAML else json.dumps(value, indent=indent, ensure_ascii=False)


def _watch(look: Callable[[], list[Launch]], where: Where, output: Format, *, one: bool) -> None:
    """Shows again what has changed, until a signal or until the launch is gone."""
    if output is Format.TEXT and sys.stdout.isatty():
        from rich.live import Live

        with Live(console=console(), auto_refresh=False) as live:
            for launches, problem in _looks(look):
                shown = screen(launches[0], where, time.time()) if one else table(launches, time.time())
                live.update(_beneath(shown, problem), refresh=True)
        return
    before: object = None
    for launches, problem in _looks(look):
        now = ([(launch.key, launch.resource_version) for launch in launches], problem)
        if now == before:
            continue
        if problem:
            say(f"{name()} status: {problem}", err=True)
        elif output is Format.JSON:
            typer.echo(_written(launches, output, one=one, indent=None))
        else:
            if before is not None:
                say("---" if output is Format.YAML else "")
            _show(launches, where, output, one=one)
        sys.stdout.flush()
        before = now


def _looks(look: Callable[[], list[Launch]]) -> Iterator[tuple[list[Launch], str]]:
    """What is there, again and again; while there is no answer, what there was, and why."""
    launches = look()
    yield launches, ""
    while True:
        time.sleep(WATCH_S)
        try:
            launches = look()
            yield launches, ""
        except NotFoundError as error:
            fail("status", error, EXIT_CLUSTER)
        except AdapterError as error:
            yield launches, str(error)


def document(launch: Launch) -> dict[str, Any]:
    """A launch as it is printed for scripts: its name, what is asked of it, the faults of its plan, and its status."""
    from controller.core.plan import InvalidPlanError
    from controller.core.status import UnreadableStatusError, write_status

    value: dict[str, Any] = {
        "namespace": launch.key.namespace,
        "name": launch.key.name,
        "uid": launch.uid,
        "generation": launch.generation,
        "annotations": dict(launch.annotations),
    }
    if isinstance(launch.plan, InvalidPlanError):
        value["faults"] = [{"path": fault.path, "message": fault.message} for fault in launch.plan.faults]
    else:
        value["revision"] = launch.plan.revision
    if isinstance(launch.status, UnreadableStatusError):
        value["unreadable"] = str(launch.status)
    else:
        value["status"] = write_status(launch.status)
    return value


def table(launches: list[Launch], now: float) -> RenderableType:
    """All launches, one line each."""
    from rich.table import Table
    from rich.text import Text

    from controller.core.units import format_duration

    shown = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("NAMESPACE", "NAME", "STATE", "PHASE", "STEP", "WEIGHT", "NEXT", "REASON", "AGE"):
        shown.add_column(column, no_wrap=column in ("NAME", "STATE", "STEP", "AGE"), overflow="fold")
    for launch in launches:
        stands = _status(launch)
        state = str(stands.state) if stands else "Unknown"
        shown.add_row(
            launch.key.namespace,
            launch.key.name,
            Text(state, _STYLES.get(state, "red")),
            stands.phase if stands else "",
            _step(launch, stands) if stands else "",
            stands.weight if stands else "",
            stands.next if stands else "",
            stands.reason if stands else "its status cannot be read",
            format_duration(max(0.0, round(now - launch.created))) if launch.created else "",
        )
    return shown


def screen(launch: Launch, where: Where, now: float) -> RenderableType:
    """One launch on one screen. ``now`` is epoch seconds."""
    from rich.console import Group
    from rich.text import Text

    stands = _status(launch)
    place = f"{launch.key.name} -n {launch.key.namespace}{where.flags}"
    if stands is None:
        return Group(
            Text(str(launch.key), "bold"), Text(printable(f"its status cannot be read: {launch.status}"), "red")
        )
    parts: list[RenderableType] = [_head(launch, stands, now)]
    for title, part in (
        ("Targets", _targets(stands, now)),
        ("Criteria", _criteria(stands, str(launch.key))),
        ("Wanted", _wanted(launch, stands, place, now)),
        ("Said by people", _overrides(launch, stands, place, now)),
        ("Last decisions", _decisions(stands, now)),
    ):
        if part is not None:
            parts += [Text(), Text(title, "bold"), part]
    return Group(*parts)


def _head(launch: Launch, stands: Status, now: float) -> RenderableType:
    from rich.table import Table
    from rich.text import Text

    from controller.core.plan import InvalidPlanError

    shown = Table.grid(padding=(0, 2))
    shown.add_column(no_wrap=True, style="dim")
    shown.add_column(overflow="fold")
    revision = "" if isinstance(launch.plan, InvalidPlanError) else f"revision {launch.plan.revision}"
    run = f"run {stands.run.number}" if stands.run is not None else ""
    shown.add_row("launch", Text(", ".join(filter(None, (str(launch.key), revision, run))), "bold"))
    state = Text(str(stands.state), _STYLES.get(str(stands.state), ""))
    if stands.reason and stands.reason != stands.state:
        state.append(f" ({stands.reason})", "dim")
    shown.add_row("state", state)
    if stands.message:
        shown.add_row("why", stands.message)
    if stands.phase:
        started = f", since {_ago(stands.phase_started_at, now)}" if stands.phase_started_at is not None else ""
        shown.add_row("phase", f"{_place_of_phase(launch, stands.phase)}{started}")
        if step := _step(launch, stands):
            shown.add_row("step", step)
    if stands.weight:
        shown.add_row("weight", stands.weight)
    if stands.next:
        shown.add_row("next", stands.next)
    if stands.window:
        shown.add_row("window", stands.window)
    for title, words in _calendar(launch, stands, now):
        shown.add_row(title, words)
    if stands.hold is not None:
        shown.add_row("held", f"{stands.hold.message}, since {_ago(stands.hold.since, now)}")
    if isinstance(launch.plan, InvalidPlanError):
        for fault in launch.plan.faults[:5]:
            shown.add_row("fault", Text(printable(str(fault)), "red"))
        if len(launch.plan.faults) > 5:
            shown.add_row("", f"and {len(launch.plan.faults) - 5} more faults")
    if launch.deleting:
        shown.add_row("deleted", "it is being deleted")
    return shown


def _calendar(launch: Launch, stands: Status, now: float) -> Iterator[tuple[str, str]]:
    """When the running phase's gate is judged or the coming phase begins, what was moved, and the last checkpoints."""
    from controller.core.plan import InvalidPlanError
    from controller.core.questions import coming_phase
    from controller.core.schedule import gate_due, move_of, start_of
    from controller.core.status import State

    taken = [score for score in stands.checkpoints if score.phase == stands.phase][-_SHOWN_CHECKPOINTS:]
    if taken:
        yield "checkpoints", "; ".join(f"{score.after}: {_score(score)}" for score in taken)
    if isinstance(launch.plan, InvalidPlanError) or stands.state in (State.SUCCEEDED, State.ROLLED_BACK):
        return
    index = launch.plan.phase_index(stands.phase)
    phase = launch.plan.phases[index] if index >= 0 else None
    coming = coming_phase(launch.plan, stands, phase)
    if phase is not None and phase.gate is not None and coming is None:
        due = gate_due(phase, stands)
        used = ", ".join(f"{which} {_times(times)}" for which, times in stands.gate.used.items()) if stands.gate else ""
        anytime = "when the last step's time is over" if phase.steps else "as soon as all that it asks for is there"
        when = anytime if due is None else _ago(due, now)
        yield "gate", f"judged {when}" + (f", put off: {used}" if used else "")
    if coming is not None:
        start = start_of(coming, stands)
        when = "" if start is None else f", begins {_ago(start, now)}"
        yield "waits for", f"phase {_place_of_phase(launch, coming.name)}{when}"
    for each in (coming,) if coming is not None else launch.plan.phases[index + 1 :]:
        move = move_of(stands, each.name)
        if move is not None and move.why and start_of(each, stands) is not None:
            yield "moved", move.why if each.name in move.why else f"{each.name} was {move.why}"
            return


def _score(score: CheckpointScore) -> str:
    numbers = ((score.passed, "passed"), (score.undecided, "undecided"), (score.failed, "failed"))
    return ", ".join(f"{count} {word}" for count, word in numbers if count) or "nothing was judged"


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def _targets(stands: Status, now: float) -> RenderableType | None:
    from rich.text import Text

    from controller.core.units import FULL_WEIGHT, format_weight

    if not stands.targets:
        return None
    shown = _grid()
    told = sorted(stands.targets, key=lambda target: not target.withdrawn)
    for target in told[:_SHOWN_ROWS]:
        filled = round(target.weight * _BAR / FULL_WEIGHT) or (1 if target.weight else 0)
        bar = Text("█" * filled, "cyan").append("░" * (_BAR - filled), "dim")
        if target.in_force_at is not None:
            since = f"in force since {_ago(target.in_force_at, now)}"
        else:
            since = "not in force yet" if target.weight else ""
        more = f"taken out of this run: {target.withdrawn}" if target.withdrawn else since
        shown.add_row(target.name, format_weight(target.weight), bar, more)
    if len(told) > _SHOWN_ROWS:
        shown.add_row("", "", f"and {len(told) - _SHOWN_ROWS} more", "")
    return shown


def _criteria(stands: Status, launch: str) -> RenderableType | None:
    from rich.text import Text

    from controller.core.explain import added_guardrails

    if not stands.criteria:
        return None
    shown = _grid("verdict", "target", "criterion", "value", "limit", "")
    # what does not pass comes first, and what passes is cut where it would fill the screen
    told = sorted(stands.criteria, key=lambda one: one.verdict == "pass")
    added = added_guardrails(stands, launch)
    for one in told[:_SHOWN_ROWS]:
        verdict = Text(one.verdict, _STYLES.get(one.verdict, ""))
        # the sentence begins with what the columns say already
        sentence = one.sentence.removeprefix(f"{one.criterion} ({one.target}): ")
        criterion = f"{one.criterion} (operator's)" if one.criterion in added else one.criterion
        shown.add_row(verdict, one.target or "launch", criterion, one.value, one.limit, Text(sentence, "dim"))
    if rest := Counter(one.verdict for one in told[_SHOWN_ROWS:]):
        more = ", ".join(f"{count} {verdict}" for verdict, count in rest.items())
        shown.add_row("", "", f"and {more}", "", "", "")
    return shown


def _wanted(launch: Launch, stands: Status, place: str, now: float) -> RenderableType | None:
    from rich.console import Group
    from rich.text import Text

    from controller.core.explain import explain, moment

    explained = explain(launch.plan, stands, now, launch=str(launch.key), annotations=launch.annotations)
    parts: list[RenderableType] = []
    for wait in explained.waits:
        if wait.say is None:
            continue
        words = [wait.what, wait.who, "" if wait.until is None else f"for {moment(wait.until, now)}"]
        early = "" if wait.asked else f" ({_EARLY.get(wait.say.verb, 'not asked for yet')})"
        parts.append(Text(printable(", ".join(filter(None, words)) + early), "magenta" if wait.asked else "dim"))
        # on a line of its own, so that it can be copied
        parts.append(Text(f"  {wait.say.words(name(), place)}", overflow="fold"))
    return Group(*parts) if parts else None


def _overrides(launch: Launch, stands: Status, place: str, now: float) -> RenderableType | None:
    from rich.text import Text

    if not stands.overrides and "hold" not in launch.annotations:
        return None
    shown = _grid()
    latest = sorted(stands.overrides, key=lambda record: (record.present, record.at), reverse=True)
    for record in latest[:_SHOWN_OVERRIDES]:
        said = f"{record.verb}{f' by {record.by}' if record.by else ''}"
        outcome = Text(record.outcome, _STYLES.get(record.outcome, ""))
        more = "" if record.present else "taken away"
        if record.verb == "hold" and record.present:
            more = f"go on with: {name()} resume {place}"
        shown.add_row(_ago(record.at, now), said, outcome, "; ".join(filter(None, (record.message, more))))
    if "hold" in launch.annotations and not any(record.verb == "hold" and record.present for record in latest):
        shown.add_row("", "hold", "not heard yet", "no controller has looked since it was written")
    return shown


def _decisions(stands: Status, now: float) -> RenderableType | None:
    if not stands.decisions:
        return None
    shown = _grid("at", "id", "signal", "step", "")
    for one in sorted(stands.decisions, key=lambda record: record.at, reverse=True)[:_SHOWN_DECISIONS]:
        where = f"{one.phase}/{one.step}" if one.step else one.phase
        shown.add_row(_ago(one.at, now), one.id, one.signal, where, one.message)
    return shown


def _grid(*columns: str) -> Table:
    from rich.table import Table

    shown = Table(box=None, pad_edge=False, show_header=any(columns), header_style="dim", padding=(0, 2, 0, 0))
    for column in columns or ("", "", "", ""):
        # what people read wraps; names and numbers stay whole
        shown.add_column(column, overflow="fold", no_wrap=column in ("verdict", "value", "limit"))
    return shown


def _status(launch: Launch) -> Status | None:
    """Its status, without what a terminal would obey: reasons may come from anybody. None: it cannot be read."""
    from controller.core.status import UnreadableStatusError, read_status, write_status

    if isinstance(launch.status, UnreadableStatusError):
        return None
    return read_status(_clean(write_status(launch.status)))


def _clean(value: Any) -> Any:
    if isinstance(value, str):
        return value if value.isprintable() else printable(value)
    if isinstance(value, dict):
        return {key: _clean(inner) for key, inner in value.items()}
    return [_clean(inner) for inner in value] if isinstance(value, list) else value


def _unreadable(launch: Launch) -> bool:
    return _status(launch) is None


def _place_of_phase(launch: Launch, phase: str) -> str:
    from controller.core.plan import InvalidPlanError

    if isinstance(launch.plan, InvalidPlanError) or launch.plan.phase_index(phase) < 0:
        return phase
    return f"{phase} ({launch.plan.phase_index(phase) + 1} of {len(launch.plan.phases)})"


def _step(launch: Launch, stands: Status) -> str:
    from controller.core.plan import InvalidPlanError

    if not stands.step:
        return ""
    if isinstance(launch.plan, InvalidPlanError) or launch.plan.phase_index(stands.phase) < 0:
        return str(stands.step)
    steps = launch.plan.phases[launch.plan.phase_index(stands.phase)].steps
    return f"{stands.step} of {len(steps)}" if steps else str(stands.step)


def _ago(instant: float, now: float) -> str:
    """``2025-11-01 14:00:05Z (3m ago)``."""
    from controller.core.units import format_duration, format_instant

    moment = format_instant(instant).replace("T", " ").partition(".")[0] + "Z"
    apart = round(now - instant)
    if not apart:
        return f"{moment} (now)"
    return f"{moment} ({format_duration(apart)} ago)" if apart > 0 else f"{moment} (in {format_duration(-apart)})"


def _beneath(shown: RenderableType, problem: str) -> RenderableType:
    from rich.console import Group
    from rich.text import Text

    return Group(shown, Text(problem, "red")) if problem else shown

"""``explain``: where a launch is, why, what would change that, and what comes next; or what one decision was."""

from __future__ import annotations

import json
import textwrap
import time
from collections.abc import Iterator
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from controller.commands import records
from controller.commands.clusters import Context, Folder, Kubeconfig, Namespace, Where, found, opened
from controller.commands.program import EXIT_FAILED, EXIT_USAGE, console, fail, name, printable

if TYPE_CHECKING:
    from rich.text import Text

    from controller.core.explain import Explanation, Say
    from controller.core.world import Launch

EPILOG = (
    "Exit codes: 0 told; 1 its status cannot be read, or there is no such decision; 2 what was typed or named cannot be "
    "used; 3 the cluster gave no answer, said no, or has no such launch."
)
NARROWEST = 40
_WHO = {
    "people": "people",
    "window": "calendar",
    "time": "time",
    "evidence": "evidence",
    "cluster": "cluster",
    "plan": "plan",
}
_NOT_YET = {"approve": " (not asked for yet)", "done": " (may be done already)"}
_VERDICTS = {"pass": "green", "fail": "red", "undecided": "yellow", "no data": "magenta"}


class Output(StrEnum):
    """How it is told; as a picture only the evidence."""

    TEXT = "text"
    JSON = "json"
    YAML = "yaml"
    SVG = "svg"


def explain(
    launch: Annotated[
        str, typer.Argument(metavar="[LAUNCH]", help="NAME or NAMESPACE/NAME of the launch.", show_default=False)
    ] = "",
    decision: Annotated[
        str,
        typer.Option(
            "--decision", help="Tell this decision instead: its id, as status and log show it.", show_default=False
        ),
    ] = "",
    log: Annotated[
        str,
        typer.Option("--decision-log", help="Look for it there instead of in the launch's status.", show_default=False),
    ] = "",
    *,
    evidence: Annotated[
        bool,
        typer.Option(
            "--evidence",
            help="Show how far the proof of each criterion has come; with --decision-log its course.",
        ),
    ] = False,
    output: Annotated[
        Output, typer.Option("-o", "--output", help="text, json or yaml; with --evidence also svg.")
    ] = Output.TEXT,
    namespace: Namespace = "",
    kubeconfig: Kubeconfig = "",
    context: Context = "",
    folder: Folder = "",
) -> None:
    """Tell where a launch is, why it is there, what would change that, and what comes next; or what a decision was."""
    if evidence:
        if decision:
            fail("explain", "--evidence: belongs to a launch, not to a decision; leave out one of the two", EXIT_USAGE)
        _show_evidence(launch, log, output, namespace, Where(namespace, kubeconfig, context, folder))
        return
    if output is Output.SVG:
        fail("explain", "-o svg: belongs to --evidence; add that, or see timeline -o svg", EXIT_USAGE)
    if decision or log:
        if output is not Output.TEXT:
            fail("explain", "--output: a decision is told as text; --decision-log itself holds JSON lines", EXIT_USAGE)
        records.explain(launch, decision, log, namespace, kubeconfig, context, folder)
        return
    if not launch:
        fail("explain", "LAUNCH: is missing; name the launch", EXIT_USAGE)
    where = Where(namespace, kubeconfig, context, folder)
    with opened("explain", where) as desk:
        read = found(desk, launch, namespace)
    explanation = _explained(read, time.time())
    place = f"{read.key.name} -n {read.key.namespace}{where.flags}"
    if output is Output.TEXT:
        shown = console()
        for line in lines(explanation, place, max(NARROWEST, shown.width)):
            shown.print(line, soft_wrap=True)
        return
    from controller.adapters.yaml_places import as_yaml

    value = document(explanation, place)
    typer.echo(
        as_yaml(value) if output is Output.YAML else json.dumps(value, indent=2, ensure_ascii=False),
        nl=output is Output.JSON,
    )


def _show_evidence(launch: str, log: str, output: Output, namespace: str, where: Where) -> None:
    """How far the proof of each criterion has come."""
    from controller.commands import evidence as shown
    from controller.core.status import UnreadableStatusError
    from controller.core.units import format_instant

    picture = None
    if not launch and not log:
        fail("explain", "LAUNCH: is missing; name the launch, or the file with --decision-log", EXIT_USAGE)
    try:
        if log:
            picture, bars = shown.picture_of_ledger(log, launch)
            title, subtitle = picture.title, f"as of {format_instant(picture.end)[:19]}Z; {picture.subtitle}"
        else:
            with opened("explain", where) as desk:
                read = found(desk, launch, namespace)
            if isinstance(read.status, UnreadableStatusError):
                fail("explain", f"launch {read.key}: its status cannot be read: {read.status}", EXIT_FAILED)
            status = read.status
            bars = shown.bars_of_status(status, read.key.namespace, read.key.name)
            title = f"{read.key}: {status.state.value}"
            newest = max((item.as_of for item in status.criteria if item.as_of is not None), default=None)
            as_of = "" if newest is None else f"; evidence up to {format_instant(newest)[:19]}Z"
            subtitle = f"phase {status.phase}, step {status.step}, {status.weight}{as_of}"
    except shown.NoEvidenceError as error:
        fail("explain", f"--evidence: {error}", EXIT_FAILED)
    except OSError as error:
        fail("explain", f"{log}: {error.strerror or error}; name a file that --decision-log wrote", EXIT_USAGE)
    if output is Output.SVG:
        drawn = shown.as_svg(title, subtitle, bars) if picture is None else shown.course_as_svg(picture)
        typer.echo(drawn, nl=False)
    elif output is Output.JSON:
        typer.echo(shown.as_json(title, bars))
    elif output is Output.YAML:
        from controller.adapters.yaml_places import as_yaml

        typer.echo(as_yaml(shown.as_data(title, bars)), nl=False)
    else:
        told = console()
        for line in shown.lines(title, subtitle, bars, max(NARROWEST, told.width)):
            told.print(line, soft_wrap=True)


def _explained(launch: Launch, now: float) -> Explanation:
    from controller.core.explain import explain as explained
    from controller.core.status import UnreadableStatusError

    if isinstance(launch.status, UnreadableStatusError):
        fail("explain", f"launch {launch.key}: its status cannot be read: {launch.status}", EXIT_FAILED)
    return explained(launch.plan, launch.status, now, launch=str(launch.key), annotations=launch.annotations)


def document(explanation: Explanation, place: str) -> dict[str, Any]:
    """The explanation for scripts; what people can say is there as the command and as the annotation."""
    from controller.core.timeline import document as written

    value: dict[str, Any] = written(explanation)
    said = [*(wait.say for wait in explanation.waits), *(change.say for change in explanation.changes)]
    for say, part in zip(said, [*value["waits"], *value["changes"]], strict=True):
        if say is not None:
            part["say"] |= {"annotation": say.annotation, "command": say.words(name(), place)}
    return value


def lines(explanation: Explanation, place: str, width: int) -> Iterator[Text]:
    """The explanation for people, ``width`` columns wide; a command stays on one line, so that it can be copied."""
    from rich.text import Text

    from controller.core.units import format_weight

    now = explanation.now
    revision = f", revision {explanation.revision}" if explanation.revision else ""
    yield Text(_clean(f"{explanation.launch}{revision}"), "bold")
    yield from _wrapped("where", explanation.where, width)
    reason = f" ({explanation.reason})" if explanation.reason else ""
    yield from _wrapped("why", f"{explanation.why}{reason}", width)
    if explanation.since is not None:
        yield from _wrapped("since", _when(explanation.since, now), width)
    without = [share.target for share in explanation.targets if not (share.weight or share.since or share.withdrawn)]
    for share in explanation.targets:
        if share.target in without:
            continue
        since = f", in force since {_when(share.since, now)}" if share.since is not None else ""
        gone = f", taken out of this run: {share.withdrawn}" if share.withdrawn else ""
        yield from _wrapped("target", f"{share.target} {format_weight(share.weight)}{since}{gone}", width)
    if without:
        yield from _wrapped("target" if len(without) == 1 else "targets", f"{', '.join(without)} 0%", width)
    if explanation.criteria:
        yield from _title("What the evidence says")
        for finding in explanation.criteria:
            said = finding.sentence or f"{finding.criterion} ({finding.target}): {finding.value}, limit {finding.limit}"
            whose = " (a default of the operator)" if finding.added else ""
            yield from _wrapped(finding.verdict, said + whose, width, _VERDICTS.get(finding.verdict, ""))
    if explanation.waits:
        yield from _title("What it waits for")
    for wait in explanation.waits:
        who = f", of {wait.who}" if wait.who else ""
        until = "" if wait.until is None else f"{', by' if wait.kind == 'people' else ':'} {_when(wait.until, now)}"
        later = "" if wait.asked else _NOT_YET.get(wait.say.verb if wait.say else "", " (not yet in the way)")
        yield from _wrapped(_WHO[wait.kind], f"{wait.what}{who}{until}{later}", width)
        # an approval is refused before it is asked for; what is to be ticked off is not
        if wait.say is not None and (wait.asked or wait.say.verb == "done"):
            yield _command(wait.say, place)
    yield from _title("What would change that")
    for change in explanation.changes:
        yield from _wrapped("-", f"{change.when} → {change.then}", width)
        if change.say is not None:
            yield _command(change.say, place)
    yield from _title("What comes next, if all stays as it is")
    for coming in explanation.comes:
        earliest = " at the earliest" if coming.earliest else ""
        at = "" if coming.at is None else f"{_when(coming.at, now)}{earliest}: "
        yield from _wrapped("-", f"{at}{coming.what}", width)
    if explanation.moves:
        yield from _title("What moved, and why")
    for moved in explanation.moves:
        yield from _wrapped("-", _moved(moved.planned, moved.start, moved.phase, moved.why), width, "yellow")


def _moved(planned: float | None, start: float | None, phase: str, why: str) -> str:
    from controller.core.units import format_date

    if phase in why and "moved from" in why:
        return why
    dates = ""
    if planned is not None and start is not None:
        dates = f" from {format_date(planned)} to {format_date(start)} UTC"
    return f"{phase}{dates}: {why}"


def _when(instant: float, now: float) -> str:
    from controller.core.explain import moment

    return moment(instant, now)


def _title(text: str) -> Iterator[Text]:
    from rich.text import Text

    yield Text()
    yield Text(text, "bold")


def _wrapped(label: str, text: str, width: int, style: str = "") -> Iterator[Text]:
    from rich.text import Text

    head = f"  {label:<9} " if label != "-" else "  - "
    broken = textwrap.wrap(_clean(text), max(20, width - len(head)), break_long_words=False, break_on_hyphens=False)
    for number, line in enumerate(broken or [""]):
        yield Text().append(head if number == 0 else " " * len(head), style or "dim").append(line)


def _command(say: Say, place: str) -> Text:
    from rich.text import Text

    return Text(f"      {_clean(say.words(name(), place))}", "cyan")


def _clean(text: str) -> str:
    return printable(" ".join(text.split()))

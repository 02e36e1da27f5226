"""What people say to a launch, as verbs: each writes one annotation, and tells what became of it."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from controller.commands.clusters import Context, Desk, Folder, Kubeconfig, Name, Namespace, Where, found, opened
from controller.commands.program import EXIT_FAILED, EXIT_OK, EXIT_UNHEARD, EXIT_USAGE, fail, name, say, until_of
from controller.errors import ConflictError

if TYPE_CHECKING:
    from controller.core.spec import LaunchSpec
    from controller.core.status import OverrideRecord, Status
    from controller.core.world import Launch

EPILOG = (
    "Exit codes: 0 accepted (or written, with --wait 0s); 1 refused or lapsed; 2 what was typed cannot be used, and "
    "nothing was written; 3 the cluster gave no answer, said no, or has no such launch; 4 written, but no controller "
    "has answered within --wait."
)
LONGEST_WAIT_S = 60.0
_LOOK_S = 0.2
_TRIES = 5

Reason = Annotated[str, typer.Option("--reason", help="Why; it stands in the record.", show_default=False)]
By = Annotated[
    str, typer.Option("--by", help="Who says so; default: whom the cluster takes you for.", show_default=False)
]
Until = Annotated[
    str,
    typer.Option("--until", help="When it lapses: an instant, or a duration from now such as 2h.", show_default=False),
]
Wait = Annotated[str, typer.Option("--wait", help="How long to wait for the controller's answer; 0s: not at all.")]

EFFECTS = {
    "hold": "no traffic is raised while it is there; what lowers traffic is not held up",
    "resume": "traffic may be raised again, as far as the evidence allows",
    "again": "a new revision starts a new run",
    "rollback": "the canary goes to 0 % everywhere, and stays there: it is final for this run",
    "retry": "what was held for good is judged again; an edited phase is accepted; a rolled-back run begins anew",
    "approve": "what waits for this approval goes on, on the evidence as it stands",
    "done": "these items count as ticked off",
    "advance": "that wait or gate is passed by hand, once",
    "reschedule": "the phase begins then and not before, and those after it move along",
    "ack": "nobody else is told of what is firing now; those who were told go on seeing it until it is over",
}


@dataclass(frozen=True, slots=True)
class Said:
    """What a person typed, besides the verb and its object."""

    launch: str
    where: Where
    reason: str = ""
    by: str = ""
    until: str = ""
    wait: str = "5s"


def hold(
    launch: Name,
    reason: Reason = "",
    until: Until = "",
    by: By = "",
    namespace: Namespace = "",
    kubeconfig: Kubeconfig = "",
    context: Context = "",
    folder: Folder = "",
    wait: Wait = "5s",
) -> None:
    """Let no traffic be raised until `resume`."""
    speak("hold", Said(launch, Where(namespace, kubeconfig, context, folder), reason, by, until, wait))


def resume(
    launch: Name,
    namespace: Namespace = "",
    kubeconfig: Kubeconfig = "",
    context: Context = "",
    folder: Folder = "",
    wait: Wait = "5s",
) -> None:
    """Take a `hold` away, and a `rollback` that was carried out."""
    take_away(Said(launch, Where(namespace, kubeconfig, context, folder), wait=wait))


def rollback(
    launch: Name,
    reason: Reason = "",
    by: By = "",
    namespace: Namespace = "",
    kubeconfig: Kubeconfig = "",
    context: Context = "",
    folder: Folder = "",
    wait: Wait = "5s",
) -> None:
    """Take the canary to 0 % everywhere, at once; final for this run."""
    speak("rollback", Said(launch, Where(namespace, kubeconfig, context, folder), reason, by, "", wait))


def retry(
    launch: Name,
    reason: Reason = "",
    by: By = "",
    namespace: Namespace = "",
    kubeconfig: Kubeconfig = "",
    context: Context = "",
    folder: Folder = "",
    wait: Wait = "5s",
) -> None:
    """Judge a held launch again; accept an edited phase; begin a rolled-back run anew."""
    speak("retry", Said(launch, Where(namespace, kubeconfig, context, folder), reason, by, "", wait))


def approve(
    launch: Name,
    what: Annotated[
        str, typer.Argument(metavar="WHAT", help="PHASE/preflight, PHASE/gate or PHASE/STEP.", show_default=False)
    ],
    reason: Reason = "",
    until: Until = "",
    by: By = "",
    namespace: Namespace = "",
    kubeconfig: Kubeconfig = "",
    context: Context = "",
    folder: Folder = "",
    wait: Wait = "5s",
) -> None:
    """Give an approval that the plan asks for, on the evidence as it stands."""
    from controller.commands import meant

    said = Said(launch, Where(namespace, kubeconfig, context, folder), reason, by, until, wait)
    speak("approve", said, what, lambda spec: meant.approval(spec, what))


def done(
    launch: Name,
    items: Annotated[
        list[str],
        typer.Argument(metavar="ITEM...", help="PHASE/ITEM of checklists and deliverables.", show_default=False),
    ],
    reason: Reason = "",
    by: By = "",
    namespace: Namespace = "",
    kubeconfig: Kubeconfig = "",
    context: Context = "",
    folder: Folder = "",
    wait: Wait = "5s",
) -> None:
    """Tick off items of a checklist, or deliverables."""
    from controller.commands import meant

    said = Said(launch, Where(namespace, kubeconfig, context, folder), reason, by, "", wait)
    speak("done", said, ", ".join(items), lambda spec: meant.ticked(spec, items))


def advance(
    launch: Name,
    what: Annotated[
        str,
        typer.Argument(
            metavar="WHAT",
            help="PHASE whose wait or gate is passed, PHASE/STEP that may be left, or PHASE/last.",
            show_default=False,
        ),
    ],
    reason: Reason = "",
    until: Until = "",
    by: By = "",
    namespace: Namespace = "",
    kubeconfig: Kubeconfig = "",
    context: Context = "",
    folder: Folder = "",
    wait: Wait = "5s",
) -> None:
    """Pass a wait or a gate by hand, once."""
    from controller.commands import meant

    said = Said(launch, Where(namespace, kubeconfig, context, folder), reason, by, until, wait)
    speak("advance", said, what, lambda spec: meant.passage(spec, what))


def reschedule(
    launch: Name,
    what: Annotated[
        str,
        typer.Argument(metavar="PHASE=INSTANT", help="Such as rollout=2025-11-03T16:00:00Z.", show_default=False),
    ],
    reason: Reason = "",
    by: By = "",
    namespace: Namespace = "",
    kubeconfig: Kubeconfig = "",
    context: Context = "",
    folder: Folder = "",
    wait: Wait = "5s",
) -> None:
    """Move a phase that has not begun, and those after it."""
    from controller.commands import meant

    said = Said(launch, Where(namespace, kubeconfig, context, folder), reason, by, "", wait)
    speak("reschedule", said, what, lambda spec: meant.moved(spec, what, time.time()))


def ack(
    launch: Name,
    reason: Reason = "",
    by: By = "",
    namespace: Namespace = "",
    kubeconfig: Kubeconfig = "",
    context: Context = "",
    folder: Folder = "",
    wait: Wait = "5s",
) -> None:
    """Say that you have heard what is firing, so that nobody else is told of it."""
    speak("ack", Said(launch, Where(namespace, kubeconfig, context, folder), reason, by, "", wait))


def speak(verb: str, said: Said, what: str = "", meaning: Callable[[LaunchSpec], str] | None = None) -> None:
    """Write the annotation of a verb and tell what became of it; ``meaning`` checks ``what`` against the plan."""
    from controller.core.overrides import read_override

    wait, until = _wait(verb, said.wait), until_of(verb, said.until)
    with opened(verb, said.where) as desk:
        launch = found(desk, said.launch, said.where.namespace)
        value, note = _with_unheard(verb, launch, _checked(verb, launch, what, meaning))
        text = annotation(verb, value=value, reason=said.reason, by=said.by or desk.user(), until=until)
        changes: dict[str, str | None] = {verb: text}
        freed = verb == "retry" and "rollback" in launch.annotations
        if freed:
            changes["rollback"] = None  # a run that is asked to roll back cannot begin anew
        _annotate(desk, launch, changes)
        say(f"launch {launch.key}: {' '.join(filter(None, (verb, value)))}: written")
        if note:
            say(f"  {note}")
        if freed:
            say("  the rollback that was asked for before is taken away")
        digest = read_override(verb, text).digest
        record = _heard(desk, launch, lambda one: (one.verb, one.value) == (verb, digest), wait)
        if verb == "rollback" and record is not None and record.outcome == "refused":
            _annotate(desk, launch, {verb: None})  # it would be heard again, and carried out, in the next run
        _tell(verb, said, launch if record is None else desk.launch(launch.key), record, wait)


def _with_unheard(verb: str, launch: Launch, value: str) -> tuple[str, str]:
    """The value, and what is to be said of an annotation of the same verb that no controller has heard yet.

    There is one annotation per verb: what was ticked off a moment ago is ticked off again, or it would be lost.
    """
    from controller.core.overrides import read_override

    if verb not in launch.annotations:
        return value, ""
    before = read_override(verb, launch.annotations[verb])
    heard = any(
        (record.verb, record.value, record.present) == (verb, before.digest, True) for record in _records(launch)
    )
    if heard or before.fault or not before.value or before.value == value:
        return value, ""
    if verb == "done":
        return f"{before.value}, {value}", f"no controller has heard {before.value} yet, so that is said again with it"
    return value, f"it replaces {verb} {before.value}, which no controller has heard"


def take_away(said: Said) -> None:
    """Remove the annotation of a hold, and of a rollback that was carried out, and tell what became of it."""
    wait = _wait("resume", said.wait)
    with opened("resume", said.where) as desk:
        launch = found(desk, said.launch, said.where.namespace)
        gone = [verb for verb in ("hold", "rollback") if verb in launch.annotations and _may_go(verb, launch)]
        if not gone:
            say(f"launch {launch.key}: nobody has asked it to hold; nothing was written")
            _after_resume(said, launch)
            return
        stored = _annotate(desk, launch, dict.fromkeys(gone))
        say(f"launch {launch.key}: resume: the {' and the '.join(gone)} is taken away")
        known = {record.value: record.verb for record in _records(launch) if record.verb in gone and record.present}
        if not known:  # it was never heard, so its end will not be either
            _see(said)
            return
        digest, verb = known.popitem()
        record = _heard(desk, stored, lambda one: (one.verb, one.value, one.present) == (verb, digest, False), wait)
        if record is None:
            _tell("resume", said, launch, None, wait)
            return
        say(f"  heard: {EFFECTS['resume'] if 'hold' in gone else EFFECTS['again']}")
        _after_resume(said, desk.launch(launch.key))


def _may_go(verb: str, launch: Launch) -> bool:
    """A rollback stays while it may still have to be carried out."""
    from controller.core.status import State

    status = _status(launch)
    return verb == "hold" or (status is not None and (status.run is None or status.state is State.ROLLED_BACK))


def _after_resume(said: Said, launch: Launch) -> None:
    say(_standing(launch))
    status = _status(launch)
    if status is not None and status.hold is not None:
        say(f"  what holds it lasts until: {name()} retry {_place(said)}")
    _see(said)


def _annotate(desk: Desk, launch: Launch, changes: Mapping[str, str | None]) -> Launch:
    """Written again where somebody else wrote in between: of what people say, nothing depends on what they wrote."""
    for _ in range(_TRIES - 1):
        try:
            return desk.annotate(launch.key, changes)
        except ConflictError:
            time.sleep(_LOOK_S)
    return desk.annotate(launch.key, changes)


def annotation(verb: str, *, value: str, reason: str, by: str, until: float | None, ident: str = "") -> str:
    """The text of an annotation, with an id of its own, so that the same words can be said again.

    Ends the command where it is longer than the controller reads, or no text.
    """
    from controller.core.overrides import LONGEST_VALUE
    from controller.core.units import format_instant

    fields = {
        "value": value,
        "reason": reason.strip(),
        "by": by,
        "until": "" if until is None else format_instant(until),
        "id": ident or secrets.token_hex(4),
    }
    text = json.dumps({name: words for name, words in fields.items() if words}, ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError:
        fail(verb, "--reason or --by: it is not UTF-8; write plain text", EXIT_USAGE)
    if len(text) > LONGEST_VALUE:
        fail(
            verb,
            f"--reason: in all it is {len(text):,} characters long; write {LONGEST_VALUE:,} at most",
            EXIT_USAGE,
        )
    return text


def _checked(verb: str, launch: Launch, what: str, meaning: Callable[[LaunchSpec], str] | None) -> str:
    from controller.core.plan import InvalidPlanError

    if meaning is None:
        return ""
    if isinstance(launch.plan, InvalidPlanError):
        # the run goes on by what it stands on; the controller, which knows that, says whether it fits
        say(f"launch {launch.key}: its plan has faults, so {what} could not be checked", err=True)
        return what
    try:
        return meaning(launch.plan.spec)
    except ValueError as error:
        fail(verb, f"launch {launch.key}: {error}", EXIT_USAGE)


def _wait(verb: str, text: str) -> float:
    from controller.core.units import parse_duration

    if text in ("0", "0s"):
        return 0.0
    try:
        seconds = parse_duration(text)
    except ValueError as error:
        fail(verb, f"--wait: {error}", EXIT_USAGE)
    if seconds > LONGEST_WAIT_S:
        fail(verb, f"--wait: {text} is out of range; write {LONGEST_WAIT_S:g}s at most", EXIT_USAGE)
    return seconds


def _heard(
    desk: Desk, launch: Launch, meant: Callable[[OverrideRecord], bool], seconds: float
) -> OverrideRecord | None:
    """The record of what was written, as soon as a controller has made it; None when there is none in time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        for record in reversed(_records(desk.launch(launch.key))):
            if meant(record):
                return record
        time.sleep(min(_LOOK_S, max(0.0, deadline - time.monotonic())))
    return None


def _records(launch: Launch) -> tuple[OverrideRecord, ...]:
    status = _status(launch)
    return status.overrides if status is not None else ()


def _status(launch: Launch) -> Status | None:
    from controller.core.status import UnreadableStatusError

    return None if isinstance(launch.status, UnreadableStatusError) else launch.status


def _tell(verb: str, said: Said, launch: Launch, record: OverrideRecord | None, wait: float) -> None:
    if record is None:
        say(f"  {EFFECTS[verb]}, when a controller has heard it")
        _see(said)
        if wait:
            say(
                f"{name()} {verb}: launch {launch.key}: no controller has answered within {wait:g} s; it stays written",
                err=True,
            )
            raise typer.Exit(EXIT_UNHEARD)
        raise typer.Exit(EXIT_OK)
    if record.outcome == "accepted":
        say(f"  accepted: {EFFECTS[verb]}")
        say(_standing(launch))
        if verb == "hold":
            say(f"  go on with: {name()} resume {_place(said)}")
        if verb == "rollback":
            say(f"  before a new revision, or it is rolled back too: {name()} resume {_place(said)}")
        _see(said)
        return
    word = "it lapsed" if record.outcome == "expired" else "refused"
    say(f"{name()} {verb}: launch {launch.key}: {word}: {record.message}", err=True)
    raise typer.Exit(EXIT_FAILED)


def _standing(launch: Launch) -> str:
    status = _status(launch)
    if status is None:
        return f"  its status cannot be read: {launch.status}"
    return f"  it is {status.state}" + (f": {status.message}" if status.message else "")


def _see(said: Said) -> None:
    say(f"  see it with: {name()} status {_place(said)}")


def _place(said: Said) -> str:
    inside = f" -n {said.where.namespace}" if said.where.namespace else ""
    return f"{said.launch}{inside}{said.where.flags}"

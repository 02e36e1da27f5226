"""``redecide`` and ``explain --decision``: what the ledger holds, decided again or told in words."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, TextIO

from controller.commands.program import EXIT_FAILED, EXIT_OK, EXIT_USAGE
from controller.core.events import checkpoint_sentence
from controller.core.ledger import LONGEST_LINE, Found, Redecided, read_records, redecide
from controller.core.observation import Observation
from controller.core.plan import Plan
from controller.core.status import DecisionRecord, Status
from controller.core.units import format_instant, format_weight
from controller.core.words import sentence

STANDARD_INPUT = "-"
_LONGEST_LINE = 4 * LONGEST_LINE
"""Of a longer line, which is none of the ledger's, the rest is skipped."""
_LISTED = 10
_LONGEST_NUMBER, _MOST_LAUNCHES = 12, 10_000


class UnknownDecisionError(LookupError):
    """No decision of that id is where it was looked for; the message says what is there."""


@contextmanager
def opened_file(path: str) -> Iterator[BinaryIO]:
    """A ledger, read as bytes; ``-`` is standard input."""
    if path == STANDARD_INPUT:
        yield sys.stdin.buffer
        return
    with Path(path).open("rb") as file:
        yield file


def lines_of(file: BinaryIO) -> Iterator[str]:
    """Its lines as text, without those that are longer than any of a ledger."""
    skipping = False
    while data := file.readline(_LONGEST_LINE):
        if not skipping:
            yield data.decode("utf-8", "replace")
        skipping = not data.endswith(b"\n")


def redecide_command(path: str, out: TextIO) -> int:
    """Decide again what a ledger recorded, and say what differs; ``-`` is standard input.

    The exit code is 0 where every decision is the same (one that the end of the file cuts short, and those that a crash
    or a full disk kept out of it, are only told of), 1
    where one differs, 2 where the file, or a record in it, cannot be read.
    """
    same = differ = unread = torn = 0
    newest: dict[str, int] = {}
    try:
        with opened_file(path) as file:
            for one in redecide(lines_of(file)):
                name = _printable(f"{one.launch} {one.id}".strip()) or path
                if gap := _gap(newest, one):
                    out.write(f"{name}: {gap}\n")
                if one.problem:
                    torn += one.torn
                    unread += not one.torn
                    out.write(f"{name}: not decided again: {_printable(one.problem)}\n")
                elif one.same:
                    same += 1
                else:
                    differ += 1
                    out.write(f"{name}: differs\n")
                    out.writelines(f"  {_printable(difference)}\n" for difference in one.differences)
    except OSError as error:
        out.write(f"{path}: {error.strerror}; name a file that --decision-log wrote\n")
        return EXIT_USAGE
    if not same + differ + unread + torn:
        out.write(f"{path}: holds no record of a decision; name a file that --decision-log wrote\n")
        return EXIT_USAGE
    told = [f"{same + differ:,} decided again", f"{same:,} the same", f"{differ:,} different"]
    if unread + torn:
        told.append(f"{unread + torn:,} not readable")
    out.write(", ".join(told) + "\n")
    return EXIT_FAILED if differ else EXIT_USAGE if unread else EXIT_OK


def _gap(newest: dict[str, int], one: Redecided) -> str:
    """That decisions before this one are not in the ledger: those of a launch are numbered on and on."""
    _, _, number = one.id.partition("-")
    if not number.isdecimal() or len(number) > _LONGEST_NUMBER:
        return ""
    before = newest.pop(one.launch, None)
    if len(newest) >= _MOST_LAUNCHES:
        newest.pop(next(iter(newest)))
    newest[one.launch] = int(number)
    missing = 0 if before is None else int(number) - before - 1
    if missing <= 0:
        return ""
    be = "decision before it is" if missing == 1 else "decisions before it are"
    return f"{missing:,} {be} not in the file"


def explain_decision(source: Path | Status, identity: str, launch: str = "") -> str:
    """What the decision of that id was, and what it stood on, in words.

    ``source`` is a ledger, which may hold several launches (``launch``, as ``namespace/name``, picks one), or the
    status of one launch, which keeps its last decisions without what they were made from.

    Raises:
        UnknownDecisionError: there is no such decision.
        OSError: the ledger cannot be read.
    """
    if isinstance(source, Status):
        for record in source.decisions:
            if record.id == identity:
                return _of_status(record)
        known = ", ".join(record.id for record in source.decisions) or "none"
        raise UnknownDecisionError(
            f"decision {identity} is not in the status, which keeps the last ones ({known}); "
            "give the file that --decision-log writes"
        )
    with opened_file(str(source)) as file:
        told, nearest = _search(read_records(lines_of(file)), identity, launch)
    if told:
        return "\n\n".join(told)
    known = ", ".join(nearest) or "none"
    raise UnknownDecisionError(
        f"decision {identity}{f' of {launch}' if launch else ''} is not in {source}; the last ones there are {known}"
    )


def _search(records: Iterable[Found], identity: str, launch: str) -> tuple[list[str], list[str]]:
    told: list[str] = []
    nearest: list[str] = []
    for found in records:
        if launch and found.launch != launch:
            continue
        if found.id == identity:
            told.append(_of_ledger(found))
        elif found.id:
            nearest = [*nearest, f"{found.launch} {found.id}"][-_LISTED:]
    return told, nearest


def _of_status(record: DecisionRecord) -> str:
    weights = {name: format_weight(weight) for name, weight in record.weights.items()}
    return _table(
        f"decision {record.id}",
        {
            "at": format_instant(record.at),
            "signal": record.signal,
            "state": _place(record.state, record.phase, record.step),
            "weights": ", ".join(f"{name} {weight}" for name, weight in weights.items()),
            "why": record.message,
        },
    )


def _of_ledger(found: Found) -> str:
    head = f"decision {found.id} of {found.launch}"
    seen, decision = found.seen, found.decision
    if seen is None or decision is None:
        line = found.line
        told = {name: str(line[name]) for name in ("at", "signal", "state", "message") if name in line}
        return _table(head, told | {"not readable": found.problem})
    before, after = seen.status, decision.status
    weights = {name: format_weight(weight) for name, weight in decision.weights.items()}
    return _table(
        head,
        {
            "at": format_instant(decision.at),
            "signal": f"{decision.signal.value}: {decision.action.value}",
            "before": _place(before.state.value, before.phase, before.step),
            "after": _place(after.state.value, after.phase, after.step),
            "weights": ", ".join(f"{name} {weight}" for name, weight in weights.items()),
            "why": decision.message,
        },
        {
            "what the evidence said": [
                *dict.fromkeys(
                    sentence(item.verdict) + ("" if item.enforce else " (shown only, without consequence)")
                    for item in decision.verdicts
                )
            ],
            "checkpoint": [checkpoint_sentence(decision.checkpoint, after)] if decision.checkpoint else [],
            "what was seen": [*_seen(seen)],
            "what does not fit the record": [*found.altered],
        },
    )


def _seen(seen: Observation) -> Iterator[str]:
    plan = seen.plan
    if isinstance(plan, Plan):
        yield f"the plan of generation {seen.generation}, revision {plan.revision}"
    else:
        yield f"a plan with faults: {plan.faults[0]}" if plan.faults else "a plan with faults"
    for view in seen.targets:
        ready = "" if view.canary_ready is None else f", {view.canary_ready} ready endpoints of the canary"
        share = "a weight that cannot be read" if view.weight is None else f"the canary at {format_weight(view.weight)}"
        yield f"target {view.name}: {share}{ready}{f': {view.problem}' if view.problem else ''}"
    for verb, value in seen.annotations.items():
        yield f"annotation {verb}: {value[:200]}"
    rows = sum(len(reading.settled) for reading in seen.readings.values())
    wrong = dict.fromkeys(reading.problem for reading in seen.readings.values() if reading.problem)
    yield f"{len(seen.readings)} series with {rows:,} new rows{''.join(f'; {problem}' for problem in wrong)}"


def _place(state: str, phase: str, step: int) -> str:
    return f"{state}, phase {phase}, step {step}" if phase else state


def _table(head: str, fields: dict[str, str], lists: dict[str, list[str]] | None = None) -> str:
    lines = [head, *(f"  {name:<8} {value}" for name, value in fields.items() if value)]
    for name, entries in (lists or {}).items():
        if entries:
            lines += [f"  {name}:", *(f"    - {entry}" for entry in entries)]
    return "\n".join(map(_printable, lines))


def _printable(text: str) -> str:
    """Without what a terminal would obey: a ledger may come from anywhere."""
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text)

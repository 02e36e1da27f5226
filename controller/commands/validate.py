"""``validate``: every fault of the plans in some files, each at its line and column, and what to write instead."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from controller.commands.program import EXIT_FAILED, EXIT_OK, EXIT_USAGE, Format, fail, say

if TYPE_CHECKING:
    from controller.adapters.yaml_places import LocatedDocument
    from controller.core.plan import Plan

HELP = "Say everything that is wrong with the plans in these files, and what to write instead."
EPILOG = (
    "Exit codes: 0 every plan is good (it may have warnings); 1 a plan has faults, or there is none; "
    "2 a file cannot be read."
)
_LONGEST_LINE = 160


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong, or weaker than it looks. Line and column count from 1; ``length`` is in characters."""

    line: int
    column: int
    length: int
    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}" if self.path else self.message

    def document(self) -> dict[str, Any]:
        """As it is printed for scripts."""
        return {"line": self.line, "column": self.column, "path": self.path, "message": self.message}


@dataclass(frozen=True, slots=True)
class Judged:
    """One Launch of a file. ``summary`` is empty where it has faults."""

    line: int
    namespace: str
    name: str
    faults: tuple[Finding, ...]
    warnings: tuple[Finding, ...]
    summary: str


@dataclass(slots=True)
class Examined:
    """What one file holds. ``problem`` is why there is no YAML in it; ``unreadable`` why it could not be opened."""

    file: str
    lines: Sequence[str] = ()
    launches: list[Judged] = field(default_factory=list)
    skipped: list[tuple[int, str, str]] = field(default_factory=list)
    problem: Finding | None = None
    unreadable: str = ""

    @property
    def faults(self) -> int:
        """How many things are wrong."""
        return sum(len(launch.faults) for launch in self.launches) + (self.problem is not None)


def validate(
    files: Annotated[list[Path], typer.Argument(help="Manifests; - reads standard input.")],
    output: Annotated[Format, typer.Option("-o", "--output", help="text or json.")] = Format.TEXT,
) -> None:
    """Say everything that is wrong with the plans in these files, and what to write instead."""
    if output is Format.YAML:
        fail("validate", "-o yaml: is not a form of its answer; write -o json or -o text", EXIT_USAGE)
    examined = [examine(str(path), _content(path)) for path in files]
    if output is Format.JSON:
        typer.echo(json.dumps(_document(examined), indent=2))
    else:
        for one in examined:
            _tell(one)
        if not any(one.launches or one.problem or one.unreadable for one in examined):
            say(f"no Launch in {', '.join(map(str, files))}", err=True)
    raise typer.Exit(_code(examined))


def examine(file: str, content: bytes | OSError) -> Examined:
    """Everything that is to be said about one file; ``content`` is what reading it gave."""
    from controller.adapters.yaml_documents import YamlError
    from controller.adapters.yaml_places import read_located

    if isinstance(content, OSError):
        return Examined(file, unreadable=f"it cannot be read: {content.strerror or content}; name another file")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        return Examined(file, unreadable=f"line {line} is not UTF-8; save it as that")
    found = Examined(file, text.splitlines())
    try:
        documents = read_located(text)
    except YamlError as error:
        found.problem = Finding(error.line, error.column, 1, "", error.message)
        return found
    for document in documents:
        for prefix, value in _objects(document.value):
            line = document.span(prefix).line
            if _is_launch(value):
                found.launches.append(_judged(document, prefix, value))
            else:
                metadata = value.get("metadata")
                name = metadata.get("name") if isinstance(metadata, dict) else None
                found.skipped.append((line, str(value["kind"]), str(name or "")))
    return found


def _content(path: Path) -> bytes | OSError:
    try:
        return sys.stdin.buffer.read() if str(path) == "-" else path.read_bytes()
    except OSError as error:
        return error


def _objects(value: Any) -> Iterator[tuple[str, Any]]:
    """The objects of a document, each with its path there: itself, or the items of a List, as kubectl prints them."""
    if isinstance(value, dict) and value.get("kind") == "List" and isinstance(value.get("items"), list):
        for index, item in enumerate(value["items"]):
            for path, inner in _objects(item):
                yield f"items[{index}]" + (f".{path}" if path else ""), inner
    elif value is not None:
        yield "", value


def _is_launch(value: Any) -> bool:
    """Whether it is judged as a Launch: also one with a misspelt kind, or none, which is a fault and not another kind."""
    from controller.core.spec import GROUP, KIND

    if not isinstance(value, dict) or not isinstance(value.get("kind"), str):
        return True
    return value["kind"] == KIND or str(value.get("apiVersion")).partition("/")[0] == GROUP


def _judged(document: LocatedDocument, prefix: str, value: Any) -> Judged:
    from controller.core.faults import Fault
    from controller.core.plan import InvalidPlanError, parse

    def placed(faults: Sequence[Fault]) -> tuple[Finding, ...]:
        found = [_finding(document, prefix, fault) for fault in faults]
        return tuple(sorted(found, key=lambda finding: (finding.line, finding.column)))

    line = document.span(prefix).line
    metadata = value.get("metadata") if isinstance(value, dict) else None
    named = metadata if isinstance(metadata, dict) else {}
    namespace, name = str(named.get("namespace") or "default"), str(named.get("name") or "")
    try:
        plan = parse(value)
    except InvalidPlanError as invalid:
        return Judged(line, namespace, name, placed(invalid.faults), (), "")
    return Judged(line, plan.namespace, plan.name, (), placed(plan.warnings), _summary(plan))


def _finding(document: LocatedDocument, prefix: str, fault: Any) -> Finding:
    inside = "" if fault.path == "manifest" else fault.path
    span = document.span(".".join(filter(None, (prefix, inside))))
    return Finding(span.line, span.column, span.length, fault.path, fault.message)


def _summary(plan: Plan) -> str:
    from controller.core.units import format_duration, format_weight

    steps = [step for phase in plan.phases for step in phase.steps]
    parts = [_number(len(plan.phases), "phase")]
    if steps:
        parts.append(f"{_number(len(steps), 'step')} up to {format_weight(max(step.weight for step in steps))}")
    parts.append(f"at least {format_duration(sum(step.lasts for step in steps))} of steps")
    return ", ".join(parts)


def _number(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _tell(one: Examined) -> None:
    if one.unreadable:
        say(f"{one.file}: {one.unreadable}", err=True)
    for line, kind, name in one.skipped:
        say(f"{one.file}:{line}: note: {' '.join(filter(None, (kind, name)))} is no Launch; skipped", err=True)
    if one.problem is not None:
        _show(one, one.problem, "")
    for launch in one.launches:
        for fault in launch.faults:
            _show(one, fault, "")
        for warning in launch.warnings:
            _show(one, warning, "warning: ")
        if launch.summary:
            say(f"{one.file}: launch {launch.name}: good ({launch.summary})")


def _show(one: Examined, finding: Finding, kind: str) -> None:
    say(f"{one.file}:{finding.line}:{finding.column}: {kind}{finding}", err=True)
    if sys.stderr.isatty() and finding.line <= len(one.lines):
        for quote in quoted(one.lines[finding.line - 1], finding):
            say(quote, err=True)


def quoted(line: str, finding: Finding) -> tuple[str, str]:
    """The line as it stands in the file, and below it marks under what is meant."""
    first = max(0, finding.column - 1 - _LONGEST_LINE // 2) if len(line) > _LONGEST_LINE else 0
    shown = line[first : first + _LONGEST_LINE]
    before = shown[: finding.column - 1 - first]
    head = f"{finding.line:>6} | "
    under = "".join("\t" if character == "\t" else " " for character in before)
    length = min(finding.length, max(1, len(shown) - len(before)))
    return head + shown, " " * (len(head) - 2) + "| " + under + "^" + "~" * (length - 1)


def _document(examined: Sequence[Examined]) -> dict[str, Any]:
    """The answer for scripts."""
    return {
        "result": {EXIT_OK: "good", EXIT_FAILED: "faults", EXIT_USAGE: "unreadable"}[_code(examined)],
        "launches": [
            {
                "file": one.file,
                "line": launch.line,
                "namespace": launch.namespace,
                "name": launch.name,
                "good": not launch.faults,
                "summary": launch.summary,
                "faults": [fault.document() for fault in launch.faults],
                "warnings": [warning.document() for warning in launch.warnings],
            }
            for one in examined
            for launch in one.launches
        ],
        "problems": [{"file": one.file, **one.problem.document()} for one in examined if one.problem is not None],
        "unreadable": [{"file": one.file, "message": one.unreadable} for one in examined if one.unreadable],
        "skipped": [
            {"file": one.file, "line": line, "kind": kind, "name": name}
            for one in examined
            for line, kind, name in one.skipped
        ],
    }


def _code(examined: Sequence[Examined]) -> int:
    if any(one.unreadable for one in examined):
        return EXIT_USAGE
    if any(one.faults for one in examined) or not any(one.launches for one in examined):
        return EXIT_FAILED
    return EXIT_OK

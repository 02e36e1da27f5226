"""``validate``: every fault of the plans in some files, each at its line and column, and what to write instead."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from controller.commands.asking import Config
from controller.commands.program import EXIT_CLUSTER, EXIT_FAILED, EXIT_OK, EXIT_USAGE, Format, fail, say

if TYPE_CHECKING:
    from controller.adapters.measured import Rates
    from controller.adapters.yaml_places import LocatedDocument
    from controller.core.forecast import Traffic
    from controller.core.plan import Plan
    from controller.core.series import Series
    from controller.core.terms import Terms

HELP = (
    "Say everything that is wrong with the plans in these files, and what to write instead; and what their gates and "
    "steps can decide: with --requests or --measure how surely and how soon, else from which traffic on."
)
EPILOG = (
    "Exit codes: 0 every plan is good (it may have warnings); 1 a plan has faults, or there is none; "
    "2 a file cannot be read, or an option cannot be used; 3 no word from Prometheus of the traffic. "
    "A gate that cannot pass or cannot fail with the traffic that is given is a fault of the plan."
)
_MEASURING_S = 60.0
_MOST_BURSTS = 1000.0
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
    """One Launch of a file. ``summary`` is empty where it has faults.

    ``lines`` are what its gates and steps can decide with the traffic that was given, or what traffic they need;
    ``about`` says which, and on what it stands, and ``computed`` is the same for scripts.
    """

    line: int
    namespace: str
    name: str
    faults: tuple[Finding, ...]
    warnings: tuple[Finding, ...]
    summary: str
    about: str = ""
    lines: tuple[str, ...] = ()
    computed: tuple[dict[str, Any], ...] = ()
    traffic: Traffic | None = None
    targets: tuple[str, ...] = ()


class UnmeasuredError(Exception):
    """Prometheus was asked for the traffic and did not say it."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What the flags say of the traffic.

    ``requests`` are requests per second by name of a target; the empty name is of all others. ``bursts`` is how much more
    than by chance bad requests vary. ``measure``: Prometheus is asked for both instead. ``prometheus`` is its URL, and
    ``config`` the operator's file; empty: what the environment says. ``terms`` are what that file says of plans; None: it
    is not known.
    """

    requests: dict[str, float] = field(default_factory=dict)
    as_good_as: float = 0.5
    bursts: float = 1.0
    measure: bool = False
    prometheus: str = ""
    config: str = ""
    terms: Terms | None = None

    def traffic(self, plan: Plan) -> Traffic | None:
        """The traffic of a plan's targets; None: nothing was said.

        Raises:
            UnmeasuredError: Prometheus does not say it.
        """
        from controller.core.forecast import Traffic

        said = {
            target.name: rate
            for target in plan.targets
            if (rate := self.requests.get(target.name, self.requests.get(""))) is not None
        }
        if self.measure and len(said) < len(plan.targets):
            measured, bursts = _measured(self, plan)
            requests = {name: said.get(name, rates.median) for name, rates in measured.items()}
            quiet = {name: said.get(name, rates.quiet) for name, rates in measured.items()}
            return Traffic(requests, quiet, bursts, self.bursts)
        if not said:
            return None
        missing = [target.name for target in plan.targets if target.name not in said]
        if missing:
            fail(
                "validate",
                f"--requests: says nothing of target {missing[0]} of launch {plan.name}; "
                "write one without a name besides, such as 100/s, for all that are not named",
                EXIT_USAGE,
            )
        return Traffic(said, usual_bursts=self.bursts)


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
    requests: Annotated[
        list[str] | None,
        typer.Option(
            "--requests",
            metavar="RATE",
            help="All requests of each target, both tracks, such as 100/s, 50/m or 10/h; of one target: eu=20/s. "
            "May be repeated.",
            show_default=False,
        ),
    ] = None,
    as_good_as: Annotated[
        float,
        typer.Option(
            "--as-good-as",
            help="The bad share that the service is thought to have, as a part of each limit: 0 to 0.95.",
        ),
    ] = 0.5,
    bursts: Annotated[
        float,
        typer.Option(
            "--bursts",
            help="How much more than by chance the number of bad requests varies, where --measure does not say it: "
            "1 to 1000.",
        ),
    ] = 1.0,
    measure: Annotated[  # noqa: FBT002 - a flag
        bool,
        typer.Option(
            "--measure", help="Ask Prometheus for the requests of the last day instead, and for the bursts in them."
        ),
    ] = False,
    prometheus: Annotated[
        str,
        typer.Option(
            "--prometheus",
            help="Base URL of Prometheus, for --measure; default: the controller's.",
            show_default=False,
        ),
    ] = "",
    config: Config = "",
) -> None:
    """Say everything that is wrong with the plans in these files, and what to write instead."""
    if output is Format.YAML:
        fail("validate", "-o yaml: is not a form of its answer; write -o json or -o text", EXIT_USAGE)
    if not 1 <= bursts <= _MOST_BURSTS:
        words = "write 1 where each bad request comes by itself, 5 where they come in fives"
        fail("validate", f"--bursts {bursts:g}: is not within 1 and {_MOST_BURSTS:g}; {words}", EXIT_USAGE)
    terms = _terms(prometheus, config) if config else None
    asked = Asked(_rates(requests or ()), _as_good_as(as_good_as), bursts, measure, prometheus, config, terms)
    try:
        examined = [examine(str(path), _content(path), asked) for path in files]
    except UnmeasuredError as error:
        fail("validate", f"--measure: {error}", EXIT_CLUSTER)
    _names_of_targets(asked, examined)
    if output is Format.JSON:
        typer.echo(json.dumps(_document(examined), indent=2))
    else:
        for one in examined:
            _tell(one)
        if not any(one.launches or one.problem or one.unreadable for one in examined):
            say(f"no Launch in {', '.join(map(str, files))}", err=True)
    raise typer.Exit(_code(examined))


def _terms(prometheus: str, config: str) -> Terms:
    from controller.commands.asking import configuration_of, settings_of, terms_of

    settings = settings_of("validate", prometheus)
    return terms_of(config, settings, configuration_of("validate", config, settings))


def _rates(requests: Sequence[str]) -> dict[str, float]:
    from controller.core.forecast import parse_rate

    found: dict[str, float] = {}
    for text in requests:
        name, equals, rate = text.rpartition("=")
        if equals and not name:
            fail("validate", f"--requests {text}: names no target before the =; write it as eu=20/s", EXIT_USAGE)
        if name in found:
            fail("validate", f"--requests {text}: is said twice for {name or 'all targets'}; write it once", EXIT_USAGE)
        try:
            found[name] = parse_rate(rate)
        except ValueError as error:
            fail("validate", f"--requests: {error}", EXIT_USAGE)
    return found


def _as_good_as(ratio: float) -> float:
    from controller.core.forecast import MOST_AS_GOOD_AS

    if not 0 <= ratio <= MOST_AS_GOOD_AS:
        fail(
            "validate",
            f"--as-good-as {ratio:g}: is not within 0 and {MOST_AS_GOOD_AS:g}; write 0.5 for a service with half as many "
            "bad requests as each limit allows",
            EXIT_USAGE,
        )
    return ratio


def _names_of_targets(asked: Asked, examined: Sequence[Examined]) -> None:
    known = {name for one in examined for launch in one.launches for name in launch.targets}
    unknown = sorted(name for name in asked.requests if name and name not in known)
    if unknown and known:
        fail(
            "validate",
            f"--requests {unknown[0]}=...: no target has that name; write one of {', '.join(sorted(known))}",
            EXIT_USAGE,
        )


def _measured(asked: Asked, plan: Plan) -> tuple[dict[str, Rates], dict[tuple[str, Series], float]]:
    from controller.commands.asking import configuration_of, settings_of
    from controller.commands.measuring import measured
    from controller.errors import AdapterError

    settings = settings_of("validate", asked.prometheus)
    configuration = configuration_of("validate", asked.config, settings)
    try:
        return measured(settings, plan, time.time(), _MEASURING_S, configuration)
    except AdapterError as error:
        raise UnmeasuredError(str(error)) from error


def examine(file: str, content: bytes | OSError, asked: Asked | None = None) -> Examined:
    """Everything that is to be said about one file; ``content`` is what reading it gave.

    Raises:
        UnmeasuredError: the traffic is to be asked of Prometheus, which does not say it.
    """
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
                found.launches.append(_judged(document, prefix, value, asked or Asked()))
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


def _judged(document: LocatedDocument, prefix: str, value: Any, asked: Asked) -> Judged:
    from controller.core.faults import Fault
    from controller.core.forecast import forecasts, needs, told
    from controller.core.plan import InvalidPlanError, parse
    from controller.core.terms import FREE

    def placed(faults: Sequence[Fault]) -> tuple[Finding, ...]:
        found = [_finding(document, prefix, fault) for fault in faults]
        return tuple(sorted(found, key=lambda finding: (finding.line, finding.column)))

    line = document.span(prefix).line
    metadata = value.get("metadata") if isinstance(value, dict) else None
    named = metadata if isinstance(metadata, dict) else {}
    namespace, name = str(named.get("namespace") or "default"), str(named.get("name") or "")
    try:
        plan = parse(value, terms=asked.terms or FREE)
    except InvalidPlanError as invalid:
        return Judged(line, namespace, name, placed(invalid.faults), (), "")
    traffic = asked.traffic(plan)
    needed = needs(plan, asked.as_good_as, asked.bursts) if traffic is None else ()
    made = forecasts(plan, traffic, asked.as_good_as) if traffic is not None else ()
    faults = [one.fault for one in needed] + [one.fault for one in made]
    wrong = tuple(dict.fromkeys(fault for fault in faults if fault is not None))
    return Judged(
        line=line,
        namespace=plan.namespace,
        name=plan.name,
        # Without knowing the traffic, nobody can say that a plan is at fault; only that no traffic would do.
        faults=() if traffic is None else placed(wrong),
        warnings=placed((*plan.warnings, *wrong) if traffic is None else plan.warnings),
        summary="" if traffic is not None and wrong else _summary(plan),
        about=_about(asked, traffic),
        lines=told(made) if made else tuple(one.sentence for one in needed),
        computed=(*(one.document() for one in needed), *(one.document() for one in made)),
        traffic=traffic,
        targets=tuple(target.name for target in plan.targets),
    )


def _about(asked: Asked, traffic: Traffic | None) -> str:
    if asked.as_good_as == 0:
        how = "without any bad request"
    else:
        how = f"with {asked.as_good_as:.3g} times the bad requests that each limit allows"
    said = "what its steps and gates can decide" if traffic is not None else "the traffic that its steps and gates need"
    source = ", with the median traffic of the last day" if traffic is not None and traffic.quiet else ""
    return f"{said}, {how}{source}"


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
    added = {each.criterion.key: None for phase in plan.phases for each in phase.guardrails if each.added}
    if added:
        parts.append(f"guarded by default by {' and '.join(added)}")
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
        if launch.lines:
            say(f"{one.file}: launch {launch.name}: {launch.about}:")
        for each in launch.lines:
            say(f"  {each}")


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
                **_told(launch),
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


def _told(launch: Judged) -> dict[str, Any]:
    """Under ``decisions`` what was computed with traffic, under ``needs`` what was without."""
    if launch.traffic is None:
        return {"needs": list(launch.computed)}
    traffic = launch.traffic
    return {
        "requestsPerSecond": dict(traffic.requests),
        "quietRequestsPerSecond": dict(traffic.quiet) or None,
        "decisions": list(launch.computed),
    }


def _code(examined: Sequence[Examined]) -> int:
    if any(one.unreadable for one in examined):
        return EXIT_USAGE
    if any(one.faults for one in examined) or not any(one.launches for one in examined):
        return EXIT_FAILED
    return EXIT_OK

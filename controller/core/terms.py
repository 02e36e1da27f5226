"""On what terms plans are run here: what the operator gives them, what they may not exceed, and a stop for all."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from controller.core import spec as written
from controller.core.faults import Fault, InvalidPlanError
from controller.core.units import format_date

DEFAULT_BACKEND = "default"
"""The Prometheus that is meant where a target names none."""
OPERATOR = "operator"
"""Under this key, what a run stands on holds what the operator has given it."""


@dataclass(frozen=True, slots=True)
class Stop:
    """No raise in the whole fleet, up to ``until`` (epoch seconds; None: until somebody takes it away)."""

    reason: str
    by: str = ""
    until: float | None = None

    def stands(self, now: float) -> bool:
        """Whether it is in force at ``now`` (epoch seconds)."""
        return self.until is None or now < self.until

    @property
    def words(self) -> str:
        """Who, why and until when, to follow "stopped"."""
        by = f" by {self.by or 'the operator'}"
        until = "" if self.until is None else f" until {format_date(self.until)}"
        return f"{by}{until}: {self.reason}"


@dataclass(frozen=True, slots=True)
class Limits:
    """What plans may not exceed; None: no limit. ``launches`` is their number, ``criteria`` is of one launch,
    ``query_length`` is characters of one query, ``range`` seconds that a query looks back.
    """

    launches: int | None = None
    criteria: int | None = None
    query_length: int | None = None
    range: float | None = None


@dataclass(frozen=True, slots=True)
class Terms:
    """What a plan is read with besides its own text.

    ``metrics`` may be used by name; ``guardrails`` are added to the phases that have steps. ``backends`` are the names
    of the Prometheuses; None: not known, so any name is taken. ``raw``: whether values may be asked by PromQL of the
    plan's own, or in which namespaces.
    """

    metrics: tuple[written.Metric, ...] = ()
    guardrails: tuple[written.Guardrail, ...] = ()
    backends: frozenset[str] | None = None
    limits: Limits = field(default_factory=Limits)
    raw: bool | frozenset[str] = True

    def shared(self, own: written.LaunchSpec) -> dict[str, written.Metric]:
        """The shared metrics that the plan does not hide by one of its own, by name."""
        hidden = {metric.name for metric in own.metrics}
        return {metric.name: metric for metric in self.metrics if metric.name not in hidden}

    def added(self, phase: written.Phase, own: written.LaunchSpec) -> tuple[written.Guardrail, ...]:
        """The default guardrails of a phase: those whose metric neither it nor the plan's own metrics name."""
        if not phase.steps or not own.default_guardrails:
            return ()
        named = {each.metric for each in phase.guardrails} | {metric.name for metric in own.metrics}
        return tuple(each for each in self.guardrails if each.metric not in named)


FREE = Terms()
"""No operator has said anything."""


@dataclass(frozen=True, slots=True)
class Fleet:
    """What holds for all launches together at this moment."""

    stop: Stop | None = None
    most: int | None = None
    """How many launches are run."""


def as_written(model: written.Model) -> dict[str, Any]:
    """A part of a plan in one spelling: defaults left out, durations as short as they go."""
    return model.model_dump(mode="json", by_alias=True, exclude_defaults=True)


def given(terms: Terms, spec: written.LaunchSpec, *phases: written.Phase) -> dict[str, Any]:
    """What these phases of a plan take from the terms, in one spelling; empty: nothing."""
    added = {id(each) for phase in phases for each in terms.added(phase, spec)}
    guardrails = [each for each in terms.guardrails if id(each) in added]
    criteria: list[written.Criterion] = list(guardrails)
    for phase in phases:
        criteria += [*phase.guardrails, *(phase.gate.criteria if phase.gate else ())]
    used = {criterion.metric for criterion in criteria}
    metrics = [as_written(metric) for name, metric in terms.shared(spec).items() if name in used]
    rails = [as_written(each) for each in guardrails]
    return {**({"metrics": metrics} if metrics else {}), **({"guardrails": rails} if rails else {})}


def digest_of(taken: Mapping[str, Any]) -> str:
    """What tells one giving from another; empty for nothing."""
    return json.dumps(taken, sort_keys=True, separators=(",", ":")) if taken else ""


def terms_of(stands_on: Mapping[str, Any]) -> Terms:
    """What the operator had given to what a run stands on.

    Raises InvalidPlanError where that cannot be read.
    """
    taken = stands_on.get(OPERATOR)
    if not taken:
        return FREE
    try:
        return Terms(
            tuple(written.Metric.model_validate(each) for each in taken.get("metrics") or ()),
            tuple(written.Guardrail.model_validate(each) for each in taken.get("guardrails") or ()),
        )
    except (ValidationError, AttributeError, TypeError) as error:
        fault = Fault(OPERATOR, "what the run stands on cannot be read; annotate retry to begin it anew")
        raise InvalidPlanError((fault,)) from error


_TEXT = re.compile(r"\"(?:[^\"\\]|\\.)*\"|'(?:[^'\\]|\\.)*'|`[^`]*`|#[^\n]*", re.DOTALL)
_SPANS = re.compile(r"\[([^\]:]*)(?::([^\]]*))?\]|\boffset\s+(-?\s*[0-9][0-9a-z.]*)", re.IGNORECASE)
_SPAN = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h|d|w|y)")
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0, "w": 604_800.0, "y": 31_536_000.0}


def look_backs(query: str) -> Iterator[tuple[str, float | None]]:
    """The ranges, subqueries and offsets of a PromQL query: as written, and in seconds (None: it cannot be read)."""
    for found in _SPANS.finditer(_TEXT.sub('""', query)):
        text = (found[1] if found[1] is not None else found[3]).strip()
        yield text, _seconds(text.lstrip("- "))


def _seconds(text: str) -> float | None:
    text = text.strip().lower()
    if re.fullmatch(r"[0-9]+(\.[0-9]+)?", text):  # plain seconds, as newer versions have it
        return float(text)
    if not re.fullmatch(f"(?:{_SPAN.pattern})+", text):
        return None
    return sum(float(number) * _UNITS[unit] for number, unit in _SPAN.findall(text))

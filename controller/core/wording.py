"""What is wrong with the form of a plan, in the words of its author."""

from __future__ import annotations

import difflib
import types
from collections.abc import Iterable, Iterator
from datetime import date
from typing import Any, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from controller.core import spec as forms
from controller.core.faults import Place, listed, shown
from controller.core.spec import LaunchSpec

OBJECT_NAME_WORDS = "small letters, digits, dots and hyphens, with a letter or digit at both ends"
_PATTERNS = {
    forms.NAME_PATTERN: OBJECT_NAME_WORDS,
    forms.OBJECT_NAME_PATTERN: OBJECT_NAME_WORDS,
    forms.ROLE_PATTERN: "small letters, digits, dots, hyphens and underscores, such as eng-lead",
    forms.ONE_LINE_PATTERN: "text on one line, without control characters",
    forms.ZONE_PATTERN: "an IANA time zone such as UTC or Europe/Berlin",
    forms.CERTAINTY_PATTERN: "a percentage from 80% to 99.99%, such as 99%, or threshold",
    forms.SELECTOR_PATTERN: "one selector without function, range or offset, "
    'such as payments_total or payments_total{outcome="failed"}',
}
_EXAMPLES = {
    "revision": "revision: v2",
    "targets": "targets: [{name: main, route: {name: shop}, stable: {name: shop-stable}, canary: {name: shop-canary}}]",
    "phases": "phases: [{name: ramp, steps: [{weight: 5, for: 10m}, {weight: 100}], "
    "guardrails: [{metric: errors, below: 1%}]}]",
    "name": "name: main",
    "route": "route: {name: shop}",
    "stable": "stable: {name: shop-stable}",
    "canary": "canary: {name: shop-canary}",
    "weight": "weight: 10",
    "bad": "bad: 'payments_total{outcome=\"failed\"}'",
    "total": "total: payments_total",
    "bucket": "bucket: checkout_seconds_bucket",
    "count": "count: checkout_seconds_count",
    "role": "role: eng-lead",
    "at": "at: 2025-11-01T14:00:00Z",
    "query": "query: 'sum(queue_length)'",
    "standardError": "standardError: 'queue_length_standard_error'",
    "days": "days: [Mon, Tue, Wed, Thu]",
    "from": 'from: "09:00"',
    "to": 'to: "18:00"',
    "mode": "mode: standard",
    "extend": "extend: 1h",
    "reschedule": "reschedule: 24h",
    "url": "url: http://prometheus.monitoring:9090",
    "reason": "reason: incident 4711",
}


def place_of(error: dict[str, Any]) -> Place:
    """Where in the manifest: without the marks that say which side of a union was tried."""
    return tuple(part for part in error["loc"] if not (isinstance(part, str) and part.startswith("<")))


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, types.GenericAlias) or get_args(annotation):
        for inner in get_args(annotation):
            yield from _models(inner)
    elif isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation


def _holders(place: Place, root: type[BaseModel] = LaunchSpec) -> list[type[BaseModel]]:
    """The models that may stand where the last part of a place below ``root`` is looked up."""
    models: list[type[BaseModel]] = [root]
    for part in place[:-1]:
        if isinstance(part, str):
            models = [
                inner
                for model in models
                for name, field in model.model_fields.items()
                if part == (field.alias or name)
                for inner in _models(field.annotation)
            ]
    return models


def field_at(place: Place) -> FieldInfo | None:
    """The field of the schema that stands at a place below ``spec``; None where there is none."""
    for model in _holders(place):
        for name, field in model.model_fields.items():
            if place[-1] == (field.alias or name):
                return field
    return None


def unknown_field(key: str, fields: Iterable[str], of: str = "here") -> str:
    """About a field that does not exist, with the nearest one of those that do; ``of`` says where it is none."""
    fields = tuple(fields)
    lowered = {field.lower(): field for field in fields}
    near = difflib.get_close_matches(key.replace("_", "").lower()[:64], lowered, n=1, cutoff=0.6)
    advice = f"did you mean {lowered[near[0]]}?" if near else f"remove it, or write {listed(fields)}"
    return f"is not a field {of}; {advice}"


def not_text(value: Any) -> str:
    """About a value that should be text."""
    if isinstance(value, bool | int | float | date):
        return f"is {shown(value)}, which is not text; put it in quotes"
    return f"is {shown(value)}, where text is expected; write text"


def in_words(error: dict[str, Any], value: Any, root: type[BaseModel] = LaunchSpec) -> str:
    """What is wrong and what to write instead, in the words of a plan's author; places count from ``root``."""
    place = place_of(error)
    context = error.get("ctx", {})
    last = str(place[-1]) if place else "spec"
    match error["type"]:
        case "missing":
            example = "at: 2h" if "checkpoints" in place else _EXAMPLES[last]
            return f"is missing; write {example}"
        case "extra_forbidden":
            fields = [
                field.alias or name for model in _holders(place, root) for name, field in model.model_fields.items()
            ]
            return unknown_field(last, dict.fromkeys(fields))
        case "value_error":
            return f"{context['error']}"
        case "outcome":
            return str(error["msg"])
        case "literal_error":
            return f"is {shown(value)}; write {str(context['expected']).replace(chr(39), '')}"
        case "string_type" if last == "certainty":
            return f"is {shown(value)}; write {_PATTERNS[forms.CERTAINTY_PATTERN]}"
        case "string_type":
            return not_text(value)
        case "string_unicode":
            return "holds a character that is half of one (a lone surrogate); write plain text"
        case "string_pattern_mismatch":
            known = _PATTERNS.get(str(context["pattern"]))
            if known is None:
                known = "a local time such as 09:00"
            return f"is {shown(value)}; write {known}"
        case "string_too_short":
            return f"is empty; write {_EXAMPLES.get(last, 'some text')}"
        case "string_too_long":
            return f"has {len(value):,} characters; write {context['max_length']:,} at most"
        case "too_short" if place[0] == "phases" and last == "targets":
            return "is empty; remove it, which means all"
        case "too_short":
            return f"is empty; write {_EXAMPLES[last]}"
        case "too_long":
            return f"has {len(value):,} entries; write {context['max_length']:,} at most"
        case "int_type" | "int_from_float" | "int_parsing" | "int_parsing_size":
            return f"is {shown(value)}; write a whole number"
        case "float_type" | "float_parsing" | "finite_number":
            return f"is {shown(value)}; write a number" + (" such as 0.99" if last == "quantile" else "")
        case "bool_type" | "bool_parsing":
            return f"is {shown(value)}; write true or false"
        case "greater_than_equal":
            return f"is {shown(value)}; write {context['ge']:,} or more"
        case "less_than_equal":
            return f"is {shown(value)}; write {context['le']:,} or less"
        case "greater_than":
            return f"is {shown(value)}; write more than {context['gt']:g}" + _hint(last)
        case "less_than":
            return f"is {shown(value)}; write less than {context['lt']:g}" + _hint(last)
        case "tuple_type":
            return f"is {shown(value)}, where a list is expected; write [...] or lines that begin with a hyphen"
        case _:
            return f"is {shown(value)}, where a mapping is expected; write fields, such as {{name: shop}}"


def _hint(field: str) -> str:
    return ", such as 0.99" if field == "quantile" else ""

"""The Launch as its author writes it: the whole schema, as typed values.

The CustomResourceDefinition in ``deploy/crd`` is generated from these models, rules and descriptions included: what
stands under a field is what ``kubectl explain`` shows. What a value means across fields (does the metric exist, do
weights fall) is checked in :mod:`controller.core.checks`; the cheap part of it stands here too, in CEL, so that the
API server says it first. Defaults are the controller's and not the schema's: stored objects stay as they were written.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    JsonValue,
    PlainSerializer,
    Tag,
    WithJsonSchema,
)
from pydantic.alias_generators import to_camel

from controller.core.units import (
    format_instant,
    format_weight,
    parse_duration,
    parse_instant,
    parse_weight,
    write_duration,
)

GROUP = "autoadvance.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"
KIND = "Launch"
PLURAL = "launches"
BUILT_IN_METRICS = ("errors", "latency", "availability", "uptime", "restarts", "holds")
PLACEHOLDERS = ("namespace", "target", "service", "track", "revision")
"""What a selector or query may name in double braces."""

PLACEHOLDER_PATTERN = rf"^([^{{]|[{{][^{{]|[{{][{{] *({'|'.join(PLACEHOLDERS)}) *[}}][}}])*[{{]?$"
"""Text in which double braces hold nothing but those."""

DURATION_PATTERN = r"^([0-9]+(\.[0-9]+)?(ms|s|m|h|d|w))+$"
INTERVAL_PATTERN = r"^(([1-9]|[1-9][0-9]|[12][0-9]{2}|300)s|[1-5]m)$"
WEIGHT_PATTERN = r"^(0\.[1-9]|[1-9][0-9]?(\.[0-9])?|100(\.0)?)%?$"
LIMIT_PATTERN = r"^(-?[0-9]+(\.[0-9]+)?%?|([0-9]+(\.[0-9]+)?(ms|s|m|h|d|w))+)$"
CERTAINTY_PATTERN = r"^(threshold|[89][0-9](\.[0-9]{1,2})?%)$"
NAME_PATTERN = r"^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$"
OBJECT_NAME_PATTERN = r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*$"
LABEL_PATTERN = r"^([a-z0-9]([a-z0-9.-]*[a-z0-9])?/)?[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$"
ROLE_PATTERN = r"^[a-z0-9]([a-z0-9_.-]*[a-z0-9])?$"
ONE_LINE_PATTERN = r"^[^\x00-\x1f\x7f]*$"
ZONE_PATTERN = r"^[A-Za-z][A-Za-z0-9_+/-]*$"
_QUOTED = r""""([^"\\]|\\.)*"|'([^'\\]|\\.)*'|`[^`]*`"""
_MATCHER = rf"""([a-zA-Z_][a-zA-Z0-9_.]*|"[^"\\]+")\s*(=~|!~|!=|=)\s*({_QUOTED})|"[^"\\]+\""""
SELECTOR_PATTERN = (
    r"^\s*([a-zA-Z_:][a-zA-Z0-9_:]*\s*(\{\s*\})?|"
    rf"([a-zA-Z_:][a-zA-Z0-9_:]*\s*)?\{{\s*({_MATCHER})(\s*,\s*({_MATCHER}))*\s*,?\s*\}})\s*$"
)


def _interval(value: object) -> float:
    seconds = parse_duration(value)
    if not isinstance(value, str) or not re.fullmatch(INTERVAL_PATTERN, value):
        raise ValueError(f"{value!r} is not an interval; write whole seconds from 1s to 300s, or 1m to 5m")
    return seconds


def _duration(value: object) -> float:
    if isinstance(value, str) and len(value) > 32:
        raise ValueError("is longer than 32 characters; write a duration such as 30s, 10m, 4h or 2d")
    return parse_duration(value)


def _weight(value: object) -> int:
    if isinstance(value, float) and not value.is_integer():
        raise ValueError(f'{value} as a bare fraction could be meant as a share; write the percent sign: "{value}%"')
    return parse_weight(int(value) if isinstance(value, float) else value)


def _limit(value: object) -> float | str:
    advice = "write a percentage such as 0.5%, a duration such as 200ms, or a number"
    if isinstance(value, str):
        if len(value) > 32 or not re.fullmatch(LIMIT_PATTERN, value):
            raise ValueError(f"{value[:40]!a} is not a limit; {advice}")
        return value
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"a limit is text or a number; {advice}")
    if isinstance(value, float) and not value.is_integer():
        share = f", or {value:.4%}".rstrip("%").rstrip("0").rstrip(".") + "% for a share" if 0 < value < 1 else ""
        raise ValueError(f'a number with a fraction must be text here; write "{value}", in quotes{share}')
    if abs(value) > 2**53:
        raise ValueError(f"is too large for a limit; {advice}")
    return float(value)


def _advised(pattern: str, message: str, more: str = "", text: str = "self") -> dict[str, Any]:
    """A pattern, and the same in CEL, which can say what to write instead."""
    rule = f"{text}.matches(r'''{pattern}'''){more}"
    return {"pattern": pattern, "x-kubernetes-validations": [{"rule": rule, "message": message}]}


_NAME_ADVICE = "write small letters, digits, dots and hyphens, with a letter or digit at both ends"
_DURATION_SCHEMA: dict[str, Any] = {
    "type": "string",
    "maxLength": 32,
    **_advised(
        DURATION_PATTERN,
        "write a duration above 0, a number with its unit, such as 30s, 10m, 4h or 2d",
        " && self.matches('[1-9]')",
    ),
}
_INSTANT_SCHEMA: dict[str, Any] = {"type": "string", "format": "date-time", "maxLength": 64}

Duration = Annotated[
    float,
    BeforeValidator(_duration),
    PlainSerializer(write_duration, return_type=str),
    WithJsonSchema(_DURATION_SCHEMA),
]
"""Seconds; written ``10m``."""
Interval = Annotated[
    float,
    BeforeValidator(_interval),
    PlainSerializer(write_duration, return_type=str),
    WithJsonSchema(
        {
            "type": "string",
            "maxLength": 32,
            **_advised(INTERVAL_PATTERN, "write whole seconds from 1s to 300s, or 1m to 5m"),
        }
    ),
]
"""Whole seconds, 1 to 300; written ``10s``."""
Instant = Annotated[
    float,
    BeforeValidator(parse_instant),
    PlainSerializer(format_instant, return_type=str),
    WithJsonSchema(_INSTANT_SCHEMA),
]
"""Seconds since the epoch; written in RFC 3339 with an offset."""
Weight = Annotated[
    int,
    BeforeValidator(_weight),
    PlainSerializer(format_weight, return_type=str),
    WithJsonSchema(
        {
            "x-kubernetes-int-or-string": True,
            "minimum": 1,
            "maximum": 100,
            "maxLength": 6,
            **_advised(
                WEIGHT_PATTERN,
                "write a percentage from 0.1% to 100% in steps of 0.1%, such as 5 or 0.5%",
                text="string(self)",
            ),
        }
    ),
]
"""Thousandths of the pair's traffic; written ``10`` or ``"0.1%"``."""
Name = Annotated[
    str, Field(pattern=NAME_PATTERN, max_length=63, json_schema_extra=_advised(NAME_PATTERN, _NAME_ADVICE))
]
"""A name within a plan: a DNS label, dots allowed."""
ObjectName = Annotated[
    str,
    Field(
        pattern=OBJECT_NAME_PATTERN,
        max_length=253,
        json_schema_extra=_advised(OBJECT_NAME_PATTERN, _NAME_ADVICE),
    ),
]
"""The name of a Kubernetes object: a DNS subdomain."""
Role = Annotated[str, Field(pattern=ROLE_PATTERN, max_length=63)]
Selector = Annotated[
    str,
    Field(
        pattern=SELECTOR_PATTERN,
        min_length=1,
        max_length=4096,
        json_schema_extra=_advised(
            SELECTOR_PATTERN,
            "write one selector without function, range or offset, such as payments_total{outcome='failed'}",
        ),
    ),
]
"""One Prometheus selector without range, offset or function."""
Limit = Annotated[
    float | str,
    BeforeValidator(_limit),
    WithJsonSchema(
        {
            "x-kubernetes-int-or-string": True,
            "maxLength": 32,
            **_advised(
                LIMIT_PATTERN,
                "write a percentage such as 0.5%, a duration such as 200ms, or a number such as 12 or '5.8'",
                text="string(self)",
            ),
        }
    ),
]
"""A limit as written: ``0.5%``, ``200ms`` or a bare number; what it means depends on the metric."""
Certainty = Annotated[
    str,
    Field(
        pattern=CERTAINTY_PATTERN,
        max_length=16,
        json_schema_extra=_advised(
            CERTAINTY_PATTERN, "write a percentage from 80% to 99.99%, such as 99%, or threshold"
        ),
    ),
]
"""``99%`` or ``threshold``."""
Whole = Annotated[int, Field(strict=True)]
Switch = Annotated[bool, Field(strict=True)]


class Model(BaseModel):
    """Immutable, with camelCase names outside and no unknown fields."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", alias_generator=to_camel, populate_by_name=True, use_attribute_docstrings=True
    )


def _rules(*rules: tuple[str, str] | tuple[str, str, str]) -> ConfigDict:
    """CEL rules of a model: (expression, message) or (expression, message, field that the message is about)."""
    validations: list[JsonValue] = []
    for rule, message, *field in rules:
        validations.append({"rule": rule, "message": message, **({"fieldPath": f".{field[0]}"} if field else {})})
    return ConfigDict(json_schema_extra={"x-kubernetes-validations": validations})


class Reschedule(Model):
    """Try again later: by this much, so many times, then the last resort."""

    reschedule: Duration
    """How much later."""
    times: Whole = Field(default=1, ge=1, le=100)
    """How often at most; 1 by default."""
    then: Literal["hold", "rollback", "escalate"] = "hold"
    """What happens when that was not enough; `hold` by default."""


class Extend(Model):
    """Give it longer: by this much, so many times, then the last resort."""

    extend: Duration
    """How much longer."""
    times: Whole = Field(default=1, ge=1, le=100)
    """How often at most; 1 by default."""
    then: Literal["hold", "rollback", "escalate"] = "hold"
    """What happens when that was not enough; `hold` by default."""


def _which_outcome(value: object) -> str | None:
    if isinstance(value, str):
        return "<word>"
    if isinstance(value, Extend) or (isinstance(value, Mapping) and "extend" in value):
        return "<extend>"
    if isinstance(value, Reschedule) or (isinstance(value, Mapping) and "reschedule" in value):
        return "<reschedule>"
    return None


def _word_or_mapping(value: object) -> str:
    return "<mapping>" if isinstance(value, Mapping | BaseModel) else "<text>"


def _word_or_list(value: object) -> str:
    return "<list>" if isinstance(value, list | tuple) else "<text>"


def _mixed(pattern: str, longest: int, **bounds: Any) -> WithJsonSchema:
    """Text or something structured. A structural schema has no type for that; each bound holds for its type alone."""
    return WithJsonSchema(
        {
            "x-kubernetes-preserve-unknown-fields": True,
            "pattern": pattern,
            "maxLength": longest,
            "minimum": 1,  # with the maximum: no number at all
            "maximum": 0,
            "not": {"enum": [True, False]},
            **bounds,
        }
    )


_NO_LIST = {"minItems": 1, "maxItems": 0}

Outcome = Annotated[
    Annotated[Literal["hold", "rollback", "escalate"], Tag("<word>")]
    | Annotated[Extend, Tag("<extend>")]
    | Annotated[Reschedule, Tag("<reschedule>")],
    Discriminator(
        _which_outcome,
        custom_error_type="outcome",
        custom_error_message="is not an outcome; write hold, rollback, escalate, "
        "{extend: 1h, times: 2, then: hold} or {reschedule: 24h, times: 2, then: hold}",
    ),
    _mixed(
        "^(hold|rollback|escalate)$",
        16,
        **_NO_LIST,
        maxProperties=3,
        anyOf=[{"required": ["extend"]}, {"required": ["reschedule"]}],
    ),
]


class RouteReference(Model):
    """The traffic split: a route of the Gateway API in the launch's namespace."""

    api_version: Literal["gateway.networking.k8s.io/v1"] = "gateway.networking.k8s.io/v1"
    """The route's API version."""
    kind: Literal["HTTPRoute", "GRPCRoute"] = "HTTPRoute"
    """`HTTPRoute` (default) or `GRPCRoute`."""
    name: ObjectName
    """The route's name."""
    rule: Annotated[str, Field(pattern=ONE_LINE_PATTERN, max_length=253)] = ""
    """The name of the one rule to move; by default every rule that holds both backends."""


class Workload(Model):
    """The object whose pods the canary's Service selects."""

    api_version: str = Field(default="apps/v1", pattern=ONE_LINE_PATTERN, max_length=253)
    """Its API version; `apps/v1` by default."""
    kind: str = Field(default="Deployment", pattern=ONE_LINE_PATTERN, max_length=63)
    """Its kind; `Deployment` by default."""
    name: ObjectName
    """Its name."""


class StableBackend(Model):
    """The Service that runs what is proven."""

    name: ObjectName
    """The Service's name, as the route's backendRefs have it."""


class CanaryBackend(Model):
    """The Service that runs the new revision."""

    name: ObjectName
    """The Service's name, as the route's backendRefs have it."""
    workload: Workload | None = None
    """The object behind it, where a change of its pods shall count as a new revision."""


class Target(Model):
    """One traffic split that the launch may move."""

    model_config = _rules(
        (
            "self.stable.name != self.canary.name",
            "stable and canary are the same Service; name the Service of the new revision here",
            "canary",
        )
    )

    name: Name
    """A name for it, unique in the plan; a region, for instance."""
    cluster: Annotated[str, Field(pattern=ONE_LINE_PATTERN, max_length=63)] = ""
    """A cluster of the operator's configuration; empty is the controller's own."""
    prometheus: Annotated[str, Field(pattern=ONE_LINE_PATTERN, max_length=63)] = ""
    """A Prometheus of the operator's configuration, by its name; `default` by default."""
    service: Annotated[str, Field(pattern=ONE_LINE_PATTERN, max_length=253)] = ""
    """The label `service` of its recorded metrics; by default the route's name."""
    route: RouteReference
    """The route whose weights are moved."""
    stable: StableBackend
    """The Service that runs what is proven."""
    canary: CanaryBackend
    """The Service that runs the new revision."""


class RatioMetric(Model):
    """Bad events among all of them, as two counters."""

    bad: Selector
    """The counter of bad events, as a selector: `payments_total{outcome="failed"}`."""
    total: Selector
    """The counter of all events, as a selector: `payments_total`."""


class LatencyMetric(Model):
    """A classic histogram."""

    bucket: Selector
    """Its buckets, as a selector without `le`: `checkout_seconds_bucket`."""
    count: Selector
    """Its count, as a selector: `checkout_seconds_count`."""


class ValueMetric(Model):
    """A value. With its standard error a gate proves it at few planned looks; without, its limit is all that is judged."""

    query: Annotated[str, Field(min_length=1, max_length=4096)]
    """A PromQL expression whose answer is one number."""
    standard_error: Annotated[str, Field(min_length=1, max_length=4096)] = ""
    """A PromQL expression whose answer is the standard error of that number, in the same unit and above 0."""
    unit: Literal["number", "percent", "seconds"] = "number"
    """Of the answer and so of the limits: `percent` answers 5.8 for 5.8%. `number` by default."""


_PLACEHOLDER_RULE = f"matches(r'{PLACEHOLDER_PATTERN}')"
_PLACEHOLDER_ADVICE = "names an unknown placeholder; write one of " + ", ".join(
    f"{{{{{name}}}}}" for name in PLACEHOLDERS
)


class Metric(Model):
    """A metric beyond the built-in ones: exactly one of `ratio`, `latency` and `value`."""

    model_config = _rules(
        (
            f"!(self.name in {list(BUILT_IN_METRICS)})",
            f"is the name of a built-in metric ({', '.join(BUILT_IN_METRICS)}); choose another",
            "name",
        ),
        (
            "[has(self.ratio), has(self.latency), has(self.value)].filter(given, given).size() == 1",
            "a metric is exactly one of ratio, latency and value; write one of them",
        ),
        (
            f"!has(self.ratio) || (self.ratio.bad.{_PLACEHOLDER_RULE} && self.ratio.total.{_PLACEHOLDER_RULE})",
            _PLACEHOLDER_ADVICE,
            "ratio",
        ),
        (
            f"!has(self.latency) || (self.latency.bucket.{_PLACEHOLDER_RULE} && "
            f"self.latency.count.{_PLACEHOLDER_RULE})",
            _PLACEHOLDER_ADVICE,
            "latency",
        ),
        (
            f"!has(self.value) || (self.value.query.{_PLACEHOLDER_RULE} && "
            f"(!has(self.value.standardError) || self.value.standardError.{_PLACEHOLDER_RULE}))",
            _PLACEHOLDER_ADVICE,
            "value",
        ),
    )

    name: Name
    """The name by which guardrails and criteria know it."""
    interval: Interval = 10.0
    """How far apart its instants are, from 1s to 5m; 10s by default."""
    settle: Interval = 10.0
    """How long after an instant its counts may still change (late scrapes), from 1s to 5m; 10s by default."""
    ratio: RatioMetric | None = None
    """Bad events among all of them, as two counters."""
    latency: LatencyMetric | None = None
    """A classic histogram, judged at one of its bucket edges."""
    value: ValueMetric | None = None
    """A value: with its standard error proven at the plan's checkpoints, else judged by its limit for a time."""


class Window(Model):
    """Days and hours in which traffic may be raised."""

    days: tuple[Literal["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"], ...] = Field(min_length=1, max_length=7)
    """Days of the week."""
    from_: Annotated[str, Field(alias="from", pattern=r"^([01][0-9]|2[0-3]):[0-5][0-9]$")]
    """Local time at which it opens, such as 09:00."""
    to: Annotated[str, Field(pattern=r"^([01][0-9]|2[0-3]):[0-5][0-9]$|^24:00$")]
    """Local time at which it closes, such as 18:00."""


class Freeze(Model):
    """A span in which no traffic is raised."""

    name: Name
    """What it is called in reasons."""
    from_: Annotated[Instant, Field(alias="from")]
    """Its first instant."""
    to: Instant
    """Its last instant."""


class Contact(Model):
    """A role that is told."""

    role: Role
    """The role; Alertmanager knows who that is."""
    after: Duration | None = None
    """How long nobody may have answered before this one is told."""


class Approval(Model):
    """Somebody has to agree."""

    role: Role
    """Who is asked."""


class Start(Model):
    """When a phase begins."""

    at: Instant
    """Not before this instant."""


NotReady = Annotated[
    Annotated[Literal["hold"], Tag("<text>")] | Annotated[Reschedule, Tag("<mapping>")],
    Discriminator(_word_or_mapping),
    _mixed("^hold$", 16, **_NO_LIST, maxProperties=3, required=["reschedule"]),
]


class Preflight(Model):
    """Go or no-go, before a phase."""

    opens: Duration | None = None
    """How long before the start the checklist is asked for."""
    checklist: tuple[Name, ...] = Field(default=(), max_length=50)
    """What has to be ticked off."""
    approval: Approval | None = None
    """Who has to agree."""
    on_not_ready: NotReady = "hold"
    """What happens when it is not ready at the start: `hold` (default), or `{reschedule: 24h, times: 2, then: hold}`."""


class Step(Model):
    """One weight, held for a time."""

    weight: Weight
    """The canary's share in percent: 10, or "0.1%"."""
    for_: Annotated[Duration | None, Field(alias="for")] = None
    """How long it is held at least once it is in force; by default as long as the proof takes."""
    approval: Approval | None = None
    """Who has to agree before this step is left."""


class CheckpointAt(Model):
    """A checkpoint with a consequence."""

    at: Duration
    """From the start of the phase."""
    on_fail: Literal["hold", "none"] = "none"
    """What a failed one does; `none` by default."""


Checkpoint = Annotated[
    Annotated[Duration, Tag("<text>")] | Annotated[CheckpointAt, Tag("<mapping>")],
    Discriminator(_word_or_mapping),
    _mixed(DURATION_PATTERN, 32, **_NO_LIST, maxProperties=2, required=["at"]),
]


class MonitoringPeriod(Model):
    """How closely a span is watched."""

    mode: Literal["intensive", "close", "standard"]
    """Each tick, each minute, or each 5 minutes."""
    for_: Annotated[Duration | None, Field(alias="for")] = None
    """How long."""
    until: Instant | None = None
    """Until when."""


Monitoring = Annotated[
    Annotated[Literal["intensive", "close", "standard"], Tag("<text>")]
    | Annotated[tuple[MonitoringPeriod, ...], Field(max_length=20), Tag("<list>")],
    Discriminator(_word_or_list),
    _mixed("^(intensive|close|standard)$", 16, maxItems=20, minProperties=1, maxProperties=0),
]


class Minimum(Model):
    """What has to be seen before a verdict counts."""

    requests: Whole | None = Field(default=None, ge=0, le=10**12)
    """For a pass: so many events; of a bare value, so many samples (3 by default)."""
    bad: Whole | None = Field(default=None, ge=1, le=10**9)
    """For a fail: so many bad events; 3 by default, 1 with `certainty: threshold`."""


_SHARE = (
    "string(self.{0}).matches('^[0-9]+([.][0-9]+)?%$') && double(string(self.{0}).replace('%', '')) > 0.0 && "
    "double(string(self.{0}).replace('%', '')) < 100.0"
)
_CRITERION_RULES = (
    (
        "!has(self.metric) || self.metric != 'errors' || has(self.comparedTo) || "
        "(has(self.below) && !has(self.above) && !has(self.quantile) && " + _SHARE.format("below") + ")",
        "errors needs exactly a limit below, a percentage between 0% and 100%; write below: 1%",
    ),
    (
        "!has(self.metric) || self.metric != 'availability' || "
        "(has(self.above) && !has(self.below) && !has(self.quantile) && " + _SHARE.format("above") + ")",
        "availability needs exactly a limit above, a percentage between 0% and 100%; write above: 99.9%",
    ),
    (
        "!has(self.metric) || self.metric != 'latency' || has(self.comparedTo) || "
        "(has(self.below) && has(self.quantile) && !has(self.above) && string(self.below).matches('[a-z]$'))",
        "latency needs exactly a quantile and a limit below, as a duration; write quantile: 0.99, below: 500ms",
    ),
    (
        "!has(self.metric) || !(self.metric in ['errors', 'latency', 'availability']) || !has(self.__for__) || "
        "(has(self.certainty) && self.certainty == 'threshold')",
        "for belongs to certainty: threshold; remove it, or add certainty: threshold",
        "for",
    ),
)


class Criterion(Model):
    """What both a guardrail and a gate's criterion say about one metric."""

    metric: Name | None = None
    """`errors`, `latency`, `availability`, `uptime`, `restarts`, `holds` (of a gate), or one of the plan's own metrics."""
    below: Limit | None = None
    """The limit that must not be reached: `1%` of requests, `500ms`, or a number for a bare value."""
    above: Limit | None = None
    """The limit that must be exceeded: `99.9%` available, or a number for a bare value."""
    at_most: Annotated[Whole | None, Field(ge=0, le=10**9)] = None
    """The count that may be reached: of restarts, of incidents, of holds."""
    quantile: Annotated[float | None, Field(gt=0, lt=1, strict=True, allow_inf_nan=False)] = None
    """Of a latency: 0.99 for the 99th percentile."""
    compared_to: Literal["stable"] | None = None
    """Compare with the stable track instead of a fixed limit."""
    ratio_below: Annotated[float | None, Field(gt=0, le=1000, strict=True, allow_inf_nan=False)] = None
    """The canary's share divided by the stable one's must stay below this."""
    difference_below: Limit | None = None
    """The canary's share minus the stable one's must stay below this."""
    certainty: Certainty | None = None
    """How sure a verdict must be: 80% to 99.99%, 99% by default; or `threshold`, which only looks at the last `for`."""
    minimum: Minimum | None = None
    """What has to be seen before a verdict counts."""
    for_: Annotated[Duration | None, Field(alias="for")] = None
    """With `certainty: threshold` and of a bare value: how long it must hold; 1m by default."""


class Guardrail(Criterion):
    """A criterion that is judged at every tick."""

    model_config = _rules(
        *_CRITERION_RULES,
        ("has(self.metric)", "names no metric; write metric: errors, for example"),
        (
            "!has(self.metric) || self.metric != 'holds'",
            "holds are counted at a gate; write it under the gate's criteria",
            "metric",
        ),
    )

    on_breach: Literal["rollback", "hold"] = "rollback"
    """What a breach does; `rollback` by default."""
    on_no_data: Literal["hold", "rollback"] = "hold"
    """What a lack of data does; `hold` by default."""
    scope: Literal["launch", "target"] = "launch"
    """What its consequence is for; the whole `launch` by default."""
    enforce: Switch = True
    """False: judged and shown, without consequence."""


class GateCriterion(Criterion):
    """A criterion of a gate: of a metric, of the incidents that were open, or of the phase's guardrails."""

    model_config = _rules(
        *_CRITERION_RULES,
        (
            "[has(self.metric), has(self.incidents), has(self.guardrails)].filter(given, given).size() == 1",
            "a criterion is of one metric, of incidents or of the guardrails; "
            "write metric: errors, incidents: critical or guardrails: pass",
        ),
    )

    incidents: Annotated[str | None, Field(pattern=ONE_LINE_PATTERN, min_length=1, max_length=63)] = None
    """The severity of alerts that count as incidents."""
    matchers: tuple[Annotated[str, Field(max_length=1024)], ...] = Field(default=(), max_length=20)
    """Alertmanager matchers that say which incidents are this launch's."""
    silenced: Literal["undecided", "count", "ignore"] | None = None
    """What an incident is whose alert is silenced: neither one nor none (`undecided`, by default), one, or none."""
    guardrails: Literal["pass"] | None = None
    """`pass`: every guardrail of the phase that is enforced has to pass over the whole phase."""


class Gate(Model):
    """The end of a phase."""

    model_config = _rules(
        ("!(has(self.at) && has(self.after))", "a gate has at or after, not both; remove one of them"),
    )

    at: Instant | None = None
    """When it is judged."""
    after: Duration | None = None
    """When it is judged, from the start of the phase; by default when the last step's time is over."""
    criteria: tuple[GateCriterion, ...] = Field(default=(), max_length=50)
    """What must hold."""
    approval: Approval | None = None
    """Who has to agree, when everything measured has passed."""
    on_pass: Literal["advance"] = "advance"
    """What a pass does: the next phase may begin."""
    on_fail: Outcome = "hold"
    """What a failed criterion does: `hold` (default), `rollback`, `escalate`,
    `{extend: 1h, times: 2, then: hold}` or `{reschedule: 24h, times: 2, then: hold}`."""
    on_undecided: Outcome = "hold"
    """What happens when nothing is proven either way: `hold` (default), `rollback`, `escalate`,
    `{extend: 1h, times: 2, then: hold}` or `{reschedule: 24h, times: 2, then: hold}`."""
    on_no_data: Outcome = "hold"
    """What a lack of data does: `hold` (default), `rollback`, `escalate`,
    `{extend: 1h, times: 2, then: hold}` or `{reschedule: 24h, times: 2, then: hold}`."""


_UNREADABLE = f"!self.steps.all(s, string(s.weight).matches(r'{WEIGHT_PATTERN}'))"  # told at the weight itself
_NUMBERS = "self.steps.map(s, double(string(s.weight).replace('%', '')))"


class Phase(Model):
    """A part of the launch: steps, what is watched meanwhile, and what must hold at its end."""

    model_config = _rules(
        (
            f"!has(self.steps) || {_UNREADABLE} || {_NUMBERS}.isSorted()",
            "a weight falls below the one before it; order the steps by weight (a launch lowers only to retreat)",
            "steps",
        ),
        (
            f"!has(self.steps) || {_UNREADABLE} || {_NUMBERS}.filter(w, w >= 100.0).size() <= 1",
            "nothing comes after 100%; remove the steps behind it",
            "steps",
        ),
        (
            "!has(self.steps) || self.steps.size() == 0 || "
            "(has(self.guardrails) && self.guardrails.exists(g, (!has(g.enforce) || g.enforce) && "
            "(!has(g.metric) || !(g.metric in ['uptime', 'restarts'])))) || "
            "(has(self.gate) && has(self.gate.criteria) && self.gate.criteria.exists(c, !has(c.incidents) && "
            "!has(c.guardrails) && (!has(c.metric) || !(c.metric in ['uptime', 'restarts', 'holds']))))",
            "has steps but nothing that proves them good; "
            "add guardrails, for example guardrails: [{metric: errors, below: 1%}]",
        ),
    )

    name: Name
    """Its name, unique in the plan."""
    start: Start | None = None
    """When it begins; by default when the phase before has passed."""
    end: Instant | None = None
    """When it is planned to end."""
    targets: tuple[Name, ...] | None = Field(
        default=None, min_length=1, max_length=64, json_schema_extra={"x-kubernetes-list-type": "set"}
    )
    """The targets that it moves, in this order; all by default."""
    on_revision: Literal["restart", "continue"] | None = None
    """What a new revision does to it; `restart` by default with steps, `continue` without."""
    preflight: Preflight | None = None
    """Go or no-go."""
    steps: tuple[Step, ...] = Field(default=(), max_length=100)
    """Weights in rising order."""
    deliverables: tuple[Name, ...] = Field(default=(), max_length=50)
    """What has to be ticked off before the gate."""
    checkpoints: tuple[Checkpoint, ...] = Field(default=(), max_length=100)
    """When a scored record is taken, from the start of the phase: `4h`, or `{at: 4h, onFail: hold}`."""
    monitoring: Monitoring = "intensive"
    """How often its gate is judged: `intensive` (default, each tick), `close` (each minute), `standard` (each 5 minutes),
    or a list of spans, such as `[{mode: intensive, for: 24h}, {mode: standard, until: "2025-11-15T00:00:00Z"}]`."""
    guardrails: tuple[Guardrail, ...] = Field(default=(), max_length=50)
    """What is judged at every tick until the next phase has started."""
    gate: Gate | None = None
    """What must hold at its end."""


_SAME_ROUTE = (
    "a.route.name == b.route.name && "
    "(has(a.route.kind) ? a.route.kind : 'HTTPRoute') == (has(b.route.kind) ? b.route.kind : 'HTTPRoute') && "
    "(!has(a.route.rule) || !has(b.route.rule) || a.route.rule == '' || b.route.rule == '' || "
    "a.route.rule == b.route.rule)"
)


class LaunchSpec(Model):
    """What is launched, over which traffic, in which phases."""

    model_config = _rules(
        (
            f"self.targets.all(a, self.targets.exists_one(b, {_SAME_ROUTE}))",
            "two targets move the same rule of one route; name another route, or another rule in each",
            "targets",
        ),
        (
            # a list of one binds the names once; looking through the targets each time costs too much
            "[self.targets.map(t, t.name)].all(names, "
            "self.phases.all(p, !has(p.targets) || p.targets.all(t, t in names)))",
            "a phase names a target that the plan does not have; write one of the names under targets",
            "phases",
        ),
    )

    revision: Annotated[str, Field(pattern=ONE_LINE_PATTERN, min_length=1, max_length=253)]
    """What is being launched, as text: "2025.11.0"."""
    time_zone: Annotated[str, Field(pattern=ZONE_PATTERN, max_length=64)] = "UTC"
    """The IANA time zone of the local times in windows; UTC by default."""
    targets: tuple[Target, ...] = Field(
        min_length=1,
        max_length=64,
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
    )
    """The traffic splits that this launch may move, in the order in which they are raised."""
    metrics: tuple[Metric, ...] = Field(
        default=(),
        max_length=50,
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
    )
    """Metrics beyond errors, latency, availability, uptime and restarts."""
    windows: tuple[Window, ...] = Field(default=(), max_length=50)
    """When traffic may be raised at all; lowering is always allowed."""
    freezes: tuple[Freeze, ...] = Field(default=(), max_length=50)
    """Spans in which no traffic is raised."""
    contacts: tuple[Contact, ...] = Field(default=(), max_length=20)
    """Roles, in the order in which they are told."""
    phases: tuple[Phase, ...] = Field(
        min_length=1,
        max_length=64,
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
    )
    """The parts of the launch, one after the other."""
    default_guardrails: Switch = True
    """False: without the default guardrails of the operator's configuration; true by default."""
    on_success: Literal["keep", "return"] = "keep"
    """Where the traffic stays after success: with the canary (`keep`, default), or back on stable (`return`)."""
    watch_after: Duration = 3600.0
    """How long the last guardrails stay in force after success; 1h by default."""
    version_label: Annotated[str, Field(pattern=LABEL_PATTERN, max_length=316)] = "app.kubernetes.io/version"
    """The label of pods that carries the revision; `onSuccess: return` waits for it on every pod of the stable Service."""
    on_delete: Literal["leave", "reset"] = "leave"
    """What deletion does to the weights: nothing (`leave`, default), or the canary to 0 first (`reset`)."""


Document = Mapping[str, Any]
"""A manifest as YAML or JSON gives it."""

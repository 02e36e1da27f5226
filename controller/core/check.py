"""What is wrong with a metric before a launch stands on it, and what to write instead: from answers to findings."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from math import inf, isclose
from statistics import median
from typing import Literal

from controller.core.evidence import NO_DATA_INTERVALS, NO_DATA_SECONDS, Criterion
from controller.core.faults import listed
from controller.core.matchers import Condition, meets
from controller.core.series import Reading, Series, Unproven
from controller.core.units import format_count, format_duration

Severity = Literal["stops", "weak"]
"""``stops``: the launch would hold for it, or be misled. ``weak``: it works, less well than it looks."""
Role = Literal["bad", "total", "bucket", "count", "value"]
_ERROR = "value.standardError"
COUNTERS: frozenset[Role] = frozenset({"bad", "total", "bucket", "count"})

CANARY, STABLE = "canary", "stable"

COUNTING = frozenset({"rate", "irate", "increase", "resets"})
"""Functions that take their argument for a counter."""
_AVERAGING = frozenset({"avg", "sum", "quantile", "avg_over_time", "sum_over_time", "quantile_over_time"})
_QUANTILE_NAME = re.compile(r"(?:^|[_:])(?:p\d{2,4}|quantiles?|percentiles?)(?:[_:]|$)", re.IGNORECASE)

_FALLS = 2
"""A counter that falls is reset to almost nothing; so many falls to more than half of the value are a gauge's."""
_UPS_AND_DOWNS = 0.2
"""No process restarts in such a share of the scrapes."""
_ENOUGH_EVENTS = 10
_LONGEST_INTERVAL_S = 315.0
"""The longest interval of a metric is 5m; instants of scrapes waver."""
_SHOWN = 6

_LABEL_TRACK = (
    "label the pods of both tracks (track=canary, track=stable) and copy the label to what is scraped from them, "
    "as podTargetLabels: [track] of a PodMonitor does"
)


@dataclass(frozen=True, slots=True)
class Selected:
    """One selector of an expression. ``inside`` is what it stands in, from the outside in: ``("sum", "rate")``."""

    name: str
    conditions: tuple[Condition, ...]
    inside: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.name}{{{','.join(map(str, self.conditions))}}}" if self.conditions else self.name

    @property
    def counted(self) -> bool:
        """Whether it is taken for a counter."""
        return bool(COUNTING & set(self.inside))


@dataclass(frozen=True, slots=True)
class Anatomy:
    """What an expression is made of. ``constants`` are what its ``or`` answers where data are missing: ``vector(0)``."""

    selected: tuple[Selected, ...]
    constants: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Sampled:
    """One stored series: its labels, and its samples (epoch seconds, value), oldest first."""

    labels: Mapping[str, str]
    samples: tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True)
class Found:
    """What a selector found lately.

    ``series`` counts them; ``namespaces`` and ``tracks`` do so by the value of that label (empty: without it). ``edges``
    are the finite upper edges of its buckets, ``sampled`` a few of the series, the newest among them. ``unguarded``
    counts the live ones whose job and instance have neither ``up`` nor ``process_start_time_seconds``.
    """

    series: int = 0
    namespaces: Mapping[str, int] = field(default_factory=dict)
    tracks: Mapping[str, int] = field(default_factory=dict)
    edges: tuple[float, ...] = ()
    sampled: tuple[Sampled, ...] = ()
    unguarded: int = 0


@dataclass(frozen=True, slots=True)
class Missing:
    """Why a selector found nothing.

    ``named`` counts the series of that name anywhere, ``similar`` are other names where there are none. For each
    condition of the selector, in order: ``without`` counts, by the value of its label, the series that meet all other
    conditions; ``alone`` those of the name (left empty where ``without`` says enough). ``examples`` are labels of some.
    """

    named: int = 0
    similar: tuple[str, ...] = ()
    without: tuple[Mapping[str, int], ...] = ()
    alone: tuple[Mapping[str, int], ...] = ()
    examples: tuple[Mapping[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Part:
    """One selector that is asked for a metric. ``stable`` is None where only one track is asked for.

    ``kinds`` is what the scraped targets say that it is; empty where nobody says.
    """

    field: str
    role: Role
    selected: Selected
    canary: Found
    stable: Found | None = None
    missing: Missing | None = None
    kinds: tuple[str, ...] = ()

    @property
    def found(self) -> tuple[Found, ...]:
        """What was found of either track."""
        return (self.canary,) if self.stable is None else (self.canary, self.stable)


@dataclass(frozen=True, slots=True)
class Facts:
    """What Prometheus answered about one metric of one target.

    ``series`` is that of its first criterion; ``canary`` and ``stable`` are what the controller itself would have read.
    ``scraped`` counts the targets that Prometheus scrapes in the namespace, by their track. ``unanswered`` says of
    questions why they got no answer: then there are no ``parts``. ``infos`` are Prometheus's remarks. ``constants`` are
    those of the expression, ``error_constants`` those of its standard error. ``uncounted`` says why no alerting rule can
    raise the incidents of a criterion. ``at`` is epoch seconds.
    """

    target: str
    metric: str
    namespace: str
    service: str
    series: Series
    criteria: tuple[Criterion, ...]
    at: float
    canary: Reading
    stable: Reading | None = None
    parts: tuple[Part, ...] = ()
    constants: tuple[str, ...] = ()
    error_constants: tuple[str, ...] = ()
    scraped: Mapping[str, int] = field(default_factory=dict)
    infos: tuple[str, ...] = ()
    uncounted: tuple[str, ...] = ()
    unanswered: tuple[str, ...] = ()
    namespace_label: str = "namespace"
    track_label: str = "track"

    @property
    def recorded(self) -> bool:
        """Whether it is read from what the operator's rules record."""
        return self.series.kind in ("recorded", "uptime")


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong. ``kind`` is its name for scripts; ``fields`` are of the metric."""

    severity: Severity
    kind: str
    metric: str
    targets: tuple[str, ...]
    fields: tuple[str, ...]
    wrong: str
    write: str

    def __str__(self) -> str:
        where = f"metric {self.metric}" + (f", {listed(self.fields, 'and')}" if self.fields else "")
        noun = "target" if len(self.targets) == 1 else "targets"
        targets = f" ({noun} {listed(self.targets, 'and')})" if any(self.targets) else ""
        return f"{where}{targets}: {self.wrong}; {self.write}"


@dataclass(frozen=True, slots=True)
class Measured:
    """One line of the table. Of each track the series found and the events a minute; None: not asked, or none known.

    ``value`` is the newest of a value, and ``error`` its standard error. ``age`` of the newest sample and ``interval``
    between two are seconds.
    """

    target: str
    metric: str
    series: tuple[int, int | None] | None
    per_minute: tuple[float | None, float | None]
    bad_per_minute: tuple[float | None, float | None]
    value: float | None
    error: float | None
    age: float | None
    interval: float | None
    edges: tuple[float, ...]


def measured(facts: Facts) -> Measured:
    """The numbers of one metric of one target."""
    counts = facts.series.kind not in ("value", "incidents")
    tracks = [_per_minute(reading) if counts else None for reading in (facts.canary, facts.stable)]
    n, x = zip(*(pair or (None, None) for pair in tracks), strict=True)
    counted = [part for role in ("total", "count", "bucket") for part in facts.parts if part.role == role]
    main = counted[0] if counted else None
    series: tuple[int, int | None] | None = None
    if main is not None:
        series = (main.canary.series, None if main.stable is None else main.stable.series)
    elif facts.parts:
        series = (sum(part.canary.series for part in facts.parts), None)
    rows = (*facts.canary.settled, *facts.canary.tail)
    return Measured(
        target=facts.target,
        metric=facts.metric,
        series=series,
        per_minute=(n[0], n[1]),
        bad_per_minute=(x[0], x[1]),
        value=rows[-1].x if rows and facts.series.kind == "value" else None,
        error=rows[-1].n if rows and facts.series.with_error else None,
        age=max(_ages(facts).values(), default=None),
        interval=_interval(facts.parts),
        edges=_edges(facts.parts),
    )


def findings(facts: Sequence[Facts]) -> tuple[Finding, ...]:
    """Everything that is wrong, what stops a launch first; the same thing about several targets is said once."""
    merged: dict[tuple[str, ...], Finding] = {}
    for each in facts:
        for one in _about(each):
            key = (one.severity, one.kind, one.metric, one.wrong, one.write)
            known = merged.get(key, one)
            merged[key] = replace(
                known,
                targets=tuple(dict.fromkeys((*known.targets, *one.targets))),
                fields=tuple(dict.fromkeys((*known.fields, *one.fields))),
            )
    return tuple(sorted(merged.values(), key=lambda finding: finding.severity != "stops"))


def _about(facts: Facts) -> list[Finding]:
    found = [*_parts(facts), *_expression(facts), *_edge_findings(facts), *_time(facts), *_all_bad(facts)]
    found += _uncounted(facts)
    found += _readings(facts, explained=any(finding.severity == "stops" for finding in found))
    found += _remarks(facts, known={finding.kind for finding in found})
    return found


def _uncounted(facts: Facts) -> Iterator[Finding]:
    """What keeps incidents from being counted: nothing that could raise them, or no proof that nothing did."""
    for problem in facts.uncounted:
        write = "write incidents and matchers as the rules label their alerts, or load the rules that raise them"
        yield _finding(facts, "stops", "no-rule", ("matchers",), problem, write)
    reading = facts.canary
    if facts.series.kind != "incidents" or reading.problem:
        return
    proven = (row.at for row in (*reading.settled, *reading.tail) if not isinstance(row, Unproven))
    if facts.at - max(proven, default=0.0) > facts.series.settle + NO_DATA_INTERVALS * facts.series.interval:
        why, _, write = reading.unproven.partition("; ")
        wrong = f"that there is no incident is not proven: {why or 'Prometheus has nothing stored of that time'}"
        yield _finding(facts, "stops", "no-proof", (), wrong, write or "name the Prometheus that evaluates the alerts")


def _remarks(facts: Facts, known: set[str]) -> Iterator[Finding]:
    for info in facts.infos:
        counter = "might not be a counter" in info
        if counter and "gauge" in known:
            continue
        write = "change the expression until it is gone, or leave it where you know better"
        if counter:
            write = "write rate() and increase() of counters only, such as those named ..._total"
        wrong = f"Prometheus remarks: {info.removeprefix('PromQL info: ')}"
        yield _finding(facts, "weak", "remark", () if facts.series.with_error else ("value.query",), wrong, write)


def _finding(facts: Facts, severity: Severity, kind: str, fields: Iterable[str], wrong: str, write: str) -> Finding:
    return Finding(severity, kind, facts.metric, (facts.target,), tuple(filter(None, fields)), wrong, write)


# --- what a selector finds, and does not find


def _parts(facts: Facts) -> Iterator[Finding]:
    for part in facts.parts:
        if part.canary.series == 0:
            # One rule writes both, for one reason both are missing.
            if not (facts.recorded and part.role == "bad" and not _total_found(facts)):
                yield from _absent(facts, part)
        else:
            yield from _fit(facts, part)
        if part.role in COUNTERS or part.selected.counted:
            yield from _kind(facts, part)
            yield from _guard(facts, part)


def _absent(facts: Facts, part: Part) -> Iterator[Finding]:
    """Nothing is there of the canary: which condition is it, and is it a mistake or only too early."""
    missing, name = part.missing, part.selected.name
    if missing is None:
        return
    if not missing.named:
        yield _no_metric(facts, part, missing)
        return
    blamed = _blamed(facts, part, missing)
    if not blamed:
        conditions = ", ".join(map(str, part.selected.conditions))
        yield _finding(
            facts,
            "stops",
            "no-such-series",
            (part.field,),
            f"{name} has {_series(missing.named)}, but none that meets all of {conditions} at once",
            "remove conditions until one is found",
        )
    for condition, values in blamed:
        if condition.label == facts.namespace_label and condition.value == facts.namespace:
            yield _other_namespace(facts, part, values)
        elif condition.label == facts.track_label:
            yield _other_track(facts, part, condition, values)
        else:
            yield _other_label(facts, part, condition, values, missing)


def _blamed(facts: Facts, part: Part, missing: Missing) -> list[tuple[Condition, Mapping[str, int]]]:
    """The conditions that nothing meets, each with the values that its label has instead."""
    single = [(each, values) for each, values in zip(part.selected.conditions, missing.without, strict=False) if values]
    if single:
        return [min(single, key=lambda pair: _doubt(facts, part, *pair))]
    alone = [
        (each, values)
        for each, values in zip(part.selected.conditions, missing.alone, strict=False)
        if not any(meets(each, value) for value in values)
    ]
    # What other namespaces have says nothing about the rest.
    return [pair for pair in alone if pair[0].label == facts.namespace_label] or alone


def _doubt(facts: Facts, part: Part, condition: Condition, values: Mapping[str, int]) -> int:
    """Where any one of several conditions might go: the lower, the likelier it is this one that is wrong."""
    if condition.label == facts.track_label:
        return 0  # all others are met together, by the other track
    if condition.label == facts.namespace_label:
        return 1
    if any(
        other.role == "total" and other.canary.series and condition in other.selected.conditions
        for other in facts.parts
        if other is not part
    ):
        return 5  # what all events meet
    if not _values(values):
        return 2
    return 3 if difflib.get_close_matches(condition.value, _values(values), n=1, cutoff=0.75) else 4


def _no_metric(facts: Facts, part: Part, missing: Missing) -> Finding:
    name = part.selected.name or str(part.selected)
    near = difflib.get_close_matches(name, missing.similar, n=3, cutoff=0.6)
    if facts.recorded:
        wrong = f"Prometheus has no series {name}"
        write = "load the file of rules/ that fits your metrics, and see rules/README.md for what it needs"
        other = re.search(r":delta(\d+m?s)$", near[0]) if near else None
        if other and near[0].partition(":delta")[0] == name.partition(":delta")[0]:
            wrong += f"; its rules record {near[0]}"
            write = f"run the controller with --recorded-interval {other[1]}, or write the rules for {name.rpartition('delta')[2]}"
        return _finding(facts, "stops", "no-metric", (part.field,), wrong, write)
    write = f"write {listed(near)}" if near else "check the name, and that its target is scraped"
    if part.role == "bad" and not near:
        write = f"check the name; if failures have their own counter, export {name} at 0 from the start"
    return _finding(facts, "stops", "no-metric", (part.field,), f"Prometheus has no series {name}", write)


def _other_namespace(facts: Facts, part: Part, values: Mapping[str, int]) -> Finding:
    name, others = part.selected.name, _values(values)
    if not others:
        wrong = f"{name} has no label {facts.namespace_label}, so that nothing ties it to namespace {facts.namespace}"
        write = f"add the label {facts.namespace_label} where it is scraped, or run the controller with --unconfined-queries"
        return _finding(facts, "stops", "no-namespace-label", (part.field,), wrong, write)
    return _finding(
        facts,
        "stops",
        "other-namespace",
        (part.field,),
        f"{name} has series in namespace {_shown(values)} and none in {facts.namespace}, where the launch is",
        f"move the launch to namespace {others[0]}, or let the metric carry {facts.namespace_label}={facts.namespace}",
    )


def _other_track(facts: Facts, part: Part, condition: Condition, values: Mapping[str, int]) -> Finding:
    name, track = part.selected.name, facts.track_label
    others = [value for value in _values(values) if value != STABLE]
    if not _values(values):
        return _finding(
            facts,
            "stops",
            "no-track-label",
            (part.field,),
            f"{name} has no label {track}, so that canary and stable cannot be told apart",
            _LABEL_TRACK,
        )
    if part.role == "bad" and STABLE in values and _total_found(facts):
        return _no_zero(facts, part, f"only {STABLE} has series of {name} that count as bad")
    wrong = f"{name} has series of {track} {_shown(values)} only, none that meets {condition}"
    if others:
        return _finding(
            facts,
            "stops",
            "stable-only",
            (part.field,),
            wrong,
            f"label the canary's pods {track}={CANARY} instead of {track}={others[0]}",
        )
    labelled = {value: count for value, count in facts.scraped.items() if value}
    if labelled and CANARY not in labelled:
        wrong += f"; Prometheus scrapes no target of namespace {facts.namespace} with {track}={CANARY}"
        return _finding(
            facts, "stops", "stable-only", (part.field,), wrong, f"start the canary's pods, and {_LABEL_TRACK}"
        )
    return _finding(
        facts,
        "weak",
        "stable-only",
        (part.field,),
        wrong,
        f"look again once the canary has traffic; if it stays so, {_LABEL_TRACK}",
    )


def _other_label(
    facts: Facts, part: Part, condition: Condition, values: Mapping[str, int], missing: Missing
) -> Finding:
    name, label = part.selected.name, condition.label
    if not _values(values):
        known = sorted({known for labels in missing.examples for known in labels} - {"__name__", label})
        near = difflib.get_close_matches(label, known, n=1, cutoff=0.6)
        bearing = [key for labels in missing.examples for key, value in labels.items() if value == condition.value]
        guessed = (near or bearing or [""])[0]
        write = f"write {condition._replace(label=guessed)}"
        if not guessed:
            write = f"write one of its labels: {', '.join(known)}"
        wrong = f"{name} has no label {label}, so that {condition} finds nothing"
        return _finding(facts, "stops", "unknown-label", (part.field,), wrong, write)
    near = difflib.get_close_matches(condition.value, _values(values), n=1, cutoff=0.75)
    wrong = f"no series of {name} meets {condition}; its {label} is {_shown(values)}"
    born_later = (part.role == "bad" and _total_found(facts)) or (part.role == "value" and bool(facts.canary.settled))
    if born_later and (not near or "~" in condition.operator):
        return _no_zero(facts, part, wrong)
    right = near or _values(values)[:1]
    write = f"write {condition._replace(operator='=', value=right[0])}"
    if condition.value == facts.service and label == "service":
        write = f"write service: {right[0]} in target {facts.target}"
    return _finding(facts, "stops", "unknown-value", (part.field,), wrong, write)


def _no_zero(facts: Facts, part: Part, wrong: str) -> Finding:
    write = (
        "check that this is how failures are counted, and export the series at 0 from the start "
        "(touch each combination of labels once when the process begins)"
    )
    severity: Severity = "weak"
    if any(found.unguarded for other in facts.parts for found in other.found):
        severity = "stops"
        wrong += (
            "; born with its first failure, that one would not be counted: nothing proves that its process is young"
        )
    return _finding(facts, severity, "no-zero-series", (part.field,), wrong, write)


def _total_found(facts: Facts) -> bool:
    return any(part.role == "total" and part.canary.series for part in facts.parts)


def _fit(facts: Facts, part: Part) -> Iterator[Finding]:
    """Something is there: is it of this launch's namespace and of one track."""
    found, name = part.canary, part.selected.name
    labels = {condition.label for condition in part.selected.conditions}
    foreign = {value: count for value, count in found.namespaces.items() if value not in ("", facts.namespace)}
    if foreign and facts.namespace_label not in labels:
        wrong = f"{name} is taken from namespace {_shown(found.namespaces)}; the launch is in {facts.namespace}"
        write = f'write {facts.namespace_label}="{{{{namespace}}}}" among its conditions'
        yield _finding(facts, "stops", "other-namespace", (part.field,), wrong, write)
    if facts.track_label not in labels and not facts.recorded:
        yield from _unsplit(facts, part)
    for condition in part.selected.conditions:
        if "!" in condition.operator and not any(condition.label in each.labels for each in found.sampled):
            known = sorted({label for each in found.sampled for label in each.labels} - {"__name__"})
            near = difflib.get_close_matches(condition.label, known, n=1, cutoff=0.6)
            if known:
                wrong = f"{name} has no label {condition.label}, so that {condition} lets everything through"
                write = f"write {condition._replace(label=near[0])}" if near else f"write one of {', '.join(known)}"
                yield _finding(facts, "stops" if near else "weak", "unknown-label", (part.field,), wrong, write)
    if (
        part.stable is not None
        and part.stable.series == 0
        and (part.role in ("total", "count") or (part.role == "bucket" and facts.recorded))
    ):
        wrong = f"{name} has series of the canary and none of stable; the first raise waits for fresh data of stable"
        yield _finding(facts, "stops", "canary-only", (part.field,), wrong, _LABEL_TRACK)


def _unsplit(facts: Facts, part: Part) -> Iterator[Finding]:
    """A selector without a condition on the track."""
    tracks = {value: count for value, count in part.canary.tracks.items() if value}
    name, track = part.selected.name, facts.track_label
    both = f'{track}=~"{CANARY}|{STABLE}"'
    if not tracks:
        if part.role in COUNTERS or part.selected.counted:
            severity: Severity = "stops" if part.role in COUNTERS else "weak"
            wrong = f"{name} has no label {track}, so that canary and stable cannot be told apart"
            yield _finding(facts, severity, "no-track-label", (part.field,), wrong, _LABEL_TRACK)
        return
    write = f'write {track}="{{{{track}}}}" among its conditions'
    if part.role == "value":
        write += f", or {both} where both are meant"
    if len(tracks) > 1:
        wrong = f"{name} is taken of both tracks ({_shown(tracks)}): what the canary does drowns in what stable does"
        yield _finding(facts, "stops", "both-tracks", (part.field,), wrong, write)
    elif CANARY not in tracks:
        wrong = f"{name} is taken of {track} {_shown(tracks)} only: the canary is not in it"
        yield _finding(facts, "stops", "stable-only", (part.field,), wrong, write)


def _kind(facts: Facts, part: Part) -> Iterator[Finding]:
    """A gauge where a counter is expected."""
    if facts.recorded:
        return
    name = part.selected.name
    says = ""
    if "gauge" in part.kinds and "counter" not in part.kinds:
        says = "its target says that it is a gauge"
    else:
        for sampled in (each for found in part.found for each in found.sampled):
            if words := _gauge_like([value for _, value in sampled.samples]):
                says = words
                break
    if says:
        write = f"write a counter, such as one named ..._total; to judge the gauge itself, value: {{query: '{name}'}}"
        if part.role == "value":
            write = f"write {name} without {listed(sorted(COUNTING & set(part.selected.inside)))}"
        wrong = f"{name} is no counter: {says}; each fall would be taken for a restart and what is left for events"
        yield _finding(facts, "stops", "gauge", (part.field,), wrong, write)


def _gauge_like(values: Sequence[float]) -> str:
    """How a course of values shows that it is no counter's; empty: it may be one."""
    if any(value < 0 for value in values):
        return "it is below 0"
    falls = [(before, after) for before, after in pairwise(values) if after < before]
    slight = [pair for pair in falls if pair[1] > pair[0] / 2]
    if len(slight) >= _FALLS:
        return f"it fell {len(slight)} times, as from {slight[0][0]:g} to {slight[0][1]:g}"
    if len(falls) > 2 * _FALLS and len(falls) > _UPS_AND_DOWNS * len(values):
        return f"it fell {len(falls)} times in {len(values)} samples"
    return ""


def _guard(facts: Facts, part: Part) -> Iterator[Finding]:
    if facts.recorded or part.role not in COUNTERS:
        return
    unguarded = sum(found.unguarded for found in part.found)
    if unguarded:
        yield _finding(
            facts,
            "weak",
            "no-process",
            (part.field,),
            f"{_series(unguarded)} of {part.selected.name} have neither up nor process_start_time_seconds for their job "
            "and instance: the first value of a new series, and what follows a restart, are not counted",
            "let Prometheus scrape the pods themselves, or export every series at 0 from the start",
        )


# --- what an expression is made of


def _expression(facts: Facts) -> Iterator[Finding]:
    for name, constants in (("value.query", facts.constants), (_ERROR, facts.error_constants)):
        for constant in constants:
            wrong = f"where data are missing it answers {constant}: no data would look like a good value"
            write = f"remove or {constant}; no data is then told as such"
            yield _finding(facts, "stops", "constant", (name,), wrong, write)
    if facts.series.with_error and facts.parts and not any(part.field == _ERROR for part in facts.parts):
        wrong = "it asks for no series: whatever happens, the value is thought to be as sure as that number says"
        write = "write an expression of what was measured, such as the estimate's own standard error"
        yield _finding(facts, "weak", "constant", (_ERROR,), wrong, write)
    known = not facts.unanswered and not facts.canary.problem
    if facts.series.kind == "value" and known and not facts.parts and not facts.constants:
        wrong = "it asks for no series at all: its answer can never change"
        write = "write an expression of a metric, such as sum(queue_length)"
        yield _finding(facts, "stops", "constant", ("value.query",), wrong, write)
    for part in facts.parts:
        if part.role == "value":
            yield from _averaged(facts, part)
            yield from _saturated(facts, part)


def _averaged(facts: Facts, part: Part) -> Iterator[Finding]:
    inside, name = part.selected.inside, part.selected.name
    outer = inside
    if "histogram_quantile" in inside:
        outer = inside[: inside.index("histogram_quantile")]
    elif not _is_quantile(part):
        return
    by = next((word for word in outer if word in _AVERAGING), "")
    if by:
        base = name.removesuffix("_bucket") if name.endswith("_bucket") else re.sub(r"[:_]p\d+$", "", name)
        yield _finding(
            facts,
            "stops",
            "averaged-quantile",
            (part.field,),
            f"{by} over quantiles is no quantile: a pod with ten requests weighs as much as one with a million",
            f"write latency: {{bucket: {base}_bucket, count: {base}_count}} instead of value, and in the criterion "
            "quantile: 0.99, below: 500ms",
        )


def _is_quantile(part: Part) -> bool:
    if any(condition.label == "quantile" for condition in part.selected.conditions):
        return True
    by_label = any("quantile" in each.labels for found in part.found for each in found.sampled)
    return by_label or _QUANTILE_NAME.search(part.selected.name) is not None


def _saturated(facts: Facts, part: Part) -> Iterator[Finding]:
    """A quantile interpolated from buckets is never above the highest finite edge."""
    if "histogram_quantile" not in part.selected.inside or part.canary.series == 0 or "le" not in _labels(part):
        return
    edges = part.canary.edges
    base = part.selected.name.removesuffix("_bucket")
    write = (
        f"give {base} buckets around the limit, and write latency: {{bucket: {base}_bucket, count: {base}_count}} "
        "instead of value"
    )
    if len(edges) <= 1:
        what = f"one bucket, {_edge(edges[0])}" if edges else "no bucket but +Inf"
        wrong = f"{part.selected.name} has {what}: every quantile of it is made up"
        yield _finding(facts, "stops", "one-bucket", (part.field,), wrong, write)
        return
    limits = [criterion for criterion in facts.criteria if criterion.side == "below" and criterion.limit > edges[-1]]
    if limits and part.selected.inside[0] == "histogram_quantile":
        wrong = (
            f"the highest bucket of {part.selected.name} is {edges[-1]:g}, and no quantile of it is ever above; "
            f"{limits[0].key} could never fail"
        )
        yield _finding(facts, "stops", "one-bucket", (part.field,), wrong, write)


def _labels(part: Part) -> set[str]:
    return {label for found in part.found for each in found.sampled for label in each.labels}


def _edge_findings(facts: Facts) -> Iterator[Finding]:
    """A latency's limit must be one of the histogram's edges."""
    for part in facts.parts:
        if part.role != "bucket":
            continue
        found = [each for each in part.found if each.series]
        if not found:
            continue
        edges, name = found[0].edges, part.selected.name
        if len({each.edges for each in found}) > 1:
            wrong = f"canary and stable have different buckets of {name}"
            yield _finding(facts, "weak", "edges-differ", (part.field,), wrong, "give both the same buckets")
        also = " and to the recording rules" if facts.recorded else ""
        if not edges:
            limits = listed(dict.fromkeys(_edge(criterion.series.edge) for criterion in facts.criteria), "and")
            wrong = f"{name} has no bucket but +Inf: nothing tells the slow from the fast"
            yield _finding(
                facts, "stops", "one-bucket", (part.field,), wrong, f"add the bucket {limits} to the histogram{also}"
            )
            continue
        for criterion in facts.criteria:
            limit = criterion.series.edge
            if any(isclose(limit, edge, rel_tol=1e-9) for edge in edges):
                continue
            near = [edge for edge in (_below(edges, limit), _above(edges, limit)) if edge is not None]
            advice = listed(f"below: {_edge(edge)}" for edge in near)
            few = len(edges) == 1 and not facts.recorded
            kind = "one-bucket" if few else "no-such-edge"
            has = f"one bucket, {_edge(edges[0])}" if few else f"the edges {', '.join(map(_edge, edges))}"
            wrong = f"{_edge(limit)} of {criterion.key} is no edge of {name}, which has {has}"
            write = f"write {advice}, or add the bucket {_edge(limit)} to the histogram{also}"
            yield _finding(facts, "stops", kind, (part.field,), wrong, write)


def _below(edges: Sequence[float], limit: float) -> float | None:
    return max((edge for edge in edges if edge < limit), default=None)


def _above(edges: Sequence[float], limit: float) -> float | None:
    return min((edge for edge in edges if edge > limit), default=None)


# --- time, and what the controller itself would read


def _time(facts: Facts) -> Iterator[Finding]:
    series = facts.series
    interval = _interval(facts.parts)
    patience = series.settle + max(NO_DATA_SECONDS, NO_DATA_INTERVALS * series.interval)
    old = {track: age for track, age in _ages(facts).items() if age > max(patience, 3 * (interval or 0.0))}
    if old:
        of = "" if facts.stable is None else f" of {listed(old, 'and')}"
        wrong = f"its newest sample{of} is {format_duration(max(old.values()))} old"
        write = "check that its pods still run and that their scrapes succeed (up)"
        if facts.recorded:
            write = "check that the group of rules is evaluated, and that what it records from is scraped"
        yield _finding(facts, "stops", "stale", (), wrong, write)
    if interval is None or old:
        return
    each = format_duration(interval)
    if facts.recorded:
        if interval > patience:
            wrong = f"a row comes only each {each}: between two of them there is no data"
            write = "scrape what the rules record from each 15s"
            yield _finding(facts, "stops", "slow-scrape", (), wrong, write)
        return
    # A look takes one sample, however often it was counted.
    longest = min((criterion.window for criterion in facts.criteria if not criterion.looks), default=inf)
    intervals = (choice for choice in (15, 30, 60, 120, 180, 240, 300) if choice >= interval * 0.95)
    own = format_duration(next(intervals, 0)) if interval <= _LONGEST_INTERVAL_S else ""
    if facts.series.kind == "value":
        if interval > longest:
            wrong = (
                f"it is scraped each {each}; {format_duration(longest)} of it is one sample, counted again and again"
            )
            write = f"scrape each 15s, or write for: {format_duration(5 * interval)} in its criterion"
            yield _finding(facts, "stops", "slow-scrape", (), wrong, write)
    elif interval > patience:
        wrong = f"it is scraped each {each}: between two scrapes there is no data"
        write = "scrape each 15s" + (f", or write interval: {own}" if own else "")
        yield _finding(facts, "stops", "slow-scrape", (), wrong, write)
    elif interval > 1.6 * series.interval and own:
        wrong = (
            f"it is scraped each {each} and asked each {format_duration(series.interval)}: most instants have no row, "
            "and what a pod does after its last scrape is lost"
        )
        yield _finding(facts, "weak", "slow-scrape", (), wrong, f"scrape each 15s or faster, or write interval: {own}")


def _readings(facts: Facts, *, explained: bool) -> Iterator[Finding]:
    """What the controller's own reading says, where nothing else has explained it."""
    if facts.unanswered:
        wrong = f"not everything could be asked: {facts.unanswered[0]}"
        yield _finding(facts, "weak", "unanswered", (), wrong, "ask again when Prometheus has less to do")
    if explained or facts.unanswered:
        return
    for track, reading in ((CANARY, facts.canary), (STABLE, facts.stable)):
        if reading is None:
            continue
        who = "" if facts.stable is None else f" of {track}"
        if reading.problem:
            wrong = f"the controller would have no data{who}: {reading.problem}"
            names, write = tuple[str, ...](), "change the metric until it is read"
            if facts.series.with_error and "standard error" in reading.problem:
                names, write = (_ERROR,), "write an expression that is above 0 wherever value.query has an answer"
            yield _finding(facts, "stops", "unusable", names, wrong, write)
        elif not reading.settled and _expects_rows(facts, track):
            wrong = f"the controller would have no data{who}, although there are series"
            write = "compare the interval of the metric with that of its scrapes"
            yield _finding(facts, "stops", "no-rows", (), wrong, write)
            return


def _expects_rows(facts: Facts, track: str) -> bool:
    found = [part.canary if track == CANARY else part.stable for part in facts.parts if part.role != "bad"]
    return bool(found) and all(each is not None and each.series for each in found)


def _all_bad(facts: Facts) -> Iterator[Finding]:
    for reading in (facts.stable, facts.canary):
        if facts.series.kind != "ratio" or reading is None:
            continue
        n, x = sum(row.n for row in reading.settled), sum(row.x for row in reading.settled)
        if n >= _ENOUGH_EVENTS and x == n:
            wrong = f"all {format_count(n)} events are bad, of {STABLE if reading is facts.stable else CANARY}"
            write = "let ratio.bad select the failed ones only"
            yield _finding(facts, "stops", "all-bad", ("ratio.bad",), wrong, write)
            return


# --- numbers


def _per_minute(reading: Reading | None) -> tuple[float, float] | None:
    """All and bad events a minute; None where there is no row."""
    if reading is None or not reading.settled or reading.through <= reading.after:
        return None
    minutes = (reading.through - reading.after) / 60
    return sum(row.n for row in reading.settled) / minutes, sum(row.x for row in reading.settled) / minutes


def _all_sampled(parts: Iterable[Part]) -> Iterator[Sampled]:
    return (each for part in parts for found in part.found for each in found.sampled)


def _ages(facts: Facts) -> dict[str, float]:
    """Seconds since the newest sample, by track; of several parts the oldest counts. Bad series may rest."""
    ages: dict[str, float] = {}
    for part in facts.parts:
        for track, found in zip((CANARY, STABLE), part.found, strict=False):
            newest = max((each.samples[-1][0] for each in found.sampled if each.samples), default=None)
            if newest is not None and part.role != "bad":
                ages[track] = max(ages.get(track, 0.0), facts.at - newest)
    return ages


def _interval(parts: Iterable[Part]) -> float | None:
    """Seconds between two samples, as their instants show it."""
    gaps = [
        median(later - earlier for (earlier, _), (later, _) in pairwise(each.samples))
        for each in _all_sampled(parts)
        if len(each.samples) >= 3
    ]
    return median(gaps) if gaps else None


def _edges(parts: Iterable[Part]) -> tuple[float, ...]:
    return tuple(sorted({edge for part in parts for found in part.found for edge in found.edges}))


def _edge(seconds: float) -> str:
    return format_duration(seconds) if seconds >= 0.001 else f"{seconds:g}s"


def _series(count: int) -> str:
    return f"{format_count(count)} series"


def _values(values: Mapping[str, int]) -> list[str]:
    """The values, the most frequent first; not the lack of one."""
    return sorted((value for value in values if value), key=lambda value: (-values[value], value))


def _shown(values: Mapping[str, int]) -> str:
    names = _values(values)
    more = ["..."] if len(names) > _SHOWN else []
    return listed([*names[:_SHOWN], *more], "and") if names else "nowhere"

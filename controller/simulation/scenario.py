"""What the world does in a simulation, as typed values; every fault at once, each with its path.

Times are offsets from the launch's first start (``90m``), or instants. What a row does not say stays as it was.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from math import inf, isfinite
from typing import Any, Generic, Literal, TypeVar, cast

from controller.core.faults import Fault, Place, listed, path_text, shown
from controller.core.plan import Plan
from controller.core.units import format_duration, parse_duration, parse_instant, parse_percent
from controller.core.wording import unknown_field

T = TypeVar("T")

VERBS = ("hold", "rollback", "approve", "done", "advance", "reschedule", "retry", "ack")
_SAID = ("by", "reason", "until", "id")
_PER = {"s": 1.0, "m": 60.0, "h": 3600.0}
_MOST_ROWS = 10_000
_LATENCIES = ("latency",)


class InvalidScenarioError(Exception):
    """A scenario with faults; all of them."""

    def __init__(self, faults: tuple[Fault, ...]) -> None:
        super().__init__("; ".join(map(str, faults)))
        self.faults = faults


@dataclass(frozen=True, slots=True)
class Moment:
    """Seconds since the launch's first start, or (``fixed``) since the epoch."""

    seconds: float
    fixed: bool = False

    def at(self, start: float) -> float:
        """Epoch seconds, for a launch whose first start is at ``start``."""
        return self.seconds if self.fixed else start + self.seconds


@dataclass(frozen=True, slots=True)
class Row(Generic[T]):
    """From then on it is this."""

    since: Moment
    value: T


Course = tuple[Row[T], ...]
"""How something changes; before its first row it is as in that row."""


@dataclass(frozen=True, slots=True)
class TrackCourse:
    """One track's requests: the share that fails, the share slower than each edge (seconds); and its pods.

    ``ready`` is the number of ready endpoints, and ``restarts`` how often its pods have restarted so far. ``version``
    is the revision that the pods carry in their label, and ``template`` identifies their pod template.
    """

    errors: Course[float] = ()
    slow: Mapping[float, Course[float]] = field(default_factory=dict)
    ready: Course[int] = ()
    restarts: Course[int] = ()
    version: Course[str] = ()
    template: Course[str] = ()

    def over(self, other: TrackCourse) -> TrackCourse:
        """The same, with what this one does not say taken from ``other``."""
        return TrackCourse(
            errors=self.errors or other.errors,
            slow={**other.slow, **self.slow},
            ready=self.ready or other.ready,
            restarts=self.restarts or other.restarts,
            version=self.version or other.version,
            template=self.template or other.template,
        )


@dataclass(frozen=True, slots=True)
class TargetCourse:
    """One target: all of its requests per second, both tracks, and its other metrics (None: no data).

    ``spreads`` are the standard errors of those metrics that have one.
    """

    requests: Course[float] = ()
    stable: TrackCourse = TrackCourse()
    canary: TrackCourse = TrackCourse()
    metrics: Mapping[str, Course[float | None]] = field(default_factory=dict)
    spreads: Mapping[str, Course[float]] = field(default_factory=dict)

    def over(self, other: TargetCourse) -> TargetCourse:
        """The same, with what this one does not say taken from ``other``."""
        return TargetCourse(
            requests=self.requests or other.requests,
            stable=self.stable.over(other.stable),
            canary=self.canary.over(other.canary),
            metrics={**other.metrics, **self.metrics},
            spreads={**other.spreads, **self.spreads},
        )


@dataclass(frozen=True, slots=True)
class Incident:
    """An alert that fires for ``lasts`` seconds."""

    begins: Moment
    lasts: float
    severity: str
    labels: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Outage:
    """Something that is not there for ``lasts`` seconds."""

    what: Literal["prometheus", "alertmanager", "controller"]
    begins: Moment
    lasts: float


@dataclass(frozen=True, slots=True)
class Deed:
    """What a person does: sets annotations (None removes one), or merges ``edit`` into the plan's spec."""

    at: Moment
    annotations: Mapping[str, str | None]
    edit: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Scenario:
    """All that the world does. ``begins`` is when the Launch is created, if that is said, and ``ends`` when nobody looks
    any more (both epoch seconds).

    ``targets`` holds every target of the plan, and ``general`` is what any other would be like.
    """

    seed: int
    begins: float | None
    ends: float | None
    general: TargetCourse
    targets: Mapping[str, TargetCourse]
    incidents: tuple[Incident, ...]
    outages: tuple[Outage, ...]
    people: tuple[Deed, ...]

    def moments(self) -> Iterator[Moment]:
        """When anything changes."""
        for target in (self.general, *self.targets.values()):
            courses: list[Course[Any]] = [target.requests, *target.metrics.values(), *target.spreads.values()]
            for track in (target.stable, target.canary):
                courses += [track.errors, *track.slow.values(), track.ready, track.restarts]
                courses += [track.version, track.template]
            for course in courses:
                yield from (row.since for row in course)
        spans: list[Incident | Outage] = [*self.incidents, *self.outages]
        for span in spans:
            yield span.begins
            yield Moment(span.begins.seconds + span.lasts, span.begins.fixed)
        yield from (deed.at for deed in self.people)


def read_scenario(document: Any, plan: Plan) -> Scenario:
    """The scenario of a document for this plan.

    Raises:
        InvalidScenarioError: with every fault of the document, and of what the plan asks for and it does not say.
    """
    reader = _Reader()
    scenario = reader.scenario(document, plan)
    if reader.faults:
        raise InvalidScenarioError(tuple(dict.fromkeys(reader.faults)))
    return scenario


class _Reader:
    """Reads on after a fault, with something harmless in the place of what is wrong."""

    def __init__(self) -> None:
        self.faults: list[Fault] = []

    def wrong(self, place: Place, message: str) -> None:
        self.faults.append(Fault(path_text(place) or "scenario", message))

    def scenario(self, document: Any, plan: Plan) -> Scenario:
        fields = (
            *("seed", "begins", "ends", "requests", "stable", "canary"),
            *("targets", "metrics", "incidents", "outages", "people"),
        )
        said = self.mapping(document, (), fields, "seed, requests, stable and canary")
        general = self.target(said, ())
        places = {name: self.target(value, ("targets", name)) for name, value in self.targets(said, plan)}
        for name in (target.name for target in plan.targets):
            places[name] = places.get(name, TargetCourse()).over(general)
        scenario = Scenario(
            seed=self.whole(said.get("seed", 0), ("seed",), "seed: 7"),
            begins=self.instant(said["begins"], ("begins",)) if "begins" in said else None,
            ends=self.instant(said["ends"], ("ends",)) if "ends" in said else None,
            general=general,
            targets=places,
            incidents=tuple(self.incident(*item) for item in self.rows(said.get("incidents"), ("incidents",))),
            outages=tuple(self.outage(*item) for item in self.rows(said.get("outages"), ("outages",))),
            people=tuple(self.deed(*item) for item in self.rows(said.get("people"), ("people",))),
        )
        if not self.faults:
            self.unsaid(scenario, plan)
        return scenario

    def targets(self, said: Mapping[str, Any], plan: Plan) -> Iterator[tuple[str, Mapping[str, Any]]]:
        names = tuple(target.name for target in plan.targets)
        for name, value in self.mapping(said.get("targets", {}), ("targets",), None, f"{names[0]}: ...").items():
            if name not in names:
                self.wrong(("targets", name), f"there is no target {shown(name)} in the plan; write {listed(names)}")
            else:
                fields = ("requests", "stable", "canary", "metrics")
                yield name, self.mapping(value, ("targets", name), fields, "requests, stable, canary or metrics")

    def target(self, said: Mapping[str, Any], place: Place) -> TargetCourse:
        metrics = self.mapping(said.get("metrics", {}), (*place, "metrics"), None, "the plan's metrics by name")
        read = {name: self.metric(value, (*place, "metrics", name)) for name, value in metrics.items()}
        return TargetCourse(
            requests=self.course(said.get("requests"), (*place, "requests"), self.rate),
            stable=self.track(said.get("stable"), (*place, "stable")),
            canary=self.track(said.get("canary"), (*place, "canary")),
            metrics={name: values for name, (values, _) in read.items()},
            spreads={name: spread for name, (_, spread) in read.items() if spread},
        )

    def metric(self, said: Any, place: Place) -> tuple[Course[float | None], Course[float]]:
        """A value for all time, or rows of ``{from, value}``; with ``error``, its standard error from then on."""
        if isinstance(said, Mapping):
            said = [{"from": "0s", **said}]
        if not isinstance(said, list | tuple):
            return self.course(said, place, self.value), ()
        rows: list[Row[float | None]] = []
        spread: list[Row[float]] = []
        for value, here in self.rows(said, place):
            row = self.mapping(value, here, ("from", "value", "error"), "{from: 0s, value: ...}")
            since = self.moment(row.get("from"), (*here, "from"))
            if "value" in row:
                rows.append(Row(since, self.value(row["value"], (*here, "value"))))
            elif "error" not in row:
                self.wrong((*here, "value"), "is missing; write what it is from then on")
            if "error" in row:
                spread.append(Row(since, self.error(row["error"], (*here, "error"))))
        if said and not rows and not self.faults:
            self.wrong(place, "says no value; write {from: 0s, value: 6.1, error: 0.2}")
        return self.ordered(rows, place), self.ordered(spread, place)

    def track(self, said: Any, place: Place) -> TrackCourse:
        """One mapping for all time, or rows; what a row does not say stays as it was."""
        if said is None:
            return TrackCourse()
        many = isinstance(said, list | tuple)
        rows = self.rows(said, place) if many else [(said, place)]
        errors: list[Row[float]] = []
        slow: dict[float, list[Row[float]]] = {}
        counted: dict[str, list[Row[int]]] = {"ready": [], "restarts": []}
        named: dict[str, list[Row[str]]] = {"version": [], "template": []}
        fields = ("errors", "slow", *counted, *named)
        for value, here in rows:
            row = self.mapping(value, here, ("from", *fields) if many else fields, "{from: 0s, errors: 0.1%}")
            since = self.moment(row.get("from"), (*here, "from")) if many else Moment(0.0)
            if "errors" in row:
                errors.append(Row(since, self.share(row["errors"], (*here, "errors"))))
            for name, numbers in counted.items():
                if name in row:
                    numbers.append(Row(since, self.whole(row[name], (*here, name), f"{name}: 3")))
            for name, texts in named.items():
                if name in row:
                    texts.append(Row(since, self.text(row[name], (*here, name), f'{name}: "2025.11.1"')))
            shares = self.mapping(row.get("slow", {}), (*here, "slow"), None, "{200ms: 0.4%}")
            for edge, share in shares.items():
                there = (*here, "slow", edge)
                slow.setdefault(self.duration(edge, there), []).append(Row(since, self.share(share, there)))
        return TrackCourse(
            errors=self.ordered(errors, place),
            slow={edge: self.ordered(shares, place) for edge, shares in sorted(slow.items())},
            ready=self.ordered(counted["ready"], place),
            restarts=self.ordered(counted["restarts"], place),
            version=self.ordered(named["version"], place),
            template=self.ordered(named["template"], place),
        )

    def course(self, said: Any, place: Place, read: Callable[[Any, Place], T]) -> Course[T]:
        """One value for all time, or rows of ``{from, value}``."""
        if said is None:
            return ()
        if not isinstance(said, list | tuple):
            return (Row(Moment(0.0), read(said, place)),)
        rows = []
        for value, here in self.rows(said, place):
            row = self.mapping(value, here, ("from", "value"), "{from: 0s, value: ...}")
            since = self.moment(row.get("from"), (*here, "from"))
            if "value" not in row:
                self.wrong((*here, "value"), "is missing; write what it is from then on")
            else:
                rows.append(Row(since, read(row["value"], (*here, "value"))))
        return self.ordered(rows, place)

    def ordered(self, rows: list[Row[T]], place: Place) -> Course[T]:
        """Rows of one kind of time must rise; an offset and an instant can only be compared when it runs."""
        for fixed in (False, True):
            times = [row.since.seconds for row in rows if row.since.fixed is fixed]
            if times != sorted(times):
                self.wrong(place, "its rows are not in order of time; put the earliest first")
        return tuple(rows)

    def incident(self, said: Any, place: Place) -> Incident:
        row = self.mapping(said, place, ("from", "for", "severity", "labels"), "from, for and severity")
        labels = self.mapping(row.get("labels", {}), (*place, "labels"), None, "{team: learning}")
        return Incident(
            begins=self.moment(row.get("from"), (*place, "from")),
            lasts=self.duration(row.get("for"), (*place, "for")),
            severity=self.text(row.get("severity"), (*place, "severity"), "severity: critical"),
            labels={name: self.text(value, (*place, "labels", name), "text") for name, value in labels.items()},
        )

    def outage(self, said: Any, place: Place) -> Outage:
        row = self.mapping(said, place, ("what", "from", "for"), "what, from and for")
        known = ("prometheus", "alertmanager", "controller")
        what = row.get("what")
        if what not in known:
            self.wrong((*place, "what"), f"{f'is {shown(what)}' if what else 'is missing'}; write {listed(known)}")
        return Outage(
            what=cast(Literal["prometheus", "alertmanager", "controller"], what if what in known else known[0]),
            begins=self.moment(row.get("from"), (*place, "from")),
            lasts=self.duration(row.get("for"), (*place, "for")),
        )

    def deed(self, said: Any, place: Place) -> Deed:
        row = self.mapping(said, place, ("at", "annotate", "edit"), "at and annotate (or edit)")
        if ("annotate" in row) == ("edit" in row):
            self.wrong(place, "says " + ("both" if "edit" in row else "neither") + " of annotate and edit; write one")
        return Deed(
            at=self.moment(row.get("at"), (*place, "at")),
            annotations=self.annotations(row["annotate"], (*place, "annotate")) if "annotate" in row else {},
            edit=self.mapping(row.get("edit", {}), (*place, "edit"), None, "the fields of spec that change"),
        )

    def annotations(self, said: Any, place: Place) -> dict[str, str | None]:
        """Verbs with their values; ``by``, ``reason``, ``until`` and ``id`` beside them make each value JSON."""
        row = self.mapping(said, place, (*VERBS, *_SAID), "{approve: ramp/gate, by: vp-engineering}")
        beside = {name: self.text(row[name], (*place, name), "text") for name in _SAID if row.get(name) is not None}
        verbs = [verb for verb in VERBS if verb in row]
        if not verbs:
            self.wrong(place, f"names no verb; write {listed(VERBS)}")
        made: dict[str, str | None] = {}
        for verb in verbs:
            value = row[verb]
            if value is None:
                made[verb] = None
                continue
            text = self.text(value, (*place, verb), "text, or null to remove it")
            named = "reason" if verb in ("hold", "rollback", "retry", "ack") else "value"
            made[verb] = json.dumps({named: text, **beside}) if beside else text
        return made

    def unsaid(self, scenario: Scenario, plan: Plan) -> None:
        """What the plan will ask for and nobody has said."""
        for number, target in enumerate(plan.targets):
            course = scenario.targets[target.name]
            if not course.requests:
                where: Place = ("requests",) if not number else ("targets", target.name, "requests")
                self.wrong(where, "is missing; write requests: 100/s")
                return
        for series in sorted({criterion.series for criterion in _criteria(plan)}, key=str):
            vague = any(series.metric not in course.spreads for course in scenario.targets.values())
            if series.with_error and vague:
                self.wrong(
                    ("metrics", series.metric),
                    "says no standard error, and the plan asks for it; "
                    f"write {series.metric}: {{value: 6.1, error: 0.2}}",
                )
                continue
            without = [name for name, course in scenario.targets.items() if series.metric not in course.metrics]
            if series.kind in ("ratio", "latency", "value") and without:
                example = "6.1" if series.kind == "value" else "0.5%"
                self.wrong(
                    ("metrics", series.metric),
                    f"is not said, and the plan asks for it; write {series.metric}: {example} (or null: no data)",
                )
            if series.kind == "recorded" and series.metric in _LATENCIES:
                for track in ("canary", "stable"):
                    said = [getattr(course, track).slow for course in scenario.targets.values()]
                    if any(slow and series.edge not in slow for slow in said):
                        edge = format_duration(series.edge)
                        self.wrong(
                            (track, "slow"),
                            f"says nothing about {edge}, which the plan asks for; write the share of requests "
                            f"slower than that: {{{edge}: 0.4%}}",
                        )

    # Values

    def mapping(self, said: Any, place: Place, fields: tuple[str, ...] | None, example: str) -> Mapping[str, Any]:
        if said is None:
            return {}
        if not isinstance(said, Mapping):
            self.wrong(place, f"is {shown(said)}, where a mapping is expected; write {example}")
            return {}
        for key in said:
            if fields is not None and key not in fields:
                self.wrong((*place, str(key)), unknown_field(str(key), fields))
        return {str(key): value for key, value in said.items()}

    def rows(self, said: Any, place: Place) -> list[tuple[Any, Place]]:
        if said is None:
            return []
        if not isinstance(said, list | tuple):
            self.wrong(place, f"is {shown(said)}, where a list is expected; write lines that begin with a hyphen")
            return []
        if len(said) > _MOST_ROWS:
            self.wrong(place, f"has {len(said):,} entries; write {_MOST_ROWS:,} at most")
        return [(value, (*place, index)) for index, value in enumerate(said[:_MOST_ROWS])]

    def moment(self, said: Any, place: Place) -> Moment:
        if said in ("0s", "0m", "0h", "0d", 0):
            return Moment(0.0)
        try:
            return Moment(parse_duration(said))
        except ValueError:
            pass
        try:
            return Moment(parse_instant(said), fixed=True)
        except ValueError:
            what = "is missing" if said is None else f"is {shown(said)}"
            self.wrong(
                place, f"{what}; write an offset from the first start such as 90m, or an instant: 2025-11-01T14:00:00Z"
            )
            return Moment(0.0)

    def instant(self, said: Any, place: Place) -> float:
        try:
            return parse_instant(said)
        except ValueError as error:
            self.wrong(place, str(error))
            return 0.0

    def duration(self, said: Any, place: Place) -> float:
        try:
            return parse_duration(said)
        except ValueError as error:
            self.wrong(place, "is missing; write a duration such as 20m" if said is None else str(error))
            return 60.0

    def share(self, said: Any, place: Place) -> float:
        try:
            percent = parse_percent(said)
        except ValueError:
            self.wrong(place, f"is {shown(said)}; write a percentage from 0% to 100%, such as 0.5%")
            return 0.0
        if not 0 <= percent <= 100:
            self.wrong(place, f"is {said}; write a percentage from 0% to 100%")
            return 0.0
        return float(percent / 100)

    def rate(self, said: Any, place: Place) -> float:
        number, slash, unit = str(said).partition("/")
        try:
            rate = float(number) / _PER[unit] if slash else -1.0
        except (ValueError, KeyError):
            rate = -1.0
        if not 0 <= rate < 1e9:
            self.wrong(place, f"is {shown(said)}; write requests per second, minute or hour, such as 100/s")
            return 0.0
        return rate

    def value(self, said: Any, place: Place) -> float | None:
        """A bare value or a share; null is no data."""
        if said is None:
            return None
        if isinstance(said, str) and said.endswith("%"):
            return self.share(said, place)
        if isinstance(said, bool) or not isinstance(said, int | float) or not isfinite(said) or abs(said) == inf:
            self.wrong(place, f"is {shown(said)}; write a number such as 6.1, a share such as 0.5%, or null: no data")
            return None
        return float(said)

    def error(self, said: Any, place: Place) -> float:
        """A standard error, in the unit of its value."""
        if isinstance(said, bool) or not isinstance(said, int | float) or not 0 < said < inf:
            self.wrong(place, f"is {shown(said)}; write a standard error above 0, such as 0.2")
            return 1.0
        return float(said)

    def whole(self, said: Any, place: Place, example: str) -> int:
        if isinstance(said, bool) or not isinstance(said, int) or not 0 <= said < 2**63:
            self.wrong(place, f"is {shown(said)}; write a whole number, such as {example}")
            return 0
        return said

    def text(self, said: Any, place: Place, example: str) -> str:
        if not isinstance(said, str):
            self.wrong(place, f"is missing; write {example}" if said is None else f"is {shown(said)}; put it in quotes")
            return ""
        return said


def _criteria(plan: Plan) -> Iterator[Any]:
    for phase in plan.phases:
        yield from (guardrail.criterion for guardrail in phase.guardrails)
        yield from phase.gate.criteria if phase.gate else ()

"""Asks Prometheus what is known of a metric before a launch stands on it: facts only, each asked once.

Every question is bounded: by a time, by the number of series that it may bring back, and by how far it looks back.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Hashable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from math import isfinite
from typing import Any, Protocol, TypeVar

from controller.adapters.alerting_rules import rules_unmet
from controller.adapters.prometheus import Answer
from controller.adapters.promql import Confinement, Matcher, Selector, anatomy, question, quoted
from controller.core import normal_form
from controller.core.check import COUNTERS, Facts, Found, Missing, Part, Role, Sampled, Selected
from controller.core.evidence import Criterion
from controller.core.matchers import Condition
from controller.core.series import RESTARTS, Reading, Series, Subject
from controller.errors import AdapterError, RefusedError

LOOK_BACK_S = 3600.0
"""How far back (seconds) series count as found."""
LATELY_S = 600.0
"""The same where it is looked for why there are none: over all series of a name, which may be many."""
QUERY_SECONDS = 20.0
"""For one answer."""
WORKERS = 4
SERIES_SAMPLED = 3
MOST_ROWS = 50
"""Rows that one question may bring back."""

_PLAIN_LABEL = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_SUFFIXES = ("_total", "_bucket", "_count", "_sum")
_SHORTEST_WORD = 4

T = TypeVar("T")


class Source(Protocol):
    """What is needed of Prometheus; see :class:`controller.adapters.prometheus.Prometheus`."""

    def query_range(self, expression: str, start: float, end: float, step: float, deadline: float) -> Answer:
        """The values at start, start + step, ... up to end (epoch seconds)."""

    def samples(self, selector: str, span: float, at: float, deadline: float) -> Answer:
        """The stored samples of the ``span`` seconds up to ``at``."""

    def kinds(self, metric: str, deadline: float) -> tuple[str, ...]:
        """What the scraped targets say that the metric is."""

    def alerting_rules(self, deadline: float) -> list[Any]:
        """The groups of alerting rules."""

    def label_values(self, label: str, selector: str, since: float, deadline: float) -> tuple[str, ...]:
        """The values of a label in the series of a selector since an instant."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """One metric of one target, with the subjects that the controller asks about it."""

    canary: Subject
    stable: Subject | None
    criteria: tuple[Criterion, ...]


class MetricFacts:
    """Asks one Prometheus about metrics as they were at ``at`` (epoch seconds). ``close`` ends its threads."""

    def __init__(
        self, prometheus: Source, at: float, *, confinement: Confinement | None = None, workers: int = WORKERS
    ) -> None:
        self._prometheus = prometheus
        self._at = at
        self._confinement = confinement or Confinement()
        self._pool = ThreadPoolExecutor(max_workers=workers, thread_name_prefix="facts")
        self._known: dict[Hashable, object] = {}
        self._lock = threading.Lock()

    def close(self) -> None:
        """Stop; a question under way ends with its own deadline."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def reach(self) -> None:
        """Ask for nothing but an answer.

        Raises:
            AdapterError: there is none, or it is no Prometheus's.
        """
        self._prometheus.query_range("vector(1)", self._at, self._at, 1, time.monotonic() + QUERY_SECONDS)

    def of(
        self, wanted: Sequence[tuple[Wanted, Reading, Reading | None]], progress: Callable[[], None] | None = None
    ) -> list[Facts]:
        """The facts about each, in their order; ``progress`` is called after each one.

        Beside each stands what the controller read of its canary and stable. Never raises for what Prometheus does not
        answer: that is each one's ``unanswered``.
        """
        under_way = [self._pool.submit(_Asking(self, one).facts, canary, stable) for one, canary, stable in wanted]
        found = []
        for future in under_way:
            found.append(future.result())
            if progress is not None:
                progress()
        return found

    def once(self, key: Hashable, ask: Callable[[float], T]) -> T:
        """What ``ask`` gives by its deadline, asked once for each key. Raises its AdapterError, also the next time."""
        with self._lock:
            known = self._known.get(key)
        if known is None:
            try:
                known = ask(time.monotonic() + QUERY_SECONDS)
            except AdapterError as error:
                known = error
            with self._lock:
                self._known[key] = known
        if isinstance(known, AdapterError):
            raise known
        return known  # type: ignore[return-value]  # what this key's ask gave

    @property
    def at(self) -> float:
        """The instant that is looked at (epoch seconds)."""
        return self._at

    @property
    def confinement(self) -> Confinement:
        """To what plans' queries are tied."""
        return self._confinement

    def now(self, expression: str) -> Answer:
        """The rows of an expression at the instant."""
        return self.once(
            expression, lambda deadline: self._prometheus.query_range(expression, self._at, self._at, 1, deadline)
        )

    def over(self, expression: str, span: float, step: float) -> Answer:
        """The rows of an expression in the ``span`` seconds before the instant."""
        start = self._at - span
        return self.once(
            (expression, span),
            lambda deadline: self._prometheus.query_range(expression, start, self._at, step, deadline),
        )

    def samples(self, selector: str) -> Answer:
        """The stored samples of a selector."""
        return self.once(
            ("samples", selector), lambda deadline: self._prometheus.samples(selector, LOOK_BACK_S, self._at, deadline)
        )

    def unmet(self, conditions: tuple[Condition, ...]) -> str:
        """Why no alerting rule can raise an alert that meets these conditions; empty: one can."""
        return self.once(("unmet", conditions), lambda deadline: rules_unmet(self._prometheus, conditions, deadline))

    def kinds(self, metric: str) -> tuple[str, ...]:
        """What the targets say that a metric is."""
        return self.once(("kinds", metric), lambda deadline: self._prometheus.kinds(metric, deadline))


class _Asking:
    """The questions about one metric of one target."""

    def __init__(self, facts: MetricFacts, wanted: Wanted) -> None:
        self._ask = facts
        self._wanted = wanted
        self._unanswered: list[str] = []

    def facts(self, canary: Reading, stable: Reading | None) -> Facts:
        subject, confinement = self._wanted.canary, self._ask.confinement
        own, constants, error_constants = self._own(subject)
        other = self._own(self._wanted.stable)[0] if self._wanted.stable is not None else []
        parts = tuple(
            self._part(part, other[place].selected if place < len(other) else None) for place, part in enumerate(own)
        )
        uncounted = self._uncounted() if subject.series.kind == "incidents" else ()
        if self._unanswered:
            parts = ()  # what nobody answered must not look like what is not there
        namespace = Matcher(confinement.namespace_label, "=", subject.namespace)
        return Facts(
            target=subject.target,
            metric=subject.series.metric,
            namespace=subject.namespace,
            service=subject.service,
            series=subject.series,
            criteria=self._wanted.criteria,
            at=self._ask.at,
            canary=canary,
            stable=stable,
            parts=parts,
            constants=constants,
            error_constants=error_constants,
            scraped=self._counts(Selector("up", (namespace,)), confinement.track_label, LATELY_S) if parts else {},
            infos=self._infos(subject),
            uncounted=uncounted,
            unanswered=tuple(dict.fromkeys(self._unanswered)),
            namespace_label=confinement.namespace_label,
            track_label=confinement.track_label,
        )

    def _uncounted(self) -> tuple[str, ...]:
        """Why no rule can raise the incidents that a criterion counts, of each where that is so. As of now, at any instant."""
        found = []
        for criterion in self._wanted.criteria:
            conditions = anatomy(criterion.series.total).selected[0].conditions
            try:
                problem = self._ask.unmet(tuple(one for one in conditions if one.label != "alertstate"))
            except AdapterError as error:
                self._unanswered.append(str(error))
                continue
            if problem:
                found.append(problem)
        return tuple(dict.fromkeys(found))

    def _own(self, subject: Subject) -> tuple[list[Part], tuple[str, ...], tuple[str, ...]]:
        """The selectors that are asked about a subject, nothing found of them yet; and the constants among them.

        Those of a standard error are the last ones.
        """
        series = subject.series
        if series.kind == "incidents":
            return [], (), ()
        if series.kind in ("recorded", "uptime"):
            conditions = tuple(Condition(label, "=", getattr(subject, label)) for label in normal_form.LABELS)
            return [_empty("", role, Selected(name, conditions)) for role, name in _records(series)], (), ()
        try:
            asked = question(subject, self._ask.confinement).parts
        except RefusedError:
            return [], (), ()  # the controller's own reading says why
        names: tuple[tuple[str, Role], ...] = (("value.query", "value"),)
        if series.with_error:
            names = (("value.standardError", "value"), *names)
        if series.kind == "ratio":
            names = (("ratio.bad", "bad"), ("ratio.total", "total"))
        if series.kind == "latency":
            names = (("latency.bucket", "bucket"), ("latency.count", "count"))
        parts: list[Part] = []
        constants: dict[bool, tuple[str, ...]] = {True: (), False: ()}
        for (field, role), source in zip(names, asked, strict=True):
            if isinstance(source, str):
                made_of = anatomy(source)
                constants[field == "value.standardError"] += made_of.constants
                # An expression may name a selector twice; what it stands in first is enough to judge it.
                unique = {(one.name, one.conditions): one for one in reversed(made_of.selected)}
                parts += [_empty(field, "value", one) for one in reversed(unique.values())]
            else:
                kept = (m for m in source.matchers if role != "bucket" or m.label != "le")
                parts.append(_empty(field, role, Selected(source.name, tuple(Condition(*m) for m in kept))))
        return parts, constants[False], constants[True]

    def _part(self, part: Part, stable: Selected | None) -> Part:
        canary = self._found(part, part.selected)
        return replace(
            part,
            canary=canary,
            stable=None if stable is None else self._found(part, stable),
            missing=None if canary.series else self._missing(part.selected),
            kinds=self._kinds(part) if part.role in COUNTERS or part.selected.counted else (),
        )

    def _found(self, part: Part, selected: Selected) -> Found:
        selector, confinement = _selector(selected), self._ask.confinement
        by = f"{confinement.namespace_label}, {confinement.track_label}"
        rows = self._rows(f"topk({MOST_ROWS}, count by ({by}) ({_lately(selector, LOOK_BACK_S)}))")
        namespaces: dict[str, int] = {}
        tracks: dict[str, int] = {}
        for labels, count in rows:
            for counts, label in ((namespaces, confinement.namespace_label), (tracks, confinement.track_label)):
                value = labels.get(label, "")
                counts[value] = counts.get(value, 0) + int(count)
        if not rows:
            return Found()
        counter = part.role in COUNTERS or selected.counted
        return Found(
            series=sum(tracks.values()),
            namespaces=namespaces,
            tracks=tracks,
            edges=self._edges(selector) if part.role == "bucket" or "histogram_quantile" in selected.inside else (),
            sampled=self._sampled(selector, counter=counter),
            unguarded=self._unguarded(selector) if counter else 0,
        )

    def _sampled(self, selector: Selector, *, counter: bool) -> tuple[Sampled, ...]:
        """A few series with their samples: those that are newest, and those that fall the most."""
        newest = self._rows(f"topk({SERIES_SAMPLED}, timestamp({selector}))")
        if not newest:
            newest = self._rows(f"topk({SERIES_SAMPLED}, {_lately(selector, LOOK_BACK_S)})")
        falling = self._rows(f"topk(1, resets({selector}{_window(LOOK_BACK_S)}) > 0)") if counter else []
        by_name = [matcher for matcher in selector.matchers if matcher.label == "__name__"]
        found: dict[str, Sampled] = {}
        for labels, _ in (*newest, *falling):
            own = {label: value for label, value in labels.items() if label != "__name__"}
            exact = Selector(selector.name, (*by_name, *(Matcher(label, "=", own[label]) for label in sorted(own))))
            answer = self._try(partial(self._ask.samples, str(exact)))
            for one in answer.series if answer else ():
                # The conditions are also met by a series that has more labels than these.
                if {label: value for label, value in one.labels.items() if label != "__name__"} == own:
                    samples = tuple((instant / 1000, value) for instant, value in sorted(one.values.items()))
                    found[str(exact)] = Sampled(one.labels, tuple(s for s in samples if isfinite(s[1])))
        return tuple(found.values())

    def _edges(self, selector: Selector) -> tuple[float, ...]:
        edges = set()
        for labels, _ in self._rows(f"count by (le) ({_lately(selector, LOOK_BACK_S)})"):
            try:
                edges.add(float(labels.get("le", "")))
            except ValueError:
                continue
        return tuple(sorted(edge for edge in edges if isfinite(edge)))

    def _unguarded(self, selector: Selector) -> int:
        guards = (f"last_over_time({name}{_window(LATELY_S)})" for name in ("up", "process_start_time_seconds"))
        rows = self._rows(f"count({selector} unless on (job, instance) ({' or '.join(guards)}))")
        return int(rows[0][1]) if rows else 0

    def _missing(self, selected: Selected) -> Missing:
        selector = _selector(selected)
        of_name = Selector(selector.name, tuple(m for m in selector.matchers if m.label == "__name__"))
        own = tuple(m for m in selector.matchers if m.label != "__name__")
        named = self._rows(f"count({_lately(of_name, LATELY_S)})")
        if not named:
            return Missing(similar=self._similar(selected.name))
        without = tuple(
            self._counts(
                Selector(selector.name, tuple(m for m in selector.matchers if m != left)), left.label, LATELY_S
            )
            for left in own
        )
        namespace = [m for m in own if m.label == self._ask.confinement.namespace_label]
        near = self._rows(f"topk(5, {_lately(of_name.having(*namespace), LATELY_S)})")
        if not near:
            near = self._rows(f"topk(5, {_lately(of_name, LATELY_S)})")
        return Missing(
            named=int(named[0][1]),
            without=without,
            alone=() if any(without) else tuple(self._counts(of_name, each.label, LATELY_S) for each in own),
            examples=tuple(labels for labels, _ in near),
        )

    def _similar(self, name: str) -> tuple[str, ...]:
        """Names that share a word with this one, in the namespace where there are such."""
        if ":" in name:
            wanted = re.escape(name.rpartition(":")[0]) + ":.+"
        else:
            words = [word for word in re.split(r"[_:]+", name) if len(word) >= _SHORTEST_WORD and word != "total"]
            wanted = f".*({'|'.join(map(re.escape, words))}).*" if words else ""
        if not wanted:
            return ()
        label, namespace = self._ask.confinement.namespace_label, self._wanted.canary.namespace
        pattern = Matcher("__name__", "=~", wanted)
        for matchers in ((pattern, Matcher(label, "=", namespace)), (pattern,)):
            rows = self._rows(f"topk({MOST_ROWS}, count by (__name__) ({Selector('', matchers)}))")
            if rows:
                return tuple(labels.get("__name__", "") for labels, _ in rows)
        return ()

    def _kinds(self, part: Part) -> tuple[str, ...]:
        """Only of what a target exports by itself; who stores metadata may know the name without its ending."""
        name = part.selected.name
        if self._wanted.canary.series.kind == "recorded" or not name:
            return ()
        endings = [name.removesuffix(suffix) for suffix in _SUFFIXES if name.endswith(suffix)]
        for each in (name, *endings):
            try:
                kinds = self._ask.kinds(each)
            except AdapterError:
                return ()  # not every server that answers queries has it
            if kinds:
                return kinds
        return ()

    def _infos(self, subject: Subject) -> tuple[str, ...]:
        """Prometheus's remarks on a plan's own expression, which the joined queries of the controller would not show."""
        if subject.series.kind != "value":
            return ()
        try:
            texts = map(str, question(subject, self._ask.confinement).parts)
            return tuple(dict.fromkeys(info for text in texts for info in self._ask.over(text, 0.0, 1.0).infos))
        except AdapterError:
            return ()  # the controller's own reading says why

    def _counts(self, selector: Selector, label: str, span: float) -> dict[str, int]:
        """How many series there are by the value of a label (empty: without it)."""
        by = label if _PLAIN_LABEL.fullmatch(label) else quoted(label)
        rows = self._rows(f"topk({MOST_ROWS}, count by ({by}) ({_lately(selector, span)}))")
        return {labels.get(label, ""): int(count) for labels, count in rows}

    def _rows(self, expression: str) -> list[tuple[dict[str, str], float]]:
        answer = self._try(lambda: self._ask.now(expression))
        series = answer.series if answer else ()
        return [(dict(one.labels), value) for one in series for value in one.values.values()]

    def _try(self, ask: Callable[[], Answer]) -> Answer | None:
        try:
            return ask()
        except AdapterError as error:
            self._unanswered.append(str(error))
            return None


def _records(series: Series) -> tuple[tuple[Role, str], ...]:
    if series.metric == RESTARTS:
        return (("total", normal_form.recorded_restarts(series.interval)),)
    if series.metric == "latency":
        within = normal_form.recorded_requests_within(series.interval)
        return (("bucket", within),)
    errors, requests = normal_form.recorded_errors(series.interval), normal_form.recorded_requests(series.interval)
    return (("bad", errors), ("total", requests))


def _empty(field: str, role: Role, selected: Selected) -> Part:
    return Part(field, role, selected, Found())


def _selector(selected: Selected) -> Selector:
    return Selector(selected.name, tuple(Matcher(*condition) for condition in selected.conditions))


def _window(span: float) -> str:
    return f"[{normal_form.duration(span)}]"


def _lately(selector: Selector, span: float) -> str:
    return f"last_over_time({selector}{_window(span)})"


def wanted_of(subjects: Iterable[tuple[Subject, Subject | None, Criterion]]) -> list[Wanted]:
    """One for each metric of each target: its criteria share what is asked, whatever their limits are."""
    grouped: dict[tuple[str, str, str], list[tuple[Subject, Subject | None, Criterion]]] = {}
    for canary, stable, criterion in subjects:
        grouped.setdefault((canary.target, canary.series.kind, canary.series.metric), []).append(
            (canary, stable, criterion)
        )
    # Of a value that is judged by its limit and proven as well, what asks for its standard error asks for all.
    firsts = [max(group, key=lambda each: each[0].series.with_error) for group in grouped.values()]
    return [
        Wanted(first[0], first[1], tuple({criterion.key: criterion for *_, criterion in group}.values()))
        for first, group in zip(firsts, grouped.values(), strict=True)
    ]

"""From a criterion as it is written to one that can be folded: tied to its series, its limit a share."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import replace
from decimal import Decimal
from typing import Literal

from controller.core import spec as written
from controller.core.evidence import Criterion
from controller.core.matchers import Condition, never_together, read_matcher, selector
from controller.core.series import HOLDS, RESTARTS, RecordedForm, Series
from controller.core.units import format_duration, parse_duration, parse_percent, write_duration

_DEFAULT_CERTAINTY = "99%"
_DEFAULT_WINDOW = 60.0
_DEFAULT_BAD = 3
_DEFAULT_SAMPLES = 3
INCIDENTS_INTERVAL = 30
"""Seconds between two counts of the incidents."""
INCIDENTS_SETTLE = 30.0
"""Seconds for which a rule group may take to write what it found."""
_LONGEST_CONDITIONS = 80

Problem = tuple[str, str]
"""A field of the criterion, as ``matchers.0`` (empty: the criterion itself), and what is wrong and what to write."""


class CriterionError(Exception):
    """A criterion that does not say what its metric needs; all of its problems."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__("; ".join(f"{field}: {message}" for field, message in problems))
        self.problems = problems


def resolve(criterion: written.Criterion, metrics: Mapping[str, written.Metric], recorded: RecordedForm) -> Criterion:
    """The criterion, tied to its series.

    It must be of incidents, or its metric be a built-in one or one of ``metrics``, and exactly one of those that are not
    built in must be given its kind.

    Raises:
        CriterionError: a limit is missing, of the wrong form or on the wrong side; every such problem.
    """
    if isinstance(criterion, written.GateCriterion) and criterion.incidents is not None:
        return _incidents(criterion, criterion.incidents)
    if criterion.metric == HOLDS:
        return _holds(criterion)
    return _Resolution(criterion, metrics, recorded).result()


_NOT_OF_INCIDENTS = (
    ("below", "below", "is a limit of a share; incidents are counted: write atMost: 0 instead"),
    ("above", "above", "is a limit of a share; incidents are counted: write atMost: 0 instead"),
    ("quantile", "quantile", "belongs to latencies only; remove it"),
    ("certainty", "certainty", "belongs to shares; an incident that was counted is certain: remove it"),
    ("minimum", "minimum", "belongs to shares; remove it: atMost alone says how many incidents are allowed"),
    ("for_", "for", "belongs to shares; incidents are counted over the whole phase: remove it"),
    *(
        (attribute, field, "belongs to shares of requests; incidents are of the launch as a whole: remove it")
        for attribute, field in (
            ("compared_to", "comparedTo"),
            ("ratio_below", "ratioBelow"),
            ("difference_below", "differenceBelow"),
        )
    ),
)


def _incidents(criterion: written.GateCriterion, severity: str) -> Criterion:
    """Alerts of that severity, counted over the phase."""
    problems: list[Problem] = [
        (field, message) for attribute, field, message in _NOT_OF_INCIDENTS if getattr(criterion, attribute) is not None
    ]
    if criterion.at_most is None:
        problems.append(("atMost", "is missing; write atMost: 0, the number of incidents that are allowed"))
    if not severity.strip() or set(severity) & set('|,={}"~'):
        problems.append(
            ("incidents", f"{severity} is no severity; write one value of the alerts' label severity, such as critical")
        )
    conditions: list[Condition] = []
    for number, text in enumerate(criterion.matchers):
        try:
            conditions.append(read_matcher(text))
        except ValueError as error:
            problems.append((f"matchers.{number}", str(error)))
    if len(conditions) == len(criterion.matchers) and (clash := never_together(conditions)):
        problems.append((f"matchers.{clash[0]}", clash[1]))
    if problems:
        raise CriterionError(problems)
    conditions = sorted(set(conditions))
    at_most = criterion.at_most or 0
    noun = f"{severity} incidents"
    where = f" where {_shortened(', '.join(map(str, conditions)))}" if conditions else ""
    silenced = criterion.silenced or "undecided"
    hushed = {"undecided": "", "count": ", silenced ones too", "ignore": ", silenced ones aside"}[silenced]
    return Criterion(
        key=f"{noun} at most {at_most}{where}{hushed}",
        series=Series(
            "incidents",
            "incidents",
            bad=noun + where,
            total=selector(severity, conditions),
            interval=INCIDENTS_INTERVAL,
            settle=INCIDENTS_SETTLE,
        ),
        limit=float(at_most),
        side="below",
        certainty=None,
        window=float(INCIDENTS_INTERVAL),
        min_requests=0,
        min_bad=1,
        limit_text=f"{at_most}",
        at_most=at_most,
        silenced=silenced,
    )


_NOT_OF_HOLDS = (
    *((name, name, "is a limit of a share; holds are counted: write atMost: 0 instead") for name in ("below", "above")),
    *((name, name, "belongs to shares; remove it") for name in ("quantile", "certainty", "minimum")),
    ("for_", "for", "belongs to shares; holds are counted over the whole phase: remove it"),
    *(
        (attribute, field, "belongs to shares of requests; holds are of the launch as a whole: remove it")
        for attribute, field in (
            ("compared_to", "comparedTo"),
            ("ratio_below", "ratioBelow"),
            ("difference_below", "differenceBelow"),
        )
    ),
)


def _holds(criterion: written.Criterion) -> Criterion:
    """How often the launch was held in the phase, as its own record has it."""
    problems: list[Problem] = [
        (field, message) for attribute, field, message in _NOT_OF_HOLDS if getattr(criterion, attribute) is not None
    ]
    if criterion.at_most is None:
        problems.append(("atMost", "is missing; write atMost: 0, the number of holds that are allowed"))
    if problems:
        raise CriterionError(problems)
    at_most = criterion.at_most or 0
    return Criterion(
        key=f"holds at most {at_most}",
        series=Series(HOLDS, HOLDS),
        limit=float(at_most),
        side="below",
        certainty=None,
        window=0.0,
        min_requests=0,
        min_bad=1,
        limit_text=f"{at_most}",
        at_most=at_most,
    )


def _shortened(text: str) -> str:
    """For names in status; still different for different texts."""
    if len(text) <= _LONGEST_CONDITIONS:
        return text
    return f"{text[: _LONGEST_CONDITIONS - 13]}... ({hashlib.sha256(text.encode()).hexdigest()[:8]})"


_COUNTED = "is a limit of a share; restarts are counted: write atMost: 2 instead"
_OF_SHARES = "belongs to shares of requests; remove it"
_NOT_TO_COMPARE = "uptime and restarts are not compared with stable; remove it, and write metric: errors for that"
_COMPARED = tuple(
    (attribute, field, _NOT_TO_COMPARE)
    for attribute, field in (
        ("compared_to", "comparedTo"),
        ("ratio_below", "ratioBelow"),
        ("difference_below", "differenceBelow"),
    )
)
_NOT_OF_RESTARTS = (
    ("below", "below", _COUNTED),
    ("above", "above", _COUNTED),
    *((name, name, _OF_SHARES) for name in ("quantile", "certainty", "minimum")),
    ("for_", "for", "belongs to shares; restarts are counted over the whole phase: remove it"),
    *_COMPARED,
)
_NOT_OF_UPTIME = (
    ("below", "below", "is not for uptime, whose limit is above; write above instead"),
    *((name, name, _OF_SHARES) for name in ("quantile", "certainty", "minimum")),
    ("for_", "for", "belongs to shares; uptime is a budget over the whole phase: remove it"),
    *_COMPARED,
)
_NOT_OF_COMPARISONS = (
    ("below", "below", "is a limit of the canary alone; write a criterion of its own for it, and remove it here"),
    ("quantile", "quantile", "belongs to latencies only; remove it"),
    ("above", "above", "is a limit of the canary alone; remove it"),
)


class _Resolution:
    def __init__(
        self, criterion: written.Criterion, metrics: Mapping[str, written.Metric], recorded: RecordedForm
    ) -> None:
        self.criterion = criterion
        self.name = criterion.metric or ""
        self.metric = metrics.get(self.name)
        self.recorded = recorded
        self.problems: list[Problem] = []
        self.threshold = criterion.certainty == "threshold"

    def result(self) -> Criterion:
        criterion = self.criterion
        if self.name == RESTARTS:
            return self._restarts()
        if criterion.at_most is not None:
            self._wrong(
                "atMost", f"counts restarts and incidents, and {self.name} is neither; write a limit: below: 1%"
            )
        if self.name == "uptime":
            return self._uptime()
        if criterion.compared_to or criterion.ratio_below is not None or criterion.difference_below is not None:
            return self._comparison()
        if self.metric is not None and self.metric.value is not None:
            return self._value(self.metric, self.metric.value)
        if self.name == "latency" or (self.metric is not None and self.metric.latency is not None):
            return self._latency()
        if self.name == "availability":
            return self._share("above", "99.9%")
        return self._share("below", "1%")

    def _series(self, edge: float = 0.0) -> Series:
        metric = self.metric
        if metric is None:
            name = "latency" if self.name == "latency" else "errors"
            form = self.recorded
            return Series("recorded", name, edge=edge, interval=form.interval, settle=form.settle, lag=form.lag)
        interval = round(metric.interval)
        if metric.latency is not None:
            source = metric.latency
            return Series("latency", metric.name, source.bucket, source.count, edge, interval, metric.settle)
        if metric.value is not None:
            # Who judges by the limit alone does not ask for more than that.
            error = "" if self.threshold else metric.value.standard_error
            return Series("value", metric.name, error, metric.value.query, 0.0, interval, metric.settle)
        if metric.ratio is None:
            raise ValueError(f"metric {metric.name} has no kind")
        return Series("ratio", metric.name, metric.ratio.bad, metric.ratio.total, 0.0, interval, metric.settle)

    def _restarts(self) -> Criterion:
        """Of the canary's pods, counted over the phase."""
        self._refuse(_NOT_OF_RESTARTS)
        at_most = self.criterion.at_most
        if at_most is None:
            self._wrong("atMost", "is missing; write atMost: 2, the number of restarts that are allowed")
        self._finish()
        form = self.recorded
        return Criterion(
            key=f"restarts at most {at_most}",
            series=Series("recorded", RESTARTS, interval=form.interval, settle=form.settle, lag=form.lag),
            limit=float(at_most or 0),
            side="below",
            certainty=None,
            window=float(form.interval),
            min_requests=0,
            min_bad=1,
            limit_text=f"{at_most}",
            at_most=at_most,
        )

    def _uptime(self) -> Criterion:
        """A budget of time over the phase."""
        self._refuse(_NOT_OF_UPTIME)
        share = self._percent("above", self.criterion.above, "99.95%")
        self._finish()
        form = self.recorded
        return Criterion(
            key=f"uptime above {_plain(share)}%",
            series=Series("uptime", "uptime", interval=form.interval, settle=form.settle, lag=form.lag),
            limit=float((100 - share) / 100),
            side="below",
            certainty=None,
            window=float(form.interval),
            min_requests=0,
            min_bad=1,
            limit_text=f"{_plain(share)}%",
        )

    def _comparison(self) -> Criterion:
        """The canary's share beside the stable track's in the same instants."""
        criterion = self.criterion
        ratio, difference = criterion.ratio_below, criterion.difference_below
        if criterion.compared_to is None:
            field = "ratioBelow" if ratio is not None else "differenceBelow"
            self._wrong(field, "says nothing without what it is compared to; write comparedTo: stable beside it")
        elif (ratio is None) == (difference is None):
            what = "has both ratioBelow and differenceBelow; remove one" if ratio is not None else "has no limit; write"
            self._wrong("comparedTo", what if ratio is not None else f"{what} ratioBelow: 2, or differenceBelow: 0.5%")
        latency = self.name == "latency" or (self.metric is not None and self.metric.latency is not None)
        if self.name == "availability":
            self._wrong("metric", "is compared by its failures; write metric: errors")
        if self.metric is not None and self.metric.value is not None:
            self._wrong("comparedTo", f"needs counts, and {self.name} is a bare value; remove it, and write below")
        self._refuse(_NOT_OF_COMPARISONS[2:] if latency else _NOT_OF_COMPARISONS)
        if criterion.quantile is not None and latency:
            self._wrong("quantile", "is not needed: the shares of requests slower than below are compared; remove it")
        if self.threshold:
            self._wrong("certainty", "threshold cannot compare two tracks; write certainty: 99%, or remove it")
        edge, name = 0.0, self.name
        if latency:
            edge = self._edge()
            name = f"{self.name} over {_duration(edge)}"
        if difference is not None:
            share = self._percent("differenceBelow", difference, "0.5%")
            limit, text = float(share / 100), f"stable + {_plain(share)}%"
        else:
            factor = Decimal(str(ratio if ratio is not None else 1))
            limit, text = float(factor), f"{_plain(factor)} x stable"
        resolved = self._counts(self._series(edge), limit, text, f"{name} below {text}")
        return replace(resolved, versus="ratio" if difference is None else "difference")

    def _share(self, side: str, example: str) -> Criterion:
        self._only(side, needs_quantile=False)
        share = self._percent(side, self.criterion.below if side == "below" else self.criterion.above, example)
        text = f"{_plain(share)}%"
        bad = share if side == "below" else 100 - share
        return self._counts(self._series(), float(bad / 100), text, f"{self.name} {side} {text}")

    def _percent(self, field: str, limit: float | str | None, example: str) -> Decimal:
        share = Decimal(1)
        if limit is None:
            self._wrong(field, f"is missing; {self.name} needs a percentage: write {field}: {example}")
            return share
        try:
            share = parse_percent(limit)
        except ValueError:
            advice = f"{limit:g}%" if isinstance(limit, float) else example
            self._wrong(field, f"{_as_written(limit)} is not a percentage; write {field}: {advice}")
        else:
            if not 0 < share < 100:
                self._wrong(
                    field,
                    f"{limit} cannot be kept and broken both; write a percentage between 0% and 100%, "
                    f"such as {example}",
                )
        return share

    def _latency(self) -> Criterion:
        criterion = self.criterion
        self._only("below", needs_quantile=True)
        quantile = Decimal("0.99")
        if criterion.quantile is None:
            self._wrong("quantile", "is missing; write quantile: 0.99 for the 99th percentile")
        else:
            quantile = Decimal(str(criterion.quantile))
        edge = self._edge()
        text = _duration(edge)
        key = f"{self.name} p{_plain(quantile * 100)} below {text}"
        return self._counts(self._series(edge), float(1 - quantile), text, key)

    def _edge(self) -> float:
        below = self.criterion.below
        if below is None:
            self._wrong("below", f"is missing; {self.name} needs a duration: write below: 500ms")
            return 1.0
        try:
            return parse_duration(below)
        except ValueError:
            self._wrong("below", f"{_as_written(below)} is not a duration; write below: 500ms")
            return 1.0

    def _value(self, metric: written.Metric, source: written.ValueMetric) -> Criterion:
        criterion = self.criterion
        example = {"percent": "5.8%", "seconds": "2s", "number": "100"}[source.unit]
        limit = 0.0
        text = ""
        given = [side for side in ("below", "above") if getattr(criterion, side) is not None]
        if len(given) != 1:
            what = "has both below and above; write one of them" if given else f"has no limit; write below: {example}"
            self._wrong("", f"{what} (or above)" if not given else what)
        for side in given:
            one = criterion.below if side == "below" else criterion.above
            try:
                limit, text = _value_limit(one, source.unit)
            except ValueError:
                self._wrong(
                    side,
                    f"{_as_written(one)} does not fit the unit {source.unit} of {metric.name}; write {side}: {example}",
                )
        if criterion.quantile is not None:
            self._wrong("quantile", "belongs to latencies only; remove it")
        proven = bool(source.standard_error) and not self.threshold
        if criterion.certainty is not None and not self.threshold and not proven:
            self._wrong(
                "certainty",
                f"needs to know how sure the value is; give value.standardError of metric {metric.name}, "
                "or write certainty: threshold",
            )
        minimum = criterion.minimum or written.Minimum()
        if minimum.bad is not None:
            self._wrong("minimum.bad", "counts bad events, and a value has none; remove it")
        if proven and minimum.requests is not None:
            self._wrong("minimum.requests", "counts samples, and each look takes one; remove it")
        if proven and criterion.for_ is not None:
            self._wrong(
                "for", "is not needed where the standard error is known; remove it, or add certainty: threshold"
            )
        window = self._window(metric.interval)
        self._finish()
        chosen: Literal["above", "below"] = "above" if given == ["above"] else "below"
        key = f"{metric.name} {chosen} {text}"
        if proven:
            return self._proven(key, limit, text, chosen)
        key += " (threshold)" if source.standard_error else ""
        key += "" if window == _DEFAULT_WINDOW else f" for {_duration(window)}"
        return Criterion(
            key=key,
            series=self._series(),
            limit=limit,
            side=chosen,
            certainty=None,
            window=window,
            min_requests=_DEFAULT_SAMPLES if minimum.requests is None else minimum.requests,
            min_bad=1,
            limit_text=text,
        )

    def _proven(self, key: str, limit: float, limit_text: str, side: Literal["above", "below"]) -> Criterion:
        """A value at looks. How many there are is for its phase to say."""
        series = self._series()
        certainty, suffix = self._certainty()
        return Criterion(
            key=key + suffix,
            series=series,
            limit=limit,
            side=side,
            certainty=certainty,
            window=float(series.interval),
            min_requests=0,
            min_bad=1,
            limit_text=limit_text,
            looks=1,
        )

    def _certainty(self) -> tuple[float, str]:
        """As a chance, and what the key says of it: nothing of the default."""
        percent = parse_percent(self.criterion.certainty or _DEFAULT_CERTAINTY)
        usual = percent == parse_percent(_DEFAULT_CERTAINTY)
        return float(percent / 100), "" if usual else f" (certainty {_plain(percent)}%)"

    def _counts(self, series: Series, limit: float, limit_text: str, key: str) -> Criterion:
        criterion = self.criterion
        if criterion.for_ is not None and not self.threshold:
            self._wrong("for", "belongs to certainty: threshold; remove it, or add certainty: threshold")
        window = self._window(series.interval)
        self._finish()
        certainty = None
        if self.threshold:
            over = "" if window == _DEFAULT_WINDOW else f" over {_duration(window)}"
            key += f" (threshold{over})"
        else:
            certainty, suffix = self._certainty()
            key += suffix
        minimum = criterion.minimum or written.Minimum()
        return Criterion(
            key=key,
            series=series,
            limit=limit,
            side="below",
            certainty=certainty,
            window=window,
            min_requests=int(self.threshold) if minimum.requests is None else minimum.requests,
            min_bad=(1 if self.threshold else _DEFAULT_BAD) if minimum.bad is None else minimum.bad,
            limit_text=limit_text,
        )

    def _window(self, interval: float) -> float:
        if self.criterion.for_ is None:
            return max(_DEFAULT_WINDOW, interval)
        if self.criterion.for_ < interval:
            self._wrong(
                "for",
                f"is shorter than the {format_duration(interval)} from one instant of {self.name} to the next; "
                f"write {format_duration(interval)} or more",
            )
        return self.criterion.for_

    def _only(self, side: str, *, needs_quantile: bool) -> None:
        other = "above" if side == "below" else "below"
        if getattr(self.criterion, other) is not None:
            self._wrong(other, f"is not for {self.name}, whose limit is {side}; write {side} instead")
        if self.criterion.quantile is not None and not needs_quantile:
            self._wrong("quantile", "belongs to latencies only; remove it")

    def _refuse(self, fields: Iterable[tuple[str, str, str]]) -> None:
        for attribute, field, message in fields:
            if getattr(self.criterion, attribute) is not None:
                self._wrong(field, message)

    def _wrong(self, field: str, message: str) -> None:
        self.problems.append((field, message))

    def _finish(self) -> None:
        if self.problems:
            raise CriterionError(self.problems)


def _value_limit(limit: float | str | None, unit: str) -> tuple[float, str]:
    if unit == "percent":
        percent = parse_percent(limit)
        return float(percent), f"{_plain(percent)}%"
    if unit == "seconds":
        seconds = parse_duration(limit)
        return seconds, _duration(seconds)
    if isinstance(limit, str) and not limit.lstrip("-").replace(".", "", 1).isdigit():
        raise ValueError("not a number")
    number = Decimal(str(limit))
    return float(number), _plain(number)


def _duration(seconds: float) -> str:
    """For people, and still different for different durations."""
    if seconds >= 0.001 and parse_duration(text := format_duration(seconds)) == seconds:
        return text
    return write_duration(seconds)


def _plain(number: Decimal) -> str:
    return f"{number.normalize():f}"


def _as_written(limit: float | str | None) -> str:
    return f"{limit:g}" if isinstance(limit, float) else f"{limit}"

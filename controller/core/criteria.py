"""From a criterion as it is written to one that can be folded: tied to its series, its limit a share."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from decimal import Decimal

from controller.core import spec as written
from controller.core.evidence import Criterion
from controller.core.matchers import Condition, never_together, read_matcher, selector
from controller.core.series import RecordedForm, Series
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

    It must be of incidents, or its metric be ``errors``, ``latency``, ``availability`` or one of ``metrics``, and exactly
    one of those that are not built in must be given its kind.

    Raises:
        CriterionError: a limit is missing, of the wrong form or on the wrong side; every such problem.
    """
    if isinstance(criterion, written.GateCriterion) and criterion.incidents is not None:
        return _incidents(criterion, criterion.incidents)
    return _Resolution(criterion, metrics, recorded).result()


_NOT_OF_INCIDENTS = (
    ("below", "below", "is a limit of a share; incidents are counted: write atMost: 0 instead"),
    ("above", "above", "is a limit of a share; incidents are counted: write atMost: 0 instead"),
    ("quantile", "quantile", "belongs to latencies only; remove it"),
    ("certainty", "certainty", "belongs to shares; an incident that was counted is certain: remove it"),
    ("minimum", "minimum", "belongs to shares; remove it: atMost alone says how many incidents are allowed"),
    ("for_", "for", "belongs to shares; incidents are counted over the whole phase: remove it"),
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
    return Criterion(
        key=f"{noun} at most {at_most}{where}",
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
    )


def _shortened(text: str) -> str:
    """For names in status; still different for different texts."""
    if len(text) <= _LONGEST_CONDITIONS:
        return text
    return f"{text[: _LONGEST_CONDITIONS - 13]}... ({hashlib.sha256(text.encode()).hexdigest()[:8]})"


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
            return Series("value", metric.name, "", metric.value.query, 0.0, interval, metric.settle)
        if metric.ratio is None:
            raise ValueError(f"metric {metric.name} has no kind")
        return Series("ratio", metric.name, metric.ratio.bad, metric.ratio.total, 0.0, interval, metric.settle)

    def _share(self, side: str, example: str) -> Criterion:
        self._only(side, needs_quantile=False)
        limit = self.criterion.below if side == "below" else self.criterion.above
        share = Decimal(1)
        if limit is None:
            self._wrong(side, f"is missing; {self.name} needs a percentage: write {side}: {example}")
        else:
            try:
                share = parse_percent(limit)
            except ValueError:
                advice = f"{limit:g}%" if isinstance(limit, float) else example
                self._wrong(side, f"{_as_written(limit)} is not a percentage; write {side}: {advice}")
            else:
                if not 0 < share < 100:
                    self._wrong(
                        side,
                        f"{limit} cannot be kept and broken both; write a percentage between 0% and 100%, "
                        f"such as {example}",
                    )
        text = f"{_plain(share)}%"
        bad = share if side == "below" else 100 - share
        return self._counts(self._series(), float(bad / 100), text, f"{self.name} {side} {text}")

    def _latency(self) -> Criterion:
        criterion = self.criterion
        self._only("below", needs_quantile=True)
        edge, quantile = 1.0, Decimal("0.99")
        if criterion.quantile is None:
            self._wrong("quantile", "is missing; write quantile: 0.99 for the 99th percentile")
        else:
            quantile = Decimal(str(criterion.quantile))
        if criterion.below is None:
            self._wrong("below", f"is missing; {self.name} needs a duration: write below: 500ms")
        else:
            try:
                edge = parse_duration(criterion.below)
            except ValueError:
                self._wrong("below", f"{_as_written(criterion.below)} is not a duration; write below: 500ms")
        text = _duration(edge)
        key = f"{self.name} p{_plain(quantile * 100)} below {text}"
        return self._counts(self._series(edge), float(1 - quantile), text, key)

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
        if criterion.certainty is not None and not self.threshold:
            self._wrong(
                "certainty",
                "needs counts, and a bare value has none; remove it, or write certainty: threshold",
            )
        minimum = criterion.minimum or written.Minimum()
        if minimum.bad is not None:
            self._wrong("minimum.bad", "counts bad events, and a bare value has none; remove it")
        window = self._window(metric.interval)
        self._finish()
        chosen = "above" if given == ["above"] else "below"
        key = f"{metric.name} {chosen} {text}" + ("" if window == _DEFAULT_WINDOW else f" for {_duration(window)}")
        return Criterion(
            key=key,
            series=self._series(),
            limit=limit,
            side="above" if chosen == "above" else "below",
            certainty=None,
            window=window,
            min_requests=_DEFAULT_SAMPLES if minimum.requests is None else minimum.requests,
            min_bad=1,
            limit_text=text,
        )

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
            percent = parse_percent(criterion.certainty or _DEFAULT_CERTAINTY)
            certainty = float(percent / 100)
            if percent != parse_percent(_DEFAULT_CERTAINTY):
                key += f" (certainty {_plain(percent)}%)"
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

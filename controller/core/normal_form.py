"""The normal form: exact counts of events as PromQL text, for recording rules and for raw counters alike.

``increase()`` loses the first value of every series that is born, and error series are born with their first error.
The normal form counts by an anchored difference instead. With interval I, offset O and counter C, at the instant t::

    (last_over_time(C[I] offset O) - last_over_time(C[5m] offset O+I) >= 0)
    or (last_over_time(C[I] offset O) and on (job, instance)
         (max_over_time(up[5m] offset O+I) == 1
          or last_over_time(process_start_time_seconds[I] offset O) > time() - (I + O + 30)))

The first line is the newest sample of the interval less the newest sample before the interval: exact, and the sum over
the grid telescopes, so a failed scrape only moves events to the next row. The second line takes what has no such
difference, a counter that is born or was reset, at its face value; but only where Prometheus had scraped the target
before, or the process is young. An old process that is found late brings its history along: it is anchored, not counted.
What no query can see is what happens between the last scrape of a process and its death.

Every count is labelled with its own labels, ``namespace, service, track`` in the recorded form. Windows are whole
intervals: Prometheus 2 closes them at both ends, where a sample on the edge is its own anchor and counts 0; Prometheus 3
leaves the left end open, where a window one millisecond shorter would never see a sample one millisecond after the grid.

This module knows no query API; it writes text that Prometheus 2.42 and later parse.
"""

from collections.abc import Sequence

LABELS = ("namespace", "service", "track")
"""What every recorded count is labelled with; track is canary or stable."""

ANCHOR_WINDOW_S = 300.0
"""How long a target may go unseen (seconds) before its next sample is a new anchor instead of a lump of events."""

AGE_AT_FIRST_SCRAPE_S = 30.0
"""The oldest a process may be (seconds) when it is first scraped, for all its counts to be news: discovery plus one scrape."""


def duration(seconds: float) -> str:
    """A PromQL duration: ``5m``, ``10s``, ``9999ms``.

    Raises ValueError when the seconds are below 0 or no whole number of milliseconds, which is all that PromQL can say.
    """
    milliseconds = round(seconds * 1000)
    if seconds < 0 or abs(milliseconds - seconds * 1000) > 1e-6:
        raise ValueError(f"{seconds} s cannot be written in PromQL; write whole milliseconds, 0 or more")
    if milliseconds % 1000:
        return f"{milliseconds}ms"
    whole = milliseconds // 1000
    return f"{whole // 60}m" if whole and whole % 60 == 0 else f"{whole}s"


def young_limit_s(interval_s: float, offset_s: float) -> float:
    """The largest ``time() - process start`` (seconds) at which a born counter is still news.

    A first sample is judged up to interval + offset after it was taken; the rest is the age it may have at that scrape.
    """
    return interval_s + offset_s + AGE_AT_FIRST_SCRAPE_S


def young_process(interval_s: float, offset_s: float) -> str:
    """The targets (one row per job and instance) whose process is young, by ``process_start_time_seconds``."""
    start = _last("process_start_time_seconds", interval_s, offset_s)
    return f"{start} > time() - {_number(young_limit_s(interval_s, offset_s))}"


def anchored_increase(
    selector: str,
    interval_s: float,
    *,
    by: Sequence[str],
    offset_s: float = 0.0,
    or_zero_of: str | None = None,
    young: str | None = None,
) -> str:
    """How often the counter went up in the interval that ends ``offset_s`` before the instant, summed by labels.

    The formula is this module's; it was measured against known truth on real servers, as ``tests/rules`` still does.

    Args:
        selector: a plain vector selector of one counter, without range, offset or ``@``.
        interval_s: seconds between the instants of the grid; consecutive rows then share no event and miss none.
        by: the labels of the rows; empty for one row of everything.
        offset_s: seconds; 0 over settled samples, else above the longest scrape.
        or_zero_of: the selector of all events, of which ``selector`` counts the bad ones. A row that has events but no
            bad series then says 0 instead of being absent.
        young: an expression with a row per (job, instance) whose counters began lately, for sources that export no
            ``process_start_time_seconds``.

    Raises ValueError when the selector is empty, or the interval or the offset is out of range.
    """
    if not selector.strip():
        raise ValueError("the selector is empty; write the name of a counter, such as http_requests_total")
    if interval_s <= 0:
        raise ValueError(f"an interval of {interval_s} s has no events; write at least 0.001")
    current = _last(selector, interval_s, offset_s)
    anchor_window = max(ANCHOR_WINDOW_S, 5 * interval_s)
    previous = _last(selector, anchor_window, offset_s + interval_s)
    scraped_before = f"max_over_time({_range('up', anchor_window, offset_s + interval_s)}) == 1"
    born = f"on (job, instance) (\n  {scraped_before}\n  or {young or young_process(interval_s, offset_s)}\n)"
    total = sum_by(by, anchored_difference(current, previous, born))
    if or_zero_of is None:
        return total
    return or_zero(total, of=anchored_increase(or_zero_of, interval_s, by=by, offset_s=offset_s, young=young))


def anchored_difference(current: str, previous: str, born: str) -> str:
    """The heart of the form: ``current`` less ``previous``, and ``current`` itself where ``and born`` allows it.

    ``born`` begins with its matching, such as ``on (job, instance) (...)``.
    """
    return f"(\n  {_indent(current)}\n  - {_indent(previous)}\n  >= 0\n)\nor (\n  {_indent(current)}\n  and {_indent(born)}\n)"


def sum_by(labels: Sequence[str], expression: str) -> str:
    """The sum of an expression's rows per value of the labels; one row of everything without labels."""
    head = f"sum by ({', '.join(labels)}) (" if labels else "sum("
    return f"{head}\n  {_indent(expression)}\n)"


def or_zero(bad: str, *, of: str) -> str:
    """The bad count, and 0 for every row of ``of`` that has no bad count: no error series yet is no missing data."""
    return f"{bad}\nor 0 * {of}"


OWN_ALERTS = ('component="launch",launch!=""', 'component="auto-advance"')
"""The matchers of the alerts about launches and about the controller: were they incidents, a held launch would hold itself."""

SAME_INCIDENT_S = 300.0
"""An alert that fires again within this time (seconds) goes on as the same incident: alerts flap, Prometheus restarts,
and rules are evaluated less often than a row stands."""


def incidents_begun(selector: str, interval_s: float) -> str:
    """How many of the alerts began to fire in the interval before the instant; no row for none.

    ``selector`` is a plain selector of ``ALERTS`` with ``alertstate="firing"``. Windows instead of instants: a short
    alert is not missed between two of them, and the end of a series (its staleness marker) hides nothing.
    """
    return f"count(\n  {_begun(selector, interval_s)}\n)"


def incidents_firing(selector: str, interval_s: float) -> str:
    """How many of the alerts fire at the instant or began to in the interval before it; no row for none."""
    own = "".join(f"\n  unless {each}" for each in _own(selector))
    return f"count(\n  {selector}{own}\n  or (\n    {_indent(_begun(selector, interval_s))}\n  )\n)"


NO_WATCHDOG, NO_GROUPS, LATE_GROUP = 1, 2, 4
"""What :func:`alerting_doubt` adds up: the alert that always fires is missing, nothing tells of the rule groups, and so
much for each rule group that was not evaluated in time."""

GROUPS_SEEN_S = 120.0
"""How old (seconds) the newest scrape of Prometheus itself may be."""
GROUP_LATE_S = 60.0
"""A rule group is late when it was last evaluated longer ago than twice its interval and this (seconds) for the scrape."""


def alerting_doubt(interval_s: float, watchdog: str) -> str:
    """0 where it is proven that alerts were evaluated in the interval, else what is missing; a row at every instant.

    ``watchdog`` are the matchers of the alert that always fires. That it fires proves its own group alone; of the others
    Prometheus tells in the metrics about itself, if it is scraped. An instant at which Prometheus was down has no
    watchdog, for nothing was stored.
    """
    seen = duration(GROUPS_SEEN_S)
    evaluated = f"last_over_time(prometheus_rule_group_last_evaluation_timestamp_seconds[{seen}])"
    each = f"last_over_time(prometheus_rule_group_interval_seconds[{seen}])"
    fires = f'last_over_time(ALERTS{{alertstate="firing",{watchdog}}}[{duration(interval_s)}])'
    return (
        f"(0 * count({fires}) or vector({NO_WATCHDOG}))\n"
        f"+ (0 * count({evaluated}) or vector({NO_GROUPS}))\n"
        f"+ (count(time() - {evaluated} > 2 * {each} + {GROUP_LATE_S:g}) * {LATE_GROUP} or vector(0))"
    )


def _begun(selector: str, interval_s: float) -> str:
    fired = _last(selector, interval_s, 0.0)
    before = _last(selector, SAME_INCIDENT_S, interval_s)
    own = "".join(f"\n  unless {_last(each, interval_s, 0.0)}" for each in _own(selector))
    return f"{fired}\n  unless {before}{own}"


def _own(selector: str) -> tuple[str, ...]:
    """Of the alerts that a selector selects, those that are no incidents."""
    return tuple(selector.removesuffix("}") + f",{matchers}}}" for matchers in OWN_ALERTS)


def recorded_requests(interval_s: float) -> str:
    """The recorded count of requests in one interval, labelled ``namespace, service, track``."""
    return f"namespace_service_track:requests:{_suffix(interval_s)}"


def recorded_errors(interval_s: float) -> str:
    """The recorded count of failed requests; 0 wherever there are requests and none failed."""
    return f"namespace_service_track:request_errors:{_suffix(interval_s)}"


def recorded_requests_within(interval_s: float) -> str:
    """The recorded count of requests that took at most ``le`` seconds, with ``le`` as :func:`edge_label` writes it.

    ``le="+Inf"`` are all requests of the same histogram: requests slower than L = ``+Inf`` less L, exactly.
    """
    return f"namespace_service_track_le:requests:{_suffix(interval_s)}"


def recorded_restarts(interval_s: float) -> str:
    """The recorded count of container restarts."""
    return f"namespace_service_track:restarts:{_suffix(interval_s)}"


def edge_label(seconds: float) -> str:
    """The recorded ``le`` of a latency edge in seconds: ``0.25``, ``1.0``, ``+Inf``.

    Always with a decimal point, as Prometheus 3 stores it, whatever the source wrote.
    """
    return "+Inf" if seconds == float("inf") else repr(float(seconds))


def recorded_reading(record: str, interval_s: float, *, at: str = "") -> str:
    """What to ask at an instant of the grid to get the row that was recorded in the interval before it, or no row.

    Never the bare series: after an outage it repeats its old value for five minutes. ``at`` are label matchers such as
    ``track="canary"``. One millisecond short of the interval, because a range of Prometheus 2 is closed at both ends and
    would repeat a row on the grid after a gap.
    """
    return _last(f"{record}{{{at}}}" if at else record, interval_s - 0.001, 0.0)


def _last(selector: str, window_s: float, offset_s: float) -> str:
    return f"last_over_time({_range(selector, window_s, offset_s)})"


def _range(selector: str, window_s: float, offset_s: float) -> str:
    shift = f" offset {duration(offset_s)}" if offset_s else ""
    return f"{selector}[{duration(window_s)}]{shift}"


def _suffix(interval_s: float) -> str:
    milliseconds = round(interval_s * 1000)
    # Seconds even where minutes would do, so that a name can be told from its interval without knowing PromQL.
    return f"delta{milliseconds}ms" if milliseconds % 1000 else f"delta{milliseconds // 1000}s"


def _number(value: float) -> str:
    return f"{value:.3f}".rstrip("0").rstrip(".")


def _indent(text: str) -> str:
    return text.replace("\n", "\n  ")

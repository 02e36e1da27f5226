import itertools
import math
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.adapters.prometheus import (
    Answer,
    AnsweredSeries,
    Prometheus,
    PrometheusSettings,
    QueryRefusedError,
    QueryUnusableError,
)
from controller.adapters.promql import KEY_LABEL, QUESTION_LABEL
from controller.core.series import Reading, Row, Series, Subject, Track
from controller.errors import AdapterError, RefusedError, UnansweredError, UnusableError
from controller.gather import Gatherer
from tests.realparts.prometheus import Prometheus as RealPrometheus
from tests.realparts.prometheus import config, promtool

T0 = 1_700_000_000  # a multiple of 10
Rows = Iterable[tuple[Mapping[str, str], Mapping[float, float]]]
_NUMBERED = re.compile(
    r"label_replace\(\s*(?:label_join\(\s*)?(?P<inner>(?:(?!label_replace).)*?)"
    r'(?:,\s*"__key", "\\x1f", (?P<labels>[^)]*)\))?,\s*"__question", "(?P<number>\d+)", "", ""\)',
    re.DOTALL,
)


class FakePrometheus:
    """Answers each expression of a query with what `says` gives for it, at the instants that are asked for.

    `says` gives labels with values by epoch seconds, or raises.
    """

    def __init__(self, says: Callable[[str], Rows]) -> None:
        self._says = says
        self._lock = threading.Lock()
        self.asked: list[tuple[str, float, float, float]] = []
        self.now = 0.0  # the clock of a test that wants time to pass with each question
        self.takes = 0.0

    def query_range(self, expression: str, start: float, end: float, step: float, deadline: float) -> Answer:
        with self._lock:
            self.asked.append((expression, start, end, step))
            self.now += self.takes
        assert self.takes == 0 or self.now <= deadline + self.takes
        instants = {round(start * 1000) + i * round(step * 1000) for i in range(int((end - start) / step + 1e-6) + 1)}
        found: list[AnsweredSeries] = []
        # A counter stands three times in its anchored difference; `says` gives the difference.
        parts = {one["number"]: one for one in _NUMBERED.finditer(expression)}
        for number, one in parts.items() or [("", None)]:
            for labels, values in self._says(one["inner"] if one else expression):
                kept = {t: v for s, v in values.items() if (t := round(s * 1000)) in instants}
                tags = {QUESTION_LABEL: number} if number else {}
                if one and one["labels"]:
                    tags[KEY_LABEL] = "\x1f".join(labels[name.strip('"')] for name in one["labels"].split(", "))
                if kept:
                    found.append(AnsweredSeries({**labels, **tags}, kept))
        return Answer(tuple(found))


@pytest.fixture
def gatherer() -> Iterator[Callable[..., Gatherer]]:
    opened: list[Gatherer] = []

    def open_one(prometheus: FakePrometheus, *, workers: int = 4) -> Gatherer:
        clock = (lambda: prometheus.now) if prometheus.takes else time.monotonic
        opened.append(Gatherer(prometheus, workers=workers, clock=clock))
        return opened[-1]

    yield open_one
    for one in opened:
        one.close()


def subject(series: Series, service: str = "shop", track: Track = "canary", namespace: str = "prod") -> Subject:
    return Subject(series, namespace, "main", service, "v2", track)


def ratio(interval: int = 10, settle: float = 10.0, bad: str = 'bad_total{service="{{service}}"}') -> Series:
    return Series("ratio", "paying", bad, 'all_total{service="{{service}}"}', interval=interval, settle=settle)


RATIO = ratio()
ERRORS = Series("recorded", "errors")
LATENCY = Series("recorded", "latency", edge=0.5)
VALUE = Series("value", "revenue", total="revenue", interval=10)


def counts(bad: Mapping[float, float], total: Mapping[float, float]) -> Callable[[str], Rows]:
    return lambda expression: [({}, bad if "bad_total" in expression else total)]


def always(value: float) -> dict[float, float]:
    return {T0 + second / 2: value for second in range(-400, 800)}


def read(one: Gatherer, about: Series, after: int, now: float, deadline_s: float = 60.0) -> Reading:
    wanted = subject(about)
    return one.gather({wanted: after}, now, deadline_s)[wanted]


# --- which instants ---


@pytest.mark.parametrize(
    ("series", "after", "now", "settled", "tail"),
    [
        # through = floor((now - settle) / interval) * interval; a tail row's interval begins there or later
        (RATIO, T0, T0 + 35.5, [10, 20], [35.5]),
        (RATIO, T0, T0 + 30, [10, 20], [30]),
        (RATIO, T0, T0 + 39.5, [10, 20], [39.5]),
        (RATIO, T0 + 20, T0 + 35.5, [], [35.5]),
        (RATIO, T0 + 20, T0 + 29.5, [], []),
        (RATIO, T0 + 40, T0 + 35.5, [], []),
        (ratio(1, 3), T0, T0 + 5.5, [1, 2], [3.5, 4.5, 5.5]),
        (ratio(1, 3), T0 + 2, T0 + 5, [], [3, 4, 5]),
        (ratio(10, 0), T0, T0 + 20, [10, 20], []),
        (ratio(10, 25), T0, T0 + 36, [10], [26, 36]),
    ],
)
def test_settled_rows_stand_on_the_grid_and_the_tail_ends_now(
    series: Series,
    after: int,
    now: float,
    settled: list[float],
    tail: list[float],
    gatherer: Callable[..., Gatherer],
) -> None:
    found = read(gatherer(FakePrometheus(counts(always(1), always(5)))), series, after, now)
    assert found.problem == ""
    assert [row.at - T0 for row in found.settled] == settled
    assert [row.at - T0 for row in found.tail] == tail
    assert found.through == max(after, math.floor((now - series.settle) / series.interval) * series.interval)
    assert {(row.n, row.x) for row in found.settled + found.tail} <= {(5.0, 1.0)}


def recorded_rows(expression: str) -> Rows:
    for service, track in itertools.product(("shop", "cart"), ("canary", "stable")):
        labels = {"namespace": "prod", "service": service, "track": track}
        grid = {T0 + 10.0 * i: float(i) for i in range(60)}
        if "_le:" in expression:
            name = "namespace_service_track_le:requests:delta10s"
            for le, share in (("0.5", 0.75), ("+Inf", 1)):
                yield {**labels, "__name__": name, "le": le}, {t: 4 * i * share for t, i in grid.items()}
        else:
            yield (
                {**labels, "__name__": "namespace_service_track:requests:delta10s"},
                {t: 4 * i for t, i in grid.items()},
            )
            yield {**labels, "__name__": "namespace_service_track:request_errors:delta10s"}, grid


@pytest.mark.parametrize("series", [ERRORS, LATENCY])
def test_the_tail_of_recorded_rows_stands_on_the_grid_too(series: Series, gatherer: Callable[..., Gatherer]) -> None:
    prometheus = FakePrometheus(recorded_rows)
    found = read(gatherer(prometheus), series, T0, T0 + 45.5)
    assert found == Reading(
        T0,
        T0 + 30,
        (Row(T0 + 10, 4, 1), Row(T0 + 20, 8, 2), Row(T0 + 30, 12, 3)),
        (Row(T0 + 40, 16, 4),),
    )
    assert len(prometheus.asked) == 1


# --- how many questions ---


@pytest.mark.parametrize("series", [ERRORS, LATENCY])
def test_recorded_metrics_are_asked_once_for_the_whole_fleet(series: Series, gatherer: Callable[..., Gatherer]) -> None:
    prometheus = FakePrometheus(recorded_rows)
    tracks: tuple[Track, Track] = ("canary", "stable")
    wanted = {subject(series, service, track): T0 + 20 for service in ("shop", "cart", "none") for track in tracks}
    found = gatherer(prometheus).gather(wanted, T0 + 40, 60)
    assert len(prometheus.asked) == 1
    assert found[subject(series, "cart", "stable")].settled == (Row(T0 + 30, 12, 3),)
    assert found[subject(series, "none")] == Reading(T0 + 20, T0 + 30)


def test_the_fleet_is_named_while_it_is_small(gatherer: Callable[..., Gatherer]) -> None:
    prometheus = FakePrometheus(recorded_rows)
    one = gatherer(prometheus)
    one.gather({subject(ERRORS, f"shop{i}"): T0 for i in range(3)}, T0 + 30, 60)
    assert 'service=~"shop0|shop1|shop2"' in prometheus.asked[0][0]
    one.gather({subject(ERRORS, f"shop{i}"): T0 for i in range(400)}, T0 + 30, 60)
    assert "service" not in prometheus.asked[1][0].replace("namespace_service_track", "")


def test_the_edges_of_latency_are_asked_together(gatherer: Callable[..., Gatherer]) -> None:
    prometheus = FakePrometheus(recorded_rows)
    wanted = {subject(Series("recorded", "latency", edge=edge)): T0 for edge in (0.5, 1.0)}
    found = gatherer(prometheus).gather(wanted, T0 + 30, 60)
    assert len(prometheus.asked) == 1
    assert r'le=~"\\+Inf|0\\.5|1|1\\.0"' in prometheus.asked[0][0]
    # An edge that the rules do not record is no slow traffic.
    assert [reading.problem for reading in found.values()] == [
        "",
        'metric "latency" has no bucket with le="1"; write a limit that is a bucket\'s edge: auto-advance check names the nearest',
    ]


def test_own_metrics_of_many_launches_are_two_requests(gatherer: Callable[..., Gatherer]) -> None:
    def says(expression: str) -> Rows:
        for i in range(200):
            yield {"service": f"shop{i}"}, always(i if "bad_total" in expression else 1000)

    prometheus = FakePrometheus(says)
    series = ratio(1, 10)
    wanted = {subject(series, f"shop{i}"): T0 + 89 for i in range(200)}
    found = gatherer(prometheus).gather(wanted, T0 + 100.5, 60)
    assert len(prometheus.asked) == 2  # the settled grid, and the tail up to now
    for i in range(200):
        reading = found[subject(series, f"shop{i}")]
        assert reading.settled == (Row(T0 + 90, 1000, i),)
        assert reading.tail[-1] == Row(T0 + 100.5, 1000, i)
        assert len(reading.tail) == 10


def test_different_expressions_share_requests_of_fifty(gatherer: Callable[..., Gatherer]) -> None:
    def says(expression: str) -> Rows:
        found = re.search(r"metric_(\d+)", expression)
        assert found
        return [({"pod": "a"}, always(float(found[1])))]

    prometheus = FakePrometheus(says)
    series = [Series("value", "m", total=f"sum(metric_{i})", settle=0.0) for i in range(120)]
    found = gatherer(prometheus).gather({subject(one): T0 for one in series}, T0 + 10, 60)
    assert len(prometheus.asked) == 3
    assert [found[subject(one)].settled for one in series] == [(Row(T0 + 10, 1, i),) for i in range(120)]


# --- what counts as data ---


def test_an_absent_row_is_no_row_and_absent_bad_events_are_none(gatherer: Callable[..., Gatherer]) -> None:
    total = {T0 + 10.0: 7.0, T0 + 30.0: 0.0}
    found = read(gatherer(FakePrometheus(counts({}, total))), RATIO, T0, T0 + 40)
    assert found == Reading(T0, T0 + 30, (Row(T0 + 10, 7, 0), Row(T0 + 30, 0, 0)))


def test_recorded_requests_without_their_recorded_errors_are_no_row(gatherer: Callable[..., Gatherer]) -> None:
    def says(_: str) -> Rows:
        name = "namespace_service_track:requests:delta10s"
        yield {"__name__": name, "namespace": "prod", "service": "shop", "track": "canary"}, always(9)

    assert read(gatherer(FakePrometheus(says)), ERRORS, T0, T0 + 40) == Reading(T0, T0 + 30)


@pytest.mark.parametrize(
    ("bad", "total", "words"),
    [
        (math.nan, 9, "gives NaN for the count of bad events"),
        (1, math.nan, "gives NaN for the count of all events"),
        (1, math.inf, "gives +Inf for the count of all events"),
        (-1, 9, "gives a negative count (-1)"),
        (1, -9, "gives a negative count (-9)"),
        (10, 9, "gives 10 bad events among 9"),
        (3, None, "gives 3 events without a total"),
    ],
)
def test_numbers_that_are_no_counts_are_named_while_they_last_and_a_gap_afterwards(
    bad: float, total: float | None, words: str, gatherer: Callable[..., Gatherer]
) -> None:
    bads, totals = always(1), always(9)
    for t in (T0 + 40, T0 + 50):
        bads[t] = bad
        if total is None:
            del totals[t]
        else:
            totals[t] = total
    one = gatherer(FakePrometheus(counts(bads, totals)))
    assert read(one, RATIO, T0, T0 + 50) == Reading(T0, T0, problem=f'metric "paying" {words}')
    after = read(one, RATIO, T0, T0 + 80)
    assert after.problem == ""
    assert [row.at - T0 for row in after.settled] == [10, 20, 30, 60, 70]


@pytest.mark.parametrize(("value", "shown"), [(math.nan, "NaN"), (math.inf, "+Inf"), (-math.inf, "-Inf")])
def test_a_bare_value_that_is_no_number_is_named(value: float, shown: str, gatherer: Callable[..., Gatherer]) -> None:
    found = read(gatherer(FakePrometheus(lambda _: [({}, always(value))])), VALUE, T0, T0 + 40)
    assert found == Reading(T0, T0, problem=f'metric "revenue" gives {shown}')


def test_a_bare_value_may_be_negative(gatherer: Callable[..., Gatherer]) -> None:
    found = read(gatherer(FakePrometheus(lambda _: [({}, always(-2.5))])), VALUE, T0, T0 + 20)
    assert found == Reading(T0, T0 + 10, (Row(T0 + 10, 1, -2.5),), (Row(T0 + 20, 1, -2.5),))


def test_a_sum_may_be_off_by_its_rounding(gatherer: Callable[..., Gatherer]) -> None:
    found = read(gatherer(FakePrometheus(counts(always(9.000000000001), always(9)))), RATIO, T0, T0 + 20)
    assert found.settled == (Row(T0 + 10, 9, 9),)


def test_two_series_at_one_instant_are_named_and_one_after_the_other_is_fine(
    gatherer: Callable[..., Gatherer],
) -> None:
    old, new = {T0 + 10.0: 1.0, T0 + 20: 2.0}, {T0 + 30.0: 3.0, T0 + 40: 4.0}

    def says(expression: str) -> Rows:
        return [({"pod": "old"}, {**old, **(new if "twice" in expression else {})}), ({"pod": "new"}, new)]

    one = gatherer(FakePrometheus(says))
    assert [row.x for row in read(one, VALUE, T0, T0 + 40).settled] == [1, 2, 3]
    twice = Series("value", "revenue", total="twice")
    assert read(one, twice, T0, T0 + 40).problem == (
        'metric "revenue" gives several series where one is expected; aggregate it, for example with sum(...)'
    )


def test_histograms_are_named(gatherer: Callable[..., Gatherer]) -> None:
    class Histograms(FakePrometheus):
        def query_range(self, expression: str, start: float, end: float, step: float, deadline: float) -> Answer:
            return Answer((AnsweredSeries({QUESTION_LABEL: "0"}, {}, histogram=True),))

    found = read(gatherer(Histograms(lambda _: [])), VALUE, T0, T0 + 40)
    assert found.problem == 'metric "revenue" gives histograms instead of numbers; take its classic buckets'


def test_own_latency_is_the_count_less_the_bucket(gatherer: Callable[..., Gatherer]) -> None:
    series = Series("latency", "checkout", "seconds_bucket", "seconds_count", edge=0.5)

    def says(expression: str) -> Rows:
        return [({}, {T0 + 10: 7.0, T0 + 20: 8.0} if "seconds_bucket" in expression else always(9))]

    found = read(gatherer(FakePrometheus(says)), series, T0, T0 + 20)
    assert found == Reading(T0, T0 + 10, (Row(T0 + 10, 9, 2),), (Row(T0 + 20, 9, 1),))
    assert read(gatherer(FakePrometheus(says)), series, T0, T0 + 30).problem == (
        'metric "checkout" has no bucket with le="0.5"; write a limit that is a bucket\'s edge: auto-advance check names the nearest'
    )


# --- when it does not answer ---


def failing(error: Exception, where: str = "") -> Callable[[str], Rows]:
    def says(expression: str) -> Rows:
        if where in expression:
            raise error
        return [({}, always(5))]

    return says


@pytest.mark.parametrize("series", [ERRORS, RATIO, VALUE])
@pytest.mark.parametrize("error", [UnansweredError, RefusedError, UnusableError, QueryRefusedError, QueryUnusableError])
def test_an_error_is_the_problem_in_its_own_words(
    series: Series, error: type[AdapterError], gatherer: Callable[..., Gatherer]
) -> None:
    found = read(gatherer(FakePrometheus(failing(error("Prometheus at x: boom")))), series, T0, T0 + 40)
    assert found == Reading(T0, T0, problem="Prometheus at x: boom")


def test_one_bad_expression_spoils_no_other_and_is_asked_alone_from_then_on(
    gatherer: Callable[..., Gatherer],
) -> None:
    prometheus = FakePrometheus(failing(QueryRefusedError("no"), where="metric_7}"))
    series = [Series("value", "m", total=f'sum(metric{{a="metric_{i}}}"}})', settle=0.0) for i in range(40)]
    one = gatherer(prometheus)
    for _ in range(2):
        prometheus.asked.clear()
        found = one.gather({subject(s): T0 for s in series}, T0 + 10, 60)
        problems = {s.total: found[subject(s)].problem for s in series if found[subject(s)].problem}
        assert problems == {series[7].total: "no"}
        assert all(len(found[subject(s)].settled) == 1 for s in series if s is not series[7])
    assert len(prometheus.asked) == 1  # not even the bad one, for ten seconds


def test_an_expression_that_cannot_be_read_costs_no_request(gatherer: Callable[..., Gatherer]) -> None:
    prometheus = FakePrometheus(lambda _: [])
    found = read(gatherer(prometheus), Series("value", "m", total="sum("), T0, T0 + 40)
    assert found.problem.startswith('metric "m", field value.query: is no PromQL: ')
    assert prometheus.asked == []


@pytest.mark.parametrize("error", [UnansweredError, RefusedError, UnusableError])
def test_what_is_not_about_the_query_is_not_searched_for_a_culprit(
    error: type[AdapterError], gatherer: Callable[..., Gatherer]
) -> None:
    prometheus = FakePrometheus(failing(error("no token")))
    series = [Series("value", "m", total=f"metric_{i}") for i in range(40)]
    found = gatherer(prometheus).gather({subject(s): T0 for s in series}, T0 + 15, 60)
    assert {reading.problem for reading in found.values()} == {"no token"}
    assert len(prometheus.asked) == 1


def test_when_all_is_refused_the_search_for_the_culprit_ends(gatherer: Callable[..., Gatherer]) -> None:
    prometheus = FakePrometheus(failing(QueryUnusableError("warnings")))
    series = [Series("value", "m", total=f"metric_{i}") for i in range(500)]
    found = gatherer(prometheus).gather({subject(s): T0 for s in series}, T0 + 10, 60)
    assert {reading.problem for reading in found.values()} == {"warnings"}
    assert len(prometheus.asked) < 100


# --- after an outage ---


def test_the_past_is_read_in_pieces_oldest_first_and_as_far_as_the_time_allows(
    gatherer: Callable[..., Gatherer],
) -> None:
    prometheus = FakePrometheus(recorded_rows)
    prometheus.takes = 1.0
    one = gatherer(prometheus, workers=1)
    fleet = {subject(ERRORS, f"other{i}"): T0 + 560 for i in range(1000)}
    late = subject(ERRORS)
    after, seen = T0, []
    for _ in range(3):
        prometheus.asked.clear()
        found = one.gather({**fleet, late: after}, T0 + 580, 3.0)
        assert all(reading.problem == "" and reading.through == T0 + 570 for s, reading in found.items() if s != late)
        assert all((end - start) / step < 13 for _, start, end, step in prometheus.asked)
        assert len(prometheus.asked) <= 3
        reading = found[late]
        assert reading.problem == ""
        seen += [row.at for row in reading.settled]
        after = reading.through
        if after == T0 + 570:
            assert [row.at for row in reading.tail] == [T0 + 580]
            break
        assert reading.tail == ()
    assert seen == [T0 + 10.0 * i for i in range(1, 58)]


def test_one_request_serves_launches_that_stand_at_different_instants(gatherer: Callable[..., Gatherer]) -> None:
    prometheus = FakePrometheus(recorded_rows)
    wanted = {subject(ERRORS): T0 + 20, subject(ERRORS, "cart"): T0}
    found = gatherer(prometheus).gather(wanted, T0 + 40, 60)
    assert len(prometheus.asked) == 1
    assert [[row.at - T0 for row in reading.settled] for reading in found.values()] == [[30], [10, 20, 30]]


def test_a_tail_that_was_not_read_is_a_problem_and_not_an_empty_tail(gatherer: Callable[..., Gatherer]) -> None:
    prometheus = FakePrometheus(counts(always(1), always(5)))
    prometheus.takes = 1.0
    found = read(gatherer(prometheus, workers=1), RATIO, T0, T0 + 40, deadline_s=0.5)
    assert len(prometheus.asked) == 1
    assert found == Reading(T0, T0, problem="Prometheus did not answer within 500ms")


def test_few_launches_read_their_past_in_large_pieces(gatherer: Callable[..., Gatherer]) -> None:
    prometheus = FakePrometheus(recorded_rows)
    found = read(gatherer(prometheus), ERRORS, T0, T0 + 580)
    assert len(prometheus.asked) == 1
    assert len(found.settled) == 57


def test_a_time_that_is_over_before_the_first_answer_is_the_problem(gatherer: Callable[..., Gatherer]) -> None:
    prometheus = FakePrometheus(recorded_rows)
    prometheus.takes = 1.0
    found = read(gatherer(prometheus), ERRORS, T0, T0 + 580, deadline_s=0.0)
    assert found == Reading(T0, T0, problem="Prometheus did not answer within 0ms")


def test_a_query_that_outlives_the_deadline_is_not_waited_for(gatherer: Callable[..., Gatherer]) -> None:
    over = threading.Event()

    def says(_: str) -> Rows:
        over.wait(120)
        return []

    started = time.monotonic()
    found = read(gatherer(FakePrometheus(says)), ERRORS, T0, T0 + 40, deadline_s=0.1)
    over.set()
    assert found.problem == "Prometheus did not answer within 100ms"
    assert time.monotonic() - started < 30


@settings(max_examples=60, deadline=None)
@given(
    ticks=st.lists(st.integers(1, 40_000), min_size=1, max_size=12),
    interval=st.sampled_from([1, 2, 10]),
    settle=st.sampled_from([0.0, 1.0, 2.5, 10.0]),
    kind=st.sampled_from(["ratio", "recorded"]),
)
def test_tick_by_tick_and_all_at_once_are_the_same_rows(
    ticks: list[int], interval: int, settle: float, kind: str
) -> None:
    grid = {T0 + float(i): float(i * 7 % 11) for i in range(600) if i % 13}
    names = (
        f"namespace_service_track:requests:delta{interval}s",
        f"namespace_service_track:request_errors:delta{interval}s",
    )

    def says(expression: str) -> Rows:
        if kind == "recorded":
            for name, more in zip(names, (5, 0), strict=True):
                labels = {"__name__": name, "namespace": "prod", "service": "shop", "track": "canary"}
                yield labels, {t: v + more for t, v in grid.items()}
        else:
            yield {}, {t: v + (0 if "bad_total" in expression else 5) for t, v in grid.items()}

    series = Series("recorded", "errors") if kind == "recorded" else RATIO
    series = Series(series.kind, series.metric, series.bad, series.total, interval=interval, settle=settle)
    one = Gatherer(FakePrometheus(says))
    try:
        after, now = T0, float(T0)
        rows: list[Row] = []
        for tick in ticks:
            now += tick / 1000
            reading = read(one, series, after, now)
            assert reading.problem == ""
            assert all(reading.through < row.at <= now for row in reading.tail)
            rows += reading.settled
            after = reading.through
        assert tuple(rows) == read(one, series, T0, now).settled
    finally:
        one.close()


# --- on a real Prometheus ---


SERVICES = {"shop": 3, "cart": 5, "shop.eu": 7}
VERSIONS = [pytest.param(version, marks=pytest.mark.real) for version in ("2", "3")]


def stored() -> str:
    """Two minutes at one sample a second: counters that are born, recorded rows each ten seconds, oddities."""
    lines: dict[str, list[str]] = {}

    def put(family: str, series: str, at: float, value: float | str) -> None:
        lines.setdefault(family, []).append(f"{series} {value} {at:.3f}")

    tracks = list(itertools.product(SERVICES.items(), ("canary", "stable")))
    for (service, rate), track in tracks:
        target = f'job="{service}",instance="{service}-{track}"'
        labels = f'{target},namespace="prod",service="{service}",track="{track}"'
        for second in range(121):
            at = T0 + second
            put("up", f"up{{{target}}}", at, 1)
            put("all", f"all_total{{{labels}}}", at, 100 * second)
            put("sec", f"sec_count{{{labels}}}", at, 100 * second)
            spelled = "1" if track == "stable" else "1.0"
            put("sec", f'sec_bucket{{{labels},le="{spelled}"}}', at, 90 * second)
            # The canary's errors are born at 60 s.
            if track == "stable" or second >= 60:
                put("bad", f"bad_total{{{labels}}}", at, rate * (second - 59 if track == "canary" else second))
        for tenth in range(1, 13):
            row = f'{{namespace="prod",service="{service}",track="{track}"}}'
            evaluated = T0 + 10 * tenth - 3.2
            put("rec", f"namespace_service_track:requests:delta10s{row}", evaluated, 1000)
            put("rec", f"namespace_service_track:request_errors:delta10s{row}", evaluated, rate)
            for le, value in (("1.0", 900), ("+Inf", 1000)):
                put("rec", f'namespace_service_track_le:requests:delta10s{row[:-1]},le="{le}"}}', evaluated, value)
    for second in range(121):
        put("pods", 'revenue{namespace="prod",pod="a"}', T0 + second, 5.5)
        put("pods", 'revenue{namespace="prod",pod="b"}', T0 + second, 5.5)
        put("pods", 'revenue{namespace="other",pod="c"}', T0 + second, 1000)
        put("odd", 'odd{namespace="prod"}', T0 + second, "NaN" if second > 100 else 1)
    return "\n".join(line for family in lines.values() for line in family) + "\n# EOF\n"


@pytest.fixture(scope="module")
def blocks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("blocks")
    (folder / "stored.txt").write_text(stored())
    command = [
        str(promtool()),
        "tsdb",
        "create-blocks-from",
        "openmetrics",
        str(folder / "stored.txt"),
        str(folder / "data"),
    ]
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    return folder / "data"


@pytest.fixture(scope="module", params=VERSIONS)
def real(request: pytest.FixtureRequest, blocks: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gatherer]:
    folder = tmp_path_factory.mktemp("prometheus")
    shutil.copytree(blocks, folder / "data")
    keep = ("--storage.tsdb.retention.time=90y",)  # what is stored lies in the past
    with RealPrometheus(folder, version=request.param, config=config(), arguments=keep) as server:
        prometheus = Prometheus(PrometheusSettings(url=server.url, timeout=60.0, read_timeout=60.0))
        one = Gatherer(prometheus)
        yield one
        one.close()
        prometheus.close()


def everyone(series: Series) -> list[Subject]:
    tracks: tuple[Track, Track] = ("canary", "stable")
    return [subject(series, service, track) for service in SERVICES for track in tracks]


@pytest.mark.parametrize("interval", [1, 10])
def test_joined_raw_counters_give_exact_counts(real: Gatherer, interval: int) -> None:
    series = ratio(interval, 10.0)
    wanted = everyone(series)
    found = real.gather(dict.fromkeys(wanted, T0 + 40), T0 + 110.0, 60)
    for one in wanted:
        reading = found[one]
        assert (reading.problem, reading.through) == ("", T0 + 100)
        assert [row.n for row in reading.settled] == [100.0 * interval] * (60 // interval)
        # Every error is counted once, that of the birth as well.
        seconds = 60 if one.track == "stable" else 41
        assert sum(row.x for row in reading.settled) == SERVICES[one.service] * seconds
        assert sum(row.x for row in reading.tail) == SERVICES[one.service] * 10
        # Asked alone it is the same, to the last digit.
        assert real.gather({one: T0 + 40}, T0 + 110.0, 60)[one] == reading


def test_different_counters_in_one_request_are_what_they_are_alone(real: Gatherer) -> None:
    latency = Series("latency", "sec", 'sec_bucket{service="{{service}}"}', "sec_count", edge=1.0)
    ready = Series("ratio", "ready", "sum(increase(bad_total[10s]))", "all_total")
    totals = Series("ratio", "totals", "bad_total", '{__name__="all_total"}')
    wanted = [one for series in (RATIO, latency, ready, totals) for one in everyone(series)]
    together = real.gather(dict.fromkeys(wanted, T0 + 40), T0 + 110.0, 60)
    for one in wanted:
        assert together[one].problem == ""
        assert len(together[one].settled) == 6
        assert real.gather({one: T0 + 40}, T0 + 110.0, 60)[one] == together[one]


def test_raw_latency_finds_its_edge_in_either_spelling(real: Gatherer) -> None:
    series = Series("latency", "sec", 'sec_bucket{service="{{service}}"}', 'sec_count{service="{{service}}"}', edge=1.0)
    found = real.gather(dict.fromkeys(everyone(series), T0 + 60), T0 + 110.0, 60)
    for reading in found.values():
        assert reading.settled == tuple(Row(T0 + t, 1000.0, 100.0) for t in (70, 80, 90, 100))


@pytest.mark.parametrize(("series", "share"), [(ERRORS, None), (Series("recorded", "latency", edge=1.0), 100.0)])
def test_recorded_rows_are_found_and_not_repeated_after_their_end(
    real: Gatherer, series: Series, share: float | None
) -> None:
    wanted = everyone(series)
    found = real.gather(dict.fromkeys(wanted, T0 + 90), T0 + 165.0, 60)
    for one in wanted:
        x = SERVICES[one.service] if share is None else share
        assert found[one] == Reading(T0 + 90, T0 + 150, tuple(Row(T0 + t, 1000.0, x) for t in (100, 110, 120)))


def test_expressions_of_a_plan_share_a_request_and_none_spoils_another(real: Gatherer) -> None:
    wanted = {
        name: subject(Series("value", name, total=text))
        for name, text in {
            "good": "sum(revenue)",
            "scalar": "1 + 2",
            "several": "revenue",
            "duplicates": "sum(revenue) * on () revenue",
            "unknown function": "no_such_function(revenue)",
            "nan": "odd",
            "none": "nothing_here",
            "of others": 'sum(revenue{namespace="other"})',
        }.items()
    }
    found = real.gather(dict.fromkeys(wanted.values(), T0 + 90), T0 + 110.0, 60)
    readings = {name: found[one] for name, one in wanted.items()}
    assert readings["good"].settled == (Row(T0 + 100, 1, 11),)
    assert readings["scalar"].tail == (Row(T0 + 110, 1, 3),)
    assert "several series where one is expected" in readings["several"].problem
    assert re.search(r"refused the query \(HTTP 422\): .*many-to-many|multiple matches", readings["duplicates"].problem)
    assert "no_such_function" in readings["unknown function"].problem
    assert readings["nan"].problem == 'metric "nan" gives NaN'
    assert readings["none"] == Reading(T0 + 90, T0 + 100)
    assert readings["of others"] == Reading(T0 + 90, T0 + 100)


@pytest.mark.real
def test_a_prometheus_that_hangs_or_is_gone_is_told_and_recovered_from(
    blocks: Path, prometheus_factory: Callable[..., RealPrometheus]
) -> None:
    server = prometheus_factory(config=config(), arguments=("--storage.tsdb.retention.time=90y",))
    server.stop()
    shutil.copytree(blocks, server.folder / "data", dirs_exist_ok=True)
    server.start()
    prometheus = Prometheus(PrometheusSettings(url=server.url, timeout=60.0, read_timeout=60.0))
    one = Gatherer(prometheus)
    wanted = subject(ratio(1))

    def gathered(deadline_s: float = 60.0) -> Reading:
        return one.gather({wanted: T0 + 90}, T0 + 110.0, deadline_s)[wanted]

    healthy = gathered()
    assert len(healthy.settled) == 10
    with server.paused():
        started = time.monotonic()
        assert re.search(r"did not answer within (\d+ms|1(\.\d+)?s|2s)", gathered(2.0).problem)
        assert time.monotonic() - started < 30, "it is frozen for as long as it is asked"
    assert gathered() == healthy
    with server.stopped():
        assert "refuses the connection" in gathered().problem
    assert gathered() == healthy
    one.close()
    prometheus.close()

"""What restarts, uptime and the past of a track are made of, as Prometheus answers."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import replace
from math import inf, nan
from pathlib import Path
from typing import Literal

import promql_parser
import pytest

from controller.adapters.prometheus import Prometheus, PrometheusSettings
from controller.core.series import Reading, Row, Series
from controller.gather import Gatherer
from tests.realparts.prometheus import Prometheus as RealPrometheus
from tests.realparts.prometheus import config, promtool
from tests.test_gather import ERRORS, T0, FakePrometheus, Rows, read, subject

RESTARTS = Series("recorded", "restarts")
UPTIME = Series("uptime", "uptime")
LABELS = {"namespace": "prod", "service": "shop", "track": "canary"}


@pytest.fixture
def opened() -> Iterator[list[Gatherer]]:
    """What is closed at the end."""
    gatherers: list[Gatherer] = []
    yield gatherers
    for one in gatherers:
        one.close()


def gatherer(opened: list[Gatherer], prometheus: FakePrometheus) -> Gatherer:
    opened.append(Gatherer(prometheus))
    return opened[-1]


def test_restarts_are_one_recorded_count_and_no_request(opened: list[Gatherer]) -> None:
    def says(expression: str) -> Rows:
        assert "request" not in expression
        yield {**LABELS, "__name__": "namespace_service_track:restarts:delta10s"}, {T0 + 10: 0.0, T0 + 20: 2.0}

    found = read(gatherer(opened, FakePrometheus(says)), RESTARTS, T0, T0 + 30)
    assert found == Reading(T0, T0 + 20, (Row(T0 + 10, 0, 0), Row(T0 + 20, 2, 2)))


@pytest.mark.parametrize(
    ("failed", "requests", "up", "row"),
    [
        (2.0, 9.0, 3.0, (9.0, 2.0)),
        (0.0, 0.0, 3.0, (0.0, 0.0)),
        (None, None, 3.0, (0.0, 0.0)),  # it answers, and nobody asks
        (None, None, 0.0, (1.0, 1.0)),  # nothing answers
        (0.0, 0.0, 0.0, (1.0, 1.0)),
        (1.0, 5.0, 0.0, (5.0, 1.0)),  # what was counted says more than the last scrape
        (0.0, 5.0, None, (5.0, 0.0)),
        (None, None, None, None),
    ],
)
def test_uptime_is_what_was_counted_or_else_whether_anything_answers(
    failed: float | None,
    requests: float | None,
    up: float | None,
    row: tuple[float, float] | None,
    opened: list[Gatherer],
) -> None:
    def says(expression: str) -> Rows:
        value = failed if "request_errors" in expression else requests if ":requests:" in expression else up
        return [] if value is None else [({}, {T0 + 10: value})]

    prometheus = FakePrometheus(says)
    found = read(gatherer(opened, prometheus), UPTIME, T0, T0 + 20)
    assert found.settled == (() if row is None else (Row(T0 + 10, *row),))
    (asked, *_) = prometheus.asked
    promql_parser.parse(asked[0])
    assert asked[0].count('track="canary"') == 3


def test_the_past_comes_as_hours_and_leaves_the_present_as_it_is(opened: list[Gatherer]) -> None:
    counted: Mapping[float, float] = {T0 + 10.0 * place: 6.0 for place in range(-400, 10)}

    def says(_expression: str) -> Rows:
        for name in ("requests", "request_errors"):
            yield (
                {**LABELS, "track": "stable", "__name__": f"namespace_service_track:{name}:delta10s"},
                counted if name == "requests" else dict.fromkeys(counted, 1.0),
            )

    now = subject(ERRORS, track="stable")
    before = replace(now, past=True)
    found = gatherer(opened, FakePrometheus(says)).gather({now: T0, before: T0 - 3600}, T0 + 30, 60.0)
    assert found[now].settled == (Row(T0 + 10, 6, 1), Row(T0 + 20, 6, 1))
    assert found[before].settled == found[before].tail == ()
    by_row = [hour for hour in found[before].hours if hour.seconds == 10]
    assert sum(hour.rows for hour in by_row) == 362
    assert sum(hour.xx for hour in by_row) == sum(hour.x for hour in by_row) == 362
    assert all(hour.nn == 6 * hour.n for hour in by_row)
    assert sum(hour.n for hour in found[before].hours if hour.seconds == 60) == 6 * 362


def test_a_past_that_cannot_be_asked_says_why(opened: list[Gatherer]) -> None:
    wanted = replace(subject(RESTARTS), past=True)
    found = gatherer(opened, FakePrometheus(lambda _: [])).gather({wanted: T0 - 600}, T0, 0.0)
    assert found[wanted].problem.startswith("Prometheus did not answer within")


STORED = """\
# TYPE namespace_service_track:requests:delta10s gauge
# TYPE namespace_service_track:request_errors:delta10s gauge
# TYPE namespace_service_track:restarts:delta10s gauge
# TYPE up gauge
"""


def stored() -> str:
    """Two minutes of one canary: it answers, it fails, it is not there at all, and comes back with a restart."""
    labels = 'namespace="prod",service="shop",track="canary"'
    lines: dict[str, list[str]] = {line.split()[2]: [line] for line in STORED.splitlines()}
    for at in range(T0, T0 + 130, 10):
        away = T0 + 60 < at <= T0 + 90
        if not away:
            bad = 80 if at == T0 + 50 else 1
            lines["namespace_service_track:requests:delta10s"].append(
                f"namespace_service_track:requests:delta10s{{{labels}}} 100 {at}"
            )
            lines["namespace_service_track:request_errors:delta10s"].append(
                f"namespace_service_track:request_errors:delta10s{{{labels}}} {bad} {at}"
            )
        lines["namespace_service_track:restarts:delta10s"].append(
            f"namespace_service_track:restarts:delta10s{{{labels}}} {int(at == T0 + 100)} {at}"
        )
        lines["up"] += [f'up{{{labels},instance="{pod}"}} {int(not away)} {at}' for pod in ("a", "b")]
    return "\n".join(line for family in lines.values() for line in family) + "\n# EOF\n"


REVENUE = Series("value", "revenue", bad="revenue_error", total="revenue")


@pytest.mark.parametrize(
    ("error", "value", "row"),
    [
        (0.2, 6.1, (0.2, 6.1)),
        (0.2, -6.1, (0.2, -6.1)),
        (None, None, None),
        (None, 6.1, "gives a value without its standard error"),
        (0.2, None, "gives a standard error without a value"),
        (0.0, 6.1, "gives 0 for its standard error, which must be above 0"),
        (-0.2, 6.1, "gives -0.2 for its standard error, which must be above 0"),
        (nan, 6.1, "gives NaN for its standard error, which must be above 0"),
        (inf, 6.1, "gives +Inf for its standard error, which must be above 0"),
        (0.2, nan, "gives NaN"),
    ],
)
def test_a_value_comes_with_its_standard_error_or_not_at_all(
    error: float | None,
    value: float | None,
    row: tuple[float, float] | str | None,
    opened: list[Gatherer],
) -> None:
    def says(expression: str) -> Rows:
        number = error if "revenue_error" in expression else value
        return [] if number is None else [({}, dict.fromkeys((T0 + 10, T0 + 20, T0 + 30), number))]

    prometheus = FakePrometheus(says)
    found = read(gatherer(opened, prometheus), REVENUE, T0, T0 + 40)
    assert len({asked for asked, *_ in prometheus.asked}) == 1
    assert "sum" not in prometheus.asked[0][0]
    if isinstance(row, str):
        assert found.problem == f'metric "revenue" {row}'
        assert found.settled == ()
    else:
        assert found.problem == ""
        assert found.settled == (() if row is None else tuple(Row(T0 + at, *row) for at in (10, 20, 30)))


def test_several_standard_errors_are_no_sum_of_them(opened: list[Gatherer]) -> None:
    def says(expression: str) -> Rows:
        for pod in ("a", "b") if "revenue_error" in expression else ("a",):
            yield {"pod": pod}, dict.fromkeys((T0 + 10, T0 + 20), 0.1)

    found = read(gatherer(opened, FakePrometheus(says)), REVENUE, T0, T0 + 30)
    assert "gives several series where one is expected" in found.problem


@pytest.mark.parametrize("version", [pytest.param(version, marks=pytest.mark.real) for version in ("2", "3")])
def test_a_real_server_answers_for_a_value_and_its_standard_error(
    version: Literal["2", "3"], tmp_path: Path, opened: list[Gatherer]
) -> None:
    lines = ["# TYPE revenue gauge"]
    lines += [f'revenue{{namespace="prod"}} {6 + place / 10} {T0 + 10 * place}' for place in range(12)]
    lines += ["# TYPE revenue_error gauge"]
    lines += [f'revenue_error{{namespace="prod"}} {0 if place == 4 else 0.25} {T0 + 10 * place}' for place in range(12)]
    (tmp_path / "stored.txt").write_text("\n".join([*lines, "# EOF", ""]), encoding="utf-8")
    command = [str(promtool()), "tsdb", "create-blocks-from", "openmetrics", "stored.txt", "data"]
    subprocess.run(command, check=True, capture_output=True, timeout=120, cwd=tmp_path)
    keep = ("--storage.tsdb.retention.time=20y",)  # what is stored lies in the past
    with RealPrometheus(tmp_path, version=version, config=config(), arguments=keep) as server:
        prometheus = Prometheus(PrometheusSettings(url=server.url, timeout=60.0, read_timeout=60.0))
        opened.append(Gatherer(prometheus))
        live = read(opened[-1], REVENUE, T0 + 20, T0 + 75)
        prometheus.close()
    assert live.problem == ""
    rows = (*live.settled, *live.tail)
    assert [row.at for row in live.settled] == [T0 + 30, T0 + 50, T0 + 60]
    assert all(row.n == 0.25 for row in rows)
    assert [row.x for row in live.settled] == [6.3, 6.5, 6.6]


@pytest.mark.parametrize("version", [pytest.param(version, marks=pytest.mark.real) for version in ("2", "3")])
def test_a_real_server_answers_for_uptime_and_restarts(
    version: Literal["2", "3"], tmp_path: Path, opened: list[Gatherer]
) -> None:
    (tmp_path / "stored.txt").write_text(stored(), encoding="utf-8")
    command = [str(promtool()), "tsdb", "create-blocks-from", "openmetrics", "stored.txt", "data"]
    subprocess.run(command, check=True, capture_output=True, timeout=120, cwd=tmp_path)
    keep = ("--storage.tsdb.retention.time=20y",)  # what is stored lies in the past
    with RealPrometheus(tmp_path, version=version, config=config(), arguments=keep) as server:
        prometheus = Prometheus(PrometheusSettings(url=server.url, timeout=60.0, read_timeout=60.0))
        opened.append(Gatherer(prometheus))
        up = read(opened[-1], UPTIME, T0 + 40, T0 + 130)
        restarts = read(opened[-1], RESTARTS, T0 + 90, T0 + 130)
        prometheus.close()
    fine, gone = (100.0, 1.0), (1.0, 1.0)
    expected = [(100.0, 80.0), fine, gone, gone, gone, fine, fine, fine]
    assert up.settled == tuple(Row(T0 + 50 + 10.0 * place, *row) for place, row in enumerate(expected))
    assert restarts.settled == (Row(T0 + 100, 1, 1), Row(T0 + 110, 0, 0), Row(T0 + 120, 0, 0))

"""The traffic of a plan's targets, asked of a real Prometheus' past."""

import subprocess
import time
from collections.abc import Iterator

import pytest

from controller.adapters.measured import measure_rates
from controller.adapters.prometheus import Prometheus, PrometheusSettings
from controller.commands.measuring import measured
from controller.errors import UnusableError
from controller.settings import read_settings
from tests.core.builders import plan, target
from tests.realparts.prometheus import Prometheus as RealPrometheus
from tests.realparts.prometheus import config, promtool

NOW = 1_700_006_400.0
"""A whole hour."""
DAY = 86_400
PER_SECOND = {"canary": 1.0, "stable": 9.0}
QUIET_HOURS = 2
"""So long in the day there is a tenth of the traffic: more than 5 % of it."""


def stored() -> str:
    """A day of recorded counts of shop, and of plain counters of other."""
    lines = ["# TYPE namespace_service_track:requests:delta10s gauge"]
    first = int(NOW) - DAY - 600
    for track, rate in PER_SECOND.items():
        labels = f'{{namespace="prod",service="main",track="{track}"}}'
        name = f"namespace_service_track:requests:delta10s{labels}"
        lines += [f"{name} {rate * 10 * factor(at):g} {at}" for at in range(first, int(NOW) + 1, 10)]
    labels = '{namespace="prod",service="main",track="stable"}'
    lines += ["# TYPE namespace_service_track:request_errors:delta10s gauge"]
    # Nine at once, every five minutes: a burst each.
    lines += [
        f"namespace_service_track:request_errors:delta10s{labels} {9 if at % 300 == 0 else 0} {at}"
        for at in range(first, int(NOW) + 1, 10)
    ]
    lines += ["# TYPE http_requests counter"]
    for track, rate in PER_SECOND.items():
        labels = f'{{namespace="prod",service="other",track="{track}"}}'
        total = 0.0
        for at in range(first, int(NOW) + 1, 60):
            total += 3 * rate * 60
            lines.append(f"http_requests_total{labels} {total:g} {at}")
    return "\n".join([*lines, "# EOF", ""])


def factor(at: int) -> float:
    return 0.1 if int(NOW) - at < QUIET_HOURS * 3600 else 1.0


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("prometheus")
    (folder / "stored.txt").write_text(stored())
    command = [str(promtool()), "tsdb", "create-blocks-from", "openmetrics", str(folder / "stored.txt")]
    subprocess.run([*command, str(folder / "data")], check=True, capture_output=True, timeout=300)
    keep = ("--storage.tsdb.retention.time=10y",)
    with RealPrometheus(folder, config=config(), arguments=keep) as server:
        yield server.url


@pytest.fixture(scope="module")
def source(address: str) -> Iterator[Prometheus]:
    client = Prometheus(PrometheusSettings(url=address))
    yield client
    client.close()


def deadline() -> float:
    return time.monotonic() + 30


def test_recorded_counts_of_both_tracks_give_the_median_and_the_quietest_part(source: Prometheus) -> None:
    found = measure_rates(source, plan(), NOW, deadline())
    assert found["main"].median == pytest.approx(10.0, rel=0.001)
    assert found["main"].quiet == pytest.approx(1.0, rel=0.001)


OTHER_METRICS = [
    {
        "name": "failures",
        "ratio": {
            "bad": 'http_requests_total{service="{{service}}",code="500"}',
            "total": 'http_requests_total{service="{{service}}"}',
        },
    }
]


def test_a_target_without_recorded_counts_is_measured_by_the_plan_s_own_counters(source: Prometheus) -> None:
    phase = {"name": "ramp", "steps": [{"weight": 5}], "guardrails": [{"metric": "failures", "below": "1%"}]}
    both = plan(targets=[target("main"), target("other")], metrics=OTHER_METRICS, phases=[phase])
    found = measure_rates(source, both, NOW, deadline())
    assert found["main"].median == pytest.approx(10.0, rel=0.001)
    assert found["other"].median == pytest.approx(30.0, rel=0.01)


def test_a_target_of_which_nothing_is_known_is_named_with_what_to_write(source: Prometheus) -> None:
    with pytest.raises(
        UnusableError, match=r"target gone: Prometheus knows of no requests .*; write --requests gone=100/s"
    ):
        measure_rates(source, plan(targets=[target("gone")]), NOW, deadline())


def test_bad_requests_that_come_nine_at_once_are_measured_as_bursts_of_nine(address: str) -> None:
    phase = {"name": "ramp", "steps": [{"weight": 5}], "guardrails": [{"metric": "errors", "below": "1%"}]}
    rates, bursts = measured(read_settings({"prometheus": address}, {}), plan(phases=[phase]), NOW, 30.0)
    assert rates["main"].median == pytest.approx(10.0, rel=0.001)
    ((of, factor),) = bursts.items()
    assert (of[0], of[1].metric) == ("main", "errors")
    assert factor == pytest.approx(9.0, rel=0.1)

"""Requests slower than a limit, out of classic buckets in a real Prometheus: as many as there were, not about as many.

Scripted requests whose durations are known; each pod's histograms are scraped every 5 s, off the grid, and stored with
promtool's block writer. Count less bucket, both anchored, must give back every slow request, row by row.
"""

from __future__ import annotations

import json
import shutil
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import pytest
import yaml

from controller.adapters.prometheus import Prometheus, PrometheusSettings
from controller.core.series import Reading, Series, Subject
from controller.core.verdicts import advance, begin, in_force
from controller.gather import Gatherer
from tests.backtest.grounds import STEP, T0, Count, write_blocks
from tests.commands.grounds import call
from tests.core.builders import criterion, ramp, target
from tests.realparts.prometheus import Prometheus as RealPrometheus
from tests.realparts.prometheus import config

pytestmark = [pytest.mark.real, pytest.mark.xdist_group("stored latency")]  # what is stored serves all tests

SCRAPE_S, PHASE_S = 5.0, 3.7
BEGIN_S, END_S, LASTS_S = 60, 660, 720
"""The requests come between two silences, so that all of them have been scraped."""
EDGES = (0.1, 0.25, 1.0)
LIMIT = 0.25
BUCKET, COUNT = (f'request_seconds_{kind}{{service="{{{{service}}}}"}}' for kind in ("bucket", "count"))
RECORDED = Series("recorded", "latency", edge=LIMIT, lag=5.0)


def of_buckets(edge: float) -> Series:
    """A plan's own histogram, judged at this edge (seconds)."""
    return Series("latency", "slowness", bad=BUCKET, total=COUNT, edge=edge)


class Request(NamedTuple):
    """When a request was over, seconds after T0, and how many it took."""

    at: float
    took: float


@dataclass(frozen=True)
class Pod:
    """The requests of each of a pod's histograms, by status code, in order.

    ``history`` are the requests that each has counted before; None: it is born with its first one. ``failing`` are the
    seconds between which scrapes find nothing.
    """

    requests: Mapping[str, Sequence[Request]]
    history: Mapping[str, int | None]
    failing: tuple[float, float] = (0.0, 0.0)

    def scrapes(self) -> Iterator[tuple[float, bool]]:
        """The seconds after T0 at which the pod is scraped, and whether it answers."""
        for number in range(int(LASTS_S / SCRAPE_S)):
            at = PHASE_S + SCRAPE_S * number
            yield at, not self.failing[0] <= at < self.failing[1]

    def all(self) -> list[Request]:
        return sorted(request for some in self.requests.values() for request in some)

    def total(self) -> Count:
        """How many requests there were, and how many slow ones."""
        return len(self.all()), sum(request.took > LIMIT for request in self.all())

    def rows(self) -> dict[int, Count]:
        """The same by instant: what lies between the newest scrapes of two instants.

        There is a row where there is a scrape in the interval, and one before it.
        """
        born = 0.0 if None not in self.history.values() or len(self.history) > 1 else self.all()[0].at
        scraped = [at for at, answers in self.scrapes() if answers]
        found: dict[int, Count] = {}
        for instant in range(STEP, LASTS_S + 1, STEP):
            newest, before = (bisect_right(scraped, at) - 1 for at in (instant, instant - STEP))
            if before >= 0 and newest > before and scraped[newest] >= born:
                some = [each for each in self.all() if scraped[before] < each.at <= scraped[newest]]
                found[T0 + instant] = (len(some), sum(each.took > LIMIT for each in some))
        return found


def come(rate: float, seed: str, *, begin_s: float = BEGIN_S) -> list[Request]:
    """Requests by chance, so many a second; a twentieth takes longer than the limit."""
    random, found, at = Random(seed), list[Request](), begin_s + 0.1
    while at < END_S:
        found.append(Request(at, random.expovariate(12.0)))
        at += random.expovariate(rate)
    return found


def pods() -> dict[str, Pod]:
    timeouts = [Request(at, 1.5) for at in range(200, END_S, 37)]
    return {
        "steady": Pod({"200": come(100, "steady")}, {"200": 70_000}),
        "thin": Pod({"200": come(0.5, "thin")}, {"200": 300}),
        "born": Pod({"200": come(0.5, "born"), "504": timeouts}, {"200": 300, "504": None}),
        "late": Pod({"200": [Request(301.0, 0.7), *come(0.5, "late", begin_s=302)]}, {"200": None}),
        "unseen": Pod({"200": come(5, "unseen")}, {"200": 0}, failing=(300, 333)),
    }


PODS = pods()


def histograms(pods: Mapping[str, Pod], begin: int, end: int) -> Iterator[str]:
    """The text of all that is scraped."""
    names = ("request_seconds_bucket", "request_seconds_count", "up", "process_start_time_seconds")
    lines: dict[str, list[str]] = {name: [] for name in names}
    for service, pod in pods.items():
        target_of = f'namespace="shop",service="{service}",job="{service}",instance="a:80",track="canary"'
        for second, answers in pod.scrapes():
            at = T0 + second
            lines["up"].append(f"up{{{target_of}}} {int(answers)} {at}\n")
            if answers:
                lines["process_start_time_seconds"].append(
                    f"process_start_time_seconds{{{target_of}}} {T0 - 9000} {at}\n"
                )
        for code, requests in pod.requests.items():
            labels = f'{target_of},code="{code}"'
            history = pod.history[code]
            for le in (*EDGES, float("inf")):
                within = [request.at for request in requests if request.took <= le]
                for second, answers in pod.scrapes():
                    if answers and (history is not None or requests[0].at <= second):
                        count = (history or 0) + bisect_right(within, second)
                        text = "+Inf" if le == float("inf") else f"{le:g}"
                        lines["request_seconds_bucket"].append(
                            f'request_seconds_bucket{{{labels},le="{text}"}} {count} {T0 + second}\n'
                        )
                        if text == "+Inf":
                            lines["request_seconds_count"].append(
                                f"request_seconds_count{{{labels}}} {count} {T0 + second}\n"
                            )
    for some in lines.values():
        yield from some


def recorded(pods: Mapping[str, Pod], begin: int, end: int) -> Iterator[str]:
    """The rows as the recording rules would have written them: requests within the edge, and all."""
    for service, pod in pods.items():
        for le in ("0.25", "+Inf"):
            labels = f'namespace="shop",service="{service}",track="canary",le="{le}"'
            for at, (n, slow) in pod.rows().items():
                count = n if le == "+Inf" else n - slow
                yield f"namespace_service_track_le:requests:delta10s{{{labels}}} {count} {at}\n"


@pytest.fixture(scope="module")
def blocks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_blocks(tmp_path_factory.mktemp("blocks"), PODS, LASTS_S, histograms, recorded)


@pytest.fixture(scope="module", params=["2", "3"])
def server(
    request: pytest.FixtureRequest, blocks: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RealPrometheus]:
    """A Prometheus that holds what was scraped."""
    folder = tmp_path_factory.mktemp("prometheus")
    shutil.copytree(blocks, folder / "data")
    keep = ("--storage.tsdb.retention.time=20y",)  # what is stored lies in the past
    with RealPrometheus(folder, version=request.param, config=config(), arguments=keep) as prometheus:
        yield prometheus


def read(server: RealPrometheus, series: Series, service: str, *, live: bool = False) -> Reading:
    """All rows of a service, as the gatherer has them from the past, or as it would have had them in the middle."""
    subject = Subject(series, "shop", "main", service, "v2")
    with (
        closing(Prometheus(PrometheusSettings(url=server.url, timeout=60.0, read_timeout=60.0))) as prometheus,
        closing(Gatherer(prometheus)) as gatherer,
    ):
        if live:
            return gatherer.gather({subject: T0 + 500}, T0 + 600.0, 60.0)[subject]
        return gatherer.past({subject: T0}, T0 + LASTS_S, 60.0)[subject]


@pytest.mark.parametrize("form", ["buckets", "recorded"])
@pytest.mark.parametrize("service", PODS)
def test_every_slow_request_is_counted_once(server: RealPrometheus, service: str, form: str) -> None:
    pod, series = PODS[service], of_buckets(LIMIT) if form == "buckets" else RECORDED
    found = read(server, series, service)
    assert found.problem == ""
    assert {int(row.at): (row.n, row.x) for row in found.settled} == pod.rows()
    assert (sum(row.n for row in found.settled), sum(row.x for row in found.settled)) == pod.total()
    assert pod.total()[1] > 10


@pytest.mark.parametrize("service", PODS)
def test_the_fold_is_off_by_nothing(server: RealPrometheus, service: str) -> None:
    wanted = criterion(series=of_buckets(LIMIT), limit=0.05)
    fold = in_force(wanted, begin(wanted, T0 + STEP, 3600.0), T0 + STEP)
    found = read(server, wanted.series, service)
    fold = advance(wanted, fold, found.settled, found.through)
    n, slow = PODS[service].total()
    # The first row of a pod of which nothing was known is only the anchor: it may hold what came before the weight.
    first = found.settled[0]
    assert (fold.n, fold.x) == (n - first.n, slow - first.x)
    assert (first.n, first.x) == ((5, 1) if service == "late" else (0, 0))


def test_a_count_that_extrapolates_would_not_be_equal(server: RealPrometheus) -> None:
    about = (f"request_seconds_{kind}" for kind in ('count{service="born"}', 'bucket{service="born",le="0.25"}'))
    counted, within = (
        sum(
            float(value)
            for each in server.query_range(f"sum(increase({name}[10s]))", start=T0, end=T0 + LASTS_S, step_s=STEP)
            for _, value in each["values"]
        )
        for name in about
    )
    assert abs((counted - within) / PODS["born"].total()[1] - 1) > 0.05


def plan(below: str) -> dict[str, Any]:
    guardrail = {"metric": "slowness", "quantile": 0.95, "below": below}
    return {
        "apiVersion": "autoadvance.dev/v1alpha1",
        "kind": "Launch",
        "metadata": {"name": "shop", "namespace": "shop"},
        "spec": {
            "revision": "v2",
            "targets": [{**target("main"), "service": "steady"}],
            "metrics": [{"name": "slowness", "latency": {"bucket": BUCKET, "count": COUNT}}],
            "phases": [ramp(guardrails=[guardrail])],
        },
    }


@pytest.mark.parametrize(
    ("below", "write"),
    [
        ("200ms", "write below: 100ms or below: 250ms, or add the bucket 200ms to the histogram"),
        ("50ms", "write below: 100ms, or add the bucket 50ms to the histogram"),
        ("3s", "write below: 1s, or add the bucket 3s to the histogram"),
    ],
)
def test_a_limit_between_two_edges_is_told_the_nearest(
    server: RealPrometheus, tmp_path: Path, below: str, write: str
) -> None:
    path = tmp_path / "plan.yaml"
    path.write_text(yaml.safe_dump(plan(below)))
    said = call("check", path, "--prometheus", server.url, "--at", "2023-11-01T00:10:00Z", "-o", "json")
    assert said.exit_code == 1
    told = [found for found in json.loads(said.stdout)["findings"] if found["kind"] == "no-such-edge"]
    assert [found["severity"] for found in told] == ["stops"]
    assert told[0]["write"] == write
    assert "which has the edges 100ms, 250ms, 1s" in told[0]["wrong"]


def test_without_its_bucket_a_launch_has_no_data_and_says_why(server: RealPrometheus) -> None:
    found = read(server, of_buckets(0.2), "steady", live=True)
    assert found.settled == ()
    assert (
        'has no bucket with le="0.2"; write a limit that is a bucket\'s edge: auto-advance check names the nearest'
        in found.problem
    )

"""What can happen to counters, told once and written for promtool in the metric names of each source.

A scenario lists pods whose samples stand 5 s apart in promtool's notation (``0+5x3`` is 0 5 10 15, ``_x2`` is no sample
twice, ``stale`` a failed scrape), and what the rules with their defaults (interval 10 s, offset 5 s) must have counted
in all. Sample k is taken at 5k seconds, and a process that started at 0 is young for the first 45 s.
"""

import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

OLD = -1000

Series = Callable[["Pod"], Iterator[tuple[str, str]]]
"""The series of a pod and their samples, as one kind of source names them."""


@dataclass(frozen=True)
class Pod:
    """Samples of one pod: requests answered 200, those answered 503, those within 0.25 s and within 1 s.

    A pod without ``started`` tells nobody its age. ``name`` a pod that has none is not told apart from others.
    """

    ok: str
    bad: str = ""
    quick: str = ""
    within_1s: str = ""
    up: str = "1x24"
    started: int | None = 0
    name: str = "a"
    track: str = "canary"
    namespace: str = "shop"


@dataclass(frozen=True)
class Scenario:
    """``requests`` and ``errors`` are sums per track, ``quick`` the requests within 0.25 s; ``rows`` counts instants.

    A track of another namespace than shop is written ``other/canary``.

    The all-requests bucket (+Inf) carries the samples of ``ok``, so that its sum is told by ``all_timed``.
    """

    fact: str
    pods: Sequence[Pod]
    requests: dict[str, int]
    errors: dict[str, int]
    rows: dict[str, int]
    all_timed: dict[str, int]
    quick: dict[str, int] | None = None
    within_1s: dict[str, int] | None = None


def canary(count: int) -> dict[str, int]:
    return {"canary": count}


LATE = "_x10 "
"""Not scraped for the first 50 s."""

SCENARIOS = (
    Scenario(
        "steady counters that were 0 at the first scrape lose nothing",
        [Pod(ok="0+5x24", bad="0+1x24", quick="0+4x24", within_1s="0+5x24")],
        requests=canary(144), errors=canary(24), rows=canary(13), all_timed=canary(120), quick=canary(96),
        within_1s=canary(120),
    ),
    Scenario(
        "an error series that is born with its first error counts that error, also in an old process",
        [Pod(ok="5+5x24", bad="_x10 1 1 3x11", started=OLD)],
        requests=canary(115 + 3), errors=canary(3), rows=canary(12), all_timed=canary(115),
    ),
    Scenario(
        "a process that restarts goes on from 0",
        [Pod(ok="0+5x11 5+5x11", bad="0 2x10 2 0 1x10", quick="0+4x11 4+4x11")],
        requests=canary(55 + 60 + 2 + 1), errors=canary(3), rows=canary(13), all_timed=canary(115),
        quick=canary(44 + 48),
    ),
    Scenario(
        "failed scrapes that outlast an interval lose nothing and count nothing twice",
        [
            Pod(
                ok="0+5x10 stale _x4 80+5x8", bad="0+1x10 stale _x4 16+1x8", quick="0+4x10 stale _x4 64+4x8",
                up="1x10 0x4 1x8",
            )
        ],
        requests=canary(144), errors=canary(24), rows=canary(11), all_timed=canary(120), quick=canary(96),
    ),
    Scenario(
        "an old pod that is found late brings none of its history",
        [Pod(ok=LATE + "5000+5x13", bad=LATE + "500+1x13", quick=LATE + "4000+4x13", up=LATE + "1x13", started=OLD)],
        requests=canary(13 * 6 - 6), errors=canary(12), rows=canary(7), all_timed=canary(60), quick=canary(48),
    ),
    Scenario(
        "an old pod whose first scrapes fail brings none of its history",
        [Pod(ok=LATE + "5000+5x13", bad=LATE + "500+1x13", up="0x9 1x13", started=OLD)],
        requests=canary(72), errors=canary(12), rows=canary(7), all_timed=canary(60),
    ),
    Scenario(
        "a young pod that is found late counts from its birth",
        [Pod(ok=LATE + "10+5x13", bad=LATE + "2+1x13", quick=LATE + "8+4x13", up=LATE + "1x13", started=30)],
        requests=canary(75 + 15), errors=canary(15), rows=canary(8), all_timed=canary(75), quick=canary(60),
    ),
    Scenario(
        "requests without any error series have errors 0 at every instant",
        [Pod(ok="0+5x24")],
        requests=canary(120), errors=canary(0), rows=canary(13), all_timed=canary(120),
    ),
    Scenario(
        "pods of a track add up, a dead one included, and tracks stay apart",
        [
            Pod(ok="0+5x24", bad="0+1x24", quick="0+5x24", within_1s="0+5x24", name="a"),
            Pod(ok="0+3x9 stale", bad="_x4 1x5 stale", quick="0+2x9 stale", within_1s="0+3x9 stale", up="1x9", name="b"),
            Pod(ok="0+7x24", quick="0+7x24", name="c", track="stable"),
        ],
        requests={"canary": 144 + 27 + 1, "stable": 168}, errors={"canary": 25, "stable": 0},
        rows={"canary": 13, "stable": 13}, all_timed={"canary": 147, "stable": 168}, quick={"canary": 138, "stable": 168},
        within_1s={"canary": 147},
    ),
    Scenario(
        "traffic of the same service and track in another namespace stays apart",
        [
            Pod(ok="0+5x24", bad="0+1x24", quick="0+4x24", within_1s="0+5x24"),
            Pod(ok="0+9x24", quick="0+8x24", within_1s="0+9x24", name="b", namespace="other"),
        ],
        requests={"canary": 144, "other/canary": 216}, errors={"canary": 24, "other/canary": 0},
        rows={"canary": 13, "other/canary": 13}, all_timed={"canary": 120, "other/canary": 216},
        quick={"canary": 96, "other/canary": 192}, within_1s={"canary": 120, "other/canary": 216},
    ),
    Scenario(
        "an interval without a sample has no row",
        [Pod(ok="0+5x10", up="1x10 0x13")],
        requests=canary(50), errors=canary(0), rows=canary(6), all_timed=canary(50),
    ),
)  # fmt: skip


def http_series(pod: Pod) -> Iterator[tuple[str, str]]:
    target = f'job="shop",instance="{pod.name}",namespace="{pod.namespace}",service="api",track="{pod.track}"'
    yield f"up{{{target}}}", pod.up
    yield f"process_start_time_seconds{{{target}}}", _start(pod)
    yield f'http_requests_total{{{target},code="200"}}', pod.ok
    yield f'http_requests_total{{{target},code="503"}}', pod.bad
    histogram = f"http_request_duration_seconds_bucket{{{target}"
    yield f'{histogram},le="0.25"}}', pod.quick
    # The two spellings of one edge, as client libraries of two languages write it.
    yield f'{histogram},le="{"1" if pod.name == "a" else "1.0"}"}}', pod.within_1s
    yield f'{histogram},le="+Inf"}}', pod.ok
    untracked = target.replace(f'track="{pod.track}"', 'track=""')
    yield f'http_requests_total{{{untracked},code="200"}}', pod.ok


def envoy_series(pod: Pod) -> Iterator[tuple[str, str]]:
    target = f'job="envoy",instance="{pod.name}",namespace="gateways"'
    cluster = f'{target},envoy_cluster_name="{pod.namespace}/api/{pod.track}"'
    yield f"up{{{target}}}", pod.up
    # Envoy exports its age, which grows by the 5 s between two samples.
    yield f"envoy_server_uptime{{{target}}}", _age(pod)
    yield f'envoy_cluster_upstream_rq_xx{{{cluster},envoy_response_code_class="2"}}', pod.ok
    yield f'envoy_cluster_upstream_rq_xx{{{cluster},envoy_response_code_class="5"}}', pod.bad
    histogram = f"envoy_cluster_upstream_rq_time_bucket{{{cluster}"
    yield f'{histogram},le="250{"" if pod.name == "a" else ".0"}"}}', pod.quick
    yield f'{histogram},le="1000"}}', pod.within_1s
    yield f'{histogram},le="+Inf"}}', pod.ok
    yield (
        f'envoy_cluster_upstream_rq_xx{{{target},envoy_cluster_name="xds_cluster",envoy_response_code_class="2"}}',
        pod.ok,
    )


def _age(pod: Pod) -> str:
    return "" if pod.started is None else f"{-pod.started}+5x24"


def _start(pod: Pod) -> str:
    return "" if pod.started is None else f"{pod.started}x24"


def otel_series(pod: Pod) -> Iterator[tuple[str, str]]:
    target = f'job="shop",instance="{pod.name}",namespace="{pod.namespace}",service="api",track="{pod.track}"'
    yield f"up{{{target}}}", pod.up
    yield from _otel_age(pod, target)
    yield from _otel_durations(pod, target)
    # What another service pushes: otel-pushed.yaml counts it, under its own labels.
    yield from _otel_durations(pod, f'job="shop/pay",instance="p",service_name="pay",track="{pod.track}"')


def otel_pushed_series(pod: Pod) -> Iterator[tuple[str, str]]:
    target = f'job="shop/api",instance="{pod.name}"'
    resource = f'{target},k8s_namespace_name="{pod.namespace}",service_name="api",track="{pod.track}"'
    yield f"target_info{{{target}}}", _pushed(pod.up)
    yield from _otel_age(pod, target)
    for series, values in _otel_durations(pod, resource):
        yield series, _pushed(values)
    # A target that is scraped: otel.yaml counts it.
    yield from _otel_durations(pod, f'job="shop",instance="s",namespace="shop",service="pay",track="{pod.track}"')


def _pushed(values: str) -> str:
    """What is not pushed is not there: neither a staleness marker nor an ``up`` that says 0."""
    values = (
        re.sub(r"\b0x(\d+)", lambda found: f"_x{int(found[1]) + 1}", values)
        if values.startswith(("0x", "1x"))
        else values
    )
    return values.replace("stale", "_")


def _otel_age(pod: Pod, target: str) -> Iterator[tuple[str, str]]:
    # Some say when they started, others how long ago.
    if pod.name == "a":
        yield f"process_start_time_seconds{{{target}}}", _start(pod)
    else:
        yield f"process_uptime_seconds{{{target}}}", _age(pod)


def _otel_durations(pod: Pod, labels: str) -> Iterator[tuple[str, str]]:
    name = "http_server_request_duration_seconds"
    good = f'{labels},http_request_method="GET",http_response_status_code="200"'
    # Some requests break without a status.
    bad = 'http_response_status_code="503",error_type="503"' if pod.name == "a" else 'error_type="timeout"'
    yield f"{name}_count{{{good}}}", pod.ok
    yield f'{name}_count{{{labels},http_request_method="GET",{bad}}}', pod.bad
    yield f'{name}_bucket{{{good},le="0.25"}}', pod.quick
    yield f'{name}_bucket{{{good},le="{"1" if pod.name == "a" else "1.0"}"}}', pod.within_1s
    yield f'{name}_bucket{{{good},le="+Inf"}}', pod.ok


def istio_series(pod: Pod) -> Iterator[tuple[str, str]]:
    yield from _istio_series(pod, f'destination_version="{pod.track}",destination_workload="api-v7"')


def istio_by_workload_series(pod: Pod) -> Iterator[tuple[str, str]]:
    yield from _istio_series(pod, f'destination_version="v7",destination_workload="api-{pod.track}"')


def _istio_series(pod: Pod, track: str) -> Iterator[tuple[str, str]]:
    target = f'job="envoy-stats",instance="{pod.name}",namespace="{pod.namespace}"'
    yield f"up{{{target}}}", pod.up
    if pod.name == "a":
        yield f"envoy_server_uptime{{{target}}}", _age(pod)
    else:
        yield f"istio_agent_process_start_time_seconds{{{target}}}", _start(pod)
    service = "api" if pod.name == "c" else f"api-{pod.track}"
    called = f'{target},destination_service_namespace="{pod.namespace}",destination_service_name="{service}",{track}'
    good = 'response_code="200",grpc_response_status="0"' if pod.name == "b" else 'response_code="200"'
    bad = 'response_code="200",grpc_response_status="14"' if pod.name == "b" else 'response_code="503"'
    histogram = f'istio_request_duration_milliseconds_bucket{{reporter="destination",{called},{good}'
    # The caller's proxy counts the same requests.
    for reporter in ("destination", "source"):
        yield f'istio_requests_total{{reporter="{reporter}",{called},{good}}}', pod.ok
        yield f'istio_requests_total{{reporter="{reporter}",{called},{bad}}}', pod.bad
    yield f'{histogram},le="250{"" if pod.name == "a" else ".0"}"}}', pod.quick
    yield f'{histogram},le="1000"}}', pod.within_1s
    yield f'{histogram},le="+Inf"}}', pod.ok
    other = called.replace(track, 'destination_version="v1",destination_workload="api"')
    yield f'istio_requests_total{{reporter="destination",{other},{good}}}', pod.ok


SOURCES = {
    "http": http_series,
    "envoy": envoy_series,
    "otel": otel_series,
    "otel-pushed": otel_pushed_series,
    "istio": istio_series,
}

PUSHED = (
    Scenario(
        "an old process that tells no age and is found late brings none of its history",
        [Pod(ok=LATE + "5000+5x13", bad=LATE + "500+1x13", quick=LATE + "4000+4x13", up=LATE + "1x13", started=None)],
        requests=canary(72), errors=canary(12), rows=canary(7), all_timed=canary(60), quick=canary(48),
    ),
    Scenario(
        "a process that tells no age but exported anything before its first request loses none",
        [Pod(ok=LATE + "10+5x13", quick=LATE + "8+4x13", started=None)],
        requests=canary(75), errors=canary(0), rows=canary(8), all_timed=canary(75), quick=canary(60),
    ),
    Scenario(
        "without age and target_info, an error series that is born counts from its first error",
        [Pod(ok="7+5x24", bad="_x10 1 1 3x11", up="", started=None)],
        # The first sample of all is at 0 s; what it brings is the one thing that nobody can date.
        requests=canary(115 + 3), errors=canary(3), rows=canary(12), all_timed=canary(115),
    ),
    Scenario(
        "a counter that is seen at 0 in its first interval counts from there, whoever brings it",
        [Pod(ok=LATE + "0 7+5x12", quick=LATE + "0 6+4x12", up=LATE + "1x13", started=None)],
        requests=canary(67), errors=canary(0), rows=canary(8), all_timed=canary(67), quick=canary(54),
    ),
    Scenario(
        "exports that come less often than the rules run lose nothing",
        [Pod(ok="0 _x5 30 _x5 60 _x5 90 _x5 120", bad="_x12 2 _x5 2 _x5 5", up="1 _x5 1 _x5 1 _x5 1 _x5 1")],
        requests=canary(125), errors=canary(5), rows=canary(5), all_timed=canary(120),
    ),
    Scenario(
        "a process that restarts under its old name goes on from 0, under a new one from its birth",
        [
            Pod(ok="0+5x11 5+5x11", bad="0 2x10 2 0 1x10"),
            Pod(ok="0+3x9", up="1x9", name="b"),
            Pod(ok="_x11 3+3x12", up="_x11 1x12", started=52, name="c"),
        ],
        requests=canary(118 + 27 + 39), errors=canary(3), rows=canary(13), all_timed=canary(115 + 27 + 39),
    ),
    Scenario(
        "pods without an instance are no data, since their counts overwrite each other",
        [Pod(ok="0+5x24", bad="0+1x24", name="")],
        requests={}, errors={}, rows={}, all_timed={},
    ),
)  # fmt: skip
"""What can only happen to counters that are pushed."""

SCENARIOS_OF = dict.fromkeys(SOURCES, SCENARIOS) | {"otel-pushed": (*SCENARIOS, *PUSHED)}


def write_promtool_tests(path: Path, rule_file: Path, series: Series, scenarios: Sequence[Scenario]) -> None:
    """A file for ``promtool test rules`` (JSON is YAML) that runs the scenarios against one rule file."""
    document = {
        "rule_files": [str(rule_file)],
        "evaluation_interval": "10s",
        "tests": [
            {
                "name": scenario.fact,
                "interval": "5s",
                "input_series": [
                    {"series": name, "values": values}
                    for pod in scenario.pods
                    for name, values in series(pod)
                    if values
                ],
                "promql_expr_test": list(_expectations(scenario)),
            }
            for scenario in scenarios
        ],
    }
    path.write_text(json.dumps(document, indent=1), encoding="utf-8")


def _expectations(scenario: Scenario) -> Iterator[dict[str, object]]:
    def expect(expression: str, counts: dict[str, int], le: str = "") -> dict[str, object]:
        labels = f',le="{le}"' if le else ""
        rows = []
        for key, count in counts.items():
            namespace, _, track = key.rpartition("/")
            row = f'{{namespace="{namespace or "shop"}",service="api",track="{track}"{labels}}}'
            rows.append({"labels": row, "value": count})
        return {"expr": expression, "eval_time": "3m", "exp_samples": rows}

    def total(record: str) -> str:
        return f"sum_over_time({record}[3m])"

    within = "namespace_service_track_le:requests:delta10s"
    yield expect(total("namespace_service_track:requests:delta10s"), scenario.requests)
    yield expect(total("namespace_service_track:request_errors:delta10s"), scenario.errors)
    yield expect("count_over_time(namespace_service_track:requests:delta10s[3m])", scenario.rows)
    yield expect("count_over_time(namespace_service_track:request_errors:delta10s[3m])", scenario.rows)
    yield expect(total(f'{within}{{le="+Inf"}}'), scenario.all_timed, "+Inf")
    yield expect(total(f'{within}{{le="0.25"}}'), scenario.quick or {}, "0.25")
    yield expect(total(f'{within}{{le="1.0"}}'), scenario.within_1s or {}, "1.0")
    # Every row of the bad counts has its row of all: what the controller subtracts and divides is always whole.
    yield expect("namespace_service_track:request_errors:delta10s > namespace_service_track:requests:delta10s", {})

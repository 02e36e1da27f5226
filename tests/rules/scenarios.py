"""What can happen to counters, told once and written for promtool in the metric names of each source.

A scenario lists pods whose samples stand 5 s apart in promtool's notation (``0+5x3`` is 0 5 10 15, ``_x2`` is no sample
twice, ``stale`` a failed scrape), and what the rules with their defaults (interval 10 s, offset 5 s) must have counted
in all. Sample k is taken at 5k seconds, and a process that started at 0 is young for the first 45 s.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

OLD = -1000


@dataclass(frozen=True)
class Pod:
    """Samples of one pod: requests answered 200, those answered 503, those within 0.25 s and within 1 s."""

    ok: str
    bad: str = ""
    quick: str = ""
    within_1s: str = ""
    up: str = "1x24"
    started: int = 0
    name: str = "a"
    track: str = "canary"


@dataclass(frozen=True)
class Scenario:
    """``requests`` and ``errors`` are sums per track, ``quick`` the requests within 0.25 s; ``rows`` counts instants.

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
        [Pod(ok="0+5x24", bad="_x10 1 1 3x11", started=OLD)],
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
        "an interval without a sample has no row",
        [Pod(ok="0+5x10", up="1x10 0x13")],
        requests=canary(50), errors=canary(0), rows=canary(6), all_timed=canary(50),
    ),
)  # fmt: skip


def http_series(pod: Pod) -> Iterator[tuple[str, str]]:
    target = f'job="shop",instance="{pod.name}",namespace="shop",service="api",track="{pod.track}"'
    yield f"up{{{target}}}", pod.up
    yield f"process_start_time_seconds{{{target}}}", f"{pod.started}x24"
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
    cluster = f'{target},envoy_cluster_name="shop/api/{pod.track}"'
    yield f"up{{{target}}}", pod.up
    # Envoy exports its age, which grows by the 5 s between two samples.
    yield f"envoy_server_uptime{{{target}}}", f"{-pod.started}+5x24"
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


SOURCES = {"http": http_series, "envoy": envoy_series}


def write_promtool_tests(path: Path, rule_file: Path, source: str, scenarios: Sequence[Scenario]) -> None:
    """A file for ``promtool test rules`` (JSON is YAML) that runs the scenarios against one rule file."""
    document = {
        "rule_files": [str(rule_file)],
        "evaluation_interval": "10s",
        "tests": [
            {
                "name": scenario.fact,
                "interval": "5s",
                "input_series": [
                    {"series": series, "values": values}
                    for pod in scenario.pods
                    for series, values in SOURCES[source](pod)
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
        rows = [
            {"labels": f'{{namespace="shop",service="api",track="{t}"{labels}}}', "value": n} for t, n in counts.items()
        ]
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

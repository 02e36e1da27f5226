"""The rules of every source but plain HTTP, on a real Prometheus 2.42 and 3.x: the recorded counts equal the truth.

One exporter serves the pods of ``test_truth.py`` in the words of Envoy, Istio and OpenTelemetry; both versions scrape it
each second and record with ``--interval 2s --offset 1s``. OpenTelemetry's metrics are pushed as well: as OTLP to 3.x,
which names them itself, and as remote write to 2.42. Covered: counters from 0, error series born with their first
error, failed scrapes and missing exports, old pods found late, young pods, latency edges. Plain HTTP is ``test_truth.py``.
"""

import math
import re
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest
import requests
import yaml

from controller.core import normal_form as form
from rules import generate
from tests.adapters.exporter import STARTED, Exporter, ScriptedPod
from tests.realparts.prometheus import Prometheus, config
from tests.realparts.server import wait_until
from tests.rules.pushing import Export, push_otlp, push_remote_write, pushing_session
from tests.rules.test_truth import BAD, BAD_TOO, FOREVER, OK, QUICK, TIMED, life

pytestmark = [pytest.mark.real, pytest.mark.xdist_group("truth-of-sources")]  # one run serves all tests

VERSIONS: tuple[Literal["2", "3"], ...] = ("2", "3")
INTERVAL_S, OFFSET_S = 2.0, 1.0
LEAD_S, TRAFFIC_S = 8.0, 18.0
SCRAPED = ("envoy", "istio", "otel")
PUSHED = "otel-pushed"
KINDS = ("steady", "born", "gap", "late", "young")
RECORDS = {
    "requests": form.recorded_requests(INTERVAL_S),
    "errors": form.recorded_errors(INTERVAL_S),
    "quick": f'{form.recorded_requests_within(INTERVAL_S)}{{le="0.25"}}',
    "timed": f'{form.recorded_requests_within(INTERVAL_S)}{{le="+Inf"}}',
}

Samples = Mapping[str, float]


def pod_of(kind: str, zero: float) -> ScriptedPod:
    """What happens to a pod of this kind, from the second at which traffic begins (Unix time)."""
    traffic = (zero, zero + TRAFFIC_S)
    asleep = zero - LEAD_S
    match kind:
        case "steady":
            return ScriptedPod([life(asleep, FOREVER, traffic=traffic)])
        case "born":
            return ScriptedPod([life(asleep, FOREVER, born=True, aged=9000, traffic=traffic)])
        case "gap":
            failing = [(zero + 3, zero + 4.1), (zero + 8, zero + 12.5)]
            return ScriptedPod([life(asleep, FOREVER, born=True, traffic=traffic)], failing=failing)
        case "late":
            # With a history of 95,000 requests and 5,000 errors.
            failing = [(asleep - 60, zero + 6)]
            return ScriptedPod([life(asleep, FOREVER, aged=9000, traffic=traffic)], failing=failing)
        case _:
            return ScriptedPod([life(zero + 5.3, FOREVER, born=True, traffic=traffic)])


def in_envoys_words(service: str, plain: Samples, at: float) -> Samples:
    cluster = f'envoy_cluster_name="shop/{service}/canary"'
    told = {
        "envoy_server_uptime": math.floor(at - plain[STARTED]),
        f'envoy_cluster_upstream_rq_xx{{{cluster},envoy_response_code_class="2"}}': plain[OK],
        f'envoy_cluster_upstream_rq_time_bucket{{{cluster},le="250"}}': plain[QUICK],
        f'envoy_cluster_upstream_rq_time_bucket{{{cluster},le="+Inf"}}': plain[TIMED],
    }
    if BAD in plain or BAD_TOO in plain:
        told[f'envoy_cluster_upstream_rq_xx{{{cluster},envoy_response_code_class="5"}}'] = plain.get(
            BAD, 0
        ) + plain.get(BAD_TOO, 0)
    return told


def in_istios_words(service: str, plain: Samples, at: float) -> Samples:
    called = f'destination_service_namespace="shop",destination_service_name="{service}-canary"'
    told = {"istio_agent_process_start_time_seconds": plain[STARTED]}
    for reporter in ("destination", "source"):
        labels = f'reporter="{reporter}",{called},destination_version="canary"'
        good = f'{labels},response_code="200",grpc_response_status="0"'
        told[f"istio_requests_total{{{good}}}"] = plain[OK]
        told[f'istio_request_duration_milliseconds_bucket{{{good},le="250"}}'] = plain[QUICK]
        told[f'istio_request_duration_milliseconds_bucket{{{good},le="+Inf"}}'] = plain[TIMED]
        if BAD in plain:
            told[f'istio_requests_total{{{labels},response_code="500"}}'] = plain[BAD]
        if BAD_TOO in plain:
            told[f'istio_requests_total{{{labels},response_code="200",grpc_response_status="14"}}'] = plain[BAD_TOO]
    return told


def by_status(plain: Samples) -> dict[str, tuple[int, int]]:
    """Per status the requests and the quick ones; in OpenTelemetry the histogram is the count of requests as well."""
    counts = {"200": (int(plain[OK]), int(plain[QUICK]))}
    for series in (BAD, BAD_TOO):
        if series in plain:
            counts[re.sub(r"\D", "", series)] = (int(plain[series]), 0)
    return counts


def in_opentelemetrys_words(service: str, plain: Samples, at: float) -> Samples:
    told = {"process_uptime_seconds": at - plain[STARTED]}
    name = "http_server_request_duration_seconds"
    for status, (count, quick) in by_status(plain).items():
        labels = f'http_request_method="GET",http_response_status_code="{status}"'
        told[f"{name}_count{{{labels}}}"] = count
        told[f'{name}_bucket{{{labels},le="0.25"}}'] = quick
        told[f'{name}_bucket{{{labels},le="+Inf"}}'] = count
    return told


WORDS: dict[str, Callable[[str, Samples, float], Samples]] = {
    "envoy": in_envoys_words,
    "istio": in_istios_words,
    "otel": in_opentelemetrys_words,
}


@dataclass(frozen=True)
class Translated:
    """A pod whose samples are told in the words of a source."""

    pod: ScriptedPod
    service: str
    words: Callable[[str, Samples, float], Samples]

    def samples(self, at: float) -> Samples | None:
        plain = self.pod.samples(at)
        return None if plain is None else self.words(self.service, plain, at)


@dataclass
class Pusher:
    """Exports every pod once a second, each at its own moment, to both versions; ``first`` is when (Unix time)."""

    pods: Mapping[str, ScriptedPod]
    targets: Sequence[Callable[[Sequence[Export], requests.Session], None]]
    first: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    slowest_s: float = 0.0
    failure: Exception | None = None
    _done: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        session = pushing_session()
        sent: dict[str, int] = {}
        while not self._done.wait(0.05):
            now = time.time()
            exports = []
            for k, (name, pod) in enumerate(self.pods.items()):
                second = math.floor(now - 0.19 * k)
                plain = pod.samples(now)
                if plain is None or sent.get(name) == second:
                    continue
                sent[name] = second
                self.first[name].append(now)
                # The young tell their age, the others only that they have been here before.
                young = name == "young"
                exports.append(Export(name, f"{PUSHED}-{name}", now, plain[STARTED], by_status(plain), uptime=young))
            try:
                for push in self.targets if exports else ():
                    push(exports, session)
                    self.slowest_s = max(self.slowest_s, time.time() - now)
            except requests.RequestException as failure:
                self.failure = failure
                return

    def stop(self) -> None:
        self._done.set()


@dataclass
class Run:
    """One run of the script; ``rows`` are the recorded sums per version, count and service."""

    pods: Mapping[str, ScriptedPod]
    first: Callable[[str, str, str], list[float]]
    """When a version got its samples of a source's pod (Unix times)."""
    slowest_push_s: float
    prometheus: Mapping[str, Prometheus]
    rows: Mapping[str, Mapping[str, Mapping[str, list[tuple[float, float]]]]]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    folder = tmp_path_factory.mktemp("sources")
    assert (
        generate.main(["--interval", "2s", "--offset", "1s", "--edges", "250ms", "--out", str(folder / "rules")]) == 0
    )
    with Exporter(keep_scrapes=True) as exporter:
        prometheis: dict[str, Prometheus] = {version: _prometheus(folder, version, exporter) for version in VERSIONS}
        with prometheis["2"], prometheis["3"]:
            zero = math.floor(time.time()) + LEAD_S
            pods = {kind: pod_of(kind, zero) for kind in KINDS}
            exporter.pods.update(
                {f"{s}-{k}": Translated(pod, f"{s}-{k}", WORDS[s]) for s in SCRAPED for k, pod in pods.items()}
            )
            pusher = Pusher(
                pods,
                [
                    lambda exports, session: push_remote_write(prometheis["2"], exports, session),
                    lambda exports, session: push_otlp(prometheis["3"], exports, session),
                ],
            )
            thread = threading.Thread(target=pusher.run)
            thread.start()
            try:
                end = zero + TRAFFIC_S + INTERVAL_S + OFFSET_S + 3
                wait_until(lambda: time.time() >= end, deadline_s=120, what="the script to end")
            finally:
                pusher.stop()
                thread.join(60)
            assert pusher.failure is None, pusher.failure

            def first(version: str, source: str, kind: str) -> list[float]:
                if source == PUSHED:
                    return pusher.first[kind]
                return [scrape.at for scrape in exporter.served(version, f"{source}-{kind}")]

            rows = {version: _rows(prometheus) for version, prometheus in prometheis.items()}
            yield Run(pods, first, pusher.slowest_s, prometheis, rows)


def _prometheus(folder: Path, version: Literal["2", "3"], exporter: Exporter) -> Prometheus:
    jobs = []
    for source in SCRAPED:
        # Envoy's and Istio's targets say nothing of services: their own labels do.
        labels = {"namespace": "shop", "track": "canary"} if source == "otel" else {"namespace": "gateways"}
        targets = [
            exporter.target(f"{source}-{k}", labels | ({"service": f"{source}-{k}"} if source == "otel" else {}))
            for k in KINDS
        ]
        jobs.append({"job_name": source, "params": {"reader": [version]}, "static_configs": targets})
    document: dict[str, Any] = config(jobs, rule_files=[folder / "rules" / f"{s}.yaml" for s in (*SCRAPED, PUSHED)])
    if version == "2":
        return Prometheus(folder / "2", version="2", config=document, arguments=["--web.enable-remote-write-receiver"])
    document["otlp"] = {"promote_resource_attributes": ["k8s.namespace.name", "service.name", "track"]}
    return Prometheus(folder / "3", version="3", config=document, arguments=["--web.enable-otlp-receiver"])


def _rows(prometheus: Prometheus) -> dict[str, dict[str, list[tuple[float, float]]]]:
    found: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for count, record in RECORDS.items():
        found[count] = {}
        for series in prometheus.query(f"{record}[2m]"):
            metric = series["metric"]
            assert {metric["namespace"], metric["track"]} == {"shop", "canary"}, metric
            assert metric["service"] not in found[count], f"two rows of {metric['service']}"
            found[count][metric["service"]] = [(float(at), float(value)) for at, value in series["values"]]
    return found


def truths(run: Run, version: str, source: str, kind: str, count: str) -> list[int]:
    """What may be recorded: all events that are news; of an old pod those after its anchor, at most its third sample."""
    of_source = source in ("otel", PUSHED)  # where the histogram sees the failed requests too
    series = {
        "requests": (OK, BAD, BAD_TOO),
        "errors": (BAD, BAD_TOO),
        "quick": (QUICK,),
        "timed": (OK, BAD, BAD_TOO) if of_source else (TIMED,),
    }[count]
    pod = run.pods[kind]
    since = run.first(version, source, kind)[:3] if pod.lives[0].aged else [0.0]
    if kind == "born":
        assert since[0] < pod.lives[0].start + LEAD_S, "the pod was not seen before its first event"
        since = since[:1]
    return [sum(pod.truth(one, after) for one in series) for after in since]


def counted(run: Run, version: str, source: str, kind: str, count: str) -> float:
    """The recorded sum; what a busy machine kept from the rules is made up by the rule's own expression.

    That is an evaluation that was missed, and a push that took longer than the offset to arrive. Their events are lost
    to the record for good, which is the known price of a rule, not a wrong count.
    """
    service = f"{source}-{kind}"
    recorded = dict(run.rows[version][count][service])
    instants = {at for at, _ in run.rows[version]["requests"][f"{source}-steady"]}
    steps = round((max(instants) - min(instants)) / INTERVAL_S)
    grid = [round(min(instants) + k * INTERVAL_S, 3) for k in range(steps + 1)]
    late_push = source == PUSHED and run.slowest_push_s >= OFFSET_S
    again = [at for at in grid if late_push or at not in instants]
    rows = [
        row for at in again for row in run.prometheus[version].query(_expression(run, version, source, count), time=at)
    ]
    made_up = sum(float(row["value"][1]) for row in rows if row["metric"]["service"] == service)
    return sum(value for at, value in recorded.items() if at not in again) + made_up


def _expression(run: Run, version: str, source: str, count: str) -> str:
    record = RECORDS[count].partition("{")[0]
    edge = {"quick": "0.25", "timed": "+Inf"}.get(count)
    for group in run.prometheus[version].get("rules")["groups"]:
        for rule in group["rules"]:
            if group["file"].endswith(f"/{source}.yaml") and (rule["name"], rule.get("labels", {}).get("le")) == (
                record,
                edge,
            ):
                query: str = rule["query"]
                return query
    raise AssertionError(f"{version} did not load {record} of {source}")


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("source", [*SCRAPED, PUSHED])
@pytest.mark.parametrize("kind", KINDS)
def test_every_event_is_counted_once(run: Run, version: str, source: str, kind: str) -> None:
    for count in RECORDS:
        expected = truths(run, version, source, kind, count)
        assert expected[-1] > 10, "the script proves nothing"
        assert counted(run, version, source, kind, count) in expected, count


@pytest.mark.parametrize("version", VERSIONS)
def test_rows_are_whole_numbers_and_no_row_has_more_errors_than_requests(run: Run, version: str) -> None:
    rows = run.rows[version]
    assert set(rows["requests"]) == {f"{source}-{kind}" for source in (*SCRAPED, PUSHED) for kind in KINDS}
    for service, requested in rows["requests"].items():
        errors = dict(rows["errors"][service])
        assert set(errors) == {at for at, _ in requested}, f"{service}: a row of errors without its requests, or none"
        assert all(value.is_integer() and 0 <= errors[at] <= value for at, value in requested), service


@pytest.mark.parametrize("version", VERSIONS)
def test_every_rule_is_loaded_and_evaluated_without_an_error(run: Run, version: str) -> None:
    loaded = [rule for group in run.prometheus[version].get("rules")["groups"] for rule in group["rules"]]
    assert len(loaded) == len((*SCRAPED, PUSHED)) * len(RECORDS)
    assert {rule["health"] for rule in loaded} == {"ok"}, [rule.get("lastError") for rule in loaded]


@pytest.mark.parametrize("version", VERSIONS)
def test_the_committed_files_are_loaded(tmp_path: Path, version: Literal["2", "3"]) -> None:
    files = sorted(Path(generate.__file__).parent / name for name in generate.render())
    with Prometheus(tmp_path, version=version, config=config(rule_files=files)) as prometheus:
        groups = prometheus.get("rules")["groups"]
    assert {Path(group["file"]).name for group in groups} == {file.name for file in files}
    assert all(group["interval"] == generate.INTERVAL_S for group in groups)


@pytest.mark.parametrize(("zeros", "expected"), [(True, 20), (False, 13)])
def test_prometheus_3_can_date_the_birth_of_a_pushed_process_that_tells_no_age(
    tmp_path: Path, zeros: bool, expected: int
) -> None:
    """By its feature flag it writes a 0 at the start time of the OTLP message; without, the first export is lost."""
    document = config([]) | {"otlp": {"promote_resource_attributes": ["k8s.namespace.name", "service.name", "track"]}}
    flags = ["--enable-feature=created-timestamp-zero-ingestion"] if zeros else []
    rule = yaml.safe_load(generate.render()["otel-pushed.yaml"])["groups"][0]["rules"][0]["expr"]
    zero = math.floor(time.time() / 10) * 10 - 60
    with Prometheus(
        tmp_path, version="3", config=document, arguments=["--web.enable-otlp-receiver", *flags]
    ) as prometheus:
        session = pushing_session()
        for after, count in ((-2, 7), (3, 9), (13, 20)):
            push_otlp(
                prometheus,
                [
                    Export("y", "young", zero + after, zero - 4, {"200": (count, 0)}, uptime=False),
                    Export("o", "old", zero + after, zero - 9000, {"200": (5000 + count, 0)}, uptime=False),
                ],
                session,
            )
        answer = prometheus.query_range(rule, start=zero + 5, end=zero + 35, step_s=10)
    sums = {row["metric"]["service"]: sum(float(value) for _, value in row["values"]) for row in answer}
    assert sums == {"young": expected, "old": 13}

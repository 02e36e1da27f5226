"""What misleads is told by name, with what to write instead, from what a real Prometheus holds; what is good is not."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
import yaml

from controller.adapters.metric_facts import MetricFacts, Wanted
from controller.adapters.prometheus import Prometheus, PrometheusSettings
from controller.commands.check import Checked, examine
from controller.core.check import findings
from controller.core.plan import parse
from controller.core.series import Reading, RecordedForm, Series, Subject
from controller.settings import read_settings
from tests.adapters.scripted_server import Asked, ScriptedServer, http, matrix, say
from tests.commands.grounds import call
from tests.core.builders import ramp, target
from tests.realparts.fixtures import PrometheusFactory
from tests.realparts.parts import ROOT
from tests.realparts.prometheus import Prometheus as RealPrometheus
from tests.realparts.prometheus import config, promtool, static
from tests.realparts.server import wait_until

T0 = 1_700_000_100  # a multiple of 300
LASTS = 2700
AT = "2023-11-14T23:00:07Z"
NOW = 1_700_002_807
SCRAPE = 15
VERSIONS = [pytest.param(version, marks=pytest.mark.real) for version in ("2", "3")]
Labels = dict[str, str]
Course = Callable[[int], float]


class Store:
    """Series in the text form that promtool makes blocks of; each has a value at every scrape."""

    def __init__(self) -> None:
        self._families: dict[str, list[str]] = {}

    def put(self, name: str, labels: Labels, course: Course, *, each: int = SCRAPE) -> None:
        inside = ",".join(f'{label}="{value}"' for label, value in labels.items())
        lines = self._families.setdefault(name, [])
        lines += [f"{name}{{{inside}}} {course(second)} {T0 + second}" for second in range(0, LASTS + 1, each)]

    def pods(self, name: str, course: Course, *, each: int = SCRAPE, **labels: str) -> None:
        """The same counter of a pod of each track."""
        for track in ("canary", "stable"):
            self.put(name, {**pod(track), **labels}, course, each=each)

    def text(self) -> str:
        return "\n".join(line for family in self._families.values() for line in family) + "\n# EOF\n"


def pod(track: str, namespace: str = "shop") -> Labels:
    where = {"job": "checkout", "instance": f"{track}:80"} if namespace == "shop" else {"job": "x", "instance": "x:80"}
    return {"namespace": namespace, **where, "track": track, "service": "checkout"}


def rising(per_second: float) -> Course:
    return lambda second: int(per_second * second)


def steady(number: float) -> Course:
    return lambda _: number


def stored() -> str:
    store = Store()
    for track in ("canary", "stable"):
        target_of = {label: value for label, value in pod(track).items() if label != "service"}
        store.put("up", target_of, steady(1))
        store.put("process_start_time_seconds", target_of, steady(T0 - 9000))
    store.put("up", {"job": "x", "instance": "x:80", "namespace": "payments"}, steady(1))
    store.pods("good_total", rising(10), code="200")
    store.pods("good_total", rising(0.01), code="500")
    for le, share in (("0.1", 0.5), ("0.25", 0.9), ("0.5", 0.99), ("+Inf", 1)):
        store.pods("good_seconds_bucket", rising(10 * share), le=le)
    store.pods("good_seconds_count", rising(10))
    for code, rate in (("200", 10), ("500", 0.01)):
        store.put("lonely_total", {**pod("stable"), "code": code}, rising(rate))
        for track in ("canary", "stable"):
            store.put("lonely_total", {**pod(track), "service": "cart", "code": code}, rising(rate))
    for track in ("stable", "blue"):
        for code, rate in (("200", 10), ("500", 0.01)):
            store.put("painted_total", {**pod(track), "code": code}, rising(rate))
    for track in ("canary", "stable"):
        store.put("foreign_total", pod(track, "payments"), rising(10))
        plain = {label: value for label, value in pod(track).items() if label != "track"}
        store.put("plain_total", plain, rising(10))
        store.put("pushed_total", {"namespace": "shop", "track": track, "code": "200"}, rising(10))
        for quantile in ("0.5", "0.99"):
            store.put("summary_seconds", {**pod(track), "quantile": quantile}, lambda second: 0.2 + second / 1e5)
    store.pods("queue_length", lambda second: 40 + second // SCRAPE * 7 % 31)
    store.pods("flat_seconds_bucket", rising(10), le="+Inf")
    store.pods("flat_seconds_count", rising(10))
    for le in ("1", "+Inf"):
        store.pods("single_seconds_bucket", rising(10), le=le)
    store.pods("single_seconds_count", rising(10))
    store.pods("calm_total", rising(10), code="200")
    store.pods("slow_total", rising(10), each=300, code="200")
    store.pods("slow_total", rising(0.01), each=300, code="500")
    store.pods("roi", steady(5.8))
    store.pods("roi_error", steady(0.2))
    store.pods("roi_unsure", steady(0))
    store.pods("gone_total", lambda second: second if second < 1800 else float("nan"))
    for name, value in (("requests", 100), ("request_errors", 1)):
        for track in ("canary", "stable"):
            labels = {"namespace": "shop", "service": "checkout", "track": track}
            store.put(f"namespace_service_track:{name}:delta10s", labels, steady(value), each=10)
    for le, value in (("0.25", 90), ("+Inf", 100)):
        for track in ("canary", "stable"):
            labels = {"namespace": "shop", "service": "checkout", "track": track, "le": le}
            name = "namespace_service_track_le:requests:delta10s"
            store.put(name, labels, steady(value), each=10)
    return store.text()


@pytest.fixture(scope="module")
def blocks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("blocks")
    (folder / "stored.txt").write_text(stored())
    command = [str(promtool()), "tsdb", "create-blocks-from", "openmetrics", str(folder / "stored.txt")]
    subprocess.run([*command, str(folder / "data")], check=True, capture_output=True, timeout=300)
    return folder / "data"


@pytest.fixture(scope="module", params=VERSIONS)
def url(request: pytest.FixtureRequest, blocks: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Prometheus that holds the past."""
    folder = tmp_path_factory.mktemp("prometheus")
    shutil.copytree(blocks, folder / "data")
    keep = ("--storage.tsdb.retention.time=10y",)
    with RealPrometheus(folder, version=request.param, config=config(), arguments=keep) as server:
        yield server.url


def checked(
    url: str,
    folder: Path,
    *metrics: dict[str, Any],
    expect: int,
    criterion: dict[str, Any] | None = None,
    gate: bool = False,
    **change: Any,
) -> dict[str, Any]:
    """What `check` says of a plan with these metrics, each judged by a limit that fits it."""
    judged = [_criterion(metric) | (criterion or {}) for metric in metrics]
    phase = ramp(guardrails=judged)
    if gate:
        phase = ramp(guardrails=[{"metric": "errors", "below": "5%"}], gate={"after": "1h", "criteria": judged})
    document = {
        "apiVersion": "autoadvance.dev/v1alpha1",
        "kind": "Launch",
        "metadata": {"name": "shop", "namespace": "shop"},
        "spec": {
            "revision": "v2",
            "targets": [{**target("main"), "service": "checkout", **change}],
            "metrics": [metric for metric in metrics if len(metric) > 1],
            "phases": [phase],
        },
    }
    path = folder / "plan.yaml"
    path.write_text(yaml.safe_dump(document))
    said = call("check", path, "--prometheus", url, "--at", AT, "-o", "json")
    assert said.exit_code == expect, said.output
    found: dict[str, Any] = json.loads(said.stdout)
    return found


def _criterion(metric: dict[str, Any]) -> dict[str, Any]:
    if metric["name"] == "latency" or "latency" in metric:
        return {"metric": metric["name"], "quantile": 0.9, "below": "250ms"}
    return {"metric": metric["name"], "below": "20" if "value" in metric else "1%"}


def ratio(total: str, bad: str = "", name: str = "failures") -> dict[str, Any]:
    return {"name": name, "ratio": {"bad": bad or 'good_total{code="500"}', "total": total}}


def value(query: str, **more: Any) -> dict[str, Any]:
    return {"name": "number", "value": {"query": query}, **more}


def latency(base: str) -> dict[str, Any]:
    return {"name": "slowness", "latency": {"bucket": f"{base}_bucket", "count": f"{base}_count"}}


GOOD = {
    "ratio": ratio('good_total{service="{{service}}"}', 'good_total{service="{{service}}",code=~"5.."}'),
    "latency": latency("good_seconds"),
    "value": value('sum(rate(good_total{track="{{track}}"}[1m]))'),
    "a value of both tracks on purpose": value('sum(rate(good_total{track=~"canary|stable"}[1m]))'),
    "a quantile of buckets": value(
        'histogram_quantile(0.9,sum by (le)(rate(good_seconds_bucket{track="canary"}[1m])))'
    ),
    "recorded errors": {"name": "errors"},
    "recorded latency": {"name": "latency"},
}


@pytest.mark.parametrize("metric", GOOD.values(), ids=GOOD)
def test_a_good_metric_has_no_finding(url: str, tmp_path: Path, metric: dict[str, Any]) -> None:
    limit = {"below": "0.4"} if "histogram_quantile" in str(metric) else None
    found = checked(url, tmp_path, metric, expect=0, criterion=limit)
    assert found["findings"] == []
    assert (found["result"], found["metrics"][0]["says"]) == ("good", "good")


Case = tuple[dict[str, Any], Literal["stops", "weak"], str, str, str]
MISLEADING: dict[str, Case] = {
    "only stable has series": (
        ratio('lonely_total{service="{{service}}"}', 'lonely_total{service="{{service}}",code=~"5.."}'),
        "weak",
        "stable-only",
        'lonely_total has series of track stable only, none that meets track="canary"',
        "look again once the canary has traffic; if it stays so, label the pods of both tracks",
    ),
    "the canary goes by another label": (
        ratio("painted_total", 'painted_total{code="500"}'),
        "stops",
        "stable-only",
        "painted_total has series of track blue and stable only",
        "label the canary's pods track=canary instead of track=blue",
    ),
    "no label of a track": (
        ratio("plain_total"),
        "stops",
        "no-track-label",
        "plain_total has no label track",
        "podTargetLabels: [track]",
    ),
    "both tracks in one number": (
        value("sum(rate(good_total[1m]))"),
        "stops",
        "both-tracks",
        "good_total is taken of both tracks (canary and stable)",
        'write track="{{track}}" among its conditions, or track=~"canary|stable" where both are meant',
    ),
    "another namespace": (
        ratio("foreign_total"),
        "stops",
        "other-namespace",
        "foreign_total has series in namespace payments and none in shop",
        "move the launch to namespace payments, or let the metric carry namespace=shop",
    ),
    "a gauge instead of a counter": (
        ratio("queue_length"),
        "stops",
        "gauge",
        "queue_length is no counter: it fell",
        "write a counter, such as one named ..._total",
    ),
    "the rate of a gauge": (
        value('sum(rate(queue_length{track="canary"}[1m]))'),
        "stops",
        "gauge",
        "queue_length is no counter: it fell",
        "write queue_length without rate",
    ),
    "an averaged quantile of a summary": (
        value('avg(summary_seconds{quantile="0.99",track="canary"})'),
        "stops",
        "averaged-quantile",
        "avg over quantiles is no quantile",
        "write latency: {bucket: summary_seconds_bucket, count: summary_seconds_count} instead of value",
    ),
    "an averaged quantile of buckets": (
        value('avg(histogram_quantile(0.9, rate(good_seconds_bucket{track="canary"}[1m])))'),
        "stops",
        "averaged-quantile",
        "avg over quantiles is no quantile",
        "write latency: {bucket: good_seconds_bucket, count: good_seconds_count} instead of value",
    ),
    "a histogram of no bucket": (
        latency("flat_seconds"),
        "stops",
        "one-bucket",
        "flat_seconds_bucket has no bucket but +Inf",
        "add the bucket 250ms to the histogram",
    ),
    "a histogram of one bucket": (
        latency("single_seconds"),
        "stops",
        "one-bucket",
        "250ms of slowness p90 below 250ms is no edge of single_seconds_bucket, which has one bucket, 1s",
        "write below: 1s, or add the bucket 250ms to the histogram",
    ),
    "a quantile of one bucket": (
        value('histogram_quantile(0.9, sum by (le) (rate(single_seconds_bucket{track="canary"}[1m])))'),
        "stops",
        "one-bucket",
        "single_seconds_bucket has one bucket, 1s: every quantile of it is made up",
        "write latency: {bucket: single_seconds_bucket, count: single_seconds_count} instead of value",
    ),
    "a limit above the highest bucket": (
        value('histogram_quantile(0.9, sum by (le) (rate(good_seconds_bucket{track="canary"}[1m])))'),
        "stops",
        "one-bucket",
        "the highest bucket of good_seconds_bucket is 0.5, and no quantile of it is ever above; number below 20",
        "give good_seconds buckets around the limit",
    ),
    "no series of failures yet": (
        ratio("calm_total", 'calm_total{code=~"5.."}'),
        "weak",
        "no-zero-series",
        'no series of calm_total meets code=~"5.."; its code is 200',
        "export the series at 0 from the start",
    ),
    "no series of failures yet, and nothing that tells young processes": (
        ratio("pushed_total", 'pushed_total{code=~"5.."}'),
        "stops",
        "no-zero-series",
        "born with its first failure, that one would not be counted",
        "export the series at 0 from the start",
    ),
    "a scrape each five minutes": (
        ratio("slow_total", 'slow_total{code="500"}'),
        "stops",
        "slow-scrape",
        "it is scraped each 5m: between two scrapes there is no data",
        "scrape each 15s, or write interval: 5m",
    ),
    "a misspelt label": (
        ratio('good_total{servce="checkout"}'),
        "stops",
        "unknown-label",
        'good_total has no label servce, so that servce="checkout" finds nothing',
        'write service="checkout"',
    ),
    "a misspelt value": (
        ratio('good_total{service="chekout"}'),
        "stops",
        "unknown-value",
        'no series of good_total meets service="chekout"; its service is checkout',
        'write service="checkout"',
    ),
    "a misspelt metric": (
        ratio("god_total"),
        "stops",
        "no-metric",
        "Prometheus has no series god_total",
        "check the name, and that its target is scraped",
    ),
    "a constant where data are missing": (
        value('sum(rate(good_total{track="canary",code="503"}[1m])) or vector(0)'),
        "stops",
        "constant",
        "where data are missing it answers vector(0)",
        "remove or vector(0)",
    ),
    "nothing but a constant": (value("vector(1)"), "stops", "constant", "it asks for no series at all", "of a metric"),
    "everything is bad": (
        ratio("good_total", "good_total"),
        "stops",
        "all-bad",
        "events are bad",
        "let ratio.bad select the failed ones only",
    ),
    "a metric that has stopped": (
        ratio("gone_total", "gone_total"),
        "stops",
        "stale",
        "its newest sample of canary and stable is 15m",
        "check that its pods still run",
    ),
}


@pytest.mark.parametrize("case", MISLEADING.values(), ids=MISLEADING)
def test_a_metric_that_misleads_is_named_with_what_to_write(url: str, tmp_path: Path, case: Case) -> None:
    metric, severity, kind, wrong, write = case
    found = checked(url, tmp_path, metric, expect=int(severity == "stops"))
    own = [finding for finding in found["findings"] if finding["kind"] == kind]
    assert [finding["severity"] for finding in own] == [severity], found["findings"]
    assert wrong in own[0]["wrong"]
    assert write in own[0]["write"]
    assert (own[0]["metric"], own[0]["targets"]) == (metric["name"], ["main"])
    # What stops it is said first, and what follows from it is not said besides.
    assert [finding for finding in found["findings"] if finding["kind"] in ("unusable", "no-rows")] == []


def test_a_service_that_the_rules_know_by_another_name_is_told(url: str, tmp_path: Path) -> None:
    found = checked(url, tmp_path, {"name": "errors"}, expect=1, service="shop")
    (finding,) = found["findings"]
    assert (finding["kind"], finding["write"]) == ("unknown-value", "write service: checkout in target main")


def test_a_limit_that_the_rules_do_not_record_is_told_with_the_nearest(url: str, tmp_path: Path) -> None:
    criterion = {"metric": "latency", "quantile": 0.9, "below": "200ms"}
    found = checked(url, tmp_path, {"name": "latency"}, expect=1, criterion=criterion)
    (finding,) = found["findings"]
    assert finding["kind"] == "no-such-edge"
    assert finding["write"] == (
        "write below: 250ms, or add the bucket 200ms to the histogram and to the recording rules"
    )


def test_a_value_of_several_series_is_told_in_the_words_of_the_controller(url: str, tmp_path: Path) -> None:
    found = checked(url, tmp_path, value('good_total{track="canary"}'), expect=1)
    (finding,) = found["findings"]
    assert finding["kind"] == "unusable"
    assert "the controller would have no data" in finding["wrong"]
    assert "several series where one is expected; aggregate it" in finding["wrong"]


ERROR = 'roi_error{track="canary"}'
ERRORS = {
    "known": (ERROR, None, ""),
    "zero": ('roi_unsure{track="canary"}', "unusable", "gives 0 for its standard error, which must be above 0"),
    "not a number": (f"{ERROR} * NaN", "unusable", "gives NaN for its standard error"),
    "misspelt": ('roi_eror{track="canary"}', "no-metric", "roi_eror"),
    "hidden": (f"{ERROR} or vector(1)", "constant", "where data are missing it answers vector(1)"),
    "made up": ("0.2", "constant", "the value is thought to be as sure as that number says"),
}


@pytest.mark.parametrize(("query", "kind", "said"), ERRORS.values(), ids=ERRORS)
def test_the_standard_error_of_a_value_is_asked_too(
    url: str, tmp_path: Path, query: str, kind: str | None, said: str
) -> None:
    metric = {"name": "number", "value": {"query": 'roi{track="canary"}', "standardError": query}}
    found = checked(url, tmp_path, metric, expect=0 if kind is None or query == "0.2" else 1, gate=True)
    (line,) = [each for each in found["metrics"] if each["metric"] == "number"]
    findings = [(each["kind"], each["fields"], each["wrong"]) for each in found["findings"]]
    if kind is None:
        assert (findings, line["value"], line["standardError"]) == ([], 5.8, 0.2)
        return
    assert [(name, fields) for name, fields, _ in findings] == [(kind, ["value.standardError"])]
    assert said in findings[0][2]


def test_remarks_of_prometheus_are_shown(url: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    found = checked(url, tmp_path, value('sum(rate(roi{track="canary"}[1m]))'), expect=0)
    remarks = [finding["wrong"] for finding in found["findings"] if finding["kind"] == "remark"]
    version = request.node.callspec.params["url"]
    assert [remark.partition(",")[0] for remark in remarks] == (
        ["Prometheus remarks: metric might not be a counter"] if version == "3" else []
    )


def _examined(url: str, criterion: dict[str, Any], *metrics: dict[str, Any], **flags: object) -> Checked:
    """What is found with other settings of the controller."""
    document = {
        "apiVersion": "autoadvance.dev/v1alpha1",
        "kind": "Launch",
        "metadata": {"name": "shop", "namespace": "shop"},
        "spec": {
            "revision": "v2",
            "targets": [{**target("main"), "service": "checkout"}],
            "metrics": list(metrics),
            "phases": [ramp(guardrails=[criterion])],
        },
    }
    settings = read_settings({"prometheus": url, **{name.replace("_", "-"): flag for name, flag in flags.items()}}, {})
    recorded = RecordedForm(settings.recorded_interval, settings.recorded_settle, settings.recorded_offset)
    return examine(parse(document, recorded), settings, float(NOW))


def test_queries_that_are_not_confined_are_checked_as_they_are(url: str) -> None:
    criterion = {"metric": "failures", "below": "1%"}
    metric = ratio("foreign_total", 'good_total{code="500"}')
    found = {one.kind: one for one in _examined(url, criterion, metric, unconfined_queries=True).findings}
    assert set(found) == {"other-namespace", "both-tracks"}
    assert found["other-namespace"].wrong == "foreign_total is taken from namespace payments; the launch is in shop"
    assert found["other-namespace"].write == 'write namespace="{{namespace}}" among its conditions'
    assert found["both-tracks"].write == 'write track="{{track}}" among its conditions'


def test_rules_of_another_interval_are_told(url: str) -> None:
    found = _examined(url, {"metric": "errors", "below": "1%"}, recorded_interval="2s")
    (finding,) = found.findings
    assert finding.kind == "no-metric"
    assert finding.write == "run the controller with --recorded-interval 10s, or write the rules for 2s"


@pytest.mark.parametrize("version", ["2", "3"])
def test_a_gauge_that_does_not_fall_is_known_by_what_its_target_says(
    version: Literal["2", "3"], prometheus_factory: PrometheusFactory
) -> None:
    server = prometheus_factory(version=version)
    labels = {"namespace": "shop", "track": "canary"}
    server.reconfigure(config([static("itself", [server.address], labels=labels)]))
    server.wait_for("prometheus_tsdb_head_series")
    adapter = Prometheus(PrometheusSettings(url=server.url, timeout=60.0, read_timeout=60.0))
    try:
        deadline = time.monotonic() + 60
        gauge = wait_until(
            lambda: adapter.kinds("prometheus_tsdb_head_series", deadline), deadline_s=60, what="metadata to be there"
        )
        assert gauge == ("gauge",)
        assert adapter.kinds("prometheus_http_requests_total", deadline) == ("counter",)
        assert adapter.kinds("nothing_here", deadline) == ()
        asking = MetricFacts(adapter, time.time())
        series = Series("ratio", "heads", bad="prometheus_tsdb_head_series", total="prometheus_tsdb_head_series")
        subject = Subject(series, "shop", "main", "", "v2")
        reading = Reading(0, 0)
        (facts,) = asking.of([(Wanted(subject, None, ()), reading, None)])
        asking.close()
    finally:
        adapter.close()
    assert [one.fields for one in findings([facts]) if one.kind == "gauge"] == [("ratio.bad", "ratio.total")]


def test_a_table_is_printed_with_what_is_wrong_below(url: str, tmp_path: Path) -> None:
    checked(url, tmp_path, ratio('good_total{servce="checkout"}'), {"name": "errors"}, expect=1)
    said = call("check", tmp_path / "plan.yaml", "--prometheus", url, "--at", AT)
    assert said.exit_code == 1
    lines = said.stdout.splitlines()
    assert [line.split()[:2] for line in lines[:3]] == [["target", "metric"], ["main", "failures"], ["main", "errors"]]
    assert lines[1].endswith("stops: unknown-label")
    assert lines[2].split() == [
        "main",
        "errors",
        *["1", "/", "1", "600", "/", "600", "6", "/", "6", "7s", "ago", "10s", "good"],
    ]
    assert lines[3] == (
        'stops metric failures, ratio.total (target main): good_total has no label servce, so that servce="checkout" '
        'finds nothing; write service="checkout"'
    )
    assert lines[4:] == ["launch shop: one finding stops it"]


def test_what_cannot_be_asked_is_neither_good_nor_bad(tmp_path: Path) -> None:
    def says(*arguments: object) -> str:
        said = call("check", *arguments)
        assert said.exit_code == 2, said.output
        assert said.stdout == ""
        return said.stderr

    with ScriptedServer(say(http(matrix([], warnings=["half of it is missing"])))) as half:
        checked_plan = tmp_path / "plan.yaml"
        checked_plan.write_text((ROOT / "deploy/examples/smallest.yaml").read_text())
        assert "--prometheus: Prometheus at 127.0.0.1" in says(checked_plan, "--prometheus", half.url)
        nobody = half.url
    assert "refuses the connection" in says(checked_plan, "--prometheus", nobody)
    assert "is not a URL" in says(checked_plan, "--prometheus", "here")
    assert "has not come yet; write an instant of the past" in says(checked_plan, "--at", "2999-01-01T00:00:00Z")
    assert "no such file" in says(tmp_path / "none.yaml").lower()
    assert "write -o json or -o text" in says(checked_plan, "-o", "yaml")
    checked_plan.write_text("kind: Launch\n")
    assert "apiVersion" in says(checked_plan)


def test_a_server_that_gives_up_in_the_middle_is_told_as_such(tmp_path: Path) -> None:
    def reply(asked: Asked) -> Iterator[bytes]:
        if asked.form.get("query") == "vector(1)":
            yield http(matrix([{"metric": {}, "values": [[time.time(), "1"]]}]))
        else:
            yield http('{"status":"error","errorType":"timeout","error":"query timed out"}', status=503)

    plan = tmp_path / "plan.yaml"
    plan.write_text((ROOT / "deploy/examples/smallest.yaml").read_text())
    with ScriptedServer(reply) as server:
        said = call("check", plan, "--prometheus", server.url, "-o", "json")
    assert said.exit_code == 2, said.output
    found = json.loads(said.stdout)
    assert (found["result"], {finding["kind"] for finding in found["findings"]}) == ("unanswered", {"unanswered"})
    assert "query timed out" in found["unanswered"][0]

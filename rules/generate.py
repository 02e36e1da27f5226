"""Writes the recording rules of this folder: one template per count, one small table per source.

Run from the root of the project: ``python -m rules.generate`` rewrites the files that stand here,
``python -m rules.generate --interval 2s --offset 1s --out quick``
writes quicker ones elsewhere.
"""

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from controller.core import normal_form as form
from controller.core.units import parse_duration

INTERVAL_S = 10.0
OFFSET_S = 5.0
"""Must exceed the longest scrape: what is stored later than this is lost to the recorded count."""

EDGES_S = (0.05, 0.1, 0.2, 0.25, 0.3, 0.5, 1.0, 2.0, 2.5, 5.0, 10.0)
"""The latency edges (seconds) that are recorded; one that a histogram does not have costs nothing and gives no row."""


@dataclass(frozen=True)
class Source:
    """Where one kind of exporter keeps its counts, and how its labels become ``namespace, service, track``.

    ``requests``, ``errors`` and ``bucket`` are selectors; ``bucket`` is left open at its end for the matcher of ``le``.
    ``le_per_second`` is how many of the histogram's units make a second. ``by`` are the labels that tell the tracks
    apart at the source, ``relabel`` turns a sum by them into the recorded labels. ``young`` gives the targets that were
    just born, from interval and offset (seconds).
    """

    name: str
    about: str
    requests: str
    errors: str
    bucket: str
    le_per_second: float
    by: Sequence[str]
    relabel: Callable[[str], str]
    young: Callable[[float, float], str]


@dataclass(frozen=True)
class Rule:
    """One recording rule; ``labels`` are set on every row it writes."""

    record: str
    expr: str
    labels: tuple[tuple[str, str], ...] = ()


CLUSTER = "([^/]+)/([^/]+)/(canary|stable)"
"""How an Envoy cluster is to be named: ``<namespace>/<service>/<track>``. A dot would end the name in Envoy's stats."""


def _from_cluster_name(total: str) -> str:
    for group, label in enumerate(form.LABELS, start=1):
        total = _label_replace(total, label, f"${group}", "envoy_cluster_name", CLUSTER)
    return form.sum_by(form.LABELS, total)


def _label_replace(total: str, label: str, value: str, source: str, pattern: str) -> str:
    body = total.replace("\n", "\n  ")
    return f'label_replace(\n  {body},\n  "{label}", "{value}", "{source}", "{pattern}"\n)'


def _young_envoy(interval_s: float, offset_s: float) -> str:
    # Envoy exports its age, not its start; the age is that of the newest sample, which is at least the offset old.
    limit = form.young_limit_s(interval_s, offset_s) - offset_s
    age = f"last_over_time(envoy_server_uptime[{form.duration(interval_s)}] offset {form.duration(offset_s)})"
    return f"{age} < {limit:g}"


HTTP = Source(
    name="http",
    about="Plain HTTP metrics as the Prometheus client libraries write them, on targets labelled namespace, service, track.",
    requests='http_requests_total{track!=""}',
    errors='http_requests_total{track!="",code=~"5.."}',
    bucket='http_request_duration_seconds_bucket{track!="",',
    le_per_second=1.0,
    by=form.LABELS,
    relabel=lambda total: total,
    young=form.young_process,
)

ENVOY = Source(
    name="envoy",
    about="Envoy's upstream clusters, named <namespace>/<service>/<track>. Its latencies are milliseconds, recorded as seconds.",
    requests=f'envoy_cluster_upstream_rq_xx{{envoy_cluster_name=~"{CLUSTER}"}}',
    errors=f'envoy_cluster_upstream_rq_xx{{envoy_cluster_name=~"{CLUSTER}",envoy_response_code_class="5"}}',
    bucket=f'envoy_cluster_upstream_rq_time_bucket{{envoy_cluster_name=~"{CLUSTER}",',
    le_per_second=1000.0,
    by=("envoy_cluster_name",),
    relabel=_from_cluster_name,
    young=_young_envoy,
)


def request_rules(source: Source, interval_s: float, offset_s: float) -> Iterator[Rule]:
    """Requests, and of them the failed ones."""

    def count(selector: str) -> str:
        young = source.young(interval_s, offset_s)
        total = form.anchored_increase(selector, interval_s, by=source.by, offset_s=offset_s, young=young)
        return source.relabel(total)

    requests = form.recorded_requests(interval_s)
    yield Rule(requests, count(source.requests))
    # The row of this very evaluation: the bare name would repeat an old one after a restart of Prometheus.
    yield Rule(
        form.recorded_errors(interval_s), form.or_zero(count(source.errors), of=f"last_over_time({requests}[1ms])")
    )


def latency_rules(source: Source, interval_s: float, offset_s: float) -> Iterator[Rule]:
    """Requests within each edge, and within +Inf, which are all requests that the histogram saw.

    One rule per edge, since ``1`` and ``1.0`` are one edge, and each source's unit becomes seconds.
    """
    young = source.young(interval_s, offset_s)
    for edge in (*EDGES_S, float("inf")):
        selector = f"{source.bucket}{_le_matcher(edge * source.le_per_second)}}}"
        total = form.anchored_increase(selector, interval_s, by=source.by, offset_s=offset_s, young=young)
        labels = (("le", form.edge_label(edge)),)
        yield Rule(form.recorded_requests_within(interval_s), source.relabel(total), labels)


def restart_rules(interval_s: float, offset_s: float) -> Iterator[Rule]:
    """Container restarts by kube-state-metrics, whose pods carry the labels ``service`` and ``track``."""

    def newest(metric: str, by: str, window_s: float, back_s: float) -> str:
        # max: two replicas of kube-state-metrics say the same twice.
        return f"max by ({by}) (last_over_time({metric}[{form.duration(window_s)}] offset {form.duration(back_s)}))"

    container = "namespace, pod, uid, container"
    restarts = "kube_pod_container_status_restarts_total"
    created = newest("kube_pod_created", "namespace, pod, uid", interval_s, offset_s)
    difference = form.anchored_difference(
        newest(restarts, container, interval_s, offset_s),
        newest(restarts, container, max(form.ANCHOR_WINDOW_S, 5 * interval_s), interval_s + offset_s),
        # The age that counts is the pod's: a young kube-state-metrics tells of old pods.
        f"on (namespace, pod, uid) (\n  {created} > time() - {form.ANCHOR_WINDOW_S:g}\n)",
    )
    labels = newest('kube_pod_labels{label_track!=""}', "namespace, pod, label_service, label_track", 300.0, offset_s)
    # topk: a pod that is relabelled shows both for a while, and a join with two rows fails the rule for everyone.
    joined = (
        f"{form.sum_by(('namespace', 'pod'), difference)}\n"
        "* on (namespace, pod) group_left (label_service, label_track)\n"
        f"topk by (namespace, pod) (1, {labels})"
    )
    for label in ("service", "track"):
        joined = _label_replace(joined, label, "$1", f"label_{label}", "(.*)")
    yield Rule(form.recorded_restarts(interval_s), form.sum_by(form.LABELS, joined))


def render(interval_s: float = INTERVAL_S, offset_s: float = OFFSET_S) -> dict[str, str]:
    """The text of every rule file by its name.

    Raises ValueError when the interval or the offset cannot be written in PromQL.
    """
    files = {}
    for source in (HTTP, ENVOY):
        groups = {
            f"auto-advance-{source.name}-requests": request_rules(source, interval_s, offset_s),
            f"auto-advance-{source.name}-latency": latency_rules(source, interval_s, offset_s),
        }
        files[f"{source.name}.yaml"] = _file(source.about, interval_s, groups)
    about = (
        "Container restarts by kube-state-metrics, which must be told --metric-labels-allowlist=pods=[service,track]."
    )
    files["restarts.yaml"] = _file(about, interval_s, {"auto-advance-restarts": restart_rules(interval_s, offset_s)})
    return files


def _le_matcher(edge: float) -> str:
    if edge == float("inf"):
        return 'le="+Inf"'
    text = f"{edge:.10g}"
    # Prometheus 2 keeps the edge as the source wrote it, Prometheus 3 always adds the decimal.
    return f'le="{text}"' if "." in text else f'le=~"{text}([.]0)?"'


def _file(about: str, interval_s: float, groups: dict[str, Iterator[Rule]]) -> str:
    lines = [f"# {about}", "# Written by `python -m rules.generate`: change the table there, not this file.", "groups:"]
    for name, rules in groups.items():
        lines += [f"  - name: {name}", f"    interval: {form.duration(interval_s)}", "    rules:"]
        for rule in rules:
            lines += [f"      - record: {rule.record}"]
            if rule.labels:
                lines += ["        labels:", *(f'          {label}: "{value}"' for label, value in rule.labels)]
            lines += ["        expr: |", *(f"          {line}" for line in rule.expr.splitlines())]
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the files; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m rules.generate", description="Write the recording rules.")
    parser.add_argument(
        "--interval", default="10s", help="of the rule groups; part of the recorded names (default 10s)"
    )
    parser.add_argument("--offset", default="5s", help="must exceed the longest scrape (default 5s)")
    parser.add_argument(
        "--out", type=Path, default=Path(__file__).parent, help="folder to write to (default: this one)"
    )
    chosen = parser.parse_args(arguments)
    try:
        files = render(parse_duration(chosen.interval), parse_duration(chosen.offset))
    except ValueError as fault:
        parser.error(f"--interval {chosen.interval} --offset {chosen.offset}: {fault}")
    chosen.out.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (chosen.out / name).write_text(text, encoding="utf-8")
        print(f"wrote {chosen.out / name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

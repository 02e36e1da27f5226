"""Writes the recording rules of this folder: one template per count, one small table per source.

Run from the root of the project: ``python -m rules.generate`` rewrites the files that stand here and, of every rule
file here, the object for the Prometheus Operator. ``python -m rules.generate --interval 2s --offset 1s --out quick``
writes quicker ones elsewhere, ``--table mine.yaml`` reads a table of your own.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from controller.core import normal_form as form
from controller.core.units import parse_duration
from rules.prometheus_rule import DEFAULT_LABELS, prometheus_rule
from rules.table import Label, Table, TableError, quoted, read_table

INTERVAL_S = 10.0
OFFSET_S = 5.0
"""Must exceed the longest scrape: what is stored later than this is lost to the recorded count."""

HERE = Path(__file__).parent
SOURCES = tuple(sorted((HERE / "sources").glob("*.yaml")))
"""The tables of this project."""

OPERATOR = HERE.parent / "deploy" / "prometheus-rules"


@dataclass(frozen=True)
class Rule:
    """One recording rule; ``labels`` are set on every row it writes."""

    record: str
    expr: str
    labels: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Template:
    """The normal form over one table, with the interval and the offset (seconds) of the rules."""

    table: Table
    interval_s: float
    offset_s: float

    def request_rules(self) -> Iterator[Rule]:
        """Requests, and of them the failed ones."""
        table = self.table
        requests = form.recorded_requests(self.interval_s)
        yield Rule(requests, self._count(table.selector(table.requests)))
        failed = self._count(*(table.selector(table.requests, matchers) for matchers in table.failed))
        # The row of this very evaluation: the bare name would repeat an old one after a restart of Prometheus.
        yield Rule(form.recorded_errors(self.interval_s), form.or_zero(failed, of=f"last_over_time({requests}[1ms])"))

    def latency_rules(self) -> Iterator[Rule]:
        """Requests within each edge, and within +Inf, which are all requests that the histogram saw.

        One rule per edge, since ``1`` and ``1.0`` are one edge, and each source's unit becomes seconds.
        """
        for edge in (*self.table.edges, float("inf")):
            matcher = _le_matcher(edge * self.table.per_second)
            labels = (("le", form.edge_label(edge)),)
            counted = self._count(self.table.selector(f"{self.table.latency}_bucket", matcher))
            yield Rule(form.recorded_requests_within(self.interval_s), counted, labels)

    def _count(self, *selectors: str) -> str:
        # `or` counts a series once, also one that several selectors name.
        events = "\nor ".join(self._events(selector) for selector in selectors)
        total = form.sum_by(self.table.by, events)
        relabelled = self.table.relabelled()
        for name, label in relabelled:
            total = _replaced(total, name, label)
        return form.sum_by(form.LABELS, total) if relabelled else total

    def _events(self, selector: str) -> str:
        """Per series of a counter, what it gained in the interval."""
        current = self._last(selector)
        window = form.duration(self._anchor_s)
        previous = f"last_over_time({selector}[{window}] offset {form.duration(self.offset_s + self.interval_s)})"
        born = "\n  or ".join((*self._seen_before(), *self._young()))
        events = form.anchored_difference(current, previous, f"on (job, instance) (\n  {born}\n)")
        if self.table.births.scraped:
            return events
        # A counter that showed a 0 in the interval has no history, whoever brings it: some clients begin with one, and
        # Prometheus can add it from the start time of the OTLP message.
        begun = f"min_over_time({selector}{self._window}) == 0"
        return f"{events}\nor (\n  {current}\n  and {begun}\n)"

    def _seen_before(self) -> Iterator[str]:
        before = f"[{form.duration(self._anchor_s)}] offset {form.duration(self.offset_s + self.interval_s)}"
        if self.table.births.scraped:
            yield f"max_over_time(up{before}) == 1"
            return
        # An export of the same process before the interval stands for the scrape before it. target_info comes with each
        # export, but may be turned off; the requests themselves then tell for the errors.
        yield f"last_over_time(target_info{before})"
        yield f"last_over_time({self.table.selector(self.table.requests)}{before})"

    def _young(self) -> Iterator[str]:
        limit = self.interval_s + self.offset_s + self.table.births.within
        for metric in self.table.births.start:
            yield f"{self._last(metric)} > time() - {limit:g}"
        for metric in self.table.births.age:
            # The age is that of the newest sample, which is at least the offset old.
            yield f"{self._last(metric)} < {limit - self.offset_s:g}"

    @property
    def _anchor_s(self) -> float:
        return max(form.ANCHOR_WINDOW_S, 5 * self.interval_s)

    @property
    def _window(self) -> str:
        return f"[{form.duration(self.interval_s)}] offset {form.duration(self.offset_s)}"

    def _last(self, selector: str) -> str:
        return f"last_over_time({selector}{self._window})"


def _replaced(total: str, name: str, label: Label) -> str:
    return _label_replace(total, name, f"${label.take}", label.source, quoted(label.match or "(.*)"))


def _label_replace(total: str, label: str, value: str, source: str, pattern: str) -> str:
    body = total.replace("\n", "\n  ")
    return f'label_replace(\n  {body},\n  "{label}", "{value}", "{source}", "{pattern}"\n)'


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


def render(
    interval_s: float = INTERVAL_S,
    offset_s: float = OFFSET_S,
    tables: Sequence[Path] = SOURCES,
    edges: Sequence[float] = (),
) -> dict[str, str]:
    """The text of every rule file by its name: one per table, and that of the restarts with the project's own tables.

    ``edges`` (seconds) are recorded instead of each table's own. Raises TableError for a table that cannot be used,
    ValueError when the interval or the offset cannot be written in PromQL.
    """
    files = {}
    for file in tables:
        table = read_table(file)
        if edges:
            table = table.model_copy(update={"edges": tuple(edges)})
        files[f"{file.stem}.yaml"] = render_table(file.stem, table, interval_s, offset_s)
    if tables == SOURCES:
        about = (
            "Container restarts by kube-state-metrics, which must be told "
            "--metric-labels-allowlist=pods=[service,track]."
        )
        rules = restart_rules(interval_s, offset_s)
        files["restarts.yaml"] = _file(about, "its restart_rules()", interval_s, {"auto-advance-restarts": rules})
    return files


def render_table(name: str, table: Table, interval_s: float, offset_s: float) -> str:
    """The rule file of one table, whose groups are called after ``name``.

    Raises ValueError when the interval or the offset cannot be written in PromQL.
    """
    template = Template(table, interval_s, offset_s)
    groups = {
        f"auto-advance-{name}-requests": template.request_rules(),
        f"auto-advance-{name}-latency": template.latency_rules(),
    }
    return _file(table.about, f"the table {name}.yaml", interval_s, groups)


def _le_matcher(edge: float) -> str:
    if edge == float("inf"):
        return 'le="+Inf"'
    text = f"{edge:.10g}"
    # Prometheus 2 keeps the edge as the source wrote it, Prometheus 3 always adds the decimal.
    return f'le="{text}"' if "." in text else f'le=~"{text}([.]0)?"'


def _file(about: str, origin: str, interval_s: float, groups: dict[str, Iterator[Rule]]) -> str:
    lines = [
        f"# {about}",
        f"# Written by `python -m rules.generate` from {origin}: change that, not this file.",
        "groups:",
    ]
    for name, rules in groups.items():
        lines += [f"  - name: {name}", f"    interval: {form.duration(interval_s)}", "    rules:"]
        for rule in rules:
            lines += [f"      - record: {rule.record}"]
            if rule.labels:
                lines += ["        labels:", *(f'          {label}: "{value}"' for label, value in rule.labels)]
            lines += ["        expr: |", *(f"          {line}" for line in rule.expr.splitlines())]
    return "\n".join(lines) + "\n"


def _labels(arguments: Sequence[str]) -> dict[str, str]:
    labels = dict(DEFAULT_LABELS)
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if not (name and equals):
            raise ValueError(f"--label {argument}: write it as NAME=VALUE, such as release=prometheus")
        labels[name] = value
    return labels


def _edges(text: str) -> tuple[float, ...]:
    try:
        return tuple(sorted({parse_duration(edge.strip()) for edge in text.split(",")}))
    except ValueError as fault:
        raise ValueError(f"--edges {text}: {fault}") from fault


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the files; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m rules.generate", description="Write the recording rules.")
    add = parser.add_argument
    add("--interval", default="10s", help="of the rule groups; part of the recorded names (default 10s)")
    add("--offset", default="5s", help="must exceed the longest scrape, or the way of a push (default 5s)")
    add("--table", type=Path, action="append", metavar="FILE", help="a table of your own, instead of all; repeatable")
    add("--edges", metavar="LIST", help="latency edges for every table, such as 100ms,250ms,1s (default: the table's)")
    add("--out", type=Path, help="folder to write to (default: rules, and deploy/prometheus-rules for the operator)")
    add("--operator", type=Path, metavar="FOLDER", help="write the PrometheusRule objects there too")
    add("--namespace", default="", help="of the PrometheusRule objects (default: none, it is given when applied)")
    add("--label", action="append", default=[], metavar="NAME=VALUE", help="of these objects, added; repeatable")
    chosen = parser.parse_args(arguments)
    here = chosen.out is None and not chosen.table
    out: Path = chosen.out or HERE
    operator: Path | None = chosen.operator or (OPERATOR if here else None)
    if chosen.table and chosen.out is None:
        parser.error("--table: say where to write with --out; the folder rules holds what its own tables make")
    try:
        labels = _labels(chosen.label)
        edges = _edges(chosen.edges) if chosen.edges else ()
        try:
            interval_s, offset_s = parse_duration(chosen.interval), parse_duration(chosen.offset)
            files = render(interval_s, offset_s, tuple(chosen.table or SOURCES), edges)
        except ValueError as fault:
            raise ValueError(f"--interval {chosen.interval} --offset {chosen.offset}: {fault}") from fault
        written = {out / name: text for name, text in files.items()}
        if operator:
            # Beside what was just made also what else lies there, such as alerting rules: the operator takes both.
            others = {file.name: file.read_text(encoding="utf-8") for file in out.glob("*.yaml")} if here else {}
            for name, text in (others | files).items():
                written[operator / name] = prometheus_rule(Path(name).stem, text, labels, chosen.namespace)
    except (ValueError, TableError) as fault:
        parser.error(str(fault))
    for file, text in written.items():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
        print(f"wrote {file}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

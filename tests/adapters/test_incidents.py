"""What a real Prometheus says of its alerts adds up to the incidents that there were, live and afterwards."""

from __future__ import annotations

import json
import shutil
import subprocess
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest

from controller.adapters.prometheus import Answer, PrometheusSettings
from controller.adapters.prometheus import Prometheus as Adapter
from controller.core.criteria import resolve
from controller.core.evidence import Criterion, Fold, Outcome, Verdict
from controller.core.fold_text import decode, encode
from controller.core.series import Reading, RecordedForm, launch_wide
from controller.core.spec import GateCriterion
from controller.core.verdicts import advance, begin, judge
from controller.gather import Gatherer
from tests.realparts.fixtures import PrometheusFactory
from tests.realparts.prometheus import Prometheus, config, promtool, static
from tests.realparts.server import free_port

T0 = 1_700_000_010  # a multiple of 30
WRITTEN = GateCriterion.model_validate({"incidents": "critical", "atMost": 9, "matchers": ['team="learning"']})
CRITERION = resolve(WRITTEN, {}, RecordedForm())
FIRING = {"alertstate": "firing", "severity": "critical", "team": "learning"}
EVALUATED = 60
VERSIONS = [pytest.param(version, marks=pytest.mark.real) for version in ("2", "3")]
OUTAGE = (T0 + 3000, T0 + 3600)

# Each alert with the seconds at which its evaluations found it firing; rules are evaluated less often than rows stand.
ALERTS: list[tuple[dict[str, str], Iterable[int]]] = [
    ({"alertname": "OpenAtTheStart"}, range(-593, 200, EVALUATED)),
    ({"alertname": "OverBefore"}, range(-2000, -900, EVALUATED)),
    ({"alertname": "Flaps"}, [*range(307, 667, EVALUATED), *range(800, 900, EVALUATED)]),
    ({"alertname": "Short"}, [1207]),
    ({"alertname": "Twice"}, [1507, 1567, 2407]),
    ({"alertname": "OnTheGrid"}, [2100]),
    ({"alertname": "OfAComponent", "component": "launch"}, range(1811, 1950, EVALUATED)),
    ({"alertname": "LaunchHeld", "component": "launch", "launch": "shop"}, range(100, 900, EVALUATED)),
    ({"alertname": "Weak", "severity": "warning"}, range(0, 900, EVALUATED)),
    ({"alertname": "Others", "team": "payments"}, range(0, 900, EVALUATED)),
    ({"alertname": "Waiting", "alertstate": "pending"}, range(0, 900, EVALUATED)),
]
BEGUN = {0: 1, 330: 1, 1230: 1, 1530: 1, 1830: 1, 2100: 1, 2430: 1}
"""The rows, in seconds from T0, that count an incident, and how many."""


def _stored() -> str:
    """What Prometheus stores of itself each 15 s, and of the alert that always fires at each evaluation."""
    alive = [at for at in range(T0 - 3000, T0 + 4200, 15) if not OUTAGE[0] <= at < OUTAGE[1]]
    group = '{job="prometheus",rule_group="rules;shop"}'
    lines = ["# TYPE prometheus_rule_group_interval_seconds gauge"]
    lines += [f"prometheus_rule_group_interval_seconds{group} {EVALUATED} {at}" for at in alive]
    lines += ["# TYPE prometheus_rule_group_last_evaluation_timestamp_seconds gauge"]
    lines += [
        f"prometheus_rule_group_last_evaluation_timestamp_seconds{group} {at // EVALUATED * EVALUATED} {at}"
        for at in alive
    ]
    watchdog = (at for at in alive if at % 30 == 0)
    lines += ["# TYPE ALERTS gauge"]
    lines += [f'ALERTS{{alertname="Watchdog",alertstate="firing"}} 1 {at}' for at in watchdog]
    for labels, instants in ALERTS:
        text = ",".join(f'{name}="{value}"' for name, value in {**FIRING, **labels}.items())
        lines += [f"ALERTS{{{text}}} 1 {T0 + at}" for at in instants]
    return "\n".join([*lines, "# EOF", ""])


@pytest.fixture(scope="module")
def blocks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("blocks")
    stored = folder / "stored.txt"
    stored.write_text(_stored())
    command = [str(promtool()), "tsdb", "create-blocks-from", "openmetrics", str(stored), str(folder / "data")]
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    return folder / "data"


@pytest.fixture(scope="module", params=VERSIONS)
def past(request: pytest.FixtureRequest, blocks: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gatherer]:
    """A Prometheus that holds the alerts of the past."""
    folder = tmp_path_factory.mktemp("prometheus")
    shutil.copytree(blocks, folder / "data")
    keep = ("--storage.tsdb.retention.time=10y",)
    with Prometheus(folder, version=request.param, config=config(), arguments=keep) as server:
        adapter = Adapter(PrometheusSettings(url=server.url, timeout=60.0, read_timeout=60.0))
        gatherer = Gatherer(adapter)
        yield gatherer
        gatherer.close()
        adapter.close()


def _read(gatherer: Gatherer, criterion: Criterion, after: int, now: float) -> Reading:
    subject = launch_wide(criterion.series, "shop")
    reading = gatherer.gather({subject: after}, now, 60.0)[subject]
    assert reading.problem == ""
    return reading


def _followed(gatherer: Gatherer, until: int, every: int) -> tuple[Fold, Verdict]:
    """The fold and the verdict at ``until``, after looking once in so many seconds."""
    fold = begin(CRITERION, T0, 3600)
    reading = Reading(fold.last, fold.last)
    for now in (*range(T0 + every, until, every), until):
        reading = _read(gatherer, CRITERION, fold.last, now)
        fold = decode(encode(advance(CRITERION, fold, reading.settled, reading.through)))
    return fold, judge(CRITERION, "", fold, reading, until)


def test_each_incident_of_the_past_is_counted_once_where_it_began(past: Gatherer) -> None:
    reading = _read(past, CRITERION, T0 - 30, T0 + 2730)
    assert [row.at for row in reading.settled] == [T0 + at for at in range(0, 2701, 30)]
    counted = {int(row.at) - T0: int(row.x if row.at > T0 else row.n) for row in reading.settled}
    assert {at: x for at, x in counted.items() if x} == BEGUN


@pytest.mark.parametrize("every", [30, 250, 2700])
def test_following_the_alerts_gives_the_same_count_however_often_one_looks(past: Gatherer, every: int) -> None:
    fold, verdict = _followed(past, T0 + 2760, every)
    assert (fold.x, verdict.x, verdict.outcome) == (7.0, 7.0, Outcome.PASS)
    assert fold.gap == (0, 0)


def test_what_prometheus_missed_is_no_data(past: Gatherer) -> None:
    _, verdict = _followed(past, T0 + 4000, 500)
    assert verdict.outcome is Outcome.NO_DATA
    assert verdict.problem == "no proof for 2023-11-14 23:03-23:13 UTC"


def test_conditions_reach_prometheus_as_people_wrote_them(past: Gatherer) -> None:
    for matchers, count in (
        (['team=~"learn.+|x"', 'alertname!~"Open.*|Flaps"'], 5),
        (['team="learn\\"ing"'], 0),
        (["team!=learning"], 1),
        ([], 8),
        ([f'alertname!="{number}{"x" * 1000}"' for number in range(20)], 8),
    ):
        written = GateCriterion.model_validate({"incidents": "critical", "atMost": 0, "matchers": matchers})
        criterion = resolve(written, {}, RecordedForm())
        fold = begin(criterion, T0, 3600)
        reading = _read(past, criterion, fold.last, T0 + 2730)
        assert advance(criterion, fold, reading.settled, reading.through).x == count, matchers


def test_several_incidents_share_a_request_and_the_proof(past: Gatherer) -> None:
    criteria = {
        severity: resolve(
            GateCriterion.model_validate({"incidents": severity, "atMost": 0, "matchers": ["team=learning"]}),
            {},
            RecordedForm(),
        )
        for severity in ("critical", "warning", "page")
    }
    wanted = {launch_wide(one.series, "shop"): T0 - 30 for one in criteria.values()}
    found = past.gather(wanted, T0 + 2730, 60.0)
    for severity, begun in (("critical", 6), ("warning", 1), ("page", 0)):
        reading = found[launch_wide(criteria[severity].series, "shop")]
        assert (reading.problem, len(reading.settled)) == ("", 91)
        assert sum(row.x for row in reading.settled) == begun


class Listening:
    """Answers nothing and keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def query_range(self, expression: str, start: float, end: float, step: float, deadline: float) -> Answer:
        self.asked.append(expression)
        return Answer(())


def test_the_proof_is_asked_once_for_all_incidents() -> None:
    listening = Listening()
    gatherer = Gatherer(listening)
    series = [replace(CRITERION.series, total=f'ALERTS{{severity="{name}"}}') for name in ("a", "b", "c")]
    found = gatherer.gather({launch_wide(one, "shop"): T0 for one in series}, T0 + 65.0, 60.0)
    gatherer.close()
    assert [reading.settled for reading in found.values()] == [()] * 3
    assert [expression.count('alertname="Watchdog"') for expression in listening.asked] == [1, 1]


@pytest.mark.parametrize("version", VERSIONS)
def test_replay_equals_live_while_rules_fire(
    version: Literal["2", "3"], prometheus_factory: PrometheusFactory, tmp_path: Path
) -> None:
    series = replace(CRITERION.series, interval=1, settle=8.0)  # a busy machine stores what it found that much later
    criterion = replace(CRITERION, series=series, at_most=1)
    zero = int(time.time()) + 8
    rules = tmp_path / "rules.json"
    labels = {"severity": "critical", "team": "learning"}
    rules.write_text(
        json.dumps(
            {
                "groups": [
                    {
                        "name": "shop",
                        "rules": [
                            {"alert": "Watchdog", "expr": "vector(1)"},
                            _rule("Open", zero - 60, zero + 3, labels),
                            _rule("Later", zero + 6, zero + 10, labels),
                            _rule("LaunchHeld", zero - 60, zero + 60, labels | {"component": "launch", "launch": "a"}),
                            _rule("Weak", zero - 60, zero + 60, labels | {"severity": "warning"}),
                        ],
                    }
                ]
            }
        )
    )
    port = free_port()
    itself = static("prometheus", [f"127.0.0.1:{port}"])
    prometheus = prometheus_factory(version=version, port=port, config=config([itself], rule_files=[rules]))
    gatherer = Gatherer(Adapter(PrometheusSettings(url=prometheus.url, timeout=60.0, read_timeout=60.0)))
    subject = launch_wide(series, "shop")
    try:
        live = start = begin(criterion, zero, 3600)
        checkpoint = encode(live)
        outcomes = []
        waiting = threading.Event()
        for tick in range(16):
            waiting.wait(max(0.0, zero + 5 + tick - time.time()))
            now = time.time()
            reading = gatherer.gather({subject: live.last}, now, 60.0)[subject]
            assert reading.problem == ""
            live = advance(criterion, live, reading.settled, reading.through)
            outcomes.append(judge(criterion, "", live, reading, now).outcome)
            if tick == 8:
                checkpoint = encode(live)
        replayed = []
        for fold in (start, decode(checkpoint)):
            again = gatherer.gather({subject: fold.last}, live.last + 8.5, 60.0)[subject]
            replayed.append(advance(criterion, fold, again.settled, again.through))
    finally:
        gatherer.close()
    assert live.x == 2
    assert live.instants > 10
    assert [encode(fold) for fold in replayed] == [encode(live)] * 2
    assert outcomes[-1] is Outcome.FAIL
    # Once failed, it stays so: the alerts are over before the last tick.
    assert outcomes[outcomes.index(Outcome.FAIL) :] == [Outcome.FAIL] * (16 - outcomes.index(Outcome.FAIL))


def _rule(name: str, start: int, end: int, labels: Mapping[str, str]) -> dict[str, object]:
    return {"alert": name, "expr": f"vector(time()) >= {start} < {end}", "labels": dict(labels)}

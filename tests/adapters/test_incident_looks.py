"""What is noticed beside the rows of incidents, from servers that answer what a test says; and nobody waits for them."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytest

from controller.adapters.incidents import NOT_KNOWN, IncidentSources
from controller.adapters.prometheus import Answer, AnsweredSeries
from controller.core.criteria import resolve
from controller.core.series import Noticed, Reading, RecordedForm, Subject, launch_wide
from controller.core.spec import GateCriterion
from controller.core.units import format_instant
from controller.errors import UnansweredError
from tests.adapters.scripted_server import Asked, ScriptedServer, http, say
from tests.realparts.server import wait_until

SUBJECT = launch_wide(
    resolve(GateCriterion.model_validate({"incidents": "critical", "atMost": 0}), {}, RecordedForm()).series, "prod"
)
RULE = {
    "name": "Down",
    "query": "up == 0",
    "labels": {"severity": "critical"},
    "health": "ok",
    "lastEvaluation": "",
    "type": "alerting",
}


class Rows:
    """A Prometheus with one rule, in which these label sets fire, or which does not answer."""

    def __init__(self, *fired: Mapping[str, str], broken: bool = False) -> None:
        self.fired, self.broken = fired, broken

    def gather(self, wanted: Mapping[Subject, int], now: float, deadline_s: float) -> dict[Subject, Reading]:
        return {subject: Reading(after, after) for subject, after in wanted.items()}

    def query_range(self, expression: str, start: float, end: float, step: float, deadline: float) -> Answer:
        beside = {"__name__": "ALERTS", "alertstate": "firing"}
        return Answer(tuple(AnsweredSeries({**beside, **labels}, {0: 1.0}) for labels in self.fired))

    def alerting_rules(self, deadline: float) -> list[Any]:
        if self.broken:
            raise UnansweredError("Prometheus failed (HTTP 404)")
        return [{"name": "shop", "interval": 60, "rules": [RULE | {"lastEvaluation": format_instant(time.time())}]}]

    def label_values(self, label: str, selector: str, since: float, deadline: float) -> tuple[str, ...]:
        return ()


def alert(fingerprint: str, *, silenced: bool = False, inhibited: bool = False, **labels: str) -> dict[str, Any]:
    return {
        "fingerprint": fingerprint,
        "labels": {"alertname": "Down", "severity": "critical", **labels},
        "startsAt": "2026-01-01T00:00:00.000Z",
        "status": {
            "state": "suppressed" if silenced or inhibited else "active",
            "silencedBy": ["s1"] if silenced else [],
            "inhibitedBy": ["a1"] if inhibited else [],
        },
    }


@contextmanager
def alertmanager(*alerts: Any, up_s: float = 3600.0, watchdog: bool = True) -> Iterator[ScriptedServer]:
    """One that shows these alerts."""

    def reply(asked: Asked) -> Iterator[bytes]:
        if asked.path.endswith("/status"):
            yield http(json.dumps({"uptime": format_instant(time.time() - up_s)}))
        elif "Watchdog" in asked.path:
            yield http(json.dumps([{"labels": {}}] if watchdog else []))
        else:
            yield http(json.dumps(list(alerts)))

    with ScriptedServer(reply) as server:
        yield server


def noticed(rows: Rows, *urls: str, timeout: float = 5.0) -> Noticed:
    """What goes with the reading as soon as somebody has looked."""
    sources = IncidentSources(rows, rows, urls, each=0.05, timeout=timeout)

    def ask() -> Noticed | None:
        found = sources.gather({SUBJECT: 0}, time.time(), 5.0)[SUBJECT].noticed
        return found if found is not None and found.problem != NOT_KNOWN else None

    try:
        found = wait_until(ask, deadline_s=60, what="a look")
        assert found is not None
        return found
    finally:
        sources.stop()


def test_each_alert_is_told_once_whatever_the_number_of_alertmanagers_and_fires_if_one_of_them_says_so() -> None:
    first = [alert("a", silenced=True), alert("b", silenced=True), alert("c", inhibited=True)]
    with alertmanager(*first) as one, alertmanager(alert("a"), alert("b", silenced=True)) as two:
        found = noticed(Rows(), one.url, two.url)
    assert [(each.id, each.silenced) for each in found.alerts] == [("a", False), ("b", True), ("c", False)]
    assert (found.problem, found.silences) == ("", True)


def test_an_alert_that_prometheus_has_is_known_also_with_more_labels() -> None:
    fired = {"alertname": "Down", "severity": "critical", "service": "shop"}
    with alertmanager(alert("a", service="shop", cluster="eu"), alert("b", service="pay")) as one:
        found = noticed(Rows(fired), one.url)
    assert [(each.id, each.counted) for each in found.alerts] == [("a", True), ("b", False)]


def test_our_own_alerts_are_none() -> None:
    with alertmanager(alert("a", component="launch", launch="shop"), alert("b", component="launch")) as one:
        assert [each.id for each in noticed(Rows(), one.url).alerts] == ["b"]


@pytest.mark.parametrize(
    ("up_s", "watchdog", "problem"),
    [
        (100.0, True, "s only; it knows all alerts after 5m (--alertmanager-resend)"),
        (3600.0, False, "does not show the alert"),
    ],
)
def test_one_that_proves_nothing_is_told_and_its_alerts_with_it(up_s: float, watchdog: bool, problem: str) -> None:
    with alertmanager(alert("a"), up_s=up_s, watchdog=watchdog) as bad, alertmanager() as good:
        found = noticed(Rows(), bad.url)
        assert problem in found.problem
        assert [each.id for each in found.alerts] == ["a"]
        both = noticed(Rows(), bad.url, good.url)
        assert (both.problem, [each.id for each in both.alerts]) == ("", ["a"])


@pytest.mark.parametrize("answer", ["{}", "[1]", '[{"labels": {}}]', '[{"fingerprint": "/"}]', "<html>", ""])
def test_what_is_no_alertmanager_proves_nothing(answer: str) -> None:
    with ScriptedServer(say(http(answer))) as server:
        found = noticed(Rows(), server.url)
    assert "Alertmanager" in found.problem
    assert found.alerts == ()


def test_rules_that_cannot_be_asked_prove_nothing() -> None:
    assert noticed(Rows(broken=True)).problem.startswith("the alerting rules of Prometheus are not known: ")


def test_without_an_alertmanager_the_rules_are_looked_at_and_nothing_is_known_of_silences() -> None:
    found = noticed(Rows())
    assert (found.problem, found.alerts, found.silences) == ("", (), False)


def test_nobody_waits_for_one_that_hangs() -> None:
    hanging = threading.Event()

    def reply(_: Asked) -> Iterator[bytes]:
        hanging.wait(30)
        yield b""

    with ScriptedServer(reply) as server:
        rows = Rows()
        sources = IncidentSources(rows, rows, [server.url], each=0.05, timeout=0.5)
        began = time.monotonic()
        for _ in range(20):
            sources.gather({SUBJECT: 0}, time.time(), 5.0)
        assert time.monotonic() - began < 5
        assert "no whole answer" in noticed(rows, server.url, timeout=0.3).problem
        sources.stop()
        hanging.set()


def test_readings_of_other_metrics_are_left_alone() -> None:
    rows = Rows()
    sources = IncidentSources(rows, rows, ["http://127.0.0.1:9"])
    other = Subject(SUBJECT.series.__class__("recorded", "errors"), "prod", "main", "shop", "v2")
    assert sources.gather({other: 0}, time.time(), 5.0)[other].noticed is None
    sources.stop()

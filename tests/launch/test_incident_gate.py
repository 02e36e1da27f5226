"""A gate that wants no critical incidents, at a whole daemon with a real Prometheus and the Alertmanager that it tells."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from controller.core.alarms import GATE_FAILED, ROLLED_BACK
from controller.core.units import parse_instant
from tests.invariants import violations
from tests.launch.stage import Stage, launch_document, stage
from tests.launch.test_alerts import Heard, People, silence
from tests.realparts.alertmanager import Alertmanager
from tests.realparts.kube import KubeApiserver
from tests.realparts.server import http, wait_until

pytestmark = pytest.mark.xdist_group("incident gate")  # the one daemon serves all tests

DEADLINE_S = 240.0
RULE = {
    "alert": "StableErrors",
    "expr": 'sum by (service) (rate(http_requests_total{track="stable",code="500"}[5s])) > 0',
    "labels": {"severity": "critical", "team": "learning"},
}
CALM, TROUBLED, HUSHED, GIVEN_UP = NAMES = ("calm", "troubled", "hushed", "given-up")
OTHERS = ["service!=troubled", "service!=hushed"]
"""Whatever is critical besides: were alerts about launches incidents, that of the one that was given up would count."""
FIRES = 'ALERTS{{alertname="StableErrors",alertstate="firing",service="{name}"}}'


def _launch(name: str) -> dict[str, Any]:
    matchers = OTHERS if name == CALM else ["team=learning", f"service={name}"]
    ramp = {
        "name": "ramp",
        "steps": [{"weight": 20, "for": "3s"}, {"weight": 30, "for": "3s"}],
        "guardrails": [{"metric": "failures", "below": "5%"}],
        "gate": {"after": "60s", "criteria": [{"incidents": "critical", "atMost": 0, "matchers": matchers}]},
    }
    rest = {"name": "rest", "steps": [{"weight": 100}], "guardrails": [{"metric": "failures", "below": "5%"}]}
    return launch_document(name, phases=[ramp, rest])


def _heeded(alertmanager: Alertmanager, name: str) -> bool:
    """Whether the alert of a launch is there and not silenced."""
    return any(not alert["status"]["silencedBy"] for alert in alertmanager.alerts(service=name))


@dataclass(frozen=True)
class Played:
    """What has happened: ``over`` is when the alert of one launch had gone from everywhere (epoch seconds)."""

    on: Stage
    alertmanager: Alertmanager
    people: People
    silence: str
    over: float

    def counted(self, name: str) -> tuple[str, str]:
        """The verdict on its incidents and their number, as status has them."""
        (found,) = [one for one in self.on.status(name)["criteria"] if not one["target"]]
        return found["verdict"], found["value"]

    def told(self, kind: str, name: str, status: str) -> list[Heard]:
        """What people have heard of this kind about a launch."""
        return [
            one for one in self.people.heard if (one.kind, one.labels.get("launch"), one.status) == (kind, name, status)
        ]

    def hears(self, kind: str, name: str, status: str) -> None:
        """Wait until people hear that."""
        wait_until(
            lambda: self.told(kind, name, status), deadline_s=DEADLINE_S, what=f"{kind} of {name} to be {status}"
        )

    def says(self, name: str, words: str) -> None:
        """Wait until the message of a launch has these words."""
        wait_until(
            lambda: words in self.on.status(name)["message"],
            deadline_s=DEADLINE_S,
            what=f"{words!r} to be said of {name}: {self.on.status(name)['message']}",
        )

    def whole(self, name: str) -> None:
        """Nothing that must never be was seen."""
        assert violations(self.on.observer.versions(), self.on.namespace, name) == []


@pytest.fixture(scope="module")
def played(kube: KubeApiserver, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Played]:
    """Launches side by side; at 30% alerts fire for two: one is silenced from the first, the other is over soon."""
    folder = tmp_path_factory.mktemp("incident-gate")
    rules = folder / "rules.json"
    rules.write_text(json.dumps({"groups": [{"name": "shop", "rules": [RULE]}]}))
    (folder / "alertmanager").mkdir()
    with (
        People() as people,
        Alertmanager(folder / "alertmanager", config=people.configuration("people")) as alertmanager,
        stage(kube, folder, rule_files=[rules], alertmanagers=[alertmanager.address]) as on,
    ):
        quiet = silence(alertmanager, {"alertname": "StableErrors", "service": HUSHED})
        on.serve(*NAMES)
        alertmanager.wait_for(alertname="Watchdog")
        on.kube.apply([_launch(name) for name in NAMES], namespace=on.namespace)
        on.annotate(GIVEN_UP, rollback="broken")
        on.daemon(tick="500ms", alertmanager=alertmanager.url, alertmanager_resend="2s").wait_ready()
        for name in (TROUBLED, HUSHED):
            on.observer.wait_for_weight(name, 300, seconds=DEADLINE_S)
            on.traffic.shop(name).stable_errors = 0.2
        for name in (TROUBLED, HUSHED):
            on.prometheus.wait_for(FIRES.format(name=name))
            alertmanager.wait_for(service=name)
        on.traffic.shop(TROUBLED).stable_errors = 0.0
        on.prometheus.wait_for(f"vector(1) unless on () {FIRES.format(name=TROUBLED)}")
        wait_until(lambda: not alertmanager.alerts(service=TROUBLED), deadline_s=DEADLINE_S, what="its end to be told")
        yield Played(on, alertmanager, people, quiet, time.time())


def test_a_gate_passes_where_no_incident_fired_though_an_alert_about_another_launch_is_critical(played: Played) -> None:
    on = played.on
    played.hears(ROLLED_BACK, GIVEN_UP, "firing")
    on.observer.wait_for_state(CALM, "Succeeded", seconds=DEADLINE_S)
    assert on.observer.weights(CALM) == [0, 200, 300, 1000]
    (own,) = played.alertmanager.alerts(launch=GIVEN_UP)
    assert own["labels"]["severity"] == "critical"
    played.whole(CALM)


def test_an_alert_that_was_over_before_the_gate_was_judged_stops_the_launch_and_people_hear_of_it_once(
    played: Played,
) -> None:
    on = played.on
    on.observer.wait_for_state(TROUBLED, "Held", seconds=DEADLINE_S)
    status = on.status(TROUBLED)
    assert "1 critical incident where" in status["message"]
    assert "none is allowed: seen to begin at" in status["message"]
    assert parse_instant(status["hold"]["since"]) > played.over
    assert played.counted(TROUBLED) == ("fail", "1")
    played.hears(GATE_FAILED, TROUBLED, "firing")
    # Whatever would raise it has raised the one without incidents by then.
    on.observer.wait_for_state(CALM, "Succeeded", seconds=DEADLINE_S)
    assert on.observer.weights(TROUBLED) == [0, 200, 300]
    on.annotate(TROUBLED, rollback="not today")
    played.hears(GATE_FAILED, TROUBLED, "resolved")
    assert len(played.told(GATE_FAILED, TROUBLED, "firing")) == 1
    assert len(played.told(GATE_FAILED, TROUBLED, "resolved")) == 1
    on.observer.wait_for_state(TROUBLED, "RolledBack", seconds=DEADLINE_S)
    played.whole(TROUBLED)


def test_a_silenced_alert_leaves_the_gate_undecided_and_fails_it_once_the_silence_is_over(played: Played) -> None:
    on = played.on
    # The gate was judged: the one without incidents, of the same age, has passed it.
    on.observer.wait_for_state(CALM, "Succeeded", seconds=DEADLINE_S)
    played.says(HUSHED, "1 silenced since")
    assert "counts neither as an incident nor as none" in on.status(HUSHED)["message"]
    assert played.counted(HUSHED)[0] == "undecided"
    assert on.observer.weights(HUSHED) == [0, 200, 300]
    assert played.told(GATE_FAILED, HUSHED, "firing") == []
    with http() as session:
        answer = session.delete(f"{played.alertmanager.url}/api/v2/silence/{played.silence}", timeout=60)
        answer.raise_for_status()
    wait_until(lambda: _heeded(played.alertmanager, HUSHED), deadline_s=DEADLINE_S, what="the end of the silence")
    on.annotate(HUSHED, retry="it is no longer silenced")
    played.hears(GATE_FAILED, HUSHED, "firing")
    played.says(HUSHED, "1 critical incident where")
    assert played.counted(HUSHED) == ("fail", "1")
    assert on.observer.weights(HUSHED) == [0, 200, 300]
    played.whole(HUSHED)

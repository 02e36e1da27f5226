"""What is left of a launch on everything real: its ledger decides the same again, its Events tell each decision."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

from controller.commands.ledger import explain_decision, redecide_command
from tests.launch.stage import Ground, Stage, launch_document, stage
from tests.realparts.kube import KubeApiserver
from tests.realparts.server import wait_until

STEPS = ({"weight": 20, "for": "6s"}, {"weight": 100})


def _with_checkpoint(name: str) -> dict[str, Any]:
    document = launch_document(name, steps=STEPS)
    document["spec"]["phases"][0]["checkpoints"] = ["5s"]
    return document


def _events(on: Stage, name: str) -> list[dict[str, Any]]:
    path = f"/apis/events.k8s.io/v1/namespaces/{on.namespace}/events"
    items: list[dict[str, Any]] = on.kube.call("GET", path)["items"]
    return [item for item in items if item["regarding"]["name"] == name]


def _decisions(events: list[dict[str, Any]]) -> set[str]:
    return {event["metadata"]["annotations"]["autoadvance.dev/decision"] for event in events}


def test_every_decision_of_a_good_and_a_bad_canary_is_told_by_an_event_and_decided_again_the_same(
    kube: KubeApiserver, tmp_path: Path, ground: Ground
) -> None:
    ledger = tmp_path / "decisions"
    with stage(kube, tmp_path, ground=ground) as on:
        on.serve("good", "bad")
        on.kube.apply([_with_checkpoint("good"), _with_checkpoint("bad")], namespace=on.namespace)
        before = on.daemon(decision_log=str(ledger))
        for name in ("good", "bad"):
            on.observer.wait_for_weight(name, 200, seconds=90)
        assert before.terminate() == 0
        on.traffic.shop("bad").canary_errors = 0.3
        after = on.daemon(decision_log=str(ledger))
        on.observer.wait_for_state("good", "Succeeded", seconds=90)
        on.observer.wait_for_state("bad", "RolledBack", seconds=90)
        known = {name: {each["id"] for each in on.status(name)["decisions"]} for name in ("good", "bad")}

        def told() -> bool:
            return all(ids <= _decisions(_events(on, name)) for name, ids in known.items())

        wait_until(told, deadline_s=30, what="an event of each decision")
        assert after.terminate() == 0

        events = {name: _events(on, name) for name in known}
        uids = {event["regarding"]["uid"] for event in events["good"]}
        assert uids == {
            seen.document["metadata"]["uid"]
            for seen in on.observer.history
            if seen.name == "good" and seen.kind == "Launch"
        }
        assert all(len(event["note"].encode()) <= 1024 for each in events.values() for event in each)
        assert {event["type"] for event in events["good"]} == {"Normal"}
        breach = next(event for event in events["bad"] if event["reason"] == "Breach")
        assert breach["type"] == "Warning"
        assert "proven worse than" in breach["note"]
        assert "RolledBack" in {event["reason"] for event in events["bad"]}
        assert "autoadvance_events_dropped_total" not in after.tail()

        (checkpoint,) = [event for event in events["good"] if event["reason"] == "CheckpointTaken"]
        whole = json.loads(checkpoint["metadata"]["annotations"]["autoadvance.dev/checkpoint"])
        (line,) = [
            line
            for line in map(json.loads, after.log.read_text().splitlines())
            if line["event"] == "checkpoint" and line["launch"] == f"{on.namespace}/good"
        ]
        assert line["criteria"] == whole["criteria"]
        assert line["id"] == checkpoint["metadata"]["annotations"]["autoadvance.dev/decision"]
        assert [one["criterion"] for one in line["criteria"]] == ["failures below 5%"]

        out = io.StringIO()
        assert redecide_command(str(ledger), out) == 0, out.getvalue()
        heads = [line for line in map(json.loads, ledger.read_text().splitlines()) if line["kind"] == "decision"]
        for name, ids in known.items():
            assert ids <= {line["id"] for line in heads if line["launch"] == f"{on.namespace}/{name}"}
        assert max(map(len, ledger.read_bytes().splitlines())) < 16 * 1024
        identity = breach["metadata"]["annotations"]["autoadvance.dev/decision"]
        said = explain_decision(ledger, identity, f"{on.namespace}/bad")
        assert "signal   Breach: retreat" in said
        assert "proven worse than" in said


def test_without_the_right_to_create_events_a_launch_goes_on_and_it_is_counted(
    kube: KubeApiserver, tmp_path: Path, ground: Ground
) -> None:
    with stage(kube, tmp_path, ground=ground) as on:
        on.create("shop", steps=({"weight": 20, "for": "3s"}, {"weight": 100}))
        _without_events(on)
        daemon = on.daemon()
        on.observer.wait_for_state("shop", "Succeeded", seconds=90)
        wait_until(lambda: _dropped(daemon.metrics()) >= 1, deadline_s=30, what="dropped events")
        assert _events(on, "shop") == []
        assert 'cannot create resource \\"events\\"' in daemon.log.read_text()


def _without_events(on: Stage) -> None:
    """Take the right from the controller's role again."""
    path = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{on.namespace}/roles"
    for role in on.kube.call("GET", path)["items"]:
        if role["metadata"]["name"].startswith("controller-"):
            role["rules"] = [rule for rule in role["rules"] if rule["resources"] != ["events"]]
            on.kube.call("PUT", f"{path}/{role['metadata']['name']}", role)


def _dropped(metrics: str) -> float:
    (line,) = [line for line in metrics.splitlines() if line.startswith("autoadvance_events_dropped_total ")]
    return float(line.split()[1])

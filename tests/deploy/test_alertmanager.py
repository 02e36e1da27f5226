"""The example configuration of Alertmanager: its own tool accepts it, and says that every alert reaches its role."""

import re
import subprocess
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from controller.adapters.yaml_documents import read_documents
from controller.core.alerts import SEVERITIES, Alert
from controller.core.plan import parse
from controller.core.world import LaunchKey
from rules import alerts
from tests.realparts.fixtures import AlertmanagerFactory
from tests.realparts.parts import find
from tests.realparts.server import http, wait_until

ROOT = Path(__file__).parents[2]
FILE = ROOT / "deploy" / "alertmanager.yaml"
NOVEMBER = ROOT / "deploy" / "examples" / "november-launch.yaml"
RECEIVERS = {
    "eng-lead": "eng-day,eng-night",
    "ops-lead": "ops-day,ops-night",
    "on-call-backup": "on-call-backup",
    "product-lead": "product-office",
    "vp-engineering": "vp-engineering",
    "": "launches",
}
"""Who hears of a role's alerts: by day and by night, where there are two crews."""


@lru_cache
def configuration() -> dict[str, Any]:
    read: dict[str, Any] = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    return read


def amtool(*arguments: str) -> str:
    done = subprocess.run([str(find("amtool")), *arguments], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip()


def routed(labels: dict[str, str]) -> str:
    """The receivers of an alert, at whatever hour."""
    return amtool("config", "routes", "test", f"--config.file={FILE}", *(f"{name}={labels[name]}" for name in labels))


def labels_of(kind: str, role: str, level: int) -> dict[str, str]:
    key = LaunchKey("prod", "learner")
    target = "us-east" if kind == "LaunchTargetRolledBack" else ""
    return dict(Alert(kind, SEVERITIES[kind], key, 0.0, "", "", "", "", role=role, level=level, target=target).labels)


def test_its_own_tool_accepts_it() -> None:
    assert "SUCCESS" in amtool("check-config", str(FILE))


@pytest.mark.parametrize("role", RECEIVERS)
@pytest.mark.parametrize("kind", SEVERITIES)
def test_every_alert_reaches_its_role(kind: str, role: str) -> None:
    wanted = RECEIVERS[role]
    if role == "product-lead" and SEVERITIES[kind] == "critical":
        wanted = "product"
    assert routed(labels_of(kind, role, 1 if role else 0)) == wanted


@pytest.mark.parametrize("rule", alerts.RULES, ids=lambda rule: rule.name)
def test_every_alert_of_the_rules_reaches_its_role(rule: alerts.Rule) -> None:
    labels = {"alertname": rule.name, **rule.labels}
    if rule.name == "Watchdog":
        assert routed(labels) == "watchdog"
        return
    wanted = RECEIVERS[labels["role"]]
    assert routed(labels) == ("product" if wanted == "product-office" and rule.severity == "critical" else wanted)


def test_the_five_roles_of_the_november_launch_are_routed() -> None:
    plan = parse(read_documents(NOVEMBER.read_text(encoding="utf-8"))[0].value)
    roles = {contact.role for contact in plan.contacts}
    asked = {phase.preflight.approval for phase in plan.phases if phase.preflight}
    asked |= {phase.gate.approval for phase in plan.phases if phase.gate}
    assert len(roles) == 5
    assert roles | asked - {""} == RECEIVERS.keys() - {""}


def test_incidents_make_the_controller_look_and_reach_their_own_people_besides() -> None:
    incident = {"alertname": "CheckoutDown", "severity": "critical", "namespace": "prod", "role": "ops-lead"}
    assert routed(incident) == "auto-advance,ops-day,ops-night"


def test_the_controller_is_not_told_of_its_own_alerts() -> None:
    assert "auto-advance" not in routed(labels_of("LaunchRolledBack", "", 0)).split(",")


def test_the_webhook_is_the_controllers_and_shows_a_token() -> None:
    (receiver,) = (each for each in configuration()["receivers"] if each["name"] == "auto-advance")
    (webhook,) = receiver["webhook_configs"]
    assert webhook["url"].endswith("/webhook/alertmanager")
    assert webhook["http_config"]["authorization"]["type"] == "Bearer"


def minutes(name: str) -> set[int]:
    """The minutes of a day that an interval holds."""

    def of(clock: str) -> int:
        hours, minute = clock.split(":")
        return int(hours) * 60 + int(minute)

    (interval,) = (each for each in configuration()["time_intervals"] if each["name"] == name)
    return {
        minute
        for each in interval["time_intervals"]
        for span in each["times"]
        for minute in range(of(span["start_time"]), of(span["end_time"]))
    }


def test_the_day_and_the_night_crew_leave_no_minute_out_and_share_none() -> None:
    assert minutes("day") | minutes("night") == set(range(24 * 60))
    assert not minutes("day") & minutes("night")


def inhibits(source: dict[str, str], target: dict[str, str]) -> bool:
    """Whether any rule mutes the target while the source fires; for the matchers that stand in the file."""

    def meets(matchers: list[str], labels: dict[str, str]) -> bool:
        for matcher in matchers:
            for operator in ("!~", "=~", "!=", "="):
                name, found, value = matcher.partition(operator)
                if found:
                    wanted = value.strip('"')
                    here = labels.get(name, "")
                    met = re.fullmatch(wanted, here) is not None if "~" in operator else here == wanted
                    if met is operator.startswith("!"):
                        return False
                    break
        return True

    return any(
        meets(rule["source_matchers"], source)
        and meets(rule["target_matchers"], target)
        and all(source.get(name, "") == target.get(name, "") for name in rule["equal"])
        for rule in configuration()["inhibit_rules"]
    )


@pytest.mark.parametrize("higher", range(2, 6))
def test_a_higher_level_mutes_every_lower_one_of_the_same_alert_and_none_of_its_own(higher: int) -> None:
    source = labels_of("LaunchHeld", "vp-engineering", higher)
    for level in range(1, 6):
        muted = inhibits(source, labels_of("LaunchHeld", "eng-lead", level))
        assert muted is (level < higher)
        assert not inhibits(source, labels_of("LaunchDrift", "eng-lead", level))


def test_a_rollback_mutes_the_hold_before_it_for_whoever_is_told_of_the_rollback() -> None:
    rolled_back = labels_of("LaunchRolledBack", "eng-lead", 1)
    assert inhibits(rolled_back, labels_of("LaunchHeld", "eng-lead", 1))
    assert not inhibits(rolled_back, labels_of("LaunchHeld", "vp-engineering", 5))
    assert not inhibits(rolled_back, labels_of("LaunchPlanInvalid", "eng-lead", 1))
    assert not inhibits(labels_of("LaunchHeld", "eng-lead", 1), rolled_back)
    assert not inhibits(rolled_back, rolled_back)
    # What the rules say of the controller itself is not old news.
    failing = {
        "alertname": "AutoAdvanceRollbackFailing",
        "component": "launch",
        "namespace": "prod",
        "launch": "learner",
    }
    assert not inhibits(rolled_back, failing | {"role": "eng-lead"})


def test_alertmanager_itself_mutes_the_lower_level_and_the_hold_before_a_rollback(
    alertmanager_factory: AlertmanagerFactory,
) -> None:
    quiet = {"route": {"receiver": "none"}, "receivers": [{"name": "none"}]}
    alertmanager = alertmanager_factory(config={**quiet, "inhibit_rules": configuration()["inhibit_rules"]})
    labels = [
        labels_of("LaunchHeld", "eng-lead", 1),
        labels_of("LaunchHeld", "on-call-backup", 2),
        labels_of("LaunchRolledBack", "eng-lead", 1),
        labels_of("LaunchPlanInvalid", "eng-lead", 1),
    ]
    with http() as session:
        answer = session.post(f"{alertmanager.url}/api/v2/alerts", json=[{"labels": one} for one in labels], timeout=60)
        answer.raise_for_status()

    def muted() -> list[tuple[str, str]]:
        found = alertmanager.alerts(component="launch")
        states = [(one["labels"]["alertname"], one["labels"]["level"]) for one in found if one["status"]["inhibitedBy"]]
        return sorted(states)

    wait_until(lambda: muted() == [("LaunchHeld", "1")], deadline_s=60, what="the lower level to be muted")

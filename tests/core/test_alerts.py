"""Which alerts a status asks for, and who hears of them when: one stable identity per trouble, role and level."""

from collections.abc import Mapping
from typing import Any

import pytest

from controller.core.alarms import APPROVAL_WANTED, GATE_FAILED, HELD, ROLLED_BACK, TARGET_ROLLED_BACK
from controller.core.alerts import SEVERITIES, Alert, Identity, alerts_of, levels
from controller.core.plan import Contact
from controller.core.status import Alarm, Intent, State, Status, TargetStatus, read_status, write_status
from controller.core.world import LaunchKey

KEY = LaunchKey("prod", "shop")
NOW = 1_800_000_000.0
PROOF = "errors below 2% (main): proven over the limit: 33 errors in 830 requests (3.98%)"
THREE = (Contact("on-call"), Contact("eng-lead", 600.0), Contact("vp", 1800.0))
PROOF = "errors below 2% (main): proven worse than 2%: 33 errors in 830 requests (3.98%)"


def alarm(kind: str = HELD, **changes: Any) -> Alarm:
    usual: dict[str, Any] = {"reason": "StepUndecided", "message": PROOF, "since": NOW, "decision": "1-4"}
    return Alarm(kind=kind, **{**usual, **changes})


def held(*alarms: Alarm, **changes: Any) -> Status:
    usual: dict[str, Any] = {"state": State.HELD, "weight": "5%", "targets": (TargetStatus(name="main", weight=50),)}
    return Status(alarms=alarms or (alarm(),), **{**usual, **changes})


def only(alerts: tuple[Alert, ...]) -> Alert:
    (alert,) = alerts
    return alert


def told(status: Status, seconds: float, silences: Mapping[str, float] | None = None) -> list[str]:
    """The roles that are told so many seconds after NOW; ``silences`` by role, since so many seconds after NOW."""

    def silenced(identity: Identity) -> float | None:
        since = (silences or {}).get(dict(identity)["role"])
        return None if since is None else NOW + since

    return [alert.role for alert in alerts_of(KEY, status, NOW + seconds, THREE, silenced)]


def test_a_launch_without_alarms_has_no_alert() -> None:
    assert alerts_of(KEY, Status(state=State.PROGRESSING), NOW) == ()


def test_an_alert_says_since_when_why_by_which_decision_and_at_which_weight() -> None:
    alert = only(alerts_of(KEY, held(), NOW + 900))
    assert (alert.name, alert.severity, alert.starts_at, alert.decision) == (HELD, "warning", NOW, "1-4")
    assert alert.annotations == {
        "summary": "Launch prod/shop is held at 5% (StepUndecided)",
        "description": PROOF,
        "decision": "1-4",
        "weights": "main 5%",
    }


def test_a_plan_that_names_nobody_has_one_alert_without_role_and_level() -> None:
    assert dict(only(alerts_of(KEY, held(), NOW)).labels) == {
        "alertname": HELD,
        "severity": "warning",
        "namespace": "prod",
        "launch": "shop",
        "component": "launch",
    }


@pytest.mark.parametrize("kind", SEVERITIES)
def test_every_kind_has_one_severity_and_a_summary_whose_numbers_stand_still(kind: str) -> None:
    status = held(alarm(kind, target="eu" if kind == TARGET_ROLLED_BACK else "", role=""))
    alert = only(alerts_of(KEY, status, NOW))
    assert alert.labels["severity"] == SEVERITIES[kind]
    assert "prod/shop" in alert.summary
    other = held(status.alarms[0].model_copy(update={"message": PROOF.replace("33", "34")}))
    assert only(alerts_of(KEY, other, NOW + 60)).summary == alert.summary


def test_the_identity_of_a_rollback_stays_when_words_and_state_move_on() -> None:
    retreat = Intent(id="1-7", kind="retreat", phase="ramp", step=2, weights={"main": 0}, epoch=1, at=NOW - 2)
    rolled = alarm(ROLLED_BACK, reason="Breach")
    before = only(
        alerts_of(KEY, held(rolled, state=State.ROLLING_BACK, intent=retreat, message="its route is gone"), NOW)
    )
    after = only(alerts_of(KEY, held(rolled, state=State.ROLLED_BACK, message="other words"), NOW + 60))
    assert (after.identity, after.starts_at) == (before.identity, before.starts_at)
    assert before.summary == "Launch prod/shop is being rolled back (Breach)"
    assert after.summary == "Launch prod/shop was rolled back (Breach)"
    assert before.description == f"{PROOF}; its route is gone"
    assert after.description == PROOF
    assert before.weights == "main 0%"


def test_two_alarms_are_two_alerts_and_a_target_has_a_label_of_its_own() -> None:
    alerts = alerts_of(KEY, held(alarm(), alarm(TARGET_ROLLED_BACK, target="eu")), NOW)
    assert [(alert.name, alert.labels.get("target")) for alert in alerts] == [(HELD, None), (TARGET_ROLLED_BACK, "eu")]


# Who hears of it


@pytest.mark.parametrize(
    ("seconds", "roles"),
    [
        (0, ["on-call"]),
        (599, ["on-call"]),
        (600, ["on-call", "eng-lead"]),
        (1800, ["on-call", "eng-lead", "vp"]),
        (99_999, ["on-call", "eng-lead", "vp"]),
    ],
)
def test_the_first_role_is_told_at_once_and_the_next_ones_when_nobody_answers(seconds: float, roles: list[str]) -> None:
    assert told(held(), seconds) == roles


def test_each_level_begins_when_it_was_due_and_counts_from_one() -> None:
    alerts = alerts_of(KEY, held(), NOW + 5000, THREE)
    assert [(alert.labels["level"], alert.starts_at - NOW) for alert in alerts] == [("1", 0), ("2", 600), ("3", 1800)]


def test_who_was_told_before_somebody_acknowledged_is_told_until_it_is_over_and_nobody_besides() -> None:
    status = held(alarm(acknowledged_at=NOW + 700, acknowledged_by="ana"))
    assert told(status, 5000) == ["on-call", "eng-lead"]


def test_an_acknowledgement_in_the_very_instant_is_in_time() -> None:
    assert told(held(alarm(acknowledged_at=NOW + 600)), 700) == ["on-call"]


@pytest.mark.parametrize(
    ("silences", "roles"),
    [
        ({"on-call": 30.0}, ["on-call"]),
        ({"on-call": -9000.0}, ["on-call"]),
        ({"on-call": 700.0}, ["on-call", "eng-lead"]),
        ({"eng-lead": 700.0}, ["on-call", "eng-lead"]),
        ({"eng-lead": -9000.0}, ["on-call", "eng-lead"]),
        ({"vp": 0.0}, ["on-call", "eng-lead", "vp"]),
    ],
)
def test_a_silence_of_what_was_told_keeps_the_next_roles_from_being_told(
    silences: dict[str, float], roles: list[str]
) -> None:
    assert told(held(), 5000, silences) == roles


def test_a_silence_that_has_ended_lets_the_escalation_go_on() -> None:
    assert told(held(), 5000, {"on-call": 30.0}) == ["on-call"]
    assert told(held(), 5001, {}) == ["on-call", "eng-lead", "vp"]


def test_two_roles_without_a_delay_are_of_one_level_and_told_at_once_even_where_the_first_is_silenced() -> None:
    contacts = (Contact("on-call"), Contact("eng-lead"), Contact("vp", 60.0))
    alerts = alerts_of(KEY, held(), NOW + 90, contacts, lambda _: NOW)
    assert [(alert.role, alert.level) for alert in alerts] == [("on-call", 1), ("eng-lead", 1)]


def test_an_approval_is_wanted_of_its_role_and_then_told_to_those_who_come_later() -> None:
    wanted = alarm(APPROVAL_WANTED, role="eng-lead", reason="ramp/gate")
    assert [(level.role, level.number, level.after) for level in levels(wanted, THREE)] == [
        ("eng-lead", 1, 0.0),
        ("vp", 2, 1800.0),
    ]
    assert [level.role for level in levels(wanted, ())] == ["eng-lead"]


def test_an_acknowledgement_of_one_alarm_leaves_another_one_alone() -> None:
    status = held(alarm(acknowledged_at=NOW + 1), alarm(GATE_FAILED, since=NOW + 10))
    alerts = alerts_of(KEY, status, NOW + 610, THREE)
    assert [(alert.name, alert.role) for alert in alerts] == [
        (HELD, "on-call"),
        (GATE_FAILED, "on-call"),
        (GATE_FAILED, "eng-lead"),
    ]


def test_what_is_told_after_a_restart_is_what_was_told_before() -> None:
    status = held(alarm(), alarm(GATE_FAILED, since=NOW + 10, acknowledged_at=NOW + 700))
    again = read_status(write_status(status))
    for seconds in (0, 300, 605, 650, 3000):
        assert alerts_of(KEY, again, NOW + seconds, THREE) == alerts_of(KEY, status, NOW + seconds, THREE)

"""Which alerts a status asks for: one stable identity per trouble, and nothing that changes in it."""

from collections.abc import Sequence

import pytest

from controller.core.alerts import HELD, ROLLED_BACK, ROLLED_BACK_SECONDS, TARGET_ROLLED_BACK, Alert, alerts_of
from controller.core.status import DecisionRecord, Hold, Intent, State, Status, TargetStatus
from controller.core.world import LaunchKey

KEY = LaunchKey("prod", "shop")
NOW = 1_800_000_000.0
PROOF = "errors below 2% (main): proven worse than 2%: 33 errors in 830 requests (3.98%)"


def record(number: int, state: State, signal: str, at: float) -> DecisionRecord:
    return DecisionRecord(
        id=f"1-{number}",
        at=at,
        signal=signal,
        state=state.value,
        phase="ramp",
        step=2,
        weights={"main": 0},
        message=PROOF,
    )


def rolling_back(decisions: Sequence[DecisionRecord], **more: object) -> Status:
    retreat = Intent(id="1-7", kind="retreat", phase="ramp", step=2, weights={"main": 0}, epoch=1, at=NOW - 2)
    return Status(
        state=State.ROLLING_BACK,
        reason="Breach",
        message=PROOF,
        targets=(TargetStatus(name="main", weight=300),),
        intent=retreat,
        decisions=tuple(decisions),
    ).model_copy(update=more)


def only(alerts: tuple[Alert, ...]) -> Alert:
    (alert,) = alerts
    return alert


BREACH = [record(6, State.PROGRESSING, "StepNotDone", NOW - 60), record(7, State.ROLLING_BACK, "Breach", NOW - 2)]


@pytest.mark.parametrize("state", [State.PENDING, State.PROGRESSING, State.JUDGING, State.SUCCEEDED, State.INVALID])
def test_a_launch_without_trouble_has_no_alert(state: State) -> None:
    assert alerts_of(KEY, Status(state=state), NOW) == ()


def test_a_hold_is_told_from_its_beginning_with_its_own_words() -> None:
    hold = Hold(reason="StepUndecided", message="undecided for 30m", since=NOW - 900)
    alert = only(alerts_of(KEY, Status(state=State.HELD, reason="Drift", hold=hold, weight="5%"), NOW))
    assert (alert.name, alert.severity, alert.starts_at) == (HELD, "warning", NOW - 900)
    assert alert.summary == "Launch prod/shop is held at 5% (StepUndecided)"
    assert alert.annotations["description"] == "undecided for 30m"


def test_a_pause_without_a_lasting_hold_starts_with_the_first_decision_of_the_pause() -> None:
    decisions = (
        record(1, State.HELD, "HoldAsked", NOW - 500),
        record(2, State.PROGRESSING, "StepNotDone", NOW - 400),
        record(3, State.HELD, "Drift", NOW - 300),
        record(4, State.HELD, "Drift", NOW - 200),
    )
    alert = only(alerts_of(KEY, Status(state=State.HELD, reason="Drift", decisions=decisions), NOW))
    assert (alert.starts_at, alert.decision) == (NOW - 300, "1-3")


def test_a_rollback_is_critical_and_says_the_proof_the_decision_and_the_weight_it_goes_to() -> None:
    alert = only(alerts_of(KEY, rolling_back(BREACH), NOW))
    assert (alert.name, alert.severity, alert.starts_at) == (ROLLED_BACK, "critical", NOW - 2)
    assert alert.summary == "Launch prod/shop is being rolled back (Breach)"
    assert alert.annotations["description"] == PROOF
    assert (alert.annotations["decision"], alert.annotations["weights"]) == ("1-7", "main 0%")


def test_the_identity_stays_when_numbers_words_and_state_move_on() -> None:
    before = only(alerts_of(KEY, rolling_back(BREACH), NOW))
    later = rolling_back(
        BREACH, state=State.ROLLED_BACK, reason="RunOver", message="other words", ended_at=NOW, intent=None
    )
    after = only(alerts_of(KEY, later, NOW + 60))
    assert after.identity == before.identity
    assert after.starts_at == before.starts_at
    assert after.summary == "Launch prod/shop was rolled back (Breach)"
    assert dict(after.labels) == {
        "alertname": ROLLED_BACK,
        "severity": "critical",
        "namespace": "prod",
        "launch": "shop",
        "component": "launch",
    }


@pytest.mark.parametrize(("after", "told"), [(ROLLED_BACK_SECONDS, 1), (ROLLED_BACK_SECONDS + 1, 0)])
def test_a_rollback_is_news_for_one_hour(after: float, told: int) -> None:
    over = rolling_back(BREACH, state=State.ROLLED_BACK, ended_at=NOW, intent=None)
    assert len(alerts_of(KEY, over, NOW + after)) == told


@pytest.mark.parametrize("state", [State.ROLLING_BACK, State.ROLLED_BACK])
def test_taking_an_old_revision_away_for_a_new_one_is_no_alert(state: State) -> None:
    decisions = [record(7, State.ROLLING_BACK, "RevisionChanged", NOW - 2)]
    assert alerts_of(KEY, rolling_back(decisions, state=state, reason="RunOver", ended_at=NOW), NOW) == ()


def test_a_status_that_remembers_no_decision_still_tells_of_its_rollback() -> None:
    alert = only(alerts_of(KEY, rolling_back([]), NOW))
    assert (alert.starts_at, alert.decision) == (NOW - 2, "")
    assert "decision" not in alert.annotations


def test_an_escalated_hold_is_critical() -> None:
    hold = Hold(reason="Escalated", message="gate of phase ramp", since=NOW - 900)
    alert = only(alerts_of(KEY, Status(state=State.HELD, hold=hold), NOW))
    assert (alert.name, alert.severity) == (HELD, "critical")


def _one_taken_out(state: State, at: float, signal: str = "TargetWithdrawn") -> Status:
    withdrawal = record(4, State.PROGRESSING, signal, at).model_copy(update={"weights": {"eu": 0}})
    targets = (TargetStatus(name="us", weight=300), TargetStatus(name="eu", withdrawn="errors below 2%"))
    return Status(state=state, targets=targets, decisions=(withdrawal, record(5, state, "StepDone", at + 60)))


def test_a_target_that_was_taken_out_is_told_for_an_hour_while_the_others_go_on() -> None:
    alert = only(alerts_of(KEY, _one_taken_out(State.PROGRESSING, NOW - 60), NOW))
    assert (alert.name, alert.severity, alert.starts_at) == (TARGET_ROLLED_BACK, "critical", NOW - 60)
    assert alert.labels["target"] == "eu"
    assert alert.annotations["description"] == PROOF
    assert alerts_of(KEY, _one_taken_out(State.PROGRESSING, NOW - ROLLED_BACK_SECONDS - 1), NOW) == ()


def test_a_hold_and_a_target_that_was_taken_out_are_two_alerts() -> None:
    names = [alert.name for alert in alerts_of(KEY, _one_taken_out(State.HELD, NOW - 60), NOW)]
    assert names == [HELD, TARGET_ROLLED_BACK]


def test_a_launch_that_is_deleted_takes_its_traffic_away_without_an_alert() -> None:
    decisions = [record(7, State.ROLLING_BACK, "Deleted", NOW - 2)]
    assert alerts_of(KEY, rolling_back(decisions), NOW) == ()

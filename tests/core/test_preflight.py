"""Go or no-go: what nobody has looked at yet is no answer, and what is missing is told as it is."""

from __future__ import annotations

import pytest

from controller.core.observation import ALERTING_NOT_KNOWN
from controller.core.signals import Signal
from controller.core.units import format_instant
from tests.core.builders import NOW, course, ramp


def at(seconds: float) -> str:
    """An instant so many seconds after the beginning."""
    return format_instant(NOW + seconds)


@pytest.mark.parametrize("unknown", ["a round without questions", "an Alertmanager not asked yet"])
def test_what_nobody_has_looked_at_yet_moves_no_start(unknown: str) -> None:
    preflight = {"opens": "5m", "onNotReady": {"reschedule": "24h"}}
    launched = course(phases=[ramp(start={"at": at(600)}, preflight=preflight)])
    launched.run(59)
    if unknown == "a round without questions":
        launched.asked = False
    else:
        launched.alerting = ALERTING_NOT_KNOWN
    decision = launched.tick(20)
    assert (decision.signal, decision.raises) == (Signal.PREFLIGHT_OPEN, False)
    assert launched.status.moves == ()
    launched.asked, launched.alerting = True, "Alertmanager at am:9093 refuses the connection"
    decision = launched.tick(1)
    assert decision.signal is Signal.PREFLIGHT_MOVED


def test_a_preflight_that_wants_something_else_is_worth_a_write() -> None:
    launched = course(phases=[ramp(start={"at": at(600)}, preflight={"opens": "5m"})])
    launched.alerting = ALERTING_NOT_KNOWN
    launched.run(45)
    assert launched.history[-1].signal is Signal.PREFLIGHT_OPEN
    before = launched.status.message
    assert not launched.tick().waits_for_another(before)
    launched.alerting = "Alertmanager at am:9093 refuses the connection"
    decision = launched.tick()
    assert decision.waits_for_another(before)
    assert not decision.waits_for_another(decision.message)

"""Zero incidents are proven up to the time of the gate: what fired shortly before it is waited for."""

from __future__ import annotations

import pytest

from controller.core.criteria import resolve
from controller.core.evidence import Fold, Outcome
from controller.core.incidents import UNCOUNTED, note
from controller.core.looks import Looks
from controller.core.series import Noticed, Reading, RecordedForm, Row
from controller.core.spec import GateCriterion
from controller.core.verdicts import advance, begin, judge

BEGAN = 1_700_000_006.0
FIRST = 1_700_000_010
"""The first instant at which incidents are counted; then each 30 seconds."""
DUE = FIRST + 50.0
CRITERION = resolve(GateCriterion.model_validate({"incidents": "critical", "atMost": 0}), {}, RecordedForm())


def counted(*begun: float, silences: bool, looked: float) -> Fold:
    """The evidence after so many settled rows, and looks at the Alertmanagers up to ``looked``."""
    rows = [Row(float(FIRST + 30 * number), began, began) for number, began in enumerate(begun)]
    fold = advance(CRITERION, begin(CRITERION, BEGAN, 3600), rows, int(rows[-1].at))
    for at in (FIRST + 1, looked):
        fold = note(CRITERION, fold, Noticed(int(at), "", (), silences))
    return fold


def outcome(fold: Fold, now: float, *, silences: bool, looked: float, due: float | None = DUE) -> tuple[Outcome, str]:
    """The verdict on what has settled; the tail holds nothing of an alert that was over in the part it leaves out."""
    reading = Reading(fold.last, fold.last, (), (Row(now, 0.0, 0.0),), noticed=Noticed(int(looked), "", (), silences))
    verdict = judge(CRITERION, "", fold, reading, now, looks=Looks((), due))
    return verdict.outcome, verdict.open


@pytest.mark.parametrize("silences", [False, True])
def test_a_gate_that_is_due_waits_for_the_rows_up_to_its_time(silences: bool) -> None:
    looked = DUE + 5
    fold = counted(0.0, silences=silences, looked=looked)
    assert outcome(fold, DUE + 6, silences=silences, looked=looked) == (Outcome.UNDECIDED, UNCOUNTED)
    fold = counted(0.0, 0.0, silences=silences, looked=looked)
    assert outcome(fold, DUE + 11, silences=silences, looked=looked) == (Outcome.UNDECIDED, UNCOUNTED)
    fold = counted(0.0, 0.0, 0.0, silences=silences, looked=looked)
    assert outcome(fold, DUE + 41, silences=silences, looked=looked) == (Outcome.PASS, "")


def test_an_alert_that_was_over_before_the_gate_and_lies_in_no_row_of_the_tail_fails_it() -> None:
    looked = DUE + 5
    fold = counted(0.0, silences=True, looked=looked)
    assert outcome(fold, DUE + 6, silences=True, looked=looked)[0] is Outcome.UNDECIDED
    fold = counted(0.0, 1.0, silences=True, looked=looked + 30)
    fold = note(CRITERION, fold, Noticed(int(looked) + 31, "", (), True))
    assert outcome(fold, DUE + 37, silences=True, looked=looked + 31)[0] is Outcome.FAIL


def test_what_alertmanagers_show_is_waited_for_too() -> None:
    fold = counted(0.0, 0.0, 0.0, silences=True, looked=DUE - 2)
    assert outcome(fold, DUE + 41, silences=True, looked=DUE - 2) == (Outcome.UNDECIDED, UNCOUNTED)
    assert outcome(fold, DUE + 41, silences=False, looked=DUE - 2) == (Outcome.PASS, "")


def test_before_the_gate_is_due_nothing_is_waited_for() -> None:
    fold = counted(0.0, silences=True, looked=FIRST + 2)
    for due in (None, DUE):
        assert outcome(fold, DUE - 5, silences=True, looked=FIRST + 2, due=due)[0] is Outcome.PASS

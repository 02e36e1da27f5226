"""What Alertmanager shows is folded like the rows: each alert once, and what nobody saw is no proof."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.core.decide import decide
from controller.core.evidence import Criterion, Fold, Outcome, Verdict
from controller.core.facts import undecided_by
from controller.core.fold_text import decode, encode
from controller.core.incidents import LONGEST_BESIDE, MOST_SHOWN, SAME_SHOWN, note
from controller.core.ledger import record, redecide
from controller.core.series import Noticed, Reading, Row, Shown, Unproven
from controller.core.verdicts import advance, begin, judge
from controller.core.words import sentence
from tests.core.builders import course, ramp
from tests.core.test_gates_of_incidents import fires
from tests.core.test_incidents import STEP, T0, incidents, rows

START = int(T0)
CALM = (0.0, 0.0)


def seen(at: int, *alerts: Shown, problem: str = "", silences: bool = True) -> Noticed:
    return Noticed(START + at, problem, alerts, silences)


def shown(name: str = "a", *, silenced: bool = False, counted: bool = False) -> Shown:
    return Shown(name, T0, silenced, counted)


class Course:
    """A fold that is followed row by row, with what is noticed at each."""

    def __init__(self, at_most: int = 0, **fields: Any) -> None:
        self.criterion: Criterion = incidents(at_most, **fields)
        self.fold: Fold = begin(self.criterion, T0, 3600)

    def tick(
        self, at: int, noticed: Noticed | None, *counts: tuple[float, float], tail: tuple[Row, ...] = ()
    ) -> Verdict:
        """Rows from the last one on, all settled at so many seconds after the beginning."""
        settled = rows(*counts, start=self.fold.last + STEP)
        through = self.fold.last + len(counts) * STEP
        reading = Reading(self.fold.last, through, settled, tail, noticed=noticed)
        self.fold = advance(self.criterion, self.fold, settled, through)
        self.fold = decode(encode(note(self.criterion, self.fold, noticed)))
        return judge(self.criterion, "", self.fold, reading, T0 + at)


def test_it_passes_once_somebody_has_looked_and_not_before() -> None:
    course = Course()
    early = course.tick(40, Noticed(0, "not known yet", silences=True), CALM)
    assert (early.outcome, early.open) == (Outcome.UNDECIDED, "not known yet")
    assert course.tick(70, seen(60), CALM).outcome is Outcome.PASS


def test_without_anybody_beside_the_rows_alone_count() -> None:
    assert Course().tick(40, None, CALM).outcome is Outcome.PASS


def test_the_alert_of_another_sender_counts_once_for_as_long_as_it_is_shown() -> None:
    course = Course(1)
    for at in range(0, 600, 30):
        verdict = course.tick(at + 40, seen(at, shown()), CALM)
        assert (verdict.outcome, verdict.x) == (Outcome.PASS, 1)
    assert course.tick(700, seen(660 + int(SAME_SHOWN), shown()), CALM).outcome is Outcome.FAIL
    assert "2 critical incidents" in sentence(course.tick(740, seen(720 + int(SAME_SHOWN)), CALM))


def test_what_prometheus_counts_is_not_counted_again() -> None:
    course = Course(1)
    assert course.tick(40, seen(30, shown(counted=True)), (1, 1)).x == 1
    assert course.tick(70, seen(60, shown(counted=True)), (1, 0)).x == 1


def test_an_incident_fails_once_it_is_known_not_to_be_silenced() -> None:
    course = Course()
    course.tick(40, seen(30), CALM)
    new = course.tick(50, seen(30), tail=(Row(T0 + 45, 1, 1),))
    assert (new.outcome, new.open) == (Outcome.UNDECIDED, "whether the newest is silenced is not known yet")
    settled = course.tick(70, seen(30), (1, 1))
    assert settled.outcome is Outcome.UNDECIDED
    assert course.tick(80, seen(75, shown(counted=True)), (1, 0)).outcome is Outcome.FAIL


def test_an_incident_fails_at_once_where_a_silence_would_not_matter_or_cannot_be_known() -> None:
    assert Course(silenced="count").tick(40, seen(0), tail=(Row(T0 + 35, 1, 1),)).outcome is Outcome.FAIL
    assert Course().tick(40, seen(0, silences=False), tail=(Row(T0 + 35, 1, 1),)).outcome is Outcome.FAIL
    course = Course()
    course.tick(40, seen(30), CALM)
    unseen = Noticed(0, "not known yet", silences=True)
    started_again = course.tick(190, unseen, *[CALM] * 4, tail=(Row(T0 + 185, 1, 1),))
    assert started_again.outcome is Outcome.NO_DATA
    blind = seen(180, problem="Alertmanager does not answer")
    assert course.tick(195, blind, tail=(Row(T0 + 185, 1, 1),)).outcome is Outcome.FAIL


@pytest.mark.parametrize(
    ("silenced", "outcome", "x", "hushed"),
    [(None, Outcome.UNDECIDED, 0, 1), ("count", Outcome.FAIL, 1, 0), ("ignore", Outcome.PASS, 0, 1)],
)
@pytest.mark.parametrize("counted", [True, False])
def test_a_silenced_alert_is_what_the_plan_says(
    silenced: str | None,
    outcome: Outcome,
    x: float,
    hushed: float,
    counted: bool,
) -> None:
    course = Course(silenced=silenced) if silenced else Course()
    found = (1.0, 1.0) if counted else CALM
    verdict = course.tick(40, seen(35, shown(silenced=True, counted=counted)), found)
    verdict = course.tick(70, seen(65, shown(silenced=True, counted=counted)), CALM)
    assert (verdict.outcome, verdict.x, verdict.silenced) == (outcome, x, hushed)
    # Nor does it become nothing when it is over.
    assert course.tick(550, seen(540), *[CALM] * 15).outcome is outcome


def test_a_gate_that_is_undecided_for_a_silence_runs_out_of_patience_and_one_that_waits_for_a_look_does_not() -> None:
    course = Course()
    assert undecided_by(course.tick(40, seen(35, shown(silenced=True)), CALM))
    assert not undecided_by(Course().tick(40, Noticed(0, "not known yet"), CALM))


def test_a_silence_takes_no_incident_back_and_its_end_makes_one() -> None:
    course = Course()
    course.tick(40, seen(35, shown(counted=True)), (1, 1))
    assert course.tick(70, seen(65, shown(counted=True, silenced=True)), (1, 0)).outcome is Outcome.FAIL
    for counted in (True, False):
        course = Course()
        row = (1.0, 1.0) if counted else CALM
        assert course.tick(40, seen(35, shown(counted=counted, silenced=True)), row).outcome is Outcome.UNDECIDED
        over = course.tick(70, seen(65, shown(counted=counted)), (1.0, 0.0) if counted else CALM)
        assert (over.outcome, over.x, over.silenced) == (Outcome.FAIL, 1, 0)


def test_a_silenced_alert_hides_no_other_one() -> None:
    course = Course(silenced="ignore")
    course.tick(40, seen(35, shown(silenced=True, counted=True)), (1, 1))
    verdict = course.tick(100, seen(95, shown(silenced=True, counted=True), shown("b", counted=True)), (2, 1), (2, 0))
    assert (verdict.outcome, verdict.x) == (Outcome.FAIL, 1)


def test_a_silenced_alert_that_no_row_has_counted_accounts_for_no_incident() -> None:
    course = Course(silenced="ignore")
    assert course.tick(40, seen(35, shown(silenced=True, counted=True)), CALM).outcome is Outcome.PASS
    verdict = course.tick(70, seen(65, shown(silenced=True, counted=True), shown("b", counted=True)), (1, 1))
    assert (verdict.outcome, verdict.x, verdict.silenced) == (Outcome.FAIL, 1, 0)
    # Once it is counted it does, also if it is over by then.
    course = Course(silenced="ignore")
    course.tick(40, seen(35, shown(silenced=True, counted=True)), CALM)
    verdict = course.tick(70, seen(65), (0, 1))
    assert (verdict.outcome, verdict.x, verdict.silenced) == (Outcome.PASS, 0, 1)


def test_more_alerts_than_can_be_told_apart_excuse_nothing() -> None:
    course = Course(silenced="ignore")
    many = [shown(f"n{number}", silenced=True) for number in range(MOST_SHOWN + 5)]
    assert course.tick(40, seen(35, *many), CALM).outcome is Outcome.FAIL
    assert len(encode(course.fold)) < 1500


def test_what_nobody_could_see_for_too_long_is_no_data_and_comes_back() -> None:
    course = Course()
    assert course.tick(40, seen(30), CALM).outcome is Outcome.PASS
    trouble = "Alertmanager is up for 10s only"
    soon = course.tick(70, seen(60, problem=trouble), CALM)
    assert (soon.outcome, soon.open) == (Outcome.UNDECIDED, trouble)
    late = course.tick(220, seen(210, problem=trouble), *[CALM] * 5)
    assert (late.outcome, late.problem, late.silent) == (Outcome.NO_DATA, trouble, 190)
    assert course.tick(330, seen(320), *[CALM] * 4).outcome is Outcome.PASS


def test_a_gap_that_is_too_long_stays_one() -> None:
    course = Course()
    course.tick(40, seen(30), CALM)
    gap = int(LONGEST_BESIDE) + 61
    verdict = course.tick(gap + 50, seen(30 + gap), *[CALM] * (gap // STEP))
    assert verdict.outcome is Outcome.NO_DATA
    assert verdict.problem == "nothing proves for 2023-11-14 22:14-22:25 UTC that no other alert fired"


def test_alerts_count_also_where_nothing_proves_that_these_are_all() -> None:
    course = Course()
    assert course.tick(40, seen(30, shown(), problem="is up for 10s only"), CALM).outcome is Outcome.FAIL
    row = Unproven(T0 + STEP, 1, 1)
    fold = advance(incidents(), begin(incidents(), T0, 3600), (row,), START + STEP)
    assert (fold.x, fold.newest, fold.instants) == (1, 0, 0)
    found = judge(incidents(), "", fold, Reading(START, START + STEP), T0 + 400)
    assert found.outcome is Outcome.FAIL


def test_rows_that_prove_nothing_bridge_no_gap() -> None:
    wanted = incidents(5)
    proven = rows(*[CALM] * 2)
    without = tuple(Unproven(T0 + place * STEP, 1, float(place == 2)) for place in range(2, 20))
    fold = advance(wanted, begin(wanted, T0, 3600), (*proven, *without, Row(T0 + 20 * STEP, 1, 0)), START + 20 * STEP)
    assert fold.gap == (START + STEP, START + 19 * STEP)
    assert judge(wanted, "", fold, Reading(fold.last, fold.last), fold.last + 30).outcome is Outcome.NO_DATA


def test_why_nothing_is_proven_stands_in_the_sentence() -> None:
    wanted = incidents()
    fold = advance(wanted, begin(wanted, T0, 3600), (), START + 10 * STEP)
    reading = Reading(fold.last, fold.last, unproven="a rule group was not evaluated in time")
    found = judge(wanted, "", fold, reading, T0 + 400)
    assert found.problem == "no proof that Prometheus evaluated alerts: a rule group was not evaluated in time"


ALERTS = st.lists(
    st.tuples(st.sampled_from("abcd"), st.booleans(), st.booleans()), max_size=4, unique_by=lambda a: a[0]
)


@settings(max_examples=40, deadline=None)
@given(
    looks=st.lists(st.tuples(ALERTS, st.booleans()), max_size=12),
    mode=st.sampled_from(["undecided", "count", "ignore"]),
)
def test_looking_twice_or_after_a_checkpoint_gives_the_same_fold(
    looks: list[tuple[list[tuple[str, bool, bool]], bool]], mode: str
) -> None:
    wanted = incidents(silenced=mode)
    plain = stored = begin(wanted, T0, 3600)
    for place, (alerts, bad) in enumerate(looks):
        noticed = seen(60 * place, *(Shown(name, T0, *flags) for name, *flags in alerts), problem="x" * bad)
        plain = note(wanted, plain, noticed)
        stored = decode(encode(note(wanted, note(wanted, stored, noticed), noticed)))
    assert plain == stored
    if plain.noted is not None:
        assert min(plain.noted.x, plain.noted.silenced, plain.noted.apart) >= 0
        if mode == "count":
            assert (plain.noted.silenced, plain.noted.apart) == (0, 0)


def test_what_was_noticed_is_recorded_with_the_decision_and_decided_again_the_same() -> None:
    gate = {"after": "2m", "criteria": [{"incidents": "critical", "atMost": 0}]}
    launched = course(phases=[ramp(gate=gate)])
    launched.traffic = fires()
    launched.until_weight(300)
    decision = launched.tick()
    for _ in range(3):
        seen = launched.observe()
        wide = [subject for subject in seen.readings if subject.series.kind == "incidents"]
        at = int(launched.now) - 1
        hushed = Noticed(at, "", (shown(silenced=True), shown("b", counted=True, silenced=True)), silences=True)
        beside = {subject: replace(seen.readings[subject], noticed=hushed) for subject in wide}
        seen = replace(seen, readings={**seen.readings, **beside})
        decision = decide(seen)
        (again,) = redecide(record(seen, decision))
        assert again.same, (again.problem, again.differences)
        launched.tick()
    judged = [one.verdict for one in decision.verdicts if one.verdict.criterion.launch_wide]
    assert [(verdict.outcome, verdict.silenced) for verdict in judged] == [(Outcome.UNDECIDED, 1)]
    assert "1 silenced since" in sentence(judged[0])

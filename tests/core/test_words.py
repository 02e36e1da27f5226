"""A verdict is one sentence with its numbers, and says what would settle it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from controller.core.evidence import Outcome, Verdict
from controller.core.words import measured, sentence, shape, told
from tests.core.builders import ERRORS, NOW, criterion

LATENCY = criterion(
    key="latency p99 below 500ms", series=replace(ERRORS, metric="latency", edge=0.5), limit=0.01, limit_text="500ms"
)
VALUE = criterion(
    key="revenue above 5.8%",
    series=replace(ERRORS, kind="value", metric="revenue"),
    limit=5.8,
    side="above",
    certainty=None,
    limit_text="5.8%",
)


def verdict(outcome: Outcome, **changes: Any) -> Verdict:
    """Three errors in 2,100 requests of seven minutes."""
    usual = Verdict(criterion(), "main", outcome, 3 / 2100, 2100.0, 3.0, 420.0, int(NOW), 0.0, phase_n=0, phase_x=0)
    return replace(usual, **changes)


@pytest.mark.parametrize(
    ("shown", "words"),
    [
        (
            verdict(Outcome.UNDECIDED),
            "errors below 0.5% (main): 3 errors in 2,100 requests (0.143%); 1m41s more without any would settle it",
        ),
        (
            verdict(Outcome.UNDECIDED, n=0.0, x=0.0, value=None, span=0.0),
            "errors below 0.5% (main): 0 errors in 0 requests; 1,112 requests without any would settle it",
        ),
        (verdict(Outcome.PASS), "errors below 0.5% (main): passes: 3 errors in 2,100 requests (0.143%)"),
        (
            verdict(Outcome.FAIL, x=210.5, value=0.10024),
            "errors below 0.5% (main): proven over the limit: 210.5 errors in 2,100 requests (10%)",
        ),
        (
            verdict(Outcome.FAIL, criterion=criterion(certainty=None)),
            "errors below 0.5% (main): over the limit: 3 errors in 2,100 requests (0.143%)",
        ),
        (
            verdict(Outcome.UNDECIDED, criterion=criterion(certainty=None, window=90.0)),
            "errors below 0.5% (main): 3 errors in 2,100 requests (0.143%); 1m30s below the limit would settle it",
        ),
        (
            verdict(Outcome.NO_DATA, problem="no samples", silent=75.0),
            "errors below 0.5% (main): no data for 1m15s: no samples",
        ),
        (verdict(Outcome.NO_DATA, problem="no samples"), "errors below 0.5% (main): no data: no samples"),
        (
            verdict(Outcome.PASS, criterion=LATENCY),
            "latency p99 below 500ms (main): passes: 3 slow in 2,100 requests (0.143%)",
        ),
        (
            verdict(Outcome.PASS, criterion=VALUE, value=6.02549, n=6.0, x=0.0),
            "revenue above 5.8% (main): passes: 6.025, good for 1m",
        ),
        (
            verdict(Outcome.FAIL, criterion=VALUE, value=5.0, n=6.0, x=6.0),
            "revenue above 5.8% (main): failed: 5, bad for 1m",
        ),
        (
            verdict(Outcome.UNDECIDED, criterion=VALUE, value=5.0, n=6.0, x=2.0),
            "revenue above 5.8% (main): 5; 2 of 6 samples bad, 1m alike would settle it",
        ),
        (
            verdict(Outcome.UNDECIDED, criterion=VALUE, value=None, n=0.0, x=0.0),
            "revenue above 5.8% (main): no sample yet",
        ),
    ],
    ids=lambda item: item[:60] if isinstance(item, str) else "",
)
def test_a_verdict_in_words(shown: Verdict, words: str) -> None:
    assert sentence(shown) == words


def test_an_undecided_verdict_that_would_pass_says_no_more_than_that() -> None:
    # The share passes by its counts, the outcome is kept back by something else.
    assert sentence(verdict(Outcome.UNDECIDED, n=50_000.0)).endswith("; undecided")


def test_a_reason_is_put_into_words_only_when_it_is_read() -> None:
    reason = told("undecided for 2m: ", verdict(Outcome.PASS), verdict(Outcome.NO_DATA, problem="none"))
    assert str(reason) == (
        "undecided for 2m: errors below 0.5% (main): passes: 3 errors in 2,100 requests (0.143%); "
        "errors below 0.5% (main): no data: none"
    )
    assert reason == told("undecided for 2m: ", *reason.verdicts)


def test_what_was_measured_is_a_share_or_the_bare_value() -> None:
    assert measured(verdict(Outcome.PASS)) == "0.143%"
    assert measured(verdict(Outcome.PASS, criterion=VALUE, value=6.02549)) == "6.025"
    assert measured(verdict(Outcome.NO_DATA, value=None)) == "-"


def test_a_message_has_the_same_shape_while_only_its_numbers_go_on() -> None:
    first = "step 1 of 2 at 5%: errors below 1% (us-1): 3 errors in 2,100 requests (0.14%); 17m40s more would settle it"
    assert shape(first) == shape(first.replace("2,100", "2,340").replace("17m40s", "50s").replace("0.14", "0.1"))
    assert shape(first) != shape("step 1 of 2 at 5%: not done yet: a")

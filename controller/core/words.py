"""Verdicts in words: one sentence without jargon, with the numbers behind it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from math import isfinite
from re import compile as pattern

from controller.core.evidence import Criterion, Outcome, Verdict, requests_to_pass
from controller.core.faults import listed
from controller.core.units import format_count, format_duration, format_share

_NUMBERS = pattern(r"(?<![\w-])(?:\d[\d.,]*[a-z%]*)+")


@dataclass(frozen=True, slots=True)
class Told:
    """A reason that ends in verdicts' sentences, put into words only when somebody reads it."""

    before: str
    verdicts: tuple[Verdict, ...]

    def __str__(self) -> str:
        return self.before + "; ".join(sentence(verdict) for verdict in self.verdicts)


Reason = str | Told


def told(before: str, *verdicts: Verdict) -> Told:
    """A reason that says ``before`` and then what the verdicts say."""
    return Told(before, verdicts)


def shape(message: str) -> str:
    """The message without its numbers and spans: counts go on, but what is waited for is the same."""
    return _NUMBERS.sub("#", message)


def sentence(verdict: Verdict) -> str:
    """What the verdict is and what it stands on, for status, log, event and alert alike."""
    criterion = verdict.criterion
    if criterion.at_most is not None:
        return _of_incidents(verdict, criterion.at_most)
    head = f"{criterion.key} ({verdict.target})"
    if verdict.outcome is Outcome.NO_DATA:
        since = f" for {format_duration(verdict.silent)}" if verdict.silent >= 1 else ""
        return f"{head}: no data{since}: {verdict.problem}"
    if criterion.series.kind == "value":
        return f"{head}: {_of_values(verdict)}"
    counts = f"{format_count(verdict.x)} {_bad(criterion)} in {format_count(verdict.n)} requests"
    share = "" if verdict.value is None else f" ({format_share(verdict.value)})"
    if verdict.outcome is Outcome.FAIL:
        word = "over the limit" if criterion.certainty is None else "proven over the limit"
        return f"{head}: {word}: {counts}{share}"
    if verdict.outcome is Outcome.PASS:
        return f"{head}: passes: {counts}{share}"
    return f"{head}: {counts}{share}; {_what_would_settle(verdict)}"


def _bad(criterion: Criterion) -> str:
    return "slow" if criterion.series.metric == "latency" or criterion.series.kind == "latency" else "errors"


def _of_incidents(verdict: Verdict, at_most: int) -> str:
    named = verdict.criterion.series.bad
    if verdict.outcome is Outcome.NO_DATA:
        since = f" for {format_duration(verdict.silent)}" if verdict.silent >= 1 else ""
        return f"{named}: no data{since}: {verdict.problem}"
    if verdict.value is None:
        return f"{named}: not counted yet"
    count = f"{format_count(verdict.x)} {named if verdict.x != 1 else named.replace(' incidents', ' incident', 1)}"
    be = "is" if at_most == 1 else "are"
    if verdict.outcome is not Outcome.FAIL:
        count = count if verdict.x else f"no {named}"
        allowed = f", at most {at_most} {be} allowed" if at_most else ""
        return f"{count} since {_minute(verdict.as_of - verdict.span)}{allowed}"
    starts = listed([_minute(at) for at in verdict.starts], "and")
    return f"{count}, at most {at_most} {be} allowed: seen to begin at {starts}"


def _minute(at: float) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M} UTC"


def _of_values(verdict: Verdict) -> str:
    criterion = verdict.criterion
    if verdict.value is None:
        return "no sample yet"
    value = f"{verdict.value:.4g}"
    over = format_duration(criterion.window)
    if verdict.outcome is Outcome.PASS:
        return f"passes: {value}, good for {over}"
    if verdict.outcome is Outcome.FAIL:
        return f"failed: {value}, bad for {over}"
    return f"{value}; {format_count(verdict.x)} of {format_count(verdict.n)} samples bad, {over} alike would settle it"


def _what_would_settle(verdict: Verdict) -> str:
    criterion = verdict.criterion
    if criterion.certainty is None:
        return f"{format_duration(criterion.window)} below the limit would settle it"
    more = requests_to_pass(criterion, verdict.n, verdict.x)
    if not isfinite(more) or more == 0:
        return "undecided"
    if verdict.n > 0 and verdict.span > 0:
        return f"{format_duration(max(1.0, more * verdict.span / verdict.n))} more without any would settle it"
    return f"{format_count(more)} requests without any would settle it"


def measured(verdict: Verdict) -> str:
    """The value beside its limit: a share in percent, the bare value, or the number of incidents."""
    if verdict.value is None:
        return "-"
    bare = verdict.criterion.series.kind in ("value", "incidents")
    return f"{verdict.value:.4g}" if bare else format_share(verdict.value)

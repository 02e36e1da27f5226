"""Verdicts in words: one sentence without jargon, with the numbers behind it."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite

from controller.core.evidence import Criterion, Outcome, Verdict, requests_to_pass
from controller.core.units import format_count, format_duration, format_share


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


def sentence(verdict: Verdict) -> str:
    """What the verdict is and what it stands on, for status, log, event and alert alike."""
    criterion = verdict.criterion
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
    """The value beside its limit: a share in percent, or the bare value."""
    if verdict.value is None:
        return "-"
    return f"{verdict.value:.4g}" if verdict.criterion.series.kind == "value" else format_share(verdict.value)

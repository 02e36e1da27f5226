"""Verdicts in words: one sentence without jargon, with the numbers behind it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from math import ceil, floor, isfinite, log10
from re import Match
from re import compile as pattern

from controller.core.evidence import Criterion, Outcome, Verdict
from controller.core.faults import listed
from controller.core.looks import Looked
from controller.core.outlook import requests_to_fail, requests_to_settle
from controller.core.units import format_count, format_duration, format_number, format_share

_INSTANTS = pattern(r"(?:\b\d{4}-\d\d-\d\d )?\b\d\d:\d\d(?: UTC\b|(?=-\d\d:\d\d UTC\b))")
_NUMBERS = pattern(r"(?<![\w-])(?:\d[\d.,]*[a-z%]*)+")
_COUNTED = pattern(r"# (more clean |more |clean )?(?:(request|error|restart|sample)s?|(?:second|minute|hour|day)s?)\b")
_LONGEST_WAIT = 30 * 86400.0
"""Seconds; what would take longer at the present share of bad requests is too near the limit to tell."""
_NEXT_COUNT = "the next count settles it"
_ALONE = "judged by its limit alone"


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
    plain = _NUMBERS.sub("#", _INSTANTS.sub("#", message)).replace(" (#)", "")
    return _COUNTED.sub(_counted_alike, plain)


def _counted_alike(found: Match[str]) -> str:
    """What would settle it is told in requests at first, and in time once there is traffic: that is no other wait."""
    how = found[1] or ""
    return "# clean" if "clean" in how else f"# {how}{found[2] or 'time'}"


def sentence(verdict: Verdict) -> str:
    """What the verdict is and what it stands on, for status, log, event and alert alike."""
    criterion = verdict.criterion
    if criterion.of_record:
        return _of_holds(verdict, criterion.at_most or 0)
    if criterion.launch_wide:
        return _of_incidents(verdict, criterion.at_most or 0)
    head = f"{criterion.key} ({verdict.target})"
    if verdict.outcome is Outcome.NO_DATA:
        since = f" for {format_duration(verdict.silent)}" if verdict.silent >= 1 else ""
        return f"{head}: no data{since}: {verdict.problem}"
    if verdict.looked is not None:
        return f"{head}: {_of_looks(verdict, verdict.looked)}"
    if criterion.series.kind == "value":
        return f"{head}: {_of_values(verdict)}"
    if criterion.restarts:
        return f"{head}: {_of_restarts(verdict)}"
    if criterion.budget:
        return f"{head}: {_of_uptime(verdict)}"
    counts = _counted(verdict)
    if verdict.alone:
        return f"{head}: no stable traffic to compare with{_before(verdict)}"
    if criterion.certainty is None:
        return f"{head}: {_of_threshold(verdict, counts)}"
    if verdict.outcome is Outcome.FAIL:
        limit = criterion.limit_text if criterion.versus else format_share(criterion.limit)
        return f"{head}: proven worse than {limit}: {counts}"
    if verdict.outcome is Outcome.PASS:
        return f"{head}: {_of_pass(verdict, counts)}"
    return f"{head}: {counts}; {_what_would_settle(verdict)}"


def _of_pass(verdict: Verdict, counts: str) -> str:
    """A gate wants the whole phase besides: what is bad since before the last raise is said, for it keeps a gate open."""
    if verdict.phase_n <= verdict.n or verdict.passes_phase:
        return f"passes: {counts}"
    phase = f"all of the phase does not yet, {format_count(verdict.phase_x)} in {format_count(verdict.phase_n)}"
    whole = replace(verdict, n=verdict.phase_n, x=verdict.phase_x)
    then = "" if verdict.criterion.versus else f": {_what_would_settle(whole)}"
    return f"passes since the last raise: {counts}; {phase}{then}"


def _counted(verdict: Verdict) -> str:
    """``21 errors in 640 requests since 14:05 UTC (3.28%), stable had 2 in 12,000 in the same time; in the phase ...``."""
    counts = _bad_in(verdict.criterion, verdict.n, verdict.x)
    partly = verdict.bad_since and verdict.phase_n > verdict.n
    if partly:
        counts += f" since {_clock(verdict.bad_since - verdict.criterion.series.lag, verdict.as_of)}"
    if verdict.value is not None:
        counts += f" ({format_share(verdict.value)})"
    stable = ""
    if verdict.stable_n is not None and verdict.stable_x is not None:
        stable = f"{format_count(verdict.stable_x)} in {format_count(verdict.stable_n)}"
    if stable and not verdict.stable_whole:
        then = f"{stable} in the same time"
        counts += f"; stable is as bad: {then}" if verdict.world else f", stable had {then}"
    if partly:
        counts += f"; in the phase {format_count(verdict.phase_x)} in {format_count(verdict.phase_n)}"
    if stable and verdict.stable_whole:
        before = ", " if partly else "; in the phase "
        counts += f"{before}stable is as bad: {stable}" if verdict.world else f"{before}stable had {stable}"
    if verdict.bursts > 1:
        bad = _bad(verdict.criterion)
        counts += f"; {bad} come in bursts, {verdict.bursts:.2g} times what chance makes, so that each counts for less"
    return counts


def _bad_in(criterion: Criterion, n: float, x: float) -> str:
    """``3 errors in 2,100 requests``, ``1 slow in 1 request``."""
    bad = _bad(criterion)
    bad = "error" if bad == "errors" and x == 1 else bad
    return f"{format_count(x)} {bad} in {_requests(n)}"


def _requests(n: float) -> str:
    return f"{format_count(n)} request{'' if n == 1 else 's'}"


def _before(verdict: Verdict) -> str:
    if not verdict.n:
        return ""
    said = {Outcome.PASS: "it passed before", Outcome.FAIL: "it failed before"}
    return f"; {said.get(verdict.outcome, 'it was undecided before')}: {_counted(verdict)}"


def _of_restarts(verdict: Verdict) -> str:
    if verdict.value is None:
        return f"not counted yet; {_NEXT_COUNT}"
    at_most = verdict.criterion.at_most or 0
    restarts = f"{format_count(verdict.x)} restart{'' if verdict.x == 1 else 's'}" if verdict.x else "no restarts"
    then = f"; {_NEXT_COUNT}" if verdict.outcome is Outcome.UNDECIDED else ""
    return f"{restarts}, {_allowed(at_most)}{then}"


def _allowed(at_most: int) -> str:
    if not at_most:
        return "none is allowed"
    return f"at most {format_count(at_most)} {'is' if at_most == 1 else 'are'} allowed"


def _of_uptime(verdict: Verdict) -> str:
    allowed = format_duration(verdict.allowed)
    down = f"down for {format_duration(verdict.x)}" if verdict.x else "never down"
    if verdict.outcome is Outcome.FAIL:
        return f"the budget is spent: {down}, {allowed} were allowed"
    left = max(0.0, verdict.allowed - verdict.x)
    unknown = f", unknown for {format_duration(verdict.unknown)}" if verdict.unknown else ""
    if verdict.outcome is Outcome.PASS:
        return f"passes: {down}{unknown}, {format_duration(left)} of {allowed} left"
    end = "" if verdict.due is None else f", {_minute(verdict.due)},"
    spare = format_duration(max(0.0, left - verdict.unknown))
    more = " more" if verdict.x or verdict.unknown else ""
    then = f"passes at the end{end} if less than {spare}{more} is lost"
    return f"{down}{unknown}, {format_duration(left)} of {allowed} left; {then}"


def _bad(criterion: Criterion) -> str:
    return "slow" if criterion.series.metric == "latency" or criterion.series.kind == "latency" else "errors"


def _of_holds(verdict: Verdict, at_most: int) -> str:
    times = {0: "never held", 1: "held once", 2: "held twice"}.get(int(verdict.x), f"held {verdict.x:,.0f} times")
    allowed = f", {_allowed(at_most)}" if verdict.x else ""
    return f"{verdict.criterion.key}: {times} in this phase{allowed}"


def _of_incidents(verdict: Verdict, at_most: int) -> str:
    named = verdict.criterion.series.bad
    if verdict.outcome is Outcome.NO_DATA:
        since = f" for {format_duration(verdict.silent)}" if verdict.silent >= 1 else ""
        return f"{named}: no data{since}: {verdict.problem}"
    if verdict.value is None:
        return f"{named}: not counted yet; {_NEXT_COUNT}"
    count = f"{format_count(verdict.x)} {named if verdict.x != 1 else named.replace(' incidents', ' incident', 1)}"
    if verdict.outcome is not Outcome.FAIL:
        count = count if verdict.x else f"no {named}"
        allowed = f", {_allowed(at_most)}" if at_most else ""
        silenced = f" and {format_count(verdict.silenced)} silenced" if verdict.silenced else ""
        return f"{count}{silenced} since {_minute(verdict.as_of - verdict.span)}{allowed}{_open(verdict)}"
    starts = listed([_minute(at) for at in verdict.starts], "and")
    return f"{count}, {_allowed(at_most)}: seen to begin at {starts}"


def _open(verdict: Verdict) -> str:
    if verdict.open == "silenced":
        return "; what is silenced counts neither as an incident nor as none; write silenced: count or silenced: ignore"
    return f"; {verdict.open}" if verdict.open else ""


def _minute(at: float) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M} UTC"


def _clock(at: float, told: float) -> str:
    """The minute, with its day where that is not the day on which it is told."""
    same = datetime.fromtimestamp(at, UTC).date() == datetime.fromtimestamp(told, UTC).date()
    return f"{datetime.fromtimestamp(at, UTC):%H:%M} UTC" if same else _minute(at)


def _of_threshold(verdict: Verdict, counts: str) -> str:
    criterion = verdict.criterion
    over = f"in the last {format_duration(criterion.window)}"
    if verdict.outcome is Outcome.FAIL:
        return f"over {format_share(criterion.limit)} {over}: {counts}; {_ALONE}"
    if verdict.outcome is Outcome.PASS:
        return f"passes {over}: {counts}; {_ALONE}"
    return f"{counts}; {format_duration(criterion.window)} below the limit would settle it; {_ALONE}"


def _of_looks(verdict: Verdict, looked: Looked) -> str:
    """``6.31% +- 0.12%, proven at the look of 2025-11-03 04:00 UTC (5 of 9 looks)``."""
    criterion = verdict.criterion
    looks = f"{looked.planned} look{'' if looked.planned == 1 else 's'}"
    if verdict.value is None:
        if looked.waits:
            return f"not looked at yet: {_GATES_LOOK}"
        first = f"at {_minute(looked.next)}" if looked.next is not None else "when its gate is judged"
        return f"not looked at yet: the first of {looks} is {first}"
    digits = _decimals(looked.error)
    value = f"{_estimate(criterion, verdict.value, digits)} +- {_estimate(criterion, looked.error, digits)}"
    at = f"the look of {_minute(looked.at)} ({looked.taken} of {looks})"
    if verdict.outcome is Outcome.PASS:
        return f"passes: {value}, proven at {at}"
    if verdict.outcome is Outcome.FAIL:
        return f"failed: {value}, proven at {at}"
    found = f"{value} at {at}"
    if looked.waits:
        return f"{found}; {_GATES_LOOK}"
    return f"{found}; {_what_would_pass(verdict, looked, digits)}; {_when_next(looked)}"


_GATES_LOOK = "the look at its gate waits for its sample to settle"


def _what_would_pass(verdict: Verdict, looked: Looked, digits: int) -> str:
    """From which value on it would pass if that were as exact as this one, or how exact this one would have to be."""
    criterion, value = verdict.criterion, verdict.value or 0.0
    above = criterion.side == "above"
    distance = value - criterion.limit if above else criterion.limit - value
    if distance >= looked.needs * looked.error:
        return "that was before the last raise, which passes nothing"
    size = 10.0**digits
    least = looked.needs * looked.error
    border = ceil((criterion.limit + least) * size) if above else floor((criterion.limit - least) * size)
    said = f"{_estimate(criterion, border / size, digits)} or {'more' if above else 'less'} would pass"
    if distance <= 0:
        return said
    exact = distance / looked.needs
    finer = _decimals(exact)
    return f"{said}, or +- {_estimate(criterion, floor(exact * 10.0**finer) / 10.0**finer, finer)}"


def _when_next(looked: Looked) -> str:
    if looked.taken >= looked.planned:
        return "no look is left; retry begins anew"
    if looked.next is not None:
        return f"next look at {_minute(looked.next)}"
    return "next look when its gate is put off, or with retry" if looked.over else "next look when its gate is judged"


def _decimals(error: float) -> int:
    """So many decimals that the error has two sensible digits."""
    return min(12, max(0, 1 - floor(log10(error)))) if error > 0 else 4


def _estimate(criterion: Criterion, number: float, digits: int) -> str:
    unit = "%" if criterion.limit_text.endswith("%") else "s" if criterion.limit_text[-1:].isalpha() else ""
    return f"{number:,.{digits}f}{unit}"


def _of_values(verdict: Verdict) -> str:
    criterion = verdict.criterion
    if verdict.value is None:
        return "no sample yet"
    value = amount(criterion, verdict.value)
    over = format_duration(criterion.window)
    if verdict.outcome is Outcome.PASS:
        return f"passes: {value}, good for {over}; {_ALONE}"
    if verdict.outcome is Outcome.FAIL:
        return f"failed: {value}, bad for {over}; {_ALONE}"
    samples = f"{format_count(verdict.x)} of {format_count(verdict.n)} sample{'' if verdict.n == 1 else 's'} bad"
    return f"{value}; {samples}, {over} alike would settle it; {_ALONE}"


def amount(criterion: Criterion, value: float) -> str:
    """A bare value in the unit that its limit is written in: ``6.025%``, ``12,346``, ``1.5s``."""
    limit = criterion.limit_text
    if limit.endswith("%"):
        return f"{format_number(value)}%"
    return format_duration(value) if limit[-1:].isalpha() else format_number(value)


def _what_would_settle(verdict: Verdict) -> str:
    """The traffic that would make it pass, were it all good; in time where the present traffic is known."""
    criterion, n = verdict.criterion, verdict.n
    clean = requests_to_settle(verdict)
    if clean == 0:
        return "undecided"
    if criterion.versus and not isfinite(clean):
        if not n or not verdict.stable_n:
            return "requests of both tracks would settle it"
        return f"stable has too few {_bad(criterion)} to compare with"
    seconds = clean / verdict.rate if verdict.rate > 0 else 0.0
    if seconds > _LONGEST_WAIT:
        return f"would need more than {format_duration(_LONGEST_WAIT)} at this traffic"
    if _too_near(verdict):
        return "too near the limit to tell"
    if not seconds:
        return f"{format_count(clean)} {'more ' if n else ''}clean request{'' if clean == 1 else 's'} would settle it"
    due = verdict.due
    if due is not None and verdict.as_of <= due < verdict.as_of + seconds:
        return f"would need {format_duration(max(1.0, seconds))} more at this traffic, past its time, {_minute(due)}"
    return f"{_clean(seconds)} would settle it"


def _too_near(verdict: Verdict) -> bool:
    """Whether no share within a standard error of the present one would decide it either way in any sensible time."""
    if verdict.x < 1 or not verdict.n:
        return False
    share, error = verdict.x / verdict.n, verdict.x**0.5 / verdict.n
    fewest = min(requests_to_settle(verdict, share - error), requests_to_fail(verdict, min(1.0, share + error)))
    return fewest > _LONGEST_WAIT * verdict.rate if verdict.rate > 0 else not isfinite(fewest)


def _clean(seconds: float) -> str:
    """``17 more clean minutes``: rounded up, in the unit in which that is a small number."""
    units = (("second", 1, 1), ("minute", 60, 1), ("hour", 3600, 10), ("day", 86400, 10))
    fits = (seconds <= 99, seconds <= 99 * 60, seconds <= 47 * 3600, True)
    unit, size, parts = units[fits.index(True)]
    count = ceil(seconds / size * parts) / parts
    return f"{format_count(count)} more clean {unit}{'' if count == 1 else 's'}"


def measured(verdict: Verdict) -> str:
    """The value beside its limit: a share in percent, the bare value, or the number of incidents."""
    if verdict.value is None:
        return "-"
    if verdict.criterion.series.kind == "value":
        return amount(verdict.criterion, verdict.value)
    return format_count(verdict.value) if verdict.criterion.at_most is not None else format_share(verdict.value)

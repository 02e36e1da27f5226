"""Incidents: how many began, as Prometheus' rows count them, and what Alertmanager shows beside these.

The rows say which alerts fired. Which of them are silenced, and which fire that Prometheus does not know, is seen only by
looking at Alertmanager now and then; each look is noted once.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime

from controller.core.evidence import NO_DATA_INTERVALS, Counts, Criterion, Fold, Known, Noted, Outcome
from controller.core.series import Noticed, Row, Unproven

NO_PROOF = "no proof that Prometheus evaluated alerts"
UNCOUNTED = "the next counts tell of the time up to the gate"
LONGEST_GAP = 300.0
"""Of the proof that no alert fired: seconds that may be missing, as a restart of Prometheus takes."""
LONGEST_BESIDE = 600.0
"""Of the proof by Alertmanager: seconds that may be missing, as a restart and its senders' next messages take."""
SAME_SHOWN = 360.0
"""An alert that Alertmanager shows again within this time (seconds) is the same incident. Longer than in Prometheus' rows
by what lies between two looks, so that no more are taken off these than they count."""
MOST_SHOWN = 30
"""Alerts that are told apart at once, and one that is silenced afterwards is known from one that was before."""
KEPT_STARTS = 3


def count_incidents(criterion: Criterion, fold: Fold, rows: Iterable[Row]) -> Fold:
    """The fold after these rows of alerts: how many more incidents began, and how long nothing proved that none did."""
    interval = criterion.series.interval
    n, x, instants, gap, last = fold.n, fold.x, fold.instants, fold.gap, fold.last
    newest = fold.newest or fold.began - interval
    starts = list(fold.window)
    for row in rows:
        proven = not isinstance(row, Unproven)
        # Nobody looked from the row before up to the interval of this one.
        unseen = int(row.at) - interval - newest
        if proven and unseen > max(LONGEST_GAP, gap[1] - gap[0]):
            gap = (newest, newest + unseen)
        # What is open at the first row began before it. And a rule's result may come later than the rows settle: then its
        # beginning is in no row, but it is open in the next.
        total = max(x + row.x, row.n)
        if total > x and len(starts) < KEPT_STARTS:
            starts.append(Row(row.at, row.n, total - x))
        n, x = max(n, row.n), total
        last = max(last, int(row.at))
        if proven:
            newest = int(row.at)
            instants += 1
    return replace(
        fold,
        last=last,
        newest=newest if instants else fold.newest,
        instants=instants,
        anchored=True,
        n=n,
        x=x,
        pass_instants=instants,
        window=tuple(starts),
        gap=gap,
    )


def note(criterion: Criterion, fold: Fold, noticed: Noticed | None) -> Fold:
    """The fold of incidents after a look beside its rows; each look counts once, in order."""
    if not criterion.launch_wide or noticed is None or noticed.at < fold.began:
        return fold
    noted = fold.noted or Noted()
    if noticed.at <= noted.newest:
        return fold
    noted, begun = _tell_apart(criterion, replace(noted, newest=noticed.at), noticed)
    noted = _excuse(noted, fold.x)
    if not noticed.problem:
        before = noted.proven or fold.began
        longer = noticed.at - before > max(LONGEST_BESIDE, noted.gap[1] - noted.gap[0])
        gap = (before, noticed.at) if longer else noted.gap
        noted = replace(noted, proven=noticed.at, gap=gap, checked=fold.x)
    return replace(fold, noted=noted, window=(*fold.window, *begun)[: max(KEPT_STARTS, len(fold.window))])


def _tell_apart(criterion: Criterion, noted: Noted, noticed: Noticed) -> tuple[Noted, list[Row]]:
    """Count what is new of the alerts that are shown, each once; and those of them that no row counts."""
    x, silenced, apart, full = noted.x, noted.silenced, noted.apart, noted.full
    known = {each.id: each for each in noted.known if noticed.at - each.last <= SAME_SHOWN}
    begun: list[Row] = []
    for alert in noticed.alerts:
        before = known.get(alert.id)
        full = full or (before is None and len(known) >= MOST_SHOWN)
        hushed = alert.silenced and criterion.silenced != "count" and not full
        # Who silences an alert that was seen to fire takes no incident back.
        hushed = hushed and (before is None or before.silenced)
        counted = before.counted if before is not None else alert.counted
        if before is None or before.silenced != hushed:
            if before is not None:
                silenced -= before.excused
                apart -= not counted
            if hushed:
                apart += not counted
            elif not counted:
                x += 1
                begun.append(Row(alert.began, 1.0, 1.0))
        if before is not None or len(known) < MOST_SHOWN:
            excused = before is not None and before.excused and hushed
            known[alert.id] = Known(alert.id, noticed.at, hushed, counted, excused)
    return replace(noted, x=x, silenced=silenced, apart=apart, full=full, known=tuple(known.values())), begun


def _excuse(noted: Noted, counted: float) -> Noted:
    """Let each silenced alert account for one of the incidents that the rows have counted, of which others are not known.

    One that the rows have not counted yet, or never will, must not account for another one's incident.
    """
    left = counted - noted.silenced - sum(each.counted and not each.silenced for each in noted.known)
    silenced, known = noted.silenced, []
    for each in noted.known:
        if left >= 1 and each.counted and each.silenced and not each.excused:
            left, silenced = left - 1, silenced + 1
            each = replace(each, excused=True)  # noqa: PLW2901 - the same one
        known.append(each)
    return replace(noted, silenced=silenced, known=tuple(known))


def judge_incidents(
    criterion: Criterion, fold: Fold, latest: Fold, noticed: Noticed | None, *, asks: bool, due: float | None = None
) -> tuple[Outcome, Counts, bool, str]:
    """More than are allowed fails at once and for good; fewer pass, as far as the settled rows go.

    ``asks``: an incident fails only once it is known not to be silenced. ``due`` is the gate's time, once it has come
    (epoch seconds): all up to it has to be counted, for the tail has gaps. The last item is why it is open.
    """
    at_most, noted = criterion.at_most or 0, fold.noted or Noted()
    others = noted.x - noted.silenced
    for evidence, on_tail in ((fold, False), (latest, True)):
        x = evidence.x + others
        if (noted.checked + others if asks else x) > at_most:
            return Outcome.FAIL, (float(evidence.instants), x, x), on_tail and not asks, ""
    x = max(0.0, fold.x + others)
    why = ""
    if latest.x + others > at_most:
        why = "whether the newest is silenced is not known yet"
    elif criterion.silenced == "undecided" and noted.silenced + noted.apart:
        why = "silenced"
    elif noticed is not None and noticed.problem:
        why = noticed.problem
    elif noticed is not None and not noted.proven:
        why = "what other alerts fire is not known yet"
    elif due is not None and (
        fold.newest < due or (noticed is not None and noticed.silences and noted.proven < int(due))
    ):
        why = UNCOUNTED
    passes = bool(fold.instants) and not why
    counts = (float(fold.instants), x, x if fold.instants else None)
    return Outcome.PASS if passes else Outcome.UNDECIDED, counts, False, why


def unseen_for(criterion: Criterion, fold: Fold, noticed: Noticed, now: float) -> tuple[str, float]:
    """Why what was seen beside the rows is not enough for too long, and for how many seconds; empty: it is."""
    noted = fold.noted or Noted()
    if missing := noted.gap[1] - noted.gap[0]:
        return f"nothing proves for {span_text(*noted.gap)} that no other alert fired", float(missing)
    unseen = max(0.0, now - max(noted.proven, fold.began))
    patience = criterion.series.settle + NO_DATA_INTERVALS * criterion.series.interval
    return (noticed.problem, unseen) if noticed.problem and unseen > patience else ("", 0.0)


def span_text(start: int, end: int) -> str:
    """``2025-11-01 14:00-14:20 UTC``, with the day again where it is another one."""
    first, last = (datetime.fromtimestamp(at, UTC) for at in (start, end))
    until = f"{last:%H:%M}" if first.date() == last.date() else f"{last:%Y-%m-%d %H:%M}"
    return f"{first:%Y-%m-%d %H:%M}-{until} UTC"

"""What is known of a criterion: the criterion itself, what its rows are folded into, and what is said of it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from math import floor, log
from typing import Literal

from controller.core.likelihoods import WORSE, evidence_needed, log_evidence_in_bursts
from controller.core.looks import Looked
from controller.core.series import RESTARTS, Row, Series

NOT_ASKED = "not asked in this round"
NO_DATA_SECONDS = 60.0
NO_DATA_INTERVALS = 4


class Outcome(StrEnum):
    """The four verdicts. Only a pass can raise traffic."""

    PASS = "pass"
    FAIL = "fail"
    UNDECIDED = "undecided"
    NO_DATA = "no data"


@dataclass(frozen=True, slots=True)
class Criterion:
    """One thing that must hold of one series, resolved from the plan.

    ``key`` names it within the plan and is stable under edits elsewhere (``errors below 0.5%``); ``limit`` is a share
    (0.005) of bad events for counts, which must stay below it, or the limit of a bare value in its own unit, on the
    good ``side`` of which the value must lie. ``certainty`` is 0.99 for an error of 1 % each way; None is the plain
    threshold rule over the last ``window`` seconds. Of a bare value, ``window`` is how long it must hold.
    A fail wants ``min_bad`` bad events and a pass ``min_requests`` events.
    ``at_most`` is the number of incidents, restarts or holds that are allowed; None: it counts none of them.
    ``tests`` is how many tests of its phase (criteria times targets) share the error of a false alarm.
    ``versus`` compares with the stable track: its share must stay below ``limit`` times stable's (``ratio``), or below
    stable's plus ``limit`` (``difference``). ``stable`` is the test that tells us from the world (``us_or_world``).
    Of uptime, ``limit`` is the part of the planned time that it may be down. ``silenced`` is what an incident counts
    whose alert is silenced: as any other, as none, or neither, so that it is undecided.
    ``looks`` is at how many instants of its phase the plan lets a value with a standard error be judged; 0: it is not
    judged so.
    """

    key: str
    series: Series
    limit: float
    side: Literal["below", "above"]
    certainty: float | None
    window: float
    min_requests: int
    min_bad: int
    limit_text: str
    at_most: int | None = None
    tests: int = 1
    versus: Literal["", "ratio", "difference", "stable"] = ""
    silenced: Literal["undecided", "count", "ignore"] = "undecided"
    looks: int = 0

    @property
    def plain(self) -> bool:
        """Whether no evidence is weighed for it: a value, counts by threshold, or an exact count."""
        return self.certainty is None or self.series.kind == "value"

    @property
    def launch_wide(self) -> bool:
        """Whether it is of no target but of the launch as a whole; its fold and its verdicts then name none."""
        return self.series.kind in ("incidents", "holds")

    @property
    def of_record(self) -> bool:
        """Whether the launch's own record answers it, and nobody is asked: how often it was held."""
        return self.series.kind == "holds"

    @property
    def restarts(self) -> bool:
        """Whether it counts restarts of the canary's pods."""
        return self.series.kind == "recorded" and self.series.metric == RESTARTS

    @property
    def budget(self) -> bool:
        """Whether it spends a budget of time: it may fail at any time and passes only at the end of its phase."""
        return self.series.kind == "uptime"

    @property
    def exact(self) -> bool:
        """Whether it is counted and not estimated: incidents, restarts, uptime."""
        return self.launch_wide or self.restarts or self.budget


@dataclass(frozen=True, slots=True)
class Beside:
    """What a comparison keeps of the stable track, of the instants that both tracks have.

    ``n`` and ``x`` run over the phase, ``pass_n`` and ``pass_x`` since the last raise, as the fold's own. ``evidence``
    are the logs of the pass side's alternatives since the raise, ``phase_evidence`` those of the phase: they are sums
    over instants, for the split of the traffic differs from one to the next. ``detector`` is that of the stable track
    against the limit, where us are to be told from the world.
    """

    n: float = 0.0
    x: float = 0.0
    pass_n: float = 0.0
    pass_x: float = 0.0
    evidence: tuple[float, ...] = ()
    phase_evidence: tuple[float, ...] = ()
    detector: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Known:
    """An alert that Alertmanager showed, last at ``last`` (epoch seconds); ``counted``: Prometheus' rows count it.

    ``excused``: it is silenced, and one of the incidents that the rows have counted.
    """

    id: str
    last: int
    silenced: bool
    counted: bool
    excused: bool = False


@dataclass(frozen=True, slots=True)
class Noted:
    """What incidents keep of what was seen beside their rows; instants are epoch seconds, 0: none yet.

    ``newest`` is the last look and ``proven`` the last that proved something; ``gap`` is the longest stretch between two
    of these, if it is longer than LONGEST_BESIDE. ``checked`` is how many incidents the rows had counted by then: of
    those, and no others, it is known whether they are silenced. ``x`` are incidents that Prometheus does not know,
    ``silenced`` those of its own that are silenced, ``apart`` other silenced ones. ``full``: there were too many alerts
    to tell a new one from an old one, and from then on a silence excuses none.
    """

    newest: int = 0
    proven: int = 0
    gap: tuple[int, int] = (0, 0)
    checked: float = 0.0
    x: float = 0.0
    silenced: float = 0.0
    apart: float = 0.0
    full: bool = False
    known: tuple[Known, ...] = ()


@dataclass(frozen=True, slots=True)
class Trail:
    """What no verdict rests on, but what is told of one: since when it has been bad, and how much traffic there is.

    ``bad_since`` is the instant after which the harm began (epoch seconds; 0: with the evidence), as Page's sum of the
    mildest alternative has it, and ``n``, ``x``, ``stable_n``, ``stable_x`` are the fold's counts up to there. ``weight``
    is that sum, where it does not follow from the counts: of comparisons. ``marks`` are two instants and the fold's
    ``pass_n`` at each of them: the later one is at most PRESENT_SECONDS old, the earlier one as much older.
    """

    bad_since: int = 0
    n: float = 0.0
    x: float = 0.0
    stable_n: float = 0.0
    stable_x: float = 0.0
    weight: float = 0.0
    marks: tuple[int, float, int, float] | None = None


_NO_TRAIL = Trail()


@dataclass(frozen=True, slots=True)
class Fold:
    """Everything that the verdicts of one criterion of one target need to know of the past.

    ``began`` is the first instant of the evidence, ``last`` the newest settled instant that was walked and ``newest``
    the newest one that had a row (0: none yet), all epoch seconds on the grid. ``horizon`` is the planned number of
    instants (0: without an end) and ``instants`` how many were folded. ``n`` and ``x`` run over the phase, ``pass_n``
    and ``pass_x`` from ``since`` on (0: not yet). ``pass_instants`` is how many instants the latter are made of.
    ``anchored`` and ``pass_anchored`` say whether a row stood at the instant before; the first row without one may hold
    events from before and is only the new anchor. ``detector`` are the seven mixtures. ``window`` holds the rows of the
    plain rule. ``bursts`` is how much more than by chance the bad events of the stable track vary (1 or more), from
    which follows what the evidence is divided by; it stays as it is from the beginning on. ``beside`` is of comparisons
    only. ``trail`` is what is told besides.

    Of uptime, ``n`` is for how many seconds something is known and ``x`` for how many of them it was down.

    Of incidents, ``x`` is how many there were since the phase began, those that were open then included; a raise changes
    nothing in it. ``n`` is how many were open at once at most, ``window`` holds the first rows in which some began, and
    ``gap`` is the longest stretch without proof (from, to; epoch seconds), if it is longer than LONGEST_GAP. ``noted`` is
    what was seen beside the rows; None: nothing yet.
    """

    began: int
    last: int
    horizon: int
    newest: int = 0
    instants: int = 0
    anchored: bool = False
    n: float = 0.0
    x: float = 0.0
    detector: tuple[float, ...] = (0.0,) * len(WORSE)
    since: int = 0
    pass_anchored: bool = False
    pass_n: float = 0.0
    pass_x: float = 0.0
    pass_instants: int = 0
    window: tuple[Row, ...] = ()
    gap: tuple[int, int] = (0, 0)
    bursts: float = 1.0
    beside: Beside | None = None
    noted: Noted | None = None
    trail: Trail = _NO_TRAIL


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the evidence says of one criterion of one target, with the numbers that it stands on.

    ``value`` is the bad share, or the newest bare value; ``n`` and ``x`` are the counts that the outcome rests on;
    ``span`` is the seconds that they cover. ``silent`` is for how many seconds there has been no usable row.
    ``tail`` says that the fail rests on rows that were not settled yet. ``phase_n``
    and ``phase_x`` are the counts of the whole phase. ``waited`` is the seconds of evidence since the last raise or
    retry; they stand still while there are no rows. ``lost`` says that what is missing cannot come any more.

    Of incidents, ``x`` and ``value`` are how many there were, ``n`` is the number of instants with proof, ``starts`` are
    the first instants (epoch seconds) at which some were seen to begin, and ``target`` is empty. ``silenced`` is how many
    more were silenced, and ``open`` why it is undecided, in words.

    Of uptime, ``n`` are the seconds of which something is known, ``x`` those that it was down, ``unknown`` those in
    between and ``allowed`` the budget. ``stable_n`` and ``stable_x`` are the stable track's counts in the same time;
    None: they were not looked at. ``world``: stable is as bad, so that it is not the canary's fault. ``alone``: all
    traffic is the canary's, and there is nothing to compare it with. ``bursts`` is that of the fold.

    Of a proven fail, ``n`` and ``x`` are what came after ``bad_since`` (epoch seconds; 0: all of the phase), which is when
    the harm seems to have begun; so are stable's, unless ``stable_whole`` says that they are of the whole phase. ``rate`` is
    the requests per second of the last minutes (0: not known), ``due`` when the gate or the budget is judged, and
    ``terms`` are the logs of a comparison's evidence of a pass.

    Of a value at looks (``looked``), ``n`` is how many looks are over, ``x`` in how many of them it was on the bad side.
    """

    criterion: Criterion
    target: str
    outcome: Outcome
    value: float | None
    n: float
    x: float
    span: float
    as_of: int
    silent: float
    problem: str = ""
    tail: bool = False
    phase_n: float = 0.0
    phase_x: float = 0.0
    waited: float = 0.0
    starts: tuple[float, ...] = ()
    lost: bool = False
    bursts: float = 1.0
    stable_n: float | None = None
    stable_x: float | None = None
    phase_compares: bool = False
    world: bool = False
    alone: bool = False
    unknown: float = 0.0
    allowed: float = 0.0
    silenced: float = 0.0
    open: str = ""
    bad_since: int = 0
    stable_whole: bool = False
    rate: float = 0.0
    due: float | None = None
    terms: tuple[float, ...] = ()
    looked: Looked | None = None

    @property
    def passed(self) -> bool:
        """Whether it is a pass."""
        return self.outcome is Outcome.PASS

    @property
    def passes_phase(self) -> bool:
        """Whether the counts of the whole phase pass as well, which a gate wants besides."""
        if self.criterion.versus:
            return self.phase_compares
        return self.criterion.plain or passes_by_counts(self.criterion, self.phase_n, self.phase_x, self.bursts)


Counts = tuple[float, float, float | None]
"""How many there were, how many of them were bad, and the bad share or the newest bare value (None: there is none)."""


def counts_of(n: float, x: float) -> Counts:
    """Both numbers with the bad share."""
    return n, x, (x / n if n else None)


def bar(criterion: Criterion) -> float:
    """The log of what the evidence of a pass must reach: 1/alpha."""
    assert criterion.certainty is not None
    return evidence_needed(criterion.certainty)


def fail_bar(criterion: Criterion) -> float:
    """The log of what the evidence of a fail must reach: any one of the phase's tests ends it, so they share alpha."""
    return bar(criterion) + log(criterion.tests)


def passes_by_counts(criterion: Criterion, n: float, x: float, bursts: float = 1.0) -> bool:
    """Whether x bad events among n, where they come in ``bursts`` (1: they do not), are proof of a better share."""
    if n <= 0 or n < criterion.min_requests:
        return False
    return log_evidence_in_bursts(n, x, criterion.limit, bursts) >= bar(criterion)


def grid(instant: float, interval: int) -> int:
    """The newest instant of the interval's grid at or before this one."""
    return floor(instant / interval) * interval

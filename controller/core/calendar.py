"""Windows and freezes: whether traffic may be raised at an instant, why, and when that changes.

A window is read as people read it, off a clock on the wall in the plan's time zone: it is open from its first minute,
closed from its ``to`` on. So a window is never open while that clock shows a time outside it. Where the clock jumps
ahead, what it skips is not waited for: a window from 02:30 opens as 03:00 follows 01:59. Where the clock is put back,
the hour that comes twice is open or closed twice: a window to 02:30 closes at each 02:30. The day of a window over
midnight is the day on which it opens.

A freeze holds from its first instant until before its last one, whatever the windows say.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from math import floor
from zoneinfo import ZoneInfo

from controller.core.faults import listed
from controller.core.spec import Freeze, Window

DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
REACH_S = 2 * 366 * 86400.0
"""How far ahead a change is looked for, in seconds."""

_DAY = 86400
_WEEK = 7 * _DAY
_EPOCH_DAY = 3  # 1970-01-01 was a Thursday, and weeks begin on Monday here
_LAST = 253_402_000_000  # of the year 9999, where the calendar of the library ends
_MOST_SHOWN = 3
_ALL_WEEK = (0, _WEEK)


@dataclass(frozen=True, slots=True)
class Opening:
    """Whether traffic may be raised at an instant.

    ``why`` names the window or freeze that decides it, for people; "" where no rule bears on it. ``changes_at``
    (seconds since the epoch) is when it next closes or really opens, freezes and windows taken together; None where
    that is more than two years away, or never.
    """

    open: bool
    why: str
    changes_at: float | None


_UNRULED = Opening(open=True, why="", changes_at=None)

_WindowKey = tuple[tuple[str, ...], str, str]
_FreezeKey = tuple[str, float, float]


def opening(windows: Sequence[Window], freezes: Sequence[Freeze], zone: str, now: float) -> Opening:
    """Whether traffic may be raised at ``now`` (seconds since the epoch): a window is open, and no freeze holds.

    No windows mean always. ``zone`` is the IANA name of the time zone in which the windows' times are meant.

    Raises:
        zoneinfo.ZoneInfoNotFoundError: nobody knows the zone; a plan that was checked has none of those.
    """
    if not windows and not freezes:
        return _UNRULED
    return _calendar(
        tuple((window.days, window.from_, window.to) for window in windows),
        tuple((freeze.name, freeze.from_, freeze.to) for freeze in freezes),
        zone,
    ).at(now)


@lru_cache(maxsize=16_384)  # one for each launch of the largest fleet, should none share their rules
def _calendar(windows: tuple[_WindowKey, ...], freezes: tuple[_FreezeKey, ...], zone: str) -> _Calendar:
    return _Calendar(windows, freezes, zone)


class _Calendar:
    """The rules of a plan, and the last answer for as long as it holds."""

    __slots__ = ("_answer", "_freezes", "_spans", "_week", "_windows", "_zone", "_zone_name")

    def __init__(self, windows: tuple[_WindowKey, ...], freezes: tuple[_FreezeKey, ...], zone: str) -> None:
        self._zone_name = zone
        self._zone = ZoneInfo(zone)
        self._windows = windows
        self._spans = tuple(tuple(_spans(window)) for window in windows)
        self._week = _merged([span for spans in self._spans for span in spans]) if windows else _ALL_WEEK
        self._freezes = tuple(freeze for freeze in freezes if freeze[1] < freeze[2])
        self._answer = (0.0, 0.0, _UNRULED)

    def at(self, now: float) -> Opening:
        since, until, answer = self._answer
        if since <= now < until:
            return answer
        answer = self._find(now)
        # its words may change before it does: another window takes over, or a longer freeze begins
        self._answer = (now, self._words_hold_until(now, answer), answer)
        return answer

    def _find(self, now: float) -> Opening:
        frozen = self._frozen(now)
        if frozen is None and self._in_window(now):
            return Opening(open=True, why=self._why_open(now), changes_at=self._closes_after(now))
        why = f"freeze {frozen[0]} until {_minute(frozen[2])}" if frozen else f"outside {self._all_windows()}"
        return Opening(open=False, why=why, changes_at=self._opens_after(now))

    def _frozen(self, now: float) -> _FreezeKey | None:
        """Of the freezes that hold, the one that ends last."""
        return max(
            (freeze for freeze in self._freezes if freeze[1] <= now < freeze[2]),
            key=lambda freeze: freeze[2],
            default=None,
        )

    def _closes_after(self, now: float) -> float | None:
        limit = now + REACH_S
        found = [begin for _, begin, _ in self._freezes if now < begin <= limit]
        closed = self._turn(now, min(found, default=limit))
        return min([*found, *([] if closed is None else [closed])], default=None)

    def _opens_after(self, now: float) -> float | None:
        limit = now + REACH_S
        while now <= limit:
            frozen = self._frozen(now)
            if frozen is not None:
                now = frozen[2]
            elif self._in_window(now):
                return now
            else:
                opens = self._turn(now, limit)
                if opens is None:
                    return None
                now = opens
        return None

    def _in_window(self, now: float) -> bool:
        return self._week == _ALL_WEEK or _inside(self._week, self._of_week(now))

    def _of_week(self, now: float) -> int:
        return _of_week(floor(now) + self._offset(now))

    def _offset(self, now: float) -> int:
        """Seconds that the clock on the wall is ahead of UTC."""
        known = min(max(floor(now), 0), _LAST)
        offset = datetime.fromtimestamp(known, self._zone).utcoffset()
        return 0 if offset is None else round(offset.total_seconds())

    def _turn(self, now: float, limit: float) -> float | None:
        """The first instant after ``now`` and up to ``limit`` at which the windows turn from open to closed or back."""
        week = self._week
        if week == _ALL_WEEK:
            return None
        here, offset = floor(now), self._offset(now)
        was = _inside(week, _of_week(here + offset))
        while here <= limit:
            wall = _of_week(here + offset)
            position = bisect_right(week, wall)
            edge = here + (week[position] if position < len(week) else week[0] + _WEEK) - wall
            ahead = min(edge, here + _DAY)
            later = self._offset(ahead)
            if later != offset:  # the clock on the wall is changed before: what it shows then decides
                ahead, later = self._clock_change(here, ahead, offset)
            here, offset = ahead, later
            if _inside(week, _of_week(here + offset)) != was:
                return float(here) if here <= limit else None
        return None

    def _clock_change(self, before: int, after: int, offset: int) -> tuple[int, int]:
        """The first second with another offset, and that offset."""
        while after - before > 1:
            middle = (before + after) // 2
            if self._offset(middle) == offset:
                before = middle
            else:
                after = middle
        return after, self._offset(after)

    def _words_hold_until(self, now: float, answer: Opening) -> float:
        # "not within two years" is looked at again, for the years move on
        edges = [now + 3600 if answer.changes_at is None else answer.changes_at]
        edges += [edge for _, begin, end in self._freezes for edge in (begin, end) if now < edge]
        if answer.open and len(self._windows) > 1:  # windows that overlap hand over at a full minute
            edges.append(floor(now / 60) * 60 + 60)
        return min(edges)

    def _why_open(self, now: float) -> str:
        if not self._windows:
            return ""
        wall = self._of_week(now)
        for window, spans in zip(self._windows, self._spans, strict=True):
            if any(begin <= wall < end for begin, end in spans):
                return f"window {_words(window)} {self._zone_name}"
        return ""

    def _all_windows(self) -> str:
        if len(self._windows) > _MOST_SHOWN:
            return f"all {len(self._windows)} windows {self._zone_name}"
        what = "window" if len(self._windows) == 1 else "windows"
        return f"{what} {listed(map(_words, self._windows), 'and')} {self._zone_name}"


def _spans(window: _WindowKey) -> Iterator[tuple[int, int]]:
    """Begin and end of each opening, in seconds of the week; what runs over the end of Sunday goes on on Monday."""
    days, opens, closes = window
    for day in dict.fromkeys(days):
        begin = DAYS.index(day) * _DAY + _seconds(opens)
        length = (_seconds(closes) - _seconds(opens)) % _DAY or _DAY
        yield begin, min(begin + length, _WEEK)
        if begin + length > _WEEK:
            yield 0, begin + length - _WEEK


def _merged(spans: list[tuple[int, int]]) -> tuple[int, ...]:
    """The seconds of the week at which it opens and closes in turn."""
    edges: list[int] = []
    for begin, end in sorted(spans):
        if edges and begin <= edges[-1]:
            edges[-1] = max(edges[-1], end)
        else:
            edges += (begin, end)
    return tuple(edges)


def _inside(week: tuple[int, ...], wall: int) -> bool:
    return bisect_right(week, wall) % 2 == 1


def _of_week(wall: int) -> int:
    return (wall + _EPOCH_DAY * _DAY) % _WEEK


def _seconds(text: str) -> int:
    hours, minutes = text.split(":")
    return int(hours) * 3600 + int(minutes) * 60


def _words(window: _WindowKey) -> str:
    """``Mon-Thu 09:00-18:00``."""
    days, opens, closes = window
    numbers = sorted({DAYS.index(day) for day in days})
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    named = [DAYS[run[0]] if len(run) == 1 else f"{DAYS[run[0]]}-{DAYS[run[-1]]}" for run in runs]
    return f"{', '.join(named)} {opens}-{closes}"


def _minute(instant: float) -> str:
    moment = datetime.fromtimestamp(instant, UTC)
    seconds = ":%S" if moment.second or moment.microsecond else ""
    return moment.strftime(f"%Y-%m-%d %H:%M{seconds} UTC")

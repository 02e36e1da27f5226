"""Windows and freezes: whether traffic may be raised, why, and when that changes."""

from __future__ import annotations

import zoneinfo
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from math import ceil
from typing import get_args

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from controller.core import calendar
from controller.core.calendar import DAYS, Opening, opening
from controller.core.spec import Freeze, Window
from controller.core.units import format_instant, parse_instant

BERLIN = "Europe/Berlin"
WORKDAYS = ("Mon", "Tue", "Wed", "Thu")
MINUTE = 60


def window(days: str | Sequence[str], opens: str, closes: str) -> Window:
    """A window of these days, ``"Mon Tue"``."""
    named = days.split() if isinstance(days, str) else list(days)
    return Window.model_validate({"days": named, "from": opens, "to": closes})


def freeze(name: str, begins: str | float, ends: str | float) -> Freeze:
    """A freeze between two instants, as text or as seconds since the epoch."""
    first, last = (at if isinstance(at, str) else format_instant(at) for at in (begins, ends))
    return Freeze.model_validate({"name": name, "from": first, "to": last})


OFFICE = window(WORKDAYS, "09:00", "18:00")
BLACK_FRIDAY = freeze("black-friday", "2025-11-27T00:00:00Z", "2025-12-01T00:00:00Z")


def asked(at: str, *rules: Window | Freeze, zone: str = "UTC") -> Opening:
    """What is said at an instant, under these rules."""
    windows = [rule for rule in rules if isinstance(rule, Window)]
    freezes = [rule for rule in rules if isinstance(rule, Freeze)]
    return opening(windows, freezes, zone, parse_instant(at))


def turns(begin: str, end: str, *rules: Window | Freeze, zone: str) -> list[str]:
    """The local times at which it opens and closes between two instants, with the offset: ``open 03:00+02:00``."""
    windows = [rule for rule in rules if isinstance(rule, Window)]
    freezes = [rule for rule in rules if isinstance(rule, Freeze)]
    told = []
    said = opening(windows, freezes, zone, parse_instant(begin))
    while said.changes_at is not None and said.changes_at < parse_instant(end):
        local = datetime.fromtimestamp(said.changes_at, zoneinfo.ZoneInfo(zone))
        before = said
        said = opening(windows, freezes, zone, said.changes_at)
        assert said.open != before.open
        told.append(f"{'opens' if said.open else 'closes'} {local.isoformat()[11:16]}{local.isoformat()[19:]}")
    return told


def test_without_rules_it_is_open_and_nothing_is_said() -> None:
    assert asked("2025-11-01T14:00:00Z", zone=BERLIN) == Opening(open=True, why="", changes_at=None)


def test_the_days_are_those_of_the_schema() -> None:
    assert get_args(get_args(Window.model_fields["days"].annotation)[0]) == DAYS


def test_a_window_is_open_in_its_hours_and_says_when_it_closes() -> None:
    said = asked("2025-11-03T12:00:00Z", OFFICE, zone=BERLIN)
    assert said == Opening(
        open=True, why="window Mon-Thu 09:00-18:00 Europe/Berlin", changes_at=parse_instant("2025-11-03T17:00:00Z")
    )


def test_a_closed_window_says_when_it_opens() -> None:
    said = asked("2025-11-06T17:00:00Z", OFFICE, zone=BERLIN)  # Thursday evening
    assert said == Opening(
        open=False,
        why="outside window Mon-Thu 09:00-18:00 Europe/Berlin",
        changes_at=parse_instant("2025-11-10T08:00:00Z"),
    )


@pytest.mark.parametrize(
    ("at", "is_open"),
    [
        ("2025-11-03T08:59:59.999Z", False),
        ("2025-11-03T09:00:00Z", True),
        ("2025-11-03T17:59:59.999Z", True),
        ("2025-11-03T18:00:00Z", False),
    ],
)
def test_a_window_is_open_at_from_and_closed_at_to(at: str, is_open: bool) -> None:
    assert asked(at, OFFICE).open is is_open


@pytest.mark.parametrize(
    ("at", "is_open"),
    [
        ("2025-11-26T23:59:59.999Z", True),
        ("2025-11-27T00:00:00Z", False),
        ("2025-11-30T23:59:59.999Z", False),
        ("2025-12-01T00:00:00Z", True),
    ],
)
def test_a_freeze_holds_at_from_and_no_longer_at_to(at: str, is_open: bool) -> None:
    assert asked(at, BLACK_FRIDAY).open is is_open


def test_a_freeze_wins_over_an_open_window_and_says_when_it_really_opens() -> None:
    said = asked("2025-11-27T10:00:00Z", OFFICE, BLACK_FRIDAY)
    assert said == Opening(
        open=False,
        why="freeze black-friday until 2025-12-01 00:00 UTC",
        changes_at=parse_instant("2025-12-01T09:00:00Z"),
    )


def test_an_open_window_closes_as_a_freeze_begins() -> None:
    said = asked("2025-11-26T12:00:00Z", window(DAYS, "00:00", "24:00"), BLACK_FRIDAY)
    assert said.changes_at == BLACK_FRIDAY.from_


def test_a_window_that_opens_into_a_freeze_is_waited_out() -> None:
    said = asked("2025-11-26T20:00:00Z", OFFICE, BLACK_FRIDAY)
    assert (said.open, said.changes_at) == (False, parse_instant("2025-12-01T09:00:00Z"))


def test_freezes_that_overlap_or_touch_are_one() -> None:
    rules = (
        BLACK_FRIDAY,
        freeze("cyber-monday", "2025-11-30T12:00:00Z", "2025-12-02T12:30:00Z"),
        freeze("audit", "2025-12-02T12:30:00Z", "2025-12-02T17:59:59.5Z"),
    )
    during = asked("2025-11-28T00:00:00Z", OFFICE, *rules)
    assert during.why == "freeze black-friday until 2025-12-01 00:00 UTC"
    assert during.changes_at == parse_instant("2025-12-02T17:59:59.5Z")
    assert asked("2025-11-30T12:00:00Z", OFFICE, *rules).why == "freeze cyber-monday until 2025-12-02 12:30 UTC"
    assert asked("2025-12-02T17:59:59.5Z", OFFICE, *rules).open
    assert asked("2025-12-02T13:00:00Z", OFFICE, *rules).why == "freeze audit until 2025-12-02 17:59:59 UTC"


def test_windows_that_touch_are_one_and_each_is_named_in_its_time() -> None:
    rules = (window("Mon", "09:00", "12:00"), window("Mon", "12:00", "18:00"))
    morning, noon = asked("2025-11-03T11:59:59Z", *rules), asked("2025-11-03T12:00:00Z", *rules)
    assert (morning.why, noon.why) == ("window Mon 09:00-12:00 UTC", "window Mon 12:00-18:00 UTC")
    assert morning.changes_at == noon.changes_at == parse_instant("2025-11-03T18:00:00Z")


@pytest.mark.parametrize(
    ("rules", "why"),
    [
        ([window("Sun Mon Sat", "09:00", "10:00")], "outside window Mon, Sat-Sun 09:00-10:00 UTC"),
        (
            [window("Mon", "09:00", "10:00"), window("Tue", "22:00", "06:00")],
            "outside windows Mon 09:00-10:00 and Tue 22:00-06:00 UTC",
        ),
        ([window(day, "09:00", "10:00") for day in DAYS], "outside all 7 windows UTC"),
    ],
)
def test_what_is_missed_is_named_in_few_words(rules: list[Window], why: str) -> None:
    assert asked("2025-11-03T12:00:00Z", *rules).why == why


def test_a_window_over_midnight_belongs_to_the_day_on_which_it_opens() -> None:
    night = window("Sun", "22:00", "06:00")
    assert turns("2025-11-01T00:00:00Z", "2025-11-08T00:00:00Z", night, zone="UTC") == [
        "opens 22:00+00:00",
        "closes 06:00+00:00",
    ]
    assert asked("2025-11-03T05:59:59Z", night).open  # Monday
    assert not asked("2025-11-02T05:59:59Z", night).open  # Sunday


def test_a_window_to_24_00_ends_with_its_day_and_one_to_00_00_too() -> None:
    for closes in ("24:00", "00:00"):
        said = asked("2025-11-03T23:00:00Z", window("Mon", "20:00", closes))
        assert (said.open, said.changes_at) == (True, parse_instant("2025-11-04T00:00:00Z"))


def test_all_days_and_hours_never_change() -> None:
    always = window(DAYS, "00:00", "24:00")
    assert asked("2025-03-30T00:59:00Z", always, zone=BERLIN).changes_at is None
    assert asked("2025-03-30T00:59:00Z", *(window(day, "12:00", "12:00") for day in DAYS), zone=BERLIN).open


def test_a_time_that_the_spring_skips_opens_where_the_clock_goes_on() -> None:
    sunday = window("Sun", "02:30", "04:00")
    assert turns("2025-03-30T00:00:00Z", "2025-03-31T00:00:00Z", sunday, zone=BERLIN) == [
        "opens 03:00+02:00",
        "closes 04:00+02:00",
    ]


def test_a_time_that_the_spring_skips_closes_where_the_clock_goes_on() -> None:
    sunday = window("Sun", "01:00", "02:30")
    assert turns("2025-03-29T12:00:00Z", "2025-03-31T00:00:00Z", sunday, zone=BERLIN) == [
        "opens 01:00+01:00",
        "closes 03:00+02:00",
    ]


def test_a_window_that_the_spring_skips_whole_does_not_open_that_day() -> None:
    said = asked("2025-03-30T00:00:00Z", window("Sun", "02:00", "03:00"), zone=BERLIN)
    assert said.changes_at == parse_instant("2025-04-06T02:00:00+02:00")


def test_an_hour_that_the_autumn_repeats_belongs_to_the_window_twice() -> None:
    sunday = window("Sun", "02:00", "03:00")
    said = asked("2025-10-26T00:00:00Z", sunday, zone=BERLIN)
    assert (said.open, said.changes_at) == (True, parse_instant("2025-10-26T02:00:00Z"))


def test_a_time_within_the_repeated_hour_comes_twice_and_never_outside_the_clock() -> None:
    sunday = window("Sun", "02:15", "02:45")
    assert turns("2025-10-25T12:00:00Z", "2025-10-27T00:00:00Z", sunday, zone=BERLIN) == [
        "opens 02:15+02:00",
        "closes 02:45+02:00",
        "opens 02:15+01:00",
        "closes 02:45+01:00",
    ]


def test_a_night_is_an_hour_shorter_in_spring_and_longer_in_autumn() -> None:
    night = window("Sat", "22:00", "06:00")
    lengths = []
    for evening in ("2025-03-29T20:59:00Z", "2025-06-28T19:59:00Z", "2025-10-25T19:59:00Z"):
        opens = asked(evening, night, zone=BERLIN).changes_at
        assert opens is not None
        closes = opening([night], [], BERLIN, opens).changes_at
        assert closes is not None
        lengths.append((closes - opens) / 3600)
    assert lengths == [7, 8, 9]


def test_new_york_changes_its_clock_on_other_days_than_berlin() -> None:
    rule = window("Mon", "09:00", "18:00")
    assert asked("2025-10-27T00:00:00Z", rule, zone="America/New_York").changes_at == parse_instant(
        "2025-10-27T13:00:00Z"
    )
    assert asked("2025-11-03T00:00:00Z", rule, zone="America/New_York").changes_at == parse_instant(
        "2025-11-03T14:00:00Z"
    )
    assert asked("2025-10-27T00:00:00Z", rule, zone=BERLIN).changes_at == parse_instant("2025-10-27T08:00:00Z")


def test_kolkata_is_half_an_hour_beside_the_others() -> None:
    said = asked("2025-11-03T03:29:59Z", OFFICE, zone="Asia/Kolkata")
    assert (said.open, said.changes_at) == (False, parse_instant("2025-11-03T03:30:00Z"))


def test_lord_howe_skips_and_repeats_half_an_hour() -> None:
    sunday = window("Sun", "02:15", "02:45")
    assert turns("2025-10-04T12:00:00Z", "2025-10-05T12:00:00Z", sunday, zone="Australia/Lord_Howe") == [
        "opens 02:30+11:00",
        "closes 02:45+11:00",
    ]
    early = window("Sun", "01:45", "02:15")
    assert turns("2025-04-05T12:00:00Z", "2025-04-06T12:00:00Z", early, zone="Australia/Lord_Howe") == [
        "opens 01:45+11:00",
        "closes 01:30+10:30",  # at 02:00 the clock is put back to before the window
        "opens 01:45+10:30",
        "closes 02:15+10:30",
    ]


def test_a_day_that_a_zone_left_out_has_no_window() -> None:
    friday = window("Fri", "00:00", "24:00")  # Samoa went from Thursday to Saturday
    said = asked("2011-12-29T12:00:00Z", friday, zone="Pacific/Apia")
    assert said.changes_at == parse_instant("2012-01-06T00:00:00+14:00")


@pytest.mark.parametrize("year", [2037, 2038, 2400, 9997])
def test_clocks_are_changed_in_the_far_future_too(year: int) -> None:
    said = asked(f"{year}-07-01T00:00:00Z", window(DAYS, "09:00", "18:00"), zone=BERLIN)
    assert said.changes_at == parse_instant(f"{year}-07-01T07:00:00Z")


def test_the_last_days_of_the_calendar_are_answered() -> None:
    last = freeze("last", "9999-12-01T00:00:00Z", "9999-12-31T23:59:59Z")
    assert not asked("9999-12-31T12:00:00Z", OFFICE, last, zone=BERLIN).open
    assert asked("9999-12-31T23:59:59Z", last).open


def test_a_freeze_of_a_year_and_a_half_opens_after_it() -> None:
    long = freeze("moratorium", "2025-06-01T00:00:00Z", "2026-12-01T00:00:00Z")
    assert asked("2025-06-02T00:00:00Z", OFFICE, long).changes_at == parse_instant("2026-12-01T09:00:00Z")


def test_what_does_not_open_within_two_years_says_no_time() -> None:
    decade = freeze("decade", "2020-01-01T00:00:00Z", "2030-01-01T00:00:00Z")
    said = asked("2025-06-02T00:00:00Z", OFFICE, decade)
    assert said == Opening(open=False, why="freeze decade until 2030-01-01 00:00 UTC", changes_at=None)


def test_a_freeze_beyond_two_years_is_not_told_yet() -> None:
    assert asked("2020-01-01T00:00:00Z", BLACK_FRIDAY) == Opening(open=True, why="", changes_at=None)
    assert asked("2024-01-01T00:00:00Z", BLACK_FRIDAY).changes_at == BLACK_FRIDAY.from_


def test_a_freeze_that_ends_before_it_begins_changes_nothing() -> None:
    nothing = freeze("nothing", "2025-11-03T14:00:00Z", "2025-11-03T13:00:00Z")
    assert asked("2025-11-03T12:00:00Z", OFFICE, nothing) == asked("2025-11-03T12:00:00Z", OFFICE)


def test_an_unknown_zone_is_an_error() -> None:
    with pytest.raises(zoneinfo.ZoneInfoNotFoundError):
        asked("2025-11-03T12:00:00Z", OFFICE, zone="Mars/Olympus")


ZONES = (
    "UTC",
    BERLIN,
    "America/New_York",
    "Asia/Kolkata",
    "Australia/Lord_Howe",
    "America/Havana",  # changes at midnight
    "Pacific/Apia",
)
_CHANGES = (
    "2025-03-30T01:00:00Z",
    "2025-10-26T01:00:00Z",
    "2025-03-09T07:00:00Z",
    "2025-11-02T06:00:00Z",
    "2025-04-05T15:00:00Z",
    "2025-10-04T15:30:00Z",
    "2025-03-09T05:00:00Z",
    "2025-11-02T05:00:00Z",
    "2011-12-30T10:00:00Z",
)
_OFFERED = st.sampled_from(["00:00", "00:30", "01:59", "02:00", "02:15", "02:45", "03:00", "09:00", "18:00", "23:30"])


@st.composite
def _rules(draw: st.DrawFn) -> tuple[list[Window], list[Freeze], str, float]:
    near = parse_instant(draw(st.sampled_from(_CHANGES)))
    minutes = st.integers(-2 * 24 * 60, 2 * 24 * 60)
    now = near + MINUTE * draw(minutes) + draw(st.sampled_from([0.0, 0.001, 59.999]))
    days = st.sets(st.sampled_from(DAYS), min_size=1).map(sorted)
    windows = draw(st.lists(st.builds(window, days, _OFFERED, _OFFERED | st.just("24:00")), max_size=3))
    spans = draw(st.lists(st.tuples(minutes, st.integers(1, 3000)), max_size=3))
    freezes = [
        freeze(f"f{number}", near + MINUTE * begins, near + MINUTE * (begins + length))
        for number, (begins, length) in enumerate(spans)
    ]
    return windows, freezes, draw(st.sampled_from(ZONES)), now


def _may_raise(windows: list[Window], freezes: list[Freeze], zone: zoneinfo.ZoneInfo, at: float) -> bool:
    """The same by looking at the clock on the wall, and at nothing else."""
    if any(one.from_ <= at < one.to for one in freezes):
        return False
    local = datetime.fromtimestamp(at, zone)
    shown = local.isoformat()[11:16]
    today, yesterday = DAYS[local.isoweekday() - 1], DAYS[local.isoweekday() - 2]
    return not windows or any(
        (today in one.days and one.from_ <= shown < one.to)
        if one.from_ < one.to
        else (today in one.days and shown >= one.from_) or (yesterday in one.days and shown < one.to)
        for one in windows
    )


def _minutes(now: float, count: int) -> Iterator[float]:
    first = ceil(now / MINUTE) * MINUTE
    yield from (float(first + MINUTE * number) for number in range(count) if first + MINUTE * number > now)


@settings(max_examples=25, deadline=None)
@given(_rules())
@example(([window("Sun", "02:15", "02:45")], [], BERLIN, parse_instant("2025-10-26T00:20:00Z")))
@example(([window("Fri Sat", "23:30", "00:30")], [], "Pacific/Apia", parse_instant("2011-12-30T09:00:00Z")))
def test_it_agrees_with_the_clock_on_the_wall_and_tells_the_first_change(
    rules: tuple[list[Window], list[Freeze], str, float],
) -> None:
    windows, freezes, zone, now = rules
    said = opening(windows, freezes, zone, now)
    wall = zoneinfo.ZoneInfo(zone)
    assert said.open == _may_raise(windows, freezes, wall, now)
    first = next(
        (at for at in _minutes(now, 2 * 24 * 60) if _may_raise(windows, freezes, wall, at) != said.open),
        None,
    )
    if first is not None:
        assert said.changes_at == first
    else:
        assert said.changes_at is None or said.changes_at > now + 2 * 86400 - 2 * MINUTE
        assert said.changes_at is None or _may_raise(windows, freezes, wall, said.changes_at) != said.open


@settings(max_examples=20, deadline=None)
@given(_rules(), st.lists(st.floats(-2e5, 2e5), min_size=2, max_size=8))
def test_what_was_asked_before_changes_no_answer_even_where_the_clock_steps_back(
    rules: tuple[list[Window], list[Freeze], str, float], steps: list[float]
) -> None:
    windows, freezes, zone, now = rules
    one_after_the_other = [opening(windows, freezes, zone, now + step) for step in steps]
    afresh = []
    for step in steps:
        calendar._calendar.cache_clear()
        afresh.append(opening(windows, freezes, zone, now + step))
    assert one_after_the_other == afresh


def test_the_oracle_reads_the_clock_on_the_wall() -> None:
    at = datetime(2025, 11, 3, 12, tzinfo=UTC).timestamp()
    assert _may_raise([OFFICE], [], zoneinfo.ZoneInfo("UTC"), at)
    assert not _may_raise([OFFICE], [BLACK_FRIDAY], zoneinfo.ZoneInfo("UTC"), BLACK_FRIDAY.from_ + 43_200)

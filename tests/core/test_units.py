"""Durations, weights and instants as people write them."""

from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.core.units import (
    format_count,
    format_duration,
    format_instant,
    format_share,
    format_weight,
    parse_duration,
    parse_instant,
    parse_percent,
    parse_weight,
    write_duration,
)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30s", 30), ("10m", 600), ("1h30m", 5400), ("250ms", 0.25), ("2d", 172_800), ("1w", 604_800), ("1.5h", 5400)],
)
def test_a_duration_is_seconds(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text",
    ["", "10", "m", "-1m", "0s", "0.0h", "1h 30m", "367d", "9" * 400 + "d", "\u0661m", "1M", None, 5, True, ["1m"]],
)
def test_what_is_no_duration_is_refused_with_advice(text: object) -> None:
    with pytest.raises(ValueError, match="write a "):
        parse_duration(text)


@settings(max_examples=30, deadline=None)
@given(st.floats(min_value=1e-9, max_value=366 * 86400.0))
def test_a_written_duration_is_read_back_to_the_last_bit(seconds: float) -> None:
    assert parse_duration(write_duration(seconds)) == seconds


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(600, "10m"), (90, "90s"), (5400, "90m"), (0.25, "250ms"), (172_800, "2d"), (0.0005, "0.0005s")],
)
def test_a_duration_is_written_in_its_largest_whole_unit(seconds: float, text: str) -> None:
    assert write_duration(seconds) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(14_400, "4h"), (5400, "1h30m"), (1020, "17m"), (2.5, "2.5s"), (0.25, "250ms"), (90_061, "1d1h"), (-60, "-1m")],
)
def test_a_duration_is_shown_in_two_units_at_most(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@pytest.mark.parametrize(
    ("written", "thousandths"),
    [(10, 100), ("10", 100), ("10%", 100), ("0.1%", 1), ("100.0%", 1000), (100, 1000), (5.0, 50), ("99.9", 999)],
)
def test_a_weight_is_thousandths(written: object, thousandths: int) -> None:
    assert parse_weight(written) == thousandths


@pytest.mark.parametrize(
    "written", [0, -1, 101, "0", "100.1", "0.05%", "1e1", "5 %", " 5", "\u0665", "", None, True, [5], "nan", "1_0"]
)
def test_what_is_no_weight_is_refused_with_advice(written: object) -> None:
    with pytest.raises(ValueError, match=r"write a percentage from 0\.1% to 100%"):
        parse_weight(written)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 1000))
def test_a_shown_weight_is_read_back(thousandths: int) -> None:
    assert parse_weight(format_weight(thousandths)) == thousandths


def test_a_percentage_is_exact() -> None:
    assert parse_percent("0.1%") == Decimal("0.1")


@pytest.mark.parametrize("text", ["", "5", "%", "x%", "nan%", "inf%", 5, None])
def test_what_is_no_percentage_is_refused_with_advice(text: object) -> None:
    with pytest.raises(ValueError, match=r"such as 0\.5%"):
        parse_percent(text)


@pytest.mark.parametrize(
    "text", ["2025-11-01T14:00:00Z", "2025-11-01T15:00:00+01:00", "2025-11-01T14:00:00.000Z", "2025-11-01T13:59:60Z"]
)
def test_an_instant_carries_its_offset(text: str) -> None:
    assert parse_instant(text) == pytest.approx(1_762_005_600, abs=1)


@pytest.mark.parametrize(
    ("text", "following"),
    [
        ("2016-12-31T23:59:60Z", "2017-01-01T00:00:00Z"),
        ("2016-12-31T23:59:60.250Z", "2017-01-01T00:00:00.250Z"),
        ("2017-01-01T00:59:60+01:00", "2017-01-01T00:00:00Z"),
        ("2016-12-31 18:59:60-05:00", "2017-01-01T00:00:00Z"),
    ],
)
def test_a_leap_second_is_the_second_that_follows(text: str, following: str) -> None:
    assert parse_instant(text) == parse_instant(following)


@pytest.mark.parametrize(
    "text",
    [
        "2025-11-01T14:00:00",
        "tomorrow",
        "",
        5,
        None,
        "2025-13-01T00:00:00Z",
        "2025-11-01T14:60Z",
        "2025-11-01T14:60:00Z",
        "2025-11-01T14:00:61Z",
        "2016-12-31T23:59:60",
        "9999-12-31T23:59:60Z",
    ],
)
def test_what_is_no_instant_is_refused_with_advice(text: object) -> None:
    with pytest.raises(ValueError, match="with its offset"):
        parse_instant(text)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 4_000_000_000_000))
def test_a_written_instant_is_read_back_to_the_millisecond(milliseconds: int) -> None:
    assert parse_instant(format_instant(milliseconds / 1000)) == milliseconds / 1000


@pytest.mark.parametrize(("number", "text"), [(2100.0, "2,100"), (2.5, "2.5"), (0.0, "0")])
def test_a_count_has_separators(number: float, text: str) -> None:
    assert format_count(number) == text


@pytest.mark.parametrize(("share", "text"), [(0.00143, "0.143%"), (0.01, "1%"), (0.99954, "99.954%"), (1.0, "100%")])
def test_a_share_has_three_sensible_digits(share: float, text: str) -> None:
    assert format_share(share) == text

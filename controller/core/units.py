"""Durations, shares and instants as people write them, and as the core counts with them.

Inside the core a duration is seconds (float), a traffic weight is an integer of thousandths of the
pair's traffic (0..1000), and an instant is seconds since the epoch, UTC (float).
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from math import isfinite

FULL_WEIGHT = 1000
"""All of the pair's traffic, in thousandths."""

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_DURATION = re.compile(r"(?:[0-9]+(?:\.[0-9]+)?(?:ms|s|m|h|d|w))+")  # not \d, which takes every script's digits
_DURATION_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h|d|w)")
_WEIGHT = re.compile(r"(?:0\.[1-9]|[1-9][0-9]?(?:\.[0-9])?|100(?:\.0)?)%?")
_LONGEST = 366 * 86400.0
_LEAP_SECOND = re.compile(r"([Tt ][0-9]{2}:[0-9]{2}):60(?![0-9])")  # with the T: 14:60 without seconds is no time


def parse_duration(text: object) -> float:
    """Seconds of a duration such as ``90s``, ``1h30m``, ``250ms`` or ``2d``.

    Raises:
        ValueError: not a duration, zero or negative, or longer than 366 days.
    """
    if not isinstance(text, str) or not _DURATION.fullmatch(text):
        raise ValueError(f"{_shown(text)} is not a duration; write a number with its unit, such as 30s, 10m, 4h or 2d")
    seconds = sum(float(number) * _UNITS[unit] for number, unit in _DURATION_PART.findall(text))
    if not 0 < seconds <= _LONGEST:
        raise ValueError(f"{text} is out of range; write a duration above 0 and up to 366d")
    return seconds


def format_duration(seconds: float) -> str:
    """A duration for people, two units at most: ``4h``, ``1h30m``, ``17m``, ``2.5s``."""
    if seconds < 0:
        return "-" + format_duration(-seconds)
    if seconds < 1:
        return f"{round(seconds * 1000)}ms"
    if seconds < 60:
        return f"{seconds:.1f}".rstrip("0").rstrip(".") + "s"
    whole = round(seconds)
    parts: list[str] = []
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        count, whole = divmod(whole, size)
        if count:
            parts.append(f"{count}{unit}")
        if len(parts) == 2:
            break
    return "".join(parts) or "0s"


def write_duration(seconds: float) -> str:
    """A duration that ``parse_duration`` reads back to the last bit: ``10m``, ``90s``, ``250ms``, ``0.0315s``."""
    for unit in ("d", "h", "m", "s", "ms"):
        count = round(seconds / _UNITS[unit])
        if count and count * _UNITS[unit] == seconds:
            return f"{count}{unit}"
    return f"{Decimal(repr(seconds)):f}s"


def parse_percent(text: object) -> Decimal:
    """The number before the ``%``, exactly as written: ``0.5%`` gives ``Decimal("0.5")``.

    Raises:
        ValueError: no percent sign, or not a finite number.
    """
    if isinstance(text, str) and text.endswith("%"):
        try:
            number = Decimal(text[:-1].strip())
        except InvalidOperation:
            number = Decimal("NaN")
        if number.is_finite():
            return number
    raise ValueError(f"{_shown(text)} is not a percentage; write a number and a percent sign, such as 0.5%")


def parse_weight(value: object) -> int:
    """Thousandths of traffic of a step's weight: ``10`` (percent) gives 100, ``"0.1%"`` gives 1.

    Raises:
        ValueError: not a percentage from 0.1 to 100 in steps of 0.1.
    """
    advice = "write a percentage from 0.1% to 100% in steps of 0.1%, such as 5 or 0.5%"
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError(f"{_shown(value)} is not a weight; {advice}")
    text = str(value)
    if not _WEIGHT.fullmatch(text):
        raise ValueError(f"{_shown(value)} is not a weight; {advice}")
    return int(Decimal(text.removesuffix("%")) * 10)


def format_weight(thousandths: int) -> str:
    """A weight for people and for status: ``10%``, ``0.1%``."""
    whole, tenth = divmod(thousandths, 10)
    return f"{whole}.{tenth}%" if tenth else f"{whole}%"


def parse_instant(text: object) -> float:
    """Seconds since the epoch of an RFC 3339 instant with an offset.

    A leap second (``:60``) is the second that follows it, as the epoch counts: no clock here has one to wait for.

    Raises:
        ValueError: not an instant, or one without an offset.
    """
    advice = "write an instant with its offset, such as 2025-11-01T14:00:00Z"
    leap = 0
    if isinstance(text, datetime):
        moment = text
    elif isinstance(text, str):
        plain, leap = _LEAP_SECOND.subn(r"\1:59", text, count=1)
        try:
            moment = datetime.fromisoformat(plain)
        except ValueError:
            raise ValueError(f"{_shown(text)} is not an instant; {advice}") from None
    else:
        raise ValueError(f"{_shown(text)} is not an instant; {advice}")
    if moment.tzinfo is None:
        raise ValueError(f"{_shown(text)} has no offset from UTC; {advice}")
    instant = moment.timestamp() + leap
    try:
        format_instant(instant)
    except (ValueError, OverflowError):
        raise ValueError(f"{_shown(text)} is out of range; {advice}") from None
    return instant


def format_instant(instant: float) -> str:
    """RFC 3339 in UTC with milliseconds: what status holds, and what ``parse_instant`` reads back."""
    moment = datetime.fromtimestamp(round(instant, 3), UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def format_date(instant: float) -> str:
    """An instant for people, in UTC and to the minute: ``Nov 2 16:00``."""
    moment = datetime.fromtimestamp(instant, UTC)
    return f"{moment:%b} {moment.day} {moment:%H:%M}"


def format_count(number: float) -> str:
    """A count with thousands separators, without a fraction where there is none: ``2,100``."""
    return f"{number:,.0f}" if float(number).is_integer() else f"{number:,.1f}"


def format_share(share: float) -> str:
    """A share as a percentage with three sensible digits: ``0.143%``."""
    return f"{format_number(share * 100, 3 if share < 0.9995 else 5)}%"


def format_number(number: float, digits: int = 4) -> str:
    """A number for people with so many sensible digits and never fewer than its whole ones: ``6.025``, ``12,346``."""
    if not isfinite(number) or abs(number) >= 1e15:
        return f"{number:.{digits}g}"
    rounded = Decimal(f"{number:.{digits}g}")
    return f"{number:,.0f}" if abs(rounded) >= 10 ** (digits - 1) else f"{rounded:f}"


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."

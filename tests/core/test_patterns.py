"""Regular expressions of labels fit what Python's own fit, and take no longer for being written badly."""

from __future__ import annotations

import random
import re
import time

import pytest

from controller.core.patterns import Pattern, pattern

CASES = 3000


def expression(dice: random.Random, depth: int = 0) -> str:
    """A random pattern over a and b."""
    kind = dice.randrange(9 if depth < 3 else 4)
    if kind < 3:
        return dice.choice(["a", "b", ".", "[ab]", "[^a]", "", r"\w"])
    if kind == 3:
        return dice.choice(["^", "$", "a|b", "(?:)"]) if depth else "a|b|"
    if kind < 6:
        return expression(dice, depth + 1) + expression(dice, depth + 1)
    if kind == 6:
        return f"(?:{expression(dice, depth + 1)}|{expression(dice, depth + 1)})"
    repeat = dice.choice(["*", "+", "?", "*?", "{2}", "{1,}", "{0,2}", "{1,3}?", "{0}"])
    return f"({expression(dice, depth + 1)}){repeat}"


def test_they_fit_what_pythons_own_fit() -> None:
    dice = random.Random(7)
    compared = 0
    for _ in range(CASES):
        written = expression(dice)
        for _ in range(4):
            text = "".join(dice.choice("ab\n") for _ in range(dice.randrange(7)))
            # Python's $ fits before a newline at the end as well.
            theirs = re.fullmatch(written.replace("$", r"\Z"), text, re.DOTALL) is not None
            assert Pattern(written).fits(text) is theirs, (written, text)
            compared += theirs
    assert compared > CASES / 4


@pytest.mark.parametrize(
    ("written", "fits", "not_fits"),
    [
        ("prod-.*", "prod-eu", "prod"),
        ("eu|us", "us", "eus"),
        ("(?i)prod", "PrOd", "prods"),
        ("a(?i:b)c", "aBc", "aBC"),
        ("(?P<team>a+)", "aa", "b"),
        (r"[\[\]a-c|&~]+", "[b]|&~", "d"),
        (r"[]x]", "]", "y"),
        (r"[[:alpha:][:digit:]_]+", "a_1", "a-1"),
        (r"[^[:upper:]]", "a", "A"),
        (r"\Aa\z", "a", "aa"),
        (r"\x41\x{42}\.", "AB.", "AB-"),
        (r"\d{2,}", "123", "1"),
        (r"\d+", "1", "\u0661"),
        ("x{a}", "x{a}", "xa"),
        ("", "", "a"),
        (".", "\n", "ab"),
    ],
)
def test_they_are_read_as_prometheus_reads_them(written: str, fits: str, not_fits: str) -> None:
    assert pattern(written).fits(fits)
    assert not pattern(written).fits(not_fits)


@pytest.mark.parametrize(
    "written",
    [
        *("(", ")", "a)", "[a", "*", "a**", "a{2}{3}", "(?=a)", r"\1", r"\p{L}", "[[:greek:]]", r"\b", "a\\", "a{3,2}"),
        *("((a{999}){999}){999}", "(" * 60 + ")" * 60, "a" * 5000, r"\x{ffffff}", "[b-a]"),
    ],
)
def test_what_is_not_read_is_said(written: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        Pattern(written)


@pytest.mark.parametrize("written", ["(a+)+b", "(a|a)*b", "(a|aa)+b", "a?" * 40 + "a{40}b", ".*a.*a.*a.*a.*b"])
def test_none_takes_long(written: str) -> None:
    began = time.process_time()
    assert not Pattern(written).fits("a" * 250)
    assert time.process_time() - began < 10  # Python's own would need longer than there is time

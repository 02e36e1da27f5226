"""Regular expressions of labels, matched in a time that grows with the text and never explodes.

Python's own expressions try one way after the other, and let no other thread go on meanwhile: what somebody writes into a
silence or a plan could stop all decisions. Here all ways are followed at once, as RE2 does, which Prometheus and
Alertmanager use.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import NamedTuple

LONGEST = 4096
"""Signs of a pattern, and steps that it is made of; a longer one is not read."""
DEEPEST = 50
"""Groups within groups."""
_COUNT = re.compile(r"\{([0-9]+)(,?)([0-9]*)\}")
_SET = re.compile(r"\[\^?\]?(?:\[:[a-z]+:\]|\\.|[^\]\\])*\]", re.DOTALL)
_PLAIN = re.compile(r"\[:([a-z]+):\]|\\.|[\[&~|]", re.DOTALL)
"""Of the inside of a set: a class by its name, what is escaped already, and what Python may take for more than itself."""
_CLASSES = {
    "alpha": "a-zA-Z",
    "digit": "0-9",
    "alnum": "a-zA-Z0-9",
    "lower": "a-z",
    "upper": "A-Z",
    "word": r"\w",
    "space": r"\s",
    "xdigit": "0-9a-fA-F",
}
_EDGES = {"^": "begin", "$": "end", "\\A": "begin", "\\z": "end"}
_OPENS = re.compile(r"\((?:\?(?:P?<[a-zA-Z_][a-zA-Z0-9_]*>|(?P<flags>[isU]*)(?P<ends>[:)])))?")
_HEX = re.compile(r"\\x(?:[0-9a-fA-F]{2}|\{([0-9a-fA-F]{1,6})\})")
_KINDS = "dDsSwW"
_CONTROLS = "aftnrv"

Test = Callable[[str], bool]


class _Step(NamedTuple):
    """One sign that meets ``test``, then the next step; or without a test on to each of ``to``, at ``edge`` only."""

    test: Test | None
    to: tuple[int, ...] = ()
    edge: str = ""


class Pattern:
    """One expression that has to fit a whole text; ``.`` is any sign. Raises ValueError for one that is not read here."""

    def __init__(self, text: str) -> None:
        if len(text) > LONGEST:
            raise ValueError(f"has more than {LONGEST} signs")
        self._steps = _Reader(text).steps()

    def fits(self, text: str) -> bool:
        """Whether the whole text is one that the expression describes."""
        steps = self._steps
        here = self._reached((0,), at_begin=True, at_end=not text)
        for place, sign in enumerate(text, 1):
            passed = (step + 1 for step in here if (test := steps[step].test) is not None and test(sign))
            here = self._reached(passed, at_begin=False, at_end=place == len(text))
            if not here:
                return False
        return len(steps) - 1 in here

    def _reached(self, begins: Iterable[int], *, at_begin: bool, at_end: bool) -> set[int]:
        """The steps that can come next, without another sign of the text."""
        seen: set[int] = set()
        left = list(begins)
        while left:
            place = left.pop()
            if place in seen:
                continue
            seen.add(place)
            step = self._steps[place]
            if (step.edge != "begin" or at_begin) and (step.edge != "end" or at_end):
                left += step.to
        return seen


@lru_cache(maxsize=512)
def pattern(text: str) -> Pattern:
    """The expression; the newest ones are kept. Raises ValueError for one that is not read here."""
    return Pattern(text)


class _Reader:
    """Turns a pattern into steps, in the order in which it is written."""

    def __init__(self, text: str) -> None:
        self._text, self._at = text, 0
        self._steps: list[_Step] = []

    def steps(self) -> tuple[_Step, ...]:
        self._either(re.ASCII, 0)
        if self._at < len(self._text):
            raise ValueError("closes a group that is not open")
        self._add(_Step(None))  # where a text that fits ends
        return tuple(self._steps)

    def _either(self, flags: int, depth: int) -> None:
        """Alternatives, up to the end of their group."""
        if depth > DEEPEST:
            raise ValueError(f"has more than {DEEPEST} groups within groups")
        begin = len(self._steps)
        ends: list[int] = []
        flags = self._row(flags, depth)
        while self._text.startswith("|", self._at):
            self._at += 1
            self._insert(begin, _Step(None, (begin + 1, len(self._steps) + 2)))
            ends.append(len(self._steps))
            self._add(_Step(None))
            begin = len(self._steps)
            flags = self._row(flags, depth)
        for end in ends:
            self._steps[end] = _Step(None, (len(self._steps),))

    def _row(self, flags: int, depth: int) -> int:
        """One thing after the other; the flags at its end."""
        while self._at < len(self._text) and self._text[self._at] not in "|)":
            begin = len(self._steps)
            opened = _OPENS.match(self._text, self._at) if self._text[self._at] == "(" else None
            if opened is None:
                self._one(flags)
            else:
                self._at = opened.end()
                inner = flags | re.IGNORECASE if "i" in (opened["flags"] or "") else flags
                if opened["ends"] == ")":
                    flags = inner
                    continue
                self._either(inner, depth + 1)
                if not self._text.startswith(")", self._at):
                    raise ValueError("has a group that is not closed")
                self._at += 1
            self._repeat(begin)
        return flags

    def _one(self, flags: int) -> None:
        """One sign, or an edge of the text."""
        text, at = self._text, self._at
        sign = text[at]
        for written, edge in _EDGES.items():
            if text.startswith(written, at):
                self._at += len(written)
                self._add(_Step(None, (len(self._steps) + 1,), edge))
                return
        if sign in "(*+?" or (sign == "{" and _COUNT.match(text, at)):
            raise ValueError(f"has {text[at : at + 3]!r}, which is not read here")
        if sign == "[":
            found = _SET.match(text, at)
            if found is None or "--" in found[0]:
                raise ValueError("has a bracket that is not read here")
            written, self._at = f"[{_PLAIN.sub(_escape, found[0][1:])}", found.end()
        elif sign == "\\":
            written = self._escaped()
        else:
            self._at += 1
            written = "." if sign == "." else re.escape(sign)
        try:
            compiled = re.compile(written, flags | re.DOTALL)
        except re.error as error:
            raise ValueError(f"is none ({error})") from error
        self._add(_Step(lambda one: compiled.fullmatch(one) is not None))

    def _escaped(self) -> str:
        text, at = self._text, self._at
        if found := _HEX.match(text, at):
            self._at = found.end()
            code = int(found[1] or found[0][2:], 16)
            if code > 0x10FFFF:
                raise ValueError(f"has {found[0]}, which is no sign")
            return re.escape(chr(code))
        sign = text[at + 1 : at + 2]
        self._at += 2
        if sign and (sign in _KINDS or sign in _CONTROLS):
            return f"\\{sign}"
        if not sign or sign.isalnum():
            raise ValueError(f"has \\{sign}, which is not read here")
        return re.escape(sign)

    def _repeat(self, begin: int) -> None:
        """What was read last, as often as is written behind it."""
        text, at = self._text, self._at
        sign = text[at : at + 1]
        if found := _COUNT.match(text, at):
            least = int(found[1])
            most = int(found[3]) if found[3] else (None if found[2] else least)
            if most is not None and most < least:
                raise ValueError(f"has {found[0]}, whose second number is the smaller one")
            self._at = found.end()
        elif sign and sign in "*+?":
            least, most = int(sign == "+"), 1 if sign == "?" else None
            self._at += 1
        else:
            return
        self._at += self._text.startswith("?", self._at)  # which way is tried first makes no difference
        if self._text[self._at : self._at + 1] in ("*", "+", "?"):
            raise ValueError("repeats a repetition")
        part = self._steps[begin:]
        del self._steps[begin:]
        for _ in range(least):
            self._append(part, begin)
        if most is None:
            loop = len(self._steps)
            self._add(_Step(None, (loop + 1, loop + len(part) + 2)))
            self._append(part, begin)
            self._add(_Step(None, (loop,)))
            return
        for left in range(most - least, 0, -1):
            here = len(self._steps)
            self._add(_Step(None, (here + 1, here + left * (len(part) + 1))))
            self._append(part, begin)

    def _append(self, part: list[_Step], begin: int) -> None:
        """A copy of steps that stood at ``begin``."""
        moved = len(self._steps) - begin
        for step in part:
            self._add(step._replace(to=tuple(place + moved for place in step.to)))

    def _insert(self, place: int, step: _Step) -> None:
        """A step before others, which all lead to each other or to what comes behind them."""
        part = self._steps[place:]
        del self._steps[place:]
        self._add(step)
        for one in part:
            self._add(one._replace(to=tuple(to + 1 for to in one.to)))

    def _add(self, step: _Step) -> None:
        if len(self._steps) >= LONGEST:
            raise ValueError(f"has more than {LONGEST} steps")
        self._steps.append(step)


def _escape(found: re.Match[str]) -> str:
    if found[1] is not None:
        if found[1] not in _CLASSES:
            raise ValueError(f"has [:{found[1]}:], which is not read here")
        return _CLASSES[found[1]]
    return found[0] if len(found[0]) == 2 else f"\\{found[0]}"

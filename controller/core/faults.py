"""What is wrong in a plan, and how it is told."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date
from typing import Any, NamedTuple

Place = tuple[str | int, ...]
"""Where in a document: ``("spec", "phases", 0, "name")``."""


class Fault(NamedTuple):
    """One thing that is wrong in a plan: where (``spec.phases[0].steps[1].weight``) and what to write instead."""

    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}"


class InvalidPlanError(Exception):
    """A plan with faults; all of them."""

    def __init__(self, faults: tuple[Fault, ...]) -> None:
        super().__init__("; ".join(map(str, faults)))
        self.faults = faults


def path_text(place: Iterable[str | int]) -> str:
    """A place as people write it: ``spec.phases[0].name``."""
    text = ""
    for part in place:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += f".{part}" if text else part
    return text


def shown(value: Any) -> str:
    """A value of a document in a message, at most 60 characters."""
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list | tuple):
        return "a list"
    if value is None:
        return "nothing (null)"
    if isinstance(value, bool):
        return "true" if value else "false"
    text = value.isoformat() if isinstance(value, date) else ascii(value)
    return text if len(text) <= 60 else text[:57] + "..."


def listed(words: Iterable[str], last: str = "or") -> str:
    """``a, b or c``."""
    *first, final = words
    return f"{', '.join(first)} {last} {final}" if first else final

"""One row per figure, with its unit and its spread."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True)
class Figure:
    """What was measured: all values in one unit, and the goal in words."""

    name: str
    unit: str
    values: Sequence[float]
    goal: str = ""

    @property
    def median(self) -> float:
        """The middle value."""
        return statistics.median(self.values)


def show(figures: Sequence[Figure], file: Path) -> None:
    """Print the table and write it as JSON."""
    table = Table("figure", "runs", "min", "median", "max", "unit", "goal")
    for figure in figures:
        spread = (min(figure.values), figure.median, max(figure.values))
        table.add_row(
            figure.name, str(len(figure.values)), *(f"{value:,.3g}" for value in spread), figure.unit, figure.goal
        )
    Console(width=140).print(table)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps([asdict(figure) | {"median": figure.median} for figure in figures], indent=1))

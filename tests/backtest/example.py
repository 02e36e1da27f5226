"""``python -m tests.backtest.example``: write the example of docs/backtest.md and its picture anew.

What is shown is what the command prints of a release whose every count is known.
"""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from controller.backtest.past import Backtest, Span
from controller.backtest.picture import draw
from controller.commands.backtest import picture, tell
from controller.commands.evidence import bar, lines
from controller.core.plan import parse
from controller.core.report import scored
from controller.core.units import format_instant
from controller.core.verdicts import judge
from tests.backtest.grounds import T0, Count, Minute, asked_of, counts
from tests.realparts.parts import ROOT

PAGE, PICTURE = ROOT / "docs" / "backtest.md", ROOT / "docs" / "images" / "backtest.svg"
HOUR = 3600
_LONGEST = 112


def course(track: str, second: int) -> Minute | None:
    """A canary at 5 %, 25 % and 50 % of 40 requests/s; in its fourth hour it turns bad, and nobody sees it for an hour."""
    weight = next((w for until, w in ((1, 0.0), (2, 0.05), (3, 0.25), (5, 0.5)) if second <= until * HOUR), 0.0)
    if track == "stable":
        return Minute(40 * (1 - weight), 0.002)
    return Minute(40 * weight, 0.02 if second > 4 * HOUR else 0.003) if weight else None


def made(page: str) -> tuple[str, str]:
    """The page with what is printed today of the plan that it shows, and the picture."""
    plan = re.search(r"```yaml\n(.*?)```", page, re.DOTALL)
    assert plan is not None
    truth = counts(course, 6 * HOUR)
    shown, drawn = [], ""
    for release, every in ((True, None), (False, 3600.0)):
        past = Backtest(
            parse(yaml.safe_load(plan[1])), Span(float(T0), float(T0 + 6 * HOUR), 10.0, release, every=every)
        )
        for _ in past.run(asked_of(truth)):
            pass
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            tell(past)
        shown.append("\n".join(_cut(line) for line in printed.getvalue().splitlines()))
        drawn = drawn or draw(picture(past))
    texts = iter([*shown, _evidence(yaml.safe_load(plan[1]), truth)])
    # The first line of each example is the command.
    page = re.sub(
        r"(```\n\$ auto-advance [^\n]*\n).*?(```)", lambda m: f"{m[1]}{next(texts)}\n{m[2]}", page, flags=re.DOTALL
    )
    return page, drawn


def _evidence(plan: dict[str, Any], truth: Mapping[str, Mapping[int, Count]]) -> str:
    """What `explain --evidence` showed of a launch with these rows a few minutes after its second raise."""
    at = T0 + 2 * HOUR + 180
    past = Backtest(parse(plan), Span(float(T0), float(at), 10.0, release=True))
    for _ in past.run(asked_of(truth)):
        pass
    bars = []
    for line in past.lines:
        criterion, target = line.item.criterion, line.item.target
        assert line.fold is not None
        bars.append(bar(criterion, target, line.fold, scored(judge(criterion, target, line.fold, None, at))))
    subtitle = f"phase ramp, step 2, 25%; evidence up to {format_instant(at - 10)[:19]}Z"
    bars = [
        replace(each, verdict=line.outcome, sentence=line.sentence) for each, line in zip(bars, past.lines, strict=True)
    ]
    bars = [replace(each, sentence=each.sentence.partition("): ")[2]) for each in bars]
    return "\n".join(line.plain for line in lines("shop/checkout: Progressing", subtitle, bars, _LONGEST))


def _cut(line: str) -> str:
    return line if len(line) <= _LONGEST else f"{line[: _LONGEST - 3]}..."


def main() -> None:
    """Write both."""
    page, drawn = made(PAGE.read_text(encoding="utf-8"))
    for path, text in ((PAGE, page), (PICTURE, drawn)):
        Path(path).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()

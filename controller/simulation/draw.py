"""A picture of a simulation: weights and verdicts over time, as SVG.

Months and seconds stand side by side in a launch, so time is not to scale: every span between two decisions is as wide
as the logarithm of its length, and the dates below say where it is.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from html import escape
from itertools import pairwise
from math import log1p

from controller.core.units import FULL_WEIGHT, format_instant, format_weight, parse_instant
from controller.simulation.run import Outcomes

WIDTH = 1200
_LEFT, _RIGHT, _TOP = 250, 24, 74
_LANE, _STRIP, _GAP = 44, 13, 8
_LETTERS = 38
_VERDICTS = {"fail": "#cf222e", "no data": "#8c959f", "undecided": "#e0b93f", "pass": "#2da44e"}
"""From the worst to the best: of several targets a strip shows the worst."""
_STATES = {
    "Held": "#cf222e",
    "RollingBack": "#a40e26",
    "RolledBack": "#a40e26",
    "Succeeded": "#2da44e",
    "AwaitingApproval": "#8250df",
    "Scheduled": "#8c959f",
}
_OTHER_STATE = "#0969da"
_GATES = {
    "PhasePassed": _VERDICTS["pass"],
    "LaunchPassed": _VERDICTS["pass"],
    "GateApprovalWanted": _STATES["AwaitingApproval"],
    "NoData": _VERDICTS["no data"],
}
"""By what came of it; anything else is bad news, or a delay."""
_BAD_NEWS = ("GateFailed", "GateUndecided", "Escalated", "DeliverablesMissing", "HeldByBreach", "Breach")
_STYLE = (
    "text{font:12px system-ui,sans-serif;fill:#1f2328}.small{font-size:10px;fill:#59636e}"
    ".title{font-size:16px;font-weight:600}"
)


class _Axis:
    """Where an instant stands from left to right."""

    def __init__(self, instants: Iterable[float]) -> None:
        self.instants = sorted(set(instants))
        spans = [1.0 + log1p((after - before) / 60) for before, after in pairwise(self.instants)]
        unit = (WIDTH - _LEFT - _RIGHT) / (sum(spans) or 1.0)
        self.places = [float(_LEFT)]
        for span in spans:
            self.places.append(self.places[-1] + span * unit)

    def at(self, instant: float) -> float:
        place = bisect_right(self.instants, instant) - 1
        if place < 0:
            return self.places[0]
        if place + 1 >= len(self.instants):
            return self.places[-1]
        before, after = self.instants[place], self.instants[place + 1]
        share = (instant - before) / (after - before)
        return self.places[place] + share * (self.places[place + 1] - self.places[place])

    def dates(self) -> Iterator[tuple[float, float]]:
        """Instants with room for their dates beside each other, and where they stand."""
        last = -1e9
        for instant, place in zip(self.instants, self.places, strict=True):
            room = self.places[-1] - place >= 92 or place == self.places[-1]
            if place - last >= 92 and room:
                yield instant, place
                last = place


def draw(found: Outcomes, name: str) -> str:
    """The picture of what a simulation gave; ``name`` is the launch's."""
    axis = _Axis([found.began_at, *(made.at for made in found.decisions), found.ended_at])
    targets = list(dict.fromkeys(target for made in found.decisions for target in made.weights))
    criteria = list(dict.fromkeys(key.partition("|")[2] for look in found.looks for key in look.verdicts))
    lanes = _TOP + len(targets) * (_LANE + _GAP)
    strips = lanes + _GAP + len(criteria) * (_STRIP + 3)
    height = strips + 112
    return "\n".join(
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img">',
            f"<title>{escape(name)}: {escape(found.outcome)}</title>",
            f"<style>{_STYLE}</style>",
            f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
            f'<text class="title" x="16" y="26">{escape(name)}: {escape(found.outcome)}</text>',
            f'<text class="small" x="16" y="44">{escape(_cut(found.ended, 190))}</text>',
            *_phases(found, axis, strips),
            *_weights(found, axis, targets),
            *_verdicts(found, axis, criteria, lanes + _GAP),
            *_gates(found, axis, strips + 8),
            *_decisions(found, axis, strips + 24),
            *_dates(axis, strips + 46),
            *_legend(strips + 82),
            "</svg>",
            "",
        )
    )


def _phases(found: Outcomes, axis: _Axis, bottom: int) -> Iterator[str]:
    began: dict[str, float] = {}
    for made in found.decisions:
        if made.phase:
            began.setdefault(made.phase, made.at)
    edges = [*began.values(), found.ended_at]
    for number, (phase, (begin, end)) in enumerate(zip(began, pairwise(edges), strict=True)):
        left, right = axis.at(begin), axis.at(end)
        shade = "#f6f8fa" if number % 2 else "#eef3f8"
        yield f'<rect x="{left:.1f}" y="{_TOP - 20}" width="{right - left:.1f}" height="{bottom - _TOP + 24}" fill="{shade}"/>'
        room = int((right - left) / 6)
        yield f'<text class="small" x="{left + 3:.1f}" y="{_TOP - 8}">{escape(_cut(phase, room))}<title>{escape(phase)}</title></text>'


def _weights(found: Outcomes, axis: _Axis, targets: list[str]) -> Iterator[str]:
    for number, target in enumerate(targets):
        top = _TOP + number * (_LANE + _GAP)
        bottom = top + _LANE
        yield f'<text x="16" y="{top + 26}">{escape(_cut(target, _LETTERS))}</text>'
        yield f'<line x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{bottom}" y2="{bottom}" stroke="#d1d9e0"/>'
        height, points = float(bottom), [f"{_LEFT},{bottom}"]
        marks = []
        for at, name, weight in found.weights:
            if name == target:
                x, y = axis.at(at), bottom - _LANE * weight / FULL_WEIGHT
                points += [f"{x:.1f},{height:.1f}", f"{x:.1f},{y:.1f}"]
                title = f"{format_instant(at)}: {format_weight(weight)}"
                marks.append(
                    f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.5" fill="{_OTHER_STATE}"><title>{title}</title></circle>'
                )
                beside = y - 4 if y > bottom - 14 else y + 10
                marks.append(f'<text class="small" x="{x + 4:.1f}" y="{beside:.1f}">{format_weight(weight)}</text>')
                height = y
        last = WIDTH - _RIGHT
        points += [f"{last},{height:.1f}", f"{last},{bottom}"]
        path = " ".join(points)
        yield f'<polygon points="{path}" fill="#0969da" fill-opacity="0.25" stroke="{_OTHER_STATE}" stroke-width="1"/>'
        yield from marks


def _verdicts(found: Outcomes, axis: _Axis, criteria: list[str], top: int) -> Iterator[str]:
    ends = [*(look.at for look in found.looks[1:]), found.ended_at]
    for number, criterion in enumerate(criteria):
        y = top + number * (_STRIP + 3)
        yield f'<text class="small" x="16" y="{y + 10}">{escape(_cut(criterion, _LETTERS))}</text>'
        spans: list[tuple[float, float, str]] = []
        for look, end in zip(found.looks, ends, strict=True):
            verdicts = {value for key, value in look.verdicts.items() if key.partition("|")[2] == criterion}
            worst = next((word for word in _VERDICTS if word in verdicts), "")
            if spans and spans[-1][2] == worst:
                spans[-1] = (spans[-1][0], end, worst)
            else:
                spans.append((look.at, end, worst))
        for begin, end, verdict in spans:
            left, right = axis.at(begin), axis.at(end)
            if verdict and right > left:
                title = f"{criterion}: {verdict} from {format_instant(begin)} to {format_instant(end)}"
                yield (
                    f'<rect x="{left:.1f}" y="{y}" width="{max(right - left, 0.5):.1f}" height="{_STRIP}" '
                    f'fill="{_VERDICTS[verdict]}"><title>{escape(title)}</title></rect>'
                )


def _gates(found: Outcomes, axis: _Axis, top: int) -> Iterator[str]:
    """A diamond where a gate was judged and something came of it: passed, put off, or held."""
    yield f'<text class="small" x="16" y="{top + 8}">gates</text>'
    for gate in found.gates:
        x, y = axis.at(parse_instant(gate["time"])), top + 4
        bad = gate["signal"] in _BAD_NEWS
        colour = _GATES.get(gate["signal"], _VERDICTS["fail" if bad else "undecided"])
        title = f"{gate['time']} gate of {gate['phase']}: {gate['signal']}: {_cut(gate['reason'], 300)}"
        points = f"{x - 5:.1f},{y} {x:.1f},{y - 5} {x + 5:.1f},{y} {x:.1f},{y + 5}"
        yield f'<polygon points="{points}" fill="{colour}"><title>{escape(title)}</title></polygon>'


def _decisions(found: Outcomes, axis: _Axis, top: int) -> Iterator[str]:
    yield f'<text class="small" x="16" y="{top + 8}">decisions</text>'
    for made in found.decisions:
        x = axis.at(made.at)
        title = f"{format_instant(made.at)} {made.state} {made.signal}: {_cut(made.reason, 300)}"
        colour = _STATES.get(made.state, _OTHER_STATE)
        yield f'<circle cx="{x:.1f}" cy="{top + 4}" r="3.5" fill="{colour}"><title>{escape(title)}</title></circle>'


def _dates(axis: _Axis, top: int) -> Iterator[str]:
    for instant, x in axis.dates():
        text = format_instant(instant)
        yield f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{top - 8}" y2="{top - 3}" stroke="#59636e"/>'
        anchor = ' text-anchor="end"' if x > WIDTH - 80 else ""
        yield f'<text class="small" x="{x:.1f}" y="{top + 8}"{anchor}>{text[:10]}</text>'
        yield f'<text class="small" x="{x:.1f}" y="{top + 20}"{anchor}>{text[11:19]}</text>'


def _legend(top: int) -> Iterator[str]:
    x = 16
    for verdict, colour in _VERDICTS.items():
        yield f'<rect x="{x}" y="{top}" width="12" height="12" fill="{colour}"/>'
        yield f'<text class="small" x="{x + 17}" y="{top + 10}">{verdict}</text>'
        x += 84
    yield f'<text class="small" x="{x}" y="{top + 10}">UTC; time is not to scale: quiet spans are short</text>'


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[: max(most - 1, 0)] + "…"

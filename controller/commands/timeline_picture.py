"""A timeline as a picture: bars on an axis of time, for a terminal and as SVG."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from datetime import UTC, datetime
from html import escape
from itertools import pairwise
from math import log1p
from zoneinfo import ZoneInfo

from controller.core.schedule import LATE
from controller.core.timeline import PhaseRow, Timeline
from controller.core.units import FULL_WEIGHT, format_duration, format_weight

WIDTH = 1240
_LEFT, _RIGHT, _TOP, _ROW, _NOTE = 252, 36, 118, 58, 17
_NARROW = 0.035
"""A phase of less than this share of the whole cannot be read on an even axis."""
_TICKS = (1, 5, 15, 30, 60, 300, 900, 1800, 3600, 10800, 21600, 43200, 86400, 172800, 604800, 1209600, 2419200, 7257600)
_MOST_TICKS = 10
_MONTHS_ARE_ONE_YEARS = 300 * 86400.0
_FILLS = {"past": "#2da44e", "now": "#0969da", "to come": "#6e9fd6", "stopped": "#cf222e", "not reached": "#c4ccd4"}
_GATES = {
    "passed": "#1a7f37",
    "failed": "#cf222e",
    "undecided": "#d4a72c",
    "waiting": "#8250df",
    "judged": "#0969da",
    "to come": "#ffffff",
    "not reached": "#ffffff",
}
_DOTS = {
    "passed": "#2da44e",
    "failed": "#cf222e",
    "undecided": "#d4a72c",
    "missed": "#57606a",
    "taken": "#8c959f",
    "to come": "#ffffff",
    "not taken": "#ffffff",
}
_STATES = {
    "Held": "#9a6700",
    "RolledBack": "#cf222e",
    "RollingBack": "#cf222e",
    "Invalid": "#cf222e",
    "Succeeded": "#1a7f37",
}
_STYLE = (
    "text{font:12px system-ui,-apple-system,'Segoe UI','DejaVu Sans',sans-serif;fill:#1f2328}"
    ".title{font-size:18px;font-weight:600}.name{font-size:13px;font-weight:600}"
    ".small{font-size:10.5px;fill:#59636e}.tick{font-size:10.5px;fill:#59636e;text-anchor:middle}"
    ".late{font-size:10.5px;fill:#9a6700}.weight{font-size:10px;fill:#ffffff;text-anchor:middle}"
    ".now{font-size:11px;fill:#cf222e;font-weight:600;text-anchor:middle}"
)


class Scale:
    """Where an instant stands between 0 and 1.

    Hours and months stand side by side in a launch. Where an even axis would make a phase too small to be read, each
    span between two dates of the plan is as wide as the logarithm of its length: ``even`` is false then.
    """

    def __init__(self, line: Timeline) -> None:
        knots = sorted({instant for row in line.phases for instant in _edges(row)} | {line.begins, line.ends})
        spans = [after - before for before, after in pairwise(knots)]
        whole = (line.ends - line.begins) or 1.0
        lengths = [_length(row) for row in line.phases]
        self.even = len(spans) < 2 or all(length / whole >= _NARROW for length in lengths if length > 0)
        wide = spans if self.even else [0.2 + log1p(span / 60) for span in spans]
        total = sum(wide) or 1.0
        self.knots, self.places = knots, [0.0]
        for span in wide:
            self.places.append(self.places[-1] + span / total)

    def at(self, instant: float) -> float:
        """Where it stands; before the first and after the last date it is at the edge."""
        place = bisect_right(self.knots, instant) - 1
        if place < 0:
            return 0.0
        if place + 1 >= len(self.knots):
            return 1.0
        before, after = self.knots[place], self.knots[place + 1]
        share = (instant - before) / (after - before)
        return self.places[place] + share * (self.places[place + 1] - self.places[place])


def _edges(row: PhaseRow) -> Iterator[float]:
    edges = (row.planned_start, row.planned_pass, row.planned_end, row.start, row.passes, row.ends)
    yield from (edge for edge in edges if edge is not None)


def _pieces(row: PhaseRow) -> Iterator[tuple[float, int | None, str]]:
    """Since when which weight was, or will be; steps whose times are not kept any more are one piece."""
    assert row.start is not None
    steps = [step for step in row.steps if step.tense != "not reached"]
    known = next(
        (number for number, step in enumerate(steps) if all(each.at is not None for each in steps[number:])), len(steps)
    )
    if known > 0 and steps:
        first, last = steps[0].weight, steps[known - 1].weight
        words = format_weight(last) if first == last else f"{format_weight(first)} to {format_weight(last)}"
        yield row.start, last, words
    elif not steps:
        yield row.start, None, ""
    for number, step in enumerate(steps[known:], start=known):
        assert step.at is not None
        yield (row.start if number == 0 else max(row.start, step.at)), step.weight, format_weight(step.weight)


def _length(row: PhaseRow) -> float:
    if row.start is None:
        return row.planned_end - row.planned_start
    return (row.ends or row.passes or row.start) - row.start


class Clock:
    """Instants as the plan's people read them: in its time zone, or from its beginning on where it names no date."""

    def __init__(self, line: Timeline) -> None:
        self._relative = line.relative
        self._zone = ZoneInfo(line.zone)
        first, last = self._local(line.begins).year, self._local(line.ends).year
        self._yearly = not line.relative and line.ends - line.begins > _MONTHS_ARE_ONE_YEARS
        self.years = "" if line.relative else f"{first}" if first == last else f"{first} and {last}"
        """The years of it, of which the dates say nothing unless a month may come twice."""
        self.short = (line.ends - line.begins) < 1800
        """Whether seconds matter."""

    def _local(self, instant: float) -> datetime:
        return datetime.fromtimestamp(instant, UTC).astimezone(self._zone)

    def date(self, instant: float) -> str:
        """``Nov 2``; where that may be two of them, ``Nov 2 2025``; empty without dates."""
        if self._relative:
            return ""
        local = self._local(instant)
        return f"{local:%b} {local.day}" + (f" {local.year}" if self._yearly else "")

    def time(self, instant: float) -> str:
        """``16:00``, or how long after the beginning."""
        if self._relative:
            return f"+{format_duration(instant)}" if instant > 0 else "0"
        return f"{self._local(instant):{'%H:%M:%S' if self.short else '%H:%M'}}"

    def full(self, instant: float) -> str:
        """Both."""
        return f"{self.date(instant)} {self.time(instant)}".strip()

    def ticks(self, line: Timeline) -> Iterator[float]:
        """Round instants for an even axis."""
        whole = line.ends - line.begins
        step = next((step for step in _TICKS if whole / step <= _MOST_TICKS), _TICKS[-1])
        offset = self._local(line.begins).utcoffset()
        ahead = 0.0 if self._relative or offset is None else offset.total_seconds()
        tick = -((-(line.begins + ahead)) // step) * step - ahead
        while tick <= line.ends:
            yield tick
            tick += step


def draw(line: Timeline) -> str:
    """The picture as one SVG file that needs no other."""
    return _Drawing(line).text()


class _Drawing:
    def __init__(self, line: Timeline) -> None:
        self.line, self.scale, self.clock = line, Scale(line), Clock(line)
        self.tops = []
        top = _TOP
        for row in line.phases:
            self.tops.append(top)
            top += _ROW + (_NOTE if _note(row, self.clock) else 0)
        self.bottom = top
        self.height = top + 74

    def x(self, instant: float) -> float:
        return _LEFT + self.scale.at(instant) * (WIDTH - _LEFT - _RIGHT)

    def text(self) -> str:
        line = self.line
        title = f"{line.launch}, revision {line.revision}"
        state = line.state or "not started"
        return "\n".join(
            (
                f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{self.height}" '
                f'viewBox="0 0 {WIDTH} {self.height}" role="img">',
                f"<title>{_safe(title)}: {_safe(state)}</title>",
                f"<style>{_STYLE}</style>",
                f'<rect width="{WIDTH}" height="{self.height}" fill="#ffffff"/>',
                f'<text class="title" x="20" y="32">{_safe(_cut(title, 90))}</text>',
                f'<text x="20" y="54" style="fill:{_STATES.get(state, "#0969da")};font-weight:600">{_safe(state)}</text>',
                f'<text x="{30 + 8 * len(state)}" y="54">{_safe(_cut(line.message, 165 - len(state)))}</text>',
                f'<text class="small" x="20" y="72">{_safe(_cut(self._rules(), 190))}</text>',
                *self._rows(),
                *self._closed(),
                *self._axis(),
                *(part for row, top in zip(line.phases, self.tops, strict=True) for part in self._phase(row, top)),
                *self._now(),
                *self._legend(),
                "</svg>",
                "",
            )
        )

    def _rules(self) -> str:
        said = ["times from the beginning" if self.line.relative else f"times in {self.line.zone}, {self.clock.years}"]
        if self.line.zone != "UTC" and any((self.line.message, *(row.why for row in self.line.phases))):
            said[0] += " (UTC in reasons)"
        if not self.scale.even:
            said.append("not to scale: long spans are drawn shorter")
        windows = next((closed.why for closed in self.line.closed if closed.why.startswith("outside ")), "")
        if windows:
            said.append(f"no raises {windows}")
        return "; ".join(said)

    def _rows(self) -> Iterator[str]:
        for number, (row, top) in enumerate(zip(self.line.phases, self.tops, strict=True)):
            height = _ROW + (_NOTE if _note(row, self.clock) else 0)
            fill = "#eaf3ff" if row.here else "#f6f8fa" if number % 2 == 0 else "#ffffff"
            yield f'<rect x="0" y="{top}" width="{WIDTH}" height="{height}" fill="{fill}"/>'

    def _closed(self) -> Iterator[str]:
        freezes = [closed for closed in self.line.closed if closed.why.startswith("freeze ")]
        # a name may go on under what follows, up to the next name
        edges = {closed: self.x(after.start) for closed, after in pairwise(freezes)}
        for closed in self.line.closed:
            left, right = self.x(closed.start), self.x(closed.end)
            if right - left < 1:
                continue
            height = self.bottom - _TOP
            why = f"no raises from {self.clock.full(closed.start)} to {self.clock.full(closed.end)}: {closed.why}"
            yield (
                f'<rect x="{left:.1f}" y="{_TOP}" width="{right - left:.1f}" height="{height}" fill="#bf8700" '
                f'fill-opacity="0.10"><title>{_safe(why)}</title></rect>'
            )
            name = closed.why.removeprefix("freeze ").partition(" until ")[0]
            room = int((edges.get(closed, WIDTH) - left) / 6)
            if closed in freezes and room > 2:
                yield f'<text class="late" x="{left + 3:.1f}" y="{self.bottom + 12}">{_safe(_cut(name, room))}</text>'

    def _axis(self) -> Iterator[str]:
        last = -1e9
        ticks = list(self.clock.ticks(self.line)) if self.scale.even else list(self._dates())
        yield f'<line x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{_TOP}" y2="{_TOP}" stroke="#8c959f"/>'
        for tick in ticks:
            x = self.x(tick)
            yield (
                f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP - 4}" y2="{self.bottom}" stroke="#d1d9e0" '
                'stroke-width="1" stroke-dasharray="2 3"/>'
            )
            if x - last < 62:
                continue
            last = x
            if date := self.clock.date(tick):
                yield f'<text class="tick" x="{x:.1f}" y="{_TOP - 22}">{date}</text>'
            yield f'<text class="tick" x="{x:.1f}" y="{_TOP - 9}">{self.clock.time(tick)}</text>'

    def _dates(self) -> Iterator[float]:
        """The begins of the phases, which are what people look for, and the end."""
        starts = {row.planned_start if row.start is None else row.start for row in self.line.phases}
        yield from sorted({*starts, self.line.ends})

    def _phase(self, row: PhaseRow, top: int) -> Iterator[str]:
        clock, late = self.clock, _moved(row)
        name = f"{row.number}. {row.name}"
        mark = {"past": "✓ ", "now": "▶ ", "stopped": "✗ "}.get(row.tense, "▷ " if row.here else "")
        yield f'<text class="name" x="20" y="{top + 18}">{mark}{_safe(_cut(name, 29))}<title>{_safe(name)}</title></text>'
        begin, end = row.start, row.passes
        if begin is None:
            yield f'<text class="small" x="20" y="{top + 33}">planned {clock.full(row.planned_start)}</text>'
        else:
            until = f" to {_same_day(clock, begin, end)}" if end is not None and end != begin else ""
            yield f'<text class="small" x="20" y="{top + 33}">{clock.full(begin)}{until}</text>'
        if late:
            yield f'<text class="late" x="20" y="{top + 47}">planned {clock.full(row.planned_start)}</text>'
        elif row.steps and len(row.targets) > 1:
            yield f'<text class="small" x="20" y="{top + 47}">{len(row.targets)} targets</text>'
        yield from self._bars(row, top)
        yield from self._checkpoints(row, top)
        yield from self._gate(row, top)
        if note := _note(row, clock):
            x = min(self.x(row.start if row.start is not None else row.planned_start), WIDTH - _RIGHT - 5.6 * len(note))
            yield f'<text class="late" x="{max(x, _LEFT):.1f}" y="{top + _ROW + 8}">{_safe(_cut(note, 165))}</text>'

    def _bars(self, row: PhaseRow, top: int) -> Iterator[str]:
        left, right = self.x(row.planned_start), self.x(row.planned_end)
        words = f"planned: {self.clock.full(row.planned_start)} to {self.clock.full(row.planned_end)}"
        yield (
            f'<rect x="{left:.1f}" y="{top + 7}" width="{max(right - left, 2):.1f}" height="5" rx="1.5" '
            f'fill="#afb8c1"><title>{_safe(words)}</title></rect>'
        )
        if row.start is None:
            return
        fill, y, high = _FILLS[row.tense], top + 16, 20
        passes = row.passes if row.passes is not None else row.ends if row.ends is not None else row.start
        if row.ends is not None and row.ends > passes:
            x, width = self.x(passes), self.x(row.ends) - self.x(passes)
            yield (
                f'<rect x="{x:.1f}" y="{y + 7}" width="{width:.1f}" height="6" fill="{fill}" fill-opacity="0.35">'
                "<title>it is watched on until the next phase begins</title></rect>"
            )
        pieces = list(_pieces(row))
        for (begin, weight, label), end in zip(pieces, [*(piece[0] for piece in pieces[1:]), passes], strict=True):
            yield from self._segment(row, (begin, max(begin, end)), weight, label, y, high)
        if row.tense == "to come":
            x, width = self.x(row.start), max(self.x(passes) - self.x(row.start), 2)
            yield (
                f'<rect x="{x:.1f}" y="{y}" width="{width:.1f}" height="{high}" rx="3" fill="none" stroke="#0969da" '
                'stroke-dasharray="4 3"/>'
            )

    def _segment(
        self, row: PhaseRow, span: tuple[float, float], weight: int | None, label: str, y: int, high: int
    ) -> Iterator[str]:
        now, fill = self.line.now, _FILLS[row.tense]
        begin, end = span
        opacity = 0.35 if weight is None else 0.45 + 0.55 * weight / FULL_WEIGHT
        told = f"{self.clock.full(begin)} to {self.clock.full(end)}"
        words = f"{told}: {label or 'no step of its own'}"
        parts = [(begin, end, 1.0)]
        if row.tense == "now" and now is not None and begin < now < end:
            parts = [(begin, now, 1.0), (now, end, 0.45)]
        elif row.tense == "to come" or (row.tense == "now" and now is not None and begin >= now):
            parts = [(begin, end, 0.45)]
        for start, stop, dim in parts:
            left, right = self.x(start), self.x(stop)
            yield (
                f'<rect x="{left:.1f}" y="{y}" width="{max(right - left, 2):.1f}" height="{high}" fill="{fill}" '
                f'fill-opacity="{opacity * dim:.2f}" stroke="#ffffff" stroke-width="0.6"><title>{_safe(words)}</title></rect>'
            )
        left, right = self.x(begin), self.x(end)
        if label and right - left > 7 * len(label) + 10:
            dark = opacity * parts[-1][2] < 0.75
            style = ' style="fill:#1f2328"' if dark else ""
            yield f'<text class="weight" x="{(left + right) / 2:.1f}" y="{y + 14}"{style}>{label}</text>'

    def _checkpoints(self, row: PhaseRow, top: int) -> Iterator[str]:
        last = -1e9
        for checkpoint in row.checkpoints:
            if checkpoint.at is None:
                continue
            # beside each other where the axis has no room for them
            x = min(max(self.x(checkpoint.at), last + 10), WIDTH - 8)
            last = x
            counts = ((checkpoint.passed, "passed"), (checkpoint.undecided, "undecided"), (checkpoint.failed, "failed"))
            score = ", ".join(f"{count} {word}" for count, word in counts if count)
            words = (
                f"checkpoint {format_duration(checkpoint.after)}, {self.clock.full(checkpoint.at)}: {checkpoint.state}"
            )
            words += f" ({score})" if score else ""
            edge = "#57606a" if checkpoint.state in ("to come", "not taken") else _DOTS[checkpoint.state]
            dash = ' stroke-dasharray="2 1.5"' if checkpoint.state == "not taken" else ""
            yield (
                f'<circle cx="{x:.1f}" cy="{top + 46}" r="3.8" fill="{_DOTS[checkpoint.state]}" stroke="{edge}"{dash}>'
                f"<title>{_safe(words)}</title></circle>"
            )

    def _gate(self, row: PhaseRow, top: int) -> Iterator[str]:
        gate = row.gate
        if gate is None:
            return
        if gate.at is None or abs(gate.at - gate.planned) > LATE:
            yield _diamond(
                self.x(gate.planned),
                top + 9.5,
                5,
                "#ffffff",
                "#6e7781",
                f"gate planned {self.clock.full(gate.planned)}",
            )
        if gate.at is None:
            return
        words = [f"gate of {row.name}: {gate.state}, {self.clock.full(gate.at)}"]
        words += [", ".join(gate.criteria)] if gate.criteria else []
        words += [f"approval of {gate.approval}"] if gate.approval else []
        words += [f"not done yet: {', '.join(gate.missing)}"] if gate.missing else []
        words += (
            [f"put off: {', '.join(f'{which} {count}x' for which, count in gate.put_off.items())}"]
            if gate.put_off
            else []
        )
        edge = "#1f2328" if gate.state in ("to come", "not reached") else _GATES[gate.state]
        yield _diamond(self.x(gate.at), top + 26, 9, _GATES[gate.state], edge, "; ".join(words))

    def _now(self) -> Iterator[str]:
        now = self.line.now
        if now is None:
            return
        x = self.x(now)
        yield f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP - 2}" y2="{self.bottom + 16}" stroke="#cf222e" stroke-width="1.6"/>'
        edge = min(max(x, _LEFT + 40), WIDTH - 60)
        yield f'<text class="now" x="{edge:.1f}" y="{self.bottom + 28}">now {self.clock.full(now)}</text>'

    def _legend(self) -> Iterator[str]:
        x, y = 20, self.height - 18
        yield f'<rect x="{x}" y="{y - 6}" width="22" height="5" rx="1.5" fill="#afb8c1"/>'
        yield f'<text class="small" x="{x + 28}" y="{y}">planned</text>'
        x += 84
        for word, tense in (
            ("passed", "past"),
            ("running", "now"),
            ("to come, at the earliest", "to come"),
            ("ended", "stopped"),
        ):
            opacity = 0.4 if tense == "to come" else 0.9
            dash = ' stroke="#0969da" stroke-dasharray="4 3"' if tense == "to come" else ""
            yield f'<rect x="{x}" y="{y - 10}" width="22" height="12" fill="{_FILLS[tense]}" fill-opacity="{opacity}"{dash}/>'
            yield f'<text class="small" x="{x + 28}" y="{y}">{word}</text>'
            x += 46 + round(5.6 * len(word))
        for word in ("passed", "failed", "undecided", "waiting", "to come"):
            edge = "#1f2328" if word == "to come" else _GATES[word]
            yield _diamond(x + 7, y - 4, 6, _GATES[word], edge, "")
            yield f'<text class="small" x="{x + 18}" y="{y}">gate {word}</text>'
            x += 54 + round(5.6 * len(word))
        yield f'<circle cx="{x + 6}" cy="{y - 4}" r="3.8" fill="#2da44e"/>'
        yield f'<text class="small" x="{x + 16}" y="{y}">checkpoint</text>'
        x += 88
        yield f'<rect x="{x}" y="{y - 10}" width="22" height="12" fill="#bf8700" fill-opacity="0.15"/>'
        yield f'<text class="small" x="{x + 28}" y="{y}">no raises</text>'


def _diamond(x: float, y: float, size: float, fill: str, edge: str, words: str) -> str:
    points = f"{x:.1f},{y - size:.1f} {x + size:.1f},{y:.1f} {x:.1f},{y + size:.1f} {x - size:.1f},{y:.1f}"
    title = f"<title>{_safe(words)}</title>" if words else ""
    return f'<polygon points="{points}" fill="{fill}" stroke="{edge}" stroke-width="1.4">{title}</polygon>'


def _moved(row: PhaseRow) -> bool:
    return row.start is not None and abs(row.start - row.planned_start) > LATE and bool(row.late or row.why)


def _note(row: PhaseRow, clock: Clock) -> str:
    """What is to be said of a date that is not the planned one."""
    if row.why:
        return row.why
    if row.late and row.start is not None:
        when = "began" if row.begun else "begins at the earliest"
        return f"{when} {format_duration(row.late)} late: {clock.full(row.start)} instead of {clock.full(row.planned_start)}"
    return ""


def note(row: PhaseRow, line: Timeline) -> str:
    """What is to be said of a phase whose date is not the planned one; empty: nothing."""
    return _note(row, Clock(line))


def _same_day(clock: Clock, begin: float, end: float) -> str:
    return clock.time(end) if clock.date(begin) == clock.date(end) else clock.full(end)


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[: max(most - 1, 0)] + "…"


def _safe(text: str) -> str:
    """Escaped, and without what no XML may hold."""
    return escape(
        "".join(letter if letter.isprintable() or letter == " " else "\N{REPLACEMENT CHARACTER}" for letter in text)
    )

"""The picture of evidence: how far each criterion's proof had come, either way, over time or as it stands, as SVG."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from html import escape
from math import isfinite

from controller.core.units import FULL_WEIGHT, format_instant, format_weight

WIDTH = 1200
_LEFT, _RIGHT, _TOP = 260, 24, 78
_LANE, _BAND, _GAP = 62, 8, 20
_SHARES = 46
_HEADROOM = 1.2
_LETTERS = 40
_ROW = 84
VERDICTS = {"fail": "#cf222e", "no data": "#8c959f", "undecided": "#e0b93f", "pass": "#2da44e"}
_FAIL, _PASS, _VALUE, _SHARE = "#cf222e", "#2da44e", "#0969da", "#0969da"
_STYLE = (
    "text{font:12px system-ui,sans-serif;fill:#1f2328}.small{font-size:10px;fill:#59636e}"
    ".title{font-size:16px;font-weight:600}"
)
_STEPS = (60, 300, 900, 3600, 10_800, 21_600, 43_200, 86_400, 2 * 86_400, 7 * 86_400, 28 * 86_400)
_MOST_DATES = 11


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of one criterion's course (epoch seconds) and what was known in it.

    ``fail`` and ``passing`` are how far the proof of either had come, 1 decides; None where a plain rule judges.
    ``value`` is what was measured, ``verdict`` one of :data:`VERDICTS`.
    """

    since: float
    until: float
    verdict: str
    fail: float | None = None
    passing: float | None = None
    value: float | None = None


@dataclass(frozen=True, slots=True)
class Lane:
    """One criterion of one target: ``where`` names the latter, ``limit`` is what a bare value is held against.

    ``marks`` are the instants of fails, each with its sentence; ``said`` is the newest sentence.
    """

    criterion: str
    where: str
    pieces: Sequence[Piece]
    limit: float | None = None
    marks: Sequence[tuple[float, str]] = ()
    said: str = ""


@dataclass(frozen=True, slots=True)
class Picture:
    """All that is drawn. ``shares`` are the canary's part of the requests by target, ``weights`` the weights in force
    (epoch seconds, target, thousandths).
    """

    title: str
    subtitle: str
    begin: float
    end: float
    lanes: Sequence[Lane]
    shares: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    weights: Sequence[tuple[float, str, int]] = ()


@dataclass(frozen=True, slots=True)
class Bar:
    """Where the evidence of one criterion of one target stands: as in :class:`Piece`, with its one sentence."""

    criterion: str
    target: str
    verdict: str
    fail: float | None
    passing: float | None
    value: str
    limit: str
    sentence: str
    requests: str = ""
    bad: str = ""


# Over time


def draw(picture: Picture) -> str:
    """The course of the evidence as SVG: weights, then a lane for each criterion, then the dates."""
    return "\n".join(_Drawn(picture).lines())


class _Drawn:
    def __init__(self, picture: Picture) -> None:
        self.picture = picture
        self.targets = list(dict.fromkeys([*picture.shares, *(target for _, target, _ in picture.weights)]))
        self.lanes = _TOP + len(self.targets) * (_SHARES + _GAP)
        self.bottom = self.lanes + len(picture.lanes) * (_LANE + _GAP)

    def x(self, at: float) -> float:
        begin, end = self.picture.begin, self.picture.end
        share = (at - begin) / (end - begin) if end > begin else 0.5
        return _LEFT + min(max(share, 0.0), 1.0) * (WIDTH - _LEFT - _RIGHT)

    def lines(self) -> Iterator[str]:
        picture, height = self.picture, self.bottom + 64
        yield from _head(picture.title, picture.subtitle, height)
        yield from self._dates()
        for number, target in enumerate(self.targets):
            yield from self._share(target, _TOP + number * (_SHARES + _GAP))
        for number, lane in enumerate(picture.lanes):
            yield from self._lane(lane, self.lanes + number * (_LANE + _GAP))
        yield from _legend(height - 22)
        yield "</svg>"
        yield ""

    def _dates(self) -> Iterator[str]:
        begin, end = self.picture.begin, self.picture.end
        step = next((step for step in _STEPS if (end - begin) / step <= _MOST_DATES), _STEPS[-1])
        at = -(-begin // step) * step
        y = self.bottom
        while at <= end:
            x, text = self.x(at), format_instant(at)
            yield (
                f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP - 8}" y2="{y}" stroke="#d1d9e0" stroke-dasharray="2 3"/>'
            )
            yield f'<text class="small" x="{x:.1f}" y="{y + 12}" text-anchor="middle">{text[5:10]}</text>'
            yield f'<text class="small" x="{x:.1f}" y="{y + 24}" text-anchor="middle">{text[11:16]}</text>'
            at += step

    def _share(self, target: str, top: int) -> Iterator[str]:
        bottom = top + _SHARES
        yield f'<text x="16" y="{top + 14}">{_safe(_cut(target, _LETTERS))}</text>'
        yield f'<text class="small" x="16" y="{top + 28}">traffic to the canary</text>'
        yield f'<line x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{bottom}" y2="{bottom}" stroke="#d1d9e0"/>'
        seen = [f"{self.x(at):.1f},{bottom - _SHARES * share:.1f}" for at, share in self.picture.shares.get(target, ())]
        if seen:
            left, right = seen[0].partition(",")[0], seen[-1].partition(",")[0]
            area = " ".join((f"{left},{bottom}", *seen, f"{right},{bottom}"))
            yield f'<polygon points="{area}" fill="{_SHARE}" fill-opacity="0.18"/>'
        points: list[str] = [f"{_LEFT},{bottom}"]
        marks: list[str] = []
        y = float(bottom)
        for at, name, weight in self.picture.weights:
            if name != target:
                continue
            x = self.x(at)
            height = bottom - _SHARES * weight / FULL_WEIGHT
            points += [f"{x:.1f},{y:.1f}", f"{x:.1f},{height:.1f}"]
            title = f"{format_instant(at)}: {format_weight(weight)}"
            marks += [
                f'<circle cx="{x:.1f}" cy="{height:.1f}" r="2.5" fill="{_SHARE}"><title>{title}</title></circle>',
                f'<text class="small" x="{x + 4:.1f}" y="{max(height - 3, top + 8):.1f}">{format_weight(weight)}</text>',
            ]
            y = height
        points.append(f"{self.x(self.picture.end):.1f},{y:.1f}")
        yield f'<polyline points="{" ".join(points)}" fill="none" stroke="{_SHARE}" stroke-width="1.2"/>'
        yield from marks

    def _lane(self, lane: Lane, top: int) -> Iterator[str]:
        bottom = top + _LANE
        name = f"{lane.criterion} ({lane.where})"
        yield f'<text x="16" y="{top + 14}">{_safe(_cut(lane.criterion, _LETTERS - 4))}<title>{_safe(name)}</title></text>'
        yield f'<text class="small" x="16" y="{top + 28}">{_safe(_cut(lane.where, _LETTERS + 8))}</text>'
        if lane.said:
            for line, down in zip(_broken(lane.said, _LETTERS + 6, 3), (42, 53, 64), strict=False):
                yield f'<text class="small" x="16" y="{top + down}">{_safe(line)}</text>'
        yield from self._bands(lane, top)
        yield f'<line x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{bottom}" y2="{bottom}" stroke="#8c959f"/>'
        if any(piece.fail is not None for piece in lane.pieces):
            decides = self._y(1.0, _HEADROOM, top)
            yield from _limit(decides, "decides")
            for name, colour in (("passing", _PASS), ("fail", _FAIL)):
                yield from self._curve(lane.pieces, name, colour, _HEADROOM, top)
        else:
            values = [piece.value for piece in lane.pieces if piece.value is not None]
            scale = max([*values, lane.limit or 0.0, 1e-12]) * _HEADROOM
            if lane.limit is not None:
                yield from _limit(self._y(lane.limit, scale, top), "limit")
            yield from self._curve(lane.pieces, "value", _VALUE, scale, top)
        for at, said in lane.marks:
            x, y = self.x(at), self._y(1.0, _HEADROOM, top)
            yield (
                f'<path d="M {x - 5:.1f} {y - 9:.1f} h 10 l -5 9 z" fill="{_FAIL}">'
                f"<title>{_safe(f'{format_instant(at)}: {said}')}</title></path>"
            )

    def _y(self, value: float, scale: float, top: int) -> float:
        high = _LANE - _BAND - 4
        return top + _LANE - high * min(max(value / scale, 0.0), 1.0)

    def _bands(self, lane: Lane, top: int) -> Iterator[str]:
        spans: list[tuple[float, float, str]] = []
        for piece in lane.pieces:
            if spans and spans[-1][2] == piece.verdict and piece.since - spans[-1][1] < 1e-6:
                spans[-1] = (spans[-1][0], piece.until, piece.verdict)
            else:
                spans.append((piece.since, piece.until, piece.verdict))
        for since, until, verdict in spans:
            left, right = self.x(since), self.x(until)
            title = f"{verdict} from {format_instant(since)} to {format_instant(until)}"
            yield (
                f'<rect x="{left:.1f}" y="{top}" width="{max(right - left, 0.8):.1f}" height="{_BAND}" '
                f'fill="{VERDICTS.get(verdict, "#ffffff")}"><title>{_safe(title)}</title></rect>'
            )

    def _curve(self, pieces: Sequence[Piece], name: str, colour: str, scale: float, top: int) -> Iterator[str]:
        """A line through the pieces; it ends where there is nothing, and begins anew after that."""
        runs: list[list[str]] = [[]]
        last = None
        for piece in pieces:
            value = getattr(piece, name)
            if value is None or not isfinite(value):
                last = None
                continue
            if last is None or piece.since - last > 1e-6:
                runs.append([])
            last = piece.until
            runs[-1].append(f"{self.x(piece.since):.1f},{self._y(value, scale, top):.1f}")
        for run in runs:
            if len(run) == 1:
                x, _, y = run[0].partition(",")
                yield f'<circle cx="{x}" cy="{y}" r="1.6" fill="{colour}"/>'
            elif run:
                yield f'<polyline points="{" ".join(run)}" fill="none" stroke="{colour}" stroke-width="1.3"/>'


def _limit(y: float, word: str) -> Iterator[str]:
    yield (
        f'<line x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="#1f2328" '
        'stroke-width="0.8" stroke-dasharray="5 3"/>'
    )
    yield f'<text class="small" x="{_LEFT - 4}" y="{y + 3:.1f}" text-anchor="end">{word}</text>'


# As it stands


def draw_bars(title: str, subtitle: str, bars: Iterable[Bar]) -> str:
    """The evidence as it stands, as SVG: of each criterion a bar of either proof against what decides."""
    known = list(bars)
    height = _TOP + len(known) * _ROW + 40
    lines = [*_head(title, subtitle, height)]
    for number, bar in enumerate(known):
        lines += _row(bar, _TOP + number * _ROW)
    return "\n".join((*lines, *_legend(height - 22), "</svg>", ""))


def _row(bar: Bar, top: int) -> Iterator[str]:
    colour = VERDICTS.get(bar.verdict, "#8c959f")
    yield f'<rect x="16" y="{top}" width="6" height="{_ROW - 20}" fill="{colour}"/>'
    yield f'<text x="30" y="{top + 12}" style="font-weight:600">{_safe(_cut(bar.criterion, _LETTERS - 6))}</text>'
    where = f"{bar.target or 'the launch'}: {bar.verdict}"
    yield f'<text class="small" x="30" y="{top + 27}">{_safe(_cut(where, _LETTERS))}</text>'
    decides = WIDTH - _RIGHT - 150
    wide = decides - _LEFT
    if bar.fail is None or bar.passing is None:
        value = f"{bar.value or '-'}, limit {bar.limit}" if bar.limit else bar.value
        yield f'<text x="{_LEFT}" y="{top + 20}">{_safe(value)}</text>'
    else:
        for place, (word, part, fill) in enumerate((("good", bar.passing, _PASS), ("bad", bar.fail, _FAIL))):
            y = top + place * 20
            length = wide * min(max(part, 0.0), 1.015)
            yield f'<rect x="{_LEFT}" y="{y}" width="{wide}" height="14" fill="#f0f2f5"/>'
            yield f'<rect x="{_LEFT}" y="{y}" width="{length:.1f}" height="14" fill="{fill}"/>'
            said = part_in_words(part, word)
            yield f'<text class="small" x="{decides + 24}" y="{y + 11}">{_safe(said)}</text>'
        yield (
            f'<line x1="{decides}" x2="{decides}" y1="{top - 3}" y2="{top + 37}" stroke="#1f2328" stroke-dasharray="4 2"/>'
        )
    yield f'<text class="small" x="{_LEFT}" y="{top + 52}">{_safe(_cut(bar.sentence, 165))}</text>'


def part_in_words(part: float, word: str) -> str:
    """How far a proof has come: ``37% of the proof that it is bad``."""
    if part >= 1:
        return f"proven {word}"
    return f"{max(0, int(100 * part))}% proven {word}"


# Shared


def _head(title: str, subtitle: str, height: int) -> Iterator[str]:
    yield (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}" '
        'role="img">'
    )
    yield f"<title>{_safe(title)}</title>"
    yield f"<style>{_STYLE}</style>"
    yield f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>'
    yield f'<text class="title" x="16" y="26">{_safe(_cut(title, 120))}</text>'
    for line, y in zip(_broken(subtitle, 190, 2), (44, 57), strict=False):
        yield f'<text class="small" x="16" y="{y}">{_safe(line)}</text>'


def _legend(y: int) -> Iterator[str]:
    x = 16
    for verdict, colour in VERDICTS.items():
        yield f'<rect x="{x}" y="{y}" width="12" height="10" fill="{colour}"/>'
        yield f'<text class="small" x="{x + 17}" y="{y + 9}">{verdict}</text>'
        x += 84
    for word, colour in (("proof that it is good", _PASS), ("proof that it is bad", _FAIL), ("a bare value", _VALUE)):
        yield f'<line x1="{x}" x2="{x + 18}" y1="{y + 5}" y2="{y + 5}" stroke="{colour}" stroke-width="2"/>'
        yield f'<text class="small" x="{x + 23}" y="{y + 9}">{word}</text>'
        x += 40 + 6 * len(word)
    yield f'<text class="small" x="{x}" y="{y + 9}">times in UTC</text>'


def _broken(text: str, most: int, lines: int) -> list[str]:
    """The text in so many lines at most."""
    broken: list[str] = [""]
    for word in text.split():
        if broken[-1] and len(broken[-1]) + 1 + len(word) > most:
            if len(broken) == lines:
                broken[-1] = _cut(broken[-1] + " …", most)
                break
            broken.append("")
        broken[-1] = f"{broken[-1]} {word}".strip()
    return [_cut(line, most) for line in broken]


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[: max(most - 1, 0)] + "…"


def _safe(text: str) -> str:
    """Escaped, and without what no XML may hold."""
    return escape("".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text))

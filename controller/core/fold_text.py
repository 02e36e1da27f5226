"""A fold as one string for status, exact to the last bit, and back."""

from __future__ import annotations

import struct
from base64 import b64decode, urlsafe_b64encode
from dataclasses import replace
from math import copysign, inf, isfinite

from controller.core.evidence import Beside, Fold, Known, Noted, Trail
from controller.core.likelihoods import BETTER, WORSE
from controller.core.series import Row

_EXACT = 2.0**53
_BYTES = "~"


def encode(fold: Fold) -> str:
    """The fold as one string for status, exact to the last bit."""
    numbers = (fold.n, fold.x, fold.pass_n, fold.pass_x, *fold.detector)
    window = ",".join(_encode_row(row, fold.newest) for row in fold.window)
    whole = (fold.began, fold.last, fold.horizon, fold.newest, fold.instants, fold.since)
    head = (*whole, int(fold.anchored), int(fold.pass_anchored), fold.pass_instants)
    gap = f"{fold.gap[0]}-{fold.gap[1]}" if any(fold.gap) else ""
    bursts = "" if fold.bursts == 1 else _encode_number(fold.bursts)
    # What is empty leaves its space where something follows: the places tell them apart.
    last = (window, gap, bursts, _encode_beside(fold.beside), _encode_trail(fold), _encode_noted(fold.noted))
    return " ".join((*map(str, head), *map(_encode_number, numbers), *last)).rstrip()


def _encode_beside(then: Beside | None) -> str:
    if then is None:
        return ""
    parts = ((then.n, then.x, then.pass_n, then.pass_x), then.evidence, then.phase_evidence, then.detector)
    return "/".join(",".join(map(_encode_number, part)) for part in parts)


def _encode_noted(noted: Noted | None) -> str:
    if noted is None:
        return ""
    whole = (noted.newest, noted.proven, *noted.gap, int(noted.full))
    numbers = (noted.checked, noted.x, noted.silenced, noted.apart)
    known = (f"{each.id}:{each.last}:{each.silenced:d}{each.counted:d}{each.excused:d}" for each in noted.known)
    return "/".join((",".join((*map(str, whole), *map(_encode_number, numbers))), *known))


def _encode_trail(fold: Fold) -> str:
    """Instants as seconds before the newest one; of what has not been bad since then, the counts are the fold's own."""
    trail, newest = fold.trail, fold.newest
    marks = ""
    if trail.marks is not None:
        first, first_n, second, second_n = trail.marks
        marks = f"/{newest - first},{_encode_number(first_n)},{newest - second},{_encode_number(second_n)}"
    if trail == Trail(newest, fold.n, fold.x, *_of_stable(fold), marks=trail.marks) and newest:
        return "=" + marks
    if not trail.bad_since:
        return (_encode_number(trail.weight) if trail.weight else "") + marks
    numbers = (trail.n, trail.x, trail.stable_n, trail.stable_x, trail.weight)
    kept = numbers if fold.beside is not None else numbers[:2]
    return ",".join((str(newest - trail.bad_since), *map(_encode_number, kept))) + marks


def _of_stable(fold: Fold) -> tuple[float, float]:
    return (0.0, 0.0) if fold.beside is None else (fold.beside.n, fold.beside.x)


def _encode_number(number: float) -> str:
    """The shortest exact text: status holds hundreds of these. What is whole is decimal, the rest the eight bytes."""
    number = float(number)
    if number.is_integer() and abs(number) < _EXACT and (number or copysign(1.0, number) > 0):
        return str(int(number))
    return _BYTES + urlsafe_b64encode(struct.pack(">d", number)).decode().rstrip("=")


def decode(text: str) -> Fold:
    """The fold that ``encode`` wrote.

    Raises:
        ValueError: the text is not one that ``encode`` wrote.
    """
    parts = text.split(" ")
    whole = (int(part) for part in parts[:9])
    began, last, horizon, newest, instants, since, anchored, pass_anchored, pass_instants = whole
    n, x, pass_n, pass_x, *detector = (_decode_number(part) for part in parts[9 : 13 + len(WORSE)])
    if len(detector) != len(WORSE):
        raise ValueError("the fold has not as many numbers as it should")
    rest = parts[13 + len(WORSE) :]
    rows = rest[0].split(",") if rest and rest[0] else []
    window = tuple(_decode_row(row, newest) for row in rows)
    rest += [""] * (6 - len(rest))
    gap_from, gap_to = (int(part) for part in rest[1].split("-")) if rest[1] else (0, 0)
    bursts = _decode_number(rest[2]) if rest[2] else 1.0
    if bursts < 1:
        raise ValueError(f"the evidence is divided by {bursts:g}, which is less than 1")
    fold = Fold(
        began=began,
        last=last,
        horizon=horizon,
        newest=newest,
        instants=instants,
        anchored=bool(anchored),
        n=n,
        x=x,
        detector=tuple(detector),
        since=since,
        pass_anchored=bool(pass_anchored),
        pass_n=pass_n,
        pass_x=pass_x,
        pass_instants=pass_instants,
        window=window,
        gap=(gap_from, gap_to),
        bursts=bursts,
        beside=_decode_beside(rest[3]) if rest[3] else None,
        noted=_decode_noted(rest[5]) if rest[5] else None,
    )
    return replace(fold, trail=_decode_trail(rest[4], fold)) if rest[4] else fold


def _decode_trail(text: str, fold: Fold) -> Trail:
    since, _, marked = text.partition("/")
    marks = None
    if marked:
        first, first_n, second, second_n = marked.split(",")
        counts = _decode_number(first_n), _decode_number(second_n)
        marks = (fold.newest - int(first), counts[0], fold.newest - int(second), counts[1])
    if since == "=":
        return Trail(fold.newest, fold.n, fold.x, *_of_stable(fold), marks=marks)
    ago, *numbers = since.split(",")
    if not numbers:
        return Trail(weight=_decode_number(ago) if ago else 0.0, marks=marks)
    if len(numbers) != (2 if fold.beside is None else 5):
        raise ValueError("the trail has not as many numbers as it should")
    n, x, *beside = map(_decode_number, numbers)
    stable_n, stable_x, weight = beside or (0.0, 0.0, 0.0)
    return Trail(fold.newest - int(ago), n, x, stable_n, stable_x, weight, marks)


def _decode_noted(text: str) -> Noted:
    head, *listed = text.split("/")
    newest, proven, gap_from, gap_to, full, *numbers = head.split(",")
    checked, x, silenced, apart = map(_decode_number, numbers)
    known = []
    for each in listed:
        name, last, flags = each.split(":")
        if len(flags) != 3 or set(flags) - set("01"):
            raise ValueError(f"{flags!r} says nothing of an alert")
        known.append(Known(name, int(last), *(flag == "1" for flag in flags)))
    gap = (int(gap_from), int(gap_to))
    return Noted(int(newest), int(proven), gap, checked, x, silenced, apart, full == "1", tuple(known))


def _decode_beside(text: str) -> Beside:
    counts, *lists = (
        tuple(_decode_number(number) for number in part.split(",")) if part else () for part in text.split("/")
    )
    n, x, pass_n, pass_x = counts
    evidence, phase_evidence, detector = lists
    if (len(evidence), len(phase_evidence), len(detector)) not in (
        (len(BETTER), len(BETTER), 0),
        (0, 0, len(WORSE)),
    ):
        raise ValueError("the comparison has not as many numbers as it should")
    return Beside(n, x, pass_n, pass_x, evidence, phase_evidence, detector)


def _encode_row(row: Row, newest: int) -> str:
    """The instant as seconds before the newest one, in a form that says so; a row of one event leaves the one out."""
    n = "" if row.n == 1 else _encode_number(row.n)
    return f"{_encode_number(newest - row.at)};{n};{_encode_number(row.x)}"


def _decode_row(text: str, newest: int) -> Row:
    if ";" not in text:
        # As former versions wrote it.
        at, n, x = (_decode_number(number) for number in text.split(":"))
        return Row(at, n, x)
    ago, events, worst = text.split(";")
    return Row(newest - _decode_number(ago), _decode_number(events) if events else 1.0, _decode_number(worst))


def _decode_number(text: str) -> float:
    try:
        if text.startswith(_BYTES):
            number = float(struct.unpack(">d", b64decode(text[1:] + "=", altchars=b"-_", validate=True))[0])
        else:
            # Former versions wrote hexadecimal.
            number = float.fromhex(text) if "x" in text else float(text)
    except OverflowError:
        number = inf
    except struct.error as error:
        raise ValueError(f"{text!r} is no number") from error
    if not isfinite(number):
        # NaN would compare as false with every limit: a detector that can never fail.
        raise ValueError(f"{text!r} is no finite number")
    return number

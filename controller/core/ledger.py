"""The ledger: each decision with all that it was made from, as lines of JSON, so that it can be made again.

A record is one line for people and as many as its observation needs::

    {"kind": "decision", "launch": "shop/checkout", "id": "1-7", "at": ..., "signal": ..., ..., "parts": 2}
    {"kind": "observation", "launch": "shop/checkout", "id": "1-7", "part": 1, "of": 2, "data": "..."}

Each line is ASCII and below 16 KiB, which is where container runtimes cut lines. The data of all parts, put together, is
base64 of zlib of JSON: the observation and the decision, exactly, and the fields of the first line once more.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from math import ceil
from typing import Any

from controller.core.decide import Decision, decide
from controller.core.exact import Codec, UnreadableError
from controller.core.facts import TakenCheckpoint
from controller.core.observation import Observation
from controller.core.units import format_instant, format_weight
from controller.core.words import sentence

LONGEST_LINE = 16 * 1024
"""Every line is shorter than this, its end included; bytes."""
LARGEST_OBSERVATION = 8 * 1024 * 1024
"""Bytes of JSON; a larger one is not recorded, and said to be missing. It bounds what a reader unpacks, too."""
FORMAT = 1
_PART = 14 * 1024
_MOST_PARTS = ceil(1.4 * LARGEST_OBSERVATION / _PART)
_MOST_WAITING = 32 * 1024 * 1024
_MOST_RECORDS_WAITING = 64
_MOST_DIFFERENCES = 32
_HEAD = '{"kind":"decision",'
"""How every readable line begins, so that one that was cut is known."""
_LONGEST_NAME, _LONGEST_TEXT, _LARGEST_WEIGHTS = 512, 4096, 4096
_LARGEST_HEAD = LONGEST_LINE - 256
"""What stays are the number of parts and the digest."""


@cache
def _codec() -> Codec:
    return Codec(Observation, Decision)


# Writing


def record(seen: Observation, decision: Decision) -> list[str]:
    """The lines of one decision, without their ends: the readable one, then the parts of what it was made from.

    Raises:
        TypeError: the observation or the decision holds something that no annotation leads to.
    """
    line = _readable(seen, decision)
    codec = _codec()
    whole = _compact(
        {"format": FORMAT, "line": line, "seen": codec.encode(seen), "decision": codec.encode(_in_words(decision))}
    ).encode()
    if len(whole) > LARGEST_OBSERVATION:
        why = f"the observation has {len(whole):,} bytes; at most {LARGEST_OBSERVATION:,} are recorded"
        return [_compact(line | {"parts": 0, "omitted": why})]
    packed = base64.b64encode(zlib.compress(whole)).decode()
    parts = [packed[start : start + _PART] for start in range(0, len(packed), _PART)]
    place = {"launch": line["launch"], "id": line["id"], "digest": hashlib.sha256(whole).hexdigest()[:32]}
    return [
        _compact(line | {"parts": len(parts), "digest": place["digest"]}),
        *(
            _compact({"kind": "observation", **place, "part": number, "of": len(parts), "data": data})
            for number, data in enumerate(parts, 1)
        ),
    ]


def _in_words(decision: Decision) -> Decision:
    """With the reason as it was read by people, whatever the words of a later version are."""
    return replace(decision, reason=str(decision.reason))


def _readable(seen: Observation, decision: Decision) -> dict[str, Any]:
    status = decision.status
    weights: dict[str, str] = {}
    room = _LARGEST_WEIGHTS
    for name, weight in decision.weights.items():
        room -= len(name) + 16
        if room > 0:
            weights[name] = format_weight(weight)
    line: dict[str, Any] = {
        "kind": "decision",
        "launch": _cut(f"{seen.namespace}/{seen.name}", _LONGEST_NAME),
        "id": decision.id,
        "at": format_instant(decision.at),
        "signal": decision.signal.value,
        "action": decision.action.value,
        "state": status.state.value,
        "phase": _cut(status.phase, _LONGEST_NAME),
        "step": status.step,
        "weights": weights,
        **({"weightsLeftOut": len(decision.weights) - len(weights)} if len(weights) < len(decision.weights) else {}),
        "message": _cut(decision.message, _LONGEST_TEXT),
        **({"checkpoint": _scores(decision.checkpoint)} if decision.checkpoint else {}),
        "verdicts": [],
    }
    room = _LARGEST_HEAD - len(_compact(line))
    for item in dict.fromkeys(sentence(judged.verdict) for judged in decision.verdicts):
        room -= len(_compact(item)) + 1
        if room < 32:
            break
        line["verdicts"].append(item)
    left_out = len({sentence(judged.verdict) for judged in decision.verdicts}) - len(line["verdicts"])
    return line | ({"verdictsLeftOut": left_out} if left_out else {})


def _scores(taken: TakenCheckpoint) -> dict[str, Any]:
    score = taken.score
    numbers = {"passed": score.passed, "undecided": score.undecided, "failed": score.failed}
    return {"phase": _cut(score.phase, _LONGEST_NAME), "after": score.after, **numbers}


def _compact(data: Any) -> str:
    return json.dumps(data, separators=(",", ":"), allow_nan=False)


def _cut(text: str, longest: int) -> str:
    """The text, or so much of it that its JSON has at most ``longest`` bytes."""
    while len(_compact(text)) > longest:
        text = text[: min(len(text) - 1, longest - 8)].rstrip("…")[: -max(1, len(text) // 16)] + "…"
    return text


# Reading


@dataclass(frozen=True, slots=True)
class Found:
    """One record as it stands in a ledger.

    ``line`` is the readable line, empty where only parts of the record were found. ``seen`` and ``decision`` are None
    where ``problem`` says why they cannot be read. ``torn``: the ledger ends in the middle of it.
    """

    launch: str
    id: str
    line: Mapping[str, Any]
    seen: Observation | None = None
    decision: Decision | None = None
    altered: tuple[str, ...] = ()
    problem: str = ""
    torn: bool = False


@dataclass(slots=True)
class _Waiting:
    """A record of which not all lines were found yet."""

    launch: str
    id: str
    line: dict[str, Any] = field(default_factory=dict)
    parts: dict[int, str] = field(default_factory=dict)
    of: int = 0

    @property
    def size(self) -> int:
        return sum(map(len, self.parts.values()))

    @property
    def complete(self) -> bool:
        return bool(self.line) and len(self.parts) == self.of

    def abandoned(self, *, torn: bool) -> Found:
        if not self.line:
            problem = "its first line is missing"
        else:
            problem = f"{self.of - len(self.parts)} of its {self.of} parts are missing"
        return Found(self.launch, self.id, self.line, problem=problem, torn=torn)


def read_records(lines: Iterable[str]) -> Iterator[Found]:
    """The records of a ledger, in the order in which they were completed; incomplete ones last.

    Other lines may stand between, and before each line something else, such as a container runtime's time stamp.
    Memory is bounded, whatever the lines hold.
    """
    waiting: dict[tuple[str, str, str], _Waiting] = {}
    newest: tuple[str, str, str] | None = None
    size, cut = 0, False
    for text in lines:
        said = _line(text)
        if said is None:
            cut = text.find(_HEAD) >= 0 or (cut and not text.strip())
            continue
        cut = False
        launch, identity, digest = (str(said.get(name, ""))[:_LONGEST_NAME] for name in ("launch", "id", "digest"))
        parts = said.get("parts" if said["kind"] == "decision" else "of")
        if said["kind"] == "decision" and not digest:
            why = f"it was recorded without its observation: {str(said.get('omitted', 'no reason is said'))[:200]}"
            yield Found(launch, identity, said, problem=why)
            continue
        if type(parts) is not int or not 0 < parts <= _MOST_PARTS:
            yield Found(launch, identity, said, problem=f"it claims to have {str(parts)[:20]} parts")
            continue
        newest = launch, identity, digest
        found = waiting.setdefault(newest, _Waiting(launch, identity, of=parts))
        if said["kind"] == "decision":
            found.line, found.of = said, parts
        else:
            number, data = said.get("part"), said.get("data")
            if type(number) is int and 0 < number <= found.of == parts and isinstance(data, str):
                size += len(data) - len(found.parts.get(number, ""))
                found.parts[number] = data
        if found.complete:
            size -= found.size
            yield _unpacked(waiting.pop(newest), digest)
            newest = None
        while size > _MOST_WAITING or len(waiting) > _MOST_RECORDS_WAITING:
            oldest = waiting.pop(next(iter(waiting)))
            size -= oldest.size
            yield oldest.abandoned(torn=False)
    for key, left in waiting.items():
        yield left.abandoned(torn=key == newest)
    if cut:
        yield Found("", "", {}, problem="the last line is cut short", torn=True)


def _line(text: str) -> dict[str, Any] | None:
    """What a line of a ledger says; None where it is none, or is cut."""
    start = text.find("{")
    if start < 0 or '"kind"' not in text or len(text) - start > LONGEST_LINE:
        return None
    try:
        said = json.loads(text[start:])
    except (ValueError, RecursionError):
        return None
    return said if isinstance(said, dict) and said.get("kind") in ("decision", "observation") else None


def _unpacked(found: _Waiting, digest: str) -> Found:
    """The record of a complete set of lines."""
    try:
        data = base64.b64decode("".join(found.parts[number] for number in range(1, found.of + 1)), validate=True)
        unzip = zlib.decompressobj()
        whole = unzip.decompress(data, LARGEST_OBSERVATION + 1)
        if len(whole) > LARGEST_OBSERVATION:
            raise UnreadableError(f"it unpacks to more than {LARGEST_OBSERVATION:,} bytes")
        if not unzip.eof or hashlib.sha256(whole).hexdigest()[: len(digest)] != digest or len(digest) != 32:
            raise UnreadableError("its data is not what was recorded: the digest is another one")
        said = json.loads(whole)
        if said["format"] != FORMAT:
            raise UnreadableError(f"it has format {str(said['format'])[:20]}; this version reads {FORMAT}")
        seen, decision = _codec().decode(said["seen"]), _codec().decode(said["decision"])
        if not isinstance(seen, Observation) or not isinstance(decision, Decision) or type(decision.reason) is not str:
            raise UnreadableError("it holds no observation, or no decision")
        return Found(found.launch, found.id, found.line, seen, decision, _altered(found.line, said["line"]))
    except (UnreadableError, binascii.Error, zlib.error) as error:
        problem = str(error)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        problem = f"its data cannot be read: {error!r}"
    return Found(found.launch, found.id, found.line, problem=problem)


def _altered(line: Mapping[str, Any], written: Mapping[str, Any]) -> tuple[str, ...]:
    found = {name: item for name, item in line.items() if name not in ("parts", "digest")}
    altered = _differences(written, found, "", ("recorded", "the line says"))
    return tuple(f"the readable line was changed: {one}" for one in altered)


# Deciding again


@dataclass(frozen=True, slots=True)
class Redecided:
    """What came of deciding a recorded decision again.

    ``differences`` name each field that differs with both values, at most 32. ``problem`` says why it could not be
    decided again; ``torn`` that the reason is an end of the ledger in the middle of the record, as a crash leaves it.
    """

    launch: str
    id: str
    same: bool
    differences: tuple[str, ...] = ()
    problem: str = ""
    torn: bool = False


def redecide(lines: Iterable[str]) -> Iterator[Redecided]:
    """Every decision of a ledger, decided again from what it was made from."""
    for found in read_records(lines):
        if found.seen is None or found.decision is None:
            yield Redecided(found.launch, found.id, same=False, problem=found.problem, torn=found.torn)
            continue
        differences = [*found.altered, *_decided_otherwise(found.seen, found.decision)]
        if found.launch != (name := f"{found.seen.namespace}/{found.seen.name}"):
            differences.append(f"launch: the readable line says {found.launch}, the observation is of {name}")
        yield Redecided(found.launch, found.id, not differences, tuple(differences[:_MOST_DIFFERENCES]))


def _decided_otherwise(seen: Observation, recorded: Decision) -> list[str]:
    codec = _codec()
    try:
        now = codec.encode(_in_words(decide(seen)), tables=False)
        then = codec.encode(recorded, tables=False)
        return list(_differences(then, now, "", ("recorded", "decided now")))
    except Exception as error:  # noqa: BLE001 - whatever it raises now, it did not when the decision was recorded
        return [f"deciding fails now: {repr(error)[:300]}"]


def _differences(then: Any, now: Any, path: str, sides: tuple[str, str]) -> Iterator[str]:
    """The leaves that differ, each with its path and both values."""
    if isinstance(then, dict) and isinstance(now, dict) and then.get("@") == now.get("@"):
        for name in dict.fromkeys((*then, *now)):
            inner = path if name == "of" else f"{path}.{name}" if path else name
            if name in then and name in now:
                yield from _differences(then[name], now[name], inner, sides)
            else:
                yield _difference(inner, then.get(name, _ABSENT), now.get(name, _ABSENT), sides)
    elif isinstance(then, list) and isinstance(now, list) and len(then) == len(now):
        for number, (left, right) in enumerate(zip(then, now, strict=True)):
            yield from _differences(left, right, f"{path}[{number}]", sides)
    elif _compact(then) != _compact(now):
        yield _difference(path, then, now, sides)


_ABSENT = object()


def _difference(path: str, then: Any, now: Any, sides: tuple[str, str]) -> str:
    return f"{path}: {sides[0]} {_shown(then)}, {sides[1]} {_shown(now)}"


def _shown(value: Any) -> str:
    if value is _ABSENT:
        return "nothing"
    text = _compact(value)
    return text if len(text) <= 160 else text[:157] + "..."

"""What people say by annotation: one verb each, acted on once, recorded with its outcome."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from controller.core.status import OverrideRecord
from controller.core.units import format_instant, parse_instant

LONGEST_VALUE = 4096
LATER_VERBS = ("approve", "done", "advance", "reschedule", "ack")
"""Verbs of later releases: refused with words, never ignored."""


@dataclass(frozen=True, slots=True)
class Override:
    """One annotation as it was read. ``digest`` identifies its value; ``until`` is epoch seconds.

    ``fault`` says why it cannot be acted on, and is empty for a good one.
    """

    verb: str
    digest: str
    reason: str = ""
    by: str = ""
    until: float | None = None
    fault: str = ""

    @property
    def words(self) -> str:
        """Who and why, as far as they were said."""
        who = f" by {self.by}" if self.by else ""
        why = f": {self.reason}" if self.reason else ""
        return who + why


def read_override(verb: str, value: str) -> Override:
    """An annotation's value: plain text is the reason; JSON may say reason, by, until and id."""
    digest = hashlib.sha256(value.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    if len(value) > LONGEST_VALUE:
        return Override(verb, digest, fault=f"it is {len(value):,} characters long; write at most {LONGEST_VALUE:,}")
    text = value.strip()
    if not text.startswith("{"):
        return Override(verb, digest, reason=text)
    try:
        said = json.loads(text)
    except (ValueError, RecursionError) as error:
        return Override(
            verb, digest, fault=f'it is not JSON ({error}); write text, or {{"reason": "...", "by": "..."}}'
        )
    unknown = sorted(set(said) - {"reason", "by", "until", "id"})
    if unknown:
        return Override(verb, digest, fault=f"{unknown[0]!r} is no field of it; write reason, by, until or id")
    # JSON can spell half of a surrogate pair, which no log and no API can store.
    said = {name: _storable(entry) if isinstance(entry, str) else entry for name, entry in said.items()}
    wrong = [name for name, entry in said.items() if not isinstance(entry, str)]
    if wrong:
        return Override(verb, digest, fault=f"{wrong[0]} is not text; write it in quotes")
    try:
        until = parse_instant(said["until"]) if "until" in said else None
    except ValueError as error:
        return Override(verb, digest, fault=f"until: {error}")
    return Override(verb, digest, reason=said.get("reason", ""), by=said.get("by", ""), until=until)


def _storable(text: str) -> str:
    return text.encode("utf-8", "replace").decode("utf-8")


@dataclass(frozen=True, slots=True)
class Heard:
    """What the annotations amount to in this tick.

    ``hold`` is there as long as its annotation is, has not lapsed and is well formed. ``rollback`` and ``retry`` are
    there in the one tick in which they are acted on. ``records`` is the new list of records, ``news`` those that are
    new or changed.
    """

    hold: Override | None
    rollback: Override | None
    retry: Override | None
    records: tuple[OverrideRecord, ...]
    news: tuple[OverrideRecord, ...]


_Judgement = tuple[Literal["accepted", "refused", "expired"], str]


def hear(
    annotations: Mapping[str, str],
    records: tuple[OverrideRecord, ...],
    run: int,
    now: float,
    refusals: Mapping[str, str],
) -> Heard:
    """Compare the annotations with what was acted on before.

    ``refusals`` says for a verb why it does not fit where the launch stands ("nothing is held"); such an override is
    recorded as refused. One override is (verb, value, run): acted on once; seen absent, the same value may be given
    again.
    """
    present = {verb: read_override(verb, annotations[verb]) for verb in _VERBS if verb in annotations}
    kept: list[OverrideRecord] = []
    news: list[OverrideRecord] = []
    known: dict[str, OverrideRecord] = {}
    for earlier in records:
        said = present.get(earlier.verb)
        same = said is not None and said.digest == earlier.value
        if earlier.present and same and (earlier.run == run or earlier.verb != "rollback"):
            known[earlier.verb] = earlier
        elif earlier.present and not same:
            gone = earlier.model_copy(update={"present": False})
            news.append(gone)
            kept.append(gone)
            continue
        kept.append(earlier)
    acted: dict[str, Override] = {}
    for verb, override in present.items():
        record = known.get(verb)
        if record is None:
            outcome, message = _judge(override, now, refusals.get(verb, ""))
            record = OverrideRecord(
                verb=verb, value=override.digest, run=run, outcome=outcome, message=message, by=override.by, at=now
            )
            news.append(record)
            kept.append(record)
            if outcome == "accepted":
                acted[verb] = override
        elif verb == "hold" and record.outcome == "accepted":
            if override.until is not None and override.until <= now:
                lapsed = record.model_copy(update={"outcome": "expired", "message": _lapsed(override.until), "at": now})
                kept[kept.index(record)] = lapsed
                news.append(lapsed)
            else:
                acted[verb] = override
    return Heard(
        hold=acted.get("hold"),
        rollback=acted.get("rollback"),
        retry=acted.get("retry"),
        records=_bounded(kept),
        news=tuple(news),
    )


_VERBS = ("hold", "rollback", "retry", *LATER_VERBS)
_KEPT = 12


def _judge(override: Override, now: float, refusal: str) -> _Judgement:
    if override.verb in LATER_VERBS:
        return "refused", "not supported yet"
    if override.fault:
        return "refused", override.fault
    if override.until is not None and override.until <= now:
        return "expired", _lapsed(override.until)
    if refusal:
        return "refused", refusal
    return "accepted", override.reason


def _lapsed(until: float) -> str:
    return f"it lapsed at {format_instant(until)}"


def _bounded(records: list[OverrideRecord]) -> tuple[OverrideRecord, ...]:
    """The records of annotations that are still there, and the newest of the others."""
    spare = max(0, len(records) - _KEPT)
    kept = []
    for record in records:
        if spare and not record.present:
            spare -= 1
            continue
        kept.append(record)
    return tuple(kept)

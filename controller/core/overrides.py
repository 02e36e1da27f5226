"""What people say by annotation: one verb each, acted on once, recorded with its outcome."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from controller.core.status import OverrideRecord
from controller.core.units import format_instant, parse_instant

LONGEST_VALUE = 4096
WITH_OBJECT = ("approve", "done", "advance", "reschedule")
"""Verbs whose text names what they are about; the text of the others is a reason."""
EXAMPLES = {
    "approve": "ramp/gate, ramp/preflight or ramp/2",
    "done": "ramp/dashboards-reviewed, ramp/on-call-confirmed",
    "advance": "ramp, ramp/2 or ramp/last",
    "reschedule": "ramp=2025-11-01T14:00:00Z",
}
VERBS = ("hold", "rollback", "retry", *WITH_OBJECT, "ack")


@dataclass(frozen=True, slots=True)
class Override:
    """One annotation as it was read. ``digest`` identifies its text; ``until`` is epoch seconds.

    ``value`` is what it is about, of the verbs that name something. ``fault`` says why it cannot be acted on, and is
    empty for a good one.
    """

    verb: str
    digest: str
    value: str = ""
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
    """An annotation's value: plain text is the reason (or what it is about); JSON may say value, reason, by, until, id."""
    digest = hashlib.sha256(value.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    if len(value) > LONGEST_VALUE:
        return Override(verb, digest, fault=f"it is {len(value):,} characters long; write at most {LONGEST_VALUE:,}")
    text = value.strip()
    if not text.startswith("{"):
        if verb not in WITH_OBJECT:
            return Override(verb, digest, reason=text)
        return _with_object(Override(verb, digest, value=_storable(text)))
    try:
        fields: list[tuple[str, Any]] = json.loads(text, object_pairs_hook=list)
    except (ValueError, RecursionError) as error:
        return Override(
            verb, digest, fault=f'it is not JSON ({error}); write text, or {{"reason": "...", "by": "..."}}'
        )
    said = dict(fields)
    if len(said) < len(fields):
        # which of them counts is for each reader to choose, and who judged the text may have chosen the other
        written = [name for name, _ in fields]
        twice = next(name for name in written if written.count(name) > 1)
        return Override(verb, digest, fault=f"{_storable(repr(twice))} is written twice; write it once")
    known = ("value", "reason", "by", "until", "id") if verb in WITH_OBJECT else ("reason", "by", "until", "id")
    unknown = sorted(set(said) - set(known))
    if unknown:
        names = f"{', '.join(known[:-1])} or {known[-1]}"
        return Override(verb, digest, fault=f"{unknown[0]!r} is no field of it; write {names}")
    # JSON can spell half of a surrogate pair, which no log and no API can store.
    said = {name: _storable(entry) if isinstance(entry, str) else entry for name, entry in said.items()}
    wrong = [name for name, entry in said.items() if not isinstance(entry, str)]
    if wrong:
        return Override(verb, digest, fault=f"{wrong[0]} is not text; write it in quotes")
    try:
        until = parse_instant(said["until"]) if "until" in said else None
    except ValueError as error:
        return Override(verb, digest, fault=f"until: {error}")
    override = Override(
        verb,
        digest,
        value=said.get("value", "").strip(),
        reason=said.get("reason", ""),
        by=said.get("by", ""),
        until=until,
    )
    return _with_object(override) if verb in WITH_OBJECT else override


def _with_object(override: Override) -> Override:
    if override.value:
        return override
    return Override(override.verb, override.digest, fault=f"it names nothing; write {EXAMPLES[override.verb]}")


def _storable(text: str) -> str:
    return text.encode("utf-8", "replace").decode("utf-8")


@dataclass(frozen=True, slots=True)
class Heard:
    """What the annotations amount to in this tick.

    ``hold`` is there as long as its annotation is, has not lapsed and is well formed. ``acted`` are the others, each in
    the one tick in which it is acted on. ``records`` is the new list of records, ``news`` those that are new or changed.
    """

    hold: Override | None = None
    acted: Mapping[str, Override] = field(default_factory=dict)
    records: tuple[OverrideRecord, ...] = ()
    news: tuple[OverrideRecord, ...] = ()

    @property
    def rollback(self) -> Override | None:
        """A rollback that is acted on now."""
        return self.acted.get("rollback")

    @property
    def retry(self) -> Override | None:
        """A retry that is acted on now."""
        return self.acted.get("retry")


_Judgement = tuple[Literal["accepted", "refused", "expired"], str]


def hear(
    annotations: Mapping[str, str],
    records: tuple[OverrideRecord, ...],
    run: int,
    now: float,
    refuse: Callable[[Override], str | None],
    verbs: Iterable[str] = VERBS,
) -> Heard:
    """Compare the annotations of these verbs with what was acted on before.

    ``refuse`` says why an override does not fit where the launch stands ("nothing is held"), or nothing; such an
    override is recorded as refused. None: that cannot be said in this round; it stays unheard. One override is (verb,
    value, run): acted on once; seen absent, the same value may be given again.
    """
    verbs = tuple(verbs)
    present = {verb: read_override(verb, annotations[verb]) for verb in verbs if verb in annotations}
    kept: list[OverrideRecord] = []
    news: list[OverrideRecord] = []
    known: dict[str, OverrideRecord] = {}
    for earlier in records:
        if earlier.verb not in verbs:
            kept.append(earlier)
            continue
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
            judgement = _judge(override, now, refuse)
            if judgement is None:
                continue
            outcome, message = judgement
            record = OverrideRecord(
                verb=verb,
                value=override.digest,
                run=run,
                outcome=outcome,
                message=message[:LONGEST_MESSAGE],
                by=override.by[:LONGEST_NAME],
                at=now,
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
    hold = acted.pop("hold", None)
    return Heard(hold=hold, acted=acted, records=_bounded(kept), news=tuple(news))


def both(first: Heard, second: Heard) -> Heard:
    """Two hearings of different verbs as one; the second went on with the records of the first."""
    return Heard(first.hold or second.hold, {**first.acted, **second.acted}, second.records, first.news + second.news)


_KEPT = 12
LONGEST_MESSAGE = 512
LONGEST_NAME = 253


def _judge(override: Override, now: float, refuse: Callable[[Override], str | None]) -> _Judgement | None:
    if override.fault:
        return "refused", override.fault
    if override.until is not None and override.until <= now:
        return "expired", _lapsed(override.until)
    refusal = refuse(override)
    if refusal is None:
        return None
    if refusal:
        return "refused", refusal
    about = f"{override.value}: {override.reason}" if override.value and override.reason else override.value
    return "accepted", about or override.reason


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

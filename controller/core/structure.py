"""From a manifest to a typed spec, as far as it goes: every fault of its form at once, and what remains without them.

A part that does not parse is taken out (or replaced by a filler that disturbs nothing), so that what stands beside it
can still be checked. Faults that only arise from the taking out are not told.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

from pydantic import ValidationError

from controller.core import spec as forms
from controller.core.faults import Fault, Place, path_text, shown
from controller.core.spec import API_VERSION, KIND, LaunchSpec
from controller.core.wording import OBJECT_NAME_WORDS, field_at, in_words, not_text, place_of, unknown_field

_DEEPEST = 32
_MOST_VALUES = 100_000
_MOST_FAULTS = 200
_MOST_ROUNDS = 50


class PrunedList(list[Any]):
    """A list that remembers at which place of the manifest each of its elements stands."""

    def __init__(self, values: Iterable[Any]) -> None:
        super().__init__(values)
        self.places = list(range(len(self)))

    def drop(self, index: int) -> None:
        """Takes one element out."""
        del self[index]
        del self.places[index]

    def keep(self, count: int) -> None:
        """Takes out what stands behind the first ``count``."""
        del self[count:]
        del self.places[count:]


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a manifest gave.

    ``raw`` is its spec as written, without what had to be taken out; ``spec`` the typed form of that, None where
    not even fillers made one. ``troubled`` are the places (of the manifest as written) whose form is at fault.
    ``known`` are the names that the manifest gives to its targets and metrics, whether or not the rest of them
    parses; None where that cannot be said.
    """

    namespace: str
    name: str
    raw: dict[str, Any]
    spec: LaunchSpec | None
    faults: tuple[Fault, ...]
    troubled: frozenset[Place]
    known: Mapping[str, frozenset[str] | None]

    def original(self, place: Place) -> Place:
        """A place below ``spec`` in what remained, as a place in the manifest as written."""
        here: Any = self.raw
        found: list[str | int] = ["spec"]
        for part in place:
            if isinstance(part, int) and isinstance(here, PrunedList) and part < len(here):
                found.append(here.places[part])
                here = here[part]
            else:
                found.append(part)
                here = here.get(part) if isinstance(here, dict) and isinstance(part, str) else None
        return tuple(found)

    def concerns_trouble(self, place: Place) -> bool:
        """Whether the form of that place (as written), of a part of it or of what holds it, is at fault already."""
        return any(place[: len(trouble)] == trouble or trouble[: len(place)] == place for trouble in self.troubled)


class _UnreadableError(Exception):
    """The manifest is not a tree of plain values."""

    def __init__(self, place: Place, message: str) -> None:
        super().__init__(message)
        self.fault = Fault(path_text(place) or "manifest", message)


def read_manifest(document: Any) -> Manifest:
    """Every fault of a manifest's form, and the spec that remains without them. Never raises."""
    try:
        plain = _Copy().of(document, ())
    except _UnreadableError as error:
        return Manifest("", "", {}, None, (error.fault,), frozenset(), {})
    if not isinstance(plain, dict):
        fault = Fault("manifest", f"is {shown(plain)}; write a Launch: apiVersion, kind, metadata and spec")
        return Manifest("", "", {}, None, (fault,), frozenset(), {})
    faults, namespace, name = _envelope(plain)
    raw = plain.get("spec")
    if not isinstance(raw, dict):
        what = "is missing" if raw is None else f"is {shown(raw)}"
        faults.append(Fault("spec", f"{what}; write revision, targets and phases under it"))
        return Manifest(namespace, name, {}, None, tuple(faults), frozenset({("spec",)}), {})
    known = {"targets": _names(raw.get("targets")) or None, "metrics": _names(raw.get("metrics"))}
    pruning = _Pruning(raw)
    spec = pruning.run()
    return Manifest(namespace, name, raw, spec, (*faults, *pruning.faults), frozenset(pruning.troubled), known)


class _Copy:
    """Copies a tree of plain values, iterating with bounds: a manifest may hold itself, or grow by aliases."""

    def __init__(self) -> None:
        self.count = 0

    def of(self, value: Any, place: Place) -> Any:
        self.count += 1
        if self.count > _MOST_VALUES:
            raise _UnreadableError(
                place[:1], f"the manifest holds more than {_MOST_VALUES:,} values; write a smaller plan"
            )
        if len(place) > _DEEPEST:
            raise _UnreadableError(place[:3], f"is nested deeper than {_DEEPEST} levels; no field of a Launch is")
        if isinstance(value, Mapping):
            copy: dict[str, Any] = {}
            for key, inner in value.items():
                if not isinstance(key, str):
                    raise _UnreadableError(place, f"has the key {shown(key)}, which is not text; put it in quotes")
                if inner is not None:  # as the API server does, which drops them
                    copy[str(key)] = self.of(inner, (*place, str(key)))
            return copy
        if isinstance(value, list | tuple):
            return PrunedList(self.of(inner, (*place, index)) for index, inner in enumerate(value))
        if isinstance(value, bool | date) or value is None:
            return value
        for kind in (str, int, float):  # a YAML reader's own kinds of text and number become the plain ones
            if isinstance(value, kind):
                return kind(value)
        raise _UnreadableError(place, f"is a {type(value).__name__}; write text, a number, a list or a mapping")


def _envelope(document: dict[str, Any]) -> tuple[list[Fault], str, str]:
    faults = []
    for field, expected in (("apiVersion", API_VERSION), ("kind", KIND)):
        if field not in document:
            faults.append(Fault(field, f"is missing; write {field}: {expected}"))
        elif document[field] != expected:
            faults.append(Fault(field, f"is {shown(document[field])}; write {expected}"))
    fields = ("apiVersion", "kind", "metadata", "spec", "status")
    faults += [Fault(key, unknown_field(key, fields, "of a Launch")) for key in document if key not in fields]
    metadata = document.get("metadata")
    if not isinstance(metadata, dict):
        what = "is missing" if metadata is None else f"is {shown(metadata)}"
        faults.append(Fault("metadata", f"{what}; write metadata: {{name: shop}}"))
        return faults, "", ""
    found = {}
    for field, needed, longest, pattern in (
        ("name", True, 253, forms.OBJECT_NAME_PATTERN),
        ("namespace", False, 63, forms.OBJECT_NAME_PATTERN.partition("(\\.")[0] + "$"),
    ):
        value = metadata.get(field)
        if value is None or value == "":
            if needed:
                faults.append(Fault(f"metadata.{field}", "is missing; write name: shop"))
        elif not isinstance(value, str):
            faults.append(Fault(f"metadata.{field}", not_text(value)))
        elif len(value) > longest or not re.fullmatch(pattern, value):
            faults.append(
                Fault(
                    f"metadata.{field}", f"is {shown(value)}; write {OBJECT_NAME_WORDS}, {longest} characters at most"
                )
            )
        else:
            found[field] = value
    return faults, found.get("namespace", "default"), found.get("name", "")


def _names(elements: Any) -> frozenset[str] | None:
    if elements is None:
        return frozenset()
    if not isinstance(elements, list):
        return None
    names = [element.get("name") if isinstance(element, dict) else None for element in elements]
    known = frozenset(name for name in names if isinstance(name, str))
    return known if len(known) == len(set(map(str, names))) else None


class _Pruning:
    """Parses, takes out what is at fault, and parses again."""

    def __init__(self, raw: dict[str, Any]) -> None:
        self.raw = raw
        self.faults: list[Fault] = []
        self.troubled: set[Place] = set()
        self._fillers = 0

    def run(self) -> LaunchSpec | None:
        self._shorten(self.raw, ())
        for _ in range(_MOST_ROUNDS):
            try:
                return LaunchSpec.model_validate(self.raw, by_alias=True, by_name=False)
            except ValidationError as error:
                self._take_out([dict(each) for each in error.errors(include_url=False)])
        return None

    def _shorten(self, value: Any, place: Place) -> None:
        """Cuts lists that are too long first: of ten thousand bad entries, a hundred are told."""
        if isinstance(value, PrunedList):
            field = field_at(place) if place and isinstance(place[-1], str) else None
            most = next(
                (bound.max_length for bound in getattr(field, "metadata", ()) if hasattr(bound, "max_length")), None
            )
            if most is not None and len(value) > most:
                self._tell(("spec", *place), f"has {len(value):,} entries; write {most:,} at most")
                value.keep(most)
        inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        for key, part in inner:
            if isinstance(part, dict | list):
                self._shorten(part, (*place, key))

    def _take_out(self, errors: list[dict[str, Any]]) -> None:
        manifest = Manifest("", "", self.raw, None, (), frozenset(self.troubled), {})
        fresh: dict[Place, None] = {}
        cuts: dict[Place, int | None] = {}
        for error in errors:
            place = place_of(error)
            if error["type"] == "too_short" and self._at(place):
                continue  # it counts the elements that parse
            original = manifest.original(place)
            overlong = error["type"] == "too_long" and isinstance(self._at(place), list)
            if overlong:
                cuts[place] = int(error["ctx"]["max_length"])
            else:
                cuts.setdefault(self._cut_point(place), None)
            if manifest.concerns_trouble(original):
                continue
            self._tell(original, in_words(error, self._at(place)))
            if not overlong:  # what stands within its first entries is still worth telling
                fresh[original] = None
        self.troubled.update(fresh)
        gone = {place for place, kept in cuts.items() if kept is None}
        # from the back, so that the places before a cut stay true
        for place in sorted(cuts, key=_order, reverse=True):
            if not any(place[:length] in gone for length in range(len(place))):
                self._cut(place, cuts[place])

    def _tell(self, place: Place, message: str) -> None:
        if len(self.faults) < _MOST_FAULTS:
            self.faults.append(Fault(path_text(place), message))

    def _at(self, place: Place) -> Any:
        here: Any = self.raw
        for part in place:
            try:
                here = here[part]
            except (KeyError, IndexError, TypeError):
                return None
        return here

    def _cut_point(self, place: Place) -> Place:
        """The smallest part around a fault that can be taken out, or replaced by a filler."""
        while len(place) > 1:
            if isinstance(place[-1], int) or self._optional(place) or self._filler(place[-1]) is not None:
                return place
            place = place[:-1]
        return place

    def _optional(self, place: Place) -> bool:
        field = field_at(place)
        return field is None or not field.is_required()

    def _cut(self, place: Place, kept: int | None) -> None:
        holder, last = self._at(place[:-1]), place[-1]
        if kept is not None:
            self._at(place).keep(kept)
        elif isinstance(last, int):
            holder.drop(last)
        elif self._optional(place):
            holder.pop(last, None)
        else:
            self._fillers += 1
            holder[last] = self._filler(last)

    def _filler(self, field: str | int) -> Any:
        name = f"filler.{self._fillers}"
        fillers: dict[str, Any] = {
            "name": name,
            "revision": name,
            "route": {"name": name},
            "stable": {"name": f"{name}.stable"},
            "canary": {"name": f"{name}.canary"},
        }
        if field == "targets":
            return PrunedList([{"name": name, **{part: fillers[part] for part in ("route", "stable", "canary")}}])
        if field == "phases":
            return PrunedList([{"name": name}])
        return fillers.get(str(field))


def _order(place: Place) -> tuple[tuple[int, str], ...]:
    return tuple((part, "") if isinstance(part, int) else (-1, part) for part in place)

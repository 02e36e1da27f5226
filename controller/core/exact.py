"""Values of the core as JSON-ready data and back, to the last bit.

The data names its own types, so a new field of a simple type needs nothing here. Only types that the roots' annotations
lead to are ever built: data from outside cannot name another one.

A tuple becomes an array; a mapping with text for keys becomes an object; everything else becomes an object with ``@``:
the name of its type, or ``float``, ``list``, ``map``. Tuples of one dataclass are written as a table, names once.
"""

from __future__ import annotations

import enum
import types
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, fields, is_dataclass
from math import isfinite
from typing import Any, get_args, get_type_hints

from pydantic import BaseModel

from controller.core.faults import InvalidPlanError

_SIMPLE = (bool, int, str, types.NoneType)


class UnreadableError(ValueError):
    """Data that was not written by :class:`Codec`, or by a version that knew other fields; the message says which."""


class Codec:
    """Writes and reads values of every type that the annotations of ``roots`` lead to."""

    def __init__(self, *roots: type) -> None:
        self._named: dict[str, type] = {}
        for root in (*roots, InvalidPlanError):
            self._find(root)
        self._names = {kind: name for name, kind in self._named.items()}
        self._fields = {kind: _fields(kind) for kind in self._names}
        self._required = {kind: _required(kind) for kind in self._names}

    def _find(self, annotation: Any) -> None:
        for inner in get_args(annotation):
            self._find(inner)
        if not isinstance(annotation, type) or not _is_compound(annotation):
            return
        # Two modules may both have a Phase.
        name = f"{annotation.__module__.rpartition('.')[2]}.{annotation.__qualname__}"
        if (known := self._named.get(name)) is not None:
            if known is not annotation:
                raise TypeError(f"{name} is the name of two types; rename one")
            return
        self._named[name] = annotation
        for inner in _annotations(annotation):
            self._find(inner)

    def encode(self, value: Any, *, tables: bool = True) -> Any:
        """JSON-ready data. ``tables`` false: each value of a tuple spelled out, which is larger and easier to compare.

        Raises:
            TypeError: the value holds something that no annotation leads to.
        """
        kind = type(value)
        if kind in _SIMPLE:
            return value
        if kind is float:
            return value if isfinite(value) else {"@": "float", "of": repr(value)}
        if kind is tuple:
            first: type = type(value[0]) if value else type(None)
            if tables and len(value) > 1 and is_dataclass(first) and first in self._names:
                names = self._fields[first]
                if all(type(item) is first for item in value):
                    rows = [[self.encode(getattr(item, name)) for name in names] for item in value]
                    return {"@": self._names[first], "each": list(names), "of": rows}
            return [self.encode(item, tables=tables) for item in value]
        if kind is list:
            return {"@": "list", "of": [self.encode(item, tables=tables) for item in value]}
        if isinstance(value, Mapping):
            if all(type(key) is str and key != "@" for key in value):
                return {key: self.encode(item, tables=tables) for key, item in value.items()}
            pairs = [[self.encode(key, tables=tables), self.encode(item, tables=tables)] for key, item in value.items()]
            return {"@": "map", "of": pairs}
        name = self._names.get(kind)
        if name is None:
            raise TypeError(f"{kind.__qualname__} is no type that can be recorded; annotate the field that holds it")
        if isinstance(value, enum.Enum):
            return {"@": name, "of": value.value}
        return {"@": name} | {field: self.encode(getattr(value, field), tables=tables) for field in self._fields[kind]}

    def decode(self, data: Any) -> Any:
        """The value that was encoded. A field that is not there takes its default.

        Raises:
            UnreadableError: the data is damaged, or holds types or fields that are not known here.
        """
        if isinstance(data, list):
            return tuple(self.decode(item) for item in data)
        if not isinstance(data, dict):
            return data
        if "@" not in data:
            return {key: self.decode(item) for key, item in data.items()}
        name = data["@"]
        try:
            if name == "float":
                return float(data["of"])
            if name == "list":
                return [self.decode(item) for item in data["of"]]
            if name == "map":
                return {self.decode(key): self.decode(item) for key, item in data["of"]}
            kind = self._named.get(name)
            if kind is None:
                raise UnreadableError(f"{name!r} is no type that is known here; another version recorded it")
            if issubclass(kind, enum.Enum):
                return kind(data["of"])
            if "each" in data:
                table = (dict(zip(data["each"], row, strict=True)) for row in data["of"])
                return tuple(self._build(name, kind, row) for row in table)
            return self._build(name, kind, {field: item for field, item in data.items() if field != "@"})
        except UnreadableError:
            raise
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise UnreadableError(f"{str(name)[:60]!r} cannot be read: {error}") from error

    def _build(self, name: str, kind: type, data: Mapping[str, Any]) -> Any:
        if unknown := sorted(set(data) - set(self._fields[kind])):
            raise UnreadableError(
                f"{name}.{unknown[0][:60]} is no field that is known here; another version recorded it"
            )
        if missing := sorted(self._required[kind] - set(data)):
            raise UnreadableError(f"{name}.{missing[0]} is missing; another version recorded it")
        values = {field: self.decode(item) for field, item in data.items()}
        if issubclass(kind, BaseModel):
            # Validation would read texts and round instants; what was recorded is as it was.
            return kind.model_construct(**values)
        return kind(**values)


def _is_compound(kind: type) -> bool:
    return is_dataclass(kind) or hasattr(kind, "_fields") or issubclass(kind, BaseModel | enum.Enum | InvalidPlanError)


def _annotations(kind: type) -> Iterator[Any]:
    if issubclass(kind, BaseModel):
        yield from (field.annotation for field in kind.model_fields.values())
    elif issubclass(kind, InvalidPlanError):
        yield from get_type_hints(kind.__init__).values()
    elif not issubclass(kind, enum.Enum):
        yield from get_type_hints(kind).values()


def _fields(kind: type) -> tuple[str, ...]:
    if issubclass(kind, BaseModel):
        return tuple(kind.model_fields)
    if issubclass(kind, InvalidPlanError):
        return ("faults",)
    return tuple(field.name for field in fields(kind)) if is_dataclass(kind) else tuple(getattr(kind, "_fields", ()))


def _required(kind: type) -> frozenset[str]:
    if issubclass(kind, BaseModel):
        return frozenset(name for name, field in kind.model_fields.items() if field.is_required())
    if is_dataclass(kind):
        every = fields(kind)
        return frozenset(one.name for one in every if one.default is MISSING and one.default_factory is MISSING)
    return frozenset(_fields(kind)) - set(getattr(kind, "_field_defaults", ()))

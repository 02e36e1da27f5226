"""YAML 1.2 as plain values, and small edits of its text that leave every other byte as it is.

Numbers that would lose a digit stay text (``2025.10``), and so do instants. An edit is made in the text itself, at the
places that the parser names, since a round trip through a YAML library would reformat the rest; it is then read
again, and refused when it changed anything else.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

MAX_NODES = 500_000
"""More nodes than any manifest has; aliases of aliases could make a small file endless."""

Path = tuple[str | int, ...]

_TAG = "tag:yaml.org,2002:"


class YamlError(Exception):
    """The text is no YAML that can be read, or an edit of it is not possible; ``line`` and ``column`` count from 1."""

    def __init__(self, message: str, line: int, column: int) -> None:
        super().__init__(message)
        self.message = message
        self.line = line
        self.column = column


@dataclass(frozen=True, slots=True)
class YamlDocument:
    """One document of a file: its value, and the line on which it begins (from 1)."""

    value: Any
    line: int


def read_documents(text: str) -> list[YamlDocument]:
    """The documents of a file as dicts, lists, text, numbers, booleans and None; keys are text.

    Raises YamlError.
    """
    return [YamlDocument(_Values().of(node), _line(node)) for node in _compose(text)]


def edited(text: str, number: int, changes: Mapping[Path, Any]) -> tuple[str, list[YamlDocument]]:
    """The text with some values of one document set, each a scalar or a flat mapping of them; and how it reads then.

    ``number`` counts documents from 0. A path may name a key that is missing in its mapping; it is added there.
    Raises YamlError when the text cannot be changed at these places alone.
    """
    nodes = _compose(text)
    before = [_Values().of(node) for node in nodes]
    wanted = copy.deepcopy(before)
    splices: list[tuple[int, int, str]] = []
    for path, value in changes.items():
        _set(wanted[number], path, value)
        splices.append(_splice(text, nodes[number], path, value))
    for start, end, new in sorted(splices, key=lambda splice: splice[0], reverse=True):
        text = text[:start] + new + text[end:]
    documents: list[YamlDocument] = []
    why = ""
    try:
        documents = read_documents(text)
    except YamlError as error:
        why = f": {error.message}"
    if [document.value for document in documents] != wanted:
        places = ", ".join(".".join(map(str, path)) for path in changes)
        raise YamlError(
            f"{places} cannot be set without changing other values (an anchor or an alias?){why}; write it out in full",
            _line(nodes[number]),
            1,
        )
    return text, documents


def _compose(text: str) -> list[Node]:
    # one parser per text: it keeps state, and threads read files side by side
    try:
        return [node for node in YAML(typ="safe", pure=True).compose_all(text) if node is not None]
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        words = ", ".join(filter(None, (error.context, error.problem)))
        line, column = (mark.line + 1, mark.column + 1) if mark is not None else (1, 1)
        raise YamlError(words or "this is no YAML", line, column) from error
    except YAMLError as error:
        words = " ".join(str(getattr(error, "reason", "") or error).split())
        raise YamlError(words, text.count("\n", 0, getattr(error, "position", 0)) + 1, 1) from error
    except RecursionError as error:
        raise YamlError("it is nested too deeply", 1, 1) from error
    except (ValueError, TypeError, AttributeError, NotImplementedError) as error:
        # some malformed directives and escapes reach conversions inside the parser
        raise YamlError(f"it cannot be read ({error})", 1, 1) from error


class _Values:
    """Nodes as values; an alias to its own parent or endless aliases are errors."""

    def __init__(self) -> None:
        self._seen = 0
        self._open: set[int] = set()

    def of(self, node: Node) -> Any:
        self._seen += 1
        if self._seen > MAX_NODES:
            raise _at(node, "there are too many values here")
        if isinstance(node, ScalarNode):
            return _scalar(node)
        if id(node) in self._open:
            raise _at(node, "this contains itself by an alias")
        self._open.add(id(node))
        try:
            if isinstance(node, SequenceNode):
                return [self.of(item) for item in node.value]
            if isinstance(node, MappingNode):
                return self._mapping(node)
            raise _at(node, "this is no value")
        except RecursionError as error:
            raise _at(node, "it is nested too deeply") from error
        finally:
            self._open.discard(id(node))

    def _mapping(self, node: MappingNode) -> dict[str, Any]:
        mapping: dict[str, Any] = {}
        merged: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if key_node.tag == _TAG + "merge":
                sources = value_node.value if isinstance(value_node, SequenceNode) else [value_node]
                for source in sources:
                    value = self.of(source)
                    if not isinstance(value, dict):
                        raise _at(key_node, "<< needs a mapping")
                    merged = {**value, **merged}
                continue
            if not isinstance(key_node, ScalarNode):
                raise _at(key_node, "a key must be text")
            key = str(key_node.value)
            if key in mapping:
                raise _at(key_node, f"the key {key!r} is here twice; remove one")
            mapping[key] = self.of(value_node)
        return {**merged, **mapping} if merged else mapping


def _scalar(node: ScalarNode) -> Any:
    text = str(node.value)
    kind = str(node.tag).removeprefix(_TAG)
    try:
        if kind == "null":
            return None
        if kind == "bool":
            return {"true": True, "false": False}[text.lower()]
        if kind == "int":
            return int(text.replace("_", "?"), 0 if text.lstrip("+-")[:2] in ("0x", "0o") else 10)
        if kind == "float":
            number = float(text.replace(".inf", "inf").replace(".nan", "nan").replace(".Inf", "inf"))
            # 2025.10 is a name of something, not 2025.1
            return text if text.endswith("0") and repr(number) != text and "e" not in text.lower() else number
    except (ValueError, KeyError):
        return text
    if kind in ("str", "timestamp", "value"):
        return text
    raise _at(node, f"the tag {node.tag} has no meaning here; remove it")


def _splice(text: str, root: Node, path: Path, value: Any) -> tuple[int, int, str]:
    """Where in the text (start, end) to put what, for one change."""
    node: Node = root
    for step in path[:-1]:
        node = _child(node, step, path)
    name = path[-1]
    if not isinstance(node, MappingNode):
        raise _at(node, f"{'.'.join(map(str, path))} has no mapping to stand in")
    for key_node, value_node in node.value:
        if isinstance(key_node, ScalarNode) and key_node.value == name:
            return _replacement(text, key_node, value_node, value)
    return _insertion(text, node, str(name), value)


def _replacement(text: str, key_node: Node, value_node: Node, value: Any) -> tuple[int, int, str]:
    start, end = value_node.start_mark.index, value_node.end_mark.index
    if start < key_node.end_mark.index:
        raise _at(key_node, "its value is an alias; write it out in full")
    if not text[start:end].strip():
        colon = text.index(":", key_node.end_mark.index) + 1
        return colon, colon, " " + _flow(value)
    return start, end, _flow(value)


def _insertion(text: str, node: MappingNode, name: str, value: Any) -> tuple[int, int, str]:
    if not node.value:
        inside = node.start_mark.index + text[node.start_mark.index : node.end_mark.index].index("{") + 1
        return inside, inside, f"{_flow(name)}: {_flow(value)}"
    # behind the name where there is one: people look for a weight beneath it, and for annotations too
    pairs = [pair for pair in node.value if pair[0].value == "name" and _plain(pair[1])]
    first = node.value[0][0]
    if node.flow_style:
        write = json.dumps if text[first.start_mark.index] == '"' else _flow
        pair = f"{write(name)}: {write(value)}"
        if pairs:
            after = pairs[0][1].end_mark.index
            return after, after, f", {pair}"
        before = text.index("{", node.start_mark.index) + 1
        return before, before, f"{pair}, "
    # a key written as `? key` begins at its question mark
    begin = node.start_mark if text[node.start_mark.index] == "?" else first.start_mark
    indent = " " * begin.column
    line_end = "\r\n" if "\r\n" in text else "\n"
    pair = f"{_flow(name)}: {_flow(value)}"
    if isinstance(value, Mapping):
        pair = line_end.join([f"{_flow(name)}:", *(f"{indent}  {_flow(k)}: {_flow(v)}" for k, v in value.items())])
    if pairs:
        # at the end of the line, behind a comment
        after = text.find("\n", pairs[0][1].end_mark.index)
        after = len(text) if after < 0 else after
        if text[after - 1 : after] == "\r":
            after -= 1
        return after, after, f"{line_end}{indent}{pair}"
    return begin.index, begin.index, f"{pair}{line_end}{indent}"


def _child(node: Node, step: str | int, path: Path) -> Node:
    if isinstance(step, int) and isinstance(node, SequenceNode) and step < len(node.value):
        item: Node = node.value[step]
        return item
    if isinstance(node, MappingNode):
        for key_node, value_node in node.value:
            if key_node.value == step:
                value: Node = value_node
                return value
    raise _at(node, f"{'.'.join(map(str, path))} is not here")


def _plain(node: Node) -> bool:
    """A scalar on one line."""
    return isinstance(node, ScalarNode) and bool(node.start_mark.line == node.end_mark.line)


def _flow(value: Any) -> str:
    """A value as it is written on one line; keys of the usual letters stay bare."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_flow(key)}: {json.dumps(item)}" for key, item in value.items()) + "}"
    if isinstance(value, str) and value.replace(".", "a").replace("/", "a").replace("-", "a").isalnum():
        return value if value[0].isalpha() and value.isascii() and value not in _WORDS else json.dumps(value)
    return json.dumps(value)


_WORDS = frozenset({"true", "false", "null", "True", "False", "Null", "TRUE", "FALSE", "NULL"})


def _set(value: Any, path: Path, new: Any) -> None:
    for step in path[:-1]:
        value = value[step]
    value[path[-1]] = dict(new) if isinstance(new, Mapping) else new


def _line(node: Node) -> int:
    return int(node.start_mark.line) + 1


def _at(node: Node, message: str) -> YamlError:
    return YamlError(message, _line(node), int(node.start_mark.column) + 1)

"""YAML 1.2 as plain values, and small edits of its text that leave every other byte as it is.

Numbers that would lose a digit stay text (``2025.10``), and so do instants. An edit is made in the text itself, at the
places that the parser names, since a round trip through a YAML library would reformat the rest; it is then read
again, and refused when it changed anything else.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

MAX_NODES = 500_000
"""More nodes than any manifest has; aliases of aliases could make a small file endless."""

Path = tuple[str | int, ...]

REMOVED: Final = object()
"""As the value of a change: the key of a mapping, or the item of a list, goes."""

_TAG = "tag:yaml.org,2002:"
_MARK = re.compile(r"^---(?=\s|$)", re.MULTILINE)


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
    """The text with some values of one document set, and how it reads then.

    A value is a scalar, a flat mapping or list of scalars, or REMOVED. ``number`` counts documents from 0. A path may
    name a key that is missing in its mapping, or the place behind the last item of a list; it is added there.
    Raises YamlError when the text cannot be changed at these places alone.
    """
    nodes = _compose(text)
    wanted = [_Values().of(node) for node in nodes]
    # what two removals take along may overlap, so each looks at the text that the one before it has left
    settings = {path: value for path, value in changes.items() if value is not REMOVED}
    removals = [{path: value} for path, value in changes.items() if value is REMOVED]
    for step in filter(None, [settings, *reversed(removals)]):
        splices: list[tuple[int, int, str]] = []
        for path, value in step.items():
            _set(wanted[number], path, value)
            splices.append(_splice(text, nodes[number], path, value))
        text = _spliced(text, splices)
        places = ", ".join(".".join(map(str, path)) for path in step)
        nodes = _as_wanted(text, wanted, places, nodes[number])
    return text, [YamlDocument(value, _line(node)) for value, node in zip(wanted, nodes, strict=True)]


def removed(text: str, number: int) -> tuple[str, list[YamlDocument]]:
    """The text without one of its documents (from 0), and how it reads then; comments above its ``---`` stay.

    Raises YamlError when that would change another one.
    """
    nodes = _compose(text)
    wanted = [_Values().of(node) for place, node in enumerate(nodes) if place != number]
    starts = [_document_start(text, nodes, place) for place in range(len(nodes))]
    end = starts[number + 1] if number + 1 < len(nodes) else len(text)
    text = text[: starts[number]] + text[end:]
    after = _as_wanted(text, wanted, "this document", nodes[number])
    return text, [YamlDocument(value, _line(node)) for value, node in zip(wanted, after, strict=True)]


def _document_start(text: str, nodes: list[Node], place: int) -> int:
    """Where a document begins: at its ``---``, or at its first value where it has none."""
    first: int = nodes[place].start_mark.index
    before: int = nodes[place - 1].end_mark.index if place else 0
    return max((found.start() for found in _MARK.finditer(text, before, first)), default=first)


def _as_wanted(text: str, wanted: list[Any], what: str, node: Node) -> list[Node]:
    """The documents of a text that was changed. Raises YamlError when they are not as they should be."""
    why = ""
    try:
        nodes = _compose(text)
        if [_Values().of(document) for document in nodes] == wanted:
            return nodes
    except YamlError as error:
        why = f": {error.message}"
    raise YamlError(
        f"{what} cannot be changed without changing other values (an anchor or an alias?){why}; write it out in full",
        _line(node),
        1,
    )


def _spliced(text: str, splices: list[tuple[int, int, str]]) -> str:
    for start, end, new in sorted(splices, key=lambda splice: splice[0], reverse=True):
        text = text[:start] + new + text[end:]
    return text


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
    if isinstance(node, SequenceNode) and isinstance(name, int):
        items = [(item, item) for item in node.value]
        if value is REMOVED and name < len(items):
            return _removal(text, node, items, name)
        if value is not REMOVED and name == len(items) > 0:
            return _appendix(text, node, value)
    elif isinstance(node, MappingNode):
        for place, (key_node, value_node) in enumerate(node.value):
            if isinstance(key_node, ScalarNode) and key_node.value == name:
                if value is REMOVED:
                    return _removal(text, node, node.value, place)
                return _replacement(text, key_node, value_node, value)
        if value is not REMOVED:
            return _insertion(text, node, str(name), value)
    raise _at(node, f"{'.'.join(map(str, path))} has no place to stand in")


def _replacement(text: str, key_node: Node, value_node: Node, value: Any) -> tuple[int, int, str]:
    start, end = value_node.start_mark.index, value_node.end_mark.index
    if start < key_node.end_mark.index:
        raise _at(key_node, "its value is an alias; write it out in full")
    if not text[start:end].strip():
        colon = text.index(":", key_node.end_mark.index) + 1
        return colon, colon, " " + _flow(value)
    # a block of text has the end of its last line in it
    return start, start + len(text[start:end].rstrip()), _flow(value)


def _insertion(text: str, node: MappingNode, name: str, value: Any) -> tuple[int, int, str]:
    if not node.value:
        inside = node.start_mark.index + text[node.start_mark.index : node.end_mark.index].index("{") + 1
        return inside, inside, f"{_flow(name)}: {_flow(value)}"
    # behind the name where there is one: people look for a weight beneath it, and for annotations too
    pairs = [pair for pair in node.value if pair[0].value == "name" and _plain(pair[1])]
    first = node.value[0][0]
    if node.flow_style:
        write = _quoted if text[first.start_mark.index] == '"' else _flow
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


def _appendix(text: str, node: SequenceNode, value: Any) -> tuple[int, int, str]:
    """Behind the last item of a list that is not empty."""
    last = node.value[-1]
    after = _end(last)
    if node.flow_style:
        return after, after, f", {_flow(value)}"
    line_end = "\r\n" if "\r\n" in text else "\n"
    indent = " " * _dash(text, last.start_mark.index)[1]
    after = _line_end(text, after)
    if after and text[after - 1] == "\n":  # the item was a block of text, with its own end of line
        return after, after, f"{indent}- {_flow(value)}{line_end}"
    return after, after, f"{line_end}{indent}- {_flow(value)}"


def _removal(
    text: str, node: MappingNode | SequenceNode, pairs: list[tuple[Node, Node]], place: int
) -> tuple[int, int, str]:
    """A pair of a mapping (or an item of a list, as a pair with itself) with all that belongs to it alone."""
    key, value = pairs[place]
    begin = _begin(text, key)
    end = max(_end(value), key.end_mark.index)
    if node.flow_style:
        if place + 1 < len(pairs):
            return begin, _begin(text, pairs[place + 1][0]), ""
        if place:
            before = pairs[place - 1]
            return max(_end(before[1]), before[0].end_mark.index), end, ""
        return begin, end, ""
    if isinstance(node, SequenceNode):
        begin = _dash(text, begin)[0]
    line = text.rfind("\n", 0, begin) + 1
    if text[line:begin].strip():
        # it shares its line with what it stands in, which the next one then takes over
        if place + 1 == len(pairs):
            raise _at(key, "nothing would be left here; remove it by hand")
        following = _begin(text, pairs[place + 1][0])
        return begin, _dash(text, following)[0] if isinstance(node, SequenceNode) else following, ""
    end = _line_end(text, end)
    if end > line and text[end - 1] == "\n":
        return line, end, ""
    end += 1 + text.startswith("\r\n", end)
    return line, min(end, len(text)), ""


def _begin(text: str, node: Node) -> int:
    """Where a key or an item begins: a key written as ``? key`` at its question mark."""
    begin: int = node.start_mark.index
    before = text[:begin].rstrip(" \t")
    return len(before) - 1 if len(before) < begin and re.search(r"(?:^|[\s{,])\?$", before[-2:]) else begin


def _end(node: Node) -> int:
    """Where a value really ends: a block says that it ends where the next thing begins."""
    if isinstance(node, MappingNode | SequenceNode) and not node.flow_style and node.value:
        last = node.value[-1]
        if isinstance(node, SequenceNode):
            return _end(last)
        return max(int(last[0].end_mark.index), _end(last[1]))
    return int(node.end_mark.index)


def _dash(text: str, item: int) -> tuple[int, int]:
    """The place and the column of the dash before an item of a list."""
    place = text.rindex("-", 0, item)
    return place, place - text.rfind("\n", 0, place) - 1


def _line_end(text: str, after: int) -> int:
    """The end of the line without its line break; where a block of text ends, the beginning of the line after it."""
    if after and text[after - 1] == "\n":
        return after
    end = text.find("\n", after)
    end = len(text) if end < 0 else end
    return end - (text[end - 1 : end] == "\r")


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
        return "{" + ", ".join(f"{_flow(key)}: {_quoted(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_flow(item) for item in value) + "]"
    if isinstance(value, str) and value.replace(".", "a").replace("/", "a").replace("-", "a").isalnum():
        return value if value[0].isalpha() and value.isascii() and value not in _WORDS else _quoted(value)
    return _quoted(value)


def _quoted(value: Any) -> str:
    """As in JSON, but with the one spelling of a rare letter that YAML has too: JSON writes it as two halves."""
    if not isinstance(value, str):
        return json.dumps(value)
    escaped = json.dumps(value, ensure_ascii=False)
    return "".join(letter if letter.isprintable() else f"\\U{ord(letter):08x}" for letter in escaped)


_WORDS = frozenset({"true", "false", "null", "True", "False", "Null", "TRUE", "FALSE", "NULL"})


def _set(value: Any, path: Path, new: Any) -> None:
    try:
        for step in path[:-1]:
            value = value[step]
        if new is REMOVED:
            del value[path[-1]]
        elif isinstance(value, list) and path[-1] == len(value):
            value.append(new)
        else:
            value[path[-1]] = dict(new) if isinstance(new, Mapping) else new
    except (LookupError, TypeError) as error:
        raise YamlError(f"{'.'.join(map(str, path))} is not here", 1, 1) from error


def _line(node: Node) -> int:
    return int(node.start_mark.line) + 1


def _at(node: Node, message: str) -> YamlError:
    return YamlError(message, _line(node), int(node.start_mark.column) + 1)

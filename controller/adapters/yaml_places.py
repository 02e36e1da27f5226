"""Where the values of a YAML file stand in it, what to write where it is no YAML, and values as YAML."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from controller.adapters.yaml_documents import YamlError, _compose, _Values

_MERGE = "tag:yaml.org,2002:merge"


@dataclass(frozen=True, slots=True)
class Span:
    """A place in a file: line and column count from 1; ``length`` characters of that line are meant."""

    line: int
    column: int
    length: int


class LocatedDocument:
    """One document of a file: its value, and where each part of it stands."""

    def __init__(self, value: Any, root: Node, text: str) -> None:
        self.value = value
        self._root = root
        self._lines = text.splitlines()

    def span(self, path: str = "") -> Span:
        """Where ``spec.phases[0].steps[1].weight`` stands: the field by its name, the entry of a list by its beginning.

        What is not there is looked for in what should hold it: a missing field is at the field around it.
        """
        key: Node | None = None
        node, rest = self._root, path
        while rest and (found := _child(node, rest)) is not None:
            key, node, rest = found
        return self._extent(key or node, node)

    def _extent(self, first: Node, last: Node) -> Span:
        start, end = first.start_mark, last.end_mark
        if end.line != start.line or end.column <= start.column:
            # of what goes on over several lines, or was written elsewhere under an anchor, its name or first line
            end = first.end_mark
        line = self._lines[start.line] if start.line < len(self._lines) else ""
        stop = end.column if end.line == start.line else len(line.rstrip())
        return Span(int(start.line) + 1, int(start.column) + 1, max(1, int(stop - start.column)))


def read_located(text: str) -> list[LocatedDocument]:
    """The documents of a file as ``read_documents`` gives them, with their places.

    Raises YamlError, whose message says what to write instead.
    """
    try:
        # composed once for both the values and their places: the parser is what takes long
        return [LocatedDocument(_Values().of(root), root, text) for root in _compose(text)]
    except YamlError as error:
        raise _advised(error, text) from error


def as_yaml(value: Any) -> str:
    """Plain values as a YAML document in block style, its fields in their order."""
    writer = YAML(typ="safe", pure=True)
    writer.default_flow_style = False
    writer.width = 1_000_000  # a sentence stays on its line
    writer.sort_base_mapping_type_on_output = False  # type: ignore[assignment]  # it is declared as None
    stream = io.StringIO()
    writer.dump(value, stream)
    return stream.getvalue()


def _child(node: Node, rest: str) -> tuple[Node | None, Node, str] | None:
    """The first step of a path: the key it goes by (None in a list), where it leads, and what is left of the path."""
    if isinstance(node, SequenceNode):
        number = re.match(r"\[([0-9]+)\]\.?", rest)
        if number is None or int(number[1]) >= len(node.value):
            return None
        return None, node.value[int(number[1])], rest[number.end() :]
    best: tuple[Node | None, Node, str] | None = None
    longest = 0
    for key, value in _pairs(node, 0):
        name = str(key.value)
        # a key may hold dots itself; the longest one that fits is meant, and the first of equals
        if len(name) > longest and rest.startswith(name) and rest[len(name) : len(name) + 1] in ("", ".", "["):
            best, longest = (key, value, rest[len(name) :].removeprefix(".")), len(name)
    return best


def _pairs(node: Node, depth: int) -> Iterator[tuple[ScalarNode, Node]]:
    """Keys and values of a mapping, its own before those that ``<<`` brings in."""
    if not isinstance(node, MappingNode) or depth > 8:
        return
    merged: list[Node] = []
    for key, value in node.value:
        if key.tag == _MERGE:
            merged += value.value if isinstance(value, SequenceNode) else [value]
        elif isinstance(key, ScalarNode):
            yield key, value
    for source in merged:
        yield from _pairs(source, depth + 1)


_ADVICE: tuple[tuple[str, str, bool], ...] = (
    (r"found character '\\t'", "a tab stands where only spaces may; indent with spaces", False),
    (r"found character '(.)'", "a value cannot begin with {0}; put it in quotes", False),
    (
        r"sequence entries are not allowed",
        "a list cannot begin on the line of its field; write its first - on a line of its own",
        False,
    ),
    (r"could not find expected ':'", "this line has no colon; write FIELD: VALUE, with a space behind the colon", True),
    (
        r"while scanning a .*quoted scalar, found unexpected end",
        "this quote is never closed; write its other end",
        True,
    ),
    (
        r"expected ',' or '(.)', but got '<stream end>'",
        "this bracket is never closed; write {0} where its content ends",
        True,
    ),
    (
        r"expected ',' or '(.)', but got",
        "a comma or {0} is missing before this; write a comma between two entries, and {0} behind the last",
        False,
    ),
    (
        r"expected <block end>, but found '<scalar>'",
        "text goes on behind the end of a value; put the whole value in quotes, or indent it alike",
        False,
    ),
    (
        r"expected <block end>",
        "this begins in another column than what it belongs to; begin the fields of one mapping, and the hyphens of "
        "one list, in the same column",
        False,
    ),
    (
        r"expected the node content, but found '<stream end>'",
        "the file ends inside a value; write the rest of it",
        False,
    ),
    (
        r"found undefined alias '(.+)'",
        "*{0} repeats what no &{0} has named; put text that begins with * in quotes",
        False,
    ),
    (r"while scanning an alias", "a value cannot begin with *; put it in quotes", False),
    (
        r"found unknown escape character",
        "a backslash in double quotes begins an escape; write \\\\, or single quotes",
        False,
    ),
    (r"incompatible YAML document", "this is not YAML 1.2; remove the line that begins with %YAML", False),
    (
        r"special characters are not allowed",
        "there is a character that no text may hold (a control character, or half of a surrogate pair); remove it",
        False,
    ),
    (r"a key must be text", "a mapping stands where a field's name should; put text with braces in quotes", False),
)
"""What the parser says (a pattern), what is told instead, and whether it is told where the part began."""


def _advised(error: YamlError, text: str) -> YamlError:
    if "mapping values are not allowed" in error.message:
        return _colon(error, text)
    for pattern, advice, at_beginning in _ADVICE:
        match = re.search(pattern, error.message)
        if match is None:
            continue
        line, column = error.line, error.column
        cause = error.__cause__
        if at_beginning and isinstance(cause, MarkedYAMLError) and cause.context_mark is not None:
            line, column = cause.context_mark.line + 1, cause.context_mark.column + 1
        if "no text may hold" in advice:
            line, column = _first_special(text)
        return YamlError(advice.format(*match.groups()), line, column)
    return YamlError(
        f"this is no YAML: {error.message}; correct it" if error.__cause__ else error.message, error.line, error.column
    )


def _colon(error: YamlError, text: str) -> YamlError:
    """A colon too many: in a value, or because its line is indented as if it went on with the value above."""
    lines = text.splitlines()
    before = lines[error.line - 1][: error.column - 1] if error.line <= len(lines) else ""
    if re.search(r":\s", before):
        return YamlError(
            "a second colon on one line; put text that holds a colon in quotes, or write the inner mapping on lines "
            "of its own",
            error.line,
            error.column,
        )
    return YamlError(
        "this line is indented as if it belonged to the value above it; begin the fields of one mapping in the same "
        "column",
        error.line,
        len(before) - len(before.lstrip(" -")) + 1,
    )


def _first_special(text: str) -> tuple[int, int]:
    found = re.search("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", text)
    before = text[: found.start()] if found else ""
    return before.count("\n") + 1, len(before) - before.rfind("\n")

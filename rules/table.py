"""The tables of the sources: what each kind of exporter calls its counts, read from a small YAML file and checked.

A table says where the numbers are, never how they are counted; that is the one template of ``generate.py``.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import promql_parser
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from controller.adapters.yaml_documents import YamlError, read_documents
from controller.core import normal_form as form
from controller.core.units import parse_duration

LABELS = form.LABELS

Seconds = Annotated[float, BeforeValidator(parse_duration)]
Metric = Annotated[str, Field(pattern=r"^[a-zA-Z_:][a-zA-Z0-9_:]*$")]
LabelName = Annotated[str, Field(pattern=r"^[a-zA-Z_][a-zA-Z0-9_]*$")]


class TableError(Exception):
    """A table cannot be used; the message names the file and the field, and says what to write instead."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Label(_Part):
    """How one recorded label is found: group ``take`` of the whole value of ``source`` against the RE2 pattern ``match``.

    Without a pattern it is the value itself. Series that do not match are not read.
    """

    source: LabelName = Field(alias="from")
    match: str | None = None
    take: int = Field(default=1, ge=1)

    @model_validator(mode="after")
    def _group_exists(self) -> Self:
        if self.match is None:
            return self
        try:
            groups = re.compile(self.match).groups
        except re.error as fault:
            raise ValueError(f"{self.match!r} is no regular expression ({fault})") from fault
        if self.take > groups:
            raise ValueError(
                f"{self.match!r} has {groups} groups and take is {self.take}; put parentheses around the wanted part"
            )
        return self


def _label(value: object) -> object:
    return {"from": value} if isinstance(value, str) else value


class Births(_Part):
    """What tells a process that began lately from one that was only found late.

    ``start`` are metrics that hold the Unix time of the start, ``age`` such that hold the seconds since; a target needs
    one of them at most. ``within`` is the oldest that a process may be (seconds) at its first sample for all its counts
    to be news. Sources that are pushed, not ``scraped``, have no ``up``.
    """

    scraped: bool = True
    start: tuple[Metric, ...] = ()
    age: tuple[Metric, ...] = ()
    within: Seconds = form.AGE_AT_FIRST_SCRAPE_S


class Table(_Part):
    """One source. ``failed`` are lists of matchers; a request that fits any of them has failed. ``edges`` in seconds."""

    about: str = Field(min_length=1)
    where: str = ""
    requests: Metric
    failed: tuple[str, ...] = Field(min_length=1)
    latency: Metric
    unit: Literal["s", "ms"]
    edges: tuple[Seconds, ...] = Field(min_length=1)
    labels: Mapping[str, Annotated[Label, BeforeValidator(_label)]]
    births: Births

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if set(self.labels) != set(LABELS):
            raise ValueError(f"labels are {', '.join(sorted(self.labels)) or 'none'}; write {', '.join(LABELS)}")
        if list(self.edges) != sorted(set(self.edges)):
            raise ValueError("edges must rise, each once; write them from the smallest to the largest")
        if "\n" in self.about:
            raise ValueError("about must be one line; write one sentence")
        for matchers in (self.where, *self.failed):
            selector = self.selector(self.requests, matchers)
            try:
                promql_parser.parse(selector)
            except ValueError as fault:
                raise ValueError(
                    f'{matchers!r} are no label matchers ({fault}); write such as code=~"5..",method="GET"'
                ) from fault
        self.relabelled()
        return self

    def selector(self, metric: str, *matchers: str) -> str:
        """The series of a metric that this source reads, with further matchers."""
        patterns = (f'{label.source}=~"{quoted(label.match)}"' for label in self._in_order() if label.match)
        wanted = filter(None, [*dict.fromkeys(patterns), self.where, *matchers])
        inside = ",".join(wanted)
        return f"{metric}{{{inside}}}" if inside else metric

    @property
    def by(self) -> tuple[str, ...]:
        """The labels that tell the rows apart at the source, each once."""
        return tuple(dict.fromkeys(label.source for label in self._in_order()))

    @property
    def per_second(self) -> float:
        """How many of the histogram's units make a second."""
        return 1000.0 if self.unit == "ms" else 1.0

    def relabelled(self) -> list[tuple[str, Label]]:
        """The recorded labels that differ from the source's, in an order in which none is overwritten before it is read.

        Raises ValueError when there is no such order.
        """
        open_ = {
            name: self.labels[name]
            for name in LABELS
            if self.labels[name].source != name or self.labels[name].match is not None
        }
        order = []
        while open_:
            free = [n for n in open_ if not any(label.source == n for m, label in open_.items() if m != n)]
            if not free:
                raise ValueError(f"labels {' and '.join(open_)} are each made from the other; rename one at the source")
            order.append((free[0], open_.pop(free[0])))
        return order

    def _in_order(self) -> list[Label]:
        return [self.labels[name] for name in LABELS if name in self.labels]


def quoted(text: str) -> str:
    """A text as it stands between the double quotes of PromQL."""
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def read_table(file: Path) -> Table:
    """The table of a file. Raises TableError, also when the file cannot be read."""
    try:
        documents = read_documents(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as fault:
        raise TableError(
            f"{file}: it cannot be read ({fault}); name a table, such as rules/sources/http.yaml"
        ) from fault
    except YamlError as fault:
        raise TableError(f"{file}:{fault.line}: {fault.message}") from fault
    if len(documents) != 1 or not isinstance(documents[0].value, dict):
        raise TableError(f"{file}: it is no table; begin with a copy of rules/sources/http.yaml")
    return table_of(documents[0].value, str(file))


def table_of(values: Mapping[str, Any], file: str) -> Table:
    """The table that these values make. Raises TableError, which names ``file``."""
    try:
        return Table.model_validate(values)
    except ValidationError as faults:
        told = "; ".join(_told(fault["loc"], fault["msg"]) for fault in faults.errors())
        raise TableError(f"{file}: {told}") from faults


def _told(place: tuple[int | str, ...], message: str) -> str:
    field = ".".join(str(step) for step in place)
    message = message.removeprefix("Value error, ")
    return f"{field}: {message}" if field else message

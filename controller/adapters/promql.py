"""A plan's own PromQL: read, confined to the launch it belongs to, and joined with others so that one query asks many.

All changes go through the parsed expression, never through its text: what is sent is written from what was understood.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import NamedTuple

import promql_parser
from promql_parser import Expr, MatchOp, VectorSelector

from controller.core.check import Anatomy, Selected
from controller.core.matchers import Condition
from controller.core.normal_form import (
    ANCHOR_WINDOW_S,
    LABELS,
    alerting_doubt,
    anchored_difference,
    duration,
    incidents_begun,
    incidents_firing,
    recorded_errors,
    recorded_reading,
    recorded_requests,
    sum_by,
    young_process,
)
from controller.core.series import Subject
from controller.errors import RefusedError

QUESTION_LABEL = "__question"
"""The label that tells the answers of joined expressions apart: the part's number."""
KEY_LABEL = "__key"
"""The label that tells the rows of one joined selector apart: the values of its labels, with KEY_SEPARATOR between."""
KEY_SEPARATOR = "\x1f"

_PLACEHOLDER = re.compile(r"\{\{\s*(\w*)\s*\}\}")
_MARK = "placeholder7f3a"
_MARKED = re.compile(_MARK + r"([a-z]+)z0")
_PLACEHOLDERS = ("namespace", "target", "service", "track", "revision")
_PLAIN_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_OPERATORS = ((MatchOp.Equal, "="), (MatchOp.NotEqual, "!="), (MatchOp.Re, "=~"), (MatchOp.NotRe, "!~"))  # no hash
_SPECIAL = re.compile(r"([\\.+*?()|\[\]{}^$])")


class Matcher(NamedTuple):
    """One condition on a label; ``operator`` is =, !=, =~ or !~."""

    label: str
    operator: str
    value: str

    def __str__(self) -> str:
        label = self.label if _PLAIN_NAME.fullmatch(self.label) else quoted(self.label)
        return f"{label}{self.operator}{quoted(self.value)}"


@dataclass(frozen=True, slots=True)
class Selector:
    """A plain vector selector; ``name`` may be empty."""

    name: str
    matchers: tuple[Matcher, ...]

    def __str__(self) -> str:
        if not self.matchers:
            return self.name
        return f"{self.name}{{{','.join(map(str, self.matchers))}}}"

    def having(self, *wanted: Matcher) -> Selector:
        """The same with more conditions; those that it has already are not repeated."""
        return Selector(self.name, (*self.matchers, *(m for m in wanted if m not in self.matchers)))


@dataclass(frozen=True, slots=True)
class Confinement:
    """To what a plan's own queries are tied: the labels that hold the namespace and the track.

    ``enforced`` false leaves every expression as it was written; then a plan may read other namespaces' metrics.
    ``watchdog`` are the labels of the alert that always fires, without which incidents are not counted.
    """

    namespace_label: str = "namespace"
    track_label: str = "track"
    enforced: bool = True
    watchdog: tuple[tuple[str, str], ...] = (("alertname", "Watchdog"),)


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked about one subject. ``parts`` are (bad, total), (bucket, count), (begun, firing, doubt), (failed,
    requests, answering), (standard error, value) or the one bare value.

    A part is a selector of counters, or a ready expression; ``whole``: the latter gives the one number that is meant, and
    several rows of it are no parts of a sum. Questions with one ``family`` differ in nothing but the
    values of equality conditions, so that they can be asked as one.
    """

    parts: tuple[Selector | str, ...]
    interval: int
    family: tuple[object, ...]
    whole: bool = False


@dataclass(frozen=True, slots=True)
class Part:
    """One selector of counters, or ready expression, that answers for many questions.

    The rows are told apart by ``labels``; question i finds its own at ``keys[i]``, as KEY_LABEL has it.
    """

    source: Selector | str
    labels: tuple[str, ...]
    keys: tuple[str, ...]


def quoted(value: str) -> str:
    """A PromQL string literal of any text."""
    text = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\r", "\\r")
    return f'"{text}"'


def literal(value: str) -> str:
    """A regular expression (RE2) that matches this text and nothing else."""
    return _SPECIAL.sub(r"\\\1", value)


def one_of(label: str, values: Iterable[str]) -> Matcher:
    """The condition that a label has one of these values, equality where there is one; the order is fixed by sorting."""
    ordered = sorted(set(values))
    if len(ordered) == 1:
        return Matcher(label, "=", ordered[0])
    return Matcher(label, "=~", "|".join(map(literal, ordered)))


def question(subject: Subject, confinement: Confinement) -> Question:
    """What Prometheus is asked about a subject whose series is a ratio, a latency, a bare value, incidents or uptime.

    Incidents are not confined to the namespace: an alert has the labels that its rule gave it, which need not hold one,
    and an incident that is left out would be a pass.

    Raises:
        RefusedError: an expression that cannot be read, or not be confined; the message names the metric and its field.
    """
    series = subject.series
    values = {
        "namespace": subject.namespace,
        "target": subject.target,
        "service": subject.service,
        "track": subject.track,
        "revision": subject.revision,
    }
    inside: tuple[Matcher, ...] = ()
    if confinement.enforced:
        inside = (Matcher(confinement.namespace_label, "=", subject.namespace),)
    if series.kind == "incidents":
        which = str(_Expression(series.total, "incidents, field matchers", values, ()).counter())
        interval = series.interval
        watchdog = ",".join(str(Matcher(label, "=", value)) for label, value in confinement.watchdog)
        asked = (
            incidents_begun(which, interval),
            incidents_firing(which, interval),
            alerting_doubt(interval, watchdog),
        )
        return Question(asked, interval, asked)
    if series.kind == "uptime":
        labels = ",".join(str(Matcher(label, "=", values[label])) for label in LABELS)
        records = (recorded_errors(series.interval), recorded_requests(series.interval))
        counts = (recorded_reading(record, series.interval, at=labels) for record in records)
        parts = (*counts, f"last_over_time(up{{{labels}}}[{duration(series.interval)}])")
        return Question(parts, series.interval, parts)
    where = f'metric "{series.metric}"'
    if series.kind == "value":
        texts = tuple(
            _Expression(text, f"{where}, field value.{field}", values, inside).value()
            for text, field in ((series.bad, "standardError"), (series.total, "query"))
            if text or field == "query"
        )
        return Question(texts, series.interval, texts, whole=True)
    if confinement.enforced:
        inside = (*inside, Matcher(confinement.track_label, "=", subject.track))
    fields = ("latency.bucket", "latency.count") if series.kind == "latency" else ("ratio.bad", "ratio.total")
    bad, total = (
        _Expression(text, f"{where}, field {name}", values, inside).counter()
        for text, name in zip((series.bad, series.total), fields, strict=True)
    )
    if series.kind == "latency":
        if not isinstance(bad, Selector):
            raise RefusedError(
                f"{where}, field latency.bucket: not a selector; write one such as request_seconds_bucket"
            )
        # Prometheus 2 keeps an edge as the source wrote it, 3 always writes a decimal point.
        bad = bad.having(one_of("le", edge_spellings(series.edge)))
    return Question((bad, total), series.interval, (_family(bad), _family(total), series.interval))


def joined(questions: Sequence[Question]) -> tuple[Part, ...]:
    """What answers all these questions, which must be of one family."""
    parts: list[Part] = []
    for place, example in enumerate(questions[0].parts):
        selectors = [part for each in questions if isinstance(part := each.parts[place], Selector)]
        if selectors:
            parts.append(_joined_selectors(selectors))
        else:
            # Questions of one family with a ready expression have the very same one.
            source = str(example) if questions[0].whole else sum_by((), str(example))
            parts.append(Part(source, (), ("",) * len(questions)))
    return tuple(parts)


def request(parts: Sequence[Part], interval: int) -> str:
    """One expression of many; the rows of the i-th part carry its number in the label ``__question``.

    Asked at once they are answered from one state of the storage: a scrape is in all of them or in none. The counters
    share one anchored difference (see :mod:`controller.core.normal_form`): which targets were born lately is then found
    out once and not once for each. ``interval`` is seconds.
    """
    anchor_window = max(ANCHOR_WINDOW_S, 5.0 * interval)
    now, before = f"[{duration(interval)}]", f"[{duration(anchor_window)}] offset {duration(interval)}"
    counters = [(number, part) for number, part in enumerate(parts) if isinstance(part.source, Selector)]
    expressions: list[str] = []
    if counters:
        current, previous = (
            _either(
                [_tagged(f"last_over_time({part.source}{window})", number, part.labels) for number, part in counters]
            )
            for window in (now, before)
        )
        born = f"on (job, instance) (\n  max_over_time(up{before}) == 1\n  or {young_process(interval, 0.0)}\n)"
        expressions.append(sum_by((QUESTION_LABEL, KEY_LABEL), anchored_difference(current, previous, born)))
    expressions += [
        _tagged(part.source, number, ()) for number, part in enumerate(parts) if isinstance(part.source, str)
    ]
    return _either(expressions)


def edge_spellings(edge: float) -> tuple[str, ...]:
    """How a bucket's upper edge (seconds) may be written in ``le``: ``1`` and ``1.0``."""
    if edge == float("inf"):
        return ("+Inf",)
    return tuple(dict.fromkeys((repr(float(edge)), f"{edge:g}", repr(float(edge)).removesuffix(".0"))))


class _Expression:
    """An expression of a plan, filled in and confined. ``field`` is how messages name it."""

    def __init__(self, text: str, field: str, values: Mapping[str, str], inside: Sequence[Matcher]) -> None:
        self._field = field
        if _MARK in text:
            raise self._refusal(f"holds the word {_MARK}, which is reserved")
        if re.search(r"`[^`]*\\[^`]*`", text):
            raise self._refusal('holds a backslash between backticks; write the text in double quotes with "\\\\"')

        def mark(found: re.Match[str]) -> str:
            if found[1] not in _PLACEHOLDERS:
                known = ", ".join(f"{{{{{name}}}}}" for name in _PLACEHOLDERS)
                raise self._refusal(f"{found[0]} is not known; write one of {known}")
            return f"{_MARK}{found[1]}z0"

        self._parsed = self._parse(_PLACEHOLDER.sub(mark, text))
        fill = _Filling(values)

        def rewrite(node: Expr) -> Expr | None:
            if not isinstance(node, VectorSelector):
                return None
            selector = self._selector(node, fill).having(*inside)
            return self._parse(str(selector) + _modifiers(node))

        self._parsed = promql_parser.transform(self._parsed, None, rewrite)
        self.text = self._parsed.prettify()
        if _MARK in self.text:
            raise self._refusal(
                'a placeholder stands outside of a label\'s value; write it as in {service="{{service}}"}'
            )
        self._check(inside)

    def counter(self) -> Selector | str:
        """A plain selector, or the text of a ready expression."""
        node = self._parsed
        if isinstance(node, VectorSelector) and node.offset is None and node.at is None:
            return self._selector(node, str)
        self._check_value()
        return self.text

    def value(self) -> str:
        """The text of an expression with rows, even where it was a bare number."""
        self._check_value()
        return f"vector({self.text})" if _is_scalar(self._parsed) else self.text

    def _check_value(self) -> None:
        kind = type(self._parsed)
        if kind in {promql_parser.MatrixSelector, promql_parser.SubqueryExpr}:
            raise self._refusal("gives a range; write an expression with one value per instant, such as sum(rate(...))")
        if kind is promql_parser.StringLiteral:
            raise self._refusal("gives a text; write an expression with one value per instant")

    def _check(self, inside: Sequence[Matcher]) -> None:
        """What will be sent, read again: every selector has every condition. Trust in the rewriting is not enough."""
        outside: list[str] = []

        def look(node: Expr) -> bool:
            if isinstance(node, VectorSelector):
                has = {(m.name, _operator(m), m.value) for m in node.matchers.matchers}
                if node.matchers.or_matchers or not all(tuple(matcher) in has for matcher in inside):
                    outside.append(node.prettify())
            return True

        self._parsed = self._parse(self.text)
        promql_parser.walk(self._parsed, look)
        if outside:
            raise self._refusal(f'{outside[0]} cannot be confined to its namespace; write it as name{{label="value"}}')

    def _selector(self, node: VectorSelector, fill: Callable[[str], str] | _Filling) -> Selector:
        if node.matchers.or_matchers:
            raise self._refusal('"or" between label conditions is not supported; write =~"one|other"')
        matchers: list[Matcher] = []
        for found in node.matchers.matchers:
            operator = _operator(found)
            value = fill.pattern(found.value) if isinstance(fill, _Filling) and "~" in operator else fill(found.value)
            matchers.append(Matcher(found.name, operator, value))
        return Selector(node.name or "", tuple(matchers))

    def _parse(self, text: str) -> Expr:
        try:
            parsed: Expr = promql_parser.parse(text)
        except ValueError as error:
            reason = " ".join(_MARKED.sub(r"{{\1}}", str(error)).split())[:200]
            raise self._refusal(f"is no PromQL: {reason}") from error
        return parsed

    def _refusal(self, reason: str) -> RefusedError:
        return RefusedError(f"{self._field}: {reason}")


class _Filling:
    """Puts the values where the marks are."""

    def __init__(self, values: Mapping[str, str]) -> None:
        self._values = values

    def __call__(self, text: str) -> str:
        return _MARKED.sub(lambda found: self._values[found[1]], text)

    def pattern(self, text: str) -> str:
        return _MARKED.sub(lambda found: literal(self._values[found[1]]), text)


def _operator(matcher: promql_parser.Matcher) -> str:
    return next(text for operator, text in _OPERATORS if operator == matcher.op)


def _modifiers(node: VectorSelector) -> str:
    text = ""
    if node.at is not None:
        kind = node.at.type
        if kind == promql_parser.AtModifierType.Start:
            text += " @ start()"
        elif kind == promql_parser.AtModifierType.End:
            text += " @ end()"
        elif node.at.at is not None:
            text += f" @ {node.at.at.timestamp():.3f}"
    if node.offset is not None:
        text += f" offset {node.offset // timedelta(milliseconds=1)}ms"
    return text


def _is_scalar(node: Expr) -> bool:
    if isinstance(node, promql_parser.NumberLiteral):
        return True
    if isinstance(node, promql_parser.ParenExpr | promql_parser.UnaryExpr):
        return _is_scalar(node.expr)
    if isinstance(node, promql_parser.BinaryExpr):
        return _is_scalar(node.lhs) and _is_scalar(node.rhs)
    return isinstance(node, promql_parser.Call) and node.func.return_type == promql_parser.ValueType.Scalar


def _family(part: Selector | str) -> tuple[object, ...]:
    if isinstance(part, str):
        return ("ready", part)
    return (part.name, *((m.label, m.operator, None if _may_vary(m, part) else m.value) for m in part.matchers))


def _may_vary(matcher: Matcher, selector: Selector) -> bool:
    # An empty value means "no such label", which a sum by that label would not give back. A label with two conditions
    # keeps both as they are.
    same = sum(other.label == matcher.label for other in selector.matchers)
    return matcher.operator == "=" and matcher.value != "" and matcher.label not in {"__name__", "le"} and same == 1


def _tagged(expression: str, number: int, labels: Sequence[str]) -> str:
    if labels:
        names = ", ".join(map(quoted, labels))
        expression = f'label_join(\n{expression},\n"{KEY_LABEL}", "\\x1f", {names})'
    return f'label_replace(\n{expression},\n"{QUESTION_LABEL}", "{number}", "", "")'


def _either(expressions: Sequence[str]) -> str:
    """All rows of all expressions. As a tree: each `or` goes through all that is left of it."""
    if len(expressions) == 1:
        return expressions[0]
    middle = len(expressions) // 2
    return f"({_either(expressions[:middle])}\nor {_either(expressions[middle:])})"


def _joined_selectors(selectors: Sequence[Selector]) -> Part:
    """One selector of all that these select, the labels by which its series are told apart, and each one's values."""
    columns = list(zip(*(selector.matchers for selector in selectors), strict=True))
    varying = [place for place, column in enumerate(columns) if len(set(column)) > 1]
    matchers = tuple(
        one_of(column[0].label, (matcher.value for matcher in column)) if place in varying else column[0]
        for place, column in enumerate(columns)
    )
    labels = tuple(columns[place][0].label for place in varying)
    keys = tuple(KEY_SEPARATOR.join(selector.matchers[place].value for place in varying) for selector in selectors)
    return Part(Selector(selectors[0].name, matchers), labels, keys)


def anatomy(text: str) -> Anatomy:
    """What an expression is made of.

    Raises:
        RefusedError: it is no PromQL.
    """
    try:
        parsed = promql_parser.parse(text)
    except ValueError as error:
        raise RefusedError(f"is no PromQL: {' '.join(str(error).split())[:200]}") from error
    selected: list[Selected] = []
    constants: list[str] = []
    inside: list[str] = []

    def enter(node: Expr) -> None:
        if isinstance(node, VectorSelector):
            conditions = tuple(Condition(m.name, _operator(m), m.value) for m in node.matchers.matchers)
            selected.append(Selected(node.name or "", conditions, tuple(word for word in inside if word)))
        if isinstance(node, promql_parser.BinaryExpr) and str(node.op) == "or":
            constants.extend(_bare(side).prettify() for side in (node.lhs, node.rhs) if _is_constant(side))
        inside.append(_word(node))

    def leave(_node: Expr) -> None:
        inside.pop()

    promql_parser.walk(parsed, enter, leave)
    return Anatomy(tuple(selected), tuple(constants))


def _word(node: Expr) -> str:
    """What a node does to what stands in it; empty: nothing."""
    if isinstance(node, promql_parser.Call):
        return node.func.name
    return str(node.op) if isinstance(node, promql_parser.AggregateExpr | promql_parser.BinaryExpr) else ""


def _bare(node: Expr) -> Expr:
    return _bare(node.expr) if isinstance(node, promql_parser.ParenExpr) else node


def _is_constant(node: Expr) -> bool:
    """Whether it answers without any series: ``vector(0)``."""
    names: list[Expr] = []
    calls: list[Expr] = []

    def look(each: Expr) -> None:
        if isinstance(each, VectorSelector):
            names.append(each)
        elif isinstance(each, promql_parser.Call) and each.func.name == "vector":
            calls.append(each)

    promql_parser.walk(node, look)
    return bool(calls) and not names

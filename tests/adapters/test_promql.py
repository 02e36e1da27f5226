import re
from collections.abc import Iterable

import promql_parser
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.adapters.promql import (
    Confinement,
    Matcher,
    Part,
    Question,
    Selector,
    edge_spellings,
    joined,
    literal,
    one_of,
    question,
    quoted,
    request,
)
from controller.core.normal_form import anchored_increase
from controller.core.series import Series, Subject, Track
from controller.errors import RefusedError

INSIDE = 'namespace="prod",track="canary"'


def ratio(bad: str, total: str = "all_total", *, confinement: Confinement | None = None, **subject: str) -> Question:
    return question(_subject(Series("ratio", "paying", bad, total), **subject), confinement or Confinement())


def value(query: str, confinement: Confinement | None = None) -> str:
    (part,) = question(_subject(Series("value", "revenue", total=query)), confinement or Confinement()).parts
    return str(part)


def _subject(series: Series, service: str = "shop", namespace: str = "prod", revision: str = "v2") -> Subject:
    track: Track = "canary"
    return Subject(series, namespace, "main", service, revision, track)


def one_line(text: str) -> str:
    return " ".join(text.split())


# --- filling ---


@pytest.mark.parametrize(
    ("written", "sent"),
    [
        ('x{service="{{service}}"}', f'x{{{INSIDE},service="shop"}}'),
        ('x{service="{{ service }}"}', f'x{{{INSIDE},service="shop"}}'),
        ('x{a="{{target}}/{{revision}}"}', f'x{{a="main/v2",{INSIDE}}}'),
        ('x{pod=~"{{service}}-.*"}', f'x{{{INSIDE},pod=~"shop-.*"}}'),
    ],
)
def test_placeholders_are_filled_in(written: str, sent: str) -> None:
    filled = ratio(written).parts[0]
    assert isinstance(filled, Selector)
    assert sorted(filled.matchers) == sorted(_matchers(sent))


def test_a_value_stays_inside_its_string() -> None:
    (bad, _) = ratio('x{a="{{revision}}"}', revision='v"} or y{b="\\').parts
    assert isinstance(bad, Selector)
    assert Matcher("a", "=", 'v"} or y{b="\\') in bad.matchers
    assert _matchers(str(bad)) == list(bad.matchers)


def test_a_value_in_a_pattern_is_no_pattern() -> None:
    (bad, _) = ratio('x{a=~"{{service}}|b.*"}', service="shop.eu+1").parts
    assert isinstance(bad, Selector)
    assert Matcher("a", "=~", r"shop\.eu\+1|b.*") in bad.matchers


@pytest.mark.parametrize(
    ("written", "words"),
    [
        ("{{service}}_total", "a placeholder stands outside of a label's value"),
        ("sum by ({{track}}) (x)", "a placeholder stands outside of a label's value"),
        ('label_replace(x, "a", "{{track}}", "", "")', "a placeholder stands outside of a label's value"),
        ('x{a="{{cluster}}"}', r"\{\{cluster\}\} is not known; write one of \{\{namespace\}\}, "),
        ("x{", "is no PromQL"),
        ("", "is no PromQL: no expression"),
        ("x[5m]", "gives a range; write an expression with one value per instant"),
        ('"x"', "gives a text"),
        ('x{a="b" or c="d"}', '"or" between label conditions is not supported'),
        (r"x{a=~`\d`}", "a backslash between backticks; write the text in double quotes"),
        ('x{a="placeholder7f3aservicez0"}', "which is reserved"),
    ],
)
def test_what_cannot_be_asked_is_refused_with_the_field_and_what_to_write(written: str, words: str) -> None:
    with pytest.raises(RefusedError, match=rf'^metric "paying", field ratio\.bad: .*{words}'):
        ratio(written)
    with pytest.raises(RefusedError, match=rf'^metric "revenue", field value\.query: .*{words}'):
        value(written)


# --- confinement ---


@pytest.mark.parametrize(
    "expression",
    [
        "sum(rate(x[5m])) / sum(rate(y[5m] offset 1m))",
        'x{namespace="other"} unless on (job) y{track!="canary"}',
        "max_over_time((x + on (a) group_left (b) y)[10m:30s] @ end() offset -5m)",
        'histogram_quantile(0.99, sum by (le) (rate(x_bucket{le=~"0.5|1"}[1m])))',
        'absent(x) or vector(1) or {__name__=~"a.*"}',
        "x @ 1609746000.123 > bool -y ^ 2",
        'label_replace(topk(3, x), "a", "$1", "b", "(.*)")',
        'count_values("v", x) + scalar(y)',
        "x offset 1d1ms # a comment\n",
    ],
)
def test_every_selector_of_an_expression_is_confined(expression: str) -> None:
    (sent, _) = ratio(f"({expression})").parts
    assert _selectors(str(sent)) > 0
    assert _outside(str(sent), [Matcher("namespace", "=", "prod"), Matcher("track", "=", "canary")]) == []
    assert _outside(value(expression), [Matcher("namespace", "=", "prod")]) == []
    assert _without(str(sent), INSIDE) == _without(f"({expression})", "")


def test_a_bare_value_is_confined_to_its_namespace_alone() -> None:
    assert value("rate(x[1m])") == 'rate(x{namespace="prod"}[1m])'


def test_the_operator_names_the_labels_and_may_turn_confinement_off() -> None:
    (bad, _) = ratio("x", confinement=Confinement("kubernetes_namespace", "variant")).parts
    assert str(bad) == 'x{kubernetes_namespace="prod",variant="canary"}'
    (bad, _) = ratio("x", confinement=Confinement(enforced=False)).parts
    assert str(bad) == "x"


@settings(deadline=None)
@given(st.text(), st.text())
def test_no_name_gets_out_of_its_confinement(namespace: str, revision: str) -> None:
    found = ratio('sum(x{a="{{revision}}", b=~"{{revision}}.*"}) by (c)', namespace=namespace, revision=revision).parts[
        0
    ]
    assert _outside(str(found), [Matcher("namespace", "=", namespace), Matcher("a", "=", revision)]) == []
    assert _selectors(str(found)) == 1


@pytest.mark.parametrize(("written", "sent"), [("1 + 2", "vector(1 + 2)"), ("time()", "vector(time())"), ("-x", "-x")])
def test_a_bare_number_becomes_a_row(written: str, sent: str) -> None:
    assert value(written, Confinement(enforced=False)) == sent


# --- the raw forms ---


def test_selectors_are_counted_by_the_anchored_difference_and_ready_expressions_as_they_are() -> None:
    parts = joined([ratio("bad_total", "sum(increase(all_total[10s]))")])
    text = request(parts, 10)
    promql_parser.parse(text)
    plain = re.sub(r'label_replace\( ((?:(?!label_replace).)*?), "__question", "\d", "", ""\)', r"\1", one_line(text))
    counted = anchored_increase(f"bad_total{{{INSIDE}}}", 10, by=("__question", "__key"))
    assert plain == f"({one_line(counted)} or sum( sum(increase(all_total{{{INSIDE}}}[10s])) ))"


@pytest.mark.parametrize(
    ("edge", "spellings"), [(0.5, {"0.5"}), (1.0, {"1", "1.0"}), (0.0001, {"0.0001"}), (float("inf"), {"+Inf"})]
)
def test_an_edge_is_looked_for_in_all_its_spellings(edge: float, spellings: set[str]) -> None:
    assert set(edge_spellings(edge)) == spellings


def test_latency_is_the_count_less_the_bucket_at_its_edge() -> None:
    series = Series("latency", "checkout", "seconds_bucket", "seconds_count", edge=2.0, interval=1)
    bucket, count = question(_subject(series), Confinement()).parts
    assert isinstance(bucket, Selector)
    assert Matcher("le", "=~", r"2|2\.0") in bucket.matchers
    assert str(count) == f"seconds_count{{{INSIDE}}}"
    ready = Series("latency", "checkout", "rate(seconds_bucket[1m])", "seconds_count", edge=2.0)
    with pytest.raises(RefusedError, match=r'metric "checkout", field latency\.bucket: not a selector; write'):
        question(_subject(ready), Confinement())


# --- many asked as one ---


def test_questions_that_differ_in_label_values_become_one_expression() -> None:
    written = 'x{service="{{service}}",code=~"5.."}'
    questions = [ratio(written, service=name) for name in ("b", "a.eu", "c")]
    assert len({q.family for q in questions}) == 1
    bad, total = joined(questions)
    assert isinstance(bad.source, Selector)
    assert Matcher("service", "=~", r"a\.eu|b|c") in bad.source.matchers
    assert bad.labels == ("service",)
    assert bad.keys == ("b", "a.eu", "c")
    # The totals do not differ, so there is one row of them for all.
    assert total == Part(total.source, (), ("", "", ""))
    text = one_line(request((bad, total), 10))
    assert "label_join( last_over_time(x{" in text
    assert '"__key", "\\x1f", "service")' in text
    promql_parser.parse(text)


@pytest.mark.parametrize(
    "other",
    ["y", 'x{service="b",code="500"}', 'x{service=~"b"}', 'x{service="",code=~"5.."}', 'x{service="b",code=~"4.."}'],
)
def test_other_differences_keep_questions_apart(other: str) -> None:
    assert ratio('x{service="a",code=~"5.."}').family != ratio(other).family


def test_a_label_with_two_conditions_is_not_joined() -> None:
    assert ratio('x{a="1",a!="2"}').family != ratio('x{a="3",a!="2"}').family


def test_what_is_asked_at_once_can_be_told_apart_and_asks_once_who_was_born() -> None:
    questions = [ratio(f"bad_{i}", f"all_{i}") for i in range(5)]
    text = request([part for each in questions for part in joined([each])], 10)
    promql_parser.parse(text)
    for number in range(10):
        assert text.count(f'"__question", "{number}"') == 3
    assert text.count("max_over_time(up[5m] offset 10s)") == 1


@settings(deadline=None)
@given(st.lists(st.text(), min_size=1))
def test_one_of_matches_its_values_and_is_the_same_in_any_order(values: list[str]) -> None:
    assert one_of("a", values) == one_of("a", reversed(values))
    assert len(_matchers(f'x{{z="1",{one_of("a", values)}}}')) == 2


def test_literals_are_quoted_for_promql() -> None:
    assert quoted('a"b\\c\nd') == r'"a\"b\\c\nd"'
    assert literal("a.b[c]") == r"a\.b\[c\]"


# --- an independent look at what is sent ---


def _matchers(text: str) -> list[Matcher]:
    parsed = promql_parser.parse(text)
    assert isinstance(parsed, promql_parser.VectorSelector)
    return list(_conditions(parsed))


def _conditions(node: promql_parser.VectorSelector) -> Iterable[Matcher]:
    operators = {"Equal": "=", "NotEqual": "!=", "Re": "=~", "NotRe": "!~"}
    for found in node.matchers.matchers:
        yield Matcher(found.name, operators[str(found.op).removeprefix("MatchOp.")], found.value)


def _all(text: str) -> list[promql_parser.VectorSelector]:
    found: list[promql_parser.VectorSelector] = []

    def look(node: promql_parser.Expr) -> bool:
        if isinstance(node, promql_parser.VectorSelector):
            found.append(node)
        return True

    promql_parser.walk(promql_parser.parse(text), look)
    return found


def _selectors(text: str) -> int:
    return len(_all(text))


def _outside(text: str, wanted: list[Matcher]) -> list[str]:
    return [str(node) for node in _all(text) if not set(wanted) <= set(_conditions(node))]


def _without(text: str, inside: str) -> str:
    """An expression as the parser writes it, without blanks and without the conditions that confine it."""
    plain = "".join(promql_parser.parse(text).prettify().split())
    for condition in inside.split(",") if inside else []:
        plain = plain.replace("," + condition, "").replace(condition + ",", "").replace(f"{{{condition}}}", "")
    return plain

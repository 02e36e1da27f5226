"""A matcher is read as Alertmanager reads it, or refused with what to write; none is read as something else."""

from __future__ import annotations

import pytest

from controller.core.matchers import Condition, never_together, read_matcher, selector


@pytest.mark.parametrize(
    ("text", "label", "operator", "value"),
    [
        ('team="learning"', "team", "=", "learning"),
        (" team != learning ", "team", "!=", "learning"),
        ('team=~"learning|school.*"', "team", "=~", "learning|school.*"),
        ("team!~a|b", "team", "!~", "a|b"),
        ('team=""', "team", "=", ""),
        (r'team="say \"hi\" \\ \n"', "team", "=", 'say "hi" \\ \n'),
        ('path="a=b, c"', "path", "=", "a=b, c"),
        (r'team=~"\\d+[^]\\[]{2,3}?(?i:x)[[:alpha:]]\\pL\\p{Greek}\\z"', "team", "=~", ""),
        (r'team=~"(?P<a>x)(?i)\\?+[*+]+"', "team", "=~", ""),
        ('team="日本"', "team", "=", "日本"),
    ],
)
def test_a_matcher_is_read_as_it_is_written(text: str, label: str, operator: str, value: str) -> None:
    found = read_matcher(text)
    assert found[:2] == (label, operator)
    assert not value or found.value == value


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no condition on a label"),
        ("learning", "no condition on a label"),
        ("team==learning", "not well quoted"),
        ("team=", "write it in double quotes: 'team=\"...\"'"),
        ('team="learning', "not well quoted"),
        ("team='learning'", "not well quoted"),
        (r'team="\d"', "not well quoted"),
        ('{team="learning"}', "write each condition as an item"),
        ('team="a", tier="1"', "holds several conditions; write each"),
        ("team=a\nb", "cannot be seen"),
        ('severity="page"', "names already"),
        ('alertstate="pending"', "Prometheus sets by itself"),
        ('__name__="ALERTS"', "Prometheus sets by itself"),
        ('service="{{service}}"', "double braces"),
        ('team=~"(?=a)"', "RE2 lacks"),
        ('team=~"(?<!a)b"', "RE2 lacks"),
        (r'team=~"(a)\\1"', "refers back"),
        ('team=~"a++"', "repeats a repetition"),
        ('team=~"a{2}*"', "repeats a repetition"),
        ('team=~"a{1001}"', "more than 1000"),
        ('team=~"(a"', "is none"),
        ('team=~"[a"', "bracket"),
        (r'team=~"a\\"', "ends with a backslash"),
        ('team=~"*a"', "is none"),
    ],
)
def test_what_is_no_matcher_is_refused_with_what_to_write(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=r".") as refused:
        read_matcher(text)
    assert words in str(refused.value)


@pytest.mark.parametrize(
    ("texts", "place"),
    [
        (['team="a"', 'team="b"'], 1),
        (['team!="a"', 'tier="1"', 'team="a"'], 2),
        (['team="a"', 'team="a"'], None),
        (['team="a"', 'team!="b"', 'team=~"a.*"'], None),
        (['team!="a"', 'team!="b"'], None),
        (['alertname="A"', 'alertname="B"'], 1),
    ],
)
def test_conditions_that_no_alert_can_meet_are_found(texts: list[str], place: int | None) -> None:
    found = never_together([read_matcher(text) for text in texts])
    assert (found[0] if found else None) == place


def test_the_selector_quotes_what_people_wrote() -> None:
    text = selector('cri"tical', [Condition("team", "=~", 'a\\.b"\n')])
    assert text == r'ALERTS{alertstate="firing",severity="cri\"tical",team=~"a\\.b\"\n"}'

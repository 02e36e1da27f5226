"""Which alerts are a launch's incidents: label conditions as Alertmanager writes them, as a selector of ``ALERTS``."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from controller.core.patterns import pattern

_LABEL = r"[a-zA-Z_][a-zA-Z0-9_]*"
_MATCHER = re.compile(rf"\s*({_LABEL})\s*(=~|!~|!=|=)\s*(.*?)\s*")
_QUOTED = re.compile(r'"((?:[^"\\]|\\[\\"n])*)"')
_BARE = re.compile(r"""[^\s{}!=~,"'`\\]+""")
_ESCAPE = re.compile(r"\\(.)")
_CLASS = re.compile(r"\[\^?\]?(?:\[:\^?[a-z]+:\]|[^\]])*\]")
_FLAGS = re.compile(r"\(\?[imsU]+(?:-[imsU]+)?(?=[:)])")
_COUNT = re.compile(r"\{([0-9]+)(?:,([0-9]*))?\}")
_MOST_REPEATED = 1000
"""What RE2 allows in ``{...}``."""
_OF_PROMETHEUS = ("__name__", "alertstate")
_EXAMPLE = 'team="learning"'


class Condition(NamedTuple):
    """One condition on a label of an alert; ``operator`` is =, !=, =~ or !~."""

    label: str
    operator: str
    value: str

    def __str__(self) -> str:
        value = self.value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
        return f'{self.label}{self.operator}"{value}"'


def read_matcher(text: str) -> Condition:
    """The condition that one Alertmanager matcher such as ``team="learning"`` states.

    Raises:
        ValueError: it is none, or one that must not be used here; says what to write.
    """
    if not text.isprintable():
        raise ValueError(f"holds characters that cannot be seen; write one condition on one line: '{_EXAMPLE}'")
    if text.lstrip().startswith("{"):
        raise ValueError(f"has braces; write each condition as an item of its own: ['{_EXAMPLE}', 'tier=\"1\"']")
    found = _MATCHER.fullmatch(text)
    if found is None:
        raise ValueError(f"is no condition on a label; write a label, one of = != =~ !~, and a text: '{_EXAMPLE}'")
    label, operator, written = found.groups()
    if quoted := _QUOTED.fullmatch(written):
        value = _ESCAPE.sub(lambda escape: "\n" if escape[1] == "n" else escape[1], quoted[1])
    elif _BARE.fullmatch(written):
        value = written
    elif re.search(rf'"\s*,\s*{_LABEL}\s*[=!]', written):
        raise ValueError(f"holds several conditions; write each as an item of its own: ['{_EXAMPLE}', 'tier=\"1\"']")
    else:
        raise ValueError(f"has a text that is not well quoted; write it in double quotes: '{label}{operator}\"...\"'")
    _check(label, operator, value)
    return Condition(label, operator, value)


def _check(label: str, operator: str, value: str) -> None:
    if label == "severity":
        raise ValueError("is on severity, which incidents names already; remove it, or change incidents")
    if label in _OF_PROMETHEUS:
        raise ValueError(f"is on {label}, which Prometheus sets by itself; remove it")
    if "{{" in value:
        raise ValueError(
            f"has double braces, and incidents are of the whole launch; write the text itself: '{_EXAMPLE}'"
        )
    if "~" in operator and (fault := _not_re2(value)):
        raise ValueError(f'has a regular expression that {fault}; write one as RE2 has them, such as team=~"a|b"')


def _not_re2(pattern: str) -> str:
    """What Prometheus would refuse in a pattern; empty: nothing that is seen here. Prometheus has the last word."""
    if found := re.search(r"(?<!\\)(?:\\\\)*\\([1-9])", pattern):
        return f"refers back (\\{found[1]})"
    plain = re.sub(r"(?s)\\[pP]\{\^?\w+\}|\\.", "x", pattern)
    if plain.endswith("\\"):
        return "ends with a backslash"
    plain = _CLASS.sub("x", plain)
    if "[" in plain:
        return "has a bracket that is not closed"
    plain = _FLAGS.sub("(?:", plain).replace("(?:)", "")
    plain = re.sub(rf"\(\?P?<{_LABEL}>", "(", plain)
    if found := re.search(r"\(\?(?!:).{0,2}", plain):
        return f"looks around or has another form that RE2 lacks ({found[0]})"
    if re.search(r"(?:[*+?]|\{[0-9]+(?:,[0-9]*)?\})\??[*+]", plain):
        return "repeats a repetition"
    if any(int(number) > _MOST_REPEATED for count in _COUNT.finditer(plain) for number in count.groups() if number):
        return f"repeats more than {_MOST_REPEATED} times"
    try:
        re.compile(plain)
    except (re.error, OverflowError, RecursionError) as error:
        return f"is none ({error})"
    return ""


def meets(condition: Condition, value: str) -> bool:
    """Whether a label with this value (empty: no such label) meets the condition. A pattern that is not read is met."""
    if condition.operator in ("=", "!="):
        return (value == condition.value) == (condition.operator == "=")
    try:
        matched = pattern(condition.value).fits(value)
    except ValueError:
        return True
    return matched == (condition.operator == "=~")


def never_together(conditions: Sequence[Condition]) -> tuple[int, str] | None:
    """The first condition that no alert can meet together with one before it, and why; None where there is none."""
    for place, one in enumerate(conditions):
        for other in conditions[:place]:
            equal, unlike = (one, other) if one.operator == "=" else (other, one)
            if one.label != other.label or equal.operator != "=":
                continue
            if (unlike.operator == "=" and unlike.value != equal.value) or (
                unlike.operator == "!=" and unlike.value == equal.value
            ):
                return place, f"can never hold together with {other}, so nothing would be counted; remove one of them"
    return None


def selector(severity: str, conditions: Sequence[Condition]) -> str:
    """The firing alerts of that severity that meet the conditions, as a PromQL selector."""
    fixed = (Condition("alertstate", "=", "firing"), Condition("severity", "=", severity))
    return f"ALERTS{{{','.join(map(str, (*fixed, *conditions)))}}}"

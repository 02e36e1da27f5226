"""YAML as plain values, and edits that leave every other byte as it is."""

from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.adapters.yaml_documents import REMOVED, Path, YamlError, edited, read_documents, removed

EPOCH = "autoadvance.dev/epoch"
FIRST_WEIGHT: Path = ("spec", "backendRefs", 0, "weight")
NO_MAP: dict[Path, Any] = {("metadata", "annotations"): {EPOCH: "3/1"}}
IN_MAP: dict[Path, Any] = {("metadata", "annotations", EPOCH): "3/1"}


def values(text: str) -> list[Any]:
    return [document.value for document in read_documents(text)]


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("2025.10", "2025.10"),
        ("2025.1", 2025.1),
        ("2025.11.0", "2025.11.0"),
        ("0.5", 0.5),
        ("1e3", 1000.0),
        ("2025-11-01T14:00:00Z", "2025-11-01T14:00:00Z"),
        ("2025-11-01", "2025-11-01"),
        ("09:30", "09:30"),
        ("on", "on"),
        ("yes", "yes"),
        ("true", True),
        ("~", None),
        ("", None),
        ("017", 17),
        ("0x1F", 31),
        ("'5'", "5"),
        ("5%", "5%"),
        ("1_000", "1_000"),
    ],
)
def test_a_scalar_is_read_as_yaml_1_2_says_and_keeps_its_digits(written: str, value: object) -> None:
    [document] = values(f"key: {written}\n")
    assert document == {"key": value}
    assert type(document["key"]) is type(value)


def test_documents_know_their_first_line_and_empty_files_have_none() -> None:
    assert [(one.value, one.line) for one in read_documents("# head\na: 1\n---\n\nb: 2\n")] == [
        ({"a": 1}, 2),
        ({"b": 2}, 5),
    ]
    assert read_documents("") == read_documents("# nothing\n") == []


def test_anchors_aliases_and_merges_are_followed() -> None:
    assert values("base: &b {a: 1, b: 2}\nuse: {<<: *b, b: 3}\nlist: [*b]\n") == [
        {"base": {"a": 1, "b": 2}, "use": {"a": 1, "b": 3}, "list": [{"a": 1, "b": 2}]}
    ]


@pytest.mark.parametrize(
    ("text", "line", "column", "words"),
    [
        ("a: [1,\nb: 2", 2, 5, "expected ',' or ']'"),
        ('a: 1\nb: "x\n', 3, 1, "unexpected end"),
        ("a: 1\n b: 2\n", 2, 3, "not allowed here"),
        ("a:\n\t- 1", 2, 1, "cannot start any token"),
        ("a: 1\nb: 2\na: 3\n", 3, 1, "'a' is here twice"),
        ("a: *nobody", 1, 4, "undefined alias"),
        ("a: !!python/object:os.system x", 1, 4, "no meaning here"),
        ("a: &a [*a]", 1, 4, "contains itself"),
        ("? [a]\n: b\n", 1, 3, "a key must be text"),
        ("<<: 1", 1, 1, "<< needs a mapping"),
        ("[" * 600, 1, 1, "nested too deeply"),
    ],
)
def test_what_cannot_be_read_is_told_with_line_and_column(text: str, line: int, column: int, words: str) -> None:
    with pytest.raises(YamlError) as raised:
        read_documents(text)
    assert words in raised.value.message
    assert (raised.value.line, raised.value.column) == (line, column)


def test_aliases_of_aliases_do_not_fill_the_memory() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]
    with pytest.raises(YamlError, match="too many values"):
        read_documents("\n".join(lines))


@settings(deadline=None)
@given(st.text())
def test_any_text_is_read_or_refused_with_a_place(text: str) -> None:
    place = (1, 1)
    try:
        read_documents(text)
    except YamlError as error:
        place = (error.line, error.column)
    assert min(place) >= 1


COMMENTED = """\
# the shop's route
kind: HTTPRoute   # Gateway API
metadata:
  name: "shop"    # quoted
  labels: {team:   shop}

spec:
  backendRefs:
  - name: stable   # the old one
    port: 80

    weight: 100    # percent
  -   name:  canary
      port: 80
  - {name: audit,   port: 80}
"""


def test_an_edit_replaces_and_inserts_and_leaves_every_other_byte() -> None:
    text, _ = edited(
        COMMENTED,
        0,
        {
            ("spec", "backendRefs", 0, "weight"): 95,
            ("spec", "backendRefs", 1, "weight"): 5,
            ("spec", "backendRefs", 2, "weight"): 0,
            ("metadata", "annotations"): {EPOCH: "3/12"},
        },
    )
    assert text == (
        COMMENTED.replace("weight: 100 ", "weight: 95 ")
        .replace("  -   name:  canary\n", "  -   name:  canary\n      weight: 5\n")
        .replace("{name: audit,   port", "{name: audit, weight: 0,   port")
        .replace(
            'name: "shop"    # quoted\n',
            'name: "shop"    # quoted\n  annotations:\n    autoadvance.dev/epoch: "3/12"\n',
        )
    )


@pytest.mark.parametrize(
    ("before", "changes", "after"),
    [
        (
            "metadata:\n  name: a\n  annotations:\n    # why\n    x: y\n",
            IN_MAP,
            'metadata:\n  name: a\n  annotations:\n    # why\n    autoadvance.dev/epoch: "3/1"\n    x: y\n',
        ),
        (
            "metadata:\n  name: a\n  annotations:\n    autoadvance.dev/epoch: '1' # ours\n",
            IN_MAP,
            'metadata:\n  name: a\n  annotations:\n    autoadvance.dev/epoch: "3/1" # ours\n',
        ),
        ("metadata: {name: a}", NO_MAP, 'metadata: {name: a, annotations: {autoadvance.dev/epoch: "3/1"}}'),
        (
            '{"metadata": {"name": "a"}}',
            NO_MAP,
            '{"metadata": {"name": "a", "annotations": {"autoadvance.dev/epoch": "3/1"}}}',
        ),
        (
            "metadata:\n  name: a\n  annotations: {}\n",
            IN_MAP,
            'metadata:\n  name: a\n  annotations: {autoadvance.dev/epoch: "3/1"}\n',
        ),
        (
            "metadata:\n  annotations: # none yet\n  name: a\n",
            NO_MAP,
            'metadata:\n  annotations: {autoadvance.dev/epoch: "3/1"} # none yet\n  name: a\n',
        ),
        (
            "metadata:\r\n  name: a\r\nspec: 1\r\n",
            NO_MAP,
            'metadata:\r\n  name: a\r\n  annotations:\r\n    autoadvance.dev/epoch: "3/1"\r\nspec: 1\r\n',
        ),
        ("metadata:\n  name: a", NO_MAP, 'metadata:\n  name: a\n  annotations:\n    autoadvance.dev/epoch: "3/1"'),
        (
            "metadata:\n  labels: {}\n  name: >-\n    a\nspec: 1\n",
            NO_MAP,
            'metadata:\n  annotations:\n    autoadvance.dev/epoch: "3/1"\n  labels: {}\n  name: >-\n    a\nspec: 1\n',
        ),
    ],
)
def test_a_missing_key_is_added_in_the_style_of_its_neighbours(
    before: str, changes: dict[Path, Any], after: str
) -> None:
    assert edited(before, 0, changes)[0] == after


@pytest.mark.parametrize(
    ("before", "path", "after"),
    [
        ("# a\na:\n  x: 1 # one\n  # why\n  y: 2\n", ("a", "x"), "# a\na:\n  # why\n  y: 2\n"),
        ("a:\n  x: 1\n  y: 2", ("a", "y"), "a:\n  x: 1\n"),
        ("a:\n  x: 1\n  y: |\n    long\n    text\nb: 1\n", ("a", "y"), "a:\n  x: 1\nb: 1\n"),
        ("a:\n  x:\n  - 1\n  -\n  # of b\nb: 1\n", ("a",), "  # of b\nb: 1\n"),
        ("a: {x: 1, 'y': [1, 2], z: 3} # all\n", ("a", "y"), "a: {x: 1, z: 3} # all\n"),
        ("a: {x: 1, y: 2}\n", ("a", "y"), "a: {x: 1}\n"),
        ("a: {x: 1}\n", ("a", "x"), "a: {}\n"),
        ('{"a": {"x": 1, "y":\n 2}, "b": 3}', ("b",), '{"a": {"x": 1, "y":\n 2}}'),
        ("a:\r\n  x: 1\r\n  y: 2\r\n", ("a", "x"), "a:\r\n  y: 2\r\n"),
        ("a:\n- x: 1\n  y: 2\n", ("a", 0, "x"), "a:\n- y: 2\n"),
        ("a:\n- x # one\n- y\n", ("a", 0), "a:\n- y\n"),
        ("a:\n  -   x\n  - y", ("a", 1), "a:\n  -   x\n"),
        ("a: [x, y-z, z]\n", ("a", 1), "a: [x, z]\n"),
        ("- - x\n  - y\n", (0, 0), "- - y\n"),
    ],
)
def test_what_is_removed_goes_with_its_line_and_takes_nothing_along(before: str, path: Path, after: str) -> None:
    assert edited(before, 0, {path: REMOVED})[0] == after


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("a:\n- x # one\n- y\nb: 1\n", "a:\n- x # one\n- y\n- new/z\nb: 1\n"),
        ("a:\n  -   x # last", "a:\n  -   x # last\n  - new/z"),
        ("a: [x]\n", "a: [x, new/z]\n"),
        ("a:\n- |\n  x\nb: 1\n", "a:\n- |\n  x\n- new/z\nb: 1\n"),
    ],
)
def test_an_item_is_added_behind_the_last_one_in_its_style(before: str, after: str) -> None:
    [document] = values(before)
    assert edited(before, 0, {("a", len(document["a"])): "new/z"})[0] == after


def test_a_list_and_a_block_of_text_are_replaced_and_removed_in_one_edit() -> None:
    before = "m:\n  name: a\n  x: |\n    old\n    text\n  y: 1\n  z: 2\n"
    changes: dict[Path, Any] = {("m", "z"): REMOVED, ("m", "f"): ["a/b"], ("m", "x"): "new", ("m", "y"): REMOVED}
    assert edited(before, 0, changes)[0] == "m:\n  name: a\n  f: [a/b]\n  x: new\n"


@pytest.mark.parametrize("path", [("a", "y"), ("a", 3), ("b",), ("b", "c")])
def test_what_is_not_there_cannot_be_removed(path: Path) -> None:
    with pytest.raises(YamlError, match="is not here"):
        edited("a: {x: 1}\n", 0, {path: REMOVED})


@pytest.mark.parametrize("text", ["x # y", "\U0001f389", "a\u2028b", "\x85\ufeff", "", " ", "~", "1:30", "\t\n\\", "é"])
def test_any_text_that_is_set_is_read_back(text: str) -> None:
    changed, _ = edited("a: {x: 1}\n", 0, {("a", "x"): text})
    assert values(changed) == [{"a": {"x": text}}] == [yaml.safe_load(changed)]


@pytest.mark.parametrize(
    ("before", "number", "after"),
    [
        ("# head\na: 1\n---\nb: 2\n", 0, "# head\n---\nb: 2\n"),
        ("# head\na: 1\n# of a\n---\n# of b\nb: 2\n", 1, "# head\na: 1\n# of a\n"),
        ("--- {a: 1}\n--- {b: 2}\n--- {c: 3}", 1, "--- {a: 1}\n--- {c: 3}"),
        ("---\na: |\n  ---\n---\nb: 2\n...\n", 0, "---\nb: 2\n...\n"),
        ("# only\na: 1\n", 0, "# only\n"),
    ],
)
def test_a_document_is_removed_and_the_others_stay(before: str, number: int, after: str) -> None:
    expected = [value for place, value in enumerate(values(before)) if place != number]
    text, documents = removed(before, number)
    assert text == after
    assert [one.value for one in documents] == values(text) == expected


def test_a_document_whose_removal_would_change_another_one_stays() -> None:
    with pytest.raises(YamlError, match="write it out in full"):
        removed("a: 1\n...\n%YAML 1.2\n---\nb: 2\n", 1)


def test_only_the_named_document_of_a_file_is_edited() -> None:
    text = "spec: {backendRefs: [{name: a, weight: 1}]}\n"
    assert edited(f"{text}---\n{text}", 1, {FIRST_WEIGHT: 9})[0] == f"{text}---\n{text.replace('1', '9')}"


@pytest.mark.parametrize(
    "text",
    [
        "spec:\n  backendRefs: [{name: a, weight: &w 5}, {name: b, weight: *w}]\n",
        "w: &w 5\nspec: {backendRefs: [{name: a, weight: *w}]}\n",
        "spec: {backendRefs: &b [{name: a, weight: 5}]}\nother: *b\n",
        "base: &b {name: a, weight: 5}\nspec: {backendRefs: [*b]}\n",
    ],
)
def test_an_edit_that_would_change_more_by_an_alias_is_refused(text: str) -> None:
    with pytest.raises(YamlError, match="write it out in full"):
        edited(text, 0, {FIRST_WEIGHT: 9})


names = st.text(st.sampled_from("abc: #'\"-\n{}[]é"), min_size=1, max_size=6)
backends = st.lists(
    st.fixed_dictionaries({"name": names}, optional={"weight": st.integers(0, 100), "port": names}),
    min_size=1,
    max_size=4,
)


@settings(max_examples=50, deadline=None)
@given(backends, st.dictionaries(names, names, max_size=2), st.sampled_from([True, False, None]), st.data())
def test_whatever_wrote_the_file_the_edit_sets_the_weight_and_nothing_else(
    refs: list[dict[str, Any]], annotations: dict[str, str], flow: bool | None, data: st.DataObject
) -> None:
    place = data.draw(st.integers(0, len(refs) - 1))
    document = {"metadata": {"name": "a", "annotations": annotations}, "spec": {"backendRefs": refs}}
    text = yaml.safe_dump(document, default_flow_style=flow, allow_unicode=True)
    changed, documents = edited(
        text, 0, {("spec", "backendRefs", place, "weight"): 77, ("metadata", "annotations", EPOCH): "3/1"}
    )
    refs[place]["weight"] = 77
    annotations[EPOCH] = "3/1"
    assert yaml.safe_load(changed) == document
    assert [one.value for one in documents] == [document]


@settings(max_examples=50, deadline=None)
@given(st.dictionaries(names, names, min_size=1, max_size=4), st.sampled_from([True, False, None]), st.data())
def test_whatever_wrote_the_file_a_removal_takes_the_pair_and_nothing_else(
    annotations: dict[str, str], flow: bool | None, data: st.DataObject
) -> None:
    gone = data.draw(st.sampled_from(sorted(annotations)))
    document = {"metadata": {"annotations": annotations, "name": "a"}, "spec": [{"x": 1}, "y"]}
    text = yaml.safe_dump(document, default_flow_style=flow, allow_unicode=True)
    path: Path = ("metadata", "annotations", gone) if len(annotations) > 1 else ("metadata", "annotations")
    changed, _ = edited(text, 0, {path: REMOVED})
    del annotations[gone]
    if not annotations:
        document["metadata"] = {"name": "a"}
    assert yaml.safe_load(changed) == document

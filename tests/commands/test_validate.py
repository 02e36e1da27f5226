"""`validate`: each fault at its line and column, with what to write instead; and what a script gets."""

import json
import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner, Result

from controller.__main__ import app
from controller.adapters.yaml_documents import YamlError
from controller.adapters.yaml_places import Span, as_yaml, read_located
from controller.commands.validate import Finding, quoted
from tests.core.builders import document
from tests.realparts.parts import ROOT

BROKEN = ROOT / "tests" / "plans" / "broken"
NAMES = sorted(path.stem for path in BROKEN.glob("*.yaml"))


def call(*arguments: object, text: str | bytes = "") -> Result:
    return CliRunner().invoke(app, ["validate", *map(str, arguments)], input=text)


def told(path: Path) -> str:
    """What is said about a file, without its folder."""
    shown = call(path)
    assert (shown.exit_code, shown.stdout) == (1, "")
    return shown.stderr.replace(str(path), path.name)


@pytest.mark.parametrize("name", NAMES)
def test_a_broken_plan_is_told_as_it_was_agreed(name: str) -> None:
    """After a change of the words: look at them, then write them again with AGREE=1 in the environment."""
    agreed = BROKEN / f"{name}.txt"
    said = told(BROKEN / f"{name}.yaml")
    if os.environ.get("AGREE"):
        agreed.write_text(said)
    assert said == agreed.read_text()


def test_each_way_in_which_newcomers_break_a_plan_is_there() -> None:
    assert NAMES == [
        "duplicate-names",
        "falling-weights",
        "gate-that-cannot-fail",
        "missing-zone",
        "overlapping-phases",
        "syntax-error",
        "unknown-metric",
        "wrong-api-version",
        "wrong-unit",
    ]


def test_ten_thousand_steps_are_one_fault_at_their_list(tmp_path: Path) -> None:
    lines = (ROOT / "deploy" / "examples" / "smallest.yaml").read_text().splitlines()
    number = next(number for number, line in enumerate(lines, start=1) if "steps:" in line)
    steps = ["    - weight: 5"] * 10_000
    path = tmp_path / "ten-thousand-steps.yaml"
    path.write_text("\n".join([*lines[: number - 1], "    steps:", *steps, *lines[number:]]))
    assert told(path).splitlines() == [
        f"ten-thousand-steps.yaml:{number}:5: spec.phases[0].steps: has 10,000 entries; write 100 at most"
    ]


def test_every_fault_says_what_to_write() -> None:
    advice = ("write", "remove", "choose", "did you mean", "add", "begin", "name ")
    said = [line for name in NAMES for line in (BROKEN / f"{name}.txt").read_text().splitlines()]
    assert [line for line in said if not any(word in line for word in advice)] == []


def test_a_missing_field_is_at_the_field_around_it(tmp_path: Path) -> None:
    path = tmp_path / "plan.yaml"
    path.write_text(
        "apiVersion: autoadvance.dev/v1alpha1\nkind: Launch\nmetadata: {name: shop}\n"
        "spec:\n  revision: v2\n  targets:\n  - name: main\n    route: {}\n"
        "    stable: {name: a}\n    canary: {name: b}\n  phases: [{steps: [{weight: 5}]}]\n"
    )
    places = [line.split(": ")[0:2] for line in told(path).splitlines()]
    assert ["plan.yaml:8:5", "spec.targets[0].route.name"] in places
    assert ["plan.yaml:11:12", "spec.phases[0].name"] in places


def manifest(**spec: Any) -> str:
    return yaml.safe_dump(document(**spec), sort_keys=False)


def test_each_document_of_a_file_is_judged_and_other_kinds_are_skipped_with_a_note(tmp_path: Path) -> None:
    path = tmp_path / "all.yaml"
    path.write_text(f"kind: Service\nmetadata: {{name: shop}}\n---\n{manifest()}---\n{manifest(revision=7)}")
    shown = call(path)
    assert shown.exit_code == 1
    assert shown.stdout.startswith(f"{path}: launch shop: good (1 phase, 2 steps up to 30%, at least 1m of steps)\n")
    note, fault = shown.stderr.splitlines()
    assert note == f"{path}:1: note: Service shop is no Launch; skipped"
    line = path.read_text().splitlines().index("  revision: 7") + 1
    assert fault == f"{path}:{line}:3: spec.revision: is 7, which is not text; put it in quotes"


def test_a_list_as_kubectl_prints_it_is_judged_item_by_item(tmp_path: Path) -> None:
    path = tmp_path / "list.yaml"
    items = [document(), {"kind": "Service", "metadata": {"name": "s"}}, document(revision=7)]
    path.write_text(yaml.safe_dump({"apiVersion": "v1", "kind": "List", "items": items}, sort_keys=False))
    shown = call(path)
    assert shown.exit_code == 1
    assert "launch shop: good" in shown.stdout
    line = path.read_text().splitlines().index("    revision: 7") + 1
    assert shown.stderr.splitlines()[-1].startswith(f"{path}:{line}:5: spec.revision: ")


def test_a_document_without_kind_is_a_faulty_launch_and_none_of_another_kind(tmp_path: Path) -> None:
    path = tmp_path / "plan.yaml"
    path.write_text(manifest().replace("kind: Launch\n", ""))
    assert told(path) == "plan.yaml:1:1: kind: is missing; write kind: Launch\n"


def test_json_holds_the_same_for_scripts(tmp_path: Path) -> None:
    path = tmp_path / "plan.yaml"
    path.write_text(manifest(revision=7) + "---\nkind: Service\nmetadata: {name: s}\n")
    shown = call("-o", "json", path)
    said = json.loads(shown.stdout)
    line = path.read_text().splitlines().index("  revision: 7") + 1
    after = path.read_text().splitlines().index("---") + 2
    assert (shown.exit_code, shown.stderr, said["result"]) == (1, "", "faults")
    (launch,) = said["launches"]
    assert (launch["file"], launch["namespace"], launch["name"], launch["good"]) == (str(path), "prod", "shop", False)
    assert launch["faults"] == [
        {"line": line, "column": 3, "path": "spec.revision", "message": "is 7, which is not text; put it in quotes"}
    ]
    assert said["skipped"] == [{"file": str(path), "line": after, "kind": "Service", "name": "s"}]


def test_json_of_a_good_plan_and_of_one_that_is_no_yaml(tmp_path: Path) -> None:
    good, bad = tmp_path / "good.yaml", tmp_path / "bad.yaml"
    good.write_text(manifest())
    bad.write_text("a: [1\n")
    shown = call("-o", "json", good)
    assert (shown.exit_code, json.loads(shown.stdout)["result"]) == (0, "good")
    shown = call("-o", "json", good, bad)
    said = json.loads(shown.stdout)
    assert (shown.exit_code, said["result"]) == (1, "faults")
    assert [(one["file"], one["line"], one["column"]) for one in said["problems"]] == [(str(bad), 1, 4)]


def test_a_form_of_answer_that_there_is_not_is_a_usage_error(tmp_path: Path) -> None:
    assert call("-o", "yaml", tmp_path / "plan.yaml").exit_code == 2
    assert call("-o", "xml", tmp_path / "plan.yaml").exit_code == 2


def test_a_warning_has_its_place_and_is_no_fault(tmp_path: Path) -> None:
    path = tmp_path / "plan.yaml"
    path.write_text(manifest(metrics=[{"name": "spare", "value": {"query": "up"}}]))
    shown = call(path)
    line = path.read_text().splitlines().index("  - name: spare") + 1
    assert shown.exit_code == 0
    assert shown.stderr.startswith(f"{path}:{line}:5: warning: spec.metrics[0]: no guardrail and no gate uses spare")


SYNTAX = [
    ("spec:\n\ta: 1\n", 2, 1, "indent with spaces"),
    ("a: 1\nb\nc: 2\n", 2, 1, "write FIELD: VALUE"),
    ("a: [1, 2\n", 1, 4, "write ]"),
    ("a: [1 2: 3]\nb: [{c: 1 d: 2}]\n", 2, 12, "write a comma"),
    ("a:\n  b: 1\n c: 2\n", 3, 2, "in the same column"),
    ("a:\n  b: 1\n    c: 2\n", 3, 5, "in the same column"),
    ("a: b: c\n", 1, 5, "in quotes"),
    ('a: "x\nb: 1\n', 1, 4, "write its other end"),
    ("a: @x\n", 1, 4, "begin with @; put it in quotes"),
    ("a: *x\n", 1, 4, "in quotes"),
    ("a: - b\n", 1, 4, "on a line of its own"),
    ("a: 'x'y\n", 1, 7, "in quotes"),
    ("a: {{x}}\n", 1, 5, "in quotes"),
    ("a: 1\nb: \x00\n", 2, 4, "remove it"),
    ("a: 1\na: 2\n", 2, 1, "remove one"),
    ('a: "\\q"\n', 1, 6, "backslash"),
    ("%YAML 3.0\n---\na: 1\n", 1, 1, "remove the line"),
]


@pytest.mark.parametrize(("text", "line", "column", "advice"), SYNTAX)
def test_what_is_no_yaml_is_told_where_it_begins_with_what_to_write(
    text: str, line: int, column: int, advice: str
) -> None:
    with pytest.raises(YamlError) as raised:
        read_located(text)
    assert (raised.value.line, raised.value.column) == (line, column)
    assert advice in raised.value.message


def test_every_field_has_its_place() -> None:
    (read,) = read_located(
        "base: &base {b: 1}\nspec:\n  phases:\n  - name: a  # its name\n    steps: [{weight: 5}, {weight: 4}]\n"
        "    a.b: 1\n    <<: *base\n    gate:\n      at: 3\n"
    )
    places = {
        "": Span(1, 1, 18),
        "spec": Span(2, 1, 4),
        "spec.phases[0]": Span(4, 5, 19),
        "spec.phases[0].name": Span(4, 5, 7),
        "spec.phases[0].steps[1]": Span(5, 26, 11),
        "spec.phases[0].steps[1].weight": Span(5, 27, 9),
        "spec.phases[0].steps[1].for": Span(5, 26, 11),
        "spec.phases[0].a.b": Span(6, 5, 6),
        "spec.phases[0].b": Span(1, 14, 4),
        "spec.phases[0].gate": Span(8, 5, 4),
        "spec.phases[0].gate.criteria[2].metric": Span(8, 5, 4),
        "spec.phases[9]": Span(3, 3, 6),
    }
    assert {path: read.span(path) for path in places} == places


def test_a_line_is_quoted_with_marks_under_what_is_meant() -> None:
    finding = Finding(12, 6, 10, "", "")
    assert quoted("\t  - {weight: 5}", Finding(12, 7, 9, "", "")) == (
        "    12 | \t  - {weight: 5}",
        "       | \t     ^~~~~~~~~",
    )
    long = "x" * 400
    line, marks = quoted(long, Finding(12, 300, 10, "", ""))
    assert line[marks.index("^")] == "x"
    assert len(line) < 180
    assert quoted("", finding)[1].endswith("^")


def test_on_a_terminal_the_line_is_quoted(tmp_path: Path) -> None:
    path = tmp_path / "plan.yaml"
    path.write_text(manifest(revision=7))
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "controller", "validate", str(path)]
    with subprocess.Popen(command, cwd=ROOT, stderr=theirs, stdout=subprocess.DEVNULL) as process:
        assert process.wait(60) == 1
    os.close(theirs)
    with os.fdopen(ours, "rb") as terminal:
        lines = terminal.read1(65536).decode().splitlines()
    assert [line.partition("|")[2].rstrip() for line in lines[1:]] == ["   revision: 7", "   ^~~~~~~~~~~"]


def test_standard_input_is_named_by_a_hyphen() -> None:
    shown = call("-", text=manifest(revision=7))
    assert shown.exit_code == 1
    assert shown.stderr.startswith("-:")


def test_values_written_as_yaml_are_read_back() -> None:
    value = {"weight": "5%", "no": "no", "list": [{"a": 1, "b": [True, None]}], "text": "word " * 60, "x": "a: b"}
    (read,) = read_located(as_yaml(value))
    assert read.value == value

"""The generator of the recording rules: its tables, its command line, and the objects for the Prometheus Operator."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from controller.core import normal_form as form
from rules import generate
from rules.prometheus_rule import DEFAULT_LABELS, LARGEST_BYTES, prometheus_rule
from rules.table import TableError, read_table, table_of

RULES = Path(generate.__file__).parent
OBJECTS = RULES.parent / "deploy" / "prometheus-rules"


def http_table(**changes: object) -> dict[str, Any]:
    values: dict[str, Any] = yaml.safe_load((RULES / "sources" / "http.yaml").read_text(encoding="utf-8"))
    return values | changes


def rules_of(text: str) -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(text)["groups"] for rule in group["rules"]]


@pytest.mark.parametrize(("interval_s", "offset_s"), [(10, 5), (2, 1), (120, 30)])
def test_the_template_is_the_normal_form_that_the_controller_builds_over_raw_counters(
    interval_s: float, offset_s: float
) -> None:
    recorded = rules_of(generate.render(interval_s, offset_s)["http.yaml"])[0]["expr"].strip()
    assert recorded == form.anchored_increase(
        'http_requests_total{track!=""}', interval_s, by=form.LABELS, offset_s=offset_s
    )


@pytest.mark.parametrize("name", sorted(generate.render()))
def test_the_object_for_the_operator_holds_the_groups_of_its_file(name: str) -> None:
    text = (OBJECTS / name).read_text(encoding="utf-8")
    shown = yaml.safe_load(text)
    assert shown["spec"] == yaml.safe_load((RULES / name).read_text(encoding="utf-8"))
    assert (shown["apiVersion"], shown["kind"]) == ("monitoring.coreos.com/v1", "PrometheusRule")
    assert shown["metadata"] == {"name": f"auto-advance-{Path(name).stem}", "labels": DEFAULT_LABELS}
    assert len(text.encode()) < LARGEST_BYTES


def test_every_committed_object_is_what_the_generator_makes_of_a_file_beside_it() -> None:
    for file in OBJECTS.glob("*.yaml"):
        source = RULES / file.name
        assert source.exists(), f"{file.name} was left over; delete it"
        text = source.read_text(encoding="utf-8")
        assert file.read_text(encoding="utf-8") == prometheus_rule(file.stem, text), (
            f"deploy/prometheus-rules/{file.name} differs; run `python -m rules.generate`"
        )


def test_labels_and_namespace_of_the_objects_are_settings(tmp_path: Path) -> None:
    arguments = ["--namespace", "monitoring", "--label", "release=kube-prometheus-stack", "--label", "role=rules=x"]
    assert generate.main([*arguments, "--out", str(tmp_path), "--operator", str(tmp_path / "objects")]) == 0
    shown = yaml.safe_load((tmp_path / "objects" / "http.yaml").read_text(encoding="utf-8"))["metadata"]
    assert shown["namespace"] == "monitoring"
    assert shown["labels"] == DEFAULT_LABELS | {"release": "kube-prometheus-stack", "role": "rules=x"}


def test_an_object_that_the_operator_would_refuse_is_not_written() -> None:
    with pytest.raises(ValueError, match="524,288; record fewer edges"):
        prometheus_rule("http", "groups:\n" + "  # long\n" * 60_000)
    with pytest.raises(ValueError, match="no line `groups:`"):
        prometheus_rule("http", "rules: []\n")


def test_other_edges_and_labels_are_a_table_of_ones_own(tmp_path: Path) -> None:
    table = tmp_path / "mine.yaml"
    table.write_text(
        yaml.safe_dump(
            http_table(
                failed=['status="5xx"', 'status="429"'],
                edges=["40ms", "1500ms"],
                labels={"namespace": "kubernetes_namespace", "service": "app", "track": "track"},
            )
        ),
        encoding="utf-8",
    )
    assert generate.main(["--table", str(table), "--out", str(tmp_path / "out")]) == 0
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["mine.yaml"]
    text = (tmp_path / "out" / "mine.yaml").read_text(encoding="utf-8")
    assert [rule["labels"]["le"] for rule in rules_of(text) if "labels" in rule] == ["0.04", "1.5", "+Inf"]
    assert 'http_requests_total{track!="",status="5xx"}' in text
    assert 'http_requests_total{track!="",status="429"}' in text
    assert "sum by (kubernetes_namespace, app, track)" in text
    assert '"service", "$1", "app", "(.*)"' in text


def test_edges_on_the_command_line_replace_those_of_every_table(tmp_path: Path) -> None:
    assert generate.main(["--edges", "1s, 400ms", "--out", str(tmp_path)]) == 0
    for name, wanted in (("http.yaml", 'le="0.4"'), ("envoy.yaml", 'le=~"400([.]0)?"')):
        text = (tmp_path / name).read_text(encoding="utf-8")
        assert [rule["labels"]["le"] for rule in rules_of(text) if "labels" in rule] == ["0.4", "1.0", "+Inf"]
        assert wanted in text


def test_a_label_is_read_before_it_is_overwritten() -> None:
    strip = {"from": "service", "match": "(.+)-(canary|stable)"}
    table = table_of(http_table(labels={"namespace": "team", "service": strip, "track": strip | {"take": 2}}), "t")
    assert [name for name, _ in table.relabelled()] == ["namespace", "track", "service"]
    assert table.selector("up") == 'up{service=~"(.+)-(canary|stable)",track!=""}'


WRONG: dict[str, tuple[dict[str, object], str]] = {
    "an unknown field": ({"error": "x"}, "error: Extra inputs are not permitted"),
    "an edge without a unit": ({"edges": ["100ms", 2]}, "edges.1: 2 is not a duration; write a number with its unit"),
    "edges that fall": ({"edges": ["1s", "100ms"]}, "edges must rise"),
    "no track": ({"labels": {"namespace": "a", "service": "b"}}, "write namespace, service, track"),
    "a matcher with a wrong sign": ({"failed": ['code=="500"']}, "are no label matchers"),
    "a group too many": (
        {"labels": {"namespace": "n", "service": "s", "track": {"from": "pod", "match": "canary"}}},
        "has 0 groups and take is 1; put parentheses around the wanted part",
    ),
    "a broken pattern": (
        {"labels": {"namespace": "n", "service": "s", "track": {"from": "pod", "match": "("}}},
        "labels.track: '(' is no regular expression",
    ),
    "labels made from each other": (
        {"labels": {"namespace": "service", "service": "namespace", "track": "track"}},
        "labels namespace and service are each made from the other",
    ),
    "a name of a metric with a space": ({"requests": "http requests"}, "requests: "),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_table_that_cannot_be_used_is_told_by_file_and_field(case: str) -> None:
    change, said = WRONG[case]
    with pytest.raises(TableError, match=r"^mine\.yaml: ") as told:
        table_of(http_table(**change), "mine.yaml")
    assert said in str(told.value)


def test_a_file_that_is_no_table_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(TableError, match="it cannot be read"):
        read_table(tmp_path / "none.yaml")
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text("about: [", encoding="utf-8")
    with pytest.raises(TableError, match=r"wrong\.yaml:1"):
        read_table(wrong)
    wrong.write_text("- about", encoding="utf-8")
    with pytest.raises(SystemExit):
        generate.main(["--table", str(wrong), "--out", str(tmp_path / "out")])
    assert "it is no table; begin with a copy of rules/sources/http.yaml" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--table", "mine.yaml"], "say where to write with --out"),
        (["--label", "release", "--out", "x"], "--label release: write it as NAME=VALUE"),
        (["--edges", "0.1", "--out", "x"], "--edges 0.1: '0.1' is not a duration"),
    ],
)
def test_an_argument_that_cannot_be_used_is_refused_before_anything_is_written(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        generate.main(arguments)
    assert said in capsys.readouterr().err
    assert not Path("x").exists()

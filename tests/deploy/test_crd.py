"""The CustomResourceDefinition on a real API server: it agrees with the controller about what a good plan is."""

import json
from enum import Enum
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import pytest
import requests
import yaml
from pydantic import BaseModel

from controller.core.status import State, Status, read_status, write_status
from tests.core.documents.cases import CASES, Case, base
from tests.generators import generator
from tests.realparts.kube import ApiError, KubeApiserver

ROOT = Path(__file__).parents[2]
FILE = ROOT / "deploy" / "crd" / "launches.yaml"
SMALLEST = ROOT / "deploy" / "examples" / "smallest.yaml"


def create(kube: KubeApiserver, namespace: str, document: dict[str, Any], **query: str) -> Any:
    path = f"/apis/autoadvance.dev/v1alpha1/namespaces/{namespace}/launches"
    return kube.call("POST", path, document, fieldValidation="Strict", **query)


def refusal(kube: KubeApiserver, namespace: str, document: dict[str, Any]) -> str:
    """What the API server says against a document; empty where it takes it."""
    document.get("metadata", {}).pop("namespace", None)
    try:
        create(kube, namespace, document, dryRun="All")
    except ApiError as error:
        if error.code not in (400, 422):
            raise
        return str(error.body["message"])
    return ""


def schema() -> dict[str, Any]:
    version = yaml.safe_load(FILE.read_text())["spec"]["versions"][0]
    found: dict[str, Any] = version["schema"]["openAPIV3Schema"]["properties"]
    return found


def fields(node: dict[str, Any], place: str = "") -> dict[str, dict[str, Any]]:
    """Every field of a schema by its place."""
    found = {}
    for name, inner in node.get("properties", {}).items():
        found[f"{place}.{name}"] = inner
        found |= fields(inner, f"{place}.{name}")
    return found | (fields(node["items"], f"{place}[]") if "items" in node else {})


def test_the_file_is_what_the_generator_writes() -> None:
    assert FILE.read_text() == generator("deploy/crd").text(), "run: python deploy/crd/generate.py"


@pytest.mark.parametrize("part", ["spec", "status"])
def test_every_field_is_explained_in_a_sentence(part: str) -> None:
    described = {"": schema()[part], **fields(schema()[part])}
    assert [place for place, field in described.items() if not field.get("description", "").endswith(".")] == []


def test_everything_in_the_spec_is_bounded() -> None:
    for place, field in fields(schema()["spec"]).items():
        if field.get("type") == "array":
            assert field["maxItems"] <= 100, place
        if field.get("type") == "string":
            assert "enum" in field or field.get("maxLength", 10_000) <= 4096 or "pattern" in field, place


def test_the_schema_sets_no_defaults() -> None:
    """A default in the schema would be written into stored objects, and change them when it changes."""
    assert '"default"' not in json.dumps(schema())


def test_nothing_in_the_status_can_refuse_what_the_controller_writes() -> None:
    for place, field in fields(schema()["status"]).items():
        assert not {"enum", "pattern", "maximum", "minimum", "maxLength"} & set(field), place


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_api_server_agrees_with_the_controller(kube: KubeApiserver, namespace: str, case: Case) -> None:
    said = refusal(kube, namespace, case.document())
    expected_good = case.verdict == "good" or bool(case.reason)
    assert (said == "") == expected_good, said or f"the API server takes it, and no reason is given why: {case.name}"


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("a weight that falls", "order the steps by weight"),
        ("a weight of a hundredth", "such as 5 or 0.5%"),
        ("a time without a unit", "such as 30s, 10m, 4h or 2d"),
        ("a time of nothing", "write a duration above 0"),
        ("errors below a number", "write below: 1%"),
        ("latency without a quantile", "write quantile: 0.99, below: 500ms"),
        ("availability below", "write above: 99.9%"),
        ("a certainty of 100%", "from 80% to 99.99%"),
        ("a metric of two kinds", "exactly one of ratio, latency and value"),
        ("a metric named as a built-in one", "choose another"),
        ("a range as selector", "one selector without function, range or offset"),
        ("an unknown placeholder", "{{namespace}}"),
        ("stable and canary are one", "name the Service of the new revision"),
        ("steps that nothing judges", "add guardrails"),
        ("a step after 100", "nothing comes after 100%"),
        ("two targets on one route", "another rule in each"),
        ("a phase of an unknown target", "one of the names under targets"),
        ("at and after", "remove one of them"),
        ("two phases of one name", "Duplicate value"),
        ("a target's name in capitals", "write small letters"),
    ],
)
def test_the_api_server_says_what_to_write_instead(kube: KubeApiserver, namespace: str, name: str, advice: str) -> None:
    (case,) = (case for case in CASES if case.name == name)
    assert advice in refusal(kube, namespace, case.document())


def test_no_rule_fails_to_be_evaluated(kube: KubeApiserver, namespace: str) -> None:
    for case in CASES:
        said = refusal(kube, namespace, case.document())
        assert "conversion error" not in said, case.name
        assert "no such" not in said, case.name
        assert "cost" not in said, case.name


def test_the_largest_plan_is_within_the_cost_of_the_rules(kube: KubeApiserver, namespace: str) -> None:
    document = base()
    criteria = [{"metric": f"m{n}", "below": "1%", "certainty": "95%"} for n in range(50)]
    document["spec"] |= {
        "targets": [
            {"name": f"t{n}", "route": {"name": f"r{n}"}, "stable": {"name": "s"}, "canary": {"name": "c"}}
            for n in range(64)
        ],
        "metrics": [{"name": f"m{n}", "ratio": {"bad": f'p{{a="{"x" * 2000}"}}', "total": "p"}} for n in range(50)],
        "phases": [
            {
                "name": f"p{phase}",
                "targets": [f"t{n}" for n in range(64)],
                "steps": [{"weight": f"{phase + 1}.{min(step, 9)}%", "for": "10m"} for step in range(20)],
                "guardrails": criteria,
                "gate": {"after": "1h", "criteria": criteria},
            }
            for phase in range(64)
        ],
    }
    assert refusal(kube, namespace, document) == ""


def test_the_definition_is_established_with_its_short_name_and_columns(kube: KubeApiserver) -> None:
    found = kube.call("GET", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/launches.autoadvance.dev")
    conditions = {condition["type"]: condition["status"] for condition in found["status"]["conditions"]}
    assert conditions["Established"] == "True"
    assert conditions.get("NonStructuralSchema", "False") == "False"
    assert found["status"]["acceptedNames"]["shortNames"] == ["la"]
    assert found["status"]["acceptedNames"]["categories"] == ["all"]


def test_the_columns_say_where_a_launch_stands(kube: KubeApiserver, namespace: str) -> None:
    document = yaml.safe_load(SMALLEST.read_text())
    created = create(kube, namespace, document)
    path = f"/apis/autoadvance.dev/v1alpha1/namespaces/{namespace}/launches"
    created["status"] = write_status(Status(state=State.HELD, phase="ramp", weight="5%", reason="Breach", next="waits"))
    kube.call("PUT", f"{path}/shop/status", created, fieldValidation="Strict")
    table = _table(kube, path)
    assert [column["name"] for column in table["columnDefinitions"] if column["priority"] == 0] == [
        "Name", "State", "Phase", "Weight", "Next", "Reason", "Age",
    ]  # fmt: skip
    assert [column["name"] for column in table["columnDefinitions"] if column["priority"]] == ["Revision", "Message"]
    assert table["rows"][0]["cells"][:6] == ["shop", "Held", "ramp", "5%", "waits", "Breach"]


def _table(kube: KubeApiserver, path: str) -> Any:
    answer = requests.get(
        f"{kube.url}{path}",
        headers={
            "Authorization": f"Bearer {kube.token('admin')}",
            "Accept": "application/json;as=Table;v=v1;g=meta.k8s.io",
        },
        verify=str(kube.ca_file),
        timeout=60,
    )
    return answer.json()


def sample(annotation: Any) -> Any:
    """Some value of a type of the status, with nothing left empty."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return sample(arguments[0])
    if origin is Literal:
        return arguments[0]
    if origin in (UnionType, Union):
        return sample(next(choice for choice in arguments if choice is not NoneType))
    if origin is tuple:
        return (sample(arguments[0]),)
    if origin is dict:
        return {"main": sample(arguments[1])}
    if annotation is Any:
        return [{"name": "ramp", "anything": [1, "a"]}]
    if issubclass(annotation, BaseModel):
        return annotation(**{name: sample(field.annotation) for name, field in annotation.model_fields.items()})
    return annotation(
        next(iter(annotation)) if issubclass(annotation, Enum) else {str: "text", float: 1.5}.get(annotation, 1)
    )


def test_a_whole_status_is_stored_as_it_was_written(kube: KubeApiserver, namespace: str) -> None:
    status = sample(Status)
    document = create(kube, namespace, yaml.safe_load(SMALLEST.read_text()))
    path = f"/apis/autoadvance.dev/v1alpha1/namespaces/{namespace}/launches/shop"
    kube.call("PUT", f"{path}/status", document | {"status": write_status(status)}, fieldValidation="Strict")
    stored = kube.call("GET", path)
    assert stored["status"] == write_status(status)
    assert read_status(stored["status"]) == status

"""The objects for the Prometheus Operator on a real API server, against what their API allows."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.realparts.kube import ApiError, KubeApiserver
from tests.realparts.parts import ROOT
from tests.realparts.server import wait_until

FILES = sorted((ROOT / "deploy" / "prometheus-rules").glob("*.yaml"))
GROUP = "monitoring.coreos.com"
TEXT = {"type": "string"}
TEXTS = {"type": "object", "additionalProperties": TEXT}
DURATION = {
    "type": "string",
    "pattern": r"^(0|([0-9]+y)?([0-9]+w)?([0-9]+d)?([0-9]+h)?([0-9]+m)?([0-9]+s)?([0-9]+ms)?)$",
}


def schema(required: tuple[str, ...] = (), **fields: Mapping[str, Any]) -> dict[str, Any]:
    wanted = {"required": list(required)} if required else {}
    return {"type": "object", "properties": fields, **wanted}


def definition() -> dict[str, Any]:
    """The fields of a PrometheusRule that every operator knows which knows `keep_firing_for` (0.65 and later)."""
    rule = schema(
        ("expr",),
        record=TEXT,
        alert=TEXT,
        expr={"x-kubernetes-int-or-string": True},
        keep_firing_for=DURATION,
        labels=TEXTS,
        annotations=TEXTS,
        **{"for": DURATION},
    )
    group = schema(
        ("name",),
        name={"type": "string", "minLength": 1},
        interval=DURATION,
        limit={"type": "integer"},
        rules={"type": "array", "items": rule},
    )
    groups = {"type": "array", "items": group, "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]}
    names = {"kind": "PrometheusRule", "listKind": "PrometheusRuleList", "plural": "prometheusrules"}
    version = {
        "name": "v1",
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": schema(("spec",), spec=schema(groups=groups))},
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"prometheusrules.{GROUP}"},
        "spec": {"group": GROUP, "names": names, "scope": "Namespaced", "versions": [version]},
    }


@pytest.fixture(scope="module")
def operator(kube: KubeApiserver) -> KubeApiserver:
    """An API server that knows PrometheusRule."""
    kube.apply([definition()])

    def is_served() -> bool:
        try:
            kube.call("GET", f"/apis/{GROUP}/v1/namespaces/default/prometheusrules")
        except ApiError:
            return False
        return True

    wait_until(is_served, deadline_s=60, what="PrometheusRule to be served")
    return kube


def create(kube: KubeApiserver, namespace: str, document: Mapping[str, Any]) -> None:
    path = f"/apis/{GROUP}/v1/namespaces/{namespace}/prometheusrules"
    kube.call("POST", path, document, fieldValidation="Strict")


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_the_api_server_takes_each_of_them(operator: KubeApiserver, namespace: str, file: Path) -> None:
    create(operator, namespace, yaml.safe_load(file.read_text(encoding="utf-8")))
    (stored,) = operator.call("GET", f"/apis/{GROUP}/v1/namespaces/{namespace}/prometheusrules")["items"]
    assert stored["spec"] == yaml.safe_load(file.read_text(encoding="utf-8"))["spec"], "nothing was pruned"


def test_what_the_api_does_not_know_would_be_refused(operator: KubeApiserver, namespace: str) -> None:
    whole = yaml.safe_load(FILES[0].read_text(encoding="utf-8"))
    for field, value, words in (
        ("query_offset", "5s", r"unknown field .*spec\.groups\[0\]\.query_offset"),
        ("interval", "ten seconds", r"spec\.groups\[0\]\.interval"),
        ("name", whole["spec"]["groups"][-1]["name"], "Duplicate value"),
    ):
        broken = copy.deepcopy(whole)
        broken["spec"]["groups"].insert(0, copy.deepcopy(broken["spec"]["groups"][0]))
        broken["spec"]["groups"][0] |= {"name": "another"} | {field: value}
        with pytest.raises(ApiError, match=words):
            create(operator, namespace, broken)

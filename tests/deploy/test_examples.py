"""Every object that the examples and the pages show is taken by a real API server, strictly, and means there what it says.

Objects of other products are shown beside ours where somebody comes from them; kustomizations are built by the tests of
the pages that show them.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from controller.adapters.yaml_documents import read_documents
from controller.core.plan import parse
from tests.realparts.kube import ApiError, KubeApiserver

ROOT = Path(__file__).parents[2]
OTHER_PRODUCTS = ("flagger.app/", "argoproj.io/", "kustomize.config.k8s.io/")
APPLY = {"fieldManager": "tests", "force": "true", "fieldValidation": "Strict", "dryRun": "All"}


def shown() -> list[tuple[str, dict[str, Any]]]:
    """The complete objects of deploy/examples and of the pages, each with where it stands."""
    texts = [(str(path.relative_to(ROOT)), path.read_text("utf-8")) for path in ROOT.glob("deploy/examples/**/*.yaml")]
    for page in (ROOT / "README.md", *ROOT.glob("docs/**/*.md")):
        fences = re.findall(r"^ *```ya?ml\n(.*?)^ *```$", page.read_text("utf-8"), re.MULTILINE | re.DOTALL)
        texts += [(str(page.relative_to(ROOT)), text) for text in fences]
    return sorted(
        ((place, document) for place, text in texts for document in values(text) if is_ours(document)),
        key=lambda found: (found[0], found[1]["kind"], found[1]["metadata"]["name"]),
    )


def values(text: str) -> list[Any]:
    """As the controller reads them: a date stays the text that JSON has for it. Loopback is for the demo alone."""
    return [document.value for document in read_documents(text.replace("[127.0.0.1]", "[192.0.2.1]"))]


def is_ours(document: object) -> bool:
    return isinstance(document, dict) and not str(document.get("apiVersion", "/")).startswith(("/", *OTHER_PRODUCTS))


def applied(kube: KubeApiserver, namespace: str, document: dict[str, Any]) -> dict[str, Any]:
    """What the API server would keep of an object in this namespace. Raises ApiError."""
    metadata = {name: value for name, value in document["metadata"].items() if name != "namespace"}
    asked = {**document, "metadata": metadata}
    path = kube.path_of(asked, namespace)
    kept: dict[str, Any] = kube.call("PATCH", path, asked, content_type="application/apply-patch+yaml", **APPLY)
    return kept


def test_the_examples_and_the_pages_show_launches_and_what_belongs_to_them() -> None:
    places = {place for place, document in shown() if document["kind"] == "Launch"}
    assert {
        "README.md",
        "docs/launch.md",
        "deploy/examples/smallest.yaml",
        "deploy/examples/demo/launch.yaml",
    } <= places
    assert {"HTTPRoute", "EndpointSlice", "ConfigMap", "ClusterRole"} <= {document["kind"] for _, document in shown()}


@pytest.mark.parametrize(
    ("place", "document"),
    [pytest.param(place, document, id=f"{place}-{document['kind']}") for place, document in shown()],
)
def test_every_object_that_is_shown_is_taken_strictly(
    kube: KubeApiserver, namespace: str, place: str, document: dict[str, Any]
) -> None:
    kept = applied(kube, namespace, document)
    if document["kind"] == "Launch":
        meant = parse({**document, "metadata": {**document["metadata"], "namespace": namespace}})
        assert parse(kept) == meant, f"{place}: a default of the schema is not the controller's"


def test_a_misspelt_field_of_an_example_would_be_noticed(kube: KubeApiserver, namespace: str) -> None:
    (document,) = (document for place, document in shown() if place == "deploy/examples/smallest.yaml")
    with pytest.raises(ApiError, match=r"spec\.revison"):
        applied(kube, namespace, {**document, "spec": {**document["spec"], "revison": "v2"}})

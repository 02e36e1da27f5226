"""The manifests as people get them: rendered by kubectl's own kustomize, and by Helm."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from tests.realparts.parts import ROOT, find

DEPLOY = ROOT / "deploy"
CHART = DEPLOY / "chart"
OVERLAYS = ("cluster-wide", "one-namespace", "prometheus-operator")
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_TIMEOUT_S = 120

Document = dict[str, Any]


def kustomize(folder: Path) -> list[Document]:
    """What `kubectl kustomize` makes of a folder. Raises CalledProcessError."""
    return _documents([str(find("kubectl")), "kustomize", str(folder)])


def overlay(name: str) -> list[Document]:
    """What one of our overlays makes."""
    return kustomize(DEPLOY / "overlays" / name)


def helm(*arguments: str) -> subprocess.CompletedProcess[str]:
    """One run of Helm, whatever comes of it."""
    return subprocess.run(
        [str(find("helm")), *arguments], capture_output=True, text=True, check=False, timeout=_TIMEOUT_S
    )


def chart(namespace: str = "auto-advance", *, values: Mapping[str, Any] | None = None) -> list[Document]:
    """What the chart makes of these values, without Helm's own labels. Raises CalledProcessError."""
    command = [str(find("helm")), "template", "auto-advance", str(CHART), "--namespace", namespace, "--values", "-"]
    return [_plain(document) for document in _documents(command, yaml.safe_dump(dict(values or {})))]


def one(documents: Sequence[Document], kind: str, name: str = "auto-advance") -> Document:
    """The one object of that kind and name."""
    (found,) = [item for item in documents if item["kind"] == kind and item["metadata"]["name"] == name]
    return found


def by_name(documents: Sequence[Document]) -> dict[tuple[str, str, str], Document]:
    """The objects by kind, namespace and name; each once."""
    found: dict[tuple[str, str, str], Document] = {}
    for document in documents:
        metadata = document["metadata"]
        key = document["kind"], metadata.get("namespace", ""), metadata["name"]
        assert key not in found, f"{key} is there twice"
        found[key] = document
    return found


def permissions(documents: Sequence[Document], namespace: str = "auto-advance") -> set[tuple[str, str, str]]:
    """What the controller is granted by these objects, as (group, resource, verb)."""
    user = {"kind": "ServiceAccount", "name": "auto-advance", "namespace": namespace}
    roles = [
        (binding["roleRef"]["kind"], binding["roleRef"]["name"])
        for binding in documents
        if binding["kind"] in ("RoleBinding", "ClusterRoleBinding") and user in binding["subjects"]
    ]
    return {
        (group, resource, verb)
        for kind, name in roles
        for rule in one(documents, kind, name)["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def _documents(command: list[str], given: str = "") -> list[Document]:
    said = subprocess.run(command, input=given, capture_output=True, text=True, check=False, timeout=_TIMEOUT_S)
    if said.returncode != 0:
        raise subprocess.CalledProcessError(said.returncode, command, said.stdout, said.stderr)
    return [document for document in yaml.load_all(said.stdout, _LOADER) if document]


def _plain(document: Document) -> Document:
    """An object without what Helm alone says: who manages it, of which release and version."""
    helms = {
        "app.kubernetes.io/instance",
        "app.kubernetes.io/managed-by",
        "app.kubernetes.io/version",
        "helm.sh/chart",
        "helm.sh/resource-policy",
    }
    for part in ("labels", "annotations"):
        named = document["metadata"].get(part, {})
        kept = {name: value for name, value in named.items() if name not in helms}
        document["metadata"].pop(part, None)
        if kept:
            document["metadata"][part] = kept
    return document

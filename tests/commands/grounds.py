"""Where the tests of the command line find launches: a folder, or a real API server; and how they type."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import yaml
from typer.testing import CliRunner, Result

from controller.__main__ import app
from tests.core.builders import ramp, target
from tests.realparts.kube import KubeApiserver
from tests.realparts.parts import ROOT

PREFIX = "autoadvance.dev/"
FAR = "2049-01-01T00:00:00Z"


def call(*arguments: object) -> Result:
    """What the command line says, without what the environment of the tests may set."""
    names = [name for name in os.environ if name.startswith(("AUTO_ADVANCE_", "KUBE"))]
    return CliRunner().invoke(app, [*map(str, arguments)], env=dict.fromkeys(names))


def programs(folder: Path) -> Path:
    """A folder that holds the program under each of its names, for a PATH."""
    folder.mkdir(parents=True)
    for name in ("auto-advance", "kubectl-launch", "kubectl_complete-launch"):
        program = folder / name
        program.write_text(
            f"#!{sys.executable}\nimport sys\nsys.path.insert(0, {str(ROOT)!r})\n"
            "from controller.__main__ import main\nmain()\n"
        )
        program.chmod(0o755)
    return folder


def people(name: str = "learner", **spec: Any) -> dict[str, Any]:
    """A launch that people bring forward: what has no traffic yet needs no Prometheus."""
    phases = [
        {
            "name": "planning",
            "preflight": {"checklist": ["team", "budget"], "approval": {"role": "vp"}},
            "deliverables": ["design"],
            "gate": {"approval": {"role": "lead"}},
        },
        {"name": "quiet", "start": {"at": FAR}, "deliverables": ["tests"]},
        ramp("ramp", preflight={"opens": "1h", "approval": {"role": "vp"}}),
    ]
    return {
        "apiVersion": "autoadvance.dev/v1alpha1",
        "kind": "Launch",
        "metadata": {"name": name},
        "spec": {"revision": "v2", "targets": [target(name)], "phases": phases, **spec},
    }


def route(name: str = "learner") -> dict[str, Any]:
    """Its route, all traffic on stable."""
    backends = [
        {"name": f"{name}-stable", "port": 80, "weight": 100},
        {"name": f"{name}-canary", "port": 80, "weight": 0},
    ]
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": {"name": name},
        "spec": {"rules": [{"backendRefs": backends}]},
    }


class Ground(Protocol):
    """One of the two clusters, as a test uses it."""

    flags: tuple[str, ...]
    """What leads the command line there."""
    daemon: tuple[str, ...]
    """What leads the daemon there."""
    namespace: str

    def put(self, document: Mapping[str, Any]) -> None:
        """Store a manifest."""

    def annotations(self, name: str) -> dict[str, str]:
        """Our annotations of a launch, without their prefix."""


class FolderGround:
    """A folder of manifests, one file each."""

    def __init__(self, folder: Path, namespace: str = "prod") -> None:
        self.folder = folder
        self.namespace = namespace
        self.flags: tuple[str, ...] = (f"--folder={folder}",)
        self.daemon: tuple[str, ...] = (f"--folder={folder}",)

    def put(self, document: Mapping[str, Any]) -> None:
        named = {**document, "metadata": {"namespace": self.namespace, **document["metadata"]}}
        path = self._path(named["kind"], named["metadata"]["name"], named["metadata"]["namespace"])
        unfinished = path.with_suffix(".unfinished")
        unfinished.write_text(yaml.safe_dump(named, sort_keys=False))
        unfinished.rename(path)  # a daemon may be reading the folder

    def annotations(self, name: str) -> dict[str, str]:
        stored = yaml.safe_load(self._path("Launch", name, self.namespace).read_text())
        return _ours(stored["metadata"].get("annotations") or {})

    def _path(self, kind: str, name: str, namespace: str) -> Path:
        return self.folder / f"{kind.lower()}-{namespace}-{name}.yaml"


class ApiGround:
    """A namespace of a real API server. The command line goes there as a person who may edit launches and no more."""

    def __init__(self, kube: KubeApiserver, namespace: str) -> None:
        self.kube = kube
        self.namespace = namespace
        kube.grant(
            "person",
            [{"apiGroups": ["autoadvance.dev"], "resources": ["launches"], "verbs": ["get", "list", "patch"]}],
            namespace=namespace,
        )
        self.flags: tuple[str, ...] = (f"--kubeconfig={kube.kubeconfig('person', namespace=namespace)}",)
        self.daemon: tuple[str, ...] = (f"--kubeconfig={kube.kubeconfig('admin')}", f"--namespace={namespace}")

    def put(self, document: Mapping[str, Any]) -> None:
        self.kube.apply([document], namespace=self.namespace)

    def annotations(self, name: str) -> dict[str, str]:
        path = f"/apis/autoadvance.dev/v1alpha1/namespaces/{self.namespace}/launches/{name}"
        return _ours(self.kube.call("GET", path)["metadata"].get("annotations") or {})


def _ours(annotations: Mapping[str, str]) -> dict[str, str]:
    return {name.removeprefix(PREFIX): text for name, text in annotations.items() if name.startswith(PREFIX)}


def said(ground: Ground, verb: str, name: str = "learner") -> dict[str, str]:
    """The fields of an annotation that the command line wrote; none where it is not there."""
    fields: dict[str, str] = json.loads(ground.annotations(name).get(verb, "{}"))
    return fields

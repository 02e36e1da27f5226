"""What the GitOps tools are told: the health of a Launch by the shipped Lua, and what their ways of applying do to weights."""

from __future__ import annotations

from typing import Any

import lupa
import pytest
import yaml

from controller.core.status import State
from tests.adapters.grounds import launch_document, route_document
from tests.generators import generator
from tests.realparts.kube import KubeApiserver
from tests.realparts.parts import ROOT

GITOPS = ROOT / "deploy" / "gitops"
KEY = "resource.customizations.health.autoadvance.dev_Launch"
HEALTHS = {"Healthy", "Progressing", "Suspended", "Degraded"}  # what Argo CD knows, and a check may say


def loaded(path: str) -> Any:
    return yaml.safe_load((GITOPS / path).read_text(encoding="utf-8"))


def health(launch: dict[str, Any]) -> tuple[str, str]:
    """What Argo CD would show, by the text that stands in the ConfigMap."""
    lua: Any = lupa.LuaRuntime(unpack_returned_tuples=False)
    lua.globals().obj = lua.table_from(launch, recursive=True)
    said = lua.execute(loaded("argocd/argocd-cm.yaml")["data"][KEY])
    return str(said["status"]), str(said["message"])


def launch(state: State, *, generation: int = 3, seen: int = 3) -> dict[str, Any]:
    status = {"state": state.value, "message": "a sentence", "observedGeneration": seen}
    return {"metadata": {"generation": generation}, "status": status}


def table() -> dict[str, str]:
    """The health of each state as docs/gitops.md has it."""
    said = {}
    for line in (ROOT / "docs" / "gitops.md").read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 2 and cells[1].split(":")[0] in HEALTHS:
            for state in cells[0].replace("`", "").split(", "):
                said[state] = cells[1].split(":")[0]
    return said


@pytest.mark.parametrize("state", list(State))
def test_argo_cd_shows_of_each_state_what_the_table_says(state: State) -> None:
    assert health(launch(state)) == (table()[state.value], "a sentence")


def test_argo_cd_does_not_take_the_health_of_the_last_edit_for_that_of_this_one() -> None:
    assert health(launch(State.SUCCEEDED, generation=4)) == (
        "Progressing", "the controller has not seen this edit yet",
    )  # fmt: skip


@pytest.mark.parametrize("status", [None, {}])
def test_argo_cd_takes_a_launch_that_nobody_has_looked_at_for_progressing(status: dict[str, Any] | None) -> None:
    bare: dict[str, Any] = {"metadata": {"generation": 1}}
    if status is not None:
        bare["status"] = status
    assert health(bare)[0] == "Progressing"


def test_the_configuration_of_argo_cd_is_the_one_that_the_lua_file_makes() -> None:
    made = generator("deploy/gitops/argocd").text()
    assert (GITOPS / "argocd" / "argocd-cm.yaml").read_text(encoding="utf-8") == made, (
        "deploy/gitops/argocd/argocd-cm.yaml is out of date; run: python deploy/gitops/argocd/generate.py"
    )


@pytest.mark.parametrize("path", ["argocd/application.yaml", "flux/kustomization.yaml"])
def test_the_page_shows_the_settings_of_the_shipped_files(path: str) -> None:
    page = (ROOT / "docs" / "gitops.md").read_text(encoding="utf-8")
    blocks = [yaml.safe_load(block.partition("```")[0]) for block in page.split("```yaml\n")[1:]]
    spec = loaded(path)["spec"]
    shown = [block for block in blocks if isinstance(block, dict) and block.keys() <= spec.keys()]
    assert any(all(spec[name] == value for name, value in block.items()) for block in shown), path


def test_the_ignored_paths_are_the_weights_of_the_route_that_git_has() -> None:
    route = loaded("flux/route-before-1.9.yaml")
    for path in loaded("flux/kustomization.yaml")["spec"]["ignore"][0]["paths"]:
        value = route
        for part in path.strip("/").split("/"):
            value = value[int(part)] if part.isdecimal() else value[part]
        assert value in (0, 100)


def test_an_apply_of_a_launch_by_a_gitops_tool_leaves_overrides_and_status_alone(kube: KubeApiserver) -> None:
    namespace = kube.create_namespace()
    plan = launch_document("shop")
    path = f"/apis/autoadvance.dev/v1alpha1/namespaces/{namespace}/launches/shop"
    kube.apply([plan], namespace=namespace)
    merge = "application/merge-patch+json"
    kube.call("PATCH", path, {"metadata": {"annotations": {"autoadvance.dev/hold": "wait"}}}, content_type=merge)
    kube.call("PATCH", f"{path}/status", {"status": {"state": "Held"}}, content_type=merge)
    kube.apply([plan], namespace=namespace)
    stored = kube.call("GET", path)
    assert stored["metadata"]["annotations"]["autoadvance.dev/hold"] == "wait"
    assert stored["status"]["state"] == "Held"


def test_an_apply_of_the_whole_route_puts_the_weights_of_git_back(kube: KubeApiserver) -> None:
    """Why the settings are needed at all: the list of rules is one field to the API server."""
    namespace = kube.create_namespace()
    route = route_document("shop")
    path = f"/apis/gateway.networking.k8s.io/v1/namespaces/{namespace}/httproutes/shop"
    kube.apply([route], namespace=namespace)
    raised = [
        {"op": "add", "path": f"/spec/rules/0/backendRefs/{index}/weight", "value": weight}
        for index, weight in enumerate((80, 20))
    ]
    kube.call("PATCH", path, raised, content_type="application/json-patch+json", fieldManager="auto-advance")
    kube.apply([route], namespace=namespace)
    backends = kube.call("GET", path)["spec"]["rules"][0]["backendRefs"]
    assert [backend["weight"] for backend in backends[:2]] == [100, 0]

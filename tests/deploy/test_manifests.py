"""What is shipped to be applied: the API server takes every object, and kustomize and Helm make the same ones."""

from __future__ import annotations

import copy
import os
import re
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from controller.settings import RUN_SETTINGS, read_settings
from tests.deploy.rendered import CHART, DEPLOY, OVERLAYS, Document, by_name, chart, helm, kustomize, one, overlay
from tests.deploy.rendered import permissions as granted
from tests.generators import generator
from tests.realparts.kube import IDENTITIES, ApiError, Identity, KubeApiserver, service_account
from tests.realparts.parts import find, find_crds

pytestmark = pytest.mark.xdist_group("install")

OPERATED: dict[str, Any] = {"prometheusOperator": {"serviceMonitor": True, "alerts": True}}
CONFINED: dict[str, Any] = {
    "namespaces": ["auto-advance"],
    "crds": {"install": False},
    "people": {"create": False},
    "admission": {"create": False},
    "priorityClass": {"create": False, "name": ""},
}
"""The values that make what the overlay one-namespace does."""
EVERYTHING: dict[str, Any] = {
    **OPERATED,
    "image": {"repository": "registry.example.com/team/auto-advance", "digest": "sha256:" + 64 * "a"},
    "imagePullSecrets": [{"name": "pull"}],
    "replicas": 3,
    "namespaces": ["shop", "search"],
    "config": {"prometheus": {"default": {"url": "http://prometheus.monitoring:9090"}}},
    "listen": "[::]:9443",
    "extraArgs": ["--tick=5s"],
    "resources": {"requests": {"cpu": "1"}},
    "nodeSelector": {"kubernetes.io/os": "linux"},
    "tolerations": [{"key": "control", "operator": "Exists"}],
    "affinity": {"nodeAffinity": {}},
    "podAnnotations": {"example.com/team": "release"},
    "networkPolicy": {"monitoringPorts": [443], "monitoringTo": [{"ipBlock": {"cidr": "192.0.2.0/24"}}]},
    "admission": {"roles": {"lead": "leads, platform-leads"}, "otherNamespaces": ["checkout"]},
}
FILES = "/etc/auto-advance/"
PEOPLE = {
    **IDENTITIES,
    "viewer": Identity("viewer"),
    "editor": Identity("editor"),
    "lead": Identity("lead"),
    "team": service_account("team", "auto-advance"),
}


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KubeApiserver]:
    """An API server of these tests alone, with everything installed as docs/install.md says: by kubectl apply -k."""
    with KubeApiserver(tmp_path_factory.mktemp("installed"), identities=PEOPLE) as kube:
        kube.install_crds(find_crds("gateway-api"))
        kube.install_crds(find_crds("prometheus-operator"))
        said = kubectl(kube, "apply", "-k", str(DEPLOY))
        assert said.returncode == 0, said.stderr
        assert said.stderr == "", "a warning is nothing that everybody should see at each installation"
        yield kube


def kubectl(kube: KubeApiserver, *arguments: str, identity: str = "admin") -> subprocess.CompletedProcess[str]:
    """One run of the real kubectl, as somebody."""
    environment = {**os.environ, "KUBECONFIG": str(kube.kubeconfig(identity)), "HOME": str(kube.folder)}
    command = [str(find("kubectl")), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120, env=environment)


def may(kube: KubeApiserver, identity: str, namespace: str, verb: str, resource: str, group: str = "") -> bool:
    """Whether the API server would let somebody do that."""
    name, _, subresource = resource.partition("/")
    attributes = {"namespace": namespace, "verb": verb, "group": group, "resource": name, "subresource": subresource}
    person = kube.identities[identity]
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "spec": {"user": person.user, "groups": list(person.groups), "resourceAttributes": attributes},
    }
    answer = kube.call("POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews", review)
    return bool(answer["status"]["allowed"])


def as_the_chart_says(documents: list[Document]) -> list[Document]:
    """What kustomize made, but for what the chart cannot or need not say the same way."""
    found = []
    for document in copy.deepcopy(documents):
        if document["kind"] == "Namespace":
            continue  # `helm install --create-namespace` makes it, and docs/install.md labels it
        if document["kind"] == "ConfigMap" and document["metadata"]["name"] == "auto-advance-roles":
            document["metadata"]["labels"] = {"app.kubernetes.io/name": "auto-advance"}
        if document["kind"] == "Deployment":
            arguments = document["spec"]["template"]["spec"]["containers"][0]["args"]
            arguments[:] = [argument.replace("$(POD_NAMESPACE)", "auto-advance") for argument in arguments]
        found.append(document)
    return found


def parsed(documents: list[Document]) -> dict[tuple[str, str, str], Document]:
    """The objects by their names, the configuration as data: its comments and line ends are nobody's concern."""
    found = by_name(documents)
    for (kind, _, name), document in found.items():
        if kind == "ConfigMap" and not document.get("data"):
            document.pop("data", None)
        if (kind, name) == ("ConfigMap", "auto-advance"):
            document["data"]["config.yaml"] = yaml.safe_load(document["data"]["config.yaml"])
    return found


# kustomize and Helm


@pytest.mark.parametrize(
    ("name", "values"),
    [("cluster-wide", {}), ("prometheus-operator", OPERATED), ("one-namespace", CONFINED)],
)
def test_kustomize_and_helm_make_the_same_objects(name: str, values: dict[str, Any]) -> None:
    ours, charts = parsed(as_the_chart_says(overlay(name))), parsed(chart(values=values))
    assert sorted(ours) == sorted(charts)
    for key, document in ours.items():
        assert charts[key] == document, key


def test_what_the_root_installs_is_the_overlay_for_the_whole_cluster() -> None:
    assert by_name(kustomize(DEPLOY)) == by_name(overlay("cluster-wide"))


def test_the_files_of_the_chart_are_what_the_generator_writes() -> None:
    for name, text in generator("deploy/chart").files().items():
        assert (CHART / "files" / name).read_text() == text, "run: python deploy/chart/generate.py"
    assert sorted(path.name for path in (CHART / "files").iterdir()) == sorted(generator("deploy/chart").files())


def test_helm_lint_finds_nothing() -> None:
    said = helm("lint", "--strict", str(CHART))
    assert said.returncode == 0, said.stdout + said.stderr
    assert "WARNING" not in said.stdout + said.stderr


@pytest.mark.parametrize(
    ("given", "place"),
    [
        ("replicas=two", "/replicas"),
        ("replicas=9", "/replicas"),
        ("replica=3", "'replica' not allowed"),
        ("image.tag=a:b", "/image/tag"),
        ("image.digest=sha256:12", "/image/digest"),
        ("namespaces={Shop}", "/namespaces/0"),
        ("listen=localhost:8080", "/listen"),
        ("extraArgs={tick}", "/extraArgs/0"),
        ("networkPolicy.apiServerPorts={70000}", "/networkPolicy/apiServerPorts/0"),
        ("admission.roles.lead=3", "/admission/roles/lead"),
        ("priorityClass.value=2000001000", "/priorityClass/value"),
    ],
)
def test_a_wrong_value_is_refused_by_its_place(given: str, place: str) -> None:
    said = helm("template", "auto-advance", str(CHART), "--set", given)
    assert said.returncode != 0
    assert place in said.stderr


def test_every_value_is_described() -> None:
    schema = yaml.safe_load((CHART / "values.schema.json").read_text())
    values = yaml.safe_load((CHART / "values.yaml").read_text())

    def compare(value: Any, node: Document, place: str) -> None:
        if "properties" not in node:
            return
        assert sorted(set(node["properties"]) - {"global", "claims"}) == sorted(value), place
        for name, inner in value.items():
            assert node["properties"][name].get("description", "").endswith("."), f"{place}.{name}"
            compare(inner, node["properties"][name], f"{place}.{name}")

    values.pop("resources")  # its two parts may be left out
    schema["properties"].pop("resources")
    compare(values, schema, "values")


def test_values_come_where_they_belong() -> None:
    documents = chart("platform", values=EVERYTHING)
    deployment = one(documents, "Deployment")
    pod = deployment["spec"]["template"]
    (container,) = pod["spec"]["containers"]
    assert container["image"] == "registry.example.com/team/auto-advance@sha256:" + 64 * "a"
    assert container["args"][2:] == [
        "--listen=[::]:9443",
        "--log-format=json",
        "--namespace=shop",
        "--namespace=search",
        "--tick=5s",
    ]
    assert container["ports"] == [{"name": "http", "containerPort": 9443, "protocol": "TCP"}]
    assert pod["metadata"]["annotations"]["prometheus.io/port"] == "9443"
    assert deployment["spec"]["replicas"] == 3
    roles = [document for document in documents if document["kind"] == "Role"]
    assert sorted((role["metadata"]["namespace"], role["metadata"]["name"]) for role in roles) == [
        ("platform", "auto-advance-lease"),
        ("search", "auto-advance"),
        ("shop", "auto-advance"),
    ]
    assert not [document for document in documents if document["kind"] == "ClusterRoleBinding"]
    config = yaml.safe_load(one(documents, "ConfigMap")["data"]["config.yaml"])
    assert config == EVERYTHING["config"]
    assert one(documents, "ConfigMap", "auto-advance-roles")["data"] == {"lead": "leads, platform-leads"}
    text = yaml.safe_dump_all(document for document in documents if document["kind"].startswith("Validating"))
    assert "system:serviceaccount:platform:auto-advance" in text
    assert "system:serviceaccount:checkout:auto-advance" in text
    assert "system:serviceaccount:auto-advance:" not in text
    binding = one(documents, "ValidatingAdmissionPolicyBinding", "auto-advance-approvals")
    assert binding["spec"]["paramRef"]["namespace"] == "platform"


# the API server


@pytest.mark.parametrize("name", OVERLAYS)
def test_every_object_of_an_overlay_is_taken_strictly(installed: KubeApiserver, name: str) -> None:
    installed.apply(overlay(name))


def test_in_another_namespace_the_policies_follow_by_the_lines_of_the_page(
    installed: KubeApiserver, tmp_path: Path
) -> None:
    page = (DEPLOY.parent / "docs" / "security.md").read_text()
    (lines,) = [
        text for text in re.findall(r"^```yaml\n(.*?)^```$", page, re.MULTILINE | re.DOTALL) if "replacements:" in text
    ]
    used = {**yaml.safe_load(lines), "resources": [os.path.relpath(DEPLOY, tmp_path.resolve())]}
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(used))
    text = yaml.safe_dump_all(item for item in kustomize(tmp_path) if item["kind"].startswith("Validating"))
    assert f"system:serviceaccount:{used['namespace']}:auto-advance" in text
    assert "system:serviceaccount:auto-advance:" not in text
    installed.apply([{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": used["namespace"]}}])
    said = kubectl(installed, "apply", "--dry-run=server", "-k", str(tmp_path))
    assert said.returncode == 0, said.stderr


@pytest.mark.parametrize("values", [{}, OPERATED, CONFINED, EVERYTHING], ids=["defaults", "operator", "one", "all"])
def test_every_object_of_the_chart_is_taken_strictly(installed: KubeApiserver, values: dict[str, Any]) -> None:
    for name in ("shop", "search"):
        installed.apply([{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}])
    # beside the installed one, and dry: the others look at what there is for the whole cluster
    for document in chart(installed.create_namespace(), values=values):
        path = installed.path_of(document)
        query = {"fieldManager": "tests", "force": "true", "fieldValidation": "Strict", "dryRun": "All"}
        installed.call("PATCH", path, document, content_type="application/apply-patch+yaml", **query)


def test_what_is_installed_twice_changes_nothing(installed: KubeApiserver) -> None:
    installed.apply(overlay("prometheus-operator"))
    assert kubectl(installed, "apply", "-k", str(DEPLOY)).returncode == 0
    said = kubectl(installed, "diff", "-k", str(DEPLOY))
    assert (said.returncode, said.stdout) == (0, ""), said.stdout + said.stderr


@pytest.mark.parametrize("values", [{}, CONFINED, EVERYTHING], ids=["defaults", "one", "all"])
def test_the_pod_is_admitted_where_only_restricted_pods_are(installed: KubeApiserver, values: dict[str, Any]) -> None:
    def create(template: Document) -> None:
        pod = {"apiVersion": "v1", "kind": "Pod", **copy.deepcopy(template)}
        pod["metadata"]["name"] = "a-replica"
        path = "/api/v1/namespaces/auto-advance/pods"
        installed.call("POST", path, pod, dryRun="All", fieldValidation="Strict")

    template = one(chart(values=values), "Deployment")["spec"]["template"]
    create(template)
    loosenings: tuple[dict[str, Any], ...] = (
        {"runAsNonRoot": False},
        {"allowPrivilegeEscalation": True},
        {"capabilities": {"drop": []}},
        {"privileged": True},
        {"seccompProfile": {"type": "Unconfined"}},
    )
    for change in loosenings:
        looser = copy.deepcopy(template)
        looser["spec"]["containers"][0]["securityContext"] |= change
        with pytest.raises(ApiError, match=r"violates PodSecurity|privileged") as refused:
            create(looser)
        assert refused.value.code in (403, 422), change


def test_the_pod_cannot_write_to_its_root_and_has_no_more_than_it_needs() -> None:
    pod = one(overlay("cluster-wide"), "Deployment")["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert pod["enableServiceLinks"] is False
    assert one(overlay("cluster-wide"), "ServiceAccount")["automountServiceAccountToken"] is False
    assert pod["automountServiceAccountToken"] is True
    assert all(mount["readOnly"] for mount in container["volumeMounts"])
    assert not [volume for volume in pod["volumes"] if set(volume) - {"name"} - {"configMap", "secret"}]


@pytest.mark.parametrize("name", OVERLAYS)
def test_names_labels_and_ports_meet(name: str) -> None:
    documents = overlay(name)
    deployment = one(documents, "Deployment")
    labels = deployment["spec"]["template"]["metadata"]["labels"].items()
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    version = tomllib.loads((DEPLOY.parent / "pyproject.toml").read_text())["project"]["version"]
    assert yaml.safe_load((CHART / "Chart.yaml").read_text())["appVersion"] == version
    assert container["image"] == f"auto-advance:{version}"
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    service = one(documents, "Service")["spec"]
    policy = one(documents, "NetworkPolicy")["spec"]
    budget = one(documents, "PodDisruptionBudget")["spec"]
    spreads = deployment["spec"]["template"]["spec"]["topologySpreadConstraints"]
    for selector in (
        deployment["spec"]["selector"]["matchLabels"],
        service["selector"],
        policy["podSelector"]["matchLabels"],
        budget["selector"]["matchLabels"],
        *(spread["labelSelector"]["matchLabels"] for spread in spreads),
    ):
        assert selector
        assert selector.items() <= labels
    assert ports == {"http": 8080}
    assert [port["targetPort"] for port in service["ports"]] == ["http"]
    assert [port["port"] for rule in policy["ingress"] for port in rule["ports"]] == ["http"]
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert container[probe]["httpGet"]["port"] == "http"
        assert container[probe]["httpGet"]["path"] in ("/livez", "/readyz")
    for monitor in [document for document in documents if document["kind"] == "ServiceMonitor"]:
        assert (
            monitor["spec"]["selector"]["matchLabels"].items()
            <= one(documents, "Service")["metadata"]["labels"].items()
        )
        assert [endpoint["port"] for endpoint in monitor["spec"]["endpoints"]] == ["http"]


def test_the_stop_of_all_launches_is_mounted_beside_the_configuration_and_no_manifest_has_it() -> None:
    for documents in (*map(overlay, OVERLAYS), chart(values=EVERYTHING)):
        assert set(one(documents, "ConfigMap", "auto-advance")["data"]) == {"config.yaml"}
        pod = one(documents, "Deployment")["spec"]["template"]["spec"]
        (volume,) = [each["configMap"] for each in pod["volumes"] if "configMap" in each]
        assert "items" not in volume, "every key is a file"
        (mount,) = [each for each in pod["containers"][0]["volumeMounts"] if each["name"] == "config"]
        assert (mount["mountPath"], "subPath" in mount) == (FILES.rstrip("/"), False)


@pytest.mark.parametrize("name", OVERLAYS)
def test_the_controller_understands_the_flags_that_it_is_given(tmp_path: Path, name: str) -> None:
    documents = overlay(name)
    (container,) = one(documents, "Deployment")["spec"]["template"]["spec"]["containers"]
    (tmp_path / "config.yaml").write_text(one(documents, "ConfigMap")["data"]["config.yaml"])
    assert container["args"][0] == "run"
    flags: dict[str, Any] = {}
    for argument in container["args"][1:]:
        flag, _, value = argument.removeprefix("--").partition("=")
        value = value.replace(FILES, f"{tmp_path}/").replace("$(POD_NAMESPACE)", "auto-advance")
        assert flag in {setting.name for setting in RUN_SETTINGS}
        flags[flag] = [value] if flag == "namespace" else value
    settings = read_settings(flags, {})
    assert settings.namespaces == (("auto-advance",) if name == "one-namespace" else ())
    assert settings.listen == ("0.0.0.0", 8080)  # noqa: S104 - a pod is reached from outside of it


# rights


def test_no_right_is_for_secrets_for_deleting_or_for_everything() -> None:
    for documents in (overlay("cluster-wide"), overlay("one-namespace"), chart(values=EVERYTHING)):
        for role in [document for document in documents if document["kind"] in ("Role", "ClusterRole")]:
            for rule in role["rules"]:
                assert "*" not in [*rule["apiGroups"], *rule["resources"], *rule["verbs"]], role["metadata"]["name"]
                assert not {"secrets", "configmaps"} & set(rule["resources"])
                assert "nonResourceURLs" not in rule
    assert not {verb for _, _, verb in granted(overlay("cluster-wide"))} & {"delete", "deletecollection", "escalate"}


def test_the_controller_of_the_cluster_may_do_what_its_role_says_everywhere_and_nothing_else(
    installed: KubeApiserver,
) -> None:
    elsewhere = installed.create_namespace()
    lease = "coordination.k8s.io"
    for group, resource, verb in granted(overlay("cluster-wide")):
        if group != lease:
            assert may(installed, "controller", elsewhere, verb, resource, group), (verb, resource)
    for group, resource, verb in (
        ("", "secrets", "get"),
        ("", "configmaps", "get"),
        ("", "pods", "get"),
        ("autoadvance.dev", "launches", "delete"),
        ("autoadvance.dev", "launches", "override"),
        ("autoadvance.dev", "launches", "approve"),
        ("autoadvance.dev", "launches", "create"),
        ("gateway.networking.k8s.io", "httproutes", "delete"),
        ("apps", "deployments", "patch"),
        (lease, "leases", "create"),
        (lease, "leases", "get"),
        ("rbac.authorization.k8s.io", "roles", "create"),
    ):
        assert not may(installed, "controller", elsewhere, verb, resource, group), (verb, resource)
    leases = "/apis/coordination.k8s.io/v1/namespaces/auto-advance/leases"
    body = {"apiVersion": f"{lease}/v1", "kind": "Lease", "metadata": {"name": "auto-advance"}}
    installed.call("POST", leases, body, identity="controller", dryRun="All")
    with pytest.raises(ApiError, match=r'cannot get resource \\+"leases'):
        installed.call("GET", f"{leases}/another", identity="controller")
    with pytest.raises(ApiError) as absent:
        installed.call("GET", f"{leases}/auto-advance", identity="controller")
    assert absent.value.code == 404


def test_the_controller_of_one_namespace_can_do_nothing_in_any_other(installed: KubeApiserver, tmp_path: Path) -> None:
    (tmp_path / "kustomization.yaml").write_text(
        yaml.safe_dump(
            {
                "namespace": "team",
                "resources": [os.path.relpath(DEPLOY / "overlays" / "one-namespace", tmp_path.resolve())],
            }
        )
    )
    documents = kustomize(tmp_path)
    assert {document["metadata"].get("namespace") for document in documents} == {"team"}
    assert not [document for document in documents if document["kind"].startswith("Cluster")]
    installed.apply([{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "team"}}, *documents])
    elsewhere = installed.create_namespace()
    rights = granted(documents, "team")
    assert {right for right in rights if right[0] != "coordination.k8s.io"}
    for group, resource, verb in rights:
        named = (group, verb) in {("coordination.k8s.io", "get"), ("coordination.k8s.io", "update")}
        assert named or may(installed, "team", "team", verb, resource, group), (verb, resource)
        for place in (elsewhere, "auto-advance", ""):
            assert not may(installed, "team", place, verb, resource, group), (place, verb, resource)
    with pytest.raises(ApiError, match="forbidden"):
        installed.call("GET", "/apis/autoadvance.dev/v1alpha1/launches", identity="team")


def test_people_get_what_their_role_says(installed: KubeApiserver) -> None:
    namespace = installed.create_namespace()
    roles = {"viewer": "auto-advance-view", "editor": "auto-advance-edit", "lead": "auto-advance-admin"}
    group = "rbac.authorization.k8s.io"
    for identity, role in roles.items():
        installed.apply(
            [
                {
                    "apiVersion": f"{group}/v1",
                    "kind": "RoleBinding",
                    "metadata": {"name": role},
                    "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": role},
                    "subjects": [{"apiGroup": group, "kind": "User", "name": installed.identities[identity].user}],
                }
            ],
            namespace=namespace,
        )
    verbs = ("get", "list", "watch", "create", "update", "patch", "delete", "override", "approve")
    allowed = {
        identity: [verb for verb in verbs if may(installed, identity, namespace, verb, "launches", "autoadvance.dev")]
        for identity in roles
    }
    assert allowed == {"viewer": list(verbs[:3]), "editor": list(verbs[:-1]), "lead": list(verbs)}
    for identity in roles:
        assert not may(installed, identity, namespace, "patch", "launches/status", "autoadvance.dev")


def test_the_roles_of_people_are_added_to_the_clusters_own() -> None:
    # the controller manager adds them, which does not run here: the labels are what it goes by
    for name in ("view", "edit", "admin"):
        labels = one(overlay("cluster-wide"), "ClusterRole", f"auto-advance-{name}")["metadata"]["labels"]
        assert labels[f"rbac.authorization.k8s.io/aggregate-to-{name}"] == "true"

"""docs/install.md as it is typed: its files are written, and its commands run, in its order, on a real API server."""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from typer.testing import Result

from controller.adapters.configuration_file import stop_of
from controller.core.terms import Stop
from tests.adapters.grounds import launch_document
from tests.commands.grounds import call
from tests.deploy.rendered import DEPLOY
from tests.realparts.fixtures import KubeFactory
from tests.realparts.kube import ApiError, KubeApiserver
from tests.realparts.parts import ROOT, find, find_crds

pytestmark = pytest.mark.xdist_group("install")

PAGE = ROOT / "docs" / "install.md"
NOBODY_DOES = ("rollout status",)
"""What needs the controllers of a whole cluster, which do not run here."""
FIELDS = "/apis/autoadvance.dev/v1alpha1"


@dataclass(frozen=True)
class Block:
    """A fenced block of the page; ``said`` is the text before it."""

    heading: str
    said: str
    language: str
    text: str


def blocks(heading: str) -> list[Block]:
    """The blocks under a heading of the page."""
    part = re.search(rf"^## {heading}\n(.*?)(?=^## |\Z)", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert part is not None, f"docs/install.md has no heading {heading}"
    found, before = [], 0
    for fence in re.finditer(r"^```(\w*)\n(.*?)^```$", part[1], re.MULTILINE | re.DOTALL):
        found.append(Block(heading, part[1][before : fence.start()], fence[1], fence[2]))
        before = fence.end()
    return found


@dataclass(frozen=True)
class Desk:
    """A person's folder with the repository's `deploy` in it, and a cluster."""

    folder: Path
    kube: KubeApiserver

    def type(self, text: str) -> None:
        """Run each line. Raises AssertionError with what it said."""
        environment = {
            "KUBECONFIG": str(self.kube.kubeconfig("admin")),
            "HOME": str(self.folder),
            "PATH": os.pathsep.join([str(self.folder / "bin"), os.environ["PATH"]]),
        }
        for line in text.splitlines():
            if any(words in line for words in NOBODY_DOES):
                continue
            # the namespace goes only where its controller runs, so nobody waits for it here
            typed = re.sub(r"^kubectl delete", "kubectl delete --wait=false", line)
            said = subprocess.run(
                ["bash", "-c", typed],
                cwd=self.folder,
                env=environment,
                capture_output=True,
                text=True,
                check=False,
                timeout=120,
            )
            differs = 1  # what `kubectl diff` returns where something would change
            assert said.returncode == 0 or (" diff " in line and said.returncode == differs), (line, said.stderr)

    def write(self, heading: str) -> None:
        """Write the files that the page shows there: each is named right before it."""
        for block in blocks(heading):
            paragraphs = [part for part in block.said.split("\n\n") if part.strip()]
            named = re.findall(r"`([\w-]+(?:/[\w-]+)?\.yaml)`", paragraphs[-1]) if paragraphs else []
            if block.language == "yaml" and named:
                path = self.folder / named[-1]
                path.parent.mkdir(exist_ok=True)
                path.write_text(block.text)

    def commands(self, heading: str) -> list[str]:
        """What is typed there, block by block."""
        return [block.text for block in blocks(heading) if block.language == "sh"]

    def has(self, path: str) -> bool:
        """Whether there is such an object that is not on its way out."""
        try:
            return "deletionTimestamp" not in self.kube.call("GET", path)["metadata"]
        except ApiError as error:
            if error.code != 404:
                raise
            return False


@pytest.fixture
def desk(kube_factory: KubeFactory, tmp_path: Path) -> Desk:
    kube = kube_factory(crds=False)
    for name in ("gateway-api", "prometheus-operator"):
        kube.install_crds(find_crds(name))
    (tmp_path / "deploy").symlink_to(DEPLOY)
    (tmp_path / "bin").mkdir()
    for program in ("kubectl", "helm"):
        (tmp_path / "bin" / program).symlink_to(find(program))
    return Desk(tmp_path, kube)


DEPLOYMENT = "/apis/apps/v1/namespaces/{}/deployments/auto-advance"
CONFIG = "/api/v1/namespaces/auto-advance/configmaps/auto-advance"
CRD = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/launches.autoadvance.dev"
ROLE = "/apis/rbac.authorization.k8s.io/v1/clusterroles/auto-advance"


def image(desk: Desk, namespace: str) -> str:
    pod = desk.kube.call("GET", DEPLOYMENT.format(namespace))["spec"]["template"]["spec"]
    return str(pod["containers"][0]["image"])


def test_by_kubectl_installed_upgraded_and_uninstalled(desk: Desk) -> None:
    desk.write("By kubectl")
    for text in desk.commands("By kubectl"):
        desk.type(text)
    assert image(desk, "auto-advance") == "registry.example.com/auto-advance:0.1.0"
    assert "prometheus.monitoring:9090" in desk.kube.call("GET", CONFIG)["data"]["config.yaml"]
    assert desk.has("/api/v1/namespaces/auto-advance/secrets/auto-advance")
    namespace = desk.kube.create_namespace()
    desk.kube.apply([launch_document()], namespace=namespace)
    launch = f"{FIELDS}/namespaces/{namespace}/launches/{launch_document()['metadata']['name']}"

    (shown,) = [block for block in blocks("By kubectl") if "overlays/prometheus-operator" in block.text]
    (desk.folder / "operated").mkdir()
    (desk.folder / "operated" / "kustomization.yaml").write_text(shown.text)
    desk.type("kubectl apply -k operated")
    for plural, name in (("servicemonitors", "auto-advance"), ("prometheusrules", "auto-advance-alerts")):
        path = f"/apis/monitoring.coreos.com/v1/namespaces/auto-advance/{plural}/{name}"
        assert desk.kube.call("GET", path)["metadata"]["labels"]["release"] == "kube-prometheus-stack"

    upgrade, _ = desk.commands("Upgrade")
    desk.type(upgrade)
    assert desk.has(launch)
    assert image(desk, "auto-advance") == "registry.example.com/auto-advance:0.1.0"

    ends, keeps, everything, _ = desk.commands("Uninstall")
    desk.type(keeps)
    assert desk.has(launch)
    assert desk.has(CRD)
    desk.type(ends)
    assert not desk.has(launch)
    desk.type(everything)
    assert not desk.has(CRD)
    assert not desk.has(ROLE)


def test_by_helm_installed_upgraded_and_uninstalled(desk: Desk) -> None:
    desk.write("By Helm")
    for text in desk.commands("By Helm"):
        desk.type(text)
    assert image(desk, "auto-advance") == "registry.example.com/auto-advance:0.1.0"
    assert desk.has("/apis/monitoring.coreos.com/v1/namespaces/auto-advance/prometheusrules/auto-advance-alerts")
    namespace = desk.kube.create_namespace()
    desk.kube.apply([launch_document()], namespace=namespace)
    launch = f"{FIELDS}/namespaces/{namespace}/launches/{launch_document()['metadata']['name']}"
    _, upgrade = desk.commands("Upgrade")
    desk.type(upgrade)

    uninstall, definition = desk.commands("Uninstall")[-1].splitlines()
    desk.type(uninstall)
    assert not desk.has(ROLE)
    assert not desk.has(DEPLOYMENT.format("auto-advance"))
    assert desk.has(launch)
    desk.type(definition)
    assert not desk.has(CRD)


class Stopped:
    """An installation whose launches were all stopped after it was made."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        said = self.say("--reason=incident 4711")
        assert said.exit_code == 0, said.output
        self.written = self.data()["stop.yaml"]
        assert stop_of(self.written) == Stop("incident 4711", "admin")

    def say(self, *arguments: str) -> Result:
        return call("stop", "--all", *arguments, f"--kubeconfig={self.desk.kube.kubeconfig('admin')}")

    def data(self) -> dict[str, str]:
        return dict(self.desk.kube.call("GET", CONFIG)["data"])

    def stands_after(self, line: str, prometheus: str) -> None:
        """It stands as it was after this was typed, and the configuration is the new one."""
        self.desk.type(line)
        assert self.data()["stop.yaml"] == self.written, line
        assert prometheus in self.data()["config.yaml"], line

    def can_be_lifted(self) -> None:
        before = self.data()
        assert self.say("--lift").exit_code == 0
        assert self.data() == {"config.yaml": before["config.yaml"]}


def test_a_stop_of_all_launches_stands_however_the_manifests_are_applied_again(desk: Desk) -> None:
    desk.write("By kubectl")
    for text in desk.commands("By kubectl"):
        desk.type(text)
    stopped = Stopped(desk)
    desk.type('test -z "$(kubectl diff -k mine)"')  # and no tool that compares sees a difference to undo
    file = desk.folder / "mine" / "config.yaml"
    urls = iter(f"http://prometheus-{number}.monitoring:9090" for number in range(9))
    now = "http://prometheus.monitoring:9090"
    for line in (
        "kubectl apply -k mine",
        "kubectl apply -k mine",
        "kubectl apply --server-side --force-conflicts -k mine",
        "kubectl apply --server-side --force-conflicts -k mine",
        "kubectl apply --server-side --force-conflicts --field-manager=kustomize-controller -k mine",
        "kubectl apply -k mine",
    ):
        stopped.stands_after(line, now)
        before, now = now, next(urls)
        file.write_text(file.read_text().replace(before, now))
        stopped.stands_after(line, now)
    stopped.can_be_lifted()


def test_a_stop_of_all_launches_stands_after_every_upgrade_and_rollback_by_helm(desk: Desk) -> None:
    desk.write("By Helm")
    for text in desk.commands("By Helm"):
        desk.type(text)
    stopped = Stopped(desk)
    _, upgrade = desk.commands("Upgrade")
    stopped.stands_after(upgrade, "http://prometheus.monitoring:9090")
    values = yaml.safe_load((desk.folder / "values.yaml").read_text())
    values["config"]["prometheus"]["default"]["url"] = "http://another.monitoring:9090"
    (desk.folder / "values.yaml").write_text(yaml.safe_dump(values))
    stopped.stands_after(upgrade, "http://another.monitoring:9090")
    line = upgrade.strip()
    stopped.stands_after(f"{line} --server-side=false", "http://another.monitoring:9090")
    stopped.stands_after(f"{line} --server-side=true --force-conflicts", "http://another.monitoring:9090")
    stopped.stands_after("helm rollback auto-advance 1 --namespace auto-advance", "http://prometheus.monitoring:9090")
    stopped.can_be_lifted()


def test_for_one_namespace_the_team_needs_no_right_elsewhere(desk: Desk) -> None:
    desk.write("For one namespace")
    for text in desk.commands("For one namespace"):
        desk.type(text)
    assert image(desk, "shop") == "registry.example.com/auto-advance:0.1.0"
    assert desk.has("/apis/rbac.authorization.k8s.io/v1/namespaces/shop/roles/auto-advance")
    assert not desk.has(ROLE)
    (arguments,) = (
        container["args"]
        for container in desk.kube.call("GET", DEPLOYMENT.format("shop"))["spec"]["template"]["spec"]["containers"]
    )
    assert arguments[-1] == "--namespace=$(POD_NAMESPACE)"

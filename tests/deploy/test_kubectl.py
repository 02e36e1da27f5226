"""What a person sees and types with the real kubectl: get, explain, wait, describe, and the plug-in `kubectl launch`."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from controller.core.report import presented
from controller.core.status import Hold, State, Status, TargetStatus, write_status
from tests.commands.grounds import PREFIX, people, programs
from tests.realparts.kube import KubeApiserver
from tests.realparts.parts import find
from tests.test_command_line import environment

BASE = "/apis/autoadvance.dev/v1alpha1/namespaces"


class Typed:
    """kubectl as a person uses it: a kubeconfig of two contexts, one per namespace, and the plug-in on the PATH."""

    def __init__(self, kube: KubeApiserver, namespace: str, folder: Path) -> None:
        self.kube = kube
        self.namespace = namespace
        self.other = kube.create_namespace()
        rules = [
            {"apiGroups": ["autoadvance.dev"], "resources": ["launches"], "verbs": ["get", "list", "watch", "patch"]}
        ]
        for where in (self.namespace, self.other):
            kube.grant("person", rules, namespace=where)
        document = json.loads(kube.kubeconfig("person", namespace=namespace).read_text())
        document["contexts"].append(
            {"name": "other", "context": {**document["contexts"][0]["context"], "namespace": self.other}}
        )
        self.config = folder / "config"
        self.config.write_text(json.dumps(document))
        path = f"{programs(folder / 'bin')}{os.pathsep}{os.environ['PATH']}"
        self.variables = environment(PATH=path, KUBECONFIG=str(self.config), HOME=str(folder))

    def __call__(self, *arguments: str, code: int = 0, **variables: str) -> str:
        """What it prints to either stream."""
        shown = subprocess.run(
            [str(find("kubectl")), *arguments],
            capture_output=True, text=True, check=False, timeout=120, env={**self.variables, **variables},
        )  # fmt: skip
        assert shown.returncode == code, shown.stdout + shown.stderr
        return shown.stdout + shown.stderr

    def put(self, namespace: str = "", name: str = "learner", status: Status | None = None) -> None:
        where = namespace or self.namespace
        self.kube.apply([people(name)], namespace=where)
        if status is not None:
            self.write(status, where, name)

    def write(self, status: Status, namespace: str = "", name: str = "learner") -> None:
        path = f"{BASE}/{namespace or self.namespace}/launches/{name}"
        body = {"status": write_status(presented(status, time.time()))}
        self.kube.call("PATCH", f"{path}/status", body, content_type="application/merge-patch+json")

    def annotations(self, namespace: str = "", name: str = "learner") -> Mapping[str, Any]:
        document = self.kube.call("GET", f"{BASE}/{namespace or self.namespace}/launches/{name}")
        return dict(document["metadata"].get("annotations") or {})


@pytest.fixture
def kubectl(kube: KubeApiserver, namespace: str, tmp_path: Path) -> Typed:
    return Typed(kube, namespace, tmp_path)


HELD = Status(
    state=State.HELD, reason="Breach", message="errors are 2% where 1% is the limit", phase="ramp", step=1,
    observed_generation=1, targets=(TargetStatus(name="learner", weight=50),),
    hold=Hold(reason="Breach", message="errors", since=1.7e9),
)  # fmt: skip


def test_get_shows_where_each_launch_stands(kubectl: Typed) -> None:
    kubectl.put(status=HELD)
    kubectl.put(name="second")
    head, first, second = kubectl("get", "launches").splitlines()
    assert head.split() == ["NAME", "STATE", "PHASE", "WEIGHT", "NEXT", "REASON", "AGE"]
    assert first.split()[:4] == ["learner", "Held", "ramp", "5%"]
    assert second.split()[0] == "second"
    wide = kubectl("get", "la", "-o", "wide")
    assert "REVISION" in wide
    assert "errors are 2% where 1% is the limit" in wide
    config = str(kubectl.kube.kubeconfig("admin", namespace=kubectl.namespace))
    assert "launch.autoadvance.dev/learner" in kubectl("get", "all", KUBECONFIG=config)  # the category


def test_wait_ends_when_the_launch_has_succeeded(kubectl: Typed) -> None:
    kubectl.put(status=HELD)
    said = kubectl("wait", "--for=condition=Succeeded", "launch/learner", "--timeout=1s", code=1)
    assert "timed out" in said
    assert "condition met" in kubectl("wait", "--for=condition=Stalled", "launch/learner", "--timeout=5s")
    command = [str(find("kubectl")), "wait", "--for=condition=Succeeded", "launch/learner", "--timeout=60s"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=kubectl.variables) as waiting:
        kubectl.write(Status(state=State.SUCCEEDED, reason="LaunchPassed", message="done", observed_generation=1))
        said, _ = waiting.communicate(timeout=60)
    assert (waiting.returncode, said) == (0, "launch.autoadvance.dev/learner condition met\n")


@pytest.mark.parametrize(
    ("state", "true"),
    [
        (State.PROGRESSING, {"Reconciling"}),
        (State.AWAITING_APPROVAL, {"Reconciling"}),
        (State.ROLLING_BACK, {"Reconciling"}),
        (State.HELD, {"Stalled"}),
        (State.INVALID, {"Stalled"}),
        (State.ROLLED_BACK, {"Stalled"}),
        (State.SUCCEEDED, {"Ready", "Succeeded"}),
    ],
)
def test_the_conditions_are_those_of_kstatus(kubectl: Typed, state: State, true: set[str]) -> None:
    """Current: Ready and neither of the others; in progress: Reconciling; failed: Stalled; of this very generation."""
    kubectl.put(status=Status(state=state, reason="Because", message="so", observed_generation=1))
    document = yaml.safe_load(kubectl("get", "launch", "learner", "-o", "yaml"))
    conditions = {one["type"]: one for one in document["status"]["conditions"]}
    assert set(conditions) == {"Ready", "Reconciling", "Stalled", "Succeeded"}
    assert {name for name, one in conditions.items() if one["status"] == "True"} == true
    assert document["status"]["observedGeneration"] == document["metadata"]["generation"]
    for one in conditions.values():
        assert one["observedGeneration"] == document["metadata"]["generation"]
        assert one["reason"].isalnum()
        assert one["lastTransitionTime"].endswith("Z")


def test_describe_says_where_it_is_and_why(kubectl: Typed) -> None:
    kubectl.put(status=HELD)
    said = kubectl("describe", "launch", "learner")
    for words in ("State:", "Held", "errors are 2% where 1% is the limit", "Next:", "retry, when the cause is gone"):
        assert words in said


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("launch", ("moves a canary's share of traffic step by step",)),
        ("launch.spec", ("The traffic splits that this launch may move", "-required-")),
        ("launch.spec.phases.gate", ("{extend: 1h, times: 2, then: hold}", "`hold` (default)")),
        ("launch.spec.phases.steps", ('The canary\'s share in percent: 10, or "0.1%".',)),
        ("launch.status", ("For `kubectl wait`", "Why it is there, in a sentence.")),
        ("launch.status.overrides", ("`accepted`, `refused` or `expired`.",)),
    ],
)
def test_explain_has_a_sentence_for_every_field(kubectl: Typed, path: str, words: tuple[str, ...]) -> None:
    said = " ".join(kubectl("explain", path).split())
    assert "<no description>" not in said
    for each in words:
        assert each in said


def test_explain_shows_the_whole_plan(kubectl: Typed) -> None:
    said = kubectl("explain", "launch.spec", "--recursive")
    for name in ("revision", "targets", "onSuccess", "guardrails", "comparedTo", "differenceBelow", "checkpoints"):
        assert name in said


def test_a_fault_of_a_plan_is_told_with_what_to_write_when_it_is_applied(kubectl: Typed, tmp_path: Path) -> None:
    document = people()
    document["spec"]["phases"][2]["steps"] = [{"weight": 50, "for": "10"}, {"weight": 5}]
    (tmp_path / "launch.yaml").write_text(yaml.safe_dump(document))
    said = kubectl("apply", "-f", str(tmp_path / "launch.yaml"), "--as=admin", "--as-group=system:masters", code=1,
                   KUBECONFIG=str(kubectl.kube.kubeconfig("admin", namespace=kubectl.namespace)))  # fmt: skip
    assert "write a duration above 0, a number with its unit, such as 30s" in said
    assert "order the steps by weight" in said
    document["spec"]["phases"][2]["steps"] = []
    document["spec"]["phaess"] = []
    (tmp_path / "launch.yaml").write_text(yaml.safe_dump(document))
    config = str(kubectl.kube.kubeconfig("admin", namespace=kubectl.namespace))
    assert 'unknown field "spec.phaess"' in kubectl(
        "apply", "-f", str(tmp_path / "launch.yaml"), code=1, KUBECONFIG=config
    )


# --- kubectl launch


def test_the_plug_in_is_found_and_uses_the_namespace_of_the_context(kubectl: Typed) -> None:
    assert "kubectl-launch" in kubectl("plugin", "list")
    kubectl.put(status=HELD)
    assert "errors are 2% where 1% is the limit" in kubectl("launch", "status", "learner")
    said = kubectl("launch", "hold", "learner", "--reason=a look", "--wait=0s")
    assert f"launch {kubectl.namespace}/learner: hold: written" in said
    written = json.loads(kubectl.annotations()[f"{PREFIX}hold"])
    assert (written["reason"], written["by"]) == ("a look", "person")


@pytest.mark.parametrize("way", ["-n", "--namespace", "--context", "NAMESPACE/NAME"])
def test_another_namespace_is_named_as_with_kubectl(kubectl: Typed, way: str) -> None:
    kubectl.put(kubectl.other)
    given = {
        "-n": ("learner", "-n", kubectl.other),
        "--namespace": ("learner", f"--namespace={kubectl.other}"),
        "--context": ("learner", "--context=other"),
        "NAMESPACE/NAME": (f"{kubectl.other}/learner",),
    }[way]
    kubectl("launch", "hold", *given, "--wait=0s")
    assert f"{PREFIX}hold" in kubectl.annotations(kubectl.other)


def test_another_kubeconfig_is_named_as_with_kubectl(kubectl: Typed, tmp_path: Path) -> None:
    kubectl.put()
    empty = tmp_path / "empty"
    empty.write_text("{}")
    said = kubectl("launch", "status", "learner", f"--kubeconfig={kubectl.config}", KUBECONFIG=str(empty))
    assert "learner" in said
    kubectl("launch", "status", "learner", KUBECONFIG=f"{empty}{os.pathsep}{kubectl.config}")
    assert "empty" in kubectl("launch", "status", "learner", code=3, KUBECONFIG=str(empty))


def test_what_the_cluster_does_not_allow_is_told_in_its_words(kubectl: Typed) -> None:
    said = kubectl("launch", "status", "learner", "-n", "default", code=3)
    assert 'User "person" cannot get resource "launches"' in said


def completed(kubectl: Typed, *typed: str) -> list[str]:
    """What kubectl's own completion is told; its last lines are for the shell."""
    lines = kubectl("__complete", "launch", *typed).splitlines()
    others = (":", "[Debug]", "Completion ended")
    return [line.partition("\t")[0] for line in lines if not line.startswith(others)]


def test_kubectl_completes_the_plug_in_from_the_cluster(kubectl: Typed) -> None:
    kubectl.put()
    kubectl.put(name="second")
    kubectl.put(kubectl.other, name="third")
    assert completed(kubectl, "hold", "") == ["learner", "second"]
    assert completed(kubectl, "hold", "--context", "other", "") == ["third"]
    assert completed(kubectl, "hold", "-n", kubectl.other, "t") == ["third"]
    assert completed(kubectl, "hold", "--context", "") == ["person", "other"]
    assert completed(kubectl, "hold", "-n", "default", "") == [], "no rights there are no words"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_plug_in_prints_a_script_for_shells(kubectl: Typed, shell: str) -> None:
    said = kubectl("launch", "completion", shell)
    assert f"kubectl launch completion {shell}" in said
    assert "kubectl_complete-launch: that has to be on the PATH" in said

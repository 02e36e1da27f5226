"""``stop --all``: what it writes, what it refuses, and that a daemon on a folder hears it; at start, a broken file."""

from __future__ import annotations

import contextlib
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from controller.adapters.configuration_file import stop_at, stop_of
from controller.adapters.desk_kubernetes import ApiDesk
from controller.core.terms import Stop
from controller.errors import ConflictError
from tests.commands.grounds import FolderGround, call, people, route
from tests.realparts.kube import KubeApiserver
from tests.realparts.mounted import Mounted
from tests.realparts.server import wait_until
from tests.test_command_line import call as process
from tests.test_command_line import running

TEXT = "# of the operators\nlimits: {launches: 9} # enough\n"


def message(ground: FolderGround, name: str) -> str:
    """What the launch says now; empty before it was seen."""
    shown = call("status", name, "-o", "json", *ground.flags)
    return str(json.loads(shown.output)["status"].get("message", "")) if shown.exit_code == 0 else ""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "config.yaml"
    path.write_text(TEXT)
    return path


def test_a_stop_is_written_beside_the_file_and_taken_away(file: Path) -> None:
    stop = file.with_name("stop.yaml")
    said = call("stop", "--all", "--reason=incident 7", "--by=ann", "--until=2049-01-01T00:00:00Z", f"--config={file}")
    assert said.exit_code == 0, said.output
    assert said.output.startswith(f"{stop}: the stop is written\n")
    assert stop_at(stop) == Stop("incident 7", "ann", 2493072000.0)
    assert f"go on with: auto-advance stop --all --lift --config {file}" in said.output
    again = call("stop", "--all", "--reason=incident 7", "--by=ann", "--until=2049-01-01T00:00:00Z", f"--config={file}")
    assert again.output.startswith(f"{stop}: the stop is there already\n")
    assert call("stop", "--all", "--lift", f"--config={file}").exit_code == 0
    assert not stop.exists()
    assert file.read_text() == TEXT
    again = call("stop", "--all", "--lift", f"--config={file}")
    assert (again.exit_code, again.output.splitlines()[0]) == (0, f"{stop}: there is no stop; nothing was written")


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (("--reason=x",), 2, "stop: write --all: it is of all launches; of one it is auto-advance hold LAUNCH"),
        (("--all",), 2, "stop: --reason: is missing; write why, since every launch shows it"),
        (("--all", "--reason=a\nb"), 2, "stop: --reason: write 512 characters at most, on one line"),
        (("--all", "--reason=x", "--by=a\nb"), 2, "stop: --by: write 253 characters at most, on one line"),
        (("--all", "--reason=x", "--until=2001-01-01T00:00:00Z"), 2, "is over; write an instant to come"),
        (("--all", "--reason=x", "--until=soon"), 2, "or a duration from now such as 2h"),
        (("--all", "--lift", "--reason=x"), 2, "stop: --reason: says nothing beside --lift; write one of the two"),
        (("--all", "--reason=x", "--config=/no/such"), 2, "stop: --config: /no/such is not a file"),
    ],
)
def test_what_cannot_be_used_writes_nothing_and_says_why(arguments: tuple[str, ...], code: int, told: str) -> None:
    said = call("stop", *arguments)
    assert said.exit_code == code
    assert told in said.output


def test_a_configuration_with_faults_is_no_reason_not_to_stop(file: Path) -> None:
    file.write_text("limits: {launches: none}\n")
    assert call("stop", "--all", "--reason=x", "--by=ann", f"--config={file}").exit_code == 0
    assert stop_at(file.with_name("stop.yaml")) == Stop("x", "ann")


def test_a_configuration_that_is_named_as_the_stop_is_is_not_overwritten(file: Path) -> None:
    wrong = file.rename(file.with_name("stop.yaml"))
    said = call("stop", "--all", "--reason=x", f"--config={wrong}")
    assert said.exit_code == 2
    assert "stop.yaml is the name of the stop beside the configuration; name the file otherwise" in said.output
    assert wrong.read_text() == TEXT


def test_a_mounted_file_is_edited_where_it_comes_from(tmp_path: Path) -> None:
    mounted = Mounted(tmp_path, TEXT)
    said = call("stop", "--all", "--reason=x", f"--config={mounted.path}")
    assert said.exit_code == 3
    assert "is mounted from a ConfigMap, which the kubelet writes; leave --config out" in said.output


def test_a_configmap_is_edited_by_compare_and_swap_and_keeps_what_else_it_holds(
    kube: KubeApiserver, namespace: str
) -> None:
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    about = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "auto-advance", "labels": {"a": "b"}}}
    kube.call("POST", path, {**about, "data": {"config.yaml": TEXT, "other": "kept"}})
    flags = (f"--namespace={namespace}", f"--kubeconfig={kube.kubeconfig('admin')}")
    said = call("stop", "--all", "--reason=incident 7", *flags)
    assert said.exit_code == 0, said.output
    assert "which takes about a minute" in said.output
    stored = kube.call("GET", f"{path}/auto-advance")
    assert stored["data"]["other"] == "kept"
    assert stored["metadata"]["labels"]["a"] == "b"
    assert stored["data"]["config.yaml"] == TEXT
    assert stop_of(stored["data"]["stop.yaml"]) == Stop("incident 7", "admin"), "who it is, the API server says"
    (writer,) = [
        one for one in stored["metadata"]["managedFields"] if "f:stop.yaml" in one["fieldsV1"].get("f:data", {})
    ]
    assert (writer["manager"], writer["operation"]) == ("auto-advance", "Update"), "a tool may undo what kubectl wrote"
    assert "the stop is there already" in call("stop", "--all", "--reason=incident 7", *flags).output
    assert call("stop", "--all", "--lift", *flags).exit_code == 0
    assert kube.call("GET", f"{path}/auto-advance")["data"] == {"config.yaml": TEXT, "other": "kept"}
    assert "there is no stop; nothing was written" in call("stop", "--all", "--lift", *flags).output
    gone = call("stop", "--all", "--reason=x", "--configmap=none", *flags)
    assert gone.exit_code == 3
    assert f"ConfigMap {namespace}/none" in gone.output


def test_a_configmap_without_data_gets_it(kube: KubeApiserver, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    kube.call("POST", path, {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "auto-advance"}})
    flags = (f"--namespace={namespace}", f"--kubeconfig={kube.kubeconfig('admin')}")
    assert call("stop", "--all", "--reason=incident 7", *flags).exit_code == 0
    data = kube.call("GET", f"{path}/auto-advance")["data"]
    assert stop_of(data["stop.yaml"]) == Stop("incident 7", "admin")


def test_a_broken_stop_in_a_configmap_can_be_replaced_and_lifted(kube: KubeApiserver, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    about = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "auto-advance"}}
    kube.call("POST", path, {**about, "binaryData": {"stop.yaml": "/w=="}})
    flags = (f"--namespace={namespace}", f"--kubeconfig={kube.kubeconfig('admin')}")
    assert call("stop", "--all", "--reason=incident 7", *flags).exit_code == 0
    stored = kube.call("GET", f"{path}/auto-advance")
    assert stop_of(stored["data"]["stop.yaml"]) == Stop("incident 7", "admin")
    assert not stored.get("binaryData")
    broken = [{"op": "replace", "path": "/data/stop.yaml", "value": "reason: ["}]
    kube.call("PATCH", f"{path}/auto-advance", broken, content_type="application/json-patch+json")
    assert call("stop", "--all", "--lift", *flags).exit_code == 0
    assert "stop.yaml" not in kube.call("GET", f"{path}/auto-advance").get("data", {})


def test_of_many_who_write_a_stop_at_the_same_time_the_last_one_stands_and_nothing_else_is_lost(
    kube: KubeApiserver, namespace: str
) -> None:
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    about = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "auto-advance"}}
    kube.call("POST", path, {**about, "data": {"config.yaml": TEXT}})
    kubeconfig, begin = str(kube.kubeconfig("admin")), threading.Barrier(4)

    def write(number: int) -> Stop | None:
        desk, stop = ApiDesk(kubeconfig), Stop(f"incident {number}")
        begin.wait()
        with contextlib.closing(desk), contextlib.suppress(ConflictError):
            return stop if desk.edit_stop(namespace, "auto-advance", stop) else None
        return None

    with ThreadPoolExecutor(4) as pool:
        written = set(pool.map(write, range(4)))
    data = kube.call("GET", f"{path}/auto-advance")["data"]
    assert data["config.yaml"] == TEXT
    assert stop_of(data["stop.yaml"]) in written - {None}


def test_a_daemon_on_a_folder_hears_a_stop_of_all_and_its_end(tmp_path: Path, file: Path) -> None:
    ground = FolderGround(tmp_path / "cluster")
    ground.folder.mkdir()
    ground.put(route())
    ground.put(people())

    # Whoever is held already, says within half a minute that it is for another reason.
    def status() -> str:
        return message(ground, "learner")

    with running(*ground.daemon, f"--config={file}", "--prometheus=http://127.0.0.1:9", "--tick=250ms") as daemon:
        daemon.wait_ready()
        assert call("stop", "--all", "--reason=incident 7", "--by=ann", f"--config={file}").exit_code == 0
        wait_until(lambda: "all raises are stopped by ann: incident 7" in status(), deadline_s=90, what="the stop")
        explained = call("explain", "learner", *ground.flags).output
        assert "auto-advance stop --all --lift" in explained
        assert call("stop", "--all", "--lift", f"--config={file}").exit_code == 0
        wait_until(lambda: "all raises" not in status(), deadline_s=90, what="the end of the stop")


def test_launches_beyond_the_limit_are_invalid_and_those_that_have_begun_go_on(tmp_path: Path, file: Path) -> None:
    ground = FolderGround(tmp_path / "cluster")
    ground.folder.mkdir()
    for name in ("first", "second"):
        ground.put(route(name))
    ground.put(people("first"))

    def reason(name: str) -> str:
        return message(ground, name)

    with running(*ground.daemon, f"--config={file}", "--prometheus=http://127.0.0.1:9", "--tick=250ms") as daemon:
        daemon.wait_ready()
        wait_until(lambda: "checklist" in reason("first"), deadline_s=90, what="the first to begin")
        fresh = file.with_name("fresh")
        fresh.write_text("limits: {launches: 1}\n")
        fresh.replace(file)
        daemon.line("configuration in force")
        ground.put(people("second"))
        wait_until(lambda: "one launch too many: 1 are run here" in reason("second"), deadline_s=90, what="the limit")
        assert "checklist" in reason("first")
        file.write_text("limits: {launches: 2}\n")
        wait_until(lambda: "checklist" in reason("second"), deadline_s=90, what="the second to begin")


def test_a_broken_file_at_the_start_is_a_usage_error_with_every_fault(tmp_path: Path, file: Path) -> None:
    file.write_text("limits: {launches: none}\nconfine: 5\nprometheus: {default: {url: http://a}}\n")
    said = process("run", f"--folder={tmp_path}", f"--config={file}", "--prometheus=http://b")
    assert said.returncode == 2
    assert said.stderr.splitlines() == [
        f"auto-advance run: --config {file}: limits.launches: is 'none'; write a whole number",
        f"auto-advance run: --config {file}: confine: is 5; write true or false",
    ]
    file.write_text("prometheus: {default: {url: http://a}}\n")
    said = process("run", f"--folder={tmp_path}", f"--config={file}", "--prometheus=http://b")
    assert said.returncode == 2
    assert "prometheus.default: --prometheus (or its variable) says it too; remove one of the two" in said.stderr

"""The command line as a process of its own: help, faults, exit codes, and signals while it runs on a folder."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from queue import Queue
from typing import Any

import pytest
import requests
import trustme
import yaml

from controller.loop import LONGEST_GATHER
from controller.settings import RUN_SETTINGS
from tests.core.builders import document
from tests.realparts.server import wait_until

ROOT = Path(__file__).resolve().parents[1]
DEADLINE_S = 60.0


def environment(**changes: str) -> dict[str, str]:
    """The environment without settings, kubeconfig and a pod's service account, wide enough for help on one line."""
    ours = ("AUTO_ADVANCE_", "KUBE")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    return {**kept, "COLUMNS": "300", "NO_COLOR": "1", "TERM": "dumb", **changes}


def call(
    *arguments: str | Path, text: str = "", variables: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run to the end."""
    return subprocess.run(
        [sys.executable, "-m", "controller", *map(str, arguments)],
        input=text,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        cwd=ROOT,
        env=environment(**(variables or {})),
    )


def test_the_help_explains_every_flag_its_variable_and_its_default() -> None:
    shown = call("run", "--help")
    assert (shown.returncode, shown.stderr) == (0, "")
    # the name of a flag stands in the row of its explanation
    rows = [re.sub(r"\s+", " ", line) for line in shown.stdout.splitlines()]
    for setting in RUN_SETTINGS:
        (row,) = [row for row in rows if f"│ --{setting.name} " in row]
        assert setting.help in row, setting.name
        assert f"[{setting.variable}]" in row, setting.name
        assert not setting.default or f"[default: ({setting.default})]" in row, setting.name


COMMANDS = (
    "run",
    "validate",
    "check",
    "backtest",
    "simulate",
    "status",
    "explain",
    "timeline",
    "hold",
    "resume",
    "rollback",
    "approve",
    "done",
    "advance",
    "reschedule",
    "retry",
    "ack",
    "stop",
    "redecide",
    "completion",
    "version",
)


def test_the_help_names_the_commands() -> None:
    shown = call("--help")
    assert shown.returncode == 0
    assert [name for name in COMMANDS if not re.search(rf"\b{name}\b", shown.stdout)] == []


def test_the_version_is_the_package_s() -> None:
    shown = call("version")
    assert (shown.returncode, shown.stdout, shown.stderr) == (0, f"{metadata.version('auto-advance')}\n", "")


def test_every_fault_of_the_settings_is_one_line_and_the_exit_code_is_2(tmp_path: Path) -> None:
    shown = call(
        "run",
        f"--folder={tmp_path / 'none'}",
        "--prometheus=prometheus",
        "--prometheus-header=hush",
        variables={"AUTO_ADVANCE_TICK": "fast"},
    )
    assert (shown.returncode, shown.stdout) == (2, "")
    lines = shown.stderr.splitlines()
    assert all(line.startswith("auto-advance run: --") for line in lines)
    assert [line.split()[2] for line in lines] == ["--folder", "--tick", "--prometheus", "--prometheus-header"]
    assert "--tick (AUTO_ADVANCE_TICK): 'fast' is not a duration" in lines[1]
    assert "hush" not in shown.stderr


def test_a_flag_that_does_not_exist_is_a_usage_error() -> None:
    shown = call("run", "--ticks=1s")
    assert shown.returncode == 2
    assert "--ticks" in shown.stderr


def test_a_kubeconfig_that_cannot_be_used_is_said_in_one_line(tmp_path: Path) -> None:
    broken = tmp_path / "kubeconfig"
    broken.write_text("clusters: {")
    shown = call("run", f"--kubeconfig={broken}", "--listen=127.0.0.1:0")
    assert shown.returncode == 2
    (line,) = shown.stderr.splitlines()
    assert line.startswith("auto-advance run: ")
    assert str(broken) in line


def test_without_any_cluster_it_says_what_to_give(tmp_path: Path) -> None:
    shown = call("run", "--listen=127.0.0.1:0", variables={"HOME": str(tmp_path)})
    assert shown.returncode == 2
    (line,) = shown.stderr.splitlines()
    assert line.startswith("auto-advance run: ")
    assert "kubeconfig" in line


def test_an_address_in_use_is_said_in_one_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        shown = call("run", f"--folder={tmp_path}", f"--listen={address}")
    assert shown.returncode == 2
    assert shown.stderr.splitlines() == [f"auto-advance run: --listen {address}: Address already in use"]


def test_a_certificate_that_cannot_be_used_is_said_in_one_line(tmp_path: Path) -> None:
    broken = tmp_path / "cert.pem"
    broken.write_text("none")
    shown = call(
        "run", f"--folder={tmp_path}", f"--listen-cert-file={broken}", f"--listen-key-file={broken}", "--listen=[::1]:0"
    )
    assert shown.returncode == 2
    (line,) = shown.stderr.splitlines()
    assert line.startswith("auto-advance run: --listen-cert-file, --listen-key-file or --webhook-client-ca-file cannot")


class Running:
    """`run` on a folder, its log read while it is written."""

    def __init__(self, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "controller", "run", "--listen=127.0.0.1:0", "--log-format=json", *arguments],
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env=environment(),
        )
        self._lines: Queue[str] = Queue()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        self.port = int(self.line("started")["listen"].rpartition(":")[2])

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self._lines.put(line)

    def line(self, event: str) -> dict[str, Any]:
        """The next line of this event."""
        while True:
            said: dict[str, Any] = json.loads(self._lines.get(timeout=DEADLINE_S))
            if said["event"] == event:
                return said

    def get(self, path: str) -> requests.Response:
        return requests.get(f"http://127.0.0.1:{self.port}{path}", timeout=DEADLINE_S)

    def wait_ready(self) -> None:
        wait_until(lambda: self.get("/readyz").ok, deadline_s=DEADLINE_S, what="the daemon to be ready")

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """The exit code."""
        self.process.send_signal(number)
        return self.process.wait(timeout=DEADLINE_S)

    def close(self) -> None:
        """Leave no process behind."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(DEADLINE_S)
        self._reader.join(DEADLINE_S)
        assert self.process.stderr is not None
        self.process.stderr.close()


@contextlib.contextmanager
def running(*arguments: str) -> Iterator[Running]:
    daemon = Running(*arguments)
    try:
        yield daemon
    finally:
        daemon.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_with_0_and_a_line(tmp_path: Path, number: signal.Signals) -> None:
    with running(f"--folder={tmp_path}", "--tick=250ms") as daemon:
        daemon.wait_ready()
        assert daemon.get("/livez").text == "ok\n"
        assert "autoadvance_decisions_total" in daemon.get("/metrics").text
        assert daemon.stop(number) == 0
        assert daemon.line("stopped")["clean"] is True


def test_all_is_served_over_tls_and_only_who_shows_a_certificate_may_notify(tmp_path: Path) -> None:
    authority = trustme.CA()
    own, client = authority.issue_cert("127.0.0.1"), authority.issue_cert("alertmanager.example")
    files = {name: str(tmp_path / f"{name}.pem") for name in ("ca", "cert", "key", "client")}
    authority.cert_pem.write_to_path(files["ca"])
    own.cert_chain_pems[0].write_to_path(files["cert"])
    own.private_key_pem.write_to_path(files["key"])
    client.private_key_and_cert_chain_pem.write_to_path(files["client"])
    manifests(tmp_path)
    with running(
        f"--folder={tmp_path}",
        f"--listen-cert-file={files['cert']}",
        f"--listen-key-file={files['key']}",
        f"--webhook-client-ca-file={files['ca']}",
    ) as daemon:
        url = f"https://127.0.0.1:{daemon.port}"
        assert requests.get(f"{url}/livez", timeout=DEADLINE_S, verify=files["ca"]).text == "ok\n"
        for cert, code in ((None, 403), (files["client"], 200)):
            answer = requests.post(
                f"{url}/webhook/alertmanager", json={"alerts": []}, timeout=DEADLINE_S, verify=files["ca"], cert=cert
            )
            assert answer.status_code == code
        assert daemon.stop() == 0


def manifests(folder: Path) -> None:
    """A launch that begins at once, and its route."""
    backends = [{"name": "main-stable", "port": 80, "weight": 100}, {"name": "main-canary", "port": 80, "weight": 0}]
    route = {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": {"name": "main", "namespace": "prod"},
        "spec": {"rules": [{"backendRefs": backends}]},
    }
    (folder / "route.yaml").write_text(yaml.safe_dump(route))
    (folder / "launch.yaml").write_text(yaml.safe_dump(document()))


def test_a_signal_ends_it_before_a_question_that_hangs_is_given_up(tmp_path: Path) -> None:
    manifests(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(DEADLINE_S)
        prometheus = f"http://127.0.0.1:{silent.getsockname()[1]}"
        arguments = (f"--folder={tmp_path}", f"--prometheus={prometheus}", "--prometheus-timeout=60s", "--tick=10s")
        with running(*arguments) as daemon:
            asked, _ = silent.accept()
            with asked:
                asked.settimeout(DEADLINE_S)
                assert asked.recv(1), "it has begun to ask, and is never answered"
                since = time.monotonic()
                assert daemon.stop() == 0
            assert time.monotonic() - since < 0.9 * LONGEST_GATHER, "it waits for the answer until it gives it up"


def written(folder: Path, text: str) -> Path:
    path = folder / "launch.yaml"
    path.write_text(text)
    return path


BAD: Sequence[str] = ("spec.phases[0].steps[0].weight", "spec.phases[0].guardrails[0].metric")


def bad_document() -> str:
    """A Launch with two faults."""
    bad = document()
    bad["spec"]["phases"][0]["steps"][0]["weight"] = 400
    bad["spec"]["phases"][0]["guardrails"][0]["metric"] = "errrors"
    return yaml.safe_dump(bad)


def test_a_good_plan_is_summed_up(tmp_path: Path) -> None:
    path = written(tmp_path, yaml.safe_dump(document()))
    shown = call("validate", path)
    assert (shown.returncode, shown.stderr) == (0, "")
    assert shown.stdout.startswith(f"{path}: launch shop: good (1 phase, 2 steps up to 30%, at least 1m of steps)\n")


def test_every_fault_of_a_plan_is_a_line_with_its_path(tmp_path: Path) -> None:
    path = written(tmp_path, bad_document())
    shown = call("validate", path)
    assert (shown.returncode, shown.stdout) == (1, "")
    lines = shown.stderr.splitlines()
    assert all(re.match(rf"{re.escape(str(path))}:\d+:\d+: ", line) for line in lines)
    assert [place for place in BAD if not any(place in line for line in lines)] == []


def test_one_bad_file_among_good_ones_is_enough(tmp_path: Path) -> None:
    bad, good = tmp_path / "bad.yaml", tmp_path / "good.yaml"
    bad.write_text(bad_document())
    good.write_text("kind: Service\n---\n" + yaml.safe_dump(document()))
    shown = call("validate", bad, good)
    assert shown.returncode == 1
    assert shown.stdout.startswith(f"{good}: launch shop: good")


def test_an_error_of_yaml_names_its_line_and_column(tmp_path: Path) -> None:
    path = written(tmp_path, "kind: Launch\nspec: [1,\n")
    shown = call("validate", path)
    assert (shown.returncode, shown.stdout) == (1, "")
    (line,) = shown.stderr.splitlines()
    assert re.match(rf"{re.escape(str(path))}:\d+:\d+: ", line)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    binary = tmp_path / "binary.yaml"
    binary.write_bytes(b"\xff\xfe\x00")
    shown = call("validate", tmp_path / "none.yaml", binary)
    assert (shown.returncode, shown.stdout) == (2, "")
    missing, undecodable = shown.stderr.splitlines()
    assert missing.startswith(f"{tmp_path / 'none.yaml'}: ")
    assert undecodable.startswith(f"{binary}: ")


def test_files_without_a_launch_are_no_success(tmp_path: Path) -> None:
    path = written(tmp_path, "kind: Service\nmetadata: {name: shop}\n")
    shown = call("validate", path)
    assert (shown.returncode, shown.stdout) == (1, "")
    assert shown.stderr.splitlines() == [f"{path}:1: note: Service shop is no Launch; skipped", f"no Launch in {path}"]


def test_a_plan_may_come_through_a_pipe() -> None:
    shown = call("validate", "-", text=yaml.safe_dump(document()))
    assert (shown.returncode, shown.stderr) == (0, "")
    assert shown.stdout.startswith("-: launch shop: good")
    assert call("validate", "-", text=bad_document()).returncode == 1


def test_validating_nothing_is_a_usage_error() -> None:
    assert call("validate").returncode == 2

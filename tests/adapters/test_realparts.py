"""The servers that the other tests stand on do start, can be hurt, and come back with their data."""

import http.server
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Literal

import pytest
import requests

from tests.realparts import parts
from tests.realparts.alertmanager import Alertmanager
from tests.realparts.envoy import Envoy
from tests.realparts.fixtures import AlertmanagerFactory, KubeFactory, PrometheusFactory
from tests.realparts.kube import ApiError, KubeApiserver
from tests.realparts.parts import PARTS, ROOT, PartMissing, find
from tests.realparts.prometheus import Prometheus, config, file_sd, promtool, static, write_targets
from tests.realparts.server import StartFailed, free_port, wait_until

ROUTE = {
    "apiVersion": "gateway.networking.k8s.io/v1",
    "kind": "HTTPRoute",
    "metadata": {"name": "learner"},
    "spec": {
        "rules": [
            {
                "backendRefs": [
                    {"name": "learner", "port": 80, "weight": 100},
                    {"name": "learner-canary", "port": 80, "weight": 0},
                ]
            }
        ]
    },
}
ROUTES = "/apis/gateway.networking.k8s.io/v1/namespaces/{}/httproutes"


def test_routes_are_applied_with_strict_validation(kube: KubeApiserver, namespace: str) -> None:
    kube.apply([ROUTE], namespace=namespace)
    (route,) = kube.call("GET", ROUTES.format(namespace))["items"]
    assert [ref["weight"] for ref in route["spec"]["rules"][0]["backendRefs"]] == [100, 0]
    with pytest.raises(ApiError, match="wait"):
        kube.apply(
            [{**ROUTE, "spec": {"rules": [{"backendRefs": [{"name": "x", "port": 1, "wait": 3}]}]}}],
            namespace=namespace,
        )


def test_an_identity_may_do_what_it_was_granted_and_nothing_else(kube: KubeApiserver, namespace: str) -> None:
    path = ROUTES.format(namespace)
    with pytest.raises(ApiError) as refused:
        kube.call("GET", path, identity="person")
    assert refused.value.code == 403
    rule = {"apiGroups": ["gateway.networking.k8s.io"], "resources": ["httproutes"], "verbs": ["get", "list"]}
    kube.grant("person", [rule], namespace=namespace)

    def may_list() -> bool:
        try:
            kube.call("GET", path, identity="person")
        except ApiError:
            return False
        return True

    # rights reach the authorizer through a watch, a moment later
    wait_until(may_list, deadline_s=60, what="the grant to hold")
    with pytest.raises(ApiError) as refused:
        kube.apply([ROUTE], namespace=namespace, identity="person")
    assert refused.value.code == 403


def test_kubectl_and_the_official_client_get_in_by_kubeconfig(kube: KubeApiserver, namespace: str) -> None:
    from kubernetes.client import CoreV1Api

    with kube.client("admin") as client:
        assert namespace in {item.metadata.name for item in CoreV1Api(client).list_namespace().items if item.metadata}
    command = [
        str(find("kubectl")),
        f"--kubeconfig={kube.kubeconfig('admin')}",
        "get",
        "namespace",
        namespace,
        "-o",
        "name",
    ]
    said = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    assert said.stdout.strip() == f"namespace/{namespace}"


def test_an_api_server_keeps_its_data_over_kill_9_and_goes_silent_when_paused(kube_factory: KubeFactory) -> None:
    kube = kube_factory(crds=False)
    name = kube.create_namespace()
    kube.kill9()
    with pytest.raises(requests.ConnectionError):
        kube.call("GET", "/api/v1/namespaces")
    kube.start()
    assert kube.call("GET", f"/api/v1/namespaces/{name}")["metadata"]["name"] == name
    with kube.paused(), pytest.raises(requests.Timeout):
        requests.get(f"{kube.url}/livez", verify=str(kube.ca_file), timeout=0.5)
    wait_until(kube.is_ready, deadline_s=60, what="the API server to go on")


@pytest.mark.parametrize("version", ["2", "3"])
def test_prometheus_of_both_versions_scrapes_reloads_and_keeps_its_data(
    version: Literal["2", "3"], prometheus_factory: PrometheusFactory, tmp_path: Path
) -> None:
    targets = tmp_path / "targets.json"
    write_targets(targets, [])
    prometheus = prometheus_factory(version=version, config=config([file_sd("itself", targets)]))
    (build,) = prometheus.query(f"vector({version})")
    assert build["value"][1] == version
    write_targets(targets, [{"targets": [prometheus.address], "labels": {"track": "canary"}}])
    (up,) = prometheus.wait_for('up{track="canary"} == 1')
    prometheus.restart()
    assert prometheus.query('up{track="canary"}', time=up["value"][0])
    prometheus.reconfigure(config([static("other", [prometheus.address])]))
    prometheus.wait_for('up{job="other"}')
    with pytest.raises(requests.HTTPError, match="unknown_field"):
        prometheus.reconfigure({"unknown_field": 1})


def test_prometheus_serves_below_a_path(prometheus_factory: PrometheusFactory) -> None:
    prometheus = prometheus_factory(prefix="/metrics/team-a")
    assert prometheus.url.endswith("/metrics/team-a")
    assert prometheus.value("vector(7)") == 7
    assert prometheus.value("absent_metric") is None


def test_promtool_checks_rules(tmp_path: Path) -> None:
    rules = tmp_path / "rules.yaml"
    rules.write_text("groups: [{name: a, rules: [{record: 'a:b', expr: 'sum(up)'}]}]")
    said = subprocess.run(
        [promtool(), "check", "rules", rules], capture_output=True, text=True, check=True, timeout=120
    )
    assert "SUCCESS: 1 rules found" in said.stdout


def test_an_alertmanager_holds_what_it_receives(alertmanager: Alertmanager) -> None:
    alert = {"labels": {"alertname": "LaunchHeld", "launch": "learner"}}
    requests.post(f"{alertmanager.url}/api/v2/alerts", json=[alert], timeout=60).raise_for_status()
    (held,) = alertmanager.wait_for(launch="learner")
    assert held["labels"] == alert["labels"]
    assert alertmanager.alerts(launch="another") == []


@pytest.mark.real
def test_prometheus_sends_its_alerts_to_alertmanager(
    prometheus_factory: PrometheusFactory, alertmanager_factory: AlertmanagerFactory, tmp_path: Path
) -> None:
    rules = tmp_path / "alerts.yaml"
    rules.write_text("groups: [{name: a, rules: [{alert: Always, expr: 'vector(1)'}]}]")
    alertmanager = alertmanager_factory()
    prometheus_factory(config=config(rule_files=[rules], alertmanagers=[alertmanager.address]))
    assert alertmanager.wait_for(alertname="Always")


@pytest.mark.real
def test_envoy_splits_traffic_by_weight_and_counts_it(tmp_path: Path) -> None:
    port, upstream = free_port(), _Answering(b"hello")
    bootstrap = {
        "static_resources": {
            "listeners": [{"address": _address(port), "filter_chains": [{"filters": [_http_filter("learner")]}]}],
            "clusters": [
                {
                    "name": "learner",
                    "type": "STATIC",
                    "load_assignment": {
                        "cluster_name": "learner",
                        "endpoints": [{"lb_endpoints": [{"endpoint": {"address": _address(upstream.port)}}]}],
                    },
                }
            ],
        }
    }
    with upstream, Envoy(tmp_path / "envoy", bootstrap) as envoy:
        assert requests.get(f"http://127.0.0.1:{port}/", timeout=60).text == "hello"
        assert 'envoy_cluster_upstream_rq{envoy_response_code="200",envoy_cluster_name="learner"} 1' in envoy.stats()


@pytest.mark.real
def test_a_server_that_cannot_start_shows_the_end_of_its_log(tmp_path: Path) -> None:
    prometheus = Prometheus(tmp_path, config={"scrape_configs": [{"no_job_name": 1}]})
    with pytest.raises(StartFailed, match="no_job_name"):
        prometheus.start()
    assert not prometheus.running


@pytest.mark.real
def test_servers_end_with_a_process_that_is_killed(tmp_path: Path) -> None:
    program = (
        "import sys, time, pathlib\n"
        "from tests.realparts.prometheus import Prometheus\n"
        "print(Prometheus(pathlib.Path(sys.argv[1])).start().pid, flush=True)\n"
        "time.sleep(600)\n"
    )
    with subprocess.Popen([sys.executable, "-c", program, tmp_path], stdout=subprocess.PIPE, cwd=ROOT) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        os.kill(pid, 0)
        parent.kill()
    wait_until(lambda: not _alive(pid), deadline_s=60, what="the orphan to be ended")


def test_a_missing_part_is_told_with_what_to_type(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("KUBEBUILDER_ASSETS", raising=False)
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    for name in PARTS:
        with pytest.raises(PartMissing, match="type `") as missing:
            find(name)
        assert str(missing.value).startswith(f"{name} is not on this machine: ")
    with pytest.raises(PartMissing, match="make setup"):
        parts.gateway_api_crds()


def test_kubebuilder_assets_come_before_the_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("etcd", "kube-apiserver", "kubectl"):
        program = tmp_path / name
        program.write_text("#!/bin/sh\n")
        program.chmod(0o755)
        monkeypatch.setenv("KUBEBUILDER_ASSETS", str(tmp_path))
        assert find(name) == program


def test_versions_of_what_is_built_come_from_its_go_mod() -> None:
    assert PARTS["prometheus 3"].version.startswith("3.")
    assert PARTS["kube-apiserver"].version.startswith("1.")


class _Answering:
    """An upstream that answers every GET with the same bytes."""

    def __init__(self, body: bytes) -> None:
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_arguments: object) -> None:
                """Tests are quiet."""

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port: int = self._server.server_address[1]

    def __enter__(self) -> None:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def __exit__(self, *_exception: object) -> None:
        self._server.shutdown()
        self._server.server_close()


def _address(port: int) -> dict[str, object]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def _http_filter(cluster: str) -> dict[str, object]:
    extensions = "type.googleapis.com/envoy.extensions.filters"
    route = {"match": {"prefix": "/"}, "route": {"cluster": cluster}}
    return {
        "name": "http",
        "typed_config": {
            "@type": f"{extensions}.network.http_connection_manager.v3.HttpConnectionManager",
            "stat_prefix": "entry",
            "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
            "http_filters": [
                {"name": "router", "typed_config": {"@type": f"{extensions}.http.router.v3.Router"}},
            ],
        },
    }


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True

"""The operator's file with everything real: Prometheuses by name, broken edits, and a stop of all launches."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from controller.core.status import State
from tests.commands.grounds import call
from tests.launch.stage import Daemon, Ground, Observer, Stage, Traffic, launch_document, stage
from tests.realparts.fixtures import PrometheusFactory
from tests.realparts.kube import KubeApiserver
from tests.realparts.mounted import Mounted
from tests.realparts.prometheus import Prometheus, config, static
from tests.realparts.server import wait_until

STEPS = ({"weight": 20, "for": "8s"}, {"weight": 30, "for": "8s"}, {"weight": 40, "for": "1h"}, {"weight": 100})
LONG = ({"weight": 10, "for": "1h"}, {"weight": 100})


class Regions:
    """A stage with a second Prometheus, `eu`, and the operator's file in a ConfigMap that a kubelet would mount."""

    def __init__(self, on: Stage, eu: Prometheus, traffic: Traffic) -> None:
        self.on, self.eu, self.traffic = on, eu, traffic
        self.text = (
            f"# the regions\nprometheus:\n  default: {{url: '{on.prometheus.url}'}}\n  eu: {{url: '{eu.url}'}}\n"
        )
        self.path = f"/api/v1/namespaces/{on.namespace}/configmaps"
        about = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "auto-advance"}}
        on.kube.call("POST", self.path, {**about, "data": {"config.yaml": self.text}})
        self.mounted = Mounted(on.folder / "mounted", self.text)
        self.person = f"--kubeconfig={on.kube.kubeconfig('admin')}"

    def daemon(self) -> Daemon:
        arguments = [one for one in self.on.arguments(tick="500ms") if not one.startswith("--prometheus=")]
        arguments.append(f"--config={self.mounted.path}")
        return self.on.stack.enter_context(Daemon(self.on.folder, arguments))

    def create(self, name: str, prometheus: str = "", **options: Any) -> None:
        """A launch with traffic that only the right Prometheus knows as good: at the other one its canary always fails."""
        self.on.serve(name)
        wrong = self.on.traffic if prometheus else self.traffic
        wrong.shop(name).canary_errors = 1.0
        document = launch_document(name, **options)
        document["spec"]["targets"][0]["prometheus"] = prometheus
        self.on.kube.apply([document], namespace=self.on.namespace)

    def stop(self, *arguments: str) -> str:
        """What a person types, and what the kubelet then does."""
        said = call("stop", "--all", *arguments, f"--namespace={self.on.namespace}", self.person)
        assert said.exit_code == 0, said.output
        data = self.on.kube.call("GET", f"{self.path}/auto-advance")["data"]
        assert data["config.yaml"] == self.text
        self.mounted.replace(data)
        return said.output


@contextlib.contextmanager
def regions(kube: KubeApiserver, folder: Path, ground: Ground, factory: PrometheusFactory) -> Iterator[Regions]:
    with stage(kube, folder, ground=ground) as on:
        traffic = on.stack.enter_context(Traffic(on.namespace))
        eu = factory(config=config([{**static("traffic", [traffic.address]), "honor_labels": True}]))
        on.stack.enter_context(Observer(kube, on.namespace, traffic))
        yield Regions(on, eu, traffic)


def metric(daemon: Daemon, name: str, **labels: str) -> float:
    """The value of one series of the daemon's own."""
    for line in daemon.metrics().splitlines():
        found = re.fullmatch(rf"{name}(?:{{(.*)}})? (\S+)", line)
        if found and all(f'{label}="{value}"' in (found[1] or "") for label, value in labels.items()):
            return float(found[2])
    raise AssertionError(f"{name}{labels} is not served")


def test_each_launch_asks_the_prometheus_that_it_names_and_one_that_hangs_holds_up_no_other(
    kube: KubeApiserver, tmp_path: Path, ground: Ground, prometheus_factory: PrometheusFactory
) -> None:
    with regions(kube, tmp_path, ground, prometheus_factory) as there:
        there.create("main", steps=LONG)
        there.create("europe", "eu", steps=LONG)
        there.create("asia", "asia", steps=LONG)
        daemon = there.daemon()
        daemon.wait_ready()
        invalid = there.on.observer.wait_for_state("asia", State.INVALID, seconds=60).document["status"]["message"]
        assert invalid.startswith(
            "spec.targets[0].prometheus: the operator's configuration has no Prometheus 'asia'; it has default or eu"
        )
        for name in ("main", "europe"):
            there.on.observer.wait_for_weight(name, 100, seconds=60)
            there.on.observer.stays(name, 100, seconds=3)

        plan = there.on.folder / "both.yaml"
        document = launch_document("main")
        document["metadata"]["namespace"] = there.on.namespace
        region = {"name": "europe", "prometheus": "eu", "service": "europe", "route": {"name": "europe"}}
        region |= {"stable": {"name": "europe-stable"}, "canary": {"name": "europe-canary"}}
        document["spec"]["targets"].append(region)
        plan.write_text(json.dumps(document))
        checked = call("check", plan, f"--config={there.mounted.path}", "-o", "json")
        found = {one["target"]: one for one in json.loads(checked.stdout)["metrics"]}
        assert set(found) == {"main", "europe"}
        for one in found.values():
            assert one["badPerMinute"]["canary"] == 0, (
                "each was asked of its own Prometheus; the other one says all are bad"
            )
            assert one["perMinute"]["canary"] > 0

        def looked_at(name: str) -> float:
            return metric(daemon, "autoadvance_launch_last_evaluation_timestamp_seconds", launch=name)

        with there.eu.paused():
            since = looked_at("main")
            wait_until(lambda: looked_at("main") > since + 3, deadline_s=4.5, what="main to be judged at each tick")
        there.mounted.update(there.text + f"  asia: {{url: '{there.on.prometheus.url}'}}\n")
        # Its traffic is as bad there as europe's would be, but plans are read anew, and the run begins.
        there.on.observer.wait_for_state("asia", State.PROGRESSING, State.ROLLED_BACK, seconds=60)
        assert daemon.terminate() == 0


def test_a_broken_edit_keeps_the_last_good_one_and_a_stop_of_all_launches_stops_raises_alone(
    kube: KubeApiserver, tmp_path: Path, ground: Ground, prometheus_factory: PrometheusFactory
) -> None:
    with regions(kube, tmp_path, ground, prometheus_factory) as there:
        there.create("main", steps=STEPS)
        daemon = there.daemon()
        daemon.wait_ready()
        there.on.observer.wait_for_weight("main", 200, seconds=60)
        said = there.stop("--reason=incident 7", "--by=ann")
        assert "no traffic is raised in any launch; what lowers traffic is not held up" in said
        held = there.on.observer.wait_for_state("main", State.HELD, seconds=30).document["status"]
        assert (held["reason"], held["message"]) == (
            "FleetStopped",
            "all raises are stopped by ann: incident 7",
        )
        assert metric(daemon, "autoadvance_fleet_stopped") == 1
        weight = there.on.observer.weights("main")[-1]
        there.mounted.update("limits: [\n")
        wait_until(
            lambda: metric(daemon, "autoadvance_config_last_reload_successful") == 0,
            deadline_s=30,
            what="the broken edit to be told of",
        )
        assert "configuration has faults, the last good one stays in force" in daemon.log.read_text()
        there.on.observer.stays("main", weight, seconds=4)
        there.stop("--lift")
        wait_until(
            lambda: metric(daemon, "autoadvance_config_last_reload_successful") == 1,
            deadline_s=30,
            what="the good edit to be taken over",
        )
        there.on.observer.wait_for_weight("main", 400, seconds=90)
        there.mounted.replace({"config.yaml": there.text, "stop.yaml": "because: incident 8\n"})
        held = there.on.observer.wait_for_state("main", State.HELD, seconds=30).document["status"]
        words = "all raises are stopped by a broken stop.yaml: reason: is missing; write reason: incident 4711"
        assert (held["reason"], held["message"].startswith(words)) == ("FleetStopped", True)
        assert metric(daemon, "autoadvance_fleet_stopped") == 1
        assert metric(daemon, "autoadvance_config_last_reload_successful") == 0
        assert "stop.yaml has faults, so all raises are stopped" in daemon.log.read_text()
        there.on.traffic.shop("main").canary_errors = 0.5
        there.on.observer.wait_for_state("main", State.ROLLED_BACK, seconds=60)
        assert daemon.terminate() == 0

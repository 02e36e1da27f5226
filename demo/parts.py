"""The real parts of the demo: started together, stopped together, and none outlives the demo."""

from __future__ import annotations

import shutil
import sys
import threading
from pathlib import Path
from types import TracebackType
from typing import Self

import yaml

from demo.envoy import Follower, bootstrap
from demo.grafana import Grafana
from rules.generate import render
from tests.realparts.alertmanager import Alertmanager
from tests.realparts.envoy import Envoy
from tests.realparts.parts import ROOT, PartMissing
from tests.realparts.prometheus import Prometheus, config, static
from tests.realparts.server import Server, StartFailed, free_port, http, wait_until

MANIFESTS = ROOT / "deploy" / "examples" / "demo"
HOST = "shop.example"
TICK_S = 1.0
INTERVAL_S, OFFSET_S = 2.0, 1.0
"""Of the recording rules: quicker than their defaults, as the demo is."""
SETTLE_S = 3.0


class PartFailedError(Exception):
    """A part did not start; the message is one sentence with the reason."""


class Services(Server):
    """Both versions of the shop; `port` is the stable one's."""

    name = "services"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.canary_port = free_port()
        self._session = http()

    def command(self) -> list[str]:
        """One process with two listeners."""
        return [sys.executable, "-m", "demo.services", str(self.port), str(self.canary_port)]

    def is_ready(self) -> bool:
        """Whether both answer."""
        return all(
            self._session.get(f"http://127.0.0.1:{port}/-/ready", timeout=1).ok
            for port in (self.port, self.canary_port)
        )

    def fail(self, share: float) -> None:
        """Make this share (0 to 1) of the canary's answers fail from now on. Raises requests.RequestException."""
        url = f"http://127.0.0.1:{self.canary_port}/-/failing/{share:g}"
        self._session.put(url, timeout=2).raise_for_status()


class Daemon(Server):
    """`auto-advance run` on the folder; `url` serves its /metrics, /livez and /readyz."""

    name = "auto-advance"

    def __init__(self, folder: Path, manifests: Path, prometheus: str, alertmanager: str) -> None:
        super().__init__(folder)
        self._manifests, self._prometheus, self._alertmanager = manifests, prometheus, alertmanager
        self._session = http()

    def command(self) -> list[str]:
        """With the short times that a demo wants."""
        settings = {
            "folder": self._manifests,
            "prometheus": self._prometheus,
            "alertmanager": self._alertmanager,
            "external-url": self.url,
            "listen": f"127.0.0.1:{self.port}",
            "tick": f"{TICK_S:g}s",
            "route-settle": "1s",
            "recorded-interval": f"{INTERVAL_S:g}s",
            "recorded-offset": f"{OFFSET_S:g}s",
            "recorded-settle": f"{SETTLE_S:g}s",
            "log-format": "json",
        }
        flags = [word for name, value in settings.items() for word in (f"--{name}", str(value))]
        return [sys.executable, "-m", "controller", "run", *flags]

    def is_ready(self) -> bool:
        """Whether it has looked at the folder."""
        return self._session.get(f"{self.url}/livez", timeout=1).ok


class Parts:
    """All parts, in a folder of their own: `with Parts(folder) as parts: ...`.

    ``examples`` holds launch.yaml, route.yaml and endpoints.yaml; ``grafana``: where it is installed, it runs as well,
    and nobody waits for it. Raises PartFailedError on entering where a part cannot start; those that did are ended
    again.
    """

    def __init__(self, folder: Path, examples: Path = MANIFESTS, *, grafana: bool = False) -> None:
        self.manifests = folder / "manifests"
        discovery = folder / "discovery"
        for made in (self.manifests, discovery):
            made.mkdir(parents=True)
        self.listen_port = free_port()
        self._session = http()
        self.services = Services(folder / "services")
        self._write_manifests(examples)
        self.follower = Follower(self.manifests, discovery)
        self.envoy = Envoy(folder / "envoy", bootstrap(self.listen_port, discovery, self.follower.clusters()))
        self.alertmanager = Alertmanager(folder / "alertmanager")
        prometheus_port, rules = free_port(), folder / "envoy-rules.yaml"
        rules.write_text(render(INTERVAL_S, OFFSET_S)["envoy.yaml"])
        self.daemon = Daemon(
            folder / "auto-advance", self.manifests, f"http://127.0.0.1:{prometheus_port}", self.alertmanager.url
        )
        scrapes = [
            static("envoy", [f"127.0.0.1:{self.envoy.port}"], path="/stats/prometheus")
            # the rest of Envoy's thousand series is of no use here
            | {"params": {"filter": [r"^(cluster\.demo/|server\.uptime)"]}},
            static("auto-advance", [f"127.0.0.1:{self.daemon.port}"]),
        ]
        self.prometheus = Prometheus(
            folder / "prometheus",
            config=config(scrapes, rule_files=[rules], alertmanagers=[self.alertmanager.address]),
            port=prometheus_port,
        )
        self.grafana = Grafana(folder / "grafana", self.prometheus.url) if grafana and Grafana.program() else None

    @property
    def servers(self) -> tuple[Server, ...]:
        """The processes, in the order in which they are started."""
        return (self.services, self.alertmanager, self.envoy, self.prometheus, self.daemon)

    @property
    def places(self) -> dict[str, str]:
        """Where a person may look, by name."""
        boards = {"dashboards": f"{self.grafana.url}/dashboards"} if self.grafana else {}
        return boards | {
            "shop, through Envoy": f"http://127.0.0.1:{self.listen_port}",
            "Envoy": self.envoy.url,
            "Prometheus": self.prometheus.url,
            "Alertmanager": self.alertmanager.url,
            "auto-advance": f"{self.daemon.url}/metrics",
        }

    def __enter__(self) -> Self:
        try:
            self.follower.start()
            for server in self.servers:
                server.launch()
            if self.grafana is not None:
                self.grafana.launch()
            for server in self.servers:
                server.wait_ready()
            wait_until(self._reaches_stable, deadline_s=5.0, what="an answer of the stable service through Envoy")
        except PartMissing as missing:
            self._stop()
            raise PartFailedError(str(missing)) from missing
        except StartFailed as failed:
            self._stop()
            raise PartFailedError(_in_one_sentence(failed)) from failed
        except (TimeoutError, ValueError) as failed:
            self._stop()
            raise PartFailedError(f"{failed}") from failed
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def dead(self) -> str:
        """Which part has ended by itself, and its last words; empty while all live."""
        for server in self.servers:
            if not server.running:
                return f"{server.name} ended by itself: {_last_line(server)}"
        return ""

    def _reaches_stable(self) -> str:
        answer = self._session.get(f"http://127.0.0.1:{self.listen_port}/", headers={"Host": HOST}, timeout=1)
        return answer.headers.get("X-Track", "")

    def _stop(self) -> None:
        self.follower.stop()
        # together: each may take a moment to say goodbye
        servers = [*self.servers, *([self.grafana] if self.grafana else [])]
        threads = [threading.Thread(target=server.stop) for server in servers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _write_manifests(self, examples: Path) -> None:
        for path in sorted(examples.glob("*.yaml")):
            shutil.copy(path, self.manifests / path.name)
        path = self.manifests / "endpoints.yaml"
        ports = {"shop-stable": self.services.port, "shop-canary": self.services.canary_port}
        documents = list(yaml.safe_load_all(path.read_text()))
        for document in documents:
            document["ports"] = [{"port": ports[document["metadata"]["name"]]}]
        path.write_text(yaml.safe_dump_all(documents, sort_keys=False))


def _in_one_sentence(failed: StartFailed) -> str:
    """Of the report of a failed start: which part, and the last line of its log."""
    first, *log = str(failed).splitlines()
    said = log[-1].strip() if log else "it said nothing"
    return f"{first.rstrip(':')}: {said}"


def _last_line(server: Server) -> str:
    return server.log_tail().splitlines()[-1].strip()

"""What many launches cost: cores, memory, questions and requests, and how soon the first decision falls."""

from __future__ import annotations

import re
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import requests

from tests.bench.table import Figure
from tests.launch.stage import GROUP, Daemon, stage
from tests.realparts.kube import KubeApiserver
from tests.realparts.server import wait_until

STEPS = ({"weight": 30, "for": "1h"}, {"weight": 100})


def fleet(number: int, seconds: float = 60.0) -> Iterator[Figure]:
    """So many launches in mid-ramp at the default tick, watched for a minute."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        root = Path(folder)
        (root / "kube").mkdir()
        with KubeApiserver(root / "kube") as kube:
            kube.install_crds()
            with stage(kube, root) as on:
                names = [f"shop-{index}" for index in range(number)]
                on.create(*names, steps=STEPS, below="5%")
                daemon = Daemon(on.folder, on.arguments(tick="10s"))
                started = time.monotonic()
                daemon.start()
                path = f"/apis/{GROUP}/namespaces/{on.namespace}/launches"

                def decided() -> bool:
                    return sum(bool(item.get("status")) for item in kube.call("GET", path)["items"]) == number

                wait_until(decided, deadline_s=120, what="a first decision of every launch")
                yield Figure(f"start to the last first decision, {number} launches", "s", [time.monotonic() - started])
                for name in names:
                    on.observer.wait_for_weight(name, 300, seconds=180)
                time.sleep(25)
                process = psutil.Process(daemon.pid)
                before, at = process.cpu_times(), time.monotonic()
                asked, requested = _questions(on.prometheus.url), _requests(kube)
                time.sleep(seconds)
                after, passed = process.cpu_times(), time.monotonic() - at
                cpu = after.user + after.system - before.user - before.system
                ticks = passed / 10
                yield Figure(f"fleet of {number}: processor", "cores", [cpu / passed])
                yield Figure(f"fleet of {number}: memory", "MiB", [process.memory_info().rss / 2**20])
                yield Figure(
                    f"fleet of {number}: questions per tick",
                    "queries",
                    [(_questions(on.prometheus.url) - asked) / ticks],
                )
                yield Figure(
                    f"fleet of {number}: API requests",
                    "requests/s",
                    [(_requests(kube) - requested) / passed],
                    "0 but watches",
                )
                daemon.kill9()


def _questions(url: str) -> float:
    text = requests.get(f"{url}/metrics", timeout=10).text
    pattern = r'prometheus_http_requests_total\{code="\d+",handler="/api/v1/query(?:_range)?"\} (\S+)'
    return sum(float(count) for count in re.findall(pattern, text))


def _requests(kube: KubeApiserver) -> float:
    """Requests that touched launches or routes, other than watches and the observer's."""
    text = requests.get(
        f"{kube.url}/metrics",
        headers={"Authorization": f"Bearer {kube.token('admin')}"},
        verify=str(kube.ca_file),
        timeout=10,
    ).text
    lines = re.findall(r"^apiserver_request_total\{([^}]*)\} (\S+)$", text, re.MULTILINE)
    return sum(
        float(count)
        for labels, count in lines
        if re.search(r'resource="(launches|httproutes)"', labels) and 'verb="WATCH"' not in labels
    )

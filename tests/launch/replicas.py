"""Several controllers on one namespace, each behind a proxy of its own that notes when it writes."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.adapters.faulty_proxy import Exchange, FaultyProxy, call
from tests.invariants import violations
from tests.launch.stage import Daemon, Ground, Stage, stage
from tests.realparts.kube import ApiError, KubeApiserver
from tests.realparts.parts import find
from tests.realparts.server import wait_until

LEASE = "auto-advance"
RULES = ({"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["get", "create", "update"]},)
EXIT_LOST = 5
TICK = "500ms"
NO_LEASE = r"^(?!.*/leases)"
SHIM = Path(__file__).with_name("wall_clock.c")


@dataclass(frozen=True)
class Wrote:
    """One write that came to a proxy; ``at`` is monotonic seconds."""

    at: float
    by: str
    exchange: Exchange


class Replica:
    """One controller and its proxy."""

    def __init__(self, on: Stage, name: str, *, tick: str = TICK, shim: Path | None = None) -> None:
        self.name, self._on = name, on
        folder = on.folder / name
        folder.mkdir()
        self.offset = folder / "offset"
        self.offset.write_text("0")
        self.proxy = on.stack.enter_context(FaultyProxy(on.kube, folder))
        self.wrote: list[Wrote] = []
        self._rule = self.proxy.when("WRITE", NO_LEASE, call(before=self._note))
        environment = {"POD_NAME": name, "POD_NAMESPACE": on.namespace}
        if shim is not None:
            environment |= {"LD_PRELOAD": str(shim), "WALL_CLOCK_OFFSET": str(self.offset)}
        arguments = on.arguments(tick=tick, kubeconfig=self.proxy.kubeconfig("controller"))
        self.daemon = on.stack.enter_context(Daemon(folder, arguments, environment=environment))

    def _note(self, exchange: Exchange) -> None:
        if exchange.query.get("dryRun") is None:
            self.wrote.append(Wrote(time.monotonic(), self.name, exchange))

    def strike(self, act: Callable[[], object]) -> None:
        """Let faults be added to the proxy ahead of the rule that notes writes: the first that fits counts."""
        self._rule()
        act()
        self._rule = self.proxy.when("WRITE", NO_LEASE, call(before=self._note))

    def leads(self) -> bool:
        """Whether it says so itself."""
        try:
            return "autoadvance_leader 1.0" in self.daemon.metrics()
        except OSError:
            return False

    def ended(self, seconds: float) -> int:
        """Its exit code, once it has ended by itself."""
        assert self.daemon.process is not None
        try:
            return self.daemon.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.name} did not end within {seconds:g}s: {self.daemon.tail()}") from None

    def signal(self, number: signal.Signals) -> None:
        """Send it that."""
        os.kill(self.daemon.pid, number)


class Pair:
    """Two replicas, of which one leads."""

    def __init__(self, on: Stage, *, tick: str = TICK, shim: Path | None = None) -> None:
        self.on = on
        on.kube.grant("controller", RULES, namespace=on.namespace)
        self.path = f"/apis/coordination.k8s.io/v1/namespaces/{on.namespace}/leases"
        on.kube.call("POST", self.path, _given_back())
        self.leader = Replica(on, "first", tick=tick, shim=shim)
        wait_until(self.leader.leads, deadline_s=90, what=f"the first to lead: {self.leader.daemon.tail()}")
        self.follower = Replica(on, "second", tick=tick, shim=shim)
        self.follower.daemon.wait_ready()
        assert not self.follower.leads()

    def lease(self) -> dict[str, Any]:
        """The Lease's spec now; empty where there is none."""
        try:
            return dict(self.on.kube.call("GET", f"{self.path}/{LEASE}")["spec"])
        except ApiError as error:
            if error.code != 404:
                raise
            return {}

    def edit(self, **spec: object) -> None:
        """Change the Lease as a person does."""
        self.on.kube.call("PATCH", f"{self.path}/{LEASE}", {"spec": spec}, content_type="application/merge-patch+json")

    def remove(self) -> None:
        """Delete the Lease as a person does."""
        self.on.kube.call("DELETE", f"{self.path}/{LEASE}")

    def held_by(self, replica: Replica, seconds: float) -> float:
        """Wait until the Lease says so: the instant (monotonic)."""
        what = f"{replica.name} to hold the Lease: {replica.daemon.tail()}"
        wait_until(
            lambda: str(self.lease().get("holderIdentity")).startswith(replica.name), deadline_s=seconds, what=what
        )
        return time.monotonic()

    def decides(self, replica: Replica, name: str, seconds: float = 60.0) -> float:
        """Give it something to do, and wait until it was done: the instant (monotonic) of its first write."""
        known = len(replica.wrote)
        self.on.create(name, steps=({"weight": 20, "for": "1h"}, {"weight": 100}))
        self.on.observer.wait_for_weight(name, 200, seconds=seconds)
        return replica.wrote[known].at

    def wrong(self, *names: str) -> list[str]:
        """What the history says against them, and writes of one after the other had begun."""
        found = [fault for name in names for fault in violations(self.on.observer.versions(), self.on.namespace, name)]
        order = sorted([*self.leader.wrote, *self.follower.wrote], key=lambda one: one.at)
        turns = [one.by for index, one in enumerate(order) if index == 0 or order[index - 1].by != one.by]
        return found + ([f"they wrote in turns: {turns}"] if len(turns) > 2 else [])


def _given_back() -> Mapping[str, object]:
    """A Lease that was held before, so that nobody has to wait for the first one."""
    return {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": LEASE},
        "spec": {"holderIdentity": "", "leaseDurationSeconds": 1, "leaseTransitions": 0},
    }


@contextlib.contextmanager
def pair(
    kube: KubeApiserver, ground: Ground, folder: Path, *, tick: str = TICK, shim: Path | None = None
) -> Iterator[Pair]:
    """Two controllers on a stage of their own; the first leads."""
    folder.mkdir()
    with stage(kube, folder, ground=ground) as on:
        yield Pair(on, tick=tick, shim=shim)


def build_shim(folder: Path) -> Path:
    """The library that moves the wall clock alone. Raises PartMissing where nothing can compile it."""
    library = folder / "wall_clock.so"
    subprocess.run(
        [str(find("C compiler")), "-shared", "-fPIC", "-O1", "-o", str(library), str(SHIM), "-ldl"], check=True
    )
    return library

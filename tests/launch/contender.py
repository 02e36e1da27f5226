"""A process that wants the lead and writes all the time while it has it, with times that are a third of the real.

What it writes is the status of one Launch, as the controller writes it: fresh from the version it wrote last, so that what
it sends too late is refused. All of its writes carry its name.
"""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path
from typing import Any

from controller.adapters.api_server import KubernetesSettings
from controller.adapters.kubernetes import Kubernetes
from controller.adapters.lease import KubernetesLease
from controller.clock import SystemClock
from controller.core.world import Launch, LaunchKey
from controller.errors import AdapterError, ConflictError
from controller.leader import Leader, Times

TIMES = Times(lease=3.0, deadline=1.6, request=0.8, retry=0.15)
PAUSE_S = 0.05


class _Quiet:
    """Nobody reads what a contender says."""

    def note(self, event: str, **fields: object) -> None:
        """Nothing."""

    def failed(self, key: None, doing: str, error: BaseException) -> None:
        """Nothing."""


def contend(identity: str, kubeconfig: str, namespace: str, name: str, notes: str) -> None:
    """Until SIGTERM: then the Lease is given back. ``notes`` is a file that gets a line for each write that was refused."""
    clock, leaving = SystemClock(), threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: leaving.set())
    settings = KubernetesSettings(kubeconfig=kubeconfig, connections=2)
    lease = KubernetesLease(settings, namespace, name, lease_s=TIMES.lease, request_s=TIMES.request, wall=clock.now)
    leader = Leader(lease, identity, clock.steady, _Quiet(), times=TIMES)
    cluster = Kubernetes(settings, may_write=leader.may_write)
    leader.start()
    written: Launch | None = None
    number = 0
    while not leaving.wait(PAUSE_S):
        if not leader.leading():
            continue
        try:
            known = written or cluster.read_launch(LaunchKey(namespace, name))
            number += 1
            written = cluster.write_status(known, status(identity, number))
        except ConflictError:
            with Path(notes).open("a", encoding="utf-8") as file:
                file.write(f"{identity}\n")
            written = None
        except AdapterError:
            written = None
    leader.stop(release=True)
    os._exit(0)


def status(identity: str, number: int) -> dict[str, Any]:
    """What the writer of that name writes."""
    return {"message": identity, "sequence": number}

"""The Lease of the API server and the lock of a folder, by the same Protocol."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from controller.adapters.api_server import KubernetesSettings
from controller.adapters.files import RECORDS
from controller.adapters.lease import KubernetesLease
from controller.adapters.lock_file import NAME, LockFile
from controller.errors import ConflictError, NotFoundError, RefusedError, UnansweredError
from controller.ports import Lease
from tests.adapters.faulty_proxy import FaultyProxy, hold
from tests.realparts.kube import KubeApiserver

LEASES = "/apis/coordination.k8s.io/v1/namespaces/{}/leases/controllers"
WHOLE_SECOND = 1_800_000_000.0
RULES = ({"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["get", "create", "update"]},)


@pytest.fixture
def lease(kube: KubeApiserver, namespace: str) -> Iterator[KubernetesLease]:
    kube.grant("controller", RULES, namespace=namespace)
    one = _lease(kube, namespace)
    yield one
    one.close()


def _lease(kube: KubeApiserver, namespace: str, kubeconfig: str = "", request_s: float = 10.0) -> KubernetesLease:
    settings = KubernetesSettings(kubeconfig=kubeconfig or str(kube.kubeconfig("controller")))
    return KubernetesLease(
        settings, namespace, "controllers", lease_s=10.0, request_s=request_s, wall=lambda: WHOLE_SECOND
    )


def _stored(kube: KubeApiserver, namespace: str) -> dict[str, Any]:
    return dict(kube.call("GET", LEASES.format(namespace)))


def test_a_lease_is_made_taken_renewed_and_given_back(
    kube: KubeApiserver, namespace: str, lease: KubernetesLease
) -> None:
    assert lease.read() is None
    made = lease.create()
    assert (made.holder, made.transitions, made.released) == ("", 0, False)
    taken = lease.write(made, "a", 1)
    assert (taken.holder, taken.transitions, taken.released) == ("a", 1, False)
    assert taken.version != made.version
    spec = _stored(kube, namespace)["spec"]
    assert spec["leaseDurationSeconds"] == 10
    assert spec["renewTime"] == spec["acquireTime"] == "2027-01-15T08:00:00.000000Z"
    renewed = lease.write(taken, "a", 1)
    assert lease.read() == renewed
    assert renewed.version != taken.version, "where the wall clock stands still"
    given = lease.write(renewed, "", 1)
    assert (given.holder, given.released, given.transitions) == ("", True, 1)
    assert _stored(kube, namespace)["spec"]["leaseDurationSeconds"] == 1
    again = lease.write(given, "b", 2)
    assert (again.holder, again.released) == ("b", False)


def test_a_whole_second_without_its_fraction_is_what_the_server_would_refuse(
    kube: KubeApiserver, namespace: str, lease: KubernetesLease
) -> None:
    lease.create()
    document = _stored(kube, namespace)
    document["spec"]["renewTime"] = "2027-01-15T08:00:00Z"
    with pytest.raises(Exception, match="400"):
        kube.call("PUT", LEASES.format(namespace), document)


def test_only_the_version_that_was_read_is_replaced(
    kube: KubeApiserver, namespace: str, lease: KubernetesLease
) -> None:
    made = lease.create()
    rival = _lease(kube, namespace)
    with pytest.raises(ConflictError):
        rival.create()
    seen = rival.read()
    assert seen == made
    taken = lease.write(made, "a", 1)
    with pytest.raises(ConflictError):
        rival.write(made, "b", 1)
    lease.write(taken, "a", 1)
    with pytest.raises(ConflictError, match="another version of it was read"):
        lease.write(taken, "a", 1)
    rival.close()


@pytest.mark.parametrize("again", [False, True], ids=["gone", "made again"])
def test_a_lease_that_was_removed_by_hand_is_not_written(
    kube: KubeApiserver, namespace: str, lease: KubernetesLease, *, again: bool
) -> None:
    taken = lease.write(lease.create(), "a", 1)
    kube.call("DELETE", LEASES.format(namespace))
    if again:
        _lease(kube, namespace).create()
    with pytest.raises((ConflictError, NotFoundError)):
        lease.write(taken, "a", 1)


def test_what_others_wrote_into_the_lease_stays(kube: KubeApiserver, namespace: str, lease: KubernetesLease) -> None:
    made = lease.create()
    document = _stored(kube, namespace)
    document["metadata"]["labels"] = {"team": "web"}
    kube.call("PUT", LEASES.format(namespace), document)
    now = lease.read()
    assert now is not None
    assert now.version != made.version
    lease.write(now, "a", 1)
    assert _stored(kube, namespace)["metadata"]["labels"] == {"team": "web"}


def test_a_lease_that_was_emptied_by_hand_was_not_given_back(
    kube: KubeApiserver, namespace: str, lease: KubernetesLease
) -> None:
    lease.write(lease.create(), "a", 1)
    document = _stored(kube, namespace)
    document["spec"]["holderIdentity"] = ""
    kube.call("PUT", LEASES.format(namespace), document)
    now = lease.read()
    assert now is not None
    assert (now.holder, now.released) == ("", False)
    document = _stored(kube, namespace)
    document["spec"] = {}
    kube.call("PUT", LEASES.format(namespace), document)
    now = lease.read()
    assert now is not None
    assert (now.holder, now.transitions, now.released) == ("", 0, False)


def test_a_request_is_sent_once_and_given_up_in_time(kube: KubeApiserver, namespace: str, tmp_path: Path) -> None:
    kube.grant("controller", RULES, namespace=namespace)
    released = threading.Event()
    with FaultyProxy(kube, tmp_path) as proxy:
        lease = _lease(kube, namespace, proxy.kubeconfig("controller"), request_s=0.6)
        _lease(kube, namespace).create()
        known = lease.read()
        assert known is not None
        for verb, ask in (("GET", lease.read), ("PUT", lambda: lease.write(known, "a", 1))):
            proxy.when(verb, "leases", hold(released))
            before, began = proxy.count(verb, "leases"), time.monotonic()
            with pytest.raises(UnansweredError):
                ask()
            assert time.monotonic() - began < 1.5
            assert proxy.count(verb, "leases") == before + 1
        released.set()
        lease.close()


def test_without_the_right_it_is_said_which(kube: KubeApiserver, namespace: str) -> None:
    lease = KubernetesLease(
        KubernetesSettings(kubeconfig=str(kube.kubeconfig("person"))),
        namespace, "controllers", lease_s=10.0, request_s=10.0, wall=time.time,
    )  # fmt: skip
    with pytest.raises(RefusedError, match=r'Lease .*/controllers: .*cannot get resource "leases"'):
        lease.read()
    lease.close()


# The folder


HOLDER = """
import sys
from pathlib import Path
from controller.adapters.lock_file import LockFile
lock = LockFile(Path(sys.argv[1]))
lock.write(lock.read(), "the other", 1)
print("held", flush=True)
sys.stdin.read()
"""


MakeLock = Callable[[], LockFile]


@pytest.fixture
def lock_file(tmp_path: Path) -> Iterator[MakeLock]:
    """Locks of one folder, let go after the test."""
    made: list[LockFile] = []

    def make() -> LockFile:
        made.append(LockFile(tmp_path))
        return made[-1]

    yield make
    for lock in made:
        lock.write(Lease("0"), "", 0)


def _other(folder: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def _let_end(process: subprocess.Popen[str], *, kill: bool) -> None:
    if kill:
        process.kill()
    process.communicate()


def test_the_lock_of_a_folder_is_one_processs_until_it_lets_go(lock_file: MakeLock) -> None:
    one, two = lock_file(), lock_file()
    free = one.read()
    assert (free.holder, free.released) == ("", True)
    held = one.write(free, "one", 1)
    assert held.holder == "one"
    assert one.holds()
    assert two.read().holder == "one"
    assert not two.holds()
    with pytest.raises(ConflictError, match="was quicker"):
        two.write(free, "two", 1)
    assert one.write(one.read(), "one", 1).holder == "one"
    one.write(one.read(), "", 1)
    assert not one.holds()
    assert two.read().released
    assert two.write(two.read(), "two", 2).holder == "two"


def test_each_look_at_a_lock_that_is_held_is_a_new_version(lock_file: MakeLock) -> None:
    one, two = lock_file(), lock_file()
    one.write(one.read(), "one", 1)
    assert len({two.read().version for _ in range(3)}) == 3


@pytest.mark.parametrize("kill", [True, False], ids=["killed", "ended"])
def test_the_system_frees_the_lock_of_a_process_that_is_gone(
    tmp_path: Path, lock_file: MakeLock, *, kill: bool
) -> None:
    other, lock = _other(tmp_path), lock_file()
    assert lock.read().holder == "the other"
    _let_end(other, kill=kill)
    assert lock.read().released
    assert lock.write(lock.read(), "this", 1).holder == "this"


@pytest.mark.parametrize("by_hand", ["removed", "replaced"])
def test_a_lock_whose_file_was_removed_by_hand_is_no_longer_held(
    tmp_path: Path, lock_file: MakeLock, by_hand: str
) -> None:
    lock = lock_file()
    lock.write(lock.read(), "this", 1)
    path = tmp_path / RECORDS / NAME
    if by_hand == "removed":
        path.unlink()
    else:
        fresh = path.with_suffix(".fresh")
        fresh.write_text("ada\n")
        os.replace(fresh, path)  # noqa: PTH105 - as an editor does
    assert not lock.holds()
    other = _other(tmp_path)
    with pytest.raises(ConflictError, match="was removed or replaced"):
        lock.write(Lease("1"), "this", 1)
    assert lock.read().holder == "the other"
    _let_end(other, kill=False)


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / RECORDS).write_text("a file where the folder should be")
    with pytest.raises(UnansweredError, match=RECORDS):
        LockFile(tmp_path).read()

"""Who follows keeps its view warm and does nothing; who takes over reads everything afresh first."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from queue import Queue
from typing import Any

import pytest
import requests

from controller.adapters.api_server import KubernetesSettings
from controller.adapters.files import Files
from controller.adapters.kubernetes import Kubernetes
from controller.core.world import Launch, LaunchKey, Route, RouteKey, RoutePatch
from controller.errors import ConflictError, NotLeadingError, UnansweredError
from controller.leader import EXIT_LOST, FOR_GOOD, Leader, LeaderRecorder, Times
from controller.loop import READ_AGAIN_SECONDS, Loop
from controller.ports import Lease
from tests.launch.stage import Daemon, launch_document, route_document, slice_documents
from tests.realparts.server import wait_until
from tests.test_loop import DEADLINE_S, A, B, Stage, drained

TAKEN_OVER_S = 2.0
BUSY_S = 3.0


class Led:
    """Who leads, as a test says."""

    leads, other, trouble = False, "another", ""

    def leading(self) -> bool:
        return self.leads

    def follows(self) -> str:
        return "" if self.leads else self.other

    def problem(self) -> str:
        return self.trouble


class Follower(Stage):
    """The loop of a process that follows; ``read`` fills when everything is read afresh, and waits for ``may_read``."""

    def __init__(self) -> None:
        super().__init__()
        self.led, self.read = Led(), Queue[None]()
        self.on_read: Callable[[], object] = lambda: None
        self.loop = Loop(
            self.fleet,
            self._reconciler,
            self.book,
            self.clock,
            tick=10.0,
            workers=2,
            leadership=self.led,
            read_again=self._read_again,
        )

    def _read_again(self) -> None:
        self.on_read()
        self.read.put(None)

    def take_over(self) -> None:
        self.led.leads = True
        self.loop.wake()


def test_who_follows_looks_at_nothing_and_is_ready() -> None:
    stage = Follower()
    with stage.turning():
        wait_until(lambda: not stage.loop.unready(), deadline_s=DEADLINE_S, what="a follower to be ready")
        stage.loop.look_soon([A])
        for _ in range(5):
            stage.fleet.wake(A)
        stage.clock.time += 60
        wait_until(stage.loop._events.empty, deadline_s=DEADLINE_S, what="the changes to be heard")
        assert not stage.loop.stuck()
    assert not drained(stage.rounds.looked)
    assert not drained(stage.read)


def test_who_takes_over_reads_afresh_and_then_looks_at_all_at_once() -> None:
    stage = Follower()
    order: list[str] = []
    stage.on_read = lambda: order.append("read")
    stage.rounds.on_look = lambda keys: order.append("looked")
    with stage.turning():
        wait_until(lambda: not stage.loop.unready(), deadline_s=DEADLINE_S, what="a follower to be ready")
        stage.take_over()
        assert stage.rounds.looked.get(timeout=DEADLINE_S) == (A, B)
        assert not stage.loop.unready(), "it stays ready"
        stage.fleet.wake(A)
        assert stage.rounds.looked.get(timeout=DEADLINE_S) == (A,)
    assert order[:2] == ["read", "looked"]
    assert order.count("read") == 1


def test_a_list_that_cannot_be_read_is_tried_again() -> None:
    stage = Follower()
    failures = iter([UnansweredError("away"), UnansweredError("away")])

    def fail() -> None:
        for failure in failures:
            raise failure

    stage.on_read = fail
    with stage.turning():
        stage.take_over()
        assert stage.rounds.looked.get(timeout=DEADLINE_S) == (A, B)
    assert [doing for _, doing, _ in drained(stage.book.failures)] == ["looking", "looking"]


def test_a_list_that_hangs_does_not_keep_a_rollback_waiting() -> None:
    stage = Follower()
    stage.on_read = stage.hold().wait
    with stage.turning():
        stage.take_over()
        wait_until(lambda: stage.loop._reading_since is not None, deadline_s=DEADLINE_S, what="the reading to begin")
        assert not drained(stage.rounds.looked)
        stage.clock.time += READ_AGAIN_SECONDS + 0.1
        assert stage.rounds.looked.get(timeout=DEADLINE_S) == (A, B)


def test_it_is_not_ready_before_it_is_known_who_leads() -> None:
    stage = Follower()
    stage.led.other = ""
    assert stage.loop.unready() == "it is not known yet who leads"
    stage.led.trouble = "the Lease may not be read"
    assert stage.loop.unready() == "the Lease may not be read"
    stage.led.leads = True
    assert stage.loop.unready() == "no round was made yet"


# What is sent


def test_nothing_is_sent_to_the_api_server_by_who_may_not_write(tmp_path: Path) -> None:
    config = tmp_path / "kubeconfig"
    config.write_text(json.dumps(_nowhere()))
    cluster = Kubernetes(KubernetesSettings(kubeconfig=str(config)), may_write=lambda: False)
    key, route = LaunchKey("prod", "shop"), RouteKey("HTTPRoute", "prod", "shop")
    launch = Launch(key, "u", "1", 1, 0.0, None, None, {})  # type: ignore[arg-type]  # it is not looked into
    for write in (
        lambda: cluster.write_status(launch, {}),
        lambda: cluster.patch_route(RoutePatch(key=route, uid="u", resource_version="1", edits=(), epoch="1")),
        lambda: cluster.annotate(key, {"hold": "x"}),
    ):
        with pytest.raises(NotLeadingError, match="not written, because this process does not lead"):
            write()
    with pytest.raises(UnansweredError):
        cluster.set_finalizer(launch, present=True)  # which reads first
    cluster.stop()


def _nowhere() -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "x",
        "clusters": [{"name": "x", "cluster": {"server": "http://127.0.0.1:1"}}],
        "users": [{"name": "x", "user": {}}],
        "contexts": [{"name": "x", "context": {"cluster": "x", "user": "x"}}],
    }


def test_nothing_is_written_into_a_folder_by_who_may_not_write(tmp_path: Path) -> None:
    documents = [launch_document("shop"), route_document("shop")]
    for number, document in enumerate(documents):
        document["metadata"]["namespace"] = "prod"
        (tmp_path / f"{number}.yaml").write_text(json.dumps(document))
    before = {path.name: path.read_bytes() for path in tmp_path.glob("*.yaml")}
    files = Files(tmp_path, may_write=lambda: False)
    key = LaunchKey("prod", "shop")
    launch, route = files.read_launch(key), files.read_route(RouteKey("HTTPRoute", "prod", "shop"))
    for write in (
        lambda: files.write_status(launch, {"message": "x"}),
        lambda: _patch(files, route),
        lambda: files.annotate(key, {"hold": "x"}),
        lambda: files.set_finalizer(launch, present=True),
    ):
        with pytest.raises(NotLeadingError, match="not written, because this process does not lead"):
            write()
    assert {path.name: path.read_bytes() for path in tmp_path.glob("*.yaml")} == before
    assert files.read_launch(key).resource_version == launch.resource_version


def _patch(files: Files, route: Route) -> Route:
    return files.patch_route(
        RoutePatch(key=route.key, uid=route.uid, resource_version=route.resource_version, edits=(), epoch="1")
    )


# The threads


class Port:
    """A Lease that a test answers for."""

    def __init__(self) -> None:
        self.answer: Callable[[], Lease] = lambda: Lease("1", released=True)
        self.write_answer: Callable[[str], Lease] = lambda holder: Lease("2", holder)
        self.written: Queue[str] = Queue()
        self.ours = True

    def read(self) -> Lease | None:
        return self.answer()

    def create(self) -> Lease:
        return Lease("1")

    def write(self, known: Lease, holder: str, transitions: int) -> Lease:
        self.written.put(holder)
        return self.write_answer(holder)

    def holds(self) -> bool:
        return self.ours


class Notes(LeaderRecorder):
    def __init__(self) -> None:
        self.noted: Queue[tuple[str, dict[str, object]]] = Queue()
        self.failures: Queue[str] = Queue()

    def note(self, event: str, **fields: object) -> None:
        self.noted.put((event, fields))

    def failed(self, key: None, doing: str, error: BaseException) -> None:
        self.failures.put(f"{doing}: {error}")


QUICK = Times(lease=2.0, deadline=0.5, request=0.1, retry=0.05)


class Standing:
    """A leader with its threads, and where it would have ended the process."""

    def __init__(self, times: Times = QUICK) -> None:
        self.port, self.notes, self.ended, self.led = Port(), Notes(), Queue[int](), Queue[None]()
        self.leader = Leader(
            self.port,
            "me",
            time.monotonic,
            self.notes,
            times=times,
            on_lead=lambda: self.led.put(None),
            end=self.ended.put,
        )


@pytest.fixture
def standing() -> Iterator[Standing]:
    made = Standing()
    yield made
    made.leader.stop(release=False)


def test_it_leads_says_so_and_gives_the_lease_back(standing: Standing) -> None:
    standing.leader.start()
    standing.led.get(timeout=DEADLINE_S)
    assert standing.leader.leading()
    assert standing.leader.may_write()
    assert standing.notes.noted.get(timeout=DEADLINE_S) == ("leading", {"identity": "me"})
    standing.leader.stop(release=True)
    assert drained(standing.port.written)[-1] == ""
    assert not standing.leader.may_write()
    assert standing.ended.empty()


def test_where_a_write_is_still_on_its_way_nothing_is_given_back(standing: Standing) -> None:
    standing.leader.start()
    standing.led.get(timeout=DEADLINE_S)
    standing.leader.stop(release=False)
    assert set(drained(standing.port.written)) == {"me"}


def test_a_renewal_that_hangs_ends_the_process_at_the_deadline(standing: Standing) -> None:
    standing.leader.start()
    standing.led.get(timeout=DEADLINE_S)
    hanging = Queue[Lease]()
    standing.port.write_answer = lambda holder: hanging.get()
    began = time.monotonic()
    assert standing.ended.get(timeout=DEADLINE_S) == EXIT_LOST
    assert time.monotonic() - began < QUICK.deadline + BUSY_S
    assert not standing.leader.may_write()
    hanging.put(Lease("3", "me"))


def test_another_holder_ends_the_process_at_once_even_where_nobody_reads_its_log(standing: Standing) -> None:
    standing.leader.start()
    standing.led.get(timeout=DEADLINE_S)
    hanging = Queue[None]()
    standing.notes.note = lambda event, **fields: hanging.get()  # type: ignore[method-assign]

    def refuse(holder: str) -> Lease:
        raise ConflictError("another version")

    standing.port.answer = lambda: Lease("9", "ada")
    standing.port.write_answer = refuse
    assert standing.ended.get(timeout=DEADLINE_S) == EXIT_LOST
    assert standing.leader.elector.lost == "the Lease is held by ada"
    hanging.put(None)


def test_what_the_adapter_did_not_foresee_is_told_and_tried_again(standing: Standing) -> None:
    def fail() -> Lease:
        raise ValueError("what is this")

    standing.port.answer = fail
    standing.leader.start()
    assert standing.notes.failures.get(timeout=DEADLINE_S) == "electing: the Lease: ValueError: what is this"
    assert standing.leader.problem() == "the Lease: ValueError: what is this"
    standing.port.answer = lambda: Lease("1", released=True)
    standing.led.get(timeout=DEADLINE_S)


def test_what_the_machine_knows_to_be_lost_is_not_written_whatever_the_time() -> None:
    standing = Standing(FOR_GOOD)
    standing.leader.start()
    standing.led.get(timeout=DEADLINE_S)
    assert standing.leader.may_write()
    standing.port.ours = False
    assert not standing.leader.may_write()
    standing.leader.stop(release=True)


# Two daemons on one folder


@pytest.fixture
def two(tmp_path: Path) -> Iterator[tuple[Daemon, Daemon]]:
    folder = tmp_path / "manifests"
    folder.mkdir()
    documents = [launch_document("shop"), route_document("shop"), *slice_documents("shop")]
    for number, document in enumerate(documents):
        document["metadata"]["namespace"] = "prod"
        (folder / f"{number}.yaml").write_text(json.dumps(document))
    token = tmp_path / "token"
    token.write_text("secret")
    daemons = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        flags = [
            f"--folder={folder}",
            "--tick=500ms",
            f"--webhook-token-file={token}",
            "--prometheus=http://127.0.0.1:1",
        ]
        daemons.append(Daemon(tmp_path / name, flags, environment={"POD_NAME": name}))
    daemons[0].start()
    daemons[0].wait_ready()
    daemons[1].start()
    daemons[1].wait_ready()
    try:
        yield daemons[0], daemons[1]
    finally:
        for daemon in daemons:
            daemon.kill9()


def _leads(daemon: Daemon) -> bool:
    return "autoadvance_leader 1.0" in daemon.metrics()


def test_of_two_daemons_on_a_folder_one_decides(two: tuple[Daemon, Daemon]) -> None:
    one, other = two
    wait_until(lambda: "autoadvance_launch_state{" in one.metrics(), deadline_s=DEADLINE_S, what="the first to decide")
    assert _leads(one)
    assert other.live()
    assert other.ready()
    shown = other.metrics()
    assert "autoadvance_leader 0.0" in shown
    assert not [
        line for line in shown.splitlines() if line.startswith(("autoadvance_launch_", "autoadvance_criterion_"))
    ]
    assert 'autoadvance_writes_total{of="status",outcome="done"} 0.0' in shown
    told = requests.post(
        f"http://127.0.0.1:{other.port}/webhook/alertmanager",
        json={"alerts": [{"labels": {"namespace": "prod"}}]},
        headers={"Authorization": "Bearer secret"},
        timeout=10,
    )
    assert told.status_code == 200
    assert "decision" not in other.log.read_text()
    one.kill9()
    killed = time.monotonic()
    wait_until(lambda: _leads(other), deadline_s=DEADLINE_S, what="the other to lead")
    assert time.monotonic() - killed < TAKEN_OVER_S + BUSY_S
    wait_until(lambda: "autoadvance_launch_state{" in other.metrics(), deadline_s=DEADLINE_S, what="it to decide")


def test_a_daemon_that_stood_still_on_its_folder_goes_on(two: tuple[Daemon, Daemon]) -> None:
    one, other = two
    os.kill(one.pid, signal.SIGSTOP)
    with pytest.raises(TimeoutError):
        wait_until(lambda: _leads(other), deadline_s=7.0, what="the other to lead")
    os.kill(one.pid, signal.SIGCONT)
    assert _leads(one)
    assert one.terminate() == 0
    wait_until(lambda: _leads(other), deadline_s=TAKEN_OVER_S + BUSY_S, what="the other to lead")

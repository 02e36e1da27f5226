"""Events on their way to an API server: nobody waits for it, nothing is lost silently, and a real server takes them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from controller.adapters.events import AGAIN_SECONDS, SERIES_SECONDS, TOO_OLD_SECONDS, EventWriter, event_document
from controller.adapters.kubernetes import Kubernetes
from controller.core.events import LONGEST_NOTE, Event, events_of
from controller.core.world import LaunchKey
from controller.errors import AdapterError, RefusedError, UnansweredError
from tests.adapters import faulty_proxy
from tests.adapters.faulty_proxy import FaultyProxy
from tests.adapters.grounds import KubeGround, launch_document, launch_key, running
from tests.core.builders import Course, course, ramp
from tests.realparts.kube import KubeApiserver
from tests.realparts.server import wait_until

DEADLINE = 10.0
NOTHING = UnansweredError("the API server does not answer")


def event(number: int = 1, **changes: Any) -> Event:
    usual = Event(
        LaunchKey("prod", "shop"),
        at=1_700_000_000.123456,
        decision=f"1-{number}",
        reason="StepDone",
        action="Raise",
        note=f"on to 30% (decision 1-{number})",
        annotations={"decision": f"1-{number}"},
    )
    return replace(usual, **changes)


class Server:
    """What stands for an API server: it keeps what it is given, unless ``fault`` says otherwise."""

    def __init__(self) -> None:
        self.kept: list[Event] = []
        self.tries = 0
        self.fault: Callable[[Event], AdapterError | None] = lambda event: None
        self.changed = threading.Condition()

    def __call__(self, event: Event) -> None:
        with self.changed:
            self.tries += 1
            self.changed.notify_all()
        error = self.fault(event)
        if error is not None:
            raise error
        with self.changed:
            self.kept.append(event)
            self.changed.notify_all()

    def wait_for(self, holds: Callable[[], bool]) -> None:
        with self.changed:
            assert self.changed.wait_for(holds, DEADLINE), (self.tries, self.kept)


class Clock:
    """A clock without steps, turned by hand."""

    def __init__(self) -> None:
        self.at = 100.0

    def __call__(self) -> float:
        return self.at


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def dropped() -> list[str]:
    return []


Writer = Callable[..., EventWriter]


@pytest.fixture
def writer(server: Server, clock: Clock, dropped: list[str]) -> Iterator[Writer]:
    """Writers to that server, ended with the test."""
    started: list[EventWriter] = []

    def start(**options: Any) -> EventWriter:
        started.append(EventWriter(server, lambda error: dropped.append(str(error)), steady=clock, **options))
        return started[-1]

    yield start
    server.fault = lambda event: RefusedError("the test is over")
    for one in started:
        one.stop()


def say(writer: EventWriter, *events: Event) -> None:
    writer.publish(lambda: events)


def test_events_are_written_in_their_order(writer: Writer, server: Server, dropped: list[str]) -> None:
    said = [event(number) for number in range(5)]
    one = writer()
    say(one, *said[:2])
    say(one, *said[2:])
    server.wait_for(lambda: server.kept == said)
    assert dropped == []


def test_what_is_told_again_within_a_minute_is_written_once(writer: Writer, server: Server, clock: Clock) -> None:
    one = writer()
    for second in range(3):
        say(one, event(at=float(second), note=f"try {second}"))
    say(one, event(2))
    server.wait_for(lambda: len(server.kept) == 2)
    assert [each.note for each in server.kept] == ["try 0", "on to 30% (decision 1-2)"]
    clock.at += AGAIN_SECONDS
    say(one, event(at=60.0, note="try 60"))
    server.wait_for(lambda: len(server.kept) == 3)
    assert server.kept[2] == event(at=0.0, note="try 0", times=4, latest=60.0)
    assert server.kept[2].name == server.kept[0].name
    clock.at += SERIES_SECONDS
    say(one, event(at=500.0, note="try 500"))
    server.wait_for(lambda: len(server.kept) == 4)
    assert server.kept[3] == event(at=500.0, note="try 500")


def test_an_event_is_tried_again_while_nobody_answers(writer: Writer, server: Server, dropped: list[str]) -> None:
    server.fault = lambda event: NOTHING if server.tries <= 2 else None
    say(writer(), event(1), event(2))
    server.wait_for(lambda: server.kept == [event(1), event(2)])
    assert server.tries == 4
    assert dropped == []


def test_an_event_that_grew_too_old_is_dropped_and_told(
    writer: Writer, server: Server, clock: Clock, dropped: list[str]
) -> None:
    def fails(event: Event) -> AdapterError | None:
        clock.at += TOO_OLD_SECONDS + 1 if event.decision == "1-1" else 0
        return NOTHING if event.decision == "1-1" else None

    server.fault = fails
    one = writer()
    say(one, event(1))
    server.wait_for(lambda: server.tries == 1)
    say(one, event(2))
    server.wait_for(lambda: server.kept == [event(2)])
    assert dropped == ["launch prod/shop: the event StepDone was not written: the API server does not answer"]


def test_a_refused_event_is_dropped_at_once_and_the_next_one_is_written(
    writer: Writer, server: Server, dropped: list[str]
) -> None:
    server.fault = lambda event: RefusedError("events is forbidden") if event.decision == "1-1" else None
    say(writer(), event(1), event(2))
    server.wait_for(lambda: server.kept == [event(2)])
    assert dropped == ["launch prod/shop: the event StepDone was not written: events is forbidden"]


def test_events_that_cannot_be_told_are_dropped_and_the_next_ones_are_written(
    writer: Writer, server: Server, dropped: list[str]
) -> None:
    one = writer()

    def broken() -> tuple[Event, ...]:
        raise KeyError("main")

    one.publish(broken)
    say(one, event(2))
    server.wait_for(lambda: server.kept == [event(2)])
    assert dropped == ["the events of a decision cannot be told: KeyError('main')"]


def test_nobody_waits_for_a_server_that_hangs_and_what_does_not_fit_is_counted(
    writer: Writer, server: Server, dropped: list[str]
) -> None:
    hangs = threading.Event()

    def hang(event: Event) -> None:
        hangs.wait(DEADLINE)

    server.fault = hang
    one = writer(waiting=4)
    say(one, event(0))
    server.wait_for(lambda: server.tries == 1)
    began = time.monotonic()
    for number in range(1, 11):
        say(one, event(number))
    assert time.monotonic() - began < 1.0
    assert len(dropped) == 6
    assert set(dropped) == {"the events of a decision were dropped: they are not written fast enough"}
    began = time.monotonic()
    one.stop()
    assert time.monotonic() - began < 3.0
    hangs.set()


def test_stopping_writes_what_waits_and_tries_nothing_twice(writer: Writer, server: Server, dropped: list[str]) -> None:
    one = writer()
    server.fault = lambda event: NOTHING if event.decision == "1-1" else None
    say(one, event(1))
    server.wait_for(lambda: server.tries >= 1)
    say(one, event(2), event(3))
    one.stop()
    assert server.kept == [event(2), event(3)]
    assert len(dropped) == 1
    assert not one._thread.is_alive()


def test_an_event_is_about_the_launch_and_names_the_decision() -> None:
    document = event_document(event(warning=True), "some-uid")
    assert document["metadata"]["namespace"] == "prod"
    assert document["metadata"]["annotations"] == {"autoadvance.dev/decision": "1-1"}
    assert document["regarding"] == {
        "apiVersion": "autoadvance.dev/v1alpha1",
        "kind": "Launch",
        "namespace": "prod",
        "name": "shop",
        "uid": "some-uid",
    }
    assert (document["type"], document["reason"], document["action"]) == ("Warning", "StepDone", "Raise")
    assert document["eventTime"] == "2023-11-14T22:13:20.123456Z"
    assert "uid" not in event_document(event(), "")["regarding"]


# On a real API server


@pytest.fixture
def ground(kube: KubeApiserver, namespace: str) -> KubeGround:
    return KubeGround(kube, namespace)


def stored(ground: KubeGround) -> list[dict[str, Any]]:
    path = f"/apis/events.k8s.io/v1/namespaces/{ground.namespace}/events"
    items: list[dict[str, Any]] = ground.kube.call("GET", path)["items"]
    return sorted(items, key=lambda item: (item["eventTime"], item["reason"]))


def every_kind_of_event(key: LaunchKey) -> list[Event]:
    """Those of a launch with overrides and checkpoints, and ones with what may be longest in them."""
    phase = ramp(checkpoints=["1m"], gate={"after": "1h", "approval": {"role": "lead"}})
    launched: Course = course(phases=[phase])
    told: list[Event] = []
    for tick in range(20):
        launched.annotations = {"hold": "a look"} if tick == 5 else {"approve": "nothing"} if tick == 8 else {}
        decision = launched.tick()
        if decision.decisive:
            told += events_of(key, decision)
    (checkpoint,) = [each for each in told if each.reason == "CheckpointTaken"]
    told.append(replace(checkpoint, at=checkpoint.at + 1, note="x" * LONGEST_NOTE, reason="y" * 128, action="z" * 128))
    told.append(replace(checkpoint, at=checkpoint.at + 2, annotations={"checkpoint": "x" * 128 * 1024}))
    return told


def test_an_api_server_takes_every_kind_of_event_once_and_they_are_found_with_the_launch(ground: KubeGround) -> None:
    ground.create(launch_document())
    cluster = Kubernetes(ground.settings())
    told = every_kind_of_event(launch_key(ground))
    with running(cluster):
        for each in (*told, *told[:3]):
            cluster.write_event(each)
        launch = cluster.launch(launch_key(ground))
    assert launch is not None
    found = stored(ground)
    assert sorted(item["note"] for item in found) == sorted(each.note for each in told)
    assert {item["regarding"]["uid"] for item in found} == {launch.uid}
    assert {item["reason"] for item in found} > {"Starting", "OverrideAccepted", "OverrideRefused", "CheckpointTaken"}
    query = f"involvedObject.uid={launch.uid},involvedObject.name=shop"
    old = ground.kube.call("GET", f"/api/v1/namespaces/{ground.namespace}/events", fieldSelector=query)["items"]
    assert len(old) == len(told), "kubectl describe asks like this"


def test_what_happens_again_is_counted_in_the_event_of_its_first_time(ground: KubeGround) -> None:
    cluster = Kubernetes(ground.settings())
    first = event(key=launch_key(ground))
    cluster.write_event(first)
    cluster.write_event(replace(first, times=2, latest=first.at + 60))
    cluster.write_event(replace(first, times=7, latest=first.at + 120))
    (found,) = stored(ground)
    assert found["series"] == {"count": 7, "lastObservedTime": "2023-11-14T22:15:20.123456Z"}
    assert found["note"] == first.note
    path = f"/apis/events.k8s.io/v1/namespaces/{ground.namespace}/events/{first.name}"
    ground.kube.call("DELETE", path)
    cluster.write_event(replace(first, times=8, latest=first.at + 180))
    (found,) = stored(ground)
    assert found["series"]["count"] == 8, "one that was forgotten is written again"


def test_an_identity_that_may_not_create_events_is_told_so_and_loses_nothing_else(
    kube: KubeApiserver, ground: KubeGround
) -> None:
    cluster = Kubernetes(ground.settings(kubeconfig=str(kube.kubeconfig("person"))))
    with pytest.raises(RefusedError, match=r'Launch .*/shop: event StepDone: .* cannot create resource "events"'):
        cluster.write_event(event(key=launch_key(ground)))


@pytest.mark.parametrize(
    "fault",
    [faulty_proxy.drop_request(), faulty_proxy.drop_answer(), faulty_proxy.answer(503)],
    ids=lambda fault: str(fault.name),
)
def test_an_event_comes_through_once_whatever_happens_to_its_first_tries(
    kube: KubeApiserver, ground: KubeGround, tmp_path: Any, dropped: list[str], fault: faulty_proxy.Fault
) -> None:
    with FaultyProxy(kube, tmp_path) as proxy:
        proxy.when("POST", "events", fault, nth=1)
        cluster = Kubernetes(ground.settings(kubeconfig=proxy.kubeconfig()))
        writer = EventWriter(cluster.write_event, lambda error: dropped.append(str(error)))
        say(writer, event(key=launch_key(ground)))
        wait_until(lambda: stored(ground), deadline_s=60, what="the event")
        writer.stop()
    assert [item["note"] for item in stored(ground)] == [event().note]
    assert dropped == []

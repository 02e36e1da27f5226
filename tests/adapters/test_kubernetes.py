"""The API server as the cluster: what goes wrong between it and us, made by a proxy or done to the server itself."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from controller.adapters import api_server as adapter
from controller.adapters.api_server import KubernetesSettings
from controller.adapters.kubernetes import Kubernetes
from controller.core.events import Event
from controller.core.status import Run, Status, write_status
from controller.core.world import LaunchKey, RoutePatch, WeightEdit
from controller.errors import AdapterError, ConflictError, NotFoundError, RefusedError, UnansweredError
from tests.adapters import faulty_proxy
from tests.adapters.faulty_proxy import FaultyProxy
from tests.adapters.grounds import (
    DEADLINE_S,
    KubeGround,
    launch_document,
    launch_key,
    pod_document,
    route_document,
    route_key,
    running,
    slice_of_pods,
    workload_document,
)
from tests.realparts.fixtures import KubeFactory
from tests.realparts.kube import KubeApiserver
from tests.realparts.server import wait_until

Start = Callable[..., Kubernetes]
KINDS = 4  # launches, HTTPRoutes, GRPCRoutes, EndpointSlices
ENDLESS_S = 30.0
"""What lasts longer waits for something that hangs for a minute or for ever, however slow the machine is."""


@pytest.fixture
def ground(kube: KubeApiserver, namespace: str) -> KubeGround:
    return KubeGround(kube, namespace)


@pytest.fixture
def proxy(kube: KubeApiserver, tmp_path: Path) -> Iterator[FaultyProxy]:
    with FaultyProxy(kube, tmp_path) as started:
        yield started


@pytest.fixture
def start(ground: KubeGround, proxy: FaultyProxy) -> Iterator[Start]:
    """A started adapter behind the proxy; synced unless told otherwise."""
    with ExitStack() as stack:

        def started(*, synced: bool = True, **settings: Any) -> Kubernetes:
            cluster = Kubernetes(ground.settings(kubeconfig=proxy.kubeconfig(), **settings))
            stack.callback(cluster.stop)
            cluster.start()
            if synced:
                until(cluster.synced, "the first lists")
            return cluster

        yield started


def until(question: Callable[[], Any], what: str) -> Any:
    return wait_until(question, deadline_s=DEADLINE_S, what=what)


def watching() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("watch ")]


def lowering(cluster: Kubernetes, ground: KubeGround) -> RoutePatch:
    route = cluster.read_route(route_key(ground))
    return RoutePatch(route.key, route.uid, None, (WeightEdit(0, 0, "stable", 100), WeightEdit(0, 1, "canary", 0)), "9")


def canary_weight(ground: KubeGround) -> int:
    weight: int = ground.raw("HTTPRoute", "shop")["spec"]["rules"][0]["backendRefs"][1]["weight"]
    return weight


# The watch


def test_a_watch_that_is_cut_goes_on_where_it_was_without_a_new_list(
    start: Start, ground: KubeGround, proxy: FaultyProxy
) -> None:
    ground.create(launch_document("a"))
    cluster = start()
    until(lambda: proxy.count("WATCH") == KINDS, "the watches")
    lists = proxy.count("GET")
    proxy.cut()
    ground.create(launch_document("b"))
    until(lambda: cluster.launch(launch_key(ground, "b")), "the new launch")
    assert proxy.count("GET") == lists
    until(lambda: cluster.problem() == "", "the problem to be over")


def test_what_a_silent_watch_does_not_bring_is_read_again(start: Start, ground: KubeGround, proxy: FaultyProxy) -> None:
    ground.create(launch_document("a"))
    cluster = start()
    until(lambda: proxy.count("WATCH") == KINDS, "the watches")
    silent = threading.Event()
    proxy.when("WATCH", "", faulty_proxy.hold(silent))
    proxy.cut()
    until(lambda: proxy.count("WATCH") >= 2 * KINDS, "the watches again")
    ground.create(launch_document("b"))
    assert cluster.launch(launch_key(ground, "b")) is None
    cluster.read_again()
    assert cluster.launch(launch_key(ground, "b")) is not None
    assert cluster.launch(launch_key(ground, "a")) is not None
    silent.set()


@pytest.mark.parametrize(
    "expired",
    [
        faulty_proxy.answer(410, {"kind": "Status", "code": 410, "message": "too old resource version"}),
        faulty_proxy.answer(
            200, {"type": "ERROR", "object": {"kind": "Status", "code": 410, "message": "too old resource version"}}
        ),
    ],
    ids=["as the answer", "as an event"],
)
def test_a_version_that_is_too_old_leads_to_a_new_list(
    start: Start, ground: KubeGround, proxy: FaultyProxy, expired: faulty_proxy.Fault
) -> None:
    ground.create(launch_document("a"))
    proxy.when("WATCH", "launches", expired, nth=1)
    cluster = start()
    ground.create(launch_document("b"))
    until(lambda: cluster.launch(launch_key(ground, "b")), "the new launch")
    assert proxy.count("GET", "launches") == 2
    until(lambda: cluster.problem() == "", "no problem")


def test_what_went_while_the_watch_was_away_is_gone_after_the_new_list_and_wakes_listeners(
    start: Start, ground: KubeGround, proxy: FaultyProxy
) -> None:
    ground.create(launch_document("a"))
    cluster = start()
    until(lambda: proxy.count("WATCH", "launches") == 1, "the watch")
    woken: list[LaunchKey] = []
    cluster.subscribe(woken.append)
    stop_refusing = proxy.when("*", "launches$", faulty_proxy.answer(503))
    proxy.cut()
    ground.delete("Launch", "a")
    until(lambda: "503" in cluster.problem(), "the problem")
    proxy.when("WATCH", "launches$", faulty_proxy.answer(410), nth=1)
    stop_refusing()
    until(lambda: cluster.launch(launch_key(ground, "a")) is None, "the launch to be gone")
    until(lambda: woken == [launch_key(ground, "a")], "the call of the listener")


@pytest.mark.parametrize(
    ("verb", "fault"),
    [
        ("WATCH", faulty_proxy.drop_request()),
        ("WATCH", faulty_proxy.answer(403)),
        ("WATCH", faulty_proxy.answer(410)),
        ("WATCH", faulty_proxy.answer(200, b"")),
        ("WATCH", faulty_proxy.answer(200, b'{"type": "SURPRISE", "object": {}}\n')),
        ("*", faulty_proxy.drop_request()),
        ("*", faulty_proxy.answer(429, Retry_After="3600")),
        ("*", faulty_proxy.answer(200, b"<html>\n")),
        ("*", faulty_proxy.answer(301, Location="https://127.0.0.1:1/")),
    ],
    ids=lambda value: getattr(value, "name", value),
)
def test_a_lasting_fault_costs_few_requests_is_named_and_passes(
    ground: KubeGround, proxy: FaultyProxy, fault: faulty_proxy.Fault, verb: str
) -> None:
    mend = proxy.when(verb, "launches", fault)
    told: list[str] = []
    cluster = Kubernetes(ground.settings(kubeconfig=proxy.kubeconfig(), longest_wait_s=1.0), told.append)
    try:
        cluster.start()
        began = time.monotonic()
        until(
            lambda: time.monotonic() > began + 2.0 and proxy.count("*", "launches") >= 3, "two seconds, three requests"
        )
        # waits of 0.2, 0.4, 0.8, 1, 1 ... seconds, each at least half of it; a 410 also costs a list each time
        count = proxy.count("*", "launches")
        assert count <= 2 * (3 + 2 * (time.monotonic() - began))
        assert "launches" in cluster.problem()
        assert len(told) == 1
        mend()
        ground.create(launch_document("b"))
        until(lambda: cluster.launch(launch_key(ground, "b")), "the launch")
        until(lambda: cluster.synced() and cluster.problem() == "", "no problem")
    finally:
        cluster.stop()


def test_an_identity_without_rights_is_told_so(kube: KubeApiserver, ground: KubeGround) -> None:
    cluster = Kubernetes(ground.settings(kubeconfig=str(kube.kubeconfig("person"))))
    cluster.start()
    try:
        until(lambda: "403" in cluster.problem() and "cannot list resource" in cluster.problem(), "the refusal")
        assert not cluster.synced()
        with pytest.raises(RefusedError, match="403"):
            cluster.read_launch(launch_key(ground))
    finally:
        cluster.stop()


def test_the_rights_that_are_documented_are_enough_in_one_namespace(kube: KubeApiserver, ground: KubeGround) -> None:
    read = ["get", "list", "watch"]
    kube.grant(
        "controller",
        [
            {"apiGroups": ["autoadvance.dev"], "resources": ["launches"], "verbs": [*read, "patch"]},
            {"apiGroups": ["autoadvance.dev"], "resources": ["launches/status"], "verbs": ["patch"]},
            {
                "apiGroups": ["gateway.networking.k8s.io"],
                "resources": ["httproutes", "grpcroutes"],
                "verbs": [*read, "patch"],
            },
            {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list", "watch"]},
            {
                "apiGroups": ["apps"],
                "resources": ["deployments", "statefulsets", "daemonsets"],
                "verbs": ["list", "watch"],
            },
            {"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]},
            {"apiGroups": ["events.k8s.io"], "resources": ["events"], "verbs": ["create", "patch"]},
        ],
        namespace=ground.namespace,
    )
    ground.create(launch_document())
    ground.create(route_document(canary=7))
    ground.create(workload_document())
    ground.create(pod_document("a", track="canary"))
    ground.create(slice_of_pods("canary-1", "canary", "a"))
    cluster = Kubernetes(ground.settings(kubeconfig=str(kube.kubeconfig("controller"))))
    with running(cluster):
        cluster.write_status(cluster.read_launch(launch_key(ground)), write_status(Status(epoch=1)))
        cluster.patch_route(lowering(cluster, ground))
        happened = Event(launch_key(ground), 1.0, "1-1", "StepDone", "Raise", "on to 30%")
        cluster.write_event(happened)
        cluster.write_event(replace(happened, times=2, latest=2.0))
        launch = cluster.set_finalizer(cluster.read_launch(launch_key(ground)), True)
        ground.begin_to_delete("Launch", "shop")
        cluster.set_finalizer(cluster.read_launch(launch.key), False)
        until(lambda: cluster.template(ground.namespace, "Deployment", "canary"), "the template")
        until(lambda: cluster.pod_versions(ground.namespace, "canary", "track") == {"canary": 1}, "the versions")
        assert cluster.problem() == ""
    assert canary_weight(ground) == 0
    assert not ground.exists("Launch", "shop")


def test_a_list_is_read_page_by_page_and_again_when_its_version_expires_in_the_middle(
    start: Start, ground: KubeGround, proxy: FaultyProxy
) -> None:
    names = [f"launch-{number}" for number in range(5)]
    for name in names:
        ground.create(launch_document(name))
    proxy.when("GET", "launches", faulty_proxy.answer(410), nth=2)
    cluster = start(page_size=2)
    assert sorted(launch.key.name for launch in cluster.launches()) == names
    assert proxy.count("GET", "launches") == 2 + 3


def test_a_quiet_watch_is_renewed_without_a_list_and_without_a_problem(start: Start, proxy: FaultyProxy) -> None:
    cluster = start(watch_s=1.0, watch_silence_s=60.0)
    until(lambda: proxy.count("WATCH", "launches") >= 4, "three renewals")
    assert cluster.problem() == ""
    assert proxy.count("GET") == KINDS


# What is followed or read only where somebody asks


def until_template(cluster: Kubernetes, ground: KubeGround, name: str = "canary") -> str:
    template: str = until(lambda: cluster.template(ground.namespace, "Deployment", name), f"the template of {name}")
    return template


def test_a_kind_of_workloads_is_listed_once_when_the_first_is_asked_for_and_then_only_watched(
    start: Start, ground: KubeGround, proxy: FaultyProxy
) -> None:
    ground.create(workload_document())
    cluster = start()
    until(lambda: proxy.count("WATCH") == KINDS, "the watches")
    requests = proxy.count()
    assert proxy.count("*", "/apis/apps/") == 0
    for number in range(100):
        cluster.template(ground.namespace, "Deployment", f"name-{number}")
    until_template(cluster, ground)
    until(lambda: proxy.count("WATCH", "deployments") == 1, "the watch")
    for _ in range(100):
        until_template(cluster, ground)
    assert proxy.count() == requests + 2
    assert proxy.count("GET", "deployments") == 1
    assert cluster.problem() == ""


@pytest.mark.parametrize("fault", [None, faulty_proxy.answer(410)], ids=["cut", "too old"])
def test_a_template_that_changed_while_its_watch_was_away_is_seen_and_wakes_the_launch(
    start: Start, ground: KubeGround, proxy: FaultyProxy, fault: faulty_proxy.Fault | None
) -> None:
    ground.create(launch_document())
    ground.create(workload_document())
    cluster = start()
    target = {"name": "main", "canary": {"name": "canary", "workload": {"kind": "Deployment", "name": "canary"}}}
    run = Run(number=1, revision="v2", started_at=0.0, stands_on={"targets": [target]})
    cluster.write_status(cluster.read_launch(launch_key(ground)), write_status(Status(run=run)))
    before = until_template(cluster, ground)
    until(lambda: proxy.count("WATCH", "deployments") == 1, "the watch")
    woken: list[LaunchKey] = []
    cluster.subscribe(woken.append)
    stop_refusing = proxy.when("*", "deployments", faulty_proxy.answer(503))
    proxy.cut()
    ground.edit(
        "Deployment", "canary", lambda document: document["spec"]["template"]["metadata"]["labels"].update(a="b")
    )
    until(lambda: "deployments" in cluster.problem(), "the problem")
    if fault is not None:
        proxy.when("WATCH", "deployments", fault, nth=1)
    stop_refusing()
    until(lambda: until_template(cluster, ground) != before, "the new template")
    until(lambda: woken == [launch_key(ground)], "the call of the listener")
    until(lambda: cluster.problem() == "", "no problem")


def test_without_the_right_to_list_workloads_only_their_templates_are_not_known(
    start: Start, ground: KubeGround, proxy: FaultyProxy
) -> None:
    ground.create(launch_document())
    ground.create(workload_document())
    proxy.when("*", "deployments", faulty_proxy.answer(403, {"message": "deployments is forbidden"}))
    cluster = start()
    assert cluster.template(ground.namespace, "Deployment", "canary") is None
    until(lambda: "deployments is forbidden" in cluster.problem(), "the problem")
    assert cluster.synced()
    assert cluster.template(ground.namespace, "Deployment", "canary") is None
    assert [launch.key for launch in cluster.launches()] == [launch_key(ground)]


def test_the_pods_of_a_namespace_are_listed_once_however_many_ask(
    start: Start, ground: KubeGround, proxy: FaultyProxy
) -> None:
    ground.create(pod_document("a", track="canary", version="2"))
    for service in ("one", "two"):
        ground.create(slice_of_pods(f"{service}-1", service, "a"))
    cluster = start()
    assert proxy.count("*", "pods") == 0
    until(lambda: cluster.pod_versions(ground.namespace, "one", "track") == {"canary": 1}, "the versions")
    for _ in range(100):
        assert cluster.pod_versions(ground.namespace, "one", "track") == {"canary": 1}
        assert cluster.pod_versions(ground.namespace, "two", "track") == {"canary": 1}
        assert cluster.pod_versions(ground.namespace, "no-such-service", "track") is None
    # what nobody asked for was not kept; the next list brings it
    assert cluster.pod_versions(ground.namespace, "one", "version") is None
    assert proxy.count("*", "pods") == 1


def test_pods_are_listed_again_for_a_label_that_was_not_asked_for_before_and_for_what_has_changed(
    start: Start, ground: KubeGround
) -> None:
    ground.create(pod_document("a", track="canary", version="2"))
    ground.create(slice_of_pods("one-1", "one", "a"))
    cluster = start(pods_each_s=0.1)
    until(lambda: cluster.pod_versions(ground.namespace, "one", "track") == {"canary": 1}, "the versions")
    until(lambda: cluster.pod_versions(ground.namespace, "one", "version") == {"2": 1}, "the other label")
    ground.edit("Pod", "a", lambda document: document["metadata"]["labels"].pop("version"))
    until(lambda: cluster.pod_versions(ground.namespace, "one", "version") == {"": 1}, "the change")
    ground.delete("Pod", "a")
    until(lambda: cluster.pod_versions(ground.namespace, "one", "version") is None, "the pod to be gone")


def test_a_pod_that_came_back_under_its_name_is_not_the_one_that_was_ready(start: Start, ground: KubeGround) -> None:
    ground.create(pod_document("a", version="2"))
    document = slice_of_pods("one-1", "one", "a")
    document["endpoints"][0]["targetRef"]["uid"] = "another"
    ground.create(document)
    ground.create(slice_of_pods("two-1", "two", "a"))
    cluster = start()
    until(lambda: cluster.pod_versions(ground.namespace, "two", "version") == {"2": 1}, "the versions by name")
    assert cluster.pod_versions(ground.namespace, "one", "version") is None


def test_nobody_waits_for_pods_and_a_failure_is_told(kube: KubeApiserver, ground: KubeGround, tmp_path: Path) -> None:
    told: list[str] = []
    ground.create(pod_document("a", track="canary"))
    ground.create(slice_of_pods("one-1", "one", "a"))
    with FaultyProxy(kube, tmp_path) as proxy:
        released = threading.Event()
        proxy.when("GET", "pods", faulty_proxy.hold(released))
        settings = ground.settings(kubeconfig=proxy.kubeconfig(), read_timeout_s=600.0, list_timeout_s=600.0)
        with running(Kubernetes(settings, told.append)) as cluster:
            began = time.monotonic()
            assert cluster.pod_versions(ground.namespace, "one", "track") is None
            until(lambda: proxy.count("GET", "pods") == 1, "the list that hangs")
            assert cluster.pod_versions(ground.namespace, "one", "track") is None
            proxy.cut()
            until(lambda: any(problem.startswith("pods: ") for problem in told), "the failure")
            assert cluster.pod_versions(ground.namespace, "one", "track") is None
        assert time.monotonic() - began < ENDLESS_S
        released.set()
        assert proxy.count("GET", "pods") == 1


# The server itself


@pytest.mark.alone
def test_a_server_that_hangs_is_noticed_within_the_time_outs_and_found_again(kube_factory: KubeFactory) -> None:
    kube = kube_factory()
    ground = KubeGround(kube, "default")
    ground.create(launch_document())
    cluster = Kubernetes(ground.settings(watch_s=1.0, watch_silence_s=3.0, read_timeout_s=3.0))
    with running(cluster):
        launch = cluster.read_launch(launch_key(ground))
        kube.pause()
        try:
            began = time.monotonic()
            with pytest.raises(UnansweredError, match="in time"):
                cluster.write_status(launch, write_status(Status(epoch=1)))
            assert time.monotonic() - began < ENDLESS_S
            until(lambda: "in time" in cluster.problem(), "the problem")
        finally:
            kube.resume()
        until(lambda: cluster.problem() == "", "no problem")
        ground.create(launch_document("b"))
        until(lambda: cluster.launch(launch_key(ground, "b")), "the new launch")


@pytest.mark.alone
def test_a_server_that_is_killed_and_started_again_is_followed_again(kube_factory: KubeFactory) -> None:
    kube = kube_factory()
    ground = KubeGround(kube, "default")
    ground.create(launch_document())
    cluster = Kubernetes(ground.settings(longest_wait_s=1.0))
    with running(cluster):
        before = cluster.read_launch(launch_key(ground))
        kube.kill9()
        with pytest.raises(UnansweredError):
            cluster.read_launch(launch_key(ground))
        until(lambda: "refused" in cluster.problem(), "the problem")
        assert cluster.launch(launch_key(ground)) == before
        kube.start()
        until(lambda: cluster.problem() == "", "no problem")
        ground.edit("Launch", "shop", lambda document: document["spec"].update(revision="v3"))
        until(lambda: (cluster.launch(launch_key(ground)) or before).generation == 2, "the edit")


@pytest.mark.alone
def test_without_our_definition_it_says_so_and_without_grpcroutes_it_works(kube_factory: KubeFactory) -> None:
    kube = kube_factory(crds=False)
    cluster = Kubernetes(KubernetesSettings(kubeconfig=str(kube.kubeconfig("admin")), longest_wait_s=0.5))
    cluster.start()
    try:
        until(lambda: "does not know launches of autoadvance.dev" in cluster.problem(), "the problem with launches")
        until(lambda: "does not know httproutes" in cluster.problem(), "the problem with HTTPRoutes")
        assert not cluster.synced()
        assert "grpcroutes" not in cluster.problem()
        kube.install_crds()
        until(cluster.synced, "the lists")
        until(lambda: cluster.problem() == "", "no problem")
        ground = KubeGround(kube, "default")
        ground.create(route_document(kind="GRPCRoute"))
        until(lambda: cluster.route(route_key(ground, kind="GRPCRoute")), "the route of the kind that came later")
    finally:
        cluster.stop()


# Requests


def test_a_write_whose_answer_is_lost_is_sent_once_and_reported_as_unanswered(
    start: Start, ground: KubeGround, proxy: FaultyProxy
) -> None:
    ground.create(route_document(canary=7))
    cluster = start()
    patch = lowering(cluster, ground)
    proxy.when("PATCH", "httproutes", faulty_proxy.drop_answer())
    with pytest.raises(UnansweredError, match=r"HTTPRoute .*shop: the connection broke"):
        cluster.patch_route(patch)
    assert proxy.count("PATCH") == 1
    assert canary_weight(ground) == 0
    assert cluster.read_route(patch.key).rules[0].backends[1].weight == 0


def test_an_edit_between_the_read_and_the_write_of_a_finalizer_is_a_conflict(
    start: Start, ground: KubeGround, proxy: FaultyProxy
) -> None:
    ground.create(launch_document())
    cluster = start()
    launch = cluster.read_launch(launch_key(ground))

    def edit(_: faulty_proxy.Exchange) -> None:
        ground.edit("Launch", "shop", lambda document: document["metadata"].update(finalizers=["other.example/wait"]))

    proxy.when("PATCH", "launches", faulty_proxy.call(before=edit), nth=1)
    with pytest.raises(ConflictError, match="somebody else changed the launch"):
        cluster.set_finalizer(launch, True)
    assert ground.raw("Launch", "shop")["metadata"]["finalizers"] == ["other.example/wait"]
    assert cluster.set_finalizer(cluster.read_launch(launch.key), True).finalized


def test_a_launch_that_vanishes_under_the_removal_of_its_finalizer_is_no_error(
    start: Start, ground: KubeGround, proxy: FaultyProxy
) -> None:
    ground.create(launch_document())
    cluster = start()
    launch = cluster.set_finalizer(cluster.read_launch(launch_key(ground)), True)

    def vanish(_: faulty_proxy.Exchange) -> None:
        ground.begin_to_delete("Launch", "shop")
        ground.edit("Launch", "shop", lambda document: document["metadata"].pop("finalizers"))

    proxy.when("PATCH", "launches", faulty_proxy.call(before=vanish), nth=1)
    assert not cluster.set_finalizer(launch, False).finalized
    until(lambda: cluster.launch(launch.key) is None, "the launch to be gone")


def test_an_annotation_costs_one_request_and_is_sent_once_though_its_answer_is_lost(
    start: Start, ground: KubeGround, proxy: FaultyProxy
) -> None:
    ground.create(launch_document())
    cluster = start()
    requests = proxy.count()
    cluster.annotate(launch_key(ground), {"hold": "lunch"})
    assert proxy.count() == requests + 1
    proxy.when("PATCH", "launches", faulty_proxy.drop_answer())
    with pytest.raises(UnansweredError, match=r"Launch .*/shop: annotations: the connection broke"):
        cluster.annotate(launch_key(ground), {"hold": None})
    assert proxy.count("PATCH") == 2
    assert cluster.read_launch(launch_key(ground)).annotations == {}


def test_a_write_that_never_arrived_is_unanswered_too_and_nothing_changed(
    start: Start, ground: KubeGround, proxy: FaultyProxy
) -> None:
    ground.create(launch_document())
    cluster = start()
    launch = cluster.read_launch(launch_key(ground))
    proxy.when("PATCH", "launches", faulty_proxy.drop_request(), nth=1)
    with pytest.raises(UnansweredError):
        cluster.write_status(launch, write_status(Status(epoch=1)))
    assert ground.raw_status("shop") == {}
    assert proxy.count("PATCH") == 1
    assert cluster.write_status(launch, write_status(Status(epoch=1))).status == Status(epoch=1)


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (faulty_proxy.answer(500), UnansweredError),
        (faulty_proxy.answer(503), UnansweredError),
        (faulty_proxy.answer(429, Retry_After="3600"), UnansweredError),
        (faulty_proxy.answer(200, b"<html>"), UnansweredError),
        (faulty_proxy.answer(200, b"[]"), UnansweredError),
        (faulty_proxy.cut_after(40), UnansweredError),
        (faulty_proxy.drop_request(), UnansweredError),
        (faulty_proxy.trickle(5), UnansweredError),
        (faulty_proxy.answer(302, Location="https://127.0.0.1:1/"), RefusedError),
        (faulty_proxy.answer(400), RefusedError),
        (faulty_proxy.answer(403), RefusedError),
        (faulty_proxy.answer(404), NotFoundError),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_each_answer_becomes_one_error_at_once_and_after_one_request(
    ground: KubeGround, proxy: FaultyProxy, fault: faulty_proxy.Fault, kind: type[AdapterError]
) -> None:
    ground.create(launch_document())
    cluster = Kubernetes(ground.settings(kubeconfig=proxy.kubeconfig(), read_timeout_s=3.0))
    mend = proxy.when("*", "launches", fault)
    began = time.monotonic()
    with pytest.raises(kind, match=r"Launch .*/shop") as raised:
        cluster.read_launch(launch_key(ground))
    assert type(raised.value).__module__.startswith("controller.")
    assert time.monotonic() - began < ENDLESS_S
    assert proxy.count() == 1
    mend()
    assert cluster.read_launch(launch_key(ground)).key == launch_key(ground)


def test_a_request_that_hangs_ends_with_the_read_time_out(ground: KubeGround, proxy: FaultyProxy) -> None:
    ground.create(launch_document())
    cluster = Kubernetes(ground.settings(kubeconfig=proxy.kubeconfig(), read_timeout_s=0.3))
    released = threading.Event()
    proxy.when("GET", "launches", faulty_proxy.hold(released))
    with pytest.raises(UnansweredError, match="no answer in time"):
        cluster.read_launch(launch_key(ground))
    released.set()
    assert proxy.count() == 1


def test_a_value_that_the_schema_refuses_is_refused_with_the_servers_words(ground: KubeGround) -> None:
    ground.create(launch_document())
    cluster = Kubernetes(ground.settings())
    launch = cluster.read_launch(launch_key(ground))
    with pytest.raises(RefusedError, match="epoch"):
        cluster.write_status(launch, {"epoch": "three"})
    with pytest.raises(RefusedError, match="surprise"):
        cluster.write_status(launch, {"surprise": 1})
    assert ground.raw_status("shop") == {}


def test_credentials_are_read_again_after_a_401_once(kube: KubeApiserver, ground: KubeGround, tmp_path: Path) -> None:
    ground.create(launch_document())
    path = tmp_path / "kubeconfig"
    good = kube.kubeconfig("admin").read_text()
    stale = json.loads(good)
    stale["users"][0]["user"]["token"] = "expired"
    path.write_text(json.dumps(stale))
    cluster = Kubernetes(ground.settings(kubeconfig=str(path)))
    path.write_text(good)
    assert cluster.read_launch(launch_key(ground)).key == launch_key(ground)


def test_wrong_credentials_cost_two_requests_and_then_one_each(ground: KubeGround, proxy: FaultyProxy) -> None:
    cluster = Kubernetes(ground.settings(kubeconfig=proxy.kubeconfig()))
    proxy.when("GET", "launches", faulty_proxy.answer(401))
    for requests in (2, 3, 4):
        with pytest.raises(RefusedError, match="401"):
            cluster.read_launch(launch_key(ground))
        assert proxy.count() == requests


def test_the_environments_proxy_is_used_only_when_asked_for(
    ground: KubeGround, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    ground.create(launch_document())
    assert Kubernetes(ground.settings()).read_launch(launch_key(ground)).key == launch_key(ground)
    with pytest.raises(UnansweredError):
        Kubernetes(ground.settings(proxy_from_environment=True)).read_launch(launch_key(ground))


def test_a_configuration_that_is_missing_or_names_no_such_context_is_told_with_what_to_do(
    kube: KubeApiserver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(RefusedError, match=r"absent.*name another with --kubeconfig or KUBECONFIG"):
        Kubernetes(KubernetesSettings(kubeconfig=str(tmp_path / "absent")))
    with pytest.raises(RefusedError, match="nowhere"):
        Kubernetes(KubernetesSettings(kubeconfig=str(kube.kubeconfig("admin")), context="nowhere"))
    monkeypatch.setenv("KUBECONFIG", str(kube.kubeconfig("admin")))
    with pytest.raises(NotFoundError):
        Kubernetes(KubernetesSettings(context="admin")).read_launch(LaunchKey("default", "nothing"))


def test_a_launch_that_cannot_be_read_hides_no_other(kube: KubeApiserver, start: Start, ground: KubeGround) -> None:
    # an old object, stored before the schema was what it is: written past the current one
    ground.create(launch_document("good"))
    document = launch_document("odd")
    document["spec"]["phases"][0]["guardrails"] = [{"metric": "nobody-knows", "below": "1%"}]
    kube.call("POST", ground.path("Launch"), document)
    cluster = start()
    assert {launch.key.name for launch in cluster.launches()} == {"good", "odd"}


def test_in_a_pod_the_service_account_is_used(
    kube: KubeApiserver, ground: KubeGround, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ground.create(launch_document())
    (tmp_path / "token").write_text(kube.token("admin"))
    monkeypatch.setattr(adapter, "SERVICE_TOKEN_FILENAME", str(tmp_path / "token"))
    monkeypatch.setattr(adapter, "SERVICE_CERT_FILENAME", str(kube.ca_file))
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(kube.port))
    monkeypatch.delenv("KUBECONFIG", raising=False)
    assert Kubernetes(KubernetesSettings()).read_launch(launch_key(ground)).key == launch_key(ground)
    (tmp_path / "token").write_text("")
    with pytest.raises(RefusedError, match=r"the pod's service account cannot be used: .*empty"):
        Kubernetes(KubernetesSettings())


# Stopping


def test_it_stops_at_once_while_a_list_hangs_and_while_watches_are_quiet(
    start: Start, ground: KubeGround, proxy: FaultyProxy
) -> None:
    released = threading.Event()
    proxy.when("GET", "httproutes", faulty_proxy.hold(released))
    # None of its own time-outs may end what it waits for.
    cluster = start(synced=False, read_timeout_s=600.0, list_timeout_s=600.0, watch_s=600.0, watch_silence_s=600.0)
    cluster.template(ground.namespace, "Deployment", "canary")
    until(lambda: proxy.count("GET", "httproutes") == 1, "the list that hangs")
    until(lambda: proxy.count("WATCH", "launches") == 1, "a watch")
    until(lambda: proxy.count("WATCH", "deployments") == 1, "a watch that was asked for")
    began = time.monotonic()
    cluster.stop()
    assert time.monotonic() - began < ENDLESS_S
    until(lambda: not watching(), "the threads to end")
    assert cluster.problem() == ""
    released.set()


def test_stopping_does_not_disturb_a_write_in_flight(start: Start, ground: KubeGround, proxy: FaultyProxy) -> None:
    ground.create(launch_document())
    cluster = start()
    launch = cluster.read_launch(launch_key(ground))
    released = threading.Event()
    proxy.when("PATCH", "launches", faulty_proxy.hold(released))
    with ThreadPoolExecutor(1) as threads:
        write = threads.submit(cluster.write_status, launch, write_status(Status(epoch=5)))
        until(lambda: proxy.count("PATCH") == 1, "the write")
        cluster.stop()
        released.set()
        assert write.result(DEADLINE_S).status == Status(epoch=5)


def test_it_stops_while_it_waits_for_the_next_attempt_and_without_having_been_started(
    start: Start, ground: KubeGround, proxy: FaultyProxy
) -> None:
    proxy.when("*", "", faulty_proxy.answer(500))
    cluster = start(synced=False, shortest_wait_s=600.0, longest_wait_s=600.0)
    until(lambda: cluster.problem().count("watch of") == KINDS, "all to fail")
    began = time.monotonic()
    cluster.stop()
    Kubernetes(ground.settings()).stop()
    assert time.monotonic() - began < ENDLESS_S
    until(lambda: not watching(), "the threads to end")

"""What holds of every cluster: each fact once on a folder and once on a real API server."""

import copy
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from controller.core.plan import Plan
from controller.core.status import Run, Status, write_status
from controller.core.world import EPOCH_ANNOTATION, FINALIZER, Launch, LaunchKey, Route, RoutePatch, WeightEdit
from controller.errors import AdapterError, ConflictError, NotFoundError, RefusedError
from controller.ports import Cluster
from tests.adapters.grounds import (
    DEADLINE_S,
    FolderGround,
    Ground,
    KubeGround,
    launch_document,
    launch_key,
    pod_document,
    route_document,
    route_key,
    running,
    slice_document,
    slice_of_pods,
    workload_document,
)
from tests.realparts.server import wait_until


@pytest.fixture(params=["folder", pytest.param("kubernetes", marks=pytest.mark.real)])
def ground(request: pytest.FixtureRequest, tmp_path: Path) -> Ground:
    if request.param == "folder":
        return FolderGround(tmp_path)
    return KubeGround(request.getfixturevalue("kube"), request.getfixturevalue("namespace"))


@pytest.fixture
def cluster(ground: Ground) -> Iterator[Cluster]:
    with running(ground.cluster()) as started:
        yield started


def until(question: Callable[[], Any], what: str) -> Any:
    return wait_until(question, deadline_s=DEADLINE_S, what=what)


def seen(cluster: Cluster, key: LaunchKey) -> Launch:
    launch: Launch = until(lambda: cluster.launch(key), f"{key} in the cache")
    return launch


def patch_of(route: Route, *weights: int, epoch: str = "1/1", fresh: bool = False, **changes: Any) -> RoutePatch:
    """Stable and canary of the first rule set to these weights."""
    values: dict[str, Any] = {
        "key": route.key,
        "uid": route.uid,
        "resource_version": route.resource_version if fresh else None,
        "edits": tuple(
            WeightEdit(0, place, ("stable", "canary")[place], weight) for place, weight in enumerate(weights)
        ),
        "epoch": epoch,
        "guards": ((0, 0, "stable"), (0, 1, "canary")),
    }
    return RoutePatch(**{**values, **changes})


def test_before_the_start_nothing_is_known_and_after_the_first_lists_everything_is(ground: Ground) -> None:
    ground.create(launch_document())
    ground.create(route_document())
    cluster = ground.cluster()
    assert not cluster.synced()
    assert cluster.launches() == []
    with running(cluster):
        assert [launch.key for launch in cluster.launches()] == [launch_key(ground)]
        route = cluster.route(route_key(ground))
        assert route is not None
        assert [backend.weight for backend in route.rules[0].backends] == [100, 0, 0]
        assert cluster.problem() == ""


def test_an_empty_cluster_is_synced_and_has_no_launches(cluster: Cluster) -> None:
    assert cluster.launches() == []


def test_a_launch_that_is_made_is_seen_with_its_plan_and_its_listeners_are_called(ground: Ground) -> None:
    cluster = ground.cluster()
    woken: list[LaunchKey] = []
    cluster.subscribe(woken.append)
    with running(cluster):
        ground.create(launch_document())
        launch = seen(cluster, launch_key(ground))
        assert isinstance(launch.plan, Plan)
        assert isinstance(launch.status, Status)
        assert launch.uid
        assert launch.generation == 1
        until(lambda: woken == [launch_key(ground)], "the call of the listener")


def test_an_edited_plan_is_seen_with_a_higher_generation_and_wakes_listeners(ground: Ground) -> None:
    ground.create(launch_document())
    cluster = ground.cluster()
    with running(cluster):
        before = seen(cluster, launch_key(ground))
        woken: list[LaunchKey] = []
        cluster.subscribe(woken.append)
        ground.edit("Launch", "shop", lambda document: document["spec"].update(revision="v3"))
        until(lambda: woken, "the call of the listener")
        launch = cluster.launch(launch_key(ground))
        assert launch is not None
        assert isinstance(launch.plan, Plan)
        assert launch.plan.revision == "v3"
        assert (launch.uid, launch.generation) == (before.uid, before.generation + 1)


def test_an_annotation_set_by_hand_is_seen_without_a_new_generation_and_wakes_listeners(ground: Ground) -> None:
    ground.create(launch_document())
    cluster = ground.cluster()
    with running(cluster):
        before = seen(cluster, launch_key(ground))
        woken: list[LaunchKey] = []
        cluster.subscribe(woken.append)

        def annotate(document: dict[str, Any]) -> None:
            document["metadata"]["annotations"] = {"autoadvance.dev/hold": "lunch", "other.example/x": "1"}

        ground.edit("Launch", "shop", annotate)
        until(lambda: woken, "the call of the listener")
        launch = cluster.launch(launch_key(ground))
        assert launch is not None
        assert launch.annotations == {"hold": "lunch"}
        assert launch.generation == before.generation


def test_a_launch_that_is_deleted_goes_and_one_made_again_is_another(ground: Ground) -> None:
    ground.create(launch_document())
    cluster = ground.cluster()
    with running(cluster):
        before = cluster.write_status(seen(cluster, launch_key(ground)), write_status(Status(epoch=7)))
        woken: list[LaunchKey] = []
        cluster.subscribe(woken.append)
        ground.delete("Launch", "shop")
        until(lambda: cluster.launch(launch_key(ground)) is None, "the launch to be gone")
        until(lambda: woken, "the call of the listener")
        with pytest.raises(NotFoundError):
            cluster.read_launch(launch_key(ground))
        ground.create(launch_document())
        after = seen(cluster, launch_key(ground))
        assert after.uid != before.uid
        assert after.status == Status()
        with pytest.raises(ConflictError):
            cluster.write_status(before, write_status(Status(epoch=8)))


def test_a_written_status_is_returned_as_it_is_stored_and_read_back(ground: Ground, cluster: Cluster) -> None:
    ground.create(launch_document())
    before = seen(cluster, launch_key(ground))
    after = cluster.write_status(before, write_status(Status(epoch=3, message="went well", folds={"a": "b"})))
    assert isinstance(after.status, Status)
    assert (after.status.epoch, after.status.message) == (3, "went well")
    assert after.resource_version != before.resource_version
    assert (after.uid, after.generation, after.plan) == (before.uid, before.generation, before.plan)
    assert ground.raw_status("shop")["epoch"] == 3
    assert cluster.read_launch(launch_key(ground)) == after
    assert cluster.launch(launch_key(ground)) == after
    emptied = cluster.write_status(after, write_status(Status(epoch=4)))
    assert emptied.status == Status(epoch=4)


def test_a_status_over_one_that_was_not_read_is_a_conflict_and_changes_nothing(
    ground: Ground, cluster: Cluster
) -> None:
    ground.create(launch_document())
    stale = seen(cluster, launch_key(ground))
    cluster.write_status(stale, write_status(Status(epoch=1)))
    with pytest.raises(ConflictError, match="shop"):
        cluster.write_status(stale, write_status(Status(epoch=2)))
    assert ground.raw_status("shop")["epoch"] == 1


def test_a_status_after_an_edit_that_was_not_seen_is_a_conflict(ground: Ground, cluster: Cluster) -> None:
    ground.create(launch_document())
    stale = seen(cluster, launch_key(ground))
    ground.edit("Launch", "shop", lambda document: document["spec"].update(revision="v3"))
    with pytest.raises(ConflictError):
        cluster.write_status(stale, write_status(Status(epoch=2)))
    assert "epoch" not in ground.raw_status("shop")


def test_a_status_write_does_not_wake_listeners_and_leaves_the_manifest_alone(ground: Ground) -> None:
    ground.create(launch_document())
    cluster = ground.cluster()
    with running(cluster):
        launch = seen(cluster, launch_key(ground))
        manifest = ground.raw("Launch", "shop")
        woken: list[LaunchKey] = []
        cluster.subscribe(woken.append)
        launch = cluster.write_status(launch, write_status(Status(epoch=1)))
        ground.create(launch_document("other"))
        until(lambda: woken, "the call of the listener")
        assert woken == [launch_key(ground, "other")]
        assert ground.raw("Launch", "shop") == manifest


def test_the_cache_never_goes_back_behind_a_write_of_ones_own(ground: Ground, cluster: Cluster) -> None:
    ground.create(launch_document())
    launch = seen(cluster, launch_key(ground))
    for epoch in range(1, 31):
        launch = cluster.write_status(launch, write_status(Status(epoch=epoch)))
        cached = cluster.launch(launch_key(ground))
        assert cached is not None
        assert isinstance(cached.status, Status)
        assert cached.status.epoch == epoch


def test_of_many_writers_at_once_each_counts_once(ground: Ground, cluster: Cluster) -> None:
    ground.create(launch_document())
    seen(cluster, launch_key(ground))

    def count_up(_: int) -> None:
        for _ in range(200):
            launch = cluster.read_launch(launch_key(ground))
            assert isinstance(launch.status, Status)
            try:
                cluster.write_status(launch, write_status(Status(epoch=launch.status.epoch + 1)))
            except ConflictError:
                continue
            return
        raise AssertionError("a writer never got through")

    with ThreadPoolExecutor(6) as threads:
        list(threads.map(count_up, range(18)))
    assert ground.raw_status("shop")["epoch"] == 18


def test_two_adapters_on_one_cluster_see_each_other_and_never_overwrite(ground: Ground) -> None:
    ground.create(launch_document())
    with running(ground.cluster()) as one, running(ground.cluster()) as other:
        first = one.write_status(seen(one, launch_key(ground)), write_status(Status(epoch=1)))
        until(lambda: other.launch(launch_key(ground)) == first, "the status in the other cache")
        other.write_status(first, write_status(Status(epoch=2)))
        with pytest.raises(ConflictError):
            one.write_status(first, write_status(Status(epoch=3)))
        assert ground.raw_status("shop")["epoch"] == 2


@pytest.mark.parametrize("kind", ["HTTPRoute", "GRPCRoute"])
def test_a_route_patch_changes_its_weights_and_the_epoch_and_nothing_else(
    ground: Ground, cluster: Cluster, kind: str
) -> None:
    ground.create(route_document(kind=kind, annotations={"other.example/x": "1"}, labels={"team": "shop"}))
    expected = copy.deepcopy(ground.raw(kind, "shop"))
    before = cluster.read_route(route_key(ground, kind=kind))
    after = cluster.patch_route(patch_of(before, 95, 5, epoch="3/12", fresh=True))
    expected["spec"]["rules"][0]["backendRefs"][0]["weight"] = 95
    expected["spec"]["rules"][0]["backendRefs"][1]["weight"] = 5
    expected["metadata"]["annotations"][EPOCH_ANNOTATION] = "3/12"
    assert ground.raw(kind, "shop") == expected
    assert [backend.weight for backend in after.rules[0].backends] == [95, 5, 0]
    assert after.epoch == "3/12"
    assert after.uid == before.uid
    assert after.generation == before.generation + 1
    assert after.resource_version != before.resource_version
    assert cluster.read_route(route_key(ground, kind=kind)) == after
    assert cluster.route(route_key(ground, kind=kind)) == after


def test_a_weight_that_is_left_out_counts_as_1_and_is_added_also_as_0(ground: Ground, cluster: Cluster) -> None:
    ground.create(route_document(stable=None, canary=None))
    before = cluster.read_route(route_key(ground))
    assert [backend.weight for backend in before.rules[0].backends] == [1, 1, 0]
    cluster.patch_route(patch_of(before, 1, 0))
    backends = ground.raw("HTTPRoute", "shop")["spec"]["rules"][0]["backendRefs"]
    assert [backend["weight"] for backend in backends] == [1, 0, 0]


def test_the_epoch_is_added_where_the_route_has_no_annotations(ground: Ground, cluster: Cluster) -> None:
    ground.create(route_document())
    after = cluster.patch_route(patch_of(cluster.read_route(route_key(ground)), 95, 5, epoch="1/2"))
    assert after.epoch == "1/2"
    assert ground.raw("HTTPRoute", "shop")["metadata"]["annotations"] == {EPOCH_ANNOTATION: "1/2"}
    after = cluster.patch_route(patch_of(after, 90, 10, epoch="1/3", fresh=True))
    assert ground.raw("HTTPRoute", "shop")["metadata"]["annotations"] == {EPOCH_ANNOTATION: "1/3"}


@pytest.mark.parametrize("first", [None, {"other.example/x": "1"}])
def test_annotations_that_came_or_went_since_the_read_are_kept_and_do_not_stop_a_retreat(
    ground: Ground, cluster: Cluster, first: dict[str, str] | None
) -> None:
    metadata: dict[str, Any] = {"annotations": first} if first else {}
    ground.create(route_document(**metadata))
    before = cluster.read_route(route_key(ground))

    def change(document: dict[str, Any]) -> None:
        document["metadata"].pop("annotations", None)
        if not first:
            document["metadata"]["annotations"] = {"new.example/y": "2"}

    ground.edit("HTTPRoute", "shop", change)
    cluster.patch_route(patch_of(before, 100, 0, epoch="1/2"))
    expected = {EPOCH_ANNOTATION: "1/2"} | ({} if first else {"new.example/y": "2"})
    assert ground.raw("HTTPRoute", "shop")["metadata"]["annotations"] == expected


def test_another_backend_at_the_place_is_a_conflict_that_names_it_and_nothing_is_written(
    ground: Ground, cluster: Cluster
) -> None:
    ground.create(route_document())
    before = cluster.read_route(route_key(ground))

    def swap(document: dict[str, Any]) -> None:
        document["spec"]["rules"][0]["backendRefs"][1]["name"] = "blue"

    ground.edit("HTTPRoute", "shop", swap)
    manifest = ground.raw("HTTPRoute", "shop")
    with pytest.raises(ConflictError, match=r"spec\.rules\[0\]\.backendRefs\[1\] is 'blue' and not 'canary'"):
        cluster.patch_route(patch_of(before, 95, 5))
    with pytest.raises(ConflictError, match="'blue'"):
        cluster.patch_route(patch_of(before, 95))  # the canary is only guarded
    with pytest.raises(ConflictError, match="is not there any more"):
        cluster.patch_route(patch_of(before, guards=((7, 0, "stable"),)))
    assert ground.raw("HTTPRoute", "shop") == manifest


def test_a_raise_on_a_route_that_was_touched_is_a_conflict_and_a_retreat_is_not(
    ground: Ground, cluster: Cluster
) -> None:
    ground.create(route_document(stable=50, canary=50))
    before = cluster.read_route(route_key(ground))

    def touch(document: dict[str, Any]) -> None:
        document["metadata"]["labels"] = {"touched": "yes"}

    ground.edit("HTTPRoute", "shop", touch)
    with pytest.raises(ConflictError):
        cluster.patch_route(patch_of(before, 40, 60, fresh=True))
    after = cluster.patch_route(patch_of(before, 100, 0))
    assert [backend.weight for backend in after.rules[0].backends] == [100, 0, 0]
    assert ground.raw("HTTPRoute", "shop")["metadata"]["labels"] == {"touched": "yes"}


def test_a_route_made_again_under_the_same_name_is_not_written(ground: Ground, cluster: Cluster) -> None:
    ground.create(route_document())
    before = until(lambda: cluster.route(route_key(ground)), "the route")
    ground.delete("HTTPRoute", "shop")
    until(lambda: cluster.route(route_key(ground)) is None, "the route to be gone")
    with pytest.raises(NotFoundError):
        cluster.patch_route(patch_of(before, 100, 0))
    ground.create(route_document())
    with pytest.raises(ConflictError, match="deleted and made again"):
        cluster.patch_route(patch_of(before, 95, 5))
    assert ground.raw("HTTPRoute", "shop")["spec"]["rules"][0]["backendRefs"][1]["weight"] == 0


def test_a_dry_run_checks_everything_and_changes_nothing(ground: Ground, cluster: Cluster) -> None:
    ground.create(route_document())
    before = cluster.read_route(route_key(ground))
    manifest = ground.raw("HTTPRoute", "shop")
    would = cluster.patch_route(patch_of(before, 95, 5, fresh=True), dry_run=True)
    assert [backend.weight for backend in would.rules[0].backends] == [95, 5, 0]
    with pytest.raises(AdapterError):
        cluster.patch_route(patch_of(before, -1, 5), dry_run=True)
    with pytest.raises(ConflictError):
        cluster.patch_route(patch_of(before, 95, 5, uid="another"), dry_run=True)
    assert ground.raw("HTTPRoute", "shop") == manifest
    assert cluster.read_route(route_key(ground)) == before
    assert cluster.route(route_key(ground)) == before


def test_a_weight_out_of_range_is_refused_with_the_reason(ground: Ground, cluster: Cluster) -> None:
    ground.create(route_document())
    before = cluster.read_route(route_key(ground))
    with pytest.raises(AdapterError, match=r"1000001|1000000") as refused:
        cluster.patch_route(patch_of(before, 1_000_001, 0))
    assert not isinstance(refused.value, ConflictError)
    assert cluster.read_route(route_key(ground)) == before


def test_what_does_not_exist_is_not_found(ground: Ground, cluster: Cluster) -> None:
    with pytest.raises(NotFoundError, match="nothing"):
        cluster.read_launch(launch_key(ground, "nothing"))
    with pytest.raises(NotFoundError, match="nothing"):
        cluster.read_route(route_key(ground, "nothing"))
    assert cluster.launch(launch_key(ground, "nothing")) is None
    assert cluster.route(route_key(ground, "nothing")) is None


def test_ready_endpoints_are_counted_over_the_slices_of_a_service(ground: Ground, cluster: Cluster) -> None:
    assert cluster.ready_endpoints(ground.namespace, "canary") is None
    ground.create(slice_document("canary-a", "canary", 2, unready=1))
    until(lambda: cluster.ready_endpoints(ground.namespace, "canary") == 2, "two ready endpoints")
    ground.create(slice_document("canary-b", "canary", 0, unready=3))
    ground.create(slice_document("stable-a", "stable", 0, unready=1))
    until(lambda: cluster.ready_endpoints(ground.namespace, "stable") == 0, "a service without a ready endpoint")
    assert cluster.ready_endpoints(ground.namespace, "canary") == 2
    # a pod with an address of each family is one pod
    ground.create(slice_document("canary-v6", "canary", 2, family="IPv6"))
    ground.create(slice_document("marker", "marker", 1))
    until(lambda: cluster.ready_endpoints(ground.namespace, "marker") == 1, "the slice that came last")
    assert cluster.ready_endpoints(ground.namespace, "canary") == 2
    ground.delete("EndpointSlice", "canary-v6")
    ground.delete("EndpointSlice", "canary-a")
    until(lambda: cluster.ready_endpoints(ground.namespace, "canary") == 0, "the ready ones to be gone")
    assert cluster.ready_endpoints("elsewhere", "canary") is None


def test_a_listener_that_fails_does_not_end_the_watch(ground: Ground) -> None:
    cluster = ground.cluster()
    woken = threading.Event()

    def fail(_: LaunchKey) -> None:
        raise RuntimeError("on purpose")

    cluster.subscribe(fail)
    cluster.subscribe(lambda _: woken.set())
    with running(cluster):
        ground.create(launch_document("a"))
        seen(cluster, launch_key(ground, "a"))
        ground.create(launch_document("b"))
        seen(cluster, launch_key(ground, "b"))
        assert woken.wait(DEADLINE_S)


def test_writes_work_before_the_start(ground: Ground) -> None:
    ground.create(launch_document())
    cluster = ground.cluster()
    stored = cluster.write_status(cluster.read_launch(launch_key(ground)), write_status(Status(epoch=1)))
    assert stored.status == Status(epoch=1)
    cluster.stop()


# Annotations


OTHERS = {"other.example/x": "1"}


def test_an_annotation_is_set_and_removed_and_nothing_else_is_touched(ground: Ground, cluster: Cluster) -> None:
    ground.create(launch_document(annotations={**OTHERS, "autoadvance.dev/hold": "lunch"}, labels={"team": "shop"}))
    before = seen(cluster, launch_key(ground))
    expected = copy.deepcopy(ground.raw("Launch", "shop"))
    after = cluster.annotate(before.key, {"approve": "ramp/gate", "hold": None})
    expected["metadata"]["annotations"] = {**OTHERS, "autoadvance.dev/approve": "ramp/gate"}
    assert ground.raw("Launch", "shop") == expected
    assert after.annotations == {"approve": "ramp/gate"}
    assert (after.uid, after.generation, after.plan) == (before.uid, before.generation, before.plan)
    assert cluster.launch(before.key) == cluster.read_launch(before.key) == after
    cluster.annotate(before.key, {"approve": "ramp/1"})
    expected["metadata"]["annotations"]["autoadvance.dev/approve"] = "ramp/1"
    assert ground.raw("Launch", "shop") == expected


@pytest.mark.parametrize("others", [None, OTHERS])
def test_annotations_are_added_where_there_are_none_and_go_without_a_trace(
    ground: Ground, cluster: Cluster, others: dict[str, str] | None
) -> None:
    metadata: dict[str, Any] = {"annotations": others} if others else {}
    ground.create(launch_document(**metadata))
    manifest = ground.raw("Launch", "shop")
    key = launch_key(ground)
    assert cluster.annotate(key, {"hold": None}).annotations == {}
    assert ground.raw("Launch", "shop") == manifest
    assert cluster.annotate(key, {"hold": "lunch", "retry": "now"}).annotations == {"hold": "lunch", "retry": "now"}
    assert cluster.annotate(key, {"retry": None, "hold": None}).annotations == {}
    assert ground.raw("Launch", "shop") == manifest


@pytest.mark.parametrize(
    "text",
    ["", "true", "12", 'a: b # "c"', '{"reason": "ü", "by": "ann"}', "two\nlines\n", "\U0001f389 \u2028 \x7f"],
)
def test_every_text_of_an_annotation_comes_back_as_it_is(ground: Ground, cluster: Cluster, text: str) -> None:
    ground.create(launch_document())
    cluster.annotate(launch_key(ground), {"hold": text})
    assert cluster.read_launch(launch_key(ground)).annotations == {"hold": text}


def test_an_annotation_of_a_launch_that_is_not_there_is_not_found(ground: Ground, cluster: Cluster) -> None:
    with pytest.raises(NotFoundError, match="nothing"):
        cluster.annotate(launch_key(ground, "nothing"), {"hold": "lunch"})


@pytest.mark.parametrize(
    "changes", [{"example.com/hold": "x"}, {"": "x"}, {"-a": None}, {"hold": "x" * 262_144}, {"hold": "\ud83d"}]
)
def test_what_cannot_be_an_annotation_is_refused_and_nothing_is_written(
    ground: Ground, cluster: Cluster, changes: dict[str, str | None]
) -> None:
    ground.create(launch_document())
    manifest = ground.raw("Launch", "shop")
    with pytest.raises(RefusedError, match=r"shop.*annotation"):
        cluster.annotate(launch_key(ground), {"retry": "x", **changes})
    assert ground.raw("Launch", "shop") == manifest


def test_an_annotation_wakes_the_listeners_of_another_adapter(ground: Ground) -> None:
    ground.create(launch_document())
    with running(ground.cluster()) as daemon:
        woken: list[LaunchKey] = []
        daemon.subscribe(woken.append)
        person = ground.cluster()
        person.annotate(launch_key(ground), {"rollback": "it smells"})
        person.stop()
        until(lambda: woken == [launch_key(ground)], "the call of the listener")
        launch = daemon.launch(launch_key(ground))
        assert launch is not None
        assert launch.annotations == {"rollback": "it smells"}


# The finalizer


FOREIGN = "other.example/wait"


@pytest.mark.parametrize("others", [[], [FOREIGN], [FOREIGN, "other.example/too"]])
def test_the_finalizer_comes_and_goes_beside_those_of_others(
    ground: Ground, cluster: Cluster, others: list[str]
) -> None:
    metadata: dict[str, Any] = {"finalizers": others} if others else {}
    ground.create(launch_document(**metadata))
    manifest = ground.raw("Launch", "shop")
    before = seen(cluster, launch_key(ground))
    assert not before.finalized
    after = cluster.set_finalizer(before, True)
    assert after.finalized
    assert not after.deleting
    assert (after.uid, after.generation, after.plan) == (before.uid, before.generation, before.plan)
    assert ground.raw("Launch", "shop")["metadata"]["finalizers"] == [*others, FINALIZER]
    assert cluster.set_finalizer(after, True) == after
    assert cluster.launch(before.key) == cluster.read_launch(before.key) == after
    without = cluster.set_finalizer(after, False)
    assert not without.finalized
    assert ground.raw("Launch", "shop") == manifest
    assert cluster.set_finalizer(without, False) == without


def test_a_finalizer_over_a_launch_that_was_not_read_is_a_conflict_and_changes_nothing(
    ground: Ground, cluster: Cluster
) -> None:
    ground.create(launch_document())
    stale = seen(cluster, launch_key(ground))
    cluster.write_status(stale, write_status(Status(epoch=1)))
    with pytest.raises(ConflictError, match="shop"):
        cluster.set_finalizer(stale, True)
    assert "finalizers" not in ground.raw("Launch", "shop")["metadata"]


def test_a_launch_that_is_being_deleted_stays_until_the_finalizer_goes_and_then_vanishes(ground: Ground) -> None:
    ground.create(launch_document())
    cluster = ground.cluster()
    with running(cluster):
        before = cluster.set_finalizer(seen(cluster, launch_key(ground)), True)
        woken: list[LaunchKey] = []
        cluster.subscribe(woken.append)
        ground.begin_to_delete("Launch", "shop")
        until(lambda: woken, "the call of the listener")
        launch = cluster.launch(before.key)
        assert launch is not None
        assert (launch.uid, launch.deleting, launch.finalized) == (before.uid, True, True)
        launch = cluster.write_status(launch, write_status(Status(epoch=7)))
        last = cluster.set_finalizer(launch, False)
        assert (last.uid, last.finalized) == (before.uid, False)
        assert not ground.exists("Launch", "shop")
        until(lambda: cluster.launch(before.key) is None, "the launch to be gone")
        assert not cluster.set_finalizer(launch, False).finalized
        with pytest.raises(NotFoundError):
            cluster.set_finalizer(launch, True)
        ground.create(launch_document())
        again = seen(cluster, launch_key(ground))
        assert again.uid != before.uid
        assert again.status == Status()
        assert not cluster.set_finalizer(launch, False).finalized
        with pytest.raises(ConflictError):
            cluster.set_finalizer(launch, True)
        assert cluster.launch(before.key) == again


def test_a_launch_that_others_keep_stays_when_the_finalizer_goes_and_gets_none_again(
    ground: Ground, cluster: Cluster
) -> None:
    ground.create(launch_document(finalizers=[FINALIZER, FOREIGN]))
    ground.begin_to_delete("Launch", "shop")
    launch = cluster.read_launch(launch_key(ground))
    assert launch.deleting
    launch = cluster.set_finalizer(launch, False)
    assert (launch.deleting, launch.finalized) == (True, False)
    assert ground.raw("Launch", "shop")["metadata"]["finalizers"] == [FOREIGN]
    with pytest.raises(RefusedError, match="being deleted"):
        cluster.set_finalizer(launch, True)
    ground.edit("Launch", "shop", lambda document: document["metadata"].pop("finalizers"))


# Workloads and pods


KINDS = ["Deployment", "StatefulSet", "DaemonSet"]


def edit_workload(kind: str, *path: str | int, to: Any) -> Callable[[Ground], None]:
    """An edit that sets one value of a workload."""

    def change(document: dict[str, Any]) -> None:
        place: Any = document
        for step in path[:-1]:
            place = place.setdefault(step, {}) if isinstance(step, str) else place[step]
        place[path[-1]] = to

    return lambda ground: ground.edit(kind, "canary", change)


def known_template(ground: Ground, cluster: Cluster, kind: str = "Deployment") -> str:
    template: str = until(lambda: cluster.template(ground.namespace, kind, "canary"), f"the template of the {kind}")
    return template


@pytest.mark.parametrize("kind", KINDS)
def test_the_template_of_a_workload_changes_with_all_that_its_pods_are_made_from(
    ground: Ground, cluster: Cluster, kind: str
) -> None:
    ground.create(workload_document(kind))
    hashes = [known_template(ground, cluster, kind)]
    assert len(hashes[0]) == 16
    int(hashes[0], 16)
    pod = ("spec", "template", "spec", "containers", 0)
    for path, value in (
        ((*pod, "image"), "shop:2"),
        ((*pod, "env", 0, "value"), "b"),
        (("spec", "template", "metadata", "labels", "track"), "canary"),
        (("spec", "template", "metadata", "annotations", "kubectl.kubernetes.io/restartedAt"), "2025-11-01T14:00:00Z"),
    ):
        edit_workload(kind, *path, to=value)(ground)
        until(lambda: known_template(ground, cluster, kind) != hashes[-1], "another template")
        hashes.append(known_template(ground, cluster, kind))
    assert len(set(hashes)) == len(hashes) == 5
    ground.delete(kind, "canary")
    until(lambda: cluster.template(ground.namespace, kind, "canary") is None, "the workload to be gone")


def test_what_is_around_the_template_is_no_part_of_it_and_equal_ones_have_equal_hashes(
    ground: Ground, cluster: Cluster
) -> None:
    ground.create(workload_document())
    before = known_template(ground, cluster)
    edit_workload("Deployment", "spec", "replicas", to=7)(ground)
    edit_workload("Deployment", "spec", "minReadySeconds", to=7)(ground)
    edit_workload("Deployment", "metadata", "annotations", "touched", to="yes")(ground)
    ground.create(workload_document(name="later"))
    until(lambda: cluster.template(ground.namespace, "Deployment", "later"), "the workload that came later")
    assert known_template(ground, cluster) == before
    with running(ground.cluster()) as other:
        assert known_template(ground, other) == before


def test_a_template_that_is_not_there_or_of_another_kind_is_not_known(ground: Ground, cluster: Cluster) -> None:
    ground.create(workload_document())
    assert known_template(ground, cluster)
    assert cluster.template(ground.namespace, "Deployment", "nothing") is None
    assert cluster.template("elsewhere", "Deployment", "canary") is None
    assert cluster.template(ground.namespace, "CronJob", "canary") is None


def test_a_changed_template_wakes_the_launches_that_name_its_workload_and_no_others(ground: Ground) -> None:
    ground.create(launch_document())
    ground.create(launch_document("other"))
    ground.create(workload_document())
    ground.create(workload_document("StatefulSet"))
    cluster = ground.cluster()
    with running(cluster):
        target = {"name": "main", "canary": {"name": "canary", "workload": {"name": "canary"}}}
        run = Run(number=1, revision="v2", started_at=0.0, stands_on={"targets": [target]})
        cluster.write_status(seen(cluster, launch_key(ground)), write_status(Status(run=run)))
        seen(cluster, launch_key(ground, "other"))
        before = known_template(ground, cluster)
        known_template(ground, cluster, "StatefulSet")
        woken: list[LaunchKey] = []
        cluster.subscribe(woken.append)
        edit_workload("Deployment", "spec", "replicas", to=3)(ground)
        edit_workload("StatefulSet", "spec", "template", "metadata", "labels", "a", to="b")(ground)
        edit_workload("Deployment", "spec", "template", "metadata", "labels", "a", to="b")(ground)
        until(lambda: woken, "the call of the listener")
        until(lambda: known_template(ground, cluster) != before, "the new template")
        ground.delete("Deployment", "canary")
        until(lambda: len(woken) > 1, "the second call of the listener")
        assert woken == [launch_key(ground)] * 2


VERSION = "app.kubernetes.io/version"


def until_versions(ground: Ground, cluster: Cluster, expected: dict[str, int] | None, label: str = VERSION) -> None:
    until(lambda: cluster.pod_versions(ground.namespace, "stable", label) == expected, f"the versions {expected}")


def test_the_versions_of_ready_pods_are_counted_over_the_slices_of_a_service(ground: Ground, cluster: Cluster) -> None:
    assert cluster.pod_versions(ground.namespace, "stable", VERSION) is None
    for name, version in (("a", "1"), ("b", "2"), ("c", "2"), ("d", "3"), ("e", "")):
        ground.create(pod_document(name, app="shop", **({VERSION: version} if version else {})))
    ground.create(slice_of_pods("stable-1", "stable", "a", "b", unready=("d",)))
    ground.create(slice_of_pods("stable-2", "stable", "c", "e"))
    # a pod with an address of each family is one pod
    ground.create(slice_of_pods("stable-v6", "stable", "a", "b", family="IPv6"))
    ground.create(slice_of_pods("canary-1", "canary", "d"))
    until(lambda: cluster.ready_endpoints(ground.namespace, "canary") == 1, "the slice that came last")
    until_versions(ground, cluster, {"1": 1, "2": 2, "": 1})
    assert cluster.pod_versions("elsewhere", "stable", VERSION) is None
    ground.delete("EndpointSlice", "stable-v6")
    ground.delete("EndpointSlice", "stable-1")
    until_versions(ground, cluster, {"2": 1, "": 1})
    ground.edit("EndpointSlice", "stable-2", lambda document: document.update(endpoints=[]))
    until_versions(ground, cluster, {})


def test_the_versions_are_not_known_while_a_ready_endpoint_is_no_pod_or_one_that_is_not_there(
    ground: Ground, cluster: Cluster
) -> None:
    ground.create(pod_document("a", **{VERSION: "1"}))
    ground.create(slice_of_pods("stable-1", "stable", "a"))
    until_versions(ground, cluster, {"1": 1})
    ground.create(slice_of_pods("stable-2", "stable", "nobody"))
    until_versions(ground, cluster, None)
    ground.delete("EndpointSlice", "stable-2")
    until_versions(ground, cluster, {"1": 1})
    ground.create(slice_document("stable-3", "stable", 1))
    until_versions(ground, cluster, None)

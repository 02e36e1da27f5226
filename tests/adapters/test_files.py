"""The folder as the cluster: what editors, people and other processes do to files."""

import fcntl
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import yaml

from controller.adapters.files import Files
from controller.core.plan import InvalidPlanError, Plan
from controller.core.status import Status, write_status
from controller.core.world import Launch, LaunchKey, Route, RouteKey, RoutePatch, WeightEdit
from controller.errors import RefusedError, UnansweredError
from tests.adapters.grounds import DEADLINE_S, launch_document, route_document, running
from tests.realparts.parts import ROOT
from tests.realparts.server import wait_until

SHOP = LaunchKey("default", "shop")
ROUTE = RouteKey("HTTPRoute", "default", "shop")


@pytest.fixture
def files(tmp_path: Path) -> Iterator[Files]:
    files = Files(tmp_path, scan_s=0.02)
    with running(files):
        yield files


def until(question: Callable[[], Any], what: str) -> Any:
    return wait_until(question, deadline_s=DEADLINE_S, what=what)


def save(path: Path, *documents: Any) -> None:
    path.write_text(yaml.safe_dump_all(documents, sort_keys=False))


def seen(files: Files, key: LaunchKey = SHOP) -> Launch:
    launch: Launch = until(lambda: files.launch(key), f"{key} to be seen")
    return launch


def faults(files: Files, key: LaunchKey = SHOP) -> str:
    launch = files.launch(key)
    return str(launch.plan) if launch is not None and isinstance(launch.plan, InvalidPlanError) else ""


def weights(route: Route, canary: int, epoch: str = "1/1") -> RoutePatch:
    edits = (WeightEdit(0, 0, "stable", 100 - canary), WeightEdit(0, 1, "canary", canary))
    return RoutePatch(route.key, route.uid, None, edits, epoch)


def retired(files: Files, folder: Path, name: str) -> bool:
    del files
    return (folder / ".status" / f"{name}.gone").exists()


# What a person wrote stays as it is


MANIFEST = """\
# everything of the shop in one file
apiVersion: autoadvance.dev/v1alpha1
kind: Launch
metadata: {name: shop}   # the plan
spec:
  revision: 2025.10
  targets:
  - {name: main, route: {name: shop}, stable: {name: stable}, canary: {name: canary}}
  phases:
  - name: ramp
    steps: [{weight: 5, for: 10m}, {weight: 100}]
    guardrails: [{metric: errors, below: 1%}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata:
  name: shop
spec:
  rules:
  # the pair
  - backendRefs:
    - name: stable
      port:   80
    - {name: canary, weight: 0, port: 80}   # not yet
---
kind: ConfigMap
data: {weight: "0"}
"""


def test_a_patched_file_keeps_every_byte_that_is_not_ours(files: Files, tmp_path: Path) -> None:
    path = tmp_path / "shop.yaml"
    path.write_text(MANIFEST)
    path.chmod(0o640)
    launch = seen(files)
    files.patch_route(weights(files.read_route(ROUTE), 5, "2/7"))
    assert path.read_text() == (
        MANIFEST.replace("    - name: stable\n", "    - name: stable\n      weight: 95\n")
        .replace("canary, weight: 0,", "canary, weight: 5,")
        .replace("  name: shop\nspec", '  name: shop\n  annotations:\n    autoadvance.dev/epoch: "2/7"\nspec')
    )
    assert path.stat().st_mode & 0o777 == 0o640
    assert files.read_launch(SHOP) == launch
    assert [file.name for file in tmp_path.iterdir() if file.suffix == ".tmp"] == []


def test_an_annotated_file_keeps_every_byte_that_is_not_ours(files: Files, tmp_path: Path) -> None:
    path = tmp_path / "shop.yaml"
    path.write_text(MANIFEST)
    files.annotate(SHOP, {"hold": "lunch: 12h", "done": "ramp/docs"})
    annotations = '{autoadvance.dev/hold: "lunch: 12h", autoadvance.dev/done: "ramp/docs"}'
    assert path.read_text() == MANIFEST.replace("{name: shop} ", f"{{name: shop, annotations: {annotations}}} ")
    files.annotate(SHOP, {"hold": None})
    annotations = '{autoadvance.dev/done: "ramp/docs"}'
    assert path.read_text() == MANIFEST.replace("{name: shop} ", f"{{name: shop, annotations: {annotations}}} ")
    files.annotate(SHOP, {"done": None})
    assert path.read_text() == MANIFEST
    block = MANIFEST.replace(
        "{name: shop}   # the plan", "# the plan\n  name: shop # its name\n  annotations:\n    # by hand\n    a/b: c"
    )
    path.write_text(block)
    files.annotate(SHOP, {"hold": "lunch"})
    assert path.read_text() == block.replace("    a/b", "    autoadvance.dev/hold: lunch\n    a/b")
    files.annotate(SHOP, {"hold": None})
    assert path.read_text() == block


def test_a_finalizer_comes_and_goes_and_its_file_keeps_every_other_byte(files: Files, tmp_path: Path) -> None:
    path = tmp_path / "shop.yaml"
    path.write_text(MANIFEST)
    launch = files.set_finalizer(files.read_launch(SHOP), True)
    assert path.read_text() == MANIFEST.replace("{name: shop} ", "{name: shop, finalizers: [autoadvance.dev/reset]} ")
    files.set_finalizer(launch, False)
    assert path.read_text() == MANIFEST
    block = MANIFEST.replace("{name: shop}   # the plan", "\n  name: shop\n  finalizers: # wait\n  - a/b # for them")
    path.write_text(block)
    launch = files.set_finalizer(files.read_launch(SHOP), True)
    assert path.read_text() == block.replace("# for them\n", "# for them\n  - autoadvance.dev/reset\n")
    files.set_finalizer(launch, False)
    assert path.read_text() == block


def test_a_launch_that_goes_with_its_finalizer_leaves_the_rest_of_its_file_and_no_record(
    files: Files, tmp_path: Path
) -> None:
    path = tmp_path / "shop.yaml"
    leaving = "{name: shop, deletionTimestamp: 2025-11-01T14:00:00Z, finalizers: [autoadvance.dev/reset]} "
    path.write_text(MANIFEST.replace("{name: shop} ", leaving))
    launch = files.write_status(files.read_launch(SHOP), write_status(Status(epoch=3)))
    assert (launch.deleting, launch.finalized) == (True, True)
    files.set_finalizer(launch, False)
    assert path.read_text() == MANIFEST[: MANIFEST.index("apiVersion")] + MANIFEST[MANIFEST.index("---") :]
    assert files.launch(SHOP) is None
    assert files.route(ROUTE) is not None
    assert retired(files, tmp_path, "default.shop")
    path.write_text(MANIFEST)
    again = files.read_launch(SHOP)
    assert again.uid != launch.uid
    assert again.status == Status()


def test_a_deletion_by_hand_is_seen_without_a_new_generation_and_wakes_listeners(files: Files, tmp_path: Path) -> None:
    path = tmp_path / "shop.yaml"
    path.write_text(MANIFEST)
    before = seen(files)
    woken: list[LaunchKey] = []
    files.subscribe(woken.append)
    path.write_text(MANIFEST.replace("{name: shop} ", "{name: shop, deletionTimestamp: 2025-11-01T14:00:00Z} "))
    until(lambda: woken == [SHOP], "the call of the listener")
    launch = files.launch(SHOP)
    assert launch is not None
    assert (launch.deleting, launch.generation) == (True, before.generation)


def test_of_a_linked_manifest_that_goes_only_the_link_is_removed(files: Files, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    target = tmp_path / "elsewhere" / "shop.txt"
    leaving = launch_document(deletionTimestamp="2025-11-01T14:00:00Z", finalizers=["autoadvance.dev/reset"])
    save(target, leaving)
    (tmp_path / "shop.yaml").symlink_to(target)
    files.set_finalizer(files.read_launch(SHOP), False)
    assert not (tmp_path / "shop.yaml").is_symlink()
    assert target.exists()


def test_a_launch_in_a_broken_file_or_in_two_is_not_edited(files: Files, tmp_path: Path) -> None:
    path, other = tmp_path / "shop.yaml", tmp_path / "other.yaml"
    path.write_text(MANIFEST)
    save(other, launch_document())
    with pytest.raises(RefusedError, match=r"Launch default/shop: it stands in .*; remove all but one"):
        files.annotate(SHOP, {"hold": "lunch"})
    with pytest.raises(RefusedError, match=r"Launch default/shop: it stands in .*; remove all but one"):
        files.set_finalizer(files.read_launch(SHOP), True)
    other.unlink()
    path.write_text(f"{MANIFEST}broken: [")
    with pytest.raises(RefusedError, match=r"Launch default/shop: its file cannot be read, so it is not edited"):
        files.annotate(SHOP, {"hold": "lunch"})
    assert path.read_text() == f"{MANIFEST}broken: ["


def test_a_second_manifest_that_was_removed_is_forgotten_while_the_first_is_being_saved(
    files: Files, tmp_path: Path
) -> None:
    path, other = tmp_path / "shop.yaml", tmp_path / "other.yaml"
    path.write_text(MANIFEST)
    save(other, launch_document())
    with pytest.raises(RefusedError, match="remove all but one"):
        files.annotate(SHOP, {"hold": "lunch"})
    other.unlink()
    path.write_text("")  # what an editor that writes in place leaves for a moment
    files.read_launch(SHOP)
    path.write_text(f"{MANIFEST}broken: [")
    with pytest.raises(RefusedError, match="its file cannot be read, so it is not edited"):
        files.annotate(SHOP, {"hold": "lunch"})


def test_an_annotation_that_several_launches_share_by_an_alias_is_refused_and_left_alone(
    files: Files, tmp_path: Path
) -> None:
    text = MANIFEST.replace("{name: shop}   #", "{name: shop, labels: &x {a: b}, annotations: *x}   #")
    (tmp_path / "shop.yaml").write_text(text)
    with pytest.raises(RefusedError, match=r"Launch default/shop: annotations: shop\.yaml:\d+: .*write it out in full"):
        files.annotate(SHOP, {"hold": "lunch"})
    assert (tmp_path / "shop.yaml").read_text() == text


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ({"apiVersion": "apps/v1", "kind": "Deployment", "spec": [1]}, "this is no Deployment"),
        ({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x", "labels": "a"}}, "this is no Pod"),
        ({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "endpoints": [{"targetRef": 1}]}, "this is no"),
        (
            {**launch_document(), "metadata": {"name": "x", "finalizers": "a"}},
            "metadata.finalizers is no list of names",
        ),
    ],
)
def test_what_is_not_what_its_kind_says_is_told_with_its_file(
    files: Files, tmp_path: Path, document: dict[str, Any], words: str
) -> None:
    save(tmp_path / "odd.yaml", {"metadata": {"name": "x"}, **document})
    until(lambda: words in files.problem(), "the problem")
    assert "odd.yaml:1" in files.problem()


def test_the_objects_of_other_groups_with_a_known_kind_are_nobodys_business(files: Files, tmp_path: Path) -> None:
    save(tmp_path / "other.yaml", {"apiVersion": "other.example/v1", "kind": "Deployment", "spec": 1})
    (tmp_path / "shop.yaml").write_text(MANIFEST)
    seen(files)
    assert files.problem() == ""


def test_a_revision_that_looks_like_a_number_stays_text(files: Files, tmp_path: Path) -> None:
    (tmp_path / "shop.yml").write_text(MANIFEST)
    plan = seen(files).plan
    assert isinstance(plan, Plan)
    assert plan.revision == "2025.10"


def test_a_linked_manifest_is_edited_where_it_lies(files: Files, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "shop.txt").write_text(MANIFEST)
    (tmp_path / "shop.yaml").symlink_to(tmp_path / "elsewhere" / "shop.txt")
    files.patch_route(weights(files.read_route(ROUTE), 5))
    assert (tmp_path / "shop.yaml").is_symlink()
    assert "weight: 95" in (tmp_path / "elsewhere" / "shop.txt").read_text()


def test_a_route_whose_weight_is_shared_by_an_alias_is_refused_and_left_alone(files: Files, tmp_path: Path) -> None:
    document = route_document()
    shared = document["spec"]["rules"][0]["backendRefs"]
    document["spec"]["rules"].append({"backendRefs": shared})
    save(tmp_path / "shop.yaml", document)
    before = (tmp_path / "shop.yaml").read_text()
    assert "*id001" in before
    with pytest.raises(RefusedError, match=r"shop\.yaml:1: .*alias.*write it out in full"):
        files.patch_route(weights(files.read_route(ROUTE), 5))
    assert (tmp_path / "shop.yaml").read_text() == before


def test_two_routes_in_one_file_patched_at_once_are_both_patched(files: Files, tmp_path: Path) -> None:
    names = [f"r{number}" for number in range(8)]
    save(tmp_path / "all.yaml", *(route_document(name) for name in names))
    routes = [files.read_route(RouteKey("HTTPRoute", "default", name)) for name in names]
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda route: files.patch_route(weights(route, 7)), routes))
    written = [document["spec"]["rules"][0]["backendRefs"][1]["weight"] for document in _all(tmp_path / "all.yaml")]
    assert written == [7] * 8


# What is wrong in a file


def test_a_half_saved_file_holds_its_launches_with_the_place_and_disturbs_nothing_else(
    files: Files, tmp_path: Path
) -> None:
    (tmp_path / "shop.yaml").write_text(MANIFEST)
    save(tmp_path / "other.yaml", launch_document("other"))
    before = files.write_status(seen(files), write_status(Status(epoch=3)))
    other = seen(files, LaunchKey("default", "other"))
    woken: list[LaunchKey] = []
    files.subscribe(woken.append)
    (tmp_path / "shop.yaml").write_text(MANIFEST[: MANIFEST.index("10m") + 2])
    until(lambda: faults(files), "the fault")
    assert faults(files) == (
        "shop.yaml:11:32: while parsing a flow mapping, expected ',' or '}', but got '<stream end>'; correct the file"
    )
    assert "shop.yaml:1" in files.problem()
    until(lambda: woken == [SHOP], "the call of the listener")
    broken = files.read_launch(SHOP)
    assert (broken.uid, broken.status, broken.generation) == (before.uid, Status(epoch=3), before.generation)
    assert files.launch(other.key) == other
    # its status can be written, and its route is known but not edited
    held = files.write_status(broken, write_status(Status(epoch=4, message="held")))
    assert isinstance(held.plan, InvalidPlanError)
    with pytest.raises(RefusedError, match=r"cannot be read, so it is not edited: shop\.yaml:1"):
        files.patch_route(weights(files.read_route(ROUTE), 5))
    (tmp_path / "shop.yaml").write_text(MANIFEST)
    until(lambda: not faults(files), "the fault to be over")
    mended = seen(files)
    assert (mended.plan, mended.uid, mended.generation) == (before.plan, before.uid, before.generation)
    assert mended.status == Status(epoch=4, message="held")
    assert files.problem() == ""


def test_a_file_that_is_broken_at_the_start_is_a_problem_and_keeps_the_records(tmp_path: Path) -> None:
    (tmp_path / "shop.yaml").write_text(MANIFEST)
    with running(Files(tmp_path, scan_s=0.02)) as first:
        before = first.write_status(first.read_launch(SHOP), write_status(Status(epoch=3)))
    (tmp_path / "shop.yaml").write_text("kind: Launch\n  name: shop\n")
    with running(Files(tmp_path, scan_s=0.02)) as second:
        assert second.launches() == []
        assert "shop.yaml:2:7" in second.problem()
        save(tmp_path / "late.yaml", launch_document("late"))
        until(lambda: second.launch(LaunchKey("default", "late")), "the other launch")
        (tmp_path / "shop.yaml").write_text(MANIFEST)
        until(lambda: second.launch(SHOP) == before, "the launch with its status")
        assert second.problem() == ""


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("kind: Launch\nmetadata: {}\n", r"bad\.yaml:1:1: this Launch has no metadata\.name; write one"),
        ("kind: Launch\nmetadata: {name: a, namespace: [b]}\n", r"metadata\.namespace is no name"),
        ("kind: Launch\nmetadata: {name: a, annotations: [b]}\n", r"metadata\.annotations is no mapping"),
        ("kind: Launch\nmetadata: {name: ../../escape}\n", r"no metadata\.name"),
        (
            "---\n---\napiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: a}\nspec: {rules: [5]}\n",
            r"bad\.yaml:3:1: this is no HTTPRoute",
        ),
        (
            "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n"
            "metadata: {name: a, labels: {kubernetes.io/service-name: b}}\nendpoints: 5\n",
            "this is no EndpointSlice",
        ),
        ("a: 1\na: 2\n", r"bad\.yaml:2:1: the key 'a' is here twice"),
    ],
)
def test_what_is_wrong_in_a_manifest_is_a_problem_with_its_place(
    files: Files, tmp_path: Path, text: str, words: str
) -> None:
    (tmp_path / "bad.yaml").write_text(text)
    save(tmp_path / "shop.yaml", launch_document())
    seen(files)
    until(files.problem, "the problem")
    assert re.search(words, files.problem())


def test_a_file_in_another_encoding_is_a_problem_with_its_line(files: Files, tmp_path: Path) -> None:
    (tmp_path / "shop.yaml").write_bytes("kind: Launch\n# caf\u00e9\n".encode("latin-1"))
    until(lambda: "shop.yaml:2:1: this is not UTF-8" in files.problem(), "the problem")


def test_a_plan_with_faults_is_a_value_and_not_a_problem_of_the_folder(files: Files, tmp_path: Path) -> None:
    document = launch_document()
    document["spec"]["phases"][0]["steps"] = [{"weight": 50}, {"weight": 5}]
    save(tmp_path / "shop.yaml", document)
    assert "spec.phases[0].steps[1]" in str(seen(files).plan)
    assert files.problem() == ""


def test_two_manifests_of_one_launch_are_both_named_and_hold_it(files: Files, tmp_path: Path) -> None:
    save(tmp_path / "a.yaml", launch_document())
    seen(files)
    save(tmp_path / "b.yaml", launch_document("other"), launch_document())
    until(lambda: "it stands in a.yaml:1 and in b.yaml:25; remove all but one" in faults(files), "the fault")
    assert "Launch default/shop: it stands in" in files.problem()
    assert isinstance(seen(files, LaunchKey("default", "other")).plan, Plan)
    (tmp_path / "a.yaml").unlink()
    until(lambda: not faults(files), "the fault to be over")
    assert files.problem() == ""


def test_a_route_in_two_files_is_not_edited(files: Files, tmp_path: Path) -> None:
    save(tmp_path / "a.yaml", route_document())
    save(tmp_path / "b.yaml", route_document())
    with pytest.raises(RefusedError, match=r"a\.yaml:1 and in b\.yaml:1; remove all but one"):
        files.patch_route(weights(files.read_route(ROUTE), 5))


def test_other_kinds_hidden_files_and_other_endings_are_ignored(files: Files, tmp_path: Path) -> None:
    save(tmp_path / "config.yaml", {"kind": "ConfigMap", "metadata": {"name": "x"}}, None, [1], "text")
    save(tmp_path / "foreign.yaml", {**route_document(), "apiVersion": "example.org/v1"})
    save(tmp_path / ".shop.yaml.swp.yaml", launch_document("hidden"))
    save(tmp_path / "shop.yaml~", launch_document("backup"))
    save(tmp_path / "shop.yaml", launch_document())
    seen(files)
    assert [launch.key for launch in files.launches()] == [SHOP]
    assert files.route(ROUTE) is None
    assert files.problem() == ""


def test_an_annotation_that_is_no_text_is_taken_as_written(files: Files, tmp_path: Path) -> None:
    save(tmp_path / "shop.yaml", launch_document(annotations={"autoadvance.dev/hold": True, "autoadvance.dev/skip": 5}))
    assert seen(files).annotations == {"hold": "true", "skip": "5"}


# Editors


def test_a_file_that_an_editor_removes_and_writes_again_is_the_same_launch(files: Files, tmp_path: Path) -> None:
    save(tmp_path / "shop.yaml", launch_document())
    before = files.write_status(seen(files), write_status(Status(epoch=3)))
    for _ in range(3):
        (tmp_path / "shop.yaml").unlink()
        assert files.read_launch(SHOP) == before
        save(tmp_path / "shop.yaml", launch_document())
        assert files.read_launch(SHOP) == before


def test_a_change_of_the_same_size_whose_time_was_set_back_is_seen(files: Files, tmp_path: Path) -> None:
    path = tmp_path / "shop.yaml"
    save(path, launch_document())
    seen(files)
    for revision in ("v3", "v4", "v5"):
        stat = path.stat()
        with path.open("r+") as file:
            file.write(
                yaml.safe_dump(
                    {**launch_document(), "spec": {**launch_document()["spec"], "revision": revision}}, sort_keys=False
                )
            )
        os.utime(path, ns=(stat.st_mtime_ns, stat.st_mtime_ns))

        def revised(wanted: str = revision) -> bool:
            plan = seen(files).plan
            return isinstance(plan, Plan) and plan.revision == wanted

        until(revised, f"revision {revision}")


def test_a_manifest_that_moves_to_another_file_stays_the_same_launch(files: Files, tmp_path: Path) -> None:
    save(tmp_path / "a.yaml", launch_document())
    before = files.write_status(seen(files), write_status(Status(epoch=3)))
    (tmp_path / "a.yaml").rename(tmp_path / "b.yaml")
    assert files.read_launch(SHOP) == before
    assert files.problem() == ""


def test_the_record_of_a_launch_that_is_gone_is_put_aside(files: Files, tmp_path: Path) -> None:
    save(tmp_path / "shop.yaml", launch_document())
    seen(files)
    (tmp_path / "shop.yaml").unlink()
    until(lambda: retired(files, tmp_path, "default.shop"), "the record to be put aside")
    assert files.launch(SHOP) is None
    assert not (tmp_path / ".status" / "default.shop.json").exists()


# Other processes


WRITER = """
import sys
from pathlib import Path
from controller.adapters.files import Files
from controller.core.status import Status, write_status
from controller.core.world import LaunchKey
from controller.errors import ConflictError
files = Files(Path(sys.argv[1]))
done = 0
while done < 10:
    launch = files.read_launch(LaunchKey("default", "shop"))
    try:
        files.write_status(launch, write_status(Status(epoch=launch.status.epoch + 1)))
        done += 1
    except ConflictError:
        pass
"""


def test_writers_in_several_processes_lose_nothing(files: Files, tmp_path: Path) -> None:
    save(tmp_path / "shop.yaml", launch_document())
    seen(files)
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)], cwd=ROOT) for _ in range(3)]
    assert [writer.wait(60) for writer in writers] == [0, 0, 0]
    assert files.read_launch(SHOP).status == Status(epoch=30)
    until(lambda: seen(files).status == Status(epoch=30), "the status to be seen by the scan")


def test_a_process_that_holds_the_lock_too_long_is_told_and_changes_nothing(tmp_path: Path) -> None:
    save(tmp_path / "shop.yaml", launch_document())
    files = Files(tmp_path, lock_within_s=0.2)
    launch = files.read_launch(SHOP)
    with (tmp_path / ".status" / ".lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(UnansweredError, match=r"another process holds .*\.lock"):
            files.write_status(launch, write_status(Status(epoch=1)))
    assert files.write_status(launch, write_status(Status(epoch=1))).status == Status(epoch=1)


def test_a_record_that_cannot_be_read_holds_the_launch_instead_of_starting_it_again(
    files: Files, tmp_path: Path
) -> None:
    save(tmp_path / "shop.yaml", launch_document())
    seen(files)
    record = tmp_path / ".status" / "default.shop.json"
    record.write_text(record.read_text()[:20])
    until(lambda: ".status/default.shop.json: it cannot be read" in faults(files), "the fault")
    assert ".status/default.shop.json" in files.problem()
    with pytest.raises(RefusedError, match="remove it to start the launch again"):
        files.write_status(files.read_launch(SHOP), write_status(Status(epoch=1)))
    record.unlink()
    until(lambda: not faults(files), "the fault to be over")
    assert seen(files).status == Status()


def test_a_record_holds_the_uid_the_generation_and_the_status_for_people_to_read(files: Files, tmp_path: Path) -> None:
    save(tmp_path / "shop.yaml", launch_document())
    launch = files.write_status(seen(files), write_status(Status(epoch=3)))
    record = json.loads((tmp_path / ".status" / "default.shop.json").read_text())
    assert (record["uid"], record["generation"], record["status"]["epoch"]) == (launch.uid, 1, 3)


def test_a_status_that_nobody_can_have_written_is_a_value(files: Files, tmp_path: Path) -> None:
    save(tmp_path / "shop.yaml", launch_document())
    seen(files)
    path = tmp_path / ".status" / "default.shop.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "status": {"epoch": "three"}}))
    until(lambda: not isinstance(seen(files).status, Status), "the unreadable status")


# The folder itself


def test_a_folder_that_goes_is_a_problem_and_nothing_is_forgotten_until_it_is_back(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    save(folder / "shop.yaml", launch_document())
    told: list[str] = []
    files = Files(folder, scan_s=0.02, on_problem=told.append)
    with running(files):
        before = seen(files)
        folder.rename(tmp_path / "away")
        until(lambda: "No such file" in files.problem(), "the problem")
        with pytest.raises(UnansweredError, match="folder"):
            files.read_launch(SHOP)
        assert files.launch(SHOP) == before
        (tmp_path / "away").rename(folder)
        until(lambda: files.problem() == "", "no problem")
        assert files.read_launch(SHOP) == before
        assert len(told) == 1


def test_a_folder_that_is_not_there_yet_is_not_an_empty_one(tmp_path: Path) -> None:
    files = Files(tmp_path / "later", scan_s=0.02)
    files.start()
    try:
        until(files.problem, "the problem")
        assert not files.synced()
        (tmp_path / "later").mkdir()
        until(files.synced, "the first scan")
        assert files.problem() == ""
    finally:
        files.stop()


def test_it_stops_at_once_and_leaves_no_thread(tmp_path: Path) -> None:
    files = Files(tmp_path, scan_s=30.0)
    with running(files):
        pass
    files.stop()
    Files(tmp_path).stop()
    assert not [thread for thread in threading.enumerate() if thread.name == "scan of the folder"]


def _all(path: Path) -> list[Any]:
    return list(yaml.safe_load_all(path.read_text()))

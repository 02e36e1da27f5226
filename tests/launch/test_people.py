"""What people do to a route while it is being moved: nothing is written onto a wrong backend, and it says what differs."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.invariants import violations
from tests.launch.stage import ROUTE_KINDS, Ground, Seen, Stage, stage
from tests.realparts.kube import KubeApiserver

STEPS = ({"weight": 20, "for": "12s"}, {"weight": 100})
"""Long enough that a person comes first on a busy machine."""
Route = dict[str, Any]


def _backends(route: Route) -> list[dict[str, Any]]:
    backends: list[dict[str, Any]] = route["spec"]["rules"][0]["backendRefs"]
    return backends


def _drift(route: Route) -> None:
    for backend, weight in zip(_backends(route), (50, 50), strict=True):
        backend["weight"] = weight


def _rename(route: Route) -> None:
    _backends(route)[1]["name"] = "another"


def _remove(route: Route) -> None:
    del _backends(route)[1]


def _swap(route: Route) -> None:
    """The same two, the other way round, each with the weight of the other: a share that is no step."""
    _backends(route).reverse()
    for backend, weight in zip(_backends(route), (800, 200), strict=True):
        backend["weight"] = weight


def _second_rule(route: Route) -> None:
    rule = copy.deepcopy(route["spec"]["rules"][0])
    rule["matches"] = [{"path": {"type": "PathPrefix", "value": "/admin"}}]
    for backend, weight in zip(rule["backendRefs"], (100, 0), strict=True):
        backend["weight"] = weight
    route["spec"]["rules"].append(rule)


HARMS: dict[str, tuple[Callable[[Route], None], str, str]] = {
    "drift": (_drift, "Drift", "the route gives the canary 50%, the launch left it at 20%"),
    "rename": (_rename, "RouteUnusable", "does not hold backend rename-canary of target main (it holds: another,"),
    "remove": (_remove, "RouteUnusable", "does not hold backend remove-canary of target main"),
    "swap": (_swap, "Drift", "the route gives the canary 80%"),
    "second-rule": (_second_rule, "RouteUnusable", "the rules of target main disagree: 0% and 20%"),
}


def test_a_route_that_a_person_changed_is_left_alone_until_it_is_as_it_was(
    kube: KubeApiserver, tmp_path: Path, ground: Ground
) -> None:
    with stage(kube, tmp_path, ground=ground) as on:
        on.create(*HARMS, steps=STEPS)
        on.daemon().wait_ready()
        for name in HARMS:
            _wait_in_force(on, name)
        before = {name: _spec(on, name) for name in HARMS}
        changed = {name: on.edit_route(name, change)["spec"] for name, (change, _, _) in HARMS.items()}
        since = len(on.observer.history)
        for name, (_, reason, words) in HARMS.items():
            # It is stored within 30 s of the write before it; what is done, or not done, does not wait for that.
            found = on.observer.wait(_says(name, reason), seconds=120, what=f"{name}: {reason}")
            assert words in found.document["status"]["message"]
        on.observer.never(_rewritten(since, changed), seconds=2, what="a person's route was changed")
        for name, spec in before.items():
            on.edit_route(name, lambda route, spec=spec: route.update(spec=spec))  # type: ignore[misc]
        for name in HARMS:
            on.observer.wait_for_state(name, "Succeeded", seconds=90)
            assert violations(on.observer.versions(), on.namespace, name) == []


def test_a_rule_for_the_canary_alone_is_never_touched_though_it_moves_the_others(
    kube: KubeApiserver, tmp_path: Path, ground: Ground
) -> None:
    with stage(kube, tmp_path, ground=ground) as on:
        on.create("good", "bad", steps=STEPS)
        on.daemon().wait_ready()
        added = {}
        for name in ("good", "bad"):
            _wait_in_force(on, name)
            added[name] = {
                "matches": [{"headers": [{"type": "Exact", "name": "x-canary", "value": "always"}]}],
                "backendRefs": [{"name": f"{name}-canary", "port": 80}],
            }
            on.edit_route(name, lambda route, rule=added[name]: route["spec"]["rules"].insert(0, rule))  # type: ignore[misc]
        on.traffic.shop("bad").canary_errors = 0.5
        on.observer.wait_for_state("good", "Succeeded", seconds=90)
        on.observer.wait_for_state("bad", "RolledBack", seconds=90)
        for name, last in (("good", 1000), ("bad", 0)):
            assert on.observer.weights(name)[-1] == last
            (first, _) = _spec(on, name)["rules"]
            assert [backend["name"] for backend in first["backendRefs"]] == [f"{name}-canary"]
            # 1 is what the server writes for a weight that was left out.
            assert [backend["weight"] for backend in first["backendRefs"]] == [1]
            assert violations(on.observer.versions(), on.namespace, name) == []


def test_a_rollback_onto_a_renamed_backend_writes_nothing_until_the_name_is_back(
    kube: KubeApiserver, tmp_path: Path, ground: Ground
) -> None:
    with stage(kube, tmp_path, ground=ground) as on:
        on.create("shop", steps=({"weight": 20, "for": "1h"}, {"weight": 100}))
        on.daemon().wait_ready()
        _wait_in_force(on, "shop")
        before = _spec(on, "shop")
        changed = {"shop": on.edit_route("shop", _rename)["spec"]}
        since = len(on.observer.history)
        on.annotate("shop", rollback="take it away")
        on.observer.wait_for_state("shop", "RollingBack", seconds=90)
        on.observer.never(_rewritten(since, changed), seconds=4, what="a person's route was changed")
        on.edit_route("shop", lambda route: route.update(spec=before))
        on.observer.wait_for_state("shop", "RolledBack", seconds=90)
        assert on.observer.weights("shop")[-1] == 0


def _wait_in_force(on: Stage, name: str) -> None:
    def in_force(history: list[Seen]) -> bool:
        launches = [seen.document for seen in history if seen.kind == "Launch" and seen.name == name]
        targets = (launches[-1].get("status") or {}).get("targets") or [] if launches else []
        return any(target.get("weight") == "20%" and target.get("inForceAt") for target in targets)

    on.observer.wait(in_force, seconds=90, what=f"{name} in force at 20%")


def _says(name: str, reason: str) -> Callable[[list[Seen]], Seen | None]:
    def newest(history: list[Seen]) -> Seen | None:
        last = [seen for seen in history if seen.kind == "Launch" and seen.name == name][-1]
        return last if (last.document.get("status") or {}).get("reason") == reason else None

    return newest


def _rewritten(since: int, specs: dict[str, Any]) -> Callable[[list[Seen]], list[str]]:
    """Which routes were seen, after the place ``since`` of the history, with another spec than these."""

    def rewritten(history: list[Seen]) -> list[str]:
        return [
            seen.name
            for seen in history[since:]
            if seen.kind in ROUTE_KINDS and seen.name in specs and seen.document["spec"] != specs[seen.name]
        ]

    return rewritten


def _spec(on: Stage, name: str) -> dict[str, Any]:
    routes = [seen for seen in on.observer.history if seen.kind in ROUTE_KINDS and seen.name == name]
    return dict(copy.deepcopy(routes[-1].document["spec"]))

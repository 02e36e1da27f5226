"""What people do to a route and to a launch while it runs: nothing is ever written onto a wrong backend."""

from __future__ import annotations

from typing import Any

import pytest

from controller.errors import RefusedError
from tests.virtual.play import TICK, at_30, check, play, rising, silent, turn_bad
from tests.virtual.world import World, launch_document, route_document, shop


def _held(world: World, said: str) -> None:
    assert world.state == "Held"
    assert said in world.status.message


def test_a_changed_weight_holds_names_both_weights_and_goes_on_when_put_back() -> None:
    world, process = at_30()
    world.backends(("shop-stable", 90), ("shop-canary", 10))
    world.run(process, 300)
    _held(world, "the route gives the canary 10%, the launch left it at 30%")
    assert world.weight() == 100
    silent(world, process)
    world.backends(("shop-stable", 70), ("shop-canary", 30))
    play(world, process=process)
    assert world.state == "Succeeded"
    check(world)


def test_a_bad_canary_is_lowered_from_a_weight_that_somebody_else_gave_it() -> None:
    world, process = at_30()
    world.backends(("shop-stable", 40), ("shop-canary", 60))
    turn_bad(world)
    world.run(process, 60)
    assert world.weight() == 0
    assert world.state == "RolledBack"
    check(world)


@pytest.mark.parametrize("turns_bad", [False, True])
@pytest.mark.parametrize(
    ("backends", "said"),
    [
        ([("shop-stable", 70), ("shop-canary-2", 30)], "does not hold backend shop-canary of target main"),
        ([("shop-old", 70), ("shop-canary", 30)], "does not hold backend shop-stable of target main"),
        ([("shop-stable", 70)], "does not hold backend shop-canary"),
        ([("shop-canary", 30)], "does not hold backend shop-stable"),
        ([("shop-stable", 35), ("shop-stable", 35), ("shop-canary", 30)], "lists a backend of target main twice"),
        ([("other", 5), ("shop-old", 65), ("shop-canary-2", 30)], "does not hold backend shop-stable and shop-canary"),
    ],
)
def test_a_route_with_other_backends_is_not_written(
    backends: list[tuple[str, int]], said: str, *, turns_bad: bool
) -> None:
    world, process = at_30()
    world.backends(*backends)
    before = world.documents["HTTPRoute", "shop"]["spec"]
    kept = repr(before)
    if turns_bad:
        turn_bad(world)
    world.run(process, 200)
    assert repr(world.documents["HTTPRoute", "shop"]["spec"]) == kept
    if turns_bad and "shop-canary" in dict(backends):
        assert world.state == "RollingBack"
        assert said in world.status.message
    elif not turns_bad:
        _held(world, said)
        silent(world, process, 10)
    world.backends(("shop-stable", 70), ("shop-canary", 30))
    play(world, process=process)
    assert world.state == ("RolledBack" if turns_bad else "Succeeded")
    assert world.weight() == (0 if turns_bad else 1000)
    check(world)


def test_backends_in_another_order_are_written_by_name() -> None:
    world, process = at_30()
    world.backends(("shop-canary", 30), ("shop-stable", 70))
    play(world, process=process)
    backends = world.documents["HTTPRoute", "shop"]["spec"]["rules"][0]["backendRefs"]
    assert {backend["name"]: backend["weight"] for backend in backends} == {"shop-canary": 100, "shop-stable": 0}
    check(world)


def test_backends_that_change_places_between_the_read_and_the_retreat_are_written_by_name() -> None:
    world, process = at_30()
    view = world.view()
    process = world.reconciler(cluster=view)
    world.turn(process)
    view.frozen = True
    world.backends(("shop-canary", 30), ("shop-stable", 70))
    turn_bad(world)
    world.run(process, 60)
    assert world.weight() == 0
    check(world)


def test_a_rule_with_the_canary_alone_is_never_touched() -> None:
    world, process = at_30()
    alone: dict[str, Any] = {"matches": [{"headers": [{"name": "x-canary", "value": "1"}]}]}
    alone["backendRefs"] = [{"name": "shop-canary", "port": 80, "weight": 1}]
    world.edit_route("shop", lambda route: route["spec"]["rules"].insert(0, alone))
    world.run(process, 20)
    assert world.status.hold is None
    turn_bad(world)
    world.run(process, 60)
    rules = world.documents["HTTPRoute", "shop"]["spec"]["rules"]
    assert rules[0]["backendRefs"] == [{"name": "shop-canary", "port": 80, "weight": 1}]
    assert [backend["weight"] for backend in rules[1]["backendRefs"]] == [100, 0]
    assert world.state == "RolledBack"
    check(world)


def test_a_second_rule_that_splits_otherwise_holds_until_it_is_set_alike() -> None:
    world, process = at_30()
    second = {"backendRefs": [{"name": "shop-stable", "weight": 1}, {"name": "shop-canary", "weight": 1}]}
    world.edit_route("shop", lambda route: route["spec"]["rules"].append(second))
    world.run(process, 300)
    _held(world, "the rules of target main disagree: 30% and 50%")
    second["backendRefs"] = [{"name": "shop-stable", "weight": 7}, {"name": "shop-canary", "weight": 3}]
    world.edit_route("shop", lambda route: route["spec"]["rules"].__setitem__(1, second))
    play(world, process=process)
    assert world.state == "Succeeded"
    for rule in world.documents["HTTPRoute", "shop"]["spec"]["rules"]:
        assert rule["backendRefs"][0]["weight"] == 0
    check(world)


def test_a_second_rule_that_splits_otherwise_is_lowered_too() -> None:
    world, process = at_30()
    second = {"backendRefs": [{"name": "shop-stable", "weight": 1}, {"name": "shop-canary", "weight": 1}]}
    world.edit_route("shop", lambda route: route["spec"]["rules"].append(second))
    turn_bad(world)
    world.run(process, 60)
    for rule in world.documents["HTTPRoute", "shop"]["spec"]["rules"]:
        assert rule["backendRefs"][1]["weight"] == 0
    assert world.state == "RolledBack"
    check(world)


def test_a_deleted_route_holds_and_one_made_again_at_the_same_weight_goes_on() -> None:
    world, process = at_30()
    gone = world.delete("HTTPRoute", "shop")
    world.run(process, 60)
    _held(world, "HTTPRoute shop/shop of target main does not exist")
    silent(world, process)
    gone["metadata"] = {"name": "shop"}
    world.create(gone)
    play(world, process=process)
    assert world.state == "Succeeded"
    check(world)


def test_a_raise_for_a_route_that_was_deleted_and_made_again_is_refused() -> None:
    world, process = at_30()
    world.holds = lambda number, kind: kind == "route"
    world.run(process, 600, until=lambda: bool(world.in_flight))
    world.holds = lambda number, kind: False
    again = world.delete("HTTPRoute", "shop")
    again["metadata"] = {"name": "shop"}
    world.create(again)
    assert world.arrive() == ["refused"]
    play(world, process=process)
    assert rising(world) == [50, 300, 1000]
    check(world)


def test_a_launch_made_again_in_mid_ramp_does_not_go_on_from_a_weight_it_never_gave() -> None:
    world, process = at_30()
    world.delete("Launch", "shop")
    world.run(process, 30)
    world.create(launch_document())
    world.run(process, 300)
    _held(world, "the route gives the canary 30%, the launch left it at 0%")
    assert world.weight() == 300
    silent(world, process)
    world.backends(("shop-stable", 100), ("shop-canary", 0))
    play(world, process=process)
    assert rising(world) == [50, 300, 0, 50, 300, 1000]
    check(world)


@pytest.mark.parametrize("old", [(100, 0), (95, 5)])
def test_somebody_who_sets_the_old_weights_at_every_tick_is_not_fought(old: tuple[int, int]) -> None:
    world, process = at_30()
    for _ in range(60):
        world.clock.at += TICK
        world.backends(("shop-stable", old[0]), ("shop-canary", old[1]))
        world.turn(process)
    ours = [write for write in world.writes if write[1] == "route"]
    assert len(ours) == 2
    assert world.weight() == old[1] * 10
    _held(world, "set it back to go on")
    check(world)


def test_somebody_who_undoes_each_raise_at_once_is_not_fought() -> None:
    world = shop()
    process = world.reconciler()
    for _ in range(120):
        world.clock.at += TICK
        world.turn(process)
        world.backends(("shop-stable", 100), ("shop-canary", 0))
    assert len([write for write in world.writes if write[1] == "route"]) <= 2
    assert world.state == "Held"
    check(world)


def test_a_hold_set_between_the_decision_and_its_write_wins() -> None:
    for number in range(11):
        world = shop()
        said: list[int] = []

        def annotate(now: int, kind: str, at: int = number, world: World = world, done: list[int] = said) -> None:
            if now == at and not done:
                done.append(now)
                world.annotate(hold="not now")

        world.before_write = annotate
        process = world.reconciler()
        world.run(process, 600)
        set_at = next(
            i for i, v in enumerate(world.history) if v.document and "autoadvance.dev/hold" in str(v.document)
        )
        later = [v for v in world.history[set_at:] if v.kind == "Launch" and v.document]
        before = (world.history[set_at].document or {}).get("status", {}).get("intent", {}).get("id")
        for version in later:
            assert (version.document or {}).get("status", {}).get("intent", {}).get("id") in (None, before), number
        assert world.state == "Held"
        world.annotate(hold=None)
        play(world, process=process)
        assert rising(world) == [50, 300, 1000]
        check(world)


def test_a_hold_that_lasted_long_goes_on_where_it_stood() -> None:
    world, process = at_30()
    world.annotate(hold="lunch")
    world.run(process, 1200)
    assert world.weight() == 300
    assert world.state == "Held"
    world.annotate(hold=None)
    world.clock.at += 1
    world.turn(process, asked=False)
    assert world.status.hold is None
    play(world, process=process)
    assert rising(world) == [50, 300, 1000]
    check(world)


def test_a_hold_at_a_gate_whose_undecided_outcome_is_rollback_does_not_roll_back_a_good_canary() -> None:
    phase = {
        "name": "ramp",
        "steps": [{"weight": 30, "for": "2m"}],
        "guardrails": [{"metric": "errors", "below": "2%"}],
        "gate": {"criteria": [{"metric": "errors", "below": "1%"}], "onUndecided": "rollback"},
    }
    world = shop(phases=[phase])
    process = world.reconciler()
    world.run(process, 3600, until=lambda: world.weight() == 300)
    world.annotate(hold="lunch")
    world.run(process, 1200)
    world.annotate(hold=None)
    world.clock.at += 1
    world.turn(process, asked=False)
    assert world.weight() == 300
    play(world, process=process)
    assert world.state == "Succeeded"
    check(world)


def test_a_rollback_acts_in_a_round_that_asked_nothing() -> None:
    world, process = at_30()
    world.problem_of_evidence = "Prometheus did not answer"
    world.run(process, 100)
    world.annotate(rollback="I do not like it")
    world.clock.at += 0.2
    world.turn(process, asked=False)
    assert world.weight() == 0
    assert world.state == "RolledBack"
    silent(world, process)
    check(world)


def test_a_rollback_is_acted_on_although_its_record_cannot_be_stored() -> None:
    world, process = at_30()

    def fail(number: int, kind: str) -> None:
        if kind == "status":
            raise RefusedError("etcd is full")

    world.before_write = fail
    world.annotate(rollback="now")
    world.clock.at += 1
    world.turn(process, asked=False)
    assert world.weight() == 0
    world.before_write = lambda number, kind: None
    world.run(process, 60)
    assert world.state == "RolledBack"
    check(world)


def test_a_retry_after_a_rollback_starts_a_new_run_from_the_first_step() -> None:
    world, process = at_30()
    turn_bad(world)
    play(world, process=process)
    world.run(process, 120)
    world.service("shop").canary_errors.append((world.clock.at, 0.0))
    world.run(process, 60)
    assert rising(world) == [50, 300, 0]
    world.annotate(retry="fixed")
    world.turn(process, asked=False)
    play(world, process=process)
    assert rising(world) == [50, 300, 0, 50, 300, 1000]
    check(world)


def test_an_admission_that_refuses_the_raise_for_a_while_holds_and_recovers_by_itself() -> None:
    world = shop()

    def refuse(document: dict[str, Any]) -> None:
        raise RefusedError("admission webhook said no")

    world.admit = refuse
    process = world.reconciler()
    world.run(process, 600)
    _held(world, "admission webhook said no")
    assert rising(world) == []
    assert len(world.writes) <= 3
    world.admit = lambda document: None
    play(world, process=process)
    assert rising(world) == [50, 300, 1000]
    check(world)


def test_an_admission_that_refuses_a_later_raise_costs_few_writes_and_recovers_by_itself() -> None:
    world, process = at_30()

    def refuse(document: dict[str, Any]) -> None:
        raise RefusedError("admission webhook said no")

    world.admit = refuse
    written = len(world.writes)
    world.run(process, 1200)
    _held(world, "admission webhook said no")
    assert len(world.writes) - written <= 5
    world.admit = lambda document: None
    play(world, process=process)
    assert rising(world) == [50, 300, 1000]
    check(world)


def test_an_admission_that_stores_something_else_is_seen_and_not_believed() -> None:
    world, process = at_30()

    def rewrite(document: dict[str, Any]) -> None:
        backends = document["spec"]["rules"][0]["backendRefs"]
        if backends[1]["weight"] > 30:
            backends[0]["weight"], backends[1]["weight"] = 50, 50

    world.admit = rewrite
    world.run(process, 600)
    assert world.weight() == 500
    _held(world, "the route gives the canary 50%")
    assert world.status.targets[0].weight == 300


def test_two_launches_on_one_route_the_older_moves_it_and_the_younger_waits() -> None:
    world = shop()
    younger = launch_document()
    younger["metadata"] = {"name": "younger", "namespace": "shop", "creationTimestamp": "2023-11-14T22:20:00Z"}
    world.create(younger)
    process = world.reconciler()
    world.run(process, 200)
    assert world.status_of("younger").state.value == "Held"
    assert "launch shop/shop is older" in world.status_of("younger").message
    play(world, process=process)
    assert rising(world) == [50, 300, 1000]
    check(world, "shop")
    world.run(process, 120)
    assert world.weight() == 1000


def test_two_launches_of_which_one_names_the_rule_and_the_other_none_do_not_move_the_same_weights() -> None:
    world = shop()
    world.edit_route("shop", lambda route: route["spec"]["rules"][0].update(name="all"))
    younger = launch_document()
    younger["metadata"] = {"name": "younger", "namespace": "shop", "creationTimestamp": "2023-11-14T22:20:00Z"}
    younger["spec"]["targets"][0]["route"]["rule"] = "all"
    world.create(younger)
    process = world.reconciler()
    world.run(process, 60)
    assert "is older" in world.status_of("younger").message
    play(world, process=process)
    assert rising(world) == [50, 300, 1000]
    check(world, "shop")


def test_a_grpc_route_is_moved_in_the_same_way() -> None:
    document = launch_document()
    document["spec"]["targets"][0]["route"] = {"name": "shop", "kind": "GRPCRoute"}
    world = World(document, [route_document() | {"kind": "GRPCRoute"}])
    play(world)
    assert rising(world) == [50, 300, 1000]
    check(world)


def test_the_time_in_which_somebody_had_taken_the_traffic_away_is_no_dwell() -> None:
    world, process = at_30()
    world.run(process, 60)
    world.backends(("shop-stable", 100), ("shop-canary", 0))
    world.run(process, 300)
    world.backends(("shop-stable", 70), ("shop-canary", 30))
    back = world.clock.at
    play(world, process=process)
    assert next(at for at, _, weight in world.weights_seen if weight == 1000) - back >= 120
    assert rising(world) == [50, 300, 0, 300, 1000]
    check(world)

"""Weights are written exactly, only where they are ours, and read back as what was wanted."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.core.plan import Target
from controller.core.weights import SplitError, canary_takes_traffic, edits, live_weight, pairs, patch
from controller.core.world import BackendReference, Route, RouteKey, RouteRule, WeightEdit, read_route

TARGET = Target("main", "shop", "HTTPRoute", "shop", "", "stable", "canary")
KEY = RouteKey("HTTPRoute", "prod", "shop")

Backends = list[tuple[str, int]]


def route(*rules: Backends, names: tuple[str, ...] = ()) -> Route:
    """A route of such rules."""
    return Route(
        key=KEY,
        uid="u",
        resource_version="7",
        generation=1,
        rules=tuple(
            RouteRule(
                names[place] if place < len(names) else "",
                tuple(BackendReference(name, weight) for name, weight in rule),
            )
            for place, rule in enumerate(rules)
        ),
    )


def written(before: Route, writes: tuple[WeightEdit, ...]) -> Route:
    """The route after the writes, each of which must find its backend in its place."""
    rules = [list(rule.backends) for rule in before.rules]
    for write in writes:
        assert rules[write.rule][write.backend].name == write.name
        rules[write.rule][write.backend] = replace(rules[write.rule][write.backend], weight=write.weight)
    return replace(
        before,
        rules=tuple(replace(rule, backends=tuple(new)) for rule, new in zip(before.rules, rules, strict=True)),
    )


def weights(shown: Route) -> list[list[int]]:
    """All weights by rule."""
    return [[backend.weight for backend in rule.backends] for rule in shown.rules]


def after(before: Route, weight: int, target: Target = TARGET) -> list[list[int]]:
    """The weights of the route once the canary has so many thousandths."""
    return weights(written(before, edits(before, target, weight)))


def test_a_sum_that_can_hold_the_share_is_kept() -> None:
    assert after(route([("stable", 100), ("canary", 0)]), 50) == [[95, 5]]
    assert after(route([("stable", 2000), ("canary", 0)]), 1) == [[1998, 2]]
    assert after(route([("stable", 1), ("canary", 0)]), 1000) == [[0, 1]]
    assert after(route([("stable", 7), ("canary", 3)]), 0) == [[10, 0]]


def test_a_sum_that_is_too_coarse_becomes_1000() -> None:
    assert after(route([("stable", 100), ("canary", 0)]), 1) == [[999, 1]]
    assert after(route([("stable", 100), ("canary", 0)]), 5) == [[995, 5]]
    assert after(route([("canary", 0), ("stable", 1)]), 50) == [[50, 950]]
    assert after(route([("stable", 0), ("canary", 0)]), 300) == [[700, 300]]


def test_other_backends_keep_their_share() -> None:
    beside = route([("stable", 80), ("other", 10), ("canary", 20)])
    assert after(beside, 500) == [[50, 10, 50]]
    with pytest.raises(SplitError, match=r"0\.1% cannot be written in a sum of 100 beside other; scale .* 1000"):
        edits(beside, TARGET, 1)
    assert after(beside, 0) == [[100, 10, 0]]
    assert live_weight(beside, TARGET) == 200


def test_a_retreat_is_written_into_any_sum() -> None:
    assert after(route([("stable", 0), ("other", 10), ("canary", 0)]), 0) == [[0, 10, 0]]
    assert after(route([("stable", 0), ("canary", 0)]), 0) == [[0, 0]]
    assert after(route([("stable", 0), ("canary", 3)]), 0) == [[3, 0]]


def test_every_rule_that_holds_both_is_written_and_no_other() -> None:
    several = route(
        [("canary", 1)],  # by a header: weight 0 there would answer 500
        [("stable", 100), ("canary", 0)],
        [("stable", 1)],
        [("canary", 0), ("stable", 1000)],
    )
    assert after(several, 300) == [[1], [70, 30], [1], [300, 700]]
    assert {write.rule for write in edits(several, TARGET, 0)} == {1, 3}


def test_a_named_rule_is_the_only_one_that_is_written() -> None:
    named = replace(TARGET, rule="web")
    two = route([("stable", 9), ("canary", 1)], [("stable", 100), ("canary", 0)], names=("api", "web"))
    assert after(two, 50, named) == [[9, 1], [95, 5]]
    assert live_weight(two, named) == 0
    with pytest.raises(SplitError, match=r"no rule called shop \(it has: api, web\)"):
        pairs(two, replace(TARGET, rule="shop"))
    with pytest.raises(SplitError, match="none has a name"):
        pairs(route([("stable", 1), ("canary", 1)]), named)


def test_rules_that_disagree_are_no_weight() -> None:
    with pytest.raises(SplitError, match=r"rules of target main disagree: 5% and 10%; set them alike"):
        live_weight(route([("stable", 95), ("canary", 5)], [("stable", 9), ("canary", 1)]), TARGET)
    assert live_weight(route([("stable", 95), ("canary", 5)], [("stable", 950), ("canary", 50)]), TARGET) == 50


def test_a_share_that_no_plan_can_name_is_told() -> None:
    with pytest.raises(SplitError, match=r"canary has 33\.333% of target main.*multiple of 0\.1%"):
        live_weight(route([("stable", 2), ("canary", 1)]), TARGET)
    with pytest.raises(SplitError, match="both weights of target main are 0; give stable a weight above 0"):
        live_weight(route([("stable", 0), ("canary", 0)]), TARGET)


def test_a_backend_twice_in_one_rule_is_refused() -> None:
    twice = route([("stable", 1), ("canary", 0), ("canary", 1)], names=("web",))
    with pytest.raises(SplitError, match="rule web lists a backend of target main twice"):
        edits(twice, TARGET, 0)
    with pytest.raises(SplitError, match="rule number 1 lists"):
        edits(route([("stable", 1), ("stable", 0), ("canary", 1)]), TARGET, 0)


def test_a_route_without_the_pair_is_told_what_it_lacks() -> None:
    with pytest.raises(SplitError, match=r"does not hold backend canary of target main \(it holds: old, stable\)"):
        pairs(route([("stable", 1), ("old", 0)]), TARGET)
    with pytest.raises(SplitError, match=r"backend stable and canary .*it holds: none"):
        pairs(route(), TARGET)
    with pytest.raises(SplitError, match="no rule that holds both stable and canary"):
        pairs(route([("stable", 1)], [("canary", 1)]), TARGET)


def test_the_canary_takes_traffic_where_any_of_its_rules_gives_it_some() -> None:
    assert canary_takes_traffic(route([("stable", 1), ("canary", 0)], [("stable", 0), ("canary", 3)]), TARGET)
    assert not canary_takes_traffic(route([("stable", 1), ("canary", 0)]), TARGET)
    assert not canary_takes_traffic(route([("canary", 1)]), TARGET)


def test_only_a_fresh_patch_is_tied_to_the_version_that_was_read() -> None:
    shown = route([("stable", 100), ("canary", 0)])
    raised = patch(shown, TARGET, 50, "1-2", fresh=True)
    lowered = patch(shown, TARGET, 0, "1-3", fresh=False)
    assert (raised.resource_version, lowered.resource_version) == ("7", None)
    assert (raised.uid, raised.epoch, raised.edits) == ("u", "1-2", edits(shown, TARGET, 50))


def manifest(*references: dict[str, Any]) -> dict[str, Any]:
    """An HTTPRoute with one rule."""
    return {
        "kind": "HTTPRoute",
        "metadata": {"name": "shop", "namespace": "prod"},
        "spec": {"rules": [{"backendRefs": list(references)}]},
    }


def test_a_missing_weight_is_1_and_0_is_0() -> None:
    shown = read_route(manifest({"name": "stable"}, {"name": "canary", "weight": 0}))
    assert weights(shown) == [[1, 0]]
    assert live_weight(shown, TARGET) == 0
    assert live_weight(read_route(manifest({"name": "stable"}, {"name": "canary"})), TARGET) == 500


def test_a_backend_of_another_kind_or_namespace_is_not_ours() -> None:
    for foreign in ({"kind": "ServiceImport"}, {"group": "example.com"}, {"namespace": "other"}):
        with pytest.raises(SplitError, match="no rule that holds both"):
            pairs(read_route(manifest({"name": "stable", "weight": 1}, {"name": "canary", **foreign})), TARGET)
    same = {"kind": "Service", "group": "", "namespace": "prod"}
    assert pairs(read_route(manifest({"name": "stable"}, {"name": "canary", **same})), TARGET)


NAMES = ("stable", "canary", "other", "third")
RULES = st.lists(
    st.lists(st.sampled_from(NAMES), unique=True, max_size=4).flatmap(
        lambda names: st.tuples(*(st.tuples(st.just(name), st.integers(0, 5000)) for name in names)).map(list)
    ),
    min_size=1,
    max_size=4,
)


@settings(max_examples=15, deadline=None)
@given(rules=RULES, wanted=st.integers(0, 1000))
def test_what_is_written_is_what_is_read_and_nothing_else_moves(rules: list[Backends], wanted: int) -> None:
    before = route(*rules)
    try:
        writes = edits(before, TARGET, wanted)
    except SplitError:
        both = [dict(rule) for rule in rules if {"stable", "canary"} <= dict(rule).keys()]
        coarse = [
            rule
            for rule in both
            if len(rule) > 2
            and ((rule["stable"] + rule["canary"]) * wanted % 1000 or not rule["stable"] + rule["canary"])
        ]
        assert not both or (coarse and wanted)
        return
    shown = written(before, writes)
    for place, pair in enumerate(pairs(before, TARGET)):
        new = pairs(shown, TARGET)[place]
        assert new.total == pair.total or (new.total == 1000 and pair.alone)
        assert new.canary_weight * 1000 == wanted * new.total
    ours = {(write.rule, write.backend) for write in writes}
    for number, rule in enumerate(before.rules):
        for position, backend in enumerate(rule.backends):
            assert (number, position) in ours or shown.rules[number].backends[position] == backend
    if all(pair.total for pair in pairs(shown, TARGET)):
        assert live_weight(shown, TARGET) == wanted
    assert edits(shown, TARGET, wanted) == writes

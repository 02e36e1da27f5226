"""Which weights of a route are ours, what share they give the canary, and how to write another share exactly.

Only rules that hold both named backends are touched, and in them only those two weights (see
"Semantics that bite" of the Gateway API: a rule with the canary alone must never get weight 0).
"""

from __future__ import annotations

from dataclasses import dataclass

from controller.core.plan import Target
from controller.core.units import FULL_WEIGHT, format_weight
from controller.core.world import BackendReference, Route, RoutePatch, RouteRule, WeightEdit


class SplitError(Exception):
    """The route cannot be used as the plan says; the message names what differs and what to do."""


@dataclass(frozen=True, slots=True)
class Pair:
    """The two backends of one rule: their places, their weights, and whether the rule has others besides."""

    rule: int
    stable: int
    canary: int
    stable_weight: int
    canary_weight: int
    alone: bool

    @property
    def total(self) -> int:
        """The sum of the pair's weights."""
        return self.stable_weight + self.canary_weight


def pairs(route: Route, target: Target) -> tuple[Pair, ...]:
    """The rules of the route that split between the target's two backends.

    Raises:
        SplitError: there is none, a backend stands twice in one rule, or the named rule is not there.
    """
    found = []
    for index, rule in enumerate(route.rules):
        if target.rule and rule.name != target.rule:
            continue
        stable = _places(rule, target.stable)
        canary = _places(rule, target.canary)
        if len(stable) > 1 or len(canary) > 1:
            raise SplitError(
                f"{route.key}: rule {_rule_name(index, rule)} lists a backend of target {target.name} twice; "
                f"list {target.stable} and {target.canary} once each"
            )
        if stable and canary:
            found.append(
                Pair(
                    rule=index,
                    stable=stable[0],
                    canary=canary[0],
                    stable_weight=rule.backends[stable[0]].weight,
                    canary_weight=rule.backends[canary[0]].weight,
                    alone=len(rule.backends) == 2,
                )
            )
    if not found:
        raise SplitError(_why_none(route, target))
    return tuple(found)


def _places(rule: RouteRule, name: str) -> list[int]:
    return [place for place, backend in enumerate(rule.backends) if backend.service and backend.name == name]


def _rule_name(index: int, rule: RouteRule) -> str:
    return rule.name or f"number {index + 1}"


def _why_none(route: Route, target: Target) -> str:
    names = sorted({backend.name for rule in route.rules for backend in rule.backends})
    if target.rule and target.rule not in {rule.name for rule in route.rules}:
        known = ", ".join(sorted(rule.name for rule in route.rules if rule.name)) or "none has a name"
        return f"{route.key} has no rule called {target.rule} (it has: {known})"
    missing = [name for name in (target.stable, target.canary) if name not in names]
    if missing:
        return (
            f"{route.key} does not hold backend {' and '.join(missing)} of target {target.name} "
            f"(it holds: {', '.join(names) or 'none'})"
        )
    return (
        f"{route.key} has no rule that holds both {target.stable} and {target.canary}; "
        f"put both into the backendRefs of one rule"
    )


def live_weight(route: Route, target: Target) -> int:
    """The canary's share of the pair in thousandths, as the route says now.

    Raises:
        SplitError: the route does not hold the pair, its rules disagree, all weights of a rule are 0, or the share
            is none that a plan can name.
    """
    shares = set()
    for pair in pairs(route, target):
        if pair.total == 0:
            raise SplitError(
                f"{route.key}: both weights of target {target.name} are 0; give {target.stable} a weight above 0"
            )
        shares.add((pair.canary_weight, pair.total))
    exact = {(weight * FULL_WEIGHT / total) for weight, total in shares}
    if len(exact) > 1:
        listed = " and ".join(f"{share / 10:g}%" for share in sorted(exact))
        raise SplitError(f"{route.key}: the rules of target {target.name} disagree: {listed}; set them alike")
    share = exact.pop()
    if share != int(share):
        raise SplitError(
            f"{route.key}: {target.canary} has {share / 10:.3f}% of target {target.name}, "
            f"which is no weight of a plan; set it to a multiple of 0.1%"
        )
    return int(share)


def canary_takes_traffic(route: Route, target: Target) -> bool:
    """Whether any rule that holds the pair sends traffic to the canary, however oddly the weights are set."""
    try:
        return any(pair.canary_weight > 0 for pair in pairs(route, target))
    except SplitError:
        return False


def edits(route: Route, target: Target, weight: int) -> tuple[WeightEdit, ...]:
    """The exact writes that give the canary ``weight`` thousandths of the pair, in all of its rules.

    The pair's sum is kept where the share can be written with it; else it becomes 1000, which only a rule with no
    other backends allows. A weight of 0 keeps any sum.

    Raises:
        SplitError: the route does not hold the pair, or the share cannot be written beside other backends.
    """
    writes = []
    for pair in pairs(route, target):
        total = pair.total
        if weight and (total == 0 or (total * weight) % FULL_WEIGHT):
            if not pair.alone:
                names = ", ".join(_others(route.rules[pair.rule].backends, target))
                raise SplitError(
                    f"{route.key}: {format_weight(weight)} cannot be written in a sum of {total} beside {names}; "
                    f"scale the weights of that rule so that {target.stable} and {target.canary} sum to 1000"
                )
            total = FULL_WEIGHT
        canary = total * weight // FULL_WEIGHT
        writes.append(WeightEdit(pair.rule, pair.stable, target.stable, total - canary))
        writes.append(WeightEdit(pair.rule, pair.canary, target.canary, canary))
    return tuple(writes)


def _others(backends: tuple[BackendReference, ...], target: Target) -> list[str]:
    return [backend.name for backend in backends if backend.name not in (target.stable, target.canary)]


def patch(route: Route, target: Target, weight: int, epoch: str, *, fresh: bool) -> RoutePatch:
    """The patch that writes ``weight``; ``fresh`` ties it to the very version of the route that was read.

    Raises:
        SplitError: as :func:`edits`.
    """
    return RoutePatch(
        key=route.key,
        uid=route.uid,
        resource_version=route.resource_version if fresh else None,
        edits=edits(route, target, weight),
        epoch=epoch,
    )

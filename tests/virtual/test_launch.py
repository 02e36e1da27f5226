"""Whole launches of one and of several targets in virtual time."""

from __future__ import annotations

from tests.virtual.world import START, shop


def test_a_good_canary_passes_every_step_in_order_and_ends_at_100() -> None:
    world = shop()
    world.run(world.reconciler(), 3600, until=lambda: world.state == "Succeeded")
    assert world.state == "Succeeded"
    assert [weight for _, _, weight in world.weights_seen] == [50, 300, 1000]
    assert not world.failures


def test_a_canary_that_turns_bad_at_30_percent_goes_to_0_and_never_rises_again() -> None:
    world = shop()
    process = world.reconciler()
    world.run(process, 3600, until=lambda: world.weight() == 300)
    turned = world.clock.at + 30
    world.service("shop").canary_errors.append((turned, 0.2))
    world.run(process, 600)
    assert [weight for _, _, weight in world.weights_seen] == [50, 300, 0]
    assert world.state == "RolledBack"
    at_zero = world.weights_seen[-1][0]
    assert turned < at_zero <= turned + 30, at_zero - turned
    assert "proven worse than" in world.status.decisions[-1].message
    assert at_zero > START

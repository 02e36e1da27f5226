"""What the daemon does with a decision besides writing it: nothing of it keeps the writing from happening."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from controller.adapters.alertmanager import AlertSender
from controller.core.alerts import Alert
from controller.core.decide import Decision
from controller.core.observation import TargetView
from controller.core.status import State
from controller.core.world import LaunchKey
from controller.daemon import DaemonRecorder
from controller.observe import Memory, Observer
from controller.reconcile import Reconciler
from tests.virtual.world import KEY, World, launch_document, route_document


class Broken(AlertSender):
    """A sender with a fault that nobody foresaw."""

    def publish(self, key: LaunchKey, alerts: Iterable[Alert]) -> None:
        raise RuntimeError(f"unforeseen: {key}, {list(alerts)}")


def test_what_cannot_be_told_keeps_no_rollback_from_being_written() -> None:
    world = World(launch_document(), [route_document()])
    recorder = DaemonRecorder(Broken((), external_url="http://localhost", on_failure=lambda _: None))
    process = Reconciler(world, world, recorder, world.clock)
    world.run(process, 60, tick=10)
    world.annotate(rollback="broken")
    world.run(process, 60, tick=10)
    assert world.status.state is State.ROLLED_BACK
    assert (recorder.registry.get_sample_value("autoadvance_alert_failures_total") or 0) > 5


class Interrupted(DaemonRecorder):
    """A recorder in whose way something else happens first, in another thread as it were."""

    meanwhile: Callable[[], None] | None = None

    def judged(self, key: LaunchKey, decision: Decision, views: tuple[TargetView, ...]) -> None:
        if self.meanwhile is not None:
            self.meanwhile()
        super().judged(key, decision, views)


class Forgetful(Observer):
    """Forgets a launch right after it was asked for what it remembers of it, as often as it is asked."""

    def memory(self, key: LaunchKey) -> Memory | None:
        found = super().memory(key)
        self.forget_all_but([])
        return found


def held_world() -> World:
    world = World(launch_document(), [route_document()])
    world.annotate(hold="looking")
    return world


def told_of(recorder: DaemonRecorder) -> tuple[int, bool]:
    """How many alerts are firing, and whether there are metrics of the launch."""
    assert recorder.sender is not None
    state = {"namespace": KEY.namespace, "launch": KEY.name, "state": "Held"}
    return (
        len(recorder.sender.firing()),
        recorder.registry.get_sample_value("autoadvance_launch_state", state) is not None,
    )


def silent_sender() -> AlertSender:
    return AlertSender((), external_url="http://localhost", on_failure=lambda _: None)


def test_a_launch_that_goes_while_it_is_decided_upon_is_told_of_no_more() -> None:
    world, recorder = held_world(), Interrupted(silent_sender())
    process = Reconciler(world, world, recorder, world.clock)
    world.run(process, 20, tick=10)
    assert told_of(recorder) == (1, True)
    recorder.meanwhile = lambda: process.forget_all_but([])
    world.run(process, 10, tick=10)
    process.forget_all_but([])
    assert told_of(recorder) == (0, False)


def test_a_launch_that_was_forgotten_before_its_turn_is_not_decided_upon() -> None:
    world, recorder = held_world(), DaemonRecorder(silent_sender())
    process = Reconciler(world, world, recorder, world.clock, observer=Forgetful)
    looked = process.look(world.launches())
    assert process.settle(looked, KEY, {}, asked=False)
    assert told_of(recorder) == (0, False)

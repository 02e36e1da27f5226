"""What the daemon does with a decision besides writing it: nothing of it keeps the writing from happening."""

from __future__ import annotations

from collections.abc import Iterable

from controller.adapters.alertmanager import AlertSender
from controller.core.alerts import Alert
from controller.core.status import State
from controller.core.world import LaunchKey
from controller.daemon import DaemonRecorder
from controller.reconcile import Reconciler
from tests.virtual.world import World, launch_document, route_document


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

"""What the demo has shown, in a few lines, and whether it is what it should have shown."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Console

from controller.core.alarms import ROLLED_BACK
from controller.core.signals import Signal
from controller.core.status import DecisionRecord
from controller.core.units import format_count, format_duration
from demo.observer import AlertNow, Scene
from demo.parts import TICK_S
from demo.screen import clock

END_STANDS_S = 3.0


def verdict(scene: Scene, *, bad: bool) -> str | None:
    """Empty: it ended as it should. A sentence: it ended otherwise. None: it has not ended."""
    if bad:
        if scene.succeeded:
            return "the failing canary was given all traffic; it should have been rolled back"
        if scene.rolled_back and scene.failing_since is None:
            return f"the canary was rolled back before it failed: {scene.status.message}"
        return "" if scene.rolled_back and alert(scene) is not None and _shown(scene) else None
    if scene.rolled_back:
        return f"the good canary was rolled back: {scene.status.message}"
    return "" if scene.succeeded and _shown(scene) else None


def _shown(scene: Scene) -> bool:
    """Whether the end has stood on the screen for a moment."""
    ended = scene.status.ended_at
    return ended is not None and scene.since_start(ended) + END_STANDS_S <= scene.elapsed


def alert(scene: Scene) -> AlertNow | None:
    """The alert of the rollback, once Alertmanager has it."""
    return next((found for found in scene.alerts if found.name == ROLLED_BACK), None)


def tell(console: Console, scene: Scene, *, bad: bool) -> None:
    """Print the summary of a demo that ended as it should."""
    console.print()
    for line in _of_bad(scene) if bad else _of_good(scene):
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def _of_good(scene: Scene) -> Iterator[str]:
    raises = [change for change in scene.changes[1:] if change.canary > 0]
    yield f"The canary reached 100 % in {format_duration(raises[-1].at - scene.began)}, in {len(raises)} steps:"
    for record in _passed(scene):
        yield f"  {clock(scene.since_start(record.at))}  {record.message}"
    yield _traffic(scene)


def _of_bad(scene: Scene) -> Iterator[str]:
    assert scene.failing_since is not None
    breach = next((record for record in scene.decisions if record.signal == Signal.BREACH.value), None)
    yield "The canary failed and was taken back to 0 %:"
    for record in _passed(scene):
        yield f"  {clock(scene.since_start(record.at))}  {record.message}"
    yield f"  {clock(scene.failing_since)}  the canary began to fail: a fifth of its answers"
    if breach is not None:
        zero = scene.changes[-1].at
        yield f"  {clock(scene.since_start(breach.at))}  {breach.message}"
        yield (
            f"The canary was at 0 % {format_duration(max(0.001, zero - breach.at))} after the proof was seen "
            f"(a tick is {format_duration(TICK_S)}) and {format_duration(scene.since_start(zero) - scene.failing_since)} "
            "after its first failure."
        )
    received = alert(scene)
    if received is not None:
        yield f"Alertmanager received {received.name} ({received.severity}): {received.summary}"
        yield f"  {received.description}"
    yield _traffic(scene)


def _passed(scene: Scene) -> list[DecisionRecord]:
    passing = {Signal.STEP_DONE.value, Signal.LAUNCH_PASSED.value}
    return [record for record in scene.decisions if record.signal in passing]


def _traffic(scene: Scene) -> str:
    seen = scene.traffic
    return (
        f"The clients sent {format_count(seen.total)} requests; {format_count(seen.failed())} failed, "
        f"{format_count(seen.failed('canary'))} of them at the canary."
    )

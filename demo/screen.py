"""The scene for people: drawn again and again on a terminal, one line per change elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from controller.core.status import State
from controller.core.units import format_count, format_share
from demo.observer import CriterionNow, Scene

_BAR = 56
_SHOWN_DECISIONS = 5
_COLOURS = {
    State.SUCCEEDED: "green",
    State.ROLLING_BACK: "red",
    State.ROLLED_BACK: "red",
    State.HELD: "yellow",
}
_VERDICTS = {"pass": "green", "fail": "bold red", "undecided": "yellow", "no data": "dim"}


class Screen(Protocol):
    """Where scenes are shown."""

    def show(self, scene: Scene) -> None:
        """Show this scene."""

    def close(self) -> None:
        """Leave the last scene standing."""


class LiveScreen:
    """A terminal: the whole scene in place, four times a second at most."""

    def __init__(self, console: Console, places: Mapping[str, str]) -> None:
        self._places = places
        self._live = Live(console=console, auto_refresh=False, vertical_overflow="crop")
        self._live.start()

    def show(self, scene: Scene) -> None:
        """Draw it over the one before."""
        self._live.update(draw(scene, self._places), refresh=True)

    def close(self) -> None:
        """Give the terminal back."""
        self._live.stop()


class LineScreen:
    """No terminal: a line for each change of weight, decision, alert and criterion's verdict."""

    def __init__(self, console: Console, places: Mapping[str, str]) -> None:
        self._console = console
        self._decisions: set[str] = set()
        self._changes = 0
        self._failing = False
        self._alerts: set[tuple[str, float]] = set()
        self._verdicts: dict[str, str] = {}
        for name, url in places.items():
            self._print(0.0, f"{name}: {url}")

    def show(self, scene: Scene) -> None:
        """Print what is new in it."""
        for record in scene.decisions:
            if record.id not in self._decisions:
                self._decisions.add(record.id)
                self._print(scene.since_start(record.at), f"decision {record.id}, {record.signal}: {record.message}")
        for change in scene.changes[self._changes :]:
            self._print(scene.since_start(change.at), f"weight: canary {format_share(change.canary)}")
        self._changes = len(scene.changes)
        if scene.failing_since is not None and not self._failing:
            self._failing = True
            self._print(scene.failing_since, "the canary begins to fail")
        for criterion in scene.criteria:
            if self._verdicts.get(criterion.name) != criterion.verdict:
                self._verdicts[criterion.name] = criterion.verdict
                self._print(scene.elapsed, f"{criterion.name}: {criterion.verdict} ({_counts(criterion)})")
        for alert in scene.alerts:
            if (alert.name, alert.starts_at) not in self._alerts:
                self._alerts.add((alert.name, alert.starts_at))
                self._print(scene.elapsed, f"Alertmanager has {alert.name} ({alert.severity}): {alert.summary}")

    def close(self) -> None:
        """Nothing is held."""

    def _print(self, at: float, text: str) -> None:
        self._console.print(f"{clock(at)}  {text}", highlight=False, markup=False, soft_wrap=True)


def clock(seconds: float) -> str:
    """Seconds since the start as minutes and seconds: 1:05."""
    whole = max(0, int(seconds))
    return f"{whole // 60}:{whole % 60:02d}"


def draw(scene: Scene, places: Mapping[str, str]) -> RenderableType:
    """The whole scene as one thing to print."""
    parts: list[RenderableType] = [
        _head(scene),
        Text(),
        _bars(scene),
        Text(),
        _steps(scene),
        _criteria(scene),
        _decisions(scene),
    ]
    if scene.alerts:
        parts += [Text(), _alerts(scene)]
    if places:
        parts += [Text(), _places(places)]
    return Panel(
        Group(*parts),
        title="[bold]auto-advance[/] · launch demo/shop",
        subtitle="Ctrl-C ends it and cleans up",
        border_style=_COLOURS.get(scene.status.state, "cyan"),
        padding=(1, 2),
    )


def _head(scene: Scene) -> Text:
    status = scene.status
    step = f" · step {status.step} of {len(scene.steps)}" if status.step else ""
    revision = f" · revision {status.run.revision}" if status.run else ""
    text = Text()
    text.append(status.state.value, style=f"bold {_COLOURS.get(status.state, 'cyan')}")
    text.append(f"{revision}{step} · {clock(scene.elapsed)}", style="bold")
    if scene.failing_since is not None:
        text.append(f" · the canary fails since {clock(scene.failing_since)}", style="red")
    text.append(f"\n{scene.why}")
    return text


def _bars(scene: Scene) -> Group:
    table = Table.grid(padding=(0, 1))
    for name, share, colour in (("stable", 1 - scene.canary, "blue"), ("canary", scene.canary, "magenta")):
        filled = max(1, round(share * _BAR)) if share > 0 else 0
        bar = Text("█" * filled, style=colour) + Text("░" * (_BAR - filled), style="dim")
        table.add_row(name, bar, Text(format_share(share), style="bold"))
    seen = scene.traffic
    shown = "-" if seen.canary_share is None else format_share(seen.canary_share)
    clients = (
        f"clients: {seen.per_second:.0f} requests/s, {shown} of the last answers by the canary, "
        f"{format_count(seen.failed())} of {format_count(seen.total)} failed"
    )
    return Group(table, Text(clients, style="dim"))


def _steps(scene: Scene) -> Text:
    text = Text()
    for number, step in enumerate(scene.steps, start=1):
        if number > 1:
            text.append(" ── ", style="dim")
        following = scene.steps[number].reached if number < len(scene.steps) else None
        if step.reached is None:
            text.append(f"○ {step.weight:g}%", style="dim")
            continue
        if following is not None or scene.succeeded:
            text.append(f"✔ {step.weight:g}%", style="green")
        elif scene.canary > 0:
            text.append(f"● {step.weight:g}%", style="bold")
        else:
            text.append(f"✘ {step.weight:g}%", style="bold red")
        text.append(f" at {clock(step.reached)}", style="dim")
        if following is None and not scene.canary:
            text.append(f", 0% at {clock(scene.since_start(scene.changes[-1].at))}", style="bold red")
    return text


def _criteria(scene: Scene) -> Table:
    table = Table(expand=True, box=SIMPLE_HEAD, header_style="bold", pad_edge=False)
    for title in ("guardrail", "bad share", "limit", "bad", "requests"):
        table.add_column(title, justify="left" if title == "guardrail" else "right")
    table.add_column("verdict")
    for criterion in scene.criteria:
        share = criterion.share
        table.add_row(
            criterion.name,
            "-" if share is None else format_share(share),
            format_share(criterion.limit),
            format_count(criterion.bad),
            format_count(criterion.requests),
            Text(criterion.verdict, style=_VERDICTS.get(criterion.verdict, "")),
        )
    if not scene.criteria:
        table.add_row("judged once the canary has traffic", "", "", "", "", "")
    return table


def _decisions(scene: Scene) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column()
    for record in scene.decisions[-_SHOWN_DECISIONS:]:
        words = Text()
        words.append(record.signal, style="red" if record.signal == "Breach" else "cyan")
        words.append(f"  {record.message}")
        table.add_row(Text(clock(scene.since_start(record.at)), style="dim"), words)
    return table


def _alerts(scene: Scene) -> Group:
    return Group(
        *(Text.assemble(("alert ", "dim"), (f"{alert.name} ", "bold red"), alert.summary) for alert in scene.alerts)
    )


def _places(places: Mapping[str, str]) -> Table:
    table = Table.grid(padding=(0, 2))
    for name, place in places.items():
        table.add_row(Text(name, style="dim"), Text(place, style="dim"))
    return table


def _counts(criterion: CriterionNow) -> str:
    share = "" if criterion.share is None else f", {format_share(criterion.share)}"
    limit = format_share(criterion.limit)
    return f"{format_count(criterion.bad)} bad in {format_count(criterion.requests)} requests{share}; limit {limit}"

"""`python -m demo`: one launch on everything real, from its start to its end. `BAD=1`: a canary that fails at 30 %."""

from __future__ import annotations

import argparse
import io
import os
import re
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import yaml
from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console

from demo.grafana import ABSENT, Grafana
from demo.observer import Observer, Scene
from demo.parts import MANIFESTS, PartFailedError, Parts
from demo.screen import LineScreen, LiveScreen, Screen, draw
from demo.summary import tell, verdict
from demo.traffic import Traffic

SHOWN = "deploy/examples/demo"
NEEDED = ("launch.yaml", "route.yaml", "endpoints.yaml")
LONGEST_S = 165.0
"""With start and cleaning up, the whole stays below three minutes."""
LOOK_S = 0.25
FAILS_FROM = 0.30
FAILS_AFTER_S = 4.0
FAILING = 0.2
PICTURE_WIDTH = 108
EXIT_OK, EXIT_FAILED, EXIT_INTERRUPTED = 0, 1, 130


class _EndedError(Exception):
    """The demo did not end as it should; the message is one sentence."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo; the exit code."""
    options = _options(arguments)
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number in before:
        signal.signal(number, _interrupt)
    try:
        with tempfile.TemporaryDirectory(prefix="auto-advance-demo-", ignore_cleanup_errors=True) as folder:
            _run(Path(folder), options)
    except KeyboardInterrupt:
        return _failed("interrupted; everything is cleaned up", EXIT_INTERRUPTED)
    except (PartFailedError, _EndedError) as failed:
        return _failed(str(failed), EXIT_FAILED)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return EXIT_OK


def _failed(sentence: str, code: int) -> int:
    sys.stderr.write(f"demo: {sentence}\n")
    return code


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    about = "One launch on everything real on this machine, without a cluster."
    parser = argparse.ArgumentParser(prog="python -m demo", description=about)
    parser.add_argument(
        "--bad",
        action="store_true",
        default=os.environ.get("BAD", "") not in {"", "0"},
        help="the canary begins to fail at 30 %% (BAD=1 says the same)",
    )
    parser.add_argument(
        "--grafana",
        action="store_true",
        default=os.environ.get("GRAFANA", "") not in {"", "0"},
        help="show the dashboards, where Grafana is installed (GRAFANA=1 says the same)",
    )
    parser.add_argument(
        "--manifests", type=Path, default=MANIFESTS, metavar="FOLDER", help=f"other manifests than those of {SHOWN}"
    )
    parser.add_argument("--picture", type=Path, metavar="FILE", help="write the last screen as SVG to this file")
    options = parser.parse_args(arguments)
    for name in NEEDED:
        if not (options.manifests / name).is_file():
            parser.error(f"--manifests {options.manifests}: {name} is missing; begin with a copy of {SHOWN}")
    return options


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


@contextmanager
def _once() -> Iterator[None]:
    """Of Ctrl-C, the first one counts: a second one must not cut the cleaning up short."""
    try:
        yield
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)


def _run(folder: Path, options: argparse.Namespace) -> None:
    """The whole show. Raises PartFailedError and _EndedError."""
    console = Console()
    began = time.monotonic()
    examples, bad, picture = options.manifests, options.bad, options.picture
    if options.grafana and not Grafana.program():
        console.print(f"GRAFANA: {ABSENT}", highlight=False, soft_wrap=True)
    with Parts(folder, examples, grafana=options.grafana) as parts, _once():
        traffic = Traffic(parts.listen_port)
        observer = Observer(parts, traffic, _planned_weights(examples))
        places = parts.places | {"manifests": str(parts.manifests)}
        screen: Screen = LiveScreen(console, places) if console.is_terminal else LineScreen(console, places)
        traffic.start()
        try:
            scene = _watch(parts, observer, screen, bad=bad, until=began + LONGEST_S)
        finally:
            screen.close()
            traffic.stop()
        if picture is not None:
            _draw(scene, picture, title="make demo BAD=1" if bad else "make demo")
    tell(console, scene, bad=bad)


def _watch(parts: Parts, observer: Observer, screen: Screen, *, bad: bool, until: float) -> Scene:
    """Show scenes until the launch has ended as it should; the last one."""
    while True:
        scene = observer.look()
        screen.show(scene)
        said = verdict(scene, bad=bad)
        if said is not None:
            if said:
                raise _EndedError(said)
            return scene
        if dead := parts.dead():
            raise _EndedError(dead)
        if time.monotonic() > until:
            state = scene.status.state.value
            raise _EndedError(f"the launch did not end within {LONGEST_S:g} s; it is {state}: {scene.why}")
        if bad and observer.failing_at is None and _may_fail(scene):
            parts.services.fail(FAILING)
            observer.failing_at = time.time()
        time.sleep(LOOK_S)


def _may_fail(scene: Scene) -> bool:
    """Whether the canary has had its 30 % for long enough."""
    return scene.canary >= FAILS_FROM - 1e-9 and time.time() - scene.changes[-1].at >= FAILS_AFTER_S


def _planned_weights(examples: Path) -> tuple[float, ...]:
    launch = yaml.safe_load((examples / "launch.yaml").read_text(encoding="utf-8"))
    return tuple(float(step["weight"]) for phase in launch["spec"]["phases"] for step in phase["steps"])


def _draw(scene: Scene, picture: Path, *, title: str) -> None:
    """The scene as SVG, with the machine's own fonts and without a word about the machine."""
    console = Console(record=True, force_terminal=True, width=PICTURE_WIDTH, file=io.StringIO())
    console.print(draw(scene, {}))
    # neither fonts from elsewhere nor the drawing program's name
    form = re.sub(r"<!--.*?-->\s*", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)
    form = re.sub(r"@font-face \{\{.*?\}\}\s*", "", form, flags=re.DOTALL)
    svg = console.export_svg(title=title, code_format=form, unique_id="demo")
    picture.parent.mkdir(parents=True, exist_ok=True)
    picture.write_text("\n".join(line.rstrip() for line in svg.splitlines()) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())

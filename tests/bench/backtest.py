"""``python -m tests.bench.backtest``: a month of the past, out of a real Prometheus and through the command.

The month is written with promtool's block writer: both tracks of one service, recorded each 10 s, and the same as raw
counters scraped each 10 s. Its verdicts must be those of folding the same counts in Python. About five minutes.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import psutil
import yaml

from controller.backtest.past import Backtest, Span
from controller.core.plan import parse
from tests.backtest.grounds import DAY, STEP, T0, Minute, asked_of, counts, launch, raw, recorded, write_blocks
from tests.bench.table import Figure, show
from tests.realparts.parts import ROOT, PartMissing
from tests.realparts.prometheus import Prometheus, config

GOAL_S, GOAL_MIB = 60.0, 256.0
_SAMPLED_S = 0.05


def service(track: str, second: int) -> Minute | None:
    """A month at 20 requests/s; on the 12th and 20th day a canary, which at the second time is bad at 25 %."""
    day, hour = second // DAY, second % DAY / 3600
    weight = 0.0
    if day in (12, 20) and 9 <= hour < 18:
        weight = 0.05 if hour < 11 else 0.25 if hour < 14 else 0.5
    if track == "stable":
        return Minute(20 * (1 - weight), 0.002)
    return Minute(20 * weight, 0.03 if day == 20 and weight == 0.25 else 0.002) if weight else None


def _plans() -> Iterator[tuple[str, dict[str, Any]]]:
    yield "recorded", launch()
    own = launch(metrics=[{"name": "failures", "ratio": {"bad": "bad_total", "total": "all_total"}}])
    own["spec"]["phases"][0] |= {
        "guardrails": [{"metric": "failures", "below": "1%"}],
        "gate": {"after": "6h", "criteria": [{"metric": "failures", "below": "2%"}]},
    }
    yield "raw counters", own


def _run(arguments: list[str]) -> tuple[str, float, float, float]:
    """What the command said, after how many seconds, how many of them it computed, and its most memory (MiB)."""
    environment = {name: text for name, text in os.environ.items() if not name.startswith("AUTO_ADVANCE_")}
    began, before = time.monotonic(), _computed()
    command = [sys.executable, "-m", "controller", "backtest", *arguments, "-o", "json"]
    with (
        tempfile.TemporaryFile() as out,
        psutil.Popen(command, cwd=ROOT, stdout=out, stderr=sys.stderr, env=environment) as process,
    ):
        most, over = [0.0], threading.Event()

        def watch() -> None:
            while not over.wait(_SAMPLED_S):
                try:
                    most[0] = max(most[0], process.memory_info().rss / 2**20)
                except psutil.Error:
                    return

        watching = threading.Thread(target=watch)
        watching.start()
        process.wait()
        took = time.monotonic() - began
        over.set()
        watching.join()
        out.seek(0)
        return out.read().decode(), took, _computed() - before, most[0]


def _computed() -> float:
    """The processor's seconds of all children that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _expected(document: dict[str, Any], truth: Any, seconds: int, *, release: bool) -> dict[str, Any]:
    done = Backtest(parse(document), Span(float(T0), float(T0 + seconds), 10.0, release=release))
    for _ in done.run(asked_of(truth)):
        pass
    return done.document()


def month(days: int, version: Literal["2", "3"]) -> Iterator[Figure]:
    """How long the command takes for so many days, and how much memory; it must say what the counts say."""
    seconds = days * DAY
    truth = counts(service, seconds)
    whole = {
        track: rows | {at: (0, 0) for at in range(T0 + STEP, T0 + seconds + 1, STEP) if at not in rows}
        for track, rows in truth.items()
    }
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        began = time.monotonic()
        data = write_blocks(folder / "blocks", truth, seconds, recorded, raw)
        print(f"{days} days written in {time.monotonic() - began:.0f} s", flush=True)
        (folder / "prometheus").mkdir()
        shutil.move(data, folder / "prometheus" / "data")
        # Old blocks lie still; freshly written ones would be compacted while the time is taken.
        at_rest = (f"--storage.tsdb.{end}-block-duration=2h" for end in ("min", "max"))
        keep = ("--storage.tsdb.retention.time=20y", *at_rest)
        with Prometheus(folder / "prometheus", version=version, config=config(), arguments=keep) as server:
            for kind, document in _plans():
                path = folder / "plan.yaml"
                path.write_text(yaml.safe_dump(document))
                for release in (False, True):
                    arguments = [
                        str(path),
                        f"--from={_instant(0)}",
                        f"--to={_instant(seconds)}",
                        f"--prometheus={server.url}",
                    ]
                    said, took, computed, most = _run([*arguments, *(["--release"] if release else [])])
                    known = _expected(document, whole if kind == "raw counters" else truth, seconds, release=release)
                    if json.loads(said) != known:
                        raise AssertionError(f"{kind}: the verdicts are not those of the counts")
                    what = f"{kind}, {'release' if release else 'quiet'}, {days} days, Prometheus {version}"
                    yield Figure(f"{what}: time", "s", [took], f"at most {GOAL_S:g}")
                    yield Figure(f"{what}: of which it computed", "CPU s", [computed])
                    yield Figure(f"{what}: memory", "MiB", [most], f"at most {GOAL_MIB:g}")


def _instant(second: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(T0 + second))


def main() -> None:
    """Measure, and fail where a goal is missed."""
    parser = argparse.ArgumentParser(prog="make bench-backtest")
    parser.add_argument("--days", type=int, default=30, help="how long the past is (default 30)")
    parser.add_argument("--prometheus", choices=["2", "3"], help="only this version (default: both)")
    chosen = parser.parse_args()
    figures: list[Figure] = []
    versions: tuple[Literal["2", "3"], ...] = ("2", "3")
    for version in (each for each in versions if chosen.prometheus in (None, each)):
        try:
            for figure in month(chosen.days, version):
                figures.append(figure)
                print(f"{figure.name}: {figure.median:.3g} {figure.unit}", flush=True)
        except PartMissing as missing:
            print(f"Prometheus {version}: {missing}", flush=True)
    show(figures, ROOT / "build" / "bench-backtest.json")
    goals = {"s": GOAL_S, "MiB": GOAL_MIB}
    missed = [figure.name for figure in figures if figure.median > goals.get(figure.unit, figure.median)]
    if missed:
        sys.exit(f"missed: {', '.join(missed)}")


if __name__ == "__main__":
    main()

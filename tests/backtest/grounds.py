"""A past whose every count is known: written into blocks for a real Prometheus, and folded in Python beside it."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from controller.core.series import Reading, Row, Subject
from tests.core.builders import ramp, target
from tests.realparts.prometheus import promtool

T0 = 1_698_796_800
"""2023-11-01T00:00:00Z: the past begins there."""
STEP = 10
DAY = 86_400
SERVICE = "checkout"
TRACKS = ("canary", "stable")
Count = tuple[int, int]
"""Requests and errors of one row."""


@dataclass(frozen=True, slots=True)
class Minute:
    """Of one track: requests per second, the share of errors."""

    rate: float
    share: float


Course = Callable[[str, int], Minute | None]
"""What a track (its name) is like so many seconds after T0; None: it has no rows."""


def counts(course: Course, seconds: int, seed: int = 1) -> dict[str, dict[int, Count]]:
    """The rows of both tracks by instant, drawn once: the truth."""
    found: dict[str, dict[int, Count]] = {}
    for track in TRACKS:
        random = Random(f"{seed} {track}")
        rows: dict[int, Count] = {}
        for second in range(STEP, seconds + 1, STEP):
            minute = course(track, second)
            if minute is None:
                continue
            mean = minute.rate * STEP
            n = max(0, round(random.gauss(mean, mean**0.5)))
            x = min(n, _poisson(random, n * minute.share))
            rows[T0 + second] = (n, x)
        found[track] = rows
    return found


def _poisson(random: Random, mean: float) -> int:
    if mean > 50:
        return max(0, round(random.gauss(mean, mean**0.5)))
    count, left = 0, random.expovariate(1.0) if mean else 0.0
    while mean and left < mean:
        count += 1
        left += random.expovariate(1.0)
    return count


def poisson_of(seed: str) -> Callable[[float], int]:
    """Draws of that seed, one after the other; each takes its mean."""
    random = Random(seed)
    return lambda mean: _poisson(random, mean)


def recorded(truth: Mapping[str, Mapping[int, Count]], begin: int, end: int) -> Iterator[str]:
    """The text of the recorded rows after one instant and up to another."""
    for place, name in enumerate(("requests", "request_errors")):
        for track, rows in truth.items():
            labels = f'namespace="shop",service="{SERVICE}",track="{track}"'
            series = f"namespace_service_track:{name}:delta10s{{{labels}}}"
            for at in range(begin + STEP, end + 1, STEP):
                if at in rows:
                    yield f"{series} {rows[at][place]} {at}\n"


def raw(truth: Mapping[str, Mapping[int, Count]], begin: int, end: int) -> Iterator[str]:
    """The text of raw counters whose increments are the rows, as if scraped two seconds before each instant."""
    totals: dict[str, list[int]] = {}
    texts: dict[str, list[str]] = {"bad_total": [], "all_total": [], "up": [], "process_start_time_seconds": []}
    for track, rows in truth.items():
        labels = f'namespace="shop",job="{SERVICE}",instance="{track}:80",track="{track}"'
        total = totals.setdefault(track, [0, 0])
        for at in range(T0, end + 1, STEP):
            n, x = rows.get(at, (0, 0))
            total[0] += n
            total[1] += x
            if T0 < at <= begin:
                continue
            for name, value in zip(texts, (total[1], total[0], 1, T0 - 9000), strict=True):
                texts[name].append(f"{name}{{{labels}}} {value} {at - 2}\n")
    for lines in texts.values():
        yield from lines


def write_blocks(folder: Path, truth: Mapping[str, Any], seconds: int, *texts: Callable[..., Iterator[str]]) -> Path:
    """Blocks of the truth in ``folder``/data, a day at a time.

    promtool reads its whole input once for each block, so blocks are larger than its own two hours.
    """
    data = folder / "data"
    data.mkdir(parents=True, exist_ok=True)

    def write(day: int) -> None:
        begin, end = T0 + day * DAY, T0 + min((day + 1) * DAY, seconds)
        stored = folder / f"{day}.txt"
        with stored.open("w") as file:
            for text in texts:
                file.writelines(text(truth, begin, end))
            file.write("# EOF\n")
        command = [str(promtool()), "tsdb", "create-blocks-from", "--max-block-duration=18h"]
        subprocess.run([*command, "openmetrics", str(stored), str(data)], check=True, capture_output=True, timeout=600)
        stored.unlink()

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(write, range(-(-seconds // DAY))))
    return data


def asked_of(
    truth: Mapping[str, Mapping[int, Count]],
) -> Callable[[Mapping[Subject, int], float], dict[Subject, Reading]]:
    """What Prometheus would answer of this truth."""

    def ask(wanted: Mapping[Subject, int], until: float) -> dict[Subject, Reading]:
        found = {}
        for subject, after in wanted.items():
            interval = subject.series.interval
            through = int(until) // interval * interval
            rows = truth[subject.track]
            instants = range(after // interval * interval + interval, through + 1, interval)
            settled = tuple(Row(float(at), *map(float, rows[at])) for at in instants if at in rows)
            found[subject] = Reading(after, through, settled)
        return found

    return ask


def launch(**change: Any) -> dict[str, Any]:
    """A Launch whose one phase of 6 h judges errors below 1 %."""
    phase = ramp(
        guardrails=[{"metric": "errors", "below": "1%"}],
        steps=[{"weight": 5, "for": "30m"}, {"weight": 25, "for": "30m"}, {"weight": 50, "for": "1h"}],
        gate={"after": "6h", "criteria": [{"metric": "errors", "below": "2%"}]},
    )
    return {
        "apiVersion": "autoadvance.dev/v1alpha1",
        "kind": "Launch",
        "metadata": {"name": "checkout", "namespace": "shop"},
        "spec": {"revision": "v2", "targets": [{**target("main"), "service": SERVICE}], "phases": [phase], **change},
    }

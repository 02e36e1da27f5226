"""What a gather costs this process and how long it takes, on a real Prometheus; `python -m tests.adapters.measure_gather`.

The stored past is asked, so a run needs no waiting for scrapes.
"""

import itertools
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from statistics import median

from controller.adapters.prometheus import Prometheus, PrometheusSettings
from controller.core.series import Series, Subject, Track
from controller.gather import Gatherer
from tests.realparts.prometheus import Prometheus as RealPrometheus
from tests.realparts.prometheus import config, promtool

T0 = 1_700_000_000
TRACKS: tuple[Track, Track] = ("canary", "stable")
RAW = Series("ratio", "paying", 'bad_total{service="{{service}}"}', 'all_total{service="{{service}}"}', interval=1)


def raw(launches: int) -> Iterable[str]:
    """Counters at one sample a second, 330 s of them."""
    families: dict[str, list[str]] = {"up": [], "process_start_time_seconds": [], "all_total": [], "bad_total": []}
    for i, track in itertools.product(range(launches), TRACKS):
        target = f'job="shop{i}",instance="{track}"'
        labels = f'{target},namespace="prod",service="shop{i}",track="{track}"'
        for second in range(331):
            families["up"].append(f"up{{{target}}} 1 {T0 + second}")
            families["process_start_time_seconds"].append(f"process_start_time_seconds{{{target}}} {T0} {T0 + second}")
            families["all_total"].append(f"all_total{{{labels}}} {100 * second} {T0 + second}")
            families["bad_total"].append(f"bad_total{{{labels}}} {second} {T0 + second}")
    return itertools.chain(*families.values(), ["# EOF"])


def recorded(services: int) -> Iterable[str]:
    """Three instants of the recorded normal form."""
    for i, track, row in itertools.product(range(services), TRACKS, range(3)):
        labels = f'namespace="team{i % 50}",service="shop{i}",track="{track}"'
        yield f"namespace_service_track:requests:delta10s{{{labels}}} 1000 {T0 + 300 + 10 * row - 2}"
    for i, track, row in itertools.product(range(services), TRACKS, range(3)):
        labels = f'namespace="team{i % 50}",service="shop{i}",track="{track}"'
        yield f"namespace_service_track:request_errors:delta10s{{{labels}}} 3 {T0 + 300 + 10 * row - 2}"
    yield "# EOF"


def measure(name: str, ask: Callable[[], int], rounds: int) -> None:
    """Print the medians of processor time (of this process) and wall time, and the first round's for itself."""
    spent: list[tuple[float, float]] = []
    rows = 0
    for _ in range(rounds):
        cpu, wall = time.process_time(), time.monotonic()
        rows = ask()
        spent.append((time.process_time() - cpu, time.monotonic() - wall))
    cpu, wall = (1000 * median(column) for column in zip(*spent[1:], strict=True))
    print(
        f"{name}: {rows} rows, cpu {cpu:.0f} ms, wall {wall:.0f} ms (first: {1000 * spent[0][0]:.0f}, {1000 * spent[0][1]:.0f} ms)"
    )


def main() -> int:
    """Measure on both versions."""
    for version, (launches, services) in itertools.product(("2", "3"), [(50, 0), (200, 0), (0, 10_000)]):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            text = "\n".join(raw(launches) if launches else recorded(services)) + "\n"
            (folder / "stored.txt").write_text(text)
            command = [
                str(promtool()),
                "tsdb",
                "create-blocks-from",
                "openmetrics",
                str(folder / "stored.txt"),
                str(folder / "data"),
            ]
            subprocess.run(command, check=True, capture_output=True)
            keep = ("--storage.tsdb.retention.time=90y",)
            with RealPrometheus(
                folder, version="2" if version == "2" else "3", config=config(), arguments=keep
            ) as server:
                prometheus = Prometheus(PrometheusSettings(url=server.url))
                gatherer = Gatherer(prometheus)
                series = RAW if launches else Series("recorded", "errors")
                wanted: dict[Subject, int] = {}
                for i, track in itertools.product(range(launches or services), TRACKS if services else TRACKS[:1]):
                    space = "prod" if launches else f"team{i % 50}"
                    wanted[Subject(series, space, "main", f"shop{i}", "v2", track)] = T0 + (309 if launches else 300)

                def ask(
                    gatherer: Gatherer = gatherer, wanted: dict[Subject, int] = wanted, launches: int = launches
                ) -> int:
                    readings = gatherer.gather(wanted, T0 + (320.5 if launches else 325.5), 30)
                    problems = {reading.problem for reading in readings.values()} - {""}
                    if problems:
                        raise RuntimeError(str(problems))
                    return sum(len(reading.settled) + len(reading.tail) for reading in readings.values())

                what = (
                    f"{launches} launches, raw counters, 1 s"
                    if launches
                    else f"{services} services x 2, recorded, 10 s"
                )
                measure(f"prometheus {version}: {what}", ask, 6)
                gatherer.close()
                prometheus.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())

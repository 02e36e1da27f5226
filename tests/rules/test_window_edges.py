"""A sample on the edge of a window, to the millisecond, is counted once by Prometheus 2 (closed windows) and 3 (left-open).

The samples are written into a block with exact times, so nothing here depends on when a scrape happens.
"""

import itertools
import subprocess
import time
from pathlib import Path
from typing import Literal

import pytest

from controller.core import normal_form as form
from tests.realparts.prometheus import Prometheus, promtool

INTERVAL_S = 10
BEGIN = (int(time.time()) - 3600) // 1000 * 1000
PHASES_MS = (0, 1, 2, 5000, 9998, 9999)
GAP = range(8, 11)
"""Samples that are missing."""
LAST = 20


@pytest.fixture(params=["2", "3"])
def prometheus(request: pytest.FixtureRequest, tmp_path: Path) -> Prometheus:
    """A Prometheus, not yet started, in whose past each phase's counter gained 1, 2, 3, ... in successive intervals."""
    version: Literal["2", "3"] = request.param
    lines = ["# TYPE events counter"]
    for phase in PHASES_MS:
        for k, value in enumerate(itertools.accumulate(range(LAST + 1))):
            if k not in GAP:
                lines.append(f'events_total{{phase="{phase}"}} {value} {BEGIN + k * INTERVAL_S + phase / 1000:.3f}')
    text = tmp_path / "samples.txt"
    text.write_text("\n".join([*lines, "# EOF", ""]))
    data = tmp_path / "prometheus" / "data"
    subprocess.run(
        [promtool(), "tsdb", "create-blocks-from", "openmetrics", text, data], check=True, capture_output=True
    )
    return Prometheus(tmp_path / "prometheus", version=version)


def _rows(prometheus: Prometheus, expression: str) -> dict[str, list[float]]:
    end = BEGIN + (LAST + 2) * INTERVAL_S
    answer = prometheus.query_range(expression, start=BEGIN + INTERVAL_S, end=end, step_s=INTERVAL_S)
    return {row["metric"]["phase"]: [float(value) for _, value in row["values"]] for row in answer}


def test_whole_windows_count_every_event_once_whatever_the_phase(prometheus: Prometheus) -> None:
    with prometheus:
        rows = _rows(prometheus, form.anchored_increase("events_total", INTERVAL_S, by=["phase"]))
    assert set(rows) == {str(phase) for phase in PHASES_MS}
    for phase, counted in rows.items():
        # Sample 0 is the anchor at phase 0 to 9999; what happened in the gap comes with the first sample after it.
        assert sum(counted) == sum(range(1, LAST + 1)), phase
        assert max(counted) == sum(GAP) + GAP.stop, phase


def test_a_window_one_millisecond_short_never_sees_one_phase_on_prometheus_3(prometheus: Prometheus) -> None:
    """The reason for whole windows: a pod scraped each 10 s at that phase would have no row in its life."""
    short = form.anchored_increase("events_total", INTERVAL_S, by=["phase"]).replace("[10s]", "[9999ms]")
    with prometheus:
        rows = _rows(prometheus, short)
        build = prometheus.get("status/buildinfo")["version"]
    seen = {str(phase) for phase in PHASES_MS}
    assert set(rows) == (seen if build.startswith("2.") else seen - {"1"})

"""What the core costs by itself."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace

from controller.core.decide import decide
from tests.bench.table import Figure
from tests.virtual.world import KEY, World, launch_document, route_document


def decide_one() -> Iterator[Figure]:
    """``decide`` for one launch in mid-ramp with four criteria, a new point and a tail of one each."""
    guardrails = [
        {"metric": "errors", "below": "2%"},
        {"metric": "errors", "below": "5%"},
        {"metric": "latency", "quantile": 0.99, "below": "500ms"},
        {"metric": "availability", "above": "95%"},
    ]
    steps = [{"weight": 5, "for": "2h"}, {"weight": 100}]
    world = World(
        launch_document(phases=[{"name": "ramp", "steps": steps, "guardrails": guardrails}]), [route_document()]
    )
    process = world.reconciler()
    world.run(process, 300, tick=10)
    launch = world.launch(KEY)
    assert launch is not None
    looked = process.look([launch])
    seen = replace(looked.seen[KEY], readings=process.gather(looked, 5.0))
    times = []
    for _ in range(300):
        started = time.perf_counter()
        for _ in range(10):
            decide(seen)
        times.append((time.perf_counter() - started) / 10 * 1e6)
    yield Figure("decide, one launch, 4 criteria", "us", times, "<= 50")

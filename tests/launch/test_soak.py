"""Three quarters of a bad minute: nothing piles up in the daemon. `python -m tests.bench.soak` is the long version."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

from tests.bench.soak import soak
from tests.realparts.kube import KubeApiserver


def test_what_the_daemon_takes_is_the_same_after_a_bad_minute(
    kube_factory: Callable[..., KubeApiserver], tmp_path: Path
) -> None:
    seed = random.SystemRandom().randrange(1 << 32)
    samples = soak(kube_factory(), tmp_path, 45.0, seed, every_s=15.0)
    first, *day, last = samples
    told = f"seed {seed}:\n" + "\n".join(map(str, samples))
    # Pools start their threads when they are first needed.
    assert last.threads <= first.threads + 4, told
    assert last.sockets <= first.sockets + 2, told
    assert last.memory <= first.memory + 24, told
    assert last.requests_per_second <= 0.5, told
    assert last.lines_per_minute <= 6, told
    for sample in day:
        assert sample.requests_per_second <= 8, told
        assert sample.lines_per_minute <= 120, told
        assert sample.threads <= first.threads + 6, told

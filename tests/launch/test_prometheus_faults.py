"""Prometheus out of order in the middle of a step: it holds, says why, lowers nothing for it, and recovers by itself."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.invariants import violations
from tests.launch.front import FAULTS, Front
from tests.launch.stage import ROUTE_KINDS, Ground, Stage, stage
from tests.realparts.kube import KubeApiserver

STEPS = ({"weight": 20, "for": "10s"}, {"weight": 100})
STAYS = ({"weight": 20, "for": "1h"}, {"weight": 100})
NAMED_WITHIN_S = 180.0
"""A reason for waiting is stored at most every 30 s."""
OUT_OF_ORDER_S = 17.0
"""For how long at least, which is past the end of the step."""
WORDS: dict[str, str | tuple[str, ...]] = {
    "refused": "refuses the connection",
    "hanging": "did not answer within",
    "500": "HTTP 500): the query engine is out of order",
    "422": "HTTP 422): query processing would load too many samples",
    "HTML": "sent no JSON (HTML)",
    "NaN": "gives NaN",
    "+Inf": "gives +Inf",
    "empty vector": "no samples",
    "two series": "gives several series where one is expected",
    "warnings": "answered with warnings: a store of the query's range did not answer",
    "200,000 series": ("sent 200000 series", "did not answer within"),  # whichever limit a busy machine comes to first
    "one byte a second": "did not answer within",
    "stale": "no samples",
    "half a body": "cut in half",
}


def test_a_fault_of_prometheus_in_the_middle_of_a_step_holds_names_itself_and_ends_by_itself(
    kube: KubeApiserver, tmp_path: Path, ground: Ground
) -> None:
    def one(number: int) -> list[str]:
        fault = FAULTS[number]
        folder = tmp_path / f"fault-{number}"
        folder.mkdir()
        try:
            return [f"{fault}: {what}" for what in _suffer(kube, ground, folder, fault)]
        except (AssertionError, TimeoutError) as error:
            return [f"{fault}: {error}"]

    assert set(WORDS) == set(FAULTS)
    with ThreadPoolExecutor(len(FAULTS)) as pool:
        wrong = [fault for faults in pool.map(one, range(len(FAULTS))) for fault in faults]
    assert not wrong, "\n".join(wrong)


def _suffer(kube: KubeApiserver, ground: Ground, folder: Path, fault: str) -> list[str]:
    """Two launches of one daemon under one fault; which invariants they broke. Raises for what was not as it should."""
    names = ("goes-on", "given-up")
    with stage(kube, folder, ground=ground) as on, Front(on.prometheus.url) as front:
        on.create("goes-on", steps=STEPS)
        on.create("given-up", steps=STAYS)
        on.daemon(prometheus=front.url)
        for name in reversed(names):
            on.observer.wait_for_weight(name, 200, seconds=180)
        front.fault = fault
        began, since = time.monotonic(), len(on.observer.history)
        on.observer.wait(
            lambda _: _names(_message(on, "goes-on"), fault),
            seconds=NAMED_WITHIN_S,
            what=f"a message with {WORDS[fault]!r}",
        )
        on.observer.never(
            lambda history: [seen for seen in history[since:] if seen.kind in ROUTE_KINDS],
            seconds=max(0.1, began + OUT_OF_ORDER_S - time.monotonic()),
            what="a route was changed during the fault",
        )
        since = len(on.observer.history)
        on.annotate("given-up", rollback="nothing can be seen")
        # The fault lasts: who needs an answer for this waits in vain.
        on.observer.wait_for_weight("given-up", 0, seconds=60, since=since)
        assert on.observer.weights("goes-on") == [0, 200]
        front.fault = ""
        on.observer.wait_for_state("goes-on", "Succeeded", seconds=180)
        assert on.observer.weights("goes-on") == [0, 200, 1000]
        assert on.observer.weights("given-up") == [0, 200, 0]
        history = on.observer.versions()
        return [wrong for name in names for wrong in violations(history, on.namespace, name)]


def _names(message: str, fault: str) -> bool:
    words = WORDS[fault]
    return any(word in message for word in ((words,) if isinstance(words, str) else words))


def _message(on: Stage, name: str) -> str:
    versions = [seen for seen in on.observer.history if seen.kind == "Launch" and seen.name == name]
    return str((versions[-1].document.get("status") or {}).get("message"))

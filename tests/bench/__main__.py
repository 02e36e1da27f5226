"""``python -m tests.bench [PART ...]``: the figures, one table, JSON under build/."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator

from tests.bench import alerting, core, failover, fleet, reaction, soak
from tests.bench.table import Figure, show
from tests.realparts.parts import ROOT

PARTS: dict[str, Callable[[int], Iterator[Figure]]] = {
    "decide": lambda runs: core.decide_one(),
    "alerting": lambda runs: alerting.telling(),
    "reaction": lambda runs: reaction.one_launch(runs, ("1s", "250ms")),
    "reaction-50": lambda runs: reaction.many_launches(50, "1s"),
    "reaction-200": lambda runs: reaction.many_launches(200, "1s"),
    "reaction-50-10s": lambda runs: reaction.many_launches(50, "10s"),
    "reaction-200-10s": lambda runs: reaction.many_launches(200, "10s"),
    "recorded": lambda runs: reaction.recorded(max(1, runs // 10)),
    "rollback": lambda runs: reaction.said_by_hand(max(1, runs // 6)),
    "failover": lambda runs: failover.failover(max(1, runs // 6)),
    "fleet-1": lambda runs: fleet.fleet(1),
    "fleet-200": lambda runs: fleet.fleet(200),
    "fleet-1000": lambda runs: fleet.fleet(1000),
    "soak": lambda runs: soak.figures(max(1.0, runs / 3)),
}


def main() -> None:
    """Measure the parts that were named, or all."""
    parser = argparse.ArgumentParser(prog="make bench")
    parser.add_argument("part", nargs="*", help=f"any of {', '.join(PARTS)}; default: all")
    parser.add_argument("--runs", type=int, default=30, help="how often one launch turns bad (default 30)")
    chosen = parser.parse_args()
    unknown = sorted(set(chosen.part) - set(PARTS))
    if unknown:
        parser.error(f"{unknown[0]} is no part; write any of {', '.join(PARTS)}")
    figures: list[Figure] = []
    for part in chosen.part or PARTS:
        for figure in PARTS[part](chosen.runs):
            figures.append(figure)
            print(
                f"{figure.name}: median {figure.median:.3g}, worst {max(figure.values):.3g} {figure.unit}", flush=True
            )
    show(figures, ROOT / "build" / "bench.json")


if __name__ == "__main__":
    main()

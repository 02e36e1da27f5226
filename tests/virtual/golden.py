"""What the November launch does in each of its scenarios, in short: one line for each decision, checkpoint and gate.

``python -m tests.virtual.golden`` writes what is there now, to be looked at before it is kept; names of scenarios take
a part of them.
"""

from __future__ import annotations

import json
import sys
from functools import lru_cache
from pathlib import Path
from typing import Any

from controller.adapters.yaml_documents import read_documents
from controller.core.plan import Plan, parse
from controller.simulation.run import Outcomes, simulate
from controller.simulation.scenario import Scenario, read_scenario

EXAMPLES = Path(__file__).parents[2] / "deploy" / "examples"
SCENARIOS = EXAMPLES / "november-launch" / "scenarios"
GOLDEN = Path(__file__).parent / "golden"
LONGEST = 240
"""Characters of a reason; its first words say what happened."""

Document = dict[str, Any]


def names() -> list[str]:
    """The scenarios of the November launch."""
    return sorted(path.stem for path in SCENARIOS.glob("*.yaml"))


@lru_cache
def november() -> tuple[Document, Plan]:
    """The plan, as it is written and as it is read."""
    document = read_documents((EXAMPLES / "november-launch.yaml").read_text(encoding="utf-8"))[0].value
    return document, parse(document)


def scenario(name: str) -> Scenario:
    """One of its scenarios."""
    said = read_documents((SCENARIOS / f"{name}.yaml").read_text(encoding="utf-8"))[0].value
    return read_scenario(said, november()[1])


@lru_cache(maxsize=2)
def played(name: str) -> Outcomes:
    """What becomes of the launch there."""
    document, plan = november()
    return simulate(document, plan, scenario(name))


def summary(found: Outcomes) -> Document:
    """The whole output, in short."""
    document = found.document()
    return {
        "outcome": document["outcome"],
        "ended": document["ended"],
        "decisions": [
            f"{made['time']} {made['state']} {made['phase']}/{made['step']} {made['signal']} "
            f"[{_weights(made['weights'])}] {_cut(made['reason'])}"
            for made in document["decisions"]
        ],
        "checkpoints": [
            f"{each['time']} {each['phase']} {each['after']}: "
            f"{each['passed']} passed, {each['undecided']} undecided, {each['failed']} failed"
            for each in document["checkpoints"]
        ],
        "gates": [f"{each['time']} {each['phase']} {each['signal']}: {_verdicts(each)}" for each in document["gates"]],
    }


def _weights(weights: dict[str, float]) -> str:
    return ", ".join(f"{name} {weight:g}" for name, weight in weights.items() if weight)


def _verdicts(gate: Document) -> str:
    counts: dict[str, list[str]] = {}
    for judged in gate["criteria"]:
        counts.setdefault(judged["verdict"], []).append(f"{judged['criterion']} ({judged['target']}) {judged['value']}")
    return "; ".join(f"{verdict}: {', '.join(counts[verdict])}" for verdict in sorted(counts)) or "nothing measured"


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST else text[: LONGEST - 3] + "..."


def written(found: Outcomes) -> str:
    """As it stands in its file."""
    return json.dumps(summary(found), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    GOLDEN.mkdir(exist_ok=True)
    for chosen in sys.argv[1:] or names():
        (GOLDEN / f"{chosen}.json").write_text(written(played(chosen)), encoding="utf-8")
        print(chosen)

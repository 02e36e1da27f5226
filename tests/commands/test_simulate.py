"""``simulate`` on the command line: what it prints, in each form, and what it says of bad input."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner, Result

from controller.__main__ import app
from tests.core.builders import document, ramp

WORLD = "seed: 3\nrequests: 100/s\ncanary: {errors: 0.01%}\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    plan = document(phases=[ramp(start={"at": "2025-11-01T14:00:00Z"})])
    (tmp_path / "plan.yaml").write_text(yaml.safe_dump(plan), encoding="utf-8")
    (tmp_path / "world.yaml").write_text(WORLD, encoding="utf-8")
    return tmp_path


def simulate(folder: Path, *more: str) -> Result:
    names = str(folder / "plan.yaml"), "--scenario", str(folder / "world.yaml")
    return CliRunner().invoke(app, ["simulate", *names, *more])


def test_the_decisions_are_a_table_that_says_how_it_ended(folder: Path) -> None:
    told = simulate(folder)
    assert told.exit_code == 0
    lines = told.stdout.splitlines()
    assert lines[0].startswith("2025-11-01 13:50:00  Progressing")
    assert any(line.startswith("2025-11-01 14:00:00  Progressing  ramp  1  PhaseBegins") for line in lines)
    assert any(line.startswith("Succeeded at 2025-11-01T") for line in lines)
    assert "folded as one; decisions stand at their own tick" in lines[-1]


def test_json_is_the_same_byte_for_byte(folder: Path) -> None:
    first, second = simulate(folder, "-o", "json"), simulate(folder, "-o", "json")
    assert first.stdout == second.stdout
    assert json.loads(first.stdout)["outcome"] == "Succeeded"


def test_a_picture_is_printed(folder: Path) -> None:
    assert simulate(folder, "-o", "svg").stdout.startswith("<svg ")


def test_a_launch_that_does_not_succeed_is_an_exit_code(folder: Path) -> None:
    (folder / "world.yaml").write_text(WORLD.replace("0.01%", "20%"), encoding="utf-8")
    told = simulate(folder)
    assert told.exit_code == 1
    assert "RolledBack at 2025-11-01T14:00:" in told.stdout


@pytest.mark.parametrize(
    ("bound", "ended"),
    [("10m30s", "stopped at 2025-11-01T14:00:30Z"), ("2025-11-01T14:00:20Z", "stopped at 2025-11-01T14:00:20Z")],
)
def test_it_stops_after_a_time_or_at_an_instant(folder: Path, bound: str, ended: str) -> None:
    told = simulate(folder, "--until", bound)
    assert told.exit_code == 1
    assert ended in told.stdout


def test_another_seed_can_be_given(folder: Path) -> None:
    (folder / "world.yaml").write_text(WORLD.replace("0.01%", "1%"), encoding="utf-8")
    assert len({simulate(folder, "--seed", str(seed)).stdout for seed in range(3)}) > 1


@pytest.mark.parametrize(
    ("world", "words"),
    [
        ("seed: 3\n", "world.yaml: requests: is missing; write requests: 100/s"),
        ("requests: [\n", "world.yaml:"),
        (WORLD + "nobody: 1\n", "world.yaml: nobody: is not a field"),
        ("", "holds 0 documents; give a file with one scenario"),
    ],
)
def test_a_bad_scenario_is_told_and_nothing_is_run(folder: Path, world: str, words: str) -> None:
    (folder / "world.yaml").write_text(world, encoding="utf-8")
    told = simulate(folder)
    assert told.exit_code == 2
    assert words in told.stderr
    assert told.stdout == ""


def test_a_bad_plan_is_told_with_every_fault(folder: Path) -> None:
    plan = document(phases=[ramp(guardrails=[]), {"name": "rest"}])
    (folder / "plan.yaml").write_text(yaml.safe_dump(plan), encoding="utf-8")
    told = simulate(folder)
    assert told.exit_code == 2
    assert told.stderr.count("plan.yaml: spec.phases[") == 2

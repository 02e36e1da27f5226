"""``explain`` as people and scripts meet it, on a folder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from controller.adapters.files import Files
from controller.commands.explain import lines
from controller.core.decide import decide
from controller.core.explain import explain
from controller.core.ledger import record
from controller.core.signals import Signal
from controller.core.status import State, write_status
from controller.core.world import LaunchKey
from tests.commands.grounds import FolderGround, call
from tests.core.builders import Course, bad, course, document, invalid, ramp
from tests.core.test_whole_launch import HOUR, PREFLIGHT, at, until

KEY = LaunchKey("prod", "shop")
SAFE = "team <a> & b"


def put(folder: Path, launched: Course, **spec: Any) -> FolderGround:
    """The launch of a course in a folder, with its status and its annotations."""
    ground = FolderGround(folder)
    stored: dict[str, Any] = document(**spec)
    stored["metadata"]["annotations"] = {f"autoadvance.dev/{verb}": text for verb, text in launched.annotations.items()}
    ground.put(stored)
    keep(folder, write_status(launched.status))
    return ground


def keep(folder: Path, status: Mapping[str, Any]) -> None:
    """Store the status as a controller would."""
    files = Files(folder)
    files.write_status(files.read_launch(KEY), status)


def waiting(folder: Path) -> FolderGround:
    """A launch that waits for an approval."""
    phases = [ramp(gate={"approval": {"role": "lead"}})]
    launched = course(phases=phases)
    until(launched, Signal.GATE_APPROVAL)
    return put(folder, launched, phases=phases)


def text_of(launched: Course, width: int) -> list[str]:
    explanation = explain(
        launched.plan, launched.status, launched.now, launch="prod/shop", annotations=launched.annotations
    )
    return [line.plain for line in lines(explanation, "shop -n prod", width)]


def test_it_tells_where_why_what_would_change_it_and_what_comes(tmp_path: Path) -> None:
    ground = waiting(tmp_path)
    shown = call("explain", "shop", *ground.flags)
    assert (shown.exit_code, shown.stderr) == (0, "")
    text = shown.stdout
    assert text.startswith("prod/shop, revision v2\n  where     AwaitingApproval: run 1 of revision v2, phase ramp")
    for title in (
        "What the evidence says",
        "What it waits for",
        "What would change that",
        "What comes next, if all stays",
    ):
        assert f"\n\n{title}" in text
    command = f"      auto-advance approve shop -n prod --folder {tmp_path} ramp/gate\n"
    assert command in text, "a command stands on one line, however long, so that it can be copied"
    assert "\x1b" not in text


def test_scripts_get_the_same_as_json_and_as_yaml(tmp_path: Path) -> None:
    ground = waiting(tmp_path)
    read = json.loads(call("explain", "prod/shop", "-o", "json", *ground.flags).stdout)
    assert (read["state"], read["reason"], read["phase"], read["step"]) == (
        "AwaitingApproval",
        "GateApprovalWanted",
        "ramp",
        2,
    )
    assert read["targets"][0]["weight"] == "30%"
    assert read["waits"][0] == {
        "kind": "people",
        "what": "approval of the gate of ramp",
        "who": "lead",
        "until": None,
        "asked": True,
        "say": {
            "verb": "approve",
            "about": "ramp/gate",
            "annotation": "approve=ramp/gate",
            "command": f"auto-advance approve shop -n prod --folder {tmp_path} ramp/gate",
        },
    }
    as_yaml = yaml.safe_load(call("explain", "shop", "-o", "yaml", *ground.flags).stdout)
    assert as_yaml["changes"] == read["changes"]


def test_the_command_that_it_names_is_one_that_works(tmp_path: Path) -> None:
    ground = waiting(tmp_path)
    read = json.loads(call("explain", "shop", "-o", "json", *ground.flags).stdout)
    (said,) = [wait["say"]["command"] for wait in read["waits"] if wait["say"]]
    written = call(*said.split()[1:], "--wait=0s")
    assert written.exit_code == 0, written.output
    assert json.loads(ground.annotations("shop")["approve"])["value"] == "ramp/gate"


def test_a_launch_that_nobody_has_looked_at_is_explained(tmp_path: Path) -> None:
    ground = FolderGround(tmp_path)
    ground.put(document())
    shown = call("explain", "shop", *ground.flags)
    assert shown.exit_code == 0
    assert "Pending: no run has begun" in shown.stdout


def test_a_plan_with_faults_is_explained_by_them(tmp_path: Path) -> None:
    launched = Course(invalid())
    launched.tick()
    ground = put(tmp_path, launched, phases=[])
    shown = call("explain", "shop", *ground.flags)
    assert shown.exit_code == 0
    assert "  - the plan is corrected: spec.phases: is empty" in shown.stdout


def test_a_status_that_cannot_be_read_is_said(tmp_path: Path) -> None:
    ground = FolderGround(tmp_path)
    ground.put(document())
    keep(tmp_path, {"state": "Flying"})
    shown = call("explain", "shop", *ground.flags)
    assert shown.exit_code == 1
    assert shown.stderr.startswith("auto-advance explain: launch prod/shop: its status cannot be read: status.state")


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ((), 2, "LAUNCH: is missing; name the launch"),
        (("nobody",), 3, "Launch nobody: there is none"),
        (("shop", "--decision=1-1", "-o", "json"), 2, "--output: a decision is told as text"),
        (("shop", "--decision=9-9"), 1, "decision 9-9 is not in the status"),
    ],
)
def test_what_cannot_be_told_says_why(tmp_path: Path, arguments: tuple[str, ...], code: int, words: str) -> None:
    ground = waiting(tmp_path)
    shown = call("explain", *arguments, *ground.flags)
    assert shown.exit_code == code
    assert words in shown.stderr
    assert "Traceback" not in shown.output


def test_one_decision_is_told_by_its_id_from_the_status_and_from_a_log(tmp_path: Path) -> None:
    folder = tmp_path / "cluster"
    folder.mkdir()
    launched = course()
    launched.until_weight(50)
    ground = put(folder, launched)
    identity = launched.status.decisions[-1].id
    assert f"decision {identity}\n" in call("explain", "shop", f"--decision={identity}", *ground.flags).stdout
    launched.now += 10
    launched.traffic = bad
    seen = launched.observe()
    decision = decide(seen)
    log = tmp_path / "log"
    log.write_text("".join(f"{line}\n" for line in record(seen, decision)))
    told = call("explain", f"--decision={decision.id}", f"--decision-log={log}").stdout
    assert told.startswith(f"decision {decision.id} of prod/shop\n")


@pytest.mark.parametrize("width", [40, 80, 200])
def test_it_fits_the_terminal_but_for_commands(width: int) -> None:
    launched = course(phases=[ramp(start={"at": at(HOUR)}, preflight=PREFLIGHT)])
    until(launched, Signal.PREFLIGHT_OPEN)
    shown = text_of(launched, width)
    assert [line for line in shown if len(line) > width and "auto-advance" not in line] == []


def test_what_is_moved_is_told_with_both_dates_once() -> None:
    first = ramp(steps=[{"weight": 5, "for": "30s"}], gate={"at": at(600), "approval": {"role": "lead"}})
    launched = course(phases=[first, ramp("rollout", steps=[{"weight": 60}], start={"at": at(1200)})])
    until(launched, Signal.GATE_APPROVAL)
    launched.run(120)
    launched.annotations["approve"] = "ramp/gate"
    launched.tick()
    shown = "\n".join(text_of(launched, 200))
    assert shown.endswith(
        "What moved, and why\n  - ramp passed 20m10s late: rollout moved from Nov 14 22:33 to Nov 14 22:53"
    )


def test_nothing_that_a_terminal_would_obey_is_printed() -> None:
    launched = course()
    launched.until_weight(50)
    launched.annotations["hold"] = json.dumps({"reason": "wait\x1b[2J\nfor me", "by": "ada\x07"})
    launched.until(State.HELD)
    shown = "".join(text_of(launched, 120))
    assert "\x1b" not in shown
    assert "\x07" not in shown
    assert "\N{REPLACEMENT CHARACTER}[2J for me" in shown

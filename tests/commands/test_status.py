"""`status`: where a launch stands on one screen, what is wanted of whom, and what a script gets."""

from __future__ import annotations

import contextlib
import io
import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console

from controller.adapters.files import Files
from controller.commands.clusters import Where
from controller.commands.status import document, screen, table
from controller.core.plan import InvalidPlanError
from controller.core.signals import Signal
from controller.core.status import State, Status, UnreadableStatusError, write_status
from controller.core.world import Launch, LaunchKey
from tests.commands.grounds import FolderGround, call, people
from tests.core.builders import NOW, Course, bad, course, invalid, plan, ramp, target
from tests.core.builders import document as manifest
from tests.core.test_whole_launch import at
from tests.realparts.parts import ROOT
from tests.realparts.server import wait_until
from tests.test_command_line import environment

KEY = LaunchKey("prod", "shop")


def launch(launched: Course, **changes: Any) -> Launch:
    """The launch of a course as the cluster would show it."""
    read = Launch(
        key=KEY,
        uid="1",
        resource_version="7",
        generation=1,
        created=NOW - 60,
        plan=launched.plan,
        status=launched.status,
        annotations=launched.annotations,
    )
    return replace(read, **changes)


def shown(read: Launch, now: float, *, width: int = 140, **where: str) -> str:
    """The screen as text, without blanks at the ends of its lines."""
    stream = io.StringIO()
    console = Console(file=stream, width=width, highlight=False, markup=False, emoji=False)
    console.print(screen(read, Where(**where), now))
    return "\n".join(line.rstrip() for line in stream.getvalue().splitlines())


def wanted(launched: Course) -> list[str]:
    """What stands under Wanted: what is asked for, and the words to type without the program and the launch."""
    text = shown(launch(launched), launched.now, width=300)
    lines = text.partition("\nWanted\n")[2].partition("\n\n")[0].splitlines()
    return [line.replace("  auto-advance", " ").replace(" shop -n prod", "") for line in lines]


PREFLIGHT = {"opens": "10m", "checklist": ["dashboards", "on-call"], "approval": {"role": "vp"}}


def until(launched: Course, signal: Signal) -> None:
    for _ in range(800):
        if launched.tick().signal is signal:
            return
    raise AssertionError(f"no {signal}, but {launched.status.reason}")


def test_a_preflight_is_wanted_once_it_is_open_and_can_be_ticked_off_before() -> None:
    launched = course(phases=[ramp(start={"at": at(3600)}, preflight=PREFLIGHT)])
    until(launched, Signal.SCHEDULED)
    checklist, done, approval, approve = wanted(launched)
    assert checklist.startswith("checklist of ramp: dashboards, on-call, for Nov 14 23:13 UTC (in ")
    assert checklist.endswith("(may be done already)")
    assert approval.startswith("go or no-go of ramp, vp, for Nov 14 23:13 UTC (in ")
    assert approval.endswith("(not asked for yet)")
    assert (done, approve) == ("  done ramp/dashboards ramp/on-call", "  approve ramp/preflight")
    until(launched, Signal.PREFLIGHT_OPEN)
    assert [line for line in wanted(launched) if line.endswith(("yet)", "already)"))] == []
    launched.annotations |= {"done": "ramp/on-call", "approve": "ramp/preflight"}
    launched.tick()
    assert wanted(launched)[1:] == ["  done ramp/dashboards"]


def test_an_approval_is_wanted_once_everything_measured_has_passed() -> None:
    steps = [{"weight": 5, "for": "30s", "approval": {"role": "lead"}}, {"weight": 30, "for": "30s"}]
    launched = course(phases=[ramp(steps=steps, gate={"approval": {"role": "vp"}}, deliverables=["runbook"])])
    launched.until_weight(50)
    said = wanted(launched)
    assert said[1::2] == ["  done ramp/runbook", "  approve ramp/1", "  approve ramp/gate"]
    assert [line.endswith("(not asked for yet)") for line in said[2::2]] == [True, True]
    until(launched, Signal.STEP_APPROVAL)
    assert "approval to leave step 1 of ramp, lead" in wanted(launched)
    launched.annotations |= {"approve": "ramp/1", "done": "ramp/runbook"}
    until(launched, Signal.GATE_APPROVAL)
    assert wanted(launched) == ["approval of the gate of ramp, vp", "  approve ramp/gate"]


def test_what_holds_for_good_wants_a_retry_and_what_is_over_wants_nothing() -> None:
    guardrails = [{"metric": "errors", "below": "1%", "onBreach": "hold"}]
    launched = course(phases=[ramp(guardrails=guardrails)])
    launched.until_weight(50)
    launched.traffic = bad
    launched.until(State.HELD)
    assert wanted(launched)[1:] == ["  retry"]
    launched.annotations["rollback"] = "bad"
    launched.until(State.ROLLED_BACK)
    assert wanted(launched) == []


def test_an_edited_plan_wants_to_be_accepted() -> None:
    launched = course()
    launched.until_weight(50)
    launched.plan = plan(phases=[ramp(steps=[{"weight": 5, "for": "40s"}, {"weight": 30}])])
    until(launched, Signal.PLAN_CHANGED)
    assert wanted(launched)[1:] == ["  retry"]


def test_one_screen_says_where_it_is_why_and_what_is_wanted() -> None:
    gate = {"at": at(4 * 3600), "criteria": [{"metric": "errors", "below": "0.5%"}], "approval": {"role": "vp"}}
    launched = course(
        targets=[target("us"), target("eu")],
        phases=[ramp(gate=gate, checkpoints=["2m", "4m"]), ramp("rollout", steps=[{"weight": 60}])],
    )
    launched.annotations["hold"] = '{"reason": "lunch", "by": "ada"}'
    launched.tick()
    del launched.annotations["hold"]
    launched.until_weight(300, "eu")
    launched.run(40)
    text = shown(launch(launched), launched.now, folder="my manifests")
    lines = text.splitlines()
    assert lines[0] == "launch       prod/shop, revision v2, run 1"
    assert lines[1] == "state        Judging (GateOpen)"
    for words in (
        "phase        ramp (1 of 2), since ",
        "step         2 of 2",
        "weight       us 30%, eu 30%",
        "checkpoints  2m: 4 passed; 4m: 4 passed",
        "gate         judged 2023-11-15 02:13:20Z (in ",
        "us  30%  ██████░░░░░░░░░░░░░░  in force since ",
        "pass     us      errors below 2%    0%     2%",
        "approval of the gate of ramp, vp, for Nov 15 02:13 UTC (in 3h51m) (not asked for yet)",
        "  auto-advance approve shop -n prod --folder 'my manifests' ramp/gate",
        "hold by ada  accepted  lunch; taken away",
        "NextTarget   ramp/2  target eu is next in step 2 of phase ramp",
    ):
        assert words in text, text
    assert len(lines) <= 40


def test_many_targets_stay_on_one_screen_with_what_is_bad_first() -> None:
    names = [f"region-{number}" for number in range(1, 25)]
    guardrails = [{"metric": "errors", "below": "1%", "onBreach": "hold"}]
    launched = course(targets=[target(name) for name in names], phases=[ramp(guardrails=guardrails)])
    launched.until_weight(50, "region-24")
    launched.traffic = lambda subject, at: bad(subject, at) if subject.target == "region-23" else (1000.0, 0.0)
    launched.until(State.HELD)
    launched.run(20)
    lines = shown(launch(launched), launched.now, width=120).splitlines()
    first = lines[lines.index("Criteria") + 2].split()
    assert first[:2] == ["fail", "region-23"]
    assert " and 8 pass" in "\n".join(lines)
    assert "and 8 more" in "\n".join(lines)
    assert len(lines) <= 70


def test_a_narrow_terminal_loses_nothing() -> None:
    launched = course(phases=[ramp(gate={"approval": {"role": "vp"}})])
    launched.until_weight(50)
    text = shown(launch(launched), launched.now, width=60)
    assert max(map(len, text.splitlines())) <= 60
    assert "approve shop -n prod ramp/gate" in text


def test_a_phase_that_is_waited_for_is_told_with_its_date_and_why_it_moved() -> None:
    launched = course(phases=[ramp(), ramp("rollout", steps=[{"weight": 60}], start={"at": at(3600)})])
    until(launched, Signal.PHASE_PASSED)
    launched.annotations["reschedule"] = json.dumps({"value": f"rollout={at(7200)}", "by": "ada"})
    until(launched, Signal.SCHEDULED)
    text = shown(launch(launched), launched.now)
    assert "waits for  phase rollout (2 of 2), begins 2023-11-15 00:13:20Z (in " in text
    assert "moved      rollout was moved by ada to Nov 15 00:13" in text


def test_a_hold_that_nobody_has_heard_is_told_and_one_that_lasts_with_how_to_end_it() -> None:
    launched = course()
    launched.tick()
    launched.annotations["hold"] = "lunch"
    assert "hold  not heard yet  no controller has looked since it was written" in shown(launch(launched), launched.now)
    launched.tick()
    assert "accepted  lunch; go on with: auto-advance resume shop -n prod" in shown(launch(launched), launched.now)


def test_what_people_wrote_does_not_reach_the_terminal_s_controls() -> None:
    launched = course()
    launched.tick()
    launched.annotations["hold"] = "\x1b[2J\x07lunch [red]x[/red] :smile:"
    launched.tick()
    text = shown(launch(launched), launched.now)
    assert [character for character in text if not character.isprintable() and character != "\n"] == []
    assert "lunch [red]x[/red] :smile:" in text


def test_a_target_that_was_taken_out_says_why() -> None:
    guardrails = [{"metric": "errors", "below": "1%", "scope": "target"}]
    launched = course(targets=[target("us"), target("eu")], phases=[ramp(guardrails=guardrails)])
    launched.until_weight(50, "eu")
    launched.traffic = lambda subject, at: (1000.0, 200.0 if (subject.target, subject.track) == ("eu", "canary") else 0)
    for _ in range(60):
        launched.tick()
        if any(each.withdrawn for each in launched.status.targets):
            break
    assert "taken out of this run: errors below 1% (eu)" in shown(launch(launched), launched.now)


def test_the_faults_of_a_plan_are_told_where_it_stands() -> None:
    launched = course()
    launched.plan = invalid()
    launched.tick()
    assert isinstance(launched.plan, InvalidPlanError)
    assert f"fault   {launched.plan.faults[0]}" in shown(launch(launched), launched.now, width=300)
    assert document(launch(launched))["faults"][0]["path"] == launched.plan.faults[0].path


def stored(folder: Path, name: str, status: Status | None = None, namespace: str = "prod") -> FolderGround:
    """A folder with a launch, and its status as a controller would have left it."""
    ground = FolderGround(folder, namespace)
    ground.put({**manifest(), "metadata": {"name": name}})
    if status is not None:
        files = Files(folder)
        files.write_status(files.read_launch(LaunchKey(namespace, name)), write_status(status))
    return ground


def succeeded() -> Status:
    launched = course()
    launched.until(State.SUCCEEDED)
    return launched.status


def test_all_launches_are_one_table(tmp_path: Path) -> None:
    ground = stored(tmp_path, "shop", succeeded())
    stored(tmp_path, "cart", namespace="dev")
    said = call("status", *ground.flags)
    assert (said.exit_code, said.stderr) == (0, "")
    head, cart, shop = [line.split() for line in said.stdout.splitlines()]
    assert head == ["NAMESPACE", "NAME", "STATE", "PHASE", "STEP", "WEIGHT", "NEXT", "REASON", "AGE"]
    assert cart[:3] == ["dev", "cart", "Pending"]
    assert shop[:8] == ["prod", "shop", "Succeeded", "ramp", "2", "of", "2", "30%"]
    assert "cart" not in call("status", "-n", "prod", *ground.flags).stdout
    assert "cart" in call("status", "-A", "-n", "prod", *ground.flags).stdout


def test_no_launch_at_all_is_said_and_is_no_error(tmp_path: Path) -> None:
    said = call("status", f"--folder={tmp_path}")
    assert (said.exit_code, said.stdout, said.stderr) == (0, "", "no launches found\n")
    assert json.loads(call("status", "-o", "json", f"--folder={tmp_path}").stdout) == {"launches": []}


def test_scripts_get_the_status_as_it_is_stored(tmp_path: Path) -> None:
    status = succeeded()
    ground = stored(tmp_path, "shop", status)
    one = json.loads(call("status", "shop", "-o", "json", *ground.flags).stdout)
    assert (one["namespace"], one["name"], one["revision"]) == ("prod", "shop", "v2")
    assert one["status"] == write_status(status)
    assert yaml.safe_load(call("status", "shop", "-o", "yaml", *ground.flags).stdout) == one
    assert json.loads(call("status", "-o", "json", *ground.flags).stdout) == {"launches": [one]}


def test_a_status_that_cannot_be_read_is_told_and_is_an_exit_code() -> None:
    read = launch(course(), status=UnreadableStatusError("status.state: 'Dreaming' is no state"))
    assert "its status cannot be read: status.state: 'Dreaming' is no state" in shown(read, NOW)
    assert document(read)["unreadable"] == "status.state: 'Dreaming' is no state"
    stream = io.StringIO()
    Console(file=stream, width=140).print(table([read], NOW))
    assert "Unknown" in stream.getvalue()


def test_a_launch_that_is_not_there_is_an_exit_code(tmp_path: Path) -> None:
    ground = stored(tmp_path, "shop")
    said = call("status", "shopp", *ground.flags)
    assert (said.exit_code, said.stdout) == (3, "")
    assert said.stderr == "auto-advance status: Launch shopp: there is none; write one of prod/shop\n"


def test_an_api_server_that_does_not_answer_is_one_line(tmp_path: Path) -> None:
    cluster = {"name": "c", "cluster": {"server": "http://127.0.0.1:9"}}
    context = {"name": "c", "context": {"cluster": "c", "user": ""}}
    config = {"apiVersion": "v1", "kind": "Config", "clusters": [cluster], "contexts": [context]}
    path = tmp_path / "kubeconfig"
    path.write_text(json.dumps({**config, "current-context": "c", "users": []}))
    said = call("status", f"--kubeconfig={path}")
    assert (said.exit_code, said.stdout) == (3, "")
    (line,) = said.stderr.splitlines()
    assert line.startswith("auto-advance status: ")


def test_both_clusters_show_the_same(namespace: str, kube: Any, tmp_path: Path) -> None:
    kube.apply([people()], namespace=namespace)
    path = kube.path_of({**people(), "metadata": {"name": "learner"}}, namespace)
    kube.call(
        "PATCH", f"{path}/status", {"status": write_status(succeeded())}, content_type="application/merge-patch+json"
    )
    flags = (f"--kubeconfig={kube.kubeconfig('admin', namespace=namespace)}",)
    one = json.loads(call("status", "learner", "-o", "json", *flags).stdout)
    assert one["namespace"] == namespace
    ground = stored(tmp_path, "learner", succeeded())
    there = json.loads(call("status", "learner", "-o", "json", *ground.flags).stdout)
    assert one["status"] == there["status"]
    assert [line.split()[1] for line in call("status", *flags).stdout.splitlines()] == ["NAME", "learner"]


@contextlib.contextmanager
def watching(*flags: str, **streams: Any) -> Iterator[subprocess.Popen[bytes]]:
    """A watch as it is started from a terminal: whoever runs the tests in the background has signals ignored."""
    command = [sys.executable, "-m", "controller", "status", "shop", "--watch", *flags]
    heard = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    with subprocess.Popen(command, cwd=ROOT, env=environment(), preexec_fn=heard, **streams) as process:  # noqa: PLW1509
        try:
            yield process
        finally:
            process.kill()


def test_watching_prints_what_changes_and_ends_by_a_signal_with_0(tmp_path: Path) -> None:
    ground = stored(tmp_path, "shop")
    with watching("-o", "json", *ground.flags, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert "status" in json.loads(process.stdout.readline())
        stored(tmp_path, "shop", succeeded())
        assert json.loads(process.stdout.readline())["status"]["state"] == "Succeeded"
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0


def test_watching_ends_when_the_launch_is_gone(tmp_path: Path) -> None:
    ground = stored(tmp_path, "shop")
    with watching(*ground.flags, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert b"prod/shop" in process.stdout.readline()
        for path in tmp_path.glob("launch-*.yaml"):
            path.unlink()
        assert process.wait(60) == 3


@pytest.mark.parametrize("quiet", [False, True])
def test_there_are_colours_on_a_terminal_only_and_not_where_they_are_not_wanted(tmp_path: Path, quiet: bool) -> None:
    ground = stored(tmp_path, "shop", succeeded())
    assert "\x1b" not in call("status", "shop", *ground.flags).stdout
    variables = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}
    variables.pop("NO_COLOR", None)
    if quiet:
        variables["NO_COLOR"] = "1"
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "controller", "status", "shop", *ground.flags]
    with subprocess.Popen(command, cwd=ROOT, stdout=theirs, env=variables) as process:
        os.close(theirs)
        said = bytearray()
        wait_until(lambda: _ended(ours, said), deadline_s=60, what="the screen")
        assert process.wait(60) == 0
    os.close(ours)
    assert (b"\x1b[32m" in said) is not quiet


def _ended(terminal: int, said: bytearray) -> bool:
    """Reads on; a terminal whose other end is closed is an error."""
    try:
        data = os.read(terminal, 65536)
    except OSError:
        return True
    said += data
    return not data

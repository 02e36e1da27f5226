"""`make demo` on the real parts: both ends of the story, in short ramps, and nothing that stays behind.

Covered besides: an Envoy that follows the route without a restart, bounded traffic, a part that does not start, Ctrl-C
and kill -9. Left out: the whole ramp of `deploy/examples/demo`, which takes two minutes and is the same but longer.
"""

import contextlib
import io
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import yaml
from rich.console import Console

from controller.core.evidence import Outcome
from controller.core.status import DecisionRecord, Run, State, Status
from controller.core.units import parse_duration
from demo.envoy import Change, Follower, bootstrap
from demo.observer import AlertNow, CriterionNow, Scene, StepNow
from demo.parts import HOST, MANIFESTS, PartFailedError, Parts, Services
from demo.screen import LineScreen, draw
from demo.summary import tell, verdict
from demo.traffic import Seen, Traffic
from tests.realparts.envoy import Envoy
from tests.realparts.parts import ROOT
from tests.realparts.server import free_port, http, wait_until

real = pytest.mark.real
LONGEST_S = 400.0
DEADLINE_S = 60.0
BEGAN = 1_800_000_000.0
PROOF = "errors below 2% (main): proven worse than 2%: 33 errors in 830 requests (3.98%)"


@pytest.fixture
def short(tmp_path: Path) -> Path:
    """The demo's manifests with a ramp of two short steps."""
    folder = tmp_path / "short"
    shutil.copytree(MANIFESTS, folder)
    launch = yaml.safe_load((folder / "launch.yaml").read_text())
    launch["spec"]["phases"][0]["steps"] = [{"weight": 30, "for": "8s"}, {"weight": 100, "for": "4s"}]
    (folder / "launch.yaml").write_text(yaml.safe_dump(launch))
    return folder


def started(*arguments: str, temporary: Path) -> subprocess.Popen[str]:
    temporary.mkdir(exist_ok=True)
    return subprocess.Popen(
        [sys.executable, "-m", "demo", *arguments],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(temporary), "BAD": ""},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def children(demo: subprocess.Popen[str]) -> list[psutil.Process]:
    return psutil.Process(demo.pid).children(recursive=True)


@contextlib.contextmanager
def running(short: Path, temporary: Path) -> Iterator[tuple[subprocess.Popen[str], list[psutil.Process]]]:
    """A demo whose daemon has decided something, with all its processes."""
    demo = started("--manifests", str(short), temporary=temporary)
    try:
        assert demo.stdout is not None
        assert any("decision 1-1" in line for line in demo.stdout), "it ended before its first decision"
        mine = children(demo)
        assert len(mine) >= 5
        yield demo, mine
    finally:
        demo.kill()
        demo.wait()
        assert demo.stdout is not None
        demo.stdout.close()


def none_lives(processes: list[psutil.Process]) -> bool:
    return not any(one.is_running() and one.status() != psutil.STATUS_ZOMBIE for one in processes)


@real
@pytest.mark.xdist_group("demo")
def test_the_good_canary_reaches_100_percent(short: Path, tmp_path: Path) -> None:
    picture = tmp_path / "pictures" / "demo.svg"
    temporary = tmp_path / "temporary"
    demo = started("--manifests", str(short), "--picture", str(picture), temporary=temporary)
    said, _ = demo.communicate(timeout=LONGEST_S)
    assert demo.returncode == 0, said
    assert "weight: canary 30%" in said
    assert "The canary reached 100 % in " in said
    assert "in 2 steps" in said
    assert list(temporary.iterdir()) == []
    svg = picture.read_text()
    assert "Succeeded" in svg
    assert str(tmp_path) not in svg
    assert "font-face" not in svg


@real
@pytest.mark.xdist_group("demo")
def test_the_bad_canary_is_at_0_after_the_proof_and_alertmanager_knows(short: Path, tmp_path: Path) -> None:
    demo = started("--bad", "--manifests", str(short), temporary=tmp_path / "temporary")
    said, _ = demo.communicate(timeout=LONGEST_S)
    assert demo.returncode == 0, said
    lines = said.splitlines()
    assert any("errors below 2%: fail (" in line for line in lines)
    weights = [line.split("canary ")[1] for line in lines if "weight: canary" in line]
    assert weights == ["0%", "30%", "0%"]
    assert any(", Breach: " in line and "proven worse than" in line for line in lines)
    assert any(line.startswith("Alertmanager received LaunchRolledBack (critical)") for line in lines)
    (after,) = (line for line in lines if line.startswith("The canary was at 0 % "))
    assert parse_duration(after.split(" ")[6]) > 0


@real
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_leaves_no_process_and_no_file(number: signal.Signals, short: Path, tmp_path: Path) -> None:
    temporary = tmp_path / "temporary"
    with running(short, temporary) as (demo, processes):
        demo.send_signal(number)
        assert demo.wait(timeout=DEADLINE_S) == 130
        wait_until(lambda: none_lives(processes), deadline_s=DEADLINE_S, what="every part to end")
        assert list(temporary.iterdir()) == []


@real
def test_a_daemon_that_dies_ends_the_demo_with_its_last_words(short: Path, tmp_path: Path) -> None:
    with running(short, tmp_path / "temporary") as (demo, processes):
        (daemon,) = (one for one in processes if "controller" in one.cmdline())
        daemon.kill()
        assert demo.stdout is not None
        *_, last = demo.stdout
        assert last.startswith("demo: auto-advance ended by itself: ")
        assert demo.wait(timeout=DEADLINE_S) == 1
        assert none_lives(processes)


@real
def test_a_killed_demo_takes_its_parts_along(short: Path, tmp_path: Path) -> None:
    with running(short, tmp_path / "temporary") as (demo, processes):
        demo.kill()
        wait_until(lambda: none_lives(processes), deadline_s=DEADLINE_S, what="every part to end")


@real
def test_a_part_that_does_not_start_is_said_in_one_sentence(tmp_path: Path) -> None:
    class Broken(Services):
        def command(self) -> list[str]:
            return [sys.executable, "-c", "raise SystemExit('the till is empty')"]

    parts = Parts(tmp_path / "parts")
    parts.services = Broken(tmp_path / "broken")
    with pytest.raises(PartFailedError) as failed, parts:
        pass
    assert str(failed.value) == "services ended at its start (exit code 1): the till is empty"
    assert not any(server.running for server in parts.servers)


@real
def test_envoy_follows_the_route_without_a_restart_and_keeps_the_last_good_one(tmp_path: Path) -> None:
    parts = Parts(tmp_path / "parts")
    discovery, route = tmp_path / "parts" / "discovery", parts.manifests / "route.yaml"
    follower = Follower(parts.manifests, discovery)
    port, session = free_port(), http()
    envoy = Envoy(tmp_path / "own", bootstrap(port, discovery, follower.clusters()))

    def track() -> str:
        answer = session.get(f"http://127.0.0.1:{port}/", headers={"Host": HOST}, timeout=DEADLINE_S)
        return answer.headers.get("X-Track", "")

    follower.start()
    with parts.services, envoy:
        wait_until(track, deadline_s=DEADLINE_S, what="an answer through Envoy")
        assert {track() for _ in range(50)} == {"stable"}
        pid, text = envoy.pid, route.read_text()
        route.write_text(
            text.replace("weight: 100", "weight: 0").replace("shop-canary, port: 80, weight: 0", "BROKEN: {")
        )
        wait_until(lambda: follower.problem, deadline_s=DEADLINE_S, what="the broken file to be seen")
        assert {track() for _ in range(20)} == {"stable"}
        route.write_text(text.replace("weight: 100", "weight: 1").replace("weight: 0", "weight: 1"))
        wait_until(lambda: track() == "canary", deadline_s=DEADLINE_S, what="the canary's share")
        assert {track() for _ in range(50)} == {"stable", "canary"}
        route.write_text(text.replace("weight: 100", "weight: X").replace("weight: 0", "weight: 100").replace("X", "0"))
        wait_until(lambda: {track() for _ in range(20)} == {"canary"}, deadline_s=DEADLINE_S, what="all traffic")
        assert envoy.pid == pid
        assert follower.problem == ""
    follower.stop()
    assert [change.canary for change in follower.changes] == [0.0, 0.5, 1.0]


@real
def test_traffic_stops_by_itself_at_its_count_and_sees_what_fails(tmp_path: Path) -> None:
    with Services(tmp_path / "services") as services:
        services.fail(1.0)
        traffic = Traffic(services.canary_port, rate=400, most=120)
        began = time.monotonic()
        traffic.start()
        wait_until(lambda: traffic.seen().total >= 120, deadline_s=DEADLINE_S, what="the count to be reached")
        traffic.stop()
    seen = traffic.seen()
    assert seen.counts == {("canary", "failed"): 120}
    assert seen.failed() == seen.failed("canary") == 120
    assert time.monotonic() - began > 0.25, "at most 400 requests a second, 120 in all"


def record(number: int, signal_name: str, message: str, at: float) -> DecisionRecord:
    return DecisionRecord(
        id=f"1-{number}",
        at=BEGAN + at,
        signal=signal_name,
        state="Progressing",
        phase="ramp",
        step=1,
        weights={},
        message=message,
    )


def scene(
    state: State,
    canary: float,
    *,
    failing: float | None = None,
    alerts: tuple[AlertNow, ...] = (),
    elapsed: float = 60.0,
) -> Scene:
    ended = BEGAN + 50 if state in {State.SUCCEEDED, State.ROLLED_BACK} else None
    weights = (("shop-stable", round(1000 - canary * 1000)), ("shop-canary", round(canary * 1000)))
    return Scene(
        began=BEGAN,
        elapsed=elapsed,
        status=Status(
            state=state, message=PROOF, ended_at=ended, run=Run(number=1, revision="v2", started_at=BEGAN, stands_on={})
        ),
        canary=canary,
        changes=(
            Change(BEGAN, {"shop-stable": 100, "shop-canary": 0}),
            Change(BEGAN + 10, {"shop-stable": 700, "shop-canary": 300}),
            Change(BEGAN + 49.1, dict(weights)),
        ),
        criteria=(CriterionNow("errors below 2%", Outcome.FAIL.value, 830, 33, 0.02),),
        steps=(StepNow(30, 10.0), StepNow(100, 49.1 if canary == 1 else None)),
        decisions=(record(1, "StepDone", "phase ramp begins with 30%", 9.9), record(2, "Breach", PROOF, 49.0)),
        traffic=Seen({("stable", "served"): 900, ("canary", "failed"): 34}, 250.0, 0.3),
        alerts=alerts,
        failing_since=failing,
        problem="",
    )


ALERT = AlertNow("LaunchRolledBack", "critical", "Launch demo/shop was rolled back (Breach)", PROOF, BEGAN + 49)


def plain(thing: object, width: int = 108) -> str:
    console = Console(file=io.StringIO(), width=width, force_terminal=False)
    console.print(thing)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.mark.parametrize(
    ("seen", "bad", "said"),
    [
        (scene(State.PROGRESSING, 0.3), False, None),
        (scene(State.SUCCEEDED, 1.0), False, ""),
        (scene(State.SUCCEEDED, 1.0, elapsed=51), False, None),
        (scene(State.ROLLED_BACK, 0.0), False, "the good canary was rolled back"),
        (scene(State.ROLLED_BACK, 0.0, failing=45), True, None),
        (scene(State.ROLLED_BACK, 0.0, failing=45, alerts=(ALERT,)), True, ""),
        (scene(State.ROLLED_BACK, 0.0, alerts=(ALERT,)), True, "before it failed"),
        (scene(State.SUCCEEDED, 1.0, failing=45), True, "it should have been rolled back"),
    ],
    ids=["running", "good", "just ended", "good but back", "no alert yet", "bad", "too early", "bad but through"],
)
def test_only_the_expected_end_counts(seen: Scene, bad: bool, said: str | None) -> None:
    found = verdict(seen, bad=bad)
    assert found is said or (found is not None and said and said in found)


def test_the_screen_shows_weights_evidence_decisions_and_the_alert() -> None:
    shown = plain(
        draw(scene(State.ROLLED_BACK, 0.0, failing=45, alerts=(ALERT,)), {"Prometheus": "http://127.0.0.1:1"})
    )
    for words in (
        "RolledBack",
        "the canary fails since 0:45",
        "✘ 30% at 0:10, 0% at 0:49",
        "○ 100%",
        "3.98%",
        "830",
        "Breach",
        "LaunchRolledBack",
        "http://127.0.0.1:1",
    ):
        assert words in shown
    assert "█" * 56 in next(line for line in shown.splitlines() if "stable " in line)


def test_the_summary_of_a_rollback_holds_the_proof_the_delay_and_the_alert() -> None:
    console = Console(file=io.StringIO(), width=200)
    tell(console, scene(State.ROLLED_BACK, 0.0, failing=45, alerts=(ALERT,)), bad=True)
    assert isinstance(console.file, io.StringIO)
    said = console.file.getvalue()
    assert PROOF in said
    assert "100ms after the proof was seen (a tick is 1s) and 4.1s after its first failure" in said
    assert "Alertmanager received LaunchRolledBack (critical)" in said
    assert "934 requests; 34 failed, 34 of them at the canary" in said


def test_without_a_terminal_each_change_is_one_line_and_said_once() -> None:
    console = Console(file=io.StringIO(), width=80)
    screen = LineScreen(console, {})
    for _ in range(3):
        screen.show(scene(State.ROLLED_BACK, 0.0, failing=45, alerts=(ALERT,)))
    assert isinstance(console.file, io.StringIO)
    lines = console.file.getvalue().splitlines()
    assert len(lines) == len(set(lines)) == 8
    assert "0:49  decision 1-2, Breach: " + PROOF in lines

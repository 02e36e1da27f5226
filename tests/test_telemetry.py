"""Log lines and metrics: what a decision says, what a failure says how often, and which series there are when."""

from __future__ import annotations

import ast
import io
import json
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import structlog
from prometheus_client import Metric
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families

from controller.adapters.prometheus import QueryRefusedError
from controller.core.decide import Decision
from controller.core.events import Event
from controller.core.observation import Observation
from controller.core.overrides import VERBS
from controller.core.signals import Signal
from controller.core.status import State
from controller.core.transitions import Action
from controller.core.world import LaunchKey
from controller.errors import ConflictError, NotFoundError, RefusedError, UnansweredError, UnusableError
from controller.telemetry import DOINGS, OUTCOMES, QUIET_SECONDS, WRITES, Telemetry, configure_logging
from demo.parts import MANIFESTS, Daemon
from tests.core.builders import Course, bad, course, ramp, target
from tests.realparts.parts import ROOT
from tests.realparts.prometheus import promtool
from tests.realparts.server import free_port, http, wait_until

SHOP, PAY = LaunchKey("prod", "shop"), LaunchKey("prod", "pay")
Labels = frozenset[tuple[str, str]]


class Log:
    """What was logged, as it was written."""

    def __init__(self) -> None:
        self.stream = io.StringIO()

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.stream.getvalue().splitlines()]


@pytest.fixture(autouse=True)
def log() -> Iterator[Log]:
    """Everything of a test is logged here, as JSON."""
    kept = Log()
    configure_logging(json=True, stream=kept.stream)
    yield kept
    structlog.reset_defaults()


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def samples(telemetry: Telemetry) -> dict[str, dict[Labels, float]]:
    """What a scraper sees: values by name and labels, without the client library's own ``_created``."""
    text = telemetry.exposition("")[0].decode()
    seen: dict[str, dict[Labels, float]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if not sample.name.endswith("_created"):
                seen.setdefault(sample.name, {})[frozenset(sample.labels.items())] = sample.value
    return seen


def value(telemetry: Telemetry, name: str, **labels: str) -> float | None:
    """One sample; None: there is none."""
    return samples(telemetry).get(f"autoadvance_{name}", {}).get(frozenset(labels.items()))


def judge(telemetry: Telemetry, key: LaunchKey, launched: Course) -> None:
    """One tick of the launch, as the daemon tells it."""
    views = launched.observe().targets
    decision = launched.tick()
    telemetry.judged(key, decision, views)
    if decision.decisive:
        telemetry.decided(key, decision, launched.observe())


def at_five_percent() -> Course:
    launched = course()
    launched.until_weight(50)
    return launched


def test_a_decision_is_one_line_with_its_id(log: Log) -> None:
    launched = course()
    launched.tick()
    decision = launched.tick()
    assert decision.raises
    Telemetry().decided(SHOP, decision, launched.observe())
    (line,) = log.lines
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z", line.pop("timestamp"))
    assert line == {
        "event": "decision",
        "level": "info",
        "launch": "prod/shop",
        "id": decision.id,
        "signal": "PhaseBegins",
        "action": decision.action.value,
        "state": "Progressing",
        "phase": "ramp",
        "step": decision.status.step,
        "weights": {"main": "5%"},
        "message": "phase ramp begins with 5%",
    }
    assert decision.id == launched.status.decisions[-1].id, "the id of the line is the id in status"


def test_an_override_has_a_line_of_its_own_and_its_removal_none(log: Log) -> None:
    telemetry = Telemetry()
    launched = at_five_percent()
    launched.annotations["hold"] = '{"reason": "lunch", "by": "ann"}'
    telemetry.decided(SHOP, launched.tick(), launched.observe())
    held, decided = log.lines
    assert (held["event"], held["verb"], held["outcome"], held["by"]) == ("override", "hold", "accepted", "ann")
    assert decided["signal"] == "HoldAsked"
    del launched.annotations["hold"]
    telemetry.decided(SHOP, launched.tick(), launched.observe())
    assert [line["event"] for line in log.lines[2:]] == ["decision"]
    assert value(telemetry, "overrides_total", verb="hold", outcome="accepted") == 1


def test_a_steady_state_is_quiet(log: Log) -> None:
    telemetry = Telemetry()
    launched = at_five_percent()
    for _ in range(100):
        telemetry.judged(SHOP, launched.decide(), launched.observe().targets)
        telemetry.round_done(0.1, 0.05)
    assert log.lines == []


def test_a_repeated_failure_is_one_line_a_minute_and_every_one_is_counted(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    telemetry = Telemetry()
    at = 5000.0
    monkeypatch.setattr("controller.telemetry.time.monotonic", lambda: at)
    for second in range(181):
        at = 5000.0 + second
        telemetry.failed(SHOP, "writing", RefusedError(f"refused for the {second}. time"))
    assert [line["error"].split()[3] for line in log.lines] == ["0.", "60.", "120.", "180."]
    assert log.lines[0]["level"] == "warning"
    assert (log.lines[0]["launch"], log.lines[0]["doing"]) == ("prod/shop", "writing")
    assert value(telemetry, "failures_total", doing="writing") == 181


def test_failures_that_differ_have_lines_of_their_own(log: Log) -> None:
    telemetry = Telemetry()
    for key, doing, error in (
        (SHOP, "writing", RefusedError("no")),
        (PAY, "writing", RefusedError("no")),
        (SHOP, "lowering the canary", RefusedError("no")),
        (SHOP, "writing", ValueError("no")),
        (None, "gathering", ValueError("no")),
    ) * 2:
        telemetry.failed(key, doing, error)
    assert len(log.lines) == 5
    assert log.lines[-1]["launch"] == ""


def test_what_failed_long_ago_is_not_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    telemetry = Telemetry()
    at = 0.0
    monkeypatch.setattr("controller.telemetry.time.monotonic", lambda: at)
    for number in range(500):
        at = number * QUIET_SECONDS / 10
        telemetry.failed(LaunchKey("prod", f"launch-{number}"), "writing", RefusedError("no"))
    assert len(telemetry._failed) <= 11


def test_failures_of_many_threads_at_once_are_all_counted(log: Log) -> None:
    telemetry, raised = Telemetry(), []

    def fail(thread: int) -> None:
        try:
            for number in range(300):
                telemetry.failed(LaunchKey("prod", f"launch-{thread}-{number}"), "writing", RefusedError("no"))
        except RuntimeError as error:
            raised.append(error)

    patience = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=fail, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(patience)
    assert not raised
    assert value(telemetry, "failures_total", doing="writing") == 1200
    assert len(log.lines) == 1200


def test_counters_begin_at_0_before_anything_happened() -> None:
    seen = samples(Telemetry())
    assert seen["autoadvance_decisions_total"] == {frozenset({("signal", one.value)}): 0.0 for one in Signal}
    for name in ("ticks_missed_total", "alert_failures_total", "alerts_sent_total", "tick_duration_seconds_count"):
        assert seen[f"autoadvance_{name}"] == {frozenset(): 0.0}
    for name, by in (
        (
            "overrides",
            [{"verb": verb, "outcome": told} for verb in VERBS for told in ("accepted", "refused", "expired")],
        ),
        ("failures", [{"doing": doing} for doing in DOINGS]),
        ("queries", [{"outcome": ended} for ended in ("answered", "refused", "unanswered", "unusable")]),
        ("writes", [{"of": of, "outcome": ended} for of in WRITES for ended in ("done", *OUTCOMES.values())]),
    ):
        assert seen[f"autoadvance_{name}_total"] == {frozenset(labels.items()): 0.0 for labels in by}
    assert not [name for name in seen if "launch" in name or "criterion" in name]


def test_whatever_the_program_says_that_it_failed_at_is_counted_from_0() -> None:
    """Else the first failure of a kind would be invisible to increase()."""
    said: set[str] = set()
    for path in (ROOT / "controller").rglob("*.py"):
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr == "failed":
                said |= {str(word.value) for word in call.args[1:2] if isinstance(word, ast.Constant)}
    assert said == set(DOINGS)


def test_a_launch_is_in_one_state_with_its_weights_and_its_verdicts() -> None:
    telemetry = Telemetry()
    launched = course(phases=[ramp(steps=[{"weight": 5, "for": "10m"}, {"weight": 30}])])
    launched.until_weight(50)
    for _ in range(3):
        judge(telemetry, SHOP, launched)
    place = {"namespace": "prod", "launch": "shop"}
    states = samples(telemetry)["autoadvance_launch_state"]
    assert {dict(labels)["state"] for labels, on in states.items() if on} == {"Progressing"}
    assert len(states) == len(State)
    assert value(telemetry, "launch_desired_weight_ratio", **place, target="main") == 0.05
    assert value(telemetry, "launch_observed_weight_ratio", **place, target="main") == 0.05
    criterion = {**place, "target": "main", "criterion": "errors below 2%"}
    assert value(telemetry, "criterion_verdict", **criterion, verdict="pass") == 1
    assert value(telemetry, "criterion_verdict", **criterion, verdict="fail") == 0
    assert value(telemetry, "criterion_requests", **criterion) == 1000
    assert value(telemetry, "criterion_bad_requests", **criterion) == 0
    assert value(telemetry, "criterion_limit", **criterion) == 0.02


def test_a_verdict_of_failure_is_shown_with_what_it_rests_on() -> None:
    telemetry = Telemetry()
    launched = at_five_percent()
    launched.traffic = bad
    while launched.status.state == State.PROGRESSING:
        judge(telemetry, SHOP, launched)
    criterion = {"namespace": "prod", "launch": "shop", "target": "main", "criterion": "errors below 2%"}
    assert value(telemetry, "criterion_verdict", **criterion, verdict="fail") == 1
    assert (value(telemetry, "criterion_bad_requests", **criterion) or 0) >= 200
    assert value(telemetry, "decisions_total", signal="Breach") == 1
    assert value(telemetry, "launch_desired_weight_ratio", namespace="prod", launch="shop", target="main") == 0


def test_a_launch_shows_its_step_since_when_and_for_how_long_it_is_planned() -> None:
    telemetry = Telemetry()
    launched = course(phases=[ramp(steps=[{"weight": 5, "for": "10m"}, {"weight": 30}])])
    judge(telemetry, SHOP, launched)
    place = {"namespace": "prod", "launch": "shop"}
    assert value(telemetry, "launch_step", **place, phase="ramp") == 0
    assert value(telemetry, "launch_step_planned_duration_seconds", **place) is None
    launched.until_weight(50)
    judge(telemetry, SHOP, launched)
    assert value(telemetry, "launch_step", **place, phase="ramp") == 1
    in_force = launched.status.targets[0].in_force_at
    assert in_force is not None
    assert value(telemetry, "launch_step_started_timestamp_seconds", **place) == in_force
    assert value(telemetry, "launch_step_planned_duration_seconds", **place) == 600
    launched.until_weight(300)
    judge(telemetry, SHOP, launched)
    assert value(telemetry, "launch_step", **place, phase="ramp") == 2
    assert value(telemetry, "launch_step_planned_duration_seconds", **place) == 0


def test_since_when_a_launch_is_in_its_state_outlasts_what_its_status_remembers() -> None:
    telemetry = Telemetry()
    launched = at_five_percent()
    launched.annotations["hold"] = "lunch"
    judge(telemetry, SHOP, launched)
    held_at = launched.status.decisions[-1].at
    place = {"namespace": "prod", "launch": "shop"}
    for number in range(15):
        launched.annotations["hold"] = f"lunch {number}"
        judge(telemetry, SHOP, launched)
        assert value(telemetry, "launch_state_since_timestamp_seconds", **place) == held_at
    assert value(telemetry, "launch_reason", **place, reason="HoldAsked") == 1
    del launched.annotations["hold"]
    judge(telemetry, SHOP, launched)
    assert (value(telemetry, "launch_state_since_timestamp_seconds", **place) or 0) > held_at
    reasons = samples(telemetry)["autoadvance_launch_reason"]
    assert len(reasons) == 1, "only the present reason is shown"
    assert {dict(labels)["reason"] for labels in reasons} == {launched.status.reason}


def test_decisions_of_a_launch_are_counted_from_0_by_what_was_done() -> None:
    telemetry = Telemetry()
    launched = course()
    judge(telemetry, SHOP, launched)
    place = {"namespace": "prod", "launch": "shop"}
    seen = samples(telemetry)["autoadvance_launch_decisions_total"]
    assert {dict(labels)["action"] for labels in seen} == {action.name.lower().replace("_", " ") for action in Action}
    assert value(telemetry, "launch_decisions_total", **place, action="raise") == 0
    judge(telemetry, SHOP, launched)
    assert value(telemetry, "launch_decisions_total", **place, action="raise") == 1
    telemetry.forgotten(SHOP)
    assert "autoadvance_launch_decisions_total" not in samples(telemetry)


def test_each_time_that_somebody_else_moves_the_weight_is_one_drift() -> None:
    telemetry = Telemetry()
    launched = at_five_percent()
    judge(telemetry, SHOP, launched)
    place = {"namespace": "prod", "launch": "shop"}
    assert value(telemetry, "launch_drifts_total", **place) == 0
    for times in (1, 2):
        launched.live["main"] = 300
        for _ in range(3):
            judge(telemetry, SHOP, launched)
        assert value(telemetry, "launch_drifts_total", **place) == times
        assert value(telemetry, "launch_observed_weight_ratio", **place, target="main") == 0.3
        assert value(telemetry, "launch_desired_weight_ratio", **place, target="main") == 0.05
        launched.live["main"] = 50
        for _ in range(3):
            judge(telemetry, SHOP, launched)


def test_what_was_measured_is_shown_with_its_instant() -> None:
    telemetry = Telemetry()
    launched = at_five_percent()
    launched.run(2)
    judge(telemetry, SHOP, launched)
    criterion = {"namespace": "prod", "launch": "shop", "target": "main", "criterion": "errors below 2%"}
    assert value(telemetry, "criterion_value", **criterion) == 0
    assert (value(telemetry, "criterion_last_sample_timestamp_seconds", **criterion) or 0) > 1.6e9


def test_queries_and_writes_are_counted_by_how_they_ended() -> None:
    telemetry = Telemetry()
    for error in (
        None,
        RefusedError("no"),
        QueryRefusedError("bad"),
        UnansweredError("late"),
        UnusableError("partial"),
    ):
        telemetry.queried(0.2, error)
    ends = {"answered": 1, "refused": 2, "unanswered": 1, "unusable": 1}
    assert {ended: value(telemetry, "queries_total", outcome=ended) for ended in ends} == ends
    assert value(telemetry, "query_duration_seconds_count") == 5
    telemetry.wrote("status", 0.1, None)
    telemetry.wrote("status", 0.1, ConflictError("moved"))
    telemetry.wrote("route", 0.3, NotFoundError("gone"))
    assert value(telemetry, "writes_total", of="status", outcome="done") == 1
    assert value(telemetry, "writes_total", of="status", outcome="conflict") == 1
    assert value(telemetry, "writes_total", of="route", outcome="gone") == 1
    assert value(telemetry, "write_duration_seconds_sum", of="route") == 0.3


def test_the_daemon_shows_what_it_runs_with() -> None:
    telemetry, fresh = Telemetry(), [False]
    assert value(telemetry, "leader") == 0
    telemetry.serves(tick=5, alertmanagers=2, in_sync=lambda: fresh[0])
    assert value(telemetry, "tick_interval_seconds") == 5
    assert value(telemetry, "alertmanagers") == 2
    assert value(telemetry, "leader") == 1
    assert value(telemetry, "cluster_in_sync") == 0
    fresh[0] = True
    assert value(telemetry, "cluster_in_sync") == 1
    assert (value(telemetry, "start_time_seconds") or 0) > 1.7e9
    assert value(telemetry, "build_info", version=metadata.version("auto-advance")) == 1


def test_a_weight_that_cannot_be_read_is_absent_not_0() -> None:
    telemetry = Telemetry()
    launched = at_five_percent()
    launched.route_problem = "the route is gone"
    judge(telemetry, SHOP, launched)
    seen = samples(telemetry)
    assert "autoadvance_launch_observed_weight_ratio" not in seen
    assert list(seen["autoadvance_launch_desired_weight_ratio"].values()) == [0.05]


def test_the_series_of_a_launch_go_when_it_goes_and_the_others_stay() -> None:
    telemetry = Telemetry()
    for key in (SHOP, PAY):
        judge(telemetry, key, at_five_percent())
    telemetry.forgotten(SHOP)
    telemetry.forgotten(SHOP)
    text = telemetry.exposition("")[0].decode()
    assert 'launch="pay"' in text
    assert 'launch="shop"' not in text
    telemetry.forgotten(PAY)
    assert "launch=" not in telemetry.exposition("")[0].decode()


def test_no_label_grows_with_what_happens() -> None:
    telemetry = Telemetry()
    launched = at_five_percent()

    def live(number: int) -> None:
        launched.annotations["hold"] = json.dumps({"reason": f"reason {number}", "by": f"person {number}"})
        telemetry.failed(SHOP, "writing", RefusedError(f"failure {number}"))
        telemetry.alert_failed(OSError(f"alertmanager {number}"))
        telemetry.rolled_back(SHOP, launched.status)
        judge(telemetry, SHOP, launched)

    for number in range(3):
        live(number)
    before = {name: set(by_labels) for name, by_labels in samples(telemetry).items()}
    for number in range(3, 30):
        live(number)
    assert {name: set(by_labels) for name, by_labels in samples(telemetry).items()} == before
    assert value(telemetry, "alert_failures_total") == 30


def test_a_finished_tick_is_timed() -> None:
    telemetry = Telemetry()
    telemetry.round_done(0.3, 0.2)
    telemetry.round_missed()
    assert value(telemetry, "tick_duration_seconds_sum") == 0.3
    assert value(telemetry, "gather_duration_seconds_sum") == 0.2
    assert value(telemetry, "ticks_missed_total") == 1
    assert (value(telemetry, "last_evaluation_timestamp_seconds") or 0) > 1.7e9


def test_a_scraper_gets_the_format_that_it_asks_for() -> None:
    telemetry = Telemetry()
    text, plain = telemetry.exposition("text/plain")
    assert plain.startswith("text/plain")
    assert not text.endswith(b"# EOF\n")
    text, openmetrics = telemetry.exposition("application/openmetrics-text; version=1.0.0; charset=utf-8")
    assert openmetrics.startswith("application/openmetrics-text")
    assert text.endswith(b"# EOF\n")


@pytest.mark.real
def test_promtool_has_nothing_to_say_against_the_metrics() -> None:
    telemetry = Telemetry()
    judge(telemetry, SHOP, at_five_percent())
    telemetry.failed(SHOP, "writing", RefusedError("no"))
    telemetry.round_done(0.1, 0.05)
    said = subprocess.run(
        [promtool(), "check", "metrics"],
        input=telemetry.exposition("")[0],
        capture_output=True,
        check=False,
        timeout=300,
    )
    assert (said.returncode, said.stdout + said.stderr) == (0, b"")


@pytest.mark.real
def test_a_live_daemon_serves_clean_metrics_that_are_all_documented(tmp_path: Path) -> None:
    manifests = tmp_path / "manifests"
    shutil.copytree(MANIFESTS, manifests)
    nobody = f"http://127.0.0.1:{free_port()}"
    with Daemon(tmp_path / "daemon", manifests, nobody, nobody) as daemon:
        url = f"{daemon.url}/metrics"

        def text(accept: str = "text/plain") -> str:
            return http().get(url, headers={"Accept": accept}, timeout=10).text

        wait_until(
            lambda: 'queries_total{outcome="unanswered"} 0.0' not in text(), deadline_s=60, what="a query that fails"
        )
        plain, strict = text(), text("application/openmetrics-text; version=1.0.0")
    said = subprocess.run(
        [promtool(), "check", "metrics"], input=plain.encode(), capture_output=True, check=False, timeout=300
    )
    assert (said.returncode, said.stdout + said.stderr) == (0, b"")
    parse: Callable[[str], Iterable[Metric]] = openmetrics.text_string_to_metric_families
    families = {family.name: family for family in parse(strict)}
    assert families["autoadvance_cluster_in_sync"].samples[0].value == 1
    assert families["autoadvance_alertmanagers"].samples[0].value == 1
    names = {f"{name}_total" if family.type == "counter" else name for name, family in families.items()}
    documented = set(
        re.findall(r"^\| `(autoadvance_\w+)`", (ROOT / "docs/metrics.md").read_text("utf-8"), re.MULTILINE)
    )
    assert names == documented


def test_below_its_level_nothing_is_logged_and_a_terminal_gets_text() -> None:
    quiet, terminal, pipe = Log(), Terminal(), io.StringIO()
    configure_logging(json=True, level="warning", stream=quiet.stream)
    Telemetry().note("started")
    Telemetry().failed(None, "gathering", ValueError("no"))
    assert [line["event"] for line in quiet.lines] == ["failed"]
    for stream in (terminal, pipe):
        configure_logging(json=None, stream=stream)
        Telemetry().note("started", tick=10.0)
    assert "started" in terminal.getvalue()
    assert not terminal.getvalue().startswith("{")
    assert json.loads(pipe.getvalue())["tick"] == 10.0
    configure_logging(json=False, stream=pipe)
    Telemetry().note("in plain words")
    assert "\x1b" not in pipe.getvalue(), "no colours where no terminal is"


class Kept:
    """A ledger in memory."""

    def __init__(self) -> None:
        self.ids: list[str] = []

    def record(self, seen: Observation, decision: Decision) -> None:
        assert seen.name == "shop"
        self.ids.append(decision.id)


def test_the_ledger_is_given_each_decision_with_what_it_was_made_from() -> None:
    launched, telemetry = course(), Telemetry()
    seen, decision = launched.observe(), launched.decide()
    telemetry.decided(SHOP, decision, seen)
    telemetry.ledger = kept = Kept()
    telemetry.decided(SHOP, decision, seen)
    assert kept.ids == [decision.id]


class Told:
    """Where Events go: what was told is asked for at once."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def publish(self, told: Callable[[], Iterable[Event]]) -> None:
        self.events += told()


def test_decisions_checkpoints_and_the_end_of_a_rollback_are_events_with_their_ids() -> None:
    telemetry = Telemetry()
    telemetry.events = told = Told()
    launched = course(phases=[ramp(checkpoints=["1m"], gate={"after": "1h", "approval": {"role": "lead"}})])
    launched.until_weight(50)
    launched.run(2)
    while not (decision := launched.tick()).checkpoint:
        assert not any(each.checkpoint for each in launched.history[:-1])
    telemetry.decided(SHOP, decision, launched.observe())
    telemetry.rolled_back(SHOP, launched.status)
    assert [(event.reason, event.decision) for event in told.events] == [
        (decision.signal.value, decision.id),
        ("CheckpointTaken", decision.id),
        ("RolledBack", decision.id),
    ]


def test_a_checkpoint_has_a_line_of_its_own_with_each_criterion(log: Log) -> None:
    launched = course(phases=[ramp(checkpoints=["1m"], gate={"after": "1h", "approval": {"role": "lead"}})])
    while not (decision := launched.tick()).checkpoint:
        assert len(launched.history) < 60
    Telemetry().decided(SHOP, decision, launched.observe())
    line = log.lines[-1]
    assert (line["event"], line["id"], line["phase"], line["after"]) == ("checkpoint", decision.id, "ramp", "1m")
    assert (line["passed"], line["undecided"], line["failed"]) == (0, 1, 0)
    assert line["message"].startswith("checkpoint 1m of phase ramp: 0 passed, 1 undecided, 0 failed: errors below 2%")
    (criterion,) = line["criteria"]
    assert (criterion["criterion"], criterion["limit"], criterion["verdict"]) == ("errors below 2%", "2%", "undecided")
    assert "part" not in line


def test_no_line_of_a_large_checkpoint_is_longer_than_a_container_runtime_takes(log: Log) -> None:
    targets = [target(f"region-{number:02}-{'x' * 40}") for number in range(64)]
    limits = [{"metric": "errors", "below": f"{limit}%"} for limit in range(2, 8)]
    steps = [{"weight": 5, "for": "1h"}]
    phase = ramp(checkpoints=["1m"], guardrails=limits, steps=steps)
    launched = course(targets=targets, phases=[phase])
    while not (decision := launched.tick()).checkpoint:
        assert len(launched.history) < 60
    Telemetry().decided(SHOP, decision, launched.observe())
    lines = [line for line in log.lines if line["event"] == "checkpoint"]
    assert [(line["part"], line["of"]) for line in lines] == [
        (number, len(lines)) for number in range(1, len(lines) + 1)
    ]
    assert decision.checkpoint is not None
    assert sum(len(line["criteria"]) for line in lines) == len(decision.checkpoint.judged) > 40
    assert len(lines) > 1
    assert max(map(len, log.stream.getvalue().splitlines())) < 16 * 1024


def test_events_that_were_given_up_are_counted_and_said(log: Log) -> None:
    telemetry = Telemetry()
    assert value(telemetry, "events_dropped_total") == 0
    telemetry.event_dropped(RefusedError("events is forbidden"))
    telemetry.event_dropped(RefusedError("events is forbidden"))
    assert value(telemetry, "events_dropped_total") == 2
    assert [(line["event"], line["doing"], line["error"]) for line in log.lines] == [
        ("failed", "writing events", "events is forbidden")
    ]


def test_decisions_that_were_not_recorded_are_counted_and_said(log: Log) -> None:
    telemetry = Telemetry()
    assert value(telemetry, "decision_records_dropped_total") == 0
    telemetry.records_were_dropped(3, "the disk is full")
    telemetry.records_were_dropped(2, "the disk is full")
    assert value(telemetry, "decision_records_dropped_total") == 5
    assert [(line["event"], line["number"], line["error"]) for line in log.lines] == [
        ("decisions not recorded", 3, "the disk is full"),
        ("decisions not recorded", 2, "the disk is full"),
    ]

"""The November launch in virtual time: every date of its plan, and what becomes of it where things go wrong."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from typing import Any

import pytest

from controller.core.plan import parse
from controller.core.series import Series, Subject
from controller.core.units import parse_instant
from controller.simulation.draw import draw
from controller.simulation.run import Outcomes, simulate
from controller.simulation.scenario import InvalidScenarioError, read_scenario
from controller.simulation.traffic import Traffic
from tests.core.builders import document as launch
from tests.core.builders import ramp, target
from tests.virtual import golden

MINUTE = 60.0
BEGIN = "2025-11-01T14:00:00Z"
FIRST, SECOND, THIRD = ("us-east",), ("us-west", "eu-west"), ("ap-south", "ap-northeast")


@pytest.fixture(scope="module")
def good() -> Outcomes:
    return golden.played("good")


def _about(instant: float, wanted: str) -> bool:
    return 0 <= instant - parse_instant(wanted) < MINUTE


def _decided(found: Outcomes, signal: str, phase: str) -> float:
    """When that was decided first."""
    return next(made.at for made in found.decisions if (made.signal, made.phase) == (signal, phase))


@pytest.mark.parametrize(
    ("phase", "signal", "date"),
    [
        ("canary", "PhaseBegins", "2025-10-24T14:00:00Z"),
        ("canary", "PhasePassed", "2025-10-31T23:59:00Z"),
        ("canary", "PreflightOpen", "2025-11-01T13:00:00Z"),
        ("ramp", "PhaseBegins", "2025-11-01T14:00:00Z"),
        ("ramp", "PhasePassed", "2025-11-01T18:00:00Z"),
        ("ramp", "PreflightOpen", "2025-11-02T15:00:00Z"),
        ("rollout", "PhaseBegins", "2025-11-02T16:00:00Z"),
        ("rollout", "PhasePassed", "2025-11-03T16:00:00Z"),
        ("stabilisation", "PhaseEntered", "2025-11-04T16:00:00Z"),
        ("stabilisation", "PhasePassed", "2025-11-15T23:59:00Z"),
        ("sprint-3", "PhaseEntered", "2025-11-15T23:59:00Z"),
        ("sprint-3", "PhasePassed", "2025-11-30T23:59:00Z"),
        ("phase-4-planning", "PhaseEntered", "2025-12-01T00:00:00Z"),
        ("phase-4-planning", "GateApprovalWanted", "2025-12-27T23:59:00Z"),
        ("phase-4-planning", "PhasePassed", "2025-12-27T23:59:00Z"),
        ("phase-4-sprint-1", "PhaseBegins", "2026-01-02T00:00:00Z"),
        ("phase-4-sprint-1", "PhasePassed", "2026-01-31T23:59:00Z"),
        ("phase-4-sprint-2", "PhaseBegins", "2026-02-01T00:00:00Z"),
        ("phase-4-sprint-2", "LaunchPassed", "2026-02-28T23:59:00Z"),
    ],
)
def test_every_date_of_the_november_launch_is_met_to_the_minute(
    good: Outcomes, phase: str, signal: str, date: str
) -> None:
    assert _about(_decided(good, signal, phase), date)


def test_all_six_gates_of_the_november_launch_pass(good: Outcomes) -> None:
    assert good.outcome == "Succeeded"
    passed = [gate for gate in good.gates if gate["signal"] in ("PhasePassed", "LaunchPassed")]
    assert [gate["phase"] for gate in passed] == [phase.name for phase in golden.november()[1].phases]
    measured = [judged for gate in passed for judged in gate["criteria"]]
    assert {judged["verdict"] for judged in measured} == {"pass"}
    # Gate 5 asks for deliverables and an approval, and a phase before sprint 2 for nothing: all others measure.
    assert [gate["phase"] for gate in passed if not gate["criteria"]] == ["phase-4-planning", "phase-4-sprint-1"]


def test_weights_go_from_1_to_10_to_100_and_regions_from_1_to_3_to_5_to_8(good: Outcomes) -> None:
    seen = [(weight, name) for _, name, weight in good.weights]
    assert [weight for weight, name in seen if name == "us-east"] == [10, 100, 1000]
    for name in (*SECOND, *THIRD):
        assert [weight for weight, other in seen if other == name] == [100, 1000]
    reached: dict[str, int] = {}
    for made in good.decisions:
        reached[made.phase] = sum(weight > 0 for weight in made.weights.values())
    assert list(reached.values()) == [1, 1, 3, 3, 3, 3, 5, 8]


def test_the_checkpoints_of_the_november_launch_are_scored_at_their_offsets(good: Outcomes) -> None:
    taken = [(each["phase"], each["after"]) for each in good.checkpoints]
    assert taken == [
        *(("ramp", after) for after in ("15m", "30m", "1h", "2h", "3h", "4h")),
        *(("rollout", after) for after in ("15m", "1h", "2h", "4h", "8h", "12h", "1d", "1d12h")),
    ]
    assert all(each["failed"] == 0 for each in good.checkpoints)
    scored = good.checkpoints[2]["criteria"][0]
    assert set(scored) == {
        *("target", "criterion", "verdict", "value", "limit", "requests", "bad", "sentence"),
    }


def test_watching_relaxes_as_the_november_launch_says() -> None:
    phases = {phase.name: phase for phase in golden.november()[1].phases}
    rollout, stable = phases["rollout"], phases["stabilisation"]
    began, close = parse_instant("2025-11-02T16:00:00Z"), parse_instant("2025-11-04T16:00:00Z")
    assert [rollout.cadence(began, began + hours * 3600) for hours in (0, 35.9, 36)] == [0.0, 0.0, 60.0]
    relaxed = parse_instant("2025-11-09T09:00:00Z")
    assert [stable.cadence(close, at) for at in (close, relaxed - 1, relaxed)] == [60.0, 60.0, 300.0]


def test_there_are_scenarios_beyond_the_good_one_for_each_gate_and_for_people() -> None:
    names = golden.names()
    for gate in range(1, 7):
        assert sum(name.startswith(f"gate-{gate}-") for name in names) >= 2
    assert len(names) > 25


@pytest.mark.parametrize("name", golden.names())
def test_a_scenario_of_the_november_launch_goes_as_it_is_written_down(name: str) -> None:
    kept = json.loads((golden.GOLDEN / f"{name}.json").read_text(encoding="utf-8"))
    assert golden.summary(golden.played(name)) == kept


def test_what_is_written_down_is_of_scenarios_that_there_are() -> None:
    assert sorted(path.stem for path in golden.GOLDEN.glob("*.json")) == golden.names()


def test_long_quiet_stretches_are_folded_coarsely_and_that_is_said(good: Outcomes) -> None:
    assert 600 <= good.coarsest <= 3600
    assert good.ticks < 10_000


# A small launch, to look closely.


WORLD: dict[str, Any] = {"seed": 1, "requests": "100/s", "canary": {"errors": "0.01%"}}


def play(world: dict[str, Any] | None = None, **spec: Any) -> Outcomes:
    """A small launch that begins at BEGIN, in that world."""
    written = launch(**({"phases": [ramp(start={"at": BEGIN})]} | spec))
    plan = parse(written)
    return simulate(written, plan, read_scenario(WORLD | (world or {}), plan))


def signals(found: Outcomes) -> list[str]:
    return [made.signal for made in found.decisions]


def test_the_same_seed_gives_the_same_output_byte_for_byte() -> None:
    outputs = {json.dumps(play({"canary": {"errors": "1.5%"}}).document()) for _ in range(3)}
    assert len(outputs) == 1


def test_another_seed_gives_other_counts() -> None:
    reasons = {play({"seed": seed, "canary": {"errors": "1%"}}).decisions[-1].reason for seed in range(4)}
    assert len(reasons) > 1


def test_the_output_has_the_fields_that_scripts_read() -> None:
    document = play().document()
    assert list(document) == ["outcome", "ended", "decisions", "checkpoints", "gates", "alerts"]
    assert list(document["decisions"][0]) == ["time", "state", "phase", "step", "signal", "reason", "weights"]
    assert document["decisions"][-1]["weights"] == {"main": 30}


CONTACTS = [{"role": "on-call"}, {"role": "eng-lead", "after": "10m"}, {"role": "vp", "after": "30m"}]
PLANNING = {"name": "planning", "start": {"at": BEGIN}, "deliverables": ["design"], "gate": {"after": "1h"}}


def told(found: Outcomes) -> list[tuple[float, str, str, int, str]]:
    """Who is told what, in seconds after the gate of PLANNING was due."""
    due = parse_instant(BEGIN) + 3600
    return [
        (parse_instant(one["time"]) - due, one["alert"], one["role"], one["level"], one["event"])
        for one in found.document()["alerts"]
    ]


def test_three_roles_are_told_in_order_for_as_long_as_nobody_answers() -> None:
    done = {"people": [{"at": "3h", "annotate": {"done": "planning/design"}}]}
    assert told(play(done, contacts=CONTACTS, phases=[PLANNING])) == [
        (0, "LaunchGateFailed", "on-call", 1, "fires"),
        (600, "LaunchGateFailed", "eng-lead", 2, "fires"),
        (1800, "LaunchGateFailed", "vp", 3, "fires"),
        (7200, "LaunchGateFailed", "on-call", 1, "resolves"),
        (7200, "LaunchGateFailed", "eng-lead", 2, "resolves"),
        (7200, "LaunchGateFailed", "vp", 3, "resolves"),
    ]


def test_an_acknowledgement_stops_the_escalation_and_the_next_trouble_begins_a_new_one() -> None:
    people = [
        {"at": "75m", "annotate": {"ack": "on it", "by": "ana"}},
        {"at": "3h", "annotate": {"done": "planning/design"}},
        {"at": "3h30m", "annotate": {"hold": "looking"}},
        {"at": "3h50m", "annotate": {"hold": None}},
        {"at": "5h", "annotate": {"done": "later/tests"}},
    ]
    second = {"name": "later", "deliverables": ["tests"], "gate": {"after": "1h"}}
    found = play({"people": people, "ends": "2025-11-01T19:30:00Z"}, contacts=CONTACTS, phases=[PLANNING, second])
    fires = [(at, kind, role) for at, kind, role, _, event in told(found) if event == "fires"]
    assert fires[:3] == [
        (0, "LaunchGateFailed", "on-call"),
        (600, "LaunchGateFailed", "eng-lead"),
        (9000, "LaunchHeld", "on-call"),
    ]
    began = fires[3][0]
    assert fires[3:] == [
        (began, "LaunchGateFailed", "on-call"),
        (began + 600, "LaunchGateFailed", "eng-lead"),
        (began + 1800, "LaunchGateFailed", "vp"),
    ]
    assert all(event == "resolves" for *_, event in told(found)[-3:])


def test_a_controller_that_was_down_neither_repeats_nor_forgets_who_was_told() -> None:
    world = {
        "outages": [{"what": "controller", "from": "65m", "for": "20m"}],
        "people": [{"at": "3h", "annotate": {"done": "planning/design"}}],
    }
    fires = [
        (role, at)
        for at, _, role, _, event in told(play(world, contacts=CONTACTS, phases=[PLANNING]))
        if event == "fires"
    ]
    assert fires == [("on-call", 0), ("eng-lead", 1500), ("vp", 1800)]


def test_a_rollback_is_no_news_after_an_hour_to_the_second() -> None:
    bad = {"canary": [{"from": "0s", "errors": "0%"}, {"from": "3m", "errors": "10%"}]}
    late = {"people": [{"at": "5h", "annotate": {"ack": "late"}}]}
    found = play(bad | late, phases=[ramp(start={"at": BEGIN}, steps=[{"weight": 20, "for": "1h"}])])
    first, last = found.document()["alerts"]
    assert (first["alert"], first["role"], first["level"]) == ("LaunchRolledBack", "", 0)
    assert parse_instant(last["time"]) - parse_instant(first["time"]) == 3600


def test_the_november_launch_tells_its_five_roles_in_their_order() -> None:
    failed = [one for one in golden.played("gate-2-fails").document()["alerts"] if one["alert"] == "LaunchGateFailed"]
    roles = ["eng-lead", "on-call-backup", "ops-lead", "product-lead", "vp-engineering"]
    assert [(one["role"], one["level"], one["time"]) for one in failed if one["event"] == "fires"] == [
        (role, level, f"2025-11-03T16:{minute:02}:30Z")
        for role, level, minute in zip(roles, range(1, 6), (0, 10, 20, 30, 45), strict=True)
    ]
    assert [one["role"] for one in failed if one["event"] == "resolves"] == roles


def test_a_bad_canary_is_taken_away_within_the_ticks_that_the_daemon_needs() -> None:
    bad = {"canary": [{"from": "0s", "errors": "0%"}, {"from": "3m", "errors": "10%"}]}
    found = play(bad, phases=[ramp(start={"at": BEGIN}, steps=[{"weight": 20, "for": "1h"}])])
    assert found.outcome == "RolledBack"
    begun = parse_instant(BEGIN) + 180
    assert begun < found.decisions[-1].at <= begun + 60
    assert found.weights[-1][2] == 0


def test_a_decision_after_a_long_quiet_stretch_stands_at_its_own_tick() -> None:
    bad = {"canary": [{"from": "0s", "errors": "0%"}]}
    found = play(bad, phases=[ramp(start={"at": BEGIN}, steps=[{"weight": 20, "for": "10h"}, {"weight": 50}])])
    left = next(made.at for made in found.decisions if made.signal == "StepDone")
    assert found.coarsest > 600
    assert 0 < left - (parse_instant(BEGIN) + 36000) <= 30


def test_a_launch_that_nobody_lets_go_on_ends_with_what_it_waits_for() -> None:
    found = play(phases=[ramp(start={"at": BEGIN}, gate={"approval": {"role": "vp"}})])
    assert found.outcome == "AwaitingApproval"
    assert found.ended.startswith("waiting for gate of phase ramp has passed and waits for the approval of vp")


def test_windows_that_open_and_close_for_nothing_end_it_as_well() -> None:
    days = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"]
    found = play(
        {"canary": {"ready": 0}}, windows=[{"days": days, "from": "09:00", "to": "12:00"}], timeZone="Asia/Kolkata"
    )
    assert found.ended.startswith("waiting for ")
    assert found.ended_at - found.began_at < 5 * 86400


def test_the_time_over_which_a_scenario_is_looked_at_can_be_ended() -> None:
    found = play({"ends": "2025-11-01T14:00:20Z"})
    assert found.ended.startswith("stopped at 2025-11-01T14:00:20Z, waiting for step 1 of 2")


def test_a_controller_that_is_down_decides_again_when_it_is_back() -> None:
    down = [{"what": "controller", "from": "2025-11-01T13:59:30Z", "for": "5m30s"}]
    found = play({"outages": down})
    began = next(made.at for made in found.decisions if made.signal == "PhaseBegins")
    assert began == parse_instant(BEGIN) + 300
    assert found.outcome == "Succeeded"


def test_nothing_is_raised_while_prometheus_is_away() -> None:
    away = [{"what": "prometheus", "from": "40s", "for": "20m"}]
    found = play({"outages": away})
    start = parse_instant(BEGIN)
    assert "NoData" in signals(found)
    assert not [at for at, _, _ in found.weights if start + 40 <= at < start + 1240]
    assert found.outcome == "Succeeded"


def test_alerts_that_would_not_arrive_keep_a_phase_from_beginning() -> None:
    away = [{"what": "alertmanager", "from": "2025-11-01T13:00:00Z", "for": "2h"}]
    found = play({"outages": away}, phases=[ramp(start={"at": BEGIN}, preflight={"opens": "30m"})])
    began = next(made for made in found.decisions if made.signal == "PhaseBegins")
    assert began.at == parse_instant("2025-11-01T15:00:00Z")


def test_what_somebody_says_in_vain_is_told_with_why() -> None:
    said = [{"at": "2025-11-01T13:55:00Z", "annotate": {"approve": "ramp/gate", "by": "vp"}}]
    found = play({"people": said}, phases=[ramp(start={"at": BEGIN}, gate={"approval": {"role": "vp"}})])
    assert any("approve refused: ramp/gate is not asked for yet" in made.reason for made in found.decisions)


def test_an_incident_is_counted_from_when_it_fires() -> None:
    world = {"incidents": [{"from": "30s", "for": "10s", "severity": "critical"}]}
    gate = {"after": "2m", "criteria": [{"incidents": "critical", "atMost": 0}]}
    assert "GateFailed" in signals(play(world, phases=[ramp(start={"at": BEGIN}, gate=gate)]))
    world["incidents"][0]["severity"] = "warning"
    assert play(world, phases=[ramp(start={"at": BEGIN}, gate=gate)]).outcome == "Succeeded"


def test_traffic_goes_back_when_stable_runs_the_new_revision() -> None:
    swapped = {"stable": [{"from": "0s", "version": "v1"}, {"from": "1h", "version": "v2"}]}
    found = play(swapped, onSuccess="return")
    assert found.outcome == "Succeeded"
    assert found.weights[-1][1:] == ("main", 0)
    assert found.weights[-1][0] >= parse_instant(BEGIN) + 3600


def test_a_plan_that_somebody_breaks_holds_the_launch() -> None:
    broken = {"people": [{"at": "2025-11-01T14:00:20Z", "edit": {"phases": "none"}}]}
    found = play(broken)
    assert (found.outcome, signals(found)[-1]) == ("Held", "PlanInvalid")


def test_a_target_that_somebody_adds_is_like_the_others() -> None:
    added = {"people": [{"at": "2025-11-01T13:50:00Z", "edit": {"targets": [target("eu")]}}]}
    found = play(added)
    assert found.outcome == "Succeeded"
    assert found.decisions[-1].weights == {"main": 300, "eu": 300}


def test_the_picture_shows_every_target_criterion_and_decision() -> None:
    found = play(targets=[target("main"), target("eu")])
    picture = draw(found, "prod/<shop & co>")
    root = ET.fromstring(picture)  # noqa: S314 - made here
    words = "".join(root.itertext())
    assert "prod/<shop & co>: Succeeded" in words
    assert "eu" in words
    assert "errors below 2%" in words
    for made in found.decisions:
        assert made.signal in words


@pytest.mark.parametrize(
    ("change", "path", "words"),
    [
        ({"requests": "100"}, "requests", "write requests per second"),
        ({"seed": -1}, "seed", "whole number"),
        ({"canary": {"errors": 3}}, "canary.errors", "write a percentage"),
        ({"canary": [{"from": "soon", "errors": "3%"}]}, "canary[0].from", "write an offset"),
        ({"outages": [{"what": "dns", "from": "1m", "for": "1m"}]}, "outages[0].what", "prometheus"),
        ({"people": [{"at": "1m"}]}, "people[0]", "neither of annotate and edit"),
        ({"people": [{"at": "1m", "annotate": {"by": "me"}}]}, "people[0].annotate", "names no verb"),
        ({"targets": {"other": {}}}, "targets.other", "there is no target"),
        ({"nothing": 1}, "nothing", "is not a field"),
        ({"metrics": {"x": "much"}}, "metrics.x", "write a number"),
    ],
)
def test_a_fault_of_a_scenario_is_told_with_its_path(change: dict[str, Any], path: str, words: str) -> None:
    with pytest.raises(InvalidScenarioError) as told:
        play(change)
    (fault,) = told.value.faults
    assert fault.path == path
    assert words in fault.message


def test_all_faults_of_a_scenario_are_told_at_once() -> None:
    with pytest.raises(InvalidScenarioError) as told:
        play({"requests": "many", "seed": "x", "outages": 3})
    assert len(told.value.faults) == 3


def test_long_rows_are_the_sums_of_short_ones_in_whatever_order_they_are_asked_for() -> None:
    spec = launch(phases=[ramp(start={"at": BEGIN})])
    plan = parse(spec)
    begin = int(parse_instant(BEGIN))
    subject = Subject(
        Series("recorded", "errors", interval=10, settle=10.0, lag=5.0), "prod", "main", "main", "v2", "canary"
    )

    def sums(*asked: list[int] | None) -> list[tuple[float, float]]:
        traffic = Traffic(read_scenario(WORLD | {"canary": {"errors": "2%"}}, plan), begin, begin, {})
        traffic.turn("main", begin, 300, 5.0)
        found = []
        for cuts in asked:
            reading, _ = traffic.reading(subject, begin + 60, begin + 3600, cuts)
            found.append((sum(row.n for row in reading.settled), sum(row.x for row in reading.settled)))
        return found

    long_first = sums([], None, [begin + 600, begin + 1800])
    assert len(set(long_first)) == 1
    assert len(set(sums(None, [begin + 600], []))) == 1
    requests, errors = long_first[0]
    assert abs(requests - 30 * 3530) <= 1
    assert abs(errors / requests - 0.02) < 0.002

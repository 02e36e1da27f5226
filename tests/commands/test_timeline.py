"""``timeline`` on a terminal, for scripts, and as a picture."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from controller.commands.timeline import lines
from controller.commands.timeline_picture import Clock, Scale, draw
from controller.core.plan import Plan
from controller.core.signals import Signal
from controller.core.status import State, Status
from controller.core.timeline import Timeline, timeline
from tests.commands.grounds import FolderGround, call
from tests.commands.test_explain import keep, put
from tests.core.builders import NOW, Course, bad, course, document, plan, ramp, target
from tests.core.test_timeline import november
from tests.core.test_whole_launch import HOUR, PREFLIGHT, at, planning, until
from tests.realparts.parts import ROOT

NOVEMBER = ROOT / "deploy/examples/november-launch.yaml"
SVG = "{http://www.w3.org/2000/svg}"


def line_of(launched: Course) -> Timeline:
    assert isinstance(launched.plan, Plan)
    return timeline(launched.plan, launched.status, launched.now)


def text_of(line: Timeline, width: int = 80) -> list[str]:
    return [text.plain for text in lines(line, width)]


def picture(line: Timeline) -> ET.Element:
    return ET.fromstring(draw(line))  # noqa: S314 - what was just drawn here


def words(drawn: ET.Element) -> list[str]:
    return [text for element in drawn.iter(f"{SVG}text") if (text := "".join(element.itertext()))]


def late() -> Course:
    """A launch in Berlin whose first gate waits for an approval, so that the second phase cannot keep its date."""
    gate = {"after": "20m", "criteria": [{"metric": "errors", "below": "0.5%"}], "approval": {"role": "lead"}}
    phases = [
        planning(end=at(300)),
        ramp(gate=gate, checkpoints=["1m", "5m", "10m", "9h"], deliverables=["runbook"]),
        ramp("rollout", steps=[{"weight": 60, "for": "20m"}], start={"at": at(HOUR)}, preflight=PREFLIGHT),
        planning("afterwards", start={"at": at(3 * HOUR)}, end=at(4 * HOUR)),
    ]
    launched = course(
        targets=[target("us"), target("eu")],
        phases=phases,
        timeZone="Europe/Berlin",
        freezes=[{"name": "sale", "from": at(2 * HOUR), "to": at(2.5 * HOUR)}],
    )
    launched.annotations["done"] = "ramp/runbook"
    until(launched, Signal.GATE_APPROVAL)
    launched.run(300)
    return launched


def test_a_plan_from_a_file_needs_no_cluster(tmp_path: Path) -> None:
    shown = call("timeline", "-f", NOVEMBER)
    assert (shown.exit_code, shown.stderr) == (0, "")
    assert shown.stdout.startswith("prod/learner, revision 2025.11.0\nnot started\ntimes in UTC, 2025 and 2026")
    assert "stabilisation      Nov 4 16:00  ~Nov 4 16:00  ~Nov 15 23:59 to come\n" in shown.stdout
    assert "now" not in shown.stdout


def test_the_november_launch_fits_80_columns() -> None:
    shown = text_of(timeline(november(), Status(), None))
    assert max(map(len, shown)) <= 80
    assert [line for line in shown if "…" in line] == []
    assert "  phase-4-planning   Dec 1 00:00  ~Dec 1 00:00  ~Dec 27 23:59 to come, 6 to do" in shown


@pytest.mark.parametrize("width", [80, 100, 160])
def test_whatever_happens_it_fits_the_terminal(width: int) -> None:
    for launched in (late(), course()):
        assert max(map(len, text_of(line_of(launched), width))) <= width


def test_a_launch_of_years_is_dated_by_days_and_years() -> None:
    phases = [ramp(start={"at": at(0)}, gate={"approval": {"role": "lead"}}), planning("end", end=at(500 * 24 * HOUR))]
    shown = text_of(timeline(plan(phases=phases), Status(), None))
    assert max(map(len, shown)) <= 80
    assert "  ramp               Nov 14 2023 ~Nov 14 2023 ~Nov 14 2023 to come, lead" in shown


def test_a_launch_under_way_shows_what_was_what_is_and_what_can_no_longer_be_met() -> None:
    launched = late()
    shown = text_of(line_of(launched))
    assert shown[1].startswith("AwaitingApproval  gate of phase ramp has passed and waits for")
    assert shown[2].startswith("times in Europe/Berlin, 2023 (UTC in reasons), now Nov 15 00:28")
    dates = shown[shown.index(next(line for line in shown if line.startswith("  PHASE"))) :]
    assert dates[1] == "✓ planning           Nov 14 23:13 Nov 14 23:13  Nov 14 23:18  passed"
    assert dates[2].startswith("▶ ramp               Nov 14 23:18 Nov 14 23:18  ~Nov 15 00:28 waiting, lead")
    assert dates[3] == "  rollout            Nov 15 00:13 ~Nov 15 00:28 ~Nov 15 00:48 to come".replace("to come", "-")
    assert dates[4] == "    begins at the earliest 15m20s late: Nov 15 00:28 instead of Nov 15 00:13"
    assert "  ● checkpoint 10m  Nov 14 23:28  4 passed" in shown
    assert "  ○ checkpoint 9h  ~Nov 15 08:18  to come" in shown
    assert any("freeze sale" in line for line in shown)


def test_the_bars_stand_where_their_time_is() -> None:
    line = line_of(late())
    shown = text_of(line)
    bars = {row.name: text for row in line.phases for text in shown[4:10] if f" {row.name} " in f"{text} "}
    now = bars["rollout"].index("░")
    assert bars["planning"].count("█") > 0
    assert bars["planning"].index("█") < bars["ramp"].index("█") < now
    assert "·" in bars["rollout"][:now], "planned before it can be"
    assert bars["ramp"].rstrip()[-1] == "◈"
    assert bars["afterwards"].index("░") > now


def test_on_a_launch_of_one_scale_the_axis_is_even_and_on_one_of_months_it_is_not() -> None:
    even = Scale(timeline(plan(), Status(), None))
    assert even.even
    line = timeline(november(), Status(), None)
    scale = Scale(line)
    assert not scale.even
    places = [scale.at(row.planned_start) for row in line.phases]
    assert places == sorted(places)
    assert (scale.at(line.begins), scale.at(line.ends)) == (0.0, 1.0)
    assert (scale.at(line.begins - 1), scale.at(line.ends + 1)) == (0.0, 1.0)
    ramp_row = line.phases[1]
    assert scale.at(ramp_row.planned_end) - scale.at(ramp_row.planned_start) > 0.03, (
        "four hours of four months are seen"
    )


def test_dates_are_those_of_the_plans_time_zone() -> None:
    line = timeline(plan(timeZone="Asia/Kolkata", phases=[ramp(start={"at": at(0)})]), Status(), None)
    clock = Clock(line)
    assert clock.full(NOW) == "Nov 15 03:43:20"
    ticks = list(
        clock.ticks(
            timeline(
                plan(timeZone="Asia/Kolkata", phases=[planning(start={"at": at(0)}, end=at(40 * HOUR))]), Status(), None
            )
        )
    )
    assert {clock.time(tick)[3:5] for tick in ticks} == {"00"}, "full hours where the clock is half an hour off"


def test_json_holds_instants_durations_and_weights_as_a_plan_writes_them(tmp_path: Path) -> None:
    launched = late()
    ground = put(tmp_path, launched, **spec_of(launched))
    read = json.loads(call("timeline", "shop", "-o", "json", *ground.flags).stdout)
    assert (read["launch"], read["state"], read["zone"]) == ("prod/shop", "AwaitingApproval", "Europe/Berlin")
    ramp_row = read["phases"][1]
    assert ramp_row["steps"][0] | {"at": "", "planned": ""} == {
        "number": 1,
        "weight": "5%",
        "lasts": "30s",
        "approval": "",
        "planned": "",
        "at": "",
        "tense": "past",
    }
    assert ramp_row["checkpoints"][0]["after"] == "1m"
    assert ramp_row["gate"]["state"] == "waiting"
    assert read["phases"][2]["plannedStart"] == "2023-11-14T23:13:20.000Z"


def spec_of(launched: Course) -> dict[str, Any]:
    """The spec of its plan, as a manifest holds it."""
    assert isinstance(launched.plan, Plan)
    spec: dict[str, Any] = launched.plan.spec.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    return spec


def test_the_picture_is_one_file_with_every_phase_gate_and_checkpoint() -> None:
    line = line_of(late())
    drawn = picture(line)
    said = words(drawn)
    assert drawn.get("viewBox", "").startswith("0 0 1240 ")
    for row in line.phases:
        assert any(f"{row.number}. {row.name}" in text for text in said)
    titles = ["".join(title.itertext()) for title in drawn.iter(f"{SVG}title")]
    assert sum(title.startswith("gate of ") for title in titles) == 3
    assert sum(title.startswith("checkpoint ") for title in titles) == 4
    assert any(text.startswith("now Nov 15 00:28") for text in said)
    assert any("begins at the earliest 15m20s late" in text for text in said)
    assert "sale" in said
    assert "href" not in draw(line)


def test_everything_in_the_picture_is_inside_of_it() -> None:
    for launched in (late(), course()):
        drawn = picture(line_of(launched))
        wide, high = float(drawn.get("width", 0)), float(drawn.get("height", 0))
        for element in drawn.iter():
            for name, most in (("x", wide), ("x1", wide), ("cx", wide), ("y", high), ("y2", high), ("cy", high)):
                assert 0 <= float(element.get(name, 0)) <= most, ET.tostring(element)
            assert float(element.get("width", 0)) >= 0


def test_text_in_the_picture_is_escaped() -> None:
    launched = course()
    launched.until_weight(50)
    launched.annotations["hold"] = "</svg><script>alert(1)</script> & \x1b \ud800".encode("utf-8", "replace").decode()
    launched.until(State.HELD)
    drawn = picture(line_of(launched))
    assert list(drawn.iter(f"{SVG}script")) == []
    assert any("</svg><script>alert(1)</script> & \N{REPLACEMENT CHARACTER}" in text for text in words(drawn))


def test_a_run_that_was_rolled_back_draws_what_is_not_reached_as_planned_only() -> None:
    launched = late()
    launched.traffic = bad
    launched.until(State.ROLLED_BACK)
    said = words(picture(line_of(launched)))
    assert "✗ 2. ramp2. ramp" in said
    assert "planned Nov 15 00:13" in said


def test_the_picture_of_a_file_is_the_same_each_time() -> None:
    first, second = call("timeline", "-f", NOVEMBER, "-o", "svg"), call("timeline", "-f", NOVEMBER, "-o", "svg")
    assert first.stdout == second.stdout
    assert first.stdout.startswith("<svg ")
    assert first.stdout.endswith("</svg>\n")


def test_standard_input_and_files_of_several_launches_are_read(tmp_path: Path) -> None:
    import yaml

    one, other = document(), document(revision="v9")
    other["metadata"] = {"name": "other", "namespace": "prod"}
    several = tmp_path / "several.yaml"
    several.write_text(yaml.safe_dump_all([one, {"kind": "Service"}, other]))
    assert call("timeline", "other", "-f", several).stdout.startswith("prod/other, revision v9\n")
    refused = call("timeline", "-f", several)
    assert refused.exit_code == 2
    assert "it has prod/shop, prod/other; name one of its Launches as LAUNCH" in refused.stderr


@pytest.mark.parametrize(
    ("content", "code", "words_of_it"),
    [
        ("kind: Service\n", 2, "it has no Launch"),
        ("a: [1\n", 2, ":"),
        (json.dumps(document(phases=[])), 1, "spec.phases: is empty"),
        (None, 2, "No such file or directory; name a file with a Launch"),
    ],
    ids=["no launch", "no yaml", "faults", "no file"],
)
def test_a_file_that_cannot_be_shown_says_why(tmp_path: Path, content: str | None, code: int, words_of_it: str) -> None:
    path = tmp_path / "plan.yaml"
    if content is not None:
        path.write_text(content)
    shown = call("timeline", "-f", path)
    assert shown.exit_code == code
    assert shown.stderr.startswith(f"auto-advance timeline: {path}")
    assert words_of_it in shown.stderr


def test_a_launch_of_a_cluster_is_found_and_its_faults_are_told(tmp_path: Path) -> None:
    ground = FolderGround(tmp_path)
    ground.put(document())
    shown = call("timeline", "shop", *ground.flags)
    assert shown.exit_code == 0
    assert "\nPending\n" in shown.stdout
    assert call("timeline").exit_code == 2
    assert call("timeline", "nobody", *ground.flags).exit_code == 3
    keep(tmp_path, {"state": "Flying"})
    assert call("timeline", "shop", *ground.flags).exit_code == 1
    ground.put(document(phases=[]))
    refused = call("timeline", "shop", *ground.flags)
    assert (refused.exit_code, "spec.phases: is empty" in refused.stderr) == (1, True)

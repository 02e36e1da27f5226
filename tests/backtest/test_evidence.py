"""``explain --evidence``: the picture of evidence, from a launch's status and from a ledger."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
import yaml

from controller.backtest.picture import Bar, Lane, Picture, Piece, draw, draw_bars
from controller.core.decide import decide
from controller.core.ledger import record
from controller.core.series import Row
from controller.core.verdicts import advance, begin, in_force, judge, weighed
from tests.commands.grounds import FolderGround, call
from tests.commands.test_explain import put
from tests.core.builders import NOW, Course, bad, course, criterion, document
from tests.core.builders import good as good_traffic

SVG = "{http://www.w3.org/2000/svg}"
EVIL = "</svg><script>alert(1)</script> & \x1b"


def words(drawn: str) -> str:
    """All texts of a picture."""
    root = ET.fromstring(drawn)  # noqa: S314 - it was drawn here
    return " ".join("".join(each.itertext()) for each in root.iter(f"{SVG}text"))


def halfway() -> Course:
    """A launch at its first step, with some evidence."""
    launched = course()
    launched.until_weight(50)
    launched.run(20)
    return launched


def test_it_shows_both_proofs_with_the_sentence(tmp_path: Path) -> None:
    ground = put(tmp_path, halfway())
    shown = call("explain", "shop", "--evidence", *ground.flags)
    assert (shown.exit_code, shown.stderr) == (0, "")
    lines = shown.stdout.splitlines()
    assert lines[0].startswith("prod/shop: ")
    assert lines[1].startswith("phase ramp, step 2, 30%; evidence up to ")
    place = lines.index(next(line for line in lines if line.startswith("errors below 2% (main): ")))
    assert lines[place + 1].endswith("good")
    assert "░" in lines[place + 2]
    assert lines[place + 2].endswith("0% proven bad")
    assert "errors in" in lines[place + 3]
    assert "\x1b" not in shown.stdout


def test_scripts_get_the_proofs_as_parts_of_the_way(tmp_path: Path) -> None:
    launched = halfway()
    ground = put(tmp_path, launched)
    (one,) = json.loads(call("explain", "shop", "--evidence", "-o", "json", *ground.flags).stdout)["evidence"]
    assert (one["criterion"], one["target"]) == ("errors below 2%", "main")
    assert one["proofOfGood"] > 0 > one["proofOfBad"]
    assert one["sentence"] == launched.status.criteria[0].sentence.partition(": ")[2]
    as_yaml = yaml.safe_load(call("explain", "shop", "--evidence", "-o", "yaml", *ground.flags).stdout)
    assert as_yaml["evidence"] == [one]


def test_the_picture_of_a_status_holds_the_criteria(tmp_path: Path) -> None:
    ground = put(tmp_path, halfway())
    shown = call("explain", "shop", "--evidence", "-o", "svg", *ground.flags)
    texts = words(shown.stdout)
    for word in ("prod/shop", "errors below 2%", "proven", "evidence up to"):
        assert word in texts


def test_a_launch_without_evidence_says_so(tmp_path: Path) -> None:
    ground = FolderGround(tmp_path)
    ground.put(document())
    shown = call("explain", "shop", "--evidence", *ground.flags)
    assert shown.exit_code == 1
    assert "--evidence: no run has begun, and so nothing is judged yet" in shown.stderr


def ledger(folder: Path) -> Path:
    """The ledger of a launch that went well and then bad, one record for each look."""
    launched, lines = course(), list[str]()
    for number in range(60):
        launched.traffic = good_traffic if number < 12 else bad
        seen = launched.observe()
        lines += record(seen, decide(seen))
        launched.tick()
    path = folder / "decisions.jsonl"
    path.write_text("\n".join(lines) + "\n")
    return path


def test_a_ledger_gives_the_course_from_decision_to_decision(tmp_path: Path) -> None:
    path = ledger(tmp_path)
    shown = call("explain", "--evidence", "--decision-log", path)
    assert (shown.exit_code, shown.stderr) == (0, "")
    assert shown.stdout.startswith("prod/shop: the evidence at its decisions")
    assert "proven bad" in shown.stdout
    drawn = call("explain", "prod/shop", "--evidence", "--decision-log", path, "-o", "svg").stdout
    texts = words(drawn)
    for word in ("errors below 2%", "decides", "traffic to the canary", "60 decisions"):
        assert word in texts
    titles = " ".join(each.text or "" for each in ET.fromstring(drawn).iter(f"{SVG}title"))  # noqa: S314 - ours
    assert "proven worse than" in titles


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (
            ("nobody", "--evidence", "--decision-log", "LEDGER"),
            1,
            "holds no decision of nobody that was made on evidence",
        ),
        (("--evidence", "--decision-log", "missing.jsonl"), 2, "name a file that --decision-log wrote"),
        (("--evidence",), 2, "LAUNCH: is missing; name the launch, or the file with --decision-log"),
        (("shop", "--evidence", "--decision", "1-7"), 2, "--evidence: belongs to a launch, not to a decision"),
        (("shop", "-o", "svg"), 2, "-o svg: belongs to --evidence"),
    ],
)
def test_what_cannot_be_shown_is_said(tmp_path: Path, arguments: tuple[str, ...], code: int, said: str) -> None:
    path = ledger(tmp_path)
    refused = call("explain", *(str(path) if each == "LEDGER" else each for each in arguments))
    assert (refused.exit_code, said in refused.stderr) == (code, True), refused.stderr


def test_names_from_outside_are_only_text_in_a_picture() -> None:
    piece = Piece(0.0, 10.0, "fail", 1.2, 0.1, 0.5)
    lane = Lane(EVIL, EVIL, [piece], None, [(5.0, EVIL)], EVIL)
    drawn = draw(Picture(EVIL, EVIL, 0.0, 10.0, [lane], {EVIL: [(1.0, 0.5)]}, [(1.0, EVIL, 500)]))
    bars = draw_bars(EVIL, EVIL, [Bar(EVIL, EVIL, "fail", 1.2, 0.1, EVIL, EVIL, EVIL)])
    for each in (drawn, bars):
        assert "<script" not in each
        assert "\x1b" not in each
        assert "</svg><script>alert(1)</script> & \N{REPLACEMENT CHARACTER}" in words(each)


def test_the_weight_of_the_evidence_is_what_the_verdict_is_made_of() -> None:
    """At the limit and not before: a fail at the first row at which the proof of bad is whole, a pass likewise."""
    one = criterion()
    assert weighed(criterion(certainty=None), begin(one, NOW, 3600.0)) is None
    for share, outcome in ((0.05, "fail"), (0.0, "pass")):
        fold = in_force(one, begin(one, NOW, 3600.0), NOW)
        turned = 0
        for number in range(1, 200):
            at = fold.last + 10
            fold = advance(one, fold, [Row(float(at), 100.0, 100.0 * share)], at)
            found = weighed(one, fold)
            assert found is not None
            enough = {"fail": found.fail >= found.fail_at and fold.x >= 3, "pass": found.passing >= found.pass_at}
            assert (judge(one, "main", fold, None, at + 1.0).outcome.value == "fail") is enough["fail"]
            turned = turned or (number if enough[outcome] else 0)
        assert 1 < turned < 100

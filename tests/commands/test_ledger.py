"""``redecide`` and ``explain --decision`` on ledgers as they are found: whole, cut, changed, or none at all."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

from controller.commands.ledger import UnknownDecisionError, explain_decision, redecide_command
from controller.core.decide import decide
from controller.core.ledger import record
from tests.core.builders import bad, course


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    """What is kept of a launch that turns bad: the decisions that changed where it stands."""
    path = tmp_path / "ledger"
    launched = course()
    lines: list[str] = []
    for tick in range(40):
        launched.now += 10.0
        launched.traffic = bad if tick > 6 else launched.traffic
        seen = launched.observe()
        decision = decide(seen)
        if decision.decisive:
            lines += record(seen, decision)
        launched._carry_out(decision)
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def lines_of(ledger: Path) -> list[str]:
    return ledger.read_text().splitlines(keepends=True)


def heads(ledger: Path) -> list[dict[str, Any]]:
    """The readable lines."""
    return [line for line in map(json.loads, lines_of(ledger)) if line["kind"] == "decision"]


def summary(ledger: Path, *, different: int = 0, unreadable: int = 0) -> str:
    """How the output ends."""
    again = len(heads(ledger)) - unreadable
    more = f", {unreadable} not readable" if unreadable else ""
    return f"{again} decided again, {again - different} the same, {different} different{more}\n"


def redecided(path: Path | str) -> tuple[int, str]:
    out = io.StringIO()
    return redecide_command(str(path), out), out.getvalue()


def test_a_whole_ledger_is_the_same(ledger: Path) -> None:
    assert len(heads(ledger)) >= 5
    assert redecided(ledger) == (0, summary(ledger))


def test_a_difference_is_named_and_is_exit_code_1(ledger: Path) -> None:
    ledger.write_text(ledger.read_text().replace('"step":1,', '"step":2,', 1))
    code, said = redecided(ledger)
    assert code == 1
    assert "differs\n  the readable line was changed: step: recorded 1, the line says 2\n" in said
    assert said.endswith(f"\n{summary(ledger, different=1)}")


def test_an_end_that_a_crash_left_is_told_and_is_no_fault(ledger: Path) -> None:
    expected = summary(ledger, unreadable=1)
    ledger.write_text(ledger.read_text()[:-50])
    code, said = redecided(ledger)
    assert code == 0
    assert said.endswith(f"not decided again: 1 of its 1 parts are missing\n{expected}")


def test_decisions_that_never_came_into_the_file_are_told_and_are_no_fault(ledger: Path) -> None:
    lines = lines_of(ledger)
    places = [number for number, line in enumerate(lines) if '"kind":"decision"' in line]
    after = json.loads(lines[places[3]])["id"]
    ledger.write_text("".join(lines[: places[1]] + lines[places[3] :]))
    code, said = redecided(ledger)
    assert code == 0
    assert said == f"prod/shop {after}: 2 decisions before it are not in the file\n{summary(ledger)}"


def test_a_missing_part_elsewhere_is_exit_code_2(ledger: Path) -> None:
    lines = lines_of(ledger)
    ledger.write_text("".join(lines[:1] + lines[2:]))
    code, said = redecided(ledger)
    assert code == 2
    assert said.endswith(f"\n{summary(ledger, unreadable=1)}")


@pytest.mark.parametrize("content", [b"", b"hello\n", b"\x00\xff\xfe" * 1000, b"{" * 3_000_000])
def test_a_file_without_records_is_exit_code_2(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "file").write_bytes(content)
    code, said = redecided(tmp_path / "file")
    assert code == 2
    assert said == f"{tmp_path / 'file'}: holds no record of a decision; name a file that --decision-log wrote\n"


def test_a_file_that_is_not_there_is_exit_code_2(tmp_path: Path) -> None:
    assert redecided(tmp_path / "none") == (
        2,
        f"{tmp_path / 'none'}: No such file or directory; name a file that --decision-log wrote\n",
    )


def test_other_lines_however_long_and_in_whatever_bytes_are_passed_over(ledger: Path) -> None:
    lines = ledger.read_bytes().splitlines(keepends=True)
    noise = b'{"kind":"' + b"x" * 500_000 + b"\n\xff\xfe\x80\n"
    expected = summary(ledger)
    ledger.write_bytes(noise + noise.join(lines) + noise)
    assert redecided(ledger) == (0, expected)


def test_a_decision_is_explained_with_what_it_stood_on(ledger: Path) -> None:
    first = next(head for head in heads(ledger) if head["weights"])
    assert explain_decision(ledger, first["id"]) == (
        f"decision {first['id']} of prod/shop\n"
        f"  at       {first['at']}\n"
        f"  signal   {first['signal']}: raise\n"
        "  before   Progressing, phase ramp, step 0\n"
        "  after    Progressing, phase ramp, step 0\n"
        "  weights  main 5%\n"
        f"  why      {first['message']}\n"
        "  what was seen:\n"
        "    - the plan of generation 1, revision v2\n"
        "    - target main: the canary at 0%, 2 ready endpoints of the canary\n"
        "    - 2 series with 2 new rows"
    )


def test_the_verdicts_of_a_retreat_are_told(ledger: Path) -> None:
    breach = next(head for head in heads(ledger) if head["signal"] == "Breach")
    told = explain_decision(ledger, breach["id"], "prod/shop")
    assert "  signal   Breach: retreat\n" in told
    assert "  what the evidence said:\n    - errors below 2% (main): proven worse than 2%: " in told


def test_a_decision_that_is_not_there_names_the_last_ones(ledger: Path) -> None:
    with pytest.raises(UnknownDecisionError, match=r"decision 9-9 is not in .*the last ones there are prod/shop 1-1, "):
        explain_decision(ledger, "9-9")
    with pytest.raises(UnknownDecisionError, match=r"decision 1-2 of prod/pay is not in .*are none"):
        explain_decision(ledger, "1-2", "prod/pay")


def test_a_decision_of_which_only_the_first_line_is_left_is_told_from_it(ledger: Path) -> None:
    lines = lines_of(ledger)
    ledger.write_text("".join(lines[:1] + lines[2:]))
    told = explain_decision(ledger, "1-1")
    assert "  signal   Starting\n" in told
    assert told.endswith("  not readable 1 of its 1 parts are missing")


def test_the_last_decisions_are_told_from_the_status() -> None:
    launched = course()
    launched.until_weight(50)
    kept = launched.status.decisions[1]
    assert explain_decision(launched.status, kept.id) == (
        f"decision {kept.id}\n"
        "  at       2023-11-14T22:13:40.000Z\n"
        "  signal   PhaseBegins\n"
        "  state    Progressing, phase ramp, step 0\n"
        "  weights  main 5%\n"
        f"  why      {kept.message}"
    )
    with pytest.raises(UnknownDecisionError, match=r"keeps the last ones \(1-1, .*give the file that --decision-log"):
        explain_decision(launched.status, "7-7")


def test_nothing_that_a_terminal_would_obey_is_printed(ledger: Path) -> None:
    launched = course()
    launched.annotations["hold"] = "\x1b[2J"
    launched.now += 10.0
    seen = launched.observe()
    decision = decide(seen)
    ledger.write_text("\n".join(record(seen, decision)))
    told = explain_decision(ledger, decision.id)
    assert "annotation hold: \N{REPLACEMENT CHARACTER}[2J" in told
    assert "\x1b" not in told

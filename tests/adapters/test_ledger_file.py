"""The decision log on real files, pipes and a device that is always full; nobody who decides waits for it."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from controller.adapters.ledger_file import SAY_SECONDS, LedgerFile
from controller.core.decide import Decision, decide
from controller.core.ledger import record, redecide
from controller.core.observation import Observation
from controller.errors import AdapterError
from tests.core.builders import course
from tests.realparts.parts import ROOT

DEADLINE = 10.0


class Told:
    """What was said of dropped records."""

    def __init__(self) -> None:
        self.number, self.times, self.why = 0, 0, ""
        self.changed = threading.Condition()

    def __call__(self, number: int, why: str) -> None:
        with self.changed:
            self.number, self.times, self.why = self.number + number, self.times + 1, why
            self.changed.notify_all()

    def wait_for(self, number: int) -> None:
        with self.changed:
            assert self.changed.wait_for(lambda: self.number >= number, DEADLINE), (self.number, self.why)


def made() -> tuple[Observation, Decision]:
    seen = course().observe()
    return seen, decide(seen)


@pytest.fixture
def told() -> Told:
    return Told()


Opening = Callable[..., LedgerFile]


@pytest.fixture
def opened(told: Told) -> Iterator[Opening]:
    """Opens ledgers, and ends them after the test."""
    ledgers: list[LedgerFile] = []

    def opening(path: Path | str, **options: object) -> LedgerFile:
        ledgers.append(LedgerFile(str(path), told, **options))  # type: ignore[arg-type]
        return ledgers[-1]

    yield opening
    for ledger in ledgers:
        if ledger._thread.is_alive():
            ledger.stop()


def decided_again(path: Path) -> list[bool]:
    with path.open() as file:
        return [one.same for one in redecide(file)]


def until(what: str, holds: Callable[[], bool]) -> None:
    """Wait until it holds; the file system and a thread give no sign of their own."""
    deadline = time.monotonic() + DEADLINE
    while not holds():
        assert time.monotonic() < deadline, f"not {what} after {DEADLINE} s"
        threading.Event().wait(0.01)


def reaches(path: Path, size: int) -> None:
    """Wait until so many bytes are written."""
    until(f"{size} bytes in {path.name}", lambda: path.exists() and path.stat().st_size >= size)


SIZE = sum(len(line) + 1 for line in record(*made()))


def test_each_decision_is_appended_and_can_be_decided_again(tmp_path: Path, opened: Opening, told: Told) -> None:
    path = tmp_path / "ledger"
    for _ in range(2):
        ledger = opened(path)
        ledger.record(*made())
        ledger.record(*made())
        ledger.stop()
    assert decided_again(path) == [True] * 4
    assert path.stat().st_size == 4 * SIZE
    assert told.times == 0


def test_a_new_file_is_for_its_owner_alone_and_an_old_one_keeps_its_mode(tmp_path: Path, opened: Opening) -> None:
    opened(tmp_path / "new")
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o600
    (tmp_path / "old").touch()
    (tmp_path / "old").chmod(0o640)
    opened(tmp_path / "old")
    assert stat.S_IMODE((tmp_path / "old").stat().st_mode) == 0o640


def test_a_record_is_in_the_file_before_the_next_one_comes(tmp_path: Path, opened: Opening) -> None:
    path = tmp_path / "ledger"
    opened(path).record(*made())
    reaches(path, SIZE)
    assert decided_again(path) == [True]


def test_a_line_that_a_crash_left_unfinished_does_not_spoil_the_next_record(tmp_path: Path, opened: Opening) -> None:
    path = tmp_path / "ledger"
    torn = record(*made())
    path.write_text(f"{torn[0]}\n{torn[1][:100]}")
    ledger = opened(path)
    ledger.record(*made())
    ledger.stop()
    assert decided_again(path) == [True]  # of the very same decision: its readable line is there twice
    assert path.read_text().count("\n") == 1 + 1 + len(torn)


def test_a_file_that_was_moved_away_is_made_anew(tmp_path: Path, opened: Opening) -> None:
    path = tmp_path / "ledger"
    ledger = opened(path)
    ledger.record(*made())
    reaches(path, SIZE)
    path.rename(tmp_path / "ledger.1")
    ledger.record(*made())
    reaches(path, SIZE)
    path.unlink()
    ledger.record(*made())
    ledger.stop()
    assert decided_again(path) == decided_again(tmp_path / "ledger.1") == [True]


def test_a_full_disk_costs_the_record_and_nothing_else(opened: Opening, told: Told) -> None:
    ledger = opened("/dev/full")
    ledger.record(*made())
    told.wait_for(1)
    assert told.why == "/dev/full: No space left on device"


class Clock:
    """A clock without steps, turned by hand."""

    def __init__(self) -> None:
        self.at = 100.0

    def __call__(self) -> float:
        return self.at


def test_what_is_dropped_is_said_once_a_minute_with_its_number(opened: Opening, told: Told) -> None:
    clock = Clock()
    ledger = opened("/dev/full", steady=clock)
    ledger.record(*made())
    told.wait_for(1)
    for _ in range(5):
        ledger.record(*made())
    until("all dropped", lambda: ledger._dropped == 5)
    assert (told.number, told.times) == (1, 1)
    clock.at += SAY_SECONDS
    ledger.record(*made())
    told.wait_for(7)
    assert (told.number, told.times) == (7, 2)


def test_nobody_waits_for_a_reader_that_does_not_read(tmp_path: Path, opened: Opening, told: Told) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        ledger = opened(path, waiting=4)
        seen, decision = made()
        began = time.monotonic()
        for _ in range(200):
            ledger.record(seen, decision)
        assert time.monotonic() - began < 1.0
        told.wait_for(1)
        assert told.why == f"{path} is not written fast enough"
        began = time.monotonic()
        ledger.stop()
        assert time.monotonic() - began < 3.0
        read = os.read(reader, 1 << 20)
    finally:
        os.close(reader)
    kept = read.count(b'"kind":"decision"')
    assert 0 < kept < 200
    assert told.number >= 200 - kept


def test_a_decision_that_cannot_be_recorded_is_told_and_the_next_one_is_written(
    tmp_path: Path, opened: Opening, told: Told
) -> None:
    path = tmp_path / "ledger"
    ledger = opened(path)
    seen, decision = made()
    odd: dict[str, str] = {"hold": 1j}  # type: ignore[dict-item]
    ledger.record(replace(seen, annotations=odd), decision)
    ledger.record(seen, decision)
    ledger.stop()
    assert told.number == 1
    assert "complex is no type that can be recorded" in told.why
    assert decided_again(path) == [True]


@pytest.mark.parametrize("name", ["", "no/such", "pipe"])
def test_what_cannot_be_opened_is_said_at_once(tmp_path: Path, told: Told, name: str) -> None:
    os.mkfifo(tmp_path / "pipe")  # without a reader
    with pytest.raises(AdapterError, match=r"cannot be written: .*; name another file"):
        LedgerFile(str(tmp_path / name), told)


def test_standard_output_takes_whole_records_too() -> None:
    program = (
        "from controller.adapters.ledger_file import LedgerFile\n"
        "from tests.adapters.test_ledger_file import made\n"
        "ledger = LedgerFile('-', print)\n"
        "ledger.record(*made())\n"
        "ledger.record(*made())\n"
        "ledger.stop()\n"
        "print('the end')\n"
    )
    said = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    lines = said.stdout.splitlines()
    assert lines.pop() == "the end"
    assert [one.same for one in redecide(lines)] == [True, True]

"""Answers that are fetched beside: when, how often, and what failures and old age do to them."""

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from controller.adapters.asking import Asking
from controller.errors import UnansweredError
from tests.realparts.server import wait_until

DEADLINE_S = 30.0
LONG_S = 3600.0


class Source:
    """Answers a key with how often it was fetched; a test may keep it waiting, or let it fail."""

    def __init__(self) -> None:
        self.fetched: list[str] = []
        self.released = threading.Event()
        self.released.set()
        self.error: Exception | None = None
        self.told: list[str] = []
        self._made: list[Asking[str, int]] = []

    def __call__(self, key: str) -> int:
        self.fetched.append(key)
        self.released.wait(DEADLINE_S)
        if self.error is not None:
            raise self.error
        return self.fetched.count(key)

    def asking(self, fresh_s: float = LONG_S, valid_s: float = LONG_S) -> Asking[str, int]:
        made = Asking("asks", self, fresh_s=fresh_s, valid_s=valid_s, on_failure=self.told.append)
        self._made.append(made)
        return made

    def end(self) -> None:
        for made in self._made:
            made.stop()
        self.released.set()
        for made in self._made:
            made.join(DEADLINE_S)


@pytest.fixture
def source() -> Iterator[Source]:
    source = Source()
    yield source
    source.end()


def until(question: Callable[[], Any], what: str) -> Any:
    return wait_until(question, deadline_s=DEADLINE_S, what=what)


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "asks"]


def test_the_first_question_begins_a_fetch_and_waits_for_nothing(source: Source) -> None:
    asking = source.asking()
    source.released.clear()
    assert asking.ask("a") is None
    until(lambda: source.fetched == ["a"], "the fetch")
    assert asking.ask("a") is None
    source.released.set()
    until(lambda: asking.ask("a") == 1, "the answer")
    assert source.fetched == ["a"]


def test_unasked_nothing_is_fetched_and_no_thread_lives(source: Source) -> None:
    asking = source.asking(fresh_s=0.0)
    assert not threads()
    asking.ask("a")
    until(lambda: source.fetched and not threads(), "the end of the fetch")
    assert source.fetched == ["a"]


def test_an_old_answer_is_fetched_again_and_counts_meanwhile(source: Source) -> None:
    asking = source.asking(fresh_s=0.05)
    until(lambda: asking.ask("a") == 1, "the answer")
    source.released.clear()
    until(lambda: asking.ask("a") == 1 and len(source.fetched) == 2, "the second fetch")
    source.released.set()
    until(lambda: asking.ask("a") != 1, "the second answer")


def test_an_answer_that_is_too_old_counts_as_none(source: Source) -> None:
    asking = source.asking(valid_s=0.2)
    until(lambda: asking.ask("a") == 1, "the answer")
    until(lambda: asking.ask("a") is None, "its end")
    assert source.fetched == ["a"]


@pytest.mark.parametrize("error", [UnansweredError("nobody is there"), ValueError("nobody is there")])
def test_a_failure_is_told_and_costs_neither_the_last_answer_nor_the_other_keys(
    source: Source, error: Exception
) -> None:
    asking = source.asking(fresh_s=0.05)
    until(lambda: asking.ask("a") == 1, "the answer")
    source.error = error
    until(lambda: asking.ask("a") == 1 and source.told, "the failure")
    assert "nobody is there" in source.told[0]
    source.error = None
    until(lambda: asking.ask("b") == 1, "the other key")
    until(lambda: (asking.ask("a") or 0) > 1, "the next answer")


def test_a_failure_that_cannot_be_told_ends_no_fetch(source: Source) -> None:
    def deaf(problem: str) -> None:
        source.told.append(problem)
        raise BrokenPipeError

    asking = Asking("asks", source, fresh_s=0.0, valid_s=LONG_S, on_failure=deaf)
    source.error = UnansweredError("away")
    asking.ask("a")
    wait_until(lambda: source.told, deadline_s=DEADLINE_S, what="the failure")
    source.error = None
    wait_until(lambda: asking.ask("a"), deadline_s=DEADLINE_S, what="an answer after it")
    asking.stop()


def test_many_keys_share_one_thread_and_each_is_fetched_once(source: Source) -> None:
    asking = source.asking()
    source.released.clear()
    keys = [f"key-{number}" for number in range(50)]
    for key in keys * 3:
        asking.ask(key)
    assert len(threads()) == 1
    source.released.set()
    until(lambda: all(asking.ask(key) == 1 for key in keys), "all answers")
    assert sorted(source.fetched) == sorted(keys)


def test_after_the_stop_nothing_is_begun_and_no_failure_is_told(source: Source) -> None:
    asking = source.asking(fresh_s=0.0)
    source.released.clear()
    asking.ask("a")
    until(lambda: source.fetched, "the fetch")
    asking.ask("b")
    asking.stop()
    asking.ask("c")
    source.error = UnansweredError("cut")
    source.released.set()
    asking.join(DEADLINE_S)
    assert not threads()
    assert source.fetched == ["a"]
    assert source.told == []

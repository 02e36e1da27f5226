from collections.abc import Callable

import pytest

from controller.adapters.retrying import retry_read
from controller.errors import RefusedError, UnansweredError


class Clock:
    """Time passes in sleep alone."""

    def __init__(self) -> None:
        self.now = 100.0
        self.slept: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


class Flaky:
    """Fails with these, one after the other, then answers."""

    def __init__(self, *errors: Exception) -> None:
        self.left = list(errors)
        self.calls = 0

    def __call__(self) -> str:
        self.calls += 1
        if self.left:
            raise self.left.pop(0)
        return "answer"


def retry(read: Callable[[], str], clock: Clock, deadline_s: float = 10.0) -> str:
    deadline = clock.now + deadline_s
    worth: Callable[[UnansweredError], bool] = lambda error: "later" not in str(error)  # noqa: E731 - it is a table's cell
    return retry_read(read, deadline, worth=worth, clock=lambda: clock.now, sleep=clock.sleep)


def test_an_unanswered_read_is_tried_again_after_a_short_wait() -> None:
    clock, read = Clock(), Flaky(UnansweredError("a"), UnansweredError("b"))
    assert retry(read, clock) == "answer"
    assert all(0.05 <= wait <= 0.25 for wait in clock.slept)
    assert len(clock.slept) == 2


def test_the_last_of_three_errors_is_raised_as_it_is() -> None:
    errors = [UnansweredError(name) for name in "abcd"]
    with pytest.raises(UnansweredError) as raised:
        retry(Flaky(*errors), Clock())
    assert raised.value is errors[2]


@pytest.mark.parametrize("error", [RefusedError("no"), ValueError("bug"), UnansweredError("come back later")])
def test_what_will_not_be_better_soon_is_raised_at_once(error: Exception) -> None:
    clock, read = Clock(), Flaky(error)
    with pytest.raises(type(error)):
        retry(read, clock)
    assert (read.calls, clock.slept) == (1, [])


def test_no_try_begins_that_could_not_end_before_the_deadline() -> None:
    clock, read = Clock(), Flaky(UnansweredError("a"))
    with pytest.raises(UnansweredError):
        retry(read, clock, deadline_s=0.14)
    assert (read.calls, clock.slept) == (1, [])

"""The one retry policy: reads only, a few quick tries, never past the tick's deadline."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_attempt, wait_random

from controller.errors import UnansweredError

T = TypeVar("T")

ATTEMPTS = 3
SHORTEST_WAIT_S = 0.05
LONGEST_WAIT_S = 0.25
WORTH_TRYING_S = 0.1
"""With less time than this (seconds) left after the wait, another try could not be answered anyway."""


def retry_read(
    read: Callable[[], T],
    deadline: float,
    *,
    worth: Callable[[UnansweredError], bool] = lambda _error: True,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> T:
    """What ``read`` returns, tried up to three times while it stays unanswered.

    Waits are 50 to 250 ms, drawn at random so that many clients do not come back together. ``deadline`` is an instant
    of ``clock``. ``worth`` says of an error whether asking again soon makes sense. Only for calls that change nothing:
    a write that went unanswered may have happened.

    Raises the last error of ``read`` itself, and at once whatever is no :class:`UnansweredError`.
    """

    def too_late(state: RetryCallState) -> bool:
        return clock() + state.upcoming_sleep + WORTH_TRYING_S > deadline

    attempts = stop_after_attempt(ATTEMPTS)
    policy = Retrying(
        retry=retry_if_exception(lambda error: isinstance(error, UnansweredError) and worth(error)),
        wait=wait_random(SHORTEST_WAIT_S, LONGEST_WAIT_S),
        stop=lambda state: attempts(state) or too_late(state),
        sleep=sleep,
        reraise=True,
    )
    return policy(read)

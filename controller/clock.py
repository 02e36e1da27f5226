"""The two clocks of the machine."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """The two clocks: one that says what time it is, one that only goes forward and counts suspended time."""

    def now(self) -> float:
        """Seconds since the epoch, UTC."""

    def steady(self) -> float:
        """Seconds of a clock without steps."""


class SystemClock:
    """The machine's clocks."""

    def now(self) -> float:
        """Seconds since the epoch, UTC."""
        return time.time()

    def steady(self) -> float:
        """CLOCK_BOOTTIME where there is one: it goes on while the machine is suspended."""
        return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))

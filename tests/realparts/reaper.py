"""Kills the servers of a process that died without a word: reads `+PID` and `-PID` lines until its input ends.

Run by file name, with nothing but the standard library, so that it starts in milliseconds.
"""

import contextlib
import os
import signal
import sys


def main() -> None:
    """The input ends when the parent ends, however it ended; what is still on the list then is an orphan."""
    os.setsid()  # Ctrl-C is for the parent
    alive: set[int] = set()
    for line in sys.stdin:
        sign, pid = line[0], int(line[1:])
        if sign == "+":
            alive.add(pid)
        else:
            alive.discard(pid)
    for pid in alive:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


if __name__ == "__main__":
    main()

"""The few errors that adapters raise, split by what the caller should do.

A third-party exception never leaves its adapter; it is chained as the cause.
"""

from __future__ import annotations


class AdapterError(Exception):
    """Something outside did not do what was asked. The message is one sentence for people, without secrets."""


class ConflictError(AdapterError):
    """Somebody else wrote in between: nothing was written; read again, then decide."""


class NotFoundError(AdapterError):
    """The object does not exist (any more)."""


class RefusedError(AdapterError):
    """The other side understood and said no (validation, permission): the same request will not succeed."""


class UnansweredError(AdapterError):
    """No usable answer: refused connection, time-out, 5xx, a reply cut in half. A write may or may not have happened."""


class UnusableError(AdapterError):
    """An answer came, but nothing may be concluded from it: warnings, a partial or oversized answer, no API behind the URL."""


class NotLeadingError(AdapterError):
    """Another process is the one that writes, or may be soon: nothing was sent."""

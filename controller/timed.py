"""Cluster and Prometheus as the daemon uses them, with each write and each query timed."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar, cast

from controller.adapters.prometheus import Answer
from controller.core.world import Launch, Route, RoutePatch
from controller.errors import AdapterError
from controller.gather import RangeSource
from controller.ports import Cluster

T = TypeVar("T")
Wrote = Callable[[str, float, AdapterError | None], None]
Queried = Callable[[float, AdapterError | None], None]


def timed_cluster(cluster: Cluster, wrote: Wrote) -> Cluster:
    """The cluster, which tells ``wrote`` of each write: what was written, for how many seconds, and why it failed."""
    return cast("Cluster", _TimedCluster(cluster, wrote))


class TimedQueries:
    """Prometheus, which tells ``queried`` of each query: the seconds that it took, and why it failed."""

    def __init__(self, source: RangeSource, queried: Queried) -> None:
        self._source, self._queried = source, queried

    def query_range(self, expression: str, start: float, end: float, step: float, deadline: float) -> Answer:
        """As the source's own."""
        return _timed(lambda: self._source.query_range(expression, start, end, step, deadline), self._queried)


class _TimedCluster:
    """Whatever is not a write of the daemon is the cluster's own."""

    def __init__(self, cluster: Cluster, wrote: Wrote) -> None:
        self._cluster, self._wrote = cluster, wrote

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cluster, name)

    def patch_route(self, patch: RoutePatch, dry_run: bool = False) -> Route:  # noqa: FBT001, FBT002 - the Protocol's
        return self._of("dry run" if dry_run else "route", lambda: self._cluster.patch_route(patch, dry_run))

    def write_status(self, launch: Launch, status: Mapping[str, Any]) -> Launch:
        return self._of("status", lambda: self._cluster.write_status(launch, status))

    def set_finalizer(self, launch: Launch, present: bool) -> Launch:  # noqa: FBT001 - the Protocol's
        return self._of("launch", lambda: self._cluster.set_finalizer(launch, present))

    def _of(self, what: str, write: Callable[[], T]) -> T:
        return _timed(write, lambda seconds, error: self._wrote(what, seconds, error))


def _timed(act: Callable[[], T], told: Queried) -> T:
    began = time.monotonic()
    try:
        result = act()
    except AdapterError as error:
        told(time.monotonic() - began, error)
        raise
    told(time.monotonic() - began, None)
    return result

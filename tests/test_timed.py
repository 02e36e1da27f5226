"""Every write and every query is timed and told once, with its error, which goes on as it was."""

from __future__ import annotations

from typing import Any, cast

import pytest

from controller.adapters.prometheus import Answer
from controller.core.world import Launch, LaunchKey, RoutePatch
from controller.errors import AdapterError, ConflictError, UnansweredError
from controller.ports import Cluster
from controller.timed import TimedQueries, timed_cluster

Told = list[tuple[str, bool, str]]
KEY = LaunchKey("prod", "shop")
PATCH, LAUNCH = cast("RoutePatch", object()), cast("Launch", object())


class Writes:
    """A cluster that answers each call with its name, or with an error."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.calls: list[tuple[object, ...]] = []

    def _answer(self, *call: object) -> Any:
        self.calls.append(call)
        if self.error is not None:
            raise self.error
        return call[0]

    def patch_route(self, patch: RoutePatch, dry_run: bool = False) -> Any:
        return self._answer("patch", patch, dry_run)

    def write_status(self, launch: Launch, status: dict[str, Any]) -> Any:
        return self._answer("status", launch, status)

    def set_finalizer(self, launch: Launch, present: bool) -> Any:
        return self._answer("finalizer", launch, present)

    def launch(self, key: LaunchKey) -> Any:
        return self._answer("launch", key)


def watched(writes: Writes) -> tuple[Cluster, Told]:
    told: Told = []

    def wrote(of: str, seconds: float, error: AdapterError | None) -> None:
        told.append((of, 0 <= seconds < 60, type(error).__name__ if error else ""))

    return timed_cluster(cast("Cluster", writes), wrote), told


def test_each_kind_of_write_is_told_by_its_name_and_arrives_whole() -> None:
    writes = Writes()
    cluster, told = watched(writes)
    assert cast("str", cluster.patch_route(PATCH)) == "patch"
    cluster.patch_route(PATCH, dry_run=True)
    cluster.write_status(LAUNCH, {"state": "Held"})
    cluster.set_finalizer(LAUNCH, present=True)
    assert told == [("route", True, ""), ("dry run", True, ""), ("status", True, ""), ("launch", True, "")]
    assert writes.calls == [
        ("patch", PATCH, False),
        ("patch", PATCH, True),
        ("status", LAUNCH, {"state": "Held"}),
        ("finalizer", LAUNCH, True),
    ]


def test_a_look_is_the_clusters_own_and_not_told() -> None:
    cluster, told = watched(Writes())
    assert cast("str", cluster.launch(KEY)) == "launch"
    assert told == []


def test_an_error_is_told_and_goes_on() -> None:
    error = ConflictError("somebody else wrote")
    cluster, told = watched(Writes(error))
    with pytest.raises(ConflictError) as raised:
        cluster.patch_route(PATCH)
    assert raised.value is error
    assert told == [("route", True, "ConflictError")]


def test_what_is_no_answer_of_the_cluster_is_not_told_as_one() -> None:
    cluster, told = watched(Writes(KeyError("a bug")))
    with pytest.raises(KeyError):
        cluster.patch_route(PATCH)
    assert told == []


class Source:
    """A Prometheus with one answer or one error."""

    def __init__(self, error: AdapterError | None = None) -> None:
        self.error = error

    def query_range(self, expression: str, start: float, end: float, step: float, deadline: float) -> Answer:
        assert (expression, start, end, step, deadline) == ("up", 1.0, 2.0, 3.0, 4.0)
        if self.error is not None:
            raise self.error
        return Answer((), ())


def test_queries_are_told_with_their_error() -> None:
    told: list[AdapterError | None] = []
    late = UnansweredError("late")
    answer = TimedQueries(Source(), lambda _seconds, error: told.append(error)).query_range("up", 1.0, 2.0, 3.0, 4.0)
    assert answer == Answer((), ())
    with pytest.raises(UnansweredError):
        TimedQueries(Source(late), lambda _seconds, error: told.append(error)).query_range("up", 1.0, 2.0, 3.0, 4.0)
    assert told == [None, late]

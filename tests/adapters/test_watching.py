"""The cache beneath the watches: what it believes when news comes late or out of order."""

import threading
from collections.abc import Iterable, Iterator
from typing import Any

from controller.adapters.watching import Cache, Document, Followed, Pace
from tests.realparts.server import wait_until

Value = tuple[str, str]  # version and content


def cache_of(**values: Value) -> Cache[str, Value]:
    cache = Cache[str, Value](lambda value: value[0])
    cache.replace(values, "10")
    return cache


def test_older_news_is_ignored_after_a_write_of_ones_own_and_newer_is_not() -> None:
    cache = cache_of(a=("5", "old"))
    cache.put("a", ("12", "ours"))
    assert cache.apply("a", ("11", "late")) == (("12", "ours"), False)
    assert cache.get("a") == ("12", "ours")
    assert cache.apply("a", ("13", "new")) == (("12", "ours"), True)
    assert cache.get("a") == ("13", "new")


def test_a_list_made_before_a_write_of_ones_own_does_not_undo_it() -> None:
    cache = cache_of(a=("5", "old"), b=("6", "other"))
    cache.put("a", ("12", "ours"))
    before, after = cache.replace({"a": ("5", "old")}, "11")
    assert before == {"a": ("12", "ours"), "b": ("6", "other")}
    assert after == {"a": ("12", "ours")}


def test_the_answer_to_a_write_does_not_bring_back_what_was_deleted_since() -> None:
    cache = cache_of(a=("5", "old"))
    assert cache.remove("a", "13") == ("5", "old")
    cache.put("a", ("12", "ours"))
    assert cache.get("a") is None
    cache.put("a", ("14", "made again"))
    assert cache.get("a") == ("14", "made again")


def test_a_deletion_that_is_older_than_a_fresh_read_removes_nothing() -> None:
    cache = cache_of(a=("5", "old"))
    cache.put("a", ("15", "made again"))
    assert cache.remove("a", "13") is None
    assert cache.get("a") == ("15", "made again")


def test_an_older_fresh_read_does_not_replace_what_the_watch_told() -> None:
    cache = cache_of(a=("5", "old"))
    cache.apply("a", ("12", "watched"))
    cache.put("a", ("11", "read before"))
    assert cache.get("a") == ("12", "watched")


def test_a_server_restored_from_a_backup_is_believed() -> None:
    cache = cache_of(a=("900", "before the restore"))
    cache.replace({"a": ("300", "restored")}, "310")
    assert cache.apply("a", ("311", "edited")) == (("300", "restored"), True)


def test_waits_double_up_to_the_longest_and_begin_again_after_a_success() -> None:
    pace = Pace(0.2, 30.0)
    waits = [pace.next_wait_s() for _ in range(40)]
    for number, wait in enumerate(waits):
        longest = min(30.0, 0.2 * 2**number)
        assert longest / 2 <= wait <= longest
    pace.reset()
    assert pace.next_wait_s() <= 0.2


class ScriptedFeed:
    """Lists what it is given, then tells events until it is released."""

    def __init__(self, listed: list[Document], events: list[tuple[str, Document]]) -> None:
        self.listed = listed
        self.events = events
        self.released = threading.Event()

    def list(self) -> tuple[Iterable[Document], str]:
        return self.listed, "10"

    def watch(self, resource_version: str) -> Iterator[tuple[str, Document]]:
        return self._tell()

    def _tell(self) -> Iterator[tuple[str, Document]]:
        yield from self.events
        self.released.wait(60)


def document(name: str, version: str, content: object) -> dict[str, Any]:
    return {"metadata": {"name": name, "resourceVersion": version}, "content": content}


def read(one: Document, before: Value | None) -> Value:
    return one["metadata"]["resourceVersion"], one["content"].upper()


def test_an_object_that_cannot_be_read_is_named_and_hides_no_other_until_it_is_mended_or_gone() -> None:
    feed = ScriptedFeed(
        [document("good", "1", "x"), document("odd", "2", 5), document("odder", "3", 5)],
        [("MODIFIED", document("odd", "11", "y")), ("ADDED", document("new", "12", "z"))],
    )
    cache = Cache[str, Value](lambda value: value[0])
    followed = Followed("things", feed, cache, lambda one: str(one["metadata"]["name"]), read)
    followed.start()
    try:
        wait_until(lambda: cache.get("new"), deadline_s=60, what="the events")
        assert cache.get("good") == ("1", "X")
        assert cache.get("odd") == ("11", "Y")
        assert "odder cannot be read" in followed.problem()
        feed.events = [("DELETED", document("odder", "13", 5)), ("ADDED", document("last", "14", "z"))]
        feed.released.set()
        wait_until(lambda: cache.get("last"), deadline_s=60, what="the events")
        assert followed.problem() == ""
    finally:
        followed.stop()
        feed.released.set()
        followed.join(60)


def test_a_list_beside_a_silent_watch_brings_everything_up_to_date_and_late_news_does_not_undo_it() -> None:
    feed = ScriptedFeed([document("same", "1", "x"), document("old", "2", "x"), document("gone", "3", "x")], [])
    cache = Cache[str, Value](lambda value: value[0])
    told: list[tuple[str, Value | None, Value | None]] = []
    followed = Followed(
        "things",
        feed,
        cache,
        lambda one: str(one["metadata"]["name"]),
        read,
        changed=lambda key, before, after: told.append((key, before, after)),
    )
    followed.start()
    try:
        wait_until(lambda: followed.synced, deadline_s=60, what="the list")
        told.clear()
        feed.listed = [document("same", "1", "x"), document("old", "8", "y"), document("new", "9", "z")]
        followed.read_again()
        assert dict.fromkeys(cache.values()) == dict.fromkeys([("1", "X"), ("8", "Y"), ("9", "Z")])
        assert sorted(key for key, _, _ in told) == ["gone", "new", "old"]
        assert ("old", ("2", "X"), ("8", "Y")) in told
        assert ("gone", ("3", "X"), None) in told
        feed.events = [("MODIFIED", document("old", "7", "late")), ("MODIFIED", document("same", "12", "w"))]
        feed.released.set()
        wait_until(lambda: cache.get("same") == ("12", "W"), deadline_s=60, what="the late news")
        assert cache.get("old") == ("8", "Y")
        assert cache.get("gone") is None
    finally:
        followed.stop()
        feed.released.set()
        followed.join(60)


def test_a_list_beside_the_watch_keeps_what_is_newer_than_it() -> None:
    feed = ScriptedFeed(
        [document("a", "1", "x")], [("MODIFIED", document("a", "15", "y")), ("ADDED", document("b", "16", "z"))]
    )
    cache = Cache[str, Value](lambda value: value[0])
    followed = Followed("things", feed, cache, lambda one: str(one["metadata"]["name"]), read)
    followed.start()
    try:
        wait_until(lambda: cache.get("b"), deadline_s=60, what="the events")
        followed.read_again()
        assert cache.get("a") == ("15", "Y")
        assert cache.get("b") == ("16", "Z")
    finally:
        followed.stop()
        feed.released.set()
        followed.join(60)

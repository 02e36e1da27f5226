"""Silences of a real Alertmanager: which of our alerts they cover, since when, and what is known while it is away."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest

from controller.adapters.silences import SilenceCheck, read_silence
from controller.core.alerts import Alert, Identity
from controller.core.units import format_instant
from controller.core.world import LaunchKey
from controller.errors import AdapterError
from tests.adapters.scripted_server import Asked, ScriptedServer, http, say
from tests.realparts.alertmanager import Alertmanager
from tests.realparts.server import http as session
from tests.realparts.server import wait_until

DEADLINE_S = 60.0
ENDLESS_S = 20.0
HELD = Alert("LaunchHeld", "warning", LaunchKey("prod", "shop"), 0.0, "", "", "", "", role="on-call", level=1).identity
OTHER = Alert("LaunchHeld", "warning", LaunchKey("prod", "other"), 0.0, "", "", "", "").identity


def matcher(name: str, value: str, *, regex: bool = False, equal: bool = True) -> dict[str, Any]:
    return {"name": name, "value": value, "isRegex": regex, "isEqual": equal}


def document(*matchers: dict[str, Any], begins: float = 0.0, ends: float = 3600.0) -> dict[str, Any]:
    """A silence that begins and ends so many seconds from now."""
    now = time.time()
    return {
        "matchers": list(matchers),
        "startsAt": format_instant(now + begins),
        "endsAt": format_instant(now + ends),
        "createdBy": "ana",
        "comment": "looking",
    }


def silence(alertmanager: Alertmanager, *matchers: dict[str, Any]) -> str:
    with session() as asking:
        answer = asking.post(f"{alertmanager.url}/api/v2/silences", json=document(*matchers), timeout=60)
        answer.raise_for_status()
        return str(answer.json()["silenceID"])


@contextmanager
def checking(*urls: str, firing: Sequence[Identity] = (HELD, OTHER), **options: Any) -> Iterator[SilenceCheck]:
    check = SilenceCheck(urls, lambda: firing, **{"each": 0.05, "patience": 0.0, **options})
    try:
        yield check
    finally:
        check.stop()


def test_a_silence_covers_its_alert_and_no_other_from_when_it_begins_to_when_it_ends(
    alertmanager: Alertmanager,
) -> None:
    with checking(alertmanager.url) as check:
        assert check.since(HELD) is None
        before = time.time()
        made = silence(alertmanager, *(matcher(*label) for label in HELD))
        since = wait_until(lambda: check.since(HELD), deadline_s=DEADLINE_S, what="the silence")
        assert since == pytest.approx(before, abs=5)
        assert check.since(OTHER) is None
        with session() as asking:
            asking.delete(f"{alertmanager.url}/api/v2/silence/{made}", timeout=60).raise_for_status()
        wait_until(lambda: check.since(HELD) is None, deadline_s=DEADLINE_S, what="its end")


def test_a_silence_outlives_a_restart_of_its_alertmanager_and_counts_meanwhile(alertmanager: Alertmanager) -> None:
    with checking(alertmanager.url) as check:
        silence(alertmanager, matcher("launch", "shop"))
        since = wait_until(lambda: check.since(HELD), deadline_s=DEADLINE_S, what="the silence")
        with alertmanager.stopped():
            assert check.since(HELD) == since
        with checking(alertmanager.url) as anew:
            assert wait_until(lambda: anew.since(HELD), deadline_s=DEADLINE_S, what="the same silence") == since


def test_an_alertmanager_that_hangs_delays_neither_the_answer_nor_the_other_one(
    alertmanager: Alertmanager, hanging: str
) -> None:
    silence(alertmanager, matcher("launch", "shop"))
    with checking(hanging, alertmanager.url, timeout=600) as check:
        began = time.monotonic()
        wait_until(lambda: check.since(HELD), deadline_s=ENDLESS_S, what="the silence in the one that answers")
        assert time.monotonic() - began < ENDLESS_S


def test_what_is_not_known_yet_counts_as_silenced_for_a_while_and_then_as_not(
    alertmanager: Alertmanager, hanging: str
) -> None:
    with checking(hanging, timeout=600, patience=0.5) as check:
        assert check.since(HELD) == 0.0
        wait_until(lambda: check.since(HELD) is None, deadline_s=DEADLINE_S, what="the end of the patience")
    with checking(alertmanager.url, patience=600.0) as check:
        assert check.since(HELD) == 0.0
        wait_until(lambda: check.since(HELD) is None, deadline_s=DEADLINE_S, what="the first answer")
        assert check.since((("alertname", "Unheard"),)) == 0.0


@pytest.fixture
def hanging() -> Iterator[str]:
    def never(_: Asked) -> Iterator[bytes]:
        yield b""

    with ScriptedServer(never) as server:
        yield server.url


@pytest.mark.parametrize(
    ("matchers", "covered"),
    [
        ([matcher("launch", "shop")], True),
        ([matcher("launch", "sho")], False),
        ([matcher("launch", "sho.", regex=True)], True),
        ([matcher("launch", "sh", regex=True)], False),
        ([matcher("launch", "s.op")], False),
        ([matcher("launch", "other", equal=False)], True),
        ([matcher("launch", "sho.", regex=True, equal=False)], False),
        ([matcher("launch", "shop"), matcher("role", "vp")], False),
        ([matcher("target", "")], True),
        ([matcher("target", "eu")], False),
        ([{"name": "launch", "value": "shop", "isRegex": False}], True),
    ],
)
def test_matchers_are_those_of_alertmanager(matchers: list[dict[str, Any]], covered: bool) -> None:
    read = read_silence({**document(*matchers), "status": {"state": "active"}})
    assert read is not None
    assert read.covers(dict(HELD)) is covered


@pytest.mark.parametrize(
    "change",
    [
        {"status": {"state": "expired"}},
        {"status": {}},
        {"matchers": [matcher("launch", "(", regex=True)]},
        {"matchers": 3},
        {"startsAt": "now"},
        {"endsAt": None},
    ],
)
def test_a_silence_that_has_ended_or_cannot_be_read_is_none(change: dict[str, Any]) -> None:
    whole = {**document(matcher("launch", "shop")), "status": {"state": "active"}}
    assert read_silence(whole) is not None
    assert read_silence({**whole, **change}) is None
    assert read_silence("silence") is None


def test_who_does_not_tell_its_silences_is_told_of() -> None:
    failures: list[AdapterError] = []
    with (
        ScriptedServer(say(http("no", status=503))) as server,
        checking(server.url, on_failure=failures.append) as check,
    ):
        check.since(HELD)
        wait_until(lambda: failures, deadline_s=DEADLINE_S, what="a word about it")
    assert "did not show its silences (HTTP 503)" in str(failures[0])


def test_an_expression_that_could_take_for_ever_takes_no_time() -> None:
    read = read_silence({**document(matcher("launch", "(a+)+b", regex=True)), "status": {"state": "active"}})
    assert read is not None
    assert not read.covers({"launch": "a" * 200})


def test_a_silence_to_come_is_none_yet_and_one_that_has_ended_none_any_more() -> None:
    now = [time.time()]
    coming = {**document(matcher("launch", "shop"), begins=100, ends=200), "status": {"state": "pending"}}
    with (
        ScriptedServer(say(http(json.dumps([coming])))) as server,
        checking(server.url, clock=lambda: now[0]) as check,
    ):
        began = now[0]
        check.since(HELD)
        wait_until(lambda: server.asked, deadline_s=DEADLINE_S, what="a look")
        assert check.since(HELD) is None
        now[0] = began + 150
        since = wait_until(lambda: check.since(HELD), deadline_s=DEADLINE_S, what="its beginning")
        assert since == pytest.approx(began + 100, abs=5)
        now[0] = began + 201
        assert check.since(HELD) is None

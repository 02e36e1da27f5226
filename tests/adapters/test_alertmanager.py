"""Alerts reach every Alertmanager, keep their identity, end when they should, and delay nobody."""

import json
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from controller.adapters.alertmanager import AlertSender, DeliveryCheck
from controller.core.alerts import Alert
from controller.core.observation import ALERTING_NOT_KNOWN
from controller.core.world import LaunchKey
from controller.errors import AdapterError, RefusedError, UnansweredError
from tests.adapters.scripted_server import Asked, ScriptedServer, half, http, say
from tests.realparts.alertmanager import Alertmanager
from tests.realparts.fixtures import AlertmanagerFactory
from tests.realparts.server import wait_until

KEY = LaunchKey("prod", "shop")
DEADLINE_S = 60.0
ENDLESS_S = 20.0
"""What lasts longer waits for an answer that never comes, however slow the machine is."""
LINK = "http://auto-advance.example:8080"


def held(key: LaunchKey = KEY, *, description: str = "waiting", summary: str = "is held") -> Alert:
    return Alert(
        name="LaunchHeld",
        severity="warning",
        key=key,
        starts_at=round(time.time() - 30, 3),
        summary=summary,
        description=description,
        decision="1-4",
        weights="main 5%",
    )


class Failures(list[AdapterError]):
    """What the sender complained of."""

    def of(self, kind: type[AdapterError]) -> list[AdapterError]:
        return [error for error in self if isinstance(error, kind)]


@contextmanager
def sending(*urls: str, failures: list[AdapterError] | None = None, **options: Any) -> Iterator[AlertSender]:
    complain = (lambda _error: None) if failures is None else failures.append
    sender = AlertSender(urls, external_url=f"{LINK}/", on_failure=complain, **options)
    sender.start()
    try:
        yield sender
    finally:
        sender.stop()


def instant(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def sent(server: ScriptedServer) -> list[dict[str, Any]]:
    return [alert for asked in list(server.asked) for alert in json.loads(asked.body)]


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with ScriptedServer(say(http(""))) as scripted:
        yield scripted


def test_an_alert_arrives_whole_with_its_start_its_end_and_its_link(alertmanager: Alertmanager) -> None:
    alert = held()
    with sending(alertmanager.url) as sender:
        sender.publish(KEY, (alert,))
        (received,) = alertmanager.wait_for(launch="shop")
    assert received["labels"] == dict(alert.labels)
    assert received["annotations"] == {**alert.annotations, "runbook_url": f"{LINK}/docs/runbooks/LaunchHeld.md"}
    assert received["generatorURL"] == f"{LINK}/launches/prod/shop#1-4"
    assert instant(received["startsAt"]) == pytest.approx(alert.starts_at, abs=0.001)
    assert instant(received["endsAt"]) == pytest.approx(time.time() + 240, abs=20)


def test_what_is_left_out_is_resolved_and_fires_again_when_it_comes_back(alertmanager: Alertmanager) -> None:
    with sending(alertmanager.url) as sender:
        sender.publish(KEY, (held(),))
        alertmanager.wait_for(launch="shop")
        sender.publish(KEY, ())
        wait_until(
            lambda: not alertmanager.alerts(launch="shop"), deadline_s=DEADLINE_S, what="the alert to be resolved"
        )
        sender.publish(KEY, (held(summary="is held again"),))
        (received,) = alertmanager.wait_for(launch="shop")
    assert received["annotations"]["summary"] == "is held again"


def test_a_resend_brings_the_newest_words_and_keeps_the_start(alertmanager: Alertmanager) -> None:
    alert = held(description="3 errors")
    with sending(alertmanager.url, resend=1.0) as sender:
        sender.publish(KEY, (alert,))
        alertmanager.wait_for(launch="shop")
        sender.publish(KEY, (replace(alert, description="5 errors"),))

        def renewed() -> list[dict[str, Any]]:
            alerts = alertmanager.alerts(launch="shop")
            return [found for found in alerts if found["annotations"]["description"] == "5 errors"]

        (received,) = wait_until(renewed, deadline_s=DEADLINE_S, what="the new words")
    assert instant(received["startsAt"]) == pytest.approx(alert.starts_at, abs=0.001)
    assert received["annotations"].items() >= held(description="5 errors").annotations.items()


def test_every_alertmanager_is_told_though_one_hangs_and_one_is_gone(alertmanager_factory: AlertmanagerFactory) -> None:
    one, other = alertmanager_factory(), alertmanager_factory()
    failures = Failures()
    with socket.create_server(("127.0.0.1", 0)) as hanging, socket.create_server(("127.0.0.1", 0)) as closed:
        gone = f"http://127.0.0.1:{closed.getsockname()[1]}"
        closed.close()
        silent = f"http://127.0.0.1:{hanging.getsockname()[1]}"
        with sending(silent, gone, one.url, other.url, failures=failures, timeout=600) as sender:
            began = time.monotonic()
            sender.publish(KEY, (held(),))
            one.wait_for(launch="shop")
            other.wait_for(launch="shop")
            wait_until(lambda: failures, deadline_s=DEADLINE_S, what="a word about the one that is gone")
        # The hanging one is still asked for its answer, and will be for ten minutes.
        assert time.monotonic() - began < 5 * DEADLINE_S, "publishing or stopping waits for the hanging one"
    assert "Connection refused" in str(failures[0])


def test_what_could_not_be_sent_is_sent_when_the_alertmanager_is_back(alertmanager: Alertmanager) -> None:
    failures = Failures()
    with sending(alertmanager.url, failures=failures) as sender:
        with alertmanager.stopped():
            sender.publish(KEY, (held(),))
            wait_until(lambda: failures.of(UnansweredError), deadline_s=DEADLINE_S, what="the failure")
        assert alertmanager.wait_for(launch="shop")


def test_a_bad_alert_does_not_keep_its_neighbours_out(alertmanager: Alertmanager) -> None:
    failures = Failures()
    refused = replace(held(LaunchKey("prod", "refused")), starts_at=time.time() + 3600)
    sender = AlertSender([alertmanager.url], external_url=LINK, on_failure=failures.append)
    for alert in (refused, held()):
        sender.publish(alert.key, (alert,))
    sender.start()
    try:
        alertmanager.wait_for(launch="shop")
        wait_until(lambda: failures.of(RefusedError), deadline_s=DEADLINE_S, what="a word about the refused one")
    finally:
        sender.stop()
    assert "start" in str(failures.of(RefusedError)[0])


def test_a_refused_batch_is_sent_one_by_one(server: ScriptedServer) -> None:
    def refuse_two(asked: Asked) -> Iterator[bytes]:
        yield http("", status=400 if len(json.loads(asked.body)) > 1 else 200)

    server.reply = refuse_two
    sender = AlertSender([server.url], external_url=LINK, on_failure=lambda _error: None)
    for name in ("a", "b", "c"):
        sender.publish(LaunchKey("prod", name), (held(LaunchKey("prod", name)),))
    sender.start()
    wait_until(lambda: len(server.asked) == 4, deadline_s=DEADLINE_S, what="the batch and its three parts")
    sender.stop()
    assert [len(json.loads(asked.body)) for asked in server.asked] == [3, 1, 1, 1]


def test_a_name_that_no_host_can_have_is_told_and_ends_nothing(server: ScriptedServer) -> None:
    failures = Failures()
    with sending("http://a..b:9093", server.url, failures=failures, resend=0.1) as sender:
        sender.publish(KEY, (held(),))
        wait_until(lambda: len(failures) > 1, deadline_s=DEADLINE_S, what="a second try")
        assert server.asked
    assert "Alertmanager at a..b:9093 did not take alerts" in str(failures.of(UnansweredError)[0])


def test_what_goes_wrong_unforeseen_with_one_send_ends_none_that_comes_after(server: ScriptedServer) -> None:
    counted: list[int] = []

    def count(number: int) -> None:
        counted.append(number)
        if len(counted) == 1:
            raise RuntimeError("unforeseen")

    failures = Failures()
    with sending(server.url, failures=failures, on_sent=count) as sender:
        sender.publish(KEY, (held(),))
        wait_until(lambda: len(counted) == 2, deadline_s=DEADLINE_S, what="the same alert again")
    assert counted == [1, 1]
    assert "unforeseen" in str(failures[0])


def test_what_an_alertmanager_took_is_counted_and_what_it_refused_is_not(server: ScriptedServer) -> None:
    def refuse_one(asked: Asked) -> Iterator[bytes]:
        yield http("", status=400 if b'"bad"' in asked.body else 200)

    server.reply = refuse_one
    counted: list[int] = []
    failures = Failures()
    sender = AlertSender([server.url], external_url=LINK, on_failure=failures.append, on_sent=counted.append)
    for name in ("bad", "good", "better"):
        sender.publish(LaunchKey("prod", name), (held(LaunchKey("prod", name)),))
    sender.start()
    wait_until(lambda: len(server.asked) == 4, deadline_s=DEADLINE_S, what="the batch and its three parts")
    sender.stop()
    assert counted == [1, 1]
    assert len(failures.of(RefusedError)) == 1


def test_an_unchanged_alert_is_not_sent_again_before_its_time(server: ScriptedServer) -> None:
    alert = held()
    with sending(server.url) as sender:
        for number in range(50):
            sender.publish(KEY, (replace(alert, description=f"{number} errors"),))
        wait_until(lambda: server.asked, deadline_s=DEADLINE_S, what="the alert")
        sender.publish(KEY, (replace(alert, summary="was rolled back"),))
        wait_until(lambda: len(server.asked) > 1, deadline_s=DEADLINE_S, what="the new headline")
    summaries = [one["annotations"]["summary"] for one in sent(server)]
    assert summaries == ["is held", "was rolled back"]


def test_a_resolved_alert_is_repeated_for_a_while_and_then_forgotten(server: ScriptedServer) -> None:
    alert, other = held(), held(LaunchKey("prod", "other"))
    began = now = round(time.time(), 3)
    resolved = began + 100.0

    def of(launch: str) -> list[dict[str, Any]]:
        return [one for one in sent(server) if one["labels"]["launch"] == launch]

    def repeats() -> list[dict[str, Any]]:
        return [one for one in of("shop") if instant(one["endsAt"]) == pytest.approx(resolved, abs=0.001)]

    with sending(server.url, resend=0.1, repeat=500.0, clock=lambda: now) as sender:
        sender.publish(KEY, (alert,))
        wait_until(lambda: of("shop"), deadline_s=DEADLINE_S, what="the alert")
        now = resolved
        sender.publish(KEY, ())
        wait_until(lambda: len(repeats()) >= 2, deadline_s=DEADLINE_S, what="a repeat")
        now = resolved + 500.0
        seen = len(repeats())
        wait_until(lambda: len(repeats()) > seen, deadline_s=DEADLINE_S, what="repeats as long as was said")
        now = resolved + 501.0
        sender.publish(other.key, (other,))
        wait_until(lambda: of("other"), deadline_s=DEADLINE_S, what="the other alert")
        seen = len(of("shop"))
        wait_until(lambda: len(of("other")) >= 4, deadline_s=DEADLINE_S, what="the other's resends")
        assert len(of("shop")) == seen, "it is forgotten"
    assert all(one["startsAt"] == of("shop")[0]["startsAt"] for one in of("shop"))


def test_a_redirect_is_not_followed_and_said(server: ScriptedServer) -> None:
    failures = Failures()
    server.reply = say(http("", status=302, headers={"Location": "http://elsewhere.example/"}))
    with sending(server.url, failures=failures) as sender:
        sender.publish(KEY, (held(),))
        wait_until(lambda: failures, deadline_s=DEADLINE_S, what="the failure")
    assert "write the final URL" in str(failures[0])


def test_an_answer_that_trickles_is_cut_at_the_deadline(server: ScriptedServer) -> None:
    failures = Failures()
    server.reply = server.trickle(http(""), 1.0)
    began = time.monotonic()
    with sending(server.url, failures=failures, timeout=0.5) as sender:
        sender.publish(KEY, (held(),))
        wait_until(lambda: failures, deadline_s=DEADLINE_S, what="the failure")
    assert time.monotonic() - began < ENDLESS_S
    assert "no whole answer" in str(failures[0])


def test_a_user_in_the_url_is_sent_and_never_told(server: ScriptedServer) -> None:
    failures = Failures()
    server.reply = say(http("", status=503))
    with sending(f"http://ann:s3cret%21@127.0.0.1:{server.port}/am", failures=failures) as sender:
        sender.publish(KEY, (held(),))
        wait_until(lambda: failures, deadline_s=DEADLINE_S, what="the failure")
    assert server.asked[0].path == "/am/api/v2/alerts"
    assert server.asked[0].headers["authorization"] == "Basic YW5uOnMzY3JldCE="
    assert "s3cret" not in str(failures[0])
    assert "ann" not in str(failures[0])


def test_what_is_new_at_the_stop_is_still_sent(server: ScriptedServer) -> None:
    with sending(server.url) as sender:
        sender.publish(KEY, (held(),))
    assert [one["labels"]["launch"] for one in sent(server)] == ["shop"]


def test_the_proxies_of_the_environment_are_not_asked(server: ScriptedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    with sending(server.url) as sender:
        sender.publish(KEY, (held(),))
        wait_until(lambda: server.asked, deadline_s=DEADLINE_S, what="the alert")
    assert datetime.now(UTC).timestamp() < instant(sent(server)[0]["endsAt"])


# Whether alerts get through


@contextmanager
def checking(*urls: str, **options: Any) -> Iterator[DeliveryCheck]:
    check = DeliveryCheck(urls, **{"each": 0.05, **options})
    try:
        yield check
    finally:
        check.stop()


def until_problem(check: DeliveryCheck, words: str) -> str:
    """Its problem once it holds these words; without words, once there is none."""

    def told() -> list[str]:
        problem = check.problem()
        return [problem] if (words in problem if words else not problem) else []

    (problem,) = wait_until(told, deadline_s=DEADLINE_S, what=f"the problem {words!r}")
    return problem


def fire(alertmanager: Alertmanager, **labels: str) -> None:
    """Let an alert fire there, as Prometheus does."""
    with checking(alertmanager.url) as check:
        check._doors[0].post([{"labels": labels}])


def test_alerts_get_through_where_every_alertmanager_shows_the_alert_that_always_fires(
    alertmanager_factory: AlertmanagerFactory,
) -> None:
    one, other = alertmanager_factory(), alertmanager_factory()
    with checking(one.url, other.url) as check:
        assert check.configured
        assert check.problem() == ALERTING_NOT_KNOWN
        until_problem(check, f"at {one.address} does not show")
        fire(one, alertname="Watchdog", severity="none")
        problem = until_problem(check, f"at {other.address} does not show")
        wait_until(lambda: one.address not in check.problem(), deadline_s=DEADLINE_S, what="the first one to be fine")
        assert 'alertname="Watchdog"' in problem
        assert "let Prometheus send it there" in problem
        fire(other, alertname="Watchdog", severity="none")
        until_problem(check, "")
        with other.stopped():
            assert "Connection refused" in until_problem(check, f"at {other.address} did not show its alerts")
        until_problem(check, f"at {other.address} does not show")


def test_the_alert_that_always_fires_may_have_another_name(alertmanager: Alertmanager) -> None:
    fire(alertmanager, alertname="Watchdog", team="other")
    fire(alertmanager, alertname="DeadMansSwitch", team='a "b" \\ é')
    with checking(alertmanager.url, watchdog={"alertname": "DeadMansSwitch", "team": 'a "b" \\ é'}) as check:
        until_problem(check, "")
    with checking(alertmanager.url, watchdog={"alertname": "DeadMansSwitch", "team": "b"}) as check:
        until_problem(check, 'alertname="DeadMansSwitch", team="b"')


def test_without_an_alertmanager_there_is_no_problem_and_nothing_is_configured() -> None:
    with checking() as check:
        assert not check.configured
        assert check.problem() == ""


def test_it_looks_once_in_its_time_however_often_it_is_asked_and_never_unasked(server: ScriptedServer) -> None:
    server.reply = say(http('[{"labels": {}}]'))
    with checking(server.url, each=30.0) as check:
        assert server.asked == []
        until_problem(check, "")
        for _ in range(1000):
            assert check.problem() == ""
        assert [(one.method, one.path.split("?")[0]) for one in server.asked] == [("GET", "/api/v2/alerts")]


def test_nobody_waits_for_an_alertmanager_that_hangs(server: ScriptedServer) -> None:
    server.reply = server.silence()
    with checking(server.url, timeout=600.0) as check:
        began = time.monotonic()
        assert check.problem() == ALERTING_NOT_KNOWN
        wait_until(lambda: server.asked, deadline_s=DEADLINE_S, what="the question")
        assert check.problem() == ALERTING_NOT_KNOWN
        assert time.monotonic() - began < ENDLESS_S
        assert len(server.asked) == 1


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (http("<html>"), "is no Alertmanager; write the URL of one"),
        (http("{}"), "is no Alertmanager"),
        (http("[" * 100_000), "is no Alertmanager"),
        (http("[]", length=500), "no whole answer"),
        (http("come back later", status=503), "did not show its alerts (HTTP 503): come back later"),
        (http("", status=302, headers={"Location": "http://elsewhere.example/"}), "write the final URL"),
    ],
)
def test_an_answer_of_another_kind_is_told_as_what_it_is(server: ScriptedServer, answer: bytes, words: str) -> None:
    server.reply = half(answer)
    with checking(server.url) as check:
        until_problem(check, words)

"""/livez, /readyz and /metrics as a kubelet and a scraper ask for them."""

from __future__ import annotations

import http.client
import socket
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from controller.health import HealthServer
from controller.telemetry import Telemetry


@dataclass
class Daemon:
    """What the server asks, as a test says it."""

    stuck: str = ""
    unready: str = ""
    port: int = 0

    def get(self, path: str, method: str = "GET", **headers: str) -> tuple[int, str, str]:
        """Code, content type and body."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, path, headers=headers)
            answer = connection.getresponse()
            return answer.status, answer.headers["Content-Type"], answer.read().decode()
        finally:
            connection.close()


@pytest.fixture(scope="module")
def served() -> Iterator[Daemon]:
    """One server for all tests: it takes half a second to stop."""
    said = Daemon()
    server = HealthServer(
        "127.0.0.1", 0, stuck=lambda: said.stuck, unready=lambda: said.unready, metrics=Telemetry().exposition
    )
    said.port = server.port
    server.start()
    yield said
    server.stop()


@pytest.fixture
def daemon(served: Daemon) -> Daemon:
    """Alive and ready, until a test says otherwise."""
    served.stuck = served.unready = ""
    return served


PLAIN = "text/plain; charset=utf-8"


def test_a_daemon_that_turns_and_has_looked_is_alive_and_ready(daemon: Daemon) -> None:
    assert daemon.get("/livez") == (200, PLAIN, "ok\n")
    assert daemon.get("/readyz?verbose") == (200, PLAIN, "ok\n")


def test_one_that_knows_nothing_yet_is_alive_but_not_ready(daemon: Daemon) -> None:
    daemon.unready = "the launches are not listed yet"
    assert daemon.get("/livez") == (200, PLAIN, "ok\n")
    assert daemon.get("/readyz") == (503, PLAIN, "the launches are not listed yet\n")


def test_one_that_is_stuck_is_neither_and_says_why(daemon: Daemon) -> None:
    daemon.stuck, daemon.unready = "the loop has not turned for 31s", "no round was made yet"
    assert daemon.get("/livez") == (503, PLAIN, "the loop has not turned for 31s\n")
    assert daemon.get("/readyz") == (503, PLAIN, "the loop has not turned for 31s\n")


def test_anything_else_is_not_found(daemon: Daemon) -> None:
    for path in ("/", "/metrics/", "/livezz", "/debug"):
        assert daemon.get(path) == (404, PLAIN, "not found\n")
    assert daemon.get("/livez", method="POST")[0] == 405


def test_metrics_come_in_the_format_that_the_scraper_asks_for(daemon: Daemon) -> None:
    code, content_type, body = daemon.get("/metrics")
    assert code == 200
    assert content_type.startswith("text/plain; version=")
    assert "# TYPE autoadvance_decisions_total counter" in body
    accept = "application/openmetrics-text;version=1.0.0;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
    code, content_type, body = daemon.get("/metrics", Accept=accept)
    assert code == 200
    assert content_type.startswith("application/openmetrics-text; version=1.0.0")
    assert body.endswith("# EOF\n")


def test_a_client_that_says_nothing_keeps_nobody_waiting(daemon: Daemon) -> None:
    with socket.create_connection(("127.0.0.1", daemon.port), timeout=60) as silent:
        assert daemon.get("/livez")[0] == 200
        silent.sendall(b"GET /livez")
        assert daemon.get("/readyz")[0] == 200
        silent.sendall(b" HTTP/1.1\r\nHost: here\r\n\r\n")
        assert silent.recv(64).startswith(b"HTTP/1.0 200 "), "it was still waited for when the others were answered"


def test_an_address_in_use_is_an_error(daemon: Daemon) -> None:
    with pytest.raises(OSError, match="Address already in use"):
        HealthServer("127.0.0.1", daemon.port, stuck=str, unready=str, metrics=Telemetry().exposition)


def test_an_address_of_ipv6_is_listened_on() -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no IPv6 loopback; turn it on to run this test")
    server = HealthServer("::1", 0, stuck=str, unready=str, metrics=Telemetry().exposition)
    server.start()
    try:
        connection = http.client.HTTPConnection("::1", server.port, timeout=60)
        connection.request("GET", "/livez")
        assert connection.getresponse().status == 200
        connection.close()
    finally:
        server.stop()

"""What Alertmanager posts makes the daemon look, and nothing else; whoever may not post costs nothing."""

from __future__ import annotations

import json
import socket
import ssl
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPSConnection
from pathlib import Path
from typing import Any

import pytest
import trustme

from controller.core.plan import parse
from controller.core.status import State, Status
from controller.core.world import Launch, LaunchKey
from controller.health import WEBHOOK_PATH, HealthServer
from controller.telemetry import Telemetry
from controller.tls import Certificates
from controller.webhook import LARGEST_BODY, SAME_SECONDS, TELL_EACH_SECONDS, Webhook, concerned
from tests.core.builders import document, ramp, target
from tests.realparts.fixtures import AlertmanagerFactory
from tests.realparts.server import http, wait_until

TOKEN = "s3cret"


def launch(name: str, service: str = "shop", state: State = State.PROGRESSING, namespace: str = "prod") -> Launch:
    """A launch of one service."""
    manifest = document(targets=[{**target("main"), "service": service}], phases=[ramp()])
    manifest["metadata"] = {"name": name, "namespace": namespace}
    return Launch(
        key=LaunchKey(namespace, name),
        uid=name,
        resource_version="1",
        generation=1,
        created=0.0,
        plan=parse(manifest),
        status=Status(state=state),
        annotations={},
    )


def alert(fingerprint: str = "f1", status: str = "firing", **labels: str) -> dict[str, Any]:
    return {
        "status": status,
        "labels": {"alertname": "Down", **labels},
        "annotations": {},
        "startsAt": "2026-01-01T00:00:00Z",
        "endsAt": "0001-01-01T00:00:00Z",
        "fingerprint": fingerprint,
        "added in a later version": {"any": ["thing"]},
    }


def notification(*alerts: dict[str, Any], **fields: Any) -> bytes:
    return json.dumps({"version": "4", "groupKey": "{}", "alerts": list(alerts), **fields}).encode()


class Door:
    """The daemon's listener with a webhook, and what came through."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "token"
        self.file.write_text(f"{TOKEN}\n")
        self.looked: list[tuple[str, ...]] = []
        self.refused: list[str] = []
        self.now = 1000.0
        self.known = [launch("eu"), launch("us", "pay"), launch("old", state=State.SUCCEEDED)]
        self.webhook = Webhook(self.file, lambda: self.known, self._look, self.refused.append, clock=lambda: self.now)

    def _look(self, keys: Iterable[LaunchKey]) -> None:
        self.looked.append(tuple(key.name for key in keys))

    def post(self, body: bytes, *, path: str = WEBHOOK_PATH, method: str = "POST", **headers: str) -> tuple[int, str]:
        """Code and body of the answer."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(method, path, body, {"Authorization": f"Bearer {TOKEN}", **headers})
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    port = 0


@pytest.fixture
def door(tmp_path: Path) -> Iterator[Door]:
    opened = Door(tmp_path)
    server = HealthServer(
        "127.0.0.1",
        0,
        stuck=lambda: "",
        unready=lambda: "",
        metrics=Telemetry().exposition,
        webhook=opened.webhook,
        request_seconds=0.6,
        whole_seconds=2.0,
    )
    opened.port = server.port
    server.start()
    yield opened
    server.stop()


def test_a_notification_has_the_launches_looked_at_that_it_names_and_is_answered_at_once(door: Door) -> None:
    began = time.monotonic()
    assert door.post(notification(alert(namespace="prod", launch="us"), newField=1)) == (200, "ok\n")
    assert time.monotonic() - began < 5
    assert door.looked == [("us",)]


def test_a_real_alertmanager_is_understood(door: Door, alertmanager_factory: AlertmanagerFactory) -> None:
    receiver = {
        "url": f"http://127.0.0.1:{door.port}{WEBHOOK_PATH}",
        "http_config": {"authorization": {"credentials_file": str(door.file)}},
    }
    route = {"receiver": "door", "group_by": ["..."], "group_wait": "0s", "group_interval": "1s"}
    config = {"route": route, "receivers": [{"name": "door", "webhook_configs": [receiver]}]}
    alertmanager = alertmanager_factory(config=config)
    labels = {"alertname": "Down", "severity": "critical", "namespace": "prod", "service": "pay"}
    answer = http().post(f"{alertmanager.url}/api/v2/alerts", json=[{"labels": labels}], timeout=30)
    answer.raise_for_status()
    wait_until(lambda: door.looked, deadline_s=60, what="the notification")
    assert door.looked == [("us",)]
    assert door.refused == []


def test_what_names_no_launch_may_concern_every_one_under_way(door: Door) -> None:
    assert door.post(notification())[0] == 200
    assert door.post(notification(alert("f2", severity="critical")))[0] == 200
    assert door.post(notification(alert("f3", launch="us"), truncatedAlerts=3))[0] == 200
    assert door.looked == [("eu", "us"), ("eu", "us")]


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        ({"launch": "eu"}, ["eu"]),
        ({"service": "pay"}, ["us"]),
        ({"service": "unknown"}, []),
        ({"namespace": "prod"}, ["eu", "us"]),
        ({"namespace": "test", "launch": "eu"}, []),
        ({"launch": "old"}, []),
        ({"launch": ["eu"]}, []),
        ({}, ["eu", "us"]),
    ],
)
def test_launches_are_named_by_their_labels_or_not_at_all(labels: dict[str, Any], names: list[str]) -> None:
    known = [launch("eu"), launch("us", "pay"), launch("old", state=State.SUCCEEDED)]
    assert [key.name for key in concerned([labels], known)] == names


def test_the_same_notification_of_a_second_replica_is_no_news(door: Door) -> None:
    for _ in range(3):
        assert door.post(notification(alert()))[0] == 200
    assert len(door.looked) == 1
    door.post(notification(alert(status="resolved")))
    assert len(door.looked) == 2
    door.now += SAME_SECONDS
    door.post(notification(alert()))
    assert len(door.looked) == 3


@pytest.mark.parametrize("header", ["", "Bearer", "Bearer wrong", f"Basic {TOKEN}", TOKEN, f"Bearer {TOKEN}x"])
def test_without_the_right_token_nothing_is_looked_at(door: Door, header: str) -> None:
    assert door.post(notification(alert()), Authorization=header)[0] == 401
    assert door.looked == []
    assert door.refused == ["a notification without the right token"]


def test_the_token_is_read_again_and_an_empty_or_missing_file_lets_nobody_in(door: Door) -> None:
    door.file.write_text("another")
    assert door.post(notification(alert()))[0] == 401
    assert door.post(notification(alert()), Authorization="Bearer another")[0] == 200
    door.file.write_text("\n")
    door.now += TELL_EACH_SECONDS
    assert door.post(notification(alert()), Authorization="Bearer ")[0] == 401
    assert door.refused[-1] == f"the token file {door.file} is empty"
    door.file.unlink()
    door.now += TELL_EACH_SECONDS
    assert door.post(notification(alert()), Authorization="Bearer another")[0] == 401
    assert door.refused[-1].startswith("the token file cannot be read")


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"null", b'{"alerts": {}}', b'{"alerts": [1]}', b"\xff\xfe", b"[" * 100_000],
)
def test_what_is_no_notification_is_refused_and_looked_at_by_nobody(door: Door, body: bytes) -> None:
    code, reason = door.post(body)
    assert code == 400
    assert reason.startswith("the body is no")
    assert door.looked == []


def test_odd_labels_do_no_harm(door: Door) -> None:
    odd = {"labels": "none", "fingerprint": {"a": 1}}
    assert door.post(notification(odd, {"labels": {"service": {"a": []}}}))[0] == 200


def test_a_body_that_is_too_large_is_refused_before_it_is_read(door: Door) -> None:
    assert door.post(b"x" * (LARGEST_BODY + 1))[0] == 413
    assert door.looked == []


def test_a_body_without_a_length_is_refused(door: Door) -> None:
    with socket.create_connection(("127.0.0.1", door.port), timeout=30) as client:
        head = f"POST {WEBHOOK_PATH} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n"
        client.sendall(f"{head}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n".encode())
        assert client.recv(100).split(b" ")[1] == b"411"


def test_only_a_post_is_a_notification(door: Door) -> None:
    assert door.post(b"", method="GET")[0] == 405
    assert door.post(b"", path="/webhook/other")[0] == 404
    assert door.post(b"", method="GET", path="/livez")[0] == 200


def test_a_slow_client_is_cut_off_and_keeps_nobody_waiting(door: Door) -> None:
    with socket.create_connection(("127.0.0.1", door.port), timeout=30) as client:
        head = f"POST {WEBHOOK_PATH} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\nContent-Length: 9\r\n\r\n"
        client.sendall(head.encode() + b"{")
        assert door.post(notification(alert()))[0] == 200
        assert client.recv(100).split(b" ")[1] == b"408"
    assert door.looked == [("eu", "us")]


def test_whoever_trickles_the_headers_is_cut_off(door: Door) -> None:
    with socket.create_connection(("127.0.0.1", door.port), timeout=0.1) as client:
        client.sendall(b"POST / HTTP/1.1\r\nX-Slow: ")

        def gone() -> bool:
            try:
                client.sendall(b"x")
                return client.recv(100) == b""
            except TimeoutError:
                return False
            except OSError:
                return True

        wait_until(gone, deadline_s=30, what="the end of the connection")


def test_without_a_webhook_there_is_no_such_path() -> None:
    server = HealthServer("127.0.0.1", 0, stuck=lambda: "", unready=lambda: "", metrics=Telemetry().exposition)
    server.start()
    try:
        connection = HTTPConnection("127.0.0.1", server.port, timeout=30)
        connection.request("POST", WEBHOOK_PATH, notification(alert()))
        assert connection.getresponse().status == 404
        connection.close()
    finally:
        server.stop()


@dataclass
class Secure:
    """The listener over TLS, with a webhook that wants a client certificate."""

    authority: trustme.CA
    folder: Path
    looked: list[tuple[str, ...]]
    port: int = 0

    def files(self) -> dict[str, str]:
        """The paths of ca_file, cert_file and key_file of a client."""
        client = self.authority.issue_cert("alertmanager.example")
        paths = {name: str(self.folder / f"client-{name}") for name in ("ca_file", "cert_file", "key_file")}
        self.authority.cert_pem.write_to_path(paths["ca_file"])
        client.cert_chain_pems[0].write_to_path(paths["cert_file"])
        client.private_key_pem.write_to_path(paths["key_file"])
        return paths

    def ask(self, method: str, path: str, body: bytes = b"", *, client: trustme.CA | None, **headers: str) -> int:
        """The code of the answer; ``client`` signs the certificate that is shown."""
        context = ssl.create_default_context()
        self.authority.configure_trust(context)
        if client is not None:
            client.issue_cert("somebody.example").configure_cert(context)
        connection = HTTPSConnection("127.0.0.1", self.port, timeout=30, context=context)
        try:
            connection.request(method, path, body, headers)
            return connection.getresponse().status
        finally:
            connection.close()


def certificate_of(authority: trustme.CA, folder: Path) -> tuple[str, str]:
    """The paths of a certificate and its key for the listener."""
    issued = authority.issue_cert("127.0.0.1")
    cert, key = folder / "cert.pem", folder / "key.pem"
    issued.cert_chain_pems[0].write_to_path(str(cert))
    issued.private_key_pem.write_to_path(str(key))
    return str(cert), str(key)


@pytest.fixture(params=[False, True], ids=["certificate", "certificate and token"])
def secure(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Secure]:
    token = tmp_path / "token"
    token.write_text(TOKEN)
    made = Secure(trustme.CA(), tmp_path, [])
    authority_file = tmp_path / "ca.pem"
    made.authority.cert_pem.write_to_path(str(authority_file))
    webhook = Webhook(
        token if request.param else None,
        lambda: [launch("eu")],
        lambda keys: made.looked.append(tuple(key.name for key in keys)),
        lambda _: None,
        certificate=True,
    )
    server = HealthServer(
        "127.0.0.1",
        0,
        stuck=lambda: "",
        unready=lambda: "",
        metrics=Telemetry().exposition,
        webhook=webhook,
        certificates=Certificates(*certificate_of(made.authority, tmp_path), str(authority_file)),
        request_seconds=0.6,
        whole_seconds=2.0,
    )
    made.port = server.port
    server.start()
    yield made
    server.stop()


def test_only_who_shows_a_certificate_of_the_authority_may_post_and_a_token_besides_where_one_is_given(
    secure: Secure, request: pytest.FixtureRequest
) -> None:
    body, right = notification(alert("f1")), {"Authorization": f"Bearer {TOKEN}"}
    assert secure.ask("POST", WEBHOOK_PATH, body, client=None, **right) == 403
    with pytest.raises(OSError, match=r"(?i)ssl|tls|reset|pipe|abort"):
        secure.ask("POST", WEBHOOK_PATH, body, client=trustme.CA(), **right)
    wanted = "token" in request.node.callspec.id
    assert secure.ask("POST", WEBHOOK_PATH, body, client=secure.authority) == (401 if wanted else 200)
    assert secure.ask("POST", WEBHOOK_PATH, notification(alert("f2")), client=secure.authority, **right) == 200
    assert secure.looked == [("eu",)] * (1 if wanted else 2)


def test_probes_and_scrapers_need_no_certificate_and_nobody_waits_for_a_slow_handshake(secure: Secure) -> None:
    with socket.create_connection(("127.0.0.1", secure.port)) as silent:
        for path in ("/livez", "/readyz", "/metrics"):
            assert secure.ask("GET", path, client=None) == 200
        silent.settimeout(30)
        assert silent.recv(1) == b"", "it is cut off"


def test_a_real_alertmanager_shows_its_certificate(secure: Secure, alertmanager_factory: AlertmanagerFactory) -> None:
    receiver = {
        "url": f"https://127.0.0.1:{secure.port}{WEBHOOK_PATH}",
        "http_config": {
            "tls_config": secure.files(),
            "authorization": {"credentials": TOKEN},
        },
    }
    route = {"receiver": "door", "group_by": ["..."], "group_wait": "0s", "group_interval": "1s"}
    alertmanager = alertmanager_factory(
        config={"route": route, "receivers": [{"name": "door", "webhook_configs": [receiver]}]}
    )
    labels = {"alertname": "Down", "severity": "critical", "namespace": "prod"}
    answer = http().post(f"{alertmanager.url}/api/v2/alerts", json=[{"labels": labels}], timeout=30)
    answer.raise_for_status()
    wait_until(lambda: secure.looked, deadline_s=60, what="the notification")
    assert secure.looked == [("eu",)]


def test_a_new_certificate_is_served_without_a_restart_and_half_of_one_never(tmp_path: Path) -> None:
    old, new = trustme.CA(), trustme.CA()
    server = HealthServer(
        "127.0.0.1",
        0,
        stuck=lambda: "",
        unready=lambda: "",
        metrics=Telemetry().exposition,
        certificates=Certificates(*certificate_of(old, tmp_path)),
    )
    server.start()
    try:
        assert Secure(old, tmp_path, [], server.port).ask("GET", "/livez", client=None) == 200
        (tmp_path / "cert.pem").write_text("half")
        assert Secure(old, tmp_path, [], server.port).ask("GET", "/livez", client=None) == 200
        (tmp_path / "key.pem").unlink()
        assert Secure(old, tmp_path, [], server.port).ask("GET", "/livez", client=None) == 200
        certificate_of(new, tmp_path)
        assert Secure(new, tmp_path, [], server.port).ask("GET", "/livez", client=None) == 200
    finally:
        server.stop()
    with pytest.raises(OSError, match=r"(?i)pem|no such file|ssl"):
        Certificates(str(tmp_path / "none.pem"), str(tmp_path / "key.pem"))

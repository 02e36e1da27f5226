"""An HTTP front before a real Prometheus that passes everything through, until it is told to do something else.

What a real Prometheus gives is altered on the way, so that a faulty answer differs from a good one in the fault alone.
"""

from __future__ import annotations

import contextlib
import functools
import json
import socket
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple, Self
from urllib.parse import parse_qs, urlencode

from tests.realparts.server import http, wait_until

_HANGS_S = 60.0
_ASK_S = 10.0
HTML = b"<!doctype html><html><title>502 Bad Gateway</title></html>"

Change = Callable[[dict[str, Any]], None]


class Reply(NamedTuple):
    """An answer: status, content type and body; how many bytes of it are sent, and how many seconds lie between two."""

    status: int
    content_type: str
    body: bytes
    sent: int | None = None
    pause_s: float = 0.0


def _json(document: object, status: int = 200) -> Reply:
    return Reply(status, "application/json", json.dumps(document).encode())


def _failure(status: int, words: str) -> Reply:
    return _json({"status": "error", "errorType": "execution", "error": words}, status)


def _each_value(text: str, document: dict[str, Any]) -> None:
    for series in document["data"]["result"]:
        series["values"] = [[at, text] for at, _ in series["values"]]


def _empty(document: dict[str, Any]) -> None:
    document["data"]["result"] = []


def _twice(document: dict[str, Any]) -> None:
    result = document["data"]["result"]
    result += [{**series, "metric": {**series["metric"], "replica": "b"}} for series in result]


def _warned(document: dict[str, Any]) -> None:
    document["warnings"] = ["a store of the query's range did not answer"]


@functools.cache
def _two_hundred_thousand() -> bytes:
    now = time.time()
    result = [{"metric": {"pod": f"pod-{number}"}, "values": [[now, "1"]]} for number in range(200_000)]
    return json.dumps({"status": "success", "data": {"resultType": "matrix", "result": result}}).encode()


CHANGES: dict[str, Change] = {
    "NaN": lambda document: _each_value("NaN", document),
    "+Inf": lambda document: _each_value("+Inf", document),
    "empty vector": _empty,
    "two series": _twice,
    "warnings": _warned,
}
FAULTS = (
    "refused", "hanging", "500", "422", "HTML", *CHANGES, "200,000 series", "one byte a second", "stale", "half a body",
)  # fmt: skip


class Front:
    """`with Front(prometheus.url) as front: front.fault = "NaN"`; an empty fault passes everything through."""

    def __init__(self, upstream: str) -> None:
        self._upstream = upstream
        self._fault = ""
        self._since = 0.0
        self.asked = 0
        self.given_up = 0
        """How many hanging questions the client has ended."""
        self._over = threading.Event()
        self._server = self._listen(0)
        self.port = int(self._server.server_address[1])

    @property
    def url(self) -> str:
        """The base URL to ask."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def fault(self) -> str:
        """What is done to every answer now; one of FAULTS, or empty."""
        return self._fault

    @fault.setter
    def fault(self, fault: str) -> None:
        if fault and fault not in FAULTS:
            raise ValueError(f"{fault!r} is no fault; write one of {', '.join(FAULTS)}")
        was, self._fault, self._since = self._fault, fault, time.time()
        if fault == "refused":
            self._close()
        elif was == "refused":
            self._server = wait_until(lambda: self._listen(self.port), deadline_s=60, what="the front's port")
            self._serve()

    def __enter__(self) -> Self:
        self._serve()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        if self._fault != "refused":
            self._close()

    def _serve(self) -> None:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), name="front", daemon=True).start()

    def _close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _listen(self, port: int) -> ThreadingHTTPServer:
        front = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                # A connection that was open before the fault is as refused as a new one.
                self.close_connection = True
                front.asked += 1
                if front.fault == "hanging":
                    self._hang()
                if front.fault in ("refused", "hanging"):
                    return
                with contextlib.suppress(OSError):
                    self._send(front._reply(self.path, body))

            def _hang(self) -> None:
                self.connection.settimeout(_HANGS_S)
                with contextlib.suppress(OSError):
                    # Nothing more is sent by a client that waits; an end is one that has given up.
                    front.given_up += not self.connection.recv(1)

            def _send(self, reply: Reply) -> None:
                self.send_response(reply.status)
                self.send_header("Content-Type", reply.content_type)
                self.send_header("Content-Length", str(len(reply.body)))
                self.send_header("Connection", "close")
                self.end_headers()
                if not reply.pause_s:
                    self.wfile.write(reply.body[: reply.sent])
                    return
                for byte in reply.body:
                    self.wfile.write(bytes([byte]))
                    if front._over.wait(reply.pause_s):
                        return

            def log_message(self, *_: object) -> None:
                """Questions are not worth a line."""

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 64

            def handle_error(self, *_: object) -> None:
                """Clients that hang up are what is wanted here."""

        server = Server(("127.0.0.1", port), Handler)
        server.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return server

    def _reply(self, path: str, body: bytes) -> Reply:
        fault = self._fault
        if fault == "500":
            return _failure(500, "the query engine is out of order")
        if fault == "422":
            return _failure(422, "query processing would load too many samples into memory")
        if fault == "HTML":
            return Reply(200, "text/html", HTML)
        if fault == "200,000 series":
            return Reply(200, "application/json", _two_hundred_thousand())
        if fault == "stale":
            body = self._before_the_fault(body)
        status, document = self._pass_on(path, body)
        if fault in CHANGES:
            CHANGES[fault](document)
        reply = _json(document, status)
        if fault == "half a body":
            return reply._replace(sent=len(reply.body) // 2)
        return reply._replace(pause_s=1.0) if fault == "one byte a second" else reply

    def _pass_on(self, path: str, body: bytes) -> tuple[int, dict[str, Any]]:
        with http() as session:
            headers = {"Content-Type": "application/x-www-form-urlencoded"}
            answer = session.post(f"{self._upstream}{path}", data=body, headers=headers, timeout=_ASK_S)
            return answer.status_code, answer.json()

    def _before_the_fault(self, body: bytes) -> bytes:
        """The question as if it had been asked when the fault began: what a cache that is stuck answers."""
        form = {name: values[0] for name, values in parse_qs(body.decode()).items()}
        late = max(0.0, float(form["end"]) - self._since)
        form |= {name: f"{float(form[name]) - late:.3f}" for name in ("start", "end")}
        return urlencode(form).encode()

"""/metrics, /livez and /readyz over HTTP, and the door for notifications of Alertmanager."""

from __future__ import annotations

import contextlib
import socket
import ssl
import sys
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from controller.tls import Certificates, certified
from controller.webhook import LARGEST_BODY, Webhook

REQUEST_SECONDS = 5.0
WHOLE_SECONDS = 15.0
WEBHOOK_PATH = "/webhook/alertmanager"
_PIECE = 64 * 1024
_PLAIN = "text/plain; charset=utf-8"


class HealthServer:
    """Serves what the daemon says of itself. ``stuck`` and ``unready`` return a reason, or nothing.

    ``webhook`` takes what is posted to WEBHOOK_PATH; without it that path is not found. With ``certificates`` all is
    served over TLS. ``request_seconds`` is for each part of a request and for all of a body, ``whole_seconds`` for a
    connection, however slowly its bytes come.

    Raises:
        OSError: the address cannot be listened on.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        stuck: Callable[[], str],
        unready: Callable[[], str],
        metrics: Callable[[str], tuple[bytes, str]],
        webhook: Webhook | None = None,
        certificates: Certificates | None = None,
        request_seconds: float = REQUEST_SECONDS,
        whole_seconds: float = WHOLE_SECONDS,
    ) -> None:
        class Handler(BaseHTTPRequestHandler):
            timeout = request_seconds

            def setup(self) -> None:
                super().setup()
                # A socket's own timeout starts anew with every byte.
                self._cut = threading.Timer(whole_seconds, _cut, (self.connection,))
                self._cut.daemon = True
                self._cut.start()
                if isinstance(self.connection, ssl.SSLSocket):
                    try:
                        self.connection.do_handshake()
                    except BaseException:
                        self._cut.cancel()
                        raise

            def finish(self) -> None:
                self._cut.cancel()
                super().finish()

            def do_POST(self) -> None:
                path = self.path.split("?")[0]
                if path in ("/metrics", "/livez", "/readyz"):
                    self._answer(405, b"this is read\n", _PLAIN, Allow="GET")
                    return
                if path != WEBHOOK_PATH or webhook is None:
                    self._answer(404, b"not found\n", _PLAIN)
                    return
                length = self.headers.get("Content-Length", "")
                size = int(length) if length.isdecimal() and len(length) < 20 else -1
                if not webhook.admits_peer(certified=certified(self.connection)):
                    webhook.tell("a notification without a client certificate of --webhook-client-ca-file")
                    self._refuse(403, "the client certificate is missing; send one of the webhook's authority", size)
                elif not webhook.admits(self.headers.get("Authorization", "")):
                    webhook.tell("a notification without the right token")
                    self._refuse(401, "the token is not the right one; send Authorization: Bearer TOKEN", size)
                elif size < 0:
                    self._refuse(411, "the length is missing; send Content-Length", 0)
                elif size > LARGEST_BODY:
                    webhook.tell(f"a notification of {size} bytes; {LARGEST_BODY} are taken, write max_alerts")
                    self._refuse(413, f"more than {LARGEST_BODY} bytes; write max_alerts for this receiver", size)
                elif (body := self._body(size)) is None:
                    self._refuse(408, "the body did not come in time", 0)
                elif problem := webhook.take(body):
                    webhook.tell(f"a notification that is none: {problem}")
                    self._refuse(400, problem, 0)
                else:
                    self._answer(200, b"ok\n", _PLAIN)

            def _refuse(self, code: int, reason: str, unread: int) -> None:
                self._answer(code, reason.encode() + b"\n", _PLAIN)
                # Who is still sending when the connection closes loses the answer.
                if unread > 0:
                    self._body(min(unread, 2 * LARGEST_BODY))

            def _body(self, size: int) -> bytes | None:
                """All of it, or None where it does not come in time."""
                until = time.monotonic() + request_seconds
                pieces: list[bytes] = []
                while size > 0:
                    left = until - time.monotonic()
                    try:
                        self.connection.settimeout(max(0.001, left))
                        piece = self.rfile.read1(min(size, _PIECE))
                    except OSError:
                        return None
                    if not piece or left <= 0:
                        return None
                    pieces.append(piece)
                    size -= len(piece)
                self.connection.settimeout(request_seconds)
                return b"".join(pieces)

            def do_GET(self) -> None:
                path = self.path.split("?")[0]
                if path == "/metrics":
                    body, content_type = metrics(self.headers.get("Accept", ""))
                    self._answer(200, body, content_type)
                elif path == "/livez":
                    self._health(stuck())
                elif path == "/readyz":
                    self._health(stuck() or unready())
                elif path == WEBHOOK_PATH and webhook is not None:
                    self._answer(405, b"notifications are posted\n", _PLAIN, Allow="POST")
                else:
                    self._answer(404, b"not found\n", _PLAIN)

            def _health(self, reason: str) -> None:
                self._answer(503 if reason else 200, (reason or "ok").encode() + b"\n", _PLAIN)

            def _answer(self, code: int, body: bytes, content_type: str, **headers: str) -> None:
                self.send_response(code)
                if code == 401:
                    headers = {"WWW-Authenticate": "Bearer"}
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Type", content_type)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class' name
                """Requests for health are not worth a line."""

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def get_request(self) -> tuple[socket.socket, Any]:
                connection, address = super().get_request()
                return (connection if certificates is None else certificates.wrap(connection)), address

            def handle_error(self, request: Any, client_address: Any) -> None:
                """Who goes away in the middle of an answer is not worth a line."""
                if not isinstance(sys.exception(), OSError):
                    super().handle_error(request, client_address)

            address_family = socket.AF_INET6 if ":" in host else socket.AF_INET

        self._server = Server((host, port), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, name="health", daemon=True)

    @property
    def port(self) -> int:
        """The port that is listened on."""
        return int(self._server.server_address[1])

    def start(self) -> None:
        """Begin to serve."""
        self._thread.start()

    def stop(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()


def _cut(connection: socket.socket) -> None:
    """End a connection that another thread may be waiting on."""
    with contextlib.suppress(OSError):
        socket.socket.shutdown(connection, socket.SHUT_RDWR)  # the socket's own, which leaves a TLS layer's state alone

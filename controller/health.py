"""/metrics, /livez and /readyz over HTTP."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

REQUEST_SECONDS = 5.0


class HealthServer:
    """Serves what the daemon says of itself. ``stuck`` and ``unready`` return a reason, or nothing.

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
    ) -> None:
        class Handler(BaseHTTPRequestHandler):
            timeout = REQUEST_SECONDS

            def do_GET(self) -> None:
                path = self.path.split("?")[0]
                if path == "/metrics":
                    body, content_type = metrics(self.headers.get("Accept", ""))
                    self._answer(200, body, content_type)
                elif path == "/livez":
                    self._health(stuck())
                elif path == "/readyz":
                    self._health(stuck() or unready())
                else:
                    self._answer(404, b"not found\n", "text/plain; charset=utf-8")

            def _health(self, reason: str) -> None:
                self._answer(503 if reason else 200, (reason or "ok").encode() + b"\n", "text/plain; charset=utf-8")

            def _answer(self, code: int, body: bytes, content_type: str) -> None:
                self.send_response(code)
                self.send_header("Content-Type", content_type)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class' name
                """Requests for health are not worth a line."""

        class Server(ThreadingHTTPServer):
            daemon_threads = True
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

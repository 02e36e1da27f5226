"""An HTTP server that answers exactly what a test says, byte for byte, and keeps what it was asked.

For the answers that a real Prometheus cannot be made to give: warnings, half a body, one byte a second, ...
"""

import contextlib
import gzip
import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from email.utils import formatdate
from typing import Any, Self
from urllib.parse import parse_qs


@dataclass(frozen=True)
class Asked:
    """One request as it arrived; ``headers`` by lower-case name."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def form(self) -> dict[str, str]:
        return {name: values[0] for name, values in parse_qs(self.body.decode()).items()}


Reply = Callable[[Asked], Iterator[bytes]]
"""The bytes to send, piece by piece; the connection stays open after the last unless an OSError is raised."""


def http(
    body: bytes | str,
    *,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
    length: int | None = None,
    date: float | None = None,
    content_type: str = "application/json",
) -> bytes:
    """A whole HTTP answer. ``length`` is the Content-Length to claim instead of the true one; ``date`` a Unix time."""
    content = body.encode() if isinstance(body, str) else body
    fields = {
        "Content-Type": content_type,
        **({} if date is None else {"Date": formatdate(date, usegmt=True)}),
        "Content-Length": str(len(content) if length is None else length),
        **(headers or {}),
    }
    lines = [f"HTTP/1.1 {status} Scripted", *(f"{name}: {value}" for name, value in fields.items()), "", ""]
    return "\r\n".join(lines).encode() + content


def matrix(series: Sequence[Mapping[str, Any]], **beside: Any) -> str:
    """A range query's JSON; ``beside`` goes next to ``data`` (warnings, isPartial)."""
    return json.dumps({"status": "success", "data": {"resultType": "matrix", "result": list(series)}, **beside})


def say(*pieces: bytes) -> Reply:
    """Send these pieces at once."""

    def reply(_asked: Asked) -> Iterator[bytes]:
        yield from pieces

    return reply


def failure(status: int, words: str, *, headers: Mapping[str, str] | None = None) -> Reply:
    """An error as Prometheus words it."""
    text = json.dumps({"status": "error", "errorType": "scripted", "error": words})
    return say(http(text, status=status, headers=headers))


def half(content: bytes) -> Reply:
    """Send this much, then close the connection in the middle."""

    def reply(_asked: Asked) -> Iterator[bytes]:
        yield content
        raise ConnectionError("cut here")

    return reply


def gzipped_zeros(megabytes: int) -> Reply:
    """A JSON string of so many million spaces, packed a thousandfold."""
    return say(http(gzip.compress(b" " * 1_000_000 * megabytes, 6), headers={"Content-Encoding": "gzip"}))


class ScriptedServer:
    """Listens on a free loopback port; ``reply`` makes each answer, ``asked`` what came in."""

    def __init__(self, reply: Reply | None = None, *, context: ssl.SSLContext | None = None) -> None:
        self.reply: Reply = reply or say(http(matrix([])))
        self.asked: list[Asked] = []
        self.connections = 0
        self._context = context
        self._ending = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._threads: list[threading.Thread] = []
        self._open: set[socket.socket] = set()

    @property
    def port(self) -> int:
        port: int = self._listener.getsockname()[1]
        return port

    @property
    def url(self) -> str:
        return f"{'https' if self._context else 'http'}://127.0.0.1:{self.port}"

    def trickle(self, content: bytes, pause_s: float) -> Reply:
        """One byte at a time, with a pause after each; ends early when the server does."""

        def reply(_asked: Asked) -> Iterator[bytes]:
            for byte in content:
                yield bytes([byte])
                if self._ending.wait(pause_s):
                    return

        return reply

    def silence(self, first: bytes = b"") -> Reply:
        """Send this and then nothing, with the connection open."""

        def reply(_asked: Asked) -> Iterator[bytes]:
            yield first
            self._ending.wait()

        return reply

    def __enter__(self) -> Self:
        self._spawn(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in list(self._open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(timeout=5)

    def _spawn(self, what: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=what, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self._ending.is_set():
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            self._spawn(self._serve, connection)

    def _serve(self, connection: socket.socket) -> None:
        # Whoever asks may leave at any time; that is often what the test is about.
        with contextlib.suppress(OSError, ValueError), connection:
            self._open.add(connection)
            connection.settimeout(10)
            if self._context:
                plain, connection = connection, self._context.wrap_socket(connection, server_side=True)
                self._open ^= {plain, connection}
            with connection, connection.makefile("rb") as stream:
                while (asked := _read(stream)) is not None:
                    self.asked.append(asked)
                    for piece in self.reply(asked):
                        connection.sendall(piece)
                    if self._ending.is_set() or asked.headers.get("connection", "").lower() == "close":
                        return


def _read(stream: Any) -> Asked | None:
    first = stream.readline().decode().split()
    if len(first) != 3:
        return None
    headers: dict[str, str] = {}
    while line := stream.readline().decode().strip():
        name, _, value = line.partition(":")
        headers[name.lower()] = value.strip()
    body = stream.read(int(headers.get("content-length", "0")))
    return Asked(first[0], first[1], headers, body)

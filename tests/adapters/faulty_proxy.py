"""An HTTP proxy in front of an API server that does to chosen requests what networks and servers do.

A rule names requests (verb, path, the how manieth, or the number of a write) and a fault. What passes is recorded.
"""

import contextlib
import functools
import http.client
import io
import json
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self
from urllib.parse import parse_qs, urlsplit

import trustme

from tests.realparts.kube import KubeApiserver

WRITES = frozenset({"POST", "PUT", "PATCH", "DELETE"})
EVENTS = "/apis/events.k8s.io/"
_LONGEST_S = 600.0


@dataclass(slots=True)
class Exchange:
    """One request. ``verb`` is the method, or WATCH; ``status`` 0: no answer.

    ``write`` numbers the writes from 1, Events left out: they are written beside, in no order with the others.
    """

    verb: str
    path: str
    query: dict[str, str]
    body: bytes
    write: int = 0
    status: int = 0
    fault: str = ""


@dataclass(frozen=True, slots=True)
class Fault:
    """What happens to a request. ``before`` runs ahead of forwarding it, ``after`` once the server has answered."""

    name: str
    before: Callable[[Exchange], None] | None = None
    forward: bool = True
    after: Callable[[Exchange], None] | None = None
    answer: tuple[int, dict[str, str], bytes] | None = None
    drop: bool = False
    cut_after: int | None = None
    bytes_per_s: float | None = None


def drop_request() -> Fault:
    """The connection breaks before the server hears of it."""
    return Fault("request dropped", forward=False, drop=True)


def drop_answer() -> Fault:
    """The server does it, and the answer is lost."""
    return Fault("answer dropped", drop=True)


def hold(released: threading.Event, *, answer: bool = False) -> Fault:
    """The request (or, already carried out, its answer) waits until the event is set."""

    def wait(_: Exchange) -> None:
        released.wait(_LONGEST_S)

    return Fault("answer held", after=wait) if answer else Fault("request held", before=wait)


def delay(seconds: float) -> Fault:
    """The request is forwarded later."""
    return Fault("delayed", before=lambda _: time.sleep(seconds))


def cut_after(size: int) -> Fault:
    """The answer breaks off after so many bytes of its body."""
    return Fault("answer cut", cut_after=size)


def answer(status: int, body: object = None, **headers: str) -> Fault:
    """The server never hears of it; this is answered: JSON, or bytes as they are."""
    content = body if isinstance(body, bytes) else json.dumps(body or {"message": f"made to answer {status}"}).encode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Fault(f"answered {status}", forward=False, answer=(status, named, content))


def trickle(bytes_per_s: float) -> Fault:
    """The body of the answer comes byte by byte."""
    return Fault("answer trickled", bytes_per_s=bytes_per_s)


def call(before: Callable[[Exchange], None] | None = None, after: Callable[[Exchange], None] | None = None) -> Fault:
    """Something else happens at that moment; an ``after`` runs when the server has done it and nobody knows yet."""
    return Fault("called", before=before, after=after)


@dataclass(slots=True)
class _Rule:
    verb: str
    path: re.Pattern[str]
    nth: int | None
    write: int | None
    fault: Fault
    matched: int = 0


@dataclass
class FaultyProxy:
    """`with FaultyProxy(kube, tmp_path) as proxy: ...`; use ``proxy.kubeconfig("admin")``."""

    kube: KubeApiserver
    folder: Path
    exchanges: list[Exchange] = field(default_factory=list)

    def __post_init__(self) -> None:
        authority = trustme.CA()
        self._ca = self.folder / "proxy-ca.pem"
        authority.cert_pem.write_to_path(self._ca)
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("127.0.0.1").configure_cert(self._tls)
        self._upstream_tls = ssl.create_default_context(cafile=str(self.kube.ca_file))
        self._lock = threading.Lock()
        self._rules: list[_Rule] = []
        self._writes = 0
        self._open: set[socket.socket | None] = set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._closed = False
        threading.Thread(target=self._accept, name="faulty proxy", daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends it and everything that passes through it."""
        with self._lock:
            self._closed = True
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()

    def kubeconfig(self, identity: str = "admin") -> str:
        """The path of a kubeconfig that leads through the proxy."""
        document = json.loads(self.kube.kubeconfig(identity).read_text())
        document["clusters"][0]["cluster"] = {
            "server": f"https://127.0.0.1:{self._listener.getsockname()[1]}",
            "certificate-authority": str(self._ca),
        }
        path = self.folder / f"proxy-{identity}.json"
        path.write_text(json.dumps(document))
        return str(path)

    def when(
        self, verb: str, path: str, fault: Fault, *, nth: int | None = None, write: int | None = None
    ) -> Callable[[], None]:
        """Adds a rule and returns what removes it; the first rule that fits counts.

        ``verb``: a method, WATCH, WRITE (any write that has a number) or "*". ``path``: a pattern found anywhere in the
        path. ``nth``: only that one of the requests that fit from now on (from 1). ``write``: only the write of that
        number.
        """
        rule = _Rule(verb, re.compile(path), nth, write, fault)
        with self._lock:
            self._rules.append(rule)
        return functools.partial(self._remove, rule)

    def count(self, verb: str = "*", path: str = "") -> int:
        """How many such requests came so far."""
        with self._lock:
            return sum(_fits(verb, one) and re.search(path, one.path) is not None for one in self.exchanges)

    def cut(self) -> None:
        """Breaks every open connection."""
        with self._lock:
            opened, self._open = self._open, set()
        for one in opened:
            if one is not None:
                with contextlib.suppress(OSError):
                    # the plain socket's: another thread is reading the TLS one
                    socket.socket.shutdown(one, socket.SHUT_RDWR)

    def _keep(self, opened: socket.socket | None) -> None:
        with self._lock:
            if self._closed:
                raise OSError("the proxy is closed")
            self._open.add(opened)

    def _remove(self, rule: _Rule) -> None:
        with self._lock, contextlib.suppress(ValueError):
            self._rules.remove(rule)

    def _accept(self) -> None:
        while not self._closed:
            try:
                plain, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(plain,), name="faulty proxy connection", daemon=True).start()

    def _serve(self, plain: socket.socket) -> None:
        upstream: http.client.HTTPSConnection | None = None
        client: socket.socket | None = None
        try:
            plain.settimeout(_LONGEST_S)
            client = self._tls.wrap_socket(plain, server_side=True)
            self._keep(client)
            upstream = http.client.HTTPSConnection(
                "127.0.0.1", self.kube.port, timeout=_LONGEST_S, context=self._upstream_tls
            )
            with client.makefile("rb") as reader:
                while self._pass_one(client, reader, upstream):
                    pass
        except (OSError, http.client.HTTPException, ValueError):
            pass  # either side is gone, which is what a proxy passes on
        finally:
            with self._lock:
                self._open -= {client, upstream.sock if upstream is not None else None}
            for one in (client, upstream, plain):
                if one is not None:
                    with contextlib.suppress(OSError):
                        one.close()

    def _pass_one(
        self, client: socket.socket, reader: io.BufferedReader, upstream: http.client.HTTPSConnection
    ) -> bool:
        """One request and its answer; False when the connection is to be closed."""
        line = reader.readline().decode("latin-1")
        if not line.strip():
            return False
        method, target, _ = line.split(" ", 2)
        headers = http.client.parse_headers(reader)
        body: bytes = reader.read(int(headers.get("Content-Length") or 0))
        split = urlsplit(target)
        query = {name: values[0] for name, values in parse_qs(split.query, keep_blank_values=True).items()}
        exchange = Exchange("WATCH" if query.get("watch") == "true" else method, split.path, query, body)
        fault = self._record(exchange)
        if fault.before is not None:
            fault.before(exchange)
        if fault.forward:
            upstream.request(method, target, body or None, dict(headers.items()))
            self._keep(upstream.sock)  # or a quiet watch keeps the server from ending
            response = upstream.getresponse()
            exchange.status = response.status
            if fault.after is not None:
                fault.after(exchange)
            if fault.drop:
                response.read()
                return False
            return _relay(client, response, fault)
        if fault.answer is None:
            return False
        status, named, content = fault.answer
        exchange.status = status
        named = {"Content-Type": "application/json", "Content-Length": str(len(content)), **named}
        client.sendall(_head(status, named) + content)
        return True

    def _record(self, exchange: Exchange) -> Fault:
        with self._lock:
            if exchange.verb in WRITES and not exchange.path.startswith(EVENTS):
                self._writes += 1
                exchange.write = self._writes
            self.exchanges.append(exchange)
            for rule in self._rules:
                if not _fits(rule.verb, exchange) or not rule.path.search(exchange.path):
                    continue
                rule.matched += 1
                if rule.nth in (None, rule.matched) and rule.write in (None, exchange.write):
                    exchange.fault = rule.fault.name
                    return rule.fault
        return Fault("")


def _fits(verb: str, exchange: Exchange) -> bool:
    return verb in ("*", exchange.verb) or (verb == "WRITE" and exchange.write > 0)


def _relay(client: socket.socket, response: http.client.HTTPResponse, fault: Fault) -> bool:
    """Passes an answer on as it comes; False when it was cut."""
    skipped = {"transfer-encoding", "connection", "content-length"}
    headers = {name: value for name, value in response.getheaders() if name.lower() not in skipped}
    length = response.getheader("Content-Length")
    chunked = length is None
    headers |= {"Transfer-Encoding": "chunked"} if length is None else {"Content-Length": length}
    client.sendall(_head(response.status, headers))
    passed = 0
    for part in _parts(response, fault):
        left = len(part) if fault.cut_after is None else max(0, fault.cut_after - passed)
        piece = part[:left]
        passed += len(piece)
        if piece:
            client.sendall(b"%x\r\n%s\r\n" % (len(piece), piece) if chunked else piece)
        if len(piece) < len(part):
            return False
    if chunked:
        client.sendall(b"0\r\n\r\n")
    return True


def _parts(response: http.client.HTTPResponse, fault: Fault) -> Iterator[bytes]:
    while part := response.read1(65536):
        if fault.bytes_per_s is None:
            yield part
            continue
        for byte in part:
            time.sleep(1 / fault.bytes_per_s)
            yield bytes([byte])
    response.close()


def _head(status: int, headers: dict[str, str]) -> bytes:
    lines = [f"HTTP/1.1 {status} {http.client.responses.get(status, '')}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")

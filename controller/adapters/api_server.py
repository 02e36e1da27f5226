"""Requests to the API server: configuration, time-outs, errors, and the watches of one kind of object.

The official client loads configuration and signs requests; list, watch and errors are handled here, because its
informer has no time-outs, no back-off and no notion of being synced. Every request has a connect and a read time-out
and no hidden retries: a write that was sent twice could not be told from somebody else's.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import random
import socket
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import urllib3
from kubernetes.client.api_client import ApiClient
from kubernetes.client.configuration import Configuration
from kubernetes.client.exceptions import ApiException
from kubernetes.config.config_exception import ConfigException
from kubernetes.config.incluster_config import (
    SERVICE_CERT_FILENAME,
    SERVICE_HOST_ENV_NAME,
    SERVICE_TOKEN_FILENAME,
    InClusterConfigLoader,
)
from kubernetes.config.kube_config import load_kube_config
from pydantic import ValidationError
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import HTTPError, InsecureRequestWarning

from controller.adapters.watching import Document, ExpiredError
from controller.errors import (
    AdapterError,
    ConflictError,
    NotFoundError,
    NotLeadingError,
    RefusedError,
    UnansweredError,
)

FIELD_MANAGER = "auto-advance"
MAX_ANSWER_BYTES = 256 * 1024 * 1024
MAX_EVENT_BYTES = 16 * 1024 * 1024
_CHUNK = 65536
_JSON_PATCH = "application/json-patch+json"
_MERGE_PATCH = "application/merge-patch+json"
_JSON = "application/json"
_RENEWED_AT_MOST_EACH_S = 30.0
PODS_VALID_SECONDS = 30.0

# everything by which the official client, and urllib3 beneath it, say that there was no usable answer
_TRANSPORT = (HTTPError, http.client.HTTPException, OSError)


@dataclass(frozen=True, slots=True)
class ResourcePath:
    """Where the objects of one kind are found in the API."""

    group: str
    version: str
    plural: str
    selector: str = ""

    def of(self, namespace: str, name: str = "") -> str:
        """The path of one object, of a namespace's list, or of the list of all namespaces."""
        parts = ["apis", self.group, self.version] if self.group else ["api", self.version]
        parts += ["namespaces", quote(namespace, safe="")] if namespace else []
        parts += [self.plural, *([quote(name, safe="")] if name else [])]
        return "/" + "/".join(parts)


@dataclass(frozen=True, slots=True)
class KubernetesSettings:
    """How to reach the API server, and how patient to be. All times in seconds.

    Without ``kubeconfig`` and ``context`` a pod uses its own service account; elsewhere KUBECONFIG or
    ``~/.kube/config`` counts. ``namespaces`` empty: all of them. ``proxy``: a URL; the environment's proxies are
    used only with ``proxy_from_environment``. ``request_timeout_s``, where it is not 0, is for connecting and for the
    answer's head together, in place of their own ones. ``connections``: how many are kept open for reads and writes;
    ``page_size``: how many objects one answer of a list holds. ``pods_each_s``: how often the pods of a namespace are
    listed at most, while somebody asks for them; what was listed counts for ``pods_valid_s``.
    """

    kubeconfig: str = ""
    context: str = ""
    namespaces: tuple[str, ...] = ()
    connect_timeout_s: float = 2.0
    read_timeout_s: float = 5.0
    request_timeout_s: float = 0.0
    list_timeout_s: float = 60.0
    watch_s: float = 30.0
    watch_silence_s: float = 5.0
    shortest_wait_s: float = 0.2
    longest_wait_s: float = 30.0
    connections: int = 32
    page_size: int = 500
    pods_each_s: float = 10.0
    pods_valid_s: float = PODS_VALID_SECONDS
    proxy: str = ""
    proxy_from_environment: bool = False


class UnprocessableError(RefusedError):
    """422: a failed test of a JSON patch, or a value that the schema refuses."""


class _Sockets:
    """The open sockets of one client, so that a read which hangs in another thread can be ended."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: weakref.WeakSet[socket.socket] = weakref.WeakSet()
        self._cut = False

    def add(self, opened: socket.socket | None) -> None:
        if opened is None:
            return
        with self._lock:
            if self._cut:
                opened.close()
                raise OSError("stopped")
            self._open.add(opened)

    def cut(self) -> None:
        with self._lock:
            self._cut = True
            for opened in self._open:
                with contextlib.suppress(OSError):
                    # the plain socket's: that of a TLS socket drops its state under the reader's feet
                    socket.socket.shutdown(opened, socket.SHUT_RDWR)

    def pools(self) -> dict[str, type[HTTPConnectionPool]]:
        """Classes for urllib3 whose connections are listed here."""
        sockets = self

        class Plain(HTTPConnection):
            def connect(self) -> None:
                super().connect()
                sockets.add(self.sock)

        class Secure(HTTPSConnection):
            def connect(self) -> None:
                super().connect()
                sockets.add(self.sock)

        class PlainPool(HTTPConnectionPool):
            ConnectionCls = Plain

        class SecurePool(HTTPSConnectionPool):
            ConnectionCls = Secure

        return {"http": PlainPool, "https": SecurePool}


class Api:
    """Requests with time-outs and without retries, and their answers as documents or as our errors."""

    def __init__(self, settings: KubernetesSettings, may_write: Callable[[], bool] | None = None) -> None:
        self._settings = settings
        self._may_write = may_write
        self._sockets = _Sockets()
        self._lock = threading.Lock()
        self._client = self._connect()
        self._renewed_at = -_RENEWED_AT_MOST_EACH_S

    def get(
        self,
        path: str,
        what: str,
        query: Mapping[str, str] | None = None,
        seconds: float = 0.0,
        accept: str = _JSON,
    ) -> dict[str, Any]:
        """One document, within the read time-out or that many seconds in all."""
        return self._document(self._send("GET", path, query or {}, None, what, accept=accept), what, seconds)

    def patch(
        self, path: str, body: list[dict[str, Any]] | dict[str, Any], what: str, *, dry_run: bool = False
    ) -> dict[str, Any]:
        """The object as it is after a patch: a list is a JSON patch, a mapping a merge patch."""
        query = {"fieldManager": FIELD_MANAGER, "fieldValidation": "Strict"}
        if dry_run:
            query["dryRun"] = "All"
        return self._document(self._send("PATCH", path, query, body, what), what)

    def post(self, path: str, body: dict[str, Any], what: str) -> dict[str, Any]:
        """The new object as it was stored."""
        query = {"fieldManager": FIELD_MANAGER, "fieldValidation": "Strict"}
        return self._document(self._send("POST", path, query, body, what), what)

    def put(self, path: str, body: Mapping[str, Any], what: str) -> dict[str, Any]:
        """The object as it is after it was replaced, if it was of the resourceVersion that the body says."""
        query = {"fieldManager": FIELD_MANAGER, "fieldValidation": "Strict"}
        return self._document(self._send("PUT", path, query, dict(body), what), what)

    @contextlib.contextmanager
    def stream(self, path: str, what: str, query: Mapping[str, str], silence_s: float) -> Iterator[Iterator[bytes]]:
        """An open answer as lines; a silence longer than that many seconds is an error."""
        response = self._send("GET", path, query, None, what, silence_s)
        try:
            yield _lines(response, what)
        finally:
            response.close()

    def cut(self) -> None:
        """Ends what other threads are reading, at once and for good."""
        self._sockets.cut()

    def close(self) -> None:
        """Closes idle connections."""
        self._client.close()  # type: ignore[no-untyped-call]  # the client is half typed

    def _send(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        body: list[dict[str, Any]] | dict[str, Any] | None,
        what: str,
        read_timeout_s: float = 0.0,
        accept: str = _JSON,
    ) -> urllib3.BaseHTTPResponse:
        """The answer's head: its status was good, its body is still to be read."""
        url = path + ("?" + urlencode(query) if query else "")
        headers = {"Accept": accept}
        if body is not None:
            patched = _JSON_PATCH if isinstance(body, list) else _MERGE_PATCH
            headers["Content-Type"] = patched if method == "PATCH" else _JSON
        each = (self._settings.connect_timeout_s, read_timeout_s or self._settings.read_timeout_s)
        timeouts: float | tuple[float, float] = self._settings.request_timeout_s or each
        response: urllib3.BaseHTTPResponse | None = None
        for renewed in (False, True):
            client = self._client
            try:
                with self._lock:  # signing may renew a token
                    _, address, signed, _, _ = client.param_serialize(
                        method, url, header_params=dict(headers), auth_settings=["BearerToken"]
                    )
                if method != "GET" and self._may_write is not None and not self._may_write():
                    raise NotLeadingError(f"{what}: not written, because this process does not lead")
                response = client.call_api(method, address, signed, body, _request_timeout=timeouts).response
            except ValidationError as error:
                raise RefusedError(f"{what}: the client refuses the request: {error}") from error
            except (ApiException, ConfigException, *_TRANSPORT) as error:
                raise UnansweredError(f"{what}: {_reason(error)}") from error
            # a 401 was not carried out, so it may be sent again, once, with credentials read again
            if response.status != 401 or renewed or not self._renew(client):
                break
            response.close()
        assert response is not None
        if not 200 <= response.status <= 299:
            raise self._error(response, what)
        return response

    def _document(self, response: urllib3.BaseHTTPResponse, what: str, seconds: float = 0.0) -> dict[str, Any]:
        body = self._body(response, what, seconds)
        try:
            document = json.loads(body)
        except ValueError as error:
            raise UnansweredError(f"{what}: the answer is no JSON") from error
        if not isinstance(document, dict):
            raise UnansweredError(f"{what}: the answer is no object")
        return document

    def _body(self, response: urllib3.BaseHTTPResponse, what: str, seconds: float = 0.0) -> bytes:
        # a time-out of reads starts again with every byte, so a trickle needs a deadline of its own
        deadline = time.monotonic() + (seconds or self._settings.read_timeout_s)
        parts: list[bytes] = []
        size = 0
        try:
            while part := response.read1(_CHUNK):
                parts.append(part)
                size += len(part)
                if size > MAX_ANSWER_BYTES:
                    raise UnansweredError(f"{what}: the answer is larger than {MAX_ANSWER_BYTES >> 20} MiB")
                if time.monotonic() > deadline:
                    raise UnansweredError(f"{what}: the answer was not complete in time")
        except _TRANSPORT as error:
            response.close()
            raise UnansweredError(f"{what}: {_reason(error)}") from error
        except UnansweredError:
            response.close()
            raise
        response.release_conn()
        return b"".join(parts)

    def _error(self, response: urllib3.BaseHTTPResponse, what: str) -> AdapterError:
        status = response.status
        try:
            words = _message(self._body(response, what))
        except UnansweredError:
            words = ""
        said = f"the API server answered {status}" + (f": {words}" if words else "")
        kind: type[AdapterError] = RefusedError
        if status == 404:
            kind = NotFoundError
        elif status == 409:
            kind = ConflictError
        elif status == 410:
            kind = ExpiredError
        elif status == 422:
            kind = UnprocessableError
        elif status in (408, 425, 429) or status >= 500:
            kind = UnansweredError
        return kind(f"{what}: {said}")

    def _connect(self) -> ApiClient:
        configuration = _configuration(self._settings)
        if not configuration.verify_ssl:
            # a kubeconfig that says so knows; one warning a request says nothing more
            urllib3.disable_warnings(InsecureRequestWarning)
        client = ApiClient(configuration)
        client.user_agent = FIELD_MANAGER
        client.rest_client.pool_manager.pool_classes_by_scheme = self._sockets.pools()
        return client

    def _renew(self, refused: ApiClient) -> bool:
        """Reads the credentials again after a 401; False when that was done a moment ago."""
        with self._lock:
            if self._client is not refused:
                return True
            if time.monotonic() - self._renewed_at < _RENEWED_AT_MOST_EACH_S:
                return False
            self._renewed_at = time.monotonic()
            try:
                self._client = self._connect()
            except RefusedError as error:
                # a token or a file that is just being written
                raise UnansweredError(str(error)) from error
        refused.close()  # type: ignore[no-untyped-call]  # the client is half typed
        return True


class ApiFeed:
    """LIST and WATCH of one kind, of one namespace or of all; lists are asked for in the form ``accept``."""

    def __init__(
        self, api: Api, settings: KubernetesSettings, path: ResourcePath, namespace: str, accept: str = _JSON
    ) -> None:
        self._api = api
        self._settings = settings
        self._accept = accept
        self._path = path.of(namespace)
        self._what = f"{path.plural}.{path.group}".rstrip(".")
        self._selector = {"labelSelector": path.selector} if path.selector else {}
        self._missing = f"the API server does not know {path.plural} of {path.group}/{path.version}; install their CRD"

    def list(self) -> tuple[Iterator[Document], str]:
        """All there are, page by page, and the version that a watch goes on from."""
        page = self._page("")
        return self._pages(page), str(page["metadata"]["resourceVersion"])

    def watch(self, resource_version: str) -> Iterator[tuple[str, Document]]:
        """What changes after that version, each with its type. Raises ExpiredError where it is too old."""
        seconds = self._settings.watch_s * random.uniform(0.8, 1.0)  # noqa: S311 - watches should not end together
        query = {
            **self._selector,
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": resource_version,
            "timeoutSeconds": str(max(1, round(seconds))),
        }
        opened = contextlib.ExitStack()
        silence_s = seconds + self._settings.watch_silence_s
        try:
            lines = opened.enter_context(self._api.stream(self._path, self._what, query, silence_s))
        except NotFoundError as error:
            raise NotFoundError(self._missing) from error
        return self._events(opened, lines)

    def _events(self, opened: contextlib.ExitStack, lines: Iterator[bytes]) -> Iterator[tuple[str, Document]]:
        with opened:
            for line in lines:
                try:
                    event = json.loads(line)
                    kind, document = event["type"], event["object"]
                except (ValueError, TypeError, KeyError) as error:
                    raise UnansweredError(f"{self._what}: the watch sent what is no event") from error
                if kind == "ERROR":
                    raise ExpiredError(f"{self._what}: {document.get('message') or 'the watch ended with an error'}")
                yield kind, document

    def _pages(self, page: dict[str, Any]) -> Iterator[Document]:
        while True:
            yield from page.get("items") or ()
            following = page["metadata"].get("continue")
            if not following:
                return
            page = self._page(following)

    def _page(self, following: str) -> dict[str, Any]:
        query = {
            **self._selector,
            "limit": str(self._settings.page_size),
            **({"continue": following} if following else {}),
        }
        try:
            page = self._api.get(self._path, self._what, query, self._settings.list_timeout_s, self._accept)
        except NotFoundError as error:
            raise NotFoundError(self._missing) from error
        if not isinstance(page.get("metadata"), dict) or "resourceVersion" not in page["metadata"]:
            raise UnansweredError(f"{self._what}: the answer is no list")
        return page


def _lines(response: urllib3.BaseHTTPResponse, what: str) -> Iterator[bytes]:
    rest = b""
    try:
        while part := response.read1(_CHUNK):
            *whole, rest = (rest + part).split(b"\n")
            yield from filter(None, whole)
            if len(rest) > MAX_EVENT_BYTES:
                raise UnansweredError(f"{what}: an event is larger than {MAX_EVENT_BYTES >> 20} MiB")
        if rest:
            yield rest
    except _TRANSPORT as error:
        raise UnansweredError(f"{what}: {_reason(error)}") from error


def _configuration(settings: KubernetesSettings) -> Configuration:
    """The official client's configuration.

    Raises RefusedError, with words for a person, when there is none that can be used.
    """
    # "" keeps the client from looking into the environment; a proxy of the kubeconfig still counts
    configuration = Configuration() if settings.proxy_from_environment else Configuration(proxy="", no_proxy="")
    chosen = settings.kubeconfig or os.environ.get("KUBECONFIG", "")
    source = "the pod's service account"
    try:
        if not chosen and not settings.context and os.environ.get(SERVICE_HOST_ENV_NAME):
            loader = InClusterConfigLoader(SERVICE_TOKEN_FILENAME, SERVICE_CERT_FILENAME)  # type: ignore[no-untyped-call]
            loader.load_and_set(configuration)  # type: ignore[no-untyped-call]  # the loaders have no types
        else:
            chosen = chosen or str(Path.home() / ".kube" / "config")
            source = f"the kubeconfig {chosen}"
            load_kube_config(  # type: ignore[no-untyped-call]  # the loaders have no types
                chosen, settings.context or None, configuration, persist_config=False
            )
    except Exception as error:
        # the loaders let pass whatever their parsers raise
        raise RefusedError(
            f"{source} cannot be used: {error}; name another with --kubeconfig or KUBECONFIG, or its --context"
        ) from error
    if settings.proxy:
        configuration.proxy = settings.proxy
    configuration.retries = False
    configuration.keep_alive = True
    configuration.connection_pool_maxsize = settings.connections
    return configuration


def _reason(error: Exception) -> str:
    """Why there was no answer, without the inner workings of the libraries."""
    if isinstance(error, urllib3.exceptions.ReadTimeoutError):
        return "no answer in time"
    if isinstance(error, urllib3.exceptions.NewConnectionError):  # which is also a ConnectTimeoutError
        cause = error.__cause__
        return f"no connection ({(cause.strerror if isinstance(cause, OSError) else None) or error})".lower()
    if isinstance(error, urllib3.exceptions.ConnectTimeoutError):
        return "no connection in time"
    if isinstance(error, ApiException):
        return " ".join(str(error.reason).split())
    causes = [error, error.__cause__, error.__context__, *error.args]
    words = next((cause.strerror for cause in causes if isinstance(cause, OSError) and cause.strerror), "")
    return f"the connection broke ({words.lower()})" if words else "the connection broke"


def _message(body: bytes) -> str:
    """What a Status says, or the beginning of whatever else was answered."""
    try:
        document = json.loads(body)
        return str(document["message"])
    except (ValueError, TypeError, KeyError):
        return " ".join(body[:200].decode(errors="replace").split())

"""Two ways in which OpenTelemetry's metrics are pushed: as OTLP, and as remote write, which a collector sends.

Both take the histogram ``http.server.request.duration`` of a process by status, at a time that the sender states.
"""

import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import requests

from tests.realparts.prometheus import Prometheus
from tests.realparts.server import http

NAME = "http_server_request_duration_seconds"
EDGE_S = 0.25


@dataclass(frozen=True)
class Export:
    """What one process says at ``at`` (Unix seconds): per status the requests, and of them those within 0.25 s."""

    instance: str
    service: str
    at: float
    started: float
    requests: Mapping[str, tuple[int, int]]
    uptime: bool = True


def push_otlp(prometheus: Prometheus, exports: Sequence[Export], session: requests.Session) -> None:
    """To the OTLP receiver of Prometheus 3, which makes the names and the labels. Raises requests.HTTPError."""
    _post(
        session, f"{prometheus.url}/api/v1/otlp/v1/metrics", {}, json={"resourceMetrics": [_otlp(e) for e in exports]}
    )


def push_remote_write(prometheus: Prometheus, exports: Sequence[Export], session: requests.Session) -> None:
    """To the remote write receiver, with the names that a collector makes. Raises requests.HTTPError."""
    body = b"".join(
        _field(1, _series(labels, value, export.at)) for export in exports for labels, value in _samples(export)
    )
    headers = {
        "Content-Type": "application/x-protobuf",
        "Content-Encoding": "snappy",
        "X-Prometheus-Remote-Write-Version": "0.1.0",
    }
    _post(session, f"{prometheus.url}/api/v1/write", headers, data=_snappy(body))


def pushing_session() -> requests.Session:
    """A session for one thread."""
    return http()


def _post(session: requests.Session, url: str, headers: Mapping[str, str], **body: object) -> None:
    answer = session.post(url, headers=dict(headers), timeout=30, **body)  # type: ignore[arg-type]
    if not answer.ok:
        raise requests.HTTPError(f"the push was refused: {answer.text[:600]}", response=answer)


def _otlp(export: Export) -> dict[str, object]:
    attributes = {
        "service.name": export.service,
        "service.instance.id": export.instance,
        "k8s.namespace.name": "shop",
        "track": "canary",
    }
    times = {"startTimeUnixNano": str(int(export.started * 1e9)), "timeUnixNano": str(int(export.at * 1e9))}
    points = [
        {
            "attributes": _otlp_attributes({"http.request.method": "GET", **_outcome(status, ".")}),
            **times,
            "count": str(count),
            "sum": 0.1 * count,
            "bucketCounts": [str(quick), str(count - quick)],
            "explicitBounds": [EDGE_S],
        }
        for status, (count, quick) in export.requests.items()
    ]
    metrics: list[dict[str, object]] = []
    if points:
        histogram = {"aggregationTemporality": 2, "dataPoints": points}
        metrics.append({"name": "http.server.request.duration", "unit": "s", "histogram": histogram})
    if export.uptime:
        uptime = {"dataPoints": [{**times, "asDouble": export.at - export.started}]}
        metrics.append({"name": "process.uptime", "unit": "s", "gauge": uptime})
    return {"resource": {"attributes": _otlp_attributes(attributes)}, "scopeMetrics": [{"metrics": metrics}]}


def _otlp_attributes(values: Mapping[str, str]) -> list[dict[str, object]]:
    return [{"key": key, "value": {"stringValue": value}} for key, value in values.items()]


def _outcome(status: str, separator: str) -> dict[str, str]:
    code, error = f"http{separator}response{separator}status_code", f"error{separator}type"
    return {code: status, **({error: status} if status.startswith("5") else {})}


def _samples(export: Export) -> Iterator[tuple[dict[str, str], float]]:
    process = {"job": export.service, "instance": export.instance}
    resource = {**process, "service_name": export.service, "k8s_namespace_name": "shop", "track": "canary"}
    yield {"__name__": "target_info", **process, "k8s_namespace_name": "shop", "track": "canary"}, 1
    if export.uptime:
        yield {"__name__": "process_uptime_seconds", **resource}, export.at - export.started
    for status, (count, quick) in export.requests.items():
        labels = {**resource, "http_request_method": "GET", **_outcome(status, "_")}
        yield {"__name__": f"{NAME}_count", **labels}, count
        yield {"__name__": f"{NAME}_bucket", **labels, "le": f"{EDGE_S}"}, quick
        yield {"__name__": f"{NAME}_bucket", **labels, "le": "+Inf"}, count


def _series(labels: Mapping[str, str], value: float, at: float) -> bytes:
    pairs = b"".join(
        _field(1, _field(1, name.encode()) + _field(2, text.encode())) for name, text in sorted(labels.items())
    )
    sample = b"\x09" + struct.pack("<d", value) + b"\x10" + _varint(round(at * 1000))
    return pairs + _field(2, sample)


def _field(number: int, content: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _snappy(data: bytes) -> bytes:
    """Snappy's block format allows text that is not compressed: a length, then literals of at most 64 KiB."""
    pieces = [data[at : at + 65_536] for at in range(0, len(data), 65_536)]
    return _varint(len(data)) + b"".join(b"\xf4" + struct.pack("<H", len(piece) - 1) + piece for piece in pieces)

"""A real Prometheus, 2.x or 3.x, with a configuration that a test may change while it runs."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import requests

from tests.realparts.parts import PartMissing, find
from tests.realparts.server import Server, http, wait_until

_ASK_TIMEOUT_S = 60.0


def promtool() -> Path:
    """The program that checks and tests rules. Raises PartMissing."""
    return find("promtool")


def config(
    scrape_configs: Sequence[Mapping[str, Any]] = (),
    *,
    interval: str = "1s",
    rule_files: Sequence[Path | str] = (),
    alertmanagers: Sequence[str] = (),
) -> dict[str, Any]:
    """A configuration: scrapes and rules each `interval`, rule files by absolute path, alertmanagers as `host:port`."""
    document: dict[str, Any] = {
        "global": {"scrape_interval": interval, "scrape_timeout": interval, "evaluation_interval": interval},
        "scrape_configs": list(scrape_configs),
        "rule_files": [str(path) for path in rule_files],
    }
    if alertmanagers:
        document["alerting"] = {"alertmanagers": [{"static_configs": [{"targets": list(alertmanagers)}]}]}
    return document


def static(
    job: str, targets: Sequence[str], *, labels: Mapping[str, str] | None = None, path: str = "/metrics"
) -> dict[str, Any]:
    """One scrape configuration with a fixed list of `host:port`, all with the same labels."""
    group = {"targets": list(targets), "labels": dict(labels or {})}
    return {"job_name": job, "metrics_path": path, "static_configs": [group]}


def file_sd(job: str, file: Path) -> dict[str, Any]:
    """One scrape configuration whose targets stand in a file; see write_targets(). Changes are seen within a moment."""
    return {"job_name": job, "file_sd_configs": [{"files": [str(file)], "refresh_interval": "1s"}]}


def write_targets(file: Path, groups: Sequence[Mapping[str, Any]]) -> None:
    """Replace the targets of a file_sd() file at once: `[{"targets": ["127.0.0.1:80"], "labels": {...}}]`.

    A label `__metrics_path__` gives a target its own path.
    """
    fresh = file.with_suffix(".new")
    fresh.write_text(json.dumps(list(groups)))
    fresh.rename(file)


class Prometheus(Server):
    """A Prometheus of version "2" or "3", or whichever is there; `with Prometheus(folder, config=...) as prometheus`.

    `prefix` puts the API below a path, `web_config` is Prometheus' own file of users and certificates, and `session`
    then brings what the questions need (user, certificates).
    """

    name = "prometheus"

    def __init__(
        self,
        folder: Path,
        *,
        version: Literal["2", "3", "any"] = "any",
        config: Mapping[str, Any] | None = None,
        port: int | None = None,
        prefix: str = "",
        arguments: Sequence[str] = (),
        web_config: Mapping[str, Any] | None = None,
        session: requests.Session | None = None,
    ) -> None:
        super().__init__(folder, port=port)
        self._version = version
        self._prefix = prefix.rstrip("/")
        self._arguments = tuple(arguments)
        self._config_file = folder / "prometheus.json"
        self._web_file = folder / "web.json"
        self._tls = bool(web_config and "tls_server_config" in web_config)
        if web_config is not None:
            self._web_file.write_text(json.dumps(web_config))
        self._session = http() if session is None else session
        self._config: Mapping[str, Any] = _default_config() if config is None else config
        self._write()

    @property
    def url(self) -> str:
        """The base URL, the prefix included, without a slash at its end."""
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}{self._prefix}"

    @property
    def address(self) -> str:
        """host:port, as a scrape target."""
        return f"127.0.0.1:{self.port}"

    def command(self) -> list[str]:
        """Data in the folder, reload over HTTP."""
        return [
            str(self._program()),
            f"--config.file={self._config_file}",
            f"--storage.tsdb.path={self.folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{self.port}",
            "--web.enable-lifecycle",
            "--rules.alert.resend-delay=1s",  # the first send falls before the Alertmanagers are discovered
            *([f"--web.external-url={self.url}"] if self._prefix else []),
            *([f"--web.config.file={self._web_file}"] if self._web_file.exists() else []),
            *self._arguments,
        ]

    def is_ready(self) -> bool:
        """Whether /-/ready says so."""
        return self._session.get(f"{self.url}/-/ready", timeout=1).status_code == 200

    def reconfigure(self, config: Mapping[str, Any]) -> None:
        """Write another configuration and load it, if it runs. Raises requests.HTTPError when it is refused."""
        self._config = config
        self._write()
        if self.running:
            self.reload()

    def reload(self) -> None:
        """Load the configuration and the rule files again. Raises requests.HTTPError when they are refused."""
        answer = self._session.post(f"{self.url}/-/reload", timeout=_ASK_TIMEOUT_S)
        if not answer.ok:
            raise requests.HTTPError(f"Prometheus refused its configuration: {answer.text}", response=answer)

    def query(self, expression: str, *, time: float | None = None) -> list[dict[str, Any]]:
        """The vector of an instant query, at a Unix time or now. Raises requests.HTTPError with Prometheus' words."""
        result = self._ask("query", {"query": expression, **({} if time is None else {"time": f"{time:.3f}"})})
        vector: list[dict[str, Any]] = result["result"]
        return vector

    def query_range(self, expression: str, *, start: float, end: float, step_s: float) -> list[dict[str, Any]]:
        """The matrix of a range query between two Unix times, both included."""
        parameters = {"query": expression, "start": f"{start:.3f}", "end": f"{end:.3f}", "step": f"{step_s:g}"}
        matrix: list[dict[str, Any]] = self._ask("query_range", parameters)["result"]
        return matrix

    def value(self, expression: str, *, time: float | None = None) -> float | None:
        """The one number of an instant query; None for an empty vector. Raises ValueError for several series."""
        vector = self.query(expression, time=time)
        if len(vector) > 1:
            raise ValueError(f"{expression}: {len(vector)} series, one was expected")
        return float(vector[0]["value"][1]) if vector else None

    def wait_for(self, expression: str, *, deadline_s: float = 60.0) -> list[dict[str, Any]]:
        """Ask until the vector is not empty, and return it. Raises TimeoutError."""
        return wait_until(
            lambda: self.query(expression), deadline_s=deadline_s, what=f"Prometheus to answer {expression}"
        )

    def get(self, path: str) -> Any:
        """The `data` of another API answer, such as of "rules" or "targets"."""
        return self._ask(path, {})

    def _ask(self, path: str, parameters: Mapping[str, str]) -> Any:
        answer = self._session.get(f"{self.url}/api/v1/{path}", params=dict(parameters), timeout=_ASK_TIMEOUT_S)
        if not answer.ok:
            raise requests.HTTPError(f"Prometheus answered {answer.status_code}: {answer.text[:600]}", response=answer)
        return answer.json()["data"]

    def _program(self) -> Path:
        if self._version != "any":
            return find(f"prometheus {self._version}")
        try:
            return find("prometheus 2")
        except PartMissing:
            return find("prometheus 3")

    def _write(self) -> None:
        fresh = self._config_file.with_suffix(".new")
        fresh.write_text(json.dumps(self._config))  # JSON is YAML
        fresh.rename(self._config_file)


def _default_config() -> dict[str, Any]:
    return config()

"""A real Envoy on a bootstrap that the caller writes."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from tests.realparts.parts import find
from tests.realparts.server import Server, http


class Envoy(Server):
    """An Envoy with one worker thread; `port` and `url` are its admin interface's (/stats/prometheus, /clusters).

    `bootstrap` is a document, which gets an admin address if it has none, or a YAML file that has one.
    Raises ValueError for a file without.
    """

    name = "envoy"

    def __init__(self, folder: Path, bootstrap: Mapping[str, Any] | Path, *, arguments: tuple[str, ...] = ()) -> None:
        from_file = isinstance(bootstrap, Path)
        document: dict[str, Any] = (
            yaml.safe_load(bootstrap.read_text()) if isinstance(bootstrap, Path) else dict(bootstrap)
        )
        try:
            port: int | None = int(document["admin"]["address"]["socket_address"]["port_value"])
        except KeyError:
            if from_file:
                raise ValueError(
                    f"{bootstrap}: field admin.address.socket_address.port_value is missing; add it, on 127.0.0.1"
                ) from None
            port = None
        super().__init__(folder, port=port)
        self._arguments = arguments
        if isinstance(bootstrap, Path):
            self._file = bootstrap
        else:
            document["admin"] = {"address": {"socket_address": {"address": "127.0.0.1", "port_value": self.port}}}
            self._file = folder / "bootstrap.json"
            self._file.write_text(json.dumps(document))
        self._session = http()

    def command(self) -> list[str]:
        """Without hot restart, so that several live side by side."""
        return [
            str(find("envoy")),
            "--config-path",
            str(self._file),
            "--concurrency",
            "1",
            "--disable-hot-restart",
            "--log-level",
            "warning",
            *self._arguments,
        ]

    def is_ready(self) -> bool:
        """Whether all listeners and clusters are warm."""
        return self._session.get(f"{self.url}/ready", timeout=1).status_code == 200

    def stats(self) -> str:
        """Its own metrics as Prometheus would scrape them."""
        answer = self._session.get(f"{self.url}/stats/prometheus", timeout=60)
        answer.raise_for_status()
        return answer.text

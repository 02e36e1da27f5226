"""A real Alertmanager, alone."""

import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from tests.realparts.parts import find
from tests.realparts.server import Server, http, wait_until

_KEEPS_TO_ITSELF: Mapping[str, Any] = MappingProxyType({"route": {"receiver": "none"}, "receivers": [{"name": "none"}]})


class Alertmanager(Server):
    """An Alertmanager that by default keeps what it receives; `with Alertmanager(folder) as alertmanager: ...`."""

    name = "alertmanager"

    def __init__(self, folder: Path, *, config: Mapping[str, Any] = _KEEPS_TO_ITSELF, port: int | None = None) -> None:
        super().__init__(folder, port=port)
        self._config_file = folder / "alertmanager.json"
        self._config_file.write_text(json.dumps(dict(config)))
        self._session = http()

    @property
    def address(self) -> str:
        """host:port, as Prometheus wants it."""
        return f"127.0.0.1:{self.port}"

    def command(self) -> list[str]:
        """Without peers."""
        return [
            str(find("alertmanager")),
            f"--config.file={self._config_file}",
            f"--storage.path={self.folder / 'data'}",
            f"--web.listen-address={self.address}",
            "--cluster.listen-address=",
        ]

    def is_ready(self) -> bool:
        """Whether /-/ready says so."""
        return self._session.get(f"{self.url}/-/ready", timeout=1).status_code == 200

    def alerts(self, **labels: str) -> list[dict[str, Any]]:
        """The alerts that it holds, the resolved ones left out, with all of these labels."""
        parameters = [("filter", f'{name}="{value}"') for name, value in labels.items()]
        answer = self._session.get(f"{self.url}/api/v2/alerts", params=parameters, timeout=60)
        answer.raise_for_status()
        alerts: list[dict[str, Any]] = answer.json()
        return alerts

    def wait_for(self, *, deadline_s: float = 60.0, **labels: str) -> list[dict[str, Any]]:
        """Ask until there is an alert with these labels, and return them all. Raises TimeoutError."""
        return wait_until(lambda: self.alerts(**labels), deadline_s=deadline_s, what=f"an alert with {labels}")

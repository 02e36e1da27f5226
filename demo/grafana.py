"""Grafana with the dashboards of deploy/grafana, where it is installed: `make demo GRAFANA=1`."""

from __future__ import annotations

import json
import shutil
from configparser import ConfigParser
from pathlib import Path

from tests.realparts.parts import ROOT
from tests.realparts.server import Server, http

DASHBOARDS = ROOT / "deploy" / "grafana"
PROGRAMS = {"grafana-server": (), "grafana": ("server",)}
"""Newer versions have one program with commands."""
HOMES = (Path("/usr/share/grafana"), Path("/opt/homebrew/opt/grafana/share/grafana"))
"""Where packages keep what Grafana needs besides its program."""
ABSENT = "no Grafana is on the PATH, so the demo goes on without the dashboards of deploy/grafana"


class Grafana(Server):
    """Grafana that shows one Prometheus to everybody on this machine, without a login; its files are in the folder."""

    name = "grafana"

    def __init__(self, folder: Path, prometheus: str) -> None:
        super().__init__(folder)
        self._session = http()
        _write_provisioning(folder / "provisioning", prometheus)
        settings = ConfigParser()
        settings.read_dict(
            {
                "paths": {
                    "data": folder / "data",
                    "logs": folder / "logs",
                    "plugins": folder / "plugins",
                    "provisioning": folder / "provisioning",
                },
                "server": {"http_addr": "127.0.0.1", "http_port": self.port},
                "auth.anonymous": {"enabled": "true", "org_role": "Viewer"},
                "auth": {"disable_login_form": "true"},
                # it is to ask nobody outside this machine
                "analytics": {"reporting_enabled": "false", "check_for_updates": "false"},
            }
        )
        self._config = folder / "grafana.ini"
        with self._config.open("w", encoding="utf-8") as file:
            settings.write(file)

    @staticmethod
    def program() -> list[str]:
        """The program with its command; empty where there is none."""
        for name, command in PROGRAMS.items():
            if path := shutil.which(name):
                return [path, *command]
        return []

    def command(self) -> list[str]:
        """With its own settings, and where its files are known to be, with those."""
        program = self.program()
        own = Path(program[0]).resolve().parents[1]
        home = next((path for path in (own, *HOMES) if (path / "conf" / "defaults.ini").is_file()), None)
        return [*program, *(["--homepath", str(home)] if home else []), "--config", str(self._config)]

    def is_ready(self) -> bool:
        """Whether its health says so."""
        return self._session.get(f"{self.url}/api/health", timeout=1).ok


def _write_provisioning(folder: Path, prometheus: str) -> None:
    """What makes Grafana know the Prometheus and the dashboards."""
    boards = folder.parent / "dashboards"
    boards.mkdir(parents=True, exist_ok=True)
    for path in sorted(DASHBOARDS.glob("*.json")):
        shutil.copy(path, boards / path.name)
    source = {"name": "Prometheus", "type": "prometheus", "access": "proxy", "url": prometheus, "isDefault": True}
    # Prometheus scrapes each second here
    source |= {"jsonData": {"timeInterval": "1s"}}
    provider = {"name": "auto-advance", "type": "file", "options": {"path": str(boards)}}
    for name, key, entry in (("datasources", "datasources", source), ("dashboards", "providers", provider)):
        (folder / name).mkdir(parents=True, exist_ok=True)
        document = {"apiVersion": 1, key: [entry]}
        (folder / name / "auto-advance.yaml").write_text(json.dumps(document, indent=2))  # JSON is YAML

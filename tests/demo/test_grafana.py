"""Grafana in the demo: given its Prometheus and its dashboards where it is installed, passed over where it is not."""

import configparser
import json
import sys
from pathlib import Path

import pytest

from demo.grafana import DASHBOARDS, Grafana
from demo.parts import Parts
from tests.realparts.server import wait_until

SERVES = """#!{python}
import configparser, http.server, sys
settings = configparser.ConfigParser()
settings.read(sys.argv[sys.argv.index("--config") + 1])
print(sys.argv[1:], flush=True)
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == "/api/health" else 404)
        self.end_headers()
address = settings["server"]["http_addr"], settings.getint("server", "http_port")
http.server.HTTPServer(address, Handler).serve_forever()
"""


def install(folder: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program that reads the settings that Grafana would read, and is well."""
    path = folder / "bin" / name
    path.parent.mkdir(parents=True)
    path.write_text(SERVES.format(python=sys.executable))
    path.chmod(0o755)
    monkeypatch.setenv("PATH", str(path.parent))
    return path


def test_it_is_given_the_prometheus_the_dashboards_and_no_way_out(tmp_path: Path) -> None:
    Grafana(tmp_path, "http://127.0.0.1:9999")
    (source,) = json.loads((tmp_path / "provisioning/datasources/auto-advance.yaml").read_text())["datasources"]
    assert (source["type"], source["url"], source["isDefault"]) == ("prometheus", "http://127.0.0.1:9999", True)
    (provider,) = json.loads((tmp_path / "provisioning/dashboards/auto-advance.yaml").read_text())["providers"]
    shown = {path.name: path.read_text() for path in Path(provider["options"]["path"]).iterdir()}
    assert shown == {path.name: path.read_text() for path in DASHBOARDS.glob("*.json")}
    settings = configparser.ConfigParser()
    settings.read(tmp_path / "grafana.ini")
    assert settings["server"]["http_addr"] == "127.0.0.1"
    assert settings["paths"]["provisioning"] == str(tmp_path / "provisioning")
    assert set(settings["analytics"].values()) == {"false"}


@pytest.mark.parametrize(("name", "command"), [("grafana-server", []), ("grafana", ["server"])])
def test_old_and_new_programs_are_started_with_their_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, command: list[str]
) -> None:
    program = install(tmp_path, name, monkeypatch)
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "defaults.ini").touch()
    with Grafana(tmp_path / "run", "http://127.0.0.1:9999") as grafana:
        assert grafana.command() == [
            str(program), *command, "--homepath", str(tmp_path), "--config", str(tmp_path / "run" / "grafana.ini"),
        ]  # fmt: skip
        wait_until(grafana.is_ready, deadline_s=60, what="its health")
    assert not grafana.running


def test_the_demo_has_it_only_where_it_is_asked_for_and_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert Parts(tmp_path / "absent", grafana=True).grafana is None
    install(tmp_path, "grafana-server", monkeypatch)
    assert Parts(tmp_path / "unasked").grafana is None
    parts = Parts(tmp_path / "there", grafana=True)
    assert parts.grafana is not None
    assert parts.places["dashboards"] == f"{parts.grafana.url}/dashboards"

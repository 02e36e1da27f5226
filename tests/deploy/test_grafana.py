"""The dashboards: what their generator writes, well formed, and every query of theirs finds something in a running demo."""

from __future__ import annotations

import json
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from controller.telemetry import PREFIX
from demo.parts import MANIFESTS, Parts
from demo.traffic import Traffic
from rules import alerts
from tests.generators import generator
from tests.realparts.parts import ROOT
from tests.realparts.prometheus import Prometheus
from tests.realparts.server import wait_until
from tests.rules.test_alerts import exported_values, unknown

FOLDER = ROOT / "deploy" / "grafana"
FILES = ("fleet.json", "launch.json")
each_file = pytest.mark.parametrize("name", FILES)
STARTS = "autoadvance_start_time_seconds"


def board(name: str) -> dict[str, Any]:
    read: dict[str, Any] = json.loads((FOLDER / name).read_text(encoding="utf-8"))
    return read


def panels(name: str) -> list[dict[str, Any]]:
    return [panel for panel in board(name)["panels"] if panel["type"] != "row"]


def queries(name: str) -> Iterator[tuple[str, str, bool]]:
    """Place, expression, and whether it is asked for one instant."""
    for panel in panels(name):
        for target in panel["targets"]:
            yield f"{name}: {panel['title']} {target['refId']}", target["expr"], target["instant"]
    for mark in board(name)["annotations"]["list"]:
        yield f"{name}: marks of {mark['name']}", mark["expr"], False
    for variable in board(name)["templating"]["list"]:
        if variable["type"] == "query":
            selector = re.fullmatch(r"label_values\((.*), (\w+)\)", variable["definition"])
            assert selector is not None
            yield f"{name}: variable {variable['name']}", f"count by ({selector[2]}) ({selector[1]})", True


def test_the_dashboards_are_what_the_generator_writes(capsys: pytest.CaptureFixture[str]) -> None:
    made = generator("deploy/grafana")
    assert made.main(["--check"]) == 0, capsys.readouterr().err
    assert set(made.render()) == set(FILES) == {path.name for path in FOLDER.glob("*.json")}


@each_file
def test_a_dashboard_is_found_by_its_uid_and_looks_the_same_everywhere(name: str) -> None:
    read = board(name)
    assert read["uid"] in (alerts.FLEET, alerts.LAUNCH)
    assert (read["tags"], read["timezone"], read["refresh"]) == (["auto-advance"], "utc", "30s")
    variables = {variable["name"] for variable in read["templating"]["list"]}
    assert {"datasource", "namespace"} <= variables
    text = json.dumps(read)
    asked = set(re.findall(r"\$\{?([a-z]+)\}?(?![.\w])", text)) - {"datasource"}
    assert asked <= variables | {"__rate_interval", "__data"}


def test_the_links_of_alerts_lead_to_these_dashboards() -> None:
    uids = {board(name)["uid"] for name in FILES}
    assert uids == {alerts.FLEET, alerts.LAUNCH}
    linked = {
        match for rule in alerts.RULES for match in re.findall(r"/d/([\w-]+)", rule.annotations()["dashboard_url"])
    }
    assert linked == uids


@each_file
def test_panels_have_a_title_words_a_unit_a_source_and_room_of_their_own(name: str) -> None:
    taken: set[tuple[int, int]] = set()
    ids = [panel["id"] for panel in board(name)["panels"]]
    assert len(set(ids)) == len(ids)
    for panel in board(name)["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24, panel["title"]
        taken |= cells
        if panel["type"] != "row":
            assert panel["title"]
            assert panel["description"]
            assert panel["fieldConfig"]["defaults"]["unit"]
            assert {target["datasource"]["uid"] for target in panel["targets"]} == {"${datasource}"}


@each_file
def test_the_dashboards_ask_only_for_what_the_exporter_has(name: str) -> None:
    vocabulary = exported_values()
    for place, expression, _ in queries(name):
        written = re.sub(r"\$\w+\|?", "", expression)
        assert unknown(written, vocabulary) == [], place
        assert "[" not in expression or "[$__rate_interval]" in expression, place


def test_every_metric_is_on_a_dashboard() -> None:
    shown = "".join(expression for name in FILES for _, expression, _ in queries(name))
    stems = {re.sub(r"_(bucket|sum|count|created)$", "", metric) for metric in exported_values()}
    counters = {stem for stem in stems if f"{stem}_total" in stems}
    assert {metric for metric in stems - counters if metric not in shown} == set()


def filled(expression: str, criterion: str) -> str:
    """The expression as Grafana sends it for the demo's launch."""
    escaped = re.escape(criterion).replace("\\", "\\\\")
    values = {"$__rate_interval": "20s", "$namespace": "demo", "$launch": "shop", "$target": "(main)"}
    for variable, value in {**values, "$criterion": escaped}.items():
        expression = expression.replace(variable, value)
    assert "$" not in expression, expression
    return expression


@pytest.fixture
def launched(tmp_path: Path) -> Iterator[tuple[Prometheus, float]]:
    """The demo's Prometheus while its launch is in its second step, with the alerting rules, and since when it runs."""
    manifests = tmp_path / "manifests"
    shutil.copytree(MANIFESTS, manifests)
    launch = yaml.safe_load((manifests / "launch.yaml").read_text())
    launch["spec"]["phases"][0]["steps"] = [{"weight": 30, "for": "6s"}, {"weight": 60, "for": "10m"}]
    (manifests / "launch.yaml").write_text(yaml.safe_dump(launch))
    began = time.time()
    with Parts(tmp_path / "parts", manifests) as parts:
        config = dict(parts.prometheus._config)
        config["rule_files"] = [*config["rule_files"], str(Path(alerts.__file__).with_name("alerts.yaml"))]
        parts.prometheus.reconfigure(config)
        traffic = Traffic(parts.listen_port)
        traffic.start()
        try:
            value = f'{PREFIX}_criterion_value{{launch="shop"}} and on (launch) {PREFIX}_launch_step > 1'
            wait_until(lambda: parts.prometheus.query(value), deadline_s=120, what="the second step to be measured")
            yield parts.prometheus, began
        finally:
            traffic.stop()


@pytest.mark.real
@pytest.mark.xdist_group("demo")
def test_no_query_of_a_dashboard_is_empty_and_no_alert_is_false(launched: tuple[Prometheus, float]) -> None:
    prometheus, began = launched
    criteria = [row["metric"]["criterion"] for row in prometheus.query("autoadvance_criterion_limit")]
    assert len(criteria) > 1
    empty = []
    for name in FILES:
        for place, expression, instant in queries(name):
            for criterion in criteria if "$criterion" in expression else criteria[:1]:
                asked = filled(expression, criterion)
                answer = (
                    prometheus.query(asked)
                    if instant
                    else prometheus.query_range(asked, start=began, end=time.time(), step_s=1)
                )
                if not answer:
                    empty.append(f"{place}: {asked}")
    assert empty == []
    done = 'autoadvance_writes_total{outcome="done"}'
    written = {row["metric"]["of"] for row in prometheus.query(f"{done} > 0")}
    assert {"route", "dry run", "status"} <= written
    assert (prometheus.value('autoadvance_queries_total{outcome="answered"}') or 0) > 5
    # The gauge of starts marks an instant in milliseconds.
    assert (prometheus.value(f"{STARTS} * 1000") or 0) > 1.7e12
    prometheus.wait_for('ALERTS{alertname="Watchdog"}')
    alerting = {row["metric"]["alertname"] for row in prometheus.query('ALERTS{alertstate="firing"}')}
    assert alerting == {"Watchdog"}, "a launch in good health has others firing"

"""The alerting rules: equal to their table, right in every case, on metrics that exist, with a page for each."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import pytest
import yaml

from controller.core.evidence import Outcome
from controller.core.signals import Signal
from demo.parts import MANIFESTS, Daemon
from rules import alerts
from tests.realparts.parts import ROOT
from tests.realparts.prometheus import Prometheus, config, promtool, static
from tests.realparts.server import free_port, wait_until
from tests.rules.alert_cases import CASES, Case, promtool_tests

FILE = Path(alerts.__file__).with_name("alerts.yaml")
ROLES = {"eng-lead", "ops-lead", "product-lead", "vp-engineering", "on-call-backup"}


def said(*arguments: str | Path) -> tuple[bool, str]:
    done = subprocess.run(
        [str(promtool()), *map(str, arguments)], capture_output=True, text=True, timeout=300, check=False
    )
    return done.returncode == 0, done.stdout + done.stderr


def tried(folder: Path, rules: str, cases: Sequence[Case] = CASES) -> tuple[bool, str]:
    """What promtool says of these rules in these cases."""
    (folder / "alerts.yaml").write_text(rules, encoding="utf-8")
    (folder / "cases.json").write_text(json.dumps(promtool_tests("alerts.yaml", cases)), encoding="utf-8")
    return said("test", "rules", folder / "cases.json")


def written() -> Iterator[dict[str, Any]]:
    for group in yaml.safe_load(FILE.read_text(encoding="utf-8"))["groups"]:
        yield from group["rules"]


def test_the_committed_file_is_what_the_table_says() -> None:
    assert FILE.read_text(encoding="utf-8") == alerts.render(), (
        "rules/alerts.yaml differs; run `python -m rules.alerts`"
    )


def test_every_alert_has_a_case_in_which_it_fires_and_one_in_which_it_does_not() -> None:
    names = {rule.name for rule in alerts.RULES}
    assert {case.alert for case in CASES if case.fires} == names
    assert {case.alert for case in CASES if not case.fires} == names - {"Watchdog"}, "the watchdog never rests"


@pytest.mark.real
def test_promtool_finds_nothing_and_every_case_comes_out(tmp_path: Path) -> None:
    good, words = said("check", "rules", "--lint=all", "--lint-fatal", FILE)
    assert good, words
    good, words = tried(tmp_path, FILE.read_text(encoding="utf-8"))
    assert good, words


@pytest.mark.real
@pytest.mark.parametrize(
    ("alert", "right", "wrong"),
    [
        ("AutoAdvanceControllerDown", "for: 2m", "for: 9m"),
        ("AutoAdvanceNotReconciling", "clamp_min(3 *", "clamp_min(90 *"),
        ("AutoAdvanceTwoLeaders", "> 1", "> 0"),
        ("AutoAdvancePrometheusUnreachable", 'outcome="answered"', 'outcome="anwsered"'),
        ("AutoAdvanceRollbackFailing", '"RollingBack"', '"RolledBack"'),
        ("AutoAdvanceLaunchNotEvaluated", "unless on ()", "and on ()"),
        ("AutoAdvanceWeightNotObserved", "humanizePercentage", "humanize"),
        ("AutoAdvanceEvidenceStale", "max by (namespace, launch, target)", "min by (namespace, launch, target)"),
    ],
)
def test_a_broken_rule_fails_and_promtool_names_its_alert(tmp_path: Path, alert: str, right: str, wrong: str) -> None:
    before, start, after = FILE.read_text(encoding="utf-8").partition(f"- alert: {alert}\n")
    assert right in after.partition("- alert: ")[0]
    cases = [case for case in CASES if case.alert == alert]
    good, words = tried(tmp_path, before + start + after.replace(right, wrong, 1), cases)
    assert not good
    assert f"alertname: {alert}" in words


@pytest.mark.real
def test_every_alert_that_cannot_fire_any_more_is_noticed(tmp_path: Path) -> None:
    dead = re.sub(r"expr: \|\n(?: {10}.*\n)+", "expr: vector(1) == 2\n", FILE.read_text(encoding="utf-8"))
    good, words = tried(tmp_path, dead, [case for case in CASES if case.fires])
    assert not good
    assert {rule.name for rule in alerts.RULES if f"alertname: {rule.name}," not in words} == set()


@pytest.mark.real
def test_every_alert_that_fires_without_cause_is_noticed(tmp_path: Path) -> None:
    labels = 'label_replace(label_replace(vector(1), "namespace", "prod", "", ""), "launch", "shop", "", "")'
    loud = re.sub(r"expr: \|\n(?: {10}.*\n)+(?: {8}for: .*\n)?", f"expr: {labels}\n", FILE.read_text(encoding="utf-8"))
    calm = [case for case in CASES if not case.fires]
    good, words = tried(tmp_path, loud, calm)
    assert not good
    assert words.count("exp:[") == len(calm)


@pytest.mark.real
@pytest.mark.parametrize("version", ["2", "3"])
def test_both_prometheus_load_and_evaluate_them(tmp_path: Path, version: Literal["2", "3"]) -> None:
    shutil.copy(FILE, tmp_path / "alerts.yaml")
    with Prometheus(tmp_path, version=version, config=config(rule_files=[tmp_path / "alerts.yaml"])) as prometheus:
        prometheus.wait_for('ALERTS{alertname="Watchdog",alertstate="firing"}')
        rules = [rule for group in prometheus.get("rules")["groups"] for rule in group["rules"]]
    assert {rule["name"] for rule in rules} == {rule.name for rule in alerts.RULES}
    assert {rule["name"]: rule.get("lastError", "") for rule in rules if rule["health"] == "err"} == {}


@pytest.mark.real
def test_on_a_live_controller_they_notice_what_fails_and_rest_when_it_is_mended(tmp_path: Path) -> None:
    quick = re.sub(r"\b(\d+)m\b", lambda found: f"{2 * int(found[1])}s", FILE.read_text(encoding="utf-8"))
    (tmp_path / "quick.yaml").write_text(quick, encoding="utf-8")
    shutil.copytree(MANIFESTS, tmp_path / "manifests")
    absent = f"http://127.0.0.1:{free_port()}"
    daemon = Daemon(tmp_path / "daemon", tmp_path / "manifests", absent, absent)
    scrape = static("auto-advance", [f"127.0.0.1:{daemon.port}"])
    served = config([scrape], rule_files=[tmp_path / "quick.yaml"])
    with Prometheus(tmp_path / "prometheus", config=served) as prometheus:

        def firing() -> set[str]:
            rows = prometheus.query('ALERTS{alertstate="firing"}')
            return {row["metric"]["alertname"] for row in rows} - {"Watchdog"}

        wait_until(lambda: firing() == {"AutoAdvanceControllerDown"}, deadline_s=60, what="no controller")
        with daemon:
            wait_until(
                lambda: firing() == {"AutoAdvancePrometheusUnreachable"}, deadline_s=60, what="no answer of Prometheus"
            )
            (alert,) = prometheus.query('ALERTS{alertname="AutoAdvancePrometheusUnreachable"}')
            labels = {"__name__", "alertname", "alertstate"}
            assert {name: value for name, value in alert["metric"].items() if name not in labels} == {
                "severity": "critical", "component": "auto-advance", "role": "ops-lead",
            }  # fmt: skip
        wait_until(lambda: firing() == {"AutoAdvanceControllerDown"}, deadline_s=60, what="the controller to be missed")


def test_every_alert_has_its_labels_and_its_links() -> None:
    for rule in written():
        labels, texts = rule["labels"], rule["annotations"]
        assert set(labels) == {"severity", "component", "role"}, rule["alert"]
        assert labels["severity"] in {"critical", "warning", "info"}, rule["alert"]
        assert labels["component"] in {"auto-advance", "launch"}, rule["alert"]
        assert labels["role"] in ROLES, rule["alert"]
        assert set(texts) == {"summary", "description", "runbook_url", "dashboard_url"}, rule["alert"]
        assert (ROOT / texts["runbook_url"]).is_file(), rule["alert"]
        assert "$value" not in texts["summary"] or rule["alert"] == "AutoAdvanceTwoLeaders", rule["alert"]


def test_alerts_of_a_launch_name_it_and_carry_no_label_of_the_scrape() -> None:
    for rule in written():
        of_launch = rule["labels"]["component"] == "launch"
        assert ("by (namespace, launch" in rule["expr"]) == of_launch, rule["alert"]
        assert ("$labels.launch" in rule["annotations"]["summary"]) == of_launch, rule["alert"]


def test_links_lead_to_where_they_are_told_to(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pages, grafana = "https://git.example/pages/", "https://grafana.example"
    assert alerts.main(["--runbooks", pages, "--dashboards", grafana, "--out", str(tmp_path)]) == 0
    assert str(tmp_path) in capsys.readouterr().out
    text = (tmp_path / "alerts.yaml").read_text(encoding="utf-8")
    assert "https://git.example/pages/Watchdog.md" in text
    assert "https://grafana.example/d/auto-advance-launch?var-namespace={{ $labels.namespace }}" in text
    assert "docs/runbooks" not in text


# What they ask for exists.

SELECTOR = re.compile(r"(autoadvance_\w+)(?:\{([^}]*)\})?")
MATCHER = re.compile(r'(\w+)\s*(?:=~|!=|=)\s*"([^"]*)"')


def test_the_rules_ask_only_for_metrics_labels_and_values_that_the_exporter_has() -> None:
    vocabulary = exported_values()
    for rule in written():
        assert unknown(rule["expr"], vocabulary) == [], rule["alert"]


def test_a_typo_in_a_metric_a_label_or_a_value_would_be_found() -> None:
    vocabulary = exported_values()
    assert unknown("autoadvance_leaders", vocabulary) == ["autoadvance_leaders"]
    assert unknown('autoadvance_queries_total{outcom="done"}', vocabulary) == ["autoadvance_queries_total: outcom"]
    wrong = 'autoadvance_launch_state{state=~"Held|Holding"}'
    assert unknown(wrong, vocabulary) == ["autoadvance_launch_state: state Holding"]


def exported_values() -> dict[str, dict[str, set[str]]]:
    """By metric and label every value that it can have; an empty set: any."""
    from tests.test_docs import exercised

    free = {"namespace", "launch", "target", "criterion", "phase", "le", "version"}
    found: dict[str, dict[str, set[str]]] = {}
    for family in exercised().collect():
        for sample in family.samples:
            labels = found.setdefault(sample.name, {})
            for label, value in sample.labels.items():
                labels.setdefault(label, set()).update(() if label in free else (value,))
    # only the present one is shown
    found["autoadvance_launch_reason"]["reason"] = {signal.value for signal in Signal}
    assert found["autoadvance_criterion_verdict"]["verdict"] == {outcome.value for outcome in Outcome}
    assert set(found["autoadvance_decisions_total"]["signal"]) == {signal.value for signal in Signal}
    return found


def unknown(expression: str, vocabulary: dict[str, dict[str, set[str]]]) -> list[str]:
    """What an expression names and nobody exports."""
    faults: list[str] = []
    for name, matchers in SELECTOR.findall(expression):
        if name not in vocabulary:
            faults.append(name)
            continue
        for label, value in MATCHER.findall(matchers):
            known = vocabulary[name].get(label)
            if known is None:
                faults.append(f"{name}: {label}")
            else:
                faults += [f"{name}: {label} {one}" for one in value.split("|") if known and one not in known]
    return faults

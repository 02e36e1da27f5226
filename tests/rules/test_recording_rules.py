"""The committed rule files: equal to their generator, accepted by promtool, right in every scenario, and not by luck."""

import shutil
import subprocess
from pathlib import Path

import pytest

from rules import generate
from tests.realparts.prometheus import promtool as realparts_promtool
from tests.rules.scenarios import SCENARIOS, SOURCES, Scenario, write_promtool_tests

RULES = Path(generate.__file__).parent
RESTARTS = Path(__file__).with_name("restarts.test.yaml")
FILES = ("http.yaml", "envoy.yaml", "restarts.yaml")


@pytest.fixture(scope="module")
def promtool() -> Path:
    return realparts_promtool()


def run_promtool(promtool: Path, *arguments: str | Path) -> tuple[bool, str]:
    done = subprocess.run(
        [str(promtool), *map(str, arguments)], capture_output=True, text=True, timeout=300, check=False
    )
    return done.returncode == 0, done.stdout + done.stderr


def test_the_committed_files_are_what_the_generator_writes() -> None:
    written = generate.render()
    assert sorted(written) == sorted(FILES)
    for name, text in written.items():
        assert (RULES / name).read_text(encoding="utf-8") == text, (
            f"rules/{name} differs; run `python -m rules.generate`"
        )


@pytest.mark.parametrize(("interval_s", "offset_s"), [(10, 5), (2, 1), (1, 0.25), (60, 15), (120, 30)])
def test_promtool_accepts_the_rules_of_every_interval(
    promtool: Path, tmp_path: Path, interval_s: float, offset_s: float
) -> None:
    for name, text in generate.render(interval_s, offset_s).items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    good, said = run_promtool(
        promtool, "check", "rules", "--lint=all", "--lint-fatal", *(tmp_path / name for name in FILES)
    )
    assert good, said


def test_another_interval_scales_names_windows_offsets_and_the_limit_of_young_processes(tmp_path: Path) -> None:
    assert generate.main(["--interval", "2s", "--offset", "1s", "--out", str(tmp_path)]) == 0
    text = (tmp_path / "http.yaml").read_text(encoding="utf-8")
    assert "interval: 2s" in text
    assert "record: namespace_service_track:request_errors:delta2s" in text
    assert 'last_over_time(http_requests_total{track!=""}[2s] offset 1s)' in text
    assert 'last_over_time(http_requests_total{track!=""}[5m] offset 3s)' in text
    assert "max_over_time(up[5m] offset 3s) == 1" in text
    assert "last_over_time(process_start_time_seconds[2s] offset 1s) > time() - 33" in text
    assert "last_over_time(envoy_server_uptime[2s] offset 1s) < 32" in (tmp_path / "envoy.yaml").read_text("utf-8")
    assert "delta10s" not in text


def test_an_interval_that_promql_cannot_write_is_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with pytest.raises(SystemExit):
        generate.main(["--interval", "soon", "--out", str(tmp_path)])
    assert "--interval soon" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.fact)
def test_the_rules_count_every_event_once(promtool: Path, tmp_path: Path, source: str, scenario: Scenario) -> None:
    write_promtool_tests(tmp_path / "tests.yaml", RULES / f"{source}.yaml", source, [scenario])
    good, said = run_promtool(promtool, "test", "rules", tmp_path / "tests.yaml")
    assert good, said


def test_restarts_are_counted_once_whatever_becomes_of_pods_and_of_kube_state_metrics(promtool: Path) -> None:
    good, said = run_promtool(promtool, "test", "rules", RESTARTS)
    assert good, said


SCRAPED_BEFORE = "max_over_time(up[5m] offset 15s) == 1"

MUTANTS = {
    "resets are negative": (">= 0", ">= -1e9"),
    "no fallback for resets and births": ("[10s] offset 5s)\n              and on", "[10s] offset 5s) > 1e9\n              and on"),
    "the anchor is the newest sample": ("[5m] offset 15s)\n              >=", "[5m] offset 5s)\n              >="),
    "the anchor is of the interval before only": ("[5m] offset 15s)\n              >=", "[10s] offset 15s)\n              >="),
    "windows overlap": ("[10s] offset 5s)\n              -", "[10s])\n              -"),
    "a row without a fresh sample": ("[10s] offset 5s)", "[1m] offset 5s)"),
    "births only of young processes": (SCRAPED_BEFORE, "max_over_time(up[5m] offset 15s) == 2"),
    "births also where scrapes had failed": (SCRAPED_BEFORE, "max_over_time(up[5m] offset 15s) >= 0"),
    "births also where nothing was scraped": ("offset 15s) == 1", "offset 5s) == 1"),
    "no births of young processes": (" - 45", " - 0"),
    "births of old processes": (" - 45", " - 1e6"),
    "no zero rows": ("or 0 * ", "or 0 > "),
    "zero rows hold the requests": ("or 0 * ", "or 1 * "),
    "no errors of class 5": ('code=~"5.."', 'code=~"4.."'),
    "errors are all requests": (',code=~"5.."', ""),
    "tracks are one": ("by (namespace, service, track)", "by (namespace, service)"),
    "untracked pods are counted": ('http_requests_total{track!=""}', "http_requests_total"),
    "one spelling of an edge": ('le=~"1([.]0)?"', 'le="1"'),
    "the wrong edge": ('le="0.25"', 'le="0.5"'),
    "no bucket of all": ('le="+Inf"', 'le="Inf"'),
}  # fmt: skip


@pytest.mark.parametrize("mutation", MUTANTS, ids=str)
def test_a_rule_that_is_broken_on_purpose_fails_the_scenarios(promtool: Path, tmp_path: Path, mutation: str) -> None:
    right = (RULES / "http.yaml").read_text(encoding="utf-8")
    wrong = right.replace(*MUTANTS[mutation])
    assert wrong != right, "this mutation changes nothing any more"
    (tmp_path / "http.yaml").write_text(wrong, encoding="utf-8")
    write_promtool_tests(tmp_path / "tests.yaml", tmp_path / "http.yaml", "http", SCENARIOS)
    good, said = run_promtool(promtool, "test", "rules", tmp_path / "tests.yaml")
    assert not good, f"the scenarios do not notice: {mutation}"
    assert "exp:" in said, said  # it failed by its counts, not by its grammar


ENVOY_MUTANTS = {
    "births of old processes": ("[10s] offset 5s) < 40", "[10s] offset 5s) < 4000"),
    "no births of young processes": ("[10s] offset 5s) < 40", "[10s] offset 5s) < 0"),
    "every class is an error": (',envoy_response_code_class="5"', ""),
    "milliseconds are taken for seconds": ('le=~"250([.]0)?"', 'le="0.25"'),
    "service and namespace change places": ('"service", "$2"', '"service", "$1"'),
    "the cluster's name stays on the row": ("by (namespace, service, track)", "by (namespace, service, track, envoy_cluster_name)"),
}  # fmt: skip


@pytest.mark.parametrize("mutation", ENVOY_MUTANTS, ids=str)
def test_an_envoy_rule_that_is_broken_on_purpose_fails_the_scenarios(
    promtool: Path, tmp_path: Path, mutation: str
) -> None:
    right = (RULES / "envoy.yaml").read_text(encoding="utf-8")
    wrong = right.replace(*ENVOY_MUTANTS[mutation])
    assert wrong != right, "this mutation changes nothing any more"
    (tmp_path / "envoy.yaml").write_text(wrong, encoding="utf-8")
    write_promtool_tests(tmp_path / "tests.yaml", tmp_path / "envoy.yaml", "envoy", SCENARIOS)
    good, said = run_promtool(promtool, "test", "rules", tmp_path / "tests.yaml")
    assert not good, f"the scenarios do not notice: {mutation}"
    assert "exp:" in said, said


RESTART_MUTANTS = {
    "replicas add up": ("max by (namespace, pod, uid, container)", "sum by (namespace, pod, uid, container)"),
    "old pods count": ("> time() - 300", "> time() - 1e6"),
    "born pods do not count": ("> time() - 300", "> time() - 0"),
    "a name is a pod": ("by (namespace, pod, uid, container)", "by (namespace, pod, container)"),
    "a relabelled pod fails the rule": ("topk by (namespace, pod) (1, ", "topk by (namespace, pod) (2, "),
}


@pytest.mark.parametrize("mutation", RESTART_MUTANTS, ids=str)
def test_a_restart_rule_that_is_broken_on_purpose_fails_its_tests(
    promtool: Path, tmp_path: Path, mutation: str
) -> None:
    right = (RULES / "restarts.yaml").read_text(encoding="utf-8")
    wrong = right.replace(*RESTART_MUTANTS[mutation])
    assert wrong != right, "this mutation changes nothing any more"
    (tmp_path / "rules").mkdir()
    (tmp_path / "rules" / "restarts.yaml").write_text(wrong, encoding="utf-8")
    (tmp_path / "tests" / "rules").mkdir(parents=True)
    shutil.copy(RESTARTS, tmp_path / "tests" / "rules")
    good, said = run_promtool(promtool, "test", "rules", tmp_path / "tests" / "rules" / RESTARTS.name)
    assert not good, f"the tests do not notice: {mutation}"
    assert "exp:" in said or "many-to-many" in said or "multiple matches" in said, said

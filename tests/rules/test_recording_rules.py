"""The committed rule files: equal to their generator, accepted by promtool, right in every scenario, and not by luck."""

import shutil
import subprocess
from pathlib import Path

import pytest

from rules import generate
from tests.realparts.prometheus import promtool as realparts_promtool
from tests.rules.scenarios import (
    SCENARIOS,
    SCENARIOS_OF,
    SOURCES,
    Scenario,
    istio_by_workload_series,
    write_promtool_tests,
)

RULES = Path(generate.__file__).parent
RESTARTS = Path(__file__).with_name("restarts.test.yaml")
FILES = ("http.yaml", "envoy.yaml", "istio.yaml", "otel.yaml", "otel-pushed.yaml", "restarts.yaml")


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


@pytest.mark.parametrize(
    ("source", "scenario"),
    [
        pytest.param(source, scenario, id=f"{source}-{scenario.fact}")
        for source, scenarios in SCENARIOS_OF.items()
        for scenario in scenarios
    ],
)
def test_the_rules_count_every_event_once(promtool: Path, tmp_path: Path, source: str, scenario: Scenario) -> None:
    write_promtool_tests(tmp_path / "tests.yaml", RULES / f"{source}.yaml", SOURCES[source], [scenario])
    good, said = run_promtool(promtool, "test", "rules", tmp_path / "tests.yaml")
    assert good, said


def test_istio_tells_the_tracks_apart_by_workload_with_another_table(promtool: Path, tmp_path: Path) -> None:
    shipped = (RULES / "sources" / "istio.yaml").read_text(encoding="utf-8")
    by_version = "  track: {from: destination_version, match: '(canary|stable)'}\n"
    by_workload = "  # track: {from: destination_workload, match: '.+-(canary|stable)'}\n"
    assert by_version in shipped
    assert by_workload in shipped
    table = tmp_path / "mesh.yaml"
    table.write_text(shipped.replace(by_version, "").replace(by_workload, by_workload.replace("# ", "")), "utf-8")
    assert generate.main(["--table", str(table), "--edges", "250ms,1s", "--out", str(tmp_path / "out")]) == 0
    rules = tmp_path / "out" / "mesh.yaml"
    assert "name: auto-advance-mesh-requests" in rules.read_text(encoding="utf-8")
    write_promtool_tests(tmp_path / "tests.yaml", rules, istio_by_workload_series, SCENARIOS)
    good, said = run_promtool(promtool, "test", "rules", tmp_path / "tests.yaml")
    assert good, said


def test_restarts_are_counted_once_whatever_becomes_of_pods_and_of_kube_state_metrics(promtool: Path) -> None:
    good, said = run_promtool(promtool, "test", "rules", RESTARTS)
    assert good, said


SCRAPED_BEFORE = "max_over_time(up[5m] offset 15s) == 1"

HTTP_MUTANTS = {
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


ENVOY_MUTANTS = {
    "births of old processes": ("[10s] offset 5s) < 40", "[10s] offset 5s) < 4000"),
    "no births of young processes": ("[10s] offset 5s) < 40", "[10s] offset 5s) < 0"),
    "every class is an error": (',envoy_response_code_class="5"', ""),
    "milliseconds are taken for seconds": ('le=~"250([.]0)?"', 'le="0.25"'),
    "service and namespace change places": ('"service", "$2"', '"service", "$1"'),
    "the cluster's name stays on the row": ("by (namespace, service, track)", "by (namespace, service, track, envoy_cluster_name)"),
}  # fmt: skip


OTEL_MUTANTS = {
    "a status is needed to fail": ('http_response_status_code="",error_type!=""', 'http_response_status_code="500"'),
    "a start is needed": ("process_uptime_seconds[10s] offset 5s) < 40", "process_uptime_seconds[10s] offset 5s) < 0"),
    "an age is needed": ("process_start_time_seconds[10s] offset 5s) > time() - 45", "process_start_time_seconds[10s] offset 5s) > time()"),
    "what is pushed is counted too": ('{service!="",track!=""', '{track!=""'),
}  # fmt: skip

OTEL_PUSHED_MUTANTS = {
    "an export of anything is no scrape": ("last_over_time(target_info[5m] offset 15s)", "vector(0) > 1"),
    "an export of requests is no scrape": (
        'or last_over_time(http_server_request_duration_seconds_count{k8s_namespace_name!="",service_name!="",track!="",instance!=""}[5m] offset 15s)\n', "\n",
    ),
    "an export of the same interval is one before it": ("target_info[5m] offset 15s", "target_info[5m] offset 5s"),
    "a counter seen at 0 has a history": ("offset 5s) == 0", "offset 5s) < 0"),
    "a counter never seen at 0 has none": ("offset 5s) == 0", "offset 5s) >= 0"),
    "processes without a name are one": (',instance!=""', ""),
    "what is scraped is counted too": ('{k8s_namespace_name!="",service_name!="",', "{"),
    "births of old processes": ("> time() - 90", "> time() - 1e6"),
    "no births of young processes": ("[10s] offset 5s) < 85", "[10s] offset 5s) < 0"),
}  # fmt: skip

ISTIO_MUTANTS = {
    "both proxies of a request count it": (',reporter="destination"', ""),
    "gRPC never fails": ('"2|4|12|13|14|15"', '"2"'),
    "gRPC always fails": ('"2|4|12|13|14|15"', '".+"'),
    "every version is a track": ('destination_version=~"(canary|stable)",', ""),
    "the Service of the track is the service": ('"(.+?)(-canary|-stable)?"\n', '"(.+)"\n'),
    "milliseconds are taken for seconds": ('le=~"250([.]0)?"', 'le="0.25"'),
    "the agent's start is unknown": ("istio_agent_process_start_time_seconds[10s] offset 5s) > time() - 45", "istio_agent_process_start_time_seconds[10s] offset 5s) > time()"),
    "Envoy's age is unknown": ("envoy_server_uptime[10s] offset 5s) < 40", "envoy_server_uptime[10s] offset 5s) < 0"),
}  # fmt: skip

MUTANTS = {
    "http": HTTP_MUTANTS,
    "envoy": ENVOY_MUTANTS,
    "otel": OTEL_MUTANTS,
    "otel-pushed": OTEL_PUSHED_MUTANTS,
    "istio": ISTIO_MUTANTS,
}


@pytest.mark.parametrize(
    ("source", "mutation"), [(source, mutation) for source, mutants in MUTANTS.items() for mutation in mutants]
)
def test_a_rule_that_is_broken_on_purpose_fails_the_scenarios(
    promtool: Path, tmp_path: Path, source: str, mutation: str
) -> None:
    # Only the edges that the scenarios look at, since each rule takes its time.
    right = generate.render(edges=(0.25, 1.0))[f"{source}.yaml"]
    wrong = right.replace(*MUTANTS[source][mutation])
    assert wrong != right, "this mutation changes nothing any more"
    broken = tmp_path / "rules.yaml"
    broken.write_text(wrong, encoding="utf-8")
    write_promtool_tests(tmp_path / "tests.yaml", broken, SOURCES[source], SCENARIOS_OF[source])
    good, said = run_promtool(promtool, "test", "rules", tmp_path / "tests.yaml")
    assert not good, f"the scenarios do not notice: {mutation}"
    assert "exp:" in said, said  # it failed by its counts, not by its grammar


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

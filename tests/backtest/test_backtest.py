"""``backtest`` as people type it, against a real Prometheus that holds a past whose every count is known."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
import yaml

from controller.adapters.prometheus import Prometheus, PrometheusSettings
from controller.backtest.past import Backtest, Span
from controller.core.plan import parse
from controller.core.series import Series, Subject
from controller.gather import Gatherer
from tests.backtest.grounds import (
    SERVICE,
    STEP,
    T0,
    Count,
    Minute,
    asked_of,
    counts,
    launch,
    raw,
    recorded,
    write_blocks,
)
from tests.commands.grounds import call
from tests.realparts.prometheus import Prometheus as RealPrometheus
from tests.realparts.prometheus import config

VERSIONS = [pytest.param(version, marks=pytest.mark.real) for version in ("2", "3")]
HOUR = 3600
LASTS = 10 * HOUR
FROM, TO = "2023-11-01T00:00:00Z", "2023-11-01T10:00:00Z"
OWN = {"name": "failures", "ratio": {"bad": "bad_total", "total": "all_total"}}
CEILING = {"name": "load", "value": {"query": 'sum(rate(all_total{track="{{track}}"}[1m]))'}}
ODD = {"name": "odd", "value": {"query": "sometimes_nan"}}


def course(track: str, second: int) -> Minute | None:
    """A canary from the second hour on, at 5 %, at 25 % and at 50 %, where it is bad; it is taken away after nine."""
    weight = next((w for until, w in ((2, 0.0), (4, 0.05), (6, 0.25), (9, 0.5)) if second <= until * HOUR), 0.0)
    if track == "stable":
        return Minute(20 * (1 - weight), 0.002)
    return Minute(20 * weight, 0.03 if second > 8 * HOUR else 0.002) if weight else None


@pytest.fixture(scope="module")
def truth() -> dict[str, dict[int, Count]]:
    return counts(course, LASTS)


@pytest.fixture(scope="module")
def blocks(truth: Mapping[str, Mapping[int, Count]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    def odd(_truth: object, begin: int, end: int) -> Iterator[str]:
        for at in range(begin + 15, end + 1, 15):
            yield f'sometimes_nan{{namespace="shop"}} {"NaN" if (at - T0) % HOUR < 1800 else 5} {at}\n'

    return write_blocks(tmp_path_factory.mktemp("blocks"), truth, LASTS, recorded, raw, odd)


@pytest.fixture(scope="module", params=VERSIONS)
def url(request: pytest.FixtureRequest, blocks: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Prometheus that holds the past."""
    folder = tmp_path_factory.mktemp("prometheus")
    shutil.copytree(blocks, folder / "data")
    keep = ("--storage.tsdb.retention.time=20y",)
    with RealPrometheus(folder, version=request.param, config=config(), arguments=keep) as server:
        yield server.url


def stored(folder: Path, document: Mapping[str, Any]) -> Path:
    path = folder / "plan.yaml"
    path.write_text(yaml.safe_dump(document))
    return path


def own() -> dict[str, Any]:
    """The same plan over the plan's own counters."""
    document = launch(metrics=[OWN])
    document["spec"]["phases"][0] |= {
        "guardrails": [{"metric": "failures", "below": "1%"}],
        "gate": {"after": "6h", "criteria": [{"metric": "failures", "below": "2%"}]},
    }
    return document


@pytest.mark.parametrize("mode", [(), ("--release",)], ids=["quiet", "release"])
@pytest.mark.parametrize("document", [launch(), own()], ids=["recorded", "raw counters"])
def test_it_says_what_folding_the_same_counts_says(
    url: str, truth: Mapping[str, Mapping[int, Count]], tmp_path: Path, document: dict[str, Any], mode: tuple[str, ...]
) -> None:
    plan = stored(tmp_path, document)
    said = call("backtest", plan, "--from", FROM, "--to", TO, "--prometheus", url, "-o", "json", *mode)
    assert said.stderr == ""
    found = json.loads(said.stdout)
    rows: dict[str, dict[int, Count]] = {track: dict(known) for track, known in truth.items()}
    if document["spec"].get("metrics"):
        # A counter that stands still says 0, where no row is recorded of a track without requests.
        for known in rows.values():
            known.update({at: (0, 0) for at in range(T0 + STEP, T0 + LASTS + 1, STEP) if at not in known})
    direct = Backtest(parse(document), Span(float(T0), float(T0 + LASTS), 10.0, release=bool(mode)))
    for _ in direct.run(asked_of(rows)):
        pass
    assert found == direct.document()
    assert said.exit_code == (1 if mode else 0)
    assert found["failed"] is bool(mode)


def test_gone_on_with_after_prometheus_was_gone_it_says_the_same(url: str, tmp_path: Path) -> None:
    plan, place = stored(tmp_path, launch()), tmp_path / "place.json"
    usual = ("backtest", plan, "--from", FROM, "--to", TO, "--release", "-o", "json")
    whole = call(*usual, "--prometheus", url)
    document = parse(launch())
    half = Backtest(document, Span(float(T0), float(T0 + LASTS), 10.0, release=True))
    prometheus = Prometheus(PrometheusSettings(url=url))
    gatherer = Gatherer(prometheus)
    next(iter(half.run(lambda wanted, until: gatherer.past(wanted, until, 60.0))))
    gatherer.close()
    prometheus.close()
    place.write_text(json.dumps(half.saved()))
    gone = call(*usual, "--prometheus", "http://127.0.0.1:9", "--resume", place)
    assert gone.exit_code == 2
    assert "stopped at 2023-11-01T06:00:00.000Z: Prometheus at 127.0.0.1:9 refuses the connection" in gone.stderr
    assert "the same command goes on from there" in gone.stderr
    after = call(*usual, "--prometheus", url, "--resume", place)
    assert (after.exit_code, after.stdout) == (whole.exit_code, whole.stdout)
    # And what is finished is only told again.
    again = call(*usual, "--prometheus", "http://127.0.0.1:9", "--resume", place)
    assert (again.exit_code, again.stdout) == (whole.exit_code, whole.stdout)


def test_the_table_tells_the_release_as_it_went(url: str, tmp_path: Path) -> None:
    plan = stored(tmp_path, launch())
    said = call("backtest", plan, "--from", FROM, "--to", TO, "--release", "--prometheus", url)
    assert said.exit_code == 1
    lines = said.stdout.splitlines()
    assert lines[0] == ("shop/checkout, a release, 2023-11-01T00:00:00Z to 2023-11-01T10:00:00Z, looked at each 10s")
    assert lines[2].split()[:5] == ["ramp", "main", "errors", "below", "1%"]
    weights = [line.split()[2:] for line in lines if " weight " in line]
    assert weights == [["weight", "main", share] for share in ("5%", "25%", "50%", "0%")]
    fails = [line for line in lines if "  fail  " in line]
    assert fails[0].startswith("2023-11-01 08:0")
    assert "proven worse than" in fails[0]
    assert lines[-1].startswith("shop/checkout: the plan would have rolled it back at 2023-11-01T08:0")
    assert lines[-1].endswith("at 50%: errors below 1%")


def test_a_quiet_time_tells_its_false_alarms(url: str, tmp_path: Path) -> None:
    document = launch(metrics=[CEILING])
    document["spec"]["phases"][0]["guardrails"].append({"metric": "load", "above": "100"})
    plan = stored(tmp_path, document)
    said = call("backtest", plan, "--from", FROM, "--to", TO, "--every", "1h", "--prometheus", url)
    assert said.exit_code == 1
    rows = {tuple(line.split()[2:5]): line.split() for line in said.stdout.splitlines()[2:5]}
    assert rows["errors", "below", "1%"][5:7] == ["10", "0"]
    assert int(rows["load", "above", "100"][6].replace(",", "")) > 100, "each minute below the limit is an alarm"
    assert "false alarms in" in said.stdout.splitlines()[-1]
    assert "more; -o json has them" in said.stdout


def test_the_picture_holds_every_criterion_with_its_weights(url: str, tmp_path: Path) -> None:
    plan = stored(tmp_path, launch())
    said = call("backtest", plan, "--from", FROM, "--to", TO, "--release", "--prometheus", url, "-o", "svg")
    drawn = ET.fromstring(said.stdout)  # noqa: S314 - it was drawn here
    texts = " ".join("".join(each.itertext()) for each in drawn.iter("{http://www.w3.org/2000/svg}text"))
    for word in (
        "errors below 1%",
        "errors below 2%",
        "decides",
        "50%",
        "traffic to the canary",
        "11-01",
        "rolled it back",
    ):
        assert word in texts
    assert len(said.stdout) < 300_000
    again = call("backtest", plan, "--from", FROM, "--to", TO, "--release", "--prometheus", url, "-o", "svg")
    assert again.stdout == said.stdout


def test_what_is_unusable_at_the_end_of_a_piece_is_a_gap_there_and_nothing_else(url: str, tmp_path: Path) -> None:
    document = launch(metrics=[ODD])
    document["spec"]["phases"][0]["guardrails"] = [{"metric": "odd", "below": "100"}]
    plan = stored(tmp_path, document)
    # The first half of each hour is NaN, its end at 00:20 as well.
    said = call("backtest", plan, "--from", FROM, "--to", "2023-11-01T02:20:00Z", "--prometheus", url, "-o", "json")
    assert said.stderr == ""
    seconds = json.loads(said.stdout)["criteria"][0]["seconds"]
    assert seconds["no data"] == pytest.approx(1800 + 1800 + 1200, abs=200)
    assert seconds["pass"] > 3000


def test_stored_rows_are_read_to_the_instant_and_once(url: str, truth: Mapping[str, Mapping[int, Count]]) -> None:
    prometheus = Prometheus(PrometheusSettings(url=url, timeout=60.0, read_timeout=60.0))
    gatherer = Gatherer(prometheus)
    subjects = {
        Subject(Series("recorded", "errors"), "shop", "main", SERVICE, "v2", "stable"): T0 + HOUR,
        Subject(Series("ratio", "own", "bad_total", "all_total"), "shop", "main", SERVICE, "v2", "stable"): T0
        + 2 * HOUR,
    }
    found = gatherer.past(subjects, T0 + 5 * HOUR + 3.0, 60.0)
    gatherer.close()
    prometheus.close()
    for subject, after in subjects.items():
        reading = found[subject]
        assert (reading.problem, reading.tail, reading.after, reading.through) == ("", (), after, T0 + 5 * HOUR)
        instants = [int(row.at) for row in reading.settled]
        assert instants == list(range(after + STEP, T0 + 5 * HOUR + 1, STEP))
        assert [(int(row.n), int(row.x)) for row in reading.settled] == [truth["stable"][at] for at in instants]


WRONG: dict[str, tuple[tuple[str, ...], str]] = {
    "a beginning after the end": (
        ("--from", TO, "--to", FROM),
        "--from: is no tick before --to; write an earlier instant",
    ),
    "no instant": (("--from", "yesterday", "--to", TO), "--from: "),
    "the future": (("--from", "1h", "--to", "2049-01-01T00:00:00Z"), "--to 2049-01-01T00:00:00Z: has not come yet"),
    "a phase that is none": (
        ("--from", "1h", "--phase", "rmap"),
        "--phase rmap: the plan has no such phase; write one of ramp",
    ),
    "a release of stable": (("--from", "1h", "--release", "--every", "2h"), "--every: belongs to a quiet time"),
    "a tick of nothing": (("--from", "1h", "--tick", "0s"), "--tick"),
    "a file of something else": (("--from", "1h", "--resume", __file__), "it is no stored backtest; name another file"),
}


@pytest.mark.parametrize(("arguments", "said"), WRONG.values(), ids=WRONG)
def test_what_cannot_be_used_is_said_with_what_to_write(tmp_path: Path, arguments: tuple[str, ...], said: str) -> None:
    refused = call("backtest", stored(tmp_path, launch()), *arguments)
    assert refused.exit_code == 2
    assert said in refused.stderr


def test_a_release_needs_something_that_counts_requests(tmp_path: Path) -> None:
    document = launch(metrics=[CEILING])
    document["spec"]["phases"][0] |= {"guardrails": [{"metric": "load", "above": "100"}], "gate": None}
    refused = call("backtest", stored(tmp_path, document), "--from", "1h", "--release")
    assert refused.exit_code == 2
    assert "target main has no criterion that counts requests in a phase with steps" in refused.stderr

"""That there was no incident is proven by real servers, or it is not: nothing that hides one lets a gate pass."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import pytest

from controller.adapters.incidents import NOT_KNOWN, IncidentSources
from controller.adapters.prometheus import Prometheus as Adapter
from controller.adapters.prometheus import PrometheusSettings
from controller.adapters.promql import Confinement
from controller.commands.check import examine
from controller.core.criteria import resolve
from controller.core.evidence import Criterion, Fold, Outcome, Verdict
from controller.core.fold_text import decode, encode
from controller.core.incidents import note
from controller.core.plan import parse
from controller.core.series import RecordedForm, launch_wide
from controller.core.spec import GateCriterion
from controller.core.verdicts import advance, begin, judge
from controller.core.words import sentence
from controller.gather import Gatherer
from controller.settings import read_settings
from tests.core.builders import document, ramp
from tests.realparts.alertmanager import Alertmanager
from tests.realparts.prometheus import Prometheus, config, static
from tests.realparts.server import free_port, http

VERSIONS = [pytest.param(version, marks=pytest.mark.real) for version in ("2", "3")]
WATCHDOG = {"alert": "Watchdog", "expr": "vector(1)", "labels": {"severity": "none"}}


def _rule(name: str, expression: str, **labels: str) -> dict[str, Any]:
    return {"alert": name, "expr": expression, "labels": {"team": "learning", **labels}}


@dataclass
class Servers:
    """A Prometheus that scrapes itself and evaluates rules each second, and the Alertmanager that it tells."""

    prometheus: Prometheus
    alertmanager: Alertmanager

    @contextlib.contextmanager
    def watching(
        self,
        *,
        severity: str = "critical",
        watchdog: str = "Watchdog",
        resend: float = 0.5,
        urls: tuple[str, ...] = (),
        **fields: Any,
    ) -> Iterator[Watching]:
        """One criterion, followed from now on."""
        adapter = Adapter(PrometheusSettings(url=self.prometheus.url, timeout=20.0, read_timeout=20.0))
        gatherer = Gatherer(adapter, confinement=Confinement(watchdog=(("alertname", watchdog),)))
        sources = IncidentSources(
            gatherer,
            adapter,
            urls or (self.alertmanager.url,),
            watchdog={"alertname": watchdog},
            resend=resend,
            each=0.3,
            timeout=10.0,
        )
        written = GateCriterion.model_validate({"incidents": severity, "atMost": 0, **fields})
        criterion = resolve(written, {}, RecordedForm())
        # As the plan has it, but quicker; a busy machine stores what it found a while later.
        criterion = replace(criterion, series=replace(criterion.series, interval=1, settle=3.0))
        try:
            yield Watching(criterion, sources, begin(criterion, time.time(), 3600))
        finally:
            sources.stop()
            gatherer.close()
            adapter.close()

    def silence(self, **labels: str) -> None:
        """Silence the alerts with these labels."""
        now = datetime.now(UTC)
        matchers = [{"name": name, "value": value, "isRegex": False} for name, value in labels.items()]
        answer = http().post(
            f"{self.alertmanager.url}/api/v2/silences",
            json={
                "matchers": matchers,
                "startsAt": now.isoformat(),
                "endsAt": (now + timedelta(hours=1)).isoformat(),
                "createdBy": "a person",
                "comment": "works on it",
            },
            timeout=30,
        )
        answer.raise_for_status()

    def post(self, **labels: str) -> None:
        """What another sender than Prometheus tells the Alertmanager."""
        answer = http().post(f"{self.alertmanager.url}/api/v2/alerts", json=[{"labels": labels}], timeout=30)
        answer.raise_for_status()


@dataclass
class Watching:
    """A criterion that is judged again and again, as the controller does it, and every verdict that it had."""

    criterion: Criterion
    sources: IncidentSources
    fold: Fold
    verdicts: list[Verdict] = field(default_factory=list)

    def look(self) -> Verdict:
        """One tick."""
        subject = launch_wide(self.criterion.series, "prod")
        now = time.time()
        reading = self.sources.gather({subject: self.fold.last}, now, 20.0)[subject]
        if not reading.problem:
            self.fold = advance(self.criterion, self.fold, reading.settled, reading.through)
            self.fold = decode(encode(note(self.criterion, self.fold, reading.noticed)))
        self.verdicts.append(judge(self.criterion, "", self.fold, reading, now))
        return self.verdicts[-1]

    def until(self, outcome: Outcome, words: str = "", deadline_s: float = 90.0) -> Verdict:
        """Ticks until that verdict, with these words."""
        wait, end = threading.Event(), time.monotonic() + deadline_s
        while time.monotonic() < end:
            verdict = self.look()
            if verdict.outcome is outcome and words in sentence(verdict):
                return verdict
            wait.wait(0.25)
        raise AssertionError(f"no {outcome} with {words!r}, but {sentence(self.verdicts[-1])!r}")

    def for_a_while(self, seconds: float = 4.0) -> set[Outcome]:
        """The verdicts of so many seconds."""
        first, wait, end = len(self.verdicts), threading.Event(), time.monotonic() + seconds
        while time.monotonic() < end:
            self.look()
            wait.wait(0.25)
        return {verdict.outcome for verdict in self.verdicts[first:]}

    @property
    def outcomes(self) -> set[Outcome]:
        """All that it was so far."""
        return {verdict.outcome for verdict in self.verdicts}


@contextlib.contextmanager
def _servers(
    folder: Path, version: Literal["2", "3", "any"], groups: list[Mapping[str, Any]], *, itself: bool = True
) -> Iterator[Servers]:
    rules = folder / "rules.json"
    rules.write_text(json.dumps({"groups": groups}))
    port = free_port()
    with contextlib.ExitStack() as stack:
        (folder / "alertmanager").mkdir()
        (folder / "prometheus").mkdir()
        alertmanager = stack.enter_context(Alertmanager(folder / "alertmanager"))
        scrape = static("prometheus", [f"127.0.0.1:{port}"])
        settings = config([scrape] if itself else [], rule_files=[rules], alertmanagers=[alertmanager.address])
        prometheus = stack.enter_context(Prometheus(folder / "prometheus", version=version, port=port, config=settings))
        alertmanager.wait_for(alertname="Watchdog")
        if itself:
            prometheus.wait_for("prometheus_rule_group_last_evaluation_timestamp_seconds > 0")
        yield Servers(prometheus, alertmanager)


@pytest.fixture(scope="module", params=VERSIONS)
def servers(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """For the tests that change nothing for each other: each has a severity of its own."""
    fires = [
        WATCHDOG,
        _rule("Down", 'up{job="nobody"} == 0', severity="critical"),
        _rule("LaunchHeld", "vector(1)", severity="critical", component="launch", launch="shop"),
        _rule("Disk", "vector(1)", severity="hushed"),
        _rule("Network", "vector(1)", severity="loud"),
        _rule("Odd", "vector(1)", severity="broken", summary="{{ $value }}"),
        _rule("Copies", 'up{job="prometheus"} < on (job) group_left () count by (job) (up) * 0', severity="own"),
        _rule("Elsewhere", "vector(0) > 1", severity="elsewhere"),
        _rule("Hidden", "vector(0) > 1", severity="hidden"),
    ]
    with _servers(tmp_path_factory.mktemp("servers"), request.param, [{"name": "shop", "rules": fires}]) as started:
        yield started


def test_no_incident_is_proven_where_everything_is_alive(servers: Servers) -> None:
    with servers.watching(matchers=['team="learning"']) as watching:
        watching.until(Outcome.PASS)
        assert watching.outcomes <= {Outcome.PASS, Outcome.UNDECIDED}
        assert watching.look().x == 0


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        (
            {"matchers": ['team="lerning"']},
            'no alerting rule of Prometheus can have team="lerning"; they have "learning"',
        ),
        ({"severity": "criticle"}, 'no alerting rule of Prometheus can have severity="criticle"'),
        ({"matchers": ['job="shop"']}, 'no alerting rule of Prometheus can have job="shop"'),
        (
            {"matchers": ["alertname=Disk"]},
            'no alerting rule of Prometheus can have severity="critical" and alertname="Disk" at once',
        ),
    ],
)
def test_a_typo_in_a_matcher_is_no_data_and_not_zero(servers: Servers, fields: dict[str, Any], why: str) -> None:
    with servers.watching(**fields) as watching:
        watching.until(Outcome.NO_DATA, why)
        assert Outcome.PASS not in watching.outcomes


def test_a_label_that_the_expression_has_is_no_typo(servers: Servers) -> None:
    with servers.watching(severity="own", matchers=['job="prometheus"', "instance=~.+"]) as watching:
        watching.until(Outcome.PASS)


def test_a_check_of_the_plan_says_before_what_would_be_no_data(servers: Servers) -> None:
    def said(watchdog: str = "Watchdog", **fields: Any) -> list[tuple[str, str]]:
        criterion = {"incidents": "critical", "atMost": 0, **fields}
        phase = ramp(guardrails=None, steps=None, gate={"after": "1h", "criteria": [criterion]})
        plan = parse(document(phases=[ramp(), phase | {"name": "judged"}]))
        flags = {"prometheus": servers.prometheus.url, "alertmanager-watchdog": [f"alertname={watchdog}"]}
        found = examine(plan, read_settings(flags, {}), time.time()).findings
        return [(one.kind, str(one)) for one in found if one.metric == "incidents"]

    assert said(matchers=["team=learning"]) == []
    ((kind, words),) = said(matchers=["team=lerning"])
    assert kind == "no-rule"
    assert words.startswith(
        'metric incidents, matchers: no alerting rule of Prometheus can have team="lerning"; they have'
    )
    ((kind, words),) = said(watchdog="DeadMansSwitch")
    assert kind == "no-proof"
    assert "Prometheus shows no alert that always fires; load such a rule" in words


def test_a_missing_watchdog_is_no_data(servers: Servers) -> None:
    with servers.watching(watchdog="DeadMansSwitch") as watching:
        watching.until(Outcome.NO_DATA, "Prometheus shows no alert that always fires")
        assert Outcome.PASS not in watching.outcomes


def test_a_silenced_alert_is_undecided_unless_the_plan_says_otherwise(servers: Servers) -> None:
    servers.silence(alertname="Disk")
    with (
        servers.watching(severity="hushed") as watching,
        servers.watching(severity="hushed", silenced="count") as counting,
        servers.watching(severity="hushed", silenced="ignore") as ignoring,
    ):
        found = watching.until(Outcome.UNDECIDED, "1 silenced since")
        assert "counts neither as an incident nor as none" in sentence(found)
        assert watching.for_a_while() == {Outcome.UNDECIDED}
        assert not watching.outcomes & {Outcome.PASS, Outcome.FAIL}
        counting.until(Outcome.FAIL)
        ignoring.until(Outcome.PASS)
        assert Outcome.FAIL not in ignoring.outcomes


def test_silencing_an_alert_that_was_seen_to_fire_takes_nothing_back(servers: Servers) -> None:
    with servers.watching(severity="loud") as watching:
        watching.until(Outcome.FAIL)
        servers.silence(alertname="Network")
        assert watching.for_a_while() == {Outcome.FAIL}


def test_an_alert_of_another_sender_is_an_incident_of_which_prometheus_knows_nothing(servers: Servers) -> None:
    with servers.watching(severity="elsewhere") as watching:
        watching.until(Outcome.PASS)
        servers.post(alertname="Payments", severity="elsewhere", component="launch", launch="shop")
        servers.post(alertname="Payments", severity="elsewhere")
        assert watching.until(Outcome.FAIL).x == 1


def test_a_silenced_alert_of_another_sender_is_undecided(servers: Servers) -> None:
    servers.silence(alertname="Other")
    servers.post(alertname="Other", severity="hidden")
    with servers.watching(severity="hidden") as watching:
        watching.until(Outcome.UNDECIDED, "1 silenced")
        assert watching.for_a_while() == {Outcome.UNDECIDED}


def test_one_alertmanager_of_two_that_answers_is_enough(servers: Servers) -> None:
    with servers.watching(urls=(f"http://127.0.0.1:{free_port()}", servers.alertmanager.url)) as watching:
        watching.until(Outcome.PASS)


def test_an_alertmanager_that_does_not_answer_is_no_data(servers: Servers) -> None:
    with servers.watching(urls=(f"http://127.0.0.1:{free_port()}",)) as watching:
        watching.until(Outcome.NO_DATA, "did not show its alerts")
        assert Outcome.PASS not in watching.outcomes


def test_an_alertmanager_that_was_just_restarted_is_no_data_until_all_had_time_to_tell_it(servers: Servers) -> None:
    with servers.watching(resend=8.0) as watching:
        watching.until(Outcome.PASS)
        servers.alertmanager.stop()
        servers.alertmanager.start()
        servers.alertmanager.wait_for(alertname="Watchdog")
        watching.until(Outcome.UNDECIDED, "is up for")
        watching.until(Outcome.NO_DATA, "is up for")
        watching.until(Outcome.PASS)


@pytest.mark.parametrize("version", VERSIONS)
def test_an_alert_that_fired_and_was_over_before_anybody_looked_counts(
    version: Literal["2", "3"], tmp_path: Path
) -> None:
    begin_s = time.time() + 8
    rules = [WATCHDOG, _rule("Short", f"vector(time()) >= {begin_s:.0f} < {begin_s + 3:.0f}", severity="critical")]
    with _servers(tmp_path, version, [{"name": "shop", "rules": rules}]) as servers, servers.watching() as watching:
        watching.fold = begin(watching.criterion, begin_s - 5, 3600)
        servers.prometheus.wait_for('ALERTS{alertname="Short"}')
        servers.prometheus.wait_for(f"vector(time()) > {begin_s + 12:.0f} unless ALERTS{{alertname='Short'}}")
        assert servers.alertmanager.alerts(alertname="Short") == []
        assert watching.until(Outcome.FAIL, "1 critical incident, none is allowed").x == 1
        assert Outcome.PASS not in watching.outcomes


@pytest.mark.parametrize("version", VERSIONS)
def test_rules_that_prometheus_does_not_evaluate_are_no_data(version: Literal["2", "3"], tmp_path: Path) -> None:
    groups: list[Mapping[str, Any]] = [
        {"name": "alive", "rules": [WATCHDOG, _rule("Down", "vector(0) > 1", severity="critical")]},
        {"name": "asleep", "interval": "10000h", "rules": [_rule("Late", "vector(1)", severity="page")]},
    ]
    with _servers(tmp_path, version, groups) as servers, servers.watching() as watching:
        watching.until(Outcome.NO_DATA, "a rule group was not evaluated in time")
        assert Outcome.PASS not in watching.outcomes


@pytest.mark.real
def test_a_prometheus_that_does_not_scrape_itself_proves_nothing(tmp_path: Path) -> None:
    rules = [WATCHDOG, _rule("Down", "vector(0) > 1", severity="critical")]
    groups: list[Mapping[str, Any]] = [{"name": "shop", "rules": rules}]
    with _servers(tmp_path, "any", groups, itself=False) as servers, servers.watching() as watching:
        watching.until(Outcome.NO_DATA, "let it scrape itself")
        assert Outcome.PASS not in watching.outcomes


@pytest.mark.parametrize("version", VERSIONS)
def test_a_rule_that_fails_is_named(version: Literal["2", "3"], tmp_path: Path) -> None:
    several = 'label_replace(vector(1), "a", "1", "", "") or label_replace(vector(1), "a", "2", "", "")'
    failing = f"({several}) + on () ({several}) > 0"
    rules = [WATCHDOG, _rule("Broken", failing, severity="critical")]
    with _servers(tmp_path, version, [{"name": "shop", "rules": rules}]) as servers, servers.watching() as watching:
        watching.until(Outcome.NO_DATA, 'rule "Broken" of group "shop" fails')
        assert Outcome.PASS not in watching.outcomes


def test_nothing_is_waited_for_before_the_first_look(servers: Servers) -> None:
    with servers.watching() as watching:
        subject = launch_wide(watching.criterion.series, "prod")
        reading = watching.sources.gather({subject: watching.fold.last}, time.time(), 20.0)[subject]
        assert reading.noticed is not None
        assert reading.noticed.problem == NOT_KNOWN

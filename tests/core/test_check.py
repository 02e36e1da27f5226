"""From answers to findings: what is said of facts that a test brings about by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from controller.core.check import Facts, Finding, Found, Missing, Part, Sampled, Selected, findings, measured
from controller.core.matchers import Condition, meets
from controller.core.series import Reading, Row, Series, Unproven
from tests.core.builders import criterion

AT = 100_000.0
SERIES = Series("ratio", "failures", bad="failed_total", total="all_total")
CONDITIONS = (
    Condition("service", "=", "checkout"),
    Condition("namespace", "=", "shop"),
    Condition("track", "=", "canary"),
)
ROWS = Reading(99_000, 99_900, tuple(Row(99_000 + 10 * k, 100, 1) for k in range(1, 91)))


def sampled(*values: float, each: float = 15.0, age: float = 5.0, **labels: str) -> Sampled:
    newest = AT - age
    start = newest - each * (len(values) - 1)
    return Sampled(labels, tuple((start + each * place, value) for place, value in enumerate(values)))


RISING = sampled(1, 2, 3, 4, namespace="shop", track="canary", service="checkout")
SOME = Found(2, {"shop": 2}, {"canary": 2}, sampled=(RISING,))


def part(role: str = "total", **changes: object) -> Part:
    usual = Part(f"ratio.{role}", role, Selected(f"{role}_total", CONDITIONS), SOME, SOME)  # type: ignore[arg-type]
    return replace(usual, **changes)  # type: ignore[arg-type]


def facts(*parts: Part, **changes: object) -> Facts:
    usual = Facts(
        target="main",
        metric="failures",
        namespace="shop",
        service="checkout",
        series=SERIES,
        criteria=(criterion(series=SERIES),),
        at=AT,
        canary=ROWS,
        stable=ROWS,
        parts=parts or (part("bad"), part("total")),
    )
    return replace(usual, **changes)  # type: ignore[arg-type]


def one(found: Facts) -> Finding:
    (finding,) = findings([found])
    return finding


def absent(role: str = "total", **missing: object) -> Part:
    return part(role, canary=Found(), missing=replace(Missing(named=4), **missing))  # type: ignore[arg-type]


def test_what_is_good_is_passed_over_and_measured() -> None:
    assert findings([facts()]) == ()
    line = measured(facts())
    assert (line.series, line.per_minute, line.bad_per_minute) == ((2, 2), (600.0, 600.0), (6.0, 6.0))
    assert (line.age, line.interval) == (5.0, 15.0)


def test_a_canary_that_is_scraped_by_no_name_stops_and_one_that_waits_for_traffic_does_not() -> None:
    missing = absent(without=({}, {}, {"stable": 3}))
    waiting = one(facts(part("bad"), missing, scraped={"stable": 3, "canary": 1}))
    unlabelled = one(facts(part("bad"), missing, scraped={"": 9}))
    unseen = one(facts(part("bad"), missing, scraped={"stable": 3, "": 9}))
    assert [each.severity for each in (waiting, unlabelled, unseen)] == ["weak", "weak", "stops"]
    assert {each.kind for each in (waiting, unlabelled, unseen)} == {"stable-only"}
    assert "scrapes no target of namespace shop with track=canary" in unseen.wrong


def test_failures_that_only_stable_has_had_are_no_missing_canary() -> None:
    finding = one(facts(absent("bad", without=({}, {}, {"stable": 3})), part("total")))
    assert (finding.severity, finding.kind) == ("weak", "no-zero-series")


def test_of_several_conditions_that_might_be_wrong_the_likeliest_is_blamed() -> None:
    # Others' canaries are there as well, and this service's in another namespace.
    track = one(facts(absent(without=({"cart": 2}, {"payments": 1}, {"stable": 3}))))
    namespace = one(facts(absent(without=({"cart": 2}, {"payments": 1}, {}))))
    service = one(facts(absent(without=({"chekout": 2, "cart": 5}, {}, {}))))
    assert [track.kind, namespace.kind, service.kind] == ["stable-only", "other-namespace", "unknown-value"]
    assert service.write == "write service: chekout in target main"


def test_a_condition_that_all_events_meet_is_not_what_hides_the_bad_ones() -> None:
    selected = Selected("all_total", (Condition("code", "=~", "5.."), *CONDITIONS))
    missing = Missing(9, without=({"200": 2}, {"cart": 3}, {}, {}))
    bad = part("bad", canary=Found(), selected=selected, missing=missing)
    finding = one(facts(bad, part("total")))
    assert (finding.kind, "its code is 200" in finding.wrong) == ("no-zero-series", True)


def test_a_label_that_exists_under_another_name_is_found_by_its_value() -> None:
    examples = ({"app": "checkout", "pod": "a"},)
    finding = one(facts(absent(without=({"": 4}, {}, {}), examples=examples)))
    assert (finding.kind, finding.write) == ("unknown-label", 'write app="checkout"')


def test_conditions_that_are_met_one_by_one_but_never_together_are_told() -> None:
    met = ({"checkout": 1}, {"shop": 1}, {"canary": 1})
    finding = one(facts(absent(without=({}, {}, {}), alone=met)))
    assert (finding.kind, "none that meets all of" in finding.wrong) == ("no-such-series", True)


def test_where_the_namespace_is_wrong_nothing_else_is_blamed() -> None:
    alone = ({"cart": 1}, {"payments": 1}, {"stable": 1})
    assert one(facts(absent(without=({}, {}, {}), alone=alone))).kind == "other-namespace"


def test_a_denied_label_that_does_not_exist_lets_everything_through() -> None:
    selected = Selected("all_total", (Condition("serivce", "!=", "cart"), *CONDITIONS[1:]))
    finding = one(facts(part("bad"), part("total", selected=selected)))
    assert (finding.severity, finding.kind, finding.write) == ("stops", "unknown-label", 'write service!="cart"')


@pytest.mark.parametrize(
    ("values", "gauge"),
    [
        ((5, 9, 14, 1, 4, 9), False),  # one restart
        ((90, 99, 2, 9, 0, 9, 12), False),  # two restarts
        ((90, 80, 85, 70, 75), True),
        ((1, 0, -1, 2), True),
        ((9, 0, 7, 1, 9, 0, 8, 0, 5, 0, 7), True),
    ],
)
def test_restarts_are_told_from_a_gauge_by_how_it_falls(values: tuple[float, ...], gauge: bool) -> None:
    found = replace(SOME, sampled=(sampled(*values),))
    assert ("gauge" in {each.kind for each in findings([facts(part("bad"), part("total", canary=found))])}) is gauge


def test_what_a_target_says_of_a_counter_is_believed_over_its_course() -> None:
    assert one(facts(part("bad"), part("total", kinds=("gauge",)))).kind == "gauge"
    assert findings([facts(part("bad"), part("total", kinds=("counter", "gauge")))]) == ()


def test_a_scrape_that_is_slower_than_the_rows_is_weak_until_there_is_no_data_in_between() -> None:
    def each(seconds: float) -> tuple[str, ...]:
        slow = replace(SOME, sampled=(sampled(1, 2, 3, 4, each=seconds),))
        found = facts(part("bad", canary=slow, stable=slow), part("total", canary=slow, stable=slow))
        return tuple(finding.severity for finding in findings([found]))

    assert [each(seconds) for seconds in (5, 15, 30, 60, 90)] == [(), (), ("weak",), ("weak",), ("stops",)]


def test_a_canary_that_has_ended_is_not_hidden_by_a_stable_that_goes_on() -> None:
    ended = replace(SOME, sampled=(sampled(1, 2, 3, 4, age=1200),))
    finding = one(facts(part("bad"), part("total", canary=ended)))
    assert (finding.kind, finding.wrong) == ("stale", "its newest sample of canary is 20m old")
    assert measured(facts(part("bad"), part("total", canary=ended))).age == 1200
    resting = facts(part("bad", canary=ended, stable=ended), part("total"))
    assert findings([resting]) == ()


def test_the_same_thing_about_several_targets_is_said_once() -> None:
    slow = replace(SOME, unguarded=1)
    several = [replace(facts(part("bad"), part("total", canary=slow)), target=name) for name in ("east", "west")]
    (finding,) = findings(several)
    assert finding.targets == ("east", "west")
    assert str(finding).startswith("metric failures, ratio.total (targets east and west): 1 series of total_total")


def test_a_question_without_an_answer_is_no_evidence_of_anything() -> None:
    silent = facts(unanswered=("it timed out",), canary=Reading(0, 0, problem="it timed out"))
    assert one(replace(silent, parts=())).kind == "unanswered"


def test_what_the_controller_could_not_read_is_told_where_nothing_else_explains_it() -> None:
    unread = Reading(0, 0, problem='metric "failures" gives NaN')
    assert one(facts(canary=unread)).wrong == 'the controller would have no data of canary: metric "failures" gives NaN'
    assert one(facts(canary=unread, parts=(part("bad"), part("total", kinds=("gauge",))))).kind == "gauge"
    assert one(facts(canary=Reading(0, 0))).kind == "no-rows"


@pytest.mark.parametrize(
    ("operator", "text", "value", "met"),
    [
        ("=", "5", "5", True),
        ("!=", "5", "", True),
        ("=~", "5..", "503", True),
        ("=~", "5", "503", False),
        ("!~", "5..", "200", True),
        ("=~", "(", "x", True),
    ],
)
def test_conditions_are_met_as_prometheus_meets_them(operator: str, text: str, value: str, met: bool) -> None:
    assert meets(Condition("code", operator, text), value) is met


INCIDENTS = Series("incidents", "incidents", bad="critical incidents", total="ALERTS", interval=30, settle=30.0)


def test_incidents_that_no_rule_can_raise_or_nothing_proves_absent_stop_the_launch() -> None:
    proven = Reading(99_000, 99_960, tuple(Row(99_000 + 30 * k, 0, 0) for k in range(1, 33)))
    good = facts(series=INCIDENTS, metric="incidents", target="", canary=proven, stable=None, parts=())
    assert findings([good]) == ()
    # Rules that are evaluated each minute leave every other row without proof.
    assert findings([replace(good, canary=replace(proven, unproven="no watchdog; load one"))]) == ()
    typo = one(replace(good, uncounted=('no alerting rule of Prometheus can have team="lerning"',)))
    assert (typo.severity, typo.kind, typo.fields) == ("stops", "no-rule", ("matchers",))
    assert 'team="lerning"; write incidents and matchers as the rules label their alerts' in str(typo)
    fires = tuple(Unproven(99_000 + 30 * k, 1, 0) for k in range(1, 33))
    blind = one(
        replace(good, canary=Reading(99_000, 99_960, fires, unproven="no alert always fires; load such a rule"))
    )
    assert (blind.severity, blind.kind) == ("stops", "no-proof")
    assert str(blind).endswith("there is no incident is not proven: no alert always fires; load such a rule")
    assert "nothing stored of that time" in str(one(replace(good, canary=Reading(99_000, 99_960))))

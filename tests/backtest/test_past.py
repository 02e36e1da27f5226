"""The past judged piece by piece is what folding it at once gives; and what is told of it is what was in it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from controller.backtest.past import TRIES, Backtest, OtherBacktestError, PastUnreadableError, Span
from controller.backtest.shares import Shares
from controller.commands.backtest import summary
from controller.core.bursts import burstiness
from controller.core.evidence import Criterion, grid
from controller.core.plan import parse
from controller.core.series import Reading, Row, Subject, hours_of
from controller.core.verdicts import advance, begin, in_force, judge
from controller.core.words import sentence
from tests.backtest.grounds import DAY, STEP, T0, Count, Minute, asked_of, counts, launch, poisson_of

HOUR = 3600
Truth = Mapping[str, Mapping[int, Count]]
Ask = Callable[[Mapping[Subject, int], float], Mapping[Subject, Reading]]


def good(track: str, second: int) -> Minute | None:
    return Minute(5, 0.002)


def broken(track: str, second: int) -> Minute | None:
    """A service that fails each twentieth request for half an hour of its second six hours, and is silent for one."""
    if 15 * HOUR < second <= 16 * HOUR:
        return None
    return Minute(5, 0.05 if 10 * HOUR < second <= 10.5 * HOUR else 0.002)


def release(track: str, second: int) -> Minute | None:
    """A canary at 5 %, 25 % and 50 %, an hour each, that fails at the last; then all goes back to stable."""
    weight = next((w for until, w in ((1, 0.0), (2, 0.05), (3, 0.25), (4, 0.5)) if second <= until * HOUR), 0.0)
    if track == "stable":
        return Minute(30 * (1 - weight), 0.002)
    return Minute(30 * weight, 0.03 if weight == 0.5 else 0.002) if weight else None


def held(
    truth: Truth, seconds: int, ask: Ask | None = None, *, plan: dict[str, Any] | None = None, **span: Any
) -> Backtest:
    done = Backtest(parse(plan or launch()), Span(float(T0), float(T0 + seconds), **({"tick": 10.0} | span)))
    for _ in done.run(ask or asked_of(truth)):
        pass
    return done


def directly(
    criterion: Criterion, rows: Mapping[int, Count], seconds: int, horizon: float
) -> list[tuple[float, str, str]]:
    """The changes of a verdict in a quiet time, by the plainest loop over all of it."""
    found: list[tuple[float, str, str]] = []
    series = criterion.series
    fold, before, since = in_force(criterion, begin(criterion, T0, horizon), T0), "", float(T0)

    def varies(at: float) -> float:
        known = [Row(float(t), *map(float, rows[t])) for t in sorted(rows) if t <= at // HOUR * HOUR]
        return float(f"{burstiness(hours_of(known, STEP)):.2f}")

    for at in (float(T0 + second) for second in range(STEP, seconds + 1, STEP)):
        through = grid(at - series.settle, series.interval)
        near = [Row(float(t), *map(float, rows[t])) for t in range(through - 60, int(at) + 1, STEP) if t in rows]
        fold = advance(criterion, fold, [row for row in near if row.at <= through], through)
        verdict = judge(
            criterion, "main", fold, Reading(through, through, (), tuple(r for r in near if r.at > through)), at
        )
        word = verdict.outcome.value
        missed = not before and found and found[-1][1] == word == "no data"
        if word != before and not (not before and word == "undecided") and not missed:
            found.append((at, word, sentence(verdict)))
        before = word
        if word == "fail" or at >= since + horizon:
            fold, before, since = in_force(criterion, begin(criterion, at, horizon, varies(at)), at), "", at
    return found


@pytest.mark.parametrize("course", [good, broken])
def test_pieces_give_the_verdicts_of_the_plainest_loop(course: Callable[[str, int], Minute | None]) -> None:
    truth = counts(course, 18 * HOUR)
    done = held(truth, 18 * HOUR)
    assert done.piece() < 18 * HOUR / 2
    for line in done.lines:
        told = [(change.at, change.verdict, change.sentence) for change in line.changes]
        assert told == directly(line.item.criterion, truth["stable"], 18 * HOUR, 6 * HOUR)
        assert told
        assert sum(line.looks.values()) == 18 * HOUR // STEP


def test_a_good_service_gives_no_false_alarm_and_the_plain_rule_gives_many() -> None:
    truth = counts(lambda track, second: Minute(2, 0.006), DAY)
    plain = launch()
    plain["spec"]["phases"][0]["guardrails"] = [{"metric": "errors", "below": "1%", "certainty": "threshold"}]
    proven = held(truth, DAY).lines[0]
    threshold = held(truth, DAY, plan=plain).lines[0]
    assert (proven.begun, proven.failed) == (4, 0)
    assert threshold.failed > 20


def test_what_was_bad_is_found_when_it_began_and_silence_is_no_data() -> None:
    truth = counts(broken, 18 * HOUR)
    line = held(truth, 18 * HOUR).lines[0]
    fails = [change.at for change in line.changes if change.verdict == "fail"]
    assert 10 * HOUR < fails[0] - T0 < 10.1 * HOUR
    assert all(10 * HOUR < at - T0 < 10.6 * HOUR for at in fails)
    silent = [change.at - T0 for change in line.changes if change.verdict == "no data"]
    assert len(silent) == 1
    assert 15 * HOUR < silent[0] < 15 * HOUR + 120
    assert line.looks["no data"] * STEP == pytest.approx(HOUR, abs=120)


@pytest.mark.parametrize("release_mode", [False, True])
def test_gone_on_with_after_every_piece_it_is_the_same_text(release_mode: bool) -> None:
    truth = counts(release if release_mode else broken, DAY)
    whole = held(truth, DAY, release=release_mode)
    kept, pieces = "", 0
    while True:
        part = Backtest(parse(launch()), whole.span)
        if kept:
            part.restore(json.loads(kept))
        if part.position >= whole.span.end:
            break
        next(iter(part.run(asked_of(truth))))
        kept = json.dumps(part.saved())
        pieces += 1
    assert pieces >= 3
    assert json.dumps(part.document()) == json.dumps(whole.document())
    assert json.dumps(part.saved()) == json.dumps(whole.saved())


def test_what_was_stored_of_something_else_is_refused() -> None:
    truth = counts(good, 2 * HOUR)
    stored = held(truth, 2 * HOUR).saved()
    other = Backtest(parse(launch()), Span(float(T0), float(T0 + 3 * HOUR), 10.0))
    wrongs: tuple[Any, ...] = (stored, {"kind": "other"}, [], {**stored, "identity": other.identity(), "lines": {}})
    for wrong in wrongs:
        with pytest.raises(OtherBacktestError, match=r"name another file|remove it"):
            other.restore(wrong)


def test_memory_does_not_grow_with_the_span() -> None:
    truth = counts(good, 2 * DAY)
    spans: list[int] = []
    answer = asked_of(truth)

    def ask(wanted: Mapping[Subject, int], until: float) -> Mapping[Subject, Reading]:
        readings = answer(wanted, until)
        spans.extend(len(reading.settled) for reading in readings.values())
        return readings

    done = held(truth, 2 * DAY, ask)
    assert max(spans) <= done.piece() / STEP + 5
    assert len(json.dumps(done.saved())) < 200_000


def test_an_answer_that_ends_early_is_asked_on_and_none_at_all_stops_where_it_was() -> None:
    truth = counts(good, 12 * HOUR)
    answer, calls = asked_of(truth), 0

    def halves(wanted: Mapping[Subject, int], until: float) -> Mapping[Subject, Reading]:
        nonlocal calls
        calls += 1
        if calls > 16:
            return {
                subject: Reading(after, after, problem="refuses the connection") for subject, after in wanted.items()
            }
        after = min(wanted.values())
        return answer(wanted, until if until - after < HOUR else after + (until - after) // 2)

    done = Backtest(parse(launch()), Span(float(T0), float(T0 + 12 * HOUR), 10.0))
    with pytest.raises(PastUnreadableError, match="refuses the connection"):
        for _ in done.run(halves):
            pass
    assert calls >= 16 + TRIES
    assert T0 <= done.position < done.span.end
    for _ in done.run(answer):
        pass
    assert json.dumps(done.document()) == json.dumps(held(truth, 12 * HOUR).document())


def test_a_release_is_judged_by_the_weights_that_its_traffic_shows() -> None:
    truth = counts(release, 6 * HOUR)
    done = held(truth, 6 * HOUR, release=True)
    weights = [(at - T0, weight) for at, _, weight in done.weights()]
    assert [weight for _, weight in weights] == [50, 250, 500, 0]
    for (at, _), hour in zip(weights, (1, 2, 3, 4), strict=True):
        assert 0 < at - hour * HOUR <= 60
    stop = done.stops()
    assert stop is not None
    assert 3 * HOUR < stop[0] - T0 < 3 * HOUR + 300
    assert stop[2] == "rollback"
    guardrail = done.lines[0]
    assert (guardrail.begun, guardrail.failed) == (1, 1)
    assert guardrail.fold is None, "there is no canary any more"
    by_weight = [change.weight for change in guardrail.changes if change.verdict == "pass"]
    assert set(by_weight) == {50, 250}, "it has to pass anew at each weight"
    shares = dict(done.shares()["main"])
    assert max(shares.values()) == pytest.approx(0.5, abs=0.05)


def test_where_stable_is_as_bad_the_release_is_held_and_not_blamed() -> None:
    def world(track: str, second: int) -> Minute | None:
        found = release(track, second)
        return None if found is None else Minute(found.rate, 0.05 if second > 3.5 * HOUR else 0.002)

    done = held(counts(world, 5 * HOUR), 5 * HOUR, release=True)
    stop = done.stops()
    assert stop is not None
    assert (stop[1].ending, stop[2]) == ("rollback", "hold")
    change = next(change for change in done.lines[0].changes if change.verdict == "fail")
    assert change.world
    assert done.document()["criteria"][0]["changes"][-1]["stableIsAsBad"] is True


COMPARED = {"metric": "errors", "comparedTo": "stable", "ratioBelow": 3}
UPTIME = {"metric": "uptime", "above": "99%"}


def test_what_is_compared_with_stable_is_judged_in_a_release_alone() -> None:
    plan = launch()
    plan["spec"]["phases"][0]["guardrails"] = [COMPARED]
    plan["spec"]["phases"][0]["gate"]["criteria"] = [COMPARED | {"ratioBelow": 200}]
    truth = counts(release, 6 * HOUR)
    lines = held(truth, 6 * HOUR, plan=plan, release=True).lines
    fails = [change.at - T0 for change in lines[0].changes if change.verdict == "fail"]
    assert 3 * HOUR < fails[0] < 3 * HOUR + 300
    assert lines[0].passed == 1
    assert not lines[1].failed
    with pytest.raises(ValueError, match="beside the canary, which a quiet time has not; add --release"):
        Backtest(parse(plan), Span(float(T0), float(T0 + HOUR), 10.0))
    plan["spec"]["phases"][0]["guardrails"].append({"metric": "errors", "below": "1%"})
    quiet = held(truth, 6 * HOUR, plan=plan)
    assert [line.item.criterion.key for line in quiet.lines] == ["errors below 1%"]
    assert len(quiet.document()["notJudged"]) == 2


def test_the_budget_of_an_uptime_passes_at_the_end_of_each_phase_that_did_not_spend_it() -> None:
    plan = launch()
    plan["spec"]["phases"][0]["gate"]["criteria"] = [UPTIME]

    def down(track: str, second: int) -> Minute | None:
        return Minute(5, 0.9 if 13 * HOUR < second <= 13.2 * HOUR else 0.002)

    line = held(counts(down, DAY), DAY, plan=plan).lines[1]
    verdicts = [(round((change.at - T0) / HOUR, 1), change.verdict) for change in line.changes]
    assert [verdict for _, verdict in verdicts[:3]] == ["pass", "pass", "fail"]
    assert [at for at, _ in verdicts[:3]] == [6.0, 12.0, 13.1]


def test_a_value_is_judged_at_the_looks_of_each_phase_and_never_between_them() -> None:
    plan = launch()
    revenue = {"query": "revenue", "standardError": "revenue_error", "unit": "percent"}
    plan["spec"]["metrics"] = [{"name": "revenue", "interval": "1m", "value": revenue}]
    plan["spec"]["phases"][0]["checkpoints"] = ["2h"]
    plan["spec"]["phases"][0]["gate"]["criteria"] = [{"metric": "revenue", "above": "5.8%"}]
    truth = counts(good, DAY)
    answers = asked_of(truth)

    def course(hours: float) -> tuple[float, float]:
        # Undecided at the first checkpoint, bad between two looks, good at the gate; and bad at the next checkpoint.
        return (1.0, 6.1) if hours < 3 else (0.1, 2.0) if hours < 4 or 7 < hours < 9 else (0.1, 6.4)

    def ask(wanted: Mapping[Subject, int], until: float) -> Mapping[Subject, Reading]:
        found = dict(answers({one: at for one, at in wanted.items() if one.series.kind != "value"}, until))
        for one in (each for each in wanted if each.series.kind == "value"):
            instants = range(wanted[one] // 60 * 60 + 60, int(until) // 60 * 60 + 1, 60)
            rows = tuple(Row(float(at), *course((at - T0) / HOUR)) for at in instants)
            found[one] = Reading(wanted[one], int(until) // 60 * 60, rows)
        return found

    line = held(truth, 12 * HOUR, ask, plan=plan).lines[1]
    verdicts = [((change.at - T0) // HOUR, change.verdict) for change in line.changes]
    assert verdicts == [(6.0, "pass"), (8.0, "fail"), (10.0, "pass")]
    assert "proven at the look of 2023-11-01 06:00 UTC (2 of 2 looks)" in line.changes[0].sentence


def test_a_gate_alone_stops_no_release_before_its_time() -> None:
    plan = launch()
    plan["spec"]["phases"][0]["guardrails"] = []
    done = held(counts(release, 6 * HOUR), 6 * HOUR, plan=plan, release=True)
    assert done.lines[0].failed
    assert done.stops() is None
    assert summary(done) == (
        "shop/checkout: no guardrail of the plan would have stopped this release; of its gate failed: errors below 2%"
    )


def test_a_time_without_a_canary_is_no_release() -> None:
    done = held(
        counts(lambda track, second: good(track, second) if track == "stable" else None, HOUR), HOUR, release=True
    )
    assert [line.begun for line in done.lines] == [0, 0]
    assert list(done.weights()) == []


def test_two_phases_follow_each_other_with_their_weights() -> None:
    plan = launch()
    first = plan["spec"]["phases"][0]
    plan["spec"]["phases"] = [
        {**first, "name": "small", "steps": first["steps"][:1]},
        {**first, "name": "large", "steps": first["steps"][1:]},
    ]
    done = held(counts(release, 6 * HOUR), 6 * HOUR, plan=plan, release=True)
    begun = {line.item.phase.name: line.since - T0 for line in done.lines}
    assert HOUR < begun["small"] <= HOUR + 60
    assert 2 * HOUR < begun["large"] <= 2 * HOUR + 60
    assert [line.failed for line in done.lines] == [0, 0, 1, 1]


@pytest.mark.parametrize("rate", [1, 20, 2000])
@pytest.mark.parametrize("seed", range(4))
def test_the_weights_are_told_from_thin_and_from_dense_traffic(rate: int, seed: int) -> None:
    """Gateways do not split to the last request: the canary gets 4 % more than it should."""
    shares = Shares([50, 250, 500, 1000])
    draw = poisson_of(f"{seed} {rate}")
    seen: list[tuple[int, int]] = []
    for row in range(5 * 360):
        true = (0, 50, 250, 1000, 0)[row // 360] / 1000
        canary = draw(rate * STEP * min(1.0, true * 1.04))
        if shares.look(canary, draw(rate * STEP * (1 - true))):
            seen.append((row, shares.weight))
    assert [weight for _, weight in seen] == [50, 250, 1000, 0]
    late = [row - place * 360 for place, (row, _) in enumerate(seen, 1)]
    assert max(late) <= (60 if rate == 1 else 8)
    restored = Shares([50, 250, 500, 1000])
    restored.restore(json.loads(json.dumps(shares.saved())))
    assert restored.saved() == shares.saved()


def test_ticks_are_the_same_whatever_piece_they_fall_into() -> None:
    span = Span(T0 + 0.25, T0 + 100.0, 7.5)
    whole = span.ticks(span.begin, span.end)
    assert [*span.ticks(span.begin, T0 + 50), *span.ticks(T0 + 50, span.end)] == whole
    assert whole[0] == T0 + 7.75
    assert len(whole) == 13


def test_a_bursty_service_is_judged_by_evidence_that_weighs_less() -> None:
    """Errors come by the dozen. Where nothing is known of that, as in the first hours, it looks like proof."""
    truth = counts(lambda track, second: Minute(5, 0.006), 2 * DAY)
    clumped: dict[str, dict[int, Count]] = {track: {} for track in truth}
    for track, rows in truth.items():
        waiting = 0
        for at, (n, x) in rows.items():
            waiting += x
            now = waiting if waiting >= 12 else 0
            waiting -= now
            clumped[track][at] = (n, min(n, now))
    line = held(clumped, 2 * DAY).lines[0]
    fails = [change.at - T0 for change in line.changes if change.verdict == "fail"]
    assert fails
    assert max(fails) < 6 * HOUR
    calm = held(truth, 2 * DAY).lines[0]
    assert line.fold is not None
    assert calm.fold is not None
    assert line.fold.bursts > 5
    assert calm.fold.bursts < 1.2
    assert (calm.begun, calm.failed) == (8, 0)


def test_the_day_before_says_how_the_service_varies() -> None:
    seen: list[tuple[int, float]] = []
    answer = asked_of(counts(good, 2 * HOUR))

    def ask(wanted: Mapping[Subject, int], until: float) -> Mapping[Subject, Reading]:
        seen.extend((after, until) for after in wanted.values())
        return answer(wanted, until)

    held({}, 2 * HOUR, ask)
    assert seen[0][0] == T0 - DAY
    assert any(until == T0 for _, until in seen)

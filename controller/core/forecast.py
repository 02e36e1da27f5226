"""What each gate and each step of a plan can decide with the traffic that there is, and what would make it decide."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from functools import cached_property, lru_cache
from math import ceil, floor, inf, isfinite, log10
from typing import Any

from controller.core.evidence import Criterion
from controller.core.facts import patience
from controller.core.faults import Fault, listed, path_text
from controller.core.likelihoods import START_WEIGHT, start_weight
from controller.core.plan import Phase, Plan
from controller.core.power import (
    MOST_BAD,
    Bars,
    Times,
    bars_of,
    false_fail_at_most,
    fewest_bad,
    pass_times,
    passes_at,
    passes_within,
    plain_false_alarms,
    requests_to_pass,
    smallest_caught,
    soonest_pass,
)
from controller.core.schedule import planned_end
from controller.core.series import Series
from controller.core.thresholds import bar_of_looks
from controller.core.units import FULL_WEIGHT, format_count, format_duration, format_weight

SURE = 0.95
"""With at least this chance a gate or step is said to decide in its time."""
LONGEST = 366 * 86400.0
AS_GOOD_AS = 0.5
MOST_AS_GOOD_AS = 0.95
_PER = {"s": 1.0, "m": 60.0, "h": 3600.0}


@dataclass(frozen=True, slots=True)
class Traffic:
    """All requests per second (both tracks) by target; ``quiet`` is what it falls below in 5 % of the time, if known.

    ``bursts`` is how much more than by chance bad requests vary, by target and series where it was measured, and
    ``usual_bursts`` where it was not (1: each is bad by itself).
    """

    requests: Mapping[str, float]
    quiet: Mapping[str, float] = field(default_factory=dict)
    bursts: Mapping[tuple[str, Series], float] = field(default_factory=dict)
    usual_bursts: float = 1.0

    def bursts_of(self, target: str, series: Series) -> float:
        """How much the bad requests of that series vary, 1 or more."""
        return max(1.0, self.bursts.get((target, series), self.usual_bursts))


@dataclass(frozen=True)
class Place:
    """A gate or a step, and when and on what it is decided.

    ``step`` counts from 1; 0 is the gate. It is judged from ``earliest`` to ``latest`` seconds after its weights came
    into force; a gate with an instant of its own, ``once``, only then, and so much later once more at the end of
    ``extension`` seconds. ``weights`` are thousandths by target. ``begun`` is how many seconds of its phase are over
    before, ``horizon`` the phase's planned length in seconds.
    """

    phase: str
    step: int
    criteria: tuple[tuple[str, Criterion], ...]
    weights: tuple[tuple[str, int], ...]
    earliest: float
    latest: float
    once: bool
    extension: float
    begun: float
    horizon: float | None
    path: str

    @property
    def name(self) -> str:
        """As people call it."""
        return f"step {self.step} of phase {self.phase}" if self.step else f"gate of phase {self.phase}"

    @cached_property
    def weight_text(self) -> str:
        """The weights, one where they are alike."""
        weights = sorted({weight for _, weight in self.weights})
        return " to ".join(format_weight(weight) for weight in dict.fromkeys((weights[0], weights[-1])))


@dataclass(frozen=True)
class Forecast:
    """What one criterion of a place can decide. Times are seconds after the weights came into force.

    ``decides`` is the chance to pass in time, ``false_fail`` a bound on that of being proven bad for nothing, and
    ``undecided`` the rest. ``alike``: all targets have the same traffic. ``requests`` are those of the thinnest
    target's canary in the time. ``catches`` is the smallest bad share that is proven in the time with a chance of 95 %.
    ``needs_*``: each by itself makes it decide with 95 %; None: it does not, or there is no need. ``problem`` says why
    it cannot pass, or cannot fail. ``bursts`` is how much more than by chance the bad requests of the thinnest target
    vary; above 1 all these numbers are approximate.
    """

    place: Place
    path: str
    criterion: Criterion
    sentence: str
    target: str = ""
    alike: bool = True
    rate: float | None = None
    requests: int | None = None
    decides: float | None = None
    undecided: float | None = None
    false_fail: float | None = None
    decides_when_quiet: float | None = None
    decides_extended: float | None = None
    median: float | None = None
    most: float | None = None
    catches: float | None = None
    needs_rate: float | None = None
    needs_seconds: float | None = None
    needs_weight: int | None = None
    problem: str = ""
    bursts: float = 1.0

    @property
    def fault(self) -> Fault | None:
        """What is wrong with the plan, if anything is: at the step, or at the gate's criterion."""
        path = self.place.path if self.place.step else self.path
        return Fault(path, f"{self.criterion.key}: {self.problem}") if self.problem else None

    def document(self) -> dict[str, Any]:
        """As it is printed for scripts: seconds, shares and requests per second as numbers, null where nothing is known."""
        return {
            "path": self.path,
            "phase": self.place.phase,
            "step": self.place.step or None,
            "gate": not self.place.step,
            "criterion": self.criterion.key,
            "seconds": self.place.latest,
            "weights": {name: weight / 10 for name, weight in self.place.weights},
            "target": self.target or None,
            "requestsPerSecond": self.rate,
            "canaryRequests": self.requests,
            "bursts": self.bursts,
            "decides": self.decides,
            "undecided": self.undecided,
            "falseFailAtMost": self.false_fail,
            "decidesWhenQuiet": self.decides_when_quiet,
            "decidesExtended": self.decides_extended,
            "medianSeconds": self.median,
            "seconds95": self.most,
            "catches": self.catches,
            "needsRequestsPerSecond": self.needs_rate,
            "needsSeconds": self.needs_seconds,
            "needsWeight": None if self.needs_weight is None else self.needs_weight / 10,
            "problem": self.problem or None,
            "sentence": self.sentence,
        }


def parse_rate(text: str) -> float:
    """Requests per second of ``100/s``, ``50/m`` or ``10/h``.

    Raises:
        ValueError: not such a rate, or none above 0.
    """
    number, _, unit = text.partition("/")
    try:
        rate = float(number) / _PER[unit]
    except (ValueError, KeyError):
        rate = -1.0
    if not 0 < rate < 1e9:
        raise ValueError(f"{text!r} is no rate; write requests per second, minute or hour, such as 100/s")
    return rate


def rows_within(series: Series, seconds: float) -> int:
    """How many rows count for a pass so many seconds after a weight came into force.

    The first instant that holds nothing from before is only the anchor, and a row counts once it has settled.
    """
    return max(0, floor((seconds - series.lag - series.settle) / series.interval + 1e-9) - 1)


def seconds_until(series: Series, row: int) -> float:
    """After how many seconds that row (1 is the first) counts, at the latest."""
    return series.lag + series.settle + (row + 1) * series.interval


# Where and when the plan decides.


def places(plan: Plan, spent: Mapping[tuple[str, int], float] | None = None) -> Iterator[Place]:
    """Every step and every gate with criteria, in order; ``spent``: how many seconds a step takes, beyond its ``for``."""
    weights = dict.fromkeys((target.name for target in plan.targets), 0)
    ended: float | None = None
    for index, phase in enumerate(plan.phases):
        start = ended if phase.start is None else phase.start
        time = _time_of_gate(phase, start)
        begun = 0.0
        for number, step in enumerate(phase.steps, start=1):
            for name in phase.targets:
                weights[name] = max(weights[name], step.weight)
            last = number == len(phase.steps)
            latest = patience(step.lasts)
            if last and time is not None:
                # The last step waits for its gate, and its patience counts from there.
                latest += max(0.0, time - begun - step.lasts)
            yield Place(
                phase=phase.name,
                step=number,
                criteria=tuple(_proof(phase, index)),
                weights=tuple((name, weight) for name, weight in weights.items() if weight),
                earliest=step.lasts,
                latest=latest,
                once=False,
                extension=0.0,
                begun=begun,
                horizon=phase.horizon,
                path=path_text(("spec", "phases", index, "steps", number - 1)),
            )
            if not last:
                begun += max(step.lasts, min((spent or {}).get((phase.name, number), 0.0), latest))
        if phase.gate is not None and phase.gate.criteria:
            yield _gate(phase, index, weights, time, begun)
        end = planned_end(phase)
        ended = end if end is not None else None if start is None or time is None else start + time


def _time_of_gate(phase: Phase, start: float | None) -> float | None:
    """Seconds from the start of the phase to its gate's instant."""
    if phase.gate is None:
        return None
    if phase.gate.after is not None:
        return phase.gate.after
    if phase.gate.at is None or start is None or phase.gate.at <= start:
        return None
    return phase.gate.at - start


def _gate(phase: Phase, index: int, weights: Mapping[str, int], time: float | None, begun: float) -> Place:
    assert phase.gate is not None
    lasts = phase.steps[-1].lasts if phase.steps else 0.0
    left = None if time is None else time - begun
    once = left is not None and left > lasts
    outcome = phase.gate.on_undecided
    return Place(
        phase=phase.name,
        step=0,
        criteria=tuple(
            (path_text(("spec", "phases", index, "gate", "criteria", number)), criterion)
            for number, criterion in zip(phase.gate.written, phase.gate.criteria, strict=True)
        ),
        weights=tuple((name, weights[name]) for name in phase.targets),
        earliest=left if once and left is not None else lasts,
        latest=left if once and left is not None else patience(lasts),
        once=once,
        extension=outcome.by * outcome.times if outcome.kind == "extend" else 0.0,
        begun=begun,
        horizon=phase.horizon,
        path=path_text(("spec", "phases", index, "gate")),
    )


def _proof(phase: Phase, index: int) -> Iterator[tuple[str, Criterion]]:
    """What must pass before a step is left, as the rungs have it: the enforced guardrails, else the gate's criteria."""
    enforced = [(number, one) for number, one in enumerate(phase.guardrails) if one.enforce]
    for number, guardrail in enforced:
        yield path_text(("spec", "phases", index, "guardrails", number)), guardrail.criterion
    if not enforced and phase.gate is not None:
        for number, criterion in zip(phase.gate.written, phase.gate.criteria, strict=True):
            if not criterion.looks:
                yield path_text(("spec", "phases", index, "gate", "criteria", number)), criterion


# With traffic.


def forecasts(plan: Plan, traffic: Traffic, as_good_as: float = AS_GOOD_AS) -> tuple[Forecast, ...]:
    """What each criterion of each step and gate can decide, if the bad share is ``as_good_as`` times its limit."""
    found: list[Forecast] = []
    spent: dict[tuple[str, int], float] = {}
    # How long a step takes decides when the next begins, so they are made one after the other.
    for number in range(len(tuple(places(plan)))):
        place = tuple(places(plan, spent))[number]
        made = [_forecast(place, path, criterion, traffic, as_good_as) for path, criterion in place.criteria]
        found += made
        if place.step:
            spent[place.phase, place.step] = max(
                (LONGEST if each.most is None else each.most for each in made if each.decides is not None), default=0.0
            )
    return tuple(found)


def _forecast(place: Place, path: str, criterion: Criterion, traffic: Traffic, as_good_as: float) -> Forecast:
    if criterion.exact or criterion.versus or criterion.series.kind == "value":
        return _bare(place, path, criterion)
    rates = {name: traffic.requests.get(name, 0.0) * weight / FULL_WEIGHT for name, weight in place.weights}
    bursts = {name: traffic.bursts_of(name, criterion.series) for name in rates}
    thin = min(rates, key=lambda name: rates[name] / bursts[name], default="")
    if not thin or rates[thin] <= 0:
        return _without_traffic(place, path, criterion)
    made = Forecast(
        place,
        path,
        criterion,
        "",
        target=thin,
        alike=len({(rates[name], bursts[name]) for name in rates}) == 1,
        rate=traffic.requests[thin],
        bursts=bursts[thin],
    )
    if criterion.plain:
        return _threshold(made, rates[thin], as_good_as)
    return _Counts(made, rates, traffic, as_good_as).forecast()


def _bare(place: Place, path: str, criterion: Criterion) -> Forecast:
    """Of what is counted, compared or a bare value: there is nothing to compute but whether there is time."""
    head = f"{place.name}: {criterion.key}"
    if criterion.of_record:
        return Forecast(place, path, criterion, f"{head}: is counted by the launch itself, and certain")
    if criterion.launch_wide:
        return Forecast(place, path, criterion, f"{head}: is counted, and an incident that was counted is certain")
    if criterion.restarts:
        return Forecast(place, path, criterion, f"{head}: is counted, and a restart that was counted is certain")
    if criterion.budget:
        return Forecast(
            place,
            path,
            criterion,
            f"{head}: {_budget(criterion, place.begun + place.earliest if place.once else place.horizon)}",
        )
    if criterion.looks:
        return Forecast(place, path, criterion, f"{head}: {_looks_said(criterion)}")
    if criterion.versus:
        said = "is compared with stable; how soon that decides depends on how good stable is"
        return Forecast(place, path, criterion, f"{head}: {said}")
    needed = criterion.window + seconds_until(criterion.series, 1)
    if needed > place.latest + place.extension:
        problem = (
            f"cannot pass within {format_duration(place.latest)}: it must hold for {format_duration(criterion.window)}, "
            f"which takes {format_duration(needed)}; give it that long"
        )
        return Forecast(
            place, path, criterion, f"{head}: {problem}", needs_seconds=needed, decides=0.0, problem=problem
        )
    return Forecast(
        place,
        path,
        criterion,
        f"{head}: a bare value: decides once it held for {format_duration(criterion.window)}; "
        "nothing says how sure that is",
    )


def _budget(criterion: Criterion, horizon: float | None) -> str:
    """What a budget of time comes to over the planned length of its phase (seconds)."""
    if not horizon:
        return "is a budget of time, which is judged at the end of the phase"
    interval, allowed = float(criterion.series.interval), criterion.limit * horizon
    said = f"{format_duration(floor(10 * allowed) / 10)} of {format_duration(horizon)} may be down, judged at the end of the phase"
    if allowed > interval:
        return said
    return (
        f"{said}; that is no interval of {format_duration(interval)} at all, not even one that nobody saw: "
        f"{_roughly(_up(interval / criterion.limit))} would bear one, or a limit of "
        f"{100 - _up(100 * interval / horizon):.6g}%"
    )


def _looks_said(criterion: Criterion) -> str:
    """How many looks there are, what each must find, and what that means for a value that is as good as it may be."""
    needs, needs_to_fail = bar_of_looks(criterion)
    assert criterion.certainty is not None
    each = 1 - (1 - criterion.certainty) / criterion.looks
    looks = "one look" if criterion.looks == 1 else f"{criterion.looks} looks, each"
    return (
        f"{looks} at {_certain(each)}: a value {_up(needs, 3):.3g} standard errors beyond the limit passes, "
        f"one {_up(needs_to_fail, 3):.3g} on its bad side fails"
    )


def _without_traffic(place: Place, path: str, criterion: Criterion) -> Forecast:
    names = ", ".join(name for name, weight in place.weights if not weight) or "its targets"
    problem = (
        f"cannot pass: no step has given {names} any canary traffic by then; "
        "add a step to this phase or to one before it"
    )
    return Forecast(
        place, path, criterion, f"{place.name}: {criterion.key}: {problem}", decides=0.0, undecided=1.0, problem=problem
    )


def _threshold(made: Forecast, rate: float, as_good_as: float) -> Forecast:
    criterion, place = made.criterion, made.place
    # As many as come at once are one.
    alarms = plain_false_alarms(
        criterion.limit,
        ceil(criterion.min_bad / made.bursts),
        rate * criterion.window / made.bursts,
        place.latest / criterion.window,
        as_good_as * criterion.limit,
    )
    return replace(
        made,
        requests=floor(rate * place.latest),
        sentence=f"{place.name}: {criterion.key}: a plain threshold: within {format_duration(place.latest)} {_at(made)} "
        f"it breaks by chance with {_chance(alarms)} or more, though the service is good; write certainty: 99%",
    )


class _Counts:
    """A criterion of counts with a certainty, at one place and some traffic."""

    def __init__(self, made: Forecast, rates: Mapping[str, float], traffic: Traffic, as_good_as: float) -> None:
        self.made, self.rates, self.traffic = made, rates, traffic
        self.criterion, self.place = made.criterion, made.place
        self.series = made.criterion.series
        self.bars = bars_of(made.criterion, made.bursts)
        self.share = as_good_as * self.criterion.limit
        self.rows = rows_within(self.series, self.place.latest)
        self.thin = rates[made.target]
        self.unit = self.bars.unit

    def forecast(self) -> Forecast:
        """The numbers, and the sentence."""
        place, bars, weight = self.place, self.bars, dict(self.place.weights)[self.made.target]
        requests = self._requests(place.latest)
        needed = self.unit * requests_to_pass(bars, self.share, SURE ** (1 / len(self.rates)))
        decides = self._decides(self.rates)
        false_fail = min(1.0, len(self.rates) * false_fail_at_most(bars, self.share))
        median, most = self._times()
        made = replace(
            self.made,
            requests=requests,
            decides=decides,
            undecided=max(0.0, 1 - decides),
            false_fail=false_fail,
            decides_when_quiet=self._when_quiet(),
            decides_extended=self._extended(decides),
            median=median,
            most=most,
            catches=smallest_caught(bars, self._units(requests), SURE, self._start_weight()) if requests else None,
        )
        if decides < SURE and isfinite(needed):
            row = ceil(needed / (self.thin * self.series.interval) - 1e-9)
            seconds = max(seconds_until(self.series, row), place.earliest if not place.once else 0.0)
            wanted = ceil(weight * needed / requests) if requests else FULL_WEIGHT + 1
            made = replace(
                made,
                needs_rate=self._rate_for(needed, weight),
                needs_seconds=seconds,
                needs_weight=wanted if wanted <= FULL_WEIGHT else None,
            )
        made = replace(made, problem=self._problem(made))
        return replace(made, sentence=f"{place.name}: {self.criterion.key}: {self._sentence(made)}")

    def _requests(self, seconds: float) -> int:
        return floor(self.thin * self.series.interval * rows_within(self.series, seconds) + 1e-9)

    def _units(self, requests: int) -> int:
        return floor(requests / self.unit)

    def _decides(self, rates: Mapping[str, float]) -> float:
        return _product(self._passes(name, rate) for name, rate in rates.items())

    def _per_row(self, name: str, rate: float) -> tuple[Bars, float]:
        """The bars of that target, and how many units of them come in a row."""
        bars = bars_of(self.criterion, self.traffic.bursts_of(name, self.series))
        return bars, rate * self.series.interval / bars.unit

    def _passes(self, name: str, rate: float) -> float:
        bars, per_row = self._per_row(name, rate)
        if self.place.once:
            return passes_at(bars, floor(per_row * self.rows + 1e-9), self.share)
        first = rows_within(self.series, self.place.earliest)
        return _within(bars, self.share, per_row, first, self.rows)

    def _when_quiet(self) -> float | None:
        if not all(name in self.traffic.quiet for name in self.rates):
            return None
        return self._decides(
            {name: self.traffic.quiet[name] * weight / FULL_WEIGHT for name, weight in self.place.weights}
        )

    def _extended(self, decides: float) -> float | None:
        if not self.place.extension or decides >= SURE:
            return None
        rows = rows_within(self.series, self.place.latest + self.place.extension)
        found = (self._per_row(name, rate) for name, rate in self.rates.items())
        chance = _product(passes_at(bars, floor(per_row * rows + 1e-9), self.share) for bars, per_row in found)
        return max(decides, chance)

    def _times(self) -> tuple[float | None, float | None]:
        """When all targets have passed: the median, and what 95 % take at most."""
        found = (self._per_row(name, rate) for name, rate in self.rates.items())
        times = [_times(bars, self.share, per_row) for bars, per_row in found]
        return tuple(self._until(times, chance) for chance in (0.5, SURE))  # type: ignore[return-value]

    def _until(self, times: list[Times], chance: float) -> float | None:
        if len(set(map(id, times))) == 1:
            row = times[0].until(chance ** (1 / len(times)))
        else:
            # No target alone may be below the chance of all; so the slowest one's rows are where it is reached.
            least = max((one.until(chance) or 0 for one in times), default=0)
            rows = sorted({row for one in times for row in one.rows if row >= least})
            row = next((row for row in rows if _product(one.by(row) for one in times) >= chance), None)
        return None if row is None else seconds_until(self.series, row)

    def _start_weight(self) -> float:
        if not self.place.begun:
            return START_WEIGHT
        interval = self.series.interval
        horizon = 0 if self.place.horizon is None else max(1, ceil(self.place.horizon / interval))
        return start_weight(ceil(self.place.begun / interval), horizon)

    def _rate_for(self, needed: float, weight: int) -> float | None:
        seconds = self.rows * self.series.interval
        return needed / seconds * FULL_WEIGHT / weight if seconds else None

    def _problem(self, made: Forecast) -> str:
        place, soonest = self.place, ceil(soonest_pass(self.bars) * self.unit)
        whole = place.latest + place.extension
        most = self._requests(whole)
        within = format_duration(place.latest)
        if place.extension:
            within += f", nor with all its extensions ({format_duration(whole)})"
        if most < soonest:
            return (
                f"cannot pass within {within}: even without a bad one it takes {format_count(soonest)} requests of the "
                f"canary, and {_at(made)} there are {format_count(most)}; {self._advice(made)}"
            )
        units = self._units(most)
        if fewest_bad(self.bars, units) > units:
            return (
                f"cannot fail within {within}: {format_count(most)} requests prove nothing even if all of them are bad; "
                f"{self._advice(made)}"
            )
        return ""

    def _advice(self, made: Forecast) -> str:
        ways = []
        if made.needs_seconds is not None:
            if made.needs_seconds <= LONGEST:
                ways.append(f"give it {_roughly(made.needs_seconds)}")
            if made.needs_weight is not None:
                ways.append(f"{format_weight(_rounded_up(made.needs_weight))} of the traffic")
            if made.needs_rate is not None:
                ways.append(_rate(_up(made.needs_rate)))
        ways.append("a wider limit" if ways else "write a wider limit")
        return f"{', '.join(ways[:-1])} or {ways[-1]}" if len(ways) > 1 else ways[0]

    def _sentence(self, made: Forecast) -> str:
        if made.problem:
            return made.problem
        assert made.decides is not None
        within = format_duration(self.place.latest)
        if made.decides >= SURE:
            words = f"decides with {_chance(made.decides)} within {within} {_at(made)}"
            if made.median is not None and made.most is not None:
                words += f" (median {_roughly(made.median)}, 95% by {_roughly(made.most)})"
        else:
            words = f"decides with only {_chance(made.decides)} within {within} {_at(made)}"
            if made.decides_extended is not None and made.decides_extended >= made.decides + 0.01:
                words += f", with {_chance(made.decides_extended)} by the end of its extensions"
            words += f"; for {SURE:.0%} {self._advice(made)}"
        if made.decides_when_quiet is not None and made.decides_when_quiet < SURE <= made.decides:
            quiet = self.traffic.quiet[made.target]
            words += f"; in the quietest hours ({_rate(quiet)}) with {_chance(made.decides_when_quiet)}"
        if made.catches is not None:
            words += f"; catches {_share(made.catches)} or worse"
        if made.bursts > 1:
            words += f"; bad ones come in bursts, each counts as {1 / made.bursts:.2g}"
        return words


def told(made: Iterable[Forecast]) -> tuple[str, ...]:
    """The sentences, with the criteria of one place of which the same is said in one of them."""
    found: dict[tuple[str, str], list[str]] = {}
    for each in made:
        words = each.sentence.removeprefix(f"{each.place.name}: {each.criterion.key}: ")
        found.setdefault((each.place.name, words), []).append(each.criterion.key)
    return tuple(f"{name}: {listed(keys, 'and')}: {words}" for (name, words), keys in found.items())


@lru_cache(maxsize=1024)
def _within(bars: Bars, share: float, per_row: float, first: int, last: int) -> float:
    return passes_within(bars, share, per_row, first, last)


@lru_cache(maxsize=1024)
def _times(bars: Bars, share: float, per_row: float) -> Times:
    most = MOST_BAD / bars.limit
    return pass_times(bars, share, per_row, 1, max(1, ceil(most / per_row)), enough=1 - 1e-4)


def _product(chances: Iterable[float]) -> float:
    whole = 1.0
    for chance in chances:
        whole *= chance
    return whole


# Without traffic.


@dataclass(frozen=True, slots=True)
class Need:
    """What one gate or step needs to decide in its time.

    ``rate`` is requests per second of each target, both tracks; None: no traffic makes it decide, or it needs none.
    ``criterion`` is the one that wants the most.
    """

    place: Place
    rate: float | None
    criterion: str
    sentence: str
    problem: str = ""

    @property
    def fault(self) -> Fault | None:
        """What no traffic would mend."""
        return Fault(self.place.path, self.problem) if self.problem else None

    def document(self) -> dict[str, Any]:
        """As it is printed for scripts."""
        return {
            "path": self.place.path,
            "phase": self.place.phase,
            "step": self.place.step or None,
            "gate": not self.place.step,
            "criterion": self.criterion or None,
            "seconds": self.place.latest,
            "needsRequestsPerSecond": self.rate,
            "problem": self.problem or None,
            "sentence": self.sentence,
        }


def needs(plan: Plan, as_good_as: float = AS_GOOD_AS, bursts: float = 1.0) -> tuple[Need, ...]:
    """The traffic from which on each step and each gate decides in its time with 95 %.

    ``bursts`` is how much more than by chance bad requests vary; 1: each is bad by itself.
    """
    return tuple(need for place in places(plan) for need in _needs(place, as_good_as, bursts))


def _needs(place: Place, as_good_as: float, bursts: float) -> Iterator[Need]:
    """Of what is counted what it needs, as one; and of each value at looks what it takes."""
    if (need := _need(place, as_good_as, bursts)) is not None:
        yield need
    for path, criterion in place.criteria:
        if criterion.looks:
            yield Need(place, None, criterion.key, _bare(place, path, criterion).sentence)


def _need(place: Place, as_good_as: float, bursts: float) -> Need | None:
    counted = [criterion for _, criterion in place.criteria if not (criterion.plain or criterion.versus)]
    if not counted:
        return None
    starving = next((made for path, one in place.criteria for made in (_starved(place, path, one),) if made), None)
    if starving is not None:
        return Need(place, None, starving.criterion.key, starving.sentence, starving.problem)
    thin = min(weight for _, weight in place.weights)
    worst, wanting = 0.0, counted[0]
    for criterion in counted:
        bars, rows = bars_of(criterion, bursts), rows_within(criterion.series, place.latest)
        needed = bars.unit * requests_to_pass(bars, as_good_as * criterion.limit, SURE ** (1 / len(place.weights)))
        seconds = rows * criterion.series.interval
        if not seconds:
            shortest = seconds_until(criterion.series, 1)
            problem = (
                f"cannot pass within {format_duration(place.latest)}: the first counts of {criterion.key} are there "
                f"after {format_duration(shortest)}; give it longer than that"
            )
            return Need(place, None, criterion.key, f"{place.name}: {problem}", problem)
        rate = needed / seconds * FULL_WEIGHT / thin
        if rate > worst:
            worst, wanting = rate, criterion
    within = format_duration(place.latest)
    if not isfinite(worst):
        sentence = f"{place.name}: no traffic makes it decide within {within}: {wanting.key} is too near to its limit"
        return Need(place, None, wanting.key, sentence)
    each = " of each target" if len(place.weights) > 1 else ""
    most = f" ({wanting.key} wants the most)" if len(counted) > 1 else f" ({wanting.key})"
    sentence = (
        f"{place.name}: decides with {SURE:.0%} within {within} at {place.weight_text} "
        f"from {_rate(_up(worst))}{each} on{most}"
    )
    return Need(place, worst, wanting.key, sentence)


def _starved(place: Place, path: str, criterion: Criterion) -> Forecast | None:
    if criterion.plain or (place.weights and all(weight for _, weight in place.weights)):
        return None
    return _without_traffic(place, path, criterion)


# Numbers in words. What promises something is rounded to the careful side.


def _at(made: Forecast) -> str:
    assert made.rate is not None
    weight = format_weight(dict(made.place.weights)[made.target])
    if len(made.place.weights) == 1:
        return f"at {_rate(made.rate)} and {weight}"
    if made.alike:
        return f"at {_rate(made.rate)} and {weight} of each target"
    return f"at {_rate(made.rate)} and {weight} of {made.target}, the thinnest"


def _certain(chance: float) -> str:
    """A certainty near 1, never rounded up to it: two digits of what is left."""
    left = Decimal(f"{_up((1 - chance) * 100):g}")
    return f"{100 - left:f}%"


def _chance(chance: float) -> str:
    if chance >= 0.999:
        return "more than 99.9%"
    if chance >= 0.99:
        return f"{floor(chance * 1000) / 10:g}%"
    return f"{floor(chance * 100)}%" if chance >= 0.01 else "less than 1%"


def _up(number: float, digits: int = 2) -> float:
    """Rounded up to so many digits."""
    if not 0 < number < inf:
        return number
    size = 10.0 ** (floor(log10(number)) - digits + 1)
    return round(ceil(number / size - 1e-9) * size, 12)


def _rate(rate: float) -> str:
    said = format_count(rate) if rate >= 1000 else f"{rate:.3g}"
    return f"{said} request{'' if said == '1' else 's'}/s"


def _share(share: float) -> str:
    return f"{_up(share * 100):g}%"


def _rounded_up(weight: int) -> int:
    """A weight that people would write: whole per cents from 1 % on."""
    return weight if weight < 10 else min(FULL_WEIGHT, ceil(weight / 10) * 10)


def _roughly(seconds: float) -> str:
    """A duration without digits that mean nothing, rounded up."""
    for size, least in ((86400.0, 10 * 86400.0), (3600.0, 86400.0), (600.0, 6 * 3600.0), (60.0, 600.0), (5.0, 60.0)):
        if seconds >= least:
            return format_duration(ceil(seconds / size - 1e-9) * size)
    return format_duration(ceil(seconds))

"""Any valid plan, any scenario, anything that people say: drawn small, so that many can be tried.

Plans span minutes to days and scenarios have few rows, for what matters is how the parts meet and not how long they
last. Instants are often the same ones, which is where two things meet.
"""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from controller.core.units import format_instant
from controller.simulation.scenario import VERBS

START = 1_762_005_600.0
"""2025-11-01T14:00:00Z, a Saturday; the clocks in New York go back in the night."""
HOUR = 3600.0
PHASES = ("one", "two", "three")
TARGETS = ("us", "eu", "ap")
ITEMS = ("hired", "reviewed")
DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")

Draw = Any
Document = dict[str, Any]


def instant(hours: float) -> str:
    """So many hours after START, as plans write it."""
    return format_instant(START + hours * HOUR)


_DURATIONS = st.sampled_from(["1m", "10m", "10m", "1h"])
_ROLE = st.just({"role": "lead"})
_ERRORS = st.sampled_from(["0.5%", "1%", "2%"])
_OUTCOME = st.one_of(
    st.sampled_from(["hold", "rollback", "escalate"]),
    st.fixed_dictionaries(
        {
            "extend": _DURATIONS,
            "times": st.integers(1, 2),
            "then": st.sampled_from(["hold", "rollback", "escalate"]),
        }
    ),
    st.fixed_dictionaries({"reschedule": _DURATIONS, "times": st.integers(1, 2), "then": st.just("hold")}),
)


def _sometimes(draw: Draw, into: Document, name: str, values: st.SearchStrategy[Any], one_in: int = 3) -> None:
    if draw(st.integers(1, one_in)) == one_in:
        into[name] = draw(values)


def _criterion(draw: Draw, *, incidents: bool) -> Document:
    kind = draw(st.integers(0, 8 if incidents else 6))
    if kind > 6:
        return {"incidents": "critical", "atMost": draw(st.integers(0, 1))}
    if kind == 6:
        return {"metric": "uplift", "above": "5", "for": draw(st.sampled_from(["1m", "10m"]))}
    if kind in (4, 5):
        return {"metric": "latency", "quantile": 0.99, "below": "200ms"}
    if kind == 3:
        return {"metric": "errors", "below": draw(_ERRORS), "certainty": "threshold", "for": "30m"}
    return {"metric": "errors", "below": draw(_ERRORS)}


def _once(criteria: list[Document]) -> list[Document]:
    said: list[Document] = []
    for criterion in criteria:
        key = [criterion.get(name) for name in ("metric", "below", "incidents", "above", "certainty")]
        if all(
            [other.get(name) for name in ("metric", "below", "incidents", "above", "certainty")] != key
            for other in said
        ):
            said.append(criterion)
    return said


def _guardrails(draw: Draw) -> list[Document]:
    found = _once([_criterion(draw, incidents=False) for _ in range(draw(st.integers(1, 2)))])
    for guardrail in found:
        _sometimes(draw, guardrail, "onBreach", st.sampled_from(["rollback", "hold"]))
        _sometimes(draw, guardrail, "onNoData", st.sampled_from(["rollback", "hold"]), 4)
        if guardrail.get("onBreach") != "hold":
            _sometimes(draw, guardrail, "scope", st.just("target"))
        _sometimes(draw, guardrail, "enforce", st.booleans(), 6)
    if all(guardrail.get("enforce") is False for guardrail in found):
        found[0].pop("enforce")
    return found


@st.composite
def plans(draw: Draw) -> Document:
    """A Launch manifest with a valid plan of one to three phases and targets."""
    targets = TARGETS[: draw(st.integers(1, 3))]
    spec: Document = {
        "revision": "v1",
        "targets": [
            {
                "name": name,
                "route": {"name": name},
                "stable": {"name": f"{name}-stable"},
                "canary": {"name": f"{name}-canary", "workload": {"name": name}},
            }
            for name in targets
        ],
        "metrics": [{"name": "uplift", "value": {"query": "uplift"}}],
        "phases": [],
    }
    weight, hours = 0, 0.0
    for name in PHASES[: draw(st.integers(1, 3))]:
        phase: Document = {"name": name}
        if draw(st.booleans()):
            hours += draw(st.sampled_from([0.0, 1.0, 3.0]))
            phase["start"] = {"at": instant(hours)}
        kind = draw(st.integers(0, 3))
        if kind and weight < 100:
            steps = []
            for _ in range(draw(st.integers(1, 2))):
                if weight < 100:
                    weight = draw(st.sampled_from([each for each in (1, 10, 50, 100) if each >= weight]))
                    step: Document = {"weight": weight}
                    _sometimes(draw, step, "for", _DURATIONS, 2)
                    _sometimes(draw, step, "approval", _ROLE, 5)
                    steps.append(step)
            phase["steps"] = steps
            phase["guardrails"] = _guardrails(draw)
        elif draw(st.booleans()):
            phase["guardrails"] = _guardrails(draw)
        _sometimes(draw, phase, "targets", st.just(list(targets[: draw(st.integers(1, len(targets)))])))
        if "steps" not in phase or draw(st.booleans()):
            gate: Document = {}
            when = draw(st.integers(0, 2))
            if when == 1:
                gate["after"] = draw(_DURATIONS)
            elif when == 2:
                hours += draw(st.sampled_from([1.0, 5.0]))
                gate["at"] = instant(hours)
            gate["criteria"] = _once([_criterion(draw, incidents=True) for _ in range(draw(st.integers(1, 2)))])
            _sometimes(draw, gate, "approval", _ROLE, 4)
            for outcome in ("onFail", "onUndecided", "onNoData"):
                _sometimes(draw, gate, outcome, _OUTCOME, 2)
            phase["gate"] = gate
        _sometimes(draw, phase, "deliverables", st.just([ITEMS[0]]), 4)
        if draw(st.integers(1, 3)) == 3:
            preflight: Document = {"opens": draw(_DURATIONS)}
            _sometimes(draw, preflight, "checklist", st.just([ITEMS[1]]), 2)
            _sometimes(draw, preflight, "approval", _ROLE, 2)
            _sometimes(
                draw,
                preflight,
                "onNotReady",
                st.sampled_from(["hold", {"reschedule": "1h", "times": 2, "then": "hold"}]),
                2,
            )
            phase["preflight"] = preflight
        _sometimes(draw, phase, "checkpoints", st.sampled_from([["5m"], [{"at": "5m", "onFail": "hold"}, "2h"]]))
        _sometimes(draw, phase, "monitoring", st.sampled_from(["standard", "close", "intensive"]), 2)
        _sometimes(draw, phase, "onRevision", st.sampled_from(["restart", "continue"]), 4)
        spec["phases"].append(phase)
    if draw(st.integers(1, 5)) == 5:
        begin = draw(st.sampled_from(["00:00", "09:00", "22:00"]))
        spec["windows"] = [{"days": list(DAYS[draw(st.sampled_from([0, 0, 0, 4])) :]), "from": begin, "to": "13:00"}]
        spec["timeZone"] = draw(st.sampled_from(["UTC", "America/New_York", "Asia/Kolkata"]))
    if draw(st.integers(1, 5)) == 5:
        begin, lasts = draw(st.sampled_from([0.0, 1.0, 5.0])), draw(st.sampled_from([1.0, 20.0]))
        spec["freezes"] = [{"name": "quiet", "from": instant(begin), "to": instant(begin + lasts)}]
    _sometimes(draw, spec, "onSuccess", st.sampled_from(["keep", "return"]))
    _sometimes(draw, spec, "watchAfter", _DURATIONS, 4)
    return {
        "apiVersion": "autoadvance.dev/v1alpha1",
        "kind": "Launch",
        "metadata": {"name": "shop", "namespace": "prod"},
        "spec": spec,
    }


_WHEN = st.sampled_from([-0.5, 0.0, 1 / 60, 0.25, 1.0, 2.0, 5.0]).map(instant)
_SPAN = st.sampled_from(["30s", "6m", "1h", "6h"])
_SHARE = st.sampled_from(["0%", "0%", "0%", "0.01%", "0.4%", "1%", "5%"])
_VALUE = st.sampled_from([6.0, 4.0, None])
_PLACES = ("one/preflight", "one/gate", "one/1", "two/preflight", "two/gate", "two/1", "three/gate")
_ABOUT = {
    "approve": st.sampled_from(_PLACES),
    "done": st.sampled_from(["one/hired", "two/hired, one/reviewed", "one/hired, three/hired", "four/none"]),
    "advance": st.sampled_from(["one", "two", "one/1", "two/1", "one/last", "three/2", "four"]),
    "reschedule": st.sampled_from([f"two={instant(3)}", f"three={instant(8)}", f"one={instant(1)}", "two=soon"]),
}


@st.composite
def _deeds(draw: Draw) -> Document:
    deed: Document = {"at": draw(_WHEN)}
    if draw(st.integers(1, 8)) == 8:
        deed["edit"] = draw(
            st.sampled_from(
                [
                    {"revision": "v2"},
                    {"phases": [{"name": "one", "gate": {"after": "2h", "approval": {"role": "lead"}}}]},
                    {"phases": [{"name": "two", "deliverables": ["hired"]}]},
                    {"phases": [{"name": "one", "steps": [{"weight": 100, "for": "1m"}]}]},
                    {"phases": "none"},
                    {"freezes": [{"name": "sudden", "from": instant(0), "to": instant(2)}]},
                ]
            )
        )
        return deed
    verb = draw(st.sampled_from((*VERBS, "approve", "done", "advance")))
    said: Document = {verb: draw(_ABOUT.get(verb, st.sampled_from(["because", "", None])))}
    if said[verb] is not None:
        _sometimes(draw, said, "by", st.just("somebody"), 4)
        _sometimes(draw, said, "until", _WHEN, 8)
    deed["annotate"] = said
    return deed


def _ordered(rows: list[Document]) -> list[Document]:
    return sorted(rows, key=lambda row: str(row["from"]))


def _rows(draw: Draw, name: str, values: st.SearchStrategy[Any], most: int = 2) -> list[Document]:
    return _ordered([{"from": draw(_WHEN), name: draw(values)} for _ in range(draw(st.integers(1, most)))])


@st.composite
def scenarios(draw: Draw) -> Document:
    """What the world does, and what people say."""
    said: Document = {
        "seed": draw(st.integers(0, 3)),
        "requests": _rows(draw, "value", st.sampled_from(["100/s", "100/s", "100/s", "5/s", "1/h", "0/s"])),
        "canary": _rows(draw, "errors", _SHARE),
        "metrics": {"uplift": _rows(draw, "value", _VALUE)},
    }
    if draw(st.booleans()):
        said["canary"][0]["slow"] = {"200ms": draw(_SHARE)}
    _sometimes(draw, said, "stable", st.fixed_dictionaries({"ready": st.sampled_from([0, 3])}), 5)
    if draw(st.integers(1, 4)) == 4:
        row = {"from": draw(_WHEN)}
        field = draw(st.sampled_from(["errors", "ready", "template"]))
        row[field] = draw({"errors": _SHARE, "ready": st.sampled_from([0, 2]), "template": st.just("b")}[field])
        said["targets"] = {"us": {"canary": [row]}}
    for number in range(draw(st.integers(0, 2))):
        what = draw(st.sampled_from(["prometheus", "controller", "alertmanager"]))
        said.setdefault("outages", []).append({"what": what, "from": draw(_WHEN), "for": draw(_SPAN)})
        if number:
            said.setdefault("incidents", []).append({"from": draw(_WHEN), "for": draw(_SPAN), "severity": "critical"})
    said["people"] = draw(st.lists(_deeds(), max_size=8))
    return said

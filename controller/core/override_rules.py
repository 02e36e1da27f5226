"""What an override means where the launch stands: whether it fits, and what it changes."""

from __future__ import annotations

import re
from collections.abc import Iterable

from controller.core.alarms import acknowledged
from controller.core.facts import Facts, gate_unproven
from controller.core.observation import Observation
from controller.core.overrides import EXAMPLES, Heard, Override
from controller.core.plan import Phase, Plan
from controller.core.questions import coming_phase, running_phase, valid_plan
from controller.core.schedule import coming_since, moved, preflight_opens, start_of
from controller.core.signals import Signal, gate_measured, step_measured
from controller.core.status import ApprovalRecord, Grant, State, Status
from controller.core.units import format_date, parse_instant

FIRST_VERBS = ("hold", "rollback", "retry", "done", "advance", "reschedule", "ack")
"""Heard before anything is judged; an approval is for what is judged, and so is heard after."""
LAST_VERBS = ("approve",)
MOST_DONE = 8192
"""Characters of ticked items that status holds."""
_PASSED_BY_HAND = frozenset(
    signal.value for signal in (Signal.STEP_UNDECIDED, Signal.GATE_FAILED, Signal.GATE_UNDECIDED, Signal.ESCALATED)
)
"""Holds that ``advance`` ends: those of a wait or a gate, never those of a breach."""


def refuse(seen: Observation, override: Override) -> str:
    """Why the override does not fit where the launch stands; empty: it does. Not for approvals."""
    if override.verb == "rollback":
        return _refuse_rollback(seen.status)
    if override.verb == "retry":
        return _refuse_retry(seen)
    if override.verb == "ack":
        return _refuse_ack(seen.status)
    plan = valid_plan(seen.plan)
    if override.verb in ("done", "advance", "reschedule") and plan is None:
        return "the plan has faults; correct it first"
    if plan is None:
        return ""
    if override.verb == "done":
        return _done_items(plan, seen.status, override)[1]
    if override.verb == "advance":
        _, fault = _grant(seen, plan, override)
        return fault
    if override.verb == "reschedule":
        return _rescheduled(seen, plan, override)[1]
    return ""


def _refuse_rollback(status: Status) -> str:
    if status.run is None:
        return "no run has started; use hold to keep it from starting"
    return "it is rolled back already" if status.state is State.ROLLED_BACK else ""


def _refuse_retry(seen: Observation) -> str:
    status = seen.status
    if valid_plan(seen.plan) is None:
        return f"the plan has faults: {seen.plan.faults[0]}" if not isinstance(seen.plan, Plan) else ""
    if "rollback" in seen.annotations:
        return "the rollback annotation is still there; remove it first"
    if status.state is State.ROLLING_BACK:
        return "it is still rolling back; wait until the canary is at 0%"
    if status.state is State.SUCCEEDED:
        return "the run has succeeded; give a new revision to run again"
    # Data that are lost for good do not come back by waiting.
    blind = status.state is State.HELD and status.reason == Signal.BLIND.value
    if status.hold is None and status.state is not State.ROLLED_BACK and not blind and not edited(seen):
        return "nothing is held that retry could judge again"
    return ""


def _refuse_ack(status: Status) -> str:
    if not status.alarms:
        return "nothing is firing that could be acknowledged"
    if all(alarm.acknowledged_at is not None for alarm in status.alarms):
        who = status.alarms[-1].acknowledged_by
        return f"all that is firing is acknowledged already{f' by {who}' if who else ''}"
    return ""


def edited(seen: Observation) -> bool:
    """Whether the plan is not what the run stands on, or the operator gives its running phase something else by now."""
    plan = valid_plan(seen.plan)
    if plan is None or seen.status.run is None:
        return False
    if seen.running is None:
        return True
    index = plan.phase_index(seen.running.phases[0].name)
    before = seen.running.phases[0]
    return index < 0 or (plan.phases[index].digest, plan.phases[index].given) != (before.digest, before.given)


def carried_out(seen: Observation, status: Status, heard: Heard) -> Status:
    """The status after what was said by ``ack``, ``done``, ``advance`` and ``reschedule``."""
    if override := heard.acted.get("ack"):
        status = acknowledged(status, override, seen.now)
    plan = valid_plan(seen.plan)
    if plan is None:
        return status
    if override := heard.acted.get("done"):
        items, _ = _done_items(plan, status, override)
        status = status.model_copy(update={"done": tuple(dict.fromkeys((*status.done, *items)))})
    if override := heard.acted.get("reschedule"):
        found, _ = _rescheduled(seen, plan, override)
        if found is not None:
            status = found
    if override := heard.acted.get("advance"):
        grant, _ = _grant(seen, plan, override)
        hold = status.hold
        if hold is not None and hold.reason in _PASSED_BY_HAND:
            hold = None
        status = status.model_copy(update={"grant": grant, "hold": hold})
    return status


def refuse_approval(facts: Facts, override: Override) -> str | None:
    """Why the approval is not asked for now; empty: it is; None: a round without questions to Prometheus cannot say."""
    phase_name, _, what = override.value.partition("/")
    asked = tuple(approvals_asked(facts))
    if override.value in asked:
        return ""
    if facts.approved(override.value):
        return f"{override.value} is approved already"
    plan = facts.plan
    if plan is None:
        return "the plan has faults; correct it first"
    if not what:
        return f"write {EXAMPLES['approve']}"
    index = plan.phase_index(phase_name)
    if index < 0:
        return f"there is no phase {phase_name}; write one of {', '.join(phase.name for phase in plan.phases)}"
    if override.value not in approvals_of(plan.phases[index]):
        known = ", ".join(approvals_of(plan.phases[index])) or "none"
        return f"the plan asks for no approval {override.value}; of phase {phase_name} it asks for {known}"
    if not facts.asked and index == plan.phase_index(facts.status.phase):
        return None
    if _is_over(facts, index, what):
        return f"{override.value} is not asked for any more: the launch is at {at(facts.status, facts.coming)}"
    now = f"; asked for now: {', '.join(asked)}" if asked else ""
    return f"{override.value} is not asked for yet: an approval is for the evidence as it stands{now}"


def _is_over(facts: Facts, index: int, what: str) -> bool:
    """Whether the launch has gone past that place of the plan's phase with this index."""
    plan, status = facts.plan, facts.status
    running = plan.phase_index(status.phase) if plan is not None and status.run is not None else -1
    if index != running or status.phase_started_at is None:
        return index < running
    return facts.coming is not None or what == "preflight" or (what.isdecimal() and int(what) < status.step)


def approvals_of(phase: Phase) -> tuple[str, ...]:
    """Every approval that a phase may ask for, by name."""
    names = [f"{phase.name}/preflight"] if phase.preflight and phase.preflight.approval else []
    names += [f"{phase.name}/{number}" for number, step in enumerate(phase.steps, 1) if step.approval]
    return (*names, f"{phase.name}/gate") if phase.gate and phase.gate.approval else tuple(names)


def approvals_asked(facts: Facts) -> Iterable[str]:
    """The approvals that are wanted now and not given."""
    coming, phase, status = facts.coming, facts.phase, facts.status
    if coming is not None and coming.preflight is not None and coming.preflight.approval:
        of = f"{coming.name}/preflight"
        opens = preflight_opens(coming, status, coming_since(status))
        if facts.seen.now >= opens and not facts.approved(of) and not facts.raising:
            yield of
    if phase is None or coming is not None or facts.passed:
        return
    if 0 < status.step <= len(phase.steps) and phase.steps[status.step - 1].approval:
        of = f"{phase.name}/{status.step}"
        if not facts.approved(of) and step_measured(facts):
            yield of
    of = f"{phase.name}/gate"
    if phase.gate is not None and phase.gate.approval and not facts.approved(of) and gate_measured(facts):
        yield of


def approved(facts: Facts, override: Override) -> Status:
    """The status with the approval in force."""
    proven = all(judged.verdict.passed for judged in facts.judged if judged.enforce and not judged.gate)
    if override.value.endswith("/gate"):
        proven = proven and gate_unproven(facts) is None
    record = ApprovalRecord(of=override.value, by=override.by[:253], at=facts.seen.now, proven=proven)
    return facts.status.model_copy(update={"approvals": (*facts.status.approvals, record)})


def _done_items(plan: Plan, status: Status, override: Override) -> tuple[tuple[str, ...], str]:
    items: list[str] = []
    phase_name = ""
    for word in re.split(r"[,\s]+", override.value):
        if not word:
            continue
        named, slash, item = word.partition("/")
        if slash:
            phase_name = named
        else:
            item = named
        if not phase_name:
            return (), f"{item} names no phase; write {EXAMPLES['done']}"
        index = plan.phase_index(phase_name)
        if index < 0:
            return (), f"there is no phase {phase_name}; write one of {', '.join(p.name for p in plan.phases)}"
        phase = plan.phases[index]
        known = (*(phase.preflight.checklist if phase.preflight else ()), *phase.deliverables)
        if item not in known:
            return (), f"phase {phase_name} has no item {item}; it has {', '.join(known) or 'none'}"
        items.append(f"{phase_name}/{item}")
    if not items:
        return (), f"it names no item; write {EXAMPLES['done']}"
    if len("".join({*status.done, *items})) > MOST_DONE:
        return (), f"more than {MOST_DONE:,} characters of items are ticked off; use shorter names"
    return tuple(items), ""


def _grant(seen: Observation, plan: Plan, override: Override) -> tuple[Grant | None, str]:
    status = seen.status
    phase, _ = running_phase(seen, status)
    named, slash, step = override.value.partition("/")
    if status.run is None or phase is None:
        return None, "no run has started"
    if status.state in (State.ROLLING_BACK, State.ROLLED_BACK, State.SUCCEEDED):
        return None, f"the launch is {status.state.value}"
    if plan.phase_index(named) < 0:
        return None, f"there is no phase {named}; write one of {', '.join(each.name for each in plan.phases)}"
    steps = len(plan.phases[plan.phase_index(named)].steps)
    if slash and step != "last" and not (step.isdecimal() and 1 <= int(step) <= max(1, steps)):
        return None, f"{step or 'nothing'} is no step of phase {named}; write 1 to {max(1, steps)}, or last"
    if status.hold is not None and status.hold.reason not in _PASSED_BY_HAND:
        return None, f"it is held ({status.hold.reason}), which nobody passes; annotate retry to have it judged again"
    if status.intent is not None:
        return None, "a weight is on its way; wait until it is in force"
    coming = coming_phase(plan, status, phase)
    where = f"the launch is at {at(status, coming)}"

    def grant(place: str, number: int = 0) -> tuple[Grant, str]:
        return (
            Grant.model_validate(
                {"phase": named, "place": place, "step": number, "by": override.by[:253], "at": seen.now}
            ),
            "",
        )

    if coming is not None:
        return grant("start") if coming.name == named and not slash else (None, where)
    if named != phase.name:
        return None, where
    in_steps = status.step < len(phase.steps)
    if not slash:
        return grant("step", status.step) if in_steps else grant("gate")
    if step == "last":
        return grant("last") if in_steps else (None, f"{where}, its last step")
    if int(step) != status.step:
        return None, where
    return grant("step", status.step) if in_steps else grant("gate")


def at(status: Status, coming: Phase | None) -> str:
    """Where the launch stands, in words."""
    if coming is not None:
        return f"the start of phase {coming.name}"
    return f"phase {status.phase}" + (f", step {status.step}" if status.step else "")


def _rescheduled(seen: Observation, plan: Plan, override: Override) -> tuple[Status | None, str]:
    status = seen.status
    named, equals, text = override.value.partition("=")
    named = named.strip()
    if not equals:
        return None, f"it names no time; write {EXAMPLES['reschedule']}"
    index = plan.phase_index(named)
    if index < 0:
        return None, f"there is no phase {named}; write one of {', '.join(phase.name for phase in plan.phases)}"
    try:
        start = parse_instant(text.strip())
    except ValueError as error:
        return None, str(error)
    running = plan.phase_index(status.phase) if status.run is not None else -1
    begun = status.phase_started_at is not None
    coming = status.intent.phase if status.intent is not None and status.intent.kind == "raise" else ""
    if index < running or (index == running and begun) or named == coming:
        return None, f"phase {named} has begun; a phase that has not can be moved"
    before = start_of(plan.phases[index], status)
    by = 0.0 if before is None else start - before
    who = f" by {override.by}" if override.by else ""
    why = f"moved{who} to {format_date(start)}" + (f": {override.reason}" if override.reason else "")
    return moved(status, plan, named, by, why[:200], start=start), ""

"""What approve, done, advance and reschedule may be about: read from the plan, before anything is written."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from controller.core.faults import listed
from controller.core.spec import LaunchSpec, Phase
from controller.core.units import format_instant, parse_instant

_MOST_LISTED = 20


def approvals(phase: Phase) -> dict[str, str]:
    """What a phase asks to be approved (``ramp/preflight``, ``ramp/2``, ``ramp/gate``), with the role that is asked."""
    asked = {}
    if phase.preflight is not None and phase.preflight.approval is not None:
        asked[f"{phase.name}/preflight"] = phase.preflight.approval.role
    for number, step in enumerate(phase.steps, start=1):
        if step.approval is not None:
            asked[f"{phase.name}/{number}"] = step.approval.role
    if phase.gate is not None and phase.gate.approval is not None:
        asked[f"{phase.name}/gate"] = phase.gate.approval.role
    return asked


def items(phase: Phase) -> tuple[str, ...]:
    """What of a phase can be ticked off: its checklist and its deliverables, as ``ramp/runbook-ready``."""
    checklist = phase.preflight.checklist if phase.preflight is not None else ()
    return tuple(f"{phase.name}/{item}" for item in dict.fromkeys((*checklist, *phase.deliverables)))


def approval(spec: LaunchSpec, text: str) -> str:
    """``PHASE/preflight``, ``PHASE/STEP`` or ``PHASE/gate``, where the plan asks for that approval.

    Raises:
        ValueError: with what there is to approve.
    """
    known = {of: role for phase in spec.phases for of, role in approvals(phase).items()}
    if not known:
        raise ValueError("the plan asks for no approval; to pass a wait or a gate by hand, use advance")
    name, _, _ = text.partition("/")
    near = approvals(_phase(spec, name))
    if text in near:
        return text
    raise ValueError(f"{text!r} needs no approval; write {_some(near or known)}")


def ticked(spec: LaunchSpec, texts: Sequence[str]) -> str:
    """``PHASE/ITEM`` of each text, which may hold several with commas between; as one list without doubles.

    Raises:
        ValueError: with the items that there are.
    """
    wanted = [part.strip() for text in texts for part in text.split(",") if part.strip()]
    known = [item for phase in spec.phases for item in items(phase)]
    if not known:
        raise ValueError("the plan has no checklist and no deliverables, so there is nothing to tick off")
    if not wanted:
        raise ValueError(f"names no item; write {_some(known)}")
    for one in wanted:
        if one not in known:
            name, _, _ = one.partition("/")
            near = items(_phase(spec, name))
            raise ValueError(f"{one!r} is no item of the plan; write {_some(near or known)}")
    return ", ".join(dict.fromkeys(wanted))


def passage(spec: LaunchSpec, text: str) -> str:
    """``PHASE``, ``PHASE/STEP`` or ``PHASE/last``.

    Raises:
        ValueError: with the phases or steps that there are.
    """
    name, slash, step = text.partition("/")
    phase = _phase(spec, name)
    if not slash:
        return name
    count = len(phase.steps)
    if not count:
        raise ValueError(f"phase {name} has no steps; write {name} alone")
    if step == "last" or (step.isascii() and step.isdecimal() and 1 <= int(step) <= count):
        return f"{name}/{step if step == 'last' else int(step)}"
    steps = f"{name}/1 to {name}/{count}" if count > 1 else f"{name}/1"
    raise ValueError(f"{step!r} is no step of phase {name}; write {steps}, or {name}/last")


def moved(spec: LaunchSpec, text: str, now: float) -> str:
    """``PHASE=INSTANT`` with an instant to come. ``now`` is epoch seconds.

    Raises:
        ValueError: there is no such phase, or that is no instant to come.
    """
    name, equals, instant = text.partition("=")
    example = format_instant(now + 86400 - now % 3600).replace(".000", "")
    if not equals:
        raise ValueError(f"{text!r} names no instant; write PHASE=INSTANT, such as {name}={example}")
    _phase(spec, name.strip())
    at = parse_instant(instant.strip())
    if at <= now:
        raise ValueError(f"{instant.strip()} is over; write an instant to come, such as {example}")
    return f"{name.strip()}={instant.strip()}"


def _phase(spec: LaunchSpec, name: str) -> Phase:
    for phase in spec.phases:
        if phase.name == name:
            return phase
    raise ValueError(f"there is no phase {name!r}; write {_some(phase.name for phase in spec.phases)}")


def _some(words: Iterable[str]) -> str:
    known = list(words)
    return listed(known) if len(known) <= _MOST_LISTED else f"one of {', '.join(known[:_MOST_LISTED])} or others"

"""Everything that a decision may rest on, in one frozen value; the time included."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import inf
from typing import Literal

from controller.core.evidence import Fold
from controller.core.plan import InvalidPlanError, Plan
from controller.core.series import Reading, Subject
from controller.core.status import Alarm, Status
from controller.core.terms import Stop

ALERTING_NOT_KNOWN = "whether Alertmanager answers is not known yet"
"""``Observation.alerting`` until somebody has looked for the first time."""
IntentFate = Literal["none", "unknown", "written", "fenced"]
"""What is known of an open intent to raise: ``written`` was answered, ``fenced`` can no longer arrive late."""


@dataclass(frozen=True, slots=True)
class TargetView:
    """One traffic split as the cluster shows it now.

    ``weight`` is the canary's live share in thousandths; None where ``problem`` says why it cannot be read.
    ``accepted``: every parent accepted the route at its newest generation; None: no parent says anything.
    ``canary_ready`` and ``stable_ready`` are numbers of ready endpoints; None: not known. ``template`` identifies the
    pod template of the named workload; empty: none is named, or it is not known. ``versions`` are the ready pods behind
    the stable Service by the revision they carry; None: not asked, or not known. ``unwritable`` is why a dry run of the
    first raise was refused.
    """

    name: str
    weight: int | None
    problem: str = ""
    takes_traffic: bool = False
    accepted: bool | None = None
    canary_ready: int | None = None
    stable_ready: int | None = None
    template: str = ""
    versions: Mapping[str, int] | None = None
    unwritable: str = ""


@dataclass(frozen=True, slots=True)
class Observation:
    """One launch at one instant.

    ``now`` is epoch seconds. ``running`` is what the run stands on (from its status), None where there is no run or it
    cannot be read. ``readings`` is empty where nothing was asked. ``awake`` is the seconds since the newest weight was
    in force by a clock without steps, None where this process did not see that; ``intent_age`` the same for the open
    intent. ``epoch`` is what this process writes with. ``claimed_by`` names the older launch on the same route.
    ``route_settle`` is how long a weight takes to be in force where no parent reports it. ``watched`` is for how many
    seconds this process has looked at the launch: a silence that nobody listened to is none. ``deleting``: the launch
    is being deleted; ``guarded``: its deletion waits until its canaries are at 0. ``alerting`` is why alerts would not
    arrive; empty where they would, or where none are sent. ``gate_judged_at`` is when this process last judged the gate.
    ``alarms`` are those of this process' last decision, which may not be stored. ``stop`` is the operator's, for all
    launches; it may have lapsed.
    """

    now: float
    namespace: str
    name: str
    generation: int
    plan: Plan | InvalidPlanError
    running: Plan | None
    status: Status
    annotations: Mapping[str, str]
    targets: tuple[TargetView, ...]
    epoch: int
    readings: Mapping[Subject, Reading] = field(default_factory=dict)
    folds: Mapping[str, Fold] = field(default_factory=dict)
    awake: float | None = None
    intent_age: float = 0.0
    intent_fate: IntentFate = "none"
    claimed_by: str = ""
    route_settle: float = 10.0
    watched: float = inf
    deleting: bool = False
    guarded: bool = False
    alerting: str = ""
    gate_judged_at: float | None = None
    alarms: tuple[Alarm, ...] = ()
    stop: Stop | None = None

    def target(self, name: str) -> TargetView | None:
        """The view of the target of that name, if it was looked at."""
        return next((view for view in self.targets if view.name == name), None)

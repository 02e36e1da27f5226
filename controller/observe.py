"""What is seen of one launch: the cluster's view of it, and what this process remembers, as one Observation."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from controller.clock import Clock
from controller.core import weights
from controller.core.evidence import Fold
from controller.core.faults import Fault
from controller.core.fold_text import decode
from controller.core.observation import IntentFate, Observation, TargetView
from controller.core.plan import InvalidPlanError, Plan, Target, stood_on
from controller.core.questions import preflight_of, waits_to_return
from controller.core.series import RecordedForm
from controller.core.status import Alarm, State, Status, UnreadableStatusError
from controller.core.terms import Fleet, Stop
from controller.core.world import Launch, LaunchKey, Route, RouteKey
from controller.ports import Alerting, Cluster


@dataclass(slots=True)
class Memory:
    """What this process knows of a launch beyond the API: nothing that it could not find out again.

    ``stored`` are the folds as status holds them, for which ``folds`` are the newer ones. ``trouble`` is why the route
    cannot be written as it should be; it counts until ``trouble_until``, then it is tried again. ``since`` is when this
    process first saw the launch. All instants are of the clock without steps.
    """

    uid: str
    stored: Mapping[str, str] = field(default_factory=dict)
    folds: Mapping[str, Fold] = field(default_factory=dict)
    running_of: Mapping[str, Any] | None = None
    running: Plan | None = None
    intent: str = ""
    fate: IntentFate = "none"
    intent_since: float = 0.0
    in_force_of: tuple[object, ...] = ()
    in_force_since: float | None = None
    epoch: int = 0
    last_write: float = -1e9
    since: float = 0.0
    trouble: str = ""
    troubles: int = 0
    trouble_until: float = -1e9
    failures: int = 0
    not_before: float = -1e9
    lower_not_before: float = -1e9
    recording: bool = False
    gate_judged_at: float | None = None
    alarms: tuple[Alarm, ...] = ()
    unwritable: Mapping[str, str] = field(default_factory=dict)
    tried_at: float = -1e9
    busy: threading.Lock = field(default_factory=threading.Lock)


Claims = Mapping[RouteKey, tuple["Claim", ...]]


@dataclass(frozen=True, slots=True, order=True)
class Claim:
    """That a launch moves weights of a route; the smallest is the oldest. ``rule`` is empty where it means every rule."""

    created: float
    uid: str
    key: LaunchKey = field(compare=False)
    rule: str = field(compare=False)


class Observer:
    """Looks at launches, from the cluster's cache. ``route_settle`` is seconds; ``fleet`` is what holds for all of them."""

    def __init__(
        self,
        cluster: Cluster,
        clock: Clock,
        recorded: RecordedForm,
        route_settle: float,
        alerting: Alerting | None = None,
        fleet: Callable[[], Fleet] | None = None,
    ) -> None:
        self._cluster = cluster
        self._fleet = fleet or Fleet
        self._surplus: frozenset[str] = frozenset()
        self._alerting = alerting
        self._clock = clock
        self._recorded = recorded
        self._route_settle = route_settle
        self._memory: dict[LaunchKey, Memory] = {}

    @property
    def stop(self) -> Stop | None:
        """The operator's stop of all raises, as it is now."""
        return self._fleet().stop

    def memory(self, key: LaunchKey) -> Memory | None:
        """What is remembered of the launch, if it was seen."""
        return self._memory.get(key)

    def forget_all_but(self, keys: Iterable[LaunchKey]) -> set[LaunchKey]:
        """Drop what is remembered of launches that are gone; which those are.

        One that is being worked on stays until the next time: what is said of it last must be that it is gone.
        """
        forgotten = set()
        for key in set(self._memory) - set(keys):
            memory = self._memory[key]
            if memory.busy.acquire(blocking=False):
                del self._memory[key]
                memory.busy.release()
                forgotten.add(key)
        return forgotten

    def claims(self, launches: Iterable[Launch]) -> Claims:
        """Which launches move each route, of those that are not over."""
        claims: dict[RouteKey, list[Claim]] = {}
        launches = list(launches)
        self._surplus = _surplus(launches, self._fleet().most)
        for launch in launches:
            status = launch.status
            if isinstance(status, UnreadableStatusError) or status.state in (State.ROLLED_BACK, State.SUCCEEDED):
                continue
            for target in self.targets(launch):
                claim = Claim(launch.created, launch.uid, launch.key, target.rule)
                claims.setdefault(route_key(launch.key.namespace, target), []).append(claim)
        return {route: tuple(listed) for route, listed in claims.items()}

    def _claimed_by(self, launch: Launch, targets: Iterable[Target], claims: Claims) -> str:
        """The oldest launch that is older than this one and moves the same rules; empty: there is none."""
        older = [
            claim
            for target in targets
            for claim in claims.get(route_key(launch.key.namespace, target), ())
            if claim.uid != launch.uid
            and (claim.created, claim.uid) < (launch.created, launch.uid)
            and (not claim.rule or not target.rule or claim.rule == target.rule)
        ]
        return str(min(older).key) if older else ""

    def targets(self, launch: Launch) -> tuple[Target, ...]:
        """The targets that the run stands on; before a run, those of the plan."""
        memory = self._remember(launch)
        if memory.running is not None:
            return memory.running.targets
        return launch.plan.targets if isinstance(launch.plan, Plan) else ()

    def _remember(self, launch: Launch) -> Memory:
        memory = self._memory.get(launch.key)
        if memory is None or memory.uid != launch.uid:
            memory = self._memory[launch.key] = Memory(uid=launch.uid, since=self._clock.steady())
        status = launch.status
        stands_on = status.run.stands_on if isinstance(status, Status) and status.run else None
        if memory.running_of != stands_on:
            memory.running_of = stands_on
            memory.running = _parse_standing(launch, stands_on, self._recorded)
        return memory

    def observe(self, launch: Launch, now: float, claims: Claims) -> Observation:
        """The launch at ``now`` (epoch seconds), without readings. Its status must be readable."""
        status = launch.status
        assert isinstance(status, Status)
        memory = self._remember(launch)
        targets = self.targets(launch)
        return Observation(
            now=now,
            namespace=launch.key.namespace,
            name=launch.key.name,
            generation=launch.generation,
            plan=launch.plan if launch.uid not in self._surplus else self._too_many(launch.plan),
            running=memory.running,
            status=status,
            annotations=launch.annotations,
            targets=tuple(self.view(launch, target, memory) for target in targets),
            epoch=memory.epoch or status.epoch + 1,
            folds=self._folds(status, memory),
            awake=self._awake(status, memory),
            intent_age=self._clock.steady() - memory.intent_since if self._fate(status, memory) != "none" else 0.0,
            intent_fate=self._fate(status, memory),
            claimed_by=self._claimed_by(launch, targets, claims),
            route_settle=self._route_settle,
            watched=self._clock.steady() - memory.since,
            deleting=launch.deleting,
            guarded=launch.finalized,
            alerting=self._alerting_problem(launch.plan, status, now),
            gate_judged_at=memory.gate_judged_at,
            alarms=memory.alarms,
            stop=self.stop,
        )

    def _too_many(self, plan: Plan | InvalidPlanError) -> InvalidPlanError:
        most = self._fleet().most
        fault = Fault(
            "metadata.name",
            f"is one launch too many: {most} are run here, by limits.launches of the operator's configuration; delete "
            "one that is over, or ask who operates auto-advance to change it",
        )
        return InvalidPlanError((fault, *(plan.faults if isinstance(plan, InvalidPlanError) else ())))

    def _alerting_problem(self, plan: Plan | InvalidPlanError, status: Status, now: float) -> str:
        """Why alerts would not arrive, asked only while a preflight wants to know."""
        if self._alerting is None or not self._alerting.configured or preflight_of(plan, status, now) is None:
            return ""
        return self._alerting.problem()

    def view(self, launch: Launch, target: Target, memory: Memory, route: Route | None = None) -> TargetView:
        """One target as the cluster shows it; ``route`` where it was just read, else from the cache."""
        key = route_key(launch.key.namespace, target)
        route = route or self._cluster.route(key)
        troubled = self._clock.steady() < memory.trouble_until
        weight, problem, takes, accepted = None, memory.trouble if troubled else "", False, None
        if route is None:
            problem = f"{key} of target {target.name} does not exist; create it, or name another route"
        else:
            takes = weights.canary_takes_traffic(route, target)
            try:
                weight = weights.live_weight(route, target)
            except weights.SplitError as error:
                problem = str(error)
            if route.parents:
                accepted = all(
                    parent.accepted and parent.observed_generation >= route.generation for parent in route.parents
                )
        return TargetView(
            name=target.name,
            weight=weight,
            problem=problem,
            takes_traffic=takes,
            accepted=accepted,
            canary_ready=self._cluster.ready_endpoints(launch.key.namespace, target.canary),
            stable_ready=self._cluster.ready_endpoints(launch.key.namespace, target.stable),
            template=self._template(launch, target),
            versions=self._versions(launch, target),
            unwritable=memory.unwritable.get(target.name, ""),
        )

    def _template(self, launch: Launch, target: Target) -> str:
        if not target.workload:
            return ""
        return self._cluster.template(launch.key.namespace, target.workload_kind, target.workload) or ""

    def _versions(self, launch: Launch, target: Target) -> Mapping[str, int] | None:
        """What the stable Service's pods run; read only where the launch waits to give the traffic back."""
        if not isinstance(launch.plan, Plan) or not isinstance(launch.status, Status):
            return None
        if not waits_to_return(launch.plan, launch.status):
            return None
        return self._cluster.pod_versions(launch.key.namespace, target.stable, launch.plan.spec.version_label)

    def _folds(self, status: Status, memory: Memory) -> Mapping[str, Fold]:
        """The newest folds: those in memory where they follow from what status holds, else status' own."""
        if memory.stored is not status.folds and memory.stored != status.folds:
            memory.folds = decode_folds(status.folds)
        memory.stored = status.folds
        return memory.folds

    def _fate(self, status: Status, memory: Memory) -> IntentFate:
        """What this process knows of the open intent to raise; of another process' one it knows nothing."""
        intent = status.intent
        if intent is None or intent.kind != "raise":
            memory.intent, memory.fate = "", "none"
        elif memory.intent != intent.id:
            memory.intent, memory.fate, memory.intent_since = intent.id, "unknown", self._clock.steady()
        return memory.fate

    def _awake(self, status: Status, memory: Memory) -> float | None:
        """Seconds since the newest weight came into force, if this process saw it; a restart has not."""
        place = (status.phase, status.step, *(target.in_force_at for target in status.targets))
        if memory.in_force_of != place:
            first = not memory.in_force_of
            memory.in_force_of = place
            memory.in_force_since = None if first else self._clock.steady()
        return None if memory.in_force_since is None else self._clock.steady() - memory.in_force_since


def _surplus(launches: Sequence[Launch], most: int | None) -> frozenset[str]:
    """The uids of the launches beyond that number: the youngest of those that have not begun."""
    if most is None or len(launches) <= most:
        return frozenset()

    def order(launch: Launch) -> tuple[bool, float, str]:
        begun = not isinstance(launch.status, Status) or launch.status.run is not None
        return not begun, launch.created, launch.uid

    ordered = sorted(launches, key=order)
    return frozenset(launch.uid for launch in ordered[most:] if order(launch)[0])


def route_key(namespace: str, target: Target) -> RouteKey:
    """Where the target's route is found."""
    return RouteKey(target.route_kind, namespace, target.route)


def decode_folds(stored: Mapping[str, str]) -> dict[str, Fold]:
    """The folds that can be read; another one starts anew (its evidence with it), which only ever delays."""
    folds = {}
    for key, text in stored.items():
        try:
            folds[key] = decode(text)
        except (ValueError, IndexError):
            continue
    return folds


def _parse_standing(launch: Launch, stands_on: Mapping[str, Any] | None, recorded: RecordedForm) -> Plan | None:
    if stands_on is None:
        return None
    try:
        return stood_on(launch.key.namespace, launch.key.name, stands_on, recorded)
    except InvalidPlanError:
        return None

"""One round for the launches that are due: gather, decide, apply.

The write protocol (why each step is there):

- A raise reads the route and the launch afresh, decides again if they moved, writes its intent into status by
  compare-and-swap, patches exactly the route it read, and is recorded as done when the weight is in force.
- A retreat never waits: the patch follows even where the intent could not be stored.
- An intent to raise whose fate is unknown is fenced before anything else is decided: the route gets a new epoch, so
  that a write still on its way is refused by the API server.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field, replace

from controller.clock import Clock
from controller.core import weights
from controller.core.decide import Decision, decide
from controller.core.observation import Observation
from controller.core.plan import Plan, Target
from controller.core.questions import preflight_of, questions
from controller.core.report import retreated, with_evidence
from controller.core.series import Reading, RecordedForm, Subject
from controller.core.signals import Signal
from controller.core.status import Intent, State, Status, UnreadableStatusError, write_status
from controller.core.terms import Fleet
from controller.core.world import Launch, LaunchKey, Route, RouteKey, RoutePatch
from controller.errors import AdapterError, ConflictError, NotFoundError, RefusedError
from controller.observe import Claims, Memory, Observer, decode_folds, route_key
from controller.ports import Alerting, Background, Cluster, Evidence, Recorder, T

TRIES = 4
"""How often a conflict is read again and decided again within one tick."""
CHECKPOINT_SECONDS = 300.0
CHECKPOINT_FROM_HORIZON = 3600.0
"""The evidence of phases longer than this is stored every five minutes besides."""
CHECKPOINTS_PER_SECOND = 5.0
"""Also of what a launch waits for, where only the words are others; over the whole fleet."""
REASON_SECONDS = 30.0
"""A changed reason for waiting is written at most this often per launch."""
START_REASON_SECONDS = 2.0
"""Whoever has just created a launch looks at it now; so does who has said something to it so many seconds ago:"""
LISTENED_SECONDS = 60.0
DRY_RUN_SECONDS = 60.0
"""While a preflight is open, a dry run of the raise proves this often that it may be written."""
LONGEST_BACKOFF = 60.0
"""Pauses after failures grow to this. They put off what raises or records, never a look and never a retreat."""
RETREAT_BACKOFF = 1.0
"""A retreat that is not done, or not recorded, is tried again this often."""


class _Budget:
    """A token bucket: so many per second over the whole fleet."""

    def __init__(self, per_second: float, clock: Clock) -> None:
        self._rate, self._clock = per_second, clock
        self._tokens, self._at = per_second, clock.steady()
        self._lock = threading.Lock()

    def take(self) -> bool:
        with self._lock:
            now = self._clock.steady()
            self._tokens = min(self._rate, self._tokens + (now - self._at) * self._rate)
            self._at = now
            if self._tokens < 1:
                return False
            self._tokens -= 1
            return True


@dataclass(frozen=True, slots=True)
class Round:
    """One observation per launch of a round, and what must be asked for them.

    ``backends`` names the Prometheuses that each launch needs; of one that is not there it is not known.
    """

    now: float
    seen: Mapping[LaunchKey, Observation]
    wanted: Mapping[Subject, int]
    claims: Claims
    backends: Mapping[LaunchKey, frozenset[str]] = field(default_factory=dict)


class _Inline:
    """Does everything at once, in order."""

    def beside(self, work: Callable[[], T]) -> Future[T]:
        future: Future[T] = Future()
        future.set_result(work())
        return future

    def later(self, work: Callable[[], None]) -> None:
        work()


class Reconciler:
    """Brings launches, evidence and writes together. Thread-safe per launch: one thread at a time works on one."""

    def __init__(
        self,
        cluster: Cluster,
        evidence: Evidence,
        recorder: Recorder,
        clock: Clock,
        *,
        recorded: RecordedForm | None = None,
        route_settle: float = 10.0,
        background: Background | None = None,
        observer: type[Observer] = Observer,
        alerting: Alerting | None = None,
        fleet: Callable[[], Fleet] | None = None,
    ) -> None:
        self._cluster = cluster
        self._evidence = evidence
        self._recorder = recorder
        self._clock = clock
        self._background = background or _Inline()
        self._observer = observer(cluster, clock, recorded or RecordedForm(), route_settle, alerting, fleet)
        self._budget = _Budget(CHECKPOINTS_PER_SECOND, clock)

    # Gather

    def look(self, launches: Iterable[Launch]) -> Round:
        """Observe these launches from the cache, and say what Prometheus must be asked."""
        now = round(self._clock.now(), 3)
        claims = self._observer.claims(self._cluster.launches())
        seen: dict[LaunchKey, Observation] = {}
        wanted: dict[Subject, int] = {}
        backends: dict[LaunchKey, frozenset[str]] = {}
        for launch in launches:
            if launch.deleting and not launch.finalized:
                continue
            if isinstance(launch.status, UnreadableStatusError):
                self._recorder.failed(launch.key, "reading its status", launch.status)
                continue
            observed = self._observer.observe(launch, now, claims)
            seen[launch.key] = observed
            asked = questions(observed)
            for subject, after in asked.items():
                wanted[subject] = min(after, wanted.get(subject, after))
            backends[launch.key] = frozenset(subject.backend for subject in asked)
        return Round(now, seen, wanted, claims, backends)

    def gather(self, looked: Round, deadline_s: float) -> dict[Subject, Reading]:
        """Ask Prometheus what the round wants to know."""
        return self._evidence.gather(looked.wanted, looked.now, deadline_s) if looked.wanted else {}

    def forget_all_but(self, keys: Iterable[LaunchKey]) -> None:
        """Drop what is remembered of launches that are gone."""
        for key in self._observer.forget_all_but(keys):
            self._recorder.forgotten(key)

    # Decide and apply

    def settle(self, looked: Round, key: LaunchKey, readings: Mapping[Subject, Reading], *, asked: bool) -> bool:
        """Decide for one launch of the round and do what follows; False where another thread works on it.

        ``asked`` is false in a round that did not ask Prometheus: then nothing can be raised.
        """
        launch = self._cluster.launch(key)
        memory = self._observer.memory(key)
        if launch is None or memory is None or memory.uid != launch.uid:
            return True
        if memory.recording or not memory.busy.acquire(blocking=False):
            return False
        try:
            if self._observer.memory(key) is not memory:  # forgotten while we came here
                return True
            if launch.deleting and not launch.finalized:
                return True
            seen = self._observer.observe(launch, looked.now, looked.claims)
            if asked and self._try_raises(launch, seen, memory):
                seen = self._observer.observe(launch, looked.now, looked.claims)
            wanted = questions(seen)
            readings = {subject: readings[subject] for subject in wanted if subject in readings}
            self._apply(launch, replace(seen, readings=readings), memory, looked.claims, asked=asked)
        except AdapterError as error:
            self._back_off(memory, key, error)
        finally:
            memory.busy.release()
        return True

    def _back_off(self, memory: Memory, key: LaunchKey, error: Exception) -> None:
        memory.failures += 1
        pause = min(0.25 * 2 ** min(memory.failures, 10), LONGEST_BACKOFF)
        memory.not_before = self._clock.steady() + pause
        self._recorder.failed(key, "writing", error)

    def _apply(self, launch: Launch, seen: Observation, memory: Memory, claims: Claims, *, asked: bool) -> None:
        for _ in range(TRIES):
            decision = decide(seen)
            memory.gate_judged_at = decision.gate_judged_at
            memory.alarms = decision.status.alarms
            self._recorder.judged(launch.key, decision, seen.targets)
            if seen.status.epoch > seen.epoch:
                raise RefusedError(
                    f"launch {launch.key} is run by another controller (epoch {seen.status.epoch}, ours {seen.epoch})"
                )
            now = self._clock.steady()
            if decision.lowers:
                if now >= memory.lower_not_before:
                    memory.lower_not_before = now + RETREAT_BACKOFF
                    self._retreat(launch, seen, decision, memory)
                return
            if asked and now < memory.not_before:
                return
            try:
                if (guarded := self._guard(launch, decision)) is not None:
                    if guarded.deleting and not guarded.finalized:
                        return
                    launch = guarded
                elif seen.intent_fate == "unknown":
                    launch = self._fence(launch, seen, memory)
                elif decision.raises:
                    if self._raise(launch, seen, decision, memory):
                        return
                    launch = self._cluster.read_launch(launch.key)
                else:
                    self._store(launch, seen, decision, memory, asked=asked)
                    return
            except ConflictError:
                launch = self._cluster.read_launch(launch.key)
            if isinstance(launch.status, UnreadableStatusError) or launch.uid != memory.uid:
                return
            seen = replace(self._observer.observe(launch, seen.now, claims), readings=seen.readings)
        # Somebody writes faster than we read: the next tick tries again.

    def _guard(self, launch: Launch, decision: Decision) -> Launch | None:
        """Have deletion wait for weight 0 where the plan wants that, and let it go on then; None: nothing to change."""
        if launch.deleting:
            over = decision.status.state is State.ROLLED_BACK and decision.status.intent is None
            return self._cluster.set_finalizer(launch, present=False) if launch.finalized and over else None
        wanted = isinstance(launch.plan, Plan) and launch.plan.on_delete == "reset"
        if isinstance(launch.plan, Plan) and wanted != launch.finalized:
            return self._cluster.set_finalizer(launch, present=wanted)
        return None

    def _try_raises(self, launch: Launch, seen: Observation, memory: Memory) -> bool:
        """Prove by dry runs that the first raises of a coming phase may be written; whether anything new is known."""
        coming = preflight_of(seen.plan, seen.status, seen.now)
        plan = launch.plan
        if coming is None or not coming.steps or not isinstance(plan, Plan):
            memory.unwritable = {}
            return False
        now = self._clock.steady()
        if now - memory.tried_at < DRY_RUN_SECONDS:
            return False
        memory.tried_at = now
        before, found = memory.unwritable, {}
        for name in coming.targets:
            view = seen.target(name)
            if view is None or view.weight != 0 or view.problem:
                continue
            target = plan.target(name)
            try:
                route = self._cluster.read_route(route_key(launch.key.namespace, target))
                epoch = f"{seen.epoch}-preflight"
                patch = weights.patch(route, target, coming.steps[0].weight, epoch, fresh=True)
                self._cluster.patch_route(patch, dry_run=True)
            except (AdapterError, weights.SplitError) as error:
                found[name] = str(error)
        memory.unwritable = found
        return found != before

    def _write(self, launch: Launch, status: Status, memory: Memory) -> Launch:
        stored = self._cluster.write_status(launch, write_status(status))
        memory.epoch = status.epoch
        memory.last_write = self._clock.steady()
        memory.failures, memory.not_before = 0, -1e9
        return stored

    def _keep_folds(self, decision: Decision, stored: Launch | None, memory: Memory) -> None:
        memory.folds = decision.folds
        if stored is not None and isinstance(stored.status, Status):
            memory.stored = stored.status.folds

    def _store(self, launch: Launch, seen: Observation, decision: Decision, memory: Memory, *, asked: bool) -> None:
        idle = self._clock.steady() - memory.last_write
        pause = START_REASON_SECONDS if decision.signal is Signal.NOT_READY else REASON_SECONDS
        reason = asked and idle >= pause and decision.changed
        said = any(record.at > seen.now - LISTENED_SECONDS for record in seen.status.overrides)
        patience = START_REASON_SECONDS if said else REASON_SECONDS
        # A process that has just started has nothing to tell yet: whoever dies again and again must not write each time.
        quiet = min(idle, self._clock.steady() - memory.since)
        other = asked and quiet >= patience and decision.waits_for_another(seen.status.message)
        worth = other or self._checkpoint_due(seen, decision, idle)
        if not (decision.decisive or decision.alarmed or reason or (worth and self._budget.take())):
            self._keep_folds(decision, None, memory)
            return
        stored = self._write(launch, with_evidence(decision), memory)
        self._keep_folds(decision, stored, memory)
        if decision.decisive:
            self._recorder.decided(launch.key, decision, seen)

    def _checkpoint_due(self, seen: Observation, decision: Decision, idle: float) -> bool:
        if idle < CHECKPOINT_SECONDS or seen.running is None or decision.folds == decode_folds(seen.status.folds):
            return False
        horizon = seen.running.phases[0].horizon
        return horizon is None or horizon > CHECKPOINT_FROM_HORIZON

    def _raise(self, launch: Launch, seen: Observation, decision: Decision, memory: Memory) -> bool:
        """True when the raise was written (or refused for good); False when the world moved: decide again."""
        # A raise into the next phase stands on the plan as it is now.
        targets = {target.name: target for target in launch.plan.targets} if isinstance(launch.plan, Plan) else {}
        ((name, weight),) = decision.weights.items()
        target = targets[name]
        route = self._cluster.read_route(route_key(launch.key.namespace, target))
        fresh = self._cluster.read_launch(launch.key)
        if fresh.resource_version != launch.resource_version or fresh.uid != launch.uid:
            return False
        if self._observer.stop != seen.stop:
            return False
        view = self._observer.view(launch, target, memory, route)
        if view != seen.target(name):
            targets_now = tuple(view if view.name == item.name else item for item in seen.targets)
            again = decide(replace(seen, targets=targets_now))
            if not again.raises or again.weights != decision.weights:
                return False
        epoch = f"{seen.epoch}-{decision.id}"
        try:
            patch = weights.patch(route, target, weight, epoch, fresh=True)
        except weights.SplitError as error:
            self._trouble(launch, memory, str(error))
            return True
        try:
            # After trouble too: an intent that is bound to be refused would only cost writes.
            if view.weight == 0 != weight or memory.troubles:
                self._cluster.patch_route(patch, dry_run=True)
        except (RefusedError, NotFoundError) as error:
            self._trouble(launch, memory, f"a dry run of the raise was refused: {error}")
            return True
        stored = self._write(fresh, with_evidence(decision), memory)
        self._keep_folds(decision, stored, memory)
        memory.intent, memory.fate, memory.intent_since = decision.id, "unknown", self._clock.steady()
        self._recorder.decided(launch.key, decision, seen)
        if view.weight == weight:
            # The next phase begins at the weight that the last one ended with: nothing to write.
            memory.fate = "written"
            return True
        try:
            answer = self._cluster.patch_route(patch)
        except (ConflictError, NotFoundError):
            memory.fate = "fenced"
            return False
        except RefusedError as error:
            memory.fate = "fenced"
            self._trouble(launch, memory, f"the raise was refused: {error}")
            return True
        memory.intent_since, memory.fate = self._clock.steady(), "written"
        if _canary_weight(answer, target) == weight:
            memory.troubles = 0
        else:
            self._trouble(launch, memory, f"{route.key}: something else than the raise was stored")
        return True

    def _trouble(self, launch: Launch, memory: Memory, problem: str) -> None:
        """The route cannot be written as it should be: the launch shows it, and tries again after a pause."""
        memory.troubles += 1
        memory.trouble = problem
        memory.trouble_until = self._clock.steady() + min(5.0 * 2 ** min(memory.troubles, 10), LONGEST_BACKOFF)
        self._recorder.failed(launch.key, "writing", RefusedError(problem))

    def _fence(self, launch: Launch, seen: Observation, memory: Memory) -> Launch:
        """Make sure that an intent to raise of unknown fate either has happened or never will."""
        status = seen.status
        intent = status.intent
        assert intent is not None
        if status.epoch < seen.epoch:
            launch = self._write(launch, status.model_copy(update={"epoch": seen.epoch}), memory)
        for target in self._intent_targets(launch, seen, intent):
            self._move_on(route_key(launch.key.namespace, target), f"{seen.epoch}-{intent.id}-fence")
        memory.fate = "fenced"
        memory.intent_since = self._clock.steady()
        return launch

    def _move_on(self, key: RouteKey, epoch: str) -> None:
        """Move the route's version, so that a raise that is still on its way is refused when it arrives."""
        for attempt in range(TRIES):
            try:
                route = self._cluster.read_route(key)
                self._cluster.patch_route(
                    RoutePatch(key=key, uid=route.uid, resource_version=route.resource_version, edits=(), epoch=epoch)
                )
                return
            except NotFoundError:
                return
            except ConflictError:
                if attempt == TRIES - 1:
                    raise

    def _intent_targets(self, launch: Launch, seen: Observation, intent: Intent) -> Iterable[Target]:
        known: dict[str, Target] = {}
        for plan in (launch.plan, seen.running):
            if isinstance(plan, Plan):
                known.update({target.name: target for target in plan.targets})
        return [known[name] for name in intent.weights if name in known]

    def _retreat(self, launch: Launch, seen: Observation, decision: Decision, memory: Memory) -> None:
        """Weight 0 first of all; status follows as far as it can be written.

        The intent is stored beside the patch, which waits for nobody: without the intent, a restart finds the canary at
        0 where its status says otherwise, and decides again or holds; it never raises on that.
        """
        status = decision.status
        intent: Future[Launch | None] | None = None
        if decision.decisive and status.intent is not None and status.intent.kind == "return":
            # Nobody is harmed meanwhile, so this one can wait for its record.
            stored = self._store_intent(launch, decision, memory)
            if stored is None:
                return
            launch = stored
            self._recorder.decided(launch.key, decision, seen)
        elif decision.decisive:
            intent = self._background.beside(lambda: self._store_intent(launch, decision, memory))
            self._recorder.decided(launch.key, decision, seen)
        done = not decision.withheld
        for target in self._observer.targets(launch):
            weight = decision.weights.get(target.name)
            if weight is not None and not self._lower(launch, target, weight, decision):
                done = False
            if target.name in decision.withheld and decision.decisive:
                self._withhold(launch, target, decision, status.epoch)
        memory.recording = True
        self._background.later(lambda: self._conclude(launch, decision, memory, intent, done=done))

    def _store_intent(self, launch: Launch, decision: Decision, memory: Memory) -> Launch | None:
        try:
            stored = self._write(launch, with_evidence(decision), memory)
        except AdapterError as error:
            self._recorder.failed(launch.key, "storing the intent to retreat", error)
            return None
        self._keep_folds(decision, stored, memory)
        return stored

    def _conclude(
        self, launch: Launch, decision: Decision, memory: Memory, intent: Future[Launch | None] | None, *, done: bool
    ) -> None:
        """Record that the canary is at 0. Where that fails, the open intent makes the next tick do it again."""
        try:
            stored = (intent.result() if intent is not None else None) or launch
            if not done:
                self._tell_of_stuck(stored, decision, memory)
            elif decision.status.intent is not None:
                memory.failures = 0
                self._record_retreat(stored, decision.status, memory)
        except AdapterError as error:
            self._recorder.failed(launch.key, "recording the retreat", error)
        finally:
            memory.recording = False

    def _withhold(self, launch: Launch, target: Target, decision: Decision, epoch: int) -> None:
        """Nothing is lowered, but what was about to raise must not arrive either."""
        try:
            self._move_on(route_key(launch.key.namespace, target), f"{epoch}-{decision.id}-withheld")
        except AdapterError as error:
            self._recorder.failed(launch.key, "fencing a raise", error)

    def _tell_of_stuck(self, launch: Launch, decision: Decision, memory: Memory) -> None:
        """Why the canary is not at 0 yet, once it has taken a while."""
        if decision.decisive or not decision.changed or self._clock.steady() - memory.last_write < REASON_SECONDS:
            return
        try:
            self._write(launch, with_evidence(decision), memory)
        except AdapterError as error:
            self._recorder.failed(launch.key, "storing why the retreat is stuck", error)

    def _lower(self, launch: Launch, target: Target, weight: int, decision: Decision) -> bool:
        """Whether the canary of this target is known to have no more than this weight now."""
        key = route_key(launch.key.namespace, target)
        route = self._cluster.route(key)
        for _ in range(TRIES):
            try:
                if route is None:
                    route = self._cluster.read_route(key)
                live = _canary_weight(route, target)
                if weight and live is not None and live <= weight:
                    self._move_on(key, f"{decision.status.epoch}-{decision.id}-fence")
                    return True
                patch = weights.patch(route, target, weight, f"{decision.status.epoch}-{decision.id}", fresh=False)
                answer = self._cluster.patch_route(patch)
                if not weights.canary_takes_traffic(answer, target) or _canary_weight(answer, target) == weight:
                    return True
                route = answer
            except ConflictError:
                route = None
            except NotFoundError:
                return True
            except weights.SplitError as error:
                # Renamed or removed backends: nothing is written onto a wrong one; no canary there, no traffic.
                self._recorder.failed(launch.key, "lowering the canary", error)
                return False
            except AdapterError as error:
                self._recorder.failed(launch.key, "lowering the canary", error)
                return False
        return False

    def _record_retreat(self, launch: Launch, status: Status, memory: Memory) -> None:
        intent = status.intent
        for _ in range(TRIES):
            try:
                current = launch.status
                if not isinstance(current, Status) or current.intent is None or current.intent != intent:
                    return
                done = retreated(current.model_copy(update={"epoch": status.epoch}), self._now())
                self._write(launch, done, memory)
                if done.state is State.ROLLED_BACK:
                    self._recorder.rolled_back(launch.key, done)
                return
            except ConflictError:
                launch = self._cluster.read_launch(launch.key)

    def _now(self) -> float:
        return round(self._clock.now(), 3)


def _canary_weight(route: Route, target: Target) -> int | None:
    """The canary's live share in thousandths; None where the route holds the pair in no way that a plan can name."""
    try:
        return weights.live_weight(route, target)
    except weights.SplitError:
        return None

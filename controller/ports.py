"""What a round needs of the world outside, as Protocols; the adapters implement them without knowing who asks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from controller.core.decide import Decision
from controller.core.observation import Observation, TargetView
from controller.core.series import Reading, Subject
from controller.core.status import Status
from controller.core.world import Launch, LaunchKey, Route, RouteKey, RoutePatch

T = TypeVar("T")


class Background(Protocol):
    """Threads for what must not be waited for."""

    def beside(self, work: Callable[[], T]) -> Future[T]:
        """Do this at the same time as what the caller goes on with."""

    def later(self, work: Callable[[], None]) -> None:
        """Do this when nothing more urgent is left to do."""


class Cluster(Protocol):
    """Launches, routes and endpoints: an API server, or a folder of manifests."""

    def start(self) -> None:
        """Begin to follow the cluster."""

    def stop(self) -> None:
        """Stop following; returns within two seconds."""

    def synced(self) -> bool:
        """Whether every kind was listed once; before that, an empty list says nothing."""

    def problem(self) -> str:
        """Why the view may be old; empty when it is not."""

    def launches(self) -> list[Launch]:
        """All launches, from the cache."""

    def launch(self, key: LaunchKey) -> Launch | None:
        """One launch, from the cache."""

    def route(self, key: RouteKey) -> Route | None:
        """One route, from the cache."""

    def ready_endpoints(self, namespace: str, service: str) -> int | None:
        """How many endpoints of a Service are ready; None: not known."""

    def template(self, namespace: str, kind: str, name: str) -> str | None:
        """What the pods of a workload are made from, as 16 hex digits; None: not known, or there is no such workload.

        ``kind`` is Deployment, StatefulSet or DaemonSet. A kind is followed from the first question on, which is
        answered by None; when a template that was asked for changes, the launches that name the workload are called.
        """

    def pod_versions(self, namespace: str, service: str, label: str) -> Mapping[str, int] | None:
        """How many ready pods behind a Service carry each value of a label ("" where it is missing); None: not known.

        Waits for nothing: the first question begins the reading, and a later one gets what was read by then.
        """

    def subscribe(self, callback: Callable[[LaunchKey], None]) -> None:
        """Call back when more than the status of a launch has changed, or the template of a workload that it names."""

    def read_launch(self, key: LaunchKey) -> Launch:
        """One launch, afresh."""

    def read_route(self, key: RouteKey) -> Route:
        """One route, afresh."""

    def write_status(self, launch: Launch, status: Mapping[str, Any]) -> Launch:
        """Store the status if the launch is still the very version given; returns what was stored."""

    def patch_route(self, patch: RoutePatch, dry_run: bool = False) -> Route:  # noqa: FBT001, FBT002
        """Change exactly these weights and the epoch annotation; returns what was stored."""

    def annotate(self, key: LaunchKey, changes: Mapping[str, str | None]) -> Launch:
        """Set (or with None remove) annotations of a launch, named without our prefix; all others stay as they are.

        Raises NotFoundError where there is no such launch.
        """

    def set_finalizer(self, launch: Launch, present: bool) -> Launch:  # noqa: FBT001
        """Let our finalizer be there, or not, if the launch is still the very version given; others' finalizers stay.

        A launch that is being deleted vanishes with its last finalizer. Taking it from a launch that is gone is no
        error.
        """


class Alerting(Protocol):
    """Whether the people who are to be told can be told."""

    @property
    def configured(self) -> bool:
        """Whether there is anybody to tell at all."""

    def problem(self) -> str:
        """Why alerts may not arrive, in words; empty when they do, and where nothing is configured. Waits for nothing."""


class Evidence(Protocol):
    """Where readings come from."""

    def gather(self, wanted: Mapping[Subject, int], now: float, deadline_s: float) -> dict[Subject, Reading]:
        """Rows of each subject after the given instant, asked at ``now`` (epoch s), within ``deadline_s`` seconds."""


class Recorder(Protocol):
    """Who is told of what was decided and done."""

    def decided(self, key: LaunchKey, decision: Decision, seen: Observation) -> None:
        """A decision that changed where a launch stands was stored or tried; ``seen`` is what it was made from."""

    def judged(self, key: LaunchKey, decision: Decision, views: tuple[TargetView, ...]) -> None:
        """A launch was evaluated."""

    def rolled_back(self, key: LaunchKey, status: Status) -> None:
        """Every canary of the launch was seen at 0, and that is recorded."""

    def failed(self, key: LaunchKey, doing: str, error: BaseException) -> None:
        """Something did not work; it will be tried again."""

    def forgotten(self, key: LaunchKey) -> None:
        """The launch is gone."""


@dataclass(frozen=True, slots=True)
class Lease:
    """Who may write, as it was last read. ``version`` is another one after each change, whoever made it.

    ``holder`` is empty where nobody has it; ``released`` says that its last holder gave it back. ``transitions`` counts
    how often it went from one to another.
    """

    version: str
    holder: str = ""
    transitions: int = 0
    released: bool = False


class LeasePort(Protocol):
    """Where the one Lease is kept. No request is ever sent twice, nor takes longer than the elector can wait."""

    def read(self) -> Lease | None:
        """The Lease afresh; None: there is none. Raises AdapterError."""

    def create(self) -> Lease:
        """Make it, held by nobody and given back by nobody. Raises ConflictError where there is one, else AdapterError."""

    def write(self, known: Lease, holder: str, transitions: int) -> Lease:
        """Put this holder into it, or give it back (empty), if it is still the very version known.

        Raises ConflictError when it is another, NotFoundError when there is none, else AdapterError.
        """

    def holds(self) -> bool:
        """False where it can be seen on the spot that it is no longer ours; waits for nothing."""

"""What the cluster looks like to the core: slim, typed, immutable views of Launches and routes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from controller.core.plan import InvalidPlanError, Plan, parse
from controller.core.series import RecordedForm
from controller.core.spec import GROUP
from controller.core.status import Status, UnreadableStatusError, read_status
from controller.core.terms import Terms, terms_of
from controller.core.units import parse_instant

ANNOTATION_PREFIX = f"{GROUP}/"
EPOCH_ANNOTATION = f"{ANNOTATION_PREFIX}epoch"
"""The one annotation that is written on a route: the writer's epoch and the decision's id."""
FINALIZER = f"{ANNOTATION_PREFIX}reset"
"""What keeps a launch from going before its canary is at 0, where its plan asks for that."""


@dataclass(frozen=True, slots=True)
class LaunchKey:
    """Where a Launch is found."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class Launch:
    """A Launch as it was read. ``annotations`` are ours only, without their prefix. ``created`` is epoch seconds.

    ``deleting``: it goes as soon as its last finalizer does. ``finalized``: ours is there. ``terms`` are what its plan was
    read with.
    """

    key: LaunchKey
    uid: str
    resource_version: str
    generation: int
    created: float
    plan: Plan | InvalidPlanError
    status: Status | UnreadableStatusError
    annotations: Mapping[str, str]
    deleting: bool = False
    finalized: bool = False
    terms: Terms | None = field(default=None, compare=False, repr=False)


def read_launch(
    document: Mapping[str, Any],
    before: Launch | None = None,
    recorded: RecordedForm | None = None,
    terms: Terms | None = None,
) -> Launch:
    """A manifest with the server's metadata, as a Launch.

    ``before`` is an earlier view of the same object: where its generation and its terms still hold, its plan is used
    again instead of being parsed again. ``recorded`` is how the operator's rules write the built-in metrics, ``terms``
    what else the operator says; None: only what its status says of that is known. Bad plans and bad statuses are values
    here, not errors: they concern one launch.
    """
    metadata = document["metadata"]
    key = LaunchKey(metadata.get("namespace") or "default", metadata["name"])
    uid, generation = metadata["uid"], int(metadata.get("generation") or 1)
    plan: Plan | InvalidPlanError
    said = _terms_said(document) if terms is None else terms
    if before is not None and (before.uid, before.generation) == (uid, generation) and before.terms == said:
        plan = before.plan
    else:
        try:
            plan = parse(document, recorded or RecordedForm(), said)
        except InvalidPlanError as invalid:
            plan = invalid
    status: Status | UnreadableStatusError
    try:
        status = read_status(document.get("status") or {})
    except UnreadableStatusError as unreadable:
        status = unreadable
    annotations = metadata.get("annotations") or {}
    created = metadata.get("creationTimestamp")
    return Launch(
        key=key,
        uid=uid,
        resource_version=str(metadata.get("resourceVersion") or ""),
        generation=generation,
        created=parse_instant(created) if created else 0.0,
        plan=plan,
        status=status,
        annotations={
            name.removeprefix(ANNOTATION_PREFIX): str(value)
            for name, value in annotations.items()
            if name.startswith(ANNOTATION_PREFIX)
        },
        deleting=bool(metadata.get("deletionTimestamp")),
        finalized=FINALIZER in (metadata.get("finalizers") or ()),
        terms=said,
    )


def _terms_said(document: Mapping[str, Any]) -> Terms:
    """What the controller had been given for this launch, as its status says."""
    here: Any = document
    for part in ("status", "run", "standsOn"):
        here = here.get(part) if isinstance(here, Mapping) else None
    try:
        return terms_of(here) if isinstance(here, Mapping) else Terms()
    except InvalidPlanError:
        return Terms()


@dataclass(frozen=True, slots=True)
class BackendReference:
    """One entry of a rule's ``backendRefs``. ``service`` is true for a Service of the route's own namespace."""

    name: str
    weight: int
    service: bool = True


@dataclass(frozen=True, slots=True)
class RouteRule:
    """One rule of a route, its backends in order. ``name`` is empty where the route gives none."""

    name: str
    backends: tuple[BackendReference, ...]


@dataclass(frozen=True, slots=True)
class ParentStatus:
    """What one parent (gateway) says of the route: accepted and resolved at which generation."""

    parent: str
    accepted: bool
    observed_generation: int


@dataclass(frozen=True, slots=True)
class RouteKey:
    """Where a route is found; ``kind`` is HTTPRoute or GRPCRoute."""

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class Route:
    """A traffic split as it was read. ``annotated``: it has annotations, be they anybody's."""

    key: RouteKey
    uid: str
    resource_version: str
    generation: int
    rules: tuple[RouteRule, ...]
    parents: tuple[ParentStatus, ...] = ()
    epoch: str = ""
    annotated: bool = True


def read_route(document: Mapping[str, Any]) -> Route:
    """A Gateway API HTTPRoute or GRPCRoute manifest as a Route.

    A missing weight is 1, as the Gateway API says. A backend counts as a Service of the route's namespace when its
    group, kind and namespace are the defaults or say so.
    """
    metadata = document["metadata"]
    namespace = metadata.get("namespace") or "default"
    spec = document.get("spec") or {}
    status = document.get("status") or {}
    rules = tuple(
        RouteRule(
            name=rule.get("name") or "",
            backends=tuple(
                BackendReference(
                    name=str(reference.get("name", "")),
                    weight=1 if reference.get("weight") is None else int(reference["weight"]),
                    service=(reference.get("group") or "") == ""
                    and (reference.get("kind") or "Service") == "Service"
                    and (reference.get("namespace") or namespace) == namespace,
                )
                for reference in rule.get("backendRefs") or ()
            ),
        )
        for rule in spec.get("rules") or ()
    )
    return Route(
        key=RouteKey(document["kind"], namespace, metadata["name"]),
        uid=str(metadata.get("uid") or ""),
        resource_version=str(metadata.get("resourceVersion") or ""),
        generation=int(metadata.get("generation") or 1),
        rules=rules,
        parents=tuple(_read_parent(parent) for parent in status.get("parents") or ()),
        epoch=str((metadata.get("annotations") or {}).get(EPOCH_ANNOTATION) or ""),
        annotated=metadata.get("annotations") is not None,
    )


def _read_parent(parent: Mapping[str, Any]) -> ParentStatus:
    conditions = {condition.get("type"): condition for condition in parent.get("conditions") or ()}
    accepted = conditions.get("Accepted") or {}
    resolved = conditions.get("ResolvedRefs") or {"status": "True", "observedGeneration": 2**62}
    reference = parent.get("parentRef") or {}
    return ParentStatus(
        parent=f"{reference.get('kind') or 'Gateway'} {reference.get('name', '')} of {parent.get('controllerName', '')}",
        accepted=accepted.get("status") == "True" and resolved.get("status") == "True",
        observed_generation=min(
            int(accepted.get("observedGeneration") or 0), int(resolved.get("observedGeneration") or 0)
        ),
    )


@dataclass(frozen=True, slots=True)
class WeightEdit:
    """Set the weight of the backend called ``name``, which must stand at this place."""

    rule: int
    backend: int
    name: str
    weight: int


@dataclass(frozen=True, slots=True)
class RoutePatch:
    """An exact change of a route: these weights and the epoch annotation, and nothing else.

    The patch holds only while the route's uid and the names at all listed places are as given; with
    ``resource_version`` only while that is the newest one too. Every place in ``guards`` is tested, ``edits`` are
    written. ``resource_version`` is None for a lowering, which must not wait for a fresh read.
    """

    key: RouteKey
    uid: str
    resource_version: str | None
    edits: tuple[WeightEdit, ...]
    epoch: str
    guards: tuple[tuple[int, int, str], ...] = ()

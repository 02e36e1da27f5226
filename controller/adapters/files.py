"""The folder as the cluster: launches, routes, EndpointSlices, workloads and pods are YAML manifests, edited in place.

Beside them, in ``.status``, every Launch and route has a record with what an API server would keep: its uid, its
generation, and the status of a launch. A resourceVersion is a digest of what is on disk, so a write is compared with
the disk itself at the moment of writing, under a lock file that all processes on the folder share.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import hashlib
import json
import os
import secrets
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from controller.adapters import objects as shared
from controller.adapters import yaml_documents
from controller.adapters.routes import gateway
from controller.adapters.yaml_documents import YamlDocument, YamlError
from controller.core import world
from controller.core.plan import Fault, InvalidPlanError
from controller.core.series import RecordedForm
from controller.core.spec import GROUP, KIND
from controller.core.terms import Terms
from controller.core.units import format_instant
from controller.core.world import EPOCH_ANNOTATION, FINALIZER, Launch, LaunchKey, Route, RouteKey, RoutePatch
from controller.errors import ConflictError, NotFoundError, NotLeadingError, RefusedError, UnansweredError

RECORDS = ".status"
"""The subfolder of records; whoever removes it starts every launch again from the beginning."""

GONE_AFTER_S = 1.0
"""How long a manifest must be missing to count as deleted: editors replace files by removing them first."""

_RACY_S = 0.1
"""A file that was changed this short a time before it was read may change again within the clock's resolution."""

_MAX_WEIGHT = 1_000_000
_KINDS = {
    KIND: GROUP,
    **dict.fromkeys(gateway.PLURALS, gateway.GROUP),
    "EndpointSlice": "discovery.k8s.io",
    **dict.fromkeys(shared.WORKLOADS, shared.WORKLOAD_GROUP),
    "Pod": "v1",  # of the core group, which has no name
}

_Signature = tuple[int, int, int, int]
"""Times of modification and of change (ns), size and inode of a file: what differs when its content does."""

_Name = tuple[str, str, str]
"""Kind, namespace and name of an object."""


@dataclass(frozen=True, slots=True)
class _Object:
    """One manifest as it stands in a file; ``number`` counts the file's documents from 0."""

    name: _Name
    value: dict[str, Any]
    digest: str
    spec: str
    file: str
    number: int
    line: int

    @property
    def place(self) -> str:
        return f"{self.file}:{self.line}"


@dataclass(slots=True)
class _File:
    """What is known of one file. ``objects`` are those of the last good read; ``fault`` is set while it is broken."""

    signature: _Signature
    content: bytes
    racy: bool
    objects: tuple[_Object, ...] = ()
    fault: Fault | None = None


@dataclass(frozen=True, slots=True)
class _Record:
    """What is kept beside a manifest. ``spec`` is the digest of the spec that ``generation`` counts."""

    uid: str
    generation: int
    spec: str
    created: str
    status: Mapping[str, Any] = field(default_factory=dict)

    def text(self) -> str:
        return json.dumps(dataclasses.asdict(self), indent=1)


@dataclass(frozen=True, slots=True)
class _Kept:
    """A record as it is on the disk; ``record`` is None where it cannot be read."""

    signature: _Signature
    racy: bool
    record: _Record | None


@dataclass(frozen=True, slots=True)
class _View:
    """What is answered from memory; replaced as a whole, so that readers need no lock."""

    launches: Mapping[LaunchKey, Launch] = field(default_factory=dict)
    routes: Mapping[RouteKey, Route] = field(default_factory=dict)
    ready: Mapping[tuple[str, str], int] = field(default_factory=dict)
    templates: Mapping[_Name, str] = field(default_factory=dict)
    slices: tuple[Mapping[str, Any], ...] = ()
    pods: tuple[Mapping[str, Any], ...] = ()


class Files:
    """A cluster in a folder; all methods may be called from several threads, and processes may share the folder."""

    def __init__(
        self,
        folder: Path,
        *,
        scan_s: float = 0.2,
        lock_within_s: float = 5.0,
        on_problem: Callable[[str], None] | None = None,
        recorded: RecordedForm | None = None,
        may_write: Callable[[], bool] | None = None,
        terms: Callable[[], Terms] | None = None,
    ) -> None:
        """``scan_s``: seconds between two looks at the folder; ``lock_within_s``: how long to wait for another process.

        ``may_write`` is asked right before anything is changed; where it says no, NotLeadingError is raised. ``terms`` are
        what plans are read with: where another value is given, all of them are read again.
        """
        self._folder = folder
        self._recorded = recorded
        self._records = folder / RECORDS
        self._scan_s = scan_s
        self._lock_within_s = lock_within_s
        self._on_problem = on_problem
        self._may_write = may_write
        self._terms = terms
        self._read_with: Terms | None = None
        self._listeners: list[Callable[[LaunchKey], None]] = []
        self._turn = threading.Lock()
        self._files: dict[str, _File] = {}
        self._kept: dict[_Name, _Kept] = {}
        self._objects: dict[_Name, list[_Object]] = {}
        self._documents: dict[_Name, tuple[str, _Record, dict[str, Any]]] = {}
        self._sound: dict[LaunchKey, Launch] = {}
        self._missing_since: dict[_Name, float] = {}
        self._view = _View()
        self._problem = ""
        self._told = ("", 0.0)
        self._synced = False
        self._changed: set[LaunchKey] = set()
        self._outdated = True  # until a rebuild has gone through, whatever came between
        self._stopping = threading.Event()
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._run, name="scan of the folder", daemon=True)

    def start(self) -> None:
        """Begins to scan, in a thread of its own; :meth:`synced` says when the view is whole."""
        self._thread.start()

    def stop(self) -> None:
        """Ends the scans within 2 seconds."""
        self._stopping.set()
        self._wake.set()
        with contextlib.suppress(RuntimeError):  # never started
            self._thread.join(2.0)

    def synced(self) -> bool:
        """The folder was read once."""
        return self._synced

    def problem(self) -> str:
        """Empty, or which file cannot be read and where, or why the folder cannot."""
        return self._problem

    def launches(self) -> list[Launch]:
        """All launches, as of the last scan."""
        return list(self._view.launches.values())

    def launch(self, key: LaunchKey) -> Launch | None:
        """One launch, as of the last scan."""
        return self._view.launches.get(key)

    def route(self, key: RouteKey) -> Route | None:
        """One route, as of the last scan."""
        return self._view.routes.get(key)

    def ready_endpoints(self, namespace: str, service: str) -> int | None:
        """How many endpoints of a Service are ready; None where no EndpointSlice in the folder tells."""
        return self._view.ready.get((namespace, service))

    def template(self, namespace: str, kind: str, name: str) -> str | None:
        """What the pods of a workload are made from, as 16 hex digits; None where no file has it."""
        return self._view.templates.get((kind, namespace, name))

    def pod_versions(self, namespace: str, service: str, label: str) -> Mapping[str, int] | None:
        """How many ready pods behind a Service carry each value of a label ("" where it is missing); None: not known."""
        view = self._view
        behind = [
            shared.pods_behind(shared.ready_endpoints(one))
            for one in view.slices
            if (one["metadata"]["namespace"], _service(one)) == (namespace, service)
        ]
        if not behind:
            return None
        pods = [one for one in view.pods if one["metadata"]["namespace"] == namespace]
        return shared.count_versions(behind, shared.labels_of_pods(pods, [label]), label)

    def subscribe(self, callback: Callable[[LaunchKey], None]) -> None:
        """Calls back, from the scanning thread, when a launch came, went or changed in more than its status.

        Or when the template of a workload that it names has changed.
        """
        self._listeners.append(callback)

    def read_launch(self, key: LaunchKey) -> Launch:
        """The launch afresh.

        Raises NotFoundError or UnansweredError.
        """
        with self._locked():
            self._read_folder()
            launch = self._view.launches.get(key)
        if launch is None:
            raise NotFoundError(f"Launch {key}: no file in {self._folder} has it")
        return launch

    def read_route(self, key: RouteKey) -> Route:
        """The route afresh.

        Raises NotFoundError or UnansweredError.
        """
        with self._locked():
            self._read_folder()
            route = self._view.routes.get(key)
        if route is None:
            raise NotFoundError(f"{key}: no file in {self._folder} has it")
        return route

    def write_status(self, launch: Launch, status: Mapping[str, Any]) -> Launch:
        """Replaces the status if the launch is still the one that was read; returns what was stored.

        Raises ConflictError when it is not, NotFoundError when it is gone, else UnansweredError.
        """
        key = launch.key
        with self._locked():
            self._read_folder()
            now = self._view.launches.get(key)
            if now is None:
                raise NotFoundError(f"Launch {key}: no file in {self._folder} has it")
            if (now.uid, now.resource_version) != (launch.uid, launch.resource_version):
                raise ConflictError(f"Launch {key}: status: somebody else changed the launch in between")
            name = (KIND, key.namespace, key.name)
            record = self._kept[name].record
            if record is None:
                raise RefusedError(f"Launch {key}: status: {self._unreadable(name).message}")
            # through JSON, so that what is returned is what another process will read
            stored = json.loads(json.dumps(status))
            self._refuse_followers(f"Launch {key}: status")
            self._keep(name, dataclasses.replace(record, status=stored), lasting=True)
            after = self._launch(key, self._objects[name])
            self._view = dataclasses.replace(self._view, launches={**self._view.launches, key: after})
            return after

    def patch_route(self, patch: RoutePatch, dry_run: bool = False) -> Route:  # noqa: FBT001, FBT002 - the Protocol's
        """Changes exactly what the patch says if everything it tests still holds; returns what was stored.

        Raises ConflictError when a test fails, NotFoundError when the route is gone, RefusedError when the file cannot
        be edited (it is broken, or the route is in two files), else UnansweredError.
        """
        key = patch.key
        with self._locked():
            self._read_folder()
            found = self._objects.get((key.kind, key.namespace, key.name), [])
            if not found:
                raise NotFoundError(f"{key}: no file in {self._folder} has it")
            self._refuse_unclear(str(key), found)
            document = self._document(found[0])
            difference = gateway.difference(patch, document)
            if difference:
                raise ConflictError(difference)
            content, objects = self._edited(patch, found[0], document)
            if dry_run:
                value = next(one for one in objects if one.number == found[0].number).value
                return world.read_route({**value, "metadata": {**document["metadata"], **value["metadata"]}})
            self._save(str(key), found[0].file, content, objects)
            return self._view.routes[key]

    def annotate(self, key: LaunchKey, changes: Mapping[str, str | None]) -> Launch:
        """Sets (or with None removes) annotations of ours, named without their prefix, and touches nothing else.

        Raises NotFoundError, RefusedError (also for what is no name or text, and when the file cannot be edited),
        ConflictError when the file is changed at this very moment, else UnansweredError.
        """
        named = shared.full_names(key, changes)
        with self._locked():
            self._read_folder()
            one = self._editable(key)
            kept: dict[str, str] = one.value["metadata"]["annotations"] or {}
            removed = [name for name, text in named.items() if text is None and name in kept]
            written = {name: text for name, text in named.items() if text is not None and kept.get(name) != text}
            after = {name: text for name, text in kept.items() if name not in removed} | written
            if (
                sum(len(name.encode()) + len(text.encode()) for name, text in after.items())
                > shared.MAX_ANNOTATION_BYTES
            ):
                raise RefusedError(
                    f"Launch {key}: annotations: more than {shared.MAX_ANNOTATION_BYTES >> 10} KiB in all; write less"
                )
            place: yaml_documents.Path = ("metadata", "annotations")
            edits: dict[yaml_documents.Path, Any] = {}
            if not kept or not after:
                edits[place] = after or yaml_documents.REMOVED
            else:
                edits |= {(*place, name): text for name, text in written.items()}
                edits |= {(*place, name): yaml_documents.REMOVED for name in removed}
            if written or removed:
                self._edit(f"Launch {key}: annotations", one, edits)
            return self._view.launches[key]

    def set_finalizer(self, launch: Launch, present: bool) -> Launch:  # noqa: FBT001 - the Protocol's
        """Lets our finalizer be there, or not, if the launch is still the one that was read; returns what was stored.

        A launch counts as being deleted once ``metadata.deletionTimestamp`` was written into its file by hand; then it
        is removed from the file with its last finalizer. That, and that it is gone already, is no error.
        Raises ConflictError when somebody else changed it, NotFoundError when it is gone and should be kept, else
        RefusedError or UnansweredError.
        """
        key = launch.key
        what = f"Launch {key}: finalizer"
        gone = dataclasses.replace(launch, finalized=False)
        with self._locked():
            self._read_folder()
            now = self._view.launches.get(key)
            if not present and (now is None or now.uid != launch.uid):
                return gone
            if now is None:
                raise NotFoundError(f"Launch {key}: no file in {self._folder} has it")
            if (now.uid, now.resource_version) != (launch.uid, launch.resource_version):
                raise ConflictError(f"{what}: somebody else changed the launch in between")
            if now.finalized == present:
                return now
            if now.deleting and present:
                raise RefusedError(f"{what}: the launch is being deleted, so none can be added")
            one = self._editable(key)
            finalizers: list[str] = one.value["metadata"].get("finalizers") or []
            place: yaml_documents.Path = ("metadata", "finalizers")
            if present and finalizers:
                self._edit(what, one, {(*place, len(finalizers)): FINALIZER})
            elif present:
                self._edit(what, one, {place: [FINALIZER]})
            elif set(finalizers) != {FINALIZER}:
                self._edit(what, one, {(*place, finalizers.index(FINALIZER)): yaml_documents.REMOVED})
            elif now.deleting:
                self._remove(what, one)
                return gone
            else:
                self._edit(what, one, {place: yaml_documents.REMOVED})
            return self._view.launches[key]

    # What follows up to _locked() runs in the scanning thread.

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._wake.clear()
            try:
                if not self._synced or self._problem.startswith(_FOLDER) or self._may_have_changed():
                    with self._locked():
                        self._read_folder()
                    self._synced = True
            except UnansweredError as error:
                self._say(f"{_FOLDER} {error}")
            except OSError as error:
                self._say(f"{_FOLDER} {error.filename or self._folder}: {error.strerror or error}")
            except Exception as error:  # noqa: BLE001 - this thread has to live on, and to say so
                self._say(f"{_FOLDER} {self._folder}: {type(error).__name__}: {error}")
            self._notify()
            self._wake.wait(self._scan_s)

    def _may_have_changed(self) -> bool:
        if self._missing_since or self._changed or (self._terms is not None and self._terms() is not self._read_with):
            return True
        files, kept = dict(self._files), dict(self._kept)
        if any(one.racy for one in files.values()) or any(one.racy for one in kept.values()):
            return True
        manifests, records = self._look()
        return manifests != {name: one.signature for name, one in files.items()} or records != {
            name: one.signature for name, one in kept.items()
        }

    def _notify(self) -> None:
        with self._turn:
            changed, self._changed = self._changed, set()
        for key in changed:
            for listener in list(self._listeners):
                try:
                    listener(key)
                except Exception as error:  # noqa: BLE001 - a fault of the listener is not one of the folder
                    if self._on_problem is not None:
                        self._on_problem(f"a listener failed ({type(error).__name__}: {error})")

    def _say(self, problem: str) -> None:
        self._problem = problem
        text, at = self._told
        if not problem or self._on_problem is None or (problem == text and time.monotonic() - at < 30.0):
            return
        self._told = (problem, time.monotonic())
        self._on_problem(problem)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """This thread alone, among all threads of all processes; a system's error inside becomes UnansweredError."""
        deadline = time.monotonic() + self._lock_within_s
        if not self._turn.acquire(timeout=self._lock_within_s):
            raise UnansweredError(f"{self._folder}: another thread has been reading it for {self._lock_within_s:g} s")
        try:
            self._records.mkdir(exist_ok=True)
            with (self._records / ".lock").open("a") as lock:
                while True:
                    try:
                        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                        break
                    except BlockingIOError as error:
                        if time.monotonic() > deadline:
                            raise UnansweredError(f"{self._folder}: another process holds {lock.name}") from error
                        time.sleep(0.005)
                yield
        except OSError as error:
            raise UnansweredError(f"{error.filename or self._folder}: {error.strerror or error}") from error
        finally:
            self._turn.release()

    # Everything below needs the lock.

    def _read_folder(self) -> None:
        """Brings memory up to the disk: what changed is read, and the view is replaced if anything did."""
        manifests, records = self._look()
        # a missing manifest is a change every time: its time may be up
        changed = bool(self._missing_since) or self._problem.startswith(_FOLDER)
        changed |= manifests.keys() != self._files.keys() or records.keys() != self._kept.keys()
        if self._terms is not None and (terms := self._terms()) is not self._read_with:
            self._read_with, changed = terms, True
        self._files = {name: file for name, file in self._files.items() if name in manifests}
        self._kept = {name: kept for name, kept in self._kept.items() if name in records}
        for file, signature in sorted(manifests.items()):
            changed |= self._read_file(file, signature)
        for name, signature in records.items():
            changed |= self._read_record(name, signature)
        self._outdated |= changed
        if self._outdated:
            self._rebuild()

    def _rebuild(self) -> None:
        """Replaces the view by what the files and records in memory say; new objects get their records."""
        objects: dict[_Name, list[_Object]] = {}
        for file in sorted(self._files):
            for one in self._files[file].objects:
                objects.setdefault(one.name, []).append(one)
        self._keep_missing(objects)
        self._objects = objects
        before = self._view
        self._view = self._viewed(objects, before)
        templates = self._view.templates
        names = before.templates.keys() | templates.keys()
        remade = {name for name in names if before.templates.get(name) != templates.get(name)}
        for key in before.launches.keys() | self._view.launches.keys():
            old, new = before.launches.get(key), self._view.launches.get(key)
            changed = old is not new and _without_status(old) != _without_status(new)
            if remade and new is not None:
                changed |= any((kind, key.namespace, name) in remade for kind, name in shared.workloads_of(new))
            if changed:
                self._changed.add(key)
                self._wake.set()
        faults = [str(file.fault) for file in self._files.values() if file.fault is not None]
        for name, found in objects.items():
            kind, namespace, called = name
            if len(found) > 1:
                faults.append(f"{kind} {namespace}/{called}: {_duplicates(found)}")
            if name in self._kept and self._kept[name].record is None:
                faults.append(str(self._unreadable(name)))
        self._outdated = False
        self._say("; ".join(faults))

    def _look(self) -> tuple[dict[str, _Signature], dict[_Name, _Signature]]:
        """Every manifest and every record with its signature; cheap enough to be done all the time."""
        manifests = _scan(self._folder, (".yaml", ".yml"))
        records: dict[_Name, _Signature] = {}
        with contextlib.suppress(FileNotFoundError):
            for file, signature in _scan(self._records, (".json",)).items():
                namespace, _, name = file.removesuffix(".json").partition(".")
                records[KIND, namespace, name] = signature
            for file, signature in _scan(self._records / "routes", (".json",)).items():
                kind, namespace, name = [*file.removesuffix(".json").split(".", 2), "", ""][:3]
                records[kind, namespace, name] = signature
        return manifests, records

    def _read_file(self, name: str, signature: _Signature) -> bool:
        """Reads a manifest that may have changed; whether it has."""
        known = self._files.get(name)
        if known is not None and known.signature == signature and not known.racy:
            return False
        racy = _is_racy(signature)
        try:
            content = (self._folder / name).read_bytes()
        except FileNotFoundError:
            return True  # gone since it was listed; the next scan will not list it
        if known is not None and known.content == content:
            known.signature, known.racy = signature, racy
            return False
        read = _File(signature, content, racy)
        try:
            read.objects = tuple(_objects(name, yaml_documents.read_documents(_text(content))))
        except YamlError as error:
            read.fault = Fault(f"{name}:{error.line}:{error.column}", f"{error.message}; correct the file")
            read.objects = known.objects if known is not None else ()
        self._files[name] = read
        return True

    def _read_record(self, name: _Name, signature: _Signature) -> bool:
        """Reads a record that may have changed; whether it has."""
        known = self._kept.get(name)
        if known is not None and known.signature == signature and not known.racy:
            return False
        racy = _is_racy(signature)
        try:
            record: _Record | None = _Record(**json.loads(self._record_path(name).read_bytes()))
        except FileNotFoundError:
            return True
        except (ValueError, TypeError):
            record = None
        if known is not None and known.record == record:
            self._kept[name] = _Kept(signature, racy, known.record)
            return False
        self._kept[name] = _Kept(signature, racy, record)
        return True

    def _keep_missing(self, objects: dict[_Name, list[_Object]]) -> None:
        """Retires the records of manifests that are gone; until that is certain, they stay as they were."""
        now = time.monotonic()
        # what stands in a file that was never readable is not known
        broken = any(file.fault is not None for file in self._files.values())
        missing = {name for name in self._kept if name not in objects}
        self._missing_since = {} if broken else {name: self._missing_since.get(name, now) for name in missing}
        for name in missing:
            if now - self._missing_since.get(name, now) >= GONE_AFTER_S:
                path = self._record_path(name)
                path.replace(path.with_suffix(".gone"))
                del self._missing_since[name], self._kept[name]
            elif name in self._objects:
                # it may be an editor that is just saving; a file that is gone says nothing beside one that is there
                known = self._objects[name]
                objects[name] = [one for one in known if one.file in self._files] or known

    def _viewed(self, objects: Mapping[_Name, list[_Object]], before: _View) -> _View:
        launches: dict[LaunchKey, Launch] = {}
        routes: dict[RouteKey, Route] = {}
        slices: list[dict[str, Any]] = []
        templates: dict[_Name, str] = {}
        pods: list[dict[str, Any]] = []
        for (kind, namespace, name), found in objects.items():
            if kind == "EndpointSlice":
                slices += [one.value for one in found]
            elif kind == "Pod":
                pods += [one.value for one in found]
            elif kind in shared.WORKLOADS:
                templates[kind, namespace, name] = shared.template_hash(found[0].value)
            elif kind == KIND:
                key = LaunchKey(namespace, name)
                launches[key] = self._launch(key, found)
            else:
                route = RouteKey(kind, namespace, name)
                known = before.routes.get(route)
                document = self._document(found[0])
                same = known is not None and known.resource_version == document["metadata"]["resourceVersion"]
                routes[route] = known if same and known is not None else world.read_route(document)
        self._sound = {key: sound for key, sound in self._sound.items() if key in launches}
        self._documents = {name: built for name, built in self._documents.items() if name in objects}
        return _View(launches, routes, _ready(slices), templates, tuple(slices), tuple(pods))

    def _launch(self, key: LaunchKey, found: list[_Object]) -> Launch:
        document = self._document(found[0])
        sound = self._sound.get(key)
        same = sound is not None and (self._read_with is None or sound.terms is self._read_with)
        if sound is None or not same or sound.resource_version != document["metadata"]["resourceVersion"]:
            sound = self._sound[key] = world.read_launch(document, sound, self._recorded, self._read_with)
        files = [self._files[one.file] for one in found if one.file in self._files]
        faults = [file.fault for file in files if file.fault is not None]
        if len(found) > 1:
            faults.append(Fault("metadata.name", f"{KIND} {key}: {_duplicates(found)}"))
        if self._kept[found[0].name].record is None:
            faults.append(self._unreadable(found[0].name))
        return dataclasses.replace(sound, plan=InvalidPlanError(tuple(faults))) if faults else sound

    def _document(self, one: _Object) -> dict[str, Any]:
        """The manifest with the metadata and the status that an API server would give it."""
        kind, _, _ = one.name
        kept = self._kept.get(one.name)
        if kept is None:
            record = _Record(str(uuid.uuid4()), 1, one.spec, format_instant(time.time()))
            self._keep(one.name, record)
        elif kept.record is None:
            record = _Record("", 1, one.spec, "")
        elif kept.record.spec != one.spec:
            record = dataclasses.replace(kept.record, generation=kept.record.generation + 1, spec=one.spec)
            self._keep(one.name, record)
        else:
            record = kept.record
        digest, known, document = self._documents.get(one.name, ("", None, {}))
        if digest == one.digest and known is record:
            return document
        own = {
            "uid": record.uid,
            "generation": record.generation,
            "creationTimestamp": record.created,
            "resourceVersion": _digest([one.digest, dataclasses.asdict(record)]),
        }
        document = {**one.value, "metadata": {**one.value["metadata"], **own}}
        if kind == KIND:
            document["status"] = record.status
        self._documents[one.name] = (one.digest, record, document)
        return document

    def _keep(self, name: _Name, record: _Record, *, lasting: bool = False) -> None:
        signature = self._write(self._record_path(name), record.text().encode(), lasting=lasting)
        self._kept[name] = _Kept(signature, _is_racy(signature), record)

    def _unreadable(self, name: _Name) -> Fault:
        path = self._record_path(name).relative_to(self._folder)
        return Fault(str(path), "it cannot be read; remove it to start the launch again from the beginning")

    def _record_path(self, name: _Name) -> Path:
        kind, namespace, called = name
        if kind == KIND:
            return self._records / f"{namespace}.{called}.json"
        return self._records / "routes" / f"{kind}.{namespace}.{called}.json"

    def _refuse_followers(self, what: str) -> None:
        if self._may_write is not None and not self._may_write():
            raise NotLeadingError(f"{what}: not written, because this process does not lead")

    def _refuse_unclear(self, what: str, found: list[_Object]) -> None:
        if len(found) > 1:
            raise RefusedError(f"{what}: {_duplicates(found)}")
        if found[0].file not in self._files:
            raise ConflictError(f"{what}: {found[0].file} is being replaced")
        fault = self._files[found[0].file].fault
        if fault is not None:
            raise RefusedError(f"{what}: its file cannot be read, so it is not edited: {fault}")

    def _editable(self, key: LaunchKey) -> _Object:
        """The one manifest of a launch. Raises NotFoundError, RefusedError or ConflictError."""
        found = self._objects.get((KIND, key.namespace, key.name), [])
        if not found:
            raise NotFoundError(f"Launch {key}: no file in {self._folder} has it")
        self._refuse_unclear(f"Launch {key}", found)
        return found[0]

    def _edit(self, what: str, one: _Object, changes: Mapping[yaml_documents.Path, Any]) -> None:
        """Changes values of one manifest in its file."""
        content, objects = self._changed_file(what, one, lambda text: yaml_documents.edited(text, one.number, changes))
        self._save(what, one.file, content, objects)

    def _remove(self, what: str, one: _Object) -> None:
        """Takes one manifest out of its file, and its record away; a file without any other one goes as a whole."""
        content, objects = self._changed_file(what, one, lambda text: yaml_documents.removed(text, one.number))
        self._replace(what, one.file, content, objects)
        path = self._record_path(one.name)
        path.replace(path.with_suffix(".gone"))
        del self._kept[one.name]
        self._rebuild()

    def _changed_file(
        self, what: str, one: _Object, change: Callable[[str], tuple[str, list[YamlDocument]]]
    ) -> tuple[bytes, tuple[_Object, ...]]:
        """The bytes of a manifest's file after a change of its text (none where nothing is left), and its objects."""
        content = self._files[one.file].content
        mark = _BOM if content.startswith(_BOM) else b""
        try:
            text, documents = change(_text(content))
            left = mark + text.encode() if any(document.value is not None for document in documents) else b""
            return left, tuple(_objects(one.file, documents))
        except YamlError as error:
            raise RefusedError(f"{what}: {one.file}:{error.line}: {error.message}") from error

    def _save(self, what: str, file: str, content: bytes, objects: tuple[_Object, ...]) -> None:
        """Replaces a file whose content is still the one that was read, and brings the view up to it."""
        self._replace(what, file, content, objects)
        self._rebuild()

    def _replace(self, what: str, file: str, content: bytes, objects: tuple[_Object, ...]) -> None:
        path = (self._folder / file).resolve()
        self._refuse_followers(what)
        if path.read_bytes() != self._files[file].content:
            raise ConflictError(f"{what}: {file} was changed in between")
        if content:
            signature = self._write(path, content, lasting=True)
            self._files[file] = _File(signature, content, _is_racy(signature), objects)
        else:
            (self._folder / file).unlink()  # of a link to it, the link
            del self._files[file]
        self._outdated = True

    def _edited(
        self, patch: RoutePatch, one: _Object, document: Mapping[str, Any]
    ) -> tuple[bytes, tuple[_Object, ...]]:
        """The bytes of the file with the patch in it, and its objects then."""
        changes: dict[yaml_documents.Path, Any] = {}
        for edit in patch.edits:
            if not 0 <= edit.weight <= _MAX_WEIGHT:
                raise RefusedError(f"{patch.key}: a weight of {edit.weight}; write 0 to {_MAX_WEIGHT}")
            changes["spec", "rules", edit.rule, "backendRefs", edit.backend, "weight"] = edit.weight
        if document["metadata"].get("annotations") is None:
            changes["metadata", "annotations"] = {EPOCH_ANNOTATION: patch.epoch}
        else:
            changes["metadata", "annotations", EPOCH_ANNOTATION] = patch.epoch
        return self._changed_file(str(patch.key), one, lambda text: yaml_documents.edited(text, one.number, changes))

    def _write(self, path: Path, content: bytes, *, lasting: bool = False) -> _Signature:
        """Replaces a file as a whole, never in part; ``lasting``: it is on the disk when this returns."""
        path.parent.mkdir(exist_ok=True)
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
        try:
            with temporary.open("xb") as file:
                file.write(content)
                file.flush()
                with contextlib.suppress(FileNotFoundError):
                    os.fchmod(file.fileno(), path.stat().st_mode & 0o7777)
                if lasting:
                    os.fsync(file.fileno())
            temporary.replace(path)
            return _signature(path.stat())
        except OSError:
            temporary.unlink(missing_ok=True)
            raise


_FOLDER = "the folder"
_LONGEST_NAME = 200
_BOM = b"\xef\xbb\xbf"


def _objects(file: str, documents: list[YamlDocument]) -> Iterator[_Object]:
    """The objects in a file that concern us. Raises YamlError."""
    for number, document in enumerate(documents):
        if not isinstance(document.value, dict):
            continue
        kind = document.value.get("kind")
        group = str(document.value.get("apiVersion")).partition("/")[0]
        # a Launch with a misspelt apiVersion is a fault to be told, not somebody else's object
        if isinstance(kind, str) and kind in _KINDS and (group == _KINDS[kind] or kind == KIND):
            yield _object(file, number, document)


def _object(file: str, number: int, document: YamlDocument) -> _Object:
    value: dict[str, Any] = document.value
    kind = value["kind"]
    metadata = value.get("metadata")
    if not isinstance(metadata, dict) or not isinstance(metadata.get("name"), str) or "/" in metadata["name"]:
        raise YamlError(f"this {kind} has no metadata.name; write one", document.line, 1)
    namespace = metadata.get("namespace") or "default"
    if not isinstance(namespace, str) or "/" in namespace or "." in namespace:
        raise YamlError(f"{kind} {metadata['name']}: metadata.namespace is no name; write one", document.line, 1)
    if len(namespace + metadata["name"]) > _LONGEST_NAME:
        raise YamlError(f"this {kind} has a name that is too long for a file; shorten it", document.line, 1)
    annotations = metadata.get("annotations")
    if isinstance(annotations, dict):
        # an API server would refuse what is no text; here `hold: true` means what it says
        annotations = {key: text if isinstance(text, str) else json.dumps(text) for key, text in annotations.items()}
    elif annotations is not None:
        raise YamlError(f"{kind} {metadata['name']}: metadata.annotations is no mapping", document.line, 1)
    value = {**value, "metadata": {**metadata, "namespace": namespace, "annotations": annotations}}
    finalizers = metadata.get("finalizers")
    if finalizers is not None and not (
        isinstance(finalizers, list) and all(isinstance(finalizer, str) for finalizer in finalizers)
    ):
        raise YamlError(f"{kind} {metadata['name']}: metadata.finalizers is no list of names", document.line, 1)
    if kind != KIND:
        try:
            _READERS.get(kind, world.read_route)(value)
        except Exception as error:
            # there is no schema between the file and the core
            raise YamlError(f"this is no {kind} ({error}); correct it", document.line, 1) from error
    spec = _digest([value.get("apiVersion"), value.get("spec")])
    name = (kind, namespace, metadata["name"])
    return _Object(name, value, _digest(value), spec, file, number, document.line)


def _check_slice(value: dict[str, Any]) -> None:
    _ready([value])
    shared.pods_behind(shared.ready_endpoints(value))


def _check_pod(value: dict[str, Any]) -> None:
    shared.labels_of_pods([value], ["any"])


_READERS: Mapping[str, Callable[[dict[str, Any]], object]] = {
    "EndpointSlice": _check_slice,
    "Pod": _check_pod,
    **dict.fromkeys(shared.WORKLOADS, shared.template_hash),
}
"""What fails where an object of that kind is not one; routes are read as they are everywhere."""


def _service(value: Mapping[str, Any]) -> str:
    return str((value["metadata"].get("labels") or {}).get(shared.SERVICE_LABEL) or "")


def _ready(slices: list[dict[str, Any]]) -> dict[tuple[str, str], int]:
    families: dict[tuple[str, str], dict[str, int]] = {}
    for value in slices:
        metadata = value["metadata"]
        service = _service(value)
        if service:
            counts = families.setdefault((metadata["namespace"], service), {})
            family = str(value.get("addressType") or "")
            counts[family] = counts.get(family, 0) + len(shared.ready_endpoints(value))
    return {of: max(counts.values()) for of, counts in families.items()}


def _duplicates(found: list[_Object]) -> str:
    return f"it stands in {' and in '.join(one.place for one in found)}; remove all but one"


def _scan(folder: Path, endings: tuple[str, ...]) -> dict[str, _Signature]:
    found: dict[str, _Signature] = {}
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.endswith(endings) and not entry.name.startswith("."):
                with contextlib.suppress(FileNotFoundError):  # it went while we looked
                    found[entry.name] = _signature(entry.stat())
    return found


def _signature(stat: os.stat_result) -> _Signature:
    return stat.st_mtime_ns, stat.st_ctime_ns, stat.st_size, stat.st_ino


def _is_racy(signature: _Signature) -> bool:
    # not of the time of modification, which can be set by hand
    return abs(time.time() - signature[1] / 1e9) < _RACY_S


def _without_status(launch: Launch | None) -> tuple[object, ...] | None:
    if launch is None:
        return None
    faults = launch.plan.faults if isinstance(launch.plan, InvalidPlanError) else ()
    return launch.uid, launch.generation, dict(launch.annotations), launch.deleting, faults


def _text(content: bytes) -> str:
    try:
        return content.removeprefix(_BOM).decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise YamlError("this is not UTF-8; save it as that", line, 1) from error


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:20]

"""The operator's configuration: one file beside the flags, checked as a whole, every fault told at once.

A stop of all launches is no part of it: whoever writes the configuration anew must not lift a stop by that.

What stands in it may change while the controller runs; what a plan takes from it is in :mod:`controller.core.terms`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, TypeVar
from urllib.parse import urlsplit

from pydantic import Field, ValidationError

from controller.core import spec as forms
from controller.core.checks import metric_faults
from controller.core.criteria import CriterionError, resolve
from controller.core.faults import Fault, Place, listed, path_text, shown
from controller.core.series import HOLDS, RecordedForm
from controller.core.spec import BUILT_IN_METRICS, NAME_PATTERN, ONE_LINE_PATTERN, Duration, Instant, Model, Whole
from controller.core.terms import DEFAULT_BACKEND, Limits, Stop, Terms
from controller.core.wording import OBJECT_NAME_WORDS, in_words, place_of, unknown_field

M = TypeVar("M", bound=Model)
Line = Annotated[str, Field(pattern=ONE_LINE_PATTERN, max_length=1024)]
_SECRET = frozenset({"headers", "params", "proxy", "url"})
"""What may hold a token or a password, even where it should not."""
_RECORDED = RecordedForm()
_A_REASON = "write reason: incident 4711"
_MOST = 500
"""Entries of each list of the file."""


class Backend(Model):
    """One Prometheus, or what speaks its API. Files are read again when they change."""

    url: Annotated[str, Field(pattern=ONE_LINE_PATTERN, min_length=1, max_length=2048)]
    """Its base URL; may have a path."""
    headers: dict[str, Line] = Field(default_factory=dict, max_length=50)
    """Sent with every query, such as a tenant."""
    params: dict[str, Line] = Field(default_factory=dict, max_length=50)
    """Added to every query, such as `partial_response: "false"`."""
    bearer_token_file: Line = ""
    """A file with the bearer token."""
    username: Line = ""
    """The user of basic authentication."""
    password_file: Line = ""
    """A file with that user's password."""
    ca_file: Line = ""
    """The CA that signs its certificate."""
    cert_file: Line = ""
    """The client certificate of mutual TLS."""
    key_file: Line = ""
    """The key of that certificate."""
    proxy: Line = ""
    """A proxy on the way; the environment's proxies are not used."""
    timeout: Duration = 5.0
    """How long one answer may take in all; 5s by default."""


class Alertmanager(Model):
    """One Alertmanager: every alert goes to all of them."""

    url: Annotated[str, Field(pattern=ONE_LINE_PATTERN, min_length=1, max_length=2048)]
    """Its base URL; may have a path."""
    bearer_token_file: Line = ""
    """A file with the bearer token; read again when it changes."""
    username: Line = ""
    """The user of basic authentication."""
    password_file: Line = ""
    """A file with that user's password; read again when it changes."""


class StopForm(Model):
    """No raise in the whole fleet: all that the file of the stop holds."""

    reason: Annotated[str, Field(pattern=ONE_LINE_PATTERN, min_length=1, max_length=512)]
    """Why; every launch shows it."""
    by: Annotated[str, Field(pattern=ONE_LINE_PATTERN, max_length=253)] = ""
    """Who says so."""
    until: Instant | None = None
    """When it lapses; by default when somebody takes it away."""


class LimitsForm(Model):
    """What plans may not exceed."""

    launches: Annotated[Whole | None, Field(ge=1, le=100_000)] = None
    """How many launches are run; those that have begun go on."""
    criteria: Annotated[Whole | None, Field(ge=1, le=10_000)] = None
    """How many guardrails and gate criteria a launch may have in all."""
    query_length: Annotated[Whole | None, Field(ge=10, le=4096)] = None
    """How many characters a selector or a query of a plan may have."""
    range: Duration | None = None
    """How far a query of a plan may look back: its ranges, subqueries and offsets, each."""


@dataclass(frozen=True, slots=True)
class Configuration:
    """What the file says. None: it does not say that."""

    backends: Mapping[str, Backend] = field(default_factory=dict, repr=False)
    alertmanagers: tuple[Alertmanager, ...] | None = field(default=None, repr=False)
    metrics: tuple[forms.Metric, ...] = ()
    guardrails: tuple[forms.Guardrail, ...] = ()
    limits: Limits = field(default_factory=Limits)
    raw: bool | frozenset[str] = True
    confine: bool | None = None

    def terms(self, backends: frozenset[str]) -> Terms:
        """What plans are read with, where these are the names of the Prometheuses."""
        return Terms(self.metrics, self.guardrails, backends, self.limits, self.raw)

    def files(self) -> Iterator[tuple[str, str]]:
        """The files that it names, each with the path of its field."""
        for name, backend in self.backends.items():
            for attribute in ("bearer_token_file", "password_file", "ca_file", "cert_file", "key_file"):
                if path := getattr(backend, attribute):
                    yield f"prometheus.{name}.{_outside(attribute)}", path
        for number, one in enumerate(self.alertmanagers or ()):
            for attribute in ("bearer_token_file", "password_file"):
                if path := getattr(one, attribute):
                    yield f"alertmanagers[{number}].{_outside(attribute)}", path


NOTHING = Configuration()


class InvalidConfigurationError(Exception):
    """A file with faults; all of them."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        super().__init__("; ".join(map(str, faults)))
        self.faults = tuple(faults)


def read_configuration(document: Any, recorded: RecordedForm = _RECORDED) -> Configuration:
    """What a file of the operator says; ``document`` is its YAML, None for an empty one.

    Raises:
        InvalidConfigurationError: with every fault, each with its path and what to write instead.
    """
    reader = _Reader({} if document is None else document, recorded)
    found = reader.read()
    if reader.faults:
        raise InvalidConfigurationError(reader.faults)
    return found


def read_stop(document: Any) -> Stop:
    """What the file of the stop says; ``document`` is its YAML, None for an empty one.

    Raises:
        InvalidConfigurationError: with every fault, each with its field and what to write instead.
    """
    reader = _Reader({}, _RECORDED)
    stop = reader.stop({} if document is None else document)
    if stop is None:
        raise InvalidConfigurationError(reader.faults)
    return stop


_SECTIONS = ("prometheus", "alertmanagers", "metrics", "guardrails", "limits", "rawPromQL", "confine")
STOP_ELSEWHERE = (
    "a stop of all launches stands in a file of its own; write it by auto-advance stop --all, or as reason, by and "
    "until into stop.yaml beside this file"
)


class _Reader:
    def __init__(self, document: Any, recorded: RecordedForm) -> None:
        self.document = document
        self.recorded = recorded
        self.faults: list[Fault] = []

    def read(self) -> Configuration:
        if not isinstance(self.document, dict):
            self._fault((), f"is {shown(self.document)}; write sections: {listed(_SECTIONS, 'and')}")
            return NOTHING
        for key in self.document:
            if key == "stop":
                self._fault(("stop",), STOP_ELSEWHERE)
            elif key not in _SECTIONS:
                self._fault((str(key),), unknown_field(str(key), _SECTIONS, "of the operator's configuration"))
        said = {key: value for key, value in self.document.items() if value is not None}
        backends = self._backends(said.get("prometheus"))
        alertmanagers = self._alertmanagers(said["alertmanagers"]) if "alertmanagers" in said else None
        metrics = self._metrics(said.get("metrics"))
        limits = self._one(LimitsForm, said["limits"], ("limits",)) if "limits" in said else None
        return Configuration(
            backends=backends,
            alertmanagers=alertmanagers,
            metrics=metrics,
            guardrails=self._guardrails(said.get("guardrails"), metrics),
            limits=Limits()
            if limits is None
            else Limits(limits.launches, limits.criteria, limits.query_length, limits.range),
            raw=self._raw(said.get("rawPromQL", True)),
            confine=self._switch(said["confine"], ("confine",)) if "confine" in said else None,
        )

    def stop(self, document: Any) -> Stop | None:
        """The stop; None where it has faults."""
        if not isinstance(document, dict):
            self.faults.append(Fault("content", f"is {shown(document)}, where fields are expected; {_A_REASON}"))
            return None
        form = self._one(StopForm, document, ())
        return None if form is None else Stop(form.reason, form.by, form.until)

    def _fault(self, place: Place, message: str) -> None:
        self.faults.append(Fault(path_text(place) or "configuration", message))

    def _one(self, model: type[M], value: Any, place: Place) -> M | None:
        try:
            return model.model_validate(value, by_alias=True, by_name=False)
        except ValidationError as error:
            for each in error.errors(include_url=False):
                inside = place_of(dict(each))
                # What may be a secret is never shown.
                hidden = each["type"].startswith("string_pattern") and not _SECRET.isdisjoint(inside)
                words = "is not text on one line; write it on one line, without control characters"
                self._fault((*place, *inside), words if hidden else in_words(dict(each), _at(value, inside), model))
            return None

    def _list(self, model: type[M], value: Any, place: Place) -> list[tuple[int, M]]:
        """Those entries that can be read, each with its number."""
        if not isinstance(value, list):
            self._fault(
                place, f"is {shown(value)}, where a list is expected; write [...] or lines that begin with a hyphen"
            )
            return []
        if len(value) > _MOST:
            self._fault(place, f"has {len(value):,} entries; write {_MOST:,} at most")
        read = ((number, self._one(model, each, (*place, number))) for number, each in enumerate(value[:_MOST]))
        return [(number, each) for number, each in read if each is not None]

    def _backends(self, value: Any) -> dict[str, Backend]:
        if value is None:
            return {}
        if not isinstance(value, dict):
            example = "prometheus: {default: {url: http://prometheus:9090}}"
            self._fault(("prometheus",), f"is {shown(value)}, where names are expected; write {example}")
            return {}
        found = {}
        for name, written in value.items():
            place: Place = ("prometheus", str(name))
            if not re.fullmatch(NAME_PATTERN, str(name)) or len(str(name)) > 63:
                self._fault(place, f"the name is {shown(name)}; write {OBJECT_NAME_WORDS}, 63 characters at most")
            backend = self._one(Backend, written, place)
            if backend is not None:
                self._reached(place, backend)
                found[str(name)] = backend
        return found

    def _reached(self, place: Place, one: Backend | Alertmanager) -> None:
        self._url((*place, "url"), one.url)
        if bool(one.username) != bool(one.password_file):
            missing = "passwordFile" if one.username else "username"
            self._fault(
                (*place, missing), "is missing; basic authentication wants username and passwordFile: write both"
            )
        if one.username and one.bearer_token_file:
            self._fault((*place, "bearerTokenFile"), "stands beside username; write the one that the server wants")
        if not isinstance(one, Backend):
            return
        if bool(one.cert_file) != bool(one.key_file):
            missing = "keyFile" if one.cert_file else "certFile"
            self._fault((*place, missing), "is missing; mutual TLS wants certFile and keyFile: write both")
        if one.proxy:
            self._url((*place, "proxy"), one.proxy, proxy=True)
        if not 0.1 <= one.timeout <= 120:
            self._fault((*place, "timeout"), "is out of range; write 100ms to 120s")
        for name, value in one.headers.items():
            if not name or not (name.isascii() and value.isascii() and (name + value).isprintable()):
                self._fault((*place, "headers", name), "it or its value is not printable ASCII; write it on one line")

    def _url(self, place: Place, text: str, *, proxy: bool = False) -> None:
        try:
            parts = urlsplit(text)
            good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        except ValueError:
            self._fault(place, "is not a URL; write one such as http://prometheus.monitoring:9090")
            return
        if not good:
            self._fault(place, "is not a URL; write one such as http://prometheus.monitoring:9090")
        elif not proxy and (parts.username is not None or parts.password is not None):
            self._fault(place, "holds a user or a password; write username and passwordFile instead")
        elif parts.query or parts.fragment:
            more = "" if proxy or place[0] != "prometheus" else "; write query parameters under params"
            self._fault(place, f"holds a query or a fragment, which is not sent{more or '; remove it'}")

    def _alertmanagers(self, value: Any) -> tuple[Alertmanager, ...]:
        seen: dict[str, int] = {}
        found = self._list(Alertmanager, value, ("alertmanagers",))
        for number, one in found:
            self._reached(("alertmanagers", number), one)
            if one.url in seen:
                self._fault(("alertmanagers", number, "url"), f"is that of alertmanagers[{seen[one.url]}]; remove one")
            seen.setdefault(one.url, number)
        return tuple(one for _, one in found)

    def _metrics(self, value: Any) -> tuple[forms.Metric, ...]:
        if value is None:
            return ()
        seen: dict[str, int] = {}
        found = self._list(forms.Metric, value, ("metrics",))
        for number, metric in found:
            for place, message in metric_faults(("metrics", number), metric):
                self._fault(place, message)
            if metric.name in seen:
                words = f"{metric.name} is the name of metric {seen[metric.name] + 1} already; choose another"
                self._fault(("metrics", number, "name"), words)
            seen.setdefault(metric.name, number)
        return tuple(metric for _, metric in found)

    def _guardrails(self, value: Any, metrics: tuple[forms.Metric, ...]) -> tuple[forms.Guardrail, ...]:
        if value is None:
            return ()
        kinds = {metric.name: metric for metric in metrics}
        named = {each.get("name") for each in self.document.get("metrics") or () if isinstance(each, dict)}
        sound = not any(fault.path.startswith("metrics") for fault in self.faults)
        seen: dict[str, int] = {}
        found = self._list(forms.Guardrail, value, ("guardrails",))
        for number, guardrail in found:
            place: Place = ("guardrails", number)
            name = guardrail.metric
            if name is None:
                self._fault((*place, "metric"), "is missing; write metric: errors, for example")
            elif name == HOLDS:
                self._fault((*place, "metric"), "holds are counted at a gate, and guard nothing; remove it")
            elif name not in BUILT_IN_METRICS and name not in named:
                usual = (each for each in BUILT_IN_METRICS if each != HOLDS)
                known = listed(dict.fromkeys((*usual, *sorted(kinds)[:10])))
                self._fault(
                    (*place, "metric"), f"there is no metric {name}; write {known}, or declare it under metrics"
                )
            elif name in BUILT_IN_METRICS or (sound and name in kinds):
                self._guardrail(place, guardrail, kinds, seen, number)
        return tuple(guardrail for _, guardrail in found)

    def _guardrail(
        self,
        place: Place,
        guardrail: forms.Guardrail,
        kinds: Mapping[str, forms.Metric],
        seen: dict[str, int],
        number: int,
    ) -> None:
        metric = kinds.get(guardrail.metric or "")
        proven = metric is not None and metric.value is not None and bool(metric.value.standard_error)
        if proven and guardrail.certainty != "threshold":
            words = f"is judged at every tick, and {guardrail.metric} is proven at few planned looks only"
            self._fault(place, f"{words}; write certainty: threshold")
        if guardrail.scope == "target" and guardrail.on_breach == "hold":
            words = "a hold is of the whole launch; write scope: launch, or onBreach: rollback"
            self._fault((*place, "scope"), words)
        try:
            key = resolve(guardrail, kinds, self.recorded).key
        except CriterionError as error:
            for inside, message in error.problems:
                self._fault((*place, *(inside.split(".") if inside else ())), message)
            return
        if key in seen:
            self._fault(place, f"says the same as guardrails[{seen[key]}] ({key}); remove one of them")
        seen.setdefault(key, number)

    def _raw(self, value: Any) -> bool | frozenset[str]:
        if isinstance(value, bool):
            return value
        if not isinstance(value, list):
            words = "write true, false, or a list of namespaces such as [shop, payments]"
            self._fault(("rawPromQL",), f"is {shown(value)}; {words}")
            return True
        for number, each in enumerate(value):
            if not isinstance(each, str) or not re.fullmatch(NAME_PATTERN, each) or len(each) > 63:
                self._fault(("rawPromQL", number), f"is {shown(each)}; write the name of a namespace")
        return frozenset(map(str, value))

    def _switch(self, value: Any, place: Place) -> bool:
        if not isinstance(value, bool):
            self._fault(place, f"is {shown(value)}; write true or false")
        return bool(value)


def names_of(backends: Mapping[str, Any]) -> str:
    """The names of the Prometheuses, as people read them."""
    ordered = sorted(backends, key=lambda name: (name != DEFAULT_BACKEND, name))
    return listed(ordered, "and") if ordered else "none"


def _at(value: Any, place: Place) -> Any:
    for part in place:
        try:
            value = value[part]
        except (KeyError, IndexError, TypeError):
            return None
    return value


def _outside(attribute: str) -> str:
    first, *rest = attribute.split("_")
    return first + "".join(part.capitalize() for part in rest)

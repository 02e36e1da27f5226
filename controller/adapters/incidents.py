"""Incidents in: what is to be known beside the rows of Prometheus, and cannot be asked of the past.

Every 30 seconds, beside the decisions: which alerts the Alertmanagers show (other senders' too, and silences), and
whether any alerting rule could raise what a plan counts. What was seen goes with the reading of the rows, so that it is
part of what a decision was made from.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, Protocol

from controller.adapters.alerting_rules import Rules, loaded_rules, unmet_by
from controller.adapters.alertmanager import (
    ANSWER_SECONDS,
    ANSWER_VALID_SECONDS,
    ASKED_EACH_SECONDS,
    WATCHDOG,
    Access,
    Door,
)
from controller.adapters.asking import Asking
from controller.adapters.prometheus import Answer
from controller.adapters.promql import Matcher, Selector, anatomy
from controller.core.incident_rules import AlertRule
from controller.core.matchers import Condition, meets
from controller.core.series import Noticed, Reading, Shown, Subject
from controller.core.units import format_duration, parse_instant
from controller.errors import AdapterError, UnansweredError
from controller.ports import Evidence

RESEND_SECONDS = 300.0
"""How long a sender may take to send again what fires; an Alertmanager that is younger does not know it all yet."""
QUERY_SECONDS = 10.0
FIRED_SECONDS = 300.0
"""How long ago an alert may have fired in Prometheus and still stand in an Alertmanager."""
MOST_SHOWN = 200
"""Alerts of one criterion that are told of; the rest would change nothing."""
FORGET_SECONDS = 600.0
NOT_KNOWN = "which alerts fire in Alertmanager, and what the rules can raise, is not known yet"


class RuleSource(Rules, Protocol):
    """What is needed of Prometheus; see :class:`controller.adapters.prometheus.Prometheus`."""

    def query_range(self, expression: str, start: float, end: float, step: float, deadline: float) -> Answer:
        """The values at start, start + step, ... up to end (epoch seconds)."""


class _Alert(NamedTuple):
    """One alert of an Alertmanager."""

    id: str
    labels: Mapping[str, str]
    began: float
    silenced: bool


class IncidentSources:
    """Readings with what was noticed beside those of incidents. ``evidence`` gives the readings; ``stop`` ends the looks.

    ``urls`` are the Alertmanagers, ``watchdog`` the labels of the alert that each must show. ``clock`` gives epoch
    seconds. ``resend`` is how long (seconds) an Alertmanager must have been up to know all that fires, ``timeout`` for
    one answer of it; it is looked ``each`` so many seconds, and what was seen counts for ``valid`` seconds.
    ``on_failure`` is told, from another thread, of a look that nobody foresaw the end of.
    """

    def __init__(
        self,
        evidence: Evidence,
        prometheus: RuleSource,
        urls: Sequence[str | Access] = (),
        *,
        watchdog: Mapping[str, str] = WATCHDOG,
        clock: Callable[[], float] = time.time,
        resend: float = RESEND_SECONDS,
        timeout: float = ANSWER_SECONDS,
        each: float = ASKED_EACH_SECONDS,
        valid: float = ANSWER_VALID_SECONDS,
        on_failure: Callable[[str], None] | None = None,
    ) -> None:
        self._evidence = evidence
        self._prometheus = prometheus
        self._doors = [Door(url, timeout) for url in dict.fromkeys(urls)]
        self._watchdog = dict(watchdog)
        self._clock = clock
        self._resend = resend
        self._wanted: dict[str, float] = {}
        self._looks: Asking[None, Mapping[str, Noticed]] = Asking(
            "looks for incidents", lambda _: self._look(), fresh_s=each, valid_s=valid, on_failure=on_failure
        )

    def gather(self, wanted: Mapping[Subject, int], now: float, deadline_s: float) -> dict[Subject, Reading]:
        """As :meth:`controller.gather.Gatherer.gather`; waits for nothing besides."""
        counted = [subject for subject in wanted if subject.series.kind == "incidents"]
        for subject in counted:
            self._wanted[subject.series.total] = time.monotonic()
        # Asked before the rows are: these are then never older than what was noticed.
        seen = (self._looks.ask(None) or {}) if counted else {}
        readings = self._evidence.gather(wanted, now, deadline_s)
        for subject in counted:
            noticed = seen.get(subject.series.total, Noticed(0, NOT_KNOWN, silences=bool(self._doors)))
            readings[subject] = replace(readings[subject], noticed=noticed)
        return readings

    def stop(self) -> None:
        """Looks no more."""
        self._looks.stop()

    def _look(self) -> Mapping[str, Noticed]:
        now = time.monotonic()
        selectors = [text for text, asked in list(self._wanted.items()) if now - asked <= FORGET_SECONDS]
        for text in set(self._wanted) - set(selectors):
            self._wanted.pop(text, None)
        at = int(self._clock())
        wanted = {text: anatomy(text).selected[0].conditions for text in selectors}
        severities = sorted(
            {one.value for conditions in wanted.values() for one in conditions if one.label == "severity"}
        )
        alerts, trouble = self._shown(severities, at)
        fired: list[Mapping[str, str]] = []
        try:
            # After the alerts were read, so that each that Prometheus has sent is among them.
            fired = self._fired(severities, at) if alerts else []
            rules = loaded_rules(self._prometheus, time.monotonic() + QUERY_SECONDS, self._clock)
        except AdapterError as error:
            problem = f"the alerting rules of Prometheus are not known: {error}"
            return {text: Noticed(at, problem, (), bool(self._doors)) for text in selectors}
        noticed = {}
        for text, conditions in wanted.items():
            asked = tuple(one for one in conditions if one.label != "alertstate")
            noticed[text] = Noticed(
                at=at,
                problem=self._unmet(asked, rules) or trouble,
                alerts=tuple(_told(alerts, asked, fired))[:MOST_SHOWN],
                silences=bool(self._doors),
            )
        return noticed

    def _unmet(self, conditions: tuple[Condition, ...], rules: tuple[AlertRule, ...]) -> str:
        try:
            return unmet_by(self._prometheus, rules, conditions, time.monotonic() + QUERY_SECONDS, self._clock)
        except AdapterError as error:
            return f"whether its matchers can be met is not known: {error}"

    def _fired(self, severities: Sequence[str], at: int) -> list[Mapping[str, str]]:
        """The labels of what fired in Prometheus of late."""
        matchers = (Matcher("alertstate", "=", "firing"), _any_of(severities))
        expression = f"last_over_time({Selector('ALERTS', matchers)}[{FIRED_SECONDS:.0f}s])"
        now = max(self._clock(), at)
        answer = self._prometheus.query_range(expression, now, now, 1, time.monotonic() + QUERY_SECONDS)
        left_out = ("__name__", "alertstate")
        return [{name: value for name, value in one.labels.items() if name not in left_out} for one in answer.series]

    def _shown(self, severities: Sequence[str], at: int) -> tuple[list[_Alert], str]:
        """What the Alertmanagers show, each alert once, and why that is not all; one of them is enough for all."""
        alerts: dict[str, _Alert] = {}
        problems = []
        for door in self._doors:
            try:
                for alert in map(_read, door.alerts_where([str(_any_of(severities))])):
                    known = alerts.get(alert.id)
                    # What one of them would send to people fires, whatever another one was told to keep quiet.
                    if known is None or known.silenced:
                        alerts[alert.id] = alert
                problems.append(self._problem_at(door, at))
            except AdapterError as error:
                problems.append(str(error))
        ordered = sorted(alerts.values(), key=lambda alert: (alert.began, alert.id))
        return ordered, "" if not problems or "" in problems else "; ".join(problems)

    def _problem_at(self, door: Door, at: int) -> str:
        """Why an alert that fires may be missing there; empty: none is."""
        started = door.status().get("uptime")
        try:
            up = at - parse_instant(started)
        except ValueError:
            return f"Alertmanager at {door.place} does not say since when it is up"
        if up < self._resend:
            since = format_duration(max(0.0, round(up)))
            return (
                f"Alertmanager at {door.place} is up for {since} only; it knows all alerts after "
                f"{format_duration(self._resend)} (--alertmanager-resend)"
            )
        if door.alerts(self._watchdog):
            return ""
        named = ", ".join(f'{name}="{value}"' for name, value in self._watchdog.items())
        return f"Alertmanager at {door.place} does not show the alert that always fires ({named})"


def _any_of(severities: Sequence[str]) -> Matcher:
    """One of these, as a regular expression that Prometheus and Alertmanager read alike; they hold no quotes."""
    escaped = ("".join(f"\\{sign}" if sign in r"\.+*?()|[]{}^$" else sign for sign in one) for one in severities)
    return Matcher("severity", "=~", "|".join(escaped))


def _read(document: Any) -> _Alert:
    try:
        labels = {str(name): str(value) for name, value in document["labels"].items()}
        silenced = bool(document["status"].get("silencedBy"))
        return _Alert(_plain(document["fingerprint"]), labels, parse_instant(document["startsAt"]), silenced)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise UnansweredError(f"Alertmanager sent an alert that is none: {error!r}") from error


def _plain(fingerprint: object) -> str:
    """As it is written into status, where some signs separate."""
    text = "".join(sign for sign in str(fingerprint) if sign.isalnum())[:32]
    if not text:
        raise ValueError("no fingerprint")
    return text


def _told(
    alerts: Iterable[_Alert], conditions: Sequence[Condition], fired: Sequence[Mapping[str, str]]
) -> Iterable[Shown]:
    for alert in alerts:
        labels = alert.labels
        if labels.get("component") == "auto-advance" or (labels.get("component") == "launch" and labels.get("launch")):
            continue
        if all(meets(one, labels.get(one.label, "")) for one in conditions):
            # On its way it may have been given labels (external ones), and lost none.
            counted = any(all(labels.get(name) == value for name, value in one.items()) for one in fired)
            yield Shown(alert.id, alert.began, alert.silenced, counted)

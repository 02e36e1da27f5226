"""Which sample completed the proof that a canary is bad, found afterwards in what Prometheus has stored."""

from __future__ import annotations

import itertools

from controller.adapters.prometheus import Prometheus, PrometheusSettings
from controller.core.evidence import Outcome
from controller.core.fold_text import decode
from controller.core.plan import parse
from controller.core.questions import criteria_of, fold_key
from controller.core.series import RecordedForm, Subject
from controller.core.status import read_status
from controller.core.verdicts import advance, judge
from controller.gather import Gatherer
from tests.launch.stage import Stage

AFTER_S = (0.03, 0.35, 0.7)
"""How long after a sample's instant a tick may come: the tail's instants count back from the tick's own.

The first is past what two scrapes' distance differs from a second.
"""


def proving_sample(on: Stage, name: str) -> float:
    """The instant (Unix time) of the first stored sample with which the launch's one criterion is proven to fail.

    For each sample since the first error: what would a tick have known that came before the next one? Raises
    LookupError where none is a proof.
    """
    document = next(
        seen.document
        for seen in on.observer.history
        if seen.kind == "Launch" and seen.name == name and (seen.document.get("status") or {}).get("folds")
    )
    plan = parse(document, RecordedForm())
    (criterion,) = criteria_of(plan.phases[0])
    target = plan.targets[0]
    began = decode(read_status(document["status"]).folds[fold_key(target.name, criterion)])
    subject = Subject(criterion.series, on.namespace, target.name, target.service, plan.revision)
    source = Prometheus(PrometheusSettings(url=on.prometheus.url))
    gatherer = Gatherer(source)
    try:
        for at, after in itertools.product(_instants_of_errors(on, name), AFTER_S):
            now = round(at + after, 3)
            reading = gatherer.gather({subject: began.last}, now, 10.0)[subject]
            fold = advance(criterion, began, reading.settled, reading.through)
            if judge(criterion, target.name, fold, reading, now).outcome is Outcome.FAIL:
                return at
    finally:
        gatherer.close()
        source.close()
    raise LookupError(f"no stored sample of {name} completes a proof")


def _instants_of_errors(on: Stage, name: str) -> list[float]:
    selector = f'http_requests_total{{namespace="{on.namespace}",service="{name}",track="canary",code="500"}}[10m]'
    (series,) = on.prometheus.query(selector)
    return [float(at) for at, count in series["values"] if float(count) > 0]

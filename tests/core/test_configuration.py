"""The operator's file: what it may say, and every fault of it with its sentence."""

from __future__ import annotations

from typing import Any

import pytest

from controller.core.configuration import (
    NOTHING,
    Configuration,
    InvalidConfigurationError,
    names_of,
    read_configuration,
)
from controller.core.terms import Limits

BACKEND = {"url": "http://prometheus:9090"}
METRIC = {"name": "paying", "ratio": {"bad": "failed_total", "total": "all_total"}}
WITH_ERROR = {"name": "uplift", "value": {"query": "a", "standardError": "b"}}


def faults(document: Any) -> list[str]:
    with pytest.raises(InvalidConfigurationError) as invalid:
        read_configuration(document)
    assert str(invalid.value) == "; ".join(map(str, invalid.value.faults))
    return [str(fault) for fault in invalid.value.faults]


def test_an_empty_file_says_nothing() -> None:
    assert read_configuration(None) == read_configuration({}) == NOTHING == Configuration()
    assert read_configuration(dict.fromkeys(("prometheus", "alertmanagers", "metrics", "limits"))) == NOTHING


def test_everything_that_it_may_say() -> None:
    found = read_configuration(
        {
            "prometheus": {
                "default": BACKEND,
                "eu": {
                    **BACKEND,
                    "headers": {"X-Scope-OrgID": "eu"},
                    "params": {"dedup": "true"},
                    "bearerTokenFile": "/etc/token",
                    "caFile": "/etc/ca",
                    "certFile": "/etc/cert",
                    "keyFile": "/etc/key",
                    "proxy": "http://me:hush@proxy:3128",
                    "timeout": "3s",
                },
            },
            "alertmanagers": [{"url": "http://a:9093", "username": "me", "passwordFile": "/etc/password"}],
            "metrics": [METRIC],
            "guardrails": [{"metric": "paying", "below": "1%"}, {"metric": "errors", "below": "1%"}],
            "limits": {"launches": 5, "criteria": 6, "queryLength": 700, "range": "8h"},
            "rawPromQL": ["ops"],
            "confine": False,
        }
    )
    assert found.backends["eu"].timeout == 3.0
    assert found.limits == Limits(5, 6, 700, 28800.0)
    assert (found.raw, found.confine) == (frozenset({"ops"}), False)
    terms = found.terms(frozenset(found.backends))
    assert (terms.metrics, terms.guardrails, terms.backends) == (
        found.metrics,
        found.guardrails,
        frozenset({"default", "eu"}),
    )
    assert list(found.files()) == [
        ("prometheus.eu.bearerTokenFile", "/etc/token"),
        ("prometheus.eu.caFile", "/etc/ca"),
        ("prometheus.eu.certFile", "/etc/cert"),
        ("prometheus.eu.keyFile", "/etc/key"),
        ("alertmanagers[0].passwordFile", "/etc/password"),
    ]
    assert "hush" not in repr(found)


def _prometheus(**fields: Any) -> dict[str, Any]:
    return {"prometheus": {"eu": {**BACKEND, **fields}}}


FAULTS: list[tuple[Any, str]] = [
    (
        [],
        "configuration: is a list; write sections: prometheus, alertmanagers, metrics, guardrails, limits, rawPromQL and confine",
    ),
    ({"promtheus": {}}, "promtheus: is not a field of the operator's configuration; did you mean prometheus?"),
    (
        {"prometheus": []},
        "prometheus: is a list, where names are expected; write prometheus: {default: {url: http://prometheus:9090}}",
    ),
    (
        {"prometheus": {"EU": BACKEND}},
        "prometheus.EU: the name is 'EU'; write small letters, digits, dots and hyphens, with a letter or digit at both ends, 63 characters at most",
    ),
    ({"prometheus": {"eu": {}}}, "prometheus.eu.url: is missing; write url: http://prometheus.monitoring:9090"),
    (
        {"prometheus": {"eu": "http://a"}},
        "prometheus.eu: is 'http://a', where a mapping is expected; write fields, such as {name: shop}",
    ),
    (
        _prometheus(url="prometheus:9090"),
        "prometheus.eu.url: is not a URL; write one such as http://prometheus.monitoring:9090",
    ),
    (
        _prometheus(url="http://[::1"),
        "prometheus.eu.url: is not a URL; write one such as http://prometheus.monitoring:9090",
    ),
    (
        _prometheus(url="http://me:hush@a"),
        "prometheus.eu.url: holds a user or a password; write username and passwordFile instead",
    ),
    (
        _prometheus(url="http://a?x=1"),
        "prometheus.eu.url: holds a query or a fragment, which is not sent; write query parameters under params",
    ),
    (
        _prometheus(bearer_token_file="x"),
        "prometheus.eu.bearer_token_file: is not a field here; did you mean bearerTokenFile?",
    ),
    (
        _prometheus(username="me"),
        "prometheus.eu.passwordFile: is missing; basic authentication wants username and passwordFile: write both",
    ),
    (
        _prometheus(passwordFile="/p"),
        "prometheus.eu.username: is missing; basic authentication wants username and passwordFile: write both",
    ),
    (
        _prometheus(username="me", passwordFile="/p", bearerTokenFile="/t"),
        "prometheus.eu.bearerTokenFile: stands beside username; write the one that the server wants",
    ),
    (
        _prometheus(certFile="/c"),
        "prometheus.eu.keyFile: is missing; mutual TLS wants certFile and keyFile: write both",
    ),
    (
        _prometheus(keyFile="/k"),
        "prometheus.eu.certFile: is missing; mutual TLS wants certFile and keyFile: write both",
    ),
    (
        _prometheus(proxy="proxy"),
        "prometheus.eu.proxy: is not a URL; write one such as http://prometheus.monitoring:9090",
    ),
    (_prometheus(timeout="3m"), "prometheus.eu.timeout: is out of range; write 100ms to 120s"),
    (
        _prometheus(timeout=3),
        "prometheus.eu.timeout: 3 is not a duration; write a number with its unit, such as 30s, 10m, 4h or 2d",
    ),
    (
        _prometheus(headers={"X": "ä"}),
        "prometheus.eu.headers.X: it or its value is not printable ASCII; write it on one line",
    ),
    (_prometheus(params={"max": 5}), "prometheus.eu.params.max: is 5, which is not text; put it in quotes"),
    (
        {"alertmanagers": {"url": "http://a"}},
        "alertmanagers: is a mapping, where a list is expected; write [...] or lines that begin with a hyphen",
    ),
    (
        {"alertmanagers": [{"url": "http://u:p@a"}]},
        "alertmanagers[0].url: holds a user or a password; write username and passwordFile instead",
    ),
    (
        {"alertmanagers": [{"url": "http://a#b"}]},
        "alertmanagers[0].url: holds a query or a fragment, which is not sent; remove it",
    ),
    (
        {"alertmanagers": [{"url": "http://a"}, {"url": "http://a"}]},
        "alertmanagers[1].url: is that of alertmanagers[0]; remove one",
    ),
    (
        {"metrics": [{"name": "errors", "ratio": METRIC["ratio"]}]},
        "metrics[0].name: errors is the name of a built-in metric; choose another",
    ),
    ({"metrics": [METRIC, METRIC]}, "metrics[1].name: paying is the name of metric 1 already; choose another"),
    ({"metrics": [{"name": "a"}]}, "metrics[0]: has no source; write one of ratio, latency and value"),
    ({"guardrails": [{"below": "1%"}]}, "guardrails[0].metric: is missing; write metric: errors, for example"),
    (
        {"guardrails": [{"metric": "holds", "atMost": 0}]},
        "guardrails[0].metric: holds are counted at a gate, and guard nothing; remove it",
    ),
    (
        {"guardrails": [{"metric": "pay", "below": "1%"}], "metrics": [METRIC]},
        "guardrails[0].metric: there is no metric pay; write errors, latency, availability, uptime, restarts or paying, or declare it under metrics",
    ),
    (
        {"guardrails": [{"metric": "errors"}]},
        "guardrails[0].below: is missing; errors needs a percentage: write below: 1%",
    ),
    (
        {"guardrails": [{"metric": "errors", "below": "1%"}] * 2},
        "guardrails[1]: says the same as guardrails[0] (errors below 1%); remove one of them",
    ),
    (
        {"guardrails": [{"metric": "errors", "below": "1%", "scope": "target", "onBreach": "hold"}]},
        "guardrails[0].scope: a hold is of the whole launch; write scope: launch, or onBreach: rollback",
    ),
    (
        {"guardrails": [{"metric": "uplift", "above": "5"}], "metrics": [WITH_ERROR]},
        "guardrails[0]: is judged at every tick, and uplift is proven at few planned looks only; write certainty: threshold",
    ),
    (
        {"stop": {"reason": "incident 7"}},
        "stop: a stop of all launches stands in a file of its own; write it by auto-advance stop --all, or as reason, by and until into stop.yaml beside this file",
    ),
    (
        {"stop": None},
        "stop: a stop of all launches stands in a file of its own; write it by auto-advance stop --all, or as reason, by and until into stop.yaml beside this file",
    ),
    ({"limits": {"launches": 0}}, "limits.launches: is 0; write 1 or more"),
    ({"limits": {"launches": "5"}}, "limits.launches: is '5'; write a whole number"),
    ({"limits": {"querylength": 50}}, "limits.querylength: is not a field here; did you mean queryLength?"),
    ({"limits": {"range": "0s"}}, "limits.range: 0s is out of range; write a duration above 0 and up to 366d"),
    ({"rawPromQL": "ops"}, "rawPromQL: is 'ops'; write true, false, or a list of namespaces such as [shop, payments]"),
    ({"rawPromQL": ["Ops"]}, "rawPromQL[0]: is 'Ops'; write the name of a namespace"),
    ({"confine": "yes"}, "confine: is 'yes'; write true or false"),
]


@pytest.mark.parametrize(
    ("document", "told"), FAULTS, ids=[told.split(":")[0] + str(number) for number, (_, told) in enumerate(FAULTS)]
)
def test_each_fault_has_its_place_and_its_advice(document: Any, told: str) -> None:
    assert faults(document) == [told]


def test_all_faults_are_told_at_once() -> None:
    told = faults(
        {
            "prometheus": {"eu": {"url": "nonsense"}, "us": {}},
            "metrics": [{"name": "a"}],
            "guardrails": [{"metric": "b"}],
            "limits": {"launches": 0},
            "confine": 5,
            "other": 1,
        }
    )
    assert [fault.split(":")[0] for fault in told] == [
        "other",
        "prometheus.eu.url",
        "prometheus.us.url",
        "metrics[0]",
        "limits.launches",
        "guardrails[0].metric",
        "confine",
    ]


def test_a_guardrail_on_a_metric_with_faults_is_not_told_of_besides() -> None:
    bad = {"name": "paying", "ratio": {"bad": "sum(x)", "total": "y"}}
    (told,) = faults({"metrics": [bad], "guardrails": [{"metric": "paying", "below": "1%"}]})
    assert told.startswith("metrics[0].ratio.bad: is 'sum(x)'; write one selector")


@pytest.mark.parametrize("field", ["headers", "params", "proxy", "url"])
def test_what_may_be_a_secret_is_never_shown(field: str) -> None:
    secret = "http://me:hush@proxy\x00"
    value = {"Authorization": secret} if field in ("headers", "params") else secret
    (told,) = faults(_prometheus(**{field: value}))
    assert told.endswith("is not text on one line; write it on one line, without control characters")
    assert "hush" not in told


def test_the_names_of_prometheuses_begin_with_the_default_one() -> None:
    assert names_of({"eu": 1, "default": 2, "asia": 3}) == "default, asia and eu"
    assert names_of({}) == "none"

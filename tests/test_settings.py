"""Settings: each default, each flag and its variable, and every kind of fault, all of them at once."""

from __future__ import annotations

import json
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import pytest

from controller.settings import RUN_SETTINGS, Settings, SettingsError, read_settings

DEFAULTS: dict[str, Any] = {
    "config": None,
    "folder": None,
    "kubeconfig": "",
    "context": "",
    "namespaces": (),
    "tick": 10.0,
    "workers": 8,
    "route_settle": 10.0,
    "prometheus_url": "http://127.0.0.1:9090",
    "prometheus_headers": {},
    "prometheus_params": {},
    "prometheus_bearer_token_file": "",
    "prometheus_username": "",
    "prometheus_password_file": "",
    "prometheus_ca_file": "",
    "prometheus_cert_file": "",
    "prometheus_key_file": "",
    "prometheus_proxy": "",
    "prometheus_timeout": 5.0,
    "prometheus_said": (),
    "recorded_interval": 10,
    "recorded_offset": 5.0,
    "recorded_settle": 10.0,
    "confine": True,
    "alertmanagers": (),
    "alertmanager_watchdog": {"alertname": "Watchdog"},
    "alertmanager_resend": 300.0,
    "webhook_token_file": "",
    "webhook_client_ca_file": "",
    "external_url": "http://127.0.0.1:8080",
    "runbook_url": "",
    "elect": False,
    "lease_namespace": "",
    "lease_name": "auto-advance",
    "listen": ("127.0.0.1", 8080),
    "listen_cert_file": "",
    "listen_key_file": "",
    "decision_log": "",
    "log_json": None,
    "log_level": "info",
}

# flag, what is typed, the field, what it becomes, what has to stand beside it; FILE and FOLDER are there
FILE, FOLDER = "FILE", "FOLDER"
Given = dict[str, Any]
GIVEN: list[tuple[str, Any, str, Any, Given]] = [
    ("config", FILE, "config", FILE, {}),
    ("folder", FOLDER, "folder", FOLDER, {}),
    ("kubeconfig", FILE, "kubeconfig", FILE, {}),
    ("context", "east", "context", "east", {}),
    ("namespace", ["shop", "pay"], "namespaces", ("shop", "pay"), {}),
    ("tick", "250ms", "tick", 0.25, {}),
    ("workers", "64", "workers", 64, {}),
    ("route-settle", "1m30s", "route_settle", 90.0, {}),
    ("prometheus", "https://mimir.example/prometheus/", "prometheus_url", "https://mimir.example/prometheus", {}),
    ("prometheus-header", ["X-Scope-OrgID=a=b"], "prometheus_headers", {"X-Scope-OrgID": "a=b"}, {}),
    ("prometheus-param", ["partial_response=false"], "prometheus_params", {"partial_response": "false"}, {}),
    ("prometheus-bearer-token-file", FILE, "prometheus_bearer_token_file", FILE, {}),
    ("prometheus-username", "reader", "prometheus_username", "reader", {"prometheus-password-file": FILE}),
    ("prometheus-password-file", FILE, "prometheus_password_file", FILE, {"prometheus-username": "reader"}),
    ("prometheus-ca-file", FILE, "prometheus_ca_file", FILE, {}),
    ("prometheus-cert-file", FILE, "prometheus_cert_file", FILE, {"prometheus-key-file": FILE}),
    ("prometheus-key-file", FILE, "prometheus_key_file", FILE, {"prometheus-cert-file": FILE}),
    ("prometheus-proxy", "http://me:secret@proxy:3128", "prometheus_proxy", "http://me:secret@proxy:3128", {}),
    ("prometheus-timeout", "30s", "prometheus_timeout", 30.0, {}),
    ("recorded-interval", "1m", "recorded_interval", 60, {}),
    ("recorded-offset", "500ms", "recorded_offset", 0.5, {}),
    ("recorded-settle", "20s", "recorded_settle", 20.0, {}),
    ("unconfined-queries", True, "confine", False, {}),
    ("alertmanager", ["http://a:9093/", "http://b:9093"], "alertmanagers", ("http://a:9093", "http://b:9093"), {}),
    (
        "alertmanager-watchdog",
        ["alertname=Dead", "a=b=c"],
        "alertmanager_watchdog",
        {"alertname": "Dead", "a": "b=c"},
        {},
    ),
    ("alertmanager-resend", "10m", "alertmanager_resend", 600.0, {}),
    ("webhook-token-file", FILE, "webhook_token_file", FILE, {}),
    (
        "webhook-client-ca-file",
        FILE,
        "webhook_client_ca_file",
        FILE,
        {"listen-cert-file": FILE, "listen-key-file": FILE},
    ),
    ("external-url", "https://launches.example", "external_url", "https://launches.example", {}),
    ("runbook-url", "https://git.example/runbooks/", "runbook_url", "https://git.example/runbooks", {}),
    ("no-leader-election", True, "elect", False, {"folder": FOLDER}),
    ("lease-namespace", "ops", "lease_namespace", "ops", {}),
    ("lease-name", "canaries", "lease_name", "canaries", {}),
    ("listen", "[::]:9999", "listen", ("::", 9999), {}),
    ("listen-cert-file", FILE, "listen_cert_file", FILE, {"listen-key-file": FILE}),
    ("listen-key-file", FILE, "listen_key_file", FILE, {"listen-cert-file": FILE}),
    ("decision-log", FILE, "decision_log", FILE, {}),
    ("log-format", "json", "log_json", True, {}),
    ("log-level", "debug", "log_level", "debug", {}),
]


@pytest.fixture
def places(tmp_path: Path) -> dict[str, str]:
    """A file and a folder that exist."""
    file = tmp_path / "file"
    file.write_text("x")
    return {FILE: str(file), FOLDER: str(tmp_path)}


def placed(value: Any, places: dict[str, str]) -> Any:
    """The value with the names of things that exist."""
    return places.get(value, value) if isinstance(value, str) else value


def variable(flag: str) -> str:
    return "AUTO_ADVANCE_" + flag.upper().replace("-", "_")


def faults(flags: Given | None = None, environment: dict[str, str] | None = None) -> tuple[str, ...]:
    """What is wrong with these settings."""
    with pytest.raises(SettingsError) as told:
        read_settings(flags or {}, environment or {})
    assert str(told.value) == "; ".join(told.value.faults)
    return told.value.faults


def test_these_are_the_defaults() -> None:
    assert asdict(read_settings({}, {})) == DEFAULTS
    assert [field.name for field in fields(Settings)] == list(DEFAULTS)


def test_flags_that_were_not_given_are_as_good_as_absent() -> None:
    empty: Given = {
        setting.name: [] if setting.repeated else False if setting.switch else "" for setting in RUN_SETTINGS
    }
    assert asdict(read_settings(empty, {setting.variable: "" for setting in RUN_SETTINGS})) == DEFAULTS
    assert read_settings({"namespace": [""]}, {}).namespaces == (), "an empty variable of a shell is no namespace"


def test_every_flag_is_in_the_table_below() -> None:
    assert [flag for flag, *_ in GIVEN] == [setting.name for setting in RUN_SETTINGS]
    assert [variable(setting.name) for setting in RUN_SETTINGS] == [setting.variable for setting in RUN_SETTINGS]
    assert all(setting.help.endswith(".") for setting in RUN_SETTINGS)


@pytest.mark.parametrize(("flag", "typed", "name", "meant", "beside"), GIVEN, ids=[flag for flag, *_ in GIVEN])
def test_each_flag_and_its_variable_say_the_same_and_the_flag_wins(
    flag: str, typed: Any, name: str, meant: Any, beside: Given, places: dict[str, str]
) -> None:
    typed, meant = placed(typed, places), placed(meant, places)
    beside = {other: placed(value, places) for other, value in beside.items()}
    if name in ("config", "folder"):
        meant = Path(meant)
    assert getattr(read_settings({flag: typed, **beside}, {}), name) == meant
    spelled = ", ".join(typed) if isinstance(typed, list) else "true" if typed is True else typed
    assert getattr(read_settings(beside, {variable(flag): spelled}), name) == meant
    # a variable that would be a fault, or another value, is not even read beside the flag
    assert getattr(read_settings({flag: typed, **beside}, {variable(flag): "no=such, thing"}), name) == meant


def test_nothing_else_in_the_environment_counts() -> None:
    assert asdict(read_settings({}, {"TICK": "1s", "HTTP_PROXY": "http://proxy:1", "AUTO_ADVANCE_": "x"})) == DEFAULTS


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("8080", ("127.0.0.1", 8080)),
        (":8080", ("127.0.0.1", 8080)),
        ("0.0.0.0:0", ("0.0.0.0", 0)),  # noqa: S104 - nobody listens here
        ("[::1]:65535", ("::1", 65535)),
    ],
)
def test_where_to_listen(typed: str, meant: tuple[str, int]) -> None:
    assert read_settings({"listen": typed}, {}).listen == meant


@pytest.mark.parametrize(("typed", "meant"), [("true", False), ("YES", False), ("1", False), ("false", True)])
def test_a_switch_in_the_environment(typed: str, meant: bool) -> None:
    assert read_settings({}, {"AUTO_ADVANCE_UNCONFINED_QUERIES": typed}).confine is meant


FAULTS: list[tuple[Given, str]] = [
    ({"folder": "/no/such"}, "--folder (AUTO_ADVANCE_FOLDER): /no/such is not a folder; create it, or name another"),
    ({"folder": FILE}, "is not a folder"),
    ({"tick": "10"}, "--tick (AUTO_ADVANCE_TICK): '10' is not a duration; write a number with its unit, such as 30s"),
    ({"tick": "249ms"}, "249ms is out of range; write 0.25s to 3600s"),
    ({"tick": "2h"}, "2h is out of range; write 0.25s to 3600s"),
    ({"route-settle": "11m"}, "11m is out of range"),
    ({"prometheus-timeout": "50ms"}, "50ms is out of range; write 0.1s to 120s"),
    ({"recorded-interval": "2500ms"}, "it must be whole seconds"),
    ({"recorded-offset": "soon"}, "'soon' is not a duration"),
    ({"recorded-settle": "61m"}, "61m is out of range"),
    ({"workers": "0"}, "'0' is out of range; write a whole number from 1 to 64"),
    ({"workers": "65"}, "'65' is out of range"),
    ({"workers": "many"}, "'many' is out of range"),
    ({"prometheus": "prometheus:9090"}, "'prometheus:9090' is not a URL; write one such as http://127.0.0.1:9090"),
    ({"prometheus": "ftp://prometheus"}, "is not a URL"),
    ({"prometheus": "http://[::1"}, "is not a URL"),
    ({"prometheus": "http://prometheus:99999"}, "is not a URL"),
    ({"prometheus": "http://prometheus:web"}, "is not a URL"),
    ({"prometheus": "http://me:hush@prometheus"}, "write --prometheus-username and --prometheus-password-file instead"),
    ({"prometheus": "http://prometheus?dedup=true"}, "write query parameters with --prometheus-param"),
    ({"alertmanager": ["http://good:9093", "bad"]}, "'bad' is not a URL"),
    ({"alertmanager-watchdog": ["Watchdog"]}, "one value has no name; write NAME=VALUE"),
    (
        {"alertmanager-watchdog": ["alert-name=Dead"]},
        "'alert-name' is not the name of a label; write NAME=VALUE such as",
    ),
    ({"external-url": "launches"}, "'launches' is not a URL"),
    ({"prometheus-proxy": "proxy:3128"}, "'proxy:3128' is not a URL"),
    ({"prometheus-header": ["X-Scope-OrgID: shop"]}, "one value has no name; write NAME=VALUE"),
    ({"prometheus-header": ["=shop"]}, "one value has no name; write NAME=VALUE"),
    ({"prometheus-header": ["X-Team=süd"]}, "'X-Team' or its value is not printable ASCII; write it on one line"),
    ({"prometheus-param": ["dedup"]}, "one value has no name; write NAME=VALUE"),
    ({"kubeconfig": "/no/such"}, "/no/such is not a file"),
    ({"prometheus-ca-file": FOLDER}, "is not a file"),
    ({"prometheus-bearer-token-file": "/no/token"}, "/no/token is not a file"),
    ({"listen": "127.0.0.1"}, "'127.0.0.1' has no port; write HOST:PORT such as 127.0.0.1:8080"),
    ({"listen": "127.0.0.1:web"}, "has no port"),
    ({"listen": "127.0.0.1:65536"}, "has no port"),
    ({"listen": "everywhere:8080"}, "'everywhere' is not an IP address; write HOST:PORT such as 0.0.0.0:8080"),
    ({"decision-log": FOLDER}, "is a folder; name a file in it"),
    ({"decision-log": "/no/such/ledger"}, "/no/such is not a folder; create it, or name another file"),
    ({"log-format": "xml"}, "'xml' is none of auto, json, text"),
    ({"log-level": "INFO"}, "'INFO' is none of debug, info, warning, error"),
    ({"folder": FOLDER, "kubeconfig": FILE}, "--kubeconfig (AUTO_ADVANCE_KUBECONFIG): it cannot be given together"),
    ({"folder": FOLDER, "context": "east"}, "--context (AUTO_ADVANCE_CONTEXT): it cannot be given together"),
    ({"folder": FOLDER, "namespace": ["shop"]}, "--namespace (AUTO_ADVANCE_NAMESPACE): it cannot be given together"),
    ({"folder": FOLDER, "lease-namespace": "ops"}, "it cannot be given together with --folder, which has a lock"),
    ({"lease-namespace": "Ops"}, "'Ops' is not a name of Kubernetes; write small letters, digits and -"),
    ({"lease-name": "canaries-"}, "'canaries-' is not a name of Kubernetes"),
    ({"prometheus-username": "me"}, "--prometheus-password-file (AUTO_ADVANCE_PROMETHEUS_PASSWORD_FILE): basic"),
    ({"prometheus-password-file": FILE}, "--prometheus-username (AUTO_ADVANCE_PROMETHEUS_USERNAME): basic"),
    (
        {"prometheus-bearer-token-file": FILE, "prometheus-username": "me", "prometheus-password-file": FILE},
        "--prometheus-bearer-token-file (AUTO_ADVANCE_PROMETHEUS_BEARER_TOKEN_FILE): it cannot be given together",
    ),
    ({"listen-cert-file": FILE}, "TLS wants a certificate and its key; give both"),
    ({"webhook-client-ca-file": FILE}, "client certificates want TLS; give --listen-cert-file and its key"),
    ({"prometheus-cert-file": FILE}, "mutual TLS wants a certificate and its key; give both"),
    ({"prometheus-key-file": FILE}, "mutual TLS wants a certificate and its key; give both"),
]


@pytest.mark.parametrize(("given", "told"), FAULTS, ids=[json.dumps(given) for given, _ in FAULTS])
def test_a_fault_names_the_flag_its_variable_and_what_to_write(given: Given, told: str, places: dict[str, str]) -> None:
    flags = {flag: placed(value, places) for flag, value in given.items()}
    (fault,) = faults(flags)
    assert told in fault
    flag = fault.split()[0].removeprefix("--")
    assert fault.startswith(f"--{flag} ({variable(flag)}): ")
    environment = {variable(flag): ",".join(v) if isinstance(v, list) else v for flag, v in flags.items()}
    assert faults({}, environment) == (fault,), "from the environment the same"


def test_a_switch_that_is_none() -> None:
    (fault,) = faults({}, {"AUTO_ADVANCE_UNCONFINED_QUERIES": "perhaps"})
    assert fault == (
        "--unconfined-queries (AUTO_ADVANCE_UNCONFINED_QUERIES): 'perhaps' is not a switch; write true or false"
    )


IN_A_POD = {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}


@pytest.mark.parametrize(
    ("flags", "environment", "elect", "namespace"),
    [
        ({}, {}, False, ""),
        ({"folder": FOLDER}, {}, True, ""),
        ({"folder": FOLDER}, {"POD_NAMESPACE": "ops"}, True, ""),
        ({"folder": FOLDER, "no-leader-election": True}, {}, False, ""),
        ({}, {**IN_A_POD, "POD_NAMESPACE": "ops"}, True, "ops"),
        ({"kubeconfig": FILE}, {"POD_NAMESPACE": "ops"}, True, "ops"),
        ({"lease-namespace": "other"}, {**IN_A_POD, "POD_NAMESPACE": "ops"}, True, "other"),
        ({"lease-namespace": "other"}, {}, True, "other"),
        ({"no-leader-election": True}, {**IN_A_POD, "POD_NAMESPACE": "ops"}, False, ""),
        ({"kubeconfig": FILE}, IN_A_POD, False, ""),
        ({"context": "east"}, IN_A_POD, False, ""),
        ({}, {**IN_A_POD, "KUBECONFIG": "/etc/kubeconfig"}, False, ""),
    ],
)
def test_who_elects_and_where_the_lease_is(
    flags: Given, environment: dict[str, str], elect: bool, namespace: str, places: dict[str, str]
) -> None:
    read = read_settings({flag: placed(value, places) for flag, value in flags.items()}, environment)
    assert (read.elect, read.lease_namespace) == (elect, namespace)


def test_a_pod_whose_namespace_is_not_known_says_what_to_write() -> None:
    (fault,) = faults({}, IN_A_POD)
    assert "the namespace of the pod is not known" in fault
    assert "write it here or in POD_NAMESPACE, or --no-leader-election where this is the only process" in fault


def test_a_lease_without_an_election_is_a_contradiction() -> None:
    (fault,) = faults({"no-leader-election": True, "lease-namespace": "ops"})
    assert "it cannot be given together with --no-leader-election; give one of the two" in fault


def test_all_faults_are_told_at_once_each_one_once() -> None:
    told = faults(
        {"tick": "fast", "workers": "0", "listen": "nowhere", "log-level": "loud", "prometheus-header": ["a", "b"]},
        {"AUTO_ADVANCE_FOLDER": "/no/such", "AUTO_ADVANCE_CONTEXT": "east", "AUTO_ADVANCE_RECORDED_INTERVAL": "x"},
    )
    named = sorted(fault.split()[0] for fault in told)
    assert named == sorted(
        [
            "--context",
            "--folder",
            "--listen",
            "--log-level",
            "--prometheus-header",
            "--prometheus-header",
            "--recorded-interval",
            "--tick",
            "--workers",
        ]
    )


def test_secrets_are_neither_in_the_repr_nor_in_a_fault() -> None:
    settings = read_settings(
        {
            "prometheus-header": ["Authorization=hush"],
            "prometheus-param": ["token=hush"],
            "prometheus-proxy": "http://me:hush@proxy:3128",
            "alertmanager": ["http://me:hush@alertmanager:9093"],
        },
        {},
    )
    assert settings.prometheus_headers == {"Authorization": "hush"}
    assert "hush" not in repr(settings)
    told = faults(
        {
            "prometheus": "http://me:hush@prometheus",
            "prometheus-proxy": "me:hush@proxy:3128",
            "alertmanager": ["me:hush@alertmanager"],
            "prometheus-header": ["hush", "Name=hush\n"],
            "prometheus-param": ["hush"],
        }
    )
    assert len(told) == 6
    assert "hush" not in " ".join(told)

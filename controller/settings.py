"""Typed settings from flags and environment; every fault is reported at once.

Each flag has an environment variable of the same name: ``--tick`` is ``AUTO_ADVANCE_TICK``. Flags win.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from controller.core.units import parse_duration

ENVIRONMENT_PREFIX = "AUTO_ADVANCE_"
SHORTEST_TICK = 0.25
LABEL_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
DNS_NAME = re.compile(r"(?=.{1,63}$)[a-z0-9]([-a-z0-9]*[a-z0-9])?")
IN_A_POD = "KUBERNETES_SERVICE_HOST"
NAMESPACE_OF_THE_POD = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


class SettingsError(Exception):
    """Settings with faults; all of them, one sentence each."""

    def __init__(self, faults: Sequence[str]) -> None:
        super().__init__("; ".join(faults))
        self.faults = tuple(faults)


@dataclass(frozen=True, slots=True)
class Setting:
    """One flag: its name without dashes in front, what it means, its default as it would be typed."""

    name: str
    help: str
    default: str = ""
    repeated: bool = False
    switch: bool = False

    @property
    def variable(self) -> str:
        """The environment variable that says the same."""
        return ENVIRONMENT_PREFIX + self.name.upper().replace("-", "_")


RUN_SETTINGS: tuple[Setting, ...] = (
    Setting(
        "config",
        "The operator's configuration file, read again when its content changes: Prometheuses by name, shared metrics, "
        "limits; and stop.yaml beside it, a stop of all launches; see docs/configuration.md.",
    ),
    Setting("folder", "Run on a folder of manifests instead of an API server."),
    Setting("kubeconfig", "Kubeconfig file; default: in a pod its service account, elsewhere KUBECONFIG."),
    Setting("context", "Context of the kubeconfig."),
    Setting("namespace", "Watch this namespace only; may be repeated. Default: all.", repeated=True),
    Setting("tick", "How often every launch is looked at, 0.25s or more.", "10s"),
    Setting("workers", "How many launches are written to at the same time, 1 to 64.", "8"),
    Setting("route-settle", "How long a weight takes to be in force where no gateway reports it.", "10s"),
    Setting("prometheus", "Base URL of Prometheus; may have a path.", "http://127.0.0.1:9090"),
    Setting("prometheus-header", "NAME=VALUE sent with every query, such as a tenant; may be repeated.", repeated=True),
    Setting("prometheus-param", "NAME=VALUE added to every query, such as partial_response=false.", repeated=True),
    Setting("prometheus-bearer-token-file", "File with the bearer token; read again when it changes."),
    Setting("prometheus-username", "User for basic authentication."),
    Setting("prometheus-password-file", "File with that user's password; read again when it changes."),
    Setting("prometheus-ca-file", "CA that signs the certificate of Prometheus."),
    Setting("prometheus-cert-file", "Client certificate for mutual TLS."),
    Setting("prometheus-key-file", "Key of the client certificate."),
    Setting("prometheus-proxy", "Proxy to Prometheus; the environment's proxies are not used."),
    Setting("prometheus-timeout", "How long one answer may take in all.", "5s"),
    Setting("recorded-interval", "Interval of the recording rules in rules/.", "10s"),
    Setting("recorded-offset", "Offset in the recording rules in rules/.", "5s"),
    Setting("recorded-settle", "How long after its instant a recorded sample may still appear.", "10s"),
    Setting("unconfined-queries", "Do not add namespace and track to the selectors of plans.", switch=True),
    Setting("alertmanager", "Base URL of an Alertmanager; may be repeated: alerts go to every one.", repeated=True),
    Setting(
        "alertmanager-watchdog",
        "NAME=VALUE label of the alert that always fires and so proves that alerts arrive; may be repeated.",
        "alertname=Watchdog",
        repeated=True,
    ),
    Setting(
        "alertmanager-resend",
        "How long senders may take to send again what fires; an Alertmanager that is up for less proves nothing.",
        "5m",
    ),
    Setting(
        "webhook-token-file",
        "File with the bearer token for /webhook/alertmanager; without it, or a client CA, nothing is taken there.",
    ),
    Setting(
        "webhook-client-ca-file",
        "CA that signs the client certificates of those who may post to /webhook/alertmanager.",
    ),
    Setting("external-url", "URL that alerts link to.", "http://127.0.0.1:8080"),
    Setting(
        "runbook-url", "URL of the folder of runbooks that alerts link to. Default: docs/runbooks below --external-url."
    ),
    Setting(
        "no-leader-election",
        "Lead without asking anybody: for the only process on its launches. Default: in a pod, or where "
        "--lease-namespace is given, whoever holds the Lease leads; on a folder, whoever holds its lock.",
        switch=True,
    ),
    Setting(
        "lease-namespace",
        "Namespace of the Lease. Default: POD_NAMESPACE; in a pod, that of its service account.",
    ),
    Setting("lease-name", "Name of the Lease.", "auto-advance"),
    Setting("listen", "HOST:PORT for /metrics, /livez and /readyz; port 0 takes a free one.", "127.0.0.1:8080"),
    Setting("listen-cert-file", "Certificate for TLS on --listen; read again when it changes."),
    Setting("listen-key-file", "Key of that certificate."),
    Setting(
        "decision-log", "File that every decision is appended to with what it was made from; - is standard output."
    ),
    Setting("log-format", "json, text, or auto: text on a terminal.", "auto"),
    Setting("log-level", "debug, info, warning or error.", "info"),
)


@dataclass(frozen=True, slots=True)
class Settings:
    """What ``auto-advance run`` runs with. Durations are seconds.

    ``prometheus_said`` names the flags of Prometheus that were given: then the file of ``config`` says no default one.
    """

    config: Path | None
    folder: Path | None
    kubeconfig: str
    context: str
    namespaces: tuple[str, ...]
    tick: float
    workers: int
    route_settle: float
    prometheus_url: str
    prometheus_headers: Mapping[str, str] = field(repr=False)
    prometheus_params: Mapping[str, str] = field(repr=False)
    prometheus_bearer_token_file: str
    prometheus_username: str
    prometheus_password_file: str
    prometheus_ca_file: str
    prometheus_cert_file: str
    prometheus_key_file: str
    prometheus_proxy: str = field(repr=False)
    prometheus_timeout: float
    prometheus_said: tuple[str, ...]
    recorded_interval: int
    recorded_offset: float
    recorded_settle: float
    confine: bool
    alertmanagers: tuple[str, ...] = field(repr=False)
    alertmanager_watchdog: Mapping[str, str]
    alertmanager_resend: float
    webhook_token_file: str
    webhook_client_ca_file: str
    external_url: str
    runbook_url: str
    elect: bool
    lease_namespace: str
    lease_name: str
    listen: tuple[str, int]
    listen_cert_file: str
    listen_key_file: str
    decision_log: str
    log_json: bool | None
    log_level: str


class _Reader:
    """Reads single settings and collects what is wrong with them."""

    def __init__(self, flags: Mapping[str, object], environment: Mapping[str, str]) -> None:
        self._flags, self._environment = flags, environment
        self.faults: list[str] = []
        self._known = {setting.name: setting for setting in RUN_SETTINGS}

    def fault(self, name: str, message: str) -> None:
        setting = self._known[name]
        self.faults.append(f"--{name} ({setting.variable}): {message}")

    def many(self, name: str) -> tuple[str, ...]:
        given = self._flags.get(name)
        if isinstance(given, list | tuple) and given:
            return tuple(str(item) for item in given if item)
        text = self._environment.get(self._known[name].variable, "")
        return tuple(part.strip() for part in text.split(",") if part.strip())

    def text(self, name: str) -> str:
        given = self._flags.get(name)
        if given not in (None, ""):
            return str(given)
        return self._environment.get(self._known[name].variable) or self._known[name].default

    def said(self, prefix: str) -> tuple[str, ...]:
        """The names, of those that begin so, that a flag or a variable gives."""
        names = (setting.name for setting in RUN_SETTINGS if setting.name.startswith(prefix))
        return tuple(
            name for name in names if self._flags.get(name) or self._environment.get(self._known[name].variable)
        )

    def switch(self, name: str) -> bool:
        if self._flags.get(name):
            return True
        text = self._environment.get(self._known[name].variable, "").lower()
        if text not in ("", "0", "false", "no", "1", "true", "yes"):
            self.fault(name, f"{text!r} is not a switch; write true or false")
        return text in ("1", "true", "yes")

    def duration(self, name: str, shortest: float = 0.0, longest: float = 86400.0) -> float:
        try:
            seconds = parse_duration(self.text(name))
        except ValueError as error:
            self.fault(name, str(error))
            return shortest
        if not shortest <= seconds <= longest:
            self.fault(name, f"{self.text(name)} is out of range; write {shortest:g}s to {longest:g}s")
        return seconds

    def whole(self, name: str, lowest: int, highest: int) -> int:
        text = self.text(name)
        if not text.isdecimal() or not lowest <= int(text) <= highest:
            self.fault(name, f"{text!r} is out of range; write a whole number from {lowest} to {highest}")
            return lowest
        return int(text)

    def choice(self, name: str, *choices: str) -> str:
        text = self.text(name)
        if text not in choices:
            self.fault(name, f"{text!r} is none of {', '.join(choices)}")
        return text

    def url(self, name: str, text: str) -> str:
        try:
            parts = urlsplit(text)
            good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        except ValueError:
            parts, good = urlsplit(""), False
        if not good:
            self.fault(name, f"{_unsigned(text)!r} is not a URL; write one such as http://127.0.0.1:9090")
        elif name == "prometheus" and (parts.username is not None or parts.password is not None):
            self.fault(
                name,
                "it holds a user or a password; write --prometheus-username and --prometheus-password-file instead",
            )
        elif name == "prometheus" and (parts.query or parts.fragment):
            self.fault(name, "it holds a query or a fragment; write query parameters with --prometheus-param")
        return text.rstrip("/")

    def pairs(self, name: str) -> dict[str, str]:
        pairs = {}
        for text in self.many(name):
            key, equals, value = text.partition("=")
            if not equals or not key.strip():
                self.fault(name, "one value has no name; write NAME=VALUE")
                continue
            if name == "prometheus-header" and not (text.isascii() and text.isprintable()):
                self.fault(name, f"{key.strip()!r} or its value is not printable ASCII; write it on one line")
                continue
            pairs[key.strip()] = value
        return pairs

    def labels(self, name: str) -> dict[str, str]:
        """Labels by their names; the default where none is given."""
        faults = len(self.faults)
        labels = self.pairs(name)
        for label in labels:
            if not LABEL_NAME.fullmatch(label):
                self.fault(name, f"{label!r} is not the name of a label; write NAME=VALUE such as alertname=Watchdog")
        if not labels and len(self.faults) == faults:
            label, _, value = self._known[name].default.partition("=")
            return {label: value}
        return labels

    def file(self, name: str) -> str:
        text = self.text(name)
        if text and not Path(text).is_file():
            self.fault(name, f"{text} is not a file")
        return text

    def writable(self, name: str) -> str:
        """A file that may be there or not, or ``-``; the folder is."""
        text = self.text(name)
        if text and Path(text).is_dir():
            self.fault(name, f"{text} is a folder; name a file in it")
        elif text not in ("", "-") and not Path(text).parent.is_dir():
            self.fault(name, f"{Path(text).parent} is not a folder; create it, or name another file")
        return text

    def dns_name(self, name: str, text: str) -> str:
        if text and not DNS_NAME.fullmatch(text):
            self.fault(name, f"{text!r} is not a name of Kubernetes; write small letters, digits and -")
        return text

    def listen(self, name: str) -> tuple[str, int]:
        text = self.text(name)
        host, _, port = text.rpartition(":")
        host = host.strip("[]")
        try:
            ipaddress.ip_address(host or "127.0.0.1")
        except ValueError:
            self.fault(name, f"{host!r} is not an IP address; write HOST:PORT such as 0.0.0.0:8080")
        if not port.isdecimal() or int(port) > 65535:
            self.fault(name, f"{text!r} has no port; write HOST:PORT such as 127.0.0.1:8080")
            return host, 0
        return host or "127.0.0.1", int(port)


def _unsigned(url: str) -> str:
    """A URL as it may be shown: without the user and the password that some hold."""
    return url.rpartition("@")[2]


def _election(read: _Reader, environment: Mapping[str, str]) -> tuple[bool, str]:
    """Whether the processes elect the one that writes, and in which namespace the Lease is (empty: on a folder)."""
    off, given = read.switch("no-leader-election"), read.text("lease-namespace")
    if off and given:
        read.fault("lease-namespace", "it cannot be given together with --no-leader-election; give one of the two")
    if read.text("folder"):
        if given:
            read.fault("lease-namespace", "it cannot be given together with --folder, which has a lock of its own")
        return not off, ""
    if off:
        return False, ""
    namespace = given or environment.get("POD_NAMESPACE", "")
    inside = bool(environment.get(IN_A_POD)) and not (
        read.text("kubeconfig") or read.text("context") or environment.get("KUBECONFIG")
    )
    if not namespace and inside:
        try:
            namespace = NAMESPACE_OF_THE_POD.read_text(encoding="utf-8").strip()
        except OSError as error:
            read.fault(
                "lease-namespace",
                f"the namespace of the pod is not known ({NAMESPACE_OF_THE_POD}: {error.strerror}); write it here or in "
                "POD_NAMESPACE, or --no-leader-election where this is the only process",
            )
    return bool(namespace), read.dns_name("lease-namespace", namespace)


def read_settings(flags: Mapping[str, object], environment: Mapping[str, str]) -> Settings:
    """The settings of ``auto-advance run``; ``flags`` by their names, absent or empty where not given.

    Raises:
        SettingsError: with every fault.
    """
    read = _Reader(flags, environment)
    folder = read.text("folder")
    if folder and not Path(folder).is_dir():
        read.fault("folder", f"{folder} is not a folder; create it, or name another")
    if folder:
        for name in ("kubeconfig", "context"):
            if read.text(name):
                read.fault(name, "it cannot be given together with --folder; give one of the two")
        if read.many("namespace"):
            read.fault("namespace", "it cannot be given together with --folder, whose launches are all followed")
    username, password = read.text("prometheus-username"), read.file("prometheus-password-file")
    if bool(username) != bool(password):
        missing = "prometheus-password-file" if username else "prometheus-username"
        read.fault(missing, "basic authentication wants a user and a password file; give both")
    token = read.file("prometheus-bearer-token-file")
    if token and username:
        read.fault("prometheus-bearer-token-file", "it cannot be given together with a user; give one of the two")
    certificate, key = read.file("prometheus-cert-file"), read.file("prometheus-key-file")
    if bool(certificate) != bool(key):
        read.fault("prometheus-key-file", "mutual TLS wants a certificate and its key; give both")
    served, served_key = read.file("listen-cert-file"), read.file("listen-key-file")
    if bool(served) != bool(served_key):
        read.fault("listen-key-file", "TLS wants a certificate and its key; give both")
    clients = read.file("webhook-client-ca-file")
    if clients and not served:
        read.fault("webhook-client-ca-file", "client certificates want TLS; give --listen-cert-file and its key")
    interval = read.duration("recorded-interval", 1.0, 3600.0)
    if interval != int(interval):
        read.fault("recorded-interval", "it must be whole seconds")
    elect, lease_namespace = _election(read, environment)
    log_format = read.choice("log-format", "auto", "json", "text")
    proxy = read.text("prometheus-proxy")
    config = read.file("config")
    settings = Settings(
        config=Path(config) if config else None,
        folder=Path(folder) if folder else None,
        kubeconfig=read.file("kubeconfig"),
        context=read.text("context"),
        namespaces=read.many("namespace"),
        tick=read.duration("tick", SHORTEST_TICK, 3600.0),
        workers=read.whole("workers", 1, 64),
        route_settle=read.duration("route-settle", 0.0, 600.0),
        prometheus_url=read.url("prometheus", read.text("prometheus")),
        prometheus_headers=read.pairs("prometheus-header"),
        prometheus_params=read.pairs("prometheus-param"),
        prometheus_bearer_token_file=token,
        prometheus_username=username,
        prometheus_password_file=password,
        prometheus_ca_file=read.file("prometheus-ca-file"),
        prometheus_cert_file=certificate,
        prometheus_key_file=key,
        prometheus_proxy=read.url("prometheus-proxy", proxy) if proxy else "",
        prometheus_timeout=read.duration("prometheus-timeout", 0.1, 120.0),
        prometheus_said=read.said("prometheus"),
        recorded_interval=max(1, int(interval)),
        recorded_offset=read.duration("recorded-offset", 0.0, 3600.0),
        recorded_settle=read.duration("recorded-settle", 0.0, 3600.0),
        confine=not read.switch("unconfined-queries"),
        alertmanagers=tuple(read.url("alertmanager", url) for url in read.many("alertmanager")),
        alertmanager_watchdog=read.labels("alertmanager-watchdog"),
        alertmanager_resend=read.duration("alertmanager-resend", 0.0, 86400.0),
        webhook_token_file=read.file("webhook-token-file"),
        webhook_client_ca_file=clients,
        external_url=read.url("external-url", read.text("external-url")),
        runbook_url=read.url("runbook-url", runbooks) if (runbooks := read.text("runbook-url")) else "",
        elect=elect,
        lease_namespace=lease_namespace,
        lease_name=read.dns_name("lease-name", read.text("lease-name")),
        listen=read.listen("listen"),
        listen_cert_file=served,
        listen_key_file=served_key,
        decision_log=read.writable("decision-log"),
        log_json={"json": True, "text": False}.get(log_format),
        log_level=read.choice("log-level", "debug", "info", "warning", "error"),
    )
    if read.faults:
        raise SettingsError(read.faults)
    return settings

"""How the settings say that Prometheus and Alertmanager are reached: one way for the controller and for every command
that asks as it does.
"""

from __future__ import annotations

from collections.abc import Mapping

from controller.adapters.alertmanager import Access
from controller.adapters.prometheus import PrometheusSettings
from controller.adapters.promql import Confinement
from controller.core.configuration import NOTHING, Backend, Configuration, names_of
from controller.core.faults import Fault
from controller.core.terms import DEFAULT_BACKEND
from controller.errors import RefusedError
from controller.settings import Settings


def prometheus_settings(settings: Settings) -> PrometheusSettings:
    """The Prometheus of the flags.

    Raises ValueError, naming the field, for values that contradict each other.
    """
    return PrometheusSettings(
        url=settings.prometheus_url,
        headers=settings.prometheus_headers,
        params=settings.prometheus_params,
        bearer_token_file=settings.prometheus_bearer_token_file,
        username=settings.prometheus_username,
        password_file=settings.prometheus_password_file,
        ca_file=settings.prometheus_ca_file,
        cert_file=settings.prometheus_cert_file,
        key_file=settings.prometheus_key_file,
        proxy=settings.prometheus_proxy,
        timeout=settings.prometheus_timeout,
        read_timeout=settings.prometheus_timeout,
    )


def backends(settings: Settings, configuration: Configuration = NOTHING) -> dict[str, PrometheusSettings]:
    """Every Prometheus by its name; the flags say ``default`` where they are given, or where the file names none at all.

    Raises ValueError as :func:`prometheus_settings` does.
    """
    found = {name: _of(backend) for name, backend in configuration.backends.items()}
    if not found or settings.prometheus_said:
        found[DEFAULT_BACKEND] = prometheus_settings(settings)
    return found


def backend_of(known: Mapping[str, PrometheusSettings], name: str) -> PrometheusSettings:
    """The Prometheus of that name, empty: the default one. Raises RefusedError where there is none."""
    found = known.get(name or DEFAULT_BACKEND)
    if found is None:
        raise RefusedError(no_backend(name, known))
    return found


def no_backend(name: str, known: Mapping[str, object]) -> str:
    """That there is no Prometheus of that name, in words."""
    return f"the operator's configuration has no Prometheus {name or DEFAULT_BACKEND}; it has {names_of(known)}"


def confinement(settings: Settings, configuration: Configuration = NOTHING) -> Confinement:
    """To what the queries of plans are tied."""
    said = configuration.confine
    return Confinement(
        enforced=settings.confine if said is None else said,
        watchdog=tuple(settings.alertmanager_watchdog.items()),
    )


def alertmanagers(settings: Settings, configuration: Configuration = NOTHING) -> tuple[str | Access, ...]:
    """Every Alertmanager, by the file or by the flags."""
    if configuration.alertmanagers is None:
        return settings.alertmanagers
    return tuple(
        Access(one.url.rstrip("/"), one.bearer_token_file, one.username, one.password_file)
        for one in configuration.alertmanagers
    )


def said_twice(settings: Settings, configuration: Configuration) -> list[Fault]:
    """What both the flags and the file say: which of them is meant, nobody could tell."""
    faults = []
    if settings.prometheus_said and DEFAULT_BACKEND in configuration.backends:
        given = ", ".join(f"--{name}" for name in settings.prometheus_said)
        faults.append(
            Fault(f"prometheus.{DEFAULT_BACKEND}", f"{given} (or its variable) says it too; remove one of the two")
        )
    if settings.alertmanagers and configuration.alertmanagers is not None:
        faults.append(Fault("alertmanagers", "--alertmanager (or its variable) says them too; remove one of the two"))
    if not settings.confine and configuration.confine is not None:
        faults.append(Fault("confine", "--unconfined-queries (or its variable) says it too; remove one of the two"))
    return faults


def _of(backend: Backend) -> PrometheusSettings:
    return PrometheusSettings(
        url=backend.url.rstrip("/"),
        headers=backend.headers,
        params=backend.params,
        bearer_token_file=backend.bearer_token_file,
        username=backend.username,
        password_file=backend.password_file,
        ca_file=backend.ca_file,
        cert_file=backend.cert_file,
        key_file=backend.key_file,
        proxy=backend.proxy,
        timeout=backend.timeout,
        read_timeout=backend.timeout,
    )

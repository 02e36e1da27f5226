"""How the settings say that Prometheus is reached: one way for the controller and for every command that asks as it does."""

from __future__ import annotations

from controller.adapters.prometheus import PrometheusSettings
from controller.settings import Settings


def prometheus_settings(settings: Settings) -> PrometheusSettings:
    """What :class:`controller.adapters.prometheus.Prometheus` is built with.

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

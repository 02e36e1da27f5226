"""The command line: builds the parts and runs them; it holds no rules of its own."""

from __future__ import annotations

import gc
import inspect
import os
import signal
import sys
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any

import typer

from controller.adapters.alertmanager import AlertSender
from controller.adapters.files import Files
from controller.adapters.kubernetes import Kubernetes, KubernetesSettings
from controller.adapters.prometheus import Prometheus, PrometheusSettings
from controller.adapters.promql import Confinement
from controller.adapters.yaml_documents import YamlError, read_documents
from controller.clock import SystemClock
from controller.core.alerts import alerts_of_decision
from controller.core.decide import Decision
from controller.core.observation import TargetView
from controller.core.plan import InvalidPlanError, Plan, parse
from controller.core.series import RecordedForm
from controller.core.spec import KIND
from controller.core.units import format_duration, format_weight
from controller.core.world import LaunchKey
from controller.errors import AdapterError
from controller.gather import Gatherer
from controller.health import HealthServer
from controller.loop import Loop
from controller.ports import Cluster
from controller.reconcile import Reconciler
from controller.settings import RUN_SETTINGS, Setting, Settings, SettingsError, read_settings
from controller.telemetry import Telemetry, configure_logging

EXIT_OK, EXIT_FAILED, EXIT_USAGE = 0, 1, 2

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


@app.callback()
def _about() -> None:
    """auto-advance runs a launch by itself: it moves traffic by a plan, on proof."""


def _run(**flags: object) -> None:
    try:
        settings = read_settings({name.replace("_", "-"): value for name, value in flags.items()}, os.environ)
    except SettingsError as error:
        for fault in error.faults:
            typer.echo(f"auto-advance run: {fault}", err=True)
        raise typer.Exit(EXIT_USAGE) from None
    code = run(settings)
    sys.stderr.flush()
    # Threads that wait for a hanging server have nothing left to say, and must not keep the process.
    os._exit(code)


def _declare(function: Callable[..., None], settings: Sequence[Setting]) -> Callable[..., None]:
    """Give the function one option per setting, so that the table is the only place that lists them."""
    parameters = []
    for setting in settings:
        shown = f"{setting.help} [{setting.variable}]"
        kind: Any = list[str] if setting.repeated else bool if setting.switch else str
        option = typer.Option(f"--{setting.name}", help=shown, show_default=setting.default or False)
        default: Any = [] if setting.repeated else False if setting.switch else ""
        parameters.append(
            inspect.Parameter(
                setting.name.replace("-", "_"),
                inspect.Parameter.KEYWORD_ONLY,
                default=default,
                annotation=Annotated[kind, option],
            )
        )
    function.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    function.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return function


app.command(name="run", help="Run the controller until it is told to stop.")(_declare(_run, RUN_SETTINGS))


@app.command()
def validate(
    files: Annotated[list[Path], typer.Argument(help="Manifests; - reads standard input.")],
) -> None:
    """Say everything that is wrong with the plans in these files, and what to write instead."""
    launches = faults = 0
    for path in files:
        try:
            text = sys.stdin.read() if str(path) == "-" else path.read_text(encoding="utf-8")
            documents = read_documents(text)
        except (OSError, UnicodeDecodeError) as error:
            typer.echo(f"{path}: {error}", err=True)
            faults += 1
            continue
        except YamlError as error:
            typer.echo(f"{path}:{error.line}:{error.column}: {error.message}", err=True)
            faults += 1
            continue
        for document in documents:
            if isinstance(document.value, dict) and document.value.get("kind") == KIND:
                launches += 1
                faults += _validate_one(path, document.value)
    if not launches and not faults:
        typer.echo(f"no Launch in {', '.join(map(str, files))}", err=True)
        raise typer.Exit(EXIT_FAILED)
    raise typer.Exit(EXIT_FAILED if faults else EXIT_OK)


def _validate_one(path: Path, document: dict[str, Any]) -> int:
    try:
        plan = parse(document)
    except InvalidPlanError as invalid:
        for fault in invalid.faults:
            typer.echo(f"{path}: {fault}", err=True)
        return len(invalid.faults)
    for warning in plan.warnings:
        typer.echo(f"{path}: warning: {warning}", err=True)
    typer.echo(f"{path}: launch {plan.name}: good ({_summary(plan)})")
    return 0


def _summary(plan: Plan) -> str:
    steps = sum(len(phase.steps) for phase in plan.phases)
    last = plan.phases[-1].steps[-1].weight
    length = sum(step.lasts for phase in plan.phases for step in phase.steps)
    return (
        f"{_number(len(plan.phases), 'phase')}, {_number(steps, 'step')} up to {format_weight(last)}, "
        f"at least {format_duration(length)} of steps"
    )


def _number(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(metadata.version("auto-advance"))


class _Recorder(Telemetry):
    """Telemetry that also keeps the alerts of each launch up to date."""

    def __init__(self, sender: AlertSender | None) -> None:
        super().__init__()
        self.sender = sender

    def judged(self, key: LaunchKey, decision: Decision, views: tuple[TargetView, ...]) -> None:
        super().judged(key, decision, views)
        if self.sender is not None:
            self.sender.publish(key, alerts_of_decision(key, decision))

    def forgotten(self, key: LaunchKey) -> None:
        super().forgotten(key)
        if self.sender is not None:
            self.sender.publish(key, ())


def run(settings: Settings) -> int:
    """Build the parts and turn until a signal says stop; the exit code."""
    configure_logging(json=settings.log_json, level=settings.log_level)
    clock = SystemClock()
    recorder = _Recorder(None)
    if settings.alertmanagers:
        recorder.sender = AlertSender(
            settings.alertmanagers,
            external_url=settings.external_url,
            clock=clock.now,
            on_failure=recorder.alert_failed,
        )
    recorded = RecordedForm(settings.recorded_interval, settings.recorded_settle, settings.recorded_offset)
    try:
        cluster = _cluster(settings, recorded, lambda problem: recorder.note("cluster", problem=problem))
    except AdapterError as error:
        typer.echo(f"auto-advance run: {' '.join(str(error).split())}", err=True)  # YAML's errors span lines
        return EXIT_USAGE
    gatherer = Gatherer(Prometheus(_prometheus(settings)), confinement=Confinement(enforced=settings.confine))
    loop = Loop(
        cluster,
        lambda background: Reconciler(
            cluster,
            gatherer,
            recorder,
            clock,
            recorded=recorded,
            route_settle=settings.route_settle,
            background=background,
        ),
        recorder,
        clock,
        tick=settings.tick,
        workers=settings.workers,
    )
    try:
        health = HealthServer(*settings.listen, stuck=loop.stuck, unready=loop.unready, metrics=recorder.exposition)
    except OSError as error:
        typer.echo(f"auto-advance run: --listen {settings.listen[0]}:{settings.listen[1]}: {error.strerror}", err=True)
        return EXIT_USAGE
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: loop.stop())
    health.start()
    if recorder.sender is not None:
        recorder.sender.start()
    recorder.note("started", listen=f"{settings.listen[0]}:{health.port}", tick=settings.tick)
    gc.collect()
    gc.freeze()
    try:
        ended = loop.run()
    finally:
        gatherer.close()
        if recorder.sender is not None:
            recorder.sender.stop()
        health.stop()
    recorder.note("stopped", clean=ended)
    return EXIT_OK if ended else EXIT_FAILED


def _cluster(settings: Settings, recorded: RecordedForm, on_problem: Callable[[str], None]) -> Cluster:
    if settings.folder is not None:
        return Files(settings.folder, on_problem=on_problem, recorded=recorded)
    return Kubernetes(
        KubernetesSettings(
            kubeconfig=settings.kubeconfig,
            context=settings.context,
            namespaces=settings.namespaces,
            connections=max(32, 4 * settings.workers),
        ),
        on_problem=on_problem,
        recorded=recorded,
    )


def _prometheus(settings: Settings) -> PrometheusSettings:
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


def main() -> None:
    """Entry point of ``auto-advance``."""
    app()


if __name__ == "__main__":
    main()

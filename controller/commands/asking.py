"""What the commands that ask Prometheus share: the settings of the controller, the plan of a file, instants."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from controller.commands.program import EXIT_USAGE, fail, name, say

if TYPE_CHECKING:
    from controller.core.configuration import Configuration
    from controller.core.plan import Plan
    from controller.core.terms import Terms
    from controller.settings import Settings

Config = Annotated[
    str,
    typer.Option(
        "--config",
        help="The operator's configuration file, so that plans are read as the controller reads them.",
        envvar="AUTO_ADVANCE_CONFIG",
        show_default=False,
    ),
]


def settings_of(command: str, prometheus: str) -> Settings:
    """The controller's own settings from the environment, with ``--prometheus`` if it was given."""
    from controller.settings import SettingsError, read_settings

    try:
        return read_settings({"prometheus": prometheus}, os.environ)
    except SettingsError as error:
        for fault in error.faults:
            say(f"{name()} {command}: {fault}", err=True)
        raise typer.Exit(EXIT_USAGE) from None


def configuration_of(command: str, config: str, settings: Settings | None = None) -> Configuration:
    """What the operator's file says; nothing where none is named. The files that it names need not be here."""
    from controller.adapters.configuration_file import read, read_text
    from controller.core.configuration import NOTHING, InvalidConfigurationError
    from controller.core.series import RecordedForm

    if not config:
        return NOTHING
    recorded = RecordedForm()
    if settings is not None:
        recorded = RecordedForm(settings.recorded_interval, settings.recorded_settle, settings.recorded_offset)
    try:
        return read(read_text(Path(config)), recorded)
    except InvalidConfigurationError as invalid:
        for fault in invalid.faults:
            say(f"{name()} {command}: --config {config}: {fault}", err=True)
        raise typer.Exit(EXIT_USAGE) from None


def terms_of(config: str, settings: Settings, configuration: Configuration) -> Terms:
    """What plans are read with; where no file is named, what the operator says is not known."""
    from controller.adapters.reached import backends
    from controller.core.terms import FREE

    return configuration.terms(frozenset(backends(settings, configuration))) if config else FREE


def plan_of(command: str, path: Path, settings: Settings, terms: Terms | None = None) -> Plan:
    """The plan of the one Launch in a file (``-``: standard input), read with the operator's recorded form and terms."""
    from controller.adapters.yaml_documents import YamlError, read_documents
    from controller.core.plan import InvalidPlanError, parse
    from controller.core.series import RecordedForm
    from controller.core.spec import KIND
    from controller.core.terms import FREE

    try:
        text = sys.stdin.read() if str(path) == "-" else path.read_text(encoding="utf-8")
        documents = [document.value for document in read_documents(text)]
    except (OSError, UnicodeDecodeError) as error:
        fail(command, f"{path}: it cannot be read: {error}; name another file", EXIT_USAGE)
    except YamlError as error:
        fail(command, f"{path}:{error.line}:{error.column}: {error.message}", EXIT_USAGE)
    launches = [value for value in documents if isinstance(value, dict) and value.get("kind") == KIND]
    if len(launches) != 1:
        fail(command, f"{path}: holds {len(launches) or 'no'} Launches; give a file with one", EXIT_USAGE)
    recorded = RecordedForm(settings.recorded_interval, settings.recorded_settle, settings.recorded_offset)
    try:
        return parse(launches[0], recorded, terms or FREE)
    except InvalidPlanError as invalid:
        for fault in invalid.faults:
            say(f"{name()} {command}: {path}: {fault}", err=True)
        raise typer.Exit(EXIT_USAGE) from None


def past_instant(command: str, option: str, text: str) -> float:
    """An instant that has come (epoch seconds); now where the text is empty."""
    from controller.core.units import parse_instant

    now = time.time()
    if not text:
        return round(now, 3)
    try:
        instant = parse_instant(text)
    except ValueError as error:
        fail(command, f"{option}: {error}", EXIT_USAGE)
    if instant > now:
        fail(command, f"{option} {text}: has not come yet; write an instant of the past, or leave it out", EXIT_USAGE)
    return instant

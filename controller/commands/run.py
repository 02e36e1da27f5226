"""``run``: the daemon, with one flag for each setting."""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import typer

from controller.commands.program import EXIT_USAGE
from controller.settings import RUN_SETTINGS, Setting, SettingsError, read_settings

HELP = "Run the controller until it is told to stop."
EPILOG = (
    "Exit codes: 0 it was told to stop; 1 it could not go on; 2 a setting cannot be used; 5 it is no longer the one that "
    "writes."
)


def _run(**flags: object) -> None:
    try:
        settings = read_settings({name.replace("_", "-"): value for name, value in flags.items()}, os.environ)
    except SettingsError as error:
        for fault in error.faults:
            typer.echo(f"auto-advance run: {fault}", err=True)
        raise typer.Exit(EXIT_USAGE) from None
    from controller import daemon

    code = daemon.run(settings)
    sys.stderr.flush()
    # Threads that wait for a hanging server have nothing left to say, and must not keep the process.
    os._exit(code)


def _declared(function: Callable[..., None], settings: Sequence[Setting]) -> Callable[..., None]:
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


run = _declared(_run, RUN_SETTINGS)

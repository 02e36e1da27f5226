"""``redecide`` and ``explain``: what was recorded of decisions, decided again or told in words."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from controller.commands.clusters import Context, Folder, Kubeconfig, Namespace, Where, found, opened
from controller.commands.program import EXIT_FAILED, EXIT_USAGE, fail, say

REDECIDE_EPILOG = (
    "Exit codes: 0 every decision is the same again; 1 one differs; 2 the file, or a record in it, cannot be read."
)


def redecide(
    file: Annotated[
        str,
        typer.Argument(metavar="FILE", help="What --decision-log wrote; - reads standard input.", show_default=False),
    ],
) -> None:
    """Decide again what was recorded, and report any difference."""
    from controller.commands.ledger import redecide_command

    raise typer.Exit(redecide_command(file, sys.stdout))


def explain(
    launch: Annotated[
        str, typer.Argument(metavar="[LAUNCH]", help="NAME or NAMESPACE/NAME of the launch.", show_default=False)
    ] = "",
    decision: Annotated[
        str, typer.Option("--decision", help="The id of a decision, as status, log and events show it.")
    ] = "",
    log: Annotated[
        str,
        typer.Option("--decision-log", help="Look there instead of in the launch's status.", show_default=False),
    ] = "",
    namespace: Namespace = "",
    kubeconfig: Kubeconfig = "",
    context: Context = "",
    folder: Folder = "",
) -> None:
    """Tell what a decision was, and what it stood on."""
    from controller.commands.ledger import UnknownDecisionError, explain_decision
    from controller.core.status import UnreadableStatusError

    if not decision:
        fail("explain", "--decision: is missing; write the id of a decision, which status shows", EXIT_USAGE)
    if not launch and not log:
        fail("explain", "LAUNCH: is missing; name the launch, or the file with --decision-log", EXIT_USAGE)
    try:
        if log:
            say(explain_decision(Path(log), decision, launch))
            return
        with opened("explain", Where(namespace, kubeconfig, context, folder)) as desk:
            read = found(desk, launch, namespace)
            if isinstance(read.status, UnreadableStatusError):
                fail("explain", f"launch {read.key}: {read.status}", EXIT_FAILED)
            say(explain_decision(read.status, decision, str(read.key)))
    except UnknownDecisionError as error:
        fail("explain", error, EXIT_FAILED)
    except OSError as error:
        fail("explain", f"{log}: {error.strerror or error}; name a file that --decision-log wrote", EXIT_USAGE)

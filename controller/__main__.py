"""The command line: names the commands; what each does stands in :mod:`controller.commands`."""

from __future__ import annotations

import sys
from importlib import metadata

import typer

from controller.commands import (
    backtest,
    check,
    completion,
    explain,
    overrides,
    program,
    records,
    run,
    simulate,
    status,
    stop,
    timeline,
    validate,
)

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


@app.callback()
def _about() -> None:
    """auto-advance runs a launch by itself: it moves traffic by a plan, on proof."""


app.command(name="run", help=run.HELP, epilog=run.EPILOG)(run.run)
app.command(name="validate", help=validate.HELP, epilog=validate.EPILOG)(validate.validate)
app.command(name="check", help=check.HELP, epilog=check.EPILOG)(check.check)
app.command(name="backtest", help=backtest.HELP, epilog=backtest.EPILOG)(backtest.backtest)
app.command(name="simulate", help=simulate.HELP, epilog=simulate.EPILOG)(simulate.simulate_command)
app.command(name="status", help=status.HELP, epilog=status.EPILOG)(status.status)
for _verb in (
    overrides.hold,
    overrides.resume,
    overrides.rollback,
    overrides.approve,
    overrides.done,
    overrides.advance,
    overrides.reschedule,
    overrides.retry,
    overrides.ack,
):
    app.command(epilog=overrides.EPILOG)(_verb)
app.command(epilog=stop.EPILOG)(stop.stop)
app.command(epilog=explain.EPILOG)(explain.explain)
app.command(epilog=timeline.EPILOG)(timeline.timeline)
app.command(epilog=records.REDECIDE_EPILOG)(records.redecide)


app.command(epilog=completion.EPILOG)(completion.completion)


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(metadata.version("auto-advance"))


def main() -> None:
    """Entry point of ``auto-advance``, of ``kubectl-launch`` and of ``kubectl_complete-launch``."""
    typed = completion.asked_by(sys.argv[0], sys.argv[1:])
    if typed is not None:
        completion.answer(app, typed)
        return
    app(prog_name=program.name())


if __name__ == "__main__":
    main()

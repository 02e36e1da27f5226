"""What all commands share: the program's name, its exit codes, and how it speaks."""

from __future__ import annotations

import shutil
import sys
import time
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, TextIO

import typer

if TYPE_CHECKING:
    from rich.console import Console

EXIT_OK, EXIT_FAILED, EXIT_USAGE, EXIT_CLUSTER, EXIT_UNHEARD = 0, 1, 2, 3, 4

WIDE = 140
"""Columns of a table where no terminal says how many there are."""

_PLUGIN = "kubectl-launch"


class Format(StrEnum):
    """How a result is printed."""

    TEXT = "text"
    JSON = "json"
    YAML = "yaml"


def name() -> str:
    """What a person types to come here: ``kubectl launch`` where the program was called as kubectl's plug-in."""
    return "kubectl launch" if Path(sys.argv[0]).name.startswith(_PLUGIN) else "auto-advance"


def fail(command: str, message: object, code: int) -> NoReturn:
    """One line of why it does not go on, to standard error, and the exit code."""
    say(f"{name()} {command}: {' '.join(str(message).split())}", err=True)
    raise typer.Exit(code)


def until_of(command: str, text: str) -> float | None:
    """What ``--until`` says, in epoch seconds: an instant to come, or a duration from now; None where it is empty.

    Fails the command where it is neither.
    """
    from controller.core.units import parse_duration, parse_instant

    if not text:
        return None
    try:
        return time.time() + parse_duration(text)
    except ValueError:
        pass
    try:
        instant = parse_instant(text)
    except ValueError as error:
        fail(command, f"--until: {error}, or a duration from now such as 2h", EXIT_USAGE)
    if instant <= time.time():
        fail(command, f"--until: {text} is over; write an instant to come, or a duration such as 2h", EXIT_USAGE)
    return instant


def printable(text: str) -> str:
    """Without what a terminal would obey: reasons and file names may come from anybody."""
    return "".join(
        letter if letter.isprintable() or letter in "\t\n" else "\N{REPLACEMENT CHARACTER}" for letter in text
    )


def say(text: str, *, err: bool = False) -> None:
    """A line to standard output, or to standard error."""
    typer.echo(printable(text), err=err)


def console(stream: TextIO | None = None) -> Console:
    """Where tables are printed: colours on a terminal only, and wide where there is none."""
    from rich.console import Console

    stream = stream or sys.stdout
    width = None if stream.isatty() else max(WIDE, shutil.get_terminal_size((WIDE, 24)).columns)
    return Console(file=stream, width=width, highlight=False, soft_wrap=False, markup=False, emoji=False)

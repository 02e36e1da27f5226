"""Completion for shells, and for kubectl: commands and flags, and from the cluster the names of launches and their parts.

What may follow is answered in the protocol of kubectl: a line per word, with a tab before its explanation, and a last
line that says what the shell does besides. Our own scripts ask in the same way.
"""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from controller.commands.clusters import Where, opened
from controller.commands.program import name, printable

if TYPE_CHECKING:
    from controller.core.spec import LaunchSpec
    from controller.core.world import Launch

ASKED = "__complete"
"""The word by which the scripts ask: what stands behind it was typed so far, the unfinished word last."""
PLUGIN = "kubectl_complete-launch"
"""The name by which kubectl asks."""
EPILOG = "Exit codes: 0 printed; 2 that shell is not known."
_NO_SPACE, _NO_FILES = 2, 4
_FILES = frozenset({"config", "decision_log", "file", "files", "folder", "kubeconfig", "log", "plan", "scenario"})
"""What is a path: the shell completes it."""


class Shell(StrEnum):
    """A shell whose script we can write."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


def completion(
    shell: Annotated[Shell, typer.Argument(metavar="SHELL", help="bash, zsh or fish.", show_default=False)],
) -> None:
    """Print the script by which a shell completes commands, flags and the names of launches."""
    plugin = name() != "auto-advance"
    program = "kubectl-launch" if plugin else "auto-advance"
    head = [f"# Completion of {program} for {shell}: {_LOAD[shell].format(called=name())}"]
    if plugin:
        head.append(
            f"# `kubectl launch` is completed by kubectl's own completion, which asks {PLUGIN}: that has to be on the PATH,"
        )
        head.append("# where it is installed beside kubectl-launch.")
    body = _SCRIPTS[shell].replace("PROGRAM", program).replace("FUNCTION", "_" + program.replace("-", "_"))
    # zsh wants its mark in the first line
    lines = [body.splitlines()[0], *head, *body.splitlines()[1:]] if shell is Shell.ZSH else [*head, *body.splitlines()]
    typer.echo("\n".join(lines))


@dataclass(slots=True)
class _Line:
    """What was typed: the command's own words, its flags' values by the names of the parameters, and what is unfinished.

    ``flag`` is the parameter whose value is being typed, ``prefix`` what stands before it in the same word.
    """

    words: list[str] = field(default_factory=list)
    flags: dict[str, str] = field(default_factory=dict)
    flag: Any = None
    prefix: str = ""
    unfinished: str = ""


_Answers = Iterable[tuple[str, str]]


def answer(app: typer.Typer, typed: Sequence[str]) -> None:
    """Print what may stand in place of the last word; nothing where that is not known, and never an error."""
    directive, lines = 0, list[str]()
    # whoever completes wants no messages: no cluster, no rights and no such launch are no words
    with contextlib.suppress(Exception), contextlib.redirect_stderr(io.StringIO()):
        words, directive = _answers(typer.main.get_command(app), [*typed] or [""])
        lines = [f"{word}\t{_short(about)}" if about else word for word, about in words]
    typer.echo("\n".join([*map(printable, lines), f":{directive}"]))


def _answers(program: Any, typed: Sequence[str]) -> tuple[list[tuple[str, str]], int]:
    """The words, and kubectl's number for what the shell does besides: 4 no files, 2 no blank behind."""
    commands: Mapping[str, Any] = program.commands
    if len(typed) == 1:
        described = [(verb, _about(command)) for verb, command in commands.items() if not command.hidden]
        return _beginning(typed[0], described), _NO_FILES
    if typed[0] not in commands:
        return [], _NO_FILES
    command = commands[typed[0]]
    line = _line(command, typed[1:])
    if line.flag is None and line.unfinished.startswith("-"):
        options = (parameter for parameter in command.params if parameter.param_type_name == "option")
        flags = [(flag, parameter.help or "") for parameter in options for flag in parameter.opts]
        return _beginning(line.unfinished, [*flags, ("--help", "Show this message and exit.")]), _NO_FILES
    asked = line.flag if line.flag is not None else _argument(command, len(line.words))
    if asked is None:
        return [], _NO_FILES
    if asked.name in _FILES or asked.name.endswith("_file"):
        return [], 0
    found = _beginning(line.unfinished, _values(command, asked, line))
    directive = _NO_FILES | (_NO_SPACE if found and all(word.endswith(("=", "/")) for word, _ in found) else 0)
    return [(line.prefix + word, about) for word, about in found], directive


def _line(command: Any, typed: Sequence[str]) -> _Line:
    line = _Line(unfinished=typed[-1])
    options = {flag: parameter for parameter in command.params for flag in parameter.opts if flag.startswith("-")}
    waiting: Any = None
    for word in typed[:-1]:
        flag, equals, value = word.partition("=")
        if waiting is not None:
            line.flags[waiting.name], waiting = word, None
        elif flag in options and equals:
            line.flags[options[flag].name] = value
        elif flag in options:
            waiting = None if options[flag].is_flag else options[flag]
        elif not word.startswith("-"):
            line.words.append(word)
    flag, equals, value = line.unfinished.partition("=")
    if waiting is not None:
        line.flag = waiting
    elif equals and flag in options:
        line.flag, line.prefix, line.unfinished = options[flag], flag + equals, value
    return line


def _argument(command: Any, place: int) -> Any:
    """The argument at this place, counted from 0; the last one may take many words."""
    arguments = [parameter for parameter in command.params if parameter.param_type_name == "argument"]
    if place < len(arguments):
        return arguments[place]
    return arguments[-1] if arguments and arguments[-1].nargs == -1 else None


def _values(command: Any, asked: Any, line: _Line) -> _Answers:
    flags = line.flags
    where = Where(
        flags.get("namespace", ""),
        flags.get("kubeconfig", os.environ.get("AUTO_ADVANCE_KUBECONFIG", "")),
        flags.get("context", os.environ.get("AUTO_ADVANCE_CONTEXT", "")),
        flags.get("folder", os.environ.get("AUTO_ADVANCE_FOLDER", "")),
    )
    if asked.name == "launch":
        return _launches(where, line.unfinished)
    if asked.name == "namespace":
        return _namespaces(where)
    if asked.name == "context":
        return _contexts(where)
    if asked.name in ("what", "items") and line.words:
        return _parts(command.name, where, line.words)
    completed = asked.shell_complete(typer.Context(command, resilient_parsing=True), line.unfinished)
    return [(str(item.value), item.help or "") for item in completed]


def _launches(where: Where, unfinished: str) -> _Answers:
    with _desk(where) as desk:
        inside, slash, _ = unfinished.rpartition("/")
        shown = inside if slash else where.namespace or desk.namespace
        for launch in desk.launches(shown):
            yield str(launch.key) if slash or not shown else launch.key.name, _standing(launch)


def _namespaces(where: Where) -> _Answers:
    with _desk(where) as desk:
        counted: dict[str, list[str]] = {}
        for launch in desk.launches(""):
            counted.setdefault(launch.key.namespace, []).append(launch.key.name)
        for namespace, names in counted.items():
            yield namespace, ", ".join(names)


def _contexts(where: Where) -> _Answers:
    from controller.adapters.desk_kubernetes import contexts

    return contexts(where.kubeconfig)


def _parts(verb: str, where: Where, words: Sequence[str]) -> _Answers:
    """What of the launch's plan a verb may be about."""
    from controller.commands import meant
    from controller.commands.clusters import found
    from controller.core.plan import Plan
    from controller.core.status import Status

    with _desk(where) as desk:
        launch = found(desk, words[0], where.namespace)
    if not isinstance(launch.plan, Plan):
        return
    spec = launch.plan.spec
    ticked = {*words[1:], *(launch.status.done if isinstance(launch.status, Status) else ())}
    if verb == "advance":
        yield from _passages(spec)
    for phase in spec.phases:
        if verb == "approve":
            yield from ((of, f"asks {role}") for of, role in meant.approvals(phase).items())
        elif verb == "done":
            yield from ((item, "") for item in meant.items(phase) if item not in ticked)
        elif verb == "reschedule":
            yield f"{phase.name}=", "and an instant, such as 2025-11-03T16:00:00Z"


def _passages(spec: LaunchSpec) -> _Answers:
    from controller.core.units import format_weight

    for phase in spec.phases:
        yield phase.name, "its wait or its gate"
        for number, step in enumerate(phase.steps, start=1):
            yield f"{phase.name}/{number}", f"the step at {format_weight(step.weight)}"
        if phase.steps:
            yield f"{phase.name}/last", "every step up to the last"


@contextlib.contextmanager
def _desk(where: Where) -> Iterator[Any]:
    try:
        with opened(ASKED, where) as desk:
            yield desk
    except typer.Exit as ended:
        raise ValueError("the cluster said no") from ended


def _standing(launch: Launch) -> str:
    from controller.core.status import Status

    return launch.status.state.value if isinstance(launch.status, Status) else ""


def _about(command: Any) -> str:
    return str(command.get_short_help_str(100))


def _beginning(unfinished: str, words: _Answers) -> list[tuple[str, str]]:
    return [(word, about) for word, about in words if word.startswith(unfinished)]


def _short(text: str) -> str:
    """One line, without what would end a word or a line of the answer."""
    line = " ".join(text.split())
    return line if len(line) <= 100 else line[:97] + "..."


def asked_by(program: str, arguments: Sequence[str]) -> list[str] | None:
    """What was typed so far, where the program was called to complete it; None: it was called to do something."""
    if Path(program).name.startswith(PLUGIN):
        return [*arguments]
    return [*arguments[1:]] if arguments[:1] == [ASKED] else None


_LOAD = {
    Shell.BASH: "source <({called} completion bash)",
    Shell.ZSH: "source <({called} completion zsh), behind compinit",
    Shell.FISH: "{called} completion fish | source",
}
_BASH = r"""
FUNCTION() {
    local current="${COMP_WORDS[COMP_CWORD]}" typed directive= line
    local -a words
    read -ra words <<< "${COMP_LINE:0:COMP_POINT}"
    [[ "${COMP_LINE:COMP_POINT-1:1}" == [[:space:]] ]] && words+=("")
    typed="${words[${#words[@]}-1]}"
    # bash takes words apart at = and :, and replaces the last part alone
    [[ "$current" == [=:] ]] && current=""
    local before="${typed%"$current"}"
    COMPREPLY=()
    while IFS= read -r line; do
        directive="${line#:}"
        [[ "$line" == :* ]] && break
        line="${line%%$'\t'*}"
        COMPREPLY+=("${line#"$before"}")
    done < <(PROGRAM __complete "${words[@]:1}" 2>/dev/null)
    if [[ "$directive" == 0 ]]; then
        COMPREPLY=($(compgen -f -- "$current"))
        compopt -o filenames 2>/dev/null
    elif (( directive & 2 )); then
        compopt -o nospace 2>/dev/null
    fi
}
complete -F FUNCTION PROGRAM
"""
_ZSH = r"""
#compdef PROGRAM
FUNCTION() {
    local line directive=0
    local -a words_ found
    words_=("${(@)words[2,CURRENT]}")
    for line in "${(@f)$(PROGRAM __complete "${(@)words_}" 2>/dev/null)}"; do
        if [[ "$line" == :* ]]; then
            directive="${line#:}"
        else
            local word="${line%%$'\t'*}" about=""
            [[ "$line" == *$'\t'* ]] && about="${line#*$'\t'}"
            found+=("${word//:/\\:}${about:+:$about}")
        fi
    done
    if [[ "$directive" == 0 ]]; then
        _files
    elif (( directive & 2 )); then
        _describe -V 'PROGRAM' found -S ''
    else
        _describe -V 'PROGRAM' found
    fi
}
compdef FUNCTION PROGRAM
"""
_FISH = r"""
function _FUNCTION_answer
    set -l words (commandline -opc) (commandline -ct)
    set -l lines (PROGRAM __complete $words[2..-1] 2>/dev/null)
    if test "$lines[-1]" = ":0"
        __fish_complete_path (commandline -ct)
    else
        printf '%s\n' $lines[1..-2]
    end
end
complete -c PROGRAM -f -a '(_FUNCTION_answer)'
"""
_SCRIPTS = {Shell.BASH: _BASH.strip(), Shell.ZSH: _ZSH.strip(), Shell.FISH: _FISH.strip()}

"""What a shell is told when somebody presses the tab key: words of the command line, and what the cluster has."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import select
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from controller.__main__ import app
from controller.commands import completion
from tests.commands.grounds import PREFIX, FolderGround, call, people, programs
from tests.realparts.parts import find
from tests.test_command_line import COMMANDS, environment


@pytest.fixture
def ground(tmp_path: Path) -> FolderGround:
    found = FolderGround(tmp_path / "launches")
    found.folder.mkdir()
    found.put(people())
    found.put(people("learned"))
    found.put({**people("elsewhere"), "metadata": {"name": "elsewhere", "namespace": "stage"}})
    return found


@pytest.fixture
def completed(capsys: pytest.CaptureFixture[str], ground: FolderGround) -> Completed:
    return Completed(capsys, ground)


class Completed:
    """What stands in the answer to words that were typed so far."""

    def __init__(self, capsys: pytest.CaptureFixture[str], ground: FolderGround) -> None:
        self._capsys = capsys
        self._folder = ground.folder

    def __call__(self, *typed: str) -> list[str]:
        """The words, in the folder."""
        return [line.partition("\t")[0] for line in self.lines(*typed)[:-1]]

    def lines(self, *typed: str) -> list[str]:
        command, *rest = typed
        completion.answer(app, [command, f"--folder={self._folder}", *rest] if rest else [command])
        return self._capsys.readouterr().out.splitlines()


def test_the_first_word_is_a_command_with_what_it_does(completed: Completed) -> None:
    assert set(completed("")) == set(COMMANDS)
    assert completed.lines("ho") == ["hold\tLet no traffic be raised until `resume`.", ":4"]


def test_launches_are_named_with_where_they_stand(completed: Completed) -> None:
    assert completed("hold", "-n", "prod", "") == ["learned", "learner"]
    assert completed("hold", "") == ["prod/learned", "prod/learner", "stage/elsewhere"]
    assert completed("status", "--namespace=prod", "learner") == ["learner"]
    assert completed("explain", "stage/") == ["stage/elsewhere"]
    assert completed.lines("hold", "--namespace=stage", "") == ["elsewhere\tPending", ":4"]


def test_namespaces_are_those_that_have_launches(completed: Completed) -> None:
    assert completed.lines("hold", "-n", "") == ["prod\tlearned, learner", "stage\telsewhere", ":4"]
    assert completed("hold", "--namespace=st") == ["--namespace=stage"]


def test_what_a_verb_is_about_comes_from_the_plan(completed: Completed) -> None:
    at = ("-n", "prod", "learner")
    assert completed.lines("approve", *at, "")[:2] == ["planning/preflight\tasks vp", "planning/gate\tasks lead"]
    assert completed("approve", *at, "ramp") == ["ramp/preflight"]
    assert completed("done", *at, "") == ["planning/team", "planning/budget", "planning/design", "quiet/tests"]
    assert completed("done", *at, "planning/team", "planning/") == ["planning/budget", "planning/design"]
    assert completed("advance", *at, "ramp/")[-1] == "ramp/last"
    assert completed.lines("reschedule", *at, "qu") == ["quiet=\tand an instant, such as 2025-11-03T16:00:00Z", ":6"]
    assert completed.lines("hold", *at, "") == [":4"], "it takes one launch and no more"


def test_flags_and_their_choices_are_completed(completed: Completed) -> None:
    assert completed("hold", "--un") == ["--until"]
    assert completed("status", "-o", "") == ["text", "json", "yaml"]
    assert completed("status", "--output=j") == ["--output=json"]
    assert "--help" in completed("hold", "--")


def test_paths_are_left_to_the_shell(completed: Completed) -> None:
    assert completed.lines("validate", "") == [":0"]
    assert completed.lines("hold", "--kubeconfig", "") == [":0"]
    assert completed.lines("hold", "--reason", "") == [":4"], "a reason is nobody's file"


@pytest.mark.parametrize(
    "typed",
    [
        ("nothing", "", ""),
        ("hold", "--context"),
        ("approve", "nobody", ""),
        ("approve", "learner", ""),
        ("hold", "--kubeconfig=/none", "--folder=/none", ""),
        ("hold", "--kubeconfig=/none", ""),
        ("hold", "--", ""),
    ],
)
def test_what_cannot_be_known_is_no_error(capsys: pytest.CaptureFixture[str], typed: tuple[str, ...]) -> None:
    completion.answer(app, typed)
    shown = capsys.readouterr()
    assert re.fullmatch(r":[046]", shown.out.splitlines()[-1])
    assert shown.err == ""


def test_a_name_brings_no_controls_to_the_terminal(completed: Completed, ground: FolderGround) -> None:
    document = people("learner")
    document["spec"]["phases"][0]["gate"]["approval"]["role"] = "lead"
    document["metadata"]["annotations"] = {f"{PREFIX}hold": "\x1b[31m"}
    ground.put(document)
    assert "\x1b" not in "".join(completed.lines("status", ""))


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_says_how_it_is_loaded(shell: str) -> None:
    shown = call("completion", shell)
    assert shown.exit_code == 0
    assert f"auto-advance completion {shell}" in shown.output
    assert "PROGRAM" not in shown.output
    assert "FUNCTION" not in shown.output


def test_another_shell_is_a_usage_error_that_names_those_there_are() -> None:
    shown = call("completion", "csh")
    assert shown.exit_code == 2
    assert all(shell in shown.output for shell in ("bash", "zsh", "fish"))


@pytest.fixture
def variables(tmp_path: Path, ground: FolderGround) -> dict[str, str]:
    """An environment with the program on its PATH, in which the launches of the folder are meant."""
    path = f"{programs(tmp_path / 'bin')}{os.pathsep}{os.environ['PATH']}"
    return environment(PATH=path, AUTO_ADVANCE_FOLDER=str(ground.folder), HOME=str(tmp_path))


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("auto-advance hold prod/", ["prod/learned", "prod/learner"]),
        ("auto-advance hold --namespace=st", ["stage"]),
        ("auto-advance hold --namespace=", ["prod", "stage"]),
        ("auto-advance approve -n prod learner ramp", ["ramp/preflight"]),
        ("auto-advance reschedule -n prod learner qu", ["quiet="]),
    ],
)
def test_bash_is_told_the_words(variables: dict[str, str], line: str, words: list[str]) -> None:
    # what bash itself sets before it calls the function of a completion; it takes words apart at = and :
    script = r"""
        source <(auto-advance completion bash)
        COMP_LINE=$1 COMP_POINT=${#1} COMP_WORDS=()
        for part in $(sed 's/[=:]/ & /g' <<< "$1"); do COMP_WORDS+=("$part"); done
        [[ "$1" == *' ' ]] && COMP_WORDS+=("")
        COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
        _auto_advance
        printf '%s\n' "${COMPREPLY[@]}"
    """
    shown = subprocess.run(
        ["bash", "--norc", "-c", script, "bash", line],
        capture_output=True, text=True, check=True, timeout=60, env=variables,
    )  # fmt: skip
    assert shown.stdout.split() == words


def test_fish_is_told_the_words_and_what_they_mean(variables: dict[str, str]) -> None:
    script = "auto-advance completion fish | source; complete -C 'auto-advance approve -n prod learner '"
    shown = subprocess.run(
        [str(find("fish")), "--no-config", "-c", script],
        capture_output=True, text=True, check=True, timeout=60, env=variables,
    )  # fmt: skip
    words = dict(line.split("\t") for line in shown.stdout.splitlines())
    assert words == {"planning/preflight": "asks vp", "planning/gate": "asks lead", "ramp/preflight": "asks vp"}


@contextlib.contextmanager
def terminal(command: list[str], variables: dict[str, str]) -> Iterator[int]:
    """The other end of a terminal in which a shell runs."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=variables, close_fds=True) as shell:
        os.close(theirs)
        try:
            yield ours
        finally:
            shell.kill()
            os.close(ours)


def shown_until(ours: int, wanted: str, seconds: float = 60.0) -> str:
    shown = ""
    end = time.monotonic() + seconds
    while wanted not in shown:
        ready, _, _ = select.select([ours], [], [], max(0.0, end - time.monotonic()))
        assert ready, f"waited for {wanted!r}, seen {shown!r}"
        shown += os.read(ours, 65536).decode(errors="replace")
    return shown


def test_zsh_completes_the_word(variables: dict[str, str]) -> None:
    with terminal([str(find("zsh")), "-f", "-i"], variables) as zsh:
        os.write(zsh, b"autoload -Uz compinit; compinit -D -u; source <(auto-advance completion zsh); print re''ady\n")
        shown_until(zsh, "ready\r\n")
        os.write(zsh, b"auto-advance approve -n prod learner ra\t")
        shown_until(zsh, "ramp/preflight")
        os.write(zsh, b"\x15auto-advance hold prod/\t")
        assert "prod/learne" in shown_until(zsh, "prod/learne"), "as far as both go"

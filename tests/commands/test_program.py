"""The program as a whole: its names, its help, and how soon it starts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from controller.__main__ import app
from tests.commands.grounds import FolderGround, call, people, programs
from tests.realparts.parts import ROOT, find
from tests.test_command_line import COMMANDS, environment


@pytest.fixture
def plugin(tmp_path: Path) -> Path:
    """A folder that holds the program under the names by which kubectl looks for it."""
    return programs(tmp_path / "bin")


def test_as_kubectl_s_plugin_it_is_called_kubectl_launch(plugin: Path, tmp_path: Path) -> None:
    kubectl = find("kubectl")
    ground = FolderGround(tmp_path)
    ground.put(people())
    variables = environment(PATH=f"{plugin}{os.pathsep}{os.environ['PATH']}")

    def typed(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [str(kubectl), "launch", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120, env=variables)

    assert "Usage: kubectl launch hold [OPTIONS]" in typed("hold", "--help").stdout
    written = typed("hold", "learner", "--wait=0s", *ground.flags)
    assert (written.returncode, written.stderr) == (0, "")
    assert f"  see it with: kubectl launch status learner --folder {tmp_path}\n" in written.stdout
    assert "go on with" not in written.stdout, "nobody has heard it yet"
    refused = typed("hold", "nobody", *ground.flags)
    assert (refused.returncode, refused.stderr.partition(":")[0]) == (3, "kubectl launch hold")


@pytest.mark.parametrize("command", sorted({*COMMANDS} - {"version"}))
def test_every_command_documents_its_exit_codes(command: str) -> None:
    shown = call(command, "--help")
    assert shown.exit_code == 0
    assert "Exit codes: 0 " in " ".join(shown.stdout.split())


def test_the_commands_are_those_that_are_listed() -> None:
    assert sorted(command.name or getattr(command.callback, "__name__", "") for command in app.registered_commands) == (
        sorted(COMMANDS)
    )


SLOW = (
    "kubernetes",
    "prometheus_client",
    "prometheus_api_client",
    "pydantic",
    "rich",
    "ruamel",
    "structlog",
    "urllib3",
)


def test_what_a_command_does_not_need_is_not_imported_before_it_is_called() -> None:
    program = "import json, sys, controller.__main__; print(json.dumps(sorted(sys.modules)))"
    shown = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120, cwd=ROOT
    )
    loaded = {name.partition(".")[0] for name in json.loads(shown.stdout)}
    assert [name for name in SLOW if name in loaded] == []


@pytest.mark.parametrize("command", ["status", "hold"])
def test_a_misspelt_flag_is_a_usage_error_without_a_traceback(command: str) -> None:
    shown = call(command, "learner", "--folderr=.")
    assert shown.exit_code == 2
    assert "--folderr" in shown.output
    assert "Traceback" not in shown.output

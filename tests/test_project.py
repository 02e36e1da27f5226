"""The project holds to its own rules: linters, types, layers, and nothing in it that belongs to one machine."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.realparts.parts import ROOT

BIN = Path(sys.prefix) / "bin"
# put together here, so that this file does not name what it forbids
REGISTRIES = [
    "pypi" + ".org",
    "pythonhosted" + ".org",
    "proxy.golang" + ".org",
    "deb.debian" + ".org",
    "npmjs" + ".org",
]
MACHINE_PATHS = ["/" + folder + "/" for folder in ("work", "root", "opt/wheels")] + ["/" + "home/[a-z]"]
FOREIGN = re.compile(
    "|".join([re.escape(name) for name in REGISTRIES] + [rf"(?<![\w.}}$)]){path}" for path in MACHINE_PATHS])
)


@pytest.mark.lint
@pytest.mark.parametrize(
    "command",
    [["ruff", "check"], ["ruff", "format", "--check"], ["mypy"], ["lint-imports"]],
    ids=" ".join,
)
def test_linters_find_nothing(command: list[str]) -> None:
    said = subprocess.run([BIN / command[0], *command[1:]], cwd=ROOT, capture_output=True, text=True, check=False)
    assert said.returncode == 0, said.stdout + said.stderr


def test_no_file_names_a_registry_or_a_folder_of_one_machine() -> None:
    found = [
        f"{path}:{number}: {line.strip()[:100]}"
        for path in _files()
        for number, line in _lines(path)
        if FOREIGN.search(line)
    ]
    assert found == []


def test_locks_hold_hashes_and_every_dependency() -> None:
    for name in (
        "requirements.lock",
        "requirements-dev.lock",
        "tests/tools/go/requirements.lock",
        "deploy/image/requirements-build.lock",
    ):
        text = (ROOT / name).read_text()
        packages = re.split(r"^(?=[a-z0-9])", re.sub(r"^ *#.*\n", "", text, flags=re.MULTILINE), flags=re.MULTILINE)[1:]
        assert packages, f"{name} is empty; type `make lock`"
        assert [package for package in packages if "--hash=sha256:" not in package] == []


def test_make_help_names_every_target_that_a_person_types() -> None:
    said = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for target in ("setup", "demo", "test", "test-fast", "lint", "bench", "clean", "help"):
        assert re.search(rf"^ +make {target} ", said, re.MULTILINE), f"`make help` does not tell of `make {target}`"


def _files() -> list[Path]:
    """What git keeps or would keep; in a copy without git, whatever is there but hidden."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode == 0:
        return [Path(line) for line in listed.stdout.splitlines() if (ROOT / line).is_file()]
    paths = (path.relative_to(ROOT) for path in ROOT.rglob("*") if path.is_file())
    return [path for path in paths if not any(part.startswith(".") and part != ".ci" for part in path.parts)]


def _lines(path: Path) -> list[tuple[int, str]]:
    try:
        return list(enumerate((ROOT / path).read_text().splitlines(), start=1))
    except UnicodeDecodeError:
        return []  # pictures

"""What the words promise exists: the tables, targets of make, flags, links and examples that they name.

Left out on purpose: whether the prose is true. A person reads that.
"""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import typer
import yaml
from prometheus_client import CollectorRegistry

from controller.__main__ import app
from controller.core.checks import NOT_YET
from controller.core.overrides import LATER_VERBS
from controller.core.plan import parse
from controller.core.signals import LADDER
from controller.core.spec import BUILT_IN_METRICS
from controller.core.status import State
from controller.core.world import LaunchKey
from controller.settings import RUN_SETTINGS
from controller.telemetry import Telemetry
from tests.core.builders import Course, course
from tests.realparts.parts import ROOT

DOCUMENTS = ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md"]
DOCUMENTS += sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs").glob("*.md"))


def words(document: str) -> str:
    return (ROOT / document).read_text(encoding="utf-8")


def rows(document: str) -> list[list[str]]:
    """The cells of every table, without the heads."""
    lines = [line for line in words(document).splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
    heads = {index - 1 for index, row in enumerate(cells) if set("".join(row)) <= set("-: ")}
    return [row for index, row in enumerate(cells) if index not in heads and index - 1 not in heads]


def quoted(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


FENCED = re.compile(r"^ *```.*?^ *```$", re.DOTALL | re.MULTILINE)


def prose(document: str) -> str:
    return FENCED.sub("", words(document))


def commands(document: str) -> list[str]:
    """What stands in code, by line: only there a command is meant to be typed."""
    blocks = "\n".join(FENCED.findall(words(document)))
    return [*quoted(prose(document)), *(line.partition("  #")[0].strip() for line in blocks.splitlines())]


def generator() -> ModuleType:
    """docs/generate.py, which is no part of a package."""
    found = importlib.util.spec_from_file_location("generate_states", ROOT / "docs" / "generate.py")
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


def test_the_table_of_states_is_the_one_that_the_controller_runs() -> None:
    assert words("docs/states.md") == generator().text(), "docs/states.md is out of date; run: python docs/generate.py"


def test_every_signal_and_every_state_is_explained_once() -> None:
    explained = generator()
    assert set(explained._SIGNALS) == {signal for signal, _ in LADDER}
    assert set(explained._STATES) == set(State)


def test_the_generator_tells_of_a_file_that_is_in_step() -> None:
    command = [sys.executable, "docs/generate.py", "--check"]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (said.returncode, said.stderr) == (0, "")


def exercised() -> CollectorRegistry:
    """The registry of a daemon that has run one launch with an override, and in which something failed."""
    telemetry, key = Telemetry(CollectorRegistry()), LaunchKey("prod", "shop")
    launch: Course = course()
    launch.until_weight(50)
    launch.annotations["hold"] = "a look at the dashboards"
    decision = launch.tick()
    assert decision.news
    telemetry.decided(key, decision)
    telemetry.judged(key, decision, launch.observe().targets)
    telemetry.failed(key, "writing", OSError("refused"))
    telemetry.round_done(0.1, 0.05)
    return telemetry.registry


def served(registry: CollectorRegistry) -> Iterator[tuple[str, str, frozenset[str]]]:
    """Name, type and labels of each metric as a scraper sees it."""
    for family in registry.collect():
        name = f"{family.name}_total" if family.type == "counter" else family.name
        labels = {label for sample in family.samples for label in sample.labels}
        if family.samples:  # a counter without any sample has no labels to compare
            yield name, family.type, frozenset(labels - {"le"})
        else:
            pytest.fail(f"{name} has no sample; let `exercised` bring one about")


def test_the_metrics_are_those_that_are_served() -> None:
    documented = {
        (quoted(name)[0], kind, frozenset(quoted(labels)))
        for name, kind, labels, _ in (row for row in rows("docs/metrics.md") if len(row) == 4)
    }
    assert documented == set(served(exercised()))


TARGETS = set(re.findall(r"^([a-z][a-z-]*):", words("Makefile"), re.MULTILINE))


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_target_of_make_that_is_named_exists(document: str) -> None:
    named = {name for line in commands(document) for name in re.findall(r"^make ([a-z][a-z-]*)", line)}
    assert named - TARGETS == set()


def flags() -> set[str]:
    """Every option of every command."""
    command = typer.main.get_command(app)
    found = {"--help", *(f"--{setting.name}" for setting in RUN_SETTINGS)}
    for inner in getattr(command, "commands", {}).values():
        found |= {option for parameter in inner.params for option in parameter.opts if option.startswith("--")}
    return found


OTHER_PROGRAMS = re.compile(r"kubectl|pip|python|mypy")


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_flag_that_is_named_exists(document: str) -> None:
    ours = [line for line in commands(document) if not OTHER_PROGRAMS.match(line)]
    named = {flag for line in ours for flag in re.findall(r"(?<![\w-])--[a-z][a-z-]+", line)}
    assert named - flags() == set()


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_command_that_is_named_exists(document: str) -> None:
    known = set(getattr(typer.main.get_command(app), "commands", {}))
    named = {name for line in commands(document) for name in re.findall(r"^auto-advance ([a-z]+)", line)}
    assert named - known == set()


def test_the_readme_lists_the_defaults_of_the_settings() -> None:
    defaults = {f"--{setting.name}": setting.default for setting in RUN_SETTINGS}
    listed = {
        name: quoted(row[1])
        for row in rows("README.md")
        if len(row) == 3
        for name in quoted(row[0])
        if name.startswith("--")
    }
    assert {name: [defaults[name]] if defaults[name] else [] for name in listed} == listed


def links() -> list[tuple[str, str]]:
    """Every relative link of every document, pictures included."""
    return [
        (document, target)
        for document in [*DOCUMENTS, "rules/README.md"]
        for target in re.findall(r"\]\(([^)\s]+)\)", prose(document))
        if not re.match(r"[a-z]+:", target)
    ]


@pytest.mark.parametrize(("document", "target"), links(), ids=" -> ".join)
def test_every_relative_link_resolves(document: str, target: str) -> None:
    path, _, heading = target.partition("#")
    place = (ROOT / document).parent / path if path else ROOT / document
    assert place.exists(), f"{document}: {target} leads nowhere"
    if heading:
        assert heading in anchors(place), f"{document}: {place.name} has no heading #{heading}"


def anchors(document: Path) -> set[str]:
    """The headings as they are linked to."""
    titles = re.findall(r"^#+ (.+)$", document.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


def test_what_is_not_supported_yet_is_listed_with_what_to_write_meanwhile() -> None:
    table = [row for row in rows("docs/launch.md") if len(row) == 3 and row[1].endswith("not yet")]
    listed = [(quoted(row[0])[0], row[2]) for row in table]
    assert listed == [(later.path, later.advice) for later in NOT_YET]


def test_verbs_that_are_refused_are_named() -> None:
    section = words("docs/launch.md").partition("## Overrides")[2].partition("\n## ")[0]
    assert [verb for verb in LATER_VERBS if f"`{verb}`" not in section] == []


def test_every_built_in_metric_is_named() -> None:
    assert [metric for metric in BUILT_IN_METRICS if f"`{metric}`" not in words("docs/launch.md")] == []


def plans() -> list[tuple[str, str]]:
    """Every whole Launch that the documents show."""
    found = []
    for document in DOCUMENTS:
        for block in re.findall(r"```yaml\n(.*?)```", words(document), re.DOTALL):
            found += [(document, block)] * ("kind: Launch" in block)
    return found


@pytest.mark.parametrize(("document", "block"), plans(), ids=lambda part: part.splitlines()[0])
def test_every_plan_that_is_shown_is_good(document: str, block: str) -> None:
    plan = parse(yaml.safe_load(block))
    assert plan.warnings == (), document


def test_the_smallest_plan_of_the_readme_is_the_example() -> None:
    shown = [block for document, block in plans() if document == "README.md"]
    example = yaml.safe_load(words("deploy/examples/smallest.yaml"))
    assert [yaml.safe_load(block) for block in shown] == [example]


def test_no_line_of_the_words_is_longer_than_people_read() -> None:
    long = [
        f"{document}:{number}"
        for document in DOCUMENTS
        for number, line in enumerate(words(document).splitlines(), start=1)
        if len(line) > 120 and not line.startswith("|")
    ]
    assert long == []

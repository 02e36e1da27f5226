"""Every alert has its page and every page its alert, and what a page tells to type exists."""

import re
from pathlib import Path

import pytest
import typer
from typer.core import TyperCommand

from controller.__main__ import app
from controller.core.alerts import SEVERITIES
from rules.alerts import RULES
from tests.realparts.parts import ROOT

FOLDER = ROOT / "docs" / "runbooks"
PAGES = sorted(path for path in FOLDER.glob("*.md") if path.name != "README.md")
INDEX = (FOLDER / "README.md").read_text(encoding="utf-8")
HEADINGS = ["What it means", "What to look at", "What to do", "How it ends"]
each_page = pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)


def listed(heading: str) -> dict[str, list[str]]:
    """The rows of a table of the index by alert."""
    part = INDEX.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    found = re.findall(r"^\| \[(\w+)]\((\w+)\.md\) \|(.*)\|$", part, re.MULTILINE)
    assert all(name == page for name, page, _ in found)
    return {name: [cell.strip() for cell in cells.split("|")] for name, _, cells in found}


def test_every_alert_has_its_page_and_every_page_its_alert() -> None:
    by_rule, by_controller = listed("Sent by Prometheus"), listed("Sent by the controller")
    assert set(by_rule) == {rule.name for rule in RULES}
    assert set(by_controller) == set(SEVERITIES)
    assert {page.stem for page in PAGES} == set(by_rule) | set(by_controller)


def test_the_index_says_of_each_alert_how_severe_it_is_and_of_a_rule_for_whom() -> None:
    assert {name: cells[0] for name, cells in listed("Sent by the controller").items()} == dict(SEVERITIES)
    rows = listed("Sent by Prometheus")
    assert {rule.name: rows[rule.name][:2] for rule in RULES} == {
        rule.name: [rule.severity, rule.role] for rule in RULES
    }


def test_the_page_of_an_alert_says_the_same() -> None:
    heads = {page.stem: page.read_text(encoding="utf-8").partition("## ")[0] for page in PAGES}
    for name, severity in SEVERITIES.items():
        assert f"Severity {severity}. The controller sends it itself" in heads[name]
    for rule in RULES:
        assert f"Severity {rule.severity}, for the role {rule.role}. Prometheus sends it" in heads[rule.name]


@each_page
def test_a_page_has_its_four_parts_and_something_to_type(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert re.findall(r"^# (.*)$", text, re.MULTILINE)[0] == page.stem
    assert re.findall(r"^## (.*)$", text, re.MULTILINE) == HEADINGS
    assert all(part.strip() for part in re.split(r"^## .*$", text, flags=re.MULTILINE)[1:])
    assert re.search(r"(?:^|`)(auto-advance|kubectl|amtool) ", text, re.MULTILINE), "it says nothing to type"


@each_page
def test_the_commands_of_a_page_exist_with_their_flags(page: Path) -> None:
    commands: dict[str, TyperCommand] = dict(getattr(typer.main.get_command(app), "commands", {}))
    text = page.read_text(encoding="utf-8")
    for line in re.findall(r"(?<![\w/-])auto-advance ([a-z]+(?: [^`\n|]+)?)(?=[`\n|])", text):
        name, *words = line.split()
        if name not in commands:
            # prose about the program, not a command
            assert f"`auto-advance {name}" not in text, line
            assert f"\nauto-advance {name}" not in text.partition("## What to look at")[2], line
            continue
        options = {option for parameter in commands[name].params for option in parameter.opts}
        typed = {word for word in words if re.fullmatch(r"--?[a-z][a-z-]*", word)}
        assert typed - options == set(), line


@each_page
def test_the_links_of_a_page_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"]\(([^)#\s]+)[^)]*\)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), f"{page.name}: {target}"

"""What the words promise exists: the tables, targets of make, flags, links and examples that they name.

Left out on purpose: whether the prose is true. A person reads that.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest
import typer
import yaml
from prometheus_client import CollectorRegistry
from typer.core import TyperCommand
from typer.testing import CliRunner

from controller.__main__ import app
from controller.adapters.configuration_file import stop_of
from controller.core.checks import NOT_YET
from controller.core.configuration import Alertmanager, Backend, LimitsForm, StopForm, read_configuration
from controller.core.overrides import EXAMPLES, VERBS
from controller.core.plan import parse
from controller.core.signals import LADDER
from controller.core.spec import (
    BUILT_IN_METRICS,
    Criterion,
    Extend,
    GateCriterion,
    LaunchSpec,
    Metric,
    Model,
    Reschedule,
)
from controller.core.status import State, Status
from controller.core.world import LaunchKey
from controller.settings import RUN_SETTINGS
from controller.simulation.scenario import InvalidScenarioError, read_scenario
from controller.telemetry import Telemetry
from tests.core.builders import Course, course
from tests.generators import generator
from tests.realparts.parts import ROOT

DOCUMENTS = ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md"]
DOCUMENTS += sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs").glob("*.md"))


def words(document: str) -> str:
    return (ROOT / document).read_text(encoding="utf-8")


def rows(document: str, heading: str = "") -> list[list[str]]:
    """The cells of every table (under that heading), without the heads."""
    text = section(document, heading) if heading else words(document)
    lines = [line for line in text.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
    heads = {index - 1 for index, row in enumerate(cells) if set("".join(row)) <= set("-: ")}
    return [row for index, row in enumerate(cells) if index not in heads and index - 1 not in heads]


def section(document: str, heading: str) -> str:
    """What stands under a heading, the headings below it included."""
    text = "\n" + words(document)
    found = re.search(rf"^(#+) {re.escape(heading)}$", text, re.MULTILINE)
    assert found is not None, f"{document} has no heading {heading}"
    return re.split(rf"^#{{1,{len(found[1])}}} ", text[found.end() :], maxsplit=1, flags=re.MULTILINE)[0]


def quoted(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


FENCED = re.compile(r"^ *```.*?^ *```$", re.DOTALL | re.MULTILINE)


def prose(document: str) -> str:
    return FENCED.sub("", words(document))


def commands(document: str) -> list[str]:
    """What stands in code, by line: only there a command is meant to be typed."""
    blocks = "\n".join(FENCED.findall(words(document)))
    return [*quoted(prose(document)), *(line.partition("  #")[0].strip() for line in blocks.splitlines())]


def test_the_table_of_states_is_the_one_that_the_controller_runs() -> None:
    assert words("docs/states.md") == generator("docs").text(), (
        "docs/states.md is out of date; run: python docs/generate.py"
    )


def test_every_signal_and_every_state_is_explained_once() -> None:
    explained = generator("docs")
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
    launch.run(2)
    launch.annotations["hold"] = "a look at the dashboards"
    decision = launch.tick()
    assert decision.news
    telemetry.decided(key, decision, launch.observe())
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


OTHER_PROGRAMS = re.compile(r"kubectl|helm|pip|python|mypy|podman|gh ")


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


def test_every_verb_has_its_row_and_those_that_name_something_have_an_example_of_it() -> None:
    listed = {quoted(row[0])[0]: row for row in rows("docs/launch.md", "Overrides")}
    assert set(listed) == set(VERBS)
    for verb in EXAMPLES:
        assert re.search(r"`PHASE", listed[verb][1]), verb


def models(annotation: object) -> Iterator[tuple[type[Model], str]]:
    """The models in a type, each with `[]` where there are several of them."""
    if isinstance(annotation, type) and issubclass(annotation, Model):
        yield annotation, ""
    for inner in get_args(annotation):
        many = "[]" if str(annotation).startswith("tuple") else ""
        for model, path in models(inner):
            yield model, f"{many}{path}"


OUTCOMES: tuple[type[Model], ...] = (Extend, Reschedule)


def fields(model: type[Model], before: str = "") -> Iterator[str]:
    """The path of every field of a plan, criteria, metrics and outcomes aside: `targets[].route.name`."""
    for name, field in model.model_fields.items():
        if issubclass(model, Criterion) and name in {*Criterion.model_fields, *GateCriterion.__annotations__}:
            continue
        path = f"{before}{field.alias or name}"
        inside = [(inner, many) for inner, many in models(field.annotation) if inner not in OUTCOMES]
        yield path + ("[]" if any(many for _, many in inside) else "")
        for inner, many in inside:
            if inner is not Metric:
                yield from fields(inner, f"{path}{many}.")


def test_every_field_of_a_plan_is_told_and_no_other() -> None:
    told = {path.removesuffix("[]") for row in rows("docs/launch.md", "Fields") for path in quoted(row[0])}
    refused = tuple(f"{later.path}[]." for later in NOT_YET)
    there = {path.removesuffix("[]") for path in fields(LaunchSpec) if not path.startswith(refused)}
    leads_on = {path for path in there if any(other.startswith((f"{path}.", f"{path}[].")) for other in there)}
    assert there - leads_on - told == set(), "docs/launch.md, Fields: a field has no row"
    assert told - there == set(), "docs/launch.md, Fields: a row is of no field"


def test_every_field_of_a_criterion_an_outcome_and_a_metric_is_told() -> None:
    later = {row[0].strip("`").rpartition(".")[2] for row in rows("docs/launch.md", "Not supported yet")}
    in_tables = {name for row in rows("docs/launch.md", "Criteria") for name in quoted(row[0])}
    names = {field.alias or name for name, field in GateCriterion.model_fields.items()} - {"minimum"}
    names |= {"minimum.requests", "minimum.bad"}
    assert names - in_tables - later == set()
    assert in_tables - names == set()
    outcomes = section("docs/launch.md", "Outcomes")
    for outcome in OUTCOMES:
        assert [name for name in outcome.model_fields if not re.search(rf"\b{name}\b", outcomes)] == []
    metrics = section("docs/launch.md", "Metrics")
    sources = {model for field in Metric.model_fields.values() for model, _ in models(field.annotation)}
    kinds: tuple[type[Model], ...] = (Metric, *sources)
    names = {field.alias or name for model in kinds for name, field in model.model_fields.items()}
    assert {name for name in names if not re.search(rf"\b{name}\b", metrics)} == set()


def test_every_field_of_status_is_told_and_no_other() -> None:
    told = {name.removesuffix("[]") for row in rows("docs/launch.md", "Status") for name in quoted(row[0])}
    assert told == {field.alias for field in Status.model_fields.values()}


VERB_COMMANDS = {"hold", "resume", "rollback", "retry", "approve", "done", "advance", "reschedule", "ack"}
LOOKING = {"status", "explain", "timeline"}
PAGE = "docs/command-line.md"


def typed() -> dict[str, TyperCommand]:
    """Every command by its name."""
    return dict(getattr(typer.main.get_command(app), "commands", {}))


def options(text: str) -> set[str]:
    return {flag for line in quoted(text) for flag in re.findall(r"(?<![\w-])--[a-z][a-z-]+", line)}


def options_of_tables(heading: str) -> set[str]:
    return {flag for row in rows(PAGE, heading) for flag in options(row[0])}


def test_every_command_has_a_section_and_an_example_and_no_section_is_of_another() -> None:
    page = words(PAGE)
    headings = set(re.findall(r"^##+ ([a-z]+)$", page, re.MULTILINE))
    assert headings == set(typed())
    without = {name for name in headings if f"$ auto-advance {name}" not in section(PAGE, name)}
    assert without == {"simulate"}  # it has a page of its own
    overview = page.partition("## ")[0]
    assert {name for name in headings if not re.search(rf"\b{name}\b", overview)} == set()


@pytest.mark.parametrize("name", sorted(set(typed()) - {"run"}))
def test_every_option_of_a_command_is_told_and_no_other(name: str) -> None:
    own = {option for each in typed()[name].params for option in each.opts if option.startswith("--")} - {"--help"}
    told = options_of_tables(name)
    if name in VERB_COMMANDS:
        told |= options(section(PAGE, name))
        told |= options_of_tables("What the verbs have in common") - (
            {"--reason", "--by"} if name == "resume" else set()
        )
    if name in VERB_COMMANDS | LOOKING:
        told |= options_of_tables("Which cluster, which launch")
    assert told == own


@pytest.mark.parametrize("name", sorted(set(typed()) - {"version"}))
def test_the_exit_codes_of_a_command_are_those_that_its_help_tells(name: str) -> None:
    command = typed()[name]
    told = set(re.findall(r"(?:[:;,] |\. )(\d) [a-z]", f". {command.epilog or ''}"))
    page = {"simulate": words("docs/simulate.md")}.get(name, section(PAGE, name))
    if name in VERB_COMMANDS:
        page = section(PAGE, "What the verbs have in common")
    shared = {row[0] for row in rows(PAGE, "Which cluster, which launch") if row[0].isdecimal()}
    codes = set(re.findall(r"(\d) ", page.partition("Exit codes: ")[2].split("\n\n")[0])) or shared
    assert codes == told


def blocks(document: str, kind: str) -> list[str]:
    """The text of every block in a document that is marked as this kind, or (empty) as none."""
    found = (block.splitlines(keepends=True) for block in FENCED.findall(words(document)))
    return ["".join(lines[1:-1]) for lines in found if lines[0].strip() == f"```{kind}"]


def test_the_simulation_that_is_shown_is_what_comes_out(tmp_path: Path) -> None:
    plan, scenario = (text for text in blocks("docs/simulate.md", "yaml"))
    shown = next(text for text in blocks("docs/simulate.md", "") if "WaitingForStart" in text)
    (tmp_path / "plan.yaml").write_text(plan)
    (tmp_path / "bad.yaml").write_text(scenario)
    arguments = ["simulate", str(tmp_path / "plan.yaml"), "--scenario", str(tmp_path / "bad.yaml")]
    printed = CliRunner().invoke(app, arguments).stdout.splitlines()
    assert len(printed) == len(shown.splitlines())
    for line, real in zip(shown.splitlines(), printed, strict=True):
        assert real.startswith(line.removesuffix("...").rstrip()), real


@pytest.mark.parametrize(("heading", "inside"), [("The scenario file", ""), ("A track", "canary")])
def test_every_field_of_a_scenario_is_told_and_no_other(heading: str, inside: str) -> None:
    plan = parse(yaml.safe_load(blocks("docs/simulate.md", "yaml")[0]))
    nonsense: dict[str, object] = {"zzzzzz": 1}
    with pytest.raises(InvalidScenarioError) as refused:
        read_scenario({inside: [nonsense | {"from": "0s"}]} if inside else nonsense, plan)
    said = next(str(fault) for fault in refused.value.faults if "zzzzzz" in str(fault))
    known = set(re.findall(r"[a-z]+", said.partition("remove it, or write")[2])) - {"or"}
    told = {name for row in rows("docs/simulate.md", heading) for name in quoted(row[0])}
    if not inside:
        told -= {name for row in rows("docs/simulate.md", "A track") for name in quoted(row[0])}
    assert told == known


def test_every_module_of_the_core_has_its_place_in_the_architecture() -> None:
    told = {name for row in rows("ARCHITECTURE.md", "The core") for name in quoted(row[0])}
    there = {path.stem for path in (ROOT / "controller" / "core").glob("*.py")} - {"__init__"}
    assert told == there


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


def test_the_example_of_a_configuration_is_shown_and_is_good() -> None:
    example = words("deploy/examples/config.yaml")
    assert [block for block in blocks("docs/configuration.md", "yaml") if "prometheus:" in block] == [example]
    found = read_configuration(yaml.safe_load(example))
    told = {
        name.partition("[")[0].partition(".")[0] for row in rows("docs/configuration.md") for name in quoted(row[0])
    }
    sections = {"prometheus", "alertmanagers", "metrics", "guardrails", "limits", "rawPromQL", "confine"}
    assert sections <= told
    assert set(yaml.safe_load(example)) == sections, "the example has every section"
    assert set(found.backends) == {"default", "eu", "us"}


def test_the_example_of_a_stop_has_every_field_and_is_good() -> None:
    (example,) = [block for block in blocks("docs/configuration.md", "yaml") if "reason:" in block]
    assert stop_of(example).until is not None
    fields = {str(field.alias) for field in StopForm.model_fields.values()}
    assert set(yaml.safe_load(example)) == fields
    assert fields <= {name for row in rows("docs/configuration.md") for name in quoted(row[0])}


def test_every_field_of_the_configuration_is_told() -> None:
    told = {name for row in rows("docs/configuration.md") for name in quoted(row[0])}
    for model, place in (
        (Backend, "prometheus.NAME"),
        (Alertmanager, "alertmanagers[]"),
        (LimitsForm, "limits"),
    ):
        there = {f"{place}.{field.alias}" for field in model.model_fields.values()}
        assert there - told == set()
        assert {name for name in told if name.startswith(f"{place}.")} - there == set()

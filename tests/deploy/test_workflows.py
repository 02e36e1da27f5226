"""The workflows: they do what make does, with the rights that this takes, from actions that cannot be swapped at will."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.realparts.parts import ROOT

FOLDER = ROOT / ".github" / "workflows"
WORKFLOWS = ("chart.yml", "image.yml", "test.yml")
TARGETS = set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))
READS = {"contents": "read"}
PUBLISHES = {"contents": "read", "packages": "write", "id-token": "write", "attestations": "write"}
# a major version follows its maker's fixes; anything looser follows whatever is pushed
PINNED = re.compile(r"[\w.-]+/[\w./-]+@(v\d+|[0-9a-f]{40})")


def workflow(name: str) -> dict[str, Any]:
    # as text alone: `on` is a truth value to YAML
    return dict(yaml.load((FOLDER / name).read_text(), yaml.BaseLoader))  # noqa: S506 - it makes texts and nothing else


def jobs(name: str) -> dict[str, dict[str, Any]]:
    return dict(workflow(name)["jobs"])


def steps(name: str) -> list[dict[str, Any]]:
    return [step for job in jobs(name).values() for step in job["steps"]]


def test_these_are_all_workflows() -> None:
    assert sorted(path.name for path in FOLDER.iterdir()) == sorted(WORKFLOWS)


@pytest.mark.parametrize("name", WORKFLOWS)
def test_what_is_run_is_a_target_of_make_that_exists(name: str) -> None:
    run = [step["run"] for step in steps(name) if "run" in step]
    assert run
    for line in run:
        found = re.fullmatch(r"(?:sudo --preserve-env )?make ([a-z-]+)", line)
        assert found is not None, line
        assert found[1] in TARGETS


@pytest.mark.parametrize("name", WORKFLOWS)
def test_what_others_wrote_is_pinned(name: str) -> None:
    assert [step["uses"] for step in steps(name) if not PINNED.fullmatch(step.get("uses", "a/b@v1"))] == []


@pytest.mark.parametrize("name", WORKFLOWS)
def test_a_job_may_read_the_sources_and_only_one_of_a_tag_may_publish(name: str) -> None:
    assert workflow(name)["permissions"] == {}
    assert "pull_request_target" not in workflow(name)["on"]
    for title, job in jobs(name).items():
        if title == "publish":
            assert job["permissions"] == PUBLISHES
            assert job["if"].startswith("github.ref_type == 'tag' && ")
            assert job["environment"] == "release"
        else:
            assert job["permissions"] == READS
            assert "secrets." not in yaml.safe_dump(job)


@pytest.mark.parametrize("name", WORKFLOWS)
def test_the_token_is_not_left_on_the_disk_and_no_job_runs_for_ever(name: str) -> None:
    for step in steps(name):
        if step.get("uses", "").startswith("actions/checkout@"):
            assert step["with"]["persist-credentials"] == "false"
    for job in jobs(name).values():
        assert 0 < int(job["timeout-minutes"]) <= 90
        assert not job["runs-on"].endswith("-latest")


@pytest.mark.parametrize(("name", "subject"), [("image.yml", "subject-digest"), ("chart.yml", "subject-path")])
def test_what_is_published_has_its_provenance_attested(name: str, subject: str) -> None:
    job = jobs(name)["publish"]["steps"]
    (provenance,) = (step for step in job if step.get("uses", "").startswith("actions/attest-build-provenance@"))
    pushed = next(number for number, step in enumerate(job) if step.get("run", "").endswith("-push"))
    assert provenance["with"][subject]
    assert job.index(provenance) > pushed


def test_what_the_image_is_made_of_is_attested_out_of_the_file_that_make_writes() -> None:
    job = jobs("image.yml")["publish"]["steps"]
    (bill,) = (step for step in job if step.get("uses", "").startswith("actions/attest-sbom@"))
    assert bill["with"]["sbom-path"] == "build/image/sbom.cdx.json"
    push = next(step for step in job if step.get("run") == "make image-push")
    assert bill["with"]["subject-digest"] == f"${{{{ steps.{push['id']}.outputs.digest }}}}"


def test_a_change_of_what_the_image_is_built_from_builds_it() -> None:
    paths = workflow("image.yml")["on"]["pull_request"]["paths"]
    sent = re.findall(r"^!(\S+)", (ROOT / ".dockerignore").read_text(), re.MULTILINE)
    for name in ["Dockerfile", "Makefile", ".dockerignore", *sent]:
        whole = f"{name}/**" if Path(ROOT, name).is_dir() else name
        assert whole in paths or name == "README.md", name

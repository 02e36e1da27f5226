"""The bill of materials: what `make sbom` writes, and what it is made of."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from deploy.image import sbom
from deploy.image.assemble import LEFT_OUT_PACKAGES, left_out
from tests.realparts.parts import ROOT

LOCK = ROOT / "requirements.lock"


def package(folder: Path, name: str, version: str, *headers: str) -> None:
    """A package as pip leaves it, of nothing but its metadata."""
    about = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    about.mkdir(parents=True)
    lines = ["Metadata-Version: 2.4", f"Name: {name}", f"Version: {version}", *headers]
    (about / "METADATA").write_text("\n".join(lines) + "\n")


def document(folder: Path, **options: Any) -> dict[str, Any]:
    return sbom.document(sbom.installed(folder), **{"epoch": 1_700_000_000, **options})


def complaint(bill: dict[str, Any]) -> object:
    return JsonStrictValidator(SchemaVersion.V1_6).validate_str(sbom.text(bill))


@pytest.fixture
def few(tmp_path: Path) -> Path:
    package(tmp_path, "auto-advance", "1.2.3", "Requires-Dist: Client_Lib>=2", 'Requires-Dist: extra; extra == "x"')
    package(tmp_path, "client-lib", "2.0", "License-Expression: MIT OR Apache-2.0", "Requires-Dist: aiohttp<4",
            'Requires-Dist: not-here; sys_platform == "win32"', "Summary: A client.")  # fmt: skip
    package(tmp_path, "aiohttp", "3.0", "License: Apache 2", "Requires-Dist: wheels-of-it")
    package(tmp_path, "wheels-of-it", "1", "Classifier: License :: OSI Approved :: MIT License")
    return tmp_path


def test_the_bill_of_the_locked_packages_follows_the_schema_and_lists_each() -> None:
    said = subprocess.run(
        [sys.executable, "-m", "deploy.image.sbom", "--lock", str(LOCK)],
        cwd=ROOT,
        env={**os.environ, "SOURCE_DATE_EPOCH": "1700000000"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert said.returncode == 0, said.stderr
    bill = json.loads(said.stdout)
    assert complaint(bill) is None
    listed = {component["name"]: component["version"] for component in bill["components"]}
    assert listed.pop("auto-advance")
    locked = re.findall(r"^([\w.-]+)==(\S+)(?! ;)(?: \\)?$", LOCK.read_text(), re.MULTILINE)
    assert listed == {sbom.normal(name): version for name, version in locked}


def test_the_same_contents_have_the_same_serial_number_and_others_another(few: Path) -> None:
    first, again, later = document(few), document(few), document(few, epoch=1_800_000_000)
    assert first == again
    assert uuid.UUID(first["serialNumber"]) != uuid.UUID(later["serialNumber"])


def test_a_package_is_listed_with_its_licence_its_archive_and_what_it_needs(few: Path) -> None:
    bill = document(few, hashes={"client-lib": "ab" * 32}, python="3.13.1", debian=[
        {"Package": "libstdc++6", "Version": "1:2.3+b1", "Architecture": "amd64"},
    ])  # fmt: skip
    assert complaint(bill) is None
    components = {component["name"]: component for component in bill["components"]}
    assert components["client-lib"] == {
        "type": "library",
        "bom-ref": "pkg:pypi/client-lib@2.0",
        "name": "client-lib",
        "version": "2.0",
        "purl": "pkg:pypi/client-lib@2.0",
        "description": "A client.",
        "licenses": [{"expression": "MIT OR Apache-2.0"}],
        "hashes": [{"alg": "SHA-256", "content": "ab" * 32}],
    }
    assert components["aiohttp"]["licenses"] == [{"license": {"name": "Apache 2"}}]
    assert components["wheels-of-it"]["licenses"] == [{"license": {"name": "MIT License"}}]
    assert components["libstdc++6"]["purl"] == "pkg:deb/debian/libstdc%2B%2B6@1%3A2.3%2Bb1?arch=amd64"
    # a name on the index that somebody else may take is not ours
    assert components["auto-advance"]["purl"] == "pkg:generic/auto-advance@1.2.3"
    needs = {entry["ref"]: entry["dependsOn"] for entry in bill["dependencies"]}
    assert needs["pkg:generic/auto-advance@1.2.3"] == ["pkg:pypi/client-lib@2.0"]
    assert needs["pkg:pypi/client-lib@2.0"] == ["pkg:pypi/aiohttp@3.0"]


def test_what_only_a_left_out_package_needs_is_left_out_with_it(few: Path) -> None:
    assert "aiohttp" in LEFT_OUT_PACKAGES
    assert left_out(few) == {"aiohttp", "wheels-of-it"}


def test_both_spellings_of_pips_report_are_read(tmp_path: Path) -> None:
    reports = []
    for number, archive in enumerate(({"hash": "sha256=aa"}, {"hash": "sha256=bb", "hashes": {"sha256": "bb"}})):
        item = {"metadata": {"name": f"Some_{number}"}, "download_info": {"archive_info": archive}}
        reports.append(tmp_path / f"{number}.json")
        reports[-1].write_text(json.dumps({"install": [item]}))
    assert sbom.hashes(reports) == {"some-0": "aa", "some-1": "bb"}


def test_a_folder_without_our_package_is_refused(tmp_path: Path) -> None:
    package(tmp_path, "client-lib", "2.0")
    with pytest.raises(LookupError, match="auto-advance is not installed there"):
        document(tmp_path)

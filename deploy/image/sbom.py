"""The bill of materials in CycloneDX 1.6: which packages there are, of which version, out of which archive, for whom.

`python -m deploy.image.sbom --lock requirements.lock` prints that of the locked packages as they are installed for this
Python; the image's own is made while it is assembled. Needs only the standard library. The same contents give the same
document: its serial number is drawn from them, its time is SOURCE_DATE_EPOCH.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import sys
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any
from urllib.parse import quote

OURS = "auto-advance"
_SERIALS = uuid.uuid5(uuid.NAMESPACE_DNS, "autoadvance.dev")


@dataclass(frozen=True)
class Installed:
    """One Python package as its own metadata tells of it."""

    name: str  # in the spelling of the index: lower case, dashes
    version: str
    folder: Path  # its .dist-info
    needs: tuple[str, ...]  # names of packages, extras left out; some may not be for this platform
    licenses: tuple[dict[str, Any], ...]
    summary: str


def installed(packages: Path) -> list[Installed]:
    """The packages in a folder that pip installed to, sorted by name."""
    found = []
    for distribution in metadata.distributions(path=[str(packages)]):
        about = distribution.metadata
        needs = {
            normal(name[0])
            for line in distribution.requires or ()
            if "extra ==" not in line.partition(";")[2] and (name := re.match(r"[\w.-]+", line))
        }
        found.append(
            Installed(
                normal(about["Name"]),
                about["Version"],
                Path(str(distribution.locate_file(""))) / _dist_info(distribution),
                tuple(sorted(needs)),
                _licenses(about),
                _line(about, "Summary"),
            )
        )
    return sorted(found, key=lambda package: package.name)


def top_folders(package: Installed) -> set[str]:
    """The names at the top of the folder that belong to this package alone, from pip's own record of it."""
    distribution = metadata.Distribution.at(package.folder)
    return {file.parts[0] for file in distribution.files or () if file.parts[0] not in {"..", "bin"}}


def normal(name: str) -> str:
    """A package's name as the index compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def locked(lock: Path) -> dict[str, str]:
    """The versions in a lock, by name."""
    pins = re.findall(r"^([\w.-]+)==([^ ;\\]+)", lock.read_text(), re.MULTILINE)
    return {normal(name): version for name, version in pins}


def hashes(reports: Iterable[Path]) -> dict[str, str]:
    """The SHA-256 of the archive that pip installed each package from, out of what it wrote with --report."""
    archives = {
        normal(item["metadata"]["name"]): item["download_info"]["archive_info"]
        for report in reports
        for item in json.loads(report.read_text())["install"]
    }
    # pip before 23.1 knows the second spelling only
    return {
        name: about["hashes"]["sha256"] if "hashes" in about else about["hash"].removeprefix("sha256=")
        for name, about in archives.items()
    }


def document(
    packages: Sequence[Installed],
    *,
    epoch: int,
    hashes: Mapping[str, str] | None = None,
    python: str = "",
    debian: Sequence[Mapping[str, str]] = (),
) -> dict[str, Any]:
    """The whole bill. ``epoch`` in Unix seconds, ``debian`` as stanzas of dpkg's status; both may be left out.

    Raises:
        LookupError: our own package is not among the packages.
    """
    ours = next((package for package in packages if package.name == OURS), None)
    if ours is None:
        raise LookupError(f"sbom.py: {OURS} is not installed there; give a folder that holds it")
    names = {package.name for package in packages}
    components = [_python_package(package, (hashes or {}).get(package.name, "")) for package in packages]
    depends = {
        _purl(package): [_ref(need, packages) for need in package.needs if need in names] for package in packages
    }
    system = [_debian_package(fields) for fields in debian]
    if python:
        system.append(
            {
                "type": "platform",
                "bom-ref": f"pkg:generic/python@{python}",
                "name": "python",
                "version": python,
                "purl": f"pkg:generic/python@{python}",
                "cpe": f"cpe:2.3:a:python:python:{python}:*:*:*:*:*:*:*",
            }
        )
    components += system
    about = {
        "type": "container" if python else "application",
        "bom-ref": f"{OURS}-{ours.version}",
        "name": OURS,
        "version": ours.version,
    }
    depends[about["bom-ref"]] = [_purl(ours), *(component["bom-ref"] for component in system)]
    bill: dict[str, Any] = {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "timestamp": datetime.fromtimestamp(epoch, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "component": about,
        },
        "components": sorted(components, key=lambda component: str(component["bom-ref"])),
        "dependencies": [{"ref": ref, "dependsOn": sorted(set(on))} for ref, on in sorted(depends.items())],
    }
    contents = hashlib.sha256(json.dumps(bill, sort_keys=True).encode()).hexdigest()
    return {**bill, "serialNumber": f"urn:uuid:{uuid.uuid5(_SERIALS, contents)}"}


def text(document: Mapping[str, Any]) -> str:
    """The document as the file that is kept."""
    return json.dumps(document, indent=1, sort_keys=True) + "\n"


def _python_package(package: Installed, archive: str) -> dict[str, Any]:
    component: dict[str, Any] = {
        "type": "application" if package.name == OURS else "library",
        "bom-ref": _purl(package),
        "name": package.name,
        "version": package.version,
        "purl": _purl(package),
    }
    if package.summary:
        component["description"] = package.summary
    if package.licenses:
        component["licenses"] = list(package.licenses)
    if archive:
        component["hashes"] = [{"alg": "SHA-256", "content": archive}]
    return component


def _debian_package(fields: Mapping[str, str]) -> dict[str, Any]:
    name, version = fields["Package"], fields["Version"]
    purl = f"pkg:deb/debian/{quote(name, safe='')}@{quote(version, safe='')}?arch={fields['Architecture']}"
    return {"type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl}


def _purl(package: Installed) -> str:
    # ours is on no index, and another's package of that name must not be taken for it
    kind = "generic" if package.name == OURS else "pypi"
    return f"pkg:{kind}/{package.name}@{package.version}"


def _ref(name: str, packages: Sequence[Installed]) -> str:
    return next(_purl(package) for package in packages if package.name == name)


def _licenses(about: metadata.PackageMetadata) -> tuple[dict[str, Any], ...]:
    """What the package says: an SPDX expression, else the names it was filed under, else a line of its own."""
    expression = _line(about, "License-Expression")
    if expression:
        return ({"expression": expression},)
    filed = about.get_all("Classifier") or []
    names = [line.split(" :: ")[-1] for line in filed if line.startswith("License :: ") and line.count("::") > 1]
    if not names and (line := _line(about, "License")):
        names = [line]
    return tuple({"license": {"name": name}} for name in names)


def _line(about: metadata.PackageMetadata, field: str) -> str:
    """A field of one line; empty where it is absent, or a whole text."""
    said = [value.strip() for value in about.get_all(field) or [] if "\n" not in value.strip()]
    return str(said[0]) if said else ""


def _dist_info(distribution: metadata.Distribution) -> str:
    # the one attribute that tells the folder is private; its name follows from the metadata in every wheel
    return Path(str(distribution._path)).name  # type: ignore[attr-defined]  # noqa: SLF001


def main() -> None:
    """Print the bill of the locked packages in this Python's environment, ours included; exit 1 where one is missing."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lock", type=Path, required=True)
    options = parser.parse_args()
    pins = locked(options.lock)
    folders = [Path(folder) for folder in sys.path if folder.endswith(("site-packages", "dist-packages"))]
    found = [package for folder in folders for package in installed(folder)]
    chosen = [package for package in found if package.name == OURS or package.name in pins]
    strange = [f"{each.name} {each.version}" for each in chosen if pins.get(each.name, each.version) != each.version]
    if strange:
        raise SystemExit(f"sbom.py: {', '.join(strange)}: not the version of {options.lock}; run make setup")
    epoch = int(os.environ.get("SOURCE_DATE_EPOCH") or 0)
    sys.stdout.write(text(document(chosen, epoch=epoch)))


if __name__ == "__main__":
    main()

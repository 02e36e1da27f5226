"""The container image: built twice and the same, nothing in it that is not needed, and what is in it runs."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import subprocess
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from controller.__main__ import app
from deploy.image import sbom
from deploy.image.assemble import LEFT_OUT_PACKAGES, SBOM
from deploy.image.contents import MAX_COMPRESSED_BYTES, Archive, read
from tests.invariants import violations
from tests.launch.stage import Daemon, launch_document, stage
from tests.realparts import containers
from tests.realparts.containers import USER, Builder, Unpacked
from tests.realparts.kube import KubeApiserver
from tests.realparts.parts import ROOT, find
from tests.realparts.server import free_port, wait_until

pytestmark = pytest.mark.xdist_group("image")  # one pair of builds serves all tests

EPOCH = 1_700_000_000  # 2023-11-14 22:13:20 UTC
ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"
CONFIG = "/etc/auto-advance/config.yaml"
LEASES = {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["get", "create", "update"]}
EVERY_MODULE = """
import importlib, pkgutil, controller
for module in pkgutil.walk_packages(controller.__path__, "controller."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
        print(module.name)
"""
WRITABLE = """
import os
for folder, folders, files in os.walk("/"):
    folders[:] = [name for name in folders if not folder == "/" or name not in ("dev", "proc")]
    for path in [folder, *(os.path.join(folder, name) for name in files)]:
        if os.access(path, os.W_OK):
            print(path)
"""


@dataclass(frozen=True)
class Built:
    """Two builds of the same sources, what is in them by path, and the first one unpacked."""

    first: Archive
    second: Archive
    files: dict[str, tuple[Any, ...]]
    files_of_second: dict[str, tuple[Any, ...]]
    printed: str
    unpacked: Unpacked


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    containers.needs_root()
    folder = tmp_path_factory.mktemp("image")
    builder = Builder(folder / "store")
    base = builder.load_base("localhost/base")
    one, other = containers.copy_sources(folder / "here"), containers.copy_sources(folder / "elsewhere" / "too")
    for path in other.rglob("*"):  # another clone, by another person, on another day
        path.chmod(path.stat().st_mode | 0o020)
        os.utime(path, (1, 1))
    same = {"SOURCE_DATE_EPOCH": str(EPOCH), "REVISION": "0123456789abcdef"}
    printed = builder.make_image(one, folder / "first", base_name=base, **same)
    builder.make_image(other, folder / "second", base_name=base, **same)
    first, second = (read(folder / name / "image.tar") for name in ("first", "second"))
    root = folder / "root"
    root.mkdir()
    with first.tree() as tree:
        tree.extractall(root, filter="tar", numeric_owner=True)
    variables = dict(line.split("=", 1) for line in first.config["config"]["Env"])
    unpacked = Unpacked(root, variables)
    unpacked.prepare()
    return Built(first, second, contents(first), contents(second), printed, unpacked)


@pytest.fixture(scope="module")
def inside(built: Built) -> Unpacked:
    return built.unpacked


@pytest.fixture(scope="module")
def bill(inside: Unpacked) -> dict[str, Any]:
    return dict(json.loads((inside.root / SBOM).read_text()))


def contents(archive: Archive) -> dict[str, tuple[Any, ...]]:
    """Everything of each path that an image can differ in."""
    with archive.tree() as tree:
        return {
            member.name: (
                member.type,
                member.mode,
                member.uid,
                member.gid,
                member.mtime,
                member.linkname,
                hashlib.sha256(file.read()).hexdigest()
                if member.isreg() and (file := tree.extractfile(member))
                else "",
            )
            for member in tree
        }


def pod() -> dict[str, Any]:
    """The pod as it is installed."""
    deployment = yaml.safe_load((ROOT / "deploy" / "base" / "deployment.yaml").read_text())
    return dict(deployment["spec"]["template"]["spec"])


def test_two_builds_give_the_same_image_to_the_last_byte(built: Built) -> None:
    first, second = built.files, built.files_of_second
    assert [name for name in sorted(first | second) if first.get(name) != second.get(name)] == []
    assert built.first.config == built.second.config
    assert built.first.digest == built.second.digest


def test_no_time_in_the_image_is_that_of_its_build(built: Built, bill: dict[str, Any]) -> None:
    assert {about[4] for about in built.files.values()} == {EPOCH}
    assert built.first.config["created"].startswith("2023-11-14T22:13:20")
    assert bill["metadata"]["timestamp"] == "2023-11-14T22:13:20Z"


def test_the_image_is_light_and_its_build_says_how_light(built: Built, bill: dict[str, Any]) -> None:
    print(built.printed[built.printed.rindex("digest ") :])
    assert built.first.compressed_bytes <= MAX_COMPRESSED_BYTES == 120_000_000
    said = re.search(r"^compressed +([\d.]+) MB", built.printed, re.MULTILINE)
    assert said is not None
    assert float(said[1]) == pytest.approx(built.first.compressed_bytes / 1e6, abs=0.05)
    assert re.search(
        r"^packages +\d+ from Python's index, \d+ from Debian, ours and Python$", built.printed, re.MULTILINE
    )
    assert built.first.path.with_name("digest").read_text() == built.first.digest
    assert json.loads(built.first.path.with_name("sbom.cdx.json").read_text()) == bill


def test_an_image_that_is_too_heavy_fails_its_build(built: Built, tmp_path: Path) -> None:
    program = "import sys; from deploy.image import contents; contents.MAX_COMPRESSED_BYTES = 1000; "
    program += f"sys.argv[1:] = ['{tmp_path}/image.tar']; sys.exit(contents.main())"
    os.link(built.first.path, tmp_path / "image.tar")
    said = subprocess.run(["python3", "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert said.returncode == 1
    assert "heavier than 0 MB compressed" in said.stderr


def test_the_only_programs_are_python_and_ours(built: Built) -> None:
    loader = re.compile(r"usr/lib(64|/[\w-]+)?/ld-linux[\w.-]*")
    programs = {
        name
        for name, about in built.files.items()
        if about[0] == tarfile.REGTYPE and about[1] & 0o111 and ".so" not in Path(name).name
    }
    names = {re.sub(r"python3\.\d+$", "python3.x", name) for name in programs if not loader.fullmatch(name)}
    assert names == {"usr/bin/python3.x", "usr/local/bin/auto-advance", "usr/local/bin/kubectl-launch"}


def test_neither_pip_nor_the_left_out_half_of_the_client_nor_tests_nor_times_of_byte_code_are_in_it(
    built: Built,
) -> None:
    names = list(built.files)
    for strange in (
        r"/(pip|setuptools|wheel|ensurepip|venv)/",
        r"/kubernetes/aio/",
        r"-packages/aiohttp/",
        r"/tests?/",
        r"/sh$",
    ):
        assert [name for name in names if re.search(strange, f"/{name}")] == []
    with built.first.tree() as tree:
        compiled = {member.name: tree.extractfile(member) for member in tree if member.name.endswith(".pyc")}
        assert compiled
        flags = {name: file.read(8)[4:] for name, file in compiled.items() if file is not None}
    # PEP 552: 1 is a hash that nobody checks, 0 would be a time
    assert {name: flag for name, flag in flags.items() if flag != b"\x01\0\0\0"} == {}


def test_the_user_is_a_number_and_that_of_the_pod(built: Built) -> None:
    config = built.first.config["config"]
    security = pod()["securityContext"]
    assert config["User"] == f"{USER}:{USER}" == f"{security['runAsUser']}:{security['runAsGroup']}"
    assert config["Entrypoint"] == ["/usr/local/bin/auto-advance"]
    assert "command" not in pod()["containers"][0]


def test_the_labels_say_what_it_is(built: Built) -> None:
    labels = built.first.config["config"]["Labels"]
    project = (ROOT / "pyproject.toml").read_text()
    about = {name: re.search(rf'^{name} = "(.*)"$', project, re.MULTILINE) for name in ("version", "description")}
    assert {name: found[1] for name, found in about.items() if found} == {
        name: labels[f"org.opencontainers.image.{name}"] for name in about
    }
    assert labels["org.opencontainers.image.title"] == "auto-advance"
    assert labels["org.opencontainers.image.revision"] == "0123456789abcdef"


def test_its_user_can_write_nowhere(inside: Unpacked) -> None:
    said = inside.run("/usr/bin/python3", "-IBc", WRITABLE)
    assert (said.returncode, said.stdout) == (0, ""), said.stderr


def test_every_module_and_every_command_starts_in_it(inside: Unpacked) -> None:
    imported = inside.run("/usr/bin/python3", "-IBc", EVERY_MODULE)
    assert imported.returncode == 0, imported.stderr
    assert set(imported.stdout.split()) == {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for path in (ROOT / "controller").rglob("*.py")
        if path.name != "__main__.py" and path.parent.joinpath("__init__.py").exists()
    } - {"controller"}
    version = inside.run("/usr/local/bin/auto-advance", "version")
    (ours,) = (package for package in sbom.installed(_packages(inside)) if package.name == "auto-advance")
    assert version.stdout == f"{ours.version}\n"
    commands = [command.name or getattr(command.callback, "__name__", "") for command in app.registered_commands]
    assert len(commands) > 10
    for command in commands:
        said = inside.run("/usr/local/bin/auto-advance", command, "--help")
        assert (said.returncode, "Usage:" in said.stdout) == (0, True), said.stderr


def test_a_plan_is_validated_in_it(inside: Unpacked) -> None:
    with inside.holding("/plan.yaml", (ROOT / "deploy" / "examples" / "smallest.yaml").read_bytes()):
        said = inside.run("/usr/local/bin/kubectl-launch", "validate", "/plan.yaml")
    assert said.returncode == 0, said.stdout + said.stderr


def test_it_runs_on_a_folder_and_ends_when_told(inside: Unpacked, tmp_path: Path) -> None:
    launches = inside.root / "launches"
    launches.mkdir()
    (launches / "shop.yaml").write_bytes((ROOT / "deploy" / "examples" / "smallest.yaml").read_bytes())
    for path in (launches, launches / "shop.yaml"):
        os.chown(path, USER, USER)
    program = inside.command("/usr/local/bin/auto-advance")
    arguments = ["--folder=/launches", f"--prometheus=http://127.0.0.1:{free_port()}"]
    with Daemon(tmp_path, arguments, program=program) as daemon:
        wait_until(daemon.live, deadline_s=60, what=f"/livez: {daemon.tail()}")
        assert daemon.terminate() == 0, daemon.tail()


def test_a_pod_of_it_passes_a_launch_on_the_real_api_server(
    inside: Unpacked, kube: KubeApiserver, tmp_path: Path
) -> None:
    """As the Deployment starts it: its arguments, the service account's files, no other file or variable."""
    with contextlib.ExitStack() as mounted, stage(kube, tmp_path) as on:
        kube.grant("controller", [LEASES], namespace=on.namespace)
        settings = {"prometheus": {"default": {"url": on.prometheus.url}}}
        for path, text in (
            (f"{ACCOUNT}/token", kube.token("controller")),
            (f"{ACCOUNT}/ca.crt", kube.ca_file.read_text()),
            (f"{ACCOUNT}/namespace", on.namespace),
            (CONFIG, yaml.safe_dump(settings)),
        ):
            mounted.enter_context(inside.holding(path, text.encode()))
        on.serve("shop")
        program = inside.command(
            "/usr/local/bin/auto-advance",
            KUBERNETES_SERVICE_HOST="127.0.0.1",
            KUBERNETES_SERVICE_PORT=str(kube.port),
            POD_NAME="auto-advance-0",
            POD_NAMESPACE=on.namespace,
        )
        run, *said = pod()["containers"][0]["args"]
        assert run == "run"
        arguments = [word for word in said if not word.startswith(("--listen", "--log-format"))]
        arguments += [f"--namespace={on.namespace}", "--tick=500ms", "--route-settle=500ms"]
        with Daemon(tmp_path, arguments, program=program) as daemon:
            daemon.wait_ready()
            steps = ({"weight": 20, "for": "3s"}, {"weight": 100})
            kube.apply([launch_document("shop", steps=steps)], namespace=on.namespace)
            on.observer.wait_for_state("shop", "Succeeded", seconds=90)
            assert on.observer.weights("shop") == [0, 200, 1000]
            assert violations(on.observer.versions(), on.namespace, "shop") == []
            assert daemon.terminate() == 0, daemon.tail()


def test_the_bill_of_materials_follows_its_schema(bill: dict[str, Any]) -> None:
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(sbom.text(bill)) is None


def test_the_bill_of_materials_names_what_is_there_out_of_the_locked_archives(
    inside: Unpacked, bill: dict[str, Any]
) -> None:
    there = {package.name: package.version for package in sbom.installed(_packages(inside))}
    listed = {
        component["name"]: component for component in bill["components"] if "/auto-advance@" in component["purl"]
        or component["purl"].startswith("pkg:pypi/")
    }  # fmt: skip
    assert {name: component["version"] for name, component in listed.items()} == there
    lock = (ROOT / "requirements.lock").read_text()
    pins = sbom.locked(ROOT / "requirements.lock")
    for name, component in listed.items():
        assert component["hashes"][0]["alg"] == "SHA-256"
        if name != "auto-advance":
            assert component["version"] == pins[name]
            assert component["hashes"][0]["content"] in lock
    assert set(there).isdisjoint(LEFT_OUT_PACKAGES)


def test_every_c_library_in_it_is_debians_and_listed_where_scanners_look(built: Built, bill: dict[str, Any]) -> None:
    names = list(built.files)
    packages = {name.rpartition("/")[2] for name in names if "/dpkg/status.d/" in name}
    listed = {c["name"] for c in bill["components"] if c["purl"].startswith("pkg:deb/debian/")}
    assert packages == listed
    assert {"libc6", "libgcc-s1"} <= packages
    assert "etc/os-release" in names
    for package in packages:
        assert f"usr/share/doc/{package}/copyright" in names or package.startswith("libpython3"), package


def test_the_dockerfile_is_clean_and_installs_nothing_without_a_hash() -> None:
    said = subprocess.run([find("hadolint"), "Dockerfile"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (said.returncode, said.stdout) == (0, ""), said.stdout + said.stderr
    text = (ROOT / "Dockerfile").read_text().replace("\\\n", " ")
    installs = re.findall(r"pip (?:install|wheel) [^&\n]*", text)
    assert len(installs) == 4
    for install in installs:
        assert "--require-hashes" in install or "--no-index" in install


def _packages(inside: Unpacked) -> Path:
    return next(path for path in inside.root.glob("usr/local/lib/python3.*/*-packages"))

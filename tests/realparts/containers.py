"""Images without a daemon and without a registry: a base made of Debian's packages, and a tree to start things in.

Only the standard library is imported here: the set-up runs this before anything is installed.
"""

import contextlib
import os
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.realparts import debian
from tests.realparts.parts import ROOT, PartMissing, cache_folder, find

SUITE = "trixie"  # its Python is the one of the Dockerfile's own base
PACKAGES = ("ca-certificates", "python3", "python3-venv")
USER = 65532
_KEYS = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
_AUTHORITIES = Path("/etc/ssl/certs/ca-certificates.crt")
_ROOT_NEEDED = "it is made and started by chroot: type `sudo make test TESTS=tests/deploy/test_image.py`."


def base() -> Path:
    """The root file system of a small Debian with Python, as a tar file in the user's cache. Raises PartMissing."""
    kept = _kept()
    if kept.is_file():
        return kept
    raise PartMissing("a base for images", "type `make setup` as root, which makes it once out of Debian's packages.")


def obtain_base() -> None:
    """Make what base() finds, where it is not there yet; two minutes, once.

    Raises PartMissing, subprocess.CalledProcessError after debootstrap has printed why.
    """
    if _kept().is_file():
        return
    program = find("debootstrap")
    needs_root()
    if not _KEYS.is_file() and debian.can_install():
        debian.install(["debian-archive-keyring"])
    print(f"setup: making a root file system of Debian {SUITE}, once; this takes a minute or two", flush=True)
    cache_folder().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".debian-", dir=cache_folder()) as folder:
        root, whole = Path(folder, "root"), Path(folder, "base.tar")
        with Path(folder, "log").open("w+") as log:
            command = [str(program), "--variant=minbase", f"--include={','.join(PACKAGES)}", SUITE, str(root)]
            made = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, check=False)
            if made.returncode != 0:
                log.seek(0)
                print("\n".join(log.read().splitlines()[-10:]), flush=True)
                made.check_returncode()
        with tarfile.open(whole, "w") as tar:
            for name in ("var/cache/apt", "var/lib/apt", "dev"):
                shutil.rmtree(root / name)
            (root / "dev").mkdir()
            tar.add(root, arcname=".")
        # a rename is whole or not at all, so two set-ups at once do no harm
        whole.rename(_kept())


def needs_root() -> None:
    """Raise PartMissing where nothing can be made or started by chroot."""
    if os.geteuid() != 0:
        raise PartMissing("the right to chroot", _ROOT_NEEDED)


def _kept() -> Path:
    return cache_folder() / f"debian-{SUITE}.tar"


@dataclass(frozen=True)
class Builder:
    """buildah with a store of its own below a folder; isolation by chroot, so that it runs inside a container too."""

    folder: Path

    @property
    def environment(self) -> dict[str, str]:
        """What buildah, and make, have to be told."""
        settings = self.folder / "storage.conf"
        if not settings.exists():
            self.folder.mkdir(parents=True, exist_ok=True)
            # no mounts, so that the folder can be removed like any other
            store = {"driver": "vfs", "graphroot": f"{self.folder}/graph", "runroot": f"{self.folder}/run"}
            settings.write_text("[storage]\n" + "".join(f'{name} = "{value}"\n' for name, value in store.items()))
        return {
            **os.environ,
            "BUILDAH_ISOLATION": "chroot",
            "CONTAINERS_STORAGE_CONF": str(settings),
            "STORAGE_DRIVER": "vfs",
            "TMPDIR": str(self.folder),
        }

    def load_base(self, name: str) -> str:
        """Put base() into the store under a name, and return it. Raises PartMissing, CalledProcessError."""
        container = self._buildah("from", "scratch")
        self._buildah("add", "--quiet", container, str(base()), "/")
        self._buildah("commit", "--quiet", "--rm", container, name)
        return name

    def make_image(self, project: Path, out: Path, *, base_name: str, **variables: str) -> str:
        """`make image` in a copy of the project, with a base of the store; returns what it printed.

        Raises AssertionError with the end of the output.
        """
        needs_root()
        chosen = {"BUILDER": str(find("buildah")), "BASE": base_name, "OUT": str(out), **variables}
        if _AUTHORITIES.is_file():
            chosen.setdefault("AUTHORITIES", str(_AUTHORITIES))
        command = ["make", "--no-print-directory", "image", *(f"{name}={value}" for name, value in chosen.items())]
        made = subprocess.run(
            command,
            cwd=project,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert made.returncode == 0, made.stdout[-3000:]
        return made.stdout

    def _buildah(self, *arguments: str) -> str:
        needs_root()
        command = [str(find("buildah")), *arguments]
        return subprocess.run(
            command, env=self.environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, check=True
        ).stdout.strip()


def copy_sources(target: Path) -> Path:
    """A copy of the files that `make image` reads, so that an edit meanwhile cannot make two builds differ."""
    for name in ("Makefile", "Dockerfile", ".dockerignore", "pyproject.toml", "README.md", "requirements.lock"):
        target.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, target / name)
    for name in ("controller", "deploy/image"):
        shutil.copytree(ROOT / name, target / name, ignore=shutil.ignore_patterns("__pycache__"))
    return target


@dataclass(frozen=True)
class Unpacked:
    """An image's root file system in a folder, in which programs are started by chroot as the image's user.

    They find no file that the image has not, no variable that the image does not set, and nothing that they may write
    to: what a pod with a read-only root file system gives them.
    """

    root: Path
    variables: Mapping[str, str]

    def prepare(self) -> None:
        """What a container runtime adds by itself: the devices that are needed; and no place to write to."""
        needs_root()
        devices = self.root / "dev"
        devices.mkdir()
        for name, minor in (("null", 3), ("zero", 5), ("random", 8), ("urandom", 9)):
            os.mknod(devices / name, 0o020666, os.makedev(1, minor))
            (devices / name).chmod(0o666)
        for folder in (self.root, self.root / "tmp", devices):
            folder.chmod(0o555)

    def command(self, *program: str, **variables: str) -> list[str]:
        """The words that start a program inside, as one process: what is signalled is the program itself."""
        set_there = [f"{name}={value}" for name, value in {**self.variables, **variables}.items()]
        inside = ["chroot", f"--userspec={USER}:{USER}", "--groups=", str(self.root), *program]
        # the variables before chroot: there is no `env` inside
        return ["env", "-i", *set_there, *_absolute(inside)]

    def run(self, *program: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run a program inside to its end."""
        return subprocess.run(
            self.command(*program, **variables),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )

    @contextlib.contextmanager
    def holding(self, path: str, contents: bytes, *, mode: int = 0o444) -> Iterator[None]:
        """A file that is mounted into the container inside the block, readable by its user."""
        place = self.root / path.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(contents)
        place.chmod(mode)
        try:
            yield
        finally:
            place.unlink()


def _absolute(command: list[str]) -> list[str]:
    """With the program's whole path: the variables of the image name folders that this machine need not have."""
    found = shutil.which(command[0], path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    if found is None:
        raise PartMissing(command[0], "it comes with coreutils; put it on the PATH.")
    return [found, *command[1:]]

"""Makes the root file system of the image: Python, our packages, the C libraries that these load, and nothing else.

Runs in the Dockerfile's build stage with that stage's own Python, and needs only the standard library:
`python3 -m deploy.image.assemble --packages FOLDER --root FOLDER [--report FILE ...]`.

The same inputs give the same bytes: times come from SOURCE_DATE_EPOCH, byte code is checked by no time, files are
visited in order.
"""

from __future__ import annotations

import argparse
import os
import py_compile
import re
import shutil
import site
import ssl
import stat
import subprocess
import sys
import sysconfig
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from deploy.image import sbom

USER = 65532  # "nonroot", as other images without a shell number it
SBOM = Path("usr/share/auto-advance/sbom.cdx.json")
PROGRAMS = ("auto-advance", "kubectl-launch")

# The client's second half, for asyncio, and what only that half needs. tests/deploy/test_image.py runs without them.
LEFT_OUT_FOLDERS = ("kubernetes/aio",)
LEFT_OUT_PACKAGES = ("aiohttp", "aiohttp-retry")
# A folder of this name inside a package holds its tests; one that a package is run from would be missed by the tests.
TESTS = ("tests", "test")
# Ten thousand generated modules that are loaded when somebody asks for one, and we never do: text is enough.
SOURCE_ONLY = ("kubernetes/client/models", "kubernetes/client/api")

# What a server has no use for: windows, terminals, tests, installers, and databases with C libraries of their own.
UNUSED_MODULES = (
    "__phello__", "distutils", "ensurepip", "idlelib", "lib2to3", "pydoc_data", "site-packages", "dist-packages", "test", "tkinter",
    "turtle.py", "turtledemo", "venv",
)  # fmt: skip
UNUSED_EXTENSIONS = re.compile(
    r"(_ctypes_test|_curses|_curses_panel|_dbm|_gdbm|_sqlite3|_test\w*|_tkinter|_xx\w*|nis|ossaudiodev|readline|xx\w*)\."
)
# libc loads this one by itself when a thread ends
ALWAYS_LOADED = ("libgcc_s.so.1",)
AUTHORITIES = Path("/etc/ssl/certs/ca-certificates.crt")
OPENSSL = Path("/etc/ssl/openssl.cnf")
FILES = (AUTHORITIES, OPENSSL, Path("/etc/os-release"), Path("/etc/ld.so.conf"), Path("/etc/ld.so.conf.d"))


@dataclass(frozen=True)
class Image:
    """The tree that is being made, and where each file of the base in it came from."""

    root: Path
    taken: set[Path] = field(default_factory=set)

    def at(self, path: str | Path) -> Path:
        """Where an absolute path of the image lies now."""
        return self.root / Path(path).relative_to("/")

    def take(self, source: Path) -> None:
        """Copy one file of the base to its own place; a link becomes what it points at."""
        real = source.resolve()
        # with /lib a link to /usr/lib, a library of /lib lies in /usr/lib
        self.copy(real, source.parent.resolve() / source.name)
        self.taken.add(real)

    def copy(self, source: Path, target: Path) -> None:
        """Copy one file to an absolute path of the image, where it is no program."""
        place = self.at(target)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, place)

    def start(self, path: Path) -> None:
        """Let a file of the image be started."""
        self.at(path).chmod(0o755)

    def write(self, path: str | Path, text: str) -> None:
        """Write a small file."""
        place = self.at(path)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)


def files_of(folder: Path, *, without: Iterable[str] = ()) -> Iterator[Path]:
    """The files below a folder in order, without byte code and without some names at its top."""
    for path in sorted(folder.iterdir()):
        if path.name in without or path.name == "__pycache__":
            continue
        if path.is_dir():
            yield from files_of(path)
        elif path.is_file() and path.suffix != ".pyc":
            yield path


def add_python(image: Image) -> tuple[Path, list[Path]]:
    """Copy the interpreter and its standard library; returns the interpreter and what in there is machine code."""
    python = Path(sys.executable).resolve()
    image.take(python)
    image.start(python)
    # beside it under the name that people type
    link = image.at(python.with_name("python3"))
    if not link.exists():
        link.symlink_to(python.name)
    compiled = [python]
    library = Path(sysconfig.get_path("stdlib"))
    for path in files_of(library, without=UNUSED_MODULES):
        if UNUSED_EXTENSIONS.match(path.name) or path.relative_to(library).parts[0].startswith("config-"):
            continue
        image.take(path)
        if ".so" in path.suffixes:
            compiled.append(path)
    return python, compiled


def add_packages(image: Image, packages: Path) -> tuple[Path, list[Path]]:
    """Copy what pip installed, less what is left out; returns the folder and what in it is machine code."""
    target = Path(site.getsitepackages()[0])
    kept = {found.folder for found in sbom.installed(packages) if found.name not in left_out(packages)}
    gone = [packages / name for name in LEFT_OUT_FOLDERS]
    for folder in gone:
        if not folder.is_dir():
            raise SystemExit(f"assemble.py: LEFT_OUT_FOLDERS: {folder.relative_to(packages)} is not there any more")
    for found in sbom.installed(packages):
        if found.folder not in kept:
            gone += [packages / top for top in sbom.top_folders(found)]
            gone.append(found.folder)
    compiled = []
    for path in files_of(packages, without=["bin"]):
        inside = path.relative_to(packages)
        if any(path.is_relative_to(folder) for folder in gone):
            continue
        if any(part in TESTS for part in inside.parts[1:-1]):
            continue
        # RECORD lists files that are not here; the others tell of pip's run, not of the package
        if inside.parts[0].endswith(".dist-info") and path.name in {
            "RECORD", "INSTALLER", "REQUESTED", "direct_url.json",
        }:  # fmt: skip
            continue
        image.copy(path, target / inside)
        if ".so" in path.suffixes:
            compiled.append(path)
    return target, compiled


def left_out(packages: Path) -> set[str]:
    """The packages that nobody needs once LEFT_OUT_PACKAGES are gone, these included."""
    found = sbom.installed(packages)
    needs = {package.name: package.needs for package in found}
    reached: set[str] = set()
    todo = ["auto-advance"]
    while todo:
        name = todo.pop()
        if name in needs and name not in reached and name not in LEFT_OUT_PACKAGES:
            reached.add(name)
            todo += needs[name]
    return set(needs) - reached


def add_libraries(image: Image, compiled: Iterable[Path], packages: Path) -> None:
    """Copy the C libraries that machine code asks for, except those that a wheel brings itself."""
    wanted: set[Path] = set()
    for path in compiled:
        said = subprocess.run(["ldd", str(path)], capture_output=True, text=True, check=False)
        for line in said.stdout.splitlines():
            if "not found" in line:
                raise SystemExit(f"assemble.py: {path}: {line.strip()}; take a base that has this library")
            found = re.search(r"(/\S+) \(0x", line)
            if found is not None and not Path(found[1]).resolve().is_relative_to(packages.resolve()):
                wanted.add(Path(found[1]))
    known = {library.parent for library in wanted}
    for name in ALWAYS_LOADED:
        wanted.add(next(folder / name for folder in sorted(known) if (folder / name).exists()))
    for library in sorted(wanted):
        image.take(library)
        if library.name.startswith("ld-"):  # the kernel starts it, and it starts all else
            image.start(library.parent.resolve() / library.name)
    for name in ("lib", "lib64"):
        base, place = Path("/", name), image.at(f"/{name}")
        if base.is_symlink() and not place.exists():
            place.symlink_to(base.readlink())


def add_system(image: Image, python: Path) -> None:
    """The few files that a C library and Python look for, the programs, and a user who is nobody else."""
    if not AUTHORITIES.is_file():
        raise SystemExit(f"assemble.py: {AUTHORITIES} is missing; take a base with ca-certificates")
    for path in FILES:
        if path.is_file():
            image.copy(path, path)
        elif path.is_dir():
            for below in files_of(path):
                image.copy(below, below)
    # the one file and the settings where this OpenSSL looks for them by itself
    expected = Path(ssl.get_default_verify_paths().openssl_cafile)
    for source, place in ((AUTHORITIES, expected), (OPENSSL, expected.with_name("openssl.cnf"))):
        if image.at(source).exists() and not image.at(place).exists():
            image.at(place).parent.mkdir(parents=True, exist_ok=True)
            image.at(place).symlink_to(source)
    nobody = f"nonroot:x:{USER}"
    image.write("/etc/passwd", f"root:x:0:0:root:/:/nonexistent\n{nobody}:{USER}:nonroot:/tmp:/nonexistent\n")
    image.write("/etc/group", f"root:x:0:\n{nobody}:\n")
    image.write("/etc/nsswitch.conf", "hosts: files dns\n")
    image.at("/tmp").mkdir(exist_ok=True)  # noqa: S108 - the image's own
    # -I: neither the environment nor the folder in which it starts decides what is imported
    start = f"#!{python} -IB\nimport sys\n\nfrom controller.__main__ import main\n\nsys.exit(main())\n"
    for name in PROGRAMS:
        image.write(f"/usr/local/bin/{name}", start)
        image.start(Path("/usr/local/bin", name))
    # libraries in places like /usr/local/lib are found by this cache alone
    subprocess.run(["ldconfig", "-r", str(image.root)], check=True)
    shutil.rmtree(image.at("/var/cache/ldconfig"), ignore_errors=True)


def add_byte_code(image: Image, folders: Sequence[Path]) -> None:
    """Compile ahead, so that a start costs no time and needs no place to write; no time stamp goes into it.

    Python takes such byte code as it is (PEP 552, unchecked): nothing in the image changes after this.
    """
    for folder in folders:
        place = image.at(folder)
        # where packages lie inside the library, they are a folder of their own here
        for path in files_of(place, without=("dist-packages", "site-packages")):
            inside = path.relative_to(place)
            if path.suffix != ".py" or any(inside.is_relative_to(name) for name in SOURCE_ONLY):
                continue
            py_compile.compile(
                str(path),
                dfile=str(folder / inside),
                doraise=True,
                invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
            )


def add_owners(image: Image) -> list[dict[str, str]]:
    """Keep Debian's word on which of its packages the files come from, where scanners look; returns those packages.

    Empty for a base without dpkg.
    """
    status = Path("/var/lib/dpkg/status")
    if not status.is_file():
        return []
    owners: dict[Path, str] = {}
    resolved: dict[Path, Path] = {}
    for listing in sorted(Path("/var/lib/dpkg/info").glob("*.list")):
        for line in listing.read_text().splitlines():
            path = Path(line)
            if path.parent not in resolved:
                resolved[path.parent] = path.parent.resolve()
            owners[resolved[path.parent] / path.name] = listing.stem.partition(":")[0]
    names = {owners[path] for path in image.taken if path in owners}
    found = []
    for stanza in status.read_text().split("\n\n"):
        fields = dict(re.findall(r"^([\w-]+): (.*)$", stanza, re.MULTILINE))
        if fields.get("Package") in names:
            found.append(fields)
            image.write(f"/var/lib/dpkg/status.d/{fields['Package']}", stanza.strip() + "\n")
            rights = Path("/usr/share/doc", fields["Package"], "copyright")
            if rights.is_file():
                image.copy(rights.resolve(), rights)
    return sorted(found, key=lambda fields: fields["Package"])


def settle(root: Path, epoch: int) -> None:
    """Give every path below the root, and the root, plain rights, one owner and one time."""
    for folder, folders, files in os.walk(root, topdown=False):
        for name in (*files, *folders, "."):
            path = Path(folder, name)
            if not path.is_symlink():
                executable = path.is_dir() or bool(path.stat().st_mode & stat.S_IXUSR)
                path.chmod(0o755 if executable else 0o644)
            if os.geteuid() == 0:
                os.chown(path, 0, 0, follow_symlinks=False)
            os.utime(path, (epoch, epoch), follow_symlinks=False)
    shared = root / "tmp"
    shared.chmod(0o1777)


def main() -> None:
    """Make the tree; see the top."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--packages", type=Path, required=True, help="what pip installed with --target")
    parser.add_argument("--root", type=Path, required=True, help="the folder to make")
    parser.add_argument("--report", type=Path, action="append", default=[], help="what pip wrote with --report")
    options = parser.parse_args()
    epoch = int(os.environ.get("SOURCE_DATE_EPOCH") or 0)
    options.root.mkdir(parents=True)
    image = Image(options.root)
    python, of_python = add_python(image)
    packages, of_packages = add_packages(image, options.packages)
    add_libraries(image, [*of_python, *of_packages], options.packages)
    add_system(image, python)
    add_byte_code(image, [Path(sysconfig.get_path("stdlib")), packages])
    document = sbom.document(
        sbom.installed(image.at(packages)),
        epoch=epoch,
        hashes=sbom.hashes(options.report),
        python=sys.version.split()[0],
        debian=add_owners(image),
    )
    image.write(Path("/", SBOM), sbom.text(document))
    settle(options.root, epoch)


if __name__ == "__main__":
    main()

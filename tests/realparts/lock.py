"""Renews the locks: `make lock`. Each holds hashes for every platform and for Python 3.11 to 3.13, and no addresses."""

import os
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

from tests.realparts.parts import ROOT

_LOCKS = {
    "requirements.lock": ["pyproject.toml"],
    "requirements-dev.lock": ["pyproject.toml", "--group", "dev"],
    "deploy/image/requirements-build.lock": ["--group", "build"],
    "tests/tools/go/requirements.lock": ["--group", "go"],
}
_OPTIONS = ["--universal", "--python-version=3.11", "--generate-hashes", "--upgrade", "--quiet",
            "--no-emit-index-url", "--no-emit-find-links", "--custom-compile-command=make lock"]  # fmt: skip


def main() -> int:
    """Resolve with uv in an environment that is thrown away; returns the exit code."""
    # a folder of wheels of this machine must not decide what others install
    environment = {name: value for name, value in os.environ.items() if name not in {"PIP_FIND_LINKS", "UV_FIND_LINKS"}}
    with tempfile.TemporaryDirectory() as folder:
        venv.EnvBuilder(with_pip=True).create(folder)
        python = Path(folder) / "bin" / "python"
        install = [str(python), "-m", "pip", "install", "--quiet", "uv"]
        if subprocess.run(install, env=environment, check=False).returncode != 0:
            return 1
        for lock, sources in _LOCKS.items():
            command = [str(python.with_name("uv")), "pip", "compile", *_OPTIONS, *sources, "--output-file", lock]
            if subprocess.run(command, env=environment, cwd=ROOT, check=False).returncode != 0:
                return 1
            print(f"lock: {lock}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())

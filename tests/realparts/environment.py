"""Makes .venv from the locks: `python3 -m tests.realparts.environment`, with any Python from 3.11 on.

Only the standard library is imported here: this runs before anything is installed.
"""

import importlib.util
import os
import subprocess
import sys
import venv

from tests.realparts import debian
from tests.realparts.parts import ROOT

_FOLDER = ROOT / ".venv"


def main() -> int:
    """Make or renew .venv; returns the exit code and prints what a person must do if it cannot."""
    if importlib.util.find_spec("ensurepip") is None:
        package = f"python{sys.version_info.major}.{sys.version_info.minor}-venv"
        if not debian.can_install():
            print(f"make setup: this Python cannot make environments; type `sudo apt-get install {package}`.")
            return 1
        debian.install([package])
    python = _FOLDER / "bin" / "python"
    if not _works(str(python)):
        print(f"setup: making .venv with Python {sys.version.split()[0]}", flush=True)
        venv.EnvBuilder(with_pip=True, clear=True, symlinks=True).create(_FOLDER)
    print("setup: installing the locked packages", flush=True)
    # an index or a folder of wheels from elsewhere would be found before the locks' own
    environment = {name: value for name, value in os.environ.items() if name != "PIP_FIND_LINKS"}
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    for arguments in (
        ["--require-hashes", "--requirement", str(ROOT / "requirements-dev.lock")],
        ["--no-build-isolation", "--no-deps", "--editable", str(ROOT)],
    ):
        if subprocess.run([*pip, *arguments], env=environment, check=False).returncode != 0:
            print("make setup: pip could not install the packages; its own words stand above.")
            return 1
    return 0


def _works(python: str) -> bool:
    """A moved clone or a removed Python leaves an environment that starts no more."""
    try:
        return subprocess.run([python, "-c", "import pip"], capture_output=True, check=False).returncode == 0
    except OSError:
        return False


if __name__ == "__main__":
    sys.exit(main())

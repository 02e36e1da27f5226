"""Debian packages for the set-up: installed without questions and without starting the services inside them.

Only the standard library is imported here: the set-up runs this before anything is installed.
"""

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.realparts.parts import on_path

_POLICY = Path("/usr/sbin/policy-rc.d")
_SYSTEMD = Path("/run/systemd/system")


def can_install() -> bool:
    """Whether this is Debian or Ubuntu, as root or with a sudo that asks nothing."""
    if on_path("apt-get") is None:
        return False
    if os.geteuid() == 0:
        return True
    return (
        on_path("sudo") is not None
        and subprocess.run(["sudo", "-n", "true"], capture_output=True, check=False).returncode == 0
    )


def install(packages: list[str]) -> None:
    """Install packages by name; raises subprocess.CalledProcessError after apt has printed why."""
    print(f"apt-get: installing {', '.join(packages)}", flush=True)
    before = set(_units())
    with _services_stay_down():
        _as_root(["apt-get", "-q", "-q", "update"])
        _as_root(["env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-q", "-q", "install", "-y",
                  "--no-install-recommends", *packages])  # fmt: skip
    new = sorted(set(_units()) - before)
    if new and _SYSTEMD.is_dir():
        # Debian also enables them for the next boot, on a port that a person may want
        _as_root(["systemctl", "--quiet", "disable", *new])


def _as_root(command: list[str]) -> None:
    subprocess.run([*([] if os.geteuid() == 0 else ["sudo", "-n"]), *command], check=True, stdin=subprocess.DEVNULL)


@contextlib.contextmanager
def _services_stay_down() -> Iterator[None]:
    if _POLICY.exists():  # an image's or a person's own policy stands
        yield
        return
    _as_root(["sh", "-c", f"printf '#!/bin/sh\\nexit 101\\n' > {_POLICY} && chmod 755 {_POLICY}"])
    try:
        yield
    finally:
        _as_root(["rm", "-f", str(_POLICY)])


def _units() -> list[str]:
    """The services of ours that are installed, whoever installed them."""
    names = ("prometheus", "prometheus-alertmanager", "etcd")
    return [name for name in names if Path("/lib/systemd/system", f"{name}.service").exists()]

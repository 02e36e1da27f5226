"""The real parts as pytest fixtures; tests/conftest.py takes them in.

A test whose part cannot be had is skipped with the words what to install, and fails where CI=true.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import pytest

from tests.realparts.parts import ROOT, PartMissing

# The servers' modules are imported where one is started: most tests need none, and start sooner without.
if TYPE_CHECKING:
    from tests.realparts.alertmanager import Alertmanager
    from tests.realparts.kube import KubeApiserver
    from tests.realparts.prometheus import Prometheus

PrometheusFactory: TypeAlias = "Callable[..., Prometheus]"
AlertmanagerFactory: TypeAlias = "Callable[..., Alertmanager]"
KubeFactory: TypeAlias = "Callable[..., KubeApiserver]"

_STARTING = {
    "kube",
    "kube_factory",
    "namespace",
    "prometheus",
    "prometheus_factory",
    "alertmanager",
    "alertmanager_factory",
}
_REAL_FOLDERS = ("launch", "deploy")


@pytest.fixture(scope="session")
def kube(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KubeApiserver]:
    """One API server for all tests of this worker, with the Gateway API's CRDs and ours. Shared: hurt your own instead.

    Each test works in its own `namespace`; for faults take kube_factory.
    """
    from tests.realparts.kube import KubeApiserver

    with KubeApiserver(tmp_path_factory.mktemp("kube")) as server:
        server.install_crds()
        yield server


@pytest.fixture
def namespace(kube: KubeApiserver) -> Iterator[str]:
    """A namespace of the shared API server for this test alone."""
    name = kube.create_namespace()
    yield name
    kube.delete_routes_and_launches(name)


@pytest.fixture
def kube_factory(tmp_path: Path) -> Iterator[KubeFactory]:
    """API servers of the test's own, started, CRDs served; all ended after the test."""
    from tests.realparts.kube import KubeApiserver

    with contextlib.ExitStack() as stack:

        def start(*, crds: bool = True, **options: Any) -> KubeApiserver:
            folder = Path(tempfile.mkdtemp(prefix="kube-", dir=tmp_path))
            server = stack.enter_context(KubeApiserver(folder, **options))
            if crds:
                server.install_crds()
            return server

        yield start


@pytest.fixture
def prometheus_factory(tmp_path: Path) -> Iterator[PrometheusFactory]:
    """Prometheis of the test's own: `prometheus_factory(version="3", config=config([...]))`; all ended after the test."""
    from tests.realparts.prometheus import Prometheus

    with contextlib.ExitStack() as stack:

        def start(**options: Any) -> Prometheus:
            folder = Path(tempfile.mkdtemp(prefix="prometheus-", dir=tmp_path))
            return stack.enter_context(Prometheus(folder, **options))

        yield start


@pytest.fixture
def alertmanager_factory(tmp_path: Path) -> Iterator[AlertmanagerFactory]:
    """Alertmanagers of the test's own; all ended after the test."""
    from tests.realparts.alertmanager import Alertmanager

    with contextlib.ExitStack() as stack:

        def start(**options: Any) -> Alertmanager:
            folder = Path(tempfile.mkdtemp(prefix="alertmanager-", dir=tmp_path))
            return stack.enter_context(Alertmanager(folder, **options))

        yield start


@pytest.fixture
def alertmanager(alertmanager_factory: AlertmanagerFactory) -> Alertmanager:
    """One Alertmanager, empty, for this test."""
    return alertmanager_factory()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark as `real` what starts a server, so that `-m "not real"` is what needs none."""
    for item in items:
        folders = item.path.relative_to(ROOT).parts if item.path.is_relative_to(ROOT) else ()
        fixtures: set[str] = set(getattr(item, "fixturenames", ()))
        if fixtures & _STARTING or (folders[:1] == ("tests",) and folders[1] in _REAL_FOLDERS):
            item.add_marker(pytest.mark.real)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """A test marked `alone` waits for the others' current tests, and the others wait for it."""
    if "PYTEST_XDIST_WORKER" not in os.environ:
        return (yield)
    # without pytest's cache plugin there is no folder that the workers share but the system's
    cache = getattr(item.config, "cache", None)
    folder = Path(tempfile.gettempdir()) if cache is None else cache.mkdir("alone")
    alone = item.get_closest_marker("alone") is not None
    # whoever waits for the room holds the door, so a test that wants to be alone is not passed by forever
    with (folder / "door").open("w") as door, (folder / "room").open("w") as room:
        fcntl.flock(door, fcntl.LOCK_EX)
        fcntl.flock(room, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        fcntl.flock(door, fcntl.LOCK_UN)
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup() -> Iterator[None]:
    """See _part_may_be_missing()."""
    with _part_may_be_missing():
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Iterator[None]:
    """See _part_may_be_missing()."""
    with _part_may_be_missing():
        return (yield)


@contextlib.contextmanager
def _part_may_be_missing() -> Iterator[None]:
    """The one place that decides what an absent part means."""
    try:
        yield
    except PartMissing as missing:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(str(missing))

"""The Prometheus that the launches of this folder share; a test that hurts one takes its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.launch.stage import Ground


@pytest.fixture(scope="session")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    with Ground(tmp_path_factory.mktemp("ground")) as shared:
        yield shared

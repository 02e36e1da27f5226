"""When what the operator says of plans changes, both clusters read every plan again, also those that had faults."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from controller.adapters.files import Files
from controller.adapters.kubernetes import Kubernetes
from controller.core.plan import InvalidPlanError, Plan
from controller.core.status import Run, Status, write_status
from controller.core.terms import Limits, Terms
from controller.core.world import Launch, LaunchKey, read_launch
from tests.adapters.grounds import DEADLINE_S, FolderGround, KubeGround, launch_document, launch_key, running
from tests.realparts.server import wait_until


@dataclass
class Scene:
    """A cluster with one launch that names the Prometheus eu."""

    cluster: Files | Kubernetes
    key: LaunchKey
    said: list[Terms] = field(default_factory=list)

    def say(self, terms: Terms) -> None:
        self.said[:] = [terms]
        if isinstance(self.cluster, Kubernetes):
            self.cluster.read_plans_anew()

    def becomes(self, kind: type) -> Launch:
        def there() -> Launch | None:
            launch = self.cluster.launch(self.key)
            return launch if launch is not None and isinstance(launch.plan, kind) else None

        launch = wait_until(there, deadline_s=DEADLINE_S, what=f"a {kind.__name__}")
        assert launch is not None
        return launch


@pytest.fixture(params=["folder", "api"])
def scene(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Scene]:
    said = [Terms(backends=frozenset({"default"}))]
    cluster: Files | Kubernetes
    if request.param == "folder":
        ground: Any = FolderGround(tmp_path)
        cluster = Files(tmp_path, scan_s=0.02, terms=lambda: said[0])
    else:
        ground = KubeGround(request.getfixturevalue("kube"), request.getfixturevalue("namespace"))
        cluster = Kubernetes(ground.settings(), terms=lambda: said[0])
    document = launch_document()
    document["spec"]["targets"][0]["prometheus"] = "eu"
    ground.create(document)
    with running(cluster):
        yield Scene(cluster, launch_key(ground), said)


def test_plans_are_read_again_when_the_operator_says_something_else(scene: Scene) -> None:
    invalid = scene.becomes(InvalidPlanError).plan
    assert "has no Prometheus 'eu'; it has default" in str(invalid)
    scene.say(Terms(backends=frozenset({"default", "eu"})))
    launch = scene.becomes(Plan)
    assert isinstance(launch.plan, Plan)
    assert launch.plan.targets[0].prometheus == "eu"
    written = scene.cluster.write_status(launch, write_status(Status(epoch=1)))
    assert isinstance(written.plan, Plan), "what a write answers is read with the same terms"
    scene.say(Terms(backends=frozenset({"default", "eu"}), limits=Limits(criteria=1)))
    scene.becomes(Plan)
    scene.say(Terms(backends=frozenset()))
    scene.becomes(InvalidPlanError)
    fresh = scene.cluster.read_launch(scene.key)
    assert isinstance(fresh.plan, InvalidPlanError)


def test_who_does_not_know_the_operator_takes_from_status_what_was_given() -> None:
    given = {"metrics": [{"name": "paying", "ratio": {"bad": "failed_total", "total": "all_total"}}]}
    document = launch_document()
    document["metadata"] |= {"uid": "1", "namespace": "prod"}
    document["spec"]["phases"][0]["guardrails"] = [{"metric": "paying", "below": "2%"}]
    assert isinstance(read_launch(document).plan, InvalidPlanError)
    run = Run(number=1, revision="v2", started_at=0.0, stands_on={"operator": given})
    document["status"] = write_status(Status(run=run))
    assert isinstance(read_launch(document).plan, Plan)

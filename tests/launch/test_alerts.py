"""Alerts of a whole daemon at real Alertmanagers, as the people behind a webhook hear of them."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

import pytest
import yaml

from controller.core.alarms import NO_DATA, TARGET_ROLLED_BACK
from controller.core.alerts import SEVERITIES
from controller.core.status import Alarm, State, Status, write_status
from controller.core.units import format_instant, parse_instant
from tests.launch.stage import GROUP, Daemon, route_document, slice_documents
from tests.realparts.alertmanager import Alertmanager
from tests.realparts.fixtures import AlertmanagerFactory
from tests.realparts.server import Server, http, wait_until

DEADLINE_S = 180.0
KINDS = SEVERITIES.keys() - {TARGET_ROLLED_BACK, NO_DATA}
"""Those that need neither traffic nor minutes."""


@dataclass(frozen=True)
class Heard:
    """One alert of one notification; ``place`` is the path under which it came."""

    at: float
    place: str
    status: str
    labels: dict[str, str]

    @property
    def kind(self) -> str:
        return self.labels["alertname"]


@dataclass
class People:
    """A webhook receiver that keeps what it hears."""

    heard: list[Heard] = field(default_factory=list)

    def __enter__(self) -> Self:
        people = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                told = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                people.heard += [
                    Heard(time.monotonic(), self.path.strip("/"), alert["status"], alert["labels"])
                    for alert in told["alerts"]
                ]
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """What is heard is kept, not printed."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def configuration(self, place: str) -> dict[str, Any]:
        """An Alertmanager's configuration that tells each alert at once, and by itself, at this path."""
        url = f"http://127.0.0.1:{self._server.server_address[1]}/{place}"
        return {
            "route": {
                "receiver": "people",
                "group_by": ["..."],
                "group_wait": "0s",
                "group_interval": "1s",
                "repeat_interval": "4h",
            },
            "receivers": [{"name": "people", "webhook_configs": [{"url": url}]}],
        }

    def count(self, place: str, status: str) -> Counter[str]:
        """How often each kind was told there with that status."""
        return Counter(one.kind for one in self.heard if (one.place, one.status) == (place, status))

    def roles(self, launch: str) -> list[str]:
        """The roles that were told of a launch, in order."""
        told = (one for one in self.heard if one.labels["launch"] == launch and one.status == "firing")
        return list(dict.fromkeys(one.labels["role"] for one in told))


@pytest.fixture
def people() -> Iterator[People]:
    with People() as heard:
        yield heard


def launch(name: str, *, route: str = "", **spec: Any) -> dict[str, Any]:
    target = {
        "name": "main",
        "route": {"name": route or name},
        "stable": {"name": f"{route or name}-stable"},
        "canary": {"name": f"{route or name}-canary"},
    }
    annotations = spec.pop("annotations", {})
    return {
        "apiVersion": GROUP,
        "kind": "Launch",
        "metadata": {
            "name": name,
            "annotations": {f"autoadvance.dev/{verb}": value for verb, value in annotations.items()},
        },
        "spec": {"revision": "v2", "targets": [target], **spec},
    }


def planning(**phase: Any) -> dict[str, Any]:
    """A phase that only people and clocks decide on."""
    return {"name": "planning", "deliverables": ["design"], **phase}


def troubled() -> list[dict[str, Any]]:
    """A launch for each kind of alert, and the older one that two of them meet at a route."""
    stepping = {
        "name": "ramp",
        "steps": [{"weight": 5, "for": "1h"}],
        "guardrails": [{"metric": "errors", "below": "1%"}],
    }
    now = time.time()
    soon, just = format_instant(now + 1800), format_instant(now + 1)
    return [
        launch("held", phases=[planning()], annotations={"hold": "looking"}),
        launch("rolled-back", phases=[planning()], annotations={"rollback": "broken"}),
        launch(
            "approval",
            phases=[planning(start={"at": soon}, preflight={"opens": "1h", "approval": {"role": "vp"}})],
        ),
        launch("gate", phases=[planning(gate={"after": "1s"})]),
        launch("drift", phases=[stepping]),
        launch("older", route="drift", phases=[stepping]),
        launch("invalid", phases=[]),
        launch("late", phases=[planning(start={"at": just}, preflight={"checklist": ["dashboards"]})]),
    ]


def write(folder: Path, *documents: dict[str, Any]) -> None:
    for document in documents:
        name = f"{document['kind']}-{document['metadata']['name']}.yaml".lower()
        (folder / name).write_text(yaml.safe_dump(document))


def drifted(name: str) -> dict[str, Any]:
    """A route whose canary has traffic that no launch gave it."""
    route = route_document(name)
    for backend, weight in zip(route["spec"]["rules"][0]["backendRefs"], (70, 30), strict=True):
        backend["weight"] = weight
    return route


@dataclass
class Told:
    """A daemon on a folder that tells these Alertmanagers."""

    folder: Path
    manifests: Path
    urls: tuple[str, ...]

    def daemon(self, **flags: str) -> Daemon:
        settings = {"folder": str(self.manifests), "prometheus": "http://127.0.0.1:9", "tick": "500ms", **flags}
        arguments = [f"--{name}={value}" for name, value in settings.items()]
        return Daemon(self.folder, [*arguments, *(f"--alertmanager={url}" for url in self.urls)])


def manifests_in(folder: Path) -> Path:
    manifests = folder / "manifests"
    manifests.mkdir()
    return manifests


@pytest.fixture
def hanging() -> Iterator[str]:
    """The URL of something that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        yield f"http://127.0.0.1:{silent.getsockname()[1]}"


@pytest.fixture
def gone() -> str:
    """The URL of nothing."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        return f"http://127.0.0.1:{closed.getsockname()[1]}"


def heard_all(people: People, place: str, status: str, kinds: AbstractSet[str]) -> None:
    """Wait until each of these kinds was told there with that status."""
    wait_until(
        lambda: people.count(place, status).keys() >= kinds,
        deadline_s=DEADLINE_S,
        what=f"{status} of every kind at {place}",
    )


def told_since(alertmanager: Alertmanager, instant: float) -> set[str]:
    """The kinds that it was told of after that instant (epoch seconds)."""
    alerts = alertmanager.alerts(component="launch")
    return {alert["labels"]["alertname"] for alert in alerts if parse_instant(alert["updatedAt"]) > instant}


def once_each(people: People, place: str, kinds: AbstractSet[str]) -> None:
    """Each kind was one alert there, and was over once."""
    identities = {(one.kind, tuple(sorted(one.labels.items()))) for one in people.heard if one.place == place}
    assert Counter(kind for kind, _ in identities) == dict.fromkeys(kinds, 1)
    assert people.count(place, "resolved") == dict.fromkeys(kinds, 1)


def test_a_daemon_that_is_killed_tells_each_kind_as_one_alert_and_its_end_once(
    tmp_path: Path, people: People, alertmanager_factory: AlertmanagerFactory, hanging: str, gone: str
) -> None:
    places = {name: alertmanager_factory(config=people.configuration(name)) for name in ("one", "two")}
    manifests = manifests_in(tmp_path)
    told = Told(tmp_path, manifests, (hanging, places["one"].url, gone, places["two"].url))
    documents = troubled()
    # One file, so that all of them are removed at the same moment: each alone could find another one's route as its own.
    launches = manifests / "launches.yaml"
    launches.write_text(yaml.safe_dump_all(documents))
    for name in (document["metadata"]["name"] for document in documents):
        write(manifests, drifted(name) if name == "drift" else route_document(name), *slice_documents(name))
    with told.daemon() as daemon:
        for name in places:
            heard_all(people, name, "firing", KINDS)
        daemon.kill9()
    killed_at = time.time()
    with told.daemon() as daemon:
        # What was told, but not stored when the process was killed, is found anew; that may take some seconds.
        for name, alertmanager in places.items():
            wait_until(
                lambda known=alertmanager: told_since(known, killed_at) == KINDS,  # type: ignore[misc]
                deadline_s=DEADLINE_S,
                what=f"every kind again at {name}",
            )
        launches.unlink()
        for name in places:
            heard_all(people, name, "resolved", KINDS)
        assert daemon.terminate() == 0
    for name in places:
        once_each(people, name, KINDS)


TELLING = """
import sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from controller.adapters.alertmanager import AlertSender
from controller.core.alerts import alerts_of
from controller.core.status import read_status
from controller.core.world import LaunchKey
import json, time

folder, urls = Path(sys.argv[2]), sys.argv[3:]
sender = AlertSender(urls, external_url="http://localhost", on_failure=lambda error: print(error, flush=True),
                     resend=5.0, timeout=2.0)
sender.start()
while True:
    for stored in folder.glob("*.json"):
        key = LaunchKey("prod", stored.stem)
        sender.publish(key, alerts_of(key, read_status(json.loads(stored.read_text())), time.time()))
    time.sleep(0.1)
"""
"""A process that tells what stored statuses ask for, again and again, and has no other memory.

What it sends lasts four times its pause: longer than it takes to start it again, however slow the machine is.
"""


class Teller(Server):
    """That process."""

    name = "teller"

    def __init__(self, folder: Path, statuses: Path, urls: Sequence[str]) -> None:
        super().__init__(folder)
        self._statuses, self._urls = statuses, urls

    def command(self) -> list[str]:
        return [sys.executable, "-c", TELLING, str(Path(__file__).parents[2]), str(self._statuses), *self._urls]

    def is_ready(self) -> bool:
        return True


def store(statuses: Path, name: str, *alarms: Alarm) -> None:
    """The status of a launch, whole or not at all."""
    status = Status(state=State.HELD if alarms else State.PROGRESSING, alarms=alarms)
    made = statuses / f".{name}"
    made.write_text(json.dumps(write_status(status)))
    made.rename(statuses / f"{name}.json")


def test_each_kind_is_one_alert_and_over_once_whatever_restarts_dies_hangs_or_refuses(
    tmp_path: Path, people: People, alertmanager_factory: AlertmanagerFactory, hanging: str, gone: str
) -> None:
    every = SEVERITIES.keys()
    places = {name: alertmanager_factory(config=people.configuration(name)) for name in ("one", "two")}
    statuses = tmp_path / "statuses"
    statuses.mkdir()
    began = round(time.time() - 60, 3)
    for kind in every:
        target = "eu" if kind == TARGET_ROLLED_BACK else ""
        store(statuses, kind.lower(), Alarm(kind=kind, reason="Drift", message="why", since=began, target=target))
    # Alertmanager refuses what ends before it starts, and answers 400 for the whole batch.
    store(statuses, "refused", Alarm(kind="LaunchHeld", reason="Drift", message="why", since=began + 86_400))
    urls = (hanging, places["one"].url, gone, places["two"].url)
    with Teller(tmp_path / "teller", statuses, urls) as teller:
        for name in places:
            heard_all(people, name, "firing", every)
        teller.kill9()
        teller.start()
        for alertmanager in places.values():
            alertmanager.restart()
            wait_until(
                lambda known=alertmanager: len(known.alerts(component="launch")) >= len(every),  # type: ignore[misc]
                deadline_s=DEADLINE_S,
                what="everything again at an Alertmanager that has forgotten it",
            )
        with places["two"].paused():
            for kind in every:
                store(statuses, kind.lower())
            heard_all(people, "one", "resolved", every)
        heard_all(people, "two", "resolved", every)
        wait_until(lambda: "refused" in teller.log.read_text(), deadline_s=DEADLINE_S, what="a word about the refused")
        # Told again and again for some time, it is heard no second time.
        asked = len(people.heard)
        with pytest.raises(TimeoutError):
            wait_until(lambda: len(people.heard) > asked, deadline_s=3.0, what="more")
    for name in places:
        once_each(people, name, every)


CONTACTS = [{"role": "on-call"}, {"role": "eng-lead", "after": "15s"}, {"role": "vp", "after": "20s"}]


def silence(alertmanager: Alertmanager, labels: dict[str, str]) -> str:
    """As a person does who clicks on an alert; its id."""
    matchers = [{"name": name, "value": value, "isRegex": False, "isEqual": True} for name, value in labels.items()]
    document = {
        "matchers": matchers,
        "startsAt": format_instant(time.time()),
        "endsAt": format_instant(time.time() + 3600),
        "createdBy": "ana",
        "comment": "looking at it",
    }
    with http() as session:
        answer = session.post(f"{alertmanager.url}/api/v2/silences", json=document, timeout=60)
        answer.raise_for_status()
        return str(answer.json()["silenceID"])


def test_three_roles_are_told_in_order_until_somebody_acknowledges_or_silences(
    tmp_path: Path, people: People, alertmanager_factory: AlertmanagerFactory
) -> None:
    alertmanager = alertmanager_factory(config=people.configuration("people"))
    manifests = manifests_in(tmp_path)
    names = ("unanswered", "acknowledged", "silenced")
    for name in names:
        write(manifests, route_document(name), *slice_documents(name))
        write(manifests, launch(name, contacts=CONTACTS, phases=[planning(gate={"after": "1s"})]))
    with Told(tmp_path, manifests, (alertmanager.url,)).daemon() as daemon:
        for name in names:
            wait_until(
                lambda name=name: people.roles(name),  # type: ignore[misc]
                deadline_s=DEADLINE_S,
                what=f"the first word about {name}: {daemon.tail()}",
            )
        (first,) = (one for one in people.heard if one.labels["launch"] == "silenced")
        quiet = silence(alertmanager, first.labels)
        said = subprocess.run(
            [sys.executable, "-m", "controller", "ack", "acknowledged", f"--folder={manifests}", "--reason=on it"],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert said.returncode == 0, said.stderr
        assert "accepted: nobody else is told" in said.stdout
        wait_until(lambda: "vp" in people.roles("unanswered"), deadline_s=DEADLINE_S, what="the last role")
        assert people.roles("unanswered") == ["on-call", "eng-lead", "vp"]
        assert people.roles("acknowledged") == ["on-call"]
        assert people.roles("silenced") == ["on-call"]
        with http() as session:
            session.delete(f"{alertmanager.url}/api/v2/silence/{quiet}", timeout=60).raise_for_status()
        wait_until(lambda: "vp" in people.roles("silenced"), deadline_s=DEADLINE_S, what="the end of the silence")
        assert people.roles("acknowledged") == ["on-call"]

"""Who may overrule a launch, asked of a real API server as several people: forging is refused, and says what to do."""

from __future__ import annotations

import functools
import json
import os
import re
import shlex
import subprocess
import sys
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from controller.core.overrides import VERBS, read_override
from controller.core.world import EPOCH_ANNOTATION, FINALIZER
from tests.commands.grounds import PREFIX, call, people, route
from tests.realparts.kube import IDENTITIES, ApiError, Identity, KubeApiserver, service_account
from tests.realparts.parts import ROOT, find
from tests.realparts.server import wait_until
from tests.test_command_line import running

ADMISSION = ROOT / "deploy" / "admission"
BASE = "/apis/autoadvance.dev/v1alpha1/namespaces"
MERGE = "application/merge-patch+json"
PEOPLE: Mapping[str, Identity] = {
    **IDENTITIES,
    "ada": Identity("ada@example.org", ("leads", "everybody")),
    "ben": Identity("ben@example.org", ("builders",)),
    "cy": Identity("cy@example.org", ("leads", "vice-presidents")),
    "vera": Identity("vera@example.org", ("vice-presidents",)),
    "odd": Identity("CORP\\jo"),
    "eve": Identity("eve@example.org", ("leads",)),
    "gitops": service_account("argocd", "argocd-application-controller"),
}
"""ada and ben administer, eve edits, vera approves alone; cy and gitops write plans and no more."""
SHIPPED = {"ada": "admin", "ben": "admin", "eve": "edit", "odd": "edit"}
"""Who has which of the roles that are shipped for people."""
PLAN_WRITER = {
    "apiGroups": ["autoadvance.dev"],
    "resources": ["launches"],
    "verbs": ["get", "list", "watch", "create", "update", "patch", "delete"],
}
SECURITY = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")


def block(word: str) -> Any:
    """The one example of the documentation that has this word."""
    blocks = re.findall(r"^```yaml\n(.*?)^```$", SECURITY, re.DOTALL | re.MULTILINE)
    (text,) = (block for block in blocks if word in block)
    return yaml.safe_load(text)


def rights() -> dict[str, list[Any]]:
    """The rules of each person."""
    people_s = yaml.safe_load_all((ROOT / "deploy" / "cluster" / "people.yaml").read_text())
    shipped = {role["metadata"]["name"]: role["rules"] for role in people_s}
    found = {name: shipped[f"auto-advance-{role}"] for name, role in SHIPPED.items()}
    return {**found, "vera": block("launch-approver")["rules"], "cy": [PLAN_WRITER], "gitops": [PLAN_WRITER]}


def component(folder: Path, **more: object) -> list[dict[str, Any]]:
    """What the component makes in a kustomization with these fields besides, by kubectl's own kustomize."""
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "auto-advance"}}
    (folder / "account.yaml").write_text(yaml.safe_dump(account))
    used = {"resources": ["account.yaml"], "components": [os.path.relpath(ADMISSION, folder.resolve())], **more}
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(used))
    command = [str(find("kubectl")), "kustomize", str(folder)]
    made = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    return [document for document in yaml.safe_load_all(made.stdout) if document["kind"] != "ServiceAccount"]


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KubeApiserver]:
    """An API server of these tests alone: the policies hold in the whole of it, for everybody."""
    with KubeApiserver(tmp_path_factory.mktemp("guarded"), identities=PEOPLE) as kube:
        kube.install_crds()
        kube.call("POST", "/api/v1/namespaces", {"metadata": {"name": "auto-advance"}})
        kube.apply(component(tmp_path_factory.mktemp("component")))
        roles = {"lead": "leads, platform-leads", "vp": "founders\nvice-presidents\n", "builder": "builders"}
        _set_roles(kube, roles)
        for name, rules in rights().items():
            # nobody is shipped the right to write a status: the policy has to refuse it by itself
            status = ["get", "update", "patch"]
            more = {"apiGroups": ["autoadvance.dev"], "resources": ["launches/status"], "verbs": status}
            kube.grant(name, [*rules, more])
        # the controller's own: without the verbs of people
        verbs = ["get", "list", "watch", "patch", "update"]
        own = {"apiGroups": ["autoadvance.dev"], "resources": ["launches", "launches/status"], "verbs": verbs}
        kube.grant("controller", [own])
        place = Place(kube, kube.create_namespace())
        place.create()
        attempts: dict[str, tuple[str, dict[str, Any], str]] = {
            "auto-advance-overrides": ("cy", {"metadata": {"annotations": {f"{PREFIX}hold": "x"}}}, ""),
            "auto-advance-approvals": ("ben", {"metadata": {"annotations": {f"{PREFIX}approve": "planning/gate"}}}, ""),
            "auto-advance-status": ("ada", {"status": {"reason": "because"}}, "/status"),
        }

        def in_force(policy: str) -> bool:
            identity, body, part = attempts[policy]
            # dry: what is taken too early would be no change any more
            return policy in place.said(identity, lambda: place.patch(identity, body, part=part, dryRun="All"))

        for policy in attempts:
            wait_until(functools.partial(in_force, policy), deadline_s=60, what=f"{policy} to be in force")
        yield kube


def _set_roles(kube: KubeApiserver, roles: Mapping[str, str]) -> None:
    path = "/api/v1/namespaces/auto-advance/configmaps/auto-advance-roles"
    document = kube.call("GET", path)
    kube.call("PUT", path, {**document, "data": dict(roles)})


class Place:
    """A namespace with a launch `learner`, and the ways in which somebody may try to change it."""

    def __init__(self, kube: KubeApiserver, namespace: str) -> None:
        self.kube = kube
        self.namespace = namespace
        self.path = f"{BASE}/{namespace}/launches/learner"

    def create(self, identity: str = "admin", annotations: Mapping[str, str] | None = None, **query: str) -> Any:
        document = people()
        document["metadata"]["annotations"] = dict(annotations or {})
        return self.kube.call("POST", f"{BASE}/{self.namespace}/launches", document, identity=identity, **query)

    def stored(self) -> Any:
        return self.kube.call("GET", self.path)

    def annotate(self, identity: str, **annotations: str | None) -> Any:
        """As `kubectl annotate` does; names are verbs."""
        return self.patch(identity, {"metadata": {"annotations": {PREFIX + k: v for k, v in annotations.items()}}})

    def patch(self, identity: str, body: object, content_type: str = MERGE, part: str = "", **query: str) -> Any:
        return self.kube.call("PATCH", self.path + part, body, identity=identity, content_type=content_type, **query)

    def apply(self, identity: str, document: dict[str, Any], manager: str = "gitops") -> Any:
        """Server-side apply."""
        content_type = "application/apply-patch+yaml"
        return self.patch(identity, document, content_type, fieldManager=manager, force="true")

    def replace(self, identity: str, change: Callable[[Any], object], part: str = "") -> Any:
        """Read, change, and write all of it."""
        document = self.stored()
        change(document)
        return self.kube.call("PUT", self.path + part, document, identity=identity)

    def status(self, identity: str) -> Any:
        return self.patch(identity, {"status": {"reason": "because"}}, part="/status")

    def said(self, identity: str, attempt: Callable[[], object]) -> str:
        """What the API server says against it; empty where it takes it."""
        try:
            attempt()
        except ApiError as error:
            if error.code != 403:
                raise
            return str(error.body["message"])
        return ""


@pytest.fixture
def place(guarded: KubeApiserver) -> Place:
    found = Place(guarded, guarded.create_namespace())
    found.create()
    return found


def forged(place: Place, attempt: Callable[[], object], *words: str) -> None:
    """It is refused by a policy of ours with these words, and nothing is changed."""
    before = place.stored()
    said = place.said("", attempt)
    assert re.search(r"ValidatingAdmissionPolicy 'auto-advance-[a-z]+'", said), said or "it was taken"
    assert f"launch {place.namespace}/learner: " in said, said
    for word in words:
        assert word in said
    now = place.stored()
    assert (now["metadata"].get("annotations"), now.get("status")) == (
        before["metadata"].get("annotations"),
        before.get("status"),
    )


def text(**fields: str) -> str:
    return json.dumps(fields, ensure_ascii=False)


ADA = PEOPLE["ada"].user
BEN = PEOPLE["ben"].user
ASK_OVERRIDE = ("may not change annotation autoadvance.dev/hold", "the verb override on launches", "auto-advance-edit")


def manifest(**annotations: str) -> dict[str, Any]:
    document = people()
    document["metadata"]["annotations"] = {PREFIX + verb: value for verb, value in annotations.items()}
    return document


# --- attempts of somebody without the right


def test_an_override_by_patch_needs_the_verb(place: Place) -> None:
    forged(place, lambda: place.annotate("cy", hold="a look"), *ASK_OVERRIDE)


def test_an_override_by_json_patch_needs_the_verb(place: Place) -> None:
    patch = [{"op": "add", "path": "/metadata/annotations", "value": {f"{PREFIX}hold": "a look"}}]
    forged(place, lambda: place.patch("cy", patch, "application/json-patch+json"), *ASK_OVERRIDE)


def test_an_override_by_server_side_apply_needs_the_verb(place: Place) -> None:
    forged(place, lambda: place.apply("cy", manifest(hold="a look")), *ASK_OVERRIDE)


def test_an_override_by_a_whole_update_needs_the_verb(place: Place) -> None:
    def change(document: Any) -> None:
        document["metadata"]["annotations"] = {f"{PREFIX}hold": "a look"}

    forged(place, lambda: place.replace("cy", change), *ASK_OVERRIDE)


def test_a_launch_that_is_created_with_an_override_in_it_needs_the_verb(guarded: KubeApiserver) -> None:
    elsewhere = Place(guarded, guarded.create_namespace())
    said = elsewhere.said("cy", lambda: elsewhere.create("cy", {f"{PREFIX}advance": "planning"}))
    assert "cy@example.org may not change annotation autoadvance.dev/advance" in said
    assert elsewhere.create("cy")["metadata"]["name"] == "learner"


def test_a_launch_that_is_created_by_apply_with_an_override_in_it_needs_the_verb(guarded: KubeApiserver) -> None:
    elsewhere = Place(guarded, guarded.create_namespace())
    assert "may not change" in elsewhere.said("cy", lambda: elsewhere.apply("cy", manifest(rollback="no")))


def test_a_hold_of_somebody_else_is_not_removed_without_the_verb(place: Place) -> None:
    place.annotate("ada", hold=text(reason="numbers", by=ADA))
    forged(place, lambda: place.annotate("cy", hold=None), *ASK_OVERRIDE)
    forged(place, lambda: place.replace("cy", lambda launch: launch["metadata"].pop("annotations")), *ASK_OVERRIDE)


@pytest.mark.parametrize("verb", sorted({*VERBS} - {"approve"}))
def test_no_verb_is_free(place: Place, verb: str) -> None:
    forged(place, lambda: place.annotate("cy", **{verb: "planning"}), f"annotation autoadvance.dev/{verb}")


def test_the_controller_itself_overrules_nobody(place: Place) -> None:
    place.annotate("ada", hold="numbers")
    forged(place, lambda: place.annotate("controller", hold=None), "the verb override")
    forged(place, lambda: place.annotate("controller", approve="planning/gate"))


# --- whose word it is


def test_by_somebody_else_is_refused(place: Place) -> None:
    forged(place, lambda: place.annotate("ben", hold=text(reason="x", by=ADA)), f'write "by": "{BEN}"')


def test_by_is_not_added_to_the_words_of_another(place: Place) -> None:
    place.annotate("ada", hold=text(reason="numbers"))
    forged(place, lambda: place.annotate("ben", hold=text(reason="numbers", by=ADA)), "is not who writes it")


def test_by_is_not_added_to_the_words_of_another_through_the_status(place: Place) -> None:
    place.annotate("ada", hold="numbers")

    def change(document: Any) -> None:
        document["metadata"]["annotations"][f"{PREFIX}hold"] = text(reason="numbers", by=BEN)

    forged(place, lambda: place.replace("ben", change, part="/status"), "its status is written by")
    place.replace("controller", change, part="/status")
    assert place.stored()["metadata"]["annotations"] == {f"{PREFIX}hold": "numbers"}, "the API server leaves it out"


def test_by_in_plain_text_is_part_of_the_reason(place: Place) -> None:
    place.annotate("ben", hold=f'"by": "{ADA}"')
    stored = read_override("hold", place.stored()["metadata"]["annotations"][f"{PREFIX}hold"])
    assert (stored.by, stored.fault) == ("", "")


@pytest.mark.parametrize(
    "value",
    [
        pytest.param('{"reason": "x", "\\u0062y": "ADA"}', id="an escaped name"),
        pytest.param('{"by": "BEN", "by": "ADA"}', id="twice, the own name first"),
        pytest.param('{"by": "ADA", "by": "BEN"}', id="twice, the own name last"),
        pytest.param('{"by": "\\u0061da@example.org"}', id="an escaped letter"),
        pytest.param('\u00a0{"by": "ADA"}', id="behind a blank of another kind"),
        pytest.param('\u2028\u200b{"by": "ADA"}', id="behind a line end that is not seen"),
        pytest.param('\n\t {"by": "ADA"}', id="behind blanks"),
        pytest.param('{"by"\n:\r\n"ADA"}', id="with line ends"),
        pytest.param('{"by":"ADA"}', id="without blanks"),
        pytest.param('{"reason": "\\", \\"by\\": \\"BEN", "by": "ADA"}', id="behind quotes in a reason"),
        pytest.param('{"reason": "\\\\", "by": "ADA"}', id="behind a backslash"),
        pytest.param('{"BY": "BEN", "by": "ADA"}', id="in capitals besides"),
        pytest.param('{"by": ["ADA"]}', id="a list"),
        pytest.param('{"by": "BEN"} {"by": "ADA"}', id="two objects"),
        pytest.param('{"by": "BEN", "x": {"by": "ADA"}}', id="an object within"),
        pytest.param('{"by": "ADA"', id="unfinished"),
        pytest.param('{"by": "ADA",}', id="with a comma at its end"),
        pytest.param("{'by': 'ADA'}", id="other quotes"),
        pytest.param('{"by": "ADA "}', id="with a blank behind"),
        pytest.param('{"by": ""}', id="nobody"),
    ],
)
def test_no_spelling_of_json_brings_in_another_name(place: Place, value: str) -> None:
    written = value.replace("ADA", ADA).replace("BEN", BEN)
    forged(place, lambda: place.annotate("ben", hold=written), "annotation autoadvance.dev/hold: ", "write")


@pytest.mark.parametrize(
    ("verb", "value"),
    [
        ("hold", f'{{"by": "{BEN}", "by": "{BEN}"}}'),
        ("hold", '{"reason": "lunch", "by": "BEN", "reason": "breach"}'.replace("BEN", BEN)),
        ("done", '{"value": "planning/team", "value": "planning/budget"}'),
    ],
)
def test_a_field_that_is_there_twice_is_refused_whatever_it_says(place: Place, verb: str, value: str) -> None:
    forged(place, lambda: place.annotate("ben", **{verb: value}), "it has a field twice", "write each once")


def test_capitals_are_no_way_round(place: Place) -> None:
    forged(place, lambda: place.annotate("cy", Hold="x"), "annotation autoadvance.dev/Hold: that is no verb")
    other = {"metadata": {"annotations": {"AutoAdvance.dev/hold": "x"}}}
    forged(place, lambda: place.patch("ben", other), "AutoAdvance.dev/hold: that is no verb", "in small letters")


def test_a_misspelt_verb_is_told(place: Place) -> None:
    forged(place, lambda: place.annotate("ada", hodl="x"), "ack, advance, approve, done, hold")


def test_what_is_too_long_for_the_controller_is_told(place: Place) -> None:
    forged(place, lambda: place.annotate("ada", hold="x" * 4097), "longer than 4,096 characters")
    place.annotate("ada", hold="x" * 4096)


# --- approvals


def test_an_approval_needs_the_role_that_the_plan_asks(place: Place) -> None:
    forged(
        place,
        lambda: place.annotate("ben", approve="planning/gate"),
        "planning/gate is for the role lead",
        f"{BEN} is in none of its groups (leads, platform-leads)",
        "ConfigMap auto-advance/auto-advance-roles",
    )
    forged(place, lambda: place.annotate("ada", approve=text(value="ramp/preflight", by=ADA)), "is for the role vp")


def test_an_approval_needs_the_verb_whatever_the_groups_are(place: Place) -> None:
    words = ("the verb approve", "auto-advance-admin")
    forged(place, lambda: place.annotate("cy", approve="planning/gate"), *words)


def test_a_role_without_groups_is_approved_by_nobody(place: Place) -> None:
    place.patch("admin", [{"op": "add", "path": "/spec/phases/1/gate", "value": {"approval": {"role": "legal"}}}],
                "application/json-patch+json")  # fmt: skip
    for identity in ("ada", "ben", "admin"):
        forged(
            place, lambda who=identity: place.annotate(who, approve="quiet/gate"),  # type: ignore[misc]
            "for the role legal", "(the role has none)", "write legal: GROUP",
        )  # fmt: skip


@pytest.mark.parametrize(
    "value",
    [
        pytest.param('{"value": "planning/gate", "value": "ramp/preflight"}', id="two values"),
        pytest.param('{"value": "ramp\\/preflight"}', id="an escape"),
        pytest.param('{"v\\u0061lue": "ramp/preflight"}', id="an escaped name"),
        pytest.param(" ramp/preflight ", id="blanks around"),
        pytest.param('{"value": " ramp/preflight"}', id="blanks within"),
        pytest.param("ramp/preflight\n", id="a line end"),
        pytest.param('{"reason": "\\"value\\": \\"planning/gate\\""}', id="in a reason"),
        pytest.param("planning/gate, ramp/preflight", id="two at once"),
        pytest.param("ramp", id="a phase"),
        pytest.param("", id="nothing"),
        pytest.param("ramp/007", id="zeros"),
        pytest.param("Ramp/preflight", id="capitals"),
    ],
)
def test_no_spelling_approves_something_else_than_it_says(place: Place, value: str) -> None:
    forged(place, lambda: place.annotate("ada", approve=value), "annotation autoadvance.dev/approve: ")


def test_what_the_plan_asks_no_approval_for_is_not_approved_beforehand(place: Place) -> None:
    for what in ("quiet/gate", "ramp/1", "ramp/99", "nowhere/gate"):
        forged(place, lambda of=what: place.annotate("ada", approve=of), f"the plan asks for no approval {what}")  # type: ignore[misc]


def test_a_role_that_is_edited_together_with_the_approval_does_not_count(place: Place) -> None:
    def change(document: Any) -> None:
        document["spec"]["phases"][0]["gate"]["approval"]["role"] = "builder"
        document["metadata"]["annotations"] = {f"{PREFIX}approve": "planning/gate"}

    forged(place, lambda: place.replace("ben", change), "is for the role lead")


def test_what_the_run_stands_on_says_who_approves_and_no_later_edit(place: Place) -> None:
    running = {"phases": [people()["spec"]["phases"][0]]}
    run = {"number": 1, "revision": "v2", "startedAt": "2026-01-01T00:00:00Z", "standsOn": running}
    place.patch("controller", {"status": {"run": run}}, part="/status")
    place.patch("ben", [{"op": "replace", "path": "/spec/phases/0/gate/approval/role", "value": "builder"}],
                "application/json-patch+json")  # fmt: skip
    forged(place, lambda: place.annotate("ben", approve="planning/gate"), "is for the role lead")


def test_those_of_the_role_approve(place: Place) -> None:
    place.annotate("ada", approve="planning/gate")
    place.annotate("vera", approve=text(value="ramp/preflight", reason='"go"', by=PEOPLE["vera"].user, id="1"))
    place.annotate("vera", approve=None)


def test_who_may_only_approve_does_nothing_else(place: Place) -> None:
    forged(place, lambda: place.annotate("vera", hold="x"), *ASK_OVERRIDE)


def test_a_new_entry_of_the_roles_counts_at_once(place: Place) -> None:
    gate = {"op": "add", "path": "/spec/phases/1/gate", "value": {"approval": {"role": "press"}}}
    place.patch("admin", [gate], "application/json-patch+json")
    forged(place, lambda: place.annotate("ben", approve="quiet/gate"), "for the role press")
    path = "/api/v1/namespaces/auto-advance/configmaps/auto-advance-roles"
    before = place.kube.call("GET", path)["data"]
    _set_roles(place.kube, {**before, "press": "speakers,builders"})

    def approved() -> bool:
        return not place.said("ben", lambda: place.annotate("ben", approve="quiet/gate"))

    try:
        wait_until(approved, deadline_s=30, what="the entry to be known")
    finally:
        _set_roles(place.kube, before)


def test_the_command_of_the_documentation_writes_roles(guarded: KubeApiserver) -> None:
    path = "/api/v1/namespaces/auto-advance/configmaps/auto-advance-roles"
    before = guarded.call("GET", path)["data"]
    (text,) = re.findall(r"^kubectl (.*?)^```$", SECURITY, re.DOTALL | re.MULTILINE)
    config = f"--kubeconfig={guarded.kubeconfig('admin')}"
    command = [str(find("kubectl")), config, *shlex.split(text.replace("\\\n", " "))]
    try:
        subprocess.run(command, capture_output=True, check=True, timeout=60)
        written = {"eng-lead": "leads, platform-leads", "vp": "vice-presidents"}
        assert guarded.call("GET", path)["data"] == {**before, **written}
    finally:
        _set_roles(guarded, before)


def test_without_the_roles_people_may_still_hold_and_roll_back(place: Place) -> None:
    path = "/api/v1/namespaces/auto-advance/configmaps/auto-advance-roles"
    kept = place.kube.call("GET", path)
    place.kube.call("DELETE", path)
    try:
        wait_until(
            lambda: not place.said("ben", lambda: place.annotate("ben", approve="planning/gate")),
            deadline_s=30,
            what="the loss to be known",
        )
        place.annotate("eve", hold="x", rollback="y")
        place.patch("gitops", {"metadata": {"labels": {"team": "shop"}}})
        forged(place, lambda: place.annotate("cy", approve="ramp/preflight"), "the verb approve")
    finally:
        place.kube.call(
            "POST", path.rpartition("/")[0], {"metadata": {"name": "auto-advance-roles"}, "data": kept["data"]}
        )

        def known() -> bool:
            place.annotate("ben", approve=None)
            return "for the role lead" in place.said("ben", lambda: place.annotate("ben", approve="planning/gate"))

        wait_until(known, deadline_s=30, what="the roles to be known again")


# --- the status and the finalizer


@pytest.mark.parametrize("identity", ["ada", "vera", "gitops", "admin"])
def test_the_status_is_written_by_no_person(place: Place, identity: str) -> None:
    words = ("its status is written by system:serviceaccount:auto-advance:auto-advance alone", "autoadvance.dev/hold")
    forged(place, lambda: place.status(identity), *words)
    forged(place, lambda: place.replace(identity, lambda launch: launch.update(status={}), part="/status"), *words)
    approved = {**manifest(), "status": {"approvals": [{"of": "planning/gate", "at": "2026-01-01T00:00:00Z"}]}}
    patch = "application/apply-patch+yaml"
    forged(place, lambda: place.patch(identity, approved, patch, "/status", fieldManager="x", force="true"), *words)


def test_a_status_beside_the_plan_is_not_stored(place: Place) -> None:
    place.replace("ada", lambda launch: launch.update(status={"reason": "because"}))
    assert "status" not in place.stored()


def test_the_controller_writes_the_status_and_its_finalizer(place: Place) -> None:
    place.status("controller")
    place.replace("controller", lambda launch: launch.update(status={"reason": "again"}), part="/status")
    place.patch("controller", {"metadata": {"finalizers": [FINALIZER]}})
    forged(place, lambda: place.patch("cy", {"metadata": {"finalizers": []}}), "takes the canary to 0 before")
    forged(place, lambda: place.patch("gitops", {"metadata": {"finalizers": None}}), "the verb override")
    place.patch("controller", {"metadata": {"finalizers": []}})
    place.patch("controller", {"metadata": {"finalizers": [FINALIZER]}})
    place.patch("ada", {"metadata": {"finalizers": []}})
    assert "finalizers" not in place.stored()["metadata"]


def test_the_annotation_on_a_route_decides_nothing_and_is_not_guarded(guarded: KubeApiserver) -> None:
    matched = [rule for policy in policies() for rule in policy["spec"]["matchConstraints"]["resourceRules"]]
    assert {group for rule in matched for group in rule["apiGroups"]} == {"autoadvance.dev"}
    assert EPOCH_ANNOTATION not in "".join(json.dumps(policy) for policy in policies())


# --- what is rightful passes


@pytest.mark.parametrize(
    "typed",
    [
        ("hold", '--reason=a "look"\\ at\nthe {numbers}', "--until=2h"),
        ("resume",),
        ("rollback", "--reason=не то"),
        ("retry", "--reason=again"),
        ("done", "planning/team", "planning/budget"),
        ("advance", "planning", "--until=2h"),
        ("reschedule", "ramp=2049-02-01T00:00:00Z"),
        ("ack",),
        ("approve", "planning/gate", "--reason=seen"),
    ],
    ids=lambda typed: typed[0],
)
@pytest.mark.parametrize("identity", ["ada", "eve"])
def test_every_verb_of_the_command_line_passes_as_its_person(
    place: Place, identity: str, typed: tuple[str, ...]
) -> None:
    place.annotate("admin", hold="x")
    at = (f"--kubeconfig={place.kube.kubeconfig(identity, namespace=place.namespace)}", "--wait=0s")
    shown = call(typed[0], "learner", *typed[1:], *at)
    verb = typed[0]
    if (identity, verb) == ("eve", "approve"):
        assert shown.exit_code == 3
        assert "ask for the verb approve" in shown.output
        return
    assert shown.exit_code == 0, shown.output
    annotations = place.stored()["metadata"].get("annotations") or {}
    if verb == "resume":
        assert annotations == {}
        return
    read = read_override(verb, annotations[PREFIX + verb])
    assert (read.by, read.fault) == (PEOPLE[identity].user, "")


def test_a_user_whose_name_needs_escapes_is_known_too(place: Place) -> None:
    at = (f"--kubeconfig={place.kube.kubeconfig('odd', namespace=place.namespace)}", "--wait=0s")
    assert call("hold", "learner", *at).exit_code == 0
    assert read_override("hold", place.stored()["metadata"]["annotations"][f"{PREFIX}hold"]).by == "CORP\\jo"


def test_the_command_line_says_what_the_policy_says(place: Place) -> None:
    at = (f"--kubeconfig={place.kube.kubeconfig('ben', namespace=place.namespace)}", "--wait=0s")
    shown = call("hold", "learner", f"--by={ADA}", *at)
    assert shown.exit_code == 3
    assert "is not who writes it" in shown.output
    shown = call("approve", "learner", "planning/gate", *at)
    assert (shown.exit_code, "is for the role lead" in shown.output) == (3, True)


def test_what_applies_manifests_needs_no_right_to_overrule(place: Place) -> None:
    place.apply("gitops", manifest())
    place.annotate("ada", hold=text(reason="numbers", by=ADA))
    edited = manifest()
    edited["spec"]["revision"] = "v3"
    place.apply("gitops", edited)
    place.patch("gitops", {"metadata": {"labels": {"team": "shop"}, "annotations": {"example.org/team": "shop"}}})
    place.replace("gitops", lambda launch: launch["spec"].update(revision="v4"))
    stored = place.stored()
    assert stored["spec"]["revision"] == "v4"
    assert stored["metadata"]["annotations"] == {
        f"{PREFIX}hold": text(reason="numbers", by=ADA),
        "example.org/team": "shop",
    }


def test_kubectl_s_own_apply_and_annotate_pass_and_are_refused_alike(place: Place, tmp_path: Path) -> None:
    file = tmp_path / "launch.yaml"
    file.write_text(yaml.safe_dump(people()))

    def kubectl(identity: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        config = place.kube.kubeconfig(identity, namespace=place.namespace)
        command = [str(find("kubectl")), f"--kubeconfig={config}", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)

    assert kubectl("gitops", "apply", "-f", str(file)).returncode == 0
    assert kubectl("ada", "annotate", "launch", "learner", "autoadvance.dev/hold=a look").returncode == 0
    assert kubectl("gitops", "apply", "-f", str(file)).returncode == 0, "the hold of a person stays untouched"
    assert place.stored()["metadata"]["annotations"][f"{PREFIX}hold"] == "a look"
    refused = kubectl("cy", "annotate", "launch", "learner", "autoadvance.dev/hold-")
    assert refused.returncode == 1
    assert "the verb override" in refused.stderr
    assert kubectl("ada", "annotate", "launch", "learner", "autoadvance.dev/hold-").returncode == 0


def test_a_launch_is_deleted_without_the_right_to_overrule(place: Place) -> None:
    place.annotate("ada", hold="x")
    place.kube.call("DELETE", place.path)


def test_people_bring_a_launch_forward_behind_the_policies_each_as_themselves(guarded: KubeApiserver) -> None:
    """With the controller as it is shipped: its identity, its rights."""
    at = Place(guarded, guarded.create_namespace())
    role = next(yaml.safe_load_all((ROOT / "deploy" / "base" / "role.yaml").read_text()))
    guarded.grant("controller", role["rules"], namespace=at.namespace)
    guarded.apply([people(), route()], namespace=at.namespace)
    config = f"--kubeconfig={guarded.kubeconfig('controller', namespace=at.namespace)}"
    flags = (f"--namespace={at.namespace}", "--prometheus=http://127.0.0.1:9", "--tick=250ms", "--no-leader-election")

    def typed(code: int, identity: str, *arguments: str) -> str:
        person = f"--kubeconfig={guarded.kubeconfig(identity, namespace=at.namespace)}"
        shown = call(*arguments, person, "--wait=60s")
        assert shown.exit_code == code, shown.output
        return shown.output

    with running(config, *flags) as daemon:
        daemon.wait_ready()
        assert "accepted" in typed(0, "eve", "done", "learner", "planning/team", "planning/budget", "planning/design")
        assert "is for the role vp" in typed(3, "ada", "approve", "learner", "planning/preflight")
        assert "accepted" in typed(0, "vera", "approve", "learner", "planning/preflight")
        assert "is for the role lead" in typed(3, "vera", "approve", "learner", "planning/gate")
        assert "accepted" in typed(0, "ada", "approve", "learner", "planning/gate")
        assert "accepted" in typed(0, "eve", "hold", "learner", "--reason=lunch")
        assert "heard" in typed(0, "eve", "resume", "learner")
    heard = {record["verb"]: record for record in at.stored()["status"]["overrides"]}
    assert {verb: PEOPLE[name].user for verb, name in (("done", "eve"), ("approve", "ada"), ("hold", "eve"))} == {
        verb: record["by"] for verb, record in heard.items()
    }


# --- the controller reads nothing that the policy did not judge

BLANKS = st.sampled_from(["", " ", "\n", "\t", "\r", "\u00a0", "\u2003", "\u200b", "\x1c", "\x85", "\ufeff", "\f"])
NAMES = st.sampled_from(
    ["by", "value", "reason", "until", "id", "By", "b\\u0079", "by ", "\\u0062y", "x", "by\\", "b\\y", "", "\\u200bby"]
)
VALUES = st.sampled_from(
    [
        ADA, BEN, "planning/gate", "ramp/preflight", "x", "", " ", '\\"', "\\\\", "\\u0061da@example.org",
        '\\", \\"by\\": \\"' + ADA, "\\ud800", "\\/", "ramp\\/preflight", "}", "{", "2049-01-01T00:00:00Z", "\x01", "é",
    ]
)  # fmt: skip
BARE = st.sampled_from(["null", "1", "true", "[]", "{}", f'["{ADA}"]', f'{{"by": "{ADA}"}}', "NaN", f"'{ADA}'"])


@st.composite
def odd_values(draw: st.DrawFn) -> str:
    """Text that is JSON, or nearly, with what parsers disagree about."""
    parts = []
    for _ in range(draw(st.integers(0, 3))):
        value = draw(st.one_of(VALUES.map(lambda one: f'"{one}"'), VALUES.map(lambda one: f'"{one}"'), BARE))
        colon = draw(BLANKS) + draw(st.sampled_from([":", ":", ":", "::", "="])) + draw(BLANKS)
        parts.append(f'{draw(BLANKS)}"{draw(NAMES)}"{colon}{value}{draw(BLANKS)}')
    opening = draw(st.sampled_from(["{", "{", "{", "{", "[", "{{", '"', ""]))
    closing = draw(st.sampled_from(["}", "}", "}", "}", "", "}}", ",}", "} x", "//"]))
    return draw(BLANKS) + draw(BLANKS) + opening + draw(st.sampled_from([",", ",", ",,", ";"])).join(parts) + closing


@settings(
    max_examples=400,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(value=st.one_of(odd_values(), st.text(max_size=30)), verb=st.sampled_from(["hold", "approve", "done"]))
def test_the_controller_reads_no_name_and_no_approval_that_the_policy_did_not_judge(
    odd_place: Place, value: str, verb: str
) -> None:
    try:
        taken = not odd_place.said(
            "", lambda: odd_place.patch("ada", {"metadata": {"annotations": {PREFIX + verb: value}}}, dryRun="All")
        )
    except ApiError as error:
        if error.code != 400:  # half a letter, which no JSON brings there
            raise
        return
    read = read_override(verb, value)
    if not taken:
        return
    assert read.by in ("", ADA), "ada says so, or nobody in particular"
    if verb == "approve" and not read.fault:
        assert read.value == "planning/gate", "the one that ada's role is asked for"


@pytest.fixture(scope="module")
def odd_place(guarded: KubeApiserver) -> Place:
    found = Place(guarded, guarded.create_namespace())
    found.create()
    return found


def test_what_python_takes_for_blank_the_policy_takes_for_blank() -> None:
    blanks = [chr(code) for code in range(sys.maxunicode + 1) if chr(code).isspace()]
    assert {unicodedata.category(blank)[0] for blank in blanks} <= {"Z", "C"}


# --- as they are shipped


def policies() -> list[dict[str, Any]]:
    documents = [one for file in sorted(ADMISSION.glob("*.yaml")) for one in yaml.safe_load_all(file.read_text())]
    return [document for document in documents if document["kind"] == "ValidatingAdmissionPolicy"]


def test_the_policies_fail_closed_and_every_refusal_has_words_of_its_own() -> None:
    assert len(policies()) == 3
    for policy in policies():
        assert policy["spec"]["failurePolicy"] == "Fail"
        for validation in policy["spec"]["validations"]:
            assert "messageExpression" in validation, validation["expression"]


def test_the_policy_knows_the_verbs_of_the_controller() -> None:
    (overrides,) = (policy for policy in policies() if policy["metadata"]["name"] == "auto-advance-overrides")
    (verbs,) = (one["expression"] for one in overrides["spec"]["variables"] if one["name"] == "verbs")
    assert re.findall(r"'([a-z]+)'", verbs) == sorted(VERBS)


def test_the_lines_of_the_documentation_move_the_policies_to_another_namespace(tmp_path: Path) -> None:
    made = component(tmp_path, **block("replacements:"))
    assert sum(json.dumps(one).count("['system:serviceaccount:launches:auto-advance']") for one in made) == 2
    assert "auto-advance:auto-advance" not in json.dumps(made)
    (binding,) = (one for one in made if "paramRef" in one.get("spec", {}))
    assert binding["spec"]["paramRef"]["namespace"] == "launches"
    (roles,) = (one for one in made if one["kind"] == "ConfigMap")
    assert (roles["metadata"]["name"], roles["metadata"]["namespace"]) == ("auto-advance-roles", "launches")

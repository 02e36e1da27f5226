"""What people say to a launch: the annotation that each verb writes, and what is told of it; on both clusters."""

from __future__ import annotations

import getpass
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from controller.commands import overrides
from controller.core.overrides import LONGEST_VALUE, read_override
from controller.core.units import parse_instant
from controller.core.world import Launch, LaunchKey, read_launch
from controller.errors import ConflictError
from tests.commands.grounds import FAR, ApiGround, FolderGround, Ground, call, people, route, said
from tests.realparts.server import wait_until
from tests.test_command_line import running

NOW_HERE = "--wait=0s"
"""Where no controller runs there is nothing to wait for."""
PATIENT = "--wait=60s"
"""Where one runs it answers at once, on a slow machine too."""


@pytest.fixture
def folder(tmp_path: Path) -> FolderGround:
    """A folder with a launch that nobody works on."""
    ground = FolderGround(tmp_path)
    ground.put(people())
    return ground


@pytest.fixture(scope="module", params=["folder", "api"])
def worked(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    """A cluster of each kind on which the daemon works, without any Prometheus."""
    if request.param == "folder":
        ground: Ground = FolderGround(tmp_path_factory.mktemp("worked"))
    else:
        kube = request.getfixturevalue("kube")
        ground = ApiGround(kube, kube.create_namespace())
    with running(*ground.daemon, "--prometheus=http://127.0.0.1:9", "--tick=250ms") as daemon:
        daemon.wait_ready()
        yield ground


def told(ground: Ground, code: int, *arguments: object) -> str:
    """What is said by a command that ends with this code."""
    shown = call(*arguments, *ground.flags)
    assert shown.exit_code == code, shown.output
    return shown.output


def becomes(ground: Ground, state: str) -> None:
    """The launch comes to that state, as ``status`` tells it; a decision or two may lie before it."""

    def there() -> bool:
        return re.search(rf"^state +{state}", told(ground, 0, "status", "learner"), re.MULTILINE) is not None

    wait_until(there, deadline_s=60, what=state)


def test_people_bring_a_launch_through_its_phases_on_both_clusters(worked: Ground) -> None:
    worked.put(route())
    worked.put(people())
    early = told(worked, 1, "approve", "learner", "planning/gate", PATIENT)
    assert "refused: planning/gate is not asked for yet" in early

    assert "accepted: these items count as ticked off" in told(
        worked, 0, "done", "learner", "planning/team", "planning/budget", PATIENT
    )
    assert "auto-advance approve learner" in told(worked, 0, "status", "learner")
    accepted = told(worked, 0, "approve", "learner", "planning/preflight", "--reason=looks good", PATIENT)
    assert "accepted: " in accepted
    assert "  see it with: auto-advance status learner" in accepted

    told(worked, 0, "done", "learner", "planning/design", PATIENT)
    assert re.search("\n  it is [A-Z]", told(worked, 0, "approve", "learner", "planning/gate", PATIENT))
    becomes(worked, "Scheduled")
    told(worked, 0, "reschedule", "learner", "quiet=2048-06-01T00:00:00Z", PATIENT)
    assert "2048-06-01 00:00:00Z" in told(worked, 0, "status", "learner")

    held = told(worked, 0, "hold", "learner", "--reason=lunch", PATIENT)
    assert "  go on with: auto-advance resume learner" in held
    becomes(worked, "Held")
    resumed = told(worked, 0, "resume", "learner", PATIENT)
    assert "  heard: traffic may be raised again" in resumed
    becomes(worked, "Scheduled")
    assert "hold" not in worked.annotations("learner")

    told(worked, 0, "advance", "learner", "quiet", PATIENT)
    becomes(worked, r"Held[^$]*\nphase +quiet \(2 of 3\), since ")
    assert "accepted: nobody else is told" in told(worked, 0, "ack", "learner", "--reason=on it", PATIENT)
    assert "refused: all that is firing is acknowledged already" in told(worked, 1, "ack", "learner", PATIENT)
    told(worked, 0, "rollback", "learner", "--reason=checkout is broken", PATIENT)
    assert "checkout is broken" in told(worked, 0, "status", "learner")
    again = told(worked, 0, "retry", "learner", PATIENT)
    assert "  the rollback that was asked for before is taken away" in again
    assert "rollback" not in worked.annotations("learner")
    wait_until(lambda: "run 2" in told(worked, 0, "status", "learner"), deadline_s=60, what="a second run")


def test_a_refused_rollback_does_not_wait_for_the_next_run(worked: Ground) -> None:
    worked.put({**people("late", timeZone="Nowhere"), "metadata": {"name": "late"}})
    assert "refused: no run has started" in told(worked, 1, "rollback", "late", PATIENT)
    assert worked.annotations("late") == {}


def test_who_said_it_is_whom_the_cluster_takes_one_for(worked: Ground) -> None:
    worked.put(people("named"))
    told(worked, 0, "hold", "named", PATIENT)
    assert said(worked, "hold", "named")["by"] == ("person" if isinstance(worked, ApiGround) else getpass.getuser())
    told(worked, 0, "hold", "named", "--by=ada", PATIENT)
    assert said(worked, "hold", "named")["by"] == "ada"


def test_who_may_not_write_is_told_so(worked: Ground) -> None:
    if isinstance(worked, ApiGround):
        name = worked.kube.create_namespace()
        worked.kube.apply([people("other")], namespace=name)
        shown = call("hold", f"{name}/other", *worked.flags)
        assert (shown.exit_code, shown.stdout) == (3, "")
        assert shown.stderr.startswith(f"auto-advance hold: Launch {name}/other: ")
        assert "forbidden" in shown.stderr
    else:
        place = worked.daemon[0].partition("=")[2]
        shown = call("hold", "learner", f"--folder={place}/none")
        assert (shown.exit_code, shown.stderr) == (
            2,
            f"auto-advance hold: --folder: {place}/none is not a folder; name one that holds manifests\n",
        )


WRITTEN = [
    (["hold", "--reason", "lunch"], "hold", {"reason": "lunch"}),
    (["rollback", "--reason", "bad"], "rollback", {"reason": "bad"}),
    (["ack", "--reason", "on it"], "ack", {"reason": "on it"}),
    (["retry"], "retry", {}),
    (["approve", "planning/gate", "--reason", "fine"], "approve", {"value": "planning/gate", "reason": "fine"}),
    (["done", "planning/team", "quiet/tests"], "done", {"value": "planning/team, quiet/tests"}),
    (["done", "planning/team,planning/team"], "done", {"value": "planning/team"}),
    (["advance", "planning"], "advance", {"value": "planning"}),
    (["advance", "ramp/02"], "advance", {"value": "ramp/2"}),
    (["advance", "ramp/last"], "advance", {"value": "ramp/last"}),
    (["reschedule", f"quiet={FAR}"], "reschedule", {"value": f"quiet={FAR}"}),
]


@pytest.mark.parametrize(("typed", "verb", "fields"), WRITTEN, ids=[" ".join(typed[:2]) for typed, *_ in WRITTEN])
def test_a_verb_writes_its_annotation(
    folder: FolderGround, typed: list[str], verb: str, fields: Mapping[str, str]
) -> None:
    told(folder, 0, typed[0], "learner", *typed[1:], "--by=ada", NOW_HERE)
    written = said(folder, verb)
    assert len(written.pop("id")) == 8
    assert written == {**fields, "by": "ada"}
    assert read_override(verb, folder.annotations("learner")[verb]).fault == ""


def test_the_same_words_can_be_said_again(folder: FolderGround) -> None:
    told(folder, 0, "retry", "learner", NOW_HERE)
    first = folder.annotations("learner")["retry"]
    told(folder, 0, "retry", "learner", NOW_HERE)
    assert folder.annotations("learner")["retry"] != first


def test_until_is_an_instant_or_a_duration_from_now(folder: FolderGround) -> None:
    told(folder, 0, "hold", "learner", f"--until={FAR}", NOW_HERE)
    assert parse_instant(said(folder, "hold")["until"]) == parse_instant(FAR)
    told(folder, 0, "hold", "learner", "--until=2h", NOW_HERE)
    first = parse_instant(said(folder, "hold")["until"])
    told(folder, 0, "hold", "learner", "--until=3h", NOW_HERE)
    assert 3590 < parse_instant(said(folder, "hold")["until"]) - first < 4000


def test_without_a_controller_it_stays_written_and_the_exit_code_says_so(folder: FolderGround) -> None:
    shown = told(folder, 4, "hold", "learner", "--wait=300ms")
    assert "no controller has answered within 0.3 s; it stays written" in shown
    assert "hold" in folder.annotations("learner")


UNUSABLE = [
    (["approve", "ramp/gate"], "'ramp/gate' needs no approval; write ramp/preflight"),
    (["approve", "quiet/gate"], "write planning/preflight, planning/gate or ramp/preflight"),
    (["approve", "plan/gate"], "there is no phase 'plan'; write planning, quiet or ramp"),
    (["done", "planning/teem"], "'planning/teem' is no item of the plan; write planning/team, "),
    (["done", ","], "names no item; write "),
    (["advance", "ramp/3"], "'3' is no step of phase ramp; write ramp/1 to ramp/2, or ramp/last"),
    (["advance", "quiet/1"], "phase quiet has no steps; write quiet alone"),
    (["reschedule", "quiet"], "'quiet' names no instant; write PHASE=INSTANT, such as quiet="),
    (["reschedule", "quiet=tomorrow"], "'tomorrow' is not an instant; write "),
    (["reschedule", "quiet=2001-01-01T00:00:00Z"], "is over; write an instant to come"),
    (["hold", "--until=soon"], "--until: 'soon' is not an instant"),
    (["hold", "--until=2001-01-01T00:00:00Z"], "is over; write an instant to come"),
    (["hold", "--wait=forever"], "--wait: 'forever' is not a duration"),
    (["hold", "--wait=2h"], "--wait: 2h is out of range; write 60s at most"),
    (["hold", f"--reason={'x' * LONGEST_VALUE}"], "write 4,096 at most"),
    (["hold", "--reason=\udc80"], "--reason or --by: it is not UTF-8; write plain text"),
    (["hold", "--context=other"], "--context: it cannot be given together with --folder; give one of the two"),
]


@pytest.mark.parametrize(("typed", "words"), UNUSABLE, ids=[" ".join(typed)[:40] for typed, _ in UNUSABLE])
def test_what_cannot_be_used_is_told_with_what_there_is_and_nothing_is_written(
    folder: FolderGround, typed: list[str], words: str
) -> None:
    shown = call(typed[0], "learner", *typed[1:], *folder.flags)
    assert (shown.exit_code, shown.stdout) == (2, "")
    assert shown.stderr.startswith(f"auto-advance {typed[0]}: ")
    assert words in shown.stderr
    assert folder.annotations("learner") == {}


def test_a_plan_without_people_says_what_to_use_instead(tmp_path: Path) -> None:
    ground = FolderGround(tmp_path)
    ground.put(people(phases=[{**people()["spec"]["phases"][2], "preflight": {}}]))
    assert "the plan asks for no approval; to pass a wait or a gate by hand, use advance" in told(
        ground, 2, "approve", "learner", "ramp/gate"
    )
    assert "the plan has no checklist and no deliverables" in told(ground, 2, "done", "learner", "ramp/x")


def test_of_a_plan_with_faults_the_controller_says_what_fits(folder: FolderGround) -> None:
    folder.put(people(timeZone="Nowhere"))
    shown = told(folder, 0, "advance", "learner", "old-phase", NOW_HERE)
    assert "launch prod/learner: its plan has faults, so old-phase could not be checked" in shown
    assert said(folder, "advance")["value"] == "old-phase"


def test_what_was_ticked_off_and_not_heard_yet_is_said_again(folder: FolderGround) -> None:
    told(folder, 0, "done", "learner", "planning/team", NOW_HERE)
    shown = told(folder, 0, "done", "learner", "planning/budget", NOW_HERE)
    assert said(folder, "done")["value"] == "planning/team, planning/budget"
    assert "no controller has heard planning/team yet, so that is said again with it" in shown


def test_what_replaces_a_word_that_nobody_has_heard_says_so(folder: FolderGround) -> None:
    told(folder, 0, "approve", "learner", "planning/preflight", NOW_HERE)
    shown = told(folder, 0, "approve", "learner", "planning/gate", NOW_HERE)
    assert "it replaces approve planning/preflight, which no controller has heard" in shown


def test_resume_without_a_hold_writes_nothing(folder: FolderGround) -> None:
    told(folder, 0, "retry", "learner", NOW_HERE)
    before = folder.annotations("learner")
    assert "nobody has asked it to hold; nothing was written" in told(folder, 0, "resume", "learner")
    assert folder.annotations("learner") == before


def test_a_launch_is_found_by_its_name_where_only_one_namespace_has_it(folder: FolderGround) -> None:
    assert "Launch nobody: there is none; write one of prod/learner" in told(folder, 3, "hold", "nobody")
    assert "Launch prod/nobody: there is none; write one of prod/learner" in told(folder, 3, "hold", "prod/nobody")
    assert "namespace dev has no launch; name another with -n" in told(folder, 3, "hold", "learner", "--namespace=dev")
    FolderGround(folder.folder, "dev").put(people())
    assert "there are several; write one of dev/learner, prod/learner" in told(folder, 3, "hold", "learner")
    told(folder, 0, "hold", "learner", "--namespace=dev", NOW_HERE)
    told(folder, 0, "hold", "dev/learner", NOW_HERE)
    assert folder.annotations("learner") == {}


def test_a_word_survives_that_others_write_in_between() -> None:
    stored = read_launch({**people(), "metadata": {"name": "learner", "namespace": "prod", "uid": "1"}})

    class Busy:
        """A cluster where twice somebody else is faster."""

        namespace = ""
        tries = 0

        def launches(self, namespace: str) -> list[Launch]:
            return [stored]

        def launch(self, key: LaunchKey) -> Launch:
            return stored

        def annotate(self, key: LaunchKey, changes: Mapping[str, str | None]) -> Launch:
            self.tries += 1
            if self.tries < 3:
                raise ConflictError(f"Launch {key}: changed at this very moment")
            return stored

        def user(self) -> str:
            return ""

        def close(self) -> None:
            """Nothing was opened."""

    desk = Busy()
    assert overrides._annotate(desk, stored, {"retry": "x"}) is stored
    assert desk.tries == 3

"""The operator's file on a real disk: taken over when its content changes, kept as it was when an edit is broken.

The stop beside it: an edit of it that is broken stops all raises.
"""

from __future__ import annotations

import contextlib
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from controller.adapters.configuration_file import (
    MOST_BYTES,
    WatchedConfiguration,
    edit_stop,
    missing_files,
    read,
    stop_at,
    stop_of,
    stop_text,
)
from controller.adapters.reached import alertmanagers, backends, confinement, said_twice
from controller.core.configuration import InvalidConfigurationError
from controller.core.series import RecordedForm
from controller.core.terms import Limits, Stop
from controller.errors import ConflictError, RefusedError, UnansweredError
from controller.settings import read_settings
from tests.realparts.mounted import Mounted

GOOD = "limits: {launches: 3} # a few\n"
STOP = Stop("incident 7", "ann", 1762005600.0)


@dataclass
class Book:
    """What is told of edits."""

    problems: list[str] = field(default_factory=list)
    stop_problems: list[str] = field(default_factory=list)

    def configured(self, *, problem: str, stop_problem: str = "") -> None:
        self.problems.append(problem)
        self.stop_problems.append(stop_problem)


def watched(path: Path) -> tuple[WatchedConfiguration, Book]:
    book = Book()
    return WatchedConfiguration(path, RecordedForm(), book, missing_files), book


def test_an_edit_of_a_mounted_configmap_is_taken_over(tmp_path: Path) -> None:
    mounted = Mounted(tmp_path, GOOD)
    configuration, book = watched(mounted.path)
    assert configuration.configuration.limits == Limits(launches=3)
    assert not configuration.look()
    mounted.update("limits: {launches: 4}\n")
    assert configuration.look()
    assert configuration.configuration.limits == Limits(launches=4)
    assert not configuration.look()
    assert book.problems == [""]


def test_an_edit_that_says_the_same_changes_nothing(tmp_path: Path) -> None:
    mounted = Mounted(tmp_path, GOOD)
    configuration, book = watched(mounted.path)
    mounted.update("# other words\n" + GOOD)
    assert not configuration.look()
    assert book.problems == [""]


@pytest.mark.parametrize(
    ("broken", "told"),
    [
        ("limits: {launches: none}\n", "limits.launches: is 'none'; write a whole number"),
        ("limits: {launches: [\n", "line 2, column 1: "),
        ("limits: {}\n---\nconfine: true\n", "line 3: a second document begins here; write one"),
        ("limits: {launches: 3}\nlimits: {launches: 4}\n", "line 2, column 1: "),
        (
            "prometheus: {eu: {url: http://a, bearerTokenFile: /no/such}}\n",
            "prometheus.eu.bearerTokenFile: /no/such is not a file; mount it, or name another",
        ),
    ],
    ids=["value", "yaml", "two documents", "twice", "no file"],
)
def test_a_broken_edit_keeps_the_last_good_one_and_is_told_of_once(tmp_path: Path, broken: str, told: str) -> None:
    mounted = Mounted(tmp_path, GOOD)
    configuration, book = watched(mounted.path)
    mounted.update(broken)
    for _ in range(3):
        assert not configuration.look()
    assert configuration.configuration.limits == Limits(launches=3)
    (problem,) = book.problems
    assert told in problem
    mounted.update("limits: {launches: 5}\n")
    assert configuration.look()
    assert book.problems[1:] == [""]


def test_that_a_broken_edit_was_taken_back_is_told(tmp_path: Path) -> None:
    mounted = Mounted(tmp_path, GOOD)
    configuration, book = watched(mounted.path)
    mounted.update("limits: 5\n")
    configuration.look()
    mounted.update(GOOD)
    assert not configuration.look()
    assert len(book.problems) == 2
    assert book.problems[-1] == ""


def test_a_file_that_is_gone_keeps_the_last_good_one(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(GOOD)
    configuration, book = watched(path)
    path.unlink()
    assert not configuration.look()
    assert book.problems == [f"{path}: it cannot be read: No such file or directory"]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (None, "it cannot be read: No such file or directory"),
        (b"limits: \xff", "line 1 is not UTF-8; save it as that"),
        (b"#" * (MOST_BYTES + 1), "is larger than 1,048,576 bytes; write less"),
        (b"- 1\n", "is a list; write sections"),
    ],
    ids=["none", "no text", "too large", "a list"],
)
def test_at_the_start_a_broken_file_is_an_error(tmp_path: Path, content: bytes | None, told: str) -> None:
    path = tmp_path / "config.yaml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InvalidConfigurationError, match=told):
        watched(path)


# The stop beside it


def test_a_stop_comes_and_goes_with_its_key_and_the_configuration_stays(tmp_path: Path) -> None:
    mounted = Mounted(tmp_path, GOOD)
    configuration, book = watched(mounted.path)
    assert configuration.stop is None
    mounted.replace({"config.yaml": GOOD, "stop.yaml": stop_text(STOP)})
    assert configuration.look()
    assert configuration.stop == STOP
    assert not configuration.look()
    mounted.replace({"config.yaml": GOOD})
    assert configuration.look()
    assert configuration.stop is None
    assert configuration.configuration.limits == Limits(launches=3)
    assert book.stop_problems == book.problems == ["", ""]


BROKEN_STOPS = [
    ("", "reason: is missing; write reason: incident 4711"),
    ("# soon\n", "reason: is missing; write reason: incident 4711"),
    ("incident 7\n", "content: is 'incident 7', where fields are expected; write reason: incident 4711"),
    ("reason: 7\n", "reason: is 7, which is not text; put it in quotes"),
    ("reason: x\nuntil: soon\n", "until: 'soon' is not an instant; write an instant with its offset"),
    ("reason: x\nbecause: y\n", "because: is not a field here; remove it, or write reason, by or until"),
    ("reason: [\n", "line 2, column 1: "),
    ("reason: x\n---\nreason: y\n", "line 3: a second document begins here; write one"),
]


@pytest.mark.parametrize(("broken", "told"), BROKEN_STOPS)
def test_a_broken_stop_stops_and_says_which_field_and_what_to_write(tmp_path: Path, broken: str, told: str) -> None:
    mounted = Mounted(tmp_path, GOOD)
    configuration, book = watched(mounted.path)
    mounted.replace({"config.yaml": GOOD, "stop.yaml": broken})
    assert configuration.look()
    for _ in range(3):
        assert not configuration.look()
    stop = configuration.stop
    assert stop is not None
    assert stop.stands(4e9), "it lapses at no time"
    assert stop.words.startswith(f" by a broken stop.yaml: {told}")
    (problem,) = book.stop_problems
    assert told in problem
    assert book.problems == [""], "the configuration is well"
    mounted.replace({"config.yaml": GOOD, "stop.yaml": "reason: incident 7\n"})
    assert configuration.look()
    assert configuration.stop == Stop("incident 7")
    assert book.stop_problems[1:] == [""]


def test_a_broken_stop_stops_from_the_start(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(GOOD)
    (tmp_path / "stop.yaml").write_bytes(b"reason: \xff\n")
    configuration, book = watched(path)
    assert configuration.stop is not None
    assert book.stop_problems == [f"{tmp_path / 'stop.yaml'}: line 1 is not UTF-8; save it as that"]


def test_a_stop_that_cannot_be_read_stops(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(GOOD)
    (tmp_path / "stop.yaml").mkdir()
    configuration, _ = watched(path)
    assert configuration.stop is not None
    assert configuration.stop.reason == f"{tmp_path / 'stop.yaml'}: it cannot be read: Is a directory"


def test_a_stop_comes_and_goes_beside_a_broken_configuration_too(tmp_path: Path) -> None:
    mounted = Mounted(tmp_path, GOOD)
    configuration, book = watched(mounted.path)
    mounted.replace({"config.yaml": "limits: 5\n", "stop.yaml": "reason: incident 7\n"})
    assert configuration.look()
    assert configuration.stop == Stop("incident 7")
    assert configuration.configuration.limits == Limits(launches=3)
    mounted.replace({"config.yaml": "limits: 5\n"})
    assert configuration.look()
    assert configuration.stop is None
    assert [bool(problem) for problem in book.problems] == [True, True]


def test_where_the_whole_folder_is_gone_the_stop_stays(tmp_path: Path) -> None:
    folder = tmp_path / "there"
    folder.mkdir()
    path = folder / "config.yaml"
    path.write_text(GOOD)
    edit_stop(path, STOP)
    configuration, _ = watched(path)
    folder.rename(tmp_path / "elsewhere")
    assert not configuration.look()
    assert configuration.stop == STOP


def test_a_configuration_is_not_named_as_the_stop_is(tmp_path: Path) -> None:
    path = tmp_path / "stop.yaml"
    path.write_text(GOOD)
    with pytest.raises(InvalidConfigurationError, match=r"stop\.yaml is the name of the stop beside the configuration"):
        watched(path)


def test_a_stop_in_the_configuration_is_a_fault_that_says_where_it_belongs() -> None:
    with pytest.raises(
        InvalidConfigurationError, match=r"^stop: a stop of all .* by auto-advance stop --all, or as reas"
    ):
        read("stop: {reason: x}\n", RecordedForm())


@pytest.mark.parametrize(
    "stop",
    [Stop("incident 7"), STOP, Stop("a: b # c"), Stop("null", "2025"), Stop("'\"\\é", "*all"), Stop("[", "- x")],
    ids=str,
)
def test_every_stop_is_written_as_it_is_read(stop: Stop) -> None:
    assert stop_of(stop_text(stop)) == stop


def test_a_stop_is_written_for_whoever_may_read_the_configuration_and_taken_away(tmp_path: Path) -> None:
    path, stop = tmp_path / "config.yaml", tmp_path / "stop.yaml"
    path.write_text(GOOD)
    path.chmod(0o640)
    assert edit_stop(path, STOP)
    assert stop_at(stop) == STOP
    assert stop.stat().st_mode & 0o777 == 0o640
    assert not edit_stop(path, STOP)
    assert edit_stop(path, Stop("incident 8"))
    assert stop_at(stop) == Stop("incident 8")
    assert sorted(tmp_path.iterdir()) == [path, stop]
    assert path.read_text() == GOOD
    assert edit_stop(path, None)
    assert not edit_stop(path, None)
    assert list(tmp_path.iterdir()) == [path]


def test_a_stop_that_was_written_by_hand_and_says_the_same_stays_as_it_is(tmp_path: Path) -> None:
    path, stop = tmp_path / "config.yaml", tmp_path / "stop.yaml"
    path.write_text(GOOD)
    stop.write_text("by: ann # on call\nreason: incident 7\n")
    assert not edit_stop(path, Stop("incident 7", "ann"))
    assert "# on call" in stop.read_text()


@pytest.mark.parametrize("broken", [b"reason: [\n", b"\xff\xfe", b""])
def test_a_broken_stop_can_be_replaced_and_taken_away(tmp_path: Path, broken: bytes) -> None:
    path, stop = tmp_path / "config.yaml", tmp_path / "stop.yaml"
    path.write_text(GOOD)
    stop.write_bytes(broken)
    assert edit_stop(path, STOP)
    assert stop_at(stop) == STOP
    stop.write_bytes(broken)
    assert edit_stop(path, None)
    assert not stop.exists()


def test_of_many_who_write_a_stop_at_the_same_time_each_hears_whether_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(GOOD)
    begin = threading.Barrier(8)

    def write(number: int) -> Stop | None:
        begin.wait()
        with contextlib.suppress(ConflictError):
            if edit_stop(path, Stop(f"incident {number}")):
                return Stop(f"incident {number}")
        return None

    with ThreadPoolExecutor(8) as pool:
        written = set(pool.map(write, range(8)))
    assert stop_at(tmp_path / "stop.yaml") in written - {None}
    assert len(list(tmp_path.iterdir())) == 2


def test_a_stop_that_cannot_be_written_says_why(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(GOOD)
    (tmp_path / "stop.yaml").mkdir()
    with pytest.raises(UnansweredError, match=r"stop\.yaml: Is a directory"):
        edit_stop(path, STOP)
    with pytest.raises(RefusedError, match="this stop cannot be written: reason: "):
        stop_text(Stop("a\nb"))


def test_a_mounted_configmap_is_not_edited_in_its_mount(tmp_path: Path) -> None:
    mounted = Mounted(tmp_path, GOOD)
    with pytest.raises(RefusedError, match="mounted from a ConfigMap, which the kubelet writes; leave --config out"):
        edit_stop(mounted.path, STOP)


# The flags and the file together


def test_the_flags_say_the_default_prometheus_where_the_file_does_not() -> None:
    file = read("prometheus: {eu: {url: http://eu:9090/}}\n", RecordedForm())
    assert {name: one.url for name, one in backends(read_settings({}, {}), file).items()} == {"eu": "http://eu:9090"}
    flags = read_settings({"prometheus": "http://main:9090"}, {})
    assert {name: one.url for name, one in backends(flags, file).items()} == {
        "eu": "http://eu:9090",
        "default": "http://main:9090",
    }
    nothing = read("", RecordedForm())
    assert {name: one.url for name, one in backends(read_settings({}, {}), nothing).items()} == {
        "default": "http://127.0.0.1:9090"
    }
    assert not said_twice(flags, file)


def test_what_both_say_is_told_with_both_names() -> None:
    flags = {
        "prometheus-timeout": "3s",
        "prometheus": "http://a",
        "alertmanager": ["http://b"],
        "unconfined-queries": True,
    }
    file = read("prometheus: {default: {url: http://c}}\nalertmanagers: []\nconfine: true\n", RecordedForm())
    assert [str(fault) for fault in said_twice(read_settings(flags, {}), file)] == [
        "prometheus.default: --prometheus, --prometheus-timeout (or its variable) says it too; remove one of the two",
        "alertmanagers: --alertmanager (or its variable) says them too; remove one of the two",
        "confine: --unconfined-queries (or its variable) says it too; remove one of the two",
    ]


def test_how_alertmanagers_and_the_scope_check_are_said_in_the_file(tmp_path: Path) -> None:
    password = tmp_path / "password"
    password.write_text("hush\n")
    text = f"alertmanagers: [{{url: http://a/, username: me, passwordFile: {password}}}]\nconfine: false\n"
    file, settings = read(text, RecordedForm()), read_settings({}, {})
    (access,) = alertmanagers(settings, file)
    assert not isinstance(access, str)
    assert (access.url, access.header()) == ("http://a", {"Authorization": "Basic bWU6aHVzaA=="})
    password.write_text("other")
    assert access.header() == {"Authorization": "Basic bWU6b3RoZXI="}, "it is read again"
    assert not confinement(settings, file).enforced
    assert confinement(settings).enforced

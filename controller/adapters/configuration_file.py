"""The operator's file and the stop of all launches beside it: read, and looked at again when their content changes.

The stop is a file, or a key of the ConfigMap, of its own that no manifest has: to apply the configuration anew, as
tools do by themselves, leaves it as it is.

A mounted ConfigMap changes by a symbolic link that is put in another's place, so it is the content that is compared, and
nothing is concluded from times or inodes.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

from controller.adapters import yaml_documents
from controller.adapters.yaml_documents import YamlError
from controller.core.configuration import Configuration, InvalidConfigurationError, read_configuration, read_stop
from controller.core.faults import Fault
from controller.core.series import RecordedForm
from controller.core.terms import Stop
from controller.core.units import format_instant
from controller.errors import ConflictError, RefusedError, UnansweredError

STOP_KEY = "stop.yaml"
"""The key of the ConfigMap, and the name of the file beside the configuration, that holds a stop of all launches."""
MOST_BYTES = 1024 * 1024
"""What a ConfigMap may hold."""
_LONGEST_REASON = 512
_TRIES = 5

Check = Callable[[Configuration], list[Fault]]


def read_text(path: Path) -> str:
    """The text of the file. Raises InvalidConfigurationError, also where it cannot be read."""
    try:
        return _text(path)
    except OSError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: OSError) -> InvalidConfigurationError:
    return InvalidConfigurationError([Fault(str(path), f"it cannot be read: {error.strerror or error}")])


def _text(path: Path) -> str:
    with path.open("rb") as file:
        content = file.read(MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        raise InvalidConfigurationError([Fault(str(path), f"is larger than {MOST_BYTES:,} bytes; write less")])
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        fault = Fault(str(path), f"line {line} is not UTF-8; save it as that")
        raise InvalidConfigurationError([fault]) from error


def read(text: str, recorded: RecordedForm, check: Check | None = None) -> Configuration:
    """What the text of a file says; ``check`` finds what else is wrong with it here.

    Raises InvalidConfigurationError with every fault.
    """
    found = read_configuration(_value(text), recorded)
    if check is not None and (faults := check(found)):
        raise InvalidConfigurationError(faults)
    return found


def stop_path(config: Path) -> Path:
    """Where the stop stands that goes with this configuration. Raises InvalidConfigurationError for its own name."""
    if config.name == STOP_KEY:
        fault = Fault(
            str(config), f"{STOP_KEY} is the name of the stop beside the configuration; name the file otherwise"
        )
        raise InvalidConfigurationError([fault])
    return config.parent / STOP_KEY


def stop_at(path: Path) -> Stop | None:
    """The stop that stands in the file; None where there is no such file. Raises InvalidConfigurationError."""
    try:
        text = _text(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _unreadable(path, error) from error
    return stop_of(text)


def stop_of(text: str) -> Stop:
    """What the text of the stop says. Raises InvalidConfigurationError with every fault."""
    return read_stop(_value(text))


def missing_files(configuration: Configuration) -> list[Fault]:
    """The files that it names and that are not there."""
    return [
        Fault(place, f"{path} is not a file; mount it, or name another")
        for place, path in configuration.files()
        if not Path(path).is_file()
    ]


def _value(text: str) -> Any:
    try:
        documents = yaml_documents.read_documents(text)
    except YamlError as error:
        fault = Fault(f"line {error.line}, column {error.column}", error.message)
        raise InvalidConfigurationError([fault]) from error
    if len(documents) > 1:
        fault = Fault(f"line {documents[1].line}", "a second document begins here; write one")
        raise InvalidConfigurationError([fault])
    return documents[0].value if documents else None


class ConfigurationRecorder(Protocol):
    """Who is told of edits of the files."""

    def configured(self, *, problem: str, stop_problem: str = "") -> None:
        """An edit was taken over, or is broken: of the configuration (``problem``), so that the one before it stays in
        force, or of the stop, so that all raises are stopped.
        """


class WatchedConfiguration:
    """The files as they are in force: the last configuration without faults, and the stop, also where it has faults.

    Not for several threads. Raises InvalidConfigurationError where the first configuration has faults.
    """

    def __init__(
        self, path: Path, recorded: RecordedForm, recorder: ConfigurationRecorder, check: Check | None = None
    ) -> None:
        self._path, self._recorded, self._recorder, self._check = path, recorded, recorder, check
        self._stop_path = stop_path(path)
        self._seen = read_text(path)
        self._broken = self._stop_broken = ""
        self.configuration = read(self._seen, recorded, check)
        self.stop: Stop | None = None
        self._look_at_stop()
        if self._stop_broken:
            self._tell()

    def look(self) -> bool:
        """Whether something else is in force since the last look. An edit with faults is told of once."""
        told = self._seen, self._broken, self._stop_broken, self.stop
        in_force = self.configuration, self.stop
        self._look_at_file()
        self._look_at_stop()
        # Also where a broken edit was taken back: that it is well again is to be told.
        if (self._seen, self._broken, self._stop_broken, self.stop) != told:
            self._tell()
        return (self.configuration, self.stop) != in_force

    def _look_at_file(self) -> None:
        try:
            text = read_text(self._path)
            # Files that it names may come later, so the same content is looked at again.
            if text != self._seen or self._broken:
                self.configuration = read(text, self._recorded, self._check)
                self._seen, self._broken = text, ""
        except InvalidConfigurationError as error:
            self._broken = str(error)

    def _look_at_stop(self) -> None:
        try:
            stop = stop_at(self._stop_path)
        except InvalidConfigurationError as error:
            # Somebody wanted a stop and mistyped it; to go on would be the worse mistake.
            self._stop_broken = str(error)
            self.stop = Stop(self._stop_broken[:_LONGEST_REASON], f"a broken {STOP_KEY}")
            return
        if stop is None and not os.path.lexists(self._path):
            return  # the whole folder is gone, and by that nobody has lifted anything
        self.stop, self._stop_broken = stop, ""

    def _tell(self) -> None:
        self._recorder.configured(problem=self._broken, stop_problem=self._stop_broken)


def stop_text(stop: Stop) -> str:
    """The text of the file that says this stop. Raises RefusedError where it cannot be said."""
    until = "" if stop.until is None else format_instant(stop.until)
    fields = {"reason": stop.reason, "by": stop.by, "until": until}
    changes: dict[yaml_documents.Path, Any] = {(name,): value for name, value in fields.items() if value}
    try:
        text, _ = yaml_documents.edited("".join(f"{name}: x\n" for (name,) in changes), 0, changes)
        stop_of(text)
    except (YamlError, InvalidConfigurationError) as error:
        raise RefusedError(f"this stop cannot be written: {error}") from error
    return text


def changed_stop(before: str | None, stop: Stop | None) -> str | None:
    """The text of the stop's file in the place of ``before``, None for no file; a stop that is there already stays."""
    if stop is None:
        return None
    text = stop_text(stop)
    with contextlib.suppress(InvalidConfigurationError):
        if before is not None and stop_of(before) == stop_of(text):
            return before
    return text


def edit_stop(config: Path, stop: Stop | None) -> bool:
    """Write the stop beside the configuration, or (None) take it away; whether that changed something.

    Nobody sees half of it. Raises RefusedError for a mounted ConfigMap, ConflictError where somebody else writes it at
    the same time, else UnansweredError.
    """
    path = stop_path(config)
    if (path.parent / "..data").is_symlink():
        raise RefusedError(f"{path.parent} is mounted from a ConfigMap, which the kubelet writes; leave --config out")
    for _ in range(_TRIES):
        try:
            before = _content(path)
            known = None if before is None else before.decode("utf-8-sig", errors="replace")
            after = changed_stop(known, stop)
            if after == known:
                return False
            if _swapped(path, before, after, config.stat()):
                return True
        except FileNotFoundError:
            continue  # somebody else took it away in between
        except OSError as error:
            raise UnansweredError(f"{path}: {error.strerror or error}") from error
    raise ConflictError(f"{path}: somebody else is writing it; try again")


def _swapped(path: Path, before: bytes | None, after: str | None, like: os.stat_result) -> bool:
    """Whether the file could be given the other content, since it still had the one before."""
    if _content(path) != before:
        return False
    if after is None:
        path.unlink()
        return True
    with _beside(path) as fresh:
        fresh.write_text(after, encoding="utf-8")
        # whoever may read the configuration has to be able to read the stop
        fresh.chmod(like.st_mode & 0o666)
        with contextlib.suppress(PermissionError):
            os.chown(fresh, like.st_uid, like.st_gid)
        if before is not None:
            fresh.replace(path)
            return True
        try:
            path.hardlink_to(fresh)
        except FileExistsError:
            return False
    return True


def _content(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


@contextlib.contextmanager
def _beside(target: Path) -> Iterator[Path]:
    handle, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    os.close(handle)
    fresh = Path(name)
    try:
        yield fresh
    finally:
        fresh.unlink(missing_ok=True)

"""Which cluster a command speaks to, and which launch is meant."""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Protocol

import typer

from controller.commands.program import EXIT_CLUSTER, EXIT_USAGE, fail
from controller.errors import AdapterError, NotFoundError

if TYPE_CHECKING:
    from controller.core.world import Launch, LaunchKey

Name = Annotated[
    str, typer.Argument(metavar="LAUNCH", help="NAME or NAMESPACE/NAME of the launch.", show_default=False)
]
Namespace = Annotated[
    str,
    typer.Option("-n", "--namespace", help="Namespace; default: the context's, in a folder any.", show_default=False),
]
Kubeconfig = Annotated[
    str,
    typer.Option(
        "--kubeconfig",
        help="Kubeconfig file; default: KUBECONFIG.",
        envvar="AUTO_ADVANCE_KUBECONFIG",
        show_default=False,
    ),
]
Context = Annotated[
    str, typer.Option("--context", help="Context of it.", envvar="AUTO_ADVANCE_CONTEXT", show_default=False)
]
Folder = Annotated[
    str,
    typer.Option(
        "--folder", help="A folder of manifests instead of a cluster.", envvar="AUTO_ADVANCE_FOLDER", show_default=False
    ),
]


class Desk(Protocol):
    """Where a person reads launches and leaves words for them. Its methods raise AdapterError."""

    namespace: str
    """The namespace that is meant where none is given; empty: any."""

    def launches(self, namespace: str) -> list[Launch]:
        """The launches of a namespace, or of all of them (empty), by namespace and name."""

    def launch(self, key: LaunchKey) -> Launch:
        """One launch, afresh."""

    def annotate(self, key: LaunchKey, changes: Mapping[str, str | None]) -> Launch:
        """Set (or with None remove) annotations of ours, named without their prefix; returns what was stored."""

    def user(self) -> str:
        """Who writes, as the cluster knows them."""

    def close(self) -> None:
        """Leave nothing open."""


@dataclass(frozen=True, slots=True)
class Where:
    """What the flags say about the cluster; empty where they say nothing."""

    namespace: str = ""
    kubeconfig: str = ""
    context: str = ""
    folder: str = ""

    @property
    def flags(self) -> str:
        """The flags that lead another command to the same place, with a blank in front; none that were not given."""
        given = (("--kubeconfig", self.kubeconfig), ("--context", self.context), ("--folder", self.folder))
        return "".join(f" {flag} {shlex.quote(value)}" for flag, value in given if value)


@contextlib.contextmanager
def opened(command: str, where: Where) -> Iterator[Desk]:
    """The cluster that the flags name; what it says no to ends the command with one line."""
    if where.folder and (where.context or where.kubeconfig):
        given = "--context" if where.context else "--kubeconfig"
        fail(command, f"{given}: it cannot be given together with --folder; give one of the two", EXIT_USAGE)
    desk: Desk | None = None
    try:
        desk = _desk(command, where)
        yield desk
    except AdapterError as error:
        fail(command, error, EXIT_CLUSTER)
    finally:
        if desk is not None:
            desk.close()


def _desk(command: str, where: Where) -> Desk:
    if where.folder:
        if not Path(where.folder).is_dir():
            fail(command, f"--folder: {where.folder} is not a folder; name one that holds manifests", EXIT_USAGE)
        from controller.adapters.desk_files import FolderDesk

        return FolderDesk(Path(where.folder))
    from controller.adapters.desk_kubernetes import ApiDesk

    return ApiDesk(where.kubeconfig, where.context)


def found(desk: Desk, name: str, namespace: str) -> Launch:
    """The launch that ``NAME`` or ``NAMESPACE/NAME`` means.

    Raises NotFoundError, which says what there is instead; other AdapterErrors pass.
    """
    from controller.core.world import LaunchKey

    before, slash, last = name.rpartition("/")
    inside = before if slash else namespace or desk.namespace
    if inside and last:
        try:
            return desk.launch(LaunchKey(inside, last))
        except NotFoundError as error:
            raise NotFoundError(f"Launch {inside}/{last}: there is none; {_known(desk, inside)}") from error
    same = [launch for launch in desk.launches("") if launch.key.name == last]
    if len(same) == 1:
        return same[0]
    if same:
        places = ", ".join(str(launch.key) for launch in same)
        raise NotFoundError(f"Launch {last}: there are several; write one of {places}")
    raise NotFoundError(f"Launch {name}: there is none; {_known(desk, '')}")


def _known(desk: Desk, namespace: str) -> str:
    try:
        names = [str(launch.key) for launch in desk.launches(namespace)]
    except AdapterError:
        names = []
    if not names:
        return (
            f"namespace {namespace} has no launch; name another with -n" if namespace else "there is no launch at all"
        )
    more = f" and {len(names) - 10} more" if len(names) > 10 else ""
    return f"write one of {', '.join(names[:10])}{more}"

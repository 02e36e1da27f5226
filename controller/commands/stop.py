"""``stop --all``: no raise in the whole fleet, written beside the operator's configuration, and taken away again."""

from __future__ import annotations

import getpass
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from controller.commands.clusters import Context, Kubeconfig
from controller.commands.program import EXIT_CLUSTER, EXIT_USAGE, fail, name, say, until_of
from controller.errors import AdapterError

if TYPE_CHECKING:
    from controller.core.terms import Stop

EPILOG = (
    "Exit codes: 0 written, or as it was asked for already; 2 what was typed cannot be used, and nothing was written; "
    "3 the cluster or the file gave no answer or said no."
)
NAMESPACE = CONFIGMAP = "auto-advance"


def stop(
    fleet: Annotated[  # noqa: FBT002 - a flag
        bool, typer.Option("--all", help="Of all launches; one launch is stopped by hold.")
    ] = False,
    reason: Annotated[str, typer.Option("--reason", help="Why; every launch shows it.", show_default=False)] = "",
    until: Annotated[
        str,
        typer.Option(
            "--until", help="When it lapses: an instant, or a duration from now such as 2h.", show_default=False
        ),
    ] = "",
    by: Annotated[
        str, typer.Option("--by", help="Who says so; default: whom the cluster takes you for.", show_default=False)
    ] = "",
    lift: Annotated[bool, typer.Option("--lift", help="Take the stop away.")] = False,  # noqa: FBT002 - a flag
    config: Annotated[
        str,
        typer.Option(
            "--config",
            help="The operator's file, where it is no ConfigMap of the cluster; the stop stands beside it.",
            show_default=False,
        ),
    ] = "",
    namespace: Annotated[str, typer.Option("-n", "--namespace", help="Namespace of the ConfigMap.")] = NAMESPACE,
    configmap: Annotated[str, typer.Option("--configmap", help="Its name.")] = CONFIGMAP,
    kubeconfig: Kubeconfig = "",
    context: Context = "",
) -> None:
    """Let no launch at all be raised, until that is lifted or lapses. Lowering goes on."""
    if not fleet:
        fail("stop", f"write --all: it is of all launches; of one it is {name()} hold LAUNCH", EXIT_USAGE)
    if lift and (reason or until):
        given = "--reason" if reason else "--until"
        fail("stop", f"{given}: says nothing beside --lift; write one of the two", EXIT_USAGE)
    if not lift and not reason.strip():
        fail("stop", "--reason: is missing; write why, since every launch shows it", EXIT_USAGE)
    if len(reason) > 512 or not reason.isprintable():
        fail("stop", "--reason: write 512 characters at most, on one line", EXIT_USAGE)
    if len(by) > 253 or not by.isprintable():
        fail("stop", "--by: write 253 characters at most, on one line", EXIT_USAGE)
    instant = until_of("stop", until)
    from controller.adapters.configuration_file import STOP_KEY

    try:
        if config:
            where = str(Path(config).with_name(STOP_KEY))
            written = _in_file(Path(config), _said(lift, reason, by or _user(), instant))
        else:
            where = f"ConfigMap {namespace}/{configmap}, {STOP_KEY}"
            written = _in_cluster(
                kubeconfig, context, namespace, configmap, lambda user: _said(lift, reason, by or user, instant)
            )
    except AdapterError as error:
        fail("stop", error, EXIT_CLUSTER)
    if lift:
        say(f"{where}: the stop is lifted" if written else f"{where}: there is no stop; nothing was written")
        if written:
            say("  traffic may be raised again, as far as the evidence of each launch allows")
    else:
        say(f"{where}: the stop is {'written' if written else 'there already'}")
        say("  no traffic is raised in any launch; what lowers traffic is not held up")
        say(f"  go on with: {name()} stop --all --lift{f' --config {config}' if config else ''}")
    if written and not config:
        say("  the kubelet brings it to the controllers, which takes about a minute; what cannot wait: hold LAUNCH")
    say(f"  see it with: {name()} status")


def _said(lift: bool, reason: str, by: str, until: float | None) -> Stop | None:  # noqa: FBT001 - as typed
    from controller.core.terms import Stop

    return None if lift else Stop(reason.strip(), by, until)


def _in_file(path: Path, said: Stop | None) -> bool:
    from controller.adapters.configuration_file import edit_stop, stop_path
    from controller.core.configuration import InvalidConfigurationError

    if not path.is_file():
        fail("stop", f"--config: {path} is not a file; name the operator's configuration", EXIT_USAGE)
    try:
        stop_path(path)
    except InvalidConfigurationError as error:
        fail("stop", f"--config: {error}", EXIT_USAGE)
    return edit_stop(path, said)


def _in_cluster(
    kubeconfig: str, context: str, namespace: str, configmap: str, said: Callable[[str], Stop | None]
) -> bool:
    from controller.adapters.desk_kubernetes import ApiDesk

    desk = ApiDesk(kubeconfig, context)
    try:
        return desk.edit_stop(namespace, configmap, said(desk.user()))
    finally:
        desk.close()


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return ""

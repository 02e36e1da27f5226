"""HTTPRoute and GRPCRoute of the Gateway API: an exact change as a JSON patch, and what made one fail.

Lists of rules and backends are atomic in the Gateway API, so neither server-side apply nor a merge patch can own one
weight; a JSON patch with tests can.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from controller.core.world import EPOCH_ANNOTATION, RoutePatch

PLURALS = {"HTTPRoute": "httproutes", "GRPCRoute": "grpcroutes"}
"""The kinds of routes, and what they are called in a path of the API."""

GROUP = "gateway.networking.k8s.io"
VERSION = "v1"


def operations(patch: RoutePatch, *, annotated: bool) -> list[dict[str, Any]]:
    """The JSON patch. ``annotated``: the route has annotations already.

    That is tested too where they are missing: adding the map onto one that came meanwhile would wipe it. Where it
    is there, `add` fails by itself once it is gone.
    """
    tests: list[dict[str, Any]] = [_test("/metadata/uid", patch.uid)]
    if patch.resource_version is not None:
        tests.append(_test("/metadata/resourceVersion", patch.resource_version))
    places = dict.fromkeys([*patch.guards, *((edit.rule, edit.backend, edit.name) for edit in patch.edits)])
    tests += [_test(f"{_place(rule, backend)}/name", name) for rule, backend, name in places]
    # `add` sets or replaces; `replace` would fail where the weight is left out
    writes = [
        {"op": "add", "path": f"{_place(edit.rule, edit.backend)}/weight", "value": edit.weight} for edit in patch.edits
    ]
    if annotated:
        escaped = EPOCH_ANNOTATION.replace("~", "~0").replace("/", "~1")
        writes.append({"op": "add", "path": f"/metadata/annotations/{escaped}", "value": patch.epoch})
    else:
        tests.append(_test("/metadata/annotations", None))
        writes.append({"op": "add", "path": "/metadata/annotations", "value": {EPOCH_ANNOTATION: patch.epoch}})
    return tests + writes


def difference(patch: RoutePatch, document: Mapping[str, Any]) -> str:
    """In words, why the patch does not fit the route as it is now; empty where it does (but for its annotations)."""
    metadata = document.get("metadata") or {}
    if metadata.get("uid") != patch.uid:
        return f"{patch.key} was deleted and made again"
    places = [*patch.guards, *((edit.rule, edit.backend, edit.name) for edit in patch.edits)]
    rules = (document.get("spec") or {}).get("rules") or ()
    for rule, backend, name in places:
        backends = (rules[rule].get("backendRefs") or ()) if rule < len(rules) else ()
        found = backends[backend].get("name") if backend < len(backends) else None
        if found != name:
            where = f"{patch.key}: spec.rules[{rule}].backendRefs[{backend}]"
            return f"{where} is {found!r} and not {name!r}" if found else f"{where} ({name!r}) is not there any more"
    if patch.resource_version is not None and metadata.get("resourceVersion") != patch.resource_version:
        return f"{patch.key} was changed in between (it is at version {metadata.get('resourceVersion')})"
    return ""


def _place(rule: int, backend: int) -> str:
    return f"/spec/rules/{rule}/backendRefs/{backend}"


def _test(path: str, value: Any) -> dict[str, Any]:
    return {"op": "test", "path": path, "value": value}

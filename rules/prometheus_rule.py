"""A rule file as the object that the Prometheus Operator loads: the same groups, byte for byte, under ``spec``."""

import json
from collections.abc import Mapping

DEFAULT_LABELS = {"app.kubernetes.io/name": "auto-advance", "app.kubernetes.io/component": "rules"}
"""A Prometheus picks its rules by label (``ruleSelector``), so these are a setting."""

LARGEST_BYTES = 512 * 1024
"""The operator's webhook refuses more, and the operator itself drops such an object without a word."""


def prometheus_rule(name: str, rules: str, labels: Mapping[str, str] = DEFAULT_LABELS, namespace: str = "") -> str:
    """A PrometheusRule named ``auto-advance-<name>`` with the groups of a rule file, as YAML.

    The comments above ``groups:`` come along. Without a namespace the object gets the one it is applied to. Raises
    ValueError when the text has no line ``groups:``, or the object is too large for the operator.
    """
    head, found, groups = f"\n{rules}".partition("\ngroups:\n")
    if not found:
        raise ValueError(f"{name}.yaml: it has no line `groups:`; give a rule file as Prometheus loads it")
    comments = [line for line in head.splitlines() if line.startswith("#")]
    lines = [
        *comments,
        "apiVersion: monitoring.coreos.com/v1",
        "kind: PrometheusRule",
        "metadata:",
        f"  name: auto-advance-{name}",
        *([f"  namespace: {json.dumps(namespace)}"] if namespace else []),
        "  labels:",
        *(f"    {label}: {json.dumps(value)}" for label, value in sorted(labels.items())),
        "spec:",
        "  groups:",
        *(f"  {line}" if line else "" for line in groups.splitlines()),
    ]
    text = "\n".join(lines) + "\n"
    size = len(text.encode())
    if size > LARGEST_BYTES:
        raise ValueError(
            f"{name}.yaml: as an object it has {size:,} bytes and the operator takes {LARGEST_BYTES:,}; "
            "record fewer edges, or put its groups into several files"
        )
    return text

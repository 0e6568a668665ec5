"""RBAC roles of the cluster's own add-ons, bound to the names in their client certificates."""

from __future__ import annotations

import yaml

_GROUP = "rbac.authorization.k8s.io"


def manifests(user: str, rules: list[dict[str, object]]) -> str:
    """A ClusterRole with these rules and its binding to one user, both named after the user."""
    return yaml.safe_dump_all(
        [
            {
                "apiVersion": f"{_GROUP}/v1",
                "kind": "ClusterRole",
                "metadata": {"name": user},
                "rules": rules,
            },
            {
                "apiVersion": f"{_GROUP}/v1",
                "kind": "ClusterRoleBinding",
                "metadata": {"name": user},
                "roleRef": {"apiGroup": _GROUP, "kind": "ClusterRole", "name": user},
                "subjects": [{"apiGroup": _GROUP, "kind": "User", "name": user}],
            },
        ],
        sort_keys=False,
    )

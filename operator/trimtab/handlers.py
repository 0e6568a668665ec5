"""kopf's part: it watches, and each event puts a key into the work queue. Nothing is decided here.

Only `on.event` handlers are used: kopf's change handlers and timers would write to the resources (ADR 0002).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import kopf

from trimtab.api.names import DEPLOYMENT_LABEL
from trimtab.reconcile.memory import Key, Memory
from trimtab.reconcile.workqueue import WorkQueue

_GATHERED = 0.3  # seconds: a change comes as several events, which one cycle can answer


def registry(queue: WorkQueue[Key], memory: Memory) -> kopf.OperatorRegistry:
    """Handlers that feed `queue`."""
    found = kopf.OperatorRegistry()

    @kopf.on.login(registry=found)
    async def login(**kwargs: Any) -> kopf.ConnectionInfo | None:
        return kopf.login_with_service_account(**kwargs) or kopf.login_with_kubeconfig(**kwargs)

    @kopf.on.event("trimtab.dev", "v1alpha1", "llmdeployments", registry=found)
    async def resource_changed(namespace: str | None, name: str | None, **_: Any) -> None:
        if namespace and name:
            queue.add(Key(namespace, name), _GATHERED)

    @kopf.on.event("apps", "v1", "deployments", registry=found)
    async def deployment_changed(namespace: str | None, name: str | None, labels: Mapping[str, str], **_: Any) -> None:
        if not namespace or not name:
            return
        owner = labels.get(DEPLOYMENT_LABEL)
        key = Key(namespace, owner) if owner else memory.adopted.get((namespace, name))
        if key is not None:
            queue.add(key, _GATHERED)

    @kopf.on.event("v1", "pods", labels={DEPLOYMENT_LABEL: kopf.PRESENT}, registry=found)
    async def pod_changed(namespace: str | None, labels: Mapping[str, str], **_: Any) -> None:
        if namespace:
            queue.add(Key(namespace, labels[DEPLOYMENT_LABEL]), _GATHERED)

    return found


def settings() -> kopf.OperatorSettings:
    """kopf as a watcher: no posting, no peering, no scanning of CRDs and namespaces, bounded time-outs."""
    chosen = kopf.OperatorSettings()
    chosen.scanning.disabled = True
    chosen.posting.enabled = False
    chosen.peering.standalone = True
    chosen.watching.connect_timeout = 10
    chosen.watching.server_timeout = 300
    chosen.watching.client_timeout = 330
    chosen.networking.request_timeout = 15
    chosen.execution.default_backoff = 5
    return chosen

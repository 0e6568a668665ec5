"""How the command line reaches the cluster: the kubeconfig that kubectl uses, and one resource by name."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import typer

from trimtab.kube.client import Kube, Object
from trimtab.kube.errors import KubeError
from trimtab.kube.kinds import LLM_DEPLOYMENTS, OPTIMIZATION_PLANS

T = TypeVar("T")


def with_cluster(action: Callable[[Kube], Awaitable[T]]) -> T:
    """Run `action` with a client; an error becomes one line and exit code 1."""
    chosen = Path(os.environ.get("KUBECONFIG") or Path.home() / ".kube" / "config")
    kubeconfig = chosen if chosen.exists() else None

    async def run() -> T:
        # A person's write is not guarded by the operator's lease: it changes the wish, not the workloads.
        async with Kube.connect(kubeconfig, guard=lambda: True) as kube:
            return await action(kube)

    try:
        return asyncio.run(run())
    except KubeError as error:
        raise fail(str(error)) from error


def fail(message: str) -> typer.Exit:
    """Print why and leave; raise what it returns."""
    typer.echo(f"trimtab: {message}", err=True)
    return typer.Exit(1)


async def resource(kube: Kube, namespace: str, name: str) -> Object:
    """The LLMDeployment. Exits with the names that there are when it is not there."""
    found = await kube.get(LLM_DEPLOYMENTS, namespace, name)
    if found is None:
        there = [str(item["metadata"]["name"]) for item in await kube.list(LLM_DEPLOYMENTS, namespace)]
        known = f"there are: {', '.join(there)}" if there else "there is none"
        raise fail(f"there is no LLMDeployment {name!r} in the namespace {namespace!r}; {known}.")
    return found


async def current_plan(kube: Kube, llmdep: Object) -> Object:
    """The OptimizationPlan that the status names. Exits when there is none."""
    name = (llmdep.get("status") or {}).get("plan")
    metadata: dict[str, Any] = llmdep["metadata"]
    plan = await kube.get(OPTIMIZATION_PLANS, metadata["namespace"], str(name)) if name else None
    if plan is None:
        raise fail(f"{metadata['namespace']}/{metadata['name']} has no plan; `trimtab explain` says why.")
    return plan

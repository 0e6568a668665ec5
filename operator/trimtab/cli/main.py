"""The verbs. Each reads or writes one resource; `plan`, `simulate` and `diagnose` work without a cluster."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from trimtab.analyse import Limits, diagnose
from trimtab.api.v1alpha1 import PAUSED, RETRY, ROLLBACK
from trimtab.cli import paper, show
from trimtab.cli.access import current_plan, fail, resource, with_cluster
from trimtab.kube.client import Kube, Object
from trimtab.kube.kinds import DEPLOYMENTS, LLM_DEPLOYMENTS, OPTIMIZATION_PLANS
from trimtab.model.slo import Latency, LatencyTarget, Slo
from trimtab.observe.diagnose_url import DiagnoseError, read_snapshot
from trimtab.render import RenderError

app = typer.Typer(name="trimtab", no_args_is_help=True, add_completion=False, help=__doc__)

Name = Annotated[str, typer.Argument(help="The LLMDeployment.")]
Namespace = Annotated[str, typer.Option("--namespace", "-n", help="Its namespace.")]


@app.command()
def explain(name: Name, namespace: Namespace = "default") -> None:
    """Say what is wrong, what is planned and what happened, with the numbers."""

    async def read(kube: Kube) -> tuple[Object, Object | None]:
        found = await resource(kube, namespace, name)
        plan_name = (found.get("status") or {}).get("plan")
        return found, await kube.get(OPTIMIZATION_PLANS, namespace, str(plan_name)) if plan_name else None

    found, plan = with_cluster(read)
    for line in show.explanation(found, plan):
        typer.echo(line)


@app.command()
def diff(name: Name, namespace: Namespace = "default") -> None:
    """Show what the current plan would change in the configuration that runs."""

    async def read(kube: Kube) -> tuple[Object, Object]:
        found = await resource(kube, namespace, name)
        return found, await current_plan(kube, found)

    found, plan = with_cluster(read)
    for line in show.differences(found, plan):
        typer.echo(line)


@app.command()
def approve(
    name: Name,
    namespace: Namespace = "default",
    plan: Annotated[str, typer.Option(help="The plan; the current one when it is left out.")] = "",
) -> None:
    """Approve a plan: in the modes Approve and Apply it is tried on a canary next."""

    async def write(kube: Kube) -> tuple[str, str]:
        found = await resource(kube, namespace, name)
        chosen = plan or str((await current_plan(kube, found))["metadata"]["name"])
        if await kube.get(OPTIMIZATION_PLANS, namespace, chosen) is None:
            raise fail(f"there is no OptimizationPlan {chosen!r} in the namespace {namespace!r}.")
        body = {"spec": {"tuning": {"approvedPlan": chosen}}}
        changed = await kube.merge_patch(LLM_DEPLOYMENTS, namespace, name, body)
        return chosen, str(changed["spec"]["tuning"].get("mode"))

    chosen, mode = with_cluster(write)
    typer.echo(f"Approved {chosen}.")
    if mode not in ("Approve", "Apply"):
        typer.echo(f"Note: spec.tuning.mode is {mode}; plans are tried in the modes Approve and Apply.")


@app.command()
def pause(name: Name, namespace: Namespace = "default") -> None:
    """Hold the rollout where it is, until `resume`; what is evidence against a canary still ends it."""
    _annotate(namespace, name, PAUSED, "true")
    typer.echo(f"Paused {namespace}/{name}.")


@app.command()
def resume(name: Name, namespace: Namespace = "default") -> None:
    """End a pause."""
    _annotate(namespace, name, PAUSED, None)
    typer.echo(f"Resumed {namespace}/{name}.")


@app.command()
def rollback(name: Name, namespace: Namespace = "default") -> None:
    """End the trial that runs, or go back from a promoted revision while it is watched."""

    async def find(kube: Kube) -> str:
        found = await resource(kube, namespace, name)
        rollout: dict[str, Any] = (found.get("status") or {}).get("rollout") or {}
        candidate = (rollout.get("candidate") or {}).get("revision")
        if not candidate:
            raise fail(f"{namespace}/{name} has no trial to roll back; its phase is {rollout.get('phase', 'unknown')}.")
        return str(candidate)

    candidate = with_cluster(find)
    _annotate(namespace, name, ROLLBACK, candidate)
    typer.echo(f"Rolling back revision {candidate} of {namespace}/{name}.")


@app.command()
def retry(
    name: Name,
    namespace: Namespace = "default",
    revision: Annotated[str, typer.Option(help="The revision; the last one that failed when it is left out.")] = "",
) -> None:
    """Try a revision once more that failed before; it must still be what the spec or the plan asks for."""

    async def find(kube: Kube) -> str:
        found = await resource(kube, namespace, name)
        attempts = (found.get("status") or {}).get("attempts") or []
        failed = [str(item["revision"]) for item in attempts if item["outcome"] in ("RolledBack", "Abandoned")]
        if (revision and revision not in failed) or not failed:
            raise fail(
                f"no trial of {revision or 'any revision'} failed; those that did: {', '.join(failed) or 'none'}."
            )
        return revision or failed[0]

    chosen = with_cluster(find)
    _annotate(namespace, name, RETRY, f"{chosen}@{datetime.now(UTC).strftime('%Y-%m-%dT%H:%M:%SZ')}")
    typer.echo(f"Revision {chosen} of {namespace}/{name} may be tried once more.")


@app.command()
def export(
    name: Name,
    namespace: Namespace = "default",
    wanted: Annotated[
        bool, typer.Option("--spec", help="What the spec asks for, instead of what the current plan comes to.")
    ] = False,
) -> None:
    """Print what to commit so that a repository declares the change: a patch of the workload, or of the resource."""

    async def read(kube: Kube) -> tuple[Object, Object | None, Object | None]:
        found = await resource(kube, namespace, name)
        reference = (found["spec"].get("targetRef") or {}).get("name")
        target = await kube.get(DEPLOYMENTS, namespace, str(reference)) if reference else None
        return found, None if wanted else await current_plan(kube, found), target

    found, plan, target = with_cluster(read)
    try:
        typer.echo(show.patch(found, plan, target), nl=False)
    except RenderError as error:
        raise fail(str(error)) from error


def _annotate(namespace: str, name: str, annotation: str, value: str | None) -> None:
    async def write(kube: Kube) -> None:
        await resource(kube, namespace, name)
        body = {"metadata": {"annotations": {annotation: value}}}
        await kube.merge_patch(LLM_DEPLOYMENTS, namespace, name, body)

    with_cluster(write)


@app.command("diagnose")
def diagnose_engine(
    metrics: Annotated[str, typer.Option(help="The engine's own metrics, e.g. http://127.0.0.1:8000/metrics.")],
    seconds: Annotated[float, typer.Option(help="Time between the two readings.")] = 10.0,
    ttft_p95: Annotated[int | None, typer.Option(help="TTFT target at p95 in milliseconds.")] = None,
    itl_p95: Annotated[int | None, typer.Option(help="ITL target at p95 in milliseconds.")] = None,
    max_num_seqs: Annotated[int | None, typer.Option(help="The engine's limit of running sequences, if known.")] = None,
) -> None:
    """Read one engine's metrics twice and explain them; needs no cluster."""
    try:
        snapshot = read_snapshot(metrics, seconds=seconds)
    except DiagnoseError as error:
        raise fail(str(error)) from error
    goals = ((Latency.TTFT, ttft_p95), (Latency.ITL, itl_p95))
    slo = Slo(tuple(LatencyTarget(metric, 95, goal / 1000) for metric, goal in goals if goal is not None))
    revision = snapshot.revisions[0].revision
    typer.echo(f"{snapshot.engine} {snapshot.engine_version} over {snapshot.window:.0f} s")
    for line in show.diagnosis(diagnose(snapshot, slo, revision, Limits(max_num_seqs=max_num_seqs))):
        typer.echo(line)


app.command()(paper.plan)
app.command()(paper.simulate)


if __name__ == "__main__":
    app()

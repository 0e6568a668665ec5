"""The operator: waits for its Lease, then watches and reconciles until it is told to stop or loses the Lease.

Everything it knows is in the cluster, so losing the Lease ends the process and the next one continues from there.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
import time
from pathlib import Path

import kopf

from trimtab import config, handlers
from trimtab.kube.client import Kube
from trimtab.kube.events import Events
from trimtab.kube.lease import Lease
from trimtab.observe.http import Limits
from trimtab.observe.probing import Prober
from trimtab.observe.prometheus import Prometheus
from trimtab.reconcile.cycle import cycle
from trimtab.reconcile.failures import Failures
from trimtab.reconcile.memory import Key, Memory
from trimtab.reconcile.metrics import MetricsReader
from trimtab.reconcile.quality import Comparisons
from trimtab.reconcile.workqueue import WorkQueue, run_worker
from trimtab.reconcile.world import World
from trimtab.telemetry import logs, tracing
from trimtab.telemetry.metrics import Metrics
from trimtab.telemetry.server import TelemetryServer

_log = logging.getLogger("trimtab")
_QUEUE_INTERVAL = 5.0


class LeaseLostError(RuntimeError):
    """Another process holds the lease now."""


async def run(settings: config.Settings, stop: asyncio.Event) -> None:
    """Run until `stop` is set. Raises LeaseLostError when another process has taken over."""
    telemetry = Metrics()
    held: list[Lease] = []
    kubeconfig = os.environ.get("KUBECONFIG")
    kube = Kube.connect(
        Path(kubeconfig) if kubeconfig else None,
        guard=lambda: bool(held) and held[0].is_held(),
        on_write=telemetry.wrote,
    )
    lease = Lease(kube, namespace=settings.lease_namespace, name=settings.lease_name, identity=settings.identity)
    held.append(lease)
    async with (
        kube,
        TelemetryServer(telemetry, host=settings.listen_host, port=settings.metrics_port),
        TelemetryServer(telemetry, host=settings.listen_host, port=settings.health_port, lag_interval=None),
        Prometheus(settings.prometheus_url, limits=_limits(settings), on_query=telemetry.queried) as prometheus,
        Prober() as prober,
    ):
        _log.info("waiting for the lease %s/%s", settings.lease_namespace, settings.lease_name)
        holding = asyncio.create_task(_hold(lease, stop))
        if not await holding:
            return
        try:
            telemetry.leading(True)
            await _work(settings, stop, lease, kube, prometheus, prober, telemetry)
        finally:
            telemetry.leading(False)
            await lease.__aexit__(None, None, None)


async def _hold(lease: Lease, stop: asyncio.Event) -> bool:
    """Wait for the lease; False when told to stop before."""
    entering = asyncio.create_task(lease.__aenter__())
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait({entering, stopping}, return_when=asyncio.FIRST_COMPLETED)
    if not entering.done():
        entering.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await entering
        return False
    stopping.cancel()
    entering.result()
    return True


async def _work(
    settings: config.Settings,
    stop: asyncio.Event,
    lease: Lease,
    kube: Kube,
    prometheus: Prometheus,
    prober: Prober,
    telemetry: Metrics,
) -> None:
    queue: WorkQueue[Key] = WorkQueue(time.monotonic)
    memory = Memory()
    traces = tracing.configure(endpoint=settings.otlp_endpoint)
    world = World(
        settings=settings,
        kube=kube,
        events=Events(kube, instance=settings.identity),
        metrics_reader=MetricsReader(prometheus, time.time, settings.scrape_interval),
        comparisons=Comparisons(prober, time.time),
        telemetry=telemetry,
        tracing=traces,
        now=time.time,
        memory=memory,
    )
    failures = Failures(telemetry)

    async def reconcile(key: Key) -> float | None:
        wake = await cycle(key, world)
        failures.succeeded(key)
        return wake

    tasks: list[asyncio.Task[None]] = [
        asyncio.create_task(run_worker(queue, reconcile, failures.failed), name=f"worker-{number}")
        for number in range(settings.workers)
    ]
    tasks.append(asyncio.create_task(_watch_queue(telemetry, queue), name="queue-depth"))
    watching = asyncio.create_task(_watch(settings, queue, memory, stop), name="kopf")
    lost = asyncio.create_task(lease.lost.wait(), name="lease-lost")
    stopping = asyncio.create_task(stop.wait(), name="stop")
    try:
        await asyncio.wait({watching, lost, stopping, *tasks}, return_when=asyncio.FIRST_COMPLETED)
        if lost.done():
            raise LeaseLostError("the lease was taken by another process")
        for task in (watching, *tasks):
            if task.done():
                task.result()
    finally:
        traces.close()
        stop.set()
        for waiting in (*tasks, lost, stopping):
            waiting.cancel()
        with contextlib.suppress(asyncio.CancelledError, TimeoutError):
            await asyncio.wait_for(watching, timeout=10)


async def _watch(settings: config.Settings, queue: WorkQueue[Key], memory: Memory, stop: asyncio.Event) -> None:
    await kopf.operator(
        registry=handlers.registry(queue, memory),
        settings=handlers.settings(),
        namespaces=settings.namespaces,
        clusterwide=not settings.namespaces,
        # Else kopf asks for the name of the user, and a uid in a container has none. The type is a private str.
        identity=settings.identity,  # type: ignore[arg-type]
        stop_flag=stop,
    )


async def _watch_queue(telemetry: Metrics, queue: WorkQueue[Key]) -> None:
    while True:
        telemetry.queue_depth(len(queue))
        await asyncio.sleep(_QUEUE_INTERVAL)


def _limits(settings: config.Settings) -> Limits:
    """The administrator sets how long a whole query may take; connecting and reading stay below it."""
    whole = settings.prometheus_timeout
    return Limits(connect_timeout=min(2.0, whole), read_timeout=whole * 0.8, deadline=whole)


def main() -> int:
    """The process: settings, logs, signals."""
    try:
        settings = config.from_environment()
    except config.SettingsError as error:
        print(f"trimtab: {error}", file=sys.stderr)
        return 2
    logs.configure(level=settings.log_level)
    return asyncio.run(_main(settings))


async def _main(settings: config.Settings) -> int:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    try:
        await run(settings, stop)
    except LeaseLostError as error:
        _log.warning("%s; stopping", error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""The bed on which faults are tried: the operator's cycles against a real API server, by a clock of the test's own.

What is real: the operator's code from `reconcile.cycle` on, its client, the API server with the resources' schemas and
CEL rules, etcd, the Deployment and ReplicaSet controllers and the garbage collector, Prometheus and its query language.
What is played: the kubelet (pods become ready by the test's clock), what engines export (samples are written into
Prometheus), and the caller of the cycle (the work queue, kopf's watches and the Lease), because a clock that jumps
cannot be waited for. `tests/fault/test_real_process.py` has these as well, in real time.

A cycle follows the one before after the seconds that it asked for; or after one second when something changed, as the
watches would call it. After each cycle the controllers are waited for until nothing moves.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

from tests.e2e.manifests import merged
from tests.e2e.prometheus_proxy import Proxy
from tests.fault.admin import NAMESPACES, Admin
from tests.fault.api_proxy import ApiProxy
from tests.fault.background import Background
from tests.fault.clock import Ages, Clock
from tests.fault.control_plane import ControlPlane, kubeconfig_for
from tests.fault.kubelet import Kubelet
from tests.fault.llmdeployment import NAME, Resource
from tests.fault.natures import Nature
from tests.fault.samples import SCRAPE_SECONDS, Engine, write
from tests.fault.script import Script
from tests.fault.tap import KilledError, Tap, Tapped
from trimtab.config import Settings
from trimtab.kube.client import Kube
from trimtab.kube.events import Events
from trimtab.kube.kinds import DEPLOYMENTS, LLM_DEPLOYMENTS, PODS
from trimtab.kube.transport import ApiTransport, api_client
from trimtab.observe.http import Limits
from trimtab.observe.probing import Prober
from trimtab.observe.prometheus import Prometheus
from trimtab.reconcile.cycle import cycle
from trimtab.reconcile.failures import Failures
from trimtab.reconcile.memory import Key, Memory
from trimtab.reconcile.metrics import MetricsReader
from trimtab.reconcile.quality import Comparisons
from trimtab.reconcile.world import World
from trimtab.telemetry.metrics import Metrics
from trimtab.telemetry.tracing import Tracing

Object = dict[str, Any]
SPEC: Object = {
    "model": {"name": "m75", "source": "/models/m75"},
    "engine": {
        "name": "vllm",
        "version": "0.32.0",
        "image": "trimtab.local/played:0",
        "config": {"maxNumSeqs": 1, "maxModelLen": 1024},
    },
    "replicas": 2,
    "slo": {"ttft": {"p95Milliseconds": 1000}, "itl": {"p95Milliseconds": 150}, "errorRatePermille": 10},
    "tuning": {
        "mode": "Observe",
        "intervalSeconds": 15,
        "windowSeconds": 60,
        "cooldownSeconds": 30,
        "knobs": {"locked": ["maxModelLen"]},
    },
    "rollout": {
        "minimumRequests": 20,
        "readyDeadlineSeconds": 120,
        "judgeDeadlineSeconds": 900,
        "watchSeconds": 60,
        "drainSeconds": 30,
    },
}
_SETTLED_SECONDS = 600.0  # of the wall, for controllers that have nothing to wait for


@dataclass
class Bed(Resource):
    """One LLMDeployment `chat` in a namespace of its own. Use it with `async with`."""

    plane: ControlPlane
    prometheus_url: str
    background: Background
    clock: Clock = field(default_factory=Clock)
    namespace: str = field(default_factory=lambda: f"fault-{uuid.uuid4().hex[:8]}")
    max_mode: str = "Apply"
    errors: list[Exception] = field(default_factory=list)
    lowest_ready: int | None = None  # the fewest ready pods since `watch_capacity`
    readable: Callable[[str], bool] = lambda pod: True  # which pods Prometheus can scrape
    natures: Mapping[int, Nature] | None = None
    script: Script | None = None  # of a proxy before the API server; None: there is none
    requests_per_second: float = 20.0  # of each pod that becomes ready from now on
    prefix: str = "vllm:"  # of the names of their metrics
    skew: float = 0.0  # seconds by which Prometheus' clock, and all that it scrapes, is ahead of the operator's
    patience: float = 20.0  # seconds of the wall for an answer of Prometheus

    async def __aenter__(self) -> Bed:
        self.admin = Admin(self.plane)
        self.ages = Ages(self.clock)
        self.tap = Tap(self.ages)
        self.kubelet = Kubelet(self.clock, self.ages, self.admin.set_pod_status)
        if self.natures is not None:
            self.kubelet.natures = self.natures
        self.engines: dict[str, Engine] = {}
        # Beds begin at the same time in several processes, so the kernel chooses the port when it is bound.
        self.metrics_proxy = Proxy(self.prometheus_url, 0, host="127.0.0.1", at=lambda: self.clock.now + self.skew)
        self.background.call(self.metrics_proxy.start())
        self._api_proxy: ApiProxy | None = None
        self._kubeconfig = self.plane.kubeconfig
        if self.script is not None:
            self._api_proxy = ApiProxy(self.plane, self.script)
            self.background.call(self._api_proxy.start())
            self._kubeconfig = kubeconfig_for(self._api_proxy.url, self.plane.file(f"{self.namespace}.kubeconfig"))
        self.key = Key(self.namespace, NAME)
        self.admin.create(NAMESPACES, {"metadata": {"name": self.namespace}})
        self._running: AsyncExitStack | None = None
        self._settled: object = None
        self._taken_on_trust = 0
        self._scraped = self.clock.now
        await self.restart()
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._running is not None:
            await self._running.aclose()
        self.background.call(self.metrics_proxy.stop())
        if self._api_proxy is not None:
            self.background.call(self._api_proxy.stop())
        self.admin.delete(NAMESPACES, "", self.namespace)
        self.admin.close()

    # The operator

    async def restart(self) -> None:
        """A new process: nothing of the last one's memory is left."""
        if self._running is not None:
            await self._running.aclose()
        self._running = AsyncExitStack()
        address = f"http://127.0.0.1:{self.metrics_proxy.port}"
        settings = Settings(prometheus_url=address, scrape_interval=SCRAPE_SECONDS, max_mode=self.max_mode)
        transport = ApiTransport(api_client(self._kubeconfig), connect_timeout=30.0, read_timeout=90.0)
        kube = await self._running.enter_async_context(Kube(Tapped(self.tap, transport), guard=lambda: True))
        limits = Limits(connect_timeout=0.5, read_timeout=self.patience, deadline=2 * self.patience)
        prometheus = await self._running.enter_async_context(Prometheus(address, limits=limits))
        prober = await self._running.enter_async_context(Prober())
        telemetry = Metrics()
        self.world = World(
            settings=settings,
            kube=kube,
            events=Events(kube, clock=self.clock, wall=self.clock),
            metrics_reader=MetricsReader(prometheus, self.clock, SCRAPE_SECONDS),
            comparisons=Comparisons(prober, self.clock),
            telemetry=telemetry,
            tracing=Tracing(),
            now=self.clock,
            memory=Memory(),
        )
        self._failures = Failures(telemetry)

    async def once(self) -> float | None:
        """One cycle, as a worker calls it: the seconds until the next one; a kill is followed by a restart."""
        self.tap.cycle += 1
        try:
            wake = await cycle(self.key, self.world)
        except KilledError:
            await self.restart()
            return 1.0
        except Exception as error:  # noqa: BLE001 - as the operator's own worker does
            self.errors.append(error)
            return self._failures.failed(self.key, error)
        self._failures.succeeded(self.key)
        return wake

    async def run(self, until: Callable[[], bool], *, seconds: float = 3000.0, what: str = "") -> None:
        """Cycles until `until()`; AssertionError with the status when that takes more than `seconds` of the clock."""
        end = self.clock.now + seconds
        while not until():
            assert self.clock.now < end, f"not reached in {seconds:.0f} s: {what or until}; {self.told()}"
            await self.step()

    async def step(self) -> None:
        """One cycle, what the cluster makes of it, and the time until the next."""
        written = len(self.tap.writes)
        wake = await self.once()
        moved = self.settle()
        if moved or len(self.tap.writes) != written or wake is None:
            wake = min(wake or 1.0, 1.0)
        self.pass_time(max(0.5, min(wake, self.kubelet.wake())))

    async def quiet(self, cycles: int = 5) -> None:
        """Intervals until so many of them in a row write nothing, as a mood takes three to be written.

        A cycle that fails could not have written, so it does not count.
        """
        silent = 0
        for _ in range(10 * cycles):
            failed = len(self.errors)
            if await self.rest(1):
                silent = 0
            elif len(self.errors) == failed:
                silent += 1
            if silent == cycles:
                return
        raise AssertionError(f"it never stops writing: {self.told()}")

    async def rest(self, cycles: int = 5) -> list[str]:
        """So many more intervals; what is written meanwhile, but for events."""
        written = len(self.tap.writes)
        for _ in range(cycles):
            await self.once()
            self.settle()
            self.pass_time(15.0)
        return [f"{call.verb} {call.resource}" for call in self.tap.writes[written:] if call.resource != "events"]

    # The cluster

    def settle(self) -> bool:
        """Until the controllers and the played kubelet have nothing left to do; whether anything moved.

        Where nobody wrote and nothing is due since it was settled, the API server is not asked, but every fourth time:
        the garbage collector takes its time.
        """
        if self._untouched() == self._settled and self.kubelet.wake() > 0.0 and self._taken_on_trust < 3:
            self._taken_on_trust += 1
            return False
        moved = self._settle()
        self._settled, self._taken_on_trust = (None if moved else self._untouched()), 0
        return moved

    def _untouched(self) -> object:
        """What changes when there may be something to do."""
        return self.tap.sent, self.admin.sent, frozenset(self.kubelet.lost), tuple(self.kubelet.natures.items())

    def _settle(self) -> bool:
        end, moved, quiet = time.monotonic() + _SETTLED_SECONDS, False, 0
        while quiet < 2:
            deployments = self.admin.list(DEPLOYMENTS, self.namespace)
            pods = self.admin.list(PODS, self.namespace)
            changed = self.kubelet.act(pods)
            moved = moved or changed
            self._note_capacity()
            if changed or not _is_settled(deployments, pods, len(self.kubelet.ready)):
                quiet, moved = 0, True
                assert time.monotonic() < end, f"the controllers do not settle: {_shown(deployments, pods)}"
                time.sleep(0.01)
            else:
                quiet += 1
        return moved

    def _note_capacity(self) -> None:
        if self.lowest_ready is not None:
            self.lowest_ready = min(self.lowest_ready, len(self.kubelet.ready))

    def watch_capacity(self) -> None:
        """From here on the fewest ready pods are remembered in `lowest_ready`."""
        self.lowest_ready = len(self.kubelet.ready)

    def pass_time(self, seconds: float) -> None:
        """The clock goes on; ready pods serve and are scraped."""
        target = self.clock.now + seconds
        samples = []
        while self._scraped + SCRAPE_SECONDS <= target:
            self._scraped += SCRAPE_SECONDS
            for pod, nature in self.kubelet.ready.items():
                engine = self.engines.get(pod)
                if engine is None:
                    rate = self.requests_per_second
                    engine = Engine(self.namespace, pod, nature, requests_per_second=rate, prefix=self.prefix)
                    self.engines[pod] = engine
                else:
                    engine.nature = nature
                    engine.serve(SCRAPE_SECONDS)
                if self.readable(pod):
                    samples += [(labels, value, self._scraped + self.skew) for labels, value in engine.series()]
        self.clock.now = target
        if samples:
            write(self.prometheus_url, samples)

    # The user

    async def create(self, **changes: Any) -> None:
        """The resource, and cycles until it is stable and measured."""
        self.apply(**changes)
        await self.run(lambda: self.phase() == "Stable", what="the first revision serves")
        await self.rest(3)

    def apply(self, **changes: Any) -> None:
        """Creates the resource with `SPEC` and `changes`."""
        body = {"metadata": {"name": NAME, "namespace": self.namespace}, "spec": merged(SPEC, changes)}
        self.admin.create(LLM_DEPLOYMENTS, body)

    async def metrics(self, mode: str) -> None:
        """What happens to queries from now on; see `tests.e2e.prometheus_proxy`."""
        await asyncio.to_thread(self.background.call, self.metrics_proxy.switch(mode))

    def annotate(self, **annotations: str | None) -> None:
        names = {f"trimtab.dev/{name}": value for name, value in annotations.items()}
        self.admin.patch(LLM_DEPLOYMENTS, self.namespace, NAME, {"metadata": {"annotations": names}})

    async def begun(self, number: int, phase: str) -> None:
        """A stable service of two pods, and the spec's trial of `number` sequences in `phase`."""
        await self.create()
        self.watch_capacity()
        self.sequences(number)
        await self.run(lambda: self.phase() == phase, what=phase)

    def told(self) -> str:
        """What the status says, for a failed test."""
        status = self.status()
        said = [str(error)[:200] for error in self.errors[-3:]]
        return f"{status.get('phase')}: {status.get('summary')} {self.attempts()} {self.serving()} {said}"


def _is_settled(deployments: list[Object], pods: list[Object], ready: int) -> bool:
    """Whether every controller has seen and done what the objects ask for."""
    wanted = counted = 0
    for item in deployments:
        status, replicas = item.get("status") or {}, item["spec"].get("replicas", 1)
        refused = any(condition["type"] == "ReplicaFailure" for condition in status.get("conditions") or ())
        if int(status.get("observedGeneration") or 0) < item["metadata"]["generation"]:
            return False
        if not refused and int(status.get("replicas") or 0) != replicas and not _is_rolling(item):
            return False
        wanted += int(status.get("replicas") or 0)
        counted += int(status.get("readyReplicas") or 0)
    return len(pods) == wanted and counted == ready


def _is_rolling(deployment: Object) -> bool:
    """A rolling update that waits for a pod to become ready moves only with the clock."""
    status, replicas = deployment.get("status") or {}, deployment["spec"].get("replicas", 1)
    waits = int(status.get("replicas") or 0) > int(status.get("readyReplicas") or 0)
    return waits and int(status.get("replicas") or 0) == replicas + 1


def _shown(deployments: list[Object], pods: list[Object]) -> str:
    return str(
        [(item["metadata"]["name"], item["spec"].get("replicas"), item.get("status")) for item in deployments]
        + [(pod["metadata"]["name"], pod["metadata"].get("deletionTimestamp")) for pod in pods]
    )[:2000]

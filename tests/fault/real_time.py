"""The real process in real time: `python -m trimtab` behind the fault proxy, with its watches, its queue and its Lease.

The cluster is that of `tests.fault.bed`, and so are the played kubelet and the written samples, by the machine's clock.
"""

from __future__ import annotations

import os
import sys
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from tests.cluster.fixtures import REPOSITORY
from tests.e2e.manifests import merged
from tests.fault.admin import NAMESPACES, Admin
from tests.fault.api_proxy import ApiProxy
from tests.fault.background import Background
from tests.fault.bed import SPEC
from tests.fault.clock import Ages, Clock
from tests.fault.control_plane import ControlPlane, kubeconfig_for
from tests.fault.kubelet import Kubelet
from tests.fault.llmdeployment import NAME, Resource
from tests.fault.natures import GOOD, NATURES
from tests.fault.programs import Programs
from tests.fault.samples import Engine, write
from tests.fault.script import Call, Script
from tests.testkit.ports import free_port
from trimtab.kube.kinds import LLM_DEPLOYMENTS, PODS

Object = dict[str, Any]
_QUICK: Object = {
    "tuning": {"intervalSeconds": 1, "windowSeconds": 5, "cooldownSeconds": 5},
    "rollout": {
        "minimumRequests": 10,
        "readyDeadlineSeconds": 60,
        "judgeDeadlineSeconds": 90,
        "watchSeconds": 3,
        "drainSeconds": 5,
    },
}


class Wall(Clock):
    """The machine's clock."""

    def __init__(self) -> None:
        self.now = time.time()

    def __getattribute__(self, name: str) -> Any:
        return time.time() if name == "now" else super().__getattribute__(name)


@dataclass
class Process:
    """One operator process behind a proxy of its own; it is started again when it ends, as its Deployment would."""

    plane: ControlPlane
    background: Background
    namespace: str
    identity: str
    prometheus_url: str
    script: Script = field(default_factory=Script)
    kills: int = 0
    ends: list[int] = field(default_factory=list)  # exit statuses, but for those of our kills

    def __post_init__(self) -> None:
        self.proxy = ApiProxy(self.plane, self.script)
        self.background.call(self.proxy.start())
        self.proxy.on_stop = self._kill
        self._programs = Programs(self.plane.directory)
        self._name = f"{self.namespace}-{self.identity}"
        self._start()

    def _start(self) -> None:
        config = kubeconfig_for(self.proxy.url, self.plane.file(f"{self._name}.kubeconfig"))
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("TRIMTAB_", "KUBE"))},
            "KUBECONFIG": str(config),
            "PYTHONPATH": str(REPOSITORY / "operator"),
            "POD_NAME": self.identity,
            "TRIMTAB_PROMETHEUS_URL": self.prometheus_url,
            "TRIMTAB_NAMESPACES": self.namespace,
            "TRIMTAB_LEASE_NAMESPACE": self.namespace,
            "TRIMTAB_SCRAPE_INTERVAL_SECONDS": "1",
            "TRIMTAB_METRICS_PORT": str(free_port()),
            "TRIMTAB_HEALTH_PORT": str(free_port()),
            "TRIMTAB_LISTEN_HOST": "127.0.0.1",
        }
        self._process = self._programs.start(self._name, [sys.executable, "-m", "trimtab"], environment)

    def look(self) -> None:
        """Starts it again where it has ended."""
        status = self._process.poll()
        if status is not None:
            if status != -9:
                self.ends.append(status)
            self._start()

    def _kill(self, _: Call) -> None:
        self._process.kill()
        self.kills += 1

    def log(self) -> str:
        return self._programs.log(self._name)

    def close(self) -> None:
        self._programs.stop()
        self.background.call(self.proxy.stop())


class RealTime(Resource):
    """A namespace with the resource `chat`, the cluster's life in a thread, and processes. A context manager."""

    def __init__(self, plane: ControlPlane, prometheus_url: str, background: Background) -> None:
        self._plane, self._prometheus_url, self._background = plane, prometheus_url, background
        self.namespace = f"real-{uuid.uuid4().hex[:8]}"
        self.admin = Admin(plane)
        self._life_admin = Admin(plane)  # a connection is not shared between threads
        clock = Wall()
        known = {**NATURES, 8: GOOD, 12: GOOD}
        quick = {number: replace(nature, start_seconds=1.0) for number, nature in known.items()}
        self.kubelet = Kubelet(clock, Ages(clock), self._life_admin.set_pod_status, quick)
        self.processes: list[Process] = []
        self.lowest_ready: int | None = None
        self._engines: dict[str, Engine] = {}
        self._over = threading.Event()
        self._failed: BaseException | None = None
        self._thread = threading.Thread(target=self._live, name="cluster-life")

    def __enter__(self) -> RealTime:
        self.admin.create(NAMESPACES, {"metadata": {"name": self.namespace}})
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.processes:
            process.close()
        self._over.set()
        self._thread.join(60)
        self.admin.delete(NAMESPACES, "", self.namespace)
        self.admin.close()
        self._life_admin.close()

    def operator(self, identity: str = "a") -> Process:
        """Starts a process."""
        found = Process(self._plane, self._background, self.namespace, identity, self._prometheus_url)
        self.processes.append(found)
        return found

    def create(self) -> None:
        body = {"metadata": {"name": NAME, "namespace": self.namespace}, "spec": merged(SPEC, _QUICK)}
        self.admin.create(LLM_DEPLOYMENTS, body)

    def until(self, what: Callable[[], bool], seconds: float = 240.0) -> None:
        """Waits, and starts processes again that have ended."""
        end = time.monotonic() + seconds
        while not what():
            if self._failed is not None:
                raise self._failed
            for process in self.processes:
                process.look()
            said = "\n".join(process.log() for process in self.processes)
            assert time.monotonic() < end, f"{self.phase()} {self.attempts()} {self.status().get('summary')}\n{said}"
            time.sleep(0.2)

    def _live(self) -> None:
        """Pods become ready and serve; samples are written every second."""
        try:
            scraped = time.time()
            while not self._over.wait(0.2):
                self.kubelet.act(self._life_admin.list(PODS, self.namespace))
                if self.lowest_ready is not None:
                    self.lowest_ready = min(self.lowest_ready, len(self.kubelet.ready))
                if (now := time.time()) - scraped >= 1.0:
                    self._scrape(now, now - scraped)
                    scraped = now
        except BaseException as error:  # noqa: BLE001 - told by the thread that waits
            self._failed = error

    def _scrape(self, now: float, elapsed: float) -> None:
        samples = []
        for pod, nature in self.kubelet.ready.items():
            engine = self._engines.setdefault(pod, Engine(self.namespace, pod, nature))
            engine.nature = nature
            engine.serve(elapsed)
            samples += [(labels, value, now) for labels, value in engine.series()]
        if samples:
            write(self._prometheus_url, samples)

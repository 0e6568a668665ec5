"""Ways to run the operator: from its chart in the cluster, or as a process of this machine while working on it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import yaml

from tests.cluster.fixtures import REPOSITORY
from tests.cluster.handle import CommandError, Handle
from tests.e2e.access import Access
from tests.e2e.pods import is_ready
from tests.e2e.waiting import until

NAMESPACE = "trimtab-system"
RELEASE = "trimtab"
CHART = REPOSITORY / "charts" / "trimtab"
CRDS = REPOSITORY / "crds"
SELECTOR = "app.kubernetes.io/name=trimtab,app.kubernetes.io/instance=trimtab"


class Operator(Protocol):
    """A running operator."""

    @property
    def user(self) -> str:
        """Whom the API server takes it for, as in the audit log."""

    @property
    def lease(self) -> str:
        """The name of its Lease."""

    def kill(self) -> None:
        """Ends it at once, as a machine that fails does; it comes back by itself."""

    def logs(self) -> str:
        """What it said lately."""


@dataclass(frozen=True)
class InCluster:
    """The chart's release."""

    access: Access

    @property
    def user(self) -> str:
        return f"system:serviceaccount:{NAMESPACE}:{RELEASE}"

    @property
    def lease(self) -> str:
        return RELEASE

    def kill(self) -> None:
        self.access.handle.kubectl(
            "delete", "pod", f"--selector={SELECTOR}", "--grace-period=0", "--force", "--wait=false",
            namespace=NAMESPACE,
        )  # fmt: skip

    def logs(self) -> str:
        return self.access.handle.kubectl(
            "logs", f"--selector={SELECTOR}", "--tail=4000", "--prefix=false", namespace=NAMESPACE, check=False
        )

    def pods(self) -> list[dict[str, Any]]:
        """The operator's pods."""
        return self.access.pods(NAMESPACE, SELECTOR)

    def is_ready(self) -> bool:
        """Whether a pod of it is ready."""
        return any(is_ready(pod) for pod in self.pods())


def install(access: Access, image: str, prometheus_url: str, values: Mapping[str, Any] | None = None) -> InCluster:
    """`helm upgrade --install` of the chart, and the wait until the operator is ready."""
    repository, _, tag = image.rpartition(":")
    ours = {
        "image": {"repository": repository, "tag": tag, "pullPolicy": "IfNotPresent"},
        "prometheus": {"url": prometheus_url},
        "gatewayApi": {"httpRoutes": True},
    }
    path = Path(access.handle.environment()["HELM_CACHE_HOME"]).parent / "trimtab-values.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump({**ours, **(values or {})}), encoding="utf-8")
    for crd in sorted(CRDS.glob("*.yaml")):  # helm installs CRDs once and never updates them
        access.handle.kubectl("apply", "--server-side", "--force-conflicts", f"--filename={crd}")
    access.handle.helm(
        "upgrade", "--install", RELEASE, str(CHART), f"--values={path}", "--create-namespace", namespace=NAMESPACE
    )
    operator = InCluster(access)
    try:
        access.handle.kubectl("rollout", "status", f"deployment/{RELEASE}", "--timeout=180s", namespace=NAMESPACE)
    except CommandError as error:
        raise CommandError(f"{error}\nThe operator says:\n{operator.logs()[-3000:]}") from error
    until("the operator's pod is ready", operator.is_ready, seconds=60, say=operator.logs)
    return operator


def uninstall(access: Access) -> None:
    """Takes the release away; the CRDs stay."""
    access.handle.helm("uninstall", RELEASE, "--ignore-not-found", "--wait", namespace=NAMESPACE)


@dataclass
class OnThisMachine:
    """`python -m trimtab` with the administrator's kubeconfig; `kill` starts it again."""

    handle: Handle
    prometheus_url: str
    log: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    _process: subprocess.Popen[bytes] | None = None

    @property
    def user(self) -> str:
        return "trimtab-admin"

    @property
    def lease(self) -> str:
        return "e2e"

    def start(self) -> None:
        """Starts it."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        ports = {"TRIMTAB_METRICS_PORT": "19190", "TRIMTAB_HEALTH_PORT": "18180", "TRIMTAB_LISTEN_HOST": "127.0.0.1"}
        environment = {
            **self.handle.environment(),
            **ports,
            "PYTHONPATH": str(REPOSITORY / "operator"),
            "TRIMTAB_PROMETHEUS_URL": self.prometheus_url,
            "TRIMTAB_LEASE_NAMESPACE": NAMESPACE,
            "TRIMTAB_LEASE_NAME": self.lease,
            "POD_NAME": f"process-{os.getpid()}",
            **self.environment,
        }
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "trimtab"], env=environment, cwd=REPOSITORY, stdout=log, stderr=log
            )

    def kill(self) -> None:
        self.stop(signal.SIGKILL)
        self.start()

    def stop(self, number: int = signal.SIGTERM) -> None:
        """Ends it for good."""
        if self._process is None:
            return
        self._process.send_signal(number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(20)
        self._process.kill()
        self._process.wait()

    def logs(self) -> str:
        return self.log.read_text(errors="replace")[-40000:] if self.log.exists() else ""


@contextlib.contextmanager
def on_this_machine(
    access: Access, prometheus_url: str, log: Path, environment: Mapping[str, str]
) -> Iterator[OnThisMachine]:
    """The operator as a process under a lease of its own, with the CRDs applied."""
    for crd in sorted(CRDS.glob("*.yaml")):
        access.handle.kubectl("apply", "--server-side", "--force-conflicts", f"--filename={crd}")
    access.handle.apply(yaml.safe_dump({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}))
    running = OnThisMachine(access.handle, prometheus_url, log, environment)
    running.start()
    try:
        yield running
    finally:
        running.stop()

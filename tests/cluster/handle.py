"""What a test, the demo or a person needs to use a running cluster, wherever it runs."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


class CommandError(AssertionError):
    """A command against the cluster failed; the text holds the command and its standard error."""


@dataclass(frozen=True)
class Handle:
    """A running cluster.

    `prometheus_in_cluster` is Prometheus' address for pods; `prometheus_here` the one for this machine, or None where
    there is none. `audit_log` is None where the API server's log is out of reach.
    """

    kubeconfig: Path
    kubectl_program: Path
    helm_program: Path
    prometheus_in_cluster: str
    prometheus_here: str | None
    audit_log: Path | None

    def document(self) -> dict[str, str | None]:
        """The handle as plain text values."""
        values = {
            "kubeconfig": self.kubeconfig,
            "kubectl": self.kubectl_program,
            "helm": self.helm_program,
            "prometheus_in_cluster": self.prometheus_in_cluster,
            "prometheus_here": self.prometheus_here,
            "audit_log": self.audit_log,
        }
        return {name: None if value is None else str(value) for name, value in values.items()}

    def environment(self) -> dict[str, str]:
        """An environment in which kubectl, helm and Kubernetes clients use this cluster and leave no files at home."""
        scratch = Path(tempfile.gettempdir()) / f"trimtab-clients-{os.getuid()}"
        own = {
            "KUBECONFIG": str(self.kubeconfig),
            "KUBECACHEDIR": str(scratch / "kubectl"),
            "HELM_CACHE_HOME": str(scratch / "helm-cache"),
            "HELM_CONFIG_HOME": str(scratch / "helm-config"),
            "HELM_DATA_HOME": str(scratch / "helm-data"),
        }
        return {**os.environ, **own}

    def kubectl(self, *words: str, namespace: str = "", stdin: str | None = None, check: bool = True) -> str:
        """The output of kubectl; CommandError when it fails, unless `check` is false."""
        place = [f"--namespace={namespace}"] if namespace else []
        return self._run([str(self.kubectl_program), *place, *words], stdin=stdin, check=check)

    def get(self, *words: str, namespace: str = "") -> Any:
        """`kubectl get ... --output=json`, read."""
        return json.loads(self.kubectl("get", *words, "--output=json", namespace=namespace))

    def apply(self, *manifests: str, namespace: str = "") -> None:
        """Applies manifests on the server's side."""
        text = "\n---\n".join(manifests)
        self.kubectl("apply", "--server-side", "--filename=-", namespace=namespace, stdin=text)

    def helm(self, *words: str, namespace: str = "", check: bool = True) -> str:
        """The output of helm; CommandError when it fails, unless `check` is false."""
        place = [f"--namespace={namespace}"] if namespace else []
        return self._run([str(self.helm_program), *place, *words], stdin=None, check=check)

    def _run(self, command: list[str], *, stdin: str | None, check: bool) -> str:
        done = subprocess.run(command, input=stdin, capture_output=True, text=True, env=self.environment(), check=False)
        if check and done.returncode != 0:
            raise CommandError(f"`{' '.join(command)}` ended with exit status {done.returncode}:\n{done.stderr}")
        return done.stdout if check else done.stdout + done.stderr


def from_document(values: Mapping[str, str | None]) -> Handle:
    """The handle that `python -m tests.cluster status --json` prints."""

    def path(name: str) -> Path:
        value = values[name]
        if value is None:
            raise CommandError(f"the cluster's {name} is not known")
        return Path(value)

    log = values["audit_log"]
    return Handle(
        kubeconfig=path("kubeconfig"),
        kubectl_program=path("kubectl"),
        helm_program=path("helm"),
        prometheus_in_cluster=values["prometheus_in_cluster"] or "",
        prometheus_here=values["prometheus_here"],
        audit_log=None if log is None else Path(log),
    )

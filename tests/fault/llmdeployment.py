"""The LLMDeployment `chat` of a bed of faults: what a user does to it, and what it says of itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tests.fault.admin import Admin
from tests.fault.kubelet import Kubelet
from tests.fault.natures import sequences
from trimtab.kube.client import Object
from trimtab.kube.kinds import LLM_DEPLOYMENTS, PODS

NAME = "chat"


class Resource:
    """What both beds know of theirs; `kubelet` knows which of its pods are ready."""

    namespace: str
    admin: Admin
    kubelet: Kubelet

    def edit(self, spec: Mapping[str, Any]) -> None:
        """A merge patch of the spec."""
        self.admin.patch(LLM_DEPLOYMENTS, self.namespace, NAME, {"spec": dict(spec)})

    def sequences(self, number: int) -> None:
        """The spec asks for so many running sequences."""
        self.edit({"engine": {"config": {"maxNumSeqs": number}}})

    def status(self) -> Object:
        found = self.admin.find(LLM_DEPLOYMENTS, self.namespace, NAME)
        return dict((found or {}).get("status") or {})

    def phase(self) -> str:
        return str(self.status().get("phase", ""))

    def attempts(self) -> list[tuple[str, str]]:
        """Outcome and reason of each, the newest first."""
        return [(attempt["outcome"], attempt["reason"]) for attempt in self.status().get("attempts") or ()]

    def ended(self, count: int = 1) -> bool:
        """Whether so many trials are over and nothing is on trial."""
        status = self.status()
        return status.get("phase") == "Stable" and len(status.get("attempts") or ()) >= count

    def serving(self) -> dict[int, int]:
        """Ready pods by their `--max-num-seqs`."""
        found: dict[int, int] = {}
        for pod in self.admin.list(PODS, self.namespace):
            if pod["metadata"]["name"] in self.kubelet.ready:
                number = sequences(pod["spec"]["containers"][0])
                found[number] = found.get(number, 0) + 1
        return found

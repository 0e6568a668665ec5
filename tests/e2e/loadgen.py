"""The load generator as a pod, and its numbers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import yaml

from tests.e2e.access import Access, AnswerError
from tests.e2e.waiting import until

PORT = 8089

# A pod is ready a moment before the node's rules lead to it, which is no fault of the service: the counting begins when
# several connections in a row were answered.
_WAIT = """
import sys, time, urllib.request
good = 0
while good < 5:
    try:
        urllib.request.urlopen(sys.argv[1], timeout=10).read()
        good += 1
    except OSError as error:
        good = 0
        print(error, flush=True)
    time.sleep(0.5)
"""


@dataclass(frozen=True, kw_only=True)
class Load:
    """A closed loop of clients that stream. `cpu` is what the node keeps free for them."""

    clients: int = 32
    prompt_tokens: str = "64"
    output_tokens: str = "64"
    ramp_seconds: float = 0.0
    seconds: int = 7200
    cpu: str = "250m"


@dataclass(frozen=True, kw_only=True)
class Window:
    """What the clients saw over a while: rates per second, latencies in milliseconds (None without requests)."""

    seconds: float
    output_tokens_per_s: float
    ttft_p50_ms: float | None
    ttft_p95_ms: float | None
    itl_p95_ms: float | None
    succeeded: int
    failed: int

    def as_json(self) -> dict[str, float | int | None]:
        """The part that a report shows."""
        return {
            "output_tokens_per_s": round(self.output_tokens_per_s, 1),
            "ttft_p50_ms": self.ttft_p50_ms,
            "ttft_p95_ms": self.ttft_p95_ms,
            "itl_p95_ms": self.itl_p95_ms,
        }


@dataclass(frozen=True, kw_only=True)
class Totals:
    """Every request since the beginning, counted once: sent == succeeded + failed + in_flight."""

    sent: int
    succeeded: int
    failed: int
    in_flight: int
    failures: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class LoadGenerator:
    """The load generator `name` in a namespace."""

    access: Access
    namespace: str
    name: str = "loadgen"

    def deploy(self, image: str, url: str, model: str, load: Load) -> None:
        """Starts it against `url`, which ends with /v1, and waits until it answers."""
        self.access.handle.apply(manifest(self.name, image, url, model, load), namespace=self.namespace)
        until("the load generator answers", self._answers, seconds=120, say=self._describe)

    def _answers(self) -> bool:
        try:
            self.totals()
        except AnswerError:
            return False
        return True

    def _describe(self) -> str:
        return self.access.handle.kubectl("describe", "pod", self.name, namespace=self.namespace, check=False)[-1500:]

    def _ask(self, path: str, *, post: object = None, **query: str) -> Any:
        return self.access.through_pod(self.namespace, self.name, PORT, path, post=post, query=query or None)

    def stats(self, since: float | None = None, *, series: bool = False) -> dict[str, Any]:
        """The answer of /stats; `since` in seconds since the epoch, by the cluster's clock."""
        query = {} if since is None else {"since": str(since)}
        return dict(self._ask("/stats", series="1" if series else "0", **query))

    def now(self) -> float:
        """The load generator's clock."""
        return float(self.stats()["now"])

    def window(self, since: float) -> Window:
        """What the clients saw since then."""
        found = self.stats(since)["window"]
        return Window(
            seconds=float(found["seconds"]),
            output_tokens_per_s=float(found["output_tokens_per_second"]),
            ttft_p50_ms=found["ttft_ms"]["p50"],
            ttft_p95_ms=found["ttft_ms"]["p95"],
            itl_p95_ms=found["itl_ms"]["p95"],
            succeeded=int(found["succeeded"]),
            failed=int(found["failed"]),
        )

    def totals(self) -> Totals:
        """All requests so far."""
        found = self.stats()["totals"]
        return Totals(
            sent=int(found["sent"]),
            succeeded=int(found["succeeded"]),
            failed=int(found["failed"]),
            in_flight=int(found["in_flight"]),
            failures=dict(found["failures"]),
        )

    def told(self) -> str:
        """All requests so far and those of the last half minute, for messages."""
        try:
            stats = self.stats()
            lately = self.stats(float(stats["now"]) - 30)["window"]
        except AnswerError:
            return "no load generator answers"
        return f"load: in all {stats['totals']}; in the last 30 s {lately}"

    def change(self, **what: object) -> None:
        """Changes the traffic: `change(concurrency=4)`, `change(state="paused")`."""
        self._ask("/control", post=what)

    def drain(self, seconds: float = 180.0) -> Totals:
        """Stops sending, waits until every request has its end, and counts."""
        self.change(state="paused")
        return until(
            "all requests end", lambda: total if (total := self.totals()).in_flight == 0 else None, seconds=seconds,
            say=lambda: str(self.totals()),
        )  # fmt: skip

    def failures(self) -> str:
        """The log lines of failed requests."""
        log = self.access.handle.kubectl("logs", self.name, namespace=self.namespace, check=False)
        return "\n".join(line for line in log.splitlines() if "request_failed" in line)[-4000:]


def manifest(name: str, image: str, url: str, model: str, load: Load) -> str:
    """The pod. It is not scraped: what Trimtab knows comes from the engine alone."""
    arguments = [
        f"--url={url}", f"--model={model}", f"--concurrency={load.clients}", f"--prompt-tokens={load.prompt_tokens}",
        f"--output-tokens={load.output_tokens}", f"--ramp-seconds={load.ramp_seconds}", f"--listen=0.0.0.0:{PORT}",
        f"--max-seconds={load.seconds}", "--max-requests=10000000", "--linger-seconds=600", "--request-timeout=300",
    ]  # fmt: skip
    container: dict[str, Any] = {
        "name": "loadgen",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["loadgen", *arguments],
        "ports": [{"containerPort": PORT}],
        "resources": {"requests": {"cpu": load.cpu, "memory": "128Mi"}, "limits": {"memory": "1Gi"}},
        "securityContext": restricted(),
    }
    first = {
        "name": "wait-for-the-service",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["python3", "-c", _WAIT, f"{url}/models"],
        "securityContext": restricted(),
    }
    return yaml.safe_dump(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "labels": {"app": name}},
            "spec": {
                "initContainers": [first],
                "containers": [container],
                "restartPolicy": "Never",
                "terminationGracePeriodSeconds": 2,
                "automountServiceAccountToken": False,
                "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
            },
        }
    )


def restricted() -> dict[str, Any]:
    """What Kubernetes' restricted standard asks of a container."""
    return {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "runAsNonRoot": True,
        "capabilities": {"drop": ["ALL"]},
    }

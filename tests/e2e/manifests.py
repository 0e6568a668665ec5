"""LLMDeployments for the demo and the tests."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml

MODEL = "m75"
MODEL_SOURCE = "/models/m75"
ENGINE_VERSION = "0.32.0"

# vLLM's own edges are too coarse for objectives between 20 and 800 ms.
_TTFT_SECONDS = (0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10, 15, 20, 25, 30, 40, 60, 80)  # fmt: skip  # noqa: E501
_ITL_SECONDS = (0.005, 0.01, 0.015, 0.02, 0.03, 0.04, 0.05, 0.075, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.75, 1, 2, 5)
_E2E_SECONDS = (0.1, 0.25, 0.5, 0.75, 1, 1.5, 2, 3, 4, 5, 7.5, 10, 15, 20, 25, 30, 40, 60, 120)
BUCKETS = "--custom-histogram-buckets=" + json.dumps(
    {"time_to_first_token": _TTFT_SECONDS, "inter_token_latency": _ITL_SECONDS, "request_latency": _E2E_SECONDS},
    separators=(",", ":"),
)


@dataclass(frozen=True, kw_only=True)
class Service:
    """An LLMDeployment with two CPU pods, as `spec` writes it. `changes` are merged into the spec at the end."""

    name: str
    image: str
    config: Mapping[str, Any]
    engine: str = "vllm"
    version: str = ENGINE_VERSION
    args: Sequence[str] = (BUCKETS,)
    env: Mapping[str, str] = field(default_factory=dict)
    replicas: int = 2
    slo: Mapping[str, Any] = field(default_factory=dict)
    mode: str = "Apply"
    interval_seconds: int = 15
    window_seconds: int = 60
    watch_seconds: int = 45
    cooldown_seconds: int = 30
    ready_deadline_seconds: int = 300
    judge_deadline_seconds: int = 300
    minimum_requests: int = 20
    drain_seconds: int = 120
    requests: Mapping[str, str] = field(default_factory=lambda: {"cpu": "250m", "memory": "1536Mi"})
    memory_limit: str = "5Gi"
    locked: Sequence[str] = ()
    target: str = ""
    changes: Mapping[str, Any] = field(default_factory=dict)

    def spec(self) -> dict[str, Any]:
        """The spec as it stands in a manifest."""
        engine: dict[str, Any] = {"name": self.engine, "version": self.version, "config": dict(self.config)}
        model: dict[str, Any] = {"name": MODEL}
        spec: dict[str, Any] = {
            "model": model,
            "engine": engine,
            "slo": dict(self.slo),
            "objective": "Throughput",
            "tuning": {
                "mode": self.mode,
                "intervalSeconds": self.interval_seconds,
                "windowSeconds": self.window_seconds,
                "cooldownSeconds": self.cooldown_seconds,
                **({"knobs": {"locked": list(self.locked)}} if self.locked else {}),
            },
            "rollout": {
                "minimumRequests": self.minimum_requests,
                "readyDeadlineSeconds": self.ready_deadline_seconds,
                "judgeDeadlineSeconds": self.judge_deadline_seconds,
                "watchSeconds": self.watch_seconds,
                "drainSeconds": self.drain_seconds,
            },
        }
        if self.target:
            spec["targetRef"] = {"kind": "Deployment", "name": self.target, "container": "engine"}
        else:
            model["source"] = MODEL_SOURCE
            engine |= {
                "image": self.image,
                "imagePullPolicy": "IfNotPresent",
                "args": list(self.args),
                "env": [{"name": name, "value": value} for name, value in sorted(self.env.items())],
            }
            spec["replicas"] = self.replicas
            spec["resources"] = {"requests": dict(self.requests), "limits": {"memory": self.memory_limit}}
        return merged(spec, self.changes)

    def document(self) -> dict[str, Any]:
        """The whole resource."""
        head = {"apiVersion": "trimtab.dev/v1alpha1", "kind": "LLMDeployment", "metadata": {"name": self.name}}
        return {**head, "spec": self.spec()}

    def manifest(self) -> str:
        """The resource as YAML."""
        return str(yaml.safe_dump(self.document(), sort_keys=False))


def merged(document: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """A JSON merge patch: None removes."""
    result = dict(document)
    for name, value in changes.items():
        if value is None:
            result.pop(name, None)
        elif isinstance(value, Mapping) and isinstance(result.get(name), Mapping):
            result[name] = merged(result[name], value)
        else:
            result[name] = value
    return result


def vllm_service(name: str, image: str) -> Service:
    """Real vLLM on the CPU, one thread each, with the limit of one sequence that makes it slow."""
    return Service(
        name=name,
        image=image,
        # Eager, because compiling for each new limit takes longer on two cores than the whole act.
        config={"maxNumSeqs": 1, "enforceEager": True, "kvCacheMemoryMebibytes": 512, "maxModelLen": 1024},
        locked=("enforceEager", "kvCacheMemoryMebibytes", "maxModelLen"),
        env={"OMP_NUM_THREADS": "1"},
        # Clients queue at the slow pods, so the canary gets few requests, and fifty are needed.
        judge_deadline_seconds=900,
        slo={
            "ttft": {"p95Milliseconds": 6000},
            "itl": {"p95Milliseconds": 1000},
            "errorRatePermille": 10,
        },
    )


def emulated_service(name: str, image: str, *, startup_seconds: float = 2.0, speed: float = 1.0) -> Service:
    """The engine emulator with the same configuration, evaluated every 5 s."""
    own = (f"--emulator-startup-seconds={startup_seconds:g}", f"--emulator-speed={speed:g}")
    return Service(
        name=name,
        image=image,
        config={"maxNumSeqs": 1, "enforceEager": True, "kvCacheMemoryMebibytes": 512, "maxModelLen": 1024},
        locked=("enforceEager", "kvCacheMemoryMebibytes", "maxModelLen"),
        args=(BUCKETS, *own),
        slo={
            "ttft": {"p95Milliseconds": 6000},
            "itl": {"p95Milliseconds": 400},
            "errorRatePermille": 10,
        },
        interval_seconds=5,
        window_seconds=20,
        watch_seconds=15,
        cooldown_seconds=5,
        ready_deadline_seconds=300,
        judge_deadline_seconds=300,
        minimum_requests=10,
        drain_seconds=60,
        requests={"cpu": "50m", "memory": "96Mi"},
        memory_limit="512Mi",
    )

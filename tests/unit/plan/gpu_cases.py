"""Requests for plans on GPUs of which the performance model knows the model, the GPU and the engine."""

from __future__ import annotations

from typing import Any

from tests.unit.plan.scenarios import Pod, request, snapshot
from trimtab.catalogue.models import find_model
from trimtab.model.slo import Latency, LatencyTarget, Slo
from trimtab.plan import PlanRequest

LLAMA_8B = find_model("meta-llama/Llama-3.1-8B-Instruct")
LLAMA_70B = find_model("meta-llama/Llama-3.3-70B-Instruct")


def target(latency: Latency, seconds: float, percentile: int = 95) -> Slo:
    return Slo(latencies=(LatencyTarget(latency, percentile, seconds),))


# Eight sequences of 64 run; an H100 decodes as many almost as quickly.
OVERLOADED = Pod(
    running=8.0, waiting=56.0, kv_usage=0.05, kv_capacity=400_000.0, prompt=1024.0, output=256.0,
    requests_per_second=3.9, ttft=(13.0, 15.0), itl=(0.0075, 0.012), e2e=(15.0, 17.0), queue=12.9,
)  # fmt: skip
# Everything is served; prompts of 8,000 tokens take four steps of 2,048.
LONG_PROMPTS = Pod(
    running=6.0, waiting=0.0, kv_usage=0.3, kv_capacity=400_000.0, prompt=8000.0, output=200.0,
    requests_per_second=1.5, ttft=(0.9, 2.5), itl=(0.012, 0.25), e2e=(3.5, 7.0), queue=0.01,
)  # fmt: skip
# Two of four H100 hold the weights of 70 billion parameters and little else.
FULL_CACHE = Pod(
    running=40.0, waiting=24.0, kv_usage=0.99, kv_capacity=120_000.0, prompt=2000.0, output=1000.0,
    requests_per_second=0.9, ttft=(13.0, 20.0), itl=(0.035, 0.05), e2e=(48.0, 60.0), queue=12.0,
    preemptions_per_second=0.3,
)  # fmt: skip


def overloaded(**changes: Any) -> PlanRequest:
    """Llama 3.1 8B on one H100 with maxNumSeqs 8."""
    return _request(OVERLOADED, {"maxNumSeqs": 8}, changes, gpus_per_pod=1, model=LLAMA_8B)


def long_prompts(**changes: Any) -> PlanRequest:
    """The same with small steps on one of two H100, and a target for the first token that is not kept."""
    changes.setdefault("slo", target(Latency.TTFT, 0.9))
    return _request(LONG_PROMPTS, {"maxNumBatchedTokens": 2048}, changes, gpus_per_pod=2, model=LLAMA_8B)


def full_cache(**changes: Any) -> PlanRequest:
    """Llama 3.3 70B over two of the pod's four H100."""
    config = {"tensorParallelSize": 2, "maxNumSeqs": 256, "maxModelLen": 8192}
    return _request(FULL_CACHE, config, changes, gpus_per_pod=4, model=LLAMA_70B)


def one_of_four(**changes: Any) -> PlanRequest:
    """Llama 3.1 8B on one of the pod's four H100, overloaded: copies or tensor parallelism?"""
    pod = Pod(
        running=60.0, waiting=40.0, kv_usage=0.9, kv_capacity=100_000.0, prompt=500.0, output=500.0,
        requests_per_second=3.5, ttft=(10.0, 15.0), itl=(0.018, 0.05), e2e=(20.0, 25.0), queue=9.0,
    )  # fmt: skip
    return _request(pod, {"maxNumSeqs": 64}, changes, gpus_per_pod=4, model=LLAMA_8B)


def _request(pod: Pod, config: dict[str, Any], changes: dict[str, Any], **known: Any) -> PlanRequest:
    base = {"device": "H100", "slo": Slo(), **known}
    engine = {key: changes.pop(key) for key in ("engine", "version") if key in changes}
    return request(snapshot(pod, pod, **engine), changes.pop("config", config), **{**base, **changes})

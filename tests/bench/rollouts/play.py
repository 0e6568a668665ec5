"""One service under load, rolled out again and again: changes that are kept and changes that are not, in turn."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise

from prometheus_api_client import PrometheusConnect

from tests.e2e.loadgen import Load, Totals
from tests.e2e.manifests import Service, emulated_service
from tests.e2e.scenario import Scenario, Trial

STREAM_SECONDS = 30.0
# A token every 50 ms however many sequences run, as on a GPU that reads its weights in each step: pods that get more of
# the streams than others are then no slower, and a stream of 600 tokens takes half a minute.
PROFILE = {"base_seconds": 0.0415, "per_decode_sequence": 1e-5, "per_prefill_token": 1e-5, "per_context_token": 1e-9}
STREAMS = Load(clients=36, prompt_tokens="32", output_tokens="uniform:550-650", ramp_seconds=STREAM_SECONDS, cpu="50m")
ITL_SECONDS = 0.15  # the objective
HARM = {"maxNumSeqs": 24}  # the fault of the emulator plays at this limit alone
KEPT = ({"maxNumBatchedTokens": 1024}, {"maxNumBatchedTokens": 2048})


@dataclass(frozen=True, kw_only=True)
class Played:
    """`kept` and `taken_back`: how many rollouts ended so. `exposed`: for each that was taken back, the seconds from
    the first scrape that shows the harm until no pod of it had traffic. `stream_seconds`: how long a stream took."""

    kept: int
    taken_back: int
    exposed: tuple[float, ...]
    totals: Totals
    stream_seconds: float
    least_ready: int
    failures: str


def service(name: str, image: str) -> Service:
    """Evaluated every 10 s. Pods that leave may take as long as the slowest stream on them."""
    made = emulated_service(name, image)
    return replace(
        made,
        mode="Observe",
        config={**made.config, "maxNumSeqs": 32, "maxNumBatchedTokens": 2048},
        env={
            "EMULATOR_PROFILE": json.dumps(PROFILE),
            "EMULATOR_FAULT_WHEN": f"max_num_seqs={HARM['maxNumSeqs']}",
            "EMULATOR_LATENCY_FACTOR": "6",
        },
        slo={**made.slo, "itl": {"p95Milliseconds": round(ITL_SECONDS * 1000)}},
        interval_seconds=10,
        window_seconds=30,
        judge_deadline_seconds=900,
        minimum_requests=30,
        drain_seconds=300,
    )


def play(
    scenario: Scenario, testkit: str, rollouts: int, prometheus: PrometheusConnect, tell: Callable[[str], None]
) -> Played:
    """Every second rollout is harmful. Raises DidNotHappenError where one ends otherwise than it should."""
    scenario.create()
    scenario.serving(180)
    scenario.start_load(testkit, STREAMS)
    time.sleep(2 * STREAM_SECONDS)
    began, kept, exposed = time.time(), 0, list[float]()
    for number in range(rollouts):
        if number % 2:
            trial = scenario.spoil(HARM, "RolledBack", 600)
            exposed.append(exposure(scenario, trial, prometheus))
            tell(f"{scenario.namespace}: taken back, {exposed[-1]:.1f} s after the harm was first seen")
        else:
            _keep(scenario, number)
            kept += 1
            tell(f"{scenario.namespace}: kept")
    totals = scenario.load.drain()
    return Played(
        kept=kept,
        taken_back=len(exposed),
        exposed=tuple(exposed),
        totals=totals,
        stream_seconds=float(scenario.load.stats()["totals"]["e2e_ms"]["p50"]) / 1000,
        least_ready=scenario.pods.least_of_all(began),
        failures=scenario.load.failures(),
    )


def _keep(scenario: Scenario, number: int) -> None:
    before = scenario.view()
    scenario.patch({"engine": {"config": dict(KEPT[number // 2 % 2])}})
    attempt = scenario.attempt_ended(before, "Promoted", 900)
    scenario.settled(attempt.revision, 600)


def exposure(scenario: Scenario, trial: Trial, prometheus: PrometheusConnect) -> float:
    """Seconds from the first sample beyond the objective until the last pod of the trial had left its Service."""
    revision = trial.attempt.revision
    left = next(
        count.at
        for before, count in pairwise(scenario.pods.counts(trial.changed_at))
        if before.ready.get(revision, 0) > 0 and count.ready.get(revision, 0) == 0
    )
    which = f'{{namespace="{scenario.namespace}", pod=~".*{revision}.*"}}'
    mean = f"vllm:inter_token_latency_seconds_sum{which} / vllm:inter_token_latency_seconds_count{which}"
    late = f"timestamp(vllm:inter_token_latency_seconds_count{which}) and {mean} > {ITL_SECONDS}"
    found = prometheus.custom_query(f"({late})[30m:1s]", params={"time": left})
    return left - min(float(value) for series in found for _, value in series["values"])

"""One service under load, rolled out again and again: changes that are kept and changes that are not, in turn."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise

from prometheus_api_client import PrometheusConnect

from tests.e2e.loadgen import Load, LoadGenerator, Totals
from tests.e2e.manifests import MODEL, Service, emulated_service
from tests.e2e.scenario import Scenario, Trial

STREAM_SECONDS = 30.0
# What streams: a token about every 50 ms, so that a stream of `TOKENS` takes half a minute and costs little work.
SPEED, TOKENS = 0.25, 600
STREAMS = Load(clients=6, prompt_tokens="32", output_tokens=str(TOKENS))
# What the judge counts: short requests, several in each second.
SHORT = Load(clients=6, prompt_tokens="32", output_tokens="16")
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
    totals: tuple[Totals, Totals]
    stream_seconds: float
    least_ready: int
    failures: str


def service(name: str, image: str) -> Service:
    """Evaluated every 15 s. Pods that leave may take as long as the slowest stream on them."""
    made = emulated_service(name, image, speed=SPEED)
    return replace(
        made,
        mode="Observe",
        config={**made.config, "maxNumSeqs": 32, "maxNumBatchedTokens": 2048},
        env={"EMULATOR_FAULT_WHEN": "max_num_seqs=24", "EMULATOR_LATENCY_FACTOR": "6"},
        slo={**made.slo, "itl": {"p95Milliseconds": round(ITL_SECONDS * 1000)}},
        interval_seconds=15,
        window_seconds=60,
        judge_deadline_seconds=900,
        minimum_requests=50,
        drain_seconds=300,
    )


def play(
    scenario: Scenario, testkit: str, rollouts: int, prometheus: PrometheusConnect, tell: Callable[[str], None]
) -> Played:
    """Every second rollout is harmful. Raises DidNotHappenError where one ends otherwise than it should."""
    scenario.create()
    scenario.serving(180)
    streams = LoadGenerator(access=scenario.access, namespace=scenario.namespace, name="streams")
    scenario.start_load(testkit, SHORT)
    streams.deploy(testkit, scenario.url(), MODEL, STREAMS)
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
    totals = scenario.load.drain(), streams.drain()
    return Played(
        kept=kept,
        taken_back=len(exposed),
        exposed=tuple(exposed),
        totals=totals,
        stream_seconds=float(streams.stats()["totals"]["e2e_ms"]["p50"]) / 1000,
        least_ready=scenario.pods.least_of_all(began),
        failures=scenario.load.failures() + streams.failures(),
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

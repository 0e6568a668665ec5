"""Each detector: what makes it speak, what keeps it silent, and that Unknown is never zero."""

from __future__ import annotations

import pkgutil
from typing import Any

import pytest

from tests.unit.plan.scenarios import SLO, Pod, histogram, known, one_slot, snapshot, well_batched
from trimtab.analyse import Limits, detectors, diagnose
from trimtab.analyse.detectors import DETECTORS
from trimtab.model.bottleneck import Bottleneck, BottleneckKind, Health, Severity
from trimtab.model.reading import Unknown, Why
from trimtab.model.slo import Latency, LatencyTarget, Slo

NO_SLO = Slo()
ITL_TARGET = Slo(latencies=(LatencyTarget(Latency.ITL, 95, 0.05),))


def run(*pods: Pod, slo: Slo = NO_SLO, limits: Limits | None = None, oom_kills: int = 0) -> Health:
    return diagnose(snapshot(*pods, oom_kills=oom_kills), slo, "stable", limits or Limits(max_num_seqs=32))


def find(health: Health, kind: BottleneckKind) -> Bottleneck | None:
    return next((finding for finding in health.bottlenecks if finding.kind is kind), None)


def test_queue_and_batch_limit_are_critical_when_fourteen_wait_for_one_slot_and_the_cache_is_empty() -> None:
    health = run(one_slot(), one_slot(), slo=SLO, limits=Limits(max_num_seqs=1))
    queue, batch = find(health, BottleneckKind.QUEUE_BUILDUP), find(health, BottleneckKind.BATCH_SIZE_SUBOPTIMAL)
    assert queue is not None and queue.severity is Severity.CRITICAL
    assert queue.message.startswith("14 requests wait per pod while 1 run")
    assert batch is not None and batch.severity is Severity.CRITICAL
    assert "1 of 1 slots" in batch.message and "3 % of the KV cache" in batch.message
    assert batch.evidence["waitingPerPod"] == 14.0
    assert health.slo_met is False
    assert health.worst is not None and health.worst.severity is Severity.CRITICAL


def test_a_well_batched_service_has_no_finding_that_asks_for_action() -> None:
    health = run(well_batched(), well_batched(), slo=SLO)
    assert [f.kind for f in health.bottlenecks if f.severity >= Severity.MEDIUM] == []
    assert health.slo_met is True


# Kind, a pod that shows it, a pod that is close and does not, SLO, limits.
Case = tuple[BottleneckKind, Pod, Pod, Slo, Limits]
CASES: list[Case] = [
    (
        BottleneckKind.QUEUE_BUILDUP,
        one_slot(),
        one_slot(waiting=0.5),
        NO_SLO,
        Limits(),
    ),
    (
        BottleneckKind.BATCH_SIZE_SUBOPTIMAL,
        one_slot(),
        one_slot(kv_usage=0.8),
        NO_SLO,
        Limits(max_num_seqs=1),
    ),
    (
        BottleneckKind.BATCH_SIZE_SUBOPTIMAL,
        well_batched(itl=(0.04, 0.09)),
        well_batched(itl=(0.02, 0.04)),
        ITL_TARGET,
        Limits(max_num_seqs=32),
    ),
    (BottleneckKind.MEMORY_PRESSURE, Pod(kv_usage=0.95), Pod(kv_usage=0.85), NO_SLO, Limits()),
    (
        BottleneckKind.CACHE_INEFFICIENCY,
        Pod(prompt=1024.0),
        Pod(prompt=64.0),
        NO_SLO,
        Limits(prefix_caching=False),
    ),
    (
        BottleneckKind.CACHE_INEFFICIENCY,
        Pod(prompt=1024.0, hit_rate=0.02, kv_usage=0.9),
        Pod(prompt=1024.0, hit_rate=0.5, kv_usage=0.9),
        NO_SLO,
        Limits(prefix_caching=True),
    ),
    (
        BottleneckKind.HIGH_LATENCY,
        Pod(ttft=(0.9, 3.0)),
        Pod(ttft=(0.1, 0.5)),
        Slo(latencies=(LatencyTarget(Latency.TTFT, 50, 0.5),)),
        Limits(),
    ),
    (BottleneckKind.HIGH_LATENCY, Pod(ttft=(6.0, 9.0)), Pod(ttft=(0.5, 2.0)), NO_SLO, Limits()),
    (
        BottleneckKind.LOW_THROUGHPUT,
        one_slot(),
        one_slot(waiting=0.2),
        Slo(min_output_tokens_per_second=500.0),
        Limits(),
    ),
    (
        BottleneckKind.LOW_THROUGHPUT,
        one_slot(changes={"gpu_utilisation": known(0.2)}),
        one_slot(changes={"gpu_utilisation": known(0.9)}),
        NO_SLO,
        Limits(),
    ),
    (
        BottleneckKind.PREFILL_BOUND,
        Pod(prompt=1024.0, output=16.0, running=4.0, ttft=(0.8, 1.0), e2e=(1.0, 1.4)),
        Pod(prompt=64.0, output=64.0, running=4.0, ttft=(0.8, 1.0), e2e=(1.0, 1.4)),
        NO_SLO,
        Limits(),
    ),
    (
        BottleneckKind.DECODE_BOUND,
        one_slot(),
        one_slot(waiting=0.0, queue=0.0, ttft=(0.05, 0.08), e2e=(0.5, 0.6)),
        NO_SLO,
        Limits(max_num_seqs=1),
    ),
    (
        BottleneckKind.PREEMPTION_THRASH,
        Pod(preemptions_per_second=1.0),
        Pod(preemptions_per_second=0.02),
        NO_SLO,
        Limits(),
    ),
    (
        BottleneckKind.LONG_PROMPT_BLOCKING,
        Pod(running=8.0, prompt=1024.0, itl=(0.012, 1.08)),
        Pod(running=8.0, prompt=1024.0, itl=(0.012, 0.05)),
        NO_SLO,
        Limits(),
    ),
    (
        BottleneckKind.IDLE,
        Pod(running=0.0, requests_per_second=0.0),
        Pod(running=0.0, requests_per_second=0.1),
        NO_SLO,
        Limits(),
    ),
]


@pytest.mark.parametrize(("kind", "pod", "near", "slo", "limits"), CASES, ids=lambda v: getattr(v, "value", ""))
def test_a_detector_speaks_of_what_it_is_for_and_is_silent_just_below(
    kind: BottleneckKind, pod: Pod, near: Pod, slo: Slo, limits: Limits
) -> None:
    finding = find(run(pod, slo=slo, limits=limits), kind)
    assert finding is not None
    assert 0.0 < finding.confidence < 1.0
    assert finding.message.endswith(".") and any(character.isdigit() for character in finding.message)
    assert finding.evidence
    assert find(run(near, slo=slo, limits=limits), kind) is None


def test_replica_imbalance_compares_the_pods() -> None:
    busy, quiet = well_batched(running=12.0), well_batched(running=1.0)
    finding = find(run(busy, quiet), BottleneckKind.REPLICA_IMBALANCE)
    assert finding is not None and "12" in finding.message
    assert find(run(busy, busy), BottleneckKind.REPLICA_IMBALANCE) is None
    assert find(run(busy), BottleneckKind.REPLICA_IMBALANCE) is None


def test_over_provisioned_needs_several_pods_that_do_almost_nothing() -> None:
    lazy = Pod(running=0.5, kv_usage=0.01, requests_per_second=0.5)
    assert find(run(lazy, lazy, limits=Limits(max_num_seqs=128)), BottleneckKind.OVER_PROVISIONED) is not None
    assert find(run(lazy, limits=Limits(max_num_seqs=128)), BottleneckKind.OVER_PROVISIONED) is None
    assert find(run(lazy, lazy, limits=Limits(max_num_seqs=1)), BottleneckKind.OVER_PROVISIONED) is None


def test_a_container_killed_for_its_memory_is_critical_memory_pressure() -> None:
    finding = find(run(Pod(), oom_kills=2), BottleneckKind.MEMORY_PRESSURE)
    assert finding is not None and finding.severity is Severity.CRITICAL and "2 times" in finding.message


def test_pods_that_cannot_be_read_are_not_idle() -> None:
    still = Pod(running=0.0, requests_per_second=0.0)
    missing = Unknown(Why.NOT_SCRAPED, "no series")
    for hidden in ("running", "waiting", "request_rate"):
        unread = Pod(running=0.0, requests_per_second=0.0, changes={hidden: missing})
        assert find(run(unread), BottleneckKind.IDLE) is None, hidden
    assert (
        find(run(still, Pod(running=0.0, requests_per_second=0.0, changes={"running": missing})), BottleneckKind.IDLE)
        is None
    )
    assert find(run(still, still), BottleneckKind.IDLE) is not None


def test_a_counter_that_was_read_and_did_not_move_is_idle() -> None:
    pod = Pod(running=0.0, requests_per_second=0.0, changes={"request_rate": Unknown(Why.NO_TRAFFIC, "still")})
    assert find(run(pod), BottleneckKind.IDLE) is not None


def test_nothing_is_found_while_prometheus_cannot_be_read() -> None:
    view = snapshot(one_slot(), metrics=Unknown(Why.TIMEOUT, "no answer in 5 s"))
    health = diagnose(view, SLO, "stable", Limits(max_num_seqs=1))
    assert health.bottlenecks == ()
    assert health.slo_met is None
    assert all(state.met is None for state in health.targets)


@pytest.mark.parametrize(
    "hidden",
    [
        "running",
        "waiting",
        "kv_usage",
        "ttft",
        "itl",
        "e2e",
        "queue_time",
        "prompt_tokens",
        "request_rate",
        "preemption_rate",
    ],
)
def test_hiding_a_reading_never_makes_a_detector_speak(hidden: str) -> None:
    """Against pods that are fine: were Unknown taken for zero or infinity, something would be found."""
    before = {f.kind for f in run(well_batched(), well_batched(), slo=SLO).bottlenecks}
    hide: dict[str, Any] = {hidden: Unknown(Why.STALE, "old")}
    health = run(well_batched(changes=hide), well_batched(changes=hide), slo=SLO)
    assert {f.kind for f in health.bottlenecks} <= before


def test_values_that_are_no_measurements_are_unknown() -> None:
    nonsense: dict[str, Any] = {"running": known(float("nan")), "waiting": known(-3.0), "kv_usage": known(float("inf"))}
    health = run(one_slot(changes=nonsense), limits=Limits(max_num_seqs=1))
    assert find(health, BottleneckKind.QUEUE_BUILDUP) is None
    assert find(health, BottleneckKind.MEMORY_PRESSURE) is None


def test_pods_with_different_buckets_are_not_pooled_and_do_not_raise() -> None:
    other = known(histogram([9.0] * 50, bounds=(1.0, 10.0)), 50)
    health = run(Pod(), Pod(changes={"ttft": other}), slo=SLO)
    assert next(s for s in health.targets if s.target.metric is Latency.TTFT).met is None


def test_the_worst_is_first_and_order_is_the_same_every_time() -> None:
    one, other = (run(one_slot(), one_slot(), slo=SLO, limits=Limits(max_num_seqs=1)) for _ in range(2))
    assert one == other
    severities = [finding.severity for finding in one.bottlenecks]
    assert severities == sorted(severities, reverse=True)


def test_every_detector_file_is_listed_in_order_and_every_kind_has_one() -> None:
    kinds = [kind for kind, _ in DETECTORS]
    assert kinds == sorted(kinds) and set(kinds) == set(BottleneckKind)
    files = {module.name for module in pkgutil.iter_modules(detectors.__path__)}
    assert files == {detect.__module__.rpartition(".")[2] for _, detect in DETECTORS}

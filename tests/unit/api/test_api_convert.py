import pytest
from pydantic import ValidationError

from tests.unit.api.builders import llmdeployment
from trimtab.api.convert import config_of, policy_of, slo_of
from trimtab.api.v1alpha1 import LLMDeployment
from trimtab.model.config import EngineConfig, KnobValue
from trimtab.model.slo import Latency, LatencyTarget


def test_an_objective_in_milliseconds_and_permille_becomes_seconds_and_shares() -> None:
    slo = slo_of(
        llmdeployment(
            slo={
                "ttft": {"p50Milliseconds": 250, "p95Milliseconds": 800},
                "itl": {"p99Milliseconds": 60},
                "e2eLatency": {"p95Milliseconds": 9000},
                "errorRatePermille": 5,
                "outputTokensPerSecond": 900,
            }
        ).spec
    )
    assert slo.latencies == (
        LatencyTarget(Latency.TTFT, 50, 0.25),
        LatencyTarget(Latency.TTFT, 95, 0.8),
        LatencyTarget(Latency.ITL, 99, 0.06),
        LatencyTarget(Latency.E2E, 95, 9.0),
    )
    assert slo.max_error_share == 0.005
    assert slo.min_output_tokens_per_second == 900


def test_no_objective_is_an_empty_slo_and_a_throughput_of_zero_is_none() -> None:
    assert slo_of(llmdeployment().spec).is_empty
    assert slo_of(llmdeployment(slo={"outputTokensPerSecond": 0}).spec).is_empty


def test_an_error_rate_of_zero_is_an_objective() -> None:
    assert slo_of(llmdeployment(slo={"errorRatePermille": 0}).spec).max_error_share == 0.0


def test_only_knobs_that_are_set_are_configured() -> None:
    spec = llmdeployment(engine={"config": {"maxNumSeqs": 4, "enablePrefixCaching": False, "kvCacheDtype": "fp8"}}).spec
    expected: dict[str, KnobValue] = {"maxNumSeqs": 4, "enablePrefixCaching": False, "kvCacheDtype": "fp8"}
    assert config_of(spec) == EngineConfig(expected)
    assert config_of(spec)["enablePrefixCaching"] is False


@pytest.mark.parametrize(
    ("replicas", "asked", "canary"), [(4, 2, 2), (2, 5, 2), (1, 1, 1), (0, 3, 1)], ids=["fits", "more", "one", "none"]
)
def test_a_canary_is_never_larger_than_the_service_and_never_empty(replicas: int, asked: int, canary: int) -> None:
    policy = policy_of(llmdeployment(replicas=replicas, rollout={"canaryReplicas": asked}).spec)
    assert policy.canary_replicas == canary


def test_an_adopted_workload_brings_its_own_replicas() -> None:
    policy = policy_of(llmdeployment().spec, adopted=True, replicas_owned_elsewhere=True, replicas=7)
    assert (policy.replicas, policy.adopted, policy.replicas_owned_elsewhere) == (7, True, True)


def test_deadlines_and_periods_come_from_the_spec_in_seconds() -> None:
    policy = policy_of(
        llmdeployment(
            tuning={"intervalSeconds": 5, "windowSeconds": 20, "cooldownSeconds": 7, "attemptsPerDay": 3},
            rollout={"readyDeadlineSeconds": 61, "judgeDeadlineSeconds": 62, "watchSeconds": 63},
        ).spec
    )
    assert (policy.interval, policy.cooldown, policy.max_attempts) == (5.0, 7.0, 3)
    assert (policy.min_ready_deadline, policy.judge_deadline, policy.watch_seconds) == (61.0, 62.0, 63.0)


def test_a_field_that_the_operator_does_not_know_is_an_error_and_not_ignored() -> None:
    with pytest.raises(ValidationError, match="warpSpeed"):
        llmdeployment(tuning={"warpSpeed": 9})


def test_a_status_that_nobody_understands_does_not_hide_the_spec() -> None:
    document = {
        "metadata": {"name": "a"},
        "spec": {"model": {"name": "m"}, "engine": {"name": "vllm", "version": "1"}},
        "status": {"phase": 7, "rollout": []},
    }
    assert LLMDeployment.model_validate(document).spec.model.name == "m"


def test_pause_rollback_and_deletion_are_read_from_the_metadata() -> None:
    document = llmdeployment().model_dump(by_alias=True)
    document["metadata"] |= {
        "annotations": {"trimtab.dev/paused": "true", "trimtab.dev/rollback": "1a2b3c4d"},
        "deletionTimestamp": "2026-01-01T00:00:00Z",
    }
    found = LLMDeployment.model_validate(document)
    assert (found.paused, found.rollback, found.deleting) == (True, "1a2b3c4d", True)
    assert (llmdeployment().paused, llmdeployment().rollback, llmdeployment().deleting) == (False, "", False)

"""An objective that nothing reaches is called so, with the nearest value; everything else is left to the optimizers."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.plan.scenarios import request, snapshot, well_batched
from trimtab.catalogue.models import find_model
from trimtab.model.plan import NoPlan, Proposal
from trimtab.model.reason import Reason
from trimtab.model.slo import Latency, LatencyTarget, Slo
from trimtab.plan import propose

# Sixteen bit weights of 70 billion parameters cannot be read in less than 5 ms by four H100.
FAST = Slo(latencies=(LatencyTarget(Latency.ITL, 95, 0.004),))


def answered(slo: Slo = FAST, **changes: Any) -> Proposal:
    pod = well_batched(prompt=512.0, output=128.0, kv_capacity=400_000.0)
    known: dict[str, Any] = {
        "device": "H100",
        "gpus_per_pod": 4,
        "model": find_model("meta-llama/Llama-3.3-70B-Instruct"),
        "allowed": frozenset({"blockSize"}),  # so that no other change is proposed
    }
    config = {"maxNumSeqs": 32, "tensorParallelSize": 4, "maxModelLen": 8192}
    return propose(request(snapshot(pod, pod), config, slo=slo, **{**known, **changes}))


def test_a_target_below_what_one_request_needs_alone_is_infeasible_and_the_nearest_value_is_named() -> None:
    answer = answered()
    assert isinstance(answer, NoPlan)
    assert answer.reason is Reason.INFEASIBLE_SLO
    assert "itl.p95 4 ms (the nearest is about 1" in answer.message
    assert "4 x H100-SXM" in answer.message
    assert answered() == answer


def test_a_time_to_the_first_token_can_be_infeasible_as_well() -> None:
    answer = answered(Slo(latencies=(LatencyTarget(Latency.TTFT, 95, 0.005),)))
    assert isinstance(answer, NoPlan)
    assert answer.reason is Reason.INFEASIBLE_SLO
    assert "ttft.p95 5 ms" in answer.message


def test_a_change_that_helps_a_part_of_the_way_comes_first() -> None:
    assert not isinstance(answered(allowed=frozenset()), NoPlan)


@pytest.mark.parametrize(
    "changes",
    [
        {"model": None},
        {"device": "cpu"},
        {"device": "a GPU that nobody knows"},
        {"model": find_model("deepseek-ai/DeepSeek-V3")},  # which does not fit there
        {"slo": Slo(latencies=(LatencyTarget(Latency.ITL, 95, 0.030),))},
        {"slo": Slo()},
    ],
)
def test_what_is_not_known_or_can_be_reached_is_not_called_infeasible(changes: dict[str, Any]) -> None:
    answer = answered(**changes)
    assert not isinstance(answer, NoPlan) or answer.reason is not Reason.INFEASIBLE_SLO

"""The loop of analysis and planning, closed over a model of an engine: it improves, and then it stops."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.plan.scenarios import Pod, request, snapshot
from trimtab.model.config import EngineConfig
from trimtab.model.plan import NoPlan
from trimtab.model.reason import Reason
from trimtab.model.slo import Latency, LatencyTarget, Slo
from trimtab.plan import propose

ITL_ALONE = 0.007
PREFILL_PER_TOKEN = 0.00038  # seconds, measured on one CPU thread


def engine(slots: int, clients: int, prompt: int, output: int, slope: float) -> Pod:
    """A closed loop of `clients` on an engine whose step grows with its batch, not exactly by the planner's rule."""
    running = min(slots, clients)
    prefill = PREFILL_PER_TOKEN * prompt
    itl = ITL_ALONE * (1 + slope * (running - 1))
    rate = running / (running * prefill + output * itl)
    queue = (clients - running) / rate
    mixed = itl + (prefill * running / output if running > 1 else 0.0)  # others' prompts between two tokens
    e2e = queue + prefill + output * mixed
    return Pod(
        running=float(running),
        waiting=float(clients - running),
        kv_usage=min(1.0, running * (prompt + output) / 87296.0),
        prompt=float(prompt),
        output=float(output),
        requests_per_second=rate,
        ttft=(queue + prefill, queue + prefill),
        itl=(mixed, mixed + (prefill if running > 1 else 0.0)),
        e2e=(e2e, e2e),
        queue=queue,
    )


@settings(max_examples=150)
@given(
    slots=st.sampled_from([1, 1, 2, 3, 4, 8, 16, 64]),
    clients=st.integers(1, 96),
    prompt=st.sampled_from([16, 64, 256]),
    output=st.sampled_from([32, 64, 256]),
    slope=st.sampled_from([0.03, 0.085, 0.15]),
    itl_target=st.sampled_from([None, 0.03, 0.1, 0.3]),
)
def test_planning_reaches_a_configuration_that_it_leaves_alone_and_never_returns_to_one(
    slots: int, clients: int, prompt: int, output: int, slope: float, itl_target: float | None
) -> None:
    slo = Slo() if itl_target is None else Slo(latencies=(LatencyTarget(Latency.ITL, 95, itl_target),))
    config = EngineConfig({"maxNumSeqs": slots})
    seen = [config]
    for _ in range(6):
        at = config["maxNumSeqs"]
        assert isinstance(at, int)
        pod = engine(at, clients, prompt, output, slope)
        answer = propose(request(snapshot(pod, pod), config, slo=slo))
        if isinstance(answer, NoPlan):
            assert answer.reason in (Reason.NOTHING_TO_IMPROVE, Reason.NO_SAFE_CHANGE)
            return
        config = config.with_changes(answer.optimizations[0].as_changes)
        if "maxNumSeqs" not in answer.optimizations[0].as_changes:
            return  # this engine model has no other knob
        assert config not in seen
        seen.append(config)
    raise AssertionError(f"still changing: {seen}")


def test_from_one_slot_a_single_step_gives_more_than_three_times_the_throughput() -> None:
    bad = engine(1, 15, 64, 64, 0.085)
    answer = propose(request(snapshot(bad, bad), {"maxNumSeqs": 1}))
    assert not isinstance(answer, NoPlan)
    slots = answer.result["maxNumSeqs"]
    assert isinstance(slots, int)
    good = engine(slots, 15, 64, 64, 0.085)
    assert good.requests_per_second > 3 * bad.requests_per_second
    assert good.ttft[1] < bad.ttft[1] / 3
    after = propose(request(snapshot(good, good), answer.result))
    assert isinstance(after, NoPlan) and after.reason is Reason.NOTHING_TO_IMPROVE

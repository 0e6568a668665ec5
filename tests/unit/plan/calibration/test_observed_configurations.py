"""What a service at work teaches: its own errors once, nothing while it is steady, and others by likeness."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.plan.gpu_cases import LONG_PROMPTS, OVERLOADED, full_cache, long_prompts, overloaded
from tests.unit.plan.performance.cases import closed, point
from tests.unit.plan.scenarios import snapshot
from trimtab.catalogue.models import find_model
from trimtab.model.plan import Plan
from trimtab.plan import PlanRequest, State, empty, learn, propose
from trimtab.plan.calibration import Observation, learned, others
from trimtab.plan.calibration.state import MOST
from trimtab.plan.learning import observation_of


def slower(request: PlanRequest, factor: float) -> PlanRequest:
    """The same service with times between tokens that are longer by a factor."""
    base = OVERLOADED if request.config.get("maxNumSeqs") == 8 else LONG_PROMPTS
    pod = replace(base, itl=(base.itl[0] * factor, base.itl[1] * factor))
    return replace(request, snapshot=snapshot(pod, pod))


def taught(request: PlanRequest) -> State:
    state = learn(request)
    assert state is not None
    return state


def test_a_service_at_work_is_predicted_and_measured_at_what_runs() -> None:
    seen = observation_of(overloaded())
    assert seen is not None
    assert seen.traffic.concurrency == 8.0
    assert seen.measured_ttft is None
    assert seen.measured_tpot == pytest.approx(seen.predicted_tpot, rel=0.3)


def test_a_steady_service_teaches_once() -> None:
    state = taught(long_prompts())
    assert learn(replace(long_prompts(), calibration=state)) is None
    assert learn(slower(replace(long_prompts(), calibration=state), 1.05)) is None
    moved = learn(slower(replace(long_prompts(), calibration=state), 1.5))
    assert moved is not None and len(moved["observations"]) == 1


@pytest.mark.parametrize(
    "changes",
    [{"model": None}, {"device": "cpu"}, {"device": "unheard of"}, {"config": {"cpuOffloadGibibytes": 2}}],
)
def test_what_is_not_modelled_teaches_nothing(changes: dict[str, Any]) -> None:
    assert learn(long_prompts(**changes)) is None


def test_first_tokens_are_learned_without_a_queue_and_remembered_behind_one() -> None:
    state = taught(long_prompts())
    assert isinstance(state["observations"][0]["ttft"], float)
    calm = Observation(
        point=point(), traffic=closed(8), predicted_tpot=9, predicted_ttft=9, measured_tpot=9, measured_ttft=18
    )
    known = learned(empty(), calm)
    assert known is not None
    queued = learned(known, replace(calm, measured_tpot=18, measured_ttft=None))
    assert queued is not None
    assert queued["observations"][0]["ttft"] == known["observations"][0]["ttft"] == pytest.approx(0.6931)


def test_few_requests_teach_nothing() -> None:
    pod = replace(LONG_PROMPTS, requests_per_second=0.1)
    assert learn(replace(long_prompts(), snapshot=snapshot(pod, pod))) is None


def test_a_deployment_begins_with_what_others_of_its_kind_taught_it() -> None:
    state = taught(slower(overloaded(), 1.4))
    other = long_prompts()
    first, informed = propose(other), propose(replace(other, calibration=state))
    assert isinstance(first, Plan) and isinstance(informed, Plan)
    assert repr(first) != repr(informed)
    stranger = full_cache(model=find_model("Qwen/Qwen3-32B"), engine="sglang", version="0.5.23")
    assert repr(propose(stranger)) == repr(propose(replace(stranger, calibration=state)))


def test_what_was_learned_of_the_very_same_question_is_not_counted_twice() -> None:
    request = long_prompts()
    state = taught(request)
    assert repr(propose(request)) == repr(propose(replace(request, calibration=state)))


@settings(max_examples=60)
@given(
    st.lists(
        st.tuples(st.sampled_from([1, 2, 4]), st.integers(1, 512), st.floats(0.2, 5.0), st.integers(16, 8192)),
        min_size=1,
        max_size=40,
    )
)
def test_the_state_stays_bounded_sound_and_quiet(rows: list[tuple[int, int, float, int]]) -> None:
    state = empty()
    for tensor, clients, ratio, prompt in rows:
        seen = Observation(
            point=point(tensor=tensor),
            traffic=closed(clients, prompt=prompt),
            predicted_tpot=10.0,
            predicted_ttft=100.0,
            measured_tpot=10.0 * ratio,
            measured_ttft=100.0 * ratio,
        )
        state = learned(state, seen) or state
        assert learned(state, seen) is None, "the same again says nothing new"
        assert len(state["observations"]) <= MOST
        assert others(state, seen.point, seen.traffic)["observations"] != state["observations"]


def test_a_configuration_with_a_limit_is_compared_by_what_runs() -> None:
    limited = replace(point(), max_num_seqs=8)
    seen = Observation(
        point=limited, traffic=closed(64), predicted_tpot=1, predicted_ttft=1, measured_tpot=1, measured_ttft=1
    )
    state = learned(empty(), seen)
    assert state is not None
    assert state["observations"][0]["load"] == 3.0

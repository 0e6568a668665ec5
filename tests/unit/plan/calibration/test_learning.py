"""Learning from observations: by likeness, without falling for an outlier, in a bounded state."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from tests.unit.plan.performance.cases import closed, point
from trimtab.plan.calibration import Observation, State, correction, corrections, empty, loads, update
from trimtab.plan.calibration.learn import LEVELS
from trimtab.plan.calibration.state import MOST
from trimtab.plan.performance import forecast
from trimtab.plan.point import ServingPoint, Traffic

ALIKE = point(tensor=2)
TRAFFIC = closed(32)


def seen(state: State, ratio: float, where: ServingPoint = ALIKE, traffic: Traffic = TRAFFIC) -> State:
    found = Observation(
        point=where,
        traffic=traffic,
        predicted_tpot=10.0,
        predicted_ttft=100.0,
        measured_tpot=10.0 * ratio,
        measured_ttft=100.0 * ratio,
    )
    return update(state, found)


def many(ratio: float, loads_: tuple[int, ...] = (4, 16, 64)) -> State:
    state = empty()
    for load in loads_:
        state = seen(state, ratio, traffic=closed(load))
    return state


def test_nothing_seen_changes_nothing() -> None:
    found = correction(empty(), ALIKE, TRAFFIC)
    assert found.factor == 1.0
    assert found.sd == pytest.approx(LEVELS["tpot"].total)


def test_what_was_seen_moves_its_own_group_most_and_strangers_not_at_all() -> None:
    state = many(1.2)
    own = correction(state, ALIKE, TRAFFIC)
    other_model = correction(state, point("Qwen/Qwen3-32B"), TRAFFIC)
    other_gpu = correction(state, point(gpu="B200"), TRAFFIC)
    other_engine = correction(state, point(engine="sglang"), TRAFFIC)
    assert 1.12 < own.factor <= 1.21
    assert own.factor > other_model.factor > other_gpu.factor > other_engine.factor == 1.0
    assert own.sd < other_model.sd < other_engine.sd


def test_more_observations_leave_less_doubt() -> None:
    few, more = (correction(many(1.1, n), ALIKE, TRAFFIC) for n in ((32,), (8, 16, 32, 64, 128)))
    assert more.sd < few.sd
    assert abs(more.factor - 1.1) < abs(few.factor - 1.1)


def test_one_outlier_does_not_wreck_a_group() -> None:
    state = seen(many(1.05, (2, 4, 8, 16, 64)), 8.0, traffic=closed(32, prompt=2048))
    assert correction(state, ALIKE, closed(12)).factor == pytest.approx(1.05, abs=0.04)


def test_a_configuration_seen_again_replaces_what_was_remembered() -> None:
    state = seen(seen(empty(), 2.0), 1.1)
    assert len(state["observations"]) == 1
    assert state["observations"][0]["tpot"] == pytest.approx(math.log(1.1), abs=1e-4)


def test_the_state_is_bounded_plain_json_and_forgets_the_oldest() -> None:
    state = empty()
    long = point("meta-llama/Llama-3.1-70B", tensor=8, weights="fp8")
    for number in range(MOST + 20):
        state = seen(state, 1.1, long, closed(8, prompt=16 * 1.08**number))
    assert len(state["observations"]) == MOST
    assert len(json.dumps(state)) < 100_000
    assert state["observations"][0]["prompt"] > 5.0
    assert loads(json.loads(json.dumps(state))) == state


def test_an_update_leaves_the_old_state_as_it_was() -> None:
    before = many(1.1)
    copy = json.dumps(before)
    seen(before, 3.0)
    assert json.dumps(before) == copy


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"version": 99, "observations": []},
        {"version": 1, "observations": "no list"},
        {"version": 1, "observations": [{"model": 3}]},
        {"version": 1, "observations": [many(1.1)["observations"][0] | {"tpot": float("nan")}]},
    ],
)
def test_a_state_that_is_not_sound_is_forgotten(data: dict[str, object]) -> None:
    assert loads(data) == empty()


@pytest.mark.parametrize("ratio", [0.0, -1.0, float("nan"), float("inf")])
def test_a_time_that_is_none_is_refused(ratio: float) -> None:
    with pytest.raises(ValueError, match="above 0 and finite"):
        seen(empty(), ratio)


def test_corrections_go_into_a_forecast() -> None:
    state = many(1.2)
    points, traffic = [ALIKE, point("Qwen/Qwen3-32B", engine="sglang")], [TRAFFIC, TRAFFIC]
    learned = corrections(state, points, traffic)
    plain, moved = forecast(points, traffic), forecast(points, traffic, correction=learned)
    assert moved.tpot[0] > 1.1 * plain.tpot[0]
    assert moved.tpot[1] == pytest.approx(plain.tpot[1])
    assert np.all(learned.tpot_width <= 1.0)


def test_questions_that_differ_in_limits_only_share_their_correction() -> None:
    state = many(1.2)
    points = [point(tensor=t, max_num_seqs=n) for n in (8, 64) for t in (1, 2)]
    learned = corrections(state, points, [TRAFFIC] * 4)
    assert learned.tpot[0] == learned.tpot[2] != learned.tpot[1] == learned.tpot[3]
    assert learned.tpot[1] == pytest.approx(correction(state, points[1], TRAFFIC).factor)

"""What the model says, in sentences that hold whatever the coefficients are."""

from __future__ import annotations

from dataclasses import astuple, replace

import numpy as np
import pytest

from tests.unit.plan.performance.cases import closed, opened, point
from trimtab.plan.performance import forecast, predict
from trimtab.plan.performance.forecast import Correction
from trimtab.plan.point import Layout, Traffic

LLAMA_70B = "meta-llama/Llama-3.1-70B"


def test_a_single_request_decodes_within_reach_of_the_bandwidth() -> None:
    """Llama 3.1 8B in bf16: 15 GB of matrices over 3.35 TB/s are 4.5 ms per token, which no engine halves."""
    one = predict(point(), closed(1))
    assert 4.5 < one.tpot < 9.0
    assert one.itl.low >= 4.4


@pytest.mark.parametrize("engine", ["vllm", "sglang", "trtllm"])
def test_more_clients_give_more_tokens_and_wait_longer(engine: str) -> None:
    loads = [1, 4, 16, 64, 256]
    found = forecast([point(engine=engine)] * 5, [closed(c) for c in loads])
    assert np.all(np.diff(found.output_tokens) > 0)
    assert np.all(np.diff(found.tpot) > 0) and np.all(np.diff(found.ttft.mean) > 0)


def test_percentiles_are_in_order_and_intervals_hold_the_mean() -> None:
    one = predict(point(tensor=2), closed(64))
    for figure in (one.ttft, one.itl, one.e2e):
        assert 0 < figure.p50 <= figure.p95 <= figure.p99
        assert figure.low <= figure.mean <= figure.high
        assert figure.mean <= figure.upper
    assert one.output_tokens_low <= one.output_tokens <= one.output_tokens_high


def test_the_limit_of_sequences_moves_waiting_from_the_batch_to_the_queue() -> None:
    narrow, wide = (predict(point(max_num_seqs=limit), closed(64)) for limit in (8, 64))
    assert narrow.running == 8 and wide.running == 64
    assert narrow.tpot < wide.tpot
    assert narrow.ttft.mean > 3 * wide.ttft.mean
    assert narrow.output_tokens < wide.output_tokens


def test_a_smaller_token_budget_trades_first_tokens_for_steady_gaps() -> None:
    small, large = (predict(point(max_num_batched_tokens=budget), closed(32, prompt=8192)) for budget in (512, 8192))
    assert small.itl.p99 < large.itl.p99
    assert small.ttft.mean > large.ttft.mean


def test_a_prefix_that_is_cached_is_not_computed_again_unless_caching_is_off() -> None:
    traffic = closed(16, prompt=4096, prefix_share=0.9)
    hit, off = predict(point(), traffic), predict(point(prefix_caching=False), traffic)
    assert hit.ttft.mean < 0.6 * off.ttft.mean
    assert hit.output_tokens > off.output_tokens


def test_an_fp8_cache_holds_more_requests_and_is_read_faster() -> None:
    wide, narrow = (predict(point(kv_cache=form), closed(512, prompt=8192)) for form in ("bf16", "fp8"))
    assert narrow.running > 1.5 * wide.running
    assert narrow.output_tokens > wide.output_tokens


def test_drafted_tokens_pay_when_they_are_accepted_and_cost_when_they_are_not() -> None:
    plain = predict(point(), closed(1)).tpot
    good = predict(point(draft_tokens=3), closed(1, accept=0.8)).tpot
    bad = predict(point(draft_tokens=3), closed(1, accept=0.0)).tpot
    assert good < 0.6 * plain
    assert bad > plain


def test_steps_without_cuda_graphs_take_longer() -> None:
    assert predict(point(cuda_graphs=False), closed(1)).tpot > 1.1 * predict(point(), closed(1)).tpot


def test_more_gpus_decode_faster_but_not_by_their_number() -> None:
    one, four = (predict(point(LLAMA_70B, "H200", tensor=t, weights="fp8"), closed(8)).tpot for t in (1, 4))
    assert one / 4 < four < one / 1.8


def test_pipeline_stages_do_not_speed_up_a_single_request() -> None:
    whole = predict(point(LLAMA_70B, "H200", weights="fp8"), closed(1)).tpot
    parted = predict(point(LLAMA_70B, "H200", weights="fp8", layout=Layout(pipeline=2)), closed(1)).tpot
    assert parted == pytest.approx(whole, rel=0.1)


def test_mixtures_read_more_experts_the_more_requests_run() -> None:
    loads = forecast([point("Qwen/Qwen3-235B-A22B", "H200", tensor=8)] * 3, [closed(c) for c in (1, 8, 64)])
    steps = loads.tpot
    assert steps[1] > 1.3 * steps[0] and steps[2] > 1.3 * steps[1]


def test_attention_data_parallelism_and_expert_parallelism_have_figures() -> None:
    layout = Layout(tensor=1, data=8, expert=8)
    found = predict(point("deepseek-ai/DeepSeek-R1", "H200", "sglang", layout=layout, weights="fp8_block"), closed(256))
    assert found.fits and 10 < found.tpot < 100


def test_an_open_loop_waits_more_the_nearer_it_comes_to_what_can_be_served() -> None:
    most = predict(point(), opened(0.1)).most_requests
    found = forecast([point()] * 3, [opened(share * most) for share in (0.2, 0.6, 0.95)])
    assert np.all(np.diff(found.ttft.mean) > 0) and np.all(np.diff(found.tpot) > 0)
    assert not found.saturated.any()
    assert found.requests == pytest.approx([share * most for share in (0.2, 0.6, 0.95)])


def test_saturation_is_called_by_its_name() -> None:
    most = predict(point(), opened(0.1)).most_requests
    over = predict(point(), opened(1.5 * most))
    assert over.saturated
    assert over.ttft.mean == over.e2e.p99 == float("inf")
    assert over.requests == pytest.approx(most)


def test_bursts_wait_longer_than_even_arrivals() -> None:
    most = predict(point(max_num_seqs=16), opened(0.1)).most_requests
    even, bursty = (predict(point(max_num_seqs=16), opened(0.9 * most, burstiness=b)) for b in (0.2, 8.0))
    assert bursty.ttft.mean > 1.2 * even.ttft.mean


def test_little_s_law_holds_in_an_open_loop() -> None:
    one = predict(point(), opened(4.0))
    assert one.running == pytest.approx(4.0 * one.e2e.mean / 1e3, rel=0.05)


def test_open_and_closed_questions_may_be_mixed() -> None:
    traffic = [closed(16), opened(2.0)]
    both = forecast([point()] * 2, traffic)
    alone = [forecast([point()], [t]) for t in traffic]
    assert both.tpot == pytest.approx([a.tpot[0] for a in alone])
    assert both.ttft.mean == pytest.approx([a.ttft.mean[0] for a in alone])


def test_what_does_not_fit_says_so() -> None:
    assert not predict(point(LLAMA_70B, "L4"), closed(1)).fits
    assert predict(point(LLAMA_70B, "H200", weights="fp8"), closed(1)).fits


def test_a_correction_moves_the_mean_and_narrows_the_interval_but_not_below_the_bound() -> None:
    one = np.ones(1)
    plain = forecast([point()], [closed(16)])
    learned = Correction(tpot=1.2 * one, ttft=one, tpot_width=0.5 * one, ttft_width=one)
    moved = forecast([point()], [closed(16)], correction=learned)
    assert moved.tpot[0] == pytest.approx(1.2 * plain.tpot[0])
    width = [np.log(f.tpot_range.high[0] / f.tpot[0]) for f in (plain, moved)]
    assert width[1] == pytest.approx(0.5 * width[0])
    absurd = replace(learned, tpot=1e-3 * one)
    assert forecast([point()], [closed(16)], correction=absurd).tpot[0] > 4.0


def test_the_same_question_has_the_same_answer_byte_for_byte() -> None:
    points, traffic = [point(tensor=t) for t in (1, 2)], [closed(32), opened(3.0)]
    first, second = forecast(points, traffic), forecast(points, traffic)
    assert first.tpot.tobytes() == second.tpot.tobytes()
    assert all(a.tobytes() == b.tobytes() for a, b in zip(astuple(first.ttft), astuple(second.ttft), strict=True))


@pytest.mark.parametrize(
    ("traffic", "words"),
    [
        (Traffic(prompt=10, output=10), "either concurrency"),
        (Traffic(prompt=10, output=10, concurrency=1, rate=1), "either concurrency"),
        (Traffic(prompt=0, output=10, concurrency=1), "1 token or more"),
        (Traffic(prompt=10, output=10, rate=-1), "above 0"),
        (Traffic(prompt=float("nan"), output=10, rate=1), "1 token or more"),
    ],
)
def test_traffic_that_makes_no_sense_is_refused(traffic: Traffic, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        forecast([point()], [traffic])

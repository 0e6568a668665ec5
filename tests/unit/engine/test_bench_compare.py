"""What the bench writes down, and what it says of two results."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from trimtab_engine.bench.compare import Verdict, blocks, compare, compare_scenarios, tokens_by_second
from trimtab_engine.bench.result import Result, Sample, Scenario, result_from_json


def scenario(seed: int, *, slower: float = 1.0, count: int = 200, name: str = "load", failed: int = 0) -> Scenario:
    """Ten requests a second with a TTFT around 100 ms and 32 tokens in a second, one after the other."""
    source = np.random.default_rng(seed)
    samples = []
    for number in range(count):
        ttft = float(source.gamma(4.0, 0.025)) * slower
        whole = ttft + float(source.gamma(40.0, 0.025)) * slower
        reason = "http_500" if number < failed else None
        samples.append(
            Sample(
                began=number / 10 * slower,
                seconds=whole,
                ttft=ttft,
                prompt_tokens=64,
                output_tokens=0 if reason else 32,
                reason=reason,
            )
        )
    end = max(one.began + one.seconds for one in samples)
    return Scenario(name=name, seconds=end, traffic={"rate": 10}, samples=tuple(samples), memory_bytes=1e9)


def result(*scenarios: Scenario, label: str = "a") -> Result:
    return Result(label=label, engine="vllm", model="m", began="2026-01-01T00:00:00+00:00", scenarios=scenarios)


def test_a_result_is_read_as_it_was_written() -> None:
    written = result(scenario(1, failed=3), scenario(2, name="other"))
    document = json.loads(json.dumps(written.as_json()))
    assert result_from_json(document) == written
    assert document["scenarios"][0]["summary"]["failures"] == {"http_500": 3}
    assert document["scenarios"][0]["summary"]["error_rate"] == 0.015
    assert 1000 < document["scenarios"][0]["summary"]["e2e_ms"]["p50"] < 1200


@pytest.mark.parametrize(
    "document", [[], {}, {"format": 2}, {"format": 1}, {"format": 1, "scenarios": [{"name": "x"}]}]
)
def test_what_is_no_result_is_refused(document: Any) -> None:
    with pytest.raises(ValueError, match="result"):
        result_from_json(document)


def test_tokens_are_counted_when_they_came() -> None:
    one = Sample(began=1.0, seconds=4.0, ttft=2.0, prompt_tokens=1, output_tokens=20)
    found = tokens_by_second(Scenario(name="x", seconds=6.0, traffic={}, samples=(one,)))
    assert len(found) == 12
    assert found[:6] == pytest.approx([0.0] * 6)
    assert found[6:10] == pytest.approx([10.0] * 4)
    assert sum(found) * 0.5 == pytest.approx(20.0)


def test_a_tenth_slower_is_called_worse_in_every_metric() -> None:
    found = {one.metric: one for one in compare_scenarios(scenario(1), scenario(2, slower=1.25))}
    assert len(found) == 6
    assert {one.verdict for one in found.values()} == {Verdict.WORSE}
    speed = found["tokens per second"]
    assert speed.low < 0.8 < speed.high < 1.0
    back = {one.metric: one.verdict for one in compare_scenarios(scenario(2, slower=1.25), scenario(1))}
    assert set(back.values()) == {Verdict.BETTER}


def test_the_same_is_called_the_same_about_as_often_as_the_confidence_says() -> None:
    wrong = total = 0
    for seed in range(60):
        found = compare_scenarios(scenario(seed), scenario(1000 + seed), confidence=0.9, seed=seed)
        medians = [one for one in found if one.metric == "TTFT p50"]
        wrong += sum(one.verdict is not Verdict.SAME for one in medians)
        total += len(medians)
    assert total == 60
    assert wrong <= 13  # 6 are expected; more than 13 come in one of 300 tries


def test_few_values_decide_nothing() -> None:
    found = compare_scenarios(scenario(1, count=5), scenario(2, count=5, slower=3.0))
    assert {one.verdict for one in found if one.metric.startswith("TTFT")} == {Verdict.UNKNOWN}


def test_only_scenarios_that_both_have_are_compared() -> None:
    found = compare(result(scenario(1), scenario(2, name="x")), result(scenario(3), scenario(4, name="y")))
    assert {one.scenario for one in found} == {"load"}


def test_blocks_keep_neighbours_together() -> None:
    values = np.arange(1000.0)
    drawn = blocks(values, np.random.default_rng(0), draws=5)
    assert drawn.shape == (5, 1000)
    steps = np.diff(drawn, axis=1) % 1000
    assert np.mean(steps == 1) > 0.85
    assert abs(float(blocks(values, np.random.default_rng(0), draws=400).mean()) - 499.5) < 5

"""The parts that the planner's benchmarks are scored with."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.bench.planner import cells
from tests.bench.planner.decision import decide
from tests.bench.planner.measured import Measured, measured
from tests.bench.planner.report import markdown, results, write
from tests.bench.planner.spreads import quantile, spreads
from trimtab.plan.performance.coefficients import Coefficients, from_json, shipped


def three_sizes() -> Measured:
    """The same load on 1, 2 and 4 GPUs: 25, 12 and 8 ms per token."""
    rows = [
        {
            "model": "meta-llama/Llama-3.1-8B", "gpu": "H100-SXM", "engine": "vllm", "weight_precision": "bf16",
            "tp": str(tp), "isl": "1024", "osl": "256", "concurrency": "64", "tpot_mean_ms": str(tpot),
            "ttft_mean_ms": "100", "derived_out_tok_s_per_gpu": str(rate),
        }
        for tp, tpot, rate in ((1, 25.0, 2000.0), (2, 12.0, 1500.0), (4, 8.0, 1000.0))
    ]  # fmt: skip
    return measured(rows)


def test_whoever_knows_the_measured_values_decides_perfectly() -> None:
    data = three_sizes()
    perfect = decide(data, data.tpot, data.rate)
    assert (perfect.score, perfect.broken, perfect.problems) == (1.0, 0.0, 5)


def test_a_pick_that_breaks_the_slo_scores_nothing_and_a_timid_one_something() -> None:
    data = three_sizes()
    # Believing 9 ms of all, the cheapest is picked each time: it breaks the SLOs of 10, 15 and 20 ms.
    bold = decide(data, np.full(3, 9.0), data.rate)
    assert bold.broken == pytest.approx(3 / 5) and bold.score == pytest.approx(2 / 5)
    timid = decide(data, 2.0 * data.tpot, data.rate)
    assert timid.broken == 0.0
    assert timid.score == pytest.approx((1 + 1000 / 1500 * 2 + 0.75 + 0.75) / 5)


def test_quantiles_count_weights() -> None:
    values = np.array([3.0, 1.0, 2.0])
    assert quantile(values, np.array([1.0, 1.0, 1.0]), 0.5) == 2.0
    assert quantile(values, np.array([8.0, 1.0, 1.0]), 0.5) == 3.0


def test_a_group_with_many_rows_does_not_rule_the_widths() -> None:
    groups = np.array(["large"] * 200 + ["small"] * 4)
    errors = np.r_[np.zeros(200), np.full(4, 0.5)]
    found = spreads(np.array(["dense"] * 204), groups, {"tpot": errors})
    assert found["dense/tpot"].high == 0.5 and found["dense/tpot"].upper == 0.0


def test_cells_take_the_fastest_engine_and_fill_their_gaps() -> None:
    columns = {
        "m": np.array([1, 1, 1, 2]),
        "kernel": np.array(["slow", "fast", "fast", "slow"]),
        "us": np.array([9.0, 4.0, 6.0, 5.0]),
    }
    best = cells.fastest(columns, ("m",), "us")
    assert best["us"].tolist() == [4.0, 5.0]
    grid = cells.filled(np.array([[1.0, np.nan], [np.nan, 3.0]]))
    assert grid.tolist() == [[1.0, 2.0], [2.0, 3.0]]


def test_results_are_kept_beside_those_of_other_parts(tmp_path: Path) -> None:
    out = tmp_path / "bench" / "planner.json"
    write(results(("b", 1.0, "%", 2.0)), out)
    write(results(("a", 3.0, "ms", (0.0, 2.0)), ("b", 5.0, "%", 2.0)), out)
    rows = json.loads(out.read_text(encoding="utf-8"))
    assert [(row["name"], row["ok"]) for row in rows] == [("a", False), ("b", False)]
    assert "| a | 3 ms | 0 to 2 ms | no |" in markdown(results(("a", 3.0, "ms", (0.0, 2.0))))


def test_without_data_the_coefficients_are_their_priors() -> None:
    pytest.importorskip("scipy", reason="of the extra `bench`")
    from tests.bench.planner.fit import coefficients_of, widths

    assert coefficients_of(np.zeros(len(widths()))) == Coefficients()
    moved = coefficients_of(np.ones(len(widths())))
    assert moved.shared.gemm > 1.0 and moved.engines["vllm"].layer > Coefficients().engines["vllm"].layer


def test_the_shipped_coefficients_have_widths_for_every_kind_of_point() -> None:
    found = shipped()
    assert set(found.spreads) == {f"{kind}/{metric}" for kind in ("dense", "moe", "far") for metric in ("tpot", "ttft")}
    assert all(spread.low <= 0 <= spread.upper <= spread.high for spread in found.spreads.values())
    assert from_json(json.loads(json.dumps(found.as_json()))) == found

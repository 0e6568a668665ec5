"""Targets as a person writes them."""

from __future__ import annotations

import pytest

from trimtab.model.slo import Latency, LatencyTarget


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("ttft.p95=500ms", LatencyTarget(Latency.TTFT, 95, 0.5)),
        (" ITL.P99=0.05s ", LatencyTarget(Latency.ITL, 99, 0.05)),
        ("e2e.p50=2s", LatencyTarget(Latency.E2E, 50, 2.0)),
    ],
)
def test_a_target_is_read(text: str, target: LatencyTarget) -> None:
    found = LatencyTarget.parse(text)
    assert (found.metric, found.percentile) == (target.metric, target.percentile)
    assert found.seconds == pytest.approx(target.seconds)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "write one like ttft.p95=500ms"),
        ("ttft=500ms", "write one like"),
        ("ttft.p95=500", "in ms or s"),
        ("tpot.p95=500ms", "names the latency tpot; there are ttft, itl, e2e"),
        ("ttft.p95=0ms", "greater than 0"),
        ("ttft.p0=5ms", "greater than 0"),
        ("ttft.p95=1.2.3ms", "1.2.3 is no number"),
        ("ttft.p95=1e999s", "greater than 0"),
        ("ttft.p100=5ms", "write one like"),
    ],
)
def test_what_is_no_target_is_refused_in_a_sentence(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        LatencyTarget.parse(text)

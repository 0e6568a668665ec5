"""From the answers to range queries to a pod's cumulative samples."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence

import numpy as np
import pytest

from trimtab.model.samples import ERRORS, PREEMPTIONS, REQUESTS, TOKENS, WAITING, PodSamples
from trimtab.model.slo import Latency
from trimtab.observe import queries
from trimtab.observe.engines import ENGINES
from trimtab.observe.engines.spec import CounterRole, GaugeRole, HistogramRole, parse_version
from trimtab.observe.prometheus import Series
from trimtab.observe.promql import Scope
from trimtab.observe.recorded import PodRanges, by_pod, samples_of

STEPS = (0.0, 5.0, 10.0, 15.0, 20.0)


def series(role: str, values: Sequence[float | None], le: str = "", pod: str = "a") -> Series:
    labels = {"namespace": "ns", "pod": pod, queries.READING: role, **({"le": le} if le else {})}
    return Series(labels, tuple((at, value) for at, value in zip(STEPS, values, strict=True) if value is not None))


def sampled(lag: float = 1.0) -> Series:
    return series(queries.SAMPLED_AT, [at - lag for at in STEPS])


def read(*answers: Series, engine: str = "vllm", speculative: bool = False, stale_after: float = 30.0) -> PodSamples:
    ranges = by_pod(answers)[("ns", "a")]
    return samples_of("a", ranges, ENGINES[engine], speculative=speculative, stale_after=stale_after)[0]


TTFT: Mapping[str, Sequence[float | None]] = {"0.1": [0, 1, 1, 2, 2], "0.5": [0, 1, 2, 3, 3], "+Inf": [0, 1, 2, 3, 4]}


def ttft(**others: Sequence[float | None]) -> list[Series]:
    return [series(HistogramRole.TTFT, others.get(le, values), le) for le, values in TTFT.items()]


def test_a_histogram_has_its_buckets_and_its_sum_at_each_step() -> None:
    found = read(sampled(), *ttft(), series(HistogramRole.TTFT, [0, 0.1, 0.5, 0.9, 5.0]))
    samples = found.histograms[Latency.TTFT]
    assert samples.bounds == (0.1, 0.5, math.inf)
    assert samples.times.tolist() == list(STEPS)
    assert samples.values[-1].tolist() == [2, 3, 4, 5.0]
    assert not found.canary


def test_a_histogram_that_appears_with_its_first_request_begins_there() -> None:
    later = [None, None, 1.0, 2.0, 3.0]
    answers = [series(HistogramRole.TTFT, later, le) for le in ("0.1", "+Inf")]
    found = read(sampled(), *answers, series(HistogramRole.TTFT, later))
    assert found.histograms[Latency.TTFT].times.tolist() == [10.0, 15.0, 20.0]


def test_buckets_never_fall_from_one_bound_to_the_next() -> None:
    answers = [series(HistogramRole.TTFT, [1, 2, 3, 4, 5], "0.1"), series(HistogramRole.TTFT, [1, 2, 3, 3, 5], "+Inf")]
    values = read(sampled(), *answers, series(HistogramRole.TTFT, [1, 1, 1, 1, 1])).histograms[Latency.TTFT].values
    assert (np.diff(values[:, :2], axis=1) >= 0).all()


def test_a_histogram_without_a_last_bucket_or_without_numbers_is_none() -> None:
    assert Latency.TTFT not in read(sampled(), *ttft()[:2]).histograms
    broken = read(sampled(), *ttft(), series(HistogramRole.TTFT, [math.nan] * 5)).histograms[Latency.TTFT]
    assert np.isnan(broken.values[:, -1]).all()


def test_steps_whose_sample_is_too_old_are_left_out() -> None:
    old = series(queries.SAMPLED_AT, [-1, 4, 4, 4, 4])
    counted = series(CounterRole.FINISHED, [0, 7, 7, 7, 7])
    assert read(old, counted, stale_after=8.0).counters[REQUESTS].times.tolist() == [0.0, 5.0, 10.0]


def test_a_pod_without_a_sign_of_life_has_no_samples() -> None:
    found = read(series(CounterRole.FINISHED, [1, 2, 3, 4, 5]))
    assert not found.counters[REQUESTS].times.size
    assert not samples_of("a", PodRanges(), ENGINES["vllm"], speculative=False, stale_after=30.0)[0].counters


def test_what_only_the_http_server_refused_counts_as_request_and_as_error() -> None:
    found = read(
        sampled(),
        series(CounterRole.FINISHED, [0, 10, 20, 30, 40]),
        series(CounterRole.FAILED, [0, 1, 1, 1, 1]),
        series(CounterRole.REFUSED, [None, None, 2, 2, 2]),
        series(CounterRole.SERVER_ERRORS, [0, 0, 0, 5, 9]),
        series(CounterRole.PREEMPTIONS, [0, 0, 1, 1, 1]),
        series(CounterRole.OUTPUT_TOKENS, [0, 100, 200, 300, 400]),
    )
    assert found.counters[ERRORS].values[:, 0].tolist() == [0, 1, 3, 5, 9]
    assert found.counters[REQUESTS].values[:, 0].tolist() == [0, 10, 22, 34, 48]
    assert found.counters[PREEMPTIONS].values[-1, 0] == 1
    assert found.counters[TOKENS].values[-1, 0] == 400


def test_an_engine_whose_counters_appear_later_has_counted_nothing_and_another_has_none() -> None:
    assert read(sampled(), engine="sglang").counters[REQUESTS].values.sum() == 0
    assert REQUESTS not in read(sampled()).counters


def test_gauges_are_as_they_were() -> None:
    found = read(sampled(), series(GaugeRole.WAITING, [0, 3, None, 8, 2]))
    assert found.gauges[WAITING].times.tolist() == [0.0, 5.0, 15.0, 20.0]
    assert found.gauges[WAITING].values[:, 0].tolist() == [0, 3, 8, 2]


def test_under_speculation_the_time_per_output_token_is_the_itl() -> None:
    steps = [series(HistogramRole.ITL, [1] * 5, "+Inf"), series(HistogramRole.ITL, [9] * 5)]
    tokens = [series(HistogramRole.TPOT, [2] * 5, "+Inf"), series(HistogramRole.TPOT, [3] * 5)]
    drafts = series(CounterRole.SPECULATIVE_STEPS, [0, 0, 4, 4, 4])
    assert by_pod([drafts])[("ns", "a")].uses_speculation()
    found = read(sampled(), *steps, *tokens, drafts, speculative=True)
    assert found.histograms[Latency.ITL].values[0].tolist() == [2, 3]


def test_steps_that_repeat_a_scrape_are_not_among_the_scraped_ones() -> None:
    found = read(series(queries.SAMPLED_AT, [-1, 4.9, 4.9, 10.1, 19.9]))
    assert found.scraped is not None
    assert found.scraped.tolist() == [0.0, 5.0, 15.0, 20.0]


@pytest.mark.parametrize(("taken", "between"), [([0, 0, 10, 10, 20], 10.0), ([0, 4, 9, 14, 19], 5.0), ([0] * 5, 0.0)])
def test_how_far_scrapes_are_apart_is_seen_from_when_samples_were_taken(taken: list[float], between: float) -> None:
    ranges = by_pod([series(queries.SAMPLED_AT, taken)])[("ns", "a")]
    found = samples_of("a", ranges, ENGINES["vllm"], speculative=False, stale_after=60.0)[1]
    assert found == between


@pytest.mark.parametrize("engine", sorted(ENGINES))
@pytest.mark.parametrize("version", ["", "0.8.5", "0.32.0"])
def test_every_range_is_of_the_pods_that_were_asked_for(engine: str, version: str) -> None:
    scope, known = Scope(("ns",), ("a", "b")), parse_version(version)
    for expression in (
        queries.raw_states(ENGINES[engine], known, scope),
        queries.raw_counters(ENGINES[engine], known, scope),
        queries.raw_histograms(ENGINES[engine], known, scope),
    ):
        assert expression.count("{") == expression.count('{namespace="ns",pod=~"a|b"')
        assert not re.search(r"\[\d+s\]", expression), "raw values, nothing summarised over a range"

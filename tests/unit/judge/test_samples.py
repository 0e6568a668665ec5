"""From cumulative samples to increases."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from trimtab.judge.history import ERRORS, REQUESTS, RUNNING
from trimtab.judge.samples import PodSamples, Samples, history_of
from trimtab.model.slo import Latency


def counter(times: list[float], values: list[float], name: str = "s-0") -> PodSamples:
    samples = Samples(np.array(times, dtype=np.float64), np.array(values, dtype=np.float64)[:, None])
    return PodSamples(name, False, {}, {REQUESTS: samples}, {})


def requests(pod: PodSamples, looks: int = 3) -> list[float]:
    found = history_of([pod], interval=15.0, began=0.0, looks=looks).counters[REQUESTS]
    return [float(value) for value in found[:, 0]]


def test_increases_are_taken_at_the_ends_of_intervals() -> None:
    assert requests(counter([0, 5, 10, 15, 20, 25, 30, 45], [7, 8, 9, 11, 12, 13, 20, 20])) == [4, 9, 0]


def test_scrapes_need_not_fall_on_the_ends() -> None:
    assert requests(counter([0, 4, 9, 14, 19, 24, 29, 34, 39, 44], [0, 1, 2, 3, 4, 5, 6, 7, 8, 9])) == [3, 3, 3]


def test_a_counter_that_begins_anew_goes_on_from_where_it_was() -> None:
    history = history_of(
        [counter([0, 5, 10, 15, 20, 30, 45], [100, 104, 3, 5, 6, 8, 9])], interval=15.0, began=0.0, looks=3
    )
    assert history.counters[REQUESTS][:, 0].tolist() == [9, 3, 1]
    assert history.resets[:, 0].tolist() == [1, 0, 0]


def test_a_reset_of_a_histogram_is_one_of_all_its_buckets() -> None:
    # The count goes up across the restart, one bucket falls: it began anew all the same.
    values = np.array([[5.0, 10.0, 3.0], [6.0, 12.0, 4.0], [1.0, 13.0, 9.0]])
    pod = PodSamples("c-0", True, {Latency.TTFT: Samples(np.array([0.0, 15, 30]), values, (0.1, math.inf))}, {}, {})
    history = history_of([pod], interval=15.0, began=0.0, looks=2)
    series = history.histograms[Latency.TTFT]
    assert series.count[:, 0].tolist() == [2, 13]
    assert series.below[:, 0, 0].tolist() == [1, 1]
    assert series.total[:, 0].tolist() == [1, 9]
    assert history.resets[:, 0].tolist() == [0, 1]


def test_an_interval_without_a_fresh_sample_is_unknown_and_so_is_the_next() -> None:
    found = requests(counter([0, 15, 20, 50, 60], [0, 5, 6, 12, 14]), looks=4)
    assert found[0] == 5
    assert [math.isnan(value) for value in found] == [False, False, True, True]


def test_values_that_are_no_numbers_are_left_out_and_noted() -> None:
    history = history_of([counter([0, 15, 25, 30, 45], [0, 5, math.nan, 9, 10])], interval=15.0, began=0.0, looks=3)
    assert history.counters[REQUESTS][:, 0].tolist() == [5, 4, 1]
    assert history.invalid[:, 0].tolist() == [False, True, False]


def test_a_pod_that_appears_later_is_unknown_until_a_whole_interval_of_it_was_seen() -> None:
    found = requests(counter([20, 25, 30, 45], [1, 2, 3, 7]))
    assert math.isnan(found[0]) and math.isnan(found[1]) and found[2] == 4


def test_a_counter_that_appears_with_its_first_error_was_zero_before() -> None:
    times = np.arange(0.0, 50.0, 5.0)
    requests_total = Samples(times, np.arange(10.0)[:, None])
    errors = Samples(times[7:], np.array([[2.0], [3.0], [3.0]]))
    pod = PodSamples("c-0", True, {}, {REQUESTS: requests_total, ERRORS: errors}, {})
    found = history_of([pod], interval=15.0, began=0.0, looks=3).counters[ERRORS]
    assert found[:, 0].tolist() == [0, 0, 3]


def test_pods_with_other_bounds_are_compared_on_those_they_share() -> None:
    times = np.array([0.0, 15.0])
    first = Samples(times, np.array([[0.0, 0, 0, 0], [1, 2, 3, 5]]), (0.1, 0.2, math.inf))
    second = Samples(times, np.array([[0.0, 0, 0, 0], [4, 5, 6, 5]]), (0.1, 0.3, math.inf))
    pods = [PodSamples(f"p-{n}", bool(n), {Latency.ITL: one}, {}, {}) for n, one in enumerate((first, second))]
    series = history_of(pods, interval=15.0, began=0.0, looks=1).histograms[Latency.ITL]
    assert series.bounds.tolist() == [0.1, math.inf]
    assert series.below[0].tolist() == [[1, 3], [4, 6]]


def test_a_gauge_is_its_last_value_in_the_interval() -> None:
    gauge = Samples(np.array([0.0, 10, 15, 20]), np.array([[1.0], [5.0], [2.0], [3.0]]))
    history = history_of([PodSamples("c-0", True, {}, {}, {RUNNING: gauge})], interval=15.0, began=0.0, looks=3)
    assert history.gauges[RUNNING][:2, 0].tolist() == [2, 3]
    assert math.isnan(history.gauges[RUNNING][2, 0])


def test_an_interval_without_a_scrape_is_unseen_and_what_came_then_counts_later() -> None:
    pod = replace(counter([0, 15, 30, 45], [0, 4, 4, 12]), scraped=np.array([0.0, 15, 45]))
    history = history_of([pod, counter([0, 15, 30, 45], [0] * 4)], interval=15.0, began=0.0, looks=3)
    assert history.unseen.tolist() == [[False, False], [True, False], [False, False]]
    assert history.counters[REQUESTS][:, 0].tolist() == [4, 0, 8]
    assert history.until(2).unseen.shape == (2, 2)


def test_an_interval_of_no_time_is_refused() -> None:
    with pytest.raises(ValueError, match="longer than nothing"):
        history_of([], interval=0.0, began=0.0, looks=1)


def test_what_was_known_earlier_is_a_part_of_what_is_known_now() -> None:
    pod = counter([0, 15, 30, 45], [0, 5, 9, 9])
    whole = history_of([pod], interval=15.0, began=0.0, looks=3)
    assert whole.until(2).counters[REQUESTS].tolist() == whole.counters[REQUESTS][:2].tolist()
    assert whole.until(2).looks == 2

"""How many pods the present load needs."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.unit.reconcile.resources import snapshot
from trimtab.analyse import Limits, pods_needed
from trimtab.model.reading import Known, Reading, Unknown, Why
from trimtab.model.snapshot import PodMetrics

SLOTS = Limits(max_num_seqs=10)


def needed(running: float, kv_usage: float, waiting: float = 0.0, slo_met: bool | None = True) -> Reading[int]:
    metrics = PodMetrics(running=Known(running), waiting=Known(waiting), kv_usage=Known(kv_usage))
    return pods_needed(snapshot("rev-a", metrics=metrics), SLOTS, slo_met=slo_met)


@pytest.mark.parametrize(
    ("running", "kv_usage", "pods"),
    [(0.0, 0.0, 0), (1.0, 0.05, 1), (4.0, 0.1, 1), (4.1, 0.1, 2), (1.0, 0.7, 2), (10.0, 1.0, 2)],
)
def test_the_fuller_one_of_slots_and_cache_counts_at_80_per_cent(running: float, kv_usage: float, pods: int) -> None:
    assert needed(running, kv_usage) == Known(pods)


def test_all_pods_are_needed_while_requests_wait_or_the_objective_is_violated() -> None:
    assert needed(1.0, 0.1, waiting=0.6) == Known(2)
    assert needed(1.0, 0.1, slo_met=False) == Known(2)


def test_a_pod_that_cannot_be_read_makes_it_unknown() -> None:
    assert isinstance(pods_needed(snapshot("rev-a", metrics=PodMetrics()), SLOTS, slo_met=True), Unknown)
    blind = replace(snapshot("rev-a"), metrics=Unknown(Why.UNREACHABLE, "No connection."))
    assert isinstance(pods_needed(blind, SLOTS, slo_met=True), Unknown)

"""How much lengths vary, from histograms that need not have the same buckets."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.unit.plan.scenarios import Pod, histogram, known, snapshot
from trimtab.model.histogram import Histogram
from trimtab.model.reading import Unknown
from trimtab.plan.workload import Workload, read


def workload(*lengths: Histogram) -> Workload:
    pods = [Pod(changes={"prompt_tokens": known(found)}) for found in lengths]
    found = read(snapshot(*pods), "stable")
    assert not isinstance(found, Unknown)
    return found


def test_equal_lengths_do_not_vary_and_different_ones_do() -> None:
    bounds = (10.0, 20.0, 100.0, 200.0)
    assert workload(histogram([15.0] * 9, bounds=bounds)).prompt_variation == 0.0
    mixed = workload(histogram([15.0] * 5 + [150.0] * 5, bounds=bounds)).prompt_variation
    assert mixed == pytest.approx(135.0 / 165.0)


def test_buckets_of_other_bounds_and_unsound_counts_are_no_obstacle() -> None:
    one, other = histogram([15.0] * 5, bounds=(10.0, 20.0)), histogram([150.0] * 5, bounds=(100.0, 200.0))
    assert workload(one, other).prompt_variation == pytest.approx(135.0 / 165.0)
    broken = replace(one, total=float("nan"))
    assert workload(broken, other).prompt_variation == 0.0
    assert workload(broken).prompt_variation is None

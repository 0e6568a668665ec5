"""Recordings of real vLLM on shared cores: pods alike are never called Bad, and what harms is found."""

from __future__ import annotations

import numpy as np
import pytest

from tests.bench.judge.recorded import Case, cases, judged
from trimtab.model.verdict import Call

CASES = tuple(cases())
FOUND_WITHIN = 10  # intervals
LEAST = 500  # requests of all pods in any recording


def named(case: Case) -> str:
    return f"{case.name}-{case.canary}"


@pytest.mark.parametrize("case", [case for case in CASES if not case.changed], ids=named)
def test_a_pod_like_the_others_is_not_bad(case: Case) -> None:
    assert np.nansum(case.history.requests()) > LEAST
    assert judged(case.history)[0] is not Call.BAD


@pytest.mark.parametrize("case", [case for case in CASES if case.changed], ids=named)
def test_a_harmful_configuration_is_bad_within_ten_intervals(case: Case) -> None:
    call, looks = judged(case.history)
    assert call is Call.BAD
    assert looks <= FOUND_WITHIN

"""A few faults for every run of the tests; all of them: `make test-faults`."""

from __future__ import annotations

from functools import partial

import pytest

from tests.fault.background import Background
from tests.fault.bed import Bed
from tests.fault.control_plane import ControlPlane
from tests.fault.scenarios import ABANDON, Outcome, in_beds, play
from tests.fault.script import FOREVER, Fault, Kind, Rule, Script
from tests.fault.tap import Crash

pytestmark = pytest.mark.cluster


def test_crashes_and_lost_answers_lead_to_the_same_final_state(
    plane: ControlPlane, prometheus_url: str, background: Background
) -> None:
    make = partial(Bed, plane, prometheus_url, background)
    crashes = [None, Crash(1, after=True), Crash(3, after=False), Crash(7, after=True)]
    calm, *crashed = in_beds([(make, partial(play, scenario=ABANDON, crash=crash)) for crash in crashes])
    losing = Script([Rule(fault=Fault(kind=Kind.LOSE), verb="write", every=2, times=FOREVER)])
    (lost,) = in_beds([(partial(make, script=losing), partial(play, scenario=ABANDON))])
    for outcome in (calm, *crashed, lost):
        assert isinstance(outcome, Outcome), outcome
        assert outcome.state == calm.state
        assert outcome.lowest_ready == 2
    assert calm.state["attempts"][0][1:3] == ("Abandoned", "CanaryCrashLoop")
    assert len(losing.met) >= 5

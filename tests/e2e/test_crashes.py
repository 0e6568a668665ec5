"""The operator is killed while it works; what comes of it in the end is the same."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import pytest

from tests.e2e.conftest import LOAD
from tests.e2e.operator import Operator
from tests.e2e.scenario import Scenario
from tests.e2e.view import View

pytestmark = [pytest.mark.cluster, pytest.mark.emulator, pytest.mark.faults, pytest.mark.slow]


class Killer:
    """Kills the operator the first time that a phase is seen, and once more a moment later."""

    def __init__(self, scenario: Scenario, operator: Operator, phases: Sequence[str]) -> None:
        self._scenario = scenario
        self._operator = operator
        self._due = list(phases)
        self.killed: list[str] = []

    def glance(self) -> View:
        """A look at the resource that kills in passing."""
        view = self._scenario.view()
        if view.phase in self._due:
            self._due.remove(view.phase)
            self.killed.append(view.phase)
            self._operator.kill()
        time.sleep(0.5)
        return view


def test_killing_the_operator_in_every_phase_changes_nothing_in_the_end(
    stage: Callable[..., Scenario], operator: Operator, testkit: str
) -> None:
    scenario = stage("crashes")
    scenario.create(tuning={"mode": "Observe"})
    scenario.serving(120)
    scenario.start_load(testkit, LOAD)
    before = scenario.until("a bottleneck is found", lambda view: view.suffers, seconds=90)

    killer = Killer(scenario, operator, ("CanaryStarting", "CanaryJudging", "Promoting", "Watching"))
    scenario.glance = killer.glance
    scenario.patch({"tuning": {"mode": "Apply"}})
    promoted = scenario.attempt_ended(before, "Promoted", 600)
    scenario.settled(promoted.revision)
    assert killer.killed == ["CanaryStarting", "CanaryJudging", "Promoting", "Watching"]

    scenario.patch({"tuning": {"mode": "Recommend"}})
    killer = Killer(scenario, operator, ("CanaryStarting", "CanaryJudging", "RollingBack"))
    scenario.glance = killer.glance
    harmed = scenario.spoil({"maxNumSeqs": 2}, "RolledBack", 480)
    assert "CanaryJudging" in killer.killed
    assert harmed.stable_min_ready >= scenario.service.replicas

    killer = Killer(scenario, operator, ("CanaryStarting", "RollingBack"))
    scenario.glance = killer.glance
    broken = scenario.spoil({"blockSize": 16}, "Abandoned", 300)
    assert "CanaryStarting" in killer.killed
    assert broken.stable_min_ready >= scenario.service.replicas

    assert [attempt.outcome for attempt in scenario.view().attempts] == ["Abandoned", "RolledBack", "Promoted"]
    totals = scenario.load.drain()
    assert totals.failed == 0, scenario.load.failures()

"""B2.2, B2.3, B2.5: the API server loses answers, refuses, stalls and answers with the past; the rollout ends as ever.

Each second write, or each twenty-third read (more than a cycle makes, so that some cycles come to their end and each
read is met in turn), meets the fault all along, and the operator goes on by its own back-off.
"""

from __future__ import annotations

from functools import partial

import pytest

from tests.fault.background import Background
from tests.fault.bed import Bed
from tests.fault.control_plane import ControlPlane
from tests.fault.scenarios import EDIT, PROMOTE, ROLL_BACK, Outcome, Scenario, in_beds, play
from tests.fault.script import FOREVER, Fault, Kind, Rule, Script

pytestmark = [pytest.mark.cluster, pytest.mark.faults, pytest.mark.slow]

REFUSALS = {
    "409": Fault(kind=Kind.STATUS, status=409),
    "422": Fault(kind=Kind.STATUS, status=422),
    "429": Fault(kind=Kind.STATUS, status=429, retry_after=7),
    "500": Fault(kind=Kind.STATUS, status=500),
    "503": Fault(kind=Kind.STATUS, status=503),
    "403": Fault(kind=Kind.STATUS, status=403, reason="Forbidden"),
    "401": Fault(kind=Kind.STATUS, status=401, reason="Unauthorized"),
    "drop": Fault(kind=Kind.DROP),
    "duplicate": Fault(kind=Kind.DUPLICATE),
    "late": Fault(kind=Kind.DELAY, seconds=0.2),
}
LOST = Fault(kind=Kind.LOSE)
SCENARIOS = (PROMOTE, ROLL_BACK, EDIT)


def on_writes(fault: Fault, skip: int = 0) -> Rule:
    return Rule(fault=fault, verb="write", skip=skip, every=2, times=FOREVER)


def on_reads(fault: Fault) -> Rule:
    return Rule(fault=fault, verb="read", every=23, times=FOREVER)


def outcomes(
    plane: ControlPlane, prometheus_url: str, background: Background, scenario: Scenario, rules: dict[str, Rule]
) -> dict[str, object]:
    """What is wrong by rule: nothing, when each ends as it ends without a fault and with as much capacity."""

    script = {"": Script(), **{name: Script([rule]) for name, rule in rules.items()}}
    make = partial(Bed, plane, prometheus_url, background)
    found = in_beds([(partial(make, script=one), partial(play, scenario=scenario)) for one in script.values()])
    calm = found[0]
    assert isinstance(calm, Outcome), calm
    wrong: dict[str, object] = {}
    for (name, one), outcome in zip(script.items(), found, strict=True):
        if not isinstance(outcome, Outcome):
            wrong[name] = outcome
        elif outcome.state != calm.state or outcome.lowest_ready < calm.lowest_ready:
            wrong[name] = {key: value for key, value in outcome.state.items() if calm.state[key] != value}
        elif name and not one.met:
            wrong[name] = "no call met the fault"
    return wrong


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name.replace(" ", "-"))
def test_b2_02_a_write_whose_answer_is_lost_is_done_once(
    scenario: Scenario, plane: ControlPlane, prometheus_url: str, background: Background
) -> None:
    rules = {f"from {skip}": on_writes(LOST, skip) for skip in (0, 1)}
    assert outcomes(plane, prometheus_url, background, scenario, rules) == {}


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name.replace(" ", "-"))
def test_b2_03_refused_writes_are_tried_again_until_they_pass(
    scenario: Scenario, plane: ControlPlane, prometheus_url: str, background: Background
) -> None:
    rules = {name: on_writes(fault) for name, fault in REFUSALS.items()}
    assert outcomes(plane, prometheus_url, background, scenario, rules) == {}


def test_b2_03_refused_reads_decide_nothing(plane: ControlPlane, prometheus_url: str, background: Background) -> None:
    rules = {name: on_reads(REFUSALS[name]) for name in ("500", "429", "403", "401", "drop", "late")}
    assert outcomes(plane, prometheus_url, background, ROLL_BACK, rules) == {}


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name.replace(" ", "-"))
def test_b2_05_reads_of_the_past_undo_nothing(
    scenario: Scenario, plane: ControlPlane, prometheus_url: str, background: Background
) -> None:
    """As from a cache that lags: in turn the resource, the workloads and the pods as before our last write."""
    stale = Fault(kind=Kind.STALE)
    rules = {
        resource: Rule(fault=stale, verb="read", resource=resource, every=3, times=FOREVER)
        for resource in ("llmdeployments", "deployments", "pods")
    }
    assert outcomes(plane, prometheus_url, background, scenario, rules) == {}

"""BlueGreen and InPlace on real pods with the engine emulator, side by side to save time.

BlueGreen takes over a limit that is clearly better; InPlace gives a pod's room to an engine that does not start, and
takes it back, and elsewhere replaces all pods one by one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import pytest

from tests.e2e.loadgen import Load, Totals
from tests.e2e.manifests import Service, emulated_service
from tests.e2e.scenario import Scenario, selector
from tests.e2e.view import Attempt, View

pytestmark = [pytest.mark.cluster, pytest.mark.emulator, pytest.mark.slow, pytest.mark.long]

_REVISION = "trimtab.dev/revision"


@dataclass(frozen=True, kw_only=True)
class Case:
    """A service, its load, and a change of its configuration that ends as `outcome`."""

    service: Service
    load: Load
    change: Mapping[str, Any]
    outcome: str


@dataclass(frozen=True, kw_only=True)
class Rolled:
    """What became of a service: the trial, the views before and after, its pods meanwhile and what the clients saw.

    `served`: the revisions that the Service selected alone, in their order; empty for all of them together.
    """

    scenario: Scenario
    before: View
    after: View
    attempt: Attempt
    most_pods: int
    least_ready: int
    served: list[str]
    totals: Totals


def _cases(testkit: str) -> dict[str, Case]:
    base = replace(emulated_service("chat", testkit), mode="Observe", drain_seconds=20, watch_seconds=5)
    # Each pod answers one request at a time, so the clients queue until the new limit is there.
    blue = replace(base, changes={"rollout": {"strategy": "BlueGreen"}})
    # So few clients that two of the three pods can carry them: one can give its room.
    place = replace(base, replicas=3, config={**base.config, "maxNumSeqs": 16})
    place = replace(place, changes={"rollout": {"strategy": "InPlace"}})
    short = Load(prompt_tokens="32", output_tokens="16", cpu="100m")
    return {
        "BlueGreen": Case(service=blue, load=replace(short, clients=10), change={"maxNumSeqs": 16}, outcome="Promoted"),
        "InPlace": Case(service=place, load=replace(short, clients=2), change={"blockSize": 16}, outcome="Abandoned"),
        "InPlace, whole": Case(
            service=place, load=replace(short, clients=4), change={"maxNumSeqs": 32}, outcome="Promoted"
        ),
    }


def _is_measured(view: View) -> bool:
    return view.phase == "Stable" and bool(view.status.get("measured"))


def _selected(scenario: Scenario) -> str:
    place = f"/api/v1/namespaces/{scenario.namespace}/services/{scenario.service.name}"
    spec: dict[str, Any] = scenario.access.get(place)["spec"]
    return str(spec["selector"].get(_REVISION) or "")


class _Watched:
    """What is seen of a scenario from its change on, beside what its pod watch keeps."""

    def __init__(self, scenario: Scenario, before: View) -> None:
        self.scenario = scenario
        self.before = before
        self.since = time.time()
        self.served: list[str] = []
        self.most_pods = 0

    def look(self) -> bool:
        """Whether its trial has ended."""
        found, selected = self.scenario, _selected(self.scenario)
        if not self.served or self.served[-1] != selected:
            self.served.append(selected)
        self.most_pods = max(self.most_pods, len(found.access.pods(found.namespace, selector(found.service.name))))
        return bool(found.view().new_attempts(self.before))


@pytest.fixture(scope="module")
def rolled(stage: Callable[..., Scenario], testkit: str) -> dict[str, Rolled]:
    """All cases at the same time."""
    cases = _cases(testkit)
    purposes = {"BlueGreen": "blue-green", "InPlace": "in-place", "InPlace, whole": "in-place-whole"}
    scenarios = {name: stage(purposes[name], case.service) for name, case in cases.items()}
    for scenario in scenarios.values():
        scenario.create()
    for name, scenario in scenarios.items():
        scenario.serving(90)
        scenario.start_load(testkit, cases[name].load)
    watched = {}
    for name, scenario in scenarios.items():
        watched[name] = _Watched(scenario, scenario.until("it serves measured load", _is_measured, seconds=60))
        scenario.patch({"engine": {"config": dict(cases[name].change)}})
    ends = time.monotonic() + 240
    while {found.look() for found in watched.values()} != {True}:
        assert time.monotonic() < ends, {name: str(found.scenario.view()) for name, found in watched.items()}
        time.sleep(0.5)
    results = {}
    for name, found in watched.items():
        scenario, case = found.scenario, cases[name]
        attempt = scenario.attempt_ended(found.before, case.outcome, 10)
        stays = attempt.revision if case.outcome == "Promoted" else found.before.role("Stable")
        results[name] = Rolled(
            scenario=scenario,
            before=found.before,
            after=scenario.settled(stays, seconds=90),
            attempt=attempt,
            most_pods=found.most_pods,
            least_ready=scenario.pods.least_of_all(found.since),
            served=found.served,
            totals=scenario.load.drain(),
        )
    return results


def test_blue_green_switches_all_traffic_at_once_and_keeps_the_old_pods_until_the_end(
    rolled: dict[str, Rolled],
) -> None:
    found = rolled["BlueGreen"]
    assert found.after.status["rollout"]["strategy"] == "BlueGreen"
    assert found.after.stable_config["maxNumSeqs"] == 16
    assert found.served[:2] == ["", found.attempt.revision], "both share the traffic, then the new pods have it alone"
    assert found.before.role("Stable") not in found.served
    assert found.least_ready >= 2 and found.most_pods >= 4


def test_in_place_one_pod_gives_its_room_and_gets_it_back(rolled: dict[str, Rolled]) -> None:
    found = rolled["InPlace"]
    assert found.after.status["rollout"]["strategy"] == "InPlace"
    assert found.attempt.reason == "CanaryCrashLoop"
    assert found.served == [""], "every ready pod has its share"
    assert found.least_ready == 2, "one pod at a time"
    assert found.most_pods <= 3, "never more pods than the spec asks for, those that still end included"


def test_in_place_every_pod_is_replaced_one_by_one_once_the_first_has_shown_that_it_is_good(
    rolled: dict[str, Rolled],
) -> None:
    found = rolled["InPlace, whole"]
    assert found.after.status["rollout"]["strategy"] == "InPlace"
    assert found.after.stable_config["maxNumSeqs"] == 32
    assert found.served == [""], "every ready pod has its share"
    assert found.least_ready == 2, "one pod at a time"
    assert found.most_pods <= 3, "never more pods than the spec asks for, those that still end included"
    steps = found.scenario.pods.counts(found.attempt.started_at or 0.0)
    ours = [count.ready.get(found.attempt.revision, 0) for count in steps]
    assert [number for number, before in zip(ours, [0, *ours], strict=False) if number != before] == [1, 2, 3]


@pytest.mark.parametrize("strategy", ["BlueGreen", "InPlace", "InPlace, whole"])
def test_no_request_is_lost(rolled: dict[str, Rolled], strategy: str) -> None:
    found = rolled[strategy]
    assert found.totals.failed == 0, found.scenario.load.failures()
    assert found.totals.succeeded > 100

"""BlueGreen and InPlace on real pods with the engine emulator: one promotion of each, side by side to save time."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest

from tests.e2e.loadgen import Load, Totals
from tests.e2e.manifests import emulated_service
from tests.e2e.scenario import Scenario, selector
from tests.e2e.view import Attempt, View

pytestmark = [pytest.mark.cluster, pytest.mark.emulator, pytest.mark.slow]

# So few clients that two pods can carry them: in place, one of three gives its room.
_LOAD = Load(clients=3, prompt_tokens="32", output_tokens="16")
_REVISION = "trimtab.dev/revision"


@dataclass(frozen=True, kw_only=True)
class Rolled:
    """What became of a service: the trial, the view at its end, its pods meanwhile and what the clients saw.

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


def _selected(scenario: Scenario) -> str:
    place = f"/api/v1/namespaces/{scenario.namespace}/services/{scenario.service.name}"
    spec: dict[str, Any] = scenario.access.get(place)["spec"]
    return str(spec["selector"].get(_REVISION) or "")


def _is_measured(view: View) -> bool:
    return view.phase == "Stable" and bool(view.status.get("measured"))


@pytest.fixture(scope="module")
def rolled(stage: Callable[..., Scenario], testkit: str) -> dict[str, Rolled]:
    """Both services get a limit that changes little for so few clients; each takes it over in its own way."""
    base = emulated_service("chat", testkit)
    base = replace(base, config={**base.config, "maxNumSeqs": 16}, mode="Observe", drain_seconds=20, watch_seconds=10)
    blue = replace(base, replicas=2, changes={"rollout": {"strategy": "BlueGreen"}})
    place = replace(base, replicas=3, changes={"rollout": {"strategy": "InPlace"}})
    scenarios = {"BlueGreen": stage("blue-green", blue), "InPlace": stage("in-place", place)}
    for scenario in scenarios.values():
        scenario.create()
    for scenario in scenarios.values():
        scenario.serving(90)
        scenario.start_load(testkit, _LOAD)
    before = {
        name: found.until(
            "the load is measured", lambda v: v.phase == "Stable" and bool(v.status.get("measured")), seconds=60
        )
        for name, found in scenarios.items()
    }
    since = time.time()
    for scenario in scenarios.values():
        scenario.patch({"engine": {"config": {"maxNumSeqs": 24}}})
    served: dict[str, list[str]] = {name: [] for name in scenarios}
    most = dict.fromkeys(scenarios, 0)
    ends = time.monotonic() + 240
    while any(not found.view().new_attempts(before[name]) for name, found in scenarios.items()):
        assert time.monotonic() < ends, {name: str(found.view()) for name, found in scenarios.items()}
        for name, found in scenarios.items():
            selected = _selected(found)
            if not served[name] or served[name][-1] != selected:
                served[name].append(selected)
            most[name] = max(most[name], len(found.access.pods(found.namespace, selector(found.service.name))))
        time.sleep(0.5)
    results = {}
    for name, scenario in scenarios.items():
        attempt = scenario.attempt_ended(before[name], "Promoted", 10)
        after = scenario.settled(attempt.revision, seconds=90)
        results[name] = Rolled(
            scenario=scenario,
            before=before[name],
            after=after,
            attempt=attempt,
            most_pods=most[name],
            least_ready=scenario.pods.least_of_all(since),
            served=served[name],
            totals=scenario.load.drain(),
        )
    return results


def test_blue_green_switches_all_traffic_at_once_and_keeps_the_old_pods_until_the_end(
    rolled: dict[str, Rolled],
) -> None:
    found = rolled["BlueGreen"]
    old, new = found.before.role("Stable"), found.attempt.revision
    assert found.after.status["rollout"]["strategy"] == "BlueGreen"
    assert found.served[:2] == ["", new], "both share the traffic while they are judged, then the new one has it"
    assert old not in found.served
    assert found.least_ready >= 2 and found.most_pods >= 4


def test_in_place_replaces_one_pod_at_a_time_in_its_own_room(rolled: dict[str, Rolled]) -> None:
    found = rolled["InPlace"]
    assert found.after.status["rollout"]["strategy"] == "InPlace"
    assert found.served == [""], "every ready pod has its share"
    assert found.least_ready >= 2, "one pod at a time"
    assert found.most_pods <= 3, "never more pods than the spec asks for, those that still end included"


@pytest.mark.parametrize("strategy", ["BlueGreen", "InPlace"])
def test_no_request_is_lost(rolled: dict[str, Rolled], strategy: str) -> None:
    found = rolled[strategy]
    assert found.after.stable_config["maxNumSeqs"] == 24
    assert found.totals.failed == 0, found.scenario.load.failures()
    assert found.totals.succeeded > 100

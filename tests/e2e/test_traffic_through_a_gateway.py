"""Traffic by weight through a real gateway: the canary has its share of the clients' requests, and none is lost.

The clients stream through Traefik, an HTTPRoute of which Trimtab sets the weights. One trial is promoted in two steps,
a second one is taken back by a person in the middle of its first.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from tests.e2e import gateway as gateways
from tests.e2e.access import AnswerError
from tests.e2e.gateway import Gateway
from tests.e2e.loadgen import Load, Totals
from tests.e2e.manifests import MODEL, emulated_service
from tests.e2e.pods import is_ready, revision_of
from tests.e2e.scenario import Scenario, selector
from tests.e2e.view import Attempt, View
from tests.e2e.waiting import until

pytestmark = [pytest.mark.cluster, pytest.mark.emulator, pytest.mark.slow, pytest.mark.long]

# By numbers of pods a canary beside two would have a third.
STEPS = (15, 50)
LOAD = Load(clients=12, prompt_tokens="64", output_tokens="32", cpu="100m")
_ROUTE, _PORT = "chat", 8000
_SUCCESS = re.compile(r"^vllm:request_success_total\{[^}]*\} (\S+)$", re.MULTILINE)
_SETTLED = 4.0  # seconds after a change of the weights until the gateway surely has them
_REJECT = "trimtab.dev/rollback"


@dataclass(frozen=True)
class Look:
    """What was seen at once: the canary's weight while it is judged (else None), and answers so far by pod."""

    at: float
    judged_at: int | None
    answered: dict[tuple[str, str], float]  # (revision, pod)


@dataclass(frozen=True, kw_only=True)
class Shared:
    """How many requests each side answered while the canary had one weight."""

    weight: int
    canary: float
    stable: float

    @property
    def percent(self) -> float:
        return 100 * self.canary / (self.canary + self.stable)


@dataclass(frozen=True, kw_only=True)
class Story:
    """Both trials: how they ended, what each weight came to, and the clients' requests."""

    accepted: bool
    promoted: Attempt
    taken_back: Attempt
    shares: dict[int, Shared]
    weights_seen: list[int]
    weights_after: dict[str, int]
    least_ready: int
    totals: Totals
    scenario: Scenario


class _Watched:
    """Looks about every second, for as long as it is asked to."""

    def __init__(self, scenario: Scenario, gateway: Gateway) -> None:
        self._scenario, self._gateway = scenario, gateway
        self.looks: list[Look] = []
        self.weights: list[int] = []

    def until(self, what: str, holds: Callable[[View], bool], seconds: float) -> View:
        """Raises DidNotHappenError."""

        def look() -> View | None:
            view = self._scenario.view()
            self._take(view)
            return view if holds(view) else None

        return until(what, look, seconds=seconds, say=lambda: f"{self._scenario.view()}; weights {self.weights}")

    def _take(self, view: View) -> None:
        weight = self._gateway.weights(_ROUTE)[f"{_ROUTE}-canary"]
        if not self.weights or self.weights[-1] != weight:
            self.weights.append(weight)
        judged_at = weight if view.phase == "CanaryJudging" else None
        try:
            self.looks.append(Look(time.monotonic(), judged_at, self._answered()))
        except AnswerError:
            return  # a pod has gone between the list and the question

    def _answered(self) -> dict[tuple[str, str], float]:
        access, namespace = self._scenario.access, self._scenario.namespace
        found = {}
        for pod in access.pods(namespace, selector(self._scenario.service.name)):
            if is_ready(pod):
                name = pod["metadata"]["name"]
                text = access.text(f"/api/v1/namespaces/{namespace}/pods/{name}:{_PORT}/proxy/metrics")
                found[revision_of(pod), name] = sum(float(value) for value in _SUCCESS.findall(text))
        return found

    def shared(self, weight: int, canary: str) -> Shared:
        """From some seconds after the canary was first judged at a weight until it was last seen there."""
        there = [look for look in self.looks if look.judged_at == weight]
        there = [look for look in there if look.at >= there[0].at + _SETTLED]
        assert there, f"the canary was never judged at {weight} %: {self.weights}"
        first, last = there[0].answered, there[-1].answered
        more = {pod: count - first.get(pod, 0.0) for pod, count in last.items()}
        ours = sum(count for (revision, _), count in more.items() if revision == canary)
        return Shared(weight=weight, canary=ours, stable=sum(more.values()) - ours)


@pytest.fixture(scope="module")
def routed(
    stage: Callable[..., Scenario], testkit: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Scenario, Gateway]]:
    """Two pods behind a route through which twelve clients stream."""
    rollout = {"strategy": "Canary", "steps": list(STEPS), "stepSeconds": 25, "route": {"name": _ROUTE}}
    base = replace(emulated_service("chat", testkit), mode="Observe", drain_seconds=30, watch_seconds=10)
    service = replace(base, config={**base.config, "maxNumSeqs": 16}, changes={"rollout": rollout})
    scenario = stage("gateway", service)
    log: Path = tmp_path_factory.mktemp("gateway") / "traefik.log"
    with gateways.running(scenario.access, scenario.namespace, log) as gateway:
        gateway.route(_ROUTE, ("chat-stable", "chat-canary"), _PORT)
        scenario.create()
        scenario.serving(90)
        scenario.until(
            "the route is Trimtab's to weigh",
            lambda view: view.phase == "Stable" and gateway.weights(_ROUTE) == {"chat-stable": 100, "chat-canary": 0},
            seconds=60,
        )
        until("the gateway takes the route", lambda: gateway.accepts(_ROUTE), seconds=60, say=log.read_text)
        scenario.load.deploy(testkit, f"{gateway.url}/v1", MODEL, LOAD)
        yield scenario, gateway


@pytest.fixture(scope="module")
def story(routed: tuple[Scenario, Gateway]) -> Story:
    scenario, gateway = routed
    before = scenario.until(
        "measured load", lambda view: view.phase == "Stable" and bool(view.status.get("measured")), seconds=90
    )
    watched, since = _Watched(scenario, gateway), time.time()
    scenario.patch({"engine": {"config": {"maxNumSeqs": 32}}})
    watched.until("the first trial ends", lambda view: bool(view.new_attempts(before)), seconds=420)
    promoted = scenario.attempt_ended(before, "Promoted", 10)
    scenario.settled(promoted.revision, seconds=90)
    seen = list(watched.weights)
    shares = {weight: watched.shared(weight, promoted.revision) for weight in STEPS}  # of this trial alone
    between = scenario.view()
    scenario.patch({"engine": {"config": {"blockSize": 32}}})
    watched.until(
        "the second canary has its share",
        lambda view: view.phase == "CanaryJudging" and watched.weights[-1] == STEPS[0],
        seconds=120,
    )
    annotation = {_REJECT: scenario.view().role("Canary")}
    scenario.access.patch_resource(scenario.namespace, "chat", {"metadata": {"annotations": annotation}})
    watched.until("the second trial ends", lambda view: bool(view.new_attempts(between)), seconds=120)
    taken_back = scenario.attempt_ended(between, "RolledBack", 10)
    scenario.settled(promoted.revision, seconds=90)
    return Story(
        accepted=gateway.accepts(_ROUTE),
        promoted=promoted,
        taken_back=taken_back,
        shares=shares,
        weights_seen=seen,
        weights_after=gateway.weights(_ROUTE),
        least_ready=scenario.pods.least_of_all(since),
        totals=scenario.load.drain(),
        scenario=scenario,
    )


@pytest.mark.parametrize("weight", STEPS)
def test_the_canary_answers_its_share_of_the_requests(story: Story, weight: int) -> None:
    found = story.shares[weight]
    assert found.canary + found.stable >= 100, found
    assert abs(found.percent - weight) <= 5, found


def test_the_weights_rise_by_its_steps_to_all_and_are_at_rest_again(story: Story) -> None:
    first, second = story.weights_seen.index(STEPS[0]), story.weights_seen.index(STEPS[1])
    assert story.weights_seen[0] == 0 and first < second < story.weights_seen.index(100)
    assert story.weights_after == {"chat-stable": 100, "chat-canary": 0}
    assert story.taken_back.reason == "RolledBackByUser"
    assert story.accepted, "the gateway takes the route, as it was weighed last"


def test_no_request_through_the_gateway_is_lost(story: Story) -> None:
    assert story.totals.failed == 0, story.scenario.load.failures()
    assert story.totals.succeeded > 500
    assert story.least_ready >= 2

"""Few clients, few seats and intervals of a few seconds: what a trial in a small service looks like."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from tests.unit.judge.closed_loop import Server, recorded
from trimtab.judge import Policy
from trimtab.judge.replay import Outcome, looks
from trimtab.model.plan import Metric
from trimtab.model.slo import Latency, LatencyTarget, Slo
from trimtab.model.verdict import Call
from trimtab.observe.trials import TrialRead
from trimtab.reconcile.judging import Trial, history

SLO = Slo((LatencyTarget(Latency.TTFT, 95, 6.0), LatencyTarget(Latency.ITL, 95, 0.4)), max_error_share=0.01)
USER = Policy(slo=SLO, minimum_requests=10, warm_up=5.0)
PLAN = Policy(slo=SLO, minimum_requests=10, warm_up=5.0, trades=frozenset({Metric.ITL, Metric.E2E}))
SEEDS = range(5)


def stable(pods: int, seats: int) -> list[Server]:
    return [Server(f"s-{number}", seats) for number in range(pods)]


def decided(servers: Sequence[Server], policy: Policy, seed: int, clients: int = 16) -> Outcome:
    """As the operator decides: every 5 s for two minutes."""
    pods = recorded(servers, seed=seed, clients=clients)
    read = TrialRead(pods={pod.name: pod for pod in pods}, scrape_interval=5.0)
    canary = frozenset(one.name for one in servers if one.canary)
    trial = Trial(read=read, canary=canary, policy=policy, interval=5.0, began=0.0, ended=120.0)
    return list(looks(history(trial, read), policy))[-1]


@pytest.mark.parametrize("pods", [1, 2])
@pytest.mark.parametrize("seed", SEEDS)
def test_a_canary_with_seats_for_all_beside_pods_with_one_is_good_before_the_deadline(pods: int, seed: int) -> None:
    outcome = decided([*stable(pods, 1), Server("c", 16, canary=True)], PLAN, seed)
    assert outcome.verdict.call is Call.GOOD, outcome.verdict.message
    assert outcome.interval < 23
    assert outcome.verdict.evidence["canary.ttft.mean"] < outcome.verdict.evidence["stable.ttft.mean"] / 5


@pytest.mark.parametrize("pods", [1, 2])
@pytest.mark.parametrize("seed", SEEDS)
def test_a_canary_with_two_seats_beside_pods_with_sixteen_is_bad_within_four_intervals(pods: int, seed: int) -> None:
    outcome = decided([*stable(pods, 16), Server("c", 2, canary=True)], USER, seed)
    assert (outcome.verdict.call, outcome.interval <= 3) == (Call.BAD, True), outcome.verdict.message


ALIKE: dict[str, Callable[[], list[Server]]] = {
    "with seats to spare": lambda: [*stable(2, 16), Server("c", 16, canary=True)],
    "one pod with seats to spare": lambda: [*stable(1, 16), Server("c", 16, canary=True)],
    "that are full": lambda: [*stable(2, 1), Server("c", 1, canary=True)],
}


@pytest.mark.parametrize("servers", ALIKE.values(), ids=ALIKE.keys())
@pytest.mark.parametrize("seed", SEEDS)
def test_a_canary_like_its_neighbours_is_not_bad(servers: Callable[[], list[Server]], seed: int) -> None:
    outcome = decided(servers(), USER, seed)
    assert outcome.verdict.call is not Call.BAD, outcome.verdict.message


@pytest.mark.parametrize("seed", SEEDS)
def test_a_new_pod_whose_first_requests_are_long_is_not_taken_for_stuck(seed: int) -> None:
    """Stable ends forty requests in every interval, the canary none in its first ones: all of its own are young."""
    servers = [*stable(2, 64), Server("c", 64, canary=True)]
    pods = recorded(servers, seed=seed, clients=120, tokens=900)
    read = TrialRead(pods={pod.name: pod for pod in pods}, scrape_interval=5.0)
    trial = Trial(read=read, canary=frozenset({"c"}), policy=USER, interval=5.0, began=0.0, ended=120.0)
    calls = [outcome.verdict for outcome in looks(history(trial, read), USER)]
    assert all(verdict.call is not Call.BAD for verdict in calls), calls[-1].message

"""Events on the real API server: once per transition, never twice."""

from __future__ import annotations

from typing import Any

import pytest

from tests.cluster.handle import Handle
from trimtab.kube.client import Kube
from trimtab.kube.events import Events
from trimtab.kube.kinds import EVENTS, SERVICES

pytestmark = pytest.mark.cluster


class Clock:
    """Seconds that only a test moves."""

    def __init__(self) -> None:
        self.now = 5000.0

    def __call__(self) -> float:
        return self.now


async def about(kube: Kube, namespace: str) -> dict[str, Any]:
    ports = [{"port": 80}]
    return await kube.apply(
        SERVICES, {"metadata": {"name": "s", "namespace": namespace}, "spec": {"ports": ports}}, force=False
    )


async def test_a_repetition_is_no_second_event_and_a_late_one_raises_the_count(kube: Kube, namespace: str) -> None:
    clock = Clock()
    events = Events(kube, quiet=600, clock=clock)
    service = await about(kube, namespace)
    assert await events.normal(service, "Promoted", "Revision a1 serves.")
    for _ in range(5):
        assert not await events.normal(service, "Promoted", "Revision a1 serves.")
    clock.now += 601
    assert await events.normal(service, "Promoted", "Revision a1 serves.")
    assert await events.warning(service, "RolledBack", "Revision b2 was slower.")
    found = sorted(await kube.list(EVENTS, namespace), key=lambda event: str(event["reason"]))
    assert [(event["reason"], event["type"], event["count"]) for event in found] == [
        ("Promoted", "Normal", 2),
        ("RolledBack", "Warning", 1),
    ]


async def test_a_restarted_operator_does_not_say_it_again_in_a_new_event(kube: Kube, namespace: str) -> None:
    service = await about(kube, namespace)
    for _ in range(3):
        assert await Events(kube).warning(service, "RolledBack", "Revision b2 was slower.")
    assert len(await kube.list(EVENTS, namespace)) == 1


async def test_kubectl_describe_shows_the_event(kube: Kube, cluster: Handle, namespace: str) -> None:
    service = await about(kube, namespace)
    await Events(kube).warning(service, "RolledBack", "Revision b2 was slower: TTFT p95 812 ms against 95 ms.")
    described = cluster.kubectl("describe", "service", "s", namespace=namespace)
    assert "TTFT p95 812 ms against 95 ms" in described
    assert "trimtab" in described


async def test_more_than_the_budget_is_dropped_and_the_budget_refills(kube: Kube, namespace: str) -> None:
    clock = Clock()
    events = Events(kube, burst=3, refill=60, clock=clock)
    service = await about(kube, namespace)
    written = [await events.normal(service, "R", f"message {n}") for n in range(5)]
    assert written == [True, True, True, False, False]
    clock.now += 60
    assert await events.normal(service, "R", "message 5")
    assert not await events.normal(service, "R", "message 6")


async def test_an_event_that_cannot_be_written_stops_nobody(cluster: Handle, kube: Kube, namespace: str) -> None:
    service = await about(kube, namespace)
    async with Kube.connect(cluster.kubeconfig, guard=lambda: False) as follower:
        assert not await Events(follower).normal(service, "R", "m")

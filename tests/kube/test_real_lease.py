"""Leader election between contenders on the real API server."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator

import pytest

from tests.cluster.handle import Handle
from trimtab.kube.client import Kube
from trimtab.kube.kinds import LEASES
from trimtab.kube.lease import Lease, LeaseTimes

pytestmark = pytest.mark.cluster

TIMES = LeaseTimes(duration=15, margin=5.0, retry=0.2)


class Clock:
    """Monotonic seconds that only a test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
async def kubes(cluster: Handle) -> AsyncIterator[Iterator[Kube]]:
    """As many clients as a test takes; none of them may write anything but a lease."""
    async with contextlib.AsyncExitStack() as stack:
        clients = [
            await stack.enter_async_context(Kube.connect(cluster.kubeconfig, guard=lambda: False)) for _ in range(4)
        ]
        yield iter(clients)


def contender(kube: Kube, namespace: str, name: str, clock: Clock) -> Lease:
    return Lease(kube, namespace=namespace, name="trimtab", identity=name, times=TIMES, clock=clock)


async def test_of_two_contenders_one_gets_the_lease_and_keeps_it(kubes: Iterator[Kube], namespace: str) -> None:
    clock = Clock()
    a, b = (contender(next(kubes), namespace, name, clock) for name in "ab")
    assert await a.attempt()
    for _ in range(20):
        clock.now += 2
        assert not await b.attempt()
        assert await a.attempt()
        assert (a.is_held(), b.is_held()) == (True, False)


async def test_a_silent_holder_loses_the_lease_only_after_it_has_stopped_itself(
    kubes: Iterator[Kube], namespace: str
) -> None:
    clock = Clock()
    a, b = (contender(next(kubes), namespace, name, clock) for name in "ab")
    assert await a.attempt()
    held_by_b_at = None
    for _ in range(40):
        if await b.attempt():
            held_by_b_at = clock.now
            break
        clock.now += 1
    assert held_by_b_at is not None
    assert not a.is_held(held_by_b_at)
    assert a.is_held(1000 + 9)
    assert not a.is_held(1000 + 10)
    assert held_by_b_at >= 1015
    # The old holder comes back: it learns that it has lost, and says so for good.
    assert not await a.attempt()
    assert a.lost.is_set()
    assert not a.is_held()


async def test_a_hundred_simultaneous_attempts_never_give_two_holders(kubes: Iterator[Kube], namespace: str) -> None:
    clock = Clock()
    contenders = [contender(kube, namespace, f"c{n}", clock) for n, kube in enumerate(kubes)]
    for _ in range(25):
        await asyncio.gather(*(each.attempt() for each in contenders))
        assert sum(each.is_held() for each in contenders) <= 1
        clock.now += 4
    assert sum(each.is_held(clock.now - 4) for each in contenders) == 1


async def test_a_released_lease_can_be_taken_at_once(kubes: Iterator[Kube], namespace: str) -> None:
    clock = Clock()
    a, b = (contender(next(kubes), namespace, name, clock) for name in "ab")
    async with a:
        assert a.is_held()
        assert not await b.attempt()
    assert not a.is_held()
    assert await b.attempt()


async def test_a_lease_that_somebody_deletes_is_made_again_by_its_holder(
    kubes: Iterator[Kube], kube: Kube, namespace: str
) -> None:
    clock = Clock()
    a = contender(next(kubes), namespace, "a", clock)
    assert await a.attempt()
    await kube.delete(LEASES, namespace, "trimtab")
    assert await a.attempt()
    found = await kube.get(LEASES, namespace, "trimtab")
    assert found is not None
    assert found["spec"]["holderIdentity"] == "a"


async def test_a_write_is_let_through_while_the_lease_is_held_and_not_after(
    cluster: Handle, kubes: Iterator[Kube], namespace: str
) -> None:
    clock = Clock()
    lease = contender(next(kubes), namespace, "a", clock)
    async with Kube.connect(cluster.kubeconfig, guard=lease.is_held) as writer:
        assert await lease.attempt()
        event = {"metadata": {"name": "e", "namespace": namespace}, "involvedObject": {"namespace": namespace}}
        await writer.create_event({**event, "reason": "R", "message": "m", "type": "Normal"})
        clock.now += 11
        with pytest.raises(Exception, match="does not hold the lease"):
            await writer.create_event({**event, "reason": "R", "message": "n", "type": "Normal"})

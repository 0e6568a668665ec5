"""The lease's rules under every schedule: a property over contenders whose clocks run and whose requests fail."""

from __future__ import annotations

import asyncio
import copy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trimtab.kube.client import Kube
from trimtab.kube.errors import Conflict, NotFound, Unavailable
from trimtab.kube.lease import Lease, LeaseTimes
from trimtab.kube.transport import Request

TIMES = LeaseTimes(duration=15, margin=5.0, retry=2.0)


class Store:
    """Keeps one lease with the rule of the API server that counts here: a write needs the version that was read."""

    def __init__(self) -> None:
        self.lease: dict[str, Any] | None = None
        self.version = 0

    def handle(self, request: Request) -> dict[str, Any]:
        if request.method == "GET":
            if self.lease is None:
                raise NotFound(request.doing)
            return copy.deepcopy(self.lease)
        body = copy.deepcopy(request.body)
        if request.method == "POST" and self.lease is not None:
            raise Conflict(request.doing)
        if request.method == "PUT":
            if self.lease is None:
                raise NotFound(request.doing)
            if body["metadata"]["resourceVersion"] != self.lease["metadata"]["resourceVersion"]:
                raise Conflict(request.doing)
        self.version += 1
        body["metadata"]["resourceVersion"] = str(self.version)
        self.lease = body
        return copy.deepcopy(body)


class Line:
    """One contender's way to the store. It can be cut before a request arrives, or before its answer comes back."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.trouble = "none"

    def send(self, request: Request) -> dict[str, Any]:
        if self.trouble == "cut":
            raise Unavailable(request.doing)
        answer = self._store.handle(request)
        if self.trouble == "no answer to writes" and request.method != "GET":
            raise Unavailable(request.doing)
        return answer

    def close(self) -> None:
        pass


class Clock:
    def __init__(self, offset: float) -> None:
        self.now = offset

    def __call__(self) -> float:
        return self.now


_moves = st.lists(
    st.tuples(
        st.sampled_from(["a", "b", "c"]),
        st.sampled_from(["none", "none", "none", "cut", "no answer to writes"]),
        st.sampled_from(["attempt", "attempt", "attempt", "release"]),
        st.floats(0, 8),
    ),
    max_size=60,
)


@settings(max_examples=150)
@given(moves=_moves)
def test_never_do_two_hold_the_lease(moves: list[tuple[str, str, str, float]]) -> None:
    async def play() -> None:
        store = Store()
        lines = {name: Line(store) for name in "abc"}
        clocks = {name: Clock(offset) for name, offset in (("a", 0.0), ("b", 5000.0), ("c", -40.0))}
        kubes = {name: Kube(line, guard=lambda: False, threads=1) for name, line in lines.items()}
        leases = {
            name: Lease(kubes[name], namespace="n", name="l", identity=name, times=TIMES, clock=clocks[name])
            for name in "abc"
        }
        try:
            for name, trouble, act, passes in moves:
                lines[name].trouble = trouble
                await (leases[name].attempt() if act == "attempt" else leases[name].release())
                held = [each for each, lease in leases.items() if lease.is_held()]
                assert len(held) <= 1, held
                for clock in clocks.values():
                    clock.now += passes
        finally:
            for kube in kubes.values():
                await kube.close()

    asyncio.run(play())


async def test_when_the_api_server_is_away_the_holder_stops_itself_in_time_and_goes_on_when_it_is_back() -> None:
    store, clock = Store(), Clock(0.0)
    line = Line(store)
    async with Kube(line, guard=lambda: False, threads=1) as kube:
        lease = Lease(kube, namespace="n", name="l", identity="a", times=TIMES, clock=clock)
        assert await lease.attempt()
        line.trouble = "cut"
        for _ in range(4):
            clock.now += 2
            assert await lease.attempt()  # still within the duration of the last renewal
        clock.now += 2
        assert not await lease.attempt()
        assert not lease.lost.is_set()
        line.trouble = "none"
        assert await lease.attempt()
        assert lease.is_held()


async def test_losing_the_lease_ends_the_renewals() -> None:
    store, clock = Store(), Clock(0.0)
    async with Kube(Line(store), guard=lambda: False, threads=1) as kube:
        times = LeaseTimes(duration=15, margin=5.0, retry=0.01)
        lease = Lease(kube, namespace="n", name="l", identity="a", times=times, clock=clock)
        assert await lease.attempt()
        assert store.lease is not None
        store.lease["spec"]["holderIdentity"] = "somebody else"
        await asyncio.wait_for(lease.keep(), 5)
        assert lease.lost.is_set()
        await lease.release()
        assert store.lease["spec"]["holderIdentity"] == "somebody else"


@pytest.mark.parametrize(("duration", "margin", "retry"), [(15, 15.0, 1.0), (15, 0.0, 1.0), (15, 5.0, 10.0)])
def test_times_that_cannot_work_are_refused(duration: int, margin: float, retry: float) -> None:
    with pytest.raises(ValueError, match="lease needs"):
        LeaseTimes(duration=duration, margin=margin, retry=retry)

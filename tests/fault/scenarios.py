"""What a user does to one LLMDeployment, as data, and the state that must come of it, whatever disturbs it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from tests.fault.bed import Bed
from tests.fault.llmdeployment import NAME
from tests.fault.natures import GOOD, NATURES, QUEUED, Nature
from tests.fault.tap import Crash
from trimtab.kube.kinds import DEPLOYMENTS, LLM_DEPLOYMENTS, OPTIMIZATION_PLANS, PODS, SERVICES

Object = dict[str, Any]
Seen = Callable[[Bed], bool]
Act = Callable[[Bed], None]

AT_THE_SAME_TIME = 4  # runs: each waits for the API server and the controllers most of the time


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """`acts`: when the first thing is seen the second is done, in order; then cycles until `ends`.

    Writes are counted from the first act on, or with `from_creation` from the creation of the resource.
    """

    name: str
    acts: Sequence[tuple[Seen, Act]]
    ends: Seen
    spec: Mapping[str, Any] = field(default_factory=dict)
    natures: Mapping[int, Nature] = field(default_factory=lambda: NATURES)
    from_creation: bool = False


def in_phase(phase: str) -> Seen:
    return lambda bed: bed.phase() == phase


def at_once(bed: Bed) -> bool:
    return True


def asks_for(number: int) -> Act:
    return lambda bed: bed.sequences(number)


def ended(count: int) -> Seen:
    return lambda bed: bed.ended(count)


def _approve(bed: Bed) -> None:
    bed.edit({"tuning": {"approvedPlan": bed.status()["plan"]}})


def _delete(bed: Bed) -> None:
    bed.admin.delete(LLM_DEPLOYMENTS, bed.namespace, NAME)


def nothing_left(bed: Bed) -> bool:
    kinds = (LLM_DEPLOYMENTS, DEPLOYMENTS, PODS, SERVICES, OPTIMIZATION_PLANS)
    return not any(bed.admin.list(kind, bed.namespace) for kind in kinds)


PROMOTE = Scenario(name="promote", acts=[(at_once, asks_for(8))], ends=ended(1), from_creation=True)
ROLL_BACK = Scenario(name="roll back", acts=[(at_once, asks_for(3))], ends=ended(1))
ABANDON = Scenario(name="abandon", acts=[(at_once, asks_for(4))], ends=ended(1))
APPROVE = Scenario(
    name="approve",
    spec={"engine": {"config": {"maxNumSeqs": 2}}, "tuning": {"mode": "Approve"}},
    natures={2: QUEUED},
    acts=[(lambda bed: bool(bed.status().get("plan")), _approve)],
    ends=ended(1),
)
EDIT = Scenario(
    name="edit in the middle",
    acts=[(at_once, asks_for(8)), (in_phase("CanaryJudging"), asks_for(12))],
    ends=ended(2),
)
DELETE = Scenario(
    name="delete in the middle",
    acts=[(at_once, asks_for(8)), (in_phase("CanaryJudging"), _delete)],
    ends=nothing_left,
)
SCENARIOS = (PROMOTE, ROLL_BACK, ABANDON, APPROVE, EDIT, DELETE)


@dataclass(frozen=True)
class Outcome:
    """`state` as `final_state` gives it; `writes` from the first act to the end, and in which cycle each was made;
    `lowest_ready`: the fewest pods that were ready at a time.
    """

    state: Object
    writes: tuple[str, ...]
    cycles: tuple[int, ...]
    lowest_ready: int


async def play(bed: Bed, scenario: Scenario, crash: Crash | None = None) -> Outcome:
    """The whole scenario. Whatever happened on the way, nothing is written any more at its end."""
    if scenario.from_creation:
        bed.tap.begin(crash)
    await bed.create(**scenario.spec)
    if not scenario.from_creation:
        bed.tap.begin(crash)
    bed.watch_capacity()
    for seen, act in scenario.acts:
        await bed.run(lambda seen=seen: seen(bed), what=f"an act of {scenario.name}")  # type: ignore[misc]
        act(bed)
    await bed.run(lambda: scenario.ends(bed), what=f"the end of {scenario.name}")
    writes = tuple(f"{call.verb} {call.resource} {call.subresource}".strip() for call in bed.tap.writes)
    cycles = tuple(bed.tap.cycles)
    await bed.quiet()
    assert bed.tap.crashed == (crash is not None), f"write {crash} never came"
    return Outcome(final_state(bed), writes, cycles, bed.lowest_ready or 0)


def final_state(bed: Bed) -> Object:
    """What counts in the end, without what depends on chance or on the time: no pod names, times, counts of requests.

    Names of revisions are hashes of what they run, so they are the same each time.
    """
    resource = bed.admin.find(LLM_DEPLOYMENTS, bed.namespace, NAME)
    status = (resource or {}).get("status") or {}
    rollout = status.get("rollout") or {}
    return {
        "spec": (resource or {}).get("spec"),
        "phase": status.get("phase"),
        "stable": rollout.get("stable"),
        "candidate": rollout.get("candidate"),
        "bad": rollout.get("bad"),
        "userConfig": rollout.get("userConfig"),
        "attempts": [
            (attempt["revision"], attempt["outcome"], attempt["reason"], attempt["source"])
            for attempt in status.get("attempts") or ()
        ],
        "conditions": sorted((item["type"], item["status"], item["reason"]) for item in status.get("conditions") or ()),
        "deployments": sorted(
            (item["metadata"]["name"], item["spec"]["replicas"], str(_args(item)))
            for item in bed.admin.list(DEPLOYMENTS, bed.namespace)
        ),
        "serving": bed.serving(),
        "services": sorted(item["metadata"]["name"] for item in bed.admin.list(SERVICES, bed.namespace)),
        "plans": sorted(_changed(item) for item in bed.admin.list(OPTIMIZATION_PLANS, bed.namespace)),
    }


def _changed(plan: Object) -> str:
    steps = plan["spec"]["optimizations"]
    changes = [(change["knob"], change.get("to")) for step in steps for change in step["changes"]]
    return f"{changes}: {(plan.get('status') or {}).get('phase')}"


def _args(deployment: Object) -> Any:
    return deployment["spec"]["template"]["spec"]["containers"][0].get("args")


Play = Callable[[Bed], Any]  # a coroutine function


def in_beds(plays: Sequence[tuple[Callable[[], Bed], Play]]) -> list[Any]:
    """The result of each play in a bed of its own, several at the same time; errors as values."""

    def one(pair: tuple[Callable[[], Bed], Play]) -> Any:
        make, what = pair

        async def whole() -> Any:
            async with make() as bed:
                return await what(bed)

        try:
            return asyncio.run(whole())
        except BaseException as error:  # noqa: BLE001 - told with all others at the end
            return error

    with ThreadPoolExecutor(AT_THE_SAME_TIME) as pool:
        return list(pool.map(one, plays))


__all__ = ["GOOD", "SCENARIOS", "Outcome", "Scenario", "final_state", "in_beds", "play"]

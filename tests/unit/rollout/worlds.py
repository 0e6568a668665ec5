"""Drives a simulated deployment through its rollout, one evaluation interval at a time."""

from __future__ import annotations

from collections.abc import Callable

from tests.property.simulated_cluster import Cluster, Nature, World, wish
from trimtab.model.reason import Reason
from trimtab.model.rollout import Action, Announce, Phase, Policy
from trimtab.rollout import step


def policy(replicas: int = 2, **others: object) -> Policy:
    values: dict[str, object] = {"min_ready_deadline": 120.0, "judge_deadline": 180.0, "watch_seconds": 60.0, **others}
    return Policy(replicas=replicas, **values)  # type: ignore[arg-type]


class Driver:
    """A world with what was announced and the least ready capacity seen since it was stable."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.said: list[Announce] = []
        self.phases: list[Phase] = []
        self.least_ready = 10**6

    def once(self, seconds: float = 15.0) -> tuple[Action, ...]:
        world = self.world
        world.cluster.tick(seconds)
        world.state, actions = step(world.state, world.facts(), world.cluster.now)
        world.cluster.perform(actions)
        self.said += [action for action in actions if isinstance(action, Announce)]
        if not self.phases or self.phases[-1] is not world.state.phase:
            self.phases.append(world.state.phase)
        self.least_ready = min(self.least_ready, world.cluster.ready())
        return actions

    def until(self, reached: Callable[[World], bool], limit: int = 200) -> None:
        for _ in range(limit):
            if reached(self.world):
                return
            self.once()
        raise AssertionError(f"not reached after {limit} intervals: {self.world.state}")

    def until_phase(self, phase: Phase) -> None:
        self.until(lambda world: world.state.phase is phase)

    def reasons(self) -> list[Reason]:
        return [announcement.reason for announcement in self.said]

    @property
    def outcome(self) -> Reason:
        return self.world.state.attempts[0].outcome


def stable_driver(replicas: int = 2, natures: dict[int, Nature] | None = None, **others: object) -> Driver:
    """A deployment whose first revision, `rev1`, serves."""
    cluster = Cluster()
    cluster.natures = {f"rev{number}": nature for number, nature in (natures or {}).items()}
    driver = Driver(World(cluster, policy=policy(replicas, **others)))
    driver.until_phase(Phase.STABLE)
    driver.least_ready = 10**6
    return driver


def adopted_driver(natures: dict[int, Nature] | None = None) -> Driver:
    """The user's own workload of two pods, which runs `rev1` and is adopted."""
    cluster = Cluster(adopted=True)
    cluster.natures = {f"rev{number}": nature for number, nature in (natures or {}).items()}
    cluster.adopt("rev1", 2)
    driver = Driver(World(cluster, policy=policy(2, adopted=True)))
    driver.until_phase(Phase.STABLE)
    driver.least_ready = 10**6
    return driver


__all__ = ["Driver", "adopted_driver", "policy", "stable_driver", "wish"]

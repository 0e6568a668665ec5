"""Adopted workloads: the stable revision is the user's own Deployment, whose arguments say what it runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from trimtab.api.names import revision_name
from trimtab.api.v1alpha1 import LLMDeployment
from trimtab.model.config import EngineConfig
from trimtab.model.rollout import Phase, RevisionFacts, RolloutState, Source, Wish
from trimtab.model.snapshot import PodFacts
from trimtab.observe.cluster import revision_facts
from trimtab.reconcile.wishes import wish_of_user
from trimtab.render import target_config


def identify(
    deployment: LLMDeployment,
    state: RolloutState,
    target: Mapping[str, Any],
    template: str,
    revisions: Mapping[str, RevisionFacts],
) -> tuple[Wish, dict[str, RevisionFacts]]:
    """What should run in the target, and all revisions: the target's own pods under the name of the stable one.

    Before anything is stable, the wish is what the target runs already: adopting changes nothing.
    """
    running = target_config(deployment, target)
    runs = revision_name(running, template)
    if state.phase is Phase.STARTING:
        wish = Wish(config=running, template=template, source=Source.USER, revision=runs)
    else:
        wish = wish_of_user(deployment.spec.engine.config.to_config(), template, state)
    stable = runs if state.stable is None else state.stable.revision
    found = {name: facts for name, facts in revisions.items() if name}
    own = revisions.get("")
    pods: tuple[PodFacts, ...] = tuple(replace(pod, revision=stable) for pod in (own.pods if own is not None else ()))
    found[stable] = replace(
        revision_facts(dict(target), pods, revision=stable), owned=False, runs="" if runs == stable else runs
    )
    return wish, found


def followed(state: RolloutState, revisions: Mapping[str, RevisionFacts]) -> RolloutState:
    """The state after the target was changed by somebody else: what its owner runs now is what is stable.

    A trial is not disturbed: only where nothing is on trial does the target's own change count.
    """
    stable = state.stable
    if state.phase is not Phase.STABLE or stable is None:
        return state
    target = revisions.get(stable.revision)
    if target is None or target.owned or target.runs in ("", stable.revision):
        return state
    return replace(state, stable=None, phase=Phase.STARTING)


def user_config(deployment: LLMDeployment, state: RolloutState) -> EngineConfig:
    """What the spec asks for; nothing while a target is being adopted, so that the spec's wish is tried later."""
    if deployment.adopted and state.phase is Phase.STARTING:
        return EngineConfig()
    return deployment.spec.engine.config.to_config()

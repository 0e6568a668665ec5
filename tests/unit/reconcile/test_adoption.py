"""Adopted workloads: the user's Deployment is the stable revision, and adopting it changes nothing."""

from __future__ import annotations

import dataclasses

import pytest

from tests.unit.reconcile.resources import adopting, facts, owned, pods, settled, stable, target
from trimtab.api.names import revision_name
from trimtab.api.v1alpha1 import LLMDeployment
from trimtab.model.config import EngineConfig
from trimtab.model.rollout import Phase, RevisionFacts, RolloutState, Source, Stable
from trimtab.reconcile.adoption import followed, identify, user_config
from trimtab.render import target_template_hash

RUNS = EngineConfig({"maxNumSeqs": 4})


def _own(ready: int = 3) -> dict[str, RevisionFacts]:
    """The target's pods as they are read: without a revision."""
    return {"": RevisionFacts("", desired=0, pods=pods("", ready))}


def _template(deployment: LLMDeployment) -> str:
    return target_template_hash(deployment, target())


def test_before_anything_is_stable_the_wish_is_what_the_target_runs() -> None:
    deployment = adopting(engine={"config": {"maxNumSeqs": 32}})
    template = _template(deployment)
    wish, found = identify(deployment, RolloutState(), target(), template, _own())
    assert wish.config == RUNS, "not what the spec asks for: that is tried on a canary, after the adoption"
    assert wish.revision == revision_name(RUNS, template)
    assert wish.source is Source.USER
    assert set(found) == {wish.revision}
    assert user_config(deployment, RolloutState()) == EngineConfig()


def test_the_target_is_the_stable_revision_and_not_ours() -> None:
    deployment = adopting()
    wish, found = identify(deployment, RolloutState(), target(), _template(deployment), _own())
    own = found[wish.revision]
    assert not own.owned
    assert (own.desired, own.ready, own.settled, own.runs) == (3, 3, True, "")
    assert {pod.revision for pod in own.pods} == {wish.revision}


def test_after_the_adoption_the_spec_is_a_wish_upon_what_runs() -> None:
    deployment = adopting(engine={"config": {"maxNumBatchedTokens": 4096}})
    template = _template(deployment)
    serves = Stable(revision_name(RUNS, template), RUNS, template)
    state = settled(serves, asked=EngineConfig())
    wish, _ = identify(deployment, state, target(), template, _own())
    assert dict(wish.config) == {"maxNumSeqs": 4, "maxNumBatchedTokens": 4096}
    assert user_config(deployment, state) == EngineConfig({"maxNumBatchedTokens": 4096})


def test_an_empty_spec_asks_for_nothing_beyond_what_runs() -> None:
    deployment = adopting()
    template = _template(deployment)
    serves = Stable(revision_name(RUNS, template), RUNS, template)
    wish, _ = identify(deployment, settled(serves, asked=EngineConfig()), target(), template, _own())
    assert wish.revision == serves.revision


def test_a_canary_beside_the_target_keeps_its_own_revision() -> None:
    deployment = adopting()
    template = _template(deployment)
    serves = Stable(revision_name(RUNS, template), RUNS, template)
    revisions = {**_own(), "rev-b": facts("rev-b", 1)}
    _, found = identify(deployment, settled(serves), target(), template, revisions)
    assert set(found) == {serves.revision, "rev-b"}
    assert found["rev-b"].owned
    assert found[serves.revision].ready == 3


def test_a_target_that_runs_something_else_by_now_says_what() -> None:
    """The user, or our own promotion, has changed its arguments: the facts name the revision it runs."""
    deployment = adopting()
    changed = target(("/models/m75", "--max-num-seqs", "16"))
    template = target_template_hash(deployment, changed)
    assert template == _template(deployment), "the flags of knobs are no part of the template"
    serves = Stable(revision_name(RUNS, template), RUNS, template)
    _, found = identify(deployment, settled(serves), changed, template, _own())
    assert found[serves.revision].runs == revision_name(EngineConfig({"maxNumSeqs": 16}), template)


def test_another_image_in_the_target_is_another_template() -> None:
    deployment = adopting()
    other = target()
    other["spec"]["template"]["spec"]["containers"][1]["image"] = "registry.example/vllm:0.31.0"
    assert target_template_hash(deployment, other) != _template(deployment)


def test_a_target_without_pods_is_still_there() -> None:
    deployment = adopting()
    template = _template(deployment)
    wish, found = identify(deployment, RolloutState(), target(), template, {})
    assert found[wish.revision].pods == ()
    assert found[wish.revision].desired == 3


def test_a_rolling_target_is_not_settled() -> None:
    deployment = adopting()
    rolling = target()
    rolling["status"] = {"observedGeneration": 5, "replicas": 4, "updatedReplicas": 1}
    wish, found = identify(deployment, RolloutState(), rolling, _template(deployment), _own())
    assert not found[wish.revision].settled


def test_an_owned_deployment_asks_for_its_spec_from_the_beginning() -> None:
    deployment = owned(engine={"config": {"maxNumSeqs": 2}})
    assert user_config(deployment, RolloutState(phase=Phase.STARTING)) == EngineConfig({"maxNumSeqs": 2})


def _changed_by_its_owner(phase: Phase) -> tuple[RolloutState, dict[str, RevisionFacts]]:
    """The state of a trial or of none, and a target that somebody else has given 16 sequences."""
    deployment = adopting()
    changed = target(("/models/m75", "--max-num-seqs", "16"))
    template = target_template_hash(deployment, changed)
    serves = Stable(revision_name(RUNS, template), RUNS, template)
    state = dataclasses.replace(settled(serves), phase=phase)
    _, found = identify(deployment, state, changed, template, _own())
    return state, found


def test_a_target_that_its_owner_changed_is_adopted_as_it_is_now() -> None:
    state, found = _changed_by_its_owner(Phase.STABLE)
    again = followed(state, found)
    assert (again.phase, again.stable) == (Phase.STARTING, None)
    assert (again.attempts, again.bad) == (state.attempts, state.bad), "what failed stays remembered"


@pytest.mark.parametrize("phase", [phase for phase in Phase if phase is not Phase.STABLE])
def test_a_trial_is_not_disturbed_by_what_the_target_runs(phase: Phase) -> None:
    """While it is promoted the target runs something else than stable because we asked for it."""
    state, found = _changed_by_its_owner(phase)
    assert followed(state, found) is state


def test_a_target_that_runs_what_is_stable_is_left_as_it_is() -> None:
    deployment = adopting()
    template = _template(deployment)
    state = settled(Stable(revision_name(RUNS, template), RUNS, template))
    _, found = identify(deployment, state, target(), template, _own())
    assert followed(state, found) is state


def test_an_owned_revision_is_nothing_to_follow() -> None:
    state = settled(stable("rev-a", maxNumSeqs=1))
    assert followed(state, {"rev-a": dataclasses.replace(facts("rev-a", 2), runs="rev-b")}) is state
    assert followed(state, {}) is state

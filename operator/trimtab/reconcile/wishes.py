"""What should run next: the spec merged with what has been tuned, and the optimization that may be tried.

An edit of the spec wins for the knobs that it touches; the knobs that it does not touch stay as they were tuned. So a
user can change one limit without losing what Trimtab found for the others, and taking a knob out of the spec returns it
to the engine's default.
"""

from __future__ import annotations

from trimtab.api.names import revision_name
from trimtab.catalogue import EngineCatalogue
from trimtab.model.config import EngineConfig
from trimtab.model.plan import Metric, Plan
from trimtab.model.rollout import RolloutState, Source, Wish

_BATCH_LIMITS = ("maxNumActiveSeqs", "maxNumBatchedTokens", "maxNumSeqs")


def wish_of_user(spec_config: EngineConfig, template: str, state: RolloutState) -> Wish:
    """The spec's configuration, with what was tuned kept for the knobs that the user has not edited since."""
    config = spec_config
    if state.stable is not None:
        config = state.stable.config.with_changes(state.user_config.changes_to(spec_config))
    before = state.stable.config if state.stable is not None else config
    return Wish(
        config=config,
        template=template,
        source=Source.USER,
        revision=revision_name(config, template),
        trades=traded_by_user(before, config),
    )


def alters_outputs(engine: EngineCatalogue, version: str, wish: Wish, state: RolloutState) -> bool:
    """Whether a user's edit can alter outputs by the knobs that it touches, and by nothing else.

    With another image, model or argument the model may be another one, and its outputs are meant to differ.
    """
    stable, knobs = state.stable, engine.knobs(version)
    if stable is None or wish.template != stable.template:
        return False
    return any(knobs[knob].alters_outputs for knob in stable.config.changes_to(wish.config) if knob in knobs)


def is_live(engine: EngineCatalogue, version: str, wish: Wish, state: RolloutState) -> bool:
    """Whether running pods take the difference between stable and this wish: live knobs, and nothing else."""
    stable, live = state.stable, engine.live_knobs(version)
    if stable is None or wish.template != stable.template:
        return False
    changes = stable.config.changes_to(wish.config)
    return bool(changes) and live.issuperset(changes)


def traded_by_user(before: EngineConfig, after: EngineConfig) -> frozenset[Metric]:
    """What an edit knowingly trades: raising a batch limit raises the ITL, which its SLO then judges alone."""
    for knob in _BATCH_LIMITS:
        old, new = before.get(knob), after.get(knob)
        if isinstance(old, int) and isinstance(new, int) and new > old:
            return frozenset({Metric.ITL})
    return frozenset()


def wish_of_plan(plan: Plan, state: RolloutState) -> Wish | None:
    """The first optimization of `plan`, applied to the configuration that it was made for; None when outdated."""
    stable = state.stable
    if stable is None or not plan.optimizations or plan.start != stable.config:
        return None
    step = plan.optimizations[0]
    config = stable.config.with_changes(step.as_changes)
    return Wish(
        config=config,
        template=stable.template,
        source=Source.PLAN,
        revision=revision_name(config, stable.template),
        plan=plan.name,
        step=0,
        trades=frozenset(step.trades),
        alters_outputs=step.alters_outputs,
    )

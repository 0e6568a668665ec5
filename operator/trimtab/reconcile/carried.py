"""What the one revision carries that serves alone: before a canary serves, and after it was promoted."""

from __future__ import annotations

from trimtab.api.throughput import Carried
from trimtab.model.reading import Known
from trimtab.model.rollout import Phase, RolloutState
from trimtab.model.snapshot import RevisionView, Snapshot


def carried(state: RolloutState, snapshot: Snapshot) -> Carried | None:
    """None in other phases, until the readings are all of a watch, and where they say nothing. `state`: the one that
    they were taken in.
    """
    if state.stable is None:
        return None
    if state.phase in (Phase.STABLE, Phase.CANARY_STARTING):
        return _of(snapshot.revision(state.stable.revision))
    if state.phase is Phase.WATCHING and snapshot.at - state.since >= snapshot.window:
        return _of(snapshot.revision(state.stable.revision))
    return None


def _of(view: RevisionView) -> Carried | None:
    tokens, waiting = view.summed(lambda m: m.output_token_rate), view.summed(lambda m: m.waiting)
    prompt, output = view.pooled(lambda m: m.prompt_tokens), view.pooled(lambda m: m.output_tokens)
    if not (isinstance(tokens, Known) and isinstance(waiting, Known)):
        return None
    if not (isinstance(prompt, Known) and isinstance(output, Known)):
        return None
    if not (prompt.value.count > 0 and output.value.count > 0 and tokens.value > 0 and view.ready_pods):
        return None
    return Carried(
        tokens=tokens.value,
        pods=float(len(view.ready_pods)),
        waiting=waiting.value,
        prompt=prompt.value.mean,
        output=output.value.mean,
    )

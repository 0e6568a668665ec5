"""What a cycle knows of the outputs of its candidate: whether they must be compared, and what that came to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from trimtab.api.convert import quality_budget_of
from trimtab.api.v1alpha1 import LLMDeployment
from trimtab.model.reading import Known
from trimtab.model.reason import Reason
from trimtab.model.rollout import Candidate, Phase, RevisionFacts, RolloutState, Source
from trimtab.model.snapshot import Snapshot
from trimtab.model.verdict import Call, Verdict
from trimtab.observe.probing import Engine
from trimtab.reconcile.memory import Key
from trimtab.reconcile.quality.gate import Gate
from trimtab.reconcile.quality.measuring import Comparison, Comparisons

# A canary with more requests waiting than this, and more than twice of those that run, is left alone.
_WAITING = 16.0
_WAITING_PER_RUNNING = 2.0


@dataclass(frozen=True, slots=True)
class Outputs:
    """`needed`: nothing but Good lets the candidate advance; `verdict`: what is new of it."""

    needed: bool = False
    verdict: Verdict | None = None


def outputs_of(
    key: Key,
    deployment: LLMDeployment,
    state: RolloutState,
    revisions: Mapping[str, RevisionFacts],
    trial: Snapshot | None,
    gate: Gate,
    comparisons: Comparisons,
) -> Outputs:
    """Looks after the comparison of the candidate that serves on trial; there is none in any other phase.

    Where outputs cannot be compared, the word of a person stands for it: an approval, or an edit of the spec.
    """
    candidate, stable = state.candidate, state.stable
    if state.phase is not Phase.CANARY_JUDGING or candidate is None or stable is None:
        comparisons.forget(key)
        return Outputs()
    if not candidate.alters_outputs:
        return Outputs()
    if not gate.can_run:
        if _has_a_persons_word(candidate, deployment):
            return Outputs()
        return Outputs(needed=True, verdict=Verdict(Call.UNKNOWN, gate.reason, gate.message))
    if state.quality is not None and state.quality.call is not Call.UNKNOWN:
        return Outputs(needed=True)
    if deployment.paused or deployment.spec.suspend:
        return Outputs(needed=True)
    serving = _engines(deployment, revisions.get(stable.revision))
    canaries = _engines(deployment, revisions.get(candidate.revision))
    if not serving or not canaries:
        return Outputs(needed=True, verdict=_unknown("There is no ready pod to send probes to."))
    busy = _busy(trial, candidate.revision)
    if busy:
        return Outputs(needed=True, verdict=_unknown(busy))
    comparison = Comparison(
        revision=candidate.revision,
        stable=serving[0],
        again=serving[1] if len(serving) > 1 else serving[0],
        canary=canaries[0],
        probes=gate.probes,
        budget=quality_budget_of(deployment.spec),
    )
    return Outputs(needed=True, verdict=comparisons.look(key, comparison))


def _has_a_persons_word(candidate: Candidate, deployment: LLMDeployment) -> bool:
    return candidate.source is Source.USER or deployment.spec.tuning.approved_plan == candidate.plan


def _engines(deployment: LLMDeployment, revision: RevisionFacts | None) -> list[Engine]:
    """Where the ready pods of a revision serve, by name."""
    pods = sorted(revision.pods, key=lambda pod: pod.name) if revision is not None else ()
    port, model = deployment.spec.engine.port, deployment.spec.model.name
    return [
        Engine(pod.name, pod.address, port, model) for pod in pods if pod.ready and not pod.terminating and pod.address
    ]


def _busy(trial: Snapshot | None, revision: str) -> str:
    """Why the canary is left alone for now; empty when it has room for probes, and when that is not known."""
    if trial is None:
        return ""
    view = trial.revision(revision)
    waiting, running = view.summed(lambda pod: pod.waiting), view.summed(lambda pod: pod.running)
    if not isinstance(waiting, Known) or not isinstance(running, Known):
        return ""
    if waiting.value <= max(_WAITING, _WAITING_PER_RUNNING * running.value):
        return ""
    return f"The canary has {waiting.value:.0f} requests waiting; probes are sent when it has fewer."


def _unknown(message: str) -> Verdict:
    return Verdict(Call.UNKNOWN, Reason.QUALITY_UNKNOWN, message)

"""Objects for tests of the API and of the manifests."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hypothesis import strategies as st

from trimtab.api.v1alpha1 import KNOB_KINDS, LLMDeployment
from trimtab.model.bottleneck import BottleneckKind
from trimtab.model.config import EngineConfig, KnobValue
from trimtab.model.plan import Change, Effect, Effort, Impact, Metric, Optimization, OptimizationType, Plan, Rejected
from trimtab.model.reason import Reason
from trimtab.model.rollout import Attempt, Candidate, Decision, Phase, RolloutState, Source, Stable
from trimtab.model.verdict import Call, Verdict


def llmdeployment(**spec: Any) -> LLMDeployment:
    """An owned vLLM deployment named `chat`; keyword arguments replace parts of its spec, `engine` is merged."""
    engine = {"name": "vllm", "version": "0.32.0", "image": "registry.example/vllm:0.32.0", **spec.pop("engine", {})}
    document = {
        "metadata": {"name": "chat", "namespace": "serving", "uid": "7f1c", "generation": 3},
        "spec": {"model": {"name": "m75", "source": "/models/m75"}, "replicas": 2, "engine": engine, **spec},
    }
    return LLMDeployment.model_validate(document)


def adopting(**spec: Any) -> LLMDeployment:
    """An LLMDeployment that adopts the Deployment `web`, whose engine runs in the container `vllm`."""
    document = {
        "metadata": {"name": "chat", "namespace": "serving", "uid": "7f1c", "generation": 3},
        "spec": {
            "model": {"name": "m75"},
            "engine": {"name": "vllm", "version": "0.32.0"},
            "targetRef": {"name": "web", "container": "vllm"},
            **spec,
        },
    }
    return LLMDeployment.model_validate(document)


def target(container: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """A Deployment that somebody else made."""
    engine = {
        "name": "vllm",
        "image": "registry.example/vllm:0.32.0",
        "command": ["vllm", "serve"],
        "args": ["/models/m75", "--max-num-seqs", "1", "--port=8000", "--no-enable-prefix-caching"],
        **(container or {}),
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web", "namespace": "serving", "uid": "aa", "resourceVersion": "12"},
        "spec": {
            "replicas": 3,
            "selector": {"matchLabels": {"app": "web"}},
            "template": {
                "metadata": {"creationTimestamp": None, "labels": {"app": "web", "tier": "front"}},
                "spec": {"containers": [{"name": "proxy", "image": "registry.example/proxy:1"}, engine]},
            },
        },
        "status": {"replicas": 3},
    }


def _value(knob: str) -> st.SearchStrategy[KnobValue]:
    kind = KNOB_KINDS[knob]
    if kind is bool:
        return st.booleans()
    if kind is int:
        return st.integers(min_value=1, max_value=1 if knob == "optimizationLevel" else 100)
    return st.from_regex(r"[a-z][a-z0-9_]{0,20}", fullmatch=True)


configs: st.SearchStrategy[EngineConfig] = st.lists(
    st.sampled_from(sorted(KNOB_KINDS)), unique=True, max_size=8
).flatmap(lambda knobs: st.fixed_dictionaries({knob: _value(knob) for knob in knobs}).map(EngineConfig))
hashes = st.from_regex(r"[0-9a-f]{8}", fullmatch=True)
# Every instant from the first second of 1970 to the last of 9999 that a double can hold, and the epoch itself.
instants = st.just(0.0) | st.floats(min_value=1, max_value=253_402_300_799, allow_nan=False)
# Lone surrogates are no text: JSON and the API server refuse them.
sentences = st.text(st.characters(codec="utf-8"), max_size=60)
evidence = st.dictionaries(
    st.from_regex(r"[a-z][A-Za-z0-9_.]{0,30}", fullmatch=True),
    st.floats(allow_nan=False, allow_infinity=False),
    max_size=5,
)
metrics = st.frozensets(st.sampled_from(Metric))
plan_names = st.just("") | st.from_regex(r"[a-z][a-z0-9-]{0,20}[a-z0-9]", fullmatch=True)

stables = st.builds(Stable, revision=hashes, config=configs, template=hashes)
candidates = st.builds(
    Candidate,
    revision=hashes,
    config=configs,
    template=hashes,
    source=st.sampled_from(Source),
    plan=plan_names,
    step=st.integers(0, 20),
    trades=metrics,
    alters_outputs=st.booleans(),
)
verdicts = st.builds(
    Verdict, call=st.sampled_from(Call), reason=st.sampled_from(Reason), message=sentences, evidence=evidence
)
attempts = st.builds(
    Attempt,
    revision=hashes,
    config=configs,
    source=st.sampled_from(Source),
    plan=plan_names,
    step=st.integers(0, 20),
    outcome=st.sampled_from(Reason),
    reason=st.sampled_from(Reason),
    message=sentences,
    started_at=instants,
    served_at=st.none() | instants,
    decided_at=instants,
    ended_at=instants,
    measured=evidence,
)
decisions = st.builds(
    Decision,
    outcome=st.sampled_from(Reason),
    reason=st.sampled_from(Reason),
    message=sentences,
    at=instants,
    evidence=evidence,
)
states = st.builds(
    RolloutState,
    phase=st.sampled_from(Phase),
    since=instants,
    stable=st.none() | stables,
    candidate=st.none() | candidates,
    previous=st.none() | stables,
    started_at=instants,
    served_at=st.none() | instants,
    verdict=st.none() | verdicts,
    attempts=st.lists(attempts, max_size=2).map(tuple),
    bad=st.lists(hashes, max_size=5).map(tuple),
    user_config=configs,
    user_template=hashes,
    holding=sentences,
    decision=st.none() | decisions,
    moved=st.booleans(),
    previous_user_config=configs,
    previous_user_template=st.just("") | hashes,
    paused_at=st.none() | instants,
    plan_starts=st.lists(instants, max_size=3).map(tuple),
)

permilles = st.integers(-(10**9), 10**9).map(lambda value: value / 1000)
effects = st.builds(
    Effect, metric=st.sampled_from(Metric), ratio=permilles, low=permilles, high=permilles, basis=sentences
)


def _change(knob: str) -> st.SearchStrategy[Change]:
    value = st.none() | _value(knob)
    return st.builds(Change, knob=st.just(knob), current=value, recommended=value, reason=sentences)


changes = st.lists(st.sampled_from(sorted(KNOB_KINDS)), unique=True, min_size=1, max_size=3).flatmap(
    lambda knobs: st.tuples(*(_change(knob) for knob in knobs))
)
optimizations = st.builds(
    Optimization,
    type=st.sampled_from(OptimizationType),
    title=sentences,
    description=sentences,
    changes=changes,
    impact=st.sampled_from(Impact),
    effects=st.lists(effects, max_size=3).map(tuple),
    effort=st.sampled_from(Effort),
    addresses=st.lists(st.sampled_from(BottleneckKind), max_size=3).map(tuple),
    risks=st.lists(sentences, max_size=2).map(tuple),
    prerequisites=st.lists(sentences, max_size=2).map(tuple),
    trades=st.lists(st.sampled_from(Metric), max_size=2).map(tuple),
    alters_outputs=st.booleans(),
)
plans = st.builds(
    Plan,
    namespace=st.just("serving"),
    target=st.just("chat"),
    engine=st.sampled_from(["vllm", "sglang"]),
    engine_version=st.just("0.32.0"),
    start=configs,
    result=configs,
    optimizations=st.lists(optimizations, min_size=1, max_size=3).map(tuple),
    improvement=effects,
    rejected=st.lists(st.builds(Rejected, title=sentences, reason=sentences), max_size=2).map(tuple),
    fingerprint=st.dictionaries(st.from_regex(r"[a-z][A-Za-z]{0,20}", fullmatch=True), permilles, max_size=3),
    gpus_while_rolling_out=st.integers(0, 64),
    estimated=st.booleans(),
)

"""Whatever is measured and whatever is asked for: no exception, and no promise of a plan is broken."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.plan.scenarios import Pod, histogram, limits, snapshot
from trimtab.analyse import diagnose
from trimtab.catalogue import EngineCatalogue, KnobType, find_engine, parse_version
from trimtab.model.config import EngineConfig, KnobValue
from trimtab.model.plan import NoPlan, Plan
from trimtab.model.reading import Known, Reading, Unknown, Why
from trimtab.model.slo import Latency, LatencyTarget, Slo
from trimtab.plan import Bounds, Objective, PlanRequest, propose

VERSIONS = {"vllm": ("0.12.0", "0.20.2", "0.31.0", "0.32.0"), "sglang": ("0.5.3", "0.5.14", "0.5.23")}
CHECKED = settings(max_examples=300)

numbers = st.one_of(
    st.floats(0, 1e4),
    st.sampled_from([0.0, 1e-12, 1e12, -1.0, math.nan, math.inf, -math.inf]),
    st.integers(0, 40).map(float),
)
unknowns = st.builds(Unknown, st.sampled_from(Why), st.sampled_from(["", "the reason", "a sentence."]))
scalars = st.one_of(st.builds(Known, numbers, st.just(60.0), st.floats(0, 100)), unknowns)


@st.composite
def histograms(draw: st.DrawFn) -> Reading[Any]:
    if draw(st.integers(0, 9)) == 0:
        return draw(unknowns)
    values = draw(st.lists(st.floats(1e-4, 100.0), max_size=30))
    content = histogram(values, draw(st.sampled_from([1.0, 0.5, 40.0, 1e6])))
    return Known(content, 60.0, content.count)


@st.composite
def pods(draw: st.DrawFn) -> Pod:
    """Plausible pods, with some readings replaced by anything at all."""
    pod = Pod(
        running=draw(st.floats(0, 300)),
        waiting=draw(st.one_of(st.just(0.0), st.floats(0, 500))),
        kv_usage=draw(st.floats(0, 1)),
        kv_capacity=draw(st.floats(1, 1e6)),
        prompt=draw(st.floats(1, 8000)),
        output=draw(st.floats(1, 4000)),
        requests_per_second=draw(st.floats(0, 50)),
        ttft=(draw(st.floats(0.001, 20)), draw(st.floats(0.001, 60))),
        itl=(draw(st.floats(0.001, 0.5)), draw(st.floats(0.001, 2))),
        e2e=(draw(st.floats(0.01, 60)), draw(st.floats(0.01, 120))),
        queue=draw(st.floats(0, 20)),
        hit_rate=draw(st.floats(0, 1)),
        preemptions_per_second=draw(st.floats(0, 5)),
        changes=draw(
            st.dictionaries(
                st.sampled_from(
                    [
                        "running",
                        "waiting",
                        "kv_usage",
                        "kv_capacity_tokens",
                        "request_rate",
                        "error_rate",
                        "preemption_rate",
                        "prefix_query_rate",
                        "gpu_utilisation",
                        "memory_bytes",
                    ]
                ),
                scalars,
                max_size=2,
            )
        ),
    )
    wild = draw(
        st.dictionaries(
            st.sampled_from(["ttft", "itl", "e2e", "queue_time", "prompt_tokens", "output_tokens"]),
            histograms(),
            max_size=2,
        )
    )
    return replace(pod, changes={**pod.changes, **wild})


@st.composite
def full_pods(draw: st.DrawFn, slots: int) -> Pod:
    """All slots run and requests wait; every reading is there but at most one."""
    prefill, itl = draw(st.floats(0.01, 2.0)), draw(st.floats(0.002, 0.1))
    queue, output = draw(st.floats(0.0, 20.0)), draw(st.floats(8.0, 512.0))
    return Pod(
        running=float(slots),
        waiting=draw(st.floats(0, 200)),
        kv_usage=draw(st.sampled_from([0.01, 0.1, 0.4, 0.95])),
        kv_capacity=draw(st.floats(100, 1e6)),
        prompt=draw(st.floats(16, 4000)),
        output=output,
        requests_per_second=draw(st.floats(0.5, 50)),
        ttft=(queue + prefill, queue + prefill * 1.2),
        itl=(itl, itl * draw(st.sampled_from([1.2, 3.0, 50.0]))),
        e2e=(queue + prefill + output * itl, (queue + prefill + output * itl) * 1.2),
        queue=queue,
        preemptions_per_second=draw(st.sampled_from([0.0, 2.0])),
        changes=draw(
            st.dictionaries(st.sampled_from(["kv_capacity_tokens", "memory_bytes", "queue_time"]), unknowns, max_size=1)
        ),
    )


@st.composite
def configs(draw: st.DrawFn, catalogue: EngineCatalogue, version: str) -> EngineConfig:
    knobs = catalogue.knobs(version)
    chosen = draw(
        st.lists(st.sampled_from(["maxNumSeqs", "enablePrefixCaching", *sorted(knobs)]), max_size=4, unique=True)
    )
    values: dict[str, KnobValue] = {}
    for name in chosen:
        knob = knobs.get(name)
        if knob is None:
            continue
        if knob.type is KnobType.BOOLEAN:
            values[name] = draw(st.booleans())
        elif knob.type is KnobType.INTEGER:
            low = knob.minimum or 0
            values[name] = draw(st.integers(low, max(low, min(knob.maximum or 4096, 4096))))
        else:
            known = knob.values(parse_version(version) or (0, 0, 0))
            values[name] = draw(st.sampled_from(known)) if known else "a/model"
    return EngineConfig(values)


@st.composite
def slos(draw: st.DrawFn) -> Slo:
    targets = st.builds(
        LatencyTarget,
        st.sampled_from(Latency),
        st.sampled_from([50, 95, 99]),
        st.sampled_from([0.02, 0.1, 0.5, 2.0, 10.0]),
    )
    return Slo(
        latencies=tuple(draw(st.lists(targets, max_size=3))),
        max_error_share=draw(st.sampled_from([None, 0.01])),
        min_output_tokens_per_second=draw(st.sampled_from([None, 500.0])),
    )


@st.composite
def requests(draw: st.DrawFn) -> PlanRequest:
    name = draw(st.sampled_from(sorted(VERSIONS)))
    version = draw(st.sampled_from(VERSIONS[name]))
    catalogue = find_engine(name)
    assert catalogue is not None
    device = draw(st.sampled_from(["cpu", "H100", "A100", "L4", "some-new-gpu"]))
    config = draw(configs(catalogue, version))
    serving = draw(st.lists(pods(), max_size=2))
    if draw(st.integers(0, 2)):  # two thirds: slots that are full, or long prompts in large pieces
        slots = draw(st.sampled_from([1, 2, 4, 8, 32]))
        config = config.with_changes({"maxNumSeqs": slots, "maxNumActiveSeqs": None})
        serving = draw(st.lists(full_pods(slots), min_size=1, max_size=2))
    view = snapshot(
        *serving,
        engine=name,
        version=version,
        metrics=draw(st.sampled_from([None] * 7 + [Unknown(Why.TIMEOUT, "no answer")])),
        oom_kills=draw(st.sampled_from([0, 0, 0, 2])),
    )
    slo = draw(slos())
    knobs = st.sampled_from(sorted(catalogue.knobs(version)))
    bounds = st.builds(Bounds, st.one_of(st.none(), st.integers(1, 64)), st.one_of(st.none(), st.integers(1, 512)))
    return PlanRequest(
        namespace="default",
        target="m75",
        engine=name,
        version=version,
        device=device,
        config=config,
        snapshot=view,
        health=diagnose(view, slo, "stable", limits(config, device, name, version)),
        stable="stable",
        slo=slo,
        objective=draw(st.sampled_from(Objective)),
        allowed=draw(st.one_of(st.just(frozenset[str]()), st.frozensets(knobs, max_size=6))),
        locked=draw(st.frozensets(knobs, max_size=3)),
        bounds=draw(
            st.dictionaries(st.sampled_from(["maxNumSeqs", "maxNumBatchedTokens", "tensorParallelSize"]), bounds)
        ),
        arguments=draw(st.sampled_from([(), ("--max-num-seqs", "4"), ("--enforce-eager",), ("--max-num-ba=9", "--x")])),
        min_improvement=draw(st.sampled_from([0.0, 0.05, 0.5])),
        replicas=draw(st.integers(1, 4)),
        gpus_per_pod=draw(st.integers(0, 8)),
        memory_limit_bytes=draw(st.sampled_from([None, 4 << 30, 64 << 30])),
        model_quantization=draw(st.sampled_from([None, "awq"])),
    )


@CHECKED
@given(requests())
def test_any_request_is_answered_and_every_plan_keeps_its_promises(request: PlanRequest) -> None:
    answer = propose(request)
    assert answer == propose(request)
    if isinstance(answer, NoPlan):
        assert answer.message.strip()
        return
    check(answer, request)


@CHECKED
@given(requests())
def test_a_plan_that_was_tried_is_never_proposed_again(request: PlanRequest) -> None:
    tried: tuple[EngineConfig, ...] = ()
    for _ in range(12):
        answer = propose(replaced(request, tried=tried))
        if isinstance(answer, NoPlan):
            return
        check(answer, replaced(request, tried=tried))
        tried += (request.config.with_changes(answer.optimizations[0].as_changes), answer.result)
    raise AssertionError("twelve plans failed and there is still another one")


@CHECKED
@given(requests())
def test_the_last_plan_is_kept_only_while_it_is_allowed(request: PlanRequest) -> None:
    answer = propose(request)
    if isinstance(answer, NoPlan):
        return
    assert propose(replaced(request, plan=answer)) == answer
    touched = frozenset(answer.optimizations[0].as_changes)
    after = propose(replaced(request, plan=answer, locked=touched))
    assert not isinstance(after, Plan) or all(touched.isdisjoint(step.as_changes) for step in after.optimizations)


def check(plan: Plan, request: PlanRequest) -> None:
    catalogue = find_engine(request.engine)
    assert catalogue is not None
    present = set(catalogue.knobs(request.version))
    config = request.config
    for step in plan.optimizations:
        assert step.changes and step.title and step.description
        for change in step.changes:
            assert change.knob in present
            assert change.knob not in request.locked
            assert not request.allowed or change.knob in request.allowed
            assert change.knob not in catalogue.set_by_arguments(request.version, request.arguments)
            assert change.current != change.recommended
            bounds = request.bounds.get(change.knob)
            if bounds is not None and change.recommended is not None:
                assert isinstance(change.recommended, int)
                assert bounds.minimum is None or change.recommended >= bounds.minimum
                assert bounds.maximum is None or change.recommended <= bounds.maximum
        after = config.with_changes(step.as_changes)
        assert after != config and after not in request.tried
        catalogue.flags(request.version, after)  # raises for a flag or value that the version lacks
        config = after
    assert config == plan.result != plan.start
    known = set(catalogue.problems(request.version, plan.start, device=request.device))
    assert set(catalogue.problems(request.version, plan.result, device=request.device)) <= known
    for effect in (plan.improvement, *(effect for step in plan.optimizations for effect in step.effects)):
        assert 0 < effect.low <= effect.ratio <= effect.high < math.inf


def replaced(request: PlanRequest, **changes: Any) -> PlanRequest:
    return replace(request, **changes)

"""Batching: how many sequences run at once, how many tokens a step computes, which request goes first."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from trimtab.model.bottleneck import BottleneckKind
from trimtab.model.plan import Effect, Metric, Optimization, OptimizationType, Rejected
from trimtab.model.reading import Known
from trimtab.model.wording import number, percent, requests_wait, seconds
from trimtab.plan.context import Context
from trimtab.plan.rules import (
    BURST,
    HEADROOM,
    KV_FILL,
    LEAST_DOUBLING_GAIN,
    MEASURED,
    BatchModel,
    effect,
    power_of_two_at_least,
    power_of_two_at_most,
    stated,
)

_FULL: Final = 0.85  # of the slots: the mean over a window dips while requests come and go
# Of one slot, which is empty while it changes hands: a gauge that is read now and then may show that half of the time.
_HANDED_OVER: Final = 0.5
_SPREAD: Final = (0.6, 1.2)  # interval of a batching effect, as parts of its distance from no change
_MORE: Final = "Run more sequences at once"
_FEWER: Final = "Run fewer sequences at once"
_BUDGET_DOWN: Final = "Compute fewer tokens per step"
_BUDGET_UP: Final = "Compute more tokens per step"
_BASIS: Final = f"batching rule, {MEASURED}"


def optimize(context: Context) -> Iterator[Optimization | Rejected]:
    """Larger or smaller batches, the token budget of a step, and the order of the queue."""
    yield from _more_sequences(context)
    yield from _fewer_sequences(context)
    yield from _smaller_budget(context)
    yield from _larger_budget(context)
    yield from _queue_order(context)


def _slots(context: Context) -> int | None:
    """The effective limit of running sequences."""
    limits = [n for knob in ("maxNumSeqs", "maxNumActiveSeqs") if (n := context.number(knob)) is not None]
    return min(limits, default=None)


# --- more sequences -------------------------------------------------------------------------------------------


def _more_sequences(context: Context) -> Iterator[Optimization | Rejected]:
    """The smallest power of two that covers what wants to run, as far as KV cache, latency and constraints allow."""
    causes = context.found(
        BottleneckKind.BATCH_SIZE_SUBOPTIMAL, BottleneckKind.QUEUE_BUILDUP, BottleneckKind.LOW_THROUGHPUT
    )
    slots, load, model = _slots(context), context.workload, context.batch_model()
    if not causes or load.waiting < 1.0:
        return
    if slots is None:
        yield Rejected(_MORE, f"The limit of running sequences is not known for {context.catalogue.title} here.")
    elif load.running < _FULL * slots - _HANDED_OVER:
        yield Rejected(
            _MORE,
            f"Only {number(load.running)} of {slots} slots run, so another limit than this one holds requests back.",
        )
    elif load.kv_usage is None:
        yield Rejected(_MORE, "The use of the KV cache is not known, so whether more sequences fit cannot be said.")
    elif model is None:
        yield Rejected(
            _MORE, "The inter-token latency or the output length is not known, so no effect can be predicted."
        )
    else:
        room = _room(context)
        if room is not None and room <= slots:
            yield Rejected(_MORE, f"The KV cache holds about {room} sequences of this length, and {slots} may run now.")
            return
        yield _grown(context, causes, slots, room, model)


def _room(context: Context) -> int | None:
    """How many sequences of the current length the KV cache holds, or None when nothing bounds it."""
    load = context.workload
    if load.kv_capacity is not None and load.prompt is not None and load.output is not None:
        block = context.number("blockSize") or 16
        length = load.prompt + load.output
        rounded = max(1.0, -(-length // block)) * block
        return int(load.kv_capacity * KV_FILL / rounded)
    if load.kv_usage is not None and load.kv_usage >= 0.01:
        return int(KV_FILL * max(1.0, load.running) / load.kv_usage)
    return None


def _grown(
    context: Context, causes: tuple[BottleneckKind, ...], slots: int, room: int | None, model: BatchModel
) -> Optimization | Rejected:
    load = context.workload
    want = power_of_two_at_least(max(load.demand * BURST, load.busiest))
    while want > 2 * slots and model.throughput_ratio(want) < LEAST_DOUBLING_GAIN * model.throughput_ratio(want / 2):
        want //= 2
    if room is not None:
        want = min(want, power_of_two_at_most(room))
    bounds = context.request.bounds.get("maxNumSeqs")
    if bounds is not None and bounds.maximum is not None:
        want = min(want, bounds.maximum)
    knob = "maxNumActiveSeqs" if context.is_live("maxNumActiveSeqs") else "maxNumSeqs"
    tried = context.worst_tried(knob, above=slots)
    against = f"{slots} is the most that fits."
    while want > slots:
        step = _batch_step(context, causes, slots, want, model)
        too_slow = _over_target(context, model, min(float(want), load.demand))
        if tried is not None and want >= tried:
            against = f"{tried} sequences have been tried and were not kept."
        elif too_slow is not None:
            against = too_slow
        else:
            return step
        want = power_of_two_at_most(want - 1) if want > 1 else 0
    return Rejected(_MORE, against)


def _over_target(context: Context, model: BatchModel, batch: float) -> str | None:
    """The inter-token latency target that a batch would come too close to, with 10 % left for the error of the rule."""
    for state in context.targets(Metric.ITL):
        if not isinstance(state.measured, Known):
            return f"{state.target.name} has a target and is not known now."
        predicted = state.measured.value * model.itl_at(batch) / model.itl + _interference(context, model)
        if predicted > HEADROOM * state.target.seconds:
            return (
                f"With {number(batch)} sequences {state.target.name} would be about {seconds(predicted)}, too close to"
                f" its target of {seconds(state.target.seconds)}."
            )
    return None


def _interference(context: Context, model: BatchModel) -> float:
    """Seconds by which others' prompts delay a token. With one sequence at a time there is none, then there is."""
    if context.workload.running >= 1.5:
        return 0.0  # what was measured contains it
    prompt, budget = context.workload.prompt, context.number("maxNumBatchedTokens")
    piece = 1.0 if prompt is None or budget is None or prompt <= 0 else min(1.0, budget / prompt)
    return model.prefill * piece


def _batch_step(
    context: Context, causes: tuple[BottleneckKind, ...], slots: int, target: int, model: BatchModel
) -> Optimization:
    load = context.workload
    batch = min(float(target), load.demand)
    effects = _batch_effects(context, model, batch)
    throughput = effects[0].ratio
    queue = f"{requests_wait(load.waiting)} per pod while {number(load.running)} of {slots} slots run"
    why = f"{queue} and {percent(load.kv_usage or 0.0)} of the KV cache is used"
    return context.optimization(
        OptimizationType.BATCHING,
        title=f"Run up to {target} sequences at once instead of {slots}",
        description=(
            f"{why}. With {target} slots the {number(load.demand)} requests that are there can run together. Expected:"
            f" {throughput:.1f} times the output tokens per second; inter-token latency {seconds(model.itl)} ->"
            f" {seconds(model.itl_at(batch))} on average."
        ),
        changes=_slot_changes(context, target, f"{why}: {target} is the power of two that covers them with room."),
        effects=effects,
        addresses=causes,
        risks=(
            f"Each token takes longer while more sequences run: about {seconds(model.itl_at(batch))} on average.",
            "Long requests that come together can fill the KV cache and preempt each other.",
        ),
    )


def _slot_changes(context: Context, target: int, reason: str) -> dict[str, tuple[int | None, str]]:
    """maxNumSeqs, and whatever else would hold it back; only the limit below it where running pods take that."""
    live = _live_slots(context, target, reason)
    if live is not None:
        return live
    changes: dict[str, tuple[int | None, str]] = {}
    if context.number("maxNumSeqs") is None or context.number("maxNumSeqs") != target:
        changes["maxNumSeqs"] = (target, reason)
    active, budget = context.number("maxNumActiveSeqs"), context.number("maxNumBatchedTokens")
    if active is not None and active != target:
        changes["maxNumActiveSeqs"] = (None, "It would limit the running sequences below maxNumSeqs.")
    one_per_sequence = context.performs_as[0] == "vllm"
    if one_per_sequence and budget is not None and budget < target:
        changes["maxNumBatchedTokens"] = (target, "A step needs at least one token for each sequence.")
    return changes


def _live_slots(context: Context, target: int, reason: str) -> dict[str, tuple[int | None, str]] | None:
    """The change that needs no restart; None where there is none, or the engine was started for less."""
    capacity, step = context.number("maxNumSeqs"), context.number("maxNumBatchedTokens")
    if not context.is_live("maxNumActiveSeqs") or capacity is None or capacity < target or (step or target) < target:
        return None
    changes: dict[str, tuple[int | None, str]] = {"maxNumActiveSeqs": (target, reason)}
    budget = context.number("maxNumScheduledTokens")
    if budget is not None and budget < target:
        changes["maxNumScheduledTokens"] = (target, "A step needs at least one token for each sequence.")
    return changes


def _budget(context: Context) -> int | None:
    """The effective token budget of a step."""
    knobs = ("maxNumBatchedTokens", *(("maxNumScheduledTokens",) if context.is_live("maxNumScheduledTokens") else ()))
    return min((n for knob in knobs if (n := context.number(knob)) is not None), default=None)


def _budget_knob(context: Context, target: int) -> str:
    """What sets the budget: the limit that running pods take, below what the engine was started for."""
    capacity = context.number("maxNumBatchedTokens")
    live = context.is_live("maxNumScheduledTokens") and capacity is not None and target <= capacity
    return "maxNumScheduledTokens" if live else "maxNumBatchedTokens"


def _batch_effects(context: Context, model: BatchModel, batch: float) -> tuple[Effect, ...]:
    """Throughput, ITL, and TTFT and e2e where queue and latencies are known."""
    load = context.workload
    throughput = model.throughput_ratio(batch)
    itl = model.itl_at(batch)
    effects = [
        effect(Metric.THROUGHPUT, throughput, spread=_SPREAD, basis=_BASIS),
        effect(Metric.ITL, itl / model.itl, spread=(0.6, 1.5), basis=_BASIS),
    ]
    if load.ttft and load.queue is not None:
        left = max(0.0, load.demand - batch) / max(1.0, load.waiting)
        ttft = load.queue * min(1.0, left / max(1.0, throughput)) + model.prefill + (itl if batch > 1.5 else 0.0)
        ratio = min(1.5, ttft / load.ttft)
        basis = "the queue of those that would run is gone; prefill as measured"
        effects.append(effect(Metric.TTFT, ratio, spread=(0.6, 1.1), basis=basis))
        if load.e2e:
            e2e = (ttft + model.output * itl) / load.e2e
            effects.append(effect(Metric.E2E, e2e, spread=(0.6, 1.2), basis=f"TTFT and {_BASIS}"))
    return tuple(effects)


# --- fewer sequences ------------------------------------------------------------------------------------------


def _fewer_sequences(context: Context) -> Iterator[Optimization | Rejected]:
    """Only for a violated inter-token latency without a queue: a batch that meets it and still serves the traffic."""
    state, model, slots, load = context.violated(Metric.ITL), context.batch_model(), _slots(context), context.workload
    if state is None or model is None or slots is None or not isinstance(state.measured, Known):
        return
    if not context.found(BottleneckKind.BATCH_SIZE_SUBOPTIMAL) or load.running < 2.0:
        return
    if context.found(BottleneckKind.LONG_PROMPT_BLOCKING):
        yield Rejected(_FEWER, "Long prompts cause the tail of the inter-token latency, not the number of sequences.")
        return
    target = power_of_two_at_most(max(1.0, load.running - 1))
    while target > 1 and state.measured.value * model.itl_at(target) / model.itl > HEADROOM * state.target.seconds:
        target //= 2
    predicted = state.measured.value * model.itl_at(target) / model.itl
    if predicted > HEADROOM * state.target.seconds:
        yield Rejected(_FEWER, f"Even one sequence at a time would take about {seconds(predicted)} per token.")
        return
    capacity = target / (target * model.prefill + model.output * model.itl_at(target))
    if load.request_rate is None or load.waiting >= 1.0 or capacity < 1.1 * load.request_rate:
        rate = "an unknown rate" if load.request_rate is None else f"{load.request_rate:.2f} requests per second"
        yield Rejected(
            _FEWER,
            f"{target} sequences would serve about {capacity:.2f} requests per second and pod, and {rate} come in:"
            " more replicas are needed to meet the target.",
        )
        return
    why = f"{state.target.name} is {seconds(state.measured.value)}, above {seconds(state.target.seconds)}"
    yield context.optimization(
        OptimizationType.BATCHING,
        title=f"Run up to {target} sequences at once instead of {slots}",
        description=(
            f"{why}, with {number(load.running)} sequences at once. With {target} it is about {seconds(predicted)}."
        ),
        changes=_slot_changes(context, target, f"{why}; {target} is the largest power of two that meets it."),
        effects=(
            effect(Metric.ITL, model.itl_at(target) / model.itl, spread=(0.6, 1.2), basis=_BASIS),
            stated(Metric.TTFT, 1.3, 1.0, 2.0, "requests wait a little more for a slot"),
        ),
        addresses=(BottleneckKind.BATCH_SIZE_SUBOPTIMAL, BottleneckKind.HIGH_LATENCY),
        risks=("Bursts wait longer for a slot.",),
    )


# --- the token budget of a step -------------------------------------------------------------------------------


def _smaller_budget(context: Context) -> Iterator[Optimization | Rejected]:
    """For stalls behind long prompts that violate an inter-token latency target; the stall is linear in the budget.

    Measured with 1024-token prompts, 8 clients: ITL p99 1083 ms at 2048 tokens, 568 at 1024, 172 at 256, 56 at 64.
    """
    state, budget, load = context.violated(Metric.ITL), _budget(context), context.workload
    if not context.found(BottleneckKind.LONG_PROMPT_BLOCKING) or state is None or not isinstance(state.measured, Known):
        return
    if budget is None or load.itl is None or load.prompt is None:
        yield Rejected(_BUDGET_DOWN, "The token budget, the inter-token latency or the prompt length is not known.")
        return
    least = max(64, _slots(context) or 64)
    stall = max(0.0, state.measured.value - load.itl)
    piece = min(float(budget), max(1.0, load.prompt))
    target = power_of_two_at_most(min(budget - 1, piece))
    while target > least and load.itl + stall * target / piece > HEADROOM * state.target.seconds:
        target //= 2
    predicted = load.itl + stall * target / piece
    if target < least or predicted > HEADROOM * state.target.seconds:
        yield Rejected(
            _BUDGET_DOWN,
            f"Even {max(target, 1)} tokens per step would leave {state.target.name} at {seconds(predicted)}.",
        )
        return
    why = f"{state.target.name} is {seconds(state.measured.value)}, above {seconds(state.target.seconds)}"
    ratio = predicted / state.measured.value
    yield context.optimization(
        OptimizationType.BATCHING,
        title=f"Compute at most {target} tokens per step instead of {budget}",
        description=(
            f"{why}, because prompts stall generation. In pieces of {target} tokens it is about {seconds(predicted)}."
        ),
        changes={_budget_knob(context, target): (target, f"{why}; the stall is linear in the tokens of a step.")},
        effects=(
            effect(Metric.ITL, ratio, spread=(0.5, 1.1), basis=f"linear in the budget, {MEASURED}"),
            stated(Metric.TTFT, 1.15, 0.6, 2.0, f"more steps per prompt, {MEASURED}"),
            stated(Metric.THROUGHPUT, 0.99, 0.9, 1.02, f"more steps per prompt, {MEASURED}"),
        ),
        addresses=(BottleneckKind.LONG_PROMPT_BLOCKING, BottleneckKind.HIGH_LATENCY),
        risks=("A prompt takes more steps, so its first token may come later.",),
    )


def _larger_budget(context: Context) -> Iterator[Optimization | Rejected]:
    """For prompts that need many small steps; measured from 64 to 256 tokens: TTFT p50 3.4 -> 0.9 s, tokens +10 %."""
    budget, load = _budget(context), context.workload
    if not context.found(BottleneckKind.PREFILL_BOUND) or budget is None or load.prompt is None:
        return
    if budget >= 512 or load.prompt <= budget:
        return
    target = min(512, power_of_two_at_least(load.prompt))
    tail = next(iter(context.targets(Metric.ITL)), None)
    while target > budget and tail is not None:
        if isinstance(tail.measured, Known) and tail.measured.value * target / budget <= HEADROOM * tail.target.seconds:
            break
        target //= 2
    if target <= budget:
        yield Rejected(_BUDGET_UP, "The inter-token latency has no room for larger steps.")
        return
    ratio = max(0.3, budget / target)
    yield context.optimization(
        OptimizationType.BATCHING,
        title=f"Compute up to {target} tokens per step instead of {budget}",
        description=(
            f"Prompts of {number(load.prompt)} tokens are computed in pieces of at most {budget}; larger pieces need"
            " fewer steps."
        ),
        changes={_budget_knob(context, target): (target, f"Prompts have {number(load.prompt)} tokens on average.")},
        effects=(
            effect(Metric.TTFT, ratio, spread=(0.4, 1.1), basis=f"steps per prompt, {MEASURED}"),
            stated(Metric.THROUGHPUT, 1.08, 1.0, 1.12, f"steps per prompt, {MEASURED}"),
            effect(Metric.ITL, target / budget, spread=(0.3, 1.0), basis=f"linear in the budget, {MEASURED}"),
        ),
        addresses=(BottleneckKind.PREFILL_BOUND,),
        risks=("Requests that generate wait longer while a prompt is computed.",),
    )


# --- the order of the queue -----------------------------------------------------------------------------------


def _queue_order(context: Context) -> Iterator[Optimization | Rejected]:
    """SGLang's longest-prefix-match order, where requests wait and share prefixes."""
    knob, load = context.knobs.get("schedulingPolicy"), context.workload
    if knob is None or context.catalogue.name != "sglang" or context.value("schedulingPolicy") != "fcfs":
        return
    if not context.found(BottleneckKind.QUEUE_BUILDUP) or load.hit_rate is None or load.hit_rate < 0.1:
        return
    basis = "cache-aware scheduling, SGLang paper (Zheng et al., 2024), section 3"
    yield context.optimization(
        OptimizationType.BATCHING,
        title="Serve waiting requests by their longest cached prefix",
        description=(
            f"{percent(load.hit_rate)} of the prompt tokens are found in the cache while {number(load.waiting)}"
            " requests wait."
        ),
        changes={"schedulingPolicy": ("lpm", "Requests that share a prefix run while it is cached.")},
        effects=(stated(Metric.THROUGHPUT, 1.08, 1.0, 1.3, basis), stated(Metric.TTFT, 0.92, 0.7, 1.0, basis)),
        addresses=(BottleneckKind.QUEUE_BUILDUP,),
        risks=("A request with a rare prefix can wait longer than those that came after it.",),
    )

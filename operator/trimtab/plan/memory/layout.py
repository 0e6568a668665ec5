"""Whether a model can be spread as a layout says: named checks, each a sentence with the way out, or None."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeAlias

from trimtab.catalogue.models.shape import Attention, Dense, Experts, GroupedQuery, Latent
from trimtab.plan.memory.formats import KV_CACHE, WEIGHTS
from trimtab.plan.point import ServingPoint

Check: TypeAlias = Callable[[ServingPoint], str | None]

ENGINES: Final = ("sglang", "trtllm", "vllm")
_KEY_VALUE: Final = "key and value heads"


def engine_is_known(point: ServingPoint) -> str | None:
    if point.engine in ENGINES:
        return None
    return f"The memory of engine {point.engine!r} is not known. Use one of {', '.join(ENGINES)}."


def formats_are_known(point: ServingPoint) -> str | None:
    for field, value, known in (
        ("weights", point.weights, WEIGHTS),
        ("experts", point.experts or point.weights, WEIGHTS),
        ("kv_cache", point.kv_cache, KV_CACHE),
    ):
        if value not in known:
            return f"The format {value!r} of {field} is not known. Use one of {', '.join(known)}."
    return None


def limits_are_positive(point: ServingPoint) -> str | None:
    for field in ("max_num_seqs", "max_num_batched_tokens", "max_model_len", "kv_cache_bytes", "kv_block_tokens"):
        value = getattr(point, field)
        if value is not None and value < 1:
            return f"{field} is {value}. Set it to 1 or more, or leave it to the engine."
    share = point.memory_utilization
    if share is not None and not 0 < share <= 1:
        return f"memory_utilization is {share}. Set it above 0 and to 1 at most."
    return None


def sizes_are_positive(point: ServingPoint) -> str | None:
    layout = point.layout
    if min(layout.tensor, layout.pipeline, layout.data, layout.expert) < 1:
        return f"A parallel size is below 1 in {layout}. Set each to 1 or more."
    return None


def layers_fill_the_stages(point: ServingPoint) -> str | None:
    if point.layout.pipeline <= point.model.layers:
        return None
    return (
        f"{point.layout.pipeline} pipeline stages are more than the {point.model.layers} layers of {point.model.name}. "
        "Lower pipelineParallelSize."
    )


def heads_divide(point: ServingPoint) -> str | None:
    tensor = point.layout.tensor
    counts = {counted for block in point.model.blocks for counted in _heads(block.attention)}
    for heads, kind in sorted(counts):
        # Key and value heads are copied where there are fewer than GPUs.
        if heads % tensor and (kind != _KEY_VALUE or tensor % heads):
            multiple = " or is a multiple of it" if kind == _KEY_VALUE else ""
            return (
                f"The {heads} {kind} of {point.model.name} do not divide over {tensor} GPUs. "
                f"Choose a tensorParallelSize that divides {heads}{multiple}."
            )
    return None


def _heads(attention: Attention) -> tuple[tuple[int, str], ...]:
    """How many heads of which kind are shared out."""
    match attention:
        case GroupedQuery():
            return (attention.q_heads, "query heads"), (attention.kv_heads, _KEY_VALUE)
        case Latent():
            return ((attention.heads, "heads"),)
        case _:
            return ((attention.k_heads, "key heads of linear attention"),)


def feed_forward_divides(point: ServingPoint) -> str | None:
    tensor = point.layout.tensor
    widths = {block.feed_forward.intermediate for block in point.model.blocks if isinstance(block.feed_forward, Dense)}
    width = next((width for width in sorted(widths) if width % tensor), None)
    if width is None:
        return None
    return f"The feed-forward layers are {width} wide, which {tensor} GPUs cannot share. Lower tensorParallelSize."


def experts_divide(point: ServingPoint) -> str | None:
    layout = point.layout
    counts = {block.feed_forward.experts for block in point.model.blocks if isinstance(block.feed_forward, Experts)}
    if layout.expert > 1 and not counts:
        return f"{point.model.name} has no experts to spread over {layout.expert} GPUs. Set expertParallelSize to 1."
    if layout.tensor * layout.data % layout.expert:
        return (
            f"{layout.expert} expert-parallel GPUs do not divide the {layout.tensor * layout.data} of one stage. "
            "Choose an expertParallelSize that does."
        )
    if any(layout.expert > count for count in counts):
        return (
            f"{min(counts)} experts are fewer than {layout.expert} GPUs to spread them over. Lower expertParallelSize."
        )
    return None


CHECKS: Final[tuple[Check, ...]] = (
    engine_is_known,
    formats_are_known,
    limits_are_positive,
    sizes_are_positive,
    layers_fill_the_stages,
    heads_divide,
    feed_forward_divides,
    experts_divide,
)


def objection(point: ServingPoint) -> str | None:
    """The first reason why no engine would start the point, whatever the memory; None where there is none."""
    return next((reason for check in CHECKS if (reason := check(point)) is not None), None)

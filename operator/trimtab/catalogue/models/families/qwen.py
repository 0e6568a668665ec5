"""Qwen 1.5 to 3.5. Source: the config.json files of the named Hugging Face repositories."""

from __future__ import annotations

from typing import Final

from trimtab.catalogue.models.shape import Attention, Dense, Experts, FeedForward, Linear, ModelShape
from trimtab.catalogue.models.stacks import blocks_of, decoder, every, grouped_query, mixture, vision_tower

_VISION: Final = vision_tower(27, 1152, 4304)  # of Qwen 3.5 from 9B up
_SMALL_VISION: Final = vision_tower(24, 1024, 4096)


def _hybrid(
    name: str,
    *,
    layers: int,
    hidden: int,
    heads: tuple[int, int],
    value_heads: int,
    feed_forward: FeedForward,
    vocab: int = 248320,
    tied: bool = False,
    float32_state: bool = True,
    other: int = _VISION,
) -> ModelShape:
    """Three layers of Gated DeltaNet before each layer of gated attention."""
    linear = Linear(k_heads=16, v_heads=value_heads, k_dim=128, v_dim=128, float32_state=float32_state)
    full: Attention = grouped_query(*heads, 256, gated=True)
    return ModelShape(
        name=name,
        hidden=hidden,
        vocab=vocab,
        blocks=blocks_of((attention, feed_forward) for attention in every(4, layers, last=full, others=linear)),
        max_positions=262144,
        tied_embeddings=tied,
        other_parameters=other,
    )


def _qwen2(
    name: str,
    layers: int,
    hidden: int,
    heads: tuple[int, int],
    intermediate: int,
    vocab: int = 152064,
    *,
    positions: int = 131072,
    tied: bool = False,
) -> ModelShape:
    """Qwen 1.5, 2 and 2.5: biases on queries, keys and values."""
    attention = grouped_query(*heads, hidden // heads[0], bias=True)
    return decoder(
        name,
        layers=layers,
        hidden=hidden,
        attention=attention,
        intermediate=intermediate,
        vocab=vocab,
        positions=positions,
        tied=tied,
    )


def _qwen3(
    name: str,
    layers: int,
    hidden: int,
    heads: tuple[int, int],
    intermediate: int,
    *,
    tied: bool = False,
    positions: int = 40960,
) -> ModelShape:
    return decoder(
        name,
        layers=layers,
        hidden=hidden,
        attention=grouped_query(*heads, 128),
        intermediate=intermediate,
        vocab=151936,
        positions=positions,
        tied=tied,
    )


def _qwen3_moe(
    name: str, layers: int, hidden: int, heads: tuple[int, int], experts: Experts, *, positions: int = 40960
) -> ModelShape:
    return mixture(
        name,
        layers=layers,
        hidden=hidden,
        attention=grouped_query(*heads, 128),
        experts=experts,
        vocab=151936,
        positions=positions,
    )


QWEN: Final = (
    _qwen2("Qwen/Qwen1.5-7B", 32, 4096, (32, 32), 11008, 151936, positions=32768),
    _qwen2("Qwen/Qwen2-7B", 28, 3584, (28, 4), 18944),
    _qwen2("Qwen/Qwen2-72B", 80, 8192, (64, 8), 29568),
    _qwen2("Qwen/Qwen2.5-0.5B-Instruct", 24, 896, (14, 2), 4864, 151936, positions=32768, tied=True),
    _qwen2("Qwen/Qwen2.5-1.5B-Instruct", 28, 1536, (12, 2), 8960, 151936, positions=32768, tied=True),
    _qwen2("Qwen/Qwen2.5-3B-Instruct", 36, 2048, (16, 2), 11008, 151936, positions=32768, tied=True),
    _qwen2("Qwen/Qwen2.5-7B-Instruct", 28, 3584, (28, 4), 18944, positions=32768),
    _qwen2("Qwen/Qwen2.5-14B-Instruct", 48, 5120, (40, 8), 13824, positions=32768),
    _qwen2("Qwen/Qwen2.5-32B-Instruct", 64, 5120, (40, 8), 27648, positions=32768),
    _qwen2("Qwen/Qwen2.5-72B-Instruct", 80, 8192, (64, 8), 29568, positions=32768),
    _qwen3("Qwen/Qwen3-0.6B", 28, 1024, (16, 8), 3072, tied=True),
    _qwen3("Qwen/Qwen3-1.7B", 28, 2048, (16, 8), 6144, tied=True),
    _qwen3("Qwen/Qwen3-4B", 36, 2560, (32, 8), 9728, tied=True),
    _qwen3("Qwen/Qwen3-8B", 36, 4096, (32, 8), 12288),
    _qwen3("Qwen/Qwen3-14B", 40, 5120, (40, 8), 17408),
    _qwen3("Qwen/Qwen3-32B", 64, 5120, (64, 8), 25600),
    _qwen3("Qwen/Qwen3-4B-Instruct-2507", 36, 2560, (32, 8), 9728, tied=True, positions=262144),
    _qwen3_moe("Qwen/Qwen3-30B-A3B", 48, 2048, (32, 4), Experts(experts=128, topk=8, intermediate=768)),
    _qwen3_moe("Qwen/Qwen3-235B-A22B", 94, 4096, (64, 4), Experts(experts=128, topk=8, intermediate=1536)),
    _qwen3_moe(
        "Qwen/Qwen3-30B-A3B-Instruct-2507",
        48,
        2048,
        (32, 4),
        Experts(experts=128, topk=8, intermediate=768),
        positions=262144,
    ),
    _qwen3_moe(
        "Qwen/Qwen3-235B-A22B-Instruct-2507",
        94,
        4096,
        (64, 4),
        Experts(experts=128, topk=8, intermediate=1536),
        positions=262144,
    ),
    _qwen3_moe(
        "Qwen/Qwen3-Coder-30B-A3B-Instruct",
        48,
        2048,
        (32, 4),
        Experts(experts=128, topk=8, intermediate=768),
        positions=262144,
    ),
    _qwen3_moe(
        "Qwen/Qwen3-Coder-480B-A35B-Instruct",
        62,
        6144,
        (96, 8),
        Experts(experts=160, topk=8, intermediate=2560),
        positions=262144,
    ),
    _hybrid(
        "Qwen/Qwen3-Next-80B-A3B-Instruct",
        layers=48,
        hidden=2048,
        heads=(16, 2),
        value_heads=32,
        feed_forward=Experts(experts=512, topk=10, intermediate=512, shared=512),
        vocab=151936,
        float32_state=False,
        other=0,
    ),
    _hybrid(
        "Qwen/Qwen3.5-4B",
        layers=32,
        hidden=2560,
        heads=(16, 4),
        value_heads=32,
        feed_forward=Dense(intermediate=9216),
        tied=True,
        other=_SMALL_VISION,
    ),
    _hybrid(
        "Qwen/Qwen3.5-27B",
        layers=64,
        hidden=5120,
        heads=(24, 4),
        value_heads=48,
        feed_forward=Dense(intermediate=17408),
    ),
    _hybrid(
        "Qwen/Qwen3.5-35B-A3B",
        layers=40,
        hidden=2048,
        heads=(16, 2),
        value_heads=32,
        feed_forward=Experts(experts=256, topk=8, intermediate=512, shared=512),
    ),
    _hybrid(
        "Qwen/Qwen3.5-122B-A10B",
        layers=48,
        hidden=3072,
        heads=(32, 2),
        value_heads=64,
        feed_forward=Experts(experts=256, topk=8, intermediate=1024, shared=1024),
    ),
    _hybrid(
        "Qwen/Qwen3.5-397B-A17B",
        layers=60,
        hidden=4096,
        heads=(32, 2),
        value_heads=64,
        feed_forward=Experts(experts=512, topk=10, intermediate=1024, shared=1024),
    ),
)

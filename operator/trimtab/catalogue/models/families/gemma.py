"""Gemma 2 and 3. Source: the config.json files of the named Hugging Face repositories."""

from __future__ import annotations

from typing import Final

from trimtab.catalogue.models.shape import Dense, ModelShape
from trimtab.catalogue.models.stacks import blocks_of, every, grouped_query, vision_tower

_SIGLIP: Final = vision_tower(27, 1152, 4304)


def _gemma(
    name: str,
    *,
    layers: int,
    hidden: int,
    heads: tuple[int, int, int],
    intermediate: int,
    vocab: int,
    positions: int,
    window: int,
    interval: int,
    other: int = 0,
) -> ModelShape:
    """Sliding windows with full attention in each interval's last layer; heads: queries, keys, dimension."""
    dense = Dense(intermediate=intermediate)
    sliding, full = grouped_query(*heads, window=window), grouped_query(*heads)
    return ModelShape(
        name=name,
        hidden=hidden,
        vocab=vocab,
        blocks=blocks_of((attention, dense) for attention in every(interval, layers, last=full, others=sliding)),
        max_positions=positions,
        tied_embeddings=True,
        other_parameters=other,
    )


def _gemma_2(name: str, layers: int, hidden: int, heads: tuple[int, int, int], intermediate: int) -> ModelShape:
    return _gemma(
        name,
        layers=layers,
        hidden=hidden,
        heads=heads,
        intermediate=intermediate,
        vocab=256000,
        positions=8192,
        window=4096,
        interval=2,
    )


def _gemma_3(name: str, layers: int, hidden: int, heads: tuple[int, int, int], intermediate: int) -> ModelShape:
    return _gemma(
        name,
        layers=layers,
        hidden=hidden,
        heads=heads,
        intermediate=intermediate,
        vocab=262208,
        positions=131072,
        window=1024,
        interval=6,
        other=_SIGLIP,
    )


GEMMA: Final = (
    _gemma_2("google/gemma-2-2b", 26, 2304, (8, 4, 256), 9216),
    _gemma_2("google/gemma-2-9b", 42, 3584, (16, 8, 256), 14336),
    _gemma_2("google/gemma-2-27b", 46, 4608, (32, 16, 128), 36864),
    _gemma(
        "google/gemma-3-1b-it",
        layers=26,
        hidden=1152,
        heads=(4, 1, 256),
        intermediate=6912,
        vocab=262144,
        positions=32768,
        window=512,
        interval=6,
    ),
    _gemma_3("google/gemma-3-4b-it", 34, 2560, (8, 4, 256), 10240),
    _gemma_3("google/gemma-3-12b-it", 48, 3840, (16, 8, 256), 15360),
    _gemma_3("google/gemma-3-27b-it", 62, 5376, (32, 16, 128), 21504),
)

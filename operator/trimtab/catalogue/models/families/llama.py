"""Llama 1 to 4, and models of the same shape. Source: the config.json files of the named Hugging Face repositories."""

from __future__ import annotations

from typing import Final

from trimtab.catalogue.models.shape import Dense, Experts, ModelShape
from trimtab.catalogue.models.stacks import decoder, every, grouped_query, mixed, vision_tower

_LLAMA_4_FULL: Final = grouped_query(40, 8, 128)
_LLAMA_4_CHUNKED: Final = grouped_query(40, 8, 128, window=8192)  # attention within chunks of 8,192 tokens
_LLAMA_4_VISION: Final = vision_tower(34, 1408, 5632)


def _llama_4(name: str, experts: int, dense_between: bool, positions: int) -> ModelShape:
    routed = Experts(experts=experts, topk=1, intermediate=8192, shared=8192)
    dense = Dense(intermediate=16384)
    return ModelShape(
        name=name,
        hidden=5120,
        vocab=202048,
        blocks=mixed(
            every(4, 48, last=_LLAMA_4_FULL, others=_LLAMA_4_CHUNKED),
            [dense if dense_between and layer % 2 == 0 else routed for layer in range(48)],
        ),
        max_positions=positions,
        other_parameters=_LLAMA_4_VISION,
    )


LLAMA: Final = (
    decoder(
        "huggyllama/llama-7b",
        layers=32,
        hidden=4096,
        attention=grouped_query(32, 32, 128),
        intermediate=11008,
        vocab=32000,
        positions=2048,
    ),
    decoder(
        "meta-llama/Llama-2-7b-hf",
        layers=32,
        hidden=4096,
        attention=grouped_query(32, 32, 128),
        intermediate=11008,
        vocab=32000,
        positions=4096,
    ),
    decoder(
        "meta-llama/Llama-2-13b-hf",
        layers=40,
        hidden=5120,
        attention=grouped_query(40, 40, 128),
        intermediate=13824,
        vocab=32000,
        positions=4096,
    ),
    decoder(
        "meta-llama/Llama-2-70b-hf",
        layers=80,
        hidden=8192,
        attention=grouped_query(64, 8, 128),
        intermediate=28672,
        vocab=32000,
        positions=4096,
    ),
    decoder(
        "meta-llama/Meta-Llama-3-8B",
        layers=32,
        hidden=4096,
        attention=grouped_query(32, 8, 128),
        intermediate=14336,
        vocab=128256,
        positions=8192,
    ),
    decoder(
        "meta-llama/Meta-Llama-3-70B",
        layers=80,
        hidden=8192,
        attention=grouped_query(64, 8, 128),
        intermediate=28672,
        vocab=128256,
        positions=8192,
    ),
    decoder(
        "meta-llama/Llama-3.1-8B",
        layers=32,
        hidden=4096,
        attention=grouped_query(32, 8, 128),
        intermediate=14336,
        vocab=128256,
        positions=131072,
    ),
    decoder(
        "meta-llama/Llama-3.1-70B",
        layers=80,
        hidden=8192,
        attention=grouped_query(64, 8, 128),
        intermediate=28672,
        vocab=128256,
        positions=131072,
    ),
    decoder(
        "meta-llama/Llama-3.1-405B",
        layers=126,
        hidden=16384,
        attention=grouped_query(128, 8, 128),
        intermediate=53248,
        vocab=128256,
        positions=131072,
    ),
    decoder(
        "meta-llama/Llama-3.2-1B",
        layers=16,
        hidden=2048,
        attention=grouped_query(32, 8, 64),
        intermediate=8192,
        vocab=128256,
        positions=131072,
        tied=True,
    ),
    decoder(
        "meta-llama/Llama-3.2-3B",
        layers=28,
        hidden=3072,
        attention=grouped_query(24, 8, 128),
        intermediate=8192,
        vocab=128256,
        positions=131072,
        tied=True,
    ),
    decoder(
        "meta-llama/Llama-3.3-70B-Instruct",
        layers=80,
        hidden=8192,
        attention=grouped_query(64, 8, 128),
        intermediate=28672,
        vocab=128256,
        positions=131072,
    ),
    _llama_4("meta-llama/Llama-4-Scout-17B-16E", experts=16, dense_between=False, positions=10485760),
    _llama_4("meta-llama/Llama-4-Maverick-17B-128E", experts=128, dense_between=True, positions=1048576),
)

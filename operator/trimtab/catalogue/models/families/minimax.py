"""MiniMax. Source: the config.json files of the named Hugging Face repositories."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from trimtab.catalogue.models.shape import Experts, Linear, ModelShape
from trimtab.catalogue.models.stacks import blocks_of, every, grouped_query, mixture

_TEXT_01: Final = ModelShape(
    name="MiniMaxAI/MiniMax-Text-01",
    hidden=6144,
    vocab=200064,
    blocks=blocks_of(
        (attention, Experts(experts=32, topk=2, intermediate=9216))
        for attention in every(
            8,
            80,
            last=grouped_query(64, 8, 128),
            others=Linear(k_heads=64, v_heads=64, k_dim=128, v_dim=128, conv=0),  # Lightning Attention
        )
    ),
    max_positions=10240000,
)

_M2: Final = mixture(
    "MiniMaxAI/MiniMax-M2",
    layers=62,
    hidden=3072,
    attention=grouped_query(48, 8, 128),
    experts=Experts(experts=256, topk=8, intermediate=1536),
    vocab=200064,
    positions=196608,
    native="fp8_block",
)

MINIMAX: Final = (
    _TEXT_01,
    replace(_TEXT_01, name="MiniMaxAI/MiniMax-M1-80k"),
    _M2,
    replace(_M2, name="MiniMaxAI/MiniMax-M2.1"),
    replace(_M2, name="MiniMaxAI/MiniMax-M2.5"),
)

"""DeepSeek V2, V3 and R1, and Kimi K2, which has V3's structure. Source: the repositories' config.json files."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from trimtab.catalogue.models.shape import Experts, Latent
from trimtab.catalogue.models.stacks import mixture, vision_tower

_V3_ATTENTION: Final = Latent(heads=128, q_rank=1536, kv_rank=512, nope_dim=128, rope_dim=64, v_dim=128)
_V3_EXPERTS: Final = Experts(experts=256, topk=8, intermediate=2048, shared=2048)

_V3: Final = mixture(
    "deepseek-ai/DeepSeek-V3",
    layers=61,
    hidden=7168,
    attention=_V3_ATTENTION,
    experts=_V3_EXPERTS,
    first_dense=3,
    dense=18432,
    vocab=129280,
    positions=163840,
    native="fp8_block",
)

_K2: Final = mixture(
    "moonshotai/Kimi-K2-Instruct",
    layers=61,
    hidden=7168,
    attention=replace(_V3_ATTENTION, heads=64),
    experts=Experts(experts=384, topk=8, intermediate=2048, shared=2048),
    first_dense=1,
    dense=18432,
    vocab=163840,
    positions=131072,
    native="fp8_block",
)

DEEPSEEK: Final = (
    mixture(
        "deepseek-ai/DeepSeek-V2-Lite",
        layers=27,
        hidden=2048,
        attention=Latent(heads=16, q_rank=0, kv_rank=512, nope_dim=128, rope_dim=64, v_dim=128),
        experts=Experts(experts=64, topk=6, intermediate=1408, shared=2816),
        first_dense=1,
        dense=10944,
        vocab=102400,
        positions=163840,
    ),
    mixture(
        "deepseek-ai/DeepSeek-V2",
        layers=60,
        hidden=5120,
        attention=_V3_ATTENTION,
        experts=Experts(experts=160, topk=6, intermediate=1536, shared=3072),
        first_dense=1,
        dense=12288,
        vocab=102400,
        positions=163840,
    ),
    _V3,
    replace(_V3, name="deepseek-ai/DeepSeek-R1"),
    mixture(
        "deepseek-ai/DeepSeek-V3.2-Exp",
        layers=61,
        hidden=7168,
        attention=replace(_V3_ATTENTION, index_heads=64, index_dim=128, sparse_topk=2048),
        experts=_V3_EXPERTS,
        first_dense=3,
        dense=18432,
        vocab=129280,
        positions=163840,
        native="fp8_block",
    ),
    _K2,
    replace(_K2, name="moonshotai/Kimi-K2-Instruct-0905", max_positions=262144),
    # Trained with experts in int4 (groups of 32) and the rest in bf16.
    replace(_K2, name="moonshotai/Kimi-K2-Thinking", max_positions=262144, native="bf16", native_experts="int4_wo"),
    replace(
        _K2,
        name="moonshotai/Kimi-K2.5",
        max_positions=262144,
        native="bf16",
        native_experts="int4_wo",
        other_parameters=vision_tower(27, 1152, 4304),
    ),
)

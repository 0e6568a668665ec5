"""GLM 4.x. Source: the config.json files of the named Hugging Face repositories."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from trimtab.catalogue.models.shape import Experts, Latent
from trimtab.catalogue.models.stacks import decoder, grouped_query, mixture

_GLM_4_5: Final = mixture(
    "zai-org/GLM-4.5",
    layers=92,
    hidden=5120,
    attention=grouped_query(96, 8, 128, bias=True),
    experts=Experts(experts=160, topk=8, intermediate=1536, shared=1536),
    first_dense=3,
    dense=12288,
    vocab=151552,
    positions=131072,
)

GLM: Final = (
    decoder(
        "zai-org/GLM-4-9B-0414",
        layers=40,
        hidden=4096,
        attention=grouped_query(32, 2, 128, bias=True),
        intermediate=13696,
        vocab=151552,
        positions=32768,
    ),
    decoder(
        "zai-org/GLM-4-32B-0414",
        layers=61,
        hidden=6144,
        attention=grouped_query(48, 2, 128),
        intermediate=23040,
        vocab=151552,
        positions=32768,
    ),
    _GLM_4_5,
    mixture(
        "zai-org/GLM-4.5-Air",
        layers=46,
        hidden=4096,
        attention=grouped_query(96, 8, 128, bias=True),
        experts=Experts(experts=128, topk=8, intermediate=1408, shared=1408),
        first_dense=1,
        dense=10944,
        vocab=151552,
        positions=131072,
    ),
    replace(_GLM_4_5, name="zai-org/GLM-4.6", max_positions=202752),
    replace(_GLM_4_5, name="zai-org/GLM-4.7", max_positions=202752),
    mixture(
        "zai-org/GLM-4.7-Flash",
        layers=47,
        hidden=2048,
        attention=Latent(heads=20, q_rank=768, kv_rank=512, nope_dim=192, rope_dim=64, v_dim=256),
        experts=Experts(experts=64, topk=4, intermediate=1536, shared=1536),
        first_dense=1,
        dense=10240,
        vocab=154880,
        positions=202752,
    ),
)

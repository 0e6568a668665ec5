"""Mistral and Mixtral. Source: the config.json files of the named Hugging Face repositories."""

from __future__ import annotations

from typing import Final

from trimtab.catalogue.models.shape import Experts
from trimtab.catalogue.models.stacks import decoder, grouped_query, mixture, vision_tower

_PIXTRAL: Final = vision_tower(24, 1024, 4096, gated=True)

MISTRAL: Final = (
    decoder(
        "mistralai/Mistral-7B-v0.1",
        layers=32,
        hidden=4096,
        attention=grouped_query(32, 8, 128, window=4096),
        intermediate=14336,
        vocab=32000,
        positions=32768,
    ),
    decoder(
        "mistralai/Mistral-7B-Instruct-v0.2",
        layers=32,
        hidden=4096,
        attention=grouped_query(32, 8, 128),
        intermediate=14336,
        vocab=32000,
        positions=32768,
    ),
    decoder(
        "mistralai/Mistral-7B-v0.3",
        layers=32,
        hidden=4096,
        attention=grouped_query(32, 8, 128),
        intermediate=14336,
        vocab=32768,
        positions=32768,
    ),
    decoder(
        "mistralai/Mistral-Nemo-Base-2407",
        layers=40,
        hidden=5120,
        attention=grouped_query(32, 8, 128),
        intermediate=14336,
        vocab=131072,
        positions=131072,
    ),
    decoder(
        "mistralai/Mistral-Small-24B-Base-2501",
        layers=40,
        hidden=5120,
        attention=grouped_query(32, 8, 128),
        intermediate=32768,
        vocab=131072,
        positions=32768,
    ),
    decoder(
        "mistralai/Mistral-Small-3.1-24B-Base-2503",
        layers=40,
        hidden=5120,
        attention=grouped_query(32, 8, 128),
        intermediate=32768,
        vocab=131072,
        positions=131072,
        other=_PIXTRAL,
    ),
    decoder(
        "mistralai/Mistral-Large-Instruct-2407",
        layers=88,
        hidden=12288,
        attention=grouped_query(96, 8, 128),
        intermediate=28672,
        vocab=32768,
        positions=131072,
    ),
    mixture(
        "mistralai/Mixtral-8x7B-v0.1",
        layers=32,
        hidden=4096,
        attention=grouped_query(32, 8, 128),
        experts=Experts(experts=8, topk=2, intermediate=14336),
        vocab=32000,
        positions=32768,
    ),
    mixture(
        "mistralai/Mixtral-8x22B-v0.1",
        layers=56,
        hidden=6144,
        attention=grouped_query(48, 8, 128),
        experts=Experts(experts=8, topk=2, intermediate=16384),
        vocab=32000,
        positions=65536,
    ),
)

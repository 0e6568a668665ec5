"""Phi. Source: the config.json files of the named Hugging Face repositories."""

from __future__ import annotations

from typing import Final

from trimtab.catalogue.models.shape import Experts
from trimtab.catalogue.models.stacks import decoder, grouped_query, mixture

PHI: Final = (
    decoder(
        "microsoft/phi-2",
        layers=32,
        hidden=2560,
        attention=grouped_query(32, 32, 80, bias=True),
        intermediate=10240,
        vocab=51200,
        positions=2048,
        gated=False,
    ),
    decoder(
        "microsoft/Phi-3-mini-4k-instruct",
        layers=32,
        hidden=3072,
        attention=grouped_query(32, 32, 96, window=2047),
        intermediate=8192,
        vocab=32064,
        positions=4096,
    ),
    decoder(
        "microsoft/Phi-3-medium-4k-instruct",
        layers=40,
        hidden=5120,
        attention=grouped_query(40, 10, 128, window=2047),
        intermediate=17920,
        vocab=32064,
        positions=4096,
    ),
    mixture(
        "microsoft/Phi-3.5-MoE-instruct",
        layers=32,
        hidden=4096,
        attention=grouped_query(32, 8, 128, bias=True),
        experts=Experts(experts=16, topk=2, intermediate=6400),
        vocab=32064,
        positions=131072,
    ),
    decoder(
        "microsoft/phi-4",
        layers=40,
        hidden=5120,
        attention=grouped_query(40, 10, 128),
        intermediate=17920,
        vocab=100352,
        positions=16384,
    ),
    decoder(
        "microsoft/Phi-4-mini-instruct",
        layers=32,
        hidden=3072,
        attention=grouped_query(24, 8, 128),
        intermediate=8192,
        vocab=200064,
        positions=131072,
        tied=True,
    ),
)

"""gpt-oss. Source: the config.json files of the named Hugging Face repositories and OpenAI's model card (2025)."""

from __future__ import annotations

from typing import Final

from trimtab.catalogue.models.shape import Experts, ModelShape
from trimtab.catalogue.models.stacks import blocks_of, every, grouped_query


def _gpt_oss(name: str, layers: int, experts: int) -> ModelShape:
    """A sliding window of 128 tokens in every second layer, beginning with the first; experts in mxfp4."""
    routed = Experts(experts=experts, topk=4, intermediate=2880)
    full = grouped_query(64, 8, 64, bias=True)
    sliding = grouped_query(64, 8, 64, bias=True, window=128)
    return ModelShape(
        name=name,
        hidden=2880,
        vocab=201088,
        blocks=blocks_of((attention, routed) for attention in every(2, layers, last=full, others=sliding)),
        max_positions=131072,
        native_experts="mxfp4",
    )


GPT_OSS: Final = (
    _gpt_oss("openai/gpt-oss-20b", layers=24, experts=32),
    _gpt_oss("openai/gpt-oss-120b", layers=36, experts=128),
)

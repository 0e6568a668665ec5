"""Finding a well-known model by its name on Hugging Face, however its publisher spells it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Final

from trimtab.catalogue.checkpoints import format_named_in, quantization_named_in, without_quantization
from trimtab.catalogue.models.families import MODELS
from trimtab.catalogue.models.shape import Latent, ModelShape

# Words that say how a model was tuned after training, which leaves its shape as it is.
_TUNING: Final = frozenset(
    {"instruct", "chat", "it", "base", "hf", "thinking", "original", "preview", "meta", "nvidia", "reasoning", "pt"}
)

# Other models of exactly the shape of one in the registry: by the name without publisher, in lower case.
_SAME_SHAPE: Final = {
    "deepseek-r1-0528": "deepseek-r1",
    "deepseek-r1-0528-qwen3-8b": "qwen3-8b",
    "deepseek-r1-distill-llama-70b": "llama-3.3-70b",
    "deepseek-r1-distill-llama-8b": "llama-3.1-8b",
    "deepseek-r1-distill-qwen-14b": "qwen2.5-14b",
    "deepseek-r1-distill-qwen-32b": "qwen2.5-32b",
    "deepseek-v2-chat-0628": "deepseek-v2",
    "deepseek-v3-0324": "deepseek-v3",
    "deepseek-v3.1": "deepseek-v3",
    "deepseek-v3.1-terminus": "deepseek-v3",
    "deepseek-v3.2": "deepseek-v3.2-exp",
    "minimax-m1-40k": "minimax-m1-80k",
    "mistral-large-2411": "mistral-large-2407",
    "mistral-small-3.2-24b-2506": "mistral-small-3.1-24b-2503",
    "mistral-small-3.1-24b-instruct-2503": "mistral-small-3.1-24b-2503",
    "qwen2.5-coder-14b": "qwen2.5-14b",
    "qwen2.5-coder-32b": "qwen2.5-32b",
    "qwen2.5-coder-7b": "qwen2.5-7b",
    "qwq-32b": "qwen2.5-32b",
}


def _tuned(name: str) -> str:
    """`llama-3.1-8b-instruct` -> `llama-3.1-8b`."""
    return "-".join(word for word in name.split("-") if word not in _TUNING)


def _index(models: Iterable[ModelShape]) -> Mapping[str, ModelShape]:
    """By the name as published and by the name without the words of tuning; a published name outweighs."""
    shapes = tuple(models)
    loose: dict[str, ModelShape] = {}
    for shape in shapes:
        loose.setdefault(_tuned(without_quantization(shape.name)), shape)
    return MappingProxyType(loose | {without_quantization(shape.name): shape for shape in shapes})


_BY_NAME: Final = _index(MODELS)


def find_model(text: str) -> ModelShape | None:
    """The shape of the model that a Hugging Face id or a path names, or None where the registry does not have it.

    Publisher prefixes and words of tuning do not matter. A quantization that the name says becomes the `native`
    format: `Qwen/Qwen3-8B-AWQ` is Qwen3-8B in int4_wo. GGUF files hold several formats at once, of which the name says
    too little: None.
    """
    if quantization_named_in(text) == "gguf":
        return None
    name = without_quantization(text)
    candidates = (name, _tuned(name), _SAME_SHAPE.get(name, ""), _SAME_SHAPE.get(_tuned(name), ""))
    shape = next((_BY_NAME[candidate] for candidate in candidates if candidate in _BY_NAME), None)
    return None if shape is None else _in_format(shape, format_named_in(text))


def _in_format(shape: ModelShape, named: str | None) -> ModelShape:
    if named is None:
        return shape
    if named == "nvfp4" and any(isinstance(block.attention, Latent) for block in shape.blocks):
        # NVIDIA's checkpoints of DeepSeek and Kimi leave the attention in bf16 (their model cards).
        return replace(shape, native="bf16", native_experts="nvfp4")
    return replace(shape, native=named, native_experts="")

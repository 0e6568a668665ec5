"""What the model types of Hugging Face transformers mean where the file does not say it: defaults and habits.

Source: the configuration classes of transformers 5.19 (`configuration_<type>.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

_GEMMA_3: Final = {
    "vocab_size": 262208,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 256,
    "max_position_embeddings": 131072,
    "sliding_window": 4096,
    "sliding_window_pattern": 6,
    "tie_word_embeddings": True,
}
_TIED: Final = {"tie_word_embeddings": True}

# Fields that published files of the type leave to its defaults.
DEFAULTS: Final[Mapping[str, Mapping[str, object]]] = MappingProxyType(
    {
        "bloom": _TIED,
        "cohere": _TIED,
        "cohere2": {**_TIED, "sliding_window_pattern": 4},
        "falcon": _TIED,
        "gemma": {**_TIED, "head_dim": 256},
        "gemma2": {**_TIED, "head_dim": 256, "sliding_window": 4096, "sliding_window_pattern": 2},
        "gemma3": _GEMMA_3,
        "gemma3_text": _GEMMA_3,
        "gpt2": _TIED,
        "gpt_bigcode": _TIED,
        "gpt_oss": {"sliding_window_pattern": 2},
        "llama4_text": {"attention_chunk_size": 8192, "no_rope_layer_interval": 4, "interleave_moe_layer_step": 1},
        "opt": _TIED,
        "qwen3_5_moe_text": {"full_attention_interval": 4},
        "qwen3_5_text": {"full_attention_interval": 4},
        "qwen3_next": {"full_attention_interval": 4},
    }
)

# Two matrices in the feed-forward layer instead of three.
UNGATED: Final = frozenset(
    {"bloom", "falcon", "gpt2", "gpt_bigcode", "gpt_neox", "gptj", "mpt", "nemotron", "opt", "phi", "starcoder2"}
)

# Queries, keys and values with a bias, without a field that says so.
BIASED: Final = frozenset({"bloom", "gpt2", "gpt_neox", "opt", "phi", "qwen2", "qwen2_moe"})

# A projected gate on the output of attention.
GATED_ATTENTION: Final = frozenset({"qwen3_next", "qwen3_5", "qwen3_5_text", "qwen3_5_moe", "qwen3_5_moe_text"})

# `sliding_window` holds in every layer; elsewhere it needs a field that says in which.
WINDOW_EVERYWHERE: Final = frozenset({"mistral", "mixtral", "phi3", "phimoe", "starcoder2"})

# `sliding_window` holds from layer `max_window_layers` on, with `use_sliding_window`.
WINDOW_FROM: Final = frozenset({"qwen2", "qwen2_moe", "qwen3", "qwen3_moe"})

# Learned position embeddings, and how many rows they have beyond the longest context.
LEARNED_POSITIONS: Final[Mapping[str, int]] = MappingProxyType({"gpt2": 0, "gpt_bigcode": 0, "opt": 2})

# The feed-forward layer is four times as wide as the model where its width is null.
FOURFOLD: Final = frozenset({"bloom", "falcon", "gpt2", "gpt_bigcode", "gptj"})

KNOWN: Final = frozenset(
    {
        *DEFAULTS,
        *UNGATED,
        *BIASED,
        *GATED_ATTENTION,
        *WINDOW_EVERYWHERE,
        *WINDOW_FROM,
        "deepseek_v2",
        "deepseek_v3",
        "deepseek_v32",
        "glm",
        "glm4",
        "glm4_moe",
        "glm4_moe_lite",
        "glm_moe_dsa",
        "granite",
        "internlm2",
        "kimi_k2",
        "llama",
        "minimax",
        "minimax_m2",
        "minimax_text_01",
        "olmo2",
        "seed_oss",
        "smollm3",
        "stablelm",
    }
)

# Structures that a ModelShape cannot say, with what they are.
UNSUPPORTED: Final[Mapping[str, str]] = MappingProxyType(
    {
        "bamba": "state-space layers",
        "bert": "an encoder",
        "falcon_h1": "state-space layers",
        "falcon_mamba": "state-space layers",
        "granitemoehybrid": "state-space layers",
        "jamba": "state-space layers",
        "mamba": "state-space layers",
        "mamba2": "state-space layers",
        "mllama": "cross attention to images",
        "nemotron_h": "state-space layers",
        "roberta": "an encoder",
        "t5": "an encoder and a decoder",
        "whisper": "an encoder and a decoder",
    }
)

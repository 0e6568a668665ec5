"""What one step needs beside weights and cache: activations, logits, CUDA graphs.

Counted from the tensors that live at once in a step of the largest size, as engines profile it before they size the
cache. No GPU was measured for it; the error is some hundred MiB, of which the reserve takes no account.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from trimtab.catalogue.knob import parse_version
from trimtab.catalogue.models.shape import Attention, Block, Dense, Experts, GroupedQuery, Latent
from trimtab.plan.memory.cache import Numbers
from trimtab.plan.point import ServingPoint

_MIB: Final = 1 << 20
_ELEMENT: Final = 2  # bf16

# Of one logit: bf16 as computed, float32 as sampled from, and one float32 copy.
_LOGIT: Final = 2 + 4 + 4
# vLLM profiles sampling with top-p: two copies more where it draws without sorting (0.32), the sorted values, their
# indices and the sort's buffers where it sorts (0.12). The larger figure is used up to 0.20.
_LOGIT_VLLM: Final = _LOGIT + 4
_LOGIT_VLLM_SORTED: Final = _LOGIT + 4 + 12
_UNSORTED_SINCE: Final = (0, 20, 0)

# Of one captured graph per layer: its nodes and their arguments (vLLM logs 0.5 to 0.6 GiB for 67 sizes of 32 layers).
_GRAPH_PER_LAYER: Final = _MIB // 4
_MOST_GRAPHS: Final = 67


def activation_bytes(point: ServingPoint, step_tokens: Numbers, sequences: Numbers) -> Numbers:
    """Peak of a step with `step_tokens` tokens, or of the sampling of `sequences` logits, whichever is more."""
    per_token = _ELEMENT * (2 * point.model.hidden + max(_widest(point, block) for block in point.model.blocks))
    logits = _per_logit(point) * point.model.vocab
    return np.asarray(np.maximum(per_token * step_tokens, logits * np.minimum(sequences, step_tokens)))


def _per_logit(point: ServingPoint) -> int:
    if point.engine != "vllm":
        return _LOGIT
    version = parse_version(point.version)
    return _LOGIT_VLLM if version is None or version >= _UNSORTED_SINCE else _LOGIT_VLLM_SORTED


def graph_bytes(point: ServingPoint, sequences: Numbers) -> Numbers:
    """Memory of the captured CUDA graphs: one per batch size, in steps of eight up to 512."""
    if point.device.cpu or not point.cuda_graphs:
        return np.zeros(np.shape(sequences))
    graphs = np.minimum(_MOST_GRAPHS, 3 + np.ceil(np.minimum(sequences, 512) / 8))
    return np.asarray(graphs * (point.model.layers / point.layout.pipeline * _GRAPH_PER_LAYER))


def _widest(point: ServingPoint, block: Block) -> float:
    """Elements per token of the widest operation of a layer, inputs and outputs together."""
    tensor = point.layout.tensor
    feed_forward = block.feed_forward
    if isinstance(feed_forward, Dense):
        wide = 3 * feed_forward.intermediate / tensor
    else:
        wide = max(3 * feed_forward.shared / tensor, _routed(point, feed_forward))
    return max(_attention(block.attention) / tensor, wide)


def _routed(point: ServingPoint, experts: Experts) -> float:
    """Each token stands once per chosen expert on this GPU: up and gate, their product, and the output."""
    here = max(1.0, experts.topk / point.layout.expert)
    return here * (3 * experts.intermediate / point.layout.expert_tensor + point.model.hidden)


def _attention(attention: Attention) -> float:
    match attention:
        case GroupedQuery():
            return (2 * attention.q_heads + 2 * attention.kv_heads) * attention.head_dim
        case Latent():  # a prompt is computed with keys and values of all heads
            per_head = 2 * (attention.nope_dim + attention.rope_dim) + 2 * attention.v_dim
            return attention.heads * per_head
        case _:
            return 2 * (attention.k_heads * attention.k_dim + attention.v_heads * attention.v_dim)

"""The shape of a language model: everything that its memory and its time per step depend on, and nothing else.

A model is a stack of blocks, an embedding and a head. Blocks that are alike are counted, so models with mixed layers
(sliding windows beside full attention, dense layers before experts) are a few rows. Sizes are elements, not bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupedQuery:
    """Attention with `q_heads` query heads that share `kv_heads` key and value heads (Ainslie et al., 2023).

    Multi-head attention has as many of both, multi-query attention one. `window` is the number of tokens that a
    sliding-window layer looks back, 0 for all. `gated` layers project an output gate as wide as the queries.
    """

    q_heads: int
    kv_heads: int
    head_dim: int
    window: int = 0
    bias: bool = False
    gated: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Latent:
    """Multi-head latent attention: keys and values share a compressed vector per token (DeepSeek-V2, 2024).

    `q_rank` 0: queries are projected directly. The cache holds kv_rank + rope_dim elements per token and layer,
    the same on every GPU of a tensor-parallel group. `index_heads`, `index_dim`: the indexer of sparse attention,
    0 where there is none; `sparse_topk` tokens are then attended to.
    """

    heads: int
    q_rank: int
    kv_rank: int
    nope_dim: int
    rope_dim: int
    v_dim: int
    index_heads: int = 0
    index_dim: int = 0
    sparse_topk: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Linear:
    """Linear attention or a state-space mixer: a state of fixed size per sequence instead of a cache per token.

    Gated DeltaNet and the like (Yang et al., 2024). `conv` is the width of the short convolution, 0 where there is
    none (Lightning Attention). The state has v_heads * v_dim * k_dim elements, of four bytes each with
    `float32_state`, otherwise of the model's type.
    """

    k_heads: int
    v_heads: int
    k_dim: int
    v_dim: int
    conv: int = 4
    float32_state: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Dense:
    """A feed-forward layer; `gated` (SwiGLU and the like) has three matrices instead of two."""

    intermediate: int
    gated: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Experts:
    """A mixture of experts: `topk` of `experts` per token, and `shared` experts' width in sum for every token."""

    experts: int
    topk: int
    intermediate: int
    shared: int = 0
    gated: bool = True


Attention: TypeAlias = GroupedQuery | Latent | Linear
FeedForward: TypeAlias = Dense | Experts


@dataclass(frozen=True, slots=True)
class Block:
    """`count` layers that are alike."""

    count: int
    attention: Attention
    feed_forward: FeedForward


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelShape:
    """`native` is the format in which the checkpoint holds its layers' matrices: `bf16`, `fp8_block`, `nvfp4`, ...

    `native_experts` is that of the experts' matrices where it differs (gpt-oss: bf16 with experts in mxfp4).
    `other_parameters` counts what stands beside the stack and is held in the model's type: a vision tower with its
    projector, learned position embeddings.
    """

    name: str
    hidden: int
    vocab: int
    blocks: tuple[Block, ...]
    max_positions: int
    tied_embeddings: bool = False
    native: str = "bf16"
    native_experts: str = ""
    other_parameters: int = 0

    @property
    def layers(self) -> int:
        return sum(block.count for block in self.blocks)

"""One step of an engine: decoding a batch, and prefilling a prompt, in milliseconds."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from trimtab.plan.performance.batch import Batch, Variant
from trimtab.plan.performance.coefficients import ENGINES, Coefficients
from trimtab.plan.performance.roofline import Floats
from trimtab.plan.performance.stack import Factors, Index, Stack, stack

# Without CUDA graphs the host launches each kernel: about ten per layer at 4 us each (CUDA's launch latency).
_EAGER_PER_LAYER = 0.04
# A drafting head beside the model: one layer of it and the language-model head per drafted token.
_DRAFT_LAYERS = 1.0


@dataclass(frozen=True)
class Steps:
    """Times of the questions of a batch under given coefficients."""

    batch: Batch
    coefficients: Coefficients

    @cached_property
    def curves(self) -> Stack:
        shared = self.coefficients.shared
        factors = Factors(
            gemm=shared.gemm,
            experts=shared.experts,
            exchange=shared.exchange,
            attention=shared.attention,
            prefill=shared.prefill_attention,
        )
        variants = self.batch.variants
        vendor = np.array([self._vendor(variant) for variant in variants])
        # 4-bit kernels of the tables are newer than most engines.
        linear = vendor * np.array([shared.nvfp4 if variant.nvfp4 else 1.0 for variant in variants])
        return stack(
            self.batch.of,
            [variant.linears for variant in variants],
            [variant.attentions for variant in variants],
            factors,
            (linear, vendor),
        )

    def _vendor(self, variant: Variant) -> float:
        shared = self.coefficients.shared
        return (shared.rocm if variant.rocm else 1.0) * (shared.early_rocm if variant.rocm and variant.early else 1.0)

    def engine(self, name: str) -> Floats:
        """A coefficient of each question's engine."""
        values = np.array([getattr(self.coefficients.engines[engine], name) for engine in ENGINES])
        found: Floats = values[self._engine]
        return found

    @cached_property
    def _engine(self) -> Index:
        return self.batch.each("engine").astype(np.intp)

    @cached_property
    def groups(self) -> Floats:
        """Attention groups and pipeline stages: over so many the sequences of a step are spread."""
        return self.batch.each("data") * self.batch.each("pipeline")

    @cached_property
    def overhead(self) -> Floats:
        """Per decode step, whatever the batch."""
        shared, layers, old = self.coefficients.shared, self.batch.each("layers"), self.batch.each("old")
        fused = shared.fused * self.batch.each("plain_fp8") * (1.0 - old)
        launches = np.array([variant.linears.launches for variant in self.batch.variants])[self.batch.of]
        eager = np.where(self.batch.eager, _EAGER_PER_LAYER * layers, 0.0)
        gaps = self.engine("layer") * layers + shared.unfused * layers * old
        waits = shared.synchronous * self.batch.each("waits") + shared.early_step * self.batch.each("early")
        blocks = shared.block_quantized * self.batch.each("quantizations")
        total: Floats = self.engine("step") + gaps - fused * launches + blocks + waits + eager
        return total

    @cached_property
    def per_sequence(self) -> Floats:
        shared = self.coefficients.shared
        waits = shared.synchronous_sequence * self.batch.each("waits")
        return self.engine("sequence") + waits + shared.early_sequence * self.batch.each("early")

    def decode(self, sequences: Floats, context: Floats) -> Floats:
        """One step of `sequences` in sum over the replica's groups, at `context` tokens each.

        The host's work for each sequence (answers, tokenizer) runs beside the GPU and bounds the step from below.
        """
        own = np.maximum(sequences / self.groups, 1.0)
        tokens = own * (1.0 + self.batch.drafted)
        gpu = self.curves.linear_ms(tokens) + self.curves.head_ms(tokens) + self.curves.decode_ms(own, context)
        gpu = gpu + self.overhead + self.per_sequence * sequences + self._draft(own)
        host = self.coefficients.shared.host_step + self._host * sequences
        return self._beside(gpu, host)

    def _beside(self, gpu: Floats, host: Floats) -> Floats:
        """The host works beside the device, and the slower of both counts; one core does one after the other."""
        return np.where(self.batch.serial, gpu + host, np.cbrt(gpu**3 + host**3))

    @cached_property
    def _host(self) -> Floats:
        lean = self.batch.each("lean")
        return self.engine("host") * (1.0 - lean + lean * self.coefficients.shared.lean_host)

    def _draft(self, own: Floats) -> Floats:
        if not self.batch.drafted.any():
            return np.zeros_like(own)
        one = self.curves.linear_ms(own) * _DRAFT_LAYERS / self.batch.each("layers") + self.curves.head_ms(own)
        return self.batch.drafted * one

    @cached_property
    def tokens_per_step(self) -> Floats:
        """Tokens that a decode step gives each sequence: more than one with speculative decoding."""
        return 1.0 + self.batch.accepted

    @cached_property
    def new_tokens(self) -> Floats:
        """Of a prompt, without those found in the prefix cache; at least one is always computed."""
        return np.maximum(self.batch.prompt * (1.0 - self.batch.cached), 1.0)

    @cached_property
    def chunks(self) -> Floats:
        """Steps that one prompt's prefill is spread over."""
        budget = np.where(self.batch.chunked, self.batch.limits.step_tokens, np.inf)
        return np.maximum(1.0, np.ceil(self.new_tokens / budget))

    @cached_property
    def prefill(self) -> Floats:
        """One prompt alone on its attention group."""
        shared, whole = self.coefficients.shared, self.batch.prompt
        linear = shared.prefill_gemm * self.chunks * self.curves.linear_ms(self.new_tokens / self.chunks)
        attention = self.curves.prefill_ms(whole) - np.where(
            self.batch.cached > 0, self.curves.prefill_ms(whole * self.batch.cached), 0.0
        )
        gpu = linear + np.maximum(attention, 0.0) + shared.prefill_step
        host = self.engine("launch") * self.batch.each("launched") * self.chunks
        return self._beside(gpu, host) + np.where(self.batch.serial, self.engine("first"), 0.0)

    @cached_property
    def outside(self) -> Floats:
        """What a request takes outside of the engine's steps, beside them: HTTP, tokenizer."""
        return np.where(self.batch.serial, 0.0, self.engine("first"))

    @cached_property
    def chunk(self) -> Floats:
        """The longest step that a prefill adds to the running sequences' tokens."""
        return self.prefill / self.chunks

    def bound(self, sequences: Floats, context: Floats) -> Floats:
        """No decode step is faster: weights and cache over the bandwidth, operations over the peak."""
        own = np.maximum(sequences / self.groups, 1.0)
        return self.curves.bound_ms(own) + self.curves.read_ms(own, context)

    @cached_property
    def prefill_bound(self) -> Floats:
        """No prefill is faster: its operations over the peak, and the weights once over the bandwidth."""
        return self.curves.bound_ms(self.new_tokens)

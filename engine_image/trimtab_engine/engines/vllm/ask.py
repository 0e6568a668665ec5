"""What is asked of vLLM and its workers when they are up."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Any

from trimtab_engine.engines.common.proof import PROMPTS, TOKENS
from trimtab_engine.engines.facts import Attention
from trimtab_engine.engines.vllm.worker import QUESTION

log = logging.getLogger("trimtab_engine.gate")

SECONDS = 60.0  # a worker that compiles answers when it has done
CHECK_SECONDS = 600.0


async def attention_of(state: Any) -> Attention | None:
    """The kernel that vLLM's workers chose; None where they do not tell. `state` is that of vLLM's application."""
    try:
        async with asyncio.timeout(SECONDS):
            (first, *_) = await state.engine_client.collective_rpc(QUESTION)
        return Attention(kernel=" and ".join(first["kernels"]) or "none", device=str(first["device"]))
    except Exception as error:  # noqa: BLE001 - it serves as well when nobody knows
        log.warning("Which kernel computes attention is not known: %s: %s", type(error).__name__, error)
        return None


async def answers_of(state: Any, salt: str) -> list[list[int]]:
    """What vLLM answers to the prompts of the check. Another `salt` begins without keys and values of earlier ones."""
    from vllm import SamplingParams
    from vllm.inputs.engine import tokens_input

    client = state.engine_client
    longest = int(state.vllm_config.model_config.max_model_len)
    most = min(TOKENS, longest // 2)
    asked = SamplingParams(temperature=0, max_tokens=most, ignore_eos=True)
    answers: list[list[int]] = []
    async with asyncio.timeout(CHECK_SECONDS):
        for number, prompt in enumerate(PROMPTS):
            tokens = [int(token) for token in client.get_tokenizer()(prompt).input_ids][: longest - most]
            said: list[int] = []
            prompted = tokens_input(tokens, cache_salt=salt)
            async for output in client.generate(prompted, asked, f"trimtab-check-{salt}-{number}"):
                said = [int(token) for token in output.outputs[0].token_ids]
            answers.append(said)
    return answers


async def likelihoods_of(state: Any, tokens: Sequence[int]) -> list[float]:
    """The log-probability (nats) of each of the tokens after the first, as far as the context goes."""
    from vllm import SamplingParams
    from vllm.inputs.engine import tokens_input

    asked = SamplingParams(max_tokens=1, prompt_logprobs=0, detokenize=False)
    tokens = tokens[: int(state.vllm_config.model_config.max_model_len) - 1]
    prompted = tokens_input(list(tokens), cache_salt="trimtab-check")
    found: list[float] = []
    async with asyncio.timeout(CHECK_SECONDS):
        async for output in state.engine_client.generate(prompted, asked, "trimtab-check-model"):
            if output.prompt_logprobs:
                pairs = zip(tokens[1:], output.prompt_logprobs[1:], strict=True)
                found = [float(likely[token].logprob) for token, likely in pairs]
    return found

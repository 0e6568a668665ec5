"""What is asked of vLLM's workers when they are up."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from trimtab_engine.engines.facts import Attention
from trimtab_engine.engines.vllm.worker import QUESTION

log = logging.getLogger("trimtab_engine.gate")

SECONDS = 60.0  # a worker that compiles answers when it has done


async def attention_of(state: Any) -> Attention | None:
    """The kernel that vLLM's workers chose; None where they do not tell. `state` is that of vLLM's application."""
    try:
        async with asyncio.timeout(SECONDS):
            (first, *_) = await state.engine_client.collective_rpc(QUESTION)
        return Attention(kernel=" and ".join(first["kernels"]) or "none", device=str(first["device"]))
    except Exception as error:  # noqa: BLE001 - it serves as well when nobody knows
        log.warning("Which kernel computes attention is not known: %s: %s", type(error).__name__, error)
        return None

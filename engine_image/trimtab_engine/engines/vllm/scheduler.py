"""The scheduler class for `vllm serve --scheduler-cls trimtab_engine.engines.vllm.scheduler.live_scheduler`.

vLLM 0.32 resolves the name and calls what it finds with the scheduler's arguments, so a function may choose the class:
the one for asynchronous scheduling where vLLM schedules asynchronously (on GPUs), and the plain one elsewhere.
"""

from __future__ import annotations

from typing import Any

from vllm.v1.core.sched.async_scheduler import AsyncScheduler
from vllm.v1.core.sched.scheduler import Scheduler

from trimtab_engine.engines.vllm.live import LiveLimits


class LiveScheduler(LiveLimits, Scheduler):  # type: ignore[misc] # vLLM has no types here
    """vLLM's scheduler with live limits."""


class LiveAsyncScheduler(LiveLimits, AsyncScheduler):  # type: ignore[misc]
    """vLLM's asynchronous scheduler with live limits."""


def live_scheduler(*args: Any, **kwargs: Any) -> LiveLimits:
    """The scheduler that fits the way in which this vLLM schedules."""
    config = kwargs["vllm_config"] if "vllm_config" in kwargs else args[0]
    kind = LiveAsyncScheduler if config.scheduler_config.async_scheduling else LiveScheduler
    return kind(*args, **kwargs)

"""Limits that change while vLLM's scheduler runs.

vLLM 0.32 reads these attributes on every `schedule()` and never writes them after its start
(`vllm/v1/core/sched/scheduler.py`, `vllm/v1/core/kv_cache_manager.py`), so setting them between two steps changes the
next one and nothing else: lowering a limit lets what runs run on and admits nobody until there is room.
"""

from __future__ import annotations

import logging
import time
from typing import Any

from trimtab_engine.engines.facts import EngineFacts
from trimtab_engine.engines.vllm.guesses import LiveGuesses, method_of
from trimtab_engine.limits.limits import Capacity, Limits, within
from trimtab_engine.shared.board import Board, Notice
from trimtab_engine.shared.folder import run_folder
from trimtab_engine.shared.starts import Starts
from trimtab_engine.shared.wanted import WantedFile

# What is set, beside `scheduler_config.long_prefill_token_threshold` and `kv_cache_manager.watermark_blocks`.
NEEDED = ("max_num_active_reqs", "max_num_scheduled_tokens")

log = logging.getLogger("trimtab_engine.scheduler")


class IncompatibleVllmError(RuntimeError):
    """This vLLM has no scheduler whose limits can change while it runs."""


def capacity_of(vllm_config: Any) -> Capacity:
    """What a vLLM was started with, from its own resolved configuration."""
    scheduler, model = vllm_config.scheduler_config, vllm_config.model_config
    speculative = int(getattr(vllm_config, "num_speculative_tokens", 0) or 0)
    chunked = bool(scheduler.enable_chunked_prefill)
    aligned = getattr(vllm_config.cache_config, "mamba_cache_mode", "") == "align"
    # A prompt that may not be cut needs a step for all of it; some layers cut prompts at whole blocks only.
    block = int(vllm_config.cache_config.block_size or 1) if aligned else 1
    longest = int(model.max_model_len)
    tokens = int(scheduler.max_num_batched_tokens)
    if speculative:  # vLLM keeps room in the step for the tokens that it guesses
        tokens = min(tokens, int(scheduler.max_num_scheduled_tokens or tokens))
    return Capacity(
        running_requests=int(scheduler.max_num_seqs),
        tokens_per_step=tokens,
        longest_context=longest,
        smallest_step=min(block if chunked else longest, tokens),
        tokens_per_request=1 + speculative,
        priorities=str(getattr(scheduler, "policy", "")) == "priority",
    )


def limits_of(vllm_config: Any) -> Limits:
    """The limits that a vLLM was started with: all of its capacity, unless its own flags say less."""
    scheduler, capacity = vllm_config.scheduler_config, capacity_of(vllm_config)
    return Limits(
        max_running_requests=int(scheduler.max_num_active_seqs or capacity.running_requests),
        max_tokens_per_step=int(scheduler.max_num_scheduled_tokens or capacity.tokens_per_step),
        long_prompt_tokens_per_step=int(scheduler.long_prefill_token_threshold or 0),
        kv_headroom_percent=min(90, round(100 * float(scheduler.watermark or 0.0))),
    )


def facts_of(vllm_config: Any) -> EngineFacts:
    """What the gate has to know of vLLM."""
    return EngineFacts(
        name="vllm",
        capacity=capacity_of(vllm_config),
        resting=limits_of(vllm_config),
        speculation=method_of(vllm_config),
    )


def apply(scheduler: Any, limits: Limits) -> None:
    """Sets the limits in a vLLM scheduler: in force from its next `schedule()` on."""
    scheduler.max_num_active_reqs = limits.max_running_requests
    scheduler.max_num_scheduled_tokens = limits.max_tokens_per_step
    scheduler.scheduler_config.long_prefill_token_threshold = limits.long_prompt_tokens_per_step
    manager = scheduler.kv_cache_manager
    manager.watermark_blocks = manager.kv_cache_config.num_blocks * limits.kv_headroom_percent // 100


class LiveLimits(LiveGuesses):
    """Put before vLLM's Scheduler or AsyncScheduler in the bases of a class.

    Before each step it looks whether other limits are wanted and sets them; after each it posts what the engine does.
    A file that cannot be read stops no step: the limits stay, and the log says why.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        missing = [name for name in NEEDED if not hasattr(self, name)]
        if missing:
            raise IncompatibleVllmError(f"this vLLM's scheduler has no {', '.join(missing)}; 0.32 has")
        me: Any = self
        folder = run_folder()
        self._capacity = capacity_of(me.vllm_config)
        self._wanted = WantedFile(folder)
        rank = int(getattr(me.parallel_config, "data_parallel_index", 0) or 0)
        self._board = Board(folder, rank)
        self._starts = Starts(folder, rank)
        self.watch(folder)
        self._revision = 0
        self._steps = 0
        self._trouble = ""

    def schedule(self, *args: Any, **kwargs: Any) -> Any:
        self._take_wanted()
        self.take_switch()
        output = super().schedule(*args, **kwargs)  # type: ignore[misc]
        self._steps += 1
        # Only traces want to know: a vLLM that calls it otherwise serves as well.
        for request in getattr(output, "scheduled_new_reqs", ()):
            self._starts.post(request.req_id, time.monotonic())
        self._post()
        return output

    def update_from_output(self, *args: Any, **kwargs: Any) -> Any:
        output = super().update_from_output(*args, **kwargs)  # type: ignore[misc]
        self._post()
        return output

    def finish_requests(self, *args: Any, **kwargs: Any) -> Any:
        output = super().finish_requests(*args, **kwargs)  # type: ignore[misc]
        self._post()
        return output

    def _take_wanted(self) -> None:
        try:
            wanted = self._wanted.read_if_changed()
        except (OSError, ValueError, KeyError, TypeError) as error:
            if self._trouble != str(error):
                self._trouble = str(error)
                log.error("The limits stay: what is wanted cannot be read: %s", error)
            return
        if wanted is None or wanted.revision == self._revision:
            return
        apply(self, within(wanted.limits, self._capacity))
        self._revision, self._trouble = wanted.revision, ""
        log.info("Limits %d are in force: %s", wanted.revision, wanted.limits)

    def _post(self) -> None:
        me: Any = self
        running, waiting = me.get_request_counts()
        guessed = self.guessed
        self._board.post(
            Notice(
                revision=self._revision,
                steps=self._steps,
                running=running,
                waiting=waiting,
                kv_usage=float(me.kv_cache_manager.usage),
                at=time.monotonic(),
                drafts=guessed.drafts,
                draft_tokens=guessed.tokens,
                accepted_tokens=guessed.accepted,
            )
        )

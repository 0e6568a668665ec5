"""Speculative decoding in vLLM: set up by its arguments, switched while it serves, counted.

Which tokens a step shall guess stands in the scheduler's output (0.32, `vllm/v1/core/sched/output.py`,
`num_spec_tokens_to_schedule`); vLLM's own schedules by the size of the batch set it, and 0 is one of their values. With
0 no guesses are made or checked; a draft model still computes each step once, so that its cache is complete when
guessing goes on (`vllm/v1/spec_decode/llm_base_proposer.py`).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from trimtab_engine.config.speculation import SpeculationConfig
from trimtab_engine.shared.switched import SwitchFile
from trimtab_engine.speculation.acceptance import Guessed


def arguments(config: SpeculationConfig) -> list[str]:
    """What vLLM is started with (`vllm/config/speculative.py`)."""
    if config.method == "off":
        return []
    asked: dict[str, Any] = {"num_speculative_tokens": config.tokens}
    if config.method == "draft":
        asked |= {"method": "draft_model", "model": str(config.draft_model)}
    else:
        asked |= {"method": "ngram"}
        asked |= {"prompt_lookup_min": config.shortest_match, "prompt_lookup_max": config.longest_match}
    return ["--speculative-config", json.dumps(asked)]


def method_of(vllm_config: Any) -> str:
    """How this vLLM guesses; empty where it does not."""
    return str(getattr(getattr(vllm_config, "speculative_config", None), "method", None) or "")


class LiveGuesses:
    """Put before vLLM's Scheduler or AsyncScheduler in the bases of a class; `watch` the run folder after that."""

    guessed = Guessed()
    _guesses: SwitchFile | None = None
    _guessing = True

    def watch(self, folder: Path) -> None:
        self._guesses = SwitchFile(folder)

    def take_switch(self) -> None:
        """Looks whether guessing was switched; in force in the step that is made next."""
        switch = self._guesses.news() if self._guesses else None
        if switch is not None:
            self._guessing = switch.on

    def _update_after_schedule(self, scheduler_output: Any) -> None:
        if not self._guessing:
            scheduler_output.num_spec_tokens_to_schedule = 0
        super()._update_after_schedule(scheduler_output)  # type: ignore[misc]

    def make_spec_decoding_stats(self, *args: Any, **kwargs: Any) -> Any:
        """Called for each answer of the model to guesses of one request."""
        tokens, accepted = int(kwargs.get("num_draft_tokens", 0)), int(kwargs.get("num_accepted_tokens", 0))
        if tokens:
            self.guessed += Guessed(drafts=1, tokens=tokens, accepted=accepted)
        return super().make_spec_decoding_stats(*args, **kwargs)  # type: ignore[misc]

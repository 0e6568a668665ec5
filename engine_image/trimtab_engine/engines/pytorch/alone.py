"""One request alone, with guesses, in a thread of its own.

The continuous batching of transformers (5.19) refuses an assistant model and has no place for guesses. So a request
that runs alone is generated here, by the library's assisted generation; as soon as another one comes, it goes on in the
batch from what it has said.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from transformers import GenerationConfig
from transformers.generation.stopping_criteria import StoppingCriteriaList
from transformers.generation.streamers import BaseStreamer

from trimtab_engine.config.speculation import SpeculationConfig
from trimtab_engine.engines.pytorch.candidates import guesses, twin_of
from trimtab_engine.speculation.acceptance import Guessed

log = logging.getLogger("trimtab_engine.pytorch")


@dataclass(kw_only=True, eq=False)
class Solo:
    """A request without temperature. `said` is called with all tokens so far, and whether that is all; `left` when it
    had to stop before. Both come from the thread."""

    tokens: list[int]
    most: int
    end_tokens: frozenset[int]
    said: Callable[[list[int], bool], None]
    left: Callable[[list[int]], None]
    answer: list[int] = field(default_factory=list)
    finished: bool = False
    leaving: threading.Event = field(default_factory=threading.Event)

    def take(self, new: list[int]) -> None:
        self.answer += new
        self.finished = len(self.answer) >= self.most or self.answer[-1] in self.end_tokens
        self.said(list(self.answer), self.finished)


class _Mouth(BaseStreamer):  # type: ignore[misc] # transformers has no types here
    """Takes tokens as they come; the first that `generate` puts are those of the prompt."""

    def __init__(self, solo: Solo) -> None:
        self._solo = solo
        self._prompt = True

    def put(self, value: torch.Tensor) -> None:
        if not self._prompt:
            self._solo.take([int(token) for token in value.flatten().tolist()])
        self._prompt = False

    def end(self) -> None:
        """What is finished is known by its tokens."""


class Alone:
    """`begin` one request at a time; it may be made to leave. `fault` tells why there are no more guesses."""

    def __init__(self, model: Any, config: SpeculationConfig, *, draft: Any | None) -> None:
        self.fault = ""
        self.guessed = Guessed()
        self._model = twin_of(model)
        self._draft = draft
        self._lookup = config.tokens if draft is None else None
        guesses(self._model, config, draft=draft, found=self._count)
        self._jobs: queue.SimpleQueue[Solo | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="alone", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._jobs.put(None)
        self._thread.join(10)

    def begin(self, solo: Solo) -> None:
        self._jobs.put(solo)

    def _run(self) -> None:
        while (solo := self._jobs.get()) is not None:
            try:
                self.generate(solo)
            except Exception as error:
                log.exception("A request could not be generated alone")
                self.fault = f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]
            if not solo.finished:
                solo.left(list(solo.answer))

    def generate(self, solo: Solo) -> None:
        """Until it is finished, or shall leave."""
        ends = sorted(solo.end_tokens)
        generation = GenerationConfig(
            do_sample=False,
            max_new_tokens=solo.most,
            eos_token_id=ends or None,
            pad_token_id=0,
            use_cache=True,
            prompt_lookup_num_tokens=self._lookup,
        )
        ids = torch.tensor([solo.tokens], device=self._model.device)

        def shall_leave(input_ids: torch.Tensor, _scores: object, **_more: object) -> torch.Tensor:
            return torch.full((input_ids.shape[0],), solo.leaving.is_set(), device=input_ids.device)

        self._model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            generation_config=generation,
            stopping_criteria=StoppingCriteriaList([shall_leave]),
            streamer=_Mouth(solo),
            assistant_model=self._draft,
        )

    def _count(self, new: Guessed) -> None:
        self.guessed += new

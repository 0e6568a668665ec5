"""Guesses within transformers' assisted generation (5.19, `generation/candidate_generator.py`), counted.

The library makes the steps, checks the guesses and rolls its cache back. Its own prompt lookup takes the first place
that reads alike, of one token at least; ours takes the latest and the lengths of the configuration.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from transformers import GenerationConfig
from transformers.generation.candidate_generator import CandidateGenerator

from trimtab_engine.config.speculation import SpeculationConfig
from trimtab_engine.speculation.acceptance import Guessed
from trimtab_engine.speculation.guess import Guesser, lookup

Found = Callable[[Guessed], None]


class Counted(CandidateGenerator):  # type: ignore[misc] # transformers has no types here
    """Passes on what another one proposes, and tells what came of it."""

    def __init__(self, inner: CandidateGenerator, found: Found) -> None:
        self._inner = inner
        self._found = found
        self.requires_model_outputs = inner.requires_model_outputs

    def get_candidates(self, input_ids: torch.Tensor, **given: Any) -> tuple[torch.Tensor, torch.Tensor | None]:
        return self._inner.get_candidates(input_ids, **given)  # type: ignore[no-any-return]

    def update_candidate_strategy(self, input_ids: torch.Tensor, scores: torch.Tensor, num_matches: int) -> None:
        """`scores` are those of the tokens that were proposed, and of one more."""
        tokens = int(scores.shape[1]) - 1
        if tokens:
            self._found(Guessed(drafts=1, tokens=tokens, accepted=int(num_matches)))
        self._inner.update_candidate_strategy(input_ids, scores, num_matches)


class Lookup(CandidateGenerator):  # type: ignore[misc]
    """Proposes what followed an earlier place of the text; `longest` is how long the text may become."""

    def __init__(self, guesser: Guesser, *, tokens: int, longest: int) -> None:
        self._guesser = guesser
        self._tokens = tokens
        self._longest = longest

    def get_candidates(self, input_ids: torch.Tensor, **given: Any) -> tuple[torch.Tensor, None]:
        most = min(self._tokens, self._longest - int(input_ids.shape[1]) - 1)
        proposed = self._guesser(input_ids[0].tolist(), most) if most > 0 else []
        return torch.cat((input_ids, input_ids.new_tensor([proposed], dtype=input_ids.dtype)), dim=1), None

    def update_candidate_strategy(self, input_ids: torch.Tensor, scores: torch.Tensor, num_matches: int) -> None:
        """The next proposal is as long as this one."""


def twin_of(model: Any) -> Any:
    """A second model over the same weights: what transformers sets on it does not reach the first."""
    shared = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
    twin = copy.deepcopy(model, shared)
    twin.generation_config = GenerationConfig()  # nothing but what a request sets
    return twin


def guesses(model: Any, config: SpeculationConfig, *, draft: Any | None, found: Found) -> None:
    """Makes a model guess where `generate` is given the draft, or (None) a `prompt_lookup_num_tokens`."""
    if draft is not None:
        draft.generation_config = GenerationConfig(
            num_assistant_tokens=config.tokens,
            num_assistant_tokens_schedule="constant",
            assistant_confidence_threshold=0.0,  # it always guesses as many
        )
    guesser = lookup(config)

    def candidates(**given: Any) -> CandidateGenerator:
        if draft is not None:
            return Counted(type(model)._get_candidate_generator(model, **given), found)
        longest = int(given["generation_config"].max_length)
        return Counted(Lookup(guesser, tokens=config.tokens, longest=longest), found)

    model._get_candidate_generator = candidates

"""What is compared of two pods' answers to the same probes: perplexity, greedy tokens, length of answers."""

from __future__ import annotations

import math
from collections.abc import Sequence

from trimtab.judge.quality.paired import Estimate, ratio
from trimtab.model.quality import Scored

# A token less probable than this is impossible for all purposes. Engines write -9999 for one, which is more than a sum.
_LEAST_LOGPROB = -30.0


def surprise(base: Sequence[Scored], other: Sequence[Scored]) -> Estimate:
    """How much the logarithm of the perplexity of the texts rises from `base` to `other`, in nats per token."""
    rises = [_surprise(there) - _surprise(here) for here, there in zip(base, other, strict=True)]
    return ratio(rises, [float(_scored(here)) for here in base])


def disagreement(base: Sequence[Scored], other: Sequence[Scored]) -> Estimate:
    """The share of places at which the two would say different tokens.

    A place is a token of the text, and of the continuation as long as both have said the same: so both have always read
    the same, and one early difference does not count for all that follows from it.
    """
    counts = [_differing(here, there) for here, there in zip(base, other, strict=True)]
    return ratio([float(differing) for differing, _ in counts], [float(places) for _, places in counts])


def lengthening(base: Sequence[Scored], other: Sequence[Scored]) -> Estimate:
    """By how much the continuations of `other` are longer in all, as a share of those of `base`."""
    longer = [float(there.length - here.length) for here, there in zip(base, other, strict=True)]
    return ratio(longer, [float(here.length) for here in base])


def same_cut(one: Scored, other: Scored) -> bool:
    """Whether both cut the text into the same tokens; if not, they are not versions of one model."""
    return one.tokens[: one.text_tokens] == other.tokens[: other.text_tokens]


def _scored(answer: Scored) -> int:
    return sum(value is not None for value in answer.logprobs[: answer.text_tokens])


def _surprise(answer: Scored) -> float:
    found = (value for value in answer.logprobs[: answer.text_tokens] if value is not None)
    return -math.fsum(max(value, _LEAST_LOGPROB) for value in found)


def _differing(one: Scored, other: Scored) -> tuple[int, int]:
    """(places at which the greedy tokens differ, places)"""
    differing = places = 0
    for index in range(1, min(len(one.tokens), len(other.tokens))):
        places += 1
        differing += one.greedy[index] != other.greedy[index]
        if index >= one.text_tokens and one.tokens[index] != other.tokens[index]:
            break
    return differing, places

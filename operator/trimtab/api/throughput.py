"""Throughput before a trial and after its promotion: what all pods carry while one revision serves alone.

Beside each other canary and stable have the share of the load that they are given, so their tokens per second say
nothing of the configuration. Before and after, the revision that serves has all of it; and where requests waited
before, tokens per second were what the configuration gives.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from trimtab.model.wording import number

_QUEUE: Final = 1.0  # requests waiting per pod: with fewer, what arrives is served
_OTHER_LENGTHS: Final = 1.25  # a ratio of mean lengths beyond it is other work
_MOVED: Final = 0.05  # a figure that moved by less is not written again
_NAMES: Final = ("outputTokensPerSecond", "pods", "waitingPerPod", "promptTokens", "outputTokens")


@dataclass(frozen=True, slots=True, kw_only=True)
class Carried:
    """Of all pods of the one revision that serves: output tokens per second, requests that wait, mean lengths."""

    tokens: float
    pods: float
    waiting: float
    prompt: float
    output: float

    def numbers(self, when: str) -> dict[str, float]:
        """As figures of a step, three digits each."""
        values = (self.tokens, self.pods, self.waiting / self.pods, self.prompt, self.output)
        return {f"{when}.{name}": float(f"{value:.3g}") for name, value in zip(_NAMES, values, strict=True)}


def kept(measured: Mapping[str, float]) -> dict[str, float]:
    """The figures of before and after among those of a step."""
    return {name: value for name, value in measured.items() if name.startswith(("before.", "after."))}


def with_before(measured: Mapping[str, float], carried: Carried | None) -> dict[str, float]:
    """Taken once, when the trial begins."""
    if carried is None or "before.pods" in measured:
        return kept(measured)
    return {**kept(measured), **carried.numbers("before")}


def with_after(measured: Mapping[str, float], carried: Carried | None) -> dict[str, float]:
    """Taken while the promoted revision is watched, over all of the watch so far."""
    if carried is None:
        return kept(measured)
    new, old = carried.numbers("after"), kept(measured)
    if all(_close(old.get(name), value) for name, value in new.items()):
        return old
    return {**old, **new}


def ratio(measured: Mapping[str, float]) -> float | str:
    """Tokens per second and pod, after to before; or why the two do not tell, as a sentence."""
    before, after = ([measured.get(f"{when}.{name}") for name in _NAMES] for when in ("before", "after"))
    if None in before or None in after:
        return "Throughput was not recorded both before the trial and after the promotion."
    tokens, pods, waiting, *lengths = (value or 0.0 for value in before)
    tokens_after, pods_after, waiting_after, *lengths_after = (value or 0.0 for value in after)
    if waiting < _QUEUE:
        return f"{number(waiting)} requests waited per pod before: tokens per second followed the load."
    pairs = list(zip(lengths, lengths_after, strict=True))
    if not all(1 / _OTHER_LENGTHS <= new / max(old, 1e-9) <= _OTHER_LENGTHS for old, new in pairs):
        told = ", ".join(f"{number(old)} -> {number(new)}" for old, new in pairs)
        return f"The requests are others than before the trial: mean prompt and output tokens {told}."
    found = tokens_after / max(pods_after, 1.0) / max(tokens / max(pods, 1.0), 1e-9)
    if waiting_after < _QUEUE and found <= 1.0:
        return "Fewer requests came than before the trial, and all of them were served."
    return found


def _close(old: float | None, new: float) -> bool:
    return old is not None and abs(new - old) <= _MOVED * max(abs(old), 1.0)

"""The limits that change while the engine serves, and the capacity that bounds them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What is in force from the next step of the engine on.

    None means "no bound". `long_prompt_tokens_per_step` is 0 where a long prompt may take the whole step.
    """

    max_running_requests: int
    max_tokens_per_step: int
    long_prompt_tokens_per_step: int = 0
    kv_headroom_percent: int = 0
    max_queued_requests: int | None = None
    max_wait_seconds: float | None = None

    def as_json(self) -> dict[str, int | float | None]:
        """The fields by name; `limits_from_json` is the way back."""
        return asdict(self)


LIMITS = tuple(field.name for field in fields(Limits))


@dataclass(frozen=True, kw_only=True)
class Capacity:
    """What the engine was started with: requests, tokens. Limits move below it without a restart.

    `smallest_step` is the fewest tokens with which every accepted prompt still makes progress, and
    `tokens_per_request` what one decoding request takes of a step (more than 1 with speculative decoding).
    `priorities`: whether the engine takes waiting requests by their priority. `adaptive`: whether the size of its
    batches can follow the time between tokens.
    """

    running_requests: int
    tokens_per_step: int
    longest_context: int
    smallest_step: int = 1
    tokens_per_request: int = 1
    priorities: bool = False
    adaptive: bool = False


def within(limits: Limits, capacity: Capacity) -> Limits:
    """The limits, lowered where they exceed the capacity and raised where the engine could not go on with them."""
    running = max(1, min(limits.max_running_requests, capacity.running_requests))
    floor = max(capacity.smallest_step, running * capacity.tokens_per_request)
    return replace(
        limits,
        max_running_requests=running,
        max_tokens_per_step=min(max(limits.max_tokens_per_step, floor), capacity.tokens_per_step),
        long_prompt_tokens_per_step=min(limits.long_prompt_tokens_per_step, capacity.longest_context),
    )


def limits_from_json(document: Mapping[str, object]) -> Limits:
    """Limits from what `as_json` gave. Raises TypeError on other fields."""
    return Limits(**document)  # type: ignore[arg-type]

"""What one request says of the server, and what a window of them adds up to. Times in seconds."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any


class Outcome(StrEnum):
    """How a request ended, as a label of the counter."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"  # the engine answered 5xx, an error within the stream, or nothing
    TIMED_OUT = "timed_out"
    INVALID = "invalid"  # the client's fault: 4xx
    ABORTED = "aborted"  # the client went away
    REFUSED = "refused"  # 429


# Ends that say something of the server: the others are the client's.
COUNTED = frozenset({Outcome.SUCCEEDED, Outcome.FAILED, Outcome.TIMED_OUT})


@dataclass(frozen=True, kw_only=True)
class Percentiles:
    """p50, p95 and p99 of `count` values, in seconds."""

    count: int
    p50: float
    p95: float
    p99: float

    def as_json(self) -> dict[str, float]:
        return {name: round(value, 6) for name, value in asdict(self).items()}


@dataclass(frozen=True, kw_only=True)
class Window:
    """What happened in `seconds`: how requests ended, tokens, percentiles (None where there is no value)."""

    seconds: float
    outcomes: dict[Outcome, int]
    prompt_tokens: int
    output_tokens: int
    ttft: Percentiles | None
    itl: Percentiles | None
    latency: Percentiles | None

    @property
    def ended(self) -> int:
        """Requests whose end says something of the server."""
        return sum(count for outcome, count in self.outcomes.items() if outcome in COUNTED)

    @property
    def error_share(self) -> float | None:
        """0 to 1; None where nothing ended."""
        ended = self.ended
        return (ended - self.outcomes.get(Outcome.SUCCEEDED, 0)) / ended if ended else None

    @property
    def requests_per_second(self) -> float:
        """Requests that succeeded."""
        return self.outcomes.get(Outcome.SUCCEEDED, 0) / self.seconds if self.seconds else 0.0

    @property
    def tokens_per_second(self) -> float:
        """Tokens of answers."""
        return self.output_tokens / self.seconds if self.seconds else 0.0

    def as_json(self) -> dict[str, Any]:
        share = self.error_share
        return {
            "seconds": round(self.seconds, 3),
            "requests": {outcome.value: self.outcomes.get(outcome, 0) for outcome in Outcome},
            "requests_per_second": round(self.requests_per_second, 4),
            "prompt_tokens": self.prompt_tokens,
            "output_tokens": self.output_tokens,
            "output_tokens_per_second": round(self.tokens_per_second, 3),
            "error_share": None if share is None else round(share, 6),
            "time_to_first_token_seconds": self.ttft and self.ttft.as_json(),
            "inter_token_seconds": self.itl and self.itl.as_json(),
            "latency_seconds": self.latency and self.latency.as_json(),
        }

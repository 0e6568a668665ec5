"""What a run of the bench found, as it is written to a file and read again. Pure.

A `Sample` is a request: seconds since the run began, latencies in seconds, tokens. A `Scenario` is all requests under
one kind of traffic. A `Result` is a run over a server: scenarios, and which engine answered.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

FORMAT = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One request. `reason` is None where it was answered; `ttft` is None where the answer came whole."""

    began: float
    seconds: float
    ttft: float | None
    prompt_tokens: int
    output_tokens: int
    reason: str | None = None
    text: str | None = None

    @property
    def seconds_per_token(self) -> float | None:
        """Mean time between two tokens, in seconds; None for answers that came whole, or with one token."""
        if self.ttft is None or self.output_tokens < 2:
            return None
        return (self.seconds - self.ttft) / (self.output_tokens - 1)


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """The requests under one traffic. `seconds` is the time from the first request that counts to the last answer;
    `memory_bytes` the resident memory of the server's process at the end, None where it does not tell."""

    name: str
    seconds: float
    traffic: Mapping[str, Any]
    samples: tuple[Sample, ...]
    skipped: int = 0
    memory_bytes: float | None = None

    @property
    def answered(self) -> tuple[Sample, ...]:
        return tuple(sample for sample in self.samples if sample.reason is None)

    @property
    def tokens_per_second(self) -> float:
        return sum(sample.output_tokens for sample in self.answered) / self.seconds

    @property
    def requests_per_second(self) -> float:
        return len(self.answered) / self.seconds

    @property
    def error_rate(self) -> float:
        """Share of the requests that were not answered."""
        return 1.0 - len(self.answered) / len(self.samples) if self.samples else 0.0

    def failures(self) -> dict[str, int]:
        return dict(sorted(Counter(sample.reason for sample in self.samples if sample.reason is not None).items()))

    def latencies(self, kind: str) -> list[float]:
        """Seconds of the answered requests: `ttft`, `tpot` (per token after the first) or `e2e`."""
        take: dict[str, Callable[[Sample], float | None]] = {
            "ttft": lambda sample: sample.ttft,
            "tpot": lambda sample: sample.seconds_per_token,
            "e2e": lambda sample: sample.seconds,
        }
        found = [take[kind](sample) for sample in self.answered]
        return [value for value in found if value is not None]

    def percentile(self, kind: str, share: float) -> float | None:
        """Milliseconds below which `share` (0 to 1) of the latencies lie; None without any."""
        values = self.latencies(kind)
        return round(1e3 * float(np.quantile(values, share)), 3) if values else None

    def summary(self) -> dict[str, Any]:
        """The figures that people look at."""
        return {
            "requests": len(self.samples),
            "answered": len(self.answered),
            "skipped": self.skipped,
            "failures": self.failures(),
            "error_rate": round(self.error_rate, 6),
            "tokens_per_second": round(self.tokens_per_second, 3),
            "requests_per_second": round(self.requests_per_second, 4),
            **{
                f"{kind}_ms": {f"p{share}": self.percentile(kind, share / 100) for share in (50, 95, 99)}
                for kind in ("ttft", "tpot", "e2e")
            },
            "memory_bytes": self.memory_bytes,
        }


@dataclass(frozen=True, kw_only=True)
class Result:
    """A run. `metadata` says what may explain the figures: versions, limits, the machine and its load."""

    label: str
    engine: str
    model: str
    began: str
    scenarios: tuple[Scenario, ...]
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """With the summary of each scenario, which is computed anew when it is read."""
        document = asdict(self)
        for written, scenario in zip(document["scenarios"], self.scenarios, strict=True):
            written["summary"] = scenario.summary()
        return {"format": FORMAT, **document}

    def scenario(self, name: str) -> Scenario | None:
        return next((scenario for scenario in self.scenarios if scenario.name == name), None)


def result_from_json(document: Any) -> Result:
    """Reads what `as_json` wrote.

    Raises:
        ValueError: it is no result of the bench, or one of another format.
    """
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise ValueError(f"this is no result of the bench in format {FORMAT}")
    try:
        scenarios = tuple(_scenario(one) for one in document["scenarios"])
        names = ("label", "engine", "model", "began", "metadata")
        return Result(**{name: document[name] for name in names}, scenarios=scenarios)
    except (KeyError, TypeError) as error:
        raise ValueError(f"the result is not whole: {type(error).__name__}: {error}") from error


def _scenario(document: Mapping[str, Any]) -> Scenario:
    fields = {name: value for name, value in document.items() if name not in {"summary", "samples"}}
    return Scenario(**fields, samples=tuple(Sample(**sample) for sample in document["samples"]))

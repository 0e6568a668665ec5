"""What the demo measured: `result.json`, and the checks that decide whether the story happened."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.e2e.loadgen import Totals, Window

LEAST_SPEED_UP = 3.0
LARGEST_TTFT_SHARE = 1 / 3
MOST_INTERVALS = 3


@dataclass(kw_only=True)
class Trial:
    """What became of one bad change; seconds count from `measured_from`."""

    outcome: str = ""
    reason: str = ""
    message: str = ""
    measured_from: str = ""
    seconds_to_verdict: float | None = None
    seconds_to_restored: float | None = None
    seconds_from_change_to_verdict: float | None = None
    intervals_to_verdict: float | None = None
    stable_min_ready: int | None = None
    served_traffic: bool = False
    rolled_back: bool = False

    def as_json(self) -> dict[str, Any]:
        """Seconds with one digit after the point."""
        return {name: round(value, 1) if isinstance(value, float) else value for name, value in vars(self).items()}


@dataclass(kw_only=True)
class Check:
    """One promise of the demo."""

    text: str
    holds: bool
    measured: str


@dataclass(kw_only=True)
class Result:
    """Filled while the demo runs; what did not happen stays empty."""

    engine: str
    replicas: int
    interval_seconds: int
    baseline: Window | None = None
    tuned: Window | None = None
    config_before: Mapping[str, Any] = field(default_factory=dict)
    config_after: Mapping[str, Any] = field(default_factory=dict)
    bottleneck: str = ""
    plan: str = ""
    promoted: str = ""
    promotion_min_ready: int | None = None
    harmful: Trial = field(default_factory=Trial)
    unstartable: Trial = field(default_factory=Trial)
    requests: Totals | None = None
    operator_kills: int = 0
    seconds: dict[str, float] = field(default_factory=dict)
    error: str = ""

    def checks(self) -> list[Check]:
        """Every promise, with what was measured."""
        before, after = self.baseline, self.tuned
        speed_up = after.output_tokens_per_s / before.output_tokens_per_s if before and after else 0.0
        share = None
        if before and after and before.ttft_p95_ms and after.ttft_p95_ms:
            share = after.ttft_p95_ms / before.ttft_p95_ms
        verdict = self.harmful.intervals_to_verdict
        least = self.unstartable.stable_min_ready
        lost = self.requests.failed if self.requests else None
        return [
            Check(
                text=f"the tuned service gives at least {LEAST_SPEED_UP:.0f} times the tokens per second",
                holds=speed_up >= LEAST_SPEED_UP,
                measured=f"{speed_up:.1f} times",
            ),
            Check(
                text="its TTFT p95 is at most a third",
                holds=share is not None and share <= LARGEST_TTFT_SHARE,
                measured="not measured" if share is None else f"{100 * share:.0f} %",
            ),
            Check(
                text="the harmful change is rolled back",
                holds=self.harmful.rolled_back,
                measured=self.harmful.outcome or "no verdict",
            ),
            Check(
                text=f"that takes at most {MOST_INTERVALS} evaluation intervals after it first serves traffic",
                holds=verdict is not None and verdict <= MOST_INTERVALS,
                measured="no verdict" if verdict is None else f"{verdict:.1f} intervals",
            ),
            Check(
                text="the change that cannot start is abandoned",
                holds=self.unstartable.rolled_back,
                measured=self.unstartable.outcome or "no verdict",
            ),
            Check(
                text="it never takes a stable pod away",
                holds=least is not None and least >= self.replicas,
                measured="not measured" if least is None else f"at least {least} of {self.replicas} were ready",
            ),
            Check(
                text="not one request is lost",
                holds=lost == 0,
                measured="not counted" if self.requests is None else f"{lost} of {self.requests.sent} failed",
            ),
        ]

    @property
    def happened(self) -> bool:
        """Whether the whole story happened."""
        return not self.error and all(check.holds for check in self.checks())

    def as_json(self) -> dict[str, Any]:
        """The document of `result.json`."""
        total = self.requests
        return {
            "happened": self.happened,
            "error": self.error,
            "engine": self.engine,
            "replicas": self.replicas,
            "interval_seconds": self.interval_seconds,
            "bottleneck": self.bottleneck,
            "plan": self.plan,
            "config_before": dict(self.config_before),
            "config_after": dict(self.config_after),
            "baseline": self.baseline.as_json() if self.baseline else None,
            "tuned": self.tuned.as_json() if self.tuned else None,
            "promoted": self.promoted,
            "promotion_min_ready": self.promotion_min_ready,
            "harmful": self.harmful.as_json(),
            "unstartable": self.unstartable.as_json(),
            "requests": {"sent": total.sent, "succeeded": total.succeeded, "failed": total.failed} if total else None,
            "failures": total.failures if total else {},
            "operator_kills": self.operator_kills,
            "seconds": {name: round(value, 1) for name, value in self.seconds.items()},
            "checks": [vars(check) for check in self.checks()],
        }

    def write(self, path: Path) -> None:
        """Writes `result.json`."""
        path.write_text(json.dumps(self.as_json(), indent=2) + "\n", encoding="utf-8")

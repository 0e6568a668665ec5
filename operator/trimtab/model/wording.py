"""How numbers read in the sentences that people get: findings, plans, guardrails."""

from __future__ import annotations


def seconds(value: float) -> str:
    """`45 ms`, `2.7 s`."""
    return f"{value * 1000:.0f} ms" if value < 1.0 else f"{value:.1f} s"


def percent(share: float) -> str:
    """`45 %` for 0.45."""
    return f"{share * 100:.0f} %"


def number(value: float) -> str:
    """Whole where it nearly is, otherwise one digit."""
    return f"{value:.0f}" if abs(value - round(value)) < 0.05 or value >= 100 else f"{value:.1f}"


def requests_wait(count: float) -> str:
    """`14 requests wait`, `1 request waits`."""
    shown = number(count)
    return "1 request waits" if shown == "1" else f"{shown} requests wait"


def better(gain: float) -> str:
    """`12 % better`, `3.1 times as good`: a gain as a share."""
    return f"{1 + gain:.1f} times as good" if gain >= 1.0 else f"{gain * 100:.0f} % better"

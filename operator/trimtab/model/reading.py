"""Three-valued measurements: a value is Known, with its window and sample count, or Unknown, with the reason.

Promise 1 of the design: NaN, empty, stale, renamed or unreachable is Unknown, never zero and never a pass.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Generic, TypeAlias, TypeVar

T = TypeVar("T")
U = TypeVar("U")


class Why(StrEnum):
    """Why a value is Unknown: the reason a machine can branch on and a condition can carry."""

    NOT_SCRAPED = "NotScraped"  # no series for this pod: the pod is not scraped, or has not been yet
    NO_TRAFFIC = "NoTraffic"  # the series is there and its counter did not move: idle, not unreadable
    STALE = "Stale"  # the newest sample is older than the staleness bound
    NOT_A_NUMBER = "NotANumber"
    UNREACHABLE = "PrometheusUnreachable"
    TIMEOUT = "PrometheusTimeout"
    BAD_ANSWER = "PrometheusBadAnswer"  # HTML, an error document, a body that is too large
    NOT_EXPORTED = "NotExported"  # this engine (or version) has no such metric
    TOO_FEW_SAMPLES = "TooFewSamples"


@dataclass(frozen=True, slots=True)
class Known(Generic[T]):
    """A measured value; `window` in seconds (0: read at one instant), `samples`: events or scrapes behind it."""

    value: T
    window: float = 0.0
    samples: float = 0.0


@dataclass(frozen=True, slots=True)
class Unknown:
    """A value that could not be measured; `message` is a sentence for a person."""

    why: Why
    message: str = ""


Reading: TypeAlias = Known[T] | Unknown


def value_or(reading: Reading[T], default: U) -> T | U:
    """The value, or `default`; for display and for evidence only: a decision branches on Known and Unknown."""
    return reading.value if isinstance(reading, Known) else default


def mapped(reading: Reading[T], function: Callable[[T], U]) -> Reading[U]:
    """Apply `function` to a known value; an Unknown passes through with its reason."""
    if isinstance(reading, Unknown):
        return reading
    return Known(function(reading.value), window=reading.window, samples=reading.samples)

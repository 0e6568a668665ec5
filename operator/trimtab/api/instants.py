"""Instants: seconds since the epoch in the pure rooms, RFC 3339 in the resources, without loss between them."""

from __future__ import annotations

import calendar
import math
from datetime import UTC, datetime
from decimal import Decimal

_LATEST = 253_402_300_800.0  # the year 10000


def to_rfc3339(seconds: float) -> str:
    """The instant in UTC with as many decimals as the number has. Raises ValueError outside of 1970 to 9999."""
    if not math.isfinite(seconds) or not 0 <= seconds < _LATEST:
        raise ValueError(f"{seconds} s is not an instant between 1970 and 9999")
    whole, _, fraction = f"{Decimal(repr(float(seconds))):f}".partition(".")
    fraction = fraction.rstrip("0")
    stamp = datetime.fromtimestamp(int(whole), tz=UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{stamp}.{fraction}Z" if fraction else f"{stamp}Z"


def from_rfc3339(text: str) -> float:
    """The seconds since the epoch. Raises ValueError for what is not an instant."""
    head, dot, rest = text.partition(".")
    digits = rest[: len(rest) - len(rest.lstrip("0123456789"))] if dot else ""
    moment = datetime.fromisoformat(head + rest[len(digits) :] if dot else text)
    if moment.tzinfo is None:
        raise ValueError(f"{text!r} has no time zone")
    whole = calendar.timegm(moment.utctimetuple())
    return float(f"{whole}.{digits}") if digits else float(whole)

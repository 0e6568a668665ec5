"""What the layer before an engine has to know of it."""

from __future__ import annotations

from dataclasses import dataclass

from trimtab_engine.limits.limits import Capacity, Limits


@dataclass(frozen=True, kw_only=True)
class EngineFacts:
    """The engine's name, what it was started with, and the limits that it starts with."""

    name: str
    capacity: Capacity
    resting: Limits

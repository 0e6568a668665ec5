"""What the layer before an engine has to know of it."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from trimtab_engine.limits.limits import Capacity, Limits


@dataclass(frozen=True, kw_only=True)
class Attention:
    """The kernel that computes attention, on which device, and why those that would be faster do not."""

    kernel: str
    device: str
    why: str = ""

    def as_json(self) -> dict[str, str]:
        return asdict(self)

    def sentence(self) -> str:
        return f"Attention is computed by {self.kernel} on {self.device}{f' ({self.why})' if self.why else ''}."


@dataclass(frozen=True, kw_only=True)
class EngineFacts:
    """The engine's name, what it was started with, the limits that it starts with, its kernel of attention (None: not
    known yet), and how it guesses tokens where its own arguments say that it shall."""

    name: str
    capacity: Capacity
    resting: Limits
    attention: Attention | None = None
    speculation: str = ""

"""Knob values as text, for lists of changes that people read, and back by the knob's type."""

from __future__ import annotations

from trimtab.api.v1alpha1 import KNOB_KINDS, EngineKnobs
from trimtab.model.config import EngineConfig, KnobValue


class UnreadableError(ValueError):
    """Something in a resource cannot be understood; the message names the place."""


def to_text(value: KnobValue | None) -> str | None:
    """`True` -> "true", 16 -> "16"; None, the engine's default, stays None."""
    if value is None:
        return None
    return str(value).lower() if isinstance(value, bool) else str(value)


def from_text(knob: str, text: str | None) -> KnobValue | None:
    """The value that `to_text` gave. Raises UnreadableError for an unknown knob or a text of another type."""
    kind = KNOB_KINDS.get(knob)
    if kind is None:
        raise UnreadableError(f"{knob} is not a knob")
    if text is None:
        return None
    if kind is str:
        return text
    if kind is bool and text in ("true", "false"):
        return text == "true"
    try:
        if kind is int:
            return int(text)
    except ValueError:
        pass
    raise UnreadableError(f"{knob} cannot be {text!r}")


def to_knobs(config: EngineConfig) -> EngineKnobs:
    """Raises UnreadableError when the resource has no field for one of the knobs."""
    unknown = sorted(set(config) - set(KNOB_KINDS))
    if unknown:
        raise UnreadableError(f"the resource has no field for {', '.join(unknown)}")
    return EngineKnobs.model_validate(dict(config))

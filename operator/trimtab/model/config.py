"""An engine configuration: neutral knobs and their values, hashable, diffable, named by its content."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias

KnobValue: TypeAlias = bool | int | str

_HASH_LENGTH = 8


@dataclass(frozen=True, slots=True, init=False)
class EngineConfig(Mapping[str, KnobValue]):
    """Neutral knob -> value, only those that are set; everything else is the engine's own default."""

    items_: tuple[tuple[str, KnobValue], ...]

    def __init__(self, values: Mapping[str, KnobValue] | None = None) -> None:
        object.__setattr__(self, "items_", tuple(sorted((values or {}).items())))

    def __getitem__(self, knob: str) -> KnobValue:
        for name, value in self.items_:
            if name == knob:
                return value
        raise KeyError(knob)

    def __iter__(self) -> Iterator[str]:
        return (name for name, _ in self.items_)

    def __len__(self) -> int:
        return len(self.items_)

    def with_changes(self, changes: Mapping[str, KnobValue | None]) -> EngineConfig:
        """A copy with `changes` applied; None removes a knob, which returns it to the engine's default."""
        merged = {**dict(self.items_), **changes}
        return EngineConfig({name: value for name, value in merged.items() if value is not None})

    def changes_to(self, other: EngineConfig) -> dict[str, KnobValue | None]:
        """What must be changed to get from this configuration to `other`; None for a knob that `other` does not set."""
        names = sorted({*self, *other})
        return {name: other.get(name) for name in names if self.get(name) != other.get(name)}


def content_hash(*parts: object) -> str:
    """Eight hexadecimal digits that name a content: JSON with sorted keys, so equal contents have equal names."""
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"), default=_jsonable)
    return hashlib.sha256(text.encode()).hexdigest()[:_HASH_LENGTH]


def _jsonable(value: object) -> object:
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} has no canonical form")

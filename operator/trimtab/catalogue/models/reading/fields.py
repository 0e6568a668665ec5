"""Fields of a config.json with errors that a person can act on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

_WAY_OUT = "Correct the file, or name a model of the registry instead."


class ConfigError(ValueError):
    """A config.json does not describe a model; the message is one sentence with the field and the way out."""

    def __init__(self, name: str, problem: str, way_out: str = _WAY_OUT) -> None:
        super().__init__(f"config.json: {name} {problem}. {way_out}")
        self.field = name


@dataclass(frozen=True, slots=True)
class Fields:
    """The mapping that describes the language model; `path` is where it stands in the file, `defaults` what its type
    fills in for fields that published files leave out."""

    values: Mapping[str, object]
    path: str = ""
    defaults: Mapping[str, object] = field(default_factory=dict)

    def name(self, key: str) -> str:
        return f"{self.path}.{key}" if self.path else key

    def get(self, *keys: str) -> object:
        """The value of the first key that is there and not null, or what the model type fills in, or None."""
        found = next((self.values[key] for key in keys if self.values.get(key) is not None), None)
        return found if found is not None else next((self.defaults[k] for k in keys if k in self.defaults), None)

    def error(self, key: str, problem: str) -> ConfigError:
        return ConfigError(self.name(key), problem)

    def number(self, *keys: str, least: int = 1, most: int = 1 << 40) -> int:
        """A whole number under one of these names, which the file must have."""
        value = self.optional(*keys, least=least, most=most)
        if value is None:
            others = f" (also not as {', '.join(keys[1:])})" if len(keys) > 1 else ""
            raise self.error(keys[0], f"is missing{others}")
        return value

    def optional(self, *keys: str, least: int = 0, most: int = 1 << 40) -> int | None:
        """A whole number under one of these names; None where it is missing or null."""
        value = self.get(*keys)
        key = next((key for key in keys if self.values.get(key) is not None), keys[0])
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int):
            raise self.error(key, f"is {value!r} and must be a whole number")
        if not least <= value <= most:
            raise self.error(key, f"is {value:,} and must lie between {least:,} and {most:,}")
        return value

    def flag(self, *keys: str) -> bool:
        """True or false; false where it is missing."""
        value = self.get(*keys)
        if value is None:
            return False
        if not isinstance(value, bool):
            raise self.error(keys[0], f"is {value!r} and must be true or false")
        return value

    def listed(self, key: str, length: int) -> Sequence[object] | None:
        """A list with one entry per layer; None where it is missing or empty."""
        value = self.get(key)
        if value is None or value == []:
            return None
        if not isinstance(value, Sequence) or isinstance(value, str):
            raise self.error(key, f"is {value!r} and must be a list")
        if len(value) != length:
            raise self.error(key, f"has {len(value)} entries and the model {length} layers")
        return value

    def chosen(self, key: str) -> frozenset[int] | None:
        """A list of layer numbers; None where it is missing."""
        value = self.get(key)
        if value is None:
            return None
        if not isinstance(value, Sequence) or not all(isinstance(number, int) for number in value):
            raise self.error(key, f"is {value!r} and must be a list of layer numbers")
        return frozenset(value)

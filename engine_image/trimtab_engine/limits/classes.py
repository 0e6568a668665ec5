"""Classes of requests: which of them runs first, and how much of the queue each may fill."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from types import MappingProxyType

DEFAULT = "default"  # of a request that names no class, or one that the settings do not know
MOST_CLASSES = 16
NAME = r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"


@dataclass(frozen=True, kw_only=True)
class Rule:
    """How requests of one class are treated.

    `priority`: the lower runs first, as in vLLM. `queue_percent`: the share of `max_queued_requests` and of
    `max_wait_seconds` from which on a request of this class is refused, so that the others find room.
    """

    priority: int = 0
    queue_percent: int = 100

    def as_json(self) -> dict[str, int]:
        return asdict(self)


RULES = tuple(item.name for item in fields(Rule))
ORDINARY = Rule()


@dataclass(frozen=True, kw_only=True)
class Classes:
    """The rules by the name of their class."""

    rules: Mapping[str, Rule] = field(default_factory=lambda: MappingProxyType({}))

    def rule(self, name: str | None) -> Rule:
        """The rule of a request that names this class."""
        return self.rules.get(name or DEFAULT) or self.rules.get(DEFAULT) or ORDINARY

    @property
    def ordered(self) -> bool:
        """Whether any class runs before another."""
        return any(rule.priority for rule in self.rules.values())

    def as_json(self) -> dict[str, dict[str, int]]:
        return {name: rule.as_json() for name, rule in sorted(self.rules.items())}


def classes_from_json(document: Mapping[str, Mapping[str, int]]) -> Classes:
    """Classes from what `as_json` gave. Raises TypeError on other fields."""
    return Classes(rules={name: Rule(**rule) for name, rule in document.items()})


def is_name(text: str) -> bool:
    """Whether a class may be called so: a DNS label."""
    return re.fullmatch(NAME, text) is not None

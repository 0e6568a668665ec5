"""How the size of the batch follows the time between tokens, in engines that take requests up by our own line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields


@dataclass(frozen=True, kw_only=True)
class Batching:
    """The batch is as large as `target_token_seconds` allows, from `fewest_requests` to `max_running_requests`.

    The target is one for 9 of 10 times between two tokens; None: always as many as may run. A request that waits only
    because of the target is taken up after `longest_hold_seconds` all the same.
    """

    target_token_seconds: float | None = None
    fewest_requests: int = 1
    longest_hold_seconds: float = 1.0

    def as_json(self) -> dict[str, int | float | None]:
        """The fields by name; `batching_from_json` is the way back."""
        return asdict(self)


BATCHING = tuple(field.name for field in fields(Batching))
ALWAYS = Batching()


def batching_from_json(document: Mapping[str, object]) -> Batching:
    """What `as_json` gave. Raises TypeError on other fields."""
    return Batching(**document)  # type: ignore[arg-type]

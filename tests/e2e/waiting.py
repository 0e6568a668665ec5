"""Waiting for what must come: on conditions, bounded by deadlines, with words for what did not come."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


class DidNotHappenError(AssertionError):
    """What was waited for did not come in time."""


def until(
    what: str, look: Callable[[], T | None], *, seconds: float, every: float = 1.0, say: Callable[[], str] = lambda: ""
) -> T:
    """The first value of `look` that is neither None nor False.

    Raises:
        DidNotHappenError: `seconds` are over; the text holds `what` and what `say` says then.
    """
    ends = time.monotonic() + seconds
    while True:
        value = look()
        if value is not None and value is not False:
            return value
        if time.monotonic() >= ends:
            raise DidNotHappenError(f"{what}: not within {seconds:.0f} s. {say()}")
        time.sleep(every)

"""The monitor of one server: a window that slides by the second, and a history by the minute."""

from __future__ import annotations

from collections.abc import Sequence

from trimtab_engine.monitor.measured import Outcome, Window
from trimtab_engine.monitor.slots import Slot, Slots

FINE_SECONDS = 1.0
FINE_SLOTS = 300
MINUTE = 60.0


class Monitor:
    """Not for several threads at once: the server's event loop writes and reads it."""

    def __init__(self, *, history_minutes: int) -> None:
        self._fine = Slots(seconds=FINE_SECONDS, count=FINE_SLOTS)
        # One more: the minute that is not over yet is no part of the history.
        self._minutes = Slots(seconds=MINUTE, count=history_minutes + 1)

    def first_token(self, now: float, *, ttft: float) -> None:
        for slot in self._both(now):
            slot.ttft.update(ttft)

    def tokens(self, now: float, *, gaps: Sequence[float], count: int) -> None:
        """Tokens of an answer that came, and the times between them."""
        for slot in self._both(now):
            slot.output_tokens += count
            if gaps:
                slot.itl.batch_update(list(gaps))

    def ended(self, now: float, outcome: Outcome, *, latency: float | None, prompt_tokens: int) -> None:
        """`latency` is that of a request that succeeded; else None."""
        for slot in self._both(now):
            slot.outcomes[outcome] += 1
            slot.prompt_tokens += prompt_tokens
            if latency is not None:
                slot.latency.update(latency)

    def window(self, now: float, span: float) -> Window:
        """The last `span` seconds, of which the monitor keeps 300."""
        return self._fine.window(now, span)

    def history(self, now: float) -> list[tuple[float, Window]]:
        """Every complete minute that is kept, oldest first."""
        return self._minutes.each(now)

    def _both(self, now: float) -> tuple[Slot, Slot]:
        return self._fine.at(now), self._minutes.at(now)

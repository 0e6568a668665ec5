"""Maintenance windows: whether one is open now, and when the next one opens, by the clock of its own time zone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from trimtab.api.v1alpha1 import Weekday, Window
from trimtab.model.rollout import WindowFacts

_DAYS = tuple(Weekday)
_LOOKED_AHEAD = 15  # days: two weeks, and today once more


def zone_of(window: Window) -> ZoneInfo | None:
    """The time zone of a window; None when there is none of this name."""
    try:
        return ZoneInfo(window.time_zone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return None


def window_facts(windows: Sequence[Window] | None, now: float) -> WindowFacts | None:
    """What the windows say at `now`, in seconds since the epoch; None where there are none, so any time will do."""
    if not windows:
        return None
    spans = list(_spans(windows, now))
    ends = [end for begin, end in spans if begin <= now < end]
    begins = [begin for begin, _ in spans if begin > now]
    return WindowFacts(is_open=bool(ends), opens_at=min(begins, default=None))


def _spans(windows: Iterable[Window], now: float) -> Iterator[tuple[float, float]]:
    """Begin and end of every window from the past week on: one that began earlier can still be open."""
    for window in windows:
        zone = zone_of(window)
        if zone is None:
            continue
        hour, minute = (int(part) for part in window.start.split(":"))
        today = datetime.fromtimestamp(now, zone).date()
        for days in range(-8, _LOOKED_AHEAD):
            date = today + timedelta(days=days)
            if _DAYS[date.weekday()] not in window.days:
                continue
            # The end is counted in real time: a window is as long on the day on which clocks change.
            begin = datetime(date.year, date.month, date.day, hour, minute, tzinfo=zone).astimezone(UTC).timestamp()
            yield begin, begin + window.duration_minutes * 60.0

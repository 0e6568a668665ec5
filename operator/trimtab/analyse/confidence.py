"""How sure a finding is."""

from __future__ import annotations

from typing import Any, Final

from trimtab.model.reading import Known, Reading

# Samples at which a reading is worth half a certainty.
_HALF: Final = 3.0
_UNCOUNTED: Final = 0.5  # a reading without a sample count
_MOST: Final = 0.99


def confidence(*readings: Reading[Any]) -> float:
    """0 to 0.99, from the reading with the fewest samples: n / (n + 3); 0 when one is Unknown."""
    worth = _MOST
    for reading in readings:
        if not isinstance(reading, Known):
            return 0.0
        share = reading.samples / (reading.samples + _HALF) if reading.samples > 0 else _UNCOUNTED
        worth = min(worth, share)
    return round(worth, 2)

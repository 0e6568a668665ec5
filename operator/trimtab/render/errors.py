"""Why a manifest cannot be built."""

from __future__ import annotations

from trimtab.model.reason import Reason


class RenderError(ValueError):
    """What was asked for cannot be rendered; the message says what to change, `reason` what a condition carries."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason

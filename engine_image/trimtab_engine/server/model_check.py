"""Whether a model that was quantized still says in this engine what the original said, before the first request."""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

from trimtab_engine.engines.common.faithful import REFERENCE, Comparison, Reference, compare, reference_from_json

log = logging.getLogger("trimtab_engine.model_check")

Likelihoods = Callable[[Sequence[int]], Awaitable[list[float]]]
"""The engine's log-probability (nats) of each token after the first."""


class ModelCheck:
    """`model` is a folder; one that `trimtab-engine quantize` made holds what its original says of a text. The kernels
    that serve it may be others than those that it was checked with then."""

    def __init__(self, model: str) -> None:
        self.problem = ""
        self._comparison: Comparison | None = None
        self._file = Path(model) / REFERENCE

    async def look(self, likelihoods: Likelihoods) -> None:
        """Asks the engine. Whatever comes of it, the engine serves."""
        if not self._file.is_file():
            return
        try:
            known: Reference = reference_from_json(json.loads(self._file.read_text(encoding="utf-8")))
            found = await likelihoods(known.asked)
            self._comparison = compare(known.said[: len(found)], found)
            self.problem = self._comparison.objection(known.tolerance)
        except Exception as error:  # a file that was cut, an engine that gives no log-probabilities
            log.exception("The model cannot be compared with its original")
            self.problem = f"the comparison failed: {type(error).__name__}: {error}"[:300]
        if self.problem:
            log.error("The quantized model is not what its original is: %s", self.problem)
        else:
            log.info("The quantized model agrees with its original: %s", self._comparison)

    def shown(self) -> dict[str, Any] | None:
        """What the status tells; None where there is nothing to compare with."""
        if self._comparison is None and not self.problem:
            return None
        numbers = self._comparison.as_json() if self._comparison else {}
        return {**numbers, "problem": self.problem or None}
